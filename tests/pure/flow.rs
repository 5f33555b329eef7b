//! The pure half of a source's stack, in its order, from a request to the route that takes it.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use gatepost::{
    answer::{Answer, Outcome, Refusal, Relayed},
    event::{Name, Peer, Receipt, Timestamp},
    fetch::Documents,
    handshake::{Challenges, Signed, Unsigned},
    identify::{Event, Identify, Plan},
    providers::Compiled,
    receive::{Accepts, Budget, Inbound, Receive},
    route::{Choose, Patterns, Route, Routed, Routes, Shadow, ShadowRoute, Target},
    secret::Secret,
    stack::Stack,
    stage::StageExt as _,
    telemetry::Metrics,
    verify::{Keyring, Presented, TestKey, Verifier, Verify},
};
use http::{HeaderMap, StatusCode};
use http_body::Body;
use http_body_util::Full;
use tower::{ServiceBuilder, ServiceExt as _, service_fn, util::BoxCloneSyncService};

use crate::{
    foreign::Own,
    source::{Source, URL, compile, headers, presented, verifier},
};

pub(crate) const NOW: i64 = 1_700_000_000;
pub(crate) const SECRET: &str = "a secret of sixteen bytes and more";

/// One source: what its stack is made of, and what came out of it.
pub(crate) struct Flow {
    pub(crate) metrics: Metrics,
    name: Name,
    verifier: Arc<Verifier>,
    /// Signs, where the scheme's secret is not one that both sides know.
    key: Option<TestKey>,
    /// Keys that are fetched.
    keyring: Option<Arc<Keyring>>,
    challenges: Arc<Challenges>,
    plan: Arc<Plan>,
    routes: Arc<Routes>,
    enforce: bool,
    routed: Arc<Mutex<Vec<Routed>>>,
    shadowed: Arc<Mutex<Vec<Shadow>>>,
}

/// A signature over the whole body, in front of what the YAML says about names and challenges.
pub(crate) const COVERING: &str =
    "verify: { signature: { header: X-Signature }, signed: '{body}' }\n";

impl Flow {
    /// A source that is described in YAML; every event goes to `app`.
    pub(crate) fn new(yaml: &str) -> Self {
        Self::capturing(yaml, &[])
    }

    /// The same, where routes look at JSON paths.
    pub(crate) fn capturing(yaml: &str, captures: &[&str]) -> Self {
        Self::with(yaml, captures, SECRET)
    }

    /// The same with another secret.
    pub(crate) fn keyed(yaml: &str, secret: &str) -> Self {
        Self::with(yaml, &[], secret)
    }

    fn with(yaml: &str, captures: &[&str], secret: &str) -> Self {
        let compiled = compile(&Source::parse(yaml), captures).expect("a good source");
        Self::of(compiled, &[secret])
    }

    /// A source that was compiled already.
    pub(crate) fn of(compiled: Compiled, secrets: &[&str]) -> Self {
        let verifier = verifier(compiled.clone(), secrets).expect("a good secret");
        Self::knowing(compiled, verifier, None)
    }

    /// The same, with this secret, or with a key of our own where its requests are signed with one.
    pub(crate) fn own(compiled: Compiled, secret: &str) -> Self {
        if let Ok(verifier) = verifier(compiled.clone(), &[secret]) {
            return Self::knowing(compiled, verifier, None);
        }
        let Own { key, verifier, .. } = Own::of(&compiled);
        Self::knowing(compiled, verifier, Some(key))
    }

