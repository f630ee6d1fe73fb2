//! The audit log's chain: what a record is, how it is hashed, and the check that none was changed, added or left out. The
//! server makes records with it, and `kith audit verify` checks them, from a server or from a file.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use utoipa::ToSchema;

use crate::auth::{digest, hex};

/// The hash before the first record.
pub const BEGINNING: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// One record of the audit log, as the API and an export show it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AuditEntry {
    /// Its place in the chain, from 1; `null` for a record of a release before there was one, and for one that cannot be read.
    pub number: Option<u64>,
    pub at: String,
    /// The id of the key that did it; `kernel` for what the kernel did by itself.
    pub actor: String,
    /// The key's title at that time.
    #[serde(default)]
    pub actor_title: String,
    pub action: String,
    pub target: String,
    /// The id that the server gave the request.
    pub request_id: String,
    /// The id that the caller gave it as `x-request-id`.
    #[serde(default)]
    pub client_request_id: Option<String>,
    #[schema(value_type = Value)]
    pub before: Option<Value>,
    #[schema(value_type = Value)]
    pub after: Option<Value>,
    /// The hash of the record before.
    #[serde(default)]
    pub previous: String,
    /// SHA-256 over this record and `previous`.
    #[serde(default)]
    pub hash: String,
}

/// A value as it is hashed: SHA-256 of its JSON text, whose objects are in the order of their keys.
fn digest_of(value: Option<&Value>) -> String {
    value.filter(|value| !value.is_null()).map(|value| digest(value.to_string().as_bytes())).unwrap_or_default()
}

/// A value that survives being written and read: a number may be another one the first time.
pub(crate) fn settled(value: Value) -> Value {
    const MOST: usize = 8;
    let mut value = value;
    for _ in 0..MOST {
        match serde_json::from_str::<Value>(&value.to_string()) {
            Ok(read) if read != value => value = read,
            Ok(_) | Err(_) => break,
        }
    }
    value
}

impl AuditEntry {
    /// The hash that the record must have: of each part its length and its bytes, so that nothing can move from one to another.
    pub fn expected_hash(&self) -> String {
        let number = self.number.unwrap_or(0).to_string();
        let (before, after) = (digest_of(self.before.as_ref()), digest_of(self.after.as_ref()));
        let parts = [
            "kith audit 1",
            &number,
            &self.at,
            &self.actor,
            &self.actor_title,
            &self.action,
            &self.target,
            &self.request_id,
            self.client_request_id.as_deref().unwrap_or_default(),
            &before,
            &after,
            &self.previous,
        ];
        let mut hasher = Sha256::new();
        for part in parts {
            hasher.update((part.len() as u64).to_be_bytes());
            hasher.update(part.as_bytes());
        }
        hex(&hasher.finalize())
    }
}

/// Where the chain is broken, and how.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BrokenChain {
    #[error("record {number} ({action} of {target}, {at}) is not what was written: its hash does not fit")]
    Changed { number: u64, action: String, target: String, at: String },
    #[error("record {found} follows where {expected} must: records are missing, or were added")]
    Missing { expected: u64, found: u64 },
    #[error("record {number} does not follow from the one before it: that one was replaced")]
    Unlinked { number: u64 },
    #[error("the record behind {after} ({target}) is of no chain: it cannot be read, or was added")]
    Unchained { after: u64, target: String },
}

/// Where a chain has to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChainStart {
    /// At its first record.
    First,
    /// Anywhere: a part of it is checked.
    Anywhere,
}

/// Checks a chain record by record, oldest first.
#[derive(Debug)]
pub struct ChainCheck {
    start: ChainStart,
    /// The number and the hash of the record before.
    last: Option<(u64, String)>,
    /// The first that was checked.
    pub first: Option<u64>,
    /// Records of before there was a chain.
    pub unchained: u64,
}

impl ChainCheck {
    pub fn new(start: ChainStart) -> ChainCheck {
        ChainCheck { start, last: None, first: None, unchained: 0 }
    }

    /// The number and the hash of the last record: whoever keeps them elsewhere can tell later whether the end was cut off.
    pub fn head(&self) -> Option<(u64, &str)> {
        self.last.as_ref().map(|(number, hash)| (*number, hash.as_str()))
    }

