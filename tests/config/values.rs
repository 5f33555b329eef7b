//! Which value is in force, and where it came from.

use gatepost::config::{self, Env, Loaded, Options, Report, Severity};

fn read(text: &str, env: Env) -> Result<Loaded, Box<Report>> {
    config::parse_str("gatepost.yaml", text, &Options { env, offline: true, ..super::options() })
}

/// Value and origin of a path.
fn in_force(loaded: &Loaded, path: &str) -> (String, String) {
    let row = loaded.values.iter().find(|row| row.path == path);
    row.map_or_else(|| panic!("no {path}"), |row| (row.value.clone(), row.origin.clone()))
}

const LAYERED: &str = "\
version: 1
tls: { mode: none }
defaults:
  source: { max_body: 2MiB }
  route: { timeout: 5s }
dedup: { window: 5d }
sources:
  a: { provider: github, secret: '${A}', dedup: { claim: 30s } }
  b: { provider: stripe, secret: '${A}', max_body: 3MiB }
routes:
  - { source: a, to: app }
  - { source: b, to: app, timeout: 6s }
upstreams: { app: http://127.0.0.1:3000 }
";

#[test]
fn what_stands_nearest_wins() {
    let env = Env::from([
        ("GATEPOST_LISTEN", "127.0.0.1:1, 127.0.0.1:2"),
        ("GATEPOST_LOG", "debug"),
        ("GATEPOST_DATA_DIR", ""),
    ]);
    let loaded = read(LAYERED, env).unwrap();
    for (path, value, origin) in [
        ("server.listen[1]", "127.0.0.1:2", "environment GATEPOST_LISTEN"),
        ("telemetry.log.level", "debug", "environment GATEPOST_LOG"),
        ("storage.dir", "/var/lib/gatepost", "built-in"),
        ("defaults.source.max_body", "2MiB", "gatepost.yaml:4:13"),
        ("sources.a.max_body", "2MiB", "defaults.source.max_body   gatepost.yaml:4:13"),
        ("sources.b.max_body", "3MiB", "gatepost.yaml:9:42"),
        ("sources.a.dedup.window", "5d", "dedup.window   gatepost.yaml:6:10"),
        ("sources.a.dedup.claim", "30s", "gatepost.yaml:8:51"),
        ("sources.a.dedup.join_timeout", "2s", "built-in"),
        ("sources.a.enforce", "true", "built-in"),
        ("sources.b.tolerance", "5m", "preset stripe"),
        ("sources.b.secret", "(not read)", "env A   gatepost.yaml:9:34"),
        ("routes[0].timeout", "5s", "defaults.route.timeout   gatepost.yaml:5:12"),
        ("routes[1].timeout", "6s", "gatepost.yaml:12:27"),
    ] {
        assert_eq!(in_force(&loaded, path), (value.to_owned(), origin.to_owned()), "{path}");
    }
    let without_default = LAYERED.replace("  source: { max_body: 2MiB }\n", "");
    let loaded = read(&without_default, Env::default()).unwrap();
    let (value, origin) = in_force(&loaded, "sources.a.max_body");
    assert_eq!((&*value, &*origin), ("25MiB", "preset github"));
}

#[test]
fn a_bad_variable_is_named_instead_of_a_place() {
    let report = read(LAYERED, Env::from([("GATEPOST_LISTEN", "443")])).unwrap_err();
    assert!(report.human(false).contains("--> environment variable GATEPOST_LISTEN"));
}

/// `storage.dir` under a small environment, or the code of the error.
fn completed(text: &str) -> Result<String, &'static str> {
    let env = Env::from([("A", "one"), ("EMPTY", ""), ("ODD", "x: #y ${A}")]);
    let file = format!("{LAYERED}storage: {{ dir: '{text}' }}\n");
    let dir = |loaded: Loaded| loaded.config.storage.dir.display().to_string();
    read(&file, env).map(dir).map_err(|report| {
        let mut errors = report.problems.iter().filter(|p| p.severity == Severity::Error);
        errors.next().unwrap().code
    })
}

