//! Patterns over JSON, and differences that can be read.
//!
//! A pattern is JSON itself. An object matches an object that has at least its members. An array of scalars
//! matches an equal array, in any order; an array with objects matches when they match an ordered
//! sub-sequence. Strings may be operators:
//!
//! | pattern | matches |
//! |---|---|
//! | `"*"` | anything but null |
//! | `"-"` | null or absent |
//! | `"~text"` | a string that contains `text`; an array with an element that equals `text` |
//! | `">=N"` | a number that is at least N |
//! | `{ any = [P, Q] }` | what P or Q matches |
//! | `{ not = P }` | what P does not match |

use serde_json::Value;

/// Whether `pattern` matches.
pub(crate) fn matches(pattern: &Value, actual: &Value) -> bool {
    differences(pattern, actual).is_empty()
}

/// What is different, one line each; empty when the pattern matches.
pub(crate) fn differences(pattern: &Value, actual: &Value) -> Vec<String> {
    let mut found = Vec::new();
    compare(pattern, Some(actual), "", &mut found);
    found
}

fn compare(pattern: &Value, actual: Option<&Value>, path: &str, found: &mut Vec<String>) {
    let actual = actual.filter(|value| !value.is_null());
    let mut differ = |wanted: &str| {
        let came = actual.map_or_else(|| "nothing".to_owned(), ToString::to_string);
        let path = if path.is_empty() { "value" } else { path };
        found.push(format!("{path}: expected {wanted}, came {came}"));
    };
    match pattern {
        Value::Null => {}
        Value::Object(members) => {
            if let (1, Some(Value::Array(choices))) = (members.len(), members.get("any")) {
                if !choices.iter().any(|choice| matches(choice, actual.unwrap_or(&Value::Null))) {
                    differ(&format!("any of {}", Value::Array(choices.clone())));
                }
                return;
            }
            if let (1, Some(unwanted)) = (members.len(), members.get("not")) {
                if matches(unwanted, actual.unwrap_or(&Value::Null)) {
                    differ(&format!("anything but {unwanted}"));
                }
                return;
            }
            match actual {
                Some(Value::Object(actual)) => {
                    for (key, pattern) in members {
                        compare(pattern, actual.get(key), &join(path, key), found);
                    }
                }
                // An object of nothing but "-" is satisfied by an absent object.
                None if members.values().all(|member| member == "-") => {}
                _ => differ(&pattern.to_string()),
            }
        }
        Value::Array(patterns) => match actual {
            Some(Value::Array(items)) if patterns.iter().any(Value::is_object) => {
                if let Err(missing) = subsequence(patterns, items) {
                    differ(&format!("(in order) element {} {}", missing + 1, patterns[missing]));
                }
            }
            Some(Value::Array(items)) if same_elements(patterns, items) => {}
            _ => differ(&pattern.to_string()),
        },
        Value::String(text) => {
            if let Some(wanted) = unequal_string(text, actual) {
                differ(&wanted);
            }
        }
        Value::Bool(_) | Value::Number(_) => {
            if actual != Some(pattern) {
                differ(&pattern.to_string());
            }
        }
    }
}

/// What was wanted, when the string pattern does not match.
fn unequal_string(pattern: &str, actual: Option<&Value>) -> Option<String> {
    let (ok, wanted) = if pattern == "*" {
        (actual.is_some(), "anything".to_owned())
    } else if pattern == "-" {
        (actual.is_none(), "nothing".to_owned())
    } else if let Some(part) = pattern.strip_prefix('~') {
        let ok = match actual {
            Some(Value::String(text)) => text.contains(part),
            Some(Value::Array(items)) => items.iter().any(|item| item == part),
            _ => false,
        };
        (ok, format!("something with \"{part}\""))
    } else if let Some(least) = pattern.strip_prefix(">=").and_then(|number| number.parse::<f64>().ok()) {
        (actual.and_then(Value::as_f64).is_some_and(|number| number >= least), format!("at least {least}"))
    } else {
        (actual.is_some_and(|actual| actual == pattern), format!("\"{pattern}\""))
    };
    (!ok).then_some(wanted)
}

