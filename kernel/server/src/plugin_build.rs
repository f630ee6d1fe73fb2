//! Making a plugin's component from its crate: what `kith plugin build`, `kith demo` and the end-to-end tests share; and from a
//! component of another tool, for `kith plugin pack`.
//!
//! Here: finding the crates, running cargo for them, assembling and checking each component, writing the files. The
//! component format itself and every rule about manifests belong to `kith-host`; running cargo and adding the compile
//! target are in [`toolchain`].

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use kith_host::{Carried, Inspection, ManifestError, ManifestMistake, PackageError};
use kith_model::plugin::Manifest;

pub mod toolchain;

pub use toolchain::Toolchain;
use toolchain::{PackageLocation, ToolchainError};

/// The one target that plugins are compiled for.
pub const TARGET: &str = "wasm32-unknown-unknown";

/// The manifest's file name in a plugin's crate.
pub const MANIFEST_FILE: &str = "plugin.toml";

/// The crate that a plugin is written with.
pub const SDK: &str = "kith-plugin-sdk";

/// Receives what is going on, so that nobody waits in front of a silent terminal.
pub trait Progress {
    /// A new step has begun, e.g. `compiling plugin-connector-csv`.
    fn step(&mut self, text: &str);
    /// One line of a tool's own output.
    fn line(&mut self, line: &str);
    /// One more compilation unit is done; `name` is its package.
    fn compiled(&mut self, name: &str);
    /// Whether somebody has seen the lines.
    fn has_shown(&self) -> bool {
        false
    }
}

/// Shows nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Progress for Silent {
    fn step(&mut self, _text: &str) {}
    fn line(&mut self, _line: &str) {}
    fn compiled(&mut self, _name: &str) {}
}

/// A finished plugin.
#[derive(Debug, Clone)]
pub struct BuiltPlugin {
    pub manifest: Manifest,
    /// Where the component was written.
    pub path: PathBuf,
    /// The component: what is uploaded.
    pub component: Vec<u8>,
    /// What the host reads from it: digest, imports, exports.
    pub inspection: Inspection,
}

/// Why a plugin could not be built. Each message says what to do.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    #[error("`{}` holds no Cargo.toml; run this in a plugin's crate, or make one with `kith plugin new NAME --kind KIND`", .0.display())]
    NoCrate(PathBuf),
    #[error("`{}` holds no {MANIFEST_FILE}; a plugin's crate needs one beside its Cargo.toml", .0.display())]
    NoManifest(PathBuf),
    #[error("could not read {}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{}", report_mistakes(path, text, error))]
    Manifest { path: PathBuf, text: String, error: ManifestError },
    #[error("{}:\n  - {}", dir.display(), mistakes.join("\n  - "))]
    Crate { dir: PathBuf, mistakes: Vec<String> },
    #[error("the crate `{name}` makes no cdylib; add `[lib]` with `crate-type = [\"cdylib\", \"rlib\"]` to {}", path.display())]
    NoCdylib { name: String, path: PathBuf },
    #[error(transparent)]
    Toolchain(#[from] ToolchainError),
    #[error("`{name}` compiled, but is not a plugin: {source}")]
    Package { name: String, source: PackageError },
    #[error("the plugin would be written over its component {}; name another file with --out", .0.display())]
    OverComponent(PathBuf),
    #[error("{} makes no plugin: {source}", path.display())]
    Pack { path: PathBuf, source: PackageError },
    #[error("could not write {}", path.display())]
    Write { path: PathBuf, source: std::io::Error },
}

/// Build the crate in `dir` with the tools on the path, into `target/plugins` of its workspace.
///
/// # Errors
/// [`BuildError`], which names the file and says what to do.
pub fn build(dir: &Path, progress: &mut dyn Progress) -> Result<BuiltPlugin, BuildError> {
    let mut built = build_all(&[dir.to_path_buf()], None, &Toolchain::default(), progress)?;
    Ok(built.remove(0))
}

/// Build the crates in `dirs`, those of one workspace with a single run of cargo. The answers are in the order of `dirs`.
///
/// `out_dir` takes the place of `target/plugins` of each crate's workspace. Manifests are checked before anything is
/// compiled, so that a typing mistake costs no waiting.
///
/// # Errors
/// [`BuildError`], which names the file and says what to do.
pub fn build_all(
    dirs: &[PathBuf],
    out_dir: Option<&Path>,
    toolchain: &Toolchain,
    progress: &mut dyn Progress,
) -> Result<Vec<BuiltPlugin>, BuildError> {
    let mut plugins = Vec::with_capacity(dirs.len());
    for dir in dirs {
        plugins.push(prepare(dir, toolchain)?);
    }
    if let Some(first) = plugins.first() {
        toolchain.ensure_target(&first.located.workspace_root, progress)?;
    }
    let mut by_workspace: BTreeMap<&Path, Vec<&PluginCrate>> = BTreeMap::new();
    for plugin in &plugins {
        by_workspace.entry(&plugin.located.workspace_root).or_default().push(plugin);
    }
    let mut modules = BTreeMap::new();
    for (workspace_root, members) in by_workspace {
        let names: Vec<&str> = members.iter().map(|plugin| plugin.located.name.as_str()).collect();
        progress.step(&format!("compiling {}", names.join(", ")));
        modules.extend(toolchain.compile(workspace_root, &names, progress)?);
    }
    plugins.iter().map(|plugin| finish(plugin, &modules, out_dir, progress)).collect()
}

