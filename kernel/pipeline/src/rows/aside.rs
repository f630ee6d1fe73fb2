//! The rows of dead letters: what could not become an event, what a plugin failed on, what could not be delivered, and what
//! cannot be read.

use kith_model::event::{EventOrigin, RejectedRecord};
use kith_model::id::{InstallationId, Position, ProfileId, WorkspaceId};
use kith_model::plugin::PluginFault;
use kith_model::time::Timestamp;
use kith_store::row::{self, Owner, Row, read_postcard};
use kith_store::{Key, ReadError, Store};
use serde::{Deserialize, Serialize};

use crate::accept::readers::Reader;

/// Something kept aside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Aside {
    /// A part of an input that could not become an event.
    Record(Box<Letter>),
    /// People on whom a compute plugin failed, by the kind of fault.
    Computation {
        /// When it last happened, and when first; that is 0 in a letter of a release that did not say.
        at: Timestamp,
        since: Timestamp,
        code: String,
        message: String,
        profiles: u64,
        about: ComputationSubject,
    },
    /// A delivery that was given up, or whose fate is unknown: its own row has the rest.
    Delivery { id: [u8; 16] },
    /// Something stored that cannot be read, or whose consequences are larger than a commit.
    Unreadable { at: Timestamp, position: Position, problem: String, raw: Vec<u8> },
}

/// What a computation that failed was about; empty in letters of a release that did not say.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ComputationSubject {
    /// The plugin and its version, e.g. `acme/level@1.2.0`.
    pub plugin: String,
    /// The columns of its input.
    pub inputs: Vec<String>,
    /// Whom it happened to last, the newest last.
    pub people: Vec<NamedPerson>,
}

/// SHA-256 of a row that a compute plugin was given.
pub(crate) type RowDigest = [u8; 32];

/// A person whom the letter of a computation names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NamedPerson {
    pub profile: ProfileId,
    /// SHA-256 of the row that the plugin was given; absent where it was given none, and in letters of a release that did not say.
    pub row: Option<RowDigest>,
}

/// The name of the dead letter of a model and a kind of fault, of [`PluginFault::CODES`].
pub(crate) fn computation_letter(workspace: WorkspaceId, model: InstallationId, code: &str) -> Key {
    Key::set_aside(workspace, Some(model)).followed_by(code.as_bytes())
}

/// The dead letters of a model's computations, each with its code. One that cannot be read is as good as none.
pub(crate) fn computation_letters(
    store: &dyn Store,
    workspace: WorkspaceId,
    model: InstallationId,
) -> Result<Vec<(&'static str, Aside)>, ReadError> {
    let keys = PluginFault::CODES.map(|code| computation_letter(workspace, model, code));
    let rows = PluginFault::CODES.into_iter().zip(store.get(&keys)?);
    Ok(rows.filter_map(|(code, row)| Some((code, row::decode(&row?).ok()?))).collect())
}

/// People whom the letter of a computation names; it counts all.
pub(crate) const MAX_NAMED_PEOPLE: usize = 16;

impl ComputationSubject {
    /// Name one more person, in the place of the oldest where there is no room, with what the plugin was given of them.
    pub(crate) fn name(&mut self, profile: ProfileId, row: Option<RowDigest>) {
        self.people.retain(|named| named.profile != profile);
        self.people.push(NamedPerson { profile, row });
        let beyond = self.people.len().saturating_sub(MAX_NAMED_PEOPLE);
        self.people.drain(..beyond);
    }
}

/// A record that could not become an event, with what it takes to try it again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Letter {
    /// When it came first, which is a part of its name.
    pub at: Timestamp,
    /// When the same content last came, and was refused for the same reason.
    pub last_at: Timestamp,
    pub times: u64,
    pub record: RejectedRecord,
    pub form: RawForm,
    /// What it came with; absent where that is not known, or where the connector's state is too large to be kept with it.
    pub came: Option<RecordOrigin>,
    pub origin: EventOrigin,
    /// Whether an admin has corrected its text.
    pub is_edited: bool,
    /// The version of the connector that read it first, and made its event where it is one; absent where that is not known.
    pub reader: Option<Reader>,
}

