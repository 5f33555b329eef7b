//! What the log says of itself, exactly: ranges that are exported, keys, and what is in a record.

use std::{
    fs, io::ErrorKind::AlreadyExists, os::unix::fs::MetadataExt as _, path::Path, sync::Arc,
};

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, STANDARD_NO_PAD},
};
use gatepost::{
    audit::{
        CopyTo, Draft, Kind,
        export::export,
        open_on,
        segments::{Lines, Piece, Segments},
        storage::put_new,
        verify,
    },
    event::{About, EventId, EventType, Timestamp},
};
use http::{HeaderName, HeaderValue};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::audit_world::{World, about, attempt, by_hand, disk::Disk};

/// A run at a time: `started`, an attempt, `stopped`. Sealed behind its first record and its last.
async fn run(world: &World, at: Timestamp) {
    let disk = Disk::open(world.dir());
    let log = open_on(disk, &world.params, world.metrics.audit(), Arc::new(move || at)).unwrap();
    log.append(attempt(0)).await.unwrap();
    log.close().await.unwrap();
}

/// A file that must be new: whoever gave the name to one first keeps it, and nothing is left of the other.
#[test]
fn a_new_file_takes_no_name_that_is_taken() {
    type Taken = fn(&Path) -> std::io::Result<()>;
    let table: [(Taken, bool); 5] = [
        (|_| Ok(()), true),
        (|path| fs::write(path, ""), false),
        (|path| fs::write(path, "theirs"), false),
        (|path| std::os::unix::fs::symlink("nowhere", path), false),
        (|path| fs::create_dir(path), false),
    ];
    for (n, (taken, is_new)) in table.into_iter().enumerate() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        taken(&path).unwrap();
        let before = fs::symlink_metadata(&path).ok().map(|found| found.ino());
        let made = put_new(&path, b"ours", 0o600);
        assert_eq!(
            made.as_ref().err().map(std::io::Error::kind),
            (!is_new).then_some(AlreadyExists),
            "{n}"
        );
        let found = fs::symlink_metadata(&path).unwrap();
        if is_new {
            assert_eq!(fs::read(&path).unwrap(), b"ours", "{n}");
            assert_eq!((found.mode() & 0o777, found.nlink()), (0o600, 1), "{n}");
        } else {
            assert_eq!(Some(found.ino()), before, "{n}: what was there");
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "{n}: nothing else");
    }
    // What another process is just writing is left alone.
    let dir = tempfile::tempdir().unwrap();
    let theirs = dir.path().join(".file.1.tmp");
    fs::write(&theirs, "theirs").unwrap();
    put_new(&dir.path().join("file"), b"ours", 0o600).unwrap();
    assert_eq!(fs::read(theirs).unwrap(), b"theirs");
}

#[tokio::test]
async fn a_range_is_exported_between_the_checkpoints_around_it() {
    let world = World::new();
    let hour = |n: i64| Timestamp::from_millis(1_700_000_000_000 + n * 3_600_000);
    for n in 1..=3 {
        run(&world, hour(n)).await;
    }
    let between = |n: i64| Timestamp::from_millis(hour(n).as_millis() + 1);
    let table = [
        (None, None, Some((1, 9, 6))),
        (None, Some(hour(2)), Some((1, 3, 2))),
        (None, Some(between(2)), Some((1, 6, 4))),
        (Some(hour(2)), Some(hour(3)), Some((4, 6, 3))),
        (Some(between(1)), Some(between(2)), Some((4, 6, 3))),
        (Some(hour(3)), None, Some((7, 9, 3))),
        (Some(between(3)), None, None),
        (None, Some(hour(1)), None),
    ];
    for (n, (since, until, expected)) in table.into_iter().enumerate() {
        let out = world.root.path().join(format!("out{n}"));
        let found = export(world.dir(), &out, since, until);
        let Some((first, last, checkpoints)) = expected else {
            assert_eq!(found, Err("there are no records in that range".into()), "{since:?}");
            continue;
        };
        let found = found.unwrap();
        assert_eq!((found.first, found.last, found.checkpoints), (first, last, checkpoints));
        let report = by_hand(&out, None).unwrap();
        assert_eq!(report.findings, [], "{since:?} {until:?}");
        assert_eq!((report.first, report.last, report.records), (first, last, last - first + 1));
        assert_eq!((report.export, report.unanchored()), (Some((first, last)), 0));
        assert!(export(world.dir(), &out, None, None).unwrap_err().contains("not empty"));
    }
}

