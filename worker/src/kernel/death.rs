//! What ended a kernel, as far as it can be known, in the words of a person.
//!
//! A parent knows a signal or an exit code, and so does any worker on a recent Linux. Else the
//! faulthandler's log, the spool's BYE and the control group are asked, and if none of them knows,
//! that is what is said.

use std::{
    fs, io::Read as _, os::unix::process::ExitStatusExt as _, path::Path, process::ExitStatus,
};

use super::process::describe;

/// Crash logs are longer where there are many threads; the one that matters comes early.
const CRASH_LOG_MAX: u64 = 64 << 10;
/// Frames quoted of a crashed stack.
const FRAMES_MAX: usize = 20;
/// Where the user's frames end and those of the kernel itself begin.
const KERNELS_OWN: &str = "/IPython/core/interactiveshell.py";

/// What a faulthandler says first, and the signal that made it speak.
const FATAL: [(&str, &str); 5] = [
    ("Segmentation fault", "SIGSEGV"),
    ("Aborted", "SIGABRT"),
    ("Floating point exception", "SIGFPE"),
    ("Floating-point exception", "SIGFPE"),
    ("Bus error", "SIGBUS"),
];

/// What can be known of a kernel's end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Evidence {
    /// Its status, where it was our child.
    pub exit: Option<ExitStatus>,
    /// Whether somebody in its control group was killed for memory while it ran.
    pub out_of_memory: bool,
    /// Whether it took leave in its spool.
    pub took_leave: bool,
    /// What its faulthandler wrote.
    pub crash: Option<Crash>,
}

impl Evidence {
    /// What ended it, to follow "the kernel process exited during execution: ".
    pub fn cause(&self) -> String {
        let crash = self.crash.as_ref().map(|crash| crash.cause.as_str());
        let cause = match (self.exit, crash) {
            (Some(exit), _) => describe(exit),
            (None, Some(crash)) => crash.to_owned(),
            (None, None) if self.took_leave => "it exited by itself".to_owned(),
            (None, None) if self.out_of_memory => "killed, it seems".to_owned(),
            (None, None) => {
                return "what ended it is not known, for its worker was gone, and neither SIGKILL \
                        nor os._exit leaves a trace"
                    .to_owned();
            }
        };
        // A kernel that ended otherwise has survived the one that was killed, a child perhaps.
        let may_be_killed = match self.exit {
            Some(exit) => exit.signal() == Some(libc::SIGKILL),
            None => !self.took_leave && crash.is_none(),
        };
        if self.out_of_memory && may_be_killed {
            format!("{cause}: its control group ran out of memory (OOM)")
        } else {
            cause
        }
    }

    /// The user's frames of the crashed stack, innermost first.
    pub fn stack(&self) -> &[String] {
        self.crash.as_ref().map_or(&[], |crash| &crash.stack)
    }
}

/// What Python's faulthandler wrote when a fatal signal struck.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Crash {
    cause: String,
    stack: Vec<String>,
}

impl Crash {
    /// Reads a crash log; `None` when nothing was written to it.
    pub fn read(path: &Path) -> Option<Self> {
        let mut log = Vec::new();
        // Without a log there is nothing to add to the error that the user sees anyway.
        fs::File::open(path)
            .ok()?
            .take(CRASH_LOG_MAX)
            .read_to_end(&mut log)
            .ok()?;
        Self::parse(&String::from_utf8_lossy(&log))
    }

    fn parse(log: &str) -> Option<Self> {
        let reason = log.lines().next()?.strip_prefix("Fatal Python error: ")?;
        let cause = FATAL
            .iter()
            .find(|(words, _)| reason.starts_with(words))
            .map_or_else(
                || format!("fatal Python error: {reason}"),
                |(_, signal)| format!("killed by {signal}"),
            );
        let stack = log
            .lines()
            .skip_while(|line| !line.starts_with("Current thread"))
            .take_while(|line| !line.is_empty() && !line.contains(KERNELS_OWN))
            .take(FRAMES_MAX)
            .map(str::to_owned)
            .collect();
        Some(Self { cause, stack })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "Fatal Python error: Segmentation fault\n\n\
        Thread 0x00007f (most recent call first):\n  File \"/lib/threading.py\", line 1 in wait\n\n\
        Current thread 0x00007e (most recent call first):\n\
        \x20 File \"/lib/ctypes/__init__.py\", line 519 in string_at\n\
        \x20 File \"/tmp/ipykernel_1/2.py\", line 3 in crash\n\
        \x20 File \"/site-packages/IPython/core/interactiveshell.py\", line 3490 in run_code\n\
        \x20 File \"/site-packages/ipykernel/zmqshell.py\", line 1 in x\n\n\
        Extension modules: zmq\n";

    #[test]
    fn a_crash_is_told_with_the_users_frames_only() {
        let crash = Crash::parse(LOG).unwrap();
        assert_eq!(crash.cause, "killed by SIGSEGV");
        assert_eq!(
            crash.stack,
            [
                "Current thread 0x00007e (most recent call first):",
                "  File \"/lib/ctypes/__init__.py\", line 519 in string_at",
                "  File \"/tmp/ipykernel_1/2.py\", line 3 in crash",
            ]
        );
        assert_eq!(Crash::parse(""), None);
        assert_eq!(Crash::parse("something else\n"), None);
    }

    #[test]
    fn what_is_known_best_is_said() {
        let killed = |exit| Evidence {
            exit: Some(ExitStatus::from_raw(exit)),
            ..Evidence::default()
        };
        assert_eq!(killed(9).cause(), "killed by SIGKILL");
        assert_eq!(killed(3 << 8).cause(), "exited with code 3");
        let out_of_memory = Evidence {
            out_of_memory: true,
            ..killed(9)
        };
        assert_eq!(
            out_of_memory.cause(),
            "killed by SIGKILL: its control group ran out of memory (OOM)"
        );
        for other in [3 << 8, libc::SIGSEGV] {
            let outlived_a_child = Evidence {
                out_of_memory: true,
                ..killed(other)
            };
            assert_eq!(outlived_a_child.cause(), killed(other).cause());
        }
        let adopted = Evidence {
            crash: Crash::parse(LOG),
            ..Evidence::default()
        };
        assert_eq!(adopted.cause(), "killed by SIGSEGV");
        let left = Evidence {
            took_leave: true,
            ..Evidence::default()
        };
        assert_eq!(left.cause(), "it exited by itself");
        assert!(Evidence::default().cause().contains("not known"));
    }
}
