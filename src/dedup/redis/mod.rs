//! The Redis store: claims shared between gateways. Redis may suppress duplicates; it is never the only copy of anything
//! that was acknowledged.
//!
//! Each operation is one script on one or two keys of one slot, and so one round trip; requests that come together share
//! the connection and its writes. A first claim and *done* are one `SET` each. Lease and history of an event are one value
//! with a time to live, so nothing can be left behind half: `L`, `U`, `F` (leased, unknown, free), a flag (an attempt ended
//! unknown), the attempts, for how long the value outlives the lease, how long that is, the token; or `D` and the digest of
//! the body. Times are counted by Redis: a lease is live while more is left of the value than what outlives it, and no more
//! than there can be: Redis counts by the wall clock, which may be set back.
//!
//! Keys are `<prefix>evt_…`, by our own id of the event, and `<prefix>sig_…` for the replay guard. In a cluster both begin
//! with the guard as hash tag. The Redis user needs what `docs/redis.md` says, and the keys `<prefix>*`. Redis 7 is needed,
//! because completing must work when Redis is out of memory (`allow-oom`).

mod link;
mod target;

use std::{
    io::Write as _,
    path::PathBuf,
    sync::{Arc, LazyLock},
    time::Duration,
};

use ::redis::{Cmd, RedisWrite as _, Script, Value};
use arrayvec::ArrayVec;
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};

use super::{
    DedupStore, StoreError, Subject,
    claim::{Claimed, Input, Reply, Token, millis, span},
};
use crate::{event::EventKey, secret::Secret, stage::BoxFuture};
use link::{Link, Verb};
use target::Target;

/// How to reach Redis.
#[derive(Clone, Debug)]
pub struct RedisSettings {
    /// `redis://`, `rediss://`, `redis+sentinel://host,host/master`, `redis+cluster://host,host` (and `rediss+…`), without
    /// credentials.
    pub url: String,
    /// User name, if any.
    pub username: Option<String>,
    /// Password, if any.
    pub password: Option<Secret>,
    /// Put before every key.
    pub prefix: String,
    /// How long one operation may take, reconnecting included.
    pub timeout: Duration,
    /// Refuse to work on a Redis that may evict our keys.
    pub require_noeviction: bool,
    /// PEM file of the CA that signed Redis's certificate; the system's roots where absent.
    pub ca: Option<PathBuf>,
}

/// Claims in Redis.
#[derive(Debug)]
pub struct Redis {
    link: Arc<Link>,
    prefix: String,
    cluster: bool,
    _stop: DropGuard,
}

impl Redis {
    /// Starts to connect: a gateway starts while Redis is away, and `health` says so. The task that keeps the connection is
    /// known to `tracker`, and ends with the store or with `stop`.
    ///
    /// # Errors
    /// A sentence where the settings cannot be right: the url, the CA file.
    pub fn connect(
        settings: &RedisSettings,
        tracker: &TaskTracker,
        stop: &CancellationToken,
    ) -> Result<Self, StoreError> {
        let target = Target::new(settings)?;
        let cluster = target.is_cluster();
        let link = Arc::new(Link::new(target, settings.timeout, settings.require_noeviction));
        let (stop, kept) = (stop.child_token(), Arc::clone(&link));
        let stopped = stop.clone();
        let keep = async move { tokio::join!(kept.keep(), kept.tick()) };
        tracker.spawn(async move { stopped.run_until_cancelled(keep).await });
        Ok(Self { link, prefix: settings.prefix.clone(), cluster, _stop: stop.drop_guard() })
    }

    async fn ask(&self, subject: &Subject, input: Input) -> Result<Reply, StoreError> {
        let value = self.link.run(|verb| self.command(verb, subject, input)).await?;
        match (input, value) {
            (Input::Claim(..), Value::Int(packed)) => Ok(Reply::Claimed(claimed(packed))),
            (_, Value::Int(applied)) => Ok(Reply::Applied(applied == 1)),
            (_, other) => {
                Err(StoreError(format!("Redis gave an answer that makes no sense: {other:?}")))
            }
        }
    }

