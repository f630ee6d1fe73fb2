//! Dead letters as the routes show them.

use kith_model::id::InstallationId;
use kith_pipeline::{DeadLetter, FailedPerson, LetterCount, LetterCounts, LetterKind, RecordLetter, Replay};
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use utoipa::ToSchema;

use crate::api::deliveries::{DeliveryBody, Withholding, delivery_body};
use crate::api::masks::{Lens, Masked, Sight};
use crate::api::profiles::person;
use crate::api::sensitive::Mask;
use crate::api::view::time;
use crate::app::App;
use crate::auth::{Caller, hex};
use crate::catalogue::WorkspaceTables;

/// How much of a record a list shows, in bytes.
const LISTED_BYTES: usize = 4 << 10;

/// How much of a record is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Length {
    Whole,
    Cut,
}

/// Something that did not work and is kept until somebody deals with it, or until it is too old.
#[derive(Debug, Serialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum DeadLetterBody {
    /// An input that could not become an event.
    Record {
        id: String,
        source: String,
        /// When it came first.
        at: String,
        /// When the same record last came and was refused for the same reason.
        last_at: String,
        times: u64,
        /// The line in a file (from 1) or the index in a batch (from 0).
        place: u64,
        /// In which it came; `null` where that is not known.
        path: Option<String>,
        code: String,
        /// `null` where it is withheld, as is `raw`.
        message: Option<String>,
        /// The record as the sender wrote it, up to 32 KiB; where that is not known, the event that the connector found.
        raw: Option<String>,
        /// How much of it was kept.
        raw_bytes: u64,
        /// Whether that is all of it.
        whole: bool,
        /// Of one letter alone, of what was kept and is shown: its SHA-256, by which the same input is found in the logs of its sender.
        #[serde(skip_serializing_if = "Option::is_none")]
        sha256: Option<String>,
        /// Whether `raw` was corrected.
        edited: bool,
        /// Whether it can be tried again as it is; `obstacle` says why not.
        replayable: bool,
        #[serde(skip_serializing_if = "Option::is_none")]
        obstacle: Option<&'static str>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        withheld: Vec<&'static str>,
    },
    /// A compute plugin's batch that failed; the profiles keep their older values.
    Computation {
        id: String,
        installation: String,
        /// When it last happened.
        at: String,
        /// When it happened first.
        since: String,
        code: String,
        /// `null` where it is withheld.
        message: Option<String>,
        /// How often it happened to somebody; `null` where it is withheld.
        profiles: Option<u64>,
        /// Present where `profiles` is not exact.
        #[serde(skip_serializing_if = "Option::is_none")]
        masked: Option<Masked>,
        /// The plugin and its version, e.g. `acme/level@1.2.0`; empty where the letter does not say.
        plugin: String,
        /// The columns of its input.
        inputs: Vec<String>,
        /// The profiles whom it happened to last, 16 at most, the newest last; `null` where they are withheld.
        people: Option<Vec<String>>,
        /// What the plugin was given of them, in the same order, but for those of whom it was given nothing; `null` where it is
        /// withheld.
        rows: Option<Vec<FailedRowBody>>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        withheld: Vec<&'static str>,
    },
    /// Something stored that cannot be read, or is too large to be written; the work went on without it.
    Unreadable {
        id: String,
        at: String,
        position: u64,
        problem: String,
        /// `null` where it is withheld.
        raw: Option<String>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        withheld: Vec<&'static str>,
    },
    /// A message that was given up.
    Delivery(DeliveryBody),
}

/// A row that a compute plugin could not take.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct FailedRowBody {
    profile: String,
    /// SHA-256 of the row as one line of JSON without spaces, with a member for each column in the manifest's order, as
    /// `kith plugin run` takes it: equal inputs have equal digests.
    sha256: String,
}