/// What the text of a letter is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum RawForm {
    /// The record as the sender wrote it.
    Sent,
    /// A whole request, on which the connector failed.
    Request,
    /// The event that the connector found, as JSON, where nobody said what the sender wrote.
    Event,
    /// The record of an event that was taken: the letter says what of it could not be followed.
    Taken,
    /// No record: how many more there were.
    Counted,
    /// Of a release that did not say.
    Older,
}

/// The request or file that a record came in.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RecordOrigin {
    pub path: String,
    pub query: String,
    pub content_type: String,
    /// The connector's state behind the piece that it came in: what a header said.
    pub resume: Option<Vec<u8>>,
}

/// When a letter of some content came first: with that content it names the letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LetterTime(pub Timestamp);

/// [`Aside`] before a record had more than itself.
#[derive(Serialize, Deserialize)]
enum AsideV1 {
    Record { at: Timestamp, record: RejectedRecord },
    Computation { at: Timestamp, code: String, message: String, profiles: u64 },
    Delivery { id: [u8; 16] },
    Unreadable { at: Timestamp, position: Position, problem: String, raw: Vec<u8> },
}

/// [`ComputationSubject`] before it told what the plugin was given of people.
#[derive(Serialize, Deserialize)]
struct ComputationSubjectV5 {
    plugin: String,
    inputs: Vec<String>,
    people: Vec<ProfileId>,
}

/// [`Aside`] before a computation told what the plugin was given of people.
#[derive(Serialize, Deserialize)]
enum AsideV5 {
    Record(Box<Letter>),
    Computation {
        at: Timestamp,
        since: Timestamp,
        code: String,
        message: String,
        profiles: u64,
        about: ComputationSubjectV5,
    },
    Delivery {
        id: [u8; 16],
    },
    Unreadable {
        at: Timestamp,
        position: Position,
        problem: String,
        raw: Vec<u8>,
    },
}

/// [`Aside`] before a computation said since when.
#[derive(Serialize, Deserialize)]
enum AsideV4 {
    Record(Box<Letter>),
    Computation { at: Timestamp, code: String, message: String, profiles: u64, about: ComputationSubjectV5 },
    Delivery { id: [u8; 16] },
    Unreadable { at: Timestamp, position: Position, problem: String, raw: Vec<u8> },
}

/// [`Letter`] before it named the version that read it.
#[derive(Serialize, Deserialize)]
struct LetterV3 {
    at: Timestamp,
    last_at: Timestamp,
    times: u64,
    record: RejectedRecord,
    form: RawForm,
    came: Option<RecordOrigin>,
    origin: EventOrigin,
    is_edited: bool,
}

/// [`Aside`] before a letter named the version that read it.
#[derive(Serialize, Deserialize)]
enum AsideV3 {
    Record(Box<LetterV3>),
    Computation { at: Timestamp, code: String, message: String, profiles: u64, about: ComputationSubjectV5 },
    Delivery { id: [u8; 16] },
    Unreadable { at: Timestamp, position: Position, problem: String, raw: Vec<u8> },
}

/// [`Aside`] before a computation said what it was about.
#[derive(Serialize, Deserialize)]
enum AsideV2 {
    Record(Box<LetterV3>),
    Computation { at: Timestamp, code: String, message: String, profiles: u64 },
    Delivery { id: [u8; 16] },
    Unreadable { at: Timestamp, position: Position, problem: String, raw: Vec<u8> },
}

impl From<LetterV3> for Letter {
    fn from(letter: LetterV3) -> Letter {
        let LetterV3 { at, last_at, times, record, form, came, origin, is_edited } = letter;
        Letter { at, last_at, times, record, form, came, origin, is_edited, reader: None }
    }
}

/// The letter of a computation of before it said since when.
fn computation(at: Timestamp, code: String, message: String, profiles: u64, about: ComputationSubject) -> Aside {
    Aside::Computation { at, since: Timestamp(0), code, message, profiles, about }
}

impl From<ComputationSubjectV5> for ComputationSubject {
    fn from(about: ComputationSubjectV5) -> ComputationSubject {
        let ComputationSubjectV5 { plugin, inputs, people } = about;
        let people = people.into_iter().map(|profile| NamedPerson { profile, row: None }).collect();
        ComputationSubject { plugin, inputs, people }
    }
}

