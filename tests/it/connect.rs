//! How apps are reached: several urls, TLS, HTTP/2, connections that are used again, and every way to fail at it.

use std::{future::Future, sync::Arc, time::Duration};

use bytes::Bytes;
use gatepost::{
    deliver::{self, Balance, Dial, HttpVersion, UpstreamParams, UpstreamTls},
    event::Name,
    telemetry::Metrics,
};
use http::HeaderMap;

use crate::{
    STRIPE, stripe_to,
    world::{
        Ca, Gateway, PATIENCE, Provider, RawUpstream, Reply, Speaks, Then, Upstream, eventually,
        gateway::{Answer, yaml},
        provider::stripe_event,
        upstream::dead_address,
    },
};

const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// One Stripe source; `route` and `upstream` are the insides of the YAML maps.
pub async fn gateway(route: &str, upstream: &str) -> Gateway {
    gateway_in(tempfile::tempdir().unwrap(), route, upstream).await
}

/// One worker, because connections to apps belong to workers, and they are counted here.
async fn gateway_in(dir: tempfile::TempDir, route: &str, upstream: &str) -> Gateway {
    let path = dir.path().display().to_string();
    let rest = format!(
        "sources: {{ stripe: {{ provider: stripe, secret: \"{STRIPE}\" }} }}\n\
         routes: [ {{ source: stripe, to: app{route} }} ]\nupstreams: {{ app: {{ {upstream} }} }}\n"
    );
    on_one_worker(dir, &rest.replace("{dir}", &path)).await
}

async fn on_one_worker(dir: tempfile::TempDir, rest: &str) -> Gateway {
    let text = yaml(dir.path(), rest).replace("server: {", "server: { workers: 1,");
    Gateway::start_whole(dir, &text).await
}

pub async fn post(gateway: &Gateway, id: &str) -> Answer {
    let body = stripe_event(id, "invoice.paid");
    gateway.post("/stripe", &Provider::Stripe(STRIPE).sign("", "", &body), &body).await
}

/// Posts `count` events, one after the other; all of them must be accepted.
pub async fn accepted(gateway: &Gateway, count: usize) {
    for n in 0..count {
        let answer = post(gateway, &format!("evt_{n}")).await;
        assert_eq!((answer.status, answer.outcome()), (200, "accepted"), "{n}");
    }
}

/// Posts `count` events at once.
pub async fn at_once(gateway: &Gateway, names: &str, count: usize) -> Vec<Answer> {
    let posts = (0..count).map(|n| async move { post(gateway, &format!("evt_{names}_{n}")).await });
    futures_util::future::join_all(posts).await
}

/// How many attempts at the app ended like that.
pub fn counted(gateway: &Gateway, result: &str) -> impl Future<Output = f64> {
    let series =
        format!("gatepost_delivery_attempts_total{{upstream=\"app\",result=\"{result}\"}}");
    async move { gateway.metric(&series).await }
}

/// An app at `url` as it is configured, without a gateway.
pub fn params(url: &str, http: HttpVersion) -> UpstreamParams {
    UpstreamParams {
        name: Name::parse("app").unwrap(),
        urls: vec![url.parse().unwrap()],
        balance: Balance::RoundRobin,
        connect_timeout: PATIENCE,
        concurrency: 100,
        idle_timeout: PATIENCE,
        http,
        remove_headers: Vec::new(),
        set_headers: Vec::new(),
        tls: UpstreamTls::default(),
        networks: Vec::new(),
    }
}

pub fn over(network: Option<&Arc<dyn Dial>>, params: UpstreamParams) -> deliver::Upstream {
    let metrics = Metrics::new().upstream(&params.name);
    deliver::Upstream::over(network, params, metrics).unwrap()
}

/// The status of an answer, or why there was none.
pub async fn directly(upstream: &deliver::Upstream, patience: Duration) -> Result<u16, String> {
    let answer = upstream.post(HeaderMap::new(), Bytes::from_static(b"{}"), patience).await;
    answer.map(|(status, _)| status.as_u16())
}

