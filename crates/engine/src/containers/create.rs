//! Making a container: the image's configuration under the request's, defaults, volumes, files, and one transaction for
//! record, name and edges.

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;

use hull_api::container::{ContainerConfig, ContainerCreateRequest, ContainerCreateResponse};
use hull_api::host::HostConfig;
use hull_api::network::EndpointSettings;
use hull_image::Image;
use hull_oci::runtime::IdMapping;
use hull_state::{containers as rows, volumes as volume_rows};
use hull_store::layer::{IdMaps, IdRange};

use super::merge::{command, merge_image};
use super::mounts::{self, Planned};
use super::{discard, validate};
use crate::clock;
use crate::copyup;
use crate::error::{Error, Kind, Result, failed};
use crate::id::{self, new_id};
use crate::networks::plane::NetworkRecord;
use crate::phase::State;
use crate::record::{ContainerRecord, LinkRecord, MountKind, MountRecord, NetworkMode, parse_link};
use crate::rootfs;
use crate::spec::SecurityOptions;
use crate::task;
use crate::undo::Undo;
use crate::volumes::VolumeStore;
use crate::world::{World, blocking};

/// Names tried for a container that was given none.
const NAME_ATTEMPTS: u32 = 8;

/// Makes it; the answer has the id and Docker's warnings.
pub(super) async fn create(
    world: &Arc<World>,
    name: Option<&str>,
    platform: Option<&str>,
    request: ContainerCreateRequest,
) -> Result<ContainerCreateResponse> {
    let name = name
        .filter(|name| !name.is_empty())
        .map(id::container_name)
        .transpose()?
        .map(str::to_owned);
    let platform = platform
        .filter(|platform| !platform.is_empty())
        .map(str::to_owned);
    let mut undo = Undo::new();
    let (id, for_undo) = (new_id(), world.clone());
    {
        let id = id.clone();
        undo.push("the container's files", async move {
            blocking(&for_undo, move |world| drop_files(world, &id)).await
        });
    }
    let made = blocking(world, move |world| {
        make(world, id, name, platform.as_deref(), request)
    })
    .await;
    match made {
        Ok(Made {
            record,
            new_volumes,
            warnings,
        }) => {
            undo.disarm();
            for volume in new_volumes {
                world.events.publish(
                    "volume",
                    "create",
                    &volume,
                    [("driver".to_owned(), "local".to_owned())].into(),
                );
            }
            let (id, attributes) = (record.id.clone(), record.event_attributes());
            task::spawn(world, record, State::created());
            world.events.publish("container", "create", &id, attributes);
            Ok(ContainerCreateResponse { id, warnings })
        }
        Err(error) => Err(undo.unwind(error).await),
    }
}

struct Made {
    record: ContainerRecord,
    new_volumes: Vec<String>,
    warnings: Vec<String>,
}

/// `--storage-opt size=`, the one option that a container may have.
fn limit_size(world: &World, id: &str, options: &BTreeMap<String, String>) -> Result<()> {
    for (key, value) in options {
        if !key.eq_ignore_ascii_case("size") {
            return Err(Error::invalid(format!("Unknown option {key}")));
        }
        let bytes = hull_store::snapshot::parse_size(value)
            .ok_or_else(|| Error::invalid(format!("invalid size: '{value}'")))?;
        world
            .snapshots
            .limit(id, bytes)
            .map_err(|error| match error {
                hull_store::Error::NoLimit(_) => Error::invalid(error.to_string()),
                other => failed("limit the container's file system")(other),
            })?;
    }
    Ok(())
}

/// What a failed create may have left: nothing of it has a row.
fn drop_files(world: &World, id: &str) -> Result<()> {
    if world.db.read(|tx| rows::get(tx, id)).is_ok() {
        world.db.write(|tx| rows::remove(tx, id))?;
    }
    for info in world
        .snapshots
        .walk()
        .map_err(failed("list the snapshots"))?
    {
        if info.key == id || info.key.starts_with(&format!("{id}-image-")) {
            world
                .snapshots
                .remove(&info.key)
                .map_err(failed("remove the container's files"))?;
        }
    }
    match std::fs::remove_dir_all(world.container_dir(id).0) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(failed("remove the container's folder")(error))
        }
        _ => Ok(()),
    }
}

