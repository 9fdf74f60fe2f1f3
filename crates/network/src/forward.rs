//! Published ports that the firewall cannot lead to their container: those of an IPv6 address of the host whose container has IPv4 only,
//! those asked for by `[::1]` (IPv6 has no `route_localnet`), and all where Hull writes no firewall. Docker runs a process for each port;
//! here one thread of the daemon serves them all, and the container sees the host's address on its network as the client.
//!
//! Sockets are owned by the table behind the lock, not by the thread: [`Forwarder::remove`] has closed them when it returns, so the port
//! can be had again at once. A daemon that starts again takes the ports again; connections through it end with it, as dockerd's do.

use std::collections::{HashMap, VecDeque};
use std::io::{self, Read, Write};
use std::net::{
    IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket,
};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::event::{EventfdFlags, eventfd};
use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, listen, socket_with, sockopt};

use crate::model::Protocol;

/// TCP connections at once, over all ports; each has two descriptors. Further ones are closed at once.
const CONNECTIONS_MAX: usize = 1024;
/// UDP clients at once of one port; the one that has been silent the longest makes room. Over all ports `CLIENTS_MAX`.
const CLIENTS_PER_PORT_MAX: usize = 256;
const CLIENTS_MAX: usize = 1024;
/// A UDP client that is silent for so long is forgotten (docker-proxy's `UDPConnTrackTimeout`).
const CLIENT_IDLE_MAX: Duration = Duration::from_secs(90);
/// How long the container's side may take to accept.
const CONNECT_MAX: Duration = Duration::from_secs(10);
/// Connections that wait to be accepted (Go's listeners have the kernel's maximum, 4096).
const BACKLOG: i32 = 4096;
/// Pieces moved for one socket before the others have their turn.
const BURST: usize = 16;
/// Also the longest datagram.
const PIECE_BYTES: usize = 64 << 10;
const STACK_BYTES: usize = 256 << 10;
/// How often deadlines are looked at, while there are any.
const TICK: rustix::time::Timespec = rustix::time::Timespec {
    tv_sec: 1,
    tv_nsec: 0,
};

/// The handle; the thread is there once there is something to forward.
#[derive(Default)]
pub(crate) struct Forwarder {
    running: Mutex<Option<Running>>,
}

struct Running {
    shared: Arc<Shared>,
    thread: JoinHandle<()>,
}

struct Shared {
    epoll: OwnedFd,
    wake: OwnedFd,
    stop: AtomicBool,
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    next: u64,
    ports: HashMap<u64, Port>,
    connections: HashMap<u64, Connection>,
    clients: HashMap<u64, Client>,
    /// Tokens of sockets that had more than a burst.
    unfinished: VecDeque<u64>,
}

/// A published port.
struct Port {
    owner: String,
    socket: Socket,
    target: SocketAddr,
}

enum Socket {
    Tcp(TcpListener),
    Udp(UdpSocket),
}

struct Connection {
    port: u64,
    outside: TcpStream,
    inside: TcpStream,
    /// Until the container's side has accepted.
    deadline: Option<Instant>,
    to_inside: Way,
    to_outside: Way,
}

/// One direction of a connection.
#[derive(Default)]
struct Way {
    /// What was read and not yet written.
    unsent: Vec<u8>,
    ended: bool,
    /// The end was passed on: nothing more will come.
    closed: bool,
}

/// Somebody who sends datagrams to a port.
struct Client {
    port: u64,
    address: SocketAddr,
    inside: UdpSocket,
    last: Instant,
}

/// The eventfd; every other token is four times a number, and which of its sockets.
const WAKE: u64 = 0;
const OUTSIDE: u64 = 1;
const INSIDE: u64 = 2;

