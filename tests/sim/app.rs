//! The app behind the gateway: takes what comes, or fails in every way that an app has.

use std::{io, sync::Arc, time::Duration};

use gatepost::{deliver::Dial, event::Digest, stage::BoxFuture};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex},
    time::{sleep, timeout},
};

use crate::{
    ledger::{Received, Verdict, told_why},
    process::Process,
    world::{Mistake, World},
};

/// The network between one process and the app.
#[derive(Debug)]
pub struct Network(pub Arc<Process>);

impl Dial for Network {
    fn dial(&self, _: &str, _: u16) -> BoxFuture<'_, io::Result<DuplexStream>> {
        Box::pin(async move {
            let (process, world) = (&self.0, &self.0.world);
            process.gate("dial").await;
            sleep(world.millis(3)).await;
            if world.happens(world.plan.app / 6) {
                if world.below(2) == 0 {
                    sleep(Duration::from_secs(5)).await;
                }
                return Err(io::ErrorKind::ConnectionRefused.into());
            }
            process.gate("dialled").await;
            let (ours, theirs) = duplex(64 * 1024);
            tokio::spawn(serve(Arc::clone(process), theirs));
            Ok(ours)
        })
    }
}

/// How the app treats a request.
#[derive(Clone, Copy, Debug)]
enum Manner {
    /// Takes it and says so.
    Accept,
    /// The same, with an interim answer first, or a body that breaks off behind the status.
    AcceptOddly,
    /// Answers with this status.
    Refuse(u16),
    /// Takes it or not, and does not answer in time.
    Late { takes: bool, status: u16 },
    /// Takes it or not, and breaks off.
    Reset { takes: bool, after: &'static str },
    /// Takes it or not, and answers something that is no HTTP.
    Garbage { takes: bool },
    /// Takes it or not, and never answers.
    Silence { takes: bool },
}

const REFUSALS: [u16; 14] = [301, 400, 401, 404, 408, 409, 410, 422, 425, 429, 500, 502, 503, 507];

impl Manner {
    fn choose(world: &World) -> Self {
        if !world.happens(world.plan.app) {
            return if world.below(8) == 0 { Self::AcceptOddly } else { Self::Accept };
        }
        let takes = world.below(2) == 0;
        match world.below(8) {
            0..=2 => {
                let at = usize::try_from(world.below(REFUSALS.len() as u64)).unwrap();
                Self::Refuse(REFUSALS[at])
            }
            3 if takes => Self::Late { takes, status: 200 },
            3 => Self::Late { takes, status: 503 },
            4 => Self::Reset { takes, after: "" },
            5 => Self::Reset { takes, after: "HTTP/1.1 20" },
            6 => Self::Garbage { takes },
            _ => Self::Silence { takes },
        }
    }

    fn takes(self) -> bool {
        match self {
            Self::Accept | Self::AcceptOddly => true,
            Self::Refuse(_) => false,
            Self::Late { takes, .. }
            | Self::Reset { takes, .. }
            | Self::Garbage { takes }
            | Self::Silence { takes } => takes,
        }
    }
}

/// A request as the app reads it.
struct Asked {
    head: String,
    body: Vec<u8>,
}

impl Asked {
    /// Reads one from the connection; nothing where it ends.
    async fn read(stream: &mut DuplexStream) -> Option<Self> {
        let mut bytes = Vec::new();
        loop {
            if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
                let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
                let asked = Self { head, body: bytes[end + 4..].to_vec() };
                let length: usize = asked.header("content-length").parse().expect("a length");
                if asked.body.len() == length {
                    return Some(asked);
                }
            }
            if stream.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
                return None;
            }
        }
    }

    fn header(&self, name: &str) -> String {
        let is_it = |line: &&str| {
            line.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name))
                && line.as_bytes().get(name.len()) == Some(&b':')
        };
        let line = self.head.lines().find(is_it);
        line.map_or(String::new(), |line| line[name.len() + 1..].trim().to_owned())
    }
}

/// Serves a connection until it ends, or is left idle for too long.
async fn serve(process: Arc<Process>, mut stream: DuplexStream) {
    let world = &process.world;
    let idle = Duration::from_millis(500 + world.below(8000));
    while let Ok(Some(asked)) = timeout(idle, Asked::read(&mut stream)).await {
        // What a dead process still writes is on no wire.
        if process.is_dead() {
            return;
        }
        let manner = Manner::choose(world);
        let index = note(world, &asked, manner);
        process.lives("app received");
        if !behave(world, &mut stream, manner, index).await {
            return;
        }
        process.lives("app answered");
    }
}

/// Writes down that it came; returns where.
fn note(world: &World, asked: &Asked, manner: Manner) -> usize {
    let mut previous = asked.header("gatepost-previous-attempt");
    if world.has(Mistake::NeverTold) {
        previous.clear();
    }
    let mut body = asked.body.clone();
    if let Some(last) = body.last_mut().filter(|_| world.has(Mistake::BodyTouched)) {
        *last ^= 1;
    }
    let received = Received {
        source: asked.header("gatepost-source"),
        id: asked.header("gatepost-provider-id"),
        event_id: asked.header("gatepost-event-id"),
        digest: Digest::of(&body).to_string(),
        receipt: asked.header("gatepost-receipt"),
        attempt: asked.header("gatepost-attempt").parse().unwrap_or(0),
        reason: told_why(&previous, &asked.header("gatepost-dedup")),
        at: world.tick(),
        ended: world.tick(),
        verdict: if manner.takes() { Verdict::Silent } else { Verdict::Refused },
    };
    world.say(|| {
        let Received { source, id, receipt, attempt, .. } = &received;
        format!("app         {source} {id} {receipt} attempt {attempt}: {manner:?}")
    });
    let received_all = &mut world.ledger().received;
    received_all.push(received);
    received_all.len() - 1
}

/// Answers; says whether the connection can be used again.
async fn behave(world: &World, stream: &mut DuplexStream, manner: Manner, index: usize) -> bool {
    let soon = world.millis(250);
    match manner {
        Manner::Accept | Manner::AcceptOddly => {
            let odd = matches!(manner, Manner::AcceptOddly);
            let text = match (odd, world.below(2)) {
                (false, _) => "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
                (true, 0) => "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n",
                (true, _) => "HTTP/1.1 202 Accepted\r\nContent-Length: 9\r\n\r\nok",
            };
            if send(stream, text, soon).await {
                let at = world.tick();
                let received = &mut world.ledger().received[index];
                (received.verdict, received.ended) = (Verdict::Accepted, at);
            }
            !text.ends_with("9\r\n\r\nok")
        }
        Manner::Refuse(status) => {
            let text =
                format!("HTTP/1.1 {status} No\r\nContent-Length: 0\r\nRetry-After: 7\r\n\r\n");
            send(stream, &text, soon).await
        }
        Manner::Late { status, .. } => {
            let text = format!("HTTP/1.1 {status} Late\r\nContent-Length: 0\r\n\r\n");
            send(stream, &text, Duration::from_millis(1100 + world.below(1500))).await
        }
        Manner::Reset { after, .. } => {
            send(stream, after, soon).await;
            false
        }
        Manner::Garbage { .. } => {
            send(stream, "SSH-2.0-OpenSSH_9.2\r\n", soon).await;
            false
        }
        Manner::Silence { .. } => {
            sleep(Duration::from_secs(20)).await;
            false
        }
    }
}

async fn send(stream: &mut DuplexStream, text: &str, wait: Duration) -> bool {
    sleep(wait).await;
    stream.write_all(text.as_bytes()).await.is_ok()
}
