//! Responsible for the interface `secrets`: guests hold stand-ins, and the values take their places in outgoing requests,
//! on the way to hosts that both the manifest and the grant name. No message of this file holds a value.

use std::collections::BTreeMap;

use crate::bindings::current::secrets;
use crate::package::hex;
use crate::policy::{HostPort, Policy};
use crate::state::CallState;

/// How every stand-in begins: `{{secret:<random>:<name>}}`.
const STAND_IN_PREFIX: &str = "{{secret:";

struct Secret {
    value: String,
    stand_in: String,
    hosts: Vec<HostPort>,
}

/// The secrets that an installation has and may use.
pub(crate) struct Secrets(BTreeMap<String, Secret>);

impl Secrets {
    /// The secrets among `values` that the policy lets the plugin use.
    pub(crate) fn new(values: BTreeMap<String, String>, policy: &Policy) -> Result<Secrets, getrandom::Error> {
        let mut kept = BTreeMap::new();
        for (name, value) in values {
            if let Some(hosts) = policy.secrets.get(&name) {
                let mut random = [0; 16];
                getrandom::fill(&mut random)?;
                let stand_in = format!("{STAND_IN_PREFIX}{}:{name}}}}}", hex(&random));
                kept.insert(name, Secret { value, stand_in, hosts: hosts.clone() });
            }
        }
        Ok(Secrets(kept))
    }

    /// The value of `name`, for a request to this host.
    pub(crate) fn value_for(&self, name: &str, host: &str, port: u16) -> Result<&str, String> {
        let secret = self.0.get(name).ok_or_else(|| format!("there is no secret `{name}` that this plugin may use"))?;
        let may = |granted: &HostPort| granted.host == host && granted.port.is_none_or(|granted| granted == port);
        if secret.hosts.iter().any(may) {
            Ok(&secret.value)
        } else {
            Err(format!("the secret `{name}` may not be sent to `{host}`; grant it for this host"))
        }
    }

    /// `bytes` with values in the places of the stand-ins, for a request to this host.
    pub(crate) fn fill_in(&self, bytes: Vec<u8>, host: &str, port: u16) -> Result<Vec<u8>, String> {
        if find(&bytes, STAND_IN_PREFIX.as_bytes()).is_none() {
            return Ok(bytes);
        }
        let mut filled = bytes;
        for (name, secret) in &self.0 {
            let stand_in = secret.stand_in.as_bytes();
            let mut from = 0;
            while let Some(at) = find(&filled[from..], stand_in).map(|at| from + at) {
                let value = self.value_for(name, host, port)?;
                filled.splice(at..at + stand_in.len(), value.bytes());
                from = at + value.len();
            }
        }
        Ok(filled)
    }
}

fn find(bytes: &[u8], part: &[u8]) -> Option<usize> {
    bytes.windows(part.len()).position(|window| window == part)
}

impl secrets::Host for CallState {
    fn stand_in(&mut self, name: String) -> wasmtime::Result<Option<String>> {
        self.count_host_call()?;
        Ok(self.installed.secrets.0.get(&name).map(|secret| secret.stand_in.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_go_to_granted_hosts_only() {
        let hosts = vec!["api.a.b".parse().unwrap(), "c.d:8443".parse().unwrap()];
        let secret = Secret { value: "s3cret".into(), stand_in: "{{secret:00:key}}".into(), hosts };
        let secrets = Secrets(BTreeMap::from([("key".to_owned(), secret)]));
        let body = b"x {{secret:00:key}} y {{secret:00:key}}".to_vec();
        assert_eq!(secrets.fill_in(body.clone(), "api.a.b", 443), Ok(b"x s3cret y s3cret".to_vec()));
        assert!(secrets.fill_in(body.clone(), "c.d", 8443).is_ok());
        for (host, port) in [("c.d", 443), ("evil.example", 443), ("x.api.a.b", 443)] {
            let refused = secrets.fill_in(body.clone(), host, port).unwrap_err();
            assert!(refused.contains("`key`") && !refused.contains("s3cret"), "{refused}");
        }
        let foreign = b"{{secret:ff:key}}".to_vec();
        assert_eq!(secrets.fill_in(foreign.clone(), "evil.example", 443), Ok(foreign), "a guessed stand-in is text");
    }
}
