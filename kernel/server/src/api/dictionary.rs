//! The data dictionary: what names mean, who answers for them, and how sensitive they are.

mod body;

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use kith_model::dictionary::{DatedEntry, EVERY_EVENT, Entry, MAX_ENTRIES, Sensitivity, Subject};
use kith_pipeline::{CatalogEntry, NameKind};
use serde_json::{Map, Value, json};

pub(crate) use body::{
    CatalogEntryBody, DictionaryChange, DictionaryChanges, DictionaryDocument, DictionaryEntryBody, DictionaryQuery,
    NewDictionaryEntry, PatchDictionaryEntry, ReaderBody, SubjectQuery,
};

use super::etag::{self, IfMatch, TaggedBody};
use super::extract::{Authority, Json, PageQuery, Path, Query, WrittenJson, right};
use super::installations::changes::merged;
use super::view::Page;
use crate::app::App;
use crate::auth::{Caller, Scope};
use crate::catalogue::{Draft, WorkspaceTables};
use crate::error::{ApiError, Problem};
use crate::wiring;

/// What a path, a query or a document names.
fn subject(kind: &str, name: &str, event: Option<&str>, place: &str) -> Result<Subject, ApiError> {
    let name = name.to_owned();
    let subject = match (kind, event) {
        ("event", None) => Subject::Event { name },
        ("trait", None) => Subject::Trait { name },
        ("property", Some(event)) => Subject::Property { event: event.to_owned(), name },
        ("property", None) => {
            return Err(ApiError::at(
                format!("{place}event"),
                "say which event's property it is, or `*` for every event",
            ));
        }
        ("event" | "trait", Some(_)) => {
            return Err(ApiError::at(format!("{place}event"), "only a property is one of an event; leave it out"));
        }
        _ => return Err(ApiError::at(format!("{place}kind"), "it is one of event, property and trait")),
    };
    subject.check().map_err(|problem| ApiError::at(format!("{place}name"), problem))?;
    Ok(subject)
}

fn missing(subject: &Subject) -> ApiError {
    ApiError::missing(format!("the dictionary has no entry `{subject}`"))
}

/// The names that came, as far as the caller may know of them.
pub(super) struct SeenSubjects(BTreeSet<String>);

impl SeenSubjects {
    pub(super) fn new(app: &App, caller: &Caller) -> Result<SeenSubjects, ApiError> {
        let catalog = app.kernel.catalog(caller.workspace)?;
        let sees_all = caller.may(Scope::ProfilesRead);
        let told = catalog.entries.iter().filter(|entry| sees_all || super::catalog::is_of_many(entry));
        let mut keys = BTreeSet::new();
        for entry in told {
            keys.extend(subject_of(entry).map(|subject| subject.key()));
            if entry.kind == NameKind::Property {
                let every = Subject::Property { event: EVERY_EVENT.to_owned(), name: entry.name.clone() };
                keys.insert(every.key());
            }
        }
        Ok(SeenSubjects(keys))
    }

    fn has(&self, subject: &Subject) -> bool {
        self.0.contains(&subject.key())
    }
}

/// What the dictionary calls a name of the catalogue; `None` of what plugins write, which their manifests describe.
pub(super) fn subject_of(entry: &CatalogEntry) -> Option<Subject> {
    let name = entry.name.clone();
    match entry.kind {
        NameKind::Event => Some(Subject::Event { name }),
        NameKind::Property => entry.event.clone().map(|event| Subject::Property { event, name }),
        NameKind::Trait => Some(Subject::Trait { name }),
        NameKind::Tag | NameKind::Score => None,
    }
}

/// The installations that read something sensitive.
fn readers(tables: &WorkspaceTables, subject: &Subject) -> Vec<ReaderBody> {
    let written = subject.to_string();
    let reads = tables.installed().filter_map(|row| {
        let plugin = tables.plugin_of(row)?;
        let seen = wiring::sensitive_inputs(tables, row, plugin);
        seen.iter().any(|(name, _)| *name == written).then(|| ReaderBody {
            installation: row.name.to_string(),
            granted: row.grants.sensitive.contains(&written),
        })
    });
    reads.collect()
}

