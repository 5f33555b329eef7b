//! Senders as providers are: each event again and again until it is acknowledged, over kept connections, some of them twice at
//! once. Every request and its answer is put into the books.

use std::{
    collections::{BTreeSet, VecDeque},
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    net::TcpStream,
    task::JoinSet,
    time::{sleep, timeout},
};

use crate::{
    BANK, GITHUB, STRIPE,
    dice::Dice,
    ledger::{Sent, Standing, Told},
    wire::{Clock, Head, Leaves, WAYS, Wire, digest},
    world::{
        PATIENCE, Provider,
        provider::{Headers, stripe_event},
    },
};

/// How soon a sender tries again. Providers wait longer; a test has no time.
const PAUSE: Duration = Duration::from_millis(20);

/// How many requests in a row a lane sends to one gateway.
const TURN: usize = 64;

/// A request, and which gateway it went to.
#[derive(Clone, Debug)]
pub struct Request {
    pub sent: Sent,
    pub gateway: usize,
}

struct Shared {
    clock: Clock,
    /// Where the gateways are; nothing where one is down.
    gateways: Mutex<Vec<Option<SocketAddr>>>,
    requests: Mutex<Vec<Request>>,
    /// What is to be sent.
    queue: Mutex<VecDeque<String>>,
    /// What is queued or under way.
    open: AtomicUsize,
    acked: AtomicUsize,
    /// From so many acknowledged events on, nothing is sent.
    enough: AtomicUsize,
    /// Of a hundred requests, so many are left by their sender at some moment.
    rude: AtomicUsize,
    /// How many were left in each of the [`WAYS`].
    left: [AtomicUsize; WAYS.len()],
    /// Before so many of a hundred comes one that is forged.
    forged: AtomicUsize,
    /// Half of Stripe's requests are signed with this one.
    rotated: Mutex<Option<&'static str>>,
    /// How many of those were answered.
    heard: AtomicUsize,
}

/// The senders.
#[derive(Clone)]
pub struct Senders(Arc<Shared>);

impl Senders {
    pub fn new(clock: Clock, gateways: usize) -> Self {
        Self(Arc::new(Shared {
            clock,
            gateways: Mutex::new(vec![None; gateways]),
            requests: Mutex::default(),
            queue: Mutex::default(),
            open: 0.into(),
            acked: 0.into(),
            enough: usize::MAX.into(),
            rude: 0.into(),
            left: Default::default(),
            forged: 0.into(),
            rotated: Mutex::default(),
            heard: 0.into(),
        }))
    }

    /// How many gateways there are.
    pub fn gateways(&self) -> usize {
        self.0.gateways.lock().unwrap().len()
    }

    /// A gateway has come up, or has gone.
    pub fn gateway(&self, number: usize, address: Option<SocketAddr>) {
        self.0.gateways.lock().unwrap()[number] = address;
    }

    pub fn requests(&self) -> Vec<Request> {
        self.0.requests.lock().unwrap().clone()
    }

    /// How many events were acknowledged.
    pub fn acked(&self) -> usize {
        self.0.acked.load(Ordering::Relaxed)
    }

    /// Nothing more is sent from so many acknowledged events on, until more is allowed.
    pub fn allow(&self, events: usize) {
        self.0.enough.store(events, Ordering::SeqCst);
    }

    /// Of a hundred requests, `rude` are left at some moment from now on, in each of the [`WAYS`].
    pub fn rude(&self, rude: usize) {
        self.0.rude.store(rude, Ordering::SeqCst);
    }

    /// How many were left in each of the [`WAYS`]; of those that only stopped to speak, how many were answered.
    pub fn left(&self) -> [usize; WAYS.len()] {
        self.0.left.each_ref().map(|left| left.load(Ordering::Relaxed))
    }

    /// Before so many of a hundred requests comes from now on another about the same event, with another body, of one who does
    /// not know the secret.
    pub fn forged(&self, forged: usize) {
        self.0.forged.store(forged, Ordering::SeqCst);
    }

    /// Half of Stripe's requests are signed with this secret from now on, or none is with another one than the first.
    pub fn rotated(&self, secret: Option<&'static str>) {
        *self.0.rotated.lock().unwrap() = secret;
    }

    /// How many requests that were signed with a rotated secret were answered.
    pub fn heard(&self) -> usize {
        self.0.heard.load(Ordering::Relaxed)
    }

