//! Links `hull` statically and at a fixed address, without `--target` and so at `target/release/hull`.
//!
//! `-C target-feature=+crt-static` without `--target` also hits procedural macros, which cannot be
//! static, so the same is done at the link step of the binary alone: `-static -no-pie`, and a
//! directory, searched first, in which each C library that rustc names is the static one
//! (rustc puts `-Bdynamic` before them, which would otherwise bring the shared ones back).
//! Why static at all: docs/decisions/0001-one-static-file.md.

use std::error::Error;
use std::path::PathBuf;
use std::process::Command;
use std::{env, fs, io};

/// What rustc asks the linker for on linux-gnu, and the archive that serves it.
const LIBRARIES: &[(&str, &str)] = &[
    ("gcc_s", "libgcc_eh.a"),
    ("c", "libc.a"),
    ("m", "libm.a"),
    ("rt", "librt.a"),
    ("pthread", "libpthread.a"),
    ("util", "libutil.a"),
    ("dl", "libdl.a"),
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=build.rs");
    let out = PathBuf::from(env::var("OUT_DIR")?);
    for (name, archive) in LIBRARIES {
        let printed = Command::new("cc")
            .arg(format!("-print-file-name={archive}"))
            .output()?;
        let found = fs::canonicalize(String::from_utf8(printed.stdout)?.trim())
            .map_err(|e| format!("cc knows no {archive} (install libc6-dev and gcc): {e}"))?;
        let link = out.join(format!("lib{name}.a"));
        match fs::remove_file(&link) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e.into()),
            _ => std::os::unix::fs::symlink(found, link)?,
        }
    }
    // Not `rustc-link-search`: that would reach the tests of this package too, which are linked dynamically.
    println!("cargo:rustc-link-arg-bins=-L{}", out.display());
    println!("cargo:rustc-link-arg-bins=-static");
    println!("cargo:rustc-link-arg-bins=-no-pie");
    Ok(())
}
