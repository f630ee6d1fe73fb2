//! The rules over tables of values, and the partition over small sets of evidence.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

fn id(n: u8) -> SourceIdentityId {
    SourceIdentityId([n; 16])
}

fn edge(time: i64, a: u8, b: u8) -> Edge {
    edge_of(time, a, b, Evidence::SameEvent)
}

fn edge_of(time: i64, a: u8, b: u8, evidence: Evidence) -> Edge {
    let (low, high) = ordered(id(a), id(b));
    Edge {
        id: EdgeId { low, high, evidence },
        time: Timestamp(time),
        source: InstallationId(1),
        message_id: format!("m{time}"),
    }
}

/// `a` stands behind `b`.
fn behind(a: u8, b: u8, make: fn(Side) -> Evidence) -> Edge {
    let edge = EdgeId::behind(id(a), id(b), make);
    Edge { id: edge, time: Timestamp(0), source: InstallationId(0), message_id: String::new() }
}

fn people(kinds: &[(u8, &str)]) -> BTreeMap<SourceIdentityId, Identifier> {
    kinds.iter().map(|(n, kind)| (id(*n), Identifier::new(*kind, format!("v{n}")))).collect()
}

fn members(people: &BTreeMap<SourceIdentityId, Identifier>, edges: &[Edge]) -> Vec<Vec<SourceIdentityId>> {
    members_with(people, edges, &BTreeSet::new())
}

fn members_with(
    people: &BTreeMap<SourceIdentityId, Identifier>,
    edges: &[Edge],
    parted: &BTreeSet<MustNotLink>,
) -> Vec<Vec<SourceIdentityId>> {
    let rules = IdentityRules::default();
    let counting = counting(people, edges, &rules);
    let found = cluster(people, &counting.behind, counting.edges, parted, &rules);
    found.components.into_iter().map(|component| component.members).collect()
}

#[test]
fn a_second_user_on_a_shared_device_stays_apart() {
    let people = people(&[(1, "user_id"), (2, "user_id"), (9, "anonymous_id")]);
    let edges = [edge(20, 2, 9), edge(10, 1, 9)];
    let found = cluster(&people, &BTreeSet::new(), &edges, &BTreeSet::new(), &IdentityRules::default());
    let components: Vec<_> = found.components.iter().map(|component| component.members.clone()).collect();
    assert_eq!(components, vec![vec![id(1), id(9)], vec![id(2)]]);
    assert_eq!(found.vetoed, vec![(edges[0].id, Veto::Limit { kind: "user_id".into() })]);
}

#[test]
fn a_must_not_link_pair_outranks_evidence() {
    let people = people(&[(1, "user_id"), (3, "anonymous_id"), (4, "anonymous_id")]);
    let parted = BTreeSet::from([MustNotLink::new(id(4), id(1))]);
    let edges = [edge(1, 1, 3), edge(2, 3, 4)];
    assert_eq!(members_with(&people, &edges, &parted), vec![vec![id(1), id(3)], vec![id(4)]]);
}

#[test]
fn a_user_keeps_the_first_of_very_many_addresses_whatever_the_order() {
    let kinds: Vec<(u8, &str)> = (1..=60).map(|n| (n, "email")).chain([(99, "user_id")]).collect();
    let people = people(&kinds);
    let mut edges: Vec<Edge> = (1..=60).map(|n| edge(i64::from(n), n, 99)).collect();
    let rules = IdentityRules::default();
    let expected: Vec<EdgeId> = edges.iter().take(5 + SPARE_EVIDENCE).map(|edge| edge.id).collect();
    for _ in 0..4 {
        edges.rotate_left(17);
        edges.swap(3, 40);
        let kept: Vec<EdgeId> = counting(&people, &edges, &rules).edges.into_iter().map(|edge| edge.id).collect();
        assert_eq!(kept, expected);
    }
}

#[test]
fn what_comes_with_more_users_than_a_family_has_ties_nobody_its_first_evidence_included() {
    for (kind, stronger) in
        [("email", "user_id"), ("anonymous_id", "user_id"), ("anonymous_id", "email"), ("phone", "email")]
    {
        let kinds: Vec<(u8, &str)> = (1..=11).map(|n| (n, stronger)).chain([(99, kind), (98, "device")]).collect();
        let people = people(&kinds);
        let mut edges: Vec<Edge> = (1..=10).map(|n| edge(i64::from(n), n, 99)).collect();
        edges.push(edge(0, 98, 99));
        assert!(members(&people, &edges).iter().any(|group| group.contains(&id(99)) && group.len() > 1), "{kind}: ten");
        edges.push(edge(11, 11, 99));
        for _ in 0..3 {
            edges.rotate_left(5);
            assert_eq!(members(&people, &edges).len(), 13, "{kind} with eleven of {stronger}: everybody is alone");
        }
    }
}

