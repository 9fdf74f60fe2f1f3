//! The blocking steps of a start: what is asked of the host and written to disk before the shim runs.

use std::net::IpAddr;
use std::os::fd::AsFd;
use std::path::Path;

use hull_api::network::EndpointSettings;
use hull_network::PortMapping;
use hull_shim::protocol::{Runtime, ShimConfig};
use hull_state::containers as rows;

use super::join::Joined;
use crate::error::{Error, Result, failed};
use crate::files::{self, Resolver};
use crate::networks::plane::{Attachment, Owner, Wanted, dns_config};
use crate::networks::ports;
use crate::options::DEFAULT_CGROUP;
use crate::record::{ContainerRecord, MountKind, MountRecord, NetworkMode};
use crate::rootfs;
use crate::spec::{
    self, ExtraMount, Inputs, NamespaceSource, Namespaces, ResolvedUser, SeccompChoice,
    SecurityOptions,
};
use crate::world::World;

/// What the start sequence needs of the written bundle.
pub(super) struct Bundle {
    /// Servers that the embedded DNS server asks.
    pub(super) upstreams: Vec<IpAddr>,
}

fn with_owner<T>(
    record: &ContainerRecord,
    world: &World,
    ports: &[PortMapping],
    body: impl FnOnce(&Owner<'_>) -> T,
) -> T {
    let hostname = spec::hostname(record, &world.host);
    body(&Owner {
        id: &record.id,
        name: &record.name,
        hostname: &hostname,
        ports,
        mac_address: &record.config.mac_address,
    })
}

/// Leases on all networks of the container, and the phase `Starting`, in one transaction.
pub(super) fn lease(
    world: &World,
    record: &ContainerRecord,
    starting: &str,
) -> Result<Vec<Attachment>> {
    let set_phase = |tx: &hull_state::Tx| Ok(rows::set_phase(tx, &record.id, starting)?);
    if !record.network_mode().is_private() || record.config.network_disabled {
        world.db.try_write(set_phase)?;
        return Ok(Vec::new());
    }
    let published = ports::requested(record)?;
    let wanted: Vec<Wanted<'_>> = record
        .networks
        .iter()
        .map(|(name, settings)| Wanted {
            network: name,
            settings,
        })
        .collect();
    check_endpoints(world, &wanted)
        .and_then(|()| {
            with_owner(record, world, &published, |owner| {
                world.plane.lease(owner, &wanted, set_phase)
            })
        })
        .map_err(|error| error.context("failed to set up container networking"))
}

/// What create could not look at, where the network was not there yet.
fn check_endpoints(world: &World, wanted: &[Wanted<'_>]) -> Result<()> {
    for want in wanted {
        let network = world.plane.find(want.network)?;
        crate::containers::validate::endpoint(&network.network.name, want.settings, &network)?;
    }
    Ok(())
}

/// Leases on one more network of a running container.
pub(super) fn lease_one(
    world: &World,
    record: &ContainerRecord,
    network: &str,
    settings: &EndpointSettings,
) -> Result<Attachment> {
    let wanted = [Wanted { network, settings }];
    let mut leased = with_owner(record, world, &[], |owner| {
        world.plane.lease(owner, &wanted, |_| Ok(()))
    })?;
    let mut attachment = leased
        .pop()
        .ok_or_else(|| Error::internal("no endpoint was leased"))?;
    // The default route stays where it is.
    attachment.endpoint.default_route = false;
    Ok(attachment)
}

/// Starts the embedded DNS server of a container that gets its first user-defined network while it runs.
pub(crate) fn start_dns(world: &World, record: &ContainerRecord) -> Result<()> {
    let resolver = resolver(world, record)?;
    world
        .plane
        .host
        .dns_start(&record.id, dns_config(&resolver.reachable()))?;
    files::write(
        &world.container_dir(&record.id).resolv_conf(),
        &resolver.render_embedded(),
    )
}

/// The other way round: where none of the networks that a running container is left with has names, its embedded DNS server ends. No later
/// daemon would start it, and the container's resolv.conf must not name it.
pub(crate) fn without_dns(
    world: &World,
    record: &ContainerRecord,
    leaving: &Attachment,
    left: &[Attachment],
) -> Result<()> {
    let has_dns = |attachment: &Attachment| attachment.network.has_dns();
    if !has_dns(leaving) || left.iter().any(has_dns) {
        return Ok(());
    }
    world.plane.host.dns_stop(&record.id);
    let resolver = resolver(world, record)?;
    files::write(
        &world.container_dir(&record.id).resolv_conf(),
        &resolver.render(&resolver.reachable()),
    )
}

fn resolver(world: &World, record: &ContainerRecord) -> Result<Resolver> {
    let parse = |text: &String| {
        text.parse()
            .map_err(|_| Error::invalid(format!("{text} is not an ip address")))
    };
    let own: Vec<IpAddr> = record.host.dns.iter().map(parse).collect::<Result<_>>()?;
    let or = |own: &[String], daemon: &[String]| {
        if own.is_empty() {
            daemon.to_vec()
        } else {
            own.to_vec()
        }
    };
    Ok(Resolver::of_host().overridden(
        if own.is_empty() {
            &world.options.dns
        } else {
            &own
        },
        &or(&record.host.dns_search, &world.options.dns_search),
        &or(&record.host.dns_options, &world.options.dns_options),
    ))
}

/// Writes hostname, hosts, resolv.conf, `config.json` and `shim.json`.
pub(super) fn bundle(
    world: &World,
    record: &ContainerRecord,
    attachments: &[Attachment],
    joined: Joined,
) -> Result<Bundle> {
    let resolver = resolver(world, record)?;
    etc_files(world, record, attachments, &resolver)?;
    world.options.failpoints.pass("start.files")?;
    let rootfs = world
        .snapshots
        .mounts(&record.id)
        .map_err(failed("mount the container's file system"))?;
    let user = spec::resolve_user(
        &record.config.user,
        &record.host.group_add,
        &rootfs::user_files(&rootfs)?,
    )?;
    let security = SecurityOptions::parse(&record.host.security_opt)?;
    let (capabilities, seccomp) = privileges(world, record, &security)?;
    let inputs = Inputs {
        record,
        host: &world.host,
        namespaces: namespaces(world, record, joined),
        user,
        mounts: extra_mounts(world, record, joined)?,
        devices: spec::resolve_devices(&record.host)?,
        security,
        capabilities,
        seccomp,
        cgroups_path: cgroups_path(world, record),
        init: init_program(world, record)?,
        link_env: super::links::environment(world, record),
        default_shm_size: world.reloadable().default_shm_size,
        default_ulimits: &world.options.default_ulimits,
    };
    let mut spec = spec::build(&inputs)?;
    crate::cdi::inject(&world.options.cdi_spec_dirs, &record.host, &mut spec)?;
    world.options.failpoints.pass("start.spec")?;
    let config = ShimConfig {
        id: record.id.clone(),
        bundle: world.launcher.dir(&record.id),
        state_root: world.options.exec_root.join("runtime"),
        rootfs,
        terminal: record.config.tty,
        open_stdin: record.config.open_stdin,
        stdin_once: record.config.stdin_once,
        runtime: runtime(world, record)?,
        cgroup_manager: world.options.cgroup_manager,
        log: crate::logging::log_config(world, record)?,
    };
    world.launcher.write_bundle(&config, &spec)?;
    Ok(Bundle {
        upstreams: resolver.reachable(),
    })
}

fn runtime(world: &World, record: &ContainerRecord) -> Result<Runtime> {
    match record.runtime.as_str() {
        "" | "runc" | "hull" | "io.containerd.runc.v2" => Ok(Runtime::Internal),
        name => world
            .reloadable()
            .runtimes
            .get(name)
            .cloned()
            .ok_or_else(|| Error::invalid(format!("unknown or invalid runtime name: {name}"))),
    }
}

pub(crate) fn cgroups_path(world: &World, record: &ContainerRecord) -> String {
    use hull_shim::protocol::CgroupManager as M;
    let own =
        Some(record.host.resources.cgroup_parent.as_str()).filter(|parent| !parent.is_empty());
    let parent = own.or(world.options.cgroup_parent.as_deref());
    match world.options.cgroup_manager {
        M::Cgroupfs => format!(
            "/{}/{}",
            parent.unwrap_or(DEFAULT_CGROUP).trim_matches('/'),
            record.id
        ),
        M::Systemd => format!("{}:hull:{}", parent.unwrap_or("system.slice"), record.id),
    }
}

/// The program that `--init` puts in front, as a file that can be mounted.
fn init_program(world: &World, record: &ContainerRecord) -> Result<Option<std::path::PathBuf>> {
    if !record.host.init.unwrap_or(world.options.init) {
        return Ok(None);
    }
    match &world.options.init_program {
        Some(path) => Ok(Some(path.clone())),
        None => std::env::current_exe()
            .map(Some)
            .map_err(failed("find this program, to be the container's init")),
    }
}

/// Capabilities by name, and the system call filter that goes with them.
pub(crate) fn privileges(
    world: &World,
    record: &ContainerRecord,
    security: &SecurityOptions,
) -> Result<(Vec<String>, Option<hull_oci::runtime::Seccomp>)> {
    use hull_security::{caps, seccomp};
    let caps = caps::tweak(
        &record.host.cap_add,
        &record.host.cap_drop,
        record.host.privileged,
    )
    .map_err(|error| Error::invalid(error.to_string()))?;
    let kernel = world.host.kernel;
    let from_json = |text: &str| {
        seccomp::from_docker_json(text, &caps, kernel).map_err(|error| {
            Error::invalid(format!(
                "Decoding seccomp profile failed: {}",
                crate::error::chain(&error)
            ))
        })
    };
    let profile = match (&security.seccomp, record.host.privileged) {
        // A profile that is asked for counts even when privileged.
        (SeccompChoice::Profile(text), _) => from_json(text)?,
        (SeccompChoice::Unconfined, _)
        | (SeccompChoice::Default | SeccompChoice::Builtin, true) => None,
        (SeccompChoice::Builtin, false) => Some(seccomp::default_profile(&caps, kernel)),
        (SeccompChoice::Default, false) => match (
            world.options.seccomp_profile.as_deref(),
            &world.seccomp_profile,
        ) {
            (Some("unconfined"), _) => None,
            (_, Some(text)) => from_json(text)?,
            (_, None) => Some(seccomp::default_profile(&caps, kernel)),
        },
    };
    Ok((
        caps.iter().map(|cap| cap.name().to_owned()).collect(),
        profile,
    ))
}

fn namespaces(world: &World, record: &ContainerRecord, joined: Joined) -> Namespaces {
    let of_process = |pid: i32, kind: &str| NamespaceSource::Path(format!("/proc/{pid}/ns/{kind}"));
    let host_or_own = |mode: &str| {
        if mode == "host" {
            NamespaceSource::Host
        } else {
            NamespaceSource::Private
        }
    };
    let network = match (record.network_mode(), joined.network) {
        (_, Some(pid)) => of_process(pid, "net"),
        (NetworkMode::Host, None) => NamespaceSource::Host,
        // Made by init itself, in its own user namespace; pinned afterwards.
        _ if !record.id_mappings.is_empty() => NamespaceSource::Private,
        _ => NamespaceSource::Path(world.plane.sandbox_path(&record.id).display().to_string()),
    };
    let uts = match joined.network {
        // The name goes with the network.
        Some(pid) => of_process(pid, "uts"),
        None => host_or_own(&record.host.uts_mode),
    };
    Namespaces {
        network,
        uts,
        pid: joined.pid.map_or_else(
            || host_or_own(&record.host.pid_mode),
            |pid| of_process(pid, "pid"),
        ),
        ipc: joined.ipc.map_or_else(
            || host_or_own(&record.host.ipc_mode),
            |pid| of_process(pid, "ipc"),
        ),
        cgroup: host_or_own(&record.host.cgroupns_mode),
        joined_shm: joined.ipc.map(|pid| format!("/proc/{pid}/root/dev/shm")),
    }
}

/// hostname, hosts and resolv.conf; the container's root may change them.
fn etc_files(
    world: &World,
    record: &ContainerRecord,
    attachments: &[Attachment],
    resolver: &Resolver,
) -> Result<()> {
    if let NetworkMode::Container(_) = record.network_mode() {
        return Ok(());
    }
    write_etc_files(world, record, attachments, resolver)?;
    if record.id_mappings.is_empty() {
        return Ok(());
    }
    let dir = world.container_dir(&record.id);
    let owner = world.options.userns_remap.root();
    [dir.hostname(), dir.hosts(), dir.resolv_conf()]
        .iter()
        .try_for_each(|path| files::give(path, owner))
}

fn write_etc_files(
    world: &World,
    record: &ContainerRecord,
    attachments: &[Attachment],
    resolver: &Resolver,
) -> Result<()> {
    let dir = world.container_dir(&record.id);
    let hostname = spec::hostname(record, &world.host);
    files::write(&dir.hostname(), &format!("{hostname}\n"))?;
    let extra = extra_hosts(world, record, attachments)?;
    if let NetworkMode::Host = record.network_mode() {
        let mut hosts = std::fs::read_to_string("/etc/hosts").unwrap_or_default();
        for (name, address) in &extra {
            hosts.push_str(&format!("{address}\t{name}\n"));
        }
        files::write(&dir.hosts(), &hosts)?;
        return files::write(&dir.resolv_conf(), &resolver.render(&resolver.nameservers));
    }
    files::write(&dir.hosts(), &hosts(record, attachments, &extra, &hostname))?;
    let text = match attachments
        .iter()
        .any(|attachment| attachment.network.has_dns())
    {
        true => resolver.render_embedded(),
        false => resolver.render(&resolver.reachable()),
    };
    files::write(&dir.resolv_conf(), &text)
}

/// The hosts file of a container with a network of its own.
fn hosts(
    record: &ContainerRecord,
    attachments: &[Attachment],
    extra: &[(String, String)],
    hostname: &str,
) -> String {
    let names = match record.config.domainname.as_str() {
        "" => hostname.to_owned(),
        domain => format!("{hostname}.{domain} {hostname}"),
    };
    let addresses = attachments.iter().flat_map(|attachment| {
        let v4 = attachment.endpoint.ipv4.map(|net| IpAddr::V4(net.addr()));
        v4.into_iter()
            .chain(attachment.endpoint.ipv6.map(|net| IpAddr::V6(net.addr())))
    });
    let own: Vec<(IpAddr, String)> = addresses.map(|address| (address, names.clone())).collect();
    files::render_hosts(extra, &own)
}

/// Writes the hosts file of a running container anew, after a link of it was removed.
pub(super) fn rewrite_hosts(
    world: &World,
    record: &ContainerRecord,
    attachments: &[Attachment],
) -> Result<()> {
    let extra = extra_hosts(world, record, attachments)?;
    let hostname = spec::hostname(record, &world.host);
    files::write(
        &world.container_dir(&record.id).hosts(),
        &hosts(record, attachments, &extra, &hostname),
    )
}

/// `--add-host` and `--link`.
fn extra_hosts(
    world: &World,
    record: &ContainerRecord,
    attachments: &[Attachment],
) -> Result<Vec<(String, String)>> {
    let mut extra = Vec::new();
    for entry in &record.host.extra_hosts {
        let (name, address) = entry
            .split_once(':')
            .ok_or_else(|| Error::invalid(format!("bad format for add-host: {entry:?}")))?;
        if address != "host-gateway" {
            extra.push((
                name.to_owned(),
                address
                    .trim_start_matches('[')
                    .trim_end_matches(']')
                    .to_owned(),
            ));
            continue;
        }
        let gateways: Vec<String> = match world.options.host_gateway_ips.as_slice() {
            [] => attachments
                .iter()
                .filter_map(|attachment| Some(attachment.endpoint.gateway4?.to_string()))
                .take(1)
                .collect(),
            given => given.iter().map(ToString::to_string).collect(),
        };
        extra.extend(
            gateways
                .into_iter()
                .map(|gateway| (name.to_owned(), gateway)),
        );
    }
    for link in &record.links {
        // A container that is gone takes the links to it along.
        let Ok(handle) = world.registry.find(&link.target) else {
            continue;
        };
        let view = handle.view();
        if view.state.phase.live().is_none() {
            return Err(Error::conflict(format!(
                "Cannot link to a non running container: /{} AS /{}/{}",
                view.record.name, record.name, link.alias
            )));
        }
        let shared = view.attachments.iter().find(|theirs| {
            attachments
                .iter()
                .any(|mine| mine.network.network.id == theirs.network.network.id)
        });
        if let Some(address) = shared.and_then(|attachment| attachment.endpoint.ipv4) {
            let hostname = spec::hostname(&view.record, &world.host);
            extra.push((
                format!("{} {hostname} {}", link.alias, view.record.name),
                address.addr().to_string(),
            ));
        }
    }
    Ok(extra)
}

fn extra_mounts(
    world: &World,
    record: &ContainerRecord,
    joined: Joined,
) -> Result<Vec<ExtraMount>> {
    let mut mounts = Vec::new();
    for (number, mount) in record.mounts.iter().enumerate() {
        let extra = extra_mount(world, record, mount, number)?;
        if mount.mode.split(',').any(|word| matches!(word, "z" | "Z")) {
            let shared = !mount.mode.split(',').any(|word| word == "Z");
            relabel(record, Path::new(&extra.source), shared)?;
        }
        mounts.push(extra);
    }
    let dir = match (record.network_mode(), joined.network) {
        (NetworkMode::Container(target), Some(_)) => {
            world.container_dir(&world.registry.find(target)?.id)
        }
        _ => world.container_dir(&record.id),
    };
    let rw = !record.host.readonly_rootfs;
    for (source, destination) in [
        (dir.resolv_conf(), "/etc/resolv.conf"),
        (dir.hostname(), "/etc/hostname"),
        (dir.hosts(), "/etc/hosts"),
    ] {
        if !mounts.iter().any(|mount| mount.destination == destination) {
            relabel(record, &source, false)?;
            let source = source.display().to_string();
            mounts.push(ExtraMount {
                source,
                destination: destination.to_owned(),
                rw,
                ..ExtraMount::default()
            });
        }
    }
    Ok(mounts)
}

/// Gives what a container is to read and write its SELinux label, if it has one.
fn relabel(record: &ContainerRecord, path: &Path, shared: bool) -> Result<()> {
    use hull_security::selinux;
    let Ok(label) = record.mount_label.parse::<selinux::Label>() else {
        return Ok(());
    };
    selinux::relabel(path, &label, shared).map_err(|error| match error {
        selinux::Error::Protected(_) => Error::invalid(error.to_string()),
        other => failed("give a mount the container's label")(other),
    })
}

fn extra_mount(
    world: &World,
    record: &ContainerRecord,
    mount: &MountRecord,
    number: usize,
) -> Result<ExtraMount> {
    let mut resolved = ExtraMount {
        kind: mount.kind,
        source: mount.source.clone(),
        destination: mount.destination.clone(),
        rw: mount.rw,
        propagation: mount.propagation.clone(),
        non_recursive: mount.non_recursive,
        read_only_non_recursive: mount.read_only_non_recursive,
        read_only_force_recursive: mount.read_only_force_recursive,
        options: mount.options.clone(),
        fstype: None,
    };
    match mount.kind {
        MountKind::Tmpfs => {}
        MountKind::Bind => {
            if !Path::new(&mount.source).exists() {
                if mount.from_api {
                    return Err(Error::invalid(format!(
                        "invalid mount config for type \"bind\": bind source path does not exist: {}",
                        mount.source
                    )));
                }
                std::fs::create_dir_all(&mount.source).map_err(|cause| {
                    Error::internal(format!(
                        "error while creating mount source path '{}': {cause}",
                        mount.source
                    ))
                })?;
                files::give(Path::new(&mount.source), world.options.userns_remap.root())?;
            }
            super::propagation::check(&mount.source, &mount.propagation)?;
        }
        MountKind::Volume => {
            let place = world.volumes.acquire(&mount.name, &record.id)?;
            let place = place.as_deref().unwrap_or(Path::new(&mount.source));
            resolved.source = world
                .volumes
                .source(&mount.name, place, &mount.subpath)?
                .display()
                .to_string();
        }
        MountKind::Image => {
            let views = world
                .snapshots
                .mounts(&image_view_key(&record.id, number))
                .map_err(failed(format!("mount the image {}", mount.name)))?;
            let [view] = &views[..] else {
                return Err(Error::missing("an image mount of several file systems"));
            };
            let view = match mount.subpath.as_str() {
                "" => view.clone(),
                subpath => crate::subpath::of_view(view, subpath, &mount.name)?,
            };
            resolved.source = view.source.unwrap_or_else(|| "overlay".to_owned());
            resolved.options = view.options;
            resolved.fstype = view.kind;
            resolved.rw = false;
        }
    }
    Ok(resolved)
}

/// Key of the read-only snapshot of an image that is mounted in a container.
pub(crate) fn image_view_key(container: &str, number: usize) -> String {
    format!("{container}-image-{number}")
}

/// Who an exec in a running container runs as: looked up in the container's own files, as it sees them.
pub(crate) fn exec_inputs_user(
    record: &ContainerRecord,
    pid: i32,
    wanted: &str,
) -> Result<ResolvedUser> {
    let root = rootfs::of_process(pid).map_err(|error| {
        // It has ended since it was looked at.
        match Path::new("/proc").join(pid.to_string()).exists() {
            true => error,
            false => Error::conflict(format!("container {} is not running", record.id)),
        }
    })?;
    let files = spec::UserFiles {
        passwd: rootfs::read_text(root.as_fd(), "etc/passwd")?.unwrap_or_default(),
        group: rootfs::read_text(root.as_fd(), "etc/group")?.unwrap_or_default(),
    };
    let user = if wanted.is_empty() {
        &record.config.user
    } else {
        wanted
    };
    spec::resolve_user(user, &record.host.group_add, &files)
}
