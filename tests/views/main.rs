//! Everything that is part of a session's state, once per subject: a client that was there from the beginning, one that
//! came back in the middle with its last seq, one that comes now, and those that come after the supervisor and the worker
//! were killed and replaced all end with the same.
//!
//! Questions to the kernel (complete, inspect, …) leave nothing in a session, so there is nothing to compare; they are
//! tested in `services`.

#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "in a test a panic is the report, and it is written to stderr"
)]

mod everyone;
#[path = "../harness/mod.rs"]
mod harness;
mod view;

/// A fold as the protocol describes it, and as a client does it; the worker's own is tested against it too.
#[path = "../../worker/src/fold/tests/naive.rs"]
mod naive;

use std::{fs, io::Write as _, process::Stdio};

use everyone::Everyone;
use harness::{Home, RICH, until};
use serde_json::{Value, json};

/// A message as a fold takes it.
type Message = (&'static str, Value);

fn home() -> Home {
    let mut home = Home::empty().with_python(RICH);
    home.start();
    home
}

#[test]
fn rich_output() {
    let mut everyone = Everyone::of(home(), "default");
    let cell = everyone.ok("import io, matplotlib; matplotlib.use('agg')\n\
         import matplotlib.pyplot as plt, pandas as pd\n\
         from IPython.display import display, Image, SVG\n\
         def figure(n):\n\
         \x20   fig, ax = plt.subplots(figsize=(1, 1)); ax.plot(range(n)); out = io.BytesIO()\n\
         \x20   fig.savefig(out, format='png'); plt.close(fig); return Image(out.getvalue())\n\
         display(figure(3), SVG('<svg xmlns=\"http://www.w3.org/2000/svg\"/>'))\n\
         live = display(figure(1), display_id=True)\n\
         for n in range(2, 12): live.update(figure(n))\n\
         pd.DataFrame({'city': ['Köln', 'Łódź'], 'n': [1, 2]})");
    everyone.agree();
    let shown = everyone.shown(&cell);
    let images: Vec<&Value> = shown
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|output| output["data"].as_object().unwrap().values())
        .filter_map(|value| value.get("$tithon_artifact"))
        .collect();
    assert_eq!(images.len(), 3, "{shown}");
    assert!(
        shown[3]["data"]["text/html"]
            .as_str()
            .unwrap()
            .contains("Łódź")
    );
    let mut client = everyone.home.client();
    for image in &images {
        let got = json!({"op": "get_artifact", "artifact_id": image["artifact_id"]});
        assert_eq!(client.ask(&got, "artifact")["found"], true, "{image}");
    }
    // What a plot showed on its way is gone.
    until("one file for each image that is shown", || {
        let files = fs::read_dir(everyone.home.work().join(".tithon/outputs")).ok()?;
        (files.count() == images.len()).then_some(())
    });
}

#[test]
fn displays() {
    let mut everyone = Everyone::of(home(), "default");
    let owner = everyone.ok(
        "from IPython.display import display, update_display\n\
         import sys, threading; go = threading.Event()\n\
         display('first', display_id='d')\n\
         def late():\n\x20   go.wait(); update_display('from a thread', display_id='d'); sys.stdout.write('late\\n')\n\
         threading.Thread(target=late).start()",
    );
    let other =
        everyone.ok("update_display('second', display_id='d'); display('again', display_id='e')");
    everyone.ok("update_display('nobody has it', display_id='x'); go.set()");
    everyone.see("the thread's text", |event| {
        event["payload"]["content"]["text"] == "late\n"
    });
    everyone.agree();
    let shown = everyone.shown(&owner);
    assert_eq!(shown[0]["data"]["text/plain"], "'from a thread'");
    assert_eq!(shown[1]["text"], "late\n", "{shown}");
    assert_eq!(everyone.shown(&other)[0]["display_id"], "e");
}

