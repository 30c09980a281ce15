//! The frame of a packet that is asked about, as short as such a packet can be.

use std::net::IpAddr;

use evenkeel_api::trace::Query;
use evenkeel_core::model::Protocol;
use evenkeel_datapath::checksum::fold;

/// Time to live, or hop limit, that packets begin with.
const TTL: u8 = 64;
const SYN: u8 = 1 << 1;
/// Chunk types of SCTP (RFC 9260, 3.2).
const DATA: u8 = 0;
const INIT: u8 = 1;

/// Makes it. `mac` is the address of the interface that it comes by.
pub(super) fn made(query: &Query, mac: [u8; 6]) -> Vec<u8> {
    let protocol = query.protocol.number();
    let mut payload = header(query);
    let (from, to) = (octets(query.source.ip()), octets(query.destination.ip()));
    let addresses: u64 = sum(&from) + sum(&to);
    let pseudo = addresses + sum(&(payload.len() as u16).to_be_bytes()) + sum(&[0, protocol]);
    match query.protocol {
        Protocol::Tcp => close(&mut payload, 16, pseudo),
        Protocol::Udp => close(&mut payload, 6, pseudo),
        // It is corrected without being looked at.
        Protocol::Sctp => {}
    }
    let mut frame = mac.to_vec();
    frame.extend_from_slice(&[0; 6]);
    if query.source.is_ipv4() {
        frame.extend_from_slice(&[0x08, 0x00]);
        frame.extend_from_slice(&ipv4(protocol, &from, &to, payload.len()));
    } else {
        frame.extend_from_slice(&[0x86, 0xdd]);
        frame.extend_from_slice(&ipv6(protocol, &from, &to, payload.len()));
    }
    frame.extend_from_slice(&payload);
    frame
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().into(),
        IpAddr::V6(address) => address.octets().into(),
    }
}

/// The transport header, without its checksum.
fn header(query: &Query) -> Vec<u8> {
    let mut header = query.source.port().to_be_bytes().to_vec();
    header.extend_from_slice(&query.destination.port().to_be_bytes());
    match query.protocol {
        Protocol::Tcp => {
            header.resize(20, 0);
            header[12] = 0x50;
            header[13] = query.flags;
        }
        Protocol::Udp => header.extend_from_slice(&[0, 8, 0, 0]),
        Protocol::Sctp => {
            let chunk = if query.flags & SYN != 0 { INIT } else { DATA };
            header.resize(32, 0);
            header[12] = chunk;
            header[15] = 20;
        }
    }
    header
}

/// Sum of 16-bit words as they stand.
fn sum(bytes: &[u8]) -> u64 {
    let words = bytes.chunks(2).map(|pair| {
        let second = pair.get(1).copied().unwrap_or(0);
        u64::from(u16::from_ne_bytes([pair[0], second]))
    });
    words.sum()
}

/// Writes a checksum over what is there and `more`.
fn close(bytes: &mut [u8], at: usize, more: u64) {
    let checksum = match !fold(sum(bytes) + more) {
        // UDP: 0 would be no checksum. For TCP both are the same.
        0 => u16::MAX,
        checksum => checksum,
    };
    bytes[at..at + 2].copy_from_slice(&checksum.to_ne_bytes());
}

fn ipv4(protocol: u8, from: &[u8], to: &[u8], payload: usize) -> Vec<u8> {
    let length = (20 + payload) as u16;
    let [high, low] = length.to_be_bytes();
    let mut header = vec![0x45, 0, high, low, 0, 0, 0x40, 0, TTL, protocol, 0, 0];
    header.extend_from_slice(from);
    header.extend_from_slice(to);
    close(&mut header, 10, 0);
    header
}

fn ipv6(protocol: u8, from: &[u8], to: &[u8], payload: usize) -> Vec<u8> {
    let [high, low] = (payload as u16).to_be_bytes();
    let mut header = vec![0x60, 0, 0, 0, high, low, protocol, TTL];
    header.extend_from_slice(from);
    header.extend_from_slice(to);
    header
}
