//! Reads what is on its standard input, line by line, and says how the SDK reads it: for `.ci/oracle`, which compares that with
//! Python. A line is `time` or `json`, a blank, and the bytes in hexadecimal; the answer is a line of JSON.

#![allow(clippy::print_stdout, reason = "its answers are its output")]

use std::io::{BufRead as _, Write as _};

use kith_plugin_sdk::{json, time};

fn main() -> std::io::Result<()> {
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let (kind, digits) = line.split_once(' ').unwrap_or((&line, ""));
        let bytes = bytes(digits);
        let answer = match kind {
            "time" => serde_json::json!({ "ms": std::str::from_utf8(&bytes).ok().and_then(time::parse) }),
            _ => match json::read(&bytes) {
                Ok(document) => {
                    let flags: Vec<String> = document.flags.iter().map(ToString::to_string).collect();
                    serde_json::json!({ "text": document.text, "flags": flags })
                }
                Err(error) => serde_json::json!({ "error": error.to_string() }),
            },
        };
        writeln!(out, "{answer}")?;
    }
    out.flush()
}

/// The bytes that hexadecimal digits write.
fn bytes(digits: &str) -> Vec<u8> {
    let pair = |pair: &[u8]| std::str::from_utf8(pair).ok().and_then(|pair| u8::from_str_radix(pair, 16).ok());
    digits.as_bytes().chunks(2).filter_map(pair).collect()
}
