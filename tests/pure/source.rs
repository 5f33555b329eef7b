//! What the tests share: a source made of a preset or of YAML, and requests to it.

use gatepost::{
    answer::Reason,
    event::Timestamp,
    providers::{self, Compiled, Options, Preset, Problem, shape},
    secret::Secret,
    verify::{LiveSecret, Presented, Proof, Verifier},
};
use http::{HeaderMap, HeaderName, HeaderValue};

/// What a source without a preset says.
#[derive(serde::Deserialize)]
pub(crate) struct Source {
    #[serde(default)]
    pub(crate) verify: shape::Verify,
    #[serde(default)]
    pub(crate) event: shape::EventFields,
    #[serde(default)]
    pub(crate) handshake: Vec<shape::HandshakeRule>,
}

impl Source {
    pub(crate) fn parse(yaml: &str) -> Self {
        serde_yaml::from_str(yaml).expect("YAML")
    }
}

pub(crate) fn compile(source: &Source, captures: &[&str]) -> Result<Compiled, Vec<Problem>> {
    let captures = captures.iter().map(|&path| path.to_owned()).collect();
    let options = Options { captures, ..Options::default() };
    providers::compile(&source.verify, &source.event, &source.handshake, &options)
}

pub(crate) fn compiled(provider: &str) -> Compiled {
    let preset = providers::preset(provider).expect("a preset");
    let compiled =
        providers::compile(&preset.verify, &preset.event, &preset.handshake, &examples(preset));
    compiled.unwrap_or_else(|problems| panic!("{provider}: {problems:#?}"))
}

/// What a source of that provider would say besides its secret.
pub(crate) fn examples(preset: &Preset) -> Options {
    let params = preset.params.iter().map(|(name, param)| (name.clone(), param.example.clone()));
    Options { params: params.collect(), ..Options::default() }
}

/// A source of which only the `verify:` block matters.
pub(crate) fn custom(verify: &str) -> Compiled {
    let yaml = format!("{verify}\nevent: {{ id: '{{body|sha256_hex}}', type: event }}");
    compile(&Source::parse(&yaml), &[]).expect("a scheme")
}

pub(crate) const URL: &str = "https://gateway.example/hooks/x";

pub(crate) fn verifier(compiled: Compiled, secrets: &[&str]) -> Result<Verifier, String> {
    let live = |secret: &&str| LiveSecret { secret: Secret::new(*secret), expires: None, id: None };
    Verifier::new(compiled.schemes, secrets.iter().map(live).collect(), URL)
}

pub(crate) fn preset(provider: &str, secret: &str) -> Verifier {
    verifier(compiled(provider), &[secret]).expect("a good secret")
}

/// Header lines, in order; a name may come twice.
pub(crate) fn headers<V: AsRef<[u8]>>(lines: &[(&str, V)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in lines {
        let name = HeaderName::from_bytes(name.as_bytes()).expect("a header name");
        map.append(name, HeaderValue::from_bytes(value.as_ref()).expect("a header value"));
    }
    map
}

pub(crate) fn presented<'a>(headers: &'a HeaderMap, body: &'a [u8], now: i64) -> Presented<'a> {
    Presented {
        method: "POST",
        url: URL,
        target: "/hooks/x",
        headers,
        body,
        received_at: Timestamp::from_millis(now * 1000),
    }
}

pub(crate) fn verify<V: AsRef<[u8]>>(
    verifier: &Verifier,
    lines: &[(&str, V)],
    body: &[u8],
    now: i64,
) -> Result<Proof, Reason> {
    verifier.verify(&presented(&headers(lines), body, now))
}
