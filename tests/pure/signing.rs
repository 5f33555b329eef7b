//! Which of a source's schemes signs, with what beside the signature, and what cannot be signed at all.

use gatepost::{
    event::Timestamp,
    providers::Compiled,
    secret::Secret,
    verify::{LiveSecret, Presented, Verifier},
};
use http::HeaderMap;
use serde_json::Map;

use crate::{
    examples::mac,
    source::{URL, compiled, custom, headers, presented, preset, verifier, verify},
};

const NOW: i64 = 1_700_000_000;
const SECRET: &str = "a secret of sixteen bytes";
const JSON: (&str, &str) = ("content-type", "application/json");
const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");

/// Two schemes, of which a header says which one counts.
const TWO: &str = "{ signed: '{body}', schemes: [\
    { when: { header: X-New }, signature: { header: X-A } }, \
    { signature: { header: X-B, prefix: 'v1=' } }] }";

fn scheme(verify: &str) -> Compiled {
    custom(&format!("verify: {verify}"))
}

fn of(verify: &str) -> Verifier {
    verifier(scheme(verify), &[SECRET]).expect("a verifier")
}

/// Names of the headers that are added, or why nothing can be signed.
fn added(
    signed: Result<Vec<(http::HeaderName, http::HeaderValue)>, String>,
) -> Result<String, String> {
    signed.map(|added| {
        let names: Vec<_> = added.iter().map(|(name, _)| name.as_str()).collect();
        names.join(" ")
    })
}

#[test]
fn the_scheme_that_counts_is_the_one_that_signs() {
    let both = of(TWO);
    let only_new = of(
        "{ signed: '{body}', schemes: [{ when: { header: X-New }, signature: { header: X-A } }] }",
    );
    let others = || Err("it would be taken for one of another scheme".to_owned());
    let no_scheme = || Err("it is of no known scheme".to_owned());
    for (verifier, lines, fresh, again) in [
        (&both, &[("x-new", "1")][..], Ok("x-a"), Ok("x-a")),
        (&both, &[], Ok("x-b"), Ok("x-b")),
        (&only_new, &[("x-new", "1")], Ok("x-a"), Ok("x-a")),
        (&only_new, &[], others(), no_scheme()),
    ] {
        let lines = headers(lines);
        let request = presented(&lines, b"{}", NOW);
        let owned = |found: Result<&str, String>| found.map(str::to_owned);
        assert_eq!(added(verifier.sign(&request)), owned(fresh), "{lines:?}");
        assert_eq!(added(verifier.sign_again(&request)), owned(again.clone()), "{lines:?}");
        if again.is_ok() {
            let mut all = lines.clone();
            all.extend(verifier.sign_again(&request).expect("signed"));
            assert!(verifier.verify(&presented(&all, b"{}", NOW)).is_ok(), "{all:?}");
        }
    }
    // With a secret that is no longer good nothing is signed.
    let past = Some(Timestamp::from_millis(NOW * 1000));
    let old = LiveSecret { secret: Secret::new(SECRET), expires: past, id: None };
    let expired = Verifier::new(scheme(TWO).schemes, vec![old], URL).expect("a verifier");
    let none = HeaderMap::new();
    let request = presented(&none, b"{}", NOW);
    let problem = "every configured secret has expired".to_owned();
    assert_eq!(added(expired.sign(&request)), Err(problem));
    let problem = "there is no secret for the scheme it came with".to_owned();
    assert_eq!(added(expired.sign_again(&request)), Err(problem));
}

/// What is passed on keeps its body: what is in there cannot be signed anew.
/// Before an event is signed anew for an app, what its provider signed is taken out of it.
#[test]
fn the_headers_with_signatures_are_known_whichever_scheme_counts() {
    let held = "{ signed: '{body}', schemes: [\
        { when: { header: X-New }, besides: word, signature: [{ header: X-A }, { header: X-C }] }, \
        { when: { header: X-Old }, signature: { from: '{json:tag}' } }, \
        { name: word, mac: token, signature: { header: X-B } }] }";
    for (verify, names) in [(TWO, &["x-a", "x-b"][..]), (held, &["x-a", "x-c", "x-b", "x-b"])] {
        let verifier = of(verify);
        let known: Vec<_> = verifier.signature_headers().map(|name| name.as_str()).collect();
        assert_eq!(known, names, "{verify}");
    }
}

