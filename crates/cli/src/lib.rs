//! The command line: one file per command, rendering, hints.
//!
//! `main` reads the global flags, finds the command by its words, builds only that command's parser, and runs it.
#![forbid(unsafe_code)]

pub mod app;
pub mod args;
mod commands;
pub mod config;
pub mod contexts;
pub mod failure;
mod format;
pub mod go;
#[cfg(test)]
mod golden;
pub mod help;
pub mod opts;
pub mod registry;
mod stream;
pub mod template;
pub mod values;

use app::{Cli, Globals};
use clap::{Args, FromArgMatches};
use failure::{Failure, Outcome};
use registry::{check_arity, command_help, find, flag_error, group_help, root_help};

/// Runs the command line: `name` is what the program was called, `words` what followed it. Gives the exit code.
pub fn main(name: &str, words: &[String]) -> i32 {
    let bin = if name == "docker" { "docker" } else { "hull" };
    match dispatch(bin, words) {
        Ok(status) => status,
        Err(failure) => {
            if let Some(text) = failure.told() {
                eprintln!("{text}");
            }
            failure.status()
        }
    }
}

fn dispatch(bin: &str, given: &[String]) -> Outcome {
    let mut command = globals_command();
    let matches = args::parse(&mut command, given)
        .map_err(|error| flag_error(&error, &format!("{bin} [OPTIONS] COMMAND [ARG...]"), bin))?;
    let asks_help = matches.get_flag("help");
    let globals =
        Globals::from_arg_matches(&matches).map_err(|error| Failure::new(error.to_string()))?;
    let words = globals.words.clone();
    let mut cli = Cli::new(bin, globals);
    if cli.globals.version {
        let name = if bin == "docker" { "Docker" } else { "Hull" };
        cli.line(format!(
            "{name} version {}, build {}",
            env!("CARGO_PKG_VERSION"),
            hull_api::build::Build::get().commit
        ))?;
        return Ok(0);
    }
    check_level(cli.globals.log_level.as_deref().unwrap_or("info"))?;
    if asks_help {
        cli.out(args::short_help_note(given))?;
    }
    match words.first().map(String::as_str) {
        None => show_help(&cli, &[]),
        Some(_) if asks_help => show_help(&cli, &words),
        Some("help") => show_help(&cli, &words[1..]),
        Some(_) => run(&mut cli, &words),
    }
}

/// Docker's levels; Hull's command line logs nothing below its messages.
fn check_level(level: &str) -> Result<(), Failure> {
    let known = [
        "panic", "fatal", "error", "warn", "warning", "info", "debug", "trace",
    ];
    if known.contains(&level.to_lowercase().as_str()) {
        Ok(())
    } else {
        Err(Failure::new(format!(
            "Unable to parse logging level: {level}"
        )))
    }
}

/// The flags before the command.
pub fn globals_command() -> clap::Command {
    args::prepare(Globals::augment_args(clap::Command::new("hull")), false)
}

fn run(cli: &mut Cli, words: &[String]) -> Outcome {
    let Some((entry, used)) = find(commands::ENTRIES, commands::GROUPS, words) else {
        return show_group(cli, words);
    };
    let path = format!("{} {}", cli.bin, words[..used].join(" "));
    let mut command = entry.command();
    let matches = args::parse(&mut command, &words[used..])
        .map_err(|error| flag_error(&error, &entry.use_line(&path), &path))?;
    if matches.get_flag("help") {
        cli.out(args::short_help_note(&words[used..]))?;
        cli.out(command_help(&cli.bin, entry, &path, help::width()))?;
        return Ok(0);
    }
    let count = matches
        .try_get_many::<String>("args")
        .ok()
        .flatten()
        .map_or(0, |values| values.len());
    check_arity(&cli.bin, entry, &path, count)?;
    cli.command_path = path;
    (entry.call)(cli, &matches)
}

/// A group alone shows its help; anything else is unknown.
fn show_group(cli: &Cli, words: &[String]) -> Outcome {
    let bin = &cli.bin;
    let Some(group) = commands::GROUPS.iter().find(|group| group.name == words[0]) else {
        return Err(Failure::new(format!(
            "{bin}: unknown command: {bin} {}\n\nRun '{bin} --help' for more information",
            words[0]
        )));
    };
    match words.get(1).map(String::as_str) {
        // Docker shows a group's help on stderr when nothing was asked for.
        None => {
            eprint!("{}", group_help(bin, commands::ENTRIES, group));
            Ok(0)
        }
        Some("--help" | "-h" | "help") => {
            cli.out(args::short_help_note(&words[1..]))?;
            cli.out(group_help(bin, commands::ENTRIES, group))?;
            Ok(0)
        }
        Some(flag) if flag.starts_with('-') => {
            let path = format!("{bin} {}", group.name);
            let message = match flag.strip_prefix("--") {
                Some(long) => format!("unknown flag: --{}", long.split('=').next().unwrap_or(long)),
                None => format!(
                    "unknown shorthand flag: '{}' in {flag}",
                    flag.chars().nth(1).unwrap_or('-')
                ),
            };
            Err(flag_error(&message, &path, &path))
        }
        Some(unknown) => {
            let path = format!("{bin} {}", group.name);
            Err(Failure::new(format!(
                "{bin}: unknown command: {path} {unknown}\n\nUsage:  {path}\n\nRun '{path} --help' for more information"
            )))
        }
    }
}

fn show_help(cli: &Cli, words: &[String]) -> Outcome {
    let bin = &cli.bin;
    let text = if let Some((entry, used)) = find(commands::ENTRIES, commands::GROUPS, words) {
        let path = format!("{bin} {}", words[..used].join(" "));
        command_help(bin, entry, &path, help::width())
    } else if let Some(group) = words
        .first()
        .and_then(|word| commands::GROUPS.iter().find(|group| group.name == word))
    {
        group_help(bin, commands::ENTRIES, group)
    } else if words.is_empty() {
        root_help(bin, commands::ENTRIES, commands::GROUPS, &globals_command())
    } else {
        return Err(Failure::new(format!(
            "unknown help topic: {}",
            words.join(" ")
        )));
    };
    cli.out(text)?;
    Ok(0)
}

/// An I/O error as Go words it: the system's text in lower case, without the number.
pub fn failure_text(error: &std::io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or(&text);
    let mut chars = text.chars();
    chars
        .next()
        .map(|first| first.to_lowercase().collect::<String>() + chars.as_str())
        .unwrap_or_default()
}