/// Make a plugin of the component in a file, whatever made that, and of the manifest in another, checked as a crate's is.
/// `out` takes the place of a file beside the component.
///
/// # Errors
/// [`BuildError`], which names the file and says what to do.
pub fn pack(
    component: &Path,
    manifest: &Path,
    out: Option<&Path>,
    carried: Carried,
    max_bytes: u64,
) -> Result<BuiltPlugin, BuildError> {
    let (manifest, text) = read_manifest_file(manifest)?;
    let bytes =
        std::fs::read(component).map_err(|source| BuildError::Read { path: component.to_path_buf(), source })?;
    let path = out.map_or_else(|| component.with_file_name(file_name(&manifest)), Path::to_path_buf);
    if out.is_none() && carried == Carried::Refused && path == component {
        return Err(BuildError::OverComponent(path));
    }
    let of_pack = |source| BuildError::Pack { path: component.to_path_buf(), source };
    let packed = kith_host::pack(&bytes, &text, carried, max_bytes).map_err(of_pack)?;
    let inspection = kith_host::inspect_within(&packed, max_bytes).map_err(of_pack)?;
    write(&path, &packed)?;
    Ok(BuiltPlugin { manifest, path, component: packed, inspection })
}

/// Read and check the manifest in the crate's folder `dir`.
///
/// # Errors
/// [`BuildError::NoManifest`], [`BuildError::Read`], or [`BuildError::Manifest`] with each mistake under its line.
pub fn read_manifest(dir: &Path) -> Result<(Manifest, String), BuildError> {
    let path = dir.join(MANIFEST_FILE);
    if !path.is_file() {
        return Err(BuildError::NoManifest(dir.to_path_buf()));
    }
    read_manifest_file(&path)
}

fn read_manifest_file(path: &Path) -> Result<(Manifest, String), BuildError> {
    let text = std::fs::read_to_string(path).map_err(|source| BuildError::Read { path: path.to_path_buf(), source })?;
    match kith_host::parse_manifest(&text) {
        Ok(manifest) => match crate::declared::mistakes(&manifest, &text) {
            mistakes if mistakes.is_empty() => Ok((manifest, text)),
            mistakes => Err(BuildError::Manifest { path: path.to_path_buf(), text, error: ManifestError { mistakes } }),
        },
        Err(error) => Err(BuildError::Manifest { path: path.to_path_buf(), text, error }),
    }
}

/// A mistake in a plugin's folder, for programs.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Finding {
    pub file: PathBuf,
    /// From 1; none where the whole file is meant.
    pub line: Option<usize>,
    /// From 1, in characters.
    pub column: Option<usize>,
    /// What is wrong.
    pub message: String,
    /// What to do, where that is more than what is said.
    pub remedy: Option<String>,
}

impl Finding {
    fn new(file: PathBuf, place: Option<(usize, usize)>, words: &str) -> Finding {
        let (line, column) = place.unzip();
        // A message says what is wrong, and behind a semicolon what to do.
        let (message, remedy) = match words.split_once("; ") {
            Some((message, remedy)) => (message, Some(remedy.to_owned())),
            None => (words, None),
        };
        Finding { file, line, column, message: message.to_owned(), remedy }
    }
}

impl BuildError {
    /// Each mistake of the manifest or the crate by itself; none where it is another failure.
    pub fn findings(&self) -> Vec<Finding> {
        match self {
            BuildError::Manifest { path, error, .. } => {
                let of = |mistake: &ManifestMistake| {
                    Finding::new(path.clone(), Some((mistake.line, mistake.column)), &mistake.message)
                };
                error.mistakes.iter().map(of).collect()
            }
            BuildError::Crate { dir, mistakes } => {
                mistakes.iter().map(|words| Finding::new(dir.join("Cargo.toml"), None, words)).collect()
            }
            _ => Vec::new(),
        }
    }
}