#[test]
fn what_came_is_signed_again_in_headers_alone() {
    let (elsewhere, inside) = (
        Err("its signature is not in a header"),
        Err("the signed time is in the body, which is never changed"),
    );
    let signed = |signature: &str, signed: &str| {
        format!("{{ signature: {{ {signature} }}, signed: '{signed}' }}")
    };
    let timed = |from: &str| {
        format!(
            "{{ signature: {{ header: X-S }}, signed: '{{body}}{from}', timestamp: {{ from: '{from}', past: 5m }} }}"
        )
    };
    for (verify, expected) in [
        (signed("header: X-S", "{body}"), Ok(())),
        (signed("from: '{json:sig}'", "{json:id}"), elsewhere),
        (signed("from: '{query:sig}'", "{body}"), elsewhere),
        (timed("{header:X-T}"), Ok(())),
        (timed("{json:t}"), inside),
        (timed("{form:t}"), inside),
        (timed("{formjson:p/t}"), inside),
        (TWO.to_owned(), Ok(())),
        (
            "{ schemes: [{ name: a, when: { header: X-New }, besides: b, signed: '{body}', signature: { header: X-A } }, \
             { name: b, mac: token, signature: { header: X-B } }] }"
                .to_owned(),
            Err("two schemes must hold at once, and only one signature is made"),
        ),
        (
            "{ signed: '{json:id}', schemes: [{ when: { header: X-New }, signature: { header: X-A } }, \
             { signature: { from: '{json:sig}' } }] }"
                .to_owned(),
            elsewhere,
        ),
    ] {
        assert_eq!(of(&verify).can_sign_again(), expected, "{verify}");
    }
}

#[test]
fn what_a_test_event_must_bring_along_is_known() {
    let missing = |verifier: &Verifier, lines: &[(&str, &str)]| {
        let names = verifier.signed_besides(&headers(lines));
        names.iter().map(|name| name.as_str().to_owned()).collect::<Vec<_>>()
    };
    let standard =
        preset("standard-webhooks", "whsec_dGVzdHRlc3R0ZXN0dGVzdHRlc3R0ZXN0dGVzdHRlc3Q=");
    assert_eq!(missing(&standard, &[]), ["webhook-id"], "the time is added by who signs");
    assert!(missing(&standard, &[("webhook-id", "msg_1")]).is_empty());
    let nonce = of("{ signature: { header: X-S }, signed: '{header:X-N}{body}{header:X-M}' }");
    assert_eq!(missing(&nonce, &[("x-m", "1")]), ["x-n"]);
    assert!(missing(&preset("stripe", SECRET), &[]).is_empty());
    assert!(missing(&of(TWO), &[]).is_empty());
}

#[test]
fn the_name_of_the_secret_is_said() {
    let named =
        scheme("{ signature: { header: X-S, key_id: '{header:X-Key}' }, signed: '{body}' }");
    let live = LiveSecret { secret: Secret::new(SECRET), expires: None, id: Some("17".into()) };
    let named = Verifier::new(named.schemes, vec![live], URL).expect("a verifier");
    let none = HeaderMap::new();
    let signed = HeaderMap::from_iter(named.sign(&presented(&none, b"{}", NOW)).expect("signed"));
    assert_eq!(signed["x-key"], "17");
    assert!(named.verify(&presented(&signed, b"{}", NOW)).is_ok());
    assert!(named.names_secrets() && !of(TWO).names_secrets());
    // A public key brings its name along.
    let foreign =
        "{ mac: ed25519, signature: { header: X-S, key_id: '{header:X-Key}' }, signed: '{body}' }";
    let foreign = verifier(scheme(foreign), &[crate::foreign::PUBLIC[0]]).expect("a key");
    assert!(!foreign.names_secrets());
}

/// Where the signature itself says which scheme counts, it is there when that is asked.
#[test]
fn a_signature_may_be_what_its_scheme_is_known_by() {
    let verifier = of("{ signed: '{body}', schemes: [\
        { when: { query: sum }, signature: { from: '{query:sum}' } }, \
        { signature: { header: X-B } }] }");
    let none = HeaderMap::new();
    let request = presented(&none, b"{}", NOW);
    let signed = verifier.sign_whole(&request, &Map::new()).expect("signed");
    let query = signed.query.expect("the first scheme signs");
    assert_eq!(query, format!("sum={}", mac(SECRET, b"{}")));
    let target = format!("/hooks/x?{query}");
    assert!(verifier.verify(&Presented { target: &target, ..request }).is_ok());
}

#[test]
fn the_first_form_of_the_url_is_signed() {
    for (variants, text) in [
        ("[add_port]", "https://gateway.example:443/hooks/x"),
        ("[add_port, as_is]", "https://gateway.example:443/hooks/x"),
        ("[as_is, add_port]", URL),
    ] {
        let verifier = of(&format!(
            "{{ signature: {{ header: X-S }}, signed: '{{url}}', url_variants: {variants} }}"
        ));
        let none = HeaderMap::new();
        let signed = verifier.sign(&presented(&none, b"", NOW)).expect("signed");
        assert_eq!(signed[0].1, mac(SECRET, text.as_bytes()), "{variants}");
        let signed = HeaderMap::from_iter(signed);
        assert!(verifier.verify(&presented(&signed, b"", NOW)).is_ok(), "{variants}");
    }
}

