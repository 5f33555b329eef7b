//! `gatepost send`: what it sends is what the provider would, and is accepted where its key is configured.

use std::{
    collections::BTreeSet, io::BufRead as _, os::unix::fs::PermissionsExt as _, path::Path,
    process::Stdio,
};

use gatepost::providers;

use crate::world::{
    Gateway, Upstream,
    gateway::{Spawned, binary, records, write_private},
    provider::Headers,
};

/// Presets of which no event is known: for any sender, or because its types are not published.
const MADE_UP: [&str; 7] = [
    "http-message-signatures",
    "integrated-finance",
    "standard-webhooks",
    "standard-webhooks-v1a",
    "svix",
    "threesixtylearning",
    "websub",
];
/// What signs with SHA-1 is only checked.
const UNSIGNED: [&str; 1] = ["ebay"];

fn said(out: &std::process::Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&out.stdout), text(&out.stderr))
}

/// A request as `send` prints it for a preset that no source is made from.
struct Printed {
    secret: String,
    id: Option<String>,
    is_made_up: bool,
    target: String,
    headers: Headers,
    body: Vec<u8>,
}

fn printed(name: &str) -> Printed {
    let empty = tempfile::tempdir().unwrap();
    let out = binary().args(["send", name]).current_dir(empty.path()).output().unwrap();
    let (request, told) = said(&out);
    assert!(out.status.success(), "{name}: {told}");
    let is_made_up = told.contains("a made-up body");
    let key = told.find("-----BEGIN").map(|at| &told[at..told.rfind("-----\n").unwrap() + 6]);
    let secret = || told.split_once("the test secret ").unwrap().1.trim_end();
    let secret = key.unwrap_or_else(secret);
    let (secret, id) = match secret.split_once(", whose id is ") {
        Some((secret, id)) => (secret, Some(id.to_owned())),
        None => (secret, None),
    };
    let (head, body) = request.split_once("\n\n").unwrap();
    let mut lines = head.lines();
    let target = lines.next().unwrap().strip_prefix("POST https://hooks.example.com").unwrap();
    let header = |line: &str| {
        let (name, value) = line.split_once(": ").unwrap_or((line.trim_end_matches(':'), ""));
        (name.to_owned(), value.to_owned())
    };
    let headers: Headers = lines.map(header).collect();
    let length = headers.iter().find(|(name, _)| name == "content-length").unwrap().1.clone();
    Printed {
        secret: secret.to_owned(),
        id,
        is_made_up,
        target: target.to_owned(),
        headers: headers.into_iter().filter(|(name, _)| name != "content-length").collect(),
        body: body.as_bytes()[..length.parse().unwrap()].to_vec(),
    }
}

/// A source of a preset, with secrets that stand in files.
fn source(dir: &Path, name: &str, sent: &[Printed]) -> String {
    let secret = |(n, sent): (usize, &Printed)| {
        let file = dir.join(format!("{name}-{n}"));
        write_private(&file, &sent.secret);
        let id = sent.id.as_ref().map(|id| format!(", id: {id}")).unwrap_or_default();
        format!("{{ file: {}{id} }}", file.display())
    };
    let secrets: Vec<_> = sent.iter().enumerate().map(secret).collect();
    let params = providers::preset(name).unwrap().needed_params();
    let params: Vec<_> = params.map(|(key, param)| format!("{key}: {:?}", param.example)).collect();
    // Seconds pass before all are sent, which is more than these two allow.
    let tolerance = if ["contentful", "paddle"].contains(&name) { "tolerance: 1h, " } else { "" };
    format!(
        "  {name}: {{ provider: {name}, public_url: \"https://hooks.example.com/{name}\", {tolerance}\
         secret: [{}], params: {{ {} }} }}\n",
        secrets.join(", "),
        params.join(", ")
    )
}

