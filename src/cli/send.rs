//! `gatepost send`: signs a test event with the source's own scheme and secret, and says how it ended.

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use bytes::Bytes;
use http::Uri;

use super::{
    NEEDS_ANSWER, NO, NO_GATEWAY, NOT_FOUND, OK,
    config::load,
    out,
    payload::Payload,
    read,
    sender::{Ended, Prepared, Signature, client, own, send, tally},
    test_key,
};
use crate::{
    config::{self, Config, Env, Options, Source},
    event::{Digest, Receipt},
    json,
    providers::{self, Covers, Preset},
    verify::TestKey,
};

/// Send a correctly signed test event
///
/// Examples:
///   gatepost send stripe invoice.paid --times 50 --parallel 10
///   gatepost send payments refund.initiated --set data.amount=4200
///   gatepost send github push --signature forged
///   gatepost send discord                            signed with a test key; says what to configure so that it is accepted
///   gatepost send zoom                               no such source: a request with a test secret, printed
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Args {
    /// The source, as the configuration names it; or a preset, whose request is printed, signed with a test secret
    source: String,
    /// The event's type; default: one that the provider is known for
    #[arg(value_name = "TYPE")]
    kind: Option<String>,
    /// Send this file (`-`: standard input) instead of an example
    #[arg(long, value_name = "FILE")]
    body: Option<PathBuf>,
    /// Set a value of the example: data.object.amount=4200
    #[arg(long, value_name = "PATH=VALUE")]
    set: Vec<String>,
    /// Where to send; default: where this configuration listens
    #[arg(long, value_name = "URL")]
    to: Option<Uri>,
    /// How many copies
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    times: u32,
    /// How many at once
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    parallel: u32,
    /// The event's id; default: a new one
    #[arg(long)]
    id: Option<String>,
    /// What kind of signature
    #[arg(long, value_enum, default_value_t = Signature::Valid)]
    signature: Signature,
    /// Change the body after signing
    #[arg(long)]
    tamper: bool,
    /// PEM of the test key, where only the provider has the real one; made if it is not there. Default: in the storage directory
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// Print the request instead of sending it
    #[arg(long)]
    show_request: bool,
    /// PEM of the CA to trust instead of the system's
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Send to another machine without asking
    #[arg(long)]
    yes: bool,
}

impl Args {
    pub(super) fn run(&self, file: Option<&Path>) -> ExitCode {
        let preset = providers::preset(&self.source);
        let env = Env::of_process();
        let config = match config::find(file, &env) {
            Err(_) if preset.is_some() => None,
            _ => match load(file, false) {
                Ok(loaded) => Some(loaded.config),
                Err(code) => return code,
            },
        };
        let sources = config.as_ref().map_or(&[][..], |config| &config.sources);
        let source = sources.iter().find(|s| s.name.as_str() == self.source);
        match (&config, source, preset) {
            (Some(config), Some(source), _) => {
                self.dispatch(config, source).unwrap_or_else(|why| out::fail(NO, &why))
            }
            (_, _, Some(preset)) => self.show(preset).unwrap_or_else(|why| out::fail(NO, &why)),
            _ => {
                let known: Vec<_> = sources.iter().map(|s| s.name.as_str()).collect();
                let why = format!(
                    "no source and no preset {:?}; there are {}, and `gatepost providers list`",
                    self.source,
                    known.join(", ")
                );
                out::fail(NOT_FOUND, &why)
            }
        }
    }

    /// Prints what a provider would send, for which there is no source.
    fn show(&self, preset: &Preset) -> Result<ExitCode, String> {
        let (secret, key, config) = trial(preset, self.key.as_deref())?;
        let source = config.sources.first().ok_or("no source")?;
        let request = self.prepare(source, key.as_ref(), self.given()?.as_ref())?;
        let to = source.public_url.parse().map_err(|e| format!("{}: {e}", source.public_url))?;
        let what = match &key {
            Some(_) => format!("a test key, whose public one is\n{secret}"),
            None if source.verifier.names_secrets() => {
                format!("the test secret {secret}, whose id is {TEST_ID}")
            }
            None => format!("the test secret {secret}"),
        };
        self.remark(source, &request);
        out::say(&format!("no source `{}`: signed with {what}", self.source));
        request.print(source, &to, true);
        Ok(ExitCode::SUCCESS)
    }

