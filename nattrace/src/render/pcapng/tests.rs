use nattrace_core::event::{HookPoint, HookVerdict, NfFamily};
use nattrace_core::filter::Filter;
use nattrace_core::journey::{Journey, JourneyId, Sight, Step, StepKind};
use nattrace_core::packet::{Family, Headers, Packet};
use pcap_file::DataLink;
use pcap_file::pcapng::PcapNgReader;
use pcap_file::pcapng::blocks::block_common::Block;

use super::*;
use crate::render::samples::{at_home, broken, end, fixed};

fn start() -> Start {
    Start { kernel: Some("6.12".to_owned()), filter: Filter::default(), sources: BTreeMap::new() }
}

/// Interface, time, bytes, length and comments of each packet.
type Seen = (String, u64, Vec<u8>, u32, Vec<String>);

fn read(bytes: &[u8]) -> Vec<Seen> {
    let mut reader = PcapNgReader::new(bytes).expect("a section");
    let mut names = Vec::new();
    let mut seen = Vec::new();
    while let Some(block) = reader.next_block() {
        match block.expect("a block").0.into_owned() {
            Block::InterfaceDescription(interface) => {
                names.push((format!("{:?}", interface.options[0]), interface.linktype));
            }
            Block::EnhancedPacket(packet) => {
                let comments = packet.options.iter().filter_map(|option| match option {
                    EnhancedPacketOption::Common(CommonOption::Comment(text)) => Some(text.to_string()),
                    _ => None,
                });
                let (name, link) = &names[packet.interface_id as usize];
                let nanoseconds = u64::try_from(packet.timestamp.as_nanos()).expect("a time");
                let comments = comments.collect();
                let place = format!("{name} {}", if *link == DataLink::RAW { "raw" } else { "ethernet" });
                seen.push((place, nanoseconds, packet.data.to_vec(), packet.original_len, comments));
            }
            other => panic!("{other:?}"),
        }
    }
    seen
}

fn told(journeys: &[Journey]) -> Vec<Seen> {
    let (mut pcapng, mut bytes) = Pcapng::begin(&start()).expect("a section");
    for journey in journeys {
        pcapng.journey(journey, &at_home());
    }
    bytes.extend(pcapng.end().expect("blocks"));
    read(&bytes)
}

#[test]
fn packets_wait_for_those_that_may_come_before_them() {
    let (mut pcapng, mut bytes) = Pcapng::begin(&start()).expect("a section");
    let (early, late) = (broken(), Journey { id: JourneyId(2), ..fixed() });
    let first = early.steps[0].time_ns;
    pcapng.journey(&late, &at_home());
    assert_eq!(pcapng.settled(first).expect("blocks"), Vec::<u8>::new());
    pcapng.journey(&early, &at_home());
    bytes.extend(pcapng.settled(first + 1).expect("blocks"));
    assert!(!read(&bytes).is_empty());
    bytes.extend(pcapng.end().expect("blocks"));
    let times: Vec<u64> = read(&bytes).iter().map(|seen| seen.1).collect();
    assert!(times.is_sorted(), "{times:?}");
    assert_eq!(times.len(), told(&[early]).len() + told(&[late]).len());
}

#[test]
fn what_happened_at_no_hook_is_told_all_the_same() {
    let seen = told(&[Journey { steps: Vec::new(), ..broken() }]);
    assert_eq!(seen.len(), 1);
    assert!(seen[0].0.contains("kernel"), "{seen:?}");
}

#[test]
fn arp_has_an_ethernet_header() {
    let arp = Packet {
        family: Family::Arp,
        protocol: None,
        source: Some(end("10.0.0.1")),
        destination: Some(end("10.0.0.2")),
        tcp_flags: None,
        tcp_seq: None,
        tcp_ack: None,
        length: 28,
        ttl: None,
        ip_id: None,
        ..broken().packet
    };
    let kind = StepKind::Hook {
        hook: HookPoint::Input,
        family: NfFamily::Arp,
        iif: None,
        oif: None,
        verdict: Some(HookVerdict::Accept),
    };
    let step = Step { time_ns: 7, netns: broken().netns.inum, kind };
    let journey = Journey { packet: arp.clone(), steps: vec![step], ..broken() };
    let seen = told(std::slice::from_ref(&journey));
    assert!(seen[0].0.contains("arp input") && seen[0].0.ends_with("ethernet"), "{seen:?}");
    assert_eq!((seen[0].2.len(), seen[0].3), (42, 42));
    assert_eq!(seen[0].2[..14], [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 8, 6]);
    assert!(seen[0].4.iter().any(|line| line.starts_with("bytes: made of the two addresses")));

    // A request, as it was seen.
    let link = vec![0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 1, 8, 6];
    let network = vec![0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 1, 10, 0, 0, 1, 0, 0, 0, 0, 0, 0, 10, 0, 0, 2];
    let bytes = [link.as_slice(), &network].concat();
    let headers = Some(Headers { link, network });
    let sight = Sight { time_ns: 7, netns: journey.netns.inum, packet: arp, headers };
    let seen = told(&[Journey { sights: vec![sight], ..journey }]);
    assert_eq!(seen[0].2, bytes);
    assert!(!seen[0].4.iter().any(|line| line.starts_with("bytes:")));
}

#[test]
fn of_other_packets_the_length_alone_is_known() {
    let packet = Packet {
        family: Family::Other,
        protocol: None,
        source: None,
        destination: None,
        length: 99,
        ..broken().packet
    };
    let seen = told(&[Journey { packet, steps: Vec::new(), ..broken() }]);
    assert_eq!((seen[0].2.len(), seen[0].3), (0, 99));
    assert!(seen[0].4.contains(&"bytes: not known".to_owned()));
}

#[test]
fn names_stay_text_and_comments_find_room() {
    let mut journey = broken();
    journey.findings[0].text = format!("\x1b]0;x\x07{}", "é".repeat(40_000));
    let seen = told(&[journey]);
    let why = seen.iter().flat_map(|seen| &seen.4).find(|line| line.starts_with("why: ")).expect("a finding");
    assert!(why.starts_with("why: \\x1b]0;x\\x07é"));
    assert!(why.ends_with("é…") && why.len() <= 0xffff, "{}", why.len());
}
