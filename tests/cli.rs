//! The command line as scripts see it: exit codes, what is on stdout and what is on stderr.

#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "in a test a panic is the report, and what is done once is said"
)]

mod harness;

use harness::{Home, Output, Running, is_alive, skip, until};
use rustix::process::Signal;
use serde_json::Value;

/// An exit code, stdout, and something that stderr holds.
fn assert_told(output: &Output, code: i32, stdout: &str, stderr: &str) {
    assert_eq!(
        (output.code, output.stdout.as_str()),
        (code, stdout),
        "{output:?}"
    );
    assert!(output.stderr.contains(stderr), "{output:?}");
}

#[test]
fn exit_codes_tell_the_ends_of_a_cell_apart() {
    let home = Home::empty();
    let run = |code: &str| home.tithon(&["run", "-c", code]);
    let good = run("import sys; print('out'); print('err', file=sys.stderr); 6 * 7");
    assert_told(&good, 0, "out\n42\n", "err\n");
    let bad = run("print('before'); 1/0");
    assert_told(&bad, 1, "before\n", "ZeroDivisionError: division by zero");
    let refused = home.tithon(&["run", "--frobnicate"]);
    assert_told(&refused, 2, "", "Usage: tithon run");
    let absent = home.tithon(&["run", "/no/such/file.py"]);
    assert_told(
        &absent,
        2,
        "",
        "/no/such/file.py cannot be read: No such file",
    );
    let late = home.tithon(&[
        "run",
        "--timeout",
        "0.3",
        "-c",
        "import time; time.sleep(600)",
    ]);
    assert_told(&late, 3, "", "tithon: timed out");
    let interrupted = home.tithon(&["interrupt"]);
    assert_told(
        &interrupted,
        0,
        "{\n  \"op\": \"interrupted\",\n  \"ok\": true\n}\n",
        "",
    );
    let lost = run("import os; os._exit(1)");
    assert_told(&lost, 4, "", "KernelDied");
    let restarted = home.tithon(&["restart"]);
    assert_eq!(restarted.code, 0, "{restarted:?}");
    assert!(restarted.stdout.contains("\"op\": \"kernel_restarted\""));
    let shown = run("display({'text/plain': 'x', 'text/html': 'y'}, raw=True)");
    assert_told(&shown, 0, "[display] ['text/html', 'text/plain']\n", "");
}

#[test]
fn nothing_is_started_that_must_not_be() {
    let home = Home::empty();
    let socket = home.root().join("daemon.sock");
    let unreachable = format!(
        "tithon: cannot reach daemon at {}: No such file",
        socket.display()
    );
    for arguments in [
        &["--no-start", "run", "-c", "1"][..],
        &["attach", "--no-start", "--once"],
        &["ps"],
        &["status"],
        &["interrupt"],
        &["kill", "--session", "s"],
        &["shutdown"],
    ] {
        assert_told(&home.tithon(arguments), 2, "", &unreachable);
    }
    assert_eq!(home.supervisor(), None);
    assert!(!socket.exists());
    let version = home.tithon(&["version"]);
    assert_told(&version, 0, concat!(env!("CARGO_PKG_VERSION"), "\n"), "");
}

#[test]
fn code_comes_from_a_file_or_from_standard_input() {
    let home = Home::empty();
    let file = home.work().join("train.py");
    std::fs::write(&file, "\u{feff}import sys\r\nprint('ü', 6 * 7)\n").unwrap();
    assert_told(&home.tithon(&["run", "train.py"]), 0, "ü 42\n", "");
    let piped = home.tithon_reading(&["run", "-"], b"for i in range(3):\n    print(i)\n");
    assert_told(&piped, 0, "0\n1\n2\n", "");
    let asked = home.tithon_reading(&["run", "--stdin", "-c", "print(input('? ') * 2)"], b"ab\n");
    assert_eq!(asked.code, 0, "{asked:?}");
    assert!(asked.stdout.ends_with("abab\n"), "{asked:?}");
    assert_eq!(home.tithon(&["run", "--stdin", "-"]).code, 2);
}

