//! What must hold of ftl-images for any input. The properties are shared with the crate's proptest tests.

pub mod check;
pub mod seeds;
