//! The server loop: one thread, every sandbox's sockets, every query in flight, each with a bound.
//!
//! Sockets towards containers were opened inside their namespaces; sockets towards upstream servers are opened here, in the host's. A query
//! that is not ours goes upstream unchanged but for its id, by the transport that it came by, from a socket of its own: its port is random
//! (RFC 5452), and only that server's packets reach it.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, socket_with};

use hickory_proto::op::ResponseCode;

use super::names::{self, Decision, Names, Transport};

/// How long one upstream server may take.
const UPSTREAM_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a TCP connection may be silent.
const IDLE_TIMEOUT: Duration = Duration::from_secs(10);
/// Queries waiting for upstream servers, over all sandboxes and of one.
const PENDING_MAX: usize = 1024;
const PENDING_PER_SANDBOX_MAX: usize = 256;
/// TCP connections, over all sandboxes and of one.
const STREAMS_MAX: usize = 512;
const STREAMS_PER_SANDBOX_MAX: usize = 32;
/// Answers written to a TCP client that does not read them.
const UNSENT_MAX: usize = 256 << 10;
/// Datagrams taken from one socket before the others have their turn.
const BURST: usize = 64;
const DATAGRAM_BYTES: usize = 64 << 10;

/// What the handle tells the loop.
pub(super) enum Command {
    Add(Listener),
    Remove(String),
    Stop,
}

/// A sandbox's sockets.
pub(super) struct Listener {
    pub(super) key: String,
    pub(super) udp: UdpSocket,
    pub(super) tcp: TcpListener,
    pub(super) upstreams: Vec<SocketAddr>,
}

/// Where an answer goes.
#[derive(Debug, Clone, Copy)]
enum Client {
    Datagram { listener: u64, from: SocketAddr },
    Stream { stream: u64 },
}

/// What a client asked that others are to answer.
struct Question {
    client: Client,
    /// Token of the listener that it came by.
    listener: u64,
    query: Vec<u8>,
    upstreams: Vec<SocketAddr>,
    /// A refusal of an earlier server, which is the answer when the others have none.
    last: Option<Vec<u8>>,
}

/// A question on its way.
struct Pending {
    question: Question,
    /// Our id on this try.
    id: u16,
    /// Which of the servers is being asked.
    server: usize,
    socket: Upstream,
    deadline: Instant,
}

enum Upstream {
    Udp(UdpSocket),
    Tcp(Stream),
}

/// A TCP connection, ours to a container's client or to a server: messages with a length before each (RFC 1035, 4.2.2).
struct Stream {
    socket: TcpStream,
    received: Vec<u8>,
    unsent: Vec<u8>,
}

struct ClientStream {
    listener: u64,
    stream: Stream,
    deadline: Instant,
}

/// Token of the eventfd that announces commands.
const WAKE: u64 = 0;

pub(super) struct Loop {
    epoll: OwnedFd,
    wake: OwnedFd,
    commands: Receiver<Command>,
    names: Arc<RwLock<Names>>,
    next_token: u64,
    /// UDP sockets by even tokens; the TCP listener of the same sandbox has the next odd one.
    listeners: HashMap<u64, Listener>,
    streams: HashMap<u64, ClientStream>,
    pending: HashMap<u64, Pending>,
    buffer: Vec<u8>,
}

