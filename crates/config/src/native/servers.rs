//! `[[service.server]]` and `sorry_server`: what answers clients.

use std::net::IpAddr;

use evenkeel_core::model::{
    Check, Ends, Family, ForwardMethod, Notify, RealServer, Script, ServerKey, ServerSettings,
    Sorry, Tunnel, TunnelChecksum,
};
use toml::de::{DeTable, DeValue};

use super::keys::{Key, Kind};
use super::probes::{Defaults, ReadCheck};
use super::reader::{Reader, Spans};

/// Greatest weight and threshold.
const WEIGHT_MAX: u32 = i32::MAX as u32;
const METHODS: &[&str] = &["masq", "route", "full-nat", "ipip", "gue", "gre"];
/// The built-in sorry server.
pub(super) const BUILTIN: &str = "builtin";

/// A server as it is read.
#[derive(Debug)]
pub struct ServerDraft {
    address: Option<IpAddr>,
    port: Option<u16>,
    method: Option<String>,
    weight: Option<u32>,
    upper_threshold: u32,
    lower_threshold: u32,
    tunnel_port: Option<u16>,
    tunnel_checksum: TunnelChecksum,
    inhibit: bool,
    on_up: Option<Script>,
    on_down: Option<Script>,
    mail: bool,
}

impl Default for ServerDraft {
    fn default() -> Self {
        Self {
            address: None,
            port: None,
            method: None,
            weight: None,
            upper_threshold: 0,
            lower_threshold: 0,
            tunnel_port: None,
            tunnel_checksum: TunnelChecksum::None,
            inhibit: false,
            on_up: None,
            on_down: None,
            mail: true,
        }
    }
}

/// The keys of `[[service.server]]`, beside `check`.
pub const SERVER_KEYS: &[Key<ServerDraft>] = &[
    ADDRESS,
    PORT,
    METHOD,
    WEIGHT,
    UPPER_THRESHOLD,
    LOWER_THRESHOLD,
    TUNNEL_PORT,
    TUNNEL_CHECKSUM,
    Key {
        name: "inhibit_on_failure",
        kind: Kind::Flag,
        help: "while it is dead it stays in the table with weight 0; default false: it is removed, \
               and comes back when it lives",
        set: |draft, value| draft.inhibit = value.flag(),
    },
    Key {
        name: "on_up",
        kind: Kind::Script,
        help: "a program that is run when it comes to life; default: none",
        set: |draft, value| draft.on_up = value.script(),
    },
    Key {
        name: "on_down",
        kind: Kind::Script,
        help: "a program that is run when it dies; default: none",
        set: |draft, value| draft.on_down = value.script(),
    },
    Key {
        name: "mail",
        kind: Kind::Flag,
        help: "its life and death are told by mail, if [alerts.mail] is there; default true",
        set: |draft, value| draft.mail = value.flag(),
    },
];

/// The keys of a `sorry_server` that is a table.
pub const SORRY_KEYS: &[Key<ServerDraft>] = &[
    ADDRESS,
    PORT,
    METHOD,
    WEIGHT,
    UPPER_THRESHOLD,
    LOWER_THRESHOLD,
    TUNNEL_PORT,
    TUNNEL_CHECKSUM,
    Key {
        name: "inhibit",
        kind: Kind::Flag,
        help: "while it is not needed it stays in the table with weight 0; default false: it is \
               removed",
        set: |draft, value| draft.inhibit = value.flag(),
    },
];

const ADDRESS: Key<ServerDraft> = Key {
    name: "address",
    kind: Kind::Address,
    help: "the server's address",
    set: |draft, value| draft.address = value.address(),
};

const PORT: Key<ServerDraft> = Key {
    name: "port",
    kind: Kind::Number(0..=65_535),
    help: "the port that it listens on; 0: that which the packet was sent to; default: that \
           which clients connect to, 0 if there are several",
    set: |draft, value| draft.port = Some(value.port()),
};