impl Forwarder {
    /// Serves a bound socket until [`Forwarder::remove`] of its owner: what comes goes to `target`. SCTP cannot be forwarded so, and is
    /// only held.
    pub(crate) fn add(
        &self,
        owner: &str,
        protocol: Protocol,
        socket: OwnedFd,
        target: SocketAddr,
    ) -> io::Result<()> {
        let socket = match protocol {
            Protocol::Tcp => {
                // Inherited by what is accepted: else its TIME_WAIT keeps the next daemon from binding the port.
                sockopt::set_socket_reuseaddr(&socket, true)?;
                listen(&socket, BACKLOG)?;
                let listener = TcpListener::from(socket);
                listener.set_nonblocking(true)?;
                Socket::Tcp(listener)
            }
            Protocol::Udp => {
                let socket = UdpSocket::from(socket);
                socket.set_nonblocking(true)?;
                Socket::Udp(socket)
            }
            Protocol::Sctp => return Ok(()),
        };
        let mut running = lock(&self.running);
        let running = match &mut *running {
            Some(running) => running,
            none => none.insert(Running::spawn()?),
        };
        let mut table = lock(&running.shared.table);
        let number = table.number();
        let token = number << 2;
        match &socket {
            Socket::Tcp(socket) => running.shared.watch(socket, token)?,
            Socket::Udp(socket) => running.shared.watch(socket, token)?,
        }
        let owner = owner.to_owned();
        let port = Port {
            owner,
            socket,
            target,
        };
        table.ports.insert(number, port);
        Ok(())
    }

