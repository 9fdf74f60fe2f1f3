//! Finding an image's signatures in its repository and judging them by the policy.
//!
//! Signatures lie under the tag `sha256-<digest>.sig` (cosign's first form) or refer to the image (distribution-spec,
//! "Listing Referrers"): the same form there, or a sigstore bundle. What is found is not trusted in any way: only
//! what a key of the policy has signed counts, and only for the digest that it names. A bundle names no repository, so
//! only its digest is compared.

use hull_oci::image::Document;
use hull_oci::{Descriptor, Digest, Manifest, Reference};

use crate::images::Images;
use crate::policy::{Requirement, Signature};
use crate::progress::ProgressSink;
use crate::registry::{Repository, read_bounded};
use crate::{Error, Result};

const SIMPLE_SIGNING: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
const SIGNATURE_ANNOTATION: &str = "dev.cosignproject.cosign/signature";
const COSIGN_ARTIFACT: &str = "application/vnd.dev.cosign.artifact.sig.v1+json";
const BUNDLE: &str = "application/vnd.dev.sigstore.bundle";
/// Manifests with signatures that are looked at, per image.
const MANIFESTS_MAX: usize = 32;
/// Signatures that are looked at, per manifest.
const LAYERS_MAX: usize = 32;
/// Longest payload or bundle, in bytes.
const PAYLOAD_LEN_MAX: usize = 1 << 20;

impl Images {
    /// Whether the policy lets everything in under this name, signed or not.
    pub(crate) fn needs_no_signature(&self, reference: &Reference) -> bool {
        self.options().policy.as_ref().is_none_or(|policy| {
            policy
                .requirements(reference)
                .iter()
                .all(|one| matches!(one, Requirement::Accept))
        })
    }

    /// Refuses what the policy never takes, before anything is asked of anybody.
    pub(crate) fn check_rejected(&self, reference: &Reference) -> Result<()> {
        match &self.options().policy {
            Some(policy)
                if policy
                    .requirements(reference)
                    .iter()
                    .any(|one| matches!(one, Requirement::Reject)) =>
            {
                Err(self.refused(reference, "images of this scope are rejected"))
            }
            Some(_) | None => Ok(()),
        }
    }

    fn refused(&self, reference: &Reference, why: &str) -> Error {
        let policy = self.options().policy.as_ref();
        Error::Policy {
            reference: reference.familiar(),
            policy: policy.map_or_else(String::new, |policy| policy.path().display().to_string()),
            reason: why.to_owned(),
        }
    }

    /// Judges an image before any layer is fetched. `digests` are its manifest's and the index's that names it: a
    /// signature on either is one on the image.
    pub(crate) async fn check_signatures(
        &self,
        repository: &Repository,
        reference: &Reference,
        digests: &[Digest],
        progress: &ProgressSink,
    ) -> Result<()> {
        let Some(policy) = &self.options().policy else {
            return Ok(());
        };
        let mut found: Option<Vec<Signature>> = None;
        for requirement in policy.requirements(reference) {
            let (keys, identity) = match requirement {
                Requirement::Accept => continue,
                Requirement::Reject => {
                    return Err(self.refused(reference, "images of this scope are rejected"));
                }
                Requirement::Signed { keys, identity } => (keys, identity),
            };
            let signatures = match &found {
                Some(found) => found,
                None => found.insert(signatures_of(repository, digests).await?),
            };
            if signatures.is_empty() {
                let why = "a signature was required, but no signature exists";
                return Err(self.refused(reference, why));
            }
            let mut why = "no signature is by a key of the policy";
            let mut by = None;
            for signature in signatures {
                let Some(key) = keys
                    .iter()
                    .find(|key| key.verifies(&signature.message, &signature.signature))
                else {
                    continue;
                };
                if !signature
                    .digests
                    .iter()
                    .any(|signed| digests.contains(signed))
                {
                    why = "the signature is for another digest";
                } else if !(signature.identity.as_deref())
                    .is_none_or(|signed| identity.fits(signed, reference))
                {
                    why = "the signature is for another name";
                } else {
                    by = Some(key);
                    break;
                }
            }
            let Some(key) = by else {
                return Err(self.refused(reference, why));
            };
            progress
                .state(None, format!("Signature: verified with {}", key.from))
                .await;
        }
        Ok(())
    }
}

/// All signatures that the repository has for one of the digests.
async fn signatures_of(repository: &Repository, digests: &[Digest]) -> Result<Vec<Signature>> {
    let mut found = Vec::new();
    for digest in digests {
        let tag = format!("{}-{}", digest.algorithm(), digest.hex());
        if let Some(Document::Manifest(manifest)) =
            optional(repository, &format!("{tag}.sig")).await?
        {
            read_manifest(repository, &manifest, &mut found).await?;
        }
        let referrers = match repository.referrers(digest).await? {
            Some(referrers) => referrers,
            // A registry without the API: the referrers tag schema.
            None => match optional(repository, &tag).await? {
                Some(Document::Index(index)) => index.manifests,
                Some(Document::Manifest(_)) | None => Vec::new(),
            },
        };
        let wanted = referrers.iter().filter(|one| {
            one.artifact_type.as_deref().is_none_or(|kind| {
                kind == COSIGN_ARTIFACT || kind == SIMPLE_SIGNING || kind.starts_with(BUNDLE)
            })
        });
        for referrer in wanted.take(MANIFESTS_MAX) {
            if let Some(Document::Manifest(manifest)) =
                optional(repository, &referrer.digest.to_string()).await?
            {
                read_manifest(repository, &manifest, &mut found).await?;
            }
        }
    }
    Ok(found)
}

/// A document, if the repository has it.
async fn optional(repository: &Repository, name: &str) -> Result<Option<Document>> {
    match repository.manifest(name).await {
        Ok(body) => crate::pull::parse(&body).map(|(_, document)| Some(document)),
        Err(Error::ManifestUnknown(..) | Error::RepositoryUnknown { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

async fn read_manifest(
    repository: &Repository,
    manifest: &Manifest,
    found: &mut Vec<Signature>,
) -> Result<()> {
    for layer in manifest.layers.iter().take(LAYERS_MAX) {
        if layer.media_type == SIMPLE_SIGNING {
            if let Some(annotation) = layer.annotations.get(SIGNATURE_ANNOTATION) {
                let payload = payload(repository, layer).await?;
                found.extend(Signature::simple(&payload, annotation));
            }
        } else if layer.media_type.starts_with(BUNDLE) {
            found.extend(Signature::bundle(&payload(repository, layer).await?));
        }
    }
    Ok(())
}

async fn payload(repository: &Repository, layer: &Descriptor) -> Result<Vec<u8>> {
    let (response, _) = repository.blob(&layer.digest, 0).await?;
    let bytes = read_bounded(response, PAYLOAD_LEN_MAX).await?;
    let actual = Digest::of(layer.digest.algorithm(), &bytes);
    match actual == layer.digest {
        true => Ok(bytes),
        false => Err(hull_store::Error::DigestMismatch {
            expected: layer.digest.clone(),
            actual,
        }
        .into()),
    }
}
