//! What `global_defs` says of failover.

use super::{Keyword, LONG, S, Takes, U32, later};

const SECONDS: Takes = Takes::Seconds(0, LONG);

/// What `global_defs` says of VRRP.
pub(super) const GLOBAL: &[Keyword] = &[
    later(
        "default_interface",
        Takes::Word("INTERFACE"),
        "Interface of addresses that name none.",
    )
    .or("eth0"),
    later(
        "vrrp_mcast_group4",
        Takes::Address,
        "Multicast group of IPv4.",
    )
    .or("224.0.0.18"),
    later(
        "vrrp_mcast_group6",
        Takes::Address,
        "Multicast group of IPv6.",
    )
    .or("ff02::12"),
    later(
        "vrrp_version",
        Takes::Choice(&["2", "3"]),
        "Version of VRRP over IPv4.",
    )
    .or("2"),
    later(
        "vrrp_garp_master_delay",
        Takes::Seconds(0, 4294 * S),
        "Seconds until the second burst of gratuitous ARP of a new master; 0: none.",
    )
    .or("5"),
    later(
        "vrrp_garp_master_repeat",
        Takes::Number(1, U32),
        "Packets in a burst of gratuitous ARP.",
    )
    .or("5"),
    later(
        "vrrp_garp_master_refresh",
        Takes::Seconds(0, 4294 * S),
        "Seconds between bursts of a master; 0: none.",
    )
    .or("0"),
    later(
        "vrrp_garp_master_refresh_repeat",
        Takes::Number(1, U32),
        "Packets in each of these bursts.",
    )
    .or("1"),
    later(
        "vrrp_garp_lower_prio_delay",
        Takes::Seconds(0, 4294 * S),
        "Seconds until the second burst after an advert of lower priority.",
    )
    .or("vrrp_garp_master_delay"),
    later(
        "vrrp_garp_lower_prio_repeat",
        Takes::Number(0, U32),
        "Packets in a burst after an advert of lower priority.",
    )
    .or("vrrp_garp_master_repeat"),
    later(
        "vrrp_garp_interval",
        SECONDS,
        "Seconds between packets of gratuitous ARP.",
    )
    .or("0"),
    later(
        "vrrp_gna_interval",
        SECONDS,
        "Seconds between neighbour advertisements.",
    )
    .or("0"),
    later(
        "vrrp_min_garp",
        Takes::Switch,
        "One packet of gratuitous ARP, and no second burst.",
    )
    .or("off"),
    later(
        "vrrp_garp_extra_if",
        Takes::Words(1, "[all] SECONDS"),
        "Gratuitous ARP again and again on other interfaces as well.",
    )
    .or("0"),
    later(
        "vrrp_vmac_garp_intvl",
        Takes::Words(1, "[all] SECONDS"),
        "Gratuitous ARP again and again on other interfaces as well.",
    )
    .old("vrrp_garp_extra_if"),
    later(
        "vrrp_down_timer_adverts",
        Takes::Number(1, 100),
        "So many adverts have to be missing before a backup takes over.",
    )
    .or("3"),
    later(
        "vrrp_lower_prio_no_advert",
        Takes::Switch,
        "A master does not answer adverts of lower priority.",
    )
    .or("off"),
    later(
        "vrrp_higher_prio_send_advert",
        Takes::Switch,
        "A master sends one more advert when it sees one of higher priority.",
    )
    .or("off"),
    later(
        "vrrp_check_unicast_src",
        Takes::Nothing,
        "Unicast adverts are taken from the peers alone.",
    ),
    later(
        "vrrp_skip_check_adv_addr",
        Takes::Switch,
        "The addresses in adverts are not compared again and again.",
    )
    .or("off"),
    later(
        "vrrp_strict",
        Takes::Nothing,
        "What the standard of VRRP does not know is refused.",
    ),
    later(
        "vrrp_iptables",
        Takes::Words(0, "[CHAIN-IN [CHAIN-OUT]]"),
        "What no_accept drops is dropped by iptables.",
    ),
    later(
        "vrrp_ipsets",
        Takes::Words(0, "[NAME …]"),
        "Sets that the rules of iptables use.",
    ),
    later(
        "nftables",
        Takes::Words(0, "[TABLE]"),
        "What no_accept drops is dropped by nftables.",
    ),
    later(
        "nftables_priority",
        Takes::Signed(i32::MIN as i64, i32::MAX as i64, &[]),
        "Priority of the chains of nftables.",
    )
    .or("-1"),
    later(
        "nftables_ifindex",
        Takes::Nothing,
        "Rules of nftables name interfaces by number.",
    ),
    later(
        "nftables_counters",
        Takes::Nothing,
        "Rules of nftables count.",
    ),
    later(
        "disable_local_igmp",
        Takes::Nothing,
        "Addresses of MAC interfaces join no multicast groups.",
    ),
    later(
        "v3_checksum_as_v2",
        Takes::Switch,
        "Checksums of version 3 without the addresses of the IPv4 header.",
    )
    .or("off")
    .since("2.2.8"),
    later(
        "dynamic_interfaces",
        Takes::Words(0, "[allow_if_changes]"),
        "Interfaces may come after the start.",
    ),
    later(
        "vrrp_startup_delay",
        SECONDS,
        "Seconds until the instances start.",
    )
    .or("0"),
    later(
        "vrrp_delay_after_boot",
        SECONDS,
        "Seconds from the machine's start until the instances start.",
    )
    .or("0")
    .since("2.2.8"),
    later(
        "vrrp_owner_ignore_adverts",
        Takes::Switch,
        "The owner of an address ignores the adverts of others.",
    )
    .or("off")
    .since("2.2.8"),
    later(
        "log_unknown_vrids",
        Takes::Nothing,
        "Adverts of routers that are not configured are logged.",
    ),
    later(
        "vmac_prefix",
        Takes::Word("TEXT"),
        "How names of MAC interfaces begin.",
    )
    .or("vrrp"),
    later(
        "vmac_addr_prefix",
        Takes::Word("TEXT"),
        "How names of MAC interfaces of addresses begin.",
    )
    .or("vmac_prefix"),
    later(
        "vrrp_rx_bufs_policy",
        Takes::Words(1, "MTU|ADVERT|BYTES …"),
        "Size of receive buffers.",
    ),
    later(
        "vrrp_rx_bufs_multiplier",
        Takes::Number(1, U32),
        "Packets that a receive buffer has room for.",
    )
    .or("3"),
];
