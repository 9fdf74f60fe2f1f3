//! A line for each request, in the combined log format that web servers share, with the time taken at the end.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use http::header;
use http::request::Parts;

/// Where the lines go.
#[derive(Debug)]
pub struct AccessLog(Option<File>);

/// What a line says of an answer.
#[derive(Debug)]
pub struct Line<'a> {
    /// Who asked.
    pub peer: SocketAddr,
    /// As whom.
    pub user: Option<&'a str>,
    /// What was asked.
    pub head: &'a Parts,
    /// What was answered.
    pub status: u16,
    /// Bytes of the body.
    pub len: u64,
    /// From the request's head to the response's head.
    pub took: Duration,
}

impl AccessLog {
    /// Opens the file for appending; `-` is standard output.
    pub fn open(path: Option<&Path>) -> anyhow::Result<Self> {
        let Some(path) = path else {
            return Ok(AccessLog(None));
        };
        let path = if path == Path::new("-") {
            Path::new("/dev/stdout")
        } else {
            path
        };
        let file = OpenOptions::new()
            .append(true)
            .create(true)
            .open(path)
            .with_context(|| format!("cannot open the access log {}", path.display()))?;
        Ok(AccessLog(Some(file)))
    }

    /// Writes a line, by one write(2), so that lines never mix.
    pub fn write(&self, line: &Line<'_>) {
        let Some(mut file) = self.0.as_ref() else {
            return;
        };
        // A log that cannot be written must not stop pulls.
        let _ = file.write_all(format(line, &jiff::Zoned::now()).as_bytes());
    }
}

fn format(line: &Line<'_>, now: &jiff::Zoned) -> String {
    let field = |name| {
        let value = line
            .head
            .headers
            .get(name)
            .and_then(|value| value.to_str().ok());
        escape(value.unwrap_or("-"))
    };
    format!(
        "{} - {} [{}] \"{} {} {:?}\" {} {} \"{}\" \"{}\" {:.6}\n",
        line.peer.ip(),
        escape(line.user.unwrap_or("-")),
        now.strftime("%d/%b/%Y:%H:%M:%S %z"),
        line.head.method,
        escape(
            line.head
                .uri
                .path_and_query()
                .map_or("/", |path| path.as_str())
        ),
        line.head.version,
        line.status,
        line.len,
        field(header::REFERER),
        field(header::USER_AGENT),
        line.took.as_secs_f64(),
    )
}

/// What a client sends must not forge a line, nor end a quoted field.
fn escape(text: &str) -> String {
    text.chars()
        .take(1024)
        .flat_map(|c| {
            if c.is_control() || c == '"' || c == '\\' {
                c.escape_default().collect()
            } else {
                vec![c]
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line() {
        let request = http::Request::builder()
            .uri("/v2/a/manifests/1?x=%22")
            .header("user-agent", "a\"b\\c")
            .body(())
            .expect("request");
        let (head, ()) = request.into_parts();
        let line = Line {
            peer: SocketAddr::from(([127, 0, 0, 1], 9)),
            user: Some("ad\na"),
            head: &head,
            status: 200,
            len: 5,
            took: Duration::from_micros(1500),
        };
        let now = jiff::Timestamp::UNIX_EPOCH.to_zoned(jiff::tz::TimeZone::UTC);
        expect_test::expect![[r#"
            127.0.0.1 - ad\na [01/Jan/1970:00:00:00 +0000] "GET /v2/a/manifests/1?x=%22 HTTP/1.1" 200 5 "-" "a\"b\\c" 0.001500
        "#]]
        .assert_eq(&format(&line, &now));
    }
}