/// A source needs its public URL where the URL is signed, and nowhere else.
#[test]
fn the_public_url_is_needed_where_it_is_signed() {
    for (verify, needed) in [
        ("{ signature: { header: X-S }, signed: '{body}' }", false),
        ("{ signature: { header: X-S }, signed: '{path}{body}' }", false),
        ("{ signature: { header: X-S }, signed: '{url}{body}' }", true),
        (
            "{ signature: { header: X-S }, signed: '{body}', require: [{ left: '{header:X-U}', right: '{url}' }] }",
            true,
        ),
        ("{ mac: rfc9421, rfc9421: { algs: [hmac-sha256] } }", true),
        (TWO, false),
    ] {
        let compiled = scheme(verify);
        assert_eq!(compiled.needs_public_url, needed, "{verify}");
        let live = LiveSecret { secret: Secret::new(SECRET), expires: None, id: None };
        let found = Verifier::new(compiled.schemes, vec![live], "").map(drop);
        let problem = "the provider signs the public URL, and none is configured".to_owned();
        assert_eq!(found, if needed { Err(problem) } else { Ok(()) }, "{verify}");
    }
}

/// What has no place where the scheme reads it is said, not sent.
#[test]
fn what_has_no_place_is_not_signed() {
    const NO_PLACE: &str = "something that is signed has no place in this body";
    let from =
        |place: &str| format!("{{ signature: {{ from: '{place}' }}, signed: '{{method}}' }}");
    for (place, lines, body, expected) in [
        ("{json:sig}", JSON, "{}", Ok(r#"{"sig":"#)),
        ("{json:sig}", FORM, "a=1", Err(NO_PLACE)),
        ("{form:sig}", FORM, "a=1", Ok("a=1&sig=")),
        ("{form:sig}", JSON, "{}", Err(NO_PLACE)),
        ("{formjson:p/sig}", FORM, "a=1", Ok("a=1&p=%7B%22sig%22%3A")),
        ("{formjson:p/sig}", JSON, "{}", Err(NO_PLACE)),
    ] {
        let (verifier, headers) = (of(&from(place)), headers(&[lines]));
        let signed = verifier.sign_whole(&presented(&headers, body.as_bytes(), NOW), &Map::new());
        let body = signed.map(|signed| String::from_utf8(signed.body.expect("a body")).unwrap());
        match (&body, expected) {
            (Ok(body), Ok(begin)) => assert!(body.starts_with(begin), "{body}"),
            (found, expected) => {
                assert_eq!(found.as_deref().map_err(|why| &**why), expected, "{place}");
            }
        }
    }
    // A time under a name that no element has.
    let unnamed =
        of("{ signature: { header: X-S, split: ',', positional: [a] }, signed: '{b}{body}' }");
    let none = HeaderMap::new();
    let problem = "something besides the time stands before the signature";
    assert_eq!(unnamed.sign(&presented(&none, b"{}", NOW)), Err(problem.to_owned()));
}

/// Where a request shows its time, whether it is good or not: what a person is told who asks why it was refused.
#[test]
fn a_shown_time_is_found() {
    let stripe = compiled("stripe");
    let time = |lines: &[(&str, &str)]| {
        let lines = headers(lines);
        let shown = stripe.schemes[0].shown_time(&presented(&lines, b"{}", NOW));
        shown.map(|(at, is_near)| (at.as_secs(), is_near))
    };
    let zeros = "0".repeat(64);
    assert_eq!(time(&[("stripe-signature", &format!("t=1,v1={zeros}"))]), Some((1, false)));
    let now = format!("t={NOW},v1={zeros}");
    assert_eq!(time(&[("stripe-signature", &now)]), Some((NOW, true)));
    assert_eq!(time(&[("stripe-signature", &format!("t=x,v1={zeros}"))]), None);
    assert_eq!(time(&[("stripe-signature", &format!("v1={zeros}"))]), None);
    assert_eq!(time(&[]), None);
    let github = compiled("github");
    let lines = headers(&[("x-hub-signature-256", format!("sha256={zeros}"))]);
    assert_eq!(github.schemes[0].shown_time(&presented(&lines, b"{}", NOW)), None);
    let verdict =
        verify(&preset("stripe", SECRET), &[("stripe-signature", "t=1,v1=0")], b"{}", NOW);
    assert!(verdict.is_err(), "to be shown is not to be believed");
}
