//! `kith key`: API keys of the workspace.

use std::path::Path;

use kith::config::Config;
use kith::serve::KeyUse;
use kith_model::time::{Clock as _, SystemClock, Timestamp};
use serde_json::{Value, json};

use super::args::{HostKeyArgs, KeyCommand, RingArgs};
use super::client::{Client, encode};
use super::output::{self, AnswerFormat, field};
use super::serve::server_failure;
use super::{Failure, items, print_json, serve};

pub(crate) fn run(command: &KeyCommand, client: &Client, format: AnswerFormat) -> Result<(), Failure> {
    match command {
        KeyCommand::Create { title, scopes, role, source, expires_at } => {
            let mut body = json!({ "title": title, "scopes": scopes });
            if let Some(role) = role {
                body["role"] = json!(role);
            }
            if let Some(source) = source {
                body["source"] = json!(source.as_str());
            }
            if let Some(end) = expires_at {
                body["expires_at"] = json!(end.to_string());
            }
            let answer = client.post("/api/v1/keys", &body)?;
            if format.is_json() {
                print_json(&answer)?;
            } else {
                output::say(field(&answer, "key"))?;
                eprintln!("This is the only time the key is shown. Its id is {}.", field(&answer, "id"));
            }
        }
        KeyCommand::List => {
            let answer = client.whole("/api/v1/keys")?;
            if format.is_json() {
                print_json(&answer)?;
            } else {
                output::say(key_table(items(&answer), SystemClock.now()))?;
            }
        }
        KeyCommand::Reset { data, engine, workspace } => {
            let config = Config { engine: engine.kind(), ..Config::new(data) };
            let key = kith::serve::reset_key(&config, workspace).map_err(server_failure("making a key"))?;
            if format.is_json() {
                print_json(&json!({ "key": key, "workspace": workspace.as_str() }))?;
            } else {
                output::say(&key)?;
                eprintln!(
                    "This is the only time the key is shown. The other keys go on being good; revoke what you lost."
                );
            }
        }
        // It is made where no server runs.
        KeyCommand::Host(args) => make_host_key(args, format)?,
        KeyCommand::Rotate { place, new_master_key_file } => rotate(place, new_master_key_file.as_deref(), format)?,
        KeyCommand::Ring(args) => show_ring(args, format)?,
        KeyCommand::Revoke { id } => {
            client.delete(&format!("/api/v1/keys/{}", encode(id)))?;
            if format.is_json() {
                print_json(&json!({ "revoked": id }))?;
            } else {
                output::say(format_args!("revoked {id}; requests with it are refused from now on"))?;
            }
        }
    }
    Ok(())
}

/// Make a host key where no server runs.
fn make_host_key(args: &HostKeyArgs, format: AnswerFormat) -> Result<(), Failure> {
    // What is written is as private as what the server writes.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    let config = Config { engine: args.engine.kind(), ..Config::new(&args.data) };
    let made = kith::serve::make_host_key(&config);
    let key = made.map_err(serve::server_failure("making a host key; a server that runs must be stopped first"))?;
    if format.is_json() {
        return print_json(&json!({ "key": key }));
    }
    output::say(key)?;
    eprintln!("This is the only time the key is shown. It manages the workspaces of {}.", args.data.display());
    Ok(())
}

/// The settings of a data directory that no server runs over.
fn sealed_directory(args: &RingArgs) -> Result<Config, Failure> {
    // What is written is as private as what the server writes.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    let master_keys = args.keys.keys().map_err(Failure::Usage)?;
    Ok(Config { engine: args.place.engine.kind(), master_keys, ..Config::new(&args.place.data) })
}

