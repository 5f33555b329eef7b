//! Senders that cost as little as they can, so that a measurement is about the gateway: an event is signed once, written
//! whole over a kept connection, and of its answer only what counts is looked at. What was refused is sent again.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use memchr::memmem;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinSet,
    time::sleep_until,
};

use super::{
    PATIENCE, Provider, progress,
    provider::{Headers, stripe_event},
    sender::Told,
};

/// Many such senders, until they are stopped.
pub struct Crowd {
    senders: JoinSet<Tally>,
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
    since: Instant,
}

/// What they were told.
#[derive(Debug, Default)]
pub struct Tally {
    pub accepted: Vec<Told>,
    /// 503 with `Retry-After`.
    pub refused: usize,
    /// Everything else.
    pub wrong: Vec<String>,
    pub lasted: Duration,
}

impl Tally {
    /// Accepted events per second.
    pub fn goodput(&self) -> f64 {
        self.accepted.len() as f64 / self.lasted.as_secs_f64()
    }

    /// Requests per second.
    pub fn offered(&self) -> f64 {
        (self.accepted.len() + self.refused) as f64 / self.lasted.as_secs_f64()
    }

    fn add(&mut self, other: Self) {
        self.accepted.extend(other.accepted);
        self.refused += other.refused;
        self.wrong.extend(other.wrong);
    }
}

impl Crowd {
    /// Starts `senders` of signed Stripe events, whose ids begin with `name`. Each sends its next request as soon as it has
    /// an answer, but not before `every` has passed since the last.
    pub fn start(
        name: &str,
        secret: &'static str,
        address: SocketAddr,
        senders: usize,
        every: Duration,
    ) -> Self {
        let (stop, answered) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let mut tasks = JoinSet::new();
        for n in 0..senders {
            let (stop, answered) = (Arc::clone(&stop), Arc::clone(&answered));
            let name = format!("evt_{name}_{n}");
            tasks.spawn(async move { send(&name, secret, address, every, &stop, &answered).await });
        }
        Self { senders: tasks, stop, answered, since: Instant::now() }
    }

    /// Waits for `more` answers.
    pub async fn go_on(&self, more: usize) {
        let enough = self.answered.load(Relaxed) + more;
        progress(enough, || self.answered.load(Relaxed)).await;
    }

    /// Ends it.
    pub async fn stop(self) -> Tally {
        let lasted = self.since.elapsed();
        self.stop.store(true, Relaxed);
        let mut all = Tally { lasted, ..Tally::default() };
        for tally in self.senders.join_all().await {
            all.add(tally);
        }
        all
    }
}

async fn send(
    name: &str,
    secret: &'static str,
    address: SocketAddr,
    every: Duration,
    stop: &AtomicBool,
    answered: &AtomicUsize,
) -> Tally {
    let (mut tally, mut line) = (Tally::default(), Line::to(address));
    let (mut number, mut event) = (0, None);
    let mut due = Instant::now();
    while !stop.load(Relaxed) {
        let (id, request) = event.get_or_insert_with(|| {
            number += 1;
            let id = format!("{name}_{number}");
            let body = stripe_event(&id, "invoice.paid");
            let request = whole(&Provider::Stripe(secret).sign("", "", &body), &body);
            (id, request)
        });
        let at = Instant::now();
        let answer = tokio::time::timeout(PATIENCE, line.ask(request)).await;
        match answer.unwrap_or_else(|_| Err("no answer".to_owned())) {
            Ok(Said { status: 200, .. }) => {
                let (id, status, took) = (id.clone(), Ok(200), at.elapsed());
                tally.accepted.push(Told { id, status, took, at });
                event = None;
            }
            Ok(said) if said.is_refusal() => tally.refused += 1,
            other => {
                tally.wrong.push(format!("{id}: {other:?}"));
                (event, line.stream) = (None, None);
            }
        }
        answered.fetch_add(1, Relaxed);
        due = (due + every).max(at);
        if !every.is_zero() {
            sleep_until(due.into()).await;
        }
    }
    tally
}

/// A request to `/stripe`, byte for byte.
pub fn whole(headers: &Headers, body: &[u8]) -> Vec<u8> {
    let lines: String =
        headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let mut request = format!(
        "POST /stripe HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n{lines}content-length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    request.extend(body);
    request
}

/// A connection that is kept as long as the gateway keeps it.
pub struct Line {
    address: SocketAddr,
    stream: Option<TcpStream>,
    said: Vec<u8>,
    /// How often it had to be opened.
    pub dialled: usize,
}

/// What counts of an answer.
#[derive(Debug)]
pub struct Said {
    pub status: u16,
    /// Whether it says when to come back.
    comes_back: bool,
}

impl Said {
    pub fn is_refusal(&self) -> bool {
        self.status == 503 && self.comes_back
    }
}

impl Line {
    pub fn to(address: SocketAddr) -> Self {
        Self { address, stream: None, said: Vec::new(), dialled: 0 }
    }

    pub async fn ask(&mut self, request: &[u8]) -> Result<Said, String> {
        let stream = match &mut self.stream {
            Some(stream) => stream,
            None => {
                let stream = TcpStream::connect(self.address).await.map_err(|e| e.to_string())?;
                stream.set_nodelay(true).map_err(|e| e.to_string())?;
                self.dialled += 1;
                self.stream.insert(stream)
            }
        };
        stream.write_all(request).await.map_err(|e| e.to_string())?;
        self.said.clear();
        loop {
            if stream.read_buf(&mut self.said).await.map_err(|e| e.to_string())? == 0 {
                return Err(format!("cut in {}", String::from_utf8_lossy(&self.said)));
            }
            let Some(end) = memmem::find(&self.said, b"\r\n\r\n") else { continue };
            let head = std::str::from_utf8(&self.said[..end]).map_err(|e| e.to_string())?;
            let length: usize = field(head, "content-length").unwrap_or("0").parse().unwrap();
            if self.said.len() < end + 4 + length {
                continue;
            }
            let status = head.get(9..12).and_then(|digits| digits.parse().ok()).ok_or(head)?;
            let comes_back = field(head, "retry-after").is_some();
            if field(head, "connection") == Some("close") {
                self.stream = None;
            }
            return Ok(Said { status, comes_back });
        }
    }
}

fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = head.split("\r\n").filter_map(|line| line.split_once(": "));
    lines.find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}
