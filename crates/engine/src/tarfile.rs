//! A tree as a tar and back, by descriptor: what `cp` and `export` need. Layers have their own code in `hull_store`: there
//! whiteouts mean something, here every name is just a name.

use std::collections::BTreeMap;
use std::ffi::{CString, OsStr};
use std::io::{BufReader, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use hull_store::layer::IdMaps;
use hull_store::layer::tar::{Entry, Kind, Reader, Writer};
use rustix::fs::{
    AtFlags, Dir, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid, XattrFlags,
    chownat, fchmod, fchown, fgetxattr, flistxattr, fsetxattr, linkat, mkdirat, mknodat, openat,
    readlinkat, statat, symlinkat, unlinkat, utimensat,
};
use rustix::io::Errno;

use crate::error::{Error, Result, failed};

/// Deepest directory that is packed.
const DEPTH_MAX: usize = 1024;
const BUFFER_BYTES: usize = 128 << 10;

/// Writes the file or tree behind `fd` under `name`, with the owners that the container sees; an empty name: the entries of the directory by themselves.
pub(crate) fn pack(fd: OwnedFd, name: &str, ids: &IdMaps, out: &mut dyn Write) -> Result<()> {
    let mut packer = Packer {
        ids,
        tar: Writer::new(out),
        links: BTreeMap::new(),
        buffer: vec![0; BUFFER_BYTES],
    };
    packer
        .top(&fd, name)
        .and_then(|()| packer.tar.finish().map(|_| ()))
        .map_err(failed("pack the container's files"))
}

struct Packer<'i, W> {
    ids: &'i IdMaps,
    tar: Writer<W>,
    /// Files with several names: under which they came first.
    links: BTreeMap<(u64, u64), Vec<u8>>,
    buffer: Vec<u8>,
}

