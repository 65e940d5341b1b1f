//! A cell as text in a Python file and as a cell of a notebook, each from the other, byte for byte.
//!
//! What the usual form would not bring back — other markers, lines that end otherwise, text before
//! the first marker — stays with the notebook's cell, in its `metadata.tithon`.

use serde_json::{Map, Value, json};

use crate::{
    NotebookError,
    percent::{Cell, Kind, body_of, kind_of_marker, source_of, split},
};

/// The key of what is ours in a cell's metadata.
pub(crate) const OURS: &str = "tithon";
const MARKER: &str = "marker";
const BODY: &str = "body";

/// The source a notebook shows for a cell, and what to keep to get the cell's text back from it.
pub(crate) fn shown(cell: &Cell<'_>, recorded: Option<&str>) -> (String, Map<String, Value>) {
    let plain = source_of(cell.kind, cell.body);
    let source = recorded
        .filter(|source| body_of(cell.kind, source) == cell.body)
        .map_or(plain, str::to_owned);
    let mut ours = Map::new();
    if cell.marker != cell.kind.marker() {
        ours.insert(MARKER.to_owned(), json!(cell.marker));
    }
    if body_of(cell.kind, &source) != cell.body {
        ours.insert(BODY.to_owned(), json!(cell.body));
    }
    (source, ours)
}

/// Where in a file a cell is to stand.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) first: bool,
    pub(crate) last: bool,
}

/// The marker and the body of a notebook's cell. What was kept counts as long as the source is
/// still the one it was kept for.
pub(crate) fn text(
    kind: Kind,
    source: &str,
    ours: Option<&Value>,
    place: Place,
) -> (String, String) {
    let kept = |key: &str| ours.and_then(|ours| ours.get(key)).and_then(Value::as_str);
    let mut body = kept(BODY)
        .filter(|body| source_of(kind, body) == source)
        .map_or_else(|| body_of(kind, source), str::to_owned);
    if !place.last && !body.is_empty() && !body.ends_with('\n') {
        body.push('\n');
    }
    let fits = |marker: &&str| match kind_of_marker(marker, place.first) {
        None => marker.is_empty() && place.first && kind == Kind::Code && !body.is_empty(),
        Some(found) => found == kind && (marker.ends_with('\n') || place.last && body.is_empty()),
    };
    let marker = kept(MARKER).filter(fits).unwrap_or(kind.marker());
    (marker.to_owned(), body)
}

/// Joins cells to a file, once it is sure that they would be found in it again.
pub(crate) fn join(cells: &[(Kind, String, String)]) -> Result<String, NotebookError> {
    let refused = |number: usize, reason: String| NotebookError::Cell { number, reason };
    for (at, (_, marker, body)) in cells.iter().enumerate() {
        let text = format!("{marker}{body}");
        match split(&text) {
            Ok(found) if found.len() == 1 => {}
            Ok(_) => {
                return Err(refused(
                    at + 1,
                    "a line in it begins another cell".to_owned(),
                ));
            }
            Err(unclosed) => return Err(refused(at + 1, unclosed.to_string())),
        }
    }
    let text: String = cells
        .iter()
        .flat_map(|(_, marker, body)| [marker.as_str(), body.as_str()])
        .collect();
    let found = split(&text).unwrap_or_default();
    let same = |(at, (kind, marker, body)): &(usize, &(Kind, String, String))| {
        found
            .get(*at)
            .is_some_and(|cell| (cell.kind, cell.marker, cell.body) == (*kind, marker, body))
    };
    match cells.iter().enumerate().find(|cell| !same(cell)) {
        Some((at, _)) => Err(refused(
            at.max(1),
            "it would swallow the marker of the next cell".to_owned(),
        )),
        None => Ok(text),
    }
}
