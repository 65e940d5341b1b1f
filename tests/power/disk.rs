//! A disk behind a cache: what of the recorded operations is on it when the power fails.
//!
//! What was synced is there. Of what was not, anything may be: each sector of a write by itself, a file's new
//! size without its bytes, a name without its file's content. Names in one directory come in order; those of
//! different directories are independent of one another (`Strict`), or come in one order for the whole disk,
//! and with any sync (`Journaled`, as ext4 and XFS do it).

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    io::Write as _,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use crate::{log::Operation, rng::Rng};

const SECTOR: usize = 512;

/// What a file system promises about names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Names {
    Strict,
    Journaled,
}

type Id = usize;

#[derive(Clone, Debug)]
enum Change {
    Write(u64, Vec<u8>),
    Size(u64),
}

/// A change of names in one directory; a rename is one change.
#[derive(Clone, Debug)]
struct NameChange {
    order: usize,
    remove: Option<String>,
    link: Option<(String, Id)>,
}

#[derive(Debug)]
enum Object {
    File {
        synced: Vec<u8>,
        cached: Vec<Change>,
    },
    Directory {
        synced: BTreeMap<String, Id>,
        cached: Vec<NameChange>,
        current: BTreeMap<String, Id>,
    },
}

impl Object {
    fn directory() -> Self {
        Self::Directory {
            synced: BTreeMap::new(),
            cached: Vec::new(),
            current: BTreeMap::new(),
        }
    }
}

/// The disk and its cache after some of the operations.
#[derive(Debug)]
pub(crate) struct Disk {
    names: Names,
    root: PathBuf,
    objects: Vec<Object>,
    by_inode: HashMap<u64, Id>,
    order: usize,
}

const ROOT: Id = 0;

impl Disk {
    /// An empty disk, mounted at `root`.
    pub(crate) fn new(root: &Path, names: Names) -> Self {
        Self {
            names,
            root: root.to_owned(),
            objects: vec![Object::directory()],
            by_inode: HashMap::from([(fs::metadata(root).unwrap().ino(), ROOT)]),
            order: 0,
        }
    }

    /// Does what was recorded.
    pub(crate) fn apply(&mut self, operation: &Operation) {
        match operation {
            Operation::Create { path, inode } => {
                let file = Object::File {
                    synced: Vec::new(),
                    cached: Vec::new(),
                };
                self.link_new(path, *inode, file);
            }
            Operation::MakeDir { path, inode } => {
                self.link_new(path, *inode, Object::directory());
            }
            Operation::Write { inode, at, bytes } => {
                self.change(*inode, Change::Write(*at, bytes.clone()));
            }
            Operation::Size { inode, size } => self.change(*inode, Change::Size(*size)),
            Operation::Sync { inode } => self.sync(*inode),
            Operation::Rename { from, to } => {
                // A socket is no file of the disk's.
                if let Some(id) = self.lookup(from) {
                    assert_eq!(from.parent(), to.parent(), "a rename between directories");
                    self.rename(from, Some(name(from)), Some((name(to), id)));
                }
            }
            Operation::Remove { path } => self.rename(path, Some(name(path)), None),
            Operation::Send { .. } => {}
        }
    }

    fn link_new(&mut self, path: &Path, inode: u64, object: Object) {
        let id = self.objects.len();
        self.objects.push(object);
        self.by_inode.insert(inode, id);
        self.rename(path, None, Some((name(path), id)));
    }

    fn change(&mut self, inode: u64, change: Change) {
        if let Some(Object::File { cached, .. }) = self
            .by_inode
            .get(&inode)
            .and_then(|id| self.objects.get_mut(*id))
        {
            cached.push(change);
        }
    }

    fn rename(&mut self, path: &Path, remove: Option<String>, link: Option<(String, Id)>) {
        self.order += 1;
        let order = self.order;
        let Some(dir) = self.lookup(path.parent().unwrap()) else {
            return;
        };
        if let Object::Directory {
            cached, current, ..
        } = &mut self.objects[dir]
        {
            let change = NameChange {
                order,
                remove,
                link,
            };
            take_up(current, &change);
            cached.push(change);
        }
    }

    fn lookup(&self, path: &Path) -> Option<Id> {
        let mut at = ROOT;
        for part in path.strip_prefix(&self.root).ok()?.components() {
            let Object::Directory { current, .. } = &self.objects[at] else {
                return None;
            };
            at = *current.get(part.as_os_str().to_str()?)?;
        }
        Some(at)
    }

    fn sync(&mut self, inode: u64) {
        let Some(&id) = self.by_inode.get(&inode) else {
            return;
        };
        match &mut self.objects[id] {
            Object::File { synced, cached } => {
                for change in cached.drain(..) {
                    apply_whole(synced, &change);
                }
            }
            Object::Directory { .. } => self.settle_names(id),
        }
        if self.names == Names::Journaled {
            for id in 0..self.objects.len() {
                self.settle_names(id);
            }
        }
    }