#[tokio::test]
async fn one_connection_serves_one_event_after_the_other() {
    let app = Upstream::start().await;
    app.answer(Reply { status: 200, headers: Vec::new(), body: "thank you" });
    let gateway = Gateway::start(&stripe_to(&app.url())).await;
    accepted(&gateway, 10).await;
    assert_eq!(app.connections(), 1, "an answer's body is read, so that its connection lives on");
}

/// So much of an answer is read: one that is a byte longer takes its connection with it.
#[tokio::test]
async fn a_longer_answer_than_is_read_ends_its_connection() {
    for (route, bytes_max) in [("", 4 << 10), (", reply: full", 64 << 10)] {
        for (bytes, connections) in [(bytes_max, 1), (bytes_max + 1, 2)] {
            let app = Upstream::start().await;
            let body = "x".repeat(bytes).leak();
            app.answer(Reply { status: 200, headers: Vec::new(), body });
            let gateway = gateway(route, &format!("url: \"{}\"", app.url())).await;
            accepted(&gateway, 2).await;
            assert_eq!(app.connections(), connections, "{bytes} bytes{route}");
        }
    }
}

#[tokio::test]
async fn a_connection_that_was_closed_while_idle_is_replaced() {
    let app = RawUpstream::start(OK.to_vec(), Then::HangUp).await;
    let gateway = Gateway::start(&stripe_to(&app.url())).await;
    for n in 1..=5 {
        assert_eq!(post(&gateway, &format!("evt_{n}")).await.status, 200, "{n}");
        eventually("the app has hung up", || async { app.closed() == n }).await;
    }
    assert_eq!(app.count(), 5);
}

#[tokio::test]
async fn nothing_is_repeated_once_a_byte_was_written() {
    let app = RawUpstream::start(Vec::new(), Then::HangUp).await;
    let gateway = Gateway::start(&stripe_to(&app.url())).await;
    let answer = post(&gateway, "evt_1").await;
    assert_eq!((answer.status, answer.outcome()), (502, "upstream_broke"));
    assert_eq!(app.count(), 1);
    assert_eq!(counted(&gateway, "reset").await, 1.0);
}

#[tokio::test]
async fn an_app_that_is_away_is_a_definite_failure() {
    let address = dead_address().await;
    let gateway = Gateway::start(&stripe_to(&format!("http://{address}/"))).await;
    for _ in 0..2 {
        let answer = post(&gateway, "evt_1").await;
        assert_eq!((answer.status, answer.outcome()), (502, "upstream_failed"), "not held");
    }
    assert_eq!(counted(&gateway, "connect").await, 2.0);
}

#[tokio::test]
async fn several_urls_take_turns_and_a_dead_one_is_passed_over() {
    let (one, two, dead) = (Upstream::start().await, Upstream::start().await, dead_address().await);
    let urls = format!("urls: [ \"{}\", \"http://{dead}/hooks\", \"{}\" ]", one.url(), two.url());
    let gateway = gateway("", &urls).await;
    accepted(&gateway, 6).await;
    assert_eq!(one.count() + two.count(), 6);
    assert_eq!((one.count(), two.count()), (2, 4), "the turn of the dead one goes to the next");
}

#[tokio::test]
async fn least_busy_avoids_the_one_that_is_busy() {
    let (slow, quick) = (Upstream::closed().await, Upstream::start().await);
    let urls = format!("urls: [ \"{}\", \"{}\" ], balance: least-busy", slow.url(), quick.url());
    let gateway = gateway("", &urls).await;
    let held = post(&gateway, "evt_held");
    let others = async {
        eventually("the slow one has it", || async { slow.count() == 1 }).await;
        accepted(&gateway, 4).await;
        slow.open(1);
    };
    let (answer, ()) = tokio::join!(held, others);
    assert_eq!(answer.status, 200);
    assert_eq!((slow.count(), quick.count()), (1, 4));
}