impl<W: Write> Packer<'_, W> {
    fn top(&mut self, fd: &OwnedFd, name: &str) -> std::io::Result<()> {
        let stat = statat(fd, c"", AtFlags::EMPTY_PATH)?;
        let path = name.as_bytes().to_vec();
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                let dir = openat(
                    fd,
                    c".",
                    OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
                    Mode::empty(),
                )?;
                self.directory(dir, &stat, &path, 0)
            }
            FileType::RegularFile => {
                // Opened again through /proc: the descriptor is O_PATH, and the name is not looked up a second time.
                let again = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(fd));
                self.file(std::fs::File::open(again)?, &stat, path)
            }
            FileType::Symlink => {
                let link = readlinkat(fd, c"", Vec::new())?.into_bytes();
                self.tar.member(&Entry {
                    kind: Kind::Symlink,
                    link,
                    ..header(self.ids, &stat, path)
                })
            }
            _ => self.special(&stat, path),
        }
    }

    fn directory(
        &mut self,
        dir: OwnedFd,
        stat: &Stat,
        path: &[u8],
        depth: usize,
    ) -> std::io::Result<()> {
        if depth > DEPTH_MAX {
            return Err(Errno::NAMETOOLONG.into());
        }
        if !path.is_empty() {
            let named = [path, b"/"].concat();
            let entry = Entry {
                kind: Kind::Directory,
                xattrs: attributes(dir.as_fd())?,
                ..header(self.ids, stat, named)
            };
            self.tar.member(&entry)?;
        }
        let mut names: Vec<CString> = Vec::new();
        for entry in Dir::read_from(&dir)? {
            let entry = entry?;
            if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
                names.push(entry.file_name().to_owned());
            }
        }
        names.sort_unstable();
        for name in names {
            let below = if path.is_empty() {
                name.to_bytes().to_vec()
            } else {
                [path, b"/", name.to_bytes()].concat()
            };
            match self.entry(&dir, &name, below, depth) {
                // Gone meanwhile: the container may be running.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                other => other?,
            }
        }
        Ok(())
    }

    fn entry(
        &mut self,
        dir: &OwnedFd,
        name: &CString,
        path: Vec<u8>,
        depth: usize,
    ) -> std::io::Result<()> {
        let stat = statat(dir, name.as_c_str(), AtFlags::SYMLINK_NOFOLLOW)?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind != FileType::Directory && stat.st_nlink > 1 {
            let key = (stat.st_dev, stat.st_ino);
            if let Some(first) = self.links.get(&key) {
                let entry = Entry {
                    kind: Kind::HardLink,
                    link: first.clone(),
                    size: 0,
                    ..header(self.ids, &stat, path)
                };
                return self.tar.member(&entry);
            }
            self.links.insert(key, path.clone());
        }
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        match kind {
            FileType::Directory => {
                let below = openat(
                    dir,
                    name.as_c_str(),
                    flags | OFlags::DIRECTORY,
                    Mode::empty(),
                )?;
                self.directory(below, &stat, &path, depth + 1)
            }
            FileType::RegularFile => {
                let file = openat(dir, name.as_c_str(), flags, Mode::empty())?;
                self.file(std::fs::File::from(file), &stat, path)
            }
            FileType::Symlink => {
                let link = readlinkat(dir, name.as_c_str(), Vec::new())?.into_bytes();
                self.tar.member(&Entry {
                    kind: Kind::Symlink,
                    link,
                    ..header(self.ids, &stat, path)
                })
            }
            // As Docker: a socket has no place in a tar.
            FileType::Socket => Ok(()),
            _ => self.special(&stat, path),
        }
    }

    fn special(&mut self, stat: &Stat, path: Vec<u8>) -> std::io::Result<()> {
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::CharacterDevice => Kind::CharDevice,
            FileType::BlockDevice => Kind::BlockDevice,
            _ => Kind::Fifo,
        };
        let (dev_major, dev_minor) = (
            rustix::fs::major(stat.st_rdev),
            rustix::fs::minor(stat.st_rdev),
        );
        self.tar.member(&Entry {
            kind,
            dev_major,
            dev_minor,
            ..header(self.ids, stat, path)
        })
    }

    fn file(&mut self, mut file: std::fs::File, stat: &Stat, path: Vec<u8>) -> std::io::Result<()> {
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        self.tar.member(&Entry {
            kind: Kind::File,
            size,
            xattrs: attributes(file.as_fd())?,
            ..header(self.ids, stat, path)
        })?;
        // Exactly as long as announced, whatever is written to it meanwhile.
        let mut left = size;
        while left > 0 {
            let want = usize::try_from(left)
                .unwrap_or(usize::MAX)
                .min(self.buffer.len());
            let count = file.read(&mut self.buffer[..want])?;
            if count == 0 {
                self.buffer[..want].fill(0);
                self.tar.data(&self.buffer[..want])?;
                left -= want as u64;
            } else {
                self.tar.data(&self.buffer[..count])?;
                left -= count as u64;
            }
        }
        Ok(())
    }
}

fn header(ids: &IdMaps, stat: &Stat, path: Vec<u8>) -> Entry {
    let (uid, gid) = ids.inside(stat.st_uid, stat.st_gid);
    Entry {
        path,
        mode: stat.st_mode & 0o7777,
        uid: u64::from(uid),
        gid: u64::from(gid),
        mtime: (
            stat.st_mtime,
            u32::try_from(stat.st_mtime_nsec).unwrap_or(0),
        ),
        ..Entry::default()
    }
}

/// File capabilities: the one attribute that Docker's archives carry.
fn attributes(fd: BorrowedFd<'_>) -> std::io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut names = [0u8; 4096];
    let length = match flistxattr(fd, &mut names[..]) {
        Ok(length) => length,
        Err(Errno::NOTSUP | Errno::RANGE) => return Ok(Vec::new()),
        Err(errno) => return Err(errno.into()),
    };
    const NAME: &[u8] = b"security.capability";
    if !names[..length]
        .split(|byte| *byte == 0)
        .any(|name| name == NAME)
    {
        return Ok(Vec::new());
    }
    let mut value = [0u8; 256];
    let length = fgetxattr(fd, c"security.capability", &mut value[..])?;
    Ok(vec![(NAME.to_vec(), value[..length].to_vec())])
}