#[test]
fn an_alias_from_user_to_user_is_a_merge_and_the_old_id_counts_no_more() {
    // 1 is the new user, 2 the old one, 5 the old id without its type, 9 a device, 3 somebody else on it.
    let people = people(&[(1, "user_id"), (2, "user_id"), (3, "user_id"), (5, PREVIOUS_ID), (9, "anonymous_id")]);
    let mut edges =
        vec![edge_of(50, 1, 5, Evidence::Alias), behind(2, 5, Evidence::SameId), edge(10, 2, 9), edge(20, 3, 9)];
    for _ in 0..4 {
        edges.rotate_left(1);
        assert_eq!(members(&people, &edges), vec![vec![id(1), id(2), id(5), id(9)], vec![id(3)]]);
    }
}

#[test]
fn two_users_who_are_each_others_old_id_are_one_and_no_third_joins_them() {
    let people = people(&[
        (1, "user_id"),
        (2, "user_id"),
        (3, "user_id"),
        (5, PREVIOUS_ID),
        (6, PREVIOUS_ID),
        (9, "anonymous_id"),
    ]);
    let edges = [
        edge_of(50, 1, 5, Evidence::Alias),
        behind(2, 5, Evidence::SameId),
        edge_of(60, 2, 6, Evidence::Alias),
        behind(1, 6, Evidence::SameId),
        edge(10, 2, 9),
        edge(20, 3, 9),
    ];
    assert_eq!(members(&people, &edges), vec![vec![id(1), id(2), id(5), id(6), id(9)], vec![id(3)]]);
}

#[test]
fn two_users_who_were_the_same_device_before_stay_two() {
    let people = people(&[(1, "user_id"), (2, "user_id"), (5, PREVIOUS_ID), (9, "anonymous_id")]);
    let edges =
        [edge_of(50, 1, 5, Evidence::Alias), edge_of(60, 2, 5, Evidence::Alias), behind(5, 9, Evidence::SameId)];
    assert_eq!(members(&people, &edges), vec![vec![id(1), id(5), id(9)], vec![id(2)]]);
}

#[test]
fn spellings_of_one_address_are_one_value() {
    let kinds: Vec<(u8, &str)> = (10..=17).map(|n| (n, "email")).chain([(1, "user_id")]).collect();
    let people = people(&kinds);
    // 10 is the normal form of 11 to 13; 14 to 17 are four more addresses.
    let mut edges: Vec<Edge> = (11..=13).map(|n| behind(n, 10, Evidence::Spelling)).collect();
    edges.extend([11, 14, 15, 16, 17].into_iter().map(|n| edge(i64::from(n), 1, n)));
    assert_eq!(members(&people, &edges).len(), 1, "five addresses");
}

#[test]
fn the_partition_is_a_function_of_the_set() {
    let kinds = ["user_id", "user_id", "email", "email", "anonymous_id", PREVIOUS_ID];
    let kinds: Vec<(u8, &str)> = (0..24u8).map(|n| (n + 1, kinds[n as usize % kinds.len()])).collect();
    let people = people(&kinds);
    let arb_edge = (1..=24u8, 1..=24u8, 0..20i64, 0..9u8).prop_filter_map("two ends", |(a, b, time, kind)| {
        (a != b).then(|| match kind {
            0 => edge_of(time, a, b, Evidence::Alias),
            1 => behind(a, b, Evidence::SameId),
            2 => behind(a, b, Evidence::ByHand),
            _ => edge(time, a, b),
        })
    });
    proptest!(|(edges in proptest::collection::vec(arb_edge, 1..60), seed in any::<usize>())| {
        let mut by_id: BTreeMap<EdgeId, Edge> = BTreeMap::new();
        for edge in edges {
            by_id.entry(edge.id).and_modify(|held| if edge.time < held.time { *held = edge.clone() }).or_insert(edge);
        }
        let mut edges: Vec<Edge> = by_id.into_values().collect();
        let expected = members(&people, &edges);
        let at = seed % edges.len();
        edges.rotate_left(at);
        edges.reverse();
        prop_assert_eq!(&members(&people, &edges), &expected);
        // Nobody is lost, and nobody is two.
        let mut seen: Vec<_> = expected.iter().flatten().copied().collect();
        seen.sort_unstable();
        prop_assert_eq!(seen, people.keys().copied().collect::<Vec<_>>());
    });
}

