//! Providers: they sign, send, hang up, come again, send twice at once, and send what was done already. And strangers, who
//! do not know the secret.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use gatepost::event::{Digest, EventKey};
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::Request;
use http_body::Frame;
use sha2::Sha256;
use tokio::time::{Sleep, sleep, timeout};

use crate::{
    gateway::Machine,
    ledger::{Sent, Standing, Told},
    store::Shelf,
    world::{World, lock},
};

pub const SECRETS: [(&str, &str); 5] = [
    ("SHOP", "whsec_shop_0123456789abcdef"),
    ("NEXT", "whsec_next_0123456789abcdef"),
    ("BANK", "whsec_bank_0123456789abcdef"),
    ("LAX", "whsec_lax_0123456789abcdefg"),
    ("HUB", "hub-secret-0123456789abcdef"),
];

fn secret(source: &str) -> &'static str {
    let found = SECRETS.iter().find(|(name, _)| name.eq_ignore_ascii_case(source));
    found.map_or("nobody knows this one", |(_, secret)| secret)
}

/// An event as its provider knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub source: &'static str,
    pub id: String,
    pub body: String,
}

impl Event {
    /// One of the events of a run. Ids are the same in all sources on purpose.
    pub fn new(world: &World, number: usize) -> Self {
        let source = ["shop", "bank", "shop", "lax", "hub"][number % 5];
        let id = format!("evt_{}", number / 2);
        let kind = match world.below(12) {
            0 => "noise.heard",
            1 => "strange",
            _ => "order.paid",
        };
        Self { source, body: body(&id, kind, number / 2), id }
    }

    /// The same id with another body.
    pub fn changed(&self) -> Self {
        Self { body: body(&self.id, "order.paid", 999), ..self.clone() }
    }

    /// The same bytes under another id, where the signature does not cover it.
    pub fn replayed(&self) -> Self {
        Self { id: format!("{}-again", self.id), ..self.clone() }
    }

    pub fn key(&self) -> EventKey {
        let digest = Digest::of(self.body.as_bytes());
        let unsigned: &[u8] = if self.source == "hub" { &digest.0 } else { &[] };
        EventKey::of(&[b"v1", self.source.as_bytes(), b"", self.id.as_bytes(), unsigned])
    }
}

