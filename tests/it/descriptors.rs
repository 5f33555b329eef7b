//! As many files as a process may have open: strangers can bring that about, with connections.

use serde_json::Value;
use tokio::{net::TcpStream, time::timeout};

use crate::{
    STRIPE, stripe_to,
    world::{
        Gateway, PATIENCE, Provider, Upstream,
        crowd::{Line, whole},
        gateway::yaml,
        provider::stripe_event,
    },
};

/// What a process is started by that may have so many files open: at first, and at most.
fn ulimit(soft: u32, hard: u32) -> Vec<String> {
    let limit = format!("ulimit -Sn {soft} && ulimit -Hn {hard} && exec \"$0\" \"$@\"");
    ["sh", "-c", &limit].map(ToOwned::to_owned).to_vec()
}

/// The limit of a process.
fn limit(gateway: &Gateway) -> Vec<String> {
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", gateway.pid())).unwrap();
    let files = limits.lines().find_map(|line| line.strip_prefix("Max open files")).unwrap();
    files.split_whitespace().take(2).map(ToOwned::to_owned).collect()
}

fn warned(gateway: &Gateway) -> usize {
    let about = |line: &&String| line.contains("fewer files may be open");
    gateway.log().iter().filter(about).count()
}

#[tokio::test]
async fn a_process_takes_the_files_that_it_may_have_and_says_where_they_are_few() {
    let app = Upstream::start().await;
    for (soft, hard, connections, warnings) in
        [(256, 4096, 3000, 0), (4096, 4096, 3996, 0), (4096, 4096, 3997, 1), (128, 256, 10_000, 1)]
    {
        let dir = tempfile::tempdir().unwrap();
        let limits = format!("limits: {{ connections: {connections} }}\n");
        let text = yaml(dir.path(), &(limits + &stripe_to(&app.url())));
        let gateway = Gateway::start_under(&ulimit(soft, hard), dir, &text).await;
        assert_eq!(limit(&gateway), [hard.to_string(), hard.to_string()]);
        assert_eq!(warned(&gateway), warnings, "{connections} of {hard}");
    }
}

/// The log wants a new file meanwhile: it does without, and nothing that was taken on fails.
#[tokio::test]
async fn strangers_who_hold_every_descriptor_end_nothing_and_leave_nothing_behind() {
    let app = Upstream::start().await;
    let dir = tempfile::tempdir().unwrap();
    let rotate =
        "audit: { rotate: { every: 1s }, compress: none }\nlimits: { first_byte_timeout: 1h }\n";
    let text = yaml(dir.path(), &(rotate.to_owned() + &stripe_to(&app.url())));
    let text = text.replace("server: {", "server: { workers: 2,");
    let gateway = Gateway::start_under(&ulimit(64, 128), dir, &text).await;
    let mut line = Line::to(gateway.address);
    let mut sent = 0;
    let mut send = async || {
        let body = stripe_event(&format!("evt_{sent}"), "invoice.paid");
        let headers = Provider::Stripe(STRIPE).sign("", "", &body);
        sent += 1;
        let said = line.ask(&whole(&headers, &body)).await.unwrap();
        assert_eq!(said.status, 200, "{said:?}");
    };
    send().await;
    let mut strangers = Vec::new();
    let segments = || {
        std::fs::read_dir(gateway.dir().join("audit"))
            .unwrap()
            .filter(|entry| {
                entry.as_ref().unwrap().file_name().to_string_lossy().starts_with("segment-")
            })
            .count()
    };
    let put_off = |line: &String| line.contains("too many files are open: the log goes on");
    let until_put_off = async {
        while !gateway.log().iter().any(put_off) {
            if strangers.len() < 300 {
                strangers.push(TcpStream::connect(gateway.address).await.unwrap());
            }
            send().await;
        }
    };
    timeout(PATIENCE, until_put_off).await.expect("the next segment is put off");
    let before = segments();
    drop(strangers);
    let until_begun = async {
        while segments() <= before {
            send().await;
        }
    };
    timeout(PATIENCE, until_begun).await.expect("the next segment begins");
    assert_eq!(gateway.admin("GET", "/readyz").await.status, 200);
    let attempts = gateway.records().iter().filter(|r: &&Value| r["kind"] == "attempt").count();
    assert_eq!((attempts, app.count()), (sent, sent), "each is on record, and came once");
}
