//! Keys keep the order of what they stand for, are no longer than they must be, and are all in FORMAT.md.

use std::collections::BTreeSet;

use kith_model::id::{AudienceId, InstallationId};
use kith_model::identity::{EdgeId, Evidence, Identifier};

use super::*;

const WORKSPACE: WorkspaceId = WorkspaceId(3);

fn identity(number: u8) -> SourceIdentityId {
    SourceIdentityId([number; 16])
}

#[test]
fn keys_begin_with_space_and_workspace_and_keep_order() {
    let early = Key::event(WORKSPACE, identity(7), Timestamp(-5));
    let late = Key::event(WORKSPACE, identity(7), Timestamp(5));
    assert!(early < late);
    assert_eq!(early.as_bytes()[..5], [EVENT, 0, 0, 0, 3]);
    assert_eq!(early.workspace_of(), Some(WORKSPACE));
    assert_eq!(Key::least_of(EVENT).workspace_of(), None);
    let range = Key::events(WORKSPACE, identity(7)).range();
    assert!(range.from <= early && late < range.to);
    let timer = Key::timer(WORKSPACE, Timestamp(-5), identity(7));
    assert!(timer < Key::timer(WORKSPACE, Timestamp(5), identity(1)));
    assert_eq!(timer.as_timer(), Some((Timestamp(-5), identity(7))));
    assert_eq!(early.as_timer(), None);
}

#[test]
fn an_identity_has_its_facts_under_one_prefix_and_nothing_else() {
    let of = |identity| {
        let person = |row| Key::person(WORKSPACE, identity, row);
        let bucket = |number| Key::contribution(WORKSPACE, identity, number);
        [person(PersonRow::Head), person(PersonRow::Contribution), bucket(0), bucket(255)]
    };
    let prefix = Key::identity(WORKSPACE, identity(7));
    let range = prefix.range();
    assert!(of(identity(7)).is_sorted());
    assert!(of(identity(7)).iter().all(|key| range.from <= *key && *key < range.to));
    assert!(of(identity(8)).iter().all(|key| *key < range.from || range.to <= *key));
    let named = of(identity(7)).map(|key| (key.as_person(), key.as_bucket()));
    let row = |row: PersonRow| Some((identity(7), row as u8));
    let contribution = row(PersonRow::Contribution);
    let expected =
        [(row(PersonRow::Head), None), (contribution, None), (contribution, Some(0)), (contribution, Some(255))];
    assert_eq!(named, expected);
    let others = [
        prefix,
        Key::event(WORKSPACE, identity(7), Timestamp(0)),
        Key::derived(WORKSPACE, identity(7)),
        Key::entries(WORKSPACE, identity(7)),
    ];
    assert!(others.iter().all(|key| key.as_person().is_none() && key.as_bucket().is_none()));
}

#[test]
fn the_newest_delivery_comes_first() {
    let at = |time| Key::delivery_by_time(WORKSPACE, Timestamp(time), &[7; 16]);
    assert!([at(i64::MAX), at(5), at(4), at(-1), at(i64::MIN)].is_sorted());
    let range = Key::deliveries_by_time(WORKSPACE).range();
    assert!([at(i64::MAX), at(i64::MIN)].iter().all(|key| range.from <= *key && *key < range.to));
}

#[test]
fn what_a_plugin_keeps_for_a_time_lies_in_the_order_in_which_it_expires() {
    let installation = InstallationId(7);
    let at = |time, key| Key::plugin_expiry_at(WORKSPACE, installation, Timestamp(time), key);
    assert!([at(i64::MIN, "z"), at(-1, "z"), at(4, "b"), at(5, ""), at(5, "a"), at(i64::MAX, "a")].is_sorted());
    let until = Key::plugin_expiries_until(WORKSPACE, installation, Timestamp(5));
    assert!(at(4, "\u{10ffff}") < until && until <= at(5, ""));
    assert_eq!(at(-5, "a").as_plugin_expiry_at(WORKSPACE, installation), Some((Timestamp(-5), "a")));
    let by_key = Key::plugin_expiry(WORKSPACE, installation, "a");
    assert_eq!(by_key.as_plugin_expiry_at(WORKSPACE, installation), None);
    let all = Key::plugin_expiries(WORKSPACE, installation).range();
    assert!([by_key, at(i64::MIN, ""), at(i64::MAX, "z")].iter().all(|key| all.from <= *key && *key < all.to));
    assert!(Key::plugin_expiries(WORKSPACE, InstallationId(8)) >= all.to);
}

