//! A provider: signs by its own lights, with nothing of the gateway's code.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

/// Name and value of headers.
pub type Headers = Vec<(String, String)>;

/// Who sends.
#[derive(Clone, Debug)]
pub enum Provider {
    /// `Stripe-Signature: t=…,v1=…`.
    Stripe(&'static str),
    /// `X-Hub-Signature-256`.
    GitHub(&'static str),
    /// `v0=…` over `v0:ts:body`.
    Slack(&'static str),
    /// `webhook-id`, `-timestamp`, `-signature`; the secret is given decoded.
    StandardWebhooks(&'static [u8]),
    /// `X-Shopify-Hmac-Sha256`.
    Shopify(&'static str),
}

pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

pub fn mac(key: &[u8], parts: &[&[u8]]) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().to_vec()
}

impl Provider {
    /// Headers that go with `body`, signed now. `id` and `kind` matter where they travel in headers.
    pub fn sign(&self, id: &str, kind: &str, body: &[u8]) -> Headers {
        self.sign_at(now(), id, kind, body)
    }

    /// The same, signed at `time` (seconds).
    pub fn sign_at(&self, time: u64, id: &str, kind: &str, body: &[u8]) -> Headers {
        let t = time.to_string();
        let own = |name: &str, value: String| (name.to_owned(), value);
        match self {
            Self::Stripe(secret) => {
                let v1 = hex::encode(mac(secret.as_bytes(), &[t.as_bytes(), b".", body]));
                vec![own("stripe-signature", format!("t={t},v1={v1}"))]
            }
            Self::GitHub(secret) => vec![
                own(
                    "x-hub-signature-256",
                    format!("sha256={}", hex::encode(mac(secret.as_bytes(), &[body]))),
                ),
                own("x-github-delivery", id.to_owned()),
                own("x-github-event", kind.to_owned()),
            ],
            Self::Slack(secret) => {
                let v0 = hex::encode(mac(secret.as_bytes(), &[b"v0:", t.as_bytes(), b":", body]));
                vec![
                    own("x-slack-request-timestamp", t),
                    own("x-slack-signature", format!("v0={v0}")),
                ]
            }
            Self::StandardWebhooks(key) => {
                let v1 =
                    STANDARD.encode(mac(key, &[id.as_bytes(), b".", t.as_bytes(), b".", body]));
                vec![
                    own("webhook-id", id.to_owned()),
                    own("webhook-timestamp", t),
                    own("webhook-signature", format!("v1,{v1}")),
                ]
            }
            Self::Shopify(secret) => vec![
                own("x-shopify-hmac-sha256", STANDARD.encode(mac(secret.as_bytes(), &[body]))),
                own("x-shopify-event-id", id.to_owned()),
                own("x-shopify-topic", kind.to_owned()),
                own("x-shopify-shop-domain", "test.myshopify.com".to_owned()),
            ],
        }
    }
}

/// A Stripe event.
pub fn stripe_event(id: &str, kind: &str) -> Vec<u8> {
    format!("{{\n  \"id\": \"{id}\",\n  \"object\": \"event\",\n  \"data\": {{\"object\": {{\"id\": \"pi_1\"}}}},\n  \"type\": \"{kind}\"\n}}")
        .into_bytes()
}
