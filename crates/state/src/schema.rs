//! The schema, drawn once as it is now, and one migration per change.
//!
//! ```text
//! containers(id PK, name UNIQUE, image_id, snapshot_key, created, record JSON, phase JSON)
//!   └─< volume_refs(volume -> volumes.name, container_id)            who uses a volume
//!   └─< endpoints(id PK, network_id -> networks.id, container_id, record JSON)
//!         └─< addresses(network_id, address, endpoint_id)            leased addresses, PK(network_id, address)
//!         └─< ports(protocol, host_ip, host_port, endpoint_id)       published ports, PK(protocol, host_ip, host_port)
//! networks(id PK, name UNIQUE, driver, created, record JSON)
//! volumes(name PK, driver, mountpoint, labels JSON, options JSON, created, anonymous)
//!   └─< volume_mounts(volume -> volumes.name, user, id, mountpoint)      mounts that a plugin was asked for; a container, or a moment's need
//! images(name PK "docker.io/library/nginx:latest", image_id -> image_records, target_digest, target_media_type, updated)
//! repo_digests(name "docker.io/library/nginx", digest, image_id)     PK(name, digest)
//! image_records(id PK, target_digest, config JSON text, chain_id, size, created, platform, parent)
//! blobs(digest PK, size, media_type, created)   blob_edges(parent, child)   manifest -> config, layers; index -> manifests
//! layers(chain_id PK, diff_id, parent, snapshot_key, size, blob_digest, blob_size)
//! snapshots(n PK AUTOINCREMENT, key UNIQUE, driver, parent, kind active|view|committed, size, inodes, created)
//! leases(id PK, created, expires)   lease_refs(lease_id, kind blob|snapshot|image, key)
//! settings(key PK, value)
//! ```
//! Times are RFC 3339 text in UTC. `snapshots.n` is never used twice (AUTOINCREMENT): a directory left by a crash after its
//! row was removed is not taken for a new snapshot's.

use std::path::Path;

use rusqlite::Connection;

use crate::{Error, Result};

/// Each entry brings `user_version` from its index to its index + 1. Entries are never edited once released.
const MIGRATIONS: &[&str] = &[V1, V2, V3];

