//! Platforms: what an image is for, what a host is, and which of several fits best.
//!
//! Parsing and normalization follow containerd's `platforms` package, so that `--platform` accepts the same spellings.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::go;

/// Longest specifier accepted, in bytes.
pub const SPECIFIER_LEN_MAX: usize = 256;

/// An operating system and a processor, as in an image index (image-spec `image-index.md`).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub struct Platform {
    /// The processor, in Go's naming: `amd64`, `arm64`.
    #[serde(default, deserialize_with = "go::null")]
    pub architecture: String,
    /// The operating system, in Go's naming: `linux`.
    #[serde(default, deserialize_with = "go::null")]
    pub os: String,
    /// The operating system's version (Windows only in practice).
    #[serde(
        rename = "os.version",
        default,
        deserialize_with = "go::non_empty",
        skip_serializing_if = "Option::is_none"
    )]
    pub os_version: Option<String>,
    /// Mandatory features of the operating system (`win32k`).
    #[serde(
        rename = "os.features",
        default,
        deserialize_with = "go::null",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub os_features: Vec<String>,
    /// The processor's variant: `v7` of `arm`.
    #[serde(
        default,
        deserialize_with = "go::non_empty",
        skip_serializing_if = "Option::is_none"
    )]
    pub variant: Option<String>,
}

/// Why a string is not a platform. The sentences are containerd's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlatformError {
    /// A component has a character outside `[A-Za-z0-9_.-]`, or is empty.
    #[error(
        "{component:?} is an invalid component of {specifier:?}: platform specifier component must match \"^[A-Za-z0-9_.-]+$\": invalid argument"
    )]
    Component {
        /// The offending component.
        component: String,
        /// The whole specifier.
        specifier: String,
    },
    /// A lone component is neither a known system nor a known processor.
    #[error("{0:?}: unknown operating system or architecture: invalid argument")]
    Unknown(String),
    /// Too many components, or too long.
    #[error("{0:?}: cannot parse platform specifier: invalid argument")]
    Shape(String),
}

impl Platform {
    /// `os/architecture`, normalized.
    pub fn new(os: &str, architecture: &str) -> Self {
        Platform {
            os: os.to_owned(),
            architecture: architecture.to_owned(),
            ..Platform::default()
        }
        .normalized()
    }

    /// The platform that this program was compiled for.
    pub fn host() -> Self {
        Self::new(std::env::consts::OS, std::env::consts::ARCH)
    }

    /// Parses `linux/arm64/v8`, `linux`, `arm64`, `windows(10.0.17763)/amd64`. What a lone component leaves open is
    /// the host's.
    pub fn parse(specifier: &str) -> Result<Self, PlatformError> {
        if specifier.len() > SPECIFIER_LEN_MAX {
            return Err(PlatformError::Shape(specifier.chars().take(64).collect()));
        }
        let (system, os_version) = split_os_version(specifier);
        let parts: Vec<&str> = system.split('/').collect();
        let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
        if let Some(bad) = parts
            .iter()
            .find(|part| part.is_empty() || !part.bytes().all(legal))
        {
            return Err(PlatformError::Component {
                component: (*bad).to_owned(),
                specifier: specifier.to_owned(),
            });
        }
        let mut platform = match parts.as_slice() {
            [one] => {
                Self::parse_lone(one).ok_or_else(|| PlatformError::Unknown(specifier.to_owned()))?
            }
            [os, architecture] => Self::new(os, architecture),
            [os, architecture, variant] => Platform {
                os: (*os).to_owned(),
                architecture: (*architecture).to_owned(),
                variant: Some((*variant).to_owned()),
                ..Platform::default()
            }
            .normalized(),
            _ => return Err(PlatformError::Shape(specifier.to_owned())),
        };
        platform.os_version = os_version;
        Ok(platform)
    }

    fn parse_lone(part: &str) -> Option<Self> {
        let host = Self::host();
        let os = normalize_os(part);
        if KNOWN_OS.contains(&os.as_str()) {
            return Some(Platform { os, ..host });
        }
        let platform = Self::new(&host.os, part);
        KNOWN_ARCHITECTURES
            .contains(&platform.architecture.as_str())
            .then_some(platform)
    }

    /// The same platform in canonical spelling: `x86_64` is `amd64`, `aarch64` is `arm64`, `arm` is `arm/v7`, and
    /// default variants (`amd64/v1`, `arm64/v8`) are dropped.
    pub fn normalized(mut self) -> Self {
        self.os = normalize_os(&self.os);
        let architecture = self.architecture.to_ascii_lowercase();
        let variant = self.variant.unwrap_or_default().to_ascii_lowercase();
        let (architecture, variant) = normalize_architecture(&architecture, &variant);
        self.architecture = architecture;
        self.variant = Some(variant).filter(|variant| !variant.is_empty());
        self
    }

    /// Whether an image for this platform runs where `wanted` is asked for.
    pub fn matches(&self, wanted: &Platform) -> bool {
        self.rank(wanted).is_some()
    }

    /// How well an image for this platform serves `wanted`: 0 is exact, larger is a fallback (an older variant, then
    /// the 32-bit processor of the same family), `None` does not run there.
    pub fn rank(&self, wanted: &Platform) -> Option<usize> {
        let own = self.clone().normalized();
        let wanted = wanted.clone().normalized();
        let system = own.os == wanted.os
            && (wanted.os_version.is_none() || own.os_version == wanted.os_version)
            && wanted
                .os_features
                .iter()
                .all(|feature| own.os_features.contains(feature));
        if !system {
            return None;
        }
        fallbacks(
            &wanted.architecture,
            wanted.variant.as_deref().unwrap_or_default(),
        )
        .iter()
        .position(|(architecture, variant)| {
            own.architecture == *architecture
                && own.variant.as_deref().unwrap_or_default() == variant
        })
    }
}

