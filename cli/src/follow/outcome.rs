//! From what a cell printed and how it was reported done to an exit code.

use crate::{exit::Exit, frames::Content, render::words};

/// What the outputs so far say about how the cell ends.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    error: Option<Error>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Error {
    Raised,
    KeyboardInterrupt,
    KernelDied,
}

impl Outcome {
    /// Takes note of an output.
    pub(super) fn saw(&mut self, msg_type: &str, content: &Content) {
        if msg_type != "error" {
            return;
        }
        self.error = Some(match content.ename.as_str() {
            "KeyboardInterrupt" => Error::KeyboardInterrupt,
            // Anybody may raise an error of this name; only Tithon's own notice is of the cell's scope.
            "KernelDied" if content.tithon_scope == "cell" => Error::KernelDied,
            _ => Error::Raised,
        });
    }

    /// The exit code for the status of a `done` event or of a snapshot's execution.
    pub(super) fn end(&self, status: &str) -> Exit {
        match status {
            "ok" | "done" => Exit::Success,
            "orphaned" => {
                words::say("the kernel was restarted or lost before the cell ended");
                Exit::KernelLost
            }
            "aborted" => Exit::Interrupted,
            _ => match self.error {
                Some(Error::KernelDied) => Exit::KernelLost,
                Some(Error::KeyboardInterrupt) => Exit::Interrupted,
                Some(Error::Raised) | None => Exit::Failure,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_told_apart() {
        let died = r#"{"ename": "KernelDied", "tithon_scope": "cell"}"#;
        for (outputs, status, exit) in [
            (&[][..], "ok", Exit::Success),
            (&[], "done", Exit::Success),
            (&[], "error", Exit::Failure),
            (&[], "skipped", Exit::Failure),
            (&[], "orphaned", Exit::KernelLost),
            (&[], "aborted", Exit::Interrupted),
            (&[], "from_the_future", Exit::Failure),
            (&[r#"{"ename": "ValueError"}"#], "error", Exit::Failure),
            (
                &[r#"{"ename": "KeyboardInterrupt"}"#],
                "error",
                Exit::Interrupted,
            ),
            // Caught and shown, then the cell went on to its good end.
            (&[r#"{"ename": "KeyboardInterrupt"}"#], "ok", Exit::Success),
            (&[died], "error", Exit::KernelLost),
            (&[r#"{"ename": "KernelDied"}"#], "error", Exit::Failure),
            (
                &[r#"{"ename": "KeyboardInterrupt"}"#, r#"{"ename": "E"}"#],
                "error",
                Exit::Failure,
            ),
        ] {
            let mut outcome = Outcome::default();
            for content in outputs {
                outcome.saw("error", &serde_json::from_str(content).unwrap());
            }
            assert_eq!(outcome.end(status), exit, "{outputs:?} {status}");
        }
    }
}
