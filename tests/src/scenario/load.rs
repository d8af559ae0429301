//! From a directory of scenarios to values.

use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::Value;

use super::{Scenario, Script, template};

/// The file in every scenario's directory.
const FILE: &str = "scenario.toml";

/// All scenarios below `dir`, sorted by name.
pub(crate) fn all(dir: &Path) -> Result<Vec<Scenario>> {
    let entries = std::fs::read_dir(dir).with_context(|| format!("no scenarios in {}", dir.display()))?;
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.with_context(|| format!("{} cannot be listed", dir.display()))?.path();
        let file = path.join(FILE);
        if !file.exists() {
            continue;
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let text =
            std::fs::read_to_string(&file).with_context(|| format!("{} cannot be read", file.display()))?;
        let scripts = parse(&text).with_context(|| format!("{} is no scenario", file.display()))?;
        for (variant, script) in scripts {
            let name = variant.map_or_else(|| name.clone(), |variant| format!("{name}/{variant}"));
            found.push(Scenario { name, dir: path.clone(), script });
        }
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    if found.is_empty() {
        bail!("no scenarios in {}", dir.display());
    }
    Ok(found)
}

/// One script, or one for each entry of `[variants]`, whose variables are filled in; each may have `thorough`, `once` and
/// `sample`, too. Those that a variant does not have are in `[defaults]`, and may be made of the variant's own.
fn parse(text: &str) -> Result<Vec<(Option<String>, Script)>> {
    let value: Value = toml::from_str(text)?;
    let Value::Object(mut table) = value else { bail!("not a table") };
    let defaults = table.remove("defaults").unwrap_or_default();
    match table.remove("variants") {
        None => Ok(vec![(None, script(Value::Object(table))?)]),
        Some(Value::Object(variants)) => {
            let body = Value::Object(table);
            variants
                .iter()
                .map(|(name, variables)| {
                    let variables = variables.as_object().context("a variant is a table of variables")?;
                    let own = |key: &str| variables.get(key).cloned();
                    let default = |key: &str| defaults.get(key).map(|value| template::fill(value, &own));
                    let filled = template::fill(&body, &|key| own(key).or_else(|| default(key)));
                    let mut script = script(filled).with_context(|| format!("variant {name}"))?;
                    script.thorough |= variables.get("thorough") == Some(&Value::Bool(true));
                    script.sample |= variables.get("sample") == Some(&Value::Bool(true));
                    script.once |= variables.get("once") == Some(&Value::Bool(true));
                    Ok((Some(name.clone()), script))
                })
                .collect()
        }
        Some(_) => bail!("`variants` is a table of tables"),
    }
}

fn script(value: Value) -> Result<Script> {
    Ok(Script::deserialize(value)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::Action;

    const HEAD: &str = "about = 'x'\ntopology = 'host'\n";

    #[test]
    fn variants_fill_their_variables_in() {
        let text = format!(
            "{HEAD}[[action]]\ndo = 'connect'\nat = 'client'\nproto = '${{p}}'\nto = '${{a}}:9'\nmet = 'timeout'\n\
             [variants]\nu4 = {{ p = 'udp', a = '10.0.0.1' }}\nt6 = {{ p = 'tcp', a = '[fd00::1]' }}\n"
        );
        let scripts = parse(&text).expect("two variants");
        let names: Vec<_> = scripts.iter().filter_map(|(name, _)| name.as_deref()).collect();
        assert_eq!(names, ["t6", "u4"]);
        let Action::Connect { to, .. } = &scripts[0].1.actions[0] else { panic!("a connect") };
        assert_eq!(to.to_string(), "[fd00::1]:9");
    }

    #[test]
    fn a_misspelt_key_is_refused() {
        for line in [
            "do = 'sleep'\nsecond = 1.0",
            "do = 'expect'\nexit = 1\njourney = []",
            "do = 'trace'\nargs = []\nat_ = 'x'",
        ] {
            assert!(parse(&format!("{HEAD}[[action]]\n{line}\n")).is_err(), "{line}");
        }
        assert!(parse(&format!("{HEAD}need = []\n[[action]]\ndo = 'sleep'\nseconds = 1.0\n")).is_err());
        assert!(parse(&format!("{HEAD}[[action]]\ndo = 'sleep'\nseconds = 1.0\n")).is_ok());
    }

    /// Every scenario in the tree is well-formed, and says what it proves.
    #[test]
    fn the_scenarios_of_this_package_load() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
        for scenario in all(&dir).expect("scenarios") {
            assert!(scenario.script.about.len() > 20, "{} does not say what it is about", scenario.name);
            for file in scenario.script.rulesets.values() {
                assert!(scenario.dir.join(file).exists(), "{}: no file {file}", scenario.name);
            }
        }
    }
}
