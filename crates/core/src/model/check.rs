//! Checks of real servers as the configuration has them.

use alloc::string::String;
use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};
use core::ops::RangeInclusive;
use core::time::Duration;

use super::Script;

/// A check. Two that are equal are run once, for all servers that have them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Check {
    /// What is tried.
    pub probe: Probe,
    /// When.
    pub timing: Timing,
    /// The server counts as dead until the first success.
    pub starts_down: bool,
    /// Every failure is logged, not only the first and the last try.
    pub log_all_failures: bool,
    /// While it fails the server's weight changes by this, in place of the server's dying.
    pub weight: Option<i32>,
}

/// When a check is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Timing {
    /// From one run to the next.
    pub interval: Duration,
    /// The first run comes after a random part of this.
    pub warmup: Duration,
    /// How many more failures it takes after the first.
    pub retries: u32,
    /// From a failure to the next try.
    pub retry_interval: Duration,
}

/// Where and how a check connects.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Connect {
    /// To where.
    pub to: SocketAddr,
    /// From which address.
    pub from: Option<IpAddr>,
    /// From which port; 0: any.
    pub from_port: u16,
    /// By which interface.
    pub interface: Option<String>,
    /// Firewall mark of its packets; 0: none.
    pub mark: u32,
    /// How long connecting, and each later answer, may take.
    pub timeout: Duration,
}

impl Connect {
    /// To there, within so long, and nothing else.
    #[must_use]
    pub const fn to(to: SocketAddr, timeout: Duration) -> Self {
        Self {
            to,
            from: None,
            from_port: 0,
            interface: None,
            mark: 0,
            timeout,
        }
    }
}

/// What a check tries.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Probe {
    /// A TCP connection.
    Tcp(Connect),
    /// Pages by HTTP, with or without TLS.
    Http(HttpProbe),
    /// An SMTP dialogue with each of these hosts.
    Smtp {
        /// The hosts, not empty.
        hosts: Vec<Connect>,
        /// Name in the greeting.
        helo: String,
    },
    /// A DNS query by UDP.
    Dns {
        /// The name server.
        connect: Connect,
        /// Type of the record.
        record: DnsRecord,
        /// Its name; empty: the root.
        name: String,
    },
    /// A program's exit status.
    Script {
        /// The program.
        script: Script,
        /// When it is killed, with all its children.
        timeout: Duration,
        /// Statuses from 2 on set the weight to status - 2.
        dynamic: bool,
    },
    /// An ICMP echo request.
    Ping(Connect),
    /// A UDP datagram.
    Udp(UdpProbe),
    /// A number in a file: other than 0 is failure, or changes the weight.
    File {
        /// The file's name in the configuration.
        name: String,
        /// Its path.
        path: String,
        /// The number is multiplied by this and added to the server's weight; 0: the number
        /// says life (0) or death.
        weight: i32,
    },
    /// `PostgreSQL`'s start of a session, and a query.
    Postgres(DatabaseProbe),
    /// `MySQL`'s start of a session, and a query.
    Mysql(DatabaseProbe),
    /// `PING` to Redis.
    Redis(DatabaseProbe),
    /// An LDAP bind and search.
    Ldap(LdapProbe),
    /// gRPC's health service.
    Grpc {
        /// Where.
        connect: Connect,
        /// With TLS.
        tls: Option<Tls>,
        /// The service that is asked for; empty: the server as a whole.
        service: String,
    },
}

/// Pages that have to come as expected, one after the other on connections of their own.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HttpProbe {
    /// Where.
    pub connect: Connect,
    /// With TLS.
    pub tls: Option<Tls>,
    /// Which version the request says.
    pub version: HttpVersion,
    /// The pages, not empty.
    pub pages: Vec<Page>,
    /// After a failure, a success counts for the pages before it as well.
    pub fast_recovery: bool,
}

/// What an HTTP request says of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum HttpVersion {
    /// HTTP/1.0.
    #[default]
    V1_0,
    /// HTTP/1.0 with `Connection: close`.
    V1_0Close,
    /// HTTP/1.1 with `Connection: close`.
    V1_1,
}

/// TLS for a check.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Tls {
    /// What the server is asked for by name; none: nothing.
    pub sni: Option<String>,
    /// File with the authorities that the server's certificate has to come from; none: any
    /// certificate is taken.
    pub authorities: Option<String>,
    /// File with our certificate.
    pub certificate: Option<String>,
    /// File with its key.
    pub key: Option<String>,
    /// Password of the key.
    pub password: Option<Secret>,
}

