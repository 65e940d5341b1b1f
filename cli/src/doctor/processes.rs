//! What runs: the supervisor, the workers and their locks, and what nobody will end.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use tithon_ipc::{
    files::{WorkerRecord, worker_lock},
    lock::Lock,
    paths::Home,
    platform::process::runs,
};
use tithon_supervisor::orphans::{Orphan, Why};

use super::{Finding, Severity};
use crate::{service::systemd::announced, start::program};

pub(super) fn all(home: &Home) -> Vec<Finding> {
    let directories = tithon_supervisor::directories(&home.sessions());
    let mut findings = vec![locks(&directories)];
    findings.extend(versions(home, &directories));
    findings.push(orphans(home));
    findings
}

/// A lock is held by a worker that says who it is, or something is wrong.
fn locks(directories: &[PathBuf]) -> Finding {
    const CHECK: &str = "locks";
    let stuck: Vec<_> = directories
        .iter()
        .filter(|dir| Lock::is_held(&worker_lock(dir)).unwrap_or(false) && worker(dir).is_none())
        .collect();
    match stuck.as_slice() {
        [] => Finding::ok(CHECK, "every lock is held by a living worker"),
        [first, ..] => Finding::bad(
            CHECK,
            Severity::Error,
            format!(
                "{} sessions are locked by a process that is no worker, such as {}",
                stuck.len(),
                first.display()
            ),
            format!(
                "see who holds it: fuser -v {}",
                worker_lock(first).display()
            ),
        ),
    }
}

fn versions(home: &Home, directories: &[PathBuf]) -> Option<Finding> {
    const CHECK: &str = "versions";
    let file = program().and_then(fs::metadata).ok()?;
    let file = (file.dev(), file.ino());
    let workers: Vec<_> = directories.iter().filter_map(|dir| worker(dir)).collect();
    let mut outdated: Vec<_> = workers
        .iter()
        .filter(|worker| !runs(worker.process.pid, file))
        .map(|worker| format!("worker {} ({})", worker.process.pid, worker.version))
        .collect();
    let supervisor = announced(&home.pid_file())
        .filter(|_| Lock::is_held(&home.lock_file()).unwrap_or(false))
        .filter(|pid| !runs(*pid, file));
    outdated.extend(supervisor.map(|pid| format!("supervisor {pid}")));
    Some(if outdated.is_empty() {
        Finding::ok(
            CHECK,
            format!("supervisor and {} workers run this program", workers.len()),
        )
    } else {
        Finding::bad(
            CHECK,
            Severity::Warning,
            format!(
                "run another program file than this one: {}",
                outdated.join(", ")
            ),
            "tithon upgrade",
        )
    })
}

fn worker(dir: &Path) -> Option<WorkerRecord> {
    let record = WorkerRecord::read(dir).ok()?;
    record.process.open().ok()??;
    Some(record)
}

fn orphans(home: &Home) -> Finding {
    const CHECK: &str = "orphans";
    // A worker without a supervisor is for the next one to find.
    let orphans = Orphan::find(home)
        .into_iter()
        .filter(|orphan| orphan.why() != Why::NoSupervisor);
    match orphans.count() {
        0 => Finding::ok(CHECK, "no process outlived its session"),
        count => Finding::bad(
            CHECK,
            Severity::Warning,
            format!("{count} processes outlived their session"),
            "tithon ps --orphans shows them, tithon reap ends them",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_without_a_worker_is_stuck() {
        let dir = tempfile::tempdir().unwrap();
        let directories = [dir.path().to_owned()];
        assert_eq!(locks(&directories).severity, Severity::Ok);
        let _lock = Lock::try_acquire(&worker_lock(dir.path()))
            .unwrap()
            .unwrap();
        assert_eq!(locks(&directories).severity, Severity::Error);
        let process = tithon_ipc::process::ProcessIdentity::current().unwrap();
        let record = WorkerRecord {
            process,
            control: dir.path().join("c"),
            version: "0".to_owned(),
            unit: None,
        };
        record.write(dir.path()).unwrap();
        assert_eq!(locks(&directories).severity, Severity::Ok);
    }
}
