//! Real applications against their native output; joined by its scenarios next.
fn main() {}
