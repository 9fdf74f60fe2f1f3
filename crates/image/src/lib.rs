//! Image names to descriptors: pull and push client, unpack, save and load, platforms.
//!
//! [`Images`] is the one service. What talks to a registry is async; everything else blocks and is meant for
//! `spawn_blocking`, except the look-ups ([`Images::resolve`], [`Images::list`], [`Images::tag`]) which take less than a
//! millisecond. Containers are unknown here: who removes an image says which containers use it.
#![forbid(unsafe_code)]

mod artifact;
mod commit;
mod compress;
mod download;
mod error;
mod fetch;
mod images;
mod import;
mod lease;
mod load;
mod locks;
mod manifests;
mod policy;
mod present;
mod progress;
mod pull;
mod push;
mod registry;
mod remote;
mod remove;
mod save;
mod search;
mod signature;
mod types;
mod unpack;

pub use download::Download;
pub use error::{Error, Kind, Result};
pub use images::Images;
pub use manifests::{ManifestInfo, ManifestKind};
pub use policy::Policy;
pub use progress::{Progress, ProgressSink};
pub use remote::{Remote, RemoteDocument};
pub use save::Selected;
pub use search::{Found, SearchOptions};
pub use types::{
    Auth, CommitOptions, DistributionInspect, Failpoint, HistoryEntry, Image, ImageUser,
    ImagesOptions, ImportOptions, LayerInfo, LoadOptions, Loaded, Login, Proxies, PruneOutcome,
    PullOptions, PullOutcome, PushOptions, PushOutcome, RegistryConfig, Removed, Transfers,
};