/// A text that is never shown.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Secret(pub String);

impl core::fmt::Debug for Secret {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// A page and what is expected of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Page {
    /// Path with query, as it stands in the request.
    pub path: String,
    /// `Host` header; none: the server's address and port.
    pub host: Option<String>,
    /// Statuses that are good; empty: 200 to 299.
    pub statuses: Vec<RangeInclusive<u16>>,
    /// MD5 of the body.
    pub digest: Option<[u8; 16]>,
    /// What it has to match.
    pub regex: Option<PageRegex>,
    /// Headers that the answer has to have.
    pub headers: Vec<HeaderDemand>,
    /// What the body has to have, as JSON.
    pub json: Vec<JsonDemand>,
}

/// A header that is expected.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HeaderDemand {
    /// Its name, in letters of any size.
    pub name: String,
    /// Its value, without blanks around it; none: any.
    pub value: Option<String>,
}

/// A value that is expected in a body.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct JsonDemand {
    /// Where (RFC 6901), such as `/status`.
    pub pointer: String,
    /// What: a string's text, or how JSON writes the value.
    pub value: String,
}

/// A regular expression for an answer, header and body, or for its body alone: one of them has
/// to match. Without a body none does.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PageRegex {
    /// The expression, as Perl writes it.
    pub pattern: String,
    /// Options by their keepalived names (`caseless`, `multiline`, `dotall` …).
    pub options: Vec<String>,
    /// True: neither may match.
    pub absent: bool,
    /// Bytes of the answer before which no match may begin.
    pub min_offset: usize,
    /// Bytes of the answer from which on no match may begin; 0: no limit.
    pub max_offset: usize,
}

/// Types of DNS records that can be asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum DnsRecord {
    /// Address.
    A,
    /// Name server.
    Ns,
    /// Alias.
    Cname,
    /// Start of a zone.
    #[default]
    Soa,
    /// Mail exchanger.
    Mx,
    /// Text.
    Txt,
    /// IPv6 address.
    Aaaa,
    /// Signature.
    Rrsig,
    /// Key.
    Dnskey,
}

impl DnsRecord {
    /// All of them, with their names and numbers (RFC 1035, 3596, 4034).
    pub const ALL: &[(Self, &str, u16)] = &[
        (Self::A, "A", 1),
        (Self::Ns, "NS", 2),
        (Self::Cname, "CNAME", 5),
        (Self::Soa, "SOA", 6),
        (Self::Mx, "MX", 15),
        (Self::Txt, "TXT", 16),
        (Self::Aaaa, "AAAA", 28),
        (Self::Rrsig, "RRSIG", 46),
        (Self::Dnskey, "DNSKEY", 48),
    ];
}

/// A datagram, and what may come back.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct UdpProbe {
    /// Where.
    pub connect: Connect,
    /// What is sent; none: 32 bytes that keepalived sends then.
    pub payload: Option<Vec<u8>>,
    /// A reply has to come; none: only that no ICMP error comes.
    pub reply: Option<UdpReply>,
}

/// A reply that is expected.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct UdpReply {
    /// Its first bytes with a mask each: those bits that are 1 there have to be equal.
    pub start: Vec<(u8, u8)>,
    /// Least length in bytes.
    pub min_length: u16,
    /// Greatest length in bytes.
    pub max_length: u16,
}

/// A session with a database.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct DatabaseProbe {
    /// Where.
    pub connect: Connect,
    /// With TLS.
    pub tls: Option<Tls>,
    /// User; none: as the database's own clients choose.
    pub user: Option<String>,
    /// Password.
    pub password: Option<Secret>,
    /// Database by name or number.
    pub database: Option<String>,
    /// A query that has to give at least one row; none: the session alone.
    pub query: Option<String>,
}

impl DatabaseProbe {
    /// A session there, as nobody in particular, and nothing else.
    #[must_use]
    pub const fn session(connect: Connect) -> Self {
        Self {
            connect,
            tls: None,
            user: None,
            password: None,
            database: None,
            query: None,
        }
    }
}

/// A bind, and a search of the entry at the base.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LdapProbe {
    /// Where.
    pub connect: Connect,
    /// With TLS from the start.
    pub tls: Option<Tls>,
    /// Who binds; none: nobody in particular.
    pub bind: Option<String>,
    /// Password.
    pub password: Option<Secret>,
    /// The entry that has to be there; none: that of the root.
    pub base: Option<String>,
    /// Filter that it has to match; none: any.
    pub filter: Option<String>,
}
