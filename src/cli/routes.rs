//! `gatepost routes`: which route takes an event, and why not the others.

use std::{path::Path, process::ExitCode};

use super::{NO, NOT_FOUND, config::load, out};
use crate::{
    config::{Loaded, RouteOutline},
    route::Patterns,
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
    let (name, source, events) = (&route.name, &route.source, quoted(&route.events));
    format!(
        "{source}  {events}{}  → {}  {name} ({})",
        condition(route),
        target(route),
        place(route, loaded)
    )
}

fn test(loaded: &Loaded, source: &str, kind: &str) -> ExitCode {
    let sources: Vec<_> = loaded.config.sources.iter().map(|source| source.name.as_str()).collect();
    if !sources.contains(&source) {
        return out::fail(
            NOT_FOUND,
            &format!("no source `{source}`; there are {}", sources.join(", ")),
        );
    }
    let mut routes = loaded.routes.iter().filter(|route| route.source == source);
    let (mut taken, mut lines) = (false, Vec::new());
    for route in routes.by_ref() {
        let at = place(route, loaded);
        let Some(pattern) = matching(route, kind) else {
            lines.push(format!("not taken: {} ({at})  {}", route.name, why_not(route, kind)));
            continue;
        };
        taken = true;
        let condition = condition(route);
        lines.push(format!("→ {}{condition}  by {} ({at})  {pattern}", target(route), route.name));
        if condition.is_empty() {
            break;
        }
    }
    // The answer first, then why not the others.
    lines.sort_by_key(|line| !line.starts_with('→'));
    lines.extend(
        routes.map(|route| format!("unreached: {} ({})", route.name, place(route, loaded))),
    );
    if !taken {
        lines.insert(
            0,
            format!("no route takes `{kind}` of {source}: {}", unrouted(loaded, source)),
        );
    }
    lines.iter().for_each(|line| out::line(line));
    if taken { ExitCode::SUCCESS } else { ExitCode::from(NO) }
}

/// The pattern by which a route takes a type.
fn matching(route: &RouteOutline, kind: &str) -> Option<String> {
    let patterns = Patterns::parse(&route.events);
    let pattern = patterns.included_by(kind).filter(|_| patterns.take(kind))?;
    let is_written = route.events.iter().any(|event| event == pattern);
    Some(if is_written { format!("pattern \"{pattern}\"") } else { "all but exclusions".into() })
}

fn why_not(route: &RouteOutline, kind: &str) -> String {
    match Patterns::parse(&route.events).excluded_by(kind) {
        Some(pattern) => format!("\"!{pattern}\" excludes it"),
        None if route.events.len() == 1 => format!("{} does not match", quoted(&route.events)),
        None => format!("{} do not match", quoted(&route.events)),
    }
}

fn condition(route: &RouteOutline) -> String {
    route.when.as_ref().map_or(String::new(), |(path, value)| format!("  if {path} is \"{value}\""))
}

fn target(route: &RouteOutline) -> &str {
    route.to.as_deref().unwrap_or("(dropped)")
}

fn place(route: &RouteOutline, loaded: &Loaded) -> String {
    format!("{}:{}:{}", loaded.warnings.file, route.line, route.column)
}

fn unrouted(loaded: &Loaded, source: &str) -> &'static str {
    let path = format!("sources.{source}.unrouted");
    match loaded.values.iter().any(|row| row.path == path && row.value == "reject") {
        true => "answered 404",
        false => "answered 200 and recorded as ignored",
    }
}

fn quoted(patterns: &[String]) -> String {
    patterns.iter().map(|pattern| format!("\"{pattern}\"")).collect::<Vec<_>>().join(", ")
}
