//! Sockets that listen: bound by us or handed over by systemd, and the loop that accepts from them.

use std::{
    io::{self, ErrorKind},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    time::Duration,
};

use listenfd::ListenFd;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpStream;

/// Why we cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Somebody else does.
    #[error("cannot listen on {0}: the port is in use (`ss -ltnp 'sport = :{port}'` shows by whom)", port = .0.port())]
    InUse(SocketAddr),
    /// A port below 1024.
    #[error(
        "cannot listen on {0}: ports below 1024 need a permission; start by the systemd socket unit, \
         or run `setcap cap_net_bind_service=+ep` on the binary, or listen on a port above 1023 such as {port}",
        port = .0.port().saturating_add(8000)
    )]
    Denied(SocketAddr),
    /// Not one of this machine's addresses.
    #[error("cannot listen on {0}: this machine does not have that address")]
    NotOurs(SocketAddr),
    /// Anything else.
    #[error("cannot listen on {0}: {1}")]
    Other(SocketAddr, io::Error),
    /// What was handed over cannot be listened on.
    #[error("socket {0} of the {1} handed over by systemd is not a listening TCP socket: {2}")]
    Inherited(usize, usize, io::Error),
}

/// Sockets for each of `workers`: those that systemd handed over, where there are any, shared by all; else sockets of
/// their own, bound to `addresses`, among which the system spreads connections. Call it once: sockets that were handed
/// over are taken.
pub fn listen(
    addresses: &[SocketAddr],
    workers: usize,
) -> Result<Vec<Vec<TcpListener>>, ListenError> {
    let mut by_address = inherited(workers)?;
    if by_address.is_empty() {
        for address in addresses {
            by_address.push(bind(*address, addresses, workers)?);
        }
    }
    let mut by_address: Vec<_> = by_address.into_iter().map(Vec::into_iter).collect();
    Ok((0..workers).map(|_| by_address.iter_mut().filter_map(Iterator::next).collect()).collect())
}

fn inherited(workers: usize) -> Result<Vec<Vec<TcpListener>>, ListenError> {
    let mut sockets = ListenFd::from_env();
    let count = sockets.len();
    let mut take = |index| -> io::Result<Vec<TcpListener>> {
        let socket = sockets.take_tcp_listener(index)?.ok_or(ErrorKind::NotFound)?;
        let socket = TcpListener::from(prepared(socket.into())?);
        (0..workers).map(|_| socket.try_clone()).collect()
    };
    (0..count)
        .map(|i| take(i).map_err(|error| ListenError::Inherited(i + 1, count, error)))
        .collect()
}

fn bind(
    address: SocketAddr,
    all: &[SocketAddr],
    workers: usize,
) -> Result<Vec<TcpListener>, ListenError> {
    // `[::]` takes IPv4 as well, unless an address of its own does so on the same port.
    let only_v6 = all.iter().any(|other| other.is_ipv4() && other.port() == address.port());
    let bound = match open(address, only_v6, workers) {
        // A machine without IPv6 can still listen on all of its addresses.
        Err(error) if lacks_ipv6(&error) && address.ip().is_unspecified() => {
            open((Ipv4Addr::UNSPECIFIED, address.port()).into(), false, workers)
        }
        bound => bound,
    };
    bound.map_err(|error| match error.kind() {
        ErrorKind::AddrInUse => ListenError::InUse(address),
        ErrorKind::PermissionDenied if address.port() < 1024 => ListenError::Denied(address),
        ErrorKind::AddrNotAvailable => ListenError::NotOurs(address),
        _ => ListenError::Other(address, error),
    })
}

fn lacks_ipv6(error: &io::Error) -> bool {
    const ADDRESS_FAMILY_NOT_SUPPORTED: i32 = 97;
    error.raw_os_error() == Some(ADDRESS_FAMILY_NOT_SUPPORTED)
        || error.kind() == ErrorKind::AddrNotAvailable
}

/// The first socket is bound without `SO_REUSEPORT`, so that a port that is in use is noticed; then it is shared.
fn open(mut address: SocketAddr, only_v6: bool, workers: usize) -> io::Result<Vec<TcpListener>> {
    let mut sockets = Vec::new();
    for worker in 0..workers {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        if address.is_ipv6() {
            socket.set_only_v6(only_v6)?;
        }
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(worker > 0)?;
        socket.bind(&address.into())?;
        socket.set_reuse_port(workers > 1)?;
        if let Some(bound) = socket.local_addr()?.as_socket() {
            address = bound; // the system may have chosen the port
        }
        sockets.push(socket);
    }
    for socket in &sockets {
        socket.listen(BACKLOG)?;
    }
    sockets.into_iter().map(|socket| prepared(socket).map(TcpListener::from)).collect()
}

/// Accepted sockets inherit `TCP_NODELAY` from the listening one: no system call per connection.
fn prepared(socket: Socket) -> io::Result<Socket> {
    socket.set_tcp_nodelay(true)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Accepts for ever. Where the system has nothing to give (file descriptors, memory), waits a little longer each time.
pub(super) async fn accept(
    listener: TcpListener,
    mut admit: impl FnMut(TcpStream, SocketAddr),
) -> io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let mut pause = PAUSE_MIN;
    loop {
        match listener.accept().await {
            Ok((stream, from)) => {
                pause = PAUSE_MIN;
                admit(stream, from);
            }
            Err(error) if is_the_peers(&error) => {}
            Err(error) => {
                if pause == PAUSE_MIN {
                    tracing::warn!(%error, "cannot accept connections");
                }
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(PAUSE_MAX);
            }
        }
    }
}

/// Whether accepting failed for a peer that is already gone, and not for us.
fn is_the_peers(error: &io::Error) -> bool {
    use ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted)
}

/// Connections that may wait to be accepted; the system lowers it to its own limit.
const BACKLOG: i32 = 4096;
const PAUSE_MIN: Duration = Duration::from_millis(10);
const PAUSE_MAX: Duration = Duration::from_secs(1);
