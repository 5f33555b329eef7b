//! Every way to write a signature wrong, byte for byte over a socket to the real binary: it is refused, it reaches nobody, and
//! what is written right in an unusual way still passes.

use aws_lc_rs::hmac;
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE},
};

use crate::{
    raw::{
        DELIVERY, GH, GH_BAD, GH_BODY, GH_SECRET, OTHER_SECRET, github, input, judged, request,
        slack, standard, standard_mac, standard_request, stripe, stripe_at, stripe_mac,
    },
    world::{
        gateway::{binary, write_private, yaml},
        provider::{mac, now, stripe_event},
    },
};

#[tokio::test]
async fn missing_empty_or_nothing_but_a_prefix() {
    judged(vec![
        input("none", request("/github", &DELIVERY, GH_BODY), 401),
        github("", 401),
        github("sha256=", 401),
        slack("v0=", 401),
        slack("v0={G}", 200),
        standard("v1,", 401),
        standard("v1,{G}", 200),
        stripe("t={T},v1=", 401),
        stripe("t=1,v1=", 401),
        stripe("t={T},v1={G}", 200),
    ])
    .await;
}

#[tokio::test]
async fn a_header_that_comes_twice_or_joined() {
    let (good, bad) = (GH.as_bytes(), GH_BAD.as_bytes());
    let twice = |what: &str, first: &[u8], second: &[u8]| {
        let name = "X-Hub-Signature-256";
        let lines = [(name, first), (name, second), DELIVERY[0], DELIVERY[1]];
        input(what, request("/github", &lines, GH_BODY), 401)
    };
    judged(vec![
        twice("good and bad", good, bad),
        twice("bad and good", bad, good),
        twice("good and good", good, good),
        github(format!("{GH}, {GH_BAD}"), 401),
        github(format!("{GH},{GH}"), 401),
        github(GH, 200),
    ])
    .await;
}

#[tokio::test]
async fn folding_is_no_white_space() {
    let folded = |by: &str| github(GH.replace("sha256=", &format!("sha256={by}")), 400);
    judged(vec![folded("\r\n "), folded("\r\n\t"), folded("\n "), folded("\r\n")]).await;
}

#[tokio::test]
async fn white_space_case_and_other_alphabets() {
    let hex = &GH["sha256=".len()..];
    let named = |name: &str, status| {
        let lines = [(name, GH.as_bytes()), DELIVERY[0], DELIVERY[1]];
        input(name, request("/github", &lines, GH_BODY), status)
    };
    judged(vec![
        github(format!("sha256= {hex}"), 401),
        github(format!("sha256 ={hex}"), 401),
        github([GH.as_bytes(), b"\xa0"].concat(), 401),
        github([GH.as_bytes(), b"\x0b"].concat(), 400),
        github(format!("sha256={}\t{}", &hex[..32], &hex[32..]), 401),
        github(format!("  {GH} \t"), 200),
        named("X-HUB-SIGNATURE-256", 200),
        named("x-hub-signature-256", 200),
        github(format!("SHA256={hex}"), 401),
        github(format!("sha256={}", hex.to_uppercase()), 401),
        github(format!("sha256=\u{ff17}\u{ff15}{}", &hex[2..]), 401),
        github(format!("sha256={}", hex.replace('a', "\u{430}")), 401),
        github([b"sha256=\xf0", &hex.as_bytes()[1..]].concat(), 401),
        github(format!("sha256=%37{}", &hex[1..]), 401),
    ])
    .await;
}

#[tokio::test]
async fn truncated_and_lengthened() {
    let hex = &GH["sha256=".len()..];
    let lengths = [63, 62, 32, 8, 2, 1, 0];
    let cut = lengths.map(|length| github(format!("sha256={}", &hex[..length]), 401));
    let long = ["0", "00", "0000"].map(|more| github(format!("{GH}{more}"), 401));
    judged(cut.into_iter().chain(long).collect()).await;
}

#[tokio::test]
async fn the_algorithm_is_never_the_senders_choice() {
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, GH_SECRET.as_bytes());
    let sha1 = format!("sha1={}", hex::encode(hmac::sign(&key, GH_BODY)));
    let old = [("X-Hub-Signature", sha1.as_bytes()), DELIVERY[0], DELIVERY[1]];
    judged(vec![
        input("X-Hub-Signature alone", request("/github", &old, GH_BODY), 401),
        github(&sha1, 401),
        github(format!("md5={}", "0".repeat(32)), 401),
        github("none=", 401),
        github("none", 401),
        stripe("t={T},v0={G}", 401),
        stripe("v0={G}", 401),
        standard("v1a,{G}", 401),
        standard("V1,{G}", 401),
        standard("v2,{G}", 401),
        standard("v1a,{B} v1,{G}", 200),
    ])
    .await;
}

