//! Which processes belong to a kernel, and what they use.

use std::path::Path;

use tithon_ipc::{
    files::CheckpointRecord, marks::Marked, platform::process as system, process::ProcessHandle,
};

/// Deeper trees than this are cut: a fork bomb must not hang a status.
const TREE_MAX: usize = 4096;

/// What a kernel and its descendants use.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Usage {
    /// Resident set, summed: pages shared between forks count once for each.
    pub memory_bytes: u64,
    /// User and system time in seconds, of processes that have ended and were waited for too.
    pub cpu_seconds: f64,
}

/// What the tree below `pid` uses now.
pub fn usage(pid: i32) -> Usage {
    let mut tree = vec![pid];
    let mut at = 0;
    let mut total = Usage::default();
    while at < tree.len() && tree.len() < TREE_MAX {
        let pid = tree[at];
        at += 1;
        tree.extend(system::children(pid));
        total.memory_bytes += system::resident(pid).unwrap_or(0);
        total.cpu_seconds += system::cpu_seconds(pid).unwrap_or(0.0);
    }
    total
}

/// Every living process of ours, workers and checkpoints apart, whose environment carries the
/// session's mark. A worker that retired may still take leave of its clients, and a checkpoint is
/// there to outlive its kernel.
pub fn marked(dir: &Path) -> Vec<ProcessHandle> {
    let spared = CheckpointRecord::read(dir).processes;
    Marked::all()
        .into_iter()
        .filter(|marked| marked.session == dir && !marked.is_worker())
        .filter(|marked| !spared.contains(marked.process.identity()))
        .map(|marked| marked.process)
        .collect()
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use tithon_ipc::marks::MARK;

    use super::*;

    #[test]
    fn only_processes_with_the_exact_mark_are_ours() {
        let dir = tempfile::tempdir().unwrap();
        let sleeper = |mark: &Path| {
            Command::new("sleep")
                .arg("1000")
                .env(MARK, mark)
                .spawn()
                .unwrap()
        };
        let mut ours = sleeper(dir.path());
        let mut other = sleeper(&dir.path().join("x"));
        let found: Vec<u32> = marked(dir.path())
            .iter()
            .map(|handle| u32::try_from(handle.identity().pid).unwrap())
            .collect();
        for child in [&mut ours, &mut other] {
            child.kill().unwrap();
            child.wait().unwrap();
        }
        assert_eq!(found, [ours.id()]);
    }

    #[test]
    fn usage_counts_this_process() {
        let used = usage(i32::try_from(std::process::id()).unwrap());
        assert!(used.memory_bytes > 1 << 20, "{used:?}");
    }
}
