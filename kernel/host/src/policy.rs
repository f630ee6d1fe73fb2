//! Responsible for what an installation may do: the manifest's request, cut down by the admin's grant and the host's
//! ceiling. The minimum wins for numbers, the intersection for hosts; each number says who set it, so that the API can
//! show it; what each item of it came from is `policy/items.rs`.

mod events;
mod items;
mod limits;

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use kith_model::budget::table;
use kith_model::network::Network;
use kith_model::plugin::{Grants, LimitRequest, MailRequest, Manifest, Purposes};
use kith_model::sending::{MAX_SENDING, SendingLimits};
use serde::Serialize;

use crate::manifest::METHODS;
use crate::observed::LineLevel;

pub use items::{ItemKind, LABEL_ITEM, PolicyItem, SeenSensitive, Side, policy_items};
pub(crate) use limits::{above, highest_ceiling};

/// The host's ceiling, and its defaults for what neither manifest nor grant names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Limits {
    /// All memories of one call together. It bounds time as well: filling or copying memory is checked at its start only.
    pub memory_bytes: u64,
    /// Processor time of one call.
    pub cpu_ms: u64,
    /// Time of one call, host calls included.
    pub wall_ms: u64,
    /// The same two for `fit`, which sees a whole history. Manifests and grants do not lower them.
    pub fit_cpu_ms: u64,
    pub fit_wall_ms: u64,
    /// What a guest may hand to the host at once: a result, or the arguments of one host call, as laid out in the host's
    /// memory (an event counts some 300 bytes besides its texts).
    pub output_bytes: u64,
    pub log_bytes: u64,
    /// The least level of lines that are kept; what is below it counts for no limit.
    pub log_level: LineLevel,
    /// Host calls of one call; the batches of a data set do not count.
    pub host_calls: u64,
    /// Key-value state of one installation.
    pub kv_bytes: u64,
    /// Messages of one channel under way at once.
    pub messages_at_once: u64,
    /// Requests of one channel under way to one receiving host at once.
    pub requests_per_host: u64,
    /// Requests and mails of one installation in a minute.
    pub requests_per_minute: u64,
    /// Private ranges that may be reached where a grant names them too.
    pub networks: Vec<Network>,
}

impl Default for Limits {
    fn default() -> Limits {
        let SendingLimits { messages_at_once, requests_per_host } = SendingLimits::DEFAULT;
        Limits {
            memory_bytes: table::GUEST_MEMORY.default,
            cpu_ms: table::GUEST_PROCESSOR.default,
            wall_ms: table::GUEST_TIME.default,
            fit_cpu_ms: table::FIT_PROCESSOR.default,
            fit_wall_ms: table::FIT_TIME.default,
            output_bytes: table::GUEST_OUTPUT.default,
            log_bytes: table::GUEST_LOG.default,
            log_level: LineLevel::default(),
            host_calls: table::GUEST_HOST_CALLS.default,
            kv_bytes: table::KV_KEPT.default,
            messages_at_once: messages_at_once as u64,
            requests_per_host: requests_per_host as u64,
            requests_per_minute: table::PLUGIN_REQUESTS.default,
            networks: Vec::new(),
        }
    }
}

/// Who set a number, or had the last word of something else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LimitSource {
    Manifest,
    Grant,
    Host,
}

impl LimitSource {
    /// As the API writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            LimitSource::Manifest => "manifest",
            LimitSource::Grant => "grant",
            LimitSource::Host => "host",
        }
    }
}

/// A number and who set it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct EffectiveLimit {
    pub value: u64,
    pub source: LimitSource,
}

/// A host that may be reached, with a port where the grant names one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(into = "String")]
pub struct HostPort {
    pub host: String,
    /// `None` is 443.
    pub port: Option<u16>,
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => write!(f, "{}:{port}", self.host),
            None => f.write_str(&self.host),
        }
    }
}

impl From<HostPort> for String {
    fn from(host: HostPort) -> String {
        host.to_string()
    }
}

/// Why a text names no host.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a host; write `api.example.com` or `api.example.com:8443`, without scheme, path or wildcard")]
pub struct InvalidHost(String);

