//! Changes of the list of suppressed identifiers. An entry of the list is one identifier, in its normal form, with a row for each
//! other form of it; the rows come and go with their entry, so that a list shows each identifier once and what is taken off it holds
//! nowhere any more.

use std::collections::{BTreeMap, BTreeSet};

use kith_model::id::WorkspaceId;
use kith_model::identity::{Identifier, IdentityRules};
use kith_model::time::Timestamp;
use kith_store::keys::alias_digest;
use kith_store::{Key, Operation, ReadError, Store, row};

use super::{Digest, SuppressionPlace, SuppressionRow, kept, sought};

/// How the list changes.
#[derive(Debug, Clone, Copy)]
pub enum SuppressionChange<'a> {
    /// Nothing is sent to the identifiers from `at` on.
    Add { reason: &'a str, at: Timestamp },
    /// Messages go to them again.
    Remove,
}

/// What the row of a digest is, as far as changes ask.
enum Found {
    Nothing,
    /// An entry with its other forms. What cannot be read is an entry alone: it suppresses.
    Entry(Vec<Digest>),
    FormOf(Digest),
}

/// The rows of a list while identifiers are put on it and taken off: what one changes the next finds.
pub(crate) struct ListChanges<'a> {
    store: &'a dyn Store,
    workspace: WorkspaceId,
    realm_key: &'a [u8; 32],
    rules: &'a IdentityRules,
    changed: BTreeMap<Digest, Option<SuppressionRow>>,
}

impl<'a> ListChanges<'a> {
    pub(crate) fn new(
        store: &'a dyn Store,
        (workspace, realm_key, rules): (WorkspaceId, &'a [u8; 32], &'a IdentityRules),
    ) -> ListChanges<'a> {
        ListChanges { store, workspace, realm_key, rules, changed: BTreeMap::new() }
    }

    /// Make one change to one identifier.
    pub(crate) fn change(&mut self, identifier: &Identifier, change: SuppressionChange<'_>) -> Result<(), ReadError> {
        match change {
            SuppressionChange::Add { reason, at } => self.add(identifier, reason, at),
            SuppressionChange::Remove => self.remove(identifier),
        }
    }

    /// The steps of a commit that make the changes.
    pub(crate) fn steps(self) -> Vec<Operation> {
        let step = |(digest, row): (Digest, Option<SuppressionRow>)| {
            let key = Key::suppression(self.workspace, &digest);
            match row {
                Some(row) => Operation::Put(key, row::encode(&row)),
                None => Operation::Delete(key),
            }
        };
        self.changed.into_iter().map(step).collect()
    }

    fn digests(&self, forms: &[Identifier]) -> BTreeSet<Digest> {
        forms.iter().map(|form| alias_digest(self.realm_key, form)).collect()
    }

    /// Put an identifier on the list. An entry that is a form of it, or that it is a form of, becomes one with it: whoever takes
    /// either off the list finds both.
    fn add(&mut self, identifier: &Identifier, reason: &str, since: Timestamp) -> Result<(), ReadError> {
        let normal = self.rules.judge(identifier).unwrap_or_else(|_| identifier.trimmed());
        let mut entry = alias_digest(self.realm_key, &normal);
        let mut forms = self.digests(&kept(identifier, (self.realm_key, self.rules)));
        forms.insert(entry);
        let mut found = self.find(&forms)?;
        if let Some(Found::FormOf(of)) = found.get(&entry) {
            entry = *of;
            found.extend(self.find(&BTreeSet::from([entry]))?);
        }
        forms.extend(self.forms_of_entries(&found)?);
        forms.extend(found.into_keys());
        forms.remove(&entry);
        let row = |place| SuppressionRow { kind: identifier.kind.clone(), since, reason: reason.to_owned(), place };
        for form in &forms {
            self.changed.insert(*form, Some(row(SuppressionPlace::FormOf(entry))));
        }
        self.changed.insert(entry, Some(row(SuppressionPlace::Entry(forms.into_iter().collect()))));
        Ok(())
    }

    /// Take off the list what an identifier is found by, under the rules of now and those before, and every entry that is a form of
    /// it with all of its forms.
    fn remove(&mut self, identifier: &Identifier) -> Result<(), ReadError> {
        let by = (self.realm_key, self.rules);
        let mut forms = self.digests(&kept(identifier, by));
        forms.extend(self.digests(&sought(identifier, by)));
        let found = self.find(&forms)?;
        for digest in self.forms_of_entries(&found)?.into_iter().chain(forms) {
            self.changed.insert(digest, None);
        }
        Ok(())
    }

    /// The other forms of the entries among what was found. One that another entry has claimed since is that one's.
    fn forms_of_entries(&self, found: &BTreeMap<Digest, Found>) -> Result<BTreeSet<Digest>, ReadError> {
        let mut others = BTreeSet::new();
        for found in found.values() {
            if let Found::Entry(forms) = found {
                others.extend(forms.iter().copied());
            }
        }
        let is_entry = |digest: &Digest| matches!(found.get(digest), Some(Found::Entry(_)));
        let own = self.find(&others)?.into_iter();
        let own = own.filter(|(_, found)| matches!(found, Found::FormOf(entry) if is_entry(entry)));
        Ok(own.map(|(digest, _)| digest).collect())
    }

    fn find(&self, digests: &BTreeSet<Digest>) -> Result<BTreeMap<Digest, Found>, ReadError> {
        let unknown = digests.iter().filter(|digest| !self.changed.contains_key(*digest));
        let keys: Vec<Key> = unknown.clone().map(|digest| Key::suppression(self.workspace, digest)).collect();
        let stored = unknown.zip(self.store.get(&keys)?).map(|(digest, value)| {
            let found = match value.as_deref().map(row::decode::<SuppressionRow>) {
                None => Found::Nothing,
                Some(Ok(row)) => Found::from(&row.place),
                Some(Err(_)) => Found::Entry(Vec::new()),
            };
            (*digest, found)
        });
        let mut all: BTreeMap<Digest, Found> = stored.collect();
        for digest in digests {
            if let Some(row) = self.changed.get(digest) {
                all.insert(*digest, row.as_ref().map_or(Found::Nothing, |row| Found::from(&row.place)));
            }
        }
        Ok(all)
    }
}

