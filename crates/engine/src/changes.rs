//! Configurations of images: Dockerfile instructions given to `commit --change` and `import --change`, and the way between
//! the API's shape and OCI's. Pure.

use hull_api::container::{ContainerConfig, HealthConfig};
use hull_oci::image as oci;

use crate::error::{Error, Result};

/// Applies instructions, one a line.
pub(crate) fn apply(config: &mut ContainerConfig, changes: &[String]) -> Result<()> {
    for line in changes
        .iter()
        .flat_map(|change| change.lines())
        .map(str::trim)
        .filter(|line| !line.is_empty())
    {
        let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        one(config, &word.to_ascii_uppercase(), rest.trim())
            .ok_or_else(|| Error::invalid(format!("{line}: cannot be read")))??;
    }
    Ok(())
}

/// `None` where the arguments make no sense.
fn one(config: &mut ContainerConfig, word: &str, rest: &str) -> Option<Result<()>> {
    match word {
        "CMD" => config.cmd = command(rest),
        "ENTRYPOINT" => config.entrypoint = command(rest),
        "ENV" => {
            for (key, value) in pairs(rest)? {
                let start = format!("{key}=");
                config.env.retain(|entry| !entry.starts_with(&start));
                config.env.push(format!("{key}={value}"));
            }
        }
        "LABEL" => config.labels.extend(pairs(rest)?),
        "EXPOSE" => {
            for port in rest.split_whitespace() {
                let (protocol, first, last) = crate::networks::ports::parse_port(port).ok()?;
                config
                    .exposed_ports
                    .extend((first..=last).map(|number| format!("{number}/{protocol}")));
            }
        }
        "USER" => rest.clone_into(&mut config.user),
        "WORKDIR" => {
            let joined = if rest.starts_with('/') {
                rest.to_owned()
            } else {
                format!("{}/{rest}", config.working_dir)
            };
            config.working_dir = joined;
        }
        "VOLUME" => {
            let list = serde_json::from_str::<Vec<String>>(rest).ok();
            config.volumes.extend(
                list.unwrap_or_else(|| rest.split_whitespace().map(str::to_owned).collect()),
            );
        }
        "STOPSIGNAL" => {
            crate::signal::parse(rest).ok()?;
            rest.clone_into(&mut config.stop_signal);
        }
        "ONBUILD" => config.on_build.push(rest.to_owned()),
        "SHELL" => config.shell = serde_json::from_str(rest).ok()?,
        "HEALTHCHECK" => config.healthcheck = Some(health(rest)?),
        other => {
            return Some(Err(Error::invalid(format!(
                "{other} is not a valid change command"
            ))));
        }
    }
    Some(Ok(()))
}

/// The exec form as it is, the shell form through a shell.
fn command(text: &str) -> Vec<String> {
    serde_json::from_str(text)
        .unwrap_or_else(|_| vec!["/bin/sh".to_owned(), "-c".to_owned(), text.to_owned()])
}

/// `KEY=value KEY="a value"`, or the old `KEY the rest`.
fn pairs(text: &str) -> Option<Vec<(String, String)>> {
    let first = text.split_whitespace().next()?;
    if !first.contains('=') {
        let (key, value) = text.split_once(char::is_whitespace)?;
        return Some(vec![(key.to_owned(), value.trim().to_owned())]);
    }
    let mut pairs = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let (key, after) = rest.split_once('=')?;
        let mut value = String::new();
        let mut quote = None;
        let mut end = after.len();
        let mut chars = after.char_indices();
        while let Some((at, c)) = chars.next() {
            match (c, quote) {
                ('\\', None | Some('"')) => value.extend(chars.next().map(|(_, c)| c)),
                ('"' | '\'', None) => quote = Some(c),
                (c, Some(open)) if c == open => quote = None,
                (c, None) if c.is_whitespace() => {
                    end = at;
                    break;
                }
                (c, _) => value.push(c),
            }
        }
        pairs.push((key.trim_matches('"').to_owned(), value));
        rest = after[end..].trim_start();
    }
    Some(pairs)
}

