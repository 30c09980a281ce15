//! `GET /v1/trace`: what would become of a packet, without sending one.

use core::net::{IpAddr, SocketAddr};

use evenkeel_core::model::Protocol;
use serde::{Deserialize, Serialize};

use crate::{escape, keys};

/// Port of the client where none is given: the first of those that clients take.
pub const CLIENT_PORT: u16 = 49_152;

/// The packet that is asked about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    /// Who sends it.
    pub source: SocketAddr,
    /// To whom; of the same family.
    pub destination: SocketAddr,
    /// Protocol.
    pub protocol: Protocol,
    /// Firewall mark; 0: none.
    pub mark: u32,
    /// TCP's flags. SCTP: with SYN an INIT, else DATA.
    pub flags: u8,
    /// The interface that it comes by; none: that by which its sender is reached.
    pub interface: Option<String>,
}

/// Flags of TCP by their names, lowest bit first.
const FLAGS: [&str; 8] = ["fin", "syn", "rst", "psh", "ack", "urg", "ece", "cwr"];

/// Reads flags of TCP, such as `syn,ack`; `none` for none.
///
/// # Errors
/// What is wrong with them, for who wrote them.
pub fn flags(text: &str) -> Result<u8, String> {
    if text == "none" {
        return Ok(0);
    }
    text.split(',').try_fold(0, |flags, name| {
        let bit = FLAGS.iter().position(|known| *known == name);
        bit.map(|bit| flags | 1 << bit).ok_or_else(|| {
            format!(
                "{name:?} is no flag of TCP; there are {} and none",
                FLAGS.join(", ")
            )
        })
    })
}

/// Writes flags of TCP, as [`flags`] reads them.
#[must_use]
pub fn flags_text(flags: u8) -> String {
    if flags == 0 {
        return "none".into();
    }
    let set = FLAGS.iter().enumerate();
    let set = set.filter(|(bit, _)| flags >> bit & 1 != 0);
    let names: Vec<&str> = set.map(|(_, name)| *name).collect();
    names.join(",")
}

/// Reads the sender of a packet: an address, or an address and a port.
///
/// # Errors
/// What is wrong with it, for who wrote it.
pub fn source(text: &str) -> Result<SocketAddr, String> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok((address, CLIENT_PORT).into());
    }
    text.parse().map_err(|_| {
        format!("{text:?} is no sender; the forms are 10.0.0.1, 10.0.0.1:1234 and [fd00::1]:1234")
    })
}

/// Reads the receiver of a packet: an address and a port.
///
/// # Errors
/// What is wrong with it, for who wrote it.
pub fn destination(text: &str) -> Result<SocketAddr, String> {
    text.parse()
        .map_err(|_| format!("{text:?} is no receiver; the forms are 10.0.0.1:80 and [fd00::1]:80"))
}

impl Query {
    /// The query of a URL, without the question mark.
    #[must_use]
    pub fn to_text(&self) -> String {
        let parts = [
            ("source", Some(self.source.to_string())),
            ("destination", Some(self.destination.to_string())),
            ("protocol", Some(keys::protocol_text(self.protocol).into())),
            ("mark", Some(self.mark.to_string())),
            ("flags", Some(flags_text(self.flags))),
            ("interface", self.interface.clone()),
        ];
        let mut text = String::new();
        for (name, value) in parts {
            let Some(value) = value else { continue };
            if !text.is_empty() {
                text.push('&');
            }
            text.push_str(name);
            text.push('=');
            escape::escape(&mut text, &value);
        }
        text
    }

