//! Something that listens where a collector should, and does as it is told.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message as _;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// What is said to a request.
#[derive(Debug, Clone)]
pub(crate) enum Says {
    /// These bytes, then the connection is closed.
    Bytes(Vec<u8>),
    /// Nothing, for longer than anybody waits.
    Nothing,
}

impl Says {
    /// An HTTP answer.
    pub(crate) fn http(status: &str, headers: &str, body: &[u8]) -> Self {
        let head = format!(
            "HTTP/1.1 {status}\r\n{headers}content-length: {}\r\nconnection: close\r\n\r\n",
            body.len()
        );
        Self::Bytes([head.as_bytes(), body].concat())
    }

    /// The answer of a collector that took everything.
    pub(crate) fn ok() -> Self {
        Self::http("200 OK", "content-type: application/x-protobuf\r\n", b"")
    }
}

/// A request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    /// Method, path and version.
    pub(crate) line: String,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    /// The message.
    pub(crate) message: ExportTraceServiceRequest,
}

/// Where it listens, and what it got.
#[derive(Debug)]
pub(crate) struct Collector {
    pub(crate) addr: SocketAddr,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Collector {
    /// Says this, one answer for each request, the last one again and again.
    pub(crate) fn start(says: &[Says]) -> Self {
        Self::listen(says, None)
    }

    /// The same over TLS, with the certificate of the tests.
    pub(crate) fn start_tls(says: &[Says]) -> Self {
        let pem = |name: &str| format!("{}/tests/otlp/certificates/{name}", env!("CARGO_MANIFEST_DIR"));
        let certificate = CertificateDer::from_pem_file(pem("server.pem")).expect("a certificate");
        let key = PrivateKeyDer::from_pem_file(pem("server.key")).expect("a key");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .expect("a pair");
        Self::listen(says, Some(Arc::new(config)))
    }

    fn listen(says: &[Says], tls: Option<Arc<ServerConfig>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let addr = listener.local_addr().expect("an address");
        let requests = Arc::<Mutex<Vec<Request>>>::default();
        let (says, got) = (says.to_vec(), Arc::clone(&requests));
        std::thread::spawn(move || {
            for (stream, answered) in listener.incoming().zip(0..) {
                let Ok(stream) = stream else { continue };
                let answer = says.get(answered).or(says.last()).expect("an answer").clone();
                let request = match &tls {
                    None => serve(stream, &answer),
                    Some(config) => {
                        let tls = ServerConnection::new(Arc::clone(config)).expect("a connection");
                        serve(StreamOwned::new(tls, stream), &answer)
                    }
                };
                got.lock().expect("no panic").extend(request);
            }
        });
        Self { addr, requests }
    }

    /// What came so far.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.requests.lock().expect("no panic").clone()
    }
}

/// Reads one request and answers; nothing where none came.
fn serve(stream: impl Read + Write, answer: &Says) -> Option<Request> {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    stream.read_line(&mut line).ok()?;
    let mut headers = Vec::new();
    loop {
        let mut header = String::new();
        stream.read_line(&mut header).ok()?;
        let Some((name, value)) = header.split_once(':') else { break };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let length = headers.iter().find(|(name, _)| name == "content-length")?.1.parse().ok()?;
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    match answer {
        Says::Bytes(bytes) => {
            stream.get_mut().write_all(bytes).ok()?;
            stream.get_mut().flush().ok()?;
        }
        Says::Nothing => std::thread::sleep(Duration::from_mins(1)),
    }
    let message = ExportTraceServiceRequest::decode(&body[..]).expect("an OTLP message");
    Some(Request { line: line.trim().to_owned(), headers, message })
}
