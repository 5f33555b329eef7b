//! Reads secrets from where the configuration says they are, and refuses what cannot be meant as one.

use std::{
    fs,
    io::Read as _,
    os::unix::fs::MetadataExt as _,
    path::{Path as FilePath, PathBuf},
};

use super::{
    SecretOrigin,
    compile::Ground,
    file::{SecretForm, SecretPlace},
    report::{Explain as _, Problem},
    scalar,
    subst::{self, SubstError},
    tree::Mark,
};
use crate::{event::Timestamp, secret::Secret};

/// Larger than any key, smaller than a mistake such as a log file.
const FILE_BYTES_MAX: u64 = 64 * 1024;
/// Shorter secrets can be guessed.
const BYTES_MIN: usize = 16;

type Read<T> = Result<T, Box<Problem>>;

/// How keys begin that anybody may know.
const PUBLIC: [&str; 4] = [
    "-----BEGIN PUBLIC KEY-----",
    "-----BEGIN RSA PUBLIC KEY-----",
    "-----BEGIN CERTIFICATE-----",
    "whpk_",
];

impl Ground<'_> {
    /// Reads one secret that stands at `mark`; `None` where there is something wrong with it.
    pub(crate) fn secret(
        &mut self,
        form: &SecretForm,
        name: &str,
        mark: Mark,
    ) -> Option<SecretOrigin> {
        let found = self.read(form, name, mark);
        let found = found.map_err(|problem| self.problems.push(*problem)).ok()?;
        if found.expires.is_some_and(|expires| expires <= self.options.now) {
            let expired = format!("secret {name} has expired and is not accepted any more");
            self.warn("secret-expired", &mark, expired).help("remove it");
        }
        Some(found)
    }

    fn read(&mut self, form: &SecretForm, name: &str, mark: Mark) -> Read<SecretOrigin> {
        let (bytes, origin) = match form {
            SecretForm::Text(text) => self.text(&text.0.0, mark)?,
            SecretForm::Place(place) => self.place(place, mark)?,
        };
        let expires = expiry(form, mark)?;
        let bytes = bytes.map(|bytes| self.checked(bytes, mark)).transpose()?;
        let (name, secret) = (name.to_owned(), bytes.map(Secret::new));
        let id = match form {
            SecretForm::Place(place) => place.id.clone(),
            SecretForm::Text(_) => None,
        };
        Ok(SecretOrigin { name, secret, origin, expires, id, mark })
    }

    /// The bytes (none when offline) and where they are from, in words.
    fn place(&self, place: &SecretPlace, mark: Mark) -> Read<(Option<Vec<u8>>, String)> {
        match (&place.env, &place.file, &place.credential) {
            (Some(name), None, None) => {
                Ok((self.unless_offline(|| self.variable(name, mark))?, format!("env {name}")))
            }
            (None, Some(file), None) => {
                let path = subst::expand(file, &self.options.env)
                    .map_err(|error| scalar::not_expanded(&error, mark, &self.options.env))?;
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
        if self.options.offline { Ok(None) } else { read().map(Some) }
    }

    /// A reference, or the secret itself.
    fn text(&mut self, text: &str, mark: Mark) -> Read<(Option<Vec<u8>>, String)> {
        if let Some(name) = subst::reference(text) {
            let bytes = self.unless_offline(|| self.completed(text, mark))?;
            return Ok((bytes, format!("env {name}")));
        }
        // What says of itself that it is public is no secret.
        if PUBLIC.iter().any(|begin| text.trim_start().starts_with(begin)) {
            return Ok((Some(self.completed(text, mark)?), "literal".into()));
        }
        let literal = "this secret is written in the configuration";
        let help = "use `${NAME}`, `{ env: NAME }`, `{ file: PATH }` or `{ credential: NAME }`";
        if self.exposed {
            let message = format!("{literal}, which every user may read");
            let help_others = "or take the file from others: `chmod o-r`";
            self.error("secret-exposed", &mark, message).help(help).help(help_others);
        } else {
            self.warn("secret-literal", &mark, literal).help(help);
        }
        let unknown = text.contains("${") && self.options.offline;
        let bytes = if unknown { None } else { Some(self.completed(text, mark)?) };
        Ok((bytes, "literal".into()))
    }

    fn completed(&self, text: &str, mark: Mark) -> Read<Vec<u8>> {
        subst::expand(text, &self.options.env).map(String::into_bytes).map_err(
            |error| match error {
                SubstError::Unset(name, None) => Box::new(self.unset(&name, mark)),
                other => {
                    Box::new(scalar::not_expanded(&other.without_text(), mark, &self.options.env))
                }
            },
        )
    }

    fn variable(&self, name: &str, mark: Mark) -> Read<Vec<u8>> {
        let value = self.options.env.value(name).map(|value| value.as_bytes().to_vec());
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
        scalar::with_similar(problem, name, &self.options.env)
    }

    fn credential(&self, name: &str, mark: Mark) -> Read<PathBuf> {
        if name.is_empty() || name.contains('/') || name.starts_with('.') {
            let message = "a credential has a plain name";
            return Err(Problem::error("secret-place", mark, message).into());
        }
        let dir = self.options.env.value("CREDENTIALS_DIRECTORY").ok_or_else(|| {
            let message = "there are no systemd credentials: CREDENTIALS_DIRECTORY is not set";
            let help =
                format!("add `LoadCredential={name}:PATH` to the unit, or use `{{ file: PATH }}`");
            Problem::error("credential", mark, message).help(help)
        })?;
        Ok(FilePath::new(dir).join(name))
    }

    /// Refuses what cannot be meant as a secret. Never says more about it than its length.
    fn checked(&mut self, bytes: Vec<u8>, mark: Mark) -> Read<Vec<u8>> {
        let refused = |why: &str| {
            Err(Problem::error("secret-shape", mark, format!("this secret {why}")).into())
        };
        if bytes.is_empty() {
            return refused("is empty");
        }
        if bytes.contains(&0) {
            return refused("holds a NUL byte");
        }
        // The last line of a PEM ends, too, as a block of YAML does.
        let text = bytes.strip_suffix(b"\n").filter(|text| text.starts_with(b"-----BEGIN "));
        let text = text.unwrap_or(&bytes);
        if text.trim_ascii().len() != text.len() {
            return refused("begins or ends with white space");
        }
        if bytes.len() < BYTES_MIN {
            let message = format!("this secret has only {} bytes", bytes.len());
            let help = format!("use at least {BYTES_MIN} random bytes");
            self.warn("secret-weak", &mark, message).help(help);
        }
        Ok(bytes)
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
