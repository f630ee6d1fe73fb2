//! The purposes that a channel carries messages for: those that its manifest names, cut down by the grant.

use std::collections::BTreeSet;

use serde::Serialize;

use super::{Capabilities, Grants};
use crate::budget::table;
use crate::consent;

/// The purposes that a channel carries messages for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Purposes(Option<Vec<String>>);

impl Purposes {
    /// What a manifest and its grant both name. One that says nothing of purposes leaves it to the other.
    pub fn of(asked: &Capabilities, grants: &Grants) -> Purposes {
        let names = |side: &Option<Vec<String>>| side.as_ref().map(|names| names.iter().cloned().collect());
        let asked: Option<BTreeSet<String>> = names(&asked.purposes);
        let granted: Option<BTreeSet<String>> = names(&grants.purposes);
        let both = match (asked, granted) {
            (Some(asked), Some(granted)) => Some(asked.intersection(&granted).cloned().collect()),
            (asked, granted) => asked.or(granted),
        };
        Purposes(both.map(|both| both.into_iter().collect()))
    }

    /// Their names; `None` where it carries messages for every purpose.
    pub fn names(&self) -> Option<&[String]> {
        self.0.as_deref()
    }

    /// Whether messages for a purpose may leave through the channel, however its letters are written.
    pub fn carries(&self, purpose: &str) -> bool {
        self.0.as_ref().is_none_or(|names| names.contains(&consent::reading(purpose)))
    }

    /// Why a message for a purpose may not leave through the channel of this name; `None` where it may.
    pub fn refusal(&self, channel: &str, purpose: &str) -> Option<String> {
        let names = self.0.as_ref().filter(|_| !self.carries(purpose))?;
        let carried = match names.as_slice() {
            [] => "for no purpose".to_owned(),
            names => format!("for {}", names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")),
        };
        Some(format!(
            "the channel `{channel}` carries messages {carried} and none for `{purpose}`: its manifest or its grants do not name \
             that; `kith plugin policy {channel}` says which"
        ))
    }
}

/// What a text is that a manifest or a grant cannot name as a purpose, with what to write.
pub fn purpose_problem(name: &str) -> Option<String> {
    let most = table::PURPOSE_TEXT.default;
    if name.len() as u64 > most {
        return Some(format!("is longer than {most} bytes"));
    }
    match consent::reading(name) {
        read if read.is_empty() => Some("is no purpose; write e.g. marketing".to_owned()),
        read if read == "*" => Some("is no purpose; leave `purposes` out for every one".to_owned()),
        read if read.contains('@') => Some("names a channel as well; write the purpose alone".to_owned()),
        read if read != name => Some(format!("is compared as `{read}`; write that")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asking(purposes: Option<&[&str]>) -> Capabilities {
        Capabilities { purposes: purposes.map(texts), ..Capabilities::default() }
    }

    fn texts(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn a_channel_carries_what_its_manifest_and_its_grants_both_name() {
        type Names = Option<&'static [&'static str]>;
        let cases: [(Names, Names, Names); 7] = [
            (None, None, None),
            (Some(&["service", "news"]), None, Some(&["news", "service"])),
            (None, Some(&["news"]), Some(&["news"])),
            (Some(&["service", "news"]), Some(&["news", "alarms"]), Some(&["news"])),
            (Some(&["service"]), Some(&["news"]), Some(&[])),
            (Some(&["service"]), Some(&[]), Some(&[])),
            (None, Some(&[]), Some(&[])),
        ];
        for (asked, granted, expected) in cases {
            let grants = Grants { purposes: granted.map(texts), ..Grants::default() };
            let purposes = Purposes::of(&asking(asked), &grants);
            assert_eq!(purposes.names(), expected.map(texts).as_deref(), "{asked:?} {granted:?}");
            for purpose in ["service", "news", "alarms"] {
                let carries = expected.is_none_or(|names| names.contains(&purpose));
                assert_eq!(purposes.carries(purpose), carries, "{purpose}: {asked:?} {granted:?}");
                assert_eq!(purposes.refusal("post", purpose).is_none(), carries);
            }
        }
    }

    #[test]
    fn a_purpose_is_known_by_what_it_reads_as_and_a_refusal_names_both_sides() {
        let purposes = Purposes::of(&asking(Some(&["service", "news"])), &Grants::default());
        assert!(purposes.carries(" News ") && purposes.carries("ｎｅｗｓ") && !purposes.carries("news@email"));
        let refusal = purposes.refusal("post", "marketing").unwrap();
        let said = "the channel `post` carries messages for `news`, `service` and none for `marketing`";
        assert!(refusal.starts_with(said), "{refusal}");
        let none = Purposes::of(&asking(None), &Grants { purposes: Some(Vec::new()), ..Grants::default() });
        assert!(none.refusal("post", "news").unwrap().contains("carries messages for no purpose"));
    }

    #[test]
    fn purposes_are_named_as_they_are_compared() {
        for good in ["marketing", "service-mails", "новости", "a b"] {
            assert_eq!(purpose_problem(good), None, "{good}");
        }
        for (bad, said) in [
            ("", "no purpose"),
            (" ", "no purpose"),
            ("*", "leave `purposes` out"),
            ("news@email", "the purpose alone"),
            ("News", "compared as `news`"),
            (" news", "compared as `news`"),
            ("new\u{200b}s", "compared as `news`"),
        ] {
            assert!(purpose_problem(bad).is_some_and(|problem| problem.contains(said)), "{bad}");
        }
        assert!(purpose_problem(&"a".repeat(65)).is_some() && purpose_problem(&"a".repeat(64)).is_none());
    }

    /// Manifests and grants that were kept when there was no such key carry everything, as they did.
    #[test]
    fn what_was_kept_before_says_nothing_of_purposes() {
        let capabilities: Capabilities =
            serde_json::from_str(r#"{"http":[],"secrets":[],"kv_bytes":0,"emits":[]}"#).unwrap();
        let grants: Grants = serde_json::from_str("{}").unwrap();
        assert_eq!((&capabilities.purposes, &grants.purposes), (&None, &None));
        let written = serde_json::to_string(&(capabilities, grants)).unwrap();
        assert!(!written.contains("purposes"), "{written}");
    }
}
