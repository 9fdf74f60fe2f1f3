//! Measures one operation on images without a daemon around it:
//! `pull ROOT REFERENCE`, `push ROOT REFERENCE`, `load ROOT ARCHIVE` or `save ROOT REFERENCE`.
//! Prints wall time, CPU time and peak memory.

use std::time::Instant;

use hull_image::{Images, ImagesOptions, LoadOptions, ProgressSink, PullOptions, PushOptions};
use hull_oci::Reference;
use hull_state::Db;
use hull_store::content::Content;
use hull_store::snapshot;

type Outcome = Result<(), Box<dyn std::error::Error>>;

fn main() -> Outcome {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [operation, root, what] = args.as_slice() else {
        return Err("usage: (pull|push|load|save) ROOT (REFERENCE|ARCHIVE)".into());
    };
    let root = std::path::Path::new(root);
    std::fs::create_dir_all(root)?;
    let db = Db::open(root.join("state.db"))?;
    let content = Content::open(root.join("blobs"))?;
    let driver = std::env::var("DRIVER").ok();
    let snapshotter = snapshot::open(driver.as_deref(), &[], &root.join("snapshots"), db.clone())?;
    let images = Images::new(ImagesOptions::new(db, content, snapshotter))?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let none = ProgressSink::none();
    let started = Instant::now();
    match operation.as_str() {
        "pull" => {
            let reference: Reference = what.parse()?;
            runtime.block_on(images.pull(&reference, &PullOptions::default(), &none))?;
        }
        "push" => {
            let reference: Reference = what.parse()?;
            runtime.block_on(images.push(&reference, &PushOptions::default(), &none))?;
        }
        "load" => {
            images.load(std::fs::File::open(what)?, &LoadOptions::default(), &none)?;
        }
        "save" => {
            images.save(std::slice::from_ref(what), std::io::sink())?;
        }
        other => return Err(format!("unknown operation {other:?}").into()),
    }
    let wall = started.elapsed();
    let usage = std::fs::read_to_string("/proc/self/stat")?;
    let fields: Vec<&str> = usage
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .collect();
    let status = std::fs::read_to_string("/proc/self/status")?;
    let peak = status
        .lines()
        .find(|line| line.starts_with("VmHWM"))
        .unwrap_or_default();
    // Clock ticks are hundredths of a second.
    println!(
        "{operation}: {wall:?}, user {}0 ms, system {}0 ms, {peak}",
        fields[11], fields[12]
    );
    Ok(())
}