const METHOD: Key<ServerDraft> = Key {
    name: "method",
    kind: Kind::Word(METHODS),
    help: "how packets reach it: \"masq\": routed NAT, \"route\": direct routing, \
           \"full-nat\": NAT of the client's address as well, \"ipip\", \"gue\", \"gre\": \
           a tunnel; default \"masq\"",
    set: |draft, value| draft.method = Some(value.word()),
};

const WEIGHT: Key<ServerDraft> = Key {
    name: "weight",
    kind: Kind::Number(0..=WEIGHT_MAX),
    help: "its share; 0: no new connections; default 1",
    set: |draft, value| draft.weight = Some(value.number()),
};

const UPPER_THRESHOLD: Key<ServerDraft> = Key {
    name: "upper_threshold",
    kind: Kind::Number(0..=WEIGHT_MAX),
    help: "connections from which on it gets no more; default 0: no limit",
    set: |draft, value| draft.upper_threshold = value.number(),
};

const LOWER_THRESHOLD: Key<ServerDraft> = Key {
    name: "lower_threshold",
    kind: Kind::Number(0..=WEIGHT_MAX),
    help: "connections below which it gets some again; default 0: three quarters of \
           upper_threshold",
    set: |draft, value| draft.lower_threshold = value.number(),
};

const TUNNEL_PORT: Key<ServerDraft> = Key {
    name: "tunnel_port",
    kind: Kind::Number(1..=65_535),
    help: "with \"gue\", which needs it: the UDP port of the tunnel",
    set: |draft, value| draft.tunnel_port = Some(value.port()),
};

const TUNNEL_CHECKSUM: Key<ServerDraft> = Key {
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
};

/// What servers have to fit: their service.
#[derive(Debug)]
pub(super) struct Front<'e> {
    /// Its name in messages.
    pub(super) name: String,
    /// What clients connect to.
    pub(super) ends: &'e [Ends],
    /// It has IPVS's ways.
    pub(super) compatible: bool,
}

impl Front<'_> {
    /// The port of a server that does not say one: that which clients connect to, 0 if
    /// there are several.
    pub(super) fn port(&self) -> u16 {
        usual_port(self.ends)
    }

    /// A family of its packets that is not this one.
    fn other_than(&self, family: Family) -> bool {
        self.ends.iter().any(|ends| family_of(ends) != family)
    }
}

/// The family of packets to there.
pub(super) fn family_of(ends: &Ends) -> Family {
    match ends {
        Ends::Addresses { first, .. } => Family::of(first),
        Ends::Mark { family, .. } => *family,
    }
}

/// The port of servers that do not say one.
pub(super) fn usual_port(ends: &[Ends]) -> u16 {
    let port = |ends: &Ends| match ends {
        Ends::Addresses { ports, .. } if ports.start() == ports.end() => *ports.start(),
        _ => 0,
    };
    let first = ends.first().map_or(0, port);
    if ends.iter().all(|ends| port(ends) == first) {
        first
    } else {
        0
    }
}

/// A table of a server that was read, to be looked at as a whole.
struct Checked<'r, 'a> {
    reader: &'r mut Reader<'a>,
    spans: Spans,
    /// Where it begins.
    at: usize,
}

