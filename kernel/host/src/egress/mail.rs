//! Responsible for mail that channels want to have sent: through which relay it may go and to whom, and what it looks like on the
//! wire. The exchange with the relay is `smtp.rs`.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, SystemTime};

use kith_model::budget::table;
use kith_model::secret::Secret;
use kith_model::sending::{MailSecurity, Mailbox, OutboundMail};
use lettre::message::header::{ContentType, HeaderName, HeaderValue};
use lettre::message::{Mailbox as NamedAddress, Message, MultiPart, SinglePart};
use lettre::{Address, address::AddressError};

use super::request::Target;
use super::smtp::MailExchange;
use crate::policy::HostPort;
use crate::state::InstallationContext;

/// The longest exchange with a relay, connecting included. Relays look at a mail before they take it.
const MAX_WAIT: Duration = Duration::from_secs(60);

/// Further headers of a mail.
const MAX_HEADERS: usize = 32;
/// The value of one: a line of a mail has at most 998 bytes.
const MAX_HEADER_BYTES: usize = 900;
/// A subject, a name, a user.
const MAX_LINE_BYTES: usize = 900;

/// Headers that a plugin may set. All others are the host's, or name people, or are commands: relays take copies, templates and
/// switches from headers of their own that begin with `X-`.
const SAFE_HEADERS: [&str; 7] = [
    "list-unsubscribe",
    "list-unsubscribe-post",
    "list-id",
    "auto-submitted",
    "precedence",
    "feedback-id",
    "x-entity-ref-id",
];

/// Where a mail goes, if it may go there and to whom it wants.
///
/// # Errors
/// Why it may not leave.
pub(super) fn check(installed: &InstallationContext, mail: &OutboundMail) -> Result<Target, String> {
    let relay: HostPort = mail.relay.parse().map_err(|_| "the relay is not a `host:port`".to_owned())?;
    let Some(port) = relay.port else { return Err("the relay names no port; write `host:port`".into()) };
    if !installed.policy.mail.contains(&relay) {
        return Err(format!(
            "mail through `{relay}` is not granted; the manifest must ask for it and an admin allow it"
        ));
    }
    if mail.security == MailSecurity::Plain && !installed.gate.permits.plain_http {
        return Err(
            "the server does not allow mail without TLS (whoever runs it starts `kith serve` with --allow-plain-http)"
                .into(),
        );
    }
    if !mail.may_go_to.contains(&mail.to) {
        return Err(
            "the mail goes to somebody else than its message: `to` has to be one of the recipient's identifiers \
                    that the channel was given"
                .into(),
        );
    }
    let most = table::MAIL_SIZE.default;
    if mail.bytes() as u64 > most {
        table::MAIL_SIZE.count();
        return Err(format!("a mail has at most {most} bytes"));
    }
    Ok(Target { https: false, host: relay.host, port, default_port: false, path_and_query: "/".to_owned() })
}

/// Hold a mail against the policy, and write it as it goes over the wire.
///
/// # Errors
/// Why it may not leave, without the value of any secret.
pub(super) fn admit(installed: &InstallationContext, mail: OutboundMail) -> Result<MailExchange, String> {
    let target = check(installed, &mail)?;
    let login = match &mail.login {
        Some(login) => {
            line("the user", &login.user)?;
            let password = installed.secrets.value_for(&login.secret, &target.host, target.port)?;
            Some((login.user.clone(), Secret::from(password)))
        }
        None => None,
    };
    let now = Duration::from_millis(u64::try_from(installed.clock.now().0).unwrap_or(0));
    let asked = mail.timeout_ms.map_or(MAX_WAIT, |ms| Duration::from_millis(ms.into()));
    let gate = &installed.gate;
    Ok(MailExchange {
        reach: gate.reach(&installed.policy, gate.permits.loopback, &target),
        target,
        look_ups: gate.look_ups.clone(),
        security: mail.security,
        login,
        sender: address("the sender's address", &mail.sender.address)?,
        to: address("the recipient's address", &mail.to)?,
        message: write(mail, SystemTime::UNIX_EPOCH + now)?,
        wait: asked.min(MAX_WAIT),
        is_whole: Arc::new(AtomicBool::new(false)),
    })
}

