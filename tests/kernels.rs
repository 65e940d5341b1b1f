//! Kernels that cannot be started say why; an interpreter without ipykernel is lent one.

#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "in a test a panic is the report, and what is done once is said"
)]

mod harness;

use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf, process::Command};

use harness::{Home, Output, PYTHON};
use serde_json::json;

/// Writes an executable script below the test's directory.
fn script(home: &Home, name: &str, body: &str) -> PathBuf {
    let path = home.work().join(name);
    // Renamed into place by another process: were it open for writing here, a child being forked by
    // another test would keep it open, and it could not be run.
    let written = path.with_extension("new");
    fs::write(&written, body).unwrap();
    fs::set_permissions(&written, fs::Permissions::from_mode(0o755)).unwrap();
    let mut copy = Command::new("cp");
    copy.args(["-p", "--"]).arg(&written).arg(&path);
    assert!(copy.status().unwrap().success());
    path
}

/// Checks that a run is refused with all of these words, and that the daemon serves afterwards.
fn assert_refused(home: &Home, told: &Output, words: &[&str]) {
    assert_eq!((told.code, told.stdout.as_str()), (2, ""), "{told:?}");
    for word in words {
        assert!(told.stderr.contains(word), "no {word:?} in {}", told.stderr);
    }
    let other = home.tithon(&["run", "--session", "other", "-c", "6 * 7"]);
    assert_eq!(other.ok(), "42\n");
}

#[test]
fn a_python_that_is_none_is_named() {
    let home = Home::empty();
    let told = home.tithon(&["run", "--python", "/no/such/python", "-c", "1"]);
    assert_refused(&home, &told, &["/no/such/python"]);
    let broken = script(
        &home,
        "broken",
        "#!/bin/sh\necho 'libgone.so: not found' >&2\nexit 127\n",
    );
    let told = home.tithon(&["run", "--python", broken.to_str().unwrap(), "-c", "1"]);
    assert_refused(&home, &told, &["broken", "libgone.so: not found"]);
}

#[test]
fn the_last_words_of_a_kernel_that_does_not_start_are_shown() {
    let home = Home::empty();
    let python = PYTHON.interpreter();
    // Answers every question about it, and fails as a kernel.
    let body = format!(
        "#!/bin/sh\nfor argument; do case $argument in */kernel.json)\n\
         echo 'cannot load the magic library' >&2; exit 7;; esac; done\nexec {python:?} \"$@\"\n"
    );
    let python = script(&home, "python3", &body);
    let told = home.tithon(&["run", "--python", python.to_str().unwrap(), "-c", "1"]);
    let log = home.session("default").join("kernel.log");
    assert_refused(
        &home,
        &told,
        &[
            "kernel process exited during startup",
            "is ipykernel installed for this interpreter?",
            log.to_str().unwrap(),
            "cannot load the magic library",
        ],
    );
    // Nothing of it stays in the way.
    let again = home.tithon(&[
        "run",
        "--python",
        PYTHON.interpreter().to_str().unwrap(),
        "-c",
        "6 * 7",
    ]);
    assert_eq!(again.ok(), "42\n");
}

#[test]
fn a_kernelspec_that_does_not_exist_is_answered_with_those_that_do() {
    let mut home = Home::empty();
    let data = home.work().join("jupyter");
    let spec = data.join("kernels/calculator");
    fs::create_dir_all(&spec).unwrap();
    let python = PYTHON.interpreter();
    let description = json!({
        "argv": [python, "-m", "ipykernel_launcher", "-f", "{connection_file}"],
        "display_name": "Calculator", "language": "python", "env": {"CALCULATES": "yes"},
    });
    fs::write(spec.join("kernel.json"), description.to_string()).unwrap();
    home.set("JUPYTER_PATH", data.to_str().unwrap());
    let told = home.tithon(&["run", "--kernel", "abacus", "-c", "1"]);
    assert_refused(&home, &told, &["abacus", "calculator", "python3"]);
    let code = "import os; print(os.environ['CALCULATES'])";
    let named = home.tithon(&[
        "run",
        "--session",
        "c",
        "--kernel",
        "calculator",
        "-c",
        code,
    ]);
    assert_eq!(named.ok(), "yes\n");
}

#[test]
fn a_python_without_ipykernel_is_lent_one() {
    let home = Home::empty();
    let bare = home.work().join("bare");
    let mut venv = Command::new("python3");
    venv.args(["-m", "venv", "--without-pip"]).arg(&bare);
    assert!(venv.status().unwrap().success());
    let python = bare.join("bin/python");
    let code = "import sys; print(sys.prefix); x = 42";
    let first = home.tithon(&["run", "--python", python.to_str().unwrap(), "-c", code]);
    assert!(
        first.stderr.contains("ipykernel"),
        "progress is told: {first:?}"
    );
    assert_eq!(first.ok(), format!("{}\n", bare.display()));
    assert_eq!(home.tithon(&["run", "-c", "print(x)"]).ok(), "42\n");
    // Lent, not given: the environment is as it was.
    let mut import = Command::new(python);
    import.args(["-c", "import ipykernel"]);
    assert!(!import.output().unwrap().status.success());
}
