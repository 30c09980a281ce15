//! `[[service.server.check]]`: what may stand there. How a check is made of it is in
//! `probes`.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use evenkeel_core::model::{DnsRecord, HttpVersion, Secret};
use evenkeel_core::probe::http::pattern;

use super::keys::{Key, Kind};

/// When a check that says nothing of it is run, and how long it may take.
pub(super) const INTERVAL: Duration = Duration::from_secs(5);
pub(super) const RETRIES: u32 = 2;
pub(super) const RETRY_INTERVAL: Duration = Duration::from_secs(1);
pub(super) const TIMEOUT: Duration = Duration::from_secs(3);
/// Name in the greeting of a check by SMTP.
pub(super) const HELO: &str = "localhost";

/// What is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Type {
    Tcp,
    Http,
    Https,
    Smtp,
    Dns,
    Script,
    Ping,
    Udp,
    File,
    Postgres,
    Mysql,
    Redis,
    Ldap,
    Grpc,
}

const TYPE_NAMES: &[&str] = &[
    "tcp", "http", "https", "smtp", "dns", "script", "ping", "udp", "file", "postgres", "mysql",
    "redis", "ldap", "grpc",
];

const PAGES: &[&str] = &[
    "version",
    "fast_recovery",
    "page",
    "path",
    "host",
    "status",
    "digest",
    "regex",
    "regex_options",
    "regex_no_match",
    "regex_min_offset",
    "regex_max_offset",
    "headers",
    "json",
];
const DATABASE: &[&str] = &["tls", "user", "password", "database", "query"];

/// The types: name, keys of their own, and the port where the server has none.
pub(super) const TYPES: &[(Type, &str, &[&str], u16)] = &[
    (Type::Tcp, "tcp", &[], 0),
    (Type::Http, "http", PAGES, 80),
    (Type::Https, "https", PAGES, 443),
    (Type::Smtp, "smtp", &["helo", "hosts"], 25),
    (Type::Dns, "dns", &["record", "name"], 53),
    (
        Type::Script,
        "script",
        &["command", "user", "group", "dynamic_weight"],
        0,
    ),
    (Type::Ping, "ping", &[], 0),
    (
        Type::Udp,
        "udp",
        &[
            "send",
            "send_hex",
            "expect_reply",
            "reply_hex",
            "reply_min_length",
            "reply_max_length",
        ],
        0,
    ),
    (Type::File, "file", &["path", "name", "factor"], 0),
    (Type::Postgres, "postgres", DATABASE, 5432),
    (Type::Mysql, "mysql", DATABASE, 3306),
    (Type::Redis, "redis", DATABASE, 6379),
    (
        Type::Ldap,
        "ldap",
        &["tls", "bind_dn", "password", "base_dn", "filter"],
        389,
    ),
    (Type::Grpc, "grpc", &["tls", "service"], 0),
];

impl Type {
    pub(super) fn from_name(name: &str) -> Option<Self> {
        let found = TYPES.iter().find(|(_, known, ..)| *known == name);
        found.map(|(kind, ..)| *kind)
    }

    /// True if a key of a check that is not one of all checks goes with it.
    pub(super) fn takes(self, key: &str) -> bool {
        if CONNECT_KEYS.iter().any(|known| known.name == key) {
            return match self {
                Self::Script => key == "timeout",
                Self::File => false,
                _ => true,
            };
        }
        let own = TYPES.iter().find(|(kind, ..)| *kind == self);
        own.is_some_and(|(_, _, keys, _)| {
            keys.contains(&key) || (self == Self::Https && key == "tls")
        })
    }

    /// The port where neither check nor server has one; 0: none is usual.
    pub(super) fn usual_port(self) -> u16 {
        let own = TYPES.iter().find(|(kind, ..)| *kind == self);
        own.map_or(0, |(.., port)| *port)
    }
}

/// A check as it is read.
#[derive(Clone, Debug, Default)]
pub struct CheckDraft {
    pub(super) kind: Option<String>,
    pub(super) weight: Option<i32>,
}

