//! Printing. A closed pipe ends the program quietly, as it does for other tools.

use std::{
    io::{self, ErrorKind, Write as _},
    process::ExitCode,
};

/// A line of data, on standard output.
pub(crate) fn line(text: &str) {
    let mut out = io::stdout().lock();
    settle(writeln!(out, "{text}").and_then(|()| out.flush()));
}

/// A line of talk, on standard error.
pub(crate) fn say(text: &str) {
    settle(writeln!(io::stderr().lock(), "{text}"));
}

/// Says what went wrong and ends with `code`.
pub(crate) fn fail(code: u8, text: &str) -> ExitCode {
    say(&format!("error: {text}"));
    ExitCode::from(code)
}

#[expect(clippy::exit, reason = "whoever read our output has gone; there is nobody to tell")]
fn settle(written: io::Result<()>) {
    if let Err(error) = written
        && error.kind() == ErrorKind::BrokenPipe
    {
        std::process::exit(0);
    }
}

/// Whether a person reads along.
pub(crate) fn is_terminal() -> bool {
    io::IsTerminal::is_terminal(&io::stderr())
}

/// Whether talk may be coloured: on a terminal, unless `NO_COLOR` is set.
pub(crate) fn colour() -> bool {
    is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}
