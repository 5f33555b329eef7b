//! From a path to a configuration, or to everything that is wrong with it.

use std::{
    fs,
    io::Read as _,
    os::unix::fs::MetadataExt as _,
    path::{Path as FilePath, PathBuf},
};

use super::{
    Loaded, Options,
    compile::{self, Ground},
    file::{self, File},
    layers, read,
    report::{At, Explain as _, Problem, Report},
    shape, show,
    subst::Env,
    syntax,
};
use crate::event::{Digest, Timestamp};

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
        let message = format!("there is no {}", PLACES.join(" and no "));
        let problem = Problem::error("no-file", At::Nowhere, message)
            .help("name one with `--config FILE`, or write one with `gatepost init`");
        Report::unreadable(PLACES[0], problem).into()
    })
}

/// Finds the file that is meant, and loads it.
pub fn load_found(named: Option<&FilePath>, options: &Options) -> Result<Loaded, Box<Report>> {
    load(&find(named, &options.env)?, options)
}

/// Reads, checks and compiles a file; `-` is standard input.
pub fn load(path: &FilePath, options: &Options) -> Result<Loaded, Box<Report>> {
    let name = path.display().to_string();
    let (text, exposed) = text_of(path).map_err(|why| {
        let message = format!("`{name}` cannot be read: {why}");
        Report::unreadable(&name, Problem::error("no-file", At::Nowhere, message))
    })?;
    let mut loaded = checked(&name, &text, options, exposed)?;
    loaded.config.files = vec![path.to_owned()];
    Ok(loaded)
}

/// Checks and compiles a text, as if it stood in a file called `name` that only we can read.
pub fn parse_str(name: &str, text: &str, options: &Options) -> Result<Loaded, Box<Report>> {
    checked(name, text, options, false)
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

fn checked(
    name: &str,
    text: &str,
    options: &Options,
    exposed: bool,
) -> Result<Loaded, Box<Report>> {
    let (mut problems, mut dropped) = (Vec::new(), Vec::new());
    let mut masks = syntax::known_secrets(text);
    let Some(mut tree) = read::tree(text, &mut problems, &mut dropped) else {
        masks.extend(syntax::behind_secret_keys(text));
        return Err(Report::new(name, text, problems, masks).into());
    };
    let walk = shape::walk(&mut tree, &dropped, file::schema().as_value(), &options.env);
    problems.extend(walk.problems);
    masks.extend(walk.masks);
    layers::apply(&mut tree, &options.env);
    let value = tree.to_value().unwrap_or_default();
    let file: File = serde_yaml::from_value(value).unwrap_or_else(|error| {
        // The walk leaves nothing that the structs refuse; if it ever does, the file is still refused.
        problems.push(Problem::error("shape", At::Nowhere, error.to_string()));
        File::default()
    });
    let exposed = exposed && !options.offline;
    let mut ground =
        Ground { tree: &tree, options, exposed, problems: Vec::new(), secrets: Vec::new() };
    let (mut config, routes) = compile::compile(&file, &mut ground);
    // Of what was found wrong before nothing more is said.
    let news = |p: &Problem| !matches!(p.at, At::File(mark) if walk.left_out.contains(&mark));
    problems.extend(ground.problems.into_iter().filter(news));
    let warnings = Report::new(name, text, problems, masks);
    if warnings.errors() > 0 {
        return Err(warnings.into());
    }
    let secrets = ground.secrets;
    let values = show::effective(&file, name, &tree, &secrets);
    config.fingerprint = Digest::of(text.as_bytes()).to_string();
    Ok(Loaded { config, warnings, secrets, routes, values })
}

impl Options {
    /// With the environment of this process, now.
    pub fn from_env() -> Self {
        Self { env: Env::of_process(), offline: false, now: Timestamp::now() }
    }
}
