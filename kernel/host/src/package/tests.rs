//! Components: what is made of a module, what is read from one, and what is refused before anything is compiled.

use kith_model::plugin::PluginKind;
use wasm_encoder::{
    Component, ComponentImportSection, ComponentSection, ComponentTypeRef, ComponentTypeSection, CustomSection,
    InstanceType,
};

use super::*;
use crate::guests::{CONNECTOR, ECHO, SCORER, core, nested, scorer, scorer_with};

const MINIMAL: &str = r#"(module
    (memory (export "memory") 1)
    (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) unreachable)
    (func (export "kith:plugin/scoring@0.2.0#score") (param i32 i32 i32 i32 i32) (result i32) unreachable)
    (func (export "kith:plugin/scoring@0.2.0#fit") (result i32) unreachable))"#;

#[test]
fn what_is_assembled_is_inspected() {
    let component = scorer(ECHO);
    let inspected = inspect(&component).unwrap();
    assert_eq!(inspected.manifest_toml, SCORER);
    assert_eq!((inspected.abi, inspected.size), (Abi::CURRENT, component.len()));
    assert_eq!(inspected.digest.len(), 64);
    assert!(inspected.imports.contains(&"kith:plugin/log@0.2.0".to_owned()), "{:?}", inspected.imports);
    assert!(!inspected.imports.iter().any(|import| import.contains("config")), "only what is called is imported");
    assert_eq!(inspected.exports, ["kith:plugin/scoring@0.2.0"]);
    assert_eq!(scorer(ECHO), component, "the same input gives the same bytes");
}

#[test]
fn what_is_no_component_is_named() {
    let component = scorer(ECHO);
    let module = wat::parse_str("(module)").unwrap();
    let cases: [(&[u8], &str); 9] = [
        (b"", "an empty file"),
        (&module, "a core WebAssembly module"),
        (b"\x7fELF\x02\x01\x01", "native or precompiled code"),
        (b"(component)", "WebAssembly text"),
        (b"\x1f\x8b\x08", "gzip data"),
        (b"hello", "unknown data"),
        (b"\0as", "ends in the middle"),
        (&component[..component.len() / 2], "ends in the middle"),
        (&vec![0; 9 * 1024 * 1024], "9437184 bytes; at most 8388608"),
    ];
    for (bytes, expected) in cases {
        let error = inspect(bytes).unwrap_err().to_string();
        assert!(error.contains(expected), "{expected}: {error}");
    }
}

/// Every prefix and every flipped byte of the head gives an error or a result, never a panic.
#[test]
fn damaged_components_are_refused_cleanly() {
    let component = scorer(ECHO);
    for end in 0..component.len() - 1 {
        assert!(inspect(&component[..end]).is_err(), "{end}");
    }
    for at in 0..component.len() {
        let mut damaged = component.clone();
        damaged[at] ^= 0x55;
        drop(inspect(&damaged));
    }
}

#[test]
fn shapes_beyond_the_limits_are_refused() {
    let with = |name: &str, bytes: usize| {
        let mut component = scorer(ECHO);
        CustomSection { name: name.into(), data: vec![0; bytes].into() }.append_to_component(&mut component);
        inspect(&component).unwrap_err().to_string()
    };
    assert!(with("junk", 80_000).contains("bytes of custom sections; at most"));
    assert!(with(MANIFEST_SECTION, 10).contains("the section `kith:manifest` twice"));
    let functions = "(func)".repeat(20_001);
    let many = std::panic::catch_unwind(|| scorer_with(ECHO, &functions, 1));
    let message = *many.unwrap_err().downcast::<String>().unwrap();
    assert!(message.contains("functions") && message.contains("20000"), "{message}");
}

/// A component that imports one empty instance under `name`.
fn importing(name: &str) -> Component {
    let (mut types, mut imports) = (ComponentTypeSection::new(), ComponentImportSection::new());
    types.instance(&InstanceType::new());
    imports.import(name, ComponentTypeRef::Instance(0));
    let mut component = Component::new();
    component.section(&types).section(&imports);
    component
}

