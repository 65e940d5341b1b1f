//! `tithon doctor` with the conditions that it is there for made real, one at a time.
//!
//! What takes a service manager is in `service/`; what takes a network file system is a unit.

#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "in a test a panic is the report, and a test that is skipped says so"
)]

mod harness;

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, SystemTime},
};

use harness::{Home, Output, PYTHON, Running, is_alive, skip, until};
use serde_json::Value;
use tithon_ipc::{files::worker_lock, lock::Lock};

/// What the doctor says of one thing.
#[derive(Debug)]
struct Finding {
    severity: String,
    message: String,
    hint: String,
}

fn read(output: &Output, check: &str) -> Finding {
    let findings: Vec<Value> = serde_json::from_str(&output.stdout)
        .unwrap_or_else(|err| panic!("{err}: {}{}", output.stdout, output.stderr));
    let rank = |it: &Value| match it["severity"].as_str().unwrap() {
        "error" => 2,
        "warning" => 1,
        _ => 0,
    };
    assert_eq!(
        Some(output.code),
        findings.iter().map(rank).max(),
        "the exit code is the worst finding's: {findings:#?}"
    );
    let text = |it: &Value, key: &str| it[key].as_str().unwrap_or_default().to_owned();
    let found = findings.iter().find(|it| it["check"] == check);
    let found = found.unwrap_or_else(|| panic!("no {check} in {findings:#?}"));
    assert_eq!(
        found.get("hint").is_none(),
        found["severity"] == "ok",
        "whatever is wrong can be mended: {found}"
    );
    Finding {
        severity: text(found, "severity"),
        message: text(found, "message"),
        hint: text(found, "hint"),
    }
}

/// Asks the doctor about one thing.
fn examine(home: &Home, check: &str) -> Finding {
    read(&home.tithon(&["doctor", "--json"]), check)
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn who_may_look_into_the_home_is_told() {
    let home = Home::new();
    home.attached("s", 0).run("s", "1");
    assert_eq!(examine(&home, "home").severity, "ok");
    assert_eq!(examine(&home, "secrets").severity, "ok");
    chmod(home.root(), 0o755);
    let found = examine(&home, "home");
    assert_eq!(found.severity, "warning", "{found:?}");
    assert_eq!(found.hint, format!("chmod 700 {}", home.root().display()));
    assert_eq!(examine(&home, "secrets").severity, "ok");
    chmod(&home.session("s").join("kernel.json"), 0o644);
    assert_eq!(examine(&home, "secrets").severity, "warning");
    chmod(home.root(), 0o777);
    assert_eq!(examine(&home, "home").severity, "error");
    let shown = home.tithon(&["doctor", "--quiet"]);
    assert_eq!(shown.code, 2);
    assert!(shown.stdout.contains("ERROR    home"), "{}", shown.stdout);
    assert!(!shown.stdout.contains("ok "), "{}", shown.stdout);
    chmod(home.root(), 0o700);
}

#[test]
fn a_long_home_is_told() {
    let home = Home::empty();
    let long = home.work().join("x".repeat(120));
    let home = home.at(long);
    let found = examine(&home, "socket");
    assert_eq!(found.severity, "note", "{found:?}");
    assert!(!home.root().exists(), "the doctor only looks");
}

#[test]
fn a_disk_that_is_nearly_full_is_told() {
    let home = Home::empty();
    for (size, severity, words) in [
        ("size=32m", "error", "free at"),
        ("size=512m", "warning", "512 MiB free at"),
        ("size=4g,nr_inodes=100", "error", "hardly any files"),
    ] {
        let small = home.work().join(severity);
        fs::create_dir_all(&small).unwrap();
        // A mount that nobody else sees, gone with the command.
        let script =
            format!("mount -t tmpfs -o {size} tmpfs \"$1\" || exit 77; exec \"$0\" doctor --json");
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "--propagation", "private", "sh", "-c", &script])
            .arg(env!("CARGO_BIN_EXE_tithon"))
            .arg(&small)
            .env("TITHON_HOME", small.join("h"));
        let output = Running::start(command, b"").finish();
        if output.stdout.is_empty() {
            skip::<()>("a_disk_that_is_nearly_full_is_told", &output.stderr);
            return;
        }
        let found = read(&output, "space");
        assert_eq!(found.severity, severity, "{size}: {found:?}");
        assert!(found.message.contains(words), "{size}: {found:?}");
    }
}

