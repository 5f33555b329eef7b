//! The guard alone: it finds heads where the parser finds them, however they come in pieces.

use gatepost::server::Guard;
use proptest::prelude::*;

/// Feeds pieces; how many bytes may be passed on.
fn hear(guard: &mut Guard, pieces: &[&[u8]]) -> usize {
    let mut passed = 0;
    for piece in pieces {
        let now = guard.hear(piece);
        passed += now;
        if now < piece.len() {
            break;
        }
    }
    passed
}

const HEAD: &[u8] = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n";

#[test]
fn the_parser_must_find_the_same_heads_and_lengths() {
    let apart = Err("its end was read in two ways");
    let mut guard = Guard::default();
    assert_eq!(guard.hear(HEAD), HEAD.len());
    assert_eq!(guard.begin(Some(3)), Ok(()));
    assert_eq!(guard.begin(Some(3)), apart, "no second head was heard");

    for (length, expected) in [(Some(3), Ok(())), (Some(2), apart), (Some(0), apart), (None, apart)]
    {
        let mut guard = Guard::default();
        guard.hear(HEAD);
        assert_eq!(guard.begin(length), expected, "{length:?}");
    }
    let mut guard = Guard::default();
    guard.hear(&HEAD[..HEAD.len() - 1]);
    assert_eq!(guard.begin(Some(3)), apart, "the head is not complete");
}

#[test]
fn a_fault_is_the_verdict_on_its_own_request_only_and_nothing_follows() {
    let bad = b"POST / HTTP/1.1\r\nHost: a\nContent-Length: 3\r\n\r\n";
    let mut guard = Guard::default();
    let all = [HEAD, b"abc", bad, b"abc", HEAD, b"abc"].concat();
    assert_eq!(guard.hear(&all), HEAD.len() + 3 + bad.len());
    assert_eq!(guard.hear(HEAD), 0);
    assert_eq!(guard.begin(Some(3)), Ok(()));
    assert_eq!(guard.begin(Some(3)), Err("a line ends without CR"));

    let mut guard = Guard::default();
    guard.hear(HEAD);
    guard.hear(b"abcPOST / HTTP/1.1\n");
    assert_eq!(guard.begin(Some(3)), Ok(()), "the next head is not its fault");
}

#[test]
fn what_is_wrong_with_a_chunk_is_not_passed_on() {
    let head = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
    let mut guard = Guard::default();
    assert_eq!(guard.hear(head), head.len());
    assert_eq!(guard.begin(None), Ok(()));
    assert_eq!(guard.hear(b"3\r\nabc\r\n3\nabc\r\n"), 8);
    assert_eq!(guard.hear(b"0\r\n\r\n"), 0);
}

/// Also where the line is longer than what is kept of it.
#[test]
fn what_frames_a_body_is_said_once_and_plainly() {
    let (digits, spaces) = ("0".repeat(60), " ".repeat(60));
    for (lines, why) in [
        ("Content-Length: 3\r\nContent-Length: 3", "more than one Content-Length"),
        ("Content-Length: x", "Content-Length is not a number"),
        (&format!("Content-Length: {digits}3"), "Content-Length is not a number"),
        (
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
            "more than one Transfer-Encoding",
        ),
        ("Transfer-Encoding: gzip", "Transfer-Encoding is not chunked"),
        (&format!("Transfer-Encoding: chunked{spaces}x"), "Transfer-Encoding is not chunked"),
        (
            "Content-Length: 3\r\nTransfer-Encoding: chunked",
            "both Content-Length and Transfer-Encoding",
        ),
    ] {
        let mut guard = Guard::default();
        guard.hear(format!("POST / HTTP/1.1\r\n{lines}\r\n\r\n").as_bytes());
        assert_eq!(guard.begin(None), Err(why), "{lines}");
    }
}

#[test]
fn a_chunked_body_ends_behind_its_trailers_whatever_is_in_it() {
    let head = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
    let inside = [b"\r\n\r\n", HEAD].concat();
    let size = format!("{:x}\r\n", inside.len());
    let end = b"\r\n0\r\nA: 1\r\nB: 2\r\n\r\n";
    let mut guard = Guard::default();
    guard.hear(&[head, size.as_bytes(), &inside, end, HEAD].concat());
    assert_eq!([guard.begin(None), guard.begin(Some(3))], [Ok(()); 2]);
    assert!(guard.begin(Some(3)).is_err(), "there were two heads");
}

#[test]
fn it_is_ahead_from_the_first_byte_of_a_head_until_there_is_a_request() {
    let mut guard = Guard::default();
    let ahead = |guard: &mut Guard, bytes: &[u8]| {
        guard.hear(bytes);
        guard.is_ahead()
    };
    assert!(!ahead(&mut guard, b""));
    let (line, rest) = HEAD.split_at(17);
    for piece in [&line[..4], &line[4..], rest] {
        assert!(ahead(&mut guard, piece));
    }
    assert_eq!(guard.begin(Some(3)), Ok(()));
    assert!(!ahead(&mut guard, b"abc"));
    assert!(ahead(&mut guard, HEAD));
}

