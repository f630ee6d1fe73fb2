//! Finding people and taking them out: a page of those who meet what a query asks for, and lists with chosen columns as CSV or
//! as lines of JSON, streamed to their end.

mod cells;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use kith_model::budget::table;
use kith_model::consent::CONSENT;
use kith_model::id::WorkspaceId;
use kith_model::identity::Identifier;
use kith_pipeline::{Column, PageRequest, ProfileRow, ProfileRows, ProfileSearch};
use serde::Serialize;
use serde_json::value::RawValue;
use tokio::sync::mpsc;
use tokio::time::sleep;
use utoipa::ToSchema;

use super::audit::Pieces;
use super::extract::{Authority, Path, Query, WrittenJson, page_limit, right};
use super::profiles::{FoundBody, person};
use super::sensitive::Mask;
use super::view::json;
use crate::app::App;
use crate::auth::Caller;
use crate::error::{ApiError, Problem};
use crate::processor;
use crate::reads;

use cells::Format;

/// Columns that one list can have.
const MAX_COLUMNS: usize = 64;

/// People that an export reads at once.
const EXPORT_ROWS: usize = 500;

/// About the most bytes of members that an export reads at once, and how many members it reads before it looks at their bytes.
const EXPORT_BYTES: usize = 1 << 20;
const MEMBERS_AT_ONCE: usize = 32;

/// What a query asks for.
#[derive(Debug, Clone, Default)]
pub(super) struct PeopleQuery {
    pub search: ProfileSearch,
    columns: Option<Vec<Column>>,
    limit: Option<usize>,
    cursor: Option<String>,
    format: Option<Format>,
}

impl PeopleQuery {
    /// Read the parameters of a query: a name that is none is a mistake and no wider search.
    pub(super) fn read(parameters: &[(String, String)]) -> Result<PeopleQuery, ApiError> {
        let mut asked = PeopleQuery::default();
        for (name, value) in parameters {
            match name.as_str() {
                "identifier" => asked.search.identifier = Some(identifier("?identifier", value)?),
                "prefix" => asked.search.prefix = Some(identifier("?prefix", value)?),
                "columns" => asked.columns = Some(columns(value)?),
                "limit" => {
                    let limit = value.parse().map_err(|_| ApiError::at("?limit", "write a number"))?;
                    asked.limit = Some(limit);
                }
                "cursor" => asked.cursor = Some(value.clone()),
                "format" => asked.format = Some(Format::read(value)?),
                other => match other.strip_prefix("trait.").filter(|name| !name.is_empty()) {
                    Some(name) => {
                        asked.search.traits.push((name.to_owned(), value.clone()));
                        let limit = table::SEARCH_TRAITS.default;
                        if asked.search.traits.len() as u64 > limit {
                            return Err(table::SEARCH_TRAITS.exhausted(limit, None).into());
                        }
                    }
                    None => {
                        let known = "identifier, prefix, trait.NAME, columns, limit, cursor or format";
                        return Err(ApiError::at(format!("?{other}"), format!("is no parameter; write {known}")));
                    }
                },
            }
        }
        Ok(asked)
    }

    /// Whether this is the look-up of one person by an identifier, and no search.
    pub(super) fn is_of_one(&self) -> bool {
        let PeopleQuery { search, columns, limit, cursor, format } = self;
        let is_plain = columns.is_none() && limit.is_none() && cursor.is_none() && format.is_none();
        is_plain && search.identifier.is_some() && search.prefix.is_none() && search.traits.is_empty()
    }

    /// Refuse to look for, or to list, what the caller must not see.
    fn insist(&self, mask: &Mask) -> Result<(), ApiError> {
        let searched = self.search.traits.iter().map(|(name, _)| name);
        let listed = self.columns.iter().flatten().filter_map(|column| match column {
            Column::Trait(name) => Some(name.as_str()),
            // It is read from there.
            Column::Consent(_) => Some(CONSENT),
            _ => None,
        });
        searched.map(String::as_str).chain(listed).try_for_each(|name| mask.insist_on_trait(name))
    }