#[tokio::test]
async fn what_a_verifier_says_of_a_good_log() {
    let world = World::new();
    let times = [1_700_000_000_000, 1_700_000_007_000];
    for at in times {
        run(&world, Timestamp::from_millis(at)).await;
    }
    let report = world.verify();
    let [first, last] = times.map(|at| Timestamp::from_millis(at).to_string());
    assert_eq!(report.times, (first, last.clone()));
    assert_eq!(report.sealed, Some((6, last)));
    assert_eq!((report.segments, report.checkpoints, report.copies), (1, 4, 0));
    let line = fs::read_to_string(world.dir().join("audit-signing.pub")).unwrap();
    let key = STANDARD.decode(line.trim().splitn(3, '+').nth(2).unwrap()).unwrap();
    let digest = STANDARD_NO_PAD.encode(Sha256::digest(&key[1..]));
    assert_eq!(report.keys, [format!("ed25519 SHA256:{digest}")]);
}

#[tokio::test]
async fn keys_may_have_words_around_them_and_must_be_whole() {
    let world = World::new();
    world.fill(1).await;
    let line = fs::read_to_string(world.dir().join("audit-signing.pub")).unwrap();
    let keys = world.root.path().join("keys");
    let good = |text: &str| {
        fs::write(&keys, text).unwrap();
        verify::verify(world.dir(), Some(&keys), None).map(|report| report.is_good())
    };
    assert_eq!(good(&format!("# of the gateway\n\n{line} \n")), Ok(true));
    let shorter = line.replacen('+', "", 1);
    for text in ["", "# nothing\n", "no key\n", &format!("{line}no key\n"), &shorter] {
        assert!(good(text).unwrap_err().contains("no public key"), "{text}");
    }
}

#[test]
fn a_key_that_cannot_be_read_is_not_made_anew() {
    for (text, why) in [(None, "directory"), (Some("no key"), "not an Ed25519 key")] {
        let world = World::new();
        let key = &world.params.checkpoint_key;
        text.map_or_else(|| fs::create_dir(key), |text| fs::write(key, text)).unwrap();
        let opened = gatepost::audit::open(&world.params, world.metrics.audit());
        let said = opened.unwrap_err().to_string();
        assert!(said.contains(why), "{said}");
    }
}

/// The one record that was made so, and its line.
async fn recorded(draft: Draft) -> (Value, String) {
    let world = World::new();
    let log = world.open();
    log.append(draft).await.unwrap();
    log.close().await.unwrap();
    let text = fs::read_to_string(world.files(".ndjson").pop().unwrap()).unwrap();
    let line = text.lines().nth(1).unwrap().to_owned();
    (serde_json::from_str(&line).unwrap(), line)
}

