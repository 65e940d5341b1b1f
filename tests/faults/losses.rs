//! What has been lost once, or could have been: last words, answers, replies, each taken from a real kernel
//! at the worst moment.

#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test that cannot go on says so and ends"
)]

#[expect(
    dead_code,
    reason = "shared with the fault injection, which needs more of it"
)]
mod rig;

use std::{
    path::Path,
    time::{Duration, Instant},
};

use rig::{DEADLINE, Home, ask, connect, python::BASH, signal, snapshot, until};
use rustix::process::Signal;
use serde_json::{Value, json};

/// A home with a kernel that has run one cell.
async fn home() -> (tempfile::TempDir, Home) {
    let scratch = tempfile::Builder::new().prefix("tl").tempdir().unwrap();
    let home = Home::new(scratch.path(), false);
    run(home.root(), "pass").await;
    (scratch, home)
}

/// Submits a cell and does not wait for it.
async fn submit(root: &Path, code: &str) -> String {
    let op = json!({"op": "execute", "code": code, "allow_stdin": true});
    let ack = ask(root, &op, "execute_ack").await;
    ack["exec_id"].as_str().unwrap().to_owned()
}

/// Waits until an execution satisfies a condition; what it is like then.
async fn wait_for(root: &Path, exec: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let snapshot = snapshot(root).await;
        let found = snapshot["executions"]
            .as_array()
            .unwrap()
            .iter()
            .find(|execution| execution["exec_id"] == exec)
            .cloned()
            .unwrap_or_default();
        if wanted(&found) {
            return found;
        }
        assert!(Instant::now() < deadline, "{exec} stays {found}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn is_over(execution: &Value) -> bool {
    !matches!(
        execution["status"].as_str(),
        Some("queued" | "running") | None
    )
}

async fn run(root: &Path, code: &str) -> Value {
    let exec = submit(root, code).await;
    wait_for(root, &exec, is_over).await
}

/// The text of all streams, and the error's traceback.
fn said(execution: &Value) -> (String, String) {
    let outputs = execution["outputs"].as_array().unwrap();
    let text = outputs
        .iter()
        .filter_map(|output| output["text"].as_str())
        .collect();
    let traceback = outputs
        .iter()
        .filter_map(|output| output["traceback"].as_array())
        .flatten()
        .filter_map(Value::as_str)
        .collect::<Vec<_>>()
        .join("\n");
    (text, traceback)
}

/// Waits until a process has ended, with all its threads; a zombie has.
fn gone(pid: i32) {
    use rustix::{
        event::{PollFd, PollFlags, Timespec, poll},
        process::{Pid, PidfdFlags, pidfd_open},
    };
    let Ok(pidfd) = pidfd_open(Pid::from_raw(pid).unwrap(), PidfdFlags::empty()) else {
        return;
    };
    let limit = Timespec {
        tv_sec: DEADLINE.as_secs().cast_signed(),
        tv_nsec: 0,
    };
    let ended = poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&limit));
    assert_eq!(ended, Ok(1), "{pid} lives");
}

/// Ends supervisor and worker, in an order that lets nobody replace the worker.
fn leave_kernel_alone(home: &mut Home) {
    let worker = home.worker_pid().unwrap();
    home.kill_supervisor();
    signal(worker, Signal::KILL);
    gone(worker);
}

const ENDS: [(&str, &str); 4] = [
    ("os._exit(3)", "exited with code 3"),
    ("os.kill(os.getpid(), 9)", "killed by SIGKILL"),
    ("ctypes.string_at(0)", "killed by SIGSEGV"),
    ("os.abort()", "killed by SIGABRT"),
];

/// The worker that reports the end is not the kernel's parent. A crash tells of itself everywhere; the rest
/// only Linux can tell, and where it does not, the error says so.
#[tokio::test]
async fn a_kernel_that_was_taken_over_says_what_ended_it() {
    for (end, cause) in ENDS {
        let (_scratch, home) = home().await;
        let wait = home.scratch.join("go");
        let code = format!(
            "import os, ctypes, time\nprint('begun')\nwhile not os.path.exists('{}'): time.sleep(.01)\nprint('last')\n{end}",
            wait.display()
        );
        let exec = submit(home.root(), &code).await;
        let begun = |found: &Value| !found["outputs"].as_array().unwrap().is_empty();
        wait_for(home.root(), &exec, begun).await;
        let worker = home.worker_pid().unwrap();
        signal(worker, Signal::KILL);
        gone(worker);
        snapshot(home.root()).await;
        std::fs::write(wait, "").unwrap();
        let ended = wait_for(home.root(), &exec, is_over).await;
        let (text, traceback) = said(&ended);
        assert_eq!(text, "begun\nlast\n");
        assert!(
            traceback.contains(cause)
                || (traceback.contains("not known") && !cause.contains("SEGV")),
            "{end}: {traceback}"
        );
    }
}

