//! The tree of commands: which words name which command, its usage line, and its help.

use crate::app::Cli;
use crate::failure::{Failure, Outcome};
use crate::{args, help};
use clap::{ArgMatches, Args, Command};

/// A command's arguments and what it does.
pub trait Run: Args + Sized {
    /// Runs the command; the answer is the exit code.
    fn run(self, cli: &Cli) -> impl Future<Output = Outcome>;
}

/// How many arguments a command takes besides its flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arity {
    /// None at all.
    None,
    /// This many.
    Exactly(usize),
    /// At least this many.
    AtLeast(usize),
    /// At most this many.
    AtMost(usize),
    /// Between the two.
    Between(usize, usize),
}

/// One command.
pub struct Entry {
    /// All words that name it, the main name first: `container ls`, `container list`, `ps`.
    pub paths: &'static [&'static str],
    /// What follows the name in the usage line.
    pub usage: &'static str,
    /// One line of help.
    pub about: &'static str,
    /// What the command's own help says instead.
    pub long: &'static str,
    /// Arguments besides flags.
    pub arity: Arity,
    /// Whether flags may follow arguments.
    pub interspersed: bool,
    /// Kept out of listings.
    pub hidden: bool,
    /// Adds its flags to an empty command.
    pub augment: fn(Command) -> Command,
    /// Runs it.
    pub call: fn(&Cli, &ArgMatches) -> Outcome,
}

impl Entry {
    /// An entry for command `A`.
    pub const fn new<A: Run>(
        paths: &'static [&'static str],
        usage: &'static str,
        about: &'static str,
        arity: Arity,
    ) -> Entry {
        Entry {
            paths,
            usage,
            about,
            long: about,
            arity,
            interspersed: true,
            hidden: false,
            augment: A::augment_args,
            call: call::<A>,
        }
    }

    /// Flags end at the first argument, as in `run IMAGE COMMAND --its-flag`.
    pub const fn flags_first(mut self) -> Entry {
        self.interspersed = false;
        self
    }

    /// A longer text for its own help.
    pub const fn long(mut self, text: &'static str) -> Entry {
        self.long = text;
        self
    }

    /// Not listed in help.
    pub const fn hidden(mut self) -> Entry {
        self.hidden = true;
        self
    }

    /// Its flags, ready to be read.
    pub fn command(&self) -> Command {
        args::prepare(
            (self.augment)(Command::new(self.paths[0])),
            self.interspersed,
        )
    }

    /// `hull container ls [OPTIONS]`; `@BIN@` in the usage stands for the program's name.
    pub fn use_line(&self, path: &str) -> String {
        let bin = path.split(' ').next().unwrap_or(path);
        let line = format!("{path} {}", self.usage.replace("@BIN@", bin));
        line.trim_end().to_owned()
    }
}

fn call<A: Run>(cli: &Cli, matches: &ArgMatches) -> Outcome {
    let parsed = A::from_arg_matches(matches).map_err(|error| Failure::new(error.to_string()))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let outcome = runtime.block_on(parsed.run(cli));
    // A blocked read of stdin must not keep us from leaving.
    runtime.shutdown_background();
    outcome
}

/// A word with commands below it.
pub struct Group {
    /// The word.
    pub name: &'static str,
    /// One line of help.
    pub about: &'static str,
    /// Kept out of listings.
    pub hidden: bool,
}

/// The command that `words` begin with, and how many of them name it.
pub fn find<'e>(
    entries: &'e [Entry],
    groups: &[Group],
    words: &[String],
) -> Option<(&'e Entry, usize)> {
    let first = words.first()?;
    if groups.iter().any(|group| group.name == first) {
        let path = format!("{first} {}", words.get(1)?);
        return entries
            .iter()
            .find(|entry| entry.paths.contains(&path.as_str()))
            .map(|entry| (entry, 2));
    }
    entries
        .iter()
        .find(|entry| entry.paths.contains(&first.as_str()))
        .map(|entry| (entry, 1))
}

