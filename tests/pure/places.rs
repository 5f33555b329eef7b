//! Places that a message names for its key: which are asked is decided before anything is.

use std::sync::Arc;

use gatepost::{
    answer::Reason,
    providers,
    secret::Secret,
    verify::{KeySet, Keys, NoKeys, Stop, Verifier, Want},
};
use http::HeaderMap;
use serde_json::Map;

use crate::{
    foreign::{Own, of, presented},
    source::{compiled, headers, verifier},
};

const SCHEME: &str = r#"
mac: rsa-pkcs1-sha256
signature: { header: X-Signature, encoding: base64 }
signed: "{body}"
keys:
  cert_url: "{header:X-Cert-Url}"
  hosts: [api.paypal.com, "sns.*.amazonaws.com", "localhost:8443"]
  path: "/certs/*.pem"
"#;

fn lines(url: &str) -> HeaderMap {
    headers(&[("x-signature", "AAAA"), ("x-cert-url", url)])
}

fn asked(verifier: &Verifier, url: &str) -> Result<String, Reason> {
    match verifier.judge(&presented(&lines(url), b"{}"), &NoKeys) {
        Err(Stop::Wanting(want)) => Ok(want.url),
        Err(Stop::Refused(reason)) => Err(reason),
        Ok(_) => panic!("accepted without a key"),
    }
}

#[test]
fn what_is_allowed_is_asked() {
    let verifier = of(SCHEME, &[]);
    for url in [
        "https://api.paypal.com/certs/CERT-1.pem",
        "https://sns.us-east-1.amazonaws.com/certs/a_b~c.d.pem",
        "https://localhost:8443/certs/x.pem",
    ] {
        assert_eq!(asked(&verifier, url).as_deref(), Ok(url));
    }
    let with_port = asked(&verifier, "https://api.paypal.com:443/certs/x.pem");
    assert_eq!(
        with_port.as_deref(),
        Ok("https://api.paypal.com/certs/x.pem"),
        "443 is the default"
    );
}

#[test]
fn nothing_else_is_asked() {
    let verifier = of(SCHEME, &[]);
    let long = format!("https://api.paypal.com/certs/{}.pem", "x".repeat(600));
    for url in [
        "http://api.paypal.com/certs/x.pem",
        "HTTPS://api.paypal.com/certs/x.pem",
        "https:/api.paypal.com/certs/x.pem",
        "//api.paypal.com/certs/x.pem",
        "/certs/x.pem",
        "https://API.PAYPAL.COM/certs/x.pem",
        "https://api.paypal.com./certs/x.pem",
        "https://evil.example/certs/x.pem",
        "https://api.paypal.com.evil.example/certs/x.pem",
        "https://evil-api.paypal.com/certs/x.pem",
        "https://evil.example/https://api.paypal.com/certs/x.pem",
        "https://api.paypal.com@evil.example/certs/x.pem",
        "https://user@api.paypal.com/certs/x.pem",
        "https://user:secret@api.paypal.com/certs/x.pem",
        "https://api.paypal.com\\@evil.example/certs/x.pem",
        "https://evil.example#api.paypal.com/certs/x.pem",
        "https://evil.example?api.paypal.com/certs/x.pem",
        "https://api.paypal.com:444/certs/x.pem",
        "https://api.paypal.com:0443/certs/x.pem",
        "https://api.paypal.com:/certs/x.pem",
        "https://api.paypal.com:443:443/certs/x.pem",
        "https://localhost/certs/x.pem",
        "https://localhost:443/certs/x.pem",
        "https://127.0.0.1/certs/x.pem",
        "https://[::1]/certs/x.pem",
        "https://169.254.169.254/certs/x.pem",
        "https://sns.amazonaws.com/certs/x.pem",
        "https://sns..amazonaws.com/certs/x.pem",
        "https://sns.a.b.amazonaws.com/certs/x.pem",
        "https://sns.us-east-1.amazonaws.com.evil.example/certs/x.pem",
        "https://xsns.us-east-1.amazonaws.com/certs/x.pem",
        "https://sns.evil.example/.amazonaws.com/certs/x.pem",
        "https://api.paypal.com",
        "https://api.paypal.com/",
        "https://api.paypal.com/certs/",
        "https://api.paypal.com/certs/.pem",
        "https://api.paypal.com/certs/x.pem/",
        "https://api.paypal.com/certs/x.crt",
        "https://api.paypal.com/certs/x.pem?x=1",
        "https://api.paypal.com/certs/x.pem#x",
        "https://api.paypal.com/certs/a/x.pem",
        "https://api.paypal.com/certs/../x.pem",
        "https://api.paypal.com/certs/%2e%2e/x.pem",
        "https://api.paypal.com/certs/..%2fx.pem",
        "https://api.paypal.com//certs/x.pem",
        "https://api.paypal.com/certs//x.pem",
        "https://api.paypal.com/./certs/x.pem",
        "https://api.paypal.com/certs/x.pem ",
        " https://api.paypal.com/certs/x.pem",
        "https://api.paypal.com/certs/x\t.pem",
        "file:///certs/x.pem",
        "data:text/plain,x.pem",
        "",
        &long,
    ] {
        assert_eq!(asked(&verifier, url), Err(Reason::KeySourceRefused), "{url}");
    }
    let none = headers(&[("x-signature", "AAAA")]);
    let missing = verifier.verify(&presented(&none, b"{}")).map(drop);
    assert_eq!(missing, Err(Reason::InputMissing));
}