/// Each mistake of a manifest under the line it is in, with a caret at its place.
pub fn report_mistakes(path: &Path, text: &str, error: &ManifestError) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let mut report = String::new();
    for mistake in &error.mistakes {
        let line = lines.get(mistake.line.saturating_sub(1)).copied().unwrap_or_default();
        let number = mistake.line.to_string();
        let gutter = " ".repeat(number.len());
        // Tabs are kept in front of the caret, so that it stands under its place however wide a tab is shown.
        let indent: String =
            line.chars().take(mistake.column.saturating_sub(1)).map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
        let location = format!("{}:{}:{}", path.display(), mistake.line, mistake.column);
        let _ = write!(
            report,
            "error: {}\n{gutter}--> {location}\n{gutter} |\n{number} | {line}\n{gutter} | {indent}^\n\n",
            mistake.message
        );
    }
    let plural = if error.mistakes.len() == 1 { "mistake" } else { "mistakes" };
    let _ = write!(report, "{} {plural} in {}", error.mistakes.len(), path.display());
    report
}

/// What is wrong with a plugin's crate beside its manifest: nothing that the compiler would say better. `text` is what the manifest
/// was read from.
///
/// # Errors
/// [`BuildError`] when the crate cannot be looked at, and [`BuildError::Manifest`] where its manifest has another version.
pub fn crate_mistakes(
    dir: &Path,
    (manifest, text): (&Manifest, &str),
    toolchain: &Toolchain,
) -> Result<Vec<String>, BuildError> {
    if !dir.join("Cargo.toml").is_file() {
        return Err(BuildError::NoCrate(dir.to_path_buf()));
    }
    let located = toolchain.locate(dir)?;
    insist_on_one_version(dir, (manifest, text), &located)?;
    let mut mistakes = Vec::new();
    if !located.has_cdylib {
        mistakes.push(format!(
            "the crate `{}` makes no cdylib; add `[lib]` with `crate-type = [\"cdylib\", \"rlib\"]` to its Cargo.toml",
            located.name
        ));
    }
    if !located.dependencies.iter().any(|name| name == SDK) {
        mistakes
            .push(format!("the crate does not depend on {SDK}; a plugin exports its type with the SDK's `export!`"));
    }
    Ok(mistakes)
}

/// Insist that a plugin and its crate have the same version: of two a vendor would publish the one that he did not raise.
fn insist_on_one_version(
    dir: &Path,
    (manifest, text): (&Manifest, &str),
    located: &PackageLocation,
) -> Result<(), BuildError> {
    let (version, other) = (manifest.version.to_string(), &located.version);
    if version == *other {
        return Ok(());
    }
    let message =
        format!("the version is {version} here and {other} in Cargo.toml; a plugin has one, write the same in both");
    let mistakes = vec![kith_host::mistake_in(text, &["plugin", "version"], message)];
    let (path, text) = (dir.join(MANIFEST_FILE), text.to_owned());
    Err(BuildError::Manifest { path, text, error: ManifestError { mistakes } })
}

struct PluginCrate {
    located: PackageLocation,
    manifest: Manifest,
    manifest_toml: String,
}

fn prepare(dir: &Path, toolchain: &Toolchain) -> Result<PluginCrate, BuildError> {
    if !dir.join("Cargo.toml").is_file() {
        return Err(BuildError::NoCrate(dir.to_path_buf()));
    }
    let (manifest, manifest_toml) = read_manifest(dir)?;
    let located = toolchain.locate(dir)?;
    if !located.has_cdylib {
        return Err(BuildError::NoCdylib { name: located.name, path: dir.join("Cargo.toml") });
    }
    insist_on_one_version(dir, (&manifest, &manifest_toml), &located)?;
    Ok(PluginCrate { located, manifest, manifest_toml })
}

fn finish(
    plugin: &PluginCrate,
    modules: &BTreeMap<String, PathBuf>,
    out_dir: Option<&Path>,
    progress: &mut dyn Progress,
) -> Result<BuiltPlugin, BuildError> {
    let name = &plugin.located.name;
    let module_path = modules.get(name).ok_or_else(|| ToolchainError::NoModule { name: name.clone() })?;
    let module = std::fs::read(module_path).map_err(|source| BuildError::Read { path: module_path.clone(), source })?;
    progress.step(&format!("assembling {}", plugin.manifest.id));
    let of_package = |source| BuildError::Package { name: name.clone(), source };
    let component = kith_host::assemble(&module, &plugin.manifest_toml).map_err(of_package)?;
    let inspection = kith_host::inspect(&component).map_err(of_package)?;
    let out_dir = out_dir.map_or_else(|| plugin.located.target_dir.join("plugins"), Path::to_path_buf);
    let path = out_dir.join(file_name(&plugin.manifest));
    write(&path, &component)?;
    Ok(BuiltPlugin { manifest: plugin.manifest.clone(), path, component, inspection })
}