/// What came of trying a dead letter again.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ReplayBody {
    id: String,
    /// Whether something is done about it: a record was taken, a message is on its way again, or a model is asked again about people.
    replayed: bool,
    /// Of a record: events that are new.
    #[serde(skip_serializing_if = "Option::is_none")]
    accepted: Option<u64>,
    /// Of a record: events that had come already.
    #[serde(skip_serializing_if = "Option::is_none")]
    duplicate: Option<u64>,
    /// Of a computation: how many people its model is asked about again. The letter goes once it has answered for them, and stays
    /// with a later `at` where it fails again. Absent where it is withheld.
    #[serde(skip_serializing_if = "Option::is_none")]
    people: Option<u64>,
    /// Present where `people` is not exact, or withheld.
    #[serde(skip_serializing_if = "Option::is_none")]
    masked: Option<Masked>,
    /// Why a record was refused again.
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<String>,
    /// The same in words; absent without the scope `profiles:read`, because they may quote the record.
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
}

impl ReplayBody {
    /// What came of it, where it was tried.
    pub(super) fn of(id: String, replayed: Replay, looker: Looker<'_>) -> ReplayBody {
        let (accepted, duplicate, people, masked, code, message) = (None, None, None, None, None, None);
        let none = ReplayBody { id, replayed: true, accepted, duplicate, people, masked, code, message };
        match replayed {
            Replay::AskedAgain { installation, code, people } => {
                let lens = looker.lens(installation, code);
                ReplayBody { people: lens.number(people), masked: lens.masked(people), ..none }
            }
            Replay::Taken { accepted, duplicate } => {
                ReplayBody { accepted: Some(accepted), duplicate: Some(duplicate), ..none }
            }
            Replay::Refused { code, message } | Replay::Failed { code, message } => {
                let sight = looker.mask.sight_of_records(looker.caller.sight());
                let message = (sight == Sight::People).then_some(message);
                ReplayBody { replayed: false, code: Some(code), message, ..none }
            }
            Replay::Begun
            | Replay::Impossible(_)
            | Replay::NoLetter
            | Replay::AudienceRemoved
            | Replay::SourceRemoved
            | Replay::InstallationRemoved
            | Replay::NotRunning { .. }
            | Replay::NobodyWaits => none,
        }
    }
}

/// Dead letters of one source, type and reason.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct LetterCountBody {
    /// A source, a model or a channel; empty for what cannot be read.
    source: String,
    #[serde(rename = "type")]
    kind: &'static str,
    code: String,
    letters: u64,
    /// How often these happened: the same record again is counted in its letter. Of computations it is a number of people, which
    /// is rounded or `null` without the scope `profiles:read`.
    times: Option<u64>,
    first_at: String,
    last_at: String,
}

/// How many dead letters there are.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct LetterCountsBody {
    items: Vec<LetterCountBody>,
    letters: u64,
    /// Letters that no item counts, because 500 sources, types and reasons are told apart; narrow the question for them.
    others: u64,
    /// Whether all were counted; narrow the question where not.
    whole: bool,
}

impl LetterCountsBody {
    pub(super) fn new(looker: Looker<'_>, tables: &WorkspaceTables, counts: LetterCounts) -> LetterCountsBody {
        let letters = counts.counts.iter().map(|count| count.letters).sum::<u64>() + counts.others;
        let items = counts.counts.into_iter().map(|count| LetterCountBody {
            source: if count.source.0 == 0 { String::new() } else { tables.installation_name(count.source) },
            times: looker.times(&count),
            kind: count.kind.as_str(),
            code: count.code,
            letters: count.letters,
            first_at: time(count.first_at),
            last_at: time(count.last_at),
        });
        LetterCountsBody { items: items.collect(), letters, others: counts.others, whole: counts.is_whole }
    }
}

/// Who looks at dead letters.
#[derive(Clone, Copy)]
pub(super) struct Looker<'a> {
    pub(super) app: &'a App,
    pub(super) caller: &'a Caller,
    pub(super) mask: &'a Mask,
}

impl Looker<'_> {
    /// How numbers of the people are shown on whom an installation failed in one way: who chose its inputs chose them.
    fn lens(&self, installation: InstallationId, code: &str) -> Lens {
        Lens::new(self.app, self.caller, &format!("failed {} {code}", installation.0))
    }

    fn times(&self, count: &LetterCount) -> Option<u64> {
        match count.kind {
            LetterKind::Computation => self.lens(count.source, &count.code).number(count.times),
            LetterKind::Record | LetterKind::Unreadable | LetterKind::Delivery => Some(count.times),
        }
    }
}

