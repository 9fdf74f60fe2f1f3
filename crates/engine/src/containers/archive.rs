//! Files of a container: `cp`, `export`, `diff`. Everything is looked up by descriptor beneath the container's root, so no
//! link in it leads outside (CVE-2019-14271 and its kin).

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use hull_api::container::{FilesystemChange, PathStat};
use hull_store::layer::ChangeKind;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat, readlinkat, statat};
use rustix::io::Errno;
use tokio::io::AsyncRead;

use super::ArchivePutOptions;
use crate::error::{Error, Kind, Result, failed};
use crate::record::MountKind;
use crate::rootfs;
use crate::streams::ByteStream;
use crate::tarfile;
use crate::task::View;
use crate::world::{World, blocking};

pub(super) async fn changes(world: &Arc<World>, id: &str) -> Result<Vec<FilesystemChange>> {
    let id = id.to_owned();
    blocking(world, move |world| {
        let source = world
            .snapshots
            .diff_source(&id)
            .map_err(failed("find the container's changes"))?;
        let changes =
            hull_store::layer::changes(&source).map_err(failed("read the container's changes"))?;
        let shown = |change: hull_store::layer::Change| FilesystemChange {
            path: change.path,
            kind: match change.kind {
                ChangeKind::Modified => 0,
                ChangeKind::Added => 1,
                ChangeKind::Deleted => 2,
            },
        };
        Ok(without_mount_points(
            changes.into_iter().map(shown).collect(),
        ))
    })
    .await
}

fn without_mount_points(changes: Vec<FilesystemChange>) -> Vec<FilesystemChange> {
    let hidden = |change: &FilesystemChange| {
        change.kind == 1 && rootfs::MADE_BY_US.contains(&change.path.trim_start_matches('/'))
    };
    let (made, mut kept): (Vec<_>, Vec<_>) = changes.into_iter().partition(hidden);
    for directory in ["/dev", "/etc"] {
        let below = |change: &FilesystemChange| {
            change
                .path
                .strip_prefix(directory)
                .is_some_and(|rest| rest.starts_with('/'))
        };
        if made.iter().any(below) && !kept.iter().any(below) {
            kept.retain(|change| change.path != directory || change.kind == 2);
        }
    }
    kept
}

/// A place in a container: a root that can be opened beneath, and the path from there.
struct Place {
    root: OwnedFd,
    /// Relative to `root`, without a leading slash.
    path: String,
    /// The directory itself is meant, not a link to it: the path ends in `/` or `/.`.
    follow: bool,
    /// The volume that it lies in, which is mounted for it, and for whom.
    mounted: Option<(String, String)>,
}

impl Place {
    /// What was mounted for it need not be so any longer.
    fn leave(self, world: &World) {
        let Place { root, mounted, .. } = self;
        // An open directory would keep it mounted.
        drop(root);
        if let Some((volume, user)) = mounted
            && let Err(error) = world.volumes.release([volume.as_str()], &user)
        {
            tracing::warn!(%volume, %error, "after a copy");
        }
    }
}

/// Does something at a place.
fn at<T>(
    world: &World,
    view: &View,
    path: &str,
    writable: bool,
    body: impl FnOnce(&Place) -> Result<T>,
) -> Result<T> {
    let place = place(world, view, path, writable)?;
    let done = body(&place);
    place.leave(world);
    done
}

