//! The kernel at XDP. The frame is what the wire brought, checksums included; what
//! needs the kernel's help (resolving a neighbour, a checksum that is still
//! partial) is passed on untouched, and tc on the same interface finishes it.

use crate::packet::{Bytes, distance, window};
use crate::parts::go_on;
use crate::{maps, routing, store};
use aya_ebpf::bindings::{xdp_action, xdp_md};
use aya_ebpf::helpers::generated::{bpf_redirect, bpf_xdp_adjust_head, bpf_xdp_adjust_tail};
use aya_ebpf::programs::XdpContext;
use evenkeel_datapath::frame::ETHERNET;
use evenkeel_datapath::general::{Arrival, Part};
use evenkeel_datapath::host::{ChecksumChange, Host, Room, Route, Window};
use evenkeel_datapath::layout::{Address, interface_flags};
use evenkeel_datapath::{Verdict, checksum, general, short};

/// A frame at XDP.
pub struct Kernel<'a>(pub &'a XdpContext);

/// Runs the short way.
#[inline(always)]
pub fn run(context: &XdpContext) -> u32 {
    answer(context, short::process(&Kernel(context)))
}

/// Runs a part of the general way.
#[inline(always)]
pub fn run_part(context: &XdpContext, part: Part) -> u32 {
    answer(context, general::part(&Kernel(context), part))
}

#[inline(always)]
fn answer(context: &XdpContext, verdict: Verdict) -> u32 {
    match verdict {
        Verdict::Pass | Verdict::Resolve { .. } => xdp_action::XDP_PASS,
        Verdict::Drop => xdp_action::XDP_DROP,
        Verdict::Transmit { interface } => {
            if interface == context.ingress_ifindex() as u32 && !is_virtual(interface) {
                xdp_action::XDP_TX
            } else {
                // SAFETY: plain numbers.
                unsafe { bpf_redirect(interface, 0) as u32 }
            }
        }
        Verdict::Then { part } => {
            go_on!(maps::XDP_PARTS, context, part);
            xdp_action::XDP_PASS
        }
    }
}

/// True for a veth: what is sent back into one as it came lies in its peer's ring till
/// something else comes there, where that has no XDP of its own.
#[inline(always)]
fn is_virtual(interface: u32) -> bool {
    maps::interface(interface)
        .is_some_and(|record| record.mac_high.get() & interface_flags::PARTIAL_CHECKSUMS != 0)
}

