//! Responsible for showing a policy item by item: what the manifest asks for and why, what the grant gives, where the host's
//! ceiling is, what comes of it, and which of the three decided. What comes of it is read from the [`Policy`] that is in
//! force, so that nothing is shown that does not hold.

use kith_model::network::Network;
use kith_model::plugin::{Grants, HttpRequest, LimitRequest, MailRequest, Manifest, PluginKind};
use kith_model::sending::MAX_SENDING;
use serde::Serialize;

use super::{
    ANY_RECIPIENT, EffectiveLimit, GrantedHost, HostPort, LimitSource, Limits, Policy, asks_for_relay, covers,
    effective_policy, events,
};

/// The name of the item of a channel whose manifest names no purposes.
const EVERY_PURPOSE: &str = "*";

/// The name of the item that is the label of `[training]`, which stands behind the columns.
pub const LABEL_ITEM: &str = "[training].label";

/// What an item is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ItemKind {
    /// A host that may be reached, with the methods and the port.
    Http,
    /// A relay that mail may be handed to.
    Mail,
    /// A private range that hosts may be in.
    Network,
    /// A secret, and the hosts that it may be sent to.
    Secret,
    /// Bytes of state of its own.
    Kv,
    /// A name of the `track` events that may be emitted.
    Event,
    /// A column that is seen of a person.
    Input,
    /// A type of a person's identifiers.
    Recipient,
    /// A purpose that messages are carried for.
    Purpose,
    /// Something that the data dictionary calls sensitive.
    Sensitive,
    /// Whether consent is agreed to, and not only refused.
    Consent,
    /// A limit of a call, or of how much is sent at once.
    Limit,
}

impl ItemKind {
    /// As the API writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            ItemKind::Http => "http",
            ItemKind::Mail => "mail",
            ItemKind::Network => "network",
            ItemKind::Secret => "secret",
            ItemKind::Kv => "kv",
            ItemKind::Event => "event",
            ItemKind::Input => "input",
            ItemKind::Recipient => "recipient",
            ItemKind::Purpose => "purpose",
            ItemKind::Sensitive => "sensitive",
            ItemKind::Consent => "consent",
            ItemKind::Limit => "limit",
        }
    }
}

/// What one side says of an item.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Side {
    Count(u64),
    /// None of them where it is empty.
    Names(Vec<String>),
}

/// One item of a policy. A side that is absent says nothing of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PolicyItem {
    pub kind: ItemKind,
    /// What the item is of its kind, e.g. `api.example.com`.
    pub name: String,
    /// Why the plugin needs it, in its manifest's words.
    pub reason: Option<String>,
    pub asked: Option<Side>,
    pub granted: Option<Side>,
    pub ceiling: Option<Side>,
    /// What holds. Absent where nothing does: a secret that may not be used, fuel that is not counted.
    pub effective: Option<Side>,
    /// Whose word it is. Where sides say the same it is the last of them, in the order of manifest, grant and host.
    pub decided_by: LimitSource,
}

/// Something sensitive that a plugin's inputs see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenSensitive {
    /// As a grant names it, e.g. `traits.salary`.
    pub name: String,
    /// The columns that see it.
    pub inputs: Vec<String>,
}

/// All items of an installation's policy, in the order of [`ItemKind`]. `sensitive` is what its inputs see of what the data
/// dictionary calls so.
pub fn policy_items(
    manifest: &Manifest,
    grants: &Grants,
    ceiling: &Limits,
    sensitive: &[SeenSensitive],
) -> Vec<PolicyItem> {
    let policy = effective_policy(manifest, grants, ceiling);
    let of = Sides { manifest, grants, ceiling, policy: &policy };
    let mut items = of.http();
    items.extend(of.mail());
    items.extend(of.networks());
    items.extend(of.secrets());
    items.extend(of.state());
    items.extend(events::items(manifest, grants, &policy));
    items.extend(of.inputs());
    items.extend(of.recipients());
    items.extend(of.purposes());
    items.extend(of.sensitive(sensitive));
    items.extend(of.consent());
    items.extend(of.limits());
    items
}

/// The three sides of a policy, and what comes of them.
struct Sides<'a> {
    manifest: &'a Manifest,
    grants: &'a Grants,
    ceiling: &'a Limits,
    policy: &'a Policy,
}

