//! What holds for any messages whatever.

use proptest::prelude::*;

use super::naive::Naive;
use super::*;
use crate::fold::item::Body;
use crate::fold::snapshot;

fn any_message() -> impl Strategy<Value = Message> {
    let id = || prop::sample::select(vec!["", "a", "b"]);
    let text = prop_oneof![
        3 => "[a-c\n\r\u{8}é😀]{0,10}",
        1 => "[xy]{0,60}\n?",
        1 => "([0-9]{9}\n){0,12}",
    ];
    let name = prop::sample::select(vec!["stdout", "stdout", "stderr"]);
    let comms = ["+o", "-o", "xo", "+p", "-p", "xp"];
    let others = ["clear", "clear-wait", "error:E", "result:42"];
    let message = prop_oneof![
        8 => (name, text).prop_map(|(name, text)| stream(name, &text)),
        3 => (id(), "[a-z]{0,9}").prop_map(|(id, text)| display("display_data", &text, id)),
        2 => (id(), "[a-z]{0,9}").prop_map(|(id, text)| display("update_display_data", &text, id)),
        5 => prop::sample::select(comms.to_vec()).prop_map(message),
        4 => prop::sample::select(others.to_vec()).prop_map(message),
    ];
    let scoped = prop::bool::weighted(0.1);
    (message, scoped).prop_map(|(message, scoped)| {
        if scoped {
            cell_scoped(message)
        } else {
            message
        }
    })
}

fn any_messages() -> impl Strategy<Value = Vec<Message>> {
    proptest::collection::vec(any_message(), 0..80)
}

/// Messages, and a place among them.
fn messages_and_place() -> impl Strategy<Value = (Vec<Message>, usize)> {
    (any_messages(), any::<prop::sample::Index>()).prop_map(|(messages, place)| {
        let place = place.index(messages.len() + 1);
        (messages, place)
    })
}

proptest! {
    #[test]
    fn agrees_with_the_naive_fold(messages in any_messages()) {
        let mut naive = Naive::default();
        let mut fold = Fold::new();
        for message in &messages {
            naive.apply(message);
            apply_all(&mut fold, [message]);
            prop_assert_eq!(outputs(&fold), naive.outputs());
            prop_assert_eq!(state(&fold), naive.state());
        }
    }

    #[test]
    fn a_client_seeded_from_a_snapshot_goes_on_as_the_fold((messages, place) in messages_and_place()) {
        let (before, after) = messages.split_at(place);
        let mut fold = folded(before);
        let mut client = Naive::seeded(&outputs(&fold), &state(&fold));
        for message in after {
            client.apply(message);
            apply_all(&mut fold, [message]);
        }
        prop_assert_eq!(outputs(&fold), client.outputs());
        prop_assert_eq!(state(&fold), client.state());
    }

    #[test]
    fn a_restored_fold_goes_on_as_the_original((messages, place) in messages_and_place()) {
        let (before, after) = messages.split_at(place);
        for limits in [&Limits::DEFAULT, &Limits::TINY] {
            let mut original = Fold::within(limits);
            apply_all(&mut original, before);
            let mut restored = snapshot::restore(limits, &original.outputs_json(), Some(&original.state_json())).unwrap();
            for message in after {
                prop_assert_eq!(original.outputs_json(), restored.outputs_json());
                prop_assert_eq!(original.state_json(), restored.state_json());
                apply_all(&mut original, [message]);
                apply_all(&mut restored, [message]);
            }
            prop_assert_eq!(original.outputs_json(), restored.outputs_json());
            prop_assert_eq!(original.state_json(), restored.state_json());
        }
    }

    #[test]
    fn bounds_hold(messages in any_messages()) {
        let limits = &Limits::TINY;
        let mut fold = Fold::within(limits);
        for message in &messages {
            apply_all(&mut fold, [message]);
            let weights = fold.items.iter().map(|item| item.body.weight());
            prop_assert!(weights.sum::<usize>() <= limits.bytes);
            prop_assert!(fold.items.iter().count() <= limits.items);
            let notices = fold.items.iter().filter(|item| matches!(item.body, Body::Elided { .. }));
            prop_assert!(notices.count() <= 1);
        }
    }

    #[test]
    fn no_text_panics(msg_type in prop::sample::select(vec!["stream", "display_data", "error", "clear_output", "comm_msg"]), content in r#"(\{"(text|data|wait|comm_id)": |"|\\ud800|\\|é|[\[\]{}:,0-9]|null|\}){0,12}"#) {
        let mut fold = folded(&[message("out:a")]);
        let before = fold.outputs_json();
        if fold.apply(msg_type, &content).is_err() {
            prop_assert_eq!(fold.outputs_json(), before);
        }
        let restored = Fold::restore(&content, Some(&content));
        prop_assert!(restored.is_err() || content == "[]" || content == "null");
    }
}
