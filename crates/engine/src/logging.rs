//! What a container's log is asked to be: options checked in Docker's words, tags rendered, labels and variables selected.

use std::collections::BTreeMap;

use hull_api::host::LogConfig as Asked;
use hull_shim::forward::{BUILT_IN, Info, options};
use hull_shim::logfile::{Rotation, parse_size};
use hull_shim::protocol::LogConfig;
use regex_lite::Regex;

use crate::error::{Error, Result, failed};
use crate::record::ContainerRecord;
use crate::world::World;

/// The tag without `--log-opt tag`.
const TAG: &str = "{{.ID}}";

/// What `Rotation::from_options` starts from here, where only the options' form matters.
const NO_ROTATION: Rotation = Rotation {
    size_bytes_max: None,
    files_max: 1,
    compress: false,
};

/// Refuses a driver that does not exist, and options that it does not take.
pub(crate) fn check(config: &Asked) -> Result<()> {
    let (driver, given) = (config.kind.as_str(), &config.config);
    if driver == "none" {
        return Ok(());
    }
    check_built_in(given).map_err(Error::invalid)?;
    if let Some(settings) = options::parse(driver, given) {
        return settings.map(drop).map_err(Error::invalid);
    }
    if !["json-file", "local"].contains(&driver) {
        return Err(Error::invalid(format!(
            "logger: no log driver named '{driver}' is registered"
        )));
    }
    let own = ["max-size", "max-file", "compress"];
    let selecting = ["labels", "labels-regex", "env", "env-regex", "tag"];
    let known = |key: &&String| {
        [&own[..], &selecting, &BUILT_IN]
            .concat()
            .contains(&key.as_str())
    };
    if let Some(key) = given.keys().find(|key| !known(key)) {
        return Err(Error::invalid(format!(
            "unknown log opt '{key}' for {driver} log driver"
        )));
    }
    Rotation::from_options(given, NO_ROTATION)
        .map(drop)
        .map_err(|error| Error::invalid(error.to_string()))
}

fn check_built_in(given: &BTreeMap<String, String>) -> std::result::Result<(), String> {
    let mode = given.get("mode").map_or("", String::as_str);
    if !["", "blocking", "non-blocking"].contains(&mode) {
        return Err(format!("logger: logging mode not supported: {mode}"));
    }
    if let Some(size) = given.get("max-buffer-size") {
        if mode != "non-blocking" {
            return Err(
                "logger: max-buffer-size option is only supported with 'mode=non-blocking'"
                    .to_owned(),
            );
        }
        parse_size(size)
            .map_err(|_| format!("error parsing option max-buffer-size: invalid size: '{size}'"))?;
    }
    for key in ["cache-disabled", "cache-compress"] {
        if let Some(value) = given.get(key) {
            options::parse_bool(value).map_err(|why| format!("invalid {key}: {why}"))?;
        }
    }
    let cache = given
        .iter()
        .filter_map(|(key, value)| Some((key.strip_prefix("cache-")?.to_owned(), value.clone())))
        .collect();
    Rotation::from_options(&cache, NO_ROTATION)
        .map(drop)
        .map_err(|error| error.to_string())
}

/// What the shim is told.
pub(crate) fn log_config(world: &World, record: &ContainerRecord) -> Result<LogConfig> {
    let asked = &record.host.log_config;
    Ok(LogConfig {
        path: world.container_dir(&record.id).log(asked, &record.id),
        driver: asked.kind.clone(),
        info: info(record, &asked.config).map_err(|why| {
            Error::invalid(format!(
                "failed to create task for container: failed to initialize logging driver: {why}"
            ))
        })?,
        options: asked.config.clone(),
        journal: world.options.journal.clone(),
    })
}

fn info(
    record: &ContainerRecord,
    options: &BTreeMap<String, String>,
) -> std::result::Result<Info, String> {
    let template = options.get("tag").map_or("", String::as_str);
    let mut attributes = attributes(record, options)?;
    let forwards = options::parse(&record.host.log_config.kind, options).is_some();
    let tag = render(record, if template.is_empty() { TAG } else { template })?;
    if !forwards && !template.is_empty() {
        attributes.insert("tag".to_owned(), tag.clone());
    }
    if !forwards {
        return Ok(Info {
            attributes,
            ..Info::default()
        });
    }
    let mut command = vec![record.path.as_str()];
    command.extend(record.args.iter().map(String::as_str));
    Ok(Info {
        id: record.id.clone(),
        name: record.name.clone(),
        image_id: record.image_id.clone(),
        image_name: record.config.image.clone(),
        command: command.join(" "),
        created: record.created.clone(),
        tag,
        attributes,
    })
}

