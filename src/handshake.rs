//! Answers a provider's challenge, or lets the request pass: unsigned challenges before verification, signed ones after.
//!
//! A challenge is recognised by values in its JSON body. What is put into the reply is short and plain, so that nobody
//! can have us say anything of length or meaning; anything else is no challenge and passes on.

use std::{borrow::Cow, sync::Arc};

use http::{HeaderValue, StatusCode};
use tower::ServiceExt as _;

use crate::{
    answer::{Answer, Challenge, Outcome},
    event::Digest,
    json::{Extractor, Path, Scalar},
    receive::Envelope,
    stage::{Next, Stage},
    verify::{From, Part, Template, Transform, Value, Verified},
};

/// A challenge and its reply.
#[derive(Clone, Debug)]
pub struct Rule {
    parts: RuleParts,
    /// Of the values that must be equal, then of those in the reply.
    extractor: Extractor,
    /// Text that every challenge holds, so that other bodies are not parsed.
    clue: String,
}

/// What a [`Rule`] is made from.
#[derive(Clone, Debug)]
pub struct RuleParts {
    /// JSON values that must be equal; with none, nothing is a challenge.
    pub json: Vec<(Path, String)>,
    /// Whether the signature is checked first.
    pub verify: bool,
    /// Status to answer.
    pub status: StatusCode,
    /// Content type to answer.
    pub content_type: HeaderValue,
    /// Body to answer. Values come from JSON, headers and the query; with any other, nothing is a challenge.
    pub body: Template,
}

/// Challenges are small; a longer body is none.
const CHALLENGE_BYTES_MAX: usize = 64 * 1024;

/// Length of a value that is put into a reply, at most.
const ECHO_BYTES_MAX: usize = 256;

impl Rule {
    /// Prepares a rule.
    pub fn new(parts: RuleParts) -> Self {
        let expected = parts.json.iter().map(|(path, _)| path);
        let echoed = parts.body.parts.iter().filter_map(|part| match part {
            Part::Value(Value { from: From::Json(path), .. }) => Some(path),
            Part::Value(_) | Part::Literal(_) => None,
        });
        let paths: Vec<Path> = expected.chain(echoed).cloned().collect();
        let clues = parts.json.iter().flat_map(|(_, text)| text.split(|c| !is_plain(c)));
        let clue = clues.max_by_key(|clue| clue.len()).unwrap_or_default().to_owned();
        Self { extractor: Extractor::new(&paths), clue, parts }
    }

    /// The reply, where `request` is this challenge.
    pub fn reply(&self, request: &Envelope) -> Option<Challenge> {
        let body = request.body();
        if body.len() > CHALLENGE_BYTES_MAX || self.parts.json.is_empty() {
            return None;
        }
        if !std::str::from_utf8(body).ok()?.contains(&self.clue) {
            return None;
        }
        let found = self.extractor.run(body).ok()?;
        let (expected, echoed) = found.split_at_checked(self.parts.json.len())?;
        let equal = |(scalar, (_, text)): (&Option<Scalar<'_>>, &(Path, String))| {
            scalar.as_ref().and_then(Scalar::to_text).is_some_and(|found| found == text.as_str())
        };
        if !expected.iter().zip(&self.parts.json).all(equal) {
            return None;
        }
        Some(Challenge {
            status: self.parts.status,
            content_type: self.parts.content_type.clone(),
            headers: Vec::new(),
            body: self.body(request, echoed)?.into(),
        })
    }

