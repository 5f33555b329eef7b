//! Every provider's challenge gets its exact reply, and nothing that only looks like one does.

use std::collections::BTreeMap;

pub(crate) use gatepost::answer::{Challenge, Refusal};
use gatepost::{
    answer::{Answer, Outcome},
    providers::{self, Compiled, Options, shape::HandshakeRule, shape::Verify},
    receive::Inbound,
};
pub(crate) use http::HeaderMap;
use http::Method;
use http_body_util::Full;

pub(crate) use crate::flow::Flow;

/// A provider's verification and challenges.
#[derive(Clone, serde::Deserialize)]
pub(crate) struct Provider {
    pub(crate) verify: Verify,
    #[serde(default)]
    pub(crate) handshake: Vec<HandshakeRule>,
}

/// Those whose requests these tests cannot sign: a signature is in the body, or its key is not a source's secret.
pub(crate) fn elsewhere() -> BTreeMap<String, Provider> {
    serde_yaml::from_str(include_str!("challenges/rules.yaml")).expect("YAML")
}

/// Names of all that have a challenge.
pub(crate) fn challenging() -> Vec<String> {
    let presets = providers::catalogue().filter(|preset| !preset.handshake.is_empty());
    // One that is like another is looked at there.
    let presets = presets.filter(|preset| preset.like.is_none()).map(|preset| preset.name.clone());
    let mut names: Vec<_> = presets.chain(elsewhere().into_keys()).collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// What the sources of these tests say about themselves.
pub(crate) const PARAMS: [(&str, &str); 7] = [
    ("client_id", "client-1"),
    ("verify_token", "meatyhamhock"),
    ("topic", "https://example.com/feed"),
    ("allowed_origins", "a.example eventemitter.example.com"),
    ("verification_token", "ebay_verification-token_of_32_to_80_characters"),
    ("public_key", "public_key_1"),
    ("verification_key", "B3248222FDCD1885AB2DA3E0E72E1CD7"),
];

pub(crate) fn compiled(provider: &str, params: &[(&str, &str)]) -> Compiled {
    let preset = providers::preset(provider).map(|preset| Provider {
        verify: preset.verify.clone(),
        handshake: preset.handshake.clone(),
    });
    // A preset's challenges behind a stand-in of its scheme, where there is one.
    let known = match (preset, elsewhere().remove(provider)) {
        (Some(preset), Some(stand_in)) => Provider { verify: stand_in.verify, ..preset },
        (preset, stand_in) => {
            preset.or(stand_in).unwrap_or_else(|| panic!("{provider} is not known"))
        }
    };
    let event = serde_yaml::from_str("{ id: '{body|sha256_hex}', type: event }").unwrap();
    let said = serde_yaml::to_string(&(&known.verify, &known.handshake)).expect("YAML");
    let asked = |(name, _): &&(&str, &str)| said.contains(&format!("{{param:{name}}}"));
    let params = params.iter().filter(asked);
    let params = params.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let options = Options { params: params.collect(), ..Options::default() };
    providers::compile(&known.verify, &event, &known.handshake, &options)
        .unwrap_or_else(|problems| panic!("{provider}: {problems:?}"))
}

pub(crate) fn flow(provider: &str, secret: &str) -> Flow {
    Flow::own(compiled(provider, &PARAMS), secret)
}

/// A request, sent at `now`.
pub(crate) fn ask(
    flow: &Flow,
    method: &str,
    target: &str,
    headers: HeaderMap,
    body: &str,
    now: i64,
) -> Answer {
    let mut inbound: Inbound<_> = Flow::inbound(headers, Full::from(body.to_owned()));
    *inbound.request.method_mut() = method.parse::<Method>().unwrap();
    *inbound.request.uri_mut() = target.parse().unwrap();
    inbound.received_at = gatepost::event::Timestamp::from_millis(now * 1000);
    flow.run(inbound)
}

/// How a request came out, as far as its sender sees.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Told {
    Answered(Challenge),
    Refused(Refusal),
    Event,
}

pub(crate) fn told(answer: Answer) -> Told {
    match answer {
        Ok(answered) => match answered.what {
            Outcome::Handshake(challenge) => Told::Answered(challenge),
            _ => Told::Event,
        },
        Err(refused) => Told::Refused(refused.what),
    }
}
