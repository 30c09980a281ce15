//! Rules that mark packets ([`MarkRules`](crate::layout::MarkRules)), and the mark that a
//! packet has in the end.

use crate::host::{Host, Store};
use crate::layout::{MARK_PORTS, MARK_RULES, features, mark_flags};

/// Bit of a rule's place: in which half it stands.
const HALF_SHIFT: u32 = 16;

/// The mark of the packet that is kept: that of the first rule that it fits, else the one
/// that it carries; 0: none.
#[inline(always)]
pub(super) fn of<H: Host>(host: &H, features: u32) -> u32 {
    let by_rule = if features & features::MARK_RULES != 0 {
        host.marked(host.ingress())
    } else {
        0
    };
    if by_rule != 0 { by_rule } else { host.mark() }
}

/// The mark of the first rule that the packet that is kept fits, which came by
/// `interface`; 0: it fits none.
#[inline(always)]
pub(super) fn marked<S: Store>(store: &S, interface: u32) -> u32 {
    let Some(rules) = store.mark_rules() else {
        return 0;
    };
    let active = rules.active.get();
    let half = active & 1 << HALF_SHIFT;
    for number in 0..MARK_RULES as u32 {
        // The verifier would follow all that comes once for each number.
        let number = store.opaque(number);
        if number >= active & 0xffff {
            break;
        }
        let mark = store.fits(half | number, interface);
        if mark != 0 {
            return mark;
        }
    }
    0
}

/// 1 if the bits are not all 0, else 0.
#[inline(always)]
const fn any(bits: u32) -> u32 {
    (bits | bits.wrapping_neg()) >> 31
}

/// All bits if `bits` are not all 0, else none.
#[inline(always)]
const fn all_if(bits: u32) -> u32 {
    any(bits).wrapping_neg()
}

/// The mark of the rule at a place if the packet that is kept fits it, else 0. Without
/// branches, as far as the compiler goes along.
#[inline(always)]
pub(super) fn fits<S: Store>(store: &S, place: u32, interface: u32) -> u32 {
    let (Some(arrival), Some(rules)) = (store.kept(), store.mark_rules()) else {
        return 0;
    };
    let half = &rules.rules[(place >> HALF_SHIFT & 1) as usize];
    let rule = &half[place as usize & (MARK_RULES - 1)];
    let packet = &arrival.packet;
    let flags = rule.flags.get();
    let is_ipv6 = u32::from(packet.is_ipv6);
    let family = (is_ipv6 * mark_flags::IPV6) | ((1 - is_ipv6) * mark_flags::IPV4);
    let mut differs = family & !flags;
    let protocol = flags >> mark_flags::PROTOCOL_SHIFT & 0xff;
    differs |= (protocol ^ u32::from(packet.protocol)) & all_if(protocol);
    let wanted = rule.interface.get();
    differs |= (wanted ^ interface) & all_if(wanted);
    for word in 0..4 {
        differs |= packet.source[word] & rule.source_mask[word].get() ^ rule.source[word].get();
        differs |= packet.destination[word] & rule.destination_mask[word].get()
            ^ rule.destination[word].get();
    }
    let port = u32::from(u16::from_be(arrival.transport.destination_port));
    let ranges = flags >> mark_flags::PORTS_SHIFT & mark_flags::PORTS;
    let mut hits = 0;
    for number in 0..MARK_PORTS {
        let range = rule.ports[number].get();
        let (low, high) = (range & 0xffff, range >> 16);
        // The top bit of a difference: set when it is less than 0.
        let outside = port.wrapping_sub(low) | high.wrapping_sub(port);
        let counts = (number as u32).wrapping_sub(ranges);
        hits |= (counts & !outside) >> 31;
    }
    differs |= any(ranges) & !hits & 1;
    rule.mark.get() & !all_if(differs)
}

const _: () = assert!(MARK_RULES.is_power_of_two());

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_told_without_a_branch() {
        for bits in [0, 1, 2, 0x8000_0000, u32::MAX] {
            assert_eq!(any(bits), u32::from(bits != 0));
            assert_eq!(all_if(bits), if bits == 0 { 0 } else { u32::MAX });
        }
    }
}
