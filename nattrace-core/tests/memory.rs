//! What the assembler says that packets take is what the allocator gave.

mod common;

use std::path::Path;

use common::recorded;
use nattrace_core::event::{Body, Event};
use nattrace_core::journey::{Assembler, Options};
use peak_alloc::PeakAlloc;

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

/// Copies of each packet.
const COPIES: u64 = 300;

fn ends(body: &Body) -> bool {
    matches!(body, Body::Deliver(_) | Body::Drop(_) | Body::End { .. } | Body::Left { .. })
}

/// Every packet of a recording many times over, none of which ends; names and rules come first.
fn in_flight(name: &str) -> (Vec<Event>, Vec<Event>) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/recordings").join(name);
    let (_, events) = recorded(&path);
    let (packets, rest): (Vec<_>, Vec<_>) =
        events.into_iter().partition(|event| event.body.packet().is_some() && !ends(&event.body));
    let told = |event: &Event| {
        matches!(
            event.body,
            Body::Namespace { .. } | Body::Link(_) | Body::OwnTable { .. } | Body::Ruleset(_)
        )
    };
    let copies = (0..COPIES).flat_map(|copy| {
        packets.iter().cloned().map(move |mut event| {
            if let Some(packet) = event.body.packet_mut() {
                *packet += copy << 40;
            }
            event
        })
    });
    (rest.into_iter().filter(told).collect(), copies.collect())
}

#[test]
fn what_packets_take_is_what_the_allocator_gave() {
    for name in ["full-forward-masquerade.jsonl", "full-forward-broken.jsonl", "full-ping.jsonl"] {
        for keeps in [false, true] {
            let (rest, packets) = in_flight(name);
            let options = Options {
                memory: usize::MAX,
                keep_messages: keeps,
                keep_sights: keeps,
                ..Options::default()
            };
            let mut assembler = Assembler::new(options);
            for event in rest {
                assembler.push(event);
            }
            let before = ALLOCATOR.current_usage();
            for event in &packets {
                assembler.push(event.clone());
            }
            let given = ALLOCATOR.current_usage() - before;
            let said = assembler.memory();
            assert!(assembler.open_count() > 500, "{name}: {}", assembler.open_count());
            // The estimate must not be below by more than what is kept for the allocator; above, it wastes.
            assert!(
                said * 10 > given * 9 && said * 2 < given * 3,
                "{name} {keeps}: {said} said, {given} given"
            );
            assembler.finish(u64::MAX / 2);
            assert_eq!(assembler.memory(), 0, "{name}: all is given back");
        }
    }
}
