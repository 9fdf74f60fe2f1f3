//! The image's configuration under the request's. Pure.

use hull_api::container::{ContainerConfig, HealthConfig};
use hull_image::Image;
use hull_oci::image as oci;

use crate::error::{Error, Result};

/// moby's `runconfig.Merge`: the image's values where the request has none.
pub(super) fn merge_image(config: &mut ContainerConfig, image: &Image) {
    let own: oci::ContainerConfig = image.config.config.clone().unwrap_or_default();
    let or = |mine: &mut String, theirs: &String| {
        if mine.is_empty() {
            mine.clone_from(theirs);
        }
    };
    or(&mut config.user, &own.user);
    or(&mut config.working_dir, &own.working_dir);
    or(&mut config.stop_signal, &own.stop_signal);
    config.stop_timeout = config.stop_timeout.or(own.stop_timeout);
    if config.shell.is_empty() {
        config.shell.clone_from(&own.shell);
    }
    config
        .exposed_ports
        .extend(own.exposed_ports.iter().cloned());
    config.volumes.extend(own.volumes.iter().cloned());
    for (key, value) in &own.labels {
        config
            .labels
            .entry(key.clone())
            .or_insert_with(|| value.clone());
    }
    let key = |entry: &String| entry.split('=').next().unwrap_or_default().to_owned();
    let set: std::collections::BTreeSet<String> = config.env.iter().map(key).collect();
    config.env.extend(
        own.env
            .iter()
            .filter(|entry| !set.contains(&key(entry)))
            .cloned(),
    );
    if config.entrypoint.is_empty() {
        if config.cmd.is_empty() {
            config.cmd = own.cmd.clone().unwrap_or_default();
        }
        config.entrypoint = own.entrypoint.clone().unwrap_or_default();
    } else if config.entrypoint == [""] {
        // An empty entrypoint on purpose: the image's is dropped.
        config.entrypoint.clear();
    }
    config.healthcheck = merge_health(config.healthcheck.take(), own.healthcheck.as_ref());
}

fn merge_health(
    mine: Option<HealthConfig>,
    image: Option<&oci::Healthcheck>,
) -> Option<HealthConfig> {
    let theirs = image.map(|check| HealthConfig {
        test: check.test.clone(),
        interval: check.interval,
        timeout: check.timeout,
        start_period: check.start_period,
        start_interval: check.start_interval,
        retries: check.retries,
    });
    let (mut mine, theirs) = match (mine, theirs) {
        (Some(mine), Some(theirs)) => (mine, theirs),
        (mine, theirs) => return mine.or(theirs),
    };
    if mine.test.is_empty() {
        mine.test = theirs.test;
    }
    for (mine, theirs) in [
        (&mut mine.interval, theirs.interval),
        (&mut mine.timeout, theirs.timeout),
        (&mut mine.start_period, theirs.start_period),
        (&mut mine.start_interval, theirs.start_interval),
        (&mut mine.retries, theirs.retries),
    ] {
        if *mine == 0 {
            *mine = theirs;
        }
    }
    Some(mine)
}

/// The program and its arguments.
pub(super) fn command(config: &ContainerConfig) -> Result<(String, Vec<String>)> {
    let mut words = config.entrypoint.iter().chain(&config.cmd).cloned();
    match words.next() {
        Some(path) => Ok((path, words.collect())),
        None => Err(Error::invalid("no command specified")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(config: oci::ContainerConfig) -> Image {
        let digest = hull_oci::Digest::sha256_of(b"x");
        let parsed = hull_oci::ImageConfig {
            config: Some(config),
            ..hull_oci::ImageConfig::default()
        };
        Image {
            artifact_type: None,
            id: digest.clone(),
            names: Vec::new(),
            repo_digests: Vec::new(),
            config: parsed,
            raw_config: String::new(),
            chain_id: None,
            layers: Vec::new(),
            size: 0,
            target: hull_oci::Descriptor::new("m", digest, 0),
            last_tagged: None,
            parent: None,
        }
    }

    fn words(list: &[&str]) -> Vec<String> {
        list.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn the_images_command_gives_way_as_in_docker() {
        let image = image(oci::ContainerConfig {
            entrypoint: Some(words(&["/entry"])),
            cmd: Some(words(&["default"])),
            env: words(&["A=1", "B=2"]),
            ..oci::ContainerConfig::default()
        });
        let run = |entrypoint: &[&str], cmd: &[&str]| {
            let mut config = ContainerConfig {
                entrypoint: words(entrypoint),
                cmd: words(cmd),
                env: words(&["B=3"]),
                ..ContainerConfig::default()
            };
            merge_image(&mut config, &image);
            assert_eq!(config.env, ["B=3", "A=1"]);
            command(&config)
                .map(|(path, args)| (path, args.join(" ")))
                .map_err(|error| error.message)
        };
        assert_eq!(run(&[], &[]).unwrap(), ("/entry".into(), "default".into()));
        assert_eq!(run(&[], &["x"]).unwrap(), ("/entry".into(), "x".into()));
        assert_eq!(run(&["sh"], &[]).unwrap(), ("sh".into(), String::new()));
        assert_eq!(run(&[""], &["ls"]).unwrap(), ("ls".into(), String::new()));
        assert_eq!(run(&[""], &[]).unwrap_err(), "no command specified");
    }

    #[test]
    fn health_checks_inherit_field_by_field() {
        let theirs = oci::Healthcheck {
            test: words(&["CMD", "a"]),
            interval: 5,
            retries: 2,
            ..oci::Healthcheck::default()
        };
        let mine = HealthConfig {
            interval: 7,
            ..HealthConfig::default()
        };
        let merged = merge_health(Some(mine.clone()), Some(&theirs)).unwrap();
        assert_eq!(
            (merged.test.len(), merged.interval, merged.retries),
            (2, 7, 2)
        );
        assert_eq!(merge_health(None, Some(&theirs)).unwrap().interval, 5);
        assert_eq!(merge_health(Some(mine.clone()), None), Some(mine));
        assert_eq!(merge_health(None, None), None);
    }
}
