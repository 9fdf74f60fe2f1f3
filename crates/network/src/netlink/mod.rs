//! Netlink as this crate needs it: requests written into one buffer, one system call, and the answers matched to the requests.
//!
//! `route` builds rtnetlink(7) requests on it, `nft` nf_tables ones. The kernel handles a request inside sendmsg(2), so every
//! acknowledgement is queued when `send` returns, and nothing here ever waits.

pub(crate) mod conntrack;
mod forward;
pub(crate) mod nft;
pub(crate) mod route;

use std::io;

use netlink_sys::{Socket, SocketAddr};

use crate::error::{Error, Result};

/// `struct nlmsghdr`.
const HEADER: usize = 16;
/// `NLMSG_ERROR` and `NLMSG_DONE` of linux/netlink.h, as message types.
const MSG_ERROR: u16 = libc::NLMSG_ERROR as u16;
const MSG_DONE: u16 = libc::NLMSG_DONE as u16;
/// `NLMSGERR_ATTR_MSG`
const ATTR_MSG: u16 = 1;
/// Attribute type bits that are flags (`NLA_F_NESTED`, `NLA_F_NET_BYTEORDER`).
const TYPE_MASK: u16 = 0x3fff;
const NESTED: u16 = 0x8000;

/// Requests for one send. Each is named, so that an error says which one the kernel refused.
#[derive(Default)]
pub(crate) struct Batch {
    bytes: Vec<u8>,
    /// Operation and object of request `n` (its sequence number is `n`).
    labels: Vec<(&'static str, String)>,
    /// Where the message being written starts.
    open: usize,
}

impl Batch {
    pub(crate) fn new() -> Batch {
        Batch {
            bytes: Vec::with_capacity(1024),
            ..Batch::default()
        }
    }

    /// Starts a request. Attributes follow until the next `begin`.
    pub(crate) fn begin(
        &mut self,
        kind: u16,
        flags: i32,
        header: &[u8],
        operation: &'static str,
        object: String,
    ) {
        self.close();
        self.open = self.bytes.len();
        let flags = (flags | libc::NLM_F_REQUEST) as u16;
        self.bytes.extend_from_slice(&0u32.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(&flags.to_ne_bytes());
        self.bytes
            .extend_from_slice(&(self.labels.len() as u32).to_ne_bytes());
        self.bytes.extend_from_slice(&0u32.to_ne_bytes());
        self.bytes.extend_from_slice(header);
        self.pad();
        self.labels.push((operation, object));
    }

    /// Adds flags to the request being written.
    pub(crate) fn add_flags(&mut self, flags: i32) {
        let at = self.open + 6;
        if let Some(bytes) = self.bytes.get_mut(at..at + 2) {
            let old = u16::from_ne_bytes([bytes[0], bytes[1]]);
            bytes.copy_from_slice(&(old | flags as u16).to_ne_bytes());
        }
    }

    /// Replaces the flags of the request being written.
    fn set_flags(&mut self, flags: i32) {
        let at = self.open + 6;
        if let Some(bytes) = self.bytes.get_mut(at..at + 2) {
            bytes.copy_from_slice(&((flags | libc::NLM_F_REQUEST) as u16).to_ne_bytes());
        }
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    /// Writes the length of the message that ends here.
    fn close(&mut self) {
        if !self.labels.is_empty() {
            let length = (self.bytes.len() - self.open) as u32;
            self.bytes[self.open..self.open + 4].copy_from_slice(&length.to_ne_bytes());
        }
    }

    pub(crate) fn attr(&mut self, kind: u16, value: &[u8]) {
        self.bytes
            .extend_from_slice(&((value.len() + 4) as u16).to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(value);
        self.pad();
    }

    /// A string attribute: with its final zero byte, which the kernel's NLA_NUL_STRING policy demands.
    pub(crate) fn text(&mut self, kind: u16, value: &str) {
        let mut bytes = value.as_bytes().to_vec();
        bytes.push(0);
        self.attr(kind, &bytes);
    }

    pub(crate) fn u32(&mut self, kind: u16, value: u32) {
        self.attr(kind, &value.to_ne_bytes());
    }

    pub(crate) fn u16(&mut self, kind: u16, value: u16) {
        self.attr(kind, &value.to_ne_bytes());
    }

    /// A 32-bit number in network order, as nf_tables has them all.
    pub(crate) fn be32(&mut self, kind: u16, value: u32) {
        self.attr(kind, &value.to_be_bytes());
    }

    /// An attribute made of attributes. Its length is 16 bits: a caller bounds what it puts inside.
    pub(crate) fn nest(&mut self, kind: u16, inside: impl FnOnce(&mut Batch)) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0, 0]);
        self.bytes.extend_from_slice(&(kind | NESTED).to_ne_bytes());
        inside(self);
        let length = (self.bytes.len() - start) as u16;
        self.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
    }

