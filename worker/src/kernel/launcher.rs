//! Puts the kernel launcher, which is embedded in this binary, where a Python interpreter can run it.
//!
//! Each version has a directory of its own, named by its content: a kernel that runs keeps its files
//! whatever is installed later.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};
use tithon_ipc::files::{sweep_unfinished, write_atomic};

/// Environment of a launched kernel: the directory of its spool. Without it the kernel is a plain one.
pub const SPOOL: &str = "TITHON_SPOOL";
/// The offset up to which a predecessor's spool was committed: power loss may have shortened the files.
pub const SPOOL_BASE: &str = "TITHON_SPOOL_BASE";
/// Most bytes unread before `SPOOL_POLICY` applies; a tenth of the free space, if that is less.
pub const SPOOL_UNREAD: &str = "TITHON_SPOOL_UNREAD";
/// `slow` (the default) or `drop`: what to do with a kernel that nobody reads.
pub const SPOOL_POLICY: &str = "TITHON_SPOOL_POLICY";
/// A `site-packages` directory lent to an interpreter that has no ipykernel.
pub const SITE: &str = "TITHON_SITE";

/// The script to run. Jupyter tools look for this name in a kernel's command line.
const ENTRY: &str = "ipykernel_launcher.py";

/// What any Python process needs to be forked safely; these files need nothing else of the launcher.
pub const FORKING: [(&str, &str); 3] = [
    ("tithon_fork.py", include_str!("launcher/tithon_fork.py")),
    (
        "tithon_native.py",
        include_str!("launcher/tithon_native.py"),
    ),
    (
        "tithon_safety.py",
        include_str!("launcher/tithon_safety.py"),
    ),
];

/// Every file of the launcher, the entry last: once it is there, all are.
const FILES: [(&str, &str); 13] = [
    ("tithon_spool.py", include_str!("launcher/tithon_spool.py")),
    ("tithon_fd.py", include_str!("launcher/tithon_fd.py")),
    ("tithon_copy.py", include_str!("launcher/tithon_copy.py")),
    ("tithon_show.py", include_str!("launcher/tithon_show.py")),
    FORKING[0],
    FORKING[1],
    FORKING[2],
    (
        "tithon_revive.py",
        include_str!("launcher/tithon_revive.py"),
    ),
    (
        "tithon_requests.py",
        include_str!("launcher/tithon_requests.py"),
    ),
    (
        "tithon_traceback.py",
        include_str!("launcher/tithon_traceback.py"),
    ),
    (
        "tithon_checkpoint.py",
        include_str!("launcher/tithon_checkpoint.py"),
    ),
    (
        "tithon_capture.py",
        include_str!("launcher/tithon_capture.py"),
    ),
    (ENTRY, include_str!("launcher/ipykernel_launcher.py")),
];

/// Writes the launcher to `<dir>/<content hash>/ipykernel_launcher.py` and returns that path.
///
/// # Errors
/// Those of [`install_files`].
pub fn install(dir: &Path) -> io::Result<PathBuf> {
    Ok(install_files(dir, &FILES)?.join(ENTRY))
}

/// Writes files, each a name and its content, to `<dir>/<content hash>/` and returns that directory.
///
/// Files that are there and right are left alone, others replaced by rename, so any number of processes
/// may do this at once; what one of them left that was killed meanwhile goes when it is an hour old.
/// Directories are created 0700, files 0600.
///
/// # Errors
/// Whatever the file system says.
pub fn install_files(dir: &Path, files: &[(&str, &str)]) -> io::Result<PathBuf> {
    let home = dir.join(content_hash(files));
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&home)?;
    sweep_unfinished(&home);
    for (name, content) in files {
        let path = home.join(name);
        if fs::read(&path).is_ok_and(|present| present == content.as_bytes()) {
            continue;
        }
        write_atomic(&path, content.as_bytes())?;
    }
    Ok(home)
}

fn content_hash(files: &[(&str, &str)]) -> String {
    let mut hash = Sha256::new();
    for (name, content) in files {
        hash.update(name);
        hash.update([0]);
        hash.update(content);
        hash.update([0]);
    }
    hash.finalize()
        .iter()
        .take(8)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;
    use std::thread;
    use std::time::{Duration, SystemTime};

    #[test]
    fn installing_again_changes_nothing_and_repairs_what_is_broken() {
        let dir = tempfile::tempdir().unwrap();
        let entry = install(dir.path()).unwrap();
        let before = fs::metadata(&entry).unwrap().modified().unwrap();
        let module = entry.with_file_name("tithon_fd.py");
        fs::write(&module, "torn").unwrap();
        let left = entry.with_file_name("tithon_fd.py.4711-0.tmp");
        let hours_ago = SystemTime::now() - Duration::from_secs(7200);
        fs::File::create(&left)
            .unwrap()
            .set_modified(hours_ago)
            .unwrap();

        assert_eq!(install(dir.path()).unwrap(), entry);

        assert_eq!(fs::metadata(&entry).unwrap().modified().unwrap(), before);
        assert_eq!(fs::read_to_string(&module).unwrap(), FILES[1].1);
        assert!(!left.exists(), "somebody was killed while writing it");
        assert_eq!(
            fs::metadata(&module).unwrap().permissions().mode() & 0o777,
            0o600
        );
        assert_eq!(
            fs::metadata(entry.parent().unwrap())
                .unwrap()
                .permissions()
                .mode()
                & 0o777,
            0o700
        );
    }

    #[test]
    fn racing_installations_all_succeed() {
        let dir = tempfile::tempdir().unwrap();
        let entries: Vec<_> = thread::scope(|scope| {
            let racers: Vec<_> = (0..8)
                .map(|_| scope.spawn(|| install(dir.path()).unwrap()))
                .collect();
            racers
                .into_iter()
                .map(|racer| racer.join().unwrap())
                .collect()
        });
        assert!(entries.windows(2).all(|pair| pair[0] == pair[1]));
        assert_eq!(
            fs::read_dir(entries[0].parent().unwrap()).unwrap().count(),
            FILES.len()
        );
    }
}
