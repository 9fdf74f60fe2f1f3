//! Containers: what was asked (`record`) and how far it is (`phase`), both the engine's JSON.

use rusqlite::{Row, params};

use crate::{Error, Result, Tx};

/// One container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// 64 lower hex digits.
    pub id: String,
    /// Without Docker's leading slash.
    pub name: String,
    /// `sha256:..` of the image's config; empty for a container without an image.
    pub image_id: String,
    /// Key of the active snapshot.
    pub snapshot_key: String,
    /// RFC 3339.
    pub created: String,
    /// The engine's record, JSON.
    pub record: String,
    /// The engine's phase, JSON.
    pub phase: String,
}

const COLUMNS: &str = "id, name, image_id, snapshot_key, created, record, phase";

fn read(row: &Row) -> rusqlite::Result<Container> {
    Ok(Container {
        id: row.get(0)?,
        name: row.get(1)?,
        image_id: row.get(2)?,
        snapshot_key: row.get(3)?,
        created: row.get(4)?,
        record: row.get(5)?,
        phase: row.get(6)?,
    })
}

/// The container with this full id.
pub fn get(tx: &Tx, id: &str) -> Result<Container> {
    let sql = format!("SELECT {COLUMNS} FROM containers WHERE id = ?1");
    tx.first("read a container", &sql, [id], read)?
        .ok_or_else(|| Error::not_found("container", id))
}

/// The full id for what a user wrote, in Docker's order: full id, name (with or without the leading slash), id prefix.
pub fn find(tx: &Tx, wanted: &str) -> Result<String> {
    let name = wanted.strip_prefix('/').unwrap_or(wanted);
    let exact = tx.first(
        "find a container",
        "SELECT id FROM containers WHERE id = ?1",
        [wanted],
        |row| row.get(0),
    )?;
    if let Some(id) = exact {
        return Ok(id);
    }
    if let Some(id) = id_of_name(tx, name)? {
        return Ok(id);
    }
    let none = || Error::not_found("container", wanted);
    if wanted.is_empty()
        || !wanted
            .bytes()
            .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    {
        return Err(none());
    }
    // Ids are hex: `g` sorts after every id with the prefix.
    let upper = format!("{wanted}g");
    let found: Vec<String> = tx.all(
        "find a container",
        "SELECT id FROM containers WHERE id >= ?1 AND id < ?2 LIMIT 2",
        [wanted, &upper],
        |row| row.get(0),
    )?;
    match found.len() {
        0 => Err(none()),
        1 => found.into_iter().next().ok_or_else(none),
        _ => Err(Error::Ambiguous {
            noun: "container",
            prefix: wanted.to_owned(),
        }),
    }
}

/// Who has a name.
pub fn id_of_name(tx: &Tx, name: &str) -> Result<Option<String>> {
    tx.first(
        "find a container's name",
        "SELECT id FROM containers WHERE name = ?1",
        [name],
        |row| row.get(0),
    )
}

/// All containers, newest first.
pub fn list(tx: &Tx) -> Result<Vec<Container>> {
    tx.all(
        "list the containers",
        &format!("SELECT {COLUMNS} FROM containers ORDER BY created DESC, id"),
        [],
        read,
    )
}

/// How many containers there are.
pub fn count(tx: &Tx) -> Result<u64> {
    let count: Option<i64> = tx.first(
        "count the containers",
        "SELECT COUNT(*) FROM containers",
        [],
        |row| row.get(0),
    )?;
    Ok(count.unwrap_or(0).max(0) as u64)
}

/// Ids of the containers made from an image.
pub fn of_image(tx: &Tx, image_id: &str) -> Result<Vec<String>> {
    tx.all(
        "list an image's containers",
        "SELECT id FROM containers WHERE image_id = ?1 ORDER BY id",
        [image_id],
        |row| row.get(0),
    )
}

/// Adds a container. [`Error::Taken`] when the name is in use.
pub fn insert(tx: &Tx, container: &Container) -> Result<()> {
    free_name(tx, &container.name)?;
    tx.execute(
        "insert a container",
        "INSERT INTO containers(id, name, image_id, snapshot_key, created, record, phase) VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        params![
            container.id,
            container.name,
            container.image_id,
            container.snapshot_key,
            container.created,
            container.record,
            container.phase
        ],
    )?;
    Ok(())
}

