//! Unpacking a layer into an empty directory of its own.
//!
//! Rules: image-spec `layer.md`; where it is silent, Docker's `archive.UnpackLayer`. Nothing is ever made outside the
//! root: every parent directory is found by openat2(2) with `RESOLVE_IN_ROOT`, and the last component is never followed
//! (CVE-2019-14271, CVE-2021-30465 are what happens otherwise).

use std::ffi::OsStr;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use hull_oci::Digest;
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Timespec, Uid, XattrFlags};
use rustix::io::Errno;

use super::dirs::{Dirs, split, times};
use super::hashed::Hashed;
use super::ids::IdMaps;
use super::tar::{Entry, Kind, Reader};
use super::{OPAQUE_XATTR, WHITEOUT_META_PREFIX, WHITEOUT_OPAQUE, WHITEOUT_PREFIX};
use crate::fsutil::{is_whiteout, open_dir_at, remove_tree, set_xattr};
use crate::{Error, Result};

/// Bounds and mapping for [`apply`].
#[derive(Debug, Clone)]
pub struct ApplyOptions {
    /// Most bytes of the uncompressed stream.
    pub max_bytes: u64,
    /// Most members.
    pub max_entries: u64,
    /// Owners on disk of the archive's, for a remapped user namespace.
    pub ids: IdMaps,
    /// The stream's digest, where it has just been verified otherwise: it is then not computed a second time.
    pub known_diff_id: Option<Digest>,
}

impl Default for ApplyOptions {
    fn default() -> Self {
        ApplyOptions {
            max_bytes: 256 << 30,
            max_entries: 20_000_000,
            ids: IdMaps::default(),
            known_diff_id: None,
        }
    }
}

/// What [`apply`] did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// Digest of the uncompressed stream, its end included.
    pub diff_id: Digest,
    /// Length of that stream.
    pub tar_bytes: u64,
    /// Sum of the files' lengths: the layer's size as Docker counts it.
    pub size: u64,
    /// Members.
    pub entries: u64,
    /// What must be settled when the layers below are known.
    pub pending: Pending,
}

/// What a layer alone could not decide.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Pending {
    /// Directories without an entry: if a layer below has them, its mode, owner and times hold. Parents first.
    pub implicit_dirs: Vec<Vec<u8>>,
    /// Hard links (path, target) whose target is not in this layer.
    pub links: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Pending {
    /// Whether the layers below need not be asked for anything.
    pub fn is_empty(&self) -> bool {
        self.implicit_dirs.is_empty() && self.links.is_empty()
    }
}

/// Hard links into layers below that one layer may have.
const LINKS_MAX: usize = 100_000;

/// Unpacks a plain tar stream into the directory `root`, reading it to its very end.
///
/// # Errors
/// [`Error::BadLayer`] for a damaged stream, [`Error::Refused`] for a member that is not allowed, [`Error::Entry`] when the
/// file system refuses, [`Error::Bomb`] beyond the bounds. What was unpacked so far stays: remove the directory.
pub fn apply(reader: impl Read, root: BorrowedFd<'_>, options: &ApplyOptions) -> Result<Applied> {
    let own = open_dir_at(root, OsStr::new(".")).map_err(Error::io("open", "layer directory"))?;
    let owner = options.ids.root();
    if owner != (0, 0) {
        let (uid, gid) = (Uid::from_raw(owner.0), Gid::from_raw(owner.1));
        rustix::fs::chownat(&own, c"", Some(uid), Some(gid), AtFlags::EMPTY_PATH)
            .map_err(Error::io("set owner of", "layer directory"))?;
    }
    let mut unpacker = Unpacker {
        dirs: Dirs::new(own, owner),
        options,
        path: Vec::new(),
        links: Vec::new(),
        size: 0,
    };
    let mut reader = Reader::new(Hashed::new(
        reader,
        options.max_bytes,
        options.known_diff_id.clone(),
    ));
    let mut entry = Entry::default();
    let mut entries = 0;
    while reader.next(&mut entry)? {
        entries += 1;
        if entries > options.max_entries {
            return Err(Error::Bomb {
                limit: options.max_entries,
                unit: "files",
            });
        }
        unpacker.unpack(&entry, &mut reader)?;
    }
    let mut hashed = reader.into_inner();
    hashed.drain().map_err(super::tar::damaged)?;
    let (diff_id, tar_bytes) = hashed.finish();
    let Unpacker {
        dirs, links, size, ..
    } = unpacker;
    let implicit_dirs = dirs
        .finish()
        .map_err(Error::io("set times in", "layer directory"))?;
    Ok(Applied {
        diff_id,
        tar_bytes,
        size,
        entries,
        pending: Pending {
            implicit_dirs,
            links,
        },
    })
}