#[test]
fn references_are_completed_inside_values() {
    for (text, full) in [
        ("no dollars", "no dollars"),
        ("<${A}-${A}>", "<one-one>"),
        ("${B:-two}${EMPTY:-three}", "twothree"),
        ("${EMPTY}.", "."),
        ("$$A $${A}", "$A ${A}"),
        ("${ODD}", "x: #y ${A}"),
    ] {
        assert_eq!(completed(text).as_deref(), Ok(full), "{text}");
    }
    for (text, code) in [
        ("${B}", "env-unset"),
        ("${B:?say}", "env-unset"),
        ("${EMPTY:?say}", "env-unset"),
        ("$A", "env-syntax"),
        ("${A", "env-syntax"),
        ("${A B}", "env-syntax"),
    ] {
        assert_eq!(completed(text), Err(code), "{text}");
    }
}

/// Every way to write a secret, beside a mistake that makes its line be shown.
#[test]
fn no_part_of_a_secret_is_printed() {
    let forms = [
        r#"{ secret: "It's a Secret to Everybody", bad: 1 }"#,
        r"{ secret: 'It''s a Secret to Everybody', bad: 1 }",
        "{ secret: It's a Secret to Everybody, bad: 1 }",
        r#"{ secret: ["It's a Secret to Everybody", 'It''s a Secret to Everybody'], bad: 1 }"#,
        r#"{ secrte: "It's a Secret to Everybody", bad: 1 }"#,
        r#"{ provider: { secret: "It's a Secret to Everybody" }, bad: 1 }"#,
        r#"{ secret: { literal: "It's a Secret to Everybody" }, bad: 1 }"#,
        "{ secret: \"It's a\n     Secret to\n     Everybody\", bad: 1 }",
        "{ secret: 'It''s a\n     Secret to\n     Everybody', bad: 1 }",
        "\n    secret: |\n      It's a Secret to Everybody\n    bad: 1",
        "\n    secret: >-\n      It's a\n      Secret to Everybody\n    bad: 1",
        "\n    secret: It's a\n      Secret to Everybody\n    bad: 1",
        "\n    secret:\n      - It's a\n        Secret to Everybody\n      - x\n    bad: 1",
    ];
    // A file that no reader understands is shown as it is, too.
    let ends = |form| [(form, ""), (form, " ]"), (form, "\n  x")];
    let understood = |(form, end): &(&&str, &str)| form.contains("secret:") || end.is_empty();
    for (form, end) in forms.iter().flat_map(ends).filter(understood) {
        let text = format!("version: 1\nsources:\n  a: {form}{end}\n");
        let report = config::parse_str("gatepost.yaml", &text, &super::options()).unwrap_err();
        let printed = format!("{}{}", report.human(false), report.json());
        for part in ["It's", "Secret", "Everyb", "ybody"] {
            assert!(!printed.contains(part), "`{part}` of\n{text}is in\n{printed}");
        }
    }
}

/// YAML ends a line there; what is shown, and what is covered, must be the line that is meant.
#[test]
fn a_carriage_return_alone_ends_a_line() {
    let text = "version: 1\rsources:\r  a: { provider: github, secret: 'mine-and-nobody-elses', colour: 1 }\n";
    let report = read(text, Env::from([])).unwrap_err();
    let said = report.human(false);
    assert!(said.contains("gatepost.yaml:3:59\n"), "{said}");
    assert!(said.contains("3 |   a: { provider: github, secret: '•"), "{said}");
    assert!(!said.contains("nobody"), "{said}");
}

/// Secrets are put into wrong places, too: by hand, or by a variable.
#[test]
fn a_well_known_secret_is_shown_nowhere() {
    let text = "\
version: 1
sources:
  whsec_0123456789abcdef: { provider: sk_live_0123456789abcdef }
  b: { provider: '${B}', secret: { env: whsec_0123456789abcdef } }
";
    let report = read(text, Env::from([("B", "whsec_0123456789abcdef")])).unwrap_err();
    for said in [report.human(false), report.json().to_string()] {
        assert!(said.contains("whsec_•") && said.contains("sk_live_•"), "{said}");
        assert!(!said.contains("_0123"), "{said}");
    }
}

