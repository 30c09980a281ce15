//! Packets of both families, whole and right, to be broken by whoever wants them so.

use std::net::IpAddr;

use evenkeel_datapath::crc;

/// Protocol numbers.
pub(crate) const ICMP: u8 = 1;
pub(crate) const TCP: u8 = 6;
pub(crate) const UDP: u8 = 17;
pub(crate) const ICMPV6: u8 = 58;
pub(crate) const SCTP: u8 = 132;
/// Port of generic UDP encapsulation, as the rules have it.
pub(crate) const GUE: u16 = 6080;

/// A small generator, so that a seed names a run.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) as u32
    }
    pub(crate) fn below(&mut self, limit: u32) -> u32 {
        self.next() % limit
    }
    pub(crate) fn one_in(&mut self, many: u32) -> bool {
        self.below(many) == 0
    }
    pub(crate) fn of<T: Copy>(&mut self, values: &[T]) -> T {
        values[self.below(values.len() as u32) as usize]
    }
}

/// Adds 16-bit words in network order.
pub(crate) fn sum(bytes: &[u8], start: u32) -> u32 {
    bytes.chunks(2).fold(start, |sum, pair| {
        sum + (u32::from(pair[0]) << 8) + u32::from(*pair.get(1).unwrap_or(&0))
    })
}

/// The checksum of a sum.
pub(crate) fn finish(mut sum: u32) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

fn bytes_of(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

/// Sum of a transport header, what it carries and the pseudo header.
pub(crate) fn transport_sum(
    source: IpAddr,
    destination: IpAddr,
    protocol: u8,
    payload: &[u8],
) -> u32 {
    let addresses = [bytes_of(source), bytes_of(destination)].concat();
    sum(
        payload,
        sum(&addresses, u32::from(protocol) + payload.len() as u32),
    )
}

/// The two ends of a packet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Flow {
    pub(crate) source: IpAddr,
    pub(crate) source_port: u16,
    pub(crate) destination: IpAddr,
    pub(crate) destination_port: u16,
}

impl Flow {
    fn ports(&self) -> [u8; 4] {
        let [a, b] = self.source_port.to_be_bytes();
        let [c, d] = self.destination_port.to_be_bytes();
        [a, b, c, d]
    }

    fn checksum(&self, protocol: u8, payload: &mut [u8], at: usize) {
        let sum = finish(transport_sum(
            self.source,
            self.destination,
            protocol,
            payload,
        ));
        let sum = if sum == 0 && protocol == UDP {
            0xffff
        } else {
            sum
        };
        payload[at..at + 2].copy_from_slice(&sum.to_be_bytes());
    }
}

/// What stands between the addresses and the transport header, in bytes: IPv4 options or
/// IPv6 extension headers, a multiple of 4 or of 8.
pub(crate) fn packet(flow: &Flow, protocol: u8, extra: usize, payload: &[u8]) -> Vec<u8> {
    match (flow.source, flow.destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let header = 20 + extra / 4 * 4;
            let mut packet = vec![0; header];
            packet[0] = 0x40 | (header / 4) as u8;
            packet[2..4].copy_from_slice(&((header + payload.len()) as u16).to_be_bytes());
            packet[4..6].copy_from_slice(&0x1234_u16.to_be_bytes());
            packet[8] = 64;
            packet[9] = protocol;
            packet[12..16].copy_from_slice(&source.octets());
            packet[16..20].copy_from_slice(&destination.octets());
            packet[20..].fill(1);
            let checksum = finish(sum(&packet, 0));
            packet[10..12].copy_from_slice(&checksum.to_be_bytes());
            packet.extend_from_slice(payload);
            packet
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let extra = extra / 8 * 8;
            let mut packet = vec![0; 40];
            packet[0] = 0x60;
            packet[4..6].copy_from_slice(&((extra + payload.len()) as u16).to_be_bytes());
            packet[6] = if extra == 0 { protocol } else { 0 };
            packet[7] = 64;
            packet[8..24].copy_from_slice(&source.octets());
            packet[24..40].copy_from_slice(&destination.octets());
            if extra > 0 {
                // A hop-by-hop header of padding.
                let mut header = vec![protocol, (extra / 8 - 1) as u8, 1, (extra - 4) as u8];
                header.resize(extra, 0);
                packet.extend_from_slice(&header);
            }
            packet.extend_from_slice(payload);
            packet
        }
        _ => panic!("a packet has one family"),
    }
}

