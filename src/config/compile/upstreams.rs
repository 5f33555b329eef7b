//! `upstreams`: our apps, and the mistakes that would send events in circles or in the clear.

use std::net::{IpAddr, SocketAddr};

use http::{HeaderName, HeaderValue, Uri};

use super::{Ground, process::is_http};
use crate::{
    config::{
        Server,
        file::{self, File, OneOrMany, UpstreamForm},
        report::Explain as _,
        suggest,
        tree::Path,
    },
    deliver::{UpstreamParams, UpstreamTls, is_metadata},
};

impl Ground<'_> {
    /// All upstreams.
    pub(crate) fn upstreams(&mut self, file: &File, server: &Server) -> Vec<UpstreamParams> {
        let targets = file.routes.iter().filter_map(|route| route.to.as_ref());
        let used: Vec<_> = targets.flat_map(OneOrMany::as_slice).map(String::as_str).collect();
        let mut upstreams = Vec::new();
        for (name, form) in &file.upstreams {
            let at = Path::of("upstreams").key(name);
            let meant = |used: &&str| *used == name || suggest::nearest(used, [&**name]).is_some();
            if !used.iter().any(meant) {
                self.warn("unused-upstream", &self.key(&at), format!("no route sends to `{name}`"));
            }
            upstreams.extend(self.upstream(name, form, &at, server));
        }
        upstreams
    }

    fn upstream(
        &mut self,
        name: &str,
        form: &UpstreamForm,
        at: &Path,
        server: &Server,
    ) -> Option<UpstreamParams> {
        let (shape, places) = match form {
            UpstreamForm::Url(url) => (&file::Upstream::default(), vec![(url, at.clone())]),
            UpstreamForm::Full(shape) => (&**shape, self.places(shape, at)),
        };
        let urls = places.into_iter();
        let urls: Vec<_> =
            urls.filter_map(|(text, path)| self.upstream_url(name, text, &path, server)).collect();
        let headers = at.key("headers");
        Some(UpstreamParams {
            name: self.name(name, at)?,
            tls: self.upstream_tls(&shape.tls, &at.key("tls"), &urls),
            urls,
            balance: shape.balance,
            connect_timeout: self.not_zero(&at.key("connect_timeout"), shape.connect_timeout),
            concurrency: shape.concurrency.get(),
            idle_timeout: self.not_zero(&at.key("idle_timeout"), shape.idle_timeout),
            http: shape.http,
            remove_headers: self.headers(&shape.headers.remove, &headers.key("remove")),
            set_headers: self.set_headers(&shape.headers, &headers.key("set"), server),
            networks: self.networks(&shape.networks, &at.key("networks")),
        })
    }

    /// Its urls with their places; says so where there is none, or two kinds.
    fn places<'f>(&mut self, shape: &'f file::Upstream, at: &Path) -> Vec<(&'f String, Path)> {
        let many = shape.urls.iter().enumerate().map(|(i, url)| (url, at.key("urls").item(i)));
        let one = shape.url.iter().map(|url| (url, at.key("url")));
        // A `url` that is there but wrong was said already.
        let wrong = shape.url.is_none() && self.tree.has(&at.key("url"));
        if shape.url.is_some() != shape.urls.is_empty() && !wrong {
            self.error(
                "upstream-url",
                &self.key(at),
                format!("`{at}` needs either `url` or `urls`"),
            )
            .label("one of them, not empty");
        }
        one.chain(many).collect()
    }

    fn upstream_url(
        &mut self,
        name: &str,
        text: &str,
        path: &Path,
        server: &Server,
    ) -> Option<Uri> {
        let Some(url) = text.parse::<Uri>().ok().filter(is_http) else {
            let shown = text.split('@').next_back().unwrap_or_default();
            let label = if text.contains("://") {
                "it begins with `http://` or `https://`".to_owned()
            } else {
                format!("write `http://{shown}`")
            };
            self.error("bad-url", path, format!("upstream `{name}` has no usable URL"))
                .label(label);
            return None;
        };
        let host = url.host().unwrap_or_default().trim_matches(['[', ']']).to_ascii_lowercase();
        let ip = host.parse::<IpAddr>().ok();
        if url.authority().is_some_and(|authority| authority.as_str().contains('@')) {
            self.error("url-password", path, format!("the URL of `{name}` holds a password")).help(
                "send it in a header: `headers: { set: { Authorization: \"${APP_TOKEN}\" } }`",
            );
        } else if is_self(&url, &host, server) {
            let message = format!("upstream `{name}` points back at this gateway");
            let own = server.hosts.iter().any(|own| own.eq_ignore_ascii_case(&host));
            let what = if own { "this is `server.host`" } else { "this is our own address" };
            self.error("upstream-is-self", path, message)
                .label(format!("{what}; events would loop"));
        } else if ip.is_some_and(is_metadata) {
            let message = format!("upstream `{name}` is a cloud's metadata service");
            self.error("metadata-address", path, message).label("no webhook belongs there");
        }
        Some(url)
    }

    fn set_headers(
        &mut self,
        shape: &file::Headers,
        at: &Path,
        server: &Server,
    ) -> Vec<(HeaderName, HeaderValue)> {
        let mut set = Vec::new();
        for (name, value) in &shape.set {
            let path = at.key(name);
            let Some(header) = self.header(name, &path) else { continue };
            let ours = header.as_str().starts_with(&server.header_prefix);
            if ours || FRAMING.contains(&header.as_str()) {
                let message = format!("`{name}` is set by the gateway itself");
                self.error("bad-header", &self.key(&path), message);
            }
            let Ok(mut value) = HeaderValue::from_str(&value.0) else {
                let message = format!("the value of `{name}` cannot be sent");
                self.error("bad-header", &path, message);
                continue;
            };
            value.set_sensitive(true); // whatever is printed, it is not
            set.push((header, value));
        }
        set
    }

    fn upstream_tls(&mut self, shape: &UpstreamTls, at: &Path, urls: &[Uri]) -> UpstreamTls {
        let files = [("ca", &shape.ca), ("cert", &shape.cert), ("key", &shape.key)];
        if shape.cert.is_some() != shape.key.is_some() {
            let message = "a client certificate needs `cert` and `key`";
            self.error("tls-files", &self.key(at), message);
        }
        let plain = !urls.is_empty() && urls.iter().all(|url| url.scheme_str() == Some("http"));
        if plain && *shape != UpstreamTls::default() {
            let message = "`tls` has no effect on an `http://` URL";
            self.warn("unused-key", &self.key(at), message);
        }
        for (key, file) in files {
            file.as_ref().map(|file| self.file(file, &at.key(key)));
        }
        shape.clone()
    }

    /// Says that `upstream` is not defined, and what may have been meant.
    pub(crate) fn unknown_upstream(
        &mut self,
        file: &File,
        route: &str,
        upstream: &str,
        path: &Path,
    ) {
        let near = suggest::nearest(upstream, file.upstreams.keys().map(String::as_str));
        let defined = near.map(|near| self.tree.locate(&Path::of("upstreams").key(near)).key);
        let message = format!("route `{route}` sends to `{upstream}`, which is not defined");
        let error = self.error("unknown-upstream", path, message);
        if let Some((near, defined)) = near.zip(defined) {
            error.label(format!("did you mean `{near}`? (defined at ")).first(defined, ")");
        } else if file.upstreams.is_empty() {
            error.label("there are no `upstreams`");
        } else {
            let known: Vec<_> = file.upstreams.keys().map(|name| format!("`{name}`")).collect();
            error.label(format!("defined are {}", known.join(", ")));
        }
    }
}

fn is_self(url: &Uri, host: &str, server: &Server) -> bool {
    let port = url.port_u16().unwrap_or(if url.scheme_str() == Some("https") { 443 } else { 80 });
    let public = server.public_url.as_deref().and_then(|url| url.parse::<Uri>().ok());
    let public_host = public.as_ref().and_then(Uri::host).unwrap_or_default();
    let public_port = public.as_ref().and_then(Uri::port_u16);
    let named =
        public_host == host || server.hosts.iter().any(|own| own.eq_ignore_ascii_case(host));
    let ours = || server.listen.iter().filter(|listen| listen.port() == port);
    let local = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    let heard = |listen: &SocketAddr| listen.ip().is_unspecified() || listen.ip().is_loopback();
    (named && (port == 443 || ours().next().is_some() || public_port == Some(port)))
        || (local && ours().any(heard))
}

/// Headers that belong to the connection, not to the request.
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
