//! Open directories below a root, kept by path: most members of a layer lie beside the member before.
//!
//! Each directory is found with one openat2(2) that cannot leave the root, and is used through its fd. It also remembers
//! the directory's own modification time, which making children changes, and puts it back when it is closed.

use std::collections::{BTreeSet, HashMap};
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use hull_sys::path::open_in_root;
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid};
use rustix::io::Errno;

const SLOTS: usize = 64;
/// Path components: PATH_MAX allows 2048 of one letter.
const DEPTH_MAX: usize = 1024;

pub(super) struct Dirs {
    root: OwnedFd,
    slots: Vec<Option<Slot>>,
    by_path: HashMap<Vec<u8>, usize>,
    last: usize,
    clock: u64,
    /// Directories that were made without an entry of their own.
    implicit: BTreeSet<Vec<u8>>,
    /// Owner and group of those.
    owner: (u32, u32),
}

struct Slot {
    path: Vec<u8>,
    fd: OwnedFd,
    ino: u64,
    mtime: Timespec,
    dirty: bool,
    setgid: bool,
    used: u64,
}

/// Directories without an entry that one layer may have; each is remembered until the layer below is known.
const IMPLICIT_MAX: usize = 100_000;

impl Dirs {
    pub fn new(root: OwnedFd, owner: (u32, u32)) -> Self {
        let slots = (0..SLOTS).map(|_| None).collect();
        Dirs {
            root,
            slots,
            by_path: HashMap::new(),
            last: 0,
            clock: 0,
            implicit: BTreeSet::new(),
            owner,
        }
    }

    /// Finds a directory by its clean relative path (empty for the root), making what is missing.
    pub fn find(&mut self, path: &[u8]) -> io::Result<usize> {
        if self.slots[self.last]
            .as_ref()
            .is_some_and(|slot| slot.path == path)
        {
            return Ok(self.last);
        }
        self.clock += 1;
        let index = match self.by_path.get(path) {
            Some(index) => *index,
            None => self.open(path, 0)?,
        };
        self.last = index;
        self.slot_mut(index).used = self.clock;
        Ok(index)
    }

    /// As [`Dirs::find`], but makes nothing.
    pub fn find_existing(&mut self, path: &[u8]) -> io::Result<Option<usize>> {
        if self.by_path.contains_key(path) {
            return self.find(path).map(Some);
        }
        match self.open_fd(path) {
            Ok(fd) => {
                self.clock += 1;
                self.insert(path, fd).map(Some)
            }
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn slot(&self, index: usize) -> &Slot {
        self.slots[index]
            .as_ref()
            .expect("an index is used before the next find")
    }

    fn slot_mut(&mut self, index: usize) -> &mut Slot {
        self.slots[index]
            .as_mut()
            .expect("an index is used before the next find")
    }

    pub fn fd(&self, index: usize) -> BorrowedFd<'_> {
        self.slot(index).fd.as_fd()
    }

    /// Whether new files here take the directory's group.
    pub fn is_setgid(&self, index: usize) -> bool {
        self.slot(index).setgid
    }

    /// Says that a child was made or removed here.
    pub fn touch(&mut self, index: usize) {
        self.slot_mut(index).dirty = true;
    }

    /// A directory got its own entry: its time to keep and its setgid bit. `ino` finds it under any path.
    pub fn entry_seen(&mut self, ino: u64, path: &[u8], mtime: Timespec, setgid: bool) {
        if let Some(slot) = self.slots.iter_mut().flatten().find(|slot| slot.ino == ino) {
            slot.mtime = mtime;
            slot.setgid = setgid;
            slot.dirty = true;
        }
        self.implicit.remove(path);
    }

    /// Forgets all paths, because a directory or a link on the way to one went away.
    pub fn forget(&mut self) -> io::Result<()> {
        for index in 0..SLOTS {
            self.close(index)?;
        }
        Ok(())
    }

    /// As [`Dirs::forget`], but keeps the directory in use open.
    pub fn forget_below(&mut self, keep: usize) -> io::Result<()> {
        for index in (0..SLOTS).filter(|index| *index != keep) {
            self.close(index)?;
        }
        Ok(())
    }

    /// Puts all times back and returns the directories that had no entry, parents first.
    pub fn finish(mut self) -> io::Result<Vec<Vec<u8>>> {
        self.forget()?;
        Ok(std::mem::take(&mut self.implicit).into_iter().collect())
    }

    fn open_fd(&self, path: &[u8]) -> rustix::io::Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        open_in_root(
            self.root.as_fd(),
            Path::new(OsStr::from_bytes(path)),
            flags,
            Mode::empty(),
        )
    }

