//! The way back for widgets: what a client does to one reaches the kernel and everybody else.

use serde_json::{Value, json};

use crate::harness::{Client, Home, shown};

/// A slider whose observer prints.
const SLIDER: &str = "\
import ipywidgets, IPython.display
slider = ipywidgets.IntSlider(value=3, max=100)
slider.observe(lambda change: print('moved to', change['new']), names='value')
IPython.display.display(slider)
";

fn slider_id(snapshot: &Value) -> String {
    let models = snapshot["widgets"]["state"].as_object().unwrap();
    models
        .iter()
        .find(|(_, model)| model["model_name"] == "IntSliderModel")
        .unwrap_or_else(|| panic!("no slider in {models:?}"))
        .0
        .clone()
}

fn drag(client: &mut Client, comm_id: &str, value: i64) -> Value {
    client.ask(
        &json!({"op": "comm_msg", "comm_id": comm_id, "req_id": value,
            "data": {"method": "update", "state": {"value": value}, "buffer_paths": []}}),
        "comm_ack",
    )
}

fn value_of(snapshot: &Value, comm_id: &str) -> Value {
    snapshot["widgets"]["state"][comm_id]["state"]["value"].clone()
}

#[test]
fn a_moved_slider_reaches_the_kernel_the_mirror_and_the_other_clients() {
    let home = Home::new();
    let (mut mover, _) = home.attached();
    let (cell, _) = mover.run(SLIDER);
    let (mut watcher, snapshot) = home.attached();
    let slider = slider_id(&snapshot);
    let resume_from = snapshot["max_seq"].as_i64().unwrap();

    let ack = drag(&mut mover, &slider, 42);

    assert_eq!((&ack["ok"], &ack["req_id"]), (&json!(true), &json!(42)));
    let echoed = watcher.wait("the echo", |frame| frame["kind"] == "widget");
    assert_eq!(echoed["payload"]["comm_id"], slider.as_str());
    assert_eq!(echoed["payload"]["data"]["state"]["value"], 42);
    assert_eq!(echoed["payload"]["tithon_from"], "client");
    // What the observer printed is shown where the slider is, although its cell is done.
    assert_eq!(watcher.printed(&cell, "moved to 42\n"), "moved to 42\n");
    // The kernel believes it too.
    let (asked, _) = mover.run("print('it is', slider.value)");
    assert!(mover.printed(&asked, "\n").starts_with("it is 42"));

    // Fresh, resumed, and after the worker was replaced: the same.
    let (_, fresh) = home.attached();
    let mut resumed = home.client();
    resumed.attach(resume_from);
    home.replace_worker();
    let (_, replaced) = home.attached();
    for snapshot in [&fresh, &replaced] {
        assert_eq!(value_of(snapshot, &slider), 42);
        let outputs = shown(snapshot, &cell)["outputs"].as_array().unwrap();
        assert_eq!(
            outputs.last().unwrap()["text"],
            "moved to 42\n",
            "{outputs:?}"
        );
    }
    let live: Vec<_> = watcher
        .seen
        .iter()
        .filter(|f| f["kind"] == "widget")
        .collect();
    let again: Vec<_> = resumed
        .seen
        .iter()
        .filter(|f| f["kind"] == "widget")
        .collect();
    assert_eq!(live, again[..live.len()]);
}

#[test]
fn an_adopted_kernel_takes_comm_messages_as_before() {
    let home = Home::new();
    let (mut client, _) = home.attached();
    let (cell, _) = client.run(SLIDER);
    home.replace_worker();
    let (mut client, snapshot) = home.attached();
    let slider = slider_id(&snapshot);
    drag(&mut client, &slider, 7);
    assert!(client.printed(&cell, "moved to 7\n").contains("moved to 7"));
}

#[test]
fn handlers_that_write_to_an_output_area_write_there() {
    let home = Home::new();
    let (mut client, _) = home.attached();
    let (cell, done) = client.run(
        "import ipywidgets, IPython.display\n\
         slider, area = ipywidgets.IntSlider(max=100), ipywidgets.Output()\n\
         def moved(change):\n    with area: print('inside', change['new'])\n\
         slider.observe(moved, names='value')\n\
         IPython.display.display(slider, area)",
    );
    assert_eq!(done["status"], "ok");
    let (mut client, snapshot) = home.attached();
    let slider = slider_id(&snapshot);
    drag(&mut client, &slider, 5);
    client.printed(&cell, "inside 5\n");
    let (_, snapshot) = home.attached();
    let shown = shown(&snapshot, &cell);
    let outputs = shown["outputs"].as_array().unwrap();
    let at = outputs
        .iter()
        .position(|o| o["text"] == "inside 5\n")
        .unwrap();
    let owner = shown["fold_state"]["owners"][at].as_str().unwrap();
    assert_eq!(
        snapshot["widgets"]["state"][owner]["model_name"],
        "OutputModel"
    );
}

#[test]
fn buffers_arrive_as_bytes() {
    let home = Home::new();
    let (mut client, _) = home.attached();
    client.run(
        "from comm import get_comm_manager\n\
         def opened(comm, msg):\n\
         \x20   comm.on_msg(lambda msg: print([bytes(b) for b in msg['buffers']], msg['content']['data'], msg['metadata']))\n\
         get_comm_manager().register_target('mine', opened)",
    );
    let open = json!({"op": "comm_open", "comm_id": "c1", "target_name": "mine"});
    assert_eq!(client.ask(&open, "comm_ack")["ok"], true);
    let say = json!({"op": "comm_msg", "comm_id": "c1", "data": {"x": 1}, "metadata": {"v": 2}, "buffers": ["AwQ=", ""]});
    assert_eq!(client.ask(&say, "comm_ack")["ok"], true);
    client.printed("e1", "[b'\\x03\\x04', b''] {'x': 1} {'v': 2}\n");
    let close = json!({"op": "comm_close", "comm_id": "c1"});
    assert_eq!(client.ask(&close, "comm_ack")["ok"], true);
    assert_eq!(client.ask(&say, "comm_ack")["ok"], false);
}

#[test]
fn a_comm_that_is_not_there_is_refused_and_named() {
    let home = Home::new();
    let (mut client, _) = home.attached();
    client.run("1");
    let ack = drag(&mut client, "nowhere", 1);
    assert_eq!(ack["ok"], false);
    assert!(
        ack["message"].as_str().unwrap().contains("nowhere"),
        "{ack}"
    );
    // The connection goes on, and a kernel without a process takes nothing.
    let (_, done) = client.run("import os, signal; os.kill(os.getpid(), signal.SIGKILL)");
    assert_eq!(done["status"], "error");
    client.wait("death", |frame| frame["payload"]["status"] == "dead");
    let ack = drag(&mut client, "nowhere", 1);
    assert!(
        ack["message"].as_str().unwrap().contains("not running"),
        "{ack}"
    );
}
