//! Who tells: the resource of all spans (semantic conventions: `service`, `host`, `os`).

use opentelemetry_proto::tonic::resource::v1::Resource;

use super::attributes::Attributes;

/// The name under which a host is known in resource attributes.
const HOST: &str = "host.name";

/// What the environment says, and what is known where that says nothing. `host`: the machine that the packets passed,
/// and `kernel`: its kernel's release, where they are known.
pub(super) fn resource(named: &[(String, String)], host: Option<&str>, kernel: Option<&str>) -> Resource {
    let known = [
        ("service.name", Some(env!("CARGO_PKG_NAME"))),
        ("service.version", Some(env!("CARGO_PKG_VERSION"))),
        (HOST, host),
        ("os.type", Some("linux")),
        ("nattrace.kernel", kernel),
    ];
    let mut attributes = Attributes::default();
    for (name, value) in known {
        if let Some(value) = value.filter(|_| named.iter().all(|(other, _)| other != name)) {
            attributes.text(name, value);
        }
    }
    for (name, value) in named {
        attributes.text(name, value.as_str());
    }
    Resource { attributes: attributes.finish(), ..Resource::default() }
}

/// What the host is called in ids, as in the attribute; nothing where it is not known.
pub(super) fn host_name(named: &[(String, String)], host: Option<&str>) -> String {
    let named = named.iter().find(|(name, _)| name == HOST).map(|(_, value)| value.as_str());
    named.or(host).unwrap_or_default().to_owned()
}
