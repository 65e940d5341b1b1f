//! Where a worker stands: as a unit of the user's systemd or as a detached process, and the leaves of
//! its control group: `w` for itself, `k` for the kernel and everything that it ever starts.
//!
//! The leaves get no controllers: with one enabled below a unit, systemd 252 cannot put a new main
//! process into the unit again ("219/CGROUP"), and a worker that died would stay dead. Limits and
//! accounting are therefore the unit's own, worker included; the kernel is the first to be killed
//! for memory because its `oom_score_adj` is higher.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::process::Signal;
use tithon_ipc::{
    ids::{SessionKey, group_name},
    process::{ProcessHandle, ProcessIdentity},
    systemd::Systemd,
};
use tokio::time::sleep;

/// How long the processes of a leaf that is killed may take to disappear.
const KILL_WAIT: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(5);
/// systemd's mark of a control group that is its owner's to divide.
const DELEGATED: &str = "user.delegate";

/// What the supervisor says of how a worker was started.
#[derive(Clone, Debug)]
pub enum Standing {
    /// The main process of this unit.
    Unit(String),
    /// A process of its own, for this reason.
    Detached(String),
}

impl Standing {
    /// The unit, if it is one.
    pub(crate) fn unit(&self) -> Option<&str> {
        match self {
            Self::Unit(unit) => Some(unit),
            Self::Detached(_) => None,
        }
    }

    /// Why it is none.
    pub(crate) fn why_detached(&self) -> Option<&str> {
        match self {
            Self::Unit(_) => None,
            Self::Detached(why) => Some(why),
        }
    }
}

/// The control group of a session.
#[derive(Clone, Debug)]
pub struct Group {
    root: PathBuf,
    /// Whether it was made by us inside a group that was delegated to somebody else.
    ours: bool,
}

impl Group {
    /// Makes the leaves and moves this process into its own; `None` where there is no control group
    /// that is ours to divide. A session's directory names the part that is made in another's.
    pub fn settle(standing: &Standing, dir: &Path) -> Option<Self> {
        let own = own_group()?;
        let group = match standing {
            Standing::Unit(unit) if own.ends_with(unit) => Self {
                root: own,
                ours: false,
            },
            Standing::Detached(_) if is_delegated(&own) => Self {
                root: own.join(group_name(dir)),
                ours: true,
            },
            _ => return None,
        };
        let made = [&group.root, &group.root.join("w"), &group.kernel().0]
            .into_iter()
            .try_for_each(|dir| match fs::create_dir(dir) {
                Err(err) if err.kind() != io::ErrorKind::AlreadyExists => Err(err),
                _ => Ok(()),
            })
            .and_then(|()| fs::write(group.root.join("w/cgroup.procs"), "0"));
        match made {
            Ok(()) => Some(group),
            Err(err) => {
                tracing::warn!(group = %group.root.display(), %err, "the control group cannot be divided");
                None
            }
        }
    }

    /// The kernel's leaf.
    pub fn kernel(&self) -> Leaf {
        Leaf(self.root.join("k"))
    }

    /// The leaf of a copy of the kernel.
    pub(crate) fn copy(&self, number: u64) -> Leaf {
        Leaf(self.root.join(format!("c{number}")))
    }

    /// Where the kernel of a session that branches off waits for a worker with a group of its own.
    pub(crate) fn of_branch(&self, key: &str) -> Leaf {
        Leaf(self.root.join(branch_leaf(key)))
    }

    /// Removes what is empty of a group that nobody else will remove.
    pub fn dissolve(&self) {
        let parent = self.root.parent().filter(|_| self.ours);
        let Some(parent) = parent else { return };
        for entry in fs::read_dir(&self.root).into_iter().flatten().flatten() {
            // A kernel that could not be taken over stays in it, and the group with that.
            if is_branch_leaf(&entry.file_name().to_string_lossy()) {
                fs::remove_dir(entry.path()).ok();
            }
        }
        // While a kernel lives on in it, its next worker needs it.
        if fs::remove_dir(&self.kernel().0).is_ok() {
            let removed = fs::write(parent.join("cgroup.procs"), "0")
                .and_then(|()| fs::remove_dir(self.root.join("w")))
                .and_then(|()| fs::remove_dir(&self.root));
            if let Err(err) = removed {
                tracing::debug!(group = %self.root.display(), %err, "a control group stays");
            }
        }
    }
}

/// The leaf that holds a kernel and all its descendants, whatever they call themselves.
#[derive(Clone, Debug)]
pub struct Leaf(PathBuf);

impl Leaf {
    /// Makes it, where it is not there yet.
    pub(crate) fn make(&self) -> io::Result<()> {
        match fs::create_dir(&self.0) {
            Err(err) if err.kind() != io::ErrorKind::AlreadyExists => Err(err),
            _ => Ok(()),
        }
    }

    /// Removes it, if nobody is in it.
    pub(crate) fn remove(&self) {
        if let Err(err) = fs::remove_dir(&self.0)
            && err.kind() != io::ErrorKind::NotFound
        {
            tracing::debug!(leaf = %self.0.display(), %err, "a leaf stays");
        }
    }

    /// Takes in a kernel that was forked in another session's group, and waits in a leaf there for its own.
    /// Its memory stays accounted where it was used first: Linux moves no charges.
    pub(crate) fn take_in_branch(&self, pid: i32, key: &SessionKey) {
        let Ok(groups) = fs::read_to_string(format!("/proc/{pid}/cgroup")) else {
            return;
        };
        let waits = groups
            .lines()
            .any(|line| line.ends_with(&format!("/{}", branch_leaf(key.as_str()))));
        if waits && let Err(err) = fs::write(self.entrance(), pid.to_string()) {
            tracing::warn!(pid, %err, "the kernel stays in the control group of the session it branched off");
        }
    }