#[test]
fn output_areas() {
    let mut everyone = Everyone::of(home(), "default");
    let cell = everyone.ok(
        "import io, sys, ipywidgets as w, matplotlib; matplotlib.use('agg')\n\
         import matplotlib.pyplot as plt\n\
         from IPython.display import display, clear_output, Image\n\
         from tqdm import tqdm\n\
         outer, plot = w.Output(), w.Output(); display(outer)\n\
         with outer:\n\x20   print('kept'); display(plot)\n\
         for n in tqdm(range(6), file=sys.stdout, mininterval=0):\n\
         \x20   with plot:\n\
         \x20       clear_output(wait=True)\n\
         \x20       fig, ax = plt.subplots(figsize=(1, 1)); ax.plot(range(n)); out = io.BytesIO()\n\
         \x20       fig.savefig(out, format='png'); plt.close(fig); display(Image(out.getvalue()))\n\
         with outer:\n\x20   print('outer again'); clear_output(wait=True)",
    );
    // A clear that waits is still to come when everybody looks.
    everyone.agree();
    let shown = everyone.shown(&cell).to_string();
    assert!(shown.contains("6/6"), "{shown}");
    assert_eq!(shown.matches("$tithon_artifact").count(), 1, "{shown}");
    everyone.ok("with outer: print('all that is left')");
    everyone.agree();
}

#[test]
fn widgets_and_the_way_back() {
    let mut everyone = Everyone::of(home(), "default");
    everyone.ok(
        "import sys, ipywidgets as w; from IPython.display import display\n\
         from tqdm.notebook import tqdm\n\
         for n in tqdm(range(50_000)): pass\n\
         slider, button = w.IntSlider(value=3), w.Button(description='press')\n\
         picture = w.Image(value=bytes([1, 2, 3]))\n\
         slider.observe(lambda change: print('moved to', change['new']), names='value')\n\
         button.on_click(lambda _: sys.stdout.write('pressed\\n'))\n\
         button.on_msg(lambda _, content, buffers: button.send({'heard': content}))\n\
         display(slider, button, picture)",
    );
    let model = |everyone: &Everyone, name: &str| {
        let state = everyone.now().widgets();
        let models = state.as_object().unwrap();
        let found = models
            .iter()
            .find(|(_, model)| model["state"]["_model_name"] == name);
        found
            .unwrap_or_else(|| panic!("no {name} in {state}"))
            .0
            .clone()
    };
    let (slider, button) = (
        model(&everyone, "IntSliderModel"),
        model(&everyone, "ButtonModel"),
    );
    for op in [
        json!({"op": "comm_msg", "comm_id": slider, "data": {"method": "update", "state": {"value": 42}, "buffer_paths": []}}),
        json!({"op": "comm_msg", "comm_id": button, "data": {"method": "custom", "content": {"event": "click"}}}),
    ] {
        assert_eq!(everyone.ask(&op, "comm_ack")["ok"], true);
    }
    everyone.see("the press", |event| {
        event["payload"]["content"]["text"] == "pressed\n"
    });
    everyone.see("what the button says", |event| {
        event["kind"] == "widget"
            && event["payload"]["data"]["content"]["heard"]["event"] == "click"
    });
    everyone.ok("picture.value = bytes([9, 8]); slider.close()");
    everyone.agree();
    let state = everyone.now().widgets();
    assert!(state.get(&slider).is_none(), "{state}");
    let bar = model(&everyone, "FloatProgressModel");
    assert_eq!(state[&bar]["state"]["value"], 50_000.0);
    let picture = model(&everyone, "ImageModel");
    assert_eq!(state[&picture]["buffers"][0]["data"], "CQg=");
    // No ghosts of a kernel that is gone.
    everyone.ask(&json!({"op": "restart_kernel"}), "kernel_restarted");
    everyone.agree();
    assert_eq!(everyone.now().widgets(), json!({}));
}

#[test]
fn prompts() {
    let mut everyone = Everyone::of(home(), "default");
    let submit = |everyone: &mut Everyone, code: &str| {
        everyone.submit(&json!({"op": "execute", "code": code, "allow_stdin": true}))
    };
    let asked = |event: &Value| event["kind"] == "input_request";
    let cell = submit(&mut everyone, "name = input('who? '); print('it is', name)");
    everyone.see("the prompt", asked);
    everyone.agree();
    // Also after everything was replaced, any client may answer.
    let mut other = everyone.home.attached("default", -1);
    assert_eq!(
        other.ask(&json!({"op": "input_reply", "value": "Ada"}), "input_ack")["ok"],
        true
    );
    everyone.done(&cell);
    assert_eq!(everyone.now().shown(&cell)[0]["text"], "it is Ada\n");
    let cell = submit(
        &mut everyone,
        "from getpass import getpass; getpass('secret? ')",
    );
    everyone.see("the second prompt", |event| {
        event["payload"]["password"] == true
    });
    assert_eq!(
        everyone.ask(&json!({"op": "interrupt"}), "interrupted")["ok"],
        true
    );
    assert_eq!(everyone.done(&cell)["status"], "error");
    everyone.agree();
}

