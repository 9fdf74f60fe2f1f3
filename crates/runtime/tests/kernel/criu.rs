//! Checkpoint and restore by criu, beside runc's where both can.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use hull_testkit::leaks::Leaks;
use hull_testkit::process::{eventually, run};
use serde_json::{Value, json};

use crate::common::Runtime;

/// Longer than anything takes under load.
const LIMIT: Duration = Duration::from_secs(60);
/// Counts in memory, and writes how far it is to a directory of the host's.
const COUNTER: &str = "n=0; while :; do n=$((n+1)); echo $n > /data/n; sleep 0.05; done";

/// Whether there is a criu that works on this kernel.
fn has_criu() -> bool {
    if hull_testkit::skips::working_criu() {
        return true;
    }
    hull_testkit::skip!("checkpoint and restore need criu 4.1 or newer");
    false
}

struct Counting {
    rt: Runtime,
    bundle: PathBuf,
    data: PathBuf,
    images: PathBuf,
}

impl Counting {
    /// A running container that counts; its standard input is `/dev/null`, its output a pipe.
    fn start(name: &str, change: impl FnOnce(&mut Value)) -> Option<Self> {
        let rt = Runtime::new()?;
        let data = rt.root.join("data");
        std::fs::create_dir(&data).unwrap();
        let mut bundle = rt.bundle(name, &["/bin/sh", "-c", COUNTER]);
        bundle.edit(|spec| {
            let mounts = spec["mounts"].as_array_mut().unwrap();
            mounts.push(json!({"destination": "/data", "source": data, "options": ["rbind"]}));
            change(spec);
        });
        bundle.write();
        let this = Self {
            bundle: bundle.path().to_owned(),
            images: rt.root.join("images"),
            rt,
            data,
        };
        this.rt
            .call(&["run", "-d", "--bundle", this.bundle(), &this.rt.id(name)])
            .ok();
        assert!(this.counts(), "{name}");
        Some(this)
    }

    fn bundle(&self) -> &str {
        self.bundle.to_str().unwrap()
    }

    fn images(&self) -> &str {
        self.images.to_str().unwrap()
    }

    fn number(&self) -> u64 {
        let text = std::fs::read_to_string(self.data.join("n")).unwrap_or_default();
        text.trim().parse().unwrap_or(0)
    }

    /// Whether it goes on from where it is.
    fn counts(&self) -> bool {
        let before = self.number();
        eventually(Duration::from_secs(10), || self.number() > before)
    }

    fn status(&self, id: &str) -> String {
        let output = self.rt.call(&["state", id]);
        serde_json::from_str::<Value>(&output.stdout).map_or_else(
            |_| output.stderr,
            |s| s["status"].as_str().unwrap_or("").into(),
        )
    }

    fn end(&self, id: &str) {
        self.rt.call(&["delete", "--force", id]).ok();
    }
}

fn log(images: &Path, name: &str) -> String {
    std::fs::read_to_string(images.join(name)).unwrap_or_default()
}

#[test]
fn a_container_goes_on_where_it_was() {
    if !has_criu() {
        return;
    }
    let Some(c) = Counting::start("criu", |_| {}) else {
        return;
    };
    let id = c.rt.id("criu");
    let leaks = Leaks::watch(&[&c.rt.root.name()]);
    c.rt.call(&["checkpoint", "--image-path", c.images(), &id])
        .ok();
    assert!(c.status(&id).contains("does not exist"));
    let at = c.number();
    assert!(at > 0);
    assert!(c.images.join("inventory.img").exists());

    let pid_file = c.rt.root.join("pid");
    let restored = c.rt.call(&[
        "restore",
        "-d",
        "--image-path",
        c.images(),
        "--bundle",
        c.bundle(),
        "--pid-file",
        pid_file.to_str().unwrap(),
        &id,
    ]);
    assert_eq!(
        restored.code(),
        0,
        "{}\n{}",
        restored.stderr,
        log(&c.images, "restore.log")
    );
    assert!(c.counts());
    // In memory it went on: a new program would have begun at 1.
    assert!(c.number() > at, "{} after {at}", c.number());
    let state: Value = serde_json::from_str(c.rt.call(&["state", &id]).ok()).unwrap();
    assert_eq!(state["status"], "running");
    assert_eq!(
        std::fs::read_to_string(pid_file).unwrap(),
        state["pid"].to_string()
    );
    // It is a container as any other.
    let output =
        c.rt.call(&["exec", &id, "sh", "-c", "hostname; cat /proc/1/comm"]);
    assert_eq!(output.ok(), "hull-test\nsh");
    c.rt.call(&["pause", &id]).ok();
    assert_eq!(c.status(&id), "paused");
    c.rt.call(&["resume", &id]).ok();
    assert!(c.counts());
    c.end(&id);
    drop(c);
    leaks.assert_none();
}

