//! A frame taken apart, and every checksum in it looked at: of IPv4, TCP, UDP and
//! ICMP, of GRE and of generic UDP encapsulation (GUE), and of what these carry.

use std::fmt;

use anyhow::{Context, Result, bail, ensure};

/// Length of an Ethernet header.
pub const ETHERNET: usize = 14;
const IPV4: usize = 20;
const IPV6: usize = 40;
/// How many headers of IPv6 extensions and tunnels may follow one another.
const DEPTH: usize = 8;

/// Protocol numbers of IP.
mod protocol {
    pub(super) const HOP_BY_HOP: u8 = 0;
    pub(super) const ICMP: u8 = 1;
    pub(super) const IPV4: u8 = 4;
    pub(super) const TCP: u8 = 6;
    pub(super) const UDP: u8 = 17;
    pub(super) const IPV6: u8 = 41;
    pub(super) const GRE: u8 = 47;
    pub(super) const ICMPV6: u8 = 58;
}

/// Types of frames.
mod ethertype {
    pub(super) const IPV4: u16 = 0x0800;
    pub(super) const IPV6: u16 = 0x86dd;
}

/// A header, or what stands where one was expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Layer {
    /// IPv4.
    Ipv4,
    /// IPv6.
    Ipv6,
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// UDP without a checksum.
    BareUdp,
    /// ICMP.
    Icmp,
    /// ICMP of IPv6.
    Icmpv6,
    /// GRE.
    Gre,
    /// GRE without a checksum.
    BareGre,
    /// Generic UDP encapsulation.
    Gue,
    /// A part of a packet; there is nothing in it to check.
    Fragment,
    /// A protocol that is not looked into.
    Other(u8),
}

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ipv4 => "IPv4",
            Self::Ipv6 => "IPv6",
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
            Self::BareUdp => "bare UDP",
            Self::Icmp => "ICMP",
            Self::Icmpv6 => "ICMPv6",
            Self::Gre => "GRE",
            Self::BareGre => "bare GRE",
            Self::Gue => "GUE",
            Self::Fragment => "fragment",
            Self::Other(_) => "other",
        })
    }
}

/// The headers of a frame, from the outside in; none where it is not IP. Datagrams to
/// `gue_port` are tunnels.
///
/// An error names the first checksum or length that is wrong.
pub fn check(frame: &[u8], gue_port: u16) -> Result<Vec<Layer>> {
    let mut dissection = Dissection {
        layers: Vec::new(),
        gue_port,
    };
    let kind = word(frame, 12).context("no Ethernet header")?;
    let checked = match kind {
        ethertype::IPV4 | ethertype::IPV6 => dissection.ip(&frame[ETHERNET..]),
        _ => Ok(()),
    };
    checked.with_context(|| format!("behind {:?} of {frame:02x?}", dissection.layers))?;
    Ok(dissection.layers)
}

/// Fills in the checksum of a packet's TCP or UDP where the sender has left it to
/// hardware: then it is the sum of the pseudo header.
pub fn complete(packet: &mut [u8]) {
    let Ok(found) = Ip::parse(packet) else { return };
    let place = match found.protocol {
        protocol::TCP => 16,
        protocol::UDP => 6,
        _ => return,
    };
    let start = found.header;
    let (pseudo, end) = (found.pseudo(), start + found.length);
    let Some(present) = word(packet, start + place) else {
        return;
    };
    if present != fold(pseudo) {
        return;
    }
    let checksum = match !fold(sum(&packet[start..end])) {
        0 if found.protocol == protocol::UDP => 0xffff,
        checksum => checksum,
    };
    packet[start + place..start + place + 2].copy_from_slice(&checksum.to_be_bytes());
}

/// The length of an IPv4 packet's header, as it says itself.
#[must_use]
pub fn ipv4_header(packet: &[u8]) -> usize {
    packet.first().map_or(0, |byte| usize::from(byte & 0xf) * 4)
}

/// Where the packet in a GRE packet begins: after its checksum, if it has one.
#[must_use]
pub fn behind_gre(packet: &[u8]) -> usize {
    if packet.first().is_some_and(|flags| flags & 0x80 != 0) {
        8
    } else {
        4
    }
}

/// Where the packet behind the header of GUE begins, and in `packet` that header.
#[must_use]
pub fn behind_gue(packet: &[u8]) -> usize {
    4 + packet
        .first()
        .map_or(0, |byte| usize::from(byte & 0x1f) * 4)
}

/// The 16 bits at an offset.
fn word(bytes: &[u8], offset: usize) -> Option<u16> {
    let pair = bytes.get(offset..offset + 2)?;
    Some(u16::from_be_bytes([pair[0], pair[1]]))
}