/// Matches `patterns` one after another against `items`, leaving items out; on failure, the index of the
/// first pattern that found none.
pub(crate) fn subsequence(patterns: &[Value], items: &[Value]) -> Result<(), usize> {
    let mut rest = items.iter();
    for (index, pattern) in patterns.iter().enumerate() {
        if !rest.any(|item| matches(pattern, item)) {
            return Err(index);
        }
    }
    Ok(())
}

fn same_elements(patterns: &[Value], items: &[Value]) -> bool {
    let sorted = |list: &[Value]| {
        let mut list: Vec<String> = list.iter().map(ToString::to_string).collect();
        list.sort();
        list
    };
    sorted(patterns) == sorted(items)
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn journey() -> Value {
        json!({
            "packet": {"saddr": "10.2.1.2", "dport": 1222, "tcp_flags": ["syn", "ack"]},
            "retransmission_of": null,
            "steps": [
                {"kind": "rule", "chain": "prerouting", "text": "tcp dport 1222 dnat ip to 192.168.70.10:22"},
                {"kind": "rewrite", "nat": "dnat"},
                {"kind": "rule", "chain": "forward", "text": "drop"},
            ],
        })
    }

    #[track_caller]
    fn yes(pattern: &Value) {
        assert_eq!(differences(pattern, &journey()), Vec::<String>::new());
    }

    #[track_caller]
    fn no(pattern: &Value, says: &str) {
        let found = differences(pattern, &journey());
        assert!(found.iter().any(|line| line.contains(says)), "{found:?} does not say {says}");
    }

    #[test]
    fn subsets_match_and_wrong_values_do_not() {
        yes(&json!({"packet": {"dport": 1222}}));
        yes(&json!({}));
        no(&json!({"packet": {"dport": 1223}}), "packet.dport: expected 1223, came 1222");
        no(&json!({"packet": {"dport": "1222"}}), "packet.dport");
        no(&json!({"packet": {"sport": 1}}), "packet.sport: expected 1, came nothing");
        no(&json!({"connection": {"id": 1}}), "connection: expected");
    }

    #[test]
    fn arrays_of_scalars_are_sets() {
        yes(&json!({"packet": {"tcp_flags": ["ack", "syn"]}}));
        no(&json!({"packet": {"tcp_flags": ["syn"]}}), "tcp_flags");
        yes(&json!({"packet": {"tcp_flags": "~syn"}}));
        no(&json!({"packet": {"tcp_flags": "~fin"}}), "tcp_flags");
    }

    #[test]
    fn steps_match_in_order() {
        let rule = |chain: &str| json!({"kind": "rule", "chain": chain});
        yes(&json!({"steps": [rule("prerouting"), rule("forward")]}));
        no(&json!({"steps": [rule("forward"), rule("prerouting")]}), "element 2");
        no(&json!({"steps": [rule("input")]}), "element 1");
        // One step cannot serve two patterns.
        no(&json!({"steps": [rule("forward"), rule("forward")]}), "element 2");
    }

    #[test]
    fn operators() {
        yes(&json!({"packet": {"saddr": "*", "dport": ">=1000"}, "retransmission_of": "-"}));
        no(&json!({"packet": {"dport": ">=1223"}}), "at least 1223");
        no(&json!({"retransmission_of": "*"}), "expected anything, came nothing");
        no(&json!({"packet": {"saddr": "-"}}), "expected nothing");
        yes(&json!({"steps": [{"text": "~dnat ip"}]}));
        no(&json!({"steps": [{"text": "~snat"}]}), "element 1");
        yes(&json!({"packet": {"dport": {"any": [22, 1222]}}}));
        no(&json!({"packet": {"dport": {"any": [22, 23]}}}), "any of");
        yes(&json!({"packet": {"dport": {"not": 22}}}));
        no(&json!({"packet": {"dport": {"not": 1222}}}), "anything but");
    }
}
