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

impl Failure {
    /// Whether the rule was nearly for the packet, which has so much else in common with it.
    pub(crate) fn is_near(&self, held: usize) -> bool {
        match self.asks {
            Asks::AnotherKind | Asks::State => false,
            Asks::End => true,
            Asks::Other => held > 0,
        }
    }
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
        /// For this reason alone; `None` where there are more, as then it is a rule for other packets.
        only: Option<Failure>,
        /// How many expressions that tell packets apart (addresses, ports, devices, marks) hold, up to the second failure.
        held: usize,
        /// Parts that may hold or not, up to the second failure.
        unknown: Vec<String>,
    },
    /// That depends on these parts of it.
    Unknown(Vec<String>),
}

/// Whether one expression holds.
enum Holds<'a> {
    Yes,
    No(Denied<'a>),
    Unknown(&'a str),
}

/// Why an expression does not hold: put into words when it is the only one of its rule, as of many rules few are so near.
struct Denied<'a> {
    text: &'a str,
    key: &'a [Datum],
    /// What the packet has; an error says why it has none.
    values: Result<Vec<Value>, String>,
    set: Option<&'a str>,
}

impl Denied<'_> {
    fn told(mut self) -> Failure {
        // What has no device is not what a rule about devices is for.
        if let Ok(values) = &self.values
            && let Some(why) = self
                .key
                .iter()
                .zip(values)
                .filter(|(_, v)| v.is_empty())
                .find_map(|(d, _)| d.without_device())
        {
            self.values = Err(why.to_owned());
            self.set = None;
        }
        let asks = match (&self.values, self.key) {
            (Err(_), _) | (_, [Datum::Protocol(_) | Datum::NfProto | Datum::EtherType]) => Asks::AnotherKind,
            (_, [Datum::CtState | Datum::CtStatus | Datum::CtDirection]) => Asks::State,
            (_, key) if key.iter().any(|datum| datum.is_end()) => Asks::End,
            _ => Asks::Other,
        };
        let packet = self.values.map_or_else(|absent| absent, |values| element(&values));
        let lookup = self.set.map(|set| Lookup { set: set.to_owned(), element: packet.clone() });
        Failure { expression: self.text.to_owned(), packet, lookup, asks }
    }
}

impl Expressions {
    /// Evaluates the rule. `has` says whether a named set has an element, where that is known.
    pub fn judge(&self, moment: &Moment<'_>, has: &dyn Fn(&Lookup) -> Option<bool>) -> Answer {
        let (mut denied, mut unknown) = (None, Vec::new());
        let (mut leads, mut held) = (None, 0);
        for expression in &self.0 {
            let holds = match expression {
                Expression::Match(wanted) => wanted.judge(moment, has),
                Expression::VerdictMap { key, map, text } => {
                    match_map(key, map, text, moment, has, Some(&mut leads))
                }
                Expression::Unclear { text } => Holds::Unknown(text),
                Expression::Effect => Holds::Yes,
                Expression::Terminal { map: Some((key, map)), text } => {
                    match_map(key, map, text, moment, has, None)
                }
                Expression::Verdict(_) | Expression::Terminal { map: None, .. } => break,
            };
            match holds {
                Holds::Yes => held += usize::from(expression.tells_apart()),
                Holds::No(why) if denied.is_none() => denied = Some(why),
                Holds::No(_) => return Answer::Fails { only: None, held, unknown },
                Holds::Unknown(text) => unknown.push(text.to_owned()),
            }
        }
        // Whatever the others say, one that fails is enough.
        match (denied, unknown.is_empty()) {
            (Some(why), _) => Answer::Fails { only: Some(why.told()), held, unknown },
            (None, false) => Answer::Unknown(unknown),
            (None, true) => Answer::Matches(leads),
        }
    }
}

