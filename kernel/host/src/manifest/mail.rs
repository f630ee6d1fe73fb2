//! Responsible for `[[capabilities.mail]]`: the relays that a channel wants to hand mail to.

use std::ops::Range;

use kith_model::plugin::{MailRequest, PluginKind};
use toml::de::DeTable;

use super::keys;
use super::reader::Section;
use super::sections::check_host;

/// The relays that are asked for. `root` is the manifest, which has to say that a repeat is not safe.
pub(super) fn read(root: &Section<'_, '_>, capabilities: &Section<'_, '_>) -> Vec<MailRequest> {
    let mut hosts: Vec<String> = Vec::new();
    let read = |(start, table): (usize, &DeTable<'_>)| {
        let section = Section::open(capabilities.notes, table, "[[capabilities.mail]]", start, &keys::MAIL);
        let host = section.required_text("host", "a relay, e.g. \"smtp.example.com:587\"");
        if let (Some(host), Some(value)) = (host, table.get("host")) {
            check_relay(&section, host, &value.span());
            if hosts.iter().any(|before| before == host) {
                section.wrong("host", format!("the relay `{host}` is asked for twice; remove one"));
            }
            hosts.push(host.to_owned());
        }
        let reason = section.required_text("reason", "why the plugin needs it; the admin reads this");
        Some(MailRequest { host: host?.to_owned(), reason: reason?.to_owned() })
    };
    let tables = capabilities.repeated_tables("mail");
    let asks = !tables.is_empty();
    let requests = tables.into_iter().filter_map(read).collect();
    if asks && !is_repeat_unsafe(root) {
        let message = "a relay takes a mail that comes again for another one; write `idempotent = false` in [plugin]";
        capabilities.wrong("mail", message);
    }
    requests
}

/// Whether [plugin] says `idempotent = false`, or is of a kind that may not ask for mail anyway.
fn is_repeat_unsafe(root: &Section<'_, '_>) -> bool {
    let Some(plugin) = root.table.get("plugin").and_then(|plugin| plugin.get_ref().as_table()) else { return true };
    let is_channel = plugin.get("kind").and_then(|kind| kind.get_ref().as_str()) == Some(PluginKind::Channel.as_str());
    !is_channel || plugin.get("idempotent").and_then(|truth| truth.get_ref().as_bool()) == Some(false)
}

/// Note a text that names no relay: a host as HTTP's, with a port or without one.
fn check_relay(section: &Section<'_, '_>, relay: &str, place: &Range<usize>) {
    let Some((host, port)) = relay.split_once(':') else { return check_host(section, relay, place) };
    if !port.parse::<u16>().is_ok_and(|number| number > 0 && number.to_string() == port) {
        let message = format!("`{relay}` is not a relay; write `smtp.example.com:587`, with a port from 1 to 65535");
        section.notes.add(place, message);
    }
    check_host(section, host, place);
}
