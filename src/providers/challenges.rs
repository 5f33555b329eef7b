//! A provider's challenges: as they are written (`handshake:`), and to what the stages run.

use std::collections::BTreeMap;

use http::{HeaderName, HeaderValue, Method, StatusCode, header};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    compile::{Problems, Reported},
    shape::{ONE_OF, OneOrMany, Requirement},
};
use crate::{
    handshake::{Echo, Function, Guard, Reply, Rule, RuleParts, Test},
    units::sections,
    verify::{Equality, From, Part, Scheme, Template},
};

sections! {
    /// A provider's challenge and the exact reply.
    #[serde(deny_unknown_fields)]
    pub struct HandshakeRule {
        /// What makes a request this challenge.
        pub(crate) when: ChallengeShape,
        /// Whether its signature is checked first, as that of an event is.
        pub(crate) verify: bool,
        /// Equalities that must hold besides, compared in constant time; a request that fails one is refused.
        pub(crate) check: Vec<Requirement>,
        /// What becomes the source's secret, while the operator waits for it: `{header:X-Hook-Secret}`.
        pub(crate) capture: Option<String>,
        /// What the operator is told in the log and on record: `{json:SubscribeURL}`.
        pub(crate) report: Option<String>,
        /// What is answered.
        pub(crate) reply: ReplyShape,
    }

    /// What makes a request a challenge: all of it must hold.
    #[serde(deny_unknown_fields)]
    pub(crate) struct ChallengeShape {
        /// Its method: `GET`, `HEAD`, `OPTIONS`, or the default, `POST`.
        pub(crate) method: Option<OneOrMany<MethodName>>,
        /// Headers that are present.
        pub(crate) header: Option<OneOrMany<String>>,
        /// Headers that are equal: `{ X-Event-Type: challenge }`.
        pub(crate) header_equals: BTreeMap<String, String>,
        /// Parameters of the query that are present.
        pub(crate) query: Option<OneOrMany<String>>,
        /// Parameters of the query that are equal.
        pub(crate) query_equals: BTreeMap<String, String>,
        /// Fields of a form that are present.
        pub(crate) form: Option<OneOrMany<String>>,
        /// JSON values that are equal: `{ type: url_verification }`.
        pub(crate) json: BTreeMap<String, String>,
        /// JSON paths where something stands.
        pub(crate) json_present: Option<OneOrMany<String>>,
        /// JSON paths where nothing stands: `events[0]` for an empty list.
        pub(crate) json_absent: Option<OneOrMany<String>>,
    }

    /// What is answered. What a stranger says is put in only as `echo` allows.
    #[serde(deny_unknown_fields)]
    pub(crate) struct ReplyShape {
        /// Default: 200.
        pub(crate) status: Option<u16>,
        /// Default: `text/plain; charset=utf-8` where there is a body.
        pub(crate) content_type: Option<String>,
        /// Headers, as templates; one whose value was not in the request is left out.
        pub(crate) headers: BTreeMap<String, String>,
        /// Values that are computed, by the name under which `body` and `headers` know them: `{ response: { hmac_hex: "{query:token}" } }`.
        pub(crate) compute: BTreeMap<String, BTreeMap<Function, String>>,
        /// A template: `{json:challenge}`. Default: empty.
        pub(crate) body: Option<String>,
        /// Characters and length of what is put in. Default: at most 256 of `A-Za-z0-9._~-`.
        pub(crate) echo: Echo,
    }
}

/// A method that a challenge may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum MethodName {
    Post,
    Get,
    Head,
    Options,
}

/// What compiling gives.
#[derive(Default)]
pub(super) struct Challenges {
    pub(super) rules: Vec<Rule>,
    pub(super) guards: Vec<Guard>,
    /// What a source must say about itself for all of its provider's challenges to be answered.
    pub(super) missing: Vec<String>,
}