/// The keys of each check alone.
pub const CHECK_KEYS: &[Key<CheckDraft>] = &[
    Key {
        name: "type",
        kind: Kind::Word(TYPE_NAMES),
        help: "what is tried",
        set: |draft, value| draft.kind = Some(value.word()),
    },
    Key {
        name: "weight",
        kind: Kind::Signed(i32::MIN..=i32::MAX),
        help: "while the check fails the server's weight changes by this, in place of the \
               server's dying; default: it dies",
        set: |draft, value| draft.weight = Some(value.signed()),
    },
];

/// When a check is run and what its failures mean, as it is read.
#[derive(Clone, Debug, Default)]
pub struct RunDraft {
    pub(super) interval: Option<Duration>,
    pub(super) warmup: Option<Duration>,
    pub(super) retries: Option<u32>,
    pub(super) retry_interval: Option<Duration>,
    pub(super) starts_down: bool,
    pub(super) log_all_failures: bool,
}

/// The keys of checks, and of `check_defaults`, that say when they are run.
pub const RUN_KEYS: &[Key<RunDraft>] = &[
    Key {
        name: "interval",
        kind: Kind::Time { zero: false },
        help: "from one run to the next; default 5 s",
        set: |draft, value| draft.interval = value.time(),
    },
    Key {
        name: "warmup",
        kind: Kind::Time { zero: true },
        help: "the first run comes after a random part of this; default: interval",
        set: |draft, value| draft.warmup = value.time(),
    },
    Key {
        name: "retries",
        kind: Kind::Number(0..=u32::MAX),
        help: "how many more failures it takes after the first; default 2",
        set: |draft, value| draft.retries = Some(value.number()),
    },
    Key {
        name: "retry_interval",
        kind: Kind::Time { zero: true },
        help: "from a failure to the next try; default 1 s",
        set: |draft, value| draft.retry_interval = value.time(),
    },
    Key {
        name: "starts_down",
        kind: Kind::Flag,
        help: "the server counts as dead until the first success; default false",
        set: |draft, value| draft.starts_down = value.flag(),
    },
    Key {
        name: "log_all_failures",
        kind: Kind::Flag,
        help: "every failure is logged, not only the first and the last try; default false",
        set: |draft, value| draft.log_all_failures = value.flag(),
    },
];

/// Where and how a check connects, as it is read.
#[derive(Clone, Debug, Default)]
pub struct ConnectDraft {
    pub(super) address: Option<IpAddr>,
    pub(super) port: Option<u16>,
    pub(super) timeout: Option<Duration>,
    pub(super) from: Option<IpAddr>,
    pub(super) from_port: u16,
    pub(super) interface: Option<String>,
    pub(super) mark: u32,
}

/// The keys of checks, and of `check_defaults`, that say where and how they connect.
pub const CONNECT_KEYS: &[Key<ConnectDraft>] = &[
    Key {
        name: "address",
        kind: Kind::Peer,
        help: "to where; default: the server's address",
        set: |draft, value| draft.address = value.address(),
    },
    Key {
        name: "port",
        kind: Kind::Number(0..=65_535),
        help: "to which port; 0 with ping alone; default: the server's, else the usual one",
        set: |draft, value| draft.port = Some(value.port()),
    },
    Key {
        name: "timeout",
        kind: Kind::Time { zero: false },
        help: "how long connecting, and each answer after that, or a script, may take; default 3 s",
        set: |draft, value| draft.timeout = value.time(),
    },
    Key {
        name: "from",
        kind: Kind::Peer,
        help: "from which address of this machine; default: as the route says",
        set: |draft, value| draft.from = value.address(),
    },
    Key {
        name: "from_port",
        kind: Kind::Number(0..=65_535),
        help: "from which port; default 0: any",
        set: |draft, value| draft.from_port = value.port(),
    },
    Key {
        name: "interface",
        kind: Kind::Interface,
        help: "by which interface; default: as the route says",
        set: |draft, value| draft.interface = value.names().pop(),
    },
    Key {
        name: "mark",
        kind: Kind::Number(0..=u32::MAX),
        help: "firewall mark of its packets; default 0: none",
        set: |draft, value| draft.mark = value.number(),
    },
];

