//! `sources`: who may call us, how we believe them, and what they are told.

use std::{collections::HashMap, sync::Arc, time::Duration};

use super::{Ground, routes, sign::Signing};
use crate::{
    config::{
        RouteOutline, SecretOrigin, Server, Source, captured,
        file::{
            self, ContentEncoding, File, OnUnknown, OneOrMany, ReplayGuard, SecretForm,
            SecretPlace, Unrouted,
        },
        report::Explain as _,
        tree::{Mark, Path},
    },
    dedup::Policy,
    fetch::Documents,
    handshake::{Confirmer, Rule},
    providers::{self, Compiled},
    route::Routes,
    secret::Secret,
    units::Span,
    verify::{Keyring, LiveSecret, Verifier},
};

/// What sources are made from beside their own sections.
pub(super) struct Around<'a> {
    pub(super) server: &'a Server,
    pub(super) outlines: &'a [RouteOutline],
    pub(super) signing: &'a HashMap<String, Signing>,
    pub(super) fetcher: &'a Arc<dyn Documents>,
}

impl Ground<'_> {
    /// All sources.
    pub(super) fn sources(&mut self, file: &File, around: &Around<'_>) -> Vec<Source> {
        let Around { server, outlines, signing, fetcher } = *around;
        let mut sources = Vec::new();
        let mut seen = Seen::default();
        for (name, shape) in file.sources.iter().flatten() {
            let at = Path::of("sources").key(name);
            let memory = file.limits.body_memory;
            if shape.shared.max_body > memory {
                let message =
                    format!("one body may be larger than all memory for bodies ({memory})");
                self.error("bad-value", &at.key("max_body"), message)
                    .label("raise `limits.body_memory`");
            }
            let routes: Vec<_> = outlines.iter().filter(|route| route.source == *name).collect();
            let mut work = Work {
                name,
                shape,
                at,
                server,
                routes: &routes,
                signing,
                plain_http: file.plain_http(),
                fetcher,
                storage: &file.storage.dir,
                ground: self,
            };
            let own = work.secrets();
            work.path_is_free(&mut seen);
            sources.extend(work.source(&own, &mut seen));
            self.secrets.extend(own);
        }
        sources
    }
}

/// What may be used once, by whom, and where that stands.
#[derive(Default)]
struct Seen {
    paths: HashMap<String, (String, Mark)>,
    secrets: Vec<(String, Secret, Mark)>,
}

/// One source under work.
struct Work<'a, 'g> {
    name: &'a str,
    shape: &'a file::Source,
    at: Path,
    server: &'a Server,
    routes: &'a [&'a RouteOutline],
    signing: &'a HashMap<String, Signing>,
    plain_http: bool,
    fetcher: &'a Arc<dyn Documents>,
    storage: &'a std::path::Path,
    ground: &'a mut Ground<'g>,
}

impl Work<'_, '_> {
    fn source(&mut self, secrets: &[SecretOrigin], seen: &mut Seen) -> Option<Source> {
        let shape = self.shape;
        let (routes, captures) = routes::of_source(self.routes);
        let routes = Routes::new(routes, shape.shared.unrouted == Unrouted::Reject);
        self.ground.unreachable(self.routes);
        if self.routes.is_empty() {
            self.no_route();
        }
        let language = self.ground.language(self.name, shape, captures, &self.at)?;
        if shape.secret.is_none() && !language.finds_keys() {
            self.no_secret();
        }
        let public_url = self.public_url(language.needs_public_url);
        self.ground.habits(self.name, shape, self.routes, &language, &self.at);
        self.ground.secret_shapes(shape, secrets, &self.at);
        let live: Vec<_> = secrets.iter().map(live).collect();
        let shown = self.keys_secret(&language);
        let verifier = Arc::new(self.verifier(&language, &live, &public_url)?);
        let keyring = Keyring::new(Arc::clone(&verifier), Arc::clone(self.fetcher), shown);
        self.are_new(secrets, &verifier, seen);
        let dedup = self.policy();
        let manners = self.ground.manners(shape, &self.at)?;
        let signs = self.ground.signs(self.signing, self.routes, self.name, &language, &public_url);
        let confirmer = shape.confirm.then(|| self.confirmer(&language));
        Some(Source {
            name: self.ground.name(self.name, &self.at)?,
            provider: shape.provider.clone()?,
            path: self.path(),
            keyring: verifier.fetches().then(|| Arc::new(keyring)),
            verifier,
            secrets: live,
            language,
            manners,
            captured: is_captured(shape),
            confirmer,
            enforce: shape.shared.enforce,
            body_bytes_max: shape.shared.max_body.0,
            allow_encoded: shape.content_encoding == ContentEncoding::Allow,
            allow_ips: self.ground.networks(&shape.allow_ips, &self.at.key("allow_ips")),
            public_url,
            dedup,
            signs: Arc::new(signs),
            routes,
        })
    }

