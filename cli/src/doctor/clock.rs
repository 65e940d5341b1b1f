//! Whether the clock goes with the files that were written and with the processes that run.
//!
//! A clock that was set back shows in files that seem to be of the future, for as long as they do. One that
//! was set forward shows in a process that runs: its start is counted by a clock that nobody sets, and the
//! file that it wrote when it began by the one that was. Of what happened before the oldest of these
//! processes nothing can be known.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use tithon_ipc::{
    files::{KernelRecord, WorkerRecord},
    lock::Lock,
    paths::Home,
    platform::process::began,
    process::ProcessIdentity,
};

use super::{Finding, Severity};
use crate::{render::units, service::systemd::announced};

const CHECK: &str = "clock";
/// Clocks of machines that share a disk differ by less.
const TOLERANCE: Duration = Duration::from_secs(60);
const HINT: &str = "let a time service set the clock: timedatectl set-ntp true";

/// Ages and retention are reckoned by the clock; one that was set makes them wrong.
pub(super) fn examine(home: &Home) -> Finding {
    let sessions = tithon_supervisor::directories(&home.sessions());
    let back = set_back(home, &sessions);
    if back > TOLERANCE {
        let message = format!(
            "files were written {} from now: the clock was set back",
            units::span(back.as_secs_f64())
        );
        return Finding::bad(CHECK, Severity::Warning, message, HINT);
    }
    match set_forward(home, &sessions) {
        Some((forward, witness)) => Finding::bad(
            CHECK,
            // It may have been wrong before and be right now.
            Severity::Note,
            format!(
                "the clock was set forward by {} since {witness} started: what is older seems older by as much, to `--retention-days` too",
                units::span(forward.as_secs_f64())
            ),
            format!("if it is wrong now, {HINT}"),
        ),
        None => Finding::ok(CHECK, "it was not set while what runs here ran"),
    }
}

fn set_back(home: &Home, sessions: &[PathBuf]) -> Duration {
    let mut files: Vec<PathBuf> = vec![home.log(), home.pid_file()];
    files.extend(
        sessions.iter().flat_map(|dir| {
            ["worker.log", "journal.db", "journal.db-wal"].map(|name| dir.join(name))
        }),
    );
    let now = SystemTime::now();
    files
        .iter()
        .filter_map(|path| written(path)?.duration_since(now).ok())
        .max()
        .unwrap_or_default()
}

/// By how much at most, and which process says so.
fn set_forward(home: &Home, sessions: &[PathBuf]) -> Option<(Duration, String)> {
    let supervisor = announced(&home.pid_file())
        .filter(|_| Lock::is_held(&home.lock_file()).unwrap_or(false))
        .and_then(|pid| ProcessIdentity::of(pid).ok()?)
        .map(|process| (home.pid_file(), process, "the supervisor".to_owned()));
    let workers = sessions.iter().filter_map(|dir| {
        let process = WorkerRecord::read(dir).ok()?.process;
        let witness = format!("worker {}", process.pid);
        Some((dir.join("worker.json"), process, witness))
    });
    let kernels = sessions.iter().filter_map(|dir| {
        let process = KernelRecord::read(dir).ok()?.process;
        let witness = format!("kernel {}", process.pid);
        Some((dir.join("kernel.process.json"), process, witness))
    });
    supervisor
        .into_iter()
        .chain(workers)
        .chain(kernels)
        .filter_map(|(file, process, witness)| Some((jump(&file, &process)?, witness)))
        .filter(|(jump, _)| *jump > TOLERANCE)
        .max_by_key(|(jump, _)| *jump)
}

/// By how much a living process seems to be younger than the file in which it, or whoever started it, said
/// that it is there.
fn jump(file: &Path, process: &ProcessIdentity) -> Option<Duration> {
    process.open().ok()??;
    let began = began(process.start_time).ok()?;
    began.duration_since(written(file)?).ok()
}

fn written(path: &Path) -> Option<SystemTime> {
    fs::metadata(path).ok()?.modified().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(path: &Path, time: SystemTime) {
        fs::File::options()
            .append(true)
            .open(path)
            .unwrap()
            .set_modified(time)
            .unwrap();
    }

    #[test]
    fn a_clock_that_was_set_back_shows_in_the_files() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::at(dir.path().join("h"));
        home.prepare().unwrap();
        fs::write(home.log(), "").unwrap();
        assert_eq!(examine(&home).severity, Severity::Ok);
        set(&home.log(), SystemTime::now() + Duration::from_secs(7200));
        let found = examine(&home);
        assert_eq!(found.severity, Severity::Warning);
        assert!(found.message.contains("1h59m"), "{}", found.message);
    }

    #[test]
    fn a_clock_that_was_set_forward_shows_in_a_living_process() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::at(dir.path().join("h"));
        home.prepare().unwrap();
        let session = home.sessions().join("s");
        fs::create_dir_all(&session).unwrap();
        fs::write(session.join("meta.json"), "{}").unwrap();
        let process = ProcessIdentity::current().unwrap();
        let started = began(process.start_time).unwrap();
        let record = KernelRecord { process };
        record.write(&session).unwrap();
        assert_eq!(examine(&home).severity, Severity::Ok);
        // As its record is dated by a clock that went three days after.
        let file = session.join("kernel.process.json");
        set(&file, started - Duration::from_secs(3 * 86_400));
        let found = examine(&home);
        assert_eq!(found.severity, Severity::Note, "{}", found.message);
        assert!(found.message.contains("since kernel"), "{}", found.message);
        // A record that is younger than its process tells nothing: it may have been written late.
        set(&file, started + Duration::from_secs(3600));
        assert_eq!(set_forward(&home, &[session]), None);
    }
}
