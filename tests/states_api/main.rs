//! The states API as its clients see it: a real server, real Pythons, HTTP byte by byte. What is expected of the
//! routes was observed of snapshot-kernel 0.2.1.

#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "in a test a panic is the report, and what is done once is said"
)]

mod ends;
#[path = "../harness/mod.rs"]
mod harness;
mod hostile;
mod isolation;
mod routes;
mod schema;
mod server;
