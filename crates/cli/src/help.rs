//! Help texts, laid out as Docker's.

use crate::args::{TRISTATE, value_name};
use clap::{Arg, Command};
use rustix::termios::tcgetwinsize;

/// Width that flags are wrapped to: the terminal's, or 80.
pub fn width() -> usize {
    match tcgetwinsize(rustix::stdio::stdin()) {
        Ok(size) if size.ws_col > 0 => usize::from(size.ws_col),
        _ => 80,
    }
}

/// One line or more per visible flag, sorted by name.
pub fn flag_usages(command: &Command, width: usize) -> String {
    let visible = |arg: &&Arg| {
        let shows_help = command
            .get_arguments()
            .any(|arg| arg.get_short() == Some('h') && arg.get_long() != Some("help"));
        !arg.is_positional() && !arg.is_hide_set() && (arg.get_long() != Some("help") || shows_help)
    };
    let mut args: Vec<&Arg> = command.get_arguments().filter(visible).collect();
    args.sort_by_key(|arg| arg.get_long());
    let heads: Vec<String> = args.iter().map(|arg| head(arg)).collect();
    let longest = heads.iter().map(String::len).max().unwrap_or(0);
    let indent = longest + 3;
    let mut out = String::new();
    for (arg, head) in args.iter().zip(&heads) {
        let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
        out.push_str(&format!(
            "{head}{}{}\n",
            " ".repeat(indent - head.len()),
            wrap(indent, width - 1, &help)
        ));
    }
    out
}

fn head(arg: &Arg) -> String {
    let long = arg.get_long().unwrap_or_default();
    let mut head = match arg.get_short() {
        Some(short) => format!("  -{short}, --{long}"),
        None => format!("      --{long}"),
    };
    if let Some(name) = value_name(arg).filter(|name| name != TRISTATE) {
        head.push(' ');
        head.push_str(&name);
    }
    head
}

/// pflag's wrapping: a block of at least 24 columns after the names, or below them; short last words may overhang by 5.
fn wrap(indent: usize, width: usize, text: &str) -> String {
    const SLOP: usize = 5;
    let (mut indent, mut room) = (indent, width.saturating_sub(indent));
    let mut out = String::new();
    if room < 24 {
        indent = 16;
        room = width.saturating_sub(indent);
        out.push('\n');
        out.push_str(&" ".repeat(indent));
    }
    if room < 24 {
        return text.replace('\n', &out);
    }
    let margin = format!("\n{}", " ".repeat(indent));
    let mut rest = text;
    loop {
        let (line, after) = wrap_one(room - SLOP, SLOP, rest);
        out.push_str(&line.replace('\n', &margin));
        if after.is_empty() {
            return out;
        }
        out.push_str(&margin);
        rest = after;
    }
}

fn wrap_one(room: usize, slop: usize, text: &str) -> (&str, &str) {
    if room + slop > text.len() {
        return (text, "");
    }
    let mut end = room;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let head = &text[..end];
    let Some(space) = head.rfind([' ', '\t', '\n']).filter(|&at| at > 0) else {
        return (text, "");
    };
    match head.rfind('\n') {
        Some(newline) if newline > 0 && newline < space => (&text[..newline], &text[newline + 1..]),
        _ => (&text[..space], &text[space + 1..]),
    }
}
