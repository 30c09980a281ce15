//! The parts of the general way, each with its programs at XDP and at tc; and how one leads
//! to another.

/// Calls a macro with all of them.
macro_rules! all_parts {
    ($what:ident) => {
        $what! {
            General: evenkeel_xdp_general, evenkeel_tc_general;
            Inbound: evenkeel_xdp_inbound, evenkeel_tc_inbound;
            WideInbound: evenkeel_xdp_wide_inbound, evenkeel_tc_wide_inbound;
            OnePacket: evenkeel_xdp_one_packet, evenkeel_tc_one_packet;
            Outbound: evenkeel_xdp_outbound, evenkeel_tc_outbound;
            WideOutbound: evenkeel_xdp_wide_outbound, evenkeel_tc_wide_outbound;
            Choose: evenkeel_xdp_choose, evenkeel_tc_choose;
            Icmp: evenkeel_xdp_icmp, evenkeel_tc_icmp;
            Answer: evenkeel_xdp_answer, evenkeel_tc_answer;
            Fragment: evenkeel_xdp_fragment, evenkeel_tc_fragment;
            Translated: evenkeel_xdp_translated, evenkeel_tc_translated;
            Translate: evenkeel_xdp_translate, evenkeel_tc_translate;
            Open: evenkeel_xdp_open, evenkeel_tc_open;
            WideOpen: evenkeel_xdp_wide_open, evenkeel_tc_wide_open;
            Deliver: evenkeel_xdp_deliver, evenkeel_tc_deliver;
            TunnelError: evenkeel_xdp_tunnel_error, evenkeel_tc_tunnel_error;
            IcmpDeliver: evenkeel_xdp_icmp_deliver, evenkeel_tc_icmp_deliver;
            TranslatedIcmp: evenkeel_xdp_translated_icmp, evenkeel_tc_translated_icmp;
            IcmpOpen: evenkeel_xdp_icmp_open, evenkeel_tc_icmp_open;
            Nobody: evenkeel_xdp_nobody, evenkeel_tc_nobody;
            Segment: evenkeel_xdp_segment, evenkeel_tc_segment;
            Ipv6: evenkeel_xdp_ipv6, evenkeel_tc_ipv6;
            Reply: evenkeel_xdp_reply, evenkeel_tc_reply;
            WideReply: evenkeel_xdp_wide_reply, evenkeel_tc_wide_reply;
            ReplyFragment: evenkeel_xdp_reply_fragment, evenkeel_tc_reply_fragment;
            ReplyError: evenkeel_xdp_reply_error, evenkeel_tc_reply_error;
            FirstFragment: evenkeel_xdp_first_fragment, evenkeel_tc_first_fragment;
        }
    };
}
pub(crate) use all_parts;

/// Goes on with a part: `$part`, by the array `$parts`. Comes back only if there is no such
/// program.
///
/// For every part there is a call of its own, with a constant that the kernel makes a plain
/// jump of. One call for all would be an indirect jump, which takes as long as a look into a
/// table. What follows the calls differs, lest the compiler make one of all again.
macro_rules! go_on {
    ($parts:expr, $context:expr, $part:expr) => {{
        macro_rules! calls {
            ($$($$name:ident: $$xdp:ident, $$tc:ident;)+) => {
                match $part {
                    $$(Part::$$name => {
                        // SAFETY: the context is the program's own, and of the array's kind.
                        unsafe {
                            $parts.tail_call($context, Part::$$name as u32);
                            core::arch::asm!("{0} = {1}", out(reg) _, const Part::$$name as u32);
                        }
                    })+
                }
            };
        }
        $crate::parts::all_parts!(calls);
    }};
}
pub(crate) use go_on;
