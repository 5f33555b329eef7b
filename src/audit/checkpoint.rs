//! Signed statements "the log has N records and the last one has this hash", as text that other tools know: C2SP signed
//! notes (<https://c2sp.org/signed-note>) that hold a checkpoint: origin, size, base64 of the head's hash, and a line with
//! the time. The hash is the SHA-256 of record N's line; through the chain it stands for every record before it.

use std::{fs, io, path::Path};

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey},
};
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use rustls_pki_types::{PrivatePkcs8KeyDer, pem::PemObject as _};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::record::Hash;

/// The checkpoints of a log, one note after the other with an empty line between.
pub const CHECKPOINTS: &str = "checkpoints";
/// The public keys that signed them, a line each: `name+hash+key`.
pub const PUBLIC_KEY: &str = "audit-signing.pub";
/// Ed25519 in signed notes.
const ALGORITHM: u8 = 1;
/// What begins a signature line: an em dash and a space.
const DASH: &str = "\u{2014} ";
/// Longest line of a note.
const LINE_BYTES_MAX: usize = 1024;

/// What a checkpoint says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Number of the last record it covers, which is how many there were since the log began.
    pub size: u64,
    /// Hash of that record's line.
    pub hash: Hash,
    /// When it was signed, as the signer's clock had it.
    pub time: String,
}

/// A checkpoint with who says so, not yet believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// What is said.
    pub checkpoint: Checkpoint,
    text: String,
    signatures: Vec<(String, Vec<u8>)>,
}

/// The key that signs checkpoints.
pub struct Signer {
    pair: Ed25519KeyPair,
    public: PublicKey,
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Signer({})", self.public.name)
    }
}

/// A key that signed checkpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey {
    /// Its name, which is the log's origin too.
    pub name: String,
    bytes: [u8; 32],
}

impl Signer {
    /// Reads the key at `path`; makes one, readable by its owner only, where nothing is there.
    pub fn load_or_make(path: &Path) -> Result<Self, String> {
        let failed = |error: io::Error| format!("{}: {error}", path.display());
        match fs::read(path).map(Zeroizing::new) {
            Ok(pem) => Self::from_pem(&pem)
                .ok_or_else(|| format!("{}: not an Ed25519 key (PKCS#8 in PEM)", path.display())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let pem = make_pem().ok_or("no key could be made")?;
                write_private(path, pem.as_bytes()).map_err(failed)?;
                Self::from_pem(pem.as_bytes()).ok_or_else(|| "no key could be made".to_owned())
            }
            Err(error) => Err(failed(error)),
        }
    }

    fn from_pem(pem: &[u8]) -> Option<Self> {
        let key = PrivatePkcs8KeyDer::from_pem_slice(pem).ok()?;
        let pair = Ed25519KeyPair::from_pkcs8(key.secret_pkcs8_der()).ok()?;
        let public = PublicKey::new(pair.public_key().as_ref().try_into().ok()?);
        Some(Self { pair, public })
    }

