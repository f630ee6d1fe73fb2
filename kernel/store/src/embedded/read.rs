//! Reading: the overlay first, then the engine, so that a reader sees every committed unit.

use std::collections::BTreeMap;

use super::overlay::{Layers, Overlay, Rows, Window};
use crate::engine::{Engine, EnginePage};
use crate::{Key, KeyRange, Page, ReadError, Value};

/// The most bytes of values in one page, so that a page of large values does not fill the memory.
const MAX_PAGE_BYTES: usize = 16 * 1024 * 1024;

/// How often a read is repeated because the applier began a layer meanwhile, before it holds the applier up instead.
const MAX_REPEATS: usize = 3;

/// What the overlay says about some keys, and which of them it leaves to the engine.
struct Lookup {
    values: Vec<Option<Value>>,
    missing: Vec<usize>,
}

impl Lookup {
    fn of(layers: &Layers, keys: &[Key]) -> Lookup {
        let (mut values, mut missing) = (Vec::with_capacity(keys.len()), Vec::new());
        for (index, key) in keys.iter().enumerate() {
            let entry = layers.find(key);
            if entry.is_none() {
                missing.push(index);
            }
            values.push(entry.and_then(|entry| entry.value.clone()));
        }
        Lookup { values, missing }
    }

    fn complete(mut self, engine: &dyn Engine, keys: &[Key]) -> Result<Vec<Option<Value>>, ReadError> {
        if !self.missing.is_empty() {
            let asked: Vec<&Key> = self.missing.iter().map(|index| &keys[*index]).collect();
            for (index, value) in self.missing.iter().zip(engine.get(&asked)?) {
                self.values[*index] = value;
            }
        }
        Ok(self.values)
    }
}