/// A dead letter as the audit log names it: the person where it is a message, else the letter, and the people whom it names.
pub(super) fn letter_names(letter: &DeadLetter) -> Vec<String> {
    let own = || format!("letter:{}", letter.id());
    match letter {
        DeadLetter::Delivery(view) => vec![person(view.profile)],
        DeadLetter::Computation { people, .. } => {
            std::iter::once(own()).chain(people.iter().map(|failed| person(failed.profile))).collect()
        }
        DeadLetter::Record(_) | DeadLetter::Unreadable { .. } => vec![own()],
    }
}

pub(super) fn letter_body(
    tables: &WorkspaceTables,
    letter: DeadLetter,
    looker: Looker<'_>,
    length: Length,
) -> DeadLetterBody {
    let (sight, mask) = (looker.caller.sight(), looker.mask);
    let mut withholding = Withholding::new(mask.sight_of_records(sight));
    match letter {
        DeadLetter::Record(letter) => record_body(tables, *letter, withholding, length),
        DeadLetter::Computation { id, installation, at, since, code, message, profiles, plugin, inputs, people } => {
            let message = withholding.of("message", message);
            // Whoever may see people may see who it was, whatever is sensitive in what the plugin says of them.
            let names = people.iter().map(|failed| failed.profile.to_string()).collect();
            let names = (sight == Sight::People).then_some(names);
            withholding.fields.extend(names.is_none().then_some("people"));
            // Whoever guesses a short row finds its digest, so that it is as sensitive as the row.
            let rows = withholding.of("rows", people.iter().filter_map(failed_row).collect());
            let lens = looker.lens(installation, &code);
            DeadLetterBody::Computation {
                id,
                installation: tables.installation_name(installation),
                at: time(at),
                since: time(since),
                code,
                message,
                profiles: lens.number(profiles),
                masked: lens.masked(profiles),
                plugin,
                inputs,
                people: names,
                rows,
                withheld: withholding.fields,
            }
        }
        DeadLetter::Unreadable { id, at, position, problem, raw } => DeadLetterBody::Unreadable {
            id,
            at: time(at),
            position: position.0,
            problem,
            raw: withholding.of("raw", String::from_utf8_lossy(&raw).into_owned()),
            withheld: withholding.fields,
        },
        DeadLetter::Delivery(view) => {
            let sight = mask.sight_of(tables, view.audience, sight);
            DeadLetterBody::Delivery(delivery_body(tables, view, sight))
        }
    }
}

fn failed_row(failed: &FailedPerson) -> Option<FailedRowBody> {
    Some(FailedRowBody { profile: failed.profile.to_string(), sha256: hex(&failed.row_sha256?) })
}

fn record_body(
    tables: &WorkspaceTables,
    letter: RecordLetter,
    mut withholding: Withholding,
    length: Length,
) -> DeadLetterBody {
    let mut raw = letter.record.raw;
    let raw_bytes = raw.len() as u64;
    let digest = match length {
        Length::Whole => Some(hex(&Sha256::digest(raw.as_bytes()))),
        Length::Cut => {
            raw.truncate(raw.floor_char_boundary(LISTED_BYTES));
            None
        }
    };
    // A connector's words may quote the record.
    let message = withholding.of("message", letter.record.message);
    let raw = withholding.of("raw", raw);
    DeadLetterBody::Record {
        id: letter.id,
        source: tables.installation_name(letter.source),
        at: time(letter.first_at),
        last_at: time(letter.last_at),
        times: letter.times,
        place: letter.record.place,
        path: letter.path,
        code: letter.record.code,
        message,
        sha256: digest.filter(|_| raw.is_some()),
        raw,
        raw_bytes,
        whole: letter.is_whole,
        edited: letter.is_edited,
        replayable: letter.obstacle.is_none(),
        obstacle: letter.obstacle,
        withheld: withholding.fields,
    }
}