impl From<&SuppressionPlace> for Found {
    fn from(place: &SuppressionPlace) -> Found {
        match place {
            SuppressionPlace::Entry(forms) => Found::Entry(forms.clone()),
            SuppressionPlace::FormOf(entry) => Found::FormOf(*entry),
        }
    }
}

#[cfg(test)]
mod tests {
    use kith_store::Unit;
    use proptest::prelude::*;

    use super::*;

    const WORKSPACE: WorkspaceId = WorkspaceId(1);
    const REALM_KEY: [u8; 32] = [7; 32];
    const ADD: SuppressionChange<'static> = SuppressionChange::Add { reason: "bounced", at: Timestamp(0) };

    fn rules(region: Option<&str>) -> IdentityRules {
        IdentityRules { phone_region: region.map(str::to_owned), ..IdentityRules::default() }
    }

    fn change(store: &dyn Store, rules: &IdentityRules, identifiers: &[Identifier], change: SuppressionChange<'_>) {
        let mut list = ListChanges::new(store, (WORKSPACE, &REALM_KEY, rules));
        for identifier in identifiers {
            list.change(identifier, change).unwrap();
        }
        store.commit(Unit { operations: list.steps(), ..Unit::default() }).unwrap();
    }

    fn rows(store: &dyn Store) -> BTreeMap<Key, SuppressionRow> {
        let page = store.scan(&Key::suppressions(WORKSPACE).range(), 10_000).unwrap();
        page.rows.iter().map(|(key, row)| (key.clone(), row::decode(row).unwrap())).collect()
    }

    fn entries(store: &dyn Store) -> usize {
        rows(store).values().filter(|row| matches!(row.place, SuppressionPlace::Entry(_))).count()
    }

    fn is_on(store: &dyn Store, rules: &IdentityRules, identifier: &Identifier) -> bool {
        let by = (WORKSPACE, &REALM_KEY, rules);
        super::super::reason(store, by, std::slice::from_ref(identifier)).unwrap().is_some()
    }

