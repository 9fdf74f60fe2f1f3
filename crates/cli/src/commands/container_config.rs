//! Turns the flags of `run` and `create` into the body of `POST /containers/create`. Checks come in Docker's order.

use super::container_flags::ContainerFlags;
use crate::go::{json as go_json, strconv};
use crate::opts::device::{self, Device};
use crate::opts::network::{self, Attachment};
use crate::opts::volume::Volume;
use crate::opts::{kvfile, port, volume};
use serde_json::{Map, Value, json};

/// Builds the body. `command` is what follows the image; `proxy_env` comes from the configuration.
pub fn build(
    flags: &ContainerFlags,
    image: &str,
    command: &[String],
    proxy_env: Vec<String>,
) -> Result<Value, String> {
    if let Some(mac) = &flags.mac_address
        && !network::is_mac(mac)
    {
        return Err(format!("{mac} is not a valid mac address"));
    }
    let swappiness = flags.memory_swappiness.unwrap_or(-1);
    if swappiness != -1 && !(0..=100).contains(&swappiness) {
        return Err(format!(
            "invalid value: {swappiness}. Valid memory swappiness range is 0-100"
        ));
    }
    let (binds, volumes) = volumes(&flags.volume)?;
    let ports = port::parse(&flags.publish, &flags.expose)?;
    let (devices, requests) = devices(flags)?;
    let lookup = |name: &str| std::env::var(name).ok();
    let mut env = kvfile::read(&flags.env_file, lookup)?;
    env.extend(flags.env.iter().cloned().chain(proxy_env));
    let mut labels = kvfile::read(&flags.label_file, |_| None)?;
    labels.extend(flags.label.iter().cloned());
    check_modes(flags)?;
    let restart = restart_policy(flags.restart.as_deref().unwrap_or("no"))?;
    if flags.log_driver.as_deref() == Some("none") && !flags.log_opt.is_empty() {
        return Err("invalid logging opts for driver none".into());
    }
    let (security, unconfined_paths) = security_opts(&flags.security_opt)?;
    let storage = storage_opts(&flags.storage_opt)?;
    let health = health(flags)?;
    if flags.rm && !matches!(restart["Name"].as_str(), Some("" | "no")) {
        return Err("conflicting options: cannot specify both --restart and --rm".into());
    }
    let endpoints = endpoints(flags)?;

    let attached = |name: &str| flags.attach.iter().any(|stream| stream == name);
    let all = flags.attach.is_empty();
    let attach_stdin = flags.interactive || attached("stdin");
    let mut body = json!({
        "Hostname": text(&flags.hostname),
        "Domainname": text(&flags.domainname),
        "User": text(&flags.user),
        "AttachStdin": attach_stdin,
        "AttachStdout": all || attached("stdout"),
        "AttachStderr": all || attached("stderr"),
        "ExposedPorts": ports.exposed,
        "Tty": flags.tty,
        "OpenStdin": flags.interactive,
        "StdinOnce": flags.interactive && attach_stdin,
        "Env": env,
        "Cmd": if command.is_empty() { Value::Null } else { json!(command) },
        "Image": image,
        "Volumes": volumes,
        "WorkingDir": text(&flags.workdir),
        "Entrypoint": flags.entrypoint.as_ref().map(|entrypoint| [entrypoint]),
        "Labels": pairs(&labels),
    });
    if let Some(signal) = &flags.stop_signal {
        body["StopSignal"] = signal.as_str().into();
    }
    if let Some(timeout) = flags.stop_timeout {
        body["StopTimeout"] = timeout.into();
    }
    if let Some(health) = health {
        body["Healthcheck"] = health;
    }
    let mut host = json!({
        "Binds": if binds.is_empty() { Value::Null } else { json!(binds) },
        "ContainerIDFile": text(&flags.cidfile),
        "LogConfig": {"Type": text(&flags.log_driver), "Config": pairs(&flags.log_opt)},
        "NetworkMode": flags.network.first().map_or("default", |net| &net.target),
        "PortBindings": ports.bindings,
        "RestartPolicy": restart,
        "AutoRemove": flags.rm,
        "VolumeDriver": text(&flags.volume_driver),
        "VolumesFrom": list(&flags.volumes_from),
        "ConsoleSize": [0, 0],
        "CapAdd": list(&flags.cap_add),
        "CapDrop": list(&flags.cap_drop),
        "CgroupnsMode": text(&flags.cgroupns),
        "Dns": flags.dns,
        "DnsOptions": flags.dns_option,
        "DnsSearch": flags.dns_search,
        "ExtraHosts": list(&flags.add_host),
        "GroupAdd": list(&flags.group_add),
        "IpcMode": text(&flags.ipc),
        "Cgroup": "",
        "Links": list(&flags.link),
        "OomScoreAdj": flags.oom_score_adj.unwrap_or(0),
        "PidMode": text(&flags.pid),
        "Privileged": flags.privileged,
        "PublishAllPorts": flags.publish_all,
        "ReadonlyRootfs": flags.read_only,
        "SecurityOpt": list(&security),
        "UTSMode": text(&flags.uts),
        "UsernsMode": text(&flags.userns),
        "ShmSize": flags.shm_size.unwrap_or(0),
        "Isolation": text(&flags.isolation),
        "MaskedPaths": if unconfined_paths { json!([]) } else { Value::Null },
        "ReadonlyPaths": if unconfined_paths { json!([]) } else { Value::Null },
    });
    resources(flags, swappiness, devices, requests, &mut host);
    for (key, map) in [
        ("Tmpfs", tmpfs(&flags.tmpfs)),
        ("Sysctls", pairs(&flags.sysctl)),
        ("StorageOpt", storage),
        ("Annotations", pairs(&flags.annotation)),
    ] {
        if !map.is_empty() {
            host[key] = map.into();
        }
    }
    if !flags.mount.is_empty() {
        host["Mounts"] = flags.mount.clone().into();
    }
    if let Some(runtime) = &flags.runtime {
        host["Runtime"] = runtime.as_str().into();
    }
    if let Some(init) = flags.init {
        host["Init"] = init.into();
    }
    let mode = host["NetworkMode"].as_str().unwrap_or("default").to_owned();
    if let Some(mac) = endpoints
        .get(&mode)
        .and_then(|endpoint| endpoint.get("MacAddress"))
    {
        body["MacAddress"] = mac.clone();
    }
    body["HostConfig"] = host;
    body["NetworkingConfig"] = json!({"EndpointsConfig": endpoints});
    Ok(body)
}

