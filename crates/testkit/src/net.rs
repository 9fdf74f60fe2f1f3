//! Ports on loopback.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

/// A TCP port of 127.0.0.1 that nothing listens on at the moment.
pub fn free_port() -> u16 {
    let listener =
        TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("bind a port of the kernel's choice");
    listener
        .local_addr()
        .expect("address of a bound socket")
        .port()
}

/// Waits until something accepts connections on `port` of 127.0.0.1; whether it came.
pub fn wait_for_port(port: u16, limit: Duration) -> bool {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    crate::process::eventually(limit, || {
        TcpStream::connect_timeout(&address, Duration::from_millis(200)).is_ok()
    })
}
