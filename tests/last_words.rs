//! What a kernel said last, as a user sees it who ran the cell: all of it, then what ended the kernel.

#![expect(
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "in a test a panic is the report, and what is done once is said"
)]

mod harness;

use harness::{Home, IPYKERNEL_6, PYTHON};

/// Whatever can print prints, a C library among them, which flushes what is no whole line.
const WORDS: &str = r"
import ctypes, os, subprocess, sys, threading, time
libc = ctypes.CDLL(None)
thread = threading.Thread(target=print, args=('from a thread',)); thread.start(); thread.join()
subprocess.run(['sh', '-c', 'echo from a child; echo from its stderr >&2'])
if os.fork() == 0:
    os.write(1, b'from a fork\n'); os._exit(0)
os.wait()
print('to stderr', file=sys.stderr)
print('no newline', end='')
libc.puts(b' from C')
libc.printf(b'flushed in C'); libc.fflush(None)
os.write(1, b' to a descriptor\n')
";

const SAID: [&str; 6] = [
    "from a thread\n",
    "from a child\n",
    "from a fork\n",
    "no newline",
    " from C\n",
    "flushed in C to a descriptor\n",
];

/// How a kernel ends, and what is said of it.
const ENDS: [(&str, &[&str]); 6] = [
    ("os._exit(3)", &["exited with code 3"]),
    ("os.kill(os.getpid(), 9)", &["killed by SIGKILL"]),
    (
        "ctypes.string_at(0)",
        &["killed by SIGSEGV", "in string_at"],
    ),
    ("libc.abort()", &["killed by SIGABRT"]),
    (
        "threading.Thread(target=ctypes.string_at, args=(0,)).start(); time.sleep(600)",
        &["killed by SIGSEGV", "in string_at"],
    ),
    (
        "threading.Thread(target=os._exit, args=(4,)).start(); time.sleep(600)",
        &["exited with code 4"],
    ),
];

#[test]
fn last_words_are_followed_by_what_ended_the_kernel() {
    let home = Home::new();
    for (ipykernel, python) in [(7, PYTHON), (6, IPYKERNEL_6)] {
        let python = python.interpreter();
        // All at once, for a kernel's start is most of it.
        let runs: Vec<_> = ENDS
            .iter()
            .enumerate()
            .map(|(which, (end, _))| {
                let session = format!("{ipykernel}-{which}");
                let code = format!("{WORDS}{end}");
                let python = python.to_str().unwrap();
                home.spawn(&[
                    "run",
                    "--session",
                    &session,
                    "--python",
                    python,
                    "-c",
                    &code,
                ])
            })
            .collect();
        for (run, (end, causes)) in runs.into_iter().zip(ENDS) {
            let told = run.finish();
            assert_eq!(told.code, 4, "{end}: {told:?}");
            for words in SAID {
                let times = told.stdout.matches(words).count();
                assert_eq!(times, 1, "{words:?} before {end}: {told:?}");
            }
            for words in ["to stderr\n", "from its stderr\n", "KernelDied"]
                .iter()
                .chain(causes)
            {
                assert!(told.stderr.contains(words), "{words:?} of {end}: {told:?}");
            }
            assert!(!told.stderr.contains("interactiveshell"), "{told:?}");
        }
    }
}