fn match_map<'a>(
    key: &'a [Datum],
    map: &'a Operand,
    text: &'a str,
    moment: &Moment<'_>,
    has: &dyn Fn(&Lookup) -> Option<bool>,
    leads: Option<&mut Option<Verdict>>,
) -> Holds<'a> {
    let values = match values(key, moment) {
        Ok(values) => values,
        Err(None) => return Holds::Unknown(text),
        Err(Some(absent)) => return no(text, key, Err(absent), None),
    };
    match map {
        Operand::Items(entries) => match entries.iter().find(|(items, _)| within(items, &values)) {
            Some((_, verdict)) => {
                if let Some(leads) = leads {
                    leads.clone_from(verdict);
                }
                Holds::Yes
            }
            None => no(text, key, Ok(values), None),
        },
        Operand::Named(set) => {
            match (holds_element(set, &values, has), &leads) {
                (Some(false), _) => no(text, key, Ok(values), Some(set)),
                (Some(true), None) => Holds::Yes,
                // Where it leads is the kernel's to say.
                _ => Holds::Unknown(text),
            }
        }
    }
}

impl Match {
    fn judge(&self, moment: &Moment<'_>, has: &dyn Fn(&Lookup) -> Option<bool>) -> Holds<'_> {
        let told = match values(&self.key, moment) {
            Ok(values) => values,
            Err(None) => return Holds::Unknown(&self.text),
            Err(Some(absent)) => return no(&self.text, &self.key, Err(absent), None),
        };
        let masked = self.mask.and_then(|mask| match told.as_slice() {
            [Value::Number(kind, number)] => Some([Value::Number(*kind, number & mask)]),
            _ => None,
        });
        let values = masked.as_ref().map_or(told.as_slice(), |masked| masked);
        let inside = match &self.operand {
            Operand::Items(entries) => entries.iter().any(|(items, _)| within(items, values)),
            Operand::Named(set) => {
                return match (holds_element(set, values, has), self.operator) {
                    (Some(true), Operator::Is) | (Some(false), Operator::IsNot) => Holds::Yes,
                    (Some(false), Operator::Is) => no(&self.text, &self.key, Ok(told), Some(set)),
                    (Some(true), Operator::IsNot) => no(&self.text, &self.key, Ok(told), None),
                    _ => Holds::Unknown(&self.text),
                };
            }
        };
        let holds = match self.operator {
            Operator::Is => inside,
            Operator::IsNot => !inside,
            compared => {
                let (Some(number), Some((first, last))) = (number(values), self.bounds()) else {
                    return Holds::Unknown(&self.text);
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
        if holds { Holds::Yes } else { no(&self.text, &self.key, Ok(told), None) }
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

fn no<'a>(
    text: &'a str,
    key: &'a [Datum],
    values: Result<Vec<Value>, String>,
    set: Option<&'a str>,
) -> Holds<'a> {
    Holds::No(Denied { text, key, values, set })
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

/// Whether a named set has an element. None has a device without a name.
fn holds_element(set: &str, values: &[Value], has: &dyn Fn(&Lookup) -> Option<bool>) -> Option<bool> {
    if values.iter().any(Value::is_empty) {
        return Some(false);
    }
    has(&Lookup { set: set.to_owned(), element: element(values) })
}

fn number(values: &[Value]) -> Option<u128> {
    match values {
        [Value::Number(_, number)] => Some(*number),
        _ => None,
    }
}

/// The key's values; an error says why there is none, where that is known.
fn values(key: &[Datum], moment: &Moment<'_>) -> Result<Vec<Value>, Option<String>> {
    let mut values = Vec::with_capacity(key.len());
    let mut unknown = false;
    for datum in key {
        match datum.of(moment) {
            Found::Value(value) => values.push(value),
            // What is absent makes the whole key so, whatever the rest is.
            Found::Absent(why) => return Err(Some(why)),
            Found::Unknown => unknown = true,
        }
    }
    if unknown { Err(None) } else { Ok(values) }
}

fn within(items: &[Item], values: &[Value]) -> bool {
    matches!(items, [Item::Any])
        || items.len() == values.len() && items.iter().zip(values).all(|(item, value)| item.has(value))
}

fn element(values: &[Value]) -> String {
    values.iter().map(Value::to_string).collect::<Vec<_>>().join(" . ")
}
