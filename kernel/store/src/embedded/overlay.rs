//! The rows of committed units that the engine does not have yet, so that readers need not wait for it.
//!
//! There are two layers: the writer adds to the active one, the applier works on the frozen one and drops it once the engine
//! has it all. A reader looks in both before it asks the engine, in that order: a row may appear in the engine while it is
//! still here, but never leaves here before it is there.

use std::collections::btree_map::{self as map, BTreeMap};
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex, RwLock, RwLockReadGuard};

use crate::engine::Applied;
use crate::journal::Spot;
use crate::read_set::Stripes;
use crate::{Key, KeyRange, Value};

/// A row put, or deleted where there is no value.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) value: Option<Value>,
    /// The unit that did it.
    pub(crate) sequence: u64,
    /// Where the value lies in the journal, if it is a record of the log.
    pub(crate) spot: Option<Spot>,
}

pub(crate) type Rows = BTreeMap<Key, Entry>;

/// What an entry costs beside its key and value: the map's node, two counters, allocations.
const OVERHEAD_BYTES: usize = 144;

/// What an entry takes of the overlay's room.
pub(crate) fn entry_bytes(key: &Key, entry: &Entry) -> usize {
    OVERHEAD_BYTES + key.as_bytes().len() + entry.value.as_ref().map_or(0, |value| value.len())
}

/// The net effect of a run of units.
#[derive(Debug, Default)]
pub(crate) struct Layer {
    pub(crate) rows: Rows,
    /// The last unit of the run.
    pub(crate) last: Applied,
    bytes: usize,
}

/// Both layers, and how far each stage has come.
#[derive(Debug, Default)]
pub(crate) struct Layers {
    active: Layer,
    frozen: Arc<Layer>,
    /// How many layers were handed to the applier so far: as long as it stands still, the engine gets no row that is not
    /// here.
    pub(crate) freezes: u64,
    /// The last unit that readers see.
    pub(crate) visible: Applied,
    /// The last unit whose rows are in the engine only.
    pub(crate) applied: Applied,
}

/// Rows of a range, and the key up to which nothing is left out.
#[derive(Debug)]
pub(crate) struct Window {
    pub(crate) rows: BTreeMap<Key, Option<Value>>,
    /// Where the window ends before the range does.
    pub(crate) cut: Option<Key>,
}

impl Layers {
    /// What the overlay says about `key`; `None` where it says nothing.
    pub(crate) fn find(&self, key: &Key) -> Option<&Entry> {
        self.active.rows.get(key).or_else(|| self.frozen.rows.get(key))
    }

    /// The overlay's rows in `range`, deleted ones as well, with `pending` on top; not many more than `max_rows`.
    pub(crate) fn window(&self, range: &KeyRange, max_rows: usize, pending: Option<&Rows>) -> Window {
        let mut window = Window { rows: BTreeMap::new(), cut: None };
        if range.from >= range.to {
            return window;
        }
        let bounds = (Bound::Included(&range.from), Bound::Excluded(&range.to));
        for rows in [Some(&self.frozen.rows), Some(&self.active.rows), pending].into_iter().flatten() {
            for (count, (key, entry)) in rows.range(bounds).enumerate() {
                if count >= max_rows {
                    let cut = window.cut.take().map_or_else(|| key.clone(), |cut| cut.min(key.clone()));
                    window.cut = Some(cut);
                    break;
                }
                window.rows.insert(key.clone(), entry.value.clone());
            }
        }
        if let Some(cut) = &window.cut {
            window.rows.split_off(cut);
        }
        window
    }
}

/// How much waits for the applier. Where both locks are needed, this one is taken before the one of the layers.
#[derive(Debug, Default)]
struct Backlog {
    active_bytes: usize,
    /// Of both layers, without what the engine has of the frozen one.
    bytes: usize,
    /// What the engine has of the frozen layer.
    released: usize,
    closing: bool,
    /// Somebody waits for the applier; it does not linger.
    hurried: bool,
}

/// The overlay of one store.
#[derive(Debug)]
pub(crate) struct Overlay {
    layers: RwLock<Layers>,
    /// Which units changed what of late.
    pub(crate) stripes: Stripes,
    backlog: Mutex<Backlog>,
    changed: Condvar,
    max_bytes: usize,
}

/// The applier starts once so much of the overlay's room is taken by what waits for it: sorted and coalesced, many rows cost
/// the engine less each.
const FULL_SHARE: usize = 16;
/// Or once the oldest of them has waited so long.
const LINGER: Duration = Duration::from_millis(100);

impl Overlay {
    /// An empty overlay above an engine that stands at `applied`.
    pub(crate) fn new(applied: Applied, max_bytes: usize) -> Overlay {
        let layers = Layers { visible: applied, applied, ..Layers::default() };
        let (layers, backlog) = (RwLock::new(layers), Mutex::default());
        Overlay { layers, stripes: Stripes::new(), backlog, changed: Condvar::new(), max_bytes }
    }

