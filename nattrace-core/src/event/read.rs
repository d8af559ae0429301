//! Reading events from a recording. What serde derives for a tagged or flattened value keeps all of it aside first, which
//! takes several times as long as reading it. Here what an event is is known before its members are read, as they are
//! written in that order; in any other order they are read all the same, as slowly.

use std::borrow::Cow;
use std::fmt;

use serde::de::value::{CowStrDeserializer, MapAccessDeserializer};
use serde::de::{DeserializeSeed, Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use super::{Body, Event, NftTrace, PacketId, TraceMessage};

/// A member's name, not copied where the input has it as it is.
#[derive(Deserialize)]
#[serde(transparent)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de> Deserialize<'de> for Event {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(EventVisitor)
    }
}

struct EventVisitor;

impl<'de> Visitor<'de> for EventVisitor {
    type Value = Event;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an event")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Event, A::Error> {
        let (mut time_ns, mut cpu, mut netns) = (None, None, None);
        let mut others = Map::new();
        let body = loop {
            let Some(Name(name)) = map.next_key()? else {
                break Body::deserialize(Value::Object(others)).map_err(A::Error::custom)?;
            };
            match &*name {
                "t" => time_ns = Some(map.next_value()?),
                "cpu" => cpu = Some(map.next_value()?),
                "netns" => netns = Some(map.next_value()?),
                "event" if time_ns.is_some() && cpu.is_some() && netns.is_some() && others.is_empty() => {
                    let Name(kind) = map.next_value()?;
                    break body(kind, map)?;
                }
                _ => {
                    others.insert(name.into_owned(), map.next_value()?);
                }
            }
        };
        Ok(Event {
            time_ns: time_ns.ok_or_else(|| A::Error::missing_field("t"))?,
            cpu: cpu.ok_or_else(|| A::Error::missing_field("cpu"))?,
            netns: netns.ok_or_else(|| A::Error::missing_field("netns"))?,
            body,
        })
    }
}

/// What an event of this kind says: the members that are left.
fn body<'de, A: MapAccess<'de>>(kind: Cow<'_, str>, map: A) -> Result<Body, A::Error> {
    fn rest<'de, T: Deserialize<'de>, A: MapAccess<'de>>(map: A) -> Result<T, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map))
    }
    Ok(match &*kind {
        "hook" => Body::Hook(rest(map)?),
        "hook_return" => Body::HookReturn(rest(map)?),
        "rewrite" => Body::Rewrite(rest(map)?),
        "nft_trace" => Body::NftTrace(rest(map)?),
        "receive" => Body::Receive(rest(map)?),
        "transmit" => Body::Transmit(rest(map)?),
        "deliver" => Body::Deliver(rest(map)?),
        "drop" => Body::Drop(rest(map)?),
        "conntrack" => Body::Conntrack(rest(map)?),
        "ruleset" => Body::Ruleset(rest(map)?),
        "clock" => {
            #[derive(Deserialize)]
            struct Clock {
                #[serde(default)]
                quiet: bool,
            }
            let Clock { quiet } = rest(map)?;
            Body::Clock { quiet }
        }
        // The rest is rare.
        _ => {
            let mut members: Map<String, Value> = rest(map)?;
            members.insert("event".to_owned(), kind.into());
            Body::deserialize(Value::Object(members)).map_err(A::Error::custom)?
        }
    })
}

impl<'de> Deserialize<'de> for NftTrace {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(NftTraceVisitor)
    }
}

struct NftTraceVisitor;

impl<'de> Visitor<'de> for NftTraceVisitor {
    type Value = NftTrace;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a trace message")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<NftTrace, A::Error> {
        let mut joined = Joined::default();
        let message = Beside { map, joined: &mut joined };
        let message = TraceMessage::deserialize(MapAccessDeserializer::new(message))?;
        let Joined { packet, hint, table_handle } = joined;
        Ok(NftTrace { packet, hint, table_handle, message })
    }
}

/// What stands beside a message's own members.
#[derive(Default)]
struct Joined {
    packet: Option<PacketId>,
    hint: Option<PacketId>,
    table_handle: Option<u64>,
}

/// A message's members, without those that are taken out on the way.
struct Beside<'a, A> {
    map: A,
    joined: &'a mut Joined,
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Beside<'_, A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, A::Error> {
        while let Some(Name(name)) = self.map.next_key()? {
            match &*name {
                "packet" => self.joined.packet = self.map.next_value()?,
                "hint" => self.joined.hint = self.map.next_value()?,
                "table_handle" => self.joined.table_handle = self.map.next_value()?,
                _ => return seed.deserialize(CowStrDeserializer::new(name)).map(Some),
            }
        }
        Ok(None)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, A::Error> {
        self.map.next_value_seed(seed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every event of a recording, its members in another order: by name, and the other way round.
    #[test]
    fn the_order_of_members_says_nothing() {
        let recording = include_str!("../../tests/recordings/full-namespaces.jsonl");
        let mut kinds = std::collections::BTreeSet::new();
        for line in recording.lines().skip(1) {
            let event: Event = serde_json::from_str(line).expect("an event");
            let members: Map<String, Value> = serde_json::from_str(line).expect("an object");
            kinds.insert(members["event"].to_string());
            let written: Vec<String> =
                members.iter().map(|(name, value)| format!("{name:?}:{value}")).collect();
            for order in [written.clone(), written.into_iter().rev().collect()] {
                let line = format!("{{{}}}", order.join(","));
                assert_eq!(serde_json::from_str::<Event>(&line).expect("an event"), event, "{line}");
            }
        }
        assert!(kinds.len() > 8, "{kinds:?}");
    }

    #[test]
    fn what_is_no_event_is_refused() {
        for line in [
            r#"{"t":1,"cpu":0,"netns":1}"#,
            r#"{"t":1,"cpu":0,"netns":1,"event":"unheard_of"}"#,
            r#"{"cpu":0,"netns":1,"event":"clock"}"#,
            r#"{"t":1,"cpu":0,"netns":1,"event":"hook"}"#,
            r#"{"t":-1,"cpu":0,"netns":1,"event":"clock"}"#,
        ] {
            assert!(serde_json::from_str::<Event>(line).is_err(), "{line}");
        }
    }
}