impl FromStr for HostPort {
    type Err = InvalidHost;

    fn from_str(text: &str) -> Result<HostPort, InvalidHost> {
        let invalid = || InvalidHost(text.chars().take(128).collect());
        let after_address = text.find(']').map_or(0, |end| end + 1);
        let (host, port) = match text[after_address..].find(':') {
            Some(colon) => {
                let (host, port) = (&text[..after_address + colon], &text[after_address + colon + 1..]);
                let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
                let port = port.parse::<u16>().ok().filter(|port| digits && *port > 0).ok_or_else(invalid)?;
                (host, Some(port))
            }
            None => (text, None),
        };
        let host = host.to_ascii_lowercase();
        if is_host(&host) { Ok(HostPort { host, port }) } else { Err(invalid()) }
    }
}

/// A host that HTTP is granted to, with methods before it where it is to have fewer than the manifest asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GrantedHost {
    pub host: HostPort,
    /// `None` is all that the manifest asks for.
    pub methods: Option<Vec<String>>,
}

impl GrantedHost {
    /// Whether the grant lets this method go there.
    fn allows(&self, method: &str) -> bool {
        self.methods.as_ref().is_none_or(|methods| methods.iter().any(|allowed| allowed == method))
    }
}

/// Why a text grants no host.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a host; write `api.example.com` or `api.example.com:8443`, without scheme, path or wildcard, and for fewer methods \
     than the plugin asks for `GET,HEAD api.example.com`"
)]
pub struct InvalidGrant(String);

impl FromStr for GrantedHost {
    type Err = InvalidGrant;

    fn from_str(text: &str) -> Result<GrantedHost, InvalidGrant> {
        let invalid = || InvalidGrant(text.chars().take(128).collect());
        let (methods, host) = match text.split_once(' ') {
            Some((methods, host)) => (Some(methods.split(',').map(str::to_owned).collect::<Vec<_>>()), host),
            None => (None, text),
        };
        if methods.iter().flatten().any(|method| !METHODS.contains(&method.as_str())) {
            return Err(invalid());
        }
        Ok(GrantedHost { host: host.parse().map_err(|_| invalid())?, methods })
    }
}

/// Whether a lower-case text is a DNS name without a final dot, an IPv4 address, or an IPv6 address in brackets.
pub(crate) fn is_host(host: &str) -> bool {
    if let Some(address) = host.strip_prefix('[') {
        return address.strip_suffix(']').is_some_and(|address| address.parse::<std::net::Ipv6Addr>().is_ok());
    }
    let is_label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(&byte))
    };
    // What ends in a number is an address to every resolver, in one of many notations; only the plain one is taken.
    let last = host.rsplit('.').next().unwrap_or_default();
    let numeric = last.starts_with("0x") || last.bytes().all(|byte| byte.is_ascii_digit());
    host.len() <= 253
        && host.split('.').all(is_label)
        && (!numeric || host.parse::<std::net::Ipv4Addr>().is_ok_and(|address| address.to_string() == host))
}

/// Whether a manifest's host pattern (`api.example.com`, `*.example.com`, `*`) covers a host.
fn covers(pattern: &str, host: &str) -> bool {
    match pattern.strip_prefix("*.") {
        Some(parent) => host.strip_suffix(parent).is_some_and(|front| front.len() > 1 && front.ends_with('.')),
        None => pattern == "*" || pattern == host,
    }
}

/// One host that may be reached over HTTP, and with which methods.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HttpRule {
    pub host: HostPort,
    pub methods: Vec<String>,
}

