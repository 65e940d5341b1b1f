//! Readers that are killed, readers that are not there, and disks that are full.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use rusqlite::{Connection, OptionalExtension as _};
use serde_json::json;
use tithon_worker::kernel::spool::{Record, SpoolPosition, SpoolReader, StreamName};

use crate::kernel::{Ipykernel, Kernel, read_all, read_until, wait_for_more};
use crate::{lines, replies, text_of};

const READER: &str = "TITHON_TEST_READER";

/// The process that `a_reader_killed_often…` starts, which is this program once more, and kills.
fn read_for_ever(spool: &Path) -> ! {
    let mut journal = journal(spool);
    let position: Option<String> = journal
        .query_row("select text from position", [], |row| row.get(0))
        .optional()
        .unwrap();
    let position = position.map(|text| serde_json::from_str::<SpoolPosition>(&text).unwrap());
    let mut reader = SpoolReader::open(spool, position.unwrap_or_default()).unwrap();
    loop {
        // Small batches: many moments to be killed at.
        let records = reader.read(4096).unwrap();
        if records.is_empty() {
            wait_for_more(&reader);
            continue;
        }
        let transaction = journal.transaction().unwrap();
        for record in &records {
            if let Record::Stream(stream) = record
                && stream.name == StreamName::Stdout
            {
                let row = (stream.offset.cast_signed(), &stream.text);
                transaction
                    .execute("insert into rows values (?, ?)", row)
                    .unwrap();
            }
        }
        let position = serde_json::to_string(&reader.position()).unwrap();
        transaction
            .execute("replace into position values (0, ?)", [position])
            .unwrap();
        transaction.commit().unwrap();
        reader.release(&reader.position()).unwrap();
    }
}

fn journal(spool: &Path) -> Connection {
    let journal = Connection::open(spool.with_extension("db")).unwrap();
    journal.busy_timeout(Duration::from_secs(10)).unwrap();
    journal
        .execute_batch(
            "pragma journal_mode = wal; pragma synchronous = normal;
             create table if not exists rows (offset integer primary key, text text);
             create table if not exists position (id integer primary key, text text);",
        )
        .unwrap();
    journal
}

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _reaped = self.0.wait();
    }
}

#[test]
fn a_reader_killed_often_loses_and_doubles_nothing() {
    if let Some(spool) = std::env::var_os(READER) {
        read_for_ever(Path::new(&spool));
    }
    const LINES: usize = 50_000;
    let mut kernel = Kernel::with(Ipykernel::V7, |command, _| {
        command.env("TITHON_SPOOL_SEGMENT", "100000");
    });
    let journal = journal(kernel.spool());
    let text = || -> String {
        let mut rows = journal
            .prepare("select text from rows order by offset")
            .unwrap();
        rows.query_map([], |row| row.get::<_, String>(0))
            .unwrap()
            .map(Result::unwrap)
            .collect()
    };
    let count = || {
        journal
            .query_row("select count(*) from rows", [], |row| row.get::<_, u32>(0))
            .unwrap()
    };
    kernel.tell(
        &json!({"do": "run", "code": format!("for i in range({LINES}): print(i, flush=True)")}),
    );

    let deadline = Instant::now() + Duration::from_secs(120);
    let expected = lines(LINES);
    let mut kills = 0;
    while text().len() < expected.len() {
        let before = count();
        let reader = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "faults::a_reader_killed_often_loses_and_doubles_nothing",
            ])
            .env(READER, kernel.spool())
            .spawn()
            .unwrap();
        let _reader = Killed(reader);
        // It did something, a little more each time: killed at ever other moments.
        while count() <= before + kills % 7 && text().len() < expected.len() {
            assert!(
                Instant::now() < deadline,
                "{} bytes after {kills} readers",
                text().len()
            );
            std::thread::sleep(Duration::from_millis(1));
        }
        kills += 1;
    }

    assert_eq!(kernel.answer()["status"], "ok");
    assert!(text() == expected, "the lines differ after {kills} readers");
    assert!(kills > 10, "only {kills} readers were killed");
}

