//! Kernelspecs on disk
//! (<https://jupyter-client.readthedocs.io/en/stable/kernels.html#kernel-specs>): listing them and
//! reading `kernel.json`. One that cannot be read is listed with the reason and is in nobody's way.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::InterruptMode;

/// A kernelspec that was found.
#[derive(Clone, Debug)]
pub struct KnownKernel {
    /// Lower case, as Jupyter has it.
    pub name: String,
    /// The directory that holds its `kernel.json`.
    pub resource_dir: PathBuf,
    /// What `kernel.json` says, or why it cannot be used.
    pub spec: Result<Spec, String>,
}

/// The part of `kernel.json` that starts a kernel.
#[derive(Clone, Debug, Deserialize)]
pub struct Spec {
    pub argv: Vec<String>,
    #[serde(default)]
    pub display_name: String,
    #[serde(default)]
    pub language: String,
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    #[serde(default, deserialize_with = "any_case")]
    pub interrupt_mode: InterruptMode,
}

fn any_case<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<InterruptMode, D::Error> {
    let text = String::deserialize(deserializer)?;
    InterruptMode::deserialize(serde::de::value::StringDeserializer::new(
        text.to_lowercase(),
    ))
}

/// All kernelspecs in these directories by name; the first directory that has a name wins, even
/// with a broken one.
pub(super) fn list(kernel_dirs: &[PathBuf]) -> Vec<KnownKernel> {
    let mut found: BTreeMap<String, PathBuf> = BTreeMap::new();
    for dir in kernel_dirs {
        let Ok(entries) = dir.read_dir() else {
            continue;
        };
        // Where only the case of two names differs, the outcome must not depend on the directory's
        // order.
        let mut entries: Vec<PathBuf> = entries
            .filter_map(Result::ok)
            .map(|entry| entry.path())
            .collect();
        entries.sort();
        for path in entries
            .into_iter()
            .filter(|path| path.join("kernel.json").is_file())
        {
            if let Some(name) = path.file_name().and_then(|name| name.to_str()) {
                found.entry(name.to_lowercase()).or_insert(path);
            }
        }
    }
    found
        .into_iter()
        .map(|(name, resource_dir)| KnownKernel {
            name,
            spec: read(&resource_dir),
            resource_dir,
        })
        .collect()
}

fn read(resource_dir: &Path) -> Result<Spec, String> {
    let text =
        std::fs::read(resource_dir.join("kernel.json")).map_err(|error| error.to_string())?;
    let spec: Spec = serde_json::from_slice(&text).map_err(|error| error.to_string())?;
    if spec.argv.is_empty() {
        Err("its argv is empty".to_owned())
    } else {
        Ok(spec)
    }
}

/// Replaces `{name}` by its value; what is not known stays as it is.
pub(super) fn fill(argument: &str, values: &[(&str, &str)]) -> String {
    let mut filled = String::with_capacity(argument.len());
    let mut rest = argument;
    while let Some(open) = rest.find('{') {
        filled.push_str(&rest[..open]);
        rest = &rest[open..];
        let known = values.iter().find_map(|(name, value)| {
            let after = rest[1..].strip_prefix(name)?.strip_prefix('}')?;
            Some((*value, after))
        });
        match known {
            Some((value, after)) => {
                filled.push_str(value);
                rest = after;
            }
            None => {
                filled.push('{');
                rest = &rest[1..];
            }
        }
    }
    filled + rest
}

/// Replaces `$NAME` and `${NAME}` by the client's variables and `$$` by `$`; what is not set stays
/// as it is (`string.Template.safe_substitute`).
pub(super) fn expand(template: &str, env: &BTreeMap<String, String>) -> String {
    let mut expanded = String::with_capacity(template.len());
    let mut rest = template;
    while let Some(dollar) = rest.find('$') {
        expanded.push_str(&rest[..dollar]);
        rest = &rest[dollar..];
        let after = &rest[1..];
        if let Some(after) = after.strip_prefix('$') {
            expanded.push('$');
            rest = after;
            continue;
        }
        let braced = after.strip_prefix('{');
        let body = braced.unwrap_or(after);
        let name = &body[..name_length(body)];
        let tail = &body[name.len()..];
        let tail = if braced.is_some() {
            tail.strip_prefix('}')
        } else {
            Some(tail)
        };
        match (env.get(name), tail) {
            (Some(value), Some(tail)) if !name.is_empty() => {
                expanded.push_str(value);
                rest = tail;
            }
            _ => {
                expanded.push('$');
                rest = after;
            }
        }
    }
    expanded + rest
}

/// Length in bytes of the identifier a text begins with.
fn name_length(text: &str) -> usize {
    let starts = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    let ends = text
        .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .unwrap_or(text.len());
    if starts { ends } else { 0 }
}
