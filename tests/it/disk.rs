//! The real binary on a disk that fails (system calls are made to fail under it), fills up (a small file system), and under
//! a clock that jumps. What these need comes with `tests/setup`; making a file system needs root.

use std::path::Path;

use futures_util::future::join_all;
use rusqlite::Connection;

use crate::{
    GITHUB, STRIPE, stripe_to,
    world::{
        Gateway, Provider, Upstream,
        disk::{Failing, SmallDisk, file},
        eventually, gateway,
        provider::stripe_event,
        wall::WallClock,
    },
};

async fn post(gateway: &Gateway, id: &str) -> (u16, String) {
    let body = stripe_event(id, "invoice.paid");
    let headers = Provider::Stripe(STRIPE).sign("", "", &body);
    let answer = gateway.post("/stripe", &headers, &body).await;
    (answer.status, answer.outcome().to_owned())
}

async fn is_ready(gateway: &Gateway) -> bool {
    gateway.admin("GET", "/readyz").await.status == 200
}

fn verified(dir: &Path) {
    let mut command = gateway::binary();
    let out = command.args(["audit", "verify", "--dir"]).arg(dir).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stdout));
}

/// How often each id was acknowledged on record.
fn accepted(gateway: &Gateway, id: &str) -> usize {
    let records = gateway.records();
    records.iter().filter(|r| r["provider_id"] == id && r["outcome"] == "accepted").count()
}

#[tokio::test]
async fn a_record_that_cannot_be_written_or_synced_ends_what_is_taken_until_a_restart() {
    for (calls, how) in [
        ("fdatasync", "error=EIO"),
        ("fdatasync", "error=ENOSPC"),
        ("pwrite64", "error=EIO"),
        ("pwrite64", "error=ENOSPC"),
    ] {
        let app = Upstream::start().await;
        let gateway = Gateway::start(&stripe_to(&app.url())).await;
        assert_eq!(post(&gateway, "evt_before").await.0, 200);
        eventually("its end is on record", || async { accepted(&gateway, "evt_before") == 1 })
            .await;
        let segment = file(&gateway.dir().join("audit"), "segment-", ".ndjson");
        let failing = Failing::start(&gateway, calls, how, &segment);
        assert_eq!(
            post(&gateway, "evt_lost").await,
            (503, "audit_unavailable".into()),
            "{calls} {how}"
        );
        assert!(!is_ready(&gateway).await, "{calls} {how}");
        assert_eq!(gateway.metric("gatepost_shed_total{reason=\"disk\"}").await, 1.0);
        drop(failing);
        assert_eq!(
            post(&gateway, "evt_lost").await.0,
            503,
            "the disk is well, and nobody knows what it holds"
        );
        assert!(!is_ready(&gateway).await);
        assert_eq!(app.count(), 1, "nothing went out without a record");
        let gateway = Gateway::start_in(gateway.stop().await.1, &stripe_to(&app.url())).await;
        assert_eq!(post(&gateway, "evt_lost").await.0, 200);
        assert_eq!(post(&gateway, "evt_before").await.1, "duplicate");
        assert_eq!(app.count(), 2);
        let on_record = || async {
            accepted(&gateway, "evt_lost") == 1 && accepted(&gateway, "evt_before") == 1
        };
        eventually("both are on record", on_record).await;
        verified(&gateway.dir().join("audit"));
    }
}

#[tokio::test]
async fn a_slow_sync_delays_answers_and_loses_none() {
    let app = Upstream::start().await;
    let gateway = Gateway::start(&stripe_to(&app.url())).await;
    let segment = file(&gateway.dir().join("audit"), "segment-", ".ndjson");
    let slow = Failing::start(&gateway, "fdatasync", "delay_enter=100000", &segment);
    let ids: Vec<String> = (0..40).map(|n| format!("evt_{n}")).collect();
    let answers = join_all(ids.iter().map(|id| post(&gateway, id))).await;
    assert!(answers.iter().all(|answer| answer.0 == 200), "{answers:?}");
    drop(slow);
    assert_eq!(app.count(), 40);
    let on_record = || async { ids.iter().all(|id| accepted(&gateway, id) == 1) };
    eventually("all are on record", on_record).await;
    verified(&gateway.dir().join("audit"));
}

