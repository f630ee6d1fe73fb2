//! Events that models emit about the people whom they are asked about. Whether one is new is the kernel's to know.

use crate::platform;

/// An event of a model's own about the person of a row. The kernel takes it with the answer for that row, once for good, and only
/// where the answer is news: what a first computation or an import finds counts as told.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Emitted {
    /// The name of a `track` event; one that `emits` under `[capabilities]` of `plugin.toml` names.
    pub name: String,
    /// A JSON object of at most 8 KiB, or empty for none.
    pub properties: String,
    /// What makes it one: the same name and key of the same person are one event. Empty: its properties are that.
    pub key: String,
}

impl Emitted {
    /// An event of that name and nothing else.
    pub fn new(name: impl Into<String>) -> Emitted {
        Emitted { name: name.into(), ..Emitted::default() }
    }

    /// The same with these properties, a JSON object.
    #[must_use]
    pub fn with_properties(mut self, properties: impl Into<String>) -> Emitted {
        self.properties = properties.into();
        self
    }

    /// The same with a key, at most 256 bytes: the month of a monthly event, a level that is reached.
    #[must_use]
    pub fn with_key(mut self, key: impl Into<String>) -> Emitted {
        self.key = key.into();
        self
    }
}

/// Emit an event about the person of row `row`, from 0. In `evaluate` and `score` alone; anywhere else, and with a name that the
/// manifest does not declare, it ends the call with a fault.
///
/// ```
/// use kith_plugin_sdk::{Emitted, emit, testing};
///
/// let ((), record) = testing::Host::new().run(|| emit(0, Emitted::new("Level Reached").with_key("gold")));
/// assert_eq!(record.emitted[0].1.key, "gold");
/// ```
pub fn emit(row: usize, event: Emitted) {
    platform::emit(row, event);
}
