//! Processes as `/proc` shows them, and signals that reach nobody else's.

use std::{fs, os::unix::ffi::OsStrExt, path::Path};

use rustix::process::Signal;
use tithon_ipc::process::ProcessIdentity;

use super::until;

/// Whether a process runs, with all its threads; a zombie does not.
pub(crate) fn is_alive(pid: i32) -> bool {
    let identity = ProcessIdentity::of(pid).ok().flatten();
    identity.is_some_and(|process| matches!(process.open(), Ok(Some(_))))
}

/// Waits until a process is over. One that was killed has lost its memory, and the mark in it, some time
/// before it has ended.
pub(crate) fn await_end(pid: i32) {
    until(&format!("the end of process {pid}"), || {
        (!is_alive(pid)).then_some(())
    });
}

/// Bytes of memory that are the process's alone.
pub(crate) fn private_memory(pid: i32) -> u64 {
    resident(pid, "RssAnon:")
}

/// Bytes of files, its program above all, that the process has in memory.
pub(crate) fn mapped_memory(pid: i32) -> u64 {
    resident(pid, "RssFile:")
}

fn resident(pid: i32, what: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let value = status
        .lines()
        .find_map(|line| line.strip_prefix(what))
        .and_then(|value| value.trim().strip_suffix(" kB"));
    value.unwrap().parse::<u64>().unwrap() << 10
}

/// Sends a signal to a process whose environment says that it belongs to the home; `false` if there
/// is no such process.
pub(crate) fn signal(pid: i32, home: &Path, signal: Signal) -> bool {
    // Identity first, proof second, pidfd third: what is signalled is what was proved.
    let Ok(Some(identity)) = ProcessIdentity::of(pid) else {
        return false;
    };
    if !belongs_to(pid, home) {
        return false;
    }
    match identity.open() {
        Ok(Some(process)) => process.signal(signal).is_ok(),
        _ => false,
    }
}

/// Every living process of a home.
pub(crate) fn all(home: &Path) -> Vec<i32> {
    pids()
        .filter(|pid| is_alive(*pid) && belongs_to(*pid, home))
        .collect()
}

/// Ends every process of a home.
pub(crate) fn end_all(home: &Path) {
    // Again and again: a supervisor may have been starting a worker, and that one a kernel.
    for _ in 0..1000 {
        let mut ended = 0;
        for pid in pids() {
            ended += usize::from(is_alive(pid) && signal(pid, home, Signal::KILL));
        }
        if ended == 0 {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    eprintln!("processes of {} cannot be ended", home.display());
}

fn pids() -> impl Iterator<Item = i32> {
    let entries = fs::read_dir("/proc").unwrap();
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

fn belongs_to(pid: i32, home: &Path) -> bool {
    let Ok(environment) = fs::read(format!("/proc/{pid}/environ")) else {
        return false;
    };
    environment.split(|byte| *byte == 0).any(|variable| {
        let value = variable
            .strip_prefix(b"TITHON_HOME=")
            .or_else(|| variable.strip_prefix(b"TITHON_SESSION="));
        value.is_some_and(|value| Path::new(std::ffi::OsStr::from_bytes(value)).starts_with(home))
    })
}
