//! The way back for widgets: what a client does to one reaches the kernel and everybody else.

use serde_json::{Value, json};

use crate::harness::{Client, Home, kill, shown, until};

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

/// A target whose comms say back what they hear, and print it. One write each: a `print` is two.
const PARROT: &str = "\
import sys
from comm import get_comm_manager
def opened(comm, msg):
    def heard(msg):
        sys.stdout.write('heard %s\\n' % msg['content']['data']['x'])
        comm.send({'back': msg['content']['data'], 'method': 'update', 'state': {'msg_id': 'no area'}}, buffers=[b'\\x03\\x04'])
    comm.on_msg(heard)
    sys.stdout.write('opened\\n')
get_comm_manager().register_target('parrot', opened)
";

fn say(x: i64) -> Value {
    json!({"op": "comm_msg", "comm_id": "p1", "data": {"x": x}})
}

fn with_parrot() -> (Home, Client) {
    let home = Home::new();
    let (mut client, _) = home.attached();
    client.run(PARROT);
    let open = json!({"op": "comm_open", "comm_id": "p1", "target_name": "parrot"});
    assert_eq!(client.ask(&open, "comm_ack")["ok"], true);
    // ipykernel's thread for the shell channel complains of a message that comes before this is done.
    client.printed("e1", "opened\n");
    (home, client)
}

/// What is no widget's state is an event too, and changes neither mirror nor folds, although it looks like a claim.
#[test]
fn comms_of_other_targets_are_events() {
    let (home, mut client) = with_parrot();
    assert_eq!(client.ask(&say(1), "comm_ack")["ok"], true);
    let back = client.find("the answer", |frame| {
        frame["payload"]["data"]["back"]["x"] == 1
    });
    assert_eq!(
        (&back["kind"], &back["exec_id"]),
        (&json!("widget"), &Value::Null)
    );
    assert_eq!(back["payload"]["_buffers_b64"], json!(["AwQ="]));
    client.printed("e1", "heard 1\n");
    client.run("print('not in an area')");
    let events = |client: &Client| {
        let widgets = client.seen.iter().filter(|frame| frame["kind"] == "widget");
        widgets.cloned().collect::<Vec<_>>()
    };
    let kinds: Vec<_> = events(&client)
        .iter()
        .map(|event| event["payload"]["msg_type"].clone())
        .collect();
    assert_eq!(kinds, ["comm_open", "comm_msg", "comm_msg"]);
    let mut resumed = home.client();
    resumed.attach(1);
    assert_eq!(events(&resumed), events(&client));
    home.replace_worker();
    let (_, snapshot) = home.attached();
    assert_eq!(snapshot["widgets"]["state"], json!({}));
    let states = [shown(&snapshot, "e1"), shown(&snapshot, "e2")]
        .map(|cell| cell["fold_state"]["owners"].clone());
    assert_eq!(states, [json!([null]), json!([null])], "{:#?}", client.seen);
}

/// The journal says what the kernel has taken up. What it has not, and the spool does not have either, died with the
/// worker between commit and send; here a message that was sent is made into one that was not.
#[test]
fn a_message_that_died_with_its_worker_is_sent_by_the_next() {
    let (mut home, mut client) = with_parrot();
    for x in 1..=2 {
        assert_eq!(client.ask(&say(x), "comm_ack")["ok"], true);
        client.printed("e1", &format!("heard {x}\n"));
    }
    let journal = home.session().join("journal.db");
    let open = || rusqlite::Connection::open(&journal).unwrap();
    let last = "SELECT max(msg_seq) FROM messages WHERE instr(content_json, 'tithon_from')";
    let is_heard = format!("SELECT value = ({last}) FROM meta WHERE key = 'comms_heard'");
    until("the kernel's word that it heard the last message", || {
        open()
            .query_row(&is_heard, [], |row| row.get::<_, bool>(0))
            .unwrap()
            .then_some(())
    });
    home.kill_supervisor();
    kill(home.worker_pid());
    open()
        .execute_batch(&format!(
            "UPDATE meta SET value = ({last}) - 1 WHERE key = 'comms_heard';
             UPDATE messages SET content_json = replace(content_json, '\"x\": 2', '\"x\": 4') WHERE msg_seq = ({last});"
        ))
        .unwrap();
    home.start(&[]);
    let (mut client, _) = home.attached();
    // One that is sent meanwhile comes behind it.
    assert_eq!(client.ask(&say(3), "comm_ack")["ok"], true);
    client.printed("e1", "heard 3\n");
    let text = || shown(&home.attached().1, "e1")["outputs"][0]["text"].clone();
    let all = "opened\nheard 1\nheard 2\nheard 4\nheard 3\n";
    assert_eq!(text(), all);
    // And once only.
    home.replace_worker();
    let (mut client, _) = home.attached();
    client.run("None");
    assert_eq!(text(), all);
}
