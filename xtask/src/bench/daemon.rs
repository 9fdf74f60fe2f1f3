//! `./x bench daemon`: what a daemon does besides starting containers, beside dockerd in the same run: requests a second, logs written and
//! read, `stats` of many containers, events to many listeners. Requests are made by one client of our own, so that only daemons are compared.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};

use super::engines::{Docker, Engine, Hull};
use super::report::{Report, Row};
use super::{median, timed};

/// Containers while `GET /containers/json` is measured, and then while `stats` is.
const LISTED: usize = 50;
const CROWD: usize = 200;
/// A log is this file, so many times.
const FILE_BYTES: usize = 50_000_000;
const TIMES: usize = 10;
const REQUESTS: usize = 400;
const CLIENTS: usize = 4;
const LISTENERS: usize = 1000;
const EVENTS: usize = 100;
/// How long anything may take that is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

struct Subject {
    engine: Box<dyn Engine>,
    socket: PathBuf,
}

/// Measures, prints a Markdown table.
pub fn run(work: &Path, image: &Path) -> Result<()> {
    let hull = Hull::start(work)?;
    let docker = Docker::start(work)?;
    let subjects = [
        Subject {
            socket: hull.socket().to_path_buf(),
            engine: Box::new(hull),
        },
        Subject {
            socket: docker.socket().to_path_buf(),
            engine: Box::new(docker),
        },
    ];
    for subject in &subjects {
        let image = image.to_str().context("the image's path is text")?;
        subject.engine.run(&["import", image, "busybox:bench"])?;
    }
    let mut report = Report::new(&["docker"], "");
    logs(&subjects, work, &mut report)?;
    events(&subjects, &mut report)?;
    crowd(&subjects, &mut report)?;
    drop(subjects);
    println!("{}", report.markdown());
    Ok(())
}

/// 500 MB in lines of a hundred bytes: written by a container, and read whole.
fn logs(subjects: &[Subject], work: &Path, report: &mut Report) -> Result<()> {
    let folder = work.join("lines");
    std::fs::create_dir_all(&folder)?;
    let line = format!(
        "{}\n",
        "a line of a log, as long as such lines are; ".repeat(3)
    );
    let text = line[line.len() - 100..].repeat(FILE_BYTES / 100);
    std::fs::write(folder.join("file"), text)?;
    let mount = format!("{}:/lines", folder.display());
    let script = format!("cat{}", " /lines/file".repeat(TIMES));
    let mut write = Row::new("a container writes 500 MB to its log (run -d, wait)");
    let mut read = Row::new("the log of 500 MB read (GET /logs)");
    let mut late = Row::new("its last lines by --since (GET /logs)");
    for subject in subjects {
        let (engine, name) = (&subject.engine, subject.engine.name());
        let args = [
            "run",
            "-d",
            "--name",
            "writer",
            "-v",
            &mount,
            "busybox:bench",
            "sh",
            "-c",
        ];
        let script = format!("{script}; sleep 4; echo end");
        let (code, took) = timed(|| {
            engine.run(&[&args[..], &[&script]].concat())?;
            engine.run(&["wait", "writer"])
        })?;
        // One second before `end`, one after the lines.
        let since = SystemTime::now().duration_since(UNIX_EPOCH)? - Duration::from_secs(1);
        if code.trim() != "0" {
            bail!("{name}: the writer ended with {code}");
        }
        write = write.time(name, took.saturating_sub(Duration::from_secs(4)));
        let path = "/containers/writer/logs?stdout=1&stderr=1";
        let (bytes, took) = timed(|| drained(get(&subject.socket, path)?))?;
        if bytes < (FILE_BYTES * TIMES) as u64 {
            bail!("{name}: the log has {bytes} bytes only");
        }
        read = read.time(name, took);
        let path = format!("{path}&since={}", since.as_secs());
        let (bytes, took) = timed(|| drained(get(&subject.socket, &path)?))?;
        if bytes == 0 || bytes > 1000 {
            bail!("{name}: --since gave {bytes} bytes");
        }
        late = late.time(name, took);
        engine.run(&["rm", "-f", "writer"])?;
    }
    for row in [write, read, late] {
        report.add(row);
    }
    std::fs::remove_dir_all(folder)?;
    Ok(())
}

/// Each of many listeners must get every event.
fn events(subjects: &[Subject], report: &mut Report) -> Result<()> {
    let mut row = Row::new(&format!(
        "{EVENTS} events, until the last of {LISTENERS} listeners has all"
    ));
    for subject in subjects {
        let listeners = (0..LISTENERS)
            .map(|_| get(&subject.socket, "/events"))
            .collect::<Result<Vec<_>>>()?;
        let (lost, took) = timed(|| {
            for number in 0..EVENTS {
                let tag = format!("/images/busybox:bench/tag?repo=event&tag=n{number}");
                Client::connect(&subject.socket)?.request("POST", &tag)?;
            }
            let mut lost = 0;
            for listener in listeners {
                lost += EVENTS - heard(listener)?;
            }
            Ok(lost)
        })?;
        if lost > 0 {
            eprintln!("{}: {lost} events were lost", subject.engine.name());
        }
        row = row.time(subject.engine.name(), took);
    }
    report.add(row);
    Ok(())
}

