//! Where the next page is, by what the answer to this one says.

use kith_plugin_sdk::PollFailure;
use kith_plugin_sdk::http::Response;

use crate::address::{origin, resolve, shown};
use crate::progress::{MAX_EMPTY_PAGES, Position, Run};
use crate::settings::{Resource, Style};
use crate::{link, path};

/// A page as far as it matters here.
pub(crate) struct Page<'p> {
    /// Where it was asked for.
    pub(crate) url: &'p str,
    pub(crate) response: &'p Response,
    /// The whole document.
    pub(crate) document: &'p [u8],
    pub(crate) records: &'p [&'p [u8]],
}

/// Whether another page follows; `None` where the answer does not say so.
pub(crate) fn said_more(resource: &Resource, document: &[u8]) -> Option<bool> {
    let path = resource.paging.has_more.as_deref()?;
    let said = path::plain(path::find(document, path)?)?;
    match said.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" => Some(true),
        "false" | "0" | "no" => Some(false),
        _ => None,
    }
}

/// Where the page behind this one is; `None` where this is the last. The run knows of this page already.
pub(crate) fn next(resource: &Resource, run: &Run, page: &Page<'_>) -> Result<Option<Position>, PollFailure> {
    let paging = &resource.paging;
    if run.said_more == Some(false) {
        return Ok(None);
    }
    let count = page.records.len() as u64;
    // How many records a full page has is seen from the first one: many APIs give fewer than they are asked for, so that a first
    // page below `size` is not the last for that. Where the answer says that more follows, some of the page's records were filtered
    // out.
    let is_short = count == 0 || run.pages > 1 && count < run.full;
    let is_last = is_short && run.said_more != Some(true);
    match paging.style {
        Style::None => Ok(None),
        Style::Link => match &paging.next {
            Some(next) => linked(plain(next, path::find(page.document, next))?.as_deref(), page),
            None => linked(link::next(page.response), page),
        },
        Style::Cursor => {
            let cursor = match (&paging.next, &paging.last) {
                (Some(next), _) => plain(next, path::find(page.document, next))?,
                (None, Some(last)) => {
                    let record = page.records.last();
                    plain(last, record.and_then(|record| path::find(record, last)))?
                }
                (None, None) => None,
            };
            Ok(cursor.map(Position::Cursor))
        }
        Style::Page | Style::Offset if is_last => Ok(None),
        Style::Page | Style::Offset if run.empty_pages >= MAX_EMPTY_PAGES => Err(without_end()),
        Style::Page => {
            let number = match run.position {
                Position::Page(number) => number,
                _ => paging.first(),
            };
            Ok(Some(Position::Page(number.saturating_add(1))))
        }
        Style::Offset => {
            let offset = match run.position {
                Position::Offset(offset) => offset,
                _ => 0,
            };
            // Behind an empty page that is not the last, the next one begins where a full one would have ended.
            let step = if count == 0 { paging.size.unwrap_or(run.full).max(1) } else { count };
            Ok(Some(Position::Offset(offset.saturating_add(step))))
        }
    }
}

/// What an API comes to that says after each empty page that another follows: nothing in a number tells that it leads nowhere.
fn without_end() -> PollFailure {
    PollFailure::permanent(format!(
        "the last {MAX_EMPTY_PAGES} pages had no records, and the API says that more follow: `paging.has_more` reads another field, or \
         the API never says `false`"
    ))
}

/// The text or number that names the next page; `None` where there is none.
fn plain(path: &str, value: Option<&[u8]>) -> Result<Option<String>, PollFailure> {
    let Some(value) = value else { return Ok(None) };
    if value.starts_with(b"{") || value.starts_with(b"[") {
        return Err(PollFailure::permanent(format!(
            "what stands at `{path}` (`paging`) is neither text nor number, and names no next page"
        )));
    }
    // `false` is how some say that there is no next page.
    Ok(path::plain(value).filter(|text| text != "false").map(std::borrow::Cow::into_owned))
}

/// The address that a link leads to. The secret goes with it, so that it must stay at the API's own host.
fn linked(link: Option<&str>, page: &Page<'_>) -> Result<Option<Position>, PollFailure> {
    let Some(link) = link.filter(|link| !link.is_empty()) else { return Ok(None) };
    let target = resolve(link, page.url);
    let refused =
        |why: &str| PollFailure::permanent(format!("the link to the next page {why}: {:.200}", shown(&target)));
    let there = origin(&target).map_err(refused)?;
    if origin(page.url).as_ref() != Ok(&there) {
        return Err(refused(
            "leads to another host, port or scheme than `url`, and the secret would go along; it is not followed",
        ));
    }
    Ok(Some(Position::Link(target)))
}
