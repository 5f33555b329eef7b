//! Names of events. An input is the body of a request whose signature holds.
//!
//! An id is what `serde_json` and a reader that keeps every key find at its place, or there is none: where a key on the way
//! comes twice, where the value is of another type, where text could be read in two ways.

use std::sync::{Arc, LazyLock, Mutex};

use bytes::Bytes;
use gatepost::{
    answer::{Answer, Outcome, Refusal, Relayed},
    event::{EventId, Name, Peer, Receipt, Timestamp},
    identify::{Event, Identify, Plan},
    providers::{self, Options, shape},
    receive::{Accepts, Budget, Inbound, Receive},
    secret::Secret,
    stack::Stack,
    stage::StageExt as _,
    telemetry::Metrics,
    verify::{LiveSecret, Presented, Verifier, Verify},
};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use http_body_util::Full;
use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use tower::{ServiceBuilder, ServiceExt as _, service_fn, util::BoxCloneSyncService};

use super::{Finding, ensure};

const NOW: i64 = 1_760_000_000;
const URL: &str = "https://hooks.example.com/x";
const COVERING: &str = "verify: { signature: { header: X-Signature }, signed: '{body}' }\n";
/// Deeper documents are read by the product and not by the reader that keeps every key.
const DEPTH_MAX: usize = 100;

/// How a source names its events, and where a reader looks for the same.
#[derive(Debug)]
pub struct Naming {
    event: &'static str,
    id: &'static [&'static str],
    id_is_integer: bool,
    account: &'static [&'static str],
    content_type: Option<&'static str>,
}

pub const NAMINGS: [Naming; 3] = [
    Naming {
        event: "event: { id: '{json:id}', type: t, account: '{json:data.object.account}' }",
        id: &["id"],
        id_is_integer: false,
        account: &["data", "object", "account"],
        content_type: Some("application/json"),
    },
    Naming {
        event: "event: { id: '{json:data.id}', type: t, account: '{json:id}', id_json: integer, items: 'list[*]' }",
        id: &["data", "id"],
        id_is_integer: true,
        account: &["id"],
        content_type: None,
    },
    Naming {
        event: "event: { id: '{json:\"a.b\"}', type: t, account: '{json:data.id}' }",
        id: &["a.b"],
        id_is_integer: false,
        account: &["data", "id"],
        content_type: Some("application/cloudevents+json; charset=utf-8"),
    },
];

/// Id and account, or nothing where the event has no name.
pub type Names = Option<(String, Option<String>)>;

/// Names a body. The number is that of the naming.
pub type Judgement<'j> = &'j dyn Fn(usize, &[u8]) -> Names;

/// Tries the stages up to the name.
pub fn check(data: &[u8]) -> Finding {
    judge(data, &by_product)
}

/// Tries anything that names.
pub fn judge(data: &[u8], name: Judgement<'_>) -> Finding {
    let read = Reading::of(data);
    for (number, naming) in NAMINGS.iter().enumerate() {
        let (found, there) = (name(number, data), read.names(naming, data));
        let told = || format!("{found:?}, where there is {there:?}: {}", naming.event);
        match &there {
            Expected::Names(names) => ensure(found == *names, told)?,
            Expected::Unknown => {}
        }
    }
    Ok(())
}

/// What the product says.
pub fn by_product(number: usize, body: &[u8]) -> Names {
    let naming = &FLOWS[number];
    naming.event(Bytes::copy_from_slice(body)).ok().map(|event| {
        let about = event.about();
        let account = about.account.as_ref().map(|account| account.as_str().to_owned());
        (about.id.as_str().to_owned(), account)
    })
}

/// What another reader finds.
#[derive(Debug)]
enum Expected {
    Names(Names),
    /// It is too deep for that reader.
    Unknown,
}

#[derive(Debug)]
struct Reading {
    is_json: bool,
    /// `serde_json`'s own tree, and one that keeps every key.
    trees: Option<(serde_json::Value, Tree)>,
}

