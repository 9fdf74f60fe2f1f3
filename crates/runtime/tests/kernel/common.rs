//! The runtime under test, its state root and bundles, all gone after the test.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use hull_testkit::bundle::Bundle;
use hull_testkit::process::{Output, run};
use hull_testkit::temp::TempRoot;

/// Longer than anything takes under load.
const LIMIT: Duration = Duration::from_secs(60);

/// One test's runtime.
pub struct Runtime {
    pub root: TempRoot,
}

impl Runtime {
    /// `None` where containers cannot be made.
    pub fn new() -> Option<Self> {
        if !hull_testkit::skips::is_root() {
            hull_testkit::skip!("making containers needs root");
            return None;
        }
        Some(Self {
            root: TempRoot::new("hrt"),
        })
    }

    fn built() -> PathBuf {
        let test = std::env::current_exe().unwrap();
        let target = test.parent().and_then(|p| p.parent()).unwrap();
        target.join("examples/runtime_cli")
    }

    /// The program, built beside the tests.
    pub fn program() -> PathBuf {
        let program = Self::built();
        assert!(
            program.exists(),
            "{} (cargo test builds it)",
            program.display()
        );
        program
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(Self::program());
        command
            .arg("--root")
            .arg(self.root.join("state"))
            .args(args);
        command
    }

    pub fn call(&self, args: &[&str]) -> Output {
        run(&mut self.command(args), LIMIT).unwrap()
    }

    /// A name that no other container has, also not in the cgroup tree.
    pub fn id(&self, name: &str) -> String {
        format!("{}-{name}", self.root.name())
    }

    /// A bundle whose container runs `args`.
    pub fn bundle(&self, name: &str, args: &[&str]) -> Bundle {
        let mut bundle = Bundle::new(&self.root, name, args);
        let parent = format!("/{}", self.root.name());
        bundle.edit(|spec| {
            spec["linux"]["cgroupsPath"] = format!("{parent}/{name}").into();
        });
        bundle.write();
        bundle
    }

    /// Runs a bundle to its end.
    pub fn run(&self, name: &str, bundle: &Bundle) -> Output {
        bundle.write();
        let path = bundle.path().to_str().unwrap().to_owned();
        self.call(&["run", "--bundle", &path, &self.id(name)])
    }

    /// Runs a shell script in a container made from the default specification after `change`.
    pub fn script(
        &self,
        name: &str,
        script: &str,
        change: impl FnOnce(&mut serde_json::Value),
    ) -> Output {
        let mut bundle = self.bundle(name, &["/bin/sh", "-c", script]);
        bundle.edit(change);
        self.run(name, &bundle)
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        // A failing test may leave a container; a passing one has none.
        if !Self::built().exists() {
            return;
        }
        let listed = self.call(&["list", "--quiet"]);
        for id in listed.stdout.lines() {
            self.call(&["delete", "--force", id]);
        }
        let name = self.root.name();
        for hierarchy in std::fs::read_dir("/sys/fs/cgroup")
            .into_iter()
            .flatten()
            .flatten()
        {
            remove_cgroups(&hierarchy.path().join(&name), 0);
        }
    }
}

/// Engines make cgroups of their own below the parent that they are given (Podman's `conmon`).
fn remove_cgroups(path: &std::path::Path, depth: usize) {
    let below = std::fs::read_dir(path).into_iter().flatten().flatten();
    for entry in below.filter(|e| depth < 8 && e.file_type().is_ok_and(|t| t.is_dir())) {
        remove_cgroups(&entry.path(), depth + 1);
    }
    let _ = std::fs::remove_dir(path);
}
