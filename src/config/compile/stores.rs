//! What is kept: `dedup` and `audit`.

use http::uri::Authority;
use percent_encoding::percent_decode_str;

use super::Ground;
use crate::{
    answer::Manners,
    audit,
    config::{
        Store,
        file::{self, CopyTo, File},
        report::Explain as _,
        tree::Path,
    },
    dedup,
    secret::Secret,
};

const SCHEMES: [&str; 6] =
    ["redis", "rediss", "redis+sentinel", "rediss+sentinel", "redis+cluster", "rediss+cluster"];

impl Ground<'_> {
    /// `dedup.store` and `dedup.redis`.
    pub(crate) fn dedup(&mut self, section: &file::Dedup) -> Store {
        match section.store {
            file::Store::Embedded => Store::Embedded,
            file::Store::Memory => {
                let place = Path::of("dedup.store");
                self.warn("memory-store", &place, "events are forgotten when the process ends")
                    .label("use `embedded` or `redis` in production");
                Store::Memory
            }
            file::Store::Redis => Store::Redis(self.redis(&section.redis)),
        }
    }

    fn redis(&mut self, section: &file::Redis) -> dedup::RedisSettings {
        let at = Path::of("dedup.redis");
        let (url, user, inline) = credentials(&section.url);
        self.redis_url(&url, &at.key("url"));
        let named = section.password.as_ref().and_then(|form| {
            let mark = self.mark(&at.key("password"));
            self.secret(form, "redis", mark)
        });
        self.secrets.extend(named.clone());
        // What a variable brings is not written here.
        let written = self.tree.text(&at.key("url")).is_some_and(|text| !text.contains("${"));
        if inline.is_some() && written {
            let place = at.key("url");
            self.warn("redis-password", &place, "the password of Redis is written in its URL")
                .help("use `password: { env: REDIS_PASSWORD }`, or `url: ${REDIS_URL}`");
        }
        let ca = section.ca.as_ref().map(|ca| self.file(ca, &at.key("ca")));
        dedup::RedisSettings {
            url,
            username: section.username.clone().or(user),
            password: named.and_then(|password| password.secret).or(inline),
            prefix: section.prefix.clone(),
            timeout: self.not_zero(&at.key("timeout"), section.timeout),
            require_noeviction: section.require_noeviction,
            ca,
        }
    }

    fn redis_url(&mut self, url: &str, path: &Path) {
        let fits = url.split_once("://").is_some_and(|(scheme, rest)| {
            let mut hosts = rest.split('/').next().unwrap_or_default().split(',');
            let is_host = |host: &str| {
                let parsed = host.parse::<Authority>();
                parsed.is_ok_and(|at| at.port_u16().is_some() || at.host() == host)
            };
            SCHEMES.contains(&scheme) && hosts.all(is_host)
        });
        if !fits {
            let label = "write `redis://host:6379/0`, `rediss://…`, `redis+sentinel://a,b/name` or `redis+cluster://a,b`";
            self.error("bad-url", path, "this is not the URL of a Redis").label(label);
        }
    }

    /// `audit`.
    pub(crate) fn audit(&mut self, file: &File) -> (audit::Params, audit::Detail) {
        let section = &file.audit;
        let at = |key| Path::of("audit").join(&Path::of(key));
        let below = |name: &str| file.storage.dir.join(name);
        let key = section.checkpoint.key.as_ref().and_then(|key| key.file.clone());
        let copy_to = section.checkpoint.copy_to.iter().filter_map(|copy| match copy {
            CopyTo::Word(file::Stdout::Stdout) => Some(audit::CopyTo::Stdout),
            CopyTo::File(place) => place.file.clone().map(|file| audit::CopyTo::File(file.into())),
        });
        let params = audit::Params {
            dir: section.dir.clone().map_or_else(|| below("audit"), Into::into),
            retention: self.not_zero(&at("retention"), section.retention),
            rotate_bytes: section.rotate.size.0,
            rotate_every: self.not_zero(&at("rotate.every"), section.rotate.every),
            compress: section.compress == file::Compress::Zstd,
            checkpoint_every: self.not_zero(&at("checkpoint.every"), section.checkpoint.every),
            checkpoint_key: key.map_or_else(|| below("audit-signing.key"), Into::into),
            copy_to: copy_to.collect(),
            free_bytes_min: file.storage.min_free.0,
            fsync: true,
        };
        if params.rotate_bytes < 1 << 20 {
            let place = at("rotate.size");
            self.error("bad-value", &place, "segments of less than 1MiB are too many");
        }
        let detail = audit::Detail {
            headers: self.headers(&section.headers, &at("headers")),
            client_ip: section.client_ip,
            rejected: section.rejected,
            manners: Manners::default(),
        };
        (params, detail)
    }
}

/// Takes user and password out of a URL, so that it can be logged.
fn credentials(url: &str) -> (String, Option<String>, Option<Secret>) {
    let parts = url.split_once("://").and_then(|(scheme, rest)| {
        let (user, rest) = rest.rsplit_once('@')?;
        Some((scheme, user, rest))
    });
    let Some((scheme, user, rest)) = parts else { return (url.to_owned(), None, None) };
    let (user, password) = user.split_once(':').unwrap_or((user, ""));
    let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    let some = |text: &str| (!text.is_empty()).then(|| decoded(text));
    (format!("{scheme}://{rest}"), some(user), some(password).map(Secret::new))
}