    fn no_route(&mut self) {
        let answer = match self.shape.shared.unrouted {
            Unrouted::Accept => "all are answered 200 and go nowhere",
            Unrouted::Reject => "all are answered 404",
        };
        let message = format!("no route takes events of `{}`", self.name);
        self.ground.warn("no-route", &self.ground.key(&self.at), message).label(answer);
    }

    /// What is shown to whoever has the provider's keys. Where that is asked for, it must be there, or the keys must.
    fn keys_secret(&mut self, language: &Compiled) -> Option<Secret> {
        let place = self.ground.key(&self.at);
        let is_asked = language.schemes.iter().any(|scheme| scheme.credential().is_some());
        let Some(form) = &self.shape.keys_secret else {
            if is_asked && self.shape.secret.is_none() {
                let message = format!("`{}` has no keys, and may not ask for any", self.at);
                self.ground
                    .error("missing-key", &place, message)
                    .label("add `keys_secret: …`, or `secret: …` with the provider's keys");
            }
            return None;
        };
        let at = self.at.key("keys_secret");
        if !is_asked {
            let message = "nothing is shown to whoever has this provider's keys";
            self.ground.error("bad-value", &at, message).label("remove it");
        }
        let mark = self.ground.mark(&at);
        let read = self.ground.secret(form, &format!("{} keys", self.name), mark)?;
        self.ground.secrets.push(read.clone());
        read.secret
    }

    fn confirmer(&mut self, language: &Compiled) -> Arc<Confirmer> {
        if !language.handshakes.iter().any(Rule::confirms) {
            let message = format!("the provider of `{}` asks for no confirmation", self.name);
            self.ground
                .error("bad-value", &self.at.key("confirm"), message)
                .label("remove it, or say under `handshake` which URL is fetched");
        }
        Arc::new(Confirmer::new(Arc::clone(self.fetcher)))
    }

    fn no_secret(&mut self) {
        let place = self.ground.key(&self.at);
        let message = format!("`{}` has no `secret`", self.at);
        let preset = self.shape.provider.as_deref().and_then(providers::preset);
        let found = preset.and_then(|preset| preset.secret.found_at.as_deref());
        let about = found.unwrap_or(
            "The signing secret, or a list: any of them may match, which is how secrets are rotated.",
        );
        let error = self.ground.error("missing-key", &place, message).label("add `secret: …`");
        error.note(format!("`secret`: {about}"));
    }

    fn path(&self) -> String {
        self.shape.path.clone().unwrap_or_else(|| format!("/{}", self.name))
    }

