//! One challenge as data: how it is recognised, what must be equal before it is answered, and the exact reply.
//!
//! What a stranger says comes into a reply only in characters and lengths that mean nothing anywhere, so that nobody can have us say
//! anything; anything else is no challenge. Where a reply is computed with the source's secret, the same bounds keep the
//! responder from signing what the scheme would take for an event ([`Rule::signs`]).

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderName, HeaderValue, Method, StatusCode};
use memchr::memmem;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::echo::{Charset, Echo};
use crate::{
    answer::Challenge,
    event::{Digest, Timestamp},
    json::Path,
    receive::Envelope,
    verify::{
        Equality, From, Part, Presented, Sought, Template, UrlRule, Value, Verifier, View,
        transform,
    },
};

/// A challenge and its reply.
#[derive(Clone, Debug)]
pub struct Rule {
    pub(super) parts: RuleParts,
    sought: Sought,
    /// Text that every challenge holds, so that other bodies are not parsed.
    clue: String,
}

/// What a [`Rule`] is made from.
#[derive(Clone, Debug)]
pub struct RuleParts {
    /// Methods of the request; never empty.
    pub methods: Vec<Method>,
    /// What makes a request this challenge.
    pub(crate) tests: Vec<Test>,
    /// Whether the signature is checked first.
    pub verify: bool,
    /// What must be equal besides; where it is not, the request is refused.
    pub(crate) checks: Vec<Equality>,
    /// What becomes the source's secret.
    pub(crate) capture: Option<Value>,
    /// What the operator is told.
    pub(crate) report: Option<Template>,
    /// The URL that confirms a subscription, and which may be fetched.
    pub(crate) confirm: Option<(Template, UrlRule)>,
    /// What is answered.
    pub(crate) reply: Reply,
}

/// What a request must be like.
#[derive(Clone, Debug)]
pub(crate) enum Test {
    Equal(From, String),
    Present(From),
    Absent(From),
}

/// The exact reply.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) content_type: Option<HeaderValue>,
    pub(crate) headers: Vec<(HeaderName, Template)>,
    /// Values that are computed, by the name under which the other templates know them.
    pub(crate) compute: Vec<(String, Function, Template)>,
    pub(crate) body: Option<Template>,
    pub(crate) echo: Echo,
}

/// How a value of the reply is computed.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Function {
    /// MAC of the source's scheme under the source's secret, lower-case hex.
    HmacHex,
    /// The same in base64.
    HmacBase64,
    /// SHA-256 without a key, lower-case hex.
    Sha256Hex,
}

impl Function {
    const fn uses_secret(self) -> bool {
        matches!(self, Self::HmacHex | Self::HmacBase64)
    }
}

/// Challenges are small; a longer body is none.
const CHALLENGE_BYTES_MAX: usize = 64 * 1024;
/// Length of a reply's body, at most.
const REPLY_BYTES_MAX: usize = 1024;

/// What replies are computed with.
pub(super) struct With<'a> {
    pub(super) verifier: &'a Verifier,
    /// The secret that the sender has shown to know; 0 where it has shown none.
    pub(super) slot: usize,
    /// The URL that the provider has on file.
    pub(super) url: &'a str,
}

/// What a request is to a rule.
pub(super) enum Met {
    Answered(Challenge),
    /// Something that must be equal is not.
    Refused,
    /// To be answered once `url` was fetched, which is none where it may not be.
    Confirm {
        url: Option<String>,
        challenge: Challenge,
    },
    /// To be answered once `secret` is kept.
    Capture {
        secret: Vec<u8>,
        challenge: Challenge,
    },
}

impl Rule {
    /// Prepares a rule.
    pub(crate) fn new(parts: RuleParts) -> Self {
        let reply = &parts.reply;
        let tests = parts.tests.iter().map(|test| match test {
            Test::Equal(from, _) | Test::Present(from) | Test::Absent(from) => from,
        });
        let templates = parts.checks.iter().flat_map(Equality::templates);
        let templates = templates.chain(reply.headers.iter().map(|(_, template)| template));
        let templates = templates.chain(reply.compute.iter().map(|(.., template)| template));
        let confirmed = parts.confirm.as_ref().map(|(url, _)| url);
        let templates = templates.chain(&reply.body).chain(&parts.report).chain(confirmed);
        let values = templates.flat_map(Template::values).chain(&parts.capture);
        let sought = Sought::new(tests.chain(values.map(|value| &value.from)), None);
        let clue = parts.tests.iter().flat_map(clues).max_by_key(|clue| clue.len());
        let clue = clue.unwrap_or_default().to_owned();
        Self { parts, sought, clue }
    }

