//! The gate's table: every shape of a consent, and every reason why a message does not leave.

use kith_model::audience::{Action, Audience, ConsentBasis};
use kith_model::change::Movement;
use kith_model::consent::{Consents, Dating, Giver, Statement};
use kith_model::id::AudienceId;
use kith_model::plugin::{Capabilities, Grants, Purposes};
use kith_model::profile::ProfileRoot;

use super::*;
use crate::tests::harness;

const NOW: Timestamp = Timestamp(1_000_000_000);

fn row(json: &str, time: Timestamp) -> ConsentRow {
    let statement = Statement {
        json,
        time,
        received_at: time,
        source: InstallationId(1),
        message_id: "m",
        giver: Giver::MayAgree,
        dating: Dating::Stated,
    };
    let mut consents = Consents::default();
    consents.record(&statement);
    ConsentRow::Said(consents)
}

fn under(kind: &str, row: ConsentRow) -> Contributor {
    let identity = SourceIdentityId([kind.len() as u8; 16]);
    Contributor { identity, kind: kind.to_owned(), form: None, row, beside: None }
}

/// Whether a message to this person would be refused.
fn is_refused(consents: &[ConsentRow], basis: ConsentBasis) -> bool {
    let consents = (1..)
        .zip(consents)
        .map(|(number, row)| Contributor { identity: SourceIdentityId([number; 16]), ..under("user_id", row.clone()) });
    let person = Person {
        profile: ProfileId(SourceIdentityId([1; 16])),
        identifiers: vec![Identifier::new("user_id", "u1")],
        parted: Vec::new(),
        consents: consents.collect(),
        suppressed: None,
        retraction: None,
    };
    let row = DeliveryRow { basis, ..pending() };
    matches!(judged_alone(&row, &ProfileLookup::Person(person)), Verdict::Refuse { .. })
}

