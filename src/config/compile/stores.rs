//! What is kept: `dedup` and `audit`.

use http::Uri;

use super::{Ground, process::not_zero};
use crate::{
    audit,
    config::{
        SecretOrigin, Store,
        file::{self, CopyTo, File},
        report::Problem,
        spans::Path,
    },
    dedup,
    secret::Secret,
};

/// `dedup.store` and `dedup.redis`.
pub(crate) fn dedup(
    section: &file::Dedup,
    secrets: &mut Vec<SecretOrigin>,
    ground: &mut Ground<'_>,
) -> Store {
    match section.store {
        file::Store::Embedded => Store::Embedded,
        file::Store::Memory => {
            let at = ground.at(&Path::of("dedup.store"));
            let warning =
                Problem::warning("memory-store", at, "events are forgotten when the process ends");
            ground.push(warning.label("use `embedded` or `redis` in production"));
            Store::Memory
        }
        file::Store::Redis => Store::Redis(redis(&section.redis, secrets, ground)),
    }
}

fn redis(
    section: &file::Redis,
    secrets: &mut Vec<SecretOrigin>,
    ground: &mut Ground<'_>,
) -> dedup::RedisSettings {
    let at = Path::of("dedup.redis");
    let (url, user, inline) = credentials(&section.url);
    redis_url(&url, &at.key("url"), ground);
    let named = section.password.as_ref().and_then(|form| {
        let path = at.key("password");
        let mark = ground.mark(&path);
        ground.reading.read(form, "redis", mark, &mut ground.problems)
    });
    if let Some(password) = &named {
        secrets.push(password.clone());
    }
    if inline.is_some() && section.url.contains('@') && !is_completed(&at.key("url"), ground) {
        let at = ground.at(&at.key("url"));
        let warning =
            Problem::warning("redis-password", at, "the password of Redis is written in its URL");
        ground
            .push(warning.help("use `password: { env: REDIS_PASSWORD }`, or `url: ${REDIS_URL}`"));
    }
    not_zero(&at.key("timeout"), section.timeout.0, ground);
    let ca = section.ca.as_ref().map(|ca| ground.file(ca, &at.key("ca")));
    dedup::RedisSettings {
        url,
        username: section.username.clone().or(user),
        password: named.and_then(|password| password.secret).or(inline),
        prefix: section.prefix.clone(),
        timeout: section.timeout.0,
        require_noeviction: section.require_noeviction,
        ca,
    }
}

/// Whether the text of the file holds a reference at `path`.
fn is_completed(path: &Path, ground: &Ground<'_>) -> bool {
    ground.tree.text(path).is_some_and(|text| text.contains("${"))
}

/// Takes user and password out of a URL, so that it can be logged.
fn credentials(url: &str) -> (String, Option<String>, Option<Secret>) {
    let parts = url.split_once("://").and_then(|(scheme, rest)| {
        let (user, rest) = rest.rsplit_once('@')?;
        Some((scheme, user, rest))
    });
    let Some((scheme, user, rest)) = parts else { return (url.to_owned(), None, None) };
    let (user, password) = user.split_once(':').unwrap_or((user, ""));
    let some = |text: &str| (!text.is_empty()).then(|| decoded(text));
    (format!("{scheme}://{rest}"), some(user), some(password).map(Secret::new))
}

/// Percent-decoding of what a URL's user part may hold.
fn decoded(text: &str) -> String {
    let (mut bytes, mut rest) = (Vec::new(), text.as_bytes());
    while let Some((first, after)) = rest.split_first() {
        let code = after.get(..2).and_then(|hex| hex::decode(hex).ok()).filter(|_| *first == b'%');
        bytes.push(code.as_ref().and_then(|code| code.first().copied()).unwrap_or(*first));
        rest = after.get(if code.is_some() { 2 } else { 0 }..).unwrap_or_default();
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn redis_url(url: &str, path: &Path, ground: &mut Ground<'_>) {
    let scheme = url
        .split_once("://")
        .map(|(scheme, rest)| (scheme, rest.split('/').next().unwrap_or_default()));
    let (base, many) = match scheme {
        Some((scheme, hosts)) => {
            let base = scheme.split('+').next().unwrap_or_default();
            let kinds = ["", "sentinel", "cluster"];
            let kind = scheme.split_once('+').map_or("", |(_, kind)| kind);
            (if kinds.contains(&kind) { base } else { "" }, hosts.split(',').collect::<Vec<_>>())
        }
        None => ("", Vec::new()),
    };
    let hosts_fit =
        !many.is_empty() && many.iter().all(|host| host.parse::<http::uri::Authority>().is_ok());
    if !matches!(base, "redis" | "rediss") || !hosts_fit {
        let label = "write `redis://host:6379/0`, `rediss://…`, `redis+sentinel://a,b/name` or `redis+cluster://a,b`";
        ground.error("bad-url", path, "this is not the URL of a Redis", label);
    }
}

/// `audit`.
pub(crate) fn audit(file: &File, ground: &mut Ground<'_>) -> (audit::Params, audit::Detail) {
    let section = &file.audit;
    let at = Path::of("audit");
    let below = |name: &str| std::path::Path::new(&file.storage.dir).join(name);
    let key = section.checkpoint.key.as_ref().and_then(|key| key.file.clone());
    let copy_to = section.checkpoint.copy_to.iter().filter_map(|copy| match copy {
        CopyTo::Stdout(file::Stdout::Stdout) => Some(audit::CopyTo::Stdout),
        CopyTo::File(place) => place.file.clone().map(|file| audit::CopyTo::File(file.into())),
    });
    let params = audit::Params {
        dir: section.dir.clone().map_or_else(|| below("audit"), Into::into),
        retention: section.retention.0,
        rotate_bytes: section.rotate.size.0,
        rotate_every: section.rotate.every.0,
        compress: section.compress == file::Compress::Zstd,
        checkpoint_every: section.checkpoint.every.0,
        checkpoint_key: key.map_or_else(|| below("audit-signing.key"), Into::into),
        copy_to: copy_to.collect(),
        free_bytes_min: file.storage.min_free.0,
        fsync: true,
    };
    for (key, value) in [
        ("retention", params.retention),
        ("rotate.every", params.rotate_every),
        ("checkpoint.every", params.checkpoint_every),
    ] {
        not_zero(&at.join(&Path::of(key)), value, ground);
    }
    if params.rotate_bytes < 1 << 20 {
        ground.error(
            "bad-value",
            &Path::of("audit.rotate.size"),
            "segments of less than 1MiB are too many",
            "",
        );
    }
    let headers = section.headers.iter().enumerate();
    let headers = headers.filter_map(|(i, name)| ground.header(name, &at.key("headers").item(i)));
    let detail = audit::Detail {
        headers: headers.collect(),
        client_ip: match section.client_ip {
            file::ClientIp::Keep => audit::ClientIp::Keep,
            file::ClientIp::Truncate => audit::ClientIp::Truncate,
            file::ClientIp::Drop => audit::ClientIp::Drop,
        },
        rejected: match section.rejected {
            file::Rejected::Sampled => audit::Rejected::Sampled,
            file::Rejected::None => audit::Rejected::None,
        },
    };
    (params, detail)
}

/// Whether `url` has a host and a scheme that we speak.
pub(crate) fn is_http(url: &Uri) -> bool {
    url.host().is_some_and(|host| !host.is_empty())
        && matches!(url.scheme_str(), Some("http" | "https"))
}
