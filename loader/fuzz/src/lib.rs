//! What must hold of ftl-loader for any input. The properties are shared with the crate's proptest tests.

pub mod check;
