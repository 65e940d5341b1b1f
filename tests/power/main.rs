//! Power losses, seeded: a session is used while every write and sync of its processes is recorded, and then
//! it is opened as the disk would have left it, had the power failed at this moment or that.
//!
//!     cargo test -p tithon --test power -- --images 1000 --seed 7
//!
//! Prints its seed. An image that failed is kept. The seed gives the same cells, moments and survivors again
//! for the same record, and a record is the machine's: `--again DIR` takes one that was kept.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test that cannot go on says so and ends"
)]

mod check;
mod disk;
mod log;
mod record;
#[path = "../faults/rig.rs"]
#[expect(
    dead_code,
    reason = "shared with the fault injection, which needs more of it"
)]
mod rig;
#[path = "../faults/rng.rs"]
mod rng;

use std::{path::PathBuf, process::ExitCode, time::Instant};

use disk::{Disk, Names};
use record::Record;
use rng::Rng;

/// Images without arguments: half a minute.
const IMAGES: u64 = 40;
const SEED: u64 = 1;

struct Arguments {
    images: u64,
    seed: u64,
    again: Option<PathBuf>,
}

fn main() -> ExitCode {
    let Some(arguments) = arguments(std::env::args().skip(1)) else {
        eprintln!("usage: power [--images N] [--seed N] [--again DIR]");
        return ExitCode::from(2);
    };
    if arguments.images == 0 {
        return ExitCode::SUCCESS;
    }
    println!(
        "power: {} images from seed {}",
        arguments.images, arguments.seed
    );
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, run(arguments))
}

/// Unknown arguments are those of the usual test harness, which cargo may pass; `--list` asks for tests.
fn arguments(mut given: impl Iterator<Item = String>) -> Option<Arguments> {
    let mut arguments = Arguments {
        images: IMAGES,
        seed: SEED,
        again: None,
    };
    while let Some(argument) = given.next() {
        match argument.as_str() {
            "--images" => arguments.images = given.next()?.parse().ok()?,
            "--seed" => arguments.seed = given.next()?.parse().ok()?,
            "--again" => arguments.again = Some(given.next()?.into()),
            "--list" => arguments.images = 0,
            "--help" => return None,
            _ => {}
        }
    }
    Some(arguments)
}

async fn run(arguments: Arguments) -> ExitCode {
    let began = Instant::now();
    let mut rng = Rng::new(arguments.seed);
    let scratch = arguments.again.clone().unwrap_or_else(|| {
        std::env::temp_dir().join(format!("tp{}-{}", std::process::id(), arguments.seed))
    });
    if arguments.again.is_none() {
        record::make(&scratch, Rng::new(rng.next())).await;
    }
    let record = Record::read(&scratch);
    println!(
        "  {:7.3}s recorded {} operations, {} cells acknowledged",
        began.elapsed().as_secs_f64(),
        record.entries.len(),
        record.acknowledged.len()
    );
    let mut moments: Vec<usize> = (0..arguments.images)
        .map(|_| moment(&record, &mut rng))
        .collect();
    moments.sort_unstable();
    let mut disks =
        [Names::Strict, Names::Journaled].map(|names| Disk::new(&scratch.join("d"), names));
    let mut done = 0;
    let (mut failed, mut cells, mut rows) = (0, 0, 0);
    for (which, moment) in moments.into_iter().enumerate() {
        for entry in &record.entries[done..moment] {
            for disk in &mut disks {
                disk.apply(&entry.operation);
            }
        }
        done = moment;
        let image = scratch.join(format!("i{which}"));
        std::fs::create_dir_all(&image).unwrap();
        disks[which % 2].fail(&mut rng, &image.join("d"));
        let outcome = check::check(&record, moment, &image, which % 8 == 7).await;
        cells += outcome.cells;
        rows += outcome.rows;
        if outcome.wrong.is_empty() {
            std::fs::remove_dir_all(&image).ok();
            continue;
        }
        failed += 1;
        println!(
            "  image {which}, after operation {moment}: FAILED, kept in {}",
            image.display()
        );
        for wrong in outcome.wrong.iter().take(20) {
            println!("    {wrong}");
        }
    }
    println!(
        "{} images, {failed} failed; {cells} acknowledged cells and {rows} rows compared; {:.1} s",
        arguments.images,
        began.elapsed().as_secs_f64()
    );
    if failed > 0 {
        println!("again: --again {}", scratch.display());
        return ExitCode::FAILURE;
    }
    if arguments.again.is_none() {
        std::fs::remove_dir_all(&scratch).ok();
    }
    ExitCode::SUCCESS
}

/// Any moment, or the worst one: right after a client was told that it can rely on something.
fn moment(record: &Record, rng: &mut Rng) -> usize {
    if rng.one_in(2) && !record.acknowledged.is_empty() {
        rng.pick(&record.acknowledged).at + 1
    } else {
        usize::try_from(rng.below(record.entries.len() as u64 + 1)).unwrap()
    }
}
