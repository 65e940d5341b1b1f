//! The prompt in a real terminal, with a real kernel: what is typed, and what the screen shows.
//!
//! The first `python3` on the PATH needs ipykernel, or the means to be lent one.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    io::{Read, Write},
    os::fd::{AsFd, OwnedFd},
    process::Command,
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use ptyprocess::PtyProcess;

/// Longer than a kernel takes to start on a machine with other things to do.
const WITHIN: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(10);
const ROWS: u16 = 40;
const COLUMNS: u16 = 80;

/// A home of its own, whose processes end with the test.
struct Home(tempfile::TempDir);

impl Home {
    fn new() -> Self {
        // Short: socket paths have 107 bytes.
        Self(
            tempfile::Builder::new()
                .prefix("th")
                .tempdir_in("/tmp")
                .unwrap(),
        )
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tithon"));
        command
            .args(args)
            .env("TITHON_HOME", self.0.path().join("h"))
            .env("TERM", "xterm-256color")
            .env("USER", "ada")
            .env_remove("NO_COLOR")
            .current_dir(self.0.path());
        command
    }

    fn told(&self, args: &[&str]) -> String {
        let output = self.command(args).output().unwrap();
        assert!(output.status.success(), "{args:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Waits until that execution runs.
    fn wait_until_running(&self, exec_id: &str) {
        let until = Instant::now() + WITHIN;
        let log = || self.command(&["log", "--exec", exec_id]).output().unwrap();
        while !String::from_utf8_lossy(&log().stdout).contains("running") {
            assert!(Instant::now() < until, "{exec_id} does not run");
            thread::sleep(POLL);
        }
    }

    fn prompt(&self, args: &[&str]) -> Terminal {
        Terminal::run(self.command(args))
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        drop(self.command(&["shutdown", "--kill-kernels"]).output());
    }
}

/// A program in a terminal; it ends with the test.
struct Terminal {
    process: PtyProcess,
    keys: std::fs::File,
    screen: Arc<Mutex<vt100::Parser>>,
}

impl Terminal {
    fn run(command: Command) -> Self {
        let mut process = PtyProcess::spawn(command).unwrap();
        process.set_window_size(COLUMNS, ROWS).unwrap();
        process.set_terminate_delay(Duration::from_millis(100));
        let own = |fd: &dyn AsFd| -> OwnedFd { fd.as_fd().try_clone_to_owned().unwrap() };
        let handle = process.get_raw_handle().unwrap();
        let keys = std::fs::File::from(own(&handle));
        let mut output = std::fs::File::from(own(&handle));
        let screen = Arc::new(Mutex::new(vt100::Parser::new(ROWS, COLUMNS, 1000)));
        let shown = Arc::clone(&screen);
        thread::spawn(move || {
            let mut bytes = vec![0; 64 << 10];
            while let Ok(length @ 1..) = output.read(&mut bytes) {
                shown.lock().unwrap().process(&bytes[..length]);
            }
        });
        Self {
            process,
            keys,
            screen,
        }
    }

    /// Makes the window so many columns wide.
    fn resize(&mut self, columns: u16) {
        let mut screen = self.screen.lock().unwrap();
        screen.screen_mut().set_size(ROWS, columns);
        self.process.set_window_size(columns, ROWS).unwrap();
    }

    fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
    }

    /// Every line of the screen that shows something.
    fn shown(&self) -> String {
        let screen = self.screen.lock().unwrap();
        let lines: Vec<_> = screen
            .screen()
            .rows(0, COLUMNS)
            .map(|row| row.trim_end().to_owned())
            .collect();
        lines.join("\n").trim_end().to_owned()
    }

    /// Waits until the screen is as wished.
    fn wait(&self, what: &str, is_so: impl Fn(&str) -> bool) -> String {
        let until = Instant::now() + WITHIN;
        loop {
            let shown = self.shown();
            if is_so(&shown) {
                return shown;
            }
            assert!(Instant::now() < until, "no {what}:\n{shown}");
            thread::sleep(POLL);
        }
    }

    fn wait_for(&self, text: &str) -> String {
        self.wait(text, |shown| shown.contains(text))
    }

    /// Waits for an empty prompt on the last line.
    fn ready(&self) -> String {
        self.wait("prompt", |shown| shown.ends_with("\n>>>"))
    }

    fn enter(&mut self, line: &str) {
        self.press(line);
        self.wait(line, |shown| shown.ends_with(line.trim_end()));
        self.press("\r");
    }

    /// Waits for the program's own end.
    fn ended(&self) {
        let until = Instant::now() + WITHIN;
        while self.process.is_alive().unwrap() {
            assert!(Instant::now() < until, "still there:\n{}", self.shown());
            thread::sleep(POLL);
        }
    }
}

/// The screen from the first line that begins so.
fn from<'a>(shown: &'a str, beginning: &str) -> &'a str {
    let at = shown.find(&format!("\n{beginning}")).map(|at| at + 1);
    &shown[at.unwrap_or_else(|| panic!("no {beginning}:\n{shown}"))..]
}