impl Loop {
    pub(super) fn new(
        wake: OwnedFd,
        commands: Receiver<Command>,
        names: Arc<RwLock<Names>>,
    ) -> io::Result<Loop> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, &wake, EventData::new_u64(WAKE), EventFlags::IN)?;
        Ok(Loop {
            epoll,
            wake,
            commands,
            names,
            next_token: 2,
            listeners: HashMap::new(),
            streams: HashMap::new(),
            pending: HashMap::new(),
            buffer: vec![0; DATAGRAM_BYTES],
        })
    }

    /// Until `Command::Stop`, or until the handle is gone.
    pub(super) fn run(mut self) {
        let mut events = Vec::with_capacity(64);
        loop {
            events.clear();
            let waiting = !self.pending.is_empty() || !self.streams.is_empty();
            let timeout = waiting.then_some(rustix::time::Timespec {
                tv_sec: 0,
                tv_nsec: 200_000_000,
            });
            match epoll::wait(&self.epoll, spare_capacity(&mut events), timeout.as_ref()) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => {
                    tracing::error!(%error, "the DNS server stops: cannot wait for queries");
                    return;
                }
            }
            for event in events.drain(..) {
                let token = event.data.u64();
                if token == WAKE {
                    if !self.obey() {
                        return;
                    }
                } else {
                    self.ready(token);
                }
            }
            self.expire(Instant::now());
        }
    }

    fn obey(&mut self) -> bool {
        let mut count = [0u8; 8];
        // An eventfd that is read once too often says EAGAIN, which changes nothing.
        let _ = rustix::io::read(&self.wake, &mut count[..]);
        loop {
            match self.commands.try_recv() {
                Ok(Command::Add(listener)) => self.add(listener),
                Ok(Command::Remove(key)) => self.remove(&key),
                Ok(Command::Stop) | Err(std::sync::mpsc::TryRecvError::Disconnected) => {
                    return false;
                }
                Err(std::sync::mpsc::TryRecvError::Empty) => return true,
            }
        }
    }

    fn add(&mut self, listener: Listener) {
        self.remove(&listener.key);
        let token = self.next_token;
        self.next_token += 2;
        let added = self
            .watch(&listener.udp, token, EventFlags::IN)
            .and_then(|()| self.watch(&listener.tcp, token + 1, EventFlags::IN));
        match added {
            Ok(()) => {
                self.listeners.insert(token, listener);
            }
            Err(error) => tracing::error!(%error, sandbox = listener.key, "cannot serve DNS"),
        }
    }

    fn remove(&mut self, key: &str) {
        let Some(token) = self
            .listeners
            .iter()
            .find(|(_, l)| l.key == key)
            .map(|(token, _)| *token)
        else {
            return;
        };
        // Closing a socket takes it out of the epoll set.
        self.listeners.remove(&token);
        self.streams.retain(|_, stream| stream.listener != token);
        self.pending
            .retain(|_, pending| pending.question.listener != token);
    }

    fn watch(&self, socket: impl AsFd, token: u64, flags: EventFlags) -> io::Result<()> {
        Ok(epoll::add(
            &self.epoll,
            socket,
            EventData::new_u64(token),
            flags,
        )?)
    }

    fn token(&mut self) -> u64 {
        let token = self.next_token;
        self.next_token += 2;
        token
    }

    fn ready(&mut self, token: u64) {
        if self.listeners.contains_key(&token) {
            self.datagrams(token);
        } else if token % 2 == 1 {
            self.accept(token - 1);
        } else if self.streams.contains_key(&token) {
            self.client_stream(token);
        } else if self.pending.contains_key(&token) {
            self.upstream(token);
        }
    }

    fn datagrams(&mut self, token: u64) {
        for _ in 0..BURST {
            let Some(listener) = self.listeners.get(&token) else {
                return;
            };
            let (length, from) = match listener.udp.recv_from(&mut self.buffer) {
                Ok(received) => received,
                Err(_) => return,
            };
            let packet = self.buffer[..length].to_vec();
            self.query(
                token,
                Client::Datagram {
                    listener: token,
                    from,
                },
                packet,
            );
        }
    }

    fn accept(&mut self, listener: u64) {
        let Some(Ok((socket, _))) = self.listeners.get(&listener).map(|l| l.tcp.accept()) else {
            return;
        };
        let of_sandbox = self
            .streams
            .values()
            .filter(|s| s.listener == listener)
            .count();
        if self.streams.len() >= STREAMS_MAX || of_sandbox >= STREAMS_PER_SANDBOX_MAX {
            return;
        }
        let token = self.token();
        if socket.set_nonblocking(true).is_ok()
            && self.watch(&socket, token, EventFlags::IN).is_ok()
        {
            let stream = Stream {
                socket,
                received: Vec::new(),
                unsent: Vec::new(),
            };
            let deadline = Instant::now() + IDLE_TIMEOUT;
            self.streams.insert(
                token,
                ClientStream {
                    listener,
                    stream,
                    deadline,
                },
            );
        }
    }

    fn client_stream(&mut self, token: u64) {
        let Some(client) = self.streams.get_mut(&token) else {
            return;
        };
        let listener = client.listener;
        let open = client
            .stream
            .flush()
            .and_then(|()| client.stream.fill(&mut self.buffer));
        client.deadline = Instant::now() + IDLE_TIMEOUT;
        let mut packets = Vec::new();
        while let Some(packet) = client.stream.message() {
            packets.push(packet);
        }
        for packet in packets {
            self.query(listener, Client::Stream { stream: token }, packet);
        }
        match open {
            Ok(()) => self.rearm(token),
            Err(_) => {
                self.streams.remove(&token);
            }
        }
    }

    /// Waits for room to write only while there is something to write.
    fn rearm(&mut self, token: u64) {
        if let Some(client) = self.streams.get(&token) {
            let flags = if client.stream.unsent.is_empty() {
                EventFlags::IN
            } else {
                EventFlags::IN | EventFlags::OUT
            };
            if epoll::modify(
                &self.epoll,
                &client.stream.socket,
                EventData::new_u64(token),
                flags,
            )
            .is_err()
            {
                self.streams.remove(&token);
            }
        }
    }

    fn query(&mut self, listener: u64, client: Client, packet: Vec<u8>) {
        let transport = transport(client);
        let Some(sandbox) = self.listeners.get(&listener) else {
            return;
        };
        let names = self.names.read().unwrap_or_else(PoisonError::into_inner);
        let decision = names.decide(&sandbox.key, &packet, transport);
        drop(names);
        match decision {
            Decision::Forward => self.forward(listener, client, packet),
            decision => self.answer(client, decision),
        }
    }

    fn answer(&mut self, client: Client, decision: Decision) {
        let Decision::Reply(bytes) = decision else {
            return;
        };
        match client {
            Client::Datagram { listener, from } => {
                if let Some(listener) = self.listeners.get(&listener) {
                    // A full socket buffer loses the datagram, as networks do; the client asks again.
                    let _ = listener.udp.send_to(&bytes, from);
                }
            }
            Client::Stream { stream } => {
                if let Some(client) = self.streams.get_mut(&stream) {
                    match client.stream.send(&bytes) {
                        Ok(()) => self.rearm(stream),
                        Err(_) => {
                            self.streams.remove(&stream);
                        }
                    }
                }
            }
        }
    }

    fn forward(&mut self, listener: u64, client: Client, query: Vec<u8>) {
        let upstreams = self
            .listeners
            .get(&listener)
            .map(|l| l.upstreams.clone())
            .unwrap_or_default();
        let of_sandbox = self
            .pending
            .values()
            .filter(|p| p.question.listener == listener)
            .count();
        let question = Question {
            client,
            listener,
            query,
            upstreams,
            last: None,
        };
        if self.pending.len() < PENDING_MAX && of_sandbox < PENDING_PER_SANDBOX_MAX {
            self.ask(question, 0);
        } else {
            self.give_up(question);
        }
    }

    /// Sends the question to the first server from `next` on that can be sent to; with none left the client gets the best that there is.
    fn ask(&mut self, question: Question, mut next: usize) {
        while let Some(&server) = question.upstreams.get(next) {
            let id: u16 = rand::random();
            let mut packet = question.query.clone();
            let Some(place) = packet.get_mut(..2) else {
                break;
            };
            place.copy_from_slice(&id.to_be_bytes());
            let token = self.token();
            let opened = match question.client {
                Client::Datagram { .. } => self.ask_udp(server, &packet, token).map(Upstream::Udp),
                Client::Stream { .. } => self.ask_tcp(server, &packet, token).map(Upstream::Tcp),
            };
            if let Ok(socket) = opened {
                let pending = Pending {
                    question,
                    id,
                    server: next,
                    socket,
                    deadline: Instant::now() + UPSTREAM_TIMEOUT,
                };
                self.pending.insert(token, pending);
                return;
            }
            next += 1;
        }
        self.give_up(question);
    }

    fn give_up(&mut self, question: Question) {
        let Question {
            client,
            query,
            last,
            ..
        } = question;
        let failure = || names::server_failure(&query, transport(client));
        self.answer(client, last.map_or_else(failure, Decision::Reply));
    }

    fn ask_udp(&self, server: SocketAddr, packet: &[u8], token: u64) -> io::Result<UdpSocket> {
        let any: SocketAddr = if server.is_ipv4() {
            ([0, 0, 0, 0], 0).into()
        } else {
            ([0u16; 8], 0).into()
        };
        let socket = UdpSocket::bind(any)?;
        socket.connect(server)?;
        socket.set_nonblocking(true)?;
        self.watch(&socket, token, EventFlags::IN)?;
        socket.send(packet)?;
        Ok(socket)
    }

    fn ask_tcp(&self, server: SocketAddr, packet: &[u8], token: u64) -> io::Result<Stream> {
        let family = if server.is_ipv4() {
            AddressFamily::INET
        } else {
            AddressFamily::INET6
        };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(family, SocketType::STREAM, flags, None)?;
        match connect(&socket, &server) {
            Ok(()) | Err(rustix::io::Errno::INPROGRESS) => {}
            Err(error) => return Err(error.into()),
        }
        let mut stream = Stream {
            socket: TcpStream::from(socket),
            received: Vec::new(),
            unsent: Vec::new(),
        };
        stream.queue(packet)?;
        self.watch(&stream.socket, token, EventFlags::IN | EventFlags::OUT)?;
        Ok(stream)
    }

    /// An answer from upstream, or a failure of its socket.
    fn upstream(&mut self, token: u64) {
        let Some(pending) = self.pending.get_mut(&token) else {
            return;
        };
        let received = match &mut pending.socket {
            Upstream::Udp(socket) => match socket.recv(&mut self.buffer) {
                Ok(length) => Some(self.buffer[..length].to_vec()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // ECONNREFUSED: nothing listens there.
                Err(_) => None,
            },
            Upstream::Tcp(stream) => {
                let done = stream.flush().and_then(|()| stream.fill(&mut self.buffer));
                match (stream.message(), done) {
                    (Some(message), _) => Some(message),
                    (None, Ok(())) => {
                        let flags = if stream.unsent.is_empty() {
                            EventFlags::IN
                        } else {
                            EventFlags::IN | EventFlags::OUT
                        };
                        if epoll::modify(
                            &self.epoll,
                            &stream.socket,
                            EventData::new_u64(token),
                            flags,
                        )
                        .is_ok()
                        {
                            return;
                        }
                        None
                    }
                    (None, Err(_)) => None,
                }
            }
        };
        match received {
            Some(mut packet) => {
                match names::answers(&packet, pending.id, &pending.question.query) {
                    // Somebody else's packet: keep waiting for the right one.
                    None => {}
                    Some(ResponseCode::ServFail | ResponseCode::Refused) => {
                        packet[..2].copy_from_slice(&pending.question.query[..2]);
                        pending.question.last = Some(packet);
                        self.next_server(token);
                    }
                    Some(_) => {
                        packet[..2].copy_from_slice(&pending.question.query[..2]);
                        let client = pending.question.client;
                        self.pending.remove(&token);
                        self.answer(client, Decision::Reply(packet));
                    }
                }
            }
            None => self.next_server(token),
        }
    }

    /// Goes on to the next server.
    fn next_server(&mut self, token: u64) {
        let Some(pending) = self.pending.remove(&token) else {
            return;
        };
        self.ask(pending.question, pending.server + 1);
    }

    fn expire(&mut self, now: Instant) {
        let late: Vec<u64> = self
            .pending
            .iter()
            .filter(|(_, p)| p.deadline <= now)
            .map(|(token, _)| *token)
            .collect();
        for token in late {
            self.next_server(token);
        }
        let waiting = |stream: u64| {
            self.pending
                .values()
                .any(|p| matches!(p.question.client, Client::Stream { stream: s } if s == stream))
        };
        let idle = self
            .streams
            .iter()
            .filter(|(_, s)| s.deadline <= now)
            .map(|(token, _)| *token);
        let idle: Vec<u64> = idle.filter(|token| !waiting(*token)).collect();
        for token in idle {
            self.streams.remove(&token);
        }
    }
}

