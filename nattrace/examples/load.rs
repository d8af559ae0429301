//! temp
use nattrace::source::bpf::{decode::Decoder, fields::KernelTypes, filter::{Selection, kernel_filter}, load::{Programs, Wanted}};
fn main() {
    let t = std::time::Instant::now();
    let types = KernelTypes::of_running_kernel().unwrap();
    println!("types {:?} {:?}", t.elapsed(), types.fields);
    let decoder = Decoder::new(&types, 0);
    println!("symbols {:?}", t.elapsed());
    let probes = std::env::args().nth(1).as_deref() == Some("probes");
    let mut programs = match Programs::load(&types, &kernel_filter(&Default::default(), &Selection { follow: true, ..Default::default() }), Wanted { probes, tracepoints: true }) {
        Ok(p) => p,
        Err(e) => { println!("error: {e}"); return; }
    };
    println!("loaded {:?} hooks {:?} missing {:?} pending {:?}", t.elapsed(), programs.hooks, programs.missing, programs.pending());
    for p in programs.loaded() { println!("{p:?}"); }
    std::process::Command::new("ping").args(["-c1", "127.0.0.1"]).stdout(std::process::Stdio::null()).status().ok();
    let mut n = 0;
    while let Some(e) = programs.next_record(|r| decoder.decode(r)) { println!("{}", serde_json::to_string(&e).unwrap()); n += 1; if n > 40 { break; } }
    println!("lost {:?}", programs.lost());
}
