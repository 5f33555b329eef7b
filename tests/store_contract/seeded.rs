//! The differential tests see mistakes: each of these, put into a script on its way to Redis or into what `SQLite` keeps,
//! makes a store answer otherwise than the pure functions.

use std::{
    io::{BufRead, BufReader, Write as _},
    net::{Shutdown, TcpListener, TcpStream},
    thread,
};

use gatepost::dedup::Embedded;
use proptest::test_runner::Config;
use rusqlite::Connection;

use super::{
    differential::{Compared, differs, lose_in_file, lose_in_redis},
    wall::WallClock,
    *,
};

/// What is put in the place of what; as long as it, so that nothing else about the command changes.
type Mistake = (&'static str, &'static str);

const IN_SCRIPTS: [Mistake; 16] = [
    // claim.lua
    ("attempt = attempt + 1", "attempt = attempt + 2"),
    ("if phase ~= 'F' then unknown = 1", "if phase ~= 'F' then unknown = 0"),
    ("phase ~= 'F' and left > 0", "phase ~= 'F' and left < 0"),
    ("left <= 2 * term", "left >= 0 * term"),
    ("owner ~= string.sub(ARGV[1], 23)", "owner == string.sub(ARGV[1], 23)"),
    ("by and by ~= ARGV[4]", "by and by == ARGV[4]"),
    ("by and by ~= ARGV[4]", "by and by ~= ARGV[9]"),
    ("string.sub(kept, 2) == ARGV[3]", "string.sub(kept, 2) ~= ARGV[3]"),
    ("'NX', 'GET'", "'XX', 'GET'"),
    ("return 2 + 8 * left", "return 1 + 8 * left"),
    // complete.lua
    ("put(KEYS[1], 'D' ..", "put(KEYS[1], 'F' .."),
    ("if KEYS[2] then put", "if KEYS[3] then put"),
    // owner.lua
    ("string.sub(kept, 23) ~= ARGV[1]", "string.sub(kept, 23) == ARGV[9]"),
    ("left <= rest", "left <= -100"),
    ("keep - time, time, ARGV[1]", "keep - keep, time, ARGV[1]"),
    ("keep - time, time, ARGV[1]", "keep - time, 2^60, ARGV[1]"),
];

/// What a wrong statement would leave in the tables.
const IN_TABLES: [&str; 9] = [
    "AFTER INSERT ON event BEGIN UPDATE event SET attempt = 1 WHERE key = new.key; END",
    "AFTER INSERT ON event BEGIN UPDATE event SET unknown = 0 WHERE key = new.key; END",
    "AFTER INSERT ON event BEGIN UPDATE event SET until = new.forget WHERE key = new.key; END",
    "AFTER INSERT ON event BEGIN UPDATE event SET forget = new.until WHERE key = new.key; END",
    "AFTER INSERT ON event WHEN new.phase = 'held'
     BEGIN UPDATE event SET phase = 'free' WHERE key = new.key; END",
    "AFTER INSERT ON event WHEN new.phase = 'leased'
     BEGIN UPDATE event SET mark = zeroblob(16) WHERE key = new.key; END",
    "AFTER INSERT ON event WHEN new.phase = 'done'
     BEGIN UPDATE event SET mark = zeroblob(32) WHERE key = new.key; END",
    "AFTER INSERT ON guard BEGIN DELETE FROM guard WHERE key = new.key; END",
    "AFTER INSERT ON guard BEGIN UPDATE guard SET event = zeroblob(32) WHERE key = new.key; END",
];

fn config() -> Config {
    Config { failure_persistence: None, max_shrink_iters: 0, ..Config::with_cases(400) }
}

