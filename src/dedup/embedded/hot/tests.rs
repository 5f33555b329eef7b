//! What leaves memory and when, by a clock that the test turns.

use std::{sync::Arc, thread, time::Instant};

use super::{super::super::claim, *};
use crate::event::Digest;

const HOUR: Duration = Duration::from_secs(3600);

fn subject(id: &str) -> Subject {
    let (key, guard) =
        (EventKey::of(&[id.as_bytes()]), Some(EventKey::of(&[b"guard of", id.as_bytes()])));
    Subject { key, guard, suppress: true, digest: Digest::of(b"body") }
}

impl Shared {
    /// How many events and guards are in memory.
    fn len(&self) -> (usize, usize) {
        let hot = self.lock();
        (hot.events.len(), hot.guards.len())
    }
}

#[test]
fn what_was_written_leaves_memory_when_it_has_cooled_and_claims_under_way_stay() {
    let dir = tempfile::tempdir().unwrap();
    let (shared, clock) = (Arc::new(Shared::default()), Arc::new(AtomicU64::new(1000)));
    let disk = Disk::open(&dir.path().join("file")).unwrap();
    let reader = Disk::open_beside(&dir.path().join("file")).unwrap();
    let writer = {
        let (shared, clock) = (shared.clone(), clock.clone());
        thread::spawn(move || write_behind(&shared, disk, || clock.load(Ordering::SeqCst)))
    };
    let (done, working) = (subject("done"), subject("working"));
    let token = claim::Token(1);
    let claimed = shared.apply(&working, Some(Kept::default()), |kept| {
        claim::claim(kept, &working, token, HOUR, HOUR, 1000)
    });
    assert!(matches!(claimed, Ok(claim::Claimed::Won { .. })));
    let committed = shared.put_synced(&done, claim::complete(&done, HOUR, 1000));
    committed.blocking_recv().unwrap().unwrap();
    assert_eq!(shared.len(), (2, 1), "warm");
    assert!(reader.find(&done).unwrap().guard.is_some(), "and in the file");

    clock.fetch_add(COOL * 2, Ordering::SeqCst);
    let deadline = Instant::now() + Duration::from_secs(10);
    while shared.len() != (1, 0) {
        assert!(Instant::now() < deadline, "{:?} are left", shared.len());
        thread::sleep(Duration::from_millis(5));
    }
    let renewed = shared.apply(&working, None, |kept| claim::renew(kept, token, HOUR, 14_000));
    assert!(renewed.is_err(), "its guard was never looked up, so memory alone cannot say");
    let renewed = shared
        .apply(&working, Some(Kept::default()), |kept| claim::renew(kept, token, HOUR, 14_000));
    assert!(matches!(renewed, Ok(true)), "a claim under way is still known");
    shared.stop();
    writer.join().unwrap();
}
