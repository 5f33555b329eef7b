//! `gatepost audit`: verify the record, search it, follow it, and take a part of it to somebody else.

use std::{
    io::{self, IsTerminal as _},
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant},
};

use clap::Subcommand;
use serde_json::Value;

use super::{
    CONFIG, NO, NOT_FOUND, TAMPERED, TEMPORARY, out,
    records::{about, kind, result, step, story, text},
};
use crate::{
    audit::{
        Params, export,
        segments::{Frame, Piece, Segments},
        verify::{self, Asked},
    },
    event::Timestamp,
    route::Patterns,
    units::{Span, many},
};

/// How often `tail` looks for more: a file does not say that it has grown.
const TAIL_EVERY: Duration = Duration::from_millis(200);
/// How many records `tail` shows of what was there before.
const TAIL_RECORDS: usize = 10;

/// Works on the files alone, beside a running gateway or without one.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The record's directory. Default: the one of the configuration
    #[arg(long, global = true, value_name = "DIR")]
    dir: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Prove that nothing was changed, removed or cut off; exit code 6 and the position where it was. Exit code 75 where
    /// the last batch is torn, which the next start of the gateway, or the running one, puts right
    Verify {
        /// The record, or an export of it
        #[arg(value_name = "DIR")]
        place: Option<PathBuf>,
        /// Checkpoints that left the machine: copies, or a log file that has them
        #[arg(long, value_name = "FILE")]
        against: Option<PathBuf>,
        /// The public keys to believe, in place of the configured one and those beside the record
        #[arg(long, value_name = "FILE")]
        public_key: Option<PathBuf>,
    },
    /// Print records, oldest first
    List(Filter),
    /// Print the last records, and each new one
    Tail(Filter),
    /// Everything about one event or request, by receipt, our id or the provider's
    Show {
        /// Such as req_…, evt_…
        id: String,
        /// The records as they are
        #[arg(long)]
        json: bool,
    },
    /// Copy records, checkpoints, public key and a verifier for somebody who need not trust us
    Export {
        /// A directory of its own
        #[arg(short, long, value_name = "DIR")]
        out: PathBuf,
        #[command(flatten)]
        during: During,
    },
}

/// Records of which time.
#[derive(Debug, clap::Args)]
struct During {
    /// From then on: 2h, 7d, 2026-11-01 or 2026-11-01T12:00:00Z
    #[arg(long, value_name = "TIME", value_parser = moment)]
    since: Option<Timestamp>,
    /// Before then
    #[arg(long, value_name = "TIME", value_parser = moment)]
    until: Option<Timestamp>,
}

/// Which records.
#[derive(Debug, clap::Args)]
struct Filter {
    /// Of this source
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
    /// Of these types, such as 'invoice.*' or '!ping'
    #[arg(long = "type", value_name = "PATTERN")]
    types: Vec<String>,
    /// That ended so, by the outcome's name, such as `accepted`, `duplicate`, `upstream_failed`
    #[arg(long, value_name = "NAME")]
    outcome: Option<String>,
    #[command(flatten)]
    during: During,
    /// The records as they are, one line of JSON each
    #[arg(long)]
    json: bool,
}

impl Args {
    /// Runs on `--dir`, or on the log that `configured` finds.
    pub(super) fn run(self, configured: impl FnOnce() -> Result<Params, String>) -> ExitCode {
        // Only a directory that was named may be an export, and only of the configured log it is known who seals it.
        let named = match &self.command {
            Command::Verify { place: Some(place), .. } => Some((place.clone(), true)),
            _ => self.dir.map(|dir| (dir, false)),
        };
        let of_config = |params: Params| (params.dir, false, Some(params.checkpoint_key));
        let place = named.map(|(dir, export)| Ok((dir, export, None)));
        let (dir, may_be_export, key) = match place.unwrap_or_else(|| configured().map(of_config)) {
            Ok(place) => place,
            Err(why) => {
                out::say(&why);
                return ExitCode::from(CONFIG);
            }
        };
        let in_dir = |error: io::Error| format!("{}: {error}", dir.display());
        let done = match &self.command {
            Command::Verify { against, public_key, .. } => verify(Asked {
                dir: &dir,
                may_be_export,
                public_key: public_key.as_deref(),
                signing_key: key.as_deref(),
                against: against.as_deref(),
            }),
            Command::List(filter) => list(&dir, filter).map_err(in_dir),
            Command::Tail(filter) => tail(&dir, filter).map_err(in_dir),
            Command::Show { id, json } => show(&dir, id, *json).map_err(in_dir),
            Command::Export { out, during } => export(&dir, out, during),
        };
        done.unwrap_or_else(|why| out::fail(NO, &why))
    }
}

