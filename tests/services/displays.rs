//! Displays and output areas: seen live, from the middle, from a snapshot and after a restart of
//! everything but the kernel, they are the same.

use serde_json::{Value, json};

use crate::harness::{Client, Home, shown};

/// What a cell shows, to whoever comes.
fn outputs(home: &Home, cell: &str) -> Value {
    shown(&home.attached().1, cell)["outputs"].clone()
}

fn events(client: &Client) -> Vec<&Value> {
    let events = client.seen.iter().filter(|frame| frame["op"] == "event");
    events.collect()
}

/// That a client resuming in the middle gets what a live one got, and that a new worker and a new
/// supervisor show what the old ones did.
fn is_the_same_from_everywhere(mut home: Home, live: &mut Client, cells: &[String]) {
    live.run("None");
    let seen = events(live);
    let middle = seen[seen.len() / 2]["seq"].as_i64().unwrap();
    let mut resumed = home.client();
    resumed.attach(middle);
    let after: Vec<_> = seen
        .iter()
        .filter(|event| event["seq"].as_i64().unwrap() > middle)
        .copied()
        .collect();
    assert_eq!(after, events(&resumed));
    let before: Vec<_> = cells.iter().map(|cell| outputs(&home, cell)).collect();
    home.replace_worker();
    home.kill_supervisor();
    home.start(&[]);
    let replaced: Vec<_> = cells.iter().map(|cell| outputs(&home, cell)).collect();
    assert_eq!(before, replaced);
}

#[test]
fn a_display_is_updated_where_it_is_shown_also_after_its_cell() {
    let home = Home::new();
    let (mut client, _) = home.attached();
    let (owner, _) = client.run(
        "from IPython.display import display, update_display\n\
         handle = display('first', display_id='d')\n\
         import threading; go = threading.Event()\n\
         def late():\n    go.wait(50); update_display('from a thread', display_id='d'); print('said late')\n\
         threading.Thread(target=late).start()",
    );
    let (other, _) = client.run("update_display('second', display_id='d'); print('elsewhere')");
    assert_eq!(outputs(&home, &owner)[0]["data"]["text/plain"], "'second'");
    let moved = client
        .seen
        .iter()
        .find(|frame| frame["payload"]["msg_type"] == "update_display_data")
        .unwrap();
    assert_eq!(moved["exec_id"], owner.as_str());
    client.run("go.set()");
    client.find("the thread's update", |frame| {
        frame["payload"]["content"]["data"]["text/plain"] == "'from a thread'"
    });
    client.find("the thread's text", |frame| {
        let text = frame["payload"]["content"]["text"].as_str();
        text.is_some_and(|text| text.starts_with("said late"))
    });
    assert_eq!(
        outputs(&home, &owner)[0]["data"]["text/plain"],
        "'from a thread'"
    );
    assert_eq!(
        outputs(&home, &other),
        json!([{"output_type": "stream", "name": "stdout", "text": "elsewhere\n"}])
    );
    is_the_same_from_everywhere(home, &mut client, &[owner, other]);
}

#[test]
fn a_bar_beside_a_redrawn_area_survives() {
    let home = Home::new();
    let (mut client, _) = home.attached();
    let (cell, done) = client.run(
        "import ipywidgets; from IPython.display import display, clear_output; from tqdm.auto import tqdm\n\
         outer, inner = ipywidgets.Output(), ipywidgets.Output()\n\
         display(outer)\n\
         with outer:\n    print('kept'); display(inner)\n\
         for n in tqdm(range(2000)):\n\
         \x20   if n % 500 == 0:\n\
         \x20       with inner:\n            clear_output(wait=True); print('drawn', n)\n\
         with outer:\n    print('outer again')\n\
         print('end')",
    );
    assert_eq!(done["status"], "ok");
    let (_, snapshot) = home.attached();
    let cell_shown = shown(&snapshot, &cell);
    let texts: Vec<_> = cell_shown["outputs"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|output| output["text"].as_str())
        .collect();
    assert!(
        texts.contains(&"drawn 1500\n") && texts.contains(&"end\n"),
        "{texts:?}"
    );
    assert!(
        !texts.iter().any(|text| text.contains("drawn 0")),
        "{texts:?}"
    );
    let bar = snapshot["widgets"]["state"]
        .as_object()
        .unwrap()
        .values()
        .find(|model| model["model_name"] == "FloatProgressModel")
        .unwrap();
    assert_eq!(bar["state"]["value"], 2000.0);
    is_the_same_from_everywhere(home, &mut client, &[cell]);
}
