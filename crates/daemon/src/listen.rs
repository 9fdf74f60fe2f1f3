//! Listening: unix sockets with mode and group, TCP with or without TLS, sockets that systemd passed; and the accept loops.

use std::net::ToSocketAddrs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{Semaphore, watch};
use tokio_rustls::TlsAcceptor;

use crate::config::{Config, Host};
use crate::http::connection;
use crate::{Daemon, systemd, tls};

/// Connections served at once, at least and at most; between them three quarters of the limit of open files, of which a
/// connection with a process behind it takes two. Further clients wait in the sockets' queues.
const CONNECTIONS_MIN: usize = 256;
const CONNECTIONS_MAX: usize = 32 << 10;
/// How long a TLS handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Pause after accept failed for want of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

fn connections_max() -> usize {
    let files = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    let files = files
        .and_then(|n| usize::try_from(n).ok())
        .unwrap_or(usize::MAX);
    (files / 4 * 3).clamp(CONNECTIONS_MIN, CONNECTIONS_MAX)
}

enum Socket {
    Unix(std::os::unix::net::UnixListener),
    Tcp(std::net::TcpListener),
}

/// Bound sockets, nothing accepted yet.
pub(crate) struct Listeners {
    sockets: Vec<Socket>,
    tls: Option<TlsAcceptor>,
    /// Socket files to remove at the end.
    files: Vec<PathBuf>,
}

/// Running accept loops.
pub(crate) struct Serving {
    limit: usize,
    connections: Arc<Semaphore>,
    loops: Vec<tokio::task::JoinHandle<()>>,
    files: Vec<PathBuf>,
}

impl Listeners {
    /// Binds every host of the configuration.
    pub(crate) fn bind(config: &Config) -> Result<Self> {
        let mut this = Self {
            sockets: Vec::new(),
            tls: tls::acceptor(config)?,
            files: Vec::new(),
        };
        for host in &config.hosts {
            match Host::parse(host).map_err(anyhow::Error::msg)? {
                Host::Unix(path) => {
                    let listener = bind_unix(Path::new(&path), &config.group)?;
                    this.sockets.push(Socket::Unix(listener));
                    this.files.push(path.into());
                }
                Host::Tcp(host, port) => this.bind_tcp(&host, port)?,
                Host::Fd(wanted) => this.adopt(wanted)?,
            }
        }
        Ok(this)
    }

    fn bind_tcp(&mut self, host: &str, port: u16) -> Result<()> {
        let listener = std::net::TcpListener::bind((host, port))
            .with_context(|| format!("failed to load listeners: listen tcp {host}:{port}"))?;
        let loopback = (host, port)
            .to_socket_addrs()
            .is_ok_and(|mut all| all.all(|a| a.ip().is_loopback()));
        if self.tls.is_none() && !loopback {
            tracing::warn!(
                host = format!("tcp://{host}:{port}"),
                "Binding to IP address without --tlsverify is insecure and gives root access on this machine to everyone who has access to your network."
            );
        }
        listener.set_nonblocking(true)?;
        self.sockets.push(Socket::Tcp(listener));
        Ok(())
    }

    fn adopt(&mut self, wanted: Option<i32>) -> Result<()> {
        let fds = systemd::take_listeners(wanted)?;
        if fds.is_empty() {
            bail!(
                "failed to load listeners: no sockets found via socket activation: make sure the service was started by systemd"
            );
        }
        for fd in fds {
            self.sockets.push(classify(fd)?);
        }
        Ok(())
    }

    /// Starts accepting.
    pub(crate) fn serve(
        self,
        daemon: &Arc<Daemon>,
        stop: &watch::Receiver<bool>,
    ) -> Result<Serving> {
        let limit = connections_max();
        let connections = Arc::new(Semaphore::new(limit));
        let mut loops = Vec::new();
        for socket in self.sockets {
            let shared = Shared {
                daemon: daemon.clone(),
                connections: connections.clone(),
                stop: stop.clone(),
                tls: self.tls.clone(),
            };
            loops.push(match socket {
                Socket::Unix(listener) => {
                    tokio::spawn(shared.accept_unix(UnixListener::from_std(listener)?))
                }
                Socket::Tcp(listener) => {
                    tokio::spawn(shared.accept_tcp(TcpListener::from_std(listener)?))
                }
            });
        }
        Ok(Serving {
            limit,
            connections,
            loops,
            files: self.files,
        })
    }
}

impl Serving {
    /// Removes the sockets and waits until every connection has ended.
    pub(crate) async fn drained(self) {
        for file in &self.files {
            // Gone already, or not ours to remove: nothing depends on it.
            let _ = std::fs::remove_file(file);
        }
        for accept in self.loops {
            accept.abort();
        }
        let _all = self.connections.acquire_many(self.limit as u32).await;
    }
}

