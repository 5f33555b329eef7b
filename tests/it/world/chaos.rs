//! A network that breaks on demand: a TCP proxy that can cut, freeze and refuse.

use std::{net::SocketAddr, sync::Arc};

use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
};

/// What the network does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    /// Passes everything on.
    Up,
    /// Cuts what is open, and closes what comes.
    Cut,
    /// Accepts, and passes nothing on any more.
    Frozen,
}

/// The proxy.
#[derive(Debug)]
pub struct ChaosProxy {
    pub address: SocketAddr,
    state: Arc<watch::Sender<Network>>,
    _tasks: JoinSet<()>,
}

impl ChaosProxy {
    pub async fn start(to: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(watch::Sender::new(Network::Up));
        let mut tasks = JoinSet::new();
        let watched = Arc::clone(&state);
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(pass(stream, to, watched.subscribe()));
            }
        });
        Self { address, state, _tasks: tasks }
    }

    pub fn set(&self, network: Network) {
        self.state.send_replace(network);
    }
}

async fn pass(mut client: TcpStream, to: SocketAddr, mut state: watch::Receiver<Network>) {
    if *state.borrow() == Network::Cut {
        return;
    }
    let Ok(mut server) = TcpStream::connect(to).await else { return };
    loop {
        let now = *state.borrow_and_update();
        match now {
            Network::Cut => return,
            Network::Frozen => {
                if state.changed().await.is_err() {
                    return;
                }
            }
            Network::Up => tokio::select! {
                _ = copy_bidirectional(&mut client, &mut server) => return,
                changed = state.changed() => if changed.is_err() { return },
            },
        }
    }
}