impl Sides<'_> {
    /// A host that is granted, with what the manifest asks for of it; then what it asks for and no grant gives.
    fn http(&self) -> Vec<PolicyItem> {
        let requests = &self.manifest.capabilities.http;
        let asks_for = |request: &HttpRequest, host: &HostPort| covers(&request.host, &host.host);
        let granted: Vec<(&String, Option<GrantedHost>)> =
            self.grants.http.iter().map(|text| (text, text.parse().ok())).collect();
        let item = |name: &str, asked: &[&HttpRequest], granted: Vec<String>, effective, decided_by| PolicyItem {
            reason: joined(asked.iter().map(|request| request.reason.as_str())),
            asked: (!asked.is_empty()).then(|| Side::Names(asked.iter().flat_map(|request| calls(request)).collect())),
            granted: Some(Side::Names(granted)),
            effective: Some(Side::Names(effective)),
            ..PolicyItem::bare(ItemKind::Http, name, decided_by)
        };
        let mut items = Vec::new();
        for (text, granted) in &granted {
            let asked: Vec<&HttpRequest> = requests
                .iter()
                .filter(|request| granted.as_ref().is_some_and(|granted| asks_for(request, &granted.host)))
                .collect();
            let effective = granted.as_ref().map(|granted| self.calls_of(granted)).unwrap_or_default();
            let decided_by = if effective.is_empty() { LimitSource::Manifest } else { LimitSource::Grant };
            items.push(item(text, &asked, vec![(*text).clone()], effective, decided_by));
        }
        let is_granted = |request: &HttpRequest| {
            granted.iter().any(|(_, of)| of.as_ref().is_some_and(|granted| asks_for(request, &granted.host)))
        };
        let missing = requests.iter().filter(|request| !is_granted(request));
        items
            .extend(missing.map(|request| item(&request.host, &[request], Vec::new(), Vec::new(), LimitSource::Grant)));
        items
    }

    /// What a grant of a host lets out, of what the manifest asks for.
    fn calls_of(&self, granted: &GrantedHost) -> Vec<String> {
        let rules = self.policy.http.iter().filter(|rule| rule.host == granted.host);
        let methods = rules.flat_map(|rule| &rule.methods).filter(|method| granted.allows(method));
        let host = HostPort { port: Some(granted.host.port.unwrap_or(443)), ..granted.host.clone() };
        methods.map(|method| format!("{method} {host}")).collect()
    }

    /// A relay that is granted; then those that are asked for and no grant gives.
    fn mail(&self) -> Vec<PolicyItem> {
        let requests = &self.manifest.capabilities.mail;
        let item = |name: &str, asked: &[&MailRequest], granted: Vec<String>, effective, decided_by| PolicyItem {
            reason: joined(asked.iter().map(|request| request.reason.as_str())),
            asked: (!asked.is_empty()).then(|| Side::Names(asked.iter().map(|request| request.host.clone()).collect())),
            granted: Some(Side::Names(granted)),
            effective: Some(Side::Names(effective)),
            ..PolicyItem::bare(ItemKind::Mail, name, decided_by)
        };
        let granted: Vec<(&String, Option<HostPort>)> =
            self.grants.mail.iter().map(|text| (text, text.parse().ok())).collect();
        let asks_for = |request: &MailRequest, relay: &Option<HostPort>| {
            relay.as_ref().is_some_and(|relay| asks_for_relay(request, relay))
        };
        let mut items = Vec::new();
        for (text, relay) in &granted {
            let asked: Vec<&MailRequest> = requests.iter().filter(|request| asks_for(request, relay)).collect();
            let effective = self.policy.mail.iter().filter(|rule| Some(*rule) == relay.as_ref());
            let effective: Vec<String> = effective.map(HostPort::to_string).collect();
            let decided_by = if effective.is_empty() { LimitSource::Manifest } else { LimitSource::Grant };
            items.push(item(text, &asked, vec![(*text).clone()], effective, decided_by));
        }
        let is_granted = |request: &&MailRequest| granted.iter().any(|(_, relay)| asks_for(request, relay));
        let missing = requests.iter().filter(|request| !is_granted(request));
        items
            .extend(missing.map(|request| item(&request.host, &[request], Vec::new(), Vec::new(), LimitSource::Grant)));
        items
    }

    /// A range that is granted; of who asks for hosts and is granted none, those that the host would let it have.
    fn networks(&self) -> Vec<PolicyItem> {
        let names = |all: &[Network]| Side::Names(all.iter().map(Network::to_string).collect());
        let ceiling = || Some(names(&self.ceiling.networks));
        if self.grants.networks.is_empty() && self.asks_for_hosts() {
            let decided_by = if self.ceiling.networks.is_empty() { LimitSource::Host } else { LimitSource::Grant };
            return vec![PolicyItem {
                granted: Some(Side::Names(Vec::new())),
                ceiling: ceiling(),
                effective: Some(Side::Names(Vec::new())),
                ..PolicyItem::bare(ItemKind::Network, "private ranges", decided_by)
            }];
        }
        let item = |text: &String| {
            let granted = text.parse::<Network>().ok();
            let within = |network: &&Network| granted.is_some_and(|granted| granted.covers(network));
            let common: Vec<Network> = self.policy.networks.iter().filter(within).copied().collect();
            let is_whole = granted.is_some_and(|granted| common.contains(&granted));
            let decided_by = if is_whole { LimitSource::Grant } else { LimitSource::Host };
            PolicyItem {
                granted: Some(Side::Names(vec![text.clone()])),
                ceiling: ceiling(),
                effective: Some(names(&common)),
                ..PolicyItem::bare(ItemKind::Network, text, decided_by)
            }
        };
        self.grants.networks.iter().map(item).collect()
    }

    fn asks_for_hosts(&self) -> bool {
        let capabilities = &self.manifest.capabilities;
        !capabilities.http.is_empty() || !capabilities.mail.is_empty()
    }

    fn secrets(&self) -> Vec<PolicyItem> {
        let requests = &self.manifest.capabilities.secrets;
        let asked = requests.iter().map(|request| {
            let granted = self.grants.secrets.get(&request.name);
            let effective: Option<Vec<String>> =
                (self.policy.secrets.get(&request.name)).map(|hosts| hosts.iter().map(HostPort::to_string).collect());
            // What the grant names and the manifest does not ask for is left out.
            let is_cut = granted.is_some_and(|granted| effective.iter().any(|hosts| hosts.len() < granted.len()));
            PolicyItem {
                reason: joined([request.reason.as_str()]),
                asked: Some(Side::Names(request.hosts.clone())),
                granted: granted.cloned().map(Side::Names),
                effective: effective.map(Side::Names),
                ..PolicyItem::bare(
                    ItemKind::Secret,
                    &request.name,
                    if is_cut { LimitSource::Manifest } else { LimitSource::Grant },
                )
            }
        });
        let is_asked = |name: &String| requests.iter().any(|request| request.name == *name);
        let others = self.grants.secrets.iter().filter(|(name, _)| !is_asked(name)).map(|(name, hosts)| PolicyItem {
            granted: Some(Side::Names(hosts.clone())),
            ..PolicyItem::bare(ItemKind::Secret, name, LimitSource::Manifest)
        });
        asked.chain(others).collect()
    }

    fn state(&self) -> Option<PolicyItem> {
        let capabilities = &self.manifest.capabilities;
        let (asked, granted) = (capabilities.kv_bytes, self.grants.kv_bytes);
        let EffectiveLimit { value, source } = self.policy.kv_bytes;
        (asked > 0 || granted > 0).then(|| PolicyItem {
            reason: joined([capabilities.kv_reason.as_str()]),
            asked: Some(Side::Count(asked)),
            granted: Some(Side::Count(granted)),
            ceiling: Some(Side::Count(self.ceiling.kv_bytes)),
            effective: Some(Side::Count(value)),
            ..PolicyItem::bare(ItemKind::Kv, "kv_bytes", source)
        })
    }

    fn inputs(&self) -> Vec<PolicyItem> {
        let inputs = self.manifest.inputs.iter();
        let inputs = inputs
            .map(|input| PolicyItem::as_asked(ItemKind::Input, &input.name, Some(&input.reason), &input.expression));
        let training = self.manifest.training.iter();
        let label = training.map(|training| PolicyItem::as_asked(ItemKind::Input, LABEL_ITEM, None, &training.label));
        inputs.chain(label).collect()
    }

    fn recipients(&self) -> Vec<PolicyItem> {
        let (requests, granted) = (&self.manifest.capabilities.recipients, self.grants.recipients.as_deref());
        let gives_any = |granted: &[String]| granted.iter().any(|kind| kind == ANY_RECIPIENT);
        let mut items: Vec<PolicyItem> = Vec::new();
        for request in requests {
            let is_of = |kind: &&String| request.kind == ANY_RECIPIENT || **kind == request.kind;
            let given = |granted: &[String]| match gives_any(granted) {
                true => vec![request.kind.clone()],
                false => granted.iter().filter(is_of).cloned().collect(),
            };
            // A grant that names none, or any, leaves it to the manifest.
            let is_narrowed = granted.is_some_and(|granted| !gives_any(granted));
            let decided_by = if is_narrowed { LimitSource::Grant } else { LimitSource::Manifest };
            items.push(PolicyItem {
                reason: joined([request.reason.as_str()]),
                asked: Some(Side::Names(vec![request.kind.clone()])),
                granted: granted.map(|granted| Side::Names(given(granted))),
                effective: Some(Side::Names(self.policy.recipients.iter().filter(is_of).cloned().collect())),
                ..PolicyItem::bare(ItemKind::Recipient, &request.kind, decided_by)
            });
        }
        let is_asked =
            |kind: &String| requests.iter().any(|request| request.kind == ANY_RECIPIENT || request.kind == *kind);
        let others = granted.unwrap_or_default().iter().filter(|kind| *kind != ANY_RECIPIENT && !is_asked(kind));
        items.extend(others.map(|kind| PolicyItem::in_vain(ItemKind::Recipient, kind)));
        items
    }

    /// Each purpose that the manifest names, or one item for every purpose where it names none; then those that are
    /// granted in vain.
    fn purposes(&self) -> Vec<PolicyItem> {
        if self.manifest.kind != PluginKind::Channel {
            return Vec::new();
        }
        let granted = self.grants.purposes.as_deref();
        let decided_by = if granted.is_some() { LimitSource::Grant } else { LimitSource::Manifest };
        let Some(asked) = &self.manifest.capabilities.purposes else {
            let every = || vec![EVERY_PURPOSE.to_owned()];
            return vec![PolicyItem {
                asked: Some(Side::Names(every())),
                granted: granted.map(|granted| Side::Names(granted.to_vec())),
                effective: Some(Side::Names(self.policy.purposes.names().map_or_else(every, <[String]>::to_vec))),
                ..PolicyItem::bare(ItemKind::Purpose, EVERY_PURPOSE, decided_by)
            }];
        };
        let named = |name: &String, holds: bool| Side::Names(holds.then(|| name.clone()).into_iter().collect());
        let of_manifest = asked.iter().map(|name| PolicyItem {
            asked: Some(named(name, true)),
            granted: granted.map(|granted| named(name, granted.contains(name))),
            effective: Some(named(name, self.policy.purposes.carries(name))),
            ..PolicyItem::bare(ItemKind::Purpose, name, decided_by)
        });
        let others = granted.unwrap_or_default().iter().filter(|name| !asked.contains(name));
        of_manifest.chain(others.map(|name| PolicyItem::in_vain(ItemKind::Purpose, name))).collect()
    }

    fn sensitive(&self, seen: &[SeenSensitive]) -> Vec<PolicyItem> {
        let granted = &self.grants.sensitive;
        let of_seen = seen.iter().map(|seen| {
            let readers = self.manifest.inputs.iter().filter(|input| seen.inputs.contains(&input.name));
            let given: Vec<String> = granted.iter().filter(|name| **name == seen.name).cloned().collect();
            PolicyItem {
                reason: joined(readers.map(|input| input.reason.as_str())),
                asked: Some(Side::Names(seen.inputs.clone())),
                granted: Some(Side::Names(given.clone())),
                effective: Some(Side::Names(given)),
                ..PolicyItem::bare(ItemKind::Sensitive, &seen.name, LimitSource::Grant)
            }
        });
        let others = granted.iter().filter(|name| !seen.iter().any(|seen| seen.name == **name));
        of_seen.chain(others.map(|name| PolicyItem::in_vain(ItemKind::Sensitive, name))).collect()
    }

    /// Nothing in a manifest asks for it: who sends through a source is the admin's to know.
    fn consent(&self) -> Option<PolicyItem> {
        let given = || match self.grants.consent {
            Some(_) => Some(Side::Names(vec!["give".to_owned()])),
            None => Some(Side::Names(Vec::new())),
        };
        (self.manifest.kind == PluginKind::Connector).then(|| PolicyItem {
            granted: given(),
            effective: given(),
            ..PolicyItem::bare(ItemKind::Consent, "consent", LimitSource::Grant)
        })
    }

    fn limits(&self) -> Vec<PolicyItem> {
        let (policy, ceiling) = (self.policy, self.ceiling);
        let limit = |name, ceiling: u64, effective: EffectiveLimit, read: fn(&LimitRequest) -> Option<u64>| {
            let asked = |limits: &LimitRequest| read(limits).map(Side::Count);
            PolicyItem {
                asked: asked(&self.manifest.limits),
                granted: asked(&self.grants.limits),
                ceiling: Some(Side::Count(ceiling)),
                effective: Some(Side::Count(effective.value)),
                ..PolicyItem::bare(ItemKind::Limit, name, effective.source)
            }
        };
        let mut items = vec![
            limit("memory_bytes", ceiling.memory_bytes, policy.memory_bytes, |limits| limits.memory_bytes),
            limit("cpu_ms", ceiling.cpu_ms, policy.cpu_ms, |limits| limits.cpu_ms),
            limit("wall_ms", ceiling.wall_ms, policy.wall_ms, |limits| limits.wall_ms),
            limit("output_bytes", ceiling.output_bytes, policy.output_bytes, |limits| limits.output_bytes),
            limit("log_bytes", ceiling.log_bytes, policy.log_bytes, |limits| limits.log_bytes),
            limit("host_calls", ceiling.host_calls, policy.host_calls, |limits| limits.host_calls),
            PolicyItem {
                asked: self.manifest.limits.fuel.map(Side::Count),
                granted: self.grants.limits.fuel.map(Side::Count),
                effective: policy.fuel.map(|fuel| Side::Count(fuel.value)),
                ..PolicyItem::bare(ItemKind::Limit, "fuel", policy.fuel.map_or(LimitSource::Host, |fuel| fuel.source))
            },
        ];
        let per_minute =
            limit("requests_per_minute", ceiling.requests_per_minute, policy.requests_per_minute, |limits| {
                limits.requests_per_minute
            });
        match self.manifest.kind {
            PluginKind::TagModel | PluginKind::Scorer => items.extend([
                limit("fit_cpu_ms", ceiling.fit_cpu_ms, policy.fit_cpu_ms, |_| None),
                limit("fit_wall_ms", ceiling.fit_wall_ms, policy.fit_wall_ms, |_| None),
            ]),
            PluginKind::Connector => items.push(per_minute),
            PluginKind::Channel => {
                let at_most = |limit: u64| limit.min(MAX_SENDING);
                let (messages, requests) = (at_most(ceiling.messages_at_once), at_most(ceiling.requests_per_host));
                items.extend([
                    limit("messages_at_once", messages, policy.messages_at_once, |limits| limits.messages_at_once),
                    limit("requests_per_host", requests, policy.requests_per_host, |limits| limits.requests_per_host),
                    per_minute,
                ]);
            }
        }
        items
    }
}