/// The embedded store is an index that may fail: nothing acknowledged is lost, and what comes twice says why.
#[tokio::test]
async fn a_dedup_store_that_cannot_be_written_refuses_recovers_and_excuses_what_comes_twice() {
    for (calls, how) in
        [("fdatasync,fsync", "error=EIO"), ("pwrite64", "error=EIO"), ("pwrite64", "error=ENOSPC")]
    {
        let app = Upstream::start().await;
        let gateway = Gateway::start(&stripe_to(&app.url())).await;
        assert_eq!(post(&gateway, "evt_before").await.0, 200);
        let wal = file(gateway.dir(), "dedup.sqlite3-wal", "");
        let failing = Failing::start(&gateway, calls, how, &wal);
        // Claimed in memory, delivered, and not remembered: the app has it, so the answer is 200.
        assert_eq!(post(&gateway, "evt_twice").await.0, 200, "{calls} {how}");
        eventually("it is not ready", || async { !is_ready(&gateway).await }).await;
        assert_eq!(post(&gateway, "evt_new").await.0, 503, "{calls} {how}");
        drop(failing);
        eventually("it recovers by itself", || is_ready(&gateway)).await;
        assert_eq!(post(&gateway, "evt_before").await.1, "duplicate");
        assert_eq!(post(&gateway, "evt_new").await.0, 200);
        assert_eq!(post(&gateway, "evt_twice").await.0, 200);
        assert!((3..=4).contains(&app.count()), "{}", app.count());
        if app.count() == 4 {
            let excused = || async {
                let records = gateway.records();
                let mut of_it = records.iter().filter(|r| r["provider_id"] == "evt_twice");
                of_it.any(|r| !r["error"].is_null() || !r["reason"].is_null())
            };
            eventually("the excuse is on record", excused).await;
        }
        verified(&gateway.dir().join("audit"));
    }
}

/// Makes the page of the table that holds something done one that is none.
fn blank_a_page(db: &Path) {
    let find = "SELECT mark FROM event WHERE phase = 'done' LIMIT 1";
    let mark: Vec<u8> =
        Connection::open(db).unwrap().query_row(find, [], |row| row.get(0)).unwrap();
    let mut bytes = std::fs::read(db).unwrap();
    let size = usize::from(u16::from_be_bytes([bytes[16], bytes[17]]));
    let at = (0..bytes.len()).find(|at| bytes[*at..].starts_with(&mark)).unwrap();
    assert!(at > size, "the first page is the head of the file, and is looked at first");
    bytes[at / size * size] = 0;
    std::fs::write(db, bytes).unwrap();
}

/// Damage that is met only when it is come upon. What it hits is refused, and delivered once the file is out of the way.
#[tokio::test]
async fn a_damaged_page_of_the_dedup_store_refuses_what_it_hits_and_takes_nothing_for_done() {
    let app = Upstream::start().await;
    let routes = stripe_to(&app.url());
    let gateway = Gateway::start(&routes).await;
    let ids: Vec<String> = (0..120).map(|n| format!("evt_{n}")).collect();
    let all = async |gateway: &Gateway| join_all(ids.iter().map(|id| post(gateway, id))).await;
    let accepted = |answer: &(u16, String)| *answer == (200, "accepted".into());
    assert!(all(&gateway).await.iter().all(accepted));
    let home = gateway.stop().await.1;
    let db = home.path().join("dedup.sqlite3");
    blank_a_page(&db);

    let gateway = Gateway::start_in(home, &routes).await;
    let (mut known, mut hit) = (Vec::new(), Vec::new());
    for id in &ids {
        // One after the other: what shares a transaction with what is hit is refused, too.
        let answer = post(&gateway, id).await;
        if answer.0 == 200 { &mut known } else { &mut hit }.push(answer);
    }
    assert!(known.iter().all(|(_, outcome)| outcome == "duplicate"), "{known:?}");
    assert!(hit.iter().all(|a| *a == (503, "store_unavailable".into())), "{hit:?}");
    assert!(!known.is_empty() && !hit.is_empty(), "{} and {}", known.len(), hit.len());
    assert_eq!(app.count(), ids.len(), "nothing came again");
    let log = gateway.log().join("\n");
    assert!(log.contains("is damaged") && log.contains("move it away"), "{log}");

    let home = gateway.stop().await.1;
    std::fs::rename(&db, home.path().join("damaged")).unwrap();
    let gateway = Gateway::start_in(home, &routes).await;
    assert!(all(&gateway).await.iter().all(accepted));
    verified(&gateway.stop().await.1.path().join("audit"));
}

