//! Volumes and which containers use them.

use rusqlite::{Row, params};

use crate::{Error, Result, Tx};

/// A volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// Unique.
    pub name: String,
    /// `local`, or a plugin's name.
    pub driver: String,
    /// Directory on the host.
    pub mountpoint: String,
    /// JSON object.
    pub labels: String,
    /// JSON object: the driver's options.
    pub options: String,
    /// RFC 3339.
    pub created: String,
    /// Made for one container, without a name given; removed with it by `rm -v` and `--rm`.
    pub anonymous: bool,
}

const COLUMNS: &str = "name, driver, mountpoint, labels, options, created, anonymous";

fn read(row: &Row) -> rusqlite::Result<Volume> {
    Ok(Volume {
        name: row.get(0)?,
        driver: row.get(1)?,
        mountpoint: row.get(2)?,
        labels: row.get(3)?,
        options: row.get(4)?,
        created: row.get(5)?,
        anonymous: row.get(6)?,
    })
}

/// The volume, if there is one.
pub fn find(tx: &Tx, name: &str) -> Result<Option<Volume>> {
    tx.first(
        "read a volume",
        &format!("SELECT {COLUMNS} FROM volumes WHERE name = ?1"),
        [name],
        read,
    )
}

/// All volumes, sorted by name.
pub fn list(tx: &Tx) -> Result<Vec<Volume>> {
    tx.all(
        "list the volumes",
        &format!("SELECT {COLUMNS} FROM volumes ORDER BY name"),
        [],
        read,
    )
}

/// Adds a volume whose directory is in place. [`Error::Taken`] when the name is in use.
pub fn insert(tx: &Tx, volume: &Volume) -> Result<()> {
    if find(tx, &volume.name)?.is_some() {
        return Err(Error::Taken {
            noun: "volume",
            key: volume.name.clone(),
            holder: volume.name.clone(),
        });
    }
    tx.execute(
        "insert a volume",
        "INSERT INTO volumes(name, driver, mountpoint, labels, options, created, anonymous) VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        params![volume.name, volume.driver, volume.mountpoint, volume.labels, volume.options, volume.created, volume.anonymous],
    )?;
    Ok(())
}

/// Forgets a volume that nothing uses; says whether it was there. [`Error::Taken`] names a user, when there is one.
pub fn remove(tx: &Tx, name: &str) -> Result<bool> {
    if let Some(holder) = users(tx, name)?.into_iter().next() {
        return Err(Error::Taken {
            noun: "volume",
            key: name.to_owned(),
            holder,
        });
    }
    Ok(tx.execute(
        "remove a volume",
        "DELETE FROM volumes WHERE name = ?1",
        [name],
    )? > 0)
}

/// Notes that a container uses a volume. Fine when it is noted.
pub fn add_user(tx: &Tx, volume: &str, container_id: &str) -> Result<()> {
    let sql = "INSERT INTO volume_refs(volume, container_id) VALUES(?1, ?2) ON CONFLICT DO NOTHING";
    tx.execute("note a volume's user", sql, [volume, container_id])?;
    Ok(())
}

/// Ids of the containers that use a volume, sorted.
pub fn users(tx: &Tx, volume: &str) -> Result<Vec<String>> {
    let sql = "SELECT container_id FROM volume_refs WHERE volume = ?1 ORDER BY container_id";
    tx.all("list a volume's users", sql, [volume], |row| row.get(0))
}

/// `(volume, container id)` of all uses, sorted.
pub fn all_users(tx: &Tx) -> Result<Vec<(String, String)>> {
    let sql = "SELECT volume, container_id FROM volume_refs ORDER BY volume, container_id";
    tx.all("list the volumes' users", sql, [], |row| {
        Ok((row.get(0)?, row.get(1)?))
    })
}

/// The volumes that a container uses, sorted by name.
pub fn of_container(tx: &Tx, container_id: &str) -> Result<Vec<Volume>> {
    let sql = format!(
        "SELECT {COLUMNS} FROM volumes WHERE name IN (SELECT volume FROM volume_refs WHERE container_id = ?1) ORDER BY name"
    );
    tx.all("list a container's volumes", &sql, [container_id], read)
}