    /// The layers, held still.
    pub(crate) fn read(&self) -> RwLockReadGuard<'_, Layers> {
        self.layers.read()
    }

    /// The bytes that wait for the applier.
    pub(crate) fn bytes(&self) -> usize {
        self.backlog.lock().bytes
    }

    /// Show `rows` to readers: the net effect of the units up to `last`.
    pub(crate) fn publish(&self, rows: Rows, last: Applied) {
        // Before anybody can see them: whoever has read what was there before then finds that it has changed.
        rows.keys().for_each(|key| self.stripes.note(key, last.sequence));
        let mut backlog = self.backlog.lock();
        let (before, full) = (backlog.active_bytes, self.full_bytes());
        {
            let mut layers = self.layers.write();
            let active = &mut layers.active;
            for (key, entry) in rows {
                active.bytes += entry_bytes(&key, &entry);
                backlog.bytes += entry_bytes(&key, &entry);
                match active.rows.entry(key) {
                    map::Entry::Vacant(place) => drop(place.insert(entry)),
                    map::Entry::Occupied(mut place) => {
                        let bytes = entry_bytes(place.key(), place.get());
                        place.insert(entry);
                        active.bytes -= bytes;
                        backlog.bytes -= bytes;
                    }
                }
            }
            active.last = last;
            backlog.active_bytes = active.bytes;
            layers.visible = last;
        }
        if before == 0 || (before < full && backlog.active_bytes >= full) {
            self.changed.notify_all();
        }
        metrics::gauge!("kith_store_overlay_bytes").set(count(backlog.bytes));
    }

    /// Wait until the backlog is below its bound.
    pub(crate) fn wait_for_room(&self) {
        let mut backlog = self.backlog.lock();
        while backlog.bytes > self.max_bytes {
            backlog.hurried = true;
            self.changed.notify_all();
            self.changed.wait(&mut backlog);
        }
        backlog.hurried = false;
    }

    /// Wait until the engine has every unit that is visible now.
    pub(crate) fn settle(&self) {
        let mut backlog = self.backlog.lock();
        let target = self.layers.read().visible.sequence;
        while self.layers.read().applied.sequence < target {
            backlog.hurried = true;
            self.changed.notify_all();
            self.changed.wait(&mut backlog);
        }
        backlog.hurried = false;
    }

    /// Let the applier finish.
    pub(crate) fn close(&self) {
        self.backlog.lock().closing = true;
        self.changed.notify_all();
    }

    /// Wait for rows and freeze them; `None` once the overlay is closed and empty.
    pub(crate) fn freeze(&self) -> Option<Arc<Layer>> {
        let mut backlog = self.backlog.lock();
        let full = self.full_bytes();
        self.changed.wait_while(&mut backlog, |backlog| backlog.active_bytes == 0 && !backlog.closing);
        let waits = |backlog: &mut Backlog| backlog.active_bytes < full && !backlog.closing && !backlog.hurried;
        self.changed.wait_while_for(&mut backlog, waits, LINGER);
        backlog.active_bytes = 0;
        let mut layers = self.layers.write();
        let layer = Arc::new(std::mem::take(&mut layers.active));
        layers.frozen = layer.clone();
        layers.freezes += 1;
        (!layer.rows.is_empty()).then_some(layer)
    }

    /// The engine has rows of the frozen layer that take so many bytes here: whoever waits for room need not wait for the rest.
    pub(crate) fn release(&self, bytes: usize) {
        let mut backlog = self.backlog.lock();
        backlog.bytes -= bytes;
        backlog.released += bytes;
        drop(backlog);
        self.changed.notify_all();
    }

    fn full_bytes(&self) -> usize {
        self.max_bytes / FULL_SHARE
    }

    /// Drop the frozen layer, which the engine now has; whether more rows wait.
    pub(crate) fn drop_frozen(&self, layer: Arc<Layer>) -> bool {
        let mut backlog = self.backlog.lock();
        let mut layers = self.layers.write();
        layers.applied = layer.last;
        let frozen = std::mem::take(&mut layers.frozen);
        drop(layers);
        backlog.bytes -= layer.bytes - std::mem::take(&mut backlog.released);
        self.changed.notify_all();
        let more = backlog.active_bytes > 0;
        drop(backlog);
        // Freeing many rows takes a while; no lock is held any more.
        drop((frozen, layer));
        more
    }
}

/// A number for a metric.
#[allow(clippy::cast_precision_loss, reason = "a metric needs no exact number above 2^53")]
pub(crate) fn count(number: usize) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_engine_has_of_a_layer_makes_room_before_all_of_it_is_there() {
        let overlay = Overlay::new(Applied::default(), 1_000);
        let row = |name: &str| (Key::meta(name), Entry { value: Some(Value::from([0; 500])), sequence: 1, spot: None });
        let (one, other) = (row("one"), row("other"));
        let (of_one, of_other) = (entry_bytes(&one.0, &one.1), entry_bytes(&other.0, &other.1));
        overlay.publish(Rows::from([one, other]), Applied { sequence: 1, ..Applied::default() });
        assert_eq!(overlay.bytes(), of_one + of_other);
        let layer = overlay.freeze().unwrap();
        overlay.publish(Rows::from([row("third")]), Applied { sequence: 2, ..Applied::default() });
        overlay.release(of_one);
        let third = overlay.bytes() - of_other;
        assert!(third > 500 && overlay.bytes() > 1_000);
        overlay.release(of_other);
        // Whoever waits is let in before the layer is dropped, which takes nothing away twice.
        overlay.wait_for_room();
        assert!(overlay.drop_frozen(layer));
        assert_eq!(overlay.bytes(), third);
    }
}
