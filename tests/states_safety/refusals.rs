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

/// Pools of threads that say nothing about themselves, beside others' that do no harm: the first by whose
/// code it is in which its threads wait, the others by their modules.
#[test]
fn pools_are_told_apart_and_each_is_named() {
    let Some(home) = with_libraries("pools_are_told_apart_and_each_is_named") else {
        return;
    };
    let state = checkpoint_after(
        &home,
        r"
import numpy as np, numexpr, tqdm
for _ in tqdm.tqdm(range(2)): pass
numexpr.set_num_threads(2)
a = np.arange(1e6); numexpr.evaluate('a * 2').sum(); square = np.ones((300, 300)); square @ square
# One product of matrices, as ONNX writes it down.
model = bytes.fromhex(
    '08083a380a110a01780a017812017922064d61744d756c1201675a0f0a0178120a'
    '0a08080112040a000a00620f0a0179120a0a08080112040a000a0042040a00100d'
)",
    );
    for (made, again, name) in [
        (
            r"
import onnxruntime
wishes = onnxruntime.SessionOptions()
wishes.intra_op_num_threads = wishes.inter_op_num_threads = 3
wishes.execution_mode = onnxruntime.ExecutionMode.ORT_PARALLEL
ran = onnxruntime.InferenceSession(model, wishes)",
            "print(ran.run(None, {'x': np.ones((3, 3), 'float32')})[0].sum())",
            "threads of a native library (onnxruntime)",
        ),
        (
            "import duckdb; db = duckdb.connect()",
            "print(db.execute('select sum(range) from range(100000)').fetchone())",
            "duckdb",
        ),
        (
            "import grpc; channel = grpc.insecure_channel('127.0.0.1:1')",
            "future = grpc.channel_ready_future(channel); print(future.done()); future.cancel()",
            "grpc",
        ),
    ] {
        refused(&home, made, name);
        for copying in [&["try", "-c", "1"] as &[&str], &["branch", "copy"]] {
            let told = home.tithon(copying);
            assert!(told.code == 2 && told.stderr.contains(name), "{told:?}");
        }
        run(&home, again);
        home.tithon(&["restore", "--to", &state]).ok();
    }
    assert_eq!(
        run(
            &home,
            "print(numexpr.evaluate('a * 2').sum(), (square @ square)[0, 0])"
        ),
        "999999000000.0 300.0\n"
    );
}