fn text(value: &Option<String>) -> &str {
    value.as_deref().unwrap_or("")
}

fn list(values: &[String]) -> Value {
    if values.is_empty() {
        Value::Null
    } else {
        json!(values)
    }
}

fn pairs(values: &[String]) -> Map<String, Value> {
    values
        .iter()
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(key, value)| (key.to_owned(), value.into()))
        .collect()
}

fn tmpfs(values: &[String]) -> Map<String, Value> {
    values
        .iter()
        .map(|spec| spec.split_once(':').unwrap_or((spec, "")))
        .map(|(path, options)| (path.to_owned(), options.into()))
        .collect()
}

fn volumes(specs: &[String]) -> Result<(Vec<String>, Map<String, Value>), String> {
    let (mut binds, mut anonymous) = (Vec::new(), Map::new());
    for spec in specs {
        match volume::parse(spec)? {
            Volume::Bind(bind) if !binds.contains(&bind) => binds.push(bind),
            Volume::Bind(_) => {}
            Volume::Anonymous(path) => {
                anonymous.insert(path, json!({}));
            }
        }
    }
    Ok((binds, anonymous))
}

fn devices(flags: &ContainerFlags) -> Result<(Vec<Value>, Vec<Value>), String> {
    let (mut mappings, mut names) = (Vec::new(), Vec::new());
    for spec in &flags.device {
        match device::device(spec)? {
            Device::Cdi(name) => names.push(name),
            Device::Mapping(mapping) => mappings.push(mapping),
        }
    }
    let mut requests = flags.gpus.clone();
    if !names.is_empty() {
        requests.push(json!({"Driver": "cdi", "Count": 0, "DeviceIDs": names, "Capabilities": null, "Options": null}));
    }
    Ok((mappings, requests))
}