#[test]
fn a_component_of_another_make_is_refused() {
    assert_eq!(inspect(&Component::new().finish()), Err(PackageError::MissingSection(MANIFEST_SECTION)));
    let stamp = |mut component: Component, abi: &str| {
        for (name, data) in [(MANIFEST_SECTION, SCORER), (ABI_SECTION, abi)] {
            component.section(&CustomSection { name: name.into(), data: data.as_bytes().into() });
        }
        inspect(&component.finish()).unwrap_err().to_string()
    };
    assert!(stamp(Component::new(), "0.7").contains("ABI `0.7`; this kernel has 0.1 and 0.2"));
    let error = stamp(Component::new(), Abi::CURRENT.as_str());
    assert!(error.contains("exports `kith:plugin/scoring@0.2.0`, but this component exports nothing"), "{error}");
    for (import, expected) in [
        (
            "wasi:filesystem/preopens@0.2.0",
            "a scorer may not import `wasi:filesystem/preopens@0.2.0`; plugins have no WASI",
        ),
        ("kith:plugin/http@0.2.0", "a scorer may not import `kith:plugin/http@0.2.0`; its world has"),
        ("kith:plugin/log@0.1.0", "may not import `kith:plugin/log@0.1.0`"),
    ] {
        let error = stamp(importing(import), Abi::CURRENT.as_str());
        assert!(error.contains(expected), "{error}");
    }
}

/// One thing that was wrong hid all others.
#[test]
fn all_that_does_not_fit_is_told_at_once() {
    let stamp = |mut component: Component, abi: &str| {
        for (name, data) in [(MANIFEST_SECTION, SCORER), (ABI_SECTION, abi)] {
            component.section(&CustomSection { name: name.into(), data: data.as_bytes().into() });
        }
        inspect(&component.finish()).unwrap_err()
    };
    let refused = stamp(importing("kith:plugin/http@0.2.0"), Abi::CURRENT.as_str());
    let [PackageError::UndeclaredImport { import, .. }, PackageError::WrongWorld { .. }] = refused.findings() else {
        panic!("{refused:?}")
    };
    assert_eq!(import, "kith:plugin/http@0.2.0");
    let said = refused.to_string();
    assert!(said.contains("may not import `kith:plugin/http@0.2.0`") && said.contains("exports nothing"), "{said}");
    let alone = stamp(importing("kith:plugin/log@0.2.0"), Abi::CURRENT.as_str());
    assert_eq!(alone.findings(), std::slice::from_ref(&alone));
}

/// Why a component that is written as text is refused.
fn refusal(wat: &str) -> String {
    inspect(&wat::parse_str(wat).unwrap_or_else(|error| panic!("{error}\n{wat}"))).unwrap_err().to_string()
}

/// What is within the limits gets as far as to the manifest, which these components have not.
const UNSIGNED: &str = "the component has no `kith:manifest` section";

#[test]
fn types_are_nested_so_deep_and_no_deeper() {
    let nested = |depth: usize| {
        let types: Vec<String> = (1..=depth).map(|at| format!("(type $t{at} (list $t{}))", at - 1)).collect();
        format!("(component (type $t0 (list u8)) {})", types.concat())
    };
    assert!(refusal(&nested(50)).starts_with(UNSIGNED));
    assert!(refusal(&nested(200)).contains("type nesting is too deep"), "{}", refusal(&nested(200)));
    // Each is of two of the one before, so that few bytes would be very many types.
    let doubled: Vec<String> = (1..=40).map(|at| format!("(type $t{at} (tuple $t{0} $t{0}))", at - 1)).collect();
    let refused = refusal(&format!("(component (type $t0 (tuple u8 u8)) {})", doubled.concat()));
    assert!(refused.contains("effective type size"), "{refused}");
}

