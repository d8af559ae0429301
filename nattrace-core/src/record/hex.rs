//! Byte strings as lower-case hexadecimal text.

use serde::{Deserialize, Deserializer, Serializer, de::Error};

/// Serialises bytes as hexadecimal text.
pub fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    use std::fmt::Write;
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        write!(text, "{byte:02x}").map_err(serde::ser::Error::custom)?;
    }
    serializer.serialize_str(&text)
}

/// Reads hexadecimal text.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text.len() % 2 != 0 || !text.is_ascii() {
        return Err(D::Error::custom("odd or non-ASCII hexadecimal text"));
    }
    (0..text.len())
        .step_by(2)
        .map(|i| u8::from_str_radix(&text[i..i + 2], 16).map_err(D::Error::custom))
        .collect()
}
