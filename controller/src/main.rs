//! The `farrun` program.

fn main() {}
