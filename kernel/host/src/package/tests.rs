//! Components: what is made of a module, what is read from one, and what is refused before anything is compiled.

use kith_model::plugin::PluginKind;
use wasm_encoder::{
    Component, ComponentImportSection, ComponentSection, ComponentTypeRef, ComponentTypeSection, CustomSection,
    InstanceType, Module, ModuleSection, NestedComponentSection,
};

use super::*;
use crate::guests::{CONNECTOR, ECHO, SCORER, core, scorer, scorer_with};

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
    // Adapters between nested components are what makes compiling explode.
    let mut inner = Component::new();
    inner.section(&ModuleSection(&Module::new()));
    let mut outer = Component::new();
    outer.section(&NestedComponentSection(&inner));
    assert!(stamp(outer, Abi::CURRENT.as_str()).contains("a module in a nested component"));
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
