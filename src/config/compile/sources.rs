//! `sources`: who may call us, how we believe them, and what they are told.

use std::{collections::HashMap, sync::Arc, time::Duration};

use super::{Ground, process, provider, routes};
use crate::{
    config::{
        RouteOutline, SecretOrigin, Server, Source,
        file::{
            self, ContentEncoding, File, Handshake, OnStoreError, OnUnknown, OneOrMany, Unrouted,
        },
        report::Problem,
        spans::Path,
    },
    dedup::{self, Policy},
    route::Routes,
    secret::Secret,
    verify::{LiveSecret, Verifier},
};

/// All sources. Their secrets are added to `secrets`.
pub(crate) fn compile(
    file: &File,
    server: &Server,
    outlines: &[RouteOutline],
    secrets: &mut Vec<SecretOrigin>,
    ground: &mut Ground<'_>,
) -> Vec<Source> {
    let mut sources = Vec::new();
    let mut seen = Seen::default();
    for (name, shape) in file.sources.iter().flatten() {
        let at = Path::of("sources").key(name);
        let own = read_secrets(name, shape, &at, &mut seen, ground);
        let work = Work { name, shape, at, server, outlines };
        work.path_is_free(&mut seen, ground);
        if shape.max_body > file.limits.body_memory {
            let message = format!(
                "one body may be larger than all memory for bodies ({})",
                file.limits.body_memory
            );
            ground.error(
                "bad-value",
                &work.at.key("max_body"),
                message,
                "raise `limits.body_memory`",
            );
        }
        sources.extend(work.source(&own, ground));
        secrets.extend(own);
    }
    sources
}

/// What may be used once.
#[derive(Default)]
struct Seen {
    paths: HashMap<String, (String, Path)>,
    secrets: Vec<(String, Secret, Path)>,
}

struct Work<'a> {
    name: &'a str,
    shape: &'a file::Source,
    at: Path,
    server: &'a Server,
    outlines: &'a [RouteOutline],
}

impl Work<'_> {
    fn source(&self, secrets: &[SecretOrigin], ground: &mut Ground<'_>) -> Option<Source> {
        let shape = self.shape;
        let (routes, captures) = routes::of_source(self.name, self.outlines);
        let own: Vec<_> = self.outlines.iter().filter(|route| route.source == self.name).collect();
        if own.is_empty() {
            let message = format!("no route takes events of `{}`", self.name);
            let answer = match shape.unrouted {
                Unrouted::Accept => "all are answered 200 and go nowhere",
                Unrouted::Reject => "all are answered 404",
            };
            ground.push(Problem::warning("no-route", ground.key(&self.at), message).label(answer));
        }
        let language = provider::language(self.name, shape, captures, &self.at, ground)?;
        let public_url = self.public_url(language.needs_public_url, ground);
        provider::habits(self.name, shape, &own, &language, &self.at, ground);
        provider::secret_shapes(shape, secrets, &self.at, ground);
        let live: Vec<_> = secrets.iter().map(live).collect();
        let verifier = self.verifier(&language, &live, &public_url, ground)?;
        let dedup = self.policy(&own, ground);
        Some(Source {
            name: ground.name(self.name, &self.at)?,
            provider: shape.provider.clone()?,
            path: self.path(),
            verifier: Arc::new(verifier),
            secrets: live,
            language,
            handshake: shape.handshake == Handshake::Auto,
            enforce: shape.enforce,
            body_bytes_max: shape.max_body.0,
            allow_encoded: shape.content_encoding == ContentEncoding::Allow,
            allow_ips: ground.networks(&shape.allow_ips, &self.at.key("allow_ips")),
            public_url,
            dedup,
            routes: Routes::new(routes, shape.unrouted == Unrouted::Reject),
        })
    }

    fn path(&self) -> String {
        self.shape.path.clone().unwrap_or_else(|| format!("/{}", self.name))
    }

    fn path_is_free(&self, seen: &mut Seen, ground: &mut Ground<'_>) {
        let path = self.path();
        let place = if self.shape.path.is_some() { self.at.key("path") } else { self.at.clone() };
        let at = if self.shape.path.is_some() { ground.at(&place) } else { ground.key(&place) };
        let plain = path.bytes().all(|b| b.is_ascii_graphic() && !b"?#%\\".contains(&b));
        if !path.starts_with('/')
            || !plain
            || path.split('/').skip(1).any(|part| matches!(part, "" | "." | ".."))
        {
            let problem = Problem::error("bad-path", at, format!("`{path}` is not a path"));
            ground.push(problem.label("write `/stripe`; requests must match it byte for byte"));
            return;
        }
        let (name, own) = (self.name.to_owned(), place);
        let Some((other, first)) = seen.paths.insert(path.clone(), (name, own.clone())) else {
            return;
        };
        let line = |path: &Path| ground.mark(path).line;
        let (later, first) = if line(&own) >= line(&first) { (own, first) } else { (first, own) };
        let message = format!("sources `{other}` and `{}` both answer at {path}", self.name);
        let problem = Problem::error("duplicate-path", ground.at(&later), message)
            .label("first used at ")
            .first(ground.mark(&first), "")
            .help("give each source its own path, or put both secrets in one source as a list");
        ground.push(problem);
    }

    /// What the provider has on file; says so where it is needed and cannot be known.
    fn public_url(&self, needed: bool, ground: &mut Ground<'_>) -> String {
        if let Some(url) = &self.shape.public_url {
            return process::public_url(url, &self.at.key("public_url"), true, ground);
        }
        if let Some(base) = &self.server.public_url {
            return format!("{base}{}", self.path());
        }
        if needed {
            let provider = self.shape.provider.as_deref().unwrap_or_default();
            let message =
                format!("provider `{provider}` signs the public URL, and we do not know it");
            let problem =
                Problem::error("public-url", ground.at(&self.at.key("provider")), message);
            let problem = match self.server.hosts.is_empty() {
                true => problem,
                false => problem
                    .note("`tls.mode` is `none`, so a proxy in front of us has the public name"),
            };
            let host = self.server.hosts.first().map_or("hooks.example.com", String::as_str);
            let help = format!(
                "set `server.public_url: https://{host}` exactly as the provider has it on file"
            );
            ground.push(problem.help(help));
        }
        format!("http://localhost{}", self.path())
    }

    fn verifier(
        &self,
        language: &crate::providers::Compiled,
        live: &[LiveSecret],
        public_url: &str,
        ground: &mut Ground<'_>,
    ) -> Option<Verifier> {
        let build = |secrets| Verifier::new(language.schemes.clone(), secrets, public_url);
        if ground.reading.offline {
            return PLACEHOLDERS.iter().find_map(|text| {
                build(vec![LiveSecret { secret: Secret::new(*text), expires: None }]).ok()
            });
        }
        if live.is_empty() {
            return None;
        }
        build(live.to_vec())
            .map_err(|why| ground.error("secret-form", &self.at.key("secret"), why, ""))
            .ok()
    }

    fn policy(&self, own: &[&RouteOutline], ground: &mut Ground<'_>) -> Policy {
        let shape = &self.shape.dedup;
        let at = self.at.key("dedup");
        let slowest =
            own.iter().filter(|route| route.to.is_some()).max_by_key(|route| route.timeout);
        let timeout = slowest.map_or(Duration::ZERO, |route| route.timeout);
        process::not_zero(&at.key("window"), shape.window.0, ground);
        if let Some(slowest) = slowest
            && shape.claim.0 < timeout + Duration::from_secs(1)
        {
            let typed = ground.is_typed(&at.key("claim"));
            let route = Path::of("routes").item(slowest.index).key("timeout");
            let path = if typed { at.key("claim") } else { route };
            let (claim, span) = (shape.claim, file::Span(timeout));
            let message = format!(
                "`dedup.claim` {claim} is too short for route `{}`, which may take {span}",
                slowest.name
            );
            let label = "a twin could pass while the first is still under way";
            let problem = Problem::error("claim-short", ground.at(&path), message).label(label);
            let least = file::Span(timeout + Duration::from_secs(1));
            ground.push(
                problem.help(format!("`claim` must be at least {least}: the timeout and a second")),
            );
        }
        Policy {
            window: shape.window.0,
            lease: shape.claim.0,
            join_timeout: shape.join_timeout.0,
            hold: match shape.on_unknown {
                Some(OnUnknown::Release(_)) => Duration::ZERO,
                Some(OnUnknown::Hold(span)) => span.0,
                None => timeout,
            },
            same_id_other_body: match shape.same_id_other_body {
                file::SameIdOtherBody::Flag => dedup::SameIdOtherBody::Flag,
                file::SameIdOtherBody::Deliver => dedup::SameIdOtherBody::Deliver,
            },
            replay_guard: shape.replay_guard == file::ReplayGuard::Suppress,
            on_store_error: match shape.on_store_error {
                OnStoreError::Reject => dedup::OnStoreError::Reject,
                OnStoreError::Forward => dedup::OnStoreError::Forward,
            },
        }
    }
}

