//! What `log`, `tail`, `wait`, `clear` and `rm` say of real cells in a real kernel.
//!
//! The first `python3` on the PATH needs ipykernel, or the means to be lent one.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    path::Path,
    process::{Command, Output},
};

/// A home of its own, whose processes end with the test.
struct Home(tempfile::TempDir);

impl Home {
    fn new() -> Self {
        // Short: socket paths have 107 bytes.
        Self(
            tempfile::Builder::new()
                .prefix("th")
                .tempdir_in("/tmp")
                .unwrap(),
        )
    }

    fn tithon(&self, args: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_tithon"))
            .args(args)
            .env("TITHON_HOME", self.0.path().join("h"))
            .current_dir(self.0.path())
            .output()
            .unwrap()
    }

    /// What a command that must succeed prints.
    fn told(&self, args: &[&str]) -> String {
        let output = self.tithon(args);
        assert!(output.status.success(), "{args:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn exit_code(&self, args: &[&str]) -> Option<i32> {
        self.tithon(args).status.code()
    }

    fn sessions(&self) -> std::path::PathBuf {
        self.0.path().join("h/sessions")
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        self.tithon(&["shutdown", "--kill-kernels"]);
    }
}

fn words(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn history_is_read_by_people_and_programs() {
    let home = Home::new();
    home.told(&["run", "-c", "for i in range(2):\n    print(i)"]);
    assert_eq!(home.exit_code(&["run", "-c", "1/0"]), Some(1));

    let log = home.told(&["log"]);
    assert!(log.starts_with("e1  done  "), "{log}");
    assert!(
        log.contains(
            "  by tithon run\n>>> for i in range(2):\n...     print(i)\n0\n1\n\ne2  error"
        ),
        "{log}"
    );
    assert!(
        log.contains("ZeroDivisionError") && !log.contains('\x1b'),
        "{log}"
    );

    let found = home.told(&["log", "--grep", "zerodiv"]);
    assert!(found.starts_with("e2  error"), "{found}");
    assert_eq!(home.told(&["log", "--grep", "nowhere to be found"]), "");
    assert!(
        home.told(&["log", "--exec", "e1"])
            .contains("...     print(i)")
    );
    assert_eq!(home.told(&["log", "--since", "2999-01-01"]), "");

    let json = home.told(&["log", "--json", "-n", "1"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json[0]["exec_id"], "e2");
    assert_eq!(json[0]["submitted_by"], "tithon run");
    assert_eq!(json.as_array().map(Vec::len), Some(1));
}

#[test]
fn waiting_ends_as_the_cell_does() {
    let home = Home::new();
    let gate = home.0.path().join("gate");
    let code = format!(
        "import os, time\nprint('before', flush=True)\nwhile not os.path.exists({gate:?}): time.sleep(0.01)\nprint('after')\n1/0"
    );
    let exec_id = home.told(&["run", "--no-wait", "-c", &code]);
    assert_eq!(home.exit_code(&["wait", "--timeout", "0.2"]), Some(3));
    let tail = std::thread::scope(|scope| {
        let tail = scope.spawn(|| home.tithon(&["tail", exec_id.trim()]));
        std::fs::write(&gate, "").unwrap();
        assert_eq!(home.exit_code(&["wait"]), Some(1));
        tail.join().unwrap()
    });
    assert_eq!(tail.status.code(), Some(1));
    assert_eq!(String::from_utf8_lossy(&tail.stdout), "before\nafter\n");
    assert!(words(&tail).contains("ZeroDivisionError"));
    assert_eq!(home.exit_code(&["wait", "e9"]), Some(2));
}

#[test]
fn a_cleared_cell_keeps_its_code() {
    let home = Home::new();
    home.told(&["run", "-c", "print('gone soon')"]);
    home.told(&["clear", "e1"]);
    let log = home.told(&["log"]);
    assert!(log.contains(">>> print('gone soon')\n"), "{log}");
    assert!(!log.contains("\ngone soon"), "{log}");
    assert_eq!(home.exit_code(&["clear", "e7"]), Some(1));
}

#[test]
fn only_a_stopped_session_is_removed_and_its_history_needs_no_kernel() {
    let home = Home::new();
    home.told(&["run", "--session", "lab", "-c", "print(42)"]);
    let refused = home.tithon(&["rm", "--session", "lab", "--yes"]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(words(&refused).contains("its kernel runs"), "{refused:?}");

    home.told(&["kill", "--session", "lab"]);
    assert!(
        home.told(&["log", "--session", "lab"])
            .contains(">>> print(42)\n42\n")
    );
    assert_eq!(
        home.told(&["ps"]).lines().count(),
        1,
        "no kernel was started"
    );

    let unasked = home.tithon(&["rm", "--session", "lab"]);
    assert!(words(&unasked).contains("--yes"), "{unasked:?}");
    home.told(&["rm", "--session", "lab", "--yes"]);
    assert_eq!(entries(&home.sessions()), 0);

    let typo = home.tithon(&["log", "--session", "lab"]);
    assert_eq!(typo.status.code(), Some(2));
    assert!(
        words(&typo).contains("there is no session 'lab'"),
        "{typo:?}"
    );
    assert_eq!(
        home.told(&["run", "--session", "lab", "-c", "print(1)"]),
        "1\n"
    );
    assert!(
        home.told(&["log", "--session", "lab"])
            .starts_with("e1  done"),
        "it begins anew"
    );
    let near = home.tithon(&["log", "--session", "lap"]);
    assert!(words(&near).contains("did you mean 'lab'?"), "{near:?}");
}

fn entries(dir: &Path) -> usize {
    std::fs::read_dir(dir).unwrap().count()
}