/// A time: a date, a date with a time, or how long ago.
fn moment(text: &str) -> Result<Timestamp, String> {
    if let Ok(Span(span)) = Span::parse(text) {
        let ago = i64::try_from(span.as_millis()).unwrap_or(i64::MAX);
        return Ok(Timestamp::from_millis(Timestamp::now().as_millis().saturating_sub(ago)));
    }
    let time = text.parse().or_else(|_| format!("{text}T00:00:00Z").parse::<jiff::Timestamp>());
    time.map(|time| Timestamp::from_millis(time.as_millisecond()))
        .map_err(|_| "write 2h, 7d, 2026-11-01 or 2026-11-01T12:00:00Z".to_owned())
}

fn verify(asked: Asked<'_>) -> Result<ExitCode, String> {
    let since = Instant::now();
    let report = asked.verify()?;
    if let Some((first, last)) = report.export {
        out::line(&format!("EXPORT of records {} to {}", grouped(first), grouped(last)));
    }
    let (from, to) = (day(&report.times.0), day(&report.times.1));
    let line = |what: &str, text: String| out::line(&format!("{what:<12} {text}"));
    line("segments", format!("{} ({from} … {to})", grouped(report.segments as u64)));
    let (first, last) = (grouped(report.first), grouped(report.last));
    line("records", format!("{} (number {first} to {last})", grouped(report.records)));
    line("checkpoints", format!("{} signed", grouped(report.checkpoints as u64)));
    for (what, text) in keys_of(&report) {
        line(what, text);
    }
    line("tail", tail_of(&report));
    if asked.against.is_some() {
        line("copies", copies_of(&report));
    }
    let took = format!("({:.1} s)", since.elapsed().as_secs_f64());
    if report.is_good() && report.torn_bytes > 0 {
        line("TORN TAIL", format!("{took} all before it is VERIFIED; the next start takes it up"));
        return Ok(ExitCode::from(TEMPORARY));
    }
    if report.is_good() {
        line("VERIFIED", took);
        return Ok(ExitCode::SUCCESS);
    }
    out::line("TAMPERED");
    for finding in &report.findings {
        let verify::Finding { record, about, problem } = finding;
        let about = if about.is_empty() { String::new() } else { format!(" ({about})") };
        out::line(&format!("  record {}{about}: {problem}", grouped(*record)));
    }
    Ok(ExitCode::from(TAMPERED))
}

/// Who is believed, and why.
fn keys_of(report: &verify::Report) -> Vec<(&'static str, String)> {
    let Some(own) = &report.own_key else {
        return vec![("keys", format!("{}, from {}", report.keys.join(", "), report.keys_from))];
    };
    let others = report.other_keys.iter().map(|(key, count)| {
        let count = many(*count, "checkpoint");
        ("other keys", format!("{key} signed {count}: only right where the key was replaced"))
    });
    let own = ("key", format!("{own}, from audit.checkpoint.key"));
    [own].into_iter().chain(others).collect()
}

/// What came of the copies.
fn copies_of(report: &verify::Report) -> String {
    let counts = [
        (report.copies, "agree"),
        (report.later, "of later records"),
        (report.others, "of other logs"),
    ];
    let said = counts.iter().filter(|(count, what)| *count > 0 || *what == "agree");
    let said: Vec<_> = said.map(|(count, what)| format!("{} {what}", grouped(*count))).collect();
    said.join(", ")
}

/// How far the log is sealed.
fn tail_of(report: &verify::Report) -> String {
    let sealed = match &report.sealed {
        Some((size, time)) => {
            format!("the last checkpoint, of {time}, covers record {}", grouped(*size))
        }
        None => "no checkpoint covers it".to_owned(),
    };
    let newer = match report.unanchored() {
        0 => String::new(),
        count => format!("; {} newer", grouped(count)),
    };
    let torn = match report.torn_bytes {
        0 => String::new(),
        bytes => format!("; {} bytes at the end were not written whole", grouped(bytes)),
    };
    format!("{sealed}{newer}{torn}")
}

/// Digits in groups of three, with a narrow space between that does not break.
fn grouped(number: u64) -> String {
    match number / 1000 {
        0 => number.to_string(),
        thousands => format!("{}\u{202f}{:03}", grouped(thousands), number % 1000),
    }
}