    /// What was never sent is not sent any more.
    pub fn leave_off(&self) {
        let name = |sent: &Sent| format!("{}/{}", sent.source, sent.id);
        let known: BTreeSet<_> = self.requests().iter().map(|r| name(&r.sent)).collect();
        let mut queue = self.0.queue.lock().unwrap();
        let before = queue.len();
        queue.retain(|event| known.contains(event));
        self.0.open.fetch_sub(before - queue.len(), Ordering::SeqCst);
    }

    /// Begins to send `count` events `names` over `lanes` connections at once; of a hundred, `twice` are sent twice.
    pub fn begin(
        &self,
        events: impl Iterator<Item = String>,
        lanes: usize,
        twice: u64,
    ) -> JoinSet<()> {
        // Two sources with equal ids.
        self.begin_of(["stripe", "bank"], events, lanes, twice)
    }

    /// The same for two sources.
    pub fn begin_of(
        &self,
        sources: [&str; 2],
        events: impl Iterator<Item = String>,
        lanes: usize,
        twice: u64,
    ) -> JoinSet<()> {
        let mut dice = Dice(7);
        let mut queue = VecDeque::new();
        let names: Vec<_> = events.collect();
        for n in 0..names.len() {
            let event = format!("{}/{}", sources[n % 2], names[n - n % 2]);
            if dice.below(100) < twice {
                queue.push_back(event.clone());
            }
            queue.push_back(event);
        }
        self.0.open.store(queue.len(), Ordering::SeqCst);
        *self.0.queue.lock().unwrap() = queue;
        let mut tasks = JoinSet::new();
        for lane in 0..lanes {
            tasks.spawn(self.clone().lane(lane));
        }
        tasks
    }

    async fn lane(self, lane: usize) {
        let mut kept: Option<(SocketAddr, Wire)> = None;
        let mut turn = TURN * lane + lane; // as many begin at each gateway
        while self.0.open.load(Ordering::SeqCst) > 0 {
            let waits = self.acked() >= self.0.enough.load(Ordering::SeqCst);
            let next = (!waits).then(|| self.0.queue.lock().unwrap().pop_front()).flatten();
            let Some(event) = next else {
                sleep(PAUSE).await;
                continue;
            };
            turn += 1;
            if self.deliver(&event, turn, &mut kept).await {
                self.0.acked.fetch_add(1, Ordering::Relaxed);
                self.0.open.fetch_sub(1, Ordering::SeqCst);
            } else {
                self.0.queue.lock().unwrap().push_back(event);
                sleep(PAUSE).await;
            }
        }
    }

    /// Tries once; whether it was acknowledged.
    async fn deliver(
        &self,
        event: &str,
        turn: usize,
        kept: &mut Option<(SocketAddr, Wire)>,
    ) -> bool {
        let (gateway, address) = {
            let gateways = self.0.gateways.lock().unwrap();
            let gateway = turn / TURN % gateways.len();
            (gateway, gateways[gateway])
        };
        let Some(address) = address else { return false };
        let wire = match kept.take() {
            Some((to, wire)) if to == address => wire,
            _ => match TcpStream::connect(address).await {
                Ok(stream) => Wire::new(stream),
                Err(_) => return false,
            },
        };
        let mut dice = Dice(self.0.clock.now());
        let wire = if dice.below(100) < self.0.forged.load(Ordering::SeqCst) as u64 {
            let (_, wire) = self.exchange(wire, gateway, event, Standing::Forged).await;
            let Some(wire) = wire else { return false };
            wire
        } else {
            wire
        };
        let leaves = if dice.below(100) < self.0.rude.load(Ordering::SeqCst) as u64 {
            Some((WAYS[dice.roll(WAYS.len())], Duration::from_micros(dice.below(6000))))
        } else {
            None
        };
        let (told, wire) = self.ask(wire, gateway, event, Standing::Genuine, leaves).await;
        *kept = wire.map(|wire| (address, wire));
        told.is_some_and(|told| (200..300).contains(&told.status))
    }

    /// Sends one request and puts it into the books; the connection comes back where it may be used again.
    pub async fn exchange(
        &self,
        wire: Wire,
        gateway: usize,
        event: &str,
        standing: Standing,
    ) -> (Option<Told>, Option<Wire>) {
        self.ask(wire, gateway, event, standing, None).await
    }

