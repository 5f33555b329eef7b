//! What presets demand of the claims in a token, with a key of our own in place of the provider's.

use gatepost::{answer::Reason, providers, verify::Presented};
use http::{HeaderMap, HeaderValue};
use serde_json::{Value as Json, json};
use serde_yaml::Value as Yaml;

use crate::{
    foreign::{NOW, Own, presented},
    source::{Source, custom, verifier},
    tokens::forged,
};

/// A preset's rules for a token in a header, whatever keys it has; for a source that says these things.
fn rules_of(provider: &str, scheme: Option<usize>, params: &[(&str, &str)]) -> Own {
    let preset = providers::preset(provider).expect("a preset");
    let verify = serde_yaml::to_value(&preset.verify).expect("YAML");
    let rules = scheme.map_or(&verify["jwt"], |n| &verify["schemes"][n]["jwt"]);
    let mut rules = rules.clone();
    rules["algs"] = Yaml::from(vec!["ES256"]);
    let rules = serde_json::to_string(&rules).expect("JSON");
    let yaml = format!(
        "verify:\n  mac: jwt\n  signature: {{ header: X-Token }}\n  jwt: {rules}\n\
         event: {{ id: '{{body|sha256_hex}}', type: event }}"
    );
    let source = Source::parse(&yaml);
    let params = params.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned()));
    let options = providers::Options { params: params.collect(), ..Default::default() };
    Own::of(&providers::compile(&source.verify, &source.event, &[], &options).expect("rules"))
}

fn verdict(own: &Own, target: &str, claims: &Json) -> Result<(), Reason> {
    let token = HeaderValue::from_str(&forged(own, "", &claims.to_string())).unwrap();
    let headers = HeaderMap::from_iter([("x-token".parse().unwrap(), token)]);
    let presented = Presented { target, ..presented(&headers, b"{}") };
    own.verifier.verify(&presented).map(drop)
}

/// Apple says for which app a notification is in one of four places; the first that is there counts.
#[test]
fn a_notification_of_the_app_store_is_for_one_app() {
    let own = rules_of("apple-app-store", None, &[("bundle_id", "com.example.app")]);
    let places = ["data", "summary", "externalPurchaseToken", "appData"];
    for place in places {
        let said = |id: &str| verdict(&own, "/", &json!({ place: { "bundleId": id } }));
        assert_eq!(said("com.example.app"), Ok(()), "{place}");
        assert_eq!(said("com.example.other"), Err(Reason::ClaimFailed), "{place}");
    }
    let (own_id, other) = (json!({ "bundleId": "com.example.app" }), json!({ "bundleId": "x" }));
    for claims in [
        json!({ "bundleId": "com.example.app" }),
        json!({ "data": {} }),
        json!({ "data": other, "summary": own_id }),
        json!({ "somewhere": own_id }),
        json!({}),
    ] {
        assert_eq!(verdict(&own, "/", &claims), Err(Reason::ClaimFailed), "{claims}");
    }
    // What a test event says in another of the places than the first stays the one place.
    let signed = own.sign(b"{}", json!({ "appData": { "bundleId": "x" } }).as_object().unwrap());
    let token = signed.headers[0].1.to_str().unwrap();
    let claims = token.split('.').nth(1).unwrap();
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
    let claims: Json = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap();
    assert_eq!((&claims["appData"], &claims["data"]), (&own_id, &Json::Null));
}