impl Reader<'_> {
    /// A server, and where it stands. `checks` are those that every server of the service
    /// has.
    pub(super) fn server(
        &mut self,
        at: usize,
        table: &DeTable<'_>,
        front: Option<&Front<'_>>,
        checks: &[ReadCheck],
        defaults: &Defaults,
    ) -> Option<(usize, RealServer)> {
        let mut draft = ServerDraft::default();
        let spans = self.keys(table, SERVER_KEYS, &["check"], &mut draft);
        let own = self.checks(table, defaults);
        let (at, key, settings) = self.target(at, spans, &draft, front)?;
        let mut all: Vec<Check> = self.checks_for(key, checks);
        all.extend(self.checks_for(key, &own));
        Some((
            at,
            RealServer {
                key,
                settings,
                inhibit: draft.inhibit,
                checks: all,
                notify: Notify {
                    up: draft.on_up,
                    down: draft.on_down,
                },
                mail: draft.mail,
            },
        ))
    }

    /// The sorry server: `"builtin"`, a directory, or a table.
    pub(super) fn sorry(
        &mut self,
        service: &DeTable<'_>,
        front: Option<&Front<'_>>,
    ) -> Option<Sorry> {
        let given = service
            .iter()
            .find(|(key, _)| key.get_ref() == "sorry_server");
        let (_, value) = given?;
        match value.get_ref() {
            DeValue::String(word) if word == BUILTIN => Some(Sorry::Builtin { directory: None }),
            DeValue::String(path) if path.starts_with('/') && !path.contains('\0') => {
                Some(Sorry::Builtin {
                    directory: Some(path.clone().into_owned()),
                })
            }
            DeValue::Table(table) => {
                let mut draft = ServerDraft::default();
                let spans = self.keys(table, SORRY_KEYS, &[], &mut draft);
                let at = value.span().start;
                let (_, key, settings) = self.target(at, spans, &draft, front)?;
                Some(Sorry::Server {
                    key,
                    settings,
                    inhibit: draft.inhibit,
                })
            }
            _ => {
                let expected = "\"builtin\", a directory that begins with /, or a table such as \
                                { address = \"10.0.0.9\" }";
                self.or_wrong("sorry_server", value, None, expected)
            }
        }
    }

    /// Where packets go by a server's table, and where it stands.
    fn target(
        &mut self,
        at: usize,
        spans: Spans,
        draft: &ServerDraft,
        front: Option<&Front<'_>>,
    ) -> Option<(usize, ServerKey, ServerSettings)> {
        let mut checked = Checked {
            reader: self,
            spans,
            at,
        };
        if !checked.spans.has("address") {
            checked.wrong("", "the server has no address", None);
        }
        let method = checked.method(draft);
        if draft.lower_threshold > draft.upper_threshold {
            let message = "lower_threshold is above upper_threshold";
            checked.wrong("lower_threshold", message, None);
        }
        let (front, address) = (front?, draft.address?);
        checked.check_fit(draft, method, front, address);
        let settings = ServerSettings {
            method,
            weight: draft.weight.unwrap_or(1),
            upper_threshold: draft.upper_threshold,
            lower_threshold: draft.lower_threshold,
        };
        let server = ServerKey {
            address,
            port: draft.port.unwrap_or_else(|| front.port()),
        };
        let at = checked.spans.of("address").map_or(at, |span| span.start);
        Some((at, server, settings))
    }
}

impl Checked<'_, '_> {
    /// Notes a mistake at a key, or at the table where that is not there.
    fn wrong(&mut self, key: &str, message: &str, hint: Option<&str>) {
        let at = self.spans.of(key).map_or(self.at, |span| span.start);
        self.reader
            .mistake(at, message.into(), hint.map(Into::into));
    }

    /// Notes what does not go with the service.
    fn check_fit(
        &mut self,
        draft: &ServerDraft,
        method: ForwardMethod,
        front: &Front<'_>,
        address: IpAddr,
    ) {
        let is_tunnel = matches!(method, ForwardMethod::Tunnel(_));
        if front.other_than(Family::of(&address)) && !is_tunnel {
            let message = format!("{address} is of another family than {}", front.name);
            let hint = "only tunnels lead from one to the other";
            self.wrong("address", &message, Some(hint));
        }
        let keeps_port = is_tunnel || method == ForwardMethod::Route;
        // IPVS takes such a port, and does not heed it.
        if keeps_port && !front.compatible && draft.port.is_some_and(|port| port != front.port()) {
            let message = format!(
                "packets keep their port by {:?}",
                draft.method.as_deref().unwrap_or_default()
            );
            let hint = "leave it out, or use masq or full-nat, which change it";
            self.wrong("port", &message, Some(hint));
        }
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
