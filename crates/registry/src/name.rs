//! Validated names: what has passed here is safe as a part of a path.

use std::fmt;

use hull_oci::{Digest, reference};

use crate::error::{Error, Result};

/// A repository name (`library/nginx`). Its components begin with a letter or digit, so neither `..` nor our own
/// directories (`_manifests`, `_tags`, ..) can be one.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(Box<str>);

impl Name {
    /// Validates a name against the specification's grammar and Docker's length limit.
    pub fn new(text: &str) -> Result<Self> {
        if text.len() <= reference::PATH_LEN_MAX && reference::is_path(text) {
            Ok(Name(text.into()))
        } else {
            Err(Error::NameInvalid(text.chars().take(256).collect()))
        }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A validated tag.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tag(Box<str>);

impl Tag {
    /// Validates a tag.
    pub fn new(text: &str) -> Result<Self> {
        if reference::is_tag(text) {
            Ok(Tag(text.into()))
        } else {
            Err(Error::TagInvalid(text.chars().take(256).collect()))
        }
    }

    /// The tag.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How a manifest is named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reference {
    /// By a tag, which may move.
    Tag(Tag),
    /// By digest.
    Digest(Digest),
}

impl Reference {
    /// A digest if there is a colon, which no tag has, otherwise a tag.
    pub fn parse(text: &str) -> Result<Self> {
        if text.contains(':') {
            text.parse()
                .map(Reference::Digest)
                .map_err(Error::DigestMalformed)
        } else {
            Tag::new(text).map(Reference::Tag)
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reference::Tag(tag) => tag.fmt(f),
            Reference::Digest(digest) => digest.fmt(f),
        }
    }
}

/// The name of an upload: 32 lower-case hex digits, from the kernel's random numbers.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct UploadId(Box<str>);

impl UploadId {
    /// A new one.
    pub fn random() -> Self {
        UploadId(format!("{:032x}", rand::random::<u128>()).into())
    }

    /// Validates one that a client sent.
    pub fn new(text: &str) -> Result<Self> {
        let hex = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
        if text.len() == 32 && text.bytes().all(hex) {
            Ok(UploadId(text.into()))
        } else {
            Err(Error::UploadUnknown(text.chars().take(64).collect()))
        }
    }

    /// The id.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for UploadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
