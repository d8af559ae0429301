//! `--otlp`, and the environment variables that every program that speaks OTLP obeys
//! (OpenTelemetry specification, "OTLP Exporter Configuration" and "Resource SDK").

use std::fmt;

use percent_encoding::percent_decode_str;
use ureq::http::uri::PathAndQuery;
use ureq::http::{HeaderName, HeaderValue, Uri};

use super::mistake::Mistake;
use super::values;

/// Where traces go, and what goes with them.
#[derive(Clone, PartialEq, Eq)]
pub struct Otlp {
    /// Where each request is posted to: scheme, host, port and path are there.
    pub url: String,
    /// Headers of each request, `OTEL_EXPORTER_OTLP_HEADERS`. They may hold secrets.
    pub headers: Vec<(String, String)>,
    /// What this machine or service is called, `OTEL_RESOURCE_ATTRIBUTES` and `OTEL_SERVICE_NAME`.
    pub resource: Vec<(String, String)>,
}

impl fmt::Debug for Otlp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let headers: Vec<_> = self.headers.iter().map(|(name, _)| name).collect();
        let Self { url, resource, .. } = self;
        f.debug_struct("Otlp")
            .field("url", url)
            .field("headers", &headers)
            .field("resource", resource)
            .finish()
    }
}

/// The flag's value, with what the environment adds.
pub(super) fn resolve(typed: &str, env: impl Fn(&str) -> Option<String>) -> Result<Otlp, Mistake> {
    let url = values::one("--otlp", typed, url)?;
    let set = |name: &'static str| Some((name, env(name).filter(|value| !value.trim().is_empty())?));
    let headers = set("OTEL_EXPORTER_OTLP_TRACES_HEADERS").or_else(|| set("OTEL_EXPORTER_OTLP_HEADERS"));
    let headers = headers.map_or(Ok(Vec::new()), |(name, value)| {
        let headers = pairs(name, &value)?;
        let is_header = |(name, value): &(String, String)| {
            name.parse::<HeaderName>().is_ok() && value.parse::<HeaderValue>().is_ok()
        };
        if headers.iter().all(is_header) { Ok(headers) } else { Err(no_pairs(name)) }
    })?;
    let mut resource =
        set("OTEL_RESOURCE_ATTRIBUTES").map_or(Ok(Vec::new()), |(name, value)| pairs(name, &value))?;
    if let Some((_, service)) = set("OTEL_SERVICE_NAME") {
        resource.retain(|(name, _)| name != "service.name");
        resource.push(("service.name".to_owned(), service));
    }
    Ok(Otlp { url, headers, resource })
}

/// An endpoint: `/v1/traces` is added where nothing is said of the path, 4318 where HTTP is to have no other port.
fn url(typed: &str) -> Result<String, values::Bad> {
    let example = "give one like http://collector:4318";
    let bad = |cause: &str| values::Bad::new(cause, example);
    let uri: Uri = typed.parse().map_err(|_| bad("not a URL"))?;
    let (scheme, authority) = match (uri.scheme_str(), uri.authority()) {
        (Some(scheme @ ("http" | "https")), Some(authority)) => (scheme, authority),
        (Some("grpc"), _) => return Err(bad("it speaks HTTP, not gRPC")),
        _ => return Err(bad("a URL begins with http:// or https:// and names a host")),
    };
    if authority.as_str().contains('@') {
        return Err(values::Bad::new(
            "a password in a command line is seen by everybody",
            "put it into OTEL_EXPORTER_OTLP_HEADERS, as in authorization=Bearer%20TOKEN",
        ));
    }
    let host = authority.host();
    if host.is_empty() {
        return Err(bad("a host has a name"));
    }
    // The URI type takes any digits, and no digits, for a port.
    let port = match authority.as_str().strip_prefix(host).unwrap_or_default() {
        "" if scheme == "http" => ":4318".to_owned(),
        "" => String::new(),
        port => match port.strip_prefix(':').map(str::parse::<u16>) {
            Some(Ok(port)) if port != 0 => format!(":{port}"),
            _ => return Err(bad("ports are numbers from 1 to 65535")),
        },
    };
    let path = match uri.path_and_query().map(PathAndQuery::as_str) {
        None | Some("/" | "") => "/v1/traces",
        Some(path) => path,
    };
    Ok(format!("{scheme}://{host}{port}{path}"))
}