pub(crate) fn tcp(flow: &Flow, flags: u8, data: usize, extra: usize) -> Vec<u8> {
    tcp_with(flow, flags, &[], data, extra)
}

/// With these options, a multiple of 4 bytes.
pub(crate) fn tcp_with(
    flow: &Flow,
    flags: u8,
    options: &[u8],
    data: usize,
    extra: usize,
) -> Vec<u8> {
    let header = 20 + options.len();
    let mut segment = vec![0u8; header + data];
    segment[..4].copy_from_slice(&flow.ports());
    segment[12] = (header as u8 / 4) << 4;
    segment[13] = flags;
    segment[20..header].copy_from_slice(options);
    segment[header..].fill(0xa5);
    flow.checksum(TCP, &mut segment, 16);
    packet(flow, TCP, extra, &segment)
}

pub(crate) fn udp(flow: &Flow, with_checksum: bool, data: usize, extra: usize) -> Vec<u8> {
    let mut datagram = vec![0x5au8; 8 + data];
    datagram[..4].copy_from_slice(&flow.ports());
    datagram[4..6].copy_from_slice(&((8 + data) as u16).to_be_bytes());
    datagram[6..8].fill(0);
    if with_checksum {
        flow.checksum(UDP, &mut datagram, 6);
    }
    packet(flow, UDP, extra, &datagram)
}

/// A datagram with this text.
pub(crate) fn message(flow: &Flow, text: &[u8]) -> Vec<u8> {
    let mut datagram = vec![0; 8];
    datagram[..4].copy_from_slice(&flow.ports());
    datagram[4..6].copy_from_slice(&((8 + text.len()) as u16).to_be_bytes());
    datagram.extend_from_slice(text);
    flow.checksum(UDP, &mut datagram, 6);
    packet(flow, UDP, 0, &datagram)
}

pub(crate) fn sctp(flow: &Flow, chunk: u8, data: usize) -> Vec<u8> {
    let mut message = vec![0u8; 16 + data];
    message[..4].copy_from_slice(&flow.ports());
    message[4..8].copy_from_slice(&[1, 2, 3, 4]);
    message[12] = chunk;
    message[14..16].copy_from_slice(&((4 + data) as u16).to_be_bytes());
    message[16..].fill(0x3c);
    let checksum = crc::whole(&message);
    message[8..12].copy_from_slice(&checksum.to_le_bytes());
    packet(flow, SCTP, 0, &message)
}

/// The same whose checksum is still to be found, as the kernel sends it to an interface that
/// finds it.
pub(crate) fn sctp_unfinished(flow: &Flow, chunk: u8, data: usize) -> Vec<u8> {
    let mut packet = sctp(flow, chunk, data);
    let at = packet.len() - (16 + data) + 8;
    packet[at..at + 4].fill(0);
    packet
}

