//! Blobs that are in the content store, and which blob names which others.

use rusqlite::{Row, params};

use crate::{Result, Tx};

/// A blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blob {
    /// `sha256:..`
    pub digest: String,
    /// Bytes.
    pub size: u64,
    /// Media type as its parent's descriptor gave it; may be empty.
    pub media_type: String,
    /// RFC 3339.
    pub created: String,
}

fn read(row: &Row) -> rusqlite::Result<Blob> {
    Ok(Blob {
        digest: row.get(0)?,
        size: row.get::<_, i64>(1)?.max(0) as u64,
        media_type: row.get(2)?,
        created: row.get(3)?,
    })
}

/// The blob, if recorded.
pub fn get(tx: &Tx, digest: &str) -> Result<Option<Blob>> {
    tx.first(
        "read a blob",
        "SELECT digest, size, media_type, created FROM blobs WHERE digest = ?1",
        [digest],
        read,
    )
}

/// All blobs, sorted by digest.
pub fn list(tx: &Tx) -> Result<Vec<Blob>> {
    tx.all(
        "list the blobs",
        "SELECT digest, size, media_type, created FROM blobs ORDER BY digest",
        [],
        read,
    )
}

/// Records a blob whose file is in place.
pub fn put(tx: &Tx, blob: &Blob) -> Result<()> {
    tx.execute(
        "write a blob",
        "INSERT INTO blobs(digest, size, media_type, created) VALUES(?1, ?2, ?3, ?4) ON CONFLICT(digest) DO NOTHING",
        params![blob.digest, blob.size as i64, blob.media_type, blob.created],
    )?;
    Ok(())
}

/// Forgets a blob and what it names; says whether it was there. The file is removed afterwards.
pub fn remove(tx: &Tx, digest: &str) -> Result<bool> {
    tx.execute(
        "remove a blob's edges",
        "DELETE FROM blob_edges WHERE parent = ?1",
        [digest],
    )?;
    Ok(tx.execute(
        "remove a blob",
        "DELETE FROM blobs WHERE digest = ?1",
        [digest],
    )? > 0)
}

/// Notes that `parent` (a manifest or index) names `child`.
pub fn put_edge(tx: &Tx, parent: &str, child: &str) -> Result<()> {
    tx.execute(
        "write a blob's edge",
        "INSERT INTO blob_edges(parent, child) VALUES(?1, ?2) ON CONFLICT DO NOTHING",
        [parent, child],
    )?;
    Ok(())
}

/// What a blob names, sorted.
pub fn children(tx: &Tx, parent: &str) -> Result<Vec<String>> {
    tx.all(
        "list a blob's children",
        "SELECT child FROM blob_edges WHERE parent = ?1 ORDER BY child",
        [parent],
        |row| row.get(0),
    )
}

/// The repositories (`docker.io/library/nginx`) under one of whose digests here a blob is reached, sorted.
pub fn repositories_of(tx: &Tx, digest: &str) -> Result<Vec<String>> {
    tx.all(
        "find a blob's repositories",
        "WITH RECURSIVE up(digest) AS (
           SELECT ?1 UNION SELECT blob_edges.parent FROM blob_edges JOIN up ON blob_edges.child = up.digest)
         SELECT DISTINCT name FROM repo_digests WHERE digest IN (SELECT digest FROM up) ORDER BY name",
        [digest],
        |row| row.get(0),
    )
}

/// Blobs that no image, no name, no unpacked layer and no lease reaches: what garbage collection may remove in the same transaction.
pub fn unreachable(tx: &Tx) -> Result<Vec<Blob>> {
    tx.all(
        "mark the reachable blobs",
        "WITH RECURSIVE live(digest) AS (
           SELECT target_digest FROM image_records
           UNION SELECT target_digest FROM images
           UNION SELECT digest FROM repo_digests
           UNION SELECT id FROM image_records
           UNION SELECT blob_digest FROM layers WHERE blob_digest IS NOT NULL
           UNION SELECT key FROM lease_refs WHERE kind = 'blob'
           UNION SELECT child FROM blob_edges JOIN live ON blob_edges.parent = live.digest)
         SELECT digest, size, media_type, created FROM blobs WHERE digest NOT IN (SELECT digest FROM live) ORDER BY digest",
        [],
        read,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Db, images, leases};

    #[test]
    fn only_what_nothing_reaches_is_garbage() {
        let dir = tempfile::tempdir().unwrap();
        let db = Db::open(dir.path().join("state.db")).unwrap();
        let now = "2026-11-20T00:00:00Z";
        db.write(|tx| {
            for digest in ["m", "c", "l1", "l2", "partial", "old"] {
                put(
                    tx,
                    &Blob {
                        digest: digest.into(),
                        size: 1,
                        media_type: String::new(),
                        created: now.into(),
                    },
                )?;
            }
            put_edge(tx, "m", "c")?;
            put_edge(tx, "m", "l1")?;
            put_edge(tx, "m", "l2")?;
            put_edge(tx, "old", "l2")?;
            leases::create(tx, "pull", now, None)?;
            leases::add(tx, "pull", leases::Kind::Blob, "partial")?;
            images::put_record(
                tx,
                &images::Record {
                    id: "c".into(),
                    target_digest: "m".into(),
                    config: "{}".into(),
                    chain_id: None,
                    size: 0,
                    created: now.into(),
                    platform: "linux/amd64".into(),
                },
            )
        })
        .unwrap();
        let garbage = |db: &Db| {
            db.read(unreachable)
                .unwrap()
                .into_iter()
                .map(|blob| blob.digest)
                .collect::<Vec<_>>()
        };
        assert_eq!(garbage(&db), ["old"]);
        db.write(|tx| leases::remove(tx, "pull")).unwrap();
        assert_eq!(garbage(&db), ["old", "partial"]);
        db.write(|tx| images::remove_record(tx, "c")).unwrap();
        assert_eq!(garbage(&db).len(), 6);
    }
}
