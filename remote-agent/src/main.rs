//! The `farrun-agent` program.

fn main() {}
