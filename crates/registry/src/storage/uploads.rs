//! Uploads: bytes that are not yet a blob. They are plain files, so they survive a restart; the running digest is kept in memory
//! between requests and computed again from the file when it was lost.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use hull_oci::{Algorithm, Digest, Hasher};

use super::{Storage, files, lock};
use crate::error::{Error, Result};
use crate::name::{Name, UploadId};

/// Most running digests kept between requests; the others are computed again when their upload goes on.
const IDLE_MAX: usize = 4096;

const REHASH_BUFFER_LEN: usize = 128 << 10;

/// The uploads that this process knows. An upload that it does not know is idle, with its digest lost.
#[derive(Debug, Default, Clone)]
pub struct Sessions(Arc<Mutex<HashMap<UploadId, Slot>>>);

#[derive(Debug)]
enum Slot {
    Busy,
    Idle(Box<Hasher>, u64),
}

/// Where an upload stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UploadStatus {
    /// How many bytes were received.
    pub offset: u64,
}

/// An upload that one request holds. Dropped, it stays on disk and waits for the next request.
#[derive(Debug)]
pub struct Upload {
    id: UploadId,
    path: PathBuf,
    file: File,
    hasher: Hasher,
    algorithm: Algorithm,
    offset: u64,
    sessions: Sessions,
    gone: bool,
}

impl Storage {
    fn upload_path(&self, name: &Name, id: &UploadId) -> PathBuf {
        self.repository(name).join("_uploads").join(id.as_str())
    }

    /// Begins an upload. The digest's algorithm is guessed; a wrong guess costs reading the file once more.
    pub fn start_upload(&self, name: &Name, algorithm: Algorithm) -> Result<Upload> {
        let id = UploadId::random();
        let path = self.upload_path(name, &id);
        files::make_dirs(&self.repository(name).join("_uploads"))?;
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path)
            .map_err(Error::io("create", &path))?;
        lock(&self.sessions.0).insert(id.clone(), Slot::Busy);
        Ok(Upload {
            id,
            path,
            file,
            hasher: Hasher::new(algorithm),
            algorithm,
            offset: 0,
            sessions: self.sessions.clone(),
            gone: false,
        })
    }

    /// Where an upload stands.
    pub fn upload_status(&self, name: &Name, id: &UploadId) -> Result<UploadStatus> {
        let path = self.upload_path(name, id);
        match fs::metadata(&path) {
            Ok(metadata) => Ok(UploadStatus {
                offset: metadata.len(),
            }),
            Err(error) if files::is_missing(&error) => Err(Error::UploadUnknown(id.to_string())),
            Err(error) => Err(Error::io("stat", path)(error)),
        }
    }

    /// Takes hold of an upload to go on with it.
    pub fn resume_upload(&self, name: &Name, id: &UploadId) -> Result<Upload> {
        let path = self.upload_path(name, id);
        let file = match OpenOptions::new().read(true).write(true).open(&path) {
            Ok(file) => file,
            Err(error) if files::is_missing(&error) => {
                return Err(Error::UploadUnknown(id.to_string()));
            }
            Err(error) => return Err(Error::io("open", path)(error)),
        };
        let known = match lock(&self.sessions.0).insert(id.clone(), Slot::Busy) {
            Some(Slot::Busy) => return Err(Error::UploadBusy),
            Some(Slot::Idle(hasher, offset)) => Some((*hasher, offset)),
            None => None,
        };
        let (hasher, offset) = known.unwrap_or((Hasher::new(Algorithm::Sha256), 0));
        let mut upload = Upload {
            id: id.clone(),
            path,
            file,
            hasher,
            algorithm: Algorithm::Sha256,
            offset,
            sessions: self.sessions.clone(),
            gone: false,
        };
        upload.catch_up()?;
        Ok(upload)
    }

    /// Ends an upload and removes its bytes.
    pub fn cancel_upload(&self, name: &Name, id: &UploadId) -> Result<()> {
        self.upload_status(name, id)?;
        self.resume_upload(name, id)?.discard()
    }

    /// Makes an upload a blob of the repository. Bytes that do not have the digest are thrown away.
    pub fn finish_upload(&self, name: &Name, mut upload: Upload, expected: &Digest) -> Result<()> {
        if expected.algorithm() != upload.algorithm {
            upload.rehash(expected.algorithm())?;
        }
        let actual = std::mem::take(&mut upload.hasher).finish();
        if actual != *expected {
            upload.discard()?;
            return Err(Error::DigestMismatch {
                expected: expected.clone(),
                actual,
            });
        }
        // The slow part, outside of the gate.
        upload
            .file
            .sync_data()
            .map_err(Error::io("sync", &upload.path))?;
        let _entered = self.gate.enter([actual.clone()]);
        self.content.adopt(&upload.path, &upload.file, &actual)?;
        upload.forget();
        files::write(&self.blob_link(name, &actual), b"")
    }

    /// Whether a request of this process holds the upload.
    pub(super) fn upload_is_busy(&self, id: &UploadId) -> bool {
        matches!(lock(&self.sessions.0).get(id), Some(Slot::Busy))
    }

    pub(super) fn forget_upload(&self, id: &UploadId) {
        lock(&self.sessions.0).remove(id);
    }
}

