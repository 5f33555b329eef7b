//! Sends signed events (gen.py) once each to a gateway on loopback and prints one line of JSON about it.
//!
//! HTTP/1.1 or HTTP/2 over TLS 1.3, kept-alive connections or one per event, a closed loop or a fixed rate. Latency is measured from
//! sending, and with a rate from the intended time, so that a stalled gateway cannot hide by stalling its load.

mod connection;
mod events;
mod http1;
mod http2;
mod load;
mod report;

use std::{net::SocketAddr, time::Duration};

/// What was asked for on the command line.
pub struct Options {
    pub address: SocketAddr,
    pub path: String,
    /// Directory that gen.py wrote.
    pub events: String,
    pub connections: usize,
    pub duration: Duration,
    /// Events per second; 0 is a closed loop.
    pub rate: f64,
    /// Streams per HTTP/2 connection; 0 is HTTP/1.1.
    pub streams: usize,
    /// A connection per event.
    pub close: bool,
}

fn main() {
    let options = options(std::env::args().skip(1));
    assert!(options.address.ip().is_loopback(), "loopback only");
    let events = events::Events::read(&options.events);
    println!("{}", load::Load::new(options, events).run());
}

fn options(mut words: impl Iterator<Item = String>) -> Options {
    let mut options = Options {
        address: SocketAddr::from(([127, 0, 0, 1], 8443)),
        path: "/webhook".into(),
        events: String::new(),
        connections: 64,
        duration: Duration::from_secs(5),
        rate: 0.0,
        streams: 0,
        close: false,
    };
    while let Some(word) = words.next() {
        let mut value = || words.next().unwrap_or_else(|| panic!("{word} needs a value"));
        match word.as_str() {
            "--addr" => options.address = value().parse().expect("--addr"),
            "--path" => options.path = value(),
            "--events" => options.events = value(),
            "-c" => options.connections = value().parse().expect("-c"),
            "-d" => options.duration = Duration::from_secs_f64(value().parse().expect("-d")),
            "--rate" => options.rate = value().parse().expect("--rate"),
            "--h2" => options.streams = value().parse().expect("--h2"),
            "--close" => options.close = true,
            _ => panic!("unknown option {word}"),
        }
    }
    options
}
