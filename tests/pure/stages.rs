//! The stages in their order: who passes, where failures go, what is noted and counted.

use std::{pin::pin, sync::mpsc};

use bytes::Bytes;
use futures_util::poll;
use gatepost::{
    answer::{Answer, Ignored, Outcome, Reason, Refusal},
    event::{Name, Timestamp},
    route::Route,
    verify::Presented,
};
use http::Uri;
use http_body_util::{BodyExt as _, Full};
use tokio::runtime::Builder;
use tower::ServiceExt as _;

use crate::{
    flow::{COVERING, Flow, NOW, route},
    source::{URL, headers, presented},
};

const EVENT: &str = "event: { id: '{body|sha256_hex}', type: ['{header:x-kind}', other] }";

fn shop() -> Flow {
    Flow::new(&format!("{COVERING}{EVENT}"))
}

fn forged(flow: &Flow, lines: &[(&str, &str)], signature: &str) -> Answer {
    let mut lines = lines.to_vec();
    lines.push(("x-signature", signature));
    flow.post(headers(&lines), "{}")
}

fn refused(answer: Answer) -> Refusal {
    answer.expect_err("it is refused").what
}

const WRONG: &str = "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";

#[test]
fn who_knew_the_secret_passes_and_nobody_else() {
    let shop = shop();
    let event = shop.event(&[], "Hello, World!").unwrap();
    assert_eq!(event.envelope().body(), "Hello, World!", "byte for byte");
    let about = event.about();
    assert_eq!((about.scheme, about.secret_slot, about.body_bytes), ("hmac-sha256", 1, 13));
    assert_eq!(refused(forged(&shop, &[], WRONG)), Refusal::NotVerified(Reason::SignatureWrong));
    assert_eq!(refused(forged(&shop, &[], "x")), Refusal::NotVerified(Reason::SignatureMalformed));
    let text = shop.metrics.render();
    for line in [
        r#"gatepost_secret_matches_total{source="shop",slot="1"} 1"#,
        r#"gatepost_verification_failures_total{source="shop",reason="signature"} 1"#,
        r#"gatepost_verification_failures_total{source="shop",reason="encoding"} 1"#,
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
}

#[test]
fn a_signature_in_a_trailer_is_none() {
    let shop = shop();
    let signature = shop.signed(headers::<&str>(&[]), b"{}");
    let trailers = std::future::ready(Some(Ok(signature)));
    let body = Full::new(Bytes::from_static(b"{}")).with_trailers(trailers);
    let refusal = refused(shop.post_body(headers::<&str>(&[]), body));
    assert_eq!(refusal, Refusal::NotVerified(Reason::SignatureMissing));
}

/// A body of more than half a megabyte is judged on a thread of its own.
#[test]
fn a_long_body_is_judged_elsewhere_and_alike() {
    let shop = shop();
    let long = vec![b'a'; 512 * 1024 + 1];
    assert_eq!(shop.event(&[], long.clone()).unwrap().about().kind.as_str(), "other");
    let lines = headers(&[("x-signature", WRONG)]);
    let refusal = refused(shop.post(lines, long));
    assert_eq!(refusal, Refusal::NotVerified(Reason::SignatureWrong));
}

#[test]
fn a_signed_time_is_counted_against_ours() {
    let timed = Flow::new(&format!(
        "verify: {{ signature: {{ header: X-Signature }}, signed: '{{header:x-time}}.{{body}}', \
         timestamp: {{ from: '{{header:x-time}}', past: 5m }} }}\n{EVENT}"
    ));
    let none = headers::<&str>(&[]);
    let early = timed.signed_as(presented(&none, b"{}", NOW - 3));
    timed.post(early, "{}").unwrap();
    const OFFSETS: &str = r#"gatepost_provider_clock_offset_seconds_sum{source="shop"} 3.0"#;
    assert!(timed.metrics.render().contains(OFFSETS));
    assert_eq!(Timestamp::from_millis(NOW * 1000).as_secs(), NOW);
}

/// The URL that is signed is the one on file at the provider, with this request's query.
#[test]
fn the_public_url_is_signed() {
    let square = Flow::new(&format!(
        "verify: {{ signature: {{ header: X-Signature }}, signed: '{{url}}{{body}}' }}\n{EVENT}"
    ));
    assert!(square.event(&[], "{}").is_ok());
    let none = headers::<&str>(&[]);
    let called = format!("{URL}?shop=1");
    let signed = square.signed_as(Presented { url: &called, ..presented(&none, b"{}", NOW) });
    assert!(square.post(signed.clone(), "{}").is_err(), "another query");
    let mut inbound = Flow::inbound(signed, Full::new(Bytes::from_static(b"{}")));
    *inbound.request.uri_mut() = Uri::from_static("/hooks/x?shop=1");
    let runtime = Builder::new_current_thread().enable_time().build().unwrap();
    assert!(runtime.block_on(square.stack().oneshot(inbound)).is_ok());
}

/// With its one thread for long bodies taken, a short one is judged all the same, and a long one waits.
#[test]
fn a_long_body_holds_up_no_short_one() {
    let shop = shop();
    let runtime = Builder::new_current_thread().enable_time().max_blocking_threads(1).build();
    let (go, wait) = mpsc::channel::<()>();
    let taken = move || wait.recv().ok();
    let send = |body: Vec<u8>| {
        let signed = shop.signed(headers::<&str>(&[]), &body);
        shop.stack().oneshot(Flow::inbound(signed, Full::new(Bytes::from(body))))
    };
    runtime.unwrap().block_on(async move {
        drop(tokio::task::spawn_blocking(taken));
        let mut short = pin!(send(vec![b'a'; 512 * 1024]));
        let mut long = pin!(send(vec![b'a'; 512 * 1024 + 1]));
        assert!(poll!(short.as_mut()).is_ready());
        assert!(poll!(long.as_mut()).is_pending());
        go.send(()).unwrap();
        assert!(long.await.is_ok());
    });
}

fn money(rest: Option<Route>) -> Vec<Route> {
    let known = [route("noise", &["noise.*"], None), route("money", &["money.*"], Some("billing"))];
    known.into_iter().chain(rest).collect()
}

#[test]
fn events_go_to_their_route_or_are_ignored_by_it() {
    let name = |text| Name::parse(text);
    let shop = shop().routes(money(None), true);
    let send = |kind| shop.send(&[("x-kind", kind)], "{}");
    let taken = send("money.in").unwrap();
    assert_eq!((taken.notes.route, taken.notes.upstream), (name("money"), name("billing")));
    assert_eq!(taken.notes.about.unwrap().kind.as_str(), "money.in");
    let dropped = send("noise.1").unwrap();
    assert_eq!(dropped.what, Outcome::Ignored(Ignored::Dropped));
    assert_eq!(dropped.notes.route, name("noise"));
    let unrouted = send("money").unwrap_err();
    assert_eq!(unrouted.what, Refusal::Unrouted);
    assert_eq!(
        unrouted.notes.about.unwrap().kind.as_str(),
        "money",
        "every answer says about what"
    );
    let text = shop.metrics.render();
    assert!(text.contains(r#"gatepost_unrouted_events_total{source="shop"} 1"#), "{text}");
    let lenient = self::shop().routes(money(None), false);
    let ignored = lenient.send(&[], "{}").unwrap();
    assert_eq!(ignored.what, Outcome::Ignored(Ignored::Unrouted));
}

/// An empty body can be signed; it is nobody's event where the id is in it.
#[test]
fn an_authentic_request_without_a_name_is_malformed() {
    let stripe = Flow::new(&format!("{COVERING}event: {{ id: '{{json:id}}', type: t }}"));
    let nameless = stripe.send(&[], "").unwrap_err();
    assert_eq!(nameless.what, Refusal::Malformed("the body is not a JSON document"));
    assert!(nameless.notes.about.is_none());
    assert_eq!(refused(stripe.send(&[], "{}")), Refusal::Malformed("no event id"));
}

#[test]
fn in_shadow_mode_what_is_not_verified_goes_where_it_says_or_is_refused() {
    let open =
        Flow::new(&format!("{COVERING}event: {{ id: '{{json:id}}', type: '{{header:x-kind}}' }}"));
    let mut flow = open.shadow();
    let went = |flow: &Flow, kind: &str| {
        forged(flow, &[("x-kind", kind)], WRONG).map(|answered| answered.notes.route.unwrap())
    };
    let money_route = Name::parse("money").unwrap();
    let rest = |pattern| Some(route("rest", &[pattern], Some("app")));
    flow = flow.routes(money(None), false);
    assert_eq!(went(&flow, "money.in").unwrap(), money_route);
    assert_eq!(flow.shadowed().unverified().reason(), Reason::SignatureWrong);
    let refusal = Refusal::NotVerified(Reason::SignatureWrong);
    assert_eq!(went(&flow, "x").unwrap_err().what, refusal, "as if it were enforced");
    flow = flow.routes(money(rest("*")), false);
    assert_eq!(went(&flow, "").unwrap().as_str(), "rest", "whatever its type is");
    assert_eq!(went(&flow, "noise.1").unwrap_err().what, refusal);
    flow = flow.routes(money(rest("a*")), false);
    assert_eq!(went(&flow, "").unwrap_err().what, refusal);
    assert!(flow.event(&[("x-kind", "money.in")], r#"{"id":"a"}"#).is_ok(), "verified ones pass");
}
