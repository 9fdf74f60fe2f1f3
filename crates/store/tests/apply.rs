//! Unpacking layers on the real file system, with GNU tar as the oracle.

mod common;

use std::os::fd::AsFd;
use std::path::Path;
use std::process::Command;

use common::{apply_to, tree, zoo};
use hull_store::Error;
use hull_store::layer::{ApplyOptions, apply};
use hull_testkit::TempRoot;
use hull_testkit::image::Tar;

fn gnu_tar(source: &Path, more: &[&str]) -> Vec<u8> {
    let mut command = Command::new("tar");
    command
        .arg("--numeric-owner")
        .args(more)
        .arg("-C")
        .arg(source)
        .args(["-cf", "-", "."]);
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    output.stdout
}

#[test]
fn everything_comes_out_as_gnu_tar_packed_it() {
    let temp = TempRoot::new("store");
    let source = temp.folder("source");
    zoo(&source);
    let variants: &[&[&str]] = &[
        &[],
        &["--sparse", "--sparse-version=0.0"],
        &["--sparse", "--sparse-version=0.1"],
        &["--sparse", "--sparse-version=1.0"],
    ];
    for (index, more) in variants.iter().enumerate() {
        let pax = ["--xattrs", "--xattrs-include=*", "--format=pax"];
        let archive = gnu_tar(&source, &[&pax[..], more].concat());
        let target = temp.folder(format!("target{index}"));
        let applied = apply_to(&archive, &target).unwrap();
        assert_eq!(tree(&target), tree(&source), "{more:?}");
        assert_eq!(applied.diff_id, hull_oci::Digest::sha256_of(&archive));
        assert_eq!(applied.tar_bytes, archive.len() as u64);
        assert!(applied.pending.implicit_dirs.is_empty() && applied.pending.links.is_empty());
    }
    use std::os::unix::fs::MetadataExt;
    let sparse = std::fs::metadata(temp.join("target3/sparse")).unwrap();
    assert!(sparse.blocks() < 1000, "holes are kept");
}

#[test]
fn formats_without_nanoseconds_and_xattrs() {
    let temp = TempRoot::new("store");
    let source = temp.folder("source");
    zoo(&source);
    let coarse = |path: &Path| -> Vec<String> {
        tree(path)
            .into_iter()
            .map(|line| common::without_nanos_and_xattrs(&line))
            .collect()
    };
    for (index, more) in [&["--format=gnu"][..], &["--format=gnu", "--sparse"][..]]
        .iter()
        .enumerate()
    {
        let archive = gnu_tar(&source, more);
        let target = temp.folder(format!("target{index}"));
        apply_to(&archive, &target).unwrap();
        assert_eq!(coarse(&target), coarse(&source), "{more:?}");
    }
}

#[test]
fn whiteouts_take_overlays_form() {
    let temp = TempRoot::new("store");
    let root = temp.folder("layer");
    let archive = Tar::new()
        .folder("dir", 0o755)
        .opaque("dir")
        .whiteout("gone")
        .file("kept", 0o644, "x")
        .whiteout("kept")
        .folder("again", 0o755)
        .whiteout("again")
        .whiteout("back")
        .folder("back", 0o700)
        .finish();
    apply_to(&archive, &root).unwrap();
    let lines = tree(&root);
    let has = |start: &str, part: &str| {
        lines
            .iter()
            .any(|line| line.starts_with(start) && line.contains(part))
    };
    assert!(has("gone c", "dev=0:0"), "{lines:#?}");
    assert!(has("dir d", "trusted.overlay.opaque=79"), "{lines:#?}");
    assert!(
        has("kept f", "size=1"),
        "a whiteout spares its own layer: {lines:#?}"
    );
    assert!(has("again d", "trusted.overlay.opaque=79"), "{lines:#?}");
    assert!(
        has("back d", "trusted.overlay.opaque=79"),
        "made anew over a whiteout: {lines:#?}"
    );
}