    fn open(&mut self, path: &[u8], depth: usize) -> io::Result<usize> {
        match self.open_fd(path) {
            Ok(fd) => return self.insert(path, fd),
            Err(Errno::NOENT) if !path.is_empty() && depth < DEPTH_MAX => {}
            Err(error) => return Err(error.into()),
        }
        let (parent_path, name) = split(path);
        let parent = match self.by_path.get(parent_path) {
            Some(index) => *index,
            None => self.open(parent_path, depth + 1)?,
        };
        if self.implicit.len() == IMPLICIT_MAX {
            return Err(io::Error::other("too many directories without an entry"));
        }
        rustix::fs::mkdirat(
            self.fd(parent),
            OsStr::from_bytes(name),
            Mode::from_raw_mode(0o755),
        )?;
        self.touch(parent);
        self.implicit.insert(path.to_vec());
        let fd = self.open_fd(path)?;
        rustix::fs::fchmod(&fd, Mode::from_raw_mode(0o755))?;
        if self.owner != (0, 0) {
            let (uid, gid) = (Uid::from_raw(self.owner.0), Gid::from_raw(self.owner.1));
            rustix::fs::chownat(&fd, c"", Some(uid), Some(gid), AtFlags::EMPTY_PATH)?;
        }
        self.insert(path, fd)
    }

    fn insert(&mut self, path: &[u8], fd: OwnedFd) -> io::Result<usize> {
        let stat = rustix::fs::fstat(&fd)?;
        // The same directory under another path (through a link) must not put back an older time.
        if let Some(same) = self
            .slots
            .iter()
            .position(|slot| slot.as_ref().is_some_and(|slot| slot.ino == stat.st_ino))
        {
            let slot = self.slot_mut(same);
            let old = std::mem::replace(&mut slot.path, path.to_vec());
            self.by_path.remove(&old);
            self.by_path.insert(path.to_vec(), same);
            self.slot_mut(same).used = self.clock;
            return Ok(same);
        }
        let index = self.free_slot()?;
        self.slots[index] = Some(Slot {
            path: path.to_vec(),
            fd,
            ino: stat.st_ino,
            mtime: Timespec {
                tv_sec: stat.st_mtime,
                tv_nsec: stat.st_mtime_nsec as _,
            },
            dirty: false,
            setgid: stat.st_mode & 0o2000 != 0
                && FileType::from_raw_mode(stat.st_mode) == FileType::Directory,
            used: self.clock,
        });
        self.by_path.insert(path.to_vec(), index);
        Ok(index)
    }

    fn free_slot(&mut self) -> io::Result<usize> {
        let used = |slot: &Option<Slot>| slot.as_ref().map_or(0, |slot| slot.used);
        let oldest = (0..SLOTS)
            .min_by_key(|index| used(&self.slots[*index]))
            .unwrap_or(0);
        self.close(oldest)?;
        Ok(oldest)
    }

    fn close(&mut self, index: usize) -> io::Result<()> {
        let Some(slot) = self.slots[index].take() else {
            return Ok(());
        };
        self.by_path.remove(&slot.path);
        if slot.dirty {
            rustix::fs::futimens(&slot.fd, &times(slot.mtime))?;
        }
        Ok(())
    }
}

/// Both times the same: a tar header has only one that everybody writes.
pub(super) fn times(mtime: Timespec) -> Timestamps {
    Timestamps {
        last_access: mtime,
        last_modification: mtime,
    }
}

/// Parent path and name of a clean relative path.
pub(super) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|b| *b == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (&[], path),
    }
}
