//! A volume plugin: a server of Docker's plugin protocol that really mounts what it is asked to mount, and can be made to misbehave.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::mount::{MountFlags, UnmountFlags};
use serde_json::{Value, json};

/// The longest request that it reads, in bytes.
const REQUEST_MAX: usize = 1 << 20;
/// How long it is silent, if it is.
const SILENCE_MAX: Duration = Duration::from_secs(200);

/// How the plugin answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Manner {
    /// As it should.
    Good,
    /// `Err` with these words, to everything but the activation.
    Refuses(String),
    /// Not at all.
    Silent,
    /// With what is no JSON.
    Rubbish,
    /// With 100 MB.
    Huge,
    /// It closes the connection.
    HangsUp,
}

#[derive(Debug, Default)]
struct Volume {
    options: Value,
    /// Ids of its mounts.
    mounts: BTreeSet<String>,
}

struct State {
    manner: Manner,
    /// To which calls only the manner applies; all, when empty.
    of: String,
    volumes: BTreeMap<String, Volume>,
    calls: Vec<String>,
    over: bool,
}

/// A running plugin. Its mounts end with it.
pub struct VolumePlugin {
    socket: PathBuf,
    root: PathBuf,
    state: Arc<Mutex<State>>,
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl VolumePlugin {
    /// Starts one that keeps its volumes below `root` and listens at `sockets/name.sock`.
    pub fn start(name: &str, sockets: &Path, root: &Path) -> VolumePlugin {
        std::fs::create_dir_all(sockets).expect("make the sockets' directory");
        let plugin = VolumePlugin {
            socket: sockets.join(format!("{name}.sock")),
            root: root.to_owned(),
            state: Arc::new(Mutex::new(State {
                manner: Manner::Good,
                of: String::new(),
                volumes: BTreeMap::new(),
                calls: Vec::new(),
                over: false,
            })),
        };
        plugin.listen();
        plugin
    }

    /// Listens again, after [`VolumePlugin::die`].
    pub fn listen(&self) {
        lock(&self.state).over = false;
        let listener = UnixListener::bind(&self.socket).expect("listen");
        let (state, root) = (self.state.clone(), self.root.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if lock(&state).over {
                    return;
                }
                let (state, root) = (state.clone(), root.clone());
                std::thread::spawn(move || serve(stream, &state, &root));
            }
        });
    }

    /// Ends the server as a crash would: the socket stays, and nobody listens there.
    pub fn die(&self) {
        lock(&self.state).over = true;
        let _ = UnixStream::connect(&self.socket);
    }

    /// From now on it answers calls that contain `of` like this.
    pub fn behave(&self, manner: Manner, of: &str) {
        let mut state = lock(&self.state);
        state.manner = manner;
        of.clone_into(&mut state.of);
    }

    /// Makes a volume that nobody asked for.
    pub fn make(&self, volume: &str) {
        let made = Volume::default();
        lock(&self.state).volumes.insert(volume.to_owned(), made);
        std::fs::create_dir_all(self.data(volume)).expect("make a volume");
    }

    /// What it was asked since this was last asked, as `Call name`, without questions that change nothing; ids of mounts are numbered
    /// in their order.
    pub fn calls(&self) -> Vec<String> {
        std::mem::take(&mut lock(&self.state).calls)
    }

    /// Ids under which a volume is mounted.
    pub fn mounts(&self, volume: &str) -> Vec<String> {
        let state = lock(&self.state);
        let found = state.volumes.get(volume);
        found.map_or_else(Vec::new, |volume| volume.mounts.iter().cloned().collect())
    }

    /// Names of its volumes.
    pub fn volumes(&self) -> Vec<String> {
        lock(&self.state).volumes.keys().cloned().collect()
    }

    /// The options of a volume, as it was told them.
    pub fn options(&self, volume: &str) -> Value {
        let state = lock(&self.state);
        state
            .volumes
            .get(volume)
            .map_or(Value::Null, |found| found.options.clone())
    }

    /// Where a volume's files are, mounted or not.
    pub fn data(&self, volume: &str) -> PathBuf {
        self.root.join("data").join(volume)
    }
}

impl Drop for VolumePlugin {
    fn drop(&mut self) {
        self.die();
        let _ = std::fs::remove_file(&self.socket);
        for volume in self.volumes() {
            let _ = rustix::mount::unmount(mount_point(&self.root, &volume), UnmountFlags::DETACH);
        }
    }
}

fn mount_point(root: &Path, volume: &str) -> PathBuf {
    root.join("mnt").join(volume)
}

