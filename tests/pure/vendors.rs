//! What some vendors sign in ways of their own, and what is taken from it: Amazon SNS, Hook0, TrueLayer, and Twilio's URLs.

use aws_lc_rs::hmac;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use gatepost::{
    answer::Reason,
    verify::{Presented, Verifier},
};
use http::HeaderMap;
use rcgen::KeyPair;
use serde_json::{Map, Value as Json, json};

use crate::{
    foreign::{NOW, Own, judge, of, presented, token},
    source::{Source, compile, headers},
};

/// Whether a signature covers the id that is read so.
fn covered(verify: &str, id: &str) -> bool {
    let indented = verify.trim().replace('\n', "\n  ");
    let yaml = format!("verify:\n  {indented}\nevent: {{ id: '{id}', type: t }}");
    let compiled = compile(&Source::parse(&yaml), &[]);
    compiled.unwrap_or_else(|problems| panic!("{id}: {problems:?}")).id_covered
}

const TOKEN: &str = "mac: jwt\nsignature: { header: x-token }\n";

#[test]
fn a_signature_covers_what_its_vendor_signs_and_no_more() {
    let sns = "mac: ed25519\nsignature: { header: x-s, encoding: hex }\nsigned: \"{aws_sns}\"";
    let plain = format!("{TOKEN}jwt: {{ algs: [ES256] }}");
    let body = format!("{TOKEN}jwt: {{ algs: [ES256], body_hash: {{ claim: d }} }}");
    let path = format!("{TOKEN}jwt: {{ algs: [ES256], path_hash: qsh }}");
    let detached =
        "mac: jws-detached\nsignature: { header: x-s }\nsigned: \"{body}\"\njwt: { algs: [ES256] }";
    for (verify, all, none) in [
        // What is signed in messages of one kind only is not signed.
        (
            sns,
            &["{json:Message}", "{json:MessageId}", "{json:TopicArn}", "{json:Type}"][..],
            &[
                "{json:Subject}",
                "{json:Token}",
                "{json:SubscribeURL}",
                "{json:Other}",
                "{json:Message.Id}",
                "{header:x-amz-sns-message-id}",
                "{query:id}",
            ][..],
        ),
        (
            &plain,
            &["{jwt:jti}", "{jws:nonce}"],
            &["{json:id}", "{form:id}", "{query:id}", "{path}", "{header:x-id}"],
        ),
        (
            &body,
            &["{jwt:jti}", "{jws:nonce}", "{json:id}", "{form:id}"],
            &["{query:id}", "{path}", "{header:x-id}"],
        ),
        (
            &path,
            &["{jwt:jti}", "{jws:nonce}", "{query:id}", "{path}"],
            &["{json:id}", "{form:id}", "{header:x-id}"],
        ),
        (detached, &["{jws:nonce}", "{json:id}"], &["{query:id}", "{path}", "{header:x-id}"]),
    ] {
        for (ids, is_covered) in [(all, true), (none, false)] {
            for id in ids {
                assert_eq!(covered(verify, id), is_covered, "{id} by {verify}");
            }
        }
    }
}

const SNS: &str = "mac: ed25519\nsignature: { header: x-s, encoding: hex }\nsigned: \"{aws_sns}\"";

fn message(kind: &str) -> Json {
    json!({
        "Type": kind, "Message": "several\nlines", "MessageId": "m1", "Subject": "of it", "Token": "t1",
        "SubscribeURL": "https://sns.example/?x=1", "Timestamp": "2023-11-14T22:13:20.000Z", "TopicArn": "arn:1",
    })
}

/// Every member that is signed must be there, but for the subject of a notification; and only a message has lines.
#[test]
fn amazon_signs_members_of_a_message() {
    let own = Own::new(SNS);
    let sign = |message: &Json| {
        let none = HeaderMap::new();
        let body = message.to_string();
        let signed =
            own.verifier.sign_with(&own.key, &presented(&none, body.as_bytes()), &Map::new());
        signed.map(|signed| HeaderMap::from_iter(signed.headers))
    };
    let verdict = |headers: &HeaderMap, message: &Json| {
        judge(&own.verifier, headers, message.to_string().as_bytes())
    };
    let notification = ["Type", "Message", "MessageId", "Timestamp", "TopicArn"];
    let confirmation = [&notification[..], &["SubscribeURL", "Token"]].concat();
    for (kind, needed) in [
        ("Notification", &notification[..]),
        ("SubscriptionConfirmation", &confirmation),
        ("UnsubscribeConfirmation", &confirmation),
    ] {
        let good = message(kind);
        let signed = sign(&good).expect("signed");
        assert_eq!(verdict(&signed, &good), Ok(()), "{kind}");
        for name in good.as_object().unwrap().keys() {
            let (mut without, mut other, mut lines) = (good.clone(), good.clone(), good.clone());
            without.as_object_mut().unwrap().remove(name);
            (other[name], lines[name]) = ("other".into(), "x\ny".into());
            let is_signed =
                needed.contains(&&**name) || (name == "Subject" && kind == "Notification");
            if needed.contains(&&**name) {
                assert_eq!(verdict(&signed, &without), Err(Reason::InputMissing), "{kind} {name}");
                assert!(sign(&without).is_err(), "{kind} {name}");
            } else {
                assert_eq!(verdict(&signed, &without).is_ok(), !is_signed, "{kind} {name}");
                assert_eq!(verdict(&sign(&without).unwrap(), &without), Ok(()), "{kind} {name}");
            }
            assert_eq!(verdict(&signed, &other).is_ok(), !is_signed, "{kind} {name}");
            let is_open = name == "Message" || !is_signed;
            assert_eq!(sign(&lines).is_ok(), is_open, "lines in {kind} {name}");
        }
    }
    let signed = sign(&message("Notification")).unwrap();
    assert_eq!(verdict(&signed, &message("Another")), Err(Reason::InputMissing));
}

