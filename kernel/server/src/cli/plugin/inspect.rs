//! `kith plugin inspect`: what is in a WebAssembly file, whether a server would take it and why not. Nothing is run.

use std::path::Path;

use kith_host::{Anatomy, AnatomyPart, parse_manifest};
use kith_model::plugin::Manifest;
use serde_json::{Value, json};

use super::local;
use crate::cli::args::{SizeArgs, Tools};
use crate::cli::output::{self, AnswerFormat};
use crate::cli::{Failure, print_json};

/// What is told of a file.
struct Report {
    found: Anatomy,
    /// Where there is one that can be read.
    manifest: Option<Manifest>,
    /// Why a server would refuse it.
    refusal: Option<String>,
}

pub(super) fn run(path: &Path, size: SizeArgs, tools: &Tools, format: AnswerFormat) -> Result<(), Failure> {
    let bytes = local::component(path, tools, format)?;
    let found = kith_host::anatomy(&bytes);
    let report = Report {
        manifest: found.manifest_toml.as_deref().and_then(|text| parse_manifest(text).ok()),
        refusal: kith::declared::inspect(&bytes, size.plugin_bytes).err().map(|error| error.to_string()),
        found,
    };
    if format.is_json() { print_json(&document(&report, path)) } else { output::say(text(&report, path).trim_end()) }
}

fn document(report: &Report, path: &Path) -> Value {
    let Report { found, manifest, refusal } = report;
    let manifest = manifest.as_ref();
    json!({
        "path": path.display().to_string(),
        "id": manifest.map(|manifest| manifest.id.to_string()),
        "version": manifest.map(|manifest| manifest.version.to_string()),
        "kind": manifest.map(|manifest| manifest.kind.as_str()),
        "abi": found.abi,
        "digest": found.digest,
        "size_bytes": found.size,
        "admitted": refusal.is_none(),
        "refusal": refusal,
        "broken": found.broken,
        "imports": found.imports,
        "exports": found.exports,
        "inputs": manifest.map(|manifest| &manifest.inputs),
        "training": manifest.map(|manifest| &manifest.training),
        "capabilities": manifest.map(|manifest| &manifest.capabilities),
        "limits": manifest.map(|manifest| &manifest.limits),
        "parts": found.parts.iter().map(part_document).collect::<Vec<_>>(),
    })
}

fn part_document(part: &AnatomyPart) -> Value {
    let sections = part.sections.iter();
    let customs = part.custom_sections.iter();
    let memories = part.memories.iter();
    json!({
        "part": part_name(part),
        "form": form(part),
        "size_bytes": part.size,
        "functions": part.functions,
        "memories": memories
            .map(|memory| json!({ "initial_pages": memory.initial, "maximum_pages": memory.maximum }))
            .collect::<Vec<_>>(),
        "imports": part.imports,
        "exports": part.exports,
        "sections": sections
            .map(|section| json!({ "kind": section.kind, "count": section.count, "bytes": section.bytes }))
            .collect::<Vec<_>>(),
        "custom_sections": customs.map(|(name, bytes)| json!({ "name": name, "bytes": bytes })).collect::<Vec<_>>(),
    })
}

fn form(part: &AnatomyPart) -> &'static str {
    if part.is_module { "module" } else { "component" }
}

fn part_name(part: &AnatomyPart) -> &str {
    part.name.as_deref().unwrap_or("the whole file")
}

fn text(report: &Report, path: &Path) -> String {
    let found = &report.found;
    let mut tables = vec![output::table(&["what", "value"], summary(report))];
    if let Some(manifest) = &report.manifest {
        let asks = asks(manifest);
        let nothing = || "It asks for nothing beyond computing, and sees nothing of a person.".to_owned();
        tables.push(if asks.is_empty() { nothing() } else { output::table(&["asks for", "which", "reason"], asks) });
    }
    if !found.parts.is_empty() {
        tables.push(output::table(
            &["part", "form", "size", "functions", "memory", "imports", "exports"],
            found.parts.iter().map(part_row).collect(),
        ));
        tables.push(output::table(&["section", "of", "count", "size"], sections(&found.parts)));
    }
    let customs = customs(&found.parts);
    if !customs.is_empty() {
        tables.push(output::table(&["custom section", "of", "size"], customs));
    }
    tables.push(match &report.refusal {
        None => format!("A server would take it: kith plugin upload {}", path.display()),
        Some(refusal) => format!("A server would refuse it: {}", output::visible(refusal)),
    });
    tables.join("\n\n")
}