/// The file name of a built plugin, e.g. `csv-0.1.0.wasm`.
pub fn file_name(manifest: &Manifest) -> String {
    format!("{}-{}.wasm", manifest.id.name(), manifest.version)
}

/// Write a component through a temporary name, so that a reader never sees half of one.
///
/// # Errors
/// [`BuildError::Write`].
pub fn write(path: &Path, bytes: &[u8]) -> Result<(), BuildError> {
    let failed = |source| BuildError::Write { path: path.to_path_buf(), source };
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        std::fs::create_dir_all(parent).map_err(failed)?;
    }
    let partial = path.with_extension(format!("wasm.{}", std::process::id()));
    std::fs::write(&partial, bytes).and_then(|()| std::fs::rename(&partial, path)).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mistake_stands_under_its_line() {
        let text = "id = \"acme/x\"\n\tverson = \"1\"\n";
        let error = ManifestError {
            mistakes: vec![
                ManifestMistake { line: 1, column: 1, message: "the manifest has no `version`".into() },
                ManifestMistake { line: 2, column: 2, message: "unknown key `verson`; did you mean `version`?".into() },
            ],
        };
        insta::assert_snapshot!(report_mistakes(Path::new("plugin.toml"), text, &error), @r#"
        error: the manifest has no `version`
         --> plugin.toml:1:1
          |
        1 | id = "acme/x"
          | ^

        error: unknown key `verson`; did you mean `version`?
         --> plugin.toml:2:2
          |
        2 | 	verson = "1"
          | 	^

        2 mistakes in plugin.toml
        "#);
    }

    #[test]
    fn each_mistake_is_a_finding_for_programs() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(MANIFEST_FILE);
        std::fs::write(&path, "[plugin]\nkind = \"tag-model\"\nlicence = \"MIT\"\n").unwrap();
        let findings = read_manifest(folder.path()).unwrap_err().findings();
        let unknown = findings.iter().find(|finding| finding.line == Some(3)).unwrap();
        assert_eq!((&unknown.file, unknown.column), (&path, Some(1)));
        assert_eq!(unknown.message, "unknown key `licence` in [plugin]");
        assert_eq!(unknown.remedy.as_deref(), Some("did you mean `license`?"));
        assert!(findings.len() > 3, "{findings:?}");
        let error =
            BuildError::Crate { dir: "x".into(), mistakes: vec!["no cdylib".into(), "two versions; one".into()] };
        assert_eq!(error.to_string(), "x:\n  - no cdylib\n  - two versions; one");
        let seen: Vec<_> = error.findings().into_iter().map(|finding| (finding.line, finding.remedy)).collect();
        assert_eq!(seen, [(None, None), (None, Some("one".to_owned()))]);
    }

    #[test]
    fn a_plugin_of_two_versions_is_refused_with_the_line() {
        let text = r#"[plugin]
id = "acme/x"
version = "0.4.0"
kind = "tag-model"
abi = "0.2"
kernel = ">=0.1"
title = "X"
description = "Marks people."
license = "MIT"
[inputs.city]
expression = "traits.city"
type = "text"
reason = "People are told apart by it"
[outputs.x]
type = "text"
values = ["a"]
description = "A mark"
category = "value"
"#;
        let manifest = kith_host::parse_manifest(text).unwrap_or_else(|error| panic!("{error}"));
        let located = |version: &str| PackageLocation {
            name: "x".to_owned(),
            version: version.to_owned(),
            has_cdylib: true,
            dependencies: Vec::new(),
            workspace_root: PathBuf::new(),
            target_dir: PathBuf::new(),
        };
        let checked = |version: &str| insist_on_one_version(Path::new("x"), (&manifest, text), &located(version));
        assert!(checked("0.4.0").is_ok());
        let error = checked("0.2.0").unwrap_err();
        let found = error.findings();
        assert_eq!((found[0].line, found[0].file.as_path()), (Some(3), Path::new("x/plugin.toml")));
        assert_eq!(found[0].message, "the version is 0.4.0 here and 0.2.0 in Cargo.toml");
        assert_eq!(found[0].remedy.as_deref(), Some("a plugin has one, write the same in both"));
    }

    #[test]
    fn a_folder_without_a_crate_or_a_manifest_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let error = build(folder.path(), &mut Silent).unwrap_err();
        assert!(matches!(error, BuildError::NoCrate(_)), "{error}");
        std::fs::write(folder.path().join("Cargo.toml"), "").unwrap();
        let error = build(folder.path(), &mut Silent).unwrap_err();
        assert!(matches!(error, BuildError::NoManifest(_)), "{error}");
        std::fs::write(folder.path().join(MANIFEST_FILE), "id = 3").unwrap();
        let error = build(folder.path(), &mut Silent).unwrap_err();
        assert!(error.to_string().contains("plugin.toml:1:"), "{error}");
    }
}
