//! `[[service]]`: what clients connect to, and what is done there.

use std::collections::HashMap;
use std::net::IpAddr;

use evenkeel_core::model::{
    Ends, Family, MSS_MIN, MssClamp, Netmask, Notify, Persistence, Protocol, Quorum, RealServer,
    SchedulerFlags, Script, ServiceKey, ServiceSettings, VirtualServer,
};
use toml::de::DeTable;

use super::keys::{Key, Kind, NetmaskValue, WAYS, is_ipvs};
use super::marks::{PROTOCOLS, protocol};
use super::reader::{Reader, Spans};
use super::servers::{Front, family_of};
use super::{Place, PlacedService, values};
use crate::ipvsadm::scheduler_flags;

/// The scheduler of a service that does not name one.
pub(super) const DEFAULT_SCHEDULER: &str = "wlc";
/// Longest persistence in seconds: 31 days.
const PERSISTENCE_MAX: u32 = 2_678_400;
/// Most services of a file: more never fit into a dataplane.
const SERVICES_MAX: usize = 1 << 16;

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
/// Keys that are tables or lists of them.
const TABLES: &[&str] = &["server", "check", "check_defaults", "sorry_server"];

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
    group: Option<String>,
    /// Each with where it stands.
    endpoints: Vec<(usize, Ends)>,
    quorum: Option<u32>,
    hysteresis: u32,
    ha_suspend: bool,
    omega: bool,
    on_quorum_up: Option<Script>,
    on_quorum_down: Option<Script>,
    mail: Option<bool>,
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
    Key {
        name: "endpoints",
        kind: Kind::Ends,
        help: "in place of address and port: several of them, ranges and marks, whose servers \
               live and die together, such as [\"tcp:10.0.0.1-10.0.0.9:80\", \"mark:7\"]",
        set: |draft, value| draft.endpoints = value.ends(),
    },
    Key {
        name: "group",
        kind: Kind::Line,
        help: "with endpoints: what they are called together; default: nothing",
        set: |draft, value| draft.group = Some(value.word()),
    },
    Key {
        name: "quorum",
        kind: Kind::Number(1..=u32::MAX),
        help: "weight of servers that has to live; with less the sorry server answers; default 1",
        set: |draft, value| draft.quorum = Some(value.number()),
    },
    Key {
        name: "hysteresis",
        kind: Kind::Number(0..=u32::MAX),
        help: "the quorum is lost below quorum - hysteresis, and gained from quorum + hysteresis \
               on; less than quorum; default 0",
        set: |draft, value| draft.hysteresis = value.number(),
    },
    Key {
        name: "ha_suspend",
        kind: Kind::Flag,
        help: "checks rest while no address of the service is on this machine; default false",
        set: |draft, value| draft.ha_suspend = value.flag(),
    },
    Key {
        name: "omega",
        kind: Kind::Flag,
        help: "on_quorum_down and the servers' on_down are run when the daemon ends, too; default \
               false",
        set: |draft, value| draft.omega = value.flag(),
    },
    Key {
        name: "on_quorum_up",
        kind: Kind::Script,
        help: "a program that is run when the quorum is gained; default: none",
        set: |draft, value| draft.on_quorum_up = value.script(),
    },
    Key {
        name: "on_quorum_down",
        kind: Kind::Script,
        help: "a program that is run when the quorum is lost; default: none",
        set: |draft, value| draft.on_quorum_down = value.script(),
    },
    Key {
        name: "mail",
        kind: Kind::Flag,
        help: "quorums gained and lost are told by mail, if [alerts.mail] is there; default true",
        set: |draft, value| draft.mail = Some(value.flag()),
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
        let spans = self.keys(table, SERVICE_KEYS, TABLES, &mut draft);
        let mut checked = Checked {
            reader: self,
            spans,
            at,
        };
        let ends = checked.ends(&draft);
        let settings = checked.service_settings(&draft, &ends, compatible);
        let quorum = checked.quorum(&draft);
        let at = ["address", "mark", "endpoints"]
            .iter()
            .find_map(|name| checked.spans.of(name))
            .map_or(at, |span| span.start);
        let place = self.place(at);
        self.check_known(&ends, &place, known);
        let ends: Vec<Ends> = ends.into_iter().map(|(_, ends)| ends).collect();
        let front = ends.first().map(|first| Front {
            name: match &draft.group {
                Some(group) => format!("group {group}"),
                None => name_of(first),
            },
            ends: &ends,
            compatible: settings.compatible == Some(true),
        });
        let (servers, places) = self.servers(table, front.as_ref());
        let sorry = self.sorry(table, front.as_ref());
        (!ends.is_empty()).then_some(PlacedService {
            service: VirtualServer {
                group: draft.group,
                ends,
                settings,
                servers,
                quorum,
                sorry,
                ha_suspend: draft.ha_suspend,
                omega: draft.omega,
                notify: Notify {
                    up: draft.on_quorum_up,
                    down: draft.on_quorum_down,
                },
                mail: draft.mail.unwrap_or(true),
            },
            place,
            servers: places,
        })
    }

    /// Notes services that are there already.
    fn check_known(&mut self, ends: &[(usize, Ends)], place: &Place, known: &mut Known) {
        for (at, ends) in ends {
            if ends.count().saturating_add(known.len() as u128) > SERVICES_MAX as u128 {
                let message = format!("the file has more than {SERVICES_MAX} services");
                self.mistake(*at, message, None);
                return;
            }
            for key in ends.keys() {
                if let Some(first) = known.insert(key, place.clone()) {
                    let message = format!("{key} stands there twice");
                    let hint = format!("the first is in line {}", first.line);
                    self.mistake(*at, message, Some(hint));
                    break;
                }
            }
        }
    }

    /// The servers of a service, and where they stand.
    fn servers(
        &mut self,
        table: &DeTable<'_>,
        front: Option<&Front<'_>>,
    ) -> (Vec<RealServer>, Vec<Place>) {
        let defaults = self.check_defaults(table);
        let checks = self.checks(table, &defaults);
        let mut servers = Vec::new();
        let mut places = Vec::new();
        let mut targets = HashMap::new();
        for (at, table) in self.list(table, "server") {
            let Some((at, server)) = self.server(at, table, front, &checks, &defaults) else {
                continue;
            };
            let place = self.place(at);
            if let Some(line) = targets.insert(server.key, place.line) {
                let message = "the service has this server twice";
                let hint = format!("the first is in line {line}");
                self.mistake(at, message.into(), Some(hint));
            }
            servers.push(server);
            places.push(place);
        }
        (servers, places)
    }
}

