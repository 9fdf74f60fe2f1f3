//! Connections to log servers: plain, local and with TLS. Blocking, every wait bounded.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs, UdpSocket};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use hull_tls::{Identity, Trust};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use super::options::{Address, Tls};

/// How long a connection may take to come about.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long one write may wait for the other side where the driver has no option for it.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// A connection that messages are written to, each in one call.
pub enum Connection {
    /// Each write is a datagram.
    Udp(UdpSocket),
    /// A stream.
    Tcp(TcpStream),
    /// A stream with TLS.
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
    /// A local stream.
    Unix(UnixStream),
    /// Each write is a datagram.
    Unixgram(UnixDatagram),
}

impl Connection {
    /// Connects to `address`.
    ///
    /// # Errors
    /// In the words of Go's net.Dial: `dial tcp 127.0.0.1:514: connect: connection refused`.
    pub fn open(address: &Address, tls: &Tls) -> io::Result<Self> {
        let (network, target) = match address {
            Address::Udp(target) => ("udp", target),
            Address::Tcp(target) | Address::Tls(target) => ("tcp", target),
            Address::Unix(target) => ("unix", target),
            Address::Unixgram(target) => ("unixgram", target),
        };
        Self::dial(address, tls).map_err(|e| {
            io::Error::new(
                e.kind(),
                format!("dial {network} {target}: {}", in_words(&e)),
            )
        })
    }

    fn dial(address: &Address, tls: &Tls) -> io::Result<Self> {
        Ok(match address {
            Address::Udp(target) => {
                let remote = resolve(target)?;
                let any = if remote.is_ipv6() {
                    "[::]:0"
                } else {
                    "0.0.0.0:0"
                };
                let socket = UdpSocket::bind(any)?;
                socket.connect(remote)?;
                socket.set_write_timeout(Some(WRITE_TIMEOUT))?;
                Self::Udp(socket)
            }
            Address::Tcp(target) => Self::Tcp(tcp(target)?),
            Address::Tls(target) => {
                let host = target
                    .rsplit_once(':')
                    .map_or(target.as_str(), |(host, _)| host);
                let name = ServerName::try_from(host.trim_matches(['[', ']']).to_owned())
                    .map_err(io::Error::other)?;
                let client = ClientConnection::new(Arc::new(client_config(tls)?), name)
                    .map_err(io::Error::other)?;
                let mut stream = StreamOwned::new(client, tcp(target)?);
                // The handshake now: a wrong certificate must show when the container starts.
                while stream.conn.is_handshaking() {
                    stream.conn.complete_io(&mut stream.sock)?;
                }
                Self::Tls(Box::new(stream))
            }
            Address::Unix(path) => {
                let stream = UnixStream::connect(path)?;
                stream.set_write_timeout(Some(WRITE_TIMEOUT))?;
                Self::Unix(stream)
            }
            Address::Unixgram(path) => {
                let socket = UnixDatagram::unbound()?;
                socket.connect(path)?;
                socket.set_write_timeout(Some(WRITE_TIMEOUT))?;
                Self::Unixgram(socket)
            }
        })
    }

    /// Sends all of `message`.
    ///
    /// # Errors
    /// When the other side does not take it within the time; the connection is of no use then.
    pub fn send(&mut self, message: &[u8]) -> io::Result<()> {
        match self {
            Self::Udp(socket) => socket.send(message).map(drop),
            Self::Unixgram(socket) => socket.send(message).map(drop),
            Self::Tcp(stream) => stream.write_all(message),
            Self::Unix(stream) => stream.write_all(message),
            Self::Tls(stream) => stream.write_all(message).and_then(|()| stream.flush()),
        }
    }

