//! The macro `manifest!` of `kith-plugin-sdk`, which documents it: the columns of a plugin's manifest as types of Rust, so that a
//! misspelt one does not compile.
//!
//! `known` refuses keys that no manifest has, which are those of `keys`; `declared` reads the columns from TOML, `code` writes the types
//! as text. There is no parser of Rust in here, so that a plugin's first build does not wait for one. Whether a manifest is right in
//! everything else is left to the host.

mod code;
mod declared;
mod keys;
mod known;

use std::path::Path;

use proc_macro::{TokenStream, TokenTree};

/// The types of the columns that the crate's manifest declares; see `kith_plugin_sdk::manifest`.
#[proc_macro]
pub fn manifest(input: TokenStream) -> TokenStream {
    let written = file_of(input).and_then(|file| expand(&file));
    let code = written.unwrap_or_else(|mistake| format!("::core::compile_error!({mistake:?});"));
    // What is written above is Rust whatever the manifest says: its texts are written as literals and comments only.
    code.parse().unwrap_or_else(|error| panic!("kith_plugin_sdk::manifest! wrote what is no Rust: {error}"))
}

/// The file that the macro was given, `plugin.toml` without one.
fn file_of(input: TokenStream) -> Result<String, String> {
    let mut tokens = input.into_iter();
    let file = match (tokens.next(), tokens.next()) {
        (None, _) => Some("plugin.toml".to_owned()),
        (Some(TokenTree::Literal(literal)), None) => {
            let text = literal.to_string();
            text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).map(str::to_owned)
        }
        _ => None,
    };
    file.ok_or_else(|| "write `manifest!()`, or `manifest!(\"FILE\")` with a path from the crate's folder".to_owned())
}

/// The types that a manifest comes to, and the file as something that the crate is made of, so that it is compiled again when that
/// changes.
#[allow(clippy::disallowed_methods, reason = "cargo tells a macro where the crate is by this alone")]
fn expand(file: &str) -> Result<String, String> {
    let folder = std::env::var("CARGO_MANIFEST_DIR")
        .map_err(|_| "cargo does not say where the crate is; build it with cargo".to_owned())?;
    let path = Path::new(&folder).join(file);
    let text = std::fs::read_to_string(&path)
        .map_err(|error| format!("{file} of this crate cannot be read: {error}; `kith plugin new` lays one out"))?;
    let declared = declared::read(&text).map_err(|mistake| format!("{file}:{mistake}"))?;
    let path = path.to_string_lossy();
    Ok(format!("const _: &str = ::core::include_str!({path:?});\n{}", code::write(&declared)))
}