#[tokio::test]
async fn stripes_grammar() {
    judged(vec![
        stripe("t=1,t={T},v1={G}", 401),
        stripe("t={T},t={T},v1={G}", 401),
        stripe("v1={G},t={T}", 200),
        stripe("t={T},v1={B},v1={G}", 200),
        stripe(&format!("t={{T}},{}v1={{G}}", "v1={B},".repeat(7)), 200),
        stripe(&format!("t={{T}},{}v1={{G}}", "v1={B},".repeat(8)), 401),
        stripe(&format!("t={{T}},{}v1={{G}}", "v1={B},".repeat(99)), 401),
        stripe("t={T},v0={G}", 401),
        stripe("t={T},v1={G},", 401),
        stripe("t={T};v1={G}", 401),
        stripe(&format!("t={{T}},v1={{G}},x={}", "x".repeat(5000)), 401),
        // Longer than any head may be.
        stripe(&format!("t={{T}},v1={{G}},x={}", "x".repeat(65_536)), 431),
    ])
    .await;
}

#[tokio::test]
async fn times_have_one_spelling_and_two_limits() {
    let now = now();
    let body = stripe_event("evt_time", "invoice.paid");
    let written = |time: &str| {
        // The signature is right for what is written.
        let signature = format!("t={time},v1={}", stripe_mac(time, &body));
        input(time, request("/stripe", &[("Stripe-Signature", signature.as_bytes())], &body), 401)
    };
    let fixed =
        ["-1", "1e9", "1.7e9", "", "18446744073709551616", "9223372036854775807", "0", "Infinity"];
    let ours = ["+N", "0N", " N", "N.0", "N000", "N ", "N_0", "0xN"];
    let ours = ours.map(|form| written(&form.replace('N', &now.to_string())));
    let mut inputs: Vec<_> = fixed.into_iter().map(written).chain(ours).collect();
    // The exact limits are another test's: here the clock goes on.
    for (time, status) in [(now - 310, 401), (now + 330, 401), (now - 270, 200), (now + 270, 200)] {
        inputs.push(stripe_at(time, "t={T},v1={G}", status));
    }
    judged(inputs).await;
}

#[tokio::test]
async fn base64_has_one_spelling() {
    let time = now().to_string();
    let body = b"{\"type\":\"a\"}";
    // An id whose signature has both digits that the url-safe alphabet writes otherwise.
    let id = (0..).map(|n| format!("msg_{n}")).find(|id| {
        let good = standard_mac(id.as_bytes(), time.as_bytes(), body);
        good.contains('+') && good.contains('/')
    });
    let id = id.unwrap();
    let good = standard_mac(id.as_bytes(), time.as_bytes(), body);
    let sent = |what: &str, signature: String, status| {
        let signature = format!("v1,{signature}");
        input(what, standard_request(id.as_bytes(), time.as_bytes(), body, &signature), status)
    };
    let digits = &good[..43];
    // The last digit holds two bits that are in no byte: lenient readers take four digits for it.
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let last = ALPHABET.iter().position(|digit| *digit == digits.as_bytes()[42]).unwrap();
    let others = (1..4).map(|more| {
        let digit = char::from(ALPHABET[last + more]);
        sent("other last digit", format!("{}{digit}=", &digits[..42]), 401)
    });
    let url_safe = URL_SAFE.encode(STANDARD.decode(&good).unwrap());
    let mut inputs: Vec<_> = others.collect();
    inputs.extend([
        sent("no padding", digits.to_owned(), 401),
        sent("more padding", format!("{digits}=="), 401),
        sent("url-safe", url_safe, 401),
        sent("a tab inside", format!("{}\t{}", &good[..20], &good[20..]), 401),
        sent("more behind the padding", format!("{good}AAAA"), 401),
        sent("cut short", good[..40].to_owned(), 401),
        sent("as it is", good.clone(), 200),
    ]);
    judged(inputs).await;
}

