//! Log lines: JSON unless on a terminal, one wide line per request, capped where strangers cause them.

use std::{
    fmt::{self, Write as _},
    io::{self, IsTerminal as _},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use tracing::{Event, Subscriber, field::Field};
use tracing_subscriber::{
    EnvFilter,
    fmt::{FmtContext, FormatEvent, FormatFields, format::Writer},
    registry::LookupSpan,
};

use crate::{event::Timestamp, units::choices};

/// Lets so many through per second, and counts the rest.
#[derive(Debug)]
pub(crate) struct Sampler {
    per_second: u64,
    window: Mutex<Window>,
}

#[derive(Debug)]
struct Window {
    since: Instant,
    taken: u64,
    suppressed: u64,
}

impl Sampler {
    pub(crate) fn new(per_second: u64) -> Self {
        let window = Window { since: Instant::now(), taken: 0, suppressed: 0 };
        Self { per_second, window: Mutex::new(window) }
    }

    /// `Some` to go ahead, with the number of those left out since the last one that went ahead.
    pub(crate) fn take(&self, now: Instant) -> Option<u64> {
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        if now.saturating_duration_since(window.since) >= Duration::from_secs(1) {
            window.since = now;
            window.taken = 0;
        }
        if window.taken >= self.per_second {
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

/// Starts logging to standard error. `filter` is in `tracing`'s syntax: `info`, `gatepost=debug`.
pub(crate) fn start_logging(filter: &str, format: LogFormat) -> Result<(), String> {
    let filter = EnvFilter::try_new(filter).map_err(|e| format!("log level {filter:?}: {e}"))?;
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
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
    started.map_err(|e| e.to_string())
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
