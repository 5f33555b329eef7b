//! Places that a message names for its key: which are asked is decided before anything is.

use gatepost::{
    answer::Reason,
    verify::{NoKeys, Stop, Verifier},
};
use http::HeaderMap;

use crate::source::headers;

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
    match verifier.judge(&crate::foreign::presented(&lines(url), b"{}"), &NoKeys) {
        Err(Stop::Wanting(want)) => Ok(want.url),
        Err(Stop::Refused(reason)) => Err(reason),
        Ok(_) => panic!("accepted without a key"),
    }
}

#[test]
fn what_is_allowed_is_asked() {
    let verifier = crate::foreign::of(SCHEME, &[]);
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
    let verifier = crate::foreign::of(SCHEME, &[]);
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
    let missing = verifier.verify(&crate::foreign::presented(&none, b"{}")).map(drop);
    assert_eq!(missing, Err(Reason::InputMissing));
}

#[test]
fn nothing_is_fetched_without_a_fetcher() {
    let verifier = crate::foreign::of(SCHEME, &[]);
    let verdict = verifier
        .verify(&crate::foreign::presented(&lines("https://api.paypal.com/certs/x.pem"), b""));
    assert_eq!(verdict.map(drop), Err(Reason::KeyNotFetched));
}