impl From<AsideV5> for Aside {
    fn from(aside: AsideV5) -> Aside {
        match aside {
            AsideV5::Record(letter) => Aside::Record(letter),
            AsideV5::Computation { at, since, code, message, profiles, about } => {
                Aside::Computation { at, since, code, message, profiles, about: about.into() }
            }
            AsideV5::Delivery { id } => Aside::Delivery { id },
            AsideV5::Unreadable { at, position, problem, raw } => Aside::Unreadable { at, position, problem, raw },
        }
    }
}

impl From<AsideV4> for Aside {
    fn from(aside: AsideV4) -> Aside {
        match aside {
            AsideV4::Record(letter) => Aside::Record(letter),
            AsideV4::Computation { at, code, message, profiles, about } => {
                computation(at, code, message, profiles, about.into())
            }
            AsideV4::Delivery { id } => Aside::Delivery { id },
            AsideV4::Unreadable { at, position, problem, raw } => Aside::Unreadable { at, position, problem, raw },
        }
    }
}

impl From<AsideV3> for Aside {
    fn from(aside: AsideV3) -> Aside {
        match aside {
            AsideV3::Record(letter) => Aside::Record(Box::new((*letter).into())),
            AsideV3::Computation { at, code, message, profiles, about } => {
                computation(at, code, message, profiles, about.into())
            }
            AsideV3::Delivery { id } => Aside::Delivery { id },
            AsideV3::Unreadable { at, position, problem, raw } => Aside::Unreadable { at, position, problem, raw },
        }
    }
}

impl From<AsideV2> for Aside {
    fn from(aside: AsideV2) -> Aside {
        match aside {
            AsideV2::Record(letter) => Aside::Record(Box::new((*letter).into())),
            AsideV2::Computation { at, code, message, profiles } => {
                computation(at, code, message, profiles, ComputationSubject::default())
            }
            AsideV2::Delivery { id } => Aside::Delivery { id },
            AsideV2::Unreadable { at, position, problem, raw } => Aside::Unreadable { at, position, problem, raw },
        }
    }
}

impl From<AsideV1> for Aside {
    fn from(aside: AsideV1) -> Aside {
        match aside {
            AsideV1::Record { at, record } => Aside::Record(Box::new(Letter {
                at,
                last_at: at,
                times: 1,
                record,
                form: RawForm::Older,
                came: None,
                origin: EventOrigin::Client,
                is_edited: false,
                reader: None,
            })),
            AsideV1::Computation { at, code, message, profiles } => {
                computation(at, code, message, profiles, ComputationSubject::default())
            }
            AsideV1::Delivery { id } => Aside::Delivery { id },
            AsideV1::Unreadable { at, position, problem, raw } => Aside::Unreadable { at, position, problem, raw },
        }
    }
}

impl Row for Aside {
    const WHAT: &'static str = "what was kept aside";
    const OWNER: Owner = Owner::Accept;
    const VERSION: u8 = 6;

    fn before(version: u8, body: &[u8]) -> Option<Result<Aside, String>> {
        match version {
            1 => Some(read_postcard::<AsideV1>(body).map(Aside::from)),
            2 => Some(read_postcard::<AsideV2>(body).map(Aside::from)),
            3 => Some(read_postcard::<AsideV3>(body).map(Aside::from)),
            4 => Some(read_postcard::<AsideV4>(body).map(Aside::from)),
            5 => Some(read_postcard::<AsideV5>(body).map(Aside::from)),
            _ => None,
        }
    }
}

impl Row for LetterTime {
    const WHAT: &'static str = "when a letter came first";
    const OWNER: Owner = Owner::Accept;
    const VERSION: u8 = 1;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_of_computations_of_the_release_before_are_read() {
        let (code, message) = ("trap".to_owned(), "no".to_owned());
        let before = AsideV2::Computation { at: Timestamp(6), code, message, profiles: 3 };
        let mut bytes = vec![2];
        row::write_postcard(&before, &mut bytes);
        let read = row::decode::<Aside>(&bytes).unwrap();
        assert!(
            matches!(&read, Aside::Computation { profiles: 3, about, .. } if *about == ComputationSubject::default())
        );
    }

