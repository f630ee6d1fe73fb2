//! What a signature is worth: by whose key it is, whether that key is good and may sign for the plugin's vendor, and whether that
//! is enough for what a workspace and its host ask for. Nothing here asks anybody outside.

use std::fmt;
use std::str::FromStr;

use kith_model::plugin::PluginId;
use kith_model::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::{FormatError, Over, Prehash, PublicKey, Signature, Signed};
use crate::catalogue::publishers::{PublisherKeyRow, PublisherRow, Publishers, SignatureRow};

/// Which plugins are taken, the laxest first. Of two the stricter holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SignaturePolicy {
    /// Unsigned ones too; a signature that is there must not be forged nor of a revoked key.
    #[default]
    Any,
    /// What a publisher's namespaces cover must be signed by it; others are taken as under `any`.
    KnownPublisher,
    /// Only what a known publisher signed that may sign it.
    Required,
}

impl SignaturePolicy {
    /// All of them, the laxest first.
    pub const ALL: [SignaturePolicy; 3] =
        [SignaturePolicy::Any, SignaturePolicy::KnownPublisher, SignaturePolicy::Required];

    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            SignaturePolicy::Any => "any",
            SignaturePolicy::KnownPublisher => "known-publisher",
            SignaturePolicy::Required => "required",
        }
    }
}

impl fmt::Display for SignaturePolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for SignaturePolicy {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<SignaturePolicy, &'static str> {
        let found = SignaturePolicy::ALL.into_iter().find(|policy| policy.as_str() == text);
        found.ok_or("write `any`, `known-publisher` or `required`")
    }
}

/// How a signature stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SignatureState {
    /// There is none.
    Unsigned,
    Valid,
    /// No publisher here has the key that it names.
    UnknownKey,
    /// It is over the whole component and came before its key was known; to be checked, the version is uploaded again.
    Unchecked,
    /// A publisher has a key of that number, and it did not sign this.
    Forged,
    Revoked,
    /// It came when its key was valid no more.
    Expired,
    /// It came before its key was valid.
    NotYetValid,
    /// Its key is of a publisher that may not sign this plugin.
    OtherNamespace,
}

/// Who is known where something is judged.
#[derive(Debug, Clone, Copy)]
pub struct Known<'a> {
    /// The host's publishers: what their namespaces cover nobody else may sign.
    pub host: &'a Publishers,
    /// The workspace's own; `None` where the host's policy is judged, which a workspace's admin must not be able to satisfy alone.
    pub workspace: Option<&'a Publishers>,
}

impl<'a> Known<'a> {
    /// All publishers, the host's first.
    fn publishers(self) -> impl Iterator<Item = &'a PublisherRow> {
        self.host.values().chain(self.workspace.into_iter().flat_map(Publishers::values)).map(|row| &**row)
    }

    /// Each key of that number, with its publisher.
    fn keys(self, number: &str) -> impl Iterator<Item = (&'a PublisherRow, &'a PublisherKeyRow)> {
        self.publishers().filter_map(move |publisher| Some((publisher, publisher.key(number)?)))
    }

    /// Each revoked key that is the same one as `key`, under whatever number, with its publisher.
    fn revoked(self, key: PublicKey) -> impl Iterator<Item = (&'a PublisherRow, &'a PublisherKeyRow)> {
        let of_all = self.publishers().flat_map(|publisher| publisher.keys.iter().map(move |one| (publisher, one)));
        let revoked = of_all.filter(|(_, one)| one.revoked.is_some());
        revoked.filter(move |(_, one)| one.public().is_some_and(|public| public.is_same_key(&key)))
    }

    /// Those who may sign a plugin: the host's, where there is one, and else the workspace's.
    fn signers(self, plugin: &PluginId) -> Vec<&'a PublisherRow> {
        let of = |publishers: &'a Publishers| -> Vec<&'a PublisherRow> {
            publishers
                .values()
                .map(|row| &**row)
                .filter(|publisher: &&PublisherRow| publisher.may_sign(plugin))
                .collect()
        };
        let of_host = of(self.host);
        if of_host.is_empty() { self.workspace.map(of).unwrap_or_default() } else { of_host }
    }
}

