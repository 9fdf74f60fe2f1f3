//! Images: names, records (one per image id, with or without names), repository digests.

use rusqlite::{Row, params};

use crate::{Error, Result, Tx};

/// A name that points to an image. Names move.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name {
    /// Complete: `docker.io/library/nginx:latest`.
    pub name: String,
    /// `sha256:..` of the image's config.
    pub image_id: String,
    /// Digest of the manifest or index that the name was pulled as.
    pub target_digest: String,
    /// Media type of the target.
    pub target_media_type: String,
    /// RFC 3339; when the name was last set.
    pub updated: String,
}

/// An image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// `sha256:..` of the config.
    pub id: String,
    /// Digest of the image's own manifest: the root of its content.
    pub target_digest: String,
    /// The config's bytes as text, exactly as hashed.
    pub config: String,
    /// Chain id of the uppermost layer; none for an image without layers.
    pub chain_id: Option<String>,
    /// Bytes of all layers, unpacked.
    pub size: u64,
    /// RFC 3339; when the image came here.
    pub created: String,
    /// `linux/amd64`, ...
    pub platform: String,
}

const NAME_COLUMNS: &str = "name, image_id, target_digest, target_media_type, updated";
const RECORD_COLUMNS: &str = "id, target_digest, config, chain_id, size, created, platform";

fn read_name(row: &Row) -> rusqlite::Result<Name> {
    Ok(Name {
        name: row.get(0)?,
        image_id: row.get(1)?,
        target_digest: row.get(2)?,
        target_media_type: row.get(3)?,
        updated: row.get(4)?,
    })
}

fn read_record(row: &Row) -> rusqlite::Result<Record> {
    Ok(Record {
        id: row.get(0)?,
        target_digest: row.get(1)?,
        config: row.get(2)?,
        chain_id: row.get(3)?,
        size: row.get::<_, i64>(4)?.max(0) as u64,
        created: row.get(5)?,
        platform: row.get(6)?,
    })
}

/// The name's row, if there is such a name.
pub fn name(tx: &Tx, name: &str) -> Result<Option<Name>> {
    tx.first(
        "read an image name",
        &format!("SELECT {NAME_COLUMNS} FROM images WHERE name = ?1"),
        [name],
        read_name,
    )
}

/// All names, sorted.
pub fn names(tx: &Tx) -> Result<Vec<Name>> {
    tx.all(
        "list the image names",
        &format!("SELECT {NAME_COLUMNS} FROM images ORDER BY name"),
        [],
        read_name,
    )
}

/// The names of one image, sorted.
pub fn names_of(tx: &Tx, image_id: &str) -> Result<Vec<Name>> {
    let sql = format!("SELECT {NAME_COLUMNS} FROM images WHERE image_id = ?1 ORDER BY name");
    tx.all("list an image's names", &sql, [image_id], read_name)
}

/// Sets a name, moving it when it is there.
pub fn set_name(tx: &Tx, name: &Name) -> Result<()> {
    tx.execute(
        "write an image name",
        "INSERT INTO images(name, image_id, target_digest, target_media_type, updated) VALUES(?1, ?2, ?3, ?4, ?5)
         ON CONFLICT(name) DO UPDATE SET image_id = ?2, target_digest = ?3, target_media_type = ?4, updated = ?5",
        params![name.name, name.image_id, name.target_digest, name.target_media_type, name.updated],
    )?;
    Ok(())
}

/// Removes a name; says whether it was there.
pub fn remove_name(tx: &Tx, name: &str) -> Result<bool> {
    Ok(tx.execute(
        "remove an image name",
        "DELETE FROM images WHERE name = ?1",
        [name],
    )? > 0)
}

/// The image with this full id, if there is one.
pub fn record(tx: &Tx, id: &str) -> Result<Option<Record>> {
    tx.first(
        "read an image",
        &format!("SELECT {RECORD_COLUMNS} FROM image_records WHERE id = ?1"),
        [id],
        read_record,
    )
}

/// The id that starts with `sha256:<prefix>`; `prefix` is lower hex.
pub fn find_by_prefix(tx: &Tx, prefix: &str) -> Result<String> {
    let none = || Error::not_found("image", prefix);
    if prefix.is_empty()
        || !prefix
            .bytes()
            .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    {
        return Err(none());
    }
    let low = format!("sha256:{prefix}");
    let high = format!("sha256:{prefix}g");
    let found: Vec<String> = tx.all(
        "find an image",
        "SELECT id FROM image_records WHERE id >= ?1 AND id < ?2 LIMIT 2",
        [&low, &high],
        |row| row.get(0),
    )?;
    match found.len() {
        0 => Err(none()),
        1 => found.into_iter().next().ok_or_else(none),
        _ => Err(Error::Ambiguous {
            noun: "image",
            prefix: prefix.to_owned(),
        }),
    }
}

/// All images, newest first.
pub fn records(tx: &Tx) -> Result<Vec<Record>> {
    let sql = format!("SELECT {RECORD_COLUMNS} FROM image_records ORDER BY created DESC, id");
    tx.all("list the images", &sql, [], read_record)
}

/// Adds an image, or refreshes it when it is there.
pub fn put_record(tx: &Tx, record: &Record) -> Result<()> {
    tx.execute(
        "write an image",
        "INSERT INTO image_records(id, target_digest, config, chain_id, size, created, platform) VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7)
         ON CONFLICT(id) DO UPDATE SET target_digest = ?2, chain_id = ?4, size = ?5, platform = ?7",
        params![record.id, record.target_digest, record.config, record.chain_id, record.size as i64, record.created, record.platform],
    )?;
    Ok(())
}