fn health(text: &str) -> Option<HealthConfig> {
    let mut check = HealthConfig::default();
    let mut rest = text.trim();
    while let Some(flag) = rest.strip_prefix("--") {
        let (flag, after) = flag.split_once(char::is_whitespace)?;
        let (name, value) = flag.split_once('=')?;
        let nanos = || {
            hull_api::time::parse_go_duration(value)
                .and_then(|time| i64::try_from(time.as_nanos()).ok())
        };
        match name {
            "interval" => check.interval = nanos()?,
            "timeout" => check.timeout = nanos()?,
            "start-period" => check.start_period = nanos()?,
            "start-interval" => check.start_interval = nanos()?,
            "retries" => check.retries = value.parse().ok()?,
            _ => return None,
        }
        rest = after.trim_start();
    }
    if rest.eq_ignore_ascii_case("none") {
        check.test = vec!["NONE".to_owned()];
        return Some(check);
    }
    let words = rest.strip_prefix("CMD")?.trim();
    check.test = match serde_json::from_str::<Vec<String>>(words) {
        Ok(list) => std::iter::once("CMD".to_owned()).chain(list).collect(),
        Err(_) => vec!["CMD-SHELL".to_owned(), words.to_owned()],
    };
    Some(check)
}

/// As an image keeps it.
pub(crate) fn to_oci(config: &ContainerConfig) -> oci::ContainerConfig {
    oci::ContainerConfig {
        user: config.user.clone(),
        exposed_ports: config.exposed_ports.clone(),
        env: config.env.clone(),
        entrypoint: Some(config.entrypoint.clone()).filter(|words| !words.is_empty()),
        cmd: Some(config.cmd.clone()).filter(|words| !words.is_empty()),
        healthcheck: config.healthcheck.as_ref().map(|check| oci::Healthcheck {
            test: check.test.clone(),
            interval: check.interval,
            timeout: check.timeout,
            start_period: check.start_period,
            start_interval: check.start_interval,
            retries: check.retries,
        }),
        volumes: config.volumes.clone(),
        working_dir: config.working_dir.clone(),
        on_build: config.on_build.clone(),
        labels: config.labels.clone(),
        stop_signal: config.stop_signal.clone(),
        stop_timeout: config.stop_timeout,
        shell: config.shell.clone(),
        ..oci::ContainerConfig::default()
    }
}

/// As inspect shows it.
pub(crate) fn from_oci(config: &oci::ContainerConfig) -> ContainerConfig {
    ContainerConfig {
        user: config.user.clone(),
        exposed_ports: config.exposed_ports.clone(),
        env: config.env.clone(),
        entrypoint: config.entrypoint.clone().unwrap_or_default(),
        cmd: config.cmd.clone().unwrap_or_default(),
        healthcheck: config.healthcheck.as_ref().map(|check| HealthConfig {
            test: check.test.clone(),
            interval: check.interval,
            timeout: check.timeout,
            start_period: check.start_period,
            start_interval: check.start_interval,
            retries: check.retries,
        }),
        volumes: config.volumes.clone(),
        working_dir: config.working_dir.clone(),
        on_build: config.on_build.clone(),
        labels: config.labels.clone(),
        stop_signal: config.stop_signal.clone(),
        stop_timeout: config.stop_timeout,
        shell: config.shell.clone(),
        args_escaped: config.args_escaped,
        ..ContainerConfig::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instructions() {
        let mut config = ContainerConfig::default();
        let lines = [
            "CMD [\"a\", \"b\"]",
            "ENTRYPOINT run it",
            "ENV A=1 B=\"two words\"",
            "ENV C the rest",
            "label x=y",
            "EXPOSE 80 53/udp",
            "HEALTHCHECK --interval=5s --retries=2 CMD curl -f x",
        ];
        apply(&mut config, &lines.map(str::to_owned)).unwrap();
        assert_eq!(config.cmd, ["a", "b"]);
        assert_eq!(config.entrypoint, ["/bin/sh", "-c", "run it"]);
        assert_eq!(config.env, ["A=1", "B=two words", "C=the rest"]);
        assert_eq!(config.labels["x"], "y");
        assert!(config.exposed_ports.contains("80/tcp") && config.exposed_ports.contains("53/udp"));
        let check = config.healthcheck.clone().unwrap();
        assert_eq!(
            (check.interval, check.retries, check.test[1].as_str()),
            (5_000_000_000, 2, "curl -f x")
        );
        assert!(
            apply(&mut config, &["RUN x".to_owned()])
                .unwrap_err()
                .message
                .contains("RUN is not a valid change command")
        );
        assert_eq!(from_oci(&to_oci(&config)).env, config.env);
    }
}
