//! From configuration to a running server, and its end.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::access_log::AccessLog;
use crate::api::{App, Policy};
use crate::auth::Auth;
use crate::config::Config;
use crate::metrics::Metrics;
use crate::net::pace::Pace;
use crate::net::serve::{Listening, serve, stopped};
use crate::net::tls;
use crate::proxy::Proxy;
use crate::rest::Rest;
use crate::storage::{GcOptions, Storage};

/// Threads that run requests: the work is the kernel's and the disk's.
const WORKERS: usize = 2;
/// How long blobs of a cache with a limit stay without a manifest.
const CACHE_GRACE_MAX: Duration = Duration::from_secs(300);
/// Threads that may wait for the disk at once.
const BLOCKING_THREADS_MAX: usize = 32;

/// Runs the server until SIGTERM or SIGINT.
pub fn run(config: Config) -> anyhow::Result<()> {
    let storage = Storage::open(&config.root).map_err(anyhow::Error::new)?;
    if config.gc_now {
        let report = storage.collect_garbage(&gc_options(&config))?;
        println!("{report}");
        return Ok(());
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .max_blocking_threads(BLOCKING_THREADS_MAX)
        .thread_name("registry")
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    runtime.block_on(run_async(config, storage))
}

fn gc_options(config: &Config) -> GcOptions {
    let size_max = config
        .proxy
        .as_ref()
        .and(Some(config.proxy_size))
        .filter(|size| *size > 0);
    GcOptions {
        // Nobody pushes to a cache, and what is being fetched is held: what must go for its size need not wait.
        grace: match size_max {
            Some(_) => config.gc_grace.min(CACHE_GRACE_MAX),
            None => config.gc_grace,
        },
        size_max,
        upload_age_max: config.upload_age,
        untagged: config.gc_untagged,
        unused: config
            .proxy
            .as_ref()
            .and(Some(config.proxy_keep))
            .filter(|keep| !keep.is_zero()),
    }
}

async fn run_async(config: Config, storage: Storage) -> anyhow::Result<()> {
    let tls = match (&config.tls_cert, &config.tls_key) {
        (Some(cert), Some(key)) => Some(tls::acceptor(cert, key, config.tls_client_ca.as_deref())?),
        _ => None,
    };
    let storage = Arc::new(storage);
    let proxy = match &config.proxy {
        Some(url) => Some(Proxy::open(url, &config, storage.clone())?),
        None => None,
    };
    let app = Arc::new(App {
        storage,
        policy: Policy {
            read_only: config.read_only,
            delete: !config.no_delete,
            pace: Pace::new(config.idle_timeout, config.rate_min),
        },
        auth: Auth::from_config(&config)?,
        proxy,
        metrics: Metrics::default(),
        rest: Rest::default(),
        access_log: AccessLog::open(config.access_log.as_deref())?,
    });
    let listener = TcpListener::bind(config.listen)
        .await
        .with_context(|| format!("cannot listen on {}", config.listen))?;
    let address = listener.local_addr()?;
    let scheme = if tls.is_some() { "https" } else { "http" };
    eprintln!(
        "hull registry: serving {} on {scheme}://{address}",
        config.root.display()
    );
    let (stop_sender, stop) = watch::channel(false);
    let listening = Listening {
        app: app.clone(),
        tls,
        idle_timeout: config.idle_timeout,
        connections_max: config.max_connections,
        metrics_only: false,
    };
    if let Some(address) = config.metrics_listen {
        let listener = TcpListener::bind(address)
            .await
            .with_context(|| format!("cannot listen on {address}"))?;
        let listening = Listening {
            tls: None,
            metrics_only: true,
            ..listening.clone()
        };
        tokio::spawn(serve(listener, listening, stop.clone()));
    }
    let served = tokio::spawn(serve(listener, listening, stop.clone()));
    let resting = app.clone();
    let collecting = tokio::spawn(collect_regularly(app, config.clone(), stop.clone()));
    tokio::spawn(async move { resting.rest.after_each_burst(stop).await });
    wait_for_signal().await?;
    stop_sender.send_replace(true);
    if tokio::time::timeout(config.shutdown_timeout, served)
        .await
        .is_err()
    {
        tracing::warn!("some requests were not finished in time");
    }
    collecting.abort();
    Ok(())
}

async fn wait_for_signal() -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

/// Collects at every interval, and when SIGUSR1 asks for it.
async fn collect_regularly(app: Arc<App>, config: Config, mut stop: watch::Receiver<bool>) {
    if config.read_only {
        return;
    }
    let interval = if config.gc_interval.is_zero() {
        Duration::MAX
    } else {
        config.gc_interval
    };
    let Ok(mut asked) = signal(SignalKind::user_defined1()) else {
        tracing::error!("cannot listen for SIGUSR1; garbage is not collected");
        return;
    };
    loop {
        tokio::select! {
            () = tokio::time::sleep(interval) => {}
            _ = asked.recv() => {}
            () = stopped(&mut stop) => return,
        }
        let (storage, options) = (app.storage.clone(), gc_options(&config));
        match tokio::task::spawn_blocking(move || storage.collect_garbage(&options)).await {
            Ok(Ok(report)) => {
                app.metrics.collected(&report);
                tracing::info!(%report, "garbage collected");
            }
            Ok(Err(error)) => {
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                tracing::error!(cause, "garbage collection stopped: {error}");
            }
            Err(error) => tracing::error!(%error, "garbage collection was lost"),
        }
    }
}
