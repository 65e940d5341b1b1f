//! What an editor expects of a session beyond running cells: widgets that can be moved, questions to
//! the kernel, prompts, batches, a truthful lifecycle, and other Jupyter programs beside it.
//!
//! Real supervisors, workers and kernels, seen from real clients.

mod batches;
mod comms;
mod harness;
mod idle;
mod jupyter;
mod lifecycle;
mod prompts;
mod questions;
