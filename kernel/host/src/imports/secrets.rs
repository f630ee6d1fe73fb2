//! Responsible for the interface `secrets`: guests hold stand-ins, and the values take their places in outgoing requests,
//! on the way to hosts that both the manifest and the grant name; and guests learn whether somebody else signed with one. No
//! message of this file holds a value.

use std::collections::BTreeMap;

use kith_model::budget::table;
use kith_model::plugin::SecretForm;
use kith_model::secret::Secret;

use crate::bindings::current::secrets;
use crate::package::hex;
use crate::policy::{HostPort, Policy};
use crate::signing::{Digest, key_of, verify};
use crate::state::CallState;

/// The longest message whose signature is checked: a request has at most 10 MiB before a connector, and a longer one would take
/// more of a processor than a call of the host may.
pub(super) const MAX_SIGNED_BYTES: usize = 12 << 20;

/// How every stand-in begins: `{{secret:<random>:<name>}}`.
const STAND_IN_PREFIX: &str = "{{secret:";

/// Most stand-ins of one request, headers and body together. A request needs a key or two; each filled place may take
/// kilobytes that the guest did not send.
pub(crate) const MAX_STAND_INS: usize = table::SECRET_PLACES.default as usize;

/// A secret of an installation, and its stand-in.
struct HeldSecret {
    value: Secret,
    stand_in: String,
    hosts: Vec<HostPort>,
}

/// The secrets that an installation has and may use.
pub(crate) struct Secrets(BTreeMap<String, HeldSecret>);

impl Secrets {
    /// The secrets among `values` that the policy lets the plugin use.
    pub(crate) fn new(values: BTreeMap<String, Secret>, policy: &Policy) -> Result<Secrets, getrandom::Error> {
        let mut kept = BTreeMap::new();
        for (name, value) in values {
            if let Some(hosts) = policy.secrets.get(&name) {
                let mut random = [0; 16];
                getrandom::fill(&mut random)?;
                let stand_in = format!("{STAND_IN_PREFIX}{}:{name}}}}}", hex(&random));
                kept.insert(name, HeldSecret { value, stand_in, hosts: hosts.clone() });
            }
        }
        Ok(Secrets(kept))
    }

    /// The value of `name`, for a request to this host.
    pub(crate) fn value_for(&self, name: &str, host: &str, port: u16) -> Result<&str, String> {
        let secret = self.0.get(name).ok_or_else(|| format!("there is no secret `{name}` that this plugin may use"))?;
        let may = |granted: &HostPort| granted.host == host && granted.port.is_none_or(|granted| granted == port);
        if secret.hosts.iter().any(may) {
            Ok(secret.value.expose())
        } else {
            Err(format!("the secret `{name}` may not be sent to `{host}`; grant it for this host"))
        }
    }

    /// `bytes` with values in the places of the stand-ins, for a request to this host; `left` is how many the request may
    /// still have. What was filled in is not looked at again, so that the work follows the bytes that the guest sent.
    pub(crate) fn fill_in(&self, bytes: Vec<u8>, host: &str, port: u16, left: &mut usize) -> Result<Vec<u8>, String> {
        let mut filled = Vec::new();
        let mut rest = bytes.as_slice();
        while let Some(at) = find(rest, STAND_IN_PREFIX.as_bytes()) {
            let (before, found) = rest.split_at(at);
            filled.extend_from_slice(before);
            let named = self.0.iter().find(|(_, secret)| found.starts_with(secret.stand_in.as_bytes()));
            if let Some((name, secret)) = named {
                let value = self.value_for(name, host, port)?;
                *left = left.checked_sub(1).ok_or_else(|| {
                    table::SECRET_PLACES.count();
                    format!("a request has at most {MAX_STAND_INS} places that secrets fill in; send less of them")
                })?;
                filled.extend_from_slice(value.as_bytes());
                rest = &found[secret.stand_in.len()..];
            } else {
                // Another's, or made up: text like any other.
                filled.extend_from_slice(STAND_IN_PREFIX.as_bytes());
                rest = &found[STAND_IN_PREFIX.len()..];
            }
        }
        if filled.is_empty() && rest.len() == bytes.len() {
            return Ok(bytes);
        }
        filled.extend_from_slice(rest);
        Ok(filled)
    }
}

