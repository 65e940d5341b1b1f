//! Fault injection, seeded: cells print numbered marks while processes are killed, stopped and continued,
//! clients dropped and disks filled; in the end each mark is there exactly once, in order.
//!
//!     cargo test -p tithon --test faults -- --rounds 1000 --seed 7
//!
//! Prints every fault with its moment. A round that failed keeps its home and says how to run it again; the
//! seed gives the same cells and faults again, not the same moments, for those are the machine's.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test that cannot go on says so and ends"
)]

mod clients;
mod faults;
#[expect(
    dead_code,
    reason = "shared with the tests of losses, which need more of it"
)]
mod rig;
mod rng;
mod verdict;
mod workload;

use std::{
    cell::RefCell,
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::ExitCode,
    rc::Rc,
    time::{Duration, Instant},
};

use clients::{ClientProcess, Follower, Seen};
use faults::Fault;
use rig::Home;
use rng::Rng;
use serde_json::json;
use verdict::{Checked, Excuses, Verdict};

/// Rounds without arguments: a minute or so.
const ROUNDS: u64 = 4;
/// The first seed without arguments: a check runs what the check before it ran.
const SEED: u64 = 1;
const CELLS: u64 = 12;
const FAULTS: u64 = 14;
const FOLLOWERS: usize = 3;
/// How long after the last fault everything may take to come to rest.
const SETTLE: Duration = Duration::from_secs(120);

struct Arguments {
    rounds: u64,
    seed: u64,
}

fn main() -> ExitCode {
    let Some(arguments) = arguments(std::env::args().skip(1)) else {
        eprintln!("usage: faults [--rounds N] [--seed N]");
        return ExitCode::from(2);
    };
    println!(
        "faults: {} rounds from seed {}",
        arguments.rounds, arguments.seed
    );
    let mut total = Checked::default();
    let mut injected: BTreeMap<Fault, u64> = BTreeMap::new();
    let mut failed = 0;
    for round in 0..arguments.rounds {
        let seed = arguments.seed.wrapping_add(round);
        let outcome = Round::new(seed).run();
        for fault in &outcome.injected {
            *injected.entry(*fault).or_default() += 1;
        }
        total.marks += outcome.checked.marks;
        total.events += outcome.checked.events;
        total.cells += outcome.checked.cells;
        total.lost += outcome.checked.lost;
        total.doubled += outcome.checked.doubled;
        failed += u64::from(!outcome.good);
    }
    let faults: u64 = injected.values().sum();
    println!("faults injected: {faults} {injected:?}");
    println!(
        "{} rounds, {failed} failed; {} cells, {} lines, {} events compared; lost: {}, doubled: {}",
        arguments.rounds, total.cells, total.marks, total.events, total.lost, total.doubled
    );
    ExitCode::from(u8::from(failed > 0))
}

/// Unknown arguments are those of the usual test harness, which cargo may pass; `--list` asks for tests.
fn arguments(mut given: impl Iterator<Item = String>) -> Option<Arguments> {
    let mut arguments = Arguments {
        rounds: ROUNDS,
        seed: SEED,
    };
    while let Some(argument) = given.next() {
        match argument.as_str() {
            "--rounds" => arguments.rounds = given.next()?.parse().ok()?,
            "--seed" => arguments.seed = given.next()?.parse().ok()?,
            "--list" => arguments.rounds = 0,
            "--help" => return None,
            _ => {}
        }
    }
    Some(arguments)
}

struct Outcome {
    good: bool,
    checked: Checked,
    injected: Vec<Fault>,
}

struct Round {
    seed: u64,
    rng: Rng,
    scratch: PathBuf,
    began: Instant,
    injected: Vec<Fault>,
    excuses: Excuses,
}

impl Round {
    fn new(seed: u64) -> Self {
        let scratch = std::env::temp_dir().join(format!("tf{}-{seed}", std::process::id()));
        Self {
            seed,
            rng: Rng::new(seed),
            scratch,
            began: Instant::now(),
            injected: Vec::new(),
            excuses: Excuses::default(),
        }
    }

    fn say(&self, what: &str) {
        println!("  {:7.3}s {what}", self.began.elapsed().as_secs_f64());
    }