/// What is to be said of a plugin version's signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judgement {
    pub state: SignatureState,
    /// Whose key signed it.
    pub publisher: Option<String>,
    /// The number of the key that it names.
    pub key: Option<String>,
    /// What the signer says of it, where the signature is by a key that is known.
    pub comment: Option<String>,
    /// What is wrong; nothing of one that is valid.
    pub problem: Option<String>,
    /// Who may sign the plugin.
    signers: Vec<String>,
}

impl Judgement {
    /// Whether no policy takes the version.
    pub fn is_never_taken(&self) -> bool {
        matches!(self.state, SignatureState::Forged | SignatureState::Revoked)
    }

    /// Why a policy does not take the version; `None` where it does.
    pub fn refusal(&self, policy: SignaturePolicy) -> Option<String> {
        let is_free = self.signers.is_empty();
        let is_taken = match (self.state, policy) {
            (SignatureState::Valid, _) => true,
            _ if self.is_never_taken() => false,
            (_, SignaturePolicy::Required) => false,
            (_, SignaturePolicy::Any) => true,
            // Who may not sign a plugin is not its publisher, and whoever sends it could leave that signature away: what one that is
            // neither forged nor revoked does not vouch for is as if it were not signed.
            (_, SignaturePolicy::KnownPublisher) => is_free,
        };
        let who = match self.signers.join("`, `") {
            // Who may sign it helps nobody whose signature is good for nothing.
            _ if is_free || self.is_never_taken() => String::new(),
            signers => format!("; `{signers}` may sign it"),
        };
        (!is_taken).then(|| format!("{}{who}", self.problem.clone().unwrap_or_default()))
    }
}

/// Judge the signature of a plugin version.
pub fn judge(plugin: &PluginId, signature: Option<&SignatureRow>, known: Known<'_>) -> Judgement {
    let signers = known.signers(plugin);
    let mut judgement = Judgement {
        state: SignatureState::Unsigned,
        publisher: None,
        key: None,
        comment: None,
        problem: Some("it is not signed".to_owned()),
        signers: signers.iter().map(|publisher| publisher.name.to_string()).collect(),
    };
    let Some(row) = signature else { return judgement };
    let is = |state: SignatureState, problem: String| Judgement { state, problem: Some(problem), ..judgement.clone() };
    let Ok(read) = Signature::parse(&row.text) else {
        return is(SignatureState::Forged, "its signature does not read".to_owned());
    };
    let number = read.number().to_string();
    judgement.key = Some(number.clone());
    let is = |state: SignatureState, problem: String| Judgement { state, problem: Some(problem), ..judgement.clone() };
    let mut by: Vec<_> = known.keys(&number).filter(|(_, key)| row.is_by(&read, key)).collect();
    // Whoever revoked a key is heard, also where another has it still, or it came back under another number.
    let same = by.iter().filter_map(|(_, key)| key.public());
    let revoked: Vec<_> = same.flat_map(|key| known.revoked(key)).collect();
    by.extend(revoked);
    // A workspace's publisher may have the name of one of the host's.
    let is_signer = |publisher: &PublisherRow| signers.iter().any(|one| std::ptr::eq(*one, publisher));
    // Else of several who have the key, the one who may sign with it.
    by.sort_by_key(|(publisher, key)| (key.revoked.is_none(), !is_signer(publisher), !key.holds_at(row.received_at)));
    let Some((publisher, key)) = by.first() else {
        return match known.keys(&number).next() {
            None => {
                let whose = if known.workspace.is_some() { "here" } else { "of the host" };
                let problem = format!("it is signed with key {number}, which no publisher {whose} has");
                is(SignatureState::UnknownKey, problem)
            }
            Some(_) if read.over() == Over::Whole => {
                let problem =
                    "its signature is over the whole component and came before its key was known; upload it again";
                is(SignatureState::Unchecked, problem.to_owned())
            }
            Some((publisher, _)) => {
                let problem =
                    format!("its signature does not hold: `{}` did not sign this with key {number}", publisher.name);
                is(SignatureState::Forged, problem)
            }
        };
    };
    let (state, problem) = state_of(publisher, key, row.received_at, is_signer(publisher));
    let (publisher, comment) = (Some(publisher.name.to_string()), Some(read.comment().to_owned()));
    Judgement { state, publisher, comment, problem, ..judgement }
}

