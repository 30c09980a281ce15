//! The kernel at XDP. The frame is what the wire brought, checksums included; what
//! needs the kernel's help (resolving a neighbour, a checksum that is still
//! partial) is passed on untouched, and tc on the same interface finishes it.

use crate::packet::{Bytes, opaque, window};
use crate::{maps, routing, shared_memory};
use aya_ebpf::bindings::xdp_action;
use aya_ebpf::helpers::generated::bpf_redirect;
use aya_ebpf::programs::XdpContext;
use evenkeel_datapath::host::{ChecksumChange, Host, Route, Window};
use evenkeel_datapath::layout::{
    Addresses, Bucket, ClientHop, Control, Counters, EndpointBucket, Load, Reasons, Server,
    Service, interface_flags,
};
use evenkeel_datapath::word::Word;
use evenkeel_datapath::{Verdict, checksum, process};

/// A frame at XDP.
pub struct Kernel<'a>(pub &'a XdpContext);

/// Runs the packet path.
#[inline(always)]
pub fn run(context: &XdpContext) -> u32 {
    match process(&Kernel(context)) {
        Verdict::Pass | Verdict::Resolve { .. } => xdp_action::XDP_PASS,
        Verdict::Drop => xdp_action::XDP_DROP,
        Verdict::Transmit { interface } => {
            if interface == context.ingress_ifindex() as u32 {
                xdp_action::XDP_TX
            } else {
                // SAFETY: plain numbers.
                unsafe { bpf_redirect(interface, 0) as u32 }
            }
        }
    }
}

impl Host for Kernel<'_> {
    type Window = Bytes;
    const FINISHES: bool = false;

    shared_memory!();

    #[inline(always)]
    fn window(&self, offset: usize, length: usize) -> Option<Bytes> {
        window(self.0.data(), self.0.data_end(), offset, length)
    }

    #[inline(always)]
    fn length(&self) -> u32 {
        (self.0.data_end() - self.0.data()) as u32
    }

    #[inline(always)]
    fn is_cut_later(&self) -> bool {
        false
    }

    #[inline(always)]
    fn is_tagged(&self) -> bool {
        false
    }

    #[inline(always)]
    fn is_for_us(&self, frame: Bytes) -> bool {
        match maps::interface(self.0.ingress_ifindex() as u32) {
            Some(record) => {
                frame.u32(0) == record.mac_low.get() && frame.u16(4) == record.mac_high.get() as u16
            }
            None => true,
        }
    }

    #[inline(always)]
    fn can_change_checksum(&self, present: u16, pseudo_header: u64) -> bool {
        let Some(record) = maps::interface(self.0.ingress_ifindex() as u32) else {
            return true;
        };
        // A partial checksum is the folded pseudo header. A whole one looks the same
        // once in 65,536 frames, which then takes the slower way and is as right.
        record.mac_high.get() & interface_flags::PARTIAL_CHECKSUMS == 0
            || present != checksum::fold(pseudo_header)
    }

    #[inline(always)]
    fn change_transport_checksum(&self, change: ChecksumChange) -> bool {
        let Some(bytes) = self.window(change.offset, 2) else {
            return false;
        };
        let present = bytes.u16(0);
        if change.zero_is_none && present == 0 {
            return true;
        }
        let difference = u64::from(change.address)
            + u64::from(checksum::difference16(
                change.port_before,
                change.port_after,
            ));
        let mut updated = checksum::update(present, difference);
        if change.zero_is_none && updated == 0 {
            updated = 0xffff;
        }
        bytes.set_u16(0, updated);
        true
    }

    #[inline(always)]
    fn route(&self, source: u32, destination: u32, protocol: u8) -> Route {
        let interface = self.0.ingress_ifindex() as u32;
        routing::lookup(self.0.ctx.cast(), interface, source, destination, protocol)
    }

    #[inline(always)]
    fn opaque(&self, value: u32) -> u32 {
        opaque(value, self.0.ingress_ifindex() as u32)
    }
}
