//! `hull __man DIR`: man pages of all commands, made from their help.

use crate::app::Cli;
use crate::failure::Outcome;
use crate::registry::{Entry, Run};
use clap::Args;
use std::path::Path;

/// `hull __man`: writes `hull-COMMAND.1` for every command.
#[derive(Args, Debug)]
pub struct Man {
    args: Vec<String>,
}

impl Run for Man {
    async fn run(self, _: &Cli) -> Outcome {
        let dir = Path::new(&self.args[0]);
        std::fs::create_dir_all(dir)?;
        for entry in super::ENTRIES.iter().filter(|entry| !entry.hidden) {
            for path in entry.paths {
                let name = format!("hull-{}", path.replace(' ', "-"));
                std::fs::write(dir.join(format!("{name}.1")), page(entry, path, &name)?)?;
            }
        }
        let mut root = crate::globals_command()
            .name("hull")
            .about("A self-sufficient runtime for containers")
            .override_usage("hull [OPTIONS] COMMAND [ARG...]");
        root = root.after_help("Each command has a page of its own: hull-run(1), hull-ps(1), ..");
        let mut out = Vec::new();
        clap_mangen::Man::new(root).render(&mut out)?;
        std::fs::write(dir.join("hull.1"), out)?;
        Ok(0)
    }
}

fn page(entry: &Entry, path: &str, name: &str) -> std::io::Result<Vec<u8>> {
    let command = (entry.augment)(clap::Command::new(name.to_owned()))
        .disable_help_flag(true)
        .mut_args(|arg| {
            if arg.is_positional() {
                arg.hide(true)
            } else {
                arg
            }
        });
    let command = command
        .about(entry.about)
        .long_about(entry.long)
        .override_usage(entry.use_line(&format!("hull {path}")));
    let mut out = Vec::new();
    clap_mangen::Man::new(command).render(&mut out)?;
    Ok(out)
}
