//! The stages over a real log in a temporary directory, with work below them that does as it is told.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use gatepost::{
    answer::{Answer, Answered, Challenge, Ignored, Manners, Outcome, Reason, Refusal, Relayed},
    audit::{
        Audit, AuditLog, ClientIp, Detail, Note, Params, Recorded, Rejected, open,
        segments::Segments,
    },
    dedup::{
        Dedup, DedupStore, Joins, Memory, OnStoreError, Parts, Policy, StoreError, Subject,
        claim::{Input, Reply},
    },
    event::Name,
    stage::{BoxFuture, Next, Stage as _, StageExt as _},
    telemetry::Metrics,
};
use http::{HeaderMap, StatusCode};
use http_body_util::Full;
use serde_json::Value;
use tokio::sync::Notify;
use tokio_util::task::TaskTracker;
use tower::{ServiceBuilder, ServiceExt as _, service_fn};

use crate::{
    flow::{COVERING, Flow},
    source::headers,
};

pub(crate) struct World {
    dir: tempfile::TempDir,
    pub(crate) log: AuditLog,
    detail: Arc<Detail>,
    forwarded: AtomicU32,
}

impl World {
    pub(crate) fn new(rejected: Rejected) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let params = Params {
            dir: dir.path().join("audit"),
            retention: Duration::from_hours(1),
            rotate_bytes: 1 << 28,
            rotate_every: Duration::from_hours(1),
            compress: false,
            checkpoint_every: Duration::from_hours(1),
            checkpoint_key: dir.path().join("key"),
            copy_to: Vec::new(),
            free_bytes_min: 0,
            fsync: true,
        };
        let log = open(&params, Metrics::new().audit()).unwrap();
        let headers =
            vec![http::header::USER_AGENT, http::header::AUTHORIZATION, http::header::COOKIE];
        let detail = Arc::new(Detail {
            headers,
            client_ip: ClientIp::Truncate,
            rejected,
            manners: Manners::default(),
        });
        Self { dir, log, detail, forwarded: AtomicU32::new(0) }
    }

    /// What is on disk now, but for the log's own records.
    pub(crate) fn records(&self) -> Vec<Value> {
        let (mut records, dir) = (Vec::new(), self.dir.path().join("audit"));
        let read = Segments::of(&dir).unwrap().each(0, |_, line| {
            records.push(serde_json::from_slice::<Value>(line).unwrap());
            Ok(true)
        });
        read.unwrap();
        records.into_iter().filter(|record| record["kind"] != "control").collect()
    }

    /// Lets an event pass that nobody has seen before.
    async fn pass(&self, below: impl Next<Recorded>) -> Answer {
        self.pass_on(Arc::new(Memory::default()), below).await
    }

    async fn pass_on(&self, store: Arc<dyn DedupStore>, below: impl Next<Recorded>) -> Answer {
        let flow = shop();
        let (body, lines) = (r#"{"id":"id-1"}"#, sent());
        let inbound = Flow::inbound(flow.signed(lines, body.as_bytes()), Full::new(body.into()));
        flow.stack::<Full<Bytes>>().oneshot(inbound).await.expect("it is routed");
        let audit = Audit { log: self.log.clone(), detail: self.detail.clone() };
        let stages = ServiceBuilder::new().stage(dedup(store)).stage(audit);
        stages.service(below).oneshot(flow.last_routed()).await
    }

    /// Notes `answer` as that of one request.
    pub(crate) async fn note(&self, answer: Answer) -> Answer {
        let source = Name::parse("shop").unwrap();
        let note = Note { log: self.log.clone(), source, detail: self.detail.clone() };
        let below = service_fn(move |_| std::future::ready(answer.clone()));
        note.pass(Flow::inbound(sent(), ()), below).await
    }
}

fn shop() -> Flow {
    Flow::new(&format!("{COVERING}event: {{ id: '{{json:id}}', type: order.paid }}"))
}

pub(crate) fn sent() -> HeaderMap {
    headers(&[("user-agent", "Shop/1"), ("authorization", "Basic x"), ("cookie", "a=b")])
}