#[tokio::test]
async fn a_record_holds_nothing_long_and_nothing_that_a_terminal_acts_on() {
    let (a, quoted) = (HeaderName::from_static("x-a"), HeaderName::from_static("x-q"));
    let long = format!("{}{}", "x".repeat(255), "\u{e9}".repeat(9));
    let long = HeaderValue::from_bytes(long.as_bytes()).unwrap();
    let odd = HeaderValue::from_bytes("a\"b\\c\u{202e}\u{e9}\t".as_bytes()).unwrap();
    let mut draft = Draft::new(Kind::Attempt);
    draft.origin(None, [(&a, &long), (&quoted, &odd)]);
    let (record, line) = recorded(draft).await;
    assert_eq!(
        record["headers"],
        json!({ "x-a": "x".repeat(255), "x-q": "a\"b\\c\u{202e}\u{e9}\t" })
    );
    assert!(line.contains(r#""a\"b\\c\u202e"#) && line.contains("\u{e9}\\u0009\""), "{line}");
    assert!(record["client_ip"].is_null());
    for text in ["\"\"", "\\\\"] {
        let mut draft = Draft::new(Kind::Attempt);
        draft.origin(None, [(&a, &HeaderValue::from_static(text))]);
        assert_eq!(recorded(draft).await.0["headers"]["x-a"], text);
    }

    let many: Vec<_> = (0..20).map(|n| HeaderName::try_from(format!("x-{n}")).unwrap()).collect();
    let mut draft = Draft::new(Kind::Attempt);
    draft.origin(Some([192, 0, 2, 7].into()), many.iter().map(|name| (name, &odd)));
    let (record, _) = recorded(draft).await;
    assert_eq!(record["headers"].as_object().unwrap().len(), 16);
    assert_eq!(record["client_ip"], "192.0.2.7");
    let (record, line) = recorded(Draft::new(Kind::Rejected)).await;
    assert!(record["headers"].is_null() && !line.contains("headers"), "none");
}

#[tokio::test]
async fn a_record_names_the_event_and_at_most_a_hundred_items() {
    let items = |count: usize| {
        let item = |n: usize| (EventId::parse(&format!("i{n}")), EventType::parse("t"));
        (0..count).map(item).chain([(None, None)]).collect::<Vec<_>>()
    };
    for (count, kept) in [(2, 3), (120, 100)] {
        let account = EventId::parse("acct");
        let about = About { items: items(count), account, ..(*about(7)).clone() };
        let mut draft = Draft::new(Kind::Attempt);
        draft.event(&about);
        let (record, _) = recorded(draft).await;
        let listed = record["items"].as_array().unwrap();
        assert_eq!(listed.len(), kept);
        assert_eq!((&listed[0], &listed[1]), (&json!(["i0", "t"]), &json!(["i1", "t"])));
        assert_eq!(listed.last() == Some(&json!([null, null])), count < 100);
        for (member, value) in [
            ("provider_id", json!("evt_7")),
            ("event_type", json!("invoice.paid")),
            ("event_id", json!(about.key.event_id().as_str())),
            ("account", json!("acct")),
            ("digest", json!(format!("sha256:{}", about.digest))),
            ("bytes", json!(about.body_bytes)),
            ("scheme", json!("hmac-sha256")),
            ("secret", json!("whsec_…9c1e")),
            ("secret_slot", json!(1)),
        ] {
            assert_eq!(record[member], value, "{member}");
        }
    }
    // Where no secret of the source matched, none is named: a key that was fetched has no number.
    for (label, secret) in [("", Value::Null), ("fetched", json!("fetched"))] {
        let (secret_slot, secret_label) = (0, label.into());
        let mut draft = Draft::new(Kind::Attempt);
        draft.event(&About { secret_slot, secret_label, ..(*about(7)).clone() });
        let (record, _) = recorded(draft).await;
        assert_eq!(record["secret"], secret);
        assert!(record["secret_slot"].is_null() && record["items"].is_null());
    }
}

/// What is no log is no good log either.
#[test]
fn a_directory_without_a_log_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let said = |dir: &Path| verify::verify(dir, None, None).unwrap_err();
    assert!(said(dir.path()).contains("audit-signing.pub"), "{}", said(dir.path()));
}

/// What is called nearly as a segment is none, and where both forms of one are there, the plain one counts: compressing the other was
/// interrupted.
#[tokio::test]
async fn only_what_is_called_as_a_segment_is_one() {
    let world = World::with(|params| (params.rotate_bytes, params.compress) = (1, false));
    world.fill(3).await;
    let plain = world.files(".ndjson");
    let beside = |path: &Path, name: &str| fs::write(path.with_file_name(name), "nothing").unwrap();
    for name in
        ["segment-99.ndjson", "segment-0000000000000000001x.ndjson", "segment-98.ndjson.zst"]
    {
        beside(&plain[0], name);
    }
    let first = plain[0].file_name().unwrap().to_str().unwrap();
    beside(&plain[0], &format!("{first}.zst"));
    let segments = Segments::of(world.dir()).unwrap();
    let numbers: Vec<_> = segments.firsts().collect();
    assert_eq!(numbers, (1..=plain.len() as u64).collect::<Vec<_>>());
    assert_eq!(world.verify().findings, []);
    world.fill(1).await;
    assert_eq!(world.verify().findings, []);
    assert!(plain[0].exists());
    assert!(!world.dir().join(format!("{first}.zst")).exists(), "thrown away");
}

/// A line is as long as the longest record at the most, wherever its end is.
#[test]
fn lines_have_a_longest_length() {
    const MAX: usize = 256 * 1024;
    for (len, piece, read) in [
        (MAX - 1, Piece::Line, MAX - 1),
        (MAX, Piece::Line, MAX),
        (MAX + 1, Piece::Torn, MAX + 1),
        (MAX + 2, Piece::Torn, MAX + 1),
    ] {
        let text = [&vec![b'x'; len][..], b"\n"].concat();
        let mut lines = Lines::new(&text[..]);
        assert_eq!(lines.advance().unwrap(), piece, "{len} bytes");
        assert_eq!(lines.bytes().len(), read, "{len} bytes");
        assert_eq!(lines.end(), (read + usize::from(piece == Piece::Line)) as u64);
    }
}

/// Public keys that cannot be read are somebody's evidence, and not to be written over.
#[tokio::test]
async fn public_keys_that_cannot_be_read_stay_as_they_are() {
    let world = World::new();
    world.fill(1).await;
    let public = world.dir().join("audit-signing.pub");
    let damaged = [&fs::read(&public).unwrap()[..], b"\xff\n"].concat();
    fs::write(&public, &damaged).unwrap();
    assert!(gatepost::audit::open(&world.params, world.metrics.audit()).is_err());
    assert_eq!(fs::read(&public).unwrap(), damaged);
}

/// A checkpoint that a crash tore is cut off, so that the next one has a line of its own.
#[tokio::test]
async fn a_torn_checkpoint_is_cut_at_the_next_start() {
    let world = World::new();
    world.fill(1).await;
    let checkpoints = &world.files("checkpoints")[0];
    let whole = fs::read_to_string(checkpoints).unwrap();
    let last = whole.lines().last().unwrap();
    let (half, rest) = last.split_at(last.len() / 2);
    let zeros = "\0".repeat(half.len());
    for tail in [half, &format!("{zeros}{rest}\n"), &format!("{half}{zeros}"), "{\"v\"", "\0\0"] {
        fs::write(checkpoints, format!("{whole}{tail}")).unwrap();
        let before = world.snapshot();
        world.fill(1).await;
        let now = fs::read_to_string(checkpoints).unwrap();
        assert!(now.starts_with(&whole), "{tail:?}");
        assert_eq!(now.lines().count(), whole.lines().count() + 2, "{tail:?}: {now}");
        let report = world.verify();
        assert_eq!(
            (report.findings.as_slice(), report.checkpoints),
            ([].as_slice(), 4),
            "{tail:?}"
        );
        world.restore(&before);
    }
}

/// Keys that signed before stay in the file, whatever its last line ends with.
#[tokio::test]
async fn a_new_key_is_written_behind_those_before_it() {
    let world = World::new();
    world.fill(1).await;
    let public = world.dir().join("audit-signing.pub");
    let old = fs::read_to_string(&public).unwrap();
    let mut known = old.trim_end().to_owned();
    for count in 2..4 {
        fs::write(&public, &known).unwrap();
        let other = World::new();
        other.fill(1).await;
        fs::copy(&other.params.checkpoint_key, &world.params.checkpoint_key).unwrap();
        let sealed = fs::read_to_string(&world.files("checkpoints")[0]).unwrap();
        world.fill(2).await;
        let now = fs::read_to_string(&world.files("checkpoints")[0]).unwrap();
        assert!(now.starts_with(&sealed), "what the old key signed stays: {now}");
        let keys = fs::read_to_string(&public).unwrap();
        assert!(keys.starts_with(&known) && keys.ends_with('\n'), "{keys}");
        assert_eq!((keys.lines().count(), keys.matches("\n\n").count()), (count, 0), "{keys}");
        assert_eq!(world.verify().findings, []);
        world.fill(1).await;
        assert_eq!(fs::read_to_string(&public).unwrap(), keys, "none is written twice");
        known = keys; // and now with a newline at its end
    }
}

/// A copy that a crash or a full disk broke off costs no other: the next one has a line of its own.
#[tokio::test]
async fn a_copy_behind_one_that_broke_off_counts() {
    let world = World::with_root(|params, root| {
        params.copy_to = vec![CopyTo::File(root.join("copies"))];
    });
    let copies = world.root.path().join("copies");
    world.fill(1).await;
    let whole = fs::read_to_string(&copies).unwrap();
    fs::write(&copies, &whole[..whole.len() - 9]).unwrap();
    world.fill(1).await;
    let report = world.against(&copies).unwrap();
    assert_eq!((report.findings.as_slice(), report.copies), ([].as_slice(), 3));
}

/// Whoever rotates the file of copies may leave an empty one there.
#[tokio::test]
async fn a_copy_goes_into_an_empty_file() {
    let world = World::with_root(|params, root| {
        params.copy_to = vec![CopyTo::File(root.join("copies"))];
    });
    let copies = world.root.path().join("copies");
    fs::write(&copies, "").unwrap();
    world.fill(1).await;
    assert!(fs::read_to_string(&copies).unwrap().starts_with('{'));
    assert!(world.against(&copies).unwrap().copies > 0);
}
