//! Sending for a channel: what is kept, what is bounded, and what decides.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use kith_model::plugin::{Grants, LimitRequest};
use kith_model::sending::{InboundResponse, OutboundRequest, SendFailure, Transport};

use crate::guests::{binding, channel, host, host_with, runtime};
use crate::peers::{Answer, Peer, answer};
use crate::{Binding, Limits};

/// The transport of a channel that is granted a peer, and where to send.
struct Sender {
    transport: Arc<dyn Transport>,
    url: String,
}

fn sender(peer: &Peer) -> Sender {
    let grants = Grants { http: vec![peer.place()], ..Grants::default() };
    let plugin = host().load(&channel("")).unwrap();
    let channel = plugin.pure_channel(Binding { grants, ..binding() }).unwrap();
    Sender { transport: channel.transport(), url: format!("http://{}/in", peer.place()) }
}

impl Sender {
    fn post(&self) -> OutboundRequest {
        OutboundRequest {
            method: "POST".into(),
            url: self.url.clone(),
            body: b"hello".to_vec(),
            timeout_ms: Some(10_000),
            ..OutboundRequest::default()
        }
    }

    fn send(&self) -> Result<InboundResponse, SendFailure> {
        runtime().block_on(self.transport.send(self.post()))
    }
}

/// It could send as fast as its peers answered.
#[test]
fn an_installation_sends_so_many_requests_in_a_minute() {
    let peer = Peer::new(|_| Answer::Write(answer(200, "")));
    let limits = LimitRequest { requests_per_minute: Some(2), ..LimitRequest::default() };
    let grants = Grants { http: vec![peer.place()], limits, ..Grants::default() };
    let plugin = host().load(&channel("")).unwrap();
    let channel = plugin.pure_channel(Binding { grants, ..binding() }).unwrap();
    let sender = |url: String| Sender { transport: channel.transport(), url };
    let denied = sender("https://other.example/".to_owned()).send();
    assert!(matches!(denied, Err(SendFailure::Denied(_))), "it does not leave, and counts for nothing: {denied:?}");
    let sender = sender(format!("http://{}/in", peer.place()));
    assert!(sender.send().is_ok() && sender.send().is_ok());
    let refused = sender.send();
    assert!(
        matches!(&refused, Err(SendFailure::Busy(why)) if why.contains("`plugin-requests`: 2 items in 60 s; try again in 30 s")),
        "{refused:?}"
    );
    assert_eq!(peer.requests().len(), 2);
}

/// Wait until `holds`, or fail.
fn wait_until(what: &str, holds: impl Fn() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < Duration::from_secs(20), "{what}");
        std::thread::yield_now();
    }
}

#[test]
fn a_mail_whose_exchange_broke_off_before_it_was_whole_can_be_sent_again() {
    let broken = async { assert!(std::hint::black_box(false), "to test") };
    let error = runtime().block_on(async { tokio::spawn(broken).await }).unwrap_err();
    let lost = |is_whole: bool| super::lost_mail(&error, &AtomicBool::new(is_whole));
    assert_eq!(lost(false), SendFailure::Connection("the exchange broke off".into()));
    assert_eq!(lost(true), SendFailure::Unknown("the exchange broke off".into()));
}

#[test]
fn a_connection_is_kept_and_used_again() {
    let peer = Peer::new(|_| Answer::Write(answer(200, "fine")));
    let sender = sender(&peer);
    for _ in 0..5 {
        let response = sender.send().unwrap();
        assert_eq!((response.status, response.body.as_slice(), response.truncated), (200, &b"fine"[..], false));
    }
    assert_eq!(peer.requests().len(), 5);
    // A connection is kept a moment after its answer is handed over, so that the next request may not find it yet.
    assert!(peer.connections() <= 2, "{} connections", peer.connections());
    assert_eq!(sender.transport.target(&sender.post()), Ok(peer.place()));
}

#[test]
fn a_kept_connection_that_was_closed_is_not_used() {
    let peer = Peer::new(|_| Answer::WriteAndClose(answer(200, "bye")));
    let sender = sender(&peer);
    for sent in 1..=5 {
        // The end of the last connection may not have come to us yet; what is then written to it arrives nowhere.
        wait_until("it is answered", || sender.send().is_ok_and(|response| response.status == 200));
        wait_until("the other side closed", || peer.closed() == sent);
    }
    assert_eq!(peer.requests().len(), 5, "each arrived once");
}

