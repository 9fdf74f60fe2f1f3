//! Container, exec, volume, image, network services; policy, restore, events, prune. No HTTP.
//!
//! `Engine::open` puts the services together and takes over what an earlier daemon left. One task owns each container's
//! phase; see `phase` for the states, `admit` for what is allowed when.
#![forbid(unsafe_code)]

pub mod admit;
mod cdi;
mod changes;
mod clock;
mod commit;
pub mod containers;
mod copyup;
mod detach;
pub mod error;
pub mod events;
pub mod execs;
pub mod failpoint;
mod files;
mod health;
mod id;
mod image_filter;
mod image_manifests;
pub mod images;
mod logging;
pub mod networks;
pub mod options;
pub mod phase;
mod pipe;
mod record;
mod reload;
mod restore;
mod rootfs;
mod shim;
mod signal;
mod spec;
pub mod streams;
mod subpath;
pub mod system;
mod tarfile;
mod task;
mod undo;
pub mod volumes;
mod world;

use std::path::Path;
use std::sync::{Arc, RwLock};

use hull_state::Db;
use hull_store::content::Content;

pub use containers::Containers;
pub use error::{Error, Kind, Result};
pub use events::Events;
pub use execs::Execs;
pub use hull_image::Proxies;
pub use hull_plugin::{Options as PluginOptions, Plugins};
pub use hull_store::layer::{IdMaps, IdRange};
pub use images::Images;
pub use networks::Networks;
pub use options::{BridgeOptions, EngineOptions};
pub use reload::Reloadable;
pub use system::System;
pub use volumes::Volumes;

use crate::error::failed;
use crate::world::{World, blocking};

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
    /// The plugins.
    pub plugins: Arc<Plugins>,
    world: Arc<World>,
}

impl Engine {
    /// Opens the data root, makes the default networks, and takes over or buries what an earlier daemon left.
    pub async fn open(options: EngineOptions) -> Result<Engine> {
        let opened = tokio::task::spawn_blocking(move || open_world(options)).await;
        let world = Arc::new(opened.map_err(failed("open the engine"))??);
        blocking(&world, networks::defaults::ensure).await?;
        restore::restore(&world).await?;
        Ok(Engine {
            containers: Containers {
                world: world.clone(),
            },
            execs: Execs {
                world: world.clone(),
            },
            images: Images {
                world: world.clone(),
            },
            volumes: Volumes {
                world: world.clone(),
            },
            networks: Networks {
                world: world.clone(),
            },
            system: System {
                world: world.clone(),
            },
            events: world.events.clone(),
            plugins: world.plugins.clone(),
            world,
        })
    }

    /// Whether experimental requests are served.
    #[must_use]
    pub fn experimental(&self) -> bool {
        self.world.options.experimental
    }

    /// Ends in good order. `stop_containers`: also the containers, each with its own stop signal and time
    /// (`--live-restore=false`); else they run on, and the next daemon finds them.
    pub async fn shutdown(&self, stop_containers: bool) -> Result<()> {
        if stop_containers {
            restore::stop_all(&self.world).await?;
        }
        restore::leave_all(&self.world).await?;
        blocking(&self.world, |world| {
            // Containers that run on need their rules; without any, nothing of this daemon is left in the firewall.
            let firewall = match world.plane.attachments()?.is_empty() {
                true => world.plane.host.remove_firewall().map_err(Error::from),
                false => Ok(()),
            };
            let cgroup = hull_runtime::cgroup::remove_empty(options::DEFAULT_CGROUP)
                .map_err(failed("remove the empty cgroups"));
            let checkpoint = world.db.checkpoint().map_err(Error::from);
            firewall.and(cgroup).and(checkpoint)
        })
        .await
    }
}

fn make_dir(path: &Path, mode: u32) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(path)
        .map_err(failed(format!("make {}", path.display())))
}

