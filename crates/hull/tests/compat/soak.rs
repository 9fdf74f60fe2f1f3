//! A soak: eight clients do at random what clients do, the daemon is killed again and again, and in the end nothing is left.
//!
//! `HULL_SOAK_SECONDS` says how long (`./x soak SECONDS`); without it the test is skipped. `HULL_SOAK_SEED` repeats the clients' choices.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hull_testkit::docker::DockerCli;
use hull_testkit::image::Image;
use hull_testkit::process::eventually;
use hull_testkit::registry::{Registry, RegistryOptions};

use crate::engine::{BUSYBOX, Engine, Kind, kind};

/// The daemon lives this long at most before it is killed.
const KILL_EVERY: Duration = Duration::from_secs(20);
/// Clients that speak HTTP, and such that are the command line.
const HTTP_CLIENTS: u64 = 6;
const CLI_CLIENTS: u64 = 2;
/// Names that all clients share, so that they meet.
const CONTAINERS: u64 = 12;
const NETWORKS: u64 = 4;
const VOLUMES: u64 = 4;
/// No answer takes longer; one that does is stuck.
const ANSWER_MAX: Duration = Duration::from_secs(60);
/// What a daemon may hold more after the load than before it: caches, pools of threads and connections.
const MEMORY_MAX: u64 = 64 << 20;
const FDS_MAX: usize = 24;

#[test]
fn nothing_leaks_under_load_and_kills() {
    if kind() == Kind::Docker {
        hull_testkit::skip!("dockerd does not promise this");
        return;
    }
    let Some(seconds) = number("HULL_SOAK_SECONDS") else {
        hull_testkit::skip!("a soak is asked for with ./x soak");
        return;
    };
    let Some(registry) = Registry::start(RegistryOptions::default()) else {
        hull_testkit::skip!("docker-registry is not installed");
        return;
    };
    if registry
        .push(&Image::layered("x:1"), "team/soak:1")
        .is_none()
    {
        hull_testkit::skip!("skopeo is not installed");
        return;
    }
    let Some(mut engine) = Engine::start_empty(&["--default-address-pool", POOL]) else {
        return;
    };
    engine.load(&Image::busybox(BUSYBOX));
    let _carrier = crate::pull::bridge(&engine, &registry);
    let shared = Shared::new(
        engine.root().join("e.sock"),
        format!("{}/team/soak", registry.host()),
    );
    // One of everything first: what a daemon makes once and keeps is there before.
    let mut warm = Client::new(&shared, 0);
    for action in 0..Client::ACTIONS {
        warm.act(action);
    }
    shared.clean();
    let before = World::of(&engine, &shared);
    let load = Duration::from_secs(seconds);
    let kills = soak(&mut engine, &shared, load);
    shared.clean();
    println!(
        "{} commands in {load:?}, {kills} kills; answers: {:?}",
        shared.commands.load(Ordering::Relaxed),
        shared.statuses.lock().expect("statuses")
    );
    println!("done: {:?}", shared.done.lock().expect("done"));
    let log = engine.daemon_log();
    for (line, count) in complaints(&log) {
        println!("{count:5} x {line}");
    }
    assert!(!log.contains("panicked"), "a thread of the daemon panicked");
    let mut differences = Vec::new();
    eventually(Duration::from_secs(10), || {
        let after = World::of(&engine, &shared);
        differences = before.differences(&after);
        println!(
            "memory: {} then {} bytes; descriptors: {} then {}",
            before.memory, after.memory, before.fds, after.fds
        );
        differences.is_empty()
    });
    let mut faults = shared.faults.lock().expect("faults").clone();
    faults.extend(differences);
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// Networks of the soak.
const POOL: &str = "base=10.224.0.0/16,size=24";

/// Has the clients work for `load` and kills the daemon meanwhile; how often.
fn soak(engine: &mut Engine, shared: &Shared, load: Duration) -> u32 {
    let seed = number("HULL_SOAK_SEED").unwrap_or_else(|| u64::from(std::process::id()));
    println!("HULL_SOAK_SEED={seed}");
    let every = KILL_EVERY.min(load / 4);
    let end = Instant::now() + load;
    let mut kills = 0;
    std::thread::scope(|scope| {
        // Also when a start of the daemon fails: the scope waits for the clients.
        let _stop = StopOnDrop(shared);
        for number in 0..HTTP_CLIENTS + CLI_CLIENTS {
            scope.spawn(move || {
                let mut client = Client::new(shared, seed.wrapping_mul(31).wrapping_add(number));
                while !shared.stop.load(Ordering::Relaxed) {
                    if number < HTTP_CLIENTS {
                        let action = client.below(Client::ACTIONS);
                        client.act(action);
                    } else {
                        client.command();
                    }
                }
            });
        }
        while Instant::now() < end {
            std::thread::sleep(every.min(end.saturating_duration_since(Instant::now())));
            // Odd while it is down.
            shared.epoch.fetch_add(1, Ordering::SeqCst);
            engine.kill_daemon();
            engine.start_daemon();
            shared.epoch.fetch_add(1, Ordering::SeqCst);
            kills += 1;
        }
        // A last stretch on the last daemon, whose memory and descriptors are looked at.
        std::thread::sleep(every / 2);
    });
    kills
}

/// Lets the clients end.
struct StopOnDrop<'s>(&'s Shared);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.stop.store(true, Ordering::Relaxed);
    }
}

