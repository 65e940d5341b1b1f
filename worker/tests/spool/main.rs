//! What a real kernel says is in its spool, whatever ends it, and the reader takes it exactly once.

#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test fails by panicking and says what it skips or makes"
)]

mod faults;
mod kernel;
#[path = "../../../tests/harness/python.rs"]
mod python;

use std::os::unix::process::ExitStatusExt as _;

use kernel::{Ipykernel, Kernel, read_all, read_until};
use serde_json::{Value, json};
use tithon_worker::kernel::spool::{Record, StdinOutcome, StreamName, StreamRecord};

/// The text of one stream, in order.
fn text_of(records: &[Record], name: StreamName) -> String {
    streams(records)
        .filter(|stream| stream.name == name)
        .map(|stream| stream.text.as_str())
        .collect()
}

fn streams(records: &[Record]) -> impl Iterator<Item = &StreamRecord> {
    records.iter().filter_map(|record| match record {
        Record::Stream(stream) => Some(stream),
        _ => None,
    })
}

/// `msg_type`, parent `msg_id` and content of a message's frames.
fn message(frames: &[bytes::Bytes]) -> (String, String, Value) {
    let at = frames
        .iter()
        .position(|frame| &frame[..] == b"<IDS|MSG>")
        .unwrap()
        + 2;
    let part = |index: usize| serde_json::from_slice::<Value>(&frames[at + index]).unwrap();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    (
        text(&part(0)["msg_type"]),
        text(&part(1)["msg_id"]),
        part(3),
    )
}

fn is_idle(record: &Record) -> bool {
    matches!(record, Record::Iopub(frames)
        if { let (kind, _, content) = message(frames); kind == "status" && content["execution_state"] == "idle" })
}

fn replies(records: &[Record]) -> usize {
    records
        .iter()
        .filter(|record| matches!(record, Record::Reply(_)))
        .count()
}

/// The texts that an execution printed, by the order of its `execute_input`.
fn text_by_cell(records: &[Record]) -> Vec<String> {
    let mut cells: Vec<(String, String)> = Vec::new();
    for record in records {
        match record {
            Record::Iopub(frames) => {
                let (kind, parent, _) = message(frames);
                if kind == "execute_input" {
                    cells.push((parent, String::new()));
                }
            }
            // Before the first cell, for example the debugger has something to say.
            Record::Stream(stream) if !stream.parent.is_empty() => {
                let cell = cells
                    .iter_mut()
                    .find(|(parent, _)| **parent == *stream.parent);
                cell.unwrap_or_else(|| panic!("nobody's text: {stream:?}"))
                    .1
                    .push_str(&stream.text);
            }
            _ => {}
        }
    }
    cells.into_iter().map(|(_, text)| text).collect()
}

fn lines(count: usize) -> String {
    (0..count).map(|line| format!("{line}\n")).collect()
}

fn flood_is_complete_and_in_order(ipykernel: Ipykernel) {
    let mut kernel = Kernel::start(ipykernel);
    kernel.run("for i in range(50_000): print(i, flush=True)");
    let records = read_all(&mut kernel.reader());
    assert!(
        text_of(&records, StreamName::Stdout) == lines(50_000),
        "the lines differ"
    );
    let hello = records
        .iter()
        .position(|record| matches!(record, Record::Hello(_)));
    let first = records
        .iter()
        .position(|record| matches!(record, Record::Iopub(_)));
    assert!(
        hello.is_some() && hello < first,
        "hello at {hello:?}, first message at {first:?}"
    );
}

#[test]
fn fifty_thousand_flushed_lines_are_there_in_order() {
    flood_is_complete_and_in_order(Ipykernel::V7);
}

#[test]
fn fifty_thousand_flushed_lines_are_there_in_order_with_ipykernel_6() {
    flood_is_complete_and_in_order(Ipykernel::V6);
}

/// Code that ends the process, and the signal or exit code it does so with.
const DEATHS: [(&str, Result<i32, i32>); 4] = [
    ("os._exit(7)", Ok(7)),
    ("os.kill(os.getpid(), 9)", Err(9)),
    ("ctypes.string_at(0)", Err(11)),
    ("os.abort()", Err(6)),
];

