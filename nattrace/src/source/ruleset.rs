//! Rule text, by listing the ruleset with the tools that own it.