    /// Sends requests one after the other; what each was told.
    pub(crate) fn post_all(
        &self,
        requests: impl IntoIterator<Item = (HeaderMap, Vec<u8>)>,
    ) -> Vec<Answer> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let stack = self.stack();
        let ask = |(headers, body): (_, Vec<u8>)| {
            let inbound = Self::inbound(headers, Full::new(Bytes::from(body)));
            runtime.block_on(stack.clone().oneshot(inbound))
        };
        requests.into_iter().map(ask).collect()
    }

    fn knowing(compiled: Compiled, verifier: Verifier, key: Option<TestKey>) -> Self {
        let (plan, rules) = (compiled.identify, compiled.handshakes);
        let (guards, verifier) = (compiled.guards, Arc::new(verifier));
        let metrics = Metrics::new();
        let name = Name::parse("shop").unwrap();
        let challenges = Challenges {
            rules,
            guards,
            verifier: Arc::clone(&verifier),
            url: URL.into(),
            captures: None,
            confirmer: None,
            hide_paths: false,
            metrics: Arc::new(metrics.source(name.as_str(), "proxy", 1)),
        };
        Self {
            metrics,
            name,
            verifier,
            key,
            keyring: None,
            challenges: Arc::new(challenges),
            plan: Arc::new(plan),
            routes: Arc::new(Routes::new(vec![route("app", &["*"], Some("app"))], false)),
            enforce: true,
            routed: Arc::default(),
            shadowed: Arc::default(),
        }
    }

    pub(crate) fn routes(self, routes: Vec<Route>, reject_unrouted: bool) -> Self {
        Self { routes: Arc::new(Routes::new(routes, reject_unrouted)), ..self }
    }

    pub(crate) fn shadow(self) -> Self {
        Self { enforce: false, ..self }
    }

    /// Has its keys fetched by `documents`.
    pub(crate) fn fetching(mut self, documents: Arc<dyn Documents>, shown: Option<&str>) -> Self {
        let verifier = Arc::clone(&self.verifier);
        self.keyring = Some(Arc::new(Keyring::new(verifier, documents, shown.map(Secret::new))));
        self
    }

    pub(crate) fn called(self, source: &str) -> Self {
        Self { name: Name::parse(source).unwrap(), ..self }
    }

    /// Sends a request as it is.
    pub(crate) fn post(&self, headers: HeaderMap, body: impl Into<Bytes>) -> Answer {
        self.post_body(headers, Full::new(body.into()))
    }

    /// The same, with trailers and the like.
    pub(crate) fn post_body<B>(&self, headers: HeaderMap, body: B) -> Answer
    where
        B: Body<Data = Bytes, Error: Send> + Send + 'static,
    {
        self.run(Self::inbound(headers, body))
    }

    /// Sends a request with a good signature.
    pub(crate) fn send(&self, lines: &[(&str, &str)], body: impl Into<Bytes>) -> Answer {
        let body = body.into();
        self.post(self.signed(headers(lines), &body), body)
    }

    /// Asks the same again and again until an answer is as wanted; how many were not.
    pub(crate) fn until(&self, target: &'static str, is: impl Fn(Answer) -> bool) -> usize {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let stack = self.stack();
        runtime.block_on(async {
            for asked in 0.. {
                let mut inbound = Self::inbound(HeaderMap::new(), Full::<Bytes>::default());
                *inbound.request.method_mut() = http::Method::GET;
                *inbound.request.uri_mut() = http::Uri::from_static(target);
                if is(stack.clone().oneshot(inbound).await) {
                    return asked;
                }
            }
            unreachable!("it goes on")
        })
    }

    /// Adds a good signature.
    pub(crate) fn signed(&self, headers: HeaderMap, body: &[u8]) -> HeaderMap {
        self.signed_as(presented(&headers, body, NOW))
    }

    /// The headers of such a request, with its signature.
    pub(crate) fn signed_as(&self, request: Presented<'_>) -> HeaderMap {
        let mut headers = request.headers.clone();
        let signed = match &self.key {
            Some(key) => {
                let signed = self.verifier.sign_with(key, &request, &serde_json::Map::new());
                signed.expect("signed").headers
            }
            None => self.verifier.sign(&request).expect("signed"),
        };
        headers.extend(signed);
        headers
    }

    /// Sends a whole request.
    pub(crate) fn run<B>(&self, inbound: Inbound<B>) -> Answer
    where
        B: Body<Data = Bytes, Error: Send> + Send + 'static,
    {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(self.stack().oneshot(inbound))
    }

    pub(crate) fn inbound<B>(headers: HeaderMap, body: B) -> Inbound<B> {
        let mut request = http::Request::post("/hooks/x").body(body).unwrap();
        *request.headers_mut() = headers;
        Inbound {
            request,
            peer: Peer { ip: std::net::Ipv4Addr::LOCALHOST.into(), https: true },
            receipt: Receipt::random(),
            received_at: Timestamp::from_millis(NOW * 1000),
            place: None,
        }
    }

    /// The event that such a request is, or why it is none.
    pub(crate) fn event(
        &self,
        lines: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Result<Arc<Event>, Refusal> {
        self.send(lines, body).map_err(|refused| refused.what)?;
        Ok(Arc::clone(self.routed.lock().unwrap().last().expect("it was routed").event()))
    }

    /// What was routed last.
    pub(crate) fn last_routed(&self) -> Routed {
        self.routed.lock().unwrap().pop().expect("it was routed")
    }

    /// Whether nothing was routed that was not taken out.
    pub(crate) fn nothing_routed(&self) -> bool {
        self.routed.lock().unwrap().is_empty()
    }

    /// What went on in shadow mode.
    pub(crate) fn shadowed(&self) -> Shadow {
        self.shadowed.lock().unwrap().last().expect("it went on").clone()
    }

    pub(crate) fn stack<B>(&self) -> Stack<B>
    where
        B: Body<Data = Bytes, Error: Send> + Send + 'static,
    {
        let metrics = Arc::new(self.metrics.source(self.name.as_str(), "proxy", 1));
        let (routed, shadowed) = (Arc::clone(&self.routed), Arc::clone(&self.shadowed));
        let route = ShadowRoute { plan: Arc::clone(&self.plan), routes: Arc::clone(&self.routes) };
        let shadow = ServiceBuilder::new().stage(route).service(service_fn(move |shadow| {
            shadowed.lock().unwrap().push(shadow);
            std::future::ready(accepted())
        }));
        let unrouted = metrics.unrouted.clone();
        let stack = ServiceBuilder::new()
            .stage(self.receive())
            .stage(Unsigned(Arc::clone(&self.challenges)))
            .stage(Verify {
                keyring: self.keyring.clone(),
                verifier: Arc::clone(&self.verifier),
                url: URL.into(),
                metrics,
                shadow: (!self.enforce).then(|| BoxCloneSyncService::new(shadow)),
            })
            .stage(Signed(Arc::clone(&self.challenges)))
            .stage(Identify { plan: Arc::clone(&self.plan) })
            .stage(Choose { routes: Arc::clone(&self.routes), unrouted })
            .service(service_fn(move |event| {
                routed.lock().unwrap().push(event);
                std::future::ready(accepted())
            }));
        BoxCloneSyncService::new(stack)
    }

    fn receive(&self) -> Receive {
        let accepts = Accepts {
            source: self.name.clone(),
            methods: self.challenges.methods(),
            body_bytes_max: 1 << 20,
            body_timeout: std::time::Duration::from_secs(10),
            body_rate_min: 0,
            allow_encoded: true,
            allow_ips: Vec::new(),
            hide_paths: false,
            memory: Budget::new("body_memory", 1 << 30),
            lengths: self.metrics.source(self.name.as_str(), "proxy", 1).body,
        };
        Receive(Arc::new(accepts))
    }
}

/// A route by this name to this upstream; one without drops.
pub(crate) fn route(name: &str, events: &[&str], upstream: Option<&str>) -> Route {
    let name = Name::parse(name).unwrap();
    let target = upstream.map(|upstream| {
        let (route, upstream) = (name.clone(), Name::parse(upstream).unwrap());
        let timeout = std::time::Duration::from_secs(1);
        Arc::new(Target { route, upstream, timeout, reply_full: false })
    });
    let events: Vec<_> = events.iter().map(|&event| event.to_owned()).collect();
    Route { name, patterns: Patterns::parse(&events), when: None, target }
}

#[expect(clippy::unnecessary_wraps, reason = "it is what a stage answers")]
fn accepted() -> Answer {
    let (status, body) = (StatusCode::OK, Bytes::new());
    Ok(Outcome::Accepted(Relayed { status, content_type: None, body, full: false }).into())
}
