//! The log of the processes that live on: lines `YYYY-mm-dd HH:MM:SS,mmm logger LEVEL text` appended
//! to a file that is bounded, and beside it to standard error or, under systemd, to the journal with
//! fields.
//!
//! Never code, output, keys or environment values: that is the callers' part, and the review's.

mod clock;
mod journal;
pub(crate) mod line;
mod rotated;

use std::{
    io::{self, Write},
    path::Path,
    str::FromStr,
    sync::{Mutex, PoisonError},
};

use tracing::{Event, Level, Subscriber, level_filters::LevelFilter};
use tracing_subscriber::{
    layer::{Context, Layer, SubscriberExt},
    util::SubscriberInitExt,
};

use self::{journal::Journal, line::Words, rotated::Rotated};

/// Where log lines go beside the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Echo {
    /// Standard error as well.
    Stderr,
    /// Nowhere.
    Silent,
}

/// Whose log it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Author {
    Supervisor,
    /// The worker of a session, if its name is known.
    Worker(Option<String>),
}

/// How much is logged.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LogLevel(Level);

impl FromStr for LogLevel {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(match text.to_ascii_uppercase().as_str() {
            "TRACE" => Level::TRACE,
            "DEBUG" => Level::DEBUG,
            "INFO" => Level::INFO,
            "WARNING" | "WARN" => Level::WARN,
            "ERROR" | "CRITICAL" => Level::ERROR,
            _ => return Err("must be TRACE, DEBUG, INFO, WARNING or ERROR"),
        }))
    }
}

/// Starts logging for the rest of the process's life. `true` when systemd's journal takes part.
///
/// # Errors
/// When the file cannot be opened.
pub(crate) fn start(level: LogLevel, path: &Path, echo: Echo, author: &Author) -> io::Result<bool> {
    let file = Rotated::open(path, tithon_ipc::logs::size())?;
    let journal = Journal::find(author);
    let journaled = journal.is_some();
    // The journal has it with fields; the same once more by way of standard error would be noise.
    let echo = if journaled { Echo::Silent } else { echo };
    let log = Log {
        file: Mutex::new(file),
        echo,
        journal,
    };
    subscriber(level, log).init();
    Ok(journaled)
}

fn subscriber(level: LogLevel, log: Log) -> impl Subscriber + Send + Sync {
    tracing_subscriber::registry()
        .with(LevelFilter::from_level(level.0))
        .with(log)
}

struct Log {
    file: Mutex<Rotated>,
    echo: Echo,
    journal: Option<Journal>,
}

impl<S: Subscriber> Layer<S> for Log {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let words = Words::of(event);
        let level = *event.metadata().level();
        let line = line::compose(&clock::now(), event.metadata().target(), level, &words);
        // A full disk, a closed terminal or a journal that is gone must not take the others away.
        if self.echo == Echo::Stderr {
            drop(io::stderr().write_all(line.as_bytes()));
        }
        if let Some(journal) = &self.journal {
            journal.send(event.metadata().target(), level, &words);
        }
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.append(line.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_have_the_form_that_tools_know() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("daemon.log");
        let log = Log {
            file: Mutex::new(Rotated::open(&path, 1 << 20).unwrap()),
            echo: Echo::Silent,
            journal: None,
        };
        let subscriber = subscriber(LogLevel(Level::INFO), log);
        tracing::subscriber::with_default(subscriber, || {
            tracing::warn!(target: "tithon_supervisor::listen", pid = 7, "ready");
            tracing::debug!("not at this level");
        });
        let log = std::fs::read_to_string(&path).unwrap();
        let (stamp, rest) = log.split_at(23);
        let shape: String = stamp
            .chars()
            .map(|c| if c.is_ascii_digit() { '0' } else { c })
            .collect();
        assert_eq!(shape, "0000-00-00 00:00:00,000");
        assert_eq!(rest, " tithon.supervisor.listen WARNING ready pid=7\n");
    }

    #[test]
    fn levels_are_read_in_any_case() {
        for text in ["info", "WARNING", "Debug", "error"] {
            text.parse::<LogLevel>().unwrap();
        }
        assert!("LOUD".parse::<LogLevel>().is_err());
    }
}