/// Reads one command of Redis's protocol: an array of byte strings.
pub(crate) fn read_command(from: &mut impl BufRead) -> std::io::Result<Vec<u8>> {
    let mut command = Vec::new();
    from.read_until(b'\n', &mut command)?;
    let number = |line: &[u8]| -> usize {
        let digits = line.iter().filter(|byte| byte.is_ascii_digit()).copied().collect();
        String::from_utf8(digits).unwrap_or_default().parse().unwrap_or(0)
    };
    for _ in 0..number(&command) {
        let mut length = Vec::new();
        from.read_until(b'\n', &mut length)?;
        let mut text = vec![0; number(&length) + 2];
        from.read_exact(&mut text)?;
        command.extend([length, text].concat());
    }
    Ok(command)
}

/// Puts a mistake into a command.
fn spoil(command: &mut [u8], (right, wrong): Mistake) {
    assert_eq!(right.len(), wrong.len(), "{right}");
    for at in 0..command.len().saturating_sub(right.len()) {
        if command[at..].starts_with(right.as_bytes()) {
            command[at..at + right.len()].copy_from_slice(wrong.as_bytes());
        }
    }
}

/// A way to Redis on which scripts are spoilt. Redis knows them by another hash then, and asks for the text every time.
fn spoiling(server: &redis::Server, mistake: Mistake) -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let (port, redis) = (listener.local_addr().unwrap().port(), server.port);
    thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let mut to_redis = TcpStream::connect(("127.0.0.1", redis)).unwrap();
            let mut from_redis = to_redis.try_clone().unwrap();
            let mut to_client = client.try_clone().unwrap();
            thread::spawn(move || std::io::copy(&mut from_redis, &mut to_client));
            thread::spawn(move || {
                let mut from_client = BufReader::new(client);
                while let Ok(mut command) = read_command(&mut from_client) {
                    spoil(&mut command, mistake);
                    if command.is_empty() || to_redis.write_all(&command).is_err() {
                        break;
                    }
                }
                to_redis.shutdown(Shutdown::Both).ok();
            });
        }
    });
    port
}

#[test]
fn mistakes_in_the_scripts_are_seen() {
    let dir = tempfile::tempdir().unwrap();
    let clock = WallClock::in_dir(dir.path());
    let server = redis::Server::start_under(&clock.wrapper(), &[]);
    let leap = |leaps: u32| clock.set(&format!("-{}d", 3650 * leaps));
    let run = |mistake| {
        server.cli(&["script", "flush"]);
        let port = spoiling(&server, mistake);
        let open = || connect(&settings(format!("redis://127.0.0.1:{port}")));
        let lose = |subject: &Subject| lose_in_redis(&server, subject);
        differs(
            config(),
            &Compared { lose: Some(&lose), leap: Some(&leap), ..Compared::new(&open) },
        )
    };
    run(("~= nothing", "~= nothing")).expect("the way itself changes nothing");
    let scripts = ["claim", "complete", "owner"].map(|name| {
        let path = format!("{}/src/dedup/redis/{name}.lua", env!("CARGO_MANIFEST_DIR"));
        std::fs::read_to_string(path).unwrap()
    });
    for mistake in IN_SCRIPTS {
        assert!(scripts.iter().any(|text| text.contains(mistake.0)), "no script has {}", mistake.0);
        assert!(run(mistake).is_err(), "nobody sees that {} became {}", mistake.0, mistake.1);
    }
}

#[test]
fn mistakes_in_the_tables_are_seen() {
    for mistake in IN_TABLES {
        let dir = tempfile::tempdir().unwrap();
        let open = || Arc::new(Embedded::open(dir.path()).unwrap()) as Store;
        drop(open());
        let tables = Connection::open(dir.path().join("dedup.sqlite3")).unwrap();
        tables.execute_batch(&format!("CREATE TRIGGER mistake {mistake};")).unwrap();
        drop(tables);
        let restart = |old: Store| {
            drop(old);
            open()
        };
        let lose = |subject: &Subject| lose_in_file(dir.path(), subject);
        let store =
            Compared { open: &open, restart: Some(&restart), lose: Some(&lose), leap: None };
        assert!(differs(config(), &store).is_err(), "nobody sees {mistake}");
    }
}