#[test]
fn nested_parts_count_with_all_others() {
    let layers = |count: usize| format!("(component {} {})", "(component".repeat(count), ")".repeat(count));
    assert!(refusal(&layers(4)).starts_with(UNSIGNED));
    assert_eq!(
        refusal(&layers(5)),
        "the nested component 0.0.0.0.0 is more than 4 components deep; compose the plugin of fewer layers"
    );
    let modules = |count: usize| format!("(component {})", "(core module)".repeat(count));
    assert!(refusal(&format!("(component {}{})", modules(8), modules(8))).starts_with(UNSIGNED));
    assert_eq!(
        refusal(&format!("(component {}{})", modules(9), modules(9))),
        "the component has 17 core modules with all that is nested, the last in the module 7 of the nested component 1; at most \
         16 are admitted"
    );
    let memories = "(component (core module (memory 1)) (component (core module (memory 1))))".repeat(3);
    let refused = refusal(&format!("(component {memories})"));
    assert!(refused.contains("5 memories") && refused.contains("the module 0 of the nested component 2;"), "{refused}");
    let two = refusal("(component (component (core module (memory 1) (memory 1))))");
    assert!(two.contains("malformed") && two.contains("memor"), "{two}");
    let many = "(component)".repeat(65);
    assert!(refusal(&format!("(component {many})")).contains("65 nested components"));
}

/// Eight components of which each instantiates the one before it twice.
#[test]
fn a_bomb_of_instances_is_refused_before_anything_is_compiled() {
    let doubling = |last: usize| {
        let layer = |number: usize| {
            format!(
                "(component $c{number} (alias outer $top $c{} (component $x))
                (instance (instantiate $x)) (instance (instantiate $x)))",
                number - 1
            )
        };
        let layers: String = (1..=last).map(layer).collect();
        let first = "(component $c0 (core instance))";
        refusal(&format!("(component $top {first}{layers})"))
    };
    assert!(doubling(7).starts_with(UNSIGNED));
    let refused = doubling(8);
    assert!(refused.starts_with("the component has 766 instances"), "{refused}");
    assert!(refused.ends_with("the last in the nested component 8; at most 512 are admitted"), "{refused}");
    let foreign = refusal(r#"(component (import "c" (component $c)) (instance (instantiate $c)))"#);
    assert!(foreign.starts_with("the component instantiates a component or a module that it imports"), "{foreign}");
}

/// What a call's store would refuse is refused before it is installed, with what there is and what may be.
#[test]
fn what_no_call_could_instantiate_is_refused() {
    let nested = |module: &str, instances: usize| {
        let instances = "(core instance (instantiate $m))".repeat(instances);
        let part = format!("(component $part (core module $m {module}) {instances})");
        refusal(&format!("(component {part} (instance (instantiate $part)) (instance (instantiate $part)))"))
    };
    let memory = "(memory (export \"memory\") 1)";
    for (module, fit) in [("", 16), (memory, 2), ("(table 1 funcref) (table 1 funcref)", 1)] {
        assert!(nested(module, fit).starts_with(UNSIGNED), "{module}");
    }
    for (module, instances, found, limit) in
        [("", 17, "34 instances of modules", 32), (memory, 3, "6 memories", 4), ("(table 1 funcref)", 3, "6 tables", 4)]
    {
        let refused = nested(module, instances);
        assert!(refused.starts_with(&format!("the component has {found}, with those")), "{refused}");
        assert!(refused.ends_with(&format!("; at most {limit} are admitted")), "{refused}");
    }
    // By whatever number a module goes, it is counted or refused.
    let again = "(core instance (instantiate $x))".repeat(5);
    let outer = format!(
        "(component $top (core module $m {memory}) (component (alias outer $top $m (core module $x)) {again}))"
    );
    assert!(refusal(&outer).starts_with("the component has 5 memories"), "{}", refusal(&outer));
    let foreign = r#"(component (component (import "m" (core module $m)) (core instance (instantiate $m))))"#;
    assert!(refusal(foreign).starts_with("the nested component 0 instantiates a component or a module"));
}