#[cfg(test)]
mod tests {
    use kith_model::id::{ProfileId, SourceIdentityId};
    use kith_model::time::Timestamp;
    use serde_json::{Value, json};

    use super::*;
    use crate::api::tests::{FIRST, key_with};
    use crate::auth::Scope;
    use crate::serve::tests::server;

    /// A row may have so few values that whoever guesses it finds its digest.
    #[tokio::test(flavor = "multi_thread")]
    async fn the_digest_of_a_row_is_for_who_may_see_the_row() {
        let server = server();
        let failed = |byte, row_sha256| FailedPerson { profile: ProfileId(SourceIdentityId([byte; 16])), row_sha256 };
        let shown = |scopes: &[Scope]| {
            let key = key_with(&server, FIRST, scopes, None);
            let caller = server.app().authenticate(&key).unwrap();
            let tables = server.app().catalogue.workspace(FIRST).unwrap();
            let looker = Looker { app: server.app(), caller: &caller, mask: &Mask::new(&tables, &caller) };
            let letter = computation(1, vec![failed(1, None), failed(2, Some([171; 32]))]);
            serde_json::to_value(letter_body(&tables, letter, looker, Length::Whole)).unwrap()
        };
        let whole = shown(&[Scope::DeliveriesRead, Scope::ProfilesRead]);
        let profile = failed(2, None).profile.to_string();
        assert_eq!(whole["rows"], json!([{ "profile": profile, "sha256": "ab".repeat(32) }]));
        assert_eq!(whole["people"].as_array().map(Vec::len), Some(2));
        let withheld = shown(&[Scope::DeliveriesRead]);
        assert_eq!((&withheld["rows"], &withheld["people"]), (&Value::Null, &Value::Null));
        assert_eq!(withheld["withheld"], json!(["message", "people", "rows"]));
    }

    /// The letter of a model that failed so often, on these the last.
    fn computation(profiles: u64, people: Vec<FailedPerson>) -> DeadLetter {
        DeadLetter::Computation {
            id: "aside_1".to_owned(),
            installation: InstallationId(901),
            at: Timestamp(0),
            since: Timestamp(0),
            code: "refused".to_owned(),
            message: String::new(),
            profiles,
            plugin: String::new(),
            inputs: Vec::new(),
            people,
        }
    }

    /// A model that failed on whom its inputs chose told by the number of its failures whether they chose anybody more.
    #[tokio::test(flavor = "multi_thread")]
    async fn on_how_many_people_a_model_failed_is_for_who_may_read_people() {
        let server = server();
        let shown = |scopes: &[Scope], profiles: u64| {
            let key = key_with(&server, FIRST, scopes, None);
            let caller = server.app().authenticate(&key).unwrap();
            let tables = server.app().catalogue.workspace(FIRST).unwrap();
            let looker = Looker { app: server.app(), caller: &caller, mask: &Mask::new(&tables, &caller) };
            let letter = computation(profiles, Vec::new());
            let body = serde_json::to_value(letter_body(&tables, letter, looker, Length::Whole)).unwrap();
            let count = LetterCount {
                source: InstallationId(901),
                kind: LetterKind::Computation,
                code: "refused".to_owned(),
                letters: 1,
                times: profiles,
                first_at: Timestamp(0),
                last_at: Timestamp(0),
            };
            [body["profiles"].clone(), body["masked"].clone(), json!(looker.times(&count))]
        };
        assert_eq!(shown(&[Scope::DeliveriesRead, Scope::ProfilesRead], 1), [json!(1), Value::Null, json!(1)]);
        assert_eq!(shown(&[Scope::DeliveriesRead], 1), [Value::Null, json!("withheld"), Value::Null]);
        let [profiles, masked, times] = shown(&[Scope::DeliveriesRead], 1_000);
        assert_eq!((profiles.as_u64().unwrap() % 10, masked), (0, json!("rounded")));
        assert_eq!(times, profiles);
        let own = shown(&[Scope::DeliveriesRead, Scope::PluginsAdmin], 1_000);
        assert_eq!(own, [Value::Null, json!("withheld"), Value::Null]);
    }
}