fn judged(kind: &str, value: &str) -> Result<String, Unfit> {
    IdentityRules::default().judge(&Identifier::new(kind, value)).map(|normal| normal.value)
}

const WORDS: &[&str] = &[
    "null",
    "undefined",
    "none",
    "nil",
    "nan",
    "n/a",
    "na",
    "unknown",
    "guest",
    "anonymous",
    "default",
    "test",
    "empty",
    "not set",
    "not_set",
    "distinctid",
    "distinct_id",
    "undefined undefined",
    "null null",
    "object Object",
    "object Undefined",
    "#NV",
    "#WERT!",
    "#BEZUG!",
    "#REF!",
    "#DIV/0!",
    "#NAME?",
    "#ZAHL!",
    "#NULL!",
    "#¿NOMBRE?",
    "#ССЫЛКА!",
    "#N/D",
    "gast",
    "deleted",
    "inconnu",
    "不明",
    "0",
    "-1",
    "true",
    "false",
    "email",
    "id",
];

const UNFILLED: &[&str] = &[
    "",
    " ",
    "-",
    "--",
    "…",
    "???",
    "000-000",
    " 0 ",
    "0000000000",
    "00000000-0000-0000-0000-000000000000",
    "9999999999",
    "xxxxxxxx",
    "********",
    "ffffffff-ffff-ffff-ffff-ffffffffffff",
    "{{user.id}}",
    "{{ id }}",
    "user-{{id}}",
    "${id}",
    "%user_id%",
    "%%email%%",
    "{userId}",
    "<%= id %>",
    "#{id}",
    "*|EMAIL|*",
    "[[id]]",
    "#N/A",
    "#REF!",
    "(leer)",
    "(blank)",
    "(Blank)",
    "(vide)",
    "Err:502",
    "k.A.",
    "Unbekannt",
    "\\N",
    "-1.0",
    "Optional(nil)",
    "[object HTMLElement]",
    "%7B%7Buser.id%7D%7D",
    "__USER_ID__",
    "$userId",
    ":userId",
    "$$user_id$$",
    "@@userId@@",
    "YOUR_USER_ID",
];

const SOMEBODY: &[&str] = &[
    "1",
    "7",
    "11",
    "1111",
    "00001",
    "10",
    "nullable",
    "nate",
    "testa",
    "guest-7f3a",
    "42",
    "u1",
    "ada",
    "Ünal",
    "{3f2504e0-4f89-11d3-9a0c-0305e82c3301}",
    "a%b%c",
    "100%",
    "user:{1}",
    "未知数",
    "n",
    "x-1",
];

#[test]
fn placeholders_name_nobody_in_every_quoting_and_case() {
    let quotes =
        [("", ""), ("\"", "\""), ("'", "'"), ("(", ")"), ("<", ">"), ("[", "]"), (" ", "\u{200b}"), ("\"'", "'\"")];
    for kind in ["user_id", "anonymous_id", "email", "phone", "loyalty_card"] {
        for word in WORDS {
            for (open, close) in quotes {
                for cased in [(*word).to_owned(), word.to_uppercase(), word.to_lowercase()] {
                    let value = format!("{open}{cased}{close}");
                    assert!(judged(kind, &value).is_err(), "{kind} {value:?}");
                }
            }
        }
        for value in UNFILLED {
            assert!(judged(kind, value).is_err(), "{kind} {value:?}");
        }
    }
    for value in SOMEBODY {
        assert_eq!(judged("user_id", value).as_deref(), Ok(*value), "{value:?}");
    }
}