    /// Check the next record.
    ///
    /// # Errors
    /// [`BrokenChain`], naming the first that is wrong.
    pub fn next(&mut self, entry: &AuditEntry) -> Result<(), BrokenChain> {
        let Some(number) = entry.number else {
            return match &self.last {
                None if entry.hash.is_empty() => {
                    self.unchained += 1;
                    Ok(())
                }
                last => {
                    let after = last.as_ref().map_or(0, |(number, _)| *number);
                    Err(BrokenChain::Unchained { after, target: entry.target.clone() })
                }
            };
        };
        let expected = match &self.last {
            Some((last, _)) => last + 1,
            None if self.start == ChainStart::First => 1,
            None => number,
        };
        if number != expected {
            return Err(BrokenChain::Missing { expected, found: number });
        }
        if entry.hash != entry.expected_hash() {
            let AuditEntry { action, target, at, .. } = entry.clone();
            return Err(BrokenChain::Changed { number, action, target, at });
        }
        let previous = match &self.last {
            Some((_, hash)) => hash.as_str(),
            None if number == 1 => BEGINNING,
            None => entry.previous.as_str(),
        };
        if entry.previous != previous {
            return Err(BrokenChain::Unlinked { number });
        }
        self.first.get_or_insert(number);
        self.last = Some((number, entry.hash.clone()));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn chain(length: u64) -> Vec<AuditEntry> {
        let mut previous = BEGINNING.to_owned();
        let entries = (1..=length).map(|number| {
            let mut entry = AuditEntry {
                number: Some(number),
                at: "2026-11-21T10:00:00.000Z".to_owned(),
                actor: "abc".to_owned(),
                actor_title: "admin".to_owned(),
                action: "audience.create".to_owned(),
                target: format!("a{number}"),
                request_id: "1234".to_owned(),
                client_request_id: None,
                before: None,
                after: Some(json!({ "b": 0.1, "a": [1, null] })),
                previous: previous.clone(),
                hash: String::new(),
            };
            entry.hash = entry.expected_hash();
            previous.clone_from(&entry.hash);
            entry
        });
        entries.collect()
    }

    fn check(entries: &[AuditEntry], start: ChainStart) -> Result<(), BrokenChain> {
        let mut check = ChainCheck::new(start);
        entries.iter().try_for_each(|entry| check.next(entry))
    }

    /// Every byte of every record of an export, one after the other.
    #[test]
    fn any_byte_that_is_changed_is_found_in_its_record() {
        let entries = chain(3);
        assert_eq!(check(&entries, ChainStart::First), Ok(()));
        for (index, entry) in entries.iter().enumerate() {
            let line = serde_json::to_string(entry).unwrap();
            for place in 0..line.len() {
                let mut bytes = line.clone().into_bytes();
                bytes[place] ^= 1;
                // What is no record any more is named by its line.
                let Ok(changed) = serde_json::from_slice::<AuditEntry>(&bytes) else { continue };
                let mut with = entries.clone();
                with[index] = changed;
                let broken = check(&with, ChainStart::First).unwrap_err();
                let number = index as u64 + 1;
                let is_named = match &broken {
                    BrokenChain::Changed { number: named, .. } | BrokenChain::Unlinked { number: named } => {
                        *named == number
                    }
                    BrokenChain::Missing { expected, .. } => *expected == number,
                    BrokenChain::Unchained { after, .. } => *after + 1 == number,
                };
                assert!(is_named, "byte {place} of record {number}: {broken}");
            }
        }
    }

    #[test]
    fn records_that_are_left_out_added_or_made_again_are_found() {
        let entries = chain(4);
        let without = [entries[0].clone(), entries[2].clone()];
        assert_eq!(check(&without, ChainStart::First), Err(BrokenChain::Missing { expected: 2, found: 3 }));
        assert_eq!(check(&entries[2..], ChainStart::Anywhere), Ok(()));
        assert_eq!(check(&entries[2..], ChainStart::First), Err(BrokenChain::Missing { expected: 1, found: 3 }));
        let mut remade = entries.clone();
        remade[1].target = "other".to_owned();
        remade[1].hash = remade[1].expected_hash();
        assert_eq!(check(&remade, ChainStart::First), Err(BrokenChain::Unlinked { number: 3 }));
        let mut older = entries[0].clone();
        (older.number, older.hash) = (None, String::new());
        let mut with_older = entries.clone();
        with_older.insert(0, older.clone());
        assert_eq!(check(&with_older, ChainStart::First), Ok(()), "it is of before the chain");
        with_older.push(older);
        let broken = check(&with_older, ChainStart::First);
        assert_eq!(broken, Err(BrokenChain::Unchained { after: 4, target: "a1".to_owned() }));
    }

    #[test]
    fn what_is_hashed_reads_back_as_it_is() {
        let value = settled(json!({ "x": [0.1, 1e300, 5e-324, 123_456_789.123_456_78], "a": null }));
        assert_eq!(serde_json::from_str::<Value>(&value.to_string()).unwrap(), value);
    }
}