    /// Reads the query of a URL.
    ///
    /// # Errors
    /// What is wrong with it, for who wrote it.
    pub fn from_text(text: &str) -> Result<Self, String> {
        let (mut from, mut to) = (None, None);
        let mut protocol = Protocol::Tcp;
        let mut mark = 0;
        let mut set = None;
        let mut interface = None;
        for part in text.split('&').filter(|part| !part.is_empty()) {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            let value = escape::unescape(value)
                .ok_or_else(|| format!("{part:?} is not escaped as URLs are"))?;
            match name {
                "source" => from = Some(source(&value)?),
                "destination" => to = Some(destination(&value)?),
                "protocol" => {
                    protocol = keys::protocol(&value)
                        .ok_or_else(|| format!("a protocol is tcp, udp or sctp, not {value:?}"))?;
                }
                "mark" => {
                    mark = value
                        .parse()
                        .map_err(|_| format!("mark is a number, not {value:?}"))?;
                }
                "flags" => set = Some(flags(&value)?),
                "interface" => interface = Some(value),
                _ => {
                    return Err(format!(
                        "{name:?} is nothing to ask with; there are source, destination, \
                         protocol, mark, flags and interface"
                    ));
                }
            }
        }
        let source = from.ok_or("a source is needed")?;
        let destination = to.ok_or("a destination is needed")?;
        if source.is_ipv4() != destination.is_ipv4() {
            return Err(format!(
                "{source} and {destination} are not of the same family"
            ));
        }
        Ok(Self {
            source,
            destination,
            protocol,
            mark,
            flags: set.unwrap_or(1 << 1),
            interface,
        })
    }
}

/// What would become of a packet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trace {
    /// The packet.
    pub before: Packet,
    /// Its firewall mark; 0: none.
    pub mark: u32,
    /// The interface that it comes by; none: its sender is reached by none.
    pub interface: Option<String>,
    /// Evenkeel is attached to that interface. Where it is not, no packet of it is seen.
    pub attached: bool,
    /// Where it is decided.
    pub stage: Stage,
    /// The service that it is for, if it is a client's.
    pub service: Option<Service>,
    /// True: it comes from a server.
    pub from_server: bool,
    /// State of its connection before the packet; none: there is none.
    pub known: Option<Connection>,
    /// And afterwards.
    pub connection: Option<Connection>,
    /// What persistence says.
    pub template: Option<Template>,
    /// What the scheduler says, where it is asked.
    pub schedule: Option<Schedule>,
    /// The server that it goes to or comes from.
    pub server: Option<Server>,
    /// What becomes of it.
    pub outcome: Outcome,
    /// By which way it leaves.
    pub way: Option<Way>,
    /// The packet as it leaves.
    pub after: Option<Packet>,
    /// What it is counted by, beside its server's counters.
    pub counted: Vec<Counted>,
}

/// A packet as it is shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Packet {
    /// Name of the protocol.
    pub protocol: String,
    /// Sender; port 0 without ports.
    pub source: SocketAddr,
    /// Receiver; port 0 without ports.
    pub destination: SocketAddr,
    /// Flags of TCP, chunk of SCTP, message of ICMP.
    pub detail: Option<String>,
    /// Time to live, or hop limit.
    pub ttl: u8,
    /// Bytes, from the IP header on.
    pub length: u32,
    /// The header in front of it, in a tunnel.
    pub outer: Option<Outer>,
}

/// The outer header of a packet in a tunnel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outer {
    /// `ipip`, `gre` or `gue`.
    pub kind: String,
    /// The tunnel's beginning.
    pub source: IpAddr,
    /// Its end.
    pub destination: IpAddr,
    /// UDP port of its end.
    pub port: Option<u16>,
    /// Time to live, or hop limit.
    pub ttl: u8,
    /// Bytes of the whole.
    pub length: u32,
}

/// Where a packet is decided about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// In the network card's driver.
    Xdp,
    /// At the kernel's ingress.
    Tc,
}

/// A service and how it was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// Its name, as [`keys::service_text`] writes it.
    pub name: String,
    /// How it was found.
    pub by: FoundBy,
    /// Seconds that clients stay with their server.
    pub persistent_s: Option<u32>,
    /// Every packet is scheduled for itself.
    pub one_packet: bool,
}

/// How a service was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FoundBy {
    /// By the firewall mark.
    Mark,
    /// By address and port.
    Port,
    /// By address, as data of FTP.
    FtpData,
    /// By address: it takes all ports that no other service has.
    AnyPort,
}

/// A connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connection {
    /// Its state.
    pub state: String,
    /// Its server.
    pub server: String,
}

/// What a template of persistence says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Template {
    /// The server that the client stays with.
    pub server: String,
    /// True: it is made for this packet.
    pub is_new: bool,
}

