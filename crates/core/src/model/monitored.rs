//! Virtual servers as the configuration has them: services that share their servers,
//! the checks of those, and what is done when they die.

use alloc::string::String;
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::ops::RangeInclusive;

use super::{
    Check, ConfiguredService, Family, ForwardMethod, Netmask, Protocol, ServerKey, ServerSettings,
    ServiceKey, ServiceSettings,
};

/// What clients connect to: one service, or many that differ in address and port only.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Ends {
    /// Every port of every address in these ranges.
    Addresses {
        /// Protocol.
        protocol: Protocol,
        /// First address.
        first: IpAddr,
        /// Last address, of the same family and not below the first.
        last: IpAddr,
        /// Ports; 0 alone: any, with persistence.
        ports: RangeInclusive<u16>,
    },
    /// Packets that carry this firewall mark.
    Mark {
        /// The mark, from 1 on.
        mark: u32,
        /// Of which family.
        family: Family,
    },
}

impl Ends {
    /// Those of one service.
    #[must_use]
    pub fn of(key: ServiceKey) -> Self {
        match key {
            ServiceKey::Address {
                protocol,
                address,
                port,
            } => Self::Addresses {
                protocol,
                first: address,
                last: address,
                ports: port..=port,
            },
            ServiceKey::Mark { mark, family } => Self::Mark { mark, family },
        }
    }

    /// How many services these are.
    #[must_use]
    pub fn count(&self) -> u128 {
        match self {
            Self::Addresses {
                first, last, ports, ..
            } => {
                let addresses = number(*last).saturating_sub(number(*first));
                addresses
                    .saturating_add(1)
                    .saturating_mul(ports.len() as u128)
            }
            Self::Mark { .. } => 1,
        }
    }

    /// The services, the ports of the first address first.
    pub fn keys(&self) -> impl Iterator<Item = ServiceKey> + '_ {
        let (addresses, protocol, mark) = match self {
            Self::Addresses {
                protocol,
                first,
                last,
                ports,
            } => (
                Some((number(*first)..=number(*last), *first, ports.clone())),
                Some(*protocol),
                None,
            ),
            Self::Mark { mark, family } => (
                None,
                None,
                Some(ServiceKey::Mark {
                    mark: *mark,
                    family: *family,
                }),
            ),
        };
        let addresses = addresses.into_iter().flat_map(move |(range, like, ports)| {
            range.flat_map(move |address| {
                let ports = ports.clone();
                ports.map(move |port| (address_of(address, like), port))
            })
        });
        let addresses = addresses.filter_map(move |(address, port)| {
            Some(ServiceKey::Address {
                protocol: protocol?,
                address,
                port,
            })
        });
        mark.into_iter().chain(addresses)
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(address.to_bits()),
        IpAddr::V6(address) => address.to_bits(),
    }
}

fn address_of(number: u128, like: IpAddr) -> IpAddr {
    match like {
        IpAddr::V4(_) => Ipv4Addr::from_bits(number as u32).into(),
        IpAddr::V6(_) => Ipv6Addr::from_bits(number).into(),
    }
}

/// A virtual server: what the configuration says of services that stand and fall together.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct VirtualServer {
    /// The group's name, where the configuration gives one.
    pub group: Option<String>,
    /// What clients connect to: not empty, no service twice.
    pub ends: Vec<Ends>,
    /// Settings of each service.
    pub settings: ServiceSettings,
    /// The servers, each once.
    pub servers: Vec<RealServer>,
    /// When there are enough of them.
    pub quorum: Quorum,
    /// What answers while there are not; none: the servers that live.
    pub sorry: Option<Sorry>,
    /// Checks rest while no address of it is on this machine.
    pub ha_suspend: bool,
    /// Scripts of quorum and servers run when the daemon ends, too.
    pub omega: bool,
    /// Scripts for quorum gained and lost.
    pub notify: Notify,
    /// Mail about quorum gained and lost.
    pub mail: bool,
}

impl VirtualServer {
    /// One service with these servers, which nothing watches over.
    #[must_use]
    pub fn unwatched(service: ConfiguredService) -> Self {
        let servers = service.servers.into_iter();
        Self {
            group: None,
            ends: alloc::vec![Ends::of(service.key)],
            settings: service.settings,
            servers: servers
                .map(|(key, settings)| RealServer::unwatched(key, settings))
                .collect(),
            quorum: Quorum::default(),
            sorry: None,
            ha_suspend: false,
            omega: false,
            notify: Notify::default(),
            mail: false,
        }
    }

    /// The settings of one of its services. Clients of the other family than the netmask's
    /// stay each for themselves.
    #[must_use]
    pub fn settings_in(&self, service: &ServiceKey) -> ServiceSettings {
        let mut settings = self.settings.clone();
        if let Some(persistence) = &mut settings.persistence
            && persistence.netmask.family() != service.family()
        {
            persistence.netmask = Netmask::host(service.family());
        }
        settings
    }

    /// Each of its services, with all of its servers.
    pub fn each(&self) -> impl Iterator<Item = ConfiguredService> + '_ {
        self.keys().map(|key| {
            let servers = self.servers.iter();
            let servers = servers.map(|server| (server.key_in(&key), server.settings));
            ConfiguredService {
                key,
                settings: self.settings_in(&key),
                servers: servers.collect(),
            }
        })
    }

    /// Its services.
    pub fn keys(&self) -> impl Iterator<Item = ServiceKey> + '_ {
        self.ends.iter().flat_map(Ends::keys)
    }
}

