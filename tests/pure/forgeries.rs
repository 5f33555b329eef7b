//! Forgeries by the hundred for every family of schemes that share a secret: made from good requests by everything that people
//! and programs do to them, and by what attackers try. None is believed; none goes further than the stage that judges them.

use gatepost::answer::Refusal;
use http::{HeaderMap, HeaderName};

use crate::{
    flow::Flow,
    forged::{AT_LEAST, BODY, Family, basics, forgeries, hashes, macs, secret_of, tokens},
    scheme::{Sent, examples},
};

/// Sends all forgeries of a family through the stages, and says how many there were.
fn none_is_believed(family: &Family) -> usize {
    let event = "event: { id: '{json:id}', type: '{json:type}' }";
    let flow = Flow::keyed(&format!("{}\n{event}", family.yaml), &secret_of(family));
    let name: HeaderName = family.header.parse().unwrap();
    let good = HeaderMap::from_iter([(name, family.good.parse().unwrap())]);
    assert!(flow.post(good, BODY).is_ok(), "the good one passes: {}", family.yaml);
    drop(flow.last_routed());
    let forgeries = forgeries(family);
    for lines in &forgeries {
        let refused = flow.post(lines.clone(), BODY).expect_err(&format!("{lines:?}"));
        assert!(matches!(refused.what, Refusal::NotVerified(_)), "{lines:?}: {refused:?}");
    }
    assert!(flow.nothing_routed(), "something went further than its verdict");
    forgeries.len()
}

macro_rules! families {
    ($($test:ident: $family:ident;)*) => {$(
        #[test]
        fn $test() {
            let count = none_is_believed(&$family());
            assert!(count >= AT_LEAST, "{count}");
        }
    )*};
}

families! {
    forged_macs: macs;
    forged_hashes: hashes;
    forged_tokens: tokens;
    forged_basic_credentials: basics;
}

/// The same for every container and template that the language has: each line of an example changed in every byte, left out, and
/// sent twice. Examples that show a second signature, or a header on several lines, hold what may be changed.
#[test]
fn no_example_of_the_language_is_believed_in_another_form() {
    let mut count = 0;
    for (yaml, described, sent) in examples() {
        let spare = |line: &(String, String)| {
            line.1.contains("000000000000") || line.1.contains("MDAwMDAw")
        };
        if yaml.contains("repeated: true") || sent.lines.iter().any(spare) {
            continue;
        }
        let verifier = described.verifier();
        assert!(sent.verdict(&verifier).is_ok(), "{yaml}");
        let mut tries: Vec<Sent> = Vec::new();
        for (line, (name, value)) in
            sent.lines.iter().enumerate().filter(|(_, l)| l.0 != "Content-Type")
        {
            let (mut without, mut twice) = (sent.lines.clone(), sent.lines.clone());
            without.remove(line);
            twice.push((name.clone(), value.clone()));
            tries.extend([without, twice].map(|lines| Sent { lines, ..sent.clone() }));
            for at in 0..value.len() {
                let mut lines = sent.lines.clone();
                let other = if value.as_bytes()[at] == b'1' { "2" } else { "1" };
                lines[line].1.replace_range(at..=at, other);
                tries.push(Sent { lines, ..sent.clone() });
            }
        }
        for forged in &tries {
            count += 1;
            assert!(forged.verdict(&verifier).is_err(), "{forged:?} by {yaml}");
        }
    }
    assert!(count > 900, "{count}");
}
