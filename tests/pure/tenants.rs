//! Whose event it is, where a provider signs for all of its customers with one key: a good signature says only that the provider
//! sent it to somebody.

use std::collections::BTreeMap;

use gatepost::{
    answer::Reason,
    providers::{self, Compiled, Options, Preset},
};
use http::HeaderMap;
use serde_json::Map;

use crate::{flow::NOW, foreign::Own, source::presented};

/// How a preset whose signatures anybody can check knows that an event is for us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bound {
    /// The key is ours, or made for us.
    Key,
    /// The source names us, and the event must, too.
    Param,
    /// Not at all; its page says so.
    App,
}
use Bound::{App, Key, Param};

const PRESETS: &[(&str, Bound)] = &[
    ("adobe-io", Param),
    ("alexa", Param),
    ("apple-app-store", Param),
    ("atlassian-connect", Key),
    ("aws-sns", Param),
    ("binance-pay", App),
    ("bridge", Key),
    ("chip", Key),
    ("circle", App),
    ("discord", Key),
    ("dyte", App),
    ("ebay", App),
    ("fireblocks", Param),
    ("fireblocks-legacy", App),
    ("fusionauth", Key),
    ("github-secret-scanning", App),
    ("google-chat", Param),
    ("google-pubsub", Param),
    ("http-message-signatures", Key),
    ("integrated-finance", App),
    ("kinde", Key),
    ("messagebird", Key),
    ("microsoft-graph", Key),
    ("monday", Key),
    ("netlify", Key),
    ("paypal", Param),
    ("plaid", App),
    ("sendgrid", Key),
    ("ssf", Param),
    ("standard-webhooks-v1a", Key),
    ("stark-bank", Param),
    ("telnyx", Key),
    ("truelayer", App),
    ("vonage", Key),
    ("wechat-pay", Key),
    ("wise", App),
];

/// Whether a signature of this preset is checked with a key that others may have as well, or is a token.
fn is_foreign(preset: &Preset) -> bool {
    let text = serde_yaml::to_string(&preset.verify).expect("YAML");
    let foreign = ["rsa-", "ecdsa-", "ed25519", "jwt", "jws-", "rfc9421"];
    foreign.iter().any(|mac| text.contains(&format!("mac: {mac}")))
}

#[test]
fn every_preset_says_how_an_event_is_known_to_be_ours() {
    let foreign = providers::catalogue().filter(|preset| is_foreign(preset));
    let foreign: BTreeMap<_, _> = foreign.map(|preset| (preset.name.as_str(), preset)).collect();
    assert!(foreign.keys().eq(PRESETS.iter().map(|(name, _)| name)), "{:?}", foreign.keys());
    for (name, bound) in PRESETS {
        let page = format!("{}/docs/providers/{name}.md", env!("CARGO_MANIFEST_DIR"));
        let page = std::fs::read_to_string(page).unwrap().replace('\n', " ");
        let warns = page.contains("What it signs may be another customer's");
        assert_eq!(warns, *bound == App, "{name}");
        let needed = foreign[name].needed_params().count();
        assert!(*bound != Param || needed > 0, "{name}: nothing of ours is named");
    }
}

/// A source whose parameter names `tenant`.
fn of_tenant(provider: &str, tenant: &str) -> Compiled {
    let preset = providers::preset(provider).expect("a preset");
    let params = preset.needed_params().map(|(name, _)| (name.clone(), tenant.to_owned()));
    let options = Options { params: params.collect(), ..Options::default() };
    let compiled = providers::compile(&preset.verify, &preset.event, &preset.handshake, &options);
    compiled.unwrap_or_else(|problems| panic!("{provider}: {problems:#?}"))
}

#[test]
fn what_was_signed_for_another_customer_is_refused() {
    const ALEXA: &str = r#"{"context":{"System":{"application":{"applicationId":"WHOSE"}}},"request":{"requestId":"r","type":"AlexaSkillEvent.SkillEnabled"}}"#;
    for (provider, body) in
        [("alexa", ALEXA), ("fireblocks", r#"{"id":"e","eventType":"t","workspaceId":"WHOSE"}"#)]
    {
        let own = Own::of(&of_tenant(provider, "ours also-ours"));
        for (tenant, verdict) in [
            ("ours", Ok(())),
            ("also-ours", Ok(())),
            ("theirs", Err(Reason::RequirementFailed)),
            ("our", Err(Reason::RequirementFailed)),
            ("ours-too", Err(Reason::RequirementFailed)),
        ] {
            // The provider signs for everybody, with one key.
            let theirs = Own::of(&of_tenant(provider, tenant)).verifier;
            let (none, body) = (HeaderMap::new(), body.replace("WHOSE", tenant));
            let asked = presented(&none, body.as_bytes(), NOW);
            let signed = theirs.sign_with(&own.key, &asked, &Map::new()).expect("signed");
            let signed_headers = signed.headers.iter().cloned().collect();
            let body = signed.body.unwrap_or_else(|| body.into());
            let told = own.verifier.verify(&presented(&signed_headers, &body, NOW)).map(drop);
            assert_eq!(told, verdict, "{provider}: {tenant}");
        }
    }
}
