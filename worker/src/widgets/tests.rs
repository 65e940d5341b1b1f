//! The mirror as seen from outside: what it accepts, what it then shows, and that no way to it leads elsewhere.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

const NO_BUFFERS: &[&[u8]] = &[];

fn snapshot(mirror: &WidgetMirror) -> Value {
    serde_json::from_str(&mirror.snapshot_json()).unwrap()
}

fn model(mirror: &WidgetMirror, comm_id: &str) -> Value {
    snapshot(mirror)["state"][comm_id].clone()
}

fn open(comm_id: &str, data: Value) -> (&'static str, Value) {
    (
        "comm_open",
        json!({"comm_id": comm_id, "target_name": "jupyter.widget", "data": data}),
    )
}

fn update(comm_id: &str, state: Value, buffer_paths: Value) -> (&'static str, Value) {
    let data = json!({"method": "update", "state": state, "buffer_paths": buffer_paths});
    ("comm_msg", json!({"comm_id": comm_id, "data": data}))
}

fn close(comm_id: &str) -> (&'static str, Value) {
    ("comm_close", json!({"comm_id": comm_id, "data": {}}))
}

fn accepts(
    mirror: &mut WidgetMirror,
    (msg_type, content): (&str, Value),
    buffers: &[&[u8]],
) -> bool {
    mirror.accepts_and_apply(msg_type, &content.to_string(), buffers)
}

fn with_model(state: Value) -> WidgetMirror {
    let mut mirror = WidgetMirror::new();
    assert!(accepts(
        &mut mirror,
        open("a", json!({"state": state})),
        NO_BUFFERS
    ));
    mirror
}

/// Byte for byte: the form a notebook keeps, in Python's style, values as the kernel wrote them.
#[test]
fn snapshot_form() {
    let mut mirror = WidgetMirror::new();
    assert_eq!(
        mirror.snapshot_json(),
        r#"{"version_major": 2, "version_minor": 0, "state": {}}"#
    );
    let content = r#"{"comm_id": "aa34", "target_name": "jupyter.widget", "data": {"state":
        {"_model_name": "ImageModel", "_model_module": "@jupyter-widgets/controls", "width":1.50, "x\n": null},
        "buffer_paths": [["value"], ["frames", 0]]}}"#;
    assert!(mirror.accepts_and_apply("comm_open", content, &[[3, 4], [5, 6]]));
    assert_eq!(
        mirror.snapshot_json(),
        concat!(
            r#"{"version_major": 2, "version_minor": 0, "state": {"aa34": {"model_name": "ImageModel", "#,
            r#""model_module": "@jupyter-widgets/controls", "model_module_version": "", "#,
            r#""state": {"_model_module": "@jupyter-widgets/controls", "_model_name": "ImageModel", "width": 1.50, "x\n": null}, "#,
            r#""buffers": [{"encoding": "base64", "path": ["frames", 0], "data": "BQY="}, "#,
            r#"{"encoding": "base64", "path": ["value"], "data": "AwQ="}]}}}"#,
        )
    );
}

#[test]
fn only_well_formed_widget_comms_are_accepted() {
    let state = json!({"value": 1});
    let mut mirror = with_model(state.clone());
    let before = mirror.snapshot_json();
    let msg = |data: Value| ("comm_msg", json!({"comm_id": "a", "data": data}));
    for (msg_type, content) in [
        (
            "comm_open",
            json!({"comm_id": "b", "target_name": "jupyter.other", "data": {}}),
        ),
        ("comm_open", json!({"comm_id": "b", "data": {"state": {}}})),
        (
            "comm_open",
            json!({"comm_id": "", "target_name": "jupyter.widget", "data": {}}),
        ),
        (
            "comm_open",
            json!({"target_name": "jupyter.widget", "data": {}}),
        ),
        ("comm_open", json!(["b", "jupyter.widget", {}])),
        open("b", json!({"state": []})),
        open("b", json!({"state": {}, "buffer_paths": [1]})),
        open("b", json!({"state": {}, "buffer_paths": {}})),
        open("a", json!("data")),
        update("unknown", json!({}), json!([])),
        update("a", json!("x"), json!([])),
        update("a", json!({"value": 2}), json!(["value"])),
        msg(json!({"method": "custom", "content": {"event": "click"}})),
        msg(json!({"method": "request_state"})),
        msg(json!({"state": {"value": 2}})),
        msg(json!([{"method": "update"}, {"value": 2}])),
        close("unknown"),
        (
            "stream",
            json!({"comm_id": "a", "data": {"method": "update", "state": {"value": 2}}}),
        ),
    ] {
        assert!(
            !accepts(&mut mirror, (msg_type, content.clone()), NO_BUFFERS),
            "{msg_type} {content}"
        );
        assert_eq!(mirror.snapshot_json(), before, "{msg_type} {content}");
    }
    assert!(!mirror.accepts_and_apply("comm_msg", "{\"comm_id\": \"a\"", NO_BUFFERS));
    for accepted in [
        open("c", json!({})),
        (
            "comm_open",
            json!({"comm_id": "d", "target_name": "jupyter.widget"}),
        ),
    ] {
        assert!(accepts(&mut mirror, accepted, NO_BUFFERS));
    }
    assert!(accepts(
        &mut mirror,
        msg(json!({"method": "echo_update"})),
        NO_BUFFERS
    ));
    assert!(accepts(&mut mirror, close("a"), NO_BUFFERS));
    assert!(!accepts(&mut mirror, close("a"), NO_BUFFERS));
    assert_eq!(mirror.len(), 2);
}