fn shown(
    tables: &WorkspaceTables,
    subject: &Subject,
    described: &DatedEntry,
    came: &SeenSubjects,
) -> DictionaryEntryBody {
    let mut body = DictionaryEntryBody::new(subject, described, came.has(subject));
    if described.entry.sensitivity == Sensitivity::Sensitive {
        body.readers = readers(tables, subject);
    }
    body
}

fn tagged(app: &App, caller: &Caller, subject: &Subject) -> Result<TaggedBody<DictionaryEntryBody>, ApiError> {
    let tables = app.catalogue.workspace(caller.workspace)?;
    let described = tables.dictionary.get(subject).ok_or_else(|| missing(subject))?;
    let body = shown(&tables, subject, described, &SeenSubjects::new(app, caller)?);
    Ok(TaggedBody { tag: etag::tag(&described.entry), body })
}

/// The entries, an event before its properties and facts last.
#[utoipa::path(
    get, path = "/api/v1/dictionary", tag = "dictionary", params(DictionaryQuery),
    security(("key" = ["audiences:read"])),
    responses((status = 200, body = Page<DictionaryEntryBody>), (status = 400, body = Problem)),
)]
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    authority: Authority<right::AudiencesRead>,
    Query(query): Query<DictionaryQuery>,
) -> Result<WrittenJson, ApiError> {
    if let Some(kind) = query.kind.as_deref().filter(|kind| !["event", "property", "trait"].contains(kind)) {
        let shown: String = kind.chars().take(64).collect();
        return Err(ApiError::at("?kind", format!("`{shown}` is none of event, property and trait")));
    }
    let sensitivity = query.sensitivity.as_deref().map(|text| {
        let known = Sensitivity::ALL.into_iter().find(|known| known.as_str() == text);
        known.ok_or_else(|| ApiError::at("?sensitivity", "it is one of public, internal, personal and sensitive"))
    });
    let sensitivity = sensitivity.transpose()?;
    let caller = authority.caller;
    app.offload(move |app| {
        let tables = app.catalogue.workspace(caller.workspace)?;
        let came = SeenSubjects::new(app, &caller)?;
        let wanted = tables.dictionary.iter().filter(|(subject, described)| {
            query.kind.as_deref().is_none_or(|kind| subject.kind() == kind)
                && query.event.as_deref().is_none_or(|event| subject.event() == Some(event))
                && sensitivity.is_none_or(|asked| described.entry.sensitivity == asked)
                && query.came.is_none_or(|asked| came.has(subject) == asked)
        });
        let keyed = wanted.map(|(subject, described)| (subject.key(), (subject, described)));
        let page = PageQuery::asked(query.limit, query.cursor.clone());
        WrittenJson::of(&Page::of(keyed, &page, |(subject, described)| Ok(shown(&tables, subject, described, &came)))?)
    })
    .await
}

/// One entry.
#[utoipa::path(
    get, path = "/api/v1/dictionary/{kind}/{name}", tag = "dictionary",
    params(
        ("kind" = String, Path, pattern = "^(event|property|trait)$", description = "`event`, `property` or `trait`"), ("name" = String, Path, min_length = 1, max_length = 256), SubjectQuery,
    ),
    security(("key" = ["audiences:read"])),
    responses(
        (status = 200, body = DictionaryEntryBody), (status = 400, body = Problem), (status = 404, body = Problem),
    ),
)]
pub(crate) async fn read(
    State(app): State<Arc<App>>,
    authority: Authority<right::AudiencesRead>,
    Path((kind, name)): Path<(String, String)>,
    Query(query): Query<SubjectQuery>,
) -> Result<TaggedBody<DictionaryEntryBody>, ApiError> {
    let subject = subject(&kind, &name, query.event.as_deref(), "?")?;
    let caller = authority.caller;
    app.offload(move |app| tagged(app, &caller, &subject)).await
}

/// Refuse to make something sensitive less so for whoever must not see it.
fn check_lowering(caller: &Caller, before: Option<&Entry>, after: Option<&Entry>) -> Result<(), ApiError> {
    let is_sensitive = |entry: Option<&Entry>| entry.is_some_and(|entry| entry.sensitivity == Sensitivity::Sensitive);
    if is_sensitive(before) && !is_sensitive(after) { caller.require(Scope::SensitiveRead) } else { Ok(()) }
}

fn audited(entry: &Entry) -> Option<Value> {
    serde_json::to_value(entry).ok()
}

