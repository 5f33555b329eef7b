//! The Redis store: claims shared between gateways. Redis may suppress duplicates; it is never the only copy of anything
//! that was acknowledged.
//!
//! Each operation is one script on one or two keys of one slot, and so one round trip; requests that come together share
//! the connection and its writes. Lease and history of an event are one value with a time to live, so nothing can be left
//! behind half: `L`, `U`, `F` (leased, unknown, free), a flag, the attempts, the end of the lease, the token; or `D` and the
//! digest of the body. Times are counted by Redis.
//!
//! Keys are `<prefix>evt_…`, by our own id of the event, and `<prefix>sig_…` for the replay guard. In a cluster both begin
//! with the guard as hash tag. The Redis user needs `+evalsha +eval +get +set +del +pttl +time +info` and the keys
//! `<prefix>*`. Redis 7 is needed, because completing must work when Redis is out of memory (`allow-oom`).

mod link;
mod target;

use std::{fmt, path::PathBuf, sync::LazyLock, time::Duration};

use ::redis::{Cmd, Script, Value};
use tokio_util::task::TaskTracker;

use super::{
    DedupStore, Health, StoreError, Subject,
    claim::{Claimed, State, Token, millis, span},
};
use crate::{
    event::{Digest, EventKey},
    secret::Secret,
    stage::BoxFuture,
};
use link::{Link, Verb};
use target::Target;

/// How to reach Redis.
#[derive(Clone)]
pub struct RedisSettings {
    /// `redis://`, `rediss://`, `redis+sentinel://host,host/master`, `redis+cluster://host,host` (and `rediss+…`).
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

impl fmt::Debug for RedisSettings {
    /// Without the url's credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { url, username, password, prefix, timeout, require_noeviction, ca } = self;
        f.debug_struct("RedisSettings")
            .field("url", &target::without_credentials(url))
            .field("username", username)
            .field("password", password)
            .field("prefix", prefix)
            .field("timeout", timeout)
            .field("require_noeviction", require_noeviction)
            .field("ca", ca)
            .finish()
    }
}

/// Claims in Redis.
#[derive(Debug)]
pub struct Redis {
    link: Link,
    prefix: String,
    cluster: bool,
}

impl Redis {
    /// Prepares a connection, which is made when it is first needed: a gateway starts while Redis is away, and `health`
    /// says so. Tasks that connect are known to `tracker`.
    ///
    /// # Errors
    /// A sentence where the settings cannot be right: the url, the CA file.
    pub fn connect(settings: &RedisSettings, tracker: TaskTracker) -> Result<Self, StoreError> {
        let target = Target::new(settings)?;
        let cluster = target.is_cluster();
        let link = Link::new(target, settings.timeout, settings.require_noeviction, tracker);
        Ok(Self { link, prefix: settings.prefix.clone(), cluster })
    }

    /// Runs a script on the keys of `subject`.
    async fn run(
        &self,
        code: &'static Code,
        subject: &Subject,
        keys: Keys,
        arguments: impl Fn(&mut Cmd),
    ) -> Result<Value, StoreError> {
        let guard = match keys {
            Keys::Event => None,
            Keys::Both => subject.guard,
        };
        self.link
            .run(|verb| {
                let mut command = code.command(verb);
                command.arg(1 + usize::from(guard.is_some()));
                command.arg(self.name("evt_", subject.key, subject));
                if let Some(guard) = guard {
                    command.arg(self.name("sig_", guard, subject));
                }
                arguments(&mut command);
                command
            })
            .await
    }

    fn name(&self, kind: &str, key: EventKey, subject: &Subject) -> String {
        let (prefix, id) = (&self.prefix, key.event_id());
        let id = id.strip_prefix("evt_").unwrap_or(&id);
        match subject.guard {
            Some(guard) if self.cluster => format!("{prefix}{{{}}}{kind}{id}", guard.event_id()),
            Some(_) | None => format!("{prefix}{kind}{id}"),
        }
    }

    /// What only the owner may do.
    async fn owner(
        &self,
        subject: &Subject,
        token: Token,
        phase: &'static str,
        time: Duration,
    ) -> Result<bool, StoreError> {
        let arguments = |command: &mut Cmd| {
            command.arg(&token.0.to_be_bytes()).arg(phase).arg(millis(time));
        };
        match self.run(&OWNER, subject, Keys::Event, arguments).await? {
            Value::Int(ours) => Ok(ours == 1),
            other => Err(strange(&other)),
        }
    }
}