impl PolicyItem {
    /// An item of which nobody says anything.
    pub(super) fn bare(kind: ItemKind, name: &str, decided_by: LimitSource) -> PolicyItem {
        PolicyItem {
            kind,
            name: name.to_owned(),
            reason: None,
            asked: None,
            granted: None,
            ceiling: None,
            effective: None,
            decided_by,
        }
    }

    /// An item of which no grant says anything: it is as the manifest has it.
    fn as_asked(kind: ItemKind, name: &str, reason: Option<&str>, asked: &str) -> PolicyItem {
        let asked = || Some(Side::Names(vec![asked.to_owned()]));
        PolicyItem {
            reason: joined(reason),
            asked: asked(),
            effective: asked(),
            ..PolicyItem::bare(kind, name, LimitSource::Manifest)
        }
    }

    /// An item that is granted and that the manifest does not ask for.
    pub(super) fn in_vain(kind: ItemKind, name: &str) -> PolicyItem {
        PolicyItem {
            granted: Some(Side::Names(vec![name.to_owned()])),
            effective: Some(Side::Names(Vec::new())),
            ..PolicyItem::bare(kind, name, LimitSource::Manifest)
        }
    }
}

/// What a manifest asks for of a host, e.g. `POST *.example.com`.
fn calls(request: &HttpRequest) -> impl Iterator<Item = String> {
    request.methods.iter().map(|method| format!("{method} {}", request.host))
}