fn summary(report: &Report) -> Vec<Vec<String>> {
    let Report { found, manifest, .. } = report;
    let listed = |list: &[String]| if list.is_empty() { "nothing".to_owned() } else { list.join("\n") };
    let mut rows = Vec::new();
    if let Some(manifest) = manifest {
        rows.push(("plugin", format!("{} {}", manifest.id, manifest.version)));
        rows.push(("kind", manifest.kind.to_string()));
        rows.push(("title", manifest.title.clone()));
    }
    let unread = if found.manifest_toml.is_some() { "there, with mistakes" } else { "none" };
    rows.extend(manifest.is_none().then(|| ("manifest", unread.to_owned())));
    rows.extend(found.abi.clone().map(|abi| ("abi", abi)));
    rows.push(("size", output::size(found.size as u64)));
    rows.push(("sha-256", found.digest.clone()));
    rows.push(("imports", listed(&found.imports)));
    rows.push(("exports", listed(&found.exports)));
    rows.extend(found.broken.clone().map(|broken| ("broken", broken)));
    rows.into_iter().map(|(what, value)| vec![what.to_owned(), value]).collect()
}

/// What the manifest asks for, each with the reason that it gives.
fn asks(manifest: &Manifest) -> Vec<Vec<String>> {
    let row = |what: &str, which: String, reason: &str| vec![what.to_owned(), which, reason.to_owned()];
    let capabilities = &manifest.capabilities;
    let inputs = manifest
        .inputs
        .iter()
        .map(|input| row("input", format!("{}: {}", input.name, input.expression), &input.reason));
    let hosts = capabilities
        .http
        .iter()
        .map(|request| row("http", format!("{} {}", request.methods.join(", "), request.host), &request.reason));
    let relays = capabilities.mail.iter().map(|request| row("mail", request.host.clone(), &request.reason));
    let secrets = capabilities.secrets.iter().map(|request| {
        let used = match request.hosts.join(", ") {
            none if none.is_empty() => "to check signatures with".to_owned(),
            hosts => format!("for {hosts}"),
        };
        row("secret", format!("{} {used}", request.name), &request.reason)
    });
    let recipients =
        capabilities.recipients.iter().map(|request| row("recipient", request.kind.clone(), &request.reason));
    let purposes = capabilities.purposes.as_ref().map(|names| row("purposes", names.join(", "), ""));
    let state =
        (capabilities.kv_bytes > 0).then(|| row("state", output::size(capabilities.kv_bytes), &capabilities.kv_reason));
    let emits = (!capabilities.emits.is_empty()).then(|| row("events", capabilities.emits.join(", "), ""));
    let label = manifest.training.iter().map(|training| row("label", training.label.clone(), ""));
    inputs
        .chain(label)
        .chain(hosts)
        .chain(relays)
        .chain(secrets)
        .chain(recipients)
        .chain(purposes)
        .chain(state)
        .chain(emits)
        .collect()
}

fn part_row(part: &AnatomyPart) -> Vec<String> {
    let pages = part.memories.iter().map(|memory| match memory.maximum {
        Some(maximum) => format!("{} to {}", pages(memory.initial), pages(maximum)),
        None => format!("{} and more", pages(memory.initial)),
    });
    let memory = pages.collect::<Vec<_>>().join(", ");
    let functions = if part.is_module { output::count(part.functions) } else { String::new() };
    vec![
        part_name(part).to_owned(),
        form(part).to_owned(),
        output::size(part.size as u64),
        functions,
        memory,
        output::count(part.imports),
        output::count(part.exports),
    ]
}

/// Pages of a memory as a size.
fn pages(pages: u64) -> String {
    output::size(pages.saturating_mul(64 << 10))
}

fn sections(parts: &[AnatomyPart]) -> Vec<Vec<String>> {
    let rows = parts.iter().flat_map(|part| {
        part.sections.iter().map(|section| {
            let (count, size) = (output::count(section.count), output::size(section.bytes as u64));
            vec![section.kind.to_owned(), part_name(part).to_owned(), count, size]
        })
    });
    rows.collect()
}

fn customs(parts: &[AnatomyPart]) -> Vec<Vec<String>> {
    let rows = parts.iter().flat_map(|part| {
        part.custom_sections
            .iter()
            .map(|(name, bytes)| vec![name.clone(), part_name(part).to_owned(), output::size(*bytes as u64)])
    });
    rows.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_that_is_sent_nowhere_says_what_it_is_for() {
        let text = include_str!("../../../../../plugins/channel-webhook/plugin.toml");
        let asked = asks(&parse_manifest(text).unwrap());
        let secrets: Vec<&str> = asked.iter().filter(|row| row[0] == "secret").map(|row| row[1].as_str()).collect();
        assert_eq!(secrets, ["signing for *", "receipts to check signatures with"]);
    }
}
