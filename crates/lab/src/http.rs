//! A small HTTP/1.1 client: enough to load a page and to hold a connection.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::host::Host;

/// Longest a connection attempt, a read or a write may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Largest page that is read, in bytes.
const BODY_MAX: usize = 1 << 20;

/// A page as it was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// Status code, 200 for a page that is there.
    pub status: u16,
    /// The text, without white space around it.
    pub body: String,
}

/// A connection that stays open between requests.
#[derive(Debug)]
pub struct Connection {
    stream: BufReader<TcpStream>,
    to: SocketAddr,
}

/// Loads `/` over a connection of its own, which is closed again.
pub fn get(from: &Host, to: SocketAddr) -> Result<Page> {
    let mut connection = Connection::open(from, to)?;
    connection.request("close")
}

/// As [`get`], over a connection that is there already, to `to`.
pub fn get_over(stream: TcpStream, to: SocketAddr) -> Result<Page> {
    Connection::over(stream, to)?.request("close")
}

impl Connection {
    /// Connects from a host.
    pub fn open(from: &Host, to: SocketAddr) -> Result<Self> {
        let stream = from
            .within(|| TcpStream::connect_timeout(&to, TIMEOUT))?
            .with_context(|| format!("{} cannot connect to {to}", from.name()))?;
        Self::over(stream, to)
    }

    fn over(stream: TcpStream, to: SocketAddr) -> Result<Self> {
        stream
            .set_read_timeout(Some(TIMEOUT))
            .context("cannot set a timeout")?;
        stream
            .set_write_timeout(Some(TIMEOUT))
            .context("cannot set a timeout")?;
        Ok(Self {
            stream: BufReader::new(stream),
            to,
        })
    }

    /// Loads `/` and keeps the connection.
    pub fn get(&mut self) -> Result<Page> {
        self.request("keep-alive")
    }

    fn request(&mut self, connection: &str) -> Result<Page> {
        let to = self.to;
        let request = format!("GET / HTTP/1.1\r\nHost: {to}\r\nConnection: {connection}\r\n\r\n");
        self.stream
            .get_mut()
            .write_all(request.as_bytes())
            .with_context(|| format!("cannot send a request to {to}"))?;
        read_page(&mut self.stream).with_context(|| format!("no answer from {to}"))
    }
}

fn read_page(stream: &mut impl BufRead) -> Result<Page> {
    let mut line = String::new();
    stream.read_line(&mut line)?;
    let status = line.split(' ').nth(1).and_then(|word| word.parse().ok());
    let Some(status) = status else {
        bail!("not HTTP: {line:?}")
    };
    let mut length = None;
    loop {
        line.clear();
        if stream.read_line(&mut line)? == 0 {
            bail!("the answer ends in its header");
        }
        if line.trim().is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse::<usize>().ok();
        }
    }
    let Some(length) = length.filter(|length| *length <= BODY_MAX) else {
        bail!("the answer has no usable Content-Length");
    };
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    Ok(Page {
        status,
        body: String::from_utf8_lossy(&body).trim().into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_as_much_as_the_answer_says() -> Result<()> {
        let mut stream = &b"HTTP/1.1 404 Not Found\r\ncontent-LENGTH: 3\r\n\r\nno\nHTTP/1.1"[..];
        let page = read_page(&mut stream)?;
        assert_eq!(
            page,
            Page {
                status: 404,
                body: "no".into()
            }
        );
        assert_eq!(stream, b"HTTP/1.1");
        Ok(())
    }

    #[test]
    fn broken_answers_are_errors() {
        for text in [
            "",
            "SSH-2.0\r\n",
            "HTTP/1.1 200 OK\r\n",
            "HTTP/1.1 200 OK\r\n\r\nbody",
        ] {
            assert!(read_page(&mut text.as_bytes()).is_err(), "{text:?}");
        }
    }
}