    /// What is asked for as the audit log may name it: that nobody meets it is an answer too, and so is a part of a text that
    /// somebody has.
    fn sealed(&self, app: &App) -> Vec<String> {
        let ProfileSearch { identifier, prefix, traits } = &self.search;
        let identifier = identifier.iter().map(|wanted| reads::sealed(app, "identifier", &wanted.to_string()));
        let prefix = prefix.iter().map(|wanted| reads::sealed(app, "prefix", &wanted.to_string()));
        let traits = traits.iter().map(|(name, value)| reads::sealed(app, "trait", &format!("{name}={value}")));
        identifier.chain(prefix).chain(traits).collect()
    }

    fn columns(&self) -> Vec<Column> {
        self.columns.clone().unwrap_or_else(|| vec![Column::Id, Column::CreatedAt, Column::Identifiers(None)])
    }
}

fn identifier(place: &'static str, text: &str) -> Result<Identifier, ApiError> {
    let parts = text.split_once(':').filter(|(kind, value)| !kind.is_empty() && !value.is_empty());
    let (kind, value) = parts.ok_or_else(|| ApiError::at(place, "write TYPE:VALUE, e.g. email:ada@example.com"))?;
    Ok(Identifier::new(kind, value))
}

fn columns(text: &str) -> Result<Vec<Column>, ApiError> {
    let columns: Vec<Column> = text.split(',').map(|name| column(name.trim())).collect::<Result<_, _>>()?;
    if columns.len() > MAX_COLUMNS {
        return Err(ApiError::at("?columns", format!("a list has at most {MAX_COLUMNS} columns")));
    }
    Ok(columns)
}

fn column(name: &str) -> Result<Column, ApiError> {
    let named = |make: fn(String) -> Column, rest: &str| (!rest.is_empty()).then(|| make(rest.to_owned()));
    let found = match name.split_once('.') {
        None => match name {
            "id" => Some(Column::Id),
            "created_at" => Some(Column::CreatedAt),
            "identifiers" => Some(Column::Identifiers(None)),
            _ => None,
        },
        Some(("identifiers", kind)) => named(|kind| Column::Identifiers(Some(kind)), kind),
        Some(("traits", name)) => named(Column::Trait, name),
        Some(("tags", name)) => named(Column::Tag, name),
        Some(("scores", name)) => named(Column::Score, name),
        Some(("consent", purpose)) => named(Column::Consent, purpose),
        Some(_) => None,
    };
    found.ok_or_else(|| {
        let known = "id, created_at, identifiers, identifiers.TYPE, traits.NAME, tags.NAME, scores.NAME, consent.PURPOSE or consent.PURPOSE@CHANNEL";
        ApiError::at("?columns", format!("`{}` is no column; write {known}", name.chars().take(64).collect::<String>()))
    })
}

/// The name of a column, as it is asked for.
fn name_of(column: &Column) -> String {
    match column {
        Column::Id => "id".to_owned(),
        Column::CreatedAt => "created_at".to_owned(),
        Column::Identifiers(None) => "identifiers".to_owned(),
        Column::Identifiers(Some(kind)) => format!("identifiers.{kind}"),
        Column::Trait(name) => format!("traits.{name}"),
        Column::Tag(name) => format!("tags.{name}"),
        Column::Score(name) => format!("scores.{name}"),
        Column::Consent(purpose) => format!("consent.{purpose}"),
    }
}

/// A row as an object, with the profile's id whether or not it is a column. Values are JSON as it is stored, number for number.
fn object(names: &[String], row: &ProfileRow) -> BTreeMap<String, Box<RawValue>> {
    let id = serde_json::Value::from(row.id.to_string()).to_string();
    let mut object = BTreeMap::from([("id".to_owned(), json(&id))]);
    object.extend(names.iter().cloned().zip(row.cells.iter().map(|cell| json(cell))));
    object
}

/// A page of people, and what may be a mistake in what was asked for.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct FoundPeople {
    /// Each with its `id` and the columns that were asked for.
    #[schema(value_type = Vec<Object>)]
    items: Vec<BTreeMap<String, Box<RawValue>>>,
    /// Hand it in as `cursor` to get the next page; `null` at the end.
    next: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
}

