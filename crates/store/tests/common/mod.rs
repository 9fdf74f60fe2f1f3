//! Tools of the store's tests: unpack bytes, list a tree with everything that matters.
#![allow(dead_code, reason = "each test program uses its own part")]

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use hull_store::layer::{Applied, ApplyOptions, apply};

/// Unpacks an archive with the default options.
pub fn apply_to(archive: &[u8], root: &Path) -> hull_store::Result<Applied> {
    let dir = std::fs::File::open(root).unwrap();
    apply(archive, dir.as_fd(), &ApplyOptions::default())
}

/// Makes a device or pipe.
pub fn mknod(path: &Path, kind: char, major: u32, minor: u32) {
    use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
    let kind = match kind {
        'c' => FileType::CharacterDevice,
        'b' => FileType::BlockDevice,
        _ => FileType::Fifo,
    };
    mknodat(
        CWD,
        path,
        kind,
        Mode::from_raw_mode(0o640),
        makedev(major, minor),
    )
    .unwrap();
}

/// One line per file: path, kind, attributes, content's digest, names of the same file, xattrs. The root's own times are
/// left out.
pub fn tree(root: &Path) -> Vec<String> {
    let mut inodes: BTreeMap<u64, Vec<String>> = BTreeMap::new();
    let mut lines = Vec::new();
    visit(root, root, &mut lines, &mut inodes);
    lines.sort();
    for names in inodes.values().filter(|names| names.len() > 1) {
        let mut names = names.clone();
        names.sort();
        lines.push(format!("same file: {}", names.join(" = ")));
    }
    lines.sort();
    lines
}

fn visit(
    root: &Path,
    path: &Path,
    lines: &mut Vec<String>,
    inodes: &mut BTreeMap<u64, Vec<String>>,
) {
    let metadata = match std::fs::symlink_metadata(path) {
        // In a directory that only one layer has, overlayfs lists the names of whiteouts, though nothing can be found by them.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return,
        other => other.unwrap(),
    };
    let name = path
        .strip_prefix(root)
        .unwrap()
        .to_string_lossy()
        .into_owned();
    let kind = metadata.file_type();
    let detail = if kind.is_dir() {
        "d".to_owned()
    } else if kind.is_symlink() {
        format!("l -> {}", std::fs::read_link(path).unwrap().display())
    } else if kind.is_file() {
        let digest = hull_oci::Digest::sha256_of(&std::fs::read(path).unwrap());
        format!("f size={} {}", metadata.len(), digest.short())
    } else {
        let letter = if kind.is_char_device() {
            'c'
        } else if kind.is_block_device() {
            'b'
        } else {
            'p'
        };
        let device = metadata.rdev();
        format!(
            "{letter} dev={}:{}",
            rustix::fs::major(device),
            rustix::fs::minor(device)
        )
    };
    let time = if name.is_empty() {
        String::new()
    } else {
        format!("{}.{:09}", metadata.mtime(), metadata.mtime_nsec())
    };
    let mode = metadata.mode() & 0o7777;
    let (uid, gid) = (metadata.uid(), metadata.gid());
    lines.push(format!(
        "{name} {detail} mode={mode:o} owner={uid}:{gid} time={time} xattrs={}",
        xattrs(path)
    ));
    if !kind.is_dir() && metadata.nlink() > 1 {
        inodes.entry(metadata.ino()).or_default().push(name);
    }
    if kind.is_dir() {
        for entry in std::fs::read_dir(path).unwrap() {
            visit(root, &entry.unwrap().path(), lines, inodes);
        }
    }
}

fn xattrs(path: &Path) -> String {
    let mut list = vec![0u8; 65536];
    let length = rustix::fs::llistxattr(path, list.as_mut_slice()).unwrap();
    let mut found = Vec::new();
    for name in list[..length]
        .split(|b| *b == 0)
        .filter(|name| !name.is_empty())
    {
        let name = std::str::from_utf8(name).unwrap();
        let mut value = vec![0u8; 65536];
        let length = rustix::fs::lgetxattr(path, name, value.as_mut_slice()).unwrap();
        let hex: String = value[..length]
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        found.push(format!("{name}={hex}"));
    }
    found.sort();
    found.join(",")
}

/// A line of [`tree`] as formats without nanoseconds and xattrs can tell it.
pub fn without_nanos_and_xattrs(line: &str) -> String {
    let line = line.split(" xattrs=").next().unwrap();
    match line.split_once(" time=") {
        Some((start, time)) => format!("{start} time={}", time.split('.').next().unwrap()),
        None => line.to_owned(),
    }
}

/// A tree with one of everything.
pub fn zoo(root: &Path) {
    use std::os::unix::fs::{FileExt, PermissionsExt, chown, symlink};
    let write = |name: &str, content: &[u8]| std::fs::write(root.join(name), content).unwrap();
    for dir in ["a/b/c", "sticky", "setgid", "empty"] {
        std::fs::create_dir_all(root.join(dir)).unwrap();
    }
    write("a/file", b"hello");
    write("a/b/c/deep", &[7; 200_000]);
    write("suid", b"#!");
    write(&format!("a/{}", "n".repeat(200)), b"long");
    write("a/\u{fc}n\u{ef}code", b"unicode");
    write("setgid/child", b"x");
    chown(root.join("suid"), Some(1000), Some(2000)).unwrap();
    chown(root.join("a/file"), Some(0), Some(50)).unwrap();
    chown(root.join("setgid"), Some(0), Some(50)).unwrap();
    let modes = [
        ("suid", 0o4755),
        ("sticky", 0o1777),
        ("setgid", 0o2775),
        ("empty", 0o000),
        ("a/file", 0o600),
    ];
    for (name, mode) in modes {
        std::fs::set_permissions(root.join(name), std::fs::Permissions::from_mode(mode)).unwrap();
    }
    symlink("a/file", root.join("link")).unwrap();
    symlink("/etc/passwd", root.join("absolute")).unwrap();
    symlink(format!("/{}", "t".repeat(150)), root.join("longlink")).unwrap();
    std::fs::hard_link(root.join("a/file"), root.join("hard")).unwrap();
    mknod(&root.join("null"), 'c', 1, 3);
    mknod(&root.join("disk"), 'b', 7, 99);
    mknod(&root.join("pipe"), 'p', 0, 0);
    let sparse = std::fs::File::create(root.join("sparse")).unwrap();
    sparse.write_all_at(b"data", 1 << 20).unwrap();
    sparse.write_all_at(b"more", 3 << 20).unwrap();
    sparse.set_len(5 << 20).unwrap();
    drop(sparse);
    let flags = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(root.join("a/file"), "user.note", b"v\0w", flags).unwrap();
    let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    rustix::fs::setxattr(root.join("suid"), "security.capability", &capability, flags).unwrap();
    for (name, nanos) in [
        ("a/file", 123_456_789),
        ("a/b", 1),
        ("a", 999_999_999),
        ("suid", 0),
    ] {
        let time =
            std::time::SystemTime::UNIX_EPOCH + std::time::Duration::new(1_234_567_890, nanos);
        std::fs::File::open(root.join(name))
            .unwrap()
            .set_modified(time)
            .unwrap();
    }
}
