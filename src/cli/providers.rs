//! `gatepost providers`: the catalogue, and the secrets that providers send.

use std::{path::Path, process::ExitCode};

use serde_json::{Value, json};

use super::{NOT_FOUND, capture, out};
use crate::{
    config::suggest,
    providers::{self, Covers, Evidence, Fact, Field, MARKS, Preset},
};

/// Lists presets, or prints one.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// A table of all presets
    List {
        /// One document instead, for programs
        #[arg(long)]
        json: bool,
    },
    /// One preset as a source with `provider: custom`, to be copied and changed
    Show {
        /// The preset's name
        name: String,
    },
    Capture(capture::Capture),
}

impl Command {
    /// Prints.
    pub(super) fn run(&self, file: Option<&Path>) -> ExitCode {
        match self {
            Self::List { json: false } => list(),
            Self::List { json: true } => {
                let all: Vec<_> = providers::catalogue().map(as_json).collect();
                out::line(&format!("{:#}", Value::from(all)));
            }
            Self::Show { name } => match providers::preset(name) {
                Some(preset) => out::line(shown(preset).trim_end()),
                None => return out::fail(NOT_FOUND, &unknown(name)),
            },
            Self::Capture(args) => return args.run(file),
        }
        ExitCode::SUCCESS
    }
}

fn unknown(name: &str) -> String {
    let near = suggest::nearest(name, providers::names());
    let hint = near.map_or_else(String::new, |near| format!(" (did you mean {near:?}?)"));
    format!("no preset {name:?}{hint}; see `gatepost providers list`")
}

fn list() {
    let head = ["PROVIDER", "SCHEME", "COVERS", "CHALLENGE", "WAITS", "RETRIES", "KNOWN"];
    let mut rows = vec![head.map(String::from)];
    rows.extend(providers::catalogue().map(|preset| {
        let unsure = if preset.is_doubtful(Fact::Delivery) { "~" } else { "" };
        let waits = preset.delivery.deadline.map(|wait| format!("{wait}{unsure}"));
        let challenge = match preset.handshake.is_empty() {
            true => "-",
            false if preset.is_doubtful(Fact::Handshake) => "answered~",
            false => "answered",
        };
        [
            preset.name.clone(),
            few(&schemes(preset)),
            word(preset.covers).to_owned(),
            challenge.to_owned(),
            waits.unwrap_or_else(|| "?".into()),
            retries(preset) + unsure,
            preset.evidence.get(&Fact::Signature).map_or("-", |known| &known.marks).to_owned(),
        ]
    }));
    for line in aligned(&rows) {
        out::line(&line);
    }
    let marks = MARKS.iter().map(|(mark, meaning)| format!("\n  {mark}  {meaning}"));
    let marks: String = marks.collect();
    out::line(
        "\nCOVERS: what of a request the weakest of its schemes covers; `pin` takes one of several.",
    );
    out::line(&format!(
        "KNOWN: how we know the scheme; ~ elsewhere: from memory, at least in part.{marks}"
    ));
}

/// Rows as lines, each column as wide as the longest of its cells.
fn aligned<const N: usize>(rows: &[[String; N]]) -> Vec<String> {
    let widths: [usize; N] = std::array::from_fn(|column| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or_default()
    });
    let line = |row: &[String; N]| {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$} "));
        cells.collect::<String>().trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

fn retries(preset: &Preset) -> String {
    match (preset.delivery.retries, &preset.delivery.horizon) {
        (false, _) => "never".to_owned(),
        (true, Some(horizon)) => format!("for {horizon}"),
        (true, None) => "yes".to_owned(),
    }
}

fn word(covers: Covers) -> &'static str {
    match covers {
        Covers::Body => "body",
        Covers::Fields => "fields",
        Covers::Nothing => "nothing",
    }
}

/// Names in a cell: the first two, and how many more there are.
fn few(names: &[&str]) -> String {
    match names {
        [first, second, rest @ ..] if !rest.is_empty() => {
            format!("{first}, {second} +{}", rest.len())
        }
        names => names.join(", "),
    }
}

/// The algorithms of a preset, each once.
fn schemes(preset: &Preset) -> Vec<&'static str> {
    let verify = &preset.verify;
    let alternatives = verify.schemes.iter().map(|own| own.scheme.mac.or(verify.scheme.mac));
    let single = verify.schemes.is_empty().then_some(verify.scheme.mac);
    let all = alternatives.chain(single).map(|mac| mac.unwrap_or_default().as_str());
    let mut names: Vec<_> = all.collect();
    names.dedup();
    names
}

