//! The sections about the process itself: server, tls, storage, admin, limits, telemetry.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    num::NonZeroUsize,
    time::Duration,
};

use http::{HeaderName, Uri};

use super::Ground;
use crate::{
    config::{
        Admin, CertFiles, Limits, ProxyProtocol, Server, Storage, Telemetry, Tls, TlsMode,
        file::{self, File},
        report::Problem,
        spans::Path,
    },
    providers::shape::OneOrMany,
};

/// `server`.
pub(crate) fn server(file: &File, ground: &mut Ground<'_>) -> Server {
    let section = &file.server;
    let at = Path::of("server");
    let plain_http = file.tls.as_ref().is_some_and(|tls| tls.mode == Some(file::TlsMode::None));
    let port = if plain_http { 8080 } else { 443 };
    let listen = match &section.listen {
        Some(list) => {
            let list = list.as_slice().iter().enumerate();
            list.map(|(i, text)| address(text, &at.key("listen").item(i), ground)).collect()
        }
        None => vec![SocketAddr::from((Ipv6Addr::UNSPECIFIED, port))],
    };
    let hosts = section.host.as_ref().map_or(&[][..], OneOrMany::as_slice);
    for (index, host) in hosts.iter().enumerate() {
        host_name(host, &at.key("host").item(index), ground);
    }
    let trusted_proxies = ground.networks(&section.trusted_proxies, &at.key("trusted_proxies"));
    if section.proxy_protocol != ProxyProtocol::None && section.trusted_proxies.is_empty() {
        let problem = Problem::error(
            "proxy-protocol",
            ground.at(&at.key("proxy_protocol")),
            "nobody may speak the PROXY protocol to us",
        );
        ground.push(problem.help("name the proxies: `trusted_proxies: [10.0.0.0/8]`"));
    }
    let implied = || hosts.first().filter(|_| !plain_http).map(|host| format!("https://{host}"));
    let typed = section.public_url.as_deref();
    let public_url = typed.map(|url| public_url(url, &at.key("public_url"), false, ground));
    let cores = || std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    Server {
        listen,
        workers: section.workers.map_or_else(cores, NonZeroUsize::get),
        hosts: hosts.to_vec(),
        public_url: public_url.or_else(implied),
        trusted_proxies,
        proxy_protocol: section.proxy_protocol,
        drain_timeout: section.drain_timeout.0,
        receipt_header: receipt_header(&section.receipt_header, ground),
        header_prefix: header_prefix(&section.header_prefix, ground),
        hide_paths: section.hide_paths,
    }
}

fn address(text: &str, path: &Path, ground: &mut Ground<'_>) -> SocketAddr {
    text.parse().unwrap_or_else(|_| {
        let port =
            text.rsplit(':').next().and_then(|port| port.parse::<u16>().ok()).unwrap_or(8443);
        let label = format!("write `\"[::]:{port}\"` for every address, or `127.0.0.1:{port}`");
        ground.error("bad-address", path, format!("`{text}` is not an address with a port"), label);
        SocketAddr::from((Ipv4Addr::LOCALHOST, port))
    })
}

fn host_name(host: &str, path: &Path, ground: &mut Ground<'_>) {
    let fits = |label: &str| {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
        (1..=63).contains(&label.len()) && label.bytes().all(plain) && !label.starts_with('-')
    };
    if host.len() > 253 || !host.split('.').all(fits) {
        let label = "a host is a name such as `hooks.example.com`, without scheme, port or path";
        ground.error("bad-host", path, format!("`{host}` is not a host name"), label);
    }
}

