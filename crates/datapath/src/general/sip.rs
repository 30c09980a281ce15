//! Persistence by the Call-ID of SIP (RFC 3261, 20.8), as IPVS's engine `sip` has it: what
//! belongs to one call goes to one server, whatever port it comes from.

use crate::frame::protocol;
use crate::host::{Host, Window};

use super::packet::Packet;
use crate::layout::{Service, service_flags};

/// Length of a UDP header.
const UDP: usize = 8;
/// Bytes of a message that the header is looked for in.
pub(super) const SEARCHED: u32 = 1024;
/// Bytes of a Call-ID that count.
const VALUE: u32 = 128;
/// Farthest place in a frame.
const OFFSET_MAX: usize = 2047;

/// The header's name at the beginning of a line, in lower case, and its short form.
const LONG: u64 = u64::from_be_bytes(*b"\ncall-id");
const SHORT: u64 = u32::from_be_bytes(*b"\0\ni:") as u64;
const SHORT_MASK: u64 = 0xff_ffff;

/// True: the packet's client is known by more than its address.
#[inline(always)]
pub(super) fn is_by_call(service: &Service, packet: &Packet) -> bool {
    service.flags.get() & service_flags::SIP != 0 && packet.protocol == protocol::UDP
}

/// A hash of the Call-ID in the datagram that is kept; 0: it has none in its first
/// [`SEARCHED`] bytes.
#[inline(always)]
pub(super) fn call_id<H: Host>(host: &H) -> u64 {
    let Some(kept) = host.kept() else {
        return 0;
    };
    let begin = kept.packet.transport() + UDP;
    host.gather(begin as u32 + SEARCHED);
    let name = end_of_name(host, begin);
    if name == 0 { 0 } else { hash(host, name) }
}

/// A byte of the frame; above all bytes: it ends before.
#[inline(always)]
fn byte<H: Host>(host: &H, at: usize) -> u32 {
    match host.window(at & OFFSET_MAX, 1) {
        Some(byte) => byte.u8(0).into(),
        None => 256,
    }
}

/// Where what follows the header's name begins; 0: there is no such header.
#[inline(always)]
fn end_of_name<H: Host>(host: &H, begin: usize) -> usize {
    const UPPER_CASE: u64 = 0x20;
    let mut last = 0_u64;
    let mut turn = 0;
    while turn < SEARCHED {
        let found = byte(host, begin + turn as usize);
        if found > 255 {
            return 0;
        }
        // Letters alone become others that look like one of these names.
        let is_letter = u64::from(found.wrapping_sub(u32::from(b'A')) < 26);
        last = last << 8 | u64::from(found) | is_letter * UPPER_CASE;
        turn += 1;
        if last == LONG || last & SHORT_MASK == SHORT {
            return begin + turn as usize;
        }
    }
    0
}

/// Hash of the value that follows, without the blanks around it. Not 0 unless there is none.
#[inline(always)]
fn hash<H: Host>(host: &H, begin: usize) -> u64 {
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    let mut hash = 0xcbf2_9ce4_8422_2325 ^ host.seed();
    let mut length = 0;
    let mut turn = 0;
    while turn < VALUE {
        let found = byte(host, begin + turn as usize);
        turn += 1;
        let is_before = length == 0 && (found == 0x20 || found == 0x09 || found == 0x3a);
        if found <= 0x20 && !is_before || found > 255 {
            break;
        }
        if !is_before {
            hash = (hash ^ u64::from(found)).wrapping_mul(PRIME);
            length += 1;
        }
    }
    if length == 0 {
        return 0;
    }
    // Its upper half is mixed better than its lower one.
    (hash ^ hash >> 32) | 1
}
