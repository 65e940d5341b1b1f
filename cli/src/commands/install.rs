//! `tithon install`: Tithon as a service of the user's own service manager.

use std::path::Path;

use clap::{Args, ValueEnum};
use tithon_ipc::{lock::Lock, paths::Home};

use super::{print, shutdown};
use crate::{
    error::CliError,
    exit::Exit,
    link::Link,
    render::words,
    service::{
        self,
        owned::{Found, OwnedFile},
        systemd::{Systemd, SystemdError, announced, keeps_lingering},
        units::{JOB, Service},
    },
};

const EXAMPLES: &str = "\
Examples:
  tithon install --dry-run     print the unit files, change nothing
  tithon install               install, enable and start
  systemctl --user status tithon
  journalctl --user -u tithon -f
  tithon uninstall             undo it; kernels keep running

Files that were not written by this command, or were edited since, are never
touched. Own settings belong into drop-ins: systemctl --user edit tithon.service
With --no-start the units are enabled but not started.";

/// Run the supervisor as a user service
///
/// Writes the units, enables lingering so that kernels survive the logout, and starts the service;
/// a supervisor that runs already is replaced without harm to kernels.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct InstallArgs {
    /// Print the files and change nothing
    #[arg(long)]
    dry_run: bool,

    /// For which service manager
    #[arg(long, value_enum, default_value_t = Manager::HERE)]
    manager: Manager,
}

/// A service manager that there are files for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Manager {
    Systemd,
    Launchd,
}

impl Manager {
    /// This system's.
    pub(crate) const HERE: Self = if cfg!(target_os = "macos") {
        Self::Launchd
    } else {
        Self::Systemd
    };
}

/// Installs, or says what it would.
///
/// # Errors
/// When a file is not ours to write, or the manager refuses.
pub(crate) async fn run(args: &InstallArgs, link: &Link, start: bool) -> Result<Exit, CliError> {
    let home = link.home();
    let program = service::invoked_as().map_err(|source| CliError::System {
        doing: "find this program's file",
        source,
    })?;
    let user = service::user()?;
    let service = Service {
        program: &program,
        home,
        user: &user,
    };
    let files = match args.manager {
        Manager::Systemd => service.systemd()?.to_vec(),
        Manager::Launchd => vec![service.launchd()?],
    };
    if args.dry_run {
        for file in &files {
            print(&format!("--- {}\n{}", file.path.display(), file.content))?;
        }
        return Ok(Exit::Success);
    }
    if args.manager == Manager::Launchd {
        return launchd(&files);
    }
    let systemd = match Systemd::find().await {
        Ok(systemd) => systemd,
        Err(err) => return without_systemd(&err, &program, home),
    };
    home.prepare()?;
    let changed = write(&files)?;
    systemd.ctl(&["daemon-reload"]).await?;
    systemd
        .ctl(&["enable", "--quiet", "tithon.socket", "tithon.service"])
        .await?;
    print("enabled     tithon.socket, tithon.service")?;
    linger(&systemd).await?;
    if start {
        begin(&systemd, link, &changed).await?;
    }
    print("undo it:    tithon uninstall")?;
    Ok(Exit::Success)
}

/// Writes what is not there yet: all of it, or nothing if one file is not ours.
fn write(files: &[OwnedFile]) -> Result<Vec<String>, CliError> {
    let mut found = Vec::new();
    for file in files {
        let state = file.found().map_err(|source| unreadable(file, source))?;
        if matches!(state, Found::Edited | Found::Foreign) {
            return Err(CliError::NotOurs {
                path: file.path.clone(),
                why: why_not_ours(state),
            });
        }
        found.push(state);
    }
    let mut changed = Vec::new();
    for (file, found) in files.iter().zip(found) {
        let path = file.path.display();
        if found == Found::Current {
            print(&format!("unchanged   {path}"))?;
            continue;
        }
        file.write().map_err(|source| CliError::Write {
            path: file.path.clone(),
            source,
        })?;
        let verb = if found == Found::Absent {
            "written "
        } else {
            "replaced"
        };
        print(&format!("{verb}    {path}"))?;
        changed.extend(
            (found == Found::Ours)
                .then(|| {
                    file.path
                        .file_name()
                        .map(|name| name.to_string_lossy().into_owned())
                })
                .flatten(),
        );
    }
    Ok(changed)
}

