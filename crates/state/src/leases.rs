//! Leases: what a pull, load or build in progress needs, kept from garbage collection until the lease goes.

use crate::{Result, Tx};

/// What a lease holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A blob, by digest.
    Blob,
    /// A snapshot, by key.
    Snapshot,
    /// An image, by id.
    Image,
}

impl Kind {
    fn as_str(self) -> &'static str {
        match self {
            Kind::Blob => "blob",
            Kind::Snapshot => "snapshot",
            Kind::Image => "image",
        }
    }
}

/// Makes a lease. `expires` is RFC 3339; none lasts until removed (or until the next boot sweeps it).
pub fn create(tx: &Tx, id: &str, created: &str, expires: Option<&str>) -> Result<()> {
    tx.execute(
        "create a lease",
        "INSERT INTO leases(id, created, expires) VALUES(?1, ?2, ?3)",
        (id, created, expires),
    )?;
    Ok(())
}

/// Adds something to a lease. Fine when it is there.
pub fn add(tx: &Tx, lease: &str, kind: Kind, key: &str) -> Result<()> {
    let sql =
        "INSERT INTO lease_refs(lease_id, kind, key) VALUES(?1, ?2, ?3) ON CONFLICT DO NOTHING";
    tx.execute("add to a lease", sql, [lease, kind.as_str(), key])?;
    Ok(())
}

/// Whether any lease holds it.
pub fn holds(tx: &Tx, kind: Kind, key: &str) -> Result<bool> {
    let sql = "SELECT 1 FROM lease_refs WHERE kind = ?1 AND key = ?2 LIMIT 1";
    Ok(tx
        .first("find a lease", sql, [kind.as_str(), key], |_| Ok(()))?
        .is_some())
}

/// Ends a lease. Fine when absent.
pub fn remove(tx: &Tx, id: &str) -> Result<()> {
    tx.execute("remove a lease", "DELETE FROM leases WHERE id = ?1", [id])?;
    Ok(())
}

/// Ends all leases: at boot nothing is in progress. Returns how many there were.
pub fn remove_all(tx: &Tx) -> Result<usize> {
    tx.execute("remove all leases", "DELETE FROM leases", [])
}

/// Ends the leases that expired before `now` (RFC 3339, UTC).
pub fn remove_expired(tx: &Tx, now: &str) -> Result<usize> {
    tx.execute(
        "remove expired leases",
        "DELETE FROM leases WHERE expires IS NOT NULL AND expires < ?1",
        [now],
    )
}
