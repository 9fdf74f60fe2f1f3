//! A folder of an image as a mount of its own (`--mount type=image,..,image-subpath=`): the same folder of each layer, stacked as overlayfs
//! would stack them. Whiteouts and opaque folders of the layers (docs.kernel.org/filesystems/overlayfs) end the stack where they hide
//! what is below. No symbolic link is followed: the layers are on the host, and a link of theirs could lead out of them.

use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use hull_oci::runtime::Mount;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, fgetxattr, major, minor, openat, statat};
use rustix::io::Errno;

use crate::error::{Error, Result};

const LOWER: &str = "lowerdir+=";

/// What of a layer is at a path.
#[derive(Debug, PartialEq, Eq)]
enum Found {
    /// Nothing; the layers below decide.
    Nothing,
    /// A folder; `last` hides the layers below.
    Folder { last: bool },
    /// A file, which hides the layers below.
    File,
    /// Removed, or under something that is no folder: hides the layers below.
    Hidden,
}

/// The mount of an image's view, of which only `subpath` is wanted.
///
/// # Errors
/// A path that leads outside, through a link, or nowhere.
pub(crate) fn of_view(view: &Mount, subpath: &str, image: &str) -> Result<Mount> {
    let refused = |why: &str| {
        Error::invalid(format!(
            "cannot access path {subpath} in image {image}: {why}"
        ))
    };
    let parts: Vec<&OsStr> = Path::new(subpath)
        .components()
        .filter(|part| *part != Component::CurDir)
        .map(|part| match part {
            Component::Normal(part) => Ok(part),
            _ => Err(refused("it must be relative and stay within the image")),
        })
        .collect::<Result<_>>()?;
    let layers: Vec<PathBuf> = match view.kind.as_deref() {
        Some("overlay") => view
            .options
            .iter()
            .filter_map(|option| option.strip_prefix(LOWER).map(PathBuf::from))
            .collect(),
        _ => view.source.iter().map(PathBuf::from).collect(),
    };
    // The layers of the erofs driver are no folders of the host: the whole is mounted, and this part of it shown.
    if layers.iter().any(|layer| layer.is_file()) {
        let subpath: PathBuf = parts.iter().collect();
        let part = format!("{}{}", hull_sys::mount::SUBPATH, subpath.display());
        let mut whole = view.clone();
        whole.options.push(part);
        return Ok(whole);
    }
    let mut stack: Vec<PathBuf> = Vec::new();
    for layer in &layers {
        let found = look(layer, &parts).map_err(|errno| refused(&errno.to_string()))?;
        let path = parts
            .iter()
            .fold(layer.clone(), |path, part| path.join(part));
        match found {
            Found::Nothing => {}
            Found::Folder { last } => {
                stack.push(path);
                if last {
                    break;
                }
            }
            Found::File if stack.is_empty() => {
                stack.push(path);
                break;
            }
            Found::File | Found::Hidden => break,
        }
    }
    let others = view
        .options
        .iter()
        .filter(|option| !option.starts_with(LOWER));
    match &stack[..] {
        [] => Err(refused("no such file or directory")),
        [one] => Ok(Mount {
            kind: Some("bind".to_owned()),
            source: Some(one.display().to_string()),
            options: vec!["bind".to_owned(), "ro".to_owned()],
            ..view.clone()
        }),
        several => Ok(Mount {
            options: several
                .iter()
                .map(|layer| format!("{LOWER}{}", layer.display()))
                .chain(others.cloned())
                .collect(),
            ..view.clone()
        }),
    }
}

fn look(layer: &Path, parts: &[&OsStr]) -> std::result::Result<Found, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut dir: OwnedFd = openat(rustix::fs::CWD, layer, flags, Mode::empty())?;
    let mut last = false;
    for (at, part) in parts.iter().enumerate() {
        let stat = match statat(dir.as_fd(), *part, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) if last => return Ok(Found::Hidden),
            Err(Errno::NOENT) => return Ok(Found::Nothing),
            other => other?,
        };
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {}
            FileType::CharacterDevice if (major(stat.st_rdev), minor(stat.st_rdev)) == (0, 0) => {
                return Ok(Found::Hidden);
            }
            FileType::Symlink => return Err(Errno::LOOP),
            _ if at + 1 == parts.len() => return Ok(Found::File),
            _ => return Ok(Found::Hidden),
        }
        dir = openat(dir.as_fd(), *part, flags, Mode::empty())?;
        let mut value = [0; 1];
        last |= ["trusted.overlay.opaque", "user.overlay.opaque"]
            .iter()
            .any(|name| fgetxattr(&dir, *name, &mut value) == Ok(1) && value == *b"y");
    }
    Ok(Found::Folder { last })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_of_layers_are_stacked() {
        let root = tempfile::tempdir().unwrap();
        let layer = |name: &str, paths: &[&str]| {
            for path in paths {
                let path = root.path().join(name).join(path);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, name).unwrap();
            }
            root.path().join(name).display().to_string()
        };
        let top = layer("top", &["etc/app/new", "file"]);
        let middle = layer("middle", &["other/x"]);
        let bottom = layer("bottom", &["etc/app/old", "etc/alone/x"]);
        std::os::unix::fs::symlink("/etc", root.path().join("bottom/link")).unwrap();
        let view = Mount {
            kind: Some("overlay".to_owned()),
            options: [&top, &middle, &bottom]
                .map(|layer| format!("{LOWER}{layer}"))
                .into(),
            ..Mount::default()
        };
        let of = |subpath: &str| of_view(&view, subpath, "i");
        let both = of("./etc/app").unwrap();
        assert_eq!(
            both.options,
            [
                format!("{LOWER}{top}/etc/app"),
                format!("{LOWER}{bottom}/etc/app")
            ]
        );
        for (subpath, source) in [
            ("etc/alone", format!("{bottom}/etc/alone")),
            ("file", format!("{top}/file")),
        ] {
            let one = of(subpath).unwrap();
            assert_eq!(
                (one.kind.as_deref(), one.source),
                (Some("bind"), Some(source))
            );
        }
        for bad in ["nowhere", "../etc", "/etc", "link/passwd", "file/below"] {
            assert!(
                of(bad)
                    .unwrap_err()
                    .message
                    .starts_with("cannot access path"),
                "{bad}"
            );
        }
    }
}