#[tokio::test]
async fn no_more_attempts_than_allowed_are_in_flight() {
    let app = Upstream::closed().await;
    let gateway =
        gateway(", timeout: 1s", &format!("url: \"{}\", concurrency: 2", app.url())).await;
    let answers = at_once(&gateway, "a", 3).await;
    let mut outcomes: Vec<_> = answers.iter().map(|a| (a.status, a.outcome())).collect();
    outcomes.sort_unstable();
    let late = (504, "upstream_timeout");
    assert_eq!(outcomes, [(503, "overloaded"), late, late]);
    assert_eq!(app.count(), 2);
    let shed = gateway.metric("gatepost_shed_total{reason=\"upstream_concurrency\"}").await;
    assert_eq!(shed, 1.0);
    app.open(3);
    eventually("attempts that were answered late make room", || async {
        post(&gateway, "evt_next").await.status == 200
    })
    .await;
}

/// One worker, too: what waits for an app that never answers holds up no event for another one.
#[tokio::test]
async fn an_app_that_takes_no_more_holds_up_no_other() {
    let (full, free) = (Upstream::closed().await, Upstream::start().await);
    let dir = tempfile::tempdir().unwrap();
    let rest = format!(
        "sources: {{ stripe: {{ provider: stripe, secret: \"{STRIPE}\" }} }}\n\
         routes: [ {{ source: stripe, events: \"invoice.*\", to: full }}, {{ source: stripe, to: free }} ]\n\
         upstreams: {{ full: {{ url: \"{}\", concurrency: 2 }}, free: \"{}\" }}\n",
        full.url(),
        free.url(),
    );
    let gateway = on_one_worker(dir, &rest).await;
    let others = async {
        eventually("it is full", || async { full.count() == 2 }).await;
        for n in 0..20 {
            let body = stripe_event(&format!("evt_free_{n}"), "charge.refunded");
            let headers = Provider::Stripe(STRIPE).sign("", "", &body);
            assert_eq!(gateway.post("/stripe", &headers, &body).await.outcome(), "accepted");
        }
        let waiting = (full.count(), free.count());
        full.open(10);
        waiting
    };
    let (answers, waiting) = tokio::join!(at_once(&gateway, "full", 10), others);
    assert_eq!(waiting, (2, 20), "all the others while it was full");
    assert!(answers.iter().all(|answer| answer.outcome() == "accepted"));
}

#[tokio::test]
async fn threads_share_the_limits_of_an_upstream_and_not_its_connections() {
    let app = Upstream::closed().await;
    let params = UpstreamParams { concurrency: 1, ..params(&app.url(), HttpVersion::Auto) };
    let one = over(None, params);
    let other = one.with_own_connections();
    let shut_out = async {
        eventually("the app has the first", || async { app.count() == 1 }).await;
        let second = directly(&other, Duration::from_millis(50)).await;
        app.open(3);
        second
    };
    let (first, second) = tokio::join!(directly(&one, PATIENCE), shut_out);
    assert_eq!(first.unwrap(), 200);
    assert_eq!((second.unwrap_err().as_str(), app.count()), ("no answer in time", 1));
    directly(&one, PATIENCE).await.unwrap();
    assert_eq!(app.connections(), 1);
    directly(&other, PATIENCE).await.unwrap();
    assert_eq!((app.count(), app.connections()), (3, 2));
}

/// Whichever of its times is over first: nothing was sent.
#[tokio::test]
async fn connecting_is_given_up_in_time_and_counts_as_not_sent() {
    // Accepts the connection and never says a word of TLS.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = silent.local_addr().unwrap().port();
    for (route, connect) in [("30s", "200ms"), ("200ms", "30s")] {
        let dir = tempfile::tempdir().unwrap();
        Ca::new().write(dir.path());
        let upstream = format!(
            "url: \"https://localhost:{port}/\", connect_timeout: {connect}, tls: {{ ca: \"{{dir}}/ca.pem\" }}"
        );
        let gateway = gateway_in(dir, &format!(", timeout: {route}"), &upstream).await;
        let answer = post(&gateway, "evt_1").await;
        assert_eq!((answer.status, answer.outcome()), (502, "upstream_failed"), "{route}");
        let counts = (counted(&gateway, "connect").await, counted(&gateway, "timeout").await);
        assert_eq!(counts, (1.0, 0.0), "{route}");
    }
}

