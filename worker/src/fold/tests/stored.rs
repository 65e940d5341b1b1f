//! The stored form of a fold, and content that is odd or broken.

use super::*;

/// Byte for byte: people grep for `": "`, and values pass through as the kernel wrote them.
#[test]
fn stored_form() {
    let mut fold = Fold::new();
    for (msg_type, content) in [
        ("stream", r#"{"name":"stdout","text":"1\r2\t\"é\u001b"}"#),
        (
            "display_data",
            r#"{"data":{"a/b":1.50,"c":[1e3]},"metadata":{"k":{}},"transient":{"display_id":"d\n"}}"#,
        ),
        (
            "execute_result",
            r#"{"data":{},"metadata":{},"execution_count":3,"_internal":1}"#,
        ),
        (
            "error",
            r#"{"ename":"E","evalue":"\ud800","traceback":["\u001b[0m"]}"#,
        ),
        (
            "comm_msg",
            r#"{"comm_id":"aa34","data":{"method":"update","state":{"msg_id":"6d01"},"buffer_paths":[]}}"#,
        ),
        ("clear_output", r#"{"wait":true}"#),
        ("stream", r#"{"name":"stderr","text":"in"}"#),
        ("clear_output", r#"{"wait":true}"#),
    ] {
        fold.apply(msg_type, content).unwrap();
    }
    assert_eq!(
        fold.outputs_json(),
        concat!(
            r#"[{"output_type": "stream", "name": "stdout", "text": "2\t\"é\u001b"}, "#,
            r#"{"output_type": "display_data", "data": {"a/b":1.50,"c":[1e3]}, "metadata": {"k":{}}, "display_id": "d\n"}, "#,
            r#"{"output_type": "execute_result", "data": {}, "metadata": {}, "execution_count": 3}, "#,
            r#"{"output_type": "error", "ename": "E", "evalue": "\ud800", "traceback": ["\u001b[0m"]}, "#,
            r#"{"output_type": "stream", "name": "stderr", "text": "in"}]"#,
        )
    );
    assert_eq!(
        fold.state_json(),
        concat!(
            r#"{"owners": [null, null, null, null, "aa34"], "stream_cursors": [5, null, null, null, 2], "#,
            r#""claims": ["aa34"], "pending_clear": false, "pending_owner_clear": ["aa34"]}"#,
        )
    );
    assert!(fold.has_error());
    assert_eq!(fold.display_ids().collect::<Vec<_>>(), ["d\n"]);
    let empty = r#"{"owners": [], "stream_cursors": [], "claims": [], "pending_clear": false, "pending_owner_clear": []}"#;
    assert_eq!(
        (
            Fold::new().outputs_json().as_str(),
            Fold::new().state_json().as_str()
        ),
        ("[]", empty)
    );
}

#[test]
fn missing_fields_take_defaults() {
    let mut fold = Fold::new();
    for msg_type in ["display_data", "execute_result", "error"] {
        fold.apply(msg_type, "{}").unwrap();
    }
    fold.apply("stream", r#"{"text": "x"}"#).unwrap();
    assert_eq!(
        outputs(&fold),
        json!([
            {"output_type": "display_data", "data": {}, "metadata": {}},
            {"output_type": "execute_result", "data": {}, "metadata": {}, "execution_count": null},
            {"output_type": "error", "ename": "", "evalue": "", "traceback": []},
            {"output_type": "stream", "name": "stdout", "text": "x"},
        ])
    );
}

#[test]
fn malformed_content_changes_nothing() {
    let mut fold = folded(&["out:a", "+o", "clear-wait"].map(message));
    let before = (fold.outputs_json(), fold.state_json());
    for (msg_type, content) in [
        ("stream", ""),
        ("stream", "[]"),
        ("stream", r#"["stdout", "an array is no object"]"#),
        ("stream", r#"{"name": "stdout"}"#),
        ("stream", r#"{"name": "stdout", "text": 1}"#),
        ("stream", r#"{"name": "stdout", "text": "cut"#),
        ("display_data", "null"),
        ("display_data", r#"{"data": {"#),
        ("error", "1"),
        ("clear_output", "x"),
        ("comm_msg", r#"{"data": {}}"#),
        ("comm_close", r#"{"comm_id": null}"#),
    ] {
        let error = fold.apply(msg_type, content).unwrap_err();
        assert!(
            matches!(error, FoldError::Content { .. }),
            "{msg_type} {content}"
        );
        assert_eq!(
            (fold.outputs_json(), fold.state_json()),
            before,
            "{msg_type} {content}"
        );
    }
}

#[test]
fn lone_surrogates_cost_no_output() {
    let mut fold = Fold::new();
    fold.apply(
        "stream",
        r#"{"name": "stdout", "text": "a\udcffb", "\ud800": 1}"#,
    )
    .unwrap();
    fold.apply("display_data", r#"{"data": {"text/plain": "\ud800"}}"#)
        .unwrap();
    let expected = "[{\"output_type\": \"stream\", \"name\": \"stdout\", \"text\": \"a\u{fffd}b\"}, \
                    {\"output_type\": \"display_data\", \"data\": {\"text/plain\": \"\\ud800\"}, \"metadata\": {}}]";
    assert_eq!(fold.outputs_json(), expected);
    let restored = Fold::restore(&fold.outputs_json(), Some(&fold.state_json())).unwrap();
    assert_eq!(restored.outputs_json(), expected);
}

#[test]
fn artifacts_shown_are_known() {
    let image = |id: &str| json!({"image/png": {"$tithon_artifact": {"artifact_id": id, "mime": "image/png"}}});
    let mut fold = folded(&[
        (
            "display_data",
            json!({"data": image("a"), "transient": {"display_id": "plot"}}),
        ),
        ("execute_result", json!({"data": image("b")})),
    ]);
    assert_eq!(fold.artifact_ids().collect::<Vec<_>>(), ["a", "b"]);
    apply_all(
        &mut fold,
        &[(
            "update_display_data",
            json!({"data": image("c"), "transient": {"display_id": "plot"}}),
        )],
    );
    let restored = Fold::restore(&fold.outputs_json(), None).unwrap();
    assert_eq!(restored.artifact_ids().collect::<Vec<_>>(), ["c", "b"]);
}

#[test]
fn an_imported_fold_needs_no_state() {
    let stored = r#"[{"output_type":"stream","name":"stdout","text":"a\nbc","_owner":"o"},
        {"output_type":"display_data","data":{"x":1.0},"metadata":{},"display_id":"d","unknown":[]}]"#;
    for state in [None, Some("null")] {
        let mut fold = Fold::restore(stored, state).unwrap();
        assert!(!fold.outputs_json().contains("_owner"));
        apply_all(&mut fold, &["[e]", "update:u=d"].map(message));
        let plain = |text| json!({"text/plain": text});
        assert_eq!(
            outputs(&fold),
            json!([
                {"output_type": "stream", "name": "stdout", "text": "a\nbc"},
                {"output_type": "display_data", "data": plain("u"), "metadata": {"of": "u"}, "display_id": "d"},
                {"output_type": "display_data", "data": plain("e"), "metadata": {"of": "e"}},
            ])
        );
    }
}

#[test]
fn broken_stored_folds_are_refused_or_mended() {
    assert!(matches!(
        Fold::restore("{}", None),
        Err(FoldError::StoredOutputs(_))
    ));
    assert!(matches!(
        Fold::restore("[{}]", None),
        Err(FoldError::StoredOutputs(_))
    ));
    assert!(matches!(
        Fold::restore("[]", Some("[1")),
        Err(FoldError::StoredState(_))
    ));
    let unknown = Fold::restore(r#"[{"output_type": "hologram"}]"#, None);
    assert!(matches!(unknown, Err(FoldError::StoredOutputType(name)) if name == "hologram"));

    let item = r#"[{"output_type": "stream", "name": "stdout", "text": "ab"}]"#;
    for state in [
        "{}",
        r#"{"owners": [], "stream_cursors": [99]}"#,
        r#"{"owners": [null, "x"], "stream_cursors": [], "elided_text": [{"item": 0, "line": 4, "lines": 1, "bytes": 1}]}"#,
        r#"{"elided_outputs": {"item": 0, "outputs": 1, "bytes": 1}}"#,
    ] {
        let mut fold = Fold::restore(item, Some(state)).unwrap();
        apply_all(&mut fold, &[message("out:c")]);
        assert_eq!(shown(&fold), "out:abc", "{state}");
    }
}

#[test]
fn a_week_of_output_is_bounded() {
    let limits = &Limits::DEFAULT;
    let mut fold = Fold::new();
    let text = "x".repeat(100_000) + "\n";
    for n in 0..limits.items * 2 {
        fold.apply(
            "stream",
            &json!({"name": "stdout", "text": text}).to_string(),
        )
        .unwrap();
        fold.apply(
            "stream",
            &json!({"name": "stderr", "text": n.to_string()}).to_string(),
        )
        .unwrap();
    }
    let outputs = fold.outputs_json();
    assert!(
        outputs.len() < limits.bytes + limits.items * 100,
        "{}",
        outputs.len()
    );
    assert!(
        outputs.contains("outputs (")
            && outputs.contains("not shown here; the journal has all of them …")
    );
    assert!(outputs.ends_with(&format!("\"text\": \"{}\"}}]", limits.items * 2 - 1)));
}
