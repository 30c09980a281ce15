//! What may stand in the file's tables.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use evenkeel_core::model::{Ends, Netmask, Prefix, Script, SourceNat};

use super::{Config, Flush, Hook, IpvsadmRules};

/// What a key takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A whole number within this range.
    Number(RangeInclusive<u32>),
    /// `true` or `false`.
    Flag,
    /// `true`, `false`, or a whole number within this range.
    FlagOrNumber(RangeInclusive<u32>),
    /// One of these words.
    Word(&'static [&'static str]),
    /// A list of these words.
    Words(&'static [&'static str]),
    /// One of these words, or the absolute path of a file.
    WordOrPath(&'static [&'static str]),
    /// An interface's name.
    Interface,
    /// A list of interfaces' names.
    Interfaces,
    /// A unicast address.
    Address,
    /// A list of unicast addresses, each once, at most so many.
    Addresses(usize),
    /// An IPv4 mask, or the length of a prefix.
    Netmask,
    /// An address with a number of bits, or an address alone.
    Prefix,
    /// Two ports with a `-` between them.
    PortRange,
    /// A port, a range of ports, or a list of these, at most so many.
    Ports(usize),
    /// A whole number within this range, which may be below 0.
    Signed(RangeInclusive<i32>),
    /// A time: a number of seconds, perhaps with decimals, or such as
    /// `"500ms"`.
    Time {
        /// It can be 0.
        zero: bool,
    },
    /// A text.
    Text,
    /// A text that messages do not show.
    Secret,
    /// A text without control characters.
    Line,
    /// A list of texts, not empty.
    Texts,
    /// A text without control characters, or a whole number.
    LineOrNumber,
    /// An address of a machine, on a link or beyond.
    Peer,
    /// A program with its arguments, perhaps with whom it runs as.
    Script,
    /// HTTP statuses: one, a range, or a list of these.
    Statuses,
    /// This many bytes in hexadecimal digits.
    Digest,
    /// Bytes in hexadecimal digits.
    Hex,
    /// Bytes in hexadecimal digits, each perhaps with a mask.
    Pattern,
    /// A list of what clients connect to.
    Ends,
}

/// A value that was checked against its key's [`Kind`].
#[derive(Clone, Debug)]
pub(super) enum Value {
    Number(u32),
    Flag(bool),
    Word(String),
    Names(Vec<String>),
    Addresses(Vec<IpAddr>),
    Netmask(NetmaskValue),
    Prefix(Prefix),
    Ports(Vec<RangeInclusive<u16>>),
    Signed(i32),
    Time(Duration),
    Script(Script),
    Bytes(Vec<u8>),
    Pattern(Vec<(u8, u8)>),
    Ends(Vec<(usize, Ends)>),
}

/// A netmask whose family may be open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NetmaskValue {
    Mask(Netmask),
    Bits(u8),
}

/// What a key's function takes out of a value; never another than its kind gives.
impl Value {
    pub(super) fn number(&self) -> u32 {
        match self {
            Self::Number(number) => *number,
            _ => 0,
        }
    }

    /// A number up to 65,535.
    pub(super) fn port(&self) -> u16 {
        u16::try_from(self.number()).unwrap_or(u16::MAX)
    }

    pub(super) fn flag(&self) -> bool {
        matches!(self, Self::Flag(true))
    }

    pub(super) fn word(self) -> String {
        match self {
            Self::Word(word) => word,
            _ => String::new(),
        }
    }

    pub(super) fn names(self) -> Vec<String> {
        match self {
            Self::Names(names) => names,
            _ => Vec::new(),
        }
    }

    pub(super) fn addresses(self) -> Vec<IpAddr> {
        match self {
            Self::Addresses(addresses) => addresses,
            _ => Vec::new(),
        }
    }

    pub(super) fn address(self) -> Option<IpAddr> {
        self.addresses().pop()
    }

    pub(super) fn netmask(&self) -> Option<NetmaskValue> {
        match self {
            Self::Netmask(netmask) => Some(*netmask),
            _ => None,
        }
    }

    pub(super) fn prefix(&self) -> Option<Prefix> {
        match self {
            Self::Prefix(prefix) => Some(*prefix),
            _ => None,
        }
    }

