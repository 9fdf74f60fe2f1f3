//! The rules of the house, checked: what may depend on what, where unsafe code may be, how a file begins and ends.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use cargo_metadata::{DependencyKind, MetadataCommand};

use crate::shell;

/// Each crate's floor, and the crates of its own floor that it may use.
/// A crate may use any crate of a lower floor. ARCHITECTURE.md has the reasons.
const FLOORS: &[(&str, u8, &[&str])] = &[
    ("hull-oci", 0, &[]),
    ("hull-api", 0, &["hull-oci"]),
    ("hull-sys", 1, &[]),
    ("hull-state", 1, &[]),
    ("hull-tls", 1, &[]),
    ("hull-security", 2, &[]),
    ("hull-store", 2, &[]),
    ("hull-network", 2, &[]),
    ("hull-plugin", 2, &[]),
    ("hull-image", 3, &[]),
    ("hull-registry", 3, &[]),
    ("hull-runtime", 3, &[]),
    ("hull-shim", 4, &[]),
    ("hull-builder", 4, &[]),
    ("hull-engine", 5, &[]),
    ("hull-client", 5, &[]),
    ("hull-daemon", 6, &[]),
    ("hull-cli", 6, &[]),
    ("hull", 7, &[]),
];

/// Edges that the floors would permit and the design does not.
const FORBIDDEN: &[(&str, &[&str], &str)] = &[
    (
        "hull-runtime",
        &["hull-state", "tokio"],
        "the runtime is synchronous and keeps no database",
    ),
    (
        "hull-shim",
        &["hull-state", "tokio"],
        "the shim is one small synchronous process for each container",
    ),
    (
        "hull-client",
        &["hull-engine", "hull-state", "hull-store"],
        "the client reaches the engine by HTTP only",
    ),
    (
        "hull-cli",
        &["hull-engine", "hull-state", "hull-store", "hull-sys"],
        "the command line reaches the engine by HTTP only",
    ),
    (
        "hull-engine",
        &["hyper", "http", "hyper-util"],
        "the engine knows no HTTP",
    ),
    (
        "hull-network",
        &["hull-state", "tokio"],
        "addresses are leased by the engine; drivers block",
    ),
    ("hull-oci", &["tokio", "rustix", "libc"], "pure"),
    ("hull-api", &["tokio", "rustix", "libc"], "pure"),
];

/// Test support, usable by any crate, in tests only.
const DEV_ONLY: &[&str] = &["hull-testkit"];

/// Longest file, in lines: beyond this it no longer fits in the head.
const LINES_MAX: usize = 900;

/// Checks every rule; all broken ones are in the error.
pub fn run() -> Result<()> {
    let mut faults = Vec::new();
    dependencies(&mut faults)?;
    let files = sources()?;
    for file in &files {
        source(file, &mut faults)?;
    }
    forbid_unsafe(&mut faults)?;
    links(&mut faults)?;
    if faults.is_empty() {
        println!("tidy: {} files, all rules hold", files.len());
        return Ok(());
    }
    bail!("tidy: {} faults:\n{}", faults.len(), faults.join("\n"));
}

fn dependencies(faults: &mut Vec<String>) -> Result<()> {
    let metadata = MetadataCommand::new()
        .manifest_path(shell::root().join("Cargo.toml"))
        .no_deps()
        .exec()?;
    let floors: BTreeMap<&str, (u8, &[&str])> = FLOORS
        .iter()
        .map(|(name, floor, sideways)| (*name, (*floor, *sideways)))
        .collect();
    for package in &metadata.packages {
        let name = package.name.as_str();
        if DEV_ONLY.contains(&name) || name == "xtask" {
            continue;
        }
        let Some((floor, sideways)) = floors.get(name) else {
            faults.push(format!("{name}: not on a floor (xtask/src/tidy.rs)"));
            continue;
        };
        for dependency in &package.dependencies {
            let used = dependency.name.as_str();
            let for_tests = dependency.kind == DependencyKind::Development;
            if DEV_ONLY.contains(&used) && !for_tests {
                faults.push(format!("{name} -> {used}: test support outside of tests"));
            }
            if let Some((_, _, why)) = FORBIDDEN
                .iter()
                .find(|(from, to, _)| *from == name && to.contains(&used) && !for_tests)
            {
                faults.push(format!("{name} -> {used}: {why}"));
            }
            if let Some((below, _)) = floors.get(used)
                && below >= floor
                && !sideways.contains(&used)
                && !for_tests
            {
                faults.push(format!(
                    "{name} (floor {floor}) -> {used} (floor {below}): not a lower floor"
                ));
            }
        }
    }
    Ok(())
}

