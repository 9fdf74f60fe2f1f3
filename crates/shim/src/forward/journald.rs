//! `journald`: entries in the journal's native protocol
//! (<https://systemd.io/JOURNAL_NATIVE_PROTOCOL/>), those too large for a datagram in a sealed memory file.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use super::{Driver, Info, Message};
use crate::logfile::Stream;

/// Writes to this host's journal.
pub struct Journald {
    path: PathBuf,
    socket: UnixDatagram,
    /// The fields that every entry has, encoded.
    common: Vec<u8>,
}

impl Journald {
    /// Connects to the journal's socket.
    ///
    /// # Errors
    /// Docker's sentence where there is no journal.
    pub fn open(path: &Path, info: &Info) -> io::Result<Self> {
        let disabled = |_| {
            io::Error::new(
                io::ErrorKind::NotFound,
                "journald is not enabled on this host",
            )
        };
        let socket = UnixDatagram::unbound()?;
        socket.connect(path).map_err(disabled)?;
        let mut common = Vec::new();
        let short = info.id.get(..12).unwrap_or(&info.id);
        for (key, value) in [
            ("CONTAINER_ID", short),
            ("CONTAINER_ID_FULL", &info.id),
            ("CONTAINER_NAME", &info.name),
            ("CONTAINER_TAG", &info.tag),
            ("IMAGE_NAME", &info.image_name),
            ("SYSLOG_IDENTIFIER", &info.tag),
        ] {
            field(&mut common, key, value.as_bytes());
        }
        for (key, value) in &info.attributes {
            let key = sanitized(key);
            if !key.is_empty() {
                field(&mut common, &key, value.as_bytes());
            }
        }
        Ok(Self {
            path: path.to_path_buf(),
            socket,
            common,
        })
    }

    fn encode(&self, message: &Message<'_>) -> Vec<u8> {
        let mut entry = self.common.clone();
        field(&mut entry, "MESSAGE", message.line);
        let priority: &[u8] = match message.stream {
            Stream::Stdout => b"6",
            Stream::Stderr => b"3",
        };
        field(&mut entry, "PRIORITY", priority);
        let time = crate::logfile::time_text(message.time);
        field(&mut entry, "SYSLOG_TIMESTAMP", time.as_bytes());
        if let Some(partial) = &message.partial {
            if !partial.last {
                field(&mut entry, "CONTAINER_PARTIAL_MESSAGE", b"true");
            }
            field(&mut entry, "CONTAINER_PARTIAL_ID", partial.id.as_bytes());
            let ordinal = partial.ordinal.to_string();
            field(&mut entry, "CONTAINER_PARTIAL_ORDINAL", ordinal.as_bytes());
            let last = partial.last.to_string();
            field(&mut entry, "CONTAINER_PARTIAL_LAST", last.as_bytes());
        }
        entry
    }

    fn deliver(&self, entry: &[u8]) -> io::Result<()> {
        match self.socket.send(entry) {
            Err(e) if [Some(libc::EMSGSIZE), Some(libc::ENOBUFS)].contains(&e.raw_os_error()) => {
                let file = hull_sys::fds::sealed_memfd(c"hull-journal", entry)?;
                self.deliver_file(file.as_fd())
            }
            other => other.map(drop),
        }
    }
}

impl Journald {
    /// An empty datagram with the file: what the journal takes only without data beside it.
    fn deliver_file(&self, file: BorrowedFd<'_>) -> io::Result<()> {
        use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
        let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let files = [file];
        if !control.push(SendAncillaryMessage::ScmRights(&files)) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        sendmsg(&self.socket, &[], &mut control, SendFlags::NOSIGNAL)?;
        Ok(())
    }
}

impl Driver for Journald {
    /// A journal that was restarted has a new socket.
    fn send(&mut self, message: &Message<'_>) -> io::Result<()> {
        let entry = self.encode(message);
        self.deliver(&entry).or_else(|_| {
            self.socket = UnixDatagram::unbound()?;
            self.socket.connect(&self.path)?;
            self.deliver(&entry)
        })
    }
}

/// One field; a value with a line feed goes with its length.
fn field(entry: &mut Vec<u8>, key: &str, value: &[u8]) {
    entry.extend_from_slice(key.as_bytes());
    if value.contains(&b'\n') {
        entry.push(b'\n');
        entry.extend_from_slice(&(value.len() as u64).to_le_bytes());
    } else {
        entry.push(b'=');
    }
    entry.extend_from_slice(value);
    entry.push(b'\n');
}

/// A name that the journal takes: capital letters, digits and `_`, not beginning with `_`, which marks the journal's own.
fn sanitized(key: &str) -> String {
    let name: String = key
        .chars()
        .map(|c| match c.to_ascii_uppercase() {
            c @ ('A'..='Z' | '0'..='9') => c,
            _ => '_',
        })
        .collect();
    name.trim_start_matches('_').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_made_fit() {
        assert_eq!(sanitized("_com.example-Label1"), "COM_EXAMPLE_LABEL1");
        assert_eq!(sanitized("__"), "");
    }
}
