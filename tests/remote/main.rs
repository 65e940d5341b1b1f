//! `--host`: sessions on another machine, over a real ssh to a real sshd.

#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "in a test a panic is the report, and logs are shown with it"
)]

#[path = "../harness/mod.rs"]
mod harness;
mod sshd;

use std::{fs, os::unix::fs::PermissionsExt, path::Path, process::Command};

use rustix::process::Signal;
use serde_json::Value;

use self::{
    harness::{Home, Output, Running, Terminal, until},
    sshd::Sshd,
};

/// Prints 2000 lines, and waits for that file in the middle of them.
fn counting(gate: &Path) -> String {
    format!(
        "import os, time\nfor i in range(2000):\n    print(i, flush=True)\n    \
         while i >= 1000 and not os.path.exists({gate:?}): time.sleep(.01)"
    )
}

fn counted() -> String {
    (0..2000).map(|i| format!("{i}\n")).collect()
}

/// The program in a terminal.
fn open(near: &Home, arguments: &[&str]) -> Terminal {
    let mut command: Command = near.command(arguments);
    command.env("TERM", "xterm-256color").env("USER", "ada");
    Terminal::run(command)
}

fn tithon(near: &Home, arguments: &[&str]) -> Output {
    near.tithon(&[&["--host", "gpu01"], arguments].concat())
}