/// The receiver has the message once it says so; were its body's fate to decide, it would get the message again.
#[test]
fn a_status_decides_whatever_becomes_of_the_body() {
    let head = |length: usize| format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n").into_bytes();
    let long = [head(1_000_000), vec![b'x'; 1_000_000]].concat();
    for (what, behaviour, kept) in [
        ("breaks", Answer::WriteAndClose([head(100), b"par".to_vec()].concat()), 3),
        ("is slow", Answer::WriteAndHang([head(100), b"part".to_vec()].concat()), 4),
        ("is long", Answer::WriteAndClose(long), 64 * 1024),
        (
            "is broken chunks",
            Answer::WriteAndClose(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz".to_vec()),
            0,
        ),
    ] {
        let peer = Peer::new(move |_| behaviour.clone());
        let sender = sender(&peer);
        let began = Instant::now();
        let response = sender.send().unwrap();
        assert_eq!((response.status, response.body.len(), response.truncated), (200, kept, true), "{what}");
        assert!(began.elapsed() < Duration::from_secs(8), "{what}");
        wait_until("the connection with an unread body is closed", || peer.closed() == 1);
    }
}

/// An application that writes each of its cookies, a proxy that writes a whole policy: the receiver has the message, and who gives it up as
/// `status unknown` has it sent by hand a second time.
#[test]
fn a_status_decides_whatever_becomes_of_the_rest_of_the_head() {
    let answer_with = |status: &str, headers: &str| format!("HTTP/1.1 {status}\r\n{headers}content-length: 0\r\n\r\n");
    let many = |count: usize, bytes: usize| {
        (0..count).map(|number| format!("x-{number}: {}\r\n", "y".repeat(bytes))).collect::<String>()
    };
    for (count, bytes) in [
        (0, 0),
        (1, 1_000),
        (99, 10),
        (100, 10),
        (101, 10),
        (101, 1_000),
        (200, 1_000),
        (1_000, 1),
        (1, 100_000),
        (9, 9_000),
    ] {
        for (status, code) in [("200 OK", 200), ("503 Busy", 503), ("404 Not Found", 404), ("410 Gone", 410)] {
            let whole = answer_with(status, &format!("retry-after: 7\r\n{}", many(count, bytes)));
            let peer = Peer::new(move |_| Answer::Write(whole.clone().into_bytes()));
            let response = sender(&peer).send().unwrap_or_else(|failure| panic!("{count} of {bytes}: {failure}"));
            assert_eq!(response.status, code, "{count} of {bytes}");
            assert!(response.headers.contains(&("retry-after".into(), "7".into())), "{count} of {bytes}");
            let size: usize = response.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
            assert!(response.headers.len() <= 100 + 2 && size <= 64 << 10, "{count} of {bytes}");
            assert_eq!(peer.requests().len(), 1);
        }
    }
    for (what, heard) in [
        ("is malformed", "HTTP/1.1 200 OK\r\nb ad header\r\n\r\n"),
        ("has two lengths", "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n"),
        ("breaks", "HTTP/1.1 200 OK\r\nx: "),
    ] {
        let peer = Peer::new(move |_| Answer::WriteAndClose(heard.as_bytes().to_vec()));
        assert_eq!(sender(&peer).send().map(|response| response.status), Ok(200), "a head that {what}");
    }
    let peer = Peer::new(|_| Answer::WriteAndHang(b"HTTP/1.1 200 OK\r\nx: ".to_vec()));
    let sender = sender(&peer);
    let hanging = OutboundRequest { timeout_ms: Some(300), ..sender.post() };
    assert_eq!(runtime().block_on(sender.transport.send(hanging)).map(|response| response.status), Ok(200));
}

/// Where no status came there is none to go by.
#[test]
fn half_a_status_is_no_answer() {
    for heard in ["", "HTTP/1.1 20", "HTTP/1.1 200 OK", "SSH-2.0-OpenSSH_9.2\r\n", "HTTP/1.1 100 Continue\r\n\r\n"] {
        let peer = Peer::new(move |_| Answer::WriteAndClose(heard.as_bytes().to_vec()));
        let failure = sender(&peer).send().unwrap_err();
        assert!(matches!(&failure, SendFailure::Connection(_)), "{heard:?}: {failure}");
    }
}

#[test]
fn a_time_out_is_the_message_s_own() {
    let peer = Peer::new(|request| {
        if request.contains("slow") { Answer::WriteAndHang(Vec::new()) } else { Answer::Write(answer(200, "")) }
    });
    let sender = sender(&peer);
    let slow = OutboundRequest { body: b"slow".to_vec(), timeout_ms: Some(200), ..sender.post() };
    runtime().block_on(async {
        let slow = sender.transport.send(slow);
        let quick = sender.transport.send(sender.post());
        let (slow, quick) = tokio::join!(slow, quick);
        assert_eq!(slow, Err(SendFailure::Timeout("no answer within 200 ms".into())));
        assert_eq!(quick.unwrap().status, 200);
    });
    wait_until("the connection without an answer is closed", || peer.closed() == 1);
}

#[test]
fn a_request_that_nobody_waits_for_ends() {
    let peer = Peer::new(|_| Answer::WriteAndHang(Vec::new()));
    let sender = sender(&peer);
    let sending = sender.transport.send(sender.post());
    wait_until("it arrives", || peer.requests().len() == 1);
    drop(sending);
    wait_until("its connection is closed", || peer.closed() == 1);
}

/// A peer could keep a thread of ours busy with answers that are none, and our memory with heads that do not end.
#[test]
fn what_comes_before_a_body_is_bounded() {
    for flood in ["HTTP/1.1 103 Early Hints\r\n\r\n", "HTTP/1.1 103 Early Hints\r\nlink: </a.css>\r\n\r\n"] {
        let peer = Peer::new(|_| Answer::Flood(flood.as_bytes().to_vec()));
        let failure = sender(&peer).send().unwrap_err();
        assert!(matches!(&failure, SendFailure::TooLarge(_)), "{failure}");
        wait_until("the connection is closed", || peer.closed() == 1);
    }
    let some = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n".to_vec();
    let peer = Peer::new(move |_| Answer::Write(some.clone()));
    assert_eq!(sender(&peer).send().unwrap().status, 204);
}

#[test]
fn no_connection_outlives_its_use_by_long() {
    let peer = Peer::new(|_| Answer::Write(answer(200, "fine")));
    let sender = sender(&peer);
    assert_eq!(sender.send().unwrap().status, 200);
    wait_until("the kept connection is closed", || peer.closed() == peer.connections());
}

/// The table of what an address may be is `address.rs`'s; here is that the host's settings and the grant come to it.
#[test]
fn a_private_address_is_reached_where_the_host_allows_it_and_the_grant_names_it() {
    let ceiling = |ranges: &[&str]| Limits {
        networks: ranges.iter().map(|range| range.parse().unwrap()).collect(),
        ..Limits::default()
    };
    // A port that nobody listens on, so that what is let out fails at once or after its 100 ms.
    for (host, ranges, granted, is_let_out) in [
        ("10.255.255.1", &[][..], &["10.0.0.0/8"][..], false),
        ("10.255.255.1", &["10.0.0.0/8"], &[], true),
        ("10.255.255.1", &["192.168.0.0/16"], &["10.0.0.0/8"], false),
        ("[::ffff:10.255.255.1]", &["10.0.0.0/8"], &["10.0.0.0/8"], true),
        ("169.254.169.254", &["10.0.0.0/8"], &["0.0.0.0/0"], false),
        ("[fd12::1]", &["fd12::/32"], &[], true),
        ("[fd00:ec2::254]", &["fd00::/8"], &["fd00::/8"], false),
    ] {
        let networks = granted.iter().map(|range| (*range).to_owned()).collect();
        let grants = Grants { http: vec![format!("{host}:81")], networks, ..Grants::default() };
        let plugin = host_with(None, ceiling(ranges)).load(&channel("")).unwrap();
        let transport = plugin.pure_channel(Binding { grants, ..binding() }).unwrap().transport();
        let url = format!("https://{host}:81/in");
        let request =
            OutboundRequest { method: "POST".into(), url, timeout_ms: Some(100), ..OutboundRequest::default() };
        let failure = runtime().block_on(transport.send(request)).unwrap_err();
        let is_denied = matches!(&failure, SendFailure::Denied(_));
        assert_eq!(!is_denied, is_let_out, "{host} with {ranges:?} and {granted:?}: {failure:?}");
    }
}

#[test]
fn what_may_not_leave_is_denied_and_has_no_target() {
    let peer = Peer::new(|_| Answer::Write(answer(200, "")));
    let sender = sender(&peer);
    for request in [
        OutboundRequest { url: "https://example.com/".into(), ..sender.post() },
        OutboundRequest { url: "http://127.0.0.1:1/".into(), ..sender.post() },
        OutboundRequest { method: "GET".into(), ..sender.post() },
        OutboundRequest { url: "file:///etc/passwd".into(), ..sender.post() },
    ] {
        assert!(matches!(sender.transport.target(&request), Err(SendFailure::Denied(_))), "{request:?}");
        let sent = runtime().block_on(sender.transport.send(request));
        assert!(matches!(&sent, Err(SendFailure::Denied(_))), "{sent:?}");
    }
    let headers = vec![("content-length".to_owned(), "1".to_owned())];
    let smuggled = runtime().block_on(sender.transport.send(OutboundRequest { headers, ..sender.post() }));
    assert!(matches!(&smuggled, Err(SendFailure::Denied(_))), "{smuggled:?}");
    assert_eq!(peer.connections(), 0);
}
