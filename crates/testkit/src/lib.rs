//! Test support: leak guards, throwaway directories, image and bundle fixtures, a registry and a Docker CLI to test against, and a
//! virtual machine for what the test machine's own kernel lacks.
//!
//! Used only from tests, so a failure here panics or is an [`anyhow::Error`] with what was attempted. Nothing here imitates a kernel,
//! a registry or a client: they are the real ones from Debian, and where one is missing the test says so with [`skip!`].
#![forbid(unsafe_code)]

pub mod binary;
pub mod bundle;
pub mod docker;
pub mod image;
pub mod leaks;
pub mod net;
pub mod plugin;
pub mod process;
pub mod registry;
pub mod skips;
pub mod temp;
pub mod vm;

pub use leaks::Leaks;
pub use temp::TempRoot;
