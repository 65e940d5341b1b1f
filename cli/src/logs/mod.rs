//! What supervisor, workers and kernels said, in the order of time.
//!
//! Read from the files, which have everything wherever Tithon runs; systemd's journal has a copy of
//! some of it.

mod origin;
mod tail;

use std::{collections::HashSet, io, path::PathBuf, rc::Rc};

use jiff::{Timestamp, tz::TimeZone};
use tithon_ipc::{files::Meta, logs, paths::Home};

use self::origin::{Origin, Speaker};
use crate::logging::line::Words;

/// Who said something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    Supervisor,
    /// The worker of a session.
    Worker(Rc<str>),
    /// The kernel of a session: what its process wrote to its own stdout and stderr.
    Kernel(Rc<str>),
}

/// One line.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// Where it belongs among others: a clock that is set back does not change the order of one
    /// source's lines.
    order: Timestamp,
    /// When it was said; a kernel's words are dated by the worker that looked at them.
    pub(crate) time: Timestamp,
    pub(crate) source: Source,
    /// Level and logger; nothing for kernels and for panics.
    pub(crate) level: Option<String>,
    pub(crate) logger: Option<String>,
    pub(crate) words: Words,
}

impl Entry {
    /// The session it is about.
    pub(crate) fn session(&self) -> Option<&str> {
        match &self.source {
            Source::Supervisor => self.words.field("session"),
            Source::Worker(session) | Source::Kernel(session) => Some(session),
        }
    }
}

/// All logs of a home.
pub(crate) struct Logs {
    home: Home,
    zone: TimeZone,
    origins: Vec<Origin>,
    directories: HashSet<PathBuf>,
    only: Option<String>,
}

impl Logs {
    /// The logs of a home, or of what concerns one of its sessions.
    pub(crate) fn of(home: &Home, only: Option<&str>) -> Self {
        let supervisor = Origin::new(Speaker::Supervisor, home.log());
        let mut logs = Self {
            home: home.clone(),
            zone: TimeZone::system(),
            origins: vec![supervisor],
            directories: HashSet::new(),
            only: only.map(str::to_owned),
        };
        logs.discover();
        logs
    }

    /// Whether the session of interest has a directory.
    pub(crate) fn is_there(&self) -> bool {
        self.only.is_none() || !self.directories.is_empty()
    }

    /// Looks for sessions that are new.
    pub(crate) fn discover(&mut self) {
        for dir in tithon_supervisor::directories(&self.home.sessions()) {
            if self.directories.contains(&dir) {
                continue;
            }
            let Ok(meta) = Meta::read(&dir) else { continue };
            if self
                .only
                .as_ref()
                .is_some_and(|only| *only != meta.session_id)
            {
                continue;
            }
            let session: Rc<str> = meta.session_id.into();
            let kernel = Origin::new(Speaker::Kernel, logs::kernel(&dir));
            let worker = Origin::new(Speaker::Worker(Box::new(kernel)), logs::worker(&dir));
            self.origins.push(worker.of(session));
            self.directories.insert(dir);
        }
    }

    /// What was said since the last call, in the order of time.
    ///
    /// # Errors
    /// When a log cannot be read.
    pub(crate) fn read(&mut self) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for origin in &mut self.origins {
            origin.read(&self.zone, &mut entries)?;
        }
        if let Some(only) = &self.only {
            entries.retain(|entry| entry.session() == Some(only));
        }
        // Stable: lines of one moment stay as they were written.
        entries.sort_by_key(|entry| entry.order);
        Ok(entries)
    }
}
