//! Secrets of every kind that a configuration knows, each of them unique, and everything that the gateway and its commands say
//! while all goes well and while all goes wrong, with every library's log at `trace`: none of them is in any of it.

mod kept;
mod traffic;

use std::{collections::BTreeSet, fs, path::Path, process::Command};

use kept::{APP_KEY, GITLAB, Kept, REDIS, WRONG, name_of, private, quoted, text};
use traffic::{
    Apps, Traffic, answered, broken_events, honest_events, received, refused_requests, rubbish,
    secrets_on_their_way, signed_events,
};

use crate::{
    leak::{Canary, Outputs, find, secret},
    world::{
        Ca, Dialer, Gateway, RedisServer, eventually,
        gateway::{binary, records, write_private},
    },
};

/// Configurations that are wrong beside a secret, or in it.
fn broken(text: &str) -> Vec<String> {
    let literal = quoted(&secret(GITLAB));
    let key = quoted(&secret(APP_KEY));
    vec![
        text.replace(&literal, &format!("{literal}\n    secret: {literal}")),
        text.replace(&literal, &format!("{literal}: x")),
        text.replace(&literal, &format!("{{ {literal}: x }}")),
        text.replace("    secret: '", "    secert: '"),
        text.replace("    secret: '", "   secret: '"),
        text.replace("    secret: '", "    provider: '"),
        text.replace("    secret: '", "    secret: $x'"),
        text.replace("    secret: '", "    enforce: '"),
        text.replace("    secret: '", "    max_body: '"),
        text.replace(&key, &format!("{key}\n        X-Api-Key: {key}")),
        text.replace(&key, &format!("{key}: x")),
        text.replace("        X-Api-Key:", "       X-Api-Key:"),
        text.replace("        X-Api-Key:", "        Host:"),
        text.replace("{ env: HEX }", "{ env: STRIPE_NEW }"),
        text.replace("{ env: SIGN }", "{ env: QUERY }"),
        text.replace("keys_secret: { env: KEYS }", "keys_secret: [ ${KEYS} ]"),
        text.replace("{ env: STRIPE_OLD, ", "{ env: STRIPE_NEW, "),
        text.replace("{ env: BASIC }", "{ env: QUERY }"),
        text.replace("max_body: 64KiB", "max_body: ${QUERY}"),
        text.replace("host: localhost", "host: ${QUERY}"),
        text.replace("    url: \"https://", "    url: \"https://gate:${APP_TOKEN}@"),
        text.replace("  tokens: \"http://", "  tokens: \"${APP_TOKEN}"),
        text.replace("tls.key", "ca.pem"),
        text.replace("/client.key", "/github"),
        text.replace("level: trace", "level: ${QUERY}"),
    ]
}

async fn reload(gateway: &Gateway, answers: &mut Vec<u8>) -> u16 {
    let answer = gateway.admin("POST", "/-/reload").await;
    answered(answers, &answer);
    answer.status
}

/// All commands that end by themselves.
fn commands(kept: &Kept, said: &mut Outputs, config: &Path, to: &str, id: &str) {
    let ca = kept.dir.join("ca.pem").display().to_string();
    let export = kept.dir.join("export").display().to_string();
    let copies = kept.dir.join("state/copies").display().to_string();
    let send = |source: &str| format!("{to}/{source}");
    for (code, args) in [
        (0, vec!["check"]),
        (0, vec!["check", "--format", "json"]),
        (0, vec!["check", "--offline"]),
        (0, vec!["config", "show"]),
        (0, vec!["config", "show", "--origin"]),
        (0, vec!["config", "show", "--origin", "--offline"]),
        (0, vec!["routes", "list"]),
        (0, vec!["routes", "test", "stripe", "invoice.paid"]),
        (0, vec!["providers", "list"]),
        (0, vec!["providers", "show", "gitlab"]),
        (0, vec!["schema"]),
        (0, vec!["send", "stripe", "--to", &send("stripe"), "--ca", &ca]),
        (1, vec!["send", "stripe", "--to", &send("stripe"), "--ca", &ca, "--signature", "forged"]),
        (1, vec!["send", "stripe", "--to", &send("stripe"), "--ca", &ca, "--signature", "stale"]),
        (0, vec!["send", "gitlab", "--to", &send("gitlab"), "--ca", &ca]),
        (0, vec!["send", "gitlab", "--show-request"]),
        (0, vec!["send", "basic", "--show-request"]),
        (0, vec!["send", "hex", "--show-request"]),
        (0, vec!["send", "query", "--show-request"]),
        (4, vec!["send", "stripe", "--to", "http://127.0.0.1:1/stripe"]),
        (3, vec!["send", "nobody"]),
        (0, vec!["audit", "list"]),
        (0, vec!["audit", "list", "--json"]),
        (0, vec!["audit", "show", id]),
        (0, vec!["audit", "show", id, "--json"]),
        (0, vec!["audit", "verify"]),
        (0, vec!["audit", "verify", "--against", &copies]),
        (0, vec!["audit", "export", "--out", &export]),
        (4, vec!["reload"]),
        (4, vec!["healthcheck"]),
        (0, vec!["version"]),
    ] {
        let ended = kept.say(said, config, &args);
        let line = format!("`gatepost {}` on {}", args.join(" "), name_of(config));
        let text = String::from_utf8_lossy(&said[&line]).into_owned();
        assert_eq!(ended, Some(code), "{line}: {text}");
    }
}

