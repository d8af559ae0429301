//! `${NAME}` in strings: the variant's variables at load time, the laboratory's at run time.

use anyhow::{Result, bail};
use serde_json::Value;

/// Replaces every `${NAME}` for which `lookup` has a value. A string that is nothing but one `${NAME}` becomes
/// the value itself, so that numbers stay numbers. Unknown names stay as they are.
fn fill_string(text: &str, lookup: &impl Fn(&str) -> Option<Value>) -> Value {
    if let Some(name) = text.strip_prefix("${").and_then(|rest| rest.strip_suffix('}'))
        && !name.contains('}')
        && let Some(value) = lookup(name)
    {
        return value;
    }
    let mut out = String::new();
    let mut rest = text;
    while let Some(begin) = rest.find("${") {
        let Some(length) = rest[begin..].find('}') else { break };
        let name = &rest[begin + 2..begin + length];
        out.push_str(&rest[..begin]);
        match lookup(name) {
            Some(Value::String(value)) => out.push_str(&value),
            Some(value) => out.push_str(&value.to_string()),
            None => out.push_str(&rest[begin..=begin + length]),
        }
        rest = &rest[begin + length + 1..];
    }
    out.push_str(rest);
    Value::String(out)
}

/// [`fill_string`] for every string inside `value`.
pub(super) fn fill(value: &Value, lookup: &impl Fn(&str) -> Option<Value>) -> Value {
    match value {
        Value::String(text) => fill_string(text, lookup),
        Value::Array(list) => Value::Array(list.iter().map(|item| fill(item, lookup)).collect()),
        Value::Object(map) => {
            Value::Object(map.iter().map(|(key, item)| (key.clone(), fill(item, lookup))).collect())
        }
        other => other.clone(),
    }
}

/// As [`fill`], but a name that nobody knows is an error: at run time nobody else would fill it in.
pub(crate) fn substitute(value: &Value, lookup: &impl Fn(&str) -> Option<Value>) -> Result<Value> {
    let filled = fill(value, lookup);
    let text = filled.to_string();
    if let Some(begin) = text.find("${") {
        let name: String = text[begin..].chars().take_while(|c| *c != '"').take(40).collect();
        bail!("nothing is known by the name in `{name}`");
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn known(name: &str) -> Option<Value> {
        match name {
            "port" => Some(json!(22)),
            "addr" => Some(json!("fd00::1")),
            _ => None,
        }
    }

    #[test]
    fn a_lone_variable_keeps_its_type() {
        assert_eq!(fill(&json!({"dport": "${port}"}), &known), json!({"dport": 22}));
        assert_eq!(fill(&json!(["[${addr}]:${port}"]), &known), json!(["[fd00::1]:22"]));
    }

    #[test]
    fn unknown_names_stay_or_are_refused() {
        assert_eq!(fill(&json!("a ${b} ${port}"), &known), json!("a ${b} 22"));
        assert!(substitute(&json!("a ${b}"), &known).is_err());
        assert!(substitute(&json!("a ${port}"), &known).is_ok());
        assert_eq!(fill(&json!("half ${open"), &known), json!("half ${open"));
    }
}