/// A page and what is expected of it, as it is read.
#[derive(Clone, Debug, Default)]
pub struct PageDraft {
    pub(super) path: Option<String>,
    pub(super) host: Option<String>,
    pub(super) statuses: Vec<RangeInclusive<u16>>,
    pub(super) digest: Option<[u8; 16]>,
    pub(super) regex: Option<String>,
    pub(super) regex_options: Vec<String>,
    pub(super) regex_no_match: bool,
    pub(super) regex_min_offset: u32,
    pub(super) regex_max_offset: u32,
    pub(super) headers: Vec<String>,
    pub(super) json: Vec<String>,
}

/// The keys of checks of HTTP, and of their `page`s.
pub const PAGE_KEYS: &[Key<PageDraft>] = &[
    Key {
        name: "path",
        kind: Kind::Line,
        help: "http, https: the page, with its query; default \"/\"; file: the file",
        set: |draft, value| draft.path = Some(value.word()),
    },
    Key {
        name: "host",
        kind: Kind::Line,
        help: "the Host header; default: the address and port of the check",
        set: |draft, value| draft.host = Some(value.word()),
    },
    Key {
        name: "status",
        kind: Kind::Statuses,
        help: "statuses that are good; default \"200-299\"",
        set: |draft, value| draft.statuses = value.ports(),
    },
    Key {
        name: "digest",
        kind: Kind::Digest,
        help: "MD5 of the body, as genhash prints it; default: any body is good",
        set: |draft, value| draft.digest = value.bytes().try_into().ok(),
    },
    Key {
        name: "regex",
        kind: Kind::Text,
        help: "regular expression that the answer, or its body alone, has to match; default: any body is good",
        set: |draft, value| draft.regex = Some(value.word()),
    },
    Key {
        name: "regex_options",
        kind: Kind::Words(pattern::OPTIONS),
        help: "with regex: how it is read, such as \"caseless\"; default: none",
        set: |draft, value| draft.regex_options = value.names(),
    },
    Key {
        name: "regex_no_match",
        kind: Kind::Flag,
        help: "with regex: neither may match; default false",
        set: |draft, value| draft.regex_no_match = value.flag(),
    },
    Key {
        name: "regex_min_offset",
        kind: Kind::Number(0..=u32::MAX),
        help: "with regex: bytes of the answer before which no match may begin; default 0",
        set: |draft, value| draft.regex_min_offset = value.number(),
    },
    Key {
        name: "regex_max_offset",
        kind: Kind::Number(0..=u32::MAX),
        help: "with regex: bytes of the answer from which on no match may begin; default 0: no limit",
        set: |draft, value| draft.regex_max_offset = value.number(),
    },
    Key {
        name: "headers",
        kind: Kind::Texts,
        help: "headers that the answer has to have, such as \"X-Health\" or \"X-Health: fine\"; \
               default: none",
        set: |draft, value| draft.headers = value.names(),
    },
    Key {
        name: "json",
        kind: Kind::Texts,
        help: "values that the body has to have as JSON, each a pointer (RFC 6901), = and what is \
               expected there, such as \"/status=ok\"; default: none",
        set: |draft, value| draft.json = value.names(),
    },
];

/// What single types of checks have for themselves, as it is read.
#[derive(Clone, Debug)]
pub struct ProbeDraft {
    pub(super) version: HttpVersion,
    pub(super) fast_recovery: bool,
    pub(super) helo: Option<String>,
    pub(super) record: DnsRecord,
    pub(super) name: Option<String>,
    pub(super) command: Vec<String>,
    pub(super) user: Option<String>,
    pub(super) group: Option<String>,
    pub(super) dynamic_weight: bool,
    pub(super) send: Option<Vec<u8>>,
    pub(super) expect_reply: bool,
    pub(super) reply: Vec<(u8, u8)>,
    pub(super) reply_min_length: u16,
    pub(super) reply_max_length: u16,
    pub(super) factor: i32,
    pub(super) password: Option<Secret>,
    pub(super) database: Option<String>,
    pub(super) query: Option<String>,
    pub(super) bind_dn: Option<String>,
    pub(super) base_dn: Option<String>,
    pub(super) filter: Option<String>,
    pub(super) service: String,
}

