//! The host: who keeps the supervisor running, whether a logout ends it, and which Python a kernel gets.

use std::{env, fs};

use tithon_ipc::{files::worker_lock, lock::Lock, paths::Home};

use super::{Finding, Manager, Severity};
use crate::service::{
    self,
    owned::Found,
    systemd::{Systemd, announced, keeps_lingering},
};

pub(super) async fn all(home: &Home, systemd: Manager<'_>) -> Vec<Finding> {
    let mut findings = vec![manager(systemd), installed(home, systemd).await];
    if let Ok(systemd) = systemd {
        findings.push(lingering(systemd).await);
    }
    findings.extend(watches(home));
    findings.push(python().await);
    findings
}

fn manager(systemd: Manager<'_>) -> Finding {
    const CHECK: &str = "manager";
    match systemd {
        Ok(systemd) => Finding::ok(
            CHECK,
            format!("systemd {} runs your services", systemd.version),
        ),
        Err(err) => Finding::bad(
            CHECK,
            Severity::Note,
            format!("{err}: whoever needs a supervisor starts one, and nobody at boot"),
            "`tithon install` says what to do instead; after `su` or `sudo`, log in properly: machinectl shell $USER@",
        ),
    }
}

async fn installed(home: &Home, systemd: Manager<'_>) -> Finding {
    const CHECK: &str = "service";
    let warning =
        |message: String, hint: &str| Finding::bad(CHECK, Severity::Warning, message, hint);
    let found: Vec<_> = match service::units_for(home) {
        Ok(units) => units
            .iter()
            .map(|unit| unit.found().unwrap_or(Found::Foreign))
            .collect(),
        Err(err) => return warning(err.to_string(), "set HOME"),
    };
    let Ok(systemd) = systemd else {
        return Finding::ok(CHECK, "there is no manager to install a service for");
    };
    if found.iter().all(|found| *found == Found::Absent) {
        return Finding::bad(
            CHECK,
            Severity::Note,
            "not installed: whoever needs a supervisor starts one, and nobody at boot",
            "tithon install",
        );
    }
    if found.contains(&Found::Edited) || found.contains(&Found::Foreign) {
        return warning(
            "the unit files are not as `tithon install` writes them".to_owned(),
            "move own settings to a drop-in (systemctl --user edit tithon.service), the files away, and: tithon install",
        );
    }
    if found.iter().any(|found| *found != Found::Current) {
        return warning(
            "the unit files are of another version, of another program or for another home"
                .to_owned(),
            "tithon install",
        );
    }
    let main = systemd.main_pid("tithon.service").await.ok().flatten();
    match (main, announced(&home.pid_file())) {
        (Some(main), Some(pid)) if main == pid => Finding::ok(
            CHECK,
            format!("the supervisor (pid {pid}) is tithon.service"),
        ),
        (None, None) => Finding::ok(CHECK, "installed; the next client starts it"),
        _ => warning(
            "installed, but the supervisor that runs is not the service".to_owned(),
            "tithon install: it hands over",
        ),
    }
}

async fn lingering(systemd: &Systemd) -> Finding {
    const CHECK: &str = "lingering";
    match systemd.lingers().await {
        Ok(true) if keeps_lingering(&systemd.version) => {
            Finding::ok(CHECK, "kernels survive your logout")
        }
        Ok(true) => Finding::bad(
            CHECK,
            Severity::Warning,
            format!(
                "lingering is on, but systemd {} may end user services at logout in spite of it",
                systemd.version
            ),
            "upgrade systemd to 256.3 or later; until then keep one login session open",
        ),
        Ok(false) => Finding::bad(
            CHECK,
            Severity::Error,
            "lingering is off: your last logout ends every kernel",
            "loginctl enable-linger",
        ),
        Err(err) => Finding::bad(
            CHECK,
            Severity::Note,
            format!("it cannot be told whether kernels survive your logout: {err}"),
            "ask an administrator whether lingering is enabled for you",
        ),
    }
}

/// inotify instances that a session may take: its worker watches the spool, its kernel two files.
const WATCHES: usize = 3;

/// A user has a limited number of inotify instances; editors take some as well.
fn watches(home: &Home) -> Option<Finding> {
    let limit = fs::read_to_string("/proc/sys/fs/inotify/max_user_instances").ok()?;
    let sessions = tithon_supervisor::directories(&home.sessions())
        .iter()
        .filter(|dir| Lock::is_held(&worker_lock(dir)).unwrap_or(false))
        .count();
    Some(judged(sessions, limit.trim().parse().ok()?))
}

fn judged(sessions: usize, limit: usize) -> Finding {
    const CHECK: &str = "inotify";
    if sessions.saturating_mul(4 * WATCHES) > limit.saturating_mul(3) {
        Finding::bad(
            CHECK,
            Severity::Note,
            format!(
                "{sessions} sessions run, and your processes may watch {limit} times: beyond that they look up to 20 times a second instead"
            ),
            "as root: sysctl fs.inotify.max_user_instances=1024, and the same line in /etc/sysctl.d",
        )
    } else {
        Finding::ok(
            CHECK,
            format!("your processes may watch files {limit} times"),
        )
    }
}

async fn python() -> Finding {
    const CHECK: &str = "python";
    // What a kernel would be started with here, short of fetching anything.
    let script = "import sys, importlib.util as u; print(sys.executable, u.find_spec('ipykernel') is not None)";
    let output = tokio::process::Command::new("python3")
        .args(["-c", script])
        .stdin(std::process::Stdio::null())
        .kill_on_drop(true)
        .output();
    let said = match tokio::time::timeout(std::time::Duration::from_secs(20), output).await {
        Ok(Ok(output)) if output.status.success() => {
            String::from_utf8_lossy(&output.stdout).trim().to_owned()
        }
        _ => {
            return Finding::bad(
                CHECK,
                Severity::Warning,
                format!(
                    "no python3 runs on PATH ({})",
                    env::var("PATH").unwrap_or_default()
                ),
                "install Python 3, activate an environment, or say which: tithon run --python PATH",
            );
        }
    };
    match said.rsplit_once(' ') {
        Some((python, "True")) => Finding::ok(CHECK, format!("{python} has ipykernel")),
        Some((python, _)) => Finding::bad(
            CHECK,
            Severity::Note,
            format!(
                "{python} has no ipykernel: it is lent one, fetched at the first start of a kernel"
            ),
            "without a network, install it beforehand: python3 -m pip install ipykernel",
        ),
        None => Finding::ok(CHECK, said),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_sessions_need_more_watches_than_linux_gives() {
        assert_eq!(judged(20, 128).severity, Severity::Ok);
        assert_eq!(judged(40, 128).severity, Severity::Note);
    }
}
