//! The kept corpus, and mutations of it that are the same for the same seed.

use std::{fs, path::Path};

use crate::targets::dice::Dice;

/// The inputs that are kept for a target.
pub struct Corpus {
    pub files: Vec<(String, Vec<u8>)>,
}

/// Bytes that mean something to one of the readers.
const TOKENS: [&[u8]; 24] = [
    b"\r\n",
    b"\n",
    b"\r",
    b" ",
    b"\t",
    b":",
    b",",
    b"=",
    b"\"",
    b"{",
    b"}",
    b"[",
    b"]",
    b"0",
    b"\0",
    b"~",
    b"%",
    b"\xff",
    b"\\u0069d",
    b"Content-Length: 3\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"HTTP/1.1 200 OK\r\n\r\n",
    b"\xe2\x80\xae",
    b"- &a ",
];

impl Corpus {
    pub fn of(target: &str) -> Self {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
        let entries =
            fs::read_dir(&dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
        let mut files: Vec<(String, Vec<u8>)> = entries
            .map(|entry| entry.unwrap().path())
            .map(|path| {
                (path.file_name().unwrap().to_string_lossy().into(), fs::read(path).unwrap())
            })
            .collect();
        files.sort();
        Self { files }
    }

    /// Inputs without end, each a file with a few changes.
    pub fn mutations(&self, seed: u64) -> impl Iterator<Item = Vec<u8>> + '_ {
        let mut dice = Dice::new(seed);
        std::iter::from_fn(move || {
            let mut input = self.any(&mut dice).to_vec();
            for _ in 0..=dice.roll(4) {
                self.change(&mut input, &mut dice);
            }
            Some(input)
        })
    }

    fn any(&self, dice: &mut Dice) -> &[u8] {
        &self.files[dice.roll(self.files.len())].1
    }

    fn change(&self, input: &mut Vec<u8>, dice: &mut Dice) {
        let at = dice.roll(input.len() + 1);
        let end = (at + 1 + dice.roll(16)).min(input.len());
        match dice.roll(8) {
            0 => input[at..end].iter_mut().take(1).for_each(|byte| *byte ^= 1 << dice.roll(8)),
            1 => input[at..end].iter_mut().take(1).for_each(|byte| *byte = dice.roll(256) as u8),
            2 => drop(input.drain(at..end)),
            3 => input.truncate(at),
            4 => {
                let copy = input[at..end].to_vec();
                let to = dice.roll(input.len() + 1);
                drop(input.splice(to..to, copy));
            }
            5 => {
                let other = self.any(dice);
                let from = dice.roll(other.len() + 1);
                let other = other[from..].to_vec();
                drop(input.splice(at.., other));
            }
            _ => {
                let token = TOKENS[dice.roll(TOKENS.len())];
                drop(input.splice(at..at, token.iter().copied()));
            }
        }
    }
}
