//! What the host functions call on the guest target. The counterpart of `testing::platform`.

use std::sync::OnceLock;

use super::shared::kith::plugin as wit;
use crate::{Emitted, Timestamp, http, kv, log, secrets};

pub(crate) fn now() -> Timestamp {
    wit::clock::now()
}

pub(crate) fn config() -> String {
    wit::config::get()
}

pub(crate) fn stand_in(name: &str) -> Option<String> {
    wit::secrets::stand_in(name)
}

pub(crate) fn verify_hmac(key: secrets::HmacKey<'_>, message: &[u8], signature: &str) -> bool {
    let key = wit::secrets::HmacKey {
        secret: key.secret.to_owned(),
        form: match key.form {
            secrets::KeyForm::Text => wit::secrets::KeyForm::Text,
            secrets::KeyForm::StandardWebhooks => wit::secrets::KeyForm::StandardWebhooks,
        },
        digest: match key.digest {
            secrets::Digest::Sha1 => wit::secrets::Digest::Sha1,
            secrets::Digest::Sha256 => wit::secrets::Digest::Sha256,
            secrets::Digest::Sha512 => wit::secrets::Digest::Sha512,
        },
    };
    wit::secrets::verify_hmac(&key, message, signature)
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

/// The same through a call, so that it is asked for once.
pub(crate) fn least_level() -> log::Level {
    static LEAST: OnceLock<log::Level> = OnceLock::new();
    *LEAST.get_or_init(|| match wit::log::least() {
        wit::log::Level::Debug => log::Level::Debug,
        wit::log::Level::Info => log::Level::Info,
        wit::log::Level::Warn => log::Level::Warn,
        wit::log::Level::Error => log::Level::Error,
    })
}

pub(crate) fn emit(row: usize, event: Emitted) {
    let Emitted { name, properties, key } = event;
    // A table has fewer rows than that, and a row that there is not is a fault.
    wit::emitting::emit(u32::try_from(row).unwrap_or(u32::MAX), &wit::emitting::Emitted { name, properties, key });
}

pub(crate) fn kv_get(key: &str) -> Result<Option<Vec<u8>>, kv::Error> {
    wit::kv::get(key).map_err(kv_error)
}

pub(crate) fn kv_set(key: &str, value: &[u8], ttl_ms: Option<u64>) -> Result<(), kv::Error> {
    wit::kv::set(key, value, ttl_ms).map_err(kv_error)
}

pub(crate) fn kv_compare_and_set(
    key: &str,
    expected: Option<&[u8]>,
    value: &[u8],
    ttl_ms: Option<u64>,
) -> Result<bool, kv::Error> {
    wit::kv::compare_and_set(key, expected, value, ttl_ms).map_err(kv_error)
}

pub(crate) fn kv_list_keys(prefix: &str, after: Option<&str>, limit: u32) -> Result<kv::KeyPage, kv::Error> {
    let page = wit::kv::list_keys(prefix, after, limit).map_err(kv_error)?;
    Ok(kv::KeyPage { keys: page.keys, next: page.next })
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

pub(crate) fn send_http(request: http::Request) -> Result<http::Response, http::Error> {
    wit::http::send(&request.into()).map(Into::into).map_err(Into::into)
}
