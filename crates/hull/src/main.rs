//! One file: command line, daemon, shim, OCI runtime, registry server and init. Only the choice between them is made here,
//! before anything else happens: shims and inits start as often as containers.
#![forbid(unsafe_code)]

mod init;

use std::path::Path;

use hull_daemon::Personality;

fn main() {
    let mut args = std::env::args_os();
    let program = args.next().unwrap_or_default();
    let name = Path::new(&program)
        .file_name()
        .and_then(|n| n.to_str())
        .unwrap_or("hull")
        .to_owned();
    let args: Vec<String> = match args.map(std::ffi::OsString::into_string).collect() {
        Ok(args) => args,
        Err(bad) => {
            eprintln!("{name}: an argument is not valid UTF-8: {bad:?}");
            std::process::exit(125);
        }
    };
    std::process::exit(dispatch(&name, &args));
}

/// Runs what the name or the first argument asks for; returns the exit code.
fn dispatch(name: &str, args: &[String]) -> i32 {
    match (name, args.first().map(String::as_str)) {
        ("dockerd", _) => hull_daemon::main(args, Personality::Dockerd),
        (_, Some("daemon")) => hull_daemon::main(&args[1..], Personality::Hull),
        (_, Some("init")) => init::main(&args[1..]),
        _ => hull_cli::main(name, args),
    }
}