/// The header of a list that says what may be a mistake in what was asked for: texts as a list of JSON in ASCII.
const WARNINGS: &str = "kith-warnings";

/// Bytes of that header at most; a proxy refuses an answer whose headers are long.
const MAX_WARNING_BYTES: usize = 4 << 10;

/// The value of the header, as many warnings as have room; `None` where there are none.
fn warning_header(warnings: &[String]) -> Option<HeaderValue> {
    let ascii = |warning: &String| -> String {
        let json = serde_json::Value::from(warning.as_str()).to_string();
        let mut units = [0; 2];
        let escaped = |letter: char, units: &mut [u16; 2]| -> String {
            match letter {
                ' '..='~' => letter.to_string(),
                _ => letter.encode_utf16(units).iter().map(|unit| format!("\\u{unit:04x}")).collect(),
            }
        };
        json.chars().map(|letter| escaped(letter, &mut units)).collect()
    };
    let mut room = MAX_WARNING_BYTES;
    let shown = warnings.iter().map(ascii).take_while(|text| {
        let fits = text.len() < room;
        room = room.saturating_sub(text.len() + 1);
        fits
    });
    let shown: Vec<String> = shown.collect();
    (!shown.is_empty()).then(|| HeaderValue::from_str(&format!("[{}]", shown.join(","))).ok())?
}

/// A page of the people who meet what is asked for.
pub(super) async fn found(app: &Arc<App>, caller: Caller, asked: PeopleQuery) -> Result<WrittenJson, ApiError> {
    asked.insist(&Mask::new(&*app.catalogue.workspace(caller.workspace)?, &caller))?;
    let (columns, limit) = (asked.columns(), page_limit(asked.limit)?);
    let names: Vec<String> = columns.iter().map(name_of).collect();
    let sealed = asked.sealed(app);
    // It may look at everybody.
    processor::is_large_from_now_on();
    app.offload(move |app| {
        // Told once, with the first page.
        let warnings = match asked.cursor {
            None => app.kernel.search_doubts(caller.workspace, &asked.search, &columns)?,
            Some(_) => Vec::new(),
        };
        let page = PageRequest { limit, cursor: asked.cursor.as_deref() };
        let (rows, next) = app.kernel.search(caller.workspace, &asked.search, &columns, page)?;
        let found = rows.iter().map(|row| person(row.id));
        app.reads.note(&caller, "profile.search", sealed.into_iter().chain(found));
        let items = rows.iter().map(|row| object(&names, row)).collect();
        WrittenJson::of(&FoundBody::Page(FoundPeople { items, next, warnings }))
    })
    .await
}

/// Everybody who meets what is asked for, as a file: `format=csv` unless told, or `ndjson`. The parameters are those of the
/// search without `limit`. It has everybody whom an answer acknowledged before, or the header `kith-warnings` says that it is not
/// current. It is streamed, and an answer that does not end was broken off.
#[utoipa::path(
    get, path = "/api/v1/profiles/export", tag = "profiles", security(("key" = ["profiles:read"])),
    params(
        ("format" = Option<String>, Query, pattern = "^(csv|ndjson)$", description = "`csv` or `ndjson`"),
        ("columns" = Option<String>, Query, description = "e.g. `id,identifiers.email,traits.city`"),
        ("identifier" = Option<String>, Query, pattern = "^[^:]+:.+$", description = "`TYPE:VALUE`, e.g. `email:ada@example.com`"),
        ("prefix" = Option<String>, Query, pattern = "^[^:]+:.+$", description = "`TYPE:BEGINNING`, without regard to case"),
        ("trait.NAME" = Option<String>, Query, description = "the value of a trait, e.g. `trait.city=Oslo`; for several, one for each"),
        ("cursor" = Option<String>, Query, description = "the `next` of a page of the search, to begin behind it"),
    ),
    responses(
        (
            status = 200, description = "a header and a line for each person, or an object for each",
            content((String = "text/csv"), (String = "application/x-ndjson")),
        ),
        (status = 400, body = Problem), (status = 413, body = Problem),
    ),
)]
pub(crate) async fn export(
    State(app): State<Arc<App>>,
    authority: Authority<right::ProfilesRead>,
    Query(parameters): Query<Vec<(String, String)>>,
) -> Result<Response, ApiError> {
    let asked = PeopleQuery::read(&parameters)?;
    let caller = authority.caller;
    let list = List::Search(asked.search.clone());
    list.insist(&app, &caller, &asked)?;
    app.reads.note(&caller, "profile.export", asked.sealed(&app));
    stream(app, caller, list, asked).await
}