    /// What a process writes `0` to in order to be in it.
    pub fn entrance(&self) -> PathBuf {
        self.0.join("cgroup.procs")
    }

    /// Asks every process in it to end, but for those that are spared.
    pub(crate) fn terminate(&self, spared: &[ProcessIdentity]) {
        self.signal(Signal::TERM, spared);
    }

    /// Whether nobody is in it but those that are spared.
    pub(crate) fn is_left_to(&self, spared: &[ProcessIdentity]) -> bool {
        self.is_empty() || self.others(spared).next().is_none()
    }

    fn is_empty(&self) -> bool {
        fs::read_to_string(self.0.join("cgroup.events"))
            .map_or(true, |events| events.contains("populated 0"))
    }

    /// Kills everybody in it, those that fork meanwhile included, and waits for their end.
    pub async fn kill(&self, spared: &[ProcessIdentity]) {
        let gone = async {
            while !self.is_left_to(spared) {
                // All at once, where nobody is spared and Linux (5.14) can.
                let at_once = self.processes().all(|it| !spared.contains(it.identity()))
                    && fs::write(self.0.join("cgroup.kill"), "1").is_ok();
                if !at_once {
                    self.signal(Signal::KILL, spared);
                }
                sleep(POLL).await;
            }
        };
        tokio::time::timeout(KILL_WAIT, gone).await.ok();
    }

    fn signal(&self, signal: Signal, spared: &[ProcessIdentity]) {
        for process in self.others(spared) {
            if let Err(err) = process.signal(signal) {
                let pid = process.identity().pid;
                tracing::warn!(pid, %err, "what a kernel left cannot be signalled");
            }
        }
    }

    fn others(&self, spared: &[ProcessIdentity]) -> impl Iterator<Item = ProcessHandle> {
        self.processes()
            .filter(|process| !spared.contains(process.identity()))
    }

    /// Opened first and looked at afterwards: a pid that was used again meanwhile is not in the leaf.
    fn processes(&self) -> impl Iterator<Item = ProcessHandle> + use<> {
        let open = |pid: &str| ProcessIdentity::of(pid.parse().ok()?).ok()??.open().ok()?;
        let members = || fs::read_to_string(self.entrance()).unwrap_or_default();
        let opened: Vec<_> = members().lines().filter_map(open).collect();
        let still = members();
        opened.into_iter().filter(move |process| {
            let pid = process.identity().pid.to_string();
            still.lines().any(|line| line == pid)
        })
    }
}

fn branch_leaf(key: &str) -> String {
    format!("b{key}")
}

fn is_branch_leaf(name: &str) -> bool {
    name.len() == 17 && name.starts_with('b')
}

/// The directory of this process's control group, without the leaf that an earlier worker may have
/// left it in.
fn own_group() -> Option<PathBuf> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let path = groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
    Some(hierarchy()?.join(path))
}

/// Where version 2 is mounted; not at the usual place where version 1 is there as well.
fn hierarchy() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
    mounts.lines().find_map(|line| {
        let mut fields = line.split(' ').skip(1);
        let place = fields.next()?;
        (fields.next()? == "cgroup2").then(|| PathBuf::from(place))
    })
}

fn is_delegated(group: &Path) -> bool {
    let mut value = [0; 1];
    rustix::fs::getxattr(group, DELEGATED, &mut value[..]).is_ok() && value == *b"1"
}

/// Bounds the memory of a session, by its unit. Blocks for some milliseconds.
///
/// # Errors
/// Where the limit would not hold, in words for whoever asked for it.
pub(crate) fn limit_memory(standing: &Standing, bytes: u64) -> Result<(), String> {
    let unlimited = bytes == u64::MAX;
    let unit = match standing {
        Standing::Unit(unit) => unit,
        Standing::Detached(_) if unlimited => return Ok(()),
        Standing::Detached(why) => {
            return Err(format!(
                "memory cannot be limited here: the session's worker is no unit of systemd's ({why})"
            ));
        }
    };
    let value = if unlimited {
        "MemoryMax=infinity".to_owned()
    } else {
        format!("MemoryMax={bytes}")
    };
    let set = async {
        let systemd = Systemd::at_hand()?;
        systemd
            .ctl(&["set-property", "--runtime", unit, &value])
            .await
    };
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|err| format!("memory cannot be limited: {err}"))?
        .block_on(set)
        .map_err(|err| format!("memory cannot be limited: {err}"))?;
    // systemd accepts it also where Linux does not account for memory.
    let holds = own_group()
        .and_then(|own| {
            let root = own.ancestors().find(|dir| dir.ends_with(unit))?;
            fs::read_to_string(root.join("memory.max")).ok()
        })
        .is_some_and(|limit| limit.trim() != "max");
    if holds || unlimited {
        Ok(())
    } else {
        Err(
            "memory cannot be limited here: there is no memory controller for user services"
                .to_owned(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_unit_a_limit_is_refused_and_said_why() {
        let detached = Standing::Detached("no manager".to_owned());
        let err = limit_memory(&detached, 1 << 30).unwrap_err();
        assert!(err.contains("no manager"), "{err}");
        assert_eq!(limit_memory(&detached, u64::MAX), Ok(()));
    }

    #[test]
    fn a_group_that_is_not_delegated_is_left_alone() {
        let unit = Standing::Unit("tithon-k-0.service".to_owned());
        assert!(
            Group::settle(&unit, Path::new("/h/sessions/s")).is_none(),
            "the tests run in no unit of that name"
        );
        assert!(!is_delegated(Path::new("/")));
    }
}
