//! A client, a director with the daemon on it, and two servers.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use evenkeel_api::client::Client;
use evenkeel_api::{Status, paths};
use evenkeel_core::model::{ServiceView, Stats};
use evenkeel_lab::bench::{Bench, CLIENT_PORT, SERVER_PORTS, SERVERS, VIP};
use evenkeel_lab::director::Director;
use evenkeel_lab::host::Host;
use evenkeel_lab::wait;

/// Longest that the daemon may take to come up.
pub(crate) const START: Duration = Duration::from_secs(20);
/// Longest that a change may take to show.
pub(crate) const SHOW: Duration = Duration::from_secs(10);
/// Longest that one answer may take.
pub(crate) const ANSWER: Duration = Duration::from_secs(5);
/// The service of most tests.
pub(crate) const WEB: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(VIP), 80);

/// The network, and the director with its daemon.
pub(crate) struct World {
    pub(crate) client: Host,
    pub(crate) director: Director,
    pub(crate) servers: [Host; 2],
    /// The control socket's client.
    api: Client,
}

impl World {
    /// Builds the network; no daemon yet.
    pub(crate) fn build() -> Result<Self> {
        let Bench {
            client,
            director,
            servers,
        } = Bench::build("lab")?;
        // What XDP sends into a virtual cable arrives only with GRO on at its end.
        let ends = [&client, &servers[0], &servers[1]];
        for (host, port) in ends
            .into_iter()
            .zip([CLIENT_PORT, SERVER_PORTS[0], SERVER_PORTS[1]])
        {
            run(host, &format!("ethtool -K {port} gro on"))?;
        }
        // In a guest, the program is not where it was built.
        let program = std::env::var_os("EVENKEEL_PROGRAM");
        let program = program.unwrap_or_else(|| env!("CARGO_BIN_EXE_evenkeel").into());
        let director = Director::new(director, Path::new(&program), paths::DEFAULT_INSTANCE)?;
        Ok(Self {
            client,
            director,
            servers,
            api: Client::new(paths::DEFAULT_INSTANCE),
        })
    }

    /// [`World::build`], with the daemon running by this configuration.
    pub(crate) fn start(configuration: &str) -> Result<Self> {
        let mut world = Self::build()?;
        world.director.configure(configuration)?;
        world.director.start_daemon(START)?;
        Ok(world)
    }

    /// A server on each host that answers with its number, from 1, on port 8080, and
    /// the service for them.
    pub(crate) fn serve_identities(&self) -> Result<()> {
        for (identity, (host, address)) in (1..).zip(self.servers.iter().zip(SERVERS)) {
            answer_as(host, address, 8080, identity)?;
        }
        self.serve_web(8080)?;
        self.wait_for_hops()
    }

    /// A connection to the service, and the server that it was given.
    pub(crate) fn connect(&self) -> Result<(TcpStream, u8)> {
        let mut stream = connect(&self.client, WEB)?;
        let identity = ask(&mut stream)?;
        Ok((stream, identity))
    }

    /// A connection to each of the two servers, in their order.
    pub(crate) fn connect_to_each(&self) -> Result<[TcpStream; 2]> {
        let ((a, first), (b, second)) = (self.connect()?, self.connect()?);
        match (first, second) {
            (1, 2) => Ok([a, b]),
            (2, 1) => Ok([b, a]),
            other => bail!("not round robin: {other:?}"),
        }
    }

    /// Runs the administrator's commands, each of which has to work and say nothing.
    pub(crate) fn admin(&self, commands: &[&str]) -> Result<()> {
        for command in commands {
            let output = self.director.shell(command)?;
            if output.status != 0 || !output.stdout.is_empty() || !output.stderr.is_empty() {
                bail!("{command}: {output}");
            }
        }
        Ok(())
    }

    /// A service on port 80 of the VIP, and both servers on `port`, by NAT.
    pub(crate) fn serve_web(&self, port: u16) -> Result<()> {
        let [first, second] = SERVERS.map(|a| format!("ipvsadm -a -t {WEB} -r {a}:{port} -m"));
        self.admin(&[&format!("ipvsadm -A -t {WEB} -s rr"), &first, &second])
    }

