//! `tithon logs`: supervisor, workers and kernels together, across rotations and deaths, and without
//! a word of what is the user's.

#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "in a test a panic is the report, and the harness shows logs"
)]

mod harness;
mod rig;

use std::fs;

use harness::{Home, until};
use rig::Rig;
use serde_json::Value;
use tithon_ipc::logs;

fn entries(home: &Home, arguments: &[&str]) -> Vec<Value> {
    let mut whole = vec!["logs", "--json"];
    whole.extend(arguments);
    let said = home.tithon(&whole).ok();
    said.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn says(entry: &Value, source: &str, message: &str) -> bool {
    entry["source"] == source && entry["message"].as_str().unwrap().contains(message)
}

/// Where in the list an entry is.
fn position(entries: &[Value], source: &str, message: &str) -> usize {
    let found = entries.iter().position(|it| says(it, source, message));
    found.unwrap_or_else(|| panic!("no {source}: {message} in {entries:#?}"))
}

#[test]
fn a_life_is_told_in_the_order_of_time() {
    let home = Home::new();
    let mut client = home.attached("my lab", 0);
    client.run("my lab", "1");
    // What the kernel's process says to its own stderr, as a kernel does that is no Python.
    let say = "import os\nlog = os.environ['TITHON_SESSION'] + '/kernel.log'\n\
               print('words of the kernel', file=open(log, 'a'))";
    client.run("my lab", say);
    client.run("my lab", "2");
    home.kill(home.kernel("my lab").unwrap());
    client.until_kind("kernel");
    home.attached("other", 0).run("other", "3");
    let entries = until("the worker's view of it", || {
        let entries = entries(&home, &[]);
        let told = |source, message: &str| entries.iter().any(|it| says(it, source, message));
        (told("worker", "the kernel died") && told("kernel", "words of the kernel"))
            .then_some(entries)
    });
    let order = [
        position(&entries, "supervisor", "ready"),
        position(&entries, "supervisor", "a worker serves"),
        position(&entries, "kernel", "words of the kernel"),
        position(&entries, "worker", "the kernel died"),
    ];
    assert!(order.is_sorted(), "{order:?} {entries:#?}");
    let died = &entries[order[3]];
    assert_eq!(
        (&died["session"], &died["level"]),
        (&"my lab".into(), &"WARNING".into())
    );
    assert!(!died["fields"]["pid"].as_str().unwrap().is_empty());
    // What dates the kernel's words is no news of its own.
    assert!(
        !entries
            .iter()
            .any(|it| says(it, "worker", logs::KERNEL_WROTE))
    );

    let alone = self::entries(&home, &["--session", "my lab"]);
    assert!(
        alone.iter().all(|it| it["session"] == "my lab"),
        "{alone:#?}"
    );
    position(&alone, "supervisor", "a worker serves");
    assert_eq!(self::entries(&home, &["-n", "2"]).len(), 2);
    assert_eq!(
        self::entries(&home, &["--since", "2020-01-01"]).len(),
        self::entries(&home, &[]).len()
    );
    let told = home.tithon(&["logs", "--session", "my labs"]);
    assert_eq!(told.code, 2);
    assert!(
        told.stderr.contains("did you mean 'my lab'?"),
        "{}",
        told.stderr
    );
}

#[test]
fn followers_miss_no_line_of_logs_that_begin_anew() {
    let mut home = Home::empty();
    home.set("TITHON_LOG_SIZE", "1024");
    home.start();
    let mut client = home.attached("s", 0);
    let word = |n: usize| {
        format!(
            "import os\nlog = os.environ['TITHON_SESSION'] + '/kernel.log'\n\
             print('word', {n}, file=open(log, 'a'))"
        )
    };
    client.run("s", &word(0));
    let mut follower = home.spawn(&["logs", "-f", "--session", "s", "--since", "2020-01-01"]);
    // The worker says of each when it was written; its log begins anew after every few.
    let older = logs::older(&logs::worker(&home.session("s")), 2);
    let mut words = 1;
    while !older.exists() {
        client.run("s", &word(words));
        words += 1;
    }
    let mut lines = Vec::new();
    while lines
        .iter()
        .filter(|line: &&String| line.contains("word "))
        .count()
        < words
    {
        let line = follower.line();
        assert!(!line.is_empty(), "{lines:?}");
        lines.push(line);
    }
    let told: Vec<_> = lines
        .iter()
        .filter_map(|line| {
            line.split_once("kernel s: word ")?
                .1
                .trim()
                .parse::<usize>()
                .ok()
        })
        .collect();
    assert_eq!(told, (0..words).collect::<Vec<usize>>());
    let starts = |line: &&String| line.contains("started a kernel");
    assert_eq!(lines.iter().filter(starts).count(), 1, "{lines:#?}");
    for log in [home.paths().log(), logs::worker(&home.session("s"))] {
        for n in 0..=logs::OLDER {
            if let Ok(found) = fs::metadata(logs::older(&log, n)) {
                assert!(found.len() < 2048, "{log:?} {n}: {}", found.len());
            }
        }
        assert!(!logs::older(&log, logs::OLDER + 1).exists());
    }
}

/// Every log was kept open, so that a home with a few hundred sessions had none to show.
#[test]
fn a_home_has_more_sessions_than_a_process_may_have_files() {
    let home = Home::empty();
    home.paths().prepare().unwrap();
    for n in 0..600 {
        let dir = home.paths().sessions().join(format!("s{n}"));
        fs::create_dir(&dir).unwrap();
        let meta = format!(r#"{{"session_id": "s{n}", "workdir": "/"}}"#);
        fs::write(dir.join("meta.json"), meta).unwrap();
        let line = "2026-11-25 16:30:01,042 tithon.worker.run INFO a life\n";
        fs::write(logs::worker(&dir), line).unwrap();
        fs::write(logs::kernel(&dir), "a word\n").unwrap();
    }
    let limited = "ulimit -n 128; exec \"$0\" logs --json";
    let mut command = std::process::Command::new("sh");
    command
        .args(["-c", limited, env!("CARGO_BIN_EXE_tithon")])
        .env("TITHON_HOME", home.root());
    let said = harness::Running::start(command, b"").finish().ok();
    assert_eq!(said.lines().count(), 1200);
}

#[test]
fn nothing_of_the_users_is_in_a_log() {
    let mut home = Home::empty();
    home.set("TITHON_LOG_LEVEL", "TRACE");
    home.set("SECRET_OF_THE_ENVIRONMENT", "envsecret");
    home.start();
    let told = home.tithon(&["run", "-c", "print('out' + 'secret') # codesecret"]);
    assert_eq!(told.ok(), "outsecret\n");
    let told = home.tithon(&["run", "-c", "raise ValueError('errsecret' + str(6 * 7))"]);
    assert_eq!(told.code, 1);
    let mut client = home.attached("default", 0);
    client.send_text(r#"{"op": "execute", "session": "default", "code": ["wrongsecret"]}"#);
    client.dismissed();
    let key = fs::read_to_string(home.session("default").join("kernel.json")).unwrap();
    let key: Value = serde_json::from_str(&key).unwrap();
    home.kill(home.kernel("default").unwrap());
    until("the death in the log", || {
        let log = fs::read_to_string(logs::worker(&home.session("default"))).ok()?;
        log.contains("the kernel died").then_some(())
    });
    for log in [
        home.paths().log(),
        logs::worker(&home.session("default")),
        logs::kernel(&home.session("default")),
    ] {
        let words = fs::read_to_string(&log).unwrap();
        for secret in ["secret", key["key"].as_str().unwrap()] {
            let line = words.lines().find(|line| line.contains(secret));
            assert_eq!(line, None, "{log:?}");
        }
    }
}

#[test]
fn the_journal_has_supervisor_and_workers_with_their_session() {
    let Some(rig) = Rig::boot("the_journal") else {
        return;
    };
    rig.user(
        "tithon install >/dev/null
         tithon run --session 'my lab' -c 'x = 1'
         until_true 'journalctl --user -u tithon -o cat | grep -q \"started a kernel\"'
         journalctl --user -u tithon -o short >said.txt
         grep -q 'tithon\\[[0-9]*\\]: a worker serves session=\"my lab\" pid=' said.txt
         grep -q 'tithon-worker\\[[0-9]*\\]: started a kernel .*session=\"my lab\"' said.txt
         # Once each, though standard error leads to the journal as well.
         [ $(grep -c 'a worker serves' said.txt) = 1 ]
         [ $(journalctl --user TITHON_SESSION='my lab' -o cat | wc -l) -ge 2 ]
         # The unit that the worker is has its words as well, and nobody else's.
         unit=$(systemctl --user list-units --plain --no-legend 'tithon-k-*' | cut -d' ' -f1)
         journalctl --user -u \"$unit\" -o cat >unit.txt
         grep -q 'started a kernel' unit.txt
         ! grep -q 'a worker serves' unit.txt
         journalctl --user TITHON_SESSION='my lab' -o json | grep -q TITHON_LOGGER
         tithon logs --session 'my lab' | grep -q 'worker my lab: INFO started a kernel'",
    );
}
