//! Leases: what an operation in progress needs, kept from garbage collection.

use hull_oci::Digest;
use hull_state::leases::{self, Kind};
use hull_store::content::BlobWriter;

use crate::images::{Images, now};
use crate::{Error, Result};

/// A lease, ended when dropped.
pub(crate) struct Lease {
    images: Images,
    id: String,
}

impl Lease {
    pub fn new(images: &Images) -> Result<Self> {
        let id = format!("image-{:016x}", rand::random::<u64>());
        images
            .options()
            .db
            .write(|tx| leases::create(tx, &id, &now(), None))?;
        Ok(Lease {
            images: images.clone(),
            id,
        })
    }

    /// Keeps blobs and committed layers. Check for their presence afterwards, not before.
    pub fn hold(&self, blobs: &[&Digest], chains: &[Digest]) -> Result<()> {
        let _guard = self.images.collecting();
        self.images.options().db.try_write::<_, Error>(|tx| {
            for blob in blobs {
                leases::add(tx, &self.id, Kind::Blob, &blob.to_string())?;
            }
            for chain in chains {
                leases::add(tx, &self.id, Kind::Snapshot, &chain.to_string())?;
            }
            Ok(())
        })
    }

    /// Stores a blob whose digest only its end tells, and keeps it. It gets its name when it is held: a collection between the two
    /// may have found an older blob of the same bytes unwanted, and would remove this one in its place.
    pub fn store(&self, writer: BlobWriter) -> Result<Digest> {
        let sealed = writer.seal()?;
        self.hold(&[sealed.digest()], &[])?;
        Ok(sealed.publish()?)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Err(error) = self
            .images
            .options()
            .db
            .write(|tx| leases::remove(tx, &self.id))
        {
            tracing::warn!(lease = self.id, %error, "cannot end a lease; the next start does");
        }
    }
}
