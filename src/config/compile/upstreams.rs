//! `upstreams`: our apps, and the mistakes that would send events in circles or in the clear.

use std::{collections::HashSet, net::IpAddr};

use http::{HeaderName, HeaderValue, Uri};

use super::{Ground, process::not_zero, stores::is_http};
use crate::{
    config::{
        Server,
        file::{self, File, OneOrMany, UpstreamForm},
        report::Problem,
        spans::Path,
        suggest,
    },
    deliver::{Balance, HttpVersion, UpstreamParams, UpstreamTls},
};

/// All upstreams.
pub(crate) fn compile(
    file: &File,
    server: &Server,
    ground: &mut Ground<'_>,
) -> Vec<UpstreamParams> {
    let used: HashSet<&str> = file
        .routes
        .iter()
        .filter_map(|route| route.to.as_ref())
        .flat_map(OneOrMany::as_slice)
        .map(String::as_str)
        .collect();
    let mut upstreams = Vec::new();
    for (name, form) in &file.upstreams {
        let at = Path::of("upstreams").key(name);
        let meant = |used: &&str| suggest::nearest(used, [name.as_str()]).is_some();
        if !used.contains(name.as_str()) && !used.iter().any(meant) {
            let unused = Problem::warning(
                "unused-upstream",
                ground.key(&at),
                format!("no route sends to `{name}`"),
            );
            ground.push(unused);
        }
        upstreams.extend(upstream(name, form, &at, server, ground));
    }
    upstreams
}

fn upstream(
    name: &str,
    form: &UpstreamForm,
    at: &Path,
    server: &Server,
    ground: &mut Ground<'_>,
) -> Option<UpstreamParams> {
    let short =
        |url: &String| file::Upstream { url: Some(url.clone()), ..file::Upstream::default() };
    let (shape, is_short) = match form {
        UpstreamForm::Url(url) => (&short(url), true),
        UpstreamForm::Full(shape) => (&**shape, false),
    };
    let urls = places(shape, at, is_short, ground);
    let urls: Vec<Uri> =
        urls.iter().filter_map(|(text, path)| url(name, text, path, server, ground)).collect();
    for (key, value) in
        [("connect_timeout", shape.connect_timeout.0), ("idle_timeout", shape.idle_timeout.0)]
    {
        not_zero(&at.key(key), value, ground);
    }
    let (remove_headers, set_headers) = headers(&shape.headers, &at.key("headers"), server, ground);
    Some(UpstreamParams {
        name: ground.name(name, at)?,
        tls: tls(&shape.tls, &at.key("tls"), &urls, ground),
        urls,
        balance: match shape.balance {
            file::Balance::RoundRobin => Balance::RoundRobin,
            file::Balance::LeastBusy => Balance::LeastBusy,
        },
        connect_timeout: shape.connect_timeout.0,
        concurrency: shape.concurrency.get(),
        idle_timeout: shape.idle_timeout.0,
        http: match shape.http {
            file::Http::Auto => HttpVersion::Auto,
            file::Http::Http1 => HttpVersion::Http1,
            file::Http::Http2 => HttpVersion::Http2,
        },
        remove_headers,
        set_headers,
    })
}

/// Its urls with their places; says so where there is none, or two kinds.
fn places(
    shape: &file::Upstream,
    at: &Path,
    is_short: bool,
    ground: &mut Ground<'_>,
) -> Vec<(String, Path)> {
    let single = if is_short { at.clone() } else { at.key("url") };
    let one = shape.url.iter().map(|url| (url.clone(), single.clone()));
    let many = shape.urls.iter().enumerate().map(|(i, url)| (url.clone(), at.key("urls").item(i)));
    let both = shape.url.is_some() && !shape.urls.is_empty();
    let typed = ground.tree.has(&at.key("url")) || ground.tree.has(&at.key("urls"));
    if both
        || (shape.url.is_none()
            && shape.urls.is_empty()
            && (!typed || ground.tree.has(&at.key("urls"))))
    {
        let message = format!("`{at}` needs either `url` or `urls`");
        ground.push(
            Problem::error("upstream-url", ground.key(at), message).label("one of them, not empty"),
        );
    }
    one.chain(many).collect()
}

fn url(
    name: &str,
    text: &str,
    path: &Path,
    server: &Server,
    ground: &mut Ground<'_>,
) -> Option<Uri> {
    let Some(url) = text.parse::<Uri>().ok().filter(is_http) else {
        let shown = text.split('@').next_back().unwrap_or_default();
        let label = match text.contains("://") {
            true => "it begins with `http://` or `https://`".to_owned(),
            false => format!("write `http://{shown}`"),
        };
        ground.error("bad-url", path, format!("upstream `{name}` has no usable URL"), label);
        return None;
    };
    let host = url.host().unwrap_or_default().trim_matches(['[', ']']).to_ascii_lowercase();
    let ip = host.parse::<IpAddr>().ok();
    if url.authority().is_some_and(|authority| authority.as_str().contains('@')) {
        let problem = Problem::error(
            "url-password",
            ground.at(path),
            format!("the URL of `{name}` holds a password"),
        );
        ground.push(
            problem.help(
                "send it in a header: `headers: { set: { Authorization: \"${APP_TOKEN}\" } }`",
            ),
        );
    } else if is_self(&url, &host, server) {
        let message = format!("upstream `{name}` points back at this gateway");
        let own = server.hosts.iter().any(|own| own.eq_ignore_ascii_case(&host));
        let what = if own { "this is `server.host`" } else { "this is our own address" };
        ground.error("upstream-is-self", path, message, format!("{what}; events would loop"));
    } else if ip.is_some_and(is_metadata) {
        let message = format!("upstream `{name}` is a cloud's metadata service");
        ground.error("metadata-address", path, message, "no webhook belongs there");
    } else if url.scheme_str() == Some("http") && is_public(&host, ip) {
        let message = format!("events go to `{name}` in the clear");
        let problem = Problem::warning("plain-http", ground.at(path), message);
        ground.push(problem.label("use https unless this network is yours alone"));
    }
    Some(url)
}

