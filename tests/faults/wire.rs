//! HTTP/1.1 by hand, for both ends: cheap, and free to do what no library would.

use std::{collections::HashMap, io, time::Instant};

use sha2::{Digest as _, Sha256};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// One clock for senders, app and killer, in microseconds.
#[derive(Clone, Copy, Debug)]
pub struct Clock(Instant);

impl Clock {
    pub fn start() -> Self {
        Self(Instant::now())
    }

    pub fn now(self) -> u64 {
        u64::try_from(self.0.elapsed().as_micros()).unwrap()
    }
}

pub fn digest(body: &[u8]) -> String {
    hex::encode(Sha256::digest(body))
}

/// A connection.
#[derive(Debug)]
pub struct Wire {
    pub stream: TcpStream,
    read: Vec<u8>,
}

/// The first line and the headers of a message, names in lower case.
#[derive(Debug)]
pub struct Head {
    pub first: String,
    headers: HashMap<String, String>,
}

impl Head {
    pub fn get(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    pub fn has(&self, name: &str) -> bool {
        self.headers.contains_key(name)
    }

    /// The status of an answer.
    pub fn status(&self) -> u16 {
        self.first.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap()
    }
}

impl Wire {
    pub fn new(stream: TcpStream) -> Self {
        stream.set_nodelay(true).unwrap();
        Self { stream, read: Vec::new() }
    }

    pub async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await
    }

    /// A message with a `Content-Length`; an error where the connection ends before its end.
    pub async fn message(&mut self) -> io::Result<(Head, Vec<u8>)> {
        let end = loop {
            if let Some(at) = self.read.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            self.more().await?;
        };
        let head = head(&self.read[..end]);
        let length: usize = head.get("content-length").parse().unwrap_or(0);
        while self.read.len() < end + length {
            self.more().await?;
        }
        let body = self.read[end..end + length].to_vec();
        self.read.drain(..end + length);
        Ok((head, body))
    }

    async fn more(&mut self) -> io::Result<()> {
        match self.stream.read_buf(&mut self.read).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }

    /// Waits until the other end has closed, reading whatever it says.
    pub async fn closed(&mut self) {
        let mut bytes = [0; 4096];
        while self.stream.read(&mut bytes).await.is_ok_and(|read| read > 0) {}
    }

    /// Says that nothing more is said.
    pub async fn half_close(&mut self) -> io::Result<()> {
        self.stream.shutdown().await
    }

    /// Resets the connection.
    pub fn reset(self) {
        self.stream.set_zero_linger().unwrap();
    }

    /// Leaves; comes back where it still listens.
    pub async fn leave(mut self, how: Leaves) -> Option<Self> {
        match how {
            Leaves::Closes => None,
            Leaves::Resets => {
                self.reset();
                None
            }
            Leaves::HalfCloses => {
                self.half_close().await.unwrap();
                Some(self)
            }
        }
    }
}

/// How a sender leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leaves {
    Closes,
    Resets,
    /// Says that it has nothing more to say, and listens.
    HalfCloses,
}

pub const WAYS: [Leaves; 3] = [Leaves::Closes, Leaves::Resets, Leaves::HalfCloses];

fn head(bytes: &[u8]) -> Head {
    let text = std::str::from_utf8(bytes).unwrap();
    let mut lines = text.split("\r\n");
    let first = lines.next().unwrap().to_owned();
    let pairs = lines.filter_map(|line| line.split_once(": "));
    let headers = pairs.map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()));
    Head { first, headers: headers.collect() }
}
