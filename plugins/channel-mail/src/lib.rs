//! Writes messages to people's mail addresses, through a relay.
//!
//! What stands in a mail is the message's payload: `subject`, `text`, `html`, `unsubscribe`. The kernel speaks to the relay, knows
//! the password and gives each mail its id; what the relay's answers mean is as the SDK has it.

use kith_plugin_sdk::mail::{Mail, Mailbox, Security};
use kith_plugin_sdk::{Channel, Failure, Message, Outcome, Problem, Step, config, export};
use serde::Deserialize;

/// The name of the secret in the manifest.
const PASSWORD: &str = "password";

/// The type of identifiers that mail goes to.
const ADDRESS: &str = "email";

/// The channel.
struct MailChannel;

/// The configuration; `plugin.toml` has its schema, meaning and defaults.
#[derive(Debug, Deserialize)]
struct Settings {
    relay: String,
    security: Protection,
    user: Option<String>,
    from: String,
    from_name: Option<String>,
    reply_to: Option<String>,
    subject: Option<String>,
    one_click: bool,
}

/// How the connection to the relay is kept from listeners.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Protection {
    StartTls,
    Tls,
    Plain,
}

/// What a message says. Other keys of its payload are somebody else's.
#[derive(Debug, Deserialize)]
struct Content {
    subject: Option<String>,
    text: Option<String>,
    html: Option<String>,
    unsubscribe: Option<String>,
}

impl Channel for MailChannel {
    fn validate(config: &str) -> Result<(), Vec<Problem>> {
        let settings: Settings = config::read(config)?;
        let port = settings.relay.rsplit(':').next().unwrap_or_default();
        if !port.parse::<u16>().is_ok_and(|port| port > 0) {
            return Err(vec![Problem::new("relay", "has a port that is none; ports are numbers from 1 to 65535")]);
        }
        Ok(())
    }

    fn requests(messages: Vec<Message>) -> Vec<Step> {
        match config::get::<Settings>() {
            Ok(settings) => messages.iter().map(|message| first_step(&settings, message)).collect(),
            Err(failure) => messages.iter().map(|_| Outcome::Permanent(failure.to_string()).into()).collect(),
        }
    }
}

export!(MailChannel as channel);

/// Send the mail, or say why there is none.
fn first_step(settings: &Settings, message: &Message) -> Step {
    match mail(settings, message) {
        Ok(mail) => mail.into(),
        Err(failure) => Outcome::Permanent(failure.to_string()).into(),
    }
}

fn mail(settings: &Settings, message: &Message) -> Result<Mail, Failure> {
    let payload = if message.payload.is_empty() { "{}" } else { &message.payload };
    let content: Content = serde_json::from_str(payload)
        .map_err(|error| Failure::bad_input(format!("the payload is not that of a mail: {error}")))?;
    let to = message.recipient.iter().find(|identifier| identifier.kind == ADDRESS);
    let to = to.ok_or_else(|| Failure::bad_input("the person has no `email`, or none that the channel is given"))?;
    let subject = content.subject.as_deref().or(settings.subject.as_deref()).filter(|subject| !subject.is_empty());
    let subject = subject.ok_or_else(|| {
        Failure::bad_input("the payload has no `subject`, and neither has the configuration; write one")
    })?;
    if content.text.is_none() && content.html.is_none() {
        return Err(Failure::bad_input("the payload has neither `text` nor `html`; write one, or both"));
    }
    let named = |address: &str, name: Option<&String>| Mailbox { name: name.cloned(), address: address.to_owned() };
    let sender = named(&settings.from, settings.from_name.as_ref());
    let mut mail = Mail::through(&settings.relay, sender, &to.value, subject).security(match settings.security {
        Protection::StartTls => Security::StartTls,
        Protection::Tls => Security::Tls,
        Protection::Plain => Security::Plain,
    });
    if let Some(user) = &settings.user {
        mail = mail.login(user, PASSWORD);
    }
    if let Some(reply_to) = &settings.reply_to {
        mail = mail.reply_to(named(reply_to, None));
    }
    if let Some(place) = content.unsubscribe.as_deref().filter(|place| !place.is_empty()) {
        mail = mail.header("List-Unsubscribe", unsubscribing(place)?);
        if settings.one_click && place.starts_with("https://") {
            mail = mail.header("List-Unsubscribe-Post", "List-Unsubscribe=One-Click");
        }
    }
    Ok(Mail { text: content.text, html: content.html, ..mail })
}

/// The value of `List-Unsubscribe`, after RFC 2369.
fn unsubscribing(place: &str) -> Result<String, Failure> {
    let is_address = ["https://", "http://", "mailto:"].iter().any(|scheme| place.starts_with(scheme));
    if is_address && place.bytes().all(|byte| byte.is_ascii_graphic() && !b"<>,".contains(&byte)) {
        Ok(format!("<{place}>"))
    } else {
        Err(Failure::bad_input("`unsubscribe` is not an address as `https://…` or `mailto:…`"))
    }
}

#[cfg(test)]
mod tests;
