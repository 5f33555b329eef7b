//! The secrets of every kind, where they are kept, and the configuration that refers to them.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rustls_pki_types::{PrivateKeyDer, pem::PemObject as _};

use super::traffic::Apps;
use crate::{
    keys::LOOPBACK,
    leak::{Canary, Outputs, secret},
    world::{
        Ca, Upstream,
        gateway::{binary, write_private},
    },
};

/// The secrets, how the configuration reaches them, and what else must not be seen.
pub struct Kept {
    pub dir: PathBuf,
    pub env: Vec<(&'static str, String)>,
    pub all: Vec<Canary>,
    /// Shown to apps, because their operator said so.
    pub for_apps: Vec<Canary>,
}

/// Text that stands for a secret, for as long as the tests run.
pub fn lasting(number: u8) -> &'static str {
    secret(number).leak()
}

pub const STRIPE_NEW: u8 = 1;
pub const STRIPE_OLD: u8 = 2;
pub const GITHUB: u8 = 3;
pub const SLACK: u8 = 4;
pub const STANDARD_WEBHOOKS: u8 = 5;
pub const GITLAB: u8 = 6;
pub const BASIC: u8 = 7;
pub const HEX: u8 = 8;
pub const QUERY: u8 = 9;
pub const APP_TOKEN: u8 = 10;
pub const APP_KEY: u8 = 11;
pub const REDIS: u8 = 12;
pub const WRONG: u8 = 13;
pub const SIGN: u8 = 14;
pub const KEYS: u8 = 15;
const CAPTURED: u8 = 16;

/// A secret that a provider sends: letters and digits are taken, and nothing else.
pub fn captured() -> String {
    hex::encode(secret(CAPTURED))
}

impl Kept {
    /// Writes everything that a configuration refers to into `dir`.
    pub fn new(dir: &Path, ca: &Ca) -> Self {
        ca.write(dir);
        let (certificate, key) = ca.issue("localhost");
        fs::write(dir.join("tls.pem"), certificate).unwrap();
        write_private(&dir.join("tls.key"), &key);
        write_private(&dir.join("github"), &format!("{}\n", secret(GITHUB)));
        fs::create_dir(dir.join("credentials")).unwrap();
        write_private(&dir.join("credentials/slack"), &secret(SLACK));
        let [standard, sign] =
            [STANDARD_WEBHOOKS, SIGN].map(|number| STANDARD.encode(&secret(number)[..30]));
        let hex = hex::encode(&secret(HEX)[..30]);
        let basic = format!("gate:{}", secret(BASIC));
        let env = vec![
            ("STRIPE_NEW", secret(STRIPE_NEW)),
            ("STRIPE_OLD", secret(STRIPE_OLD)),
            ("STANDARD_WEBHOOKS", format!("whsec_{standard}")),
            ("BASIC", basic.clone()),
            ("HEX", hex.clone()),
            ("QUERY", secret(QUERY)),
            ("APP_TOKEN", secret(APP_TOKEN)),
            ("SIGN", format!("whsec_{sign}")),
            ("KEYS", secret(KEYS)),
            ("REDIS_PASSWORD", secret(REDIS)),
            ("CREDENTIALS_DIRECTORY", dir.join("credentials").display().to_string()),
        ];
        let named = [
            ("a secret in a variable", STRIPE_NEW),
            ("an old secret in a variable", STRIPE_OLD),
            ("a secret in a file", GITHUB),
            ("a secret in a credential", SLACK),
            ("a decoded secret", STANDARD_WEBHOOKS),
            ("a token in the configuration", GITLAB),
            ("a password of HTTP Basic", BASIC),
            ("a decoded key", HEX),
            ("a token of a query", QUERY),
            ("a decoded secret that signs for an app", SIGN),
            ("what is shown to who has the keys", KEYS),
            ("Redis's password", REDIS),
            ("a wrong password of Redis", WRONG),
        ];
        let mut all: Vec<_> =
            named.into_iter().map(|(name, number)| Canary::new(name, secret(number))).collect();
        all.push(Canary::new("a secret in base64", standard));
        all.push(Canary::new("a secret that signs for an app, in base64", sign));
        all.push(Canary::new("a key in hexadecimal", hex));
        all.push(Canary::new("a captured secret", captured()));
        all.push(Canary::new("what HTTP Basic sends", basic));
        all.push(Canary::new("the key of our certificate", private(&dir.join("tls.key"))));
        all.push(Canary::new(
            "the key of our client certificate",
            private(&dir.join("client.key")),
        ));
        let for_apps = [("a token for an app", APP_TOKEN), ("a key for an app", APP_KEY)];
        let for_apps = for_apps.map(|(name, number)| Canary::new(name, secret(number))).to_vec();
        all.extend(for_apps.clone());
        Self { dir: dir.to_owned(), env, all, for_apps }
    }

    /// A command of the binary on a configuration.
    pub fn command(&self, config: &Path, args: &[&str]) -> Command {
        let mut command = binary();
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command.current_dir(&self.dir).arg("-c").arg(config).args(args);
        command
    }

