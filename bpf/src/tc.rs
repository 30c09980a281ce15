//! The kernel at tc: frames that the stack has already wrapped, with checksums that
//! may be left to hardware and payloads that are cut later. Only the kernel knows
//! which, so transport checksums change through its helper.

use crate::packet::{Bytes, window};
use crate::parts::go_on;
use crate::{maps, routing, store};
use aya_ebpf::bindings::{__sk_buff, BPF_F_INGRESS, BPF_F_MARK_MANGLED_0, BPF_F_PSEUDO_HDR};
use aya_ebpf::helpers::generated::{
    bpf_l4_csum_replace, bpf_redirect, bpf_redirect_neigh, bpf_skb_adjust_room,
    bpf_skb_change_head, bpf_skb_change_tail, bpf_skb_load_bytes_relative, bpf_skb_pull_data,
};
use aya_ebpf::programs::TcContext;
use evenkeel_datapath::frame::ETHERNET;
use evenkeel_datapath::general::{Arrival, Part};
use evenkeel_datapath::host::{ChecksumChange, Header, Host, Room, Route, Window};
use evenkeel_datapath::layout::Address;
use evenkeel_datapath::{Verdict, forward, frame, general, short};

/// To the next program, or the stack.
const NEXT: i32 = -1;
const SHOT: i32 = 2;
/// What is read of most frames: Ethernet, IPv4 without options, TCP or UDP.
const USUAL_HEADERS: u32 = 14 + 20 + 20;
/// The most that is read of a frame: Ethernet, IPv4 with options, ICMP, a quoted
/// IPv4 header with options, and eight bytes of what it carried.
const ALL_HEADERS: u32 = 14 + 60 + 8 + 60 + 8;
/// The most that the general way reads of a frame, where there is no more to an IPv6
/// packet than some extension headers: Ethernet, IPv6 twice, and 200 bytes of those.
const MOST_HEADERS: u32 = 14 + 40 + 200 + 8 + 40 + 20;
/// What is read of a packet without a link-layer header to see whether it may be ours: two
/// IP headers, since an outer one may stand in front.
const BARE_HEADERS: u32 = 60 + 40;
/// Where in the words that a packet carries for programs a note stands.
const NOTE: usize = 3;
const PACKET_HOST: u32 = 0;
/// `BPF_HDR_START_NET`: from where the IP header begins.
const BPF_HDR_START_NET: u32 = 1;
/// Flags of `bpf_skb_adjust_room`, `linux/bpf.h`: `BPF_F_ADJ_ROOM_*`.
mod room {
    pub(super) const MAC: u32 = 1;
    pub(super) const L3_IPV4: u64 = 1 << 1;
    pub(super) const L3_IPV6: u64 = 1 << 2;
    pub(super) const L4_GRE: u64 = 1 << 3;
    pub(super) const L4_UDP: u64 = 1 << 4;
}

struct Kernel(*mut __sk_buff);

macro_rules! field {
    ($self:ident.$name:ident) => {
        // SAFETY: the verifier lets programs read this field of their context.
        unsafe { (*$self.0).$name }
    };
}

/// What is noted of a packet with a borrowed Ethernet header, and is not there by chance.
#[inline(always)]
fn borrowed_note() -> [u32; 2] {
    let seed = maps::seed();
    [seed as u32 ^ 0x6261_7265, (seed >> 32) as u32 ^ 0x6865_6164]
}

/// Runs the short way.
#[inline(always)]
pub fn run(context: &TcContext) -> i32 {
    let kernel = Kernel(context.skb.skb);
    kernel.gather_headers();
    answer(context, short::process(&kernel))
}

/// Translates what servers on this machine send. The local stack puts the headers that are
/// read into one piece, and so nothing is gathered: what has them apart is not from here.
#[inline(always)]
pub fn run_egress(context: &TcContext) -> i32 {
    answer(context, forward::reply(&Kernel(context.skb.skb)))
}

/// Puts an Ethernet header in front of what may concern us, for the parts of the general way.
/// What does not is left as it is: other programs of the interface know no such header.
#[inline(always)]
pub fn run_bare(context: &TcContext) -> i32 {
    let kernel = Kernel(context.skb.skb);
    let ethertype = field!(kernel.protocol) as u16;
    kernel.gather_up_to(BARE_HEADERS);
    let Some(head) = kernel.network_header(ethertype) else {
        return NEXT;
    };
    if !general::may_concern(&kernel, ethertype, &head) {
        return NEXT;
    }
    if kernel.is_at(0, &head) {
        if !kernel.open_front() {
            return NEXT;
        }
    } else if !kernel.is_at(ETHERNET, &head) {
        // An outer header stands in front, as with a GRE device that has no one remote end.
        // When it comes in by its device once more it stands alone.
        let interface = field!(kernel.ifindex);
        // SAFETY: plain numbers.
        return unsafe { bpf_redirect(interface, u64::from(BPF_F_INGRESS)) as i32 };
    }
    let Some(ethernet) = kernel.window(0, ETHERNET) else {
        return NEXT;
    };
    general::write_header(ethernet, ethertype);
    answer(
        context,
        Verdict::Then {
            part: Part::General,
        },
    )
}