#[tokio::test]
async fn a_disk_that_is_full_refuses_with_503_and_goes_on_when_there_is_room() {
    // The record alone on it, and the record beside the embedded dedup store.
    for dedup in ["dedup: { store: memory }\n", ""] {
        full_and_empty(dedup).await;
    }
}

async fn full_and_empty(dedup: &str) {
    let app = Upstream::start().await;
    let home = tempfile::tempdir().unwrap();
    let state = home.path().join("state");
    std::fs::create_dir(&state).unwrap();
    let routes = stripe_to(&app.url()) + dedup;
    // `min_free` is as good as off: what is met is the end of the disk itself, in the middle of a write.
    let text = gateway::yaml(&state, &routes).replace("min_free: 1MiB", "min_free: 1B");
    let disk = SmallDisk::at(&state, 24 << 20);
    let gateway = Gateway::start_under(&disk.wrapper(), home, &text).await;
    let seen = disk.seen();
    assert_eq!(post(&gateway, "evt_before").await.0, 200);
    let filler = disk.fill();
    let (mut acked, mut refused) = (Vec::new(), 0);
    for n in 0..300 {
        let id = format!("evt_{n}");
        match post(&gateway, &id).await.0 {
            200 => acked.push(id),
            503 => refused += 1,
            other => panic!("{id}: {other}"),
        }
    }
    assert!(refused > 0, "what is laid out ahead needs room");
    assert!(!is_ready(&gateway).await);
    std::fs::remove_file(&filler).unwrap();
    eventually("it is ready again", || is_ready(&gateway)).await;
    assert_eq!(post(&gateway, "evt_after").await.0, 200);
    acked.extend(["evt_before".into(), "evt_after".into()]);
    let of_record = |id: &String| {
        let records = gateway::records(&seen.join("audit"));
        records.iter().any(|r| r["provider_id"] == **id && r["kind"] == "attempt")
    };
    assert!(acked.iter().all(of_record), "acknowledged, and not on record");
    let received = app.received();
    let delivered = |id: &String| {
        let id = format!("\"{id}\"");
        received.iter().any(|request| String::from_utf8_lossy(&request.body).contains(&id))
    };
    assert!(acked.iter().all(delivered), "acknowledged, and never delivered");
    verified(&seen.join("audit"));
}