/// A UDP datagram of 8 + 800 bytes in two fragments, the first with 400 of them.
pub(crate) fn fragments(flow: &Flow, id: u16) -> [Vec<u8>; 2] {
    let whole = udp(flow, true, 800, 0);
    let header = if flow.source.is_ipv4() { 20 } else { 40 };
    let payload = &whole[header..];
    let (first, rest) = payload.split_at(400);
    let piece = |payload: &[u8], offset: u16, more: bool| {
        let mut piece = if flow.source.is_ipv4() {
            packet(flow, UDP, 0, payload)
        } else {
            let mut header = vec![UDP, 0];
            header.extend_from_slice(&(offset << 3 | u16::from(more)).to_be_bytes());
            header.extend_from_slice(&[0, 7]);
            header.extend_from_slice(&id.to_be_bytes());
            header.extend_from_slice(payload);
            let mut piece = packet(flow, UDP, 0, &header);
            piece[6] = 44;
            piece
        };
        if flow.source.is_ipv4() {
            let flags = offset | u16::from(more) << 13;
            piece[4..6].copy_from_slice(&id.to_be_bytes());
            piece[6..8].copy_from_slice(&flags.to_be_bytes());
            piece[10..12].fill(0);
            let checksum = finish(sum(&piece[..20], 0));
            piece[10..12].copy_from_slice(&checksum.to_be_bytes());
        }
        piece
    };
    [piece(first, 0, true), piece(rest, 50, false)]
}

/// Forbids that a whole packet of IPv4 is cut.
pub(crate) fn keep_whole(packet: &mut [u8]) {
    if packet[0] >> 4 != 4 || packet[6..8] != [0, 0] {
        return;
    }
    let header = usize::from(packet[0] & 0xf) * 4;
    packet[6] = 0x40;
    packet[10..12].fill(0);
    let checksum = finish(sum(&packet[..header], 0));
    packet[10..12].copy_from_slice(&checksum.to_be_bytes());
}

/// An ICMP error from `source` to `destination` that quotes `about`.
pub(crate) fn icmp(
    source: IpAddr,
    destination: IpAddr,
    kind: u8,
    code: u8,
    about: &[u8],
) -> Vec<u8> {
    let quote = if source.is_ipv4() { 28 } else { 48 + 16 };
    icmp_with(
        source,
        destination,
        [kind, code, 0, 0, 0, 0, 0, 0],
        &about[..about.len().min(quote)],
    )
}

/// An ICMP error with this header, but for the checksum, and this quote.
pub(crate) fn icmp_with(
    source: IpAddr,
    destination: IpAddr,
    header: [u8; 8],
    quote: &[u8],
) -> Vec<u8> {
    let flow = Flow {
        source,
        source_port: 0,
        destination,
        destination_port: 0,
    };
    let mut message = header.to_vec();
    message.extend_from_slice(quote);
    if source.is_ipv4() {
        let checksum = finish(sum(&message, 0));
        message[2..4].copy_from_slice(&checksum.to_be_bytes());
        packet(&flow, ICMP, 0, &message)
    } else {
        flow.checksum(ICMPV6, &mut message, 2);
        packet(&flow, ICMPV6, 0, &message)
    }
}

/// The two ends of a frame with TCP or UDP in IP alone, exchanged, and its protocol:
/// whoever answers it sends that.
pub(crate) fn answered(frame: &[u8]) -> Option<(Flow, u8)> {
    let packet = frame.get(14..)?;
    let (source, destination, protocol, ports): (IpAddr, IpAddr, u8, &[u8]) = match packet[0] {
        0x45 => (
            <[u8; 4]>::try_from(&packet[12..16]).ok()?.into(),
            <[u8; 4]>::try_from(&packet[16..20]).ok()?.into(),
            packet[9],
            packet.get(20..24)?,
        ),
        first if first >> 4 == 6 => (
            <[u8; 16]>::try_from(&packet[8..24]).ok()?.into(),
            <[u8; 16]>::try_from(&packet[24..40]).ok()?.into(),
            packet[6],
            packet.get(40..44)?,
        ),
        _ => return None,
    };
    let port = |at: usize| u16::from_be_bytes([ports[at], ports[at + 1]]);
    let flow = Flow {
        source: destination,
        source_port: port(2),
        destination: source,
        destination_port: port(0),
    };
    matches!(protocol, TCP | UDP).then_some((flow, protocol))
}

