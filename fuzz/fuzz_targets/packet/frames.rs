//! Frames such as a director meets, frames that are broken, and frames of any bytes.

use std::net::IpAddr;

use crate::input::Random;
use crate::packets::{Flow, TCP, UDP, answered, fragments, frame, icmp, packet, sctp, tcp, udp};
use crate::rules::{CLIENTS, SERVERS, VIPS, address};

/// The director's address on the servers' side.
pub(crate) const OWN: [&str; 2] = ["10.2.0.1", "fd02::1"];
/// Its MAC address everywhere.
pub(crate) const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const SCTP: u8 = 132;
/// Longest frame of any bytes.
const ANY_MAX: usize = 1600;

/// A frame, and whether all its checksums are right.
pub(crate) struct Made {
    pub(crate) bytes: Vec<u8>,
    pub(crate) is_right: bool,
}

/// Opens many connections of a client at once, so that the table overflows.
pub(crate) fn many(input: &mut Random<'_>) -> Vec<Made> {
    let family = input.below(2) as usize;
    let (client, vip) = (address(CLIENTS[family][0]), address(VIPS[family][0]));
    let (count, first) = (1 + input.below(64) as u16, input.below(256) as u16);
    let protocol = input.below(3);
    let frames = (first..first + count).map(|port| {
        let flow = |service| Flow {
            source: client,
            source_port: 1024 + port,
            destination: vip,
            destination_port: service,
        };
        let packet = match protocol {
            0 => tcp(&flow(80), 0x02, 0, 0),
            1 => udp(&flow(53), true, 1, 0),
            _ => sctp(&flow(5000), 1, 4),
        };
        Made {
            bytes: frame(&packet, MAC),
            is_right: true,
        }
    });
    frames.collect()
}

/// The next frame of an input; `sent` has what was sent on before.
pub(crate) fn next(input: &mut Random<'_>, sent: &[Vec<u8>]) -> Made {
    let recent = &sent[sent.len().saturating_sub(16)..];
    let kind = input.below(16);
    if kind == 15 {
        return any(input);
    }
    let whole = match kind {
        11..=12 if !recent.is_empty() => {
            let at = input.below(recent.len() as u32) as usize;
            answer(input, &recent[at])
        }
        13 if !recent.is_empty() => {
            let at = input.below(recent.len() as u32) as usize;
            about(input, &recent[at])
        }
        _ => None,
    };
    let mut packet = whole.unwrap_or_else(|| usual(input));
    let is_right = !damage(input, &mut packet);
    let destination = if input.one_in(32) { [2; 6] } else { MAC };
    Made {
        bytes: frame(&packet, destination),
        is_right,
    }
}

/// A packet of a client or a server.
fn usual(input: &mut Random<'_>) -> Vec<u8> {
    let family = input.below(2) as usize;
    let client = address(input.of(&CLIENTS[family]));
    let server = address(input.of(&SERVERS[family]));
    let vip = address(input.of(&VIPS[family]));
    let port = 40_000 + input.below(64) as u16;
    let service = input.of(&[80, 53, 5000, 21, 20, 1234, 81]);
    let mapped = if input.one_in(3) { 8000 } else { 0 };
    let up = Flow {
        source: client,
        source_port: port,
        destination: vip,
        destination_port: service,
    };
    let down = Flow {
        source: server,
        source_port: service + mapped,
        destination: client,
        destination_port: port,
    };
    let own = Flow {
        destination: address(OWN[family]),
        destination_port: 10_240 + input.below(4) as u16,
        ..down
    };
    let flow = input.of(&[up, up, up, down, own]);
    let length = input.of(&[0, 1, 6, 100, 1300, 1440, 1460, 1472]);
    let extra = input.of(&[0, 0, 0, 8, 40]);
    match input.below(8) {
        0..=3 => tcp(&flow, flags(input), length, extra),
        4 | 5 => udp(&flow, !input.one_in(4), length, extra),
        6 => sctp(&flow, input.below(16) as u8, length),
        _ => {
            let id = input.below(4) as u16;
            let [first, rest] = fragments(&flow, id);
            if input.one_in(2) { rest } else { first }
        }
    }
}

fn flags(input: &mut Random<'_>) -> u8 {
    input.of(&[0x02, 0x10, 0x12, 0x18, 0x11, 0x04, 0x14, 0x00, 0xff])
}

/// What whoever gets a frame sends back.
fn answer(input: &mut Random<'_>, sent: &[u8]) -> Option<Vec<u8>> {
    let (flow, protocol) = answered(sent)?;
    Some(match protocol {
        TCP => tcp(&flow, flags(input), 10, 0),
        UDP => udp(&flow, true, 10, 0),
        SCTP => sctp(&flow, input.below(16) as u8, 8),
        _ => return None,
    })
}

/// An ICMP error about a frame, from whoever gets it or from a router.
fn about(input: &mut Random<'_>, sent: &[u8]) -> Option<Vec<u8>> {
    let (flow, _) = answered(sent)?;
    let v6 = flow.source.is_ipv6();
    let router: IpAddr = address(if v6 { "fd02::fe" } else { "10.2.0.254" });
    let from = if input.one_in(2) { router } else { flow.source };
    let kind = input.of(if v6 { &[1, 2, 3, 128] } else { &[3, 11, 4, 8] });
    let code = input.below(6) as u8;
    Some(icmp(from, flow.destination, kind, code, &sent[14..]))
}

/// Breaks a packet, now and then.
fn damage(input: &mut Random<'_>, packet: &mut Vec<u8>) -> bool {
    let before = packet.clone();
    match input.below(8) {
        5 => {
            let at = input.below(packet.len().min(90) as u32) as usize;
            packet[at] = input.below(256) as u8;
        }
        6 => {
            let at = if packet[0] >> 4 == 6 { 7 } else { 8 };
            packet[at] = input.below(3) as u8;
        }
        7 => packet.truncate(input.below(packet.len() as u32) as usize),
        _ => {}
    }
    *packet != before
}

/// Any bytes, or a right IP header with any bytes behind it.
fn any(input: &mut Random<'_>) -> Made {
    let length = input.below(ANY_MAX as u32) as usize;
    let family = input.below(3) as usize;
    let protocol = input.of(&[TCP, UDP, SCTP, 1, 58, 47, 4, 0, 44]);
    let bytes = input.take(length);
    let bytes = if family == 2 {
        bytes.to_vec()
    } else {
        let flow = Flow {
            source: address(CLIENTS[family][0]),
            source_port: 0,
            destination: address(VIPS[family][0]),
            destination_port: 0,
        };
        frame(&packet(&flow, protocol, 0, bytes), MAC)
    };
    Made {
        bytes,
        is_right: false,
    }
}