fn resources(
    flags: &ContainerFlags,
    swappiness: i64,
    devices: Vec<Value>,
    requests: Vec<Value>,
    host: &mut Value,
) {
    let mut ulimits: Vec<Value> = Vec::new();
    for limit in &flags.ulimit {
        ulimits.retain(|known: &Value| known["Name"] != limit["Name"]);
        ulimits.push(limit.clone());
    }
    ulimits.sort_by(|a, b| a["Name"].as_str().cmp(&b["Name"].as_str()));
    let resources = json!({
        "CgroupParent": text(&flags.cgroup_parent),
        "Memory": flags.memory.unwrap_or(0),
        "MemoryReservation": flags.memory_reservation.unwrap_or(0),
        "MemorySwap": flags.memory_swap.unwrap_or(0),
        "MemorySwappiness": swappiness,
        "KernelMemory": flags.kernel_memory.unwrap_or(0),
        "OomKillDisable": flags.oom_kill_disable,
        "NanoCpus": flags.cpus.unwrap_or(0),
        "CpuCount": flags.cpu_count.unwrap_or(0),
        "CpuPercent": flags.cpu_percent.unwrap_or(0),
        "CpuShares": flags.cpu_shares.unwrap_or(0),
        "CpuPeriod": flags.cpu_period.unwrap_or(0),
        "CpuQuota": flags.cpu_quota.unwrap_or(0),
        "CpuRealtimePeriod": flags.cpu_rt_period.unwrap_or(0),
        "CpuRealtimeRuntime": flags.cpu_rt_runtime.unwrap_or(0),
        "CpusetCpus": text(&flags.cpuset_cpus),
        "CpusetMems": text(&flags.cpuset_mems),
        "PidsLimit": flags.pids_limit.unwrap_or(0),
        "BlkioWeight": flags.blkio_weight.unwrap_or(0),
        "BlkioWeightDevice": flags.blkio_weight_device,
        "BlkioDeviceReadBps": flags.device_read_bps,
        "BlkioDeviceWriteBps": flags.device_write_bps,
        "BlkioDeviceReadIOps": flags.device_read_iops,
        "BlkioDeviceWriteIOps": flags.device_write_iops,
        "IOMaximumIOps": flags.io_maxiops.unwrap_or(0),
        "IOMaximumBandwidth": flags.io_maxbandwidth.unwrap_or(0),
        "Ulimits": ulimits,
        "DeviceCgroupRules": list(&flags.device_cgroup_rule),
        "Devices": devices,
        "DeviceRequests": if requests.is_empty() { Value::Null } else { requests.into() },
    });
    if let (Value::Object(host), Value::Object(resources)) = (host, resources) {
        host.extend(resources);
    }
}

fn check_modes(flags: &ContainerFlags) -> Result<(), String> {
    let pid = text(&flags.pid);
    let container = pid
        .strip_prefix("container:")
        .is_some_and(|name| !name.is_empty());
    if !(matches!(pid, "" | "host") || container) {
        return Err("--pid: invalid PID mode".into());
    }
    if !matches!(text(&flags.uts), "" | "host") {
        return Err("--uts: invalid UTS mode".into());
    }
    if !matches!(text(&flags.userns), "" | "host") {
        return Err("--userns: invalid USER mode".into());
    }
    if !matches!(text(&flags.cgroupns), "" | "host" | "private") {
        return Err("--cgroupns: invalid CGROUP mode".into());
    }
    Ok(())
}

/// `name[:count]` as a `RestartPolicy`.
pub fn restart_policy(policy: &str) -> Result<Value, String> {
    let (name, count) = policy.split_once(':').unwrap_or((policy, ""));
    if name.is_empty() && policy.contains(':') {
        return Err("invalid restart policy format: no policy provided before colon".into());
    }
    let count = match count {
        "" => 0,
        count => strconv::parse_int_decimal(count)
            .map_err(|_| "invalid restart policy format: maximum retry count must be an integer")?,
    };
    Ok(json!({"Name": name, "MaximumRetryCount": count}))
}

/// The options as they are sent (a seccomp file becomes its content), and whether system paths are unconfined.
fn security_opts(options: &[String]) -> Result<(Vec<String>, bool), String> {
    let mut out = Vec::new();
    for option in options {
        let pair = option.split_once('=').or_else(|| {
            if option == "no-new-privileges" {
                None
            } else {
                option.split_once(':')
            }
        });
        let key = pair.map_or(option.as_str(), |(key, _)| key);
        let value = pair.map_or("", |(_, value)| value);
        if value.is_empty() && key != "no-new-privileges" {
            return Err(format!(
                "Invalid --security-opt: {}",
                strconv::quote(option)
            ));
        }
        if key == "seccomp" && !matches!(value, "builtin" | "unconfined") {
            let profile = std::fs::read_to_string(value).map_err(|error| {
                format!(
                    "opening seccomp profile ({value}) failed: open {value}: {}",
                    crate::failure_text(&error)
                )
            })?;
            if let Err(error) = serde_json::from_str::<serde::de::IgnoredAny>(&profile) {
                return Err(format!(
                    "compacting json for seccomp profile ({value}) failed: {error}"
                ));
            }
            out.push(format!("seccomp={}", go_json::compact_raw(&profile)));
            continue;
        }
        out.push(option.clone());
    }
    let before = out.len();
    out.retain(|option| option != "systempaths=unconfined");
    let unconfined = out.len() != before;
    Ok((out, unconfined))
}

