//! `gatepost routes`: which route takes an event, and why not the others.

use std::{path::Path, process::ExitCode};

use super::{NO, NOT_FOUND, config::load, out};
use crate::{
    config::{Loaded, RouteOutline},
    route::{Explained, Judgement},
};

/// Lists routes, or follows an event through them.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// All routes, in the order in which they are tried
    List,
    /// Which route would take an event of this type
    Test {
        /// The source's name
        source: String,
        /// The event's type
        #[arg(value_name = "TYPE")]
        kind: String,
    },
}

impl Args {
    /// Prints; the exit code says whether some route takes the event.
    pub(super) fn run(&self, file: Option<&Path>) -> ExitCode {
        let loaded = match load(file, true) {
            Ok(loaded) => loaded,
            Err(code) => return code,
        };
        match &self.command {
            Command::List => {
                loaded.routes.iter().for_each(|route| out::line(&listed(route, &loaded)));
                ExitCode::SUCCESS
            }
            Command::Test { source, kind } => test(&loaded, source, kind),
        }
    }
}

fn listed(route: &RouteOutline, loaded: &Loaded) -> String {
    let RouteOutline { name, source, events, to, .. } = route;
    let (events, condition) = (quoted(events), condition(route));
    let to = to.as_deref().unwrap_or("(dropped)");
    format!("{source}  {events}{condition}  → {to}  {name} ({})", place(route, loaded))
}

fn test(loaded: &Loaded, name: &str, kind: &str) -> ExitCode {
    let sources = &loaded.config.sources;
    let Some(source) = sources.iter().find(|source| source.name.as_str() == name) else {
        let names: Vec<_> = sources.iter().map(|source| source.name.as_str()).collect();
        return out::fail(
            NOT_FOUND,
            &format!("no source `{name}`; there are {}", names.join(", ")),
        );
    };
    // What a value of the body decides is left open.
    let mut explained = source.routes.explain(kind, |_| None);
    // The answer first, then why not the others.
    explained.sort_by_key(|route| match route.judgement {
        Judgement::Takes(_) | Judgement::NotEqual(..) => 0,
        Judgement::NoMatch(_) | Judgement::Excluded(_) => 1,
        Judgement::Unreached => 2,
    });
    let answers = |route: &Explained<'_>| {
        matches!(route.judgement, Judgement::Takes(_) | Judgement::NotEqual(..))
    };
    let taken = explained.iter().any(answers);
    if !taken {
        let accepted = "answered 200 and recorded as ignored";
        let answer = if source.routes.reject_unrouted() { "answered 404" } else { accepted };
        out::line(&format!("no route takes `{kind}` of {name}: {answer}"));
    }
    for route in &explained {
        let outline = loaded.routes.iter().find(|outline| outline.name == route.route.as_str());
        out::line(&outline.map_or(String::new(), |outline| told(route, outline, loaded)));
    }
    if taken { ExitCode::SUCCESS } else { ExitCode::from(NO) }
}

/// What a route does with the event, and why.
fn told(route: &Explained<'_>, outline: &RouteOutline, loaded: &Loaded) -> String {
    let to = outline.to.as_deref().unwrap_or("(dropped)");
    let by = format!("{} ({})", outline.name, place(outline, loaded));
    match &route.judgement {
        Judgement::Takes(pattern) => format!("→ {to}  by {by}  pattern \"{pattern}\""),
        Judgement::NotEqual(..) => format!("→ {to}{}  by {by}", condition(outline)),
        Judgement::Excluded(pattern) => format!("not taken: {by}  \"!{pattern}\" excludes it"),
        Judgement::NoMatch(patterns) => {
            let verb = if patterns.len() == 1 { "does" } else { "do" };
            format!("not taken: {by}  {} {verb} not match", quoted(patterns))
        }
        Judgement::Unreached => format!("unreached: {by}"),
    }
}

fn condition(route: &RouteOutline) -> String {
    route.when.as_ref().map_or(String::new(), |(path, value)| format!("  if {path} is \"{value}\""))
}

fn place(route: &RouteOutline, loaded: &Loaded) -> String {
    format!("{}:{}:{}", loaded.warnings.file, route.line, route.column)
}

fn quoted(patterns: &[String]) -> String {
    patterns.iter().map(|pattern| format!("\"{pattern}\"")).collect::<Vec<_>>().join(", ")
}
