//! Shell completion with live names: `hull completion SHELL` prints a script that asks `hull __complete WORDS..`.

use crate::app::{Cli, Globals};
use crate::failure::{Failure, Outcome};
use crate::format::text;
use crate::registry::{Entry, Run, find};
use clap::{Arg, ArgAction, Args};
use hull_client::Query;
use serde_json::Value;
use std::time::Duration;

/// How long a shell may wait for names.
const PATIENCE: Duration = Duration::from_millis(800);

/// `hull completion`: Generate the autocompletion script for a shell.
#[derive(Args, Debug)]
pub struct Completion {
    args: Vec<String>,
}

/// The script of one shell, for the program's name.
fn script(shell: &str, bin: &str) -> Option<String> {
    let text = match shell {
        "bash" => include_str!("hull.bash"),
        "zsh" => include_str!("hull.zsh"),
        "fish" => include_str!("hull.fish"),
        _ => return None,
    };
    Some(text.replace("@BIN@", bin))
}

impl Run for Completion {
    async fn run(self, cli: &Cli) -> Outcome {
        match script(&self.args[0], &cli.bin) {
            Some(text) => cli.out(text)?,
            None => {
                return Err(Failure::new(format!(
                    "unknown shell {:?}: must be one of \"bash\", \"zsh\" or \"fish\"",
                    self.args[0]
                )));
            }
        }
        Ok(0)
    }
}

/// `hull __complete`: candidates for the last of the words, one per line, with a description after a tab.
#[derive(Args, Debug)]
pub struct Complete {
    args: Vec<String>,
}

impl Run for Complete {
    async fn run(self, _: &Cli) -> Outcome {
        let Some((partial, before)) = self.args.split_last() else {
            return Ok(0);
        };
        let (globals, words) = split_globals(before);
        let cli = Cli::new("hull", globals);
        let found = candidates(&cli, &words, partial).await;
        let mut lines: Vec<String> = found
            .into_iter()
            .filter(|(name, _)| name.starts_with(partial.as_str()))
            .map(|(name, about)| format!("{name}\t{about}\n"))
            .collect();
        lines.sort_unstable();
        lines.dedup();
        cli.out(lines.concat())?;
        Ok(0)
    }
}

type Candidates = Vec<(String, String)>;

/// The flags before the command, as far as they can be read.
fn split_globals(words: &[String]) -> (Globals, Vec<String>) {
    use clap::FromArgMatches;
    let matches = crate::args::parse(&mut crate::globals_command(), words);
    match matches
        .ok()
        .and_then(|matches| Globals::from_arg_matches(&matches).ok())
    {
        Some(globals) => {
            let words = globals.words.clone();
            (globals, words)
        }
        None => (Globals::default(), words.to_vec()),
    }
}

async fn candidates(cli: &Cli, words: &[String], partial: &str) -> Candidates {
    if let Some((entry, used)) = find(super::ENTRIES, super::GROUPS, words) {
        return arguments(cli, entry, &words[used..], partial).await;
    }
    if words.is_empty() && partial.starts_with('-') {
        return flags(&crate::globals_command());
    }
    let prefix = words
        .first()
        .map(|group| format!("{group} "))
        .unwrap_or_default();
    let visible = super::ENTRIES.iter().filter(|entry| !entry.hidden);
    let mut out: Candidates = visible
        .flat_map(|entry| {
            entry
                .paths
                .iter()
                .filter_map(|path| Some((path.strip_prefix(prefix.as_str())?, entry.about)))
        })
        .filter(|(name, _)| !name.contains(' '))
        .map(|(name, about)| (name.to_owned(), about.to_owned()))
        .collect();
    if words.is_empty() {
        out.extend(
            super::GROUPS
                .iter()
                .map(|group| (group.name.to_owned(), group.about.to_owned())),
        );
    }
    out
}

fn flags(command: &clap::Command) -> Candidates {
    let visible = command
        .get_arguments()
        .filter(|arg| !arg.is_positional() && !arg.is_hide_set());
    let about = |arg: &Arg| {
        arg.get_help()
            .map(|help| help.to_string().lines().next().unwrap_or("").to_owned())
            .unwrap_or_default()
    };
    visible
        .flat_map(|arg| {
            let long = arg.get_long().map(|long| (format!("--{long}"), about(arg)));
            let short = arg
                .get_short()
                .map(|short| (format!("-{short}"), about(arg)));
            long.into_iter().chain(short)
        })
        .collect()
}