/// What a scheduler says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schedule {
    /// The scheduler.
    pub scheduler: String,
    /// It hashes the client's port, too.
    pub hashes_port: bool,
    /// The server; none takes connections.
    pub server: Option<String>,
    /// The slot of its table or ring where the server stands, counted from 0.
    pub slot: Option<u32>,
    /// How many slots there are.
    pub slots: Option<u32>,
    /// Slots that were passed over, because their servers take no connections.
    pub passed_over: Vec<u32>,
    /// All servers of the service, and what it saw of each.
    pub candidates: Vec<Candidate>,
}

/// A server in the eyes of a scheduler.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Candidate {
    /// Address and port.
    pub name: String,
    /// Weight; 0: it takes no new connections.
    pub weight: u32,
    /// Connections in an active state.
    pub active: u32,
    /// Other connections.
    pub inactive: u32,
    /// It has reached its upper threshold and takes no new connections until it has fallen
    /// below the lower one.
    pub is_full: bool,
    /// How many slots of the table or ring are its.
    pub slots: Option<u32>,
    /// Schedulers that compare: dividend and divisor of what is compared. The least is
    /// chosen; none: it is not to be chosen.
    pub compared: Option<(u64, u64)>,
}

/// A server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Server {
    /// Address and port.
    pub name: String,
    /// Forwarding method.
    pub method: String,
    /// Weight.
    pub weight: u32,
    /// Connections in an active state, without this packet's.
    pub active: u32,
    /// Other connections, without this packet's.
    pub inactive: u32,
    /// It is the director itself.
    pub is_local: bool,
    /// It was deleted.
    pub is_deleted: bool,
}

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It is sent.
    Sent,
    /// It is sent when the kernel has found its neighbour.
    Resolved,
    /// It is answered with an ICMP error.
    Answered,
    /// It goes to this host, whose address the server has.
    Delivered,
    /// It goes to the kernel as it was.
    Passed,
    /// It is dropped.
    Dropped,
}

/// By which way a packet leaves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Way {
    /// The interface.
    pub interface: String,
    /// MAC address that it goes to; none: not known yet.
    pub to: Option<String>,
}

/// A reason to count by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counted {
    /// Its name, as in [`crate::Status::reasons`].
    pub name: String,
    /// What it means.
    pub meaning: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_read_as_they_are_written() {
        for text in ["none", "syn", "syn,ack", "fin,syn,rst,psh,ack,urg,ece,cwr"] {
            assert_eq!(flags(text).map(flags_text).as_deref(), Ok(text));
        }
        for wrong in ["", "SYN", "syn,", "syn ack"] {
            let error = flags(wrong).unwrap_err();
            assert!(error.contains("is no flag of TCP"), "{error}");
        }
    }

    #[test]
    fn queries_are_read_as_they_are_written() {
        let query = Query {
            source: "[fd00::2]:1".parse().unwrap(),
            destination: "[fd00::1]:80".parse().unwrap(),
            protocol: Protocol::Sctp,
            mark: u32::MAX,
            flags: 0x12,
            interface: Some("a b&c".into()),
        };
        assert_eq!(Query::from_text(&query.to_text()), Ok(query));
        let short = Query::from_text("source=10.0.0.2&destination=10.0.0.1:80").unwrap();
        assert_eq!(short.source.port(), CLIENT_PORT);
        assert_eq!((short.protocol, short.flags), (Protocol::Tcp, 2));
        for (wrong, part) in [
            ("", "a source is needed"),
            ("source=10.0.0.2", "a destination is needed"),
            ("source=x", "is no sender"),
            ("destination=10.0.0.1", "is no receiver"),
            (
                "source=10.0.0.2&destination=[fd00::1]:80",
                "the same family",
            ),
            ("protocol=icmp", "tcp, udp or sctp"),
            ("mark=-1", "mark is a number"),
            ("flags=x", "no flag of TCP"),
            ("ttl=1", "nothing to ask with"),
            ("source=%f", "not escaped"),
        ] {
            let error = Query::from_text(wrong).unwrap_err();
            assert!(error.contains(part), "{wrong}: {error}");
        }
    }
}
