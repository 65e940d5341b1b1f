//! Sockets that nobody listens on any more: what workers and kernels leave in `run/` when they are
//! killed and their session is not used again.

use std::{
    fs::{self, DirEntry},
    io,
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::Path,
    time::Duration,
};

use rustix::{
    io::Errno,
    net::{SocketAddrUnix, connect},
};

use crate::platform;

/// How old a socket must be: a process may have bound it and not listen yet.
const AGE: Duration = Duration::from_secs(60);

/// Removes what is left; never a socket that somebody listens on.
pub(crate) fn sweep(run: &Path) {
    let Ok(entries) = fs::read_dir(run) else {
        return;
    };
    let removed = entries
        .flatten()
        .filter(|entry| is_ours(&entry.file_name().to_string_lossy()))
        .filter(|entry| remove_if_left(entry).unwrap_or(false))
        .count();
    if removed > 0 {
        tracing::info!(removed, "removed sockets of processes that are gone");
    }
}

/// A session's key and then `.sock` for its worker, `.k-N` for its kernel, `.cN` for a checkpoint, `.tN` and
/// `.tN-N` for a copy.
fn is_ours(name: &str) -> bool {
    name.split_at_checked(16).is_some_and(|(key, rest)| {
        key.bytes()
            .all(|byte| byte.is_ascii_digit() || matches!(byte, b'a'..=b'f'))
            && (rest == ".sock" || [".k-", ".c", ".t"].iter().any(|it| rest.starts_with(it)))
    })
}

fn remove_if_left(entry: &DirEntry) -> io::Result<bool> {
    let path = entry.path();
    let found = fs::symlink_metadata(&path)?;
    let is_old = found.modified()?.elapsed().is_ok_and(|age| age >= AGE);
    if !found.file_type().is_socket() || !is_old || is_listened_on(&path)? {
        return Ok(false);
    }
    // A worker that starts meanwhile puts another in its place.
    if fs::symlink_metadata(&path)?.ino() != found.ino() {
        return Ok(false);
    }
    fs::remove_file(&path)?;
    Ok(true)
}

/// Whether a connection is not refused. One that would have to wait means a listener as well.
fn is_listened_on(path: &Path) -> io::Result<bool> {
    let socket = platform::unwaiting()?;
    Ok(!matches!(
        connect(&socket, &SocketAddrUnix::new(path)?),
        Err(Errno::CONNREFUSED)
    ))
}

#[cfg(test)]
mod tests {
    use std::{fs::File, os::unix::net::UnixListener, time::SystemTime};

    use super::*;

    fn age(path: &Path) {
        // The time of a socket cannot be set through a descriptor.
        let hour_ago = SystemTime::now() - Duration::from_secs(3600);
        let seconds = hour_ago
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap()
            .as_secs();
        let time = rustix::fs::Timespec {
            tv_sec: i64::try_from(seconds).unwrap(),
            tv_nsec: 0,
        };
        let times = rustix::fs::Timestamps {
            last_access: time,
            last_modification: time,
        };
        rustix::fs::utimensat(rustix::fs::CWD, path, &times, rustix::fs::AtFlags::empty()).unwrap();
    }

    #[test]
    fn only_old_sockets_of_nobody_go() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let key = "0123456789abcdef";
        let left = [".sock", ".k-1", ".c12", ".t3", ".t3-1"].map(|kind| format!("{key}{kind}"));
        for name in &left {
            drop(UnixListener::bind(at(name)).unwrap());
            age(&at(name));
        }
        let living = format!("{key}.k-2");
        let _living = UnixListener::bind(at(&living)).unwrap();
        age(&at(&living));
        let young = format!("{key}.k-3");
        drop(UnixListener::bind(at(&young)).unwrap());
        for name in ["daemon.sock", "someones.sock"] {
            drop(UnixListener::bind(at(name)).unwrap());
            age(&at(name));
        }
        let file = format!("{key}.k-4");
        drop(File::create(at(&file)).unwrap());
        age(&at(&file));
        sweep(dir.path());
        for name in &left {
            assert!(!at(name).exists(), "{name}");
        }
        for name in [&living, &young, &file, "daemon.sock", "someones.sock"] {
            assert!(at(name).exists(), "{name}");
        }
    }
}
