//! A file of the embedded store that is damaged where it is read: who meets the damage is refused and told what to do about
//! it, and nobody else notices.

use std::{fs, path::Path};

use futures_util::future::join_all;

use super::{
    embedded::{file, open},
    *,
};

const PAGE: usize = 4096;

/// Events that are done, in a store that was closed.
async fn done_in(dir: &Path) -> Vec<Subject> {
    let store = open(dir);
    let events: Vec<_> = (0..400).map(|_| fresh()).collect();
    for done in join_all(events.iter().map(|event| store.complete(event, HOUR))).await {
        done.unwrap();
    }
    events
}

/// Puts zeros in the place of a page of the table, and says which of the events cannot be read any more, and which can. A
/// new one may belong there.
fn damage(dir: &Path, events: Vec<Subject>) -> (Vec<Subject>, Vec<Subject>) {
    const LEAF: u8 = 10; // not one that leads to others
    let path = dir.join("dedup.sqlite3");
    let mut bytes = fs::read(&path).unwrap();
    let page = events.iter().find_map(|event| {
        let row = [&event.key.0[..], b"done"].concat();
        let holds = |page: &[u8]| page.windows(row.len()).any(|at| at == row);
        bytes.chunks(PAGE).position(|page| page[0] == LEAF && holds(page))
    });
    let page = page.expect("a page of the table") * PAGE;
    bytes[page..page + PAGE].fill(0);
    fs::write(path, bytes).unwrap();
    let file = file(dir);
    let mut query = file.prepare("SELECT 1 FROM event WHERE key = ?1").unwrap();
    let parts =
        events.into_iter().partition::<Vec<_>, _>(|event| query.exists([event.key.0]).is_err());
    assert!(!parts.0.is_empty() && parts.0.len() < parts.1.len(), "a page of several");
    parts
}

fn is_told(result: Result<impl std::fmt::Debug, StoreError>) {
    let error = result.expect_err("nobody knows whether it is done").to_string();
    assert!(error.contains("the file is damaged: stop, and move it away"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_on_a_damaged_page_is_refused_and_no_other_one() {
    let dir = tempfile::tempdir().unwrap();
    let events = done_in(dir.path()).await;
    let (lost, mut rest) = damage(dir.path(), events);
    let spare = rest.split_off(rest.len() - 10);
    let free = "UPDATE event SET phase = 'free', mark = x'' WHERE key = ?1";
    for event in &spare {
        assert_eq!(file(dir.path()).execute(free, [event.key.0]).unwrap(), 1);
    }
    let store = open(dir.path());
    for two in spare.chunks(2) {
        // Among each other, so that they share transactions: claims, and others' successes.
        let (claimed, done) = (two[0], two[1]);
        assert_eq!(claim(&store, &claimed, A).await, WON);
        let (of_lost, of_rest, written, is_lost) = tokio::join!(
            join_all(lost.iter().map(|event| store.claim(event, B, HOUR, HOUR))),
            join_all(rest.iter().map(|event| store.claim(event, B, HOUR, HOUR))),
            store.complete(&done, HOUR),
            store.complete(&lost[0], HOUR),
        );
        of_lost.into_iter().for_each(is_told);
        for known in of_rest {
            assert_eq!(known.expect("it is not on that page"), DONE);
        }
        written.expect("neither is this one");
        is_told(is_lost);
        assert!(store.renew(&claimed, A, HOUR).await.unwrap(), "what was claimed stays claimed");
        assert_eq!(claim(&store, &done, B).await, DONE);
    }
    let ready = async {
        while store.health().await.is_err() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, ready).await.expect("it goes on");
}

/// Whenever it is tried, with the same operations in the transaction.
#[tokio::test]
async fn what_is_over_on_a_damaged_page_stops_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let events = done_in(dir.path()).await;
    file(dir.path())
        .execute_batch("UPDATE event SET forget = 1; UPDATE clock SET now = 7")
        .unwrap();
    let (_, rest) = damage(dir.path(), events);
    let (store, file) = (open(dir.path()), file(dir.path()));
    let time = || file.query_row("SELECT now FROM clock", [], |row| row.get::<_, i64>(0)).unwrap();
    let swept = async {
        for _ in 0..2 {
            let before = time();
            while time() == before {
                assert_eq!(claim(&store, &rest[0], A).await, WON); // the time is kept with the sweep
            }
        }
    };
    tokio::time::timeout(PATIENCE, swept).await.expect("it is tried again and again");
}

#[tokio::test]
async fn a_row_that_makes_no_sense_is_damage_too() {
    let rows = [
        "UPDATE event SET mark = x'00' WHERE key = ?1",
        "UPDATE event SET attempt = -1 WHERE key = ?1",
        "UPDATE event SET attempt = 5000000000 WHERE key = ?1",
        "UPDATE event SET phase = CAST(x'ff' AS TEXT) WHERE key = ?1",
        "UPDATE guard SET event = x'00' WHERE event = ?1",
    ];
    let dir = tempfile::tempdir().unwrap();
    let (store, file) = (open(dir.path()), file(dir.path()));
    for row in rows {
        let ((event, _), (other, replay)) = (fresh_pair(), fresh_pair());
        for event in [&event, &other] {
            store.complete(event, HOUR).await.unwrap();
        }
        assert_eq!(file.execute(row, [event.key.0]).unwrap(), 1, "{row}");
        is_told(store.claim(&event, B, HOUR, HOUR).await);
        assert_eq!(claim(&store, &other, B).await, DONE, "{row}");
        assert_eq!(claim(&store, &replay, B).await, Claimed::Replayed, "{row}");
    }
}
