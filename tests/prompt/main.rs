//! The prompt in a real terminal, with a real kernel: what is typed, and what the screen shows.

#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "in a test a panic is the report, and the screen is shown with it"
)]

mod completions;
#[path = "../harness/mod.rs"]
mod harness;
mod readable;
mod screens;

use std::{
    process::Command,
    thread,
    time::{Duration, Instant},
};

use self::{
    harness::{Home, Terminal, until},
    screens::assert_screen,
};

/// Longer than the prompt waits for a completion.
const KEPT_WAITING: Duration = Duration::from_secs(4);

/// The program in a terminal.
fn open(home: &Home, arguments: &[&str]) -> Terminal {
    Terminal::run(command(home, arguments))
}

fn command(home: &Home, arguments: &[&str]) -> Command {
    let mut command = home.command(arguments);
    command
        .env("TERM", "xterm-256color")
        .env("USER", "ada")
        .env_remove("NO_COLOR");
    command
}

/// Waits until a cell has made that file. A cell that printed might be interrupted in the middle of
/// it, which looks different.
fn wait_for_file(home: &Home, name: &str) {
    let path = home.work().join(name);
    until(name, || path.exists().then_some(()));
}

/// Waits until that execution runs.
fn wait_until_running(home: &Home, exec_id: &str) {
    until("the cell running", || {
        let log = home.tithon(&["log", "--exec", exec_id]);
        log.stdout.contains("running").then_some(())
    });
}

/// The screen from the first line that begins so.
fn from<'a>(shown: &'a str, beginning: &str) -> &'a str {
    let at = shown.find(&format!("\n{beginning}")).map(|at| at + 1);
    &shown[at.unwrap_or_else(|| panic!("no {beginning}:\n{shown}"))..]
}

/// IPython's `exit` would end the kernel of everybody.
#[test]
fn who_says_exit_leaves_the_kernel_alone() {
    let home = Home::empty();
    let mut prompt = open(&home, &[]);
    prompt.ready();
    prompt.enter("x = 41");
    prompt.ready();
    prompt.enter("exit");
    prompt.wait_for("detached; session 'default' lives on");
    assert_eq!(home.tithon(&["run", "-c", "x + 1"]).ok(), "42\n");
}

#[test]
fn lines_are_edited_run_and_remembered_elsewhere() {
    let home = Home::empty();
    home.tithon(&["run", "-c", "x = 41"]).ok();
    let mut prompt = open(&home, &[]);
    prompt.ready();
    prompt.enter("x + 1");
    prompt.wait_for("\n42\n>>>");
    prompt.enter("for i in range(2):");
    prompt.wait("indentation", |shown| shown.ends_with("for i in range(2):"));
    prompt.press("print(i)\r\r");
    let shown = prompt.wait("loop", |shown| shown.ends_with("0\n1\n>>>"));
    assert_eq!(
        from(&shown, ">>> x + 1"),
        ">>> x + 1\n42\n>>> for i in range(2):\n    print(i)\n\n0\n1\n>>>"
    );
    assert_screen(&prompt, "typing");
    // The next line knows what ran meanwhile, whoever ran it.
    home.tithon(&["run", "-c", "print('from elsewhere')"]).ok();
    prompt.wait_for("\nfrom elsewhere\ne4 is done\n>>>");
    prompt.press("\x03");
    prompt.wait("another prompt", |shown| shown.ends_with("\n>>>\n>>>"));
    prompt.press("\x1b[A");
    prompt.wait("history", |shown| {
        shown.ends_with(">>> print('from elsewhere')")
    });
    prompt.press("\x03");
    prompt.ready();
    prompt.press("\x04");
    prompt.wait_for("detached; session 'default' lives on\ncome back with: tithon repl");
    prompt.ended();
    assert_eq!(home.tithon(&["run", "-c", "print(x)"]).ok(), "41\n");
}

#[test]
fn ctrl_c_interrupts_the_cell_and_errors_keep_the_prompt() {
    let home = Home::empty();
    let mut prompt = open(&home, &["repl", "--session", "lab"]);
    prompt.ready();
    prompt.enter("import time; open('on', 'w').close(); time.sleep(600)");
    wait_for_file(&home, "on");
    prompt.press("\x03");
    prompt.wait_for("KeyboardInterrupt");
    prompt.ready();
    prompt.enter("1/0");
    prompt.wait_for("ZeroDivisionError: division by zero\n>>>");
    assert_screen(&prompt, "interrupt_and_error");
}

#[test]
fn a_cell_asks_in_place_and_a_password_is_not_shown() {
    let home = Home::empty();
    let mut prompt = open(&home, &[]);
    prompt.ready();
    prompt.enter("name = input('Who? ')");
    prompt.wait("question", |shown| shown.ends_with("\nWho?"));
    prompt.press("ada\r");
    prompt.ready();
    prompt.enter("import getpass; word = getpass.getpass('Word: ')");
    prompt.wait("question", |shown| shown.ends_with("\nWord:"));
    prompt.press("hush\r");
    prompt.ready();
    prompt.enter("word += getpass.getpass()");
    prompt.wait("question", |shown| shown.ends_with("\nPassword:"));
    prompt.press("\r");
    prompt.ready();
    prompt.enter("name, word[::-1]");
    let shown = prompt.wait_for("('ada', 'hsuh')");
    assert!(!shown.contains("hush"), "{shown}");
    assert_screen(&prompt, "questions");
}

