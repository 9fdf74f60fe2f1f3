//! The crate's one error type. Sentences that scripts match on are Docker's.

use std::io;
use std::net::IpAddr;
use std::path::PathBuf;

use ipnet::IpNet;

use crate::model::Protocol;

/// `Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The class of an [`Error`], for the caller's mapping to its own closed set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The named thing does not exist.
    NotFound,
    /// The request cannot be right on any host.
    InvalidParameter,
    /// The request collides with something that exists.
    Conflict,
    /// The request would be refused by policy or by the state of the host.
    Forbidden,
    /// Hull does not have this yet; the message names it.
    NotImplemented,
    /// The kernel or the host refused.
    Internal,
}

/// What went wrong: operation, object, source.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The kernel answered a netlink request with an errno.
    #[error("{operation} {object}: {source}")]
    Kernel {
        /// What was tried, as a verb ("create veth").
        operation: &'static str,
        /// On what.
        object: String,
        /// The errno.
        #[source]
        source: io::Error,
    },
    /// A file or mount operation failed.
    #[error("{operation} {}: {source}", path.display())]
    File {
        /// What was tried.
        operation: &'static str,
        /// On which path.
        path: PathBuf,
        /// The errno.
        #[source]
        source: io::Error,
    },
    /// A netlink answer could not be read.
    #[error("{operation}: malformed answer from the kernel: {what}")]
    Malformed {
        /// What was tried.
        operation: &'static str,
        /// Which part.
        what: &'static str,
    },
    /// No driver of that name.
    #[error("plugin {name:?} not found")]
    NoSuchDriver {
        /// The name asked for.
        name: String,
    },
    /// The feature is not in Hull yet.
    #[error("{what} is not implemented")]
    NotImplemented {
        /// The feature's name.
        what: String,
    },
    /// The kernel of this host lacks a feature.
    #[error("{what} is not supported by this host's kernel: {source}")]
    Unsupported {
        /// The feature's name.
        what: String,
        /// The errno by which the kernel said so.
        #[source]
        source: io::Error,
    },
    /// A value that cannot be used.
    #[error("{0}")]
    Invalid(String),
    /// A driver option that cannot be used.
    #[error("invalid value for option {option}: {value:?}: {why}")]
    Option {
        /// The option's key.
        option: String,
        /// What was given.
        value: String,
        /// Why not.
        why: &'static str,
    },
    /// No sandbox of that key.
    #[error("no network sandbox {key}")]
    NoSandbox {
        /// The key asked for.
        key: String,
    },
    /// Every address of the pool is taken (Docker's sentence).
    #[error("no available IPv{} addresses on this network's address pools: {network}", if *.ipv6 { 6 } else { 4 })]
    PoolExhausted {
        /// Which family.
        ipv6: bool,
        /// The pool.
        network: IpNet,
    },
    /// None of the default pools has a free subnet (Docker's sentence).
    #[error("all predefined address pools have been fully subnetted")]
    NoPool,
    /// A subnet that overlaps another network's (Docker's sentence).
    #[error(
        "invalid pool request: Pool overlaps with other one on this address space: {subnet} overlaps {other}"
    )]
    PoolOverlap {
        /// The subnet asked for.
        subnet: IpNet,
        /// The one in use.
        other: IpNet,
    },
    /// The address wanted is taken (Docker's sentence).
    #[error("Address already in use: {address}")]
    AddressInUse {
        /// The address.
        address: IpAddr,
    },
    /// The address wanted is outside the subnet (Docker's sentence).
    #[error("no configured subnet or ip-range contain the IP address {address}")]
    AddressOutside {
        /// The address.
        address: IpAddr,
    },
    /// A host port is held by another endpoint of this daemon (Docker's sentence, then the holder).
    #[error(
        "driver failed programming external connectivity on endpoint {endpoint} ({endpoint_id}): Bind for {address} failed: port is already allocated (held by container {holder})"
    )]
    PortAllocated {
        /// Name of the container that wanted it.
        endpoint: String,
        /// Its endpoint's id.
        endpoint_id: String,
        /// `host address:port`.
        address: String,
        /// Name of the container that holds it.
        holder: String,
    },
    /// A host port could not be bound (Docker's sentence, then the holder when it can be found).
    #[error(
        "driver failed programming external connectivity on endpoint {endpoint} ({endpoint_id}): failed to bind host port for {mapping}/{protocol}: {}{holder}", bind_error(.source)
    )]
    PortBind {
        /// Name of the container that wanted it.
        endpoint: String,
        /// Its endpoint's id.
        endpoint_id: String,
        /// `host address:host port`, and `:container address:container port` where it is known.
        mapping: String,
        /// The protocol.
        protocol: Protocol,
        /// Empty, or ` (held by process ..)`.
        holder: String,
        /// What bind(2) said.
        #[source]
        source: io::Error,
    },
    /// Every port of a range is taken (Docker's sentence).
    #[error(
        "driver failed programming external connectivity on endpoint {endpoint} ({endpoint_id}): all ports are allocated"
    )]
    PortsExhausted {
        /// Name of the container that wanted one.
        endpoint: String,
        /// Its endpoint's id.
        endpoint_id: String,
    },
    /// A firewall program failed.
    #[error("{program}: {message}")]
    Program {
        /// `iptables-restore` and the like.
        program: String,
        /// What it said.
        message: String,
    },
    /// Undoing or removing went on to the end and met several failures.
    #[error("{first}; and {} more: {}", others.len(), join(others))]
    Several {
        /// The first failure.
        #[source]
        first: Box<Error>,
        /// The others, in order.
        others: Vec<Error>,
    },
}

