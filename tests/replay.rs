//! Recorded cells run again: which ones, what is said of each, and where a replay stops.

#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "in a test a panic is the report, and what is done once is said"
)]

mod harness;

use harness::{Home, Output, Running};
use rustix::process::Signal;
use serde_json::Value;

fn run(home: &Home, code: &str) -> String {
    home.tithon(&["run", "-c", code]).ok()
}

/// A replay without a question, and what it said of each cell.
fn replay(home: &Home, arguments: &[&str]) -> (Output, Vec<Value>) {
    let told = home.tithon(&[&["replay", "--yes", "--json"], arguments].concat());
    let cells = told.stdout.lines();
    let cells = cells.map(|line| serde_json::from_str(line).unwrap());
    (
        Output {
            code: told.code,
            stdout: String::new(),
            stderr: told.stderr.clone(),
        },
        cells.collect(),
    )
}

/// `e1 ok`, `e2 differs`, …
fn results(cells: &[Value]) -> Vec<String> {
    let told = cells.iter().map(|cell| {
        format!(
            "{} {}",
            cell["exec_id"].as_str().unwrap(),
            cell["result"].as_str().unwrap()
        )
    });
    told.collect()
}

/// Ends everything of a session at once, as the end of the machine does.
fn lose(home: &mut Home) {
    let (worker, kernel) = (
        home.worker("default").unwrap(),
        home.kernel("default").unwrap(),
    );
    home.kill_supervisor();
    home.kill(worker);
    home.kill(kernel);
    home.start();
}

