//! What is known about the sender: its language, and its habits that a configuration may not fit.

use std::time::Duration;

use super::Ground;
use crate::{
    config::{
        RouteOutline, SecretOrigin,
        file::{self, OneOrMany, SecretForm, Span},
        report::Problem,
        spans::Path,
        suggest,
    },
    providers::{self, Compiled, Options, Preset, shape::EventFields},
};

/// The name of a source without preset.
pub(crate) const CUSTOM: &str = "custom";

/// The language of a source: its preset, with what the source says itself on top.
pub(crate) fn language(
    name: &str,
    shape: &file::Source,
    captures: Vec<String>,
    at: &Path,
    ground: &mut Ground<'_>,
) -> Option<Compiled> {
    let provider = shape.provider.as_deref()?;
    let preset = providers::preset(provider);
    if preset.is_none() && provider != CUSTOM {
        unknown(provider, at, ground);
        return None;
    }
    let verify = shape.verify.clone().or_else(|| preset.map(|preset| preset.verify.clone()));
    let Some(verify) = verify else {
        let problem = Problem::error(
            "verify-missing",
            ground.key(at),
            format!("source `{name}` says not how it is verified"),
        );
        ground.push(problem.help(
            "for example `verify: { signature: { header: X-Signature, prefix: \"sha256=\" }, signed: \"{body}\" }`",
        ));
        return None;
    };
    let event = event(shape, preset);
    if event.id.is_none() {
        let problem = Problem::error(
            "event-id-missing",
            ground.key(at),
            format!("source `{name}` has dedup but no event id"),
        );
        ground.push(
            problem
                .help("say where the id is, for example `event: { id: \"{header:X-Delivery}\" }`")
                .help("no id in the request? `event: { id: \"{body|sha256_hex}\" }` stops byte-identical repeats only"),
        );
    }
    let handshake = preset.map_or(&[][..], |preset| &preset.handshake);
    let options = Options { tolerance: shape.tolerance.map(|span| span.0), captures };
    providers::compile(&verify, &event, handshake, &options)
        .map_err(|problems| {
            let known = |problem: &&providers::Problem| {
                event.id.is_some() || !problem.path.starts_with("event.id")
            };
            for problem in problems.iter().filter(known) {
                let place = ground.at(&at.join(&Path::of(&problem.path)));
                let error = Problem::error("language", place, &problem.message);
                ground.push(problem.help.iter().fold(error, |error, help| error.help(help)));
            }
        })
        .ok()
}

/// The preset's fields, replaced key by key.
fn event(shape: &file::Source, preset: Option<&Preset>) -> EventFields {
    let base = preset.map(|preset| preset.event.clone()).unwrap_or_default();
    let Some(own) = shape.event.clone() else { return base };
    EventFields {
        id: own.id.or(base.id),
        kind: own.kind.or(base.kind),
        account: own.account.or(base.account),
        id_json: own.id_json.or(base.id_json),
        items: own.items.or(base.items),
        one_type_per_body: own.one_type_per_body || base.one_type_per_body,
    }
}

fn unknown(provider: &str, at: &Path, ground: &mut Ground<'_>) {
    let names = || providers::catalogue().iter().map(|preset| preset.name.as_str()).chain([CUSTOM]);
    let message = format!("there is no preset `{provider}`");
    let problem = Problem::error("unknown-provider", ground.at(&at.key("provider")), message);
    let problem = match suggest::nearest(provider, names()) {
        Some(near) => problem.label(format!("did you mean `{near}`?")),
        None => problem.label(format!("there are {}", names().collect::<Vec<_>>().join(", "))),
    };
    ground.push(problem.help("any other sender: `provider: custom` with `verify` and `event`"));
}

/// Warns where a source and its routes do not fit what the provider does.
pub(crate) fn habits(
    name: &str,
    shape: &file::Source,
    routes: &[&RouteOutline],
    language: &Compiled,
    at: &Path,
    ground: &mut Ground<'_>,
) {
    let preset = shape.provider.as_deref().and_then(providers::preset);
    if let Some(preset) = preset {
        deadline(preset, routes, ground);
        window(preset, shape, at, ground);
        no_retry(preset, routes, at, ground);
        known_types(preset, routes, ground);
    }
    if preset.is_none() || shape.verify.is_some() || shape.event.is_some() {
        coverage(name, language, at, ground);
    }
}

fn deadline(preset: &Preset, routes: &[&RouteOutline], ground: &mut Ground<'_>) {
    let Some(deadline) = span(preset.delivery.deadline.as_deref()) else { return };
    for route in routes.iter().filter(|route| route.to.is_some() && route.timeout >= deadline.0) {
        let item = Path::of("routes").item(route.index);
        let path = item.key("timeout");
        let typed = ground.is_typed(&path);
        let place = if typed { ground.at(&path) } else { ground.key(&item) };
        let margin = if deadline.0 > Duration::from_secs(5) { 1000 } else { 500 };
        let better = Span(deadline.0.saturating_sub(Duration::from_millis(margin)));
        let better = format!("{}ms", better.0.as_millis()).replace("000ms", "s");
        let advice =
            if typed { format!("use {better}") } else { format!("add `timeout: {better}`") };
        let title = &preset.title;
        let relation = if route.timeout > deadline.0 { "longer than" } else { "as long as" };
        let message =
            format!("`timeout` {} is {relation} {title} waits ({deadline})", Span(route.timeout));
        let again = if preset.delivery.retries { "given up and retried" } else { "given up" };
        ground.push(
            Problem::warning("deadline", place, message)
                .label(format!("{title} will have {again}; {advice}")),
        );
    }
}

