//! The daemon's life: options, locks, log, engine, listeners, signals, and the end.

use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use hull_engine::Engine;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::authz::Authorization;
use crate::config::{Config, Flags, Personality, options};
use crate::listen::Listeners;
use crate::lock::Lock;
use crate::metrics::Counters;
use crate::reload::Reload;
use crate::{Daemon, SERVER, log, metrics, setup, systemd};

/// How long open requests may go on after the daemon was told to stop.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);
/// How often memory that requests left free is given back, if there were any.
const TRIM_INTERVAL: Duration = Duration::from_secs(15);
/// Threads for blocking work; each lives for [`IDLE_THREAD_LIFE`] after its last job.
const BLOCKING_THREADS_MAX: usize = 64;
const IDLE_THREAD_LIFE: Duration = Duration::from_secs(2);

pub(crate) fn run(args: &[String], personality: Personality) -> Result<()> {
    let started = Instant::now();
    let program = match personality {
        Personality::Hull => "hull daemon",
        Personality::Dockerd => "dockerd",
    };
    let flags = Flags::parse(args).map_err(|e| anyhow::anyhow!("{e}\nSee '{program} --help'."))?;
    if flags.help {
        print!("{}", options::help(program));
        return Ok(());
    }
    if flags.version {
        println!(
            "Hull version {} ({SERVER}, API {})",
            env!("CARGO_PKG_VERSION"),
            crate::API_VERSION
        );
        return Ok(());
    }
    let mut config = Config::load(&flags, personality)?;
    let mut engine_options = setup::engine_options(&config)?;
    if flags.validate {
        eprintln!("configuration OK");
        return Ok(());
    }
    let level = log::start(&config)?;
    setup::user_namespace(&mut config, &mut engine_options)?;
    setup::directories(&config)?;
    let _pidfile = Lock::pidfile(&config.pidfile)?;
    let _root = Lock::exclusive(&format!("{}/daemon.lock", config.data_root))?;
    // Sockets first: a client that connects now waits for its answer instead of being refused.
    let listeners = Listeners::bind(&config)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(BLOCKING_THREADS_MAX)
        .thread_keep_alive(IDLE_THREAD_LIFE)
        .thread_name("hull")
        .enable_all()
        .build()
        .context("start the async runtime")?;
    let ended = runtime.block_on(async {
        let engine = Engine::open(engine_options)
            .await
            .map_err(|e| anyhow::anyhow!("failed to start daemon: {e}"))?;
        let reload = Reload {
            level,
            flags,
            personality,
        };
        serve(engine, &config, listeners, reload, started).await
    });
    // A plugin or a server of files that does not answer holds up a thread, and not the end.
    runtime.shutdown_timeout(DRAIN_TIMEOUT);
    ended
}

async fn serve(
    engine: Engine,
    config: &Config,
    listeners: Listeners,
    reload: Reload,
    started: Instant,
) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let (stop, stopped) = watch::channel(false);
    let authorization = Authorization::new(&config.authorization_plugins, engine.plugins.clone());
    let daemon = Arc::new(Daemon {
        engine: engine.clone(),
        authorization: RwLock::new(Arc::new(authorization)),
        counters: Counters::default(),
    });
    if !config.metrics_addr.is_empty() {
        metrics::start(&config.metrics_addr, daemon.clone()).await?;
    }
    let serving = listeners.serve(&daemon, &stopped)?;
    tracing::info!(
        ready_ms = started.elapsed().as_millis() as u64,
        hosts = config.hosts.join(" "),
        "daemon is ready"
    );
    systemd::notify("READY=1");
    let mut trim = tokio::time::interval(TRIM_INTERVAL);
    let mut requests = 0;
    let mut live_restore = config.live_restore;
    loop {
        tokio::select! {
            _ = trim.tick() => {
                let seen = daemon.counters.total();
                if seen != std::mem::replace(&mut requests, seen) {
                    hull_sys::process::trim_heap();
                }
            }
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hangup.recv() => {
                if let Some(config) = reload.again(&daemon).await {
                    live_restore = config.live_restore;
                }
            }
        }
    }
    tracing::info!("stopping");
    systemd::notify("STOPPING=1");
    stop.send_replace(true);
    if tokio::time::timeout(DRAIN_TIMEOUT, serving.drained())
        .await
        .is_err()
    {
        tracing::warn!("open requests were broken off");
    }
    engine
        .shutdown(live_restore == Some(false))
        .await
        .map_err(|e| anyhow::anyhow!("stop the engine: {e}"))
}