fn make(
    world: &World,
    id: String,
    name: Option<String>,
    platform: Option<&str>,
    request: ContainerCreateRequest,
) -> Result<Made> {
    world.options.failpoints.pass("create.begin")?;
    let ContainerCreateRequest {
        mut config,
        mut host_config,
        networking_config,
    } = request;
    if let Some(name) = &name {
        free_name(world, name)?;
    }
    let image = match config.image.as_str() {
        "" => return Err(Error::invalid("config.Image cannot be empty")),
        reference => world.images.resolve(reference)?,
    };
    if let Some(kind) = &image.artifact_type {
        return Err(Error::invalid(format!(
            "{} is an OCI artifact of type {kind}, not an image: it cannot be run",
            config.image
        )));
    }
    let mut warnings = Vec::new();
    check_platform(&image, platform, &config.image, &mut warnings)?;
    merge_image(&mut config, &image);
    fill_host(world, &mut host_config, &mut warnings)?;
    validate::config(&config, &host_config)?;
    validate::host_config(&host_config)?;
    let lacking = discard::Kernel::running(world.host.cgroup2);
    warnings.extend(discard::limits(&lacking, &mut host_config.resources));
    let (path, args) = command(&config)?;
    if config.cmd.is_empty() && config.entrypoint.first().is_some_and(String::is_empty) {
        config.entrypoint.clear();
    }
    let networks = networks(
        world,
        &host_config,
        &config,
        networking_config.endpoints_config,
    )?;
    let links = links(world, &mut host_config)?;
    let labels = labels(world, &host_config)?;
    let ids = match host_config.userns_mode.as_str() {
        "host" => IdMaps::default(),
        _ => world.options.userns_remap.clone(),
    };
    if !ids.is_identity() {
        validate::remapped(&host_config)?;
    }
    let mut record = ContainerRecord {
        id: id.clone(),
        created: clock::now(),
        image_id: image.id.to_string(),
        path,
        args,
        runtime: if host_config.runtime.is_empty() {
            world.reloadable().default_runtime.clone()
        } else {
            host_config.runtime.clone()
        },
        driver: world.snapshots.name().to_owned(),
        networks,
        links,
        apparmor_profile: labels.apparmor,
        mount_label: labels.mount,
        process_label: labels.process,
        id_mappings: mappings(&ids.uids),
        gid_mappings: mappings(&ids.gids),
        ..ContainerRecord::default()
    };
    known_runtime(world, &record.runtime)?;
    let planned = mounts::plan(
        &config,
        &host_config,
        volumes_from(world, &host_config.volumes_from)?,
    )?;
    record.config = config;
    host_config.runtime.clone_from(&record.runtime);
    record.host = host_config;
    let parent = image.chain_id.as_ref().map(ToString::to_string);
    let prepared = world.snapshots.prepare(&id, parent.as_deref());
    let rootfs = prepared.map_err(|error| match &parent {
        // It was removed since it was found.
        Some(key) if world.snapshots.stat(key).is_err() => {
            Error::not_found(format!("No such image: {}", record.config.image))
        }
        _ => Error::failed("make the container's file system", error),
    })?;
    crate::rootfs::mark(&rootfs, world.options.userns_remap.root())?;
    limit_size(world, &id, &record.host.storage_opt)?;
    world.options.failpoints.pass("create.snapshot")?;
    let dir = world.container_dir(&id).0;
    std::fs::create_dir_all(&dir).map_err(failed(format!("make {}", dir.display())))?;
    crate::logging::make_folder(world, &record)?;
    world.options.failpoints.pass("create.files")?;
    let mut new_volumes = Vec::new();
    for (number, plan) in planned.into_iter().enumerate() {
        let mount = volume(world, &id, plan, number, &mut new_volumes)
            .inspect_err(|_| drop_volumes(world, &new_volumes))?;
        record.mounts.push(mount);
    }
    world
        .options
        .failpoints
        .pass("create.volumes")
        .inspect_err(|_| drop_volumes(world, &new_volumes))?;
    insert(world, &mut record, name).inspect_err(|_| drop_volumes(world, &new_volumes))?;
    Ok(Made {
        record,
        new_volumes,
        warnings,
    })
}