#[test]
fn a_lost_state_is_made_again() {
    let mut home = Home::new();
    run(&home, "x = 1; print(object())");
    run(
        &home,
        "from pathlib import Path; print(Path('n').read_text() if Path('n').exists() else 0)",
    );
    run(&home, "x += 1; print(x)");
    home.tithon(&["run", "-c", "1/0"]);
    lose(&mut home);

    // Nothing is run by itself, and whoever comes is told.
    let late = home.tithon(&["run", "-c", "print(x)"]);
    assert_eq!(late.code, 1, "{late:?}");
    assert!(
        late.stderr
            .contains("hint: tithon replay runs the recorded cells"),
        "{late:?}"
    );
    let dry = home.tithon(&["replay", "--dry-run"]);
    assert!(dry.stderr.contains("3 cells to run, e1 to e3"), "{dry:?}");
    assert!(
        dry.stderr.contains("left out: e4 (failed), e5 (failed)"),
        "{dry:?}"
    );
    let unasked = home.tithon(&["replay"]);
    assert_eq!(unasked.code, 2);
    assert!(unasked.stderr.contains("hint: --yes"), "{unasked:?}");
    assert_eq!(run(&home, "'x' in globals()"), "False\n");

    std::fs::write(home.work().join("n"), "7").unwrap();
    let mut client = home.attached("default", -1);
    let (told, cells) = replay(&home, &["--to", "e3"]);
    assert_eq!(
        results(&cells),
        ["e1 ok", "e2 differs", "e3 ok"],
        "{told:?}"
    );
    let difference = cells[1]["difference"].as_str().unwrap();
    assert!(difference.contains("-0\n+7\n"), "{difference}");
    assert_eq!(told.code, 5, "{told:?}");
    assert!(told.stderr.contains("3 of 3 cells ran"), "{told:?}");
    // Others see each cell, and the state is there and no longer missed.
    let again = cells[2]["replayed_as"].as_str().unwrap();
    assert_eq!(client.until_done(again).stdout(again), "2\n");
    assert_eq!(run(&home, "x"), "2\n");
    let status = home.tithon(&["status", "--session", "default"]).ok();
    assert!(status.contains(r#""kernel_lost_state": false"#), "{status}");

    // What was repeated is not repeated twice, and what ran since is a part of the state.
    run(&home, "x += 40; x");
    lose(&mut home);
    let (told, cells) = replay(&home, &[]);
    let results = results(&cells);
    assert_eq!(
        results.first().map(String::as_str),
        Some("e1 ok"),
        "{told:?}"
    );
    // Beside those two cells that looked at it, and the one that went on.
    assert_eq!(results.len(), 6, "{results:?}");
    assert_eq!(run(&home, "x"), "42\n");
}

#[test]
fn a_replay_stops_where_it_fails_and_goes_on_from_there() {
    let mut home = Home::new();
    let file = home.work().join("data");
    std::fs::write(&file, "1").unwrap();
    for code in ["a = 1", "b = a + int(open('data').read())", "print(b)"] {
        run(&home, code);
    }
    home.tithon(&["run", "-c", "raise ValueError('always')"]);
    std::fs::remove_file(&file).unwrap();
    let (told, cells) = replay(&home, &[]);
    assert_eq!(told.code, 1, "{told:?}");
    assert_eq!(results(&cells), ["e1 ok", "e2 failed"], "{told:?}");
    let on = "tithon replay --from e2 --to e3 --keep-kernel goes on";
    assert!(told.stderr.contains(on), "{told:?}");

    std::fs::write(&file, "1").unwrap();
    let goes_on = ["--from", "e2", "--to", "e3", "--keep-kernel"];
    let (told, cells) = replay(&home, &goes_on);
    assert_eq!(told.code, 0, "{told:?}");
    assert_eq!(results(&cells), ["e2 ok", "e3 ok"]);
    assert_eq!(run(&home, "a, b"), "(1, 2)\n");

    // A new session is made so, and this one left alone; what fails as it did is no news, and what was
    // cleared cannot be compared.
    let kernel = home.kernel("default");
    home.tithon(&["clear", "e3"]).ok();
    home.set("PATH", "/there/is/none");
    let (told, cells) = replay(&home, &["--to", "e4", "--with-failed", "--into", "copy"]);
    assert_eq!(told.code, 0, "{told:?}");
    assert_eq!(results(&cells), ["e1 ok", "e2 ok", "e3 cleared", "e4 ok"]);
    assert!(told.stderr.contains("3 ok, 1 cleared"), "{told:?}");
    // Its Python is the recorded one, whatever there would be here.
    let python = |session: &str| {
        let launched = std::fs::read_to_string(home.session(session).join("launch.json")).unwrap();
        let launched: Value = serde_json::from_str(&launched).unwrap();
        launched["launch"]["interpreter"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    assert_eq!(python("copy"), python("default"));
    let copied = ["run", "--session", "copy", "-c", "b"];
    assert_eq!(home.tithon(&copied).ok(), "2\n");
    assert_eq!(home.kernel("default"), kernel);
    assert_eq!(replay(&home, &["--into", "copy"]).0.code, 2);

    std::fs::remove_file(&file).unwrap();
    let (told, cells) = replay(&home, &["--to", "e3", "--keep-going"]);
    assert_eq!(told.code, 1, "{told:?}");
    assert_eq!(results(&cells), ["e1 ok", "e2 failed", "e3 failed"]);
}

#[test]
fn prompts_are_asked_and_ctrl_c_stops_the_whole() {
    let home = Home::new();
    home.tithon_reading(&["run", "--stdin", "-c", "n = input('who? ')"], b"Ada\n")
        .ok();
    run(&home, "import os; slow = os.path.exists('slow')");
    run(
        &home,
        "import time\nif slow: print('begun', flush=True); time.sleep(1000)",
    );
    run(&home, "print(n)");
    let replay = ["replay", "--yes", "--stdin", "--verbose"];
    let told = home.tithon_reading(&replay, b"Bob\n");
    assert!(told.stdout.contains("-Ada\n    +Bob\n"), "{told:?}");
    assert_eq!(told.code, 5, "{told:?}");

    std::fs::write(home.work().join("slow"), "").unwrap();
    let mut stopped = Running::start(home.command(&replay), b"Eve\n");
    while !stopped.line().starts_with("begun") {}
    assert!(home.signal(stopped.pid(), Signal::INT));
    let told = stopped.finish();
    assert_eq!(told.code, 130, "{told:?}");
    assert!(told.stderr.contains("stopped in e3"), "{told:?}");
    assert_eq!(run(&home, "n"), "'Eve'\n");

    // A cell that runs is nobody's to give up but by an interrupt.
    let busy = home.tithon(&["run", "--no-wait", "-c", "time.sleep(1000)"]);
    let busy = busy.ok();
    let refused = home.tithon(&["replay", "--yes"]);
    assert_eq!(refused.code, 2);
    assert!(refused.stderr.contains(busy.trim()), "{refused:?}");
}

#[test]
fn a_kernel_that_dies_ends_a_replay() {
    let home = Home::new();
    run(&home, "x = 1");
    run(&home, "import os\nif os.path.exists('die'): os._exit(3)");
    run(&home, "x");
    std::fs::write(home.work().join("die"), "").unwrap();
    let (told, cells) = replay(&home, &["--keep-going"]);
    assert_eq!(told.code, 4, "{told:?}");
    assert_eq!(results(&cells), ["e1 ok", "e2 died"]);
    assert!(
        told.stderr.contains("the kernel was lost in e2"),
        "{told:?}"
    );
    assert_eq!(home.tithon(&["replay", "--from", "e99"]).code, 2);
    let none = home.tithon(&["replay", "--from", "e3", "--to", "e1"]);
    assert_eq!(none.code, 2);
    assert!(none.stderr.contains("nothing to replay"), "{none:?}");
    assert_eq!(home.tithon(&["replay", "--session", "nobody"]).code, 2);
}
