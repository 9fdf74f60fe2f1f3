//! The list of changes that `docker diff` shows.

use super::walk::{Step, walk};
use crate::Result;
use crate::snapshot::DiffSource;

/// What happened to a path. The API's numbers are 0, 1, 2 in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ChangeKind {
    /// It was there and differs.
    Modified,
    /// It is new.
    Added,
    /// It is gone.
    Deleted,
}

/// One changed path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Absolute inside the container.
    pub path: String,
    /// What happened.
    pub kind: ChangeKind,
}

/// The changes of a snapshot against its parent, sorted by path. What an opaque directory hides is not listed one by one.
///
/// # Errors
/// Those of reading the files.
pub fn changes(source: &DiffSource) -> Result<Vec<Change>> {
    let mut list = Vec::new();
    walk(source, &mut |step| {
        let (path, kind) = match step {
            Step::File { path, kind, .. } => (path, kind),
            Step::Gone { path } => (path, ChangeKind::Deleted),
            Step::Opaque { .. } => return Ok(()),
        };
        list.push(Change {
            path: format!("/{}", String::from_utf8_lossy(path)),
            kind,
        });
        Ok(())
    })?;
    list.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(list)
}