fn transport(client: Client) -> Transport {
    match client {
        Client::Datagram { .. } => Transport::Udp,
        Client::Stream { .. } => Transport::Tcp,
    }
}

impl Stream {
    /// Reads what is there, up to one buffer. `Err` when the other side has closed.
    fn fill(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        match self.socket.read(buffer) {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            // What cannot be a message any more: more than the longest one, and nobody takes it out.
            Ok(_) if self.received.len() > 2 * DATAGRAM_BYTES => {
                Err(io::ErrorKind::InvalidData.into())
            }
            Ok(length) => {
                self.received.extend_from_slice(&buffer[..length]);
                Ok(())
            }
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                ) =>
            {
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Takes one whole message out of what was read.
    fn message(&mut self) -> Option<Vec<u8>> {
        let length = usize::from(u16::from_be_bytes([
            *self.received.first()?,
            *self.received.get(1)?,
        ]));
        let message = self.received.get(2..2 + length)?.to_vec();
        self.received.drain(..2 + length);
        Some(message)
    }

    fn queue(&mut self, message: &[u8]) -> io::Result<()> {
        let length = u16::try_from(message.len())
            .map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        if self.unsent.len() + message.len() > UNSENT_MAX {
            return Err(io::ErrorKind::WriteZero.into());
        }
        self.unsent.extend_from_slice(&length.to_be_bytes());
        self.unsent.extend_from_slice(message);
        Ok(())
    }

    fn send(&mut self, message: &[u8]) -> io::Result<()> {
        self.queue(message)?;
        self.flush()
    }

    fn flush(&mut self) -> io::Result<()> {
        while !self.unsent.is_empty() {
            match self.socket.write(&self.unsent) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(length) => {
                    self.unsent.drain(..length);
                }
                // ENOTCONN: not connected yet.
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::WouldBlock | io::ErrorKind::NotConnected
                    ) =>
                {
                    break;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
