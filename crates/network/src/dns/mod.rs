//! The embedded DNS server: 127.0.0.11 inside each container on a user-defined network.
//!
//! Its sockets have ports of the kernel's choice, and the container's own firewall leads port 53 there, as in Docker: a container can still
//! bind port 53 on all its addresses. One thread serves every sandbox; its memory and its descriptors are bounded by [`server`]'s limits.

pub mod names;
mod server;

use std::collections::HashSet;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread::JoinHandle;

use rustix::event::{EventfdFlags, eventfd};

use crate::error::{Error, Result};
use crate::firewall::{Ruleset, resolver};
use crate::model::{Endpoint, Network};
use crate::netlink::nft::Nft;
use crate::netns::{self, Sandbox};
use names::Names;
use server::{Command, Listener, Loop};

/// Where containers find the server. Docker's address.
pub const ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);
const STACK_BYTES: usize = 256 << 10;

/// The handle: names, and the thread once there is something to serve.
#[derive(Default)]
pub(crate) struct Server {
    names: Arc<RwLock<Names>>,
    running: Mutex<Option<Running>>,
}

struct Running {
    commands: Sender<Command>,
    wake: OwnedFd,
    thread: JoinHandle<()>,
    served: HashSet<String>,
}

impl Server {
    /// Opens the sandbox's sockets, leads port 53 to them, and serves. Again for the same sandbox: with the new servers upstream.
    pub(crate) fn start(
        &self,
        key: &str,
        sandbox: &Sandbox,
        upstreams: Vec<SocketAddr>,
    ) -> Result<()> {
        let (udp, tcp) = netns::inside(sandbox.netns(), || {
            let (udp, tcp, udp_port, tcp_port) =
                open_sockets().map_err(|source| failed("open sockets of", key, source))?;
            let rules = resolver(
                SocketAddrV4::new(ADDRESS, udp_port),
                SocketAddrV4::new(ADDRESS, tcp_port),
            );
            redirect(&rules)?;
            Ok((udp, tcp))
        })?;
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let running = match &mut *running {
            Some(running) => running,
            none => none.insert(
                self.spawn()
                    .map_err(|source| failed("start", key, source))?,
            ),
        };
        running.served.insert(key.to_owned());
        running.tell(Command::Add(Listener {
            key: key.to_owned(),
            udp,
            tcp,
            upstreams,
        }));
        Ok(())
    }

    fn spawn(&self) -> io::Result<Running> {
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let (commands, receiver) = channel();
        let server = Loop::new(wake.try_clone()?, receiver, Arc::clone(&self.names))?;
        let builder = std::thread::Builder::new()
            .name("dns".to_owned())
            .stack_size(STACK_BYTES);
        let thread = builder.spawn(move || server.run())?;
        Ok(Running {
            commands,
            wake,
            thread,
            served: HashSet::new(),
        })
    }

    /// Ends serving a sandbox. Its redirection goes with its namespace.
    pub(crate) fn stop(&self, key: &str) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(running) = &mut *running
            && running.served.remove(key)
        {
            running.tell(Command::Remove(key.to_owned()));
        }
    }

    pub(crate) fn register(&self, sandbox: &str, network: &Network, endpoint: &Endpoint) {
        self.names
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .register(sandbox, network, endpoint);
    }

    pub(crate) fn unregister(&self, endpoint_id: &str) {
        self.names
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .unregister(endpoint_id);
    }
}

impl Running {
    fn tell(&self, command: Command) {
        // The loop ends only by our Stop, or when waiting itself fails, which it has said in the log by then.
        let _ = self.commands.send(command);
        let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(running) = self
            .running
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
        {
            running.tell(Command::Stop);
            let _ = running.thread.join();
        }
    }
}

/// Writes the redirection into the calling thread's namespace.
fn redirect(rules: &Ruleset) -> Result<()> {
    let mut nft = Nft::open()?;
    match nft.create(rules) {
        // An earlier life of this daemon served here. Closing the socket after a deletion waits (see `Nft::create`): elsewhere, since a
        // restarted daemon does this for every container.
        Err(error) if error.errno() == Some(libc::EEXIST) => {
            nft.replace(rules)?;
            std::thread::spawn(move || drop(nft));
            Ok(())
        }
        other => other,
    }
}

fn open_sockets() -> io::Result<(UdpSocket, TcpListener, u16, u16)> {
    let udp = UdpSocket::bind((ADDRESS, 0))?;
    let tcp = TcpListener::bind((ADDRESS, 0))?;
    udp.set_nonblocking(true)?;
    tcp.set_nonblocking(true)?;
    let (udp_port, tcp_port) = (udp.local_addr()?.port(), tcp.local_addr()?.port());
    Ok((udp, tcp, udp_port, tcp_port))
}

fn failed(operation: &'static str, key: &str, source: io::Error) -> Error {
    Error::Kernel {
        operation,
        object: format!("DNS server of sandbox {key}"),
        source,
    }
}