#[test]
fn batches() {
    let mut everyone = Everyone::of(home(), "default");
    let mut run = |cells: &[&str], stop_on_error: bool| {
        let cells: Vec<_> = cells
            .iter()
            .enumerate()
            .map(|(at, code)| json!({"code": code, "origin": {"uri": "file:///a.py", "index": at, "range": {"start": at, "end": at}}}))
            .collect();
        let op = json!({"op": "execute_batch", "cells": cells, "stop_on_error": stop_on_error});
        let ack = everyone.ask(&op, "execute_ack");
        let ids: Vec<String> = serde_json::from_value(ack["exec_ids"].clone()).unwrap();
        let ends = ids.iter().map(|id| everyone.done(id)["status"].clone());
        ends.collect::<Vec<_>>()
    };
    assert_eq!(
        run(&["print(1)", "1/0", "print(2)", "3"], true),
        ["ok", "error", "skipped", "skipped"]
    );
    assert_eq!(run(&["1/0", "print('goes on')"], false), ["error", "ok"]);
    everyone.agree();
}

#[test]
fn lifecycle() {
    let mut everyone = Everyone::of(home(), "default");
    everyone.ok("x = 1");
    let cell = everyone
        .submit(&json!({"op": "execute", "code": "import sys; sys.stdout.write('on\\n')\nwhile True: pass"}));
    everyone.see("that it runs", |event| {
        event["payload"]["content"]["text"] == "on\n"
    });
    everyone.ask(&json!({"op": "interrupt"}), "interrupted");
    assert_eq!(everyone.done(&cell)["status"], "error");
    everyone.agree();
    let cell = everyone.submit(&json!({"op": "execute", "code": "print('last words', flush=True)\nimport os; os._exit(7)"}));
    assert_eq!(everyone.done(&cell)["status"], "error");
    everyone.see("the death", |event| event["payload"]["status"] == "dead");
    // For a later worker the dead kernel is not there: it would start another.
    everyone.ask(&json!({"op": "restart_kernel"}), "kernel_restarted");
    let waiting =
        everyone.submit(&json!({"op": "execute", "code": "import time; time.sleep(600)"}));
    let queued = everyone.submit(&json!({"op": "execute", "code": "'never'"}));
    everyone.ask(&json!({"op": "restart_kernel"}), "kernel_restarted");
    for cell in [waiting, queued] {
        assert_eq!(everyone.done(&cell)["status"], "orphaned");
    }
    everyone.agree();
}

#[test]
fn the_shared_sidecar() {
    let home = home();
    let project = home.work().canonicalize().unwrap();
    let (file, sidecar) = (
        project.join("a.py"),
        project.join(".tithon/cells/a.py.json"),
    );
    fs::write(&file, "").unwrap();
    let session = format!("file://{}", file.display());
    let mut everyone = Everyone::in_project(home, &session, &project);
    let cell = everyone.ok(
        "import ipywidgets as w, matplotlib.pyplot as plt; from IPython.display import display\n\
         display(w.IntSlider(value=5)); plt.figure(figsize=(1, 1)); plt.plot([1, 2]); plt.show(); print('shared')",
    );
    everyone.agree();
    let text = until("the sidecar", || {
        fs::read_to_string(&sidecar)
            .ok()
            .filter(|text| text.contains("shared") && text.contains("IntSliderModel"))
    });
    // Another home of somebody who got the project: the same is shown, also by its later workers.
    let mut others = Everyone::in_project(self::home(), &session, &project);
    assert_eq!(others.now().shown(&cell), everyone.now().shown(&cell));
    let slider = |everyone: &Everyone| {
        let widgets = everyone.now().widgets();
        let models = widgets
            .as_object()
            .unwrap()
            .values()
            .cloned()
            .collect::<Vec<_>>();
        models
            .into_iter()
            .find(|model| model["state"]["_model_name"] == "IntSliderModel")
            .unwrap()
    };
    assert_eq!(slider(&others)["state"]["value"], 5);
    others.agree();
    others.ask(&json!({"op": "restart_kernel"}), "kernel_restarted");
    others.agree();
    assert_eq!(slider(&others)["state"]["value"], 5);
    assert_eq!(
        fs::read_to_string(&sidecar).unwrap(),
        text,
        "looking changes nothing"
    );
}

