//! Running cargo, rustc and rustup for a plugin build.
//!
//! Only this file starts tools. Everything it needs to know about the environment comes in through [`Toolchain`]; the
//! tools themselves see the caller's environment, so `CARGO_TARGET_DIR`, `RUSTUP_TOOLCHAIN` and cargo's own configuration
//! files keep their meaning.

use std::collections::{BTreeMap, VecDeque};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;

use serde::Deserialize;

use super::{Progress, TARGET};

/// Which programs build a plugin.
#[derive(Debug, Clone)]
pub struct Toolchain {
    /// `cargo`, or the path in `CARGO` that cargo itself sets for programs it starts.
    pub cargo: PathBuf,
    /// Whether the compiler's messages are coloured.
    pub colour: bool,
}

impl Default for Toolchain {
    fn default() -> Toolchain {
        Toolchain { cargo: PathBuf::from("cargo"), colour: false }
    }
}

/// Why a tool did not do its work.
#[derive(Debug, thiserror::Error)]
pub enum ToolchainError {
    #[error("could not start `{tool}`; install Rust from https://rustup.rs, or put it on the path")]
    NotStarted { tool: String, source: std::io::Error },
    #[error("cargo could not read the crate in {}:\n{output}", dir.display())]
    Metadata { dir: PathBuf, output: String },
    #[error("cargo gave an answer about {} that is not understood", dir.display())]
    Answer { dir: PathBuf, source: serde_json::Error },
    #[error("the folder {} is in a workspace, but no package of it is there", .dir.display())]
    NoPackage { dir: PathBuf },
    #[error(
        "the compile target {TARGET} is not installed, and `rustup` is not here to add it; \
         install it the way you installed Rust (Debian: `apt install libstd-rust-dev-wasm32`), or use https://rustup.rs"
    )]
    TargetMissing { source: std::io::Error },
    #[error("`rustup target add {TARGET}` did not work; run it by hand once the reason is gone:\n{output}")]
    TargetNotAdded { output: String },
    #[error("the compiler refused {names}{}", output.as_ref().map(|output| format!(":\n{output}")).unwrap_or_default())]
    Compile {
        names: String,
        /// Its messages, where nobody has seen them.
        output: Option<String>,
    },
    #[error("cargo built `{name}`, but made no WebAssembly module for it")]
    NoModule { name: String },
}

/// A crate as cargo sees it.
#[derive(Debug, Clone)]
pub struct PackageLocation {
    pub name: String,
    pub version: String,
    pub has_cdylib: bool,
    /// Names of what it depends on directly.
    pub dependencies: Vec<String>,
    pub workspace_root: PathBuf,
    pub target_dir: PathBuf,
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    workspace_root: PathBuf,
    target_directory: PathBuf,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    version: String,
    manifest_path: PathBuf,
    targets: Vec<Target>,
    dependencies: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    name: String,
}

#[derive(Deserialize)]
struct Target {
    crate_types: Vec<String>,
}

/// The lines of cargo's `--message-format=json` that matter here.
#[derive(Deserialize)]
#[serde(tag = "reason", rename_all = "kebab-case")]
enum CargoMessage {
    CompilerArtifact {
        package_id: String,
        target: Target,
        filenames: Vec<PathBuf>,
        manifest_path: PathBuf,
    },
    #[serde(other)]
    Other,
}

/// One line from a running tool.
enum ToolLine {
    Out(String),
    Err(String),
}

/// How much of a tool's output an error repeats.
const MAX_REPORTED_LINES: usize = 200;

/// Release settings for guests, handed over on the command line so that a vendor's Cargo.toml needs no profile: small,
/// fully optimised, a trap in place of unwinding, and names kept for backtraces.
const PROFILE: [&str; 6] = [
    "profile.plugin.inherits=\"release\"",
    "profile.plugin.opt-level=3",
    "profile.plugin.lto=true",
    "profile.plugin.codegen-units=1",
    "profile.plugin.panic=\"abort\"",
    "profile.plugin.strip=\"debuginfo\"",
];

/// The setting of cargo by which the compiler uses vectors, which every host has, for the target alone. Where `RUSTFLAGS` is set,
/// that is in its place.
pub const FEATURES: &str = "target.wasm32-unknown-unknown.rustflags=[\"-Ctarget-feature=+simd128\"]";