#[test]
fn nothing_is_fetched_without_a_fetcher() {
    let verifier = of(SCHEME, &[]);
    let verdict = verifier.verify(&presented(&lines("https://api.paypal.com/certs/x.pem"), b""));
    assert_eq!(verdict.map(drop), Err(Reason::KeyNotFetched));
}

const AT: &str = "mac: jwt\nsignature: { header: X-Token }\njwt: { algs: [ES256] }\n\
    keys: { jwks_url: \"https://idp.example/keys\" }";

/// Keys that were fetched, whatever is asked for; nobody is asked again.
#[derive(Debug)]
struct Given(Arc<KeySet>);

impl Keys for Given {
    fn get(&self, _: usize, _: &str) -> Option<Arc<KeySet>> {
        Some(Arc::clone(&self.0))
    }
}

#[test]
fn a_fetched_key_is_believed_by_its_name() {
    let own = Own::new("mac: jwt\nsignature: { header: X-Token }\njwt: { algs: [ES256] }");
    let (key, none) = (own.key.named("k1"), HeaderMap::new());
    let request = presented(&none, b"{}");
    let signed = own.verifier.sign_with(&key, &request, &Map::new()).expect("signed").headers;
    let signed = HeaderMap::from_iter(signed);
    let fetching = of(AT, &[]);
    let Err(Stop::Wanting(want)) = fetching.judge(&presented(&signed, b"{}"), &NoKeys) else {
        panic!("there is no key yet");
    };
    let at = "https://idp.example/keys".to_owned();
    assert_eq!(want, Want { scheme: 0, url: at, is_stale: false });
    let verdict = |id: &str| {
        let document = crate::tokens::jwk(&key.public_pem().unwrap(), id);
        let set = fetching.read(&want, document.as_bytes(), &[], request.received_at).expect("one");
        match fetching.judge(&presented(&signed, b"{}"), &Given(Arc::new(set))) {
            Ok(proof) => Ok((proof.slot, proof.label.to_string())),
            Err(Stop::Refused(reason)) => Err(reason),
            Err(Stop::Wanting(want)) => panic!("{want:?}"),
        }
    };
    assert_eq!(verdict("k1"), Ok((0, "fetched".to_owned())));
    assert_eq!(verdict("k2"), Err(Reason::KeyUnknown), "nobody can be asked for another");
}