#[test]
fn open_replaces_and_update_merges() {
    let mut mirror = with_model(json!({"value": 1, "layout": {"width": "1px", "height": "2px"}}));
    assert!(accepts(
        &mut mirror,
        update(
            "a",
            json!({"value": 2, "layout": {"width": "3px"}}),
            json!([])
        ),
        NO_BUFFERS
    ));
    assert!(accepts(
        &mut mirror,
        update("a", json!({"new": null}), json!([])),
        NO_BUFFERS
    ));
    let merged = json!({"value": 2, "layout": {"width": "3px"}, "new": null});
    assert_eq!(model(&mirror, "a")["state"], merged);
    assert!(accepts(
        &mut mirror,
        open("a", json!({"state": {"other": 0}})),
        NO_BUFFERS
    ));
    assert_eq!(model(&mirror, "a")["state"], json!({"other": 0}));
}

#[test]
fn a_bar_of_many_steps_is_one_model() {
    let mut mirror = with_model(json!({"max": 50_000}));
    for step in 1..=50_000 {
        assert!(accepts(
            &mut mirror,
            update("a", json!({"value": step}), json!([])),
            NO_BUFFERS
        ));
    }
    assert_eq!(
        model(&mirror, "a")["state"],
        json!({"max": 50_000, "value": 50_000})
    );
    assert_eq!(mirror.len(), 1);
}

fn buffers(mirror: &WidgetMirror) -> Vec<(String, String)> {
    let buffers = model(mirror, "a")["buffers"].as_array().unwrap().clone();
    let show = |buffer: Value| {
        (
            buffer["path"].to_string(),
            buffer["data"].as_str().unwrap().to_owned(),
        )
    };
    buffers.into_iter().map(show).collect()
}

