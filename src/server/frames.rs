//! Reads HTTP/2 along and counts the frames that ask for nothing: settings, pings, windows, priorities, what we do not know.
//! Each costs us work, an answer too, and the protocol allows them without end.

use std::io;

use arrayvec::ArrayVec;

/// How many such frames a connection may still send.
pub(super) struct Frames {
    /// Bytes of the preface or of a payload that are still to come.
    skip: usize,
    /// What is here of the next frame's head.
    head: ArrayVec<u8, HEAD_BYTES>,
    left: u32,
}

impl Frames {
    pub(super) fn new() -> Self {
        Self { skip: PREFACE_BYTES, head: ArrayVec::new(), left: CREDIT }
    }

    /// `bytes` were read; an error where they are too much of nothing.
    pub(super) fn heard(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let skipped = self.skip.min(bytes.len());
            self.skip -= skipped;
            let rest = bytes.get(skipped..).unwrap_or_default();
            let (now, later) = rest.split_at(rest.len().min(self.head.remaining_capacity()));
            self.head.extend(now.iter().copied());
            bytes = later;
            if let [a, b, c, kind, ..] = self.head[..]
                && self.head.is_full()
            {
                self.skip = u32::from_be_bytes([0, a, b, c]) as usize;
                self.head.clear();
                self.count(kind)?;
            }
        }
        Ok(())
    }

    fn count(&mut self, kind: u8) -> io::Result<()> {
        match kind {
            DATA => {} // h2 counts the empty and the small ones
            HEADERS => self.left = self.left.saturating_add(PER_REQUEST).min(CREDIT),
            _ => {
                self.left = self.left.checked_sub(1).ok_or_else(|| {
                    io::Error::new(io::ErrorKind::InvalidData, "too many frames without a request")
                })?;
            }
        }
        Ok(())
    }
}

const PREFACE_BYTES: usize = 24;
const HEAD_BYTES: usize = 9;
const DATA: u8 = 0;
const HEADERS: u8 = 1;
/// So many are free: more than a connection needs that is kept open for a day.
const CREDIT: u32 = 1000;
/// What a request allows besides: a ping to measure the line, windows for the answer, a reset.
const PER_REQUEST: u32 = 16;
