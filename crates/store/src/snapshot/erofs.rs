//! Layers as erofs images: one file each, mounted from the file, never unpacked to be read.
//!
//! overlayfs joins the images as it joins directories ([`super::overlay`]); only what a container writes is a directory. An
//! image cannot be changed by anybody, takes one inode, and is removed by one unlink(2).

use std::fs;
use std::os::fd::AsFd;
use std::path::Path;

use super::commands;
use super::tree::Tree;
use crate::{Error, Result};

/// A committed layer's name in its snapshot's directory.
pub(super) const IMAGE: &str = "layer.erofs";

/// Makes an image of the directory `from` at `to`: hard links, xattrs, devices and times to the nanosecond as they are.
pub(super) fn build(from: &Path, to: &Path) -> Result<()> {
    let part = to.with_extension("part");
    let words = [
        "mkfs.erofs".to_owned(),
        "--quiet".to_owned(),
        // The kernel reads what is not compressed straight from the page cache.
        "-Eforce-inode-extended".to_owned(),
        part.display().to_string(),
        from.display().to_string(),
    ];
    commands::run(&words)?;
    fs::File::open(&part)
        .and_then(|file| file.sync_data())
        .map_err(Error::io("sync", &part))?;
    fs::rename(&part, to).map_err(Error::io("rename", &part))
}

/// Mounts an image, attached nowhere.
pub(super) fn mount(image: &Path) -> Result<Tree> {
    hull_sys::mount::detached("erofs", image.to_str(), &["ro"])
        .map(Tree::mounted)
        .map_err(|error| mount_error(image, &error))
}

fn mount_error(image: &Path, error: &hull_sys::mount::FsError) -> Error {
    Error::Io {
        operation: "mount",
        path: image.to_owned(),
        source: std::io::Error::other(error.to_string()),
    }
}

/// Whether the kernel can do it below `root`, found out by doing it: what is missing, in words.
pub(super) fn probe(root: &Path) -> std::result::Result<(), String> {
    if commands::find("mkfs.erofs").is_none() {
        return Err("mkfs.erofs is not installed (Debian's package erofs-utils)".to_owned());
    }
    let filesystems = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    if !filesystems.split_whitespace().any(|name| name == "erofs") {
        return Err("the kernel has no erofs (try: modprobe erofs)".to_owned());
    }
    let dir = root.join(format!("probe-{:016x}", rand::random::<u64>()));
    let outcome = probe_in(&dir);
    // A directory of ours that cannot be removed holds an empty image and nothing else.
    let _ = crate::fsutil::remove_path(&dir);
    outcome
}

fn probe_in(dir: &Path) -> std::result::Result<(), String> {
    let (empty, image) = (dir.join("empty"), dir.join("image"));
    fs::create_dir_all(&empty).map_err(|error| format!("{}: {error}", empty.display()))?;
    build(&empty, &image).map_err(|error| error.to_string())?;
    let said = |error: &dyn std::error::Error| error.to_string();
    let mounted = mount(&image).map_err(|error| {
        let why = std::error::Error::source(&error).map_or_else(|| said(&error), said);
        format!(
            "the kernel cannot mount an erofs image from a file on {}: {why} (Linux 6.12 can, but not on tmpfs)",
            super::choose::backing_name(dir)
        )
    })?;
    drop(mounted);
    let options = [&image, &empty].map(|lower| format!("lowerdir+={}", lower.display()));
    let joined = hull_sys::mount::detached("overlay", Some("overlay"), &options)
        .map_err(|error| format!("the kernel's overlayfs cannot join images that are mounted nowhere: {error} (Linux 6.15 can)"))?;
    rustix::fs::fstat(joined.as_fd()).map_err(|error| error.to_string())?;
    Ok(())
}