/// A list of headers, so many of them.
fn names(count: usize, separator: &str) -> String {
    (0..count).map(|n| format!("x-{n}")).collect::<Vec<_>>().join(separator)
}

fn listed(count: usize) -> Vec<(String, String)> {
    (0..count).map(|n| (format!("x-{n}"), n.to_string())).collect()
}

fn lines(lines: &[(&str, &str)]) -> Vec<(String, String)> {
    lines.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn map(lines: &[(String, String)]) -> HeaderMap {
    let lines: Vec<_> = lines.iter().map(|(name, value)| (name.as_str(), value)).collect();
    headers(&lines)
}

/// Values stand before the body with nothing but a dot between: none may hold what could begin a body.
#[test]
fn hook0_signs_the_headers_that_it_lists() {
    let verifier = of(
        "signature: { header: x-s, split: \",\", pair: \"=\", pick: v1 }\nsigned: \"{t}.{hook0:h}.{body}\"\n\
         timestamp: { from: \"{t}\", past: 5m }",
        &["a secret of sixteen bytes"],
    );
    let key = hmac::Key::new(hmac::HMAC_SHA256, b"a secret of sixteen bytes");
    let open = Err(Reason::InputAmbiguous);
    for (list, sent, body, told) in [
        ("x-a x-b", lines(&[("x-a", "1"), ("x-b", "2.3")]), "{}", Ok(())),
        ("x-a", lines(&[("x-a", "{1")]), "[1]", Ok(())),
        ("x-a", lines(&[("x-a", "")]), "{}", Ok(())),
        ("x-a", lines(&[("x-a", "1.{")]), "{}", open),
        ("x-a", lines(&[("x-a", "1.2.[3")]), "{}", open),
        ("x-b x-a", lines(&[("x-a", "1.{"), ("x-b", "1")]), "{}", open),
        ("x-a", lines(&[("x-a", "1")]), "text", open),
        ("x-a", lines(&[("x-a", "1")]), "", open),
        ("x.a", lines(&[("x.a", "1")]), "{}", open),
        ("x-a", lines(&[("x-a", "1"), ("x-a", "1")]), "{}", open),
        ("x-a", lines(&[]), "{}", Err(Reason::InputMissing)),
        (&names(32, " "), listed(32), "{}", Ok(())),
        (&names(33, " "), listed(33), "{}", open),
    ] {
        let value =
            |name: &str| sent.iter().find(|(own, _)| own == name).map_or("", |(_, value)| value);
        let values: String = list.split(' ').map(|name| format!(".{}", value(name))).collect();
        let tag = hmac::sign(&key, format!("{NOW}.{list}{values}.{body}").as_bytes());
        let mut headers = map(&sent);
        let text = format!("t={NOW},h={list},v1={}", hex::encode(tag));
        headers.insert("x-s", text.parse().unwrap());
        assert_eq!(judge(&verifier, &headers, body.as_bytes()), told, "{list:?} {sent:?} {body:?}");
    }
}

#[test]
fn truelayer_signs_the_headers_that_it_lists() {
    let key = KeyPair::generate().unwrap();
    let verifier = of(
        "mac: jws-detached\nsignature: { header: tl-signature }\nsigned: \"{truelayer}\"\njwt: { algs: [ES256] }",
        &[&key.public_key_pem()],
    );
    let (open, missing) = (Err(Reason::InputAmbiguous), Err(Reason::InputMissing));
    let two = || lines(&[("x-a", "1"), ("x-b", "2")]);
    for (version, list, sent, told) in [
        (json!("2"), json!("x-a,x-b"), two(), Ok(())),
        (json!("2"), json!("x-b , x-a,"), two(), Ok(())),
        (json!("2"), json!(""), two(), Ok(())),
        (json!("2"), Json::Null, two(), open),
        (json!("2"), json!(["x-a"]), two(), open),
        (json!("2"), json!("x-c"), two(), missing),
        (json!("2"), json!("x-a"), lines(&[("x-a", "1"), ("x-a", "1")]), open),
        (json!("2"), json!(names(32, ",")), listed(32), Ok(())),
        (json!("2"), json!(names(33, ",")), listed(33), open),
        (json!("1"), json!(""), two(), missing),
        (json!(2), json!(""), two(), open),
    ] {
        let value =
            |name: &str| sent.iter().find(|(own, _)| own == name).map_or("", |(_, value)| value);
        let names = list.as_str().unwrap_or_default().split(',').map(str::trim);
        let signed = names.filter(|name| !name.is_empty());
        let signed: String = signed.map(|name| format!("{name}: {}\n", value(name))).collect();
        let payload = format!("POST /hooks/x\n{signed}{{}}");
        let header = json!({ "alg": "ES256", "tl_version": version, "tl_headers": list });
        let token = token(&key, &header, payload.as_bytes());
        let parts: Vec<_> = token.split('.').collect();
        let mut headers = map(&sent);
        headers.insert("tl-signature", format!("{}..{}", parts[0], parts[2]).parse().unwrap());
        assert_eq!(judge(&verifier, &headers, b"{}"), told, "{header}");
    }
}

/// What a test key signs says which version it is of, and nothing of the kind where another vendor's is signed.
#[test]
fn a_test_event_of_truelayer_is_believed() {
    for (signed, said) in [("{truelayer}", json!("2")), ("{body}", Json::Null)] {
        let own = Own::new(&format!(
            "mac: jws-detached\nsignature: {{ header: x-s }}\nsigned: {signed:?}\njwt: {{ algs: [ES256] }}"
        ));
        let headers = HeaderMap::from_iter(own.sign(b"{}", &Map::new()).headers);
        assert_eq!(judge(&own.verifier, &headers, b"{}"), Ok(()), "{signed}");
        let header = headers["x-s"].to_str().unwrap().split('.').next().unwrap();
        let header: Json =
            serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header).unwrap()).unwrap();
        assert_eq!(header["tl_version"], said, "{signed}");
    }
}