pub(crate) fn dedup(store: Arc<dyn DedupStore>) -> Dedup {
    let (minute, metrics) = (Duration::from_mins(1), Metrics::new());
    let policy = Policy {
        window: minute,
        lease: minute,
        join_timeout: minute,
        hold: minute / 2,
        replay_guard: false,
        on_store_error: OnStoreError::Forward,
    };
    Dedup(Arc::new(Parts {
        store,
        policy: Arc::new(policy),
        joins: Joins::default(),
        tracker: TaskTracker::new(),
        metrics: metrics.dedup("memory"),
        source: metrics.source("shop", "proxy", 1),
        suspended: || Duration::ZERO,
    }))
}

#[expect(clippy::unnecessary_wraps, reason = "what a service answers")]
pub(crate) fn accepted() -> Answer {
    let body = Bytes::new();
    Ok(Outcome::Accepted(Relayed { status: StatusCode::OK, content_type: None, body, full: false })
        .into())
}

#[tokio::test]
async fn the_attempt_is_on_disk_before_it_happens_and_its_ending_after() {
    let world = Arc::new(World::new(Rejected::Sampled));
    let seen = world.clone();
    let below = service_fn(move |recorded: Recorded| {
        let records = seen.records();
        assert_eq!(records.len(), 1);
        assert_eq!(
            (&records[0]["kind"], &records[0]["seq"]),
            (&"attempt".into(), &recorded.seq().into())
        );
        std::future::ready(accepted())
    });
    let answer = world.pass(below).await.unwrap();
    assert_eq!(answer.notes.audit_seq, Some(2));
    world.log.close().await.unwrap();
    let [attempt, outcome] = world.records().try_into().unwrap();
    assert_eq!(
        (&outcome["outcome"], &outcome["attempt_seq"]),
        (&"accepted".into(), &attempt["seq"])
    );
    assert_eq!(outcome["provider_id"], "id-1");
    assert!(attempt["reason"].is_null(), "it was claimed, and for the first time");
    assert_eq!(attempt["headers"], serde_json::json!({ "user-agent": "Shop/1" }), "no credentials");
    assert!(outcome["headers"].is_null(), "once is enough");
}

/// A store that is not there.
#[derive(Debug)]
struct Away;

impl DedupStore for Away {
    fn run<'a>(&'a self, _: &'a Subject, _: Input) -> BoxFuture<'a, Result<Reply, StoreError>> {
        Box::pin(std::future::ready(Err(StoreError("away".into()))))
    }

    fn health(&self) -> BoxFuture<'_, Result<String, StoreError>> {
        Box::pin(std::future::ready(Err(StoreError("away".into()))))
    }

    fn kind(&self) -> &'static str {
        "memory"
    }

    fn entries(&self) -> Option<u64> {
        None
    }
}

#[tokio::test]
async fn a_forward_without_a_claim_says_so_on_record() {
    let world = World::new(Rejected::Sampled);
    let below = service_fn(|_: Recorded| std::future::ready(accepted()));
    world.pass_on(Arc::new(Away), below).await.unwrap();
    world.log.close().await.unwrap();
    assert_eq!(world.records()[0]["reason"], "dedup_unavailable", "a duplicate may follow");
}

/// A store that fails once an event was claimed.
#[derive(Debug, Default)]
struct Forgetful(Memory);

impl DedupStore for Forgetful {
    fn run<'a>(
        &'a self,
        subject: &'a Subject,
        input: Input,
    ) -> BoxFuture<'a, Result<Reply, StoreError>> {
        match input {
            Input::Claim(..) => self.0.run(subject, input),
            _ => Away.run(subject, input),
        }
    }

    fn health(&self) -> BoxFuture<'_, Result<String, StoreError>> {
        self.0.health()
    }

    fn kind(&self) -> &'static str {
        "memory"
    }

    fn entries(&self) -> Option<u64> {
        None
    }
}

/// How it ended goes on record once the store knows it, or cannot be told; then that is on record, too.
#[tokio::test]
async fn what_may_be_delivered_again_is_on_record() {
    let world = World::new(Rejected::Sampled);
    let below = service_fn(|_: Recorded| std::future::ready(accepted()));
    world.pass_on(Arc::new(Forgetful::default()), below).await.unwrap();
    world.log.close().await.unwrap();
    let [_, outcome] = world.records().try_into().unwrap();
    assert_eq!((&outcome["kind"], &outcome["outcome"]), (&"outcome".into(), &"accepted".into()));
    assert_eq!(outcome["error"], "not settled: dedup store: away");
}

