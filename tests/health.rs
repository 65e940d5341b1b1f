//! Many sessions and a long life: all of them are found again, and those that are over leave nothing
//! behind, in memory, in descriptors or on disk, but their history.
//!
//! `TITHON_HEALTH_LIVING` and `TITHON_HEALTH_ROUNDS` say how many; a year's worth is run by hand.

#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "in a test a panic is the report, and figures are said"
)]

mod harness;

use std::{
    fs,
    io::Write,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
};

use harness::{Client, Home, PYTHON, mapped_memory, private_memory, skip, until};
use serde_json::{Value, json};

fn count(name: &str, default: usize) -> usize {
    let text = std::env::var(name).ok();
    text.map_or(default, |text| text.parse().unwrap())
}

/// A home in which there is a kernel that takes a tenth of the usual time and memory.
fn home() -> (Home, Value) {
    let mut home = Home::empty();
    let data = home.work().join("jupyter");
    let spec = data.join("kernels/tiny");
    fs::create_dir_all(&spec).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/harness/tiny_kernel.py");
    let description = json!({
        "argv": [PYTHON.interpreter(), "-S", "-E", "-c", RUN, site(), script, "{connection_file}"],
        "display_name": "Tiny", "language": "echo",
    });
    fs::write(spec.join("kernel.json"), description.to_string()).unwrap();
    home.set("JUPYTER_PATH", data.to_str().unwrap());
    home.start();
    let launch = json!({"kernel": "tiny", "env": {"JUPYTER_PATH": data}});
    (home, launch)
}

/// Runs a script with a `site-packages` and without what else an interpreter looks for at its start.
const RUN: &str = "import runpy, sys; sys.path.append(sys.argv.pop(1)); del sys.argv[0]; \
                   runpy.run_path(sys.argv[0], run_name='__main__')";

fn site() -> PathBuf {
    let lib = PYTHON.root().join("lib");
    let versions = fs::read_dir(lib).unwrap();
    let mut site = versions.map(|entry| entry.unwrap().path().join("site-packages"));
    site.find(|site| site.join("zmq").is_dir()).unwrap()
}

/// A client that has asked a session's kernel to say something.
fn ask(home: &Home, launch: &Value, session: &str, words: &str) -> (Client, String) {
    let mut client = home.observing(session);
    let exec = client
        .submit(&json!({"op": "execute", "session": session, "code": words, "launch": launch}));
    (client, exec)
}

/// The living sessions, by name, with the pids of worker and kernel.
fn living(home: &Home) -> Vec<(String, Value, Value)> {
    let reply = home.client().ask(&json!({"op": "status"}), "status_reply");
    let sessions = reply["sessions"].as_array().unwrap();
    let mut living: Vec<_> = sessions
        .iter()
        .map(|it| {
            let name = it["session"].as_str().unwrap().to_owned();
            (name, it["worker_pid"].clone(), it["kernel_pid"].clone())
        })
        .collect();
    living.sort_by(|one, other| one.0.cmp(&other.0));
    living
}