/// What Twilio signs is a URL, in one of the forms that its servers make of it.
#[test]
fn twilio_signs_its_url_in_one_of_several_forms() {
    let of_url = |rest: &str| {
        of(
            &format!("signature: {{ header: x-s }}\nsigned: \"{{url}}\"{rest}"),
            &["a secret of sixteen bytes"],
        )
    };
    let plain = of_url("");
    let at = |verifier: &Verifier, headers: &HeaderMap, url: &str| {
        verifier.verify(&Presented { url, ..presented(headers, b"") }).map(drop)
    };
    for (variant, url, signed) in [
        ("as_is", "https://h.example:8443/x?a='", "https://h.example:8443/x?a='"),
        ("strip_port", "https://h.example:8443/x?a='b", "https://h.example/x?a=%27b"),
        ("strip_port", "https://u:p@h.example/x", "https://u:p@h.example/x"),
        ("add_port", "https://h.example/x?a", "https://h.example:443/x?a"),
        ("add_port", "http://h.example?a", "http://h.example:80?a"),
        ("add_port", "http://h.example:8080", "http://h.example:8080"),
        ("legacy_strip_port", "https://h.example:8443/x", "https://h.example/x"),
        ("legacy_strip_port", "https://h.example:8443/x?", "https://h.example/x?"),
        ("legacy_strip_port", "https://h.example/x?a=1&b=2&a=3", "https://h.example/x?a=1&a=3&b=2"),
        (
            "legacy_strip_port",
            "https://h.example/x?c&a=b+c%2f'",
            "https://h.example/x?c=&a=b%20c%2F'",
        ),
        ("legacy_add_port", "https://h.example/x?b=2&a=1", "https://h.example:443/x?b=2&a=1"),
        ("legacy_add_port", "http://h.example:81/x?a=%7e", "http://h.example:81/x?a=~"),
    ] {
        let verifier = of_url(&format!("\nurl_variants: [{variant}]"));
        let none = HeaderMap::new();
        for (text, told) in
            [(signed, Ok(())), ("https://h.example/other", Err(Reason::SignatureWrong))]
        {
            let headers = plain.sign(&Presented { url: text, ..presented(&none, b"") });
            let headers = HeaderMap::from_iter(headers.expect("signed"));
            assert_eq!(at(&verifier, &headers, url), told, "{variant} of {url}");
        }
    }
}