/// An audience's members as a file, with chosen columns: `format=csv` unless told, or `ndjson`. It is streamed, and an answer
/// that does not end was broken off.
#[utoipa::path(
    get, path = "/api/v1/audiences/{id}/members/export", tag = "audiences",
    security(("key" = ["audiences:read", "profiles:read"])),
    params(
        ("id" = String, Path, description = "the audience's name"),
        ("format" = Option<String>, Query, pattern = "^(csv|ndjson)$", description = "`csv` or `ndjson`"),
        ("columns" = Option<String>, Query, description = "e.g. `id,identifiers.email,traits.city`"),
        ("cursor" = Option<String>, Query, description = "the `next` of a page of the members, to begin behind it"),
    ),
    responses(
        (
            status = 200, description = "a header and a line for each member, or an object for each",
            content((String = "text/csv"), (String = "application/x-ndjson")),
        ),
        (status = 400, body = Problem), (status = 404, body = Problem),
    ),
)]
pub(crate) async fn export_members(
    State(app): State<Arc<App>>,
    authority: Authority<right::AudiencesRead>,
    _people: Authority<right::ProfilesRead>,
    Path(name): Path<String>,
    Query(parameters): Query<Vec<(String, String)>>,
) -> Result<Response, ApiError> {
    let asked = PeopleQuery::read(&parameters)?;
    let caller = authority.caller;
    let list = List::Members(super::audiences::id_of(&app, caller.workspace, &name)?);
    list.insist(&app, &caller, &asked)?;
    app.reads.note(&caller, "audience.export", [format!("audience:{name}")]);
    stream(app, caller, list, asked).await
}

/// What an export goes through.
#[derive(Debug, Clone)]
enum List {
    Search(ProfileSearch),
    Members(kith_model::id::AudienceId),
}

impl List {
    /// Refuse what the caller must not see, as the dictionary is now.
    fn insist(&self, app: &App, caller: &Caller, asked: &PeopleQuery) -> Result<(), ApiError> {
        let tables = app.catalogue.workspace(caller.workspace)?;
        let mask = Mask::new(&tables, caller);
        asked.insist(&mask)?;
        match self {
            List::Search(_) => Ok(()),
            List::Members(audience) => {
                tables.audiences.get(audience).map_or(Ok(()), |audience| mask.insist(&audience.condition))
            }
        }
    }

    fn page(
        &self,
        app: &App,
        workspace: WorkspaceId,
        columns: &[Column],
        cursor: Option<&str>,
    ) -> Result<ProfileRows, ApiError> {
        match self {
            List::Search(search) => {
                Ok(app.kernel.search(workspace, search, columns, PageRequest { limit: EXPORT_ROWS, cursor })?)
            }
            List::Members(audience) => {
                let (mut rows, mut bytes, mut cursor) = (Vec::new(), 0, cursor.map(str::to_owned));
                loop {
                    let few = PageRequest { limit: MEMBERS_AT_ONCE, cursor: cursor.as_deref() };
                    let page = app.kernel.audience_members(workspace, *audience, few)?;
                    let found = app.kernel.rows_of(workspace, &page.members, columns)?;
                    bytes += found.iter().map(ProfileRow::len_bytes).sum::<usize>();
                    rows.extend(found);
                    cursor = page.next;
                    if cursor.is_none() || rows.len() >= EXPORT_ROWS || bytes >= EXPORT_BYTES {
                        return Ok((rows, cursor));
                    }
                }
            }
        }
    }
}

