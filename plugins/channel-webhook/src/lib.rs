//! Delivers messages as webhooks after Standard Webhooks 1.0, and takes receipts back.
//!
//! This file ties the channel's role to its parts: `body` (what is sent), `outcome` (what an answer means) and `callback` (what comes back). The host
//! signs with a secret that this plugin never sees; sending, the schedule of attempts, consent and dead letters are the kernel's.

mod body;
mod callback;
mod outcome;

use std::collections::BTreeMap;

use kith_plugin_sdk::http::Request;
use kith_plugin_sdk::webhook::{Call, Signature};
use kith_plugin_sdk::{
    Callback, Channel, Failure, Message, Outcome, Problem, Receipt, Rejection, SentAnswer, Step, clock, config, export,
};
use serde::Deserialize;

/// The name of the secret in the manifest, `whsec_…` after Standard Webhooks.
const SECRET: &str = "signing";

/// The name of the secret that reports are signed with.
const RECEIPTS_SECRET: &str = "receipts";

/// The channel.
struct Webhook;

/// The configuration; `plugin.toml` has its schema, meaning and defaults.
#[derive(Debug, Deserialize)]
struct Settings {
    url: String,
    #[serde(rename = "type")]
    message_type: String,
    headers: BTreeMap<String, String>,
    /// How reports are signed; without it they are not.
    signature: Option<Signature>,
}

impl Channel for Webhook {
    fn validate(config: &str) -> Result<(), Vec<Problem>> {
        let settings: Settings = config::read(config)?;
        let signature = settings.signature.iter().flat_map(|signature| signature.problems("signature"));
        let url = url_problem(&settings.url).map(|problem| Problem::new("url", problem));
        let problems: Vec<Problem> = url.into_iter().chain(signature).collect();
        if problems.is_empty() { Ok(()) } else { Err(problems) }
    }

    fn requests(messages: Vec<Message>) -> Vec<Step> {
        match config::get::<Settings>() {
            Ok(settings) => messages.iter().map(|message| first_step(&settings, message)).collect(),
            Err(failure) => messages.iter().map(|_| Outcome::Permanent(failure.to_string()).into()).collect(),
        }
    }

    fn outcomes(answers: Vec<SentAnswer>) -> Vec<Step> {
        let now = clock::now();
        answers.into_iter().map(|answer| outcome::of(answer.result, now).into()).collect()
    }

    fn receive(callback: Callback) -> Result<Vec<Receipt>, Rejection> {
        if let Some(signature) = config::get::<Settings>()?.signature {
            signature.verify(RECEIPTS_SECRET, &Call::from(&callback))?;
        }
        callback::read(&callback)
    }
}

export!(Webhook as channel);

/// Why no message could be posted to an address; the schema has admitted that it begins with `http://` or `https://`.
fn url_problem(url: &str) -> Option<&'static str> {
    if url.contains("{{") || url.contains("}}") {
        return Some("is the same for all messages: a template stands in an audience's payload, not here");
    }
    let rest = url.split_once("://").map_or("", |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if authority.contains('@') {
        return Some("holds a user name or password; the receiver checks the signature instead");
    }
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (authority, None),
    };
    if host.is_empty() {
        return Some("names no host; write e.g. `https://example.com/hook`");
    }
    let is_port = |port: &str| port.parse::<u16>().is_ok_and(|port| port > 0);
    (!port.is_none_or(is_port)).then_some("has a port that is none; ports are numbers from 1 to 65535")
}

/// Send the message, or say why it cannot be sent.
fn first_step(settings: &Settings, message: &Message) -> Step {
    match request(settings, message) {
        Ok(request) => request.into(),
        Err(failure) => Outcome::Permanent(failure.to_string()).into(),
    }
}

/// The request, byte for byte the same in every attempt: what the receiver verifies and recognises doubles by.
fn request(settings: &Settings, message: &Message) -> Result<Request, Failure> {
    let body = body::write(&settings.message_type, message)?;
    let request = Request::post(&settings.url).header("content-type", "application/json").body(body);
    let request = settings.headers.iter().fold(request, |request, (name, value)| request.header(name, value));
    Ok(request.sign_standard_webhooks(SECRET, &message.id))
}

#[cfg(test)]
mod tests;