impl Reading {
    fn of(data: &[u8]) -> Self {
        let text = std::str::from_utf8(data).ok();
        let is_json = text.is_some_and(|text| serde_json::from_str::<IgnoredAny>(text).is_ok());
        let shallow = depth(data) < DEPTH_MAX;
        let text = text.filter(|_| is_json && shallow);
        let trees = text.and_then(|text| {
            let tree = serde_json::from_str(text).ok()?;
            Some((serde_json::from_str(text).ok()?, tree))
        });
        Self { is_json, trees }
    }

    fn names(&self, naming: &Naming, data: &[u8]) -> Expected {
        if !self.is_json || naming.content_type.is_none() && !begins_like_json(data) {
            return Expected::Names(None);
        }
        let Some((value, tree)) = &self.trees else { return Expected::Unknown };
        Expected::Names((|| {
            let id = tree.at(naming.id).ok()?;
            let account = tree.at(naming.account).ok()?;
            // Where no key comes twice, both readers see one value.
            let same = |path: &[&str], seen: Option<&Tree>| {
                let there = path.iter().try_fold(value, |value, key| value.as_object()?.get(*key));
                there.and_then(serde_json::Value::as_str) == seen.and_then(Tree::text)
            };
            (same(naming.id, id) && same(naming.account, account)).then_some(())?;
            let id = match id? {
                Tree::Text(text) if !naming.id_is_integer => text.clone(),
                Tree::Integer(number) if naming.id_is_integer => number.to_string(),
                _ => return None,
            };
            let account = match account {
                None | Some(Tree::Null) => None,
                Some(Tree::Text(text)) => Some(text.clone()),
                Some(Tree::Integer(number)) => Some(number.to_string()),
                Some(_) => return None,
            };
            let fits = |text: &String| EventId::parse(text).is_some();
            (fits(&id) && account.as_ref().is_none_or(fits)).then_some((id, account))
        })())
    }
}

fn begins_like_json(data: &[u8]) -> bool {
    matches!(data.trim_ascii_start().first(), Some(b'{' | b'['))
}

/// How deep brackets are nested at the most, those in strings among them.
fn depth(data: &[u8]) -> usize {
    let (mut depth, mut most) = (0_usize, 0);
    for byte in data {
        match byte {
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        most = most.max(depth);
    }
    most
}

/// A document with every key that it has, as often as it has it.
#[derive(Debug)]
enum Tree {
    Null,
    Text(String),
    Integer(i128),
    Other,
    List,
    Map(Vec<(String, Self)>),
}

impl Tree {
    /// What stands at a path; an error where a key on the way comes twice.
    fn at(&self, path: &[&str]) -> Result<Option<&Self>, ()> {
        let mut tree = self;
        for key in path {
            let Self::Map(entries) = tree else { return Ok(None) };
            let mut named = entries.iter().filter(|(known, _)| known == key);
            tree = match (named.next(), named.next()) {
                (None, _) => return Ok(None),
                (Some((_, value)), None) => value,
                (Some(_), Some(_)) => return Err(()),
            };
        }
        Ok(Some(tree))
    }

    fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Planter)
    }
}

struct Planter;