fn last_words_survive(ipykernel: Ipykernel) {
    for (end, expected) in DEATHS {
        let mut kernel = Kernel::start(ipykernel);
        kernel.run("import ctypes, os, sys; libc = ctypes.CDLL(None)");
        let (records, status) = kernel.run_to_death(&format!(
            "print('python', end=''); print('stderr', file=sys.stderr, end='')\n\
             libc.puts(b'+ C'); os.write(1, b'+ fd'); {end}"
        ));
        assert_eq!(
            status.code().ok_or(status.signal().unwrap_or(0)),
            expected,
            "{end}"
        );
        let stdout = text_of(&records, StreamName::Stdout);
        assert_eq!(stdout, "python+ C\n+ fd", "{end}: {records:?}");
        assert!(
            text_of(&records, StreamName::Stderr).contains("stderr"),
            "{end}: {records:?}"
        );
        assert!(!records.contains(&Record::Bye), "{end}");
        let stack =
            std::fs::read_to_string(tithon_worker::kernel::spool::crash_log(kernel.spool()))
                .unwrap();
        assert_eq!(
            stack.contains("most recent call first"),
            matches!(expected, Err(6 | 11)),
            "{end}: {stack}"
        );
    }
}

#[test]
fn last_words_survive_every_kind_of_death() {
    last_words_survive(Ipykernel::V7);
}

#[test]
fn last_words_survive_every_kind_of_death_with_ipykernel_6() {
    last_words_survive(Ipykernel::V6);
}

#[test]
fn output_from_below_python_lands_in_its_own_cell() {
    let mut kernel = Kernel::start(Ipykernel::V7);
    kernel.run("import ctypes, os, subprocess, sys, threading; libc = ctypes.CDLL(None)");
    kernel.run("os.write(1, b'fd'); sys.stdout.flush(); print('|python')");
    kernel.run("libc.printf(b'no newline')");
    kernel.run("libc.puts(b'puts')");
    kernel.run("subprocess.run(['sh', '-c', 'echo child; echo error >&2'])");
    kernel.run("t = threading.Thread(target=print, args=('thread',)); t.start(); t.join()");
    kernel.run("os.write(1, '\u{1f600}'.encode()[:2]); sys.stdout.flush(); os.write(1, '\u{1f600}'.encode()[2:])");
    kernel.run("print('lone \\ud800')");

    let cells = text_by_cell(&read_all(&mut kernel.reader()));

    let mut child: Vec<_> = cells[4].lines().collect();
    child.sort_unstable();
    assert_eq!(child, ["child", "error"]);
    assert_eq!(cells[..4], ["", "fd|python\n", "no newline", "puts\n"]);
    assert_eq!(cells[5..], ["thread\n", "\u{1f600}", "lone \u{fffd}\n"]);
}

#[test]
fn forked_children_publish_through_their_parent() {
    let mut kernel = Kernel::start(Ipykernel::V7);
    kernel.run(
        "import multiprocessing as mp\n\
         process = mp.get_context('fork').Process(target=print, args=('from a fork',)); process.start(); process.join()",
    );
    let told = |records: &[Record]| -> String {
        let messages = records.iter().filter_map(|record| match record {
            Record::Iopub(frames) => Some(message(frames)),
            _ => None,
        });
        messages
            .filter(|(kind, ..)| kind == "stream")
            .map(|(_, _, content)| content["text"].as_str().unwrap_or_default().to_owned())
            .collect()
    };
    let records = read_until(&mut kernel.reader(), |records| {
        told(records) == "from a fork\n"
    });
    assert_eq!(
        text_of(&records, StreamName::Stdout),
        "",
        "the fork wrote into the spool"
    );
}

/// Every local user can connect to a TCP port; plain ipykernel opens one for what forked children say.
#[test]
fn a_kernel_listens_on_unix_sockets_only() {
    for ipykernel in [Ipykernel::V7, Ipykernel::V6] {
        let mut kernel = Kernel::start(ipykernel);
        kernel.run(
            "import os\n\
             if os.fork() == 0: print('from a fork', flush=True); os._exit(0)\n\
             os.wait()\n\
             links = []\n\
             for fd in os.listdir('/proc/self/fd'):\n\
             \x20   try: links.append(os.readlink(f'/proc/self/fd/{fd}'))\n\
             \x20   except FileNotFoundError: pass",
        );
        kernel.run(
            "def inodes(table): return {line.split()[9] for line in open(f'/proc/self/net/{table}').readlines()[1:]}\n\
             mine = {link[8:-1] for link in links if link.startswith('socket:')}\n\
             assert mine, 'no sockets at all'\n\
             assert not mine & (inodes('tcp') | inodes('tcp6') | inodes('udp')), mine",
        );
    }
}

