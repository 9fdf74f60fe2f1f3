//! Connections: accepting, TLS, timeouts, and bodies that go from the disk to the socket.

pub mod body;
pub mod conn;
pub mod pace;
pub mod serve;
pub mod tls;