/// Compiles challenges, and what keeps those that sign from signing events.
pub(super) fn compile(
    rules: &[HandshakeRule],
    schemes: &[Scheme],
    params: &BTreeMap<String, String>,
    problems: &mut Problems,
) -> Challenges {
    let mut all = Challenges::default();
    for (index, rule) in rules.iter().enumerate() {
        problems.asked.extend(rule.params().map(str::to_owned));
        let unknown = |name: &&str| !params.contains_key(*name);
        let missing: Vec<_> = rule.params().filter(unknown).map(str::to_owned).collect();
        if !missing.is_empty() {
            all.missing.extend(missing);
            continue;
        }
        let path = format!("handshake[{index}]");
        let mut block = Block { rule, path, params, problems: &mut *problems };
        let Ok(rule) = block.rule() else { continue };
        if let Some(echo) = rule.signs() {
            block.guards(schemes, echo, &mut all.guards);
        }
        all.rules.push(rule);
    }
    all
}

impl HandshakeRule {
    /// Names in every `{param:NAME}` of it.
    fn params(&self) -> impl Iterator<Item = &str> {
        let checks = self.check.iter();
        let sides = checks.flat_map(|c| [Some(&c.left), c.right.as_ref(), c.one_of.as_ref()]);
        let reply = &self.reply;
        let computed = reply.compute.values().flat_map(BTreeMap::values);
        let texts = sides.flatten().chain(&self.capture).chain(&self.report);
        let texts = texts.chain(reply.headers.values()).chain(computed).chain(&reply.body);
        texts.flat_map(|text| text.split(PARAM).skip(1).filter_map(|rest| rest.split('}').next()))
    }
}

/// What a source says about itself, in a template.
const PARAM: &str = "{param:";

/// One rule, and what is wrong with it.
struct Block<'a> {
    rule: &'a HandshakeRule,
    path: String,
    params: &'a BTreeMap<String, String>,
    problems: &'a mut Problems,
}