/// A mail as it goes over the wire: ASCII, with the line ends of mail.
fn write(mail: OutboundMail, now: SystemTime) -> Result<Vec<u8>, String> {
    line("the subject", &mail.subject)?;
    let sender = named("the sender", &mail.sender)?;
    let id = format!("<{}@{}>", mail.message_id, sender.email.domain());
    let mut builder = Message::builder()
        .from(sender)
        .to(NamedAddress::new(None, address("the recipient's address", &mail.to)?))
        .subject(mail.subject)
        .date(now)
        .message_id(Some(id));
    if let Some(reply_to) = &mail.reply_to {
        builder = builder.reply_to(named("the reply's address", reply_to)?);
    }
    for header in headers(&mail.headers)? {
        builder = builder.raw_header(header);
    }
    let plain = mail.text.map(|text| part(ContentType::TEXT_PLAIN, &text));
    let html = mail.html.map(|html| part(ContentType::TEXT_HTML, &html));
    let message = match (plain, html) {
        (Some(plain), Some(html)) => builder.multipart(MultiPart::alternative().singlepart(plain).singlepart(html)),
        (Some(only), None) | (None, Some(only)) => builder.singlepart(only),
        (None, None) => return Err("a mail has a text or an HTML body".into()),
    };
    let written = message.map_err(|error| format!("the mail cannot be written: {error}"))?.formatted();
    // What a relay and the one behind it could read as two mails is none.
    if is_of_whole_lines(&written) { Ok(written) } else { Err("the mail cannot be written as lines of ASCII".into()) }
}

/// Whether everything is ASCII and every line ends as lines of mail do.
fn is_of_whole_lines(bytes: &[u8]) -> bool {
    let ends_well = |(at, byte): (usize, &u8)| match byte {
        b'\r' => bytes.get(at + 1) == Some(&b'\n'),
        b'\n' => at > 0 && bytes[at - 1] == b'\r',
        byte => byte.is_ascii() && *byte != 0,
    };
    bytes.iter().enumerate().all(ends_well)
}

/// A body with the line ends of mail. The library would put in each by itself, moving all that follows.
fn part(kind: ContentType, text: &str) -> SinglePart {
    let lines = text.replace("\r\n", "\n").replace('\r', "\n").replace('\n', "\r\n");
    SinglePart::builder().header(kind).body(lines)
}

/// The headers that a plugin sets.
fn headers(wanted: &[(String, String)]) -> Result<Vec<HeaderValue>, String> {
    if wanted.len() > MAX_HEADERS {
        return Err(format!("a mail has at most {MAX_HEADERS} headers of its own"));
    }
    let (mut seen, mut headers) = (Vec::new(), Vec::with_capacity(wanted.len()));
    for (name, value) in wanted {
        let lower = name.to_ascii_lowercase();
        if !SAFE_HEADERS.contains(&lower.as_str()) {
            let name: String = name.chars().take(64).flat_map(char::escape_default).collect();
            return Err(format!(
                "the header `{name}` is not a plugin's to set; it may set {}",
                SAFE_HEADERS.join(", ")
            ));
        }
        if seen.contains(&lower) {
            return Err(format!("the header `{name}` is there twice"));
        }
        if value.len() > MAX_HEADER_BYTES {
            return Err(format!("the header `{name}` has more than {MAX_HEADER_BYTES} bytes"));
        }
        line(&format!("the header `{name}`"), value)?;
        seen.push(lower);
        let name = HeaderName::new_from_ascii(name.clone()).map_err(|_| "a header's name is malformed".to_owned())?;
        headers.push(HeaderValue::new(name, value.clone()));
    }
    Ok(headers)
}

fn named(what: &str, mailbox: &Mailbox) -> Result<NamedAddress, String> {
    if let Some(name) = &mailbox.name {
        line(&format!("{what}'s name"), name)?;
    }
    Ok(NamedAddress::new(mailbox.name.clone(), address(what, &mailbox.address)?))
}

/// An address that every relay takes.
fn address(what: &str, text: &str) -> Result<Address, String> {
    line(what, text)?;
    let parsed: Result<Address, AddressError> = text.parse();
    match parsed {
        Ok(address) if text.is_ascii() => Ok(address),
        Ok(_) => Err(format!("{what} has letters beyond ASCII, which not every relay takes")),
        Err(_) => Err(format!("{what} is no mail address")),
    }
}

/// Insist that a text is one line: what follows a line break would be a header, or a command.
fn line(what: &str, text: &str) -> Result<(), String> {
    if text.chars().any(char::is_control) {
        return Err(format!("{what} holds a line break or another control character"));
    }
    if text.len() > MAX_LINE_BYTES {
        return Err(format!("{what} has more than {MAX_LINE_BYTES} bytes"));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
