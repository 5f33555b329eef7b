//! What is known about the sender: its language, and its habits that a configuration may not fit.

use std::{collections::BTreeSet, time::Duration};

use super::Ground;
use crate::{
    answer::Manners,
    config::{
        RouteOutline, SecretOrigin,
        file::{self, Handshake, HandshakeWord, OneOrMany, SameIdOtherBody, SecretForm},
        report::{At, Explain as _, Problem},
        suggest,
        tree::Path,
    },
    providers::{
        self, AnswerShape, Compiled, Covers, Fact, Options, Preset,
        shape::{Alternative, EventFields},
    },
    secret::Secret,
    units::Span,
    verify::Algorithm,
};

/// The name of a source without preset.
const CUSTOM: &str = "custom";

impl Ground<'_> {
    /// The language of a source: its preset, with what the source says itself on top.
    pub(crate) fn language(
        &mut self,
        name: &str,
        shape: &file::Source,
        captures: Vec<String>,
        at: &Path,
    ) -> Option<Compiled> {
        let provider = shape.provider.as_deref()?;
        let preset = providers::preset(provider);
        if preset.is_none() && provider != CUSTOM {
            self.unknown_provider(provider, at);
            return None;
        }
        let Some(verify) = shape.verify.as_ref().or(preset.map(|preset| &preset.verify)) else {
            let message = format!("source `{name}` says not how it is verified");
            self.error("verify-missing", &self.key(at), message).help(
            "for example `verify: { signature: { header: X-Signature, prefix: \"sha256=\" }, signed: \"{body}\" }`",
        );
            return None;
        };
        let event = event(shape, preset);
        let has_id = |scheme: &Alternative| scheme.event.as_ref().is_some_and(|e| e.id.is_some());
        let all_have = !verify.schemes.is_empty() && verify.schemes.iter().all(has_id);
        if event.id.is_none() && !all_have {
            let message = format!("source `{name}` has dedup but no event id");
            self
            .error("event-id-missing", &self.key(at), message)
            .help("say where the id is, for example `event: { id: \"{header:X-Delivery}\" }`")
            .help("no id in the request? `event: { id: \"{body|sha256_hex}\" }` stops byte-identical repeats only");
        }
        if !preset.is_none_or(|preset| self.params(preset, shape, at)) {
            return None;
        }
        let handshake = match &shape.shared.handshake {
            Handshake::Word(HandshakeWord::None) => &[][..],
            Handshake::Word(HandshakeWord::Auto) => preset.map_or(&[][..], |p| &p.handshake),
            Handshake::Rules(rules) => rules,
        };
        let options = options(shape, captures);
        // What a source says about its events counts for every scheme.
        let mut verify = verify.clone();
        if let Some(own) = &shape.event {
            let events = verify.schemes.iter_mut().filter_map(|scheme| scheme.event.as_mut());
            events.for_each(|event| *event = own.over(event));
        }
        let compiled = providers::compile(&verify, &event, handshake, &options);
        match &compiled {
            Err(problems) => {
                let said = |problem: &&providers::Problem| {
                    event.id.is_none() && problem.path.starts_with("event.id")
                };
                self.language_problems(problems.iter().filter(|problem| !said(problem)), at);
            }
            Ok(compiled) => {
                self.unanswered(name, &compiled.missing_params, at);
                self.unknown_params(preset, shape, compiled, at);
            }
        }
        compiled.ok()
    }

    fn language_problems<'p>(
        &mut self,
        problems: impl Iterator<Item = &'p providers::Problem>,
        at: &Path,
    ) {
        for problem in problems {
            let place = at.join(&Path::of(&problem.path));
            let error = self.error("language", &place, format!("`{place}`: {}", problem.message));
            problem.help.iter().fold(error, |error, help| error.help(help));
        }
    }

    /// Challenges that lack something that only the source can say.
    fn unanswered(&mut self, name: &str, params: &[String], at: &Path) {
        for param in params {
            let message = format!("a challenge of `{name}` is not answered: `{param}` is not set");
            let place = self.key(&at.key("provider"));
            self.warn("param-missing", &place, message).help(format!(
                "set `params: {{ {param}: … }}`, or `handshake: none` where the app answers"
            ));
        }
    }

    /// What a source says about itself and nobody asks for.
    fn unknown_params(
        &mut self,
        preset: Option<&Preset>,
        shape: &file::Source,
        compiled: &Compiled,
        at: &Path,
    ) {
        let declared = preset.iter().flat_map(|preset| preset.params.keys());
        let asked: BTreeSet<_> = declared.chain(&compiled.params).map(String::as_str).collect();
        for name in shape.params.keys().filter(|name| !asked.contains(name.as_str())) {
            let known = asked.iter().copied().collect::<Vec<_>>().join(", ");
            let label =
                if known.is_empty() { "remove it".into() } else { format!("asked for: {known}") };
            let place = self.key(&at.key("params").key(name));
            self.error("unknown-param", &place, format!("nothing asks for `{name}`")).label(label);
        }
    }

    /// What the provider wants to hear, or the source says that it does.
    pub(crate) fn manners(&mut self, shape: &file::Source, at: &Path) -> Option<Manners> {
        let preset = shape.provider.as_deref().and_then(providers::preset);
        let said = |own: &Option<AnswerShape>, of: fn(&Preset) -> &AnswerShape| {
            own.clone().or_else(|| preset.map(of).cloned()).unwrap_or_default()
        };
        let ack = said(&shape.ack, |preset| &preset.ack);
        let invalid = said(&shape.invalid, |preset| &preset.invalid);
        let dropped = said(&shape.drop_forever, |preset| &preset.drop_forever);
        let manners = providers::manners(&ack, &invalid, &dropped);
        manners.map_err(|problems| self.language_problems(problems.iter(), at)).ok()
    }

    /// Whether a source says what its provider's scheme needs to know.
    fn params(&mut self, preset: &Preset, shape: &file::Source, at: &Path) -> bool {
        let is_missing = |key: &str| !shape.params.contains_key(key) && shape.verify.is_none();
        let missing = preset.needed_params().filter(|(key, _)| is_missing(key));
        let mut fit = true;
        for (key, param) in missing {
            fit = false;
            let message = format!("{} needs to know `{key}`: {}", preset.title, param.about);
            self.error("param-missing", &at.key("provider"), message)
                .help(format!("for example `params: {{ {key}: {:?} }}`", param.example));
        }
        fit
    }

    fn unknown_provider(&mut self, provider: &str, at: &Path) {
        let label = match suggest::nearest(provider, providers::names().chain([CUSTOM])) {
            Some(near) => format!("did you mean `{near}`?"),
            None => "see `gatepost providers list`".to_owned(),
        };
        let place = at.key("provider");
        self.error("unknown-provider", &place, format!("there is no preset `{provider}`"))
            .label(label)
            .help("any other sender: `provider: custom` with `verify` and `event`");
    }

    /// Warns where a source and its routes do not fit what the provider does.
    pub(crate) fn habits(
        &mut self,
        name: &str,
        shape: &file::Source,
        routes: &[&RouteOutline],
        language: &Compiled,
        at: &Path,
    ) {
        let preset = shape.provider.as_deref().and_then(providers::preset);
        if let Some(preset) = preset {
            self.deadline(preset, routes);
            self.window(preset, shape, at);
            self.no_retry(preset, routes, at);
            self.known_types(preset, routes);
            self.unconfirmed(preset, shape, at);
            self.unpinned(preset, shape, language, at);
        }
        if preset.is_none() || shape.verify.is_some() || shape.event.is_some() {
            self.coverage(name, language, at);
        }
    }

    fn deadline(&mut self, preset: &Preset, routes: &[&RouteOutline]) {
        let (title, Some(deadline)) = (&preset.title, preset.delivery.deadline) else { return };
        for route in routes.iter().filter(|route| route.to.is_some() && route.timeout >= deadline.0)
        {
            let path = route.at.key("timeout");
            let margin = if deadline > Span::secs(5) { 1000 } else { 500 };
            let better = deadline.0.saturating_sub(Duration::from_millis(margin));
            let better = format!("{}ms", better.as_millis()).replace("000ms", "s");
            let (place, advice) = if self.tree.has(&path) {
                (self.mark(&path), format!("use {better}"))
            } else {
                (self.key(&route.at), format!("add `timeout: {better}`"))
            };
            let sure = unsure(preset, "waits");
            let relation = if route.timeout > deadline.0 { "longer than" } else { "as long as" };
            let timeout = Span(route.timeout);
            let message = format!("`timeout` {timeout} is {relation} {title} waits ({deadline})");
            let again = if preset.delivery.retries { " and retried" } else { "" };
            self.warn("deadline", &place, message)
                .label(format!("{title} will have given up{again}; {advice}{sure}"));
        }
    }

    fn window(&mut self, preset: &Preset, shape: &file::Source, at: &Path) {
        let Some(horizon) = preset.delivery.horizon else { return };
        let own = shape.dedup.window;
        if !preset.delivery.retries || own >= horizon {
            return;
        }
        let days = match horizon.0.as_secs() / 86_400 {
            1 => "1 day".to_owned(),
            days if horizon == Span::days(days) => format!("{days} days"),
            _ => horizon.to_string(),
        };
        let message = format!("`dedup.window` is {own} but {} retries for {days}", preset.title);
        let (default, twice) = (Span::days(7), Span(horizon.0 * 2));
        let better = if default < horizon {
            format!("set `dedup: {{ window: {twice} }}` at this source")
        } else {
            format!("use {}, or leave it out", default.max(twice))
        };
        let sure = unsure(preset, "retries");
        self.warn("window-short", &at.key("dedup").key("window"), message)
            .label(format!("a retry after {own} would be delivered a second time{sure}"))
            .help(better);
    }

    fn no_retry(&mut self, preset: &Preset, routes: &[&RouteOutline], at: &Path) {
        let app = routes.iter().find_map(|route| route.to.as_deref());
        let Some(app) = app.filter(|_| !preset.delivery.retries) else { return };
        let message =
            format!("{} does not retry, so what `{app}` cannot take is lost", preset.title);
        self.warn("no-retry", &at.key("provider"), message)
            .label("route mode is `proxy`: forwarded once")
            .help("watch for 502, 503 and 504 on this source, and redeliver those by hand");
    }

    /// A scheme that nobody has read at its provider.
    fn unconfirmed(&mut self, preset: &Preset, shape: &file::Source, at: &Path) {
        let known = preset.evidence.get(&Fact::Signature);
        if shape.verify.is_some() || known.is_some_and(|known| !known.is_unconfirmed()) {
            return;
        }
        let message = format!("how {} signs is from memory, or disputed", preset.title);
        self.warn("unconfirmed-scheme", &at.key("provider"), message)
            .label("let one real event through before you rely on it")
            .help(format!("what is known and how: `gatepost providers show {}`", preset.name));
    }

    /// A plain token counts where a signature could be demanded.
    fn unpinned(&mut self, preset: &Preset, shape: &file::Source, language: &Compiled, at: &Path) {
        let schemes = if shape.verify.is_none() { &preset.verify.schemes[..] } else { &[] };
        let Some(best) = schemes.iter().find_map(|scheme| scheme.name.as_ref()) else { return };
        if (language.covers, language.covers_best) != (Covers::Nothing, Covers::Body) {
            return;
        }
        let message =
            format!("{} may sign, or send a plain token that covers nothing", preset.title);
        self.warn("unpinned", &at.key("provider"), message)
            .label("both are taken")
            .help(format!("`pin: {best}` where your webhook is set to sign"));
    }

    /// Exact names that the provider is not known to send.
    fn known_types(&mut self, preset: &Preset, routes: &[&RouteOutline]) {
        for route in routes.iter().filter(|_| !preset.known_types.is_empty()) {
            for (index, pattern) in route.events.iter().enumerate() {
                let kind = pattern.strip_prefix('!').unwrap_or(pattern);
                if kind.contains('*') || preset.known_types.iter().any(|known| known == kind) {
                    continue;
                }
                let place = route.at.key("events").item(index);
                let near = suggest::nearest(kind, preset.known_types.iter().map(String::as_str));
                let label = match near {
                    Some(near) => format!("did you mean `{near}`? (new types are fine)"),
                    None => "new types are fine; check the spelling".to_owned(),
                };
                let message = format!("{} has no event type `{kind}`", preset.title);
                self.warn("unknown-event", &place, message).label(label);
            }
        }
    }

    /// Id or type that anybody between the sender and us could change.
    fn coverage(&mut self, name: &str, language: &Compiled, at: &Path) {
        let fields = [
            (
                language.id_covered,
                "id",
                "a captured request can come again under a new id; the replay guard stops equal bytes",
            ),
            (language.type_covered, "type", "a captured request can be routed as another type"),
        ];
        let algorithms = || language.schemes.iter().map(|scheme| scheme.parts.algorithm);
        let shown = algorithms().find(|algorithm| !algorithm.signs());
        for (_, field, why) in fields.into_iter().filter(|(covered, ..)| !covered) {
            let place = self.key(&at.key("event").key(field));
            let message = match shown {
                Some(mac) => format!(
                    "`mac: {}` signs nothing of what `{name}` is sent, and so not the event's {field}",
                    mac.as_str()
                ),
                None => format!("the signature of `{name}` does not cover the event's {field}"),
            };
            let help = match shown {
                Some(_) => {
                    "where the sender can sign, let it; if not, let in its own networks only (`allow_ips`)"
                }
                None if algorithms().any(|algorithm| algorithm == Algorithm::Jwt) => {
                    "take it from a claim of the token: `{jwt:…}`"
                }
                None => "take it from the body where the body is signed: `{json:…}`",
            };
            self.warn("unsigned-field", &place, message).label(why).help(help);
        }
    }

    /// Secrets that are something else: an API key, or of another provider.
    pub(crate) fn secret_shapes(
        &mut self,
        shape: &file::Source,
        secrets: &[SecretOrigin],
        at: &Path,
    ) {
        let Some(preset) = shape.provider.as_deref().and_then(providers::preset) else { return };
        let forms = shape.secret.as_ref().map_or(&[][..], OneOrMany::as_slice);
        for (index, form) in forms.iter().enumerate() {
            let mark = self.mark(&at.key("secret").item(index));
            let read = secrets.iter().find(|s| s.mark == mark).and_then(|s| s.secret.as_ref());
            let is_literal = matches!(form, SecretForm::Text(text) if !text.0.0.contains("${"));
            if let Some(secret) = read {
                let problem = secret_shape(preset, secret, is_literal);
                self.problems.extend(problem.map(|problem| Problem { at: mark.into(), ..problem }));
            }
        }
    }
}

