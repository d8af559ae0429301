//! `nattrace check`: what this kernel and these privileges allow, and what each missing thing costs.

use std::io;

use serde::Serialize;

use super::json::line;
use super::layout::{Layout, Lines, Row};
use super::style::{Role, Span};

/// One thing that nattrace can use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capability {
    /// Short, stable: `probes`, `nft-trace`, `owner-table`.
    pub name: String,
    /// What it is good for.
    pub what: String,
    /// Whether it is there.
    pub state: State,
    /// What the user loses without it.
    pub cost: String,
}

/// Whether a capability is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// It is; with a word on how, or nothing.
    On(String),
    /// It is not, for this reason.
    Off(String),
    /// It cannot be tried here, for this reason.
    Unknown(String),
}

/// A block for each capability: what it gives, and where it is missing why, and what that costs.
pub(super) fn text(capabilities: &[Capability], layout: Layout) -> Lines {
    let mut out = Lines::default();
    for capability in capabilities {
        let (role, sign) = match capability.state {
            State::On(_) => (Role::Pass, "✓"),
            State::Off(_) => (Role::Drop, "✗"),
            State::Unknown(_) => (Role::Warn, "?"),
        };
        let sign = Span::new(role, sign);
        let name = Span::new(Role::Title, &capability.name);
        let mut rows = vec![(Some(name), Role::Plain, capability.what.clone())];
        match &capability.state {
            State::On(how) if how.is_empty() => {}
            State::On(how) => rows.push((None, Role::Faint, how.clone())),
            State::Off(why) => {
                rows.push((None, Role::Plain, format!("missing: {why}")));
                rows.push((None, Role::Warn, format!("without it: {}", capability.cost)));
            }
            State::Unknown(why) => {
                rows.push((None, Role::Plain, format!("not known: {why}")));
                rows.push((None, Role::Warn, format!("without it: {}", capability.cost)));
            }
        }
        let names = capabilities.iter().map(|c| Span::new(Role::Title, &c.name).width()).max().unwrap_or(0);
        for (i, (name, role, told)) in rows.into_iter().enumerate() {
            let sign = if i == 0 { sign.clone() } else { Span::new(Role::Plain, "") };
            let label = name.unwrap_or_else(|| Span::new(Role::Plain, ""));
            let row = Row { label, place: None, text: vec![Span::new(role, told)] };
            layout.table_row(&sign, &row, names, &mut out);
        }
    }
    out
}

/// One line of JSON for each capability.
pub(super) fn json(capabilities: &[Capability]) -> io::Result<Vec<u8>> {
    #[derive(Serialize)]
    struct Body<'a> {
        name: &'a str,
        what: &'a str,
        state: &'static str,
        detail: Option<&'a str>,
        reason: Option<&'a str>,
        cost: &'a str,
    }
    let mut bytes = Vec::new();
    for Capability { name, what, state, cost } in capabilities {
        let (state, detail, reason) = match state {
            State::On(how) => ("on", Some(how.as_str()).filter(|how| !how.is_empty()), None),
            State::Off(reason) => ("off", None, Some(reason.as_str())),
            State::Unknown(reason) => ("unknown", None, Some(reason.as_str())),
        };
        bytes.extend(line("capability", Body { name, what, state, detail, reason, cost })?);
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Vec<Capability> {
        let capability = |name: &str, what: &str, state, cost: &str| Capability {
            name: name.to_owned(),
            what: what.to_owned(),
            state,
            cost: cost.to_owned(),
        };
        vec![
            capability(
                "nft",
                "trace messages of nf_tables: the rules a packet matched",
                State::On("since 4.6".to_owned()),
                "no rules",
            ),
            capability(
                "tracepoints",
                "devices, drops with the kernel's reason, the end of a packet",
                State::Off("the kernel is locked down (integrity)".to_owned()),
                "a drop outside of rules shows as \"lost sight of\", and no kernel reason is known for any other",
            ),
            capability(
                "owner",
                "a table that goes when nattrace goes",
                State::Unknown("trying needs a namespace of its own".to_owned()),
                "a private namespace is used",
            ),
        ]
    }

    #[test]
    fn a_table_for_people() {
        assert_eq!(
            text(&sample(), Layout::new(Some(80))).paint(false),
            "\
✓ nft          trace messages of nf_tables: the rules a packet matched
               since 4.6
✗ tracepoints  devices, drops with the kernel's reason, the end of a packet
               missing: the kernel is locked down (integrity)
               without it: a drop outside of rules shows as \"lost sight of\", and
               no kernel reason is known for any other
? owner        a table that goes when nattrace goes
               not known: trying needs a namespace of its own
               without it: a private namespace is used
"
        );
    }

    #[test]
    fn a_line_for_programs() {
        let lines = String::from_utf8(json(&sample()).unwrap()).unwrap();
        assert_eq!(lines.lines().count(), 3);
        assert_eq!(
            lines.lines().next().unwrap(),
            "{\"schema\":1,\"type\":\"capability\",\"name\":\"nft\",\"what\":\"trace messages of nf_tables: the rules a \
             packet matched\",\"state\":\"on\",\"detail\":\"since 4.6\",\"reason\":null,\"cost\":\"no rules\"}"
        );
        assert!(lines.contains(
            "\"state\":\"off\",\"detail\":null,\"reason\":\"the kernel is locked down (integrity)\""
        ));
    }
}