impl Block<'_> {
    /// Every part, each looked at before the first that is wrong ends it.
    fn rule(&mut self) -> Result<Rule, Reported> {
        let rule = self.rule;
        let methods = self.methods();
        let tests = self.tests();
        if tests.as_ref().is_ok_and(Vec::is_empty) && methods.contains(&Method::POST) {
            let help = "write it like `json: { type: url_verification }`";
            self.add("when", "no condition, so every event would be one", help);
        }
        let checks: Vec<_> = rule.check.iter().enumerate().map(|(i, c)| self.check(i, c)).collect();
        let capture = self.capture();
        let report = rule.report.as_ref().map(|text| self.template("report", text)).transpose();
        if rule.report.is_some() && !rule.verify {
            self.add("report", "anybody could fill the log with it", "write `verify: true`");
        }
        let reply = self.reply();
        Ok(Rule::new(RuleParts {
            methods,
            tests: tests?,
            verify: rule.verify,
            checks: checks.into_iter().collect::<Result<_, _>>()?,
            capture: capture?,
            report: report?,
            reply: reply?,
        }))
    }

    fn add(&mut self, place: &str, message: impl Into<String>, help: &str) -> Reported {
        self.problems.add(format!("{}.{place}", self.path), message, help)
    }

    fn methods(&mut self) -> Vec<Method> {
        let Some(names) = &self.rule.when.method else { return vec![Method::POST] };
        let method = |name: &MethodName| match name {
            MethodName::Post => Method::POST,
            MethodName::Get => Method::GET,
            MethodName::Head => Method::HEAD,
            MethodName::Options => Method::OPTIONS,
        };
        if self.rule.verify && names.as_slice().iter().any(|name| *name != MethodName::Post) {
            self.add("verify", "only a POST is verified", "write `verify: false`");
        }
        names.as_slice().iter().map(method).collect()
    }

    fn tests(&mut self) -> Result<Vec<Test>, Reported> {
        let when = &self.rule.when;
        let each = |names: &'_ Option<OneOrMany<String>>| -> Vec<String> {
            names.as_ref().map(|names| names.as_slice().to_vec()).unwrap_or_default()
        };
        let mut tests = Vec::new();
        for (name, text) in &when.header_equals {
            tests.push(Test::Equal(self.header("when.header_equals", name)?, text.clone()));
        }
        for name in each(&when.header) {
            tests.push(Test::Present(self.header("when.header", &name)?));
        }
        let query = when.query_equals.iter();
        tests
            .extend(query.map(|(name, text)| Test::Equal(From::Query(name.clone()), text.clone())));
        tests.extend(each(&when.query).into_iter().map(|name| Test::Present(From::Query(name))));
        tests.extend(each(&when.form).into_iter().map(|name| Test::Present(From::Form(name))));
        for (path, text) in &when.json {
            tests.push(Test::Equal(self.json("when.json", path)?, text.clone()));
        }
        for path in each(&when.json_present) {
            tests.push(Test::Present(self.json("when.json_present", &path)?));
        }
        for path in each(&when.json_absent) {
            tests.push(Test::Absent(self.json("when.json_absent", &path)?));
        }
        Ok(tests)
    }

    fn header(&mut self, place: &str, name: &str) -> Result<From, Reported> {
        self.problems.header(&format!("{}.{place}", self.path), name).map(From::Header)
    }

    fn json(&mut self, place: &str, path: &str) -> Result<From, Reported> {
        self.problems.path(&format!("{}.{place}", self.path), path).map(From::Json)
    }

    fn check(&mut self, index: usize, check: &Requirement) -> Result<Equality, Reported> {
        let place = format!("check[{index}]");
        let (key, right) = check.other().map_err(|[wrong, help]| self.add(&place, wrong, help))?;
        let left = self.template(&format!("{place}.left"), &check.left);
        let right = self.template(&format!("{place}.{key}"), right);
        Ok(Equality { left: left?, right: right?, one_of: key == ONE_OF })
    }

    fn capture(&mut self) -> Result<Option<crate::verify::Value>, Reported> {
        let Some(text) = &self.rule.capture else { return Ok(None) };
        let template = self.template("capture", text)?;
        let Some(value) = template.sole_value() else {
            return Err(self.add("capture", "is not one value", "write it like `{json:token}`"));
        };
        Ok(Some(value.clone()))
    }

    fn reply(&mut self) -> Result<Reply, Reported> {
        let reply = &self.rule.reply;
        let status = StatusCode::from_u16(reply.status.unwrap_or(200)).ok();
        let status = status.filter(StatusCode::is_success);
        let status = status.ok_or_else(|| self.add("reply.status", "not a success", "use 200"));
        let content_type = self.content_type();
        let headers: Vec<_> =
            reply.headers.iter().map(|(name, text)| self.reply_header(name, text)).collect();
        let compute: Vec<_> =
            reply.compute.iter().map(|(name, how)| self.compute(name, how)).collect();
        let body =
            reply.body.as_ref().map(|text| self.any_template("reply.body", text)).transpose();
        Ok(Reply {
            status: status?,
            content_type: content_type?,
            headers: headers.into_iter().collect::<Result<_, _>>()?,
            compute: compute.into_iter().collect::<Result<_, _>>()?,
            body: body?,
            echo: reply.echo,
        })
    }

    fn content_type(&mut self) -> Result<Option<HeaderValue>, Reported> {
        let reply = &self.rule.reply;
        let default = reply.body.as_ref().map(|_| "text/plain; charset=utf-8");
        let Some(text) = reply.content_type.as_deref().or(default) else { return Ok(None) };
        if text.to_ascii_lowercase().contains("html") {
            let help = "what a stranger says could be shown as a page; use `text/plain`";
            return Err(self.add(
                "reply.content_type",
                "no challenge is answered with a page",
                help,
            ));
        }
        HeaderValue::from_str(text).map(Some).map_err(|_| {
            self.add("reply.content_type", "not a header value", "write it like `text/plain`")
        })
    }

    fn reply_header(&mut self, name: &str, text: &str) -> Result<(HeaderName, Template), Reported> {
        let place = format!("reply.headers.{name}");
        let header = self.problems.header(&format!("{}.{place}", self.path), name)?;
        let ours =
            [header::CONTENT_TYPE, header::CONTENT_LENGTH, header::LOCATION, header::SET_COOKIE];
        if ours.contains(&header) {
            return Err(self.add(&place, "is not for a challenge to set", "leave it out"));
        }
        Ok((header, self.any_template(&place, text)?))
    }

    fn compute(
        &mut self,
        name: &str,
        how: &BTreeMap<Function, String>,
    ) -> Result<(String, Function, Template), Reported> {
        let place = format!("reply.compute.{name}");
        let mut functions = how.iter();
        let (Some((function, text)), None) = (functions.next(), functions.next()) else {
            let help = "write it like `{ hmac_hex: \"{query:token}\" }`";
            return Err(self.add(&place, "needs one function", help));
        };
        let template = self.template(&place, text)?;
        if *function != Function::Sha256Hex && template.sole_value().is_none() {
            let help = "then what may be asked for is known: `{ hmac_hex: \"{query:token}\" }`";
            return Err(self.add(&place, "one value is signed, and nothing around it", help));
        }
        Ok((name.to_owned(), *function, template))
    }

    /// What a responder signs must never be what the scheme signs, or whoever asks it gets events signed. Either the signed text
    /// holds a literal that no answer can hold; or it is looked at, once the signature held.
    fn guards(&mut self, schemes: &[Scheme], echo: Echo, guards: &mut Vec<Guard>) {
        for signed in schemes.iter().flat_map(|scheme| &scheme.parts.signed) {
            let apart = |part: &Part| match part {
                Part::Literal(text) => !text.bytes().all(|byte| echo.charset.has(byte)),
                Part::Value(_) => false,
            };
            if signed.parts.iter().any(apart) {
                continue;
            }
            if signed.values().any(|value| matches!(value.from, From::Variable(_))) {
                let help = "narrow `reply.echo`, so that no answer is a text that the scheme signs";
                self.add("reply.compute", "whoever asks could have events signed", help);
            }
            guards.push(Guard::new(signed.clone(), echo));
        }
    }

    /// A template in which nothing stands for a computed value.
    fn template(&mut self, place: &str, text: &str) -> Result<Template, Reported> {
        let text = self.with_params(text);
        self.problems.template(&format!("{}.{place}", self.path), &text)
    }

    /// A template of the reply: variables are what was computed.
    fn any_template(&mut self, place: &str, text: &str) -> Result<Template, Reported> {
        let text = self.with_params(text);
        let template = self.problems.any_template(&format!("{}.{place}", self.path), &text)?;
        let computed = &self.rule.reply.compute;
        let unknown = template.values().find_map(|value| match &value.from {
            From::Variable(name) if !computed.contains_key(name) => Some(name.clone()),
            _ => None,
        });
        match unknown {
            Some(name) => {
                let message = format!("`{{{name}}}` stands for nothing");
                Err(self.add(place, message, "compute it under `reply.compute`"))
            }
            None => Ok(template),
        }
    }

    /// The text with what the source says about itself in place of `{param:NAME}`.
    fn with_params(&self, text: &str) -> String {
        let mut pieces = text.split(PARAM);
        let mut whole = pieces.next().unwrap_or_default().to_owned();
        for piece in pieces {
            let (name, rest) = piece.split_once('}').unwrap_or((piece, ""));
            let value = self.params.get(name).map_or("", String::as_str);
            whole.push_str(&value.replace('{', "{{").replace('}', "}}"));
            whole.push_str(rest);
        }
        whole
    }
}
