//! Copies a range of records to where an auditor needs nothing from us: plain lines, the checkpoints over them, the public
//! key, and a verifier in another language.

use std::{
    fs::{self, File},
    io::{self, BufReader, BufWriter, Write as _},
    path::{Path, PathBuf},
};

use super::{
    checkpoint::{CHECKPOINTS, Entry, Note, Notes, PUBLIC_KEY},
    journal::parse_time,
    lines::{Frame, segment_name},
    read::Segments,
    verify::{EXPORT, SCRIPT},
};
use crate::event::Timestamp;

const README: &str = include_str!("export_readme.txt");

/// What to export.
#[derive(Clone, Debug)]
pub struct Request {
    /// The log.
    pub dir: PathBuf,
    /// Records written from then on.
    pub since: Option<Timestamp>,
    /// Records written before then.
    pub until: Option<Timestamp>,
    /// A source whose records are copied once more, by themselves.
    pub source: Option<String>,
    /// A directory that is empty or not there yet.
    pub out: PathBuf,
}

/// What was exported. Somewhat more than was asked for: a range begins behind a checkpoint and ends with one, so that both
/// of its ends can be proven.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    /// The first record.
    pub first: u64,
    /// The last record.
    pub last: u64,
    /// Checkpoints copied.
    pub checkpoints: usize,
    /// Records of the source that was asked for.
    pub of_source: Option<u64>,
}

/// Exports.
///
/// # Errors
/// A sentence that says what cannot be read or written.
pub fn export(request: &Request) -> Result<Summary, String> {
    let failed = |error: io::Error| format!("{}: {error}", request.dir.display());
    prepare(&request.out)?;
    let notes = notes(&request.dir.join(CHECKPOINTS)).map_err(failed)?;
    let segments = Segments::of(&request.dir).map_err(failed)?;
    let (first, last) =
        find(&segments, request).map_err(failed)?.ok_or("there are no records in that range")?;
    let begins = segments.firsts().first().copied().unwrap_or(1);
    let sizes = || notes.iter().map(|note| note.checkpoint.size);
    let after = sizes().filter(|size| *size < first && *size + 1 >= begins).max();
    let after = after.unwrap_or(begins - 1);
    let last = sizes().filter(|size| *size >= last).min().unwrap_or(last);
    let failed = |error: io::Error| format!("{}: {error}", request.out.display());
    let range = Range { after, last };
    let of_source = copy(&segments, range, request).map_err(failed)?;
    let checkpoints = surround(&notes, range, request).map_err(failed)?;
    Ok(Summary { first: after + 1, last, checkpoints, of_source })
}

/// Records behind `after`, up to `last`.
#[derive(Clone, Copy)]
struct Range {
    after: u64,
    last: u64,
}

fn prepare(out: &Path) -> Result<(), String> {
    let failed = |error| format!("{}: {error}", out.display());
    fs::create_dir_all(out).map_err(failed)?;
    match fs::read_dir(out).map_err(failed)?.next() {
        None => Ok(()),
        Some(_) => {
            Err(format!("{}: not empty; an export needs a directory of its own", out.display()))
        }
    }
}

fn notes(path: &Path) -> io::Result<Vec<Note>> {
    let mut reader = Notes::new(BufReader::new(File::open(path)?));
    let mut found = Vec::new();
    while let Some(entry) = reader.advance()? {
        if let Entry::Note(note) = entry {
            found.push(note);
        }
    }
    Ok(found)
}

/// The first and the last record of the time that is asked for.
fn find(segments: &Segments, request: &Request) -> io::Result<Option<(u64, u64)>> {
    let mut found: Option<(u64, u64)> = None;
    segments.each(request.since, |line| {
        if let Some(frame) = Frame::parse(line)
            && let Some(time) = parse_time(frame.ts)
            && request.until.is_none_or(|until| time < until)
            && (found.is_some() || request.since.is_none_or(|since| time >= since))
        {
            found = Some((found.map_or(frame.seq, |(first, _)| first), frame.seq));
        }
        Ok(true)
    })?;
    Ok(found)
}

/// Copies the lines as they are; returns how many are of the source that was asked for.
fn copy(segments: &Segments, range: Range, request: &Request) -> io::Result<Option<u64>> {
    let name = segment_name(range.after + 1);
    let mut records = BufWriter::new(File::create_new(request.out.join(name))?);
    let mut chosen =
        request.source.as_ref().map(|source| Chosen::new(&request.out, source)).transpose()?;
    let skip =
        segments.firsts().partition_point(|first| *first <= range.after + 1).saturating_sub(1);
    segments.clone().skip(skip).each(None, |line| {
        let Some(frame) = Frame::parse(line) else { return Ok(true) };
        if frame.seq > range.after && frame.seq <= range.last {
            records.write_all(line)?;
            records.write_all(b"\n")?;
            if let Some(chosen) = &mut chosen {
                chosen.offer(line)?;
            }
        }
        Ok(frame.seq < range.last)
    })?;
    records.flush()?;
    chosen.map(Chosen::finish).transpose()
}

/// The file of one source's records.
struct Chosen {
    mark: String,
    file: BufWriter<File>,
    count: u64,
}

impl Chosen {
    fn new(out: &Path, source: &str) -> io::Result<Self> {
        let plain = source.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b));
        if !plain || source.starts_with('.') {
            return Err(io::Error::other(format!("`{source}` is not the name of a source")));
        }
        let file = File::create_new(out.join(format!("source-{source}.ndjson")))?;
        let mark = format!(",\"source\":\"{source}\"");
        Ok(Self { mark, file: BufWriter::new(file), count: 0 })
    }

    /// Quotes inside values are escaped, so this text can only be the member itself.
    fn offer(&mut self, line: &[u8]) -> io::Result<()> {
        if String::from_utf8_lossy(line).contains(&self.mark) {
            self.file.write_all(line)?;
            self.file.write_all(b"\n")?;
            self.count += 1;
        }
        Ok(())
    }

    fn finish(mut self) -> io::Result<u64> {
        self.file.flush().map(|()| self.count)
    }
}

/// What goes beside the records; returns how many checkpoints.
fn surround(notes: &[Note], range: Range, request: &Request) -> io::Result<usize> {
    let out = |name: &str| request.out.join(name);
    let wanted = |size: u64| size >= range.after && size <= range.last && size > 0;
    let copied = notes.iter().filter(|note| wanted(note.checkpoint.size));
    let copied: Vec<_> = copied.map(|note| note.render() + "\n").collect();
    fs::write(out(CHECKPOINTS), copied.concat())?;
    fs::copy(request.dir.join(PUBLIC_KEY), out(PUBLIC_KEY))?;
    fs::write(out("README.txt"), README)?;
    fs::write(out("verify.py"), SCRIPT)?;
    let Range { after, last } = range;
    fs::write(out(EXPORT), format!("{{\"v\":1,\"after\":{after},\"last\":{last}}}\n"))?;
    Ok(copied.len())
}
