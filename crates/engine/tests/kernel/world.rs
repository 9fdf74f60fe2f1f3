//! Everything that an engine has on the host and in its database, to be compared.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use hull_testkit::process::eventually;

use crate::fixture::Fixture;

/// How deep folders are looked into: snapshots are named, their files are not.
const DEPTH_MAX: u32 = 4;
/// Namespaces, their links and cgroups go on the kernel's own time.
const SETTLED_WITHIN: Duration = Duration::from_secs(5);

/// Rows, files, links, rules, processes, mounts and cgroups, one line each.
#[derive(Debug)]
pub struct World(BTreeSet<String>);

impl World {
    pub fn of(fixture: &Fixture) -> World {
        let mut found = rows(fixture);
        for dir in [
            "run",
            "data/containers",
            "data/volumes",
            "data/snapshots",
            "data/blobs",
        ] {
            files(&fixture.root.join(dir), 0, &mut found);
        }
        found.extend(bridges(fixture));
        found.extend(rules(&fixture.options.instance));
        let root = fixture.root.name();
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let mounts = mounts.lines().filter(|line| line.contains(&root));
        found.extend(mounts.filter_map(|line| Some(format!("mount {}", line.split(' ').nth(4)?))));
        found.extend(cgroups(fixture.options.cgroup_parent.as_deref().unwrap()));
        found.extend(shims(&root));
        World(found)
    }

    /// Waits until nothing is connected to the engine's bridges.
    pub fn without_links(fixture: &Fixture) -> World {
        eventually(SETTLED_WITHIN, || {
            let bridges = bridges(fixture);
            bridges.iter().all(|bridge| bridge.ends_with(" 0 ports"))
        });
        World::of(fixture)
    }

    /// Waits until the engine has what this world has, and nothing else.
    #[track_caller]
    pub fn assert_same(&self, fixture: &Fixture, when: &str) {
        let end = Instant::now() + SETTLED_WITHIN;
        loop {
            let World(now) = World::of(fixture);
            let more: Vec<_> = now.difference(&self.0).collect();
            let less: Vec<_> = self.0.difference(&now).collect();
            if more.is_empty() && less.is_empty() {
                return;
            }
            assert!(
                Instant::now() < end,
                "{when}: left behind: {more:#?}\nmissing: {less:#?}"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// A row of each table by its key.
fn rows(fixture: &Fixture) -> BTreeSet<String> {
    use hull_state::{containers, content, images, layers, networks, snapshots, volumes};
    let db = hull_state::Db::open(fixture.root.join("data/state.db")).unwrap();
    db.read(|tx| {
        let mut rows = BTreeSet::new();
        let mut add = |table: &str, key: &str| {
            rows.insert(format!("row {table} {key}"));
        };
        for one in containers::list(tx)? {
            add("container", &one.name);
        }
        for one in networks::list(tx)? {
            add("network", &one.name);
            for address in networks::addresses(tx, &one.id)? {
                add("address", &address.to_string());
            }
        }
        for one in networks::endpoints(tx)? {
            add("endpoint", &one.id);
        }
        for one in networks::ports(tx)? {
            add("port", &one.host_port.to_string());
        }
        for one in snapshots::list(tx)? {
            add("snapshot", &one.key);
        }
        for one in layers::list(tx)? {
            add("layer", &one.chain_id);
        }
        for one in content::list(tx)? {
            add("blob", &one.digest);
        }
        for one in images::records(tx)? {
            add("image", &one.id);
        }
        for one in images::names(tx)? {
            add("image name", &one.name);
        }
        for (name, digest, _) in images::repo_digests(tx)? {
            add("repo digest", &format!("{name}@{digest}"));
        }
        for one in volumes::list(tx)? {
            add("volume", &one.name);
        }
        for (volume, container) in volumes::all_users(tx)? {
            add("volume user", &format!("{volume} {container}"));
        }
        Ok(rows)
    })
    .unwrap()
}

fn files(folder: &Path, depth: u32, found: &mut BTreeSet<String>) {
    if depth == DEPTH_MAX {
        return;
    }
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        found.insert(format!("file {}", path.display()));
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            files(&path, depth + 1, found);
        }
    }
}

/// The bridges of this engine, and how many ports each has.
fn bridges(fixture: &Fixture) -> Vec<String> {
    let own = fixture.options.bridge.name.clone().unwrap();
    let alias = format!("hull:{}", fixture.options.instance);
    let links = std::fs::read_dir("/sys/class/net").unwrap().flatten();
    links
        .filter_map(|link| {
            let name = link.file_name().into_string().ok()?;
            let said = std::fs::read_to_string(link.path().join("ifalias")).unwrap_or_default();
            if name != own && !said.contains(&alias) {
                return None;
            }
            let ports = std::fs::read_dir(link.path().join("brif")).ok()?.count();
            Some(format!("bridge {name} with {ports} ports"))
        })
        .collect()
}

/// The engine's own tables, without what counts packets.
fn rules(instance: &str) -> Vec<String> {
    let mut found = Vec::new();
    for family in ["ip", "ip6"] {
        let mut list = Command::new("nft");
        list.args(["list", "table", family, &format!("hull-{instance}")]);
        let output = list.output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        for line in text.lines() {
            let rule = line.split(" counter ").next().unwrap_or_default().trim();
            found.push(format!("rule {family} {rule}"));
        }
    }
    found
}

fn cgroups(parent: &str) -> Vec<String> {
    let hierarchies = std::fs::read_dir("/sys/fs/cgroup")
        .into_iter()
        .flatten()
        .flatten();
    hierarchies
        .flat_map(|hierarchy| {
            let groups = std::fs::read_dir(hierarchy.path().join(parent));
            groups.into_iter().flatten().flatten()
        })
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| format!("cgroup {}", entry.path().display()))
        .collect()
}

/// Shims whose folder is below the root.
fn shims(root: &str) -> Vec<String> {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    processes
        .filter_map(|process| {
            let words = std::fs::read(process.path().join("cmdline")).ok()?;
            let words = String::from_utf8_lossy(&words).replace('\0', " ");
            (words.starts_with("hull-shim") && words.contains(root))
                .then(|| format!("process {} {words}", process.file_name().display()))
        })
        .collect()
}