    fn run(mut self) -> Outcome {
        println!("round with seed {}", self.seed);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let mut home = Home::new(&self.scratch, self.rng.one_in(2));
        let verdict = tokio::task::LocalSet::new().block_on(&runtime, self.drive(&mut home));
        let good = verdict.wrong.is_empty();
        let Checked { marks, events, .. } = verdict.checked;
        self.say(&format!(
            "{}: {} faults, {marks} lines, {events} events",
            if good { "good" } else { "FAILED" },
            self.injected.len()
        ));
        for wrong in verdict.wrong.iter().take(40) {
            println!("    {wrong}");
        }
        if !good {
            home.keep();
            println!("    kept in {}", self.scratch.display());
            println!("    again: --rounds 1 --seed {}", self.seed);
        }
        Outcome {
            good,
            checked: verdict.checked,
            injected: self.injected,
        }
    }

    async fn drive(&mut self, home: &mut Home) -> Verdict {
        let truth = self.scratch.join("truth");
        let path = truth.display().to_string();
        let cells: Vec<_> = (0..CELLS)
            .map(|n| workload::cell(&mut self.rng, &format!("c{n}"), &path))
            .collect();
        let root = home.root().to_owned();
        // The first kernel is there before anything is done to it: a start that fails is not the question here.
        rig::snapshot(&root).await;
        let followers: Vec<Follower> = (0..FOLLOWERS).map(|_| Follower::default()).collect();
        for follower in &followers {
            tokio::task::spawn_local(follower.clone().follow(root.clone()));
        }
        let client = ClientProcess::default();
        tokio::task::spawn_local(client.clone().follow(root.clone()));
        tokio::task::spawn_local(clients::answer_prompts(root.clone()));
        let submitted = Rc::new(RefCell::new(Vec::new()));
        let submitting = clients::submit(
            root.clone(),
            Rng::new(self.rng.next()),
            cells,
            Rc::clone(&submitted),
        );
        let submitting = tokio::task::spawn_local(submitting);
        for _ in 0..FAULTS {
            tokio::time::sleep(self.rng.millis(500)).await;
            let fault = faults::any_time(&mut self.rng);
            self.inject(fault, home, &followers, &client).await;
        }
        if self.rng.one_in(3) {
            tokio::time::sleep(self.rng.millis(1000)).await;
            let fault = faults::last_act(&mut self.rng);
            self.inject(fault, home, &followers, &client).await;
        }
        faults::heal(home);
        submitting.await.unwrap();
        self.say("healed");
        let submitted = submitted.take();
        let mut seen: Vec<_> = followers.iter().map(|it| Rc::clone(&it.seen)).collect();
        seen.push(Rc::clone(&client.seen));
        self.settle(home, &truth, &submitted, &seen).await
    }

    async fn inject(
        &mut self,
        fault: Fault,
        home: &mut Home,
        followers: &[Follower],
        client: &ClientProcess,
    ) {
        self.say(&fault.to_string());
        if !faults::inject(fault, home, followers, client, &mut self.rng).await {
            return;
        }
        self.injected.push(fault);
        let dead = matches!(
            fault,
            Fault::KillKernel | Fault::KillKernelUnwatched | Fault::TruncateLastRecord
        );
        self.excuses.kernel_died |= dead;
        self.excuses.torn |= fault == Fault::TruncateLastRecord;
        self.excuses.child_died |= fault == Fault::KillKernelsChild;
    }

    /// Waits until everything has come to rest as it should; the last verdict if it never does.
    async fn settle(
        &self,
        home: &Home,
        truth: &Path,
        submitted: &[clients::Submitted],
        seen: &[Rc<RefCell<Seen>>],
    ) -> Verdict {
        let deadline = Instant::now() + SETTLE;
        loop {
            let snapshot = rig::snapshot(home.root()).await;
            let resting = home.journal().is_ok_and(|journal| {
                let open = "SELECT count(*) FROM executions WHERE status IN ('queued', 'running')";
                journal.query_row(open, [], |row| row.get::<_, i64>(0)) == Ok(0)
            });
            if resting || Instant::now() > deadline {
                let replay = replay(home).await;
                let excuses = self.excuses;
                let verdict =
                    verdict::verdict(home, truth, submitted, &snapshot, &replay, seen, excuses);
                if verdict.wrong.is_empty() || Instant::now() > deadline {
                    return verdict;
                }
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

/// Every event after the first, as a client gets them that comes late.
async fn replay(home: &Home) -> BTreeMap<i64, String> {
    let mut events = BTreeMap::new();
    let Some(mut client) = home.connect().await else {
        return events;
    };
    let attach = json!({"op": "attach", "last_seen_seq": 1});
    if client.send(&attach).await.is_err() {
        return events;
    }
    while let Ok(Some(text)) = client.next().await {
        let frame: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
        match frame["op"].as_str() {
            Some("event") => drop(events.insert(frame["seq"].as_i64().unwrap(), text.to_string())),
            Some("sync") => break,
            _ => {}
        }
    }
    events
}
