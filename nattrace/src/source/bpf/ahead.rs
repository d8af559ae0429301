//! Loading ahead: the kernel verifies programs on several processors at once, which is most of what a start takes.

use std::num::NonZero;
use std::sync::Mutex;
use std::thread;

use aya::programs::Program;
use aya::{Btf, Ebpf};

/// More at once would be held up by what is done one by one.
const THREADS: usize = 4;

/// Programs that take longest to verify (tests/scenarios/verifier), longest first: one that were begun last would be waited
/// for alone.
const LONGEST: [&str; 4] = ["nft_trace_notify", "kfree_skb", "net_dev_start_xmit", "hook_leave"];

/// A program that will be attached, and the function or tracepoint that it is for.
pub(super) type Wanted = (&'static str, Option<&'static str>);

/// Loads programs. One that is refused is loaded again, and the refusal told, when it is attached.
pub(super) fn load(ebpf: &mut Ebpf, btf: Option<&Btf>, wanted: &[Wanted]) {
    let wanted_as = |name: &str| wanted.iter().find(|(wanted, _)| *wanted == name);
    let mut work: Vec<(&Wanted, &mut Program)> =
        ebpf.programs_mut().filter_map(|(name, program)| Some((wanted_as(name)?, program))).collect();
    work.sort_by_key(|((name, _), _)| LONGEST.iter().position(|long| long == name).unwrap_or(LONGEST.len()));
    let threads = thread::available_parallelism().map_or(1, NonZero::get).min(THREADS).min(work.len());
    let work = Mutex::new(work.into_iter());
    let next = || work.lock().ok()?.next();
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(((_, place), program)) = next() {
                    load_one(program, *place, btf);
                }
            });
        }
    });
}

fn load_one(program: &mut Program, place: Option<&str>, btf: Option<&Btf>) {
    let _ = match (program, place, btf) {
        (Program::RawTracePoint(program), ..) => program.load(),
        (Program::KProbe(program), ..) => program.load(),
        (Program::SocketFilter(program), ..) => program.load(),
        (Program::FEntry(program), Some(place), Some(btf)) => program.load(place, btf),
        (Program::FExit(program), Some(place), Some(btf)) => program.load(place, btf),
        (Program::BtfTracePoint(program), Some(place), Some(btf)) => program.load(place, btf),
        _ => Ok(()),
    };
}
