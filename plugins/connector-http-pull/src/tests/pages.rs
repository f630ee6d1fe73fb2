//! How one page leads to the next, and one run to the next.

use super::*;

#[test]
fn a_list_without_pages_is_one_page() {
    let (asked, ids, _) =
        run(&config(&json!({ "query": { "tag": ["a", "b c"], "open": true } })), None, vec![answer(&orders([1, 2]))]);
    assert_eq!(asked, ["/orders?open=true&tag=a&tag=b%20c"]);
    assert!(ids[0].starts_with("orders/1@") && ids[1].starts_with("orders/2@"), "{ids:?}");
}

#[test]
fn links_are_followed_from_the_header_and_from_the_answer() {
    let header = config(&json!({ "paging": { "style": "link", "size": 2 } }));
    let first = answer(&orders([1, 2])).with_header("link", r#"<https://shop.example/v1/orders?after=2>; rel="next""#);
    let second = answer(&orders([3, 4])).with_header("link", r#"</v1/orders?after=4>; rel="next""#);
    let third = answer(&orders([5])).with_header("link", r#"</v1/orders?after=0>; rel="first""#);
    let (asked, ids, _) = run(&header, None, vec![first, second, third]);
    assert_eq!(asked, ["/orders?limit=2", "/orders?after=2", "/orders?after=4"]);
    assert_eq!(ids.len(), 5);

    let body = config(&json!({ "paging": { "style": "link", "next": "@odata.nextLink" } }));
    let mut first = orders([1]);
    first["@odata.nextLink"] = json!("https://SHOP.example:443/v1/orders?skip=1");
    let (first, _) = ask(&body, None, Ok(answer(&first)));
    let (last, request) = ask(&body, Some(&first.unwrap().cursor), Ok(answer(&orders([2]))));
    assert_eq!(request.url(), "https://SHOP.example:443/v1/orders?skip=1");
    assert!(!last.unwrap().more);
}

#[test]
fn a_link_to_another_host_is_refused_with_its_words() {
    let config = config(&json!({ "paging": { "style": "link" } }));
    for target in [
        "https://evil.example/v1?key=hidden",
        "//evil.example",
        "http://shop.example/v1",
        "https://shop.example:8443/",
        "https://u:hidden@shop.example/",
    ] {
        let response = answer(&orders([1])).with_header("link", format!("<{target}>; rel=next"));
        let failure = failure(&config, response);
        assert!(
            matches!(&failure, PollFailure::Permanent(why) if why.contains("link to the next page")),
            "{target}: {failure}"
        );
        assert!(!words(&failure).contains("hidden"), "{target}: {failure}");
    }
}

#[test]
fn cursors_come_from_the_answer_or_from_the_last_record() {
    let next = config(&json!({ "paging": { "style": "cursor", "next": "meta.next", "size": 2 } }));
    let with = |ids: [u64; 2], next: Value| {
        let mut body = orders(ids);
        body["meta"] = json!({ "next": next });
        answer(&body)
    };
    for end in [json!(null), json!(""), json!(false)] {
        let pages = vec![with([1, 2], json!("a b")), with([3, 4], json!(77)), with([5, 6], end)];
        let (asked, _, _) = run(&next, None, pages);
        assert_eq!(asked, ["/orders?limit=2", "/orders?cursor=a%20b&limit=2", "/orders?cursor=77&limit=2"]);
    }
    let odd = failure(&next, with([1, 2], json!({ "page": 2 })));
    assert!(words(&odd).contains("neither text nor number"), "{odd}");

    let last =
        json!({ "paging": { "style": "cursor", "last": "id", "parameter": "starting_after", "has_more": "has_more" } });
    let with = |ids: [u64; 2], has_more: bool| {
        let mut body = orders(ids);
        body["has_more"] = json!(has_more);
        answer(&body)
    };
    let (asked, _, _) = run(&config(&last), None, vec![with([1, 2], true), with([3, 4], false)]);
    assert_eq!(asked, ["/orders", "/orders?starting_after=2"]);
}

#[test]
fn pages_and_offsets_are_counted_to_the_end() {
    let pages = config(&json!({ "paging": { "style": "page", "size": 5, "size_parameter": "per_page" } }));
    // The API gives two where five are asked for, so that a page of two is a full one.
    let full = vec![answer(&orders([1, 2])), answer(&orders([3, 4])), answer(&orders([5]))];
    let (asked, ids, _) = run(&pages, None, full);
    assert_eq!(asked, ["/orders?page=1&per_page=5", "/orders?page=2&per_page=5", "/orders?page=3&per_page=5"]);
    assert_eq!(ids.len(), 5);
    for behind in [answer(&orders([])), Response::new(404), Response::new(204)] {
        let (asked, _, _) = run(&pages, None, vec![answer(&orders([1, 2])), behind]);
        assert_eq!(asked.len(), 2);
    }
    let (asked, _, _) = run(&pages, None, vec![answer(&json!({ "items": null }))]);
    assert_eq!(asked.len(), 1);

    let offset = config(&json!({ "paging": { "style": "offset", "parameter": "skip" } }));
    let (asked, _, _) = run(&offset, None, vec![answer(&orders([1, 2])), answer(&orders([3, 4])), answer(&orders([]))]);
    assert_eq!(asked, ["/orders?skip=0", "/orders?skip=2", "/orders?skip=4"]);
    let (asked, _, _) = run(&offset, None, vec![answer(&orders([1, 2])), Response::new(404)]);
    assert_eq!(asked, ["/orders?skip=0", "/orders?skip=2"]);
    let zero = config(&json!({ "paging": { "style": "page", "first": 0 } }));
    let (asked, _, _) = run(&zero, None, vec![answer(&orders([1])), answer(&orders([]))]);
    assert_eq!(asked, ["/orders?page=0", "/orders?page=1"]);
}

#[test]
fn a_page_that_says_that_another_follows_is_not_the_last_however_short_it_is() {
    let with = |ids: &[u64], has_more: bool| {
        let mut body = orders(ids.iter().copied());
        body["has_more"] = json!(has_more);
        answer(&body)
    };
    let answers = || vec![with(&[1, 2], true), with(&[3], true), with(&[], true), with(&[4, 5], false)];
    let pages = config(&json!({ "paging": { "style": "page", "has_more": "has_more" } }));
    let (asked, ids, _) = run(&pages, None, answers());
    assert_eq!(asked, ["/orders?page=1", "/orders?page=2", "/orders?page=3", "/orders?page=4"]);
    assert_eq!(ids.len(), 5);
    let offset = config(&json!({ "paging": { "style": "offset", "has_more": "has_more" } }));
    let (asked, ids, _) = run(&offset, None, answers());
    assert_eq!(asked, ["/orders?offset=0", "/orders?offset=2", "/orders?offset=3", "/orders?offset=5"]);
    assert_eq!(ids.len(), 5);
    for config in [&pages, &offset] {
        let (first, _) = ask(config, None, Ok(with(&[1, 2], true)));
        let (second, _) = ask(config, Some(&first.unwrap().cursor), Ok(Response::new(404)));
        assert!(matches!(second, Err(PollFailure::Later { reason, .. }) if reason.contains("404")), "it said more");
    }
}

#[test]
fn an_api_that_says_without_end_that_more_follows_is_believed_for_a_hundred_empty_pages() {
    let with = |ids: &[u64]| {
        let mut body = orders(ids.iter().copied());
        body["has_more"] = json!(true);
        answer(&body)
    };
    for style in ["page", "offset"] {
        let config = config(&json!({ "paging": { "style": style, "has_more": "has_more" } }));
        let mut cursor = None;
        let mut asked = |ids: &[u64]| {
            let (page, _) = ask(&config, cursor.as_deref(), Ok(with(ids)));
            page.map(|page| cursor = Some(page.cursor))
        };
        assert_eq!((asked(&[1, 2]), (0..99).all(|_| asked(&[]).is_ok())), (Ok(()), true), "{style}");
        assert_eq!((asked(&[3]), (0..99).all(|_| asked(&[]).is_ok())), (Ok(()), true), "a record ends the row");
        for _ in 0..2 {
            let last = asked(&[]);
            assert!(
                matches!(&last, Err(PollFailure::Permanent(reason)) if reason.contains("the last 100 pages had no records")),
                "{last:?}"
            );
        }
        assert_eq!(asked(&[4]), Ok(()), "it goes on where it was once there is something");
    }
}

#[test]
fn an_api_that_goes_round_in_circles_is_a_fault() {
    let link = config(&json!({ "paging": { "style": "link" } }));
    let to_two = |ids: [u64; 1]| answer(&orders(ids)).with_header("link", "</v1/orders?key=hidden>; rel=next");
    let (first, _) = ask(&link, None, Ok(to_two([1])));
    let (second, _) = ask(&link, Some(&first.unwrap().cursor), Ok(to_two([2])));
    let second = second.unwrap_err();
    assert!(words(&second).contains("`orders`") && words(&second).contains("round in circles"), "{second}");
    assert!(words(&second).ends_with("https://shop.example/v1/orders"), "{second}");

    // The parameter has another name, so that each page is the first one.
    let page = config(&json!({ "paging": { "style": "page", "parameter": "p" } }));
    let (first, _) = ask(&page, None, Ok(answer(&orders([1, 2]))));
    let (second, _) = ask(&page, Some(&first.unwrap().cursor), Ok(answer(&orders([1, 2]))));
    assert!(words(&second.unwrap_err()).contains("does not know the parameter"));
}

#[test]
fn a_next_page_that_has_expired_begins_the_run_again_while_it_comes_further() {
    let config = config(&json!({ "paging": { "style": "cursor", "next": "next" } }));
    let to = |id: u64, next: &str| -> Result<Response, Error> {
        let mut body = orders([id]);
        body["next"] = json!(next);
        Ok(answer(&body))
    };
    let gone = || -> Result<Response, Error> { Ok(Response::new(410)) };
    let mut cursor: Option<Vec<u8>> = None;
    // One page, then two of them before the next has expired, then two again.
    for (asked, result) in [
        ("", to(1, "a")),
        ("?cursor=a", gone()),
        ("", to(1, "b")),
        ("?cursor=b", to(2, "c")),
        ("?cursor=c", gone()),
        ("", to(1, "d")),
        ("?cursor=d", to(2, "e")),
    ] {
        let is_gone = result.as_ref().is_ok_and(|response| response.status == 410);
        let (page, request) = ask(&config, cursor.as_deref(), result);
        assert_eq!(request.url(), format!("https://shop.example/v1/orders{asked}"));
        let page = page.unwrap();
        assert!(page.more && page.events.is_empty() == is_gone, "{asked}");
        cursor = Some(page.cursor);
    }
    let (page, _) = ask(&config, cursor.as_deref(), gone());
    let failure = page.unwrap_err();
    assert!(
        matches!(&failure, PollFailure::Permanent(why) if why.contains("expired") && why.contains("--from-start")),
        "{failure}"
    );
}

#[test]
fn a_post_takes_its_parameters_in_the_body() {
    let config = config(&json!({
        "method": "POST", "parameters": "body", "body": { "sort": ["id"], "limit": 1 }, "query": { "v": 2 },
        "paging": { "style": "offset", "size": 50 }, "since": { "parameter": "from", "field": "at", "start": "2020-01-01" },
    }));
    let (_, request) = ask(&config, None, Ok(answer(&orders([]))));
    assert_eq!((request.method(), request.url()), ("POST", "https://shop.example/v1/orders?v=2"));
    let body: Value = serde_json::from_slice(request.body_bytes()).unwrap();
    assert_eq!(body, json!({ "sort": ["id"], "limit": 50, "offset": 0, "from": "2020-01-01" }));
}

#[test]
fn headers_hold_the_secret_and_the_resource_s_own_take_the_place_of_all_requests() {
    let mut config = config(&json!({ "headers": { "X-Version": "2" } }));
    config["headers"] = json!({ "Authorization": "Bearer {token}", "x-version": "1" });
    let (_, request) = ask(&config, None, Ok(answer(&orders([]))));
    let headers: Vec<_> = request.headers().iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let expected = [("Authorization", "Bearer {{secret:token}}"), ("X-Version", "2"), ("accept", "application/json")];
    assert_eq!(headers, expected);
    // Without the secret nothing is asked.
    let (page, record) = testing::Host::new().config(&config).poll::<HttpPull>(None);
    assert!(matches!(page, Err(PollFailure::Permanent(why)) if why.contains("secret `token` is not set")));
    assert!(record.requests.is_empty());
}

#[test]
fn the_next_run_asks_for_what_changed_and_repeats_are_the_same_events() {
    let config = config(&json!({
        "paging": { "style": "page", "size": 2 }, "since": { "parameter": "since", "field": "at", "overlap": 30 },
    }));
    let order = |id: u64, at: &str| json!({ "id": id, "customer": "c", "at": at });
    let list = |items: Vec<Value>| answer(&json!({ "items": items }));
    // The clock goes back between the two, and one record is from the future.
    let first = list(vec![order(1, "2026-11-03T10:00:00Z"), order(2, "2026-11-03T09:00:00Z")]);
    let second = list(vec![order(3, "2026-11-03T09:30:00Z")]);
    let (asked, ids, cursor) = run(&config, None, vec![first, second]);
    assert_eq!(asked, ["/orders?limit=2&page=1", "/orders?limit=2&page=2"]);
    assert_eq!(ids[0], "orders/1@2026-11-03T10:00:00Z");
    assert!(cursor.len() < 1_024, "{}", cursor.len());

    let again = list(vec![order(1, "2026-11-03T10:00:00Z"), order(2, "2030-01-01T00:00:00Z")]);
    let (asked, repeated, cursor) = run(&config, Some(cursor), vec![again, list(vec![])]);
    assert_eq!(asked[0], "/orders?limit=2&page=1&since=2026-11-03T09%3A59%3A30Z");
    assert_eq!(asked[1], "/orders?limit=2&page=2&since=2026-11-03T09%3A59%3A30Z");
    assert_eq!(repeated, ["orders/1@2026-11-03T10:00:00Z", "orders/2@2030-01-01T00:00:00Z"]);
    let (asked, _, cursor) = run(&config, Some(cursor), vec![list(vec![])]);
    assert_eq!(asked, ["/orders?limit=2&page=1&since=2027-01-15T07%3A59%3A30Z"], "the future counts as now");
    // Nothing new: the mark stays.
    let (asked, _, _) = run(&config, Some(cursor), vec![list(vec![])]);
    assert_eq!(asked, ["/orders?limit=2&page=1&since=2027-01-15T07%3A59%3A30Z"]);
}

#[test]
fn what_is_asked_for_otherwise_begins_anew_and_several_are_read_in_turn() {
    let mut config = config(&json!({ "since": { "parameter": "after", "field": "id", "type": "number" } }));
    let mut second = config["resources"][0].clone();
    second["name"] = json!("returns");
    second["path"] = json!("/returns");
    config["resources"].as_array_mut().unwrap().push(second);
    let (asked, ids, cursor) = run(&config, None, vec![answer(&orders([7])), answer(&orders([9]))]);
    assert_eq!(asked, ["/orders", "/returns"]);
    assert_eq!(ids, ["orders/7@7", "returns/9@9"]);
    config["resources"][0]["query"] = json!({ "status": "any" });
    // Another mapping is no reason to read again.
    config["resources"][1]["properties"] = json!([]);
    let (asked, _, _) = run(&config, Some(cursor), vec![answer(&orders([])), answer(&orders([]))]);
    assert_eq!(asked, ["/orders?status=any", "/returns?after=9"]);
}
