//! Packets that come without a link-layer header, as they do out of a tunnel that ends here:
//! which of them are worth one. Behind it they are like any other.

use super::packet;
use crate::endpoint;
use crate::frame::{ETHERNET, ETHERTYPE_IPV4, ETHERTYPE_IPV6, protocol};
use crate::host::{Host, Store, Window};
use crate::layout::features;

/// Words of an IP header that are looked at; of IPv4 the first five.
pub const HEAD: usize = 10;

/// False for nearly all packets that are nobody's here. `ethertype` is the packet's, and
/// `head` its IP header as it stands.
#[inline(always)]
pub fn may_concern<S: Store>(store: &S, ethertype: u16, head: &[u32; HEAD]) -> bool {
    let present = store.control().map_or(0, |control| control.features.get());
    if ethertype == ETHERTYPE_IPV6 && present & features::IPV6 == 0 {
        return false;
    }
    // A mark may be wanted of any packet.
    if present & features::MARKS != 0 {
        return true;
    }
    // An error may be about a packet of ours that neither end of its own tells.
    if ethertype == ETHERTYPE_IPV4 {
        let [_, carried, ..] = head[2].to_ne_bytes();
        return carried == protocol::ICMP
            || endpoint::is_known_narrow(store, head[4])
            || endpoint::is_known_narrow(store, head[3]);
    }
    let [.., next, _] = head[1].to_ne_bytes();
    next == protocol::ICMPV6
        || packet::is_extension(next)
        || endpoint::is_known_wide(store, [head[6], head[7], head[8], head[9]])
        || endpoint::is_known_wide(store, [head[2], head[3], head[4], head[5]])
}

/// False for nearly all packets that no server on this machine has sent.
#[inline(always)]
pub fn may_be_reply<S: Store>(store: &S, ethertype: u16, head: &[u32; HEAD]) -> bool {
    if ethertype == ETHERTYPE_IPV4 {
        return endpoint::is_known_narrow(store, head[3]);
    }
    endpoint::is_known_wide(store, [head[2], head[3], head[4], head[5]])
}

/// The IP header of a frame, if it has one that is whole.
#[inline(always)]
fn head_of<H: Host>(host: &H, ethertype: u16) -> Option<[u32; HEAD]> {
    let words = match ethertype {
        ETHERTYPE_IPV4 => 5,
        ETHERTYPE_IPV6 => HEAD,
        _ => return None,
    };
    let header = host.window(ETHERNET, 4 * words)?;
    let mut head = [0; HEAD];
    for (word, place) in head[..words].iter_mut().enumerate() {
        *place = header.u32(4 * word);
    }
    Some(head)
}

/// What the kernel's side does before the general way begins, on a frame whose link-layer
/// header was put in front of it: false: the packet is not worth it.
#[inline(always)]
pub(crate) fn enter<H: Host>(host: &H) -> bool {
    let Some(ethernet) = host.window(0, ETHERNET) else {
        return false;
    };
    let ethertype = ethernet.u16(ETHERNET - 2);
    let concerns = head_of(host, ethertype).is_some_and(|head| may_concern(host, ethertype, &head));
    if concerns {
        write_header(ethernet, ethertype);
    }
    concerns
}

/// Writes an Ethernet header without addresses: by this an answer knows that it can't go back
/// as it came.
#[inline(always)]
pub fn write_header<W: Window>(ethernet: W, ethertype: u16) {
    for word in 0..3 {
        ethernet.set_u32(4 * word, 0);
    }
    ethernet.set_u16(ETHERNET - 2, ethertype);
}