/// What was done to one entry.
struct Deed {
    subject: Subject,
    before: Option<Entry>,
    after: Option<Entry>,
}

/// So many deeds of one change have a line each in the audit log. Of more, a line has as many as there is room for, by their
/// subjects: its own time, key, request and hashes would be more than what was done.
const LINES_OF_THEIR_OWN: usize = 10;

/// Bytes of entries on each side of such a line; a line with more would keep a hash of them alone.
const LINE_BYTES: usize = 24 << 10;

/// Write down what was done.
fn write_down(draft: &mut Draft<'_>, deeds: &[Deed]) -> Result<(), ApiError> {
    if deeds.len() <= LINES_OF_THEIR_OWN {
        for Deed { subject, before, after } in deeds {
            let action = match (before, after) {
                (Some(_), Some(_)) => "dictionary.change",
                (None, _) => "dictionary.add",
                (_, None) => "dictionary.remove",
            };
            draft.audit(action, subject, before.as_ref().and_then(audited), after.as_ref().and_then(audited))?;
        }
        return Ok(());
    }
    let (mut before, mut after, mut of) = (Map::new(), Map::new(), Vec::new());
    let mut bytes = [0, 0];
    for (place, deed) in deeds.iter().enumerate() {
        let subject = deed.subject.to_string();
        let written = Value::from(subject.as_str()).to_string().len();
        let sides = [(&mut before, &deed.before), (&mut after, &deed.after)];
        for (bytes, (side, entry)) in bytes.iter_mut().zip(sides) {
            // By name among all, and as the key of its entry.
            *bytes += 2 * written;
            if let Some(entry) = entry.as_ref().and_then(audited) {
                *bytes += entry.to_string().len();
                side.insert(subject.clone(), entry);
            }
        }
        of.push(subject);
        if bytes.iter().any(|bytes| *bytes >= LINE_BYTES) || place + 1 == deeds.len() {
            let after = json!({ "of": std::mem::take(&mut of), "entries": std::mem::take(&mut after) });
            draft.audit("dictionary.import", "", Some(Value::Object(std::mem::take(&mut before))), Some(after))?;
            bytes = [0, 0];
        }
    }
    Ok(())
}

/// Put an entry into a change; what was done, where anything is new.
fn write(draft: &mut Draft<'_>, caller: &Caller, subject: &Subject, entry: Entry) -> Result<Option<Deed>, ApiError> {
    let before = draft.tables().dictionary.get(subject).map(|described| described.entry.clone());
    check_lowering(caller, before.as_ref(), Some(&entry))?;
    if before.as_ref() == Some(&entry) {
        return Ok(None);
    }
    if before.is_none() && draft.tables().dictionary.len() >= MAX_ENTRIES {
        let message = format!("the dictionary has {MAX_ENTRIES} entries, which is as many as it may; remove one first");
        return Err(ApiError::Conflict { code: "dictionary-full", message });
    }
    draft.put_entry(subject.clone(), entry.clone());
    Ok(Some(Deed { subject: subject.clone(), before, after: Some(entry) }))
}

/// Write an entry down, in place of what was written before. Where it makes something sensitive, the answer says which
/// installations read it; one to which it is not granted is held until it is.
#[utoipa::path(
    put, path = "/api/v1/dictionary/{kind}/{name}", tag = "dictionary",
    params(
        ("kind" = String, Path, pattern = "^(event|property|trait)$", description = "`event`, `property` or `trait`"), ("name" = String, Path, min_length = 1, max_length = 256), SubjectQuery,
    ),
    security(("key" = ["dictionary:write"])), request_body = NewDictionaryEntry,
    responses(
        (status = 200, body = DictionaryEntryBody), (status = 400, body = Problem), (status = 403, body = Problem),
        (status = 409, body = Problem), (status = 412, body = Problem), (status = 413, body = Problem),
    ),
)]
pub(crate) async fn put(
    State(app): State<Arc<App>>,
    authority: Authority<right::DictionaryWrite>,
    Path((kind, name)): Path<(String, String)>,
    Query(query): Query<SubjectQuery>,
    if_match: IfMatch,
    Json(wanted): Json<NewDictionaryEntry>,
) -> Result<TaggedBody<DictionaryEntryBody>, ApiError> {
    let subject = subject(&kind, &name, query.event.as_deref(), "?")?;
    let entry = wanted.checked(&subject, "")?;
    edit(app, authority, subject, if_match, move |_| Ok(entry.clone())).await
}