/// How a signature stands that a key did make.
fn state_of(
    publisher: &PublisherRow,
    key: &PublisherKeyRow,
    received_at: Timestamp,
    is_signer: bool,
) -> (SignatureState, Option<String>) {
    let by = format!("key {} of `{}`", key.number, publisher.name);
    if let Some(revoked) = &key.revoked {
        let problem = format!("it is signed with {by}, which is revoked since {}: {}", revoked.since, revoked.why);
        return (SignatureState::Revoked, Some(problem));
    }
    if let Some(until) = key.valid_until.filter(|until| received_at >= *until) {
        let problem = format!("its signature came at {received_at}, and {by} was valid until {until}");
        return (SignatureState::Expired, Some(problem));
    }
    if let Some(from) = key.valid_from.filter(|from| received_at < *from) {
        let problem = format!("its signature came at {received_at}, and {by} is valid from {from} on");
        return (SignatureState::NotYetValid, Some(problem));
    }
    if !is_signer {
        return (SignatureState::OtherNamespace, Some(format!("it is signed with {by}, which may not sign it")));
    }
    (SignatureState::Valid, None)
}

impl SignatureRow {
    /// A signature that came with a component.
    ///
    /// # Errors
    /// [`FormatError`], when its text is none.
    pub fn received(
        text: &str,
        component: &[u8],
        known: Known<'_>,
        received_at: Timestamp,
    ) -> Result<SignatureRow, FormatError> {
        let signature = Signature::parse(text)?;
        // Later there is only its hash at hand.
        let found_by = match signature.over() {
            Over::Prehash => None,
            Over::Whole => known
                .keys(&signature.number().to_string())
                .filter_map(|(_, key)| key.public())
                .find(|key| signature.is_by(key, Signed::Whole(component)))
                .map(|key| key.line()),
        };
        let prehash = Prehash::of(component).hex();
        Ok(SignatureRow { text: text.to_owned(), prehash, found_by, received_at })
    }

    /// Whether a key made it.
    fn is_by(&self, read: &Signature, key: &PublisherKeyRow) -> bool {
        let Some(public) = key.public() else { return false };
        match read.over() {
            Over::Prehash => {
                Prehash::from_hex(&self.prehash).is_some_and(|prehash| read.is_by(&public, Signed::Prehash(&prehash)))
            }
            Over::Whole => self.found_by.as_deref() == Some(public.line().as_str()),
        }
    }

