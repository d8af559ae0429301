//! nfnetlink by hand: trace messages, the trace table, generations, conntrack.
