//! The connection of `genhash`, with or without TLS, within its time.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use rustls::{ClientConnection, StreamOwned};
use socket2::{Domain, Protocol, Socket, Type};

use super::options::Options;
use super::{is_timeout, tls};

/// A socket whose every wait ends at a time.
struct Timed {
    socket: TcpStream,
    timeout: Duration,
    end: Instant,
}

impl Timed {
    /// Gives it the whole time again.
    fn renew(&mut self) {
        self.end = Instant::now() + self.timeout;
    }

    fn left(&self) -> io::Result<Option<Duration>> {
        match self.end.saturating_duration_since(Instant::now()) {
            Duration::ZERO => Err(ErrorKind::TimedOut.into()),
            left => Ok(Some(left)),
        }
    }
}

impl Read for Timed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.socket.set_read_timeout(self.left()?)?;
        self.socket.read(buffer)
    }
}

impl Write for Timed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.socket.set_write_timeout(self.left()?)?;
        self.socket.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.socket.flush()
    }
}

/// A connection that has something to read or to say why not.
pub(super) struct Stream(Kind);

enum Kind {
    Plain(Timed),
    Tls(Box<StreamOwned<ClientConnection, Timed>>),
}

/// Connects as the command line says; else why not, in genhash's words.
pub(super) fn dial(options: &Options) -> Result<Stream, &'static str> {
    let mut socket = Timed {
        socket: connect(options).map_err(|error| {
            if is_timeout(&error) {
                "Timeout connecting"
            } else {
                "Connection failed"
            }
        })?,
        timeout: options.timeout,
        end: Instant::now(),
    };
    socket.renew();
    let kind = if options.tls {
        let name = options.host.as_deref().filter(|_| options.sni);
        let stream = tls::connect(socket, name, options.server.ip()).map_err(|error| {
            if is_timeout(&error) {
                "Timeout connecting"
            } else {
                "SSL handshake/communication error connecting to"
            }
        })?;
        Kind::Tls(Box::new(stream))
    } else {
        Kind::Plain(socket)
    };
    Ok(Stream(kind))
}

fn connect(options: &Options) -> io::Result<TcpStream> {
    let domain = Domain::for_address(options.server);
    let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
    if options.mark != 0 {
        socket.set_mark(options.mark)?;
    }
    // A time of nothing is over after connecting.
    let timeout = options.timeout.max(Duration::from_millis(1));
    socket.connect_timeout(&options.server.into(), timeout)?;
    Ok(socket.into())
}

impl Stream {
    pub(super) const fn is_tls(&self) -> bool {
        matches!(self.0, Kind::Tls(_))
    }

    const fn timed(&mut self) -> &mut Timed {
        match &mut self.0 {
            Kind::Plain(socket) => socket,
            Kind::Tls(stream) => &mut stream.sock,
        }
    }

    /// Sends a request, and waits for what comes back without reading it.
    pub(super) fn ask(&mut self, request: &[u8]) -> Result<(), &'static str> {
        self.timed().renew();
        let sent = match &mut self.0 {
            Kind::Plain(socket) => socket.write_all(request),
            Kind::Tls(stream) => stream.write_all(request).and_then(|()| stream.flush()),
        };
        sent.map_err(|error| {
            if is_timeout(&error) {
                "Timeout WEB write"
            } else {
                "Cannot send get request to"
            }
        })?;
        let timed = self.timed();
        timed.renew();
        let left = timed.left().map_err(|_| "Timeout WEB read")?;
        let waited = timed.socket.set_read_timeout(left);
        match waited.and_then(|()| timed.socket.peek(&mut [0])) {
            Err(error) if is_timeout(&error) => return Err("Timeout WEB read"),
            // An error shows again where it is read.
            _ => timed.renew(),
        }
        Ok(())
    }

    /// Reads some of the answer; without TLS each time within the whole time.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.0 {
            Kind::Plain(socket) => {
                socket.renew();
                socket.read(buffer)
            }
            Kind::Tls(stream) => stream.read(buffer),
        }
    }

    /// What it means that the time is over.
    pub(super) const fn timeout_words(&self) -> &'static str {
        match self.0 {
            Kind::Plain(_) => "Timeout HTTP read",
            Kind::Tls(_) => "Timeout SSL read",
        }
    }
}
