//! `kith plugin new`: a plugin's crate from the SDK's templates, ready for `cargo test`, `kith plugin test` and
//! `kith plugin build`.

use std::path::{Path, PathBuf};

use kith_model::id::Name;
use kith_model::plugin::{PluginId, PluginKind};
use serde_json::json;

use super::args::PluginNewArgs;
use super::output::{self, AnswerFormat};
use super::{Failure, print_json};

/// A template of the SDK, compiled into this program.
macro_rules! template {
    ($path:literal) => {
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../plugin-sdk/template/", $path))
    };
}

/// Who makes the plugin, where the name does not say.
const DEFAULT_VENDOR: &str = "acme";

pub(crate) fn run(args: &PluginNewArgs, format: AnswerFormat) -> Result<(), Failure> {
    let id = plugin_id(&args.name)?;
    let dir = args.dir.clone().unwrap_or_else(|| PathBuf::from(id.name()));
    let Sdk { path: sdk, found } = find_sdk(args.sdk_path.as_deref())?;
    let is_used = std::fs::read_dir(&dir).is_ok_and(|mut entries| entries.next().is_some());
    if is_used {
        return Err(Failure::Usage(format!("{} is not empty; name another folder with --dir", dir.display())));
    }
    let files = files(&id, args.kind, &sdk);
    for (name, content) in &files {
        write(&dir.join(name), content)?;
    }
    if format.is_json() {
        let names: Vec<&str> = files.iter().map(|(name, _)| *name).collect();
        print_json(&json!({ "id": id.to_string(), "dir": dir, "sdk": sdk, "files": names }))?;
    } else {
        output::say(format_args!("{id}, a {}, is in {}:\n", args.kind, dir.display()))?;
        output::say(format_args!(
            "    cd {}\n    kith plugin check\n    cargo test\n    kith plugin test\n    kith plugin build\n",
            dir.display()
        ))?;
        output::say(format_args!(
            "The SDK is not on a registry yet: Cargo.toml points to {}, which whoever builds it elsewhere changes.",
            sdk.display()
        ))?;
    }
    if found == SdkFound::OfTheBuild {
        output::warn(&format!(
            "no checkout is around this folder or this program, so that the SDK is the one that the program was built from, {}; \
             --sdk-path names another",
            sdk.display()
        ));
    }
    Ok(())
}

fn plugin_id(name: &str) -> Result<PluginId, Failure> {
    let whole = if name.contains('/') { name.to_owned() } else { format!("{DEFAULT_VENDOR}/{name}") };
    let id: PluginId = whole.parse().map_err(|error| Failure::Usage(format!("{error}")))?;
    // The crate has the plugin's name, and cargo refuses what is none.
    id.name().parse::<Name>().map_err(|error| Failure::Usage(error.to_string()))?;
    Ok(id)
}

/// The SDK that a new crate depends on.
#[derive(Debug)]
struct Sdk {
    path: PathBuf,
    found: SdkFound,
}

/// Where an SDK was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SdkFound {
    /// Where it was said to be, or in a checkout around the folder here or the program.
    Near,
    /// In the checkout that the program was built from, which may be anybody's and gone tomorrow.
    OfTheBuild,
}

fn find_sdk(given: Option<&Path>) -> Result<Sdk, Failure> {
    let here = std::env::current_dir().ok();
    // What leads to the program may be a link out of its checkout.
    let program = std::env::current_exe().ok().and_then(|program| program.canonicalize().ok());
    let places = match given {
        Some(given) => vec![(given.to_path_buf(), SdkFound::Near)],
        None => sdk_places(here.as_deref(), program.as_deref()),
    };
    let mut places = places.into_iter().filter(|(place, _)| is_sdk(place));
    let found = places.find_map(|(place, found)| Some(Sdk { path: place.canonicalize().ok()?, found }));
    found.ok_or_else(|| match given {
        Some(given) => Failure::Usage(format!(
            "{} is not the SDK's; the SDK is not on a registry yet, so say with --sdk-path where a checkout has `plugin-sdk`",
            given.join("Cargo.toml").display()
        )),
        None => Failure::Usage(
            "no checkout of Kith is around this folder or this program; the SDK is not on a registry yet, so say with --sdk-path \
             where one has `plugin-sdk`"
                .to_owned(),
        ),
    })
}

