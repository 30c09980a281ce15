//! `[[service]]` and the servers in it.

use std::collections::HashMap;
use std::net::IpAddr;

use evenkeel_core::model::{
    ConfiguredService, Family, ForwardMethod, MSS_MIN, MssClamp, Netmask, Persistence, Protocol,
    SchedulerFlags, ServerKey, ServerSettings, ServiceKey, ServiceSettings, Tunnel, TunnelChecksum,
    VirtualServer,
};
use toml::de::DeTable;

use super::keys::{Key, Kind, NetmaskValue, WAYS, is_ipvs};
use super::marks::{PROTOCOLS, protocol};
use super::reader::{Reader, Spans};
use super::{Place, PlacedService, values};
use crate::ipvsadm::scheduler_flags;

/// The scheduler of a service that does not name one.
const DEFAULT_SCHEDULER: &str = "wlc";
/// Longest persistence in seconds: 31 days.
const PERSISTENCE_MAX: u32 = 2_678_400;
/// Greatest weight and threshold.
const WEIGHT_MAX: u32 = i32::MAX as u32;

const SCHEDULERS: &[&str] = &[
    "rr", "wrr", "lc", "wlc", "lblc", "lblcr", "dh", "sh", "sed", "nq", "fo", "ovf", "mh", "twos",
];
const SCHEDULER_FLAGS: &[&str] = &[
    "sh-fallback",
    "sh-port",
    "mh-fallback",
    "mh-port",
    "flag-1",
    "flag-2",
    "flag-3",
];
const METHODS: &[&str] = &["masq", "route", "full-nat", "ipip", "gue", "gre"];

/// A service as it is read.
#[derive(Debug, Default)]
pub struct ServiceDraft {
    address: Option<IpAddr>,
    port: Option<u16>,
    protocol: Option<Protocol>,
    mark: Option<u32>,
    family: Option<Family>,
    scheduler: Option<String>,
    flags: Option<Vec<String>>,
    persistence: Option<u32>,
    netmask: Option<NetmaskValue>,
    one_packet: bool,
    engine: Option<String>,
    compatible: Option<bool>,
    mss_clamp: MssClamp,
}

/// The keys of `[[service]]`, beside `server`.
pub const SERVICE_KEYS: &[Key<ServiceDraft>] = &[
    Key {
        name: "address",
        kind: Kind::Address,
        help: "the address that clients connect to",
        set: |draft, value| draft.address = value.address(),
    },
    Key {
        name: "port",
        kind: Kind::Number(0..=65_535),
        help: "the port that clients connect to; 0, with persistence: any",
        set: |draft, value| draft.port = Some(value.port()),
    },
    Key {
        name: "protocol",
        kind: Kind::Word(PROTOCOLS),
        help: "default \"tcp\"",
        set: |draft, value| draft.protocol = protocol(&value.word()),
    },
    Key {
        name: "mark",
        kind: Kind::Number(1..=u32::MAX),
        help: "in place of address and port: packets that carry this firewall mark",
        set: |draft, value| draft.mark = Some(value.number()),
    },
    Key {
        name: "family",
        kind: Kind::Word(&["v4", "v6"]),
        help: "with a mark: packets of IPv4 or of IPv6; default \"v4\"",
        set: |draft, value| {
            draft.family = Some(match value.word().as_str() {
                "v6" => Family::V6,
                _ => Family::V4,
            });
        },
    },
    Key {
        name: "scheduler",
        kind: Kind::Word(SCHEDULERS),
        help: "how connections are spread; default \"wlc\"",
        set: |draft, value| draft.scheduler = Some(value.word()),
    },
    Key {
        name: "scheduler_flags",
        kind: Kind::Words(SCHEDULER_FLAGS),
        help: "flags of the scheduler, as ipvsadm's --sched-flags; default: sh-fallback and \
               mh-fallback, and none with IPVS's ways",
        set: |draft, value| draft.flags = Some(value.names()),
    },
    Key {
        name: "persistence",
        kind: Kind::Number(1..=PERSISTENCE_MAX),
        help: "seconds that a client stays with its server after its last new connection; \
               default: clients do not stay",
        set: |draft, value| draft.persistence = Some(value.number()),
    },
    Key {
        name: "netmask",
        kind: Kind::Netmask,
        help: "with persistence: which clients stay together; default: each for itself",
        set: |draft, value| draft.netmask = value.netmask(),
    },
    Key {
        name: "one_packet",
        kind: Kind::Flag,
        help: "UDP: every packet is scheduled for itself, and no connection kept; default false",
        set: |draft, value| draft.one_packet = value.flag(),
    },
    Key {
        name: "persistence_engine",
        kind: Kind::Word(&["sip"]),
        help: "with persistence: what clients are told apart by in place of their addresses; \
               default: nothing",
        set: |draft, value| draft.engine = Some(value.word()),
    },
    Key {
        name: "compat",
        kind: Kind::Word(WAYS),
        help: "\"ipvs\": IPVS's ways where Evenkeel has better ones; \"none\": those; default as \
               [compat] says",
        set: |draft, value| draft.compatible = Some(is_ipvs(&value.word())),
    },
    Key {
        name: "mss_clamp",
        kind: Kind::FlagOrNumber(MSS_MIN as u32..=65_495),
        help: "TCP: largest segment, in bytes, that both ends may ask for when they open a \
               connection; true: what the way to the server has room for; default false: any",
        set: |draft, value| {
            draft.mss_clamp = match value.number() {
                0 if value.flag() => MssClamp::Way,
                0 => MssClamp::Off,
                _ => MssClamp::Bytes(value.port()),
            };
        },
    },
];