/// Every file below `dir` but those that hold keys, or the secrets that were captured.
fn files(dir: &Path, said: &mut Outputs) {
    for entry in fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() && !entry.ends_with("captured") {
            files(&entry, said);
        } else if entry.is_file() && entry.extension().is_none_or(|extension| extension != "key") {
            let place = format!("the file {}", entry.display());
            said.insert(place, fs::read(&entry).unwrap());
        }
    }
}

/// The gateway with its standard output in a file.
async fn start(kept: &Kept, dir: tempfile::TempDir, text: &str, env: &[(&str, &str)]) -> Gateway {
    let mut command = Command::new("sh");
    command.env_clear().env("PATH", std::env::var("PATH").unwrap_or_default());
    command.envs(kept.env.iter().map(|(name, value)| (name, value))).envs(env.iter().copied());
    let stdout = dir.path().join("stdout").display().to_string();
    let aside = "stdout=$1; shift; exec \"$0\" \"$@\" >>\"$stdout\"";
    command.args(["-c", aside]).arg(binary().get_program()).arg(stdout);
    let started = Gateway::spawn(command, dir, text).await;
    started.unwrap_or_else(|(_, log)| panic!("the gateway did not start:\n{log}"))
}

/// Everything but standard output is taken from the running gateway.
async fn look(gateway: &Gateway, said: &mut Outputs) {
    for path in ["/metrics", "/healthz", "/readyz", "/nothing"] {
        let answer = gateway.admin("GET", path).await;
        let mut all = Vec::new();
        answered(&mut all, &answer);
        said.insert(format!("{path} of the admin server"), all);
    }
    let arguments = fs::read(format!("/proc/{}/cmdline", gateway.pid())).unwrap();
    said.insert("the arguments of the process".into(), arguments);
}

/// A configuration under which the embedded store or Redis is used.
fn dedup(redis: Option<&RedisServer>) -> String {
    redis.map_or_else(String::new, |redis| {
        let url = redis.url();
        format!("dedup: {{ store: redis, redis: {{ url: \"{url}\", password: {{ env: REDIS_PASSWORD }} }} }}\n")
    })
}

