//! A rule against a packet.

use super::datum::Found;
use super::value::{Item, Value};
use super::{Datum, Expression, Expressions, Match, Operand, Operator};
use crate::conntrack::Connection;
use crate::event::Verdict;
use crate::packet::Packet;

/// The packet when the rule was evaluated.
#[derive(Debug, Clone, Copy)]
pub struct Moment<'a> {
    /// Its headers then.
    pub packet: &'a Packet,
    /// Device in.
    pub iif: Option<&'a str>,
    /// Device out.
    pub oif: Option<&'a str>,
    /// Whether `iif` and `oif` are what the hook had: then `None` is no device, not an unknown one.
    pub devices_known: bool,
    /// What conntrack knew then; `None` when that is not known.
    pub connection: Option<&'a Connection>,
    /// `skb->mark` then.
    pub mark: Option<u32>,
    /// Type of the destination address (`RTN_*`), where the route told.
    pub destination_type: Option<u8>,
}

/// A question about a named set or map of the rule's table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lookup {
    /// Its name.
    pub set: String,
    /// The key, as nft writes an element: `192.168.70.10 . 22`.
    pub element: String,
}

/// Why a rule does not match.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The expression, as the rule has it.
    pub expression: String,
    /// What the packet has instead: a value, or why it has none.
    pub packet: String,
    /// The set that the key is not in, where that is why.
    pub lookup: Option<Lookup>,
    /// What it asks for.
    pub asks: Asks,
}

/// What an expression that does not hold asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asks {
    /// Another protocol or family: the rule is about other packets.
    AnotherKind,
    /// The state of the connection.
    State,
    /// Another address or port.
    End,
    /// Something else.
    Other,
}

/// What a rule does with a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It matches; where its map of verdicts leads, when it has one.
    Matches(Option<Verdict>),
    /// It does not.
    Fails {
        /// For each of these reasons, in the rule's order.
        failures: Vec<Failure>,
        /// How many expressions that tell packets apart (addresses, ports, devices, marks) hold.
        held: usize,
        /// Parts that may hold or not.
        unknown: Vec<String>,
    },
    /// That depends on these parts of it.
    Unknown(Vec<String>),
}

/// Whether one expression holds.
enum Holds {
    Yes,
    No(Failure),
    Unknown(String),
}

impl Expressions {
    /// Evaluates the rule. `has` says whether a named set has an element, where that is known.
    pub fn judge(&self, moment: &Moment<'_>, has: &dyn Fn(&Lookup) -> Option<bool>) -> Answer {
        let mut failures = Vec::new();
        let mut unknown = Vec::new();
        let mut leads = None;
        let mut held = 0;
        for expression in &self.0 {
            let holds = match expression {
                Expression::Match(wanted) => wanted.judge(moment, has),
                Expression::VerdictMap { key, map, text } => {
                    match_map(key, map, text, moment, has, Some(&mut leads))
                }
                Expression::Unclear { text } => Holds::Unknown(text.clone()),
                Expression::Effect => Holds::Yes,
                Expression::Terminal { map: Some((key, map)), text } => {
                    match_map(key, map, text, moment, has, None)
                }
                Expression::Verdict(_) | Expression::Terminal { map: None, .. } => break,
            };
            match holds {
                Holds::Yes => held += usize::from(expression.tells_apart()),
                Holds::No(failure) => failures.push(failure),
                Holds::Unknown(text) => unknown.push(text),
            }
        }
        // Whatever the others say, one that fails is enough.
        match (failures.is_empty(), unknown.is_empty()) {
            (false, _) => Answer::Fails { failures, held, unknown },
            (true, false) => Answer::Unknown(unknown),
            (true, true) => Answer::Matches(leads),
        }
    }
}

fn match_map(
    key: &[Datum],
    map: &Operand,
    text: &str,
    moment: &Moment<'_>,
    has: &dyn Fn(&Lookup) -> Option<bool>,
    leads: Option<&mut Option<Verdict>>,
) -> Holds {
    let values = match values(key, moment) {
        Ok(values) => values,
        Err(None) => return Holds::Unknown(text.to_owned()),
        Err(Some(absent)) => return lacks(text, absent),
    };
    match map {
        Operand::Items(entries) => match entries.iter().find(|(items, _)| within(items, &values)) {
            Some((_, verdict)) => {
                if let Some(leads) = leads {
                    leads.clone_from(verdict);
                }
                Holds::Yes
            }
            None => no(text, key, &values, None),
        },
        Operand::Named(set) => {
            let lookup = Lookup { set: set.clone(), element: element(&values) };
            match (has(&lookup), &leads) {
                (Some(false), _) => no(text, key, &values, Some(lookup)),
                (Some(true), None) => Holds::Yes,
                // Where it leads is the kernel's to say.
                _ => Holds::Unknown(text.to_owned()),
            }
        }
    }
}