/// The app's word after its time: a second ending of the same attempt, of which no sender was told.
#[tokio::test]
async fn a_late_success_is_a_second_ending() {
    for (unsettled, error) in [
        (None, Value::Null),
        (Some(StoreError("away".into())), "not settled: dedup store: away".into()),
    ] {
        let world = World::new(Rejected::Sampled);
        let below = service_fn(move |recorded: Recorded| {
            let ending = recorded.late_ending();
            let too_late = unsettled.clone();
            std::future::ready({
                ending.accepted(StatusCode::CREATED, too_late);
                Err(Refusal::UpstreamTimeout.into())
            })
        });
        world.pass(below).await.unwrap_err();
        world.log.close().await.unwrap();
        let [attempt, late, ended] = world.records().try_into().unwrap();
        for key in ["receipt", "event_id", "provider_id", "digest", "attempt", "route", "upstream"]
        {
            assert!(!late[key].is_null(), "{key}");
            assert_eq!((&late[key], &ended[key]), (&attempt[key], &attempt[key]), "{key}");
        }
        let said = ["kind", "outcome", "reason", "upstream_status", "status", "error"];
        let accepted = ["outcome".into(), "accepted".into(), "late".into(), 201.into()];
        let said: Vec<_> = said.iter().map(|key| late[*key].clone()).collect();
        assert_eq!(said, [&accepted[..], &[Value::Null, error]].concat());
        assert_eq!(
            (&late["attempt_seq"], &ended["attempt_seq"]),
            (&attempt["seq"], &attempt["seq"])
        );
        assert_eq!(ended["outcome"], "upstream_timeout");
    }
}

/// A store that takes its time over how an event ended.
#[derive(Debug, Default)]
struct Slow {
    memory: Memory,
    told: Notify,
    go: Notify,
}

impl DedupStore for Slow {
    fn run<'a>(
        &'a self,
        subject: &'a Subject,
        input: Input,
    ) -> BoxFuture<'a, Result<Reply, StoreError>> {
        Box::pin(async move {
            if matches!(input, Input::Complete(_)) {
                self.told.notify_one();
                self.go.notified().await;
            }
            self.memory.run(subject, input).await
        })
    }

    fn health(&self) -> BoxFuture<'_, Result<String, StoreError>> {
        self.memory.health()
    }

    fn kind(&self) -> &'static str {
        "memory"
    }

    fn entries(&self) -> Option<u64> {
        None
    }
}

/// A crash in between would else leave an event that is on record as accepted and comes again without a word about it.
#[tokio::test]
async fn nothing_is_on_record_as_accepted_before_the_store_knows() {
    let world = World::new(Rejected::Sampled);
    let store = Arc::new(Slow::default());
    let below = service_fn(|_: Recorded| std::future::ready(accepted()));
    let looking = async {
        store.told.notified().await;
        // What is durable takes along whatever waits.
        drop(world.note(Ok(Outcome::Ignored(Ignored::Dropped).into())).await);
        let kinds: Vec<_> = world.records().iter().map(|r| r["kind"].clone()).collect();
        store.go.notify_one();
        kinds
    };
    let (answer, kinds) = tokio::join!(world.pass_on(store.clone(), below), looking);
    assert!(answer.is_ok());
    assert_eq!(kinds, ["attempt", "ignored"]);
    world.log.close().await.unwrap();
    assert_eq!(world.records()[2]["outcome"], "accepted");
}

#[tokio::test]
async fn without_a_log_nothing_is_forwarded() {
    let world = Arc::new(World::new(Rejected::Sampled));
    world.log.close().await.unwrap();
    let counted = world.clone();
    let below = service_fn(move |_: Recorded| {
        counted.forwarded.fetch_add(1, Ordering::SeqCst);
        std::future::ready(accepted())
    });
    let refused = world.pass(below).await.unwrap_err();
    assert_eq!(refused.what, Refusal::AuditUnavailable);
    assert_eq!(refused.notes.error.as_deref(), Some("the audit log is closed"));
    assert_eq!(world.forwarded.load(Ordering::SeqCst), 0);
}

