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

/// Blanks between the header's name and its value, the colon among them.
const BLANKS: u32 = 8;

/// The header's name as [`fold`] leaves it, and its short form, each behind the end of a line.
const LONG: u64 = u64::from_be_bytes(*b"*call-id");
const SHORT: u64 = u32::from_be_bytes(*b"\0*i:") as u64;
const SHORT_MASK: u64 = 0xff_ffff;
const END_OF_LINE: u64 = 0x0a;

/// Lower case of a letter. Of other bytes some become the same, which a test for letters
/// would prevent; but that is a branch, of which there would be one for each byte.
#[inline(always)]
const fn fold(byte: u8) -> u64 {
    (byte | 0x20) as u64
}

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
    let begin = (kept.packet.transport() + UDP) as u32;
    host.gather(begin + SEARCHED);
    let name = host.call_name(begin);
    if name == 0 {
        return 0;
    }
    hash(host, name as usize & OFFSET_MAX)
}

/// Where in the frame what follows the header's name begins; 0: there is no such header in
/// the message at `begin`.
#[inline(always)]
pub(super) fn name<H: Host>(host: &H, begin: u32) -> u32 {
    let begin = begin as usize & OFFSET_MAX;
    let (mut as_is, mut folded) = (0_u64, 0_u64);
    let mut turn = 0;
    while turn < SEARCHED as usize {
        let Some(byte) = host.window(begin + turn, 1) else {
            return 0;
        };
        let byte = byte.u8(0);
        as_is = as_is << 8 | u64::from(byte);
        folded = folded << 8 | fold(byte);
        turn += 1;
        let is_not_long = (folded ^ LONG) | ((as_is >> 56) ^ END_OF_LINE);
        let is_not_short = ((folded & SHORT_MASK) ^ SHORT) | (((as_is >> 16) & 0xff) ^ END_OF_LINE);
        if is_not_long == 0 || is_not_short == 0 {
            return (begin + turn) as u32;
        }
    }
    0
}

/// Hash of the value that follows the header's name. 0: there is none.
#[inline(always)]
fn hash<H: Host>(host: &H, begin: usize) -> u64 {
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    let mut at = begin;
    for _ in 0..BLANKS {
        let Some(byte) = host.window(at, 1) else {
            return 0;
        };
        if !matches!(byte.u8(0), b' ' | b'\t' | b':') {
            break;
        }
        at += 1;
    }
    let at = host.opaque(at as u32) as usize & OFFSET_MAX;
    let mut hash = 0xcbf2_9ce4_8422_2325 ^ host.seed();
    let mut turn = 0;
    while turn < VALUE as usize {
        let Some(byte) = host.window(at + turn, 1) else {
            break;
        };
        let byte = byte.u8(0);
        if byte <= b' ' {
            break;
        }
        hash = (hash ^ u64::from(byte)).wrapping_mul(PRIME);
        turn += 1;
    }
    if turn == 0 {
        return 0;
    }
    // Its upper half is mixed better than its lower one.
    (hash ^ hash >> 32) | 1
}
