//! What is said about a `verify:` or `event:` block that cannot work: all of it at once, with a place and a way out.

use std::time::Duration;

use gatepost::{
    providers::{self, AnswerShape, Options, Problem},
    verify::Template,
};
use http::HeaderMap;
use serde_json::Map;

use crate::{
    flow::{NOW, SECRET},
    source::{Source, custom, headers, presented, preset, verifier},
};

const GOOD: &str = "verify: { signature: { header: X-Signature }, signed: '{body}' }\n\
                    event: { id: '{json:id}', type: '{json:type}' }";

fn problems(yaml: &str, options: &Options) -> Vec<Problem> {
    let source = Source::parse(yaml);
    providers::compile(&source.verify, &source.event, &source.handshake, options)
        .err()
        .unwrap_or_default()
}

/// The problems of a block, as `path: message (help)`, one a line.
fn said(yaml: &str) -> String {
    let problems = problems(yaml, &Options::default());
    let line = |p: &Problem| {
        let help = p.help.as_ref().map_or(String::new(), |help| format!(" ({help})"));
        format!("{}: {}{help}", p.path, p.message)
    };
    problems.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[test]
fn a_good_block_has_no_problems() {
    assert_eq!(said(GOOD), "");
}

#[test]
fn an_empty_block() {
    insta::assert_snapshot!(said("{}"), @r#"
    verify.signature: missing (say where the signature is: `signature: { header: X-Signature }`)
    verify.signed: missing (say what is signed: `signed: "{body}"`)
    event.id: missing (say where the event's id is, such as `{json:id}`; `{body|sha256_hex}` where there is none)
    event.type: missing (say where the event's type is, such as `{json:type}`; plain text where all are of one type)
    "#);
}

#[test]
fn slips_in_templates() {
    insta::assert_snapshot!(said(
        "verify: { signature: { header: X-Signature }, signed: '{t}.{boddy}' }\n\
         event: { id: ['{json}', '{header:X Y}'], type: '{json:type|lowr}' }"
    ), @r#"
    verify.signed: no value is called `boddy`, at byte 5 of `{t}.{boddy}` (did you mean `body`?)
    event.id[0]: `json` needs a name, at byte 1 of `{json}` (write it like `{json:data.id}`)
    event.id[1]: `X Y` is not a header name, at byte 8 of `{header:X Y}`
    event.type: no transform is called `lowr`, at byte 11 of `{json:type|lowr}` (did you mean `lower`?)
    "#);
}

#[test]
fn names_of_values() {
    insta::assert_snapshot!(said(
        "verify: { signature: { header: X-Signature }, signed: '{body:x}' }\n\
         event: { id: '{header:}', type: t }"
    ), @r#"
    verify.signed: `body` takes no name, at byte 1 of `{body:x}` (write `{body}`)
    event.id: `header:` without a name, at byte 8 of `{header:}` (write it like `{header:X-Event-Id}`)
    "#);
}

#[test]
fn contradictions_in_a_signature() {
    insta::assert_snapshot!(said(
        "verify: { signature: { header: X, from: '{query:s}', split: ', ', pair: '=', prefix: v1 }, signed: '{body}' }\n\
         event: { id: 'always', type: '{t}', items: events }"
    ), @r#"
    verify.signature: `header` and `from` name two places (keep one of them)
    verify.signature.split: is not one ASCII character (write one character; spaces around elements are removed by `trim: true`)
    verify.signature: `pair` and `pick` go together (`pair` separates key and value, `pick` names the key: `pair: "="`, `pick: v1`)
    event.id: would be the same for all events (name a value of the request, such as `{json:id}`)
    event.type: `{t}` does not say where to look (write `{json:t}` or `{header:t}`)
    event.items: names no list (write it like `events[*]`)
    "#);
}

#[test]
fn prefix_and_pair() {
    insta::assert_snapshot!(said(
        "verify: { signature: { header: X, split: ',', pair: '=', pick: v1, prefix: v1 }, signed: '{v1}.{body}' }\n\
         event: { id: '{json:items[*].id}', type: event }"
    ), @r#"
    verify.signature: `prefix` and `pair` do not go together (a key in front of the signature is `pick`, not `prefix`)
    event.id: `[*]` stands for many values where one is needed (name one element, such as `items[0].id`)
    "#);
}

#[test]
fn times() {
    insta::assert_snapshot!(said(
        "verify: { signature: { header: X }, signed: '{body}', timestamp: { from: '{header:X-Time}', past: 5m } }\n\
         event: { id: '{json:id}', type: event }"
    ), @r#"
    verify.timestamp.from: is not signed, so anyone can change it (name a value that `signed` holds, or remove `timestamp`)
    "#);
    insta::assert_snapshot!(said(
        "verify: { signature: { header: X }, signed: '{body}', timestamp: { from: 'at {json:t}', past: 0s } }\n\
         event: { id: '{json:id}', type: event }"
    ), @r#"
    verify.timestamp.past: cannot be zero (write it like `5m` or `30s`)
    verify.timestamp.from: is not one value (write it like `{t}` or `{header:X-Timestamp}`)
    "#);
    insta::assert_snapshot!(said(
        "verify: { signature: { header: X }, signed: '{body}', timestamp: { from: '{json:t}', past: 0ms, future: 0s } }\n\
         event: { id: '{json:id}', type: event }"
    ), @r#"
    verify.timestamp.past: cannot be zero (write it like `5m` or `30s`)
    verify.timestamp.future: cannot be zero (write it like `5m` or `30s`)
    "#);
}

#[test]
fn what_signs_nothing() {
    insta::assert_snapshot!(said(
        "verify: { signature: { header: X, encoding: hex }, signed: '{body}', mac: token }\n\
         event: { id: '{json:id}', type: event }"
    ), @r#"
    verify.signature.encoding: means nothing with `mac: token` (remove it)
    verify.signed: `mac: token` signs nothing (remove the key)
    "#);
}

#[test]
fn alternatives_that_never_count() {
    insta::assert_snapshot!(said(
        "verify:\n  signed: '{body}'\n  schemes:\n    - signature: { header: A }\n    - when: {}\n      signature: { header: B c }\n\
         event: { id: '{json:id}', type: event }"
    ), @r#"
    verify.schemes[0]: always counts, so those after it never do (give it a `when`, or put it last)
    verify.schemes[1].when: says nothing (name a header: `when: { header: X-Signature }`)
    verify.schemes[1].signature.header: `B c` is not a header name
    "#);
}

/// What came with more providers: each mistake names its key and an example.
#[test]
fn mistakes_in_containers_and_alternatives() {
    const EVENT: &str = "event: { id: '{json:id}', type: event }";
    let wrong = [
        "{ signature: { header: X, groups: '  ', positional: [ts], prefix_optional: true, secret_slot: 0 }, signed: [] }",
        "{ signature: [], signed: '{body}' }",
        "{ signature: { header: 'X *', pair: '=', pick: '{param:public_key}', key_id: 'key' }, signed: '{t}', for_each: items }",
        "{ signature: { header: X, pair: '=', pick: '{header:Y}' }, signed: '{body}' }",
        "{ signature: { header: X }, signed: '{secret}{body}' }",
        "{ mac: hash-sha256, signature: { header: X }, signed: '{body}' }",
        "{ signature: { header: X }, signed: '{form}{signed_headers}{json:$key0.id}' }",
        "{ signature: { header: X }, signed: '{body|sorted_concat}' }",
    ];
    let said = wrong.map(|verify| said(&format!("verify: {verify}\n{EVENT}")));
    insta::assert_snapshot!(said.join("\n\n"), @r#"
    verify.signature.groups: is not one ASCII character (write one character; spaces around elements are removed by `trim: true`)
    verify.signature.positional: counts elements without keys (give a `split`, and no `pair`: `split: ","`, `positional: [ts]`)
    verify.signature.prefix_optional: there is no prefix to leave out (say which: `prefix: "sha256="`)
    verify.signature.secret_slot: is counted from 1 (write 1 for the first of `secret`)
    verify.signed: missing (say what is signed: `signed: "{body}"`)

    verify.signature: an empty list (write one mapping, or a list of them)

    verify.signature.header: `X ` is not a header name
    params.public_key: missing (set it at the source: `params: { public_key: … }`)
    verify.signature.key_id: is not one value (write it like `{header:X-Key}`)
    verify.for_each: names no list (write it like `items[*]`)

    verify.signature.pick: is not the name of a key (write it like `v1`, or `{param:public_key}`)

    verify: with `mac: hmac-sha256`, `{secret}` does not stand in what is signed: write `mac: hash-sha256` where it does

    verify: with `mac: hash-sha256`, `{secret}` stands once in what is signed: `signed: "{secret}{body}"`

    verify.signed: `form` needs a name, at byte 1 of `{form}{signed_headers}{json:$key0.id}` (write it like `{form:command}`, or `{form|sorted_concat}` for all of it)

    verify.signed: `sorted_concat` joins all of a form, at byte 6 of `{body|sorted_concat}` (write `{form|sorted_concat}`)
    "#);
    let pinned = Options { pin: Some("new".into()), ..Options::default() };
    let paths = |yaml: &str| {
        let found = problems(yaml, &pinned).into_iter().map(|p| (p.path, p.help));
        found.collect::<Vec<_>>()
    };
    assert_eq!(
        paths(GOOD),
        [("pin".into(), Some("remove the key; there is nothing to choose from".into()))]
    );
    let alternatives =
        "verify: { signed: '{body}', schemes: [{ name: old, signature: { header: X } }] }\n";
    let found = paths(&format!("{alternatives}{EVENT}"));
    assert_eq!(found, [("pin".into(), Some("there are old".into()))]);
}

/// Each under the key that names it, wherever that stands.
#[test]
fn variables_that_stand_for_nothing() {
    const EVENT: &str = "event: { id: '{json:id}', type: event }";
    let paths = |verify: &str| {
        let found = problems(&format!("verify: {verify}\n{EVENT}"), &Options::default());
        assert!(found.iter().all(|p| p.message.starts_with("`{")), "{found:?}");
        found.into_iter().map(|p| p.path).collect::<Vec<_>>()
    };
    assert_eq!(
        paths(
            "{ signature: [{ header: X, key_id: '{k}' }], signed: ['{body}', '{t}.{body}'], timestamp: { from: '{t}', past: 5m }, \
             require: [{ left: '{body}', right: '{body}' }, { left: '{u}', right: '{json:u}' }] }"
        ),
        [
            "verify.signed[1]",
            "verify.require[1]",
            "verify.signature[0].key_id",
            "verify.timestamp.from"
        ]
    );
    assert_eq!(
        paths(
            "{ signed: '{t}', schemes: [{ when: { header: Y }, signature: { header: Y }, signed: '{v}' }, { signature: { header: X, \
             split: ',', pair: '=', pick: t } }] }"
        ),
        ["verify.schemes[0].signed", "verify.signed"]
    );
}

/// Rules that a scheme would not look at are no rules: whoever wrote them relies on them. What stands around alternatives is for
/// those that can use it.
#[test]
fn what_means_nothing_with_an_algorithm() {
    let rules = "jwt: { algs: [ES256], equal: { iss: me } }, prehash: sha256, rfc9421: { algs: [ed25519] }, keys: { jwks_url: 'https://idp.example/k' }";
    let told = |mac: &str, signed: &str| {
        said(&format!(
            "verify: {{ signature: {{ header: X, form: raw }}, {signed}mac: {mac}, {rules} }}\n\
             event: {{ id: '{{json:id}}', type: event }}"
        ))
    };
    let body = "signed: '{body}', ";
    let each = [
        told("hmac-sha256", body),
        told("token", ""),
        told("ed25519", body),
        told("ecdsa-p384-sha384", body),
        told("jwt", ""),
        told("jws-detached", body),
        told("rfc9421", ""),
    ];
    insta::assert_snapshot!(each.join("\n\n"), @r#"
    verify.jwt: means nothing with `mac: hmac-sha256` (remove it, or set `mac`)
    verify.rfc9421: means nothing with `mac: hmac-sha256` (remove it, or set `mac`)
    verify.prehash: means nothing with `mac: hmac-sha256` (remove it, or set `mac`)
    verify.keys: means nothing with `mac: hmac-sha256` (remove it, or set `mac`)
    verify.signature.form: means nothing with `mac: hmac-sha256` (remove it)

    verify.jwt: means nothing with `mac: token` (remove it, or set `mac`)
    verify.rfc9421: means nothing with `mac: token` (remove it, or set `mac`)
    verify.prehash: means nothing with `mac: token` (remove it, or set `mac`)
    verify.keys: means nothing with `mac: token` (remove it, or set `mac`)
    verify.signature.form: means nothing with `mac: token` (remove it)

    verify.jwt: means nothing with `mac: ed25519` (remove it, or set `mac`)
    verify.rfc9421: means nothing with `mac: ed25519` (remove it, or set `mac`)
    verify.signature.form: means nothing with `mac: ed25519` (remove it)

    verify.jwt: means nothing with `mac: ecdsa-p384-sha384` (remove it, or set `mac`)
    verify.rfc9421: means nothing with `mac: ecdsa-p384-sha384` (remove it, or set `mac`)

    verify.rfc9421: means nothing with `mac: jwt` (remove it, or set `mac`)
    verify.prehash: means nothing with `mac: jwt` (remove it, or set `mac`)
    verify.signature.form: means nothing with `mac: jwt` (remove it)

    verify.rfc9421: means nothing with `mac: jws-detached` (remove it, or set `mac`)
    verify.prehash: means nothing with `mac: jws-detached` (remove it, or set `mac`)
    verify.signature.form: means nothing with `mac: jws-detached` (remove it)

    verify.jwt: means nothing with `mac: rfc9421` (remove it, or set `mac`)
    verify.prehash: means nothing with `mac: rfc9421` (remove it, or set `mac`)
    verify.signature.form: means nothing with `mac: rfc9421` (remove it)
    "#);
    let around = |own: &str| {
        said(&format!(
            "verify:\n  signature: {{ header: X }}\n  signed: '{{body}}'\n  {}\n  schemes:\n    \
             - {{ when: {{ header: A }}, mac: jwt }}\n    - {{ when: {{ header: B }}, mac: ecdsa-p256-sha256 }}\n    \
             - {{ when: {{ header: C }}, mac: rfc9421 }}\n    - {{ mac: ed25519{own} }}\n\
             event: {{ id: '{{json:id}}', type: event }}",
            rules
                .replace(", prehash", "\n  prehash")
                .replace(", rfc9421", "\n  rfc9421")
                .replace(", keys", "\n  keys")
        ))
    };
    assert_eq!(around(""), "");
    let own = around(", jwt: { algs: [ES256] }");
    assert_eq!(
        own,
        "verify.schemes[3].jwt: means nothing with `mac: ed25519` (remove it, or set `mac`)"
    );
}

/// It is another alternative, which compares a secret and needs no third.
#[test]
fn what_holds_besides() {
    let said = |besides: &str, other: &str| {
        said(&format!(
            "verify:\n  signature: {{ header: X }}\n  schemes:\n    - {{ name: a, when: {{ header: Y }}, besides: {besides}, signed: '{{body}}' }}\n    \
             - {{ name: b, {other} }}\nevent: {{ id: '{{json:id}}', type: event }}"
        ))
    };
    assert_eq!(said("b", "mac: token"), "");
    insta::assert_snapshot!(
        [
            said("c", "mac: token"),
            said("b", "besides: a, mac: token"),
            said("b", "mac: ed25519, signed: '{body}'")
        ]
        .join("\n\n"),
        @r#"
    verify.schemes[0].besides: no scheme is called `c` (give the other one a `name`)

    verify.schemes[0].besides: `b` cannot hold besides (name one that compares a secret of yours and has no `besides`)
    verify.schemes[1].besides: `a` cannot hold besides (name one that compares a secret of yours and has no `besides`)

    verify.schemes[0].besides: `b` cannot hold besides (name one that compares a secret of yours and has no `besides`)
    "#
    );
}

#[test]
fn handshakes() {
    insta::assert_snapshot!(said(&format!(
        "{GOOD}\nhandshake: [{{ when: {{ json: {{}} }}, verify: true, reply: {{ status: 302, body: '{{json:c' }} }}]"
    )), @r#"
    handshake[0].when: no condition, so every event would be one (write it like `json: { type: url_verification }`)
    handshake[0].reply.status: not a success (use 200)
    handshake[0].reply.body: `{` without its `}`, at byte 0 of `{json:c` (write `{{` for a brace)
    "#);
}

#[test]
fn what_a_handshake_cannot_do() {
    insta::assert_snapshot!(said(&format!(
        "{GOOD}\nhandshake:\n\
         - {{ when: {{ method: GET }}, verify: true, reply: {{ content_type: text/html, body: '{{query:c}}' }} }}\n\
         - {{ when: {{ header: 'A b', json_present: 'a..b' }}, reply: {{ headers: {{ Location: '{{query:c}}' }} }} }}\n\
         - {{ when: {{ query: c }}, check: [{{ left: '{{query:t}}' }}], reply: {{ body: '{{token}}' }} }}\n\
         - {{ when: {{ query: c }}, capture: 'a{{query:t}}', report: '{{query:t}}', reply: {{ compute: {{ r: {{}}, s: {{ hmac_hex: 'a{{query:c}}' }} }} }} }}"
    )), @r#"
    handshake[0].verify: only a POST is verified (write `verify: false`)
    handshake[0].reply.content_type: no challenge is answered with a page (what a stranger says could be shown as a page; use `text/plain`)
    handshake[1].when.header: `A b` is not a header name
    handshake[1].reply.headers.Location: is not for a challenge to set (leave it out)
    handshake[2].check[0]: needs `right` or `one_of` (write it like `{ left: "{query:token}", right: "{param:token}" }`)
    handshake[2].reply.body: `{token}` stands for nothing (compute it under `reply.compute`)
    handshake[3].capture: is not one value (write it like `{json:token}`)
    handshake[3].report: anybody could fill the log with it (write `verify: true`)
    handshake[3].reply.compute.r: needs one function (write it like `{ hmac_hex: "{query:token}" }`)
    handshake[3].reply.compute.s: one value is signed, and nothing around it (then what may be asked for is known: `{ hmac_hex: "{query:token}" }`)
    "#);
}

#[test]
fn answers_that_no_provider_gets() {
    let wrong: AnswerShape =
        serde_yaml::from_str("{ status: 410, content_type: \"a\\nb\" }").unwrap();
    let problems = providers::manners(&wrong, &wrong, &wrong).unwrap_err();
    let said: Vec<_> = problems.iter().map(|p| format!("{}: {}", p.path, p.message)).collect();
    insta::assert_snapshot!(said.join("\n"), @r#"
    ack.status: cannot be 410
    ack.content_type: not a header value
    invalid.status: cannot be 410
    invalid.content_type: not a header value
    drop_forever.status: cannot be 410
    drop_forever.content_type: not a header value
    "#);
    // An error of RFC 8935 says what is wrong with a token, and nothing else.
    let set: AnswerShape = serde_yaml::from_str("{ set_error: true }").unwrap();
    let both: AnswerShape = serde_yaml::from_str("{ set_error: true, body: x }").unwrap();
    let none = AnswerShape::default();
    assert!(providers::manners(&none, &set, &none).is_ok());
    for (ack, invalid, dropped) in
        [(&set, &none, &none), (&none, &both, &none), (&none, &none, &set)]
    {
        assert!(providers::manners(ack, invalid, dropped).is_err(), "{ack:?} {invalid:?}");
    }
    for status in [200, 301, 404, 405, 408, 409, 410, 425, 429, 500, 503] {
        let invalid = AnswerShape { status: Some(status), ..AnswerShape::default() };
        let none = AnswerShape::default();
        assert!(providers::manners(&none, &invalid, &none).is_err(), "{status}");
    }
}

#[test]
fn a_tolerance_without_a_time() {
    let options = Options {
        tolerance: Some(Duration::from_mins(1)),
        captures: vec!["a..b".into()],
        ..Options::default()
    };
    let paths: Vec<_> = problems(GOOD, &options).into_iter().map(|p| p.path).collect();
    assert_eq!(paths, ["tolerance", "captures[0]"]);
}

#[test]
fn a_tolerance_replaces_both_limits() {
    let stripe = providers::preset("stripe").expect("stripe");
    let options = Options { tolerance: Some(Duration::from_secs(7)), ..Options::default() };
    let compiled =
        providers::compile(&stripe.verify, &stripe.event, &[], &options).expect("compiled");
    let verifier = verifier(compiled, &[SECRET]).expect("a good secret");
    let none = HeaderMap::new();
    let signed = verifier.sign(&presented(&none, b"{}", NOW)).expect("signed");
    let headers = signed.into_iter().collect();
    let passes = |offset| verifier.verify(&presented(&headers, b"{}", NOW + offset)).is_ok();
    assert_eq!([-8, -7, 7, 8].map(passes), [false, true, true, false]);
}

/// What an app must not be shown, or must; and where a test event needs a time of its own.
#[test]
fn where_secrets_and_times_are() {
    const AUTHORIZATION: &str = "authorization";
    for (scheme, header, read, shown) in [
        ("signature: { header: X-S }, signed: '{body}'", "x-s", false, false),
        ("signature: { header: Authorization }, signed: '{body}'", AUTHORIZATION, true, false),
        ("signature: { header: Authorization }, mac: token", AUTHORIZATION, true, true),
        ("signature: { header: X-Token }, mac: token", "x-token", false, true),
        ("signature: { header: X-Token }, mac: token", AUTHORIZATION, false, false),
    ] {
        let verifier = verifier(custom(&format!("verify: {{ {scheme} }}")), &[SECRET]).unwrap();
        let found =
            (verifier.reads_authorization(), verifier.is_shown_in(&header.parse().unwrap()));
        assert_eq!(found, (read, shown), "{scheme} {header}");
    }
    // A signed time inside of the body is put there, too; where only headers may change, it is taken as it is.
    let (linear, none) = (preset("linear", SECRET), headers::<&str>(&[]));
    let old = br#"{"webhookTimestamp":1}"#;
    let signed = linear.sign_whole(&presented(&none, old, NOW), &Map::new()).unwrap();
    let body = format!("{{\"webhookTimestamp\":{}}}", NOW * 1000);
    assert_eq!(signed.body.as_deref(), Some(body.as_bytes()));
    assert_eq!(linear.sign(&presented(&none, old, NOW)).unwrap().len(), 1);
}

#[test]
fn templates_say_where_they_are_wrong() {
    for (text, at) in [
        ("", 0),
        ("{body", 0),
        ("a}b", 1),
        ("{}", 1),
        ("x{boddy}", 2),
        ("{Body}", 1),
        ("{json}", 1),
        ("{json:}", 6),
        ("{header:a b}", 8),
        ("{body:x}", 1),
        ("{body|sha265_hex}", 6),
        ("{body|lower|upper}", 12),
        ("{form|sorted_concat|upper}", 20),
        ("{form|sorted_concat|lower|upper}", 26),
        ("{form|lower|sorted_concat}", 1),
        ("{query:}", 7),
        ("{formjson:payload}", 10),
        ("{formjson:/a}", 10),
        ("{formjson:payload/a..b}", 18),
        ("{a b}", 1),
    ] {
        assert_eq!(Template::parse(text).map_err(|e| e.at), Err(at), "{text}");
    }
    for text in ["{body}", "plain", "{{{body}}}", "{t}.{body}", "{formjson:payload/a.b}", "{{}}"] {
        assert!(Template::parse(text).is_ok(), "{text}");
    }
    for variable in ["t", "a_b", "a-b", "v1", "ur", "bids"] {
        assert!(Template::parse(&format!("{{{variable}}}")).is_ok(), "{variable} is no slip");
    }
    let literal = Template::parse("{{a}}").expect("braces");
    assert!(format!("{literal:?}").contains(r#"[Literal("{a}")]"#), "{literal:?}");
}
