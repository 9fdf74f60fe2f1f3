//! The tar format as layers use it: a reader that trusts nothing and a writer whose output depends on its input only.
//!
//! Read: v7, ustar, GNU (long names, base-256 numbers, old sparse), pax (all keys that Go's `archive/tar` knows, xattrs,
//! sparse 0.0, 0.1 and 1.0). Where these leave room, Go's reader decides, for Docker's layers are made and read by it.
//! Global pax headers are passed over, as Docker does. Memory is bounded whatever the input says.

mod header;
mod pax;
mod read;
mod sparse;
mod write;

pub use read::Reader;
pub(super) use read::{CUT, damaged};
pub use write::Writer;

/// Longest path and link target, in bytes (`PATH_MAX` less its NUL).
pub const PATH_LEN_MAX: usize = 4095;
/// Longest pax header, in bytes. It must hold every xattr of a file: the kernel allows 64 KiB each.
pub const PAX_LEN_MAX: u64 = 1 << 20;
/// Most pieces of a sparse file.
pub const SPARSE_PIECES_MAX: usize = 1 << 17;

pub(crate) const BLOCK_LEN: usize = 512;

/// What kind of file a member is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Kind {
    /// A regular file.
    #[default]
    File,
    /// Another name of an earlier member, [`Entry::link`].
    HardLink,
    /// A symbolic link to [`Entry::link`].
    Symlink,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
    /// A directory.
    Directory,
    /// A named pipe.
    Fifo,
}

/// One member's header, all extensions applied. Reused from member to member, so that reading allocates little.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Entry {
    /// The kind of file.
    pub kind: Kind,
    /// Its name as written, not cleaned.
    pub path: Vec<u8>,
    /// The target of a link.
    pub link: Vec<u8>,
    /// Permission bits with setuid, setgid and sticky; no file type.
    pub mode: u32,
    /// Owner.
    pub uid: u64,
    /// Group.
    pub gid: u64,
    /// Length of the content in bytes; of a sparse file with its holes.
    pub size: u64,
    /// Modification time: seconds since 1970, and nanoseconds (0..1e9) after that.
    pub mtime: (i64, u32),
    /// Device number, major.
    pub dev_major: u32,
    /// Device number, minor.
    pub dev_minor: u32,
    /// Extended attributes.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// For a sparse file where its data lie: offset and length, ascending.
    pub sparse: Option<Vec<(u64, u64)>>,
}

impl Entry {
    fn clear(&mut self) {
        let Entry {
            path, link, xattrs, ..
        } = self;
        path.clear();
        link.clear();
        xattrs.clear();
        let (path, link, xattrs) = (
            std::mem::take(path),
            std::mem::take(link),
            std::mem::take(xattrs),
        );
        *self = Entry {
            path,
            link,
            xattrs,
            ..Entry::default()
        };
    }

    /// The path for messages.
    pub fn display(&self) -> String {
        let shown = &self.path[..self.path.len().min(256)];
        String::from_utf8_lossy(shown).into_owned()
    }
}
