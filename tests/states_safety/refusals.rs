//! What cannot be copied is named, at once and by its own name; the session goes on.

use crate::{checkpoint_after, checkpoints, harness::Home, run, until, with_libraries};

/// Runs a cell after which there is no checkpoint; returns why.
fn refused(home: &Home, code: &str, name: &str) {
    run(home, code);
    until(&format!("the refusal of {name}"), || {
        let told = checkpoints(home);
        told["refused"].as_str()?.contains(name).then_some(())
    });
}

#[test]
fn threads_of_the_session_are_named_until_they_end() {
    let home = Home::with(&[("TITHON_CHECKPOINTS", "20")]);
    checkpoint_after(
        &home,
        "import threading, concurrent.futures as futures, multiprocessing.pool as pools",
    );
    for (made, ended, name) in [
        (
            "pool = futures.ThreadPoolExecutor(1, thread_name_prefix='loader'); pool.submit(abs, 1).result()",
            "pool.shutdown()",
            "threads: loader_0",
        ),
        (
            "pool = futures.ProcessPoolExecutor(1); pool.submit(abs, 1).result()",
            "pool.shutdown()",
            "threads: ",
        ),
        (
            "pool = pools.ThreadPool(1); pool.apply(abs, (1,))",
            "pool.terminate(); pool.join()",
            "threads: ",
        ),
        (
            "timer = threading.Timer(1000, print); timer.name = 'alarm'; timer.start()",
            "timer.cancel(); timer.join()",
            "threads: alarm",
        ),
    ] {
        refused(&home, made, name);
        checkpoint_after(&home, ended);
    }
}

#[test]
fn polars_is_named_and_goes_on() {
    let Some(home) = with_libraries("polars_is_named_and_goes_on") else {
        return;
    };
    let state = checkpoint_after(&home, "x = 1");
    refused(
        &home,
        "import polars as pl; t = pl.DataFrame({'a': [1, 1, 2]}); t.group_by('a').len()",
        "polars",
    );
    // It is as alive as ever, and whoever looks is told what there is instead.
    assert_eq!(run(&home, "t.group_by('a').len().height"), "2\n");
    let told = home.tithon(&["checkpoints"]);
    assert!(
        told.stderr.contains("polars") && told.stderr.contains("tithon replay"),
        "{told:?}"
    );
    // What was taken before it came is still there.
    home.tithon(&["restore", "--to", &state]).ok();
    assert_eq!(run(&home, "'pl' in globals(), x"), "(False, 1)\n");
    assert_eq!(
        run(&home, "import polars; polars.select(polars.lit(2)).item()"),
        "2\n"
    );
}
