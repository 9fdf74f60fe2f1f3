//! Makes clap read flags as Docker does (Go's pflag), and say what is wrong in pflag's words.
//!
//! The differences: `--rm=false` and `-d=false` are understood, a value may begin with `-`, the last of two equal flags counts,
//! and errors read `unknown flag: --foo`, `invalid argument "x" for "-m, --memory" flag: ..`.

use crate::go::strconv;
use clap::builder::{Str, ValueParser};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, ArgMatches, Command};

/// `value_name` of a flag whose absence differs from false (`--init`).
pub const TRISTATE: &str = "BOOL";

/// Turns a derived clap command into one that reads as pflag does. `interspersed`: flags may follow arguments.
pub fn prepare(command: Command, interspersed: bool) -> Command {
    // `-h` is an old name of `--help`, but for commands that use it otherwise.
    let short_help = !command
        .get_arguments()
        .any(|arg| arg.get_short() == Some('h'));
    let command = command
        .no_binary_name(true)
        .disable_help_flag(true)
        .disable_version_flag(true)
        .disable_help_subcommand(true)
        .args_override_self(true)
        .arg(help_flag(short_help));
    command.mut_args(|arg| prepare_arg(arg, interspersed))
}

fn help_flag(short: bool) -> Arg {
    let help = Arg::new("help")
        .long("help")
        .help("Print usage")
        .action(ArgAction::SetTrue);
    if short { help.short('h') } else { help }
}

/// Docker's note about `-h`, where it was used among `words` to ask for help.
pub fn short_help_note(words: &[String]) -> &'static str {
    let short = words.iter().any(|word| word == "-h") && !words.iter().any(|word| word == "--help");
    if short {
        "Flag shorthand -h has been deprecated, use --help\n"
    } else {
        ""
    }
}

fn prepare_arg(arg: Arg, interspersed: bool) -> Arg {
    if arg.is_positional() {
        return arg
            .num_args(0..)
            .required(false)
            .trailing_var_arg(!interspersed);
    }
    let tristate = value_name(&arg).as_deref() == Some(TRISTATE);
    if tristate || matches!(arg.get_action(), ArgAction::SetTrue) {
        let default = arg.get_default_values().first().cloned();
        let mut arg = arg
            .action(ArgAction::Set)
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true")
            .value_parser(ValueParser::new(|text: &str| strconv::parse_bool(text)))
            .value_name(TRISTATE);
        if !tristate {
            arg = arg.default_value(default.map_or(Str::from("false"), |text| {
                Str::from(text.to_string_lossy().into_owned())
            }));
        }
        return arg;
    }
    arg.allow_hyphen_values(true)
}

/// The Go name of a flag's type; nothing for a boolean.
pub fn value_name(arg: &Arg) -> Option<String> {
    arg.get_value_names()
        .and_then(|names| names.first())
        .map(|name| name.to_string())
}

/// Reads `words`. The error is pflag's sentence.
pub fn parse(command: &mut Command, words: &[String]) -> Result<ArgMatches, String> {
    command
        .try_get_matches_from_mut(words)
        .map_err(|error| explain(command, words, &error))
}

fn context(error: &clap::Error, kind: ContextKind) -> Option<String> {
    match error.get(kind)? {
        ContextValue::String(text) => Some(text.clone()),
        ContextValue::Strings(list) => list.first().cloned(),
        _ => None,
    }
}

fn explain(command: &Command, words: &[String], error: &clap::Error) -> String {
    let flag = context(error, ContextKind::InvalidArg).unwrap_or_default();
    match error.kind() {
        ErrorKind::UnknownArgument => unknown(words, &flag),
        ErrorKind::ValueValidation | ErrorKind::InvalidValue => {
            let value = context(error, ContextKind::InvalidValue).unwrap_or_default();
            match std::error::Error::source(error) {
                Some(source) => format!(
                    "invalid argument {} for {} flag: {source}",
                    strconv::quote(&value),
                    both_names(command, &flag)
                ),
                None => missing_value(words, &flag),
            }
        }
        ErrorKind::NoEquals
        | ErrorKind::TooFewValues
        | ErrorKind::WrongNumberOfValues
        | ErrorKind::MissingRequiredArgument => missing_value(words, &flag),
        _ => error.to_string(),
    }
}

/// The word that holds short flag `c`: `-xyz`.
fn cluster(words: &[String], c: char) -> Option<&str> {
    words
        .iter()
        .map(String::as_str)
        .find(|word| word.starts_with('-') && !word.starts_with("--") && word.contains(c))
}