/// Different reasons as one text.
fn joined<'r>(reasons: impl IntoIterator<Item = &'r str>) -> Option<String> {
    let mut different: Vec<&str> = Vec::new();
    for reason in reasons {
        if !reason.is_empty() && !different.contains(&reason) {
            different.push(reason);
        }
    }
    (!different.is_empty()).then(|| different.join("; "))
}

#[cfg(test)]
mod tests {
    use kith_model::plugin::{ConsentGrant, InputSpec, Training};
    use kith_model::table::ColumnType;

    use super::*;

    /// An item's name with what holds and who decided, for a kind.
    fn shown(items: &[PolicyItem], kind: ItemKind) -> Vec<(&str, Option<&Side>, LimitSource)> {
        let of_kind = items.iter().filter(|item| item.kind == kind);
        of_kind.map(|item| (item.name.as_str(), item.effective.as_ref(), item.decided_by)).collect()
    }

    fn names(names: &[&str]) -> Side {
        Side::Names(names.iter().map(|name| (*name).to_owned()).collect())
    }

    fn texts(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn each_item_says_who_asked_who_gave_and_who_decided() {
        let mut manifest = crate::parse_manifest(crate::guests::CONNECTOR).unwrap();
        manifest.capabilities.http = [("*.a.example", "to write"), ("b.example", "to read")]
            .map(|(host, reason)| HttpRequest {
                host: host.to_owned(),
                methods: vec!["POST".to_owned()],
                reason: reason.to_owned(),
            })
            .to_vec();
        (manifest.capabilities.kv_bytes, manifest.capabilities.kv_reason) = (1_000, "to remember".to_owned());
        manifest.limits.cpu_ms = Some(7);
        let grants = Grants {
            http: texts(&["x.a.example:8443", "c.example"]),
            networks: texts(&["10.0.0.0/8", "10.1.2.0/24", "192.168.0.0/16"]),
            secrets: [("signing".to_owned(), texts(&["x.a.example"])), ("other".to_owned(), Vec::new())].into(),
            kv_bytes: 500,
            consent: Some(ConsentGrant::Give),
            ..Grants::default()
        };
        let ceiling = Limits { networks: vec!["10.1.0.0/16".parse().unwrap()], ..Limits::default() };
        let items = policy_items(&manifest, &grants, &ceiling, &[]);
        let (manifests, granted, hosts) = (LimitSource::Manifest, LimitSource::Grant, LimitSource::Host);
        assert_eq!(
            shown(&items, ItemKind::Http),
            [
                ("x.a.example:8443", Some(&names(&["POST x.a.example:8443"])), granted),
                ("c.example", Some(&names(&[])), manifests),
                ("b.example", Some(&names(&[])), granted),
            ]
        );
        let asked: Vec<_> = items.iter().filter(|item| item.kind == ItemKind::Http).map(|item| &item.asked).collect();
        assert_eq!(asked, [&Some(names(&["POST *.a.example"])), &None, &Some(names(&["POST b.example"]))]);
        assert_eq!(
            shown(&items, ItemKind::Network),
            [
                ("10.0.0.0/8", Some(&names(&["10.1.0.0/16", "10.1.2.0/24"])), hosts),
                ("10.1.2.0/24", Some(&names(&["10.1.2.0/24"])), granted),
                ("192.168.0.0/16", Some(&names(&[])), hosts),
            ]
        );
        assert_eq!(
            shown(&items, ItemKind::Secret),
            [("signing", Some(&names(&["x.a.example"])), granted), ("other", None, manifests)]
        );
        assert_eq!(shown(&items, ItemKind::Kv), [("kv_bytes", Some(&Side::Count(500)), granted)]);
        assert_eq!(shown(&items, ItemKind::Event), [("Tested", Some(&names(&["Tested"])), manifests)]);
        assert_eq!(shown(&items, ItemKind::Consent), [("consent", Some(&names(&["give"])), granted)]);
        let limits = shown(&items, ItemKind::Limit);
        assert!(limits.contains(&("cpu_ms", Some(&Side::Count(7)), manifests)), "{limits:?}");
        assert!(limits.contains(&("fuel", None, hosts)), "{limits:?}");
        let reasons: Vec<_> = items.iter().filter_map(|item| item.reason.as_deref()).collect();
        assert_eq!(reasons, ["to write", "to read", "to test", "to remember"]);
    }

    #[test]
    fn a_grant_of_fewer_methods_shows_those_that_are_left() {
        let mut manifest = connector();
        manifest.capabilities.http[0].methods = texts(&["GET", "POST"]);
        let grants = Grants { http: texts(&["GET a.example", "PUT b.example"]), ..Grants::default() };
        let items = policy_items(&manifest, &grants, &Limits::default(), &[]);
        assert_eq!(
            shown(&items, ItemKind::Http),
            [
                ("GET a.example", Some(&names(&["GET a.example:443"])), LimitSource::Grant),
                ("PUT b.example", Some(&names(&[])), LimitSource::Manifest),
            ]
        );
        assert_eq!(items[0].asked, Some(names(&["GET *", "POST *"])));
    }

    #[test]
    fn relays_are_granted_with_their_port_to_whoever_says_that_a_repeat_is_not_safe() {
        let mut manifest = crate::parse_manifest(crate::guests::CHANNEL).unwrap();
        manifest.idempotent = false;
        let request = |host: &str| MailRequest { host: host.to_owned(), reason: "to write".to_owned() };
        manifest.capabilities.mail = vec![request("*.a.example:587"), request("b.example")];
        let grants = Grants { mail: texts(&["x.a.example:587", "x.a.example:25", "x.a.example"]), ..Grants::default() };
        let items = |manifest: &Manifest| policy_items(manifest, &grants, &Limits::default(), &[]);
        let (manifests, granted) = (LimitSource::Manifest, LimitSource::Grant);
        assert_eq!(
            shown(&items(&manifest), ItemKind::Mail),
            [
                ("x.a.example:587", Some(&names(&["x.a.example:587"])), granted),
                ("x.a.example:25", Some(&names(&[])), manifests),
                ("x.a.example", Some(&names(&[])), manifests),
                ("b.example", Some(&names(&[])), granted),
            ]
        );
        let in_vain = effective_policy(&manifest, &grants, &Limits::default()).without_effect;
        assert!(in_vain[1].contains("names no port") && in_vain.len() == 2, "{in_vain:?}");
        manifest.idempotent = true;
        assert_eq!(effective_policy(&manifest, &grants, &Limits::default()).mail, []);
    }

    #[test]
    fn a_channel_carries_the_purposes_that_its_manifest_names_and_the_grant_leaves() {
        let mut manifest = crate::parse_manifest(crate::guests::CHANNEL).unwrap();
        let items = |manifest: &Manifest, granted: Option<&[&str]>| {
            let grants = Grants { purposes: granted.map(texts), ..Grants::default() };
            let in_vain = effective_policy(manifest, &grants, &Limits::default()).without_effect;
            (policy_items(manifest, &grants, &Limits::default(), &[]), in_vain)
        };
        let (manifests, granted) = (LimitSource::Manifest, LimitSource::Grant);
        for (narrowed, holds, by) in [
            (None, names(&["*"]), manifests),
            (Some(&["news"][..]), names(&["news"]), granted),
            (Some(&[][..]), names(&[]), granted),
        ] {
            let (items, in_vain) = items(&manifest, narrowed);
            assert_eq!(shown(&items, ItemKind::Purpose), [("*", Some(&holds), by)], "{narrowed:?}");
            assert_eq!(in_vain, [""; 0]);
        }
        manifest.capabilities.purposes = Some(texts(&["service", "news"]));
        let (all, none) = ([names(&["service"]), names(&["news"])], names(&[]));
        let (whole, _) = items(&manifest, None);
        assert_eq!(
            shown(&whole, ItemKind::Purpose),
            [("service", Some(&all[0]), manifests), ("news", Some(&all[1]), manifests)]
        );
        let (narrowed, in_vain) = items(&manifest, Some(&["news", "alarms"]));
        assert_eq!(
            shown(&narrowed, ItemKind::Purpose),
            [("service", Some(&none), granted), ("news", Some(&all[1]), granted), ("alarms", Some(&none), manifests)]
        );
        assert_eq!(in_vain, ["purposes: the manifest does not name `alarms`"]);
        assert!(
            shown(&policy_items(&connector(), &Grants::default(), &Limits::default(), &[]), ItemKind::Purpose)
                .is_empty()
        );
    }

    fn connector() -> Manifest {
        crate::parse_manifest(crate::guests::CONNECTOR).unwrap()
    }

    #[test]
    fn people_are_seen_as_the_manifest_asks_and_the_grant_allows() {
        let mut manifest = crate::parse_manifest(crate::guests::CHANNEL).unwrap();
        manifest.inputs = vec![InputSpec {
            name: "pay".to_owned(),
            expression: "traits.salary".to_owned(),
            column_type: ColumnType::Text,
            reason: "to greet".to_owned(),
        }];
        let seen = [SeenSensitive { name: "traits.salary".to_owned(), inputs: vec!["pay".to_owned()] }];
        let items = |recipients: Option<&[&str]>, sensitive: &[&str]| {
            let grants = Grants { recipients: recipients.map(texts), sensitive: texts(sensitive), ..Grants::default() };
            policy_items(&manifest, &grants, &Limits::default(), &seen)
        };
        type Kinds = &'static [&'static str];
        let (manifests, granted) = (LimitSource::Manifest, LimitSource::Grant);
        type Expected = (&'static str, Kinds, LimitSource);
        let cases: [(Option<Kinds>, [Expected; 2]); 3] = [
            (None, [("email", &["email"], manifests), ("phone", &["phone"], manifests)]),
            (Some(&["*"]), [("email", &["email"], manifests), ("phone", &["phone"], manifests)]),
            (Some(&["email"]), [("email", &["email"], granted), ("phone", &[], granted)]),
        ];
        for (recipients, expected) in cases {
            let items = items(recipients, &[]);
            let expected = expected.map(|(name, holds, by)| (name, names(holds), by));
            let expected: Vec<_> = expected.iter().map(|(name, holds, by)| (*name, Some(holds), *by)).collect();
            assert_eq!(shown(&items, ItemKind::Recipient), expected, "{recipients:?}");
        }
        let other = items(Some(&["fax"]), &["traits.salary", "traits.height"]);
        assert_eq!(shown(&other, ItemKind::Recipient)[2], ("fax", Some(&names(&[])), manifests));
        assert_eq!(
            shown(&other, ItemKind::Sensitive),
            [
                ("traits.salary", Some(&names(&["traits.salary"])), granted),
                ("traits.height", Some(&names(&[])), manifests),
            ]
        );
        assert_eq!(shown(&items(None, &[]), ItemKind::Sensitive), [("traits.salary", Some(&names(&[])), granted)]);
        let sees = names(&["traits.salary"]);
        assert_eq!(shown(&other, ItemKind::Input), [("pay", Some(&sees), manifests)]);
        let training = Training {
            label: "traits.salary".to_owned(),
            horizon_ms: 1,
            every_ms: 1,
            cut_offs: 1,
            predicts: String::new(),
            timeless: Vec::new(),
        };
        let learner = Manifest { training: Some(training), ..manifest.clone() };
        let learns = policy_items(&learner, &Grants::default(), &Limits::default(), &seen);
        let with_label = [("pay", Some(&sees), manifests), (LABEL_ITEM, Some(&sees), manifests)];
        assert_eq!(shown(&learns, ItemKind::Input), with_label, "what it learns from it sees, too");
        let private = shown(&other, ItemKind::Network);
        assert_eq!(private, [("private ranges", Some(&names(&[])), LimitSource::Host)]);
        assert_eq!(shown(&other, ItemKind::Limit).len(), 10, "with how much a channel sends at once");
    }
}
