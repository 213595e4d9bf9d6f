//! The same settings in TOML (spec 2, "`.toml` files").

use super::conf_file::{Parsed, Trouble};

/// Reads a whole file.
#[must_use]
pub fn parse(_bytes: &[u8]) -> Parsed {
    let trouble = Trouble { line: 1, key: None, text: "not built yet".to_owned() };
    Parsed { errors: vec![trouble], ..Parsed::default() }
}