/// Where the SDK may be: in a checkout around the folder here, in the one around the program, and in the one that it was built from.
fn sdk_places(here: Option<&Path>, program: Option<&Path>) -> Vec<(PathBuf, SdkFound)> {
    let around = here.into_iter().chain(program).flat_map(Path::ancestors);
    let around = around.map(|checkout| (checkout.join("plugin-sdk"), SdkFound::Near));
    let built_from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../plugin-sdk");
    around.chain([(built_from, SdkFound::OfTheBuild)]).collect()
}

fn is_sdk(path: &Path) -> bool {
    // A workspace that has the SDK among its members names it too, and is not it.
    let manifest =
        std::fs::read_to_string(path.join("Cargo.toml")).ok().and_then(|text| text.parse::<toml::Table>().ok());
    let name = manifest.as_ref().and_then(|manifest| manifest.get("package")?.get("name")?.as_str());
    name == Some(kith::plugin_build::SDK)
}

/// The new crate's files with their content.
fn files(id: &PluginId, kind: PluginKind, sdk: &Path) -> Vec<(&'static str, String)> {
    let (manifest, library, case, install) = match kind {
        PluginKind::Connector => (
            template!("connector/plugin.toml.in"),
            template!("connector/lib.rs.in"),
            template!("connector/case.json.in"),
            "",
        ),
        PluginKind::TagModel => (
            template!("tag-model/plugin.toml.in"),
            template!("tag-model/lib.rs.in"),
            template!("tag-model/case.json.in"),
            "",
        ),
        PluginKind::Scorer => {
            (template!("scorer/plugin.toml.in"), template!("scorer/lib.rs.in"), template!("scorer/case.json.in"), "")
        }
        PluginKind::Channel => (
            template!("channel/plugin.toml.in"),
            template!("channel/lib.rs.in"),
            template!("channel/case.json.in"),
            " --config '{\"url\": \"https://example.com/messages\"}' --grant-http example.com",
        ),
    };
    let checkout = sdk.parent().unwrap_or(sdk);
    // Text in quotes is the same in YAML.
    let program = toml_text(&checkout.join("target/release/kith").display().to_string());
    let checkout = toml_text(&checkout.display().to_string());
    let output = id.name().replace('-', "_");
    let sdk = sdk.display().to_string();
    // The SDK has the version of this program. A registry will go by it; until then the path does.
    let version = env!("CARGO_PKG_VERSION");
    let sdk = format!("{} = {{ version = \"{version}\", path = {} }}", kith::plugin_build::SDK, toml_text(&sdk));
    let fill = |template: &str| {
        [
            ("{{vendor}}", id.vendor()),
            ("{{name}}", id.name()),
            ("{{kind}}", kind.as_str()),
            ("{{package}}", &package_name(id.name())),
            ("{{type}}", &type_name(id.name(), library)),
            ("{{title}}", &title(id.name())),
            ("{{output}}", &output),
            ("{{field}}", &field_name(&output)),
            ("{{value}}", &value_name(&output)),
            ("{{checkout}}", &checkout),
            ("{{program}}", &program),
            ("{{install}}", install),
            ("{{sdk}}", &sdk),
        ]
        .iter()
        .fold(template.to_owned(), |text, (place, value)| text.replace(place, value))
    };
    vec![
        ("Cargo.toml", fill(template!("Cargo.toml.in"))),
        ("plugin.toml", fill(manifest)),
        ("src/lib.rs", fill(library)),
        ("README.md", fill(template!("README.md.in"))),
        ("cases/first.json", fill(case)),
        (".gitignore", "/target\n# Secret keys, as `kith plugin keygen` writes them.\n*.key\n".to_owned()),
        // The first line of the manifest leads editors to it.
        ("plugin.schema.json", format!("{:#}\n", kith_host::manifest_schema())),
        (".github/workflows/plugin.yml", fill(template!("plugin.yml.in"))),
    ]
}