fn is_self(url: &Uri, host: &str, server: &Server) -> bool {
    let port = url.port_u16().unwrap_or(if url.scheme_str() == Some("https") { 443 } else { 80 });
    let public = server.public_url.as_deref().and_then(|url| url.parse::<Uri>().ok());
    let public_host = public.as_ref().and_then(Uri::host).unwrap_or_default();
    let public_port = public.as_ref().and_then(Uri::port_u16);
    let named =
        public_host == host || server.hosts.iter().any(|own| own.eq_ignore_ascii_case(host));
    let listens = server.listen.iter().any(|listen| listen.port() == port);
    let local = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    let heard =
        |listen: &std::net::SocketAddr| listen.ip().is_unspecified() || listen.ip().is_loopback();
    (named && (port == 443 || listens || public_port == Some(port)))
        || (local && server.listen.iter().any(|listen| listen.port() == port && heard(listen)))
}

fn is_metadata(ip: IpAddr) -> bool {
    ["169.254.169.254", "fd00:ec2::254", "100.100.100.200"]
        .iter()
        .any(|known| known.parse() == Ok(ip))
}

/// Whether a host is on the open internet, as far as its name or address tells.
fn is_public(host: &str, ip: Option<IpAddr>) -> bool {
    match ip {
        Some(IpAddr::V4(ip)) => {
            let shared = matches!(ip.octets(), [100, 64..=127, _, _]);
            !(ip.is_private()
                || ip.is_loopback()
                || ip.is_link_local()
                || ip.is_unspecified()
                || shared)
        }
        Some(IpAddr::V6(ip)) => {
            !(ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local())
        }
        None => {
            let inner = [
                "localhost",
                "local",
                "internal",
                "lan",
                "home.arpa",
                "svc",
                "test",
                "intranet",
                "corp",
            ];
            let inside = |suffix: &&str| host.ends_with(&format!(".{suffix}"));
            host.contains('.') && !inner.iter().any(inside)
        }
    }
}

type HeaderChanges = (Vec<HeaderName>, Vec<(HeaderName, HeaderValue)>);

fn headers(
    shape: &file::Headers,
    at: &Path,
    server: &Server,
    ground: &mut Ground<'_>,
) -> HeaderChanges {
    let remove = shape.remove.iter().enumerate();
    let remove =
        remove.filter_map(|(i, name)| ground.header(name, &at.key("remove").item(i))).collect();
    let mut set = Vec::new();
    for (name, value) in &shape.set {
        let path = at.key("set").key(name);
        let Some(header) = ground.header(name, &path) else { continue };
        let ours = header.as_str().starts_with(&server.header_prefix);
        if ours || FRAMING.contains(&header.as_str()) {
            let message = format!("`{name}` is set by the gateway itself");
            ground.push(Problem::error("bad-header", ground.key(&path), message));
        }
        match HeaderValue::from_str(&value.0) {
            Ok(value) => set.push((header, value)),
            Err(_) => ground.error(
                "bad-header",
                &path,
                format!("the value of `{name}` cannot be sent"),
                "",
            ),
        }
    }
    (remove, set)
}

const FRAMING: [&str; 9] = [
    "host",
    "connection",
    "content-length",
    "transfer-encoding",
    "te",
    "trailer",
    "upgrade",
    "keep-alive",
    "forwarded",
];

fn tls(shape: &file::UpstreamTls, at: &Path, urls: &[Uri], ground: &mut Ground<'_>) -> UpstreamTls {
    let file::UpstreamTls { ca, cert, key, server_name } = shape;
    if cert.is_some() != key.is_some() {
        let problem = Problem::error(
            "tls-files",
            ground.key(at),
            "a client certificate needs `cert` and `key`",
        );
        ground.push(problem);
    }
    let any = [ca, cert, key, server_name].iter().any(|key| key.is_some());
    if any && !urls.is_empty() && urls.iter().all(|url| url.scheme_str() == Some("http")) {
        let warning = Problem::warning(
            "unused-key",
            ground.key(at),
            "`tls` has no effect on an `http://` URL",
        );
        ground.push(warning);
    }
    let mut file = |text: &Option<String>, key: &str| {
        text.as_ref().map(|text| ground.file(text, &at.key(key)))
    };
    UpstreamTls {
        ca: file(ca, "ca"),
        cert: file(cert, "cert"),
        key: file(key, "key"),
        server_name: server_name.clone(),
    }
}

/// Says that `upstream` is not defined, and what may have been meant.
pub(crate) fn unknown(
    file: &File,
    route: &str,
    upstream: &str,
    path: &Path,
    ground: &mut Ground<'_>,
) {
    let message = format!("route `{route}` sends to `{upstream}`, which is not defined");
    let problem = Problem::error("unknown-upstream", ground.at(path), message);
    let problem = match suggest::nearest(upstream, file.upstreams.keys().map(String::as_str)) {
        Some(near) => {
            let (key, _) = ground.tree.locate(&Path::of("upstreams").key(near));
            problem.label(format!("did you mean `{near}`? (defined at ")).first(key, ")")
        }
        None if file.upstreams.is_empty() => problem.label("there are no `upstreams`"),
        None => {
            let known: Vec<_> = file.upstreams.keys().map(|name| format!("`{name}`")).collect();
            problem.label(format!("defined are {}", known.join(", ")))
        }
    };
    ground.push(problem);
}