#[test]
fn prompts_are_recorded_with_their_end() {
    let mut kernel = Kernel::start(Ipykernel::V7);
    kernel.ask(&json!({"do": "run", "code": "input('name? ')", "answer": "x"}));
    let records = read_until(&mut kernel.reader(), |records| {
        records.last().is_some_and(is_idle)
    });
    let at = records.iter().position(|record| match record {
        Record::StdinRequest(frames) => message(frames).2["prompt"] == "name? ",
        _ => false,
    });
    let end = records
        .iter()
        .position(|record| *record == Record::StdinEnd(StdinOutcome::Answered));
    assert!(at.is_some() && at < end, "{records:?}");
    assert_eq!(replies(&records), 1);
}

#[test]
fn an_orderly_end_says_bye_after_everything_else() {
    let mut kernel = Kernel::start(Ipykernel::V7);
    kernel.run("import atexit, os; atexit.register(lambda: os.write(1, b'last'))");
    kernel.ask(&json!({"do": "shutdown"}));
    kernel.wait();
    let records = read_all(&mut kernel.reader());
    assert_eq!(text_of(&records, StreamName::Stdout), "last");
    assert!(
        records
            .iter()
            .any(|record| matches!(record, Record::Control(_)))
    );
    assert_eq!(records.last(), Some(&Record::Bye));
}

#[test]
fn a_kernel_looks_as_it_does_without_a_spool() {
    let mut kernel = Kernel::start(Ipykernel::V7);
    kernel.run(
        "import os, random, sys\n\
         assert '' in sys.path and not any('launcher' in path for path in sys.path), sys.path\n\
         assert sys.argv[0].endswith('site-packages/ipykernel_launcher.py'), sys.argv\n\
         assert [name for name in os.environ if name.startswith('TITHON')] == ['TITHON_SESSION']\n\
         assert __name__ == '__main__' and not hasattr(sys.modules['__main__'], 'spooled_app')\n\
         random.seed(1); state = random.getstate()",
    );
    kernel.ask(&json!({"do": "listen"})); // asks for kernel_info, whose banner must not draw a tip
    kernel.run("assert random.getstate() == state");
}

/// A subscriber that joins in the middle gets each message from then on, though none was built before.
#[test]
fn another_client_sees_what_it_would_of_a_plain_kernel() {
    for ipykernel in [Ipykernel::V7, Ipykernel::V6] {
        let mut kernel = Kernel::start(ipykernel);
        kernel.run("for i in range(1000): print('nobody hears this', flush=True)");
        kernel.ask(&json!({"do": "listen"}));
        kernel.run("import sys\nprint('a'); print('b', file=sys.stderr, flush=True); display(1); print('c'); 42");
        let heard = kernel.ask(&json!({"do": "heard"}));
        let (mut order, mut streams) = (Vec::new(), [String::new(), String::new()]);
        for message in heard.as_array().unwrap() {
            let (kind, content) = (message[0].as_str().unwrap(), &message[1]);
            if kind == "stream" {
                let text = content["text"].as_str().unwrap();
                streams[usize::from(content["name"] == "stderr")].push_str(text);
                order.push(text.trim_end());
            } else {
                order.push(content["execution_state"].as_str().unwrap_or(kind));
            }
        }
        // A timer may cut a text, and the two streams may change places.
        order.retain(|seen| !seen.is_empty() && *seen != "b");
        let expected = [
            "busy",
            "execute_input",
            "a",
            "display_data",
            "c",
            "execute_result",
            "idle",
        ];
        assert_eq!(order, expected);
        assert_eq!(streams, ["a\nc\n", "b\n"]);
    }
}

#[test]
fn an_interpreter_without_ipykernel_is_lent_one() {
    let mut kernel = Kernel::start(Ipykernel::Lent);
    kernel.run("import sys; print(sys.path.index(sys.path[-1]) > 0, 'test-env' in sys.path[-1])");
    assert_eq!(
        text_by_cell(&read_all(&mut kernel.reader())),
        ["True True\n"]
    );
}

#[test]
fn a_kernel_that_cannot_have_a_spool_is_a_plain_one() {
    let mut kernel = Kernel::with(Ipykernel::V7, |command, dir| {
        std::fs::write(dir.join("file"), "").unwrap();
        command.env("TITHON_SPOOL", dir.join("file/spool"));
    });
    kernel.run("print(1)");
    assert!(!kernel.spool().exists());
}