#[test]
fn a_cell_left_alone_goes_on_and_can_be_attached_to() {
    let home = Home::empty();
    let gate = home.work().join("gate");
    let code = format!(
        "import os, time\nwhile not os.path.exists({gate:?}): time.sleep(0.005)\nprint('done')"
    );
    let left = home.tithon(&["run", "--no-wait", "-c", &code]);
    assert_told(&left, 0, "e1\n", "");
    let mut attached = home.spawn(&["attach", "--since", "1", "--until-done"]);
    let first = attached.line();
    assert!(
        first.starts_with("{\"op\": \"event\", \"seq\": 2, "),
        "{first}"
    );
    std::fs::write(gate, "").unwrap();
    let rest = attached.finish().ok();
    let last: Value = serde_json::from_str(rest.lines().last().unwrap()).unwrap();
    assert_eq!(
        (&last["kind"], &last["payload"]["status"]),
        (&"done".into(), &"ok".into())
    );
    let end = last["seq"].as_i64().unwrap();

    let since = (end - 1).to_string();
    let again = home
        .tithon(&["attach", "--since", &since, "--until-done"])
        .ok();
    let lines: Vec<&str> = again.lines().collect();
    assert_eq!(
        lines.first(),
        rest.lines().last().as_ref(),
        "replayed as it was live"
    );
    let once = home.tithon(&["attach", "--since", &end.to_string(), "--once"]);
    assert_told(
        &once,
        0,
        &format!("{{\"op\": \"sync\", \"seq\": {end}}}\n"),
        "",
    );
    let events = home.tithon(&["run", "--json", "-c", "print(1)"]).ok();
    let kinds: Vec<String> = events
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["kind"].to_string())
        .collect();
    assert_eq!(kinds.first().unwrap(), "\"queued\"");
    assert_eq!(kinds.last().unwrap(), "\"done\"");
}

fn start_sleeping(home: &Home) -> Running {
    let code = "import time; print('on', flush=True); time.sleep(600)";
    let mut run = home.spawn(&["run", "-c", code]);
    assert_eq!(run.line(), "on\n");
    run
}

#[test]
fn ctrl_c_once_interrupts_the_cell_and_twice_detaches() {
    let home = Home::empty();
    let run = start_sleeping(&home);
    assert!(home.signal(run.pid(), Signal::INT));
    let interrupted = run.finish();
    assert_told(&interrupted, 130, "", "KeyboardInterrupt");
    assert!(interrupted.stderr.contains("tithon: interrupting e1;"));

    // A cell that does not let itself be interrupted.
    let code = "import signal\nsignal.signal(signal.SIGINT, lambda *_: print('no', flush=True))\n\
                print('on', flush=True)\nimport time\nwhile True: time.sleep(0.005)";
    let mut run = home.spawn(&["run", "-c", code]);
    assert_eq!(run.line(), "on\n");
    assert!(home.signal(run.pid(), Signal::INT));
    assert_eq!(run.line(), "no\n");
    assert!(home.signal(run.pid(), Signal::INT));
    let detached = run.finish();
    assert_told(
        &detached,
        130,
        "",
        "detached; e2 goes on\nhint: tithon tail e2\n",
    );
    let status: Value =
        serde_json::from_str(&home.tithon(&["status", "--session", "default"]).ok()).unwrap();
    assert_eq!(status["running"]["exec_id"], "e2");
}

#[test]
fn ps_shows_every_session() {
    let home = Home::empty();
    home.tithon(&["run", "-c", "1"]).ok();
    home.tithon(&[
        "run",
        "--session",
        "file:///lab/a.py",
        "--no-wait",
        "-c",
        "import time; time.sleep(600)",
    ])
    .ok();
    until("the cell to run", || {
        let table = home.tithon(&["ps"]).ok();
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(lines.len(), 3, "{table}");
        for title in ["SESSION", "STATE", "KERNEL", "MEMORY", "CPU", "IDLE", "AGE"] {
            assert!(lines[0].contains(title), "{table}");
        }
        assert!(!table.contains('\u{1b}'), "colour is for terminals");
        (lines[1].contains("default")
            && lines[1].contains("idle")
            && lines[2].contains("a.py")
            && lines[2].contains("busy"))
        .then_some(())
    });
    let list: Value = serde_json::from_str(&home.tithon(&["ps", "--json"]).ok()).unwrap();
    let entry = &list[0];
    assert_eq!(entry["session"], "default");
    assert_eq!(entry["kernel_pid"], home.kernel("default").unwrap());
    assert_eq!(entry["worker_pid"], home.worker("default").unwrap());
    assert!(entry["memory_bytes"].as_u64().unwrap() > 1 << 20, "{entry}");

    let killed = home.tithon(&["kill", "--session", "default"]);
    assert_told(
        &killed,
        0,
        "{\n  \"op\": \"kernel_killed\",\n  \"ok\": true,\n  \"session\": \"default\"\n}\n",
        "",
    );
    assert_eq!(home.tithon(&["kill", "--session", "default"]).code, 1);
    assert!(!home.tithon(&["ps"]).ok().contains("default"));
    assert!(home.tithon(&["ps", "--all"]).ok().contains("default"));
}

