//! `kith delivery`: what was sent, what failed for good, and trying that again.

use serde_json::{Value, json};

use super::args::DeliveryCommand;
use super::client::{Client, encode};
use super::output::{self, cut, field};
use super::{Failure, items, print_json};

pub(crate) fn run(command: &DeliveryCommand, client: &Client, json: bool) -> Result<(), Failure> {
    match command {
        DeliveryCommand::List { limit } => {
            let answer = json!({ "items": client.list("/api/v1/deliveries", *limit)? });
            if json {
                print_json(&answer)?;
            } else {
                output::say(delivery_table(items(&answer)))?;
            }
        }
        DeliveryCommand::DeadLetters { limit } => {
            let answer = json!({ "items": client.list("/api/v1/dead-letters", *limit)? });
            if json {
                print_json(&answer)?;
            } else {
                output::say(dead_letter_table(items(&answer)))?;
            }
        }
        DeliveryCommand::Replay { id } => {
            let answer = client.post(&format!("/api/v1/dead-letters/{}/replay", encode(id)), &json!({}))?;
            if json {
                print_json(&answer)?;
            } else {
                output::say(format_args!("{id} is in the outbox again"))?;
            }
        }
    }
    Ok(())
}

fn delivery_table(deliveries: &[Value]) -> String {
    let rows = deliveries
        .iter()
        .map(|delivery| {
            let why = ["reason", "last_reason", "provider_id"].map(|name| field(delivery, name)).concat();
            vec![
                field(delivery, "id"),
                field(delivery, "state"),
                field(delivery, "attempts"),
                field(delivery, "channel"),
                field(delivery, "audience"),
                field(delivery, "profile"),
                cut(&why, 60),
            ]
        })
        .collect();
    output::table(&["id", "state", "attempts", "channel", "audience", "profile", "note"], rows)
}

fn dead_letter_table(letters: &[Value]) -> String {
    let rows = letters
        .iter()
        .map(|letter| {
            let why = ["message", "reason"].map(|name| field(letter, name)).concat();
            let of = ["source", "installation", "channel"].map(|name| field(letter, name)).concat();
            vec![field(letter, "id"), field(letter, "type"), of, field(letter, "code"), cut(&why, 80)]
        })
        .collect();
    output::table(&["id", "type", "of", "code", "reason"], rows)
}