/// Runs everything, and searches everything.
async fn nothing_is_said(redis: Option<&RedisServer>) {
    let (dir, ca) = (tempfile::tempdir().unwrap(), Ca::new());
    let mut kept = Kept::new(dir.path(), &ca);
    let apps = Apps::start(&ca).await;
    let good = text(dir.path(), &apps, &dedup(redis));
    let gateway = start(&kept, dir, &good, &[]).await;
    kept.all.push(Canary::new(
        "the key of the record",
        private(&gateway.dir().join("state/audit-signing.key")),
    ));
    let ca_file = gateway.dir().join("ca.pem");
    let dialers = ["http/1.1", "h2"].map(|alpn| Dialer::tls(gateway.address, &ca_file, alpn));
    let mut traffic = Traffic { dialers, answers: Vec::new(), refused: Vec::new() };
    honest_events(&mut traffic).await;
    broken_events(&mut traffic, &apps).await;
    refused_requests(&mut traffic).await;
    rubbish(&mut traffic).await;
    let (mut said, admin) = (Outputs::new(), gateway.admin.to_string());
    let capture = ["providers", "capture", "--admin", &admin, "hooks", "--no-wait", "--for", "5m"];
    assert_eq!(kept.say(&mut said, &gateway.file, &capture), Some(0));
    secrets_on_their_way(&mut traffic, &apps).await;

    let mut reloads = Vec::new();
    for (n, text) in broken(&good).iter().enumerate() {
        assert_ne!(text, &good, "{n}");
        write_private(&gateway.file, text);
        let bad = gateway.dir().join(format!("bad-{n}.yaml"));
        write_private(&bad, text);
        assert!(matches!(reload(&gateway, &mut reloads).await, 200 | 422), "{text}");
        for args in [&["check"][..], &["check", "--offline"], &["config", "show"]] {
            kept.say(&mut said, &bad, args);
        }
    }
    write_private(&gateway.file, &good);
    gateway.signal("HUP");
    assert_eq!(reload(&gateway, &mut reloads).await, 200);
    said.insert("answers to reloads".into(), reloads);
    look(&gateway, &mut said).await;
    assert!(!records(&gateway.dir().join("state/audit")).is_empty());
    let to = format!("https://localhost:{}", gateway.address.port());
    commands(&kept, &mut said, &gateway.file, &to, "evt_1");
    match redis {
        Some(redis) => with_redis(&kept, redis, &good, &mut said).await,
        None => panicking(&kept, &mut traffic, &good, &mut said).await,
    }
    let log = gateway.log();
    finish(gateway, &mut said).await;
    let log = log.join("\n");
    assert!(log.contains("\"level\":\"trace\""), "libraries speak at trace");
    said.insert("the log".into(), log.into());
    said.insert("answers to senders".into(), std::mem::take(&mut traffic.answers));
    said.insert("requests to an app".into(), received(&apps.app));
    searched(&kept, &traffic, &said, &apps);
}

/// Ends the gateway, and takes what it leaves behind.
async fn finish(gateway: Gateway, said: &mut Outputs) {
    let (status, dir) = gateway.stop().await;
    assert!(status.success());
    said.insert("standard output".into(), fs::read(dir.path().join("stdout")).unwrap());
    files(&dir.path().join("state"), said);
    files(&dir.path().join("export"), said);
}

/// Bugs in the middle of events, of which those of `basic`, `gitlab` and `query` carry secrets.
async fn panicking(kept: &Kept, traffic: &mut Traffic, good: &str, said: &mut Outputs) {
    let state = good.replace("/state\"", "/panics\"").replace("/state/", "/panics/");
    let env = [("GATEPOST_CRASH_AT", "after_upstream:panic"), ("RUST_BACKTRACE", "full")];
    let gateway = start(kept, tempfile::tempdir().unwrap(), &state, &env).await;
    let ca = kept.dir.join("ca.pem");
    traffic.dialers = ["http/1.1", "h2"].map(|alpn| Dialer::tls(gateway.address, &ca, alpn));
    let sent = signed_events();
    for (path, headers, body) in &sent {
        assert_eq!(traffic.post(path, headers, body).await.status, 500, "{path}");
    }
    let told = || gateway.log().iter().filter(|line| line.contains(" panicked at ")).count();
    eventually("every panic is in the log", || async { told() == sent.len() }).await;
    let log = gateway.log().join("\n");
    assert!(log.contains("stack backtrace:"), "{log}");
    said.insert("the log with panics".into(), log.into());
}