/// A few KiB of which the compiler makes megabytes: an adapter for each function, of a hundred texts.
#[test]
fn a_bomb_of_adapters_is_refused_before_anything_is_compiled() {
    let lowering = |functions: usize| {
        let texts = "string ".repeat(100);
        let lowered = "(core func (canon lower (func $f) (memory $i \"memory\")))".repeat(functions);
        refusal(&format!(
            r#"(component (component
            (type $texts (tuple {texts}))
            (import "f" (func $f (param "texts" $texts)))
            (core module $m (memory (export "memory") 1))
            (core instance $i (instantiate $m))
            {lowered}))"#
        ))
    };
    assert!(lowering(150).starts_with(UNSIGNED));
    let refused = lowering(300);
    assert!(refused.starts_with("the component has 16422 members of the types"), "{refused}");
    assert!(refused.ends_with("the last in the nested component 0; at most 16384 are admitted"), "{refused}");
}

fn packed(component: &[u8], manifest: &str, carried: Carried) -> Result<Vec<u8>, PackageError> {
    pack(component, manifest, carried, table::COMPONENT_SIZE.default)
}

#[test]
fn what_is_packed_is_what_would_be_built() {
    let built = scorer(ECHO);
    let bare = trim::component(&built).unwrap();
    assert_eq!(packed(&bare, SCORER, Carried::Refused).unwrap(), built);
    // Of whatever depth, debug information is left out.
    let mut heavy = bare;
    CustomSection { name: ".debug_info".into(), data: vec![0; 80_000].into() }.append_to_component(&mut heavy);
    let composed = packed(&nested(&heavy), SCORER, Carried::Refused).unwrap();
    assert!(composed.len() < 80_000);
    assert_eq!(inspect(&composed).unwrap().exports, ["kith:plugin/scoring@0.2.0"]);
}

/// What `wit-bindgen` for C and a linker leave is a core module; other tools had to make a component of it first.
#[test]
fn a_module_that_carries_its_world_is_packed_as_it_is() {
    let module = core(PluginKind::Scorer, MINIMAL);
    let assembled = assemble(&module, SCORER).unwrap();
    for carried in [Carried::Refused, Carried::Replaced] {
        assert_eq!(packed(&module, SCORER, carried).unwrap(), assembled);
    }
    let printing = MINIMAL.replace("(module", "(module (import \"wasi_snapshot_preview1\" \"fd_write\" (func))");
    let refused = packed(&core(PluginKind::Scorer, &printing), SCORER, Carried::Refused).unwrap_err().to_string();
    assert!(refused.contains("`wasi_snapshot_preview1::fd_write`; it comes from printing"), "{refused}");
    let other = packed(&module, CONNECTOR, Carried::Refused).unwrap_err().to_string();
    assert!(other.contains("the manifest says connector"), "{other}");
    let small = pack(&module, SCORER, Carried::Refused, 100).unwrap_err().to_string();
    assert!(small.ends_with("bytes; at most 100 are admitted"), "{small}");
}

#[test]
fn a_manifest_that_is_there_is_replaced_only_by_choice() {
    let built = scorer(ECHO);
    let refused = packed(&built, SCORER, Carried::Refused).unwrap_err().to_string();
    assert_eq!(
        refused,
        "the component carries a manifest already, of test/scorer 1.0.0; give --replace to put this one in its place"
    );
    let newer = SCORER.replace("\"1.0.0\"", "\"2.0.0\"");
    let replaced = inspect(&packed(&built, &newer, Carried::Replaced).unwrap()).unwrap();
    assert_eq!((replaced.manifest.version.to_string(), replaced.manifest_toml), ("2.0.0".to_owned(), newer));
}

