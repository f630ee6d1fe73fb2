//! The layers: which of our crates may use which, and the sole owners of foreign worlds. ARCHITECTURE.md shows the same text.

use std::path::Path;

use cargo_metadata::{DependencyKind, MetadataCommand, Package};
use kith_tests::root;

use crate::files::rust_files;

/// `crate → what it may use of ours`, lowest layer first. ARCHITECTURE.md holds the same lines.
const LAYERS: &str = "\
kith-json       →
kith-model      →
kith-store      → kith-model
kith-features   → kith-json kith-model
kith-host       → kith-model
kith-pipeline   → kith-json kith-model kith-store kith-features
kith            → kith-json kith-model kith-store kith-features kith-host kith-pipeline
kith-plugin-sdk-macros →
kith-plugin-sdk → kith-json kith-plugin-sdk-macros
plugins         → kith-plugin-sdk
";

/// `foreign crate → the one of ours that knows it`.
const OWNERS: [(&str, &str); 8] = [
    ("sled", "kith-store"),
    ("redb", "kith-store"),
    ("wasmtime", "kith-host"),
    ("wit-component", "kith-host"),
    ("cel", "kith-features"),
    ("axum", "kith"),
    ("clap", "kith"),
    ("wit-bindgen", "kith-plugin-sdk"),
];

/// The rooms of the pipeline in the order in which data moves through them. A room is used by those behind it; where two need
/// the same, it lies with the rows below all of them.
const ROOMS: [&str; 5] = ["profiles", "accept", "react", "deliver", "questions"];

/// Crates that stand outside of the product and may use all of it.
const OUTSIDE: [&str; 2] = ["kith-tests", "kith-fuzz"];

/// The members of the workspace.
fn packages() -> Vec<Package> {
    let metadata = MetadataCommand::new().manifest_path(root().join("Cargo.toml")).no_deps().exec().unwrap();
    metadata.packages
}

/// A crate's name in the table: every guest is one of `plugins`.
fn layer(name: &str) -> &str {
    if name.starts_with("plugin-") || name.starts_with("hostile-") || name.starts_with("guest-") {
        "plugins"
    } else {
        name
    }
}

/// What a crate of this layer may use of ours.
fn allowed(layer: &str) -> Option<Vec<&'static str>> {
    let line = LAYERS.lines().find(|line| line.split('→').next().is_some_and(|name| name.trim() == layer))?;
    Some(line.split('→').nth(1)?.split_whitespace().collect())
}

#[test]
fn every_edge_between_our_crates_is_allowed() {
    let packages = packages();
    let ours: Vec<&str> = packages.iter().map(|package| package.name.as_str()).collect();
    assert!(ours.len() >= 14, "{ours:?}");
    for package in packages.iter().filter(|package| !OUTSIDE.contains(&package.name.as_str())) {
        let layer = layer(&package.name);
        let allowed = allowed(layer).unwrap_or_else(|| panic!("{layer} has no line in the table of layers"));
        for edge in package.dependencies.iter().filter(|edge| ours.contains(&edge.name.as_str())) {
            // A crate may use itself in its own tests, e.g. with another feature.
            let is_own = edge.name == *package.name;
            assert!(is_own || allowed.contains(&edge.name.as_str()), "{} may not use {}", package.name, edge.name);
        }
    }
}

#[test]
fn every_foreign_world_has_one_owner() {
    for package in packages() {
        for edge in package.dependencies.iter().filter(|edge| edge.kind == DependencyKind::Normal) {
            let owner = OWNERS.iter().find(|(foreign, _)| *foreign == edge.name).map(|(_, owner)| *owner);
            assert!(
                owner.is_none_or(|owner| owner == package.name.as_str()),
                "{} may not know {}; only {} does",
                package.name,
                edge.name,
                owner.unwrap_or_default()
            );
        }
    }
}

#[test]
fn versions_and_features_are_in_one_place() {
    for package in packages() {
        let text = std::fs::read_to_string(&package.manifest_path).unwrap();
        let manifest: Vec<&str> = text.lines().map(str::trim).collect();
        let is_dependency_table = |line: &str| line.starts_with('[') && line.contains("dependencies");
        let mut in_dependencies = false;
        for line in manifest {
            if line.starts_with('[') {
                in_dependencies = is_dependency_table(line);
            } else if in_dependencies && line.contains('=') && !line.starts_with('#') {
                let is_shared = line.contains("workspace = true") && !line.contains(", features");
                assert!(
                    is_shared,
                    "{}: `{line}` belongs into the root's [workspace.dependencies]",
                    package.manifest_path
                );
            }
        }
    }
}

#[test]
fn the_picture_and_the_table_are_the_same_text() {
    let text = std::fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let block = text.split("```layers\n").nth(1).and_then(|rest| rest.split("```").next());
    let block = block.expect("ARCHITECTURE.md has a block that begins with ```layers");
    assert_eq!(block, LAYERS, "ARCHITECTURE.md and tests/tidy/layers.rs differ");
}

#[test]
fn no_room_of_the_pipeline_uses_a_later_one() {
    let source = Path::new("kernel/pipeline/src");
    let files = rust_files();
    let of_room = |room: &str| {
        let (folder, file) = (source.join(room), source.join(format!("{room}.rs")));
        files.iter().filter(move |(path, _)| path.starts_with(&folder) || *path == file)
    };
    for (place, room) in ROOMS.iter().enumerate() {
        assert!(of_room(room).count() > 0, "the pipeline has no room {room}");
        for (path, text) in of_room(room) {
            // Tests look into other rooms to see what came of a thing.
            let product = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
            for later in &ROOMS[place + 1..] {
                let is_used = [format!("crate::{later}::"), format!("super::super::{later}::")];
                assert!(!is_used.iter().any(|used| product.contains(used)), "{} uses {later}", path.display());
            }
        }
    }
}
