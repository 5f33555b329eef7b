//! Sockets that listen: bound by us or handed over by systemd, and the loop that accepts from them.

use std::{
    io::{self, ErrorKind},
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use listenfd::ListenFd;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};

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

/// The sockets that systemd handed over, where there are any; else sockets bound to `addresses`. Call it within the
/// runtime, and once: sockets that were handed over are taken.
pub fn listen(addresses: &[SocketAddr]) -> Result<Vec<TcpListener>, ListenError> {
    let inherited = inherited()?;
    if inherited.is_empty() {
        return addresses.iter().map(|address| bind(*address, addresses)).collect();
    }
    Ok(inherited)
}

fn inherited() -> Result<Vec<TcpListener>, ListenError> {
    let mut sockets = ListenFd::from_env();
    let count = sockets.len();
    (0..count)
        .map(|index| {
            let taken = sockets.take_tcp_listener(index).and_then(|socket| {
                adopt(socket.ok_or_else(|| io::Error::from(ErrorKind::NotFound))?.into())
            });
            taken.map_err(|error| ListenError::Inherited(index + 1, count, error))
        })
        .collect()
}

fn bind(address: SocketAddr, all: &[SocketAddr]) -> Result<TcpListener, ListenError> {
    let bound = match open(address, only_v6(address, all)) {
        // A machine without IPv6 can still listen on all of its addresses.
        Err(error) if lacks_ipv6(&error) && address.ip().is_unspecified() => {
            open((Ipv4Addr::UNSPECIFIED, address.port()).into(), false)
        }
        bound => bound,
    };
    bound.map_err(|error| describe(address, error))
}

/// `[::]` takes IPv4 as well, unless an address of its own does so on the same port.
fn only_v6(address: SocketAddr, all: &[SocketAddr]) -> bool {
    all.iter().any(|other| other.is_ipv4() && other.port() == address.port())
}

fn lacks_ipv6(error: &io::Error) -> bool {
    const ADDRESS_FAMILY_NOT_SUPPORTED: i32 = 97;
    error.raw_os_error() == Some(ADDRESS_FAMILY_NOT_SUPPORTED)
        || error.kind() == ErrorKind::AddrNotAvailable
}

fn open(address: SocketAddr, only_v6: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(only_v6)?;
    }
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    adopt(socket)
}

/// Accepted sockets inherit `TCP_NODELAY` from the listening one: no system call per connection.
fn adopt(socket: Socket) -> io::Result<TcpListener> {
    socket.set_tcp_nodelay(true)?;
    socket.set_nonblocking(true)?;
    TcpListener::from_std(socket.into())
}

fn describe(address: SocketAddr, error: io::Error) -> ListenError {
    match error.kind() {
        ErrorKind::AddrInUse => ListenError::InUse(address),
        ErrorKind::PermissionDenied if address.port() < 1024 => ListenError::Denied(address),
        ErrorKind::AddrNotAvailable => ListenError::NotOurs(address),
        _ => ListenError::Other(address, error),
    }
}

/// Accepts for ever. Where the system has nothing to give (file descriptors, memory), waits a little longer each time.
pub(super) async fn accept(listener: &TcpListener, mut admit: impl FnMut(TcpStream, SocketAddr)) {
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
    matches!(
        error.kind(),
        ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset | ErrorKind::Interrupted
    )
}

/// Connections that may wait to be accepted; the system lowers it to its own limit.
const BACKLOG: i32 = 4096;
const PAUSE_MIN: Duration = Duration::from_millis(10);
const PAUSE_MAX: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[tokio::test]
    async fn a_port_in_use_is_said_so() {
        let taken = listen(&[address("127.0.0.1:0")]).unwrap();
        let at = taken[0].local_addr().unwrap();
        let error = listen(&[at]).unwrap_err();
        assert!(matches!(error, ListenError::InUse(a) if a == at), "{error}");
        assert!(error.to_string().contains("in use"));
    }

    #[tokio::test]
    async fn somebody_elses_address_is_said_so() {
        let error = listen(&[address("192.0.2.1:0")]).unwrap_err();
        assert!(matches!(error, ListenError::NotOurs(_)), "{error}");
    }

    #[test]
    fn a_low_port_names_three_ways_out() {
        let error = describe(address("0.0.0.0:443"), ErrorKind::PermissionDenied.into());
        let text = error.to_string();
        for way in ["socket unit", "setcap", "8443"] {
            assert!(text.contains(way), "{text}");
        }
    }

    #[test]
    fn v4_and_v6_share_a_port_only_by_two_sockets() {
        let both = [address("[::]:443"), address("0.0.0.0:443")];
        assert!(only_v6(both[0], &both));
        assert!(!only_v6(both[0], &[both[0], address("0.0.0.0:80")]));
    }

    #[tokio::test]
    async fn one_v6_socket_takes_v4_too() {
        let listener = listen(&[address("[::]:0")]).unwrap().remove(0);
        let port = listener.local_addr().unwrap().port();
        let client = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.unwrap();
        let (accepted, from) = listener.accept().await.unwrap();
        assert_eq!(from.ip().to_canonical(), client.local_addr().unwrap().ip());
        assert!(accepted.nodelay().unwrap(), "inherited from the listening socket");
    }
}