fn storage_opts(options: &[String]) -> Result<Map<String, Value>, String> {
    let pair = |option: &String| {
        option
            .split_once('=')
            .map(|(key, value)| (key.to_owned(), value.into()))
            .ok_or_else(|| "invalid storage option".to_owned())
    };
    options.iter().map(pair).collect()
}

fn health(flags: &ContainerFlags) -> Result<Option<Value>, String> {
    let spans = [
        ("Interval", "interval", flags.health_interval),
        ("Timeout", "timeout", flags.health_timeout),
        ("Retries", "retries", flags.health_retries),
        ("StartPeriod", "start-period", flags.health_start_period),
        (
            "StartInterval",
            "start-interval",
            flags.health_start_interval,
        ),
    ];
    let command = text(&flags.health_cmd);
    let set = !command.is_empty() || spans.iter().any(|(_, _, span)| span.unwrap_or(0) != 0);
    if flags.no_healthcheck {
        if set {
            return Err("--no-healthcheck conflicts with --health-* options".into());
        }
        return Ok(Some(json!({"Test": ["NONE"]})));
    }
    if !set {
        return Ok(None);
    }
    let mut out = Map::new();
    if !command.is_empty() {
        out.insert("Test".into(), json!(["CMD-SHELL", command]));
    }
    for (key, flag, span) in spans {
        match span.unwrap_or(0) {
            ..0 => return Err(format!("--health-{flag} cannot be negative")),
            0 => {}
            span => {
                out.insert(key.into(), span.into());
            }
        }
    }
    Ok(Some(out.into()))
}

fn endpoints(flags: &ContainerFlags) -> Result<Map<String, Value>, String> {
    let mut out = Map::new();
    if flags.network.is_empty() {
        let mut net = Attachment {
            target: "default".into(),
            ..Attachment::default()
        };
        apply_flags(&mut net, flags)?;
        out.insert(
            "default".into(),
            network::endpoint(&net)?.unwrap_or_else(|| json!({})),
        );
    }
    for (index, net) in flags.network.iter().enumerate() {
        let mut net = net.clone();
        if index == 0 {
            apply_flags(&mut net, flags)?;
        }
        let endpoint = network::endpoint(&net)?;
        if out.contains_key(&net.target) {
            return Err(format!(
                "network {} is specified multiple times",
                strconv::quote(&net.target)
            ));
        }
        if flags.network.len() > 1 || endpoint.is_some() {
            out.insert(net.target.clone(), endpoint.unwrap_or_else(|| json!({})));
        }
    }
    let user = flags
        .network
        .iter()
        .any(|net| network::is_user_defined(&net.target));
    let other = flags
        .network
        .iter()
        .any(|net| !network::is_user_defined(&net.target));
    if user && other {
        return Err("conflicting options: cannot attach both user-defined and non-user-defined network-modes".into());
    }
    Ok(out)
}