    /// Reads what the other side says.
    ///
    /// # Errors
    /// When nothing comes within the time, or the connection is one without answers.
    pub fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(buffer),
            Self::Unix(stream) => stream.read(buffer),
            Self::Tls(stream) => stream.read(buffer),
            Self::Udp(_) | Self::Unixgram(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// Bounds each read and write of a stream; zero leaves the one as it is.
    ///
    /// # Errors
    /// When the descriptor is no socket.
    pub fn set_timeouts(&self, read: Duration, write: Duration) -> io::Result<()> {
        let some = |time: Duration| (!time.is_zero()).then_some(time);
        let set = |set: &dyn Fn(Option<Duration>) -> io::Result<()>, time| match some(time) {
            Some(time) => set(Some(time)),
            None => Ok(()),
        };
        match self {
            Self::Tcp(stream) => {
                set(&|time| stream.set_read_timeout(time), read)?;
                set(&|time| stream.set_write_timeout(time), write)
            }
            Self::Tls(stream) => {
                set(&|time| stream.sock.set_read_timeout(time), read)?;
                set(&|time| stream.sock.set_write_timeout(time), write)
            }
            Self::Unix(stream) => {
                set(&|time| stream.set_read_timeout(time), read)?;
                set(&|time| stream.set_write_timeout(time), write)
            }
            Self::Udp(_) | Self::Unixgram(_) => Ok(()),
        }
    }
}

fn resolve(target: &str) -> io::Result<std::net::SocketAddr> {
    target
        .to_socket_addrs()?
        .next()
        .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "no such host"))
}

fn tcp(target: &str) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "no such host");
    for address in target.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, CONNECT_TIMEOUT) {
            Ok(stream) => {
                stream.set_write_timeout(Some(WRITE_TIMEOUT))?;
                return Ok(stream);
            }
            Err(e) => last = e,
        }
    }
    Err(last)
}

/// Go's words for the errors that scripts look for.
fn in_words(e: &io::Error) -> String {
    match e.kind() {
        io::ErrorKind::ConnectionRefused => "connect: connection refused".to_owned(),
        io::ErrorKind::NotFound if e.raw_os_error().is_some() => {
            "connect: no such file or directory".to_owned()
        }
        io::ErrorKind::TimedOut => "i/o timeout".to_owned(),
        _ => e.to_string(),
    }
}

fn client_config(tls: &Tls) -> io::Result<ClientConfig> {
    let trust = if tls.skip_verify {
        Trust::Anyone
    } else if tls.ca.is_empty() {
        Trust::Authorities(hull_tls::system_authorities())
    } else {
        let mut store = RootCertStore::empty();
        hull_tls::add_authorities(&mut store, Path::new(&tls.ca)).map_err(io::Error::other)?;
        Trust::Authorities(store)
    };
    let unusable = |e| io::Error::other(format!("Could not load X509 key pair: {e}"));
    let identity = match (tls.cert.as_str(), tls.key.as_str()) {
        ("", "") => None,
        (cert, key) => Some(Identity::read(Path::new(cert), Path::new(key)).map_err(unusable)?),
    };
    hull_tls::client(trust, identity).map_err(unusable)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
    use rustls::pki_types::PrivatePkcs8KeyDer;

    /// Does a message get through to a server of this authority, with these settings?
    fn delivered(authority: &CertifiedIssuer<'_, KeyPair>, tls: &Tls) -> io::Result<Vec<u8>> {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let certificate = params.signed_by(&key, authority).unwrap();
        let key = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = std::thread::spawn(move || -> io::Result<Vec<u8>> {
            let (socket, _) = listener.accept()?;
            let connection = rustls::ServerConnection::new(Arc::new(config)).unwrap();
            let mut stream = StreamOwned::new(connection, socket);
            let mut message = vec![0; 5];
            stream.read_exact(&mut message)?;
            Ok(message)
        });
        let sent = Connection::open(&Address::Tls(format!("localhost:{port}")), tls)
            .and_then(|mut connection| connection.send(b"hello"));
        let received = server.join().unwrap();
        sent.and(received)
    }

    #[test]
    fn tls_servers_are_verified_unless_told_otherwise() {
        let authority = || {
            let mut params = CertificateParams::new(Vec::new()).unwrap();
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
        };
        let (ours, foreign) = (authority(), authority());
        let folder = tempfile::tempdir().unwrap();
        let ca = folder.path().join("ca.pem");
        std::fs::write(&ca, ours.pem()).unwrap();
        let trusting = Tls {
            ca: ca.display().to_string(),
            ..Tls::default()
        };
        assert_eq!(delivered(&ours, &trusting).unwrap(), b"hello");
        assert!(delivered(&foreign, &trusting).is_err());
        let careless = Tls {
            skip_verify: true,
            ..trusting
        };
        assert_eq!(delivered(&foreign, &careless).unwrap(), b"hello");
    }
}