/// Volumes that were made for a create that failed.
fn drop_volumes(world: &World, names: &[String]) {
    for name in names {
        let gone = world
            .db
            .write(|tx| {
                let volume = volume_rows::find(tx, name)?;
                volume_rows::remove(tx, name)?;
                Ok(volume)
            })
            .map_err(Error::from)
            .and_then(|volume| volume.map_or(Ok(()), |volume| world.volumes.discard(&volume)));
        if let Err(error) = gone {
            tracing::warn!(volume = %name, %error, "undo a volume");
        }
    }
}

fn free_name(world: &World, name: &str) -> Result<()> {
    match world.db.read(|tx| rows::id_of_name(tx, name))? {
        None => Ok(()),
        Some(holder) => Err(task::name_taken(
            hull_state::Error::Taken {
                noun: "container name",
                key: name.to_owned(),
                holder,
            },
            name,
        )),
    }
}

/// The one transaction: record, name, edges to volumes.
fn insert(world: &World, record: &mut ContainerRecord, name: Option<String>) -> Result<()> {
    let phase =
        serde_json::to_string(&State::created()).map_err(failed("encode the container's state"))?;
    let text = record.encode()?;
    let attempts = if name.is_some() { 1 } else { NAME_ATTEMPTS };
    for attempt in 0..attempts {
        let candidate = name.clone().unwrap_or_else(|| id::made_up_name(attempt));
        let row = rows::Container {
            id: record.id.clone(),
            name: candidate.clone(),
            image_id: record.image_id.clone(),
            snapshot_key: record.id.clone(),
            created: record.created.clone(),
            record: text.clone(),
            phase: phase.clone(),
        };
        let inserted = world.db.try_write(|tx| {
            rows::insert(tx, &row).map_err(|error| task::name_taken(error, &candidate))?;
            for mount in record
                .mounts
                .iter()
                .filter(|mount| mount.kind == MountKind::Volume)
            {
                if volume_rows::find(tx, &mount.name)?.is_none() {
                    return Err(removed_meanwhile(&mount.name));
                }
                volume_rows::add_user(tx, &mount.name, &record.id)?;
            }
            world.options.failpoints.pass("create.row")
        });
        match inserted {
            Ok(()) => {
                record.name = candidate;
                return Ok(());
            }
            Err(error) if error.kind == Kind::Conflict && attempt + 1 < attempts => {}
            Err(error) => return Err(error),
        }
    }
    Err(Error::internal("no free name was found for the container"))
}

fn removed_meanwhile(volume: &str) -> Error {
    Error::conflict(format!("volume {volume} was removed meanwhile"))
}

fn check_platform(
    image: &Image,
    wanted: Option<&str>,
    reference: &str,
    warnings: &mut Vec<String>,
) -> Result<()> {
    let own = image.config.platform();
    let Some(wanted) = wanted else {
        let host = hull_oci::Platform::host();
        if !own.matches(&host) {
            warnings.push(format!(
                "The requested image's platform ({own}) does not match the detected host platform ({host}) and no specific platform was requested"
            ));
        }
        return Ok(());
    };
    let platform =
        hull_oci::Platform::parse(wanted).map_err(|error| Error::invalid(error.to_string()))?;
    if own.matches(&platform) {
        return Ok(());
    }
    Err(Error::not_found(format!(
        "image with reference {reference} was found but does not provide the specified platform ({wanted})"
    )))
}