/// Seal everything under a new master key.
fn rotate(args: &RingArgs, to: Option<&Path>, format: AnswerFormat) -> Result<(), Failure> {
    let rotated = kith::serve::rotate_master_key(&sealed_directory(args)?, to);
    let rotated =
        rotated.map_err(server_failure("rotating the master key; a server that runs must be stopped first"))?;
    if format.is_json() {
        let (key, records, left) = (&rotated.key, rotated.records, &rotated.left_behind);
        let retired = &rotated.retired;
        return print_json(
            &json!({ "key": key, "records": records, "left_behind": left, "retired": retired, "file": to }),
        );
    }
    output::say(format_args!("Everything secret is sealed with the master key {}.", rotated.key))?;
    output::say(format_args!("Sealed again: {}.", output::counted(rotated.records, "record")))?;
    say_unread(&rotated.left_behind)?;
    if let Some(to) = to {
        output::say(format_args!("Start the server with --master-key-file {}.", to.display()))?;
    }
    if let Some(retired) = &rotated.retired {
        output::say(format_args!(
            "The key before is kept as {}, for backups of before; delete it once there are none.",
            retired.display()
        ))?;
    }
    Ok(())
}

/// Show the ids of the master keys, and what each seals.
fn show_ring(args: &RingArgs, format: AnswerFormat) -> Result<(), Failure> {
    let used = kith::serve::master_keys_in_use(&sealed_directory(args)?);
    let used = used.map_err(server_failure("reading the key ring; a server that runs must be stopped first"))?;
    let state = |key: &KeyUse| match (key.is_current, key.is_there) {
        (true, _) => "seals",
        (false, true) => "opens",
        (false, false) => "missing",
    };
    if format.is_json() {
        let keys = used.keys.iter();
        let keys = keys.map(|key| json!({ "key": key.key, "state": state(key), "records": key.records }));
        return print_json(&json!({ "keys": keys.collect::<Vec<Value>>(), "unread": used.unread }));
    }
    let rows = used.keys.iter().map(|key| vec![key.key.clone(), state(key).to_owned(), key.records.to_string()]);
    output::say(output::table(&["master key", "state", "records"], rows.collect()))?;
    say_unread(&used.unread)
}

/// Say which records open with no key.
fn say_unread(unread: &[String]) -> Result<(), Failure> {
    if unread.is_empty() {
        return Ok(());
    }
    output::say(format_args!(
        "{} with none of the keys, and stays as it is: write it again, or give its key with --old-master-key-file.",
        if unread.len() == 1 {
            "One record opens".to_owned()
        } else {
            format!("Each of {} records opens", unread.len())
        }
    ))?;
    unread.iter().try_for_each(|record| output::say(format_args!("  {record}")))
}

fn key_table(keys: &[Value], now: Timestamp) -> String {
    let rows = keys
        .iter()
        .map(|key| {
            let scopes = key.get("scopes").and_then(Value::as_array);
            let scopes: Vec<String> = scopes.into_iter().flatten().map(output::plain).collect();
            let expires_at = field(key, "expires_at");
            let state = match expires_at.parse::<Timestamp>() {
                _ if key.get("revoked_at").is_some_and(|at| !at.is_null()) => "revoked",
                Ok(end) if end <= now => "expired",
                Ok(_) | Err(_) => "good",
            };
            vec![
                field(key, "id"),
                field(key, "title"),
                field(key, "role"),
                scopes.join(" "),
                field(key, "source"),
                field(key, "created_at"),
                expires_at,
                state.to_owned(),
            ]
        })
        .collect();
    output::table(&["id", "title", "role", "scopes", "source", "created", "expires", "state"], rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_has_ended_is_not_called_good() {
        let key = |title: &str, expires_at: Value, revoked_at: Value| {
            json!({ "id": "k", "title": title, "scopes": ["*"], "created_at": "2026-11-20T10:00:00.000Z",
                "expires_at": expires_at, "revoked_at": revoked_at })
        };
        let (before, after) = (json!("2026-11-21T09:00:00.000Z"), json!("2026-11-21T11:00:00.000Z"));
        let keys = [
            key("a", Value::Null, Value::Null),
            key("b", after, Value::Null),
            key("c", before.clone(), Value::Null),
            key("d", before.clone(), before),
        ];
        let table = key_table(&keys, "2026-11-21T10:00:00Z".parse().unwrap());
        let states: Vec<&str> = table.lines().skip(2).filter_map(|line| line.split_whitespace().last()).collect();
        assert_eq!(states, ["good", "good", "expired", "revoked"]);
    }
}
