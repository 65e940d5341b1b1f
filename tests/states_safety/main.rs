//! What is in a state, with the real libraries: whatever holds threads, handles or positions works in a
//! restored kernel as it did in the one that was copied, or is named and not copied.
//!
//! Kernels are shared by what goes together, because starting them and importing is what takes time.

#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "in a test a panic is the report, and what is done once is said"
)]

#[path = "../harness/mod.rs"]
mod harness;
mod libraries;
mod refusals;
mod standard;

use harness::{Home, STATES, until};
use serde_json::Value;

/// A home whose sessions keep checkpoints, with the libraries; `None` where these cannot be had.
fn with_libraries(test: &str) -> Option<Home> {
    if !STATES.is_available() {
        return harness::skip(test, "this Python has no wheels of numpy, pandas, polars …");
    }
    let mut home = Home::empty().with_python(STATES);
    home.set("TITHON_CHECKPOINTS", "20");
    // Also where there is one processor: a team of one has no threads to lose.
    home.set("OMP_NUM_THREADS", "2");
    home.set("OPENBLAS_NUM_THREADS", "2");
    home.start();
    Some(home)
}

/// Runs a cell; it ends without an error.
fn run(home: &Home, code: &str) -> String {
    home.tithon(&["run", "-c", code]).ok()
}

fn checkpoints(home: &Home) -> Value {
    let told = home.tithon(&["checkpoints", "--json"]).ok();
    serde_json::from_str(&told).unwrap()
}

/// The newest execution.
fn newest(home: &Home) -> String {
    let log = home.tithon(&["log", "-n", "1", "--json"]).ok();
    let log: Value = serde_json::from_str(&log).unwrap();
    log[0]["exec_id"].as_str().unwrap().to_owned()
}

/// Runs a cell and waits for the checkpoint after it; returns its name.
fn checkpoint_after(home: &Home, code: &str) -> String {
    run(home, code);
    let exec_id = newest(home);
    until(&format!("the checkpoint after {exec_id}"), || {
        let told = checkpoints(home);
        let list = told["checkpoints"].as_array().unwrap().clone();
        list.iter()
            .any(|known| known["exec_id"] == *exec_id)
            .then_some(())
    });
    exec_id
}

/// A cell that changes what an earlier one made, and says what it finds, says the same in the kernel that
/// went on, in one restored from it, and in one restored after that was killed.
fn comes_back(home: &Home, made: &str, changed: &str) -> String {
    let state = checkpoint_after(home, made);
    let said = run(home, changed);
    home.tithon(&["restore", "--to", &state]).ok();
    assert_eq!(run(home, changed), said);
    home.kill(home.kernel("default").unwrap());
    home.tithon(&["restore", "--to", &state]).ok();
    assert_eq!(run(home, changed), said);
    said
}
