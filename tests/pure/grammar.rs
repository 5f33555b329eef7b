//! How a signature may be written: every other spelling is refused, without a panic.

use aws_lc_rs::hmac;
use base64::{Engine as _, engine::general_purpose::URL_SAFE};
use gatepost::answer::Reason::{
    HeaderRepeated, SignatureMalformed, SignatureMissing, SignatureWrong, SignaturesTooMany,
    TimestampMissing, TimestampRepeated,
};

use crate::{
    examples::{
        BODY, GH, GH_BODY, GH_SECRET, NOW, SECRET, SW, SW_ID, SW_WRONG, github, github_signature,
        standard, stripe, stripe_mac,
    },
    source::{custom, headers, presented, preset, verifier, verify},
};

#[test]
fn the_documented_examples_hold() {
    assert_eq!(github_signature(GH), Ok(()));
    assert_eq!(standard(SW_ID, &format!("v1,{SW}")), Ok(()));
    assert_eq!(stripe(&format!("t={NOW},v1={}", stripe_mac("1700000000"))), Ok(()));
}

#[test]
fn missing_empty_or_nothing_but_a_prefix() {
    assert_eq!(github(&[], GH_BODY), Err(SignatureMissing));
    assert_eq!(github_signature(""), Err(SignatureMissing));
    for signature in ["sha256=", "sha256", "="] {
        assert_eq!(github_signature(signature), Err(SignatureMalformed), "{signature}");
    }
    assert_eq!(standard(SW_ID, "v1,"), Err(SignatureMalformed));
    assert_eq!(stripe("t=1700000000,v1="), Err(SignatureMalformed));
    let slack = preset("slack", "8f742231b10e8888abcd99yyyzzz85a5");
    let lines = [("X-Slack-Signature", "v0="), ("X-Slack-Request-Timestamp", "1700000000")];
    assert_eq!(verify(&slack, &lines, b"{}", NOW), Err(SignatureMalformed));
}

#[test]
fn a_repeated_header_is_refused_even_with_a_good_line() {
    let bad: &[u8] = b"sha256=0000000000000000000000000000000000000000000000000000000000000000";
    let good = GH.as_bytes();
    for (first, second) in [(good, bad), (bad, good), (good, good)] {
        let lines = [("X-Hub-Signature-256", first), ("x-hub-signature-256", second)];
        assert_eq!(github(&lines, GH_BODY), Err(HeaderRepeated));
    }
    assert_eq!(github_signature(format!("{GH}, sha256=00")), Err(SignatureMalformed));
}

#[test]
fn several_lines_where_the_sender_is_known_to_send_them() {
    let yaml = "verify:\n  signature: { header: X-Signature, prefix: sha256=, repeated: true }\n  signed: '{body}'";
    let mollie = verifier(custom(yaml), &[GH_SECRET]).expect("a verifier");
    let bad = format!("sha256={}", "0".repeat(64));
    let lines = [("X-Signature", bad.as_str()), ("X-Signature", GH)];
    assert!(verify(&mollie, &lines, GH_BODY, NOW).is_ok());
    assert_eq!(verify(&mollie, &[("X-Signature", &bad); 9], GH_BODY, NOW), Err(SignaturesTooMany));
}

#[test]
fn white_space_case_and_other_alphabets() {
    let hex = &GH[7..];
    let odd: [Vec<u8>; 12] = [
        format!("sha256= {hex}").into(),
        format!("sha256 ={hex}").into(),
        [GH.as_bytes(), b"\xa0"].concat(),
        [GH.as_bytes(), b" "].concat(),
        format!("sha256={}\t{}", &hex[..32], &hex[32..]).into(),
        format!("SHA256={hex}").into(),
        format!("sha256={}", hex.to_uppercase()).into(),
        format!("sha256=\u{ff17}57107{}", &hex[6..]).into(),
        format!("sha256={}", hex.replace('a', "\u{430}")).into(),
        [b"sha256=\xf0".as_slice(), &hex.as_bytes()[1..]].concat(),
        format!("sha256=%37{}", &hex[1..]).into(),
        format!("{GH}\u{200b}").into(),
    ];
    for signature in odd {
        let shown = String::from_utf8_lossy(&signature).into_owned();
        assert_eq!(github_signature(signature), Err(SignatureMalformed), "{shown}");
    }
    let lines: [(&str, &[u8]); 1] = [("X-HUB-SIGNATURE-256", GH.as_bytes())];
    assert_eq!(github(&lines, GH_BODY), Ok(()), "names of headers have no case");
}

