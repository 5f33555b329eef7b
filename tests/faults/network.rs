//! A line between a gateway and its Redis that misbehaves as told: it can be cut, frozen, slow, half closed, garbled, and led
//! elsewhere.

use std::{
    future::pending,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{mpsc, watch},
    task::JoinSet,
    time::{Instant, sleep_until},
};

/// What the line does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line {
    /// Passes everything on.
    Fair,
    /// Ends what is open, and whatever comes.
    Cut,
    /// Keeps what comes, and passes it on later.
    Frozen,
    /// Every answer is on its way for so long.
    Slow(Duration),
    /// Half of an answer, and the end.
    HalfAnswer,
    /// The server's side ends after its first answer; the gateway's stays open.
    HalfClosed,
    /// Answers in which every byte is wrong.
    Garbled,
}

/// The line, and where it leads.
#[derive(Debug)]
pub struct Network {
    pub address: SocketAddr,
    state: Arc<watch::Sender<(Line, SocketAddr)>>,
    accepted: Arc<AtomicUsize>,
    _tasks: JoinSet<()>,
}

type State = watch::Receiver<(Line, SocketAddr)>;

impl Network {
    pub async fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(watch::Sender::new((Line::Fair, server)));
        let (watched, accepted) = (Arc::clone(&state), Arc::<AtomicUsize>::default());
        let count = Arc::clone(&accepted);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::Relaxed);
                connections.spawn(pass(stream, watched.subscribe()));
                while connections.try_join_next().is_some() {}
            }
        });
        Self { address, state, accepted, _tasks: tasks }
    }

    pub fn set(&self, line: Line) {
        self.state.send_modify(|state| state.0 = line);
    }

    /// How many connections it was asked for so far.
    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::Relaxed)
    }

    /// Cuts what is open; what comes from now on is led to `server`.
    pub fn lead_to(&self, server: SocketAddr) {
        self.state.send_modify(|state| *state = (Line::Cut, server));
        self.state.send_modify(|state| state.0 = Line::Fair);
    }
}

async fn pass(client: TcpStream, state: State) {
    let (line, server) = *state.borrow();
    if line == Line::Cut {
        return;
    }
    let Ok(server_side) = TcpStream::connect(server).await else { return };
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server_side.into_split();
    let mut watched = state.clone();
    let ended = async move {
        let elsewhere = |(line, to): &(Line, SocketAddr)| *line == Line::Cut || *to != server;
        let _ = watched.wait_for(elsewhere).await;
    };
    tokio::select! {
        () = there(from_client, to_server, state.clone()) => {}
        () = back(from_server, to_client, state) => {}
        () = ended => {}
    }
}

/// From the gateway to Redis.
async fn there(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut state: State) {
    let mut bytes = vec![0; 16 * 1024];
    while let Ok(read @ 1..) = from.read(&mut bytes).await {
        thawed(&mut state).await;
        if to.write_all(&bytes[..read]).await.is_err() {
            return;
        }
    }
}

/// From Redis to the gateway. What is slow is the way and not the server: answers that follow each other closely do not wait
/// for each other.
async fn back(mut from: OwnedReadHalf, to: OwnedWriteHalf, state: State) {
    let (on_its_way, arriving) = mpsc::channel(1024);
    let watched = state.clone();
    let read = async move {
        let mut bytes = vec![0; 16 * 1024];
        while let Ok(read @ 1..) = from.read(&mut bytes).await {
            let due = match watched.borrow().0 {
                Line::Slow(time) => Instant::now() + time,
                _ => Instant::now(),
            };
            if on_its_way.send((due, bytes[..read].to_vec())).await.is_err() {
                return;
            }
        }
    };
    let until_read = async {
        read.await;
        pending::<()>().await;
    };
    tokio::select! {
        () = arrive(arriving, to, state) => {}
        () = until_read => {}
    }
}

async fn arrive(
    mut arriving: mpsc::Receiver<(Instant, Vec<u8>)>,
    mut to: OwnedWriteHalf,
    mut state: State,
) {
    while let Some((due, mut bytes)) = arriving.recv().await {
        sleep_until(due).await;
        thawed(&mut state).await;
        let (line, _) = *state.borrow();
        let said = match line {
            Line::Fair | Line::Cut | Line::Frozen | Line::HalfClosed | Line::Slow(_) => &bytes[..],
            Line::HalfAnswer => &bytes[..bytes.len() / 2],
            Line::Garbled => {
                bytes.iter_mut().for_each(|byte| *byte ^= 0x80);
                &bytes[..]
            }
        };
        if to.write_all(said).await.is_err() || line == Line::HalfAnswer {
            return;
        }
        if line == Line::HalfClosed {
            let _ = to.shutdown().await;
            let _ = state.wait_for(|(line, _)| *line != Line::HalfClosed).await;
            return;
        }
    }
}

async fn thawed(state: &mut State) {
    let _ = state.wait_for(|(line, _)| *line != Line::Frozen).await;
}
