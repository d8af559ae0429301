//! pcapng, for Wireshark and its kin: each packet as it was seen, before and after it was rewritten.
//!
//! A hook or a device is an interface (`interface`). A journey is an entry at each of them, and one more behind each
//! rewrite, with the journey's words as comments (`entry`) and the headers of that moment (`frame`). All entries of a
//! journey have its number as packet id. docs/pcapng.md has the whole of it; the format is that of
//! draft-ietf-opsawg-pcapng.

mod entry;
mod frame;
mod interface;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::time::Duration;

use nattrace_core::journey::Journey;
use pcap_file::Endianness;
use pcap_file::pcapng::PcapNgWriter;
use pcap_file::pcapng::blocks::enhanced_packet::{EnhancedPacketBlock, EnhancedPacketOption};
use pcap_file::pcapng::blocks::opt_common::{CommonOption, UnknownOption};
use pcap_file::pcapng::blocks::section_header::{SectionHeaderBlock, SectionHeaderOption};

use super::escape::escape;
use super::filter::filter_flags;
use super::namespaces::Namespaces;
use super::run::{SourceState, Start};
use entry::{Entry, entries};
use interface::Interface;

/// What an option has room for, in bytes (its length is a 16-bit number), less what is put behind a text that is cut.
const MAX_TEXT: usize = 0xffff - 3;
/// `epb_packetid`.
const PACKET_ID: u16 = 5;
/// `epb_flags`: the direction, in its lowest two bits.
const INBOUND: u32 = 1;
const OUTBOUND: u32 = 2;

/// One section, as it grows.
pub(super) struct Pcapng {
    /// What is written into it is taken out at once.
    blocks: PcapNgWriter<Vec<u8>>,
    interfaces: BTreeMap<Interface, u32>,
    /// Entries that earlier ones may still come before, by time; those of one journey in its order.
    waiting: BTreeMap<(u64, u64), Entry>,
    told: u64,
    /// The kernel that was traced.
    system: Option<String>,
}

impl fmt::Debug for Pcapng {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pcapng").field("waiting", &self.waiting.len()).finish_non_exhaustive()
    }
}

impl Pcapng {
    /// The section's header, and what will be written behind it.
    pub(super) fn begin(start: &Start) -> io::Result<(Self, Vec<u8>)> {
        let system = start.kernel.as_ref().map(|release| format!("Linux {}", escape(release)));
        let mut options = vec![
            SectionHeaderOption::Hardware(std::env::consts::ARCH.into()),
            SectionHeaderOption::UserApplication(concat!("nattrace ", env!("CARGO_PKG_VERSION")).into()),
        ];
        options.extend(system.clone().map(|system| SectionHeaderOption::OS(system.into())));
        options.extend(about(start).map(|line| SectionHeaderOption::Common(comment(&line))));
        let endianness = Endianness::Little;
        let header = SectionHeaderBlock { endianness, options, ..SectionHeaderBlock::default() };
        let blocks = PcapNgWriter::with_section_header(Vec::new(), header).map_err(io::Error::other)?;
        let mut pcapng =
            Self { blocks, interfaces: BTreeMap::new(), waiting: BTreeMap::new(), told: 0, system };
        let bytes = pcapng.take();
        Ok((pcapng, bytes))
    }

    /// A finished journey; it is written when no earlier one can come any more.
    pub(super) fn journey(&mut self, journey: &Journey, namespaces: &Namespaces) {
        let mut latest = 0;
        for entry in entries(journey, namespaces) {
            // What is noticed late stands where it happened.
            latest = entry.time_ns.max(latest);
            self.waiting.insert((latest, self.told), entry);
            self.told += 1;
        }
    }

    /// All journeys that began before this moment have been told: the blocks of what happened until then.
    pub(super) fn settled(&mut self, before_ns: u64) -> io::Result<Vec<u8>> {
        let later = self.waiting.split_off(&(before_ns, 0));
        for entry in std::mem::replace(&mut self.waiting, later).into_values() {
            self.entry(entry)?;
        }
        Ok(self.take())
    }

    /// The rest.
    pub(super) fn end(&mut self) -> io::Result<Vec<u8>> {
        self.settled(u64::MAX)
    }

    fn entry(&mut self, entry: Entry) -> io::Result<()> {
        let interface_id = self.interface(entry.interface)?;
        let mut options: Vec<_> =
            entry.comments.iter().map(|line| EnhancedPacketOption::Common(comment(line))).collect();
        options.extend(entry.direction.map(EnhancedPacketOption::Flags));
        let id = UnknownOption { code: PACKET_ID, value: entry.journey.0.to_le_bytes().to_vec().into() };
        options.push(EnhancedPacketOption::Common(CommonOption::Unknown(id)));
        let block = EnhancedPacketBlock {
            interface_id,
            timestamp: Duration::from_nanos(entry.time_ns),
            original_len: entry.length,
            data: Cow::Owned(entry.bytes),
            options,
        };
        self.blocks.write_pcapng_block(block).map_err(io::Error::other)?;
        Ok(())
    }

    /// The number of an interface, which is described where it is new.
    fn interface(&mut self, interface: Interface) -> io::Result<u32> {
        if let Some(id) = self.interfaces.get(&interface) {
            return Ok(*id);
        }
        let block = interface.block(self.system.as_deref());
        self.blocks.write_pcapng_block(block).map_err(io::Error::other)?;
        let id = u32::try_from(self.interfaces.len()).map_err(io::Error::other)?;
        self.interfaces.insert(interface, id);
        Ok(id)
    }

    fn take(&mut self) -> Vec<u8> {
        std::mem::take(self.blocks.get_mut())
    }
}

/// What the section is of: the filter, and the sources that were not there.
fn about(start: &Start) -> impl Iterator<Item = String> {
    let filter = filter_flags(&start.filter);
    let words: Vec<String> =
        filter.iter().map(|(flag, values)| format!("--{flag} {}", values.join(","))).collect();
    let filter = (!words.is_empty()).then(|| format!("filter: {}", escape(&words.join(" "))));
    let missing = start.sources.iter().filter_map(|(source, state)| match state {
        SourceState::On => None,
        SourceState::Off(why) => Some(format!("without {}: {}", source.name(), escape(why))),
    });
    filter.into_iter().chain(missing)
}

/// A comment, cut where it has no room.
fn comment(line: &str) -> CommonOption<'static> {
    let end = if line.len() > MAX_TEXT { line.floor_char_boundary(MAX_TEXT) } else { line.len() };
    let (text, rest) = line.split_at(end);
    CommonOption::Comment(format!("{text}{}", if rest.is_empty() { "" } else { "…" }).into())
}

#[cfg(test)]
mod tests;
