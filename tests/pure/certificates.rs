//! Certificates that come with a token.

use gatepost::{answer::Reason, verify::Verifier};

use crate::asymmetric::{Fetched, describe, vectors};

fn apple(name: &str) -> (crate::asymmetric::Vector, Verifier) {
    let mut all = vectors().into_iter();
    let vector = all.find(|v| v.provider == "apple-asn-v2" && v.name == name).expect("a vector");
    let described = describe(&vector).expect("described");
    let secrets: Vec<_> = described.secrets.iter().map(String::as_str).collect();
    let verifier = crate::foreign::of(&described.verify, &secrets);
    (vector, verifier)
}

#[test]
fn only_the_pinned_root_counts() {
    let (good, verifier) = apple("official_test_notification_ok");
    assert_eq!(good.judge(&verifier, &Fetched::default()), Ok(()));
    for name in ["root_not_configured", "attacker_x5c", "official_missing_x5c"] {
        let (vector, verifier) = apple(name);
        let refused = vector.judge(&verifier, &Fetched::default());
        assert_eq!(refused, Err(Reason::CertificateRefused), "{name}");
    }
}

#[test]
fn a_certificate_must_be_for_this() {
    for oid in ["leaf_oid: 1.2.840.113635.100.6.11.1", "intermediate_oid: 1.2.840.113635.100.6.2.1"]
    {
        let (good, _) = apple("official_test_notification_ok");
        let described = describe(&good).expect("described");
        let other = described.verify.replace(oid, &oid.replace("1.2.840", "1.2.841"));
        assert_ne!(other, described.verify, "{oid} is there");
        let secrets: Vec<_> = described.secrets.iter().map(String::as_str).collect();
        let refused = good.judge(&crate::foreign::of(&other, &secrets), &Fetched::default());
        assert_eq!(refused, Err(Reason::CertificateRefused), "{oid}");
    }
}