/// What an installation may do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Policy {
    pub memory_bytes: EffectiveLimit,
    pub cpu_ms: EffectiveLimit,
    pub wall_ms: EffectiveLimit,
    pub fit_cpu_ms: EffectiveLimit,
    pub fit_wall_ms: EffectiveLimit,
    pub output_bytes: EffectiveLimit,
    pub log_bytes: EffectiveLimit,
    pub host_calls: EffectiveLimit,
    pub kv_bytes: EffectiveLimit,
    /// How much a channel sends at once; of no effect on other kinds.
    pub messages_at_once: EffectiveLimit,
    pub requests_per_host: EffectiveLimit,
    /// Of no effect on tag models and scorers, which send nothing.
    pub requests_per_minute: EffectiveLimit,
    /// Fuel of one call, where the manifest or the grant names it.
    pub fuel: Option<EffectiveLimit>,
    pub http: Vec<HttpRule>,
    /// Relays that mail may be handed to, each with its port.
    pub mail: Vec<HostPort>,
    /// Private ranges that hosts of `http` and `mail` may be in.
    pub networks: Vec<Network>,
    /// Secret name → hosts it may be sent to.
    pub secrets: BTreeMap<String, Vec<HostPort>>,
    /// Types of a person's identifiers that a channel is given; `*` for any.
    pub recipients: Vec<String>,
    /// Purposes that a channel carries messages for; `null` for every one.
    pub purposes: Purposes,
    /// Names of the events that may be emitted; `null` for any.
    pub emits: Option<Vec<String>>,
    /// Grants that have no effect, each with the reason.
    pub without_effect: Vec<String>,
}

/// Any type of identifiers.
pub(crate) const ANY_RECIPIENT: &str = "*";

impl Policy {
    /// Whether a channel is given identifiers of this type.
    pub(crate) fn may_receive(&self, kind: &str) -> bool {
        self.recipient_types().is_none_or(|kinds| kinds.iter().any(|granted| granted == kind))
    }

    /// The types of identifiers that a channel is given; `None` for any.
    pub fn recipient_types(&self) -> Option<&[String]> {
        let any = self.recipients.iter().any(|kind| kind == ANY_RECIPIENT);
        (!any).then_some(self.recipients.as_slice())
    }

    /// How much a channel sends at once. At least one: a stored manifest or grant may say zero, which would be a channel that
    /// is live and never sends.
    pub fn sending(&self) -> SendingLimits {
        let count = |limit: EffectiveLimit| usize::try_from(limit.value).unwrap_or(usize::MAX).max(1);
        SendingLimits {
            messages_at_once: count(self.messages_at_once),
            requests_per_host: count(self.requests_per_host),
        }
    }
}

/// The smallest of the host's number and the two requests.
fn lowest(host: u64, manifest: Option<u64>, grant: Option<u64>) -> EffectiveLimit {
    let asked = [(grant, LimitSource::Grant), (manifest, LimitSource::Manifest)];
    let host = EffectiveLimit { value: host, source: LimitSource::Host };
    asked.into_iter().fold(host, |lowest, (asked, source)| match asked {
        Some(value) if value < lowest.value => EffectiveLimit { value, source },
        _ => lowest,
    })
}

/// Manifest request ∩ grant ∩ host ceiling.
pub fn effective_policy(manifest: &Manifest, grants: &Grants, ceiling: &Limits) -> Policy {
    let pick =
        |host, read: fn(&LimitRequest) -> Option<u64>| lowest(host, read(&manifest.limits), read(&grants.limits));
    let host_alone = |value| EffectiveLimit { value, source: LimitSource::Host };
    let fuel = match (manifest.limits.fuel, grants.limits.fuel) {
        (None, None) => None,
        (manifest, grant) => Some(lowest(u64::MAX, manifest, grant)),
    };
    let mut without_effect = Vec::new();
    let http = http_rules(manifest, grants, &mut without_effect);
    let mail = relays(manifest, grants, &mut without_effect);
    let networks = networks(grants, ceiling, &mut without_effect);
    let secrets = secret_rules(manifest, grants, &mut without_effect);
    let recipients = recipient_types(manifest, grants, &mut without_effect);
    without_effect.extend(purposes_in_vain(manifest, grants));
    without_effect.extend(events::in_vain(manifest, grants));
    if grants.kv_bytes > 0 && manifest.capabilities.kv_bytes == 0 {
        without_effect.push("kv_bytes: the manifest asks for no state".to_owned());
    }
    without_effect.extend(limits::in_vain(grants, ceiling));
    Policy {
        memory_bytes: pick(ceiling.memory_bytes, |limits| limits.memory_bytes),
        cpu_ms: pick(ceiling.cpu_ms, |limits| limits.cpu_ms),
        wall_ms: pick(ceiling.wall_ms, |limits| limits.wall_ms),
        fit_cpu_ms: host_alone(ceiling.fit_cpu_ms),
        fit_wall_ms: host_alone(ceiling.fit_wall_ms),
        output_bytes: pick(ceiling.output_bytes, |limits| limits.output_bytes),
        log_bytes: pick(ceiling.log_bytes, |limits| limits.log_bytes),
        host_calls: pick(ceiling.host_calls, |limits| limits.host_calls),
        kv_bytes: lowest(ceiling.kv_bytes, Some(manifest.capabilities.kv_bytes), Some(grants.kv_bytes)),
        messages_at_once: pick(ceiling.messages_at_once.min(MAX_SENDING), |limits| limits.messages_at_once),
        requests_per_host: pick(ceiling.requests_per_host.min(MAX_SENDING), |limits| limits.requests_per_host),
        requests_per_minute: pick(ceiling.requests_per_minute, |limits| limits.requests_per_minute),
        fuel,
        http,
        mail,
        networks,
        secrets,
        recipients,
        purposes: Purposes::of(&manifest.capabilities, grants),
        emits: events::emitted(manifest, grants),
        without_effect,
    }
}

