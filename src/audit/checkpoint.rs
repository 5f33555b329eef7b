//! Signed statements "the log has N records and the last one has this hash", as text that other tools know: C2SP signed
//! notes (<https://c2sp.org/signed-note>) that hold a checkpoint: origin, size, base64 of the head's hash, and a line with
//! the time. The hash is the SHA-256 of record N's line; through the chain it stands for every record before it.
//!
//! A note is kept, copied and read as a line of JSON, `{"v":1,"checkpoint":"<the note>"}`, so that an ordinary log file that
//! took it from standard output can be compared against as it is.

use std::{
    fmt::Display,
    fs,
    io::{self, BufRead as _, Read as _},
    path::Path,
};

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey},
};
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use rustls_pki_types::{PrivatePkcs8KeyDer, pem::PemObject as _};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::{
    record::Hash,
    segments::{Piece, Segments},
    storage::{create_dir, is_blank, put},
};

/// The checkpoints of a log, a line each.
pub(super) const CHECKPOINTS: &str = "checkpoints";
/// The public keys that signed them, a line each: `name+hash+key`.
pub(super) const PUBLIC_KEY: &str = "audit-signing.pub";
/// Ed25519 in signed notes.
const ALGORITHM: u8 = 1;
/// What begins a signature line: an em dash and a space.
const DASH: &str = "\u{2014} ";
/// What begins the JSON of a line that holds a note.
const MARK: &str = "{\"v\":1,\"checkpoint\":";
/// Longest line that is looked at, in bytes.
const LINE_BYTES_MAX: u64 = 1 << 20;

/// What a checkpoint says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Checkpoint {
    /// Number of the last record it covers, which is how many there were since the log began.
    pub(super) size: u64,
    /// Hash of that record's line.
    pub(super) hash: Hash,
    /// When it was signed, as the signer's clock had it.
    pub(super) time: String,
}

impl Checkpoint {
    /// What is signed.
    fn text(&self, origin: &str) -> String {
        let Self { size, hash, time } = self;
        format!("{origin}\n{size}\n{}\ntime {time}\n", BASE64.encode(hash))
    }
}

/// A checkpoint with who says so, not yet believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Note {
    /// What is said.
    pub(super) checkpoint: Checkpoint,
    origin: String,
    signature: Vec<u8>,
    /// Whether it has its line for itself.
    pub(super) is_alone: bool,
}

/// The key that signs checkpoints.
pub(super) struct Signer {
    pair: Ed25519KeyPair,
    pub(super) public: PublicKey,
}

/// A key that signed checkpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PublicKey {
    /// Its name, which is the log's origin too.
    name: String,
    bytes: [u8; 32],
}

impl Signer {
    /// Reads the key at `path`. Where nothing is there, or what an interrupted start left, one is made, readable by its owner
    /// only; but never behind a log that another one has signed.
    pub(super) fn load_or_make(path: &Path, log: &Path) -> Result<Self, String> {
        let said = |why: &dyn Display| format!("{}: {why}", path.display());
        let found = match fs::read(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            found => found.map_err(|error| said(&error))?,
        };
        let found = Zeroizing::new(found);
        if let Some(signer) = Self::from_pem(&found) {
            return Ok(signer);
        }
        if is_begun(log) {
            return Err(said(&format_args!(
                "not there, or not an Ed25519 key (PKCS#8 in PEM), and the log in {} was signed with one: put it back. \
                 (Or put another in its place, by `openssl genpkey -algorithm ed25519 -out FILE`; what is signed already stays so.)",
                log.display()
            )));
        }
        if !is_blank(&found) {
            return Err(said(&"not an Ed25519 key (PKCS#8 in PEM)"));
        }
        let pem = make_pem().ok_or("no key could be made")?;
        let dir = path.parent().map_or(Ok(()), create_dir);
        dir.and_then(|()| put(path, pem.as_bytes(), 0o600)).map_err(|error| said(&error))?;
        Self::from_pem(pem.as_bytes()).ok_or_else(|| "no key could be made".to_owned())
    }