    fn path_is_free(&mut self, seen: &mut Seen) {
        let path = self.path();
        let found = self.ground.tree.locate(&self.at.key("path"));
        let mark = if self.shape.path.is_some() { found.value } else { found.key };
        let plain = path.bytes().all(|b| b.is_ascii_graphic() && !b"?#%\\".contains(&b));
        let odd = |part| matches!(part, "" | "." | "..");
        if !path.starts_with('/') || !plain || path.split('/').skip(1).any(odd) {
            self.ground
                .error("bad-path", &mark, format!("`{path}` is not a path"))
                .label("write `/stripe`; requests must match it byte for byte");
            return;
        }
        let own = (self.name.to_owned(), mark);
        let Some((other, first)) = seen.paths.insert(path.clone(), own) else { return };
        let message = format!("sources `{other}` and `{}` both answer at {path}", self.name);
        self.ground
            .error("duplicate-path", &mark.max(first), message)
            .label("first used at ")
            .first(mark.min(first), "")
            .help("give each source its own path, or put both secrets in one source as a list");
    }

    /// What the provider has on file; says so where it is needed and cannot be known.
    fn public_url(&mut self, needed: bool) -> String {
        if let Some(url) = &self.shape.public_url {
            return self.ground.public_url(url, &self.at.key("public_url"), true);
        }
        if let Some(base) = &self.server.public_url {
            return format!("{base}{}", self.path());
        }
        if needed {
            let provider = self.shape.provider.as_deref().unwrap_or_default();
            let message =
                format!("provider `{provider}` signs the public URL, and we do not know it");
            let host = self.server.hosts.first().map_or("hooks.example.com", String::as_str);
            let proxied = "`tls.mode` is `none`, so a proxy in front of us has the public name";
            let why = if self.plain_http { proxied } else { "`server.host` is not set" };
            let place = self.at.key("provider");
            self.ground.error("public-url", &place, message).note(why).help(format!(
                "set `server.public_url: https://{host}` exactly as the provider has it on file"
            ));
        }
        format!("http://localhost{}", self.path())
    }

    fn verifier(
        &mut self,
        language: &Compiled,
        live: &[LiveSecret],
        public_url: &str,
    ) -> Option<Verifier> {
        if self.ground.options.offline {
            return Some(Verifier::without_keys(&language.schemes));
        }
        if live.is_empty() && (self.shape.secret.is_some() || !language.finds_keys()) {
            return None;
        }
        let place = self.at.key("secret");
        Verifier::new(language.schemes.clone(), live.to_vec(), public_url)
            .map_err(|why| {
                self.ground.error("secret-form", &place, why);
            })
            .ok()
    }

    fn policy(&mut self) -> Policy {
        let shape = &self.shape.dedup;
        let at = self.at.key("dedup");
        let delivering = self.routes.iter().filter(|route| route.to.is_some());
        let slowest = delivering.max_by_key(|route| route.timeout);
        let timeout = slowest.map_or(Duration::ZERO, |route| route.timeout);
        let least = Span(timeout + Duration::from_secs(1));
        if let Some(slowest) = slowest
            && shape.claim < least
        {
            let route = slowest.at.key("timeout");
            let claim = at.key("claim");
            let path = if self.ground.tree.has(&claim) { claim } else { route };
            let (claim, name, span) = (shape.claim, &slowest.name, Span(timeout));
            let message = format!(
                "`dedup.claim` {claim} is too short for route `{name}`, which may take {span}"
            );
            self.ground
                .error("claim-short", &path, message)
                .label("a twin could pass while the first is still under way")
                .help(format!("`claim` must be at least {least}: the timeout and a second"));
        }
        Policy {
            window: self.ground.not_zero(&at.key("window"), shape.window),
            lease: shape.claim.0,
            join_timeout: shape.join_timeout.0,
            hold: match shape.on_unknown {
                Some(OnUnknown::Word(_)) => Duration::ZERO,
                Some(OnUnknown::Hold(span)) => span.0,
                None => timeout,
            },
            replay_guard: shape.replay_guard == ReplayGuard::Suppress,
            on_store_error: shape.on_store_error,
        }
    }

