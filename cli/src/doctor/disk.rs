//! The file system of the home: of which kind, how full, and what of it is used no more.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use rustix::fs::statvfs;
use tithon_ipc::paths::Home;

use super::{Finding, Severity};
use crate::{platform::networked, render::units};

/// Below this much free space journals soon cannot grow; bytes.
const LITTLE: u64 = 1 << 30;
/// Below this much they cannot now.
const NONE: u64 = 64 << 20;
pub(super) fn all(home: &Home) -> Vec<Finding> {
    // A home that is not there yet will be on the file system of what is.
    let Some(place) = home.root().ancestors().find(|path| path.exists()) else {
        return Vec::new();
    };
    [kind(place), space(place), unused(home)]
        .into_iter()
        .flatten()
        .collect()
}

fn kind(place: &Path) -> Option<Finding> {
    const CHECK: &str = "filesystem";
    Some(judged(CHECK, networked(place).ok()?.as_deref(), place))
}

fn judged(check: &'static str, networked: Option<&str>, place: &Path) -> Finding {
    match networked {
        None => Finding::ok(
            check,
            format!("{} is on a local file system", place.display()),
        ),
        Some(name) => Finding::bad(
            check,
            Severity::Error,
            format!(
                "{} is on {name}, where a journal can be damaged and locks may not hold",
                place.display()
            ),
            "set TITHON_HOME to a local disk, e.g. in ~/.profile: export TITHON_HOME=/var/tmp/$USER-tithon",
        ),
    }
}

fn space(place: &Path) -> Option<Finding> {
    const CHECK: &str = "space";
    let stat = statvfs(place).ok()?;
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    // File systems without a limit on files say 0 of 0.
    let no_files = stat.f_files > 0 && stat.f_favail < 1000;
    let shown = format!("{} free at {}", units::bytes(free), place.display());
    let hint = "free some space; `tithon ps --all` shows what sessions there are";
    Some(match free {
        _ if no_files => Finding::bad(
            CHECK,
            Severity::Error,
            format!("hardly any files can be made at {}", place.display()),
            "remove files: the file system is out of inodes",
        ),
        0..NONE => Finding::bad(CHECK, Severity::Error, shown, hint),
        NONE..LITTLE => Finding::bad(CHECK, Severity::Warning, shown, hint),
        _ => Finding::ok(CHECK, shown),
    })
}

/// Environments that were lent to kernels and that no session's kernel was last started with.
fn unused(home: &Home) -> Option<Finding> {
    const CHECK: &str = "envs";
    let used: Vec<String> = tithon_supervisor::directories(&home.sessions())
        .iter()
        .filter_map(|dir| fs::read_to_string(dir.join("launch.json")).ok())
        .collect();
    let unused: Vec<PathBuf> = fs::read_dir(home.envs())
        .ok()?
        .flatten()
        .map(|entry| entry.path())
        .filter(|env| env.join("receipt.json").is_file())
        .filter(|env| {
            // As JSON has it: a path may have quotes in it.
            let path = serde_json::Value::from(env.to_string_lossy()).to_string();
            let path = path.trim_matches('"');
            !used.iter().any(|launch| launch.contains(path))
        })
        .collect();
    let [first, others @ ..] = unused.as_slice() else {
        return Some(Finding::ok(CHECK, "every lent environment is used"));
    };
    let size: u64 = unused.iter().map(|env| taken(env)).sum();
    let more = match others.len() {
        0 => String::new(),
        count => format!(" and {count} more"),
    };
    Some(Finding::bad(
        CHECK,
        Severity::Note,
        format!(
            "no session uses {}{more}: {} of ipykernel, made anew when needed",
            first.display(),
            units::bytes(size)
        ),
        "while no kernel is being started: rm -r, if the space matters",
    ))
}

/// Bytes a directory takes with all below it; links are not followed.
fn taken(dir: &Path) -> u64 {
    let mut sum = 0;
    let mut open = vec![dir.to_owned()];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            let Ok(found) = entry.metadata() else {
                continue;
            };
            sum += found.blocks() * 512;
            if found.is_dir() {
                open.push(entry.path());
            }
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_file_system_is_an_error() {
        let place = Path::new("/h");
        assert_eq!(judged("x", Some("NFS"), place).severity, Severity::Error);
        assert_eq!(judged("x", None, place).severity, Severity::Ok);
        assert!(kind(Path::new("/proc")).is_some());
    }

    #[test]
    fn an_environment_is_used_if_a_session_was_started_with_it() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::at(dir.path().join("h"));
        home.prepare().unwrap();
        assert!(unused(&home).is_none(), "nothing was lent");
        let env = home.envs().join("cpython-311-0123");
        fs::create_dir_all(env.join("site")).unwrap();
        fs::write(env.join("receipt.json"), "{}").unwrap();
        fs::write(env.join("site/big.py"), vec![b'#'; 1 << 20]).unwrap();
        let found = unused(&home).unwrap();
        assert_eq!(found.severity, Severity::Note);
        assert!(found.message.contains("1.0 MiB"), "{}", found.message);
        let session = home.sessions().join("s");
        fs::create_dir(&session).unwrap();
        fs::write(session.join("meta.json"), "{}").unwrap();
        let launch = serde_json::json!({"launch": {"env": {"X": env.join("site")}}});
        fs::write(session.join("launch.json"), launch.to_string()).unwrap();
        assert_eq!(unused(&home).unwrap().severity, Severity::Ok);
    }
}
