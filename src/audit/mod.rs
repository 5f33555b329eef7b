//! Makes it true on disk before it is true anywhere else.
//!
//! The one maker of [`Recorded`], and of [`Flagged`] for sources in shadow mode.

mod checkpoint;
pub mod export;
mod journal;
mod log;
mod open;
mod record;
mod removed;
mod seal;
pub mod segments;
mod stages;
pub mod storage;
pub mod verify;
mod walk;
mod writer;

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::PathBuf,
    time::Duration,
};

use http::{HeaderMap, HeaderName, HeaderValue};

pub use journal::AuditError;
pub use log::{
    AuditLog, Health, QUEUE_RECORDS_MAX, REJECTED_BYTES_PER_SECOND, REJECTED_PER_SECOND, is_ripe,
    siblings,
};
pub use open::{ByHand, OpenError, open, open_by_hand, open_on};
pub use record::{Draft, Kind};
pub use stages::{Audit, LateEnding, Note, ShadowAudit};
pub use writer::{Clock, idle};

use crate::{
    answer::Manners,
    dedup::Lease,
    route::{Routed, Shadow},
    units::choices,
};

/// An event that is on disk: the only thing that can be forwarded.
///
/// ```compile_fail,E0451
/// // Nobody else can make one: its fields are private and it has no constructor.
/// fn forge(recorded: gatepost::audit::Recorded) -> gatepost::audit::Recorded {
///     gatepost::audit::Recorded { seq: 1, ..recorded }
/// }
/// ```
///
/// What it says can be read by everybody:
///
/// ```
/// fn look(recorded: gatepost::audit::Recorded) -> u64 {
///     recorded.seq()
/// }
/// ```
#[derive(Debug)]
pub struct Recorded {
    routed: Routed,
    lease: Lease,
    seq: u64,
    log: AuditLog,
}

impl Recorded {
    /// The event and where it goes.
    pub fn routed(&self) -> &Routed {
        &self.routed
    }

    /// Our claim.
    pub fn lease(&self) -> &Lease {
        &self.lease
    }

    /// The audit record that made it durable.
    pub fn seq(&self) -> u64 {
        self.seq
    }
}

/// A request of a source in shadow mode that would have been refused, and is recorded as such unless the rate cap left it out.
#[derive(Debug)]
pub struct Flagged {
    shadow: Shadow,
}

impl Flagged {
    /// The request, why it would have been refused, and where it goes.
    pub fn shadow(&self) -> &Shadow {
        &self.shadow
    }
}

/// Where the log is and how it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Params {
    /// Directory of the segments.
    pub dir: PathBuf,
    /// How long closed segments are kept.
    pub retention: Duration,
    /// When a segment is closed.
    pub rotate_bytes: u64,
    /// When a segment is closed, by age.
    pub rotate_every: Duration,
    /// Whether closed segments are compressed (zstd).
    pub compress: bool,
    /// How often a checkpoint is signed while records arrive.
    pub checkpoint_every: Duration,
    /// The Ed25519 key (PKCS#8 PEM); made on first start.
    pub checkpoint_key: PathBuf,
    /// Where each checkpoint is copied to, off this log.
    pub copy_to: Vec<CopyTo>,
    /// Below this much free space nothing is accepted.
    pub free_bytes_min: u64,
    /// `false` only in throw-away gateways (`gatepost dev`).
    pub fsync: bool,
}

/// A place for copies of checkpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CopyTo {
    /// Standard output, a line each.
    Stdout,
    /// A file that is appended to.
    File(PathBuf),
}

/// What is written about a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Detail {
    /// Request headers that go on the record.
    pub headers: Vec<HeaderName>,
    /// What is kept of the sender's address.
    pub client_ip: ClientIp,
    /// What is kept of rejected requests.
    pub rejected: Rejected,
    /// What the sender is told where it wants to hear something special.
    pub manners: Manners,
}

choices! {
    /// What is kept of the sender's address.
    pub enum ClientIp {
        /// All of it.
        Keep,
        /// The network only: /24 and /48.
        Truncate,
        /// Nothing.
        Drop,
    }

    /// What is kept of rejected requests. Whatever this says, all are counted.
    pub enum Rejected {
        /// At most five per second and source.
        Sampled,
        /// Nothing but the counters.
        None,
    }
}

impl Detail {
    /// The sender's address, as far as it is kept.
    fn keep_ip(&self, ip: IpAddr) -> Option<IpAddr> {
        match (self.client_ip, ip.to_canonical()) {
            (ClientIp::Drop, _) => None,
            (ClientIp::Keep, ip) => Some(ip),
            (ClientIp::Truncate, IpAddr::V4(v4)) => {
                Some(Ipv4Addr::from_bits(v4.to_bits() & (u32::MAX << 8)).into())
            }
            (ClientIp::Truncate, IpAddr::V6(v6)) => {
                Some(Ipv6Addr::from_bits(v6.to_bits() & (u128::MAX << 80)).into())
            }
        }
    }

    /// The request headers that go on the record. Credentials never do, whatever was configured.
    fn keep_headers<'a>(
        &'a self,
        headers: &'a HeaderMap,
    ) -> impl Iterator<Item = (&'a HeaderName, &'a HeaderValue)> {
        let allowed = self.headers.iter().filter(|name| !CREDENTIALS.contains(*name));
        let found = allowed.filter_map(|name| Some((name, headers.get(name)?)));
        found.filter(|(_, value)| !value.is_sensitive())
    }
}

const CREDENTIALS: [HeaderName; 3] =
    [http::header::AUTHORIZATION, http::header::COOKIE, http::header::PROXY_AUTHORIZATION];