#[test]
fn what_was_emitted_lies_in_its_order() {
    let key = |installation, number| Key::emission(WORKSPACE, InstallationId(installation), number);
    let keys = [key(1, 0), key(1, 255), key(1, 256), key(2, 0), key(u32::MAX, u64::MAX)];
    assert!(keys.is_sorted());
    let of_one = Key::emissions_of(WORKSPACE, InstallationId(1)).range();
    let inside: Vec<bool> = keys.iter().map(|key| of_one.from <= *key && *key < of_one.to).collect();
    assert_eq!(inside, [true, true, true, false, false]);
    assert_eq!(keys[2].as_emission(WORKSPACE), Some((InstallationId(1), 256)));
    assert_eq!(Key::emissions_of(WORKSPACE, InstallationId(1)).as_emission(WORKSPACE), None);
}

#[test]
fn chunks_follow_leaf_and_number() {
    let chunk = |leaf, number| Key::chunk(WORKSPACE, identity(7), leaf, number);
    let keys = [chunk(1, 0), chunk(1, 255), chunk(1, 256), chunk(2, 0), chunk(u64::MAX, u32::MAX)];
    assert!(keys.is_sorted());
    let leaf = Key::chunks(WORKSPACE, identity(7), 1).range();
    let inside: Vec<bool> = keys.iter().map(|key| leaf.from <= *key && *key < leaf.to).collect();
    assert_eq!(inside, [true, true, true, false, false]);
    let all = Key::all_chunks(WORKSPACE, identity(7)).range();
    assert!(keys.iter().all(|key| all.from <= *key && *key < all.to));
    assert_eq!(keys[0].as_derived(), None);
    let group = |group| Key::leaves(WORKSPACE, identity(7), group);
    let leaves = Key::all_leaves(WORKSPACE, identity(7)).range();
    assert!([group(0), group(255), group(256), group(u16::MAX)].is_sorted());
    assert!([group(0), group(u16::MAX)].iter().all(|key| leaves.from <= *key && *key < leaves.to));
    assert_eq!((group(258).as_leaves(), keys[0].as_leaves()), (Some((identity(7), 258)), None));
    assert_eq!(Key::derived(WORKSPACE, identity(7)).as_derived(), Some(identity(7)));
}

#[test]
fn a_fault_has_its_chunks_behind_it() {
    let fault = |audience, token| Key::fault(WORKSPACE, AudienceId(audience), token);
    let chunk = |audience, token, chunk| Key::fault_chunk(WORKSPACE, AudienceId(audience), token, chunk);
    let keys = [fault(1, 7), chunk(1, 7, 0), chunk(1, 7, 256), chunk(1, 7, u32::MAX), fault(1, 8), fault(2, 0)];
    assert!(keys.is_sorted());
    let all = Key::faults(WORKSPACE).range();
    assert!(keys.iter().all(|key| all.from <= *key && *key < all.to));
    let of = |audience, token, chunk| Some((AudienceId(audience), token, chunk));
    let named = keys.each_ref().map(Key::as_fault);
    let expected = [
        of(1, 7, None),
        of(1, 7, Some(0)),
        of(1, 7, Some(256)),
        of(1, 7, Some(u32::MAX)),
        of(1, 8, None),
        of(2, 0, None),
    ];
    assert_eq!(named, expected);
    assert_eq!((Key::faults(WORKSPACE).as_fault(), Key::derived(WORKSPACE, identity(7)).as_fault()), (None, None));
}

