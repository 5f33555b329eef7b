//! From a path to a configuration, or to everything that is wrong with it.

use std::{
    fs,
    io::Read as _,
    os::unix::fs::MetadataExt as _,
    path::{Path as FilePath, PathBuf},
};

use crate::event::{Digest, Timestamp};

use super::{
    Loaded, Options,
    compile::{self, Ground},
    file::{self, File},
    layers,
    report::{At, Problem, Report, Severity},
    secrets::Reading,
    shape, show, spans,
    subst::Env,
    syntax,
};

/// Larger than any configuration that a person keeps.
const FILE_BYTES_MAX: u64 = 4 << 20;
const PLACES: [&str; 2] = ["gatepost.yaml", "/etc/gatepost/gatepost.yaml"];

/// Which file is meant: the one named, else `GATEPOST_CONFIG`, else `./gatepost.yaml`, else `/etc/gatepost/gatepost.yaml`.
pub fn find(named: Option<&FilePath>, env: &Env) -> Result<PathBuf, Box<Report>> {
    if let Some(path) = named {
        return Ok(path.to_owned());
    }
    if let Some(path) = env.value("GATEPOST_CONFIG").filter(|path| !path.is_empty()) {
        return Ok(path.into());
    }
    let found = PLACES.iter().map(PathBuf::from).find(|path| path.exists());
    found.ok_or_else(|| {
        let problem = Problem::error(
            "no-file",
            At::Nowhere,
            format!("there is no {}", PLACES.join(" and no ")),
        );
        let problem =
            problem.help("name one with `--config FILE`, or write one with `gatepost init`");
        Box::new(Report::unreadable(PLACES[0], problem))
    })
}

/// Reads, checks and compiles a file; `-` is standard input.
pub fn load(path: &FilePath, options: &Options) -> Result<Loaded, Box<Report>> {
    let name = path.display().to_string();
    let (text, exposed) = text_of(path).map_err(|why| {
        let problem =
            Problem::error("no-file", At::Nowhere, format!("`{name}` cannot be read: {why}"));
        Box::new(Report::unreadable(&name, problem))
    })?;
    let mut loaded = read(&name, &text, options, exposed)?;
    loaded.config.files = vec![path.to_owned()];
    Ok(loaded)
}

/// Checks and compiles a text, as if it stood in a file called `name` that only we can read.
pub fn parse_str(name: &str, text: &str, options: &Options) -> Result<Loaded, Box<Report>> {
    read(name, text, options, false)
}

fn text_of(path: &FilePath) -> Result<(String, bool), String> {
    let mut bytes = Vec::new();
    let mut exposed = false;
    let read = if path == FilePath::new("-") {
        std::io::stdin().take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)
    } else {
        fs::File::open(path).and_then(|file| {
            exposed = file.metadata().is_ok_and(|meta| meta.mode() & 0o004 != 0);
            file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)
        })
    };
    read.map_err(|error| error.kind().to_string())?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err("it is larger than 4 MiB".into());
    }
    String::from_utf8(bytes).map(|text| (text, exposed)).map_err(|_| "it is not UTF-8".into())
}

fn read(name: &str, text: &str, options: &Options, exposed: bool) -> Result<Loaded, Box<Report>> {
    let mut problems = Vec::new();
    let likely = || syntax::likely_secrets(text).into_iter().map(|mark| (mark, "…".into()));
    let Some(mut tree) = spans::read(text, &mut problems) else {
        return Err(Box::new(Report::new(name, text, problems, likely().collect())));
    };
    let (mut value, walk) = shape::walk(&mut tree, &file::schema(), &options.env);
    problems.extend(walk.problems);
    let origins = layers::apply(&mut value, &tree, &options.env);
    let file: File = serde_yaml::from_value(value).unwrap_or_else(|error| {
        // The walk leaves nothing that the structs refuse; if it ever does, the file is still refused.
        problems.push(Problem::error("shape", At::Nowhere, error.to_string()));
        File::default()
    });
    let reading = Reading {
        env: &options.env,
        offline: options.offline,
        now: options.now,
        exposed: exposed && !options.offline,
    };
    let mut ground = Ground {
        tree: &tree,
        origins: &origins,
        left_out: &walk.left_out,
        reading: &reading,
        problems,
    };
    let compiled = compile::compile(&file, &mut ground);
    let masks = walk.masks.into_iter().chain(likely()).collect();
    let report = Report::new(name, text, ground.problems, masks);
    if report.problems.iter().any(|problem| problem.severity == Severity::Error) {
        return Err(Box::new(report));
    }
    let values = show::effective(&file, name, &tree, &origins, &compiled.secrets);
    let mut config = compiled.config;
    config.fingerprint = Digest::of(text.as_bytes()).to_string();
    Ok(Loaded {
        config,
        warnings: report,
        secrets: compiled.secrets,
        routes: compiled.routes,
        values,
    })
}

impl Options {
    /// With the environment of this process, now.
    pub fn from_env() -> Self {
        Self { env: Env::of_process(), offline: false, now: Timestamp::now() }
    }

    /// The same without reading secrets or other files.
    #[must_use]
    pub fn offline(self) -> Self {
        Self { offline: true, ..self }
    }
}