impl<'de> Visitor<'de> for Planter {
    type Value = Tree;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Tree, E> {
        Ok(Tree::Null)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Tree, E> {
        Ok(Tree::Other)
    }

    fn visit_i64<E>(self, number: i64) -> Result<Tree, E> {
        Ok(Tree::Integer(number.into()))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Tree, E> {
        Ok(Tree::Integer(number.into()))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Tree, E> {
        Ok(Tree::Other)
    }

    fn visit_str<E>(self, text: &str) -> Result<Tree, E> {
        Ok(Tree::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Tree, A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Tree::List)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Tree, A::Error> {
        let mut found = Vec::new();
        while let Some(entry) = entries.next_entry()? {
            found.push(entry);
        }
        Ok(Tree::Map(found))
    }
}

/// A source's stages up to the name.
struct Flow {
    verifier: Arc<Verifier>,
    plan: Arc<Plan>,
    metrics: Metrics,
    content_type: Option<&'static str>,
}

static FLOWS: LazyLock<Vec<Flow>> = LazyLock::new(|| NAMINGS.iter().map(Flow::of).collect());

#[derive(Deserialize)]
struct Source {
    verify: shape::Verify,
    event: shape::EventFields,
}

impl Flow {
    fn of(naming: &Naming) -> Self {
        let source = format!("{COVERING}{}", naming.event);
        let source: Source = serde_yaml::from_str(&source).expect("YAML");
        let compiled = providers::compile(&source.verify, &source.event, &[], &Options::default());
        let compiled = compiled.expect("a good source");
        let live = LiveSecret {
            secret: Secret::new("a secret of sixteen bytes"),
            expires: None,
            id: None,
        };
        Self {
            verifier: Arc::new(Verifier::new(compiled.schemes, vec![live], URL).expect("it fits")),
            plan: Arc::new(compiled.identify),
            metrics: Metrics::new(),
            content_type: naming.content_type,
        }
    }

    /// The event that a body is, behind a good signature.
    fn event(&self, body: Bytes) -> Result<Arc<Event>, Refusal> {
        let mut headers = HeaderMap::new();
        let content_type = self.content_type.map(HeaderValue::from_static);
        headers.extend(content_type.map(|value| (header::CONTENT_TYPE, value)));
        let received_at = Timestamp::from_millis(NOW * 1000);
        let (method, url, target) = ("POST", URL, "/x");
        let presented =
            Presented { method, url, target, headers: &headers, body: &body, received_at };
        headers.extend(self.verifier.sign(&presented).expect("signed"));
        let mut request = http::Request::post("/x").body(Full::new(body)).expect("a request");
        *request.headers_mut() = headers;
        let peer = Peer { ip: std::net::Ipv4Addr::LOCALHOST.into(), https: true };
        let receipt = Receipt::from_bytes([0; 16]);
        let inbound = Inbound { request, peer, receipt, received_at, place: None };
        let named = Arc::new(Mutex::new(None));
        thread_local! {
            static RUNTIME: tokio::runtime::Runtime =
                tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        }
        let stack = self.stack(Arc::clone(&named));
        let answer = RUNTIME.with(|runtime| runtime.block_on(stack.oneshot(inbound)));
        answer.map_err(|refused| refused.what)?;
        Ok(named.lock().expect("one thread").take().expect("it was named"))
    }

    fn stack(&self, named: Arc<Mutex<Option<Arc<Event>>>>) -> Stack<Full<Bytes>> {
        let metrics = Arc::new(self.metrics.source("shop", "proxy", 1));
        let accepts = Accepts {
            source: Name::parse("shop").expect("a name"),
            methods: Vec::new(),
            body_bytes_max: 1 << 20,
            body_timeout: std::time::Duration::from_secs(10),
            body_rate_min: 0,
            allow_encoded: true,
            allow_ips: Vec::new(),
            hide_paths: false,
            memory: Budget::new("body_memory", 1 << 30),
            lengths: metrics.body.clone(),
        };
        let stack = ServiceBuilder::new()
            .stage(Receive(Arc::new(accepts)))
            .stage(Verify {
                keyring: None,
                verifier: Arc::clone(&self.verifier),
                url: URL.into(),
                metrics,
                shadow: None,
            })
            .stage(Identify { plan: Arc::clone(&self.plan) })
            .service(service_fn(move |event: Event| {
                *named.lock().expect("one thread") = Some(Arc::new(event));
                std::future::ready(accepted())
            }));
        BoxCloneSyncService::new(stack)
    }
}

fn accepted() -> Answer {
    let (status, body) = (StatusCode::OK, Bytes::new());
    Ok(Outcome::Accepted(Relayed { status, content_type: None, body, full: false }).into())
}
