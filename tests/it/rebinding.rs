//! An app's name that leads elsewhere from one moment to the next, as whoever has its zone can make it.

use std::net::{IpAddr, SocketAddr};

use crate::{
    STRIPE, stripe_to,
    world::{
        Gateway, Provider, Reply, Upstream, eventually, gateway::yaml, names::Names,
        provider::stripe_event,
    },
};

/// The app; another service behind the same port, which no event is for; and what nobody connects to.
const APP: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
const INNER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 7, 1));

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// A place that answers each event on a connection of its own, so that each is a reason to look the name up.
async fn place(address: SocketAddr) -> Upstream {
    let place = Upstream::at(address).await;
    place.answer(Reply { headers: vec![("connection", "close")], ..Reply::status(200) });
    place
}

struct World {
    names: Names,
    app: Upstream,
    inner: Upstream,
    gateway: Gateway,
}

/// Who gets an event: the app, the inner service, or nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Goes {
    App,
    Inner,
    Nowhere,
}

impl World {
    /// The name is looked up for each event, and leads to `first` the first time and to `then` from then on.
    async fn start(networks: &str) -> Self {
        let (names, app) = (Names::start().await, place((APP, 0).into()).await);
        let port = app.address.port();
        let inner = place((INNER, port).into()).await;
        let upstream = format!("{{ url: \"http://app.example.com:{port}/hooks\"{networks} }}");
        let rest = stripe_to("APP").replace("{ url: \"APP\" }", &upstream);
        let dir = tempfile::tempdir().unwrap();
        let text = yaml(dir.path(), &rest);
        let gateway = Gateway::start_under(&names.wrapper(), dir, &text).await;
        Self { names, app, inner, gateway }
    }

    fn seen(&self) -> [(usize, usize); 2] {
        [&self.app, &self.inner].map(|place| (place.connections(), place.count()))
    }

    /// Whether each goes where it must: what its name leads to, and what it leads to a moment later.
    async fn events(&self, rows: &[(Vec<IpAddr>, IpAddr, Goes)]) {
        for (n, (first, then, goes)) in rows.iter().enumerate() {
            self.event(n, first, *then, *goes).await;
        }
    }

    async fn event(&self, n: usize, first: &[IpAddr], then: IpAddr, goes: Goes) {
        let what = format!("{n}: {first:?}, then {then}");
        let mut seen = self.seen();
        self.names.say(&[first, &[then]]);
        let body = stripe_event(&format!("evt_{n}"), "invoice.paid");
        let headers = Provider::Stripe(STRIPE).sign("", "", &body);
        let status = self.gateway.post("/stripe", &headers, &body).await.status;
        assert_eq!(self.names.asked(), 1, "{what}: looked up, and not a second time");
        if goes == Goes::Nowhere {
            assert_eq!(status, 502, "{what}");
            let why = format!("app.example.com leads to [{}]", self.at(first));
            eventually(&format!("{what}: the record says why"), || async {
                let records = self.gateway.records();
                let mut said = records.iter().filter_map(|record| record["error"].as_str());
                said.any(|said| said.starts_with(&why) && said.contains("may not"))
            })
            .await;
        } else {
            assert_eq!(status, 200, "{what}");
            let place = &mut seen[usize::from(goes == Goes::Inner)];
            *place = (place.0 + 1, place.1 + 1);
        }
        assert_eq!(self.seen(), seen, "{what}: connections and events of app and inner service");
    }

    /// As an operator reads it.
    fn at(&self, addresses: &[IpAddr]) -> String {
        let port = self.app.address.port();
        let all = addresses.iter().map(|ip| SocketAddr::new(*ip, port).to_string());
        all.collect::<Vec<_>>().join(", ")
    }
}

/// Whoever looks at one answer and connects by another is led astray by the second.
#[tokio::test]
async fn the_address_that_was_looked_at_is_the_one_that_is_connected_to() {
    use Goes::{App, Inner, Nowhere};
    let world = World::start(", networks: [127.0.0.0/24]").await;
    let rows = [
        (vec![APP], INNER, App),
        (vec![INNER], APP, Nowhere),
        (vec![ip("10.1.2.3")], APP, Nowhere),
        (vec![ip("169.254.169.254")], APP, Nowhere),
        (vec![ip("::ffff:127.0.7.1")], APP, Nowhere),
        // Of several, those that may be.
        (vec![INNER, APP], INNER, App),
        (vec![ip("::1"), APP], INNER, App),
        (vec![APP], APP, App),
    ];
    world.events(&rows).await;
    // Where nothing is said, anywhere but to where a cloud tells a machine's secrets.
    let world = World::start("").await;
    let rows = [
        (vec![APP], INNER, App),
        (vec![INNER], APP, Inner),
        (vec![ip("169.254.169.254")], APP, Nowhere),
        (vec![ip("::ffff:169.254.169.254")], APP, Nowhere),
        (vec![ip("fd00:ec2::254")], APP, Nowhere),
        (vec![ip("100.100.100.200")], APP, Nowhere),
        (vec![ip("169.254.170.23")], APP, Nowhere),
        (vec![ip("169.254.169.254"), APP], INNER, App),
        (vec![APP], APP, App),
    ];
    world.events(&rows).await;
}
