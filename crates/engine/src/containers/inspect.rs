//! What the engine tells of containers: inspect and list.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use hull_api::host::{PortBinding, PortMap};
use hull_api::inspect::{
    ContainerInspect, ContainerSummary, DriverData, HealthSummary, NetworkSettings, PortSummary,
    SummaryHostConfig, SummaryNetworkSettings,
};
use hull_api::network::EndpointSettings;

use super::ListOptions;
use crate::clock;
use crate::error::{Error, Result, failed};
use crate::networks::plane::Attachment;
use crate::networks::ports;
use crate::phase::to_api_state;
use crate::record::{ContainerRecord, LinkRecord};
use crate::task::View;
use crate::world::{World, blocking};

pub(super) async fn inspect(
    world: &Arc<World>,
    view: &Arc<View>,
    size: bool,
) -> Result<ContainerInspect> {
    let record = &view.record;
    let dir = world.container_dir(&record.id);
    let id = record.id.clone();
    let (driver_data, sizes) = blocking(world, move |world| {
        let data = world
            .snapshots
            .inspect_data(&id)
            .map_err(unread(&id, "read the container's file system"))?;
        let sizes = if size { Some(sizes(world, &id)?) } else { None };
        Ok((data, sizes))
    })
    .await?;
    let mut state = to_api_state(&view.state);
    state.health = view.health.clone();
    let live = view.state.phase.live().is_some();
    let own_network = record.network_mode().is_private();
    let mut host_config = record.host.clone();
    host_config.links = links(world, record);
    Ok(ContainerInspect {
        id: record.id.clone(),
        created: record.created.clone(),
        path: record.path.clone(),
        args: record.args.clone(),
        state,
        image: record.image_id.clone(),
        resolv_conf_path: dir.resolv_conf().display().to_string(),
        hostname_path: dir.hostname().display().to_string(),
        hosts_path: dir.hosts().display().to_string(),
        log_path: dir
            .log(&record.host.log_config, &record.id)
            // As Docker: where the other drivers' files are is nobody's business.
            .filter(|_| record.host.log_config.kind == "json-file")
            .map(|path| path.display().to_string())
            .unwrap_or_default(),
        name: format!("/{}", record.name),
        restart_count: i64::from(view.state.restart_count),
        driver: record.driver.clone(),
        platform: "linux".to_owned(),
        mount_label: record.mount_label.clone(),
        process_label: record.process_label.clone(),
        app_armor_profile: record.apparmor_profile.clone(),
        exec_ids: world.execs.of_container(&record.id),
        host_config,
        graph_driver: Some(DriverData {
            data: driver_data
                .into_iter()
                .map(|(key, value)| (key.to_owned(), value))
                .collect(),
            name: record.driver.clone(),
        }),
        size_rw: sizes.map(|(rw, _)| rw),
        size_root_fs: sizes.map(|(_, all)| all),
        mounts: record
            .mounts
            .iter()
            .map(crate::record::MountRecord::to_api)
            .collect(),
        config: config(record),
        network_settings: NetworkSettings {
            sandbox_id: if live && own_network {
                record.id.clone()
            } else {
                String::new()
            },
            sandbox_key: match live && own_network {
                true => world.plane.sandbox_path(&record.id).display().to_string(),
                false => String::new(),
            },
            ports: port_map(record, &view.attachments, live),
            networks: networks(record, &view.attachments),
        },
        image_manifest_descriptor: None,
    })
}

/// `/other:/own/alias`, as Docker shows links.
fn links(world: &World, record: &ContainerRecord) -> Vec<String> {
    let shown = |link: &LinkRecord| {
        let other = world.registry.find(&link.target).ok()?.view();
        Some(format!(
            "/{}:/{}/{}",
            other.record.name, record.name, link.alias
        ))
    };
    record.links.iter().filter_map(shown).collect()
}

