//! `kith plugin`: making plugins here (`new`, `check`, `schema`, `wit`, `build`, `pack`, `inspect`, `run`, `bench`, `test`,
//! `keygen`, `sign`, `verify`) and putting them into registries (`publish`); managing them on a server is in
//! `plugin/remote.rs`.

use std::path::Path;
use std::time::Duration;

use kith::plugin_build::{self, BuildError, BuiltPlugin, Progress, Toolchain};
use kith_host::{Abi, Carried, Inspection};
use kith_model::plugin::Manifest;
use serde_json::{Value, json};

use super::args::{PluginBuildArgs, PluginCommand, PluginPackArgs, PluginWitArgs, SizeArgs, Tools};
use super::client::Client;
use super::output::{self, AnswerFormat, Step};
use super::{Failure, print_json, scaffold};

mod asked;
mod backtest;
mod bench;
mod cases;
mod dev;
pub(crate) mod fits;
mod grants;
mod inspect;
mod installation;
mod kv;
mod local;
mod policy;
mod polls;
mod publish;
pub(crate) mod remote;
mod removal;
mod run;
mod secrets;
mod seen;
mod shadow;
pub(crate) mod signing;
mod upgrade;
mod uploads;
mod written;

pub(crate) use installation::fails_on;

pub(crate) fn run(command: PluginCommand, client: impl Fn() -> Client, format: AnswerFormat) -> Result<(), Failure> {
    match command {
        PluginCommand::New(args) => scaffold::run(&args, format),
        PluginCommand::Check { path, size } => check(&path, size, format),
        PluginCommand::Schema => print_json(&kith_host::manifest_schema()),
        PluginCommand::Wit(args) => wit(&args, format),
        PluginCommand::Build(args) => build(&args, format),
        PluginCommand::Pack(args) => pack(&args, format),
        PluginCommand::Inspect { path, size, tools } => inspect::run(&path, size, &tools, format),
        PluginCommand::Run(args) => run::run(&args, format),
        PluginCommand::Bench(args) => bench::run(&args, format),
        PluginCommand::Test(args) => cases::run(&args, format),
        PluginCommand::Keygen { out } => signing::keygen(&out, format),
        PluginCommand::Sign { file, secret_key } => signing::sign(&file, &secret_key, format),
        PluginCommand::Verify(args) => signing::verify(&args, client, format),
        PluginCommand::Publish(args) => publish::run(&args, format),
        PluginCommand::Dev(args) => dev::run(&args, &client(), format),
        on_server => remote::run(&on_server, &client(), format),
    }
}

impl From<&Tools> for Toolchain {
    fn from(tools: &Tools) -> Toolchain {
        use std::io::IsTerminal;
        Toolchain { cargo: tools.cargo.clone(), colour: std::io::stderr().is_terminal() }
    }
}

/// Shows a build as one moving line, and rustc's own warnings above it.
pub(crate) struct BuildStep {
    step: Step,
    units: u64,
}

impl BuildStep {
    pub(crate) fn begin(title: impl Into<String>, format: AnswerFormat) -> BuildStep {
        BuildStep { step: Step::begin(title, format), units: 0 }
    }

    pub(crate) fn end(self, outcome: &str) -> Duration {
        self.step.end(outcome)
    }
}

impl Progress for BuildStep {
    fn step(&mut self, text: &str) {
        self.step.say(text);
    }

    fn line(&mut self, line: &str) {
        // Cargo's "Compiling …" lines are the moving line already; what is left are warnings and downloads.
        let text = line.trim_start();
        if !["Compiling ", "Finished ", "Fresh ", "Blocking "].iter().any(|begin| text.contains(begin)) {
            self.step.note(line);
        } else if text.contains("Blocking ") {
            self.step.say(text);
        }
    }

    fn has_shown(&self) -> bool {
        self.step.shows_notes()
    }

    fn compiled(&mut self, name: &str) {
        self.units += 1;
        self.step.say(format!("{} compiled, last {name}", self.units));
    }
}

