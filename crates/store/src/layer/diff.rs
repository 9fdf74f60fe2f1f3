//! A snapshot's changes as a layer's tar: the inverse of [`apply`](super::apply). The same files give the same bytes.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::BorrowedFd;
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags, Stat};

use super::changes::ChangeKind;
use super::dirs::split;
use super::ids::IdMaps;
use super::tar::{Entry, Kind, Writer};
use super::walk::{Step, walk};
use super::{WHITEOUT_OPAQUE, WHITEOUT_PREFIX};
use crate::fsutil::xattrs;
use crate::snapshot::DiffSource;
use crate::{Error, Result};

const BUFFER_LEN: usize = 128 * 1024;

/// Writes the changes of a snapshot as a tar stream, with the owners that the container sees, and gives the output back. `hidden` are
/// paths (without a leading slash) whose making is no change: what a runtime makes to mount on. Sockets are left out, for tar has none; a
/// file that shrinks while it is read is filled up with zeros.
///
/// # Errors
/// Those of reading the files and of the output.
pub fn diff<W: Write>(source: &DiffSource, hidden: &[&str], ids: &IdMaps, out: W) -> Result<W> {
    let mut packer = Packer {
        ids,
        tar: Writer::new(out),
        links: HashMap::new(),
        buffer: vec![0; BUFFER_LEN],
    };
    let is_hidden = |path: &[u8]| hidden.iter().any(|hidden| hidden.as_bytes() == path);
    walk(source, &mut |step| match step {
        Step::File {
            path,
            kind: ChangeKind::Added,
            ..
        } if is_hidden(path) => Ok(()),
        Step::File {
            path,
            dir,
            name,
            stat,
            ..
        } => packer.file(path, dir, name, stat),
        Step::Gone { path } => {
            let (_, name) = split(path);
            packer.marker(path, &[WHITEOUT_PREFIX, name].concat())
        }
        Step::Opaque { path } => packer.marker(&[path, b"/"].concat(), WHITEOUT_OPAQUE),
    })?;
    packer.tar.finish().map_err(write_error)
}

fn write_error(source: io::Error) -> Error {
    Error::Io {
        operation: "write",
        path: "layer".into(),
        source,
    }
}

struct Packer<'i, W> {
    ids: &'i IdMaps,
    tar: Writer<W>,
    /// First names of files with several, by device and inode.
    links: HashMap<(u64, u64), Vec<u8>>,
    buffer: Vec<u8>,
}

impl<W: Write> Packer<'_, W> {
    /// An empty file that means something by its name, beside `path`.
    fn marker(&mut self, path: &[u8], name: &[u8]) -> Result<()> {
        let (parent, _) = split(path);
        let path = if parent.is_empty() {
            name.to_vec()
        } else {
            [parent, b"/", name].concat()
        };
        self.tar
            .member(&Entry {
                path,
                ..Entry::default()
            })
            .map_err(write_error)
    }

    fn file(&mut self, path: &[u8], dir: BorrowedFd<'_>, name: &OsStr, stat: &Stat) -> Result<()> {
        let failed = |source: rustix::io::Errno| Error::Io {
            operation: "read",
            path: Path::new(name).to_owned(),
            source: source.into(),
        };
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Kind::File,
            FileType::Directory => Kind::Directory,
            FileType::Symlink => Kind::Symlink,
            FileType::CharacterDevice => Kind::CharDevice,
            FileType::BlockDevice => Kind::BlockDevice,
            FileType::Fifo => Kind::Fifo,
            FileType::Socket | FileType::Unknown => return Ok(()),
        };
        let device = matches!(kind, Kind::CharDevice | Kind::BlockDevice);
        let (uid, gid) = self.ids.inside(stat.st_uid, stat.st_gid);
        let mut entry = Entry {
            kind,
            path: if kind == Kind::Directory {
                [path, b"/"].concat()
            } else {
                path.to_vec()
            },
            mode: stat.st_mode & 0o7777,
            uid: uid.into(),
            gid: gid.into(),
            mtime: (stat.st_mtime, stat.st_mtime_nsec as u32),
            dev_major: if device {
                rustix::fs::major(stat.st_rdev)
            } else {
                0
            },
            dev_minor: if device {
                rustix::fs::minor(stat.st_rdev)
            } else {
                0
            },
            xattrs: xattrs(dir, name).map_err(failed)?,
            ..Entry::default()
        };
        // Labels are the host's affair, overlayfs's attributes the driver's.
        entry
            .xattrs
            .retain(|(key, _)| !is_drivers_own(key) && key != b"security.selinux");
        if kind != Kind::Directory && stat.st_nlink > 1 {
            if let Some(first) = self.links.get(&(stat.st_dev, stat.st_ino)) {
                entry.kind = Kind::HardLink;
                entry.link.clone_from(first);
                entry.xattrs.clear();
                return self.tar.member(&entry).map_err(write_error);
            }
            self.links.insert((stat.st_dev, stat.st_ino), path.to_vec());
        }
        match kind {
            Kind::Symlink => {
                entry.link = rustix::fs::readlinkat(dir, name, Vec::new())
                    .map_err(failed)?
                    .into_bytes();
            }
            Kind::File => {
                entry.size = stat.st_size as u64;
                return self.content(&entry, dir, name);
            }
            Kind::HardLink
            | Kind::CharDevice
            | Kind::BlockDevice
            | Kind::Directory
            | Kind::Fifo => {}
        }
        self.tar.member(&entry).map_err(write_error)
    }

    fn content(&mut self, entry: &Entry, dir: BorrowedFd<'_>, name: &OsStr) -> Result<()> {
        let failed = |source| Error::Io {
            operation: "read",
            path: Path::new(name).to_owned(),
            source,
        };
        let flags = OFlags::RDONLY
            | OFlags::NOFOLLOW
            | OFlags::NONBLOCK
            | OFlags::NOATIME
            | OFlags::CLOEXEC;
        let file = rustix::fs::openat(dir, name, flags, Mode::empty())
            .map_err(|error| failed(error.into()))?;
        let mut file = File::from(file);
        self.tar.member(entry).map_err(write_error)?;
        let mut left = entry.size;
        while left > 0 {
            let want =
                usize::try_from(left).map_or(self.buffer.len(), |left| left.min(self.buffer.len()));
            let mut count = file.read(&mut self.buffer[..want]).map_err(failed)?;
            if count == 0 {
                self.buffer[..want].fill(0);
                count = want;
            }
            self.tar.data(&self.buffer[..count]).map_err(write_error)?;
            left -= count as u64;
        }
        Ok(())
    }
}

/// Attributes by which a storage driver notes its own affairs.
fn is_drivers_own(key: &[u8]) -> bool {
    [&b"trusted.overlay."[..], b"user.fuseoverlayfs."]
        .iter()
        .any(|prefix| key.starts_with(prefix))
}
