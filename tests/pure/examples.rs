//! Signed requests that providers document, and the same with other signatures.

use aws_lc_rs::hmac;
use gatepost::answer::Reason;

use crate::source::{preset, verify};

pub(crate) const GH: &str =
    "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
pub(crate) const GH_SECRET: &str = "It's a Secret to Everybody";
pub(crate) const GH_BODY: &[u8] = b"Hello, World!";
pub(crate) const SW_SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
pub(crate) const SW_ID: &str = "msg_p5jXN8AQM9LWM0D4loKWxJek";
pub(crate) const SW_TIME: i64 = 1_614_265_330;
pub(crate) const SW_BODY: &[u8] = br#"{"test": 2432232314}"#;
pub(crate) const SW: &str = "g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
pub(crate) const SW_WRONG: &str = "Ceo5qEr07ixe2NLpvHk3FH9bwy/WavXrAFQ/9tdO6mc=";
pub(crate) const SECRET: &str = "whsec_a_secret_of_stripe";
pub(crate) const BODY: &[u8] = br#"{"id":"evt_1","type":"invoice.paid"}"#;
pub(crate) const NOW: i64 = 1_700_000_000;

pub(crate) type Verdict = Result<(), Reason>;

/// HMAC-SHA256 in hexadecimal, by another implementation than the one under test.
pub(crate) fn mac(secret: &str, signed: &[u8]) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    hex::encode(hmac::sign(&key, signed))
}

pub(crate) fn github(lines: &[(&str, &[u8])], body: &[u8]) -> Verdict {
    verify(&preset("github", GH_SECRET), lines, body, NOW).map(drop)
}

pub(crate) fn github_signature(signature: impl AsRef<[u8]>) -> Verdict {
    github(&[("X-Hub-Signature-256", signature.as_ref())], GH_BODY)
}

/// The signature of [`BODY`] at a time as Stripe writes it.
pub(crate) fn stripe_mac(time: &str) -> String {
    mac(SECRET, &[time.as_bytes(), b".", BODY].concat())
}

pub(crate) fn stripe(signature: &str) -> Verdict {
    verify(&preset("stripe", SECRET), &[("Stripe-Signature", signature)], BODY, NOW).map(drop)
}

pub(crate) fn standard(id: &str, signature: &str) -> Verdict {
    let time = SW_TIME.to_string();
    let lines =
        [("webhook-id", id), ("webhook-timestamp", &time), ("webhook-signature", signature)];
    verify(&preset("standard-webhooks", SW_SECRET), &lines, SW_BODY, SW_TIME).map(drop)
}
