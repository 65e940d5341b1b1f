//! History by policy: raw output goes, what it showed stays, and nobody sees a hole.

use rusqlite::Connection;
use serde_json::{Value, json};

use crate::{
    harness::{Client, Home, until},
    shown, snapshot,
};

const RAW: &str = "SELECT count(*) FROM messages WHERE msg_type IN
    ('stream', 'display_data', 'update_display_data', 'execute_result', 'error', 'clear_output')";

fn storage(client: &mut Client) -> Value {
    client.ask(
        &json!({"op": "status", "session": "default"}),
        "status_reply",
    )["storage"]
        .clone()
}

#[test]
fn old_output_becomes_its_fold_while_another_cell_prints() {
    let day = 86_400.0;
    let days = 2.0 / day;
    let home = Home::with(&[
        ("TITHON_HISTORY_RETENTION_DAYS", &days.to_string()),
        ("TITHON_RETENTION_POLL", "0.05"),
    ]);
    let mut live = home.attached("default", -1);
    live.run(
        "default",
        "for n in range(300): print('line', n, flush=True)",
    );
    live.run("default", "import time; 6 * 7");
    let before = snapshot(&home, "default");
    let folded = [shown(&before, "e1"), shown(&before, "e2")];
    let gate = home.work().join("gate");
    let printing = live.execute(
        "default",
        &format!("import os\nn = 0\nwhile not os.path.exists({gate:?}):\n    print('tick', n, flush=True); n += 1; time.sleep(0.01)\nprint(n)"),
    );
    let mut text = live.until_kind("output").stdout(&printing);
    let mut reader = home.client();
    until("a cleanup of both cells", || {
        (storage(&mut reader)["last_cleanup"]["total_deleted_messages"].as_u64()? >= 2)
            .then_some(())
    });
    until("the raw output gone", || {
        let journal = home.journal("default");
        (journal.value::<i64>(&format!("{RAW} AND exec_id IN ('e1', 'e2')")) == 0).then_some(())
    });
    // What is left of a cell, and all of one whose rows are there, behind what is gone.
    let left = home.tithon(&["log", "--exec", "e1", "--full"]);
    assert!(left.stdout.contains("\nline 299\n"), "{left:?}");
    assert!(left.stderr.contains("was compacted"), "{left:?}");
    let all = home.tithon(&["log", "--exec", &printing, "--full"]);
    assert!(all.stdout.contains("\ntick 0\ntick 1\n"), "{all:?}");
    assert!(all.stderr.contains("has not ended yet"), "{all:?}");
    std::fs::write(gate, "").unwrap();
    // Who watched the cell that printed meanwhile has every line.
    let told = live.until_done(&printing);
    text += &told.stdout(&printing);
    let last: usize = text.lines().last().unwrap().parse().unwrap();
    let ticks: String = (0..last).map(|n| format!("tick {n}\n")).collect();
    assert_eq!(text, format!("{ticks}{last}\n"));
    assert_eq!(told.done(&printing)["status"], "ok");

    let after = snapshot(&home, "default");
    assert_eq!([shown(&after, "e1"), shown(&after, "e2")], folded);
    let floor = after["history_floor"].as_i64().unwrap();
    assert!(floor > 2, "{floor}");
    // Below the floor there is only a snapshot; from it on, events as ever.
    let mut client = home.client();
    assert!(client.attach("default", 1).0.is_some());
    let newest = after["max_seq"].as_i64().unwrap();
    assert!(
        home.client()
            .attach("default", newest.max(floor))
            .0
            .is_none()
    );
    let journal = home.journal("default");
    let lifecycle: i64 =
        journal.value("SELECT count(*) FROM messages WHERE msg_type IN ('tithon.queued', 'tithon.started', 'tithon.done') AND exec_id IN ('e1', 'e2')");
    assert_eq!(lifecycle, 6);

    // And so it is for the next worker.
    crate::crash_worker(&home, "default");
    let again = snapshot(&home, "default");
    assert_eq!([shown(&again, "e1"), shown(&again, "e2")], folded);
    assert_eq!(
        home.attached("default", -1).run("default", "print(n > 0)"),
        "True\n"
    );
}