#[test]
fn buffers_are_kept_per_path() {
    let mut mirror = with_model(json!({}));
    let one: &[&[u8]] = &[b"1"];
    assert!(accepts(
        &mut mirror,
        update("a", json!({}), json!([["x"], ["no buffer"]])),
        one
    ));
    assert!(accepts(
        &mut mirror,
        update("a", json!({}), json!([["y", "k", 0]])),
        &[b"2", b"no path"]
    ));
    let shown = |path: &str, data: &str| (path.to_owned(), data.to_owned());
    assert_eq!(
        buffers(&mirror),
        [shown(r#"["x"]"#, "MQ=="), shown(r#"["y","k",0]"#, "Mg==")]
    );
    assert!(accepts(
        &mut mirror,
        update("a", json!({}), json!([["x"]])),
        &[b"3"]
    ));
    assert_eq!(buffers(&mirror)[0], shown(r#"["x"]"#, "Mw=="));
    // Paths that begin with no trait have no place in a state.
    assert!(accepts(
        &mut mirror,
        update("a", json!({}), json!([[], [0]])),
        &[b"4", b"5"]
    ));
    assert_eq!(buffers(&mirror).len(), 2);
}

#[test]
fn a_new_value_takes_its_old_buffers_with_it() {
    let mut mirror = with_model(json!({}));
    let two: &[&[u8]] = &[b"1", b"2"];
    let frames = update(
        "a",
        json!({"frames": [null, null]}),
        json!([["frames", 0], ["frames", 1]]),
    );
    assert!(accepts(&mut mirror, frames, two));
    assert!(accepts(
        &mut mirror,
        update("a", json!({"value": 1}), json!([["x"]])),
        &[b"x"]
    ));
    assert_eq!(buffers(&mirror).len(), 3);
    assert!(accepts(
        &mut mirror,
        update("a", json!({"frames": [null]}), json!([["frames", 0]])),
        &[b"3"]
    ));
    let shown = |path: &str, data: &str| (path.to_owned(), data.to_owned());
    assert_eq!(
        buffers(&mirror),
        [shown(r#"["frames",0]"#, "Mw=="), shown(r#"["x"]"#, "eA==")]
    );
}

#[test]
fn a_reset_forgets_every_model() {
    let mut mirror = with_model(json!({"value": 1}));
    mirror.reset();
    assert!(mirror.is_empty());
    assert!(
        !accepts(&mut mirror, update("a", json!({}), json!([])), NO_BUFFERS),
        "a ghost of the old kernel"
    );
}

#[test]
fn lone_surrogates_cost_no_widget() {
    let mut mirror = WidgetMirror::new();
    let content = r#"{"comm_id": "a", "target_name": "jupyter.widget", "\ud800": 1,
        "data": {"state": {"\udc80": "v", "value": "\ud83d"}}}"#;
    assert!(mirror.accepts_and_apply("comm_open", content, NO_BUFFERS));
    assert_eq!(mirror.len(), 1);
    assert_eq!(model(&mirror, "a")["state"]["\u{fffd}"], "v");
}

#[test]
fn journaled_content_is_the_kernels_and_its_buffers() {
    let buffers: &[&[u8]] = &[&[3, 4], b""];
    for (content, journaled) in [
        (
            r#"{"comm_id":"a"}"#,
            r#"{"comm_id":"a", "_buffers_b64": ["AwQ=", ""]}"#,
        ),
        ("{ }\n", r#"{ "_buffers_b64": ["AwQ=", ""]}"#),
        ("no object", "no object"),
    ] {
        assert_eq!(journaled_content(content, buffers), journaled);
        assert_eq!(journaled_content(content, NO_BUFFERS), content);
    }
}

#[test]
fn malformed_rows_are_skipped() {
    let mut mirror = with_model(json!({"value": 1}));
    let before = mirror.snapshot_json();
    let data = r#""comm_id": "a", "data": {"method": "update", "state": {"value": 2}}"#;
    for row in [
        "",
        "[]",
        &format!("{{{data}, \"_buffers_b64\": [\"?\"]}}"),
        &format!("{{{data}, \"_buffers_b64\": \"AA==\"}}"),
        &format!("{{{data}"),
    ] {
        mirror.replay("comm_msg", row);
        assert_eq!(mirror.snapshot_json(), before, "{row}");
    }
    mirror.replay("comm_msg", &format!("{{{data}, \"_buffers_b64\": null}}"));
    assert_eq!(model(&mirror, "a")["state"]["value"], 2);
}

#[test]
fn widgets_of_a_notebook_are_taken_up() {
    let stored = r#"{"version_major": 2, "state": {"a": {"model_name": "HBoxModel", "model_module": "m",
        "model_module_version": "2.0.0", "state": {"_model_module": "own"},
        "buffers": [{"encoding": "base64", "path": ["v"], "data": "AwQ="}, {"path": [], "data": "AwQ="}, {"path": ["w"], "data": "?"}]}}}"#;
    let mut mirror = WidgetMirror::restore(stored).unwrap();
    let expected = json!({
        "model_name": "HBoxModel", "model_module": "own", "model_module_version": "2.0.0",
        "state": {"_model_name": "HBoxModel", "_model_module": "own", "_model_module_version": "2.0.0"},
        "buffers": [{"encoding": "base64", "path": ["v"], "data": "AwQ="}],
    });
    assert_eq!(model(&mirror, "a"), expected);
    assert!(
        accepts(&mut mirror, update("a", json!({}), json!([])), NO_BUFFERS),
        "a model is known"
    );
    assert!(WidgetMirror::restore("[]").is_err());
    assert!(WidgetMirror::restore(r#"{"state": {"a": 1}}"#).is_err());
}

fn any_comm() -> impl Strategy<Value = ((&'static str, Value), Vec<Vec<u8>>)> {
    let id = || prop::sample::select(vec!["a", "b", "c"]);
    let state =
        || prop::collection::btree_map("[x-z]", any::<u8>(), 0..3).prop_map(|state| json!(state));
    let paths = || {
        prop::collection::vec(prop::collection::vec("[x-z]", 0..3), 0..3)
            .prop_map(|paths| json!(paths))
    };
    let comm = prop_oneof![
        2 => (id(), state(), paths()).prop_map(|(id, state, paths)| open(id, json!({"state": state, "buffer_paths": paths}))),
        4 => (id(), state(), paths()).prop_map(|(id, state, paths)| update(id, state, paths)),
        1 => id().prop_map(close),
    ];
    (
        comm,
        prop::collection::vec(prop::collection::vec(any::<u8>(), 0..3), 0..3),
    )
}

proptest! {
    /// Live, replayed from the journal, and taken up from a snapshot: one state.
    #[test]
    fn a_replayed_or_restored_mirror_is_the_live_one(comms in prop::collection::vec(any_comm(), 0..40)) {
        let mut live = WidgetMirror::new();
        let mut replayed = WidgetMirror::new();
        for ((msg_type, content), buffers) in comms {
            let content = content.to_string();
            if live.accepts_and_apply(msg_type, &content, &buffers) {
                replayed.replay(msg_type, &journaled_content(&content, &buffers));
            }
            prop_assert_eq!(live.snapshot_json(), replayed.snapshot_json());
        }
        let restored = WidgetMirror::restore(&live.snapshot_json()).unwrap();
        prop_assert_eq!(live.snapshot_json(), restored.snapshot_json());
    }
}