#[test]
fn what_is_no_address_is_no_identifier() {
    let none = [
        "n/a",
        "no",
        "@",
        "a",
        "x@",
        "@x",
        "ada@shop",
        "ada@.de",
        "ada@shop..de",
        "ada@shop.",
        "a b@shop.de",
        "ada@@shop.de",
        "Ada <ada@shop.de>",
        "mailto:ada@shop.de",
        "ada@1.2.3.4",
        "ada@shop.de,bob@shop.de",
        "ada@-shop.de",
        "test@test.com",
        "TEST@TEST.COM",
        "none@none.com",
        "noemail@example.com",
        "noemail@shop.de",
        "no-reply@shop.de",
        "test@example.com",
        "null@null.null",
        "undefined@shop.de",
        "a@a.com",
        "asdf@asdf.com",
        "email@email.com",
    ];
    for value in none {
        assert!(judged("email", value).is_err(), "{value:?}");
    }
    let somebodys = [
        "a@b.c",
        "ada@example.com",
        "bob@example.org",
        "ada+news@shop.co.uk",
        "o'neil@x.io",
        "ada..b@docomo.ne.jp",
        "süß@müller.de",
        "1@2.fm",
        "test@shop.de",
        "user@shop.de",
        "guest.house@shop.de",
        "x_y-z@sub.domain.travel",
    ];
    for value in somebodys {
        assert_eq!(judged("email", value).as_deref(), Ok(value), "{value:?}");
    }
}

#[test]
fn spellings_of_an_address_have_one_normal_form() {
    let around = ["", " ", "\t", "\n", "\u{a0}", "\u{200b}", "\u{feff}", "\u{2003}"];
    proptest!(|(
        local in "[a-zA-Z][a-zA-Z0-9._+-]{0,20}[a-zA-Z0-9]",
        domain in "[a-z]{2,12}\\.(de|com|co\\.uk)",
        upper in any::<u64>(),
        before in 0..8usize,
        after in 0..8usize,
        hidden in any::<bool>(),
    )| {
        let address = format!("{local}@{domain}");
        let plain = address.to_lowercase();
        prop_assume!(judged("email", &plain).is_ok());
        let mut spelled: String = address
            .chars()
            .enumerate()
            .map(|(at, letter)| if upper >> (at % 64) & 1 == 1 { letter.to_ascii_uppercase() } else { letter })
            .collect();
        if hidden {
            spelled.insert(1, '\u{200b}');
        }
        let spelled = format!("{}{spelled}{}", around[before], around[after]);
        prop_assert_eq!(judged("email", &spelled), Ok(plain.clone()));
        // The normal form is its own.
        prop_assert_eq!(judged("email", &plain), Ok(plain));
    });
}

#[test]
fn letters_are_composed_and_ends_are_bare_in_every_type() {
    let pairs = [
        ("user_id", "w1 \t\n", "w1"),
        ("user_id", "\u{feff}w1\u{200b}", "w1"),
        ("user_id", "jose\u{301}", "josé"),
        ("user_id", "Ada", "Ada"),
        ("email", "JOSE\u{301}@x.de", "josé@x.de"),
        ("email", "ÄRGER@MÜLLER.DE", "ärger@müller.de"),
        ("loyalty_card", " A-1 ", "A-1"),
    ];
    for (kind, raw, normal) in pairs {
        assert_eq!(judged(kind, raw).as_deref(), Ok(normal), "{kind} {raw:?}");
    }
}

#[test]
fn spellings_of_a_telephone_number_have_one_normal_form() {
    let same = [
        (
            "+15550100000",
            None,
            &["+1 (555) 010-0000", "+1-555-010-0000", "001 555 010 0000", "tel:+15550100000", "＋１ ５５５ 010 0000"][..],
        ),
        (
            "+491701234567",
            None,
            &["+49 170 1234567", "+49 (0)170 1234567", "+49(170)123-4567", "0049 170/1234567", "+49.170.1234567"],
        ),
        (
            "+491701234567",
            Some("DE"),
            &["0170/1234567", "0170 1234567", "0049 170 1234567", "+49 170 1234567", "(0170) 123 45 67"],
        ),
        ("+390669821234", Some("IT"), &["06 6982 1234", "+39 06 6982 1234"]),
        ("01701234567", None, &["0170/1234567", "0170 123 45 67"]),
    ];
    for (normal, region, spellings) in same {
        let rules = IdentityRules { phone_region: region.map(str::to_owned), ..IdentityRules::default() };
        for spelling in spellings.iter().chain([&normal]) {
            let judged = rules.judge(&Identifier::new("phone", *spelling)).map(|normal| normal.value);
            assert_eq!(judged.as_deref(), Ok(normal), "{spelling:?} in {region:?}");
        }
    }
    for none in [
        "n/a",
        "+12",
        "12",
        "call me +491701234567",
        "1-800-FLOWERS",
        "+999123456789",
        "+4917012345678901234",
        "0000000000",
        "1111111",
        "+1 11",
        "ada@x.de",
        "+49 170 1234567 ext 4",
    ] {
        assert!(judged("phone", none).is_err(), "{none:?}");
    }
}

