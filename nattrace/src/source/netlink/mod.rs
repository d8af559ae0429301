//! nfnetlink by hand: trace messages, the trace table, generations, conntrack.
#[allow(missing_docs)]
pub mod trace {
    pub fn parse(_: &[u8]) -> Result<Option<nattrace_core::event::TraceMessage>, ()> { Ok(None) }
}