/// Whether there is anything to fetch, and what is shown to whoever has it.
#[test]
fn what_is_fetched_and_how_it_is_asked_for() {
    let key = crate::foreign::PUBLIC[1];
    for (scheme, secrets, fetches) in [
        (AT, &[][..], true),
        (AT, &[key], false),
        (SCHEME, &[], true),
        ("signature: { header: X-S }\nsigned: \"{body}\"", &["a secret"], false),
        ("mac: jwt\nsignature: { header: X-S }\njwt: { algs: [ES256] }", &[key], false),
    ] {
        assert_eq!(of(scheme, secrets).fetches(), fetches, "{scheme} {secrets:?}");
    }
    let secret = Secret::new("an API key");
    let want = |scheme| Want { scheme, url: String::new(), is_stale: false };
    let open = of(AT, &[]);
    assert_eq!(open.shown(&want(0), &secret), None);
    let credential = "keys\", credential: { header: Authorization, prefix: \"Bearer \" }";
    let closed = of(&AT.replace("keys\"", credential), &[]);
    let (name, value) = closed.shown(&want(0), &secret).expect("it is asked for");
    assert_eq!((name.as_str(), value.to_str().unwrap()), ("authorization", "Bearer an API key"));
    assert!(value.is_sensitive(), "it is in no log");
    assert_eq!(closed.shown(&want(1), &secret), None, "there is no such scheme");
    assert_eq!(closed.shown(&want(0), &Secret::new("two\nlines")), None);
}

/// Amazon names its regions; a bucket that is called `sns` is not Amazon's.
#[test]
fn a_certificate_of_sns_is_at_a_region_and_in_no_bucket() {
    let sns = verifier(compiled("aws-sns"), &[]).expect("keys are fetched");
    let none = HeaderMap::new();
    let asked = |host: &str| {
        let url = format!("https://{host}/SimpleNotificationService-0123.pem");
        let body = format!(
            r#"{{"Type":"Notification","Message":"m","MessageId":"1","Timestamp":"2023-11-14T22:13:20.000Z",
            "TopicArn":"t","Signature":"AAAA","SignatureVersion":"2","SigningCertURL":"{url}"}}"#
        );
        match sns.judge(&presented(&none, body.as_bytes()), &NoKeys) {
            Err(Stop::Wanting(want)) => Ok(want.url == url),
            Err(Stop::Refused(reason)) => Err(reason),
            Ok(_) => panic!("accepted without a key"),
        }
    };
    for host in [
        "sns.us-east-1.amazonaws.com",
        "sns.us-gov-west-1.amazonaws.com",
        "sns.eu-central-2.amazonaws.com",
        "sns.ap-southeast-5.amazonaws.com",
        "sns.ca-west-1.amazonaws.com",
        "sns.sa-east-1.amazonaws.com",
        "sns.af-south-1.amazonaws.com",
        "sns.me-central-1.amazonaws.com",
        "sns.il-central-1.amazonaws.com",
        "sns.mx-central-1.amazonaws.com",
        "sns.cn-north-1.amazonaws.com.cn",
        "sns.cn-northwest-1.amazonaws.com.cn",
    ] {
        assert_eq!(asked(host), Ok(true), "{host}");
    }
    for host in [
        "sns.s3.amazonaws.com",
        "sns.s3-us-west-2.amazonaws.com",
        "sns.s3-eu-west-1.amazonaws.com",
        "sns.s3.us-west-2.amazonaws.com",
        "sns.s3-website-us-east-1.amazonaws.com",
        "sns.s3-accelerate.amazonaws.com",
        "sns.s3.cn-north-1.amazonaws.com.cn",
        "sns.cn-north-1.amazonaws.com",
        "sns.us-east-1.amazonaws.com.cn",
        "sns.amazonaws.com",
    ] {
        assert_eq!(asked(host), Err(Reason::KeySourceRefused), "{host}");
    }
    // The URL that confirms a subscription is at the same places.
    let preset = providers::preset("aws-sns").expect("a preset");
    let said = serde_yaml::to_value((&preset.verify, &preset.handshake)).expect("YAML");
    assert!(said[0]["keys"]["hosts"].is_sequence(), "{said:?}");
    assert_eq!(said[1][0]["confirm"]["hosts"], said[0]["keys"]["hosts"]);
}