    /// The same, but a sender that `leaves` stops to speak at once, or hangs up where there is no answer in this time.
    async fn ask(
        &self,
        wire: Wire,
        gateway: usize,
        event: &str,
        standing: Standing,
        leaves: Option<(Leaves, Duration)>,
    ) -> (Option<Told>, Option<Wire>) {
        let forged = standing == Standing::Forged;
        let kind = if forged { "invoice.forged" } else { "invoice.paid" };
        let body = stripe_event(parted(event).1, kind);
        let at = self.0.clock.now();
        let rotated = self.chosen(event, standing);
        let headers = match rotated {
            Some(secret) => Provider::Stripe(secret).sign("", "", &body),
            None => signed(event, &body, standing),
        };
        let (head, wire) = match self.converse(wire, &said(event, &body, headers), leaves).await {
            Some((head, wire)) => (Some(head), wire),
            None => (None, None),
        };
        let told = head.map(|head| Told {
            at: self.0.clock.now(),
            status: head.status(),
            outcome: head.get("webhook-outcome").into(),
            receipt: head.get("webhook-receipt").into(),
            retry_after: head.has("retry-after"),
        });
        self.note(event, &body, gateway, standing, at, told.clone());
        self.0.heard.fetch_add(usize::from(rotated.is_some() && told.is_some()), Ordering::Relaxed);
        (told, wire)
    }

    /// Says all of it and hears the answer; the connection comes back where more can be said on it.
    async fn converse(
        &self,
        mut wire: Wire,
        said: &[u8],
        leaves: Option<(Leaves, Duration)>,
    ) -> Option<(Head, Option<Wire>)> {
        let left = |how: Leaves| self.0.left[how as usize].fetch_add(1, Ordering::Relaxed);
        if let Some((Leaves::HalfCloses, _)) = leaves {
            let answered = async {
                wire.write(said).await?;
                wire.half_close().await?;
                wire.message().await
            };
            let (head, _) = timeout(PATIENCE, answered).await.ok()?.ok()?;
            left(Leaves::HalfCloses);
            return Some((head, None));
        }
        let answered = async {
            wire.write(said).await?;
            wire.message().await
        };
        let patience = leaves.map_or(PATIENCE, |(_, patience)| patience);
        match (timeout(patience, answered).await, leaves) {
            (Ok(answered), _) => answered.ok().map(|(head, _)| (head, Some(wire))),
            (Err(_), Some((how, _))) => {
                left(how);
                wire.leave(how).await;
                None
            }
            (Err(_), None) => None,
        }
    }

    /// The rotated secret, where this request is signed with it.
    fn chosen(&self, event: &str, standing: Standing) -> Option<&'static str> {
        let may = standing == Standing::Genuine && parted(event).0 == "stripe";
        let chosen = may && Dice(self.0.clock.now()).below(2) == 0;
        self.0.rotated.lock().unwrap().filter(|_| chosen)
    }

    /// Puts a request into the books.
    pub fn note(
        &self,
        event: &str,
        body: &[u8],
        gateway: usize,
        standing: Standing,
        at: u64,
        told: Option<Told>,
    ) {
        let (source, id) = parted(event);
        let sent = Sent {
            source: source.into(),
            id: id.into(),
            event_id: String::new(),
            digest: digest(body),
            standing,
            at,
            told,
        };
        self.0.requests.lock().unwrap().push(Request { sent, gateway });
    }
}

/// Source and id of an event `source/id`; without a source it is Stripe's.
fn parted(event: &str) -> (&str, &str) {
    event.split_once('/').unwrap_or(("stripe", event))
}

/// Who sends, and signs as such.
pub fn signed(event: &str, body: &[u8], standing: Standing) -> Headers {
    let (source, id) = parted(event);
    let provider = match (standing, source) {
        (Standing::Forged, "github") => Provider::GitHub("of-somebody-else-0123456789"),
        (Standing::Forged, _) => Provider::Stripe("whsec_of_somebody_else_0123456789"),
        (_, "stripe") => Provider::Stripe(STRIPE),
        (_, "bank") => Provider::Stripe(BANK),
        _ => Provider::GitHub(GITHUB),
    };
    provider.sign(id, "push", body)
}

/// A whole request about `event`.
pub fn request(event: &str, body: &[u8], standing: Standing) -> Vec<u8> {
    said(event, body, signed(event, body, standing))
}

fn said(event: &str, body: &[u8], headers: Headers) -> Vec<u8> {
    let (source, _) = parted(event);
    let mut text = format!(
        "POST /{source} HTTP/1.1\r\nhost: hooks.example.com\r\ncontent-type: application/json\r\ncontent-length: {}\r\n",
        body.len()
    );
    for (name, value) in headers {
        text += &format!("{name}: {value}\r\n");
    }
    [text.as_bytes(), b"\r\n", body].concat()
}