/// The sum of 16-bit words, the last one filled with zero (RFC 1071).
fn sum(bytes: &[u8]) -> u64 {
    let mut words = bytes.chunks_exact(2);
    let whole: u64 = words
        .by_ref()
        .map(|pair| u64::from(u16::from_be_bytes([pair[0], pair[1]])))
        .sum();
    whole
        + words
            .remainder()
            .first()
            .map_or(0, |last| u64::from(*last) << 8)
}

fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    sum as u16
}

/// A checksum that is part of what `total` is the sum of.
fn expect_right(total: u64, what: &str) -> Result<()> {
    let rest = fold(total);
    ensure!(rest == 0xffff, "wrong checksum of {what}: sum {rest:#06x}");
    Ok(())
}

/// The outermost IP header of a packet.
struct Ip {
    is_ipv6: bool,
    protocol: u8,
    /// Where what it carries begins, and how long that is.
    header: usize,
    length: usize,
    is_fragment: bool,
    /// The addresses' sum.
    addresses: u64,
}

impl Ip {
    fn parse(packet: &[u8]) -> Result<Self> {
        match packet.first().map(|byte| byte >> 4) {
            Some(4) => Self::parse_ipv4(packet),
            Some(6) => Self::parse_ipv6(packet),
            version => bail!("IP of version {version:?}"),
        }
    }

    fn parse_ipv4(packet: &[u8]) -> Result<Self> {
        let header = ipv4_header(packet);
        ensure!(
            header >= IPV4 && packet.len() >= header,
            "an IPv4 header of {header} bytes"
        );
        let total = usize::from(word(packet, 2).unwrap_or(0));
        ensure!(
            total >= header && total <= packet.len(),
            "IPv4 says {total} bytes, there are {}",
            packet.len()
        );
        Ok(Self {
            is_ipv6: false,
            protocol: packet[9],
            header,
            length: total - header,
            is_fragment: word(packet, 6).unwrap_or(0) & 0x3fff != 0,
            addresses: sum(&packet[12..IPV4]),
        })
    }

    fn parse_ipv6(packet: &[u8]) -> Result<Self> {
        ensure!(packet.len() >= IPV6, "an IPv6 header that is cut off");
        let length = usize::from(word(packet, 4).unwrap_or(0));
        ensure!(
            IPV6 + length <= packet.len(),
            "IPv6 says {length} bytes, there are {}",
            packet.len() - IPV6
        );
        let mut found = Self {
            is_ipv6: true,
            protocol: packet[6],
            header: IPV6,
            length,
            is_fragment: false,
            addresses: sum(&packet[8..IPV6]),
        };
        // As neighbour and multicast discovery have it.
        if found.protocol == protocol::HOP_BY_HOP && length >= 8 {
            let skipped = (usize::from(packet[IPV6 + 1]) + 1) * 8;
            ensure!(skipped <= length, "an extension header of {skipped} bytes");
            found.protocol = packet[IPV6];
            found.header += skipped;
            found.length -= skipped;
        }
        Ok(found)
    }

    /// Sum of the pseudo header (RFC 9293, 3.1; RFC 8200, 8.1).
    fn pseudo(&self) -> u64 {
        self.addresses + self.length as u64 + u64::from(self.protocol)
    }
}

/// A frame while it is taken apart.
struct Dissection {
    layers: Vec<Layer>,
    gue_port: u16,
}

impl Dissection {
    fn ip(&mut self, packet: &[u8]) -> Result<()> {
        ensure!(self.layers.len() < DEPTH, "too many headers");
        let found = Ip::parse(packet)?;
        self.layers.push(if found.is_ipv6 {
            Layer::Ipv6
        } else {
            Layer::Ipv4
        });
        let end = found.header + found.length;
        // Virtual cables fill nothing up.
        ensure!(
            end == packet.len(),
            "{} bytes behind the packet",
            packet.len() - end
        );
        if !found.is_ipv6 {
            expect_right(sum(&packet[..found.header]), "IPv4")?;
        }
        if found.is_fragment {
            self.layers.push(Layer::Fragment);
            return Ok(());
        }
        self.carried(&found, &packet[found.header..])
    }

    fn carried(&mut self, ip: &Ip, bytes: &[u8]) -> Result<()> {
        match ip.protocol {
            protocol::TCP => {
                self.layers.push(Layer::Tcp);
                ensure!(bytes.len() >= 20, "a TCP header that is cut off");
                expect_right(ip.pseudo() + sum(bytes), "TCP")
            }
            protocol::UDP => self.udp(ip, bytes),
            protocol::ICMP => {
                self.layers.push(Layer::Icmp);
                expect_right(sum(bytes), "ICMP")
            }
            protocol::ICMPV6 => {
                self.layers.push(Layer::Icmpv6);
                expect_right(ip.pseudo() + sum(bytes), "ICMPv6")
            }
            protocol::IPV4 | protocol::IPV6 => self.tunnelled(ip.protocol, bytes),
            protocol::GRE => self.gre(bytes),
            other => {
                self.layers.push(Layer::Other(other));
                Ok(())
            }
        }
    }

