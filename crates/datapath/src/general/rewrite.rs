//! A packet's addresses and ports changed, and its checksums with them.

use super::packet::{Packet, what};
use crate::frame::{ETHERNET, End, protocol};
use crate::host::{ChecksumChange, Host, Window};
use crate::layout::Address;
use crate::{checksum, crc};

/// An address and a port as they stand in the packet.
#[derive(Clone, Copy)]
pub(crate) struct WideEnd {
    pub address: Address,
    pub port: u16,
}

/// What replacing one address by another adds to a sum.
#[inline(always)]
pub(crate) fn difference(before: Address, after: Address) -> u32 {
    let mut sum = 0;
    for word in 0..4 {
        sum += u64::from(checksum::difference32(before[word], after[word]));
    }
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    (sum as u32).wrapping_add((sum >> 32) as u32)
}

/// Rewrites one end of a packet.
#[inline(always)]
pub(crate) fn set_end<H: Host>(
    host: &H,
    packet: &Packet,
    end: End,
    before: WideEnd,
    after: WideEnd,
) -> bool {
    if packet.what != what::LATER {
        if !transport_checksum(host, packet, end, before, after) {
            return false;
        }
        let Some(ports) = host.window(packet.transport(), 4) else {
            return false;
        };
        ports.set_u16(if end == End::Source { 0 } else { 2 }, after.port);
    }
    let is_ipv6 = packet.is_ipv6;
    set_address_at(host, ETHERNET, is_ipv6, end, before.address, after.address)
}

#[inline(always)]
fn transport_checksum<H: Host>(
    host: &H,
    packet: &Packet,
    end: End,
    before: WideEnd,
    after: WideEnd,
) -> bool {
    let (offset, udp) = match packet.protocol {
        protocol::UDP => (6, true),
        protocol::TCP => (16, false),
        _ => return sctp_checksum(host, packet, end, before.port, after.port),
    };
    host.change_transport_checksum(ChecksumChange {
        offset: packet.transport() + offset,
        address: difference(before.address, after.address),
        ports: checksum::change16(before.port, after.port),
        zero_is_none: udp,
    })
}

/// SCTP's checksum covers the ports, not the addresses. The kernel leaves 0 in its place where
/// the interface is to find it, as far as to another interface of this machine; and that adds
/// up what is there.
#[inline(always)]
fn sctp_checksum<H: Host>(host: &H, packet: &Packet, end: End, before: u16, after: u16) -> bool {
    if before == after {
        return true;
    }
    if packet.what != what::WHOLE {
        // It covers what other fragments hold.
        return false;
    }
    let Some(header) = host.window(packet.transport(), 12) else {
        return false;
    };
    let ports = u32::from(u16::from_le((before ^ after).to_le()));
    let ports = if end == End::Source {
        ports
    } else {
        ports << 16
    };
    let present = header.u32(8);
    if present != 0 {
        let change = crc::change(ports, packet.payload());
        header.set_u32(8, (u32::from_le(present) ^ change).to_le());
    }
    true
}

/// Writes an address into the IP header at `offset`, whose checksum follows.
#[inline(always)]
pub(crate) fn set_address_at<H: Host>(
    host: &H,
    offset: usize,
    is_ipv6: bool,
    end: End,
    before: Address,
    after: Address,
) -> bool {
    if is_ipv6 {
        let Some(head) = host.window(offset, 40) else {
            return false;
        };
        let at = if end == End::Source { 8 } else { 24 };
        for (word, value) in after.into_iter().enumerate() {
            head.set_u32(at + 4 * word, value);
        }
        return true;
    }
    let Some(head) = host.window(offset, 20) else {
        return false;
    };
    let difference = u64::from(checksum::difference32(before[3], after[3]));
    head.set_u16(10, checksum::update(head.u16(10), difference));
    head.set_u32(if end == End::Source { 12 } else { 16 }, after[3]);
    true
}

/// Takes one from the time to live.
#[inline(always)]
pub(crate) fn pass_on<H: Host>(host: &H, packet: &Packet) -> bool {
    let Some(head) = host.window(ETHERNET, 20) else {
        return false;
    };
    if packet.is_ipv6 {
        head.set_u8(7, head.u8(7).wrapping_sub(1));
        return true;
    }
    let before = head.u16(8);
    head.set_u8(8, head.u8(8).wrapping_sub(1));
    let difference = u64::from(checksum::difference16(before, head.u16(8)));
    head.set_u16(10, checksum::update(head.u16(10), difference));
    true
}