#[test]
fn pre_dumps_and_checkpoints_that_leave_it_running() {
    if !has_criu() {
        return;
    }
    let Some(c) = Counting::start("pre", |_| {}) else {
        return;
    };
    let id = c.rt.id("pre");
    let pre = c.images.join("pre");
    let last = c.images.join("last");
    let args = [
        "checkpoint",
        "--pre-dump",
        "--image-path",
        pre.to_str().unwrap(),
        &id,
    ];
    let saved = c.rt.call(&args);
    let parent = if saved.stderr.contains("missing features: [MemTrack]") {
        hull_testkit::skip!("this kernel does not track memory changes");
        std::fs::create_dir_all(&pre).unwrap();
        None
    } else {
        saved.ok();
        Some(["--parent-path", "../pre"])
    };
    assert!(c.counts());
    let missing = c.rt.call(&[
        "checkpoint",
        "--parent-path",
        "../nosuch",
        "--image-path",
        last.to_str().unwrap(),
        &id,
    ]);
    assert!(
        missing.stderr.contains("invalid --parent-path"),
        "{}",
        missing.stderr
    );
    let work = c.rt.root.join("work");
    let mut args = vec![
        "checkpoint",
        "--leave-running",
        "--image-path",
        last.to_str().unwrap(),
    ];
    args.extend(parent.iter().flatten());
    args.extend(["--work-path", work.to_str().unwrap(), &id]);
    c.rt.call(&args).ok();
    assert!(c.counts());
    assert_eq!(c.status(&id), "running");
    assert!(c.rt.root.join("work/dump.log").exists());
    c.end(&id);
}

#[test]
fn runc_s_images_are_read_and_ours_by_runc() {
    if !has_criu() {
        return;
    }
    let Some(runc) = hull_testkit::skips::program("runc") else {
        hull_testkit::skip!("runc is not installed");
        return;
    };
    let Some(c) = Counting::start("both", |_| {}) else {
        return;
    };
    let id = c.rt.id("both");
    let runc_root = c.rt.root.join("runc");
    let runc_call = |args: &[&str]| {
        let mut command = Command::new(&runc);
        run(command.arg("--root").arg(&runc_root).args(args), LIMIT).unwrap()
    };
    c.rt.call(&["checkpoint", "--image-path", c.images(), &id])
        .ok();
    let at = c.number();
    let restored = runc_call(&[
        "restore",
        "-d",
        "--image-path",
        c.images(),
        "--bundle",
        c.bundle(),
        &id,
    ]);
    assert_eq!(restored.code(), 0, "{}", restored.stderr);
    assert!(c.counts() && c.number() > at);

    let again = c.rt.root.join("again");
    let again = again.to_str().unwrap();
    let saved = runc_call(&["checkpoint", "--image-path", again, &id]);
    assert_eq!(saved.code(), 0, "{}", saved.stderr);
    let at = c.number();
    c.rt.call(&[
        "restore",
        "-d",
        "--image-path",
        again,
        "--bundle",
        c.bundle(),
        &id,
    ])
    .ok();
    assert!(c.counts() && c.number() > at);
    c.end(&id);
}

#[test]
fn failures_leave_the_container_as_it_was() {
    if !has_criu() {
        return;
    }
    let Some(c) = Counting::start("fail", |_| {}) else {
        return;
    };
    let id = c.rt.id("fail");
    // Images that are none: nothing is made.
    std::fs::create_dir(&c.images).unwrap();
    let other = c.rt.id("other");
    let restore = [
        "restore",
        "-d",
        "--image-path",
        c.images(),
        "--bundle",
        c.bundle(),
        &other,
    ];
    let output = c.rt.call(&restore);
    assert_eq!(output.code(), 1);
    assert!(
        output.stderr.contains("descriptors.json"),
        "{}",
        output.stderr
    );
    std::fs::write(c.images.join("descriptors.json"), "[]").unwrap();
    let output = c.rt.call(&restore);
    assert_eq!(output.code(), 1);
    assert!(
        output.stderr.contains("criu failed") && output.stderr.contains("restore.log"),
        "{}",
        output.stderr
    );
    assert!(c.status(&other).contains("does not exist"));
    // Images that cannot be written.
    let output =
        c.rt.call(&["checkpoint", "--image-path", "/proc/nosuch", &id]);
    assert_eq!(output.code(), 1);
    assert!(c.counts());
    c.end(&id);
}

#[test]
fn without_criu_the_error_says_so() {
    let Some(c) = Counting::start("absent", |_| {}) else {
        return;
    };
    let id = c.rt.id("absent");
    let mut command =
        c.rt.command(&["checkpoint", "--image-path", c.images(), &id]);
    let output = run(command.env("PATH", "/nosuch"), LIMIT).unwrap();
    assert_eq!(output.code(), 1);
    assert!(
        output.stderr.contains("criu not found in PATH"),
        "{}",
        output.stderr
    );
    assert!(c.counts());
    c.end(&id);
}
