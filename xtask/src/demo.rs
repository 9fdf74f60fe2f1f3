//! `./x demo`: the main job on real input, for a newcomer: build, daemon, nginx, page fetched, all gone.
//!
//! Everything lies under one temporary folder and on one bridge of its own, so it disturbs no other
//! engine on the machine, and each step says in a line what it does and how long it took.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::apt::{self, need};
use crate::shell;

/// Where the image comes from.
#[derive(clap::Args)]
pub struct Args {
    /// Pull this image instead of making one from Debian packages (for instance nginx, or localhost:5000/nginx).
    #[arg(long)]
    pull: Option<String>,
    /// Keep the made image's tar here and use it again (default: target/demo-nginx.tar).
    #[arg(long)]
    cache: Option<PathBuf>,
}

const BRIDGE: &str = "hulldemo0";
const SUBNET: &str = "10.213.77.1/24";
const MADE_IMAGE: &str = "nginx:debian";
const READY_TIMEOUT: Duration = Duration::from_secs(10);

/// Does the whole job; cleans up also when a step fails.
pub fn run(args: &Args) -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        bail!("containers need namespaces and mounts: run ./x demo as root");
    }
    apt::install(&[need("nft", "nftables"), need("ip", "iproute2")])?;
    step("build Hull (release)", || {
        shell::run(&mut shell::cargo(&[
            "build",
            "--quiet",
            "--release",
            "--package",
            "hull",
        ]))
    })?;
    let hull = Hull::new(shell::target_dir().join("release/hull"))?;
    let mut daemon = step("start the daemon on roots and a bridge of its own", || {
        hull.daemon()
    })?;
    let done = job(&hull, args);
    let stopped = step("stop the daemon and remove the bridge", || {
        stop_daemon(&mut daemon)?;
        let _ = Command::new("ip")
            .args(["link", "delete", BRIDGE])
            .stderr(Stdio::null())
            .status();
        nothing_left(hull.root.path())
    });
    if done.is_err() {
        eprintln!("--- the daemon's log\n{}", hull.daemon_log());
    }
    done.and(stopped)?;
    println!("No process, mount, link or file is left. Next: target/release/hull --help");
    Ok(())
}

fn job(hull: &Hull, args: &Args) -> Result<()> {
    let image = match &args.pull {
        Some(image) => {
            step(&format!("pull {image}"), || {
                hull.show(&["pull", image.as_str()])
            })?;
            image.clone()
        }
        None => {
            let cache = args
                .cache
                .clone()
                .unwrap_or_else(|| shell::target_dir().join("demo-nginx.tar"));
            make_image(&cache)?;
            step("import the image", || {
                hull.quiet(&[
                    "import",
                    "--change",
                    r#"CMD ["nginx", "-g", "daemon off;"]"#,
                    "--change",
                    "EXPOSE 80/tcp",
                    "--change",
                    "STOPSIGNAL SIGQUIT",
                    cache.to_str().context("the cache's path is not UTF-8")?,
                    MADE_IMAGE,
                ])
            })?;
            MADE_IMAGE.to_owned()
        }
    };
    let port = free_port()?;
    let publish = format!("{port}:80");
    step(
        &format!("hull run -d -p {publish} -v site:/usr/share/nginx/html {image}"),
        || {
            hull.quiet(&[
                "run",
                "-d",
                "--name",
                "web",
                "-p",
                &publish,
                "-v",
                "site:/usr/share/nginx/html",
                &image,
            ])
        },
    )?;
    let page = step(
        &format!("fetch http://127.0.0.1:{port}/ through the published port"),
        || fetch_until_ready(port),
    )?;
    println!("    {}", title(&page));
    step("write a page into the volume and fetch it", || {
        let script =
            "echo '<title>Hello from a Hull volume</title>' > /usr/share/nginx/html/index.html";
        hull.quiet(&["exec", "web", "sh", "-c", script])?;
        let page = fetch(port)?;
        if !page.contains("Hello from a Hull volume") {
            bail!("the page from the volume was not served, but:\n{page}");
        }
        println!("    {}", title(&page));
        Ok(())
    })?;
    step("hull ps", || hull.show(&["ps"]))?;
    step("hull logs --tail 3 web", || {
        hull.show(&["logs", "--tail", "3", "web"])
    })?;
    step("hull stats --no-stream", || {
        hull.show(&["stats", "--no-stream"])
    })?;
    step("hull stop web", || hull.quiet(&["stop", "web"]))?;
    step("remove the container, the volume and the image", || {
        hull.quiet(&["rm", "web"])?;
        hull.quiet(&["volume", "rm", "site"])?;
        hull.quiet(&["rmi", &image])
    })
}

/// A `hull` program, and the folder that holds all its daemon makes.
struct Hull {
    program: PathBuf,
    root: tempfile::TempDir,
}

impl Hull {
    fn new(program: PathBuf) -> Result<Self> {
        let root = tempfile::Builder::new().prefix("hull-demo-").tempdir()?;
        Ok(Self { program, root })
    }

    fn host(&self) -> String {
        format!("unix://{}/hull.sock", self.root.path().display())
    }

