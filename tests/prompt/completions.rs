//! Completions in real shells, by the Tab key.

use std::process::Command;

use super::command;
use crate::harness::{Home, Terminal, skip, until};

/// A shell in a terminal that knows the program as `tithon`, and two sessions; `None` where there is no
/// such shell.
fn shell(test: &str, home: &Home, name: &str, flags: &[&str]) -> Option<Terminal> {
    if Command::new(name).arg("--version").output().is_err() {
        return skip(test, &format!("there is no {name}"));
    }
    for session in ["lab", "notes"] {
        home.tithon(&["run", "--session", session, "-c", "pass"])
            .ok();
    }
    let program = command(home, &[]);
    let bin = home.work().join("bin");
    std::fs::create_dir(&bin).unwrap();
    std::os::unix::fs::symlink(program.get_program(), bin.join("tithon")).unwrap();
    let mut shell = Command::new(name);
    shell.args(flags).current_dir(home.work());
    for (name, value) in program.get_envs() {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    let path = std::env::var("PATH").unwrap();
    shell.env("PATH", format!("{}:{path}", bin.display()));
    Some(Terminal::run(shell))
}

/// Presses Tab until the line is as wished: a shell that still starts does not complete yet.
fn completes(terminal: &mut Terminal, line: &str, completed: &str) {
    terminal.press(line);
    terminal.wait_for(line);
    terminal.press("\t");
    terminal.wait_for(completed);
    // Ctrl-U: the next line begins anew.
    terminal.press("\x15");
    until("an empty line", || {
        (!terminal.shown().contains(completed)).then_some(())
    });
}

#[test]
fn zsh_completes_commands_and_living_sessions() {
    let home = Home::empty();
    let test = "zsh_completes_commands_and_living_sessions";
    let Some(mut zsh) = shell(test, &home, "zsh", &["-f", "-i"]) else {
        return;
    };
    zsh.press("PS1='zsh> '; fpath=($PWD/zfunc $fpath); mkdir zfunc\r");
    zsh.press("tithon completions zsh > zfunc/_tithon\r");
    zsh.press("autoload -Uz compinit && compinit -u -D && clear && echo READY\r");
    zsh.wait("readiness", |shown| shown.starts_with("READY"));
    completes(&mut zsh, "tithon checkp", "tithon checkpoints");
    completes(&mut zsh, "tithon log --session no", "--session notes");
    completes(&mut zsh, "tithon run --session la", "--session lab");
}

#[test]
fn fish_completes_commands_and_living_sessions() {
    let home = Home::empty();
    let test = "fish_completes_commands_and_living_sessions";
    let Some(mut fish) = shell(test, &home, "fish", &["--no-config", "-i"]) else {
        return;
    };
    fish.press("tithon completions fish | source; clear; echo READY\r");
    fish.wait("readiness", |shown| shown.starts_with("READY"));
    completes(&mut fish, "tithon checkp", "tithon checkpoints");
    completes(&mut fish, "tithon log --session no", "--session notes");
    completes(&mut fish, "tithon run --session la", "--session lab");
}
