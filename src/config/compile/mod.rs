//! What was typed to what may be relied on: every value is parsed once here, every reference is followed, and every
//! mistake is said with its place. Nothing stops at the first one.

mod process;
mod provider;
mod routes;
mod sources;
mod stores;
mod upstreams;

use std::{collections::HashSet, fs::File as OsFile, path::PathBuf};

use http::HeaderName;
use ipnet::IpNet;

use super::{
    Config, RouteOutline, SecretOrigin,
    file::File,
    layers::{Origin, Origins},
    report::{At, Problem},
    secrets::Reading,
    spans::{Mark, Node, Path},
};
use crate::event::Name;

/// Where things stand, and what was found wrong with them.
pub(crate) struct Ground<'a> {
    /// The file.
    pub(crate) tree: &'a Node,
    /// What came from elsewhere.
    pub(crate) origins: &'a Origins,
    /// Places of which nothing more is said.
    pub(crate) left_out: &'a HashSet<Mark>,
    /// How secrets and files are read.
    pub(crate) reading: &'a Reading<'a>,
    /// What was found.
    pub(crate) problems: Vec<Problem>,
}

/// A configuration and what people may ask about it.
pub(crate) struct Compiled {
    /// The configuration; of no use where there are errors.
    pub(crate) config: Config,
    /// Every secret and where it is from.
    pub(crate) secrets: Vec<SecretOrigin>,
    /// Every route, in order.
    pub(crate) routes: Vec<RouteOutline>,
}

/// Compiles a file.
pub(crate) fn compile(file: &File, ground: &mut Ground<'_>) -> Compiled {
    let tls = process::tls(file, ground);
    let server = process::server(file, ground);
    let upstreams = upstreams::compile(file, &server, ground);
    let routes = routes::outline(file, ground);
    let mut secrets = Vec::new();
    let sources = sources::compile(file, &server, &routes, &mut secrets, ground);
    let dedup = stores::dedup(&file.dedup, &mut secrets, ground);
    let (audit, audit_detail) = stores::audit(file, ground);
    let config = Config {
        admin: process::admin(file, &server, ground),
        limits: process::limits(&file.limits),
        telemetry: process::telemetry(&file.telemetry, ground),
        storage: process::storage(&file.storage),
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
    Compiled { config, secrets, routes }
}

impl Ground<'_> {
    /// Where the value at `path` stands, or came from.
    pub(crate) fn at(&self, path: &Path) -> At {
        self.place(path, |(_, value)| value)
    }

    /// Where the key at `path` stands.
    pub(crate) fn key(&self, path: &Path) -> At {
        self.place(path, |(key, _)| key)
    }

    fn place(&self, path: &Path, pick: fn((Mark, Mark)) -> Mark) -> At {
        match self.origins.get(path) {
            Some(Origin::Env(name)) => At::Env((*name).to_owned()),
            Some(Origin::Default(other)) => At::File(pick(self.tree.locate(other))),
            Some(Origin::Preset(_)) | None => At::File(pick(self.tree.locate(path))),
        }
    }

    /// The mark of the value at `path`.
    pub(crate) fn mark(&self, path: &Path) -> Mark {
        match self.at(path) {
            At::File(mark) => mark,
            At::Env(_) | At::Nowhere => Mark::START,
        }
    }

    /// Whether somebody wrote this value, here or under `defaults`.
    pub(crate) fn is_typed(&self, path: &Path) -> bool {
        self.tree.has(path) || self.origins.contains_key(path)
    }

    /// Notes a problem, unless its place was already found wrong.
    pub(crate) fn push(&mut self, problem: Problem) {
        if !matches!(&problem.at, At::File(mark) if self.left_out.contains(mark)) {
            self.problems.push(problem);
        }
    }

    /// Notes an error at a value.
    pub(crate) fn error(
        &mut self,
        code: &'static str,
        path: &Path,
        message: impl Into<String>,
        label: impl Into<String>,
    ) {
        self.push(Problem::error(code, self.at(path), message).label(label));
    }

    /// A name, or a placeholder after saying what is wrong with it.
    pub(crate) fn name(&mut self, text: &str, path: &Path) -> Option<Name> {
        let name = Name::parse(text);
        if name.is_none() {
            let message = format!("`{text}` cannot be a name");
            let problem = Problem::error("bad-name", self.key(path), message);
            self.push(
                problem.label("1 to 63 of `a-z 0-9 _ . -`, beginning with a letter or digit"),
            );
        }
        name
    }

    /// The name of a header.
    pub(crate) fn header(&mut self, text: &str, path: &Path) -> Option<HeaderName> {
        let name = text.parse().ok();
        if name.is_none() {
            self.error("bad-header", path, format!("`{text}` is not the name of a header"), "");
        }
        name
    }

    /// Networks, each `10.0.0.0/8` or a single address.
    pub(crate) fn networks(&mut self, list: &[String], path: &Path) -> Vec<IpNet> {
        let mut networks = Vec::new();
        for (index, text) in list.iter().enumerate() {
            match text
                .parse::<IpNet>()
                .or_else(|_| text.parse().map(|ip: std::net::IpAddr| ip.into()))
            {
                Ok(network) => networks.push(network),
                Err(_) => {
                    let message = format!("`{text}` is neither an address nor a network");
                    self.error(
                        "bad-address",
                        &path.item(index),
                        message,
                        "write `10.0.0.0/8` or `192.0.2.7`",
                    );
                }
            }
        }
        networks
    }

    /// A file that must be readable at start.
    pub(crate) fn file(&mut self, text: &str, path: &Path) -> PathBuf {
        if !self.reading.offline
            && let Err(error) = OsFile::open(text)
        {
            self.error("file", path, format!("`{text}` cannot be read"), error.kind().to_string());
        }
        text.into()
    }
}