/// What the containers that link to it call it: `/own/alias` by id.
fn link_names(views: &[Arc<View>]) -> HashMap<String, Vec<String>> {
    let mut names: HashMap<String, Vec<String>> = HashMap::new();
    for view in views {
        for link in &view.record.links {
            let name = format!("/{}/{}", view.record.name, link.alias);
            names.entry(link.target.clone()).or_default().push(name);
        }
    }
    names
}

/// The configuration with the host name that the container has.
fn config(record: &ContainerRecord) -> hull_api::container::ContainerConfig {
    let mut config = record.config.clone();
    if config.hostname.is_empty() && record.network_mode().is_private() {
        crate::id::short(&record.id).clone_into(&mut config.hostname);
    }
    config
}

/// An error of a container's file system: one without any was removed since it was looked up.
fn unread<'a>(id: &'a str, what: &'a str) -> impl FnOnce(hull_store::Error) -> Error + 'a {
    move |error| match error {
        hull_store::Error::SnapshotNotFound(_) => {
            Error::not_found(format!("No such container: {id}"))
        }
        error => Error::failed(what, error),
    }
}

/// Bytes of the container's own files, and with the image's.
fn sizes(world: &World, id: &str) -> Result<(i64, i64)> {
    let own = world
        .snapshots
        .usage(id)
        .map_err(unread(id, "measure the container's files"))?
        .bytes;
    let mut all = own;
    let mut parent = world
        .snapshots
        .stat(id)
        .map_err(unread(id, "read the container's file system"))?
        .parent;
    while let Some(key) = parent {
        all += world
            .snapshots
            .usage(&key)
            .map_err(failed("measure a layer"))?
            .bytes;
        parent = world
            .snapshots
            .stat(&key)
            .map_err(failed("read a layer"))?
            .parent;
    }
    Ok((
        i64::try_from(own).unwrap_or(i64::MAX),
        i64::try_from(all).unwrap_or(i64::MAX),
    ))
}

/// Exposed ports, and where they are published while it runs.
fn port_map(record: &ContainerRecord, attachments: &[Attachment], live: bool) -> PortMap {
    let mut map = PortMap::new();
    if !live {
        return map;
    }
    for port in record
        .config
        .exposed_ports
        .iter()
        .chain(record.host.port_bindings.keys())
    {
        if let Ok((protocol, first, last)) = ports::parse_port(port) {
            for number in first..=last {
                map.entry(format!("{number}/{protocol}")).or_insert(None);
            }
        }
    }
    for mapping in attachments
        .iter()
        .flat_map(|attachment| attachment.endpoint.ports.iter())
    {
        let binding = PortBinding {
            host_ip: mapping
                .host_ip
                .map(|address| address.to_string())
                .unwrap_or_default(),
            host_port: mapping.host_port.to_string(),
        };
        map.entry(format!("{}/{}", mapping.container_port, mapping.protocol))
            .or_insert(None)
            .get_or_insert_default()
            .push(binding);
    }
    map
}

/// What was asked of each network, with what the container has while it runs.
fn networks(
    record: &ContainerRecord,
    attachments: &[Attachment],
) -> BTreeMap<String, EndpointSettings> {
    let mut networks = record.networks.clone();
    for (name, settings) in &mut networks {
        let Some(attachment) = attachments
            .iter()
            .find(|attachment| attachment.network.network.name == *name)
        else {
            continue;
        };
        let endpoint = &attachment.endpoint;
        settings.network_id.clone_from(&endpoint.network_id);
        settings.endpoint_id.clone_from(&endpoint.id);
        settings.mac_address = endpoint.mac.map(|mac| mac.to_string()).unwrap_or_default();
        if let Some(address) = endpoint.ipv4 {
            settings.ip_address = address.addr().to_string();
            settings.ip_prefix_len = i64::from(address.prefix_len());
        }
        if let Some(address) = endpoint.ipv6 {
            settings.global_ipv6_address = address.addr().to_string();
            settings.global_ipv6_prefix_len = i64::from(address.prefix_len());
        }
        settings.gateway = endpoint
            .gateway4
            .map(|gateway| gateway.to_string())
            .unwrap_or_default();
        settings.ipv6_gateway = endpoint
            .gateway6
            .map(|gateway| gateway.to_string())
            .unwrap_or_default();
        if attachment.network.has_dns() {
            settings.dns_names = endpoint
                .names
                .iter()
                .chain(&endpoint.aliases)
                .cloned()
                .collect();
        }
    }
    networks
}

