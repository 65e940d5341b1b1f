//! `tithon rename`: gives a stopped session another name.
//!
//! A session's name is in the paths of its sockets and the ids of its requests, which a living kernel
//! holds on to: so only a stopped one is renamed. Its directory moves first, in one step; a rename
//! that ended there is completed when it is asked for again.

use std::{ffi::OsStr, fs, io, path::Path};

use clap::Args;
use tithon_ipc::{
    files::Meta,
    ids::{SessionId, quoted},
    naming::session_dir,
};

use crate::{
    arguments::session,
    error::CliError,
    exit::Exit,
    link::Link,
    render::words,
    stopped::{self, Stopped},
};

const EXAMPLES: &str = "\
Examples:
  tithon rename default thesis
  tithon kill --session lab && tithon rename lab lab-2026

The history stays: code, outputs and times. Variables are the kernel's, so a
session that runs is not renamed; `tithon kill` stops it.";

/// What a living worker or kernel left, under names that are of the past.
const OF_THE_PAST: [&str; 4] = [
    "worker.json",
    "kernel.json",
    "kernel.pid",
    "kernel.process.json",
];

/// Give a stopped session another name
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct RenameArgs {
    /// Its name: a file URI or any name
    #[arg(value_name = "NAME", value_parser = session)]
    session: String,

    /// Its new name, which no session has yet
    #[arg(value_name = "NEW", value_parser = session)]
    name: String,
}

/// Renames the session.
///
/// # Errors
/// When there is no such session, it is in use, or there is one of the new name.
pub(crate) async fn run(args: &RenameArgs, link: &Link) -> Result<Exit, CliError> {
    let failed = |source| CliError::System {
        doing: "rename the session",
        source,
    };
    let id = SessionId::parse(&args.name).map_err(|err| CliError::Usage(err.to_string()))?;
    let target = session_dir(&link.home().sessions(), &id, None);
    if is_half_renamed(&target, &args.session) {
        // Whoever asked for the new name meanwhile has a worker in it, which must not be written under.
        let _lock = stopped::hold(&target, &args.name).await?;
        finish(&target, &id).map_err(failed)?;
    } else {
        if target.exists() {
            return Err(CliError::Usage(format!(
                "there is a session '{0}' already\nhint: tithon rm --session {1} would remove it",
                args.name,
                quoted(&args.name)
            )));
        }
        let stopped = Stopped::take(link, &args.session).await?;
        if holds_others(&stopped.dir).map_err(failed)? {
            return Err(CliError::Usage(format!(
                "other sessions lie in the directory of '{}': it cannot be moved",
                args.session
            )));
        }
        fs::rename(&stopped.dir, &target).map_err(failed)?;
        finish(&target, &id).map_err(failed)?;
    }
    words::say(&format!(
        "session '{}' is '{}' now",
        args.session, args.name
    ));
    Ok(Exit::Success)
}

/// Whether a rename of this session to where `target` is has moved the directory and no more.
fn is_half_renamed(target: &Path, session: &str) -> bool {
    Meta::read(target).is_ok_and(|meta| meta.session_id == session)
}

/// Says in the directory whose it is now; the journal learns it when it is next opened.
fn finish(dir: &Path, id: &SessionId) -> io::Result<()> {
    for name in OF_THE_PAST {
        match fs::remove_file(dir.join(name)) {
            Err(err) if err.kind() != io::ErrorKind::NotFound => return Err(err),
            _ => {}
        }
    }
    let meta = Meta::read(dir)?;
    Meta::new(id, &meta.workdir).write(dir)
}

/// The Python program put sessions of files below the directory of another.
fn holds_others(dir: &Path) -> io::Result<bool> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let ours = ["spool", "copies"].map(OsStr::new);
        if entry.file_type()?.is_dir() && !ours.contains(&&*entry.file_name()) {
            return Ok(true);
        }
    }
    Ok(false)
}