/// How many events of ours come, until all have or none comes for a while.
fn heard(listener: BufReader<UnixStream>) -> Result<usize> {
    listener
        .get_ref()
        .set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut count = 0;
    for line in listener.lines() {
        match line {
            Ok(line) => count += line.matches("\"Action\":\"tag\"").count(),
            Err(_) => break,
        }
        if count >= EVENTS {
            break;
        }
    }
    Ok(count.min(EVENTS))
}

/// Listing 50 containers, `stats` of 200.
fn crowd(subjects: &[Subject], report: &mut Report) -> Result<()> {
    let mut list = Row::new(&format!(
        "GET /containers/json with {LISTED} containers, {CLIENTS} clients: for each request"
    ));
    let mut stats = Row::new(&format!("stats --no-stream of {CROWD} containers"));
    for subject in subjects {
        let (engine, name) = (&subject.engine, subject.engine.name());
        start(engine.as_ref(), 0, LISTED)?;
        let (_, took) = timed(|| {
            std::thread::scope(|scope| -> Result<()> {
                let workers: Vec<_> = (0..CLIENTS)
                    .map(|_| scope.spawn(|| many_lists(&subject.socket)))
                    .collect();
                for worker in workers {
                    worker.join().expect("a client does not panic")?;
                }
                Ok(())
            })
        })?;
        list = list.time(name, took / REQUESTS as u32);
        start(engine.as_ref(), LISTED, CROWD)?;
        let mut times = Vec::new();
        for _ in 0..3 {
            let (text, took) = timed(|| engine.run(&["stats", "--no-stream"]))?;
            if text.lines().count() <= CROWD {
                bail!("{name}: stats shows {} lines", text.lines().count());
            }
            times.push(took);
        }
        stats = stats.time(name, median(times));
        let names: Vec<String> = (0..CROWD).map(container).collect();
        let names = names.iter().map(String::as_str);
        engine.run(&["rm", "-f"].into_iter().chain(names).collect::<Vec<_>>())?;
    }
    report.add(list);
    report.add(stats);
    Ok(())
}

fn container(number: usize) -> String {
    format!("crowd{number}")
}

fn start(engine: &dyn Engine, from: usize, to: usize) -> Result<()> {
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..CLIENTS)
            .map(|worker| {
                scope.spawn(move || -> Result<()> {
                    for number in (from + worker..to).step_by(CLIENTS) {
                        let name = container(number);
                        let args = ["run", "-d", "--network", "none", "--name", &name];
                        engine.run(&[&args[..], &["busybox:bench", "sleep", "1000"]].concat())?;
                    }
                    Ok(())
                })
            })
            .collect();
        for worker in workers {
            worker.join().expect("a starter does not panic")?;
        }
        Ok(())
    })
}

fn many_lists(socket: &Path) -> Result<()> {
    let mut client = Client::connect(socket)?;
    for _ in 0..REQUESTS / CLIENTS {
        let body = client.request("GET", "/containers/json")?;
        let count = body
            .windows(6)
            .filter(|bytes| bytes == b"\"Id\":\"")
            .count();
        if count < LISTED {
            bail!("the list has {count} containers");
        }
    }
    Ok(())
}

/// An answer that ends with its connection: HTTP/1.0, so that nothing is cut into chunks. The head has been read.
fn get(socket: &Path, path: &str) -> Result<BufReader<UnixStream>> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: x\r\n\r\n")?;
    let mut stream = BufReader::with_capacity(1 << 18, stream);
    let mut status = String::new();
    stream.read_line(&mut status)?;
    if !status.contains(" 200") {
        bail!("GET {path}: {status}");
    }
    let mut line = String::new();
    while stream.read_line(&mut line)? > 2 {
        line.clear();
    }
    Ok(stream)
}

fn drained(mut stream: impl Read) -> Result<u64> {
    let mut buffer = vec![0; 1 << 20];
    let mut total = 0;
    loop {
        match stream.read(&mut buffer)? {
            0 => return Ok(total),
            count => total += count as u64,
        }
    }
}

/// A connection for many requests.
struct Client(BufReader<UnixStream>);

impl Client {
    fn connect(socket: &Path) -> Result<Self> {
        let stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self(BufReader::with_capacity(1 << 18, stream)))
    }

    /// The answer's body.
    fn request(&mut self, method: &str, path: &str) -> Result<Vec<u8>> {
        let stream = self.0.get_mut();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"
        )?;
        let status = self.line()?;
        if !status.contains(" 20") {
            bail!("{method} {path}: {status}");
        }
        let (mut length, mut chunked) = (0, false);
        loop {
            let line = self.line()?.to_ascii_lowercase();
            if line.is_empty() {
                break;
            }
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse()?;
            }
            chunked |= line.starts_with("transfer-encoding:") && line.contains("chunked");
        }
        let mut body = Vec::new();
        if !chunked {
            body.resize(length, 0);
            self.0.read_exact(&mut body)?;
            return Ok(body);
        }
        loop {
            let size = usize::from_str_radix(&self.line()?, 16)?;
            let before = body.len();
            body.resize(before + size, 0);
            self.0.read_exact(&mut body[before..])?;
            self.line()?;
            if size == 0 {
                return Ok(body);
            }
        }
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.0.read_line(&mut line)?;
        Ok(line.trim_end().to_owned())
    }
}