const ACCEPTED: &[&str] = &[
    "ancestor",
    "annotation",
    "before",
    "exited",
    "expose",
    "health",
    "id",
    "is-task",
    "isolation",
    "label",
    "name",
    "network",
    "publish",
    "since",
    "status",
    "volume",
];

pub(super) async fn list(
    world: &Arc<World>,
    options: ListOptions,
) -> Result<Vec<ContainerSummary>> {
    let filters = &options.filters;
    filters.validate(ACCEPTED).map_err(Error::invalid)?;
    for status in filters.get("status") {
        let known = [
            "created",
            "running",
            "paused",
            "restarting",
            "removing",
            "exited",
            "dead",
        ];
        if !known.contains(&status) {
            return Err(Error::invalid(format!(
                "invalid filter 'status={status}': unrecognized state: {status:?}; valid states: {known:?}"
            )));
        }
    }
    for health in filters.get("health") {
        if !["starting", "healthy", "unhealthy", "none"].contains(&health) {
            return Err(Error::invalid(format!("invalid filter 'health={health}'")));
        }
    }
    let exited: Vec<i32> = filters
        .get("exited")
        .map(|code| {
            code.parse()
                .map_err(|_| Error::invalid(format!("invalid filter 'exited={code}'")))
        })
        .collect::<Result<_>>()?;
    let mut views = world.registry.views();
    views.sort_by(|a, b| {
        b.record
            .created
            .cmp(&a.record.created)
            .then_with(|| a.record.id.cmp(&b.record.id))
    });
    let position = |key: &str| -> Result<Option<usize>> {
        let mut found = None;
        for wanted in filters.get(key) {
            let handle = world.registry.find(wanted)?;
            found = views.iter().position(|view| view.record.id == handle.id);
        }
        Ok(found)
    };
    let (before, since) = (position("before")?, position("since")?);
    let ancestors = ancestors(world, filters)?;
    // A filter on the state, or a limit, looks at all containers.
    let all = options.all
        || options.limit > 0
        || filters.contains("status")
        || filters.contains("exited")
        || before.is_some()
        || since.is_some();
    let mut aliases = link_names(&views);
    let mut summaries = Vec::new();
    for (at, view) in views.iter().enumerate() {
        let wanted = (all || view.state.phase.is_running())
            && before.is_none_or(|before| at > before)
            && since.is_none_or(|since| at < since)
            && ancestors
                .as_ref()
                .is_none_or(|ancestors| ancestors.contains(&view.record.image_id))
            && (exited.is_empty()
                || view
                    .state
                    .exit()
                    .is_some_and(|exit| exited.contains(&exit.code))
                    && !view.state.phase.is_running())
            && matches(view, filters);
        if wanted {
            let mut summary = summary(view);
            summary
                .names
                .extend(aliases.remove(&view.record.id).unwrap_or_default());
            summaries.push(summary);
        }
        if options.limit > 0 && summaries.len() == options.limit {
            break;
        }
    }
    if options.size {
        summaries = blocking(world, move |world| {
            let mut measured = Vec::with_capacity(summaries.len());
            for mut summary in summaries {
                match sizes(world, &summary.id) {
                    Ok(sizes) => (summary.size_rw, summary.size_root_fs) = sizes,
                    Err(error) if error.kind == crate::Kind::NotFound => continue,
                    Err(error) => return Err(error),
                }
                measured.push(summary);
            }
            Ok(measured)
        })
        .await?;
    }
    Ok(summaries)
}