#[test]
fn many_sessions_are_found_again_by_the_next_supervisor() {
    let wanted = count("TITHON_HEALTH_LIVING", 24);
    let (mut home, launch) = home();
    let names: Vec<String> = (0..wanted).map(|n| format!("s{n:03}")).collect();
    for group in names.chunks(8) {
        // A few at once: they share the time that their kernels take.
        let asked: Vec<_> = group
            .iter()
            .map(|name| ask(&home, &launch, name, "before"))
            .collect();
        for (mut client, exec) in asked {
            assert_eq!(client.until_done(&exec).stdout(&exec), "before\n");
        }
    }
    let before = living(&home);
    assert_eq!(before.len(), wanted);
    // These read all the time, as clients do: one that answers no ping is let go.
    let connected: Vec<_> = names
        .iter()
        .step_by(5)
        .map(|name| {
            let mut client = home.observing(name);
            std::thread::spawn(move || client.until_kind("done"))
        })
        .collect();
    home.kill_supervisor();
    home.start();
    let after = until("all sessions", || {
        let after = living(&home);
        (after.len() == wanted).then_some(after)
    });
    assert_eq!(after, before, "the same workers and kernels");
    // Whoever comes anew gets there, and whoever was connected still is.
    for (name, connected) in names.iter().step_by(5).zip(connected) {
        let (mut client, exec) = ask(&home, &launch, name, "after");
        assert_eq!(client.until_done(&exec).stdout(&exec), "after\n");
        assert_eq!(connected.join().unwrap().stdout(&exec), "after\n");
    }
    let supervisor = private_memory(home.supervisor().unwrap());
    let workers: u64 = names
        .iter()
        .map(|name| private_memory(home.worker(name).unwrap()))
        .sum();
    eprintln!(
        "{wanted} sessions: supervisor {} kB, workers {} kB each",
        supervisor >> 10,
        (workers >> 10) / wanted as u64
    );
}

/// What a process holds that it could fail to give back.
#[derive(Debug)]
struct Holdings {
    descriptors: usize,
    threads: usize,
    memory: u64,
    children: usize,
}

/// What the supervisor is at work on, timers of its own included.
fn tasks(home: &Home) -> u64 {
    let reply = home.client().ask(&json!({"op": "status"}), "status_reply");
    reply["tasks"].as_u64().unwrap()
}

impl Holdings {
    fn of(pid: i32) -> Self {
        let entries = |what: &str| fs::read_dir(format!("/proc/{pid}/{what}")).unwrap().count();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
        Self {
            descriptors: entries("fd"),
            threads: entries("task"),
            memory: private_memory(pid),
            children: children.split_whitespace().count(),
        }
    }
}

/// One session opened and over again, in one of the ways in which that happens.
fn churn(home: &Home, launch: &Value, round: usize) {
    let session = format!("churn{round}");
    drop(home.observing("witness"));
    match round % 8 {
        // A kernel that works and is killed.
        0 => {
            let (mut client, exec) = ask(home, launch, &session, "word");
            assert_eq!(client.until_done(&exec).stdout(&exec), "word\n");
            let killed = home.client().ask(
                &json!({"op": "kill_kernel", "target": session}),
                "kernel_killed",
            );
            assert_eq!(killed["ok"], true);
        }
        // Somebody who looks at a history that is not there, and leaves with or without a word.
        n => {
            let _client = home.observing(&session);
            match n {
                // One who asks about all, one who says nothing, one who speaks something else.
                1 => drop(home.client().ask(&json!({"op": "status"}), "status_reply")),
                2 => drop(UnixStream::connect(home.paths().socket())),
                3 => {
                    let mut stream = UnixStream::connect(home.paths().socket()).unwrap();
                    drop(stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"));
                }
                _ => {}
            }
        }
    }
}

#[test]
fn sessions_that_are_over_leave_nothing_but_their_history() {
    let rounds = count("TITHON_HEALTH_ROUNDS", 64);
    let (home, launch) = home();
    let say = |words: &str| {
        let (mut client, exec) = ask(&home, &launch, "witness", words);
        assert_eq!(client.until_done(&exec).stdout(&exec), format!("{words}\n"));
    };
    say("before");
    let supervisor = home.supervisor().unwrap();
    let worker = home.worker("witness").unwrap();
    let settled = || {
        until("the end of all that was opened", || {
            let only = living(&home);
            let holdings = Holdings::of(supervisor);
            // The witness's worker is the one child.
            (only.len() == 1 && holdings.children == 1).then_some(holdings)
        })
    };
    let of_worker = || Holdings::of(worker);
    // What a process takes once, it takes here.
    let warm = 16 + rounds / 20;
    (0..warm).for_each(|round| churn(&home, &launch, round));
    let (before, worker_before) = (settled(), of_worker());
    let tasks_before = tasks(&home);
    for round in warm..warm + rounds {
        churn(&home, &launch, round);
        if round % 1000 == 0 {
            eprintln!(
                "{round}: {:?}\n    {:?}",
                Holdings::of(supervisor),
                of_worker()
            );
        }
    }
    let after = until("as few descriptors and threads as before", || {
        let after = settled();
        let as_few = after.descriptors <= before.descriptors && after.threads <= before.threads;
        as_few.then_some(after)
    });
    until("as few tasks as before", || {
        (tasks(&home) <= tasks_before).then_some(())
    });
    let worker_after = until("as few descriptors and threads of the worker", || {
        let after = of_worker();
        let as_few = after.descriptors <= worker_before.descriptors
            && after.threads <= worker_before.threads;
        as_few.then_some(after)
    });
    for (who, before, after) in [
        ("supervisor", before, after),
        ("worker", worker_before, worker_after),
    ] {
        eprintln!("{who} before: {before:?}\n{who} after:  {after:?}");
        let grown = after.memory.saturating_sub(before.memory);
        // Far below what keeping anything of each session would cost in a year's churn, and above
        // what an allocator's mood makes of a short one.
        let bound = (512 << 10) + 128 * rounds as u64;
        assert!(grown < bound, "{who}: {grown} bytes more");
    }

    // Sockets and pids are gone with their processes, histories are not.
    let witness_key = tithon_ipc::ids::SessionId::parse("witness").unwrap().key();
    let left: Vec<_> = fs::read_dir(home.paths().run())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| !name.starts_with(&witness_key.to_string()))
        .collect();
    assert_eq!(left, [] as [&str; 0]);
    assert_eq!(
        fs::read_dir(home.paths().sessions()).unwrap().count(),
        warm + rounds + 1
    );
    let marked = tithon_ipc::marks::Marked::all()
        .into_iter()
        .filter(|it| it.session.starts_with(home.root()))
        .count();
    assert_eq!(marked, 2, "the witness's worker and kernel");
    say("after");
}

