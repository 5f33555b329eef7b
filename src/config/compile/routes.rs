//! `routes`: which source, which types, which upstream; and which of them can never match.

use std::sync::Arc;

use super::Ground;
use crate::{
    config::{
        RouteOutline,
        file::{File, OneOrMany, Reply, Route, Scalar},
        report::Explain as _,
        suggest,
        tree::Path,
    },
    event::Name,
    json, route,
};

impl Ground<'_> {
    /// All routes, as people see them; says what is wrong with them.
    pub(crate) fn routes(&mut self, file: &File) -> Vec<RouteOutline> {
        let mut outlines: Vec<RouteOutline> = Vec::new();
        for (index, route) in file.routes.iter().enumerate() {
            let at = Path::of("routes").item(index);
            let name = route.name.clone().unwrap_or_else(|| format!("route-{}", index + 1));
            self.name(&name, &at.key("name"));
            if let Some(first) = outlines.iter().find(|other| other.name == name) {
                let first = self.key(&first.at.key("name"));
                let message = format!("two routes are called `{name}`");
                self.error("duplicate-name", &at.key("name"), message).first(first, "");
            }
            self.known_source(file, route, &name, &at);
            outlines.push(RouteOutline {
                source: route.source.clone().unwrap_or_default(),
                events: self.events(route, &at),
                when: self.when(route, &at),
                to: self.target(file, route, &name, &at),
                timeout: self.not_zero(&at.key("timeout"), route.shared.timeout),
                reply_full: route.shared.reply == Reply::Full,
                mark: self.key(&at),
                name,
                at,
            });
        }
        outlines
    }

    /// Warns of routes that can never match. Only what is certain: a route that is left out may still be unreachable.
    pub(crate) fn unreachable(&mut self, own: &[&RouteOutline]) {
        let patterns = |route: &&RouteOutline| route::Patterns::parse(&route.events);
        let patterns: Vec<_> = own.iter().map(patterns).collect();
        for (n, (dead, wanted)) in own.iter().zip(&patterns).enumerate() {
            let whenever = |(earlier, _): &(&&RouteOutline, _)| {
                earlier.when.is_none() || earlier.when == dead.when
            };
            let (before, taken): (Vec<&&RouteOutline>, Vec<_>) =
                own.iter().zip(&patterns).take(n).filter(whenever).unzip();
            let Some(by) = wanted.taken_by(&taken) else { continue };
            let takers: Vec<_> = by.iter().filter_map(|index| before.get(*index)).collect();
            let name = dead.at.key("name");
            let at = if self.tree.has(&name) { &name } else { &dead.at };
            let first = takers.first().map(|taker| self.mark(&taker.at));
            let names: Vec<_> = takers.iter().map(|taker| format!("`{}`", taker.name)).collect();
            let message = format!("route `{}` can never match", dead.name);
            let warning = self.warn("route-unreachable", at, message);
            match first {
                Some(first) => warning
                    .label(format!("everything it matches is taken by {} (", names.join(" and ")))
                    .first(first, ")")
                    .help("move it up; the first matching route wins"),
                None => warning.label("it excludes everything that it includes"),
            };
        }
    }

    fn known_source(&mut self, file: &File, route: &Route, name: &str, at: &Path) {
        let Some((source, sources)) = route.source.as_ref().zip(file.sources.as_ref()) else {
            return;
        };
        if sources.contains_key(source) || self.tree.has(&Path::of("sources").key(source)) {
            return;
        }
        let subject = match &route.name {
            Some(name) => format!("route `{name}`"),
            None => name.replacen('-', " ", 1),
        };
        let message = format!("{subject} names source `{source}`, which is not defined");
        let names = || sources.keys().map(String::as_str);
        let label = match suggest::nearest(source, names()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("defined are {}", names().collect::<Vec<_>>().join(", ")),
        };
        self.error("unknown-source", &at.key("source"), message).label(label);
    }

    fn events(&mut self, route: &Route, at: &Path) -> Vec<String> {
        let (events, at) = (route.events.as_slice(), at.key("events"));
        for (index, pattern) in events.iter().enumerate() {
            let bare = pattern.strip_prefix('!').unwrap_or(pattern);
            if bare.is_empty() || bare.starts_with('!') || bare.contains([' ', ',', '\t']) {
                let message = format!("`{pattern}` is not a pattern");
                self.error("bad-pattern", &at.item(index), message).label(
                    "one event type each, `*` for any run of characters, `!` in front to exclude",
                );
            }
        }
        if events.is_empty() {
            self.error("bad-pattern", &at, "this route takes no event")
                .label("leave `events` out for all");
        }
        events.to_vec()
    }

    fn when(&mut self, route: &Route, at: &Path) -> Option<(String, String)> {
        let when = route.when.as_ref()?;
        let (path, equals) = when.json.clone().zip(when.equals.clone())?;
        let place = at.key("when").key("json");
        let wrong = match json::Path::parse(&path) {
            _ if path.starts_with("$.") => {
                let label = format!("write `{}`", path.trim_start_matches("$."));
                Some(("JSON paths begin at the top by themselves".to_owned(), label))
            }
            Ok(parsed) if parsed.steps().contains(&json::Step::Each) => Some((
                "`[*]` stands for many values".to_owned(),
                "name one: `items[0].id`".to_owned(),
            )),
            Ok(_) => None,
            Err(why) => Some((format!("`{path}` is not a JSON path"), why)),
        };
        if let Some((message, label)) = wrong {
            self.error("bad-path", &place, message).label(label);
        }
        let equals = match equals {
            Scalar::Bool(value) => value.to_string(),
            Scalar::Integer(value) => value.to_string(),
            Scalar::Text(text) => text,
        };
        Some((path, equals))
    }

    /// The upstream, where there is exactly one; none where events are dropped.
    fn target(&mut self, file: &File, route: &Route, name: &str, at: &Path) -> Option<String> {
        let to = route.to.as_ref().map_or(&[][..], OneOrMany::as_slice);
        let path = at.key("to");
        for (index, upstream) in to.iter().enumerate() {
            let known = self.tree.has(&Path::of("upstreams").key(upstream));
            if !file.upstreams.contains_key(upstream) && !known {
                self.unknown_upstream(file, name, upstream, &path.item(index));
            }
        }
        let nowhere = || format!("route `{name}` goes nowhere");
        match (to, route.drop) {
            ([one], false) => return Some(one.clone()),
            ([], true) => {}
            ([], false) if self.tree.has(&path) => {
                self.error("route-target", &path, nowhere()).label("name an upstream");
            }
            ([], false) => {
                self.error("route-target", &self.key(at), nowhere())
                    .label("add `to: UPSTREAM`, or `drop: true`");
            }
            (_, true) => {
                let place = at.key("drop");
                self.error("route-target", &self.key(&place), "a dropped event goes nowhere")
                    .label("either `drop` or `to`");
            }
            (many, false) => self.fan_out(route, many, &path),
        }
        None
    }

    fn fan_out(&mut self, route: &Route, many: &[String], path: &Path) {
        let count = match many.len() {
            2 => "two".to_owned(),
            3 => "three".to_owned(),
            more => more.to_string(),
        };
        let message = format!("a `proxy` route needs exactly one upstream, this one has {count}");
        let sender = route.source.as_deref().unwrap_or("the sender");
        let first = many.first().map_or("app", String::as_str);
        self.error("proxy-fan-out", path, message)
            .label(format!("only one of them can answer `{sender}`"))
            .help(format!("`to: {first}`, and let that app pass events on to the others"));
    }
}

/// The routes of one source as the stage runs them, with the JSON paths that they look at.
pub(crate) fn of_source(own: &[&RouteOutline]) -> (Vec<route::Route>, Vec<String>) {
    let mut captures: Vec<String> = Vec::new();
    let mut routes = Vec::new();
    for outline in own {
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
