//! Every rule of PROTOCOL.md §9 and §11, one by one, in the shorthand of [`message`](super::message).

use super::*;

#[test]
fn rules() {
    for (rule, messages, expected) in [
        (
            "a stream goes on in the last item",
            "out:a out:b\n out:c",
            "out:ab\nc",
        ),
        (
            "another name is another item",
            "out:a err:x out:b",
            "out:a err:x out:b",
        ),
        (
            "a display ends a stream",
            "out:a [d] out:b",
            "out:a [d] out:b",
        ),
        (
            "all kinds append",
            "result:42 error:E out:x",
            "[42] error:E out:x",
        ),
        ("an empty text is an item", "out: [d]", "out: [d]"),
        ("a clear drops everything", "out:a [d] clear", ""),
        ("a waiting clear waits", "out:a clear-wait", "out:a"),
        ("… for a stream", "out:a clear-wait out:b out:c", "out:bc"),
        ("… for a display", "out:a clear-wait [d] [e]", "[d] [e]"),
        ("… for a result", "out:a clear-wait result:1", "[1]"),
        ("… for an error", "out:a clear-wait error:E", "error:E"),
        (
            "a clear leaves a pending one armed",
            "out:a clear-wait clear out:b [d]",
            "out:b [d]",
        ),
        (
            "… which then drops what came",
            "clear-wait clear-wait out:a out:b",
            "out:ab",
        ),
        (
            "an update replaces every match",
            "[1=x] [2=y] [3=x] update:u=x",
            "[u=x] [2=y] [u=x]",
        ),
        ("… in whatever area", "+o [1=x] -o update:u=x", "[u=x]@o"),
        ("… also from another one", "[1=x] +o update:u=x", "[u=x]"),
        (
            "an update discharges no clear",
            "[1=x] clear-wait update:u=x",
            "[u=x]",
        ),
        (
            "an update without a match does nothing",
            "[1=x] update:u=z",
            "[1=x]",
        ),
        (
            "an update without an id does nothing",
            "[1] [2=x] update:u",
            "[1] [2=x]",
        ),
        (
            "a result keeps no display id",
            "result:r=x update:u=x",
            "[r]",
        ),
        (
            "a claim captures",
            "out:a +o out:in -o out:b",
            "out:ab out:in@o",
        ),
        (
            "claims nest",
            "+o +p out:p -p out:o xo out:c",
            "out:p@p out:o@o out:c",
        ),
        ("an outer claim can go first", "+o +p -o out:p", "out:p@p"),
        ("a claim held is not moved", "+o +p +o out:p", "out:p@p"),
        (
            "others' items do not part an area's stream",
            "+o out:1 -o out:c +o out:2",
            "out:12@o out:c",
        ),
        (
            "an area's clear drops its items only",
            "out:c +o out:1 clear",
            "out:c",
        ),
        (
            "an area's waiting clear waits for the area",
            "+o out:1 clear-wait -o out:c +o out:2",
            "out:c out:2@o",
        ),
        (
            "the cell's waiting clear drops all areas' items",
            "+o out:1 -o clear-wait out:d",
            "out:d",
        ),
        (
            "… and leaves their pending clears",
            "+o out:1 clear-wait -o clear-wait out:d +o [1] [2]",
            "out:d [1]@o [2]@o",
        ),
        (
            "the cell's clear drops the areas' pending ones",
            "+o clear-wait -o clear +o out:1 out:2",
            "out:12@o",
        ),
        (
            "a closed area forgets its pending clear",
            "+o out:1 clear-wait xo +o out:2",
            "out:12@o",
        ),
        (
            "a released area does not",
            "+o out:1 clear-wait -o +o out:2",
            "out:2@o",
        ),
        (
            "cell scope passes a claim by",
            "+o out:1 cell/out:c cell/error:E",
            "out:1@o out:c error:E",
        ),
        (
            "… also for clears",
            "out:c +o out:1 cell/clear out:2",
            "out:2@o",
        ),
        (
            "… and waiting ones",
            "out:c +o out:1 cell/clear-wait out:2 -o out:d",
            "out:d",
        ),
    ] {
        let messages: Vec<_> = messages.split(' ').map(message).collect();
        assert_eq!(shown(&folded(&messages)), expected, "{rule}");
    }
}

#[test]
fn other_messages_show_nothing() {
    let open = (
        "comm_open",
        json!({"comm_id": "o", "data": {"state": {"msg_id": "m"}}}),
    );
    let status = ("status", json!({"execution_state": "busy"}));
    let done = ("tithon.done", json!(1));
    assert_eq!(
        shown(&folded(&[open, status, done, message("out:c")])),
        "out:c"
    );
}

#[test]
fn only_the_cell_is_a_scope() {
    let scoped = json!({"name": "stdout", "text": "1", "tithon_scope": "x"});
    assert_eq!(
        shown(&folded(&[message("+o"), ("stream", scoped)])),
        "out:1@o"
    );
}

#[test]
fn wait_is_true_as_in_python() {
    for (wait, remains) in [
        ("true", true),
        ("1", true),
        ("\"no\"", true),
        ("0", false),
        ("null", false),
        ("\"\"", false),
    ] {
        let mut fold = folded(&[message("out:a")]);
        fold.apply("clear_output", &format!("{{\"wait\": {wait}}}"))
            .unwrap();
        assert_eq!(fold.is_empty(), !remains, "{wait}");
    }
    let mut fold = folded(&[message("out:a")]);
    fold.apply("clear_output", "{}").unwrap();
    assert!(fold.is_empty());
}