/// `--ip`, `--network-alias` and their like belong to the first network.
fn apply_flags(net: &mut Attachment, flags: &ContainerFlags) -> Result<(), String> {
    let both = |flag: &str, what: &str| {
        Err(format!(
            "conflicting options: cannot specify both --{flag} and per-network {what}"
        ))
    };
    if !net.aliases.is_empty() && !flags.network_alias.is_empty() {
        return both("network-alias", "alias");
    }
    if !net.ipv4.is_empty() && flags.ip.is_some() {
        return both("ip", "IPv4 address");
    }
    if !net.ipv6.is_empty() && flags.ip6.is_some() {
        return both("ip6", "IPv6 address");
    }
    if !net.mac.is_empty() && flags.mac_address.is_some() {
        return both("mac-address", "MAC address");
    }
    if !net.link_local_ips.is_empty() && !flags.link_local_ip.is_empty() {
        return both("link-local-ip", "link-local IP addresses");
    }
    if !flags.network_alias.is_empty() {
        net.aliases.clone_from(&flags.network_alias);
    }
    if network::is_user_defined(&net.target) {
        net.links.clone_from(&flags.link);
    }
    for (slot, flag) in [
        (&mut net.ipv4, &flags.ip),
        (&mut net.ipv6, &flags.ip6),
        (&mut net.mac, &flags.mac_address),
    ] {
        if let Some(value) = flag {
            slot.clone_from(value);
        }
    }
    if !flags.link_local_ip.is_empty() {
        net.link_local_ips.clone_from(&flags.link_local_ip);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args;
    use clap::{Args, Command, FromArgMatches};

    fn body(line: &[&str]) -> Result<Value, String> {
        #[derive(Args)]
        struct Test {
            #[command(flatten)]
            flags: ContainerFlags,
            args: Vec<String>,
        }
        let mut command = args::prepare(Test::augment_args(Command::new("run")), false);
        let words: Vec<String> = line.iter().map(|word| (*word).to_owned()).collect();
        let test = Test::from_arg_matches(&args::parse(&mut command, &words)?)
            .map_err(|error| error.to_string())?;
        build(&test.flags, &test.args[0], &test.args[1..], Vec::new())
    }

    #[test]
    fn the_readme_s_run() {
        let body = body(&[
            "-p",
            "8080:80",
            "-v",
            "site:/usr/share/nginx/html",
            "-m",
            "64m",
            "-it",
            "nginx",
            "sh",
            "-c",
            "x",
        ])
        .unwrap();
        assert_eq!(
            body["HostConfig"]["Binds"],
            json!(["site:/usr/share/nginx/html"])
        );
        assert_eq!(
            body["HostConfig"]["PortBindings"],
            json!({"80/tcp": [{"HostIp": "", "HostPort": "8080"}]})
        );
        assert_eq!(body["HostConfig"]["Memory"], 64 << 20);
        assert_eq!(body["Cmd"], json!(["sh", "-c", "x"]));
        assert_eq!(
            (&body["Tty"], &body["StdinOnce"]),
            (&json!(true), &json!(true))
        );
        assert_eq!(
            body["NetworkingConfig"],
            json!({"EndpointsConfig": {"default": {}}})
        );
    }

    #[test]
    fn entrypoints_and_networks() {
        assert_eq!(
            body(&["--entrypoint=", "x"]).unwrap()["Entrypoint"],
            json!([""])
        );
        assert_eq!(body(&["x"]).unwrap()["Entrypoint"], Value::Null);
        let nets = body(&[
            "--net",
            "a",
            "--network-alias",
            "n",
            "--ip",
            "10.0.0.9",
            "x",
        ])
        .unwrap();
        assert_eq!(
            nets["NetworkingConfig"]["EndpointsConfig"]["a"],
            json!({"Aliases": ["n"], "IPAMConfig": {"IPv4Address": "10.0.0.9"}})
        );
        assert_eq!(
            body(&["--net", "host", "x"]).unwrap()["NetworkingConfig"]["EndpointsConfig"],
            json!({})
        );
    }

    #[test]
    fn docker_s_refusals() {
        let err = |line: &[&str]| body(line).unwrap_err();
        assert_eq!(
            err(&["--rm", "--restart", "always", "x"]),
            "conflicting options: cannot specify both --restart and --rm"
        );
        assert_eq!(
            err(&["-v", ":/x", "x"]),
            "invalid spec: :/x: empty section between colons"
        );
        assert_eq!(
            err(&["--security-opt", "x", "x"]),
            "Invalid --security-opt: \"x\""
        );
        assert_eq!(
            err(&["--no-healthcheck", "--health-cmd", "y", "x"]),
            "--no-healthcheck conflicts with --health-* options"
        );
        assert_eq!(
            err(&["--restart", "on-failure:x", "x"]),
            "invalid restart policy format: maximum retry count must be an integer"
        );
        assert_eq!(
            err(&["--env-file", "/nonex", "x"]),
            "open /nonex: no such file or directory"
        );
        assert_eq!(
            err(&["--net", "host", "--net", "a", "x"]),
            "conflicting options: cannot attach both user-defined and non-user-defined network-modes"
        );
        assert_eq!(err(&["--pid", "x", "x"]), "--pid: invalid PID mode");
    }
}
