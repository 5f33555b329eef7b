//! `gatepost verify`: the signature doctor.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use serde_json::{Value, json};

use super::{NO, NOT_FOUND, OK, config::load, out, read, records};
use crate::{
    config::{Config, Source},
    doctor::{
        self, Diagnosis, Raw,
        vectors::{Disagreement, Schemes, Tally},
    },
    event::{Digest, Timestamp},
};

/// Explain why a signature does or does not match
///
/// Examples:
///   gatepost verify request.txt                      headers, an empty line, the body
///   gatepost send stripe --show-request | gatepost verify -
///   gatepost verify RECEIPT                          what the record says of a request
///   gatepost verify RECEIPT --request request.txt
///   gatepost verify --vectors tests/*.json           requests with the verdict that they must get
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Args {
    /// A file with the request as text (`-`: standard input), or a receipt (`req_…`) that is on record
    #[arg(required_unless_present = "vectors")]
    request: Option<String>,
    /// Files of vectors, which bring their own time, secrets and keys; needs no configuration
    #[arg(long, value_name = "FILE", num_args = 1.., conflicts_with_all = ["request", "source", "file", "at"])]
    vectors: Vec<PathBuf>,
    /// The source that it is for. Default: the one at the path of its request line, or the only one
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
    /// The request itself, where it is named by its receipt
    #[arg(long = "request", value_name = "FILE")]
    file: Option<PathBuf>,
    /// When it came (RFC 3339). Default: now, or what the record says
    #[arg(long, value_name = "TIME")]
    at: Option<jiff::Timestamp>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What is known of a request before its bytes are looked at.
#[derive(Debug, Default)]
struct Known {
    /// Its record.
    record: Option<Value>,
    source: Option<String>,
    at: Option<Timestamp>,
}

impl Args {
    pub(super) fn run(&self, file: Option<&Path>) -> ExitCode {
        let Some(request) = &self.request else { return vectors(&self.vectors, self.json) };
        let config = match load(file, false) {
            Ok(loaded) => loaded.config,
            Err(code) => return code,
        };
        self.answer(&config, request).unwrap_or_else(|(code, why)| out::fail(code, &why))
    }

    fn answer(&self, config: &Config, request: &str) -> Result<ExitCode, (u8, String)> {
        let (known, file) = if request.starts_with("req_") {
            (Self::recorded(config, request)?, self.file.clone())
        } else {
            (Known::default(), Some(request.into()))
        };
        let Some(file) = file else {
            self.story(&known);
            return Ok(ExitCode::SUCCESS);
        };
        let text = read(&file).map_err(|e| (NO, format!("{}: {e}", file.display())))?;
        let raw = Raw::parse(&text).map_err(|why| (NO, format!("{}: {why}", file.display())))?;
        let source = self.source(config, &known, &raw)?;
        let at = self.at.map(|at| Timestamp::from_millis(at.as_millisecond())).or(known.at);
        let digest = Digest::of(&raw.body).to_string();
        let at = at.unwrap_or_else(Timestamp::now);
        let mut diagnosis = doctor::examine(&config.sources, source, raw, at);
        if let Some(came) = known.record.as_ref().map(|record| records::text(record, "digest"))
            && !came.is_empty()
            && came != digest
        {
            let other = "is not the one that came: the record has another digest";
            diagnosis.findings.insert(0, ("body".to_owned(), other.to_owned()));
        }
        if !self.json && known.record.is_some() {
            self.story(&known);
        }
        self.print(source, at, &diagnosis);
        Ok(ExitCode::from(if diagnosis.holds { OK } else { NO }))
    }

    /// What the record has about a receipt.
    fn recorded(config: &Config, receipt: &str) -> Result<Known, (u8, String)> {
        let found = records::about(&config.audit.dir, receipt, |_| {});
        let found = found.map_err(|e| (NO, format!("{}: {e}", config.audit.dir.display())))?;
        let Some(record) = found.into_iter().next_back() else {
            let why = format!(
                "nothing on record about `{receipt}`; of refused requests only a sample is kept"
            );
            return Err((NOT_FOUND, why));
        };
        let time = records::text(&record, "ts").parse().ok();
        let at = time.map(|at: jiff::Timestamp| Timestamp::from_millis(at.as_millisecond()));
        Ok(Known { source: Some(records::text(&record, "source")), at, record: Some(record) })
    }

    /// Prints what the record says of a request.
    fn story(&self, known: &Known) {
        let Some(record) = &known.record else { return };
        let get = |key| records::text(record, key);
        let why = doctor::explain(&get("reason"));
        if self.json {
            return out::line(&format!("{:#}", json!({ "record": record, "verdict": why })));
        }
        out::line(&format!("{}  {}  {}", get("source"), get("ts"), records::result(record)));
        out::line(&format!("=> {why}"));
        if self.file.is_none() {
            out::line(
                "   A record holds no body: for more, `--request FILE` with the request as text.",
            );
        }
    }

    fn source<'c>(
        &self,
        config: &'c Config,
        known: &Known,
        raw: &Raw,
    ) -> Result<&'c Source, (u8, String)> {
        let find = |name: &str| config.sources.iter().find(|s| s.name.as_str() == name);
        let known_names = || {
            let all: Vec<_> = config.sources.iter().map(|s| s.name.as_str()).collect();
            all.join(", ")
        };
        if let Some(name) = self.source.as_ref().or(known.source.as_ref()) {
            return find(name).ok_or_else(|| {
                (NOT_FOUND, format!("no source {name:?}; there are {}", known_names()))
            });
        }
        let at_path = config.sources.iter().find(|source| source.path == raw.path());
        let only = config.sources.first().filter(|_| config.sources.len() == 1);
        at_path.or(only).ok_or_else(|| {
            let why =
                format!("which source is it for? Say `--source NAME`; there are {}", known_names());
            (NO, why)
        })
    }

    fn print(&self, source: &Source, at: Timestamp, diagnosis: &Diagnosis) {
        if self.json {
            return out::line(&format!("{:#}", as_json(source, at, diagnosis)));
        }
        let scheme = diagnosis.scheme.iter().map(|scheme| format!(", scheme {scheme}"));
        let scheme = scheme.collect::<String>();
        out::line(&format!("source {} ({}), received {at}{scheme}", source.name, source.provider));
        let found = diagnosis.findings.iter().map(|(what, _)| what.len());
        let tried = diagnosis.tried.iter().map(|(what, _)| what.len() + 2);
        let width = found.chain(tried).max().unwrap_or(0);
        for (what, how) in &diagnosis.findings {
            out::line(&format!("  {what:<width$}  {how}"));
        }
        if !diagnosis.tried.is_empty() {
            out::line("  tried, in case:");
        }
        for (what, is_it) in &diagnosis.tried {
            let how = if *is_it { "MATCH" } else { "no match" };
            out::line(&format!("    {what:<0$}  {how}", width.saturating_sub(2)));
        }
        out::line(&format!("=> {}", diagnosis.verdict));
    }
}