    /// Whether requests with this method can be its challenge.
    pub(crate) fn takes(&self, method: &Method) -> bool {
        self.parts.methods.contains(method)
    }

    /// What `request` is to it, where it is this challenge.
    pub(super) fn meet(&self, request: &Envelope, with: &With<'_>) -> Option<Met> {
        let (body, parts) = (request.body(), &self.parts);
        if !self.takes(request.method()) || body.len() > CHALLENGE_BYTES_MAX {
            return None;
        }
        if self.sought.in_body && memmem::find(body, self.clue.as_bytes()).is_none() {
            return None;
        }
        let saying = Saying {
            view: View::new(Presented::of(request, with.url), &self.sought),
            url: with.url,
            echo: parts.reply.echo,
            computed: Vec::new(),
        };
        if !parts.tests.iter().all(|test| saying.holds(test)) {
            return None;
        }
        if !parts.checks.iter().all(|check| check.holds(&saying.view, &[])) {
            return Some(Met::Refused);
        }
        let secret = match &parts.capture {
            Some(value) => Some(saying.echoed(value)?.into_bytes()),
            None => None,
        };
        let url = parts.confirm.as_ref().map(|(url, rule)| {
            let url = url.text(&saying.view, &[]).ok()?;
            rule.allowed(std::str::from_utf8(&url).ok()?)
        });
        let challenge = self.challenge(saying, with, request.received_at())?;
        Some(match (secret, url) {
            (Some(secret), _) => Met::Capture { secret, challenge },
            (None, Some(url)) => Met::Confirm { url, challenge },
            (None, None) => Met::Answered(challenge),
        })
    }

    /// The reply; `None` where something of it is not there, or says more than it may.
    fn challenge<'a>(
        &'a self,
        mut saying: Saying<'a>,
        with: &With<'_>,
        now: Timestamp,
    ) -> Option<Challenge> {
        let reply = &self.parts.reply;
        for (name, function, template) in &reply.compute {
            let text = saying.text(template)?;
            // What is signed is bounded itself: a transform may have made anything of what was.
            if function.uses_secret() && !reply.echo.allows(text.as_bytes()) {
                return None;
            }
            let value = compute(*function, text.as_bytes(), with, now)?;
            saying.computed.push((name, value));
        }
        let mut headers = Vec::new();
        for (name, template) in &reply.headers {
            // What was not asked for is not answered.
            if saying.lacks(template) {
                continue;
            }
            headers.push((name.clone(), HeaderValue::from_str(&saying.text(template)?).ok()?));
        }
        let body = match &reply.body {
            Some(template) => saying.text(template)?,
            None => String::new(),
        };
        let is_plain = body.len() <= REPLY_BYTES_MAX && !body.bytes().any(|b| b.is_ascii_control());
        let report = self.parts.report.as_ref().and_then(|template| saying.reported(template));
        is_plain.then(|| Challenge {
            status: reply.status,
            content_type: reply.content_type.clone(),
            headers,
            body: body.into(),
            report,
        })
    }

    /// Whether it asks for a subscription to be confirmed.
    pub(crate) fn confirms(&self) -> bool {
        self.parts.confirm.is_some()
    }

    /// Whether it brings a secret.
    pub(crate) fn captures(&self) -> bool {
        self.parts.capture.is_some()
    }

    /// The characters and the length of texts that whoever asks gets signed, where the secret is used.
    pub(crate) fn signs(&self) -> Option<Echo> {
        let mut computed = self.parts.reply.compute.iter();
        computed.any(|(_, function, _)| function.uses_secret()).then_some(self.parts.reply.echo)
    }
}

/// Whether a text is one that whoever asks gets signed.
pub(super) fn is_signed_for_anybody(text: &[u8], echo: Echo) -> bool {
    echo.allows(text)
}