fn build_crate(dir: &Path, tools: &Tools, shown: &mut BuildStep) -> Result<BuiltPlugin, Failure> {
    let mut built = plugin_build::build_all(&[dir.to_path_buf()], None, &Toolchain::from(tools), shown)?;
    Ok(built.remove(0))
}

/// Write the contract's files.
fn wit(args: &PluginWitArgs, format: AnswerFormat) -> Result<(), Failure> {
    let failed = |path: &Path, source| Failure::File { what: "write", path: path.to_path_buf(), source };
    std::fs::create_dir_all(&args.dir).map_err(|source| failed(&args.dir, source))?;
    let mut paths = Vec::new();
    for (name, text) in args.abi.files() {
        let path = args.dir.join(name);
        std::fs::write(&path, text).map_err(|source| failed(&path, source))?;
        paths.push(path.display().to_string());
    }
    if format.is_json() {
        return print_json(&json!({ "abi": args.abi.as_str(), "package": args.abi.package(), "files": paths }));
    }
    output::say(format_args!("{}, ABI {}, is in {}", args.abi.package(), args.abi, paths.join(", ")))
}

fn build(args: &PluginBuildArgs, format: AnswerFormat) -> Result<(), Failure> {
    let mut shown = BuildStep::begin(format!("building {}", args.dir.display()), format);
    let mut built = build_crate(&args.dir, &args.tools, &mut shown)?;
    if let Some(out) = &args.out {
        plugin_build::write(out, &built.component)?;
        built.path.clone_from(out);
    }
    shown.end(&built.path.display().to_string());
    show(&built, format)
}

fn pack(args: &PluginPackArgs, format: AnswerFormat) -> Result<(), Failure> {
    let carried = if args.replace { Carried::Replaced } else { Carried::Refused };
    let (component, out) = (&args.component, args.out.as_deref());
    show(&plugin_build::pack(component, &args.manifest, out, carried, args.size.plugin_bytes)?, format)
}

fn show(built: &BuiltPlugin, format: AnswerFormat) -> Result<(), Failure> {
    unasked(&built.inspection).iter().for_each(|warning| output::warn(warning));
    if format.is_json() {
        print_json(&describe(&built.inspection, Some(&built.path)))
    } else {
        output::say(report(built).trim_end())
    }
}

fn check(path: &Path, size: SizeArgs, format: AnswerFormat) -> Result<(), Failure> {
    if path.is_dir() {
        return check_folder(path, format);
    }
    let bytes =
        std::fs::read(path).map_err(|source| Failure::File { what: "read", path: path.to_path_buf(), source })?;
    let inspected = kith::declared::inspect(&bytes, size.plugin_bytes)
        .map_err(|error| Failure::Failed(format!("{}: {error}", path.display())))?;
    unasked(&inspected).iter().for_each(|warning| output::warn(warning));
    if format.is_json() {
        print_json(&describe(&inspected, Some(path)))?;
    } else {
        output::say(format_args!("{} is a plugin that the host admits.\n", path.display()))?;
        output::say(inspection_table(&inspected))?;
    }
    Ok(())
}

/// Check a plugin's folder: the manifest, and where it is a crate what the build needs of that.
fn check_folder(dir: &Path, format: AnswerFormat) -> Result<(), Failure> {
    let (manifest, text) = plugin_build::read_manifest(dir)?;
    let mistakes = if dir.join("Cargo.toml").is_file() {
        plugin_build::crate_mistakes(dir, (&manifest, &text), &Toolchain::default())?
    } else {
        output::tell("there is no Cargo.toml, so that only the manifest is checked", format);
        Vec::new()
    };
    if !mistakes.is_empty() {
        return Err(BuildError::Crate { dir: dir.to_path_buf(), mistakes }.into());
    }
    if format.is_json() {
        print_json(&json!({
            "id": manifest.id.to_string(), "version": manifest.version.to_string(), "kind": manifest.kind.as_str(),
            "findings": [],
        }))?;
    } else {
        output::say(format_args!(
            "{} {}, a {}: no mistakes in {}",
            manifest.id,
            manifest.version,
            manifest.kind,
            dir.display()
        ))?;
    }
    Ok(())
}