    fn daemon(&self) -> Result<Child> {
        let root = self.root.path();
        let log = std::fs::File::create(root.join("daemon.log"))?;
        let mut child = Command::new(&self.program)
            .arg("daemon")
            .args(["-H", &self.host(), "--bridge", BRIDGE, "--bip", SUBNET])
            .arg("--data-root")
            .arg(root.join("data"))
            .arg("--exec-root")
            .arg(root.join("run"))
            .arg("--pidfile")
            .arg(root.join("hull.pid"))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("starting the daemon")?;
        let end = Instant::now() + READY_TIMEOUT;
        while !self.command(&["version"]).output()?.status.success() {
            if let Some(status) = child.try_wait()? {
                bail!("the daemon ended with {status}:\n{}", self.daemon_log());
            }
            if Instant::now() > end {
                stop_daemon(&mut child)?;
                bail!("the daemon is not ready:\n{}", self.daemon_log());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(child)
    }

    fn daemon_log(&self) -> String {
        std::fs::read_to_string(self.root.path().join("daemon.log")).unwrap_or_default()
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.env("DOCKER_HOST", self.host()).args(args);
        command
    }

    fn show(&self, args: &[&str]) -> Result<()> {
        shell::run(&mut self.command(args))
    }

    fn quiet(&self, args: &[&str]) -> Result<()> {
        shell::output(&mut self.command(args)).map(drop)
    }
}

/// A root file system with nginx from Debian's packages, as a tar at `cache`.
fn make_image(cache: &Path) -> Result<()> {
    if cache.exists() {
        println!("==> nginx image: made before, {}", cache.display());
        return Ok(());
    }
    apt::install(&[need("mmdebstrap", "mmdebstrap")])?;
    step("make an nginx image from Debian packages", || {
        if let Some(folder) = cache.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let part = cache.with_extension("part.tar");
        // As in the image that the name nginx stands for: pages in /usr/share/nginx/html, logs on the console.
        let configure = r#"set -eu
            sed -i 's,root /var/www/html;,root /usr/share/nginx/html;,' "$1/etc/nginx/sites-available/default"
            ln -sf /dev/stdout "$1/var/log/nginx/access.log"
            ln -sf /dev/stderr "$1/var/log/nginx/error.log""#;
        shell::output(
            Command::new("mmdebstrap")
                .args(["--variant=minbase", "--include=nginx-light", "--quiet"])
                .arg("--dpkgopt=path-exclude=/usr/share/doc/*")
                .arg("--dpkgopt=path-exclude=/usr/share/man/*")
                .arg(format!("--customize-hook={configure}"))
                .arg("bookworm")
                .arg(&part),
        )?;
        std::fs::rename(&part, cache)?;
        Ok(())
    })
}

fn step<T>(what: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let start = Instant::now();
    print!("==> {what} ");
    std::io::stdout().flush()?;
    let result = work();
    let took = start.elapsed();
    match &result {
        Ok(_) => println!("    [{:.1} ms]", took.as_secs_f64() * 1e3),
        Err(_) => println!("    [failed after {:.1} ms]", took.as_secs_f64() * 1e3),
    }
    result.with_context(|| format!("step failed: {what}"))
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

fn fetch(port: u16) -> Result<String> {
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(2))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(b"GET / HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

fn fetch_until_ready(port: u16) -> Result<String> {
    let end = Instant::now() + READY_TIMEOUT;
    loop {
        match fetch(port) {
            Ok(page) if page.contains(" 200 OK") => return Ok(page),
            Ok(page) if Instant::now() > end => bail!("not the page, but:\n{page}"),
            Err(e) if Instant::now() > end => return Err(e),
            _ => std::thread::sleep(Duration::from_millis(2)),
        }
    }
}

fn title(page: &str) -> &str {
    page.split("<title>")
        .nth(1)
        .and_then(|rest| rest.split("</title>").next())
        .unwrap_or("(a page without a title)")
}

fn stop_daemon(daemon: &mut Child) -> Result<()> {
    let pid = rustix::process::Pid::from_child(daemon);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
    let end = Instant::now() + READY_TIMEOUT;
    while daemon.try_wait()?.is_none() {
        if Instant::now() > end {
            daemon.kill()?;
            daemon.wait()?;
            bail!("the daemon did not stop within {READY_TIMEOUT:?} and was killed");
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}

/// No mount below `root`, no process that works there.
fn nothing_left(root: &Path) -> Result<()> {
    let root = root.to_str().context("the root's path is not UTF-8")?;
    let mounts = std::fs::read_to_string("/proc/self/mounts")?;
    if let Some(mount) = mounts.lines().find(|line| line.contains(root)) {
        bail!("a mount was left: {mount}");
    }
    for process in std::fs::read_dir("/proc")?.flatten() {
        let Ok(command) = std::fs::read(process.path().join("cmdline")) else {
            continue;
        };
        if String::from_utf8_lossy(&command).contains(root) {
            bail!("a process was left: {}", process.file_name().display());
        }
    }
    Ok(())
}
