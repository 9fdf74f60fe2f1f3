//! Running programs with a deadline.

use std::io::Read;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// What a program did.
#[derive(Debug, Clone)]
pub struct Output {
    /// How it ended.
    pub status: ExitStatus,
    /// Its standard output, lossily as text.
    pub stdout: String,
    /// Its standard error, lossily as text.
    pub stderr: String,
}

impl Output {
    /// The exit code, or 128 plus the signal, as a shell counts.
    pub fn code(&self) -> i32 {
        use std::os::unix::process::ExitStatusExt as _;
        self.status
            .code()
            .unwrap_or_else(|| 128 + self.status.signal().unwrap_or(0))
    }

    /// Panics with everything the program said, unless it succeeded; gives its output without trailing white space.
    #[track_caller]
    pub fn ok(&self) -> &str {
        assert!(
            self.status.success(),
            "program failed: {}\nstdout: {}\nstderr: {}",
            self.status,
            self.stdout,
            self.stderr
        );
        self.stdout.trim_end()
    }
}

/// Runs a program to its end, with no input, collecting what it prints. After `limit` it is killed, and that is an error.
///
/// A grandchild that keeps the output pipes open does not hold this up: it stops reading shortly after the program itself has ended.
pub fn run(command: &mut Command, limit: Duration) -> anyhow::Result<Output> {
    run_with_input(command, &[], limit)
}

/// [`run`] with `input` on standard input.
pub fn run_with_input(
    command: &mut Command,
    input: &[u8],
    limit: Duration,
) -> anyhow::Result<Output> {
    let shown = format!("{command:?}");
    let mut child = command
        .stdin(if input.is_empty() {
            Stdio::null()
        } else {
            Stdio::piped()
        })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| anyhow::anyhow!("start {shown}: {error}"))?;
    if let Some(mut stdin) = child.stdin.take() {
        let input = input.to_vec();
        // A program that does not read its input ends the write with EPIPE when it exits.
        std::thread::spawn(move || std::io::Write::write_all(&mut stdin, &input));
    }
    let stdout = collect(child.stdout.take());
    let stderr = collect(child.stderr.take());
    let status = wait(&mut child, limit)?;
    let Some(status) = status else {
        child.kill()?;
        child.wait()?;
        anyhow::bail!(
            "{shown} was still running after {limit:?}; stdout: {}; stderr: {}",
            stdout.text(),
            stderr.text()
        );
    };
    Ok(Output {
        status,
        stdout: stdout.text(),
        stderr: stderr.text(),
    })
}

/// Waits for a child up to `limit`; `None` when it is still running.
pub fn wait(child: &mut Child, limit: Duration) -> std::io::Result<Option<ExitStatus>> {
    let end = Instant::now() + limit;
    let mut pause = Duration::from_micros(200);
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= end {
            return Ok(None);
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}

/// Asks `condition` until it holds, for at most `limit`; whether it came to hold.
pub fn eventually(limit: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + limit;
    while !condition() {
        if Instant::now() >= end {
            return false;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    true
}

/// A pipe being read to its end on its own thread.
struct Collected {
    text: std::sync::Arc<std::sync::Mutex<Vec<u8>>>,
    done: std::sync::mpsc::Receiver<()>,
}

impl Collected {
    fn text(&self) -> String {
        let _ = self.done.recv_timeout(Duration::from_millis(500));
        let bytes = self
            .text
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

fn collect(pipe: Option<impl Read + Send + 'static>) -> Collected {
    let text = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let (sender, done) = std::sync::mpsc::channel();
    if let Some(mut pipe) = pipe {
        let text = text.clone();
        std::thread::spawn(move || {
            let mut buffer = [0; 8192];
            while let Ok(count @ 1..) = pipe.read(&mut buffer) {
                text.lock()
                    .unwrap_or_else(std::sync::PoisonError::into_inner)
                    .extend_from_slice(&buffer[..count]);
            }
            let _ = sender.send(());
        });
    }
    Collected { text, done }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_and_codes() {
        let limit = Duration::from_secs(20);
        let output = run_with_input(
            Command::new("sh").args(["-c", "cat; echo no >&2; exit 3"]),
            b"yes",
            limit,
        )
        .expect("sh");
        assert_eq!(
            (
                output.code(),
                output.stdout.as_str(),
                output.stderr.as_str()
            ),
            (3, "yes", "no\n")
        );
        assert_eq!(
            run(Command::new("sh").args(["-c", "kill -9 $$"]), limit)
                .expect("sh")
                .code(),
            137
        );
    }

    #[test]
    fn a_deadline_ends_the_program() {
        let error = run(Command::new("sleep").arg("1000"), Duration::from_millis(50))
            .expect_err("too slow");
        assert!(error.to_string().contains("was still running"), "{error}");
    }
}
