//! Any bytes as a layer's tar stream: refused, or unpacked below its directory. Whatever it is, nothing beside the directory changes.
#![no_main]

use std::fs;
use std::os::fd::AsFd;
use std::path::Path;

use hull_store::layer::{ApplyOptions, apply};
use libfuzzer_sys::fuzz_target;

/// What lies in a directory, and what the file there contains.
fn seen(directory: &Path) -> (Vec<String>, Vec<u8>) {
    let entries = fs::read_dir(directory).expect("the directory").flatten();
    let mut names: Vec<String> = entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    (names, fs::read(directory.join("file")).expect("the file"))
}

fuzz_target!(|bytes: &[u8]| {
    let outer = tempfile::Builder::new()
        .prefix("hull-fuzz-layer")
        .tempdir_in("/dev/shm")
        .expect("a directory");
    fs::write(outer.path().join("file"), "as it was").expect("a file");
    let root = outer.path().join("layer");
    fs::create_dir(&root).expect("a directory");
    // A way out for members that follow it.
    std::os::unix::fs::symlink("..", root.join("out")).expect("a link");
    let before = seen(outer.path());
    let directory = fs::File::open(&root).expect("the directory");
    let options = ApplyOptions {
        max_bytes: 1 << 20,
        max_entries: 1000,
        ..ApplyOptions::default()
    };
    let _ = apply(bytes, directory.as_fd(), &options);
    assert_eq!(seen(outer.path()), before);
});