#[tokio::test]
async fn a_clock_that_jumps_ten_years_breaks_neither_the_record_nor_dedup() {
    let app = Upstream::start().await;
    let home = tempfile::tempdir().unwrap();
    let clock = WallClock::in_dir(home.path());
    let routes = format!(
        "sources: {{ stripe: {{ provider: stripe, secret: \"{STRIPE}\" }}, github: {{ provider: github, secret: \"{GITHUB}\" }} }}\n\
         routes: [ {{ source: stripe, to: app }}, {{ source: github, to: app }} ]\nupstreams: {{ app: {{ url: \"{}\" }} }}\n",
        app.url()
    );
    let text = gateway::yaml(home.path(), &routes);
    let gateway = Gateway::start_under(&clock.wrapper(), home, &text).await;
    let mut sent = 0;
    for shift in ["+0", "-3650d", "+0", "+3650d", "-3650d", "+0"] {
        clock.set(shift);
        let body = format!("{{\"n\":{sent}}}").into_bytes();
        let headers = Provider::GitHub(GITHUB).sign(&format!("id-{sent}"), "push", &body);
        let first = gateway.post("/github", &headers, &body).await;
        assert_eq!((first.status, first.outcome()), (200, "accepted"), "{shift}");
        let again = gateway.post("/github", &headers, &body).await;
        assert_eq!((again.status, again.outcome()), (200, "duplicate"), "{shift}");
        sent += 1;
        assert_eq!(app.count(), sent);
        // A signature's time counts by the gateway's clock, wrong as it is.
        if shift != "+0" {
            assert_eq!(post(&gateway, &format!("evt_{shift}")).await.0, 401, "{shift}");
        }
    }
    let audit = gateway.dir().join("audit");
    verified(&audit);
    let listed = gateway.cli(&["audit", "list", "--json"]).stdout;
    let listed = String::from_utf8(listed).unwrap();
    assert!(listed.starts_with("{\"v\":1,\"seq\":1,"), "nothing was removed: {listed:.200}");
    assert_eq!(listed.matches("clock_went_back").count(), 2, "each jump back is on record");
    // A start ten years ago, on a record of today.
    clock.set("-3650d");
    let (_, home) = gateway.stop().await;
    let text = gateway::yaml(home.path(), &routes);
    let gateway = Gateway::start_under(&clock.wrapper(), home, &text).await;
    assert!(is_ready(&gateway).await);
    let body = b"{\"n\":\"old\"}";
    let headers = Provider::GitHub(GITHUB).sign("id-old", "push", body);
    assert_eq!(gateway.post("/github", &headers, body).await.status, 200);
    verified(&gateway.dir().join("audit"));
}

/// Wherever the room ends in a first start, the next one needs room, and nobody who removes anything.
#[tokio::test]
async fn a_first_start_on_a_full_disk_leaves_nothing_in_the_way_of_the_next() {
    let app = Upstream::start().await;
    let mut failed = 0;
    let sizes = [4, 8, 12, 16, 20, 24, 64, 300];
    let memory = "dedup: { store: memory }\n";
    for (kib, dedup) in sizes.iter().flat_map(|kib| [(kib, ""), (kib, memory)]) {
        let home = tempfile::tempdir().unwrap();
        let state = home.path().join("state");
        std::fs::create_dir(&state).unwrap();
        let text = gateway::yaml(&state, &(stripe_to(&app.url()) + dedup));
        let text = text.replace("mode: none", "mode: internal").replace("1MiB", "1B");
        let disk = SmallDisk::at(&state, kib << 10);
        let wrapper = disk.wrapper();
        let mut command = std::process::Command::new(&wrapper[0]);
        command.args(&wrapper[1..]).arg(gateway::binary().get_program());
        let first = Gateway::spawn(command, home, &text).await;
        let home = match first {
            Ok(gateway) => gateway.stop().await.1,
            Err((home, log)) => {
                let why = ["No space left", "the audit log's disk is full", "disk I/O error"];
                assert!(why.iter().any(|why| log.contains(why)), "{log}");
                failed += 1;
                home
            }
        };
        disk.resize(64 << 20);
        let gateway = Gateway::start_under(&wrapper, home, &text).await;
        assert!(is_ready(&gateway).await, "{kib} KiB at first");
        let (_, _home) = gateway.stop().await;
        verified(&disk.seen().join("audit"));
    }
    assert!(failed >= 12, "{failed} of the disks were full");
}

/// What was made at the first start is still there after a power cut: every new name is synced in the directory that holds it. So is
/// that of a directory which an earlier run may have made and not come to sync.
#[tokio::test]
async fn the_names_of_a_first_start_are_durable() {
    for was_there in [false, true] {
        names_are_durable(was_there).await;
    }
}

