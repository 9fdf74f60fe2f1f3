//! The nouns of the Open Container Initiative as Rust values: digests, references, platforms, image documents,
//! registry bodies and the runtime specification.
//!
//! Pure: nothing here touches a file, a socket or a clock. JSON names are those of the specifications; Go's habits
//! (`null` for an empty list, `""` for an absent string) are accepted on the way in and never produced on the way out.
#![forbid(unsafe_code)]

pub mod digest;
pub mod distribution;
mod go;
pub mod image;
pub mod platform;
pub mod reference;
pub mod runtime;

pub use digest::{Algorithm, Digest, Hasher};
pub use go::UnknownValue;
pub use image::{Descriptor, ImageConfig, Index, Manifest};
pub use platform::Platform;
pub use reference::Reference;
pub use runtime::Spec;
