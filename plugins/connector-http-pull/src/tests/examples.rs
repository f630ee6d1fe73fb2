//! The examples of the README. That the manifest's schema admits them is checked beside the reader of manifests.

use super::*;

/// The JSON documents of the README.
fn examples() -> Vec<Value> {
    let readme = include_str!("../../README.md");
    let blocks = readme.split("```json\n").skip(1).filter_map(|rest| rest.split("```").next());
    blocks.map(|block| serde_json::from_str(block).unwrap()).collect()
}

#[test]
fn the_examples_of_the_readme_have_no_problem_and_ask_for_their_first_page() {
    let examples = examples();
    assert_eq!(examples.len(), 2);
    for example in &examples {
        assert_eq!(validate::validate(&example.to_string()), Ok(()), "{example}");
    }
    let (_, request) = ask(&examples[0], None, Ok(Response::new(503)));
    let asked = "https://api.shop.example/admin/v2/orders.json?order=updated_at%20asc&status=any&limit=250";
    assert_eq!(request.url(), asked);
    let (_, request) = ask(&examples[1], None, Ok(Response::new(503)));
    assert_eq!((request.method(), request.url()), ("POST", "https://crm.example/api/v3/contacts/search"));
    let body: Value = serde_json::from_slice(request.body_bytes()).unwrap();
    assert_eq!(body, json!({ "sort": ["lastModified"], "fields": ["*"], "limit": 100 }));
}

#[test]
fn the_examples_read_what_such_apis_answer() {
    let examples = examples();
    let orders = text(
        r#"{"orders":[{"id":820982911946154508,"financial_status":"paid","total_price":"199.00","currency":"EUR","email":"a@b.c",
            "updated_at":"2026-11-03T11:00:00+01:00","line_items":[{"sku":"x"}],"customer":{"id":115310627314723954,"first_name":"Ada"}}]}"#,
    );
    let page = page(&examples[0], orders);
    let [order] = &page.events[..] else { panic!("{page:?}") };
    assert_eq!((order.name.as_str(), order.time), ("Order Completed", Some(1_793_700_000_000)));
    assert_eq!(order.message_id.as_deref(), Some("orders/820982911946154508@2026-11-03T11:00:00+01:00"));
    assert_eq!(
        order.identifiers,
        [Identifier::new("email", "a@b.c"), Identifier::new("user_id", "115310627314723954")]
    );

    let contacts = text(
        r#"{"results":[{"id":"7","emails":["a@b.c"],"lastModified":1793700000000,"owner":"x","name":"Ada"}],
            "paging":{"next":{"after":"NTI1"}}}"#,
    );
    let (page, _) = ask(&examples[1], None, Ok(contacts));
    let page = page.unwrap();
    let [contact] = &page.events[..] else { panic!("{page:?}") };
    assert_eq!(contact.traits, r#"{"id":"7","emails":["a@b.c"],"lastModified":1793700000000,"name":"Ada"}"#);
    let (page, request) = ask(&examples[1], Some(&page.cursor), Ok(text(r#"{"results":[]}"#)));
    let body: Value = serde_json::from_slice(request.body_bytes()).unwrap();
    assert_eq!(body["after"], json!("NTI1"));
    let page = page.unwrap();
    assert!(page.more, "the calls are still to come");
    let (_, request) = ask(&examples[1], Some(&page.cursor), Ok(text(r#"{"data":[]}"#)));
    assert_eq!(request.url(), "https://crm.example/api/v3/calls?include=contact&include=outcome&page=1&per_page=50");
}
