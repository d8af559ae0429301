//! Datagrams, connections, namespaces.

use std::net::UdpSocket;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, Result};

use super::Shared;
use super::rules::PORTS;
use crate::lab::Lab;
use crate::lab::netns::{Namespace, ip};
use crate::lab::process::{Process, output_of};

/// The client, whose packets are traced.
const CLIENT: &str = "10.2.1.2";
/// Where datagrams go.
const CONTAINER: &str = "192.168.70.10";
/// Between two datagrams of the steady load.
const PAUSE: Duration = Duration::from_millis(10);
/// Between two connections.
const CONNECTION: Duration = Duration::from_millis(250);
/// How long a namespace lives, and how long there is none.
const NAMESPACE: Duration = Duration::from_secs(3);

/// Who receives what the client sends.
pub(super) fn servers(lab: &Lab) -> Result<Vec<Process>> {
    let mut servers = Vec::new();
    let ssh = ["tcp-server".to_owned(), format!("{CONTAINER}:22")];
    servers.push(Process::spawn_silent(lab.traffic("container", &ssh)?, &lab.dir, "ssh")?);
    // Sockets that take everything and say nothing: nobody answers, and nobody says that there is nobody.
    let deaf: Vec<String> = PORTS.map(|port| format!("udp {CONTAINER}:{port} filter")).collect();
    let deaf = [vec!["deaf".to_owned()], deaf].concat();
    servers.push(Process::spawn_silent(lab.traffic("container", &deaf)?, &lab.dir, "deaf")?);
    lab.limits.sleep(Duration::from_secs(1))?;
    Ok(servers)
}

/// As many datagrams as there are ports from `first` on, each from its own.
pub(super) fn calm(lab: &Lab, first: u16, count: u16) -> Result<()> {
    lab.namespace("client")?.inside(|| {
        for number in 0..count {
            let socket = UdpSocket::bind((CLIENT, first + number))?;
            socket.send_to(b"calm", (CONTAINER, PORTS.start + number % 8))?;
            std::thread::sleep(PAUSE);
        }
        Ok(())
    })
}

/// What goes on all the time but in the calm.
pub(super) struct Load<'a> {
    pub(super) lab: &'a Lab,
    pub(super) shared: &'a Shared,
}

impl Load<'_> {
    /// A steady stream over all ports, and in a burst as fast as can be.
    pub(super) fn datagrams(&self) -> Result<()> {
        self.lab.namespace("client")?.inside(|| {
            let socket = UdpSocket::bind((CLIENT, 20_000)).context("the sender's port is taken")?;
            let mut number = 0;
            while !self.shared.is_over() {
                if self.shared.calm.load(Ordering::Relaxed) {
                    std::thread::sleep(PAUSE);
                    continue;
                }
                let port = PORTS.start + number % 8;
                number = number.wrapping_add(1);
                socket.send_to(b"load", (CONTAINER, port)).context("the load cannot be sent")?;
                self.shared.datagrams.fetch_add(1, Ordering::Relaxed);
                let pause = if self.shared.burst.load(Ordering::Relaxed) { PAUSE / 40 } else { PAUSE };
                std::thread::sleep(pause);
            }
            Ok(())
        })
    }

    /// Connections through the port-forward, one after the other.
    pub(super) fn connections(&self) -> Result<()> {
        while !self.shared.is_over() {
            std::thread::sleep(CONNECTION);
            if self.shared.calm.load(Ordering::Relaxed) {
                continue;
            }
            let args = ["tcp-connect", "10.1.2.3:1222", "--timeout", "5"].map(str::to_owned);
            output_of(self.lab.traffic("client", &args)?, "")?;
            self.shared.connections.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Namespaces that come, have a ruleset and some traffic of their own, and go.
    pub(super) fn namespaces(&self) -> Result<()> {
        while !self.shared.is_over() {
            let number = self.shared.namespaces.fetch_add(1, Ordering::Relaxed);
            let namespace = Namespace::create(format!("{}-passing{number}", self.lab.mark))?;
            ip(["-n", &namespace.name, "link", "set", "lo", "up"], "")?;
            namespace.inside(|| {
                let socket = UdpSocket::bind("127.0.0.1:0")?;
                for _ in 0..20 {
                    socket.send_to(b"passing", "127.0.0.1:9")?;
                    std::thread::sleep(NAMESPACE / 20);
                    // The answer that nobody listens is of no interest.
                    socket.set_nonblocking(true)?;
                    let _ = socket.take_error();
                }
                Ok(())
            })?;
            drop(namespace);
            std::thread::sleep(Duration::from_millis(500));
        }
        Ok(())
    }
}