#[test]
fn the_parts_of_the_people_cover_them_once() {
    let both = [
        (Key::people(WORKSPACE), Key::people_parts as fn(WorkspaceId, u16) -> Vec<KeyRange>),
        (Key::derived_rows(WORKSPACE), Key::derived_parts),
    ];
    for (all, cut) in both {
        let all = all.range();
        for count in [0, 1, 2, 3, 7, SHARDS, u16::MAX] {
            let parts = cut(WORKSPACE, count);
            assert_eq!(parts.first().map(|part| &part.from), Some(&all.from));
            assert_eq!(parts.last().map(|part| &part.to), Some(&all.to));
            assert!(parts.windows(2).all(|pair| pair[0].to == pair[1].from && pair[0].from < pair[0].to));
        }
    }
}

#[test]
fn a_range_ends_after_the_last_byte() {
    assert_eq!(Key(vec![1, 255, 255]).range().to, Key(vec![2]));
}

#[test]
fn an_alias_depends_on_realm_kind_and_value() {
    let digest = |realm: u8, kind: &str, value: &str| alias_digest(&[realm; 32], &Identifier::new(kind, value));
    let digests = [
        digest(0, "email", "a@b.c"),
        digest(1, "email", "a@b.c"),
        digest(0, "e", "maila@b.c"),
        digest(0, "email", "a@b.d"),
        digest(0, "user_id", "a@b.c"),
    ];
    assert_eq!(digests.iter().collect::<BTreeSet<_>>().len(), digests.len());
    // The first half of `printf 'email\0a@b.c' | openssl dgst -sha256 -mac HMAC -macopt hexkey:00…00`: stored keys must not
    // change with a release.
    assert_eq!(u128::from_be_bytes(digests[0]), 0x87e7_24ba_017a_6da6_2f8a_a7ce_f4f8_aa30);
}

#[test]
fn nothing_that_a_sender_chooses_lengthens_a_key() {
    let huge = Identifier::new("user_id", "x".repeat(1 << 20));
    let edge = EdgeId { low: identity(1), high: identity(2), evidence: Evidence::Alias };
    let longest = [
        Key::alias(WORKSPACE, &alias_digest(&UNKEYED_REALM, &huge)),
        Key::event(WORKSPACE, identity(1), Timestamp(i64::MAX)).followed_by(&[0; 8]),
        Key::edge(WORKSPACE, identity(1), edge),
        Key::dedupe(WORKSPACE, u32::MAX, InstallationId(u32::MAX), u128::MAX),
        Key::contribution(WORKSPACE, identity(1), u8::MAX),
        Key::chunk(WORKSPACE, identity(1), u64::MAX, u32::MAX),
        Key::timer(WORKSPACE, Timestamp(i64::MAX), identity(1)),
        Key::fault_chunk(WORKSPACE, AudienceId(u32::MAX), u64::MAX, u32::MAX),
        Key::entries(WORKSPACE, identity(1)),
        Key::emitted(WORKSPACE, identity(1), InstallationId(u32::MAX), u64::MAX),
        Key::delivery(WORKSPACE, &[u8::MAX; 16]),
        Key::delivery_by_time(WORKSPACE, Timestamp(i64::MIN), &[u8::MAX; 16]),
    ];
    assert!(longest.iter().all(|key| key.as_bytes().len() <= 40), "{longest:?}");
}

/// The lines of FORMAT.md that describe a space: `| \`10\` person | fact | …`.
#[test]
fn every_space_is_in_the_format() {
    let format = include_str!("../../FORMAT.md");
    let mut described = Vec::new();
    for line in format.lines() {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let [_, name, nature, ..] = cells.as_slice() else { continue };
        let natures = ["fact", "derived", "promise", "setup", "store"];
        if natures.contains(nature) {
            assert_eq!(cells.len(), 8, "a space has nature, owner, rest, row and version: {line}");
            described.push(((*name).to_owned(), *nature));
        }
    }
    let declared = SPACES
        .iter()
        .map(|(byte, name, nature)| (format!("`{byte:02x}` {}", name.to_lowercase().replace('_', " ")), *nature));
    assert_eq!(described, declared.collect::<Vec<_>>());
}
