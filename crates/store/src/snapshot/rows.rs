//! The rows of snapshots, shared by all drivers: laws of the life cycle, numbered directories, sweeping.

use std::fs;
use std::path::{Path, PathBuf};

use hull_state::snapshots::{self, Kind, Snapshot};
use hull_state::{Db, Tx};

use super::{Info, Usage};
use crate::fsutil::remove_path;
use crate::{Error, Result};

/// The snapshots of one driver: rows in the database, directories `root/<n>`.
pub(super) struct Rows {
    db: Db,
    driver: &'static str,
    root: PathBuf,
}

/// What the rows say about a snapshot: itself and its ancestors, uppermost first.
pub(super) struct Chain {
    pub own: Snapshot,
    pub parents: Vec<Snapshot>,
}

impl Rows {
    pub fn open(db: Db, driver: &'static str, root: &Path) -> Result<Self> {
        let root = root.join(driver);
        fs::create_dir_all(&root).map_err(Error::io("create", &root))?;
        Ok(Rows { db, driver, root })
    }

    pub fn driver(&self) -> &'static str {
        self.driver
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    pub fn dir(&self, snapshot: &Snapshot) -> PathBuf {
        self.root.join(snapshot.n.to_string())
    }

    pub fn get(&self, key: &str) -> Result<Snapshot> {
        let found = self.db.read(|tx| snapshots::find(tx, key))?;
        found
            .filter(|found| found.driver == self.driver)
            .ok_or_else(|| Error::SnapshotNotFound(key.to_owned()))
    }

    pub fn chain(&self, key: &str) -> Result<Chain> {
        let rows = match self.db.read(|tx| snapshots::chain(tx, key)) {
            Err(error) if error.is_not_found() => {
                return Err(Error::SnapshotNotFound(key.to_owned()));
            }
            other => other?,
        };
        let mut rows = rows.into_iter();
        let own = rows.next().filter(|own| own.driver == self.driver);
        let own = own.ok_or_else(|| Error::SnapshotNotFound(key.to_owned()))?;
        Ok(Chain {
            own,
            parents: rows.collect(),
        })
    }

    /// A directory that no row names yet, to be filled and then given to [`Rows::insert`].
    pub fn temporary(&self) -> PathBuf {
        self.root
            .join(format!("new-{:016x}", rand::random::<u64>()))
    }

    /// Makes the row of a snapshot whose files lie in `made`, and gives the directory its number.
    pub fn insert(
        &self,
        key: &str,
        parent: Option<&str>,
        kind: Kind,
        made: &Path,
    ) -> Result<Snapshot> {
        let created = now();
        self.db.try_write(|tx| {
            self.check_free(tx, key)?;
            if let Some(parent) = parent {
                self.check_parent(tx, parent)?;
            }
            let n = snapshots::insert(tx, key, self.driver, parent, kind, &created)?;
            let dir = self.root.join(n.to_string());
            // Left by a crash before its row was committed.
            remove_path(&dir).map_err(Error::io("remove", &dir))?;
            fs::rename(made, &dir).map_err(Error::io("rename", made))?;
            Ok(Snapshot {
                key: key.to_owned(),
                driver: self.driver.to_owned(),
                n,
                parent: parent.map(str::to_owned),
                kind,
                size: None,
                inodes: None,
                created,
            })
        })
    }

    pub fn check_free(&self, tx: &Tx<'_>, key: &str) -> Result<()> {
        match snapshots::find(tx, key)? {
            Some(_) => Err(Error::SnapshotExists(key.to_owned())),
            None => Ok(()),
        }
    }

    fn check_parent(&self, tx: &Tx<'_>, parent: &str) -> Result<()> {
        let found = snapshots::find(tx, parent)?.filter(|found| found.driver == self.driver);
        let found = found.ok_or_else(|| Error::SnapshotNotFound(parent.to_owned()))?;
        match found.kind {
            Kind::Committed => Ok(()),
            kind => Err(Error::SnapshotState {
                operation: "build upon",
                key: parent.to_owned(),
                state: kind.as_str(),
            }),
        }
    }

    /// The snapshot, which must be active.
    pub fn active(&self, key: &str) -> Result<Snapshot> {
        let own = self.get(key)?;
        match own.kind {
            Kind::Active => Ok(own),
            kind => Err(Error::SnapshotState {
                operation: "commit",
                key: key.to_owned(),
                state: kind.as_str(),
            }),
        }
    }

    /// Makes an active snapshot a committed one of another name; a staged layer gets its parent here.
    pub fn commit(
        &self,
        name: &str,
        key: &str,
        parent: Option<Option<&str>>,
        usage: Usage,
    ) -> Result<()> {
        self.db.try_write(|tx| {
            self.check_free(tx, name)?;
            if let Some(parent) = parent {
                if let Some(parent) = parent {
                    self.check_parent(tx, parent)?;
                }
                snapshots::set_parent(tx, key, parent)?;
            }
            Ok(snapshots::commit(tx, key, name, usage.bytes, usage.inodes)?)
        })
    }

    /// Removes the row; returns the directory, which the driver removes next.
    pub fn remove(&self, key: &str) -> Result<PathBuf> {
        self.db.try_write(|tx| {
            let own = snapshots::find(tx, key)?.filter(|own| own.driver == self.driver);
            let own = own.ok_or_else(|| Error::SnapshotNotFound(key.to_owned()))?;
            if snapshots::has_children(tx, key)? {
                return Err(Error::SnapshotState {
                    operation: "remove",
                    key: key.to_owned(),
                    state: "the parent of others",
                });
            }
            snapshots::remove(tx, key)?;
            Ok(self.dir(&own))
        })
    }

    pub fn walk(&self) -> Result<Vec<Info>> {
        let rows = self.db.read(snapshots::list)?;
        Ok(rows
            .into_iter()
            .filter(|row| row.driver == self.driver)
            .map(info)
            .collect())
    }

    /// Directories that no row names, to be removed; and rows whose directory is gone are removed at once.
    pub fn strays(&self) -> Result<(Vec<PathBuf>, usize)> {
        let rows = self.db.read(snapshots::list)?;
        let rows: Vec<_> = rows
            .into_iter()
            .filter(|row| row.driver == self.driver)
            .collect();
        let mut strays = Vec::new();
        for entry in fs::read_dir(&self.root).map_err(Error::io("list", &self.root))? {
            let entry = entry.map_err(Error::io("list", &self.root))?;
            let number = entry
                .file_name()
                .to_str()
                .and_then(|name| name.parse::<i64>().ok());
            if !rows.iter().any(|row| Some(row.n) == number) {
                strays.push(entry.path());
            }
        }
        let mut gone = 0;
        for row in rows.iter().rev().filter(|row| !self.dir(row).exists()) {
            gone += 1;
            self.db.write(|tx| snapshots::remove(tx, &row.key))?;
        }
        Ok((strays, gone))
    }
}

pub(super) fn info(row: Snapshot) -> Info {
    Info {
        key: row.key,
        parent: row.parent,
        kind: row.kind,
        created: row.created,
    }
}

/// Now, RFC 3339 in UTC.
fn now() -> String {
    jiff::Timestamp::now().to_string()
}
