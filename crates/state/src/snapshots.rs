//! Snapshots of the storage drivers; directory `n` of the driver holds the files.

use rusqlite::{Row, params};

use crate::{Error, Result, Tx};

/// What may be done with a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Writable; a container's, or a layer being unpacked.
    Active,
    /// Read-only look at a committed one.
    View,
    /// Done, may be a parent.
    Committed,
}

impl Kind {
    /// As stored.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Active => "active",
            Kind::View => "view",
            Kind::Committed => "committed",
        }
    }
}

/// A snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// A chain id (committed) or a container's id (active).
    pub key: String,
    /// `overlay2`, ...
    pub driver: String,
    /// Number of the directory, never used twice.
    pub n: i64,
    /// Key of the snapshot below.
    pub parent: Option<String>,
    /// What may be done with it.
    pub kind: Kind,
    /// Bytes, once measured.
    pub size: Option<u64>,
    /// Files, once measured.
    pub inodes: Option<u64>,
    /// RFC 3339.
    pub created: String,
}

const COLUMNS: &str = "key, driver, n, parent, kind, size, inodes, created";

fn read(row: &Row) -> rusqlite::Result<Snapshot> {
    let kind: String = row.get(4)?;
    Ok(Snapshot {
        key: row.get(0)?,
        driver: row.get(1)?,
        n: row.get(2)?,
        parent: row.get(3)?,
        // The column's CHECK allows these three only.
        kind: match kind.as_str() {
            "active" => Kind::Active,
            "view" => Kind::View,
            _ => Kind::Committed,
        },
        size: row.get::<_, Option<i64>>(5)?.map(|size| size.max(0) as u64),
        inodes: row
            .get::<_, Option<i64>>(6)?
            .map(|inodes| inodes.max(0) as u64),
        created: row.get(7)?,
    })
}

/// The snapshot; [`Error::NotFound`] when absent.
pub fn get(tx: &Tx, key: &str) -> Result<Snapshot> {
    find(tx, key)?.ok_or_else(|| Error::not_found("snapshot", key))
}

/// The snapshot, if there is one.
pub fn find(tx: &Tx, key: &str) -> Result<Option<Snapshot>> {
    tx.first(
        "read a snapshot",
        &format!("SELECT {COLUMNS} FROM snapshots WHERE key = ?1"),
        [key],
        read,
    )
}

/// All snapshots in the order they were made.
pub fn list(tx: &Tx) -> Result<Vec<Snapshot>> {
    tx.all(
        "list the snapshots",
        &format!("SELECT {COLUMNS} FROM snapshots ORDER BY n"),
        [],
        read,
    )
}

/// Whether another snapshot lies on this one.
pub fn has_children(tx: &Tx, key: &str) -> Result<bool> {
    let found = tx.first(
        "find a snapshot's children",
        "SELECT 1 FROM snapshots WHERE parent = ?1 LIMIT 1",
        [key],
        |_| Ok(()),
    )?;
    Ok(found.is_some())
}

/// The snapshot and everything below it, uppermost first.
pub fn chain(tx: &Tx, key: &str) -> Result<Vec<Snapshot>> {
    let sql = "WITH RECURSIVE up(depth, key) AS (
                 SELECT 0, ?1 UNION ALL
                 SELECT depth + 1, snapshots.parent FROM up JOIN snapshots ON snapshots.key = up.key
                 WHERE snapshots.parent IS NOT NULL AND depth < 1000)
               SELECT s.key, s.driver, s.n, s.parent, s.kind, s.size, s.inodes, s.created
               FROM up JOIN snapshots s ON s.key = up.key ORDER BY up.depth";
    let found = tx.all("read a snapshot's chain", sql, [key], read)?;
    if found.is_empty() {
        Err(Error::not_found("snapshot", key))
    } else {
        Ok(found)
    }
}

/// Adds a snapshot and returns the number of its directory. [`Error::Taken`] when the key is in use.
pub fn insert(
    tx: &Tx,
    key: &str,
    driver: &str,
    parent: Option<&str>,
    kind: Kind,
    created: &str,
) -> Result<i64> {
    if let Some(holder) = find(tx, key)? {
        return Err(Error::Taken {
            noun: "snapshot",
            key: key.to_owned(),
            holder: holder.n.to_string(),
        });
    }
    tx.execute(
        "insert a snapshot",
        "INSERT INTO snapshots(key, driver, parent, kind, created) VALUES(?1, ?2, ?3, ?4, ?5)",
        params![key, driver, parent, kind.as_str(), created],
    )?;
    Ok(tx.last_insert_rowid())
}

/// Gives an active snapshot its parent: a layer that was unpacked before the one below it was there.
pub fn set_parent(tx: &Tx, key: &str, parent: Option<&str>) -> Result<()> {
    let sql = "UPDATE snapshots SET parent = ?2 WHERE key = ?1 AND kind = 'active'";
    match tx.execute("set a snapshot's parent", sql, params![key, parent])? {
        0 => Err(Error::not_found("active snapshot", key)),
        _ => Ok(()),
    }
}

/// Makes an active snapshot a committed one of another name. [`Error::Taken`] when that name is in use.
pub fn commit(tx: &Tx, key: &str, name: &str, size: u64, inodes: u64) -> Result<()> {
    if let Some(holder) = find(tx, name)? {
        return Err(Error::Taken {
            noun: "snapshot",
            key: name.to_owned(),
            holder: holder.n.to_string(),
        });
    }
    let changed = tx.execute(
        "commit a snapshot",
        "UPDATE snapshots SET key = ?2, kind = 'committed', size = ?3, inodes = ?4 WHERE key = ?1 AND kind = 'active'",
        params![key, name, size as i64, inodes as i64],
    )?;
    if changed == 0 {
        Err(Error::not_found("active snapshot", key))
    } else {
        Ok(())
    }
}

/// Forgets a snapshot; returns the number of its directory, which is removed afterwards.
pub fn remove(tx: &Tx, key: &str) -> Result<Option<i64>> {
    tx.first(
        "remove a snapshot",
        "DELETE FROM snapshots WHERE key = ?1 RETURNING n",
        [key],
        |row| row.get(0),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Db;

    #[test]
    fn numbers_are_never_used_twice_and_chains_are_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let db = Db::open(dir.path().join("state.db")).unwrap();
        let first = db
            .write(|tx| insert(tx, "tmp", "overlay2", None, Kind::Active, "now"))
            .unwrap();
        db.write(|tx| remove(tx, "tmp")).unwrap();
        let second = db
            .write(|tx| insert(tx, "tmp", "overlay2", None, Kind::Active, "now"))
            .unwrap();
        assert!(second > first);
        db.write(|tx| commit(tx, "tmp", "a", 10, 2)).unwrap();
        db.write(|tx| insert(tx, "c", "overlay2", Some("a"), Kind::Active, "now"))
            .unwrap();
        let keys: Vec<_> = db
            .read(|tx| chain(tx, "c"))
            .unwrap()
            .into_iter()
            .map(|snapshot| snapshot.key)
            .collect();
        assert_eq!(keys, ["c", "a"]);
        assert!(db.read(|tx| has_children(tx, "a")).unwrap());
        assert!(matches!(
            db.write(|tx| commit(tx, "c", "a", 0, 0)),
            Err(Error::Taken { .. })
        ));
        assert!(
            db.write(|tx| commit(tx, "a", "b", 0, 0))
                .unwrap_err()
                .is_not_found(),
            "committed once only"
        );
        assert!(
            db.read(|tx| chain(tx, "nothing"))
                .unwrap_err()
                .is_not_found()
        );
    }
}
