//! `kith delivery`: what was sent, what failed for good, and trying that again.

use kith_model::id::Name;
use serde_json::Value;

use super::args::{DeliveryCommand, DeliveryListArgs, Person, WhichLetters};
use super::client::Client;
use super::output::{self, AnswerFormat, cut, field};
use super::{Failure, letters};

pub(crate) fn run(command: &DeliveryCommand, client: &Client, format: AnswerFormat) -> Result<(), Failure> {
    match command {
        DeliveryCommand::List(args) => {
            output::say_list(&list(client, args)?, format, delivery_table)?;
        }
        DeliveryCommand::DeadLetters(part) => letters::list(client, &WhichLetters::default(), part, format)?,
        DeliveryCommand::Replay { id } => letters::replay_one(client, id, None, format)?,
    }
    Ok(())
}

fn list(client: &Client, args: &DeliveryListArgs) -> Result<Value, Failure> {
    let person = args.person.as_ref().map(|person| match person {
        Person::Identifier(identifier) => identifier.to_string(),
        Person::Profile(id) => id.to_string(),
    });
    let given = [
        ("audience", args.audience.as_ref().map(Name::as_str)),
        ("channel", args.channel.as_ref().map(Name::as_str)),
        ("state", args.state.as_deref()),
        ("person", person.as_deref()),
    ];
    let parameters: Vec<(&str, &str)> = given.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
    Ok(client.part("/api/v1/deliveries", &parameters, &args.part)?)
}

fn delivery_table(deliveries: &[Value]) -> String {
    let rows = deliveries
        .iter()
        .map(|delivery| {
            // What a message waits for comes before what its last attempt came to.
            let notes = ["waits", "reason", "last_reason", "provider_id"].map(|name| field(delivery, name));
            let why = notes.into_iter().find(|note| !note.is_empty()).unwrap_or_default();
            let mut audience = field(delivery, "audience");
            if delivery.get("audience_removed") == Some(&Value::Bool(true)) {
                audience.push_str(" (removed)");
            }
            vec![
                field(delivery, "id"),
                field(delivery, "created_at"),
                field(delivery, "state"),
                field(delivery, "attempts"),
                field(delivery, "channel"),
                audience,
                field(delivery, "action"),
                field(delivery, "profile"),
                cut(&why, 160),
            ]
        })
        .collect();
    let columns = ["id", "made at", "state", "attempts", "channel", "audience", "action", "profile", "note"];
    output::table(&columns, rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of a message that waits for its channel the table says so, and not what an attempt before came to.
    #[test]
    fn what_a_message_waits_for_is_its_note() {
        let enable = "its channel was stopped; once the cause is mended, `kith plugin enable webhook` lets it go";
        let waiting = serde_json::json!({ "id": "msg_1", "state": "pending", "waits": enable, "last_reason": "503" });
        let tried = serde_json::json!({ "id": "msg_2", "state": "pending", "last_reason": "answered 503" });
        let table = delivery_table(&[waiting, tried]);
        assert!(table.contains("`kith plugin enable webhook`") && table.contains("answered 503"), "{table}");
    }
}
