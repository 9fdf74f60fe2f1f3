//! Links `hull` statically and at a fixed address, without `--target` and so at `target/release/hull`.
//!
//! `-C target-feature=+crt-static` without `--target` also hits procedural macros, which cannot be
//! static, so the same is done at the link step of the binary alone: `-static -no-pie`, and a
//! directory, searched first, in which each C library that rustc names is the static one
//! (rustc puts `-Bdynamic` before them, which would otherwise bring the shared ones back).
//! Why static at all: docs/decisions/0001-one-static-file.md.
//!
//! Also finds out which commit this is, for `hull version`.

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
    name_the_build();
    Ok(())
}

/// Sets `HULL_BUILD_COMMIT` (empty without git; a packager's own, if set) and `HULL_BUILD_TIME`: `SOURCE_DATE_EPOCH`
/// (reproducible-builds.org) or the commit's date, in seconds.
fn name_the_build() {
    for name in ["HULL_BUILD_COMMIT", "SOURCE_DATE_EPOCH"] {
        println!("cargo:rerun-if-env-changed={name}");
    }
    let release = env::var("PROFILE").is_ok_and(|profile| profile == "release");
    // Debug builds are not linked again for every commit: theirs is the one at which this last ran, and says so.
    if release {
        // Written at every commit, amend, reset and checkout; HEAD itself is not written at a commit.
        let logs = git(&["rev-parse", "--git-path", "logs/HEAD"])
            .filter(|path| fs::exists(path).is_ok_and(|there| there));
        if let Some(path) = logs.or_else(|| git(&["rev-parse", "--git-path", "HEAD"])) {
            println!("cargo:rerun-if-changed={path}");
        }
    }
    let commit = env::var("HULL_BUILD_COMMIT").ok().or_else(|| {
        let commit = git(&["rev-parse", "--short=7", "HEAD"])?;
        Some(if release {
            commit
        } else {
            format!("{commit}-dev")
        })
    });
    let time = env::var("SOURCE_DATE_EPOCH")
        .ok()
        .or_else(|| git(&["log", "-1", "--format=%ct"]));
    println!(
        "cargo:rustc-env=HULL_BUILD_COMMIT={}",
        commit.unwrap_or_default()
    );
    println!(
        "cargo:rustc-env=HULL_BUILD_TIME={}",
        time.unwrap_or_default()
    );
}

/// What git answers of the sources; none where there is no git or these are not in it.
fn git(args: &[&str]) -> Option<String> {
    let output = Command::new("git").args(args).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (output.status.success() && !text.is_empty()).then_some(text)
}