fn http_rules(manifest: &Manifest, grants: &Grants, without_effect: &mut Vec<String>) -> Vec<HttpRule> {
    let mut rules: Vec<HttpRule> = Vec::new();
    for text in &grants.http {
        let granted = match text.parse::<GrantedHost>() {
            Ok(granted) => granted,
            Err(error) => {
                without_effect.push(format!("http: {error}"));
                continue;
            }
        };
        let host = &granted.host;
        let requests = manifest.capabilities.http.iter().filter(|request| covers(&request.host, &host.host));
        let methods: Vec<String> = requests.flat_map(|request| request.methods.clone()).collect();
        if methods.is_empty() {
            without_effect.push(format!("http: the manifest does not ask for `{host}`"));
            continue;
        }
        let methods: Vec<String> = methods.into_iter().filter(|method| granted.allows(method)).collect();
        if methods.is_empty() {
            without_effect.push(format!("http: the manifest asks for other methods than `{text}`"));
            continue;
        }
        match rules.iter_mut().find(|rule| rule.host == *host) {
            Some(rule) => rule.methods.extend(methods),
            None => rules.push(HttpRule { host: host.clone(), methods }),
        }
    }
    for rule in &mut rules {
        rule.methods.sort();
        rule.methods.dedup();
    }
    rules
}

/// The relays that are granted and asked for.
fn relays(manifest: &Manifest, grants: &Grants, without_effect: &mut Vec<String>) -> Vec<HostPort> {
    let mut relays = Vec::new();
    for granted in &grants.mail {
        match granted.parse::<HostPort>() {
            Err(error) => without_effect.push(format!("mail: {error}")),
            Ok(HostPort { host, port: None }) => {
                without_effect.push(format!("mail: `{host}` names no port; write e.g. `{host}:587`"));
            }
            Ok(relay) if !manifest.capabilities.mail.iter().any(|request| asks_for_relay(request, &relay)) => {
                without_effect.push(format!("mail: the manifest does not ask for `{relay}`"));
            }
            // No reader of manifests lets it through: a repeat of a mail is a second mail.
            Ok(relay) if manifest.idempotent => {
                without_effect.push(format!("mail: `{relay}` is only for a plugin that says `idempotent = false`"));
            }
            Ok(relay) => relays.push(relay),
        }
    }
    relays
}

/// Whether a manifest's request covers a relay; one without a port covers every port.
fn asks_for_relay(request: &MailRequest, relay: &HostPort) -> bool {
    match request.host.split_once(':') {
        Some((host, port)) => covers(host, &relay.host) && relay.port.is_some_and(|named| named.to_string() == port),
        None => covers(&request.host, &relay.host),
    }
}

