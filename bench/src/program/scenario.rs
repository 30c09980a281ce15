//! What is measured: which service the packets are for, and which packets they are.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use evenkeel_core::model::{
    Edit, Family, ForwardMethod, Netmask, Persistence, Protocol, Scheduler, ServerKey,
    ServerSettings, ServiceKey, ServiceSettings, Tunnel, TunnelChecksum,
};

/// Flows of the middle runs, as a power of two: as many as fit the caches.
pub(super) const USUAL_LOG2: u8 = 16;
/// Servers over which new connections are spread.
const MANY_SERVERS: u8 = 100;

/// Nanoseconds that a packet of an established connection may take above a bare drop:
/// with one flow, with [`USUAL_LOG2`], with more.
const ESTABLISHED: [f64; 3] = [30.0, 80.0, 250.0];
/// What IPv6 and what a tunnel may take on top.
const IPV6_MORE: f64 = 20.0;
const TUNNEL_MORE: f64 = 30.0;
/// What a new connection may take.
const NEW: f64 = 350.0;

/// The service that the packets are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rules {
    pub family: Family,
    pub protocol: Protocol,
    pub method: ForwardMethod,
    pub scheduler: &'static str,
    pub servers: u8,
    pub persistent: bool,
}

impl Rules {
    /// Servers behind NAT, one after the other: what all others differ from.
    pub(crate) const USUAL: Self = Self {
        family: Family::V4,
        protocol: Protocol::Tcp,
        method: ForwardMethod::Masq,
        scheduler: "rr",
        servers: 2,
        persistent: false,
    };

    /// The servers' addresses.
    pub(crate) fn servers(&self) -> impl Iterator<Item = IpAddr> {
        let family = self.family;
        (0..self.servers).map(move |number| server(family, 11 + u16::from(number)))
    }

    /// What makes the service, after everything else is gone; with services of every
    /// other kind beside it, so that nothing is left out for want of them.
    pub(crate) fn edits(&self) -> Vec<Edit> {
        let mut edits = vec![Edit::Flush];
        edits.extend(others());
        let service = ServiceKey::at(self.protocol, vip(self.family), 80);
        let netmask = Netmask::host(self.family);
        edits.push(Edit::AddService {
            service,
            settings: ServiceSettings {
                persistence: self.persistent.then_some(Persistence {
                    timeout_s: 300,
                    netmask,
                }),
                ..ServiceSettings::scheduled_by(self.scheduler)
            },
        });
        let maps_ports = matches!(self.method, ForwardMethod::Masq | ForwardMethod::FullNat);
        let port = if maps_ports { 8080 } else { 80 };
        // With `ovf` a server takes no more connections than its weight.
        let weight = if self.scheduler == "ovf" { 1 << 20 } else { 1 };
        edits.extend(self.servers().map(|address| Edit::AddServer {
            service,
            server: ServerKey { address, port },
            settings: ServerSettings::new(self.method, weight),
        }));
        edits
    }
}

fn vip(family: Family) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::new(10, 9, 0, 1).into(),
        Family::V6 => Ipv6Addr::new(0xfd09, 0, 0, 0, 0, 0, 0, 1).into(),
    }
}

fn server(family: Family, number: u16) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::new(10, 2, (number >> 8) as u8, number as u8).into(),
        Family::V6 => Ipv6Addr::new(0xfd02, 0, 0, 0, 0, 0, 0, number).into(),
    }
}

/// Services that get no packets: of all ports, of FTP, of source NAT, of both families.
fn others() -> Vec<Edit> {
    let mut edits = Vec::new();
    for family in [Family::V4, Family::V6] {
        let idle = |last: u16| match vip(family) {
            IpAddr::V4(_) => IpAddr::from([10, 9, 1, last as u8]),
            IpAddr::V6(_) => IpAddr::from([0xfd09, 0, 0, 0, 0, 0, 1, last]),
        };
        let stays = ServiceSettings {
            persistence: Some(Persistence {
                timeout_s: 60,
                netmask: Netmask::host(family),
            }),
            ..ServiceSettings::scheduled_by("wlc")
        };
        for (last, port, settings, method) in [
            (1, 0, stays.clone(), ForwardMethod::Route),
            (2, 21, stays, ForwardMethod::Masq),
            (
                3,
                80,
                ServiceSettings::scheduled_by("mh"),
                ForwardMethod::FullNat,
            ),
        ] {
            let service = ServiceKey::at(Protocol::Tcp, idle(last), port);
            edits.push(Edit::AddService { service, settings });
            edits.push(Edit::AddServer {
                service,
                server: ServerKey {
                    address: server(family, 300 + last),
                    port,
                },
                settings: ServerSettings::new(method, 1),
            });
        }
    }
    edits
}

/// Which packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Traffic {
    /// A client's, in an established connection.
    Client,
    /// A server's, in an established connection.
    Reply,
    /// Each the first of a connection.
    New,
}