fn options(shape: &file::Source, captures: Vec<String>) -> Options {
    let params = shape.params.iter().map(|(name, value)| (name.clone(), value.0.clone()));
    Options {
        tolerance: shape.tolerance.map(|span| span.0),
        captures,
        params: params.collect(),
        pin: shape.pin.clone(),
        by_bytes: shape.dedup.same_id_other_body == SameIdOtherBody::Deliver,
    }
}

/// Said behind what is known from memory only, or disputed.
fn unsure(preset: &Preset, does: &str) -> String {
    let doubtful = preset.is_doubtful(Fact::Delivery);
    if doubtful { format!(" (how long it {does} is not confirmed)") } else { String::new() }
}

/// The preset's fields, replaced key by key.
fn event(shape: &file::Source, preset: Option<&Preset>) -> EventFields {
    let base = preset.map(|preset| preset.event.clone()).unwrap_or_default();
    shape.event.as_ref().map(|own| own.over(&base)).unwrap_or(base)
}

fn secret_shape(preset: &Preset, secret: &Secret, is_literal: bool) -> Option<Problem> {
    let begins = |prefix: &str| secret.expose().starts_with(prefix.as_bytes());
    let (title, hints) = (&preset.title, &preset.secret);
    let mistaken = hints.mistaken.iter().find(|(prefix, _)| begins(prefix));
    let expected = hints.prefix.as_deref().filter(|prefix| !begins(prefix));
    let message = format!("this does not look like a {title} signing secret");
    let mut problem = match (mistaken, expected) {
        (Some((prefix, what)), _) => Problem::error("secret-shape", At::Nowhere, message)
            .label(format!("begins with `{prefix}`: that is {what}")),
        (None, Some(_)) => Problem::warning("secret-shape", At::Nowhere, message),
        (None, None) => return None,
    };
    let about = match (expected, hints.found_at.as_deref()) {
        (Some(prefix), Some(found)) => format!("begin with `{prefix}`: {found}"),
        (Some(prefix), None) => format!("begin with `{prefix}`"),
        (None, Some(found)) => format!("are at {found}"),
        (None, None) => "are in the settings of the webhook".to_owned(),
    };
    problem = problem.help(format!("{title} signing secrets {about}"));
    if let Some((_, what)) = mistaken.filter(|_| is_literal) {
        problem = problem.noted("warning", format!("{what} is now in a config file; revoke it"));
    }
    Some(problem)
}
