//! What a namespace without a name is of: the container or pod of its oldest process, or that process itself.
//!
//! The oldest, because it is the one for which the namespace was made: others may have joined later, as a container
//! does that shares its host's network.

use std::fs;

/// Characters of a container's id that its own tools show.
const SHORT_ID: usize = 12;
/// Characters of a whole id.
const WHOLE_ID: usize = 64;

/// The oldest process of a namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// The container or pod whose control group it is in: `docker 4c01db0b339c`, `pod 6f0c…`.
    pub container: Option<String>,
    /// Itself: `pid 4711 (sshd)`. A process chooses the text in brackets as it likes.
    pub process: String,
}

impl Holder {
    /// The oldest of these processes; `None` when all have ended.
    #[must_use]
    pub fn among(processes: &[u32]) -> Option<Self> {
        // Nothing is older than the first process, whose namespace most others share.
        let oldest = if processes.contains(&1) {
            1
        } else {
            let started = processes.iter().filter_map(|process| Some((started(*process)?, *process)));
            started.min()?.1
        };
        let read = |file: &str| {
            let bytes = fs::read(format!("/proc/{oldest}/{file}")).unwrap_or_default();
            String::from_utf8_lossy(&bytes).into_owned()
        };
        let command = read("comm");
        let command = command.strip_suffix('\n').unwrap_or(&command);
        Some(Self {
            container: container(&read("cgroup")),
            process: if command.is_empty() {
                format!("pid {oldest}")
            } else {
                format!("pid {oldest} ({command})")
            },
        })
    }

    /// How the namespace is called for it.
    #[must_use]
    pub fn name(self) -> String {
        self.container.unwrap_or(self.process)
    }
}

/// When a process started, in ticks since boot: `starttime` of `/proc/PID/stat` (proc(5), field 22).
fn started(process: u32) -> Option<u64> {
    let stat = fs::read(format!("/proc/{process}/stat")).ok()?;
    // The second field is in brackets, and may hold any other bytes, brackets too.
    let end = stat.iter().rposition(|byte| *byte == b')')?;
    let rest = std::str::from_utf8(stat.get(end + 1..)?).ok()?;
    rest.split_whitespace().nth(19)?.parse().ok()
}

/// The container or pod in `/proc/PID/cgroup` (cgroups(7): `NUMBER:CONTROLLERS:PATH`). A network namespace belongs to
/// the pod, not to one of its containers; of containers within containers the innermost counts.
fn container(cgroup: &str) -> Option<String> {
    cgroup.lines().filter_map(|line| line.splitn(3, ':').nth(2)).find_map(|path| {
        let parts =
            || path.rsplit('/').map(|part| part.trim_end_matches(".scope").trim_end_matches(".slice"));
        parts().find_map(pod).or_else(|| {
            parts()
                .zip(parts().skip(1).chain([""]))
                .find_map(|(part, parent)| runtime_container(part, parent))
        })
    })
}

/// `kubepods-burstable-pod6f0c9a1e_…` (systemd) or `pod6f0c9a1e-…` (cgroupfs); of static pods the hash of their file.
fn pod(part: &str) -> Option<String> {
    let (before, uid) = part.rsplit_once("pod")?;
    let fits = |c: char| c.is_ascii_hexdigit() || matches!(c, '-' | '_');
    let known = before.is_empty() || before.ends_with('-');
    (known && matches!(uid.len(), 32 | 36) && uid.chars().all(fits))
        .then(|| format!("pod {}", uid.replace('_', "-")))
}