/// A program of that name that is not ours.
fn program(bin: &Path, script: &str) {
    let path = bin.join("tithon");
    fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn sessions_of_another_machine_are_used_over_one_connection() {
    let near = Home::empty();
    let odd = near.work().join("50% of: it \"all\"");
    let mut near = near.at(odd);
    let Some(sshd) = Sshd::with_tithon(
        "sessions_of_another_machine_are_used_over_one_connection",
        &mut near,
    ) else {
        return;
    };
    let none = tithon(&near, &["interrupt"]);
    assert_eq!(none.code, 2, "{none:?}");
    assert!(none.stderr.starts_with("tithon: gpu01: "), "{none:?}");
    assert!(none.stderr.contains("cannot reach daemon"), "{none:?}");

    tithon(&near, &["run", "-c", "import os; x = 41"]).ok();
    let said = tithon(
        &near,
        &["run", "-c", "print(x + 1, os.environ['TITHON_HOME'])"],
    )
    .ok();
    assert_eq!(said, format!("42 {}\n", sshd.far.root().display()));
    assert!(tithon(&near, &["ps"]).ok().contains("\ndefault  idle"));
    assert!(
        tithon(&near, &["log"])
            .ok()
            .contains(">>> import os; x = 41\n")
    );
    assert_eq!(sshd.far.tithon(&["run", "-c", "print(x)"]).ok(), "41\n");

    // About that machine's files: all of the command runs there.
    assert!(
        tithon(&near, &["version"])
            .ok()
            .contains(env!("CARGO_PKG_VERSION"))
    );
    let refused = tithon(&near, &["rm", "--yes", "--session", "it's none"]);
    assert_eq!(refused.code, 2, "{refused:?}");
    assert!(
        refused.stderr.contains("no session 'it's none'"),
        "{refused:?}"
    );

    assert_eq!(sshd.connections(), 1);
    assert_eq!(fs::read_dir(near.paths().sessions()).unwrap().count(), 0);
}

#[test]
fn a_cut_connection_loses_and_repeats_nothing() {
    let mut near = Home::empty();
    let Some(sshd) = Sshd::with_tithon("a_cut_connection_loses_and_repeats_nothing", &mut near)
    else {
        return;
    };
    let gate = sshd.far.work().join("gate");
    let mut run = near.spawn(&["--host", "gpu01", "run", "-c", &counting(&gate)]);
    let mut seen = vec![run.line()];
    while seen.len() < 500 {
        seen.push(run.line());
    }
    sshd.cut();
    while seen.len() < 1000 {
        seen.push(run.line());
    }
    until("another connection", || {
        (sshd.connections() > 1).then_some(())
    });
    fs::write(gate, "").unwrap();
    let output = run.finish();
    assert_eq!(output.code, 0, "{output:?}");
    let all = seen.concat() + &output.stdout;
    assert_eq!(all, counted());
}

/// Those who only look on lose and repeat nothing either.
#[test]
fn who_looks_on_over_a_cut_connection_misses_nothing() {
    let mut near = Home::empty();
    let test = "who_looks_on_over_a_cut_connection_misses_nothing";
    let Some(sshd) = Sshd::with_tithon(test, &mut near) else {
        return;
    };
    let gate = sshd.far.work().join("gate");
    tithon(&near, &["run", "--no-wait", "-c", &counting(&gate)]).ok();
    let mut tail = near.spawn(&["--host", "gpu01", "tail"]);
    let mut attached = near.spawn(&["--host", "gpu01", "attach", "--since", "1", "--until-done"]);
    let (mut shown, mut printed, mut last) = (String::new(), String::new(), 1);
    let more = |of: &mut Running| {
        let line = of.line();
        assert!(!line.is_empty(), "it ended");
        line
    };
    while !shown.ends_with("\n500\n") {
        shown.push_str(&more(&mut tail));
    }
    let mut take = |frame: &str, printed: &mut String| {
        let frame: Value = serde_json::from_str(frame).unwrap();
        if frame["op"] == "event" {
            assert_eq!(frame["seq"], last + 1, "{frame}");
            last += 1;
            let text = &frame["payload"]["content"]["text"];
            printed.push_str(text.as_str().unwrap_or_default());
        }
    };
    // An event may begin or end with any line.
    while !printed.contains("\n500\n") {
        take(&more(&mut attached), &mut printed);
    }
    let before = sshd.connections();
    sshd.cut();
    until("another connection", || {
        (sshd.connections() > before).then_some(())
    });
    fs::write(gate, "").unwrap();
    let output = tail.finish();
    assert_eq!(output.code, 0, "{output:?}");
    assert_eq!(shown + &output.stdout, counted());

    for line in attached.finish().ok().lines() {
        take(line, &mut printed);
    }
    assert_eq!(printed, counted());
}

#[test]
fn the_prompt_goes_on_after_a_cut() {
    let mut near = Home::empty();
    let Some(sshd) = Sshd::with_tithon("the_prompt_goes_on_after_a_cut", &mut near) else {
        return;
    };
    let mut prompt = open(&near, &["--host", "gpu01"]);
    prompt.ready();
    prompt.enter("x = 41");
    prompt.ready();
    sshd.cut();
    prompt.enter("x + 1");
    prompt.wait_for("\n42\n>>>");
    let gate = sshd.far.work().join("gate");
    let wait = format!("while not os.path.exists({gate:?}): time.sleep(.01)");
    prompt.enter("import os, time; print('on', flush=True)");
    prompt.wait_for("\non\n>>>");
    prompt.enter("def wait():");
    prompt.press(&format!("{wait}\r\r"));
    prompt.wait("the function", |shown| shown.ends_with("\n>>>"));
    prompt.enter("print('before', flush=True); wait(); print('after')");
    prompt.wait_for("\nbefore");
    sshd.cut();
    fs::write(gate, "").unwrap();
    let shown = prompt.wait("the end", |shown| shown.ends_with("\nafter\n>>>"));
    assert_eq!(shown.matches("\nbefore").count(), 1, "{shown}");
    prompt.press("\x04");
    prompt.wait_for("come back with: tithon --host gpu01 repl");
}

/// A network that says nothing is noticed, said, and waited for.
#[test]
fn a_network_that_hangs_is_said_and_waited_for() {
    let mut near = Home::empty();
    let test = "a_network_that_hangs_is_said_and_waited_for";
    let Some(sshd) = Sshd::with_tithon(test, &mut near) else {
        return;
    };
    sshd.is_given_up_soon(&mut near);
    let gate = sshd.far.work().join("gate");
    let run = open(&near, &["--host", "gpu01", "run", "-c", &counting(&gate)]);
    run.wait_for("\n1000");
    sshd.hang(Signal::STOP);
    run.wait_for("the connection was lost, reconnecting");
    fs::write(gate, "").unwrap();
    sshd.hang(Signal::CONT);
    run.wait_for("\n1999");
    run.ended();
    let lines = run.written();
    for i in [1000, 1001, 1500, 1999] {
        assert_eq!(lines.matches(&format!("{i}\r\n")).count(), 1, "{i}");
    }
}

#[test]
fn what_does_not_fit_is_said() {
    let mut near = Home::empty();
    let Some(sshd) = Sshd::start("what_does_not_fit_is_said", &mut near, |_| {}) else {
        return;
    };
    let none = tithon(&near, &["ps"]);
    assert_eq!(none.code, 2, "{none:?}");
    assert!(none.stderr.contains("gpu01 has no Tithon"), "{none:?}");
    assert!(none.stderr.contains("hint: copy this program"), "{none:?}");

    let bin = sshd.far.work().join("bin");
    program(
        &bin,
        "[ \"$1\" = version ] && echo 0.0.9 && exit\necho \"argument: invalid choice: 'reach'\" >&2; exit 2",
    );
    let older = tithon(&near, &["run", "-c", "1"]);
    assert_eq!(older.code, 2, "{older:?}");
    assert!(
        older.stderr.contains("gpu01 has an older Tithon (0.0.9)"),
        "{older:?}"
    );

    let nowhere = near.tithon(&["--host", "nowhere", "ps"]);
    assert_eq!(nowhere.code, 2, "{nowhere:?}");
    assert!(
        nowhere.stderr.contains("nowhere cannot be reached: "),
        "{nowhere:?}"
    );
    let here = tithon(&near, &["import", "a.ipynb", "a.py"]);
    assert!(here.stderr.contains("takes no --host"), "{here:?}");
}