fn body(id: &str, kind: &str, number: usize) -> String {
    format!(r#"{{"id":"{id}","type":"{kind}","number":{number}}}"#)
}

fn mac(secret: &str, parts: &[&[u8]]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("any length");
    parts.iter().for_each(|part| mac.update(part));
    hex::encode(mac.finalize().into_bytes())
}

/// Headers under which `event` is sent.
fn signed(event: &Event, secret: &str, secs: i64) -> Vec<(&'static str, String)> {
    if event.source == "hub" {
        return vec![
            ("x-hub-signature-256", format!("sha256={}", mac(secret, &[event.body.as_bytes()]))),
            ("x-github-delivery", event.id.clone()),
            ("x-github-event", "push".to_owned()),
        ];
    }
    let t = secs.to_string();
    let v1 = mac(secret, &[t.as_bytes(), b".", event.body.as_bytes()]);
    vec![("stripe-signature", format!("t={t},v1={v1}"))]
}

/// A body that comes in pieces, slowly, or not to its end.
pub struct Body {
    pieces: Vec<Bytes>,
    wait: Option<Pin<Box<Sleep>>>,
    pause: Duration,
    breaks_off: bool,
}

impl Body {
    fn new(world: &World, text: &str) -> Self {
        let bytes = Bytes::copy_from_slice(text.as_bytes());
        let (mut pieces, mut pause, mut breaks_off) = (vec![bytes], Duration::ZERO, false);
        if world.happens(world.plan.sender / 2) {
            let whole = pieces.remove(0);
            let at = usize::try_from(world.below(whole.len() as u64)).unwrap();
            pieces = vec![whole.slice(at..), whole.slice(..at)];
            pause = world.millis(400);
            breaks_off = world.below(3) == 0;
        }
        Self { pieces, wait: None, pause, breaks_off }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = &'static str;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, &'static str>>> {
        if self.pieces.len() == 1 && self.pause > Duration::ZERO {
            let pause = self.pause;
            let wait = self.wait.get_or_insert_with(|| Box::pin(sleep(pause)));
            if wait.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            if self.breaks_off {
                return Poll::Ready(Some(Err("reset")));
            }
        }
        Poll::Ready(self.pieces.pop().map(|piece| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.pieces.is_empty()
    }
}

/// Everybody who sends.
pub struct Senders {
    pub world: Arc<World>,
    pub machines: Vec<Arc<Machine>>,
    pub shelf: Arc<Shelf>,
}

impl Senders {
    /// A provider with one event: sends it until it is taken, and sometimes more often than that.
    pub async fn provide(self: Arc<Self>, event: Event) -> Result<(), Infallible> {
        let world = &self.world;
        self.know(&event);
        sleep(world.millis(6000)).await;
        for attempt in 0..5 {
            let twins = if world.happens(world.plan.sender / 2) { 2 + world.below(3) } else { 1 };
            let all = (0..twins).map(|_| self.send(&event, Standing::Genuine));
            let told = futures_util::future::join_all(all).await;
            let acked = told.iter().flatten().any(|told| (200..300).contains(&told.status));
            if acked && !world.happens(world.plan.sender / 2) {
                break;
            }
            if world.happens(world.plan.sender / 4) {
                let other = if event.source == "hub" { event.replayed() } else { event.changed() };
                self.know(&other);
                self.send(&other, Standing::Genuine).await;
            }
            if world.happens(world.plan.forged) {
                self.forge(&event, attempt).await;
            }
            sleep(Duration::from_millis(300 << attempt) + world.millis(900)).await;
        }
        Ok(())
    }

    /// What a confused store could take it for.
    fn know(&self, event: &Event) {
        let mixed = EventKey::of(&[event.id.as_bytes()]);
        lock(&self.shelf.mixed).insert(event.key(), mixed);
    }

    /// Sends an event once more when all is calm.
    pub async fn insist(&self, event: &Event) {
        self.send(event, Standing::Genuine).await;
    }

    /// A stranger: an event of its own, a changed one, one that another source has signed.
    async fn forge(&self, event: &Event, attempt: u32) {
        let mut forged = Event { id: format!("forged_{}_{attempt}", event.id), ..event.clone() };
        forged.body = body(&forged.id, "order.paid", 666);
        if self.world.below(3) == 0 {
            forged = Event { body: body(&event.id, "order.paid", 667), ..event.clone() };
        }
        self.send(&forged, Standing::Forged).await;
    }

    async fn send(&self, event: &Event, standing: Standing) -> Option<Told> {
        let world = &self.world;
        let machine =
            &self.machines[usize::try_from(world.below(self.machines.len() as u64)).unwrap()];
        let Some(running) = machine.running() else {
            sleep(Duration::from_millis(50)).await;
            return None;
        };
        let standing = match standing {
            // Between the two limits the gateway's seconds decide.
            Standing::Genuine if machine.skew_secs() > 290 && event.source != "hub" => {
                Standing::Doubtful
            }
            other => other,
        };
        let secs = world.wall().as_secs();
        let secret = match (standing, world.below(3)) {
            (Standing::Forged, 0) => secret("nobody"),
            (Standing::Forged, _) => secret(if event.source == "bank" { "shop" } else { "bank" }),
            _ => secret(event.source),
        };
        let mut request = Request::post(format!("/{}", event.source));
        for (name, value) in signed(event, secret, secs) {
            request = request.header(name, value);
        }
        let request = request.body(Body::new(world, &event.body)).expect("a request");
        let digest = Digest::of(event.body.as_bytes()).to_string();
        let (id, source) = (event.id.clone(), event.source.to_owned());
        let event_id = event.key().event_id().to_string();
        let sent = Sent { source, id, event_id, digest, standing, at: world.tick(), told: None };
        let index = {
            let mut ledger = world.ledger();
            ledger.sent.push(sent);
            ledger.sent.len() - 1
        };
        world.say(|| {
            format!(
                "sender      {} {} {standing:?} to {}",
                event.source, event.id, running.process.name
            )
        });
        let answer = running.answer(request, machine.clock());
        let told = if world.happens(world.plan.sender / 3) {
            timeout(world.millis(1200), answer).await.ok().flatten() // hangs up
        } else {
            answer.await
        };
        world.say(|| {
            let told = told.as_ref().map_or("no answer".to_owned(), |told| {
                format!("{} {} {}", told.status, told.outcome, told.receipt)
            });
            format!("sender      {} {}: {told}", event.source, event.id)
        });
        world.ledger().sent[index].told.clone_from(&told);
        told
    }
}