/// An exception that strikes anywhere in the launcher, between a write and its bookkeeping or in a
/// rotation, may cost the record being written, and nothing else.
#[test]
fn interrupts_at_any_moment_break_nothing() {
    let mut kernel = Kernel::with(Ipykernel::V7, |command, _| {
        command.env("TITHON_SPOOL_SEGMENT", "2048");
    });
    kernel.run(
        "import signal, sys\n\
         class Struck(Exception): pass\n\
         def strike(*_):\n\
         \x20   global armed\n\
         \x20   if armed and line < 30_000: armed = False; raise Struck\n\
         armed, line, strikes = False, 0, 0\n\
         signal.signal(signal.SIGALRM, strike)\n\
         signal.setitimer(signal.ITIMER_REAL, 0.0003, 0.0003)\n\
         while line < 30_000:\n\
         \x20   try:\n\
         \x20       armed = True\n\
         \x20       while line < 30_000: sys.stdout.write(f'{line}\\n'); line += 1\n\
         \x20   except Struck: strikes += 1\n\
         signal.setitimer(signal.ITIMER_REAL, 0)",
    );
    kernel.run("assert strikes > 50, strikes");

    let records = read_until(&mut kernel.reader(), |records| replies(records) == 2);

    let text = text_of(&records, StreamName::Stdout);
    let mut numbers: Vec<u64> = text.lines().map(|line| line.parse().unwrap()).collect();
    assert!(numbers.is_sorted());
    numbers.dedup(); // written, and struck before it was counted
    assert!(numbers.into_iter().eq(0..30_000), "lines are missing");
    assert!(
        !records
            .iter()
            .any(|record| matches!(record, Record::Hole { .. }))
    );
}

#[test]
fn a_kernel_nobody_reads_is_slowed_down_at_its_bound() {
    const LINES: usize = 100_000;
    let mut kernel = Kernel::with(Ipykernel::V7, |command, _| {
        command
            .env("TITHON_SPOOL_SEGMENT", "16384")
            .env("TITHON_SPOOL_UNREAD", "131072");
    });
    let code = format!("for i in range({LINES}): print(i)");
    kernel.tell(&json!({"do": "run", "code": code}));
    let mut reader = kernel.reader();
    wait_for("the bound", || size_of(kernel.spool()) > 131_072);

    let records = read_until(&mut reader, |records| replies(records) == 1);

    assert!(
        text_of(&records, StreamName::Stdout) == lines(LINES),
        "the lines differ"
    );
    assert_eq!(kernel.answer()["status"], "ok");
    assert!(
        !records
            .iter()
            .any(|record| matches!(record, Record::Gap { .. } | Record::Hole { .. }))
    );
}

#[test]
fn the_oldest_is_dropped_exactly_where_that_was_chosen() {
    const LINES: u64 = 20_000;
    let mut kernel = Kernel::with(Ipykernel::V7, |command, _| {
        command
            .env("TITHON_SPOOL_SEGMENT", "16384")
            .env("TITHON_SPOOL_UNREAD", "131072")
            .env("TITHON_SPOOL_POLICY", "drop");
    });
    let mut reader = kernel.reader();
    read_until(&mut reader, |records| {
        records
            .iter()
            .any(|record| matches!(record, Record::Hello(_)))
    });
    kernel.run(&format!(
        "import sys\nfor i in range({LINES}): sys.stdout.write(f'{{i}}\\n')"
    ));

    let records = read_all(&mut reader);

    let holes: Vec<_> = records
        .iter()
        .filter(|record| matches!(record, Record::Hole { .. }))
        .collect();
    let [
        Record::Hole {
            writes: Some(lost), ..
        },
    ] = holes[..]
    else {
        panic!("{holes:?}")
    };
    let text = text_of(&records, StreamName::Stdout);
    let numbers: Vec<u64> = text.lines().map(|line| line.parse().unwrap()).collect();
    let missing: Vec<_> = (0..LINES)
        .filter(|number| numbers.binary_search(number).is_err())
        .collect();
    assert!(
        missing.len() as u64 <= *lost && *lost <= missing.len() as u64 + 8,
        "{} of {lost}",
        missing.len()
    );
    assert!(
        missing.windows(2).all(|pair| pair[0] + 1 == pair[1]),
        "more than one hole"
    );
    assert_eq!(replies(&records), 1);
}

