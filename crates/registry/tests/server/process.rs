//! The server in a process of its own: this test program, started again with the one test that is the server.

use std::io::{BufRead as _, BufReader};
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use hull_testkit::TempRoot;

use crate::client::Client;

const ARGUMENTS: &str = "HULL_TEST_REGISTRY_ARGUMENTS";

/// Not a test: what the other tests start.
#[test]
#[ignore = "is the server that the other tests start"]
fn serve_for_parent() {
    let Ok(arguments) = std::env::var(ARGUMENTS) else {
        return;
    };
    let code = hull_registry::main(arguments.split('\n').map(Into::into).collect());
    std::process::exit(code);
}

/// A running server, killed when dropped.
#[derive(Debug)]
pub struct Server {
    child: Child,
    client: Client,
    /// Where its files are.
    pub root: PathBuf,
    arguments: Vec<String>,
    _temp: Option<TempRoot>,
}

impl Deref for Server {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl Server {
    /// Starts one with an empty root of its own.
    pub fn start(arguments: &[&str]) -> Server {
        let temp = TempRoot::new("hull-registry-test");
        let mut server = Self::start_at(&temp.join("root"), arguments);
        server._temp = Some(temp);
        server
    }

    /// Starts one with a given root.
    pub fn start_at(root: &Path, arguments: &[&str]) -> Server {
        let arguments: Vec<String> = arguments.iter().map(ToString::to_string).collect();
        let (child, client) = spawn(root, &arguments);
        Server {
            child,
            client,
            root: root.to_owned(),
            arguments,
            _temp: None,
        }
    }

    /// Kills it, as kill -9 does, and starts it again.
    pub fn kill_and_restart(&mut self) {
        self.kill();
        (self.child, self.client) = spawn(&self.root, &self.arguments);
    }

    /// Kills it.
    pub fn kill(&mut self) {
        // Only fails when it has already ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

fn spawn(root: &Path, arguments: &[String]) -> (Child, Client) {
    let mut all = vec!["--listen".to_owned(), "127.0.0.1:0".to_owned()];
    all.extend(["--root".to_owned(), root.display().to_string()]);
    all.extend(arguments.iter().cloned());
    let mut child = Command::new(std::env::current_exe().expect("own path"))
        .args([
            "--exact",
            "process::serve_for_parent",
            "--ignored",
            "--nocapture",
        ])
        .env(ARGUMENTS, all.join("\n"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("start the server");
    let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines();
    let mut said = Vec::new();
    let port = loop {
        let Some(Ok(line)) = lines.next() else {
            panic!("the server did not come up: {said:?}");
        };
        if let Some((_, port)) = line.rsplit_once("://127.0.0.1:") {
            break port.trim().parse().expect("port");
        }
        said.push(line);
    };
    // Keeps the pipe from filling, and shows what a failing test's server has said.
    std::thread::spawn(move || {
        lines
            .map_while(Result::ok)
            .for_each(|line| eprintln!("server: {line}"))
    });
    (child, Client { port })
}
