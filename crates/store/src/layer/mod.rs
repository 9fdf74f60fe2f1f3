//! Layers: a tar stream becomes files below a directory ([`apply`]) and files become a tar stream ([`diff`]).
//!
//! A layer is always unpacked into a directory of its own, in overlayfs's form: a whiteout `.wh.NAME` becomes a character
//! device 0/0, an opaque directory gets `trusted.overlay.opaque`. So several layers can be unpacked at once; what needs
//! the layers below (hard links into them, directories without an entry) is noted and settled when the order is known
//! ([`settle`]). Drivers without overlayfs turn that form into a complete tree with [`merge`].

mod apply;
mod changes;
mod compress;
mod diff;
mod dirs;
mod hashed;
mod ids;
mod lower;
mod merge;
pub mod tar;
mod walk;

pub use apply::{Applied, ApplyOptions, Pending, apply};
pub use changes::{Change, ChangeKind, changes};
pub use compress::{decompress, decompress_detect};
pub use diff::diff;
pub use ids::{IdMaps, IdRange};
pub use lower::settle;
pub use merge::{copy_tree, merge};

/// Prefix of the names that delete (image-spec `layer.md`, "Whiteouts").
pub const WHITEOUT_PREFIX: &[u8] = b".wh.";
/// The name that hides everything below it.
pub const WHITEOUT_OPAQUE: &[u8] = b".wh..wh..opq";
/// Prefix of aufs's own files, never unpacked.
pub const WHITEOUT_META_PREFIX: &[u8] = b".wh..wh.";
/// overlayfs's mark of an opaque directory.
pub const OPAQUE_XATTR: &str = "trusted.overlay.opaque";