fn takes_value(arg: &Arg) -> bool {
    matches!(arg.get_action(), ArgAction::Set | ArgAction::Append)
        && crate::args::value_name(arg).as_deref() != Some(crate::args::TRISTATE)
}

async fn arguments(cli: &Cli, entry: &Entry, words: &[String], partial: &str) -> Candidates {
    let command = entry.command();
    let flag_of = |word: &str| {
        command.get_arguments().find(|arg| {
            arg.get_long()
                .is_some_and(|long| word == format!("--{long}"))
                || (word.starts_with('-')
                    && !word.starts_with("--")
                    && arg.get_short().is_some_and(|short| word.ends_with(short)))
        })
    };
    if let Some(flag) = words
        .last()
        .and_then(|word| flag_of(word))
        .filter(|arg| takes_value(arg))
    {
        return flag_values(cli, flag.get_long().unwrap_or("")).await;
    }
    // What stands already among the arguments.
    let mut given = 0;
    let mut skip = false;
    for word in words {
        if skip {
            skip = false;
        } else if word.starts_with('-') && word.len() > 1 {
            skip = flag_of(word).is_some_and(takes_value);
        } else {
            given += 1;
        }
    }
    if partial.starts_with('-') && (entry.interspersed || given == 0) {
        return flags(&command);
    }
    names(cli, wanted(entry, given)).await
}

/// The kind of the argument at `position`, told by the usage line.
fn wanted(entry: &Entry, position: usize) -> &'static str {
    let nouns: Vec<&str> = entry
        .usage
        .split([' ', '[', ']', '.'])
        .filter(|word| word.len() > 2 && word.chars().all(|c| c.is_ascii_uppercase() || c == '|'))
        .collect();
    let nouns: Vec<&str> = nouns
        .into_iter()
        .filter(|word| *word != "OPTIONS")
        .collect();
    let noun = nouns
        .get(position)
        .or_else(|| {
            nouns
                .last()
                .filter(|_| entry.usage.contains("...]") && !entry.usage.contains("ARG"))
        })
        .copied()
        .unwrap_or("");
    let running = matches!(
        entry.paths[0],
        "container stop"
            | "container kill"
            | "container exec"
            | "container attach"
            | "container pause"
            | "container top"
            | "container port"
    );
    match noun {
        "CONTAINER" if running => "running",
        "CONTAINER" if entry.paths[0] == "container start" => "stopped",
        "CONTAINER" => "container",
        "IMAGE" => "image",
        "NETWORK" => "network",
        "VOLUME" => "volume",
        "CONTEXT" => "context",
        "NAME|ID" => "any",
        "SHELL" => "shell",
        _ => "",
    }
}

async fn flag_values(cli: &Cli, flag: &str) -> Candidates {
    let fixed: &[&str] = match flag {
        "pull" => &["always", "missing", "never"],
        "restart" => &["always", "no", "on-failure", "unless-stopped"],
        "log-level" => &["debug", "info", "warn", "error", "fatal"],
        "log-driver" => &[
            "json-file",
            "local",
            "none",
            "syslog",
            "journald",
            "gelf",
            "fluentd",
        ],
        "signal" | "stop-signal" => &[
            "SIGHUP", "SIGINT", "SIGKILL", "SIGQUIT", "SIGSTOP", "SIGTERM", "SIGUSR1", "SIGUSR2",
        ],
        "format" => &["json", "table"],
        "type" => &["container", "image", "network", "plugin", "volume"],
        "cgroupns" => &["host", "private"],
        "platform" => &[
            "linux/amd64",
            "linux/arm64",
            "linux/arm/v7",
            "linux/386",
            "linux/ppc64le",
            "linux/riscv64",
            "linux/s390x",
        ],
        _ => &[],
    };
    let live = match flag {
        "network" | "net" => names(cli, "network").await,
        "link" | "volumes-from" => names(cli, "container").await,
        "context" | "from" => names(cli, "context").await,
        _ => Vec::new(),
    };
    fixed
        .iter()
        .map(|value| ((*value).to_owned(), String::new()))
        .chain(live)
        .collect()
}

