//! Journeys to text, JSON Lines, and nft's own grammar. Renderers add no knowledge.

pub mod escape;
