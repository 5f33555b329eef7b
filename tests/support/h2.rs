//! HTTP/2 by hand: frames that no library would send, and who says how the server took them.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// How a connection stood a flood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// The server read all of it and still answers.
    Survived,
    /// The server ended the connection, and said why where it said anything.
    Closed(Option<(u32, String)>),
}

impl End {
    /// Whether it was ended, for `reason` where that is not empty.
    pub fn is_closed_for(&self, reason: &str) -> bool {
        match self {
            Self::Survived => false,
            Self::Closed(said) => {
                reason.is_empty() || said.as_ref().is_some_and(|(_, why)| why == reason)
            }
        }
    }
}

/// One kind of frames without end.
#[derive(Clone, Copy, Debug)]
pub struct Flood {
    pub name: &'static str,
    /// How often `unit` is sent.
    pub units: u32,
    /// What is sent before, after the preface.
    before: fn() -> Vec<u8>,
    /// The n-th of them.
    unit: fn(u32) -> Vec<u8>,
    /// What makes it whole, so that a server that takes it all can go on.
    after: fn() -> Vec<u8>,
    /// What the server must give as its reason; nothing where the connection is cut without a word.
    pub reason: &'static str,
}

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;
pub const ACK: u8 = 1;
pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;

/// A frame, byte for byte.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// The preface and settings that leave everything as it is.
pub fn preface() -> Vec<u8> {
    [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), frame(SETTINGS, 0, 0, &[])].concat()
}

/// The header block of `POST path`, without Huffman codes or an entry in the table.
pub fn post(path: &str, headers: &[(&str, &str)]) -> Vec<u8> {
    let mut block = vec![0x83, 0x87]; // :method POST, :scheme https
    block.extend(literal(&[0x04], path)); // :path
    block.extend(literal(&[0x01], "a.test")); // :authority
    block.extend(self::block(headers));
    block
}

/// A header block of these fields, in this order, as they are.
pub fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    fields.iter().flat_map(|(name, value)| literal(&literal(&[0x00], name), value)).collect()
}

fn literal(before: &[u8], text: &str) -> Vec<u8> {
    [before, &integer(7, text.len()), text.as_bytes()].concat()
}

/// An integer behind a prefix of `bits`, whose other bits are 0.
fn integer(bits: u32, mut value: usize) -> Vec<u8> {
    let full = (1_usize << bits) - 1;
    if value < full {
        return vec![u8::try_from(value).unwrap()];
    }
    let mut bytes = vec![u8::try_from(full).unwrap()];
    value -= full;
    while value >= 128 {
        bytes.push(u8::try_from(value % 128).unwrap() | 128);
        value /= 128;
    }
    bytes.push(u8::try_from(value).unwrap());
    bytes
}

/// A request without its body, so that one runs while frames come.
pub fn open(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_HEADERS, stream, &post("/", &[]))
}

fn nothing() -> Vec<u8> {
    Vec::new()
}

fn one_request() -> Vec<u8> {
    open(1)
}

fn head_without_end() -> Vec<u8> {
    frame(HEADERS, 0, 1, &post("/", &[]))
}

fn end_of_head() -> Vec<u8> {
    frame(CONTINUATION, END_HEADERS, 1, b"")
}

fn reset(stream: u32) -> Vec<u8> {
    let head = frame(HEADERS, END_HEADERS | END_STREAM, stream, &post("/", &[]));
    [head, frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes())].concat()
}

/// A window that overflows: the server has to reset the stream itself.
fn made_to_reset(stream: u32) -> Vec<u8> {
    let most = frame(WINDOW_UPDATE, 0, stream, &0x7fff_ffff_u32.to_be_bytes());
    [open(stream), most.clone(), most].concat()
}

/// An entry of nearly the whole table, and then references to it.
fn bomb() -> Vec<u8> {
    let mut block = post("/", &[]);
    block.extend(literal(&literal(&[0x40], "x"), &"y".repeat(3900)));
    block.extend([0xbe; 12_000]);
    frame(HEADERS, END_HEADERS | END_STREAM, 1, &block)
}

fn odd(n: u32) -> u32 {
    2 * n + 1
}

