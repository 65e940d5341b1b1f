//! The kernelspecs there are from where a client stands, and which one a name means.

use std::path::PathBuf;

use super::error::PythonError;
use super::find::{self, Chosen};
use super::kernelspec::{self, KnownKernel};
use super::{Limits, Wish, jupyter_path};

/// Where kernelspecs are looked for, which depends on the session's Python.
pub(super) struct Search {
    pub(super) python: Result<Chosen, PythonError>,
    dirs: Vec<PathBuf>,
}

impl Search {
    pub(super) fn of(wish: &Wish, limits: Limits) -> Result<Self, PythonError> {
        let python = match find::interpreter(wish, limits.probe) {
            // A Python that was asked for is not optional; that there is none at all does not
            // concern an R kernel.
            Err(error) if wish.python.is_some() => return Err(error),
            other => other,
        };
        let dirs =
            jupyter_path::kernel_dirs(&wish.env, python.as_ref().ok().map(|chosen| &chosen.python));
        Ok(Self { python, dirs })
    }

    pub(super) fn known(&self) -> Vec<KnownKernel> {
        kernelspec::list(&self.dirs)
    }

    pub(super) fn find(&self, name: &str) -> Option<KnownKernel> {
        let name = name.to_lowercase();
        self.known().into_iter().find(|kernel| kernel.name == name)
    }

    pub(super) fn missing(self, name: &str) -> PythonError {
        let known = self.known();
        PythonError::NoKernelspec {
            name: name.to_owned(),
            suggestion: suggestion(name, &known),
            known,
            looked: self.dirs,
        }
    }
}

/// The kernelspec that was probably meant: by what it calls itself, or by a name that is nearly the
/// same.
fn suggestion(name: &str, known: &[KnownKernel]) -> Option<String> {
    let name = name.to_lowercase();
    let described = known.iter().find(|kernel| {
        kernel.spec.as_ref().is_ok_and(|spec| {
            spec.language.to_lowercase() == name || spec.display_name.to_lowercase() == name
        })
    });
    let near = || {
        let close_enough = 2.max(name.chars().count() / 3);
        known
            .iter()
            .map(|kernel| (distance(&name, &kernel.name), kernel))
            .filter(|(distance, _)| *distance <= close_enough)
            .min_by_key(|(distance, _)| *distance)
            .map(|(_, kernel)| kernel)
    };
    described.or_else(near).map(|kernel| kernel.name.clone())
}

/// Levenshtein's distance: insertions, deletions and replacements between two names.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}