fn unknown(words: &[String], flag: &str) -> String {
    if let Some(long) = flag.strip_prefix("--") {
        return format!("unknown flag: --{long}");
    }
    let c = flag.trim_start_matches('-').chars().next().unwrap_or('-');
    format!(
        "unknown shorthand flag: '{c}' in {}",
        cluster(words, c).unwrap_or(flag)
    )
}

/// pflag names the flag as it was typed: the last word, for only there can a value be missing.
fn missing_value(words: &[String], flag: &str) -> String {
    let last = words.last().map_or("", String::as_str);
    if last.starts_with("--") || !last.starts_with('-') {
        let name = if last.starts_with("--") {
            last
        } else {
            flag.split([' ', '=']).next().unwrap_or(flag)
        };
        return format!("flag needs an argument: {name}");
    }
    let c = last.chars().last().unwrap_or('-');
    format!("flag needs an argument: '{c}' in {last}")
}

/// `"-m, --memory"` of clap's `--memory <bytes>`.
fn both_names(command: &Command, flag: &str) -> String {
    let name = flag
        .split([' ', '='])
        .next()
        .unwrap_or(flag)
        .trim_end_matches("[");
    let found = command.get_arguments().find(|arg| {
        let long = arg.get_long().map(|long| format!("--{long}"));
        let short = arg.get_short().map(|short| format!("-{short}"));
        long.as_deref() == Some(name) || short.as_deref() == Some(name)
    });
    let text = match found.map(|arg| (arg.get_short(), arg.get_long())) {
        Some((Some(short), Some(long))) => format!("-{short}, --{long}"),
        Some((None, Some(long))) => format!("--{long}"),
        Some((Some(short), None)) => format!("-{short}"),
        Some((None, None)) | None => name.to_owned(),
    };
    strconv::quote(&text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Args;

    #[derive(Args, Debug)]
    struct Flags {
        #[arg(short = 'i', long)]
        interactive: bool,
        #[arg(short = 't', long)]
        tty: bool,
        #[arg(long, default_value = "true")]
        sig_proxy: bool,
        #[arg(long, value_name = "BOOL")]
        init: Option<bool>,
        #[arg(short = 'e', long, value_name = "list")]
        env: Vec<String>,
        #[arg(short = 'm', long, value_name = "bytes", value_parser = crate::go::units::ram_in_bytes)]
        memory: Option<i64>,
        #[arg(long, value_name = "string")]
        name: Option<String>,
        args: Vec<String>,
    }

    fn read(interspersed: bool, line: &str) -> Result<Flags, String> {
        use clap::FromArgMatches;
        let mut command = prepare(Flags::augment_args(Command::new("run")), interspersed);
        let words: Vec<String> = line
            .split(' ')
            .filter(|w| !w.is_empty())
            .map(str::to_owned)
            .collect();
        let matches = parse(&mut command, &words)?;
        Flags::from_arg_matches(&matches).map_err(|e| e.to_string())
    }

    #[test]
    fn reads_as_pflag_does() {
        let flags = read(false, "-it --name -x -e A=1 -eB=2 --env=C --memory 1m --sig-proxy=false --init busybox sh -c x --name y -- z").unwrap();
        assert!(flags.interactive && flags.tty && !flags.sig_proxy);
        assert_eq!(flags.init, Some(true));
        assert_eq!(flags.name.as_deref(), Some("-x"));
        assert_eq!(flags.env, ["A=1", "B=2", "C"]);
        assert_eq!(flags.memory, Some(1 << 20));
        assert_eq!(
            flags.args,
            ["busybox", "sh", "-c", "x", "--name", "y", "--", "z"]
        );
        let flags = read(true, "a -i=false --name=x b --name y -- --c").unwrap();
        assert!(!flags.interactive && flags.init.is_none() && flags.sig_proxy);
        assert_eq!(
            (flags.name.as_deref(), flags.args),
            (Some("y"), vec!["a".to_owned(), "b".into(), "--c".into()])
        );
    }

    #[test]
    fn errs_as_pflag_does() {
        let err = |line| read(false, line).unwrap_err();
        assert_eq!(err("--foo=1 x"), "unknown flag: --foo");
        assert_eq!(err("-itx x"), "unknown shorthand flag: 'x' in -itx");
        assert_eq!(err("--name"), "flag needs an argument: --name");
        assert_eq!(err("-ie"), "flag needs an argument: 'e' in -ie");
        assert_eq!(
            err("-m x busybox"),
            r#"invalid argument "x" for "-m, --memory" flag: invalid size: 'x'"#
        );
        assert_eq!(
            err("--tty=foo x"),
            r#"invalid argument "foo" for "-t, --tty" flag: strconv.ParseBool: parsing "foo": invalid syntax"#
        );
    }
}