#[test]
fn who_comes_back_sees_the_cell_that_still_runs() {
    let home = Home::empty();
    let mut prompt = open(&home, &[]);
    prompt.ready();
    let gate = home.work().join("gate");
    prompt.enter("import os, time; print('10%', end='\\r20%', flush=True)");
    prompt.ready();
    prompt.enter("print('30%', end='\\r', flush=True); g = 'gate'");
    prompt.ready();
    prompt.enter("print('50%', end='', flush=True)");
    prompt.ready();
    prompt.enter("def wait():");
    prompt.press("while not os.path.exists(g): time.sleep(.01)\r\r");
    prompt.wait_for("while not");
    prompt.ready();
    prompt.enter("print('60%', end='\\r70%', flush=True); wait(); print('\\r99%')");
    prompt.wait("progress", |shown| shown.ends_with("\n70%"));
    prompt.press("\x04");
    prompt.wait_for("goes on in session 'default'");
    prompt.ended();

    let again = open(&home, &[]);
    let shown = again.wait("progress", |shown| shown.ends_with("\n70%"));
    assert!(shown.contains("running"), "{shown}");
    assert!(shown.contains("by ada (tithon repl)"), "{shown}");
    assert_screen(&again, "reattach_while_running");
    std::fs::write(gate, "").unwrap();
    let shown = again.ready();
    assert!(shown.ends_with("\n99%\n>>>"), "{shown}");
}

#[test]
fn two_people_see_each_other() {
    let home = Home::empty();
    let mut one = open(&home, &[]);
    one.ready();
    let mut other = open(&home, &[]);
    other.ready();
    one.press("half a li");
    one.wait_for(">>> half a li");
    other.enter("print('hello'); 6 * 7");
    other.wait_for("\nhello\n42\n>>>");
    let shown = one.wait_for("is done\n>>> half a li");
    assert_eq!(
        from(&shown, "e1 by"),
        "e1 by ada (tithon repl): print('hello'); 6 * 7\nhello\n42\ne1 is done\n>>> half a li"
    );
    assert_screen(&one, "two_people_the_one");
    assert_screen(&other, "two_people_the_other");
}

#[test]
fn the_prompt_survives_the_supervisor() {
    let mut home = Home::empty();
    let mut prompt = open(&home, &[]);
    prompt.ready();
    prompt.enter("x = 1");
    prompt.ready();
    home.kill_supervisor();
    prompt.enter("x + 1");
    prompt.wait_for("\n2\n>>>");
    home.tithon(&["run", "-c", "x = 5"]).ok();
    prompt.wait_for("\ne3 is done\n>>>");
    home.tithon(&["shutdown"]).ok();
    prompt.enter("x + 1");
    prompt.wait_for("\n6\n>>>");
    assert_screen(&prompt, "supervisor_killed");
}

#[test]
fn a_killed_kernel_is_replaced_for_the_next_cell() {
    let home = Home::empty();
    let mut prompt = open(&home, &[]);
    prompt.ready();
    prompt.enter("x = 1");
    prompt.ready();
    home.tithon(&["kill", "--session", "default"]).ok();
    prompt.wait_for("the kernel was ended; the next cell gets a fresh one");
    prompt.enter("'x' in globals()");
    prompt.wait_for("\nFalse\n>>>");
    assert_screen(&prompt, "kernel_killed");
}

#[test]
fn floods_garbage_and_a_narrow_window_leave_the_prompt_in_order() {
    let home = Home::empty();
    let mut prompt = open(&home, &[]);
    prompt.ready();
    prompt.enter("print(('x' * 99 + '\\n') * 100_000 + 'end')");
    prompt.wait_for("\nend\n>>>");
    prompt.enter("import os; _ = os.write(1, bytes(range(128, 256)) + b'\\nover\\n')");
    prompt.wait_for("\nover\n>>>");
    assert_screen(&prompt, "flood_and_garbage");
    prompt.resize(20);
    prompt.press("'a' * 30");
    prompt.wait_for(">>> 'a' * 30");
    prompt.press("\r");
    let wrapped = format!("\n'{}\n{}'\n>>>", "a".repeat(19), "a".repeat(11));
    prompt.wait_for(&wrapped);
    assert_screen(&prompt, "narrow");
}