    /// The key that checks what this one signs.
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// A signed note.
    pub fn sign(&self, checkpoint: &Checkpoint) -> String {
        let Checkpoint { size, hash, time } = checkpoint;
        let text = format!("{}\n{size}\n{}\ntime {time}\n", self.public.name, BASE64.encode(hash));
        let mut signature = self.public.hash().to_vec();
        signature.extend_from_slice(self.pair.sign(text.as_bytes()).as_ref());
        format!("{text}\n{DASH}{} {}\n", self.public.name, BASE64.encode(signature))
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

fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    use std::{io::Write as _, os::unix::fs::OpenOptionsExt as _};
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

impl PublicKey {
    fn new(bytes: [u8; 32]) -> Self {
        let digest = hex::encode(Sha256::digest(bytes));
        let name = format!("gatepost-audit/{}", digest.get(..16).unwrap_or_default());
        Self { name, bytes }
    }

    /// Reads one line of a public key file.
    pub fn parse(line: &str) -> Option<Self> {
        let mut parts = line.trim_end().splitn(3, '+');
        let (name, hash, key) = (parts.next()?, parts.next()?, parts.next()?);
        let (algorithm, key) =
            BASE64.decode(key).ok()?.split_first().map(|(a, k)| (*a, k.to_vec()))?;
        let key = Self { name: name.to_owned(), bytes: key.try_into().ok()? };
        (algorithm == ALGORITHM && hash == hex::encode(key.hash())).then_some(key)
    }

    /// The keys of a file: a line each, empty lines and lines that begin with `#` left out.
    pub fn parse_all(text: &str) -> Option<Vec<Self>> {
        let lines = text.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#'));
        lines.map(Self::parse).collect::<Option<Vec<_>>>().filter(|keys| !keys.is_empty())
    }

    /// The line that [`Self::parse`] reads.
    pub fn line(&self) -> String {
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
    pub fn fingerprint(&self) -> String {
        let digest = BASE64.encode(Sha256::digest(self.bytes));
        format!("ed25519 SHA256:{}", digest.trim_end_matches('='))
    }
}

impl Note {
    /// Whether one of `keys` signed this very text under the origin that it names.
    pub fn is_signed_by(&self, keys: &[PublicKey]) -> bool {
        let origin = self.text.lines().next().unwrap_or_default();
        keys.iter().filter(|key| key.name == origin).any(|key| {
            let ours = self.signatures.iter().filter(|(name, _)| *name == key.name);
            ours.filter_map(|(_, bytes)| bytes.split_first_chunk()).any(|(hash, signature)| {
                let public = UnparsedPublicKey::new(&ED25519, &key.bytes);
                *hash == key.hash() && public.verify(self.text.as_bytes(), signature).is_ok()
            })
        })
    }

    /// The whole note, as it is stored.
    pub fn render(&self) -> String {
        let mut note = format!("{}\n", self.text);
        for (name, bytes) in &self.signatures {
            note.extend([DASH, name, " ", &BASE64.encode(bytes), "\n"]);
        }
        note
    }
}

/// What stands in a file of checkpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// A note in good form.
    Note(Note),
    /// Lines that are no note; the number of the first one.
    Rubbish(usize),
    /// A note that the file ends in the middle of, and the offset at which it begins.
    Unfinished(u64),
}

/// Reads notes one after the other. Lines of JSON that hold a note in `checkpoint` (what goes to standard output) are taken
/// too, so that an ordinary log file can be compared against.
#[derive(Debug)]
pub struct Notes<R> {
    reader: R,
    line: Vec<u8>,
    number: usize,
    offset: u64,
}

impl<R: io::BufRead> Notes<R> {
    /// Reads from the beginning of a file.
    pub fn new(reader: R) -> Self {
        Self { reader, line: Vec::new(), number: 0, offset: 0 }
    }

    /// The next entry.
    pub fn advance(&mut self) -> io::Result<Option<Entry>> {
        let mut pending = Pending { first: 0, offset: 0, text: String::new() };
        let mut blank = false;
        loop {
            let before = self.offset;
            let Some(line) = self.line()? else {
                return Ok((!pending.text.is_empty()).then_some(Entry::Unfinished(pending.offset)));
            };
            if pending.text.is_empty() {
                if line == "\n" {
                    continue;
                }
                if let Some(note) = embedded(&line) {
                    return Ok(Some(parse(&note).map_or(Entry::Rubbish(self.number), Entry::Note)));
                }
                (pending.first, pending.offset) = (self.number, before);
            }
            if !line.ends_with('\n') {
                return Ok(Some(Entry::Unfinished(pending.offset)));
            }
            pending.text.push_str(&line);
            let ends = blank && line.starts_with(DASH);
            if ends || pending.text.len() > 8 * LINE_BYTES_MAX || (blank && line == "\n") {
                let first = pending.first;
                return Ok(Some(parse(&pending.text).map_or(Entry::Rubbish(first), Entry::Note)));
            }
            blank = blank || line == "\n";
        }
    }

    fn line(&mut self) -> io::Result<Option<String>> {
        self.line.clear();
        let limited = &mut io::Read::take(&mut self.reader, 1 << 20);
        let read = io::BufRead::read_until(limited, b'\n', &mut self.line)?;
        self.offset += read as u64;
        self.number += 1;
        Ok((read > 0).then(|| String::from_utf8_lossy(&self.line).into_owned()))
    }
}

/// The note that is being read.
struct Pending {
    first: usize,
    offset: u64,
    text: String,
}

/// The note in a line of JSON such as `{"v":1,"checkpoint":"…"}`, whatever a log collector put in front of it.
fn embedded(line: &str) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Copy {
        checkpoint: String,
    }
    let from = line.find("{\"v\":1,\"checkpoint\":")?;
    let mut values = serde_json::Deserializer::from_str(line.get(from..)?).into_iter::<Copy>();
    values.next()?.ok().map(|copy| copy.checkpoint)
}

/// The line that [`embedded`] reads.
pub fn as_line(note: &str) -> String {
    format!("{{\"v\":1,\"checkpoint\":{}}}\n", serde_json::Value::from(note))
}

/// Reads one note: origin, size, hash, time, an empty line, one signature; nothing else, and every number canonical.
pub fn parse(note: &str) -> Option<Note> {
    let (text, signatures) = note.split_once("\n\n")?;
    let mut lines = text.split('\n');
    let (_origin, size, hash, time) = (lines.next()?, lines.next()?, lines.next()?, lines.next()?);
    let canonical = size == "0" || !size.starts_with('0');
    let digits = !size.is_empty() && size.bytes().all(|b| b.is_ascii_digit());
    if lines.next().is_some() || !canonical || !digits {
        return None;
    }
    let checkpoint = Checkpoint {
        size: size.parse().ok()?,
        hash: BASE64.decode(hash).ok()?.try_into().ok()?,
        time: time.strip_prefix("time ")?.to_owned(),
    };
    let signatures = signatures.strip_suffix('\n')?.split('\n').map(|line| {
        let (name, bytes) = line.strip_prefix(DASH)?.split_once(' ')?;
        Some((name.to_owned(), BASE64.decode(bytes).ok()?))
    });
    Some(Note {
        checkpoint,
        text: format!("{text}\n"),
        signatures: signatures.collect::<Option<_>>()?,
    })
}