#[derive(Clone)]
struct Shared {
    daemon: Arc<Daemon>,
    connections: Arc<Semaphore>,
    stop: watch::Receiver<bool>,
    tls: Option<TlsAcceptor>,
}

impl Shared {
    async fn accept_unix(self, listener: UnixListener) {
        loop {
            let Ok(permit) = self.connections.clone().acquire_owned().await else {
                return;
            };
            match listener.accept().await {
                Ok((stream, _)) => {
                    tokio::spawn(connection::serve(
                        self.daemon.clone(),
                        stream,
                        permit,
                        self.stop.clone(),
                    ));
                }
                Err(error) => pause(&error).await,
            }
        }
    }

    async fn accept_tcp(self, listener: TcpListener) {
        loop {
            let Ok(permit) = self.connections.clone().acquire_owned().await else {
                return;
            };
            let stream = match listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    pause(&error).await;
                    continue;
                }
            };
            // Interactive streams are small writes; an error here costs latency only.
            let _ = stream.set_nodelay(true);
            let Self {
                daemon, stop, tls, ..
            } = self.clone();
            tokio::spawn(async move {
                let Some(tls) = tls else {
                    return connection::serve(daemon, stream, permit, stop).await;
                };
                match tokio::time::timeout(HANDSHAKE_TIMEOUT, tls.accept(stream)).await {
                    Ok(Ok(stream)) => connection::serve(daemon, stream, permit, stop).await,
                    Ok(Err(error)) => tracing::info!(%error, "TLS handshake failed"),
                    Err(_) => tracing::info!("TLS handshake took too long"),
                }
            });
        }
    }
}

async fn pause(error: &std::io::Error) {
    tracing::warn!(%error, "accept failed");
    tokio::time::sleep(ACCEPT_PAUSE).await;
}

/// Binds a unix socket with mode 0660 and the group. A socket file that nobody answers on is replaced.
fn bind_unix(path: &Path, group: &str) -> Result<std::os::unix::net::UnixListener> {
    let shown = path.display();
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)
            .with_context(|| format!("can't create unix socket {shown}"))?;
    }
    match std::fs::symlink_metadata(path) {
        Ok(meta) if meta.file_type().is_socket() => {
            if std::os::unix::net::UnixStream::connect(path).is_ok() {
                bail!(
                    "failed to load listeners: can't create unix socket {shown}: another daemon answers on it"
                );
            }
            std::fs::remove_file(path)
                .with_context(|| format!("can't create unix socket {shown}"))?;
        }
        Ok(meta) if meta.is_dir() => {
            bail!("failed to load listeners: can't create unix socket {shown}: is a directory")
        }
        Ok(_) => bail!(
            "failed to load listeners: can't create unix socket {shown}: a file is there that is no socket"
        ),
        Err(_) => {}
    }
    // No thread but this one runs yet, so the umask is nobody else's.
    let umask = rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o117));
    let listener = std::os::unix::net::UnixListener::bind(path);
    rustix::process::umask(umask);
    let listener = listener
        .with_context(|| format!("failed to load listeners: can't create unix socket {shown}"))?;
    match group_id(group)? {
        Some(gid) => std::os::unix::fs::chown(path, None, Some(gid))
            .with_context(|| format!("chown {shown}"))?,
        None => tracing::debug!("no group docker: the socket is root's only"),
    }
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// The group's number; without a name `docker`'s, if there is one.
fn group_id(name: &str) -> Result<Option<u32>> {
    let wanted = if name.is_empty() { "docker" } else { name };
    let groups = std::fs::read_to_string("/etc/group").unwrap_or_default();
    let by_name = groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(wanted))
            .then(|| fields.nth(1)?.parse().ok())
            .flatten()
    });
    match by_name.or_else(|| wanted.parse().ok()) {
        Some(gid) => Ok(Some(gid)),
        None if name.is_empty() => Ok(None),
        None => bail!("failed to load listeners: group {name} not found"),
    }
}

fn classify(fd: OwnedFd) -> Result<Socket> {
    let address = rustix::net::getsockname(&fd).context("a socket from systemd")?;
    let socket = match address.address_family() {
        rustix::net::AddressFamily::UNIX => {
            let listener = std::os::unix::net::UnixListener::from(fd);
            listener.set_nonblocking(true)?;
            Socket::Unix(listener)
        }
        _ => {
            let listener = std::net::TcpListener::from(fd);
            listener.set_nonblocking(true)?;
            Socket::Tcp(listener)
        }
    };
    Ok(socket)
}