/// The first service of these in messages.
fn name_of(ends: &Ends) -> String {
    let key = ends.keys().next();
    key.map_or_else(String::new, |key| key.to_string())
}

/// The flags of a service that names none. Clients that are hashed to a server that takes
/// no connections are turned away by IPVS; else they go to another one.
pub(super) fn usual_flags(scheduler: &str, compatible: bool) -> SchedulerFlags {
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

    /// What clients connect to, each with where it stands; empty after a mistake.
    fn ends(&mut self, draft: &ServiceDraft) -> Vec<(usize, Ends)> {
        if self.spans.has("endpoints") {
            for name in ["address", "port", "protocol", "mark", "family"] {
                if self.spans.has(name) {
                    let message = format!("{name} and endpoints exclude each other");
                    self.wrong(name, &message, None);
                }
            }
            if draft.group.as_ref().is_some_and(String::is_empty) {
                self.wrong("group", "group is empty", None);
            }
            return draft.endpoints.clone();
        }
        if self.spans.has("group") {
            let hint = "write endpoints = [\"tcp:10.0.0.1:80\"]";
            self.wrong("group", "group goes with endpoints", Some(hint));
        }
        let key = self.service_key(draft);
        let at = ["address", "mark"]
            .iter()
            .find_map(|name| self.spans.of(name));
        let at = at.map_or(self.at, |span| span.start);
        key.map(|key| (at, Ends::of(key))).into_iter().collect()
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

    fn quorum(&mut self, draft: &ServiceDraft) -> Quorum {
        let usual = Quorum::default();
        let weight = draft.quorum.unwrap_or(usual.weight);
        if draft.hysteresis >= weight {
            let message = format!("hysteresis has to be less than quorum, which is {weight}");
            self.wrong("hysteresis", &message, None);
        }
        Quorum {
            weight,
            hysteresis: draft.hysteresis,
        }
    }

    fn service_settings(
        &mut self,
        draft: &ServiceDraft,
        ends: &[(usize, Ends)],
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
        let is_udp = |ends: &Ends| match ends {
            Ends::Mark { .. } => true,
            Ends::Addresses { protocol, .. } => *protocol == Protocol::Udp,
        };
        if draft.one_packet && !ends.iter().all(|(_, ends)| is_udp(ends)) {
            self.wrong("one_packet", "one_packet is for UDP alone", None);
        }
        ServiceSettings {
            scheduler: scheduler.into(),
            flags,
            persistence: self.persistence(draft, ends),
            one_packet: draft.one_packet,
            engine: draft.engine.clone(),
            compatible: Some(compatible),
            mss_clamp: Some(draft.mss_clamp),
        }
    }

    fn persistence(&mut self, draft: &ServiceDraft, ends: &[(usize, Ends)]) -> Option<Persistence> {
        if !self.spans.has("persistence") {
            for name in ["netmask", "persistence_engine"] {
                if self.spans.has(name) {
                    let message = format!("{name} goes with persistence");
                    self.wrong(name, &message, None);
                }
            }
            let is_any =
                |ends: &Ends| matches!(ends, Ends::Addresses { ports, .. } if *ports.start() == 0);
            if let Some((at, _)) = ends.iter().find(|(_, ends)| is_any(ends)) {
                let at = self.spans.of("port").map_or(*at, |span| span.start);
                let message = "a service of any port needs persistence";
                let hint = "write persistence = 300";
                self.reader.mistake(at, message.into(), Some(hint.into()));
            }
        }
        let timeout_s = draft.persistence?;
        let (_, first) = ends.first()?;
        let family = family_of(first);
        let netmask = match (family, draft.netmask) {
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
}
