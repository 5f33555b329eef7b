//! `routes`: which source, which types, which upstream; and which of them can never match.

use std::sync::Arc;

use super::{Ground, process::not_zero, upstreams};
use crate::{
    config::{
        RouteOutline,
        file::{File, OneOrMany, Reply, Route, Scalar},
        report::Problem,
        spans::Path,
        suggest,
    },
    event::Name,
    json, route,
};

/// All routes, as people see them; says what is wrong with them.
pub(crate) fn outline(file: &File, ground: &mut Ground<'_>) -> Vec<RouteOutline> {
    let mut outlines: Vec<RouteOutline> = Vec::new();
    for (index, route) in file.routes.iter().enumerate() {
        let at = Path::of("routes").item(index);
        let name = route.name.clone().unwrap_or_else(|| format!("route-{}", index + 1));
        ground.name(&name, &at.key("name"));
        if let Some(first) = outlines.iter().find(|other| other.name == name) {
            let (key, _) = ground.tree.locate(&Path::of("routes").item(first.index).key("name"));
            let message = format!("two routes are called `{name}`");
            ground.push(
                Problem::error("duplicate-name", ground.at(&at.key("name")), message)
                    .first(key, ""),
            );
        }
        known_source(file, route, &name, &at, ground);
        not_zero(&at.key("timeout"), route.timeout.0, ground);
        let (mark, _) = ground.tree.locate(&at);
        let outline = RouteOutline {
            index,
            source: route.source.clone().unwrap_or_default(),
            events: events(route, &at, ground),
            when: when(route, &at, ground),
            to: target(file, route, &name, &at, ground),
            timeout: route.timeout.0,
            reply_full: route.reply == Reply::Full,
            line: mark.line,
            column: mark.column,
            name,
        };
        unreachable(&outline, &outlines, &at, ground);
        outlines.push(outline);
    }
    outlines
}

/// The routes of one source as the stage runs them, with the JSON paths that they look at.
pub(crate) fn of_source(
    source: &str,
    outlines: &[RouteOutline],
) -> (Vec<route::Route>, Vec<String>) {
    let mut captures: Vec<String> = Vec::new();
    let mut routes = Vec::new();
    for outline in outlines.iter().filter(|outline| outline.source == source) {
        let when = outline.when.as_ref().map(|(path, equals)| {
            let known = captures.iter().position(|known| known == path);
            let index = known.unwrap_or_else(|| {
                captures.push(path.clone());
                captures.len() - 1
            });
            (index, equals.clone())
        });
        let Some(name) = Name::parse(&outline.name) else { continue };
        let target = outline.to.as_deref().and_then(Name::parse).map(|upstream| {
            let (timeout, reply_full) = (outline.timeout, outline.reply_full);
            Arc::new(route::Target { route: name.clone(), upstream, timeout, reply_full })
        });
        let patterns = route::Patterns::parse(&outline.events);
        routes.push(route::Route { name, patterns, when, target });
    }
    (routes, captures)
}

fn known_source(file: &File, route: &Route, name: &str, at: &Path, ground: &mut Ground<'_>) {
    let Some((source, sources)) = route.source.as_ref().zip(file.sources.as_ref()) else { return };
    if sources.contains_key(source) || ground.tree.has(&Path::of("sources").key(source)) {
        return;
    }
    let route = name.replacen("route-", "route ", usize::from(route.name.is_none()));
    let subject = if route == *name { format!("route `{name}`") } else { route };
    let message = format!("{subject} names source `{source}`, which is not defined");
    let problem = Problem::error("unknown-source", ground.at(&at.key("source")), message);
    let names = || sources.keys().map(String::as_str);
    ground.push(match suggest::nearest(source, names()) {
        Some(near) => problem.label(format!("did you mean `{near}`?")),
        None => problem.label(format!("defined are {}", names().collect::<Vec<_>>().join(", "))),
    });
}

fn events(route: &Route, at: &Path, ground: &mut Ground<'_>) -> Vec<String> {
    let events = route.events.as_slice().to_vec();
    for (index, pattern) in events.iter().enumerate() {
        let bare = pattern.strip_prefix('!').unwrap_or(pattern);
        if bare.is_empty() || bare.starts_with('!') || bare.contains([' ', ',', '\t']) {
            let message = format!("`{pattern}` is not a pattern");
            let label =
                "one event type each, `*` for any run of characters, `!` in front to exclude";
            ground.error("bad-pattern", &at.key("events").item(index), message, label);
        }
    }
    if events.is_empty() {
        ground.error(
            "bad-pattern",
            &at.key("events"),
            "this route takes no event",
            "leave `events` out for all",
        );
    }
    events
}

