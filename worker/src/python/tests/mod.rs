//! Real interpreters, real environments, real installers. All that is needed beforehand is
//! `python3` (3.9 or newer, with pip) on PATH and a package index.

mod choice;
#[path = "../../../../tests/harness/python.rs"]
mod environment;
mod ground;
mod jupyter;
mod kernelspecs;
mod lending;