/// While it runs: the container's own view, mounts and all. Else its file system, mounted for us; paths below a volume or a
/// bind lead there.
fn place(world: &World, view: &View, path: &str, writable: bool) -> Result<Place> {
    let clean = super::mounts::clean(path);
    let follow = path.ends_with('/') || path.ends_with("/.") || clean == "/";
    let relative = |path: &str| path.trim_start_matches('/').to_owned();
    if let Some(live) = view.state.phase.live() {
        return Ok(Place {
            root: rootfs::of_process(live.pid)?,
            path: relative(&clean),
            follow,
            mounted: None,
        });
    }
    let under = view
        .record
        .mounts
        .iter()
        .filter(|mount| matches!(mount.kind, MountKind::Bind | MountKind::Volume))
        .filter_map(|mount| {
            let rest = clean.strip_prefix(&mount.destination)?;
            (rest.is_empty() || rest.starts_with('/')).then_some((mount, rest))
        })
        .max_by_key(|(mount, _)| mount.destination.len());
    if let Some((mount, rest)) = under {
        if writable && !mount.rw {
            return Err(Error::new(
                Kind::Forbidden,
                "mounted volume is marked read-only",
            ));
        }
        let user = crate::id::new_id();
        let place = world.volumes.acquire(&mount.name, &user)?;
        let place = place.as_deref().unwrap_or(Path::new(&mount.source));
        let opened = world
            .volumes
            .source(&mount.name, place, &mount.subpath)
            .and_then(|source| match source.is_dir() {
                true => hull_sys::path::open_dir(&source)
                    .map(Some)
                    .map_err(failed(format!("open {}", source.display()))),
                false => Ok(None),
            });
        match opened {
            Ok(Some(root)) => {
                return Ok(Place {
                    root,
                    path: relative(rest),
                    follow: follow || rest.is_empty(),
                    mounted: Some((mount.name.clone(), user)),
                });
            }
            Ok(None) => world.volumes.release([mount.name.as_str()], &user)?,
            Err(error) => {
                world.volumes.release([mount.name.as_str()], &user)?;
                return Err(error);
            }
        }
    }
    if let Some(name) = own_file(&clean) {
        let dir = world.container_dir(&view.record.id).0;
        // Empty before the first start, as in Docker.
        std::fs::OpenOptions::new()
            .append(true)
            .create(true)
            .open(dir.join(name))
            .map_err(failed(format!("open {clean}")))?;
        let root = hull_sys::path::open_dir(&dir).map_err(failed("open the container's folder"))?;
        return Ok(Place {
            root,
            path: name.to_owned(),
            follow,
            mounted: None,
        });
    }
    if writable && view.record.host.readonly_rootfs {
        return Err(Error::new(
            Kind::Forbidden,
            "container rootfs is marked read-only",
        ));
    }
    let mounts = world
        .snapshots
        .mounts(&view.record.id)
        .map_err(failed("mount the container's file system"))?;
    let root = if writable {
        rootfs::open_writable(&mounts)?
    } else {
        rootfs::open_read_only(&mounts)?
    };
    Ok(Place {
        root,
        path: relative(&clean),
        follow,
        mounted: None,
    })
}

/// The files that every container has from outside, and that are not in its image.
fn own_file(path: &str) -> Option<&'static str> {
    ["hostname", "hosts", "resolv.conf"]
        .into_iter()
        .find(|name| path.strip_prefix("/etc/") == Some(name))
}

fn not_found(view: &View, path: &str) -> Error {
    Error::not_found(format!(
        "Could not find the file {path} in container {}",
        view.record.name
    ))
}

fn lookup(place: &Place, view: &View, path: &str) -> Result<(OwnedFd, Stat)> {
    let explain = |errno: Errno| match errno {
        Errno::NOENT | Errno::NOTDIR => not_found(view, path),
        other => Error::failed(
            format!("look up {path} in container {}", view.record.name),
            other,
        ),
    };
    let mut flags = OFlags::PATH;
    if place.follow {
        flags |= OFlags::DIRECTORY;
    } else {
        flags |= OFlags::NOFOLLOW;
    }
    let fd = hull_sys::path::open_in_root(
        place.root.as_fd(),
        Path::new(&place.path),
        flags,
        Mode::empty(),
    )
    .map_err(explain)?;
    let stat = statat(&fd, c"", AtFlags::EMPTY_PATH).map_err(explain)?;
    Ok((fd, stat))
}

/// Go's `os.FileMode`.
fn go_mode(stat: &Stat) -> u32 {
    let mode = stat.st_mode;
    let kind = match FileType::from_raw_mode(mode) {
        FileType::Directory => 1 << 31,
        FileType::Symlink => 1 << 27,
        FileType::BlockDevice => 1 << 26,
        FileType::CharacterDevice => 1 << 26 | 1 << 21,
        FileType::Fifo => 1 << 25,
        FileType::Socket => 1 << 24,
        _ => 0,
    };
    let bit = |from: u32, to: u32| if mode & from != 0 { to } else { 0 };
    kind | bit(0o4000, 1 << 23) | bit(0o2000, 1 << 22) | bit(0o1000, 1 << 20) | (mode & 0o777)
}

fn path_stat(place: &Place, fd: &OwnedFd, stat: &Stat, path: &str) -> Result<PathStat> {
    let name = base_name(path);
    let mtime = jiff::Timestamp::new(
        stat.st_mtime,
        i32::try_from(stat.st_mtime_nsec).unwrap_or(0),
    )
    .unwrap_or_default();
    let link_target = match FileType::from_raw_mode(stat.st_mode) {
        FileType::Symlink => {
            let target =
                readlinkat(fd, c"", Vec::new()).map_err(failed(format!("read the link {path}")))?;
            let target = target.to_string_lossy().into_owned();
            let above =
                Path::new("/").join(Path::new(&place.path).parent().unwrap_or(Path::new("")));
            super::mounts::clean(&above.join(target).display().to_string())
        }
        _ => String::new(),
    };
    Ok(PathStat {
        name,
        size: stat.st_size,
        mode: go_mode(stat),
        mtime: hull_api::time::rfc3339_nano(mtime),
        link_target,
    })
}

/// Go's `filepath.Base` of the path as written, where a final `.` counts.
fn base_name(path: &str) -> String {
    if path.ends_with("/.") {
        return ".".to_owned();
    }
    match path.trim_end_matches('/').rsplit('/').next() {
        None | Some("") => "/".to_owned(),
        Some(name) => name.to_owned(),
    }
}

