//! A server that says what it was told to say, and keeps what it hears.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{
    IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket,
};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use evenkeel_lab::wait;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// Longest that a client is listened to.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a server does next.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// Listens until this has come.
    Hear(&'static str),
    /// Says this at once, in a packet of its own if it was quiet before.
    Say(Vec<u8>),
    /// Waits until the other side has read all that was said.
    Read,
    /// Says this again and again, as long as anybody listens.
    Forever(Vec<u8>),
    /// Says nothing more, and leaves the connection open.
    Hang,
    /// Drops the connection with a reset.
    Reset,
}

/// What servers speak below.
#[derive(Clone, Debug)]
pub(crate) enum Carrier {
    Tcp,
    /// With this configuration; without a goodbye at the end if `rude`. Whom the client asks
    /// for is the last of what was heard.
    Tls {
        config: Arc<ServerConfig>,
        rude: bool,
    },
    /// Each thing said is a datagram that answers; `id` copies the first two bytes of what
    /// was heard over its own.
    Udp {
        id: bool,
    },
    /// TCP on a port that nothing listens to.
    Nobody,
}

/// What was heard, for each connection.
pub(crate) type Heard = Arc<Mutex<Vec<Vec<u8>>>>;

/// A server of its own for a case.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) heard: Heard,
}

impl Server {
    /// Starts one at a port that none of `others` has, be it of another protocol: by their
    /// ports they are told apart.
    pub(crate) fn start(
        carrier: Carrier,
        ipv6: bool,
        steps: Vec<Step>,
        others: &[Self],
    ) -> Result<Self> {
        let is_free = |address: SocketAddr| {
            let port = address.port();
            others.iter().all(|other| other.address.port() != port)
        };
        let address = if ipv6 {
            SocketAddr::from((Ipv6Addr::LOCALHOST, 0))
        } else {
            SocketAddr::from((Ipv4Addr::LOCALHOST, 0))
        };
        let heard = Heard::default();
        let keep = Arc::clone(&heard);
        if let Carrier::Udp { id } = carrier {
            let mut socket = UdpSocket::bind(address)?;
            while !is_free(socket.local_addr()?) {
                socket = UdpSocket::bind(address)?;
            }
            let address = socket.local_addr()?;
            thread::spawn(move || answer(&socket, id, &steps, &keep));
            return Ok(Self { address, heard });
        }
        let mut listener = TcpListener::bind(address)?;
        while !is_free(listener.local_addr()?) {
            listener = TcpListener::bind(address)?;
        }
        let address = listener.local_addr()?;
        if !matches!(carrier, Carrier::Nobody) {
            thread::spawn(move || {
                for socket in listener.incoming().flatten() {
                    let (carrier, steps, keep) = (carrier.clone(), steps.clone(), keep.clone());
                    thread::spawn(move || serve(socket, &carrier, &steps, &keep));
                }
            });
        }
        Ok(Self { address, heard })
    }

    /// What one client said, and forgets it.
    pub(crate) fn take(&self) -> Vec<Vec<u8>> {
        let mut heard = self
            .heard
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        std::mem::take(&mut heard)
    }
}

fn answer(socket: &UdpSocket, id: bool, steps: &[Step], heard: &Heard) {
    let mut buffer = [0; 2048];
    while let Ok((length, from)) = socket.recv_from(&mut buffer) {
        let query = &buffer[..length];
        heard.lock().unwrap().push(query.to_vec());
        for step in steps {
            let Step::Say(bytes) = step else { continue };
            let mut reply = bytes.clone();
            if id && reply.len() > 1 && length > 1 {
                reply[..2].copy_from_slice(&query[..2]);
            }
            let _ = socket.send_to(&reply, from);
        }
    }
}

/// Whatever bytes go through.
trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