/// A component that the tool for JavaScript made was refused for the function `init` that the tool had called itself.
#[test]
fn a_function_of_the_tool_may_stand_among_the_exports() {
    let check = |exports: &[&str]| {
        let exports: Vec<String> = exports.iter().map(|name| (*name).to_owned()).collect();
        let found = world::findings(Abi::CURRENT, PluginKind::Scorer, &[], &exports);
        PackageError::of(found).map_err(|error| error.to_string())
    };
    let [scoring, tagging] = ["kith:plugin/scoring@0.2.0", "kith:plugin/tagging@0.2.0"];
    assert_eq!(check(&["init", scoring]), Ok(()));
    for refused in [&["init"][..], &[scoring, tagging], &["init", tagging], &[scoring, "wasi:cli/run@0.2.0"]] {
        assert!(check(refused).unwrap_err().contains("the manifest says scorer, which exports"), "{refused:?}");
    }
}

#[test]
fn what_cannot_be_packed_is_explained() {
    let error = |bytes: &[u8], manifest: &str| packed(bytes, manifest, Carried::Refused).unwrap_err().to_string();
    let module = wat::parse_str("(module)").unwrap();
    assert!(error(&module, SCORER).starts_with("the module holds no component type"), "{}", error(&module, SCORER));
    assert!(error(&scorer(ECHO), "[plugin]").contains("[plugin] has no `id`"));
    let wasi = "wasi:cli/environment@0.2.0";
    let refused = error(&importing(wasi).finish(), SCORER);
    let expected =
        format!("may not import `{wasi}`; plugins have no WASI; leave out what asks for it (`{wasi}`): in Rust");
    assert!(refused.contains(&expected), "{refused}");
    let bare = trim::component(&scorer(ECHO)).unwrap();
    let small = pack(&bare, SCORER, Carried::Refused, 100).unwrap_err().to_string();
    assert!(small.ends_with("bytes; at most 100 are admitted"), "{small}");
    assert!(error(&bare[..bare.len() / 2], SCORER).contains("ends in the middle"));
    // Wherever it is cut off, there is an error or a plugin, never a panic.
    for end in 0..bare.len() {
        drop(packed(&bare[..end], SCORER, Carried::Replaced));
    }
}

#[test]
fn a_module_that_cannot_be_a_plugin_is_explained() {
    let error = |wat: &str, manifest: &str| assemble(&core(PluginKind::Scorer, wat), manifest).unwrap_err().to_string();
    let with_import = |module: &str, name: &str| {
        MINIMAL.replace("(module", &format!("(module (import \"{module}\" \"{name}\" (func))"))
    };
    for (module, name, expected) in [
        ("wasi_snapshot_preview1", "fd_write", "`wasi_snapshot_preview1::fd_write`; it comes from printing"),
        ("wasi_snapshot_preview1", "random_get", "use `BTreeMap`"),
        ("wasi_snapshot_preview1", "clock_time_get", "`SystemTime::now`"),
        ("__wbindgen_placeholder__", "__wbindgen_throw", "wasm-bindgen"),
        ("env", "zlib_inflate", "`extern \"C\"` function"),
    ] {
        let error = error(&with_import(module, name), SCORER);
        assert!(error.contains(expected), "{error}");
    }
    assert!(
        error(MINIMAL, CONNECTOR).contains("the manifest says connector, which exports `kith:plugin/source@0.2.0`")
    );
    assert!(error(MINIMAL, "[plugin]").contains("[plugin] has no `id`"));
    assert!(error(&MINIMAL.replace("#fit", "#fits"), SCORER).contains("fit"));
    let bare = wat::parse_str(MINIMAL).unwrap();
    assert_eq!(assemble(&bare, SCORER), Err(PackageError::NoComponentType));
    assert!(assemble(b"hello", SCORER).unwrap_err().to_string().contains("not a WebAssembly module"));
    assert!(assemble(&scorer(ECHO), SCORER).unwrap_err().to_string().contains("a component already"));
}