fn free_name(tx: &Tx, name: &str) -> Result<()> {
    match id_of_name(tx, name)? {
        Some(holder) => Err(Error::Taken {
            noun: "container name",
            key: name.to_owned(),
            holder,
        }),
        None => Ok(()),
    }
}

fn changed(count: usize, id: &str) -> Result<()> {
    if count == 0 {
        Err(Error::not_found("container", id))
    } else {
        Ok(())
    }
}

/// Writes the phase.
pub fn set_phase(tx: &Tx, id: &str, phase: &str) -> Result<()> {
    changed(
        tx.execute(
            "write a container's phase",
            "UPDATE containers SET phase = ?2 WHERE id = ?1",
            [id, phase],
        )?,
        id,
    )
}

/// Writes the record.
pub fn set_record(tx: &Tx, id: &str, record: &str) -> Result<()> {
    changed(
        tx.execute(
            "write a container's record",
            "UPDATE containers SET record = ?2 WHERE id = ?1",
            [id, record],
        )?,
        id,
    )
}

/// Gives the container another name. [`Error::Taken`] when it is in use.
pub fn rename(tx: &Tx, id: &str, name: &str) -> Result<()> {
    free_name(tx, name)?;
    changed(
        tx.execute(
            "rename a container",
            "UPDATE containers SET name = ?2 WHERE id = ?1",
            [id, name],
        )?,
        id,
    )
}

/// Removes the container with its endpoints, addresses, ports and volume references. Fine when absent.
pub fn remove(tx: &Tx, id: &str) -> Result<()> {
    tx.execute(
        "remove a container",
        "DELETE FROM containers WHERE id = ?1",
        [id],
    )?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Db;

    fn row(id: &str, name: &str) -> Container {
        Container {
            id: id.into(),
            name: name.into(),
            image_id: "sha256:1".into(),
            snapshot_key: id.into(),
            created: "2026-11-20T00:00:00Z".into(),
            record: "{}".into(),
            phase: "{}".into(),
        }
    }

    #[test]
    fn found_by_id_name_and_prefix() {
        let dir = tempfile::tempdir().unwrap();
        let db = Db::open(dir.path().join("state.db")).unwrap();
        db.write(|tx| {
            insert(tx, &row("aa11", "web"))?;
            insert(tx, &row("aa22", "abc"))?;
            insert(tx, &row("abcd", "aa1"))
        })
        .unwrap();
        let find = |wanted: &str| db.read(|tx| super::find(tx, wanted));
        assert_eq!(find("web").unwrap(), "aa11");
        assert_eq!(find("/web").unwrap(), "aa11");
        assert_eq!(find("abc").unwrap(), "aa22", "a name goes before a prefix");
        assert_eq!(find("abcd").unwrap(), "abcd");
        assert_eq!(find("aa2").unwrap(), "aa22");
        assert!(matches!(find("aa").unwrap_err(), Error::Ambiguous { .. }));
        assert!(find("zz").unwrap_err().is_not_found());
        assert!(find("").unwrap_err().is_not_found());
        assert!(find("%").unwrap_err().is_not_found());
    }

    #[test]
    fn a_name_has_one_holder() {
        let dir = tempfile::tempdir().unwrap();
        let db = Db::open(dir.path().join("state.db")).unwrap();
        db.write(|tx| insert(tx, &row("aa11", "web"))).unwrap();
        match db.write(|tx| insert(tx, &row("bb", "web"))).unwrap_err() {
            Error::Taken { holder, .. } => assert_eq!(holder, "aa11"),
            other => panic!("{other:?}"),
        }
        db.write(|tx| insert(tx, &row("bb", "db"))).unwrap();
        assert!(matches!(
            db.write(|tx| rename(tx, "bb", "web")).unwrap_err(),
            Error::Taken { .. }
        ));
        db.write(|tx| rename(tx, "bb", "web2")).unwrap();
        db.write(|tx| remove(tx, "aa11")).unwrap();
        assert_eq!(db.read(count).unwrap(), 1);
        assert!(
            db.write(|tx| set_phase(tx, "aa11", "{}"))
                .unwrap_err()
                .is_not_found()
        );
    }
}