/// Two requests for every preset: both are events of their own, of a kind that the provider has.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_sent_for_a_preset_is_an_event_as_its_provider_sends_it() {
    let names = || providers::names().filter(|name| !UNSIGNED.contains(name));
    let (app, dir) = (Upstream::start().await, tempfile::tempdir().unwrap());
    let made = names().map(|name| {
        tokio::task::spawn_blocking(move || {
            let first = printed(name);
            // A name belongs to one secret, and at Box a header does.
            let is_one = first.id.is_some() || name == "box";
            let second = (!is_one).then(|| printed(name));
            [Some(first), second].into_iter().flatten().collect::<Vec<_>>()
        })
    });
    let made: Vec<_> = futures_util::future::join_all(made).await.into_iter().flatten().collect();
    let mut text = "sources:\n".to_owned();
    text.extend(names().zip(&made).map(|(name, sent)| source(dir.path(), name, sent)));
    text += "routes:\n";
    text.extend(names().map(|name| format!("  - {{ source: {name}, to: app }}\n")));
    text += &format!("upstreams: {{ app: \"{}\" }}\n", app.url());
    let gateway = Gateway::start_in(dir, &text).await;
    let mut wrong = Vec::new();
    for (name, sent) in names().zip(&made) {
        for (n, request) in sent.iter().enumerate() {
            let answer = gateway.post(&request.target, &request.headers, &request.body).await;
            if (answer.status / 100, answer.outcome()) != (2, "accepted") {
                let body = String::from_utf8_lossy(&request.body).into_owned();
                wrong.push((name, n, answer.status, answer.outcome().to_owned(), body));
            }
        }
        let is_made_up = sent.iter().any(|request| request.is_made_up);
        assert_eq!(is_made_up, MADE_UP.contains(&name), "{name}");
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    let generic = ["payment.succeeded", "thing.made", "example", ""];
    let mut seen = BTreeSet::new();
    for record in records(&gateway.dir().join("audit")) {
        let names = (record["source"].as_str(), record["event_type"].as_str());
        let (Some(name), Some(kind)) = names else { continue };
        seen.insert(name.to_owned());
        let known = &providers::preset(name).unwrap().known_types;
        let is_known = known.is_empty() || known.iter().any(|known| kind.starts_with(&**known));
        assert!(is_known, "{name}: {kind}");
        assert!(MADE_UP.contains(&name) || !generic.contains(&kind), "{name}: {kind}");
    }
    assert_eq!(seen.len(), names().count(), "{seen:?}");
}