impl Upload {
    /// Its id.
    pub fn id(&self) -> &UploadId {
        &self.id
    }

    /// How many bytes it has.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// A second handle to its bytes; read it only by position.
    pub fn reader(&self) -> Result<File> {
        self.file.try_clone().map_err(Error::io("open", &self.path))
    }

    /// Sets the algorithm of an upload that has no bytes yet.
    pub fn expect_algorithm(&mut self, algorithm: Algorithm) {
        if self.offset == 0 {
            self.algorithm = algorithm;
            self.hasher = Hasher::new(algorithm);
        }
    }

    /// Appends bytes: all of them, or none.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        if let Err(error) = self.file.write_all(bytes) {
            // Whatever was written of them would not be in the digest.
            let _ = self.file.set_len(self.offset);
            let _ = self.file.seek(SeekFrom::Start(self.offset));
            return Err(Error::io("write", &self.path)(error));
        }
        self.hasher.update(bytes);
        self.offset += bytes.len() as u64;
        Ok(())
    }

    /// Reads what is in the file and not in the digest, after a restart.
    fn catch_up(&mut self) -> Result<()> {
        let failed = |path: &PathBuf| Error::io("read", path.clone());
        self.file
            .seek(SeekFrom::Start(self.offset))
            .map_err(failed(&self.path))?;
        let len = self.file.metadata().map_err(failed(&self.path))?.len();
        let mut buffer = vec![
            0;
            if self.offset < len {
                REHASH_BUFFER_LEN
            } else {
                0
            }
        ];
        while self.offset < len {
            let got = self.file.read(&mut buffer).map_err(failed(&self.path))?;
            if got == 0 {
                break;
            }
            self.hasher.update(&buffer[..got]);
            self.offset += got as u64;
        }
        Ok(())
    }

    fn rehash(&mut self, algorithm: Algorithm) -> Result<()> {
        self.hasher = Hasher::new(algorithm);
        self.algorithm = algorithm;
        self.offset = 0;
        self.catch_up()
    }

    fn discard(mut self) -> Result<()> {
        self.forget();
        files::remove(&self.path).map(|_| ())
    }

    fn forget(&mut self) {
        self.gone = true;
        lock(&self.sessions.0).remove(&self.id);
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if self.gone {
            return;
        }
        let mut sessions = lock(&self.sessions.0);
        // A digest of another algorithm, or one too many, is computed again from the file.
        if self.algorithm == Algorithm::Sha256 && sessions.len() <= IDLE_MAX {
            let hasher = Box::new(std::mem::take(&mut self.hasher));
            sessions.insert(self.id.clone(), Slot::Idle(hasher, self.offset));
        } else {
            sessions.remove(&self.id);
        }
    }
}