    #[test]
    fn a_row_of_the_release_before_is_an_entry_and_is_taken_off() {
        let (store, rules, ada) = (kith_store::memory(), rules(None), Identifier::new("email", "ada@shop.example"));
        let before = super::super::Formless { kind: "email".into(), since: Timestamp(5), reason: "bounced".into() };
        let mut bytes = vec![1];
        row::write_postcard(&before, &mut bytes);
        let key = super::super::key(WORKSPACE, &REALM_KEY, &ada);
        store.commit(Unit { operations: vec![Operation::Put(key, bytes)], ..Unit::default() }).unwrap();
        assert!(is_on(&store, &rules, &ada) && entries(&store) == 1);
        change(&store, &rules, &[ada], SuppressionChange::Remove);
        assert!(rows(&store).is_empty());
    }

    #[test]
    fn what_is_taken_off_in_one_spelling_is_off_in_every_other() {
        let (store, rules) = (kith_store::memory(), rules(None));
        let spelling = |value: &str| Identifier::new("email", value);
        change(&store, &rules, &[spelling("Ada@Shop.example"), spelling("ADA@shop.example")], ADD);
        assert_eq!(entries(&store), 1);
        change(&store, &rules, &[spelling("ada@shop.example")], SuppressionChange::Remove);
        assert!(rows(&store).is_empty(), "{:?}", rows(&store));
    }

    #[test]
    fn a_number_that_was_named_without_its_country_is_one_with_what_it_becomes() {
        let (store, national) = (kith_store::memory(), Identifier::new("phone", "0170 5556612"));
        change(&store, &rules(None), std::slice::from_ref(&national), ADD);
        let whole = Identifier::new("phone", "+49 170 5556612");
        change(&store, &rules(Some("DE")), std::slice::from_ref(&whole), ADD);
        assert_eq!(entries(&store), 1);
        assert!(is_on(&store, &rules(None), &national) && is_on(&store, &rules(Some("DE")), &national));
        change(&store, &rules(Some("DE")), std::slice::from_ref(&national), SuppressionChange::Remove);
        assert!(rows(&store).is_empty(), "{:?}", rows(&store));
    }

    #[test]
    fn taking_a_number_off_leaves_the_same_number_of_another_country() {
        let (store, rules) = (kith_store::memory(), rules(None));
        let [german, austrian] = ["+49 170 5556612", "+43 170 5556612"].map(|value| Identifier::new("phone", value));
        change(&store, &rules, &[german.clone(), austrian.clone()], ADD);
        assert_eq!(entries(&store), 2);
        change(&store, &rules, std::slice::from_ref(&german), SuppressionChange::Remove);
        assert!(!is_on(&store, &rules, &german) && is_on(&store, &rules, &austrian));
    }

    fn any_identifier() -> impl Strategy<Value = Identifier> {
        let phones = vec!["0170 5556612", "+49 170 5556612", "+43 170 5556612", "0049 170 5556612", "170 5556612"];
        let emails = vec!["ada@shop.example", "Ada@Shop.example", "ADA@SHOP.example", "eve@shop.example"];
        let phone = prop::sample::select(phones).prop_map(|value| Identifier::new("phone", value));
        let email = prop::sample::select(emails).prop_map(|value| Identifier::new("email", value));
        prop_oneof![phone, email]
    }

    proptest! {
        /// Whatever is put on the list and taken off it, under whichever rules: what is put on it is on it, what is taken off it is
        /// not, and each form has an entry that names it, so that none holds unseen.
        #[test]
        fn no_form_is_without_its_entry(
            turns in prop::collection::vec(
                (any::<bool>(), prop::sample::select(vec![None, Some("DE"), Some("AT")]),
                    prop::collection::vec(any_identifier(), 1..4)),
                1..12,
            ),
        ) {
            let store = kith_store::memory();
            for (adds, region, identifiers) in turns {
                let rules = rules(region);
                change(&store, &rules, &identifiers, if adds { ADD } else { SuppressionChange::Remove });
                for identifier in &identifiers {
                    prop_assert_eq!(is_on(&store, &rules, identifier), adds, "{}", identifier);
                }
                let rows = rows(&store);
                for (key, row) in &rows {
                    let SuppressionPlace::FormOf(entry) = &row.place else { continue };
                    let of = rows.get(&Key::suppression(WORKSPACE, entry)).map(|row| &row.place);
                    let Some(SuppressionPlace::Entry(forms)) = of else { panic!("{key:?} has no entry") };
                    prop_assert!(forms.iter().any(|form| Key::suppression(WORKSPACE, form) == *key));
                }
            }
        }
    }
}
