//! A request finds what answers it by one hash of its path, however many sources there are.

use std::{
    collections::hash_map::DefaultHasher,
    hash::{BuildHasher, Hasher},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use gatepost::stack::Doors;

/// Counts how often something is hashed, and how many bytes that are.
#[derive(Clone, Default)]
struct Counted {
    hashes: Arc<AtomicUsize>,
    bytes: Arc<AtomicUsize>,
}

struct Counting {
    inner: DefaultHasher,
    bytes: Arc<AtomicUsize>,
}

impl BuildHasher for Counted {
    type Hasher = Counting;

    fn build_hasher(&self) -> Counting {
        self.hashes.fetch_add(1, Relaxed);
        Counting { inner: DefaultHasher::new(), bytes: Arc::clone(&self.bytes) }
    }
}

impl Hasher for Counting {
    fn finish(&self) -> u64 {
        self.inner.finish()
    }

    fn write(&mut self, bytes: &[u8]) {
        self.bytes.fetch_add(bytes.len(), Relaxed);
        self.inner.write(bytes);
    }
}

#[test]
fn a_path_is_hashed_once_however_many_there_are() {
    for count in [1, 10, 100, 500, 5000] {
        let counted = Counted::default();
        let paths = (0..count).map(|n| (format!("/source-{n:04}"), n));
        let doors = Doors::new(paths, counted.clone());
        for n in [0, count / 2, count - 1] {
            counted.hashes.store(0, Relaxed);
            counted.bytes.store(0, Relaxed);
            let path = format!("/source-{n:04}");
            assert_eq!(doors.at(&path), Some(&n));
            // The path, and the byte that ends a text.
            let done = (counted.hashes.load(Relaxed), counted.bytes.load(Relaxed));
            assert_eq!(done, (1, path.len() + 1), "{count} sources");
        }
        assert_eq!(doors.at("/nobody"), None);
        assert_eq!(doors.at("/source-0000/"), None, "byte for byte");
    }
}
