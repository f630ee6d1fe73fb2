//! The gate's table: every shape of a consent, and every reason why a message does not leave.

use kith_model::audience::{Action, Audience};
use kith_model::change::Movement;
use kith_model::id::AudienceId;
use kith_model::profile::ProfileRoot;

use super::*;
use crate::tests::harness;

const NOW: Timestamp = Timestamp(1_000_000_000);

fn row(json: &str, time: Timestamp) -> ConsentRow {
    let mut consents = Consents::default();
    consents.record(json, time, time);
    ConsentRow::Said(consents)
}

fn under(kind: &str, row: ConsentRow) -> Contributor {
    Contributor { kind: kind.to_owned(), row }
}

/// Of the identities of one person, each a user id's: what none of them says lifts what another one says at the same time.
fn is_refused(consents: &[ConsentRow], basis: ConsentBasis) -> bool {
    let consents: Vec<Contributor> = consents.iter().map(|row| under("user_id", row.clone())).collect();
    refusal(&IdentityRules::default(), &consents, "marketing", basis, NOW).is_some()
}

/// For each text of the trait `consent`: may a message leave under `opt_in`, and under `not_refused`?
#[test]
fn every_shape_of_a_consent_is_read_the_strict_way() {
    let table = [
        (r#"{"marketing":true}"#, true, true),
        (r#"{"Marketing":true}"#, true, true),
        (r#"{"marketing":true,"other":false}"#, true, true),
        (r#"{"other":false}"#, false, true),
        (r#"{"other":true}"#, false, true),
        ("{}", false, true),
        (r#"{"marketing":false}"#, false, false),
        (r#"{"Marketing":false}"#, false, false),
        (r#"{"MARKETING":false,"marketing":true}"#, false, false),
        (r#"{"marketing":false,"marketing":true}"#, false, false),
        (r#"{"marketing":"false"}"#, false, false),
        (r#"{"marketing":"true"}"#, false, false),
        (r#"{"marketing":0}"#, false, false),
        (r#"{"marketing":1}"#, false, false),
        (r#"{"marketing":"no"}"#, false, false),
        (r#"{"marketing":"denied"}"#, false, false),
        (r#"{"marketing":null}"#, false, false),
        (r#"{"marketing":{"granted":false}}"#, false, false),
        (r#"{"marketing":{"granted":true}}"#, false, false),
        (r#"{"marketing":[true]}"#, false, false),
        ("false", false, false),
        ("true", false, false),
        ("0", false, false),
        ("null", false, false),
        (r#""none""#, false, false),
        (r#""yes""#, false, false),
        (r#"["analytics"]"#, false, false),
        (r#"["marketing"]"#, false, false),
        (r#""{\"marketing\":true}""#, false, false),
        ("{not json", false, false),
        ("", false, false),
    ];
    for (json, opt_in, not_refused) in table {
        let consents = [row(json, NOW)];
        assert_eq!(!is_refused(&consents, ConsentBasis::OptIn), opt_in, "opt_in: {json}");
        assert_eq!(!is_refused(&consents, ConsentBasis::NotRefused), not_refused, "not_refused: {json}");
    }
    assert!(is_refused(&[ConsentRow::Absent], ConsentBasis::OptIn));
    assert!(!is_refused(&[ConsentRow::Absent], ConsentBasis::NotRefused));
    let unreadable = [ConsentRow::Unreadable("row version 9".into())];
    assert!(is_refused(&unreadable, ConsentBasis::OptIn) && is_refused(&unreadable, ConsentBasis::NotRefused));
}

#[test]
fn the_most_restrictive_contributor_decides() {
    let (yes, no) = (row(r#"{"marketing":true}"#, NOW), row(r#"{"marketing":false}"#, NOW));
    for basis in [ConsentBasis::OptIn, ConsentBasis::NotRefused] {
        assert!(is_refused(&[yes.clone(), no.clone()], basis));
        assert!(is_refused(&[no.clone(), yes.clone()], basis));
        assert!(!is_refused(&[ConsentRow::Absent, yes.clone()], basis));
    }
}

/// Who refused under a cookie and agrees later under her user id has agreed, while both are one person; the other way round, and
/// of whatever is in doubt, a refusal stays one.
#[test]
fn a_later_agreement_under_the_user_id_lifts_what_a_device_or_an_address_refused() {
    let said = |json: &str, time: i64, received_at: i64| {
        let mut consents = Consents::default();
        consents.record(json, Timestamp(time), Timestamp(received_at));
        ConsentRow::Said(consents)
    };
    let (yes, no) = (r#"{"marketing":true}"#, r#"{"marketing":false}"#);
    let is_refused = |consents: &[Contributor]| {
        let bases = [ConsentBasis::OptIn, ConsentBasis::NotRefused];
        let refused =
            bases.map(|basis| refusal(&IdentityRules::default(), consents, "marketing", basis, NOW).is_some());
        assert_eq!(refused[0], refused[1], "{consents:?}");
        refused[0]
    };
    let agreed = || under("user_id", said(yes, 20, 20));
    for kind in ["anonymous_id", "email", "phone", "android_idfa"] {
        assert!(!is_refused(&[under(kind, said(no, 10, 10)), agreed()]), "{kind}");
        assert!(!is_refused(&[agreed(), under(kind, said("false", 10, 10))]), "{kind}: of everything");
        // The other way round, it comes first, it is dated before, or it is of another purpose.
        let refused = || under("user_id", said(no, 10, 10));
        assert!(is_refused(&[refused(), under(kind, said(yes, 20, 20))]), "{kind}");
        assert!(is_refused(&[agreed(), under(kind, said(no, 30, 30))]), "{kind}");
        assert!(is_refused(&[agreed(), under(kind, said(no, 20, 20))]), "{kind}");
        assert!(is_refused(&[under(kind, said(no, 20, 10)), under("user_id", said(yes, 20, 30))]), "{kind}");
        assert!(is_refused(&[under(kind, said(no, 30, 10)), under("user_id", said(yes, 20, 30))]), "{kind}");
        assert!(is_refused(&[under(kind, said(no, 10, 10)), under("user_id", said(r#"{"news":true}"#, 20, 20))]));
        // Of several refusals each must be answered.
        let two = [under(kind, said(no, 10, 10)), agreed(), under(kind, said(no, 30, 30))];
        assert!(is_refused(&two), "{kind}");
        // Parted, each has said what it said.
        assert!(is_refused(&two[..1]) && !is_refused(&two[1..2]), "{kind}");
    }
    let unreadable = under("anonymous_id", ConsentRow::Unreadable("row version 9".into()));
    assert!(is_refused(&[unreadable, agreed()]));
    let ahead = under("anonymous_id", row(yes, NOW.plus_ms(MAX_CONSENT_AHEAD_MS + 1)));
    assert!(is_refused(&[ahead, agreed()]));
    assert!(is_refused(&[under("", said(yes, 20, 20)), under("anonymous_id", said(no, 10, 10))]), "nobody knows whose");
}

/// A phone whose clock is months ahead gave a consent; its owner's refusal of today is older by the sender's time.
#[test]
fn a_consent_dated_in_the_future_counts_as_a_refusal_until_then() {
    let ahead = [row(r#"{"marketing":true}"#, NOW.plus_ms(MAX_CONSENT_AHEAD_MS + 1))];
    assert!(is_refused(&ahead, ConsentBasis::OptIn) && is_refused(&ahead, ConsentBasis::NotRefused));
    let a_little = [row(r#"{"marketing":true}"#, NOW.plus_ms(MAX_CONSENT_AHEAD_MS))];
    assert!(!is_refused(&a_little, ConsentBasis::OptIn));
}

fn delivery(state: DeliveryState) -> DeliveryRow {
    DeliveryRow {
        channel: InstallationId(3),
        audience: AudienceId(1),
        movement: Movement::Entered,
        profile: ProfileId(SourceIdentityId([1; 16])),
        purpose: "marketing".into(),
        basis: ConsentBasis::NotRefused,
        payload: "{}".into(),
        created_at: NOW,
        state,
    }
}

fn pending() -> DeliveryRow {
    delivery(DeliveryState::Pending { attempts: 0, due_at: NOW, last_reason: None })
}

fn somebody() -> Found {
    Found::Person(Person {
        profile: ProfileId(SourceIdentityId([1; 16])),
        identifiers: vec![Identifier::new("user_id", "u1"), Identifier::new("email", "u1@example.org")],
        consents: vec![under("user_id", ConsentRow::Absent)],
    })
}

fn setup() -> Setup {
    harness::setup_of(vec![harness::audience(1, "true", Some(ConsentBasis::NotRefused))])
}

fn reason(setup: &Setup, row: &DeliveryRow, found: &Found) -> String {
    match judge(setup, installed(setup, InstallationId(3)).unwrap(), row, found, NOW) {
        Verdict::Refuse { reason } => reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_message_leaves_only_if_all_that_it_depends_on_is_still_there() {
    let all = setup();
    let judged =
        |row: &DeliveryRow, found: &Found| judge(&all, installed(&all, InstallationId(3)).unwrap(), row, found, NOW);
    let Verdict::Pass { recipient, person } = judged(&pending(), &somebody()) else { panic!("it may leave") };
    assert_eq!((recipient.len(), person), (2, Identifier::new("user_id", "u1")));
    assert_eq!(judged(&pending(), &Found::Unsteady), Verdict::Later);
    let due_at = NOW.plus_ms(1);
    let early = delivery(DeliveryState::Pending { attempts: 1, due_at, last_reason: None });
    assert_eq!(judged(&early, &somebody()), Verdict::Early { due_at });
    let sending = delivery(DeliveryState::Sending { attempts: 1, since: NOW });
    assert_eq!(judged(&sending, &somebody()), Verdict::Interrupted);
    for settled in [
        DeliveryState::Delivered { attempts: 1, at: NOW, provider_id: None },
        DeliveryState::Accepted { attempts: 1, at: NOW, provider_id: None },
        DeliveryState::Skipped { at: NOW, reason: String::new() },
        DeliveryState::Dead { attempts: 1, at: NOW, reason: String::new() },
        DeliveryState::Unknown { attempts: 1, since: NOW },
    ] {
        assert_eq!(judged(&delivery(settled), &somebody()), Verdict::Settled);
    }
    assert!(reason(&all, &pending(), &Found::Nobody).contains("does not exist"));
    assert!(reason(&all, &pending(), &Found::Unreadable("row version 9".into())).contains("row version 9"));
    let deleted = Setup { audiences: vec![], ..all.clone() };
    assert!(reason(&deleted, &pending(), &somebody()).contains("deleted"));
    let other = Audience { on_enter: None, ..all.audiences[0].clone() };
    let without = Setup { audiences: vec![other.clone()], ..all.clone() };
    assert!(reason(&without, &pending(), &somebody()).contains("no longer sends"));
    let action: Option<Action> = all.audiences[0].on_enter.clone();
    let on_exit = Setup { audiences: vec![Audience { on_exit: action, ..other }], ..all.clone() };
    let channel = installed(&on_exit, InstallationId(3)).unwrap();
    assert!(matches!(judge(&on_exit, channel, &pending(), &somebody(), NOW), Verdict::Pass { .. }));
}

#[test]
fn a_channel_is_given_the_identifiers_that_it_may_have_and_no_others() {
    let mut setup = setup();
    let mut judged = |kinds: &[&str]| {
        let channel = setup.installations.iter_mut().find(|installed| installed.id == InstallationId(3)).unwrap();
        channel.recipients = Some(kinds.iter().map(|kind| (*kind).to_owned()).collect());
        judge(&setup, installed(&setup, InstallationId(3)).unwrap(), &pending(), &somebody(), NOW)
    };
    let Verdict::Pass { recipient, person } = judged(&["email"]) else { panic!("it has an email") };
    assert_eq!(recipient, [Identifier::new("email", "u1@example.org")]);
    assert_eq!(person, Identifier::new("user_id", "u1"), "receipts go to the person whatever the channel may see");
    let Verdict::Refuse { reason } = judged(&["phone"]) else { panic!("it has no phone") };
    assert!(reason.contains("phone"), "{reason}");
}

#[test]
fn people_of_many_members_are_read_in_pieces_and_none_gets_anothers_identifiers() {
    const MEMBERS: u8 = 150;
    let (store, workspace) = (kith_store::memory(), WorkspaceId(1));
    let id = |person: u8, member: u8| {
        let mut id = [0; 16];
        (id[0], id[1]) = (person, member);
        SourceIdentityId(id)
    };
    let name = |person: u8, member: u8| Identifier::new("user_id", format!("{person}-{member}"));
    let head = |person: u8, member: u8| {
        let members = (0..MEMBERS).map(|member| id(person, member)).collect();
        let root = ProfileRoot { members, contested: false, latest: None, kinds: Default::default() };
        let head = IdentityHead {
            identifier: name(person, member),
            created_at: NOW,
            ordinal: 0,
            profile: ProfileId(id(person, 0)),
            root: (member == 0).then_some(root),
            evidence: vec![],
        };
        let key = Key::person(workspace, id(person, member), PersonRow::Head);
        kith_store::Operation::Put(key, kith_store::row::encode(&head))
    };
    let operations = (0..7).flat_map(|person| (0..MEMBERS).map(move |member| (person, member)));
    let operations = operations.map(|(person, member)| head(person, member)).collect();
    store.commit(kith_store::Unit { operations, ..Default::default() }).unwrap();
    // The fourth is unknown, and the fifth is asked for under the name of a member.
    let asked = [id(0, 0), id(1, 0), id(2, 0), id(99, 0), id(3, 7), id(4, 0), id(5, 0), id(6, 0)].map(ProfileId);
    let found = read_people(&store, workspace, &asked).unwrap();
    assert_eq!(found[3], Found::Nobody);
    let people = found.iter().filter_map(|found| match found {
        Found::Person(person) => Some(person),
        _ => None,
    });
    for (number, person) in (0..).zip(people) {
        assert_eq!(person.profile, ProfileId(id(number, 0)));
        let names: Vec<Identifier> = (0..MEMBERS).map(|member| name(number, member)).collect();
        assert_eq!(person.identifiers, names);
    }
    assert_eq!(found.len(), 8);
}
