//! Tithon as a service of the user's: the unit files, who wrote them, and the manager that runs them.

pub(crate) mod owned;
pub(crate) mod units;

use std::{env, io, path::PathBuf};

use tithon_ipc::paths::Home;
pub(crate) use tithon_ipc::systemd;

use self::{
    owned::{Found, OwnedFile},
    systemd::{Systemd, announced},
    units::{Service, UnitError},
};
use crate::start::program;

/// The service that has the supervisor of this home as its main process, if one has.
pub(crate) async fn serving(home: &Home) -> Option<Systemd> {
    let pid = announced(&home.pid_file())?;
    // Asked only where it may be true: a manager costs some milliseconds.
    units_for(home).ok()?.iter().find(|unit| is_ours(unit))?;
    let systemd = Systemd::find().await.ok()?;
    let main = systemd.main_pid("tithon.service").await.ok()?;
    (main == Some(pid)).then_some(systemd)
}

/// Lets the service manager listen, if this home's units are installed; `false` if it does not.
pub(crate) async fn start_for(home: &Home) -> bool {
    let Ok(units) = units_for(home) else {
        return false;
    };
    // The very socket unit of this home: one for another home must not be started for ours.
    if !units[1].found().is_ok_and(|found| found == Found::Current) || !is_ours(&units[2]) {
        return false;
    }
    match Systemd::find().await {
        Ok(systemd) => systemd.ctl(&["start", "tithon.socket"]).await.is_ok(),
        Err(_) => false,
    }
}

/// The units as this program would install them.
///
/// # Errors
/// When there is no home directory, or a path that no unit can hold.
pub(crate) fn units_for(home: &Home) -> Result<[OwnedFile; 3], UnitError> {
    let user = user()?;
    let program = invoked_as().unwrap_or_else(|_| PathBuf::from("tithon"));
    Service {
        program: &program,
        home,
        user: &user,
    }
    .systemd()
}

fn is_ours(unit: &OwnedFile) -> bool {
    matches!(unit.found(), Ok(Found::Current | Found::Ours))
}

/// The user's own directory.
///
/// # Errors
/// When there is none.
pub(crate) fn user() -> Result<PathBuf, UnitError> {
    env::home_dir()
        .filter(|path| path.is_absolute())
        .ok_or(UnitError::NoHome)
}

/// This program as its user reached it: where that was through a link, the link, so that a newer
/// version behind it is found.
///
/// # Errors
/// When this program's file is gone.
pub(crate) fn invoked_as() -> io::Result<PathBuf> {
    let program = program()?;
    let named = env::args_os().next().map(PathBuf::from).unwrap_or_default();
    let candidates: Vec<_> = if named.components().count() > 1 {
        std::path::absolute(&named).into_iter().collect()
    } else {
        let path = env::var_os("PATH").unwrap_or_default();
        env::split_paths(&path)
            .map(|directory| directory.join(&named))
            .collect()
    };
    Ok(candidates
        .into_iter()
        .find(|path| path.is_absolute() && path.canonicalize().is_ok_and(|real| real == program))
        .unwrap_or(program))
}
