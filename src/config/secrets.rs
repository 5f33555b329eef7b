//! Reads secrets from where the configuration says they are, and refuses what cannot be meant as one.

use std::{
    fs,
    io::Read as _,
    os::unix::fs::MetadataExt as _,
    path::{Path as FilePath, PathBuf},
};

use super::{
    SecretOrigin,
    file::{SecretForm, SecretPlace},
    report::{Explain as _, Problem},
    scalar,
    subst::{self, Env, SubstError},
    tree::Mark,
};
use crate::{event::Timestamp, secret::Secret};

/// How secrets are read.
pub(crate) struct Reading<'a> {
    /// The environment.
    pub(crate) env: &'a Env,
    /// Nothing is read.
    pub(crate) offline: bool,
    /// Now: what has expired?
    pub(crate) now: Timestamp,
    /// Whether users other than owner and group may read the configuration file.
    pub(crate) exposed: bool,
}

/// Larger than any key, smaller than a mistake such as a log file.
const FILE_BYTES_MAX: u64 = 64 * 1024;
/// Shorter secrets can be guessed.
const BYTES_MIN: usize = 16;

type Read<T> = Result<T, Box<Problem>>;

impl Reading<'_> {
    /// Reads one secret that stands at `mark`; `None` where nothing is to be read. Warnings go to `problems`.
    pub(crate) fn read(
        &self,
        form: &SecretForm,
        name: &str,
        mark: Mark,
        problems: &mut Vec<Problem>,
    ) -> Option<SecretOrigin> {
        let result = self.find(form, mark, problems).and_then(|(bytes, origin)| {
            let expires = expiry(form, mark)?;
            let bytes = bytes.map(|bytes| checked(bytes, mark, problems)).transpose()?;
            let (name, secret) = (name.to_owned(), bytes.map(Secret::new));
            Ok(SecretOrigin { name, secret, origin, expires, mark })
        });
        let found = result.map_err(|problem| problems.push(*problem)).ok()?;
        if found.expires.is_some_and(|expires| expires <= self.now) {
            let expired = format!("secret {name} has expired and is not accepted any more");
            problems.push(Problem::warning("secret-expired", mark, expired).help("remove it"));
        }
        Some(found)
    }

    /// The bytes (none when offline) and where they are from, in words.
    fn find(
        &self,
        form: &SecretForm,
        mark: Mark,
        problems: &mut Vec<Problem>,
    ) -> Read<(Option<Vec<u8>>, String)> {
        let SecretPlace { env, file, credential, .. } = match form {
            SecretForm::Text(text) => return self.text(&text.0.0, mark, problems),
            SecretForm::Place(place) => place,
        };
        match (env, file, credential) {
            (Some(name), None, None) => {
                Ok((self.unless_offline(|| self.variable(name, mark))?, format!("env {name}")))
            }
            (None, Some(file), None) => {
                let path = subst::expand(file, self.env)
                    .map_err(|error| scalar::not_expanded(&error, mark, self.env))?;
                let bytes = self.unless_offline(|| file_bytes(FilePath::new(&path), mark))?;
                Ok((bytes, format!("file {path}")))
            }
            (None, None, Some(name)) => {
                let read = || file_bytes(&self.credential(name, mark)?, mark);
                Ok((self.unless_offline(read)?, format!("credential {name}")))
            }
            _ => {
                let message = "a secret is in exactly one place";
                let problem = Problem::error("secret-place", mark, message);
                Err(problem.label("say one of `env`, `file`, `credential`").into())
            }
        }
    }

    fn unless_offline(&self, read: impl FnOnce() -> Read<Vec<u8>>) -> Read<Option<Vec<u8>>> {
        if self.offline { Ok(None) } else { read().map(Some) }
    }

    /// A reference, or the secret itself.
    fn text(
        &self,
        text: &str,
        mark: Mark,
        problems: &mut Vec<Problem>,
    ) -> Read<(Option<Vec<u8>>, String)> {
        if let Some(name) = subst::reference(text) {
            let bytes = self.unless_offline(|| self.completed(text, mark))?;
            return Ok((bytes, format!("env {name}")));
        }
        let literal = "this secret is written in the configuration";
        let help = "use `${NAME}`, `{ env: NAME }`, `{ file: PATH }` or `{ credential: NAME }`";
        problems.push(if self.exposed {
            let message = format!("{literal}, which every user may read");
            Problem::error("secret-exposed", mark, message)
                .help(help)
                .help("or take the file from others: `chmod o-r`")
        } else {
            Problem::warning("secret-literal", mark, literal).help(help)
        });
        let unknown = text.contains("${") && self.offline;
        let bytes = if unknown { None } else { Some(self.completed(text, mark)?) };
        Ok((bytes, "literal".into()))
    }

    fn completed(&self, text: &str, mark: Mark) -> Read<Vec<u8>> {
        subst::expand(text, self.env).map(String::into_bytes).map_err(|error| match error {
            SubstError::Unset(name, None) => Box::new(self.unset(&name, mark)),
            other => Box::new(scalar::not_expanded(&other.without_text(), mark, self.env)),
        })
    }

    fn variable(&self, name: &str, mark: Mark) -> Read<Vec<u8>> {
        let value = self.env.value(name).map(|value| value.as_bytes().to_vec());
        value.ok_or_else(|| Box::new(self.unset(name, mark)))
    }

    fn unset(&self, name: &str, mark: Mark) -> Problem {
        let file =
            format!("/run/secrets/{}", name.split('_').next().unwrap_or_default().to_lowercase());
        let problem =
            Problem::error("env-unset", mark, format!("environment variable `{name}` is not set"));
        let problem = problem.help(format!(
            "set it, use `{{ file: {file} }}`, or run `gatepost check --offline` to skip secrets"
        ));
        scalar::with_similar(problem, name, self.env)
    }

    fn credential(&self, name: &str, mark: Mark) -> Read<PathBuf> {
        if name.is_empty() || name.contains('/') || name.starts_with('.') {
            let message = "a credential has a plain name";
            return Err(Problem::error("secret-place", mark, message).into());
        }
        let dir = self.env.value("CREDENTIALS_DIRECTORY").ok_or_else(|| {
            let message = "there are no systemd credentials: CREDENTIALS_DIRECTORY is not set";
            let help =
                format!("add `LoadCredential={name}:PATH` to the unit, or use `{{ file: PATH }}`");
            Problem::error("credential", mark, message).help(help)
        })?;
        Ok(FilePath::new(dir).join(name))
    }
}