fn window(preset: &Preset, shape: &file::Source, at: &Path, ground: &mut Ground<'_>) {
    let Some(horizon) = span(preset.delivery.horizon.as_deref()) else { return };
    let own = shape.dedup.window;
    if !preset.delivery.retries || own >= horizon {
        return;
    }
    let days = horizon.to_string();
    let days = days.strip_suffix('d').map_or(days.clone(), |n| format!("{n} days"));
    let message = format!("`dedup.window` is {own} but {} retries for {days}", preset.title);
    let place = ground.at(&at.key("dedup").key("window"));
    let better = Span::days(7).max(Span(horizon.0 * 2));
    ground.push(
        Problem::warning("window-short", place, message)
            .label(format!("a retry after {own} would be delivered a second time"))
            .help(format!("use {better}, or leave it out")),
    );
}

fn no_retry(preset: &Preset, routes: &[&RouteOutline], at: &Path, ground: &mut Ground<'_>) {
    let delivers = routes.iter().find(|route| route.to.is_some());
    let Some(route) = delivers.filter(|_| !preset.delivery.retries) else { return };
    let app = route.to.as_deref().unwrap_or_default();
    let message = format!("{} does not retry, so what `{app}` cannot take is lost", preset.title);
    let place = ground.at(&at.key("provider"));
    let problem =
        Problem::warning("no-retry", place, message).label("route mode is `proxy`: forwarded once");
    ground.push(
        problem.help("watch for 502, 503 and 504 on this source, and redeliver those by hand"),
    );
}

/// Exact names that the provider is not known to send.
fn known_types(preset: &Preset, routes: &[&RouteOutline], ground: &mut Ground<'_>) {
    for route in routes.iter().filter(|_| !preset.known_types.is_empty()) {
        for (index, pattern) in route.events.iter().enumerate() {
            let kind = pattern.strip_prefix('!').unwrap_or(pattern);
            if kind.contains('*') || preset.known_types.iter().any(|known| known == kind) {
                continue;
            }
            let place = ground.at(&Path::of("routes").item(route.index).key("events").item(index));
            let message = format!("{} has no event type `{kind}`", preset.title);
            let near = suggest::nearest(kind, preset.known_types.iter().map(String::as_str));
            let label = match near {
                Some(near) => format!("did you mean `{near}`? (new types are fine)"),
                None => "new types are fine; check the spelling".to_owned(),
            };
            ground.push(Problem::warning("unknown-event", place, message).label(label));
        }
    }
}

/// Id or type that anybody between the sender and us could change.
fn coverage(name: &str, language: &Compiled, at: &Path, ground: &mut Ground<'_>) {
    let fields = [
        (
            language.id_covered,
            "id",
            "a captured request can come again under a new id; the replay guard stops equal bytes",
        ),
        (language.type_covered, "type", "a captured request can be routed as another type"),
    ];
    for (covered, field, why) in fields {
        if !covered {
            let message = format!("the signature of `{name}` does not cover the event's {field}");
            let place = ground.key(&at.key("event").key(field));
            let problem = Problem::warning("unsigned-field", place, message).label(why);
            ground.push(problem.help("take it from the body where the body is signed: `{json:…}`"));
        }
    }
}

/// Secrets that are something else: an API key, or of another provider.
pub(crate) fn secret_shapes(
    shape: &file::Source,
    secrets: &[SecretOrigin],
    at: &Path,
    ground: &mut Ground<'_>,
) {
    let Some(preset) = shape.provider.as_deref().and_then(providers::preset) else { return };
    let forms = shape.secret.as_ref().map_or(&[][..], OneOrMany::as_slice);
    let hints = &preset.secret;
    for (index, form) in forms.iter().enumerate() {
        let path = at.key("secret").item(index);
        let mark = ground.mark(&path);
        let read = secrets.iter().find(|s| s.mark == mark).and_then(|s| s.secret.as_ref());
        let Some(bytes) = read.map(crate::secret::Secret::expose) else { continue };
        let is_literal = matches!(form, SecretForm::Text(text) if !text.0.contains("${"));
        let mistaken =
            hints.mistaken.iter().find(|(prefix, _)| bytes.starts_with(prefix.as_bytes()));
        let expected =
            hints.prefix.as_deref().filter(|prefix| !bytes.starts_with(prefix.as_bytes()));
        let message = format!("this does not look like a {} signing secret", preset.title);
        let problem = match (mistaken, expected) {
            (Some((prefix, what)), _) => Problem::error("secret-shape", mark, message)
                .label(format!("begins with `{prefix}`: that is {what}")),
            (None, Some(_)) => Problem::warning("secret-shape", mark, message),
            (None, None) => continue,
        };
        let begins = expected.map(|prefix| format!("begin with `{prefix}`"));
        let found = hints.found_at.as_deref();
        let about = match (begins, found) {
            (Some(begins), Some(found)) => format!("{begins}: {found}"),
            (Some(begins), None) => begins,
            (None, Some(found)) => format!("are at {found}"),
            (None, None) => "are in the settings of the webhook".to_owned(),
        };
        let problem = problem.help(format!("{} signing secrets {about}", preset.title));
        ground.push(match mistaken {
            Some((_, what)) if is_literal => {
                problem.noted("warning", format!("{what} is now in a config file; revoke it"))
            }
            _ => problem,
        });
    }
}

fn span(text: Option<&str>) -> Option<Span> {
    text.and_then(|text| Span::parse(text).ok())
}