/// Change an entry: what is absent stays, `null` brings the default back. With the tag of a read in `If-Match` it is refused
/// where somebody else has changed it since.
#[utoipa::path(
    patch, path = "/api/v1/dictionary/{kind}/{name}", tag = "dictionary",
    params(
        ("kind" = String, Path, pattern = "^(event|property|trait)$", description = "`event`, `property` or `trait`"), ("name" = String, Path, min_length = 1, max_length = 256), SubjectQuery,
    ),
    security(("key" = ["dictionary:write"])), request_body = PatchDictionaryEntry,
    responses(
        (status = 200, body = DictionaryEntryBody), (status = 400, body = Problem), (status = 403, body = Problem),
        (status = 404, body = Problem), (status = 412, body = Problem), (status = 413, body = Problem),
    ),
)]
pub(crate) async fn change(
    State(app): State<Arc<App>>,
    authority: Authority<right::DictionaryWrite>,
    Path((kind, name)): Path<(String, String)>,
    Query(query): Query<SubjectQuery>,
    if_match: IfMatch,
    Json(patch): Json<PatchDictionaryEntry>,
) -> Result<TaggedBody<DictionaryEntryBody>, ApiError> {
    let subject = subject(&kind, &name, query.event.as_deref(), "?")?;
    let (of, patch) = (subject.clone(), patch.document());
    edit(app, authority, subject, if_match, move |present| {
        let present = present.ok_or_else(|| missing(&of))?;
        let present = serde_json::to_value(NewDictionaryEntry::of(present))
            .map_err(|error| ApiError::internal("writing an entry", error))?;
        let bytes = merged(&present, &patch).to_string();
        super::extract::parse::<NewDictionaryEntry>(bytes.as_bytes())?.checked(&of, "")
    })
    .await
}

async fn edit(
    app: Arc<App>,
    authority: Authority<right::DictionaryWrite>,
    subject: Subject,
    if_match: IfMatch,
    make: impl Fn(Option<&Entry>) -> Result<Entry, ApiError> + Send + 'static,
) -> Result<TaggedBody<DictionaryEntryBody>, ApiError> {
    let (caller, actor) = (authority.caller.clone(), authority.actor());
    app.offload(move |app| {
        app.change(caller.workspace, actor, |draft| {
            let present = draft.tables().dictionary.get(&subject).map(|described| described.entry.clone());
            if_match.check_made(&format!("`{subject}`"), present.as_ref().map(|present| move || etag::tag(present)))?;
            let deed = write(draft, &caller, &subject, make(present.as_ref())?)?;
            write_down(draft, deed.as_slice())
        })?;
        tagged(app, &caller, &subject)
    })
    .await
}

/// Remove an entry. Of what was sensitive it takes the scope `sensitive:read` too, for it is masked no more.
#[utoipa::path(
    delete, path = "/api/v1/dictionary/{kind}/{name}", tag = "dictionary",
    params(
        ("kind" = String, Path, pattern = "^(event|property|trait)$", description = "`event`, `property` or `trait`"), ("name" = String, Path, min_length = 1, max_length = 256), SubjectQuery,
    ),
    security(("key" = ["dictionary:write"])),
    responses(
        (status = 204), (status = 400, body = Problem), (status = 403, body = Problem), (status = 404, body = Problem),
        (status = 412, body = Problem),
    ),
)]
pub(crate) async fn remove(
    State(app): State<Arc<App>>,
    authority: Authority<right::DictionaryWrite>,
    Path((kind, name)): Path<(String, String)>,
    Query(query): Query<SubjectQuery>,
    if_match: IfMatch,
) -> Result<StatusCode, ApiError> {
    let subject = subject(&kind, &name, query.event.as_deref(), "?")?;
    let (caller, actor) = (authority.caller.clone(), authority.actor());
    app.offload(move |app| {
        app.change(caller.workspace, actor, |draft| {
            let present = draft.tables().dictionary.get(&subject).map(|described| described.entry.clone());
            let present = present.ok_or_else(|| missing(&subject))?;
            if_match.check(&format!("`{subject}`"), || etag::tag(&present))?;
            let deed = take_out(draft, &caller, &subject, present)?;
            write_down(draft, &[deed])?;
            Ok(StatusCode::NO_CONTENT)
        })
    })
    .await
}