/// `docker-ID`, `libpod-ID`, `crio-ID`, `cri-containerd-ID` (systemd), or the bare id (cgroupfs).
fn runtime_container(part: &str, parent: &str) -> Option<String> {
    let (runtime, id) = part.rsplit_once('-').unwrap_or((parent, part));
    let whole = id.len() == WHOLE_ID && id.chars().all(|c| c.is_ascii_hexdigit());
    let runtime = match runtime {
        "docker" => "docker",
        "libpod" | "libpod_parent" => "podman",
        "crio" => "cri-o",
        "cri-containerd" => "containerd",
        "nerdctl" => "nerdctl",
        // The monitor of a container is outside of it.
        _ if runtime.ends_with("-conmon") => return None,
        _ => "container",
    };
    id.get(..SHORT_ID).filter(|_| whole).map(|short| format!("{runtime} {short}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "4c01db0b339c8f0e5d7f2b1c9a0e6d3f4c01db0b339c8f0e5d7f2b1c9a0e6d3f";
    const UID: &str = "6f0c9a1e-2b3c-4d5e-8f90-a1b2c3d4e5f6";

    fn of(path: &str) -> Option<String> {
        let path = path.replace("UID_", &UID.replace('-', "_")).replace("U-", UID).replace("ID", ID);
        container(&format!("0::{path}\n"))
    }

    #[test]
    fn containers_are_known_by_what_their_runtimes_call_the_control_group() {
        for (path, name) in [
            ("/system.slice/docker-ID.scope", "docker 4c01db0b339c"),
            ("/docker/ID", "docker 4c01db0b339c"),
            ("/docker/ID/init.scope", "docker 4c01db0b339c"),
            ("/machine.slice/libpod-ID.scope/container", "podman 4c01db0b339c"),
            (
                "/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-ID.scope",
                "podman 4c01db0b339c",
            ),
            ("/libpod_parent/libpod-ID", "podman 4c01db0b339c"),
            ("/system.slice/crio-ID.scope", "cri-o 4c01db0b339c"),
            ("/system.slice/cri-containerd-ID.scope", "containerd 4c01db0b339c"),
            ("/system.slice/nerdctl-ID.scope", "nerdctl 4c01db0b339c"),
            ("/elsewhere/ID", "container 4c01db0b339c"),
            ("/../docker-ID.scope", "docker 4c01db0b339c"),
        ] {
            assert_eq!(of(path).as_deref(), Some(name), "{path}");
        }
        let nested = format!("12:pids:/docker/{}/docker/{ID}", "a".repeat(64));
        assert_eq!(container(&nested).as_deref(), Some("docker 4c01db0b339c"));
    }

    #[test]
    fn a_namespace_is_the_pods_and_not_one_of_its_containers() {
        let pod = format!("pod {UID}");
        for path in [
            "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podUID_.slice/cri-containerd-ID.scope",
            "/kubepods.slice/kubepods-podUID_.slice/crio-ID.scope",
            "/kubepods/besteffort/podU-/ID",
        ] {
            assert_eq!(of(path), Some(pod.clone()), "{path}");
        }
        assert_eq!(of("/kubepods/podU-x/ID").as_deref(), Some("container 4c01db0b339c"));
    }

    #[test]
    fn what_is_no_container_is_not_called_one() {
        for path in [
            "/",
            "/user.slice/user-1000.slice/session-1.scope",
            "/machine.slice/libpod-conmon-ID.scope",
            "/docker/4c01db0b339c",
            "/system.slice/tripod.service",
            "/podcast",
        ] {
            assert_eq!(of(path), None, "{path}");
        }
        assert_eq!(container(""), None);
        assert_eq!(container("nonsense\n\u{1b}[2J::"), None);
    }

    #[test]
    fn the_oldest_process_stands_for_the_others() {
        let own = std::process::id();
        let holder = Holder::among(&[own, 4_194_305]).expect("this process");
        assert!(holder.process.starts_with(&format!("pid {own} (")), "{}", holder.process);
        assert_eq!(Holder::among(&[4_194_305]), None, "there is none beyond the largest number");
        assert_eq!(Holder::among(&[]), None);
        let first = Holder::among(&[own, 1]).expect("the first process");
        assert!(first.process.starts_with("pid 1 ("), "{}", first.process);
    }
}