    #[test]
    fn letters_of_computations_that_do_not_say_since_when_are_read() {
        let about = ComputationSubjectV5 { plugin: String::new(), inputs: Vec::new(), people: Vec::new() };
        let (code, message) = ("trap".to_owned(), "no".to_owned());
        let before = AsideV4::Computation { at: Timestamp(6), code, message, profiles: 3, about };
        let mut bytes = vec![4];
        row::write_postcard(&before, &mut bytes);
        let read = row::decode::<Aside>(&bytes).unwrap();
        assert!(
            matches!(read, Aside::Computation { at: Timestamp(6), since: Timestamp(0), profiles: 3, .. }),
            "{read:?}"
        );
    }

    #[test]
    fn letters_of_computations_without_digests_of_rows_are_read() {
        let profile = ProfileId(kith_model::id::SourceIdentityId([3; 16]));
        let about = ComputationSubjectV5 { plugin: "p".into(), inputs: vec!["orders".into()], people: vec![profile] };
        let (at, since, code, message) = (Timestamp(6), Timestamp(5), "trap".to_owned(), "no".to_owned());
        let before =
            AsideV5::Computation { at, since, code: code.clone(), message: message.clone(), profiles: 3, about };
        let mut bytes = vec![5];
        row::write_postcard(&before, &mut bytes);
        let people = vec![NamedPerson { profile, row: None }];
        let about = ComputationSubject { plugin: "p".into(), inputs: vec!["orders".into()], people };
        let expected = Aside::Computation { at, since, code, message, profiles: 3, about };
        assert_eq!(row::decode::<Aside>(&bytes).unwrap(), expected);
    }

    #[test]
    fn letters_that_name_no_version_are_read() {
        let record = RejectedRecord { place: 3, code: "bad-time".into(), message: "no".into(), raw: "{}".into() };
        let (at, last_at, form, origin) = (Timestamp(5), Timestamp(6), RawForm::Event, EventOrigin::Import);
        let letter =
            || LetterV3 { at, last_at, times: 2, record: record.clone(), form, came: None, origin, is_edited: true };
        let expected = Letter {
            at,
            last_at,
            times: 2,
            record: record.clone(),
            form,
            came: None,
            origin,
            is_edited: true,
            reader: None,
        };
        let mut second = vec![2];
        row::write_postcard(&AsideV2::Record(Box::new(letter())), &mut second);
        let mut third = vec![3];
        row::write_postcard(&AsideV3::Record(Box::new(letter())), &mut third);
        for bytes in [second, third] {
            assert_eq!(row::decode::<Aside>(&bytes).unwrap(), Aside::Record(Box::new(expected.clone())));
        }
    }

    #[test]
    fn the_newest_people_are_named_each_once() {
        let person = |number: u8| ProfileId(kith_model::id::SourceIdentityId([number; 16]));
        let mut about = ComputationSubject::default();
        (0..40).chain([30, 39]).for_each(|number| about.name(person(number), None));
        about.name(person(30), Some([1; 32]));
        assert_eq!(about.people.len(), MAX_NAMED_PEOPLE);
        let newest: Vec<_> = about.people.iter().rev().take(3).map(|named| (named.profile, named.row)).collect();
        assert_eq!(newest, [(person(30), Some([1; 32])), (person(39), None), (person(38), None)]);
    }

    #[test]
    fn letters_of_the_release_before_that_are_read() {
        let record = RejectedRecord { place: 3, code: "bad-time".into(), message: "no".into(), raw: "{}".into() };
        let before = [
            AsideV1::Record { at: Timestamp(5), record: record.clone() },
            AsideV1::Delivery { id: [7; 16] },
            AsideV1::Unreadable { at: Timestamp(6), position: Position(9), problem: "p".into(), raw: vec![1] },
        ];
        let read = before.map(|aside| {
            let mut bytes = vec![1];
            row::write_postcard(&aside, &mut bytes);
            row::decode::<Aside>(&bytes).unwrap()
        });
        let Aside::Record(letter) = &read[0] else { panic!("{read:?}") };
        assert_eq!((&letter.record, letter.at, letter.times, letter.form), (&record, Timestamp(5), 1, RawForm::Older));
        assert_eq!(read[1], Aside::Delivery { id: [7; 16] });
        assert!(matches!(&read[2], Aside::Unreadable { position: Position(9), .. }));
    }
}
