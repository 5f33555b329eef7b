//! Challenges of which there are no vectors, and requests that only look like a challenge.

use gatepost::answer::Reason;

use crate::challenges::*;
use crate::{
    flow::{NOW, SECRET},
    source::{headers, presented},
};

/// Whether an event's signature is added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    Provider,
    Stranger,
}
use By::{Provider as Signed, Stranger};

type Row = (
    &'static str,
    By,
    &'static str,
    &'static str,
    &'static [(&'static str, &'static str)],
    &'static str,
);

fn send((provider, by, method, target, lines, body): Row) -> Told {
    let flow = flow(provider, SECRET);
    let mut lines = headers(lines);
    if by == Signed {
        lines = flow.signed_as(presented(&lines, body.as_bytes(), NOW));
    }
    told(ask(&flow, method, target, lines, body, NOW))
}

const FORM: &[(&str, &str)] = &[("content-type", "application/x-www-form-urlencoded")];
const STAMP: &[(&str, &str)] = &[("x-signature-timestamp", "1700000000")];

/// Request, status, body of the reply, and one of its headers.
const ANSWERED: &[(Row, u16, &str, Option<(&str, &str)>)] = &[
    (
        (
            "websub",
            Stranger,
            "GET",
            "/in?hub.mode=subscribe&hub.topic=https%3A%2F%2Fexample.com%2Ffeed&hub.challenge=abc&hub.lease_seconds=9",
            &[],
            "",
        ),
        200,
        "abc",
        None,
    ),
    (
        (
            "websub",
            Stranger,
            "GET",
            "/in?hub.mode=unsubscribe&hub.topic=https%3A%2F%2Fexample.com%2Ffeed&hub.challenge=abc",
            &[],
            "",
        ),
        200,
        "abc",
        None,
    ),
    (
        (
            "ebay",
            Stranger,
            "GET",
            "/in?challenge_code=71745723-d031-455c-bfa5-f90d11b4f20a",
            &[],
            "",
        ),
        200,
        r#"{"challengeResponse":"334ae622b219e5cfef4a5aa14a483f923d7500b325475ebf8bddf8ce838211a8"}"#,
        None,
    ),
    (
        (
            "smartsheet",
            Stranger,
            "POST",
            "/in",
            &[("smartsheet-hook-challenge", "a0e3a6b1-8e7e")],
            r#"{"challenge":"a0e3a6b1-8e7e","webhookId":1}"#,
        ),
        200,
        "",
        Some(("smartsheet-hook-response", "a0e3a6b1-8e7e")),
    ),
    (("trello", Stranger, "HEAD", "/in", &[], ""), 200, "", None),
    (("intercom", Stranger, "HEAD", "/in", &[], ""), 200, "", None),
    (("mailchimp", Stranger, "GET", "/in", &[], ""), 200, "", None),
    (("mailchimp", Stranger, "HEAD", "/in", &[], ""), 200, "", None),
    (("woocommerce", Stranger, "POST", "/in", FORM, "webhook_id=7"), 200, "", None),
    (("front", Stranger, "POST", "/in", &[("x-front-challenge", "abc")], "{}"), 200, "abc", None),
    (
        ("braintree", Stranger, "GET", "/in?bt_challenge=f38d3e5e8d3d4a0d9d3c", &[], ""),
        200,
        "public_key_1|c240227a01ddf9221431408d70d82dc3ecd8347a",
        None,
    ),
    (
        ("viva", Stranger, "GET", "/in", &[], ""),
        200,
        r#"{"Key":"B3248222FDCD1885AB2DA3E0E72E1CD7"}"#,
        None,
    ),
    (
        ("discord", Signed, "POST", "/in", &[], r#"{"id":"1","type":1,"version":1}"#),
        200,
        r#"{"type":1}"#,
        None,
    ),
    (
        ("discord", Signed, "POST", "/in", &[], r#"{"version":1,"application_id":"1","type":0}"#),
        204,
        "",
        None,
    ),
    (("line", Signed, "POST", "/in", &[], r#"{"destination":"x","events":[]}"#), 200, "", None),
    (("asana", Signed, "POST", "/in", &[], r#"{"events":[]}"#), 200, "", None),
    (
        (
            "aws-sns",
            Signed,
            "POST",
            "/in",
            &[],
            r#"{"Type":"SubscriptionConfirmation","SubscribeURL":"https://sns.us-east-1.amazonaws.com/?Action=ConfirmSubscription&Token=2336"}"#,
        ),
        200,
        "",
        None,
    ),
    (
        ("cloudevents", Stranger, "OPTIONS", "/in", &[("webhook-request-origin", "a.example")], ""),
        200,
        "",
        Some(("webhook-allowed-origin", "a.example")),
    ),
];

#[test]
fn challenges_without_vectors_get_their_reply() {
    for &(row, status, body, header) in ANSWERED {
        let told = send(row);
        let Told::Answered(challenge) = told else { panic!("{} {}: {told:?}", row.0, row.3) };
        assert_eq!(challenge.body, body, "{}", row.0);
        assert_eq!(challenge.status.as_u16(), status, "{}", row.0);
        if let Some((name, value)) = header {
            let found = challenge.headers.iter().find(|(known, _)| known == name);
            assert_eq!(found.map(|(_, v)| v.to_str().unwrap()), Some(value), "{}", row.0);
        }
    }
}

/// Whether a request is refused for its method, refused as not verified, or taken for an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Not {
    ByMethod,
    Verified,
    Challenge,
}
use Not::{ByMethod, Challenge as AnEvent, Verified as NotVerified};

/// Near misses: another method, another value, a token that differs, characters that are not echoed, no signature.
const UNANSWERED: &[(Row, Not)] = &[
    (
        ("slack", Stranger, "POST", "/in", &[], r#"{"type":"url_verification","challenge":"abc"}"#),
        NotVerified,
    ),
    (("slack", Stranger, "GET", "/in?challenge=abc", &[], ""), ByMethod),
    (
        ("slack", Signed, "POST", "/in", &[], r#"{"type":"url_verification","challenge":"<b>"}"#),
        AnEvent,
    ),
    (
        (
            "zoom",
            Stranger,
            "POST",
            "/in",
            &[],
            r#"{"event":"endpoint.url_validation","payload":{"plainToken":"a"}}"#,
        ),
        NotVerified,
    ),
    (
        (
            "zoom",
            Signed,
            "POST",
            "/in",
            &[],
            r#"{"event":"meeting.started","payload":{"plainToken":"a"}}"#,
        ),
        AnEvent,
    ),
    (("meta", Stranger, "GET", "/in?hub.mode=subscribe&hub.challenge=1", &[], ""), NotVerified),
    (
        (
            "meta",
            Stranger,
            "GET",
            "/in?hub.mode=subscribe&hub.challenge=1&hub.verify_token=",
            &[],
            "",
        ),
        NotVerified,
    ),
    (
        (
            "meta",
            Stranger,
            "GET",
            "/in?hub.mode=subscribe&hub.challenge=1&hub.verify_token=meatyhamhock&hub.verify_token=x",
            &[],
            "",
        ),
        NotVerified,
    ),
    (
        ("meta", Stranger, "GET", "/in?hub.mode=subscribe&hub.verify_token=meatyhamhock", &[], ""),
        ByMethod,
    ),
    (
        (
            "meta",
            Stranger,
            "GET",
            "/in?hub.mode=subscribe&hub.challenge=%3Cb%3E&hub.verify_token=meatyhamhock",
            &[],
            "",
        ),
        ByMethod,
    ),
    (
        (
            "meta",
            Stranger,
            "GET",
            "/in?hub.mode=unsubscribe&hub.challenge=1&hub.verify_token=meatyhamhock",
            &[],
            "",
        ),
        ByMethod,
    ),
    (
        (
            "meta",
            Stranger,
            "HEAD",
            "/in?hub.mode=subscribe&hub.challenge=1&hub.verify_token=meatyhamhock",
            &[],
            "",
        ),
        ByMethod,
    ),
    (
        (
            "meta",
            Stranger,
            "POST",
            "/in?hub.mode=subscribe&hub.challenge=1&hub.verify_token=meatyhamhock",
            &[],
            "{}",
        ),
        NotVerified,
    ),
    (
        (
            "strava",
            Stranger,
            "GET",
            "/in?hub.mode=subscribe&hub.challenge=1&hub.verify_token=meatyhamhoc",
            &[],
            "",
        ),
        NotVerified,
    ),
    (
        (
            "websub",
            Stranger,
            "GET",
            "/in?hub.mode=subscribe&hub.topic=https%3A%2F%2Fexample.com%2Fother&hub.challenge=abc",
            &[],
            "",
        ),
        NotVerified,
    ),
    (
        (
            "websub",
            Stranger,
            "GET",
            "/in?hub.mode=other&hub.topic=https%3A%2F%2Fexample.com%2Ffeed&hub.challenge=abc",
            &[],
            "",
        ),
        ByMethod,
    ),
    (("x-twitter", Stranger, "GET", "/in?crc_token=", &[], ""), ByMethod),
    (("x-twitter", Stranger, "GET", "/in?crc_token=a%22b", &[], ""), ByMethod),
    (("x-twitter", Stranger, "GET", "/in?crc_token=a&crc_token=b", &[], ""), ByMethod),
    (("x-twitter", Stranger, "POST", "/in?crc_token=a", &[], "{}"), NotVerified),
    (("microsoft-graph", Stranger, "GET", "/in?validationToken=a", &[], ""), ByMethod),
    (
        ("microsoft-graph", Stranger, "POST", "/in?validationToken=a%0d%0aSet-Cookie:x", &[], ""),
        NotVerified,
    ),
    (
        ("microsoft-graph", Stranger, "POST", "/in?validationToken=%3Cscript%3E", &[], ""),
        NotVerified,
    ),
    (
        (
            "azure-event-grid",
            Stranger,
            "POST",
            "/in",
            &[("aeg-event-type", "SubscriptionValidation")],
            r#"[{"data":{"validationCode":"a"}}]"#,
        ),
        NotVerified,
    ),
    (
        ("cloudevents", Stranger, "OPTIONS", "/in", &[("webhook-request-origin", "example")], ""),
        NotVerified,
    ),
    (
        (
            "cloudevents",
            Stranger,
            "OPTIONS",
            "/in",
            &[("webhook-request-origin", "a.example eventemitter.example.com")],
            "",
        ),
        NotVerified,
    ),
    (
        ("cloudevents", Stranger, "GET", "/in", &[("webhook-request-origin", "a.example")], ""),
        ByMethod,
    ),
    (("okta", Stranger, "GET", "/in", &[], ""), ByMethod),
    (("okta", Stranger, "GET", "/in", &[("x-okta-verification-challenge", "a\"b")], ""), ByMethod),
    (
        ("okta", Stranger, "POST", "/in", &[("x-okta-verification-challenge", "a")], "{}"),
        NotVerified,
    ),
    (("dropbox", Stranger, "GET", "/in?challenge=a%00", &[], ""), ByMethod),
    (("nylas", Stranger, "GET", "/in", &[], ""), ByMethod),
    (("linkedin", Stranger, "GET", "/in?challengeCode=a%20b", &[], ""), ByMethod),
    (("ebay", Stranger, "GET", "/in?challenge_code=a%20b", &[], ""), ByMethod),
    (("adobe-io", Stranger, "GET", "/in?challenge=a%22%7D", &[], ""), ByMethod),
    (
        (
            "twitch",
            Stranger,
            "POST",
            "/in",
            &[("twitch-eventsub-message-type", "webhook_callback_verification")],
            r#"{"challenge":"a"}"#,
        ),
        NotVerified,
    ),
    (("asana", Stranger, "POST", "/in", &[], r#"{"events":[]}"#), NotVerified),
    (("asana", Signed, "POST", "/in", &[], r#"{"events":[{"action":"added"}]}"#), AnEvent),
    (("asana", Stranger, "POST", "/in", &[("x-hook-secret", "attacker")], "{}"), NotVerified),
    (("gusto", Stranger, "POST", "/in", &[], r#"{"verification_token":"attacker"}"#), NotVerified),
    (
        (
            "notion",
            Signed,
            "POST",
            "/in",
            &[],
            r#"{"id":"1","type":"page.created","verification_token":"x"}"#,
        ),
        AnEvent,
    ),
    (("trello", Stranger, "GET", "/in", &[], ""), ByMethod),
    (("mandrill", Stranger, "GET", "/in", &[], ""), ByMethod),
    (("trello", Stranger, "OPTIONS", "/in", &[], ""), ByMethod),
    (("circle", Stranger, "PUT", "/in", &[], ""), ByMethod),
    (("xero", Stranger, "POST", "/in", &[], r#"{"events":[]}"#), NotVerified),
    (("xero", Signed, "POST", "/in", &[], r#"{"events":[{"resourceId":"1"}]}"#), AnEvent),
    (
        ("xero", Signed, "POST", "/in", &[], r#"{"events":[],"events":[{"resourceId":"1"}]}"#),
        AnEvent,
    ),
    (("line", Stranger, "POST", "/in", &[], r#"{"events":[]}"#), NotVerified),
    (
        ("monday", Stranger, "POST", "/in", &[], r#"{"challenge":"a","event":{"type":"x"}}"#),
        NotVerified,
    ),
    (("monday", Stranger, "POST", "/in", &[], r#"{"challenge":{"a":1}}"#), NotVerified),
    (("monday", Stranger, "POST", "/in", &[], r#"{"challenge":"a","challenge":"b"}"#), NotVerified),
    (
        ("smartsheet", Stranger, "POST", "/in", &[("smartsheet-hook-challenge", "a, b")], "{}"),
        NotVerified,
    ),
    (
        (
            "woocommerce",
            Stranger,
            "POST",
            "/in",
            &[("content-type", "application/json")],
            "webhook_id=7",
        ),
        NotVerified,
    ),
    (("woocommerce", Stranger, "POST", "/in", FORM, "action=7"), NotVerified),
    (("front", Stranger, "POST", "/in", &[("x-front-challenge", "<b>")], "{}"), NotVerified),
    (
        (
            "braintree",
            Stranger,
            "GET",
            "/in?bt_challenge=f38d3e5e8d3d4a0d9d3cf38d3e5e8d3d4",
            &[],
            "",
        ),
        ByMethod,
    ),
    (("braintree", Stranger, "GET", "/in?bt_challenge=xyz", &[], ""), ByMethod),
    (("viva", Stranger, "HEAD", "/in", &[], ""), ByMethod),
    (("discord", Stranger, "POST", "/in", STAMP, r#"{"id":"1","type":1}"#), NotVerified),
    (
        (
            "discord",
            Signed,
            "POST",
            "/in",
            &[],
            r#"{"version":1,"type":1,"event":{"type":"APPLICATION_AUTHORIZED"}}"#,
        ),
        AnEvent,
    ),
    (("discord", Signed, "POST", "/in", &[], r#"{"id":"1","type":2}"#), AnEvent),
    (
        (
            "aws-sns",
            Stranger,
            "POST",
            "/in",
            &[],
            r#"{"Type":"SubscriptionConfirmation","SubscribeURL":"https://evil.example/"}"#,
        ),
        NotVerified,
    ),
    (
        ("aws-sns", Signed, "POST", "/in", &[], r#"{"Type":"Notification","SubscribeURL":"x"}"#),
        AnEvent,
    ),
];

#[test]
fn what_only_looks_like_a_challenge_is_none() {
    for &(row, not) in UNANSWERED {
        let found = match send(row) {
            Told::Refused(Refusal::MethodNotAllowed) => ByMethod,
            Told::Refused(Refusal::NotVerified(_)) => NotVerified,
            Told::Event => AnEvent,
            other => panic!("{row:?}: {other:?}"),
        };
        assert_eq!(found, not, "{row:?}");
    }
}

/// Every provider has at least one request that is no challenge of it.
#[test]
fn each_provider_has_a_near_miss() {
    let missing: Vec<_> = challenging()
        .into_iter()
        .filter(|name| !UNANSWERED.iter().any(|(row, _)| row.0 == name))
        .collect();
    assert_eq!(
        missing,
        ["intercom", "mailchimp"],
        "a probe without a value has nothing to get wrong"
    );
}

/// Without what the source must say about itself, its challenge is not answered, and that is said.
#[test]
fn a_challenge_that_needs_a_parameter_is_not_answered_without_it() {
    let compiled = compiled("meta", &[]);
    assert_eq!(compiled.missing_params, ["verify_token"]);
    let flow = Flow::of(compiled, &[SECRET]);
    let target = "/in?hub.mode=subscribe&hub.challenge=1&hub.verify_token=";
    let told = told(ask(&flow, "GET", target, HeaderMap::new(), "", NOW));
    assert_eq!(told, Told::Refused(Refusal::MethodNotAllowed));
}

/// What the operator is told comes with the answer: here, the URL that confirms the subscription.
#[test]
fn a_subscription_to_confirm_is_reported() {
    let body =
        r#"{"Type":"SubscriptionConfirmation","SubscribeURL":"https://sns.example/?Token=1"}"#;
    let Told::Answered(challenge) = send(("aws-sns", Signed, "POST", "/in", &[], body)) else {
        panic!()
    };
    assert_eq!(challenge.report.as_deref(), Some("https://sns.example/?Token=1"));
}

/// A flood of challenges is answered up to a rate, and the rest is told to come back; events pass.
#[test]
fn challenges_are_answered_up_to_a_rate() {
    let flow = flow("dropbox", SECRET);
    let answered = flow.until("/in?challenge=abc", |answer| match told(answer) {
        Told::Answered(_) => false,
        Told::Refused(Refusal::Overloaded("challenges")) => true,
        other => panic!("{other:?}"),
    });
    assert!(answered >= 100, "{answered} were answered");
    let signed = flow.signed(HeaderMap::new(), b"{}");
    assert_eq!(told(flow.post(signed, "{}")), Told::Event);
}

#[test]
fn a_secret_is_captured_in_no_flow_without_a_window() {
    let flow = flow("notion", "a secret that was there before");
    let body = r#"{"verification_token":"secret_tMrlL1qK5vuQAh1b6cZGhFChZTSYJlce98V0pYn7yBl"}"#;
    let told = told(ask(&flow, "POST", "/in", HeaderMap::new(), body, 0));
    assert_eq!(told, Told::Refused(Refusal::NotVerified(Reason::CaptureClosed)));
}