/// The packet in an Ethernet frame to `destination`, padded to the least length.
pub(crate) fn frame(packet: &[u8], destination: [u8; 6]) -> Vec<u8> {
    let kind: [u8; 2] = if packet.first().is_some_and(|byte| byte >> 4 == 6) {
        [0x86, 0xdd]
    } else {
        [8, 0]
    };
    let mut frame = destination.to_vec();
    frame.extend_from_slice(&[2, 9, 9, 9, 9, 9]);
    frame.extend_from_slice(&kind);
    frame.extend_from_slice(packet);
    if frame.len() < 60 {
        frame.resize(60, 0);
    }
    frame
}

/// Checks every checksum of a frame that holds a whole packet, tunnels too.
pub(crate) fn assert_right(frame: &[u8]) {
    let is_ipv6 = frame[14] >> 4 == 6;
    assert_eq!(frame[12] == 0x86, is_ipv6, "{frame:02x?}");
    packet_is_right(&frame[14..]);
}

/// A part of a packet, whose checksum is over all of it.
fn is_fragment(packet: &[u8]) -> bool {
    match packet[0] >> 4 {
        4 => u16::from_be_bytes([packet[6], packet[7]]) & 0x3fff != 0,
        _ => packet[6] == 44,
    }
}

fn packet_is_right(packet: &[u8]) {
    // What a fragment carried through a tunnel is, ends where its own fragment ends.
    if packet.len() < 20 || is_fragment(packet) {
        return;
    }
    let (source, destination, protocol, payload): (IpAddr, IpAddr, u8, &[u8]) =
        if packet[0] >> 4 == 4 {
            let header = usize::from(packet[0] & 0xf) * 4;
            let length = usize::from(u16::from_be_bytes([packet[2], packet[3]]));
            assert_eq!(
                finish(sum(&packet[..header], 0)),
                0,
                "IPv4 header {packet:02x?}"
            );
            let address = |at: usize| <[u8; 4]>::try_from(&packet[at..at + 4]).unwrap().into();
            (address(12), address(16), packet[9], &packet[header..length])
        } else {
            let length = 40 + usize::from(u16::from_be_bytes([packet[4], packet[5]]));
            let address = |at: usize| <[u8; 16]>::try_from(&packet[at..at + 16]).unwrap().into();
            let (mut next, mut at) = (packet[6], 40);
            while next == 0 {
                next = packet[at];
                at += 8 * (usize::from(packet[at + 1]) + 1);
            }
            (address(8), address(24), next, &packet[at..length])
        };
    let whole = || finish(transport_sum(source, destination, protocol, payload));
    match protocol {
        TCP | ICMPV6 => assert_eq!(whole(), 0, "transport {packet:02x?}"),
        UDP => {
            if payload[6..8] != [0, 0] {
                assert_eq!(whole(), 0, "UDP {packet:02x?}");
            }
            // A few bytes to that port are somebody's answer.
            if payload[2..4] == GUE.to_be_bytes() && payload.len() >= 12 + 20 {
                packet_is_right(&payload[12..]);
            }
        }
        SCTP => {
            let mut message = payload.to_vec();
            let found = u32::from_le_bytes(message[8..12].try_into().unwrap());
            message[8..12].fill(0);
            assert!(
                [0, crc::whole(&message)].contains(&found),
                "SCTP {packet:02x?}"
            );
        }
        ICMP => assert_eq!(finish(sum(payload, 0)), 0, "ICMP {packet:02x?}"),
        4 | 41 => packet_is_right(payload),
        47 => {
            let with_sum = payload[0] & 0x80 != 0;
            if with_sum {
                assert_eq!(finish(sum(payload, 0)), 0, "GRE {packet:02x?}");
            }
            packet_is_right(&payload[if with_sum { 8 } else { 4 }..]);
        }
        other => panic!("protocol {other}"),
    }
}
