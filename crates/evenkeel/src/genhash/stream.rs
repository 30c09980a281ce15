//! The connection of `genhash`, with or without TLS, within its time.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
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

    /// Waits until the socket is ready for this; looks once if no time is left. An error of it
    /// shows where it is used.
    fn wait(&self, flags: PollFlags) -> io::Result<()> {
        loop {
            let left = self.end.saturating_duration_since(Instant::now());
            let left = Timespec::try_from(left).ok();
            match poll(&mut [PollFd::new(&self.socket, flags)], left.as_ref()) {
                Ok(0) => return Err(ErrorKind::TimedOut.into()),
                Ok(_) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
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
    let socket = Timed {
        socket: begin(options)?,
        timeout: options.timeout,
        end: Instant::now() + options.timeout,
    };
    if socket.wait(PollFlags::OUT).is_err() {
        return Err("Timeout connecting");
    }
    let socket = connected(socket).map_err(|_| "Connection failed")?;
    let kind = if options.tls {
        let name = options.host.as_deref().filter(|_| options.sni);
        let stream = tls::connect(socket, name, options.server.ip());
        let stream = stream.map_err(|error| match error.kind() {
            _ if is_timeout(&error) => "Timeout connecting",
            ErrorKind::ConnectionReset => "Connection failed",
            _ => "SSL handshake/communication error connecting to",
        })?;
        Kind::Tls(Box::new(stream))
    } else {
        Kind::Plain(socket)
    };
    Ok(Stream(kind))
}

/// Begins to connect; else why not, as far as that shows at once.
fn begin(options: &Options) -> Result<TcpStream, &'static str> {
    const UNREACHABLE: &str = "HTTP_CHECK - network unreachable";
    let domain = Domain::for_address(options.server);
    let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP));
    let socket = socket.map_err(|_| UNREACHABLE)?;
    if options.mark != 0 && socket.set_mark(options.mark).is_err() {
        return Err("cannot set the firewall mark; it takes CAP_NET_ADMIN");
    }
    socket.set_nonblocking(true).map_err(|_| UNREACHABLE)?;
    match socket.connect(&options.server.into()) {
        Err(error) if error.raw_os_error() != Some(Errno::INPROGRESS.raw_os_error()) => {
            Err(UNREACHABLE)
        }
        _ => Ok(socket.into()),
    }
}

/// What became of connecting.
fn connected(socket: Timed) -> io::Result<Timed> {
    if let Some(error) = socket.socket.take_error()? {
        return Err(error);
    }
    socket.socket.set_nonblocking(false)?;
    Ok(socket)
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
        timed.wait(PollFlags::IN).map_err(|_| "Timeout WEB read")?;
        timed.renew();
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