    pub(super) fn ports(self) -> Vec<RangeInclusive<u16>> {
        match self {
            Self::Ports(ports) => ports,
            _ => Vec::new(),
        }
    }

    pub(super) fn signed(&self) -> i32 {
        match self {
            Self::Signed(number) => *number,
            _ => 0,
        }
    }

    pub(super) fn time(&self) -> Option<Duration> {
        match self {
            Self::Time(time) => Some(*time),
            _ => None,
        }
    }

    pub(super) fn script(self) -> Option<Script> {
        match self {
            Self::Script(script) => Some(script),
            _ => None,
        }
    }

    pub(super) fn bytes(self) -> Vec<u8> {
        match self {
            Self::Bytes(bytes) => bytes,
            _ => Vec::new(),
        }
    }

    pub(super) fn pattern(self) -> Vec<(u8, u8)> {
        match self {
            Self::Pattern(pattern) => pattern,
            _ => Vec::new(),
        }
    }

    /// Each with the byte of the text where it stands.
    pub(super) fn ends(self) -> Vec<(usize, Ends)> {
        match self {
            Self::Ends(ends) => ends,
            _ => Vec::new(),
        }
    }
}

/// A key of a table, whose values become part of a `T`.
#[derive(Clone, Debug)]
pub struct Key<T: 'static> {
    /// Name.
    pub name: &'static str,
    /// What it takes.
    pub kind: Kind,
    /// What it is, with unit and default.
    pub help: &'static str,
    pub(super) set: fn(&mut T, Value),
}

/// The words of `compat`.
pub(super) const WAYS: &[&str] = &["none", "ipvs"];

/// True for the word that asks for IPVS's ways.
pub(super) fn is_ipvs(word: &str) -> bool {
    word == "ipvs"
}

/// All tables with keys of their own, and these.
pub const TABLES: &[(&str, &[Key<Config>])] = &[
    ("dataplane", DATAPLANE),
    ("timeouts", TIMEOUTS),
    ("start", START),
    ("stop", STOP),
    ("compat", COMPAT),
    ("source_nat", SOURCE_NAT),
    ("closed", CLOSED),
];

const DATAPLANE: &[Key<Config>] = &[
    Key {
        name: "connections",
        kind: Kind::Number(1024..=1 << 24),
        help: "connections at a time, rounded up to a power of two; 36 bytes of memory each; \
               default 262144",
        set: |config, value| config.dataplane.connections = value.number().next_power_of_two(),
    },
    Key {
        name: "wide_connections",
        kind: Kind::Number(1024..=1 << 24),
        help: "connections of IPv6, of firewall marks and of port 0, templates of persistence \
               and fragments at a time, rounded up to a power of two; 68 bytes of memory each; \
               default 131072",
        set: |config, value| {
            config.dataplane.wide_connections = value.number().next_power_of_two();
        },
    },
    Key {
        name: "services",
        kind: Kind::Number(1..=1 << 16),
        help: "virtual services; 64 bytes each; default 4096",
        set: |config, value| config.dataplane.services = value.number(),
    },
    Key {
        name: "servers",
        kind: Kind::Number(1..=1 << 20),
        help: "real servers of all services together; 144 bytes each, and 64 on each CPU; \
               default 16384",
        set: |config, value| config.dataplane.servers = value.number(),
    },
    Key {
        name: "ring_words",
        kind: Kind::Number(64..=1 << 24),
        help: "words for the schedulers' rings, 4 bytes each; a service takes as many as its \
               scheduler and its servers need, rounded up to a power of two, and twice that \
               while it is changed; default 1048576",
        set: |config, value| config.dataplane.ring_words = value.number(),
    },
    Key {
        name: "hook",
        kind: Kind::Word(&["auto", "xdp", "tc"]),
        help: "auto: XDP on physical interfaces and tc on all; xdp: XDP wherever the driver has \
               it; tc: tc alone; default auto",
        set: |config, value| {
            config.dataplane.hook = Hook::from_name(&value.word()).unwrap_or_default();
        },
    },
    Key {
        name: "interfaces",
        kind: Kind::Interfaces,
        help: "names of the interfaces to attach to; default: every one that IP packets come by",
        set: |config, value| config.dataplane.interfaces = value.names(),
    },
];