/// `EADDRINUSE` in Go's words, which scripts match on; Rust's own otherwise.
fn bind_error(source: &io::Error) -> String {
    match source.raw_os_error() {
        Some(libc::EADDRINUSE) => "address already in use".to_owned(),
        Some(libc::EADDRNOTAVAIL) => "cannot assign requested address".to_owned(),
        Some(libc::EACCES) => "permission denied".to_owned(),
        Some(_) | None => source.to_string(),
    }
}

fn join(errors: &[Error]) -> String {
    let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
    texts.join("; ")
}

impl Error {
    /// The class of this error.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::NoSuchDriver { .. } | Error::NoSandbox { .. } => ErrorKind::NotFound,
            Error::Invalid(_)
            | Error::Option { .. }
            | Error::AddressOutside { .. }
            | Error::NoPool
            | Error::PoolExhausted { .. } => ErrorKind::InvalidParameter,
            Error::PoolOverlap { .. } | Error::AddressInUse { .. } => ErrorKind::Forbidden,
            Error::NotImplemented { .. } | Error::Unsupported { .. } => ErrorKind::NotImplemented,
            Error::Several { first, .. } => first.kind(),
            // Docker answers 500 to a port in use: clients match on that.
            Error::PortAllocated { .. }
            | Error::PortBind { .. }
            | Error::PortsExhausted { .. }
            | Error::Kernel { .. }
            | Error::File { .. }
            | Error::Malformed { .. }
            | Error::Program { .. } => ErrorKind::Internal,
        }
    }

    /// The errno of a refused request, if that is what this is.
    pub(crate) fn errno(&self) -> Option<i32> {
        match self {
            Error::Kernel { source, .. } | Error::File { source, .. } => source.raw_os_error(),
            _ => None,
        }
    }

    /// One error out of those that a teardown met, if any.
    pub(crate) fn collect(mut errors: Vec<Error>) -> Result<()> {
        match errors.len() {
            0 => Ok(()),
            1 => Err(errors.remove(0)),
            _ => Err(Error::Several {
                first: Box::new(errors.remove(0)),
                others: errors,
            }),
        }
    }
}
