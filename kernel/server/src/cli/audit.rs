//! `kith audit`: the audit log as a table, as a file, and the check that it is whole.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, BufWriter, Write};

use kith::audit::{AuditEntry, BrokenChain, ChainCheck, ChainStart};
use kith_model::objects;
use serde_json::{Value, json};

use super::args::{AuditCommand, AuditFilterArgs, AuditLogArgs};
use super::client::{ApiError, Client};
use super::output::{self, AnswerFormat, cut, field};
use super::{Failure, print_json};

/// Records that are asked for at once.
const PAGE: u64 = 500;

pub(crate) fn run(command: &AuditCommand, client: &Client, format: AnswerFormat) -> Result<(), Failure> {
    match command {
        AuditCommand::List { log, filter, part } => {
            let parameters = parameters(filter);
            let parameters: Vec<(&str, &str)> =
                parameters.iter().map(|(name, value)| (*name, value.as_str())).collect();
            output::say_list(&client.part(route(log), &parameters, part)?, format, table)
        }
        AuditCommand::Export { log, filter, out: None } => {
            let mut output = BufWriter::new(io::stdout().lock());
            if format.is_json() {
                let mut document = output::ItemsDocument::begin(&mut output).map_err(output::unwritten)?;
                export(client, log, filter, &mut document)?;
                document.end().map_err(output::unwritten)?;
            } else {
                export(client, log, filter, &mut output)?;
            }
            output.flush().map_err(output::unwritten)
        }
        AuditCommand::Export { log, filter, out: Some(path) } => {
            let failed = |source| Failure::File { what: "write", path: path.clone(), source };
            let mut file = BufWriter::new(File::create(path).map_err(failed)?);
            let records = export(client, log, filter, &mut file)?;
            file.flush().map_err(failed)?;
            if format.is_json() {
                return print_json(&json!({ "out": path.display().to_string(), "records": records }));
            }
            output::say(format_args!("{} in {}", output::counted(records, "record"), path.display()))
        }
        AuditCommand::Verify { log, file } => {
            let check = match file {
                None => verify(client, log)?,
                Some(path) => {
                    let failed = |source| Failure::File { what: "read", path: path.clone(), source };
                    let file = BufReader::new(File::open(path).map_err(failed)?);
                    verify_lines(file.lines().map(|line| line.map_err(failed)))?
                }
            };
            let head = check.head();
            if format.is_json() {
                let (number, hash) = head.unzip();
                return print_json(&json!({
                    "whole": true, "first": check.first, "last": number, "hash": hash, "unchained": check.unchained,
                }));
            }
            output::say(verdict(&check))
        }
    }
}

fn verdict(check: &ChainCheck) -> String {
    let older = match check.unchained {
        0 => String::new(),
        count => format!("; {count} records of before there was a chain cannot be checked"),
    };
    match (check.first, check.head()) {
        (Some(first), Some((last, hash))) => {
            format!(
                "records {first} to {last} are whole{older}\nkeep this hash to see later whether the end was cut off: {hash}"
            )
        }
        _ => format!("there are no records to check{older}"),
    }
}

fn parameters(filter: &AuditFilterArgs) -> Vec<(&'static str, String)> {
    let given = [
        ("actor", filter.actor.clone()),
        ("action", filter.action.clone()),
        ("target", filter.target.clone()),
        ("from", filter.from.map(|time| time.to_string())),
        ("to", filter.to.map(|time| time.to_string())),
    ];
    given.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
}

fn list(
    client: &Client,
    log: &AuditLogArgs,
    filter: &AuditFilterArgs,
    cursor: Option<&str>,
    limit: u64,
) -> Result<(Vec<Value>, Option<String>), ApiError> {
    let parameters = parameters(filter);
    let mut parameters: Vec<(&str, &str)> = parameters.iter().map(|(name, value)| (*name, value.as_str())).collect();
    parameters.extend(cursor.map(|cursor| ("cursor", cursor)));
    client.list_from(route(log), &parameters, limit)
}

fn route(log: &AuditLogArgs) -> &'static str {
    if log.host { "/api/v1/host/audit" } else { "/api/v1/audit" }
}

/// Take the records page by page, so that a long log needs no more memory than a short one.
fn each_page(
    client: &Client,
    log: &AuditLogArgs,
    filter: &AuditFilterArgs,
    mut take: impl FnMut(Vec<Value>) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut cursor: Option<String> = None;
    loop {
        let (items, next) = list(client, log, filter, cursor.as_deref(), PAGE)?;
        take(items)?;
        cursor = next;
        if cursor.is_none() {
            return Ok(());
        }
    }
}

