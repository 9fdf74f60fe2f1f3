//! The help of all commands in one file, `golden/help.txt`, so that a change of it is seen in review. `UPDATE_EXPECT=1` rewrites it.

use expect_test::expect_file;

use crate::commands::ENTRIES;
use crate::registry::command_help;

/// Columns of the terminal.
const WIDTH: usize = 80;

#[test]
fn help_of_every_command() {
    let mut entries: Vec<_> = ENTRIES.iter().filter(|entry| !entry.hidden).collect();
    entries.sort_by_key(|entry| entry.paths);
    let text: String = entries
        .iter()
        .map(|entry| {
            let path = format!("hull {}", entry.paths[0]);
            let help = command_help("hull", entry, &path, WIDTH);
            format!("==== {path} --help\n{help}\n")
        })
        .collect();
    expect_file!["../golden/help.txt"].assert_eq(&text);
}
