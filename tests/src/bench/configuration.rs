//! What is compared: the tools, and how each is asked.

use super::flood::PORT;

/// A port that no datagram of the traffic goes to.
const OTHER_PORT: u16 = 1222;

/// What a configuration's tool is to say of the traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Told {
    /// Nothing: its filter is for something else.
    Nothing,
    /// Ten packets a second or, of nattrace, so many connections.
    Some,
    /// Every packet.
    All,
}

impl Told {
    /// Packets a second that [`Told::Some`] stands for; nattrace's default.
    pub(super) const RATE: f64 = 10.0;
}

/// Which tool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Tool {
    /// nattrace with these options, `--format json` and the filter.
    Nattrace(&'static [&'static str]),
    /// Empty programs where the first configuration's nattrace has its own.
    Floor,
    /// `nft monitor trace`, and a rule that marks packets.
    NftMonitor,
    /// A peer from Debian, with its arguments; `{port}` is the filter's.
    Peer(&'static str, &'static [&'static str]),
    /// A command of the caller's, for bash; `{port}` likewise.
    Command(String),
}

/// One row of the comparison.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Configuration {
    /// Its name in the results.
    pub(super) id: String,
    /// The same for people.
    pub(super) title: String,
    pub(super) tool: Tool,
    pub(super) told: Told,
    /// Whether it is also measured where instructions are the clock. Their one processor is the tool's, too: it must do
    /// nothing besides what its programs do in the kernel. (pwru looks for events without a pause.)
    pub(super) counted: bool,
    /// Whether it is measured in a short run, too.
    pub(super) brief: bool,
}

impl Configuration {
    fn new(id: impl Into<String>, title: impl Into<String>, tool: Tool, told: Told) -> Self {
        Self { id: id.into(), title: title.into(), tool, told, counted: false, brief: false }
    }

    fn counted(self) -> Self {
        Self { counted: true, ..self }
    }

    fn brief(self) -> Self {
        Self { brief: true, ..self }
    }

    /// The port that its filter names.
    pub(super) fn port(&self) -> u16 {
        if self.told == Told::Nothing { OTHER_PORT } else { PORT }
    }

    /// The caller's commands: asked for nothing, and for everything.
    pub(super) fn of_command(command: &str) -> [Self; 2] {
        let program = command.split_whitespace().next().unwrap_or("command");
        let name = program.rsplit('/').next().unwrap_or(program);
        [(Told::Nothing, "nothing", "nothing matches"), (Told::All, "all", "all match")].map(
            |(told, id, title)| {
                let tool = Tool::Command(command.to_owned());
                Self::new(format!("{name}-{id}"), format!("`{command}`, {title}"), tool, told).brief()
            },
        )
    }
}

/// Functions whose set is about that of nattrace's programs, for the peer that takes any.
const FEW: &str = "^(nf_hook_slow|ip_rcv|ip_forward|ip_output|ip_finish_output2|ip_local_deliver|__dev_queue_xmit|\
                   sk_skb_reason_drop|ip_route_input_slow)$";

/// All that is compared on every machine. The floor follows what it is the floor of.
pub(super) fn all() -> Vec<Configuration> {
    let pwru = &["--output-tuple", "--filter-track-skb", "udp dst port {port}"];
    let pwru_few = &["--output-tuple", "--filter-track-skb", "--filter-func", FEW, "udp dst port {port}"];
    let count = &["-e", "fentry:nf_hook_slow { @hooks = count(); }"];
    let print =
        &["-e", "fentry:nf_hook_slow { printf(\"hook %d of %p\\n\", args->state->hook, args->skb); }"];
    let row = Configuration::new;
    vec![
        row("nattrace-nothing", "nattrace, nothing matches", Tool::Nattrace(&[]), Told::Nothing)
            .counted()
            .brief(),
        row("floor", "empty programs at the same points", Tool::Floor, Told::Nothing).counted().brief(),
        row(
            "nattrace-no-table",
            "nattrace `--no-trace-table`, nothing matches",
            Tool::Nattrace(&["--no-trace-table"]),
            Told::Nothing,
        )
        .counted(),
        row(
            "nattrace-some",
            "nattrace, all match: 10 connections a second are followed",
            Tool::Nattrace(&[]),
            Told::Some,
        )
        .brief(),
        row("nattrace-all", "nattrace `--rate 0`, all match", Tool::Nattrace(&["--rate", "0"]), Told::All)
            .brief(),
        row("nft-some", "`nft monitor trace`, 10 packets a second are marked", Tool::NftMonitor, Told::Some)
            .counted(),
        row("nft-all", "`nft monitor trace`, all are marked", Tool::NftMonitor, Told::All).brief(),
        row(
            "bpftrace-count",
            "bpftrace, calls of `nf_hook_slow` counted",
            Tool::Peer("bpftrace", count),
            Told::Nothing,
        )
        .counted(),
        row(
            "bpftrace-print",
            "bpftrace, calls of `nf_hook_slow` printed",
            Tool::Peer("bpftrace", print),
            Told::All,
        )
        .brief(),
        row("pwru-nothing", "pwru, nothing matches", Tool::Peer("pwru", pwru), Told::Nothing).brief(),
        row("pwru-few", "pwru at 9 functions, nothing matches", Tool::Peer("pwru", pwru_few), Told::Nothing),
        row("pwru-all", "pwru, all match", Tool::Peer("pwru", pwru), Told::All),
    ]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    #[test]
    fn no_two_have_one_name() {
        let all = all();
        assert_eq!(all.iter().map(|row| &row.id).collect::<BTreeSet<_>>().len(), all.len());
        assert_eq!(all.iter().map(|row| &row.title).collect::<BTreeSet<_>>().len(), all.len());
    }

    #[test]
    fn the_document_has_all_of_them() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/performance.md");
        let text = std::fs::read_to_string(path).expect("the document is there");
        for row in all() {
            assert!(text.contains(&format!("| {} |", row.title)), "docs/performance.md lacks {}", row.title);
        }
    }

    #[test]
    fn a_callers_command_is_called_by_its_program() {
        let [nothing, all] = Configuration::of_command("/opt/retis collect -f 'udp dst port {port}'");
        assert_eq!((nothing.id.as_str(), nothing.port()), ("retis-nothing", OTHER_PORT));
        assert_eq!((all.id.as_str(), all.port()), ("retis-all", PORT));
    }
}
