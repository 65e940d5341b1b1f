//! What other programs left or read: homes of the Python program, and notebooks.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "harness/python.rs"]
mod python;

use std::{
    fs,
    os::unix::process::CommandExt as _,
    path::PathBuf,
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

use python::RICH;
use serde_json::{Value, json};
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(60);

fn succeeded(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{command:?}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

/// A home of its own under a short path, and a project; what runs in it ends with it.
struct Home {
    dir: TempDir,
    python: PathBuf,
}

impl Home {
    fn new() -> Self {
        let dir = tempfile::Builder::new()
            .prefix("tx")
            .tempdir_in("/tmp")
            .unwrap();
        fs::create_dir_all(dir.path().join("home/sessions")).unwrap();
        fs::create_dir(dir.path().join("work")).unwrap();
        Self {
            dir,
            python: RICH.interpreter(),
        }
    }

    fn work(&self) -> PathBuf {
        self.dir.path().join("work").canonicalize().unwrap()
    }

    fn session(&self, name: &str) -> PathBuf {
        self.dir.path().join("home/sessions").join(name)
    }

    /// A session directory as the Python program leaves it.
    fn left_by_python(&self, directory: &str, session: &str, sql: &str) -> PathBuf {
        let dir = self.session(directory);
        fs::create_dir_all(&dir).unwrap();
        let meta = json!({"session_id": session, "workdir": self.work()});
        fs::write(dir.join("meta.json"), meta.to_string()).unwrap();
        let journal = rusqlite::Connection::open(dir.join("journal.db")).unwrap();
        journal.pragma_update(None, "journal_mode", "WAL").unwrap();
        journal.execute_batch(sql).unwrap();
        dir
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tithon"));
        command
            .args(arguments)
            .current_dir(self.work())
            .env("TITHON_HOME", self.dir.path().join("home"))
            .env("TITHON_DETACHED_WORKERS", "1")
            .env(
                "VIRTUAL_ENV",
                self.python.parent().unwrap().parent().unwrap(),
            )
            .stdin(Stdio::null());
        command
    }

    fn tithon(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    fn ok(&self, arguments: &[&str]) -> String {
        succeeded(&mut self.command(arguments))
    }

    /// Frames of an attachment, until its backlog ends.
    fn attach(&self, session: &str, since: &str) -> Vec<Value> {
        self.ok(&["attach", "--session", session, "--since", since, "--once"])
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        self.tithon(&["--no-start", "shutdown", "--kill-kernels"]);
    }
}

fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match look() {
            Some(found) => return found,
            None if Instant::now() > deadline => panic!("waited in vain until {what}"),
            None => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}

#[test]
fn the_history_of_the_python_program_is_served_and_goes_on() {
    let home = Home::new();
    home.left_by_python(
        "default",
        "default",
        include_str!("python-home/session.sql"),
    );
    let shown: Value = serde_json::from_str(include_str!("python-home/snapshots.json")).unwrap();
    let shown = &shown["session.sql"];
    let snapshot = &home.attach("default", "0")[0];
    assert_eq!(snapshot["executions"], shown["executions"]);
    // A fresh kernel has none of the variables, and clients are told so after what was there.
    let seq = shown["max_seq"].as_i64().unwrap();
    let later = home.attach("default", &seq.to_string());
    assert_eq!(later[0]["payload"]["status"], "replaced");
    assert_eq!(later[0]["seq"], seq + 1);
    let replayed = home.attach("default", "40");
    let seqs: Vec<i64> = replayed
        .iter()
        .filter(|frame| frame["op"] == "event")
        .map(|frame| frame["seq"].as_i64().unwrap())
        .collect();
    assert_eq!(seqs, (41..=seq + 1).collect::<Vec<_>>());
    assert_eq!(
        home.ok(&["run", "--no-wait", "-c", "print('next')"]),
        "e17\n"
    );
}

#[test]
fn a_damaged_journal_is_left_alone_and_the_client_told() {
    let home = Home::new();
    let dir = home.left_by_python("default", "default", "");
    let garbage = "no database at all, but long enough to be looked at".repeat(40);
    fs::write(dir.join("journal.db"), &garbage).unwrap();
    let refused = home.tithon(&["run", "-c", "1"]);
    let words = String::from_utf8(refused.stderr).unwrap();
    assert!(
        words.contains("is damaged") && words.contains("hint: "),
        "{words}"
    );
    assert_eq!(fs::read_to_string(dir.join("journal.db")).unwrap(), garbage);
}

/// Sends a cell as that program would have, and leaves it running.
const PREDECESSOR: &str = r#"
import sys
from jupyter_client import BlockingKernelClient
from jupyter_client.session import Session
connection, msg_id, go = sys.argv[1:]
client = BlockingKernelClient(connection_file=connection)
client.load_connection_file()
client.session = Session(session=msg_id.rsplit("_", 2)[0], key=b"")
client.start_channels(stdin=False, hb=False)
client.wait_for_ready(timeout=60)
code = f"""import os, time
print("running", flush=True)
while not os.path.exists({go!r}): time.sleep(0.02)
print("finished")
17 + 1"""
request = client.session.msg("execute_request", {"code": code, "silent": False, "store_history": True, "user_expressions": {}, "allow_stdin": False, "stop_on_error": False})
request["header"]["msg_id"] = msg_id
client.shell_channel.send(request)
while client.get_iopub_msg(timeout=60)["msg_type"] != "stream": pass
"#;

#[test]
fn a_kernel_the_python_program_left_is_taken_over_in_the_middle_of_its_cell() {
    let home = Home::new();
    let dir = home.left_by_python(
        "135fc7a09da25f03",
        "alive",
        include_str!("python-home/running.sql"),
    );
    let connection = dir.join("kernel.json");
    let mut kernel = Command::new(&home.python)
        .args(["-m", "ipykernel_launcher", "-f"])
        .arg(&connection)
        .args(["--Session.key=", "--ip=127.0.0.1"])
        .process_group(0)
        .stderr(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    fs::write(dir.join("kernel.pid"), kernel.id().to_string()).unwrap();
    until("the kernel has its connection file", || {
        fs::read_to_string(&connection)
            .ok()
            .filter(|text| text.trim_end().ends_with('}'))
    });
    // As that program wrote it: without a key.
    let go = home.work().join("go");
    let journal = rusqlite::Connection::open(dir.join("journal.db")).unwrap();
    let msg_id: String = journal
        .query_row(
            "SELECT kernel_msg_id FROM executions WHERE exec_id = 'e2'",
            [],
            |row| row.get(0),
        )
        .unwrap();
    drop(journal);
    succeeded(
        Command::new(&home.python)
            .args(["-c", PREDECESSOR])
            .arg(&connection)
            .arg(&msg_id)
            .arg(&go),
    );

    let snapshot = &home.attach("alive", "0")[0];
    assert_eq!(snapshot["kernel"]["pid"], kernel.id());
    assert_eq!(snapshot["kernel"]["reattached"], true);
    assert_eq!(snapshot["executions"][1]["status"], "running");
    fs::write(&go, "").unwrap();
    let snapshot = until("both cells are done", || {
        let snapshot = home.attach("alive", "0").swap_remove(0);
        (snapshot["executions"][2]["status"] == "done").then_some(snapshot)
    });
    let running = &snapshot["executions"][1];
    assert_eq!(running["status"], "done");
    assert_eq!(running["execution_count"], 1, "as the kernel counts");
    assert_eq!(running["outputs"][0]["text"], "running\nfinished\n");
    assert_eq!(running["outputs"][1]["data"]["text/plain"], "18");
    assert_eq!(snapshot["executions"][2]["outputs"][0]["text"], "queued\n");
    home.ok(&["shutdown", "--kill-kernels"]);
    kernel.wait().unwrap();
}

#[test]
fn a_running_files_outputs_are_in_its_notebook() {
    let home = Home::new();
    let cells = [
        "x = 6\nprint('é', x)",
        "from IPython.display import display, SVG, HTML\ndisplay(SVG('<svg xmlns=\"http://www.w3.org/2000/svg\"/>'), HTML('<b>'))\nx * 7",
        "1/0",
    ];
    let text = format!(
        "# %% [markdown]\n# # Title\n\n# %%\n{}\n# %%\n{}\n\n\n#%% last\n{}",
        cells[0], cells[1], cells[2]
    );
    let file = home.work().join("a b.py");
    fs::write(&file, &text).unwrap();
    let session = format!("file://{}", file.display().to_string().replace(' ', "%20"));
    for cell in cells {
        home.tithon(&["run", "--session", &session, "-c", cell]);
    }
    let converted: Value =
        serde_json::from_str(&home.ok(&["export", "a b.py", "a.ipynb"])).unwrap();
    assert_eq!(
        converted,
        json!({"cells": 4, "destination": home.work().join("a.ipynb")})
    );
    let again = home.tithon(&["export", "a b.py", "a.ipynb"]);
    assert_eq!(again.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&again.stderr).contains("exists already"));

    for (arguments, hint) in [
        (
            ["export", "b.ipynb", "a b.py"],
            "the other way round: tithon export 'a b.py' 'b.ipynb'",
        ),
        (
            ["export", "a.ipynb", "b.py"],
            "did you mean tithon import 'a.ipynb' 'b.py'",
        ),
        (
            ["import", "b.py", "a.ipynb"],
            "the other way round: tithon import 'a.ipynb' 'b.py'",
        ),
        (["import", "a.ipynb", "b"], "tithon import SRC.ipynb DST.py"),
    ] {
        let refused = home.tithon(&arguments);
        assert_eq!(refused.status.code(), Some(2));
        let words = String::from_utf8_lossy(&refused.stderr);
        assert!(
            words.contains("the Python file to write") || words.contains("the notebook to write")
        );
        assert!(words.ends_with(&format!("hint: {hint}\n")), "{words}");
    }

    let notebook: Value =
        serde_json::from_str(&fs::read_to_string(home.work().join("a.ipynb")).unwrap()).unwrap();
    let output = |cell: usize, output: usize| &notebook["cells"][cell]["outputs"][output];
    assert_eq!(output(1, 0)["text"][0], "é 6\n");
    assert_eq!(output(2, 1)["data"]["text/html"][0], "<b>");
    assert_eq!(output(2, 2)["data"]["text/plain"][0], "42");
    assert_eq!(output(3, 0)["ename"], "ZeroDivisionError");
    for (cell, count) in [(1, 1), (2, 2), (3, 3)] {
        assert_eq!(notebook["cells"][cell]["execution_count"], count);
    }
    let validate =
        "import nbformat, sys; nbformat.validate(nbformat.read(sys.argv[1], as_version=4))";
    succeeded(
        Command::new(&home.python)
            .args(["-W", "error", "-c", validate])
            .arg(home.work().join("a.ipynb")),
    );

    home.ok(&["import", "a.ipynb", "b.py"]);
    assert_eq!(fs::read_to_string(home.work().join("b.py")).unwrap(), text);
    // Without a supervisor the sidecar has the same.
    home.ok(&["shutdown", "--kill-kernels"]);
    home.ok(&["--no-start", "export", "b.py", "b.ipynb"]);
    let mut copy: Value =
        serde_json::from_str(&fs::read_to_string(home.work().join("b.ipynb")).unwrap()).unwrap();
    assert_eq!(copy["cells"].take(), notebook["cells"]);
}

#[test]
fn a_client_converts_on_any_connection_and_starts_nothing() {
    let home = Home::new();
    fs::write(home.work().join("a.py"), "# %%\n1\n").unwrap();
    home.ok(&["run", "-c", "pass"]);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let paths = tithon_ipc::paths::Home::at(home.dir.path().join("home"));
        let op = |name: &str, source: &str, destination: &str| {
            json!({"op": name, "source": home.work().join(source), "destination": home.work().join(destination), "workdir": home.work()})
        };
        for (bound, notebook, file) in [(false, "a.ipynb", "b.py"), (true, "c.ipynb", "d.py")] {
            let mut connection = tithon_ipc::client::Connection::open(&paths).await.unwrap();
            if bound {
                connection.send(&json!({"op": "status", "session": "default"})).await.unwrap();
                connection.next().await.unwrap().unwrap();
            }
            let mut asked = Vec::new();
            for request in [op("export_notebook", "a.py", notebook), op("import_notebook", notebook, file), op("import_notebook", notebook, file)] {
                connection.send(&request).await.unwrap();
                asked.push(serde_json::from_str::<Value>(&connection.next().await.unwrap().unwrap()).unwrap());
            }
            let written = |path: &str| json!({"op": "notebook_converted", "cells": 1, "destination": home.work().join(path)});
            assert_eq!(asked[..2], [written(notebook), written(file)]);
            assert_eq!(asked[2]["op"], "error", "and the connection stays open");
            connection.send(&json!({"op": "import_notebook", "source": "a.ipynb"})).await.unwrap();
            assert!(connection.next().await.unwrap().unwrap().contains("must be an absolute path"));
            connection.send(&json!({"op": "interrupt", "session": "nobody"})).await.unwrap();
            assert!(connection.next().await.unwrap().unwrap().contains("interrupted"));
        }
    });
    assert_eq!(
        fs::read_dir(home.session("")).unwrap().count(),
        1,
        "no session but the first"
    );
}