#[tokio::test]
async fn no_separator_can_be_shifted() {
    let time = now().to_string();
    let sent = |what: &str, id: &[u8], time: &[u8], body: &[u8], status| {
        let signature = format!("v1,{}", standard_mac(id, time, body));
        input(what, standard_request(id, time, body, &signature), status)
    };
    let time = time.as_bytes();
    let event: &[u8] = b"{\"type\":\"a\"}";
    let shifted = [b"a.".as_slice(), time].concat();
    let later = [time, b".", time].concat();
    judged(vec![
        sent("as it is", b"a", time, event, 200),
        sent("into the id", &shifted, time, event, 401),
        sent("into the time", b"a", &later, event, 401),
        sent("a point", b"a.b", time, event, 401),
        sent("a space", b"a b", time, event, 401),
        sent("NUL", b"a\0b", time, event, 400),
        sent("256 bytes", &[b'a'; 256], time, event, 200),
        sent("257 bytes", &[b'a'; 257], time, event, 401),
    ])
    .await;
}

#[tokio::test]
async fn several_signatures_under_one_separator() {
    judged(vec![
        standard("v1,{B} v1,{G}", 200),
        standard("v1,{B}  v1,{G}", 401),
        standard("v1,{B}\tv1,{G}", 401),
        standard(&format!("{}v1,{{G}}", "v1,{B} ".repeat(64)), 401),
    ])
    .await;
}

#[tokio::test]
async fn a_signature_in_another_place_is_none() {
    let query = request(&format!("/github?X-Hub-Signature-256={GH}"), &DELIVERY, GH_BODY);
    let cookie = format!("X-Hub-Signature-256={GH}");
    let cookie = [("Cookie", cookie.as_bytes()), DELIVERY[0], DELIVERY[1]];
    let trailer = format!(
        "POST /github HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\nTrailer: X-Hub-Signature-256\r\n\
         X-GitHub-Delivery: guid\r\nX-GitHub-Event: push\r\n\r\nd\r\nHello, World!\r\n0\r\nX-Hub-Signature-256: {GH}\r\n\r\n"
    );
    judged(vec![
        input("in the query", query, 401),
        input("in a cookie", request("/github", &cookie, GH_BODY), 401),
        input("in a trailer", trailer.into_bytes(), 401),
    ])
    .await;
}

#[tokio::test]
async fn another_sources_signature_does_not_fit() {
    let signed = |secret: &str, body: &[u8]| {
        format!("sha256={}", hex::encode(mac(secret.as_bytes(), &[body])))
    };
    let sent = |path: &str, secret: &str, body: &[u8], status| {
        let signature = signed(secret, body);
        let lines = [("X-Hub-Signature-256", signature.as_bytes()), DELIVERY[0], DELIVERY[1]];
        input(format!("{secret} at {path}"), request(path, &lines, body), status)
    };
    let empty = "sha256=22f8eea909400af98adf3681a9f31923ef6b7fcba4abb553d92823a3e9d5c25e";
    let empty = [("X-Hub-Signature-256", empty.as_bytes()), DELIVERY[0], DELIVERY[1]];
    judged(vec![
        sent("/github", GH_SECRET, GH_BODY, 200),
        sent("/github", OTHER_SECRET, GH_BODY, 401),
        sent("/other", GH_SECRET, GH_BODY, 401),
        sent("/other", OTHER_SECRET, GH_BODY, 200),
        sent("/stripe", GH_SECRET, GH_BODY, 401),
        input("what an empty key makes of {}", request("/github", &empty, b"{}"), 401),
    ])
    .await;
}

#[tokio::test]
async fn a_body_that_was_touched() {
    let text = "{\"name\": \"caf\u{e9}\",\n\"n\": 1.0}\n".to_owned();
    let good = format!("sha256={}", hex::encode(mac(GH_SECRET.as_bytes(), &[text.as_bytes()])));
    let sent = |what: &str, body: &[u8], status| {
        let lines = [("X-Hub-Signature-256", good.as_bytes()), DELIVERY[0], DELIVERY[1]];
        input(what, request("/github", &lines, body), status)
    };
    let flipped = |at: usize| {
        let mut body = text.clone().into_bytes();
        body[at] ^= 1;
        sent(&format!("byte {at}"), &body, 401)
    };
    judged(vec![
        sent("as it is", text.as_bytes(), 200),
        flipped(0),
        flipped(text.len() / 2),
        flipped(text.len() - 1),
        sent("a line end more", format!("{text}\n").as_bytes(), 401),
        sent("a line end less", text.trim_end().as_bytes(), 401),
        sent("CRLF", text.replace('\n', "\r\n").as_bytes(), 401),
        sent("BOM", format!("\u{feff}{text}").as_bytes(), 401),
        sent("NFD", text.replace('\u{e9}', "e\u{301}").as_bytes(), 401),
        sent("written anew", text.replace(": ", ":").as_bytes(), 401),
        sent("another number", text.replace("1.0", "1").as_bytes(), 401),
        sent("nothing", b"", 401),
    ])
    .await;
}

