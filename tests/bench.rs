//! The benchmark's own code works: its parts, and a tiny run of it. What it measures here says nothing.

#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "in a test a panic is the report, and what is done once is said"
)]

mod harness;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use harness::PYTHON;
use serde_json::Value;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../bench")
}

/// A run of the benchmark with a binary, in the environment of the tests: nothing is downloaded.
fn run(tithon: &str, out: &Path, arguments: &[&str]) -> std::process::Output {
    let python = PYTHON.interpreter();
    Command::new(&python)
        .arg(folder().join("run.py"))
        .args(["--quick", "--peers", "tithon,jupyter", "--tithon", tithon])
        .arg("--python")
        .arg(&python)
        .arg("--out")
        .arg(out)
        .args(arguments)
        .output()
        .unwrap()
}

fn results(out: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(out.join("results.json")).unwrap()).unwrap()
}

#[test]
fn its_parts_do_what_they_say() {
    let ended = Command::new(PYTHON.interpreter())
        .args(["-B", "-m", "unittest", "discover", "-s", "tests", "-t", "."])
        .current_dir(folder())
        .output()
        .unwrap();
    assert!(
        ended.status.success(),
        "{}",
        String::from_utf8_lossy(&ended.stderr)
    );
}

#[test]
fn a_tiny_run_measures_everyone_it_was_asked_to() {
    let out = tempfile::tempdir().unwrap();
    let ended = run(
        env!("CARGO_BIN_EXE_tithon"),
        out.path(),
        &["flood-unheard", "round-trip", "resume-rows", "kill-serving"],
    );
    assert!(
        ended.status.success(),
        "{}",
        String::from_utf8_lossy(&ended.stderr)
    );
    let results = results(out.path());
    let figures = results["figures"].as_array().unwrap();
    let values = |measurement: &str, name: &str, peer: &str| {
        figures
            .iter()
            .find(|one| one["measurement"] == measurement && one["name"] == name)
            .unwrap()["values"][peer]
            .as_array()
            .unwrap()
            .iter()
            .map(|value| value.as_f64().unwrap())
            .collect::<Vec<_>>()
    };
    for peer in ["tithon", "jupyter"] {
        assert!(values("round-trip", "median", peer)[0] > 0.0);
        assert!(values("flood-unheard", "journaled", peer)[0] > 0.0);
    }
    assert_eq!(values("flood-unheard", "lost", "tithon"), [0.0]);
    assert!(values("resume-rows", "resume", "tithon")[0] > 0.0);
    assert_eq!(
        values("kill-serving", "lines lost or doubled", "tithon"),
        [0.0]
    );
    let page = fs::read_to_string(out.path().join("report.html")).unwrap();
    assert!(page.contains("<svg"));
    let said = String::from_utf8(ended.stdout).unwrap();
    assert!(said.contains("tithon / jupyter"), "{said}");
}

#[test]
fn what_cannot_be_measured_is_said_and_fails() {
    let out = tempfile::tempdir().unwrap();
    let ended = run("/bin/false", out.path(), &["round-trip"]);
    assert_eq!(ended.status.code(), Some(1));
    let said = String::from_utf8(ended.stdout).unwrap();
    assert!(said.contains("FAILED: round-trip of tithon"), "{said}");
    let results = results(out.path());
    assert_eq!(results["failures"].as_array().unwrap().len(), 1);
    let figures = results["figures"].as_array().unwrap();
    assert!(figures.iter().all(|one| one["values"]["tithon"].is_null()));

    let ended = run("/nowhere", out.path(), &["round-trip"]);
    assert_eq!(ended.status.code(), Some(2));
    let ended = run(env!("CARGO_BIN_EXE_tithon"), out.path(), &["no-such"]);
    assert_eq!(ended.status.code(), Some(2));
}