/// What a stranger may try. Each is sent on a connection of its own, whose settings are never acknowledged.
pub const FLOODS: [Flood; 15] = [
    Flood {
        name: "rapid reset",
        units: 20_000,
        before: nothing,
        unit: |n| reset(odd(n)),
        after: nothing,
        reason: "too_many_resets",
    },
    Flood {
        name: "made to reset",
        units: 20_000,
        before: nothing,
        unit: |n| made_to_reset(odd(n)),
        after: nothing,
        reason: "too_many_internal_resets",
    },
    Flood {
        name: "streams without end",
        units: 1000,
        before: nothing,
        unit: |n| open(odd(n)),
        after: nothing,
        reason: "too_many_internal_resets",
    },
    Flood {
        name: "continuation",
        units: 5000,
        before: head_without_end,
        unit: |_| frame(CONTINUATION, 0, 1, b"\0\x01x\x01y"),
        after: end_of_head,
        reason: "too_many_continuations",
    },
    Flood {
        name: "empty continuation",
        units: 50_000,
        before: head_without_end,
        unit: |_| frame(CONTINUATION, 0, 1, b""),
        after: end_of_head,
        reason: "too_many_continuations",
    },
    Flood {
        name: "empty data",
        units: 50_000,
        before: one_request,
        unit: |_| frame(DATA, 0, 1, b""),
        after: nothing,
        reason: "too_many_data_frames",
    },
    Flood {
        name: "header bomb",
        units: 1,
        before: nothing,
        unit: |_| bomb(),
        after: nothing,
        reason: "header_list_way_too_large",
    },
    Flood {
        name: "settings",
        units: 50_000,
        before: one_request,
        unit: |n| frame(SETTINGS, 0, 0, &[&[0, 1], &(n % 4096).to_be_bytes()[..]].concat()),
        after: nothing,
        reason: "",
    },
    Flood {
        name: "ping",
        units: 50_000,
        before: one_request,
        unit: |n| frame(PING, 0, 0, &u64::from(n).to_be_bytes()),
        after: nothing,
        reason: "",
    },
    Flood {
        name: "answers to no ping",
        units: 50_000,
        before: one_request,
        unit: |n| frame(PING, ACK, 0, &u64::from(n).to_be_bytes()),
        after: nothing,
        reason: "",
    },
    Flood {
        name: "window of the connection",
        units: 50_000,
        before: one_request,
        unit: |_| frame(WINDOW_UPDATE, 0, 0, &1_u32.to_be_bytes()),
        after: nothing,
        reason: "",
    },
    Flood {
        name: "window of a stream",
        units: 50_000,
        before: one_request,
        unit: |_| frame(WINDOW_UPDATE, 0, 1, &1_u32.to_be_bytes()),
        after: nothing,
        reason: "",
    },
    Flood {
        name: "priority",
        units: 50_000,
        before: one_request,
        unit: |n| frame(PRIORITY, 0, odd(n), &[0, 0, 0, 0, 7]),
        after: nothing,
        reason: "",
    },
    Flood {
        name: "frames that nobody knows",
        units: 50_000,
        before: one_request,
        unit: |_| frame(0xbe, 0xef, 0, b""),
        after: nothing,
        reason: "",
    },
    Flood {
        name: "frames that nobody knows, large",
        units: 2000,
        before: one_request,
        unit: |_| frame(0xbe, 0xef, 1, &[0; 16_384]),
        after: nothing,
        reason: "",
    },
];

impl Flood {
    /// Sends all of it, or as much as the server takes.
    pub async fn over(&self, stream: impl AsyncRead + AsyncWrite + Unpin) -> End {
        let (mut reader, mut writer) = tokio::io::split(stream);
        let ended = ended(&mut reader);
        let send = async {
            let mut bytes = [preface(), (self.before)()].concat();
            for n in 0..self.units {
                bytes.extend((self.unit)(n));
                if bytes.len() > 16_000 {
                    writer.write_all(&bytes).await?;
                    bytes.clear();
                }
            }
            // Whoever answers this has taken all that came before.
            bytes.extend((self.after)());
            bytes.extend(frame(PING, 0, 0, LAST));
            writer.write_all(&bytes).await?;
            writer.flush().await
        };
        tokio::pin!(ended);
        tokio::select! {
            biased;
            end = &mut ended => end,
            _written = send => {
                let end = tokio::time::timeout(DEADLINE, ended).await;
                end.expect("the connection is ended, or its last ping answered")
            }
        }
    }
}

const LAST: &[u8; 8] = b"the last";
/// Far longer than a server needs.
const DEADLINE: Duration = Duration::from_mins(1);

/// Reads until the connection ends or the last ping is answered.
pub async fn ended(stream: &mut (impl AsyncRead + Unpin)) -> End {
    let mut said = None;
    loop {
        let Ok((kind, _, _, payload)) = next(stream).await else { return End::Closed(said) };
        if kind == PING && payload == LAST {
            return End::Survived;
        }
        if kind == GOAWAY {
            let code = u32::from_be_bytes(payload[4..8].try_into().unwrap());
            said = Some((code, String::from_utf8_lossy(&payload[8..]).into_owned()));
        }
    }
}

/// Kind, flags, stream and payload of the next frame.
pub async fn next(
    stream: &mut (impl AsyncRead + Unpin),
) -> std::io::Result<(u8, u8, u32, Vec<u8>)> {
    let mut head = [0; 9];
    stream.read_exact(&mut head).await?;
    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
    let mut payload = vec![0; usize::try_from(length).unwrap()];
    stream.read_exact(&mut payload).await?;
    let id = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
    Ok((head[3], head[4], id, payload))
}
