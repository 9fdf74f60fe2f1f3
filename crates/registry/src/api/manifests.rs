//! Manifests: fetch by tag or digest, push, delete.

use http::StatusCode;
use http::header::{self, HeaderName};

use super::{Answer, App, Call};
use crate::error::{Error, Result};
use crate::name::{Name, Reference, Tag};
use crate::net::body::{Body, RequestBody};
use crate::storage::StoredManifest;

const OCI_SUBJECT: HeaderName = HeaderName::from_static("oci-subject");
const OCI_TAG: HeaderName = HeaderName::from_static("oci-tag");
/// Longest manifest taken, in bytes.
const MANIFEST_LEN_MAX: usize = hull_oci::image::DOCUMENT_LEN_MAX;
/// Most tags pushed by one request.
const TAGS_MAX: usize = 32;

impl App {
    pub(super) async fn get_manifest(
        &self,
        call: &Call<'_>,
        name: &Name,
        reference: &Reference,
    ) -> Result<Answer> {
        let manifest = match &self.proxy {
            Some(proxy) => proxy.manifest(name, reference).await?,
            None => self.storage.manifest(name, reference)?,
        };
        Ok(send(call, manifest))
    }

    pub(super) async fn put_manifest(
        &self,
        call: &Call<'_>,
        name: &Name,
        reference: &Reference,
        body: RequestBody,
    ) -> Result<Answer> {
        let more_tags = call
            .query
            .all("tag")
            .map(Tag::new)
            .collect::<Result<Vec<_>>>()?;
        if more_tags.len() > TAGS_MAX {
            return Err(Error::UploadInvalid("too many tags in one request"));
        }
        let content_type = call.header(header::CONTENT_TYPE).map(str::to_owned);
        let announced = body.announced();
        let bytes = body.read_all(MANIFEST_LEN_MAX).await?;
        if announced.is_some_and(|len| len != bytes.len() as u64) {
            return Err(Error::SizeInvalid);
        }
        let (name, reference, tags) = (name.clone(), reference.clone(), more_tags.clone());
        let location_name = name.clone();
        let pushed = self
            .blocking(move |storage| {
                storage.put_manifest(&name, &reference, &tags, content_type.as_deref(), &bytes)
            })
            .await?;
        let location = format!("/v2/{location_name}/manifests/{}", pushed.digest);
        let mut answer = Answer::new(StatusCode::CREATED)
            .with(header::LOCATION, &location)
            .with_digest(&pushed.digest);
        if let Some(subject) = pushed.subject {
            answer = answer.with(OCI_SUBJECT, &subject.to_string());
        }
        for tag in &more_tags {
            answer = answer.with(OCI_TAG, tag.as_str());
        }
        Ok(answer)
    }

    pub(super) async fn delete_manifest(
        &self,
        name: &Name,
        reference: &Reference,
    ) -> Result<Answer> {
        let (name, reference) = (name.clone(), reference.clone());
        self.blocking(move |storage| storage.delete_manifest(&name, &reference))
            .await?;
        Ok(Answer::new(StatusCode::ACCEPTED))
    }
}

/// A manifest is sent as what it is, whatever is accepted, as the specification allows and Docker's registry does for all but
/// schema 1: whoever cannot read it says so better than a 406 would.
fn send(call: &Call<'_>, manifest: StoredManifest) -> Answer {
    let etag = format!("\"{}\"", manifest.digest);
    let matches = call
        .header(header::IF_NONE_MATCH)
        .is_some_and(|tags| tags == "*" || tags.contains(&etag));
    let status = if matches {
        StatusCode::NOT_MODIFIED
    } else {
        StatusCode::OK
    };
    let answer = Answer::new(status)
        .with_digest(&manifest.digest)
        .with(header::ETAG, &etag);
    if matches {
        return answer;
    }
    let len = manifest.bytes.len() as u64;
    answer
        .with(header::CONTENT_TYPE, &manifest.media_type)
        .body(Body::Bytes(manifest.bytes), len)
}