#[test]
fn retention() {
    let mut home = Home::empty().with_python(RICH);
    home.set("TITHON_HISTORY_RETENTION_DAYS", "0.0000001");
    home.set("TITHON_RETENTION_POLL", "0.2");
    home.start();
    let mut everyone = Everyone::of(home, "default");
    let cell =
        everyone.ok("from tqdm import tqdm\nfor n in tqdm(range(300), mininterval=0): print(n)");
    everyone.ok("print('newer')");
    // Not while somebody is still to read it: the live client has.
    let everyones = &everyone;
    until("raw output to be deleted", || {
        let floor: i64 = everyones
            .home
            .journal("default")
            .0
            .query_row(
                "SELECT CAST(value AS INTEGER) FROM meta WHERE key = 'history_floor'",
                [],
                |row| row.get(0),
            )
            .ok()?;
        (floor > 0).then_some(())
    });
    everyone.agree();
    assert!(everyone.shown(&cell).to_string().contains("299"));
}

#[test]
fn cells_of_other_jupyter_programs() {
    let mut everyone = Everyone::of(home(), "default");
    everyone.ok("shared = 6");
    let program = "import sys, jupyter_client\n\
        client = jupyter_client.BlockingKernelClient(connection_file=sys.argv[1])\n\
        client.load_connection_file(); client.start_channels(); client.wait_for_ready(timeout=60)\n\
        for line in sys.stdin: client.execute_interactive(line, allow_stdin=False, output_hook=lambda message: None)\n";
    let mut child = std::process::Command::new(RICH.interpreter())
        .args(["-c", program])
        .arg(everyone.home.session("default").join("kernel.json"))
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin
        .write_all(b"print(shared * 7)\n1/0\n[shared]\n")
        .unwrap();
    drop(stdin);
    assert!(child.wait().unwrap().success());
    for (cell, status) in [("e2", "ok"), ("e3", "error"), ("e4", "ok")] {
        assert_eq!(everyone.done(cell)["status"], status);
    }
    everyone.agree();
    assert_eq!(everyone.shown("e2")[0]["text"], "42\n");
}

#[test]
fn a_home_of_the_python_program() {
    let mut home = Home::empty().with_python(RICH);
    let dir = home.root().join("sessions/default");
    fs::create_dir_all(&dir).unwrap();
    fs::write(
        dir.join("meta.json"),
        json!({"session_id": "default", "workdir": home.work()}).to_string(),
    )
    .unwrap();
    let journal = rusqlite::Connection::open(dir.join("journal.db")).unwrap();
    journal
        .execute_batch(include_str!("../python-home/session.sql"))
        .unwrap();
    let shared = json!({"version_major": 2, "version_minor": 0, "state": {"old": {
        "model_name": "IntSliderModel", "model_module": "@jupyter-widgets/controls", "model_module_version": "2.0.0",
        "state": {"_model_name": "IntSliderModel", "value": 11}, "buffers": []}}});
    journal
        .execute(
            "INSERT OR REPLACE INTO meta(key, value) VALUES ('imported_widgets', ?1)",
            [shared.to_string()],
        )
        .unwrap();
    drop(journal);
    home.start();
    let mut everyone = Everyone::of(home, "default");
    // The widgets that its imported outputs show are there from the first snapshot on.
    assert_eq!(everyone.now().widgets()["old"]["state"]["value"], 11);
    everyone.ok("print('goes on')");
    everyone.agree();
    assert_eq!(everyone.now().widgets()["old"]["state"]["value"], 11);
}
