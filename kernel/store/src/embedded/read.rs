//! Reading: the overlay first, then the engine, so that a reader sees every committed unit.

use std::collections::BTreeMap;

use super::overlay::{Overlay, Rows};
use crate::engine::Engine;
use crate::{Key, KeyRange, Page, ReadError, Value};

/// The most bytes of values in one page, so that a page of large values does not fill the memory.
const MAX_PAGE_BYTES: usize = 16 * 1024 * 1024;

/// The rows of `keys`.
pub(crate) fn get(overlay: &Overlay, engine: &dyn Engine, keys: &[Key]) -> Result<Vec<Option<Value>>, ReadError> {
    let mut values = Vec::with_capacity(keys.len());
    let mut missing = Vec::new();
    {
        let layers = overlay.read();
        for (index, key) in keys.iter().enumerate() {
            let entry = layers.find(key);
            if entry.is_none() {
                missing.push(index);
            }
            values.push(entry.and_then(|entry| entry.value.clone()));
        }
    }
    if !missing.is_empty() {
        let asked: Vec<&Key> = missing.iter().map(|index| &keys[*index]).collect();
        for (index, value) in missing.iter().zip(engine.get(&asked)?) {
            values[*index] = value;
        }
    }
    Ok(values)
}

/// A page of `range`, with the writer's `pending` rows on top of what readers see.
pub(crate) fn scan(
    overlay: &Overlay,
    engine: &dyn Engine,
    pending: Option<&Rows>,
    range: &KeyRange,
    limit: usize,
) -> Result<Page, ReadError> {
    let mut page = Page::default();
    let mut bytes = 0;
    let mut range = range.clone();
    // A window is a part of the range in which nothing is left out, neither of the overlay nor of the engine. One row more
    // than asked for tells where the next page begins.
    while limit > 0 && range.from < range.to {
        let wanted = limit.saturating_add(1).saturating_sub(page.rows.len());
        let (rows, end) = window(overlay, engine, pending, &range, wanted)?;
        for (key, value) in rows {
            if page.rows.len() >= limit || bytes >= MAX_PAGE_BYTES {
                page.next = Some(key);
                return Ok(page);
            }
            bytes += value.len();
            page.rows.push((key, value));
        }
        range.from = end;
    }
    Ok(page)
}

/// The rows from the beginning of `range` to the returned key, which is the range's end if nothing is left.
fn window(
    overlay: &Overlay,
    engine: &dyn Engine,
    pending: Option<&Rows>,
    range: &KeyRange,
    wanted: usize,
) -> Result<(impl Iterator<Item = (Key, Value)> + use<>, Key), ReadError> {
    let mut recent = overlay.read().window(range, wanted, pending);
    let mut end = recent.cut.take().unwrap_or_else(|| range.to.clone());
    let below = KeyRange { from: range.from.clone(), to: end.clone() };
    let old = engine.scan(&below, wanted, MAX_PAGE_BYTES)?;
    if old.more
        && let Some((last, _)) = old.rows.last()
    {
        end = last.successor();
        recent.rows.split_off(&end);
    }
    let mut rows: BTreeMap<Key, Option<Value>> = old.rows.into_iter().map(|(key, value)| (key, Some(value))).collect();
    rows.append(&mut recent.rows);
    Ok((rows.into_iter().filter_map(|(key, value)| Some((key, value?))), end))
}
