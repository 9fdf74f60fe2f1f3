//! Single values of a data root, such as the daemon's own id.

use crate::{Result, Tx};

/// The value of `key`, if set.
pub fn get(tx: &Tx, key: &str) -> Result<Option<String>> {
    tx.first(
        "read a setting",
        "SELECT value FROM settings WHERE key = ?1",
        [key],
        |row| row.get(0),
    )
}

/// Sets or replaces a value.
pub fn set(tx: &Tx, key: &str, value: &str) -> Result<()> {
    tx.execute(
        "write a setting",
        "INSERT INTO settings(key, value) VALUES(?1, ?2) ON CONFLICT(key) DO UPDATE SET value = ?2",
        [key, value],
    )?;
    Ok(())
}