/// As [`run_egress`], where packets leave without a link-layer header: they get one for the
/// parts of the general way, and the kernel takes it off when they are sent to where they go
/// once more.
#[inline(always)]
pub fn run_bare_egress(context: &TcContext) -> i32 {
    let kernel = Kernel(context.skb.skb);
    if kernel.is_borrowed() {
        // Once more, and as it is to leave.
        kernel.note_borrowed(false);
        return NEXT;
    }
    let ethertype = field!(kernel.protocol) as u16;
    let Some(head) = kernel.network_header(ethertype) else {
        return NEXT;
    };
    if !general::may_be_reply(&kernel, ethertype, &head)
        || !kernel.is_at(0, &head)
        || !kernel.open_front()
    {
        return NEXT;
    }
    let Some(ethernet) = kernel.window(0, ETHERNET) else {
        return SHOT;
    };
    general::write_header(ethernet, ethertype);
    kernel.note_borrowed(true);
    match forward::reply(&kernel) {
        Verdict::Pass => kernel.give_back(),
        verdict => answer(context, verdict),
    }
}

/// Runs a part of the general way.
#[inline(always)]
pub fn run_part(context: &TcContext, part: Part) -> i32 {
    let kernel = Kernel(context.skb.skb);
    if part == Part::General {
        kernel.gather_up_to(MOST_HEADERS);
    }
    match general::part(&kernel, part) {
        Verdict::Pass if is_of_replies(part) && kernel.is_borrowed() => kernel.give_back(),
        verdict => answer(context, verdict),
    }
}

/// True for the parts that packets pass which leave this machine, among others.
const fn is_of_replies(part: Part) -> bool {
    matches!(
        part,
        Part::Reply
            | Part::WideReply
            | Part::ReplyFragment
            | Part::ReplyError
            | Part::FirstFragment
            | Part::Segment
            | Part::Deliver
            | Part::IcmpDeliver
    )
}

#[inline(always)]
fn answer(context: &TcContext, verdict: Verdict) -> i32 {
    match verdict {
        Verdict::Pass => NEXT,
        Verdict::Drop => SHOT,
        // SAFETY: plain numbers.
        Verdict::Transmit { interface } => unsafe { bpf_redirect(interface, 0) as i32 },
        Verdict::Resolve { interface } => {
            // SAFETY: no parameters: the kernel looks the destination up itself.
            unsafe { bpf_redirect_neigh(interface, core::ptr::null_mut(), 0, 0) as i32 }
        }
        Verdict::Then { part } => {
            go_on!(maps::TC_PARTS, context, part);
            NEXT
        }
    }
}

impl Kernel {
    #[inline(always)]
    fn data(&self) -> usize {
        field!(self.data) as usize
    }

    #[inline(always)]
    fn end(&self) -> usize {
        field!(self.data_end) as usize
    }

    /// Makes the headers that will be read one piece. The payload of what this host
    /// sends stands apart from its headers: copying any of it, and with it the whole
    /// head of the frame, would cost more than all the rest.
    #[inline(always)]
    fn gather_headers(&self) {
        let there = (self.end() - self.data()) as u32;
        let length = self.length();
        if there >= length || there >= ALL_HEADERS {
            return;
        }
        if there >= USUAL_HEADERS
            && let Some(frame) = self.window(0, USUAL_HEADERS as usize)
            && frame::is_plain_transport(frame)
        {
            return;
        }
        // SAFETY: the program's own context. A failure shows as windows that are not
        // there.
        unsafe { bpf_skb_pull_data(self.0, length.min(ALL_HEADERS)) };
    }

    /// As [`Kernel::gather_headers`], for what the general way reads: so many bytes at most.
    #[inline(always)]
    fn gather_up_to(&self, most: u32) {
        let there = (self.end() - self.data()) as u32;
        let wanted = self.length().min(most);
        if there < wanted {
            // SAFETY: as in `gather_headers`.
            unsafe { bpf_skb_pull_data(self.0, wanted) };
        }
    }