/// How long a list waits for what was acknowledged before it was asked for.
const MAX_WAIT: Duration = Duration::from_secs(20);

/// How long it waits between two looks.
const LOOK_AGAIN: Duration = Duration::from_millis(25);

/// Wait until everything is computed that was acknowledged so far: whoever imports a file and takes out a list next has everybody in it.
/// What is said where that takes too long.
async fn wait_until_current(app: &App, workspace: WorkspaceId) -> Option<String> {
    let (head, began) = (app.kernel.progress(workspace).head, Instant::now());
    loop {
        let reacted = app.kernel.progress(workspace).reacted;
        if reacted >= head {
            return None;
        }
        if began.elapsed() > MAX_WAIT {
            return Some(format!(
                "this list is not current: it may lack people, and changes of them, that were acknowledged and are not computed yet \
                 (computed up to position {}, acknowledged up to {}); take it again later",
                reacted.0, head.0
            ));
        }
        sleep(LOOK_AGAIN).await;
    }
}

/// Stream a list to its end, a page at a time, each when the one before was taken.
async fn stream(app: Arc<App>, caller: Caller, list: List, asked: PeopleQuery) -> Result<Response, ApiError> {
    let (workspace, columns, asked) = (caller.workspace, asked.columns(), Arc::new(asked));
    let under_way = app.exports.take(workspace, 1)?;
    processor::is_large_from_now_on();
    let format = asked.format.unwrap_or(Format::Csv);
    let names: Arc<[String]> = columns.iter().map(name_of).collect();
    let columns: Arc<[Column]> = columns.into();
    let doubted = (Arc::clone(&columns), asked.search.clone());
    // What goes on from a cursor has waited with its first page.
    let behind = if asked.cursor.is_none() { wait_until_current(&app, workspace).await } else { None };
    let doubts =
        app.offload(move |app| Ok::<_, ApiError>(app.kernel.search_doubts(workspace, &doubted.1, &doubted.0)?)).await?;
    let warnings: Vec<String> = behind.into_iter().chain(doubts).collect();
    let of_list = Arc::clone(&asked);
    let lines = move |app: Arc<App>, list: List, cursor: Option<String>| {
        let (names, columns) = (Arc::clone(&names), Arc::clone(&columns));
        let (caller, asked) = (caller.clone(), Arc::clone(&of_list));
        async move {
            app.offload(move |app| {
                // It goes on for as long as its reader likes, and no longer than its key is good.
                app.insist_on_standing(&caller.key)?;
                let (rows, next) = list.page(app, workspace, &columns, cursor.as_deref())?;
                // What has been called sensitive meanwhile does not leave: what was read before is looked at as well.
                list.insist(app, &caller, &asked)?;
                let mut text = if cursor.is_none() { format.head(&names) } else { String::new() };
                rows.iter().for_each(|row| format.line(&names, &row.cells, &mut text));
                Ok::<_, ApiError>((text, next))
            })
            .await
        }
    };
    // The first page is read before the answer begins, so that a mistake is an answer and not a line that breaks off.
    let mut page = lines(Arc::clone(&app), list.clone(), asked.cursor.clone()).await?;
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(processor::counted(async move {
        let _under_way = under_way;
        processor::is_large_from_now_on();
        loop {
            let (text, next) = page;
            if sender.send(Ok(Bytes::from(text))).await.is_err() {
                return; // nobody reads on
            }
            let Some(next) = next else { return };
            app.processor.go_on(workspace).await;
            page = match lines(Arc::clone(&app), list.clone(), Some(next)).await {
                Ok(page) => page,
                Err(error) => {
                    tracing::error!(?error, "an export of people broke off");
                    drop(sender.send(Err(std::io::Error::other("the export broke off"))).await);
                    return;
                }
            };
        }
    }));
    let headers = [(header::CONTENT_TYPE, format.media_type())];
    let mut answer = (headers, Body::new(Pieces(receiver))).into_response();
    if let Some(warnings) = warning_header(&warnings) {
        answer.headers_mut().insert(WARNINGS, warnings);
    }
    Ok(answer)
}