/// The rows of `keys` as of one moment: of no unit some rows are seen and others not.
///
/// Two things could come in between the look into the overlay and the one into the engine. A unit that is published is not
/// seen, because the engine does not have it. A unit that is also applied would be: its rows that were in an older layer
/// come from that, the others from the engine, and those are newer. The engine gets a row that no layer held at the first
/// look only after a new layer was frozen, so it is enough to see that none was. To hold the layers still during the read
/// instead would make the writer wait for the disk.
pub(crate) fn get(overlay: &Overlay, engine: &dyn Engine, keys: &[Key]) -> Result<Vec<Option<Value>>, ReadError> {
    for _ in 0..MAX_REPEATS {
        let (lookup, freezes) = {
            let layers = overlay.read();
            (Lookup::of(&layers, keys), layers.freezes)
        };
        let asks_engine = !lookup.missing.is_empty();
        let values = lookup.complete(engine, keys)?;
        if !asks_engine || keys.len() == 1 || overlay.read().freezes == freezes {
            return Ok(values);
        }
    }
    let layers = overlay.read();
    Lookup::of(&layers, keys).complete(engine, keys)
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

/// The rows from the beginning of `range` to the returned key, which is the range's end if nothing is left; as of one moment,
/// for the reason that [`get`] has.
fn window(
    overlay: &Overlay,
    engine: &dyn Engine,
    pending: Option<&Rows>,
    range: &KeyRange,
    wanted: usize,
) -> Result<(impl Iterator<Item = (Key, Value)> + use<>, Key), ReadError> {
    for _ in 0..MAX_REPEATS {
        let (recent, freezes) = {
            let layers = overlay.read();
            (layers.window(range, wanted, pending), layers.freezes)
        };
        let (below, old) = below(engine, range, &recent, wanted)?;
        if overlay.read().freezes == freezes {
            return Ok(merged(recent, below, old));
        }
    }
    let layers = overlay.read();
    let recent = layers.window(range, wanted, pending);
    let (below, old) = below(engine, range, &recent, wanted)?;
    Ok(merged(recent, below, old))
}

/// The engine's rows of the part of `range` that the overlay's window covers, and where that part ends.
fn below(
    engine: &dyn Engine,
    range: &KeyRange,
    recent: &Window,
    wanted: usize,
) -> Result<(Key, EnginePage), ReadError> {
    let end = recent.cut.clone().unwrap_or_else(|| range.to.clone());
    let below = KeyRange { from: range.from.clone(), to: end.clone() };
    Ok((end, engine.scan(&below, wanted, MAX_PAGE_BYTES)?))
}

/// The overlay's rows over the engine's, up to where neither leaves anything out.
fn merged(mut recent: Window, mut end: Key, old: EnginePage) -> (impl Iterator<Item = (Key, Value)> + use<>, Key) {
    if old.more
        && let Some((last, _)) = old.rows.last()
    {
        end = last.successor();
        recent.rows.split_off(&end);
    }
    let mut rows: BTreeMap<Key, Option<Value>> = old.rows.into_iter().map(|(key, value)| (key, Some(value))).collect();
    rows.append(&mut recent.rows);
    (rows.into_iter().filter_map(|(key, value)| Some((key, value?))), end)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::super::overlay::Entry;
    use super::*;
    use crate::engine::memory::MemoryEngine;
    use crate::engine::{Applied, Change, EngineError};

    /// An engine in which something happens at the beginning of every read.
    struct Interrupted<'a> {
        rows: &'a MemoryEngine,
        reads: AtomicUsize,
        meanwhile: &'a (dyn Fn(usize) + Sync),
    }

    impl Engine for Interrupted<'_> {
        fn name(&self) -> &'static str {
            "interrupted"
        }

        fn max_changes(&self) -> usize {
            usize::MAX
        }

        fn get(&self, keys: &[&Key]) -> Result<Vec<Option<Value>>, EngineError> {
            (self.meanwhile)(self.reads.fetch_add(1, Ordering::SeqCst));
            self.rows.get(keys)
        }

        fn scan(&self, range: &KeyRange, max_rows: usize, max_bytes: usize) -> Result<EnginePage, EngineError> {
            (self.meanwhile)(self.reads.fetch_add(1, Ordering::SeqCst));
            self.rows.scan(range, max_rows, max_bytes)
        }

        fn apply(&self, changes: &[Change<'_>], applied: Option<Applied>) -> Result<(), EngineError> {
            self.rows.apply(changes, applied)
        }

        fn applied(&self) -> Result<Option<Applied>, EngineError> {
            self.rows.applied()
        }

        fn sync(&self) -> Result<(), EngineError> {
            self.rows.sync()
        }
    }

    fn publish(overlay: &Overlay, keys: &[Key], sequence: u64) {
        let value = Value::from(sequence.to_be_bytes().as_slice());
        let entry = Entry { value: Some(value), sequence, spot: None };
        let rows = keys.iter().map(|key| (key.clone(), entry.clone())).collect();
        overlay.publish(rows, Applied { sequence, ..Applied::default() });
    }

    /// Bring what is published into the engine, as the applier does.
    fn apply(overlay: &Overlay, rows: &MemoryEngine) {
        let layer = overlay.freeze().unwrap();
        let changes: Vec<Change<'_>> = layer.rows.iter().map(|(key, entry)| (key, entry.value.as_deref())).collect();
        rows.apply(&changes, Some(layer.last)).unwrap();
        overlay.drop_frozen(layer);
    }

    type Read = fn(&Overlay, &Interrupted<'_>, &[Key]) -> Vec<Value>;

    /// The numbers that a reading of two rows finds. A unit that sets both is committed and applied during each of the
    /// engine's first `interruptions` reads.
    fn read_during(interruptions: usize, read: Read) -> (Vec<u64>, usize) {
        let keys = [Key::meta("a"), Key::meta("b")];
        let overlay = Overlay::new(Applied::default(), usize::MAX);
        // The applier of a closing overlay waits for nothing.
        overlay.close();
        let rows = MemoryEngine::default();
        // One row in the engine, the other in the overlay: the case in which they could be of different moments.
        publish(&overlay, &keys, 1);
        apply(&overlay, &rows);
        publish(&overlay, &keys[..1], 1);
        let meanwhile = |read: usize| {
            if read < interruptions {
                publish(&overlay, &keys, read as u64 + 2);
                apply(&overlay, &rows);
                publish(&overlay, &keys[..1], read as u64 + 2);
            }
        };
        let engine = Interrupted { rows: &rows, reads: AtomicUsize::new(0), meanwhile: &meanwhile };
        let values = read(&overlay, &engine, &keys);
        let number = |value: &Value| u64::from_be_bytes(value.as_ref().try_into().unwrap());
        (values.iter().map(number).collect(), engine.reads.into_inner())
    }

    fn got(overlay: &Overlay, engine: &Interrupted<'_>, keys: &[Key]) -> Vec<Value> {
        get(overlay, engine, keys).unwrap().into_iter().flatten().collect()
    }

    fn scanned(overlay: &Overlay, engine: &Interrupted<'_>, keys: &[Key]) -> Vec<Value> {
        let range = KeyRange { from: keys[0].clone(), to: keys[1].successor() };
        let page = scan(overlay, engine, None, &range, keys.len() + 1).unwrap();
        page.rows.into_iter().map(|(_, value)| value).collect()
    }

    #[test]
    fn several_rows_are_of_one_moment_whatever_is_committed_and_applied_meanwhile() {
        for read in [got as Read, scanned] {
            assert_eq!(read_during(0, read), (vec![1, 1], 1));
            assert_eq!(read_during(1, read), (vec![2, 2], 2));
            assert_eq!(read_during(2, read), (vec![3, 3], 3));
            // The last read holds the layers: nothing can come in between any more.
            assert_eq!(read_during(MAX_REPEATS, read), (vec![4, 4], MAX_REPEATS + 1));
        }
    }
}
