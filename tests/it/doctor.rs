//! `gatepost verify` names what is wrong with a signature, in a sentence, and tells nothing that a secret could be known by.

mod received;

use std::{io::Write as _, path::Path, process::Stdio};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha1::Sha1;
use sha2::Sha512;

use crate::{
    GITHUB, STRIPE,
    world::{
        Gateway, Provider, Upstream, eventually,
        gateway::{binary, write_private, yaml},
        provider::{Headers, mac, now, stripe_event},
    },
};

const TEST_MODE: &str = "whsec_of_the_test_mode_0123456789ab";
const BARE: &str = "configured_without_its_prefix_0123";
const SQUARE: &str = "square-signature-key-0123456789";
const DECODED: &str = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
const QUOTED: &str = "\"a secret in quotes 0123456789\"";
const TOKEN: &str = "a-token-that-is-shown-0123456789";

fn config(dir: &Path) -> std::path::PathBuf {
    let rest = format!(
        "sources:\n  \
         stripe: {{ provider: stripe, secret: \"{STRIPE}\" }}\n  \
         stripe-test: {{ provider: stripe, secret: [\"{TEST_MODE}\", \"{BARE}\"] }}\n  \
         github: {{ provider: github, secret: \"{GITHUB}\" }}\n  \
         square: {{ provider: square, secret: \"{SQUARE}\" }}\n  \
         decoded: {{ provider: custom, secret: \"{DECODED}\", {PLAIN} }}\n  \
         quoted: {{ provider: custom, secret: {QUOTED:?}, {PLAIN} }}\n  \
         token: {{ provider: custom, secret: \"{TOKEN}\", verify: {{ mac: token, signature: {{ header: X-Token }} }}, \
                  event: {{ id: \"{{json:id}}\", type: \"{{json:type}}\" }} }}\n\
         routes: [ {{ source: stripe, to: app }} ]\nupstreams: {{ app: \"http://127.0.0.1:9\" }}\n"
    );
    let file = dir.join("gatepost.yaml");
    let public = "server: { public_url: \"https://hooks.example.com\",";
    write_private(&file, &yaml(dir, &rest).replace("server: {", public));
    file
}

const PLAIN: &str = "verify: { signature: { header: X-Signature }, signed: \"{body}\" }, \
                     event: { id: \"{json:id}\", type: \"{json:type}\" }";

/// A request as text.
fn text(path: &str, headers: &Headers, body: &[u8]) -> Vec<u8> {
    let mut text = format!("POST {path} HTTP/1.1\r\nHost: hooks.example.com\r\n");
    for (name, value) in headers {
        text += &format!("{name}: {value}\r\n");
    }
    [text.as_bytes(), b"\r\n", body].concat()
}

fn header(name: &str, value: impl Into<String>) -> Headers {
    vec![(name.to_owned(), value.into())]
}

fn run(config: &Path, request: &[u8], more: &[&str]) -> (Option<i32>, String) {
    let mut child = binary()
        .arg("-c")
        .arg(config)
        .args(["verify", "-"])
        .args(more)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(request).unwrap();
    let out = child.wait_with_output().unwrap();
    (out.status.code(), String::from_utf8_lossy(&[out.stdout, out.stderr].concat()).into_owned())
}

