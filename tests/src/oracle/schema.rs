//! The published schema of JSON output: every line is what it says, and nothing that it does not say.

use std::sync::OnceLock;

use jsonschema::Validator;
use serde_json::{Value, json};

/// What programs are promised.
const PUBLISHED: &str = include_str!("../../../docs/nattrace.schema.json");

/// What is wrong with a line.
pub(crate) fn complaint(line: &Value) -> Option<String> {
    static STRICT: OnceLock<Result<Validator, String>> = OnceLock::new();
    let strict = STRICT.get_or_init(|| {
        let mut schema: Value = serde_json::from_str(PUBLISHED).map_err(|error| error.to_string())?;
        close(&mut schema);
        jsonschema::validator_for(&schema).map_err(|error| error.to_string())
    });
    match strict {
        Ok(strict) if strict.is_valid(line) => None,
        Ok(strict) => Some(said(strict, line)),
        Err(error) => Some(format!("the schema itself: {error}")),
    }
}

fn said(strict: &Validator, line: &Value) -> String {
    let errors: Vec<String> = strict
        .iter_errors(line)
        .take(3)
        .map(|error| format!("{}: {error}", error.instance_path).chars().take(300).collect())
        .collect();
    format!("not as the schema says ({}): {line}", errors.join("; "))
}

/// A reader is to ignore members that it does not know; what this program writes is all in the schema.
fn close(schema: &mut Value) {
    match schema {
        Value::Object(members) => {
            if members.contains_key("properties") {
                members.entry("additionalProperties").or_insert(json!(false));
            }
            members.iter_mut().for_each(|(_, member)| close(member));
        }
        Value::Array(items) => items.iter_mut().for_each(close),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Map;

    use super::*;

    fn summary() -> Map<String, Value> {
        let line = json!({
            "schema": 1, "type": "summary", "selected": 1, "rate_limited": null, "causes": [],
            "journeys": {
                "total": 1, "dropped": 1, "delivered": 0, "transmitted": 0, "queued": 0, "consumed": 0,
                "unfinished": 0, "retransmissions": 0,
            },
            "sources": { "nft": { "received": 1, "lost": 0 } },
        });
        line.as_object().expect("an object").clone()
    }

    #[test]
    fn what_the_schema_does_not_have_is_noticed() {
        assert_eq!(complaint(&Value::Object(summary())), None);
        let mut more = summary();
        more.insert("extra".to_owned(), json!(1));
        let mut less = summary();
        less.remove("causes");
        let mut other = summary();
        other.insert("selected".to_owned(), json!("many"));
        for wrong in [more, less, other] {
            assert!(complaint(&Value::Object(wrong.clone())).is_some(), "{wrong:?}");
        }
    }
}
