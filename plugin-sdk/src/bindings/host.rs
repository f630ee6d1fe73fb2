//! What the host functions call on the guest target. The counterpart of `testing::platform`.

use super::shared::kith::plugin as wit;
use crate::{Timestamp, http, kv, log, mail};

pub(crate) fn now() -> Timestamp {
    wit::clock::now()
}

pub(crate) fn config() -> String {
    wit::config::get()
}

pub(crate) fn stand_in(name: &str) -> Option<String> {
    wit::secrets::stand_in(name)
}

pub(crate) fn log(level: log::Level, text: &str) {
    let level = match level {
        log::Level::Debug => wit::log::Level::Debug,
        log::Level::Info => wit::log::Level::Info,
        log::Level::Warn => wit::log::Level::Warn,
        log::Level::Error => wit::log::Level::Error,
    };
    wit::log::write(level, text);
}

pub(crate) fn kv_get(key: &str) -> Result<Option<Vec<u8>>, kv::Error> {
    wit::kv::get(key).map_err(kv_error)
}

pub(crate) fn kv_set(key: &str, value: &[u8]) -> Result<(), kv::Error> {
    wit::kv::set(key, value).map_err(kv_error)
}

pub(crate) fn kv_delete(key: &str) -> Result<(), kv::Error> {
    wit::kv::delete(key).map_err(kv_error)
}

fn kv_error(error: wit::kv::Error) -> kv::Error {
    match error {
        wit::kv::Error::Quota(reason) => kv::Error::Quota(reason),
        wit::kv::Error::Unavailable(reason) => kv::Error::Unavailable(reason),
    }
}

pub(crate) fn send_mail(server: &str, message: &mail::Message) -> Result<(), mail::Error> {
    let message = message.clone();
    let message = wit::mail::Message {
        from: message.from,
        to: message.to,
        subject: message.subject,
        text: message.text,
        html: message.html,
        headers: message.headers,
    };
    wit::mail::send(server, &message).map_err(|error| match error {
        wit::mail::Error::Denied(reason) => mail::Error::Denied(reason),
        wit::mail::Error::Rejected(reason) => mail::Error::Rejected(reason),
        wit::mail::Error::Transient(reason) => mail::Error::Transient(reason),
    })
}

pub(crate) fn send_http(request: http::Request) -> Result<http::Response, http::Error> {
    let request = wit::http::Request {
        method: request.method,
        url: request.url,
        headers: request.headers,
        body: request.body,
        sign: request.signature.map(|signature| {
            wit::http::Signature::StandardWebhooks(wit::http::StandardWebhooks {
                secret: signature.secret,
                message_id: signature.message_id,
            })
        }),
    };
    match wit::http::send(&request) {
        Ok(response) => Ok(http::Response { status: response.status, headers: response.headers, body: response.body }),
        Err(wit::http::Error::Denied(reason)) => Err(http::Error::Denied(reason)),
        Err(wit::http::Error::Timeout(reason)) => Err(http::Error::Timeout(reason)),
        Err(wit::http::Error::Connection(reason)) => Err(http::Error::Connection(reason)),
        Err(wit::http::Error::TooLarge(reason)) => Err(http::Error::TooLarge(reason)),
    }
}
