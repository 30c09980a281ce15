//! A frame as it is shown.

use std::net::{IpAddr, SocketAddr};

use evenkeel_api::trace::{Outer, Packet, flags_text};

const ICMP: u8 = 1;
const IPV4: u8 = 4;
const TCP: u8 = 6;
const UDP: u8 = 17;
const IPV6: u8 = 41;
const GRE: u8 = 47;
const ICMPV6: u8 = 58;
const SCTP: u8 = 132;
const ETHERNET: usize = 14;
/// Header of generic UDP encapsulation with Evenkeel's one option, behind UDP's.
const GUE: usize = 4;

/// The packet in a frame; nothing where there is none.
pub(super) fn packet(frame: &[u8]) -> Option<Packet> {
    let whole = Header::of(frame.get(ETHERNET..)?)?;
    let inner = match whole.protocol {
        IPV4 | IPV6 => Some(("ipip", None, whole.payload)),
        GRE => {
            let has_checksum = whole.payload.first()? & 0x80 != 0;
            let rest = whole.payload.get(if has_checksum { 8 } else { 4 }..)?;
            Some(("gre", None, rest))
        }
        UDP => inside_gue(whole.payload),
        _ => None,
    };
    let Some((kind, port, inner)) = inner else {
        return whole.view(None);
    };
    let outer = Outer {
        kind: kind.into(),
        source: whole.source,
        destination: whole.destination,
        port,
        ttl: whole.ttl,
        length: whole.length,
    };
    Header::of(inner)?.view(Some(outer))
}

/// What a datagram carries, if that is a packet: of the packets that are asked about none
/// carries anything.
fn inside_gue(datagram: &[u8]) -> Option<(&'static str, Option<u16>, &[u8])> {
    let port = u16::from_be_bytes([*datagram.get(2)?, *datagram.get(3)?]);
    let header = datagram.get(8..)?;
    // The header's length behind its first word, in words.
    let more = usize::from(header.first()? & 0x1f) * 4;
    Some(("gue", Some(port), header.get(GUE + more..)?))
}

/// An IP header and what it carries.
struct Header<'a> {
    source: IpAddr,
    destination: IpAddr,
    protocol: u8,
    ttl: u8,
    length: u32,
    payload: &'a [u8],
}

impl<'a> Header<'a> {
    fn of(packet: &'a [u8]) -> Option<Self> {
        let word = |at: usize| Some(u16::from_be_bytes([*packet.get(at)?, *packet.get(at + 1)?]));
        match packet.first()? >> 4 {
            4 => {
                let header = usize::from(packet[0] & 0xf) * 4;
                let length = word(2)?;
                let address = |at: usize| <[u8; 4]>::try_from(packet.get(at..at + 4)?).ok();
                Some(Self {
                    source: address(12)?.into(),
                    destination: address(16)?.into(),
                    protocol: *packet.get(9)?,
                    ttl: *packet.get(8)?,
                    length: length.into(),
                    payload: packet.get(header..length.into())?,
                })
            }
            6 => {
                let payload = usize::from(word(4)?);
                let address = |at: usize| <[u8; 16]>::try_from(packet.get(at..at + 16)?).ok();
                Some(Self {
                    source: address(8)?.into(),
                    destination: address(24)?.into(),
                    protocol: *packet.get(6)?,
                    ttl: *packet.get(7)?,
                    length: 40 + payload as u32,
                    payload: packet.get(40..40 + payload)?,
                })
            }
            _ => None,
        }
    }

    fn view(&self, outer: Option<Outer>) -> Option<Packet> {
        let (name, detail) = match self.protocol {
            TCP => ("tcp", Some(flags_text(*self.payload.get(13)?))),
            UDP => ("udp", None),
            SCTP => ("sctp", Some(chunk(*self.payload.get(12)?).into())),
            ICMP => ("icmp", Some(message(self.payload, false)?)),
            ICMPV6 => ("icmpv6", Some(message(self.payload, true)?)),
            _ => return None,
        };
        let port = |at: usize| match self.protocol {
            ICMP | ICMPV6 => Some(0),
            _ => {
                let bytes = self.payload.get(at..at + 2)?;
                Some(u16::from_be_bytes([bytes[0], bytes[1]]))
            }
        };
        Some(Packet {
            protocol: name.into(),
            source: SocketAddr::new(self.source, port(0)?),
            destination: SocketAddr::new(self.destination, port(2)?),
            detail,
            ttl: self.ttl,
            length: self.length,
            outer,
        })
    }
}

const fn chunk(kind: u8) -> &'static str {
    match kind {
        0 => "data",
        1 => "init",
        _ => "other",
    }
}

/// What an ICMP error says.
fn message(icmp: &[u8], is_ipv6: bool) -> Option<String> {
    let kind = *icmp.first()?;
    let code = *icmp.get(1)?;
    let mtu = u32::from_be_bytes(icmp.get(4..8)?.try_into().ok()?);
    Some(match (is_ipv6, kind, code) {
        (false, 3, 4) | (true, 2, _) => format!("too big, the most is {mtu} bytes"),
        (false, 3, _) | (true, 1, _) => "port unreachable".into(),
        (false, 11, _) | (true, 3, _) => "time exceeded".into(),
        _ => format!("type {kind}, code {code}"),
    })
}