async fn names(cli: &Cli, kind: &str) -> Candidates {
    match kind {
        "context" => {
            let own = cli
                .contexts()
                .list()
                .into_iter()
                .map(|context| (context.name.clone(), context.description().to_owned()));
            own.chain([("default".to_owned(), String::new())]).collect()
        }
        "shell" => ["bash", "zsh", "fish"]
            .map(|shell| (shell.to_owned(), String::new()))
            .into(),
        "" => Vec::new(),
        "any" => {
            let mut all = Vec::new();
            for kind in ["container", "image", "network", "volume"] {
                all.extend(live(cli, kind).await);
            }
            all
        }
        kind => live(cli, kind).await,
    }
}

/// Names from the daemon; none when it does not answer in time.
async fn live(cli: &Cli, kind: &str) -> Candidates {
    let Ok(client) = cli.client() else {
        return Vec::new();
    };
    let path = match kind {
        "running" => "/containers/json",
        "container" | "stopped" => "/containers/json?all=1",
        "image" => "/images/json",
        "network" => "/networks",
        _ => "/volumes",
    };
    let Ok(Ok(mut list)) =
        tokio::time::timeout(PATIENCE, client.get::<Value>(Query::new(path))).await
    else {
        return Vec::new();
    };
    if kind == "volume" {
        list = list["Volumes"].take();
    }
    let objects = list.as_array().into_iter().flatten();
    match kind {
        "running" | "container" | "stopped" => objects
            .filter(|one| kind != "stopped" || text(one, "State") != "running")
            .filter_map(|one| {
                Some((
                    one["Names"][0].as_str()?.trim_start_matches('/').to_owned(),
                    text(one, "Image").to_owned(),
                ))
            })
            .collect(),
        "image" => objects
            .flat_map(|one| one["RepoTags"].as_array().into_iter().flatten())
            .filter_map(|tag| Some((tag.as_str()?.to_owned(), String::new())))
            .collect(),
        _ => objects
            .map(|one| (text(one, "Name").to_owned(), text(one, "Driver").to_owned()))
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complete(line: &str) -> Vec<String> {
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        let (partial, before) = words.split_last().unwrap();
        let (globals, words) = split_globals(before);
        let cli = Cli::new(
            "hull",
            Globals {
                config: Some("/nonexistent".into()),
                host: vec!["unix:///nonexistent".into()],
                ..globals
            },
        );
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let mut names: Vec<String> = runtime
            .block_on(candidates(&cli, &words, partial))
            .into_iter()
            .map(|(name, _)| name)
            .filter(|name| name.starts_with(partial.as_str()))
            .collect();
        names.sort();
        names
    }

    #[test]
    fn words_and_flags() {
        assert_eq!(complete("cont"), ["container", "context"]);
        assert_eq!(
            complete("-H unix:///x container re"),
            ["remove", "rename", "restart"]
        );
        assert_eq!(complete("run --sig"), ["--sig-proxy"]);
        assert_eq!(complete("run --pull m"), ["missing"]);
        assert_eq!(complete("completion "), ["bash", "fish", "zsh"]);
        assert!(complete("run busybox --sig").is_empty());
    }

    #[test]
    fn usage_tells_what_is_wanted() {
        let of = |path: &str, position| {
            wanted(
                super::super::ENTRIES
                    .iter()
                    .find(|entry| entry.paths.contains(&path))
                    .unwrap(),
                position,
            )
        };
        assert_eq!(
            (of("rm", 0), of("rm", 5), of("run", 0), of("run", 1)),
            ("container", "container", "image", "")
        );
        assert_eq!(
            (of("network connect", 0), of("network connect", 1)),
            ("network", "container")
        );
        assert_eq!(
            (of("inspect", 3), of("volume rm", 0), of("start", 0)),
            ("any", "volume", "stopped")
        );
    }

    #[test]
    fn scripts() {
        for shell in ["bash", "zsh", "fish"] {
            assert!(script(shell, "hull").is_some_and(|text| text.contains("hull __complete") && !text.contains("@BIN@")));
        }
    }
}