/// Docker's defaults, from the daemon's configuration where it has a say.
fn fill_host(world: &World, host: &mut HostConfig, warnings: &mut Vec<String>) -> Result<()> {
    let options = &world.options;
    if matches!(host.network_mode.as_str(), "" | "default") {
        host.network_mode = if options.bridge.name.as_deref() == Some("none") {
            "none"
        } else {
            "bridge"
        }
        .to_owned();
    }
    let reloadable = world.reloadable();
    if host.ipc_mode.is_empty() {
        reloadable.ipc_mode().clone_into(&mut host.ipc_mode);
    }
    if host.cgroupns_mode.is_empty() {
        let private = world.host.cgroup2 && !host.privileged;
        reloadable
            .cgroupns_mode(private)
            .clone_into(&mut host.cgroupns_mode);
    }
    if host.shm_size == 0 && host.ipc_mode != "host" && !host.ipc_mode.starts_with("container:") {
        host.shm_size = reloadable.default_shm_size;
    }
    if host.restart_policy.name.is_empty() {
        host.restart_policy.name = "no".to_owned();
    }
    if host.log_config.kind.is_empty() {
        host.log_config.kind.clone_from(&options.log_driver);
    }
    if host.log_config.kind == options.log_driver {
        for (key, value) in &options.log_options {
            host.log_config
                .config
                .entry(key.clone())
                .or_insert_with(|| value.clone());
        }
    }
    crate::logging::check(&host.log_config)?;
    let resources = &mut host.resources;
    if resources.memory > 0 && resources.memory_swap == 0 {
        resources.memory_swap = resources.memory.saturating_mul(2);
    }
    if resources.memory_swappiness == Some(-1) {
        resources.memory_swappiness = None;
    }
    if resources.pids_limit == Some(0) {
        resources.pids_limit = None;
    }
    if !host.privileged {
        let masked = || {
            let mut paths = hull_security::defaults::masked_paths();
            paths.extend_from_slice(&world.host.masked_cpu_paths);
            paths
        };
        let read_only = hull_security::defaults::readonly_paths;
        let unconfined = SecurityOptions::parse(&host.security_opt)?.system_paths_unconfined;
        if !unconfined {
            host.masked_paths.get_or_insert_with(masked);
            host.readonly_paths.get_or_insert_with(read_only);
        }
    }
    if options.no_new_privileges
        && !host
            .security_opt
            .iter()
            .any(|option| option.starts_with("no-new-privileges"))
    {
        host.security_opt.push("no-new-privileges".to_owned());
    }
    hull_security::caps::tweak(&host.cap_add, &host.cap_drop, host.privileged)
        .map_err(|error| Error::invalid(error.to_string()))?;
    if host.resources.oom_kill_disable == Some(true) && host.resources.memory == 0 {
        warnings.push(
            "OOM killer is disabled for the container, but no memory limit is set, this can result in the system running out of resources."
                .to_owned(),
        );
    }
    if let NetworkMode::Host = NetworkMode::parse(&host.network_mode)
        && (!host.port_bindings.is_empty() || host.publish_all_ports)
    {
        warnings.push("Published ports are discarded when using host network mode".to_owned());
    }
    Ok(())
}

fn mappings(ranges: &[IdRange]) -> Vec<IdMapping> {
    ranges
        .iter()
        .map(|range| IdMapping {
            container_id: range.inside,
            host_id: range.outside,
            size: range.length,
        })
        .collect()
}

fn known_runtime(world: &World, name: &str) -> Result<()> {
    let known = matches!(name, "runc" | "hull" | "io.containerd.runc.v2")
        || world.reloadable().runtimes.contains_key(name);
    if known {
        Ok(())
    } else {
        Err(Error::invalid(format!(
            "unknown or invalid runtime name: {name}"
        )))
    }
}

/// The networks asked for, by name; the one of the network mode always among them.
fn networks(
    world: &World,
    host: &HostConfig,
    config: &ContainerConfig,
    asked: BTreeMap<String, Option<EndpointSettings>>,
) -> Result<BTreeMap<String, EndpointSettings>> {
    let mode = NetworkMode::parse(&host.network_mode);
    if config.network_disabled {
        return Ok(BTreeMap::new());
    }
    let main = match mode {
        NetworkMode::Container(target) => {
            // As in Docker it need not be there before the start, which refuses what it cannot join.
            if let Ok(handle) = world.registry.find(target)
                && let NetworkMode::Container(_) = handle.view().record.network_mode()
            {
                return Err(Error::conflict(format!(
                    "cannot join own network namespace of container {target}, which joins another"
                )));
            }
            if !host.port_bindings.is_empty() || host.publish_all_ports {
                return Err(Error::invalid(
                    "conflicting options: port publishing and the container type network mode",
                ));
            }
            return Ok(BTreeMap::new());
        }
        NetworkMode::Bridge => "bridge",
        NetworkMode::Host => "host",
        NetworkMode::None => "none",
        NetworkMode::Named(name) => name,
    };
    let mut networks: BTreeMap<String, EndpointSettings> = BTreeMap::new();
    let record = known_network(world, main)?;
    let main_name = record
        .as_ref()
        .map_or(main, |record| &record.network.name)
        .to_owned();
    networks.insert(main_name.clone(), EndpointSettings::default());
    for (name, settings) in asked {
        let settings = settings.unwrap_or_default();
        let same = name == main
            || name == main_name
            || record
                .as_ref()
                .is_some_and(|record| record.network.id == name)
            || (name == "default" && mode == NetworkMode::Bridge);
        let found = if same {
            record.clone()
        } else {
            known_network(world, &name)?
        };
        if let Some(found) = &found {
            validate::endpoint(&found.network.name, &settings, found)?;
        }
        if !same && matches!(mode, NetworkMode::Host | NetworkMode::None) {
            return Err(Error::invalid(
                "conflicting options: cannot attach both user-defined and non-user-defined network-modes",
            ));
        }
        let name = match (same, found) {
            (true, _) => main_name.clone(),
            (false, Some(found)) => found.network.name,
            (false, None) => name,
        };
        networks.insert(name, settings);
    }
    if let Some(settings) = networks.get_mut(&main_name)
        && settings.mac_address.is_empty()
    {
        settings.mac_address.clone_from(&config.mac_address);
    }
    Ok(networks)
}