/// After a crash of the supervisor nobody must believe that nothing runs.
#[test]
fn sessions_are_listed_and_ended_without_a_supervisor() {
    let mut home = Home::empty();
    home.tithon(&["run", "--session", "lab", "-c", "1"]).ok();
    home.kill_supervisor();
    let listed = home.tithon(&["ps"]);
    assert_eq!(listed.code, 0, "{listed:?}");
    assert!(listed.stdout.contains("\nlab      idle"), "{listed:?}");
    assert!(listed.stderr.contains("no supervisor runs"), "{listed:?}");
    assert_eq!(home.tithon(&["ps", "--quiet"]).ok(), "lab\n");
    // Nor must one be needed to stop what runs.
    let kernel = home.kernel("lab").unwrap();
    let interrupted = home.tithon(&["interrupt", "--session", "lab"]).ok();
    assert!(interrupted.contains("\"ok\": true"), "{interrupted}");
    let killed = home.tithon(&["kill", "--session", "lab"]).ok();
    assert!(killed.contains("\"session\": \"lab\""), "{killed}");
    assert!(!is_alive(kernel));
    // Where nobody can be asked nothing is claimed.
    assert_eq!(home.tithon(&["kill", "--session", "lab"]).code, 2);
    assert_eq!(home.supervisor(), None);
}

/// Also where nothing is printed by which it would be noticed.
#[test]
fn attach_ends_with_its_reader() {
    let home = Home::empty();
    home.tithon(&["run", "-c", "1"]).ok();
    let mut attached = home.spawn(&["attach", "--since", "0"]);
    assert!(attached.line().contains("\"snapshot\""));
    assert!(attached.line().contains("\"sync\""));
    attached.stop_reading();
    assert_eq!(attached.finish().code, 141);
}

#[test]
fn a_second_daemon_says_who_is_the_first() {
    let home = Home::new();
    let told = home.tithon(&["daemon"]);
    let pid = home.supervisor().unwrap();
    assert_told(
        &told,
        1,
        "",
        &format!("tithon daemon already running (pid {pid})\n"),
    );
}

#[test]
fn output_whose_reader_left_ends_the_command_quietly() {
    let home = Home::empty();
    let mut command = std::process::Command::new("sh");
    let run = home.command(&[]);
    for (name, value) in run.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    let script = "\"$0\" run -c 'for i in range(100_000): print(i)' | head -n 1; wait";
    command.args(["-c", script]).arg(run.get_program());
    assert_told(&Running::start(command, b"").finish(), 0, "0\n", "");
}

#[test]
fn bash_completes_the_names_of_living_sessions() {
    let test = "bash_completes_the_names_of_living_sessions";
    if std::process::Command::new("bash")
        .arg("--version")
        .output()
        .is_err()
    {
        return skip(test, "there is no bash").unwrap_or_default();
    }
    let home = Home::empty();
    for session in ["lab", "late"] {
        home.tithon(&["run", "--session", session, "-c", "pass"])
            .ok();
    }
    let program = home.command(&[]);
    let mut bash = std::process::Command::new("bash");
    bash.args(["--norc", "-c"]).arg(
        "PATH=$(dirname \"$0\"):$PATH; source <(tithon completions bash)\n\
         complete -p tithon > /dev/null || exit\n\
         complete_words() { COMP_WORDS=(\"$@\"); COMP_CWORD=$(($# - 1))\n\
         _tithon tithon \"${COMP_WORDS[-1]}\" \"${COMP_WORDS[-2]}\"; echo \"${COMPREPLY[@]}\"; }\n\
         complete_words tithon run --session la\n\
         complete_words tithon log --session lat\n\
         complete_words tithon check",
    );
    bash.arg(program.get_program()).current_dir(home.work());
    for (name, value) in program.get_envs() {
        match value {
            Some(value) => bash.env(name, value),
            None => bash.env_remove(name),
        };
    }
    let completed = bash.output().unwrap();
    let shown = String::from_utf8_lossy(&completed.stdout);
    assert_eq!(shown, "lab late\nlate\ncheckpoints\n", "{completed:?}");
}

/// Who interrupts a print, or prints what cannot be, is shown their own code and none of ours.
#[test]
fn tracebacks_have_no_frames_of_the_launcher() {
    let home = Home::empty();
    let code = "class Odd(str):\n    def encode(self, *_): raise ValueError('in the middle')\n\
                import sys; sys.stdout.write(Odd('x'))";
    let failed = home.tithon(&["run", "-c", code]);
    assert_eq!(failed.code, 1, "{failed:?}");
    assert!(failed.stderr.contains("in the middle"), "{failed:?}");
    assert!(failed.stderr.contains("sys.stdout.write"), "{failed:?}");
    assert!(!failed.stderr.contains("tithon_"), "{failed:?}");
    let asked = home.tithon_reading(&["run", "--stdin", "-c", "input()"], b"");
    assert!(asked.stderr.contains("EOFError"), "{asked:?}");
    assert!(!asked.stderr.contains("tithon_"), "{asked:?}");
}