/// Write the records, a line each; how many there were.
fn export(client: &Client, log: &AuditLogArgs, filter: &AuditFilterArgs, mut out: impl Write) -> Result<u64, Failure> {
    let mut count = 0;
    each_page(client, log, filter, |items| {
        count += items.len() as u64;
        items.iter().try_for_each(|item| writeln!(out, "{item}")).map_err(output::unwritten)
    })?;
    Ok(count)
}

fn verify(client: &Client, log: &AuditLogArgs) -> Result<ChainCheck, Failure> {
    let everything = AuditFilterArgs { actor: None, action: None, target: None, from: None, to: None };
    let mut check = ChainCheck::new(ChainStart::First);
    each_page(client, log, &everything, |items| {
        for item in items {
            let entry: AuditEntry = serde_json::from_value(item)
                .map_err(|error| Failure::Failed(format!("the server's answer is no audit log: {error}")))?;
            check.next(&entry).map_err(|broken| Failure::Failed(broken.to_string()))?;
        }
        Ok(())
    })?;
    Ok(check)
}

/// Check the lines of an export, which may begin anywhere.
fn verify_lines(lines: impl Iterator<Item = Result<String, Failure>>) -> Result<ChainCheck, Failure> {
    let mut check = ChainCheck::new(ChainStart::Anywhere);
    for (index, line) in lines.enumerate() {
        let line = line?;
        let place = index + 1;
        let entry: AuditEntry = objects::from_json(&line).map_err(|error| {
            let behind = check.head().map(|(number, _)| format!(", behind record {number},")).unwrap_or_default();
            Failure::Failed(format!("line {place}{behind} is no record: {error}"))
        })?;
        check.next(&entry).map_err(|broken| {
            let hint = match broken {
                BrokenChain::Missing { .. } => {
                    "; an export with a filter has gaps, and only a whole one can be checked"
                }
                _ => "",
            };
            Failure::Failed(format!("line {place}: {broken}{hint}"))
        })?;
    }
    if check.head().is_none() && check.unchained == 0 {
        return Err(Failure::Failed("the file holds no records, and an empty export says nothing".into()));
    }
    Ok(check)
}

fn table(items: &[Value]) -> String {
    let rows = items.iter().map(|item| {
        let actor = match field(item, "actor_title") {
            title if title.is_empty() => field(item, "actor"),
            title => format!("{} ({title})", field(item, "actor")),
        };
        vec![
            field(item, "number"),
            field(item, "at"),
            cut(&actor, 40),
            field(item, "action"),
            cut(&field(item, "target"), 60),
            field(item, "request_id"),
        ]
    });
    output::table(&["number", "at", "actor", "action", "target", "request"], rows.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn export_of(length: u64) -> Vec<String> {
        let mut previous = kith::audit::BEGINNING.to_owned();
        let lines = (1..=length).map(|number| {
            let mut entry: AuditEntry = serde_json::from_value(json!({
                "number": number, "at": "2026-11-21T10:00:00.000Z", "actor": "k", "action": "key.create",
                "target": "x", "request_id": "r", "before": null, "after": { "title": "t" },
            }))
            .unwrap();
            entry.previous.clone_from(&previous);
            entry.hash = entry.expected_hash();
            previous.clone_from(&entry.hash);
            serde_json::to_string(&entry).unwrap()
        });
        lines.collect()
    }

    fn verified(lines: &[String]) -> Result<ChainCheck, Failure> {
        verify_lines(lines.iter().cloned().map(Ok))
    }

    #[test]
    fn an_export_is_verified_and_the_first_wrong_record_is_named() {
        let lines = export_of(4);
        let check = verified(&lines).unwrap();
        assert!(verdict(&check).starts_with("records 1 to 4 are whole\n"), "{}", verdict(&check));
        assert!(verdict(&verified(&lines[2..]).unwrap()).starts_with("records 3 to 4 are whole"));
        let mut changed = lines.clone();
        changed[2] = changed[2].replacen("\"t\"", "\"u\"", 1);
        let said = verified(&changed).unwrap_err().to_string();
        assert!(said.starts_with("line 3: record 3 (key.create of x"), "{said}");
        let mut cut = lines.clone();
        cut[1].pop();
        let said = verified(&cut).unwrap_err().to_string();
        assert!(said.starts_with("line 2, behind record 1, is no record"), "{said}");
        let list = "[1,\"2026-11-21T10:00:00.000Z\",\"k\",\"\",\"key.create\",\"x\",\"r\"]".to_owned();
        assert!(verified(&[list]).unwrap_err().to_string().contains("expected struct"));
        assert!(verified(&[]).unwrap_err().to_string().contains("no records"));
        let filtered = [lines[0].clone(), lines[2].clone()];
        assert!(verified(&filtered).unwrap_err().to_string().contains("with a filter"));
    }
}
