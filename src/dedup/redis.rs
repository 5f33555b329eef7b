//! The Redis store.

use std::time::Duration;

use crate::secret::Secret;

/// Redis.
#[derive(Debug)]
pub struct Redis;

/// How to reach Redis.
#[derive(Clone, Debug)]
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
    pub ca: Option<std::path::PathBuf>,
}
