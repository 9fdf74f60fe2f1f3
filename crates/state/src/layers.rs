//! Unpacked layers, by chain id.

use rusqlite::{Row, params};

use crate::{Result, Tx};

/// A layer that lies unpacked in a committed snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// `sha256:..` over this layer and all below it.
    pub chain_id: String,
    /// Digest of the uncompressed tar.
    pub diff_id: String,
    /// Chain id of the layer below.
    pub parent: Option<String>,
    /// Key of the committed snapshot.
    pub snapshot_key: String,
    /// Unpacked bytes of this layer alone.
    pub size: u64,
    /// Digest of the blob it came from, when that is kept.
    pub blob_digest: Option<String>,
    /// Bytes of that blob.
    pub blob_size: Option<u64>,
}

const COLUMNS: &str = "chain_id, diff_id, parent, snapshot_key, size, blob_digest, blob_size";

fn read(row: &Row) -> rusqlite::Result<Layer> {
    Ok(Layer {
        chain_id: row.get(0)?,
        diff_id: row.get(1)?,
        parent: row.get(2)?,
        snapshot_key: row.get(3)?,
        size: row.get::<_, i64>(4)?.max(0) as u64,
        blob_digest: row.get(5)?,
        blob_size: row.get::<_, Option<i64>>(6)?.map(|size| size.max(0) as u64),
    })
}

/// The layer, if unpacked here.
pub fn get(tx: &Tx, chain_id: &str) -> Result<Option<Layer>> {
    tx.first(
        "read a layer",
        &format!("SELECT {COLUMNS} FROM layers WHERE chain_id = ?1"),
        [chain_id],
        read,
    )
}

/// All layers, sorted by chain id.
pub fn list(tx: &Tx) -> Result<Vec<Layer>> {
    tx.all(
        "list the layers",
        &format!("SELECT {COLUMNS} FROM layers ORDER BY chain_id"),
        [],
        read,
    )
}

/// Records a layer whose snapshot is committed.
pub fn put(tx: &Tx, layer: &Layer) -> Result<()> {
    tx.execute(
        "write a layer",
        "INSERT INTO layers(chain_id, diff_id, parent, snapshot_key, size, blob_digest, blob_size) VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7)
         ON CONFLICT(chain_id) DO UPDATE SET blob_digest = COALESCE(?6, blob_digest), blob_size = COALESCE(?7, blob_size)",
        params![
            layer.chain_id,
            layer.diff_id,
            layer.parent,
            layer.snapshot_key,
            layer.size as i64,
            layer.blob_digest,
            layer.blob_size.map(|size| size as i64)
        ],
    )?;
    Ok(())
}

/// Forgets a layer; says whether it was there. Its snapshot is removed afterwards.
pub fn remove(tx: &Tx, chain_id: &str) -> Result<bool> {
    Ok(tx.execute(
        "remove a layer",
        "DELETE FROM layers WHERE chain_id = ?1",
        [chain_id],
    )? > 0)
}

/// Layers that no image, no snapshot of a container and no lease needs, uppermost first, so that they can be removed in order.
pub fn unreferenced(tx: &Tx) -> Result<Vec<Layer>> {
    let found = tx.all(
        "mark the needed layers",
        &format!(
            "WITH RECURSIVE live(chain_id) AS (
               SELECT chain_id FROM image_records WHERE chain_id IS NOT NULL
               UNION SELECT parent FROM snapshots WHERE kind IN ('active', 'view') AND parent IS NOT NULL
               UNION SELECT key FROM lease_refs WHERE kind = 'snapshot'
               UNION SELECT layers.parent FROM layers JOIN live ON layers.chain_id = live.chain_id WHERE layers.parent IS NOT NULL)
             SELECT {COLUMNS} FROM layers WHERE chain_id NOT IN (SELECT chain_id FROM live) ORDER BY chain_id"
        ),
        [],
        read,
    )?;
    Ok(uppermost_first(found))
}

fn uppermost_first(layers: Vec<Layer>) -> Vec<Layer> {
    let mut waiting = layers;
    let mut sorted = Vec::with_capacity(waiting.len());
    while !waiting.is_empty() {
        let (below, free): (Vec<_>, Vec<_>) = {
            let parents: std::collections::BTreeSet<String> = waiting
                .iter()
                .filter_map(|layer| layer.parent.clone())
                .collect();
            waiting
                .into_iter()
                .partition(|layer| parents.contains(&layer.chain_id))
        };
        if free.is_empty() {
            // A cycle cannot be made by hashing; if it is there all the same, any order will do.
            sorted.extend(below);
            break;
        }
        sorted.extend(free);
        waiting = below;
    }
    sorted
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Db, snapshots};

    fn layer(chain: &str, parent: Option<&str>) -> Layer {
        Layer {
            chain_id: chain.into(),
            diff_id: chain.into(),
            parent: parent.map(Into::into),
            snapshot_key: chain.into(),
            size: 1,
            blob_digest: None,
            blob_size: None,
        }
    }

    #[test]
    fn a_container_keeps_its_layers() {
        let dir = tempfile::tempdir().unwrap();
        let db = Db::open(dir.path().join("state.db")).unwrap();
        db.write(|tx| {
            put(tx, &layer("c", Some("b")))?;
            put(tx, &layer("b", Some("a")))?;
            put(tx, &layer("a", None))?;
            put(tx, &layer("z", Some("a")))?;
            snapshots::insert(
                tx,
                "container",
                "overlay2",
                Some("b"),
                snapshots::Kind::Active,
                "now",
            )
            .map(|_| ())
        })
        .unwrap();
        let keys = |db: &Db| {
            db.read(unreferenced)
                .unwrap()
                .into_iter()
                .map(|layer| layer.chain_id)
                .collect::<Vec<_>>()
        };
        assert_eq!(keys(&db), ["c", "z"]);
        db.write(|tx| snapshots::remove(tx, "container")).unwrap();
        assert_eq!(keys(&db), ["c", "z", "b", "a"]);
    }
}
