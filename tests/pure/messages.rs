//! HTTP Message Signatures, put together here from what RFC 9421 and RFC 9651 say: which are believed, which are not, and why.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use gatepost::{
    answer::Reason::{
        self, AlgorithmRefused, InputMissing, RequirementFailed, SignatureMalformed,
        SignatureMissing, SignatureWrong, SignaturesTooMany, TimestampFuture, TimestampMalformed,
        TimestampMissing, TimestampPast,
    },
    event::Timestamp,
    verify::{Presented, digest_holds},
};
use http::HeaderMap;
use sha2::{Digest as _, Sha256, Sha512};

use crate::{
    examples::mac,
    foreign::{NOW, of, presented},
    source::{Source, compile, headers},
};

const SECRET: &str = "a secret that both sides have";
const BODY: &[u8] = b"{}";

/// Components with their values, as they stand in what is signed.
type Lines<'l> = &'l [(&'l str, &'l str)];

fn list(lines: Lines<'_>, parameters: &str) -> String {
    let names: Vec<_> = lines.iter().map(|(name, _)| *name).collect();
    format!("({}){parameters}", names.join(" "))
}

fn base(lines: Lines<'_>, said: &str) -> String {
    let lines: String = lines.iter().map(|(name, value)| format!("{name}: {value}\n")).collect();
    format!("{lines}\"@signature-params\": {said}")
}

/// A signature over `base` in a dictionary.
fn signature(base: &str) -> String {
    format!(":{}:", STANDARD.encode(hex::decode(mac(SECRET, base.as_bytes())).unwrap()))
}

/// Headers with one signature, over `base`, that says of itself what `said` says.
fn message(said: &str, base: &str) -> HeaderMap {
    let signature = format!("sig1={}", signature(base));
    headers(&[("signature-input", format!("sig1={said}")), ("signature", signature)])
}

/// What a source with these rules says to a request; where it believes it, when it was made.
fn asked(rules: &str, request: &Presented<'_>) -> Result<Option<i64>, Reason> {
    let rules = format!("mac: rfc9421\nrfc9421: {{ algs: [hmac-sha256], {rules} }}");
    let proof = of(&rules, &[SECRET]).verify(request)?;
    Ok(proof.signed_at.map(Timestamp::as_secs))
}

fn verdict(rules: &str, headers: &HeaderMap) -> Result<(), Reason> {
    asked(rules, &presented(headers, BODY)).map(drop)
}

/// The same for a signature that covers the method alone, with these parameters.
fn with(rules: &str, parameters: &str) -> Result<(), Reason> {
    let lines: Lines<'_> = &[("\"@method\"", "POST")];
    let said = list(lines, parameters);
    verdict(rules, &message(&said, &base(lines, &said)))
}

#[test]
fn times_hold_up_to_their_edges() {
    const AGED: &str = "require: [], max_age: 5m, skew: 30s";
    const AGELESS: &str = "require: [], skew: 30s";
    let made = format!(";created={NOW}");
    let ends = format!("{made};expires={}", NOW + 10);
    let ahead = format!(";created={}", NOW + 30);
    for (rules, parameters, later_ms, expected) in [
        (AGED, &*made, 0, Ok(Some(NOW))),
        (AGED, &made, 300_000, Ok(Some(NOW))),
        (AGED, &made, 300_001, Err(TimestampPast)),
        (AGELESS, &made, 300_001, Ok(Some(NOW))),
        (AGELESS, &ahead, 0, Ok(Some(NOW + 30))),
        (AGELESS, &ahead, -1, Err(TimestampFuture)),
        (AGELESS, &ends, 10_000, Ok(Some(NOW))),
        (AGELESS, &ends, 10_001, Err(TimestampPast)),
        (AGELESS, "", 0, Ok(None)),
        (AGED, "", 0, Err(TimestampMissing)),
        (AGELESS, ";created=-1", 0, Err(TimestampMalformed)),
        (AGELESS, ";created=\"1700000000\"", 0, Err(TimestampMalformed)),
        (AGELESS, ";expires=:AAAA:", 0, Err(TimestampMalformed)),
    ] {
        let said = list(&[], parameters);
        let headers = message(&said, &base(&[], &said));
        let received_at = Timestamp::from_millis(NOW * 1000 + later_ms);
        let request = Presented { received_at, ..presented(&headers, BODY) };
        assert_eq!(asked(rules, &request), expected, "{rules}: {parameters} after {later_ms} ms");
    }
}