/// One POST of Microsoft Graph may carry tokens of several tenants, and for several apps.
#[test]
fn a_source_may_name_several_tenants_and_apps() {
    let said = |tenants: &str, apps: &str, (tenant, app): (&str, &str)| {
        let own = rules_of("microsoft-graph", Some(0), &[("tenant", tenants), ("app_id", apps)]);
        [format!("https://sts.windows.net/{tenant}/"), format!("https://login.microsoftonline.com/{tenant}/v2.0")].map(|issuer| {
            verdict(&own, "/", &json!({
                "exp": NOW + 60, "aud": app, "iss": issuer, "appid": "0bf30f3b-4a52-48df-9a82-234910c4a086",
            }))
        })
    };
    let (good, issuer, audience) =
        ([Ok(()), Ok(())], [Err(Reason::IssuerWrong); 2], [Err(Reason::AudienceWrong); 2]);
    for (tenants, apps, from, told) in [
        ("t1", "a1", ("t1", "a1"), &good),
        ("t1 t2", "a1 a2", ("t1", "a1"), &good),
        ("t1 t2", " a1  a2 ", ("t2", "a2"), &good),
        ("t1 t2", "a1", ("t3", "a1"), &issuer),
        ("t1 t2", "a1", ("t1 t2", "a1"), &issuer),
        ("t1 t2", "a1", ("", "a1"), &issuer),
        (" ", "a1", ("", "a1"), &issuer),
        ("t1", "a1 a2", ("t1", "a3"), &audience),
        ("t1", "a1 a2", ("t1", "a1 a2"), &audience),
        ("t1", " ", ("t1", ""), &audience),
    ] {
        assert_eq!(&said(tenants, apps, from), told, "{tenants:?} {apps:?} {from:?}");
    }
}

/// Atlassian hashes what follows the base URL of the app.
#[test]
fn a_hashed_path_is_relative_to_the_base_url() {
    use sha2::{Digest as _, Sha256};
    let hash = |text: &str| hex::encode(Sha256::digest(text));
    for (base, target, hashed) in [
        (None, "/events", "POST&/events&"),
        (None, "/connect/events?b=2&a=1", "POST&/connect/events&a=1&b=2"),
        (Some("/connect"), "/connect/events?b=2&a=1", "POST&/events&a=1&b=2"),
        (Some("/connect/"), "/connect/events/", "POST&/events&"),
        (Some("/connect"), "/connect", "POST&/&"),
        (Some("/connect"), "/connect/", "POST&/&"),
        (Some("/connect"), "/connected", "POST&/connected&"),
        (Some("/connect"), "/x/connect", "POST&/x/connect&"),
        (Some("/a/b"), "/a/b/a/b", "POST&/a/b&"),
        (Some("/"), "/events", "POST&/events&"),
    ] {
        let params: Vec<_> = base.map(|base| ("base_path", base)).into_iter().collect();
        let own = rules_of("atlassian-connect", None, &params);
        let claims = |qsh: String| json!({ "exp": NOW + 60, "qsh": qsh });
        assert_eq!(verdict(&own, target, &claims(hash(hashed))), Ok(()), "{base:?} {target}");
        let other = verdict(&own, target, &claims(hash(&format!("{hashed}x"))));
        assert_eq!(other, Err(Reason::ClaimFailed), "{base:?} {target}");
    }
}

/// A secret that is sent as it is is marked, so that it is not shown; what was made with it for one request may be looked at.
#[test]
fn a_secret_that_is_sent_is_marked() {
    let own = rules_of("apple-app-store", None, &[("bundle_id", "com.example.app")]);
    let marked = |headers: &[(http::HeaderName, HeaderValue)]| headers[0].1.is_sensitive();
    assert!(!marked(&own.sign(b"{}", &serde_json::Map::new()).headers));
    let none = HeaderMap::new();
    for (scheme, is_marked) in [("mac: token", true), ("signed: '{body}'", false)] {
        let scheme = custom(&format!("verify: {{ signature: {{ header: X-S }}, {scheme} }}"));
        let signed = verifier(scheme, &["a secret"]).unwrap().sign(&presented(&none, b"{}"));
        assert_eq!(marked(&signed.unwrap()), is_marked);
    }
}

/// A token covers a body by the digest of it; only where there is no body may that be left out, and only where the rule says so.
#[test]
fn a_body_without_its_digest_is_refused() {
    for (more, may_be_left_out) in [("", false), (", or_no_body: true", true)] {
        let own = Own::new(&format!(
            "mac: jwt\nsignature: {{ header: x-token }}\n\
             jwt: {{ algs: [ES256], body_hash: {{ claim: d{more} }} }}"
        ));
        let token = HeaderValue::from_str(&forged(&own, "", "{}")).unwrap();
        let headers = HeaderMap::from_iter([("x-token".parse().unwrap(), token)]);
        let said = |body: &[u8]| own.verifier.verify(&presented(&headers, body)).map(drop);
        assert_eq!(said(b"{}"), Err(Reason::ClaimFailed), "{more}");
        assert_eq!(said(b"").is_ok(), may_be_left_out, "{more}");
    }
}
