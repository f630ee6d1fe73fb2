//! Reads identifiers from its standard input, line by line, and says what they are by the rules of a new workspace: for
//! `.ci/oracle`, which compares that with Python. A line is the type, the region of the workspace or `-`, and the value's bytes in
//! hexadecimal, with blanks between them; the answer is a line of JSON.

#![allow(clippy::print_stdout, reason = "its answers are its output")]

use std::io::{BufRead as _, Write as _};

use kith_model::identity::{Identifier, IdentityRules};

fn main() -> std::io::Result<()> {
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let mut words = line.split(' ');
        let mut word = || words.next().unwrap_or_default();
        let (kind, region, digits) = (word(), word(), word());
        let rules =
            IdentityRules { phone_region: (region != "-").then(|| region.to_owned()), ..IdentityRules::default() };
        let answer = match rules.judge(&Identifier::new(kind, String::from_utf8_lossy(&bytes(digits)))) {
            Ok(identifier) => serde_json::json!({ "value": identifier.value }),
            Err(unfit) => serde_json::json!({ "unfit": unfit.code() }),
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