/// Runs of plain characters that the body of a challenge must hold: they stand in it as they are, unless somebody escapes
/// what needs no escaping, and then it is no challenge.
fn clues(test: &Test) -> Vec<&str> {
    let is_plain = |c: char| c.is_ascii() && Charset::Plain.has(c as u8);
    let runs = |text| str::split(text, move |c| !is_plain(c));
    match test {
        Test::Equal(From::Json(path), value) => {
            last_key(path).into_iter().chain([value.as_str()]).flat_map(runs).collect()
        }
        Test::Present(From::Json(path)) => last_key(path).into_iter().flat_map(runs).collect(),
        Test::Present(From::Form(name)) => runs(name.as_str()).collect(),
        _ => Vec::new(),
    }
}

fn last_key(path: &Path) -> Option<&str> {
    path.steps().iter().rev().find_map(|step| match step {
        crate::json::Step::Key(key) => Some(key.as_str()),
        crate::json::Step::Index(_) | crate::json::Step::Each | crate::json::Step::FirstKey(_) => {
            None
        }
    })
}

/// A request, and what may be said about it.
struct Saying<'a> {
    view: View<'a>,
    url: &'a str,
    echo: Echo,
    computed: Vec<(&'a String, String)>,
}

impl Saying<'_> {
    fn holds(&self, test: &Test) -> bool {
        match test {
            Test::Equal(from, value) => {
                self.view.find(from, &[]).is_ok_and(|found| *found == *value.as_bytes())
            }
            Test::Present(from) => self.is_there(from),
            Test::Absent(from) => !self.is_there(from),
        }
    }

    /// Whether something stands there, of whatever kind.
    fn is_there(&self, from: &From) -> bool {
        match from {
            From::Json(_) => self.view.scalar(from).is_ok_and(|found| found.is_some()),
            _ => self.view.find(from, &[]).is_ok(),
        }
    }

    fn lacks(&self, template: &Template) -> bool {
        template
            .values()
            .any(|value| !matches!(value.from, From::Variable(_)) && !self.is_there(&value.from))
    }

    /// A template in which everything that a stranger says is bounded.
    fn text(&self, template: &Template) -> Option<String> {
        let part = |part: &Part| match part {
            Part::Literal(text) => Some(text.clone()),
            Part::Value(value) => self.value(value),
        };
        template.parts.iter().map(part).collect()
    }

    fn value(&self, value: &Value) -> Option<String> {
        match &value.from {
            From::Variable(name) => {
                let named = self.computed.iter().find(|(known, _)| *known == name);
                named.map(|(_, value)| value.clone())
            }
            // The one that is configured, but for its query.
            From::Url => Some(self.url.to_owned()),
            _ => self.echoed(value),
        }
    }

    /// A value that is there and within bounds.
    fn echoed(&self, value: &Value) -> Option<String> {
        if !matches!(value.from, From::Json(_) | From::Header(_) | From::Query(_) | From::Form(_)) {
            return None;
        }
        let found = self.view.find(&value.from, &[]);
        if found.as_ref().is_ok_and(|text| !self.echo.allows(text)) {
            return None;
        }
        String::from_utf8(transform(found, &value.transforms).ok()?.into_owned()).ok()
    }

    /// What the operator is told: bounded, and nothing that a terminal would act on.
    fn reported(&self, template: &Template) -> Option<String> {
        let text = String::from_utf8(template.text(&self.view, &[]).ok()?.into_owned()).ok()?;
        let is_plain = text.len() <= REPORT_BYTES_MAX && text.bytes().all(|b| b.is_ascii_graphic());
        is_plain.then_some(text)
    }
}

/// Length of what the operator is told.
const REPORT_BYTES_MAX: usize = 2048;

fn compute(function: Function, text: &[u8], with: &With<'_>, now: Timestamp) -> Option<String> {
    let tag = || with.verifier.tag_of(with.slot, text, now);
    match function {
        Function::HmacHex => Some(hex::encode(tag()?)),
        Function::HmacBase64 => Some(STANDARD.encode(tag()?)),
        Function::Sha256Hex => Some(Digest::of(text).to_string()),
    }
}