/// A server as it is read.
#[derive(Debug, Default)]
pub struct ServerDraft {
    address: Option<IpAddr>,
    port: Option<u16>,
    method: Option<String>,
    weight: Option<u32>,
    upper_threshold: u32,
    lower_threshold: u32,
    tunnel_port: Option<u16>,
    tunnel_checksum: TunnelChecksum,
}

/// The keys of `[[service.server]]`.
pub const SERVER_KEYS: &[Key<ServerDraft>] = &[
    Key {
        name: "address",
        kind: Kind::Address,
        help: "the server's address",
        set: |draft, value| draft.address = value.address(),
    },
    Key {
        name: "port",
        kind: Kind::Number(1..=65_535),
        help: "the port that it listens on; default: that which clients connect to",
        set: |draft, value| draft.port = Some(value.port()),
    },
    Key {
        name: "method",
        kind: Kind::Word(METHODS),
        help: "how packets reach it: \"masq\": routed NAT, \"route\": direct routing, \
               \"full-nat\": NAT of the client's address as well, \"ipip\", \"gue\", \"gre\": \
               a tunnel; default \"masq\"",
        set: |draft, value| draft.method = Some(value.word()),
    },
    Key {
        name: "weight",
        kind: Kind::Number(0..=WEIGHT_MAX),
        help: "its share; 0: no new connections; default 1",
        set: |draft, value| draft.weight = Some(value.number()),
    },
    Key {
        name: "upper_threshold",
        kind: Kind::Number(0..=WEIGHT_MAX),
        help: "connections from which on it gets no more; default 0: no limit",
        set: |draft, value| draft.upper_threshold = value.number(),
    },
    Key {
        name: "lower_threshold",
        kind: Kind::Number(0..=WEIGHT_MAX),
        help: "connections below which it gets some again; default 0: three quarters of \
               upper_threshold",
        set: |draft, value| draft.lower_threshold = value.number(),
    },
    Key {
        name: "tunnel_port",
        kind: Kind::Number(1..=65_535),
        help: "with \"gue\", which needs it: the UDP port of the tunnel",
        set: |draft, value| draft.tunnel_port = Some(value.port()),
    },
    Key {
        name: "tunnel_checksum",
        kind: Kind::Word(&["none", "full", "remote"]),
        help: "with \"gue\" and \"gre\": the outer header's checksum; \"remote\" with \"gue\" \
               alone; default \"none\"",
        set: |draft, value| {
            draft.tunnel_checksum = match value.word().as_str() {
                "full" => TunnelChecksum::Full,
                "remote" => TunnelChecksum::Remote,
                _ => TunnelChecksum::None,
            };
        },
    },
];

/// Where the services are that were read, by their keys.
type Known = HashMap<ServiceKey, Place>;