#[tokio::test]
async fn an_empty_body_is_verified_and_then_asked_for_its_id() {
    let signed = format!("sha256={}", hex::encode(mac(GH_SECRET.as_bytes(), &[b""])));
    let lines = [("X-Hub-Signature-256", signed.as_bytes()), DELIVERY[0], DELIVERY[1]];
    let time = now().to_string();
    let stripe = format!("t={time},v1={}", stripe_mac(&time, b""));
    judged(vec![
        input("an id in a header", request("/github", &lines, b""), 200),
        input("no id", request("/stripe", &[("Stripe-Signature", stripe.as_bytes())], b""), 422),
    ])
    .await;
}

#[tokio::test]
async fn rotation() {
    let sent = |secret: &str, status| {
        let signature = format!("sha256={}", hex::encode(mac(secret.as_bytes(), &[GH_BODY])));
        let lines = [("X-Hub-Signature-256", signature.as_bytes()), DELIVERY[0], DELIVERY[1]];
        input(secret, request("/rotating", &lines, GH_BODY), status)
    };
    judged(vec![
        sent("the newest secret of all", 200),
        sent("the secret before that one", 200),
        sent("a secret that has expired", 401),
        sent("no secret of ours", 401),
    ])
    .await;
}

/// With a secret that is none the process does not start; with a weak one it says so.
#[test]
fn secrets_that_are_none() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("secret");
    let check = |secret: &str, env: Option<&str>| {
        let rest = format!(
            "sources: {{ a: {{ provider: standard-webhooks, secret: {secret} }} }}\nroutes: [ {{ source: a, drop: true, name: a }} ]\n"
        );
        write_private(&dir.path().join("gatepost.yaml"), &yaml(dir.path(), &rest));
        let mut command = binary();
        command.envs(env.map(|value| ("S", value)));
        let out =
            command.arg("-c").arg(dir.path().join("gatepost.yaml")).arg("check").output().unwrap();
        (out.status.code(), String::from_utf8_lossy(&out.stdout).into_owned())
    };
    for (env, code) in [
        (None, "env-unset"),
        (Some(""), "secret-shape"),
        (Some("whsec_"), "secret-form"),
        (Some("   "), "secret-shape"),
        (Some("whsec_not base64"), "secret-form"),
    ] {
        let (status, said) = check("{ env: S }", env);
        assert!(status == Some(78) && said.contains(&format!("error[{code}]")), "{env:?}: {said}");
    }
    let place = format!("{{ file: \"{}\" }}", file.display());
    for (bytes, code) in
        [(&b"MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\0"[..], "secret-shape"), (b"\n", "secret-shape")]
    {
        std::fs::write(&file, bytes).unwrap();
        let (status, said) = check(&place, None);
        assert!(
            status == Some(78) && said.contains(&format!("error[{code}]")),
            "{bytes:?}: {said}"
        );
    }
    std::fs::write(&file, "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n").unwrap();
    assert_eq!(check(&place, None).0, Some(0), "one line end at the end of a file is none of it");
    for weak in ["Y2hhbmdlbWU=", "MTIzNDU2Nzg5"] {
        let (status, said) = check("{ env: S }", Some(weak));
        assert!(status == Some(0) && said.contains("warning[secret-weak]"), "{said}");
    }
}

/// One secret for two sources: what is signed for one is signed for the other.
#[test]
fn two_sources_do_not_share_a_secret() {
    let dir = tempfile::tempdir().unwrap();
    let rest = format!(
        "sources: {{ a: {{ provider: github, secret: \"{OTHER_SECRET}\" }}, b: {{ provider: github, secret: \"{OTHER_SECRET}\" }} }}\nroutes: [ {{ source: a, drop: true, name: a }}, {{ source: b, drop: true, name: b }} ]\n"
    );
    write_private(&dir.path().join("gatepost.yaml"), &yaml(dir.path(), &rest));
    let out =
        binary().arg("-c").arg(dir.path().join("gatepost.yaml")).arg("check").output().unwrap();
    let said = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(out.status.code() == Some(78) && said.contains("error[secret-reused]"), "{said}");
}
