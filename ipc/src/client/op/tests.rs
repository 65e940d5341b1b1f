//! What clients may say, from the protocol's own examples to anything at all.

use proptest::prelude::*;

use super::*;

fn op(text: &str) -> Op {
    match Parsed::from_text(text) {
        Parsed::Call(call) => call.op,
        other => panic!("{text}: {other:?}"),
    }
}

#[test]
fn cursors_are_read_as_python_reads_them() {
    for (value, seq) in [
        ("7", 7),
        ("7.9", 7),
        ("\" 12 \"", 12),
        ("-1", -1),
        ("true", 1),
        ("-0.5", 0),
    ] {
        let text = format!(r#"{{"op": "attach", "last_seen_seq": {value}}}"#);
        assert!(
            matches!(op(&text), Op::Attach { last_seen_seq } if last_seen_seq == seq),
            "{value}"
        );
    }
    assert!(matches!(
        op(r#"{"op": "attach"}"#),
        Op::Attach { last_seen_seq: 0 }
    ));
    assert!(matches!(
        op(r#"{"op": "attach", "last_seen_seq": 3, "start_kernel": false}"#),
        Op::Observe { last_seen_seq: 3 }
    ));
    for bad in ["\"x\"", "[]", "1e300", "null"] {
        let text = format!(r#"{{"op": "attach", "last_seen_seq": {bad}}}"#);
        assert!(
            matches!(Parsed::from_text(&text), Parsed::Malformed(_)),
            "{bad}"
        );
    }
}

#[test]
fn what_is_not_understood_is_ignored_and_what_is_wrong_is_named() {
    for ignored in [
        "",
        "nonsense",
        r#"{"op": "from_the_future"}"#,
        "{}",
        r#"{"op": null}"#,
    ] {
        assert!(
            matches!(Parsed::from_text(ignored), Parsed::Ignored),
            "{ignored}"
        );
    }
    for (malformed, names) in [
        ("[1]", "object"),
        ("7", "object"),
        (r#"{"op": 7}"#, "\"op\""),
        (r#"{"op": "attach", "session": 7}"#, "\"session\""),
        (
            r#"{"op": "attach", "session": "a\u0000b"}"#,
            "control character",
        ),
        (r#"{"op": "execute", "code": ["x"]}"#, "\"code\""),
        (r#"{"op": "execute", "origin": "x"}"#, "\"origin\""),
        (r#"{"op": "execute_batch", "cells": {}}"#, "\"cells\""),
        (r#"{"op": "execute_batch", "cells": [1]}"#, "\"cells\""),
        (r#"{"op": "clear_output", "exec_ids": [1]}"#, "\"exec_ids\""),
        (r#"{"op": "attach", "launch": {"env": 3}}"#, "\"launch\""),
    ] {
        match Parsed::from_text(malformed) {
            Parsed::Malformed(reason) => assert!(reason.contains(names), "{reason}"),
            other => panic!("{malformed}: {other:?}"),
        }
    }
}

#[test]
fn paths_that_cannot_be_converted_are_no_malformed_operation() {
    for (wish, names) in [
        (
            r#"{"op": "import_notebook", "source": "/a.ipynb", "destination": "a.py", "workdir": "/"}"#,
            "\"destination\"",
        ),
        (
            r#"{"op": "export_notebook", "source": "/a.py"}"#,
            "\"destination\"",
        ),
        (r#"{"op": "import_notebook", "source": 5}"#, "\"source\""),
    ] {
        match op(wish) {
            Op::Convert(Err(reason)) => assert!(reason.contains(names), "{reason}"),
            other => panic!("{wish}: {other:?}"),
        }
    }
}

#[test]
fn defaults_are_the_protocols() {
    match op(r#"{"op": "execute"}"#) {
        Op::Submit(Submission {
            cells,
            stop_on_error: false,
            allow_stdin: false,
            single: true,
            ..
        }) => {
            assert_eq!(cells[0].code, "");
        }
        other => panic!("{other:?}"),
    }
    match op(
        r#"{"op": "execute_batch", "cells": [{"code": "1", "origin": {"uri": "u", "index": 3, "extra": 1}}]}"#,
    ) {
        Op::Submit(Submission {
            cells,
            stop_on_error: true,
            single: false,
            ..
        }) => {
            let origin = cells[0].origin.as_ref().unwrap();
            assert_eq!((origin.uri.as_deref(), origin.index), (Some("u"), Some(3)));
            assert_eq!(origin.raw["extra"], 1);
        }
        other => panic!("{other:?}"),
    }
    assert!(matches!(
        op(r#"{"op": "status"}"#),
        Op::Status { all: false }
    ));
    assert!(matches!(
        op(r#"{"op": "status", "all": true}"#),
        Op::Status { all: true }
    ));
    assert!(matches!(
        op(r#"{"op": "status", "session": "default"}"#),
        Op::SessionStatus
    ));
    assert!(matches!(
        op(r#"{"op": "kill_kernel", "target": null}"#),
        Op::KillKernel { target: None }
    ));
}

/// Any JSON value, names that mean something among the keys.
fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((key(), inner), 0..6)
                .prop_map(|pairs| Value::Object(pairs.into_iter().collect())),
        ]
    })
}

fn key() -> impl Strategy<Value = String> {
    prop_oneof![
        prop::sample::select(vec![
            "session",
            "workdir",
            "launch",
            "code",
            "origin",
            "cells",
            "exec_ids",
            "all",
            "value",
            "target",
            "last_seen_seq",
            "req_id",
            "data",
            "buffers",
            "comm_id",
            "cursor_pos",
            "source",
            "destination",
            "env",
            "uri",
            "range",
            "index",
        ])
        .prop_map(str::to_owned),
        ".{0,6}",
    ]
}

fn name() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "attach",
        "execute",
        "execute_batch",
        "input_reply",
        "clear_output",
        "restart_kernel",
        "get_artifact",
        "status",
        "interrupt",
        "kill_kernel",
        "shutdown",
        "import_notebook",
        "export_notebook",
        "comm_open",
        "comm_msg",
        "comm_close",
        "complete",
        "inspect",
        "is_complete",
        "history",
        "kernel_info",
        "from_the_future",
    ])
}

proptest! {
    #[test]
    fn any_fields_are_understood_or_named(
        op in name(),
        fields in prop::collection::vec((key(), json()), 0..8),
    ) {
        let mut message: Map<String, Value> = fields.into_iter().collect();
        message.insert("op".to_owned(), op.into());
        match Parsed::from_text(&Value::Object(message).to_string()) {
            Parsed::Malformed(reason) => prop_assert!(!reason.is_empty()),
            Parsed::Ignored => prop_assert_eq!(op, "from_the_future"),
            Parsed::Call(_) => {}
        }
    }

    #[test]
    fn any_text_is_answered_without_a_panic(text in ".{0,64}") {
        drop(Parsed::from_text(&text));
    }
}
