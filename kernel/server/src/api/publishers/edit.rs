//! What may be changed of a publisher, a workspace's or the host's, and what it is then.

use std::collections::BTreeSet;
use std::sync::Arc;

use kith_model::budget::table;
use kith_model::id::Name;
use kith_model::plugin::PluginId;
use kith_model::time::Timestamp;

use super::body::{CheckedKey, PublisherDocument, tag};
use super::named;
use crate::api::etag::IfMatch;
use crate::api::extract::check_text;
use crate::catalogue::publishers::{PublisherKeyRow, PublisherRow, Publishers, RevocationRow};
use crate::error::ApiError;

/// Namespaces of one publisher at most.
const MAX_NAMESPACES: usize = 64;

/// Keys of one publisher at most, revoked ones too.
const MAX_KEYS: usize = 32;

/// A change of one publisher.
#[derive(Debug, Clone)]
pub(super) enum Edit {
    /// Make it, or say anew what it may sign.
    Set(PublisherDocument),
    Add(CheckedKey),
    Revoke {
        /// Its number.
        key: String,
        why: String,
    },
    Remove,
}

/// What comes of it.
#[derive(Debug)]
pub(super) struct Edited {
    pub(super) before: Option<Arc<PublisherRow>>,
    /// `None` where nothing stays of it.
    pub(super) after: Option<PublisherRow>,
    /// For the audit log.
    pub(super) action: &'static str,
}

/// Make a change of the publisher of that name, on paper.
pub(super) fn edited(
    all: &Publishers,
    name: &Name,
    if_match: &IfMatch,
    edit: &Edit,
    now: Timestamp,
) -> Result<Edited, ApiError> {
    let before = all.get(name.as_str()).cloned();
    if_match.check_made(&format!("publisher `{name}`"), before.as_deref().map(|before| move || tag(before)))?;
    let (after, action) = match edit {
        Edit::Set(document) => {
            let is_there = before.as_deref().is_some_and(|before| !before.is_removed());
            let action = if is_there { "publisher.change" } else { "publisher.create" };
            (Some(set(before.as_deref(), name, document, now)?), action)
        }
        Edit::Add(key) => (Some(with_key(all, named(all, name.as_str())?, key, now)?), "publisher.add-key"),
        Edit::Revoke { key, why } => {
            (Some(with_revoked(named(all, name.as_str())?, key, why, now)?), "publisher.revoke-key")
        }
        Edit::Remove => (named(all, name.as_str())?.removed(now), "publisher.remove"),
    };
    if let Some(after) = &after {
        insist_on_room(all, after)?;
    }
    Ok(Edited { before, after, action })
}

fn set(
    before: Option<&PublisherRow>,
    name: &Name,
    document: &PublisherDocument,
    now: Timestamp,
) -> Result<PublisherRow, ApiError> {
    check_text(&table::TITLE_TEXT, &document.title)?;
    check_namespaces(&document.namespaces)?;
    let PublisherDocument { title, namespaces } = document.clone();
    match before {
        Some(before) if before.title == title && before.namespaces == namespaces => Ok(before.clone()),
        Some(before) => Ok(PublisherRow { title, namespaces, updated_at: now, ..before.clone() }),
        None => {
            let (name, keys) = (name.clone(), Vec::new());
            Ok(PublisherRow { name, title, namespaces, keys, created_at: now, updated_at: now })
        }
    }
}

fn check_namespaces(namespaces: &BTreeSet<String>) -> Result<(), ApiError> {
    if !(1..=MAX_NAMESPACES).contains(&namespaces.len()) {
        return Err(ApiError::at("namespaces", format!("name 1 to {MAX_NAMESPACES} of them, e.g. `acme/*`")));
    }
    for (place, namespace) in namespaces.iter().enumerate() {
        // What stands for all names stands where a name could.
        let plugin = namespace.strip_suffix("/*").map_or_else(|| namespace.clone(), |vendor| format!("{vendor}/all"));
        if plugin.parse::<PluginId>().is_err() {
            let message = "is none; write `acme/*` for all plugins of a vendor, or `acme/loyalty` for one";
            return Err(ApiError::at(format!("namespaces[{place}]"), message));
        }
    }
    Ok(())
}

