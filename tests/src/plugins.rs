//! The plugins under test: built once for each test binary, by the code of `kith plugin build`, with one run of cargo.

use std::path::PathBuf;
use std::process::Command;
use std::sync::LazyLock;

use kith::plugin_build::{self, BuiltPlugin, Silent, Toolchain};

use crate::root;

/// The seven first-party plugins and the hostile guests, by their crates' folders; of two versions of a plugin the lower stands
/// first.
const CRATES: [&str; 11] = [
    "plugins/connector-segment",
    "plugins/connector-csv",
    "plugins/connector-http-pull",
    "plugins/tag-model-rfm",
    "plugins/tag-model-lifecycle",
    "plugins/scorer-clv",
    "plugins/channel-webhook",
    "plugins/channel-mail",
    "tests/hostile/tag-model",
    "tests/hostile/tag-model-next",
    "tests/hostile/connector",
];

static BUILT: LazyLock<Vec<BuiltPlugin>> = LazyLock::new(|| {
    let crates: Vec<PathBuf> = CRATES.iter().map(|folder| root().join(folder)).collect();
    let toolchain = Toolchain { cargo: PathBuf::from(CARGO), colour: false };
    plugin_build::build_all(&crates, None, &toolchain, &mut Silent).unwrap_or_else(|error| panic!("{error}"))
});

/// The cargo that built the tests.
pub(crate) const CARGO: &str = env!("CARGO");

/// All built plugins.
pub fn built() -> &'static [BuiltPlugin] {
    &BUILT
}

/// The newest version of the built plugin of this id.
#[track_caller]
pub fn newest_component(id: &str) -> &'static BuiltPlugin {
    let found = BUILT.iter().rfind(|built| built.manifest.id.to_string() == id);
    found.unwrap_or_else(|| panic!("no plugin `{id}` is built for the tests"))
}

/// The built plugin of this id, e.g. `kith/csv`; of two versions the lower.
#[track_caller]
pub fn component(id: &str) -> &'static BuiltPlugin {
    let found = BUILT.iter().find(|built| built.manifest.id.to_string() == id);
    found.unwrap_or_else(|| panic!("no plugin `{id}` is built for the tests"))
}

/// Build one more crate of the repository, e.g. `tests/guests/columns`.
#[track_caller]
pub fn build(folder: &str) -> BuiltPlugin {
    let toolchain = Toolchain { cargo: PathBuf::from(CARGO), colour: false };
    let built = plugin_build::build_all(&[root().join(folder)], None, &toolchain, &mut Silent);
    built.unwrap_or_else(|error| panic!("{error}")).pop().expect("one crate gives one plugin")
}

/// Build a crate of the workspace that is a WebAssembly module and no plugin of ours; where the module is.
#[track_caller]
pub fn build_module(package: &str) -> PathBuf {
    let metadata = cargo_metadata::MetadataCommand::new().cargo_path(CARGO).current_dir(root()).no_deps().exec();
    let target = metadata.expect("the workspace can be read").target_directory;
    let mut cargo = Command::new(CARGO);
    cargo.args(["build", "--release", "--quiet", "--target", plugin_build::TARGET, "--package", package]);
    // As plugins of ours are built, which it is compared with.
    cargo.args(["--config", plugin_build::toolchain::FEATURES]);
    assert!(cargo.current_dir(root()).status().expect("cargo starts").success(), "{package} does not build");
    target.join(plugin_build::TARGET).join("release").join(format!("{}.wasm", package.replace('-', "_"))).into()
}

/// A built plugin packed again with another manifest: what a vendor would upload who had written that one.
#[track_caller]
pub fn repacked(built: &BuiltPlugin, edit: impl FnOnce(&str) -> String) -> Vec<u8> {
    let manifest = edit(&built.inspection.manifest_toml);
    let abi = custom_section("kith:abi", &built.manifest.abi);
    [bare(built), custom_section("kith:manifest", &manifest), abi].concat()
}

/// A built plugin without its manifest: a component as tools of other languages make one.
#[track_caller]
pub fn bare(built: &BuiltPlugin) -> Vec<u8> {
    // The two sections that packing appends, in its order.
    let manifest = custom_section("kith:manifest", &built.inspection.manifest_toml);
    let packed = [manifest, custom_section("kith:abi", &built.manifest.abi)].concat();
    let bare = built.component.strip_suffix(packed.as_slice());
    bare.expect("a component ends with its manifest and its ABI").to_vec()
}

/// A custom section of a component.
fn custom_section(name: &str, text: &str) -> Vec<u8> {
    let content = [leb128(name.len()), name.as_bytes().to_vec(), text.as_bytes().to_vec()].concat();
    [vec![0], leb128(content.len()), content].concat()
}

fn leb128(mut number: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number >= 0x80 {
        bytes.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
    bytes
}

/// A built plugin with thousands of functions more that nobody calls: a megabyte that takes seconds to compile.
#[track_caller]
pub fn compile_bomb(built: &BuiltPlugin) -> Vec<u8> {
    const FUNCTIONS: usize = 15_000;
    /// No locals; sums of constants that are dropped; then a trap, which fits every type of function.
    const BODY: [u8; 66] = {
        let mut body = [0_u8; 66];
        let mut at = 1;
        while at < 64 {
            // i32.const 5, i32.const 7, i32.mul, drop, nop
            let piece = [0x41, 5, 0x41, 7, 0x6c, 0x1a, 0x01];
            let mut byte = 0;
            while byte < 7 {
                body[at + byte] = piece[byte];
                byte += 1;
            }
            at += 7;
        }
        body[65] = 0x0b;
        body
    };
    let mut bomb = built.component[..8].to_vec();
    // In one module alone: no component is admitted with twice as many.
    let mut is_filled = false;
    for (id, content) in sections(&built.component[8..]) {
        // A nested module with code of its own.
        let core = (!is_filled && id == 1 && sections(&content[8..]).any(|(id, _)| id == 10)).then(|| {
            let mut core = content[..8].to_vec();
            for (id, content) in sections(&content[8..]) {
                let more: Vec<u8> = match id {
                    3 => vec![0; FUNCTIONS],
                    10 => [leb128(BODY.len()), BODY.to_vec()].concat().repeat(FUNCTIONS),
                    _ => Vec::new(),
                };
                core.extend(if more.is_empty() {
                    section(id, content)
                } else {
                    section(id, &lengthened(content, &more))
                });
            }
            core
        });
        is_filled |= core.is_some();
        bomb.extend(section(id, core.as_deref().unwrap_or(content)));
    }
    return bomb;

    /// A vector of a section with [`FUNCTIONS`] items more.
    fn lengthened(content: &[u8], more: &[u8]) -> Vec<u8> {
        let (items, rest) = read_leb128(content);
        [leb128(items + FUNCTIONS).as_slice(), rest, more].concat()
    }
}

fn section(id: u8, content: &[u8]) -> Vec<u8> {
    [&[id], leb128(content.len()).as_slice(), content].concat()
}

/// The sections of a module or a component behind its eight first bytes.
fn sections(mut rest: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    std::iter::from_fn(move || {
        let (id, behind) = rest.split_first()?;
        let (length, behind) = read_leb128(behind);
        let (content, behind) = behind.split_at(length);
        rest = behind;
        Some((*id, content))
    })
}

fn read_leb128(bytes: &[u8]) -> (usize, &[u8]) {
    let length = bytes.iter().position(|byte| byte & 0x80 == 0).expect("a number ends") + 1;
    let number = bytes[..length].iter().rev().fold(0, |number, byte| number << 7 | usize::from(byte & 0x7f));
    (number, &bytes[length..])
}
