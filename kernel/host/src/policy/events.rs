//! Responsible for the events that a plugin may emit: those that its manifest names, and of these what the grant leaves.

use kith_model::plugin::{Grants, Manifest};

use super::items::{ItemKind, PolicyItem, Side};
use super::{LimitSource, Policy};

/// Events of any name.
const ANY_EVENT: &str = "*";

/// The names that a grant leaves; `None` where it leaves all that is asked for.
fn granted(grants: &Grants) -> Option<&[String]> {
    grants.emits.as_deref().filter(|names| names.iter().all(|name| name != ANY_EVENT))
}

/// The names of the events that may be emitted; `None` for any.
pub(super) fn emitted(manifest: &Manifest, grants: &Grants) -> Option<Vec<String>> {
    match (manifest.emitted_names(), granted(grants)) {
        (None, granted) => granted.map(<[String]>::to_vec),
        (Some(asked), None) => Some(asked.to_vec()),
        (Some(asked), Some(granted)) => Some(asked.iter().filter(|name| granted.contains(name)).cloned().collect()),
    }
}

/// What is granted and not asked for.
fn vain<'a>(manifest: &'a Manifest, grants: &'a Grants) -> impl Iterator<Item = &'a String> {
    let asked = manifest.emitted_names();
    let names = granted(grants).unwrap_or_default().iter();
    names.filter(move |name| asked.is_some_and(|asked| !asked.contains(name)))
}

/// Why events that are granted have no effect.
pub(super) fn in_vain(manifest: &Manifest, grants: &Grants) -> Vec<String> {
    vain(manifest, grants).map(|name| format!("emits: the manifest does not name `{name}`")).collect()
}

/// Each name that the manifest has, or one item for any; then those that are granted in vain.
pub(super) fn items(manifest: &Manifest, grants: &Grants, policy: &Policy) -> Vec<PolicyItem> {
    let (any, given) = ([ANY_EVENT.to_owned()], granted(grants));
    let decided_by = if given.is_some() { LimitSource::Grant } else { LimitSource::Manifest };
    let item = |name: &String| {
        let of = |names: &[String]| {
            let is_of = |other: &&String| name == ANY_EVENT || *other == name;
            Side::Names(names.iter().filter(is_of).cloned().collect())
        };
        PolicyItem {
            asked: Some(Side::Names(vec![name.clone()])),
            granted: given.map(of),
            effective: Some(policy.emits.as_deref().map_or_else(|| Side::Names(vec![name.clone()]), of)),
            ..PolicyItem::bare(ItemKind::Event, name, decided_by)
        }
    };
    let asked = manifest.emitted_names().unwrap_or(&any).iter().map(item);
    asked.chain(vain(manifest, grants).map(|name| PolicyItem::in_vain(ItemKind::Event, name))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Limits, effective_policy, policy_items};

    #[test]
    fn a_grant_leaves_some_of_the_events_that_the_manifest_names() {
        let texts = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let mut manifest = crate::parse_manifest(crate::guests::CONNECTOR).unwrap();
        let shown = |manifest: &Manifest, granted: Option<&[&str]>| {
            let grants = Grants { emits: granted.map(texts), ..Grants::default() };
            let policy = effective_policy(manifest, &grants, &Limits::default());
            let items = policy_items(manifest, &grants, &Limits::default(), &[]);
            let items = items.into_iter().filter(|item| item.kind == ItemKind::Event);
            let told: Vec<_> = items.map(|item| (item.name, item.effective, item.decided_by)).collect();
            (policy.emits, told, policy.without_effect)
        };
        let item = |name: &str, holds: &[&str], by| (name.to_owned(), Some(Side::Names(texts(holds))), by);
        let (by_manifest, by_grant) = (LimitSource::Manifest, LimitSource::Grant);
        manifest.capabilities.emits = texts(&["A", "B"]);
        for all in [None, Some(&["*"][..])] {
            let (names, items, in_vain) = shown(&manifest, all);
            assert_eq!(names, Some(texts(&["A", "B"])));
            assert_eq!(items, [item("A", &["A"], by_manifest), item("B", &["B"], by_manifest)]);
            assert!(in_vain.is_empty(), "{in_vain:?}");
        }
        let (names, items, in_vain) = shown(&manifest, Some(&["B", "C"]));
        assert_eq!(names, Some(texts(&["B"])));
        assert_eq!(items, [item("A", &[], by_grant), item("B", &["B"], by_grant), item("C", &[], by_manifest)]);
        assert_eq!(in_vain, ["emits: the manifest does not name `C`"]);
        // A connector that names none may emit any.
        manifest.capabilities.emits.clear();
        let (names, items, _) = shown(&manifest, None);
        assert_eq!((names, items), (None, vec![item("*", &["*"], by_manifest)]));
        let (names, items, in_vain) = shown(&manifest, Some(&["C"]));
        assert_eq!((names, items), (Some(texts(&["C"])), vec![item("*", &["C"], by_grant)]));
        assert!(in_vain.is_empty(), "{in_vain:?}");
        assert_eq!(shown(&manifest, Some(&[])).0, Some(Vec::new()));
    }
}