fn with_key(all: &Publishers, row: &PublisherRow, key: &CheckedKey, now: Timestamp) -> Result<PublisherRow, ApiError> {
    let CheckedKey { key, valid_from, valid_until } = key;
    if row.is_removed() {
        return Err(ApiError::missing(format!("`{}` was removed; say first which plugins it may sign", row.name)));
    }
    let number = key.number().to_string();
    // Its number is whatever its owner writes: one that is revoked must not come back under another.
    let same = |one: &PublisherKeyRow| one.public().is_some_and(|public| public.is_same_key(key));
    let has = |one: &PublisherKeyRow| one.number == number || same(one);
    let mut of_all = all.values().flat_map(|publisher| publisher.keys.iter().map(move |one| (publisher, one)));
    if let Some((holder, present)) = of_all.find(|(_, one)| has(one)) {
        let is_repeat = holder.name == row.name
            && (&present.public_key, present.valid_from, present.valid_until)
                == (&key.line(), *valid_from, *valid_until)
            && present.revoked.is_none();
        return if is_repeat { Ok(row.clone()) } else { Err(taken(holder, present)) };
    }
    if row.keys.len() >= MAX_KEYS {
        return Err(ApiError::at("public_key", format!("`{}` has {MAX_KEYS} keys, and may have no more", row.name)));
    }
    let added = PublisherKeyRow {
        number,
        public_key: key.line(),
        added_at: now,
        valid_from: *valid_from,
        valid_until: *valid_until,
        revoked: None,
    };
    let mut row = PublisherRow { updated_at: now, ..row.clone() };
    row.keys.push(added);
    Ok(row)
}

/// That a key cannot be added, because a publisher has it, or had it and it is revoked.
fn taken(holder: &PublisherRow, present: &PublisherKeyRow) -> ApiError {
    let PublisherKeyRow { number, revoked, .. } = present;
    let message = match revoked {
        Some(RevocationRow { since, why }) => {
            format!("key {number} of `{}` is revoked since {since}, and that is for good: {why}", holder.name)
        }
        None => {
            format!("`{}` has key {number} already; a key is of one publisher, and stays as it was added", holder.name)
        }
    };
    ApiError::Conflict { code: "key-taken", message }
}

/// A key that is revoked stays so, since then and for that reason.
fn with_revoked(row: &PublisherRow, number: &str, why: &str, now: Timestamp) -> Result<PublisherRow, ApiError> {
    let mut after = row.clone();
    let key = after.keys.iter_mut().find(|key| key.number.eq_ignore_ascii_case(number));
    let missing = || {
        let shown: String = number.chars().take(64).collect();
        ApiError::missing(format!("`{}` has no key `{shown}`", row.name))
    };
    let key = key.ok_or_else(missing)?;
    if key.revoked.is_none() {
        key.revoked = Some(RevocationRow { since: now, why: why.to_owned() });
        after.updated_at = now;
    }
    Ok(after)
}

