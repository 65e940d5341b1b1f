//! One output item. What the kernel sent as data, metadata, names and tracebacks is kept as its own JSON text.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::areas::Area;
use super::json::{Text, object, push_string};
use super::limits::Limits;
use super::notice::not_shown;
use super::stream::StreamText;

/// An item and the area that owns it.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) area: Area,
    pub(super) body: Body,
}

#[derive(Debug)]
pub(super) enum Body {
    Stream {
        name: Box<str>,
        text: StreamText,
    },
    Display {
        bundle: Arc<Bundle>,
        display_id: Option<Box<str>>,
    },
    Result {
        bundle: Arc<Bundle>,
        execution_count: Box<str>,
    },
    Error {
        ename: Box<str>,
        evalue: Box<str>,
        traceback: Box<str>,
    },
    /// The notice in the place of items that had to go. To every rule it is a display of the cell.
    Elided {
        outputs: u64,
        bytes: u64,
    },
}

impl Body {
    /// A display. An id too long to be meant is none.
    pub(super) fn display(limits: &Limits, bundle: Bundle, display_id: Option<&str>) -> Self {
        let display_id = display_id.filter(|display_id| display_id.len() <= limits.id_bytes);
        Self::Display {
            bundle: Arc::new(bundle),
            display_id: display_id.map(Box::from),
        }
    }

    pub(super) fn result(
        limits: &Limits,
        bundle: Bundle,
        execution_count: Option<&RawValue>,
    ) -> Self {
        let execution_count =
            passed_through(limits, execution_count, "-0123456789", "null", |_| {
                "null".to_owned()
            });
        Self::Result {
            bundle: Arc::new(bundle),
            execution_count,
        }
    }

    pub(super) fn error(
        limits: &Limits,
        ename: Option<&RawValue>,
        evalue: Option<&RawValue>,
        traceback: Option<&RawValue>,
    ) -> Self {
        let words = |raw| passed_through(limits, raw, "\"", "\"\"", quoted);
        let traceback = passed_through(limits, traceback, "[", "[]", |words| {
            format!("[{}]", quoted(words))
        });
        Self::Error {
            ename: words(ename),
            evalue: words(evalue),
            traceback,
        }
    }

    /// Bytes held: what the fold's limit on bytes counts. The same after a restore.
    pub(super) fn weight(&self) -> usize {
        match self {
            Self::Stream { name, text } => name.len() + text.len(),
            Self::Display { bundle, display_id } => {
                bundle.weight() + display_id.as_ref().map_or(0, |display_id| display_id.len())
            }
            Self::Result {
                bundle,
                execution_count,
            } => bundle.weight() + execution_count.len(),
            Self::Error {
                ename,
                evalue,
                traceback,
            } => ename.len() + evalue.len() + traceback.len(),
            Self::Elided { .. } => 0,
        }
    }

    pub(super) fn bundle(&self) -> Option<&Bundle> {
        match self {
            Self::Display { bundle, .. } | Self::Result { bundle, .. } => Some(bundle),
            _ => None,
        }
    }
}

/// A MIME bundle with its metadata, shared by all displays of one update.
#[derive(Debug)]
pub(super) struct Bundle {
    pub(super) data: Box<str>,
    pub(super) metadata: Box<str>,
    artifact_ids: Box<[Box<str>]>,
}

impl Bundle {
    pub(super) fn new(
        limits: &Limits,
        data: Option<&RawValue>,
        metadata: Option<&RawValue>,
    ) -> Self {
        let data = passed_through(limits, data, "{", "{}", |words| {
            format!("{{\"text/plain\": {}}}", quoted(words))
        });
        let metadata = passed_through(limits, metadata, "{", "{}", |_| "{}".to_owned());
        let artifact_ids = artifact_ids(&data);
        Self {
            data,
            metadata,
            artifact_ids,
        }
    }

    /// Ids of the artifacts the data refers to.
    pub(super) fn artifact_ids(&self) -> impl Iterator<Item = &str> {
        self.artifact_ids.iter().map(AsRef::as_ref)
    }

    pub(super) fn weight(&self) -> usize {
        self.data.len() + self.metadata.len()
    }
}

/// The text of a value that starts as one of its kind does (`starts`), else `default`; a value that is too large is
/// replaced by what `stand_in` makes of a notice.
fn passed_through(
    limits: &Limits,
    value: Option<&RawValue>,
    starts: &str,
    default: &str,
    stand_in: impl Fn(&str) -> String,
) -> Box<str> {
    match value.map(RawValue::get) {
        Some(text) if text.len() > limits.value_bytes => {
            stand_in(&not_shown(0, "", text.len() as u64)).into_boxed_str()
        }
        Some(text) if text.starts_with(|first| starts.contains(first)) => text.into(),
        _ => default.into(),
    }
}

