//! How long something has lasted, for those who are asleep meanwhile: a lease in Redis goes on while this machine is suspended,
//! and the monotonic clock does not.

use std::time::Duration;

use tokio::time::Instant;

/// What has passed since it was started.
#[derive(Clone, Copy, Debug)]
pub(super) struct Watch {
    began: Instant,
    suspended_before: Duration,
    suspended: fn() -> Duration,
}

impl Watch {
    /// Starts one, by a clock that says for how long the machine was suspended so far.
    pub(super) fn start(suspended: fn() -> Duration) -> Self {
        Self { began: Instant::now(), suspended_before: suspended(), suspended }
    }

    /// What has passed, awake or not.
    pub(super) fn elapsed(&self) -> Duration {
        let asleep = (self.suspended)().saturating_sub(self.suspended_before);
        self.began.elapsed().saturating_add(asleep)
    }
}

/// For how long this machine was suspended since it was started. Two clocks tell, and a thread that is kept waiting between them
/// takes that for sleep: the least of several readings is the nearest.
#[cfg(target_os = "linux")]
pub fn suspended() -> Duration {
    use rustix::time::{ClockId, clock_gettime};
    let read = |clock| Duration::try_from(clock_gettime(clock)).unwrap_or_default();
    let mut least = Duration::MAX;
    for _ in 0..READINGS_MAX {
        let awake = read(ClockId::Monotonic);
        least = least.min(read(ClockId::Boottime).saturating_sub(awake));
        if read(ClockId::Monotonic).saturating_sub(awake) < UNDISTURBED {
            break;
        }
    }
    least
}

/// How often the clocks are read at most, and in which time a reading is not disturbed.
#[cfg(target_os = "linux")]
const READINGS_MAX: usize = 8;
#[cfg(target_os = "linux")]
const UNDISTURBED: Duration = Duration::from_micros(50);

/// For how long this machine was suspended since it was started: nobody tells.
#[cfg(not(target_os = "linux"))]
pub fn suspended() -> Duration {
    Duration::ZERO
}