    fn settle_names(&mut self, id: Id) {
        if let Object::Directory { synced, cached, .. } = &mut self.objects[id] {
            for change in cached.drain(..) {
                take_up(synced, &change);
            }
        }
    }

    /// Writes what the disk holds if the power fails now to a new directory `to`.
    pub(crate) fn fail(&self, rng: &mut Rng, to: &Path) {
        // For the whole disk, where names come in one order.
        let through = match rng.below(3) {
            0 => 0,
            1 => self.order,
            _ => usize::try_from(rng.below(self.order as u64 + 1)).unwrap(),
        };
        self.write(ROOT, through, rng, to);
    }

    fn write(&self, id: Id, through: usize, rng: &mut Rng, to: &Path) {
        match &self.objects[id] {
            Object::File { synced, cached } => {
                let bytes = survivors(synced, cached, rng);
                let mut file = fs::OpenOptions::new()
                    .write(true)
                    .create_new(true)
                    .mode(0o600)
                    .open(to)
                    .unwrap();
                file.write_all(&bytes).unwrap();
            }
            Object::Directory { synced, cached, .. } => {
                fs::DirBuilder::new().mode(0o700).create(to).unwrap();
                let mut entries = synced.clone();
                let through = match (self.names, rng.below(3)) {
                    (Names::Journaled, _) => through,
                    (Names::Strict, 0) => 0,
                    (Names::Strict, 1) => usize::MAX,
                    (Names::Strict, _) => {
                        let at = rng.below(cached.len() as u64 + 1);
                        cached
                            .get(usize::try_from(at).unwrap())
                            .map_or(usize::MAX, |change| change.order)
                    }
                };
                for change in cached.iter().filter(|change| change.order <= through) {
                    take_up(&mut entries, change);
                }
                for (name, id) in entries {
                    if name.ends_with("-shm") {
                        shared_memory(rng, &to.join(name));
                    } else {
                        self.write(id, through, rng, &to.join(name));
                    }
                }
            }
        }
    }
}

/// SQLite's shared index is written by mmap: its file may hold anything.
fn shared_memory(rng: &mut Rng, to: &Path) {
    let bytes: Vec<u8> = match rng.below(3) {
        0 => return,
        1 => vec![0; 32768],
        _ => (0..4096).flat_map(|_| rng.next().to_le_bytes()).collect(),
    };
    fs::write(to, bytes).unwrap();
}

fn take_up(entries: &mut BTreeMap<String, Id>, change: &NameChange) {
    if let Some(name) = &change.remove {
        entries.remove(name);
    }
    if let Some((name, id)) = &change.link {
        entries.insert(name.clone(), *id);
    }
}

fn apply_whole(bytes: &mut Vec<u8>, change: &Change) {
    match change {
        Change::Size(size) => bytes.resize(usize::try_from(*size).unwrap(), 0),
        Change::Write(at, new) => overwrite(bytes, usize::try_from(*at).unwrap(), new),
    }
}

fn overwrite(bytes: &mut Vec<u8>, at: usize, new: &[u8]) {
    if bytes.len() < at + new.len() {
        bytes.resize(at + new.len(), 0);
    }
    bytes[at..at + new.len()].copy_from_slice(new);
}

/// What is left of a file: the synced bytes, and of the cached changes all, none, a beginning, or some.
fn survivors(synced: &[u8], cached: &[Change], rng: &mut Rng) -> Vec<u8> {
    let mut bytes = synced.to_vec();
    let (through, torn) = match rng.below(5) {
        0 => (0, false),
        1 => (cached.len(), false),
        2 => (
            usize::try_from(rng.below(cached.len() as u64 + 1)).unwrap(),
            false,
        ),
        _ => (cached.len(), true),
    };
    // How many of a hundred sectors survive.
    let share = rng.below(101);
    for change in &cached[..through] {
        match change {
            _ if !torn => apply_whole(&mut bytes, change),
            Change::Size(_) if rng.below(100) < share => apply_whole(&mut bytes, change),
            Change::Size(_) => {}
            Change::Write(at, new) => {
                let mut at = usize::try_from(*at).unwrap();
                let mut left = new.as_slice();
                while !left.is_empty() {
                    let (sector, rest) = left.split_at(left.len().min(SECTOR - at % SECTOR));
                    if rng.below(100) < share {
                        overwrite(&mut bytes, at, sector);
                    }
                    at += sector.len();
                    left = rest;
                }
            }
        }
    }
    bytes
}

fn name(path: &Path) -> String {
    path.file_name().unwrap().to_str().unwrap().to_owned()
}