struct Unpacker<'o> {
    dirs: Dirs,
    options: &'o ApplyOptions,
    path: Vec<u8>,
    links: Vec<(Vec<u8>, Vec<u8>)>,
    size: u64,
}

/// Where a member goes: an open parent directory and a name in it.
struct Place<'e> {
    parent: usize,
    name: &'e OsStr,
}

impl Unpacker<'_> {
    fn unpack<R: io::BufRead>(&mut self, entry: &Entry, reader: &mut Reader<R>) -> Result<()> {
        let mut path = std::mem::take(&mut self.path);
        clean(&entry.path, &mut path).map_err(|why| Error::Refused {
            entry: entry.display(),
            why,
        })?;
        let outcome = self.unpack_at(&path, entry, reader);
        self.path = path;
        outcome
    }

    fn unpack_at<R: io::BufRead>(
        &mut self,
        path: &[u8],
        entry: &Entry,
        reader: &mut Reader<R>,
    ) -> Result<()> {
        let (parent, name) = split(path);
        if path.starts_with(WHITEOUT_META_PREFIX) && name != WHITEOUT_OPAQUE {
            return Ok(());
        }
        if path.is_empty() {
            return if entry.kind == Kind::Directory {
                self.root(entry)
            } else {
                Ok(())
            };
        }
        if parent
            .split(|b| *b == b'/')
            .any(|part| part.starts_with(WHITEOUT_PREFIX))
        {
            return Err(Error::Refused {
                entry: entry.display(),
                why: "a directory with a whiteout's name",
            });
        }
        let parent = self
            .dirs
            .find(parent)
            .map_err(failed("find the directory of", entry))?;
        let place = Place {
            parent,
            name: OsStr::from_bytes(name),
        };
        if let Some(hidden) = name.strip_prefix(WHITEOUT_PREFIX) {
            return self
                .whiteout(&place, name, hidden)
                .map_err(failed("apply whiteout", entry))?;
        }
        match entry.kind {
            Kind::File => self.file(&place, entry, reader),
            Kind::Directory => self.directory(&place, path, entry),
            Kind::HardLink => self.hard_link(&place, path, entry),
            Kind::Symlink => self.special(&place, entry, |dir, name| {
                rustix::fs::symlinkat(OsStr::from_bytes(&entry.link), dir, name)
            }),
            Kind::CharDevice => self.device(&place, entry, FileType::CharacterDevice),
            Kind::BlockDevice => self.device(&place, entry, FileType::BlockDevice),
            Kind::Fifo => self.device(&place, entry, FileType::Fifo),
        }
    }

    fn root(&mut self, entry: &Entry) -> Result<()> {
        let index = self.dirs.find(b"").map_err(failed("find", entry))?;
        let place = Place {
            parent: index,
            name: OsStr::new("."),
        };
        self.owner(&place, entry)?;
        rustix::fs::fchmod(self.dirs.fd(index), Mode::from_raw_mode(entry.mode))
            .map_err(failed("set mode of", entry))?;
        self.xattrs(&place, entry)?;
        let stat = rustix::fs::fstat(self.dirs.fd(index)).map_err(failed("stat", entry))?;
        self.dirs
            .entry_seen(stat.st_ino, b"", timespec(entry), entry.mode & 0o2000 != 0);
        Ok(())
    }

    fn whiteout(
        &mut self,
        place: &Place<'_>,
        name: &[u8],
        hidden: &[u8],
    ) -> io::Result<Result<()>> {
        if name == WHITEOUT_OPAQUE {
            rustix::fs::fsetxattr(
                self.dirs.fd(place.parent),
                OPAQUE_XATTR,
                b"y",
                XattrFlags::empty(),
            )?;
            return Ok(Ok(()));
        }
        if name.starts_with(WHITEOUT_META_PREFIX) {
            return Ok(Ok(()));
        }
        if matches!(hidden, b"" | b"." | b"..") {
            let entry = String::from_utf8_lossy(name).into_owned();
            return Ok(Err(Error::Refused {
                entry,
                why: "a whiteout of nothing",
            }));
        }
        let hidden = OsStr::from_bytes(hidden);
        let dir = self.dirs.fd(place.parent);
        match rustix::fs::mknodat(dir, hidden, FileType::CharacterDevice, Mode::empty(), 0) {
            Ok(()) => self.dirs.touch(place.parent),
            // This layer has something of that name: whiteouts speak of the layers below only. A directory then hides
            // theirs, any other file does so anyway.
            Err(Errno::EXIST) => match open_dir_at(dir, hidden) {
                Ok(own) => rustix::fs::fsetxattr(&own, OPAQUE_XATTR, b"y", XattrFlags::empty())?,
                Err(Errno::NOTDIR | Errno::LOOP) => {}
                Err(error) => return Err(error.into()),
            },
            Err(error) => return Err(error.into()),
        }
        Ok(Ok(()))
    }

    fn file<R: io::BufRead>(
        &mut self,
        place: &Place<'_>,
        entry: &Entry,
        reader: &mut Reader<R>,
    ) -> Result<()> {
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(entry.mode & 0o777);
        let make = |dir: BorrowedFd<'_>, name: &OsStr| rustix::fs::openat(dir, name, flags, mode);
        let file = self.make(place, entry, make)?;
        write(&file, entry, reader)?;
        let (uid, gid) = self.ids(entry)?;
        if uid != 0 || gid != 0 || self.dirs.is_setgid(place.parent) {
            rustix::fs::fchown(&file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
                .map_err(failed("set owner of", entry))?;
        }
        self.xattrs(place, entry)?;
        rustix::fs::fchmod(&file, Mode::from_raw_mode(entry.mode))
            .map_err(failed("set mode of", entry))?;
        rustix::fs::futimens(&file, &times(timespec(entry)))
            .map_err(failed("set times of", entry))?;
        self.size += entry.size;
        Ok(())
    }

    fn directory(&mut self, place: &Place<'_>, path: &[u8], entry: &Entry) -> Result<()> {
        let dir = self.dirs.fd(place.parent);
        let mut opaque = false;
        match rustix::fs::mkdirat(dir, place.name, Mode::from_raw_mode(0o700)) {
            Ok(()) => {}
            Err(Errno::EXIST) => {
                let stat = rustix::fs::statat(dir, place.name, AtFlags::SYMLINK_NOFOLLOW)
                    .map_err(failed("stat", entry))?;
                if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
                    opaque = is_whiteout(&stat);
                    self.clear(place, entry)?;
                    rustix::fs::mkdirat(
                        self.dirs.fd(place.parent),
                        place.name,
                        Mode::from_raw_mode(0o700),
                    )
                    .map_err(failed("create", entry))?;
                }
            }
            Err(error) => return Err(failed("create", entry)(error)),
        }
        self.dirs.touch(place.parent);
        if opaque {
            set_xattr(
                self.dirs.fd(place.parent),
                place.name,
                OPAQUE_XATTR.as_bytes(),
                b"y",
            )
            .map_err(failed("make opaque", entry))?;
        }
        self.metadata(place, entry)?;
        let stat = rustix::fs::statat(
            self.dirs.fd(place.parent),
            place.name,
            AtFlags::SYMLINK_NOFOLLOW,
        )
        .map_err(failed("stat", entry))?;
        self.dirs
            .entry_seen(stat.st_ino, path, timespec(entry), entry.mode & 0o2000 != 0);
        Ok(())
    }

    fn hard_link(&mut self, place: &Place<'_>, path: &[u8], entry: &Entry) -> Result<()> {
        let mut target = Vec::new();
        clean(&entry.link, &mut target).map_err(|why| Error::Refused {
            entry: entry.display(),
            why,
        })?;
        if target == path {
            return Ok(());
        }
        let (target_dir, target_name) = split(&target);
        // Finding one directory may close another: keep our own fd of the member's.
        let dir = self
            .dirs
            .fd(place.parent)
            .try_clone_to_owned()
            .map_err(failed("open the directory of", entry))?;
        let found = self
            .dirs
            .find_existing(target_dir)
            .map_err(failed("find the target of", entry))?;
        let target_name = OsStr::from_bytes(target_name);
        let target_dir = found.map(|index| self.dirs.fd(index));
        let stat = target_dir
            .and_then(|dir| rustix::fs::statat(dir, target_name, AtFlags::SYMLINK_NOFOLLOW).ok());
        let (Some(target_dir), Some(_)) = (target_dir, stat.filter(|stat| !is_whiteout(stat)))
        else {
            if self.links.len() == LINKS_MAX {
                return Err(Error::Refused {
                    entry: entry.display(),
                    why: "too many hard links into layers below",
                });
            }
            self.links.push((path.to_vec(), target));
            return Ok(());
        };
        let link =
            || rustix::fs::linkat(target_dir, target_name, &dir, place.name, AtFlags::empty());
        match link() {
            Err(Errno::EXIST) => {
                remove_tree(dir.as_fd(), place.name).map_err(failed("replace", entry))?;
                link().map_err(failed("link", entry))?;
                self.dirs.forget().map_err(failed("replace", entry))?;
            }
            other => other.map_err(failed("link", entry))?,
        }
        let (parent, _) = split(path);
        let parent = self
            .dirs
            .find(parent)
            .map_err(failed("find the directory of", entry))?;
        self.dirs.touch(parent);
        Ok(())
    }

    fn device(&mut self, place: &Place<'_>, entry: &Entry, kind: FileType) -> Result<()> {
        let device = match kind {
            FileType::Fifo => 0,
            _ => rustix::fs::makedev(entry.dev_major, entry.dev_minor),
        };
        let mode = Mode::from_raw_mode(entry.mode & 0o777);
        self.special(place, entry, |dir, name| {
            rustix::fs::mknodat(dir, name, kind, mode, device)
        })
    }

    fn special(
        &mut self,
        place: &Place<'_>,
        entry: &Entry,
        make: impl Fn(BorrowedFd<'_>, &OsStr) -> rustix::io::Result<()>,
    ) -> Result<()> {
        self.make(place, entry, make)?;
        self.metadata(place, entry)
    }

    /// Makes something; what is in the way goes, as in Docker.
    fn make<T>(
        &mut self,
        place: &Place<'_>,
        entry: &Entry,
        make: impl Fn(BorrowedFd<'_>, &OsStr) -> rustix::io::Result<T>,
    ) -> Result<T> {
        self.dirs.touch(place.parent);
        match make(self.dirs.fd(place.parent), place.name) {
            Err(Errno::EXIST) => {
                self.clear(place, entry)?;
                make(self.dirs.fd(place.parent), place.name).map_err(failed("create", entry))
            }
            other => other.map_err(failed("create", entry)),
        }
    }

    /// Removes what is at a place. Paths that led through it must be found anew.
    fn clear(&mut self, place: &Place<'_>, entry: &Entry) -> Result<()> {
        let dir = self
            .dirs
            .fd(place.parent)
            .try_clone_to_owned()
            .map_err(failed("replace", entry))?;
        let stat = rustix::fs::statat(&dir, place.name, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(failed("replace", entry))?;
        remove_tree(dir.as_fd(), place.name).map_err(failed("replace", entry))?;
        if matches!(
            FileType::from_raw_mode(stat.st_mode),
            FileType::Directory | FileType::Symlink
        ) {
            self.dirs
                .forget_below(place.parent)
                .map_err(failed("replace", entry))?;
        }
        Ok(())
    }

    /// Owner, xattrs, mode and times of anything but a regular file.
    fn metadata(&mut self, place: &Place<'_>, entry: &Entry) -> Result<()> {
        self.owner(place, entry)?;
        self.xattrs(place, entry)?;
        let dir = self.dirs.fd(place.parent);
        if entry.kind != Kind::Symlink {
            rustix::fs::chmodat(
                dir,
                place.name,
                Mode::from_raw_mode(entry.mode),
                AtFlags::empty(),
            )
            .map_err(failed("set mode of", entry))?;
        }
        rustix::fs::utimensat(
            dir,
            place.name,
            &times(timespec(entry)),
            AtFlags::SYMLINK_NOFOLLOW,
        )
        .map_err(failed("set times of", entry))
    }

    fn owner(&self, place: &Place<'_>, entry: &Entry) -> Result<()> {
        let (uid, gid) = self.ids(entry)?;
        let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
        rustix::fs::chownat(
            self.dirs.fd(place.parent),
            place.name,
            uid,
            gid,
            AtFlags::SYMLINK_NOFOLLOW,
        )
        .map_err(failed("set owner of", entry))
    }

    fn ids(&self, entry: &Entry) -> Result<(u32, u32)> {
        let mapped = self.options.ids.outside(entry.uid, entry.gid);
        mapped.ok_or_else(|| Error::Refused {
            entry: entry.display(),
            why: "its owner or group is outside the range of ids",
        })
    }

    /// overlayfs's own attributes would let a layer reach into others; what the file system cannot store is left out.
    fn xattrs(&self, place: &Place<'_>, entry: &Entry) -> Result<()> {
        for (key, value) in &entry.xattrs {
            if key.starts_with(b"trusted.overlay.") || key.starts_with(b"user.overlay.") {
                continue;
            }
            match set_xattr(self.dirs.fd(place.parent), place.name, key, value) {
                Ok(()) | Err(Errno::NOTSUP) => {}
                Err(Errno::PERM) if !key.starts_with(b"security.") => {}
                Err(error) => return Err(failed("set an extended attribute of", entry)(error)),
            }
        }
        Ok(())
    }
}

fn write<R: io::BufRead>(file: &OwnedFd, entry: &Entry, reader: &mut Reader<R>) -> Result<()> {
    let Some(map) = &entry.sparse else {
        return write_run(file, entry.size, entry, reader);
    };
    for (offset, length) in map {
        rustix::fs::seek(file, rustix::fs::SeekFrom::Start(*offset))
            .map_err(failed("seek in", entry))?;
        write_run(file, *length, entry, reader)?;
    }
    rustix::fs::ftruncate(file, entry.size).map_err(failed("set the length of", entry))
}

fn write_run<R: io::BufRead>(
    file: &OwnedFd,
    mut left: u64,
    entry: &Entry,
    reader: &mut Reader<R>,
) -> Result<()> {
    while left > 0 {
        let chunk = reader.chunk()?;
        let count = usize::try_from(left).map_or(chunk.len(), |left| left.min(chunk.len()));
        if count == 0 {
            return Err(Error::bad_layer(super::tar::CUT));
        }
        let count = match rustix::io::write(file, &chunk[..count]) {
            Err(Errno::INTR) => 0,
            other => other.map_err(failed("write", entry))?,
        };
        reader.consume(count);
        left -= count as u64;
    }
    Ok(())
}

fn timespec(entry: &Entry) -> Timespec {
    Timespec {
        tv_sec: entry.mtime.0,
        tv_nsec: entry.mtime.1.into(),
    }
}

fn failed<E: Into<io::Error>>(operation: &'static str, entry: &Entry) -> impl FnOnce(E) -> Error {
    move |source| Error::Entry {
        operation,
        entry: entry.display(),
        source: source.into(),
    }
}

/// Makes a path relative and free of `.`, `..` and empty components. `..` beyond the top is refused.
fn clean(path: &[u8], into: &mut Vec<u8>) -> std::result::Result<(), &'static str> {
    into.clear();
    let absolute = path.starts_with(b"/");
    for component in path.split(|b| *b == b'/') {
        match component {
            b"" | b"." => {}
            b".." if into.is_empty() && absolute => {}
            b".." if into.is_empty() => return Err("its path leads outside the layer"),
            b".." => into.truncate(split(into).0.len()),
            name => {
                if !into.is_empty() {
                    into.push(b'/');
                }
                into.extend_from_slice(name);
            }
        }
    }
    Ok(())
}