/// Docker's sentence for a wrong number of arguments.
pub fn check_arity(bin: &str, entry: &Entry, path: &str, count: usize) -> Result<(), Failure> {
    let plural = |n: usize| if n == 1 { "argument" } else { "arguments" };
    let (fits, what, hint) = match entry.arity {
        Arity::None => (count == 0, "accepts no arguments".to_owned(), "Run"),
        Arity::Exactly(n) => (count == n, format!("requires {n} {}", plural(n)), "Run"),
        Arity::AtLeast(n) => (
            count >= n,
            format!("requires at least {n} {}", plural(n)),
            "See",
        ),
        Arity::AtMost(n) => (
            count <= n,
            format!("requires at most {n} {}", plural(n)),
            "Run",
        ),
        Arity::Between(a, b) => (
            (a..=b).contains(&count),
            format!("requires at least {a} and at most {b} {}", plural(b)),
            "Run",
        ),
    };
    if fits {
        return Ok(());
    }
    Err(Failure::new(format!(
        "{bin}: '{path}' {what}\n\nUsage:  {}\n\n{hint} '{path} --help' for more information",
        entry.use_line(path)
    )))
}

/// pflag's sentence with the usage line after it.
pub fn flag_error(message: &str, use_line: &str, path: &str) -> Failure {
    Failure::with_status(
        125,
        format!("{message}\n\nUsage:  {use_line}\n\nRun '{path} --help' for more information"),
    )
}

/// Help of one command, its flags wrapped to `width` columns.
pub fn command_help(bin: &str, entry: &Entry, path: &str, width: usize) -> String {
    let mut out = format!("Usage:  {}\n\n{}\n", entry.use_line(path), entry.long);
    if entry.paths.len() > 1 {
        let names: Vec<String> = entry
            .paths
            .iter()
            .map(|path| format!("{bin} {path}"))
            .collect();
        out.push_str(&format!("\nAliases:\n  {}\n", names.join(", ")));
    }
    let flags = help::flag_usages(&entry.command(), width);
    if !flags.is_empty() {
        out.push_str(&format!("\nOptions:\n{flags}"));
    }
    out
}

/// Help of a group.
pub fn group_help(bin: &str, entries: &[Entry], group: &Group) -> String {
    let path = format!("{bin} {}", group.name);
    let mut out = format!("Usage:  {path} COMMAND\n\n{}\n\nCommands:\n", group.about);
    let prefix = format!("{} ", group.name);
    let mut rows: Vec<(&str, &str)> = entries
        .iter()
        .filter(|entry| !entry.hidden)
        .filter_map(|entry| {
            Some((
                entry
                    .paths
                    .iter()
                    .find_map(|path| path.strip_prefix(&prefix))?,
                entry.about,
            ))
        })
        .collect();
    rows.sort_unstable();
    push_rows(&mut out, &rows);
    out.push_str(&format!(
        "\nRun '{path} COMMAND --help' for more information on a command.\n"
    ));
    out
}

/// Commands that the root's help shows first, in this order.
const COMMON: [&str; 12] = [
    "run", "exec", "ps", "build", "pull", "push", "images", "login", "logout", "search", "version",
    "info",
];

/// Help of the program.
pub fn root_help(bin: &str, entries: &[Entry], groups: &[Group], globals: &Command) -> String {
    let mut top: Vec<(&str, &str)> = entries
        .iter()
        .filter(|entry| !entry.hidden)
        .flat_map(|entry| {
            entry
                .paths
                .iter()
                .filter(|path| !path.contains(' '))
                .map(|path| (*path, entry.about))
        })
        .collect();
    top.sort_unstable();
    let common: Vec<(&str, &str)> = COMMON
        .iter()
        .filter_map(|name| top.iter().find(|(known, _)| known == name).copied())
        .collect();
    top.retain(|(name, _)| !COMMON.contains(name));
    let management: Vec<(&str, &str)> = groups
        .iter()
        .filter(|group| !group.hidden)
        .map(|group| (group.name, group.about))
        .collect();
    let mut out =
        format!("Usage:  {bin} [OPTIONS] COMMAND\n\nA self-sufficient runtime for containers\n");
    for (title, rows) in [
        ("Common Commands", common),
        ("Management Commands", management),
        ("Commands", top),
    ] {
        out.push_str(&format!("\n{title}:\n"));
        push_rows(&mut out, &rows);
    }
    out.push_str(&format!(
        "\nGlobal Options:\n{}",
        help::flag_usages(globals, help::width())
    ));
    out.push_str(&format!(
        "\nRun '{bin} COMMAND --help' for more information on a command.\n"
    ));
    out
}

fn push_rows(out: &mut String, rows: &[(&str, &str)]) {
    let width = rows
        .iter()
        .map(|(name, _)| name.len())
        .max()
        .unwrap_or(0)
        .max(11);
    for (name, about) in rows {
        out.push_str(&format!("  {name:width$} {about}\n"));
    }
}