const V1: &str = "
CREATE TABLE settings(key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE containers(
  id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, image_id TEXT NOT NULL, snapshot_key TEXT NOT NULL,
  created TEXT NOT NULL, record TEXT NOT NULL, phase TEXT NOT NULL) WITHOUT ROWID;
CREATE INDEX containers_image ON containers(image_id);
CREATE TABLE image_records(
  id TEXT PRIMARY KEY, target_digest TEXT NOT NULL, config TEXT NOT NULL, chain_id TEXT,
  size INTEGER NOT NULL, created TEXT NOT NULL, platform TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE images(
  name TEXT PRIMARY KEY, image_id TEXT NOT NULL REFERENCES image_records(id), target_digest TEXT NOT NULL,
  target_media_type TEXT NOT NULL, updated TEXT NOT NULL) WITHOUT ROWID;
CREATE INDEX images_image ON images(image_id);
CREATE TABLE repo_digests(
  name TEXT NOT NULL, digest TEXT NOT NULL, image_id TEXT NOT NULL REFERENCES image_records(id) ON DELETE CASCADE,
  PRIMARY KEY(name, digest)) WITHOUT ROWID;
CREATE INDEX repo_digests_image ON repo_digests(image_id);
CREATE TABLE blobs(digest TEXT PRIMARY KEY, size INTEGER NOT NULL, media_type TEXT NOT NULL, created TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE blob_edges(parent TEXT NOT NULL, child TEXT NOT NULL, PRIMARY KEY(parent, child)) WITHOUT ROWID;
CREATE INDEX blob_edges_child ON blob_edges(child);
CREATE TABLE layers(
  chain_id TEXT PRIMARY KEY, diff_id TEXT NOT NULL, parent TEXT, snapshot_key TEXT NOT NULL,
  size INTEGER NOT NULL, blob_digest TEXT, blob_size INTEGER) WITHOUT ROWID;
CREATE INDEX layers_parent ON layers(parent);
CREATE TABLE snapshots(
  n INTEGER PRIMARY KEY AUTOINCREMENT, key TEXT NOT NULL UNIQUE, driver TEXT NOT NULL, parent TEXT,
  kind TEXT NOT NULL CHECK(kind IN ('active', 'view', 'committed')), size INTEGER, inodes INTEGER, created TEXT NOT NULL);
CREATE INDEX snapshots_parent ON snapshots(parent);
CREATE TABLE volumes(
  name TEXT PRIMARY KEY, driver TEXT NOT NULL, mountpoint TEXT NOT NULL, labels TEXT NOT NULL, options TEXT NOT NULL,
  created TEXT NOT NULL, anonymous INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE volume_refs(
  volume TEXT NOT NULL REFERENCES volumes(name), container_id TEXT NOT NULL REFERENCES containers(id) ON DELETE CASCADE,
  PRIMARY KEY(volume, container_id)) WITHOUT ROWID;
CREATE INDEX volume_refs_container ON volume_refs(container_id);
CREATE TABLE networks(
  id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, driver TEXT NOT NULL, created TEXT NOT NULL, record TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE endpoints(
  id TEXT PRIMARY KEY, network_id TEXT NOT NULL REFERENCES networks(id),
  container_id TEXT NOT NULL REFERENCES containers(id) ON DELETE CASCADE, record TEXT NOT NULL) WITHOUT ROWID;
CREATE INDEX endpoints_network ON endpoints(network_id);
CREATE INDEX endpoints_container ON endpoints(container_id);
CREATE TABLE addresses(
  network_id TEXT NOT NULL, address TEXT NOT NULL, endpoint_id TEXT NOT NULL REFERENCES endpoints(id) ON DELETE CASCADE,
  PRIMARY KEY(network_id, address)) WITHOUT ROWID;
CREATE INDEX addresses_endpoint ON addresses(endpoint_id);
CREATE TABLE ports(
  protocol TEXT NOT NULL, host_ip TEXT NOT NULL, host_port INTEGER NOT NULL,
  endpoint_id TEXT NOT NULL REFERENCES endpoints(id) ON DELETE CASCADE,
  PRIMARY KEY(protocol, host_ip, host_port)) WITHOUT ROWID;
CREATE INDEX ports_endpoint ON ports(endpoint_id);
CREATE TABLE leases(id TEXT PRIMARY KEY, created TEXT NOT NULL, expires TEXT) WITHOUT ROWID;
CREATE TABLE lease_refs(
  lease_id TEXT NOT NULL REFERENCES leases(id) ON DELETE CASCADE,
  kind TEXT NOT NULL CHECK(kind IN ('blob', 'snapshot', 'image')), key TEXT NOT NULL,
  PRIMARY KEY(lease_id, kind, key)) WITHOUT ROWID;
CREATE INDEX lease_refs_key ON lease_refs(kind, key);
";

/// What an image was committed from.
const V2: &str = "ALTER TABLE image_records ADD COLUMN parent TEXT";

/// References to volumes that plugins mount.
const V3: &str = "
CREATE TABLE volume_mounts(
  volume TEXT NOT NULL REFERENCES volumes(name) ON DELETE CASCADE, user TEXT NOT NULL, id TEXT NOT NULL, mountpoint TEXT NOT NULL,
  PRIMARY KEY(volume, user)) WITHOUT ROWID;
";

/// Brings the file up to the newest schema, each step in a transaction of its own.
pub(crate) fn migrate(conn: &mut Connection, path: &Path) -> Result<()> {
    let failed = |source| Error::Open {
        path: path.to_owned(),
        source,
    };
    let found: i64 = conn
        .query_row("PRAGMA user_version", [], |row| row.get(0))
        .map_err(failed)?;
    let known = MIGRATIONS.len() as i64;
    if found < 0 || found > known {
        return Err(Error::Newer {
            path: path.to_owned(),
            found,
            known,
        });
    }
    for (index, sql) in MIGRATIONS.iter().enumerate().skip(found as usize) {
        let tx = conn.transaction().map_err(failed)?;
        tx.execute_batch(sql).map_err(failed)?;
        tx.pragma_update(None, "user_version", index as i64 + 1)
            .map_err(failed)?;
        tx.commit().map_err(failed)?;
    }
    Ok(())
}