pub(super) async fn stat(world: &Arc<World>, view: &Arc<View>, path: &str) -> Result<PathStat> {
    let (view, path) = (view.clone(), path.to_owned());
    blocking(world, move |world| {
        at(world, &view, &path, false, |place| {
            let (fd, stat) = lookup(place, &view, &path)?;
            path_stat(place, &fd, &stat, &path)
        })
    })
    .await
}

pub(super) async fn get(
    world: &Arc<World>,
    view: &Arc<View>,
    path: &str,
) -> Result<(PathStat, ByteStream)> {
    let (view, path) = (view.clone(), path.to_owned());
    let (found, fd, place) = blocking(world, move |world| {
        let place = place(world, &view, &path, false)?;
        let found = lookup(&place, &view, &path)
            .and_then(|(fd, stat)| Ok((path_stat(&place, &fd, &stat, &path)?, fd)));
        match found {
            Ok((found, fd)) => Ok((found, fd, place)),
            Err(error) => {
                place.leave(world);
                Err(error)
            }
        }
    })
    .await?;
    // The tree is named as it was asked for; the root itself has no name.
    let name = match found.name.as_str() {
        "/" => ".".to_owned(),
        name => name.to_owned(),
    };
    let ids = world.options.userns_remap.clone();
    let world = world.clone();
    let packed = crate::pipe::bytes(move |out| {
        let packed = tarfile::pack(fd, &name, &ids, out);
        place.leave(&world);
        packed
    });
    Ok((found, packed))
}

pub(super) async fn export(world: &Arc<World>, view: &Arc<View>) -> Result<ByteStream> {
    let view = view.clone();
    let root = blocking(world, move |world| match view.state.phase.live() {
        // Without /proc, /dev and volumes: only the container's own file system.
        Some(_) | None => {
            let mounts = world
                .snapshots
                .mounts(&view.record.id)
                .map_err(failed("mount the container's file system"))?;
            rootfs::open_read_only(&mounts)
        }
    })
    .await?;
    let ids = world.options.userns_remap.clone();
    Ok(crate::pipe::bytes(move |out| {
        tarfile::pack(root, "", &ids, out)
    }))
}

pub(super) async fn put(
    world: &Arc<World>,
    view: &Arc<View>,
    path: &str,
    options: ArchivePutOptions,
    tar: Box<dyn AsyncRead + Send + Unpin>,
) -> Result<()> {
    let (view, path) = (view.clone(), path.to_owned());
    let reader = tokio_util::io::SyncIoBridge::new(tar);
    blocking(world, move |world| {
        at(world, &view, &path, true, |place| {
            unpack(world, &view, &path, &options, reader, place)
        })
    })
    .await
}

/// Unpacks an archive into the directory at a place.
fn unpack(
    world: &World,
    view: &View,
    path: &str,
    options: &ArchivePutOptions,
    reader: impl std::io::Read + Send + 'static,
    place: &Place,
) -> Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    let root = hull_sys::path::open_in_root(
        place.root.as_fd(),
        Path::new(&place.path),
        flags,
        Mode::empty(),
    );
    let root = root.map_err(|errno| match errno {
        Errno::NOENT => not_found(view, path),
        Errno::NOTDIR => Error::invalid("extraction point is not a directory"),
        other => Error::failed(
            format!("open {path} in container {}", view.record.name),
            other,
        ),
    })?;
    let owners = tarfile::Owners {
        ids: world.options.userns_remap.clone(),
        all: match options.copy_uid_gid {
            true => Some(owner(world, view)?),
            false => None,
        },
    };
    tarfile::unpack(reader, &root, options.no_overwrite_dir_non_dir, &owners)
}

/// The container's own user, who gets the files of `cp -a`.
fn owner(world: &World, view: &View) -> Result<(u32, u32)> {
    let mounts = world
        .snapshots
        .mounts(&view.record.id)
        .map_err(failed("mount the container's file system"))?;
    let user =
        crate::spec::resolve_user(&view.record.config.user, &[], &rootfs::user_files(&mounts)?)?;
    Ok((user.uid, user.gid))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_are_no_changes() {
        let change = |path: &str, kind| FilesystemChange {
            path: path.into(),
            kind,
        };
        let only_mounts = vec![
            change("/etc", 0),
            change("/etc/resolv.conf", 1),
            change("/test", 1),
        ];
        assert_eq!(without_mount_points(only_mounts), [change("/test", 1)]);
        let also_own = vec![
            change("/etc", 0),
            change("/etc/hosts", 1),
            change("/etc/mine", 1),
        ];
        assert_eq!(
            without_mount_points(also_own),
            [change("/etc", 0), change("/etc/mine", 1)]
        );
        let of_the_image = vec![change("/etc", 0), change("/etc/hosts", 0)];
        assert_eq!(without_mount_points(of_the_image.clone()), of_the_image);
    }
}