impl Default for ProbeDraft {
    fn default() -> Self {
        Self {
            version: HttpVersion::default(),
            fast_recovery: false,
            helo: None,
            record: DnsRecord::default(),
            name: None,
            command: Vec::new(),
            user: None,
            group: None,
            dynamic_weight: false,
            send: None,
            expect_reply: false,
            reply: Vec::new(),
            reply_min_length: 0,
            reply_max_length: u16::MAX,
            factor: 0,
            password: None,
            database: None,
            query: None,
            bind_dn: None,
            base_dn: None,
            filter: None,
            service: String::new(),
        }
    }
}

/// The names of the versions of HTTP.
pub(super) const VERSIONS: &[(&str, HttpVersion)] = &[
    ("1.0", HttpVersion::V1_0),
    ("1.0-close", HttpVersion::V1_0Close),
    ("1.1", HttpVersion::V1_1),
];

/// The keys of single types of checks, beside those of pages.
pub const PROBE_KEYS: &[Key<ProbeDraft>] = &[
    Key {
        name: "version",
        kind: Kind::Word(&["1.0", "1.0-close", "1.1"]),
        help: "http, https: the version of the request; \"1.0-close\" is 1.0 with Connection: \
               close, as 1.1 has it; default \"1.0\"",
        set: |draft, value| {
            let word = value.word();
            let known = VERSIONS.iter().find(|(name, _)| *name == word);
            draft.version = known.map_or(draft.version, |(_, version)| *version);
        },
    },
    Key {
        name: "fast_recovery",
        kind: Kind::Flag,
        help: "http, https: after a failure, a good page counts for those before it; no effect: each \
               run asks for all pages, and a good run is enough; default false",
        set: |draft, value| draft.fast_recovery = value.flag(),
    },
    Key {
        name: "helo",
        kind: Kind::Line,
        help: "smtp: the name in the greeting; default \"localhost\"",
        set: |draft, value| draft.helo = Some(value.word()),
    },
    Key {
        name: "record",
        kind: Kind::Word(&[
            "A", "NS", "CNAME", "SOA", "MX", "TXT", "AAAA", "RRSIG", "DNSKEY",
        ]),
        help: "dns: the type of the record that is asked for; default \"SOA\"",
        set: |draft, value| {
            let word = value.word();
            let known = DnsRecord::ALL.iter().find(|(_, name, _)| *name == word);
            draft.record = known.map_or(draft.record, |(record, ..)| *record);
        },
    },
    Key {
        name: "name",
        kind: Kind::Line,
        help: "dns: the name that is asked for, default the root; file: what it is called in \
               messages, default its path",
        set: |draft, value| draft.name = Some(value.word()),
    },
    Key {
        name: "command",
        kind: Kind::Texts,
        help: "script: the program, by its path, and its arguments; no shell sees them",
        set: |draft, value| draft.command = value.names(),
    },
    Key {
        name: "user",
        kind: Kind::Line,
        help: "script: whom it runs as, by name or number, default script_user of [alerts]; \
               postgres, mysql, redis: the user, default as their own clients choose",
        set: |draft, value| draft.user = Some(value.word()),
    },
    Key {
        name: "group",
        kind: Kind::Line,
        help: "script: with user: its group, by name or number; default: the user's own",
        set: |draft, value| draft.group = Some(value.word()),
    },
    Key {
        name: "dynamic_weight",
        kind: Kind::Flag,
        help: "script: exit statuses from 2 on set the server's weight to the status less 2; \
               default false: they are failures",
        set: |draft, value| draft.dynamic_weight = value.flag(),
    },
    Key {
        name: "send",
        kind: Kind::Text,
        help: "udp: what is sent, as text; default: some random bytes",
        set: |draft, value| draft.send = Some(value.word().into_bytes()),
    },
    Key {
        name: "send_hex",
        kind: Kind::Hex,
        help: "udp: what is sent, in hexadecimal digits, in place of send",
        set: |draft, value| draft.send = Some(value.bytes()),
    },
    Key {
        name: "expect_reply",
        kind: Kind::Flag,
        help: "udp: a reply has to come; default false: no ICMP error has to come, or as the \
               next keys ask for one",
        set: |draft, value| draft.expect_reply = value.flag(),
    },
    Key {
        name: "reply_hex",
        kind: Kind::Pattern,
        help: "udp: the reply's first bytes, x for any digit, each perhaps with / and a mask; \
               default: any",
        set: |draft, value| draft.reply = value.pattern(),
    },
    Key {
        name: "reply_min_length",
        kind: Kind::Number(0..=65_535),
        help: "udp: least length of the reply in bytes; default 0",
        set: |draft, value| draft.reply_min_length = value.port(),
    },
    Key {
        name: "reply_max_length",
        kind: Kind::Number(0..=65_535),
        help: "udp: greatest length of the reply in bytes; default 65535",
        set: |draft, value| draft.reply_max_length = value.port(),
    },
    Key {
        name: "factor",
        kind: Kind::Signed(i32::MIN..=i32::MAX),
        help: "file: the number in it is multiplied by this and added to the server's weight; \
               default 0: the server is dead while it is other than 0",
        set: |draft, value| draft.factor = value.signed(),
    },
    Key {
        name: "password",
        kind: Kind::Secret,
        help: "postgres, mysql, redis, ldap: the password; default: none",
        set: |draft, value| draft.password = Some(Secret(value.word())),
    },
    Key {
        name: "database",
        kind: Kind::LineOrNumber,
        help: "postgres, mysql, redis: the database, by name or number; default: none is chosen",
        set: |draft, value| draft.database = Some(value.word()),
    },
    Key {
        name: "query",
        kind: Kind::Text,
        help: "postgres, mysql, redis: a query that has to give at least one row; default: the \
               session alone is good",
        set: |draft, value| draft.query = Some(value.word()),
    },
    Key {
        name: "bind_dn",
        kind: Kind::Line,
        help: "ldap: who binds; default: nobody in particular",
        set: |draft, value| draft.bind_dn = Some(value.word()),
    },
    Key {
        name: "base_dn",
        kind: Kind::Line,
        help: "ldap: the entry that has to be there; default: that of the root",
        set: |draft, value| draft.base_dn = Some(value.word()),
    },
    Key {
        name: "filter",
        kind: Kind::Line,
        help: "ldap: a filter that the entry has to match; default: any entry is good",
        set: |draft, value| draft.filter = Some(value.word()),
    },
    Key {
        name: "service",
        kind: Kind::Line,
        help: "grpc: the service that is asked for; default: the server as a whole",
        set: |draft, value| draft.service = value.word(),
    },
];

