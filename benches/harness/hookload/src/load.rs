//! The loop: gives events to idle connections, takes in answers, keeps the time.

use std::{
    os::fd::{AsRawFd, OwnedFd},
    sync::Arc,
    time::{Duration, Instant},
};

use mio::{Events as Ready, Interest, Poll, Token, unix::SourceFd};
use rustix::time::{
    ClockId, Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, clock_gettime,
    timerfd_create, timerfd_settime,
};
use rustls::ClientConfig;

use crate::{
    Options,
    connection::{Connection, Protocol, Reading, Sent, tls_config},
    events::Events,
    http1,
    report::Report,
};

const TIMER: Token = Token(usize::MAX - 1);
/// How long handshakes may take before the clock starts.
const WARM_UP: Duration = Duration::from_secs(5);
/// How long answers may take after the last event was sent.
const GRACE: f64 = 8.0;
const POLL_MAX: Duration = Duration::from_millis(100);
const TIMER_MIN: Duration = Duration::from_micros(1);

pub struct Load {
    options: Options,
    events: Events,
    tls: Arc<ClientConfig>,
    poll: Poll,
    timer: OwnedFd,
    connections: Vec<Option<Connection>>,
    /// Connections that can take another event.
    idle: Vec<usize>,
    next: usize,
    under_way: usize,
    stopping: bool,
    start: Instant,
    report: Report,
    scratch: Vec<u8>,
}

