//! The `tithon` binary: command line, supervisor and worker in one executable.

fn main() {}