/// Redis itself, its password in a URL, and a Redis that does not take the password.
async fn with_redis(kept: &Kept, redis: &RedisServer, good: &str, said: &mut Outputs) {
    let (password, dump) = (secret(REDIS), kept.dir.join("dump.rdb").display().to_string());
    redis.cli(&["-a", &password, "config", "set", "rdbcompression", "no"]);
    redis.cli(&["-a", &password, "--rdb", &dump]);
    said.insert("what Redis holds".into(), fs::read(dump).unwrap());
    let escaped: String = form_urlencoded::byte_serialize(password.as_bytes()).collect();
    let inline = |password: &str| {
        let url = redis.url().replace("redis://", &format!("redis://:{password}@"));
        format!("dedup: {{ store: redis, redis: {{ url: \"{url}\" }} }}\n")
    };
    let wrong: String = form_urlencoded::byte_serialize(secret(WRONG).as_bytes()).collect();
    for (name, password) in [("inline.yaml", &escaped), ("wrong.yaml", &wrong)] {
        let file = kept.dir.join(name);
        write_private(&file, &good.replace(&dedup(Some(redis)), &inline(password)));
        for args in [
            &["check"][..],
            &["check", "--format", "json"],
            &["check", "--offline"],
            &["config", "show"],
            &["config", "show", "--origin"],
        ] {
            kept.say(said, &file, args);
        }
    }
    let other = tempfile::tempdir().unwrap();
    let state = good.replace("/state\"", "/other\"").replace("/state/", "/other/");
    let gateway =
        start(kept, other, &state.replace(&dedup(Some(redis)), &inline(&wrong)), &[]).await;
    let ready = || async { gateway.admin("GET", "/readyz").await };
    eventually("it says that it is not ready", || async { ready().await.status == 503 }).await;
    said.insert("readiness without Redis".into(), ready().await.body.to_vec());
    said.insert("the log without Redis".into(), gateway.log().join("\n").into());
}

/// Nothing is anywhere; and everything was looked at.
fn searched(kept: &Kept, traffic: &Traffic, said: &Outputs, apps: &Apps) {
    let silent: BTreeSet<_> = said.iter().filter(|(_, text)| text.is_empty()).collect();
    let may_be_silent =
        |place: &str| place.ends_with("-wal") || place.ends_with("-shm") || place.ends_with("lock");
    let silent: Vec<_> = silent.iter().filter(|(place, _)| !may_be_silent(place)).collect();
    assert!(silent.is_empty(), "{silent:?}");
    for place in [
        "the log",
        "standard output",
        "/metrics of the admin server",
        "answers to senders",
        "answers to reloads",
        "requests to an app",
        "the arguments of the process",
    ] {
        assert!(said.contains_key(place), "{place} was not looked at");
    }
    for (what, least) in
        [("`gatepost", 30), (".ndjson", 1), ("state/copies", 1), ("dedup", 1), ("export", 3)]
    {
        let count = said.keys().filter(|place| place.contains(what)).count();
        let redis = said.contains_key("what Redis holds") && what == "dedup";
        assert!(count >= least || redis, "{count} places with {what}: {:?}", said.keys());
    }
    assert_eq!(find(&kept.all, said), Vec::<String>::new());

    let logs =
        ["the log", "the log with panics", "standard output", "/metrics of the admin server"];
    let logs =
        said.iter().filter(|(place, _)| logs.contains(&&***place) || place.contains("audit"));
    let logs: Outputs = logs.map(|(place, text)| (place.clone(), text.clone())).collect();
    assert!(traffic.refused.len() > 25);
    assert_eq!(find(&traffic.refused, &logs), Vec::<String>::new());

    // What is meant for apps did reach them, and is found there.
    let meant = Outputs::from([("an app".to_owned(), received(&apps.secure))]);
    assert_eq!(find(&kept.for_apps, &meant).len(), kept.for_apps.len());
    let others: Vec<_> =
        kept.all.iter().filter(|c| !c.is_one_of(&kept.for_apps)).cloned().collect();
    assert_eq!(find(&others, &meant), Vec::<String>::new());
    let shown = Outputs::from([("an app".to_owned(), received(&apps.tokens))]);
    let found = find(&kept.all, &shown);
    let senders =
        ["a token in the configuration", "a password of HTTP Basic", "what HTTP Basic sends"];
    assert_eq!(found.len(), senders.len(), "{found:?}");
    assert!(
        found.iter().all(|line| senders.iter().any(|name| line.starts_with(name))),
        "{found:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_secret_is_said_anywhere_with_the_embedded_store() {
    nothing_is_said(None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_secret_is_said_anywhere_with_redis() {
    let redis = RedisServer::start(&["--requirepass", &secret(REDIS)]).await;
    nothing_is_said(Some(&redis)).await;
}