    /// Closes the owner's sockets and everything that came by them.
    pub(crate) fn remove(&self, owner: &str) {
        if let Some(running) = &*lock(&self.running) {
            lock(&running.shared.table).remove(owner);
        }
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        let running = self.running.get_mut();
        if let Some(running) = running.unwrap_or_else(PoisonError::into_inner).take() {
            running.shared.stop.store(true, Ordering::Release);
            let _ = rustix::io::write(&running.shared.wake, &1u64.to_ne_bytes());
            let _ = running.thread.join();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Running {
    fn spawn() -> io::Result<Running> {
        let shared = Arc::new(Shared {
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            wake: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
            stop: AtomicBool::new(false),
            table: Mutex::default(),
        });
        shared.watch(&shared.wake, WAKE)?;
        let served = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("forward".to_owned())
            .stack_size(STACK_BYTES)
            .spawn(move || served.run())?;
        Ok(Running { shared, thread })
    }
}

impl Shared {
    /// Edge-triggered: whoever is told goes on until there is no more, or puts itself among the unfinished.
    fn watch(&self, socket: impl AsFd, token: u64) -> io::Result<()> {
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        Ok(epoll::add(
            &self.epoll,
            socket,
            EventData::new_u64(token),
            flags,
        )?)
    }

    fn run(&self) {
        let mut events = Vec::with_capacity(64);
        let mut buffer = vec![0; PIECE_BYTES];
        loop {
            events.clear();
            let timeout = lock(&self.table).timeout();
            match epoll::wait(&self.epoll, spare_capacity(&mut events), timeout.as_ref()) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => {
                    tracing::error!(%error, "ports are no longer forwarded: cannot wait for packets");
                    return;
                }
            }
            if self.stop.load(Ordering::Acquire) {
                return;
            }
            let mut table = lock(&self.table);
            let waiting = std::mem::take(&mut table.unfinished);
            let told = events.iter().map(|event| event.data.u64());
            for token in waiting.into_iter().chain(told) {
                table.ready(self, token, &mut buffer);
            }
            table.expire(Instant::now());
        }
    }
}

impl Table {
    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn timeout(&self) -> Option<rustix::time::Timespec> {
        let connecting = || self.connections.values().any(|one| one.deadline.is_some());
        if !self.unfinished.is_empty() {
            Some(rustix::time::Timespec::default())
        } else if !self.clients.is_empty() || connecting() {
            Some(TICK)
        } else {
            None
        }
    }

    fn remove(&mut self, owner: &str) {
        self.ports.retain(|_, port| port.owner != owner);
        let ports = &self.ports;
        self.connections
            .retain(|_, one| ports.contains_key(&one.port));
        self.clients.retain(|_, one| ports.contains_key(&one.port));
    }

    fn expire(&mut self, now: Instant) {
        self.connections
            .retain(|_, one| one.deadline.is_none_or(|deadline| now < deadline));
        self.clients
            .retain(|_, one| now.duration_since(one.last) < CLIENT_IDLE_MAX);
    }

    fn ready(&mut self, shared: &Shared, token: u64, buffer: &mut [u8]) {
        let (number, which) = (token >> 2, token & 3);
        let more = if self.ports.contains_key(&number) {
            self.arrivals(shared, number, buffer)
        } else if self.clients.contains_key(&number) {
            self.answers(number, buffer)
        } else {
            self.piece(number, which, buffer)
        };
        if more {
            self.unfinished.push_back(token);
        }
    }

    /// New connections, or datagrams; whether there may be more.
    fn arrivals(&mut self, shared: &Shared, number: u64, buffer: &mut [u8]) -> bool {
        for _ in 0..BURST {
            let Some(port) = self.ports.get(&number) else {
                return false;
            };
            match &port.socket {
                Socket::Tcp(listener) => match listener.accept() {
                    Ok((outside, _)) => self.connection(shared, number, outside),
                    Err(error) => return again(&error),
                },
                Socket::Udp(socket) => match socket.recv_from(buffer) {
                    Ok((length, address)) => {
                        self.datagram(shared, number, address, &buffer[..length]);
                    }
                    Err(error) => return again(&error),
                },
            }
        }
        true
    }

    fn connection(&mut self, shared: &Shared, number: u64, outside: TcpStream) {
        let Some(port) = self.ports.get(&number) else {
            return;
        };
        if self.connections.len() >= CONNECTIONS_MAX {
            tracing::warn!(target = %port.target, "a connection is refused: {CONNECTIONS_MAX} are being forwarded");
            return;
        }
        let made = reach(port.target);
        let own = self.number();
        let made = made.and_then(|inside| {
            outside.set_nonblocking(true)?;
            for stream in [&outside, &inside] {
                stream.set_nodelay(true)?;
                sockopt::set_socket_keepalive(stream, true)?;
            }
            shared.watch(&outside, own << 2 | OUTSIDE)?;
            shared.watch(&inside, own << 2 | INSIDE)?;
            Ok(inside)
        });
        match made {
            Ok(inside) => {
                let connection = Connection {
                    port: number,
                    outside,
                    inside,
                    deadline: Some(Instant::now() + CONNECT_MAX),
                    to_inside: Way::default(),
                    to_outside: Way::default(),
                };
                self.connections.insert(own, connection);
            }
            // The client sees the connection end, as from docker-proxy.
            Err(error) => tracing::debug!(%error, "a connection cannot be forwarded"),
        }
    }

    /// Moves what one of a connection's sockets is ready for; whether there may be more.
    fn piece(&mut self, number: u64, which: u64, buffer: &mut [u8]) -> bool {
        let Some(one) = self.connections.get_mut(&number) else {
            return false;
        };
        if which == INSIDE {
            // The first that is heard of it: it has accepted, or refused, which reading tells.
            one.deadline = None;
        }
        let there = one.to_inside.pump(&one.outside, &one.inside, buffer);
        let back = one.to_outside.pump(&one.inside, &one.outside, buffer);
        match (there, back) {
            (Ok(there), Ok(back)) => {
                if one.to_inside.closed && one.to_outside.closed {
                    self.connections.remove(&number);
                    return false;
                }
                there || back
            }
            (Err(_), _) | (_, Err(_)) => {
                self.connections.remove(&number);
                false
            }
        }
    }

    /// A client's datagram goes on by a socket of the client's own. Lost where none can be had, as datagrams are.
    fn datagram(&mut self, shared: &Shared, number: u64, address: SocketAddr, data: &[u8]) {
        let mut clients = self.clients.iter();
        let known = clients.find(|(_, one)| one.port == number && one.address == address);
        let known = known.map(|(own, _)| *own);
        let own = match known {
            Some(own) => own,
            None => match self.client(shared, number, address) {
                Ok(own) => own,
                Err(error) => {
                    tracing::debug!(%error, "a datagram cannot be forwarded");
                    return;
                }
            },
        };
        if let Some(client) = self.clients.get_mut(&own) {
            client.last = Instant::now();
            let _ = client.inside.send(data);
        }
    }

    fn client(&mut self, shared: &Shared, number: u64, address: SocketAddr) -> io::Result<u64> {
        let target = match self.ports.get(&number) {
            Some(port) => port.target,
            None => return Err(io::ErrorKind::NotFound.into()),
        };
        let of_port = self.clients.values().filter(|one| one.port == number);
        if of_port.count() >= CLIENTS_PER_PORT_MAX {
            let of_port = self.clients.iter().filter(|(_, one)| one.port == number);
            if let Some(oldest) = of_port.min_by_key(|(_, one)| one.last).map(|(own, _)| *own) {
                self.clients.remove(&oldest);
            }
        }
        if self.clients.len() >= CLIENTS_MAX {
            return Err(io::Error::other("too many clients"));
        }
        let any = match target.ip() {
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        let inside = UdpSocket::bind((any, 0))?;
        inside.connect(target)?;
        inside.set_nonblocking(true)?;
        let own = self.number();
        shared.watch(&inside, own << 2 | INSIDE)?;
        let client = Client {
            port: number,
            address,
            inside,
            last: Instant::now(),
        };
        self.clients.insert(own, client);
        Ok(own)
    }

    /// The container's datagrams go back to the client; whether there may be more.
    fn answers(&mut self, number: u64, buffer: &mut [u8]) -> bool {
        let Some(client) = self.clients.get_mut(&number) else {
            return false;
        };
        let Some(Port {
            socket: Socket::Udp(socket),
            ..
        }) = self.ports.get(&client.port)
        else {
            return false;
        };
        for _ in 0..BURST {
            match client.inside.recv(buffer) {
                Ok(length) => {
                    client.last = Instant::now();
                    let _ = socket.send_to(&buffer[..length], client.address);
                }
                // ECONNREFUSED: nobody listens there (yet); later datagrams may find somebody.
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
                Err(error) => return again(&error),
            }
        }
        true
    }
}

impl Way {
    /// Moves what there is; whether there may be more.
    fn pump(
        &mut self,
        mut from: &TcpStream,
        mut to: &TcpStream,
        buffer: &mut [u8],
    ) -> io::Result<bool> {
        for _ in 0..BURST {
            while !self.unsent.is_empty() {
                match to.write(&self.unsent) {
                    Ok(length) => drop(self.unsent.drain(..length)),
                    Err(error) => return pause(error),
                }
            }
            // An idle connection keeps no memory.
            self.unsent = Vec::new();
            if self.closed {
                return Ok(false);
            }
            if self.ended {
                self.closed = true;
                // ENOTCONN: the other side is gone altogether, which its own reading tells.
                let _ = to.shutdown(Shutdown::Write);
                return Ok(false);
            }
            match from.read(buffer) {
                Ok(0) => self.ended = true,
                Ok(length) => match to.write(&buffer[..length]) {
                    Ok(written) => self.unsent.extend_from_slice(&buffer[written..length]),
                    Err(error) if again(&error) || error.kind() == io::ErrorKind::WouldBlock => {
                        self.unsent.extend_from_slice(&buffer[..length]);
                    }
                    Err(error) => return Err(error),
                },
                Err(error) => return pause(error),
            }
        }
        Ok(true)
    }
}

/// Whether the call is to be made again: one that was interrupted, or met a client that had gone; not one that would wait.
fn again(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted
    )
}

fn pause(error: io::Error) -> io::Result<bool> {
    match error.kind() {
        io::ErrorKind::WouldBlock => Ok(false),
        io::ErrorKind::Interrupted => Ok(true),
        _ => Err(error),
    }
}

/// Begins a connection to the container.
fn reach(target: SocketAddr) -> io::Result<TcpStream> {
    let family = match target {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(family, SocketType::STREAM, flags, None)?;
    match connect(&socket, &target) {
        Ok(()) | Err(rustix::io::Errno::INPROGRESS) => Ok(TcpStream::from(socket)),
        Err(error) => Err(error.into()),
    }
}
