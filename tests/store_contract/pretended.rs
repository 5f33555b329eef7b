//! What a Redis says about itself decides whether it is worked with, and people are told.

use std::{
    io::{BufReader, Write as _},
    net::{TcpListener, TcpStream},
    thread,
};

use super::{seeded::read_command, *};

/// The port of a server that says this about itself, and yes to everything else.
fn saying(info: &str) -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let (port, info) = (listener.local_addr().unwrap().port(), info.to_owned());
    thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let info = info.clone();
            thread::spawn(move || answer(client, &info));
        }
    });
    port
}

fn answer(mut client: TcpStream, info: &str) {
    let mut commands = BufReader::new(client.try_clone().unwrap());
    while let Ok(command) = read_command(&mut commands) {
        let answer = if command.ends_with(b"\r\nINFO\r\n") {
            format!("${}\r\n{info}\r\n", info.len())
        } else {
            "+OK\r\n".to_owned()
        };
        if command.is_empty() || client.write_all(answer.as_bytes()).is_err() {
            break;
        }
    }
}

#[tokio::test]
async fn what_a_redis_says_about_itself_decides() {
    let (fit, evicts) =
        ("role:master\r\nmaxmemory_policy:noeviction", "maxmemory_policy:volatile-ttl");
    let old = |version: &str| Err(format!("Redis {version} is too old, 7 is needed"));
    let replica = Err("this Redis is a replica, the master is needed".to_owned());
    let may_evict = Err("maxmemory-policy is volatile-ttl".to_owned());
    let works = |facts: &str| Ok(facts.to_owned());
    for (version, rest, require_noeviction, expected) in [
        ("7.0.0", fit, true, works("Redis 7.0.0, noeviction, redis://")),
        ("8.2.1", fit, true, works("Redis 8.2.1, noeviction, redis://")),
        ("10.0.0", fit, false, works("Redis 10.0.0, noeviction, redis://")),
        ("unstable", fit, true, works("Redis unstable, noeviction, redis://")),
        ("6.2.14", fit, true, old("6.2.14")),
        ("2.8", fit, false, old("2.8")),
        ("8.0.0", "role:slave\r\nmaxmemory_policy:noeviction", true, replica.clone()),
        ("8.0.0", "role:slave\r\nmaxmemory_policy:noeviction", false, replica),
        ("8.0.0", evicts, true, may_evict),
        ("8.0.0", evicts, false, works("Redis 8.0.0, volatile-ttl, redis://")),
        ("8.0.0", "", true, Err("maxmemory-policy is unknown".to_owned())),
    ] {
        let port = saying(&format!("# Server\r\nredis_version:{version}\r\n{rest}\r\n"));
        let url = format!("redis://127.0.0.1:{port}");
        let store = connect(&RedisSettings { require_noeviction, ..settings(url) });
        let health = store.health().await.map_err(|error| error.to_string());
        let (Ok(said) | Err(said)) = &health;
        let (Ok(expected_part) | Err(expected_part)) = &expected;
        assert!(said.contains(expected_part), "{version}, {rest}: {said}");
        assert_eq!(health.is_ok(), expected.is_ok(), "{version}, {rest}: {said}");
    }
}
