//! Homes that cannot be used, become unusable, or were tampered with: what a person is told, and
//! what goes on nevertheless.

#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "in a test a panic is the report, and what is done once is said"
)]

mod harness;

use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf, process::Command};

use harness::{Home, skip, until};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Checks that a command and a daemon both refuse the home, for that reason.
fn assert_refused(home: &Home, reason: &str) {
    for arguments in [&["run", "-c", "1"][..], &["daemon"]] {
        let told = home.tithon(arguments);
        assert_eq!(told.code, 2, "{told:?}");
        assert!(told.stderr.starts_with("tithon: "), "{told:?}");
        assert!(told.stderr.contains(reason), "{told:?}");
        assert!(told.stderr.contains("\nhint: "), "{told:?}");
        assert_eq!(told.stdout, "");
    }
    assert_eq!(home.supervisor(), None);
}

#[test]
fn a_home_that_is_a_file_is_refused() {
    let home = Home::empty();
    fs::write(home.root(), "mine").unwrap();
    assert_refused(
        &home,
        &format!("{} is not a directory", home.root().display()),
    );
    let below = home.root().join("below");
    assert_eq!(fs::read_to_string(home.root()).unwrap(), "mine");
    let home = home.at(below);
    assert_refused(&home, "is not a directory");
}

#[test]
fn a_home_that_others_could_write_to_is_refused() {
    let home = Home::empty();
    fs::create_dir(home.root()).unwrap();
    fs::set_permissions(home.root(), fs::Permissions::from_mode(0o777)).unwrap();
    assert_refused(&home, "is writable by other users (mode 0777)");
    fs::set_permissions(home.root(), fs::Permissions::from_mode(0o755)).unwrap();
    home.tithon(&["run", "-c", "1"]).ok();
    let mode = fs::metadata(home.root()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700, "what others could read is closed");
}

#[test]
fn a_home_of_somebody_else_is_refused() {
    let home = Home::empty();
    fs::create_dir(home.root()).unwrap();
    if std::os::unix::fs::chown(home.root(), Some(4711), None).is_err() {
        skip::<()>(
            "a_home_of_somebody_else_is_refused",
            "only root can give a directory away",
        );
        return;
    }
    assert_refused(&home, "belongs to user id 4711, not to you (0)");
}

/// A small file system of the test's own, gone with it.
struct Disk(TempDir);

impl Disk {
    /// Mounts one, or says which test is skipped.
    fn mount(size: &str, test: &str) -> Option<Self> {
        let dir = TempDir::with_prefix_in("t", "/tmp").unwrap();
        let options = format!("size={size},mode=0700");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "tithon-test"])
            .arg(dir.path())
            .output();
        if mounted.is_ok_and(|mounted| mounted.status.success()) {
            return Some(Self(dir));
        }
        skip(test, "mounting is not permitted")
    }

    /// A home on it.
    fn home(&self) -> Home {
        Home::empty().at(self.0.path().join("home"))
    }

    fn remount(&self, options: &str) {
        let options = format!("remount,{options}");
        let mut mount = Command::new("mount");
        mount.args(["-o", &options]).arg(self.0.path());
        assert!(mount.status().unwrap().success());
    }

    /// Fills what is left.
    fn fill(&self) -> PathBuf {
        let ballast = self.0.path().join("ballast");
        let file = fs::File::create(&ballast).unwrap();
        for piece in [1 << 16, 1 << 12, 1] {
            while std::io::Write::write_all(&mut &file, &vec![0; piece]).is_ok() {}
        }
        ballast
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: whoever still has a file open there is about to be ended.
        drop(Command::new("umount").arg("-l").arg(self.0.path()).status());
    }
}

#[test]
fn a_home_that_is_read_only_is_refused() {
    let Some(disk) = Disk::mount("1m", "a_home_that_is_read_only_is_refused") else {
        return;
    };
    disk.remount("ro");
    let reason = "cannot be made or read: Read-only file system";
    assert_refused(&disk.home(), reason);
}

#[test]
fn a_home_on_a_full_disk_says_so() {
    let Some(disk) = Disk::mount("1m", "a_home_on_a_full_disk_says_so") else {
        return;
    };
    let ballast = disk.fill();
    let home = disk.home();
    let told = home.tithon(&["run", "-c", "1"]);
    assert_eq!(told.code, 2, "{told:?}");
    assert!(told.stderr.contains("No space left on device"), "{told:?}");
    fs::remove_file(ballast).unwrap();
    assert_eq!(home.tithon(&["run", "-c", "6 * 7"]).ok(), "42\n");
}

