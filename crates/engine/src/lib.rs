//! Container, exec, volume, image, network services; policy, restore, events, prune. No HTTP.
//!
//! `Engine::open` puts the services together and takes over what an earlier daemon left. One task owns each container's
//! phase; see `phase` for the states, `admit` for what is allowed when.
#![forbid(unsafe_code)]
// Until the services below are wired to the modules beside them.
#![allow(dead_code, unused_imports)]

pub mod admit;
mod clock;
pub mod containers;
pub mod error;
pub mod events;
pub mod execs;
pub mod failpoint;
mod id;
pub mod images;
pub mod networks;
pub mod options;
pub mod phase;
mod shim;
pub mod streams;
pub mod system;
mod undo;
pub mod volumes;

pub use containers::Containers;
pub use error::{Error, Kind, Result};
pub use events::Events;
pub use execs::Execs;
pub use images::Images;
pub use networks::Networks;
pub use options::{BridgeOptions, EngineOptions};
pub use system::System;
pub use volumes::Volumes;

/// The engine: its services, each a cheap clone. `daemon` calls them and knows no container rule itself.
#[derive(Clone)]
pub struct Engine {
    /// Containers.
    pub containers: Containers,
    /// Further processes in containers.
    pub execs: Execs,
    /// Images.
    pub images: Images,
    /// Volumes.
    pub volumes: Volumes,
    /// Networks.
    pub networks: Networks,
    /// The host and the engine itself.
    pub system: System,
    /// What happened.
    pub events: Events,
}

impl Engine {
    /// Opens the data root, makes the default networks, and takes over or buries what an earlier daemon left.
    pub async fn open(options: EngineOptions) -> Result<Engine> {
        let _ = options;
        Err(Error::missing("engine"))
    }

    /// Ends in good order. `stop_containers`: also the containers, each with its own stop signal and time
    /// (`--live-restore=false`); else they run on, and the next daemon finds them.
    pub async fn shutdown(&self, stop_containers: bool) -> Result<()> {
        let _ = stop_containers;
        Err(Error::missing("engine shutdown"))
    }
}
