//! The exit codes, a public interface: scripts tell the ends of a cell apart by them.

use std::process::ExitCode;

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// What was asked is done; for `run`, the cell ended without an error.
    Success = 0,
    /// The cell raised an error, or there was nothing to kill.
    Failure = 1,
    /// No supervisor, a refusal by one, or a command line that makes no sense.
    Trouble = 2,
    /// `--timeout` passed first; the cell keeps running.
    TimedOut = 3,
    /// The kernel died, or was killed or restarted, before the cell ended.
    KernelLost = 4,
    /// `replay`: every cell ran, and some said something else than the first time.
    Differs = 5,
    /// The cell was interrupted, or the command was by Ctrl-C; as a shell reports SIGINT.
    Interrupted = 130,
    /// The reader of our output went away; as a shell reports SIGPIPE.
    BrokenPipe = 141,
}

/// The table as `tithon run --help` shows it.
pub(crate) const TABLE: &str = "\
Exit codes:
    0  the cell ended without an error
    1  the cell raised an error
    2  no supervisor, a refusal by one, or a wrong command line
    3  --timeout passed first; the cell keeps running
    4  the kernel died, or was killed or restarted, before the cell ended
  130  the cell was interrupted, or Ctrl-C detached from it
  141  the reader of the output went away; the cell keeps running";

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_in_the_help_names_every_code() {
        for exit in [
            Exit::Success,
            Exit::Failure,
            Exit::Trouble,
            Exit::TimedOut,
            Exit::KernelLost,
            Exit::Interrupted,
            Exit::BrokenPipe,
        ] {
            let line = format!("\n{:>5}  ", exit as u8);
            assert!(TABLE.contains(&line), "{exit:?}");
        }
    }
}
