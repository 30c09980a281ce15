//! Hosts and links as values, and building them out of network namespaces.
//!
//! A segment of any number of interfaces is a bridge in a namespace of its own
//! (the switch); one of exactly two may be a cable instead, which is faster.

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::host::Host;

/// The namespace of the bridges; no host may have this name.
const SWITCH: &str = "switch";

/// A network: what hosts there are and how they hang together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Topology {
    /// The layer-2 segments.
    pub segments: Vec<Segment>,
    /// The hosts.
    pub hosts: Vec<HostSpec>,
}

/// A layer-2 segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Name, unique in the topology.
    pub name: String,
    /// How its interfaces are connected.
    pub wiring: Wiring,
}

/// How the interfaces of a segment are connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wiring {
    /// By a bridge.
    Switch,
    /// Directly; for exactly two interfaces.
    Cable,
}

/// A host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostSpec {
    /// Name, unique in the topology; its network namespace's name, too.
    pub name: String,
    /// What `hostname` says there.
    pub hostname: String,
    /// Its interfaces, besides `lo`.
    pub interfaces: Vec<Interface>,
    /// Its default gateway.
    pub gateway: Option<Ipv4Addr>,
}

/// An interface of a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Name, unique on the host; 15 bytes at most.
    pub name: String,
    /// The segment it is plugged into.
    pub segment: String,
    /// Its addresses.
    pub addresses: Vec<Address>,
}

/// An address of an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// The address.
    pub address: Ipv4Addr,
    /// Length of its network's prefix, 0 to 32.
    pub prefix: u32,
    /// An alias's name, such as `eth0:1`.
    pub label: Option<String>,
}

impl Address {
    /// An address without a label.
    #[must_use]
    pub fn new(address: impl Into<Ipv4Addr>, prefix: u32) -> Self {
        Self {
            address: address.into(),
            prefix,
            label: None,
        }
    }
}

impl HostSpec {
    /// A host with one interface that has one address.
    #[must_use]
    pub fn single(
        name: &str,
        interface: &str,
        segment: &str,
        address: Address,
        gateway: Option<Ipv4Addr>,
    ) -> Self {
        Self {
            name: name.into(),
            hostname: name.into(),
            interfaces: vec![Interface {
                name: interface.into(),
                segment: segment.into(),
                addresses: vec![address],
            }],
            gateway,
        }
    }
}

impl Topology {
    /// Builds the network in the sandbox; gives the hosts in their order here.
    pub fn build(&self) -> Result<Vec<Host>> {
        for (namespace, commands) in self.commands()? {
            ip(namespace.as_deref(), &commands)?;
        }
        self.hosts
            .iter()
            .map(|host| Host::open(&host.name, &host.hostname))
            .collect()
    }

    /// What `ip -batch` is told, and in which namespace.
    fn commands(&self) -> Result<Vec<(Option<String>, String)>> {
        let mut outside = String::new();
        let mut switch = String::new();
        let _ = writeln!(outside, "link set lo up");
        let switched = |segment: &Segment| segment.wiring == Wiring::Switch;
        let has_switch = self.segments.iter().any(switched);
        if has_switch {
            let _ = writeln!(outside, "netns add {SWITCH}");
        }
        for host in &self.hosts {
            let _ = writeln!(outside, "netns add {}", host.name);
        }
        let mut ports = 0;
        for (index, segment) in self.segments.iter().enumerate() {
            let plugs: Vec<(&str, &str)> = self
                .hosts
                .iter()
                .flat_map(|host| {
                    host.interfaces
                        .iter()
                        .map(move |interface| (host, interface))
                })
                .filter(|(_, interface)| interface.segment == segment.name)
                .map(|(host, interface)| (host.name.as_str(), interface.name.as_str()))
                .collect();
            match (segment.wiring, plugs.as_slice()) {
                (Wiring::Cable, [(host, name), (peer, peer_name)]) => {
                    let _ = writeln!(
                        outside,
                        "link add name {name} netns {host} numtxqueues 2 numrxqueues 2 \
                         type veth peer name {peer_name} netns {peer} numtxqueues 2 numrxqueues 2"
                    );
                }
                (Wiring::Cable, plugs) => {
                    bail!("a cable has two ends, {} has {}", segment.name, plugs.len())
                }
                (Wiring::Switch, plugs) => {
                    let bridge = format!("bridge{index}");
                    let _ = writeln!(
                        switch,
                        "link add name {bridge} type bridge\nlink set {bridge} up"
                    );
                    for (host, name) in plugs {
                        let port = format!("port{ports}");
                        ports += 1;
                        let _ = writeln!(
                            outside,
                            "link add name {name} netns {host} \
                             type veth peer name {port} netns {SWITCH}"
                        );
                        let _ = writeln!(
                            switch,
                            "link set {port} master {bridge}\nlink set {port} up"
                        );
                    }
                }
            }
        }
        let mut all = vec![(None, outside)];
        all.extend(has_switch.then(|| (Some(SWITCH.into()), switch)));
        all.extend(
            self.hosts
                .iter()
                .map(|host| (Some(host.name.clone()), host_commands(host))),
        );
        Ok(all)
    }
}

