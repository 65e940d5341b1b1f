//! Whether anybody in a kernel's control group was killed for memory: the verdict that an exit status alone,
//! a plain SIGKILL, does not give.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// Watches the count of kills for memory in a process's control group and those below it.
///
/// The group is the process's own, whichever limit above it was hit: Linux counts a kill where the victim
/// was. Where that group does not account for memory, its nearest ancestor that does is watched, for there
/// the process is accounted.
#[derive(Debug, Default)]
pub struct MemoryWatch {
    counter: Option<PathBuf>,
    before: u64,
}

impl MemoryWatch {
    /// Begins to watch; where no control group accounts for memory it never sees anything.
    pub fn of(pid: i32) -> Self {
        Self::on(counter(pid).ok().flatten())
    }

    fn on(counter: Option<PathBuf>) -> Self {
        let before = counter.as_deref().and_then(kills).unwrap_or(0);
        Self { counter, before }
    }

    /// Leaves out of account what happened so far: a child that an earlier cell lost is not what ends the
    /// kernel now.
    pub fn begin_again(&mut self) {
        if let Some(now) = self.counter.as_deref().and_then(kills) {
            self.before = now;
        }
    }

    /// Whether it has happened since.
    pub fn has_killed(&self) -> bool {
        self.counter
            .as_deref()
            .and_then(kills)
            .is_some_and(|now| now > self.before)
    }
}

fn counter(pid: i32) -> io::Result<Option<PathBuf>> {
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    Ok(unified(&groups, &mounts).or_else(|| legacy(&groups, &mounts)))
}

/// `memory.events` of the process's group in the unified hierarchy, or of its nearest ancestor that has one.
fn unified(groups: &str, mounts: &str) -> Option<PathBuf> {
    let group = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
    let (mount, dir) = directory(mounts, group, |kind, _| kind == "cgroup2")?;
    dir.ancestors()
        .take_while(|dir| dir.starts_with(&mount))
        .map(|dir| dir.join("memory.events"))
        .find(|events| events.exists())
}

/// `memory.oom_control` of the process's group in the memory controller's own, older hierarchy.
fn legacy(groups: &str, mounts: &str) -> Option<PathBuf> {
    let group = groups.lines().find_map(|line| {
        let (controllers, group) = line.split_once(':')?.1.split_once(':')?;
        is_among("memory", controllers).then_some(group)
    })?;
    let (_, dir) = directory(mounts, group, |kind, options| {
        kind == "cgroup" && is_among("memory", options)
    })?;
    Some(dir.join("memory.oom_control")).filter(|control| control.exists())
}

/// Where a hierarchy is mounted, and a group's directory in it.
fn directory(
    mounts: &str,
    group: &str,
    wanted: impl Fn(&str, &str) -> bool,
) -> Option<(PathBuf, PathBuf)> {
    mounts.lines().find_map(|line| {
        // ID parent major:minor root mount-point options [tags] - kind source super-options
        let (mount, file_system) = line.split_once(" - ")?;
        let mut mount = mount.split(' ').skip(3);
        let (root, point) = (mount.next()?, PathBuf::from(mount.next()?));
        let mut file_system = file_system.split(' ');
        let (kind, options) = (file_system.next()?, file_system.nth(1)?);
        // A container may be shown only a part of the hierarchy.
        let below = Path::new(group).strip_prefix(root).ok()?;
        wanted(kind, options).then(|| (point.clone(), point.join(below)))
    })
}

fn is_among(name: &str, list: &str) -> bool {
    list.split(',').any(|element| element == name)
}

fn kills(counter: &Path) -> Option<u64> {
    let text = fs::read_to_string(counter).ok()?;
    let count = |line: &str| line.strip_prefix("oom_kill ")?.trim().parse().ok();
    text.lines().find_map(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Directories that look like mounted hierarchies, and what `mountinfo` says of them.
    struct Hierarchies {
        dir: tempfile::TempDir,
        mounts: String,
    }

    impl Hierarchies {
        fn new(root: &str) -> Self {
            let dir = tempfile::tempdir().unwrap();
            let at = dir.path().display();
            let mounts = format!(
                "31 23 0:28 / {at} rw - tmpfs tmpfs rw,mode=755\n\
                 32 31 0:29 / {at}/cpu rw,relatime - cgroup cgroup rw,cpu,cpuacct\n\
                 35 31 0:32 / {at}/memory rw,relatime shared:9 - cgroup cgroup rw,memory\n\
                 41 31 0:38 {root} {at}/unified rw,relatime shared:4 master:1 - cgroup2 cgroup2 rw,nsdelegate\n"
            );
            Self { dir, mounts }
        }

        fn write(&self, path: &str, count: u64) -> PathBuf {
            let path = self.dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            let text = format!("low 0\nhigh 0\nmax 7\noom 3\noom_kill {count}\noom_group_kill 9\n");
            fs::write(&path, text).unwrap();
            path
        }
    }

    #[test]
    fn only_what_happens_while_it_is_watched_counts() {
        let hierarchies = Hierarchies::new("/");
        let events = hierarchies.write("unified/s/k/memory.events", 3);
        let found = unified("1:cpu:/\n0::/s/k\n", &hierarchies.mounts);
        assert_eq!(found.as_deref(), Some(events.as_path()));

        let mut watch = MemoryWatch::on(found);
        assert!(!watch.has_killed(), "three were killed before");
        hierarchies.write("unified/s/k/memory.events", 4);
        assert!(watch.has_killed());
        watch.begin_again();
        assert!(!watch.has_killed());
        hierarchies.write("unified/s/k/memory.events", 5);
        assert!(watch.has_killed());
        fs::remove_file(events).unwrap();
        assert!(!watch.has_killed(), "a group that is gone tells nothing");
    }

    #[test]
    fn a_group_that_does_not_account_for_memory_is_accounted_for_above() {
        let hierarchies = Hierarchies::new("/");
        fs::create_dir_all(hierarchies.dir.path().join("unified/user/s/k")).unwrap();
        let groups = "0::/user/s/k\n";
        assert_eq!(unified(groups, &hierarchies.mounts), None);
        let above = hierarchies.write("unified/user/memory.events", 0);
        assert_eq!(unified(groups, &hierarchies.mounts), Some(above));
        let nearer = hierarchies.write("unified/user/s/memory.events", 0);
        assert_eq!(unified(groups, &hierarchies.mounts), Some(nearer));
        // A sibling's is nobody's business.
        hierarchies.write("unified/user/s/w/memory.events", 0);
        let own = hierarchies.write("unified/user/s/k/memory.events", 0);
        assert_eq!(unified(groups, &hierarchies.mounts), Some(own));
    }

    #[test]
    fn a_container_that_sees_a_part_of_the_hierarchy_finds_its_groups_there() {
        let hierarchies = Hierarchies::new("/docker/0123");
        let events = hierarchies.write("unified/k/memory.events", 0);
        let found = unified("0::/docker/0123/k\n", &hierarchies.mounts);
        assert_eq!(found, Some(events));
        assert_eq!(unified("0::/elsewhere/k\n", &hierarchies.mounts), None);
    }

    #[test]
    fn the_older_hierarchy_is_asked_where_it_accounts_for_memory() {
        let hierarchies = Hierarchies::new("/");
        let control = hierarchies.write("memory/s/memory.oom_control", 0);
        let groups = "9:name=systemd:/\n4:memory:/s\n1:cpu,cpuacct:/\n0::/\n";
        assert_eq!(unified(groups, &hierarchies.mounts), None);
        assert_eq!(legacy(groups, &hierarchies.mounts), Some(control));
    }
}
