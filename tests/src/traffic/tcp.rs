//! TCP, and SCTP in its one-to-one style (RFC 6458 §4), which has the same calls: an echo server that records whom it saw, and a client that tells how it fared.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::io::Errno;
use rustix::net::sockopt::{self, Timeout};
use rustix::net::{self, AddressFamily, SocketFlags, SocketType, ipproto};
use serde_json::json;

use super::say;

/// A stream socket of the family of `addr`.
fn stream_socket(addr: SocketAddr, sctp: bool) -> Result<OwnedFd> {
    let family = if addr.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let protocol = sctp.then_some(ipproto::SCTP);
    Ok(net::socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, protocol)?)
}

/// Whether this kernel has SCTP sockets, if need be after loading their module.
pub(crate) fn has_sctp() -> bool {
    stream_socket(SocketAddr::from(([127, 0, 0, 1], 0)), true).is_ok()
}

/// Echoes until killed.
pub(super) fn serve(listen: SocketAddr, sctp: bool) -> Result<()> {
    let socket = stream_socket(listen, sctp)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    net::bind(&socket, &listen).with_context(|| format!("nobody can listen on {listen}"))?;
    net::listen(&socket, 128)?;
    let listener = TcpListener::from(socket);
    say(&json!({"event": "listening", "local": listen}));
    loop {
        let (mut stream, peer) = listener.accept().context("accept failed")?;
        say(&json!({"event": "accept", "peer": peer}));
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            // A peer that resets the connection ends it like one that closes it.
            while let Ok(read @ 1..) = stream.read(&mut buffer) {
                say(&json!({"event": "data", "peer": peer, "bytes": read}));
                if stream.write_all(&buffer[..read]).is_err() {
                    break;
                }
            }
        });
    }
}

/// Connects, sends a line, reads it back, closes, and says how far it came.
pub(super) fn connect(
    to: SocketAddr,
    from: Option<SocketAddr>,
    timeout: Duration,
    sctp: bool,
    more: usize,
) -> Result<()> {
    let socket = stream_socket(to, sctp)?;
    if let Some(from) = from {
        sockopt::set_socket_reuseaddr(&socket, true)?;
        net::bind(&socket, &from).with_context(|| format!("nobody can connect from {from}"))?;
    }
    // The send time-out also bounds connect(2), which std's connect_timeout cannot do for a bound socket.
    sockopt::set_socket_timeout(&socket, Timeout::Send, Some(timeout))?;
    let begun = Instant::now();
    let result = match net::connect(&socket, &to) {
        Ok(()) => "connected",
        Err(Errno::INPROGRESS | Errno::AGAIN | Errno::TIMEDOUT) => "timeout",
        Err(Errno::CONNREFUSED) => "refused",
        Err(Errno::HOSTUNREACH | Errno::NETUNREACH) => "unreachable",
        Err(Errno::ACCESS | Errno::PERM) => "forbidden",
        Err(error) => return Err(error).with_context(|| format!("connecting to {to}")),
    };
    let stream = TcpStream::from(socket);
    let local = stream.local_addr().ok();
    let mut reply = String::new();
    let mut ended = None;
    if result == "connected" {
        stream.set_read_timeout(Some(timeout))?;
        (&stream).write_all(b"hello\n")?;
        if let Err(error) = BufReader::new(&stream).read_line(&mut reply) {
            ended = Some(match error.kind() {
                ErrorKind::WouldBlock | ErrorKind::TimedOut => "timeout".to_owned(),
                ErrorKind::ConnectionReset => "reset".to_owned(),
                _ => error.to_string(),
            });
        }
        if more > 0 && ended.is_none() {
            let mut echo = vec![b'x'; more];
            echo.push(b'\n');
            (&stream).write_all(&echo)?;
            (&stream).read_exact(&mut echo).context("what was sent did not come back whole")?;
        }
    }
    say(&json!({
        "result": result,
        "local": local,
        "reply": reply.trim_end(),
        "ended": ended,
        "ms": u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
    }));
    Ok(())
}