    /// A script on the event, and on the guard where that matters.
    fn command(&self, verb: Verb, subject: &Subject, input: Input) -> Cmd {
        let (code, guard) = match input {
            Input::Claim(..) => (&CLAIM, subject.guard.filter(|_| subject.suppress)),
            Input::Complete(_) => (&COMPLETE, subject.guard),
            Input::Release(_) | Input::Hold(..) | Input::Renew(..) => (&OWNER, None),
        };
        let mut command = code.command(verb);
        command.write_arg(if guard.is_some() { b"2" } else { b"1" });
        self.key(&mut command, "evt_", subject.key, subject);
        if let Some(guard) = guard {
            self.key(&mut command, "sig_", guard, subject);
        }
        match input {
            Input::Claim(token, lease, window) => {
                let (lease, keep) = (millis(lease), millis(lease.max(window)).max(1));
                command.write_arg(&first_value(keep - lease.min(keep), lease, token));
                command.arg(keep).write_arg(&subject.digest.0);
                command.write_arg(&subject.key.0);
            }
            Input::Complete(window) => {
                command.arg(millis(window)).write_arg(&subject.digest.0);
                command.write_arg(&subject.key.0);
            }
            Input::Release(token) => owner(&mut command, token, b"F", Duration::ZERO),
            Input::Hold(token, time) => owner(&mut command, token, b"U", time),
            Input::Renew(token, lease) => owner(&mut command, token, b"L", lease),
        }
        command
    }

    fn key(&self, command: &mut Cmd, kind: &str, key: EventKey, subject: &Subject) {
        let mut whole = command.writer_for_next_arg();
        let mut put = |part: &str| drop(whole.write_all(part.as_bytes())); // a vector takes everything
        put(&self.prefix);
        if let Some(guard) = subject.guard.filter(|_| self.cluster) {
            ["{", &guard.event_id(), "}"].into_iter().for_each(&mut put);
        }
        put(kind);
        put(key.event_id().trim_start_matches("evt_"));
    }
}

impl DedupStore for Redis {
    fn run<'a>(
        &'a self,
        subject: &'a Subject,
        input: Input,
    ) -> BoxFuture<'a, Result<Reply, StoreError>> {
        Box::pin(self.ask(subject, input))
    }

    fn health(&self) -> BoxFuture<'_, Result<String, StoreError>> {
        Box::pin(self.link.health())
    }

    fn kind(&self) -> &'static str {
        "redis"
    }

    fn entries(&self) -> Option<u64> {
        None
    }
}

/// A script and the name under which Redis keeps it.
struct Code {
    text: &'static str,
    hash: String,
}

impl Code {
    fn new(text: &'static str) -> Self {
        Self { text, hash: Script::new(text).get_hash().to_owned() }
    }

    fn command(&self, verb: Verb) -> Cmd {
        let (verb, script) = match verb {
            Verb::Known => ("EVALSHA", self.hash.as_str()),
            Verb::New => ("EVAL", self.text),
        };
        let mut command = Cmd::with_capacity(ARGUMENTS, script.len() + ARGUMENT_BYTES);
        command.arg(verb).arg(script);
        command
    }
}

static CLAIM: LazyLock<Code> = LazyLock::new(|| Code::new(include_str!("claim.lua")));
static COMPLETE: LazyLock<Code> = LazyLock::new(|| Code::new(include_str!("complete.lua")));
static OWNER: LazyLock<Code> = LazyLock::new(|| Code::new(include_str!("owner.lua")));

/// Room for the arguments of a command, so that they need no second allocation.
const ARGUMENTS: usize = 9;
const ARGUMENT_BYTES: usize = 256;

/// What is kept about an event that is claimed for the first time, and outlives its lease by `rest`.
fn first_value(rest: u64, lease: u64, token: Token) -> ArrayVec<u8, 38> {
    let (rest, lease, token) = (rest.to_be_bytes(), lease.to_be_bytes(), token.0.to_be_bytes());
    [b"L\0\0\0\0\x01", &rest[..], &lease, &token].into_iter().flatten().copied().collect()
}

/// The arguments of what only the owner may do.
fn owner(command: &mut Cmd, token: Token, phase: &[u8], time: Duration) {
    command.write_arg(&token.0.to_be_bytes());
    command.write_arg(phase);
    command.arg(millis(time));
}

/// Reads what `claim.lua` packed.
fn claimed(packed: i64) -> Claimed {
    let packed = u64::try_from(packed).unwrap_or_default();
    let detail = packed / 8;
    match packed % 8 {
        0 => Claimed::Won {
            attempt: u32::try_from(detail / 2).unwrap_or(u32::MAX),
            after_unknown: detail % 2 == 1,
        },
        1 => Claimed::InFlight { left: span(detail) },
        2 => Claimed::Held { left: span(detail) },
        3 => Claimed::Done { same_body: detail == 1 },
        _ => Claimed::Replayed,
    }
}