/// The name of a stream. One too long to be meant is cut.
pub(super) fn stream_name<'a>(limits: &Limits, name: Option<&'a Text<'_>>) -> &'a str {
    let name = name.map_or("stdout", |Text(name)| name.as_ref());
    (0..=limits.id_bytes.min(name.len()))
        .rev()
        .find_map(|end| name.get(..end))
        .unwrap_or_default()
}

fn quoted(text: &str) -> String {
    let mut out = String::new();
    push_string(&mut out, text);
    out
}

/// Finds artifact references (PROTOCOL.md §13) among the values of a MIME bundle.
fn artifact_ids(data: &str) -> Box<[Box<str>]> {
    #[derive(Deserialize)]
    struct Value<'a> {
        #[serde(borrow, rename = "$tithon_artifact")]
        artifact: Artifact<'a>,
    }
    #[derive(Deserialize)]
    struct Artifact<'a> {
        #[serde(borrow)]
        artifact_id: Text<'a>,
    }
    type Values<'a> = std::collections::BTreeMap<Text<'a>, &'a RawValue>;

    // Most bundles have none; do not parse megabytes to find that out.
    if !data.contains("\"$tithon_artifact\"") {
        return Box::default();
    }
    let values: Values<'_> = serde_json::from_str(data).unwrap_or_default();
    let artifacts = values
        .into_values()
        .filter_map(|value| object::<Value<'_>>(value.get()).ok());
    artifacts
        .map(|value| Box::from(value.artifact.artifact_id.0.as_ref()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(json: &str) -> Option<&RawValue> {
        Some(serde_json::from_str(json).unwrap())
    }

    #[test]
    fn values_of_another_kind_give_way_to_an_empty_one() {
        for json in ["[]", "1", "\"text\"", "null"] {
            let bundle = Bundle::new(&Limits::DEFAULT, raw(json), raw(json));
            assert_eq!((&*bundle.data, &*bundle.metadata), ("{}", "{}"), "{json}");
        }
        let Body::Error {
            ename,
            evalue,
            traceback,
        } = Body::error(&Limits::DEFAULT, raw("{}"), None, raw("\"x\""))
        else {
            unreachable!()
        };
        assert_eq!((&*ename, &*evalue, &*traceback), ("\"\"", "\"\"", "[]"));
    }

    #[test]
    fn values_pass_through_byte_for_byte() {
        let json = r#"{"a/b":1.10e5,  "x": {"\ud800": [1.0, 9007199254740993]}}"#;
        let bundle = Bundle::new(&Limits::DEFAULT, raw(json), raw(json));
        assert_eq!((&*bundle.data, &*bundle.metadata), (json, json));
    }

    #[test]
    fn values_beyond_the_limit_say_so() {
        let large = format!("{{\"text/html\": \"{}\"}}", "x".repeat(200));
        let bundle = Bundle::new(&Limits::TINY, raw(&large), raw(&large));
        assert_eq!(
            &*bundle.data,
            r#"{"text/plain": "… 217 bytes not shown here; the journal has all of it …"}"#
        );
        assert_eq!(&*bundle.metadata, "{}");
    }

    #[test]
    fn stream_names_are_cut() {
        for (name, kept) in [
            ("stderr", "stderr"),
            ("αβγδεζ", "αβγδ"),
            ("xαβγδε", "xαβγ"),
            ("", ""),
        ] {
            assert_eq!(stream_name(&Limits::TINY, Some(&Text(name.into()))), kept);
        }
        assert_eq!(stream_name(&Limits::TINY, None), "stdout");
    }

    #[test]
    fn artifact_ids_are_found() {
        let data = r#"{"text/plain": "<Figure>", "x": {"$tithon_artifact": 1},
            "image/png": {"$tithon_artifact": {"artifact_id": "a58086", "mime": "image/png"}},
            "image/jpeg": {"$tithon_artifact": {"mime": "image/jpeg", "artifact_id": "b1"}}}"#;
        let bundle = Bundle::new(&Limits::DEFAULT, raw(data), None);
        assert_eq!(bundle.artifact_ids().collect::<Vec<_>>(), ["b1", "a58086"]);
        let quoting = Bundle::new(
            &Limits::DEFAULT,
            raw(r#"{"text/plain": "{\"$tithon_artifact\"}"}"#),
            None,
        );
        assert_eq!(quoting.artifact_ids().count(), 0);
    }
}