fn judged_alone(row: &DeliveryRow, found: &ProfileLookup) -> Verdict {
    let setup = setup();
    judge(&setup, installed(&setup, InstallationId(3)).unwrap(), row, found, NOW)
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

#[test]
fn who_objects_to_profiling_or_is_suppressed_gets_nothing_whatever_the_purpose() {
    for basis in [ConsentBasis::OptIn, ConsentBasis::NotRefused] {
        assert!(is_refused(&[row(r#"{"marketing":true,"profiling":false}"#, NOW)], basis));
        assert!(!is_refused(&[row(r#"{"marketing":true,"profiling":true}"#, NOW)], basis));
    }
    let ProfileLookup::Person(person) = somebody() else { panic!("there is somebody") };
    let suppressed = Person { suppressed: Some("its email is suppressed".to_owned()), ..person };
    let Verdict::Refuse { reason } = judged_alone(&pending(), &ProfileLookup::Person(suppressed)) else {
        panic!("refused")
    };
    assert!(reason.contains("suppressed"), "{reason}");
}

/// A digest of the identifier decides, so that it holds for whichever profile has it; a row that cannot be read holds too.
#[test]
fn a_suppressed_identifier_is_found_under_any_profile() {
    let (store, workspace, realm_key) = (kith_store::memory(), WorkspaceId(1), [7; 32]);
    let put = |identifier: &Identifier, row: Vec<u8>| {
        let key = suppressions::key(workspace, &realm_key, identifier);
        let operations = vec![kith_store::Operation::Put(key, row)];
        store.commit(kith_store::Unit { operations, ..Default::default() }).unwrap();
    };
    let place = suppressions::SuppressionPlace::Entry(Vec::new());
    let row = suppressions::SuppressionRow { kind: "email".into(), since: NOW, reason: "bounced".into(), place };
    put(&Identifier::new("email", "a@b.example"), kith_store::row::encode(&row));
    put(&Identifier::new("email", "torn@b.example"), vec![9, 9]);
    for (identifiers, expected) in [
        (vec![("user_id", "u1"), ("email", "a@b.example")], Some("bounced")),
        (vec![("email", "a@b.example")], Some("bounced")),
        // Stored under rules that kept the case.
        (vec![("email", "A@B.example")], Some("bounced")),
        (vec![("email", "torn@b.example")], Some("cannot be read")),
        (vec![("user_id", "a@b.example"), ("email", "b@b.example")], None),
    ] {
        let identifiers = identifiers.into_iter().map(|(kind, value)| Identifier::new(kind, value)).collect();
        let person = Person {
            profile: ProfileId(SourceIdentityId([1; 16])),
            identifiers,
            parted: Vec::new(),
            consents: Vec::new(),
            suppressed: None,
            retraction: None,
        };
        let mut found = ProfileLookup::Person(person);
        note_suppressed(&store, (workspace, &realm_key, &IdentityRules::default()), &mut found).unwrap();
        let ProfileLookup::Person(person) = &found else { panic!("there is somebody") };
        match (person.suppressed.as_deref(), expected) {
            (Some(reason), Some(expected)) => assert!(reason.contains(expected), "{reason}"),
            (found, expected) => assert_eq!(found, expected),
        }
    }
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
        cause: None,
    }
}

fn pending() -> DeliveryRow {
    delivery(DeliveryState::Pending { attempts: 0, due_at: NOW, last_reason: None })
}

fn somebody() -> ProfileLookup {
    ProfileLookup::Person(Person {
        profile: ProfileId(SourceIdentityId([1; 16])),
        identifiers: vec![Identifier::new("user_id", "u1"), Identifier::new("email", "u1@example.org")],
        parted: Vec::new(),
        consents: vec![under("user_id", ConsentRow::Absent)],
        suppressed: None,
        retraction: None,
    })
}

fn setup() -> Setup {
    harness::setup_of(vec![harness::audience(1, "true", Some(ConsentBasis::NotRefused))])
}

fn reason(setup: &Setup, row: &DeliveryRow, found: &ProfileLookup) -> String {
    match judge(setup, installed(setup, InstallationId(3)).unwrap(), row, found, NOW) {
        Verdict::Refuse { reason } => reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_message_leaves_only_if_all_that_it_depends_on_is_still_there() {
    let all = setup();
    let judged = |row: &DeliveryRow, found: &ProfileLookup| {
        judge(&all, installed(&all, InstallationId(3)).unwrap(), row, found, NOW)
    };
    let Verdict::Pass { recipient, person } = judged(&pending(), &somebody()) else { panic!("it may leave") };
    assert_eq!((recipient.len(), person), (2, Identifier::new("user_id", "u1")));
    assert_eq!(judged(&pending(), &ProfileLookup::Unsteady), Verdict::Later);
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
    assert!(reason(&all, &pending(), &ProfileLookup::Nobody).contains("does not exist"));
    assert!(reason(&all, &pending(), &ProfileLookup::Unreadable("row version 9".into())).contains("row version 9"));
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
    assert!(reason.contains("(phone)"), "{reason}");
    let Verdict::Refuse { reason } = judged(&[]) else { panic!("it is given nothing") };
    let said = "its manifest declares no `[[capabilities.recipients]]`, or none of them is granted; `kith plugin show ";
    assert!(reason.contains(said), "{reason}");
}

/// An upgrade or a grant may take a purpose from a channel after the audience was saved: nothing for it leaves, whoever
/// agreed.
#[test]
fn a_message_leaves_only_through_a_channel_that_carries_its_purpose() {
    let mut setup = setup();
    let mut judged = |manifest: Option<&str>, granted: Option<&str>| {
        let capabilities = Capabilities { purposes: manifest.map(|name| vec![name.to_owned()]), ..Default::default() };
        let grants = Grants { purposes: granted.map(|name| vec![name.to_owned()]), ..Grants::default() };
        let channel = setup.installations.iter_mut().find(|installed| installed.id == InstallationId(3)).unwrap();
        channel.purposes = Purposes::of(&capabilities, &grants);
        judge(&setup, installed(&setup, InstallationId(3)).unwrap(), &pending(), &somebody(), NOW)
    };
    for (manifest, granted) in [(None, None), (Some("marketing"), None), (None, Some("marketing"))] {
        assert!(matches!(judged(manifest, granted), Verdict::Pass { .. }), "{manifest:?} {granted:?}");
    }
    for (manifest, granted) in [(Some("service"), None), (None, Some("service")), (Some("marketing"), Some("service"))]
    {
        let Verdict::Refuse { reason } = judged(manifest, granted) else { panic!("{manifest:?} {granted:?}") };
        assert!(reason.contains("the channel `postbox`") && reason.contains("none for `marketing`"), "{reason}");
    }
}

#[test]
fn a_person_of_many_members_is_read_whole_under_the_name_of_any_of_them() {
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
    let operations = (0..2).flat_map(|person| (0..MEMBERS).map(move |member| (person, member)));
    let operations = operations.map(|(person, member)| head(person, member)).collect();
    store.commit(kith_store::Unit { operations, ..Default::default() }).unwrap();
    let found = |id| read_person(&store, (workspace, &IdentityRules::default()), ProfileId(id)).unwrap();
    for (person, member) in [(0, 0), (1, 0), (1, 7)] {
        let ProfileLookup::Person(read) = found(id(person, member)) else { panic!("there is somebody") };
        assert_eq!(read.profile, ProfileId(id(person, 0)));
        let names: Vec<Identifier> = (0..MEMBERS).map(|member| name(person, member)).collect();
        assert_eq!(read.identifiers, names);
    }
    assert_eq!(found(id(99, 0)), ProfileLookup::Nobody);
}
