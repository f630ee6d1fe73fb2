//! Delivers messages as webhooks after Standard Webhooks 1.0, and takes receipts back.
//!
//! This file ties the channel's role to its parts: `body` (what is sent), `outcome` (what an answer means) and `callback` (what comes back). The host
//! signs with a secret that this plugin never sees; sending, the schedule of attempts, consent and dead letters are the kernel's.

mod body;
mod callback;
mod outcome;

use std::collections::BTreeMap;

use kith_plugin_sdk::http::Request;
use kith_plugin_sdk::{
    Callback, Channel, Failure, Message, Outcome, Receipt, Rejection, SentAnswer, Step, clock, config, export,
};
use serde::Deserialize;

/// The name of the secret in the manifest, `whsec_…` after Standard Webhooks.
const SECRET: &str = "signing";

/// The channel.
struct Webhook;

/// The configuration; `plugin.toml` has its schema, meaning and defaults.
#[derive(Debug, Deserialize)]
struct Settings {
    url: String,
    #[serde(rename = "type")]
    message_type: String,
    headers: BTreeMap<String, String>,
}

impl Channel for Webhook {
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
        callback::read(&callback)
    }
}

export!(Webhook as channel);

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
