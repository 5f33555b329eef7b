//! The sections about the process itself: server, tls, storage, admin, limits, telemetry.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    num::NonZeroUsize,
    sync::Arc,
};

use http::{HeaderName, Uri, uri::PathAndQuery};

use super::Ground;
use crate::{
    config::{
        Admin, CertFiles, Limits, ProxyProtocol, Server, Tls, TlsMode,
        file::{self, Fetch, File, Log},
        report::Explain as _,
        tree::Path,
    },
    fetch::{Documents, Fetcher, Params},
    providers::shape::OneOrMany,
};

/// Headers of a response that have a meaning already.
const TAKEN: [&str; 6] =
    ["content-type", "content-length", "connection", "transfer-encoding", "retry-after", "date"];

impl Ground<'_> {
    /// What fetches documents that senders publish.
    pub(crate) fn fetcher(&mut self, fetch: &Fetch) -> Arc<dyn Documents> {
        let at = Path::of("fetch");
        Arc::new(Fetcher::new(Params {
            networks: self.networks(&fetch.networks, &at.key("networks")),
            ca: fetch.ca.as_ref().map(|file| self.file(file, &at.key("ca"))),
            timeout: self.not_zero(&at.key("timeout"), fetch.timeout),
            stale: fetch.stale.0,
        }))
    }

    /// `server`.
    pub(crate) fn server(&mut self, file: &File) -> Server {
        let section = &file.server;
        let at = Path::of("server");
        let plain_http = file.plain_http();
        let port = if plain_http { 8080 } else { 443 };
        let listen = match &section.listen {
            Some(list) => {
                let list = list.as_slice().iter().enumerate();
                list.map(|(i, text)| self.address(text, &at.key("listen").item(i))).collect()
            }
            None => vec![SocketAddr::from((Ipv6Addr::UNSPECIFIED, port))],
        };
        let hosts = section.host.as_ref().map_or(&[][..], OneOrMany::as_slice);
        for (index, host) in hosts.iter().enumerate() {
            self.host_name(host, &at.key("host").item(index));
        }
        let trusted_proxies = self.networks(&section.trusted_proxies, &at.key("trusted_proxies"));
        if section.proxy_protocol != ProxyProtocol::None && section.trusted_proxies.is_empty() {
            let place = at.key("proxy_protocol");
            self.error("proxy-protocol", &place, "nobody may speak the PROXY protocol to us")
                .help("name the proxies: `trusted_proxies: [10.0.0.0/8]`");
        }
        let implied =
            || hosts.first().filter(|_| !plain_http).map(|host| format!("https://{host}"));
        let typed = section.public_url.as_deref();
        let public_url = typed.map(|url| self.public_url(url, &at.key("public_url"), false));
        let cores = || std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        Server {
            listen,
            workers: section.workers.map_or_else(cores, NonZeroUsize::get),
            hosts: hosts.to_vec(),
            public_url: public_url.or_else(implied),
            trusted_proxies,
            proxy_protocol: section.proxy_protocol,
            drain_timeout: section.drain_timeout.0,
            receipt_header: self.receipt_header(&section.receipt_header),
            header_prefix: self.header_prefix(&section.header_prefix),
            hide_paths: section.hide_paths,
        }
    }

    fn address(&mut self, text: &str, path: &Path) -> SocketAddr {
        text.parse().unwrap_or_else(|_| {
            let port = text.rsplit(':').next().and_then(|port| port.parse().ok()).unwrap_or(8443);
            self.error("bad-address", path, format!("`{text}` is not an address with a port"))
                .label(format!("write `\"[::]:{port}\"` for every address, or `127.0.0.1:{port}`"));
            SocketAddr::from((Ipv4Addr::LOCALHOST, port))
        })
    }

    fn host_name(&mut self, host: &str, path: &Path) {
        let fits = |label: &str| {
            let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
            (1..=63).contains(&label.len()) && label.bytes().all(plain) && !label.starts_with('-')
        };
        if host.len() > 253 || !host.split('.').all(fits) {
            self.error("bad-host", path, format!("`{host}` is not a host name")).label(
                "a host is a name such as `hooks.example.com`, without scheme, port or path",
            );
        }
    }

    /// A URL that providers have on file, without the slash at its end.
    pub(crate) fn public_url(&mut self, text: &str, path: &Path, with_path: bool) -> String {
        let fits = text.parse::<Uri>().is_ok_and(|url| {
            let rest = url.path_and_query().map_or("", PathAndQuery::as_str);
            is_http(&url) && (with_path || matches!(rest, "" | "/"))
        });
        if !fits {
            let path_at_end = if with_path { "/stripe" } else { "" };
            self.error("bad-url", path, format!("`{text}` is not our public URL"))
                .label(format!("write `https://hooks.example.com{path_at_end}`"));
        }
        if with_path { text.to_owned() } else { text.trim_end_matches('/').to_owned() }
    }

    fn receipt_header(&mut self, text: &str) -> HeaderName {
        let path = Path::of("server.receipt_header");
        let name = self.header(text, &path).unwrap_or(http::header::AGE);
        if TAKEN.contains(&name.as_str()) {
            let message = format!("`{text}` already has a meaning in a response");
            self.error("bad-header", &path, message);
        }
        name
    }

    fn header_prefix(&mut self, text: &str) -> String {
        let place = Path::of("server.header_prefix");
        let prefix = text.to_ascii_lowercase();
        let is_name = format!("{prefix}x").parse::<HeaderName>().is_ok();
        if !is_name || !prefix.ends_with('-') || prefix.len() > 32 {
            self.error("header-prefix", &place, format!("`{text}` is not a prefix of headers"))
                .label("letters, digits and `-`, with `-` at the end, such as `Gatepost-`");
        } else if ["x-", "webhook-", "content-", "x-forwarded-", "svix-"].contains(&prefix.as_str())
        {
            let message = format!("headers that begin with `{text}` belong to others");
            self.warn("header-prefix", &place, message)
                .label("every one that a sender sets would be removed");
        }
        prefix
    }

    /// `tls`.
    pub(crate) fn tls(&mut self, file: &File) -> Tls {
        let section = file.tls.clone().unwrap_or_default();
        let at = Path::of("tls");
        let files = self.certificates(&section, &at.key("files"));
        let unused = [
            ("files", !files.is_empty() && section.mode != Some(file::TlsMode::Files)),
            ("client_ca", section.client_ca.is_some() && section.mode == Some(file::TlsMode::None)),
        ];
        for (key, _) in unused.into_iter().filter(|(_, unused)| *unused) {
            let message = format!("`{key}` has no effect with this `mode`");
            self.warn("unused-key", &self.key(&at.key(key)), message);
        }
        let mode = match section.mode {
            Some(file::TlsMode::Files) if section.files.is_empty() => {
                self.error("tls-files", &at.key("mode"), "there is no certificate")
                    .help("name it: `files: [{ cert: tls.crt, key: tls.key }]`");
                TlsMode::None
            }
            Some(file::TlsMode::Files) => TlsMode::Files(files),
            Some(file::TlsMode::Internal) => TlsMode::Internal,
            Some(file::TlsMode::None) | None => TlsMode::None,
        };
        let client_ca = section.client_ca.map(|ca| self.file(ca, &at.key("client_ca")));
        Tls { mode, tls13_only: section.min_version == file::TlsVersion::V13, client_ca }
    }

    fn certificates(&mut self, section: &file::Tls, at: &Path) -> Vec<CertFiles> {
        let pairs = section.files.iter().enumerate();
        let pairs = pairs
            .filter_map(|(i, pair)| Some((at.item(i), pair.cert.as_ref()?, pair.key.as_ref()?)));
        pairs
            .map(|(at, cert, key)| CertFiles {
                cert: self.file(cert, &at.key("cert")),
                key: self.file(key, &at.key("key")),
            })
            .collect()
    }

    /// `admin`.
    pub(crate) fn admin(&mut self, file: &File, server: &Server) -> Admin {
        let at = Path::of("admin");
        let listen = self.address(&file.admin.listen, &at.key("listen"));
        if !listen.ip().is_loopback() {
            let interface =
                if listen.ip().is_unspecified() { "every interface" } else { "a public interface" };
            let message = format!("the admin address would listen on {interface} without a login");
            self.error("admin-exposed", &at.key("listen"), message)
                .help(format!("keep 127.0.0.1:{}", listen.port()))
                .help("only metrics and health from outside? use `metrics_listen`");
        }
        let metrics = file.admin.metrics_listen.as_ref();
        let metrics_listen = metrics.map(|text| self.address(text, &at.key("metrics_listen")));
        let own = [("admin.listen", Some(listen)), ("admin.metrics_listen", metrics_listen)];
        let mut taken: Vec<_> = server.listen.iter().map(|a| ("server.listen", *a)).collect();
        for (key, address) in own.into_iter().filter_map(|(key, address)| Some((key, address?))) {
            if let Some((other, _)) = taken.iter().find(|(_, other)| overlap(*other, address)) {
                let message = format!("`{key}` and `{other}` have the same address");
                self.error("port-clash", &Path::of(key), message).label("choose another port");
            }
            taken.push((key, address));
        }
        Admin { listen, metrics_listen }
    }

    /// `limits`: where one is nothing, everything is refused.
    pub(crate) fn limits(&mut self, limits: &Limits) {
        let times = [
            ("first_byte_timeout", limits.first_byte_timeout),
            ("handshake_timeout", limits.handshake_timeout),
            ("header_timeout", limits.header_timeout),
            ("body_timeout", limits.body_timeout),
            ("idle_timeout", limits.idle_timeout),
            ("connection_age_max", limits.connection_age_max),
            ("write_timeout", limits.write_timeout),
        ];
        let sizes = [("header_size", limits.header_size), ("path_length", limits.path_length)];
        let times = times.into_iter().filter(|(_, time)| time.0.is_zero());
        let sizes = sizes.into_iter().filter(|(_, size)| size.0 == 0);
        for key in times.map(|(key, _)| key).chain(sizes.map(|(key, _)| key)) {
            let message = format!("with this `{key}` nothing could be served");
            self.error("zero-limit", &Path::of("limits").key(key), message)
                .label("write more, or leave the key out for the default");
        }
    }

    /// `telemetry.log`.
    pub(crate) fn log(&mut self, log: &Log) {
        let level = &log.level;
        if level.is_empty() || level.parse::<tracing_subscriber::filter::Targets>().is_err() {
            let place = Path::of("telemetry.log.level");
            self.error("bad-value", &place, format!("`{level}` is not a log level")).label(
                "`error`, `warn`, `info`, `debug`, `trace`, or `info,gatepost::dedup=debug`",
            );
        }
    }
}

/// Whether `url` has a host and a scheme that we speak.
pub(crate) fn is_http(url: &Uri) -> bool {
    url.host().is_some_and(|host| !host.is_empty())
        && matches!(url.scheme_str(), Some("http" | "https"))
}

fn overlap(a: SocketAddr, b: SocketAddr) -> bool {
    let any = |ip: IpAddr| ip.is_unspecified();
    a.port() != 0 && a.port() == b.port() && (a.ip() == b.ip() || any(a.ip()) || any(b.ip()))
}
