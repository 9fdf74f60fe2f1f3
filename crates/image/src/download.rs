//! Fetching an archive from an address that the user gave, for `import`.

use std::io::{self, Read};

use bytes::Bytes;
use futures_util::StreamExt;
use reqwest::Url;
use tokio::sync::mpsc;

use crate::images::Images;
use crate::registry::{read_bounded, request_error};
use crate::{Error, Result};

/// Chunks between the network and whoever reads.
const QUEUE_CHUNKS: usize = 8;
/// Bytes of an error's body that are shown.
const ERROR_LEN_MAX: usize = 4096;

/// A body that is being fetched, for a blocking reader.
pub struct Download {
    /// The address asked, complete.
    pub url: String,
    receiver: mpsc::Receiver<io::Result<Bytes>>,
    chunk: Bytes,
}

impl Images {
    /// Opens an address (`http://` where it has no scheme, as Docker reads it). A reader that goes away ends the transfer.
    ///
    /// # Errors
    /// [`Error::Invalid`] for what is no address; [`Error::Request`] for one that cannot be reached or that refuses.
    pub async fn open_url(&self, address: &str) -> Result<Download> {
        let address = match address.contains("://") {
            true => address.to_owned(),
            false => format!("http://{address}"),
        };
        let url = Url::parse(&address)
            .ok()
            .filter(|url| matches!(url.scheme(), "http" | "https") && url.host_str().is_some())
            .ok_or_else(|| Error::Invalid(format!("{address:?} is no address to import from")))?;
        let response = self.transport().client.get(url.clone()).await?;
        let status = response.status();
        if !status.is_success() {
            let body = read_bounded(response, ERROR_LEN_MAX)
                .await
                .unwrap_or_default();
            return Err(Error::Invalid(format!(
                "failed to GET {url} with status {status}: {}",
                String::from_utf8_lossy(&body).trim()
            )));
        }
        let (sender, receiver) = mpsc::channel(QUEUE_CHUNKS);
        let asked = url.clone();
        tokio::spawn(async move {
            let mut stream = response.bytes_stream();
            while let Some(chunk) = stream.next().await {
                let chunk =
                    chunk.map_err(|error| io::Error::other(request_error("Get", &asked, &error)));
                let failed = chunk.is_err();
                if sender.send(chunk).await.is_err() || failed {
                    return;
                }
            }
        });
        Ok(Download {
            url: url.to_string(),
            receiver,
            chunk: Bytes::new(),
        })
    }
}

/// Blocks; not for the async threads.
impl Read for Download {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.chunk.is_empty() {
            match self.receiver.blocking_recv() {
                Some(chunk) => self.chunk = chunk?,
                None => return Ok(0),
            }
        }
        let count = self.chunk.len().min(buffer.len());
        buffer[..count].copy_from_slice(&self.chunk.split_to(count));
        Ok(count)
    }
}