    /// Says what is otherwise than whoever reads the answer might think.
    fn remark(&self, source: &Source, request: &Prepared) {
        if self.body.is_none() && request.is_made_up() {
            out::say("a made-up body: nothing is known of what this provider sends");
        }
        let is_wrong = self.tamper || self.signature != Signature::Valid;
        if !is_wrong || !request.passes(source) {
            return;
        }
        let uncovered = match source.language.covers {
            Covers::Fields => "some fields of the body and not the rest of it",
            Covers::Body | Covers::Nothing => "nothing of the body",
        };
        if self.tamper {
            let why = format!("it covers {uncovered}");
            out::say(&format!("the body was changed and the signature holds all the same: {why}"));
        }
        if self.signature == Signature::Stale {
            let why = "this scheme signs no time, or its limit is longer";
            out::say(&format!("the signature is an hour old and holds all the same: {why}"));
        }
    }

    fn dispatch(&self, config: &Config, source: &Source) -> Result<ExitCode, String> {
        let body = self.given()?;
        let request = match self.prepare(source, None, body.as_ref()) {
            Ok(request) if self.key.is_none() => request,
            Ok(_) => self.with_test_key(config, source, body.as_ref(), NO_KEY.to_owned())?,
            Err(why) => self.with_test_key(config, source, body.as_ref(), why)?,
        };
        self.remark(source, &request);
        let listen = config.server.listen.first().ok_or("the configuration listens nowhere")?;
        let (own_url, mut tls) = own(config, *listen, source)?;
        if self.to.is_some() {
            tls.server_name = None;
        }
        if self.ca.is_some() {
            tls.ca.clone_from(&self.ca);
        }
        let to = self.to.clone().unwrap_or(own_url);
        if self.show_request {
            request.print(source, &to, false);
            return Ok(ExitCode::SUCCESS);
        }
        if !self.yes && !is_loopback(&to) {
            let why = format!("{to} is another machine; add --yes to send there");
            return Ok(out::fail(NEEDS_ANSWER, &why));
        }
        let client = client(&request.url(&to)?, tls)?;
        let runtime = tokio::runtime::Runtime::new().map_err(|e| e.to_string())?;
        let ended = runtime.block_on(send(&client, &request, self.times, self.parallel));
        report(&ended);
        Ok(ExitCode::from(verdict(&ended)))
    }

    /// Signs with a key of our own, where only the provider has the real one; else says `why` it cannot be signed.
    fn with_test_key(
        &self,
        config: &Config,
        source: &Source,
        body: Option<&Bytes>,
        why: String,
    ) -> Result<Prepared, String> {
        let verifier = &source.verifier;
        let (key, file) = match &self.key {
            Some(file) => (test_key::in_file(verifier, file).ok_or(why)??, file.clone()),
            None => test_key::in_storage(verifier, &config.storage.dir).ok_or(why)??,
        };
        if !self.signed(source, Some(&key), body, Signature::Valid)?.passes(source) {
            let (name, file, public) = (&self.source, file.display(), key.public_pem()?);
            out::say(&format!(
                "only the provider has its key: signed with the test key in {file}, whose public one is\n{public}\
                 set it as `secret` of `{name}` to have it accepted, for as long as you test"
            ));
        }
        self.prepare(source, Some(&key), body)
    }

    /// The body that was asked for. Standard input can be read once.
    fn given(&self) -> Result<Option<Bytes>, String> {
        let body = self.body.as_ref();
        body.map(|path| read(path).map_err(|e| format!("{}: {e}", path.display()))).transpose()
    }

    fn prepare(
        &self,
        source: &Source,
        key: Option<&TestKey>,
        body: Option<&Bytes>,
    ) -> Result<Prepared, String> {
        let request = self.signed(source, key, body, self.signature)?;
        Ok(if self.tamper { request.tampered() } else { request })
    }

    fn signed(
        &self,
        source: &Source,
        key: Option<&TestKey>,
        body: Option<&Bytes>,
        signature: Signature,
    ) -> Result<Prepared, String> {
        let plan = &source.language.identify.parts;
        let (id, kind) = (self.id.as_deref(), self.kind.as_deref());
        let mut payload = Payload::new(&source.provider, plan, id, kind)?;
        for assignment in &self.set {
            let (path, value) = assignment.split_once('=').ok_or("--set takes PATH=VALUE")?;
            payload.set(&json::Path::parse(path)?, value);
        }
        let body = body.cloned().unwrap_or_else(|| payload.body());
        Prepared::new(source, payload, body, signature, key)
    }
}