#[test]
fn each_of_the_usual_suspects_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let pretty = stripe_event("evt_1", "invoice.paid");
    let compact =
        br#"{"id":"evt_1","object":"event","data":{"object":{"id":"pi_1"}},"type":"invoice.paid"}"#
            .to_vec();
    let stripe = |secret: &'static str, body: &[u8]| Provider::Stripe(secret).sign("", "", body);
    let unknown = Provider::GitHub("a-secret-of-nobody-0123456789").sign("d", "push", &pretty);
    let github = Provider::GitHub(GITHUB).sign("delivery-1", "push", &pretty);
    let hub = |value: String| header("X-Hub-Signature-256", value);
    let tag = mac(GITHUB.as_bytes(), &[&pretty]);
    let square = |url: &str| {
        header(
            "x-square-hmacsha256-signature",
            STANDARD.encode(mac(SQUARE.as_bytes(), &[url.as_bytes(), &compact])),
        )
    };
    let plain = |key: &[u8]| header("X-Signature", hex::encode(mac(key, &[&pretty])));
    let mut sha1 = Hmac::<Sha1>::new_from_slice(GITHUB.as_bytes()).unwrap();
    sha1.update(&pretty);
    let sha1 = hex::encode(sha1.finalize().into_bytes());
    let mut sha512 = Hmac::<Sha512>::new_from_slice(DECODED.as_bytes()).unwrap();
    sha512.update(&pretty);
    let sha512 = hex::encode(sha512.finalize().into_bytes());
    let with = |mut headers: Headers, more: Headers| {
        headers.extend(more);
        headers
    };
    let odd = r#"{"id":"evt_1","type":"a.b","url":"https://example.com/ü"}"#.as_bytes().to_vec();
    let php = r#"{"id":"evt_1","type":"a.b","url":"https:\/\/example.com\/ü"}"#.as_bytes().to_vec();
    let ascii = br#"{"id": "evt_1", "type": "a.b", "url": "https://example.com/\u00fc"}"#.to_vec();
    let newline = [&pretty[..], b"\n"].concat();
    let crlf = String::from_utf8(pretty.clone()).unwrap().replace('\n', "\r\n").into_bytes();

    let rows: Vec<(&str, Headers, &[u8], &str)> = vec![
        ("/stripe", stripe(TEST_MODE, &pretty), &pretty, "was signed for source `stripe-test`"),
        ("/stripe", unknown, &pretty, "looks like a request of GitHub"),
        ("/stripe", github, &pretty, "was signed for source `github`"),
        (
            "/stripe",
            stripe(STRIPE, &pretty),
            &newline,
            "the body with the newline at its end removed",
        ),
        ("/stripe", stripe(STRIPE, &newline), &pretty, "the body with a newline added"),
        ("/stripe", stripe(STRIPE, &compact), &pretty, "the body as compact JSON"),
        ("/stripe", stripe(STRIPE, &php), &odd, "the body as compact JSON, `/` as `\\/`"),
        (
            "/stripe",
            stripe(STRIPE, &ascii),
            &odd,
            "the body as JSON with a space behind `,` and `:`, non-ASCII as `\\uXXXX`",
        ),
        ("/stripe", stripe(STRIPE, &crlf), &pretty, "the body with CR LF in place of LF"),
        ("/stripe", stripe(STRIPE, &pretty), &crlf, "the body with LF in place of CR LF"),
        ("/stripe", stripe(STRIPE, b""), &pretty, "an empty body"),
        (
            "/stripe",
            header("X-Original-Stripe-Signature", stripe(STRIPE, &pretty)[0].1.clone()),
            &pretty,
            "came in `x-original-stripe-signature`, and the scheme looks in `stripe-signature`",
        ),
        (
            "/stripe",
            Provider::Stripe(STRIPE).sign_at(now() - 7200, "", "", &pretty),
            &pretty,
            "The signature is right; its time is further back (2h",
        ),
        (
            "/stripe",
            Provider::Stripe(STRIPE).sign_at(now() + 7200, "", "", &pretty),
            &pretty,
            "The signature is right; its time is ahead of this machine's clock",
        ),
        (
            "/stripe",
            with(stripe(STRIPE, &pretty), stripe(TEST_MODE, b"x")),
            &pretty,
            "came several times",
        ),
        (
            "/stripe",
            stripe("whsec_nobody_knows_this_one_012345", &pretty),
            &pretty,
            "Workbench > Webhooks",
        ),
        (
            "/stripe",
            with(
                stripe("whsec_nobody_knows_this_one_012345", &pretty),
                header("Content-Encoding", "gzip"),
            ),
            &pretty,
            "The body is `gzip`",
        ),
        (
            "/stripe-test",
            stripe("whsec_configured_without_its_prefix_0123", &pretty),
            &pretty,
            "is configured without it",
        ),
        (
            "/github",
            hub(format!("sha256={}", hex::encode_upper(&tag))),
            &pretty,
            "encoding: hex-any",
        ),
        ("/github", hub(format!("sha256={}", STANDARD.encode(&tag))), &pretty, "encoding: base64"),
        ("/github", hub(hex::encode(&tag)), &pretty, "without the prefix that the scheme expects"),
        ("/github", hub(format!("v1={}", hex::encode(&tag))), &pretty, "begins with `v1=`"),
        (
            "/github",
            hub(format!("\"sha256={}\"", hex::encode(&tag))),
            &pretty,
            "with something around its value",
        ),
        (
            "/github",
            header("X-Hub-Signature", format!("sha1={sha1}")),
            &pretty,
            "Only the older SHA-1 signature",
        ),
        (
            "/square",
            square("http://hooks.example.com/square"),
            &compact,
            "another URL on file: `http://hooks.example.com/square`",
        ),
        (
            "/square",
            square("https://hooks.example.com/square/"),
            &compact,
            "public_url: https://hooks.example.com/square/",
        ),
        (
            "/square",
            square("https://hooks.example.com:443/square"),
            &compact,
            "`https://hooks.example.com:443/square`",
        ),
        (
            "/square?b=2&a=1",
            square("https://hooks.example.com/square?a=1&b=2"),
            &compact,
            "?a=1&b=2`",
        ),
        (
            "/square?b=2",
            square("https://hooks.example.com/square"),
            &compact,
            "another URL on file: `https://hooks.example.com/square`",
        ),
        (
            "/decoded",
            plain(b"0123456789abcdef0123456789abcdef"),
            &pretty,
            "base64, decoded, its prefix removed",
        ),
        ("/decoded", header("X-Signature", sha512), &pretty, "`mac: hmac-sha512`"),
        ("/quoted", plain(QUOTED.trim_matches('"').as_bytes()), &pretty, "has quotes around it"),
        ("/token", header("X-Token", "another"), &pretty, "most likely it is another secret"),
        ("/token", Headers::new(), &pretty, "The header that carries the signature was not there"),
    ];
    let expected = [STRIPE, TEST_MODE, BARE, GITHUB, SQUARE, DECODED, TOKEN, &QUOTED[1..20]];
    let mut wrong = String::new();
    for (path, headers, body, why) in rows {
        let (code, said) = run(&config, &text(path, &headers, body), &[]);
        assert_eq!(code, Some(1), "{path} {why}: {said}");
        let verdict = said.lines().last().unwrap();
        if !(verdict.starts_with("=> ") && verdict.contains(why)) {
            wrong += &format!("{path} {why}:\n{said}");
        }
        for secret in expected {
            assert!(!said.contains(secret), "{secret} in {said}");
        }
        // What would have been right: a doctor that prints it would sign for anybody.
        for right in
            [mac(STRIPE.as_bytes(), &[body]), tag.clone(), mac(DECODED.as_bytes(), &[body])]
        {
            assert!(!said.contains(&hex::encode(&right)), "{said}");
            assert!(!said.contains(&STANDARD.encode(&right)), "{said}");
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn what_holds_is_said_and_what_is_no_request_is_refused_with_its_line() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let body = stripe_event("evt_1", "invoice.paid");
    let headers = Provider::Stripe(STRIPE).sign("", "", &body);
    let (code, said) = run(&config, &text("/stripe", &headers, &body), &[]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("=> The signature holds."), "{said}");
    // A path and what it asks, or a whole URL; another one in the query is neither.
    for target in ["/stripe?next=https://a.example/b", "https://hooks.example.com/stripe?a=b://c/d"]
    {
        let (code, said) = run(&config, &text(target, &headers, &body), &[]);
        assert_eq!(code, Some(0), "{target}: {said}");
    }
    // As curl shows it, with the newline of a terminal behind the body, at another time.
    let old = Provider::Stripe(STRIPE).sign_at(1_700_000_000, "", "", &body);
    let mut curl = format!(
        "> POST /stripe HTTP/1.1\n> {}: {}\n> Content-Length: {}\n>\n",
        old[0].0,
        old[0].1,
        body.len()
    )
    .into_bytes();
    curl.extend_from_slice(&body);
    curl.push(b'\n');
    let (code, said) = run(&config, &curl, &["--at", "2023-11-14T22:13:50Z", "--json"]);
    assert_eq!(code, Some(0), "{said}");
    let json: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!((json["holds"].as_bool(), json["source"].as_str()), (Some(true), Some("stripe")));

    for (request, more, why) in [
        ("HTTP/1.1 200 OK\n\n", &[][..], "line 1: this is an answer"),
        ("POST /stripe HTTP/1.1\nno header\n\n", &[], "line 2: is no header"),
        ("", &[], "line 1: is no header"),
        ("POST /nowhere HTTP/1.1\na: b\n\n", &[], "which source is it for? Say `--source NAME`"),
        ("a: b\n\n", &["--source", "strip"], "no source \"strip\""),
    ] {
        let (code, said) = run(&config, request.as_bytes(), more);
        assert_ne!(code, Some(0), "{said}");
        assert!(said.contains(why), "{request:?}: {said}");
    }
}

#[tokio::test]
async fn a_request_on_record_is_explained() {
    let app = Upstream::start().await;
    let gateway = Gateway::start(&crate::stripe_to(&app.url())).await;
    let body = stripe_event("evt_1", "invoice.paid");
    let forged = Provider::Stripe(TEST_MODE).sign("", "", &body);
    let refused = gateway.post("/stripe", &forged, &body).await;
    assert_eq!(refused.status, 401);
    let receipt = refused.header("webhook-receipt").to_owned();
    eventually("the refusal is on record", || async {
        gateway.records().iter().any(|record| record["receipt"] == receipt.as_str())
    })
    .await;
    let said = |args: &[&str]| {
        let out = gateway.cli(&[&["verify", &receipt], args].concat());
        (out.status.code(), String::from_utf8(out.stdout).unwrap())
    };
    let (code, text_only) = said(&[]);
    assert_eq!(code, Some(0));
    assert!(
        text_only.contains("signature_wrong")
            && text_only.contains("another secret, or the bytes were changed"),
        "{text_only}"
    );
    let file = gateway.dir().join("request.txt");
    write_private(&file, &String::from_utf8(text("/stripe", &forged, &body)).unwrap());
    let (code, whole) = said(&["--request", file.to_str().unwrap()]);
    assert_eq!(code, Some(1));
    assert!(whole.contains("most likely it is another secret"), "{whole}");
    assert!(!whole.contains("is not the one that came"), "{whole}");
    // Of an event that was believed the record has the digest.
    let accepted =
        gateway.post("/stripe", &Provider::Stripe(STRIPE).sign("", "", &body), &body).await;
    let believed = accepted.header("webhook-receipt");
    write_private(&file, &String::from_utf8(text("/stripe", &forged, b"{}")).unwrap());
    let out = gateway.cli(&["verify", believed, "--request", file.to_str().unwrap()]);
    let other = String::from_utf8(out.stdout).unwrap();
    assert!(other.contains("is not the one that came"), "{other}");
    let nothing = gateway.cli(&["verify", "req_00000000000000000000000000"]);
    assert_eq!(nothing.status.code(), Some(3));
}