/// The app's TLS, what the gateway is configured with, and the status that an event gets.
async fn over_tls(server: &Speaks, ca: &Ca, tls: &str) -> (u16, Gateway, Upstream) {
    let app = Upstream::speaking(server.clone()).await;
    let dir = tempfile::tempdir().unwrap();
    ca.write(dir.path());
    let gateway = gateway_in(dir, "", &format!("url: \"{}\", tls: {{ {tls} }}", app.url())).await;
    (post(&gateway, "evt_1").await.status, gateway, app)
}

#[tokio::test]
async fn an_app_is_believed_by_the_named_authority_only() {
    let ca = Ca::new();
    let speaks = |name: &str| Speaks { h2: false, tls: Some(ca.server(name, &[], false)) };
    let own = "ca: \"{dir}/ca.pem\"";
    assert_eq!(over_tls(&speaks("localhost"), &ca, own).await.0, 200);
    for (server, authority, tls) in
        [(speaks("localhost"), &Ca::new(), own), (speaks("elsewhere.example"), &ca, own)]
    {
        let (status, gateway, app) = over_tls(&server, authority, tls).await;
        assert_eq!((status, app.count()), (502, 0));
        assert_eq!(counted(&gateway, "tls").await, 1.0);
    }
    let named = "ca: \"{dir}/ca.pem\", server_name: elsewhere.example";
    assert_eq!(over_tls(&speaks("elsewhere.example"), &ca, named).await.0, 200);
}

#[tokio::test]
async fn our_client_certificate_is_shown_to_an_app_that_asks() {
    let ca = Ca::new();
    let asks = Speaks { h2: false, tls: Some(ca.server("localhost", &[], true)) };
    let with = "ca: \"{dir}/ca.pem\", cert: \"{dir}/client.pem\", key: \"{dir}/client.key\"";
    assert_eq!(over_tls(&asks, &ca, with).await.0, 200);
    let (status, _, app) = over_tls(&asks, &ca, "ca: \"{dir}/ca.pem\"").await;
    assert_eq!((status, app.count()), (502, 0));
}

#[tokio::test]
async fn one_http2_connection_carries_events_side_by_side() {
    let ca = Ca::new();
    let h2 = Speaks { h2: true, tls: Some(ca.server("localhost", &["h2", "http/1.1"], false)) };
    let (status, gateway, app) = over_tls(&h2, &ca, "ca: \"{dir}/ca.pem\"").await;
    assert_eq!(status, 200);
    let answers = at_once(&gateway, "b", 20).await;
    assert!(answers.iter().all(|answer| answer.status == 200));
    assert_eq!((app.count(), app.connections()), (21, 1));
    assert_eq!(app.received()[0].path, "/hooks");
    assert!(!app.received()[0].headers.contains_key("host"), "h2 has :authority");
    let (status, _dir) = gateway.stop().await;
    assert!(status.success(), "an idle connection holds nobody up");
}

#[tokio::test]
async fn events_that_come_at_once_share_the_first_http2_connection() {
    let app = Upstream::speaking(Speaks { h2: true, tls: None }).await;
    let gateway = gateway("", &format!("url: \"{}\", http: \"2\"", app.url())).await;
    let answers = at_once(&gateway, "a", 20).await;
    assert!(answers.iter().all(|answer| answer.status == 200));
    assert_eq!((app.count(), app.connections()), (20, 1));
}

#[tokio::test]
async fn http2_without_tls_is_spoken_where_the_configuration_says_so() {
    let app = Upstream::speaking(Speaks { h2: true, tls: None }).await;
    let gateway = gateway("", &format!("url: \"{}\", http: \"2\"", app.url())).await;
    accepted(&gateway, 3).await;
    assert_eq!((app.count(), app.connections()), (3, 1));
}

