//! The commands that work on a configuration without running it.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, process::Command};

use serde_json::Value;

/// Exit code and standard output of `gatepost ARGS` in `dir`; the environment is empty but for `env`.
pub(crate) fn gatepost(dir: &Path, args: &[&str], env: &[(&str, &str)]) -> (Option<i32>, String) {
    let out = Command::new(env!("CARGO_BIN_EXE_gatepost"))
        .args(args)
        .current_dir(dir)
        .env_clear()
        .envs(env.iter().copied())
        .output()
        .unwrap();
    (out.status.code(), String::from_utf8(out.stdout).unwrap())
}

const ROUTED: &str = r#"version: 1
tls: { mode: none }
sources:
  stripe: { provider: stripe, secret: "${S}" }
  strict: { provider: stripe, secret: "${S}", unrouted: reject }
routes:
  - { name: big, source: stripe, events: "customer.*", when: { json: data.tier, equals: gold }, to: app }
  - { name: money, source: stripe, events: ["invoice.*", "!invoice.upcoming"], to: app }
  - { name: noise, source: stripe, events: "*.upcoming", drop: true }
  - { name: rest, source: stripe, events: ["customer.*", "charge.*"], to: app }
  - { name: paid, source: strict, events: invoice.paid, to: app }
upstreams: { app: "http://127.0.0.1:9" }
"#;

/// What a limit on the size of files ends in the middle, as a crash would, is in nobody's way.
#[test]
fn a_file_that_was_not_written_whole_is_none() {
    let dir = tempfile::tempdir().unwrap();
    let mut shell = Command::new("sh");
    shell.args(["-c", "ulimit -c 0; ulimit -f 0; exec \"$0\" init stripe"]);
    let ended = shell.arg(env!("CARGO_BIN_EXE_gatepost")).current_dir(dir.path()).output().unwrap();
    assert!(!ended.status.success(), "{ended:?}");
    assert!(!dir.path().join("gatepost.yaml").exists());
    assert_eq!(gatepost(dir.path(), &["init", "stripe"], &[]).0, Some(0));
    assert_eq!(gatepost(dir.path(), &["check", "--offline", "--deny-warnings"], &[]).0, Some(0));
}

#[test]
fn init_writes_what_check_accepts() {
    let dir = tempfile::tempdir().unwrap();
    let init = ["init", "stripe", "slack", "square", "stripe", "--to", "http://app:3000"];
    assert_eq!(gatepost(dir.path(), &init, &[]).0, Some(0));
    let (code, said) = gatepost(dir.path(), &["check", "--offline", "--deny-warnings"], &[]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("3 sources, 3 routes, 1 upstream"), "a provider named twice: {said}");
    let before = fs::read(dir.path().join("gatepost.yaml")).unwrap();
    assert_eq!(gatepost(dir.path(), &init, &[]).0, Some(1), "nothing is overwritten");
    assert_eq!(fs::read(dir.path().join("gatepost.yaml")).unwrap(), before);
    assert_eq!(gatepost(dir.path(), &["init", "nope"], &[]).0, Some(3));
    // Online its variables are missing, each of which is said.
    let (code, said) = gatepost(dir.path(), &["check"], &[]);
    assert_eq!((code, said.matches("error[env-unset]").count()), (Some(78), 3), "{said}");
}

#[test]
fn check_speaks_to_programs() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("good.yaml"), ROUTED).unwrap();
    fs::write(dir.path().join("bad.yaml"), ROUTED.replace("to: app", "to: ap")).unwrap();
    let json = |file| {
        let args = ["check", "--offline", "--format", "json", file];
        let (code, said) = gatepost(dir.path(), &args, &[]);
        (code, serde_json::from_str::<Value>(&said).unwrap())
    };
    let (code, good) = json("good.yaml");
    assert_eq!((code, &good["errors"]), (Some(0), &Value::from(0)));
    assert_eq!(good["sections"][0]["detail"], "2 sources, 5 routes, 1 upstream");
    let (code, bad) = json("bad.yaml");
    assert_eq!((code, &bad["errors"]), (Some(78), &Value::from(4)));
    let first = &bad["problems"][0];
    assert_eq!((&first["code"], &first["line"]), (&"unknown-upstream".into(), &Value::from(7)));
    assert_eq!(first["label"], "did you mean `app`? (defined at bad.yaml:12:14)");
}

