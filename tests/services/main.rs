//! What an editor expects of a session beyond running cells: widgets that can be moved, questions to
//! the kernel, prompts, batches, a truthful lifecycle, and other Jupyter programs beside it.
//!
//! Real supervisors, workers and kernels, seen from real clients.
#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "in a test a panic is the report, and it is written to stderr"
)]

mod batches;
mod comms;
mod displays;
mod harness;
mod idle;
mod jupyter;
mod lifecycle;
mod prompts;
#[path = "../harness/python.rs"]
mod python;
mod questions;
mod threads;
