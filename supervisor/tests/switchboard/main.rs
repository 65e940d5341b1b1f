//! The supervisor from outside: real processes, real sockets, and workers that echo.

#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "in a test a panic is the report, and it is written to stderr"
)]

mod doors;
mod ends;
mod harness;
mod workers;
