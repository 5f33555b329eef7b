//! Strangers at a gateway's door: requests of every kind that nobody signed who may.

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinSet,
};

use super::{
    Gateway, PATIENCE, Provider,
    provider::{Headers, now, stripe_event},
};
use crate::{GITHUB, STRIPE};

/// A way to be refused: the request's first line and headers, its body, and the answer. All of them leave the connection open.
type Forgery = (&'static str, Headers, Vec<u8>, u16);

fn own(name: &str, value: impl Into<String>) -> (String, String) {
    (name.to_owned(), value.into())
}

/// As many ids as there are numbers. Each is one that a provider could send, and will.
fn forgeries(n: u64) -> Vec<Forgery> {
    let body = stripe_event(&format!("evt_forged_{n}"), "invoice.paid");
    let stripe = Provider::Stripe(STRIPE);
    let stranger = Provider::Stripe("whsec_another_secret_0123456789");
    let github = Provider::GitHub("another secret 0123456789").sign("guid-forged", "push", &body);
    let tabs = format!("a{}b", "\t".repeat(2000));
    let agent = own("user-agent", format!("forger/{n} {}", "x".repeat(4000)));
    let long = own("x-long", tabs);
    let with = |mut headers: Headers, more: &[(String, String)]| {
        headers.extend_from_slice(more);
        headers
    };
    let large = [&body[..], &vec![b' '; 60_000]].concat();
    vec![
        ("POST /stripe", stranger.sign("", "", &body), body.clone(), 401),
        ("POST /stripe", vec![], body.clone(), 401),
        ("POST /stripe", vec![own("stripe-signature", "")], body.clone(), 401),
        ("POST /stripe", vec![own("stripe-signature", "t=1,v1=zz")], body.clone(), 401),
        ("POST /stripe", stripe.sign_at(now() - 400, "", "", &body), body.clone(), 401),
        ("POST /stripe", stripe.sign_at(now() + 400, "", "", &body), body.clone(), 401),
        ("POST /stripe", stripe.sign("", "", b"another body"), body.clone(), 401),
        ("POST /stripe", Provider::Stripe(GITHUB).sign("", "", &body), body.clone(), 401),
        (
            "POST /stripe",
            with(stripe.sign("", "", &body), &stripe.sign("", "", &body)),
            body.clone(),
            401,
        ),
        ("POST /stripe", with(stranger.sign("", "", &body), &[agent, long]), body.clone(), 401),
        ("POST /stripe", stranger.sign("", "", &large), large, 401),
        ("POST /stripe", stranger.sign("", "", b"{"), b"{".to_vec(), 401),
        ("POST /stripe", github.clone(), body.clone(), 401),
        ("POST /nobody", stripe.sign("", "", &body), body.clone(), 404),
        ("POST /stripe/../github", github, body, 404),
    ]
}

fn written((line, headers, body, status): &Forgery) -> Vec<u8> {
    let mut text = format!("{line} HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n");
    for (name, value) in headers {
        text += &format!("{name}: {value}\r\n");
    }
    text += &format!("content-length: {}\r\n\r\n", body.len());
    // What is too long by its own account is refused before it comes.
    let sent = if *status == 413 { &[][..] } else { body };
    [text.as_bytes(), sent].concat()
}

/// Requests over one connection, and the statuses of their answers.
async fn converse(stream: &mut TcpStream, requests: &[Forgery]) -> Vec<u16> {
    let said: Vec<u8> = requests.iter().flat_map(written).collect();
    let (mut reader, mut writer) = stream.split();
    let speak = async { drop(writer.write_all(&said).await) }; // a long body may be refused before its end
    let listen = async {
        let mut statuses = Vec::new();
        let mut heard = Vec::new();
        while statuses.len() < requests.len() {
            let end = heard.windows(4).position(|four| four == b"\r\n\r\n");
            let whole = end.and_then(|end| {
                let head = String::from_utf8(heard[..end].to_vec()).unwrap();
                let length = head.lines().find_map(|l| l.strip_prefix("content-length: "))?;
                let length = end + 4 + length.parse::<usize>().unwrap();
                (heard.len() >= length).then_some((head, length))
            });
            if let Some((head, length)) = whole {
                statuses.push(head[9..12].parse().unwrap());
                heard.drain(..length);
                continue;
            }
            let read = reader.read_buf(&mut heard).await.unwrap();
            assert!(read > 0, "the connection stays open");
        }
        statuses
    };
    let both = async { tokio::join!(speak, listen).1 };
    tokio::time::timeout(PATIENCE, both).await.expect("every request is answered")
}

/// What ends a connection, too; each is the last request on one.
fn last_words(n: u64) -> Forgery {
    let body = stripe_event(&format!("evt_forged_{n}"), "invoice.paid");
    let signed = Provider::Stripe(STRIPE).sign("", "", &body);
    let with = |name: &str, value: &str| [signed.clone(), vec![own(name, value)]].concat();
    match n % 4 {
        0 => ("GET /stripe", signed, body, 405),
        1 => ("POST /stripe", with("content-encoding", "gzip"), body, 415),
        2 => ("POST /stripe", with("x_forwarded_for", "127.0.0.1"), body, 400),
        _ => ("POST /stripe", signed, vec![b' '; 1_100_000], 413),
    }
}

/// About `count` requests by `senders` strangers at once. Every one gets the answer that its kind gets.
pub async fn flood(gateway: &Gateway, count: u64, senders: u64) {
    let address = gateway.address;
    let each = forgeries(0).len() as u64 + 1;
    let mut strangers = JoinSet::new();
    for sender in 0..senders {
        strangers.spawn(async move {
            for n in 0..count.div_ceil(each * senders) {
                let number = n * senders + sender;
                let requests = forgeries(number);
                let expected: Vec<_> = requests.iter().map(|(.., status)| *status).collect();
                let mut stream = TcpStream::connect(address).await.unwrap();
                assert_eq!(converse(&mut stream, &requests).await, expected);
                let last = last_words(number);
                let status = last.3;
                assert_eq!(converse(&mut stream, &[last]).await, [status]);
            }
        });
    }
    strangers.join_all().await;
}