    /// The control socket's client.
    pub(crate) const fn api(&self) -> &Client {
        &self.api
    }

    pub(crate) fn status(&self) -> Result<Status> {
        self.api.status().context("no status")
    }

    /// The service on a port.
    pub(crate) fn service(&self, port: u16) -> Result<ServiceView> {
        let services = self.api.services(None)?.services;
        let found = services
            .into_iter()
            .find(|service| service.key.port() == port);
        found.with_context(|| format!("no service on port {port}"))
    }

    /// How often something was counted for this reason.
    pub(crate) fn reason(&self, name: &str) -> Result<u64> {
        let reasons = self.status()?.reasons;
        let found = reasons.iter().find(|reason| reason.name == name);
        Ok(found.map_or(0, |reason| reason.count))
    }

    /// Waits until `condition` holds for the status.
    pub(crate) fn wait_for_status(
        &self,
        what: &str,
        condition: impl Fn(&Status) -> bool,
    ) -> Result<Status> {
        wait::until(SHOW, what, || match self.status() {
            Ok(status) if condition(&status) => Ok(status),
            Ok(status) => Err(format!("{status:?}")),
            Err(error) => Err(format!("{error:#}")),
        })
    }

    /// Waits until the daemon knows the way to every server.
    pub(crate) fn wait_for_hops(&self) -> Result<()> {
        self.wait_for_status("the servers' next hops", |s| s.servers_without_hop == 0)
            .map(drop)
    }
}

/// Runs a command on a host, which has to work; gives what it wrote.
pub(crate) fn run(host: &Host, line: &str) -> Result<String> {
    let output = host.output(Command::new("sh").args(["-c", line]))?;
    if !output.status.success() {
        let error = String::from_utf8_lossy(&output.stderr);
        bail!("{}# {line}: {}", host.name(), error.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Listens on a host.
pub(crate) fn listen(host: &Host, address: impl Into<IpAddr>, port: u16) -> Result<TcpListener> {
    let address = address.into();
    host.within(|| TcpListener::bind((address, port)))?
        .with_context(|| format!("{} cannot listen at {address}:{port}", host.name()))
}

/// Connects from a host, with deadlines.
pub(crate) fn connect(host: &Host, to: SocketAddr) -> Result<TcpStream> {
    let stream = host
        .within(|| TcpStream::connect_timeout(&to, ANSWER))?
        .with_context(|| format!("{} cannot connect to {to}", host.name()))?;
    stream.set_read_timeout(Some(ANSWER))?;
    stream.set_write_timeout(Some(ANSWER))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Answers on a host: each byte that comes by a connection with `identity`.
pub(crate) fn answer_as(
    host: &Host,
    address: impl Into<IpAddr>,
    port: u16,
    identity: u8,
) -> Result<()> {
    let address = address.into();
    let listener = listen(host, address, port)?;
    thread::spawn(move || -> Result<()> {
        loop {
            let (mut stream, _) = listener.accept()?;
            thread::spawn(move || -> Result<()> {
                let mut byte = [0];
                while stream.read(&mut byte)? == 1 {
                    stream.write_all(&[identity])?;
                }
                Ok(())
            });
        }
    });
    Ok(())
}

/// Which server answers.
pub(crate) fn ask(stream: &mut TcpStream) -> Result<u8> {
    stream.write_all(b"?")?;
    hear(stream)
}

/// Which server has answered.
pub(crate) fn hear(stream: &mut TcpStream) -> Result<u8> {
    let mut identity = [0];
    stream.read_exact(&mut identity).context("no answer")?;
    Ok(identity[0])
}

/// True: nothing was counted backwards.
pub(crate) fn is_not_before(earlier: &Stats, later: &Stats) -> bool {
    let counts = |s: &Stats| {
        [
            s.connections,
            s.in_packets,
            s.out_packets,
            s.in_bytes,
            s.out_bytes,
        ]
    };
    let (earlier, later) = (counts(earlier), counts(later));
    earlier.iter().zip(later).all(|(e, l)| *e <= l)
}