/// Why there is nothing to do for `--key`.
const NO_KEY: &str = "this source and its provider share a secret: there is no key to sign with";

/// What a test secret is called where requests name theirs.
const TEST_ID: &str = "gatepost-test";
/// Where a trial's secret is, for a configuration that says where secrets are.
const VARIABLE: &str = "TRIAL_SECRET";

/// A configuration with one source, of that preset, and its secret: new, and in a form that its scheme takes. Where its provider
/// signs with a private key, that one, and the public one for a secret.
fn trial(
    preset: &Preset,
    file: Option<&Path>,
) -> Result<(String, Option<TestKey>, Config), String> {
    let random = Digest::of(Receipt::random().to_string().as_bytes()).to_string();
    let unsigned = alone(preset, &random, "", true)?;
    let source = unsigned.sources.first().ok_or("no source")?;
    let key = match file {
        Some(file) => test_key::in_file(&source.verifier, file),
        None => source.verifier.test_key(),
    };
    if key.is_none() && file.is_some() {
        return Err(NO_KEY.to_owned());
    }
    if let Some(key) = key {
        let key = key?;
        let public = key.public_pem()?;
        let config = alone(preset, &public, "", false)?;
        return Ok((public, Some(key), config));
    }
    let id = if source.verifier.names_secrets() { TEST_ID } else { "" };
    let prefix = preset.secret.prefix.as_deref().unwrap_or_default();
    let mut problem = String::new();
    for secret in [format!("{prefix}{random}"), random.clone(), format!("test:{random}")] {
        match alone(preset, &secret, id, false) {
            Ok(config) => return Ok((secret, None, config)),
            Err(why) => problem = why,
        }
    }
    Err(problem)
}

/// A configuration with one source.
fn alone(preset: &Preset, secret: &str, id: &str, offline: bool) -> Result<Config, String> {
    let params = preset.needed_params();
    let params: Vec<_> =
        params.map(|(name, param)| format!("{name}: {:?}", param.example)).collect();
    let (name, params) = (&preset.name, params.join(", "));
    let id = if id.is_empty() { String::new() } else { format!(", id: {id}") };
    let text = format!(
        "version: 1\nserver: {{ public_url: \"https://hooks.example.com\" }}\ntls: {{ mode: none }}\n\
         sources: {{ {name}: {{ provider: {name}, secret: {{ env: {VARIABLE}{id} }}, params: {{ {params} }} }} }}\n\
         routes: [ {{ source: {name}, to: app }} ]\nupstreams: {{ app: \"http://127.0.0.1:9\" }}\n"
    );
    let env = Env::from([(VARIABLE, secret)]);
    let options = Options { env, offline, ..Options::from_env() };
    let loaded = config::parse_str("a trial", &text, &options);
    loaded.map(|loaded| loaded.config).map_err(|report| report.human(false))
}

/// 0 where every copy was taken, 4 where none was answered.
fn verdict(ended: &[(Ended, Duration)]) -> u8 {
    let all = |holds: fn(u16) -> bool| ended.iter().all(|((status, _), _)| holds(*status));
    match (all(|status| status == 0), all(|status| (200..300).contains(&status))) {
        (_, true) => OK,
        (true, _) => NO_GATEWAY,
        _ => NO,
    }
}

/// Prints what became of the copies, and how long they took.
fn report(ended: &[(Ended, Duration)]) {
    out::line(&format!("sent {}", ended.len()));
    for ((status, outcome), count) in tally(ended) {
        let status = if *status == 0 { "---".to_owned() } else { status.to_string() };
        out::line(&format!("  {status} {outcome:<22} {count:>5}"));
    }
    let mut times: Vec<_> = ended.iter().map(|(_, took)| took.as_secs_f64() * 1e3).collect();
    times.sort_unstable_by(f64::total_cmp);
    let at = |share: usize| times.get((times.len() * share / 100).min(times.len() - 1));
    if let (Some(p50), Some(p99)) = (at(50), at(99)) {
        out::line(&format!("p50 {p50:.1} ms   p99 {p99:.1} ms"));
    }
}

fn is_loopback(to: &Uri) -> bool {
    let host = to.host().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}
