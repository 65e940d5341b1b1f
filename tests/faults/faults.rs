//! What is done to a running home.

use std::{fmt, time::Duration};

use rustix::process::Signal;

use crate::{
    clients::{ClientProcess, Follower},
    rig::{Home, signal},
    rng::Rng,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    KillWorker,
    KillSupervisor,
    KillBoth,
    StopWorker,
    StopSupervisor,
    StopKernel,
    KillKernelsChild,
    StopKernelsChild,
    KillClient,
    StopClient,
    DropClient,
    PauseClient,
    FillDisk,
    KillKernel,
    KillKernelUnwatched,
    TruncateLastRecord,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// What may happen at any moment; what is listed twice happens more often.
const ANY_TIME: [Fault; 15] = [
    Fault::KillWorker,
    Fault::KillWorker,
    Fault::KillWorker,
    Fault::KillSupervisor,
    Fault::KillBoth,
    Fault::StopWorker,
    Fault::StopSupervisor,
    Fault::StopKernel,
    Fault::KillKernelsChild,
    Fault::StopKernelsChild,
    Fault::KillClient,
    Fault::StopClient,
    Fault::DropClient,
    Fault::PauseClient,
    Fault::FillDisk,
];

/// How a kernel ends, once per round at most and last.
const LAST_ACTS: [Fault; 3] = [
    Fault::KillKernel,
    Fault::KillKernelUnwatched,
    Fault::TruncateLastRecord,
];

pub(crate) fn any_time(rng: &mut Rng) -> Fault {
    *rng.pick(&ANY_TIME)
}

pub(crate) fn last_act(rng: &mut Rng) -> Fault {
    *rng.pick(&LAST_ACTS)
}

/// Does it, and undoes it where it would last. False when there was nothing to do it to.
pub(crate) async fn inject(
    fault: Fault,
    home: &mut Home,
    followers: &[Follower],
    client: &ClientProcess,
    rng: &mut Rng,
) -> bool {
    let pause = rng.millis(1500);
    match fault {
        Fault::KillWorker => hit(home.worker_pid(), Signal::KILL),
        Fault::KillSupervisor => {
            home.kill_supervisor();
            tokio::time::sleep(pause / 2).await;
            home.start_supervisor();
            true
        }
        Fault::KillBoth => {
            let worker = home.worker_pid();
            home.kill_supervisor();
            let hit = hit(worker, Signal::KILL);
            tokio::time::sleep(pause / 2).await;
            home.start_supervisor();
            hit
        }
        Fault::StopWorker => hold(home.worker_pid(), pause).await,
        Fault::StopSupervisor => hold(home.supervisor_pid(), pause).await,
        Fault::StopKernel => hold(home.kernel_pid(), pause).await,
        Fault::KillKernelsChild => {
            let child = a_child_of(home.kernel_pid(), rng).await;
            hit(child, Signal::KILL)
        }
        Fault::StopKernelsChild => {
            let child = a_child_of(home.kernel_pid(), rng).await;
            hold(child, pause).await
        }
        Fault::KillClient => hit(client.pid.get(), Signal::KILL),
        Fault::StopClient => hold(client.pid.get(), pause).await,
        Fault::DropClient => {
            rng.pick(followers).drop.set(true);
            true
        }
        Fault::PauseClient => {
            rng.pick(followers).pause.set(pause);
            true
        }
        Fault::FillDisk if home.has_small_disk() => {
            home.fill_disk();
            tokio::time::sleep(pause).await;
            if rng.one_in(3) {
                hit(home.worker_pid(), Signal::KILL);
                tokio::time::sleep(pause).await;
            }
            home.free_disk();
            true
        }
        Fault::FillDisk => false,
        Fault::KillKernel => hit(home.kernel_pid(), Signal::KILL),
        Fault::KillKernelUnwatched | Fault::TruncateLastRecord => {
            let (worker, kernel) = (home.worker_pid(), home.kernel_pid());
            home.kill_supervisor();
            // Just now there may be no worker: it is unwatched all the more.
            hit(worker, Signal::KILL);
            let dead = hit(kernel, Signal::KILL);
            let is_gone = || {
                kernel.is_none_or(|pid| !std::path::Path::new(&format!("/proc/{pid}/exe")).exists())
            };
            while !is_gone() {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            if dead && fault == Fault::TruncateLastRecord {
                truncate_last_record(home, rng);
            }
            home.start_supervisor();
            dead
        }
    }
}

/// Undoes what may be left of earlier faults.
pub(crate) fn heal(home: &Home) {
    home.free_disk();
    for pid in [home.worker_pid(), home.supervisor_pid(), home.kernel_pid()] {
        hit(pid, Signal::CONT);
    }
}

fn hit(pid: Option<i32>, what: Signal) -> bool {
    if let Some(pid) = pid {
        signal(pid, what);
    }
    pid.is_some()
}

async fn hold(pid: Option<i32>, pause: Duration) -> bool {
    let held = hit(pid, Signal::STOP);
    tokio::time::sleep(pause).await;
    hit(pid, Signal::CONT);
    held
}

/// Few cells have children, and not for long: one is waited for.
async fn a_child_of(kernel: Option<i32>, rng: &mut Rng) -> Option<i32> {
    for _ in 0..200 {
        let children = kernel.map(children).unwrap_or_default();
        if !children.is_empty() {
            return Some(*rng.pick(&children));
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    None
}

fn children(pid: i32) -> Vec<i32> {
    std::fs::read_dir(format!("/proc/{pid}/task"))
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok())
        .flat_map(|pids| {
            pids.split_whitespace()
                .filter_map(|pid| pid.parse().ok())
                .collect::<Vec<i32>>()
        })
        .collect()
}

/// What a fatal signal in the middle of a `write` does.
fn truncate_last_record(home: &Home, rng: &mut Rng) {
    let newest = std::fs::read_dir(home.session().join("spool"))
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|end| end == "seg"))
        .max();
    if let Some(path) = newest
        && let Ok(file) = std::fs::File::options().write(true).open(path)
        && let Ok(found) = file.metadata()
        && found.len() > 64
    {
        file.set_len(found.len() - 1 - rng.below(20.min(found.len() - 64)))
            .ok();
    }
}
