//! `kith delivery`: what was sent, what failed for good, and trying that again.

use serde_json::{Value, json};

use kith_model::id::Name;

use super::args::{DeliveryCommand, DeliveryListArgs, Person, WhichLetters};
use super::client::{Client, encode};
use super::output::{self, AnswerFormat, cut, field};
use super::{Failure, letters, print_json};

pub(crate) fn run(command: &DeliveryCommand, client: &Client, format: AnswerFormat) -> Result<(), Failure> {
    match command {
        DeliveryCommand::List(args) => {
            let (deliveries, next) = list(client, args)?;
            if format.is_json() {
                print_json(&json!({ "items": deliveries, "next": next }))?;
            } else {
                let more = next.map(|next| format!("\n\nthere are more: add --cursor {next}")).unwrap_or_default();
                output::say(delivery_table(&deliveries) + &more)?;
            }
        }
        DeliveryCommand::DeadLetters { limit } => {
            letters::list(client, &WhichLetters::default(), None, *limit, format)?
        }
        DeliveryCommand::Replay { id } => {
            letters::replay_one(client, id, &format!("/api/v1/dead-letters/{}/replay", encode(id)), format)?;
        }
    }
    Ok(())
}

fn list(client: &Client, args: &DeliveryListArgs) -> Result<(Vec<Value>, Option<String>), Failure> {
    let person = args.person.as_ref().map(|person| match person {
        Person::Identifier(identifier) => identifier.to_string(),
        Person::Profile(id) => id.to_string(),
    });
    let given = [
        ("audience", args.audience.as_ref().map(Name::as_str)),
        ("channel", args.channel.as_ref().map(Name::as_str)),
        ("state", args.state.as_deref()),
        ("person", person.as_deref()),
        ("cursor", args.cursor.as_deref()),
    ];
    let parameters: Vec<(&str, &str)> = given.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
    Ok(client.list_from("/api/v1/deliveries", &parameters, args.limit)?)
}

fn delivery_table(deliveries: &[Value]) -> String {
    let rows = deliveries
        .iter()
        .map(|delivery| {
            let why = ["reason", "last_reason", "provider_id"].map(|name| field(delivery, name)).concat();
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
                cut(&why, 60),
            ]
        })
        .collect();
    let columns = ["id", "made at", "state", "attempts", "channel", "audience", "action", "profile", "note"];
    output::table(&columns, rows)
}
