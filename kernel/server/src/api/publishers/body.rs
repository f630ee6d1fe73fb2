//! The bodies of the publishers' routes, and what is checked of them before anything is held.

use std::collections::BTreeSet;

use kith_model::budget::table;
use kith_model::time::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::api::etag::{self, TaggedBody};
use crate::api::extract::check_text;
use crate::api::view::time;
use crate::catalogue::publishers::{PublisherKeyRow, PublisherRow};
use crate::error::ApiError;
use crate::signatures::PublicKey;

/// What a publisher is, apart from its keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PublisherDocument {
    /// For people.
    #[serde(default)]
    pub(super) title: String,
    /// Which plugins it may sign: `acme/*` for all of a vendor, `acme/loyalty` for one; 1 to 64.
    pub(super) namespaces: BTreeSet<String>,
}

/// A key for a publisher.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewPublisherKey {
    /// A public key of minisign: its file, or the line of it that is base64.
    public_key: String,
    /// RFC 3339: signatures that come before do not hold.
    valid_from: Option<String>,
    /// RFC 3339: signatures that come then or later do not hold.
    valid_until: Option<String>,
}

/// That a key is good for nothing any more.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct WantedRevocation {
    /// Shown wherever something that it signed is refused.
    why: String,
}

/// Who signs plugins.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PublisherBody {
    name: String,
    title: String,
    /// None of one that was removed.
    namespaces: BTreeSet<String>,
    /// Whether it was removed. One of whose keys some were revoked stays with these alone: they are revoked for good.
    removed: bool,
    keys: Vec<PublisherKeyBody>,
    created_at: String,
    updated_at: String,
}

/// A key of a publisher.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PublisherKeyBody {
    /// By which signatures name it, as minisign shows it.
    key_id: String,
    /// As minisign writes it.
    public_key: String,
    added_at: String,
    valid_from: Option<String>,
    valid_until: Option<String>,
    revoked: Option<RevocationBody>,
}

/// Since when a key is good for nothing any more.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RevocationBody {
    since: String,
    why: String,
}

impl From<&PublisherKeyRow> for PublisherKeyBody {
    fn from(row: &PublisherKeyRow) -> PublisherKeyBody {
        let revoked = row.revoked.as_ref();
        PublisherKeyBody {
            key_id: row.number.clone(),
            public_key: row.public_key.clone(),
            added_at: time(row.added_at),
            valid_from: row.valid_from.map(time),
            valid_until: row.valid_until.map(time),
            revoked: revoked.map(|revoked| RevocationBody { since: time(revoked.since), why: revoked.why.clone() }),
        }
    }
}

impl From<&PublisherRow> for PublisherBody {
    fn from(row: &PublisherRow) -> PublisherBody {
        PublisherBody {
            name: row.name.to_string(),
            title: row.title.clone(),
            namespaces: row.namespaces.clone(),
            removed: row.is_removed(),
            keys: row.keys.iter().map(PublisherKeyBody::from).collect(),
            created_at: time(row.created_at),
            updated_at: time(row.updated_at),
        }
    }
}

/// A publisher as the audit log shows it.
pub(super) fn shown(row: &PublisherRow) -> Option<Value> {
    serde_json::to_value(PublisherBody::from(row)).ok()
}

/// The tag of a publisher.
pub(super) fn tag(row: &PublisherRow) -> String {
    etag::tag(&(&row.title, &row.namespaces, &row.keys))
}

/// A publisher as an answer.
pub(super) fn tagged(row: &PublisherRow) -> TaggedBody<PublisherBody> {
    TaggedBody { tag: tag(row), body: row.into() }
}

/// A [`NewPublisherKey`] that can be added.
#[derive(Debug, Clone)]
pub(super) struct CheckedKey {
    pub(super) key: PublicKey,
    pub(super) valid_from: Option<Timestamp>,
    pub(super) valid_until: Option<Timestamp>,
}

impl NewPublisherKey {
    pub(super) fn checked(self) -> Result<CheckedKey, ApiError> {
        let NewPublisherKey { public_key, valid_from, valid_until } = self;
        let moment = |place: &str, text: Option<String>| {
            let read = text.as_deref().map(str::parse::<Timestamp>).transpose();
            read.map_err(|error| ApiError::at(place, error.to_string()))
        };
        let key = PublicKey::parse(&public_key).map_err(|error| ApiError::at("public_key", error.to_string()))?;
        let (valid_from, valid_until) = (moment("valid_from", valid_from)?, moment("valid_until", valid_until)?);
        if valid_from.zip(valid_until).is_some_and(|(from, until)| until <= from) {
            return Err(ApiError::at("valid_until", "is not after `valid_from`"));
        }
        Ok(CheckedKey { key, valid_from, valid_until })
    }
}

impl WantedRevocation {
    pub(super) fn checked(self) -> Result<String, ApiError> {
        check_text(&table::MANIFEST_WORDS, &self.why)?;
        if self.why.trim().is_empty() {
            return Err(ApiError::at("why", "is empty; whoever is refused reads it"));
        }
        Ok(self.why)
    }
}