    /// Raw bytes in an attribute's place (the `ifinfomsg` inside `VETH_INFO_PEER`).
    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.labels.len()
    }
}

/// One netlink socket, bound to the network namespace in which it was opened.
pub(crate) struct Connection {
    socket: Socket,
}

/// One message of an answer: its type, and what follows the header.
pub(crate) struct Message {
    pub(crate) kind: u16,
    pub(crate) body: Vec<u8>,
}

/// The largest message that the kernel puts into a dump answer.
const RECEIVE_BYTES: usize = 32 << 10;
/// A bound on the answers to one request: 200 links of 2 KiB are far below it.
const ANSWER_MESSAGES_MAX: usize = 1 << 17;

impl Connection {
    /// `protocol` is `NETLINK_ROUTE` or `NETLINK_NETFILTER`.
    pub(crate) fn open(protocol: i32) -> Result<Connection> {
        let open = || -> io::Result<Socket> {
            let mut socket = Socket::new(protocol as isize)?;
            socket.bind_auto()?;
            socket.connect(&SocketAddr::new(0, 0))?;
            socket.set_cap_ack(true)?;
            socket.set_ext_ack(true)?;
            socket.set_non_blocking(true)?;
            Ok(socket)
        };
        let socket = open().map_err(|source| Error::Kernel {
            operation: "open netlink socket",
            object: String::new(),
            source,
        })?;
        Ok(Connection { socket })
    }

    /// Past `net.core.wmem_max`, which `CAP_NET_ADMIN` allows. Refused (in a user namespace), the default stays: then a very large ruleset
    /// fails, with `EMSGSIZE`, and only that.
    pub(crate) fn enlarge_send_buffer(&self, bytes: usize) {
        let _ = rustix::net::sockopt::set_socket_send_buffer_size_force(&self.socket, bytes);
    }

    /// Sends the batch and reads every answer. Fails with the first request that was refused.
    pub(crate) fn execute(&mut self, mut batch: Batch) -> Result<Vec<Message>> {
        batch.close();
        let Some((operation, object)) = batch.labels.first() else {
            return Ok(Vec::new());
        };
        self.socket
            .send(&batch.bytes, 0)
            .map_err(|source| Error::Kernel {
                operation,
                object: object.clone(),
                source,
            })?;
        let mut messages = Vec::new();
        let mut failure = None;
        let mut buffer = vec![0; RECEIVE_BYTES];
        loop {
            let received = self.socket.recv(&mut &mut buffer[..], 0);
            let length = match received {
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(source) => {
                    return Err(Error::Kernel {
                        operation,
                        object: object.clone(),
                        source,
                    });
                }
            };
            read_messages(
                &buffer[..length],
                &batch.labels,
                &mut messages,
                &mut failure,
            )?;
            if messages.len() > ANSWER_MESSAGES_MAX {
                return Err(Error::Malformed {
                    operation,
                    what: "endless answer",
                });
            }
        }
        match failure {
            Some(error) => Err(error),
            None => Ok(messages),
        }
    }
}

