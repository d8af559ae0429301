//! The netlink sources against this machine's kernel, in namespaces of their own. Each test needs root;
//! without, it says so and passes.

mod conntrack;
mod ownership;
mod ruleset;
mod selection;
mod support;
mod trace;