#[test]
fn a_value_too_long_for_its_type_is_none() {
    for value in ["x".repeat(513), format!(" {} ", "xy".repeat(257))] {
        assert_eq!(judged("user_id", &value), Err(Unfit::TooLong { limit: 512 }));
    }
    assert!(judged("user_id", &format!("u1{}", " ".repeat(5_000))).is_ok(), "spaces around it are not of it");
    let mut rules = IdentityRules::default();
    rules.types.insert("card".into(), TypeRules { max_bytes: Some(4), case: Case::Fold, ..TypeRules::default() });
    let judge = |value| rules.judge(&Identifier::new("card", value)).map(|normal| normal.value);
    assert_eq!((judge("AB12"), judge("AB123")), (Ok("ab12".into()), Err(Unfit::TooLong { limit: 4 })));
}

#[test]
fn a_workspace_blocks_and_allows_values_of_its_own() {
    let mut rules = IdentityRules::default();
    rules.blocked_values.insert("Kiosk-1".into());
    rules.allowed_values.insert("guest".into());
    let of_type = TypeRules { blocked_values: BTreeSet::from(["info@shop.de".into()]), ..rules.types["email"].clone() };
    rules.types.insert("email".into(), of_type);
    let judge = |kind, value| rules.judge(&Identifier::new(kind, value)).map(|normal| normal.value);
    assert_eq!(judge("user_id", "KIOSK-1"), Err(Unfit::Blocked));
    assert_eq!(judge("email", "Info@Shop.de"), Err(Unfit::Blocked));
    assert_eq!(judge("user_id", "Guest").as_deref(), Ok("Guest"));
    assert!(rules.check().is_ok());
}

#[test]
fn rules_that_cannot_be_name_their_field() {
    type Spoil = fn(&mut IdentityRules);
    let cases: [(&str, Spoil); 9] = [
        ("limits.user_id", |rules| _ = rules.limits.insert("user_id".into(), 0)),
        ("limits.email", |rules| _ = rules.limits.insert("email".into(), 501)),
        ("limits.E-Mail", |rules| _ = rules.limits.insert("E-Mail".into(), 5)),
        ("priority[3]", |rules| rules.priority.push("Loyalty".into())),
        ("types.previous_id", |rules| _ = rules.types.insert("previous_id".into(), TypeRules::default())),
        ("max_members", |rules| rules.max_members = 501),
        ("shared_above", |rules| rules.shared_above = 0),
        ("types.email.max_bytes", |rules| rules.types.get_mut("email").unwrap().max_bytes = Some(513)),
        ("phone_region", |rules| rules.phone_region = Some("Germany".into())),
    ];
    assert_eq!(IdentityRules::default().check(), Ok(()));
    for (field, spoil) in cases {
        let mut rules = IdentityRules::default();
        spoil(&mut rules);
        assert_eq!(rules.check().unwrap_err().field, field);
    }
}

#[test]
fn ids_that_are_left_of_a_missing_value_name_no_message() {
    for missing in [
        "undefined",
        "NULL",
        "N/A",
        "#N/A",
        "[object Object]",
        "00000000-0000-0000-0000-000000000000",
        "{{id}}",
        " nil ",
        "-",
        "[object HTMLElement]",
    ] {
        assert!(is_missing_id(missing), "{missing}");
    }
    for id in [
        "",
        "0",
        "Object 12",
        "№7",
        "1111111",
        "test",
        "id",
        "o-1",
        "10",
        "na-1",
        "0a",
        "{3f2504e0-4f89-11d3-9a0c-0305e82c3301}",
    ] {
        assert!(!is_missing_id(id), "{id}");
    }
}

#[test]
fn a_number_that_a_spreadsheet_rounded_is_nobodys_id() {
    let rules = IdentityRules::default();
    for rounded in ["1.23E+11", "5E+15", "1,2E+10"] {
        assert_eq!(rules.judge(&Identifier::new("user_id", rounded)), Err(Unfit::Rounded), "{rounded}");
    }
    for id in ["1E5", "1.23e+11", "E+11", "12.3E+11", "1.23E+1", "A1E+11"] {
        assert!(rules.judge(&Identifier::new("user_id", id)).is_ok(), "{id}");
    }
}