    /// The IP header of a packet of this kind, wherever it begins, if it is in one piece.
    #[inline(always)]
    fn network_header(&self, ethertype: u16) -> Option<[u32; general::HEAD]> {
        let length = match ethertype {
            frame::ETHERTYPE_IPV4 => 20,
            frame::ETHERTYPE_IPV6 => 40,
            _ => return None,
        };
        let mut head = [0; general::HEAD];
        // SAFETY: the program's own context, and no more than there is room for.
        let read = unsafe {
            bpf_skb_load_bytes_relative(
                self.0.cast(),
                0,
                head.as_mut_ptr().cast(),
                length,
                BPF_HDR_START_NET,
            )
        };
        (read == 0).then_some(head)
    }

    /// True: the IP header begins here in the frame.
    #[inline(always)]
    fn is_at(&self, offset: usize, head: &[u32; general::HEAD]) -> bool {
        let Some(here) = self.window(offset, 20) else {
            return false;
        };
        let differs = (0..5).fold(0, |bits, word| bits | here.u32(4 * word) ^ head[word]);
        differs == 0
    }

    /// Makes room for an Ethernet header in front.
    #[inline(always)]
    fn open_front(&self) -> bool {
        // SAFETY: the program's own context.
        unsafe { bpf_skb_change_head(self.0, ETHERNET as u32, 0) == 0 }
    }

    /// True: the Ethernet header is none that the packet leaves with.
    #[inline(always)]
    fn is_borrowed(&self) -> bool {
        let [low, high] = borrowed_note();
        field!(self.cb)[NOTE] ^ low | field!(self.cb)[NOTE + 1] ^ high == 0
    }

    #[inline(always)]
    fn note_borrowed(&self, is_borrowed: bool) {
        let [low, high] = if is_borrowed { borrowed_note() } else { [0; 2] };
        // SAFETY: the verifier lets programs write this field of their context.
        unsafe {
            (*self.0).cb[NOTE] = low;
            (*self.0).cb[NOTE + 1] = high;
        }
    }

    /// Sends the packet to where it leaves once more; the kernel takes the Ethernet header
    /// off, since there is none there.
    #[inline(always)]
    fn give_back(&self) -> i32 {
        let interface = field!(self.ifindex);
        // SAFETY: plain numbers.
        unsafe { bpf_redirect(interface, 0) as i32 }
    }

    #[inline(always)]
    fn replace(&self, offset: usize, difference: u64, flags: u32) -> bool {
        // SAFETY: the program's own context; the helper checks the offset. No size among the
        // flags: it takes a difference of sums.
        unsafe { bpf_l4_csum_replace(self.0, offset as u32, 0, difference, u64::from(flags)) == 0 }
    }
}

store!(Kernel, |kernel| field!(kernel.len));

impl Host for Kernel {
    type Window = Bytes;
    const FINISHES: bool = true;

    #[inline(always)]
    fn window(&self, offset: usize, length: usize) -> Option<Bytes> {
        window(self.data(), self.end(), offset, length)
    }

    #[inline(always)]
    fn length(&self) -> u32 {
        field!(self.len)
    }

    #[inline(always)]
    fn piece(&self) -> u32 {
        field!(self.gso_size)
    }

    #[inline(always)]
    fn is_tagged(&self) -> bool {
        field!(self.vlan_present) != 0
    }

    #[inline(always)]
    fn is_for_us(&self, _frame: Bytes) -> bool {
        field!(self.pkt_type) == PACKET_HOST
    }

    #[inline(always)]
    fn can_change_checksum(&self, _present: u16, _pseudo_header: u64) -> bool {
        true
    }

    #[inline(always)]
    fn change_transport_checksum(&self, change: ChecksumChange) -> bool {
        let keep_zero = if change.zero_is_none {
            BPF_F_MARK_MANGLED_0
        } else {
            0
        };
        let address = u64::from(change.address);
        if !self.replace(change.offset, address, BPF_F_PSEUDO_HDR | keep_zero) {
            return false;
        }
        change.ports == 0 || self.replace(change.offset, u64::from(change.ports), keep_zero)
    }

    #[inline(always)]
    fn route(&self, source: u32, destination: u32, protocol: u8) -> Route {
        routing::lookup(
            self.0.cast(),
            field!(self.ifindex),
            source,
            destination,
            protocol,
        )
    }

    #[inline(always)]
    fn wide_route(&self, source: Address, destination: Address, protocol: u8) -> Route {
        routing::wide_lookup(
            self.0.cast(),
            field!(self.ifindex),
            source,
            destination,
            protocol,
        )
    }

    #[inline(always)]
    fn ingress(&self) -> u32 {
        field!(self.ifindex)
    }