/// TLS of a check, as it is read.
#[derive(Clone, Debug, Default)]
pub struct TlsDraft {
    pub(super) sni: Option<String>,
    pub(super) authorities: Option<String>,
    pub(super) certificate: Option<String>,
    pub(super) key: Option<String>,
    pub(super) password: Option<Secret>,
}

/// The keys of a check's `tls`.
pub const TLS_KEYS: &[Key<TlsDraft>] = &[
    Key {
        name: "sni",
        kind: Kind::Line,
        help: "what the server is asked for by name; default: https: the page's host, if that is a \
               name; else nothing",
        set: |draft, value| draft.sni = Some(value.word()),
    },
    Key {
        name: "authorities",
        kind: Kind::Text,
        help: "file with the authorities that the server's certificate has to come from; \
               default: any certificate is taken",
        set: |draft, value| draft.authorities = Some(value.word()),
    },
    Key {
        name: "certificate",
        kind: Kind::Text,
        help: "file with a certificate to show; default: none",
        set: |draft, value| draft.certificate = Some(value.word()),
    },
    Key {
        name: "key",
        kind: Kind::Text,
        help: "file with the certificate's key; default: none",
        set: |draft, value| draft.key = Some(value.word()),
    },
    Key {
        name: "password",
        kind: Kind::Secret,
        help: "password of the key; default: none",
        set: |draft, value| draft.password = Some(Secret(value.word())),
    },
];
