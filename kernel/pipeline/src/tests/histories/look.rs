//! Looking at a kernel: that it has come to rest, and that what it shows is what the naive answer says.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kith_model::id::{AudienceId, ProfileId, SourceIdentityId};
use kith_model::identity::Identifier;
use kith_model::time::Clock as _;
use kith_store::{Key, Operation, Store, Unit};

use super::life::{Defined, MODEL};
use super::naive::{self, CONDITIONS, Group};
use super::repeats::repeating;
use super::steps::{Model, SentEvent};
use crate::profiles::facts::each_row;
use crate::tests::harness::*;
use crate::{ProfileView, Setup};

pub(super) fn bench(store: Arc<dyn Store>) -> Bench {
    let bench = Bench::over(store, vec![], |setup| {
        setup.installations.retain(|installed| installed.id != MODEL);
        setup.installations.push(repeating());
        setup.identity_rules.limits.insert("email".to_owned(), 2);
    });
    bench.clock.advance_ms(DAY / 2);
    bench
}

/// The installations of `setup` with the source that `held` has, because each bench has a connector of its own.
pub(super) fn sources_of(held: &Setup, setup: &Setup) -> Vec<crate::Installed> {
    let others = setup.installations.iter().filter(|installed| installed.id != SOURCE).cloned();
    held.installations.iter().filter(|installed| installed.id == SOURCE).cloned().chain(others).collect()
}

pub(super) fn is_time_worked_off(bench: &Bench) -> bool {
    let workspace = bench.kernel.shared.workspace(WORKSPACE).unwrap();
    if workspace.projection.read().as_of.time >= bench.clock.now() {
        return true;
    }
    bench.kernel.shared.wake_reactor(WORKSPACE);
    false
}

pub(super) fn settle_time(bench: &Bench) -> Result<(), String> {
    bench.wait_until("time is worked off", || is_time_worked_off(bench));
    bench.settle();
    Ok(())
}

/// Drop everything that can be computed from the facts.
pub(super) fn forget_derived(store: &dyn Store) {
    let mut keys = vec![Key::progress(WORKSPACE, "cursor"), Key::progress(WORKSPACE, "readiness")];
    let mut identities = Vec::new();
    each_row(store, &Key::derived_rows(WORKSPACE), |key, _| {
        identities.extend(key.as_derived());
        keys.push(key.clone());
        Ok(())
    })
    .unwrap();
    for identity in identities {
        for of_leaves in [Key::all_leaves(WORKSPACE, identity), Key::all_chunks(WORKSPACE, identity)] {
            each_row(store, &of_leaves, |key, _| {
                keys.push(key.clone());
                Ok(())
            })
            .unwrap();
        }
    }
    for whole in [Key::timers(WORKSPACE), Key::faults(WORKSPACE)] {
        each_row(store, &whole, |key, _| {
            keys.push(key.clone());
            Ok(())
        })
        .unwrap();
    }
    let operations = keys.into_iter().map(Operation::Delete).collect();
    store.commit(Unit { operations, ..Unit::default() }).unwrap();
}

/// Everybody's profile as the kernel has it.
pub(super) fn profiles(bench: &Bench, groups: &[Group]) -> Result<Vec<ProfileView>, String> {
    let find = |identifier: &Identifier| {
        let found = bench.kernel.profile_by_identifier(WORKSPACE, identifier).map_err(|error| error.to_string())?;
        found.ok_or_else(|| format!("nobody is {identifier}"))
    };
    let mut profiles: Vec<ProfileView> = Vec::new();
    for identifier in groups.iter().flatten() {
        let profile = find(identifier)?;
        if !profiles.iter().any(|known| known.id == profile.id) {
            profiles.push(profile);
        }
    }
    Ok(profiles)
}

pub(super) fn identities(bench: &Bench, groups: &[Group]) -> Result<BTreeMap<SourceIdentityId, Identifier>, String> {
    Ok(profiles(bench, groups)?.into_iter().flat_map(|profile| profile.members).collect())
}

