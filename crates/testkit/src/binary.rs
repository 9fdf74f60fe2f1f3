//! Finding the program under test.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The built `hull`: `HULL_BIN`, or the one beside the running test in the target directory, built first if it is not there.
pub fn hull() -> &'static Path {
    static FOUND: OnceLock<PathBuf> = OnceLock::new();
    FOUND.get_or_init(|| {
        if let Some(path) = std::env::var_os("HULL_BIN") {
            return PathBuf::from(path);
        }
        let built = profile_folder().join("hull");
        if !built.is_file() {
            build();
        }
        assert!(
            built.is_file(),
            "there is no {} (set HULL_BIN)",
            built.display()
        );
        built
    })
}

/// The target directory's profile folder: a test runs from `<target>/<profile>/deps/<test>`.
pub fn profile_folder() -> PathBuf {
    let test = std::env::current_exe().expect("path of the running test");
    let deps = test.parent().expect("a test lies in a directory");
    if deps.ends_with("deps") {
        deps.parent()
            .expect("deps lies in the profile's folder")
            .to_owned()
    } else {
        deps.to_owned()
    }
}

fn build() {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let folder = profile_folder();
    let mut command = Command::new(cargo);
    command.args(["build", "--quiet", "--package", "hull", "--bin", "hull"]);
    if folder.ends_with("release") {
        command.arg("--release");
    }
    if let Some(target) = folder.parent() {
        command.env("CARGO_TARGET_DIR", target);
    }
    let status = command
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status()
        .expect("start cargo");
    assert!(status.success(), "cargo could not build hull");
}