/// Reads a secret's file; says who may read it where we may not.
fn file_bytes(path: &FilePath, mark: Mark) -> Read<Vec<u8>> {
    let refused = |why: String| {
        Box::new(Problem::error("secret-file", mark, format!("`{}` {why}", path.display())))
    };
    let mut bytes = Vec::new();
    let read =
        fs::File::open(path).and_then(|f| f.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes));
    if let Err(error) = read {
        let problem = *refused(format!("cannot be read: {}", plain_error(&error)));
        let meta = fs::metadata(path).ok().zip(fs::metadata("/proc/self").ok());
        let owner = meta.map(|(file, us)| {
            let (uid, mode) = (file.uid(), file.mode() & 0o7777);
            format!("it belongs to uid {uid}, mode {mode:04o}; we are uid {}", us.uid())
        });
        return Err(owner.into_iter().fold(problem, Problem::note).into());
    }
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(refused("is too large for a secret".into()));
    }
    if bytes.ends_with(b"\n") {
        bytes.pop();
    }
    Ok(bytes)
}

fn plain_error(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_lowercase()
}

/// Refuses what cannot be meant as a secret. Never says more about it than its length.
fn checked(bytes: Vec<u8>, mark: Mark, problems: &mut Vec<Problem>) -> Read<Vec<u8>> {
    let refused =
        |why: &str| Err(Problem::error("secret-shape", mark, format!("this secret {why}")).into());
    if bytes.is_empty() {
        return refused("is empty");
    }
    if bytes.contains(&0) {
        return refused("holds a NUL byte");
    }
    if bytes.trim_ascii().len() != bytes.len() {
        return refused("begins or ends with white space");
    }
    if bytes.len() < BYTES_MIN {
        let message = format!("this secret has only {} bytes", bytes.len());
        let weak = Problem::warning("secret-weak", mark, message);
        problems.push(weak.help(format!("use at least {BYTES_MIN} random bytes")));
    }
    Ok(bytes)
}

/// From when on a secret is not accepted: a date (its first moment, UTC) or a time.
fn expiry(form: &SecretForm, mark: Mark) -> Read<Option<Timestamp>> {
    let SecretForm::Place(SecretPlace { expires: Some(text), .. }) = form else { return Ok(None) };
    let time = text.parse::<jiff::Timestamp>().ok();
    let time = time.or_else(|| format!("{text}T00:00:00Z").parse().ok());
    let time = time.ok_or_else(|| {
        let message = format!("`{}` is not a date or a time", scalar::clip(text));
        Problem::error("bad-value", mark, message)
            .label("`expires` is RFC 3339: `2026-12-15` or `2026-12-15T12:00:00Z`")
    })?;
    Ok(Some(Timestamp::from_millis(time.as_millisecond())))
}