#[test]
fn upper_case_hexadecimal_where_the_scheme_says_so() {
    let yaml =
        "verify:\n  signature: { header: X-Signature, encoding: hex-any }\n  signed: '{body}'";
    let any = verifier(custom(yaml), &[GH_SECRET]).expect("a verifier");
    for signature in [GH[7..].to_owned(), GH[7..].to_uppercase()] {
        assert!(verify(&any, &[("X-Signature", signature)], GH_BODY, NOW).is_ok());
    }
}

#[test]
fn spaces_around_elements_where_the_scheme_says_so() {
    let yaml =
        "verify:\n  signature: { header: X-Signature, split: ',', trim: true }\n  signed: '{body}'";
    let trimmed = verifier(custom(yaml), &[GH_SECRET]).expect("a verifier");
    for (signature, verdict) in [
        (format!("00 ,  {} ", &GH[7..]), Ok(())),
        (format!("00, ,{}", &GH[7..]), Err(SignatureMalformed)),
    ] {
        let found = verify(&trimmed, &[("X-Signature", &signature)], GH_BODY, NOW).map(drop);
        assert_eq!(found, verdict, "{signature}");
    }
}

#[test]
fn truncated_and_lengthened() {
    let hex = &GH[7..];
    for length in [63, 62, 32, 8, 2, 1, 0] {
        let cut = format!("sha256={}", &hex[..length]);
        assert_eq!(github_signature(cut), Err(SignatureMalformed), "{length}");
    }
    for more in ["0", "00", "0000"] {
        assert_eq!(github_signature(format!("{GH}{more}")), Err(SignatureMalformed));
    }
}

#[test]
fn the_algorithm_is_never_the_senders_choice() {
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, GH_SECRET.as_bytes());
    let sha1 = format!("sha1={}", hex::encode(hmac::sign(&key, GH_BODY)));
    let old: [(&str, &[u8]); 1] = [("X-Hub-Signature", sha1.as_bytes())];
    assert_eq!(github(&old, GH_BODY), Err(SignatureMissing));
    for signature in [sha1, "none=".into(), format!("md5={}", "0".repeat(32))] {
        assert_eq!(github_signature(&signature), Err(SignatureMalformed), "{signature}");
    }
    let good = stripe_mac("1700000000");
    assert_eq!(stripe(&format!("t={NOW},v0={good}")), Err(SignatureMissing));
    for (version, verdict) in [
        ("v1a", SignatureMissing),
        ("V1", SignatureMissing),
        ("v2", SignatureMissing),
        ("v1 ", SignatureMalformed),
        ("", SignatureMalformed),
    ] {
        assert_eq!(standard(SW_ID, &format!("{version},{SW}")), Err(verdict), "{version}");
    }
}