    fn from_pem(pem: &[u8]) -> Option<Self> {
        let key = PrivatePkcs8KeyDer::from_pem_slice(pem).ok()?;
        let pair = Ed25519KeyPair::from_pkcs8(key.secret_pkcs8_der()).ok()?;
        let public = PublicKey::new(pair.public_key().as_ref().try_into().ok()?);
        Some(Self { pair, public })
    }

    /// The public half of the key at `path`.
    pub(super) fn public_half(path: &Path) -> Result<PublicKey, String> {
        let pem = fs::read(path).map(Zeroizing::new);
        let pem = pem.map_err(|error| format!("{}: {error}", path.display()))?;
        let signer = Self::from_pem(&pem);
        let none = || format!("{}: not an Ed25519 key (PKCS#8 in PEM)", path.display());
        signer.map(|signer| signer.public).ok_or_else(none)
    }

    /// The line of a signed note, with its newline.
    pub(super) fn sign(&self, checkpoint: &Checkpoint) -> String {
        let text = checkpoint.text(&self.public.name);
        let mut signature = self.public.hash().to_vec();
        signature.extend_from_slice(self.pair.sign(text.as_bytes()).as_ref());
        let note = format!("{text}\n{DASH}{} {}\n", self.public.name, BASE64.encode(signature));
        format!("{MARK}{}}}\n", serde_json::Value::from(note))
    }
}

/// PKCS#8 version 1, the form that every tool reads.
fn make_pem() -> Option<Zeroizing<String>> {
    let der = Ed25519KeyPair::generate_pkcs8v1(&SystemRandom::new()).ok()?;
    let body = Zeroizing::new(BASE64.encode(der.as_ref()));
    Some(Zeroizing::new(format!(
        "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n",
        body.as_str()
    )))
}

/// Whether a log holds anything that a key has signed, or is about to.
fn is_begun(log: &Path) -> bool {
    let sealed = fs::read(log.join(CHECKPOINTS)).is_ok_and(|notes| !is_blank(&notes));
    let holds = |segments: Segments| {
        let begins = |first| segments.open(first, 0)?.advance();
        segments.firsts().any(|first| begins(first).ok() != Some(Piece::End))
    };
    let unknown = |error: io::Error| error.kind() != io::ErrorKind::NotFound;
    sealed || Segments::of(log).map_or_else(unknown, holds)
}

impl PublicKey {
    fn new(bytes: [u8; 32]) -> Self {
        let digest = hex::encode(Sha256::digest(bytes));
        let name = format!("gatepost-audit/{}", digest.get(..16).unwrap_or_default());
        Self { name, bytes }
    }

    pub(super) fn parse(line: &str) -> Option<Self> {
        let key = BASE64.decode(line.splitn(3, '+').nth(2)?).ok()?;
        let key = Self::new(key.get(1..)?.try_into().ok()?);
        (key.line() == line).then_some(key)
    }

    /// The keys of a file: a line each, empty lines and lines that begin with `#` left out.
    pub(super) fn parse_all(text: &str) -> Option<Vec<Self>> {
        let lines = text.lines().map(str::trim_end);
        let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
        let keys: Vec<_> = lines.map(Self::parse).collect::<Option<_>>()?;
        (!keys.is_empty()).then_some(keys)
    }

    /// A line of the file of public keys, as signed notes have it.
    pub(super) fn line(&self) -> String {
        let mut key = vec![ALGORITHM];
        key.extend_from_slice(&self.bytes);
        format!("{}+{}+{}", self.name, hex::encode(self.hash()), BASE64.encode(key))
    }

    /// The first four bytes of the hash of name, algorithm and key: what signature lines call the key.
    fn hash(&self) -> [u8; 4] {
        let mut hash = Sha256::new();
        hash.update(self.name.as_bytes());
        hash.update([b'\n', ALGORITHM]);
        hash.update(self.bytes);
        let [a, b, c, d, ..] = <[u8; 32]>::from(hash.finalize());
        [a, b, c, d]
    }

