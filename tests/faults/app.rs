//! The app: remembers every request that reached it and when, and answers as the script of the test says.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::Notify,
    task::JoinSet,
    time::sleep,
};

use crate::{
    ledger::{Received, Verdict, told_why},
    wire::{Clock, Head, Wire, digest},
    witness::Witness,
};

/// What the app does with a request that it has read to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// Answers with this status.
    Say(u16),
    /// The same, after so long.
    Late(Duration, u16),
    /// The same, once [`App::open`] was called.
    Gated(u16),
    /// Says these bytes and ends the connection: in order, or by a reset.
    Bytes(Vec<u8>, End, Verdict),
    /// Says the first bytes, then the second again and again until nobody listens.
    Flood(Vec<u8>, Vec<u8>, Verdict),
    /// Says nothing until the other end gives up.
    Never,
}

/// What takes less than this is in time, whatever the machine does meanwhile.
const IN_TIME: Duration = Duration::from_millis(100);

/// How a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Stay,
    Close,
    Reset,
}

impl Act {
    fn verdict(&self) -> Verdict {
        match self {
            Self::Say(200..=299) | Self::Gated(200..=299) => Verdict::Accepted,
            Self::Late(time, 200..=299) if *time < IN_TIME => Verdict::Accepted,
            Self::Late(_, 200..=299) | Self::Never => Verdict::Silent,
            Self::Say(_) | Self::Late(..) | Self::Gated(_) => Verdict::Refused,
            Self::Bytes(.., verdict) | Self::Flood(.., verdict) => *verdict,
        }
    }
}

/// Decides about a request: how many the app has received with it, and what is known of it.
pub type Script = Box<dyn FnMut(usize, &Received) -> Act + Send>;

struct Shared {
    clock: Clock,
    received: Mutex<Vec<Received>>,
    /// When it had answered, by receipt.
    answered: Mutex<BTreeMap<String, u64>>,
    script: Mutex<Script>,
    witness: Mutex<Witness>,
    /// Receipts of what came and was not on record.
    early: Mutex<BTreeSet<String>>,
    gate: Notify,
    open: std::sync::atomic::AtomicBool,
}

/// The app.
pub struct App {
    pub address: SocketAddr,
    shared: Arc<Shared>,
    tasks: Mutex<JoinSet<()>>,
}

impl App {
    /// An app that accepts everything.
    pub async fn start(clock: Clock) -> Self {
        let shared = Arc::new(Shared {
            clock,
            received: Mutex::default(),
            answered: Mutex::default(),
            script: Mutex::new(Box::new(|_, _| Act::Say(200))),
            witness: Mutex::default(),
            early: Mutex::default(),
            gate: Notify::new(),
            open: false.into(),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(serve(listener, Arc::clone(&shared)));
        Self { address, shared, tasks: Mutex::new(tasks) }
    }

    pub fn url(&self) -> String {
        format!("http://{}/hooks", self.address)
    }

    /// What it does from now on.
    pub fn script(&self, script: impl FnMut(usize, &Received) -> Act + Send + 'static) {
        *self.shared.script.lock().unwrap() = Box::new(script);
    }

    /// Does the same with every request from now on.
    pub fn always(&self, act: Act) {
        self.script(move |_, _| act.clone());
    }

    /// Lets the gated answers go, now and later.
    pub fn open(&self) {
        self.shared.open.store(true, std::sync::atomic::Ordering::SeqCst);
        self.shared.gate.notify_waiters();
    }

    pub fn received(&self) -> Vec<Received> {
        self.shared.received.lock().unwrap().clone()
    }

    /// From now on it looks for what it receives in the record of a gateway whose state is in `dir`.
    pub fn watch(&self, dir: &Path) {
        self.shared.witness.lock().unwrap().watch(dir);
    }

    /// When what it received was on record: by then, or later than any time that counts.
    pub fn recorded(&self) -> BTreeMap<String, u64> {
        let early = self.shared.early.lock().unwrap();
        let late = |received: &Received| early.contains(&received.receipt);
        let when = |received: &Received| if late(received) { u64::MAX } else { received.at };
        self.received().into_iter().map(|r| (r.receipt.clone(), when(&r))).collect()
    }

    /// When it had answered a request, as far as it has.
    pub fn answered(&self, receipt: &str) -> Option<u64> {
        self.shared.answered.lock().unwrap().get(receipt).copied()
    }

    pub fn count(&self) -> usize {
        self.shared.received.lock().unwrap().len()
    }

    /// Nobody answers at its address any more.
    pub fn go(&self) {
        self.tasks.lock().unwrap().abort_all();
    }

    /// It is back at its address.
    pub async fn come_back(&self) {
        let listener = loop {
            match TcpListener::bind(self.address).await {
                Ok(listener) => break listener,
                Err(_) => sleep(Duration::from_millis(5)).await, // its last tasks are ending
            }
        };
        self.tasks.lock().unwrap().spawn(serve(listener, Arc::clone(&self.shared)));
    }
}

async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        connections.spawn(converse(stream, Arc::clone(&shared)));
        while connections.try_join_next().is_some() {}
    }
}

