//! Copies a range of records to where an auditor needs nothing from us: plain lines, the checkpoints over them, the public
//! key, and a verifier in another language.

use std::{
    fs::{self, File},
    io::{self, BufReader, BufWriter, Write as _},
    path::Path,
};

use super::{
    checkpoint::{CHECKPOINTS, PUBLIC_KEY, each_note},
    segments::{Segments, segment_name},
    storage::create_dir,
    verify::{EXPORT, SCRIPT, verify},
};
use crate::event::Timestamp;

const README: &str = include_str!("export_readme.txt");

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
}

/// Exports the records that were written from `since` on and before `until`, to a directory that is empty or not there yet.
///
/// # Errors
/// A sentence that says what cannot be read or written.
pub fn export(
    from: &Path,
    out: &Path,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
) -> Result<Summary, String> {
    let failed = |path: &Path, error: io::Error| format!("{}: {error}", path.display());
    let there = create_dir(out).and_then(|()| fs::read_dir(out));
    if there.map_err(|error| failed(out, error))?.next().is_some() {
        return Err(format!(
            "{}: not empty; an export needs a directory of its own",
            out.display()
        ));
    }
    let sizes = sizes(from).map_err(|error| failed(from, error))?;
    let segments = Segments::of(from).map_err(|error| failed(from, error))?;
    let range = find(&segments, since, until).map_err(|error| failed(from, error))?;
    let (first, mut last, gap) = range.ok_or("there are no records in that range")?;
    if gap {
        last = last.min(verify(from, None, None)?.last); // what is behind a torn batch was never there
    }
    let begins = segments.firsts().next().unwrap_or(1);
    let after = sizes.iter().copied().filter(|size| *size < first).max();
    let after = after.unwrap_or_default().max(begins.saturating_sub(1));
    let last = sizes.iter().filter(|size| **size >= last).min().copied().unwrap_or(last);
    copy(&segments, after, last, out).map_err(|error| failed(out, error))?;
    let checkpoints = surround(from, after, last, out).map_err(|error| failed(out, error))?;
    // Whoever reads that it is there may throw the log away.
    File::open(out).and_then(|dir| dir.sync_all()).map_err(|error| failed(out, error))?;
    Ok(Summary { first: after + 1, last, checkpoints })
}

/// What the checkpoints cover.
fn sizes(dir: &Path) -> io::Result<Vec<u64>> {
    let mut sizes = Vec::new();
    each_note(BufReader::new(File::open(dir.join(CHECKPOINTS))?), |_, note| {
        sizes.extend(note.map(|note| note.checkpoint.size));
        Ok(())
    })?;
    Ok(sizes)
}

/// The first and the last record of the time that is asked for, and whether one in between is missing.
fn find(
    segments: &Segments,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
) -> io::Result<Option<(u64, u64, bool)>> {
    let mut found: Option<(u64, u64, bool)> = None;
    segments.each(segments.at(since)?, |frame, _| {
        if let Some(time) = frame.time()
            && until.is_none_or(|until| time < until)
            && (found.is_some() || since.is_none_or(|since| time >= since))
        {
            let (first, last, gap) = found.unwrap_or((frame.seq, frame.seq - 1, false));
            found = Some((first, frame.seq, gap || frame.seq != last + 1));
        }
        Ok(true)
    })?;
    Ok(found)
}

/// Copies the lines as they are.
fn copy(segments: &Segments, after: u64, last: u64, out: &Path) -> io::Result<()> {
    let mut records = BufWriter::new(File::create_new(out.join(segment_name(after + 1)))?);
    let mut gone = true;
    segments.each(after + 1, |frame, line| {
        gone &= frame.seq != after + 1;
        if frame.seq > after && frame.seq <= last {
            records.write_all(line)?;
            records.write_all(b"\n")?;
        }
        Ok(frame.seq < last)
    })?;
    finish(records)?;
    if gone {
        return Err(io::Error::other("the first records were removed meanwhile: try again"));
    }
    Ok(())
}

/// What goes beside the records; returns how many checkpoints.
fn surround(from: &Path, after: u64, last: u64, out: &Path) -> io::Result<usize> {
    let mut copied = BufWriter::new(File::create_new(out.join(CHECKPOINTS))?);
    let mut count = 0;
    each_note(BufReader::new(File::open(from.join(CHECKPOINTS))?), |line, note| match note {
        Some(note) if (after.max(1)..=last).contains(&note.checkpoint.size) => {
            count += 1;
            copied.write_all(line)
        }
        _ => Ok(()),
    })?;
    finish(copied)?;
    let note = format!("{{\"v\":1,\"after\":{after},\"last\":{last}}}\n");
    for (name, bytes) in [
        (PUBLIC_KEY, &*fs::read(from.join(PUBLIC_KEY))?),
        ("README.txt", README.as_bytes()),
        ("verify.py", SCRIPT.as_bytes()),
        (EXPORT, note.as_bytes()),
    ] {
        let mut file = BufWriter::new(File::create_new(out.join(name))?);
        file.write_all(bytes)?;
        finish(file)?;
    }
    Ok(count)
}

/// Makes a file durable.
fn finish(file: BufWriter<File>) -> io::Result<()> {
    file.into_inner()?.sync_all()
}
