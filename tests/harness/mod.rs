//! What every end-to-end test stands on: a home of its own with real processes in it, the real
//! binary, clients that speak the protocol byte by byte, and the journal as other programs read it.
//!
//! Nothing here sleeps to wait for something: [`until`] looks again and again, up to [`PATIENCE`].

#![allow(
    dead_code,
    unused_imports,
    reason = "each test target uses its own part"
)]

mod client;
mod home;
mod journal;
mod processes;
mod program;
mod python;
mod terminal;
mod transcript;
pub(crate) mod websocket;

use std::{
    thread,
    time::{Duration, Instant},
};

pub(crate) use self::{
    client::Client,
    home::Home,
    journal::Journal,
    processes::{await_end, is_alive, mapped_memory, private_memory},
    program::{Output, Running},
    python::{BASH, Environment, IPYKERNEL_6, PYTHON, RICH, STATES},
    terminal::Terminal,
    transcript::Transcript,
};

/// Nothing here takes a tenth of this on any machine that is still usable.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Says that a test cannot run on this machine; with `TITHON_SKIP=never` that is a failure.
#[expect(clippy::print_stderr, reason = "a test that is skipped says so")]
pub(crate) fn skip<T>(test: &str, why: &str) -> Option<T> {
    let may_not = std::env::var_os("TITHON_SKIP").is_some_and(|skip| skip == "never");
    assert!(!may_not, "{test} cannot run here: {why}");
    eprintln!("skipped: {test}: {why}");
    None
}

/// Waits until `look` finds something.
pub(crate) fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "never saw {what}");
        thread::sleep(Duration::from_millis(5));
    }
}