impl DedupStore for Redis {
    fn claim<'a>(
        &'a self,
        subject: &'a Subject,
        token: Token,
        lease: Duration,
        window: Duration,
    ) -> BoxFuture<'a, Result<Claimed, StoreError>> {
        Box::pin(async move {
            let passes: &[u8] = if subject.suppress { &subject.key.0 } else { b"" };
            let arguments = |command: &mut Cmd| {
                command.arg(&token.0.to_be_bytes()).arg(millis(lease)).arg(millis(window));
                command.arg(&subject.digest.0).arg(passes);
            };
            let reply = self.run(&CLAIM, subject, Keys::Both, arguments).await?;
            claimed(&reply).ok_or_else(|| strange(&reply))
        })
    }

    fn complete<'a>(
        &'a self,
        subject: &'a Subject,
        _: Token,
        window: Duration,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            let arguments = |command: &mut Cmd| {
                command.arg(millis(window)).arg(&subject.digest.0).arg(&subject.key.0);
            };
            self.run(&COMPLETE, subject, Keys::Both, arguments).await.map(drop)
        })
    }

    fn release<'a>(
        &'a self,
        subject: &'a Subject,
        token: Token,
    ) -> BoxFuture<'a, Result<bool, StoreError>> {
        Box::pin(self.owner(subject, token, "F", Duration::ZERO))
    }

    fn hold<'a>(
        &'a self,
        subject: &'a Subject,
        token: Token,
        hold: Duration,
    ) -> BoxFuture<'a, Result<bool, StoreError>> {
        Box::pin(self.owner(subject, token, "U", hold))
    }

    fn renew<'a>(
        &'a self,
        subject: &'a Subject,
        token: Token,
        lease: Duration,
    ) -> BoxFuture<'a, Result<bool, StoreError>> {
        Box::pin(self.owner(subject, token, "L", lease))
    }

    fn look<'a>(&'a self, subject: &'a Subject) -> BoxFuture<'a, Result<State, StoreError>> {
        Box::pin(async move {
            let reply = self.run(&LOOK, subject, Keys::Event, |_| {}).await?;
            seen(&reply).ok_or_else(|| strange(&reply))
        })
    }

    fn health(&self) -> BoxFuture<'_, Result<Health, StoreError>> {
        Box::pin(async { Ok(Health { summary: self.link.health().await? }) })
    }

    fn kind(&self) -> &'static str {
        "redis"
    }

    fn entries(&self) -> Option<u64> {
        None
    }
}

/// Which keys a script gets.
#[derive(Clone, Copy)]
enum Keys {
    Event,
    Both,
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
        let mut command = ::redis::cmd(verb);
        command.arg(script);
        command
    }
}

static CLAIM: LazyLock<Code> = LazyLock::new(|| Code::new(include_str!("claim.lua")));
static COMPLETE: LazyLock<Code> = LazyLock::new(|| Code::new(include_str!("complete.lua")));
static OWNER: LazyLock<Code> = LazyLock::new(|| Code::new(include_str!("owner.lua")));
static LOOK: LazyLock<Code> = LazyLock::new(|| Code::new(include_str!("look.lua")));

/// Reads the answer to a claim.
fn claimed(reply: &Value) -> Option<Claimed> {
    let Value::Int(reply) = *reply else { return None };
    let reply = u64::try_from(reply).ok()?;
    let detail = reply / 4;
    Some(match reply % 4 {
        0 => Claimed::Won {
            attempt: u32::try_from(detail / 2).unwrap_or(u32::MAX),
            after_unknown: detail % 2 == 1,
        },
        1 => Claimed::InFlight { left: span(detail) },
        2 => Claimed::Done { same_body: detail == 1 },
        _ => Claimed::Replayed,
    })
}

/// Reads what `look.lua` found.
fn seen(reply: &Value) -> Option<State> {
    if *reply == Value::Nil {
        return Some(State::Absent);
    }
    let Value::Array(parts) = reply else { return None };
    let [Value::BulkString(kept), Value::Int(left)] = parts.as_slice() else { return None };
    let left = span(u64::try_from(*left).unwrap_or_default());
    let (phase, rest) = kept.split_first()?;
    if *phase == b'D' {
        return Some(State::Done { digest: Digest(rest.try_into().ok()?), left });
    }
    let attempt = u32::from_be_bytes(rest.get(1..5)?.try_into().ok()?);
    let token = Token(u128::from_be_bytes(rest.get(13..29)?.try_into().ok()?));
    Some(match phase {
        b'L' if !left.is_zero() => State::Leased { token, attempt, left },
        b'U' if !left.is_zero() => State::Unknown { token, attempt, left },
        _ => State::Absent,
    })
}

fn strange(reply: &Value) -> StoreError {
    StoreError(format!("Redis gave an answer that makes no sense here: {reply:?}"))
}