/// What the kernel said while nobody was there was left unread, and its cell orphaned, if the kernel was gone
/// when the next worker came.
#[tokio::test]
async fn a_kernel_that_nobody_watched_is_heard_to_its_end() {
    for (end, status, count) in [("os._exit(3)", "error", None), ("pass", "done", Some(2))] {
        let (_scratch, mut home) = home().await;
        let go = home.scratch.join("go");
        let said_all = home.scratch.join("said");
        let code = format!(
            "import os, time\nprint('begun')\nwhile not os.path.exists('{}'): time.sleep(.01)\nprint('last words'); os.write(1, b'of C')\nopen('{}', 'w')\n{end}",
            go.display(),
            said_all.display()
        );
        let exec = submit(home.root(), &code).await;
        let begun = |found: &Value| !found["outputs"].as_array().unwrap().is_empty();
        wait_for(home.root(), &exec, begun).await;
        let behind = submit(home.root(), "print('never')").await;
        let kernel = home.kernel_pid().unwrap();
        leave_kernel_alone(&mut home);
        std::fs::write(&go, "").unwrap();
        if end == "pass" {
            // The reply is in the spool as soon as the cell is over; its idle follows at once.
            let spool = home.session().join("spool");
            let deadline = Instant::now() + DEADLINE;
            let replied = || {
                let segments = std::fs::read_dir(&spool).unwrap().flatten();
                segments
                    .filter_map(|entry| std::fs::read(entry.path()).ok())
                    .any(|bytes| {
                        // The code has the words too, and idles of other requests may follow it.
                        let words = find(&bytes, b"last words").unwrap_or(bytes.len());
                        let said = &bytes[words..];
                        find(said, b"execute_reply")
                            .is_some_and(|reply| find(&said[reply..], b"\"idle\"").is_some())
                    })
            };
            while !replied() {
                assert!(Instant::now() < deadline, "no reply in the spool");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            signal(kernel, Signal::KILL);
        }
        gone(kernel);
        home.start_supervisor();
        let ended = wait_for(home.root(), &exec, is_over).await;
        let (text, traceback) = said(&ended);
        assert_eq!(
            (&ended["status"], &ended["execution_count"]),
            (&json!(status), &json!(count)),
            "{traceback}"
        );
        assert!(
            text.contains("last words") && text.contains("of C"),
            "{text}"
        );
        let behind = wait_for(home.root(), &behind, is_over).await;
        assert_eq!(behind["status"], "orphaned", "it never ran");
        let fresh = run(home.root(), "print('fresh')").await;
        assert_eq!(said(&fresh).0, "fresh\n");
    }
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

/// An answer is journaled as given before it is sent; a worker that died between the two left its kernel
/// waiting for ever, with nobody asked.
#[tokio::test]
async fn a_prompt_whose_answer_died_with_its_worker_is_shown_again() {
    let (_scratch, mut home) = home().await;
    let exec = submit(home.root(), "print('hello', input('name? '))").await;
    let prompt = |snapshot: &Value| snapshot["pending_input"]["prompt"].clone();
    while prompt(&snapshot(home.root()).await) != "name? " {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    leave_kernel_alone(&mut home);
    home.journal()
        .unwrap()
        .execute(
            "INSERT INTO messages(exec_id, msg_type, content_json, ts) VALUES (?1, 'tithon.input_resolved', ?2, 0)",
            (&exec, json!({"exec_id": exec}).to_string()),
        )
        .unwrap();
    home.start_supervisor();
    let deadline = Instant::now() + DEADLINE;
    while prompt(&snapshot(home.root()).await) != "name? " {
        assert!(Instant::now() < deadline, "nobody is asked again");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let mut client = connect(home.root()).await.unwrap();
    client
        .send(&json!({"op": "input_reply", "value": "Bob"}))
        .await
        .unwrap();
    let ack = until(&mut client, DEADLINE, |frame| frame["op"] == "input_ack").await;
    assert_eq!(ack.unwrap()["ok"], true);
    let ended = wait_for(home.root(), &exec, is_over).await;
    assert_eq!(said(&ended).0, "hello Bob\n");
    assert_eq!(ended["execution_count"], 2);
}

/// A new worker asks the kernel who it is, and what the last cell left running then spoke in that question's
/// name: it was kept, but nobody was shown it.
#[tokio::test]
async fn what_a_cell_left_running_is_still_its_own_after_a_takeover() {
    let (_scratch, home) = home().await;
    let go = home.scratch.join("go");
    let code = format!(
        "import subprocess\nchild = subprocess.Popen('while [ ! -e {} ]; do sleep .01; done; echo from the child', shell=True)",
        go.display()
    );
    let ended = run(home.root(), &code).await;
    let exec = ended["exec_id"].as_str().unwrap();
    let worker = home.worker_pid().unwrap();
    signal(worker, Signal::KILL);
    gone(worker);
    // Ready again only once the kernel has answered.
    let deadline = Instant::now() + DEADLINE;
    while snapshot(home.root()).await["kernel"]["python"].is_null() {
        assert!(Instant::now() < deadline, "the kernel was not taken over");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    std::fs::write(go, "").unwrap();
    wait_for(home.root(), exec, |found| {
        said(found).0 == "from the child\n"
    })
    .await;
}

/// A forked child inherits what its parent has written and not published yet, and published it once more.
#[tokio::test]
async fn a_fork_does_not_print_what_its_parent_printed() {
    let (_scratch, home) = home().await;
    // Whole lines: `print` writes its newline apart, and the other process may write in between.
    let code = "import os, sys\nfor n in range(20):\n    sys.stdout.write(f'parent {n}\\n')\n    if n % 5 == 0:\n        pid = os.fork()\n        if pid == 0:\n            sys.stdout.write(f'child {n}\\n'); sys.stdout.flush(); os._exit(0)\n        os.waitpid(pid, 0)";
    let exec = submit(home.root(), code).await;
    let lines = |found: &Value| {
        let mut lines: Vec<String> = said(found).0.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    let mut expected: Vec<String> = (0..20).map(|n| format!("parent {n}")).collect();
    expected.extend([0, 5, 10, 15].map(|n| format!("child {n}")));
    expected.sort();
    let ended = wait_for(home.root(), &exec, |found| {
        is_over(found) && lines(found).len() >= expected.len()
    });
    assert_eq!(lines(&ended.await), expected);
}

/// A home whose session has a bash kernel, which is read over zmq.
async fn bash_home(transport: &str) -> (tempfile::TempDir, Home) {
    let scratch = tempfile::Builder::new().prefix("tl").tempdir().unwrap();
    let home = Home::with_kernels_of(scratch.path(), false, BASH);
    let ran = std::process::Command::new(env!("CARGO_BIN_EXE_tithon"))
        .args(["run", "--kernel", "bash", "-c", "echo hi"])
        .env("TITHON_HOME", home.root())
        .env("TITHON_DETACHED_WORKERS", "1")
        .env("PATH", home.path())
        .env("TITHON_KERNEL_TRANSPORT", transport)
        .current_dir(scratch.path())
        .output()
        .unwrap();
    assert_eq!(
        (&*ran.stdout, ran.status.code()),
        (&b"hi\n"[..], Some(0)),
        "{ran:?}"
    );
    (scratch, home)
}

/// The numbers that a cell printed, and how many messages it is said to lack.
fn numbers_and_missing(execution: &Value) -> (Vec<u64>, u64) {
    let (text, _) = said(execution);
    let numbers = text.lines().filter_map(|line| line.trim().parse().ok());
    let missing = text
        .lines()
        .filter_map(|line| {
            line.strip_prefix("[tithon: ")?
                .split(' ')
                .next()?
                .parse::<u64>()
                .ok()
        })
        .sum();
    (numbers.collect(), missing)
}

#[tokio::test]
async fn a_bash_kernel_is_taken_over_with_its_cell() {
    taken_over_with_its_cell("ipc").await;
}

/// Some kernels know no unix sockets.
#[tokio::test]
async fn a_kernel_over_tcp_is_taken_over_with_its_cell() {
    taken_over_with_its_cell("tcp").await;
}

async fn taken_over_with_its_cell(transport: &str) {
    let (_scratch, home) = bash_home(transport).await;
    let connection = std::fs::read(home.session().join("kernel.json")).unwrap();
    let connection: Value = serde_json::from_slice(&connection).unwrap();
    assert_eq!(connection["transport"], transport);
    let go = home.scratch.join("go");
    let code = format!(
        "echo 0; while [ ! -e {} ]; do sleep .02; done; seq 1 50",
        go.display()
    );
    let exec = submit(home.root(), &code).await;
    wait_for(home.root(), &exec, |found| {
        numbers_and_missing(found).0 == [0]
    })
    .await;
    let worker = home.worker_pid().unwrap();
    signal(worker, Signal::KILL);
    gone(worker);
    let deadline = Instant::now() + DEADLINE;
    while snapshot(home.root()).await["kernel"]["reattached"] != true {
        assert!(Instant::now() < deadline, "the kernel was not taken over");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    std::fs::write(go, "").unwrap();
    let ended = wait_for(home.root(), &exec, is_over).await;
    assert_eq!(
        (&ended["status"], &ended["execution_count"]),
        (&json!("done"), &json!(2))
    );
    // Its subscription may have come after the first lines: then their number is said.
    let (numbers, missing) = numbers_and_missing(&ended);
    assert!(
        numbers == (0..=50).collect::<Vec<_>>() || missing > 0,
        "{numbers:?}"
    );
    let after = run(home.root(), "echo 7").await;
    assert_eq!(numbers_and_missing(&after).0, [7]);
}

/// A kernel drops what a subscriber does not take. It cannot be prevented from here, but it is never silent.
#[tokio::test]
async fn what_zmq_drops_is_said() {
    let (_scratch, home) = bash_home("ipc").await;
    let (go, over) = (home.scratch.join("go"), home.scratch.join("over"));
    let code = format!(
        "while [ ! -e {} ]; do sleep .02; done; seq 1 20000; touch {}",
        go.display(),
        over.display()
    );
    let exec = submit(home.root(), &code).await;
    wait_for(home.root(), &exec, |found| found["status"] == "running").await;
    let worker = home.worker_pid().unwrap();
    signal(worker, Signal::STOP);
    std::fs::write(go, "").unwrap();
    let deadline = Instant::now() + DEADLINE;
    while !over.exists() && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    signal(worker, Signal::CONT);
    let ended = wait_for(home.root(), &exec, is_over).await;
    let (numbers, missing) = numbers_and_missing(&ended);
    assert!(numbers.is_sorted(), "in order");
    assert!(
        numbers.len() == 20_000 || missing > 0,
        "{} of 20000 lines, and not a word",
        numbers.len()
    );
}

/// Prints numbered lines until a gate opens, and writes a byte to a file for each that was printed.
fn count_until(gate: &Path, truth: &Path) -> String {
    format!(
        "import os, sys, time\nn, truth = 0, os.open({truth:?}, os.O_WRONLY | os.O_CREAT)\nwhile not os.path.exists({gate:?}):\n    sys.stdout.write(f'{{n}}\\n'); os.write(truth, b'.'); n += 1; time.sleep(.005)"
    )
}

/// Waits for a `notice` whose message has these words.
async fn noticed(client: &mut tithon_ipc::client::Connection, words: &str) {
    let frame = until(client, DEADLINE, |frame| {
        frame["op"] == "notice"
            && frame["message"]
                .as_str()
                .is_some_and(|message| message.contains(words))
    });
    assert!(frame.await.is_some(), "nobody said {words:?}");
}

/// A kill was answered when space returned, and so was an interrupt; and only `status` told why.
#[tokio::test]
async fn a_full_disk_is_said_and_keeps_nobody_from_ending_a_kernel() {
    let scratch = tempfile::Builder::new().prefix("tl").tempdir().unwrap();
    let home = Home::new(scratch.path(), true);
    if !home.has_small_disk() {
        eprintln!("skipped: mounting is not permitted here");
        return;
    }
    run(home.root(), "pass").await;
    let mut client = connect(home.root()).await.unwrap();
    let attach = json!({"op": "attach", "last_seen_seq": -1, "launch": {}});
    client.send(&attach).await.unwrap();
    let (gate, truth) = (home.scratch.join("gate"), home.scratch.join("truth"));
    let exec = submit(home.root(), &count_until(&gate, &truth)).await;

    home.fill_disk();
    noticed(&mut client, "cannot be written").await;
    let status = json!({"op": "status", "session": "default"});
    let status = ask(home.root(), &status, "status_reply").await;
    assert!(status["journal_stalled"].is_string(), "{status}");
    home.free_disk();
    noticed(&mut client, "written again").await;

    home.fill_disk();
    noticed(&mut client, "cannot be written").await;
    let kernel = home.kernel_pid().unwrap();
    let interrupt = json!({"op": "interrupt"});
    assert_eq!(
        ask(home.root(), &interrupt, "interrupted").await["ok"],
        true
    );
    let kill = json!({"op": "kill_kernel", "target": "default"});
    assert_eq!(ask(home.root(), &kill, "kernel_killed").await["ok"], true);
    gone(kernel);
    home.free_disk();

    let ended = wait_for(home.root(), &exec, is_over).await;
    let printed = std::fs::read(truth).unwrap().len();
    let (text, _) = said(&ended);
    let lines: Vec<usize> = text.lines().map_while(|line| line.parse().ok()).collect();
    assert!(
        (printed..=printed + 1).contains(&lines.len()) && lines.iter().copied().eq(0..lines.len()),
        "{} of {printed} lines",
        lines.len()
    );
}
