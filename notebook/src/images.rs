//! Images: files named by their content in a `.py` project, base64 or text in a notebook.

use std::path::{Component, Path};

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Map, Value, json};
use tithon_ipc::ids::sha256_hex;

use crate::{
    NotebookError,
    files::{self, Batch, Project},
};

/// The member that stands for an image that became a file (PROTOCOL §13).
const REFERENCE: &str = "$tithon_artifact";
/// The folder below `.tithon`, and the only one that images are read from.
const FOLDER: &str = "outputs";

/// Types that become files, their endings, and whether a notebook has them as base64.
const TYPES: [(&str, &str, bool); 6] = [
    ("image/png", "png", true),
    ("image/jpeg", "jpg", true),
    ("image/gif", "gif", true),
    ("image/webp", "webp", true),
    ("application/pdf", "pdf", true),
    ("image/svg+xml", "svg", false),
];

/// Makes files of the images in a bundle and puts references in their places. What cannot be
/// decoded stays as it is.
pub(crate) fn extract(
    bundle: &mut Map<String, Value>,
    prefix: &str,
    project: &Project,
    batch: &mut Batch,
) -> Result<(), NotebookError> {
    for (mime, extension, base64) in TYPES {
        let Some(Value::String(text)) = bundle.get(mime) else {
            continue;
        };
        let Some(bytes) = bytes_of(text, base64) else {
            continue;
        };
        let sha = sha256_hex(&bytes);
        let name = format!("{prefix}_{sha}.{extension}");
        batch.write_named_by_content(&project.ours(FOLDER, Path::new(&name), "")?, &bytes)?;
        let reference = json!({REFERENCE: {
            "artifact_id": sha, "mime": mime, "rel_path": format!(".tithon/{FOLDER}/{name}"), "sha256": sha,
        }});
        bundle.insert(mime.to_owned(), reference);
    }
    Ok(())
}

fn bytes_of(text: &str, base64: bool) -> Option<Vec<u8>> {
    if !base64 {
        return Some(text.as_bytes().to_vec());
    }
    let compact: String = text.chars().filter(|c| !c.is_whitespace()).collect();
    // Only what comes back the same: a notebook that is exported again must not differ.
    BASE64_STANDARD.decode(compact).ok()
}

/// Puts the images back into a bundle; returns how many are gone or not what they were.
pub(crate) fn embed(bundle: &mut Map<String, Value>, project: &Project) -> usize {
    let mut missing = 0;
    bundle.retain(|mime, value| {
        let Some(reference) = value.get(REFERENCE) else {
            return true;
        };
        match load(reference, project) {
            Some(bytes) => {
                let is_text = TYPES
                    .iter()
                    .any(|(known, _, base64)| known == mime && !base64);
                let text = if is_text {
                    String::from_utf8(bytes).ok()
                } else {
                    Some(BASE64_STANDARD.encode(bytes))
                };
                *value = Value::String(text.unwrap_or_default());
                true
            }
            None => {
                missing += 1;
                false
            }
        }
    });
    missing
}

fn load(reference: &Value, project: &Project) -> Option<Vec<u8>> {
    let sha = reference
        .get("sha256")
        .or_else(|| reference.get("artifact_id"))?
        .as_str()?;
    let path = Path::new(reference.get("rel_path")?.as_str()?);
    let below = path
        .strip_prefix(".tithon")
        .ok()?
        .strip_prefix(FOLDER)
        .ok()?;
    if !below
        .components()
        .all(|part| matches!(part, Component::Normal(_)))
    {
        return None;
    }
    let path = project.ours(FOLDER, below, "").ok()?;
    let bytes = path.is_file().then(|| files::read(&path).ok()).flatten()?;
    (sha256_hex(&bytes) == sha).then_some(bytes)
}
