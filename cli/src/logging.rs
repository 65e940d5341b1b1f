//! The log of the processes that live on: lines `YYYY-mm-dd HH:MM:SS,mmm logger LEVEL text`, to
//! standard error and appended to a file.
//!
//! Never code, output, keys or environment values: that is the callers' part, and the review's.

use std::{
    fmt,
    fs::{File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
    str::FromStr,
};

use tracing::{Event, Level, Subscriber};
use tracing_subscriber::{
    fmt::{FmtContext, FormatEvent, FormatFields, MakeWriter, format::Writer},
    registry::LookupSpan,
    util::SubscriberInitExt,
};

/// Where log lines go beside the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Echo {
    /// Standard error as well.
    Stderr,
    /// Nowhere.
    Silent,
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

/// Starts logging for the rest of the process's life.
///
/// # Errors
/// When the file cannot be opened.
pub(crate) fn start(level: LogLevel, path: &Path, echo: Echo) -> io::Result<()> {
    let file = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed())
        .open(path)?;
    subscriber(level, Sink { file, echo }).init();
    Ok(())
}

fn subscriber(level: LogLevel, sink: Sink) -> impl Subscriber + Send + Sync {
    tracing_subscriber::fmt()
        .with_max_level(level.0)
        .with_ansi(false)
        .event_format(Line)
        .with_writer(sink)
        .finish()
}

struct Sink {
    file: File,
    echo: Echo,
}

impl<'a> MakeWriter<'a> for Sink {
    type Writer = &'a Self;

    fn make_writer(&'a self) -> Self::Writer {
        self
    }
}

impl Write for &Sink {
    /// One whole line: the subscriber formats before it writes, and `O_APPEND` keeps lines apart.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        // A full disk or a closed terminal must not take the other log away.
        if self.echo == Echo::Stderr {
            drop(io::stderr().write_all(line));
        }
        (&self.file).write_all(line)?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Line;

impl<S, N> FormatEvent<S, N> for Line
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut line: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let now = jiff::Zoned::now();
        write!(
            line,
            "{},{:03} {} {} ",
            now.strftime("%Y-%m-%d %H:%M:%S"),
            now.millisecond(),
            logger(event.metadata().target()),
            level(*event.metadata().level())
        )?;
        context.format_fields(line.by_ref(), event)?;
        writeln!(line)
    }
}

/// `tithon.supervisor.listen` for the module `tithon_supervisor::listen`.
fn logger(target: &str) -> String {
    target.replace("::", ".").replacen("tithon_", "tithon.", 1)
}

fn level(level: Level) -> &'static str {
    match level {
        Level::WARN => "WARNING",
        other => other.as_str(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_have_the_form_that_tools_know() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("daemon.log");
        let file = File::create(&path).unwrap();
        let sink = Sink {
            file,
            echo: Echo::Silent,
        };
        let subscriber = subscriber(LogLevel(Level::INFO), sink);
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