    /// A packet in a tunnel whose version was told outside.
    fn tunnelled(&mut self, told: u8, packet: &[u8]) -> Result<()> {
        let version = packet.first().map_or(0, |byte| byte >> 4);
        let is_right = matches!((told, version), (protocol::IPV4, 4) | (protocol::IPV6, 6));
        ensure!(is_right, "protocol {told} carries IP of version {version}");
        self.ip(packet)
    }

    fn udp(&mut self, ip: &Ip, bytes: &[u8]) -> Result<()> {
        let (Some(port), Some(length), Some(checksum)) =
            (word(bytes, 2), word(bytes, 4), word(bytes, 6))
        else {
            bail!("a UDP header that is cut off");
        };
        ensure!(
            usize::from(length) == bytes.len(),
            "UDP says {length} bytes, there are {}",
            bytes.len()
        );
        let is_tunnel = port == self.gue_port;
        if checksum == 0 {
            self.layers.push(Layer::BareUdp);
            // RFC 8200, 8.1; the exception is that of RFC 6935.
            ensure!(!ip.is_ipv6 || is_tunnel, "IPv6 with bare UDP");
        } else {
            self.layers.push(Layer::Udp);
            expect_right(ip.pseudo() + sum(bytes), "UDP")?;
        }
        if !is_tunnel {
            return Ok(());
        }
        self.layers.push(Layer::Gue);
        let gue = &bytes[8..];
        ensure!(gue.len() >= 4, "a header of GUE that is cut off");
        ensure!(
            gue[0] == 0 && gue[2..4] == [0, 0],
            "GUE of another version, or with options: {:02x?}",
            &gue[..4]
        );
        self.tunnelled(gue[1], &gue[behind_gue(gue)..])
    }

