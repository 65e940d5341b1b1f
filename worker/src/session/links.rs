//! Links to the session's connection file where other Jupyter programs look for kernels, for those who
//! want them: `jupyter console --existing` takes the newest from Jupyter's runtime directory, a
//! Jupyter server lists those in `external_kernels`.

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::{DirBuilderExt, symlink},
    path::{Path, PathBuf},
};

use super::Session;

/// Jupyter's runtime directory as a process with this environment finds it.
fn runtime_dir(env: &BTreeMap<String, String>) -> Option<PathBuf> {
    let var = |name: &str| {
        env.get(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    let data = || {
        var("JUPYTER_DATA_DIR")
            .or_else(|| Some(var("XDG_DATA_HOME")?.join("jupyter")))
            .or_else(|| {
                let below = if cfg!(target_os = "macos") {
                    "Library/Jupyter"
                } else {
                    ".local/share/jupyter"
                };
                Some(var("HOME")?.join(below))
            })
    };
    var("JUPYTER_RUNTIME_DIR").or_else(|| Some(data()?.join("runtime")))
}

/// Puts a link in place of whatever an earlier kernel of the session left.
fn link(file: &Path, link: &Path) -> io::Result<()> {
    if let Some(dir) = link.parent() {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)?;
    }
    remove(link)?;
    symlink(file, link)
}

/// Removes a link, and nothing that is no link.
fn remove(link: &Path) -> io::Result<()> {
    match fs::symlink_metadata(link) {
        Ok(found) if found.is_symlink() => fs::remove_file(link),
        Ok(_) => Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            "it is not a link of Tithon's",
        )),
        Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(err) => Err(err),
    }
}

impl Session {
    /// Makes the links of a kernel that can be used.
    pub(super) fn announce(&self) {
        let file = self.place.dir.join("kernel.json");
        self.each_link(|path| link(&file, path));
    }

    /// Removes the links of a kernel that is over.
    pub(super) fn withdraw(&self) {
        self.each_link(remove);
    }

    fn each_link(&self, mut act: impl FnMut(&Path) -> io::Result<()>) {
        if !self.settings.jupyter_links {
            return;
        }
        let Some(dir) = runtime_dir(&self.launch_env()) else {
            return;
        };
        let name = format!("kernel-tithon-{}.json", self.place.key);
        for path in [dir.join(&name), dir.join("external_kernels").join(&name)] {
            if let Err(err) = act(&path) {
                tracing::warn!("failed to keep the link {}: {err}", path.display());
            }
        }
    }
}