/// As in Docker a network need not be there before the start, which refuses what it cannot find.
fn known_network(world: &World, name: &str) -> Result<Option<NetworkRecord>> {
    match world.plane.find(name) {
        Ok(record) => Ok(Some(record)),
        Err(error) if error.kind == Kind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The links of the default bridge, taken out of the configuration. On a network of the user's they belong to the endpoint, and as in
/// Docker the container's own list means nothing.
fn links(world: &World, host: &mut HostConfig) -> Result<Vec<LinkRecord>> {
    let asked = std::mem::take(&mut host.links);
    if let NetworkMode::Named(_) = NetworkMode::parse(&host.network_mode) {
        return Ok(Vec::new());
    }
    let mut links: Vec<LinkRecord> = Vec::new();
    for link in &asked {
        let (name, alias) = parse_link(link)?;
        let target = world.registry.find(name).map_err(|error| {
            not_an_image(error.context(format!("could not get container for {name}")))
        })?;
        if let NetworkMode::Host = target.view().record.network_mode() {
            return Err(Error::invalid(
                "conflicting options: host type networking can't be used with links. This would result in undefined behavior",
            ));
        }
        if links.iter().any(|known| known.alias == alias) {
            return Err(Error::conflict(format!(
                "Conflict. The link name {alias:?} is used twice"
            )));
        }
        links.push(LinkRecord {
            target: target.id.clone(),
            alias: alias.to_owned(),
        });
    }
    Ok(links)
}

#[derive(Default)]
struct Labels {
    apparmor: String,
    mount: String,
    process: String,
}

fn labels(world: &World, host: &HostConfig) -> Result<Labels> {
    let security = SecurityOptions::parse(&host.security_opt)?;
    let mut labels = Labels::default();
    if world.host.apparmor {
        labels.apparmor = match (&security.apparmor, host.privileged) {
            (Some(profile), _) => profile.clone(),
            (None, true) => "unconfined".to_owned(),
            (None, false) => hull_security::apparmor::DEFAULT_PROFILE.to_owned(),
        };
    } else if let Some(profile) = security.apparmor.filter(|profile| profile != "unconfined") {
        return Err(Error::invalid(format!(
            "AppArmor is not enabled on this host, so the profile {profile} cannot be used"
        )));
    }
    if world.host.selinux {
        let (process, mount) = selinux_labels(world, host, &security.labels)?;
        (labels.process, labels.mount) = (process, mount);
    }
    Ok(labels)
}

/// SELinux labels of the process and of its files; empty ones without confinement.
fn selinux_labels(
    world: &World,
    host: &HostConfig,
    options: &[String],
) -> Result<(String, String)> {
    use hull_security::selinux::{Categories, Contexts, Label, labels};
    let mut options: Vec<String> = options.to_vec();
    if options.is_empty() {
        let open = host.privileged || host.pid_mode == "host" || host.ipc_mode == "host";
        if open {
            // It sees the host's processes and memory: a label would only be in its way.
            return Ok((String::new(), String::new()));
        }
        // Who shares another container's processes or memory shares its level.
        let shared = [&host.ipc_mode, &host.pid_mode];
        if let Some(target) = shared.iter().find_map(|m| m.strip_prefix("container:")) {
            let other = world.registry.find(target).map_err(not_an_image)?.view();
            match other.record.process_label.parse::<Label>() {
                Ok(label) => options.push(format!("level:{}", label.level)),
                Err(_) => return Ok((String::new(), String::new())),
            }
        }
    }
    let in_use = || {
        let views = world.registry.views();
        let levels = views.iter().filter_map(|view| {
            let label: Label = view.record.process_label.parse().ok()?;
            Categories::of_level(&label.level)
        });
        levels.collect()
    };
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    let fresh = || Categories::allocate(&in_use(), rand::random);
    let chosen = labels(&Contexts::load(), &options, fresh)
        .map_err(|error| Error::invalid(error.to_string()))?;
    Ok(chosen.map_or_else(Default::default, |labels| {
        (labels.process.to_string(), labels.mount.to_string())
    }))
}

/// Something that a request to create names and that is not there, other than the image: not as "not found", which clients of `create`
/// take for a missing image, and would pull one.
fn not_an_image(error: Error) -> Error {
    Error::invalid(error.to_string())
}

fn volumes_from(world: &World, list: &[String]) -> Result<Vec<MountRecord>> {
    let mut inherited: Vec<MountRecord> = Vec::new();
    for entry in list {
        let (source, mode) = entry.split_once(':').unwrap_or((entry, "rw"));
        let read_only = match mode {
            "rw" | "z" | "Z" => false,
            "ro" => true,
            other => {
                return Err(Error::invalid(format!(
                    "invalid mode for volumes-from: {other}"
                )));
            }
        };
        let view = world.registry.find(source).map_err(not_an_image)?.view();
        for mount in &view.record.mounts {
            let mut mount = mount.clone();
            mount.rw &= !read_only;
            mount.anonymous = false;
            inherited.retain(|known| known.destination != mount.destination);
            inherited.push(mount);
        }
    }
    Ok(inherited)
}

/// Makes the volume of a planned mount where it needs one, and fills it from the image.
fn volume(
    world: &World,
    id: &str,
    plan: Planned,
    number: usize,
    new: &mut Vec<String>,
) -> Result<MountRecord> {
    let mut record = plan.record;
    match record.kind {
        MountKind::Bind | MountKind::Tmpfs => {}
        MountKind::Image => {
            let image = world.images.resolve(&record.name)?;
            let chain = image.chain_id.ok_or_else(|| {
                Error::invalid(format!("image {} has no layers to mount", record.name))
            })?;
            world
                .snapshots
                .view(&task::image_view_key(id, number), &chain.to_string())
                .map_err(failed(format!("mount the image {}", record.name)))?;
            record.source = image.id.to_string();
        }
        MountKind::Volume => {
            if !record.source.is_empty() {
                // Inherited: it is there, and filled.
                return Ok(record);
            }
            let (volume, made) = world
                .volumes
                .ensure(&plan.volume, &world.options.failpoints)
                .map_err(|error| match error.kind {
                    Kind::NotFound => not_an_image(error),
                    _ => error,
                })?;
            if made {
                new.push(volume.name.clone());
            }
            record.source = world.volumes.known_path(&volume);
            record.name = volume.name;
            record.driver = volume.driver;
            if !plan.no_copy {
                let mounts = world
                    .snapshots
                    .mounts(id)
                    .map_err(failed("mount the container's file system"))?;
                let root = rootfs::open_read_only(&mounts)?;
                copyup::fill(root.as_fd(), &record.destination, |fill| {
                    world.volumes.with_mounted(&record.name, |place| {
                        let place = place.unwrap_or(Path::new(&record.source));
                        fill(VolumeStore::open_top(place)?.as_fd())
                    })
                })
                .map_err(|error| {
                    // No container uses it yet, so another client may remove it.
                    match world.db.read(|tx| volume_rows::find(tx, &record.name)) {
                        Ok(None) => removed_meanwhile(&record.name),
                        Ok(Some(_)) | Err(_) => error,
                    }
                })?;
            }
        }
    }
    Ok(record)
}
