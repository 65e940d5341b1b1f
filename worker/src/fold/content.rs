//! Typed views of message contents: only what the fold looks at is parsed, the rest stays the kernel's text.

use std::borrow::Cow;

use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::json::{Text, is_truthy, object, string};

/// `stream`
#[derive(Deserialize)]
pub(super) struct Stream<'a> {
    #[serde(borrow, default)]
    pub(super) name: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) text: Text<'a>,
    #[serde(borrow, default)]
    pub(super) tithon_scope: Option<&'a RawValue>,
}

/// `display_data`, `update_display_data`, `execute_result`
#[derive(Deserialize)]
pub(super) struct Display<'a> {
    #[serde(borrow, default)]
    pub(super) data: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub(super) metadata: Option<&'a RawValue>,
    #[serde(borrow, default)]
    transient: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub(super) execution_count: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub(super) tithon_scope: Option<&'a RawValue>,
}

impl<'a> Display<'a> {
    /// `transient.display_id`, if it is a non-empty string.
    pub(super) fn display_id(&self) -> Option<Cow<'a, str>> {
        #[derive(Deserialize)]
        struct Transient<'a> {
            #[serde(borrow, default)]
            display_id: Option<&'a RawValue>,
        }

        let transient = object::<Transient<'a>>(self.transient?.get()).ok()?;
        string(transient.display_id?.get())
            .ok()
            .filter(|display_id| !display_id.is_empty())
    }
}

/// `error`
#[derive(Deserialize)]
pub(super) struct ErrorContent<'a> {
    #[serde(borrow, default)]
    pub(super) ename: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub(super) evalue: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub(super) traceback: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub(super) tithon_scope: Option<&'a RawValue>,
}

/// `clear_output`
#[derive(Deserialize)]
pub(super) struct ClearOutput<'a> {
    #[serde(borrow, default)]
    wait: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub(super) tithon_scope: Option<&'a RawValue>,
}

impl ClearOutput<'_> {
    pub(super) fn waits(&self) -> bool {
        self.wait.is_some_and(is_truthy)
    }
}

/// Whether a message of the worker's own speaks to the cell, whatever area is claimed.
pub(super) fn is_cell_scoped(tithon_scope: Option<&RawValue>) -> bool {
    tithon_scope.is_some_and(|scope| scope.get() == "\"cell\"")
}

/// `comm_msg` or `comm_close` of a widget, seen as what it does to output areas.
#[derive(Deserialize)]
pub(super) struct Comm<'a> {
    #[serde(borrow)]
    pub(super) comm_id: Text<'a>,
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
}

/// What an update of `msg_id` asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Claim {
    Take,
    Release,
}

impl Comm<'_> {
    /// The claim in a widget update, if it carries one. The value of `msg_id` counts only as true or false.
    pub(super) fn claim(&self) -> Option<Claim> {
        #[derive(Deserialize)]
        struct Data<'a> {
            #[serde(borrow, default)]
            method: Option<&'a RawValue>,
            #[serde(borrow, default)]
            state: Option<&'a RawValue>,
        }

        #[derive(Deserialize)]
        struct State<'a> {
            /// Absent and null differ: null releases.
            #[serde(borrow, default, deserialize_with = "present")]
            msg_id: Option<&'a RawValue>,
        }

        fn present<'de, D: Deserializer<'de>>(
            deserializer: D,
        ) -> Result<Option<&'de RawValue>, D::Error> {
            <&RawValue>::deserialize(deserializer).map(Some)
        }

        let data: Data<'_> = object(self.data?.get()).ok()?;
        if !matches!(data.method?.get(), "\"update\"" | "\"echo_update\"") {
            return None;
        }
        let msg_id = object::<State<'_>>(data.state?.get()).ok()?.msg_id?;
        Some(if is_truthy(msg_id) {
            Claim::Take
        } else {
            Claim::Release
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_are_updates_of_msg_id() {
        for (data, claim) in [
            (
                r#"{"method": "update", "state": {"msg_id": "6d01"}, "buffer_paths": []}"#,
                Some(Claim::Take),
            ),
            (
                r#"{"method": "echo_update", "state": {"other": {"msg_id": ""}, "msg_id": 1}}"#,
                Some(Claim::Take),
            ),
            (
                r#"{"method": "update", "state": {"msg_id": ""}}"#,
                Some(Claim::Release),
            ),
            (
                r#"{"method": "update", "state": {"msg_id": null}}"#,
                Some(Claim::Release),
            ),
            (r#"{"method": "update", "state": {"outputs": []}}"#, None),
            (r#"{"method": "custom", "state": {"msg_id": "6d01"}}"#, None),
            (r#"{"method": "update", "state": ["msg_id"]}"#, None),
            (r#"{"state": {"msg_id": "6d01"}}"#, None),
            (r#"{}"#, None),
            (r#"["update", {"msg_id": "6d01"}]"#, None),
            ("null", None),
        ] {
            let content = format!(r#"{{"comm_id": "aa34", "data": {data}}}"#);
            let comm: Comm<'_> = serde_json::from_str(&content).unwrap();
            assert_eq!(comm.claim(), claim, "{data}");
        }
    }

    #[test]
    fn display_ids_are_non_empty_strings() {
        for (transient, display_id) in [
            (r#"{"display_id": "a"}"#, Some("a")),
            (r#"{"display_id": "\ud800"}"#, Some("\u{fffd}")),
            (r#"{"display_id": ""}"#, None),
            (r#"{"display_id": 7}"#, None),
            (r#"{}"#, None),
            ("null", None),
            ("[]", None),
        ] {
            let content = format!(r#"{{"data": {{}}, "transient": {transient}}}"#);
            let display: Display<'_> = serde_json::from_str(&content).unwrap();
            assert_eq!(display.display_id().as_deref(), display_id, "{transient}");
        }
    }
}
