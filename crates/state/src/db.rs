//! Opening the file, its connections and transactions.
//!
//! One connection writes, behind a mutex: SQLite allows one writer anyway, and waiting here is fair and has no busy
//! timeout. Readers come from a small pool and see the last committed state (WAL).

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rusqlite::{Connection, OpenFlags, Params, Row, TransactionBehavior};

use crate::schema;
use crate::{Error, Result};

/// Idle reading connections that are kept; more are opened under load and closed afterwards.
const READERS_IDLE_MAX: usize = 4;
/// Prepared statements kept by a connection.
const STATEMENTS_CACHED_MAX: usize = 128;

/// Bytes that the log keeps on the disk: what it grows to between two checkpoints (SQLite's 1000 pages of 4 KiB, each with a header of
/// 24 bytes), and some more.
const LOG_LEN: u64 = 4608 << 10;

/// The database of one data root. A cheap clone: all clones share the connections.
///
/// Calls block, are meant to take less than a millisecond, and may be made inline from async code.
#[derive(Clone)]
pub struct Db {
    inner: Arc<Inner>,
}

struct Inner {
    path: PathBuf,
    writer: Mutex<Connection>,
    readers: Mutex<Vec<Connection>>,
}

/// An open transaction; every table function takes one.
pub struct Tx<'a> {
    conn: &'a Connection,
}

impl Db {
    /// Opens the file, makes it when absent, and brings its schema up to date.
    pub fn open(path: impl AsRef<Path>) -> Result<Db> {
        let path = path.as_ref().to_owned();
        let failed = |source| Error::Open {
            path: path.clone(),
            source,
        };
        let mut writer = connect(&path).map_err(failed)?;
        schema::migrate(&mut writer, &path)?;
        keep_room(&path);
        Ok(Db {
            inner: Arc::new(Inner {
                path,
                writer: Mutex::new(writer),
                readers: Mutex::new(Vec::new()),
            }),
        })
    }

    /// The database's file.
    pub fn path(&self) -> &Path {
        &self.inner.path
    }

    /// Runs `body` on one consistent snapshot of the last committed state.
    pub fn read<T>(&self, body: impl FnOnce(&Tx) -> Result<T>) -> Result<T> {
        self.try_read(body)
    }

    /// As [`Db::read`], for a body with an error type of its own.
    pub fn try_read<T, E: From<Error>>(
        &self,
        body: impl FnOnce(&Tx) -> std::result::Result<T, E>,
    ) -> std::result::Result<T, E> {
        let idle = lock(&self.inner.readers).pop();
        let mut conn = match idle {
            Some(conn) => conn,
            None => connect(&self.inner.path).map_err(|source| Error::Open {
                path: self.inner.path.clone(),
                source,
            })?,
        };
        let outcome = {
            let tx = conn
                .transaction_with_behavior(TransactionBehavior::Deferred)
                .map_err(Error::sql("begin to read"))?;
            body(&Tx { conn: &tx })
        };
        let mut readers = lock(&self.inner.readers);
        if readers.len() < READERS_IDLE_MAX {
            readers.push(conn);
        }
        outcome
    }

    /// Runs `body` as the only writer (`BEGIN IMMEDIATE`): committed on `Ok`, rolled back on `Err` and on panic.
    pub fn write<T>(&self, body: impl FnOnce(&Tx) -> Result<T>) -> Result<T> {
        self.try_write(body)
    }

    /// As [`Db::write`], for a body with an error type of its own.
    pub fn try_write<T, E: From<Error>>(
        &self,
        body: impl FnOnce(&Tx) -> std::result::Result<T, E>,
    ) -> std::result::Result<T, E> {
        let mut conn = lock(&self.inner.writer);
        let tx = conn
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(Error::sql("begin to write"))?;
        let value = body(&Tx { conn: &tx })?;
        tx.commit().map_err(Error::sql("commit"))?;
        Ok(value)
    }

    /// Moves the write-ahead log into the database file, at a clean end.
    pub fn checkpoint(&self) -> Result<()> {
        let conn = lock(&self.inner.writer);
        conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
            .map_err(Error::sql("checkpoint"))
    }
}