/// `key=value,key=value`, values percent-encoded.
fn pairs(variable: &str, value: &str) -> Result<Vec<(String, String)>, Mistake> {
    let mut pairs = Vec::new();
    for pair in value.split(',').filter(|pair| !pair.trim().is_empty()) {
        let (key, value) = pair.split_once('=').ok_or_else(|| no_pairs(variable))?;
        let value = percent_decode_str(value.trim()).decode_utf8().map_err(|_| no_pairs(variable))?;
        let key = key.trim();
        if key.is_empty() {
            return Err(no_pairs(variable));
        }
        pairs.retain(|(other, _)| other != key);
        pairs.push((key.to_owned(), value.into_owned()));
    }
    Ok(pairs)
}

/// The value is not shown: it may hold a secret.
fn no_pairs(variable: &str) -> Mistake {
    Mistake::new(
        variable,
        "not a list like key=value,key=value, with other characters percent-encoded",
        "write it so, or unset the variable",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(typed: &str, env: &[(&str, &str)]) -> Result<Otlp, String> {
        let env = |name: &str| env.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned());
        resolve(typed, env).map_err(|mistake| mistake.to_string())
    }

    #[test]
    fn an_endpoint_becomes_the_url_that_is_posted_to() {
        for (typed, url) in [
            ("http://collector:4318", "http://collector:4318/v1/traces"),
            ("http://collector", "http://collector:4318/v1/traces"),
            ("http://[fd00::1]/", "http://[fd00::1]:4318/v1/traces"),
            ("http://[fd00::1]:80", "http://[fd00::1]:80/v1/traces"),
            ("https://otlp.example", "https://otlp.example/v1/traces"),
            ("https://otlp.example/otlp/v1/traces", "https://otlp.example/otlp/v1/traces"),
            ("http://h:1/x?tenant=3", "http://h:1/x?tenant=3"),
        ] {
            assert_eq!(told(typed, &[]).unwrap().url, url, "{typed}");
        }
    }

    #[test]
    fn what_is_no_endpoint_is_a_mistake_of_one_line() {
        for (typed, cause) in [
            ("", "not a URL"),
            ("collector", "a URL begins with http:// or https:// and names a host"),
            ("collector:4318", "a URL begins with"),
            ("/v1/traces", "a URL begins with"),
            ("ftp://collector", "a URL begins with"),
            ("grpc://collector:4317", "it speaks HTTP, not gRPC"),
            ("http://", "not a URL"),
            ("http://:4318", "a host has a name"),
            ("http://h:0", "ports are numbers from 1 to 65535"),
            ("http://h:70000", "ports are numbers from 1 to 65535"),
            ("http://h:", "ports are numbers from 1 to 65535"),
            ("http://h:x", "ports are numbers from 1 to 65535"),
            ("http://user:pw@h", "a password in a command line is seen by everybody"),
            ("http://a b", "not a URL"),
        ] {
            let mistake = told(typed, &[]).unwrap_err();
            assert!(mistake.starts_with(&format!("--otlp {typed}: {cause}")), "{mistake}");
            assert!(!mistake.contains('\n'));
        }
    }

    #[test]
    fn the_environment_adds_headers_and_names() {
        let env = [
            ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20a%2Cb%3D, x-tenant = 3 "),
            ("OTEL_RESOURCE_ATTRIBUTES", "service.name=a,site=fra1,host.name=edge%201"),
            ("OTEL_SERVICE_NAME", "routers"),
        ];
        let told_all = told("http://h", &env).unwrap();
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(told_all.headers, [pair("authorization", "Bearer a,b="), pair("x-tenant", "3")]);
        let named = [pair("site", "fra1"), pair("host.name", "edge 1"), pair("service.name", "routers")];
        assert_eq!(told_all.resource, named);
        assert!(!format!("{told_all:?}").contains("Bearer"), "secrets are not for logs");
        let traces = [env[0], ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "a=b")];
        assert_eq!(told("http://h", &traces).unwrap().headers, [pair("a", "b")]);
    }

    #[test]
    fn what_the_environment_has_wrong_is_named_and_not_shown() {
        for value in ["secret", "=secret", "a b=secret", "a=secret%0d%0ax", "a=%ff%fe"] {
            let mistake = told("http://h", &[("OTEL_EXPORTER_OTLP_HEADERS", value)]).unwrap_err();
            assert!(mistake.starts_with("OTEL_EXPORTER_OTLP_HEADERS: not a list like"), "{mistake}");
            assert!(!mistake.contains("secret"));
        }
    }
}