impl Toolchain {
    /// Ask cargo what the crate in `dir` is.
    ///
    /// # Errors
    /// [`ToolchainError`] when cargo is not there or cannot read the crate.
    pub fn locate(&self, dir: &Path) -> Result<PackageLocation, ToolchainError> {
        let output = Command::new(&self.cargo)
            .args(["metadata", "--no-deps", "--format-version", "1"])
            .current_dir(dir)
            .stdin(Stdio::null())
            .output()
            .map_err(|source| self.not_started(source))?;
        if !output.status.success() {
            let output = String::from_utf8_lossy(&output.stderr).trim_end().to_owned();
            return Err(ToolchainError::Metadata { dir: dir.to_path_buf(), output });
        }
        let metadata: Metadata = serde_json::from_slice(&output.stdout)
            .map_err(|source| ToolchainError::Answer { dir: dir.to_path_buf(), source })?;
        let wanted = dir.join("Cargo.toml");
        let wanted = wanted.canonicalize().unwrap_or(wanted);
        let is_wanted = |package: &&Package| {
            package.manifest_path.canonicalize().is_ok_and(|manifest_path| manifest_path == wanted)
        };
        let package = metadata
            .packages
            .iter()
            .find(is_wanted)
            .ok_or_else(|| ToolchainError::NoPackage { dir: dir.to_path_buf() })?;
        Ok(PackageLocation {
            name: package.name.clone(),
            version: package.version.clone(),
            dependencies: package.dependencies.iter().map(|dependency| dependency.name.clone()).collect(),
            has_cdylib: package.targets.iter().any(Target::is_cdylib),
            workspace_root: metadata.workspace_root.clone(),
            target_dir: metadata.target_directory.clone(),
        })
    }

    /// Make sure that the toolchain in use at `dir` can compile for [`TARGET`], adding it through rustup where it cannot.
    ///
    /// # Errors
    /// [`ToolchainError::TargetMissing`] without rustup, [`ToolchainError::TargetNotAdded`] with rustup's own words.
    pub fn ensure_target(&self, dir: &Path, progress: &mut dyn Progress) -> Result<(), ToolchainError> {
        if self.has_target(dir)? {
            return Ok(());
        }
        progress.step(&format!("adding the compile target {TARGET} through rustup"));
        let mut command = Command::new("rustup");
        command.args(["target", "add", TARGET]).current_dir(dir);
        let finished = run(command, &mut |line| {
            let (ToolLine::Out(text) | ToolLine::Err(text)) = line;
            progress.line(text);
        })
        .map_err(|source| ToolchainError::TargetMissing { source })?;
        if finished.success && self.has_target(dir)? {
            Ok(())
        } else {
            Err(ToolchainError::TargetNotAdded { output: finished.tail })
        }
    }

    fn has_target(&self, dir: &Path) -> Result<bool, ToolchainError> {
        let rustc = self.rustc();
        let output = Command::new(&rustc)
            .args(["--print", "target-libdir", "--target", TARGET])
            .current_dir(dir)
            .stdin(Stdio::null())
            .output()
            .map_err(|source| ToolchainError::NotStarted { tool: rustc.display().to_string(), source })?;
        let libraries = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
        let has_core = |folder: std::fs::ReadDir| {
            folder.flatten().any(|entry| entry.file_name().to_string_lossy().starts_with("libcore-"))
        };
        Ok(output.status.success() && std::fs::read_dir(libraries).is_ok_and(has_core))
    }

    /// The compiler that belongs to this cargo: beside it where it has a path, else the one on the path.
    fn rustc(&self) -> PathBuf {
        let beside = self.cargo.with_file_name(format!("rustc{}", std::env::consts::EXE_SUFFIX));
        if self.cargo.components().count() > 1 && beside.is_file() { beside } else { PathBuf::from("rustc") }
    }

    /// Compile the packages `names` of the workspace for [`TARGET`]; gives each package's core module.
    ///
    /// # Errors
    /// [`ToolchainError::Compile`] with the compiler's own messages.
    pub(super) fn compile(
        &self,
        workspace_root: &Path,
        names: &[&str],
        progress: &mut dyn Progress,
    ) -> Result<BTreeMap<String, PathBuf>, ToolchainError> {
        let mut command = Command::new(&self.cargo);
        command.current_dir(workspace_root).args(["build", "--profile", "plugin", "--target", TARGET, "--lib"]);
        PROFILE.iter().chain([&FEATURES]).for_each(|setting| {
            command.args(["--config", setting]);
        });
        names.iter().for_each(|name| {
            command.args(["--package", name]);
        });
        command.arg("--message-format=json-render-diagnostics");
        // Build scripts are whoever's code the plugin uses.
        command.env_remove("KITH_MASTER_KEY");
        command.args(["--color", if self.colour { "always" } else { "never" }]);
        let mut modules = BTreeMap::new();
        let finished = run(command, &mut |line| match line {
            ToolLine::Err(text) => progress.line(text),
            ToolLine::Out(text) => {
                if let Ok(CargoMessage::CompilerArtifact { package_id, target, filenames, manifest_path }) =
                    serde_json::from_str(text)
                {
                    let name = package_name(&package_id, &manifest_path);
                    progress.compiled(&name);
                    let module = filenames.into_iter().find(|path| path.extension().is_some_and(|end| end == "wasm"));
                    if let Some(module) = module.filter(|_| target.is_cdylib()) {
                        modules.insert(name, module);
                    }
                }
            }
        })
        .map_err(|source| self.not_started(source))?;
        if finished.success {
            Ok(modules)
        } else {
            let output = (!progress.has_shown()).then_some(finished.tail);
            Err(ToolchainError::Compile { names: names.join(", "), output })
        }
    }

