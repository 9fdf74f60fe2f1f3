//! Lists: tags, repositories, referrers.

use http::header::{self, HeaderName};
use hull_oci::distribution::{Catalog, TagList};
use hull_oci::image::media_type;
use hull_oci::{Digest, Index};

use super::{Answer, App, Call};
use crate::error::{Error, Result};
use crate::name::Name;
use crate::net::body::Body;
use crate::route::{Query, percent_encode};

const FILTERS_APPLIED: HeaderName = HeaderName::from_static("oci-filters-applied");

impl App {
    pub(super) async fn tags(&self, call: &Call<'_>, name: &Name) -> Result<Answer> {
        let (n, last) = page_wanted(&call.query)?;
        if let Some(listed) = self.list_upstream(call, name, "tags/list").await {
            return Ok(listed);
        }
        let repository = name.clone();
        let page = self
            .blocking(move |storage| storage.tags(&repository, n, last.as_deref()))
            .await?;
        let path = format!("/v2/{name}/tags/list");
        let next = next_page(&path, n, page.entries.last().filter(|_| page.more));
        let list = TagList {
            name: name.to_string(),
            tags: page.entries,
        };
        Ok(with_next(Answer::ok(), next).json(encode(&list)?))
    }

    pub(super) async fn catalog(&self, call: &Call<'_>) -> Result<Answer> {
        let (n, last) = page_wanted(&call.query)?;
        let page = self
            .blocking(move |storage| storage.catalog(n, last.as_deref()))
            .await?;
        let next = next_page("/v2/_catalog", n, page.entries.last().filter(|_| page.more));
        let list = Catalog {
            repositories: page.entries,
        };
        Ok(with_next(Answer::ok(), next).json(encode(&list)?))
    }

    pub(super) async fn referrers(
        &self,
        call: &Call<'_>,
        name: &Name,
        subject: &Digest,
    ) -> Result<Answer> {
        let kind = call
            .query
            .get("artifactType")
            .filter(|kind| !kind.is_empty())
            .map(str::to_owned);
        if let Some(listed) = self
            .list_upstream(call, name, &format!("referrers/{subject}"))
            .await
        {
            return Ok(listed);
        }
        let last = call.query.get("last").map(str::to_owned);
        let (repository, digest, wanted) = (name.clone(), subject.clone(), kind.clone());
        let found = self
            .blocking(move |storage| {
                storage.referrers(&repository, &digest, wanted.as_deref(), last.as_deref())
            })
            .await?;
        let next = found.next.map(|last| {
            let filter = kind.as_deref().map(percent_encode);
            let filter = filter.map_or_else(String::new, |kind| format!("artifactType={kind}&"));
            format!(
                "/v2/{name}/referrers/{subject}?{filter}last={}",
                percent_encode(&last)
            )
        });
        let mut answer =
            with_next(Answer::ok(), next).with(header::CONTENT_TYPE, media_type::OCI_INDEX);
        if kind.is_some() {
            answer = answer.with(FILTERS_APPLIED, "artifactType");
        }
        let json = encode(&Index::new(found.descriptors))?;
        let len = json.len() as u64;
        Ok(answer.body(Body::Bytes(json.into()), len))
    }
}

impl App {
    /// A cache knows a part of a list at most, so the list is asked for behind it; what is here must do when that fails.
    async fn list_upstream(&self, call: &Call<'_>, name: &Name, list: &str) -> Option<Answer> {
        let proxy = self.proxy.as_ref()?;
        let parameters: Vec<String> = ["n", "last", "artifactType"]
            .into_iter()
            .filter_map(|key| Some(format!("{key}={}", percent_encode(call.query.get(key)?))))
            .collect();
        let (body, headers) = proxy
            .list(name, &format!("{list}?{}", parameters.join("&")))
            .await?;
        let answer = headers.iter().fold(Answer::ok(), |answer, (name, value)| {
            answer.with(name.clone(), value.to_str().unwrap_or_default())
        });
        let len = body.len() as u64;
        Some(answer.body(Body::Bytes(body), len))
    }
}

fn page_wanted(query: &Query<'_>) -> Result<(Option<usize>, Option<String>)> {
    let n = match query.get("n") {
        None | Some("") => None,
        Some(text) if text.bytes().all(|b| b.is_ascii_digit()) => {
            Some(text.parse().unwrap_or(usize::MAX))
        }
        Some(text) => return Err(Error::PageInvalid(text.chars().take(32).collect())),
    };
    Ok((n, query.get("last").map(str::to_owned)))
}

fn next_page(path: &str, n: Option<usize>, last: Option<&String>) -> Option<String> {
    let last = last?;
    let n = n.map_or_else(String::new, |n| format!("n={n}&"));
    Some(format!("{path}?{n}last={}", percent_encode(last)))
}

fn with_next(answer: Answer, next: Option<String>) -> Answer {
    match next {
        Some(url) => answer.with(header::LINK, &format!("<{url}>; rel=\"next\"")),
        None => answer,
    }
}

fn encode(value: &impl serde::Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|error| Error::Io {
        operation: "encode",
        path: "response".into(),
        source: error.into(),
    })
}
