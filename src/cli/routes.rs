//! `gatepost routes`: which route takes an event, and why not the others.

use std::{path::Path, process::ExitCode};

use super::{NO, NOT_FOUND, config::load, out};
use crate::{
    config::{Loaded, RouteOutline},
    route::Patterns,
};

/// Lists routes, or follows an event through them.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
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

impl Command {
    /// Prints; the exit code says whether some route takes the event.
    pub(super) fn run(&self, file: Option<&Path>) -> ExitCode {
        let loaded = match load(file, true) {
            Ok(loaded) => loaded,
            Err(code) => return code,
        };
        match self {
            Self::List => {
                loaded.routes.iter().for_each(|route| out::line(&listed(route, &loaded)));
                ExitCode::SUCCESS
            }
            Self::Test { source, kind } => test(&loaded, source, kind),
        }
    }
}

fn listed(route: &RouteOutline, loaded: &Loaded) -> String {
    let RouteOutline { name, source, events, to, .. } = route;
    let (events, condition) = (quoted(events), condition(route));
    let to = to.as_deref().unwrap_or("(dropped)");
    format!(
        "{source}  {events}{condition}  → {to}  {name} ({})",
        route.mark.place(&loaded.warnings.file)
    )
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
    let mut routes = loaded.routes.iter().filter(|route| route.source == name);
    let (mut answers, mut refusals) = (Vec::new(), Vec::new());
    for route in routes.by_ref() {
        let by = format!("{} ({})", route.name, route.mark.place(&loaded.warnings.file));
        let pattern = match judge(route, kind) {
            Ok(pattern) => pattern,
            Err(why) => {
                refusals.push(format!("not taken: {by}  {why}"));
                continue;
            }
        };
        let to = route.to.as_deref().unwrap_or("(dropped)");
        if route.when.is_none() {
            answers.push(format!("→ {to}  by {by}  pattern \"{pattern}\""));
            break;
        }
        // A value of the body decides, so a later route may answer as well.
        answers.push(format!("→ {to}{}  by {by}", condition(route)));
    }
    let taken = !answers.is_empty();
    if !taken {
        let accepted = "answered 200 and recorded as ignored";
        let answer = if source.routes.reject_unrouted { "answered 404" } else { accepted };
        out::line(&format!("no route takes `{kind}` of {name}: {answer}"));
    }
    // The answer first, then why not the others.
    answers.iter().chain(&refusals).for_each(|line| out::line(line));
    for route in routes {
        out::line(&format!(
            "unreached: {} ({})",
            route.name,
            route.mark.place(&loaded.warnings.file)
        ));
    }
    if taken { ExitCode::SUCCESS } else { ExitCode::from(NO) }
}
/// The pattern by which a route takes a type, or why it does not.
fn judge(route: &RouteOutline, kind: &str) -> Result<String, String> {
    let patterns = Patterns::parse(&route.events);
    match (patterns.included_by(kind), patterns.excluded_by(kind)) {
        (Some(_), Some(excluding)) => Err(format!("\"!{excluding}\" excludes it")),
        (Some(pattern), None) => Ok(pattern.to_owned()),
        (None, _) => {
            let including: Vec<_> =
                route.events.iter().filter(|event| !event.starts_with('!')).cloned().collect();
            let verb = if including.len() == 1 { "does" } else { "do" };
            Err(format!("{} {verb} not match", quoted(&including)))
        }
    }
}

fn condition(route: &RouteOutline) -> String {
    route.when.as_ref().map_or(String::new(), |(path, value)| format!("  if {path} is \"{value}\""))
}

fn quoted(patterns: &[String]) -> String {
    patterns.iter().map(|pattern| format!("\"{pattern}\"")).collect::<Vec<_>>().join(", ")
}
