//! One file: command line, daemon, shim, OCI runtime, registry server and init. Only the choice between them is made here,
//! before anything else happens: shims and inits start as often as containers.
#![forbid(unsafe_code)]

mod init;

use std::ffi::OsString;
use std::path::Path;

use hull_api::build::Build;
use hull_daemon::Personality;

fn main() {
    let args: Vec<OsString> = std::env::args_os().collect();
    std::process::exit(dispatch(args));
}

/// Runs what the name or the first argument asks for; returns the exit code.
fn dispatch(mut args: Vec<OsString>) -> i32 {
    let name = args
        .first()
        .and_then(|program| Path::new(program).file_name()?.to_str())
        .unwrap_or("hull")
        .to_owned();
    let first = args.get(1).and_then(|arg| arg.to_str());
    match (name.as_str(), first) {
        ("runc" | "hull-runtime", _) => hull_runtime::cli_main(args),
        (_, Some("runtime")) => {
            args.remove(1);
            hull_runtime::cli_main(args)
        }
        ("docker-init", _) => texts(&args[1..], init::main),
        ("dockerd", _) => texts(&args[1..], |args| {
            tell_build();
            hull_daemon::main(args, Personality::Dockerd)
        }),
        (_, Some("daemon")) => texts(&args[2..], |args| {
            tell_build();
            hull_daemon::main(args, Personality::Hull)
        }),
        (_, Some("shim")) => hull_shim::main(&args[2..]),
        (_, Some("registry")) => hull_registry::main(args.split_off(2)),
        _ => texts(args.get(1..).unwrap_or_default(), |args| {
            tell_build();
            hull_cli::main(&name, args)
        }),
    }
}

/// What build.rs found, for whoever shows it.
fn tell_build() {
    Build::new(env!("HULL_BUILD_COMMIT"), env!("HULL_BUILD_TIME")).tell();
}

/// Calls `run` with the arguments as text.
fn texts(args: &[OsString], run: impl FnOnce(&[String]) -> i32) -> i32 {
    let texts: Result<Vec<String>, OsString> =
        args.iter().map(|arg| arg.clone().into_string()).collect();
    match texts {
        Ok(texts) => run(&texts),
        Err(bad) => {
            eprintln!("hull: an argument is not valid UTF-8: {}", bad.display());
            125
        }
    }
}
