//! A rig for one test: a machine with a real systemd and a user with a Python for kernels.
//!
//! [`Rig`] shares this machine's Linux and boots in a second; [`with_memory_controller`] has one of
//! its own, which is slow and can do what this one may not.
//!
//! Booted only where `TITHON_RIG` is set, for it is a whole machine; the test says so and passes
//! otherwise. With `TITHON_RIG=require` a test that cannot have its rig fails.

#![allow(
    dead_code,
    clippy::print_stderr,
    reason = "shared by test targets that use a part each; a test that is skipped says so"
)]

use std::{
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::{Mutex, MutexGuard},
};

use tempfile::TempDir;

/// One rig at a time: each is a whole machine.
static ONE: Mutex<()> = Mutex::new(());

/// What every script of a user begins with.
const PROLOGUE: &str = "\
set -euo pipefail
export PATH=$HOME/.local/bin:$PATH
until_true() { for _ in $(seq 600); do if eval \"$1\" >/dev/null 2>&1; then return; fi; sleep 0.05; done; echo \"never: $1\" >&2; exit 1; }
";

/// A running rig; switched off when dropped.
pub(crate) struct Rig {
    dir: PathBuf,
    path: String,
    _place: TempDir,
    _one: MutexGuard<'static, ()>,
}

impl Rig {
    /// Boots a rig in which `~/.local/bin/tithon` is the program under test; `None` where it cannot be.
    pub(crate) fn boot(test: &str) -> Option<Self> {
        if std::env::var_os("TITHON_RIG").is_none() {
            return skip(test, "it boots a machine; TITHON_RIG=require runs it");
        }
        let one = ONE.lock().unwrap_or_else(|broken| broken.into_inner());
        let Some(python) = python() else {
            return skip(test, "no python3 with ipykernel is found");
        };
        let place = tempfile::Builder::new()
            .prefix("rig")
            .tempdir_in("/tmp")
            .unwrap();
        let dir = place.path().join("r");
        let booted = script().arg("start").arg(&dir).output().unwrap();
        match booted.status.code() {
            Some(0) => {}
            Some(77) => return skip(test, &text(&booted.stderr)),
            _ => panic!("the rig does not boot: {}", text(&booted.stderr)),
        }
        let rig = Self {
            dir,
            path: path(&python),
            _place: place,
            _one: one,
        };
        rig.root(&format!(
            "install -D -o rig -g rig {} /home/rig/.local/bin/tithon; chown -R rig /home/rig/.local",
            env!("CARGO_BIN_EXE_tithon")
        ));
        Some(rig)
    }

    /// Runs a script in a login session of the user's, which ends with it; what it printed.
    pub(crate) fn user(&self, lines: &str) -> String {
        self.run("user", lines)
    }

    /// Runs a script as root.
    pub(crate) fn root(&self, lines: &str) -> String {
        self.run("root", lines)
    }

    fn run(&self, who: &str, lines: &str) -> String {
        let output = script()
            .arg(who)
            .arg(&self.dir)
            .args(["bash", "-c", &format!("{PROLOGUE}{lines}")])
            .env("PATH", &self.path)
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{:?}\n--- script\n{lines}\n--- stdout\n{}--- stderr\n{}",
            output.status,
            text(&output.stdout),
            text(&output.stderr),
        );
        text(&output.stdout)
    }

    fn show(&self) {
        let journal = "journalctl --no-pager -o short-precise -n 80; cat /home/rig/.tithon/*.log /home/rig/.tithon/sessions/*/worker.log";
        let output: Output = script()
            .arg("root")
            .arg(&self.dir)
            .args(["bash", "-c", journal])
            .output()
            .unwrap();
        eprintln!("{}", text(&output.stdout));
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.show();
        }
        let stopped = script().arg("stop").arg(&self.dir).status();
        if !std::thread::panicking() {
            assert!(stopped.is_ok_and(|status| status.success()));
        }
    }
}

/// Runs a script of the user's, who has `tithon` on the path, on a machine whose Linux accounts for
/// memory; what it printed, `None` where there is no such machine.
pub(crate) fn with_memory_controller(test: &str, lines: &str) -> Option<String> {
    if std::env::var_os("TITHON_RIG").is_none() {
        return skip(test, "it boots a machine; TITHON_RIG=require runs it");
    }
    let _one = ONE.lock().unwrap_or_else(|broken| broken.into_inner());
    let Some(python) = python() else {
        return skip(test, "no python3 with ipykernel is found");
    };
    let place = tempfile::Builder::new()
        .prefix("uml")
        .tempdir_in("/tmp")
        .unwrap();
    // The user inside is not the one who made it.
    std::fs::set_permissions(place.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let file = place.path().join("script");
    let program = env!("CARGO_BIN_EXE_tithon");
    std::fs::write(
        &file,
        format!(
            "{PROLOGUE}mkdir -p ~/.local/bin; ln -s {program} ~/.local/bin/tithon
ended() {{ code=$?; [ $code = 0 ] || {{ journalctl --no-pager -n 60; cat ~/.tithon/*.log ~/.tithon/sessions/*/worker.log; }} >&2; exit $code; }}
trap ended EXIT
{lines}"
        ),
    )
    .unwrap();
    let output = Command::new(rig_directory().join("uml.sh"))
        .arg(place.path().join("m"))
        .arg(&file)
        .env("PATH", path(&python))
        .output()
        .unwrap();
    match output.status.code() {
        Some(0) => Some(text(&output.stdout)),
        Some(77) => skip(test, &text(&output.stderr)),
        _ => panic!(
            "{:?}\n--- script\n{lines}\n--- said\n{}--- stderr\n{}",
            output.status,
            text(&output.stdout),
            text(&output.stderr),
        ),
    }
}

fn rig_directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/rig")
}

fn path(python: &Path) -> String {
    format!("{}:/usr/local/bin:/usr/bin:/bin", python.display())
}

fn script() -> Command {
    Command::new(rig_directory().join("systemd.sh"))
}

fn skip<T>(test: &str, why: &str) -> Option<T> {
    assert!(
        std::env::var_os("TITHON_RIG").is_none_or(|wish| wish != "require"),
        "{test} must not be skipped here: {why}"
    );
    eprintln!("skipped: {test}: {}", why.trim());
    None
}

/// The `bin` of a Python with ipykernel: the tests' own environment, else whatever is first on PATH.
fn python() -> Option<PathBuf> {
    let own = std::env::current_exe()
        .ok()?
        .ancestors()
        .nth(3)?
        .join("test-env/python/bin");
    let path = std::env::var_os("PATH")?;
    std::iter::once(own)
        .chain(std::env::split_paths(&path))
        .find(|bin| {
            Command::new(bin.join("python3"))
                .args(["-c", "import ipykernel"])
                .output()
                .is_ok_and(|output| output.status.success())
        })
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