/// Why a file is left alone.
pub(super) fn why_not_ours(found: Found) -> &'static str {
    match found {
        Found::Edited => "was edited since it was installed",
        _ => "was not written by tithon install",
    }
}

pub(super) fn unreadable(file: &OwnedFile, source: std::io::Error) -> CliError {
    CliError::Read {
        path: file.path.clone(),
        source,
    }
}

async fn linger(systemd: &Systemd) -> Result<(), CliError> {
    if systemd.lingers().await.unwrap_or(false) {
        print("unchanged   lingering is on: kernels survive your logout")?;
    } else {
        match systemd.enable_linger().await {
            Ok(()) => print("enabled     lingering: kernels survive your logout")?,
            Err(err) => words::say(&format!(
                "lingering cannot be enabled, so your last logout ends every kernel: {err}\n\
                 hint: ask an administrator for: loginctl enable-linger {}",
                rustix::process::getuid().as_raw()
            )),
        }
    }
    if !keeps_lingering(&systemd.version) {
        words::say(&format!(
            "systemd {} may end user services at logout in spite of lingering\n\
             hint: 256.3 and later do not; until then keep one login session open",
            systemd.version
        ));
    }
    Ok(())
}

/// Hands the home over to the service.
async fn begin(systemd: &Systemd, link: &Link, changed: &[String]) -> Result<(), CliError> {
    let home = link.home();
    let main = systemd.main_pid("tithon.service").await?;
    let ours = main.is_some() && main == announced(&home.pid_file());
    if !ours && Lock::is_held(&home.lock_file()).unwrap_or(false) {
        // The socket unit would take the path from under it, and its lock would keep ours out.
        shutdown::end(link, shutdown::Kernels::Keep).await?;
        print("stopped     the supervisor that ran without a service; its kernels run on")?;
    }
    if changed.iter().any(|unit| unit == "tithon.socket") {
        // A socket that is listened on cannot be moved.
        systemd
            .ctl(&["stop", "tithon.socket", "tithon.service"])
            .await?;
    } else if !changed.is_empty() && ours {
        systemd.ctl(&["restart", "tithon.service"]).await?;
    }
    systemd
        .ctl(&["start", "tithon.socket", "tithon.service"])
        .await?;
    print("running     systemctl --user status tithon")
}

fn without_systemd(err: &SystemdError, program: &Path, home: &Home) -> Result<Exit, CliError> {
    words::fail(&format!(
        "{err}: nothing was installed\n\
         Nothing need be: the first command that needs a supervisor starts one, and it stays.\n\
         hint: to have one from boot on, put this line into crontab -e:\n\
         @reboot TITHON_HOME={home} {program} daemon --log-level INFO >/dev/null 2>&1\n\
         hint: in a container, run `tithon daemon` beside or below its init",
        home = shell(home.root()),
        program = shell(program),
    ));
    Ok(Exit::Failure)
}

fn launchd(files: &[OwnedFile]) -> Result<Exit, CliError> {
    if Manager::HERE != Manager::Launchd {
        return Err(CliError::Usage(
            "there is no launchd here\nhint: --dry-run prints what would be installed on a Mac"
                .to_owned(),
        ));
    }
    write(files)?;
    print(&format!(
        "now run:    launchctl bootstrap gui/$(id -u) ~/Library/LaunchAgents/{JOB}.plist\n\
         undo it:    launchctl bootout gui/$(id -u)/{JOB}; tithon uninstall"
    ))?;
    Ok(Exit::Success)
}

/// A path as one word of a shell.
fn shell(path: &Path) -> String {
    format!("'{}'", path.display().to_string().replace('\'', "'\\''"))
}