    fn gre(&mut self, bytes: &[u8]) -> Result<()> {
        let (Some(flags), Some(kind)) = (word(bytes, 0), word(bytes, 2)) else {
            bail!("a header of GRE that is cut off");
        };
        ensure!(
            matches!(flags, 0 | 0x8000) && bytes.len() >= behind_gre(bytes),
            "GRE with flags {flags:#06x}"
        );
        if flags == 0 {
            self.layers.push(Layer::BareGre);
        } else {
            self.layers.push(Layer::Gre);
            expect_right(sum(bytes), "GRE")?;
        }
        let told = match kind {
            ethertype::IPV4 => protocol::IPV4,
            ethertype::IPV6 => protocol::IPV6,
            other => bail!("GRE that carries {other:#06x}"),
        };
        self.tunnelled(told, &bytes[behind_gre(bytes)..])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PORT: u16 = 6080;

    /// Writes the checksum at `place` that makes `bytes` with `more` sum up to nothing.
    fn seal(bytes: &mut [u8], place: usize, more: u64) {
        bytes[place..place + 2].fill(0);
        let checksum = !fold(more + sum(bytes));
        bytes[place..place + 2].copy_from_slice(&checksum.to_be_bytes());
    }

    fn ipv4(protocol: u8, carried: &[u8]) -> Vec<u8> {
        let mut packet = vec![0x45, 0, 0, 0, 0, 1, 0x40, 0, 64, protocol, 0, 0];
        packet.extend([10, 0, 0, 1, 10, 0, 0, 2]);
        let total = (IPV4 + carried.len()) as u16;
        packet[2..4].copy_from_slice(&total.to_be_bytes());
        seal(&mut packet, 10, 0);
        packet.extend(carried);
        packet
    }

    fn ipv6(protocol: u8, carried: &[u8]) -> Vec<u8> {
        let mut packet = vec![0x60, 0, 0, 0, 0, 0, protocol, 64];
        packet[4..6].copy_from_slice(&(carried.len() as u16).to_be_bytes());
        packet.extend((0..32).map(|byte| byte * 7));
        packet.extend(carried);
        packet
    }

    /// A datagram, for `pseudo` of its packet; not sealed: its checksum is nothing.
    fn udp(port: u16, payload: &[u8], pseudo: Option<u64>) -> Vec<u8> {
        let length = (8 + payload.len()) as u16;
        let mut bytes: Vec<u8> = [1024, port, length, 0]
            .into_iter()
            .flat_map(u16::to_be_bytes)
            .collect();
        bytes.extend(payload);
        if let Some(addresses) = pseudo {
            let more = addresses + u64::from(length) + u64::from(protocol::UDP);
            seal(&mut bytes, 6, more);
        }
        bytes
    }

    fn framed(kind: u16, packet: &[u8]) -> Vec<u8> {
        let mut frame = vec![2; 12];
        frame.extend(kind.to_be_bytes());
        frame.extend(packet);
        frame
    }

    /// Sum of the addresses that `ipv4` and `ipv6` write.
    fn addresses(is_ipv6: bool) -> u64 {
        if is_ipv6 {
            sum(&ipv6(0, &[])[8..])
        } else {
            sum(&ipv4(0, &[])[12..])
        }
    }

    #[test]
    fn tunnels_are_followed_and_each_byte_counts() -> Result<()> {
        use Layer::{Gre, Gue, Ipv4, Ipv6, Udp};
        /// Traffic class, flow label and hop limit of IPv6, which only a tunnel's checksum
        /// covers.
        const UNCOVERED: [usize; 4] = [1, 2, 3, 7];
        let inner = ipv6(protocol::UDP, &udp(53, b"hello", Some(addresses(true))));
        let mut gre = vec![0x80, 0, 0x86, 0xdd, 0, 0, 0, 0];
        gre.extend(&inner);
        seal(&mut gre, 4, 0);
        let mut gue = vec![0, protocol::IPV6, 0, 0];
        gue.extend(&inner);
        let gue = udp(PORT, &gue, Some(addresses(false)));
        for (packet, uncovered_from, layers) in [
            (inner.clone(), Some(0), vec![Ipv6, Udp]),
            (
                ipv4(protocol::IPV6, &inner),
                Some(IPV4),
                vec![Ipv4, Ipv6, Udp],
            ),
            (ipv4(protocol::GRE, &gre), None, vec![Ipv4, Gre, Ipv6, Udp]),
            (
                ipv4(protocol::UDP, &gue),
                None,
                vec![Ipv4, Udp, Gue, Ipv6, Udp],
            ),
        ] {
            let kind = if packet[0] >> 4 == 4 { 0x0800 } else { 0x86dd };
            assert_eq!(check(&framed(kind, &packet), PORT)?, layers);
            for place in 0..packet.len() {
                let is_uncovered = uncovered_from
                    .is_some_and(|from| UNCOVERED.map(|at| from + at).contains(&place));
                let mut wrong = packet.clone();
                wrong[place] ^= 0x10;
                assert_eq!(
                    check(&framed(kind, &wrong), PORT).is_ok(),
                    is_uncovered,
                    "{layers:?}: byte {place}"
                );
            }
        }
        Ok(())
    }

    #[test]
    fn datagrams_of_ipv6_have_checksums_outside_of_tunnels() -> Result<()> {
        let packet = ipv6(protocol::UDP, &udp(53, b"hello", None));
        assert!(check(&framed(0x86dd, &packet), PORT).is_err());
        let packet = ipv4(protocol::UDP, &udp(53, b"hello", None));
        let layers = check(&framed(0x0800, &packet), PORT)?;
        assert_eq!(layers, [Layer::Ipv4, Layer::BareUdp]);
        let mut gue = vec![0, protocol::IPV4, 0, 0];
        gue.extend(&packet);
        let packet = ipv6(protocol::UDP, &udp(PORT, &gue, None));
        assert_eq!(check(&framed(0x86dd, &packet), PORT)?.len(), 5);
        Ok(())
    }

    #[test]
    fn what_is_left_to_hardware_is_completed_and_nothing_else() -> Result<()> {
        for is_ipv6 in [false, true] {
            let payload = b"odd";
            let mut datagram = udp(53, payload, None);
            let pseudo = addresses(is_ipv6) + datagram.len() as u64 + u64::from(protocol::UDP);
            datagram[6..8].copy_from_slice(&fold(pseudo).to_be_bytes());
            let (kind, mut packet) = if is_ipv6 {
                (0x86dd, ipv6(protocol::UDP, &datagram))
            } else {
                (0x0800, ipv4(protocol::UDP, &datagram))
            };
            assert!(check(&framed(kind, &packet), PORT).is_err());
            complete(&mut packet);
            check(&framed(kind, &packet), PORT)?;
            let last = packet.len() - 1;
            packet[last] ^= 1;
            complete(&mut packet);
            assert!(check(&framed(kind, &packet), PORT).is_err());
        }
        Ok(())
    }

    #[test]
    fn garbage_is_an_error_or_nobodys() {
        for length in 0..80 {
            for byte in [0, 0x45, 0x60, 0xff] {
                let mut frame = vec![byte; length];
                let _ = check(&frame, PORT);
                if let Some(kind) = frame.get_mut(12..14) {
                    kind.copy_from_slice(&[0x08, 0]);
                    let _ = check(&frame, PORT);
                }
                complete(&mut frame);
            }
        }
    }
}