/// Takes nothing on.
#[derive(Clone)]
struct Busy;

impl tower::Service<Recorded> for Busy {
    type Response = Answered<Outcome>;
    type Error = Answered<Refusal>;
    type Future = std::future::Ready<Answer>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Err(Refusal::Overloaded("upstream_concurrency").into()))
    }

    fn call(&mut self, _: Recorded) -> Self::Future {
        std::future::ready(accepted())
    }
}

#[tokio::test]
async fn what_cannot_be_taken_on_leaves_no_record() {
    let world = World::new(Rejected::Sampled);
    let refused = world.pass(Busy).await.unwrap_err();
    assert_eq!(refused.what, Refusal::Overloaded("upstream_concurrency"));
    world.log.close().await.unwrap();
    assert_eq!(world.records(), Vec::<Value>::new());
}

#[tokio::test]
async fn strangers_are_sampled_or_not_recorded_at_all() {
    let refused: Answer = Err(Refusal::NotVerified(Reason::SignatureWrong).into());
    let unsigned = Challenge {
        status: StatusCode::OK,
        content_type: None,
        headers: Vec::new(),
        body: Bytes::new(),
        report: None,
    };
    let unsigned: Answer = Ok(Outcome::Handshake(unsigned).into());
    // Those of one source count together.
    let both = [refused.clone(), unsigned.clone()];
    for (strangers, kinds) in [
        (&[refused][..], &["rejected"][..]),
        (&[unsigned], &["handshake"]),
        (&both, &["rejected", "handshake"]),
    ] {
        for (rejected, most) in [(Rejected::Sampled, 5), (Rejected::None, 0)] {
            let world = World::new(rejected);
            for answer in strangers.iter().cycle().take(50) {
                assert_eq!(world.note(answer.clone()).await.is_ok(), answer.is_ok());
            }
            world.log.close().await.unwrap();
            let records = world.records();
            assert_eq!(records.len(), most, "{kinds:?}");
            for (record, kind) in records.iter().zip(kinds.iter().cycle()) {
                let reason =
                    if *kind == "rejected" { "signature_wrong".into() } else { Value::Null };
                let said = (&record["kind"], &record["reason"], &record["client_ip"]);
                assert_eq!(said, (&(*kind).into(), &reason, &"127.0.0.0".into()));
            }
        }
    }
}

#[tokio::test]
async fn addresses_are_kept_as_far_as_the_configuration_says() {
    for (client_ip, kept) in [
        (ClientIp::Keep, Some("127.0.0.1")),
        (ClientIp::Truncate, Some("127.0.0.0")),
        (ClientIp::Drop, None),
    ] {
        let mut world = World::new(Rejected::Sampled);
        world.detail = Arc::new(Detail { client_ip, ..(*world.detail).clone() });
        world.note(Ok(Outcome::Ignored(Ignored::Dropped).into())).await.unwrap();
        assert_eq!(world.records()[0]["client_ip"].as_str(), kept);
    }
}

#[tokio::test]
async fn an_answer_that_is_a_promise_rests_on_a_record() {
    let promises: [(&str, Answer); 7] = [
        ("ignored", Ok(Outcome::Ignored(Ignored::Unrouted).into())),
        ("ignored", Ok(Outcome::Ignored(Ignored::Dropped).into())),
        ("same_id_other_body", Ok(Outcome::SameIdOtherBody.into())),
        ("suspected_replay", Ok(Outcome::SuspectedReplay.into())),
        // A provider that is told this may never come again.
        ("malformed", Err(Refusal::Malformed("no id").into())),
        ("signed_before", Err(Refusal::SignedBefore.into())),
        ("unrouted", Err(Refusal::Unrouted.into())),
    ];
    for (name, promise) in promises {
        let world = World::new(Rejected::Sampled);
        let told = match world.note(promise.clone()).await {
            Ok(answer) => answer.notes.audit_seq,
            Err(refused) => refused.notes.audit_seq,
        };
        assert_eq!(told, Some(2), "{name}");
        assert_eq!(world.records()[0]["outcome"], name, "{name}");
        world.log.close().await.unwrap();
        let refused = world.note(promise).await.unwrap_err();
        assert_eq!(refused.what, Refusal::AuditUnavailable, "{name}: no record, no such answer");
    }
}
