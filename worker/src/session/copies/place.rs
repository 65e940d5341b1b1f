//! Where a copy lives: a directory below its session's, endpoints in `run/`, a control group's leaf
//! where there is one; and the removal of all that.

use std::{
    fs, io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::process::Signal;
use tithon_ipc::{
    files::{self, KernelRecord},
    ids::SessionKey,
    jupyter::ConnectionFile,
    paths::Home,
    process::ProcessIdentity,
};

use crate::{
    kernel::{
        checkpoint::{self, CopyOrder, Seat},
        tree,
    },
    session::{Place, endpoints},
    standing::Leaf,
};

/// The place of one copy.
#[derive(Debug)]
pub(super) struct CopyPlace {
    home: Home,
    key: SessionKey,
    number: u64,
    dir: PathBuf,
    leaf: Option<Leaf>,
}

impl CopyPlace {
    pub(super) fn new(session: &Place, number: u64) -> Self {
        Self {
            home: session.home.clone(),
            key: session.key.clone(),
            number,
            dir: files::copy_dir(&session.dir, number),
            leaf: session.group.as_ref().map(|group| group.copy(number)),
        }
    }

    pub(super) fn spool(&self) -> PathBuf {
        self.dir.join("spool")
    }

    /// Notes whose it is, for whoever looks for orphans.
    ///
    /// # Errors
    /// When that cannot be written.
    pub(super) fn record(&self, process: &ProcessIdentity) -> io::Result<()> {
        let process = process.clone();
        KernelRecord { process }.write(&self.dir)
    }

    fn connection_file(&self) -> PathBuf {
        self.dir.join("kernel.json")
    }

    /// How a copy is reached that an earlier worker made.
    ///
    /// # Errors
    /// When its connection file is gone.
    pub(super) fn connection(&self) -> io::Result<ConnectionFile> {
        files::read_json(&self.connection_file())
    }

    /// The routing id on the copy's sockets.
    pub(super) fn identity(&self) -> String {
        format!("tithon-{}-copy", self.key)
    }

    /// Makes the directory; returns how the copy is reached, and what a checkpoint is told of it.
    ///
    /// # Errors
    /// When the disk is full, or the like.
    pub(super) fn make(&self, guarded: bool) -> io::Result<(ConnectionFile, CopyOrder)> {
        let spool = self.spool();
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&spool)?;
        let endpoint = self.home.copy_endpoint(&self.key, self.number);
        let connection = endpoints::ipc(&endpoint, "python3")?;
        let file = self.connection_file();
        files::write_json(&file, &connection)?;
        let group = self.leaf.as_ref().and_then(|leaf| {
            let made = leaf.make();
            if let Err(err) = &made {
                tracing::warn!("failed to make a control group for a copy: {err}");
            }
            made.is_ok().then(|| leaf.entrance())
        });
        let order = CopyOrder {
            seat: Seat {
                connection: file,
                spool,
                log: self.dir.join("kernel.log"),
            },
            mark: self.dir.clone(),
            group,
            guarded,
            expendable: true,
        };
        Ok((connection, order))
    }

    /// Ends what the copy's guard could not find, and removes what there was for the copy.
    pub(super) async fn remove(&self) {
        end_all(&self.dir, self.leaf.as_ref()).await;
        let prefix = self.home.copy_endpoint(&self.key, self.number);
        endpoints::remove(&prefix);
        let removed = fs::remove_dir_all(&self.dir);
        // Only the last one's directory is left empty.
        self.dir.parent().map(fs::remove_dir);
        if let Err(err) = removed.or_else(missing_is_fine) {
            tracing::warn!("failed to remove a copy's directory: {err}");
        }
    }
}

fn missing_is_fine(err: io::Error) -> io::Result<()> {
    match err.kind() {
        io::ErrorKind::NotFound => Ok(()),
        _ => Err(err),
    }
}

/// How long what is killed may take to disappear.
const KILL_WAIT: Duration = Duration::from_secs(5);

async fn end_all(dir: &Path, leaf: Option<&Leaf>) {
    let gone = async {
        loop {
            let left = tree::marked(dir);
            if left.is_empty() {
                return;
            }
            for process in left {
                process.signal(Signal::KILL).ok();
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(KILL_WAIT, gone).await.ok();
    if let Some(leaf) = leaf {
        leaf.kill(&[]).await;
        leaf.remove();
    }
}

/// Ends and removes everything that an earlier worker left of a session's copies, but for those that go on.
pub(super) async fn sweep(session: &Place, spared: &[u64]) {
    for entry in fs::read_dir(files::copies_dir(&session.dir))
        .into_iter()
        .flatten()
        .flatten()
    {
        let number = number(&entry.file_name().to_string_lossy());
        if let Some(number) = number.filter(|number| !spared.contains(number)) {
            CopyPlace::new(session, number).remove().await;
        }
    }
    let prefix = session.home.copy_endpoint(&session.key, 0);
    let (Some(run), Some(name)) = (prefix.parent(), prefix.file_name()) else {
        return;
    };
    let name = name.to_string_lossy();
    let prefix = name.strip_suffix('0').unwrap_or(&name);
    for entry in fs::read_dir(run).into_iter().flatten().flatten() {
        let file = entry.file_name();
        let rest = file.to_str().and_then(|file| file.strip_prefix(prefix));
        // Those of a copy that ran went with its directory.
        if rest.and_then(number).is_none() {
            continue;
        }
        match checkpoint::find(&entry.path(), Duration::ZERO).await {
            Ok(process) => checkpoint::end(&process, &entry.path()),
            Err(_) => drop(fs::remove_file(entry.path())),
        }
    }
}

fn number(text: &str) -> Option<u64> {
    text.parse().ok()
}