    /// What a command says, on either channel.
    pub fn say(&self, said: &mut Outputs, config: &Path, args: &[&str]) -> Option<i32> {
        let mut command = self.command(config, args);
        // The apps answer meanwhile.
        let out = tokio::task::block_in_place(|| command.stdin(Stdio::null()).output().unwrap());
        let line = format!("`gatepost {}` on {}", args.join(" "), name_of(config));
        said.insert(line, [out.stdout, out.stderr].concat());
        out.status.code()
    }
}

pub fn name_of(path: &Path) -> String {
    path.file_name().unwrap().to_string_lossy().into_owned()
}

/// The 32 bytes of an elliptic private key in a PEM file, without what is public about it.
pub fn private(file: &Path) -> Vec<u8> {
    let key = PrivateKeyDer::from_pem_file(file).unwrap();
    let der = key.secret_der();
    let at = der.windows(2).position(|two| two == [0x04, 0x20]).expect("32 bytes");
    der[at + 2..at + 34].to_vec()
}

/// The configuration, but for what it says about dedup.
pub fn text(dir: &Path, apps: &Apps, dedup: &str) -> String {
    let (dir, literal) = (dir.display(), quoted(&secret(GITLAB)));
    let [app, secure, tokens] = [&apps.app, &apps.secure, &apps.tokens].map(Upstream::url);
    let keys = format!("localhost:{}", apps.keys.port);
    format!(
        r#"version: 1
server: {{ host: localhost, listen: "127.0.0.1:0", trusted_proxies: [127.0.0.1/32], drain_timeout: 5s }}
tls: {{ mode: files, files: [ {{ cert: "{dir}/tls.pem", key: "{dir}/tls.key" }} ] }}
storage: {{ dir: "{dir}/state", min_free: 1MiB }}
admin: {{ listen: "127.0.0.1:0" }}
fetch: {{ ca: "{dir}/ca.pem", {LOOPBACK} }}
telemetry: {{ log: {{ level: trace, format: json }} }}
audit:
  headers: [content-type, authorization, x-gitlab-token, cookie]
  checkpoint: {{ every: 1s, copy_to: [stdout, {{ file: "{dir}/state/copies" }}] }}
defaults: {{ source: {{ max_body: 64KiB }} }}
sources:
  stripe: {{ provider: stripe, secret: [ {{ env: STRIPE_NEW }}, {{ env: STRIPE_OLD, expires: "2099-01-01" }} ] }}
  github: {{ provider: github, secret: {{ file: "{dir}/github" }} }}
  slack: {{ provider: slack, secret: {{ credential: slack }} }}
  standard: {{ provider: standard-webhooks, secret: "${{STANDARD_WEBHOOKS}}" }}
  gitlab:
    provider: gitlab
    secret: {literal}
  basic: {{ provider: custom, secret: {{ env: BASIC }}, verify: {{ mac: basic }}, event: {{ id: "{{json:id}}", type: "{{json:type}}" }} }}
  hex:
    provider: custom
    secret: {{ env: HEX }}
    verify: {{ key: {{ encoding: hex }}, signature: {{ header: X-Signature }}, signed: "{{body}}" }}
    event: {{ id: "{{json:id}}", type: "{{json:type}}" }}
  query:
    provider: custom
    secret: {{ env: QUERY }}
    verify: {{ mac: token, signature: {{ from: "{{query:token}}" }} }}
    event: {{ id: "{{json:id}}", type: "{{json:type}}" }}
  keyed:
    provider: custom
    keys_secret: {{ env: KEYS }}
    verify:
      mac: ed25519
      signature: {{ header: X-Signature, encoding: base64 }}
      signed: "{{body}}"
      keys: {{ cert_url: "https://{keys}/{{header:X-Key}}", hosts: ["{keys}"], path: "/*", fetched_key: key, credential: {{ header: X-Api-Key }} }}
    event: {{ id: "{{json:id}}", type: "{{json:type}}" }}
  hooks:
    provider: custom
    secret: {{ captured: true }}
    verify: {{ signature: {{ header: X-Hook-Signature }}, signed: "{{body}}" }}
    event: {{ id: "{{json:id}}", type: "{{json:type}}" }}
    handshake:
      - when: {{ header: X-Hook-Secret }}
        capture: "{{header:X-Hook-Secret}}"
        reply: {{ body: taken }}
routes:
  - {{ source: keyed, to: app }}
  - {{ source: hooks, to: app }}
  - {{ source: stripe, to: app, events: "invoice.*" }}
  - {{ source: github, to: secure }}
  - {{ source: slack, to: app }}
  - {{ source: standard, to: secure }}
  - {{ source: gitlab, to: tokens }}
  - {{ source: basic, to: tokens }}
  - {{ source: hex, to: app }}
  - {{ source: query, to: app }}
upstreams:
  app: {{ url: "{app}", sign: {{ secret: {{ env: SIGN }} }} }}
  tokens: "{tokens}"
  secure:
    url: "{secure}"
    tls: {{ ca: "{dir}/ca.pem", cert: "{dir}/client.pem", key: "{dir}/client.key" }}
    headers:
      set:
        Authorization: "Bearer ${{APP_TOKEN}}"
        X-Api-Key: {}
{dedup}
"#,
        quoted(&secret(APP_KEY)),
    )
}

/// A text in single quotes, as YAML has it.
pub fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