/// What is in a granted range and in one of the host's.
fn networks(grants: &Grants, ceiling: &Limits, without_effect: &mut Vec<String>) -> Vec<Network> {
    let mut common = Vec::new();
    for text in &grants.networks {
        let granted = match text.parse::<Network>() {
            Ok(granted) => granted,
            Err(error) => {
                without_effect.push(format!("networks: {error}"));
                continue;
            }
        };
        let before = common.len();
        for allowed in &ceiling.networks {
            // Of two ranges one covers the other, or they have nothing in common.
            if allowed.covers(&granted) {
                common.push(granted);
            } else if granted.covers(allowed) {
                common.push(*allowed);
            }
        }
        if common.len() == before {
            without_effect.push(format!("networks: the server was not started with --allow-network for `{granted}`"));
        }
    }
    common.sort();
    common.dedup();
    common
}

fn secret_rules(
    manifest: &Manifest,
    grants: &Grants,
    without_effect: &mut Vec<String>,
) -> BTreeMap<String, Vec<HostPort>> {
    let mut rules = BTreeMap::new();
    for (name, granted) in &grants.secrets {
        let Some(request) = manifest.capabilities.secrets.iter().find(|request| request.name == *name) else {
            without_effect.push(format!("secrets: the manifest does not ask for `{name}`"));
            continue;
        };
        let mut hosts = Vec::new();
        for host in granted {
            match host.parse::<HostPort>() {
                Ok(host) if request.hosts.iter().any(|pattern| covers(pattern, &host.host)) => hosts.push(host),
                Ok(host) => without_effect.push(format!("secrets: the manifest does not send `{name}` to `{host}`")),
                Err(error) => without_effect.push(format!("secrets: {error}")),
            }
        }
        rules.insert(name.clone(), hosts);
    }
    rules
}

fn recipient_types(manifest: &Manifest, grants: &Grants, without_effect: &mut Vec<String>) -> Vec<String> {
    let mut asked: Vec<String> = manifest.capabilities.recipients.iter().map(|asked| asked.kind.clone()).collect();
    asked.sort();
    asked.dedup();
    let asks_for_any = asked.iter().any(|kind| kind == ANY_RECIPIENT);
    let Some(granted) = &grants.recipients else { return asked };
    if granted.iter().any(|kind| kind == ANY_RECIPIENT) {
        return asked;
    }
    let mut allowed = Vec::new();
    for kind in granted {
        if asks_for_any || asked.contains(kind) {
            allowed.push(kind.clone());
        } else {
            without_effect.push(format!("recipients: the manifest does not ask for `{kind}`"));
        }
    }
    allowed.sort();
    allowed.dedup();
    allowed
}

/// Why purposes that are granted have no effect. A manifest that names none carries every one.
fn purposes_in_vain(manifest: &Manifest, grants: &Grants) -> Vec<String> {
    let granted = grants.purposes.iter().flatten();
    let in_vain = granted.filter(|name| manifest.capabilities.purposes.as_ref().is_some_and(|all| !all.contains(name)));
    in_vain.map(|name| format!("purposes: the manifest does not name `{name}`")).collect()
}

#[cfg(test)]
mod tests {
    use kith_model::plugin::RecipientRequest;

    use super::*;

