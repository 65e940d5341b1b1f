//! The home: whose it is, who else may look into it, and whether sockets fit below it.

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use tithon_ipc::paths::Home;

use super::{Finding, Severity};

/// Files of a session that hold keys or the environment of a client.
const SECRETS: [&str; 3] = ["kernel.json", "launch.json", "journal.db"];

pub(super) fn all(home: &Home) -> Vec<Finding> {
    vec![permissions(home), secrets(home), socket(home)]
}

fn permissions(home: &Home) -> Finding {
    const CHECK: &str = "home";
    let root = home.root();
    let shown = root.display();
    let error = |message: String, hint: String| Finding::bad(CHECK, Severity::Error, message, hint);
    let found = match fs::symlink_metadata(root) {
        Ok(found) => found,
        Err(err) if err.kind() == io::ErrorKind::NotFound => {
            return Finding::ok(CHECK, format!("{shown} will be made when it is first used"));
        }
        Err(err) => {
            return error(
                format!("{shown} cannot be read: {err}"),
                "set TITHON_HOME to a directory of yours".to_owned(),
            );
        }
    };
    let me = rustix::process::getuid().as_raw();
    if !found.is_dir() {
        return error(
            format!("{shown} is not a directory"),
            "move it away, or set TITHON_HOME to another path".to_owned(),
        );
    }
    if found.uid() != me {
        return error(
            format!(
                "{shown} belongs to user id {}, not to you ({me})",
                found.uid()
            ),
            "set TITHON_HOME to a directory of yours".to_owned(),
        );
    }
    match found.mode() & 0o777 {
        mode if mode & 0o022 != 0 => error(
            format!("{shown} is writable by other users (mode {mode:04o}): nothing starts in it"),
            format!("chmod 700 {shown}"),
        ),
        mode if mode & 0o055 != 0 => Finding::bad(
            CHECK,
            Severity::Warning,
            format!("{shown} is readable by other users (mode {mode:04o})"),
            format!("chmod 700 {shown}"),
        ),
        _ => Finding::ok(CHECK, format!("{shown} is yours alone")),
    }
}

fn secrets(home: &Home) -> Finding {
    const CHECK: &str = "secrets";
    // Nobody gets to a file through a directory that is closed to him.
    let closed = fs::metadata(home.root()).is_ok_and(|found| found.mode() & 0o077 == 0);
    if closed {
        return Finding::ok(
            CHECK,
            "keys, environments and journals are out of others' reach",
        );
    }
    let open: Vec<_> = tithon_supervisor::directories(&home.sessions())
        .iter()
        .flat_map(|dir| SECRETS.map(|name| dir.join(name)))
        .filter(is_readable_by_others)
        .collect();
    match open.as_slice() {
        [] => Finding::ok(
            CHECK,
            "keys, environments and journals are readable by you alone",
        ),
        [first, ..] => Finding::bad(
            CHECK,
            Severity::Warning,
            format!(
                "{} files can be read by other users, such as {}",
                open.len(),
                first.display()
            ),
            format!("chmod -R go= {}", home.sessions().display()),
        ),
    }
}

fn is_readable_by_others(path: &PathBuf) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| found.mode() & 0o077 != 0)
}

fn socket(home: &Home) -> Finding {
    const CHECK: &str = "socket";
    let (socket, public) = (home.socket(), home.public_socket());
    if socket == public {
        return Finding::ok(
            CHECK,
            format!("{} is short enough for a socket", public.display()),
        );
    }
    let stand_in = socket.parent().unwrap_or(Path::new("/"));
    Finding::bad(
        CHECK,
        Severity::Note,
        format!(
            "{} is too long for a socket: sockets are in {}",
            public.display(),
            stand_in.display()
        ),
        "a shorter TITHON_HOME needs none of that; else keep what cleans /tmp away from it",
    )
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_home_is_judged_by_who_may_enter() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::at(dir.path().join("h"));
        assert_eq!(
            permissions(&home).severity,
            Severity::Ok,
            "there is none yet"
        );
        home.prepare().unwrap();
        for (mode, severity) in [
            (0o700, Severity::Ok),
            (0o755, Severity::Warning),
            (0o777, Severity::Error),
            (0o720, Severity::Error),
        ] {
            fs::set_permissions(home.root(), fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(permissions(&home).severity, severity, "{mode:o}");
        }
        let file = Home::at(dir.path().join("file"));
        fs::write(file.root(), "").unwrap();
        assert_eq!(permissions(&file).severity, Severity::Error);
        // Root's, and we may be root: then it is just another directory.
        let foreign = permissions(&Home::at("/usr".into())).severity;
        assert_eq!(
            foreign == Severity::Error,
            !rustix::process::getuid().is_root()
        );
    }

    #[test]
    fn a_key_that_others_can_read_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::at(dir.path().join("h"));
        let session = home.sessions().join("s");
        fs::create_dir_all(&session).unwrap();
        fs::write(session.join("meta.json"), "{}").unwrap();
        let key = session.join("kernel.json");
        fs::write(&key, "{}").unwrap();
        for (mode, severity) in [(0o600, Severity::Ok), (0o644, Severity::Warning)] {
            fs::set_permissions(&key, fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(secrets(&home).severity, severity, "{mode:o}");
        }
    }

    #[test]
    fn a_long_home_is_worth_a_note() {
        assert_eq!(socket(&Home::at("/h".into())).severity, Severity::Ok);
        let long = Home::at(PathBuf::from(format!("/{}", "x".repeat(120))));
        assert_eq!(socket(&long).severity, Severity::Note);
    }
}