    /// Whether a key of its number is known that did not make it, of one that came just now.
    pub fn is_forged(&self, plugin: &PluginId, known: Known<'_>) -> bool {
        matches!(judge(plugin, Some(self), known).state, SignatureState::Forged | SignatureState::Unchecked)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;

    use super::*;
    use crate::catalogue::publishers::RevocationRow;
    use crate::signatures::SecretKey;

    const COMPONENT: &[u8] = b"component";

    fn plugin() -> PluginId {
        "acme/loyalty".parse().unwrap()
    }

    fn publisher(name: &str, namespaces: &[&str], keys: Vec<PublisherKeyRow>) -> PublisherRow {
        PublisherRow {
            name: name.parse().unwrap(),
            title: String::new(),
            namespaces: namespaces.iter().map(|namespace| (*namespace).to_owned()).collect::<BTreeSet<_>>(),
            keys,
            created_at: Timestamp(0),
            updated_at: Timestamp(0),
        }
    }

    fn key(secret: &SecretKey) -> PublisherKeyRow {
        PublisherKeyRow {
            number: secret.public().number().to_string(),
            public_key: secret.public().line(),
            added_at: Timestamp(0),
            valid_from: None,
            valid_until: None,
            revoked: None,
        }
    }

    fn all(rows: impl IntoIterator<Item = PublisherRow>) -> Publishers {
        rows.into_iter().map(|row| (row.name.to_string(), Arc::new(row))).collect()
    }

    fn signed(secret: &SecretKey, component: &[u8], at: i64) -> SignatureRow {
        let text = secret.sign(&Prehash::of(component), "plugin:acme/loyalty").file();
        let none = Publishers::new();
        let known = Known { host: &none, workspace: None };
        SignatureRow::received(&text, COMPONENT, known, Timestamp(at)).unwrap()
    }

    /// The state, and whether each policy takes it, the laxest first.
    fn judged(signature: Option<&SignatureRow>, host: &Publishers, own: &Publishers) -> (SignatureState, [bool; 3]) {
        let judgement = judge(&plugin(), signature, Known { host, workspace: Some(own) });
        (judgement.state, SignaturePolicy::ALL.map(|policy| judgement.refusal(policy).is_none()))
    }

    #[test]
    fn each_state_is_taken_by_the_policies_that_take_it() {
        let secret = SecretKey::generate().unwrap();
        let (none, signature) = (Publishers::new(), signed(&secret, COMPONENT, 100));
        let with = |key: PublisherKeyRow| all([publisher("acme", &["acme/*"], vec![key])]);
        let good = with(key(&secret));
        assert_eq!(judged(Some(&signature), &none, &good), (SignatureState::Valid, [true, true, true]));
        assert_eq!(judged(Some(&signature), &good, &none), (SignatureState::Valid, [true, true, true]));
        // Nobody claims the vendor: what nobody signed, or somebody who is not known, may come.
        assert_eq!(judged(None, &none, &none), (SignatureState::Unsigned, [true, true, false]));
        assert_eq!(judged(Some(&signature), &none, &none), (SignatureState::UnknownKey, [true, true, false]));
        // Somebody does: only what it signed.
        assert_eq!(judged(None, &none, &good), (SignatureState::Unsigned, [true, false, false]));
        let stranger = signed(&SecretKey::generate().unwrap(), COMPONENT, 100);
        assert_eq!(judged(Some(&stranger), &none, &good), (SignatureState::UnknownKey, [true, false, false]));
        // Forged, and revoked: never.
        let forged = signed(&secret, b"componenu", 100);
        assert_eq!(judged(Some(&forged), &none, &good), (SignatureState::Forged, [false; 3]));
        let revoked = Some(RevocationRow { since: Timestamp(500), why: "stolen".to_owned() });
        let revoked = with(PublisherKeyRow { revoked, ..key(&secret) });
        assert_eq!(judged(Some(&signature), &none, &revoked), (SignatureState::Revoked, [false; 3]));
        assert_eq!(
            judged(Some(&signature), &good, &revoked),
            (SignatureState::Revoked, [false; 3]),
            "whoever revokes it"
        );
        assert_eq!(
            judged(Some(&signature), &revoked, &good),
            (SignatureState::Revoked, [false; 3]),
            "whoever revokes it"
        );
        let judgement = judge(&plugin(), Some(&signature), Known { host: &none, workspace: Some(&revoked) });
        let said = judgement.refusal(SignaturePolicy::Any).unwrap();
        assert!(said.contains("revoked since 1970-01-01T00:00:00.500Z: stolen"), "{said}");
        // The window of a key, by when the signature came.
        for (from, until, state) in [
            (Some(100), Some(101), SignatureState::Valid),
            (Some(101), None, SignatureState::NotYetValid),
            (None, Some(100), SignatureState::Expired),
        ] {
            let (valid_from, valid_until) = (from.map(Timestamp), until.map(Timestamp));
            let known = with(PublisherKeyRow { valid_from, valid_until, ..key(&secret) });
            let is_valid = state == SignatureState::Valid;
            assert_eq!(
                judged(Some(&signature), &none, &known),
                (state, [true, is_valid, is_valid]),
                "{from:?} {until:?}"
            );
        }
        let other = all([publisher("other", &["other/*"], vec![key(&secret)])]);
        // Of a publisher who may not sign it, it is nobody's: taken as an unsigned one is, where nobody claims the vendor.
        assert_eq!(judged(Some(&signature), &none, &other), (SignatureState::OtherNamespace, [true, true, false]));
        let owner = publisher("acme", &["acme/*"], vec![key(&SecretKey::generate().unwrap())]);
        let claimed = all([publisher("other", &["other/*"], vec![key(&secret)]), owner]);
        assert_eq!(judged(Some(&signature), &none, &claimed), (SignatureState::OtherNamespace, [true, false, false]));
        assert_eq!(judged(None, &none, &claimed), (SignatureState::Unsigned, [true, false, false]));
    }

    /// A workspace's admin would else be a known publisher of whatever he uploads.
    #[test]
    fn what_the_hosts_publishers_claim_nobody_else_signs() {
        let (of_host, of_workspace) = (SecretKey::generate().unwrap(), SecretKey::generate().unwrap());
        let host = all([publisher("acme", &["acme/*"], vec![key(&of_host)])]);
        let own = all([publisher("acme", &["acme/*"], vec![key(&of_workspace)])]);
        let signature = signed(&of_workspace, COMPONENT, 0);
        assert_eq!(judged(Some(&signature), &host, &own), (SignatureState::OtherNamespace, [true, false, false]));
        assert_eq!(judged(Some(&signed(&of_host, COMPONENT, 0)), &host, &own), (SignatureState::Valid, [true; 3]));
        // The host's own policy knows the host's publishers alone.
        let alone = judge(&plugin(), Some(&signature), Known { host: &host, workspace: None });
        assert_eq!(alone.state, SignatureState::UnknownKey);
        assert!(alone.refusal(SignaturePolicy::Required).is_some());
    }

    /// Key numbers are chosen by whoever makes a key.
    #[test]
    fn a_key_that_takes_anothers_number_takes_nothing_else() {
        let (good, twin) = (SecretKey::generate().unwrap(), SecretKey::generate().unwrap());
        let twin = PublisherKeyRow { number: key(&good).number, ..key(&twin) };
        let known = all([publisher("acme", &["acme/*"], vec![key(&good)]), publisher("aaa", &["acme/*"], vec![twin])]);
        let judgement = judge(
            &plugin(),
            Some(&signed(&good, COMPONENT, 0)),
            Known { host: &Publishers::new(), workspace: Some(&known) },
        );
        assert_eq!((judgement.state, judgement.publisher.as_deref()), (SignatureState::Valid, Some("acme")));
    }

    /// A key is its bytes; its number is whatever its owner writes.
    #[test]
    fn a_revoked_key_is_revoked_under_every_number() {
        let secret = SecretKey::generate().unwrap();
        let revoked = Some(RevocationRow { since: Timestamp(5), why: "stolen".to_owned() });
        let other = PublicKey { number: SecretKey::generate().unwrap().public().number(), ..secret.public() };
        let renumbered =
            PublisherKeyRow { number: other.number().to_string(), public_key: other.line(), revoked, ..key(&secret) };
        let (none, signature) = (Publishers::new(), signed(&secret, COMPONENT, 0));
        for before in ["aaa", "zzz"] {
            let publishers = [
                publisher("acme", &["acme/*"], vec![key(&secret)]),
                publisher(before, &["other/*"], vec![renumbered.clone()]),
            ];
            let known = all(publishers);
            assert_eq!(judged(Some(&signature), &none, &known), (SignatureState::Revoked, [false; 3]), "{before}");
        }
        let of_host = all([publisher("host", &["other/*"], vec![renumbered])]);
        let own = all([publisher("acme", &["acme/*"], vec![key(&secret)])]);
        assert_eq!(judged(Some(&signature), &of_host, &own), (SignatureState::Revoked, [false; 3]));
    }

    /// The first of two who have a key was judged, whether it may sign or not.
    #[test]
    fn a_key_that_two_have_is_of_the_one_who_may_sign() {
        let secret = SecretKey::generate().unwrap();
        let (none, signature) = (Publishers::new(), signed(&secret, COMPONENT, 100));
        let ended = PublisherKeyRow { valid_until: Some(Timestamp(50)), ..key(&secret) };
        let by = |first: PublisherRow| {
            let known = all([first, publisher("acme", &["acme/*"], vec![key(&secret)])]);
            judge(&plugin(), Some(&signature), Known { host: &none, workspace: Some(&known) })
        };
        for first in [
            publisher("aaa", &["other/*"], vec![key(&secret)]),
            publisher("aaa", &["other/*"], vec![ended.clone()]),
            publisher("aaa", &["acme/*"], vec![ended]),
        ] {
            let judgement = by(first);
            assert_eq!((judgement.state, judgement.publisher.as_deref()), (SignatureState::Valid, Some("acme")));
        }
        let revoked = Some(RevocationRow { since: Timestamp(500), why: "stolen".to_owned() });
        let revoked = PublisherKeyRow { revoked, ..key(&secret) };
        assert_eq!(by(publisher("aaa", &["other/*"], vec![revoked])).state, SignatureState::Revoked);
    }

    #[test]
    fn an_older_signature_is_checked_when_it_comes() {
        // Of minisign; `signatures.rs` says where it is from.
        const KEY: &str = "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3";
        const LEGACY: &str = "untrusted comment: signature from minisign secret key
RWQf6LRCGA9i59SLOFxz6NxvASXDJeRtuZykwQepbDEGt87ig1BNpWaVWuNrm73YiIiJbq71Wi+dP9eKL8OC351vwIasSSbXxwA=
trusted comment: timestamp:1555779966\tfile:test
QtKMXWyYcwdpZAlPF7tE2ENJkRd1ujvKjlj1m9RtHTBnZPa5WKU5uWRs5GoP5M/VqE81QFuMKI5k/SfNQUaOAA==";
        let row = PublisherKeyRow {
            number: "E7620F1842B4E81F".to_owned(),
            public_key: KEY.to_owned(),
            added_at: Timestamp(0),
            valid_from: None,
            valid_until: None,
            revoked: None,
        };
        let (none, known) = (Publishers::new(), all([publisher("acme", &["acme/*"], vec![row])]));
        let now = Known { host: &none, workspace: Some(&known) };
        let came = SignatureRow::received(LEGACY, b"test", now, Timestamp(0)).unwrap();
        assert_eq!(judge(&plugin(), Some(&came), now).state, SignatureState::Valid);
        let earlier = Known { host: &none, workspace: None };
        let before = SignatureRow::received(LEGACY, b"test", earlier, Timestamp(0)).unwrap();
        assert_eq!(judge(&plugin(), Some(&before), earlier).state, SignatureState::UnknownKey);
        assert_eq!(judge(&plugin(), Some(&before), now).state, SignatureState::Unchecked);
        assert!(SignatureRow::received(LEGACY, b"tent", now, Timestamp(0)).unwrap().is_forged(&plugin(), now));
        assert!(!came.is_forged(&plugin(), now) && !before.is_forged(&plugin(), earlier));
    }

    #[test]
    fn the_stricter_policy_is_the_greater_one_and_reads_back() {
        assert!(SignaturePolicy::Any < SignaturePolicy::KnownPublisher);
        assert!(SignaturePolicy::KnownPublisher < SignaturePolicy::Required);
        for policy in SignaturePolicy::ALL {
            assert_eq!(policy.as_str().parse(), Ok(policy));
            assert_eq!(serde_json::to_value(policy).unwrap(), policy.as_str());
        }
        assert!("all".parse::<SignaturePolicy>().is_err());
    }
}