fn when(route: &Route, at: &Path, ground: &mut Ground<'_>) -> Option<(String, String)> {
    let when = route.when.as_ref()?;
    let (path, equals) = when.json.clone().zip(when.equals.clone())?;
    let place = at.key("when").key("json");
    let bare = path.strip_prefix("$.").unwrap_or(&path);
    match json::Path::parse(&path) {
        _ if bare != path => {
            let label = format!("write `{bare}`");
            ground.error("bad-path", &place, "JSON paths begin at the top by themselves", label);
        }
        Ok(parsed) if parsed.steps().contains(&json::Step::Each) => {
            ground.error(
                "bad-path",
                &place,
                "`[*]` stands for many values",
                "name one: `items[0].id`",
            );
        }
        Ok(_) => {}
        Err(why) => ground.error("bad-path", &place, format!("`{path}` is not a JSON path"), why),
    }
    let equals = match equals {
        Scalar::Bool(value) => value.to_string(),
        Scalar::Integer(value) => value.to_string(),
        Scalar::Text(text) => text,
    };
    Some((path, equals))
}

/// The upstream, where there is exactly one; none where events are dropped.
fn target(
    file: &File,
    route: &Route,
    name: &str,
    at: &Path,
    ground: &mut Ground<'_>,
) -> Option<String> {
    let to = route.to.as_ref().map_or(&[][..], OneOrMany::as_slice);
    let path = at.key("to");
    for (index, upstream) in to.iter().enumerate() {
        let item = path.item(index);
        if !file.upstreams.contains_key(upstream)
            && !ground.tree.has(&Path::of("upstreams").key(upstream))
        {
            upstreams::unknown(file, name, upstream, &item, ground);
        }
    }
    match (to, route.drop) {
        ([one], false) => return Some(one.clone()),
        ([], true) => {}
        ([], false) if ground.tree.has(&path) => {
            ground.error(
                "route-target",
                &path,
                format!("route `{name}` goes nowhere"),
                "name an upstream",
            );
        }
        ([], false) => {
            let problem = Problem::error(
                "route-target",
                ground.key(at),
                format!("route `{name}` goes nowhere"),
            );
            ground.push(problem.label("add `to: UPSTREAM`, or `drop: true`"));
        }
        (_, true) => {
            let problem = Problem::error(
                "route-target",
                ground.key(&at.key("drop")),
                "a dropped event goes nowhere",
            );
            ground.push(problem.label("either `drop` or `to`"));
        }
        (many, false) => fan_out(route, many, &path, ground),
    }
    None
}

fn fan_out(route: &Route, many: &[String], path: &Path, ground: &mut Ground<'_>) {
    let count = match many.len() {
        2 => "two".to_owned(),
        3 => "three".to_owned(),
        more => more.to_string(),
    };
    let message = format!("a `proxy` route needs exactly one upstream, this one has {count}");
    let sender = route.source.as_deref().unwrap_or("the sender");
    let problem = Problem::error("proxy-fan-out", ground.at(path), message);
    let first = many.first().map_or("app", String::as_str);
    ground.push(
        problem
            .label(format!("only one of them can answer `{sender}`"))
            .help(format!("`to: {first}`, and let that app pass events on to the others")),
    );
}

fn unreachable(
    outline: &RouteOutline,
    before: &[RouteOutline],
    at: &Path,
    ground: &mut Ground<'_>,
) {
    let whenever = |earlier: &&RouteOutline| {
        let always = earlier.when.is_none() || earlier.when == outline.when;
        earlier.source == outline.source && always
    };
    let before: Vec<_> = before.iter().filter(whenever).collect();
    let patterns = |outline: &RouteOutline| route::Patterns::parse(&outline.events);
    let taken: Vec<_> = before.iter().map(|earlier| patterns(earlier)).collect();
    let Some(by) = patterns(outline).taken_by(&taken) else { return };
    let takers: Vec<_> = by.iter().filter_map(|index| before.get(*index)).collect();
    let place = if ground.tree.has(&at.key("name")) { at.key("name") } else { at.clone() };
    let message = format!("route `{}` can never match", outline.name);
    let problem = Problem::warning("route-unreachable", ground.at(&place), message);
    let Some(first) = takers.first() else {
        ground.push(problem.label("it excludes everything that it includes"));
        return;
    };
    let (mark, _) = ground.tree.locate(&Path::of("routes").item(first.index));
    let names: Vec<_> = takers.iter().map(|taker| format!("`{}`", taker.name)).collect();
    let problem =
        problem.label(format!("everything it matches is taken by {} (", names.join(" and ")));
    ground.push(problem.first(mark, ")").help("move it up; the first matching route wins"));
}
