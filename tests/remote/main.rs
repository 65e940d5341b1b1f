//! `--host`: sessions on another machine, over a real ssh to a real sshd.

#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "in a test a panic is the report, and logs are shown with it"
)]

#[path = "../harness/mod.rs"]
mod harness;
mod sshd;

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use self::{
    harness::{Home, Output, until},
    sshd::Sshd,
};

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
    let code = format!(
        "import os, time\nfor i in range(2000):\n    print(i, flush=True)\n    \
         while i >= 1000 and not os.path.exists({gate:?}): time.sleep(.01)"
    );
    let mut run = near.spawn(&["--host", "gpu01", "run", "-c", &code]);
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
    let wanted: String = (0..2000).map(|i| format!("{i}\n")).collect();
    assert_eq!(all, wanted);
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