/// A request without the names in it: `POST /containers/start`.
fn kind_of(method: &str, path: &str) -> String {
    let words = path.split('?').next().unwrap_or_default().split('/');
    let named = |word: &&str| {
        let own = ["soak", "team"].iter().any(|part| word.contains(part));
        !(own || word.contains(':') || word.len() >= 32)
    };
    let words: Vec<&str> = words.filter(named).collect();
    format!("{method} {}", words.join("/"))
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

/// The daemon's warnings and errors, without what differs from one to the next, and how often each came.
fn complaints(log: &str) -> BTreeMap<String, usize> {
    let mut found = BTreeMap::new();
    for line in log.lines() {
        let Some(at) = line.find("WARN").or_else(|| line.find("ERROR")) else {
            continue;
        };
        let words = line[at..].split(' ').map(|word| {
            let long = word
                .split(|c: char| !c.is_ascii_hexdigit())
                .any(|part| part.len() >= 12);
            if long { "ID" } else { word }
        });
        *found
            .entry(words.collect::<Vec<_>>().join(" "))
            .or_insert(0) += 1;
    }
    found
}

/// What the clients have in common.
struct Shared {
    socket: PathBuf,
    /// The image that is pulled, without its tag.
    image: String,
    stop: AtomicBool,
    /// Changes when the daemon goes and when it has come; odd between.
    epoch: AtomicU64,
    commands: AtomicU64,
    /// What succeeded, by kind.
    done: Mutex<BTreeMap<String, u64>>,
    /// Answers by status.
    statuses: Mutex<BTreeMap<u16, u64>>,
    /// What must not be: answers of 500 and more, answers that never came.
    faults: Mutex<Vec<String>>,
}

impl Shared {
    fn new(socket: PathBuf, image: String) -> Shared {
        Shared {
            socket,
            image,
            stop: AtomicBool::new(false),
            epoch: AtomicU64::new(0),
            commands: AtomicU64::new(0),
            done: Mutex::default(),
            statuses: Mutex::default(),
            faults: Mutex::default(),
        }
    }

    /// Waits until the daemon is up.
    fn await_daemon(&self) -> u64 {
        loop {
            let epoch = self.epoch.load(Ordering::SeqCst);
            if epoch.is_multiple_of(2) || self.stop.load(Ordering::Relaxed) {
                return epoch;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// One request: the status and the body. `None` where the daemon was killed meanwhile, or it is a fault.
    fn request(&self, method: &str, path: &str, body: &str) -> Option<(u16, String)> {
        let epoch = self.await_daemon();
        let said = self.exchange(method, path, body);
        let disturbed = self.epoch.load(Ordering::SeqCst) != epoch;
        let fault = |text: String| {
            self.faults.lock().expect("faults").push(text);
            None
        };
        let text = match said {
            Ok(text) => text,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                return fault(format!("{method} {path}: no end of the answer"));
            }
            Err(_) if disturbed => return None,
            Err(error) => return fault(format!("{method} {path}: {error}")),
        };
        let (head, content) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
        let Some(status) = status else {
            return if disturbed {
                None
            } else {
                fault(format!("{method} {path} {body}: no answer"))
            };
        };
        let mut statuses = self.statuses.lock().expect("statuses");
        *statuses.entry(status).or_insert(0) += 1;
        drop(statuses);
        if status < 300 {
            let mut done = self.done.lock().expect("done");
            *done.entry(kind_of(method, path)).or_insert(0) += 1;
        }
        if status >= 500 {
            return fault(format!("{method} {path} {body}: {status} {content}"));
        }
        Some((status, content.to_owned()))
    }

    fn exchange(&self, method: &str, path: &str, body: &str) -> std::io::Result<String> {
        let mut stream = UnixStream::connect(&self.socket)?;
        stream.set_read_timeout(Some(ANSWER_MAX))?;
        // HTTP/1.0: the end of the connection is the end of the body, and nothing comes in chunks.
        write!(
            stream,
            "{method} {path} HTTP/1.0\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )?;
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// A list or an object of the API.
    fn json(&self, path: &str) -> serde_json::Value {
        let (_, text) = self.request("GET", path, "").unwrap_or_default();
        serde_json::from_str(&text).unwrap_or_default()
    }

    /// Removes everything that the clients made.
    fn clean(&self) {
        for name in self.names("/containers/json?all=1", "Id") {
            if let Some((status, text)) =
                self.request("DELETE", &format!("/containers/{name}?force=1&v=1"), "")
                && ![204, 404, 409].contains(&status)
            {
                let fault = format!("remove {name}: {status} {text}");
                self.faults.lock().expect("faults").push(fault);
            }
        }
        // One that removes itself may be about it.
        let gone = eventually(Duration::from_secs(20), || {
            self.names("/containers/json?all=1", "Id").is_empty()
        });
        if !gone {
            let stuck = self.json("/containers/json?all=1").to_string();
            let fault = format!("stuck containers: {stuck}");
            self.faults.lock().expect("faults").push(fault);
        }
        self.request("POST", "/networks/prune", "");
        self.request(
            "POST",
            "/volumes/prune?filters=%7B%22all%22%3A%5B%221%22%5D%7D",
            "",
        );
        self.request("DELETE", &format!("/images/{}:1?force=1", self.image), "");
    }

    fn names(&self, path: &str, key: &str) -> BTreeSet<String> {
        let list = self.json(path);
        let list = if list.is_object() {
            list["Volumes"].clone()
        } else {
            list
        };
        let entries = list.as_array().cloned().unwrap_or_default();
        entries
            .iter()
            .filter_map(|entry| entry[key].as_str().map(str::to_owned))
            .collect()
    }
}

/// One client with its own dice.
struct Client<'s> {
    shared: &'s Shared,
    cli: DockerCli,
    state: u64,
}

impl<'s> Client<'s> {
    /// How many different things [`Client::act`] can do.
    const ACTIONS: u64 = 26;

    fn new(shared: &'s Shared, seed: u64) -> Client<'s> {
        let host = format!("unix://{}", shared.socket.display());
        let cli = DockerCli::new(&host).expect("docker is installed, the engine's start saw it");
        Client {
            shared,
            cli,
            state: seed,
        }
    }

    /// The next of its dice (splitmix64).
    fn below(&mut self, limit: u64) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % limit
    }

    fn post(&self, path: &str, body: &str) -> Option<(u16, String)> {
        self.shared.request("POST", path, body)
    }

    /// One request of a client, or a few that belong together.
    fn act(&mut self, action: u64) {
        let container = format!("soak{}", self.below(CONTAINERS));
        let network = format!("soaknet{}", self.below(NETWORKS));
        let volume = format!("soakvol{}", self.below(VOLUMES));
        let of = |what: &str| format!("/containers/{container}/{what}");
        match action {
            0..=3 => {
                let body = self.container(&network, &volume);
                self.post(&format!("/containers/create?name={container}"), &body);
                self.post(&of("start"), "");
            }
            4 | 5 => drop(self.post(&of("start"), "")),
            6 => drop(self.post(&of("stop?t=0"), "")),
            7 => drop(self.post(&of("kill"), "")),
            8 => drop(self.post(&of("restart?t=0"), "")),
            9 => {
                self.post(&of("pause"), "");
                self.post(&of("unpause"), "");
            }
            10 | 11 => {
                let path = format!("/containers/{container}?force=1&v=1");
                self.shared.request("DELETE", &path, "");
            }
            12..=14 => self.exec(&container),
            15 => {
                let body = format!("{{\"Name\":\"{network}\"}}");
                self.post("/networks/create", &body);
            }
            16 => {
                let path = format!("/networks/{network}");
                self.shared.request("DELETE", &path, "");
            }
            17 | 18 => {
                let body = format!("{{\"Container\":\"{container}\"}}");
                self.post(&format!("/networks/{network}/connect"), &body);
            }
            19 => {
                let body = format!("{{\"Container\":\"{container}\"}}");
                self.post(&format!("/networks/{network}/disconnect"), &body);
            }
            20 => {
                let path = format!("/images/create?fromImage={}&tag=1", self.shared.image);
                self.post(&path, "");
            }
            21 => {
                let path = format!("/images/{}:1", self.shared.image);
                self.shared.request("DELETE", &path, "");
            }
            22 => {
                let kind = ["containers", "networks", "volumes"][self.below(3) as usize];
                self.post(&format!("/{kind}/prune"), "");
            }
            23 => {
                let path = format!("/volumes/{volume}");
                self.shared.request("DELETE", &path, "");
            }
            _ => {
                let path = [
                    "/containers/json?all=1".to_owned(),
                    of("json"),
                    of("logs?stdout=1&stderr=1&tail=10"),
                    of("stats?stream=0&one-shot=1"),
                    of("top"),
                    format!("/networks/{network}"),
                    "/system/df".to_owned(),
                ];
                let at = self.below(path.len() as u64) as usize;
                self.shared.request("GET", &path[at], "");
            }
        }
    }

    /// What a create asks for.
    fn container(&mut self, network: &str, volume: &str) -> String {
        let image = match self.below(4) {
            0 => format!("{}:1", self.shared.image),
            _ => BUSYBOX.to_owned(),
        };
        let script = [
            "exec sleep 1000",
            "trap 'exit 3' TERM; while :; do echo line; sleep 0.1; done",
            "echo short; exit 4",
            "sleep 1",
        ][self.below(4) as usize];
        let network = match self.below(3) {
            0 => "bridge",
            1 => network,
            _ => "none",
        };
        let mut host = serde_json::json!({ "NetworkMode": network });
        if self.below(3) == 0 {
            host["Binds"] = serde_json::json!([format!("{volume}:/v"), "/data"]);
        }
        match self.below(5) {
            0 => host["AutoRemove"] = true.into(),
            1 => {
                host["RestartPolicy"] =
                    serde_json::json!({ "Name": "on-failure", "MaximumRetryCount": 3 });
            }
            2 if network != "none" => {
                host["PortBindings"] = serde_json::json!({ "80/tcp": [{ "HostPort": "" }] });
            }
            _ => {}
        }
        serde_json::json!({ "Image": image, "Cmd": ["sh", "-c", script], "HostConfig": host })
            .to_string()
    }

    fn exec(&mut self, container: &str) {
        let body = r#"{"AttachStdout":true,"AttachStderr":true,"Cmd":["sh","-c","echo here; sleep 0.05; exit 7"]}"#;
        let Some((201, said)) = self.post(&format!("/containers/{container}/exec"), body) else {
            return;
        };
        let said: serde_json::Value = serde_json::from_str(&said).unwrap_or_default();
        let id = said["Id"].as_str().unwrap_or_default();
        self.post(&format!("/exec/{id}/start"), "{}");
        self.shared.request("GET", &format!("/exec/{id}/json"), "");
    }

    /// One use of the command line, which may fail, but must end.
    fn command(&mut self) {
        let container = format!("soak{}", self.below(CONTAINERS));
        let network = format!("soaknet{}", self.below(NETWORKS));
        let pulled = format!("{}:1", self.shared.image);
        let all: [&[&str]; 8] = [
            &["run", "--rm", BUSYBOX, "echo", "hello"],
            &["run", "-d", "--name", &container, BUSYBOX, "sleep", "1000"],
            &["exec", &container, "echo", "hello"],
            &["rm", "-f", "-v", &container],
            &["network", "connect", &network, &container],
            &["pull", "-q", &pulled],
            &["ps", "-a"],
            &["restart", "-t", "0", &container],
        ];
        let words = all[self.below(all.len() as u64) as usize];
        let epoch = self.shared.await_daemon();
        let output = self.cli.run(words);
        self.shared.commands.fetch_add(1, Ordering::Relaxed);
        let disturbed = self.shared.epoch.load(Ordering::SeqCst) != epoch;
        if !disturbed && output.stderr.contains("panic") {
            let fault = format!("docker {words:?}: {}", output.stderr);
            self.shared.faults.lock().expect("faults").push(fault);
        }
    }
}

/// What there is, as far as a leak would show in it.
struct World {
    /// Containers, networks, volumes and images of the API; links and mounts; files under the roots; lines of the rule set.
    things: BTreeMap<String, u64>,
    /// Proportional memory of the daemon, in bytes.
    memory: u64,
    /// Descriptors of the daemon.
    fds: usize,
}

impl World {
    fn of(engine: &Engine, shared: &Shared) -> World {
        let mut things = BTreeMap::new();
        let mut add = |kind: &str, name: &str| {
            *things.entry(format!("{kind} {name}")).or_insert(0) += 1;
        };
        for (kind, path, key) in [
            ("container", "/containers/json?all=1", "Id"),
            ("network", "/networks", "Name"),
            ("volume", "/volumes", "Name"),
            ("image", "/images/json?all=1", "Id"),
        ] {
            for name in shared.names(path, key) {
                add(kind, &name);
            }
        }
        for line in engine.in_netns(&["ip", "-br", "link"]).lines() {
            add("link", line.split([' ', '@']).next().unwrap_or_default());
        }
        for line in engine.in_netns(&["nft", "list", "ruleset"]).lines() {
            // A counter counts.
            let rule = line.split(" counter ").next().unwrap_or_default();
            add("rule", rule.trim());
        }
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let root = engine.root().path().display().to_string();
        for line in mounts.lines().filter(|line| line.contains(&root)) {
            add("mount", line.split(' ').nth(4).unwrap_or_default());
        }
        for folder in ["data", "run"] {
            files(&engine.root().join(folder), 0, &mut add);
        }
        let pid = engine.daemon_pid().expect("the daemon runs");
        for child in children(pid) {
            add("process", &child);
        }
        let fds = std::fs::read_dir(format!("/proc/{pid}/fd"))
            .map_or(0, |entries| entries.flatten().count());
        World {
            things,
            memory: memory(pid),
            fds,
        }
    }

    /// What the later one has more or less.
    fn differences(&self, later: &World) -> Vec<String> {
        let names: BTreeSet<&String> = self.things.keys().chain(later.things.keys()).collect();
        let count = |world: &World, name: &String| world.things.get(name).copied().unwrap_or(0);
        let mut found: Vec<String> = names
            .into_iter()
            .filter(|name| count(self, name) != count(later, name))
            .map(|name| format!("{name}: {} then {}", count(self, name), count(later, name)))
            .collect();
        if later.memory > self.memory + MEMORY_MAX {
            found.push(format!(
                "memory: {} then {} bytes",
                self.memory, later.memory
            ));
        }
        if later.fds > self.fds + FDS_MAX {
            found.push(format!("descriptors: {} then {}", self.fds, later.fds));
        }
        found
    }
}

/// Paths of all files and folders, to a depth that no store of ours exceeds; the content of image layers is left to its folder's name.
fn files(folder: &Path, depth: u32, add: &mut impl FnMut(&str, &str)) {
    if depth > 6 {
        return;
    }
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        add("file", &path.display().to_string());
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            files(&path, depth + 1, add);
        }
    }
}

/// Names of a process's children.
fn children(pid: u32) -> Vec<String> {
    let mut found = Vec::new();
    let threads = std::fs::read_dir(format!("/proc/{pid}/task"));
    for thread in threads.into_iter().flatten().flatten() {
        let text = std::fs::read_to_string(thread.path().join("children")).unwrap_or_default();
        for child in text.split_whitespace() {
            let name = std::fs::read_to_string(format!("/proc/{child}/comm")).unwrap_or_default();
            found.push(name.trim().to_owned());
        }
    }
    found
}

/// Proportional set size, in bytes.
fn memory(pid: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    text.lines()
        .find_map(|line| line.strip_prefix("Pss:"))
        .and_then(|rest| rest.trim().trim_end_matches(" kB").trim().parse().ok())
        .map_or(0, |kilobytes: u64| kilobytes * 1024)
}