#[test]
fn a_history_that_is_too_large_gives_space_back() {
    let home = Home::with(&[
        ("TITHON_HISTORY_TARGET_MIB", "1"),
        ("TITHON_RETENTION_POLL", "0.05"),
    ]);
    let mut live = home.attached("default", -1);
    // Progress that overwrites itself: megabytes of messages, one line to show.
    for _ in 0..3 {
        live.run(
            "default",
            "for n in range(60): print('\\r' + 'x' * 20000, end='', flush=True)",
        );
    }
    let mut client = home.client();
    let storage = until("the target", || {
        let storage = storage(&mut client);
        let deleted = storage["last_cleanup"]["total_deleted_messages"]
            .as_u64()
            .unwrap_or(0);
        (deleted > 0 && storage["target_exceeded"] == false).then_some(storage)
    });
    assert!(
        storage["logical_bytes"].as_i64().unwrap() <= 1 << 20,
        "{storage}"
    );
    assert_eq!(
        storage["policy"],
        json!({"retention_days": 0.0, "target_mib": 1.0})
    );
    let journal = home.journal("default");
    let rows: i64 = journal.value("SELECT count(*) FROM messages");
    let counted = self::storage(&mut client)["message_count"]
        .as_i64()
        .unwrap();
    assert_eq!(counted, rows);
    // Pages of what went are given back, and what is counted is what is there.
    until("the pages", || {
        (journal.value::<i64>("PRAGMA freelist_count") == 0).then_some(())
    });
    let logical = logical_bytes(&journal.0);
    let told = self::storage(&mut client)["logical_bytes"]
        .as_i64()
        .unwrap();
    assert!((told - logical).abs() < 200, "{told} {logical}");
    let line = "x".repeat(20000);
    assert_eq!(shown(&snapshot(&home, "default"), "e1")[0]["text"], line);

    // Frames that nothing names any more are gone, the others are there.
    let unnamed: i64 = journal.value("SELECT count(*) FROM frames");
    live.run("default", "1");
    assert!(unnamed < 60, "{unnamed}");
    for row in wires(&journal.0) {
        tithon_worker::journal::rebuild(&journal.0, &row.0, row.1.as_bytes(), row.2, |_, _| None)
            .unwrap();
    }
}

fn wires(journal: &Connection) -> Vec<(Vec<u8>, String, f64)> {
    let mut select = journal
        .prepare("SELECT wire, content_json, ts FROM messages WHERE wire IS NOT NULL")
        .unwrap();
    select
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .unwrap()
        .map(Result::unwrap)
        .collect()
}

fn logical_bytes(journal: &Connection) -> i64 {
    let sum = |sql: &str| {
        journal
            .query_row(sql, [], |row| row.get::<_, i64>(0))
            .unwrap()
    };
    sum("SELECT COALESCE(sum(octet_length(content_json)), 0) FROM messages")
        + sum(
            "SELECT COALESCE(sum(octet_length(code)), 0) + COALESCE(sum(octet_length(folded_json)), 0) FROM executions",
        )
}

#[test]
fn without_a_policy_everything_stays() {
    let home = Home::with(&[("TITHON_RETENTION_POLL", "0.01")]);
    let mut live = home.attached("default", -1);
    live.run("default", "print(1)");
    live.run("default", "print(2)");
    let storage = storage(&mut live);
    assert_eq!(storage["last_cleanup"], Value::Null);
    assert_eq!(
        storage["policy"],
        json!({"retention_days": 0.0, "target_mib": 0.0})
    );
    assert_eq!(snapshot(&home, "default")["history_floor"], 0);
    assert!(home.journal("default").value::<i64>(RAW) >= 2);
}