#[test]
fn a_clock_that_was_set_back_is_told() {
    let home = Home::new();
    assert_eq!(examine(&home, "clock").severity, "ok");
    let log = fs::File::options()
        .append(true)
        .open(home.paths().log())
        .unwrap();
    log.set_modified(SystemTime::now() + Duration::from_secs(86_400))
        .unwrap();
    let found = examine(&home, "clock");
    assert_eq!(found.severity, "warning", "{found:?}");
}

#[test]
fn a_host_without_a_user_manager_is_told() {
    let mut home = Home::empty();
    let without_systemctl = PYTHON.root().join("bin");
    home.set("PATH", without_systemctl.to_str().unwrap());
    let found = examine(&home, "manager");
    assert_eq!(found.severity, "note", "{found:?}");
    assert!(found.hint.contains("tithon install"), "{found:?}");
}

#[test]
fn a_python_that_cannot_be_a_kernel_is_told() {
    let mut home = Home::empty();
    assert_eq!(examine(&home, "python").severity, "ok");
    let bare = home.work().join("bare");
    let made = Command::new("python3")
        .args(["-m", "venv", "--without-pip"])
        .arg(&bare)
        .status();
    assert!(made.unwrap().success());
    home.set("PATH", bare.join("bin").to_str().unwrap());
    let found = examine(&home, "python");
    assert_eq!(found.severity, "note", "{found:?}");
    assert!(found.message.contains("has no ipykernel"), "{found:?}");
    home.set("PATH", "/nowhere");
    let found = examine(&home, "python");
    assert_eq!(found.severity, "warning", "{found:?}");
    assert!(found.hint.contains("--python"), "{found:?}");
}

#[test]
fn a_lock_that_no_worker_holds_is_told() {
    let home = Home::new();
    home.attached("s", 0).run("s", "1");
    assert_eq!(examine(&home, "locks").severity, "ok", "a worker holds it");
    let killed = home.tithon(&["kill", "--session", "s"]);
    killed.ok();
    let lock = worker_lock(&home.session("s"));
    let _held = until("the worker's end", || Lock::try_acquire(&lock).unwrap());
    let found = examine(&home, "locks");
    assert_eq!(found.severity, "error", "{found:?}");
    assert!(found.hint.contains("fuser"), "{found:?}");
}

#[test]
fn processes_of_another_program_file_are_told() {
    let home = Home::empty();
    let command = home.command_of_another_file(&["run", "-c", "1"]);
    Running::start(command, b"").finish().ok();
    let found = examine(&home, "versions");
    assert_eq!(found.severity, "warning", "{found:?}");
    for pid in [home.supervisor().unwrap(), home.worker("default").unwrap()] {
        assert!(found.message.contains(&pid.to_string()), "{found:?}");
    }
    assert_eq!(found.hint, "tithon upgrade");
}

#[test]
fn a_process_that_outlived_its_session_is_told() {
    let home = Home::empty();
    home.paths().prepare().unwrap();
    assert_eq!(examine(&home, "orphans").severity, "ok");
    let mut orphan = Command::new("sleep")
        .arg("600")
        .env("TITHON_SESSION", home.paths().sessions().join("gone"))
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let found = until("the orphan", || {
        let found = examine(&home, "orphans");
        (found.severity != "ok").then_some(found)
    });
    assert_eq!(found.severity, "warning", "{found:?}");
    assert!(
        is_alive(i32::try_from(orphan.id()).unwrap()),
        "it only looks"
    );
    orphan.kill().unwrap();
    orphan.wait().unwrap();
}