/// Splits one datagram. Acknowledgements are checked, other messages kept.
fn read_messages(
    mut bytes: &[u8],
    labels: &[(&'static str, String)],
    messages: &mut Vec<Message>,
    failure: &mut Option<Error>,
) -> Result<()> {
    while bytes.len() >= HEADER {
        let word = |at: usize| {
            u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        let length = word(0) as usize;
        let kind = u16::from_ne_bytes([bytes[4], bytes[5]]);
        let flags = u16::from_ne_bytes([bytes[6], bytes[7]]);
        let sequence = word(8) as usize;
        if length < HEADER || length > bytes.len() {
            return Err(Error::Malformed {
                operation: "read netlink answer",
                what: "message length",
            });
        }
        let body = &bytes[HEADER..length];
        match kind {
            MSG_ERROR => {
                let error = acknowledgement(body, flags, labels.get(sequence));
                if failure.is_none() {
                    *failure = error;
                }
            }
            MSG_DONE => {}
            _ => messages.push(Message {
                kind,
                body: body.to_vec(),
            }),
        }
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(())
}

/// `struct nlmsgerr`: 0 or -errno, the header of the request, then the kernel's own words (`NLMSGERR_ATTR_MSG`) where it has some.
fn acknowledgement(
    body: &[u8],
    flags: u16,
    label: Option<&(&'static str, String)>,
) -> Option<Error> {
    let code = i32::from_ne_bytes(body.get(..4)?.try_into().ok()?);
    if code == 0 {
        return None;
    }
    let errno = io::Error::from_raw_os_error(-code);
    let attributes = if flags & libc::NLM_F_ACK_TLVS as u16 != 0 {
        body.get(4 + HEADER..)
    } else {
        None
    };
    let words = attributes.and_then(|a| find(a, ATTR_MSG)).map(text);
    let (operation, object) = label
        .cloned()
        .unwrap_or(("apply", "transaction".to_owned()));
    let object = match words.filter(|words| !words.is_empty()) {
        Some(words) => format!("{object} ({words})"),
        None => object,
    };
    Some(Error::Kernel {
        operation,
        object,
        source: errno,
    })
}

/// Walks attributes: (type without flags, value). Stops at the first malformed one.
pub(crate) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = u16::from_ne_bytes(bytes.get(..2)?.try_into().ok()?) as usize;
        let kind = u16::from_ne_bytes(bytes.get(2..4)?.try_into().ok()?) & TYPE_MASK;
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// The first attribute of that type.
pub(crate) fn find(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(bytes)
        .find(|(k, _)| *k == kind)
        .map(|(_, value)| value)
}

/// A string attribute's text, without its final zero.
pub(crate) fn text(value: &[u8]) -> String {
    let end = value.iter().position(|b| *b == 0).unwrap_or(value.len());
    String::from_utf8_lossy(&value[..end]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn attributes_are_padded_and_nested() {
        let mut batch = Batch::new();
        batch.begin(16, 0, &[0; 16], "x", String::new());
        batch.nest(18, |b| {
            b.text(1, "veth");
            b.u32(2, 7);
        });
        batch.close();
        assert_eq!(batch.len(), 1);
        assert_eq!(batch.bytes.len(), 16 + 16 + 4 + 12 + 8);
        assert_eq!(batch.bytes[0] as usize, batch.bytes.len());
        let inside = find(&batch.bytes[32..], 18).expect("nest");
        assert_eq!(find(inside, 1).map(text).as_deref(), Some("veth"));
        assert_eq!(find(inside, 2), Some(&7u32.to_ne_bytes()[..]));
    }

    #[test]
    fn refusals_name_the_request() {
        let mut connection = Connection::open(libc::NETLINK_ROUTE).expect("socket");
        let mut batch = Batch::new();
        // RTM_DELLINK of an index that cannot exist.
        let mut header = [0u8; 16];
        header[4..8].copy_from_slice(&i32::MAX.to_ne_bytes());
        batch.begin(
            libc::RTM_DELLINK,
            libc::NLM_F_ACK,
            &header,
            "delete link",
            "ghost".to_owned(),
        );
        let error = connection.execute(batch).err().expect("refused");
        assert!(
            error.to_string().starts_with("delete link ghost"),
            "{error}"
        );
        assert!(matches!(error.errno(), Some(libc::ENODEV | libc::EPERM)));
    }

    proptest! {
        #[test]
        fn rubbish_is_survived(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut messages = Vec::new();
            let mut failure = None;
            let _ = read_messages(&bytes, &[("x", String::new())], &mut messages, &mut failure);
            prop_assert!(attributes(&bytes).count() <= bytes.len());
        }
    }
}
