//! `[[mark]]`: rules that give packets a firewall mark.

use evenkeel_core::model::{MarkRule, Prefix, Protocol};
use toml::de::DeTable;

use super::keys::{Key, Kind};
use super::reader::Reader;

/// The names of the protocols.
pub(super) const PROTOCOLS: &[&str] = &["tcp", "udp", "sctp"];

/// The protocol of a name.
pub(super) fn protocol(name: &str) -> Option<Protocol> {
    Some(match name {
        "tcp" => Protocol::Tcp,
        "udp" => Protocol::Udp,
        "sctp" => Protocol::Sctp,
        _ => return None,
    })
}

/// The keys of `[[mark]]`.
pub const MARK_KEYS: &[Key<MarkRule>] = &[
    Key {
        name: "mark",
        kind: Kind::Number(1..=u32::MAX),
        help: "the mark that packets get which fit all the other keys",
        set: |rule, value| rule.mark = value.number(),
    },
    Key {
        name: "protocol",
        kind: Kind::Word(PROTOCOLS),
        help: "packets of this protocol; default: of any",
        set: |rule, value| rule.protocol = protocol(&value.word()),
    },
    Key {
        name: "source",
        kind: Kind::Prefix,
        help: "packets from this address or prefix; default: from anywhere",
        set: |rule, value| rule.source = value.prefix(),
    },
    Key {
        name: "destination",
        kind: Kind::Prefix,
        help: "packets to this address or prefix; default: to anywhere",
        set: |rule, value| rule.destination = value.prefix(),
    },
    Key {
        name: "ports",
        kind: Kind::Ports(MarkRule::PORTS_MAX),
        help: "packets to this port, range of ports, or one of a list of these, at most 8; \
               default: to any",
        set: |rule, value| rule.ports = value.ports(),
    },
    Key {
        name: "interface",
        kind: Kind::Interface,
        help: "packets that came by this interface; default: by any",
        set: |rule, value| rule.interface = value.names().pop(),
    },
];

impl Reader<'_> {
    /// Reads a rule; `number` are before it.
    pub(super) fn mark(
        &mut self,
        at: usize,
        table: &DeTable<'_>,
        number: usize,
    ) -> Option<MarkRule> {
        let mut rule = MarkRule {
            mark: 0,
            protocol: None,
            source: None,
            destination: None,
            ports: Vec::new(),
            interface: None,
        };
        let spans = self.keys(table, MARK_KEYS, &[], &mut rule);
        let mut wrong = |at: usize, message: &str, hint: Option<&str>| {
            self.mistake(at, message.into(), hint.map(Into::into));
        };
        if number == MarkRule::RULES_MAX {
            wrong(at, "there are more than 64 rules of [[mark]]", None);
        }
        if !spans.has("mark") {
            wrong(at, "the rule has no mark", Some("write mark = 1"));
        }
        let others = &MARK_KEYS[1..];
        if !others.iter().any(|key| spans.has(key.name)) {
            let message = "the rule would mark every packet";
            let hint = "say which, by protocol, source, destination, ports or interface";
            wrong(at, message, Some(hint));
        }
        let is_ipv4 = |prefix: Option<Prefix>| prefix.map(|prefix| prefix.address.is_ipv4());
        if let (Some(source), Some(destination)) = (is_ipv4(rule.source), is_ipv4(rule.destination))
            && source != destination
        {
            let at = spans.of("destination").map_or(at, |span| span.start);
            wrong(at, "source and destination are of one family", None);
        }
        Some(rule)
    }
}