/// A line of the table.
#[derive(Clone, Debug)]
pub(super) struct Scenario {
    pub name: String,
    pub rules: Rules,
    pub traffic: Traffic,
    /// As a power of two.
    pub flows_log2: u8,
    /// Nanoseconds.
    pub aim: Option<f64>,
}

/// All of them; the largest with 2^`many_log2` flows. Those with the same rules stand
/// one after the other.
pub(super) fn all(many_log2: u8) -> Vec<Scenario> {
    let mut all = established(many_log2);
    all.extend(opened(many_log2));
    all
}

fn established(many_log2: u8) -> Vec<Scenario> {
    const CLIENT: Traffic = Traffic::Client;
    let usual = Rules::USUAL;
    let by = |method| Rules { method, ..usual };
    let ipv6 = |rules| Rules {
        family: Family::V6,
        ..rules
    };
    let gue = Tunnel::Gue {
        port: 6080,
        checksum: TunnelChecksum::None,
    };
    let gre = Tunnel::Gre {
        checksum: TunnelChecksum::None,
    };
    let ipip = by(ForwardMethod::Tunnel(Tunnel::Ipip));
    let single = |rules| Rules {
        servers: 1,
        ..rules
    };
    let udp = Rules {
        protocol: Protocol::Udp,
        ..usual
    };
    let persistent = Rules {
        persistent: true,
        ..usual
    };
    let kinds = [
        ("NAT", usual, CLIENT, 3),
        ("NAT, UDP", udp, CLIENT, 2),
        ("NAT, replies", single(usual), Traffic::Reply, 3),
        ("NAT, persistent", persistent, CLIENT, 2),
        ("direct routing", by(ForwardMethod::Route), CLIENT, 3),
        ("ipip", ipip, CLIENT, 3),
        ("gre", by(ForwardMethod::Tunnel(gre)), CLIENT, 2),
        ("gue", by(ForwardMethod::Tunnel(gue)), CLIENT, 2),
        ("source NAT", by(ForwardMethod::FullNat), CLIENT, 3),
        ("NAT, IPv6", ipv6(usual), CLIENT, 3),
        ("NAT, IPv6, replies", ipv6(single(usual)), Traffic::Reply, 2),
        (
            "direct routing, IPv6",
            ipv6(by(ForwardMethod::Route)),
            CLIENT,
            2,
        ),
        ("ipip, IPv6", ipv6(ipip), CLIENT, 2),
    ];
    let mut all = Vec::new();
    for (kind, rules, traffic, sizes) in kinds {
        let mut more = 0.0;
        if rules.family == Family::V6 {
            more += IPV6_MORE;
        }
        if matches!(rules.method, ForwardMethod::Tunnel(_)) {
            more += TUNNEL_MORE;
        }
        let flows = [
            (0, "1 flow"),
            (USUAL_LOG2, "65,536 flows"),
            (many_log2, "1,048,576 flows"),
        ];
        for ((flows_log2, count), aim) in flows.into_iter().zip(ESTABLISHED).take(sizes) {
            all.push(Scenario {
                name: format!("{kind}, {count}"),
                rules,
                traffic,
                flows_log2,
                aim: Some(aim + more),
            });
        }
    }
    all
}

fn opened(many_log2: u8) -> Vec<Scenario> {
    let many = Rules {
        servers: MANY_SERVERS,
        ..Rules::USUAL
    };
    let scenario = |name: String, rules, aim| Scenario {
        name: format!("a new connection each, {name}"),
        rules,
        traffic: Traffic::New,
        flows_log2: many_log2,
        aim,
    };
    let mut all = Vec::new();
    for scheduler in Scheduler::ALL {
        let scheduler = scheduler.name();
        let rules = Rules { scheduler, ..many };
        let aim = matches!(scheduler, "rr" | "mh" | "wlc").then_some(NEW);
        all.push(scenario(format!("NAT, {scheduler}"), rules, aim));
    }
    let ipip = ForwardMethod::Tunnel(Tunnel::Ipip);
    for (name, rules) in [
        (
            "direct routing, rr",
            Rules {
                method: ForwardMethod::Route,
                ..many
            },
        ),
        (
            "ipip, rr",
            Rules {
                method: ipip,
                ..many
            },
        ),
        (
            "source NAT, rr",
            Rules {
                method: ForwardMethod::FullNat,
                ..many
            },
        ),
        (
            "NAT, rr, persistent",
            Rules {
                persistent: true,
                ..many
            },
        ),
        (
            "NAT, rr, IPv6",
            Rules {
                family: Family::V6,
                ..many
            },
        ),
    ] {
        all.push(scenario(name.into(), rules, None));
    }
    all
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_scenario_has_a_name_of_its_own() {
        let all = all(20);
        let names: BTreeSet<&str> = all.iter().map(|scenario| scenario.name.as_str()).collect();
        assert_eq!(names.len(), all.len());
    }

    #[test]
    fn every_scheduler_opens_connections() {
        let opened = opened(20);
        let has = |name| {
            opened
                .iter()
                .any(|scenario| scenario.rules.scheduler == name)
        };
        assert!(Scheduler::ALL.iter().all(|scheduler| has(scheduler.name())));
    }
}