/// Checks files of vectors: 1 where one does not agree, or where its provider is unknown.
fn vectors(files: &[PathBuf], json: bool) -> ExitCode {
    let (mut agree, mut told) = (true, Vec::new());
    for path in files {
        let file = path.display();
        let tally = match tally(path) {
            Ok(tally) => tally,
            Err(why) => return out::fail(NO, &format!("{file}: {why}")),
        };
        agree &= tally.disagreements.is_empty() && tally.unknown.is_empty();
        if json {
            told.push(tally_as_json(path, &tally));
            continue;
        }
        for Disagreement { vector, expected, got } in &tally.disagreements {
            out::line(&format!("{file}  {vector}\n  expected  {expected}\n  got       {got}"));
        }
        for (provider, count) in &tally.unknown {
            out::line(&format!(
                "{file}  {provider}: no such preset or scheme, {count} not checked"
            ));
        }
        let (agreed, not) = (tally.agreed, tally.disagreements.len());
        out::line(&format!("{file}: {agreed} agree, {not} do not"));
    }
    if json {
        out::line(&format!("{:#}", Value::Array(told)));
    }
    ExitCode::from(if agree { OK } else { NO })
}

/// Checks the vectors of a file, whose name without its ending is their provider where they name none. Schemes of senders without a
/// preset stand beside it.
fn tally(path: &Path) -> Result<Tally, String> {
    let text = std::fs::read_to_string(path).map_err(|e| e.to_string())?;
    let vectors = doctor::vectors::read(&text)?;
    let schemes = match std::fs::read_to_string(path.with_file_name(SCHEMES)) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Schemes::default(),
        text => {
            let text = text.map_err(|e| format!("{SCHEMES}: {e}"))?;
            serde_yaml::from_str(&text).map_err(|e| format!("{SCHEMES}: {e}"))?
        }
    };
    let called = path.file_stem().unwrap_or_default().to_string_lossy();
    doctor::vectors::check(&vectors, &called, &schemes)
}

/// What the file is called that has the schemes of vectors beside it.
const SCHEMES: &str = "schemes.yaml";

fn tally_as_json(path: &Path, tally: &Tally) -> Value {
    let each = tally.disagreements.iter();
    let disagreements = each.map(|Disagreement { vector, expected, got }| {
        json!({ "vector": vector, "expected": expected, "got": got })
    });
    json!({
        "file": path,
        "agreed": tally.agreed,
        "disagreements": disagreements.collect::<Vec<_>>(),
        "unknown": tally.unknown,
    })
}

fn as_json(source: &Source, at: Timestamp, diagnosis: &Diagnosis) -> Value {
    let findings =
        diagnosis.findings.iter().map(|(what, how)| json!({ "what": what, "found": how }));
    let tried = diagnosis.tried.iter().map(|(what, is)| json!({ "what": what, "match": is }));
    json!({
        "source": source.name.as_str(),
        "received": at.to_string(),
        "scheme": diagnosis.scheme,
        "holds": diagnosis.holds,
        "reason": diagnosis.reason,
        "findings": findings.collect::<Vec<_>>(),
        "tried": tried.collect::<Vec<_>>(),
        "verdict": diagnosis.verdict,
    })
}
