//! Why a conversion was not made.

use std::path::PathBuf;

use crate::percent::Unclosed;

/// Messages follow "failed to convert: " or stand alone; a second line is a hint.
#[derive(Debug, thiserror::Error)]
pub enum NotebookError {
    /// A file or folder cannot be read or written; the message names it.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// A destination is there already.
    #[error("{} exists already\nhint: nothing is overwritten; move it away, or name another destination", .0.display())]
    Exists(PathBuf),
    /// A file lies outside the project it is to belong to.
    #[error("{} is not inside the project {}\nhint: name the project's folder with --workdir", path.display(), workdir.display())]
    Outside { path: PathBuf, workdir: PathBuf },
    /// A folder of ours is a link, which may lead anywhere.
    #[error("{} is a link: nothing is read or written through it", .0.display())]
    Link(PathBuf),
    /// The file's name ends in something else.
    #[error("{} does not end in {expected}", path.display())]
    Extension {
        path: PathBuf,
        expected: &'static str,
    },
    /// A file is larger than what is read.
    #[error("{} is larger than {limit} MiB", path.display())]
    TooLarge { path: PathBuf, limit: u64 },
    /// The file is not UTF-8.
    #[error("{} is not UTF-8 text", .0.display())]
    NotText(PathBuf),
    /// Cells cannot be told apart.
    #[error("{}: it cannot be seen where cells end: {reason}", path.display())]
    Cells { path: PathBuf, reason: Unclosed },
    /// The file is not a notebook.
    #[error("{} is not a notebook: {reason}", path.display())]
    NotANotebook { path: PathBuf, reason: String },
    /// The notebook's version is not supported.
    #[error("{} has notebook format {major}, not 4\nhint: `jupyter nbconvert --to notebook --nbformat 4` upgrades it", path.display())]
    Version { path: PathBuf, major: i64 },
    /// The notebook is in another language.
    #[error("{} is a notebook in {language}, not Python", path.display())]
    Language { path: PathBuf, language: String },
    /// As text, a cell would end elsewhere or become several.
    #[error("cell {number} cannot be a cell of a Python file: {reason}")]
    Cell { number: usize, reason: String },
}
