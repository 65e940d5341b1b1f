//! `tithon uninstall`: what `tithon install` did, undone.

use clap::Args;

use super::{
    install::{Manager, unreadable, why_not_ours},
    print,
};
use crate::{
    error::CliError,
    exit::Exit,
    link::Link,
    render::words,
    service::{
        self,
        owned::{Found, OwnedFile},
        systemd::Systemd,
        units::{JOB, Service},
    },
};

const EXAMPLES: &str = "\
Examples:
  tithon uninstall

Kernels keep running, and the next command that needs a supervisor starts one.
To end kernels as well: tithon shutdown --kill-kernels, before this. Sessions
and their histories stay in $TITHON_HOME; lingering stays on, because other
services of yours may rely on it.";

/// Stop the user service and remove what `install` wrote
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct UninstallArgs {
    /// Say what would be removed and change nothing
    #[arg(long)]
    dry_run: bool,
}

/// Removes our files; exit code 1 when some of them are not ours any more and stay.
///
/// # Errors
/// When a file cannot be removed, or the manager refuses to stop the service.
pub(crate) async fn run(args: &UninstallArgs, link: &Link) -> Result<Exit, CliError> {
    let user = service::user()?;
    // What is ours is told by its mark: the program named in the units does not matter here.
    let units = Service {
        program: "tithon".as_ref(),
        home: link.home(),
        user: &user,
    };
    let files = match Manager::HERE {
        Manager::Systemd => units.systemd()?.to_vec(),
        Manager::Launchd => vec![units.launchd()?],
    };
    let mut ours = Vec::new();
    let mut exit = Exit::Success;
    for file in files {
        match file.found().map_err(|source| unreadable(&file, source))? {
            Found::Absent => {}
            Found::Current | Found::Ours => ours.push(file),
            found => {
                words::say(&format!(
                    "{} {}: it stays",
                    file.path.display(),
                    why_not_ours(found)
                ));
                exit = Exit::Failure;
            }
        }
    }
    if ours.is_empty() {
        print("nothing is installed")?;
        return Ok(exit);
    }
    if args.dry_run {
        for file in &ours {
            print(&format!("would remove {}", file.path.display()))?;
        }
        return Ok(exit);
    }
    let systemd = match Manager::HERE {
        Manager::Systemd => Systemd::find().await.ok(),
        Manager::Launchd => None,
    };
    stop(systemd.as_ref(), &ours).await?;
    for file in &ours {
        std::fs::remove_file(&file.path).map_err(|source| CliError::Write {
            path: file.path.clone(),
            source,
        })?;
        print(&format!("removed     {}", file.path.display()))?;
    }
    if let Some(systemd) = &systemd {
        systemd.ctl(&["daemon-reload"]).await?;
        // Empty it is of no use; with kernels in it, it must stay.
        let sessions = systemd
            .ctl(&["list-units", "--no-legend", "tithon-k-*.service"])
            .await?;
        let tasks = systemd.show(Some("tithon.slice"), "TasksCurrent").await?;
        // Not a number where Linux does not count them.
        if sessions.is_empty() && tasks.parse().unwrap_or(0_u64) == 0 {
            systemd.ctl(&["stop", "tithon.slice"]).await?;
        }
    }
    print("kernels run on; undo it: tithon install")?;
    Ok(exit)
}

async fn stop(systemd: Option<&Systemd>, ours: &[OwnedFile]) -> Result<(), CliError> {
    let units: Vec<_> = ours
        .iter()
        .filter_map(|file| file.path.file_name()?.to_str())
        .filter(|unit| *unit != "tithon.slice")
        .collect();
    match systemd {
        // The slice stays up while kernels are in it.
        Some(systemd) if !units.is_empty() => {
            // Both in one go: a client that comes between would start the service again.
            let mut command = vec!["disable", "--quiet", "--now"];
            command.extend(&units);
            systemd.ctl(&command).await?;
            print(&format!("stopped     {}", units.join(", ")))
        }
        _ if Manager::HERE == Manager::Launchd => {
            print(&format!("now run:    launchctl bootout gui/$(id -u)/{JOB}"))
        }
        _ => Ok(()),
    }
}
