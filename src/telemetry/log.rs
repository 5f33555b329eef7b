//! Log lines: JSON unless on a terminal, one wide line per request, capped where strangers cause them.

use std::{
    backtrace::{Backtrace, BacktraceStatus},
    collections::HashMap,
    fmt::{self, Write as _},
    io::{self, IsTerminal as _},
    panic,
    sync::{Arc, LazyLock, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use prometheus_client::metrics::counter::Counter;

use tracing::{Event, Subscriber, field::Field};
use tracing_subscriber::{
    EnvFilter,
    fmt::{FmtContext, FormatEvent, FormatFields, format::Writer},
    registry::LookupSpan,
};

use super::Lines;
use crate::{event::Timestamp, units::choices};

/// Log lines about refused requests, per source and second.
const REFUSED_LINES_PER_SECOND: u64 = 5;

/// Bytes of lines that may wait for who reads them.
const WAITING_BYTES_MAX: usize = 1 << 20;
/// How long the end waits for who reads the last lines.
const LAST_LINES_WAIT: Duration = Duration::from_secs(1);
/// How long a panic waits for who reads of it: it may be the end.
const PANIC_WAIT: Duration = Duration::from_millis(100);

/// The process's own, as its subscriber is.
static LINES: LazyLock<Lines> = LazyLock::new(|| Lines::new(WAITING_BYTES_MAX));

/// How many lines of the log were lost.
pub(super) fn lines_lost() -> Counter {
    LINES.lost()
}

/// Before the process ends: waits until its last lines are out, if somebody reads them.
pub(crate) fn finish_log() {
    LINES.drained(LAST_LINES_WAIT);
}

/// What is sampled of each source: one sampler for all threads.
#[derive(Debug, Default)]
pub(super) struct Samplers(Mutex<HashMap<String, Arc<Sampler>>>);

impl Samplers {
    pub(super) fn of(&self, source: &str) -> Arc<Sampler> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(all.entry(source.to_owned()).or_default())
    }
}

/// Lets so many through per second, and counts the rest.
#[derive(Debug)]
pub(crate) struct Sampler(Mutex<Window>);

#[derive(Debug)]
struct Window {
    since: Instant,
    taken: u64,
    suppressed: u64,
}

impl Default for Sampler {
    fn default() -> Self {
        Self(Mutex::new(Window { since: Instant::now(), taken: 0, suppressed: 0 }))
    }
}

impl Sampler {
    /// `Some` to go ahead, with the number of those left out since the last one that went ahead.
    pub(crate) fn take(&self, now: Instant) -> Option<u64> {
        self.take_of(REFUSED_LINES_PER_SECOND, now)
    }

    /// The same for another number per second.
    pub(crate) fn take_of(&self, per_second: u64, now: Instant) -> Option<u64> {
        let mut window = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if now.saturating_duration_since(window.since) >= Duration::from_secs(1) {
            window.since = now;
            window.taken = 0;
        }
        if window.taken >= per_second {
            window.suppressed += 1;
            return None;
        }
        window.taken += 1;
        Some(std::mem::take(&mut window.suppressed))
    }
}

choices! {
    /// How log lines look.
    pub enum LogFormat {
        /// Text on a terminal, JSON otherwise.
        Auto,
        /// Text.
        Text,
        /// JSON, a line each.
        Json,
    }
}

/// Starts logging to standard error. `filter` is in `tracing`'s syntax: `info`, `gatepost=debug`. Libraries that warn of what
/// a peer does, without end where the peer has none, are heard only by who debugs, or names them.
pub(crate) fn start_logging(filter: &str, format: LogFormat) -> Result<(), String> {
    let debugs = filter.split(',').any(|part| matches!(part.trim(), "debug" | "trace"));
    let libraries = if debugs { "" } else { "h2=error,rustls=error," };
    let whole = EnvFilter::try_new(format!("{libraries}{filter}"));
    let filter = whole.map_err(|e| format!("log level {filter:?}: {e}"))?;
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(|| &*LINES);
    let terminal = io::stderr().is_terminal();
    let json = match format {
        LogFormat::Auto => !terminal,
        LogFormat::Text => false,
        LogFormat::Json => true,
    };
    let started = if json {
        lines.event_format(JsonLines).try_init()
    } else {
        lines.compact().with_target(false).with_ansi(terminal).try_init()
    };
    started.map_err(|e| e.to_string())?;
    let thread = thread::Builder::new().name("log".into());
    thread.spawn(|| LINES.carry(io::stderr(), say_lost)).map_err(|e| e.to_string())?;
    panic::set_hook(Box::new(note_panic));
    Ok(())
}

/// It goes the way of all lines, after those that wait.
fn say_lost(lost: u64) {
    tracing::error!(
        kind = "log",
        lost,
        "lines of the log were lost: standard error could not be written"
    );
}

/// As Rust says it, where all lines go: a panic does not wait for a reader, either, or not for long.
fn note_panic(info: &panic::PanicHookInfo<'_>) {
    let (thread, backtrace) = (thread::current(), Backtrace::capture());
    let mut text = format!("\nthread '{}' {info}\n", thread.name().unwrap_or("<unnamed>"));
    if backtrace.status() == BacktraceStatus::Captured {
        writeln!(text, "stack backtrace:\n{backtrace}").ok(); // a String takes everything
    }
    LINES.push(text.as_bytes());
    LINES.drained(PANIC_WAIT);
}

/// `{"ts":…,"level":…,"msg":…,…}`: fields flat, absent ones absent, control characters escaped.
struct JsonLines;

impl<S, N> FormatEvent<S, N> for JsonLines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let level = event.metadata().level().as_str().to_ascii_lowercase();
        let mut line = format!(r#"{{"ts":"{}","level":"{level}""#, Timestamp::now());
        event.record(&mut Fields(&mut line));
        line.push('}');
        writeln!(writer, "{line}")
    }
}

/// Writes the fields of an event down as JSON.
struct Fields<'a>(&'a mut String);

impl Fields<'_> {
    fn put(&mut self, field: &Field, value: impl serde::Serialize) {
        let name = if field.name() == "message" { "msg" } else { field.name() };
        if let Ok(value) = serde_json::to_string(&value) {
            write!(self.0, r#","{name}":{value}"#).ok(); // a String takes everything
        }
    }
}

impl tracing::field::Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value);
    }
}