/// Requests as senders make them, one after the other on a connection, and how long their bodies are.
fn usual() -> [(Vec<u8>, Option<u64>); 3] {
    let body = br#"{"id":"evt_1","object":"event","type":"invoice.paid"}"#;
    let head = format!(
        "POST /stripe?tenant=1 HTTP/1.1\r\nHost: hooks.example.com\r\nUser-Agent: Stripe/1.0 (+https://stripe.com/docs/webhooks)\r\n\
         Accept: */*; q=0.5, application/xml\r\nContent-Type: application/json; charset=utf-8\r\nCache-Control: no-cache\r\n\
         Stripe-Signature: t=1700000000,v1={},v1={}\r\nX-Forwarded-For: 203.0.113.7\r\nAccept-Encoding: gzip\r\n",
        "5".repeat(64),
        "c".repeat(64)
    );
    let length = body.len() as u64;
    let sized = format!("{head}Content-Length: {length}\r\n\r\n");
    let chunked = format!("{head}Transfer-Encoding: chunked\r\n\r\n{length:x}\r\n");
    let end = &b"\r\n0\r\n\r\n"[..];
    [
        ([sized.as_bytes(), body].concat(), Some(length)),
        ([chunked.as_bytes(), body, end].concat(), None),
        (format!("{head}\r\n").into_bytes(), Some(0)),
    ]
}

/// What runs for each piece that is read takes nothing from the heap: not for what is usual, straight or in pieces, nor for what
/// it refuses.
#[test]
fn requests_are_heard_without_heap_memory() {
    let requests = usual();
    let mut bad = requests[0].0.clone();
    bad.splice(..0, *b"\n");
    for size in [1, 2, 7, 64, 100, 1460, 64 * 1024] {
        let mut verdicts = [Ok(()); 4];
        let taken = allocation_counter::measure(|| {
            let mut guard = Guard::default();
            for ((request, length), verdict) in requests.iter().zip(&mut verdicts) {
                request.chunks(size).for_each(|piece| assert_eq!(guard.hear(piece), piece.len()));
                *verdict = guard.begin(*length);
            }
            for piece in bad.chunks(size) {
                guard.hear(piece);
            }
            verdicts[3] = guard.begin(requests[0].1);
        });
        let refused = Err("a line ends without CR");
        assert_eq!(verdicts, [Ok(()), Ok(()), Ok(()), refused], "{size}");
        assert_eq!(taken.count_total, 0, "{size}: {taken:?}");
    }
    // Whoever counts would have seen it.
    let taken = allocation_counter::measure(|| drop(std::hint::black_box(bad.clone())));
    assert_eq!((taken.count_total, taken.bytes_total), (1, bad.len() as u64));
}

/// Pieces of which heads are made, good ones and others.
fn fragment() -> impl Strategy<Value = &'static [u8]> {
    prop::sample::select(vec![
        &b"POST / HTTP/1.1\r\n"[..],
        b"GET /x HTTP/1.0\r\n",
        b"POST / HTTP/1.1\n",
        b"Host: a\r\n",
        b"Host: a\n",
        b"Content-Length: 3\r\n",
        b"content-length:\t 12 \r\n",
        b"Content-Length: 3",
        b"Content-Length:",
        b"Transfer-Encoding: chunked\r\n",
        b"transfer-encoding:chunked\n",
        b"X: a very long value that does not fit into what is kept of a line, however short it seems\r\n",
        b"\r\n",
        b"\n",
        b"\r",
        b" ",
        b":",
        b"abc",
        b"3\r\nabc\r\n0\r\n\r\n",
        b"3;x\r\nabc\r\n",
        b"0\r\n",
        b"5\nabc",
    ])
}

/// Where the parser below hyper ends the first head, and how long its body is by what it read, none where that is for the
/// chunks to say. None where it refuses or wants more.
fn parsed(bytes: &[u8]) -> Option<(usize, Option<u64>)> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut request = httparse::Request::new(&mut headers);
    let Ok(httparse::Status::Complete(end)) = request.parse(bytes) else { return None };
    let value = |name: &str| {
        let mut named = request.headers.iter().filter(|h| h.name.eq_ignore_ascii_case(name));
        named.next().map(|header| String::from_utf8_lossy(header.value).trim().to_owned())
    };
    let length = value("content-length").map_or(0, |text| text.parse().unwrap_or(0));
    Some((end, value("transfer-encoding").is_none().then_some(length)))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn pieces_make_no_difference(
        fragments in prop::collection::vec(fragment(), 1..20),
        cuts in prop::collection::vec(0_usize..400, 0..8),
    ) {
        let bytes = fragments.concat();
        let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        let pieces: Vec<_> = cuts.windows(2).map(|cut| &bytes[cut[0]..cut[1]]).collect();
        let singly: Vec<_> = bytes.chunks(1).collect();
        let (mut one, mut other, mut third) = (Guard::default(), Guard::default(), Guard::default());
        let passed = hear(&mut one, &[&bytes]);
        for guard in [&mut other, &mut third].into_iter().zip([&pieces, &singly]) {
            // Of a malformed line of chunks the beginning may have been passed on before its end came, but never its end.
            let further = hear(guard.0, guard.1);
            prop_assert!(further >= passed && !bytes[passed..further].contains(&b'\n'));
        }
        for length in [Some(0), Some(3), None, Some(3)] {
            let verdict = one.begin(length);
            prop_assert_eq!(other.begin(length), verdict);
            prop_assert_eq!(third.begin(length), verdict);
        }
    }

    /// A head that the parser takes ends there for the guard, too: with one byte less it has none, with all it has one, whose
    /// body is as long as the parser reads it.
    #[test]
    fn heads_end_where_the_parser_ends_them(fragments in prop::collection::vec(fragment(), 1..10)) {
        let bytes = fragments.concat();
        let Some((end, length)) = parsed(&bytes) else { return Ok(()) };
        let verdict = |bytes: &[u8]| {
            let mut guard = Guard::default();
            guard.hear(bytes);
            guard.begin(length)
        };
        let apart = Err("its end was read in two ways");
        prop_assert_eq!(verdict(&bytes[..end - 1]), apart);
        prop_assert_ne!(verdict(&bytes[..end]), apart);
    }
}
