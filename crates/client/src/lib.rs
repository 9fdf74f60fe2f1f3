//! Client of the Engine API: where the daemon is (`Endpoint`), requests with JSON answers, streams of JSON, hijacked connections.
//!
//! Speaks HTTP/1.1 over a unix socket, TCP, TLS, or the stdin and stdout of `ssh HOST hull system dial-stdio`.
//! Finished connections are used again; a client belongs to one tokio runtime. Not here: what the user reads (see `cli`).
#![forbid(unsafe_code)]

mod body;
mod connection;
mod endpoint;
mod error;
mod query;
mod request;
mod ssh;
mod tls;

pub use body::{Answer, JsonStream};
pub use connection::Stream;
pub use endpoint::{DEFAULT_SOCKET, Endpoint, TlsFiles};
pub use error::Error;
pub use query::Query;
pub use request::{Client, Hijacked, Upload};

/// The newest version of the API that this client speaks.
pub const API_VERSION_MAX: &str = "1.51";
/// The oldest.
pub const API_VERSION_MIN: &str = "1.40";