#[tokio::test]
async fn an_idle_http2_connection_does_not_delay_the_end() {
    let app = Upstream::speaking(Speaks { h2: true, tls: None }).await;
    let gateway = gateway("", &format!("url: \"{}\", http: \"2\"", app.url())).await;
    accepted(&gateway, 1).await;
    gateway.signal("TERM");
    assert!(gateway.ended().await.success());
    let cut_short = gateway.log().iter().any(|line| line.contains("cut short"));
    assert!(!cut_short, "{:?}", gateway.log());
}

#[tokio::test]
async fn an_answer_counts_from_its_head_on() {
    // Says 200, promises a body, and never sends it.
    let app =
        RawUpstream::start(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n".to_vec(), Then::Stay)
            .await;
    for reply in ["full", "status-only"] {
        let route = format!(", timeout: 500ms, reply: {reply}");
        let gateway = gateway(&route, &format!("url: \"{}\"", app.url())).await;
        let answer = post(&gateway, "evt_1").await;
        assert_eq!((answer.status, &answer.body[..]), (200, &b""[..]), "{reply}");
    }
}

#[tokio::test]
async fn answers_are_bounded() {
    let long = |body: usize| {
        [format!("HTTP/1.1 200 OK\r\nContent-Length: {body}\r\n\r\n").into(), vec![b'x'; body]]
            .concat()
    };
    let app = RawUpstream::start(long(64 * 1024), Then::Stay).await;
    let whole = gateway(", reply: full", &format!("url: \"{}\"", app.url())).await;
    assert_eq!(post(&whole, "evt_1").await.body.len(), 64 * 1024);
    let app = RawUpstream::start(long(64 * 1024 + 1), Then::Stay).await;
    let too_long = gateway(", reply: full", &format!("url: \"{}\"", app.url())).await;
    let answer = post(&too_long, "evt_1").await;
    assert_eq!((answer.status, answer.outcome(), answer.body.len()), (200, "accepted", 0));
}

/// A head that is not read may be that of a 200: whoever sent it may have the event.
#[tokio::test]
async fn an_answer_that_cannot_be_read_is_unknown_and_the_next_attempt_is_told() {
    let header = |n: usize| format!("X-{n}: y\r\n");
    for (name, says) in [
        ("no HTTP", b"SSH-2.0-OpenSSH_9.2\r\n\r\n".to_vec()),
        ("a huge head", [b"HTTP/1.1 200 OK\r\nX: ".as_slice(), &vec![b'x'; 200_000]].concat()),
        (
            "too many headers",
            format!("HTTP/1.1 200 OK\r\n{}\r\n", (0..200).map(header).collect::<String>()).into(),
        ),
    ] {
        let app = RawUpstream::start(says, Then::Stay).await;
        let rest = stripe_to(&app.url());
        let rest = format!("{rest}dedup: {{ on_unknown: 1s, join_timeout: 100ms }}\n");
        let gateway = Gateway::start(&rest).await;
        let answer = post(&gateway, "evt_1").await;
        assert_eq!((answer.status, answer.outcome()), (502, "upstream_broke"), "{name}");
        assert_eq!(counted(&gateway, "garbage").await, 1.0, "{name}");
        let told = || -> Vec<bool> {
            let heads = app.heads.lock().unwrap();
            heads.iter().map(|h| h.contains("gatepost-previous-attempt: unknown")).collect()
        };
        assert_eq!(told(), [false], "{name}");
        eventually("it goes through again", || async {
            let answer = post(&gateway, "evt_1").await;
            assert!(
                ["duplicate_in_flight", "upstream_broke"].contains(&answer.outcome()),
                "{name}"
            );
            answer.outcome() == "upstream_broke"
        })
        .await;
        assert_eq!(told(), [false, true], "{name}");
    }
}