/// The index of the platform that serves `wanted` best; the first among equals, as in containerd.
pub fn best_match(offered: &[Platform], wanted: &Platform) -> Option<usize> {
    offered
        .iter()
        .enumerate()
        .filter_map(|(index, platform)| platform.rank(wanted).map(|rank| (rank, index)))
        .min()
        .map(|(_, index)| index)
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.os.is_empty() {
            return f.write_str("unknown");
        }
        f.write_str(&self.os)?;
        if let Some(version) = &self.os_version {
            write!(f, "({version})")?;
        }
        for part in [Some(&self.architecture), self.variant.as_ref()]
            .into_iter()
            .flatten()
        {
            if !part.is_empty() {
                write!(f, "/{part}")?;
            }
        }
        Ok(())
    }
}

impl FromStr for Platform {
    type Err = PlatformError;

    fn from_str(text: &str) -> Result<Self, PlatformError> {
        Platform::parse(text)
    }
}

const KNOWN_OS: &[&str] = &[
    "aix",
    "android",
    "darwin",
    "dragonfly",
    "freebsd",
    "hurd",
    "illumos",
    "ios",
    "js",
    "linux",
    "nacl",
    "netbsd",
    "openbsd",
    "plan9",
    "solaris",
    "windows",
    "zos",
];

const KNOWN_ARCHITECTURES: &[&str] = &[
    "386",
    "amd64",
    "amd64p32",
    "arm",
    "armbe",
    "arm64",
    "arm64be",
    "loong64",
    "mips",
    "mipsle",
    "mips64",
    "mips64le",
    "mips64p32",
    "mips64p32le",
    "ppc",
    "ppc64",
    "ppc64le",
    "riscv",
    "riscv64",
    "s390",
    "s390x",
    "sparc",
    "sparc64",
    "wasm",
];

/// Takes `(version)` out of `os(version)/…`.
fn split_os_version(specifier: &str) -> (String, Option<String>) {
    let os_end = specifier.find('/').unwrap_or(specifier.len());
    let (os, rest) = specifier.split_at(os_end);
    if let Some((os, version)) = os.strip_suffix(')').and_then(|os| os.split_once('('))
        && !version.is_empty()
        && version
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
    {
        return (format!("{os}{rest}"), Some(version.to_owned()));
    }
    (specifier.to_owned(), None)
}

fn normalize_os(os: &str) -> String {
    match os.to_ascii_lowercase().as_str() {
        "" => Platform::host().os,
        "macos" => "darwin".to_owned(),
        os => os.to_owned(),
    }
}

/// Both arguments lower case; the second result is empty for the default variant.
fn normalize_architecture(architecture: &str, variant: &str) -> (String, String) {
    let (architecture, variant) = match (architecture, variant) {
        ("i386" | "i486" | "i586" | "i686" | "x86", _) => ("386", ""),
        ("x86_64" | "x86-64" | "amd64", "v1") => ("amd64", ""),
        ("x86_64" | "x86-64" | "amd64", variant) => ("amd64", variant),
        ("aarch64" | "arm64", "8" | "v8" | "v8.0") => ("arm64", ""),
        ("aarch64" | "arm64", "9" | "9.0" | "v9.0") => ("arm64", "v9"),
        ("aarch64" | "arm64", variant) => ("arm64", variant),
        ("armhf", _) => ("arm", "v7"),
        ("armel", _) => ("arm", "v6"),
        ("arm", "" | "7") => ("arm", "v7"),
        ("arm", "5") => ("arm", "v5"),
        ("arm", "6") => ("arm", "v6"),
        ("arm", "8") => ("arm", "v8"),
        ("loongarch64", variant) => ("loong64", variant),
        ("powerpc64le", variant) => ("ppc64le", variant),
        other => other,
    };
    (architecture.to_owned(), variant.to_owned())
}

/// What runs on a normalized processor, best first. Bounded: variants count down from at most 9.
fn fallbacks(architecture: &str, variant: &str) -> Vec<(String, String)> {
    let mut list = vec![(architecture.to_owned(), variant.to_owned())];
    let mut push =
        |architecture: &str, variant: String| list.push((architecture.to_owned(), variant));
    let number = |default: u8| {
        let digits = variant
            .strip_prefix('v')
            .and_then(|digits| digits.parse::<u8>().ok());
        if variant.is_empty() {
            default
        } else {
            digits.unwrap_or(0).min(9)
        }
    };
    match architecture {
        "amd64" => {
            for older in (1..number(1)).rev() {
                push(
                    "amd64",
                    if older == 1 {
                        String::new()
                    } else {
                        format!("v{older}")
                    },
                );
            }
            push("386", String::new());
        }
        "arm" => {
            for older in (5..number(7)).rev() {
                push("arm", format!("v{older}"));
            }
        }
        "arm64" => {
            if number(8) > 8 || variant.contains('.') {
                push("arm64", String::new());
            }
            for older in (5..=8).rev() {
                push("arm", format!("v{older}"));
            }
        }
        _ => {}
    }
    list
}
