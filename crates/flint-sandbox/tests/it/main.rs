//! Sandboxes, from outside and from inside.
fn main() {}