impl Reader<'_> {
    /// Reads all services.
    pub(super) fn services(
        &mut self,
        tables: &[(usize, &DeTable<'_>)],
        compatible: bool,
    ) -> Vec<PlacedService> {
        let mut known = Known::new();
        let services = tables
            .iter()
            .filter_map(|&(at, table)| self.service(at, table, compatible, &mut known));
        services.collect()
    }

    fn service(
        &mut self,
        at: usize,
        table: &DeTable<'_>,
        compatible: bool,
        known: &mut Known,
    ) -> Option<PlacedService> {
        let mut draft = ServiceDraft::default();
        let spans = self.keys(table, SERVICE_KEYS, &["server"], &mut draft);
        let mut checked = Checked {
            reader: self,
            spans,
            at,
        };
        let key = checked.service_key(&draft);
        let settings = checked.service_settings(&draft, key, compatible);
        let at = ["address", "mark"]
            .iter()
            .find_map(|name| checked.spans.of(name))
            .map_or(at, |span| span.start);
        let place = self.place(at);
        if let Some(key) = key
            && let Some(first) = known.insert(key, place.clone())
        {
            let message = format!("{key} stands there twice");
            let hint = format!("the first is in line {}", first.line);
            self.mistake(at, message, Some(hint));
        }
        let mut servers: Vec<(ServerKey, ServerSettings)> = Vec::new();
        let mut places = Vec::new();
        let mut targets = HashMap::new();
        for (at, table) in self.list(table, "server") {
            let Some((at, server, settings)) = self.server(at, table, key) else {
                continue;
            };
            let place = self.place(at);
            if let Some(line) = targets.insert(server, place.line) {
                let message = "the service has this server twice";
                let hint = format!("the first is in line {line}");
                self.mistake(at, message.into(), Some(hint));
            }
            servers.push((server, settings));
            places.push(place);
        }
        Some(PlacedService {
            service: VirtualServer::unwatched(ConfiguredService {
                key: key?,
                settings,
                servers,
            }),
            place,
            servers: places,
        })
    }

    /// A server, and where it stands.
    fn server(
        &mut self,
        at: usize,
        table: &DeTable<'_>,
        service: Option<ServiceKey>,
    ) -> Option<(usize, ServerKey, ServerSettings)> {
        let mut draft = ServerDraft::default();
        let spans = self.keys(table, SERVER_KEYS, &[], &mut draft);
        let mut checked = Checked {
            reader: self,
            spans,
            at,
        };
        if !checked.spans.has("address") {
            checked.wrong("", "the server has no address", None);
        }
        let method = checked.method(&draft);
        if draft.lower_threshold > draft.upper_threshold {
            let message = "lower_threshold is above upper_threshold";
            checked.wrong("lower_threshold", message, None);
        }
        let (service, address) = (service?, draft.address?);
        if service.family() != Family::of(&address) && !matches!(method, ForwardMethod::Tunnel(_)) {
            let message = format!("{address} is of another family than {service}");
            let hint = "only tunnels lead from one to the other";
            checked.wrong("address", &message, Some(hint));
        }
        let keeps_port = matches!(method, ForwardMethod::Route | ForwardMethod::Tunnel(_));
        if keeps_port && draft.port.is_some_and(|port| port != service.port()) {
            let message = format!(
                "packets keep their port by {:?}",
                draft.method.as_deref().unwrap_or_default()
            );
            let hint = "leave it out, or use masq or full-nat, which change it";
            checked.wrong("port", &message, Some(hint));
        }
        let settings = ServerSettings {
            method,
            weight: draft.weight.unwrap_or(1),
            upper_threshold: draft.upper_threshold,
            lower_threshold: draft.lower_threshold,
        };
        let server = ServerKey {
            address,
            port: draft.port.unwrap_or(service.port()),
        };
        let at = checked.spans.of("address").map_or(at, |span| span.start);
        Some((at, server, settings))
    }
}

/// The flags of a service that names none. Clients that are hashed to a server that takes
/// no connections are turned away by IPVS; else they go to another one.
fn usual_flags(scheduler: &str, compatible: bool) -> SchedulerFlags {
    SchedulerFlags {
        fallback: !compatible && matches!(scheduler, "sh" | "mh"),
        ..SchedulerFlags::default()
    }
}

/// A table that was read, to be looked at as a whole.
struct Checked<'r, 'a> {
    reader: &'r mut Reader<'a>,
    spans: Spans,
    /// Where it begins.
    at: usize,
}

impl Checked<'_, '_> {
    /// Notes a mistake at a key, or at the table where that is not there.
    fn wrong(&mut self, key: &str, message: &str, hint: Option<&str>) {
        let at = self.spans.of(key).map_or(self.at, |span| span.start);
        self.reader
            .mistake(at, message.into(), hint.map(Into::into));
    }

    fn service_key(&mut self, draft: &ServiceDraft) -> Option<ServiceKey> {
        if !self.spans.has("mark") {
            if self.spans.has("family") {
                self.wrong("family", "family goes with a mark", None);
            }
            if !self.spans.has("address") {
                let hint = "write address and port, or mark";
                self.wrong(
                    "",
                    "nothing says which packets are the service's",
                    Some(hint),
                );
            } else if !self.spans.has("port") {
                let hint = "write port = 0 for any, with persistence";
                self.wrong("", "the service has no port", Some(hint));
            }
            let protocol = draft.protocol.unwrap_or(Protocol::Tcp);
            return Some(ServiceKey::at(protocol, draft.address?, draft.port?));
        }
        for name in ["address", "port", "protocol"] {
            if self.spans.has(name) {
                let message = format!("{name} and mark exclude each other");
                self.wrong(name, &message, None);
            }
        }
        Some(ServiceKey::Mark {
            mark: draft.mark?,
            family: draft.family.unwrap_or(Family::V4),
        })
    }

    fn service_settings(
        &mut self,
        draft: &ServiceDraft,
        key: Option<ServiceKey>,
        compatible: bool,
    ) -> ServiceSettings {
        let scheduler = draft.scheduler.as_deref().unwrap_or(DEFAULT_SCHEDULER);
        let compatible = draft.compatible.unwrap_or(compatible);
        let flags = match &draft.flags {
            Some(flags) => scheduler_flags(&flags.join(","), scheduler),
            None => Ok(usual_flags(scheduler, compatible)),
        };
        let flags = flags.unwrap_or_else(|message| {
            self.wrong("scheduler_flags", &message, None);
            SchedulerFlags::default()
        });
        let is_udp = |key| {
            matches!(
                key,
                ServiceKey::Mark { .. }
                    | ServiceKey::Address {
                        protocol: Protocol::Udp,
                        ..
                    }
            )
        };
        if draft.one_packet && key.is_some_and(|key| !is_udp(key)) {
            self.wrong("one_packet", "one_packet is for UDP alone", None);
        }
        ServiceSettings {
            scheduler: scheduler.into(),
            flags,
            persistence: self.persistence(draft, key),
            one_packet: draft.one_packet,
            engine: draft.engine.clone(),
            compatible: Some(compatible),
            mss_clamp: Some(draft.mss_clamp),
        }
    }

    fn persistence(
        &mut self,
        draft: &ServiceDraft,
        key: Option<ServiceKey>,
    ) -> Option<Persistence> {
        if !self.spans.has("persistence") {
            for name in ["netmask", "persistence_engine"] {
                if self.spans.has(name) {
                    let message = format!("{name} goes with persistence");
                    self.wrong(name, &message, None);
                }
            }
            if draft.port == Some(0) {
                let message = "a service of any port needs persistence";
                self.wrong("port", message, Some("write persistence = 300"));
            }
        }
        let (timeout_s, key) = (draft.persistence?, key?);
        let netmask = match (key.family(), draft.netmask) {
            (family, None) => Some(Netmask::host(family)),
            (Family::V4, Some(NetmaskValue::Mask(mask))) => Some(mask),
            (Family::V4, Some(NetmaskValue::Bits(bits))) => values::mask_of_bits(bits),
            (Family::V6, Some(NetmaskValue::Bits(bits))) => Some(Netmask::V6(bits)),
            (Family::V6, Some(NetmaskValue::Mask(_))) => None,
        };
        if netmask.is_none() {
            self.wrong("netmask", "the netmask is of the other family", None);
        }
        Some(Persistence {
            timeout_s,
            netmask: netmask?,
        })
    }

    fn method(&mut self, draft: &ServerDraft) -> ForwardMethod {
        let method = draft.method.as_deref().unwrap_or("masq");
        let checksum = draft.tunnel_checksum;
        if method != "gue" && self.spans.has("tunnel_port") {
            self.wrong(
                "tunnel_port",
                "tunnel_port goes with method = \"gue\"",
                None,
            );
        }
        let takes = match method {
            "gue" => true,
            "gre" => checksum != TunnelChecksum::Remote,
            _ => false,
        };
        if self.spans.has("tunnel_checksum") && !takes {
            let message = format!("method {method:?} has no such checksum");
            self.wrong("tunnel_checksum", &message, None);
        }
        match method {
            "route" => ForwardMethod::Route,
            "full-nat" => ForwardMethod::FullNat,
            "ipip" => ForwardMethod::Tunnel(Tunnel::Ipip),
            "gre" => ForwardMethod::Tunnel(Tunnel::Gre { checksum }),
            "gue" => {
                if !self.spans.has("tunnel_port") {
                    let message = "method \"gue\" needs a tunnel_port";
                    self.wrong("method", message, Some("the usual one is 6080"));
                }
                ForwardMethod::Tunnel(Tunnel::Gue {
                    port: draft.tunnel_port.unwrap_or(0),
                    checksum,
                })
            }
            _ => ForwardMethod::Masq,
        }
    }
}