/// Image ids that `ancestor` means; none: no such filter.
fn ancestors(world: &World, filters: &hull_api::filters::Filters) -> Result<Option<Vec<String>>> {
    if !filters.contains("ancestor") {
        return Ok(None);
    }
    let mut ids = Vec::new();
    for wanted in filters.get("ancestor") {
        let Ok(image) = world.images.resolve(wanted) else {
            continue;
        };
        let layers: Vec<String> = image
            .layers
            .iter()
            .map(|layer| layer.diff_id.to_string())
            .collect();
        // Images made on top of it count too.
        for other in world.images.list()? {
            let begins = other
                .layers
                .iter()
                .map(|layer| layer.diff_id.to_string())
                .take(layers.len())
                .eq(layers.iter().cloned());
            if other.id == image.id || (begins && other.layers.len() > layers.len()) {
                ids.push(other.id.to_string());
            }
        }
    }
    Ok(Some(ids))
}

fn matches(view: &View, filters: &hull_api::filters::Filters) -> bool {
    let record = &view.record;
    let health = view.health.as_ref().map_or("none", |health| &health.status);
    let publishes = |wanted: &str| {
        let wanted = if wanted.contains('/') {
            wanted.to_owned()
        } else {
            format!("{wanted}/tcp")
        };
        view.attachments
            .iter()
            .flat_map(|attachment| &attachment.endpoint.ports)
            .any(|mapping| {
                let (inside, outside) = (
                    format!("{}/{}", mapping.container_port, mapping.protocol),
                    format!("{}/{}", mapping.host_port, mapping.protocol),
                );
                in_range(&wanted, &inside) || in_range(&wanted, &outside)
            })
    };
    let exposes = |wanted: &str| {
        let wanted = if wanted.contains('/') {
            wanted.to_owned()
        } else {
            format!("{wanted}/tcp")
        };
        record
            .config
            .exposed_ports
            .iter()
            .any(|port| in_range(&wanted, port))
    };
    let on_network = |wanted: &str| {
        record.networks.contains_key(wanted)
            || view
                .attachments
                .iter()
                .any(|attachment| attachment.network.network.id.starts_with(wanted))
    };
    let name_matches = |wanted: &str| {
        let bare = wanted
            .trim_start_matches('^')
            .trim_start_matches('/')
            .trim_end_matches('$');
        match (wanted.starts_with('^'), wanted.ends_with('$')) {
            (true, true) => record.name == bare,
            (true, false) => record.name.starts_with(bare),
            (false, true) => record.name.ends_with(bare),
            (false, false) => record.name.contains(bare),
        }
    };
    filters.matches("id", |wanted| record.id.starts_with(wanted))
        && filters.matches("name", name_matches)
        && filters.exact("status", view.state.phase.status())
        && filters.exact("health", health)
        && filters.matches_pairs("label", &record.config.labels)
        && filters.matches_pairs("annotation", &record.host.annotations)
        && filters.matches("network", on_network)
        && filters.matches("publish", publishes)
        && filters.matches("expose", exposes)
        && filters.matches("is-task", |wanted| matches!(wanted, "false" | "0"))
        && filters.matches("volume", |wanted| {
            record
                .mounts
                .iter()
                .any(|mount| mount.name == wanted || mount.destination == wanted)
        })
}

/// `80/tcp` in `80/tcp` or `70-90/tcp`.
fn in_range(range: &str, port: &str) -> bool {
    match (ports::parse_port(range), ports::parse_port(port)) {
        (Ok((p, first, last)), Ok((q, from, to))) => p == q && first <= from && to <= last,
        _ => false,
    }
}

