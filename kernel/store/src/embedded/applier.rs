//! The applier thread: brings committed rows into the engine, behind the writer and in larger batches.

use std::borrow::Cow;

use crate::Key;
use crate::engine::{Change, EngineError, history};

use super::Shared;
use super::overlay::{Layer, count, entry_bytes};

/// How many bytes the engine may hold unsynced while there is no pause in which to sync.
const SYNC_AFTER_BYTES: usize = 8 * 1024 * 1024;

/// Apply until the overlay is closed and empty.
pub(crate) fn run(shared: &Shared) -> Result<(), EngineError> {
    let mut unsynced_bytes = 0;
    while let Some(layer) = shared.overlay.freeze() {
        unsynced_bytes += apply(shared, &layer)?;
        metrics::counter!("kith_store_applied_rows_total").increment(layer.rows.len() as u64);
        let more = shared.overlay.drop_frozen(layer);
        if unsynced_bytes >= SYNC_AFTER_BYTES || !more {
            shared.engine.sync()?;
            unsynced_bytes = 0;
        }
    }
    shared.engine.sync()
}

/// Apply one layer. The marker goes with its last batch: before that the engine holds some rows of the layer and not
/// others, which a replay from the old marker puts right, since it sets every one of them again.
fn apply(shared: &Shared, layer: &Layer) -> Result<usize, EngineError> {
    let started = std::time::Instant::now();
    let max_changes = shared.engine.max_changes();
    let mut rows = layer.rows.iter().peekable();
    let mut stored: Vec<(&Key, Option<Cow<'_, [u8]>>)> = Vec::with_capacity(layer.rows.len().min(max_changes));
    let (mut bytes, mut taken) = (0, 0);
    while let Some((key, entry)) = rows.next() {
        let value = match &entry.value {
            Some(value) if shared.journal.is_some() => Some(history::stored(key, value, entry.spot)),
            value => value.as_deref().map(Cow::Borrowed),
        };
        bytes += key.as_bytes().len() + value.as_ref().map_or(0, |value| value.len());
        taken += entry_bytes(key, entry);
        stored.push((key, value));
        let is_last = rows.peek().is_none();
        if is_last || stored.len() >= max_changes {
            let changes: Vec<Change<'_>> = stored.iter().map(|(key, value)| (*key, value.as_deref())).collect();
            shared.engine.apply(&changes, is_last.then_some(layer.last))?;
            stored.clear();
            shared.overlay.release(std::mem::take(&mut taken));
        }
    }
    metrics::histogram!("kith_store_apply_seconds").record(started.elapsed().as_secs_f64());
    metrics::gauge!("kith_store_applied_layer_rows").set(count(layer.rows.len()));
    Ok(bytes)
}
