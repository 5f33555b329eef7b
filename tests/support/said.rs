//! What this thread says in the process log while something runs.

#![allow(unreachable_pub, reason = "each of its users is a crate of its own")]

use std::{
    io,
    sync::{Arc, Mutex},
};

use tracing_subscriber::fmt::MakeWriter;

#[derive(Clone, Debug, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Lines {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

/// Warnings and errors, a line each.
pub fn said(run: impl FnOnce()) -> String {
    let lines = Lines::default();
    let log = tracing_subscriber::fmt().with_max_level(tracing::Level::WARN).with_ansi(false);
    let log = log.without_time().with_writer(lines.clone()).finish();
    tracing::subscriber::with_default(log, run);
    let said = lines.0.lock().unwrap();
    String::from_utf8(said.clone()).unwrap()
}
