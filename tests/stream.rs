//! Streams larger than any buffer: complete for everybody who reads, whatever others do.

#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "in a test a panic is the report, and what is done once is said"
)]

mod harness;

use std::{
    thread,
    time::{Duration, Instant},
};

use harness::{Client, Home, PATIENCE, Transcript, private_memory, until, websocket::End};
use serde_json::{Value, json};

#[test]
fn fifty_thousand_flushed_lines_arrive_live_resumed_and_in_the_journal() {
    let home = Home::new();
    let mut live = home.attached("s", -1);
    let exec_id = live.execute("s", "for i in range(50_000): print(i, flush=True)");
    let mut told = live.until_kind("output");
    // One more comes in the middle of it, and reads when everything has been said.
    let mut resumed = home.attached("s", told.last_seq());
    let before = told.0.len();
    told.0.extend(live.until_done(&exec_id).0);
    let lines: String = (0..50_000).map(|line| format!("{line}\n")).collect();
    assert!(
        told.stdout(&exec_id) == lines,
        "the live client's lines differ"
    );

    assert_eq!(resumed.until_done(&exec_id).0, told.0[before..]);
    let middle = told.0.len() / 2;
    let since = told.0[middle].clone()["seq"].as_i64().unwrap();
    let mut late = home.attached("s", since);
    assert_eq!(late.until_done(&exec_id).0, told.0[middle + 1..]);
    let journal = home.journal("s").stdout(&exec_id);
    assert!(journal == lines, "the journal's lines differ");
    assert_eq!(told.done(&exec_id)["status"], "ok");
}

/// Prints `count` lines of a kilobyte each, faster than anything reads.
fn flood(count: usize) -> String {
    format!("for i in range({count}): print(i, 'x' * 1000)")
}

fn assert_flood(text: &str, count: usize) {
    let mut lines = 0;
    for (n, line) in text.lines().enumerate() {
        assert!(line.len() > 1000, "{line}");
        assert_eq!(line.split(' ').next(), Some(n.to_string().as_str()));
        lines += 1;
    }
    assert_eq!(lines, count);
}

/// How many clients the session counts.
fn clients(asker: &mut Client) -> Value {
    asker.ask(&json!({"op": "status", "session": "s"}), "status_reply")["clients"].clone()
}

#[test]
fn a_client_that_stops_reading_is_dropped_alone_and_costs_no_memory() {
    const LINES: usize = 60_000;
    /// A tenth of what is printed: nowhere is the stream kept for the one that does not read.
    const GROWTH_MAX: u64 = 6 << 20;
    let home = Home::with(&[("TITHON_SEND_TIMEOUT", "1"), ("TITHON_SUB_QUEUE_MAX", "50")]);
    let mut reader = home.attached("s", -1);
    let mut asker = home.client();
    // What a flood costs at all is not what the stopped client costs.
    reader.run("s", &flood(LINES));
    let mut stopped = home.attached("s", -1);
    assert_eq!(clients(&mut asker), 2);
    let worker = home.worker("s").unwrap();
    let before = private_memory(worker);
    let exec_id = reader.execute("s", &flood(LINES));
    let mut most = before;
    let told = reader.events_until(|event| {
        most = most.max(private_memory(worker));
        event["kind"] == "done"
    });
    assert_flood(&told.stdout(&exec_id), LINES);
    until("the stopped client's end", || {
        (clients(&mut asker) == 1).then_some(())
    });
    most = most.max(private_memory(worker));
    assert!(most - before < GROWTH_MAX, "{before} grew to {most}");

    // It finds what it had been sent, and is told why there is no more, if there was room for that.
    let mut had = Vec::new();
    let end = loop {
        match stopped.frame() {
            Ok(frame) if frame["op"] == "event" => had.push(frame),
            Ok(frame) => assert_eq!(frame, json!({"op": "overflow"})),
            Err(end) => break end,
        }
    };
    assert!(end == End::Broken || end.code() == 1000, "{end:?}");
    let had = Transcript(had);
    let mut resumed = home.attached("s", had.last_seq());
    let mut all = had.0;
    all.extend(resumed.until_done(&exec_id).0);
    assert_flood(&Transcript(all).stdout(&exec_id), LINES);
}

/// Slower than the kernel by far, and always behind by more than the queue holds.
#[test]
fn a_client_that_reads_slowly_is_not_dropped() {
    const LINES: usize = 20_000;
    const PAUSE: Duration = Duration::from_millis(20);
    let home = Home::with(&[
        ("TITHON_SEND_TIMEOUT", "2"),
        ("TITHON_SUB_QUEUE_MAX", "4"),
        ("TITHON_SOCK_SNDBUF", "16384"),
    ]);
    let mut slow = home.attached("s", -1);
    let mut submitter = home.client();
    let exec_id = submitter.execute("s", &flood(LINES));
    let deadline = Instant::now() + PATIENCE;
    let mut pauses = 0;
    let told = slow.events_until(|event| {
        assert!(Instant::now() < deadline, "too slow even for this");
        // Being slow is what is tested here; nothing is waited for.
        if pauses < 100 {
            pauses += 1;
            thread::sleep(PAUSE);
        }
        event["kind"] == "done"
    });
    assert_flood(&told.stdout(&exec_id), LINES);
}