    /// What people compare: `ed25519 SHA256:…`, as ssh-keygen writes it.
    pub(super) fn fingerprint(&self) -> String {
        let digest = BASE64.encode(Sha256::digest(self.bytes));
        format!("ed25519 SHA256:{}", digest.trim_end_matches('='))
    }
}

impl Note {
    /// Reads the note in a line, whatever a log collector put around it: origin, size, hash, time, an empty line, one
    /// signature; nothing else, and every number canonical.
    pub(super) fn parse(line: &str) -> Option<Self> {
        let (before, json) = line.split_once(MARK)?;
        let mut values = serde_json::Deserializer::from_str(json).into_iter::<String>();
        let note = values.next()?.ok()?;
        let behind = json.get(values.byte_offset()..)?.strip_prefix('}')?;
        let (text, signature) = note.split_once("\n\n")?;
        let [origin, size, hash, time] = text.split('\n').collect::<Vec<_>>().try_into().ok()?;
        let checkpoint = Checkpoint {
            size: size.parse().ok()?,
            hash: BASE64.decode(hash).ok()?.try_into().ok()?,
            time: time.strip_prefix("time ")?.to_owned(),
        };
        let signature = signature.strip_prefix(DASH)?.strip_prefix(origin)?.strip_prefix(' ')?;
        let signature = BASE64.decode(signature.strip_suffix('\n')?).ok()?;
        let canonical = checkpoint.text(origin).strip_suffix('\n') == Some(text);
        let is_alone = before.is_empty() && behind == "\n";
        canonical.then(|| Self { checkpoint, origin: origin.to_owned(), signature, is_alone })
    }

    /// Which of `keys` signed it under the origin that it names.
    pub(super) fn signer(&self, keys: &[PublicKey]) -> Option<usize> {
        let (hash, signature) = self.signature.split_first_chunk()?;
        let text = self.checkpoint.text(&self.origin);
        keys.iter().position(|key| {
            let signed =
                || UnparsedPublicKey::new(&ED25519, &key.bytes).verify(text.as_bytes(), signature);
            key.name == self.origin && key.hash() == *hash && signed().is_ok()
        })
    }

    /// Whether it says of itself that it is of a log with one of `keys`.
    pub(super) fn names(&self, keys: &[PublicKey]) -> bool {
        keys.iter().any(|key| key.name == self.origin)
    }
}

/// Whether a line of checkpoints may be what a power cut left of the last write: without its end, or with zeros in the place of its
/// beginning or its end, because sectors come whole or not at all and a line is shorter than one. Zeros inside are no such thing.
pub(super) fn is_half_written(line: &[u8]) -> bool {
    let Some(text) = line.strip_suffix(b"\n") else { return true };
    text.first() == Some(&0) || text.last() == Some(&0)
}

/// Calls `look` with every line of a file of checkpoints, newline included, and with the note that it holds.
pub(super) fn each_note(
    mut reader: impl io::BufRead,
    mut look: impl FnMut(&[u8], Option<Note>) -> io::Result<()>,
) -> io::Result<()> {
    let mut line = Vec::new();
    loop {
        let note = next_note(&mut reader, &mut line)?;
        if line.is_empty() {
            return Ok(());
        }
        look(&line, note)?;
    }
}

/// Reads the next line of a file of checkpoints, newline included; returns the note that it holds. At the end, the line is empty.
pub(super) fn next_note(
    reader: &mut impl io::BufRead,
    line: &mut Vec<u8>,
) -> io::Result<Option<Note>> {
    line.clear();
    reader.take(LINE_BYTES_MAX).read_until(b'\n', line)?;
    let whole = line.ends_with(b"\n");
    Ok(whole.then(|| Note::parse(&String::from_utf8_lossy(line))).flatten())
}
