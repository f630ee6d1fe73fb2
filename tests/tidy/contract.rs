//! The contract between kernel and plugins: the folder of a frozen version under `wit/` never changes, and the SDK has the version
//! that it is built for in its own folder.

use std::collections::BTreeMap;
use std::path::Path;

use kith_host::{Abi, AbiStatus};
use kith_tests::root;
use sha2::{Digest as _, Sha256};

/// Each file of a frozen version with its SHA-256. A version that is frozen is added here; no line is ever edited.
const FROZEN: [(&str, &str); 8] = [
    ("0.1.0/columns.wit", "7b6c04755b43135c873e07c8e2fdab7a7263e90eafde9364383c15ad2825f8d4"),
    ("0.1.0/host.wit", "4bc62f86eb8e78bb04280a0c20bb3486039bb2feeb906f937ad405002cfc1afa"),
    ("0.1.0/types.wit", "5f610ba5d533624052db5e150b3eca8f10846f0e362b7954e8004ce620b781ec"),
    ("0.1.0/worlds.wit", "ca0e13914365eee963fb123cee29d7855caadd0d52d58bb07fc10cfb8c03e25f"),
    ("0.2.0/columns.wit", "4c36e9bb34767764dccaa07246c3207d8b5fb0fe694a18aaa574c8c62c2c991f"),
    ("0.2.0/host.wit", "06c5979d39c7aa39fd17e7481afc51538f1353c8bd27aa0f8d9d1e21cbddebc9"),
    ("0.2.0/types.wit", "3269f8ff554e48de639425c1cc2ea9d22348027c71dad3987bf5c5a2ba49bb5b"),
    ("0.2.0/worlds.wit", "4875703f7018093cc819a8b0cbf4531d55061618a3cd34d21a6ead949f20a21c"),
];

/// The folder of a version.
fn folder(abi: Abi) -> &'static str {
    abi.package().split_once('@').map_or("", |(_, version)| version)
}

/// The files of a folder by their names.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let read = |entry: std::io::Result<std::fs::DirEntry>| {
        let path = entry.unwrap().path();
        (path.file_name().unwrap().to_str().unwrap().to_owned(), std::fs::read(&path).unwrap())
    };
    std::fs::read_dir(folder).unwrap().map(read).collect()
}

/// A package has nothing from outside of its folder, and a symbolic link is a file with a path in it where git makes none, as on
/// Windows, where plugins are written too.
#[test]
fn the_sdk_has_a_copy_of_the_contract_that_it_is_built_for() {
    let copies = root().join("plugin-sdk/wit");
    let versions: Vec<_> = std::fs::read_dir(&copies).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(versions, ["0.2.0"]);
    for version in versions {
        let (copy, original) = (files(&copies.join(&version)), files(&root().join("wit").join(&version)));
        let names = |files: &BTreeMap<String, Vec<u8>>| files.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&copy), names(&original));
        for (name, text) in &copy {
            assert!(*text == original[name], "plugin-sdk/wit differs in {name}: cp -r wit/0.2.0 plugin-sdk/wit/");
        }
    }
}

#[test]
fn a_frozen_version_of_the_contract_never_changes() {
    let mut found = BTreeMap::new();
    for abi in Abi::ALL.into_iter().filter(|abi| abi.status() == AbiStatus::Frozen) {
        for (name, text) in files(&root().join("wit").join(folder(abi))) {
            let digest: String = Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect();
            found.insert(format!("{}/{name}", folder(abi)), digest);
        }
    }
    let expected = FROZEN.map(|(file, digest)| (file.to_owned(), digest.to_owned()));
    assert_eq!(found, BTreeMap::from(expected), "plugins were built against it; open another version beside it");
}

#[test]
fn every_version_under_wit_is_one_that_the_kernel_loads() {
    let folders = std::fs::read_dir(root().join("wit")).unwrap();
    let mut folders: Vec<String> =
        folders.map(|entry| entry.unwrap().file_name().to_str().unwrap().to_owned()).collect();
    folders.sort();
    assert_eq!(folders, Abi::ALL.map(folder));
}
