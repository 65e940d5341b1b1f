//! Percent files (`.py`) to Jupyter notebooks (`.ipynb`, nbformat 4) and back, with their outputs
//! (PROTOCOL §18, §20).
//!
//! No processes, no sockets: outputs of a session that runs are handed in. Nothing that exists is
//! overwritten, and what fails leaves nothing behind.

mod cells;
mod error;
mod export;
mod files;
mod images;
mod import;
mod notebook;
mod outputs;
mod percent;
mod python;
mod record;

use std::path::PathBuf;

pub use error::NotebookError;
pub use export::export;
pub use import::import;
pub use percent::{Cell, Kind, Unclosed, split};

/// What to convert, and the project it belongs to: the folder with `.tithon` in it.
#[derive(Clone, Debug)]
pub struct Conversion {
    /// The file to read.
    pub source: PathBuf,
    /// The file to write, which must not exist.
    pub destination: PathBuf,
    /// The project.
    pub workdir: PathBuf,
}

/// A conversion that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Converted {
    /// How many cells.
    pub cells: usize,
    /// The absolute path of what was written.
    pub destination: PathBuf,
    /// Images that outputs name and that are gone or not what they were: left out.
    pub missing_images: usize,
}