#[test]
fn routes_say_which_takes_an_event_and_why_not_the_others() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("gatepost.yaml"), ROUTED).unwrap();
    let test = |source, kind| gatepost(dir.path(), &["routes", "test", source, kind], &[]);
    let (code, said) = test("stripe", "customer.updated");
    assert_eq!(code, Some(0));
    insta::assert_snapshot!(said, @r#"
    → app  if data.tier is "gold"  by big (gatepost.yaml:7:5)
    → app  by rest (gatepost.yaml:10:5)  pattern "customer.*"
    not taken: money (gatepost.yaml:8:5)  "invoice.*" does not match
    not taken: noise (gatepost.yaml:9:5)  "*.upcoming" does not match
    "#);
    insta::assert_snapshot!(test("stripe", "invoice.upcoming").1, @r#"
    → (dropped)  by noise (gatepost.yaml:9:5)  pattern "*.upcoming"
    not taken: big (gatepost.yaml:7:5)  "customer.*" does not match
    not taken: money (gatepost.yaml:8:5)  "!invoice.upcoming" excludes it
    unreached: rest (gatepost.yaml:10:5)
    "#);
    let (code, said) = test("strict", "invoice.voided");
    assert_eq!(code, Some(1));
    insta::assert_snapshot!(said, @r#"
    no route takes `invoice.voided` of strict: answered 404
    not taken: paid (gatepost.yaml:11:5)  "invoice.paid" does not match
    "#);
    assert_eq!(test("nobody", "x").0, Some(3));
    insta::assert_snapshot!(gatepost(dir.path(), &["routes", "list"], &[]).1, @r#"
    stripe  "customer.*"  if data.tier is "gold"  → app  big (gatepost.yaml:7:5)
    stripe  "invoice.*", "!invoice.upcoming"  → app  money (gatepost.yaml:8:5)
    stripe  "*.upcoming"  → (dropped)  noise (gatepost.yaml:9:5)
    stripe  "customer.*", "charge.*"  → app  rest (gatepost.yaml:10:5)
    strict  "invoice.paid"  → app  paid (gatepost.yaml:11:5)
    "#);
}

#[test]
fn config_show_hides_secrets_and_names_origins() {
    let dir = tempfile::tempdir().unwrap();
    let kept = ROUTED.lines().filter(|line| !line.contains("strict"));
    let one = kept.collect::<Vec<_>>().join("\n");
    fs::write(dir.path().join("gatepost.yaml"), one).unwrap();
    let secret = "whsec_0123456789abcdefghij";
    let show = ["config", "show", "--origin"];
    let (code, said) = gatepost(dir.path(), &show, &[("S", secret), ("GATEPOST_LOG", "debug")]);
    assert_eq!(code, Some(0), "{said}");
    assert!(!said.contains("0123456789"), "{said}");
    for line in [
        "telemetry.log.level\tdebug\tenvironment GATEPOST_LOG",
        "server.drain_timeout\t25s\tbuilt-in",
        "routes[0].when.equals\tgold\tgatepost.yaml:6:81",
        "sources.stripe.tolerance\t5m\tpreset stripe",
    ] {
        assert!(said.contains(line), "no {line} in\n{said}");
    }
    let origin = "\tenv S   gatepost.yaml:4:39";
    assert!(said.contains("sources.stripe.secret\twhsec_…") && said.contains(origin), "{said}");
}

#[test]
fn a_file_that_is_not_there_is_an_error_of_configuration() {
    let dir = tempfile::tempdir().unwrap();
    for args in [&["run"][..], &["check"], &["routes", "list"], &["config", "show"]] {
        assert_eq!(gatepost(dir.path(), args, &[]).0, Some(78), "{args:?}");
    }
}

#[test]
fn a_secret_in_a_file_that_others_may_read_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("gatepost.yaml");
    fs::write(&file, ROUTED.replace("${S}", "whsec_0123456789abcdef0123456789")).unwrap();
    let (open, ours) = ("error[secret-exposed]", "warning[secret-literal]");
    for (mode, said, unsaid) in [(0o644, open, ours), (0o640, ours, open)] {
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        let (_, report) = gatepost(dir.path(), &["check"], &[]);
        assert!(report.contains(said) && !report.contains(unsaid), "{mode:o}: {report}");
    }
}

/// Wherever a secret is, it is the same one; what cannot be meant as one is refused.
#[test]
fn secrets_come_from_variables_files_and_credentials() {
    const SECRET: &str = "whsec_0123456789abcdefghij";
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().display().to_string();
    let ask = |command: &str, place: &str, content: &[u8]| {
        fs::write(dir.path().join("key"), content).unwrap();
        let text = format!(
            "version: 1\ntls: {{ mode: none }}\nsources: {{ a: {{ provider: stripe, secret: {place} }} }}\n\
             routes: [ {{ source: a, drop: true }} ]\n"
        );
        fs::write(dir.path().join("gatepost.yaml"), text).unwrap();
        let args: Vec<&str> = command.split(' ').collect();
        gatepost(dir.path(), &args, &[("S", SECRET), ("CREDENTIALS_DIRECTORY", &at)])
    };
    let file = format!("{{ file: {at}/key }}");
    let shown = |place: &str| {
        let (code, said) = ask("config show", place, format!("{SECRET}\n").as_bytes());
        assert_eq!(code, Some(0), "{place}: {said}");
        let line = said.lines().find_map(|line| line.strip_prefix("sources.a.secret\t"));
        line.expect("a fingerprint").split_whitespace().next().unwrap().to_owned()
    };
    let places = ["'${S}'", "{ env: S }", &file, "{ credential: key }"].map(shown);
    assert!(places.iter().all(|shown| *shown == places[0]), "one newline is dropped: {places:?}");
    for (place, content, said) in [
        (&*file, &b""[..], "this secret is empty"),
        (&file, b"\n", "this secret is empty"),
        (&file, b"whsec_0123456789abcdefghij\n\n", "begins or ends with white space"),
        (&file, b"whsec_0123456789\0abcdefghij", "holds a NUL byte"),
        ("{ file: /nowhere/key }", b"", "error[secret-file]"),
        ("{ credential: ../key }", b"", "a credential has a plain name"),
        ("{ env: T }", b"", "error[env-unset]"),
    ] {
        let (code, report) = ask("check", place, content);
        assert_eq!(code, Some(78), "{place}: {report}");
        assert!(report.contains(said), "{place}: {report}");
    }
    let (_, report) = ask("check", &file, b"short");
    assert!(report.contains("this secret has only 5 bytes"), "{report}");
}