/// A TOML string; paths may hold quotes and backslashes.
fn toml_text(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// Names that a crate's code has without naming where they come from, and those of the macros that export a plugin and
/// make types of its manifest.
const NAMES_OF_ALL: &str = "AsMut AsRef AsyncFn AsyncFnMut AsyncFnOnce Box Clone Copy Debug Default DoubleEndedIterator Drop Eq Err \
    ExactSizeIterator Exported Extend Fn FnMut FnOnce From FromIterator Hash Inputs Into IntoIterator Iterator None \
    Ok Option Ord Outputs PartialEq PartialOrd Result Row Self Send Sized Some String Sync ToOwned ToString Vec";

/// Crates that a plugin's crate uses by name.
const CRATES: &str = "alloc core kith_plugin_sdk proc_macro serde serde_json std test";

/// Words of Rust, by which no crate and no field can be named as they are.
const WORDS: &str = "abstract as async await become box break const continue crate do dyn else enum extern false final fn for gen if \
    impl in let loop macro match mod move mut override priv pub ref return self static struct super trait true try type typeof \
    unsafe unsized use virtual where while yield";

fn is_among(list: &str, word: &str) -> bool {
    list.split_whitespace().any(|listed| listed == word)
}

/// `loyal-buyers` → `LoyalBuyers`, and `table` → `TablePlugin` where the library that it is for says `Table` itself.
fn type_name(name: &str, library: &str) -> String {
    let plain: String = name.split('-').map(capitalised).collect();
    let mut words = library.split(|character: char| !character.is_alphanumeric() && character != '_');
    let is_taken = is_among(NAMES_OF_ALL, &plain) || words.any(|word| word == plain);
    if is_taken { plain + "Plugin" } else { plain }
}

/// `loyal-buyers` → `loyal-buyers`, and `serde` → `serde-plugin`, because no crate can use another one of its own name.
fn package_name(name: &str) -> String {
    let name_in_code = name.replace('-', "_");
    let is_taken = is_among(CRATES, &name_in_code) || is_among(WORDS, &name_in_code);
    if is_taken { format!("{name}-plugin") } else { name.to_owned() }
}

/// The field that `manifest!` gives an output: `level` → `level`, `type` → `r#type`, and three words that cannot be written so get
/// an underscore.
fn field_name(output: &str) -> String {
    match output {
        "self" | "super" | "crate" => format!("{output}_"),
        word if is_among(WORDS, word) => format!("r#{word}"),
        name => name.to_owned(),
    }
}

/// The enum that `manifest!` makes of an output's values: `big_spender` → `BigSpenderValue`. An underscore that no letter follows
/// stays.
fn value_name(output: &str) -> String {
    let mut parts = output.split('_');
    let mut name = capitalised(parts.next().unwrap_or_default());
    for part in parts {
        if !part.starts_with(|first: char| first.is_ascii_lowercase()) {
            name.push('_');
        }
        name.push_str(&capitalised(part));
    }
    name + "Value"
}

/// `loyal-buyers` → `Loyal buyers`.
fn title(name: &str) -> String {
    capitalised(&name.replace('-', " "))
}

fn capitalised(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map_or_else(String::new, |first| first.to_ascii_uppercase().to_string() + letters.as_str())
}

fn write(path: &Path, content: &str) -> Result<(), Failure> {
    let failed = |source| Failure::File { what: "write", path: path.to_path_buf(), source };
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(failed)?;
    }
    std::fs::write(path, content).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KINDS: [PluginKind; 4] =
        [PluginKind::Connector, PluginKind::TagModel, PluginKind::Scorer, PluginKind::Channel];

    #[test]
    fn every_template_is_filled_and_its_manifest_has_no_mistakes() {
        let id = plugin_id("umbrella/big-spender").unwrap();
        for kind in KINDS {
            let files = files(&id, kind, Path::new("/a \"b\"/plugin-sdk"));
            for (name, content) in &files {
                assert!(!content.contains("{{"), "{kind} {name}: {content}");
            }
            let manifest = kith_host::parse_manifest(&files[1].1).unwrap();
            assert_eq!((manifest.kind, manifest.id.to_string().as_str()), (kind, "umbrella/big-spender"));
            // A channel that is given nobody's identifiers would skip every message.
            let is_given = !manifest.capabilities.recipients.is_empty();
            assert_eq!(is_given, kind == PluginKind::Channel, "{kind}");
            assert!(files[2].1.contains("pub struct BigSpender"));
            let (name, case) = &files[4];
            assert_eq!(*name, "cases/first.json");
            let case: serde_json::Value = serde_json::from_str(case).unwrap();
            assert!(case["output"].as_array().is_some_and(|output| !output.is_empty()), "{kind}");
            let cargo: toml::Table = files[0].1.parse().unwrap();
            let sdk = &cargo["dependencies"][kith::plugin_build::SDK];
            assert_eq!(sdk["path"].as_str(), Some("/a \"b\"/plugin-sdk"));
            let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../Cargo.toml");
            let workspace: toml::Table = std::fs::read_to_string(workspace).unwrap().parse().unwrap();
            let own = &workspace["workspace"]["package"]["version"];
            assert_eq!(sdk["version"].as_str(), own.as_str(), "it is that of the SDK in the checkout");
            for name in ["kith-json", kith::plugin_build::SDK, "kith-plugin-sdk-macros"] {
                assert_eq!(workspace["workspace"]["dependencies"][name]["version"].as_str(), own.as_str(), "{name}");
            }
        }
    }

    /// Every name that a template uses, whatever it is used for, is a name that somebody may give a plugin.
    #[test]
    fn a_plugins_type_and_package_are_no_names_that_its_crate_uses() {
        for name in [
            "tag-model",
            "table",
            "failure",
            "settings",
            "self",
            "scorer",
            "dataset",
            "fitted",
            "connector",
            "order",
            "event",
            "channel",
            "message",
            "step",
            "option",
            "vec",
            "exported",
            "deserialize",
            "std",
            "serde",
            "serde-json",
            "kith-plugin-sdk",
            "fn",
        ] {
            let id = plugin_id(name).unwrap_or_else(|error| panic!("{name}: {error}"));
            for kind in KINDS {
                let files = files(&id, kind, Path::new("/plugin-sdk"));
                let manifest = kith_host::parse_manifest(&files[1].1).unwrap();
                assert_eq!(manifest.id.name(), name, "the plugin has the name that it was given");
                let library = &files[2].1;
                let declared = library.split("pub struct ").nth(1).and_then(|rest| rest.split(';').next()).unwrap();
                assert!(!is_among(NAMES_OF_ALL, declared), "{kind} {name}: {declared}");
                // It stands where it is declared, implemented and exported, and in tests; nothing is imported or declared by it.
                let imported = library.lines().filter(|line| line.trim_start().starts_with("use "));
                let other = library.lines().filter(|line| line.starts_with("struct "));
                for line in imported.chain(other) {
                    let mut words = line.split(|character: char| !character.is_alphanumeric());
                    assert!(words.all(|word| word != declared), "{kind} {name}: {line}");
                }
                let cargo: toml::Table = files[0].1.parse().unwrap();
                let package = cargo["package"]["name"].as_str().unwrap();
                let package_in_code = package.replace('-', "_");
                assert!(!is_among(CRATES, &package_in_code), "{kind} {name}: {package}");
                assert!(!is_among(WORDS, &package_in_code), "{kind} {name}: {package}");
                let dependencies = cargo["dependencies"].as_table().unwrap();
                assert!(!dependencies.contains_key(&package.replace('-', "_")), "{kind} {name}: {package}");
            }
        }
        let names = |name: &str| (type_name(name, template!("tag-model/lib.rs.in")), package_name(name));
        assert_eq!(names("table"), ("TablePlugin".to_owned(), "table".to_owned()));
        assert_eq!(names("loyal-buyers"), ("LoyalBuyers".to_owned(), "loyal-buyers".to_owned()));
        assert_eq!(names("serde"), ("Serde".to_owned(), "serde-plugin".to_owned()));
    }

    #[test]
    fn a_tag_is_named_in_the_code_as_the_macro_names_it() {
        let names = |output: &str| (field_name(output), value_name(output));
        for (output, field, value) in [
            ("big_spender", "big_spender", "BigSpenderValue"),
            ("type", "r#type", "TypeValue"),
            ("self", "self_", "SelfValue"),
            ("top_10", "top_10", "Top_10Value"),
            ("a__b", "a__b", "A_BValue"),
            ("a_", "a_", "A_Value"),
        ] {
            assert_eq!(names(output), (field.to_owned(), value.to_owned()));
        }
    }

    /// The commands are those of this program, the tools those that its `README.md` names.
    #[test]
    fn the_continuous_integration_asks_for_what_there_is() {
        use clap::Parser as _;
        let files = files(&plugin_id("loyal").unwrap(), PluginKind::TagModel, Path::new("/kith/plugin-sdk"));
        let (_, workflow) = files.iter().find(|(name, _)| name.ends_with("plugin.yml")).unwrap();
        let commands = workflow.lines().filter_map(|line| line.trim().strip_prefix("- run: kith "));
        let commands: Vec<&str> = commands.collect();
        assert_eq!(commands, ["plugin check", "plugin test", "plugin build --out loyal.wasm"]);
        for command in commands {
            let words = ["kith"].into_iter().chain(command.split_whitespace());
            crate::cli::args::Cli::try_parse_from(words).unwrap_or_else(|error| panic!("{command}: {error}"));
        }
        assert!(
            workflow.contains("CHECKOUT: \"/kith\"\n") && workflow.contains("path: \"/kith/target/release/kith\"\n")
        );
        let (_, schema) = files.iter().find(|(name, _)| *name == "plugin.schema.json").unwrap();
        let schema: serde_json::Value = serde_json::from_str(schema).unwrap();
        assert_eq!(schema, kith_host::manifest_schema());
        assert!(files[1].1.starts_with("#:schema ./plugin.schema.json\n"));
    }

    #[test]
    fn names_that_cargo_would_refuse_are_refused_here() {
        assert_eq!(plugin_id("loyal").unwrap().to_string(), "acme/loyal");
        for bad in ["", "Loyal", "a b", "x/y/z", "1st"] {
            assert_eq!(plugin_id(bad).unwrap_err().exit_code(), 2, "{bad}");
        }
    }

    #[test]
    fn a_folder_that_is_not_the_sdk_is_none() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        assert_eq!(find_sdk(Some(&root.join("plugin-sdk"))).unwrap().found, SdkFound::Near);
        for other in [root.clone(), root.join("kernel/server"), root.join("nothing")] {
            assert_eq!(find_sdk(Some(&other)).unwrap_err().exit_code(), 2, "{}", other.display());
        }
    }

    /// A program that somebody was handed points to no folder of whoever built it while there is a checkout nearer.
    #[test]
    fn the_nearest_checkout_has_the_sdk() {
        let places =
            sdk_places(Some(Path::new("/home/ada/kith/mine")), Some(Path::new("/opt/kith/target/release/kith")));
        let at = |path: &str| places.iter().position(|place| *place == (PathBuf::from(path), SdkFound::Near)).unwrap();
        assert_eq!(at("/home/ada/kith/mine/plugin-sdk"), 0);
        assert!(at("/home/ada/kith/plugin-sdk") < at("/opt/kith/plugin-sdk"));
        // That one is told: it may be anybody's folder.
        let (last, found) = places.last().unwrap();
        assert_eq!(last, &Path::new(env!("CARGO_MANIFEST_DIR")).join("../../plugin-sdk"));
        assert_eq!(*found, SdkFound::OfTheBuild);
        assert!(is_sdk(last) && !is_sdk(Path::new("/nowhere/plugin-sdk")));
    }

    #[test]
    fn a_folder_in_use_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("x"), "").unwrap();
        let args = PluginNewArgs {
            name: "loyal".into(),
            kind: PluginKind::TagModel,
            dir: Some(folder.path().to_path_buf()),
            sdk_path: None,
        };
        assert_eq!(run(&args, AnswerFormat::Json).unwrap_err().exit_code(), 2);
    }
}
