//! What a model sees of people: the inputs that its manifest declares.

use kith_tests::{TestKernel, component, repacked};
use serde_json::{Value, json};

/// The hostile tag model with one input more, of records with these fields.
fn with_records(fields: &str) -> Vec<u8> {
    repacked(component("hostile/tag-model"), |manifest| {
        let expression =
            "events('Order Completed').map(e, {'time': e.time, 'amount': e.total, 'category': e.properties.category})";
        let input = format!(
            "[inputs.orders]\nexpression = \"{expression}\"\ntype = \"records\"\nfields = {{ {fields} }}\nreason = \"to repeat\"\n"
        );
        manifest.replacen("[outputs.hostile]", &format!("{input}\n[outputs.hostile]"), 1)
    })
}

/// One that is misspelt, of another type, or of a contract that has no records is refused with both; those that are right come as
/// they are, in the order of time, whatever the order in which the events came.
#[test]
fn records_come_whole_and_are_refused_where_they_are_not_what_their_expression_gives() {
    let kernel = TestKernel::start();
    let (admin, source) = (kernel.admin(), kernel.segment());
    let upload = |component: Vec<u8>| admin.send("POST", "/api/v1/plugins", &[], component);
    let fields = |amount: &str| format!("time = \"timestamp\", {amount} = \"float64\", category = \"text\"");
    for (refused, said) in [
        (
            with_records(&fields("amuont")),
            "the field `amuont` of `orders` is declared float64, and its expression gives none",
        ),
        (
            with_records("time = \"boolean\", amount = \"float64\", category = \"text\""),
            "the field `time` of `orders` is declared boolean, and its expression gives a time; write time = \\\"timestamp\\\"",
        ),
    ] {
        let problem = upload(refused).is_problem(400, "bad-component").to_string();
        assert!(problem.contains(said), "{problem}");
    }
    let audience = json!({ "name": "x", "condition": "events('A').map(e, {'time': e.time})" });
    let problem = admin.post("/api/v1/audiences", &audience).is_some_problem();
    assert!(problem.to_string().contains("it is never true or false"), "{problem}");

    upload(with_records(&fields("amount"))).is(201);
    let body = json!({ "plugin": "hostile/tag-model", "name": "model", "config": { "how": "records" } });
    admin.post("/api/v1/installations", &body).is(201);
    let order = |number: usize, day: usize, properties: Value| {
        json!({ "type": "track", "event": "Order Completed", "userId": "ada", "messageId": format!("o{number}"),
            "timestamp": format!("2026-11-{day}T09:00:00Z"), "properties": properties })
    };
    source
        .batch(&[order(1, 18, json!({ "total": 20, "category": "figs" })), order(2, 19, json!({ "category": "tea" }))]);
    source.batch(&[order(3, 17, json!({ "total": "30.00" }))]);
    source.batch(&[json!({ "type": "identify", "userId": "bea", "messageId": "b", "traits": { "city": "Rome" } })]);
    kernel.settle();
    let said = |person: &str| kernel.profile(person)["tags"]["hostile"]["value"].clone();
    let day = 20_774;
    let expected = format!(
        "3: Some({day}) Some(30.0) None;Some({}) Some(20.0) Some(\"figs\");Some({}) None Some(\"tea\");",
        day + 1,
        day + 2
    );
    assert_eq!((said("user_id:ada"), said("user_id:bea")), (json!(expected), json!("0: ")));
}