/// A URL that providers have on file, without the slash at its end.
pub(crate) fn public_url(
    text: &str,
    path: &Path,
    with_path: bool,
    ground: &mut Ground<'_>,
) -> String {
    let parts = text.parse::<Uri>().ok().map(Uri::into_parts);
    let fits = parts.is_some_and(|parts| {
        let scheme = parts.scheme.as_ref().is_some_and(|s| ["https", "http"].contains(&s.as_str()));
        let rest = parts.path_and_query.as_ref().map_or("", http::uri::PathAndQuery::as_str);
        scheme && parts.authority.is_some() && (with_path || matches!(rest, "" | "/"))
    });
    if !fits {
        let example = if with_path {
            "https://hooks.example.com/stripe"
        } else {
            "https://hooks.example.com"
        };
        ground.error(
            "bad-url",
            path,
            format!("`{text}` is not our public URL"),
            format!("write `{example}`"),
        );
    }
    if with_path { text.to_owned() } else { text.trim_end_matches('/').to_owned() }
}

fn receipt_header(text: &str, ground: &mut Ground<'_>) -> HeaderName {
    let path = Path::of("server.receipt_header");
    let name = ground.header(text, &path).unwrap_or(http::header::AGE);
    let taken = [
        "content-type",
        "content-length",
        "connection",
        "transfer-encoding",
        "retry-after",
        "date",
    ];
    if taken.contains(&name.as_str()) {
        ground.error(
            "bad-header",
            &path,
            format!("`{text}` already has a meaning in a response"),
            "",
        );
    }
    name
}

fn header_prefix(text: &str, ground: &mut Ground<'_>) -> String {
    let path = Path::of("server.header_prefix");
    let prefix = text.to_ascii_lowercase();
    if format!("{prefix}x").parse::<HeaderName>().is_err()
        || !prefix.ends_with('-')
        || prefix.len() > 32
    {
        let label = "letters, digits and `-`, with `-` at the end, such as `Gatepost-`";
        ground.error("header-prefix", &path, format!("`{text}` is not a prefix of headers"), label);
    } else if ["x-", "webhook-", "content-", "x-forwarded-", "svix-"].contains(&prefix.as_str()) {
        let problem = Problem::warning(
            "header-prefix",
            ground.at(&path),
            format!("headers that begin with `{text}` belong to others"),
        );
        ground.push(problem.label("every one that a sender sets would be removed"));
    }
    prefix
}

/// `tls`.
pub(crate) fn tls(file: &File, ground: &mut Ground<'_>) -> Tls {
    let section = file.tls.clone().unwrap_or_default();
    let at = Path::of("tls");
    let files = certificates(&section, &at, ground);
    let unused = |what: &str, ground: &mut Ground<'_>| {
        let message = format!("`{what}` has no effect with this `mode`");
        ground.push(Problem::warning("unused-key", ground.key(&at.key(what)), message));
    };
    if !files.is_empty() && section.mode != Some(file::TlsMode::Files) {
        unused("files", ground);
    }
    let mode = match section.mode {
        Some(file::TlsMode::Files) if section.files.is_empty() => {
            let path = at.key("mode");
            let problem = Problem::error("tls-files", ground.at(&path), "there is no certificate");
            ground.push(problem.help("name it: `files: [{ cert: tls.crt, key: tls.key }]`"));
            TlsMode::None
        }
        Some(file::TlsMode::Files) => TlsMode::Files(files),
        Some(file::TlsMode::Internal) => TlsMode::Internal,
        Some(file::TlsMode::None) | None => TlsMode::None,
    };
    if section.client_ca.is_some() && section.mode == Some(file::TlsMode::None) {
        unused("client_ca", ground);
    }
    let client_ca = section.client_ca.map(|ca| ground.file(&ca, &at.key("client_ca")));
    Tls { mode, tls13_only: section.min_version == file::TlsVersion::V13, client_ca }
}

fn certificates(section: &file::Tls, at: &Path, ground: &mut Ground<'_>) -> Vec<CertFiles> {
    let mut files = Vec::new();
    for (index, pair) in section.files.iter().enumerate() {
        let path = at.key("files").item(index);
        if let (Some(cert), Some(key)) = (&pair.cert, &pair.key) {
            let cert = ground.file(cert, &path.key("cert"));
            files.push(CertFiles { cert, key: ground.file(key, &path.key("key")) });
        }
    }
    files
}

