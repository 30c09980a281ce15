//! The network that benchmarks run in: a client, a director and two servers,
//! each on a cable of its own, with the limits of a busy machine lifted.

use std::fs;
use std::net::Ipv4Addr;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::host::Host;
use crate::topology::{Address, HostSpec, Interface, Segment, Topology, Wiring};

/// The address of the service; it belongs to no interface and is routed to the
/// director.
pub const VIP: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 1);
/// The client's address.
pub const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 10, 0, 2);
/// The servers' addresses.
pub const SERVERS: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 20, 1, 2), Ipv4Addr::new(10, 20, 2, 2)];
/// The director's interface towards the client; the client's has the same name.
pub const CLIENT_PORT: &str = "ec";
/// The director's interfaces towards the servers; theirs have the same names.
pub const SERVER_PORTS: [&str; 2] = ["e1", "e2"];

/// What every host is tuned to, so that a benchmark does not run into the limit
/// of an end: ports, queues and connections waiting for their end.
const TUNING: [(&str, &str); 7] = [
    ("ipv4/ip_local_port_range", "1024 65535"),
    ("ipv4/tcp_tw_reuse", "1"),
    ("core/somaxconn", "65535"),
    ("ipv4/tcp_max_syn_backlog", "65535"),
    ("ipv4/tcp_max_tw_buckets", "400000"),
    ("ipv4/conf/all/rp_filter", "0"),
    ("ipv4/conf/default/rp_filter", "0"),
];

/// The network, built.
#[derive(Debug)]
pub struct Bench {
    /// Where load comes from.
    pub client: Host,
    /// What is measured; it forwards between its networks.
    pub director: Host,
    /// Where load goes.
    pub servers: [Host; 2],
}

/// What the kernel may leave to the cables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offloads {
    /// Segmentation, its reverse and checksums, as with a good NIC.
    On,
    /// Nothing: every packet fits the link and has its checksum.
    Off,
}

impl Bench {
    /// Builds it in the sandbox, offloads on. Several can be there beside each
    /// other; `name` tells their hosts apart.
    pub fn build(name: &str) -> Result<Self> {
        let hosts = topology(name).build()?;
        let [client, director, first, second] = hosts.as_slice() else {
            bail!("the benchmark's topology has four hosts");
        };
        for host in &hosts {
            tune(host, &TUNING)?;
        }
        tune(director, &[("ipv4/ip_forward", "1")])?;
        Ok(Self {
            client: client.clone(),
            director: director.clone(),
            servers: [first.clone(), second.clone()],
        })
    }

    /// The far ends of the director's cables.
    #[must_use]
    pub fn ends(&self) -> [(&Host, &'static str); 3] {
        let [first, second] = &self.servers;
        [
            (&self.client, CLIENT_PORT),
            (first, SERVER_PORTS[0]),
            (second, SERVER_PORTS[1]),
        ]
    }

    /// Switches offloads at both ends of every cable.
    pub fn set_offloads(&self, offloads: Offloads) -> Result<()> {
        let value = match offloads {
            Offloads::On => "on",
            Offloads::Off => "off",
        };
        let director = [CLIENT_PORT, SERVER_PORTS[0], SERVER_PORTS[1]];
        let director = director.map(|port| (&self.director, port));
        for (host, port) in director.into_iter().chain(self.ends()) {
            let mut ethtool = Command::new("ethtool");
            ethtool.args(["-K", port]);
            for feature in ["tso", "gso", "gro", "tx-udp-segmentation", "tx"] {
                ethtool.args([feature, value]);
            }
            let output = host
                .output(&mut ethtool)
                .context("is ethtool installed (scripts/setup bench)?")?;
            if !output.status.success() {
                let error = String::from_utf8_lossy(&output.stderr);
                bail!(
                    "cannot switch offloads of {port} on {}: {}",
                    host.name(),
                    error.trim()
                );
            }
        }
        Ok(())
    }
}

fn topology(lab: &str) -> Topology {
    let cable = |name: &str| Segment {
        name: name.into(),
        wiring: Wiring::Cable,
    };
    let port = |name: &str, address: Ipv4Addr| {
        let [a, b, c, _] = address.octets();
        Interface {
            name: name.into(),
            segment: name.into(),
            addresses: vec![Address::new([a, b, c, 1], 24)],
        }
    };
    let end = |name: &str, cable: &str, address: Ipv4Addr| {
        let [a, b, c, _] = address.octets();
        HostSpec::single(
            &format!("{lab}-{name}"),
            cable,
            cable,
            Address::new(address, 24),
            Some([a, b, c, 1].into()),
        )
    };
    let director = HostSpec {
        name: format!("{lab}-director"),
        hostname: "director".into(),
        interfaces: vec![
            port(CLIENT_PORT, CLIENT),
            port(SERVER_PORTS[0], SERVERS[0]),
            port(SERVER_PORTS[1], SERVERS[1]),
        ],
        gateway: None,
    };
    Topology {
        segments: [CLIENT_PORT, SERVER_PORTS[0], SERVER_PORTS[1]]
            .map(cable)
            .into(),
        hosts: vec![
            end("client", CLIENT_PORT, CLIENT),
            director,
            end("server1", SERVER_PORTS[0], SERVERS[0]),
            end("server2", SERVER_PORTS[1], SERVERS[1]),
        ],
    }
}

/// Sets values under `/proc/sys/net` of a host. Some exist in the first
/// namespace alone; these are left as they are.
fn tune(host: &Host, values: &[(&str, &str)]) -> Result<()> {
    for (name, value) in values {
        let path = format!("/proc/sys/net/{name}");
        let written = host.within(|| fs::write(&path, value))?;
        match written {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("cannot set {name} on {}", host.name()));
            }
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;
    use crate::sandbox;

    #[test]
    fn the_client_reaches_both_servers_through_the_director() {
        sandbox::run_test(|| {
            for bench in [Bench::build("one")?, Bench::build("two")?] {
                for (server, address) in bench.servers.iter().zip(SERVERS) {
                    let listener = server.within(|| TcpListener::bind((address, 80)))??;
                    bench
                        .client
                        .within(|| TcpStream::connect((address, 80)))??;
                    let (_, peer) = listener.accept()?;
                    assert_eq!(peer.ip(), CLIENT);
                }
            }
            Ok(())
        });
    }
}