#[test]
fn a_number_with_its_calling_code_and_no_plus_is_the_whole_number() {
    let of = |region: &str, number: &str| {
        let rules = IdentityRules { phone_region: Some(region.to_owned()), ..IdentityRules::default() };
        rules.judge(&Identifier::new("phone", number)).unwrap().value
    };
    for (region, number, whole) in [
        ("DE", "491701234567", "+491701234567"),
        ("DE", "49 170 1234567", "+491701234567"),
        ("DE", "0491 1234567", "+494911234567"),
        ("DE", "4911234567", "+494911234567"),
        ("PL", "48601234567", "+48601234567"),
        ("PL", "486012345", "+48486012345"),
        ("BR", "5551991234567", "+5551991234567"),
        ("BR", "55991234567", "+5555991234567"),
        ("DK", "4520123456", "+4520123456"),
        ("IT", "3912345678", "+393912345678"),
        ("IN", "919876501234", "+919876501234"),
        ("US", "12025550123", "+12025550123"),
    ] {
        assert_eq!(of(region, number), whole, "{region} {number}");
    }
}

/// Numbers that people type who have to type one tied four leads with different addresses into one person.
#[test]
fn made_up_numbers_name_nobody() {
    let of = |region: Option<&str>, value: &str| {
        let rules = IdentityRules { phone_region: region.map(str::to_owned), ..IdentityRules::default() };
        rules.judge(&Identifier::new("phone", value)).map(|normal| normal.value)
    };
    let mut family: Vec<String> = Vec::new();
    for first in 0..10_u8 {
        for length in 7..=12 {
            for step in [0, 1, 9] {
                family.push((0..length).map(|place| char::from(b'0' + (first + place * step) % 10)).collect());
            }
        }
        // What a zero in front is, the country says: 030 303 03 03 is somebody in Berlin.
        if first == 0 {
            continue;
        }
        for group in
            [format!("{first}{}", (first + 3) % 10), format!("{first}2{}", (first + 5) % 10), format!("12{first}7")]
        {
            family.push(group.repeat(9_usize.div_ceil(group.len()).max(3)));
        }
    }
    for digits in &family {
        let spaced: Vec<String> =
            digits.as_bytes().chunks(3).map(|part| String::from_utf8_lossy(part).into_owned()).collect();
        let spaced = spaced.join(" ");
        for written in
            [digits.clone(), spaced.clone(), format!("+1 {spaced}"), format!("+49 {spaced}"), format!("+351{digits}")]
        {
            for region in [None, Some("DE"), Some("US"), Some("PT")] {
                assert!(of(region, &written).is_err(), "{written} in {region:?}: {:?}", of(region, &written));
            }
        }
    }
    for short in ["12345", "54321", "11111", "24680", "482913", "1 2 3 4 5"] {
        assert!(of(None, short).is_err(), "{short}");
    }
    for (region, somebody) in [
        (None, "+4915112345678"),
        (None, "+12025550123"),
        (None, "+15550100000"),
        (None, "+12345678900"),
        (None, "+442079460958"),
        (None, "+33612345678"),
        (None, "+4520123456"),
        (None, "+4721234567"),
        (None, "+352621123456"),
        (None, "+29022158"),
        (None, "4711815"),
        (None, "0301234567"),
        (None, "8005551212"),
        (Some("DE"), "0170 1234567"),
        (Some("DE"), "030 123456"),
        (Some("LU"), "402010"),
        (Some("AU"), "02 1234 5678"),
        (Some("US"), "(555) 010-0000"),
    ] {
        assert!(of(region, somebody).is_ok(), "{somebody} in {region:?}");
    }
    let rules = IdentityRules { allowed_values: ["1234567890".to_owned()].into(), ..IdentityRules::default() };
    for (value, fits) in [("1234567890", true), ("123-456-7890", true), ("9876543210", false)] {
        assert_eq!(rules.judge(&Identifier::new("phone", value)).is_ok(), fits, "{value}");
    }
    // Other types have numbers of their own.
    assert!(rules.judge(&Identifier::new("user_id", "12345")).is_ok());
}