fn open_world(options: EngineOptions) -> Result<World> {
    make_dir(&options.data_root, 0o710)?;
    make_dir(&options.data_root.join("containers"), 0o710)?;
    make_dir(&options.exec_root, 0o711)?;
    let db = Db::open(options.data_root.join("state.db"))?;
    let snapshots = hull_store::snapshot::open(
        options.storage_driver.as_deref(),
        &options.storage_options,
        &options.data_root.join("snapshots"),
        db.clone(),
    )
    .map_err(failed("open the storage driver"))?;
    let content =
        Content::open(options.data_root.join("blobs")).map_err(failed("open the content store"))?;
    let mut image_options = hull_image::ImagesOptions::new(db.clone(), content, snapshots.clone());
    let transfers = options.reloadable.transfers();
    image_options.registries = hull_image::RegistryConfig {
        mirrors: transfers.mirrors,
        insecure: transfers.insecure,
        certs_dir: Some(
            options
                .certs_dir
                .clone()
                .unwrap_or_else(|| "/etc/docker/certs.d".into()),
        ),
        proxies: options.proxies.clone(),
        ..hull_image::RegistryConfig::default()
    };
    image_options.policy = match &options.signature_policy {
        Some(path) => Some(hull_image::Policy::read(path)?),
        None => None,
    };
    image_options.ids = options.userns_remap.clone();
    let failpoints = options.failpoints.clone();
    image_options.failpoint = Some(Arc::new(move |point| {
        failpoints.pass(point).map_err(|error| error.message)
    }));
    image_options.max_concurrent_downloads = transfers.max_concurrent_downloads;
    image_options.max_concurrent_uploads = transfers.max_concurrent_uploads;
    image_options.max_download_attempts = transfers.max_download_attempts;
    let images = hull_image::Images::new(image_options)?;
    let host = hull_network::Host::open(hull_network::HostOptions {
        exec_root: options.exec_root.clone(),
        instance: options.instance.clone(),
        firewall: options.firewall,
        ip6tables: options.ip6tables,
        ip_forward: options.ip_forward,
        userland_proxy: options.userland_proxy,
    })?;
    let pools = if options.address_pools.is_empty() {
        hull_network::ipam::default_pools()
    } else {
        options.address_pools.clone()
    };
    let facts = host_facts(options.selinux);
    if facts.apparmor {
        hull_security::apparmor::ensure_default_profile()
            .map_err(failed("load the AppArmor profile"))?;
    }
    let plugins = Arc::new(Plugins::new(options.plugins.clone()));
    Ok(World {
        plane: networks::plane::Plane {
            db: db.clone(),
            host,
            pools,
        },
        volumes: volumes::VolumeStore::open(
            db.clone(),
            &options.data_root,
            options.userns_remap.root(),
            plugins.clone(),
        )?,
        plugins,
        launcher: shim::Launcher::new(&options.exec_root, options.shim_program.clone())?,
        events: Events::new(),
        seccomp_profile: system::seccomp_profile(options.seccomp_profile.as_deref())?,
        registry: world::Registry::default(),
        execs: execs::ExecTable::default(),
        host: facts,
        db,
        snapshots,
        images,
        reloadable: RwLock::new(Arc::new(options.reloadable.clone())),
        options,
    })
}

fn host_facts(selinux: bool) -> spec::HostFacts {
    let kernel = hull_security::seccomp::Kernel::running();
    spec::HostFacts {
        cgroup2: Path::new("/sys/fs/cgroup/cgroup.controllers").exists(),
        recursive_read_only: (kernel.major, kernel.minor) >= (5, 12),
        hostname: rustix::system::uname()
            .nodename()
            .to_string_lossy()
            .into_owned(),
        kernel,
        apparmor: hull_security::apparmor::is_enabled(),
        selinux: selinux && hull_security::selinux::is_enabled(),
        masked_cpu_paths: hull_security::defaults::masked_cpu_paths(),
    }
}
