//! Devices by the Container Device Interface (<https://github.com/cncf-tags/container-device-interface>, specification 0.3 to 1.0):
//! files in which a vendor says what a device needs in a container. `spec` reads one file, `apply` puts edits into a specification;
//! here is which file has which device.

mod apply;
mod spec;

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use hull_api::host::HostConfig;
use hull_oci::runtime::Spec as OciSpec;

use crate::error::{Error, Result};
use spec::{Edits, Spec};

/// A file larger than this is none of ours.
const FILE_BYTES_MAX: u64 = 4 << 20;
/// Files looked at in one directory.
const FILES_MAX: usize = 1024;

/// Every device that the files in the directories describe.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    specs: Vec<Spec>,
    /// By qualified name: which file, and which of its devices. None: two files of one directory have it, so that neither counts.
    devices: BTreeMap<String, Option<(usize, usize)>>,
    /// What is wrong with files: the others count nevertheless.
    pub(crate) faults: Vec<String>,
}

impl Registry {
    /// Reads the directories; a later one counts more. One that is not there is empty.
    pub(crate) fn read(dirs: &[PathBuf]) -> Registry {
        let mut registry = Registry::default();
        for dir in dirs {
            registry.read_dir(dir);
        }
        registry
    }

    fn read_dir(&mut self, dir: &Path) {
        let mut files: Vec<PathBuf> = std::fs::read_dir(dir)
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| {
                let extension = path.extension().and_then(|extension| extension.to_str());
                matches!(extension, Some("json" | "yaml" | "yml"))
            })
            .take(FILES_MAX)
            .collect();
        files.sort();
        let mut here: BTreeMap<String, Option<(usize, usize)>> = BTreeMap::new();
        for file in files {
            let read = read_file(&file).and_then(|text| Spec::parse(&text));
            match read {
                Err(why) => self.faults.push(format!("{}: {why}", file.display())),
                Ok(spec) => {
                    let number = self.specs.len();
                    for (index, device) in spec.devices.iter().enumerate() {
                        let name = format!("{}={}", spec.kind, device.name);
                        let conflict = format!("{}: conflicting device {name}", file.display());
                        here.entry(name)
                            .and_modify(|place| {
                                *place = None;
                                self.faults.push(conflict);
                            })
                            .or_insert(Some((number, index)));
                    }
                    self.specs.push(spec);
                }
            }
        }
        self.devices.extend(here);
    }

    /// Qualified names of all devices, sorted.
    pub(crate) fn names(&self) -> impl Iterator<Item = &String> {
        let there = |(name, place): (_, &Option<_>)| place.is_some().then_some(name);
        self.devices.iter().filter_map(there)
    }

    /// Puts what `names` need into `spec`: the edits of each file once, and of each device.
    pub(crate) fn inject(&self, names: &[String], spec: &mut OciSpec) -> Result<()> {
        let mut edits: Vec<&Edits> = Vec::new();
        let mut seen = Vec::new();
        let mut unresolvable = Vec::new();
        for name in names {
            let Some(Some((file, device))) = self.devices.get(name) else {
                unresolvable.push(name.as_str());
                continue;
            };
            if !seen.contains(file) {
                seen.push(*file);
                edits.push(&self.specs[*file].container_edits);
            }
            edits.push(&self.specs[*file].devices[*device].container_edits);
        }
        if !unresolvable.is_empty() {
            return Err(Error::internal(format!(
                "CDI device injection failed: unresolvable CDI devices {}",
                unresolvable.join(", ")
            )));
        }
        for edits in edits {
            apply::apply(edits, spec)
                .map_err(|why| Error::internal(format!("CDI device injection failed: {why}")))?;
        }
        apply::sort_mounts(&mut spec.mounts);
        Ok(())
    }
}

fn read_file(path: &Path) -> std::result::Result<String, String> {
    let mut text = String::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text))
        .map_err(|e| e.to_string())?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(format!("larger than {FILE_BYTES_MAX} bytes"));
    }
    Ok(text)
}

/// Which devices the container asked for: `--device vendor.com/class=name`, and `--gpus` as NVIDIA's.
pub(crate) fn requested(host: &HostConfig) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for request in &host.resources.device_requests {
        let wants_gpu = request
            .capabilities
            .iter()
            .any(|all| all.iter().any(|one| one == "gpu"));
        match request.driver.as_str() {
            "cdi" => names.extend(request.device_ids.iter().cloned()),
            "" | "nvidia" if wants_gpu => {
                let gpu = |name: &dyn std::fmt::Display| format!("nvidia.com/gpu={name}");
                if !request.device_ids.is_empty() {
                    names.extend(request.device_ids.iter().map(|id| gpu(id)));
                } else if request.count < 0 {
                    names.push(gpu(&"all"));
                } else {
                    names.extend((0..request.count).map(|number| gpu(&number)));
                }
            }
            driver => {
                let wanted = request.capabilities.first().cloned().unwrap_or_default();
                return Err(Error::internal(format!(
                    "could not select device driver {driver:?} with capabilities: [[{}]]",
                    wanted.join(" ")
                )));
            }
        }
    }
    Ok(names)
}

/// Puts the devices that the container asked for into `spec`.
pub(crate) fn inject(dirs: &[PathBuf], host: &HostConfig, spec: &mut OciSpec) -> Result<()> {
    let names = requested(host)?;
    if names.is_empty() {
        return Ok(());
    }
    let registry = Registry::read(dirs);
    for fault in &registry.faults {
        tracing::warn!(fault, "a CDI file");
    }
    let gpus: Vec<&[String]> = host
        .resources
        .device_requests
        .iter()
        .filter(|request| request.driver != "cdi")
        .filter_map(|request| request.capabilities.first().map(Vec::as_slice))
        .collect();
    // Without any description of the vendor's devices `--gpus` fails as where no driver is installed.
    if let Some(wanted) = gpus.first()
        && !registry
            .names()
            .any(|name| name.starts_with("nvidia.com/gpu="))
    {
        return Err(Error::internal(format!(
            "could not select device driver \"\" with capabilities: [[{}]]",
            wanted.join(" ")
        )));
    }
    registry.inject(&names, spec)
}

#[cfg(test)]
mod tests;
