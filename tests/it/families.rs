//! The forgeries of every family of shared secrets, over a socket to the real binary: one answer for all of them, and nothing
//! behind it.

use std::collections::BTreeSet;

use http::{HeaderMap, HeaderName};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::{
    forged::{AT_LEAST, BODY, Family, basics, forgeries, hashes, macs, secret_of, tokens},
    world::{Gateway, PATIENCE, Upstream},
};

#[tokio::test]
async fn forgeries_of_every_family_get_one_answer_and_touch_nothing() {
    let mut answers = BTreeSet::new();
    for family in [macs(), hashes(), tokens(), basics()] {
        answers.extend(answers_of(&family).await);
    }
    assert_eq!(answers.len(), 1, "{:#?}", answers.iter().take(3).collect::<Vec<_>>());
}

/// How one family's forgeries are answered.
async fn answers_of(family: &Family) -> BTreeSet<String> {
    let app = Upstream::start().await;
    let gateway = Gateway::start(&format!(
        "sources:\n  shop:\n    provider: custom\n    secret: \"{}\"\n    {}\n    \
         event: {{ id: '{{json:id}}', type: '{{json:type}}' }}\n\
         routes: [ {{ source: shop, to: app }} ]\nupstreams: {{ app: \"{}\" }}\n",
        secret_of(family),
        family.yaml,
        app.url()
    ))
    .await;
    let mut stream = TcpStream::connect(gateway.address).await.unwrap();
    let forgeries = forgeries(family);
    assert!(forgeries.len() >= AT_LEAST, "{}", forgeries.len());
    let mut answers = BTreeSet::new();
    for lines in &forgeries {
        let answer = exchange(&mut stream, &request(lines)).await;
        assert!(answer.starts_with("HTTP/1.1 401 "), "{lines:?}: {answer}");
        answers.insert(without_its_own(&answer));
    }
    let events = |kind: &str| gateway.records().iter().filter(|r| r["kind"] == kind).count();
    assert_eq!((app.count(), events("attempt"), events("ignored")), (0, 0, 0), "{}", family.yaml);
    assert_eq!(gateway.metric(CLAIMS).await, 0.0, "the store was asked: {}", family.yaml);
    // The same connection, and the right credentials.
    let name = HeaderName::from_static(family.header);
    let good = HeaderMap::from_iter([(name, family.good.parse().unwrap())]);
    let answer = exchange(&mut stream, &request(&good)).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{}: {answer}", family.yaml);
    assert_eq!((app.count(), events("attempt")), (1, 1), "{}", family.yaml);
    assert_eq!(gateway.metric(CLAIMS).await, 1.0, "{}", family.yaml);
    answers
}

const CLAIMS: &str =
    "gatepost_dedup_operation_duration_seconds_count{store=\"embedded\",operation=\"claim\"}";

fn request(lines: &HeaderMap) -> Vec<u8> {
    let mut text = b"POST /shop HTTP/1.1\r\nHost: a\r\n".to_vec();
    for (name, value) in lines {
        text.extend([name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
    }
    text.extend(format!("Content-Length: {}\r\n\r\n", BODY.len()).into_bytes());
    text.extend(BODY);
    text
}

/// One request and its answer, on a connection that stays open.
async fn exchange(stream: &mut TcpStream, request: &[u8]) -> String {
    stream.write_all(request).await.unwrap();
    let mut heard = Vec::new();
    let whole = async {
        loop {
            let text = String::from_utf8_lossy(&heard).into_owned();
            if let Some((head, body)) = text.split_once("\r\n\r\n") {
                let head = head.to_ascii_lowercase();
                let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
                if body.len() >= length.map_or(0, |length| length.parse().unwrap()) {
                    return text;
                }
            }
            let mut some = [0; 4096];
            let read = stream.read(&mut some).await.unwrap();
            assert!(read > 0, "closed after {text:?}");
            heard.extend(&some[..read]);
        }
    };
    tokio::time::timeout(PATIENCE, whole).await.expect("an answer")
}

/// An answer without what every answer has of its own: its date, and its receipt.
fn without_its_own(answer: &str) -> String {
    let receipt = answer.lines().find_map(|line| line.strip_prefix("webhook-receipt: "));
    let answer = answer.replace(receipt.expect("a receipt"), "");
    let lines: Vec<_> = answer.lines().filter(|line| !line.starts_with("date: ")).collect();
    lines.join("\n")
}