    fn not_started(&self, source: std::io::Error) -> ToolchainError {
        ToolchainError::NotStarted { tool: self.cargo.display().to_string(), source }
    }
}

impl Target {
    fn is_cdylib(&self) -> bool {
        self.crate_types.iter().any(|crate_type| crate_type == "cdylib")
    }
}

/// The package's name out of cargo's id of it: `…#name@version`, or `…/folder#version` where the folder has the name.
fn package_name(package_id: &str, manifest_path: &Path) -> String {
    let fragment = package_id.rsplit_once('#').map_or(package_id, |(_, fragment)| fragment);
    match fragment.split_once('@') {
        Some((name, _)) => name.to_owned(),
        None => {
            let folder = manifest_path.parent().and_then(Path::file_name);
            folder.map_or_else(|| fragment.to_owned(), |folder| folder.to_string_lossy().into_owned())
        }
    }
}

struct ToolOutcome {
    success: bool,
    /// The last lines that it wrote to standard error.
    tail: String,
}

/// Run a tool to its end, handing over each line of its output as it comes.
fn run(mut command: Command, each: &mut dyn FnMut(&ToolLine)) -> std::io::Result<ToolOutcome> {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let (sender, receiver) = mpsc::channel();
    let mut readers = Vec::new();
    if let Some(out) = child.stdout.take() {
        readers.push(forward(out, sender.clone(), ToolLine::Out));
    }
    if let Some(err) = child.stderr.take() {
        readers.push(forward(err, sender, ToolLine::Err));
    }
    let mut tail = VecDeque::new();
    for line in receiver {
        each(&line);
        if let ToolLine::Err(text) = line {
            tail.push_back(text);
            if tail.len() > MAX_REPORTED_LINES {
                tail.pop_front();
            }
        }
    }
    readers.into_iter().for_each(|reader| drop(reader.join()));
    let success = child.wait()?.success();
    Ok(ToolOutcome { success, tail: Vec::from(tail).join("\n") })
}

fn forward(
    stream: impl std::io::Read + Send + 'static,
    sender: mpsc::Sender<ToolLine>,
    make: fn(String) -> ToolLine,
) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        for line in BufReader::new(stream).split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line).trim_end_matches('\r').to_owned();
            if sender.send(make(line)).is_err() {
                break;
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn package_names_are_read_from_both_forms_of_ids() {
        let check = |id: &str, path: &str, expected: &str| assert_eq!(package_name(id, Path::new(path)), expected);
        check("registry+https://github.com/rust-lang/crates.io-index#serde@1.0.229", "/r/serde/Cargo.toml", "serde");
        check("path+file:///w/plugins/plugin-x#0.1.0", "/w/plugins/plugin-x/Cargo.toml", "plugin-x");
        check("path+file:///w/plugins/x#plugin-x@0.1.0", "/w/plugins/x/Cargo.toml", "plugin-x");
    }

    #[test]
    fn what_the_compiler_said_is_told_once() {
        let said = |output: Option<&str>| {
            ToolchainError::Compile { names: "level".to_owned(), output: output.map(str::to_owned) }.to_string()
        };
        assert_eq!(said(None), "the compiler refused level");
        assert_eq!(said(Some("error: x")), "the compiler refused level:\nerror: x");
    }

    #[test]
    fn a_tool_that_is_not_there_is_named() {
        let toolchain = Toolchain { cargo: PathBuf::from("no-such-cargo"), colour: false };
        let error = toolchain.locate(Path::new(".")).unwrap_err();
        assert!(error.to_string().contains("no-such-cargo"), "{error}");
    }
}