#[test]
fn stripes_grammar() {
    let good = stripe_mac("1700000000");
    let bad = "0".repeat(64);
    let row = |text: &str| text.replace('G', &good).replace('B', &bad);
    let many = |count: usize| format!("t=1700000000,{}v1=G", "v1=B,".repeat(count - 1));
    for (signature, verdict) in [
        ("t=1700000000,v1=G".to_owned(), Ok(())),
        ("v1=G,t=1700000000".into(), Ok(())),
        ("t=1700000000,v1=B,v1=G".into(), Ok(())),
        ("t=1700000000,v1=G,v1=G".into(), Ok(())),
        ("t=1700000000,v1=nonsense,v1=G".into(), Ok(())),
        ("t=1700000000,v1=G,v0=B".into(), Ok(())),
        (many(8), Ok(())),
        (many(9), Err(SignaturesTooMany)),
        (many(40), Err(SignaturesTooMany)),
        (many(100), Err(SignatureMalformed)),
        ("t=1700000000,v1=B".into(), Err(SignatureWrong)),
        ("t=1,t=1700000000,v1=G".into(), Err(TimestampRepeated)),
        ("t=1700000000,t=1700000000,v1=G".into(), Err(TimestampRepeated)),
        ("v1=G".into(), Err(TimestampMissing)),
        ("t=1700000000,v0=G".into(), Err(SignatureMissing)),
        ("t=1700000000,v1=G,".into(), Err(SignatureMalformed)),
        (",t=1700000000,v1=G".into(), Err(SignatureMalformed)),
        ("t=1700000000,,v1=G".into(), Err(SignatureMalformed)),
        ("t=1700000000, v1=G".into(), Err(SignatureMalformed)),
        ("t=1700000000;v1=G".into(), Err(SignatureMissing)),
        ("t=1700000000,v1".into(), Err(SignatureMalformed)),
        ("=,=".into(), Err(SignatureMalformed)),
        (format!("t=1700000000,v1=G,x={}", "x".repeat(65_536)), Err(SignatureMalformed)),
    ] {
        let short: String = signature.chars().take(60).collect();
        assert_eq!(stripe(&row(&signature)), verdict, "{short}");
    }
}

#[test]
fn base64_has_one_spelling() {
    for signature in [
        "g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OF=",
        "g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OG=",
        "g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OH=",
        "g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE",
        "g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE==",
        "g0hM9SsE-OTPJTGt_tmIKtSyZlE3uFJELVlNIOLJ1OE=",
        "g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJE\tLVlNIOLJ1OE=",
        "g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=AAAA",
        "g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ",
    ] {
        let verdict = standard(SW_ID, &format!("v1,{signature}"));
        assert_eq!(verdict, Err(SignatureMalformed), "{signature}");
    }
}

#[test]
fn url_safe_base64_may_lack_its_padding_and_nothing_else() {
    let yaml =
        "verify:\n  signature: { header: X-Signature, encoding: base64url }\n  signed: '{body}'";
    let verifier = verifier(custom(yaml), &[SECRET]).expect("a verifier");
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
    let padded = URL_SAFE.encode(hmac::sign(&key, BODY));
    let check = |text: &str| verify(&verifier, &[("X-Signature", text)], BODY, NOW).map(drop);
    assert_eq!(check(&padded), Ok(()));
    assert_eq!(check(padded.trim_end_matches('=')), Ok(()));
    assert_eq!(check(&format!("{padded}=")), Err(SignatureMalformed));
    assert_eq!(check(&format!("{}B", &padded[..42])), Err(SignatureMalformed));
}

#[test]
fn several_standard_webhooks_signatures() {
    assert_eq!(standard(SW_ID, &format!("v1,{SW_WRONG} v1,{SW}")), Ok(()));
    assert_eq!(standard(SW_ID, &format!("v1,{SW_WRONG} v1a,xyz v1,{SW}")), Ok(()));
    assert_eq!(standard(SW_ID, &format!("v1,{SW_WRONG}  v1,{SW}")), Err(SignatureMalformed));
    assert_eq!(standard(SW_ID, &format!("v1,{SW_WRONG}\tv1,{SW}")), Err(SignatureMalformed));
    let crowd = format!("{}v1,{SW}", format!("v1,{SW_WRONG} ").repeat(64));
    assert_eq!(standard(SW_ID, &crowd), Err(SignaturesTooMany));
}

#[test]
fn a_signature_in_another_place_is_none() {
    let verifier = preset("github", GH_SECRET);
    for name in ["Cookie", "X-Hub-Signature", "Trailer", "Authorization", "X-Hub-Signature-256-2"] {
        let verdict = verify(&verifier, &[(name, GH)], GH_BODY, NOW);
        assert_eq!(verdict, Err(SignatureMissing), "{name}");
    }
    let none = headers::<&str>(&[]);
    let mut in_query = presented(&none, GH_BODY, NOW);
    let target = format!("/hooks/x?X-Hub-Signature-256={GH}");
    in_query.target = &target;
    assert_eq!(verifier.verify(&in_query), Err(SignatureMissing));
}
