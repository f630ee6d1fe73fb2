//! Tests of what an address and a key may take, over real connections.

use std::net::IpAddr;
use std::time::Duration;

use kith_model::budget::table;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::super::doors::Doors;
use super::super::{ServeError, check_listen};
use super::{ADMIN_KEY, Listening, listening, read_all};
use crate::api::InVain;
use crate::config::{Config, HttpLimits};
use crate::front::Proxies;

/// A request of which the body does not come, so that it stays under way.
async fn under_way(server: &Listening, headers: &str) -> TcpStream {
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let head = format!(
        "POST /api/v1/audiences HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {ADMIN_KEY}\r\nexpect: 100-continue\r\n\
         content-type: application/json\r\ncontent-length: 10\r\n{headers}\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    // The go-ahead comes once the handler reads, with all its permits taken.
    let mut go_ahead = [0_u8; 25];
    stream.read_exact(&mut go_ahead).await.unwrap();
    assert!(go_ahead.starts_with(b"HTTP/1.1 100"), "{}", String::from_utf8_lossy(&go_ahead));
    stream
}

async fn get(server: &Listening, path: &str, headers: &str) -> String {
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let head = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{headers}\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    read_all(&mut stream).await
}

async fn stop(server: Listening) {
    server.stop.send(()).unwrap();
    server.stopped.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_a_proxy_each_named_client_has_so_many_requests() {
    let server = listening(|config| {
        config.http.proxies = Some(Proxies::default());
        config.http.max_connections_per_peer = 1;
    })
    .await;
    let held = under_way(&server, "x-forwarded-for: 192.0.2.1\r\n").await;
    let same = get(&server, "/healthz", "x-forwarded-for: 9.9.9.9, 192.0.2.1\r\n").await;
    assert!(same.starts_with("HTTP/1.1 429") && same.contains("`peer-requests`"), "{same}");
    let other = get(&server, "/healthz", "x-forwarded-for: 192.0.2.2\r\n").await;
    assert!(other.starts_with("HTTP/1.1 200"), "{other}");
    drop(held);
    stop(server).await;

    let direct = listening(|config| config.http.max_connections_per_peer = 2).await;
    let held = under_way(&direct, "x-forwarded-for: 192.0.2.1\r\n").await;
    let same = get(&direct, "/healthz", "x-forwarded-for: 192.0.2.1\r\n").await;
    assert!(same.starts_with("HTTP/1.1 200"), "a header that no proxy wrote says nothing: {same}");
    drop(held);
    stop(direct).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_has_so_many_requests_under_way() {
    let server = listening(|config| config.http.max_requests_per_key = 1).await;
    let held = under_way(&server, "").await;
    let bearer = format!("authorization: Bearer {ADMIN_KEY}\r\n");
    let same = get(&server, "/api/v1/workspace", &bearer).await;
    assert!(same.starts_with("HTTP/1.1 429") && same.contains("`credential-requests`"), "{same}");
    assert!(same.to_lowercase().contains("retry-after: 1"), "{same}");
    assert!(get(&server, "/healthz", "").await.starts_with("HTTP/1.1 200"), "others go on");
    drop(held);
    // The place is free once the server has seen that the connection ended.
    while !get(&server, "/api/v1/workspace", &bearer).await.starts_with("HTTP/1.1 200") {}
    stop(server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_fails_too_often_is_told_so_and_a_valid_key_still_passes() {
    let server = listening(|config| {
        config.http.proxies = Some(Proxies::default());
        config.http.max_failed_authentications = 2;
    })
    .await;
    let ask = |client: &str, key: &str| {
        let headers = format!("x-forwarded-for: {client}\r\nauthorization: Bearer {key}\r\n");
        let server = &server;
        async move { get(server, "/api/v1/workspace", &headers).await }
    };
    for _ in 0..2 {
        let refused = ask("192.0.2.1", "wrong").await;
        assert!(refused.starts_with("HTTP/1.1 401"), "{refused}");
    }
    let slowed = ask("192.0.2.1", "wrong").await;
    assert!(slowed.starts_with("HTTP/1.1 429") && slowed.contains("`failed-authentications`"), "{slowed}");
    assert!(ask("192.0.2.1", ADMIN_KEY).await.starts_with("HTTP/1.1 200"));
    assert!(ask("192.0.2.2", "wrong").await.starts_with("HTTP/1.1 401"));
    let figures = get(&server, "/metrics", &format!("authorization: Bearer {ADMIN_KEY}\r\n")).await;
    assert!(figures.contains("\nkith_failed_authentications_total "), "counted, without a label: {figures}");
    stop(server).await;
}

#[test]
fn nothing_but_this_machine_is_listened_on_in_clear_text() {
    let mut config = Config::new("unused");
    for (address, is_open) in [
        ("127.0.0.1:0", true),
        ("127.8.8.8:0", true),
        ("[::1]:0", true),
        ("[::ffff:127.0.0.1]:0", true),
        ("0.0.0.0:0", false),
        ("[::]:0", false),
        ("10.0.0.1:0", false),
    ] {
        let checked = check_listen(&config, address.parse().unwrap());
        assert_eq!(checked.is_ok(), is_open, "{address}");
        if let Err(refused) = checked {
            assert!(matches!(refused, ServeError::ClearText(_)));
            let text = refused.to_string();
            assert!(text.contains("--tls-certificate") && text.contains("--behind-proxy"), "{text}");
        }
    }
    config.http.proxies = Some(Proxies::default());
    assert!(check_listen(&config, "0.0.0.0:0".parse().unwrap()).is_ok());
}

/// Four addresses with a thousand silent connections each left no place to anybody.
#[test]
fn a_few_addresses_cannot_take_every_connection() {
    let limits = HttpLimits { max_connections: 256, max_connections_per_peer: 64, ..HttpLimits::default() };
    let doors = Doors::new(&limits, u64::MAX);
    let address = |number: u8| IpAddr::from([192, 0, 2, number]);
    let greedy: Vec<_> = (0..4)
        .flat_map(|number| (0..64).map(move |_| address(number)))
        .filter_map(|from| doors.let_in(from).ok())
        .collect();
    // Three quarters, and the few that each of the last may hold.
    assert!((192..=192 + 4 * 4).contains(&greedy.len()), "{}", greedy.len());
    let others: Vec<_> = (10..42).map(|number| doors.let_in(address(number)).unwrap()).collect();
    assert_eq!(doors.let_in(address(3)).err().unwrap().budget.name, "connections");
    drop(others);
    drop(greedy);
    assert!(doors.let_in(address(0)).is_ok());
}

#[test]
fn connections_leave_the_process_files_for_everything_else() {
    let limits = HttpLimits { max_connections: 4_096, ..HttpLimits::default() };
    let let_in = |files: u64| {
        let doors = Doors::new(&limits, files);
        let many = (0..5_000_u32).map_while(|number| doors.let_in(IpAddr::from(number.to_be_bytes())).ok());
        many.collect::<Vec<_>>().len()
    };
    assert_eq!([let_in(1_024), let_in(8_192), let_in(u64::MAX)], [512, 4_096, 4_096]);
}

#[test]
fn some_wait_to_be_sent_away_and_the_others_go_at_once() {
    let limits = HttpLimits { max_connections: 256, ..HttpLimits::default() };
    let doors = Doors::new(&limits, u64::MAX);
    let refusals = InVain::new(&table::PROMPT_REFUSALS, 2);
    let often = IpAddr::from([192, 0, 2, 1]);
    assert!(doors.waiting_place(&refusals, often).is_none(), "the first of an address goes at once");
    let waiting: Vec<_> = (0..1_000).filter_map(|_| doors.waiting_place(&refusals, often)).collect();
    assert_eq!(waiting.len(), 64);
    drop(waiting);
    assert!(doors.waiting_place(&refusals, IpAddr::from([192, 0, 2, 2])).is_none(), "another address is not meant");
    assert!(doors.waiting_place(&refusals, often).is_some());
}

/// Four thousand idle connections that had no place came again as soon as they were closed, some thousands a second.
#[tokio::test(flavor = "multi_thread")]
async fn who_is_sent_away_often_waits_for_it() {
    let server = listening(|config| config.http.max_connections = 1).await;
    let held = under_way(&server, "").await;
    let mut many = 0;
    let mut waiting = loop {
        let mut sent_away = TcpStream::connect(server.address).await.unwrap();
        // The end of one that goes at once is there in milliseconds; one that waits is kept for a second at least.
        let ended = tokio::time::timeout(Duration::from_millis(500), sent_away.read(&mut [0])).await;
        if ended.is_err() {
            break sent_away;
        }
        many += 1;
        assert!(many < 2_000, "all of them go at once");
    };
    assert_eq!(read_all(&mut waiting).await, "", "it goes in the end");
    drop(held);
    stop(server).await;
}
