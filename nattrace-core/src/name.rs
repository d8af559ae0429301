//! Names and texts that many values have in common.

/// A name of a device, a table, a chain or a function, or a rule's text. Up to 15 bytes, as long as a device's name can be,
/// are in the value itself; what is longer is shared by all copies. So a step of a journey takes no allocation for them.
pub type Name = ecow::EcoString;