/// A file system of 2 MiB for one test.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(at: PathBuf) -> Option<Self> {
        fs::create_dir(&at).unwrap();
        let mut mount = Command::new("mount");
        mount
            .args(["-t", "tmpfs", "-o", "size=2m", "tmpfs"])
            .arg(&at);
        mount
            .output()
            .is_ok_and(|output| output.status.success())
            .then_some(Self(at))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _unmounted = Command::new("umount").arg("--lazy").arg(&self.0).output();
    }
}

#[test]
fn a_full_disk_costs_an_exact_gap_and_stops_nobody() {
    const LINES: u64 = 200_000;
    let home = tempfile::tempdir().unwrap();
    let Some(disk) = SmallDisk::mount(home.path().join("disk")) else {
        eprintln!(
            "skipped a_full_disk_costs_an_exact_gap_and_stops_nobody: mounting is not permitted here"
        );
        return;
    };
    let filler = disk.0.join("filler");
    fs::write(&filler, vec![0; 1 << 20]).unwrap();
    let mut kernel = Kernel::with(Ipykernel::V7, |command, _| {
        command
            .env("TITHON_SPOOL", disk.0.join("spool"))
            .env("TITHON_SPOOL_MEMORY", "200000");
    });
    kernel.run(&format!(
        "import sys\nfor i in range({LINES}): sys.stdout.write(f'{{i}}\\n')"
    ));
    kernel.run("display('status and replies are never dropped')");
    let mut reader = kernel.reader();
    let mut records = read_all(&mut reader);
    assert!(replies(&records) < 2, "the disk was not full");

    fs::remove_file(&filler).unwrap();
    records.extend(read_until(&mut reader, |more| {
        replies(&records) + replies(more) == 2
    }));
    kernel.run("print('and on')");
    records.extend(read_until(&mut reader, |more| {
        text_of(more, StreamName::Stdout) == "and on\n"
    }));

    let gaps = records.iter().filter_map(|record| match record {
        Record::Gap { writes, bytes } => Some((writes, bytes)),
        _ => None,
    });
    let (lost, lost_bytes) = gaps.fold((0, 0), |sum, gap| (sum.0 + gap.0, sum.1 + gap.1));
    let text = text_of(&records, StreamName::Stdout);
    let numbers: Vec<u64> = text.lines().map_while(|line| line.parse().ok()).collect();
    let kept = numbers.len() as u64;
    assert!(
        numbers.iter().copied().eq(0..kept),
        "what was kept is one run from the beginning"
    );
    let missing: u64 = (kept..LINES)
        .map(|number| number.to_string().len() as u64 + 1)
        .sum();
    // Whatever else the cell and its successor showed may have been dropped too, never text without being counted.
    assert!(
        lost >= LINES - kept && lost_bytes >= missing,
        "{lost} writes, {} missing",
        LINES - kept
    );
    assert!(
        lost <= LINES - kept + 4,
        "{lost} writes, {} missing",
        LINES - kept
    );
    assert!(
        !records
            .iter()
            .any(|record| matches!(record, Record::Hole { .. }))
    );
}

fn size_of(dir: &Path) -> u64 {
    fs::read_dir(dir).map_or(0, |entries| {
        entries
            .filter_map(|entry| Some(entry.ok()?.metadata().ok()?.len()))
            .sum()
    })
}

fn wait_for(what: &str, reached: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !reached() {
        assert!(Instant::now() < deadline, "waited too long for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