/// The kernel goes on computing and remembers what it printed; the journal catches up.
#[test]
fn a_disk_that_fills_up_in_the_middle_stops_nothing() {
    let Some(disk) = Disk::mount("8m", "a_disk_that_fills_up_in_the_middle_stops_nothing") else {
        return;
    };
    let mut home = disk.home();
    home.start();
    let gate = home.work().join("gate");
    let mut client = home.attached("s", -1);
    client.run("s", "import os, time");
    let kernel = home.kernel("s");
    let exec_id = client.execute(
        "s",
        &format!(
            "print('before', flush=True)\nwhile not os.path.exists({gate:?}): time.sleep(0.005)\n\
             for i in range(2000): print(i, 'x' * 50, flush=True)\nopen({:?}, 'w').close()",
            gate.with_extension("passed")
        ),
    );
    let mut told = client.until_kind("output");
    let ballast = disk.fill();
    fs::write(&gate, "").unwrap();
    until("the kernel to have printed everything", || {
        gate.with_extension("passed").exists().then_some(())
    });
    // Others can be asked meanwhile, and say what is the matter.
    let mut asker = home.client();
    let ask = json!({"op": "status", "session": "s"});
    until("the status to tell", || {
        let status = asker.ask(&ask, "status_reply");
        (!status["journal_stalled"].is_null()).then_some(())
    });
    fs::remove_file(ballast).unwrap();
    told.0.extend(client.until_done(&exec_id).0);
    assert_eq!(told.done(&exec_id)["status"], "ok");
    let text = told.stdout(&exec_id);
    let lines: Vec<&str> = text.strip_prefix("before\n").unwrap().lines().collect();
    for (n, line) in lines.iter().enumerate() {
        let around = &lines[n.saturating_sub(2)..lines.len().min(n + 3)];
        assert!(line.starts_with(&format!("{n} x")), "line {n}: {around:?}");
    }
    assert_eq!(lines.len(), 2000);
    assert_eq!(home.journal("s").stdout(&exec_id), text);
    let status = asker.ask(&ask, "status_reply");
    assert_eq!(status["journal_stalled"], Value::Null);
    assert_eq!(client.run("s", "print('after')"), "after\n");
    assert_eq!(home.kernel("s"), kernel);
}

/// Changes a session's connection file while its worker is away.
fn tamper(home: &Home, change: impl FnOnce(String) -> String) {
    let path = home.session("s").join("kernel.json");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, change(text)).unwrap();
}

#[test]
fn a_connection_file_edited_by_hand_is_named_and_can_be_got_over() {
    let mut home = Home::new();
    let mut bystander = home.attached("other", -1);
    bystander.run("other", "x = 42");
    let edits: [fn(String) -> String; 3] = [
        |_| "edited by hand".to_owned(),
        |text| text.replace("\"shell_port\": 1", "\"shell_port\": \"one\""),
        |_| String::new(),
    ];
    for edit in edits {
        let mut client = home.attached("s", -1);
        client.run("s", "print('history')");
        let before = home.kernel("s").unwrap();
        home.kill_supervisor();
        home.kill(home.worker("s").unwrap());
        tamper(&home, edit);
        home.start();
        let mut client = home.client();
        client.send(&json!({"op": "attach", "session": "s"}));
        let (error, end) = client.dismissed();
        let message = error["message"].as_str().unwrap_or_default();
        assert!(message.contains("kernel.json"), "{error}");
        assert!(message.contains(&format!("kill {before}")), "{error}");
        assert_eq!(end.code(), 1000);
        assert_eq!(bystander.run("other", "print(x)"), "42\n");
        // Its kernel ended: the session starts afresh, with its history.
        home.kill(before);
        let mut client = home.client();
        let (snapshot, _) = client.attach("s", 0);
        let snapshot: Value = snapshot.unwrap();
        let outputs = &snapshot["executions"][0]["outputs"];
        assert_eq!(outputs[0]["text"], "history\n");
        assert_eq!(client.run("s", "print('fresh')"), "fresh\n");
    }
}
