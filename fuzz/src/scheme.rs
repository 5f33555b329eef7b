//! The language in which schemes and names are described. An input is a description, in YAML, with what a user writes under a
//! source.
//!
//! It is compiled, or everything that is wrong with it is said, each mistake with its place, and the same twice. What compiles
//! accepts nothing that was not signed, believes what it signs itself, and not once the signed body was touched.

use gatepost::{
    event::Timestamp,
    json::Path,
    providers::{self, Compiled, Options, Problem, shape},
    secret::Secret,
    verify::{Algorithm, LiveSecret, Presented, Template, Verifier},
};
use http::{HeaderMap, HeaderName, HeaderValue};
use serde::Deserialize;

use super::{Finding, ensure};

const NOW: i64 = 1_760_000_000;
const URL: &str = "https://hooks.example.com/x";
const BODY: &[u8] = br#"{"id":"evt_1","type":"a.b","n":7}"#;
const SECRETS: [&str; 2] = ["a secret of sixteen bytes and more", "MDEyMzQ1Njc4OWFiY2RlZg=="];

/// What a source says about its provider.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Source {
    verify: shape::Verify,
    event: shape::EventFields,
    handshake: Vec<shape::HandshakeRule>,
}

/// Tries the product.
pub fn check(data: &[u8]) -> Finding {
    judge(data, &|source| {
        let options = Options { captures: vec!["a.b[0]".to_owned()], ..Options::default() };
        providers::compile(&source.0.verify, &source.0.event, &source.0.handshake, &options)
    })
}

/// A description that is YAML.
#[derive(Debug)]
pub struct Described(Source);

/// Compiles a description.
pub type Compile<'c> = &'c dyn Fn(&Described) -> Result<Compiled, Vec<Problem>>;

/// Tries anything that compiles.
pub fn judge(data: &[u8], compile: Compile<'_>) -> Finding {
    let Ok(text) = std::str::from_utf8(data) else { return Ok(()) };
    for line in text.lines().take(50) {
        if let Err(error) = Template::parse(line) {
            ensure(error.at <= line.len(), || format!("a mistake behind the end of {line:?}"))?;
        }
        drop(Path::parse(line));
    }
    let Ok(source) = serde_yaml::from_str::<Source>(text) else { return Ok(()) };
    let source = Described(source);
    match (compile(&source), compile(&source)) {
        (Ok(compiled), Ok(_)) => {
            for secret in SECRETS {
                in_use(&source.0, &compiled, secret)?;
            }
            Ok(())
        }
        (Err(problems), Err(again)) => {
            ensure(problems == again, || format!("not the same twice: {problems:?}, {again:?}"))?;
            ensure(!problems.is_empty(), || format!("refused without a word: {source:?}"))?;
            problems.iter().try_for_each(placed)
        }
        _ => Err(format!("good and bad: {source:?}")),
    }
}

fn placed(problem: &Problem) -> Finding {
    let blocks = ["verify", "event", "handshake", "captures", "params", "pin"];
    let known = blocks.iter().any(|block| problem.path.starts_with(block));
    ensure(known && !problem.message.is_empty(), || format!("nobody can tell where: {problem:?}"))
}

/// What compiled, with a secret.
fn in_use(source: &Source, compiled: &Compiled, secret: &str) -> Finding {
    let live = LiveSecret { secret: Secret::new(secret), expires: None, id: None };
    let Ok(verifier) = Verifier::new(compiled.schemes.clone(), vec![live], URL) else {
        return Ok(());
    };
    let mut headers = HeaderMap::new();
    for (name, value) in [("x-id", "id-1"), ("x-kind", "order.paid"), ("x-time", "1760000000")] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    let verify =
        |headers: &HeaderMap, body: &[u8]| verifier.verify(&presented(headers, body)).is_ok();
    ensure(!verify(&headers, BODY), || format!("accepted unsigned: {source:?}"))?;
    let Ok(signature) = verifier.sign(&presented(&headers, BODY)) else { return Ok(()) };
    headers.extend(signature.into_iter().map(|(n, v): (HeaderName, HeaderValue)| (Some(n), v)));
    let accepted = verify(&headers, BODY);
    let must = is_plain(source);
    ensure(accepted || !must, || format!("its own signature is refused: {source:?}"))?;
    let signed = source.verify.scheme.signed.as_ref().map_or(&[][..], shape::OneOrMany::as_slice);
    let covers = must && signed.iter().all(|signed| signed.contains("{body}"));
    let touched = [BODY, b" "].concat();
    ensure(!covers || !verify(&headers, &touched), || format!("accepted touched: {source:?}"))
}

fn presented<'a>(headers: &'a HeaderMap, body: &'a [u8]) -> Presented<'a> {
    let received_at = Timestamp::from_millis(NOW * 1000);
    Presented { method: "POST", url: URL, target: "/x?sig=1", headers, body, received_at }
}

/// Whether it is one scheme that signs, without anything that depends on what the request says besides, and whose separators
/// cannot be in a signature.
fn is_plain(source: &Source) -> bool {
    let shape::Verify { scheme, schemes } = &source.verify;
    let Some([signature]) = scheme.signature.as_ref().map(shape::OneOrMany::as_slice) else {
        return false;
    };
    let is_simple = signature.groups.is_none()
        && signature.positional.is_empty()
        && signature.secret_slot.is_none()
        && signature.key_id.is_none()
        && scheme.for_each.is_none()
        && scheme.url_variants.is_empty();
    let signs = !matches!(scheme.mac, Some(Algorithm::Token | Algorithm::Basic));
    let in_signature = |text: &Option<String>| {
        let inside = |b: u8| b.is_ascii_alphanumeric() || b"+/=_-.:TZ".contains(&b);
        text.as_deref().unwrap_or_default().bytes().any(inside)
    };
    let pair = signature.pair.as_deref().is_none_or(|pair| "=,:".contains(pair));
    let time = scheme.timestamp.is_none();
    let own = ["x-id", "x-kind", "x-time"];
    let name = signature.header.as_deref().unwrap_or_default().to_ascii_lowercase();
    signs
        && schemes.is_empty()
        && scheme.require.is_empty()
        && time
        && pair
        && is_simple
        && !in_signature(&signature.split)
        && signature.prefix.is_none()
        && !own.contains(&name.as_str())
}