fn serve(mut stream: UnixStream, state: &Mutex<State>, root: &Path) {
    let Some((method, body)) = read_request(&mut stream) else {
        return;
    };
    let manner = {
        let state = lock(state);
        match method.contains(&state.of) {
            true => state.manner.clone(),
            false => Manner::Good,
        }
    };
    let answer = match manner {
        Manner::Good => answer(&method, &body, state, root).to_string().into_bytes(),
        Manner::Refuses(why) if method != "Plugin.Activate" => {
            json!({ "Err": why }).to_string().into_bytes()
        }
        Manner::Refuses(_) => json!({"Implements": ["VolumeDriver"]})
            .to_string()
            .into_bytes(),
        Manner::Rubbish => b"<html>it works</html>".to_vec(),
        Manner::Huge => vec![b' '; 100 << 20],
        Manner::HangsUp => return,
        Manner::Silent => {
            let _ = stream.set_read_timeout(Some(SILENCE_MAX));
            // Until the other side has had enough.
            let _ = stream.read(&mut [0]);
            return;
        }
    };
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/vnd.docker.plugins.v1.1+json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        answer.len()
    );
    let _ = stream.write_all(head.as_bytes());
    let _ = stream.write_all(&answer);
}

/// The call and its argument.
fn read_request(stream: &mut UnixStream) -> Option<(String, Value)> {
    let mut bytes = Vec::new();
    let mut piece = [0; 4096];
    loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
            let length = head
                .lines()
                .filter_map(|line| line.split_once(':'))
                .find(|(key, _)| key.eq_ignore_ascii_case("content-length"))
                .and_then(|(_, value)| value.trim().parse().ok())
                .unwrap_or(0);
            if bytes.len() >= end + 4 + length {
                let method = head.split(' ').nth(1)?.trim_start_matches('/').to_owned();
                let body = serde_json::from_slice(&bytes[end + 4..]).unwrap_or(Value::Null);
                return Some((method, body));
            }
        }
        let read = stream.read(&mut piece).ok()?;
        bytes.extend_from_slice(&piece[..read]);
        if read == 0 || bytes.len() > REQUEST_MAX {
            return None;
        }
    }
}

fn answer(method: &str, body: &Value, state: &Mutex<State>, root: &Path) -> Value {
    let mut state = lock(state);
    let name = body["Name"].as_str().unwrap_or_default().to_owned();
    let call = method.trim_start_matches("VolumeDriver.");
    if matches!(call, "Create" | "Remove" | "Mount" | "Unmount") {
        state.calls.push(format!("{call} {name}"));
    }
    let done = match call {
        "Plugin.Activate" => return json!({"Implements": ["VolumeDriver"]}),
        "Capabilities" => return json!({"Capabilities": {"Scope": "global"}}),
        "List" => {
            let names = state.volumes.keys();
            let list: Vec<Value> = names.map(|name| json!({ "Name": name })).collect();
            return json!({ "Volumes": list });
        }
        "Path" => return json!({"Mountpoint": mount_point(root, &name)}),
        "Get" => {
            return match state.volumes.get(&name) {
                Some(volume) => json!({"Volume": {
                    "Name": name,
                    "Mountpoint": mount_point(root, &name),
                    "Status": {"mounts": volume.mounts.len()},
                }}),
                None => json!({"Err": "no such volume"}),
            };
        }
        "Create" => {
            let made = Volume {
                options: body["Opts"].clone(),
                ..Volume::default()
            };
            state.volumes.entry(name.clone()).or_insert(made);
            std::fs::create_dir_all(root.join("data").join(&name)).map_err(|e| e.to_string())
        }
        "Remove" => match state.volumes.get(&name) {
            Some(volume) if !volume.mounts.is_empty() => Err("volume is mounted".to_owned()),
            _ => {
                state.volumes.remove(&name);
                Ok(())
            }
        },
        "Mount" | "Unmount" => {
            let id = body["ID"].as_str().unwrap_or_default().to_owned();
            let Some(volume) = state.volumes.get_mut(&name) else {
                return json!({"Err": "no such volume"});
            };
            match mount(call, volume, &id, root, &name) {
                Ok(()) => return json!({"Mountpoint": mount_point(root, &name), "Err": ""}),
                Err(error) => Err(error.to_string()),
            }
        }
        other => Err(format!("what is {other}?")),
    };
    json!({"Err": done.err().unwrap_or_default()})
}

/// One more, or one less, who wants a volume mounted; the first and the last make and undo the mount, for real.
fn mount(
    call: &str,
    volume: &mut Volume,
    id: &str,
    root: &Path,
    name: &str,
) -> std::io::Result<()> {
    let place = mount_point(root, name);
    match call {
        "Mount" => {
            if volume.mounts.is_empty() {
                std::fs::create_dir_all(&place)?;
                let data = root.join("data").join(name);
                rustix::mount::mount(&data, &place, c"", MountFlags::BIND, None)?;
            }
            volume.mounts.insert(id.to_owned());
        }
        _ if !volume.mounts.contains(id) => {
            return Err(std::io::Error::other(format!("{id} is not mounted")));
        }
        _ => {
            if volume.mounts.len() == 1 {
                rustix::mount::unmount(&place, UnmountFlags::empty())?;
            }
            volume.mounts.remove(id);
        }
    }
    Ok(())
}