    #[inline(always)]
    fn mark(&self) -> u32 {
        field!(self.mark)
    }

    #[inline(always)]
    fn grow(&self, wanted: Room) -> bool {
        let network = if wanted.is_ipv6 {
            room::L3_IPV6
        } else {
            room::L3_IPV4
        };
        let flags = match wanted.header {
            Header::Answer => 0,
            Header::Ip => network,
            Header::Udp => network | room::L4_UDP,
            Header::Gre => network | room::L4_GRE,
        };
        // SAFETY: the program's own context.
        unsafe { bpf_skb_adjust_room(self.0, wanted.bytes as i32, room::MAC, flags) == 0 }
    }

    #[inline(always)]
    fn keep(&self, arrival: Arrival) {
        maps::keep(arrival);
    }

    #[inline(always)]
    fn step(&self, next: u32, offset: u32) -> u64 {
        evenkeel_tc_step(self.0, next, offset)
    }

    #[inline(always)]
    fn parse_transport(&self) -> u32 {
        evenkeel_tc_parse_transport(self.0)
    }

    #[inline(always)]
    fn read_transport(&self) -> u64 {
        evenkeel_tc_read_transport(self.0)
    }

    #[inline(always)]
    fn parse_quoted(&self) -> u32 {
        evenkeel_tc_parse_quoted(self.0)
    }

    #[inline(always)]
    fn parse_tunnelled(&self) -> u32 {
        evenkeel_tc_parse_tunnelled(self.0)
    }

    #[inline(always)]
    fn call_id(&self) -> u64 {
        evenkeel_tc_call_id(self.0)
    }

    #[inline(always)]
    fn gather(&self, length: u32) {
        // SAFETY: as in `gather_headers`.
        unsafe { bpf_skb_pull_data(self.0, length.min(self.length())) };
    }

    #[inline(always)]
    fn call_name(&self, begin: u32) -> u32 {
        evenkeel_tc_call_name(self.0, begin)
    }

    #[inline(always)]
    fn find_segment(&self) -> u32 {
        evenkeel_tc_find_segment(self.0)
    }

    #[inline(always)]
    fn parse_ipv4(&self) -> u32 {
        evenkeel_tc_parse_ipv4(self.0)
    }

    #[inline(always)]
    fn parse_ipv6(&self) -> u32 {
        evenkeel_tc_parse_ipv6(self.0)
    }

    #[inline(always)]
    fn extensions(&self, next: u32) -> u64 {
        evenkeel_tc_extensions(self.0, next)
    }

    #[inline(always)]
    fn cut(&self, length: u32) -> bool {
        // SAFETY: the program's own context.
        unsafe { bpf_skb_change_tail(self.0, length, 0) == 0 }
    }
}

/// [`general::step`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn evenkeel_tc_step(context: *mut __sk_buff, next: u32, offset: u32) -> u64 {
    general::step(&Kernel(context), next, offset)
}

/// [`general::parse_transport`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn evenkeel_tc_parse_transport(context: *mut __sk_buff) -> u32 {
    general::parse_transport(&Kernel(context))
}

/// [`general::read_transport`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn evenkeel_tc_read_transport(context: *mut __sk_buff) -> u64 {
    general::read_transport(&Kernel(context))
}

/// [`general::parse_quoted`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn evenkeel_tc_parse_quoted(context: *mut __sk_buff) -> u32 {
    general::parse_quoted(&Kernel(context))
}

/// [`general::parse_tunnelled`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn evenkeel_tc_parse_tunnelled(context: *mut __sk_buff) -> u32 {
    general::parse_tunnelled(&Kernel(context))
}

/// [`general::call_id`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn evenkeel_tc_call_id(context: *mut __sk_buff) -> u64 {
    general::call_id(&Kernel(context))
}

/// [`general::call_name`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn evenkeel_tc_call_name(context: *mut __sk_buff, begin: u32) -> u32 {
    general::call_name(&Kernel(context), begin)
}

/// [`general::find_segment`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn evenkeel_tc_find_segment(context: *mut __sk_buff) -> u32 {
    general::find_segment(&Kernel(context))
}

/// [`general::parse_ipv4`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn evenkeel_tc_parse_ipv4(context: *mut __sk_buff) -> u32 {
    general::parse_ipv4(&Kernel(context))
}

/// [`general::parse_ipv6`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn evenkeel_tc_parse_ipv6(context: *mut __sk_buff) -> u32 {
    general::parse_ipv6(&Kernel(context))
}

/// [`general::extensions`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn evenkeel_tc_extensions(context: *mut __sk_buff, next: u32) -> u64 {
    general::extensions(&Kernel(context), next)
}