const TIMEOUTS: &[Key<Config>] = &[
    Key {
        name: "tcp",
        kind: Kind::Number(1..=2_678_400),
        help: "seconds that an established TCP connection may be silent; default 900",
        set: |config, value| config.timeouts.tcp = value.number(),
    },
    Key {
        name: "tcp_fin",
        kind: Kind::Number(1..=2_678_400),
        help: "seconds that a TCP connection stays after one side's FIN; default 120",
        set: |config, value| config.timeouts.tcp_fin = value.number(),
    },
    Key {
        name: "udp",
        kind: Kind::Number(1..=2_678_400),
        help: "seconds that a UDP flow may be silent; default 300",
        set: |config, value| config.timeouts.udp = value.number(),
    },
    Key {
        name: "udp_quiesced",
        kind: Kind::Number(1..=2_678_400),
        help: "seconds that a UDP flow to a server of weight 0 may be silent before its next \
               packet goes to another server; not in services with IPVS's ways; default 30",
        set: |config, value| config.udp_quiesced = value.number(),
    },
];

const START: &[Key<Config>] = &[
    Key {
        name: "ipvsadm_rules",
        kind: Kind::WordOrPath(&["auto", "never"]),
        help: "rules of ipvsadm that are read when the director starts and was not running: \
               \"auto\" reads /etc/ipvsadm.rules if /etc/default/ipvsadm has AUTO=\"true\", \
               \"never\" none, a path that file; default \"auto\"",
        set: |config, value| {
            config.start.ipvsadm_rules = match value.word().as_str() {
                "auto" => IpvsadmRules::Auto,
                "never" => IpvsadmRules::Never,
                path => IpvsadmRules::File(path.into()),
            };
        },
    },
    Key {
        name: "flush",
        kind: Kind::Flag,
        help: "services that stand in no file are deleted at the start; default false",
        set: |config, value| config.start.flush = value.flag(),
    },
];

const STOP: &[Key<Config>] = &[Key {
    name: "flush",
    kind: Kind::Word(Flush::NAMES),
    help: "services that are deleted when a signal ends the director: \"nothing\": none, the \
           forwarding goes on; \"configured\": those of the files; \"everything\": all; \
           default \"nothing\"",
    set: |config, value| {
        config.stop.flush = Flush::from_name(&value.word()).unwrap_or_default();
    },
}];

const COMPAT: &[Key<Config>] = &[
    Key {
        name: "services",
        kind: Kind::Word(WAYS),
        help: "services of this file that do not say it themselves: \"ipvs\": IPVS's ways where \
               Evenkeel has better ones, \"none\": those; default \"none\"",
        set: |config, value| config.compat.services = is_ipvs(&value.word()),
    },
    Key {
        name: "ipvsadm",
        kind: Kind::Word(WAYS),
        help: "the same for services made by ipvsadm; default \"ipvs\"",
        set: |config, value| config.compat.ipvsadm = is_ipvs(&value.word()),
    },
];

/// Most addresses of `[closed]`.
const CLOSED_MAX: usize = 1024;

const CLOSED: &[Key<Config>] = &[Key {
    name: "addresses",
    kind: Kind::Addresses(CLOSED_MAX),
    help: "virtual addresses on which nothing is reached but services: what this machine itself \
           listens on there is not",
    set: |config, value| config.closed = value.addresses(),
}];

const SOURCE_NAT: &[Key<Config>] = &[
    Key {
        name: "addresses",
        kind: Kind::Addresses(SourceNat::ADDRESSES_MAX),
        help: "addresses that servers see, of both families, at most 32; without one of a \
               family: the director's own on the way to the server",
        set: |config, value| {
            config.source_nat.get_or_insert_default().addresses = value.addresses();
        },
    },
    Key {
        name: "ports",
        kind: Kind::PortRange,
        help: "ports that servers see; default \"10240-32767\"",
        set: |config, value| {
            if let Some(ports) = value.ports().pop() {
                config.source_nat.get_or_insert_default().ports = ports;
            }
        },
    },
];