/// Every Rust source that git tracks, relative to the root.
fn sources() -> Result<Vec<PathBuf>> {
    let listed = shell::output(Command::new("git").current_dir(shell::root()).args([
        "ls-files",
        "--cached",
        "--others",
        "--exclude-standard",
        "*.rs",
    ]))?;
    Ok(listed
        .lines()
        .map(PathBuf::from)
        .filter(|file| shell::root().join(file).exists())
        .collect())
}

fn source(file: &Path, faults: &mut Vec<String>) -> Result<()> {
    let shown = file.display();
    let text = std::fs::read_to_string(shell::root().join(file))
        .with_context(|| format!("reading {shown}"))?;
    let lines = text.lines().count();
    if lines > LINES_MAX {
        faults.push(format!("{shown}: {lines} lines, more than {LINES_MAX}"));
    }
    let opening = text.lines().find(|line| !line.starts_with("#!["));
    if !opening.is_some_and(|line| line.starts_with("//!")) {
        faults.push(format!(
            "{shown}: does not open with `//!` on what lives here"
        ));
    }
    if file.ends_with("tidy.rs") {
        return Ok(());
    }
    for (number, line) in text.lines().enumerate() {
        for mark in ["todo!(", "unimplemented!(", "FIXME", "XXX", "HACK"] {
            if line.contains(mark) {
                faults.push(format!("{shown}:{}: {mark}", number + 1));
            }
        }
    }
    Ok(())
}

/// Every crate but `sys` forbids unsafe code at its root.
fn forbid_unsafe(faults: &mut Vec<String>) -> Result<()> {
    for entry in std::fs::read_dir(shell::root().join("crates"))? {
        let folder = entry?.path();
        if folder.file_name().is_some_and(|name| name == "sys") {
            continue;
        }
        for root in ["src/lib.rs", "src/main.rs"] {
            let path = folder.join(root);
            if let Ok(text) = std::fs::read_to_string(&path)
                && !text.contains("#![forbid(unsafe_code)]")
            {
                faults.push(format!(
                    "{}: lacks #![forbid(unsafe_code)]",
                    path.strip_prefix(shell::root()).unwrap_or(&path).display()
                ));
            }
        }
    }
    Ok(())
}

/// Relative links in the documents lead to files that exist.
fn links(faults: &mut Vec<String>) -> Result<()> {
    let listed = shell::output(
        Command::new("git")
            .current_dir(shell::root())
            .args(["ls-files", "*.md"]),
    )?;
    for file in listed.lines() {
        let path = shell::root().join(file);
        let Ok(text) = std::fs::read_to_string(&path) else {
            continue;
        };
        let folder = path.parent().unwrap_or(Path::new("/"));
        for target in link_targets(&text) {
            if !folder.join(target).exists() {
                faults.push(format!(
                    "{file}: a link leads to {target}, which is not there"
                ));
            }
        }
    }
    Ok(())
}

/// Targets of `[text](target)` that are relative paths, without their fragment.
fn link_targets(text: &str) -> BTreeSet<&str> {
    text.split("](")
        .skip(1)
        .filter_map(|rest| rest.split_once(')').map(|(target, _)| target))
        .filter(|target| {
            !target.contains("://") && !target.starts_with('#') && !target.contains(' ')
        })
        .map(|target| target.split('#').next().unwrap_or(target))
        .filter(|target| !target.is_empty())
        .collect()
}