impl Load {
    pub fn new(options: Options, events: Events) -> Self {
        let poll = Poll::new().expect("epoll");
        let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK);
        let timer = timer.expect("timerfd");
        let descriptor = timer.as_raw_fd();
        let mut source = SourceFd(&descriptor);
        poll.registry().register(&mut source, TIMER, Interest::READABLE).expect("timer");
        Self {
            tls: tls_config(options.streams > 0),
            connections: (0..options.connections).map(|_| None).collect(),
            idle: (0..options.connections).collect(),
            options,
            events,
            poll,
            timer,
            next: 0,
            under_way: 0,
            stopping: false,
            start: Instant::now(),
            report: Report::default(),
            scratch: Vec::new(),
        }
    }

    pub fn run(mut self) -> Report {
        let cpu = cpu_seconds();
        let mut ready = Ready::with_capacity(1024);
        if !self.options.close {
            self.connect_all(&mut ready);
        }
        self.start = Instant::now();
        while !self.is_over() {
            self.dispatch();
            self.wait(self.until_next(), &mut ready);
        }
        self.report.seconds = self.now();
        self.report.cpu_seconds = cpu_seconds() - cpu;
        let demanded = (self.options.rate * self.options.duration.as_secs_f64()) as u64;
        self.report.unsent = demanded.saturating_sub(self.next as u64);
        self.report.sort();
        self.report
    }

    /// All handshakes are done before the clock starts.
    fn connect_all(&mut self, ready: &mut Ready) {
        for index in 0..self.connections.len() {
            self.open(index);
        }
        let began = Instant::now();
        let waiting = |load: &Self| load.connections.iter().flatten().any(|c| !c.is_ready());
        while waiting(self) && began.elapsed() < WARM_UP {
            self.wait(POLL_MAX, ready);
        }
    }

    fn now(&self) -> f64 {
        self.start.elapsed().as_secs_f64()
    }

    fn is_over(&mut self) -> bool {
        let (now, end) = (self.now(), self.options.duration.as_secs_f64());
        self.stopping |= now >= end || self.next >= self.events.len();
        if now > end + GRACE {
            (0..self.connections.len()).for_each(|index| self.drop_connection(index, "timeout"));
        }
        self.stopping && self.under_way == 0
    }

    /// When the next event should be sent, if that time has come.
    fn due(&self) -> Option<f64> {
        let now = self.now();
        if self.stopping || self.next >= self.events.len() {
            return None;
        }
        if self.options.rate == 0.0 {
            return Some(now);
        }
        let intended = self.next as f64 / self.options.rate;
        (intended <= now && intended < self.options.duration.as_secs_f64()).then_some(intended)
    }

    /// How long nothing needs to be done unless something arrives. Arms the timer where the wait is finer than epoll's.
    fn until_next(&self) -> Duration {
        if self.stopping {
            return POLL_MAX;
        }
        if self.options.rate > 0.0 && !self.idle.is_empty() {
            let intended = self.next as f64 / self.options.rate;
            let wait = Duration::from_secs_f64((intended - self.now()).max(0.0)).max(TIMER_MIN);
            let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
            let value =
                Timespec { tv_sec: wait.as_secs() as i64, tv_nsec: i64::from(wait.subsec_nanos()) };
            let once = Itimerspec { it_interval: zero, it_value: value };
            timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &once).expect("timer");
        }
        self.options.duration.saturating_sub(self.start.elapsed()).min(POLL_MAX)
    }

    fn wait(&mut self, longest: Duration, ready: &mut Ready) {
        // A signal may interrupt the wait; the loop comes back.
        let _ = self.poll.poll(ready, Some(longest));
        for event in &*ready {
            match event.token() {
                TIMER => drop(rustix::io::read(&self.timer, &mut [0_u8; 8])),
                Token(index) => self.readable(index),
            }
        }
    }

    fn dispatch(&mut self) {
        while let Some(at) = self.due() {
            let Some(index) = self.idle.pop() else { return };
            if self.connections[index].is_none() {
                self.open(index);
            }
            let room = match self.connections[index].as_ref().map(|c| &c.protocol) {
                Some(Protocol::Http1(_)) => 1,
                Some(Protocol::Http2(http2)) => http2.room(),
                None => return self.idle.push(index),
            };
            if room > 0 {
                self.send(index, at);
            }
            if room > 1 {
                self.idle.push(index);
            }
        }
    }

    fn send(&mut self, index: usize, at: f64) {
        let Some(connection) = &mut self.connections[index] else { return };
        let sent = Sent { event: self.next, at };
        self.next += 1;
        self.under_way += 1;
        self.scratch.clear();
        let (options, events, out) = (&self.options, &self.events, &mut self.scratch);
        match &mut connection.protocol {
            Protocol::Http1(waiting) => {
                http1::write_request(options, events, sent.event, out);
                *waiting = Some(sent);
            }
            Protocol::Http2(http2) => http2.send(options, events, sent, out),
        }
        connection.write(out);
    }

    fn open(&mut self, index: usize) {
        let (registry, token) = (self.poll.registry(), Token(index));
        let options = &self.options;
        match Connection::open(options.address, &self.tls, options.streams, registry, token) {
            Ok(connection) => {
                self.connections[index] = Some(connection);
                self.report.handshakes += 1;
            }
            Err(error) => self.report.failed(&error.to_string()),
        }
    }

    fn readable(&mut self, index: usize) {
        let Some(connection) = &mut self.connections[index] else { return };
        let reading = connection.read();
        let ended = !matches!(reading, Ok(Reading::Open));
        match connection.protocol {
            Protocol::Http1(Some(sent)) => self.answer(index, sent, ended),
            Protocol::Http1(None) => {}
            Protocol::Http2(_) => self.frames(index),
        }
        if ended {
            let why = reading.err();
            self.drop_connection(index, why.as_deref().unwrap_or("closed by the peer"));
        }
    }

    fn answer(&mut self, index: usize, sent: Sent, ended: bool) {
        let Some(connection) = &mut self.connections[index] else { return };
        let Some(answer) = http1::parse(&connection.inbox, ended) else { return };
        connection.inbox.drain(..answer.len);
        connection.protocol = Protocol::Http1(None);
        self.finished(sent, answer.status);
        if self.options.close || answer.closes || ended {
            self.drop_connection(index, "");
        } else {
            self.idle.push(index);
        }
    }

    fn frames(&mut self, index: usize) {
        let Some(connection) = &mut self.connections[index] else { return };
        let Protocol::Http2(http2) = &mut connection.protocol else { return };
        let step = http2.receive(&connection.inbox);
        let over = http2.is_over();
        connection.inbox.drain(..step.consumed);
        if !step.out.is_empty() {
            connection.write(&step.out);
        }
        if !step.finished.is_empty() && !self.idle.contains(&index) {
            self.idle.push(index);
        }
        for (sent, status) in step.finished {
            self.finished(sent, status);
        }
        if over {
            self.drop_connection(index, "");
        }
    }

    fn finished(&mut self, sent: Sent, status: u16) {
        self.under_way -= 1;
        let kind = self.events.kind(sent.event);
        self.report.answered(kind, status, self.now() - sent.at);
    }

    /// Closes a connection, counts what it carried as lost, and opens another unless it is done with.
    fn drop_connection(&mut self, index: usize, why: &str) {
        let Some(connection) = self.connections[index].take() else { return };
        let lost: Vec<Sent> = match &connection.protocol {
            Protocol::Http1(waiting) => waiting.iter().copied().collect(),
            Protocol::Http2(http2) => http2.under_way().collect(),
        };
        connection.close(self.poll.registry());
        for sent in lost {
            self.under_way -= 1;
            self.report.lost(self.events.kind(sent.event), why);
        }
        self.idle.retain(|idle| *idle != index);
        if !self.stopping {
            if !self.options.close {
                self.open(index);
            }
            self.idle.push(index);
        }
    }
}

/// CPU time of this process.
fn cpu_seconds() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}