/// Who has keys that are not for everybody is shown a credential, or the keys are given; where nothing is asked for, nothing is shown.
#[test]
fn keys_that_are_not_for_everybody() {
    let said = |source: &str| {
        let text = format!(
            "version: 1\ntls: {{ mode: none }}\nsources: {{ a: {{ {source} }} }}\n\
             routes: [ {{ source: a, to: app }} ]\nupstreams: {{ app: http://127.0.0.1:3000 }}\n"
        );
        read(&text, Env::default()).map_or_else(|report| report.human(false), |_| String::new())
    };
    assert_eq!(said("provider: circle, keys_secret: '${A}'"), "");
    assert_eq!(said("provider: circle, secret: '${A}'"), "");
    let neither = said("provider: circle");
    assert!(neither.contains("`sources.a` has no keys, and may not ask for any"), "{neither}");
    let unasked = said("provider: wise, secret: '${A}', keys_secret: '${B}'");
    assert!(unasked.contains("nothing is shown to whoever has this provider's keys"), "{unasked}");
}

/// What is signed for one source would pass at the other, whatever the scheme; a key that anybody may know may be everybody's.
#[test]
fn a_secret_is_for_one_source() {
    const RSA: &str = include_str!("../pure/foreign/rsa.pem");
    const HEX: &str = "26b40b8f93fff3d897112f7ebc582b232dbd72517d082fe83cfb30ddce43d1bb";
    const WORD: &str = "an-hmac-secret-of-32-characters!";
    let token = |alg: &str| {
        format!(
            "provider: custom, verify: {{ mac: jwt, signature: {{ header: X-T }}, jwt: {{ algs: [{alg}] }} }}, \
             event: {{ id: '{{body|sha256_hex}}', type: event }}"
        )
    };
    let (hs, eddsa) = (token("HS256"), token("EdDSA"));
    for (one, other, secret, is_reused) in [
        ("provider: github", "provider: github", WORD, true),
        ("provider: github", "provider: vonage", WORD, true),
        ("provider: vonage", "provider: vonage", WORD, true),
        ("provider: messagebird", "provider: messagebird", WORD, true),
        ("provider: netlify", "provider: netlify", WORD, true),
        ("provider: monday", "provider: monday", WORD, true),
        ("provider: atlassian-connect", "provider: atlassian-connect", WORD, true),
        ("provider: microsoft-graph", "provider: microsoft-graph", WORD, true),
        (&hs, &hs, HEX, true),
        (&eddsa, &eddsa, HEX, false),
        ("provider: discord", "provider: discord", HEX, false),
        ("provider: discord", "provider: github", HEX, false),
        ("provider: wise", "provider: wise", RSA, false),
        ("provider: microsoft-graph", "provider: microsoft-graph", RSA, false),
    ] {
        let secret = serde_json::Value::from(secret);
        let text = format!(
            "version: 1\ntls: {{ mode: none }}\nserver: {{ public_url: 'https://h.example' }}\nsources:\n  \
             a: {{ {one}, secret: {secret} }}\n  b: {{ {other}, secret: {secret} }}\n\
             routes: [ {{ source: a, to: app }}, {{ source: b, to: app }} ]\n\
             upstreams: {{ app: http://127.0.0.1:3000 }}\n"
        );
        let found = match config::parse_str("gatepost.yaml", &text, &super::options()) {
            Ok(_) => Vec::new(),
            Err(report) => report
                .problems
                .iter()
                .filter(|p| p.severity == Severity::Error)
                .map(|p| p.code)
                .collect(),
        };
        let wanted: &[&str] = if is_reused { &["secret-reused"] } else { &[] };
        assert_eq!(found, wanted, "{one} and {other}: {text}");
    }
}

/// The word that must hold besides a token is a secret, also where only the token's scheme is left.
#[test]
fn a_secret_that_holds_besides_is_asked_for() {
    let said = |more: &str| {
        let text = format!(
            "version: 1\ntls: {{ mode: none }}\nsources: {{ a: {{ provider: microsoft-graph{more} }} }}\n\
             routes: [ {{ source: a, to: app }} ]\nupstreams: {{ app: http://127.0.0.1:3000 }}\n"
        );
        let read = config::parse_str("gatepost.yaml", &text, &super::options());
        read.map_or_else(|report| report.human(false), |_| String::new())
    };
    for pin in ["", ", pin: rich", ", pin: basic"] {
        let said = said(pin);
        assert!(said.contains("`sources.a` has no `secret`"), "{pin}: {said}");
        assert!(!said.contains("a source needs a scheme"), "{pin}: {said}");
    }
    assert_eq!(said(", pin: rich, secret: an-hmac-secret-of-32-characters!"), "");
}