async fn converse(stream: TcpStream, shared: Arc<Shared>) {
    let mut wire = Wire::new(stream);
    while let Ok((head, body)) = wire.message().await {
        let act = shared.note(&head, &body);
        let receipt = head.get("gatepost-receipt").to_owned();
        match act {
            Act::Say(status) => {
                if wire.write(answer(status).as_bytes()).await.is_err() {
                    return;
                }
                shared.has_answered(receipt);
            }
            Act::Late(time, status) => {
                sleep(time).await;
                let _ = wire.write(answer(status).as_bytes()).await; // perhaps nobody waits any more
                shared.has_answered(receipt);
            }
            Act::Gated(status) => {
                shared.opened().await;
                let _ = wire.write(answer(status).as_bytes()).await;
            }
            Act::Bytes(bytes, end, _) => {
                let _ = wire.write(&bytes).await;
                shared.has_answered(receipt);
                match end {
                    End::Stay => wire.closed().await,
                    End::Close => return,
                    End::Reset => return wire.reset(),
                }
            }
            Act::Flood(first, again, _) => {
                let _ = wire.write(&first).await;
                shared.has_answered(receipt);
                while wire.write(&again).await.is_ok() {}
                return;
            }
            Act::Never => return wire.closed().await,
        }
    }
}

fn answer(status: u16) -> String {
    format!("HTTP/1.1 {status} X\r\ncontent-length: 0\r\n\r\n")
}

impl Shared {
    /// Puts a request into the books and decides about it.
    fn note(&self, head: &Head, body: &[u8]) -> Act {
        let at = self.clock.now();
        let mut received = Received {
            source: head.get("gatepost-source").into(),
            id: head.get("gatepost-provider-id").into(),
            event_id: head.get("gatepost-event-id").into(),
            digest: digest(body),
            receipt: head.get("gatepost-receipt").into(),
            attempt: head.get("gatepost-attempt").parse().unwrap(),
            reason: told_why(head.get("gatepost-previous-attempt"), head.get("gatepost-dedup")),
            at,
            ended: at,
            verdict: Verdict::Silent,
        };
        if !self.witness.lock().unwrap().knows(&received.receipt) {
            self.early.lock().unwrap().insert(received.receipt.clone());
        }
        let mut all = self.received.lock().unwrap();
        let act = self.script.lock().unwrap()(all.len() + 1, &received);
        received.verdict = act.verdict();
        all.push(received);
        act
    }

    fn has_answered(&self, receipt: String) {
        self.answered.lock().unwrap().insert(receipt, self.clock.now());
    }

    async fn opened(&self) {
        let notified = self.gate.notified();
        if !self.open.load(std::sync::atomic::Ordering::SeqCst) {
            notified.await;
        }
    }
}