/// `storage`.
pub(crate) fn storage(section: &file::Storage) -> Storage {
    Storage { dir: section.dir.clone().into(), free_bytes_min: section.min_free.0 }
}

/// `admin`.
pub(crate) fn admin(file: &File, server: &Server, ground: &mut Ground<'_>) -> Admin {
    let at = Path::of("admin");
    let listen = address(&file.admin.listen, &at.key("listen"), ground);
    if !listen.ip().is_loopback() {
        let where_to =
            if listen.ip().is_unspecified() { "every interface" } else { "a public interface" };
        let message = format!("the admin address would listen on {where_to} without a login");
        let problem = Problem::error("admin-exposed", ground.at(&at.key("listen")), message);
        let problem = problem.help(format!("keep 127.0.0.1:{}", listen.port()));
        ground.push(problem.help("only metrics and health from outside? use `metrics_listen`"));
    }
    let metrics = file.admin.metrics_listen.as_ref();
    let metrics_listen = metrics.map(|text| address(text, &at.key("metrics_listen"), ground));
    let mut taken: Vec<(SocketAddr, &str)> =
        server.listen.iter().map(|a| (*a, "server.listen")).collect();
    for (key, own) in [("listen", Some(listen)), ("metrics_listen", metrics_listen)] {
        let Some(own) = own else { continue };
        if let Some((_, other)) = taken.iter().find(|(other, _)| overlap(*other, own)) {
            let message = format!("`admin.{key}` and `{other}` have the same address");
            ground.error("port-clash", &at.key(key), message, "choose another port");
        }
        taken.push((own, if key == "listen" { "admin.listen" } else { "admin.metrics_listen" }));
    }
    Admin { listen, metrics_listen }
}

fn overlap(a: SocketAddr, b: SocketAddr) -> bool {
    let any = |ip: IpAddr| ip.is_unspecified();
    a.port() != 0 && a.port() == b.port() && (a.ip() == b.ip() || any(a.ip()) || any(b.ip()))
}

/// `limits`.
pub(crate) fn limits(section: &file::Limits) -> Limits {
    let bytes = |size: crate::config::units::Size| usize::try_from(size.0).unwrap_or(usize::MAX);
    Limits {
        connections: section.connections.get(),
        requests_in_flight: section.requests_in_flight.get(),
        first_byte_timeout: section.first_byte_timeout.0,
        handshake_timeout: section.handshake_timeout.0,
        header_timeout: section.header_timeout.0,
        body_timeout: section.body_timeout.0,
        body_rate_min: section.body_rate_min.0,
        header_bytes_max: bytes(section.header_size),
        headers_max: section.headers.get(),
        path_bytes_max: bytes(section.path_length),
        body_memory: section.body_memory.0,
        h2_streams: section.h2_streams.get(),
        idle_timeout: section.idle_timeout.0,
        connection_age_max: section.connection_age_max.0,
        write_timeout: section.write_timeout.0,
    }
}

/// `telemetry`.
pub(crate) fn telemetry(section: &file::Telemetry, ground: &mut Ground<'_>) -> Telemetry {
    let level = &section.log.level;
    if level.is_empty() || level.parse::<tracing_subscriber::filter::Targets>().is_err() {
        let label = "`error`, `warn`, `info`, `debug`, `trace`, or `info,gatepost::dedup=debug`";
        ground.error(
            "bad-value",
            &Path::of("telemetry.log.level"),
            format!("`{level}` is not a log level"),
            label,
        );
    }
    Telemetry { log_level: level.clone(), log_format: section.log.format }
}

/// Durations that must not be zero.
pub(crate) fn not_zero(path: &Path, value: Duration, ground: &mut Ground<'_>) {
    if value.is_zero() {
        ground.error("bad-value", path, format!("`{path}` cannot be zero"), "");
    }
}
