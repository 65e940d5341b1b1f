//! Who is the supervisor of a home: the lock decides, the pid file tells others.

use std::{
    fs,
    time::{Duration, Instant},
};

use tithon_ipc::{files::write_atomic, lock::Lock, paths::Home, process::ProcessIdentity};

use crate::SupervisorError;

/// How long the holder of the lock may take to write its pid file.
const PID_PATIENCE: Duration = Duration::from_secs(1);

/// The right to be the supervisor, held until the process ends.
#[derive(Debug)]
pub(crate) struct Claim {
    home: Home,
    _lock: Lock,
}

impl Claim {
    /// Takes the home's lock.
    ///
    /// # Errors
    /// [`SupervisorError::AlreadyRunning`] when another supervisor holds it.
    pub(crate) fn stake(home: &Home) -> Result<Self, SupervisorError> {
        let path = home.lock_file();
        match Lock::try_acquire(&path) {
            Ok(Some(lock)) => Ok(Self {
                home: home.clone(),
                _lock: lock,
            }),
            Ok(None) => Err(SupervisorError::AlreadyRunning {
                pid: holder(home, Instant::now() + PID_PATIENCE),
            }),
            Err(source) => Err(SupervisorError::Home { path, source }),
        }
    }

    /// Tells others who we are; to be called once the socket is bound.
    ///
    /// # Errors
    /// When the pid file cannot be written.
    pub(crate) fn announce(&self) -> Result<(), SupervisorError> {
        let path = self.home.pid_file();
        write_atomic(&path, std::process::id().to_string().as_bytes())
            .map_err(|source| SupervisorError::Home { path, source })
    }

    /// The last step of a clean end: whoever sees no pid file may start the next supervisor.
    pub(crate) fn withdraw(self) {
        if let Err(err) = fs::remove_file(self.home.pid_file()) {
            tracing::warn!(%err, "the pid file cannot be removed");
        }
    }
}

/// The living process that the pid file names.
pub(crate) fn announced(home: &Home) -> Option<i32> {
    let pid = fs::read_to_string(home.pid_file())
        .ok()?
        .trim()
        .parse()
        .ok()?;
    ProcessIdentity::of(pid).ok().flatten().map(|_| pid)
}

/// Who holds the lock; it may be about to say so.
fn holder(home: &Home, deadline: Instant) -> Option<i32> {
    loop {
        match announced(home) {
            None if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(10)),
            pid => return pid,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_racing_claims_one_wins_and_the_others_learn_its_pid() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::at(dir.path().to_owned());
        // A pid that was left behind by a supervisor that was killed.
        fs::write(home.pid_file(), "999999999").unwrap();
        let claims: Vec<_> = std::thread::scope(|scope| {
            let racers: Vec<_> = (0..8)
                .map(|_| {
                    scope.spawn(|| Claim::stake(&home).inspect(|claim| claim.announce().unwrap()))
                })
                .collect();
            racers
                .into_iter()
                .map(|racer| racer.join().unwrap())
                .collect()
        });
        let me = i32::try_from(std::process::id()).unwrap();
        let (won, lost): (Vec<_>, Vec<_>) = claims.into_iter().partition(Result::is_ok);
        assert_eq!(won.len(), 1);
        for claim in lost {
            assert!(
                matches!(claim, Err(SupervisorError::AlreadyRunning { pid: Some(pid) }) if pid == me)
            );
        }
        for claim in won {
            claim.unwrap().withdraw();
        }
        assert!(!home.pid_file().exists());
        assert!(Claim::stake(&home).is_ok());
    }
}