#[test]
fn nothing_leaves_the_root() {
    let temp = TempRoot::new("store");
    let outside = temp.folder("outside");
    std::fs::write(outside.join("victim"), "untouched").unwrap();
    let up = "../outside";
    let absolute = outside.to_str().unwrap();
    let before = tree(&outside);
    let tar = Tar::new;
    let attacks: Vec<(&str, Tar)> = vec![
        ("dots", tar().file("../outside/evil", 0o644, "x")),
        (
            "dots in the middle",
            tar().file("a/../../outside/evil", 0o644, "x"),
        ),
        (
            "relative link",
            tar().symlink("l", up).file("l/evil", 0o644, "x"),
        ),
        (
            "absolute link",
            tar().symlink("l", absolute).file("l/evil", 0o644, "x"),
        ),
        (
            "link chain",
            tar()
                .symlink("a", "..")
                .symlink("b", "a/outside")
                .file("b/evil", 0o644, "x"),
        ),
        (
            "hard link out",
            tar()
                .hardlink("h", &format!("{up}/victim"))
                .file("h", 0o644, "overwritten"),
        ),
        (
            "hard link by link",
            tar().symlink("l", absolute).hardlink("h", "l/victim"),
        ),
        (
            "directory replaced by a link",
            tar()
                .folder("d", 0o755)
                .file("d/x", 0o644, "")
                .symlink("d", absolute)
                .file("d/evil", 0o644, "x"),
        ),
        (
            "whiteout by link",
            tar().symlink("l", absolute).whiteout("l/victim"),
        ),
        ("opaque by link", tar().symlink("l", absolute).opaque("l")),
        (
            "magic link",
            tar()
                .symlink("l", "/proc/self/root")
                .file("l/evil", 0o644, "x"),
        ),
    ];
    for (name, archive) in attacks {
        let root = temp.folder("layer");
        let outcome = apply_to(&archive.finish(), &root);
        assert_eq!(tree(&outside), before, "{name}: {outcome:?}");
        std::fs::remove_dir_all(&root).unwrap();
    }
    let refused = apply_to(
        &tar().file("../x", 0o644, "").finish(),
        &temp.folder("layer"),
    )
    .unwrap_err();
    assert_eq!(
        refused.to_string(),
        "layer entry \"../x\" refused: its path leads outside the layer"
    );
}

#[test]
fn bad_streams_are_clear_errors() {
    let temp = TempRoot::new("store");
    let archive = Tar::new().file("a", 0o644, vec![b'x'; 5000]).finish();
    let message =
        |bytes: &[u8], name: &str| apply_to(bytes, &temp.folder(name)).unwrap_err().to_string();
    assert_eq!(
        message(&archive[..1000], "1"),
        "layer is damaged: unexpected EOF (it ends in the middle)"
    );
    assert_eq!(
        message(&archive[..300], "2"),
        "layer is damaged: unexpected EOF (it ends in the middle)"
    );
    let rubbish = "layer is damaged: header checksum is wrong: not a tar archive, or damaged";
    assert_eq!(message(&[b'z'; 1024], "3"), rubbish);
    let dir = std::fs::File::open(temp.folder("4")).unwrap();
    let options = ApplyOptions {
        max_bytes: 4096,
        ..ApplyOptions::default()
    };
    let bomb = apply(archive.as_slice(), dir.as_fd(), &options).unwrap_err();
    assert!(
        matches!(
            bomb,
            Error::Bomb {
                limit: 4096,
                unit: "bytes"
            }
        ),
        "{bomb:?}"
    );
    let options = ApplyOptions {
        max_entries: 1,
        ..ApplyOptions::default()
    };
    let two = Tar::new()
        .file("a", 0o644, "")
        .file("b", 0o644, "")
        .finish();
    let bomb = apply(two.as_slice(), dir.as_fd(), &options).unwrap_err();
    assert!(
        matches!(bomb, Error::Bomb { unit: "files", .. }),
        "{bomb:?}"
    );
}

#[test]
fn a_later_member_replaces_an_earlier_one() {
    let temp = TempRoot::new("store");
    let root = temp.folder("layer");
    let archive = Tar::new()
        .folder("x/y/z", 0o755)
        .file("x/y/z/f", 0o644, "1")
        .file("x", 0o644, "file now")
        .file("l", 0o644, "1")
        .symlink("l", "x")
        .file("d", 0o600, "1")
        .folder("d", 0o755)
        .file("d/f", 0o644, "2")
        .file("same", 0o644, "long content")
        .file("same", 0o644, "short")
        .finish();
    apply_to(&archive, &root).unwrap();
    let read = |name: &str| std::fs::read_to_string(root.join(name)).unwrap();
    assert_eq!(
        (
            read("x").as_str(),
            read("d/f").as_str(),
            read("same").as_str()
        ),
        ("file now", "2", "short")
    );
    assert_eq!(std::fs::read_link(root.join("l")).unwrap(), Path::new("x"));
}