fn day(time: &str) -> &str {
    time.split('T').next().unwrap_or_default()
}

fn export(dir: &Path, out: &Path, during: &During) -> Result<ExitCode, String> {
    let During { since, until } = *during;
    let export::Summary { first, last, checkpoints } = export::export(dir, out, since, until)?;
    let (first, last, place) = (grouped(first), grouped(last), out.display());
    let checkpoints = many(checkpoints, "checkpoint");
    out::line(&format!("records {first} to {last} and {checkpoints} are in {place}"));
    out::say(&format!("to verify them with nothing but Python: python3 {place}/verify.py"));
    Ok(ExitCode::SUCCESS)
}

fn list(dir: &Path, filter: &Filter) -> io::Result<ExitCode> {
    let segments = Segments::of(dir)?;
    let printer = Printer::new(filter);
    segments.each(segments.at(filter.during.since)?, |frame, line| {
        if let Some(record) = printer.wants(frame, line) {
            printer.print(line, &record);
        }
        Ok(true)
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Follows the live segment, and the next one when that is closed. Ends when it is interrupted, or nobody reads along.
fn tail(dir: &Path, filter: &Filter) -> io::Result<ExitCode> {
    let printer = Printer::new(filter);
    let (mut before, mut follow) = (Vec::new(), true);
    let mut place = (Segments::of(dir)?.firsts().next_back().unwrap_or(1), 0);
    loop {
        let segments = Segments::of(dir)?;
        let mut lines = segments.open(place.0, place.1)?;
        let from = place.1;
        while lines.advance()? == Piece::Line {
            place.1 = from + lines.end();
            let frame = Frame::parse(lines.bytes());
            if let Some(record) = frame.and_then(|frame| printer.wants(&frame, lines.bytes())) {
                before.push((lines.bytes().to_vec(), record));
            }
        }
        let skip = if follow { before.len().saturating_sub(TAIL_RECORDS) } else { 0 };
        before.drain(skip..).for_each(|(line, record)| printer.print(&line, &record));
        before.clear();
        follow = false;
        match segments.firsts().find(|first| *first > place.0) {
            Some(next) => place = (next, 0),
            None => std::thread::sleep(TAIL_EVERY),
        }
    }
}

fn show(dir: &Path, id: &str, json: bool) -> io::Result<ExitCode> {
    let found = about(dir, id, |line| {
        if json {
            out::line(line);
        }
    })?;
    let Some(first) = found.first() else {
        return Ok(out::fail(NOT_FOUND, &format!("nothing on record about `{id}`")));
    };
    if !json {
        story(found.iter().find(|record| record.get("event_id").is_some()).unwrap_or(first));
        for record in &found {
            out::line(&format!("  {}", step(record)));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Chooses records and prints them: aligned for people, in full and with tabs between for other programs.
struct Printer<'a> {
    filter: &'a Filter,
    types: Option<Patterns>,
    aligned: bool,
}

impl<'a> Printer<'a> {
    fn new(filter: &'a Filter) -> Self {
        let types = (!filter.types.is_empty()).then(|| Patterns::parse(&filter.types));
        Self { filter, types, aligned: io::stdout().is_terminal() }
    }

    fn wants(&self, frame: &Frame<'_>, line: &[u8]) -> Option<Value> {
        let Filter { source, outcome, during: During { since, until }, .. } = self.filter;
        let time = frame.time()?;
        if since.is_some_and(|since| time < since) || until.is_some_and(|until| time >= until) {
            return None;
        }
        let record: Value = serde_json::from_slice(line).ok()?;
        let fits = source.as_ref().is_none_or(|source| text(&record, "source") == *source)
            && outcome.as_ref().is_none_or(|outcome| text(&record, "outcome") == *outcome)
            && self.types.as_ref().is_none_or(|types| {
                let kind = kind(&record);
                !kind.is_empty() && types.take(&kind)
            });
        fits.then_some(record)
    }

    fn print(&self, line: &[u8], record: &Value) {
        if self.filter.json {
            return out::line(&String::from_utf8_lossy(line));
        }
        let get = |key| text(record, key);
        let (kind, id) = (kind(record), get("provider_id"));
        let row = [get("ts"), get("kind"), get("source"), kind, id, result(record)];
        let [time, what, source, kind, id, result] = &row;
        if self.aligned {
            let who = format!("{time}  {what:<9}  {source:<10}  {kind:<26}  {id:<30}");
            out::line(&format!("{who}  {result}"));
        } else {
            out::line(&row.join("\t"));
        }
    }
}
