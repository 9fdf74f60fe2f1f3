//! Opens connections of every kind as one type.

use crate::endpoint::Endpoint;
use crate::{Error, ssh, tls};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

/// A byte stream to a daemon.
#[derive(Debug)]
pub enum Stream {
    /// Unix socket.
    Unix(UnixStream),
    /// TCP.
    Tcp(TcpStream),
    /// TLS over TCP.
    Tls(Box<tokio_rustls::client::TlsStream<TcpStream>>),
    /// The stdio of an ssh program.
    Ssh(Box<ssh::SshStream>),
}

/// Connects; `host` is what errors name.
pub async fn connect(endpoint: &Endpoint, host: &str) -> Result<Stream, Error> {
    let refused = |source: io::Error| match source.kind() {
        io::ErrorKind::PermissionDenied => Error::Permission {
            host: host.to_owned(),
            source,
        },
        _ => Error::Connect {
            host: host.to_owned(),
            source,
        },
    };
    match endpoint {
        Endpoint::Unix(path) => Ok(Stream::Unix(
            UnixStream::connect(path).await.map_err(refused)?,
        )),
        Endpoint::Tcp {
            address, tls: None, ..
        } => {
            let stream = TcpStream::connect(address).await.map_err(refused)?;
            stream.set_nodelay(true)?;
            Ok(Stream::Tcp(stream))
        }
        Endpoint::Tcp {
            address,
            tls: Some(files),
            ..
        } => {
            let stream = TcpStream::connect(address).await.map_err(refused)?;
            stream.set_nodelay(true)?;
            Ok(Stream::Tls(Box::new(
                tls::connect(stream, address, files).await?,
            )))
        }
        Endpoint::Ssh {
            user,
            host: machine,
            port,
            path,
        } => {
            let child = ssh::start(user.as_deref(), machine, port.as_deref(), path);
            Ok(Stream::Ssh(Box::new(child.map_err(|source| {
                Error::Ssh {
                    host: machine.clone(),
                    source,
                }
            })?)))
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
            Stream::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Stream::Tls(stream) => Pin::new(stream.as_mut()).poll_read(cx, buf),
            Stream::Ssh(stream) => Pin::new(stream.as_mut()).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Unix(stream) => Pin::new(stream).poll_write(cx, buf),
            Stream::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
            Stream::Tls(stream) => Pin::new(stream.as_mut()).poll_write(cx, buf),
            Stream::Ssh(stream) => Pin::new(stream.as_mut()).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Unix(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Tls(stream) => Pin::new(stream.as_mut()).poll_flush(cx),
            Stream::Ssh(stream) => Pin::new(stream.as_mut()).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Tls(stream) => Pin::new(stream.as_mut()).poll_shutdown(cx),
            Stream::Ssh(stream) => Pin::new(stream.as_mut()).poll_shutdown(cx),
        }
    }
}
