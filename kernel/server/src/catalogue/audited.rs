//! Reading the audit log, whole or in part. A row that cannot be read is shown as such, because whoever damaged it must not be
//! able to hide the others.

use kith_model::id::WorkspaceId;
use kith_model::time::Timestamp;
use kith_store::{Key, row};

use super::{AuditRow, Catalogue, CatalogueError};
use crate::audit::AuditEntry;

/// Which records: those that meet all that is given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditFilter {
    pub actor: Option<String>,
    /// Whole, or the beginning of one that ends with a dot.
    pub action: Option<String>,
    /// What was changed, or one of those that were read.
    pub target: Option<String>,
    pub from: Option<Timestamp>,
    pub to: Option<Timestamp>,
}

impl AuditFilter {
    fn admits(&self, row: &AuditRow) -> bool {
        let is_one = |action: &str, wanted: &str| match wanted.ends_with('.') {
            true => action.starts_with(wanted),
            false => action == wanted,
        };
        let is_action = |wanted: &String| {
            // Reads of several kinds within a second are one record, which says of each how often.
            let reads = row.after.as_ref().and_then(|after| after.get("reads")?.as_object());
            is_one(&row.action, wanted) || reads.is_some_and(|reads| reads.keys().any(|action| is_one(action, wanted)))
        };
        let is_target = |wanted: &String| {
            let read = row.after.as_ref().and_then(|after| after.get("of")?.as_array());
            row.target == *wanted || read.is_some_and(|of| of.iter().any(|one| one.as_str() == Some(wanted.as_str())))
        };
        self.actor.as_ref().is_none_or(|wanted| row.actor.as_str() == wanted)
            && self.action.as_ref().is_none_or(is_action)
            && self.target.as_ref().is_none_or(is_target)
            && self.from.is_none_or(|from| from <= row.at)
            && self.to.is_none_or(|to| row.at < to)
    }
}

/// Rows that are looked at for one page, where a filter may leave out all of them.
const MAX_LOOKED_AT: usize = 4_096;

/// About the most bytes of rows in one page, and about the most that are read at once; one row may have more.
const MAX_PAGE_BYTES: usize = 256 << 10;

/// Rows that are read at first. Those of a change have 64 KiB at most, or what a release before kept.
const FIRST_ROWS: usize = 16;

impl Catalogue {
    /// A page of the audit log, newest last, after the row that `after` names.
    pub fn audit(
        &self,
        workspace: WorkspaceId,
        filter: &AuditFilter,
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<(Vec<AuditEntry>, Option<Vec<u8>>), CatalogueError> {
        let all = Key::audit(workspace, None);
        let mut range = all.range();
        // A record lies at its own time, or at a later one where the clock was set back.
        if let Some(from) = filter.from {
            range.from = Key::audit(workspace, Some((from, 0)));
        }
        if let Some(after) = after {
            range.from = range.from.max(all.followed_by(after));
        }
        let (mut entries, mut looked_at, mut page_bytes) = (Vec::new(), 0, 0);
        let mut at_once = limit.min(FIRST_ROWS);
        loop {
            let page = self.store.scan(&range, at_once)?;
            looked_at += page.rows.len();
            let mut read_bytes = 0;
            for (key, value) in &page.rows {
                read_bytes += value.len();
                let place = key.strip(&all).unwrap_or_default();
                if entries.len() == limit || page_bytes >= MAX_PAGE_BYTES {
                    return Ok((entries, Some(place.to_vec())));
                }
                match row::decode::<AuditRow>(value) {
                    Ok(row) if !filter.admits(&row) => {}
                    Ok(row) => {
                        page_bytes += value.len();
                        entries.push(row.entry());
                    }
                    Err(error) => entries.push(unreadable(place, &error)),
                }
            }
            match page.next {
                // Twice as many each time, while they are small: a filter may leave out few of them, or all.
                Some(next) if entries.len() < limit && page_bytes < MAX_PAGE_BYTES && looked_at < MAX_LOOKED_AT => {
                    range.from = next;
                    let within = MAX_PAGE_BYTES / (read_bytes / page.rows.len().max(1)).max(1);
                    at_once = (2 * at_once).min(within.max(1)).min(MAX_LOOKED_AT - looked_at);
                }
                next => return Ok((entries, next.and_then(|next| next.strip(&all).map(<[u8]>::to_vec)))),
            }
        }
    }
}

/// What stands for a row that cannot be read. The chain goes on without it, which shows.
fn unreadable(place: &[u8], error: &kith_store::ReadError) -> AuditEntry {
    tracing::error!(%error, "a record of the audit log cannot be read");
    AuditEntry {
        number: None,
        at: String::new(),
        actor: String::new(),
        actor_title: String::new(),
        action: "unreadable".to_owned(),
        target: data_encoding::HEXLOWER.encode(place),
        request_id: String::new(),
        client_request_id: None,
        before: None,
        after: None,
        previous: String::new(),
        // A record of before the chain has none; this is none of those.
        hash: "unreadable".to_owned(),
    }
}