/// Whose the unpacked files are.
#[derive(Debug, Clone, Default)]
pub(crate) struct Owners {
    /// From the container's numbering to the disk's.
    pub(crate) ids: IdMaps,
    /// In the container's numbering; instead of the archive's own.
    pub(crate) all: Option<(u32, u32)>,
}

/// Unpacks a tar, compressed or not, below `root`; never outside.
pub(crate) fn unpack(
    input: impl Read + Send + 'static,
    root: &OwnedFd,
    keep_kinds: bool,
    owners: &Owners,
) -> Result<()> {
    let (_, plain) =
        hull_store::layer::decompress_detect(input).map_err(failed("read the archive"))?;
    let mut reader = Reader::new(BufReader::with_capacity(BUFFER_BYTES, plain));
    let mut entry = Entry::default();
    let mut directories: Vec<(PathBuf, Entry)> = Vec::new();
    loop {
        let more = reader.next(&mut entry).map_err(|error| {
            Error::invalid(format!("read the archive: {}", crate::error::chain(&error)))
        })?;
        if !more {
            break;
        }
        let Some(path) = inside(&entry.path) else {
            continue;
        };
        let explain = |errno: Errno| Error::failed(format!("unpack {}", entry.display()), errno);
        let (parent, name) =
            hull_sys::path::open_parent_in_root(root.as_fd(), &path, Mode::from_raw_mode(0o755))
                .map_err(explain)?;
        make_room(&parent, name, &entry, keep_kinds, &path)?;
        one(&mut reader, &entry, root, &parent, name, owners)?;
        if entry.kind == Kind::Directory {
            directories.push((path, entry.clone()));
        }
    }
    // Times of directories last: filling them changes them.
    for (path, entry) in directories.iter().rev() {
        let opened = hull_sys::path::open_in_root(
            root.as_fd(),
            path,
            OFlags::RDONLY | OFlags::DIRECTORY,
            Mode::empty(),
        );
        if let Ok(dir) = opened {
            let _ = rustix::fs::futimens(&dir, &times(entry));
        }
    }
    Ok(())
}