/// Records which image another was committed from.
pub fn set_parent(tx: &Tx, id: &str, parent: &str) -> Result<()> {
    tx.execute(
        "write an image's parent",
        "UPDATE image_records SET parent = ?2 WHERE id = ?1",
        [id, parent],
    )?;
    Ok(())
}

/// The image that this one was committed from, while that is there.
pub fn parent(tx: &Tx, id: &str) -> Result<Option<String>> {
    tx.first(
        "read an image's parent",
        "SELECT below.id FROM image_records own JOIN image_records below ON below.id = own.parent WHERE own.id = ?1",
        [id],
        |row| row.get(0),
    )
}

/// Removes an image with its names and repository digests; says whether it was there.
pub fn remove_record(tx: &Tx, id: &str) -> Result<bool> {
    tx.execute(
        "remove an image's names",
        "DELETE FROM images WHERE image_id = ?1",
        [id],
    )?;
    Ok(tx.execute(
        "remove an image",
        "DELETE FROM image_records WHERE id = ?1",
        [id],
    )? > 0)
}

/// Notes that `name` (without tag) has the image under `digest`.
pub fn put_repo_digest(tx: &Tx, name: &str, digest: &str, image_id: &str) -> Result<()> {
    tx.execute(
        "write a repository digest",
        "INSERT INTO repo_digests(name, digest, image_id) VALUES(?1, ?2, ?3) ON CONFLICT(name, digest) DO UPDATE SET image_id = ?3",
        [name, digest, image_id],
    )?;
    Ok(())
}

/// The image that a repository has under a digest.
pub fn by_repo_digest(tx: &Tx, name: &str, digest: &str) -> Result<Option<String>> {
    let sql = "SELECT image_id FROM repo_digests WHERE name = ?1 AND digest = ?2";
    tx.first("find a repository digest", sql, [name, digest], |row| {
        row.get(0)
    })
}

/// `(name, digest)` of an image, sorted.
pub fn repo_digests_of(tx: &Tx, image_id: &str) -> Result<Vec<(String, String)>> {
    let sql = "SELECT name, digest FROM repo_digests WHERE image_id = ?1 ORDER BY name, digest";
    tx.all(
        "list an image's repository digests",
        sql,
        [image_id],
        |row| Ok((row.get(0)?, row.get(1)?)),
    )
}

/// All repository digests as `(name, digest, image id)`, sorted.
pub fn repo_digests(tx: &Tx) -> Result<Vec<(String, String, String)>> {
    let sql = "SELECT name, digest, image_id FROM repo_digests ORDER BY name, digest";
    tx.all("list the repository digests", sql, [], |row| {
        Ok((row.get(0)?, row.get(1)?, row.get(2)?))
    })
}

/// Removes one repository digest; says whether it was there.
pub fn remove_repo_digest(tx: &Tx, name: &str, digest: &str) -> Result<bool> {
    Ok(tx.execute(
        "remove a repository digest",
        "DELETE FROM repo_digests WHERE name = ?1 AND digest = ?2",
        [name, digest],
    )? > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Db;

    fn record_of(id: &str) -> Record {
        Record {
            id: id.into(),
            target_digest: "sha256:t".into(),
            config: "{}".into(),
            chain_id: None,
            size: 7,
            created: "2026-11-20T00:00:00Z".into(),
            platform: "linux/amd64".into(),
        }
    }

    #[test]
    fn a_parent_is_named_while_it_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let db = Db::open(dir.path().join("state.db")).unwrap();
        db.write(|tx| {
            put_record(tx, &record_of("sha256:a"))?;
            put_record(tx, &record_of("sha256:b"))?;
            assert_eq!(parent(tx, "sha256:b")?, None);
            set_parent(tx, "sha256:b", "sha256:a")?;
            // Made once more by another way, it keeps it.
            put_record(tx, &record_of("sha256:b"))?;
            assert_eq!(parent(tx, "sha256:b")?.as_deref(), Some("sha256:a"));
            remove_record(tx, "sha256:a")?;
            assert_eq!(parent(tx, "sha256:b")?, None);
            Ok(())
        })
        .unwrap();
    }

    #[test]
    fn names_move_and_records_stay() {
        let dir = tempfile::tempdir().unwrap();
        let db = Db::open(dir.path().join("state.db")).unwrap();
        let name_of = |image: &str| Name {
            name: "docker.io/library/a:latest".into(),
            image_id: image.into(),
            target_digest: "sha256:t".into(),
            target_media_type: "m".into(),
            updated: "2026-11-20T00:00:00Z".into(),
        };
        db.write(|tx| {
            put_record(tx, &record_of("sha256:aa1"))?;
            put_record(tx, &record_of("sha256:aa2"))?;
            set_name(tx, &name_of("sha256:aa1"))?;
            set_name(tx, &name_of("sha256:aa2"))?;
            put_repo_digest(tx, "docker.io/library/a", "sha256:t", "sha256:aa1")
        })
        .unwrap();
        db.read(|tx| {
            assert!(names_of(tx, "sha256:aa1")?.is_empty());
            assert_eq!(names_of(tx, "sha256:aa2")?.len(), 1);
            assert_eq!(find_by_prefix(tx, "aa1")?, "sha256:aa1");
            assert!(matches!(
                find_by_prefix(tx, "aa"),
                Err(Error::Ambiguous { .. })
            ));
            assert_eq!(
                by_repo_digest(tx, "docker.io/library/a", "sha256:t")?.as_deref(),
                Some("sha256:aa1")
            );
            Ok(())
        })
        .unwrap();
        assert!(db.write(|tx| remove_record(tx, "sha256:aa1")).unwrap());
        assert!(!db.write(|tx| remove_record(tx, "sha256:aa1")).unwrap());
        assert!(
            db.read(|tx| repo_digests_of(tx, "sha256:aa1"))
                .unwrap()
                .is_empty()
        );
    }
}