impl Match {
    fn judge(&self, moment: &Moment<'_>, has: &dyn Fn(&Lookup) -> Option<bool>) -> Holds {
        let mut values = match values(&self.key, moment) {
            Ok(values) => values,
            Err(None) => return Holds::Unknown(self.text.clone()),
            Err(Some(absent)) => return lacks(&self.text, absent),
        };
        let told = values.clone();
        if let (Some(mask), [Value::Number(_, number)]) = (self.mask, values.as_mut_slice()) {
            *number &= mask;
        }
        let inside = match &self.operand {
            Operand::Items(entries) => entries.iter().any(|(items, _)| within(items, &values)),
            Operand::Named(set) => {
                let lookup = Lookup { set: set.clone(), element: element(&values) };
                return match (has(&lookup), self.operator) {
                    (Some(true), Operator::Is) | (Some(false), Operator::IsNot) => Holds::Yes,
                    (Some(false), Operator::Is) => no(&self.text, &self.key, &told, Some(lookup)),
                    (Some(true), Operator::IsNot) => no(&self.text, &self.key, &told, None),
                    _ => Holds::Unknown(self.text.clone()),
                };
            }
        };
        let holds = match self.operator {
            Operator::Is => inside,
            Operator::IsNot => !inside,
            compared => {
                let (Some(number), Some((first, last))) = (number(&values), self.bounds()) else {
                    return Holds::Unknown(self.text.clone());
                };
                match compared {
                    Operator::Less => number < first,
                    Operator::LessOrEqual => number <= last,
                    Operator::More => number > last,
                    Operator::MoreOrEqual => number >= first,
                    Operator::AnyOf => number & first != 0,
                    _ => number & first == 0,
                }
            }
        };
        if holds { Holds::Yes } else { no(&self.text, &self.key, &told, None) }
    }

    /// Of the only value that is compared with.
    fn bounds(&self) -> Option<(u128, u128)> {
        let Operand::Items(entries) = &self.operand else { return None };
        match entries.as_slice() {
            [(items, _)] => match items.as_slice() {
                [Item::Range(first, last)] => Some((*first, *last)),
                _ => None,
            },
            _ => None,
        }
    }
}

fn no(text: &str, key: &[Datum], values: &[Value], lookup: Option<Lookup>) -> Holds {
    let asks = match key {
        [Datum::Protocol(_) | Datum::NfProto | Datum::EtherType] => Asks::AnotherKind,
        [Datum::CtState | Datum::CtStatus | Datum::CtDirection] => Asks::State,
        key if key.iter().any(|datum| datum.is_end()) => Asks::End,
        _ => Asks::Other,
    };
    Holds::No(Failure { expression: text.to_owned(), packet: element(values), lookup, asks })
}

fn lacks(text: &str, absent: String) -> Holds {
    Holds::No(Failure { expression: text.to_owned(), packet: absent, lookup: None, asks: Asks::AnotherKind })
}

impl Expression {
    fn tells_apart(&self) -> bool {
        let key = match self {
            Self::Match(wanted) if wanted.operator != Operator::IsNot => &wanted.key,
            Self::VerdictMap { key, .. } | Self::Terminal { map: Some((key, _)), .. } => key,
            _ => return false,
        };
        key.iter().any(|datum| {
            datum.is_end()
                || matches!(datum, Datum::DeviceIn | Datum::DeviceOut | Datum::Mark | Datum::CtMark)
        })
    }
}

fn number(values: &[Value]) -> Option<u128> {
    match values {
        [Value::Number(_, number)] => Some(*number),
        _ => None,
    }
}

/// The key's values; an error says why there is none, where that is known.
fn values(key: &[Datum], moment: &Moment<'_>) -> Result<Vec<Value>, Option<String>> {
    let found: Vec<Found> = key.iter().map(|datum| datum.of(moment)).collect();
    // What is absent makes the whole key so, whatever the rest is.
    let absent = found.iter().find_map(|found| match found {
        Found::Absent(why) => Some(why.clone()),
        _ => None,
    });
    if absent.is_some() {
        return Err(absent);
    }
    found
        .into_iter()
        .map(|found| match found {
            Found::Value(value) => Ok(value),
            Found::Absent(_) | Found::Unknown => Err(None),
        })
        .collect()
}

fn within(items: &[Item], values: &[Value]) -> bool {
    matches!(items, [Item::Any])
        || items.len() == values.len() && items.iter().zip(values).all(|(item, value)| item.has(value))
}

fn element(values: &[Value]) -> String {
    values.iter().map(Value::to_string).collect::<Vec<_>>().join(" . ")
}