/// The path below the root; `None` for the root itself.
fn inside(path: &[u8]) -> Option<PathBuf> {
    let mut clean = PathBuf::new();
    for component in Path::new(OsStr::from_bytes(path)).components() {
        match component {
            Component::Normal(part) => clean.push(part),
            Component::ParentDir => {
                clean.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    (!clean.as_os_str().is_empty()).then_some(clean)
}

/// What lies in the way goes, but a directory that the archive has as a directory too.
fn make_room(
    parent: &OwnedFd,
    name: &OsStr,
    entry: &Entry,
    keep_kinds: bool,
    path: &Path,
) -> Result<()> {
    let explain = |errno: Errno| Error::failed(format!("replace {}", path.display()), errno);
    let there = match statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => FileType::from_raw_mode(stat.st_mode) == FileType::Directory,
        Err(Errno::NOENT) => return Ok(()),
        Err(errno) => return Err(explain(errno)),
    };
    let comes = entry.kind == Kind::Directory;
    match (there, comes) {
        (true, true) => Ok(()),
        (true, false) if keep_kinds => Err(Error::invalid(format!(
            "cannot overwrite directory \"/{0}\" with non-directory \"/{0}\"",
            path.display()
        ))),
        (false, true) if keep_kinds => Err(Error::invalid(format!(
            "cannot overwrite non-directory \"/{0}\" with directory \"/{0}\"",
            path.display()
        ))),
        (true, false) => remove_tree(parent, name, 0).map_err(explain),
        (false, _) => unlinkat(parent, name, AtFlags::empty()).map_err(explain),
    }
}

fn remove_tree(parent: &OwnedFd, name: &OsStr, depth: usize) -> rustix::io::Result<()> {
    if depth > DEPTH_MAX {
        return Err(Errno::NAMETOOLONG);
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let dir = openat(parent, name, flags, Mode::empty())?;
    for entry in Dir::read_from(&dir)? {
        let entry = entry?;
        let below = OsStr::from_bytes(entry.file_name().to_bytes());
        if matches!(below.as_bytes(), b"." | b"..") {
            continue;
        }
        match unlinkat(&dir, below, AtFlags::empty()) {
            Err(Errno::ISDIR) => remove_tree(&dir, below, depth + 1)?,
            other => other?,
        }
    }
    unlinkat(parent, name, AtFlags::REMOVEDIR)
}

fn times(entry: &Entry) -> Timestamps {
    let time = Timespec {
        tv_sec: entry.mtime.0,
        tv_nsec: i64::from(entry.mtime.1),
    };
    Timestamps {
        last_access: time,
        last_modification: time,
    }
}

fn one<R: std::io::BufRead>(
    reader: &mut Reader<R>,
    entry: &Entry,
    root: &OwnedFd,
    parent: &OwnedFd,
    name: &OsStr,
    owners: &Owners,
) -> Result<()> {
    let explain = |errno: Errno| Error::failed(format!("unpack {}", entry.display()), errno);
    let mode = Mode::from_raw_mode(entry.mode & 0o7777);
    let (uid, gid) = match owners.all {
        Some((uid, gid)) => (u64::from(uid), u64::from(gid)),
        None => (entry.uid, entry.gid),
    };
    let (uid, gid) = owners
        .ids
        .outside(uid, gid)
        .ok_or_else(|| Error::invalid(format!("{}: owner out of range", entry.display())))?;
    let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
    let flags = OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match entry.kind {
        Kind::Directory => {
            match mkdirat(parent, name, Mode::RWXU) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(errno) => return Err(explain(errno)),
            }
            let dir = openat(
                parent,
                name,
                flags | OFlags::RDONLY | OFlags::DIRECTORY,
                Mode::empty(),
            )
            .map_err(explain)?;
            fchown(&dir, uid, gid).map_err(explain)?;
            return fchmod(&dir, mode).map_err(explain);
        }
        Kind::File => {
            let create = flags | OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
            let fd = openat(parent, name, create, Mode::RUSR | Mode::WUSR).map_err(explain)?;
            let mut file = std::fs::File::from(fd);
            content(reader, entry, &mut file)?;
            fchown(&file, uid, gid).map_err(explain)?;
            for (name, value) in entry
                .xattrs
                .iter()
                .filter(|(name, _)| name == b"security.capability")
            {
                if let Ok(name) = CString::new(name.clone()) {
                    fsetxattr(&file, name.as_c_str(), value, XattrFlags::empty())
                        .map_err(explain)?;
                }
            }
            fchmod(&file, mode).map_err(explain)?;
        }
        Kind::HardLink => {
            let Some(target) = inside(&entry.link) else {
                return Err(explain(Errno::INVAL));
            };
            let to = hull_sys::path::open_in_root(
                root.as_fd(),
                &target,
                OFlags::PATH | OFlags::NOFOLLOW,
                Mode::empty(),
            )
            .map_err(explain)?;
            linkat(&to, c"", parent, name, AtFlags::EMPTY_PATH).map_err(explain)?;
            return Ok(());
        }
        Kind::Symlink => {
            symlinkat(OsStr::from_bytes(&entry.link), parent, name).map_err(explain)?;
            chownat(parent, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW).map_err(explain)?;
        }
        Kind::CharDevice | Kind::BlockDevice | Kind::Fifo => {
            let kind = match entry.kind {
                Kind::CharDevice => FileType::CharacterDevice,
                Kind::BlockDevice => FileType::BlockDevice,
                _ => FileType::Fifo,
            };
            mknodat(
                parent,
                name,
                kind,
                mode,
                rustix::fs::makedev(entry.dev_major, entry.dev_minor),
            )
            .map_err(explain)?;
            chownat(parent, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW).map_err(explain)?;
        }
    }
    utimensat(parent, name, &times(entry), AtFlags::SYMLINK_NOFOLLOW).map_err(explain)
}

/// The stored bytes; a sparse file's pieces go where they belong.
fn content<R: std::io::BufRead>(
    reader: &mut Reader<R>,
    entry: &Entry,
    file: &mut std::fs::File,
) -> Result<()> {
    use std::io::Seek;
    let broken = |cause: std::io::Error| Error::failed(format!("write {}", entry.display()), cause);
    let whole = [(0, entry.size)];
    let pieces = entry.sparse.as_deref().unwrap_or(&whole);
    for (offset, length) in pieces {
        file.seek(std::io::SeekFrom::Start(*offset))
            .map_err(broken)?;
        let mut left = *length;
        while left > 0 {
            let chunk = reader.chunk().map_err(|error| {
                Error::invalid(format!("read the archive: {}", crate::error::chain(&error)))
            })?;
            if chunk.is_empty() {
                return Err(Error::invalid(format!(
                    "{}: the archive ends in the middle",
                    entry.display()
                )));
            }
            let count = chunk.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            file.write_all(&chunk[..count]).map_err(broken)?;
            reader.consume(count);
            left -= count as u64;
        }
    }
    file.set_len(entry.size).map_err(broken)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt, symlink};

    fn root(path: &Path) -> OwnedFd {
        rustix::fs::open(
            path,
            OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .unwrap()
    }

    #[test]
    fn a_tree_goes_out_and_comes_back() {
        let from = tempfile::tempdir().unwrap();
        std::fs::create_dir(from.path().join("sub")).unwrap();
        std::fs::write(from.path().join("sub/file"), "hello").unwrap();
        std::fs::hard_link(from.path().join("sub/file"), from.path().join("again")).unwrap();
        symlink("/etc/passwd", from.path().join("link")).unwrap();
        let mut bytes = Vec::new();
        pack(root(from.path()), "top", &IdMaps::default(), &mut bytes).unwrap();
        let to = tempfile::tempdir().unwrap();
        unpack(
            std::io::Cursor::new(bytes.clone()),
            &root(to.path()),
            false,
            &Owners {
                all: Some((7, 8)),
                ..Owners::default()
            },
        )
        .unwrap();
        let file = std::fs::metadata(to.path().join("top/sub/file")).unwrap();
        assert_eq!((file.uid(), file.gid(), file.len()), (7, 8, 5));
        assert_eq!(
            file.ino(),
            std::fs::metadata(to.path().join("top/again"))
                .unwrap()
                .ino()
        );
        assert_eq!(
            std::fs::read_link(to.path().join("top/link")).unwrap(),
            Path::new("/etc/passwd")
        );
        // A file where a directory comes.
        std::fs::remove_dir_all(to.path().join("top")).unwrap();
        std::fs::write(to.path().join("top"), "").unwrap();
        let refused = unpack(
            std::io::Cursor::new(bytes.clone()),
            &root(to.path()),
            true,
            &Owners::default(),
        )
        .unwrap_err();
        assert!(
            refused.message.contains("cannot overwrite non-directory"),
            "{}",
            refused.message
        );
        unpack(
            std::io::Cursor::new(bytes),
            &root(to.path()),
            false,
            &Owners::default(),
        )
        .unwrap();
    }

    #[test]
    fn links_and_dots_lead_nowhere_else() {
        let outside = tempfile::tempdir().unwrap();
        let to = tempfile::tempdir().unwrap();
        symlink(outside.path(), to.path().join("out")).unwrap();
        let mut tar = Writer::new(Vec::new());
        for path in ["../../escape", "out/file", "/abs"] {
            tar.member(&Entry {
                path: path.as_bytes().to_vec(),
                mode: 0o644,
                size: 1,
                ..Entry::default()
            })
            .unwrap();
            tar.data(b"x").unwrap();
        }
        let bytes = tar.finish().unwrap();
        // The absolute link is taken inside the root, where its target does not exist.
        let _ = unpack(
            std::io::Cursor::new(bytes),
            &root(to.path()),
            false,
            &Owners::default(),
        );
        assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 0);
        assert!(to.path().join("escape").exists());
    }
}