impl ServerKey {
    /// The same server in one of the services that share it: packets keep the service's
    /// port unless NAT changes it, and port 0 is the service's own.
    #[must_use]
    pub const fn within(self, service: ServiceKey, method: ForwardMethod) -> Self {
        let port = match method {
            ForwardMethod::Masq | ForwardMethod::FullNat if self.port != 0 => self.port,
            _ => service.port(),
        };
        Self {
            address: self.address,
            port,
        }
    }
}

/// A real server of a virtual server.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RealServer {
    /// Where it listens; port 0: that of the service.
    pub key: ServerKey,
    /// How it is reached, and its weight while nothing changes that.
    pub settings: ServerSettings,
    /// A dead one stays in the table with weight 0, in place of being removed.
    pub inhibit: bool,
    /// What has to pass for it to live; empty: it lives.
    pub checks: Vec<Check>,
    /// Scripts for its life and death.
    pub notify: Notify,
    /// Mail about its life and death.
    pub mail: bool,
}

impl RealServer {
    /// One that nothing watches over.
    #[must_use]
    pub fn unwatched(key: ServerKey, settings: ServerSettings) -> Self {
        Self {
            key,
            settings,
            inhibit: false,
            checks: Vec::new(),
            notify: Notify::default(),
            mail: false,
        }
    }

    /// As which server a service has it.
    #[must_use]
    pub fn key_in(&self, service: &ServiceKey) -> ServerKey {
        self.key.within(*service, self.settings.method)
    }
}

/// How much weight has to live.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Quorum {
    /// The sum of the weights of servers that live, from 1 on.
    pub weight: u32,
    /// Lost below `weight - hysteresis`, gained from `weight + hysteresis` on; less than
    /// `weight`.
    pub hysteresis: u32,
}

impl Default for Quorum {
    /// Any server.
    fn default() -> Self {
        Self {
            weight: 1,
            hysteresis: 0,
        }
    }
}

/// What answers clients while there is no quorum.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Sorry {
    /// A server.
    Server {
        /// Where it listens; port 0: that of the service.
        key: ServerKey,
        /// How it is reached; its weight is 1 where the configuration gives none.
        settings: ServerSettings,
        /// It stays in the table with weight 0 while there is a quorum.
        inhibit: bool,
    },
    /// The daemon itself: HTTP, status 503 with `Retry-After`.
    Builtin {
        /// The directory whose `index.html` is the page; none: a page of the daemon's own.
        directory: Option<String>,
    },
}

/// Scripts for good and for bad news.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Notify {
    /// A server lives, or a quorum was gained.
    pub up: Option<Script>,
    /// A server died, or a quorum was lost.
    pub down: Option<Script>,
}

/// A program that is run without a shell.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Script {
    /// The program and its arguments; not empty.
    pub command: Vec<String>,
    /// As which user; none: as the configuration's scripts are run.
    pub user: Option<User>,
}

/// Whom a script runs as.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct User {
    /// Name or number.
    pub name: String,
    /// Group, by name or number; none: the user's own.
    pub group: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    fn ends(first: &str, last: &str, ports: RangeInclusive<u16>) -> Ends {
        Ends::Addresses {
            protocol: Protocol::Tcp,
            first: first.parse().unwrap(),
            last: last.parse().unwrap(),
            ports,
        }
    }

    #[test]
    fn servers_have_the_ports_of_their_services() {
        let server = |port| ServerKey {
            address: "10.0.0.9".parse().unwrap(),
            port,
        };
        let web = ServiceKey::at(Protocol::Tcp, [10, 0, 0, 1], 80);
        let mark = ServiceKey::Mark {
            mark: 7,
            family: Family::V4,
        };
        let (nat, route) = (ForwardMethod::Masq, ForwardMethod::Route);
        assert_eq!(server(8080).within(web, nat), server(8080));
        assert_eq!(server(0).within(web, nat), server(80));
        assert_eq!(server(8080).within(web, route), server(80));
        assert_eq!(server(8080).within(mark, nat), server(8080));
        assert_eq!(server(8080).within(mark, route), server(0));
    }

    #[test]
    fn ends_are_services() {
        let four = ends("10.0.0.254", "10.0.0.255", 80..=81);
        let keys: Vec<String> = four.keys().map(|key| key.to_string()).collect();
        let expected = [
            "TCP 10.0.0.254:80",
            "TCP 10.0.0.254:81",
            "TCP 10.0.0.255:80",
            "TCP 10.0.0.255:81",
        ];
        assert_eq!(keys, expected);
        assert_eq!(four.count(), 4);
        let all = ends(
            "::",
            "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
            0..=u16::MAX,
        );
        assert_eq!(all.count(), u128::MAX);
        let mark = ServiceKey::Mark {
            mark: 7,
            family: Family::V6,
        };
        assert_eq!(Ends::of(mark).keys().collect::<Vec<_>>(), [mark]);
        let single = ServiceKey::at(Protocol::Udp, [10, 0, 0, 1], 53);
        assert_eq!(Ends::of(single).keys().collect::<Vec<_>>(), [single]);
        assert_eq!(Ends::of(single).count(), 1);
    }
}