/// Compare all that the kernel says of people, audiences and counts with the naive answer.
pub(super) fn check(
    bench: &Bench,
    sent: &[SentEvent],
    defined: &[Option<Defined>],
    model: Model,
) -> Result<(), String> {
    let people = naive::people(sent);
    let groups: Vec<Group> = people.keys().cloned().collect();
    let now = bench.clock.now();
    let profiles = profiles(bench, &groups)?;
    let group = |profile: &ProfileView| profile.members.iter().map(|(_, one)| one.clone()).collect::<Group>();
    let found: BTreeSet<Group> = profiles.iter().map(group).collect();
    if found != groups.iter().cloned().collect() {
        return Err(format!("people are {found:?} and not {groups:?}"));
    }
    let totals = bench.kernel.totals(WORKSPACE).unwrap();
    let identifiers = groups.iter().flatten().count();
    if (totals.profiles, totals.identifiers) != (groups.len() as u64, identifiers as u64) {
        return Err(format!("{totals:?} of {} people with {identifiers} identifiers", groups.len()));
    }
    for profile in &profiles {
        let person = &people[&group(profile)];
        let city = profile.traits.get("city").map(|city| city.value.json.trim_matches('"').to_owned());
        if city.as_deref() != person.city {
            return Err(format!("{:?} lives in {city:?} and not in {:?}", group(profile), person.city));
        }
        let level = profile.tags.get("level").map(|tag| tag.json.trim_matches('"').to_owned());
        let repeated = profile.tags.get("repeated").map(|tag| tag.json.trim_matches('"').to_owned());
        if repeated != Some(person.repeated()) {
            return Err(format!("{:?} has the records {repeated:?} and not {}", group(profile), person.repeated()));
        }
        if person.level(model).is_some_and(|expected| level.as_deref() != expected) {
            return Err(format!("{:?} has level {level:?} and not {:?}", group(profile), person.level(model)));
        }
    }
    for (condition, text) in CONDITIONS.iter().enumerate() {
        let truths: Option<Vec<bool>> = people.values().map(|person| person.meets(condition, model, now)).collect();
        let count = bench.kernel.count(WORKSPACE, text).map_err(|error| error.to_string())?;
        let expected = truths.map(|truths| truths.into_iter().filter(|truth| *truth).count() as u64);
        // What a model that does not run has never computed stays unknown.
        let is_known = count.exact || expected.is_none();
        if !is_known
            || expected.is_some_and(|expected| expected != count.count)
            || count.population != groups.len() as u64
        {
            return Err(format!("`{text}` counts {count:?} and not {expected:?}"));
        }
    }
    for one in defined.iter().flatten() {
        check_audience(bench, *one, &profiles, |profile| people[&group(profile)].meets(one.condition, model, now))?;
    }
    Ok(())
}

pub(super) fn check_audience(
    bench: &Bench,
    defined: Defined,
    profiles: &[ProfileView],
    meets: impl Fn(&ProfileView) -> Option<bool>,
) -> Result<(), String> {
    let id = AudienceId(defined.id);
    let text = CONDITIONS[defined.condition];
    let size = bench.kernel.audience(WORKSPACE, id).map_err(|error| error.to_string())?.size;
    let page =
        bench.kernel.audience_members(WORKSPACE, id, PageRequest::first(10_000)).map_err(|error| error.to_string())?;
    let members: BTreeSet<ProfileId> = page.members.into_iter().collect();
    if size != Some(members.len() as u64) {
        return Err(format!("audience {id:?} `{text}` has size {size:?} and members {members:?}"));
    }
    if let Some(stranger) = members.iter().find(|member| !profiles.iter().any(|profile| profile.id == **member)) {
        return Err(format!("audience {id:?} `{text}` has {stranger}, who is nobody"));
    }
    for profile in profiles {
        let explained = bench
            .kernel
            .explain(WORKSPACE, id, profile.id, &crate::Patience::default())
            .map_err(|error| error.to_string())?;
        let says = explained.map(|explained| explained.holds());
        let is_member = members.contains(&profile.id);
        let shows = profile.audiences.contains_key(&id);
        let expected = meets(profile);
        let is_right = expected.is_none_or(|expected| expected == is_member);
        // A condition that is null holds for nobody; one that a stopped model never decided moves nobody.
        let is_undecided = expected.is_none() && says == Some(None);
        let is_explained = is_undecided || says == Some(Some(is_member));
        if !is_right || !is_explained || shows != is_member {
            return Err(format!(
                "audience {id:?} `{text}`: {:?} should be a member: {expected:?}, is in the list: {is_member}, shows it: \
                 {shows}, explanation: {says:?}",
                profile.members
            ));
        }
    }
    Ok(())
}
