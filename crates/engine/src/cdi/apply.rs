//! Edits put into an OCI specification, as the reference implementation does it.

use std::os::unix::fs::{FileTypeExt, MetadataExt};

use hull_oci::runtime::{Device, DeviceCgroup, DeviceType, HookKind, Hooks, Mount, Spec};

use super::spec::{DeviceNode, Edits};

/// Puts `edits` into `spec`. Looks at the host's device nodes where an edit leaves their numbers open.
pub(super) fn apply(edits: &Edits, spec: &mut Spec) -> Result<(), String> {
    if let Some(process) = &mut spec.process {
        for entry in &edits.env {
            let name = entry.split('=').next().unwrap_or_default();
            let same = |known: &String| known.split('=').next() == Some(name);
            process.env.retain(|known| !same(known));
            process.env.push(entry.clone());
        }
        let gids = &mut process.user.additional_gids;
        for gid in &edits.additional_gids {
            if *gid != 0 && !gids.contains(gid) {
                gids.push(*gid);
            }
        }
    }
    let user = spec
        .process
        .as_ref()
        .map(|process| (process.user.uid, process.user.gid));
    let linux = spec.linux.get_or_insert_default();
    for node in &edits.device_nodes {
        let mut device = look_up(node)?;
        // The container's own user may use it, unless the file says whose it is.
        if let Some((uid, gid)) = user {
            device.uid = device.uid.or((uid > 0).then_some(uid));
            device.gid = device.gid.or((gid > 0).then_some(gid));
        }
        if [DeviceType::Char, DeviceType::Block].contains(&device.kind) {
            let access = match node.permissions.as_str() {
                "" => "rwm",
                given => given,
            };
            linux
                .resources
                .get_or_insert_default()
                .devices
                .push(DeviceCgroup {
                    allow: true,
                    kind: Some(device.kind),
                    major: Some(device.major),
                    minor: Some(device.minor),
                    access: Some(access.to_owned()),
                });
        }
        linux.devices.retain(|known| known.path != device.path);
        linux.devices.push(device);
    }
    if let Some(rdt) = &edits.intel_rdt {
        linux.intel_rdt = Some(rdt.clone());
    }
    for mount in &edits.mounts {
        spec.mounts
            .retain(|known| known.destination != mount.container_path);
        spec.mounts.push(Mount {
            destination: mount.container_path.clone(),
            kind: Some(mount.kind.clone())
                .filter(|kind| !kind.is_empty())
                .or(Some("bind".to_owned())),
            source: Some(mount.host_path.clone()),
            options: mount.options.clone(),
            ..Mount::default()
        });
    }
    for hook in &edits.hooks {
        let kind: HookKind = hook
            .hook_name
            .parse()
            .map_err(|_| format!("invalid hook name {:?}", hook.hook_name))?;
        list(spec.hooks.get_or_insert_default(), kind).push(hook.to_oci());
    }
    Ok(())
}

fn list(hooks: &mut Hooks, kind: HookKind) -> &mut Vec<hull_oci::runtime::Hook> {
    match kind {
        HookKind::Prestart => &mut hooks.prestart,
        HookKind::CreateRuntime => &mut hooks.create_runtime,
        HookKind::CreateContainer => &mut hooks.create_container,
        HookKind::StartContainer => &mut hooks.start_container,
        HookKind::Poststart => &mut hooks.poststart,
        HookKind::Poststop => &mut hooks.poststop,
    }
}

/// A mount lies on what is above it: those with fewer components first, the others as they were.
pub(super) fn sort_mounts(mounts: &mut [Mount]) {
    mounts.sort_by_key(|mount| {
        let parts = mount.destination.split('/');
        parts.filter(|part| !part.is_empty()).count()
    });
}

fn look_up(node: &DeviceNode) -> Result<Device, String> {
    let mut device = Device {
        path: node.path.clone(),
        kind: DeviceType::Char,
        major: node.major,
        minor: node.minor,
        file_mode: node.file_mode,
        uid: node.uid,
        gid: node.gid,
    };
    let kind = |text: &str| match text {
        "b" => DeviceType::Block,
        "p" => DeviceType::Fifo,
        "u" => DeviceType::Unbuffered,
        _ => DeviceType::Char,
    };
    let known = !node.kind.is_empty() && (node.major != 0 || node.kind == "p");
    if known {
        device.kind = kind(&node.kind);
        return Ok(device);
    }
    let path = match node.host_path.as_str() {
        "" => &node.path,
        host => host,
    };
    let failed =
        |why: &dyn std::fmt::Display| format!("failed to stat CDI host device {path:?}: {why}");
    let metadata = std::fs::metadata(path).map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => failed(&"no such file or directory"),
        _ => failed(&e),
    })?;
    let found = metadata.file_type();
    device.kind = match () {
        () if found.is_char_device() => DeviceType::Char,
        () if found.is_block_device() => DeviceType::Block,
        () if found.is_fifo() => DeviceType::Fifo,
        () => return Err(format!("{path:?} is not a device node")),
    };
    if !node.kind.is_empty() && kind(&node.kind) != device.kind {
        return Err(format!(
            "CDI device ({path:?}), host type mismatch: {:?}",
            node.kind
        ));
    }
    let number = metadata.rdev();
    if device.major == 0 && device.kind != DeviceType::Fifo {
        device.major = i64::from(rustix::fs::major(number));
        device.minor = i64::from(rustix::fs::minor(number));
    }
    Ok(device)
}
