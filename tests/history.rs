//! What `log`, `tail`, `wait`, `clear` and `rm` say of real cells in a real kernel.

#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "in a test a panic is the report, and logs are shown with it"
)]

mod harness;

use std::path::Path;

use tithon_ipc::{
    files::{Meta, worker_lock},
    lock::Lock,
};

use self::harness::Home;

/// What a command that must succeed prints.
fn told(home: &Home, arguments: &[&str]) -> String {
    home.tithon(arguments).ok()
}

fn exit_code(home: &Home, arguments: &[&str]) -> i32 {
    home.tithon(arguments).code
}

#[test]
fn history_is_read_by_people_and_programs() {
    let home = Home::empty();
    told(&home, &["run", "-c", "for i in range(2):\n    print(i)"]);
    assert_eq!(exit_code(&home, &["run", "-c", "1/0"]), 1);

    let log = told(&home, &["log"]);
    assert!(log.starts_with("e1  done  "), "{log}");
    assert!(
        log.contains(
            "  by tithon run\n>>> for i in range(2):\n...     print(i)\n0\n1\n\ne2  error"
        ),
        "{log}"
    );
    assert!(
        log.contains("ZeroDivisionError") && !log.contains('\x1b'),
        "{log}"
    );

    let found = told(&home, &["log", "--grep", "zerodiv"]);
    assert!(found.starts_with("e2  error"), "{found}");
    assert_eq!(told(&home, &["log", "--grep", "nowhere to be found"]), "");
    assert!(told(&home, &["log", "--exec", "e1"]).contains("...     print(i)"));
    assert_eq!(told(&home, &["log", "--since", "2999-01-01"]), "");

    let json = told(&home, &["log", "--json", "-n", "1"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json[0]["exec_id"], "e2");
    assert_eq!(json[0]["submitted_by"], "tithon run");
    assert_eq!(json.as_array().map(Vec::len), Some(1));
}

#[test]
fn waiting_ends_as_the_cell_does() {
    let home = Home::empty();
    let gate = home.work().join("gate");
    let code = format!(
        "import os, time\nprint('before', flush=True)\nwhile not os.path.exists({gate:?}): time.sleep(0.01)\nprint('after')\n1/0"
    );
    let exec_id = told(&home, &["run", "--no-wait", "-c", &code]);
    assert_eq!(exit_code(&home, &["wait", "--timeout", "0.2"]), 3);
    let tail = std::thread::scope(|scope| {
        let tail = scope.spawn(|| home.tithon(&["tail", exec_id.trim()]));
        std::fs::write(&gate, "").unwrap();
        assert_eq!(exit_code(&home, &["wait"]), 1);
        tail.join().unwrap()
    });
    assert_eq!(tail.code, 1);
    assert_eq!(tail.stdout, "before\nafter\n");
    assert!(tail.stderr.contains("ZeroDivisionError"));
    assert_eq!(exit_code(&home, &["wait", "e9"]), 2);
}

/// A fold keeps both ends of a long output; what lies between is in the journal, and can be had.
#[test]
fn all_of_a_long_output_is_had_from_the_journal() {
    let home = Home::empty();
    let code = "for i in range(40): print(('%02d' % i) * 20_000)\n1/0";
    assert_eq!(exit_code(&home, &["run", "-c", "print('another')"]), 0);
    assert_eq!(exit_code(&home, &["run", "-c", code]), 1);
    told(&home, &["run", "-c", "print('one more')"]);
    let short = home.tithon(&["log", "--exec", "e2"]);
    assert!(short.stdout.contains("not shown here"));
    assert!(
        short.stderr.contains("hint: tithon log --exec e2 --full"),
        "{}",
        short.stderr
    );
    let full = told(&home, &["log", "--exec", "e2", "--full"]);
    let lines: Vec<&str> = full.lines().collect();
    assert!(lines[0].starts_with("e2  error"), "{}", lines[0]);
    for i in 0..40 {
        assert!(lines[i + 3] == format!("{i:02}").repeat(20_000), "line {i}");
    }
    assert!(full.ends_with("ZeroDivisionError: division by zero\n"));
    assert!(!full.contains("another") && !full.contains("one more"));
}

/// Asking for what is not there, or changing it, makes nothing of a name that was mistyped.
#[test]
fn a_mistyped_name_makes_no_session() {
    let home = Home::empty();
    told(&home, &["run", "--session", "train", "-c", "1"]);
    for command in [
        &["status"][..],
        &["restart"],
        &["interrupt"],
        &["kill"],
        &["checkpoints", "--keep", "3"],
        &["clear", "e1"],
        &["wait"],
        &["try", "-c", "1"],
        &["branch", "other"],
    ] {
        let typo = home.tithon(&[command, &["--session", "trian"]].concat());
        assert_eq!((typo.code, typo.stdout.as_str()), (2, ""), "{typo:?}");
        assert!(
            typo.stderr
                .contains("no session 'trian'\nhint: did you mean 'train'?"),
            "{typo:?}"
        );
    }
    assert_eq!(told(&home, &["ps", "--all", "--quiet"]), "train\n");
}

#[test]
fn a_cleared_cell_keeps_its_code() {
    let home = Home::empty();
    told(&home, &["run", "-c", "print('gone soon')"]);
    told(&home, &["clear", "e1"]);
    let log = told(&home, &["log"]);
    assert!(log.contains(">>> print('gone soon')\n"), "{log}");
    assert!(!log.contains("\ngone soon"), "{log}");
    let none = home.tithon(&["clear", "e7"]);
    assert_eq!(none.code, 1, "{none:?}");
    assert!(none.stderr.contains("no such execution e7"), "{none:?}");
}

#[test]
fn only_a_stopped_session_is_removed_and_its_history_needs_no_kernel() {
    let home = Home::empty();
    told(&home, &["run", "--session", "lab", "-c", "print(42)"]);
    let refused = home.tithon(&["rm", "--session", "lab", "--yes"]);
    assert_eq!(refused.code, 2);
    assert!(refused.stderr.contains("its kernel runs"), "{refused:?}");

    told(&home, &["kill", "--session", "lab"]);
    assert!(told(&home, &["log", "--session", "lab"]).contains(">>> print(42)\n42\n"));
    assert_eq!(
        told(&home, &["ps"]).lines().count(),
        1,
        "no kernel was started"
    );

    let unasked = home.tithon(&["rm", "--session", "lab"]);
    assert!(unasked.stderr.contains("--yes"), "{unasked:?}");
    told(&home, &["rm", "--session", "lab", "--yes"]);
    assert_eq!(entries(&home.paths().sessions()), 0);

    let typo = home.tithon(&["log", "--session", "lab"]);
    assert_eq!(typo.code, 2);
    assert!(
        typo.stderr.contains("there is no session 'lab'"),
        "{typo:?}"
    );
    assert_eq!(
        told(&home, &["run", "--session", "lab", "-c", "print(1)"]),
        "1\n"
    );
    assert!(
        told(&home, &["log", "--session", "lab"]).starts_with("e1  done"),
        "it begins anew"
    );
    let near = home.tithon(&["log", "--session", "lap"]);
    assert!(near.stderr.contains("did you mean 'lab'?"), "{near:?}");
}

/// Code, outputs and numbers go on under the new name; a session that runs keeps its own.
#[test]
fn a_stopped_session_is_renamed_with_its_history() {
    let home = Home::empty();
    told(&home, &["run", "--session", "lab", "-c", "print(42)"]);
    let refused = home.tithon(&["rename", "lab", "thesis"]);
    assert_eq!(refused.code, 2, "{refused:?}");
    assert!(refused.stderr.contains("its kernel runs"), "{refused:?}");
    told(&home, &["kill", "--session", "lab"]);
    told(&home, &["rename", "lab", "thesis"]);

    let log = told(&home, &["log", "--session", "thesis"]);
    assert!(log.contains(">>> print(42)\n42\n"), "{log}");
    let gone = home.tithon(&["log", "--session", "lab"]);
    assert!(gone.stderr.contains("no session 'lab'"), "{gone:?}");
    assert_eq!(
        told(&home, &["run", "--session", "thesis", "-c", "print(43)"]),
        "43\n"
    );
    let log = told(&home, &["log", "--session", "thesis"]);
    assert!(log.contains("\ne2  done"), "{log}");
    let journal = home.journal("thesis");
    for table in ["executions", "messages"] {
        let names = format!("SELECT count(*) FROM {table} WHERE session_id IS NOT 'thesis'");
        assert_eq!(journal.value::<i64>(&names), 0, "{table}");
    }

    told(&home, &["run", "--session", "lab", "-c", "print(1)"]);
    told(&home, &["kill", "--session", "lab"]);
    let taken = home.tithon(&["rename", "lab", "thesis"]);
    assert!(
        taken.stderr.contains("a session 'thesis' already"),
        "{taken:?}"
    );
}

/// A rename whose process was killed behind the move is completed when it is asked for again, but not
/// below a worker that serves the new name by now.
#[test]
fn a_half_done_rename_is_completed_unless_somebody_moved_in() {
    let home = Home::empty();
    told(&home, &["run", "--session", "lab", "-c", "print(42)"]);
    told(&home, &["kill", "--session", "lab"]);
    std::fs::rename(home.session("lab"), home.session("thesis")).unwrap();
    let lock = worker_lock(&home.session("thesis"));
    let lock = Lock::try_acquire(&lock).unwrap().unwrap();
    let refused = home.tithon(&["rename", "lab", "thesis"]);
    assert!(refused.stderr.contains("its worker runs"), "{refused:?}");
    let name = || Meta::read(&home.session("thesis")).unwrap().session_id;
    assert_eq!(name(), "lab");
    drop(lock);
    told(&home, &["rename", "lab", "thesis"]);
    assert_eq!(name(), "thesis");
    assert!(told(&home, &["log", "--session", "thesis"]).contains("42\n"));
}

fn entries(dir: &Path) -> usize {
    std::fs::read_dir(dir).unwrap().count()
}