/// Notes where a volume is mounted: its plugin says so only when it is.
pub fn set_mountpoint(tx: &Tx, name: &str, mountpoint: &str) -> Result<()> {
    let sql = "UPDATE volumes SET mountpoint = ?2 WHERE name = ?1";
    tx.execute("note a volume's mount point", sql, [name, mountpoint])?;
    Ok(())
}

/// A mount that a volume's plugin was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// The volume's name.
    pub volume: String,
    /// Who wants it mounted: a container's id, or one of the moment.
    pub user: String,
    /// What the plugin knows the mount by.
    pub id: String,
    /// Where it is; empty while it is not known to be mounted: before the plugin has answered, and from the unmount on.
    pub mountpoint: String,
}

fn read_mount(row: &Row) -> rusqlite::Result<Mount> {
    Ok(Mount {
        volume: row.get(0)?,
        user: row.get(1)?,
        id: row.get(2)?,
        mountpoint: row.get(3)?,
    })
}

/// The mount of a volume for somebody.
pub fn mount(tx: &Tx, volume: &str, user: &str) -> Result<Option<Mount>> {
    let sql =
        "SELECT volume, user, id, mountpoint FROM volume_mounts WHERE volume = ?1 AND user = ?2";
    tx.first("read a volume's mount", sql, [volume, user], read_mount)
}

/// All mounts, sorted by volume.
pub fn mounts(tx: &Tx) -> Result<Vec<Mount>> {
    let sql = "SELECT volume, user, id, mountpoint FROM volume_mounts ORDER BY volume, user";
    tx.all("list the volumes' mounts", sql, [], read_mount)
}

/// Notes a mount, or what has become of it.
pub fn set_mount(tx: &Tx, mount: &Mount) -> Result<()> {
    let sql = "INSERT INTO volume_mounts(volume, user, id, mountpoint) VALUES(?1, ?2, ?3, ?4)
        ON CONFLICT(volume, user) DO UPDATE SET id = ?3, mountpoint = ?4";
    let values = [&mount.volume, &mount.user, &mount.id, &mount.mountpoint];
    tx.execute("note a volume's mount", sql, values)?;
    Ok(())
}

/// Forgets a mount that is undone.
pub fn remove_mount(tx: &Tx, volume: &str, user: &str) -> Result<()> {
    let sql = "DELETE FROM volume_mounts WHERE volume = ?1 AND user = ?2";
    tx.execute("forget a volume's mount", sql, [volume, user])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Db, containers};

    #[test]
    fn a_volume_in_use_stays() {
        let dir = tempfile::tempdir().unwrap();
        let db = Db::open(dir.path().join("state.db")).unwrap();
        let volume = Volume {
            name: "site".into(),
            driver: "local".into(),
            mountpoint: "/v/site/_data".into(),
            labels: "{}".into(),
            options: "{}".into(),
            created: "now".into(),
            anonymous: false,
        };
        db.write(|tx| {
            insert(tx, &volume)?;
            containers::insert(
                tx,
                &containers::Container {
                    id: "c1".into(),
                    name: "web".into(),
                    image_id: String::new(),
                    snapshot_key: "c1".into(),
                    created: "now".into(),
                    record: "{}".into(),
                    phase: "{}".into(),
                },
            )?;
            add_user(tx, "site", "c1")?;
            add_user(tx, "site", "c1")
        })
        .unwrap();
        assert!(matches!(
            db.write(|tx| insert(tx, &volume)),
            Err(Error::Taken { .. })
        ));
        assert!(matches!(
            db.write(|tx| remove(tx, "site")),
            Err(Error::Taken { .. })
        ));
        assert_eq!(db.read(|tx| of_container(tx, "c1")).unwrap(), [volume]);
        db.write(|tx| containers::remove(tx, "c1")).unwrap();
        let mut used = Mount {
            volume: "site".into(),
            user: "c1".into(),
            id: "m1".into(),
            mountpoint: String::new(),
        };
        db.write(|tx| set_mount(tx, &used)).unwrap();
        used.mountpoint = "/mnt/1".into();
        db.write(|tx| set_mount(tx, &used)).unwrap();
        assert_eq!(db.read(|tx| mount(tx, "site", "c1")).unwrap(), Some(used));
        assert!(db.write(|tx| remove(tx, "site")).unwrap());
        assert_eq!(db.read(mounts).unwrap(), []);
        assert!(!db.write(|tx| remove(tx, "site")).unwrap());
    }
}