    fn body(&self, request: &Envelope, echoed: &[Option<Scalar<'_>>]) -> Option<String> {
        let mut json = echoed.iter();
        let mut body = String::new();
        for part in &self.parts.body.parts {
            match part {
                Part::Literal(text) => body.push_str(text),
                Part::Value(value) => body.push_str(&echo(value, request, &mut json)?),
            }
        }
        Some(body)
    }
}

/// A value of the reply; `None` where it is not there or is not plain. `json` holds the JSON values still to come.
fn echo<'v, 'a: 'v>(
    value: &Value,
    request: &'v Envelope,
    json: &mut impl Iterator<Item = &'v Option<Scalar<'a>>>,
) -> Option<Cow<'v, str>> {
    let found = match &value.from {
        From::Json(_) => json.next()?.as_ref().and_then(Scalar::to_text),
        From::Header(name) => {
            sole(request.headers().get_all(name)).and_then(|v| v.to_str().ok()).map(Cow::Borrowed)
        }
        From::Query(name) => field(request.uri().query().unwrap_or_default().as_bytes(), name),
        From::Body
        | From::Method
        | From::Url
        | From::Path
        | From::Form(_)
        | From::FormJson(..)
        | From::Variable(_) => return None,
    };
    let text = match found {
        Some(text) if text.is_empty() || !is_safe(&text) => return None,
        None if !value.transforms.contains(&Transform::DefaultEmpty) => return None,
        found => found.unwrap_or_default(),
    };
    Some(value.transforms.iter().fold(text, |text, transform| match transform {
        Transform::Sha256Hex => Digest::of(text.as_bytes()).to_string().into(),
        Transform::Lower => text.to_ascii_lowercase().into(),
        Transform::DefaultEmpty => text,
    }))
}

fn is_safe(text: &str) -> bool {
    text.len() <= ECHO_BYTES_MAX && text.chars().all(is_plain)
}

/// Characters that mean nothing anywhere, and that no JSON writer escapes.
fn is_plain(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '~' | '-')
}

/// The one of `items`; of several, another reader might take another, so they count as not there.
pub(crate) fn sole<T>(items: impl IntoIterator<Item = T>) -> Option<T> {
    let mut items = items.into_iter();
    let first = items.next()?;
    items.next().is_none().then_some(first)
}

/// A field of a query or a form; repeated, it counts as not there.
pub(crate) fn field<'t>(text: &'t [u8], name: &str) -> Option<Cow<'t, str>> {
    sole(form_urlencoded::parse(text).filter(|(known, _)| known == name)).map(|(_, value)| value)
}

/// The stage of challenges that their provider does not sign.
#[derive(Clone, Debug)]
pub struct Unsigned(pub Arc<[Rule]>);

/// The stage of challenges that their provider signs.
#[derive(Clone, Debug)]
pub struct Signed(pub Arc<[Rule]>);

impl<N: Next<Envelope>> Stage<Envelope, N> for Unsigned {
    async fn pass(self, envelope: Envelope, next: N) -> Answer {
        match reply(&self.0, false, &envelope) {
            Some(challenge) => Ok(Outcome::Handshake(challenge).into()),
            None => next.oneshot(envelope).await,
        }
    }
}

impl<N: Next<Verified>> Stage<Verified, N> for Signed {
    async fn pass(self, verified: Verified, next: N) -> Answer {
        match reply(&self.0, true, verified.envelope()) {
            Some(challenge) => Ok(Outcome::Handshake(challenge).into()),
            None => next.oneshot(verified).await,
        }
    }
}