fn summary(view: &View) -> ContainerSummary {
    let record = &view.record;
    let live = view.state.phase.live().is_some();
    let mut port_list: Vec<PortSummary> = Vec::new();
    for (port, bindings) in port_map(record, &view.attachments, live) {
        let Ok((protocol, number, _)) = ports::parse_port(&port) else {
            continue;
        };
        let one = PortSummary {
            private_port: number,
            kind: protocol.to_string(),
            ..PortSummary::default()
        };
        match bindings {
            None => port_list.push(one),
            Some(bindings) => port_list.extend(bindings.into_iter().map(|binding| PortSummary {
                ip: binding.host_ip,
                public_port: binding.host_port.parse().unwrap_or(0),
                ..one.clone()
            })),
        }
    }
    let command = std::iter::once(&record.path)
        .chain(&record.args)
        .map(|word| shown(word))
        .collect::<Vec<_>>()
        .join(" ");
    ContainerSummary {
        id: record.id.clone(),
        names: vec![format!("/{}", record.name)],
        image: record.config.image.clone(),
        image_id: record.image_id.clone(),
        command,
        created: clock::unix_seconds(&record.created),
        ports: port_list,
        labels: record.config.labels.clone(),
        state: view.state.phase.status().to_owned(),
        status: status(view),
        host_config: SummaryHostConfig {
            network_mode: record.host.network_mode.clone(),
            annotations: record.host.annotations.clone(),
        },
        network_settings: SummaryNetworkSettings {
            networks: networks(record, &view.attachments),
        },
        mounts: record
            .mounts
            .iter()
            .map(crate::record::MountRecord::to_api)
            .collect(),
        health: view.health.as_ref().map(|health| HealthSummary {
            status: health.status.clone(),
            failing_streak: health.failing_streak,
        }),
        ..ContainerSummary::default()
    }
}

/// Words with spaces are quoted.
fn shown(word: &str) -> String {
    if word.contains(' ') {
        format!("'{word}'")
    } else {
        word.to_owned()
    }
}

/// `Up 5 minutes (healthy)`, `Exited (0) 3 hours ago`: moby's `State.String`.
pub(crate) fn status(view: &View) -> String {
    use crate::phase::Phase;
    let now = jiff::Timestamp::now();
    let since = |time: &str| match time.parse::<jiff::Timestamp>() {
        Ok(time) => human(now.as_second() - time.as_second()),
        Err(_) => human(0),
    };
    match &view.state.phase {
        Phase::Created | Phase::Starting => "Created".to_owned(),
        Phase::Running(live) | Phase::Stopping(live) => match &view.health {
            Some(health) if health.status == "starting" => {
                format!("Up {} (health: starting)", since(&live.started_at))
            }
            Some(health) if health.status != "none" => {
                format!("Up {} ({})", since(&live.started_at), health.status)
            }
            _ => format!("Up {}", since(&live.started_at)),
        },
        Phase::Paused(live) => format!("Up {} (Paused)", since(&live.started_at)),
        Phase::Restarting(exit) => format!(
            "Restarting ({}) {} ago",
            exit.code,
            since(&exit.finished_at)
        ),
        Phase::Exited(exit) if exit.finished_at.is_empty() => "Created".to_owned(),
        Phase::Exited(exit) => format!("Exited ({}) {} ago", exit.code, since(&exit.finished_at)),
        Phase::Removing => "Removal In Progress".to_owned(),
        Phase::Dead(_) => "Dead".to_owned(),
    }
}

/// go-units' `HumanDuration`.
fn human(seconds: i64) -> String {
    let hours = (seconds as f64 / 3600.0 + 0.5) as i64;
    match seconds {
        ..1 => "Less than a second".to_owned(),
        1 => "1 second".to_owned(),
        2..60 => format!("{seconds} seconds"),
        60..120 => "About a minute".to_owned(),
        120..3600 => format!("{} minutes", seconds / 60),
        _ => match hours {
            ..2 => "About an hour".to_owned(),
            2..48 => format!("{hours} hours"),
            48..336 => format!("{} days", hours / 24),
            336..1440 => format!("{} weeks", hours / 24 / 7),
            1440..17520 => format!("{} months", hours / 24 / 30),
            _ => format!("{} years", seconds / 3600 / 24 / 365),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::human;

    #[test]
    fn durations_are_go_units() {
        let cases = [
            (0, "Less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (60, "About a minute"),
            (150, "2 minutes"),
            (3600, "About an hour"),
            (2 * 3600, "2 hours"),
            (49 * 3600, "2 days"),
            (15 * 86400, "2 weeks"),
            (70 * 86400, "2 months"),
            (800 * 86400, "2 years"),
        ];
        for (seconds, text) in cases {
            assert_eq!(human(seconds), text);
        }
    }
}