store!(Kernel<'_>, |_| maps::tick());

impl Host for Kernel<'_> {
    type Window = Bytes;
    const FINISHES: bool = false;

    #[inline(always)]
    fn window(&self, offset: usize, length: usize) -> Option<Bytes> {
        window(self.0.data(), self.0.data_end(), offset, length)
    }

    #[inline(always)]
    fn length(&self) -> u32 {
        distance(self.0.data(), self.0.data_end())
    }

    #[inline(always)]
    fn piece(&self) -> u32 {
        0
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
        let difference = u64::from(change.address) + u64::from(change.ports);
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
    fn wide_route(&self, source: Address, destination: Address, protocol: u8) -> Route {
        routing::wide_lookup(
            self.0.ctx.cast(),
            self.0.ingress_ifindex() as u32,
            source,
            destination,
            protocol,
        )
    }

    #[inline(always)]
    fn ingress(&self) -> u32 {
        self.0.ingress_ifindex() as u32
    }

    #[inline(always)]
    fn mark(&self) -> u32 {
        0
    }

    #[inline(always)]
    fn grow(&self, room: Room) -> bool {
        let before = -(room.bytes as i32);
        // SAFETY: the program's own context.
        if unsafe { bpf_xdp_adjust_head(self.0.ctx, before) } != 0 {
            return false;
        }
        let (Some(new), Some(old)) = (self.window(0, ETHERNET), self.window(room.bytes, ETHERNET))
        else {
            return false;
        };
        new.set_u32(0, old.u32(0));
        new.set_u32(4, old.u32(4));
        new.set_u32(8, old.u32(8));
        new.set_u16(12, old.u16(12));
        true
    }

    #[inline(always)]
    fn keep(&self, arrival: Arrival) {
        maps::keep(arrival);
    }

    #[inline(always)]
    fn step(&self, next: u32, offset: u32) -> u64 {
        evenkeel_xdp_step(self.0.ctx, next, offset)
    }

    #[inline(always)]
    fn parse_transport(&self) -> u32 {
        evenkeel_xdp_parse_transport(self.0.ctx)
    }

    #[inline(always)]
    fn read_transport(&self) -> u64 {
        evenkeel_xdp_read_transport(self.0.ctx)
    }

    #[inline(always)]
    fn parse_quoted(&self) -> u32 {
        evenkeel_xdp_parse_quoted(self.0.ctx)
    }

    #[inline(always)]
    fn parse_tunnelled(&self) -> u32 {
        evenkeel_xdp_parse_tunnelled(self.0.ctx)
    }

    #[inline(always)]
    fn call_id(&self) -> u64 {
        evenkeel_xdp_call_id(self.0.ctx)
    }

    #[inline(always)]
    fn gather(&self, _length: u32) {}

    #[inline(always)]
    fn call_name(&self, begin: u32) -> u32 {
        evenkeel_xdp_call_name(self.0.ctx, begin)
    }

    #[inline(always)]
    fn find_segment(&self) -> u32 {
        evenkeel_xdp_find_segment(self.0.ctx)
    }

    #[inline(always)]
    fn parse_ipv4(&self) -> u32 {
        evenkeel_xdp_parse_ipv4(self.0.ctx)
    }

    #[inline(always)]
    fn parse_ipv6(&self) -> u32 {
        evenkeel_xdp_parse_ipv6(self.0.ctx)
    }

    #[inline(always)]
    fn extensions(&self, next: u32) -> u64 {
        evenkeel_xdp_extensions(self.0.ctx, next)
    }

    #[inline(always)]
    fn cut(&self, length: u32) -> bool {
        let less = length as i32 - self.length() as i32;
        // SAFETY: the program's own context.
        unsafe { bpf_xdp_adjust_tail(self.0.ctx, less) == 0 }
    }
}

/// [`general::step`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn evenkeel_xdp_step(context: *mut xdp_md, next: u32, offset: u32) -> u64 {
    general::step(&Kernel(&XdpContext::new(context)), next, offset)
}

/// [`general::parse_transport`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn evenkeel_xdp_parse_transport(context: *mut xdp_md) -> u32 {
    general::parse_transport(&Kernel(&XdpContext::new(context)))
}

/// [`general::read_transport`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn evenkeel_xdp_read_transport(context: *mut xdp_md) -> u64 {
    general::read_transport(&Kernel(&XdpContext::new(context)))
}

/// [`general::parse_quoted`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn evenkeel_xdp_parse_quoted(context: *mut xdp_md) -> u32 {
    general::parse_quoted(&Kernel(&XdpContext::new(context)))
}

/// [`general::parse_tunnelled`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn evenkeel_xdp_parse_tunnelled(context: *mut xdp_md) -> u32 {
    general::parse_tunnelled(&Kernel(&XdpContext::new(context)))
}

/// [`general::call_id`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn evenkeel_xdp_call_id(context: *mut xdp_md) -> u64 {
    general::call_id(&Kernel(&XdpContext::new(context)))
}

/// [`general::call_name`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn evenkeel_xdp_call_name(context: *mut xdp_md, begin: u32) -> u32 {
    general::call_name(&Kernel(&XdpContext::new(context)), begin)
}

/// [`general::find_segment`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn evenkeel_xdp_find_segment(context: *mut xdp_md) -> u32 {
    general::find_segment(&Kernel(&XdpContext::new(context)))
}

/// [`general::parse_ipv4`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn evenkeel_xdp_parse_ipv4(context: *mut xdp_md) -> u32 {
    general::parse_ipv4(&Kernel(&XdpContext::new(context)))
}

/// [`general::parse_ipv6`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn evenkeel_xdp_parse_ipv6(context: *mut xdp_md) -> u32 {
    general::parse_ipv6(&Kernel(&XdpContext::new(context)))
}

/// [`general::extensions`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn evenkeel_xdp_extensions(context: *mut xdp_md, next: u32) -> u64 {
    general::extensions(&Kernel(&XdpContext::new(context)), next)
}