    fn secrets(&mut self) -> Vec<SecretOrigin> {
        let at = self.at.key("secret");
        let forms = self.shape.secret.as_ref().map_or(&[][..], OneOrMany::as_slice);
        let mut found = Vec::new();
        if forms.is_empty() && self.shape.secret.is_some() {
            self.ground.error("secret-shape", &at, "there is no secret in this list");
        }
        for (index, form) in forms.iter().enumerate() {
            let mark = self.ground.mark(&at.item(index));
            let name = match forms {
                [_] => self.name.to_owned(),
                _ => format!("{} #{}", self.name, index + 1),
            };
            if matches!(form, SecretForm::Place(SecretPlace { captured: true, .. })) {
                found.extend(self.captured(mark));
                continue;
            }
            found.extend(self.ground.secret(form, &name, mark));
        }
        let now = self.ground.options.now;
        let expired = |secret: &SecretOrigin| secret.expires.is_some_and(|at| at <= now);
        if !found.is_empty() && found.iter().all(expired) {
            let message = format!("every secret of `{}` has expired", self.name);
            self.ground.error("secret-expired", &at, message).label("no request could be verified");
        }
        found
    }

    /// What was captured so far. Before the first one a secret stands in that nobody knows.
    fn captured(&mut self, mark: Mark) -> Vec<SecretOrigin> {
        let origin = |secret| SecretOrigin {
            name: self.name.to_owned(),
            secret: Some(secret),
            origin: "captured".into(),
            expires: None,
            id: None,
            mark,
        };
        if self.ground.options.offline {
            return vec![SecretOrigin { secret: None, ..origin(Secret::new(PLACEHOLDER)) }];
        }
        let message = match captured::read(self.storage, self.name) {
            Ok(secrets) if !secrets.is_empty() => return secrets.into_iter().map(origin).collect(),
            Ok(_) => format!("the secret of `{}` was not captured yet", self.name),
            Err(error) => {
                let file = captured::file(self.storage, self.name);
                let message = format!("`{}` cannot be read: {error}", file.display());
                self.ground.error("secret-file", &mark, message);
                return Vec::new();
            }
        };
        let stand_in = origin(captured::unknown());
        let help = format!("run `gatepost providers capture {}`, then subscribe", self.name);
        self.ground
            .warn("not-captured", &mark, message)
            .label("until then no request of it is believed")
            .help(help);
        vec![stand_in]
    }

    /// Equal secrets in two sources: an event signed for one would pass at the other. Keys that anybody may know may be equal, and
    /// what a provider said is not for the operator to choose.
    fn are_new(&mut self, secrets: &[SecretOrigin], verifier: &Verifier, seen: &mut Seen) {
        if is_captured(self.shape) {
            return;
        }
        let shared = (1..).zip(secrets).filter(|(slot, _)| verifier.is_shared(*slot));
        for SecretOrigin { name, secret, mark, .. } in shared.map(|(_, own)| own) {
            let Some(secret) = secret else { continue };
            let twin = seen.secrets.iter().find(|(_, other, _)| other.matches(secret.expose()));
            if let Some((other, _, first)) = twin {
                let message = format!("secrets `{other}` and `{name}` are equal");
                self.ground
                    .error("secret-reused", mark, message)
                    .label("first used at ")
                    .first(*first, "")
                    .help("what is signed for one would pass at the other: give each its own");
            }
            seen.secrets.push((name.clone(), secret.clone(), *mark));
        }
    }
}

fn is_captured(shape: &file::Source) -> bool {
    let forms = shape.secret.as_ref().map_or(&[][..], OneOrMany::as_slice);
    forms.iter().any(|form| matches!(form, SecretForm::Place(place) if place.captured))
}

/// Stands in for a secret that is not read.
const PLACEHOLDER: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

/// A secret as verifiers take it.
pub(super) fn live(origin: &SecretOrigin) -> LiveSecret {
    let secret = origin.secret.clone().unwrap_or_else(|| Secret::new(PLACEHOLDER));
    LiveSecret { secret, expires: origin.expires, id: origin.id.as_deref().map(Into::into) }
}