fn serve(socket: TcpStream, carrier: &Carrier, steps: &[Step], heard: &Heard) {
    let mut said = Vec::new();
    let _ = socket.set_nodelay(true);
    let _ = socket.set_read_timeout(Some(PATIENCE));
    let _ = socket.set_write_timeout(Some(PATIENCE));
    let (Ok(handle), Ok(local), Ok(peer)) =
        (socket.try_clone(), socket.local_addr(), socket.peer_addr())
    else {
        return;
    };
    let ends = [local, peer];
    let end = match carrier {
        Carrier::Tls { config, rude } => {
            let Ok(connection) = ServerConnection::new(Arc::clone(config)) else {
                return;
            };
            let mut stream = StreamOwned::new(connection, socket);
            let end = play(&mut stream, ends, steps, &mut said);
            let name = stream.conn.server_name().unwrap_or("nobody");
            said.extend(format!("asked for {name}").into_bytes());
            if end.is_ok() && !rude {
                stream.conn.send_close_notify();
                let _ = stream.flush();
            }
            end
        }
        _ => play(&mut &socket, ends, steps, &mut said),
    };
    if end.is_ok_and(|reset| reset) {
        let _ = socket2::SockRef::from(&handle).set_linger(Some(Duration::ZERO));
    } else {
        let _ = handle.shutdown(Shutdown::Write);
        // What is said after that is heard, too.
        let mut rest = Vec::new();
        let _ = (&handle).take(4096).read_to_end(&mut rest);
        if matches!(carrier, Carrier::Tcp) {
            said.extend(rest);
        }
    }
    heard.lock().unwrap().push(said);
}

/// Plays the steps; true if a reset is to end it.
fn play(
    stream: &mut dyn Stream,
    ends: [SocketAddr; 2],
    steps: &[Step],
    said: &mut Vec<u8>,
) -> io::Result<bool> {
    let mut buffer = [0; 4096];
    for step in steps {
        match step {
            Step::Hear(end) => {
                while !said.ends_with(end.as_bytes()) {
                    match stream.read(&mut buffer)? {
                        0 => return Ok(false),
                        length => said.extend(&buffer[..length]),
                    }
                }
            }
            Step::Say(bytes) => stream.write_all(bytes).and_then(|()| stream.flush())?,
            Step::Read => until_read(ends)?,
            Step::Forever(bytes) => loop {
                stream.write_all(bytes)?;
            },
            Step::Hang => while stream.read(&mut buffer)? > 0 {},
            Step::Reset => return Ok(true),
        }
    }
    Ok(false)
}

/// Waits until nothing of what one end of a connection on this machine has sent is still to
/// be read at the other.
fn until_read([from, to]: [SocketAddr; 2]) -> io::Result<()> {
    let name = |address: SocketAddr| match address.ip() {
        IpAddr::V4(ip) => format!("{:08X}:{:04X}", ip.to_bits().swap_bytes(), address.port()),
        IpAddr::V6(_) => String::new(),
    };
    let (from, to) = (name(from), name(to));
    let waited = wait::until(PATIENCE, "what was said to be read", || {
        let table = fs::read_to_string("/proc/thread-self/net/tcp").map_err(|e| e.to_string())?;
        let queues = |local: &str, remote: &str| {
            let words = table
                .lines()
                .map(|line| line.split_whitespace().collect::<Vec<_>>());
            let mut lines = words.filter(|words| words.get(1..3) == Some(&[local, remote]));
            lines
                .next()
                .and_then(|words| words.get(4).map(ToString::to_string))
        };
        let (sent, read) = (queues(&from, &to), queues(&to, &from));
        let is_sent = sent
            .as_deref()
            .is_none_or(|queues| queues.starts_with("00000000:"));
        let is_read = read
            .as_deref()
            .is_none_or(|queues| queues.ends_with(":00000000"));
        if is_sent && is_read {
            return Ok(());
        }
        Err(format!("{sent:?} and {read:?}"))
    });
    waited.map_err(io::Error::other)
}

/// A configuration with a certificate that nobody has reason to trust.
pub(crate) fn self_signed(directory: &Path) -> Result<Arc<ServerConfig>> {
    let (key, certificate) = (directory.join("key.pem"), directory.join("certificate.pem"));
    let output = Command::new("openssl")
        .args([
            "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
        ])
        .args(["-subj", "/CN=nobody.example", "-keyout"])
        .arg(&key)
        .arg("-out")
        .arg(&certificate)
        .output()
        .context("cannot start openssl: `scripts/setup test` installs it")?;
    ensure!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let chain = vec![CertificateDer::from_pem_file(&certificate)?];
    let key = PrivateKeyDer::from_pem_file(&key)?;
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    Ok(Arc::new(config))
}