/// A panic inside a transaction rolled it back: the connection itself is sound.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes the log's room on the disk ahead, so that a full one does not keep anybody from removing what fills it. A file system that
/// cannot, or has no room even now, is no error. (The database's own file must not be opened here: closing it would drop SQLite's
/// locks, fcntl(2).)
fn keep_room(path: &Path) {
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    if let Ok(file) = std::fs::OpenOptions::new().write(true).open(log) {
        let _ = rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::KEEP_SIZE, 0, LOG_LEN);
    }
}

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(path, flags)?;
    conn.set_prepared_statement_cache_capacity(STATEMENTS_CACHED_MAX);
    // Only another process (the sqlite3 shell, say) can hold the lock.
    conn.busy_timeout(std::time::Duration::from_secs(5))?;
    conn.execute_batch(
        "PRAGMA journal_mode = WAL;
         PRAGMA synchronous = NORMAL;
         PRAGMA foreign_keys = ON;
         PRAGMA temp_store = MEMORY;
         PRAGMA cache_size = -512;",
    )?;
    Ok(conn)
}

impl Tx<'_> {
    /// Runs one statement; returns the number of changed rows.
    pub(crate) fn execute(
        &self,
        operation: &'static str,
        sql: &str,
        params: impl Params,
    ) -> Result<usize> {
        let mut statement = self
            .conn
            .prepare_cached(sql)
            .map_err(Error::sql(operation))?;
        statement.execute(params).map_err(Error::sql(operation))
    }

    /// All rows.
    pub(crate) fn all<T>(
        &self,
        operation: &'static str,
        sql: &str,
        params: impl Params,
        map: impl FnMut(&Row) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>> {
        let mut statement = self
            .conn
            .prepare_cached(sql)
            .map_err(Error::sql(operation))?;
        let rows = statement
            .query_map(params, map)
            .map_err(Error::sql(operation))?;
        rows.collect::<rusqlite::Result<Vec<T>>>()
            .map_err(Error::sql(operation))
    }

    /// The first row, if any.
    pub(crate) fn first<T>(
        &self,
        operation: &'static str,
        sql: &str,
        params: impl Params,
        map: impl FnOnce(&Row) -> rusqlite::Result<T>,
    ) -> Result<Option<T>> {
        use rusqlite::OptionalExtension;
        let mut statement = self
            .conn
            .prepare_cached(sql)
            .map_err(Error::sql(operation))?;
        statement
            .query_row(params, map)
            .optional()
            .map_err(Error::sql(operation))
    }

    pub(crate) fn last_insert_rowid(&self) -> i64 {
        self.conn.last_insert_rowid()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings;

    #[test]
    fn a_failed_body_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let db = Db::open(dir.path().join("state.db")).unwrap();
        let failed: Result<()> = db.write(|tx| {
            settings::set(tx, "a", "1")?;
            Err(Error::not_found("thing", "x"))
        });
        assert!(failed.unwrap_err().is_not_found());
        assert_eq!(db.read(|tx| settings::get(tx, "a")).unwrap(), None);
    }

    #[test]
    fn readers_see_what_was_committed_and_a_panic_does_not_wedge_the_writer() {
        let dir = tempfile::tempdir().unwrap();
        let db = Db::open(dir.path().join("state.db")).unwrap();
        db.write(|tx| settings::set(tx, "a", "1")).unwrap();
        let clone = db.clone();
        std::thread::spawn(move || {
            let _ = clone.write(|tx| -> Result<()> {
                settings::set(tx, "a", "2").unwrap();
                panic!("in the middle of a transaction")
            });
        })
        .join()
        .unwrap_err();
        assert_eq!(
            db.read(|tx| settings::get(tx, "a")).unwrap().as_deref(),
            Some("1")
        );
        db.write(|tx| settings::set(tx, "a", "3")).unwrap();
        drop(db);
        let again = Db::open(dir.path().join("state.db")).unwrap();
        assert_eq!(
            again.read(|tx| settings::get(tx, "a")).unwrap().as_deref(),
            Some("3")
        );
    }

    #[test]
    fn a_newer_file_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.db");
        drop(Db::open(&path).unwrap());
        Connection::open(&path)
            .unwrap()
            .execute_batch("PRAGMA user_version = 9999")
            .unwrap();
        assert!(matches!(
            Db::open(&path),
            Err(Error::Newer { found: 9999, .. })
        ));
    }
}