#[test]
fn lines_are_edited_run_and_remembered_elsewhere() {
    let home = Home::new();
    home.told(&["run", "-c", "x = 41"]);
    let mut prompt = home.prompt(&[]);
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
    // The next line knows what ran meanwhile, whoever ran it.
    home.told(&["run", "-c", "print('from elsewhere')"]);
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
    assert_eq!(home.told(&["run", "-c", "print(x)"]), "41\n");
}

#[test]
fn ctrl_c_interrupts_the_cell_and_errors_keep_the_prompt() {
    let home = Home::new();
    let mut prompt = home.prompt(&["repl", "--session", "lab"]);
    prompt.ready();
    prompt.enter("import time; print('on', flush=True); time.sleep(600)");
    prompt.wait_for("\non");
    prompt.press("\x03");
    prompt.wait_for("KeyboardInterrupt");
    prompt.ready();
    prompt.enter("1/0");
    prompt.wait_for("ZeroDivisionError: division by zero\n>>>");
}

#[test]
fn a_cell_asks_in_place_and_a_password_is_not_shown() {
    let home = Home::new();
    let mut prompt = home.prompt(&[]);
    prompt.ready();
    prompt.enter("name = input('Who? ')");
    prompt.wait("question", |shown| shown.ends_with("\nWho?"));
    prompt.press("ada\r");
    prompt.ready();
    prompt.enter("import getpass; word = getpass.getpass('Word: ')");
    prompt.wait("question", |shown| shown.ends_with("\nWord:"));
    prompt.press("hush\r");
    prompt.ready();
    prompt.enter("name, word[::-1]");
    let shown = prompt.wait_for("('ada', 'hsuh')");
    assert!(!shown.contains("hush"), "{shown}");
}

#[test]
fn who_comes_back_sees_the_cell_that_still_runs() {
    let home = Home::new();
    let mut prompt = home.prompt(&[]);
    prompt.ready();
    let gate = home.0.path().join("gate");
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

    let again = home.prompt(&[]);
    let shown = again.wait("progress", |shown| shown.ends_with("\n70%"));
    assert!(shown.contains("running"), "{shown}");
    assert!(shown.contains("by ada (tithon repl)"), "{shown}");
    std::fs::write(gate, "").unwrap();
    let shown = again.ready();
    assert!(shown.ends_with("\n99%\n>>>"), "{shown}");
}

#[test]
fn two_people_see_each_other() {
    let home = Home::new();
    let mut one = home.prompt(&[]);
    one.ready();
    let mut other = home.prompt(&[]);
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
}

#[test]
fn the_prompt_survives_the_supervisor() {
    let home = Home::new();
    let mut prompt = home.prompt(&[]);
    prompt.ready();
    prompt.enter("x = 1");
    prompt.ready();
    home.told(&["shutdown"]);
    prompt.enter("x + 1");
    prompt.wait_for("\n2\n>>>");
}

#[test]
fn a_killed_kernel_is_replaced_for_the_next_cell() {
    let home = Home::new();
    let mut prompt = home.prompt(&[]);
    prompt.ready();
    prompt.enter("x = 1");
    prompt.ready();
    home.told(&["kill", "--session", "default"]);
    prompt.wait_for("the kernel was ended; the next cell gets a fresh one");
    prompt.enter("'x' in globals()");
    prompt.wait_for("\nFalse\n>>>");
}

#[test]
fn floods_garbage_and_a_narrow_window_leave_the_prompt_in_order() {
    let home = Home::new();
    let mut prompt = home.prompt(&[]);
    prompt.ready();
    prompt.enter("print(('x' * 99 + '\\n') * 100_000 + 'end')");
    prompt.wait_for("\nend\n>>>");
    prompt.enter("import os; _ = os.write(1, bytes(range(128, 256)) + b'\\nover\\n')");
    prompt.wait_for("\nover\n>>>");
    prompt.resize(20);
    prompt.press("'a' * 30");
    prompt.wait_for(">>> 'a' * 30");
    prompt.press("\r");
    let wrapped = format!("\n'{}\n{}'\n>>>", "a".repeat(19), "a".repeat(11));
    prompt.wait_for(&wrapped);
}

#[test]
fn what_is_pasted_or_typed_ahead_is_not_lost() {
    let home = Home::new();
    let mut prompt = home.prompt(&[]);
    prompt.ready();
    prompt.press("\x1b[200~a = 1\nif a:\n    b = 2\n\x1b[201~");
    prompt.wait_for("b = 2");
    prompt.press("\r");
    prompt.ready();
    prompt.enter("print(a + b)");
    prompt.wait_for("\n3\n>>>");
    let gate = home.0.path().join("typed");
    prompt.enter("import os, time");
    prompt.ready();
    prompt.enter("while not os.path.exists('typed'): time.sleep(.01)");
    prompt.press("\r");
    home.wait_until_running("e4");
    prompt.press("b + 40");
    std::fs::write(gate, "").unwrap();
    prompt.wait("typed ahead", |shown| shown.ends_with(">>> b + 40"));
    prompt.press("\r");
    prompt.wait_for("\n42\n>>>");
}
