//! Platforms: what an image is for, what a host is, and which of several fits best.
//!
//! Parsing, normalization and ranking follow containerd's `platforms` package (`Parse`, `Normalize`, `Only`), so that
//! `--platform` accepts the same spellings and chooses the same manifest.

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
    /// Features of the operating system that the image needs (`win32k`), or that the host has.
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
    /// The first component is no `os` and no `os(version+feature)`.
    #[error(
        "{component:?} is an invalid OS component of {specifier:?}: OSAndVersion specifier component must match \"^([A-Za-z0-9_-]+)(?:\\\\(([A-Za-z0-9_.-]*)((?:\\\\+[A-Za-z0-9_.-]+)*)\\\\))?$\": invalid argument"
    )]
    Os {
        /// The offending component.
        component: String,
        /// The whole specifier.
        specifier: String,
    },
    /// A later component has a character outside `[A-Za-z0-9_.-]`, or is empty.
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
        let little = cfg!(target_endian = "little");
        let architecture = match std::env::consts::ARCH {
            "x86" => "386",
            "loongarch64" => "loong64",
            "powerpc64" if little => "ppc64le",
            "powerpc64" => "ppc64",
            "mips64" if little => "mips64le",
            "mips" if little => "mipsle",
            other => other,
        };
        Platform::new(std::env::consts::OS, architecture)
    }

    /// Parses `linux/arm64/v8`, `linux`, `arm64`, `windows(10.0.17763)/amd64`. What a lone component leaves open is
    /// the host's.
    pub fn parse(specifier: &str) -> Result<Self, PlatformError> {
        if specifier.len() > SPECIFIER_LEN_MAX {
            return Err(PlatformError::Shape(specifier.chars().take(64).collect()));
        }
        let mut parts = specifier.split('/');
        let first = parts.next().unwrap_or_default();
        let Some((os, os_version, os_features)) = parse_os(first) else {
            return Err(PlatformError::Os {
                component: first.to_owned(),
                specifier: specifier.to_owned(),
            });
        };
        let rest: Vec<&str> = parts.collect();
        if let Some(bad) = rest
            .iter()
            .find(|part| part.is_empty() || !part.bytes().all(is_option_byte))
        {
            return Err(PlatformError::Component {
                component: (*bad).to_owned(),
                specifier: specifier.to_owned(),
            });
        }
        let (os, architecture, variant) = match rest.as_slice() {
            [] if KNOWN_OS.contains(&os.as_str()) => {
                let host = Self::host();
                let variant = host.variant.unwrap_or_default();
                (
                    os,
                    host.architecture.clone(),
                    implied_variant(&host.architecture, variant),
                )
            }
            [] => {
                let (architecture, variant) = normalize_architecture(first, "");
                if !KNOWN_ARCHITECTURES.contains(&architecture.as_str()) {
                    return Err(PlatformError::Unknown(specifier.to_owned()));
                }
                let variant = implied_variant(&architecture, variant);
                (Self::host().os, architecture, variant)
            }
            [architecture] => {
                let (architecture, variant) = normalize_architecture(architecture, "");
                let variant = implied_variant(&architecture, variant);
                (os, architecture, variant)
            }
            [architecture, variant] => match normalize_architecture(architecture, variant) {
                (architecture, variant) if architecture == "arm64" && variant.is_empty() => {
                    (os, architecture, "v8".to_owned())
                }
                (architecture, variant) => (os, architecture, variant),
            },
            _ => return Err(PlatformError::Shape(specifier.to_owned())),
        };
        let variant = Some(variant).filter(|variant| !variant.is_empty());
        Ok(Platform {
            architecture,
            os,
            os_version,
            os_features,
            variant,
        })
    }

    /// The same platform in canonical spelling: `x86_64` is `amd64`, `aarch64` is `arm64`, `arm` is `arm/v7`, default
    /// variants (`amd64/v1`, `arm64/v8`) are dropped, features are sorted.
    pub fn normalized(mut self) -> Self {
        self.os = normalize_os(&self.os);
        let (architecture, variant) = normalize_architecture(
            &self.architecture,
            self.variant.as_deref().unwrap_or_default(),
        );
        self.architecture = architecture;
        self.variant = Some(variant).filter(|variant| !variant.is_empty());
        self.os_features.sort();
        self.os_features.dedup();
        self
    }

    /// Whether an image for this platform runs where `wanted` is asked for, fallbacks included.
    pub fn matches(&self, wanted: &Platform) -> bool {
        self.rank(wanted).is_some()
    }

    /// How well an image for this platform serves `wanted`: 0 is exact, larger is a fallback (an older variant, then
    /// the 32-bit processor of the same family), `None` does not run there.
    pub fn rank(&self, wanted: &Platform) -> Option<usize> {
        let own = self.clone().normalized();
        let wanted = wanted.clone().normalized();
        let system = own.os == wanted.os
            && own
                .os_features
                .iter()
                .all(|feature| wanted.os_features.contains(feature))
            && (own.os != "windows"
                || same_windows_build(own.os_version.as_deref(), wanted.os_version.as_deref()));
        if !system {
            return None;
        }
        let own = (own.architecture, own.variant.unwrap_or_default());
        fallbacks(
            &wanted.architecture,
            wanted.variant.as_deref().unwrap_or_default(),
        )
        .iter()
        .position(|fallback| *fallback == own)
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

/// The form that [`Platform::parse`] reads.
impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.os.is_empty() {
            return f.write_str("unknown");
        }
        f.write_str(&self.os)?;
        if self.os_version.is_some() || !self.os_features.is_empty() {
            write!(f, "({}", self.os_version.as_deref().unwrap_or_default())?;
            for feature in &self.os_features {
                write!(f, "+{feature}")?;
            }
            f.write_str(")")?;
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

fn is_option_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-')
}

/// Reads `os`, `os(version)`, `os(version+feature+feature)`, `os(+feature)`.
fn parse_os(part: &str) -> Option<(String, Option<String>, Vec<String>)> {
    let (os, options) = match part.split_once('(') {
        Some((os, options)) => (os, options.strip_suffix(')')?),
        None => (part, ""),
    };
    if os.is_empty()
        || !os
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
    {
        return None;
    }
    let mut options = options.split('+');
    let version = options.next().unwrap_or_default();
    let features: Vec<String> = options.map(str::to_owned).collect();
    if !version.bytes().all(is_option_byte)
        || features
            .iter()
            .any(|feature| feature.is_empty() || !feature.bytes().all(is_option_byte))
    {
        return None;
    }
    Some((
        normalize_os(os),
        Some(version.to_owned()).filter(|version| !version.is_empty()),
        features,
    ))
}

/// Whether two Windows versions agree in `major.minor.build`, which is what its containers depend on.
fn same_windows_build(image: Option<&str>, wanted: Option<&str>) -> bool {
    match (image, wanted) {
        (Some(image), Some(wanted)) => image.split('.').take(3).eq(wanted.split('.').take(3)),
        (None, _) | (_, None) => true,
    }
}

/// A specifier that names no variant means `arm`, not `arm/v7`, though both match the same images.
fn implied_variant(architecture: &str, variant: String) -> String {
    if architecture == "arm" && variant == "v7" {
        String::new()
    } else {
        variant
    }
}

fn normalize_os(os: &str) -> String {
    match os.to_ascii_lowercase().as_str() {
        "" => std::env::consts::OS.to_owned(),
        "macos" => "darwin".to_owned(),
        os => os.to_owned(),
    }
}

/// The canonical architecture and variant; the variant is empty for the default one.
fn normalize_architecture(architecture: &str, variant: &str) -> (String, String) {
    let architecture = architecture.to_ascii_lowercase();
    let variant = variant.to_ascii_lowercase();
    let (architecture, variant) = match (architecture.as_str(), variant.as_str()) {
        ("i386", _) => ("386", ""),
        ("x86_64" | "x86-64" | "amd64", "v1") => ("amd64", ""),
        ("x86_64" | "x86-64" | "amd64", variant) => ("amd64", variant),
        ("aarch64" | "arm64", "8" | "v8") => ("arm64", ""),
        ("aarch64" | "arm64", variant) => ("arm64", variant),
        ("armhf", _) => ("arm", "v7"),
        ("armel", _) => ("arm", "v6"),
        ("arm", "" | "7") => ("arm", "v7"),
        ("arm", "5") => ("arm", "v5"),
        ("arm", "6") => ("arm", "v6"),
        ("arm", "8") => ("arm", "v8"),
        other => other,
    };
    (architecture.to_owned(), variant.to_owned())
}

/// What runs on a normalized processor, best first, each entry normalized too. Numbers beyond what exists fall back to
/// nothing, so that a hostile variant cannot make a long list.
fn fallbacks(architecture: &str, variant: &str) -> Vec<(String, String)> {
    let mut list = vec![(architecture.to_owned(), variant.to_owned())];
    match architecture {
        "amd64" => {
            for older in (1..variant_number(variant, 1)).rev() {
                list.push(normalize_architecture("amd64", &format!("v{older}")));
            }
            list.push(normalize_architecture("386", ""));
        }
        "arm" => push_arm(&mut list, variant_number(variant, 7)),
        "arm64" => push_arm64(&mut list, variant),
        _ => {}
    }
    list
}

/// The number of a one-digit variant (`v3`); `default` when there is none, 0 when it is something else.
fn variant_number(variant: &str, default: u8) -> u8 {
    match variant.strip_prefix('v').unwrap_or(variant).as_bytes() {
        [] => default,
        [digit @ b'0'..=b'9'] => digit - b'0',
        _ => 0,
    }
}

fn push_arm(list: &mut Vec<(String, String)>, version: u8) {
    for older in (5..version).rev() {
        list.push(("arm".to_owned(), format!("v{older}")));
    }
}

/// v9.x runs v9.{0..x}; v9.0 diverged from v8.5, so it runs v8.{0..x+5}, too; all run 32-bit arm/v8 and older.
fn push_arm64(list: &mut Vec<(String, String)>, variant: &str) {
    let (major, minor) = variant.split_once('.').unwrap_or((variant, "0"));
    let (major, minor) = (variant_number(major, 8), variant_number(minor, 0));
    let mut push_minors = |major: u8, minors: std::ops::Range<u8>| {
        for minor in minors.rev() {
            let variant = if minor == 0 {
                format!("v{major}")
            } else {
                format!("v{major}.{minor}")
            };
            list.push(normalize_architecture("arm64", &variant));
        }
    };
    match major {
        9 => {
            push_minors(9, 0..minor);
            push_minors(8, 0..minor + 6);
        }
        8 => push_minors(8, 0..minor),
        _ => {}
    }
    if (8..=9).contains(&major) {
        list.push(("arm".to_owned(), "v8".to_owned()));
        push_arm(list, 8);
    }
}