/// Who exports a record may throw the record away afterwards.
#[tokio::test]
async fn what_was_exported_is_durable_before_that_is_said() {
    let gateway = Gateway::start(&stripe_to("http://127.0.0.1:9")).await;
    let (_, home) = gateway.stop().await;
    let (out, trace) = (home.path().join("new/export"), home.path().join("trace"));
    let mut strace = std::process::Command::new("strace");
    strace.args(["-f", "-y", "-e", "trace=mkdir,fsync,fdatasync,openat,write", "-o"]).arg(&trace);
    strace.arg(gateway::binary().get_program()).args(["audit", "export", "--dir"]);
    let done = strace.arg(home.path().join("audit")).arg("--out").arg(&out).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let trace = std::fs::read_to_string(&trace).unwrap();
    let lines: Vec<&str> = trace.lines().collect();
    let said = lines.iter().position(|line| line.contains("\"records 1 to ")).unwrap();
    let last = |call: &str, path: &Path| {
        let (call, path) = (format!("{call}("), path.display().to_string());
        lines.iter().rposition(|l| l.contains(&call) && l.contains(&path) && !l.contains("= -1"))
    };
    let mut made = 0;
    for file in std::fs::read_dir(&out).unwrap().map(|entry| entry.unwrap().path()) {
        let synced = last("fsync", &file).max(last("fdatasync", &file));
        let written = last("openat", &file).max(last("write", &file));
        assert!(written < synced && synced < Some(said), "{}:\n{trace}", file.display());
        made = made.max(last("openat", &file).unwrap());
    }
    let synced = |dir: &Path, after: usize| {
        let dir = format!("<{}>)", dir.display());
        let synced = lines[after..said].iter().any(|l| l.contains("fsync(") && l.contains(&dir));
        assert!(synced, "{dir}:\n{trace}");
    };
    synced(&out, made);
    synced(out.parent().unwrap(), last("mkdir", &out).unwrap());
    synced(home.path(), 0);
}

async fn names_are_durable(was_there: bool) {
    let home = tempfile::tempdir().unwrap();
    let (state, trace) = (home.path().join("new/state"), home.path().join("trace"));
    if was_there {
        std::fs::create_dir_all(state.join("audit")).unwrap();
    }
    let strace = ["strace", "-D", "-f", "-y", "-e", "trace=mkdir,fsync,openat,rename", "-o"];
    let mut wrapper: Vec<String> = strace.map(str::to_owned).to_vec();
    wrapper.push(trace.to_str().unwrap().to_owned());
    let text = gateway::yaml(&state, &stripe_to("http://127.0.0.1:9"));
    let gateway = Gateway::start_under(&wrapper, home, &text).await;
    let (_, _home) = gateway.stop().await;
    let ended = || async { std::fs::read_to_string(&trace).unwrap().contains("exited with") };
    eventually("strace has written everything", ended).await;
    let trace = std::fs::read_to_string(&trace).unwrap();
    let lines: Vec<&str> = trace.lines().collect();
    for (made, call) in [
        (state.parent().unwrap().to_owned(), "mkdir("),
        (state.clone(), "mkdir("),
        (state.join("audit"), "mkdir("),
        (state.join("audit-signing.key"), "rename("),
        (state.join("audit/segment-00000000000000000001.ndjson"), "O_CREAT"),
        (state.join("audit/checkpoints"), "O_CREAT"),
        (state.join("dedup.sqlite3"), "O_CREAT"),
        (state.join("dedup.sqlite3-wal"), "O_CREAT"),
    ] {
        let name = format!("\"{}\"", made.display());
        if was_there && call == "mkdir(" && *made == *state.parent().unwrap() {
            continue; // what holds it was made before, and synced before that
        }
        let at =
            lines.iter().position(|l| l.contains(call) && l.contains(&name) && !l.contains("= -1"));
        let at = at.or((was_there && call == "mkdir(").then_some(0));
        let at = at.unwrap_or_else(|| panic!("{name} is not made:\n{trace}"));
        let parent = format!("<{}>)", made.parent().unwrap().display());
        let synced = lines[at..].iter().any(|l| l.contains("fsync(") && l.contains(&parent));
        assert!(synced, "{name} is not synced in its directory:\n{trace}");
    }
}