    #[test]
    fn a_grant_may_name_fewer_methods_than_the_manifest_and_no_more() {
        let mut manifest = crate::parse_manifest(crate::guests::CONNECTOR).unwrap();
        manifest.capabilities.http[0].methods = ["GET", "POST"].map(str::to_owned).to_vec();
        let rules = |granted: &[&str]| {
            let http = granted.iter().map(|text| (*text).to_owned()).collect();
            let policy = effective_policy(&manifest, &Grants { http, ..Grants::default() }, &Limits::default());
            let rules = policy.http.iter().map(|rule| format!("{} {}", rule.methods.join(","), rule.host));
            (rules.collect::<Vec<_>>(), policy.without_effect)
        };
        let cases: [(&[&str], &[&str]); 4] = [
            (&["a.example"], &["GET,POST a.example"]),
            (&["GET a.example:8443"], &["GET a.example:8443"]),
            (&["GET,PUT a.example"], &["GET a.example"]),
            (&["POST a.example", "GET a.example", "GET b.example"], &["GET,POST a.example", "GET b.example"]),
        ];
        for (granted, expected) in cases {
            let (rules, in_vain) = rules(granted);
            assert_eq!(rules, expected, "{granted:?}");
            assert!(in_vain.is_empty(), "{in_vain:?}");
        }
        let (nothing, in_vain) = rules(&["PUT a.example"]);
        assert!(nothing.is_empty() && in_vain[0].contains("other methods than `PUT a.example`"), "{in_vain:?}");
        for bad in ["get a.example", "GET, a.example", "GET  a.example", "SEND a.example", " a.example"] {
            assert!(bad.parse::<GrantedHost>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_limit_that_is_granted_above_the_servers_is_told() {
        let manifest = crate::parse_manifest(crate::guests::CHANNEL).unwrap();
        let limits = LimitRequest {
            cpu_ms: Some(999_999_999),
            wall_ms: Some(5),
            messages_at_once: Some(MAX_SENDING),
            ..LimitRequest::default()
        };
        let policy = effective_policy(&manifest, &Grants { limits, ..Grants::default() }, &Limits::default());
        assert_eq!(policy.without_effect, ["limits: `cpu_ms` of 999999999 is above the server's 2000"]);
    }

    #[test]
    fn state_that_is_granted_and_not_asked_for_is_told() {
        let mut manifest = crate::parse_manifest(crate::guests::CHANNEL).unwrap();
        let grants = Grants { kv_bytes: 200, ..Grants::default() };
        for (asked, in_vain) in [(0, &["kv_bytes: the manifest asks for no state"][..]), (100, &[])] {
            manifest.capabilities.kv_bytes = asked;
            let policy = effective_policy(&manifest, &grants, &Limits::default());
            assert_eq!(policy.kv_bytes.value, asked);
            assert_eq!(policy.without_effect, in_vain);
        }
    }

    #[test]
    fn hosts_are_plain_names_and_plain_addresses() {
        for good in
            ["api.example.com", "api.example.com:8443", "127.0.0.1:80", "[::1]:80", "localhost:8080", "API.Example.com"]
        {
            assert!(good.parse::<HostPort>().is_ok(), "{good}");
        }
        let bad = [
            "",
            "https://a.b",
            "a.b/c",
            "*.a.b",
            "*",
            "a.b.",
            "a..b",
            "2130706433",
            "0x7f000001",
            "0177.0.0.1",
            "127.1",
            "a.b:0",
            "a.b:",
            "a.b:99999",
            "a.b:+1",
            "user@a.b",
            "a b",
            "a\\b",
            "ä.de",
            "[::1",
            "::1",
            "1.2.3.4.5",
        ];
        for bad in bad {
            assert!(bad.parse::<HostPort>().is_err(), "{bad}");
        }
    }

    #[test]
    fn patterns_cover_only_what_they_say() {
        assert!(covers("*", "a.b") && covers("a.b", "a.b") && covers("*.a.b", "x.a.b") && covers("*.a.b", "y.x.a.b"));
        assert!(
            !covers("*.a.b", "a.b") && !covers("*.a.b", "xa.b") && !covers("a.b", "x.a.b") && !covers("*.a.b", ".a.b")
        );
    }

    #[test]
    fn a_channel_is_given_what_is_both_asked_for_and_granted() {
        type Kinds = &'static [&'static str];
        let cases: [(Kinds, Option<Kinds>, Kinds, usize); 8] = [
            (&["email", "user_id"], None, &["email", "user_id"], 0),
            (&["email", "user_id"], Some(&["email"]), &["email"], 0),
            (&["email"], Some(&["email", "phone"]), &["email"], 1),
            (&["email"], Some(&[]), &[], 0),
            (&["email"], Some(&["*"]), &["email"], 0),
            (&["*"], None, &["*"], 0),
            (&["*"], Some(&["phone", "email"]), &["email", "phone"], 0),
            (&[], Some(&["email"]), &[], 1),
        ];
        for (asked, granted, expected, without_effect) in cases {
            let mut manifest = crate::parse_manifest(crate::guests::CONNECTOR).unwrap();
            let request = |kind: &&str| RecipientRequest { kind: (*kind).to_owned(), reason: "to test".into() };
            manifest.capabilities.recipients = asked.iter().map(request).collect();
            let recipients = granted.map(|granted| granted.iter().map(|kind| (*kind).to_owned()).collect());
            let grants = Grants { recipients, ..Grants::default() };
            let policy = effective_policy(&manifest, &grants, &Limits::default());
            assert_eq!(policy.recipients, expected, "{asked:?} {granted:?}");
            let is_any = expected == ["*"];
            assert_eq!(policy.recipient_types().is_none(), is_any, "the gate and the guest's message go by one list");
            assert_eq!(policy.may_receive("loyalty_card"), is_any);
            assert_eq!(policy.without_effect.len(), without_effect, "{:?}", policy.without_effect);
        }
    }

    #[test]
    fn a_channel_sends_as_much_as_manifest_grant_and_host_all_allow() {
        let mut manifest = crate::parse_manifest(crate::guests::CHANNEL).unwrap();
        manifest.limits = LimitRequest { messages_at_once: Some(40), requests_per_host: Some(9), ..Default::default() };
        let limits = LimitRequest { requests_per_host: Some(3), ..LimitRequest::default() };
        let grants = Grants { limits, ..Grants::default() };
        let ceiling = Limits { messages_at_once: 50, requests_per_host: 8, ..Limits::default() };
        let policy = effective_policy(&manifest, &grants, &ceiling);
        assert_eq!(policy.messages_at_once, EffectiveLimit { value: 40, source: LimitSource::Manifest });
        assert_eq!(policy.requests_per_host, EffectiveLimit { value: 3, source: LimitSource::Grant });
        assert_eq!(policy.sending(), SendingLimits { messages_at_once: 40, requests_per_host: 3 });
        let nothing = effective_policy(&manifest, &grants, &Limits { messages_at_once: 0, ..ceiling });
        assert_eq!(nothing.sending().messages_at_once, 1, "a channel that is live sends");
    }

    #[test]
    fn a_private_range_is_reached_where_host_and_grant_both_name_it() {
        let manifest = crate::parse_manifest(crate::guests::CHANNEL).unwrap();
        let ceiling = |ranges: &[&str]| Limits {
            networks: ranges.iter().map(|range| range.parse().unwrap()).collect(),
            ..Limits::default()
        };
        type Ranges = &'static [&'static str];
        let cases: [(Ranges, Ranges, Ranges, usize); 7] = [
            (&["10.0.0.0/8"], &["10.1.0.0/16"], &["10.1.0.0/16"], 0),
            (&["10.1.0.0/16", "10.2.0.0/16"], &["10.0.0.0/8"], &["10.1.0.0/16", "10.2.0.0/16"], 0),
            (&["10.0.0.0/8"], &[], &[], 0),
            (&[], &["10.1.0.0/16"], &[], 1),
            (&["192.168.0.0/16"], &["10.1.0.0/16"], &[], 1),
            (&["10.0.0.0/8"], &["nonsense"], &[], 1),
            (&["fd00::/8"], &["fd12::/32", "10.0.0.0/8"], &["fd12::/32"], 1),
        ];
        for (host, granted, expected, without_effect) in cases {
            let networks = granted.iter().map(|range| (*range).to_owned()).collect();
            let policy = effective_policy(&manifest, &Grants { networks, ..Grants::default() }, &ceiling(host));
            let shown: Vec<String> = policy.networks.iter().map(Network::to_string).collect();
            assert_eq!(shown, expected, "{host:?} {granted:?}");
            assert_eq!(policy.without_effect.len(), without_effect, "{:?}", policy.without_effect);
        }
    }

    #[test]
    fn the_smallest_number_wins_and_is_named() {
        assert_eq!(lowest(9, Some(5), Some(7)), EffectiveLimit { value: 5, source: LimitSource::Manifest });
        assert_eq!(lowest(9, Some(7), Some(5)), EffectiveLimit { value: 5, source: LimitSource::Grant });
        assert_eq!(lowest(9, Some(70), None), EffectiveLimit { value: 9, source: LimitSource::Host });
    }
}