fn find(bytes: &[u8], part: &[u8]) -> Option<usize> {
    memchr::memmem::find(bytes, part)
}

impl secrets::Host for CallState {
    fn stand_in(&mut self, name: String) -> wasmtime::Result<Option<String>> {
        self.count_host_call()?;
        Ok(self.installed.secrets.0.get(&name).map(|secret| secret.stand_in.clone()))
    }

    fn verify_hmac(&mut self, key: secrets::HmacKey, message: Vec<u8>, signature: String) -> wasmtime::Result<bool> {
        self.count_host_call()?;
        if message.len() > MAX_SIGNED_BYTES {
            return Ok(false);
        }
        let form = match key.form {
            secrets::KeyForm::Text => SecretForm::Text,
            secrets::KeyForm::StandardWebhooks => SecretForm::StandardWebhooks,
        };
        let digest = match key.digest {
            secrets::Digest::Sha1 => Digest::Sha1,
            secrets::Digest::Sha256 => Digest::Sha256,
            secrets::Digest::Sha512 => Digest::Sha512,
        };
        let Some(held) = self.installed.secrets.0.get(&key.secret) else { return Ok(false) };
        let Some(value) = key_of(held.value.expose(), form) else {
            // The guest is told no more than of a wrong signature, and the sender no more than the guest.
            let (installation, secret) = (&self.installed.installation, &key.secret);
            tracing::warn!(installation, secret, "a secret is not of the form that its plugin reads it in");
            return Ok(false);
        };
        Ok(verify(&value, digest, &message, &signature))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_go_to_granted_hosts_only() {
        let hosts = vec!["api.a.b".parse().unwrap(), "c.d:8443".parse().unwrap()];
        let secret = HeldSecret { value: "s3cret".into(), stand_in: "{{secret:00:key}}".into(), hosts };
        let secrets = Secrets(BTreeMap::from([("key".to_owned(), secret)]));
        let body = b"x {{secret:00:key}} y {{secret:00:key}}".to_vec();
        let fill_in = |body: Vec<u8>, host: &str, port| secrets.fill_in(body, host, port, &mut MAX_STAND_INS.clone());
        assert_eq!(fill_in(body.clone(), "api.a.b", 443), Ok(b"x s3cret y s3cret".to_vec()));
        assert!(fill_in(body.clone(), "c.d", 8443).is_ok());
        for (host, port) in [("c.d", 443), ("evil.example", 443), ("x.api.a.b", 443)] {
            let refused = fill_in(body.clone(), host, port).unwrap_err();
            assert!(refused.contains("`key`") && !refused.contains("s3cret"), "{refused}");
        }
        let foreign = b"{{secret:ff:key}}".to_vec();
        assert_eq!(fill_in(foreign.clone(), "evil.example", 443), Ok(foreign), "a guessed stand-in is text");
    }

    #[test]
    fn a_request_fills_in_few_secrets_and_looks_at_each_byte_once() {
        let hosts = vec!["api.a.b".parse().unwrap()];
        let stand_in = "{{secret:00:key}}";
        // A value that holds a stand-in itself would be filled in again and again.
        let secret = HeldSecret { value: stand_in.repeat(2).into(), stand_in: stand_in.into(), hosts };
        let secrets = Secrets(BTreeMap::from([("key".to_owned(), secret)]));
        let mut left = MAX_STAND_INS;
        let some = secrets.fill_in(stand_in.repeat(10).into(), "api.a.b", 443, &mut left).unwrap();
        assert_eq!((some.len(), left), (20 * stand_in.len(), MAX_STAND_INS - 10));
        let refused = secrets.fill_in(stand_in.repeat(300_000).into(), "api.a.b", 443, &mut left).unwrap_err();
        assert!(refused.contains("at most 16 places"), "{refused}");
        let made_up = "{{secret:".repeat(100_000).into_bytes();
        assert_eq!(secrets.fill_in(made_up.clone(), "api.a.b", 443, &mut 0), Ok(made_up));
    }
}