/// The tag's template with the fields that Docker documents.
fn render(record: &ContainerRecord, template: &str) -> std::result::Result<String, String> {
    let short = |id: &str| id.get(..12).unwrap_or(id).to_owned();
    let mut text = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("{{") {
        let (field, behind) = after
            .split_once("}}")
            .ok_or_else(|| format!("template: log-tag:1: unclosed action in {template:?}"))?;
        text.push_str(before);
        rest = behind;
        text.push_str(&match field.trim() {
            ".ID" => short(&record.id),
            ".FullID" | ".ContainerID" => record.id.clone(),
            ".Name" => record.name.clone(),
            ".ContainerName" => format!("/{}", record.name),
            // With its `sha256:`, as Docker cuts it.
            ".ImageID" => short(&record.image_id),
            ".ImageFullID" | ".ContainerImageID" => record.image_id.clone(),
            ".ImageName" | ".ContainerImageName" => record.config.image.clone(),
            ".DaemonName" => "docker".to_owned(),
            other => {
                return Err(format!(
                    "template: log-tag: {{{{{other}}}}} is not a field of a log's tag"
                ));
            }
        });
    }
    text.push_str(rest);
    Ok(text)
}

/// What `labels`, `labels-regex`, `env` and `env-regex` select.
fn attributes(
    record: &ContainerRecord,
    options: &BTreeMap<String, String>,
) -> std::result::Result<BTreeMap<String, String>, String> {
    let option = |key: &str| options.get(key).filter(|value| !value.is_empty());
    let regex = |key: &str| {
        option(key)
            .map(|text| Regex::new(text).map_err(|e| format!("error parsing regexp: {e}")))
            .transpose()
    };
    let env: BTreeMap<String, String> = record
        .config
        .env
        .iter()
        .filter_map(|entry| entry.split_once('='))
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect();
    let labels: BTreeMap<String, String> = record
        .config
        .labels
        .iter()
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    let mut selected = BTreeMap::new();
    for (from, names, pattern) in [
        (&labels, option("labels"), regex("labels-regex")?),
        (&env, option("env"), regex("env-regex")?),
    ] {
        let names: Vec<&str> = names
            .map(|list| list.split(',').collect())
            .unwrap_or_default();
        for (key, value) in from {
            let matched = pattern
                .as_ref()
                .is_some_and(|pattern| pattern.is_match(key));
            if matched || names.contains(&key.as_str()) {
                selected.insert(key.clone(), value.clone());
            }
        }
    }
    Ok(selected)
}

/// Makes the folder of a log that has one of its own.
pub(crate) fn make_folder(world: &World, record: &ContainerRecord) -> Result<()> {
    if record.host.log_config.kind != "local" {
        return Ok(());
    }
    std::fs::create_dir_all(world.container_dir(&record.id).0.join("local-logs"))
        .map_err(failed("make the log's folder"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> ContainerRecord {
        let mut record = ContainerRecord {
            id: "0123456789abcdef".repeat(4),
            name: "web".to_owned(),
            image_id: format!("sha256:{}", "ab".repeat(32)),
            ..ContainerRecord::default()
        };
        record.config.image = "nginx:1".to_owned();
        record.config.env = ["A=1", "AB=2", "C=3"].map(str::to_owned).to_vec();
        record
            .config
            .labels
            .insert("com.x".to_owned(), "l".to_owned());
        record
    }

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn tags_have_dockers_fields() {
        let tag = |template| render(&record(), template);
        assert_eq!(
            tag("{{.DaemonName}}/{{ .ImageName }}/{{.Name}}/{{.ID}}").unwrap(),
            "docker/nginx:1/web/0123456789ab"
        );
        assert_eq!(tag("{{.ImageID}}").unwrap(), "sha256:ababa");
        assert!(tag("{{.Nope}}").unwrap_err().contains("{{.Nope}}"));
        assert!(tag("{{.ID").unwrap_err().contains("unclosed action"));
    }

    #[test]
    fn labels_and_variables_are_selected() {
        let selected = |pairs: &[(&str, &str)]| attributes(&record(), &map(pairs));
        assert_eq!(
            selected(&[("env", "A,Z"), ("labels", "com.x")]),
            Ok(map(&[("A", "1"), ("com.x", "l")]))
        );
        assert_eq!(
            selected(&[("env-regex", "^A"), ("labels-regex", "y")]),
            Ok(map(&[("A", "1"), ("AB", "2")]))
        );
        assert!(
            selected(&[("env-regex", "(")])
                .unwrap_err()
                .starts_with("error parsing regexp")
        );
    }

    #[test]
    fn options_are_refused_in_dockers_words() {
        let fault = |kind: &str, pairs: &[(&str, &str)]| {
            let asked = Asked {
                kind: kind.to_owned(),
                config: map(pairs).into_iter().collect(),
            };
            check(&asked).unwrap_err().message
        };
        for (kind, pairs, sentence) in [
            (
                "x",
                &[][..],
                "logger: no log driver named 'x' is registered",
            ),
            (
                "json-file",
                &[("a", "b")],
                "unknown log opt 'a' for json-file log driver",
            ),
            (
                "json-file",
                &[("mode", "x")],
                "logger: logging mode not supported: x",
            ),
            (
                "gelf",
                &[("max-buffer-size", "1m")],
                "logger: max-buffer-size option is only supported with 'mode=non-blocking'",
            ),
            (
                "syslog",
                &[("mode", "non-blocking"), ("max-buffer-size", "x")],
                "error parsing option max-buffer-size: invalid size: 'x'",
            ),
            ("gelf", &[], "gelf-address is a required parameter"),
        ] {
            assert_eq!(fault(kind, pairs), sentence);
        }
    }
}
