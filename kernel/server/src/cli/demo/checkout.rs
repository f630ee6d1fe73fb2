//! Finding the sources of the plugins and the demo's data: a checkout of Kith on this machine.

use std::path::{Path, PathBuf};

use crate::cli::Failure;

/// The folders of the six plugins that the demo shows, below `plugins/`.
const PLUGINS: [&str; 6] =
    ["connector-segment", "connector-csv", "tag-model-rfm", "tag-model-lifecycle", "scorer-clv", "channel-webhook"];

/// A checkout of Kith.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Checkout {
    root: PathBuf,
}

impl Checkout {
    /// The checkout that this program was built from, else the one around the current folder.
    pub(crate) fn find() -> Result<Checkout, Failure> {
        let built_from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let current = std::env::current_dir().unwrap_or_default();
        let candidates = std::iter::once(built_from.as_path()).chain(current.ancestors());
        find_among(candidates).ok_or_else(|| {
            Failure::Failed(format!(
                "the plugins' sources and the demo's data are not at {} nor around {}; \
                 run the demo in a checkout of Kith: cargo run --release -- demo",
                built_from.display(),
                current.display()
            ))
        })
    }

    /// The crates of the six plugins.
    pub(crate) fn plugin_crates(&self) -> Vec<PathBuf> {
        PLUGINS.iter().map(|name| self.root.join("plugins").join(name)).collect()
    }

    /// A file of `examples/data/`.
    pub(crate) fn data(&self, name: &str) -> PathBuf {
        self.root.join("examples/data").join(name)
    }
}

fn find_among<'a>(candidates: impl Iterator<Item = &'a Path>) -> Option<Checkout> {
    let is_checkout = |root: &Path| {
        PLUGINS.iter().all(|name| root.join("plugins").join(name).join("plugin.toml").is_file())
            && root.join("examples/data").is_dir()
    };
    candidates.filter(|root| is_checkout(root)).find_map(|root| root.canonicalize().ok()).map(|root| Checkout { root })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_a_checkout_when_all_six_plugins_and_the_data_are_there() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("a/b");
        std::fs::create_dir_all(&inner).unwrap();
        assert_eq!(find_among(inner.ancestors()), None);
        std::fs::create_dir_all(folder.path().join("examples/data")).unwrap();
        for name in PLUGINS {
            let plugin = folder.path().join("plugins").join(name);
            std::fs::create_dir_all(&plugin).unwrap();
            std::fs::write(plugin.join("plugin.toml"), "").unwrap();
        }
        let found = find_among(inner.ancestors()).unwrap();
        assert_eq!(found.root, folder.path().canonicalize().unwrap());
    }
}