/// A source whose keys only its provider has: the first test event says what to configure, the next ones are accepted.
#[tokio::test(flavor = "multi_thread")]
async fn a_test_key_is_kept_and_accepted_once_it_is_configured() {
    let names =
        ["discord", "wise", "sendgrid", "aws-sns", "paypal", "apple-app-store", "fireblocks"];
    let (app, dir) = (Upstream::start().await, tempfile::tempdir().unwrap());
    // Keys that nobody has any more stand for the providers' own.
    let mut text = "sources:\n".to_owned();
    text.extend(names.map(|name| source(dir.path(), name, &[printed(name)])));
    text += "routes:\n";
    text.extend(names.map(|name| format!("  - {{ source: {name}, to: app }}\n")));
    text += &format!("upstreams: {{ app: \"{}\" }}\n", app.url());
    // One that a crash left without its content is none.
    std::fs::create_dir(dir.path().join("test-keys")).unwrap();
    write_private(&dir.path().join("test-keys/ed25519.pem"), "");
    let gateway = Gateway::start_in(dir, &text).await;
    let send = |name: &str| {
        said(&gateway.cli(&["send", name, "--to", &format!("http://{}/{name}", gateway.address)]))
    };
    let asked = "set it as `secret`";
    for name in names {
        let ((sent, told), (_, again)) = (send(name), send(name));
        assert!(sent.contains("401 refused") && told.contains(asked), "{name}: {sent}{told}");
        let public = &told[told.find("-----BEGIN").unwrap()..told.find(asked).unwrap()];
        // A certificate is made anew for the same key.
        assert!(again.contains(public) || name == "apple-app-store", "{name}: {told}{again}");
        write_private(&gateway.dir().join(format!("{name}-0")), public);
    }
    let keys = std::fs::read_dir(gateway.dir().join("test-keys")).unwrap();
    let modes: Vec<_> =
        keys.map(|key| key.unwrap().metadata().unwrap().permissions().mode()).collect();
    assert!(
        modes.len() < names.len() && modes.iter().all(|mode| mode & 0o777 == 0o600),
        "{modes:?}"
    );
    let out = gateway.cli(&["reload", "--admin", &gateway.admin.to_string()]);
    assert!(out.status.success(), "{:?}", said(&out));
    for name in names {
        for _ in 0..2 {
            let (sent, told) = send(name);
            assert!(sent.contains("accepted") && !told.contains(asked), "{name}: {sent}{told}");
        }
    }
    assert_eq!(app.count(), 2 * names.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_throw_away_gateway_accepts_what_is_sent_for_its_presets() {
    let (app, dir) = (Upstream::start().await, tempfile::tempdir().unwrap());
    let (keep, to) = (dir.path().join("dev"), app.url());
    let any = "127.0.0.1:0";
    let args = ["dev", "--listen", any, "--admin", any, "--to", &to, "--keep"];
    let mut dev = binary();
    let dev = dev.args(args).arg(&keep).stderr(Stdio::piped()).stdout(Stdio::null()).spawn();
    let mut dev = Spawned(dev.unwrap());
    let lines = std::io::BufReader::new(dev.0.stderr.take().unwrap()).lines().map_while(Result::ok);
    let mut lines = lines.skip_while(|line| !line.contains("https://localhost:"));
    let line = lines.next().unwrap();
    let port: String = line
        .split("https://localhost:")
        .nth(1)
        .unwrap()
        .chars()
        .take_while(char::is_ascii_digit)
        .collect();
    let rest = std::thread::spawn(move || lines.count());
    let file = keep.join("gatepost.yaml");
    let text = std::fs::read_to_string(&file).unwrap();
    let missing: Vec<_> =
        providers::names().filter(|name| !text.contains(&format!("\n  {name}:\n"))).collect();
    // The second needs a name for its secret, which a secret in the file cannot have.
    assert_eq!(missing, ["ebay", "pusher"]);
    let names = [
        "stripe",
        "discord",
        "wise",
        "sendgrid",
        "paypal",
        "telnyx",
        "apple-app-store",
        "google-channel",
    ];
    for name in names {
        let to = format!("https://localhost:{port}/{name}");
        let out = binary().arg("-c").arg(&file).args(["send", name, "--to", &to]).output().unwrap();
        let (sent, told) = said(&out);
        assert!(out.status.success() && sent.contains("accepted"), "{name}: {sent}{told}");
        assert!(!told.contains("set it as"), "{name}: {told}");
    }
    assert_eq!(app.count(), names.len());
    drop(dev);
    rest.join().unwrap();
}

/// Where a change cannot be noticed, that is said; where it is, nothing is.
#[test]
fn what_a_scheme_does_not_cover_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let send = |args: &[&str]| {
        said(&binary().arg("send").args(args).current_dir(dir.path()).output().unwrap()).1
    };
    for (name, tampered, stale) in [
        ("telegram", "nothing of the body", true),
        ("mailgun", "some fields of the body", true),
        ("github", "", true),
        ("stripe", "", false),
        ("discord", "", false),
    ] {
        let told = send(&[name, "--tamper"]);
        assert_eq!(told.contains("holds all the same"), !tampered.is_empty(), "{name}: {told}");
        assert!(told.contains(tampered), "{name}: {told}");
        let told = send(&[name, "--signature", "stale"]);
        assert_eq!(told.contains("an hour old and holds"), stale, "{name}: {told}");
        assert!(!send(&[name]).contains("holds all the same"), "{name}");
    }
}
