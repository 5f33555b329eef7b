//! What was typed to what may be relied on: every value is parsed once here, every reference is followed, and every
//! mistake is said with its place. Nothing stops at the first one.

mod process;
mod provider;
mod routes;
mod sign;
mod sources;
mod stores;
mod upstreams;

use std::{fs::File as OsFile, net::IpAddr, path::PathBuf, time::Duration};

use http::HeaderName;
use ipnet::IpNet;

use sources::Around;

use super::{
    Config, Options, RouteOutline, SecretOrigin,
    file::File,
    report::{At, Explain as _, Problem, Severity},
    tree::{Mark, Node, Origin, Path},
};
use crate::{event::Name, units::Span};

/// Where things stand, and what was found wrong with them.
pub(crate) struct Ground<'a> {
    /// The file and what was put under it.
    pub(crate) tree: &'a Node,
    /// How secrets and files are read.
    pub(crate) options: &'a Options,
    /// Whether users other than owner and group may read the configuration file.
    pub(crate) exposed: bool,
    /// What was found.
    pub(crate) problems: Vec<Problem>,
    /// Every secret that was named.
    pub(crate) secrets: Vec<SecretOrigin>,
}

/// Compiles a file; of no use where there are errors.
pub(crate) fn compile(file: &File, ground: &mut Ground<'_>) -> (Config, Vec<RouteOutline>) {
    let tls = ground.tls(file);
    let server = ground.server(file);
    let upstreams = ground.upstreams(file, &server);
    let routes = ground.routes(file);
    let signing = ground.signing(file);
    let fetcher = ground.fetcher(&file.fetch);
    let around =
        Around { server: &server, outlines: &routes, signing: &signing, fetcher: &fetcher };
    let sources = ground.sources(file, &around);
    let dedup = ground.dedup(&file.dedup);
    let (audit, audit_detail) = ground.audit(file);
    ground.limits(&file.limits);
    ground.log(&file.telemetry.log);
    let config = Config {
        admin: ground.admin(file, &server),
        limits: file.limits.clone(),
        log: file.telemetry.log.clone(),
        storage: file.storage.clone(),
        server,
        tls,
        sources,
        upstreams,
        dedup,
        audit,
        audit_detail,
        files: Vec::new(),
        fingerprint: String::new(),
    };
    (config, routes)
}

impl Ground<'_> {
    /// Where the key at `path` stands.
    pub(crate) fn key(&self, path: &Path) -> Mark {
        self.tree.locate(path).key
    }

    /// Where the value at `path` stands.
    pub(crate) fn mark(&self, path: &Path) -> Mark {
        self.tree.locate(path).value
    }

    /// Notes an error, of which more may be said.
    pub(crate) fn error(
        &mut self,
        code: &'static str,
        at: &impl Place,
        message: impl Into<String>,
    ) -> &mut Problem {
        let at = at.place(self.tree);
        self.problems.push_mut(Problem::error(code, at, message))
    }

    /// Notes a warning, of which more may be said.
    pub(crate) fn warn(
        &mut self,
        code: &'static str,
        at: &impl Place,
        message: impl Into<String>,
    ) -> &mut Problem {
        let error = self.error(code, at, message);
        error.severity = Severity::Warning;
        error
    }

    /// A name; says what is wrong with it.
    pub(crate) fn name(&mut self, text: &str, path: &Path) -> Option<Name> {
        let name = Name::parse(text);
        if name.is_none() {
            self.error("bad-name", &self.key(path), format!("`{text}` cannot be a name"))
                .label("1 to 63 of `a-z 0-9 _ . -`, beginning with a letter or digit");
        }
        name
    }

    /// The name of a header.
    pub(crate) fn header(&mut self, text: &str, path: &Path) -> Option<HeaderName> {
        let name = text.parse().ok();
        if name.is_none() {
            let message = format!("`{text}` is not the name of a header");
            self.error("bad-header", path, message);
        }
        name
    }

    /// Names of headers.
    pub(crate) fn headers(&mut self, list: &[String], path: &Path) -> Vec<HeaderName> {
        let named = list.iter().enumerate();
        named.filter_map(|(i, name)| self.header(name, &path.item(i))).collect()
    }

    /// Networks, each `10.0.0.0/8` or a single address.
    pub(crate) fn networks(&mut self, list: &[String], path: &Path) -> Vec<IpNet> {
        let mut networks = Vec::new();
        for (index, text) in list.iter().enumerate() {
            let single = || text.parse().map(|ip: IpAddr| ip.into());
            let Ok(network) = text.parse().or_else(|_| single()) else {
                let message = format!("`{text}` is neither an address nor a network");
                self.error("bad-address", &path.item(index), message)
                    .label("write `10.0.0.0/8` or `192.0.2.7`");
                continue;
            };
            networks.push(network);
        }
        networks
    }

    /// A file that must be readable at start.
    pub(crate) fn file(&mut self, file: impl Into<PathBuf>, path: &Path) -> PathBuf {
        let file = file.into();
        if !self.options.offline
            && let Err(error) = OsFile::open(&file)
        {
            let message = format!("`{}` cannot be read", file.display());
            self.error("file", path, message).label(error.kind().to_string());
        }
        file
    }

    /// A length of time that must not be zero.
    pub(crate) fn not_zero(&mut self, path: &Path, span: Span) -> Duration {
        if span.0.is_zero() {
            self.error("bad-value", path, format!("`{path}` cannot be zero"));
        }
        span.0
    }
}

/// What a problem may be said of: the value at a path, or a mark.
pub(crate) trait Place {
    fn place(&self, tree: &Node) -> At;
}

impl Place for Path {
    fn place(&self, tree: &Node) -> At {
        let found = tree.locate(self);
        match found.origin {
            Origin::Env(name) => At::Env { variable: (*name).to_owned() },
            Origin::Here | Origin::Default(_) | Origin::Preset(_) => At::File(found.value),
        }
    }
}

impl Place for Mark {
    fn place(&self, _: &Node) -> At {
        At::File(*self)
    }
}