fn as_json(preset: &Preset) -> Value {
    let delivery = &preset.delivery;
    let millis = |span: crate::units::Span| u64::try_from(span.0.as_millis()).unwrap_or(u64::MAX);
    let evidence = preset.evidence.iter().map(|(fact, known)| {
        let Evidence { marks, source } = known;
        (fact_name(*fact).to_owned(), json!({ "marks": marks, "source": source }))
    });
    json!({
        "name": preset.name,
        "title": preset.title,
        "schemes": schemes(preset),
        "covers": preset.covers,
        "covers_event": preset.covers_event,
        "challenge": !preset.handshake.is_empty(),
        "deadline_ms": delivery.deadline.map(millis),
        "retries": delivery.retries,
        "max_body_bytes": preset.max_body.map(|size| size.0),
        "horizon_ms": delivery.horizon.map(millis),
        "evidence": Value::Object(evidence.collect()),
        "docs": preset.docs,
    })
}

fn fact_name(fact: Fact) -> &'static str {
    match fact {
        Fact::Signature => "signature",
        Fact::Time => "time",
        Fact::Event => "event",
        Fact::Handshake => "handshake",
        Fact::Answers => "answers",
        Fact::Delivery => "delivery",
        Fact::Secret => "secret",
        Fact::Types => "types",
        Fact::Body => "body",
        Fact::Trial => "trial",
    }
}

/// A preset as a source of its own below `sources:`, with what is known about its provider in front.
fn shown(preset: &Preset) -> String {
    let name = &preset.name;
    let mut lines = vec![format!("# {}", preset.title)];
    let about = about(preset);
    lines.extend(about.iter().flat_map(|line| wrap(line, 116)).map(|line| format!("# {line}")));
    lines.push(format!("# Below `sources:` this is what `provider: {name}` is:"));
    lines.push(format!("  {name}:\n    provider: custom"));
    let secret = format!("{}_WEBHOOK_SECRET", name.to_uppercase().replace('-', "_"));
    let found = preset.secret.found_at.as_ref().map_or(String::new(), |at| format!("   # {at}"));
    lines.push(match preset.secret_key() {
        Some(key) => format!("    {key}: ${{{secret}}}{found}"),
        None => format!(" {found}"),
    });
    if !preset.params.is_empty() {
        lines.push("    params:".to_owned());
    }
    lines.extend(preset.params.iter().map(|(key, param)| {
        let optional = if param.optional { " (optional)" } else { "" };
        format!("      {key}: {:?}   # {}{optional}", param.example, param.about)
    }));
    // A configuration file reads `$` as the beginning of a variable.
    lines.push(providers::source_of(name).unwrap_or_default().replace('$', "$$"));
    lines.join("\n")
}

/// What is known, a sentence a line.
fn about(preset: &Preset) -> Vec<String> {
    let mut lines: Vec<_> = preset.docs.iter().map(|link| format!("  {link}")).collect();
    let fields = preset.covers_event.iter().map(|field| match field {
        Field::Id => "id",
        Field::Type => "type",
        Field::Account => "account",
    });
    let fields: Vec<_> = fields.collect();
    let event = if fields.is_empty() { "nothing".to_owned() } else { fields.join(", ") };
    lines.push(format!("Signed: {} of the request; {event} of the event", word(preset.covers)));
    lines.push(match preset.max_body {
        Some(size) => format!("A body has {size} at most"),
        None => {
            "A body has 1MiB at most, as for every source; its provider's limit is not known".into()
        }
    });
    let delivery = &preset.delivery;
    let waits = delivery.deadline.map_or("a time that is not published".into(), |d| d.to_string());
    lines.push(format!("Waits: {waits}. Retries: {}", retries(preset)));
    let labelled = [
        ("Retried", &delivery.retried),
        ("Gives up", &delivery.disables),
        ("Delivery", &delivery.notes),
        ("Try it", &preset.trial),
    ];
    let said = labelled.iter().filter_map(|(label, text)| Some((*label, text.as_ref()?)));
    lines.extend(said.map(|(label, text)| format!("{label}: {text}")));
    if !preset.known_types.is_empty() {
        lines.push(format!("Types, among others: {}", preset.known_types.join(", ")));
    }
    let marks: Vec<char> = preset.evidence.values().flat_map(|known| known.marks.chars()).collect();
    let used = MARKS.iter().filter(|(mark, _)| marks.contains(mark));
    let used = used.map(|(mark, meaning)| format!("{mark} {meaning}"));
    lines.push(format!("Marks of evidence: {}", used.collect::<Vec<_>>().join("; ")));
    for (fact, known) in &preset.evidence {
        let doubt = if known.is_doubtful() { " (check this)" } else { "" };
        let (fact, Evidence { marks, source }) = (fact_name(*fact), known);
        lines.push(format!("Evidence of {fact}: {marks} {source}{doubt}"));
    }
    lines
}

fn wrap(line: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in line.split_inclusive(' ') {
        if let Some(last) = lines.last_mut()
            && last.len() + word.len() <= width
        {
            last.push_str(word);
        } else {
            lines.push(format!("  {word}"));
        }
    }
    lines.iter().map(|line| line.trim_end().to_owned()).collect()
}