#[test]
fn a_kernel_is_read_also_where_nothing_may_watch_files() {
    let mut home = Home::empty();
    if !home.start_without_watches() {
        skip::<()>(
            "a_kernel_is_read_also_where_nothing_may_watch_files",
            "no user namespaces",
        );
        return;
    }
    let mut client = home.attached("s", 0);
    assert_eq!(client.run("s", "print(6 * 7)"), "42\n");
    // Also what another process writes to the kernel's stdout, and what follows a new worker.
    assert_eq!(
        client.run("s", "import os; os.system('echo from outside');"),
        "from outside\n"
    );
    home.kill(home.worker("s").unwrap());
    let mut client = home.attached("s", -1);
    let told = client.run("s", "for n in range(1000): print(n, flush=True)");
    assert_eq!(told.lines().count(), 1000);
    let log = fs::read_to_string(tithon_ipc::logs::worker(&home.session("s"))).unwrap();
    assert!(
        log.contains("fs.inotify.max_user_instances is used up"),
        "{log}"
    );
}

/// Worker and supervisor at rest let go of their own code. All of it must come back: nothing may be let go of that
/// only they had.
#[test]
fn what_was_given_back_at_rest_comes_again() {
    let home = Home::new();
    let mut client = home.attached("default", -1);
    client.run("default", "x = 41");
    let pids = [home.supervisor().unwrap(), home.worker("default").unwrap()];
    let before = pids.map(mapped_memory);
    until("both at rest", || {
        let mapped = pids.map(mapped_memory);
        let rests = mapped
            .iter()
            .zip(before)
            .all(|(now, before)| *now < before / 4 * 3);
        rests.then_some(())
    });
    assert_eq!(client.run("default", "print(x + 1)"), "42\n");
    assert_eq!(
        home.attached("another", -1).run("another", "print(1)"),
        "1\n"
    );
    assert_eq!(
        pids.map(Some),
        [home.supervisor(), home.worker("default")],
        "the same processes"
    );
}