fn host_commands(host: &HostSpec) -> String {
    let mut text = String::from("link set lo up\n");
    for Interface {
        name, addresses, ..
    } in &host.interfaces
    {
        for Address {
            address,
            prefix,
            label,
        } in addresses
        {
            let _ = write!(
                text,
                "address add {address}/{prefix} broadcast + dev {name}"
            );
            if let Some(label) = label {
                let _ = write!(text, " label {label}");
            }
            text.push('\n');
        }
        let _ = writeln!(text, "link set {name} up");
    }
    if let Some(gateway) = host.gateway {
        let _ = writeln!(text, "route add default via {gateway}");
    }
    text
}

/// Has `ip` do a batch of commands in a namespace made before.
pub(crate) fn ip(namespace: Option<&str>, commands: &str) -> Result<()> {
    let mut ip = Command::new("ip");
    if let Some(namespace) = namespace {
        ip.args(["-netns", namespace]);
    }
    let mut child = ip
        .args(["-batch", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot run ip: install iproute2 (scripts/setup lab)")?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin
            .write_all(commands.as_bytes())
            .context("cannot write to ip")?;
    }
    let output = child.wait_with_output().context("cannot wait for ip")?;
    if !output.status.success() {
        let place = namespace.unwrap_or("the lab");
        bail!(
            "ip could not set up {place}: {}; it was told:\n{commands}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox;

    fn two_hosts(wiring: Wiring) -> Topology {
        let host = |name: &str, last| {
            HostSpec::single(
                name,
                "eth0",
                "wire",
                Address::new([10, 0, 0, last], 24),
                None,
            )
        };
        Topology {
            segments: vec![Segment {
                name: "wire".into(),
                wiring,
            }],
            hosts: vec![host("a", 1), host("b", 2)],
        }
    }

    #[test]
    fn a_cable_with_one_end_is_refused() {
        let mut topology = two_hosts(Wiring::Cable);
        topology.hosts.pop();
        let error = topology.commands().map_err(|error| error.to_string());
        assert_eq!(error, Err("a cable has two ends, wire has 1".into()));
    }

    #[test]
    fn labels_and_gateways_reach_the_host() {
        let mut host = HostSpec::single(
            "a",
            "eth0",
            "wire",
            Address {
                label: Some("eth0:1".into()),
                ..Address::new([10, 0, 0, 1], 24)
            },
            Some([10, 0, 0, 254].into()),
        );
        host.interfaces[0]
            .addresses
            .push(Address::new([10, 0, 0, 7], 32));
        assert_eq!(
            host_commands(&host),
            "link set lo up\naddress add 10.0.0.1/24 broadcast + dev eth0 label eth0:1\n\
             address add 10.0.0.7/32 broadcast + dev eth0\nlink set eth0 up\n\
             route add default via 10.0.0.254\n"
        );
    }

    #[test]
    fn hosts_reach_each_other_over_a_switch_and_a_cable() {
        // The sandbox runs the closure anew, so one test sees both wirings.
        sandbox::run_test(|| {
            for wiring in [Wiring::Switch, Wiring::Cable] {
                let hosts = two_hosts(wiring).build()?;
                let server = hosts[1].within(|| std::net::TcpListener::bind("10.0.0.2:80"))??;
                hosts[0].within(|| std::net::TcpStream::connect("10.0.0.2:80"))??;
                server.accept()?;
                let mut made = String::from("netns delete a\nnetns delete b\n");
                if wiring == Wiring::Switch {
                    let _ = writeln!(made, "netns delete {SWITCH}");
                }
                ip(None, &made)?;
            }
            Ok(())
        });
    }
}