#[test]
fn what_a_signature_is_for_and_made_with() {
    const TAGGED: &str = r#"require: [], tag: 'a"b\c'"#;
    for (rules, parameters, expected) in [
        (TAGGED, r#";tag="a\"b\\c""#, Ok(())),
        (TAGGED, r#";tag="a""#, Err(RequirementFailed)),
        (TAGGED, r#";tag="""#, Err(RequirementFailed)),
        (TAGGED, "", Err(RequirementFailed)),
        (TAGGED, ";tag=:AAAA:", Err(SignatureMalformed)),
        ("require: []", r#";tag="whatever""#, Ok(())),
        ("require: []", r#";alg="hmac-sha256""#, Ok(())),
        ("require: []", r#";alg="ed25519""#, Err(AlgorithmRefused)),
        ("require: []", r#";alg="none""#, Err(AlgorithmRefused)),
        ("require: []", ";alg=1", Err(SignatureMalformed)),
        ("require: []", ";keyid=1", Err(SignatureMalformed)),
    ] {
        assert_eq!(with(rules, parameters), expected, "{rules}: {parameters}");
    }
    // What we sign says the same of itself.
    let signer =
        of(&format!("mac: rfc9421\nrfc9421: {{ algs: [hmac-sha256], {TAGGED} }}"), &[SECRET]);
    let none = HeaderMap::new();
    let signed = HeaderMap::from_iter(signer.sign(&presented(&none, BODY)).expect("signed"));
    assert_eq!(verdict(TAGGED, &signed), Ok(()));
    assert_eq!(verdict("require: [], tag: other", &signed), Err(RequirementFailed));
}

#[test]
fn all_that_must_be_covered_is() {
    let method = ("\"@method\"", "POST");
    let (path, scheme) = (("\"@path\"", "/hooks/x"), ("\"@scheme\"", "https"));
    const BOTH: &str = "require: [\"@method\", \"@path\"]";
    for (rules, lines, expected) in [
        (BOTH, &[method, path][..], Ok(())),
        (BOTH, &[path, scheme, method], Ok(())),
        (BOTH, &[method], Err(RequirementFailed)),
        (BOTH, &[path, scheme], Err(RequirementFailed)),
        (BOTH, &[], Err(RequirementFailed)),
        ("require: []", &[scheme], Ok(())),
        // Method, authority, path and digest, where nothing is said.
        ("", &[method, path], Err(RequirementFailed)),
    ] {
        let said = list(lines, "");
        assert_eq!(
            verdict(rules, &message(&said, &base(lines, &said))),
            expected,
            "{rules} {said}"
        );
    }
}

/// Whether `name` is believed to be `value` in a request to `url`; signed is that it is.
fn component(url: &str, name: &str, value: &str) -> Result<(), Reason> {
    let said = list(&[(name, value)], "");
    let mut all = message(&said, &base(&[(name, value)], &said));
    for line in [" one ", "two"] {
        all.append("x-lines", line.parse().unwrap());
    }
    asked("require: []", &Presented { url, ..presented(&all, BODY) }).map(drop)
}

#[test]
fn components_are_what_the_standard_says() {
    const URL: &str = "https://Gateway.Example:443/hooks/x?a=b+c&d=%C3%A9&e=&e=2&%66=";
    const BARE: &str = "http://gateway.example:80";
    for (url, name, value) in [
        (URL, "\"@method\"", "POST"),
        (URL, "\"@target-uri\"", URL),
        (URL, "\"@scheme\"", "https"),
        (URL, "\"@authority\"", "gateway.example"),
        (URL, "\"@path\"", "/hooks/x"),
        (URL, "\"@query\"", "?a=b+c&d=%C3%A9&e=&e=2&%66="),
        (URL, "\"@request-target\"", "/hooks/x?a=b+c&d=%C3%A9&e=&e=2&%66="),
        (URL, "\"@query-param\";name=\"a\"", "b%20c"),
        (URL, "\"@query-param\";name=\"d\"", "%C3%A9"),
        (URL, "\"@query-param\";name=\"f\"", ""),
        (URL, "\"x-lines\"", "one, two"),
        (BARE, "\"@scheme\"", "http"),
        (BARE, "\"@authority\"", "gateway.example"),
        (BARE, "\"@path\"", "/"),
        (BARE, "\"@query\"", "?"),
        (BARE, "\"@request-target\"", "/"),
        ("https://gateway.example:80/", "\"@authority\"", "gateway.example:80"),
        ("https://gateway.example?a=1", "\"@path\"", "/"),
    ] {
        assert_eq!(component(url, name, value), Ok(()), "{url} {name}");
        let other = format!("{value}x");
        assert_eq!(component(url, name, &other), Err(SignatureWrong), "{url} {name}");
    }
    for (name, reason) in [
        ("\"@status\"", InputMissing),
        ("\"@nothing\"", InputMissing),
        ("\"x-not-there\"", InputMissing),
        ("\"X-Lines\"", SignatureMalformed),
        ("\"@Method\"", SignatureMalformed),
        ("\"@query-param\"", SignatureMalformed),
        ("\"@query-param\";name=1", SignatureMalformed),
        ("\"@query-param\";name=\"a\";x=\"b\"", SignatureMalformed),
        ("\"@query-param\";nam=\"a\"", InputMissing),
        ("\"@query-param\";name=\"b\"", InputMissing),
        ("\"@query-param\";name=\"e\"", InputMissing),
        ("\"x-lines\";sf", SignatureMalformed),
        ("\"x-lines\";key=\"a\"", SignatureMalformed),
        ("\"@method\";req", SignatureMalformed),
        ("\"@method\" \"@method\"", SignatureMalformed),
    ] {
        assert_eq!(component(URL, name, ""), Err(reason), "{name}");
    }
}

/// How a list may be written, and what is signed of it: `$` stands for what covers the method.
#[test]
fn lists_have_one_spelling() {
    let many = |what: &str, count: usize| -> String {
        (0..count).map(|n| what.replace('N', &n.to_string())).collect()
    };
    let same = |parameters: &str| (format!("$){parameters}"), format!("$){parameters}"));
    for (said, signed) in [
        same(""),
        same(r#";nonce="a\"b\\c ~";created=1"#),
        same(";flag;other"),
        same(";bytes=:AQI=:;none=::"),
        same(";n=-5;zero=0;long=999999999999999"),
        same(r#";*k="x";k_-.*9=1"#),
        same(&many(";pN=N", 32)),
        ("$ );  created=1".into(), "$);created=1".into()),
        ("$ )  ".into(), "$)".into()),
    ] {
        let [said, signed] = [said, signed].map(|text| text.replace('$', "(\"@method\""));
        let base = base(&[("\"@method\"", "POST")], &signed);
        assert_eq!(verdict("require: []", &message(&said, &base)), Ok(()), "{said}");
    }
    for said in [
        "$);a=?1",
        "$);a=?0",
        "$);a=token",
        "$);a=*",
        "$);a=1.5",
        "$);a=01",
        "$);a=-0",
        "$);a=--1",
        "$);a=1-",
        "$);a=",
        "$);",
        "$);1a=1",
        "$);A=1",
        "$);a=\"x",
        "$);a=\"\\x\"",
        "$);a=\"\\",
        "$);a=\"\t\"",
        "$);a=:AQI:",
        "$);a=:AQI=",
        "$);a=:AQJ=:",
        "$);a=1;a=1",
        "$);a=1 ;b=1",
        "$);a=12345678901234567",
        "$)x",
        "$\"@path\")",
        "$ @path)",
        "$ :AQI=:)",
        "$",
        "$),",
        "$),,sig2=()",
        "$) sig2=()",
        "\"@method\"",
        "@method",
        "()()",
        "1",
        "",
        &format!("$){}", many(";pN=N", 33)),
    ] {
        let said = said.replace('$', "(\"@method\"");
        let base = base(&[("\"@method\"", "POST")], &said);
        let found = verdict("require: []", &message(&said, &base));
        assert_eq!(found, Err(SignatureMalformed), "{said}");
    }
    for (count, expected) in [(32, Ok(())), (33, Err(SignatureMalformed))] {
        let names: Vec<_> = (0..count).map(|n| format!("\"x-{n}\"")).collect();
        let lines: Vec<_> = names.iter().map(|name| (&**name, "y")).collect();
        let said = list(&lines, "");
        let mut all = message(&said, &base(&lines, &said));
        for n in 0..count {
            let name = http::HeaderName::try_from(format!("x-{n}")).unwrap();
            all.append(name, "y".parse().unwrap());
        }
        assert_eq!(verdict("require: []", &all), expected, "{count} components");
    }
}

#[test]
fn one_good_signature_among_several_is_enough() {
    let lines: Lines<'_> = &[("\"@method\"", "POST")];
    let good = list(lines, "");
    let good = [good.clone(), signature(&base(lines, &good))];
    let bad = [good[0].clone(), ":AAAA:".to_owned()];
    // Of another message, which is not read; and a list that is none.
    let [foreign, broken] =
        ["(\"@method\";req)", "(\"@method\" x)"].map(|said| [said.to_owned(), good[1].clone()]);
    for (signatures, expected) in [
        (vec![&good], Ok(())),
        (vec![&bad, &good], Ok(())),
        (vec![&good, &bad], Ok(())),
        (vec![&foreign, &good], Ok(())),
        (vec![&bad, &bad, &bad, &good], Ok(())),
        (vec![&bad, &bad, &bad, &bad, &good], Err(SignaturesTooMany)),
        (vec![&bad, &foreign], Err(SignatureWrong)),
        (vec![&foreign, &bad], Err(SignatureMalformed)),
        (vec![&broken, &good], Err(SignatureMalformed)),
        (vec![], Err(SignatureMissing)),
    ] {
        let mut all = HeaderMap::new();
        for (n, [said, signature]) in signatures.iter().enumerate() {
            all.append("signature-input", format!("s{n}={said}").parse().unwrap());
            all.append("signature", format!("s{n}={signature}").parse().unwrap());
        }
        assert_eq!(verdict("require: []", &all), expected, "{signatures:?}");
    }
    let [said, signature] = &good;
    for (input, signature) in [
        (format!("a={said}"), format!("b={signature}")),
        (format!("a={said}"), format!("a={said}")),
        (format!("a={signature}"), format!("a={signature}")),
        (format!("a={said}"), "a".to_owned()),
        ("a".to_owned(), format!("a={signature}")),
    ] {
        let all = headers(&[("signature-input", &input), ("signature", &signature)]);
        let found = verdict("require: []", &all);
        assert_eq!(found, Err(SignatureMalformed), "{input} {signature}");
    }
}

#[test]
fn a_digest_is_the_bodys_by_every_name_that_is_known() {
    let [good, other] = [BODY, b"{ }"].map(|body| {
        let digests = [Sha256::digest(body).to_vec(), Sha512::digest(body).to_vec()];
        digests.map(|digest| format!(":{}:", STANDARD.encode(digest)))
    });
    let ([short, long], [wrong, _]) = (&good, &other);
    let others = |count| (0..count).map(|n| format!("x{n}=:AA==:, ")).collect::<String>();
    for (said, holds) in [
        (format!("sha-256={short}"), true),
        (format!("sha-512={long}"), true),
        (format!("sha-256={short},sha-512={long}"), true),
        (format!("  sha-256={short}\t, \tsha-512={long} "), true),
        (format!("sha-256={short};note=\"x\";flag"), true),
        (format!("*new_-.1=:AA==:, sha-256={short}"), true),
        (format!("sha={wrong}, sha-256={short}"), true),
        (format!("{}sha-256={short}", others(15)), true),
        (format!("{}sha-256={short}", others(16)), false),
        (format!("sha-256={wrong}"), false),
        (format!("sha-256={wrong}, sha-512={long}"), false),
        (format!("sha-256={short}, sha-512={short}"), false),
        (format!("sha-256={short}, sha-256={short}"), false),
        (format!("sha={short}"), false),
        (format!("SHA-256={short}"), false),
        (format!("1a=:AA==:, sha-256={short}"), false),
        (format!("flag, sha-256={short}"), false),
        (format!("a=?1, sha-256={short}"), false),
        (format!("a=token, sha-256={short}"), false),
        (format!("sha-256={short},"), false),
        (format!("sha-256={short} sha-512={long}"), false),
        (format!("sha-256=\"{}\"", short.trim_matches(':')), false),
        (format!("sha-256=({short})"), false),
        (format!("sha-256={}", short.trim_matches(':')), false),
        (format!("sha-256={}", short.trim_end_matches("=:")), false),
        (String::new(), false),
    ] {
        assert_eq!(digest_holds(&headers(&[("content-digest", &said)]), BODY), holds, "{said}");
    }
    assert!(!digest_holds(&HeaderMap::new(), BODY));
    let apart =
        [("content-digest", "a=:AA==:".to_owned()), ("content-digest", format!("sha-256={short}"))];
    assert!(digest_holds(&headers(&apart), BODY), "on two lines");
    // Where it is signed it must hold, also where nobody asked for it.
    for (digest, expected) in [(short, Ok(())), (wrong, Err(RequirementFailed))] {
        let digest = format!("sha-256={digest}");
        let lines: Lines<'_> = &[("\"content-digest\"", &digest)];
        let said = list(lines, "");
        let mut all = message(&said, &base(lines, &said));
        all.append("content-digest", digest.parse().unwrap());
        assert_eq!(verdict("require: []", &all), expected);
    }
}

#[test]
fn names_of_algorithms_are_the_registered_ones() {
    let yaml = "verify: { mac: rfc9421, rfc9421: { algs: [ed25519, es256] } }\nevent: { id: '{body|sha256_hex}', type: t }";
    let problems = compile(&Source::parse(yaml), &[]).expect_err("no such algorithm");
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert_eq!(problems[0].path, "verify.rfc9421.algs");
    assert_eq!(problems[0].message, "there is no `es256` here");
    assert_eq!(
        problems[0].help.as_deref(),
        Some(
            "known: rsa-pss-sha512, rsa-v1_5-sha256, hmac-sha256, ecdsa-p256-sha256, ecdsa-p384-sha384, ed25519"
        )
    );
}
