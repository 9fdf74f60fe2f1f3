//! An engine on roots of its own, with busybox in it, that leaves nothing behind.

use std::pin::Pin;
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use hull_api::container::{ContainerCreateRequest, WaitCondition};
use hull_api::filters::Filters;
use hull_engine::containers::{LogsOptions, RemoveOptions};
use hull_engine::{Engine, EngineOptions};
use hull_testkit::TempRoot;

use crate::debris::Debris;

/// A named test.
pub type Case = (&'static str, fn() -> Pin<Box<dyn Future<Output = ()>>>);

/// `case!(function)`.
#[macro_export]
macro_rules! case {
    ($name:ident) => {
        (stringify!($name), || Box::pin($name()))
    };
}

static NEXT: AtomicU32 = AtomicU32::new(1);
static SWEPT: Once = Once::new();

/// Prefix of everything that is made on the kernel.
pub const PREFIX: &str = "hke";

pub struct Fixture {
    pub engine: Engine,
    /// Before the root: mounts in it go first.
    debris: Debris,
    pub root: TempRoot,
    pub options: EngineOptions,
    /// Of this engine among those of the process: its subnet.
    pub number: u32,
    leaks: hull_testkit::Leaks,
}

pub fn options_at(root: &std::path::Path, number: u32, process: u32) -> EngineOptions {
    let mut options = EngineOptions::new(root.join("data"), root.join("run"));
    let name = format!("{PREFIX}{}x{number}", process % 10_000);
    options.instance.clone_from(&name);
    options.bridge.name = Some(format!("{name}b"));
    options.bridge.bip = Some(
        format!("10.207.{}.1/24", 100 + number % 100)
            .parse()
            .unwrap(),
    );
    options.cgroup_parent = Some(format!("{PREFIX}-{process}"));
    options.address_pools = vec![hull_network::ipam::Pool {
        base: "10.207.64.0/20".parse().unwrap(),
        size: 24,
    }];
    options
}

impl Fixture {
    pub async fn new() -> Fixture {
        Self::with(|_, _| {}).await
    }

    /// With options that differ.
    pub async fn with(change: impl FnOnce(&mut EngineOptions, &std::path::Path)) -> Fixture {
        let root = TempRoot::new("hke");
        SWEPT.call_once(|| Debris::sweep_dead(root.path().parent().unwrap()));
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let mut options = options_at(root.path(), number, std::process::id());
        change(&mut options, root.path());
        let leaks = hull_testkit::Leaks::watch(&[
            &options.instance,
            root.name().as_str(),
            options.cgroup_parent.as_deref().unwrap(),
        ]);
        let debris = Debris::new(root.path(), &options);
        let engine = Engine::open(options.clone())
            .await
            .expect("open the engine");
        let fixture = Fixture {
            engine,
            debris,
            root,
            options,
            number,
            leaks,
        };
        fixture.load().await;
        fixture
    }

    async fn load(&self) {
        let archive = hull_testkit::image::Image::busybox("busybox:latest").docker_archive();
        let mut progress = self
            .engine
            .images
            .load(false, Vec::new(), Box::new(std::io::Cursor::new(archive)))
            .await
            .expect("load busybox");
        while let Some(line) = progress.next().await {
            line.expect("load busybox");
        }
    }

    /// A request for busybox with a shell command.
    pub fn sh(script: &str) -> ContainerCreateRequest {
        let mut request = ContainerCreateRequest::default();
        request.config.image = "busybox".to_owned();
        request.config.cmd = ["sh", "-c", script].map(str::to_owned).to_vec();
        request
    }

    pub async fn create(&self, name: &str, request: ContainerCreateRequest) -> String {
        self.engine
            .containers
            .create(Some(name), None, request)
            .await
            .expect("create")
            .id
    }

    /// Creates and starts.
    pub async fn run(&self, name: &str, request: ContainerCreateRequest) -> String {
        let id = self.create(name, request).await;
        self.engine.containers.start(&id).await.expect("start");
        id
    }

    /// The first process of a container, as the host numbers it.
    pub async fn pid(&self, id: &str) -> i64 {
        let container = self.engine.containers.inspect(id, false).await;
        container.expect("inspect").state.pid
    }

    /// Runs to the end: exit code and output.
    pub async fn output(&self, name: &str, request: ContainerCreateRequest) -> (i64, String) {
        let id = self.create(name, request).await;
        let wait = self
            .engine
            .containers
            .wait(&id, WaitCondition::NextExit)
            .await
            .expect("wait");
        self.engine.containers.start(&id).await.expect("start");
        let code = tokio::time::timeout(Duration::from_secs(20), wait)
            .await
            .expect("it ends")
            .expect("wait")
            .status_code;
        let log = self.log(&id).await;
        self.remove(&id).await;
        (code, log)
    }

    /// Both streams of the log, without the frames.
    pub async fn log(&self, id: &str) -> String {
        let options = LogsOptions {
            stdout: true,
            stderr: true,
            ..LogsOptions::default()
        };
        let mut logs = self
            .engine
            .containers
            .logs(id, options)
            .await
            .expect("logs");
        let mut decoder = hull_api::frames::Decoder::default();
        let mut text = Vec::new();
        while let Some(piece) = logs.stream.next().await {
            decoder.push(&piece.expect("logs"));
        }
        while let Some(frame) = decoder.next_frame().expect("frames") {
            text.extend_from_slice(&frame.payload);
        }
        String::from_utf8_lossy(&text).into_owned()
    }

    pub async fn remove(&self, id: &str) {
        let options = RemoveOptions {
            volumes: true,
            link: false,
            force: true,
        };
        self.engine
            .containers
            .remove(id, options)
            .await
            .expect("remove");
    }

    /// Ends the engine as a daemon that is stopped would, and opens it again on the same roots.
    pub async fn reopen(self) -> Fixture {
        let Fixture {
            engine,
            debris,
            root,
            options,
            number,
            leaks,
        } = self;
        engine.shutdown(false).await.expect("shutdown");
        drop(engine);
        let engine = Engine::open(options.clone())
            .await
            .expect("open the engine again");
        Fixture {
            engine,
            debris,
            root,
            options,
            number,
            leaks,
        }
    }

    /// Everything must be gone once the containers, networks and volumes are.
    pub async fn finish(self) {
        for network in self
            .engine
            .networks
            .list(Filters::default())
            .await
            .expect("networks")
        {
            if !["bridge", "host", "none"].contains(&network.name.as_str()) {
                self.engine
                    .networks
                    .remove(&network.id)
                    .await
                    .expect("remove a network");
            }
        }
        // Teardown goes on for a moment after the last exit.
        tokio::time::sleep(Duration::from_millis(100)).await;
        let left =
            |dir: &str| std::fs::read_dir(self.root.join(dir)).map_or(0, |entries| entries.count());
        assert_eq!(left("run/shims"), 0, "shims' folders");
        assert_eq!(left("data/containers"), 0, "containers' folders");
        assert_eq!(left("run/netns"), 0, "pinned namespaces");
        assert_eq!(left("run/runtime"), 0, "the runtime's records");
        self.engine.shutdown(false).await.expect("shutdown");
        drop(self.engine);
        self.debris.remove_kept();
        self.leaks.assert_none();
    }
}