/// Stand in for secrets that are not read: one fits every key form, the other has a user name.
const PLACEHOLDERS: [&str; 2] = [
    "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f",
    "offline:000102030405060708090a0b0c0d0e0f",
];

fn read_secrets(
    name: &str,
    shape: &file::Source,
    at: &Path,
    seen: &mut Seen,
    ground: &mut Ground<'_>,
) -> Vec<SecretOrigin> {
    let forms = shape.secret.as_ref().map_or(&[][..], OneOrMany::as_slice);
    let many = forms.len() > 1;
    let mut found = Vec::new();
    if forms.is_empty() && shape.secret.is_some() {
        ground.error("secret-shape", &at.key("secret"), "there is no secret in this list", "");
    }
    for (index, form) in forms.iter().enumerate() {
        let path = at.key("secret").item(index);
        let label = if many { format!("{name} #{}", index + 1) } else { name.to_owned() };
        let mark = ground.mark(&path);
        let Some(origin) = ground.reading.read(form, &label, mark, &mut ground.problems) else {
            continue;
        };
        if let Some(secret) = &origin.secret {
            reused(&label, secret, &path, seen, ground);
        }
        found.push(origin);
    }
    if !found.is_empty()
        && found.iter().all(|s| s.expires.is_some_and(|at| at <= ground.reading.now))
    {
        let message = format!("every secret of `{name}` has expired");
        ground.error("secret-expired", &at.key("secret"), message, "no request could be verified");
    }
    found
}

/// Equal secrets in two sources: an event signed for one would pass at the other.
fn reused(name: &str, secret: &Secret, path: &Path, seen: &mut Seen, ground: &mut Ground<'_>) {
    let twin = seen.secrets.iter().find(|(_, other, _)| other.matches(secret.expose()));
    if let Some((other, _, first)) = twin {
        let mark = ground.mark(first);
        let message = format!("secrets `{other}` and `{name}` are equal");
        let problem = Problem::error("secret-reused", ground.at(path), message);
        ground.push(
            problem
                .label("first used at ")
                .first(mark, "")
                .help("what is signed for one source would pass at the other: give each its own"),
        );
    }
    seen.secrets.push((name.to_owned(), secret.clone(), path.clone()));
}

fn live(origin: &SecretOrigin) -> LiveSecret {
    let secret = origin.secret.clone().unwrap_or_else(|| Secret::new(PLACEHOLDERS[0]));
    LiveSecret { secret, expires: origin.expires }
}
