//! `syslog`: RFC 3164 and RFC 5424 messages, over the network or to this host's socket.

use std::io;

use jiff::tz::TimeZone;

use super::net::Connection;
use super::options::{self, Address, SyslogFormat};
use super::{Driver, Message};
use crate::logfile::Stream;

/// Where this host's own socket may be, in the order in which they are tried.
const LOCAL: [&str; 3] = ["/dev/log", "/var/run/syslog", "/var/run/log"];
/// The version of RFC 5424 section 6.2.2.
const VERSION: u32 = 1;

/// Sends to one server.
pub struct Syslog {
    settings: options::Syslog,
    tag: String,
    host: String,
    connection: Option<Connection>,
}

impl Syslog {
    /// Connects.
    ///
    /// # Errors
    /// When the server cannot be reached.
    pub fn open(settings: options::Syslog, tag: &str, host: &str) -> io::Result<Self> {
        let mut driver = Self {
            settings,
            tag: tag.to_owned(),
            host: host.to_owned(),
            connection: None,
        };
        driver.connection = Some(driver.connect()?);
        Ok(driver)
    }

    fn connect(&self) -> io::Result<Connection> {
        if let Some(address) = &self.settings.address {
            return Connection::open(address, &self.settings.tls);
        }
        for path in LOCAL {
            let path = path.to_owned();
            for address in [Address::Unixgram(path.clone()), Address::Unix(path)] {
                if let Ok(connection) = Connection::open(&address, &self.settings.tls) {
                    return Ok(connection);
                }
            }
        }
        Err(io::Error::new(
            io::ErrorKind::NotFound,
            "Unix syslog delivery error",
        ))
    }

    /// RFC 5425 section 4.3: over TLS an RFC 5424 message has its length in front.
    fn is_counted(&self) -> bool {
        matches!(self.settings.address, Some(Address::Tls(_)))
            && matches!(
                self.settings.format,
                SyslogFormat::Rfc5424 | SyslogFormat::Rfc5424Micro
            )
    }

    fn render(&self, message: &Message<'_>, zone: &TimeZone) -> Vec<u8> {
        let severity: u8 = match message.stream {
            Stream::Stdout => 6,
            Stream::Stderr => 3,
        };
        let priority = self.settings.facility | severity;
        let time = message.time.to_zoned(zone.clone());
        let (tag, host, pid) = (&self.tag, &self.host, std::process::id());
        let head = match self.settings.format {
            SyslogFormat::Unix => {
                let time = time.strftime("%b %e %H:%M:%S");
                format!("<{priority}>{time} {tag}[{pid}]: ")
            }
            SyslogFormat::Rfc3164 => {
                let time = time.strftime("%b %e %H:%M:%S");
                format!("<{priority}>{time} {host} {tag}[{pid}]: ")
            }
            SyslogFormat::Rfc5424 | SyslogFormat::Rfc5424Micro => {
                let time = match self.settings.format {
                    SyslogFormat::Rfc5424Micro => time.strftime("%Y-%m-%dT%H:%M:%S.%6f%:z"),
                    _ => time.strftime("%Y-%m-%dT%H:%M:%S%:z"),
                }
                .to_string()
                .replace("+00:00", "Z");
                format!("<{priority}>{VERSION} {time} {host} {tag} {pid} {tag} - ")
            }
        };
        let mut text = head.into_bytes();
        text.extend_from_slice(message.line);
        text.push(b'\n');
        if self.is_counted() {
            let mut counted = format!("{} ", text.len()).into_bytes();
            counted.append(&mut text);
            return counted;
        }
        text
    }
}

impl Driver for Syslog {
    /// A connection that fails is made anew once for each message.
    fn send(&mut self, message: &Message<'_>) -> io::Result<()> {
        let text = self.render(message, &TimeZone::system());
        if let Some(connection) = &mut self.connection
            && connection.send(&text).is_ok()
        {
            return Ok(());
        }
        self.connection = None;
        let mut connection = self.connect()?;
        connection.send(&text)?;
        self.connection = Some(connection);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_dockers() {
        let message = Message {
            stream: Stream::Stderr,
            time: "2026-01-02T03:04:05.123456789Z".parse().unwrap(),
            line: b"hello",
            partial: None,
        };
        let text = |format, address| {
            let driver = Syslog {
                settings: options::Syslog {
                    address,
                    facility: 3 << 3,
                    format,
                    tls: options::Tls::default(),
                },
                tag: "tag".to_owned(),
                host: "host".to_owned(),
                connection: None,
            };
            let text = String::from_utf8(driver.render(&message, &TimeZone::UTC)).unwrap();
            text.replace(&std::process::id().to_string(), "PID")
        };
        expect_test::expect![[r#"
            <27>Jan  2 03:04:05 tag[PID]: hello
            <27>Jan  2 03:04:05 host tag[PID]: hello
            <27>1 2026-01-02T03:04:05Z host tag PID tag - hello
            <27>1 2026-01-02T03:04:05.123456Z host tag PID tag - hello
        "#]]
        .assert_eq(
            &[
                SyslogFormat::Unix,
                SyslogFormat::Rfc3164,
                SyslogFormat::Rfc5424,
                SyslogFormat::Rfc5424Micro,
            ]
            .map(|format| text(format, None))
            .concat(),
        );
        let counted = text(SyslogFormat::Rfc5424, Some(Address::Tls(String::new())));
        let (length, rest) = counted.split_once(' ').unwrap();
        let digits = std::process::id().to_string().len();
        assert_eq!(length.parse(), Ok(rest.len() - 3 + digits));
    }
}