#[test]
fn what_is_pasted_or_typed_ahead_is_not_lost() {
    let home = Home::empty();
    let mut prompt = open(&home, &[]);
    prompt.ready();
    prompt.press("\x1b[200~a = 1\nif a:\n    b = 2\n\x1b[201~");
    prompt.wait_for("b = 2");
    prompt.press("\r");
    prompt.ready();
    prompt.enter("print(a + b)");
    prompt.wait_for("\n3\n>>>");
    prompt.enter("import os, time");
    prompt.ready();
    prompt.enter("while not os.path.exists('typed'): time.sleep(.01)");
    prompt.press("\r");
    wait_until_running(&home, "e4");
    prompt.press("b + 40\rwho = input('Who? ')\rfor c in who:\rprint(c)\r\rb + 4");
    std::fs::write(home.work().join("typed"), "").unwrap();
    prompt.wait("question", |shown| shown.ends_with("\nWho?"));
    prompt.press("ab\r");
    let shown = prompt.wait("typed ahead", |shown| shown.ends_with(">>> b + 4"));
    assert_eq!(
        from(&shown, ">>> b + 40"),
        ">>> b + 40\n42\n>>> who = input('Who? ')\nWho? ab\n>>> for c in who:\n    print(c)\n\na\nb\n>>> b + 4"
    );
    prompt.press("0\r");
    prompt.wait_for("\n42\n>>> who");
    prompt.ready();
}

/// Whoever types ahead of a question answers it; whoever interrupts means nothing of it to run.
#[test]
fn keys_typed_while_a_cell_runs_go_where_they_belong() {
    let home = Home::empty();
    let wait = "import os, time\ndef wait():\n while not os.path.exists('gate'): time.sleep(.01)";
    home.tithon(&["run", "-c", wait]).ok();
    let mut prompt = open(&home, &[]);
    prompt.ready();
    prompt.enter("wait(); input('Who? ')");
    wait_until_running(&home, "e2");
    prompt.press("ada\r");
    std::fs::write(home.work().join("gate"), "").unwrap();
    prompt.wait_for("\nWho? ada\n'ada'\n>>>");
    prompt.enter("open('on', 'w').close(); time.sleep(600)");
    wait_for_file(&home, "on");
    prompt.press("print('never')\r\x03");
    prompt.wait_for("KeyboardInterrupt");
    let shown = prompt.ready();
    assert!(!shown.contains("never"), "{shown}");
}

#[test]
fn the_kernel_completes_and_explains() {
    let home = Home::empty();
    let mut prompt = open(&home, &[]);
    prompt.ready();
    prompt.enter("class Box: alpha = 1; alpine = 2");
    prompt.ready();
    prompt.press("Box.al");
    prompt.wait_for(">>> Box.al");
    // The first completion imports what it needs, which may take longer than a person is kept waiting.
    until("a completion", || {
        prompt.press("\t");
        let pressed = Instant::now();
        while pressed.elapsed() < KEPT_WAITING {
            if prompt.shown().ends_with(">>> Box.alp") {
                return Some(());
            }
            thread::sleep(Duration::from_millis(5));
        }
        None
    });
    prompt.press("\t\t");
    prompt.wait_for("alpha");
    prompt.press("\x03");
    prompt.wait("another prompt", |shown| shown.ends_with("\n>>>"));
    assert_screen(&prompt, "completion");
    prompt.enter("Box?");
    prompt.wait_for("Type:");
}

#[test]
fn a_terminal_that_moves_no_cursor_gets_lines_and_no_escape_sequences() {
    let home = Home::empty();
    let program = command(&home, &[]);
    // Tests' terminals do not echo; people's do.
    let mut echoing = Command::new("sh");
    echoing.args(["-c", "stty echo; exec \"$0\""]);
    echoing.arg(program.get_program()).current_dir(home.work());
    for (name, value) in program.get_envs() {
        match value {
            Some(value) => echoing.env(name, value),
            None => echoing.env_remove(name),
        };
    }
    echoing.env("TERM", "dumb");
    // Elsewhere this one alone is taken for colours.
    echoing.env("CI", "true");
    let mut prompt = Terminal::run(echoing);
    let goes_on = |shown: &str| shown.ends_with("\n...");
    prompt.ready();
    prompt.enter("for i in range(2):");
    prompt.wait("more lines", goes_on);
    prompt.enter("    print('line', i)");
    prompt.wait("more lines", |shown| shown.ends_with(", i)\n..."));
    prompt.press("\r");
    prompt.wait_for("\nline 0\nline 1\n>>>");
    prompt.enter("1/0");
    prompt.wait_for("ZeroDivisionError: division by zero");
    prompt.ready();
    prompt.enter("if never:");
    prompt.wait("more lines", goes_on);
    prompt.press("\x03");
    prompt.ready();
    prompt.enter("input('who? ')[::-1]");
    prompt.wait("the question", |shown| shown.ends_with("\nwho?"));
    prompt.press("ada\r");
    prompt.wait_for("\n'ada'\n>>>");
    prompt.enter("import time; print('running', flush=True); time.sleep(600)");
    prompt.wait_for("\nrunning");
    prompt.press("\x04");
    prompt.wait_for("goes on in session 'default'");
    prompt.ended();
    assert!(!prompt.had_escapes());
}
