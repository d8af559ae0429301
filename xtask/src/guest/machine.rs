//! A booted guest: QEMU, its serial console and its three ports.

use std::{
    env,
    fs::{self, File},
    io::{ErrorKind, Read as _},
    os::unix::net::{UnixListener, UnixStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use super::Clock;
use crate::{
    cache, process, progress,
    setup::{
        kernel::Kernel,
        tools::{QEMU, QEMU_SAFE},
    },
};

/// One machine under emulation takes all of a small host, and two at once make each other's clocks jump.
const LOCK: &str = "nattrace-guest.lock";

/// Begins the name of the folder that holds a guest's sockets.
const FOLDER_PREFIX: &str = "nattrace-guest-";

/// How long QEMU may take to open its channels.
const START_LIMIT: Duration = Duration::from_secs(20);

/// One of the channels from a guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Channel {
    /// The serial line: what the kernel says.
    Console,
    /// The command's standard output.
    Output,
    /// The command's standard error.
    Error,
    /// Readiness, files, exit status.
    Control,
}

const CHANNELS: [(Channel, &str); 4] = [
    (Channel::Console, "console"),
    (Channel::Output, "output"),
    (Channel::Error, "error"),
    (Channel::Control, "control"),
];

/// A running guest. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct Machine {
    qemu: Child,
    folder: PathBuf,
    received: Receiver<(Channel, Vec<u8>)>,
    _lock: File,
}

/// What [`Machine::receive`] may find.
#[derive(Debug)]
pub(crate) enum Received {
    /// Bytes of a channel.
    Bytes(Channel, Vec<u8>),
    /// Nothing in the given time.
    Nothing,
    /// QEMU has ended and all it said was received.
    End,
}

impl Machine {
    /// Waits until no other guest runs on this machine.
    pub(crate) fn reserve() -> Result<File> {
        let path = env::temp_dir().join(LOCK);
        // Another user's lock can be opened for reading only, which is enough to lock it.
        let file = File::options()
            .create(true)
            .append(true)
            .open(&path)
            .or_else(|_| File::open(&path))
            .with_context(|| format!("cannot open {}", path.display()))?;
        cache::lock(&file, &path, "another guest to end")?;
        Ok(file)
    }

    /// Starts QEMU; `reserved` comes from [`Machine::reserve`].
    pub(crate) fn start(reserved: File, kernel: &Kernel, image: &Path, clock: Clock) -> Result<Self> {
        remove_leftovers();
        // Sockets need a short path, which the cache folder may not have.
        let folder = env::temp_dir().join(format!("{FOLDER_PREFIX}{}", std::process::id()));
        fs::create_dir(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
        let listeners = CHANNELS
            .iter()
            .map(|(channel, name)| {
                let listener = UnixListener::bind(folder.join(name))?;
                listener.set_nonblocking(true)?;
                Ok((*channel, listener))
            })
            .collect::<Result<Vec<_>>>()
            .with_context(|| format!("cannot listen in {}", folder.display()))?;

        let log = File::create(folder.join("qemu.log"))?;
        let mut command = qemu_command(kernel, image, &folder, clock)?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let qemu = command.spawn().with_context(|| format!("cannot start {QEMU}"))?;
        let (sender, received) = channel();
        let mut machine = Self { qemu, folder, received, _lock: reserved };
        for (channel, listener) in listeners {
            let stream = machine.accept(&listener)?;
            let sender = sender.clone();
            thread::spawn(move || forward(channel, stream, &sender));
        }
        Ok(machine)
    }

    /// Waits for the next bytes.
    pub(crate) fn receive(&self, limit: Duration) -> Received {
        match self.received.recv_timeout(limit) {
            Ok((channel, bytes)) => Received::Bytes(channel, bytes),
            Err(RecvTimeoutError::Timeout) => Received::Nothing,
            Err(RecvTimeoutError::Disconnected) => Received::End,
        }
    }

    /// What QEMU itself printed.
    pub(crate) fn own_words(&self) -> String {
        fs::read_to_string(self.folder.join("qemu.log")).unwrap_or_default()
    }

    fn accept(&mut self, listener: &UnixListener) -> Result<UnixStream> {
        let started = Instant::now();
        loop {
            match listener.accept() {
                Ok((stream, _)) => {
                    stream.set_nonblocking(false)?;
                    return Ok(stream);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error).context("cannot talk to QEMU"),
            }
            if let Some(status) = self.qemu.try_wait()? {
                bail!(
                    "{QEMU} did not start ({}):\n{}",
                    process::status_text(status),
                    self.own_words().trim_end()
                );
            }
            if started.elapsed() > START_LIMIT {
                bail!("{QEMU} did not open its channels:\n{}", self.own_words().trim_end());
            }
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Removes what runs that were killed left behind. Whoever holds the lock runs the only guest.
fn remove_leftovers() {
    for entry in fs::read_dir(env::temp_dir()).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(FOLDER_PREFIX) {
            // Another user's stay.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

fn forward(channel: Channel, mut stream: UnixStream, sender: &Sender<(Channel, Vec<u8>)>) {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return,
            Ok(length) => {
                if sender.send((channel, buffer[..length].to_vec())).is_err() {
                    return;
                }
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // The other end is gone.
            Err(_) => return,
        }
    }
}

fn qemu_command(kernel: &Kernel, image: &Path, folder: &Path, clock: Clock) -> Result<Command> {
    // setpriv ties QEMU's life to ours, even where we are killed.
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", QEMU]);
    command.args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]);
    command.args(["-machine", "pc", "-cpu", "max", "-m", "2G"]);
    match clock {
        Clock::Host => command.args(["-accel", accelerator()?, "-smp", "2"]),
        // Where nothing runs, time goes on at once.
        Clock::Instructions => {
            command.args(["-accel", "tcg,thread=single", "-smp", "1", "-icount", "shift=0,sleep=off"])
        }
    };
    command.arg("-kernel").arg(kernel.image()).arg("-initrd").arg(image);
    // A broken kernel ends the guest at once: it must not go on and pass.
    command.args([
        "-append",
        // Attaching and detaching waits for grace periods, which are half of what a short trace takes here.
        "console=ttyS0 quiet loglevel=5 panic=-1 oops=panic mitigations=off rcupdate.rcu_expedited=1",
    ]);
    for (_, name) in CHANNELS {
        command.arg("-chardev").arg(format!("socket,id={name},path={}", folder.join(name).display()));
    }
    command.args(["-serial", "chardev:console", "-device", "virtio-serial-pci"]);
    for (number, (_, name)) in CHANNELS.iter().enumerate().skip(1) {
        command.arg("-device").arg(format!("virtserialport,nr={number},chardev={name},name={name}"));
    }
    Ok(command)
}

/// How to emulate: with a thread for each processor where this QEMU does it right.
fn accelerator() -> Result<&'static str> {
    let text = process::output_for(Command::new(QEMU).arg("--version"), "ask QEMU for its version")?;
    let version =
        text.split_whitespace().find(|word| word.starts_with(|c: char| c.is_ascii_digit())).unwrap_or("0");
    let major = version.split('.').next().and_then(|major| major.parse::<u32>().ok()).unwrap_or(0);
    if major >= QEMU_SAFE {
        return Ok("tcg,thread=multi");
    }
    progress::step(format_args!(
        "QEMU {version} can only emulate one processor at a time safely: guests are slow, QEMU {QEMU_SAFE} is faster"
    ));
    Ok("tcg,thread=single")
}
