//! JSON to attributes: what is said of a journey has one set of names, docs/nattrace.schema.json.

use std::net::IpAddr;

use nattrace_core::packet::{Endpoint, Family, Packet, protocol};
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, KeyValue};
use serde_json::Value;

/// Attributes, in the order they were added.
#[derive(Debug, Default)]
pub(super) struct Attributes(Vec<KeyValue>);

impl Attributes {
    /// Adds text.
    pub(super) fn text(&mut self, key: &str, value: impl Into<String>) {
        self.any(key, Any::StringValue(value.into()));
    }

    /// Adds a list of texts, unless it is empty.
    pub(super) fn texts<'a>(&mut self, key: &str, values: impl IntoIterator<Item = &'a str>) {
        let values: Vec<_> = values
            .into_iter()
            .map(|value| AnyValue { value: Some(Any::StringValue(value.to_owned())) })
            .collect();
        if !values.is_empty() {
            self.any(key, Any::ArrayValue(ArrayValue { values }));
        }
    }

    /// Adds the members of a value, each by its path behind `key`. What is null is not there; of a list of objects there
    /// are no attributes, as these hold plain values and lists of them.
    pub(super) fn json(&mut self, key: &str, value: &Value) {
        match value {
            Value::Object(members) => {
                for (name, member) in members {
                    self.json(&format!("{key}.{name}"), member);
                }
            }
            Value::Array(items) => {
                let values: Vec<_> =
                    items.iter().filter_map(plain).map(|any| AnyValue { value: Some(any) }).collect();
                if !values.is_empty() {
                    self.any(key, Any::ArrayValue(ArrayValue { values }));
                }
            }
            value => {
                if let Some(any) = plain(value) {
                    self.any(key, any);
                }
            }
        }
    }

    /// The ends of a packet or connection (semantic conventions: `source`, `destination`).
    pub(super) fn ends(&mut self, source: Option<Endpoint>, destination: Option<Endpoint>) {
        self.end("source", source);
        self.end("destination", destination);
    }

    /// `prefix.address` and `prefix.port`.
    pub(super) fn end(&mut self, prefix: &str, end: Option<Endpoint>) {
        let Some(Endpoint { addr, port }) = end else { return };
        self.text(&format!("{prefix}.address"), addr.to_string());
        if let Some(port) = port {
            self.any(&format!("{prefix}.port"), Any::IntValue(port.into()));
        }
    }

    /// What the packet is (semantic conventions: `network`).
    pub(super) fn network(&mut self, packet: &Packet) {
        match packet.family {
            Family::Ipv4 => self.text("network.type", "ipv4"),
            Family::Ipv6 => self.text("network.type", "ipv6"),
            Family::Arp | Family::Other => {}
        }
        self.protocol(packet.protocol);
    }

    /// The family and the protocol of a tuple.
    pub(super) fn tuple(&mut self, addr: IpAddr, number: u8) {
        self.text("network.type", if addr.is_ipv4() { "ipv4" } else { "ipv6" });
        self.protocol(Some(number));
    }

    fn protocol(&mut self, number: Option<u8>) {
        // Only what has ports is a transport.
        let transport = number.filter(|number| protocol::has_ports(*number)).and_then(protocol::name);
        if let Some(transport) = transport {
            self.text("network.transport", transport);
        }
    }

    /// All of them.
    pub(super) fn finish(self) -> Vec<KeyValue> {
        self.0
    }

    fn any(&mut self, key: &str, value: Any) {
        self.0.push(KeyValue {
            key: key.to_owned(),
            value: Some(AnyValue { value: Some(value) }),
            ..KeyValue::default()
        });
    }
}

fn plain(value: &Value) -> Option<Any> {
    Some(match value {
        Value::Bool(value) => Any::BoolValue(*value),
        Value::String(text) => Any::StringValue(text.clone()),
        // Attributes have no unsigned numbers.
        Value::Number(number) => {
            number.as_i64().map_or_else(|| Any::StringValue(number.to_string()), Any::IntValue)
        }
        Value::Null | Value::Array(_) | Value::Object(_) => return None,
    })
}