/// What a component imports and its manifest does not ask for, so that nobody grants it and each call is refused. No mistake: a tool
/// may import what it never calls.
fn unasked(inspected: &Inspection) -> Vec<String> {
    let Inspection { manifest: Manifest { capabilities, .. }, abi, .. } = inspected;
    // In contract 0.1 the types of requests are in `http` itself.
    let asks = [
        ("http", !capabilities.http.is_empty() || *abi == Abi::V0_1, "[[capabilities.http]]"),
        ("kv", capabilities.kv_bytes > 0, "[capabilities.kv]"),
        ("secrets", !capabilities.secrets.is_empty(), "[[capabilities.secrets]]"),
    ];
    let imports = |name: &str| {
        let begins = format!("kith:plugin/{name}@");
        inspected.imports.iter().find(|import| import.starts_with(&begins))
    };
    let warning = |(name, is_asked, table): &(&str, bool, &str)| {
        let import = imports(name).filter(|_| !*is_asked)?;
        Some(format!(
            "it imports `{import}`, and its manifest has no {table}: each call is refused where it is installed; add the table if the \
             plugin calls it"
        ))
    };
    asks.iter().filter_map(warning).collect()
}

/// What a component is, for programs.
pub(crate) fn describe(inspected: &Inspection, path: Option<&Path>) -> Value {
    json!({
        "id": inspected.manifest.id.to_string(),
        "version": inspected.manifest.version.to_string(),
        "kind": inspected.manifest.kind.as_str(),
        "abi": inspected.abi.as_str(),
        "digest": inspected.digest,
        "size_bytes": inspected.size,
        "imports": inspected.imports,
        "exports": inspected.exports,
        "path": path.map(|path| path.display().to_string()),
    })
}

fn report(built: &BuiltPlugin) -> String {
    format!("{}\n\nUpload it with: kith plugin upload {}\n", inspection_table(&built.inspection), built.path.display())
}

fn inspection_table(inspected: &Inspection) -> String {
    let manifest = &inspected.manifest;
    let none_or = |list: &[String]| if list.is_empty() { "nothing".to_owned() } else { list.join("\n") };
    let rows = [
        ("plugin", format!("{} {}", manifest.id, manifest.version)),
        ("kind", manifest.kind.to_string()),
        ("title", manifest.title.clone()),
        ("size", output::size(inspected.size as u64)),
        ("sha-256", inspected.digest.clone()),
        ("abi", inspected.abi.to_string()),
        ("imports", none_or(&inspected.imports)),
        ("exports", none_or(&inspected.exports)),
    ];
    output::table(&["what", "value"], rows.into_iter().map(|(what, value)| vec![what.to_owned(), value]).collect())
}

#[cfg(test)]
mod tests {
    use kith_model::plugin::Capabilities;

    use super::*;

    #[test]
    fn what_is_imported_and_not_asked_for_is_told() {
        let manifest = grants::tests::notes();
        let import = |name: &str| format!("kith:plugin/{name}@0.2.0");
        let imports = ["http-types", "http", "kv", "log", "secrets"].map(import).to_vec();
        let inspected = |manifest: Manifest, abi| Inspection {
            manifest,
            manifest_toml: String::new(),
            digest: String::new(),
            abi,
            imports: imports.clone(),
            exports: Vec::new(),
            size: 0,
        };
        let told = unasked(&inspected(manifest.clone(), Abi::V0_2));
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(
            told[0].starts_with("it imports `kith:plugin/kv@0.2.0`, and its manifest has no [capabilities.kv]: each")
        );
        let nothing = Manifest { capabilities: Capabilities::default(), ..manifest };
        assert_eq!(unasked(&inspected(nothing.clone(), Abi::V0_2)).len(), 3);
        assert_eq!(unasked(&inspected(nothing, Abi::V0_1)).len(), 2, "it may take the types of requests alone");
    }
}