/// Insist that there is room for the publisher. One that becomes no larger is taken, or who has too many could not put them in
/// order.
fn insist_on_room(all: &Publishers, row: &PublisherRow) -> Result<(), ApiError> {
    let bytes = |row: &PublisherRow| serde_json::to_vec(row).map_or(u64::MAX, |text| text.len() as u64);
    let before = all.get(row.name.as_str());
    // Revoked keys of one that was removed keep nobody else from being made; their bytes count.
    let is_another = !row.is_removed() && before.is_none_or(|before| before.is_removed());
    let kept = all.values().filter(|one| !one.is_removed()).count() as u64;
    if is_another && kept >= table::PUBLISHERS_KEPT.default {
        return Err(table::PUBLISHERS_KEPT.exhausted(table::PUBLISHERS_KEPT.default, None).into());
    }
    let (is, was) = (bytes(row), before.map_or(0, |before| bytes(before)));
    let others = all.values().filter(|other| other.name != row.name).map(|other| bytes(other));
    let sum = others.fold(is, u64::saturating_add);
    // A key can be revoked whatever is full.
    let revokes =
        before.is_some_and(|before| before.keys.len() == row.keys.len() && before.namespaces == row.namespaces);
    if sum > table::PUBLISHER_BYTES_KEPT.default && is > was && !revokes {
        return Err(table::PUBLISHER_BYTES_KEPT.exhausted(table::PUBLISHER_BYTES_KEPT.default, None).into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;

    use super::*;
    use crate::signatures::{PublicKey, SecretKey};

    const NOW: Timestamp = Timestamp(1_000);

    fn name() -> Name {
        "acme".parse().unwrap()
    }

    fn apply(all: &mut Publishers, edit: &Edit, now: Timestamp) -> Result<Option<PublisherRow>, ApiError> {
        let after = edited(all, &name(), &IfMatch::default(), edit, now)?.after;
        match &after {
            Some(row) => drop(all.insert("acme".to_owned(), Arc::new(row.clone()))),
            None => drop(all.remove("acme")),
        }
        Ok(after)
    }

    /// The same key with another number.
    fn renumbered(key: &PublicKey) -> PublicKey {
        let mut bytes = STANDARD.decode(key.line()).unwrap();
        bytes[2] ^= 1;
        PublicKey::parse(&STANDARD.encode(bytes)).unwrap()
    }

    fn document(namespaces: &[&str]) -> Edit {
        let namespaces = namespaces.iter().map(|namespace| (*namespace).to_owned()).collect();
        Edit::Set(PublisherDocument { title: "Acme".to_owned(), namespaces })
    }

    fn code(result: Result<Option<PublisherRow>, ApiError>) -> String {
        match result {
            Ok(_) => "taken".to_owned(),
            Err(ApiError::Conflict { code, .. }) => code.to_owned(),
            Err(ApiError::BadInput { mistakes, .. }) => mistakes[0].path.clone(),
            Err(ApiError::NotFound { .. }) => "missing".to_owned(),
            Err(other) => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_publisher_is_made_gets_keys_loses_them_and_goes() {
        let mut all = Publishers::new();
        let key = SecretKey::generate().unwrap().public();
        let add = Edit::Add(CheckedKey { key, valid_from: None, valid_until: Some(Timestamp(5_000)) });
        assert_eq!(code(apply(&mut all, &add, NOW)), "missing");
        assert_eq!(code(apply(&mut all, &Edit::Remove, NOW)), "missing");
        apply(&mut all, &document(&["acme/*"]), NOW).unwrap();
        let row = apply(&mut all, &add, NOW).unwrap().unwrap();
        assert_eq!((row.keys[0].public().unwrap(), row.keys[0].valid_until), (key, Some(Timestamp(5_000))));
        // Who is not sure that it arrived sends it again.
        assert_eq!(apply(&mut all, &add, Timestamp(1_200)).unwrap(), Some(row), "nothing is changed by that");
        let otherwise = Edit::Add(CheckedKey { key, valid_from: None, valid_until: None });
        assert_eq!(code(apply(&mut all, &otherwise, NOW)), "key-taken");
        // Its keys stay when it is said anew what it may sign.
        let row = apply(&mut all, &document(&["acme/*", "beta/one"]), Timestamp(1_500)).unwrap().unwrap();
        assert_eq!((row.keys.len(), row.created_at, row.updated_at), (1, NOW, Timestamp(1_500)));
        let revoke = |why: &str| Edit::Revoke { key: key.number().to_string().to_lowercase(), why: why.to_owned() };
        let row = apply(&mut all, &revoke("stolen"), Timestamp(2_000)).unwrap().unwrap();
        let again = apply(&mut all, &revoke("other"), Timestamp(3_000)).unwrap().unwrap();
        assert_eq!(row, again, "revoked once, and for good");
        let expected = RevocationRow { since: Timestamp(2_000), why: "stolen".to_owned() };
        assert_eq!(row.keys[0].revoked, Some(expected));
        assert_eq!(code(apply(&mut all, &add, NOW)), "key-taken", "and does not come back");
        let other = Edit::Add(CheckedKey { key: renumbered(&key), valid_from: None, valid_until: None });
        assert_eq!(code(apply(&mut all, &other, NOW)), "key-taken", "nor under another number");
        let unknown = Edit::Revoke { key: "0".to_owned(), why: "x".to_owned() };
        assert_eq!(code(apply(&mut all, &unknown, NOW)), "missing");
    }

    /// It took the revocations with it: what the stolen key had signed could be installed, and the key be added again.
    #[test]
    fn the_revoked_keys_of_a_publisher_outlive_it() {
        let mut all = Publishers::new();
        let [stolen, good] = [(), ()].map(|()| SecretKey::generate().unwrap().public());
        let add = |key: PublicKey| Edit::Add(CheckedKey { key, valid_from: None, valid_until: None });
        apply(&mut all, &document(&["acme/*"]), NOW).unwrap();
        apply(&mut all, &add(good), NOW).unwrap();
        assert!(apply(&mut all, &Edit::Remove, NOW).unwrap().is_none() && all.is_empty(), "nothing was revoked");

        apply(&mut all, &document(&["acme/*"]), NOW).unwrap();
        apply(&mut all, &add(good), NOW).unwrap();
        apply(&mut all, &add(stolen), NOW).unwrap();
        let revoke = Edit::Revoke { key: stolen.number().to_string(), why: "stolen".to_owned() };
        apply(&mut all, &revoke, Timestamp(2_000)).unwrap();
        let left = apply(&mut all, &Edit::Remove, Timestamp(3_000)).unwrap().unwrap();
        assert!(left.is_removed() && left.key(&good.number().to_string()).is_none());
        let expected = Some(RevocationRow { since: Timestamp(2_000), why: "stolen".to_owned() });
        assert_eq!((left.keys.len(), &left.keys[0].revoked), (1, &expected));
        assert_eq!(apply(&mut all, &Edit::Remove, Timestamp(4_000)).unwrap(), Some(left), "nor does it go by another");
        assert_eq!(code(apply(&mut all, &add(good), NOW)), "missing", "it is no publisher any more");

        // Neither another publisher gets the key, nor the one that comes back under the name.
        let other = edited(&all, &"beta".parse().unwrap(), &IfMatch::default(), &document(&["beta/*"]), NOW).unwrap();
        all.insert("beta".to_owned(), Arc::new(other.after.unwrap()));
        for key in [stolen, renumbered(&stolen)] {
            let taken = edited(&all, &"beta".parse().unwrap(), &IfMatch::default(), &add(key), NOW);
            assert_eq!(code(taken.map(|edited| edited.after)), "key-taken");
        }
        let back = edited(&all, &name(), &IfMatch::default(), &document(&["acme/*"]), NOW).unwrap();
        assert_eq!((back.action, &back.after.as_ref().unwrap().keys[0].revoked), ("publisher.create", &expected));
        apply(&mut all, &document(&["acme/*"]), NOW).unwrap();
        assert_eq!(code(apply(&mut all, &add(stolen), NOW)), "key-taken");
        apply(&mut all, &add(good), NOW).unwrap();
    }

    #[test]
    fn what_stays_of_removed_publishers_keeps_nobody_else_from_being_made() {
        let key = SecretKey::generate().unwrap().public();
        let revoked = PublisherKeyRow {
            number: key.number().to_string(),
            public_key: key.line(),
            added_at: NOW,
            valid_from: None,
            valid_until: None,
            revoked: Some(RevocationRow { since: NOW, why: "stolen".to_owned() }),
        };
        let row = |name: String, namespaces: &[&str]| PublisherRow {
            name: name.parse().unwrap(),
            title: String::new(),
            namespaces: namespaces.iter().map(|namespace| (*namespace).to_owned()).collect(),
            keys: vec![revoked.clone()],
            created_at: NOW,
            updated_at: NOW,
        };
        let most = table::PUBLISHERS_KEPT.default;
        let all = |namespaces: &[&str]| -> Publishers {
            (0..most).map(|number| (format!("p{number}"), Arc::new(row(format!("p{number}"), namespaces)))).collect()
        };
        apply(&mut all(&[]), &document(&["acme/*"]), NOW).unwrap();
        assert!(apply(&mut all(&["p/*"]), &document(&["acme/*"]), NOW).is_err());
        // One that comes back is one more.
        let mut full = all(&["p/*"]);
        full.insert("acme".to_owned(), Arc::new(row("acme".to_owned(), &[])));
        assert!(apply(&mut full, &document(&["acme/*"]), NOW).is_err());
    }

    #[test]
    fn what_is_no_namespace_is_refused_with_its_place() {
        for (namespaces, place) in [
            (&["acme/*", "beta/one"][..], "taken"),
            (&[], "namespaces"),
            (&["*"], "namespaces[0]"),
            (&["*/*"], "namespaces[0]"),
            (&["acme"], "namespaces[0]"),
            (&["acme/*", "acme/lo*"], "namespaces[1]"),
            (&["Acme/*"], "namespaces[0]"),
            (&["acme/*/*"], "namespaces[0]"),
        ] {
            assert_eq!(code(apply(&mut Publishers::new(), &document(namespaces), NOW)), place, "{namespaces:?}");
        }
    }
}