/// The reply of the first rule whose challenge this is, among those that are checked at this place.
fn reply(rules: &[Rule], verify: bool, request: &Envelope) -> Option<Challenge> {
    rules.iter().filter(|rule| rule.parts.verify == verify).find_map(|rule| rule.reply(request))
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;
    use tower::service_fn;

    use super::*;
    use crate::{
        answer::{Answered, Ignored, Refusal},
        event::Timestamp,
    };

    fn rule(verify: bool, from: From) -> Rule {
        Rule::new(RuleParts {
            json: vec![(Path::parse("type").unwrap(), "url_verification".into())],
            verify,
            status: StatusCode::OK,
            content_type: HeaderValue::from_static("text/plain"),
            body: Template { parts: vec![Part::Value(Value { from, transforms: Vec::new() })] },
        })
    }

    fn slack(verify: bool) -> Rule {
        rule(verify, From::Json(Path::parse("challenge").unwrap()))
    }

    fn request(body: &str) -> Envelope {
        let mut headers = HeaderMap::new();
        headers.insert("x-challenge", HeaderValue::from_static("front"));
        let now = Timestamp::from_millis(0);
        Envelope::for_test("slack", headers, body.to_owned(), now)
    }

    #[test]
    fn only_a_plain_short_challenge_is_answered() {
        let long = "x".repeat(257);
        let table = [
            (r#"{"type":"url_verification","challenge":"3eZb-r_.~"}"#, Some("3eZb-r_.~")),
            (r#"{"challenge":"abc","type":"url_verification","token":"t"}"#, Some("abc")),
            (r#"{"type":"url_verification"}"#, None),
            (r#"{"type":"url_verification","challenge":""}"#, None),
            (r#"{"type":"url_verification","challenge":"<b>"}"#, None),
            (r#"{"type":"url_verification","challenge":"a b"}"#, None),
            (r#"{"type":"url_verification","challenge":"é"}"#, None),
            (r#"{"type":"url_verification","challenge":{}}"#, None),
            (r#"{"type":"url_verification","challenge":"a","challenge":"b"}"#, None),
            (r#"{"type":"event_callback","challenge":"url_verification"}"#, None),
            (r#"{"type":"url_verification","challenge":"a"} x"#, None),
            (&format!(r#"{{"type":"url_verification","challenge":"{long}"}}"#), None),
            ("url_verification", None),
            ("", None),
        ];
        for (body, echoed) in table {
            let challenge = slack(true).reply(&request(body));
            assert_eq!(challenge.map(|c| c.body), echoed.map(|e| e.to_owned().into()), "{body}");
        }
        let padded = format!(
            r#"{{"type":"url_verification","challenge":"a"}}{}"#,
            " ".repeat(CHALLENGE_BYTES_MAX)
        );
        assert_eq!(slack(true).reply(&request(&padded)), None);
    }

    #[test]
    fn headers_are_echoed_and_bodies_never() {
        let body = r#"{"type":"url_verification"}"#;
        let reply = |from| rule(true, from).reply(&request(body)).map(|challenge| challenge.body);
        let header = From::Header("x-challenge".parse().unwrap());
        assert_eq!(reply(header), Some("front".into()));
        assert_eq!(reply(From::Body), None);
        let mut parts = slack(true).parts;
        parts.json.clear();
        assert_eq!(Rule::new(parts).reply(&request(r#"{"challenge":"a"}"#)), None);
    }

    #[test]
    fn queries_and_forms_hold_a_field_once_or_not() {
        assert_eq!(field(b"a=1&b=%41+x", "b"), Some("A x".into()));
        assert_eq!(field(b"a=1&%61=2", "a"), None);
        assert_eq!(field(b"", "a"), None);
    }

    async fn below<T>(_: T) -> Answer {
        Ok(Outcome::Ignored(Ignored::Unrouted).into())
    }

    #[tokio::test]
    async fn a_rule_is_asked_on_its_side_of_verification() {
        let body = r#"{"type":"url_verification","challenge":"a"}"#;
        let is_reply = |answer: Answer| match answer {
            Ok(Answered { what: Outcome::Handshake(challenge), .. }) => challenge.body == "a",
            Ok(_) | Err(Answered::<Refusal> { .. }) => false,
        };
        for verify in [false, true] {
            let rules: Arc<[Rule]> = [slack(verify)].into();
            let unsigned = Unsigned(Arc::clone(&rules));
            assert_eq!(is_reply(unsigned.pass(request(body), service_fn(below)).await), !verify);
            let verified = Verified::for_test(request(body));
            assert_eq!(is_reply(Signed(rules).pass(verified, service_fn(below)).await), verify);
        }
    }
}