fn take_out(draft: &mut Draft<'_>, caller: &Caller, subject: &Subject, present: Entry) -> Result<Deed, ApiError> {
    check_lowering(caller, Some(&present), None)?;
    draft.remove_entry(subject);
    Ok(Deed { subject: subject.clone(), before: Some(present), after: None })
}

/// Take a whole document: entries that it has are added or changed, and with `remove_others` those that it does not have are
/// removed, all in one step. The same document again changes nothing. With `dry_run` the answer says what would be changed.
#[utoipa::path(
    post, path = "/api/v1/dictionary/import", tag = "dictionary", security(("key" = ["dictionary:write"])),
    request_body = DictionaryDocument,
    responses(
        (status = 200, body = DictionaryChanges), (status = 400, body = Problem), (status = 403, body = Problem),
        (status = 409, body = Problem), (status = 413, body = Problem),
    ),
)]
pub(crate) async fn import(
    State(app): State<Arc<App>>,
    authority: Authority<right::DictionaryWrite>,
    Json(document): Json<DictionaryDocument>,
) -> Result<WrittenJson, ApiError> {
    let (caller, actor) = (authority.caller.clone(), authority.actor());
    app.offload(move |app| {
        let wanted = wanted(&document)?;
        let dry_run = document.dry_run;
        let edit = |draft: &mut Draft<'_>| take(draft, &caller, &wanted, document.remove_others);
        let (changes, unchanged) = match dry_run {
            true => edit(&mut app.catalogue.rehearse(caller.workspace, actor)?)?,
            false => app.change(caller.workspace, actor, edit)?,
        };
        WrittenJson::of(&DictionaryChanges { changes, unchanged, dry_run })
    })
    .await
}

/// The entries of a document, each once.
fn wanted(document: &DictionaryDocument) -> Result<Vec<(Subject, Entry)>, ApiError> {
    let (mut wanted, mut keys) = (Vec::with_capacity(document.entries.len()), BTreeSet::new());
    for (number, one) in document.entries.iter().enumerate() {
        let place = format!("entries[{number}].");
        let subject = subject(&one.kind, &one.name, one.event.as_deref(), &place)?;
        let entry = one.entry().checked(&subject, &place)?;
        if !keys.insert(subject.key()) {
            return Err(ApiError::at(format!("{place}name"), format!("`{subject}` is there twice")));
        }
        wanted.push((subject, entry));
    }
    Ok(wanted)
}

fn take(
    draft: &mut Draft<'_>,
    caller: &Caller,
    wanted: &[(Subject, Entry)],
    removes_others: bool,
) -> Result<(Vec<DictionaryChange>, usize), ApiError> {
    let mut deeds = Vec::new();
    if removes_others {
        let keys: BTreeSet<String> = wanted.iter().map(|(subject, _)| subject.key()).collect();
        let others = draft.tables().dictionary.iter().filter(|(subject, _)| !keys.contains(&subject.key()));
        let others: Vec<(Subject, Entry)> =
            others.map(|(subject, described)| (subject.clone(), described.entry.clone())).collect();
        for (subject, entry) in others {
            deeds.push(take_out(draft, caller, &subject, entry)?);
        }
    }
    let removed = deeds.len();
    for (subject, entry) in wanted {
        deeds.extend(write(draft, caller, subject, entry.clone())?);
    }
    write_down(draft, &deeds)?;
    let changes = deeds.iter().map(|Deed { subject, before, after }| DictionaryChange {
        act: match (before, after) {
            (Some(_), Some(_)) => "change",
            (None, _) => "add",
            (_, None) => "remove",
        },
        written: subject.to_string(),
        before: before.as_ref().map(NewDictionaryEntry::of),
        after: after.as_ref().map(NewDictionaryEntry::of),
        readers: match after {
            Some(entry) if entry.sensitivity == Sensitivity::Sensitive => readers(draft.tables(), subject),
            _ => Vec::new(),
        },
    });
    Ok((changes.collect(), wanted.len() - (deeds.len() - removed)))
}
