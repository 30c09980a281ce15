//! The blocks of failover.

use super::{Block, Keyword, LONG, S, Takes, U32, kw, later};

/// Longest time of most keywords of VRRP.
const MINUTES: u64 = 1000 * S;
const TRACKED: &str = "NAME [weight NUMBER [reverse|noreverse]]";
const ADDRESS: &str = "ADDRESS[/BITS] [dev INTERFACE] [label NAME] [no_track] …";
const ROUTE: &str = "a route, as ip route add has it";
const RULE: &str = "a rule, as ip rule add has it";

/// What instances and groups have in common.
const TRACK: &[Keyword] = &[
    later(
        "track_interface",
        Takes::Lines("", "INTERFACE [weight NUMBER [reverse]]"),
        "Interfaces that have to be up, or that change the priority.",
    ),
    later(
        "track_script",
        Takes::Lines("", TRACKED),
        "Scripts that have to succeed, or that change the priority.",
    ),
    later(
        "track_file",
        Takes::Lines("", TRACKED),
        "Files whose number changes the priority.",
    ),
    later(
        "track_process",
        Takes::Lines("", TRACKED),
        "Processes that have to run, or that change the priority.",
    ),
    later(
        "track_bfd",
        Takes::Lines("", TRACKED),
        "BFD sessions that have to be up, or that change the priority.",
    ),
    later(
        "notify",
        Takes::Script,
        "Program that is run at every change of state.",
    ),
    later(
        "notify_master",
        Takes::Script,
        "Program that is run when it becomes master.",
    ),
    later(
        "notify_backup",
        Takes::Script,
        "Program that is run when it becomes backup.",
    ),
    later(
        "notify_fault",
        Takes::Script,
        "Program that is run when it finds a fault.",
    ),
    later(
        "notify_stop",
        Takes::Script,
        "Program that is run when the daemon ends.",
    ),
    later(
        "smtp_alert",
        Takes::Switch,
        "Mail at every change of state.",
    ),
    later(
        "notify_priority_changes",
        Takes::Switch,
        "Programs and pipes are told of changes of the priority as well.",
    )
    .or("vrrp_notify_priority_changes of global_defs"),
];

/// `vrrp_instance`
pub(super) static INSTANCE: Block = Block {
    name: "vrrp_instance",
    keywords: &[ELECTION, NETWORK, ANNOUNCEMENT, MORE, TRACK],
};

const ELECTION: &[Keyword] = &[
    later(
        "state",
        Takes::Choice(&["MASTER", "BACKUP"]),
        "The state that is wanted at the start; the priorities decide all the same.",
    )
    .or("BACKUP"),
    later(
        "interface",
        Takes::Word("INTERFACE"),
        "Where it speaks to the others.",
    ),
    later(
        "virtual_router_id",
        Takes::Number(1, 255),
        "Number of the virtual router, the same on all of its directors.",
    ),
    later(
        "priority",
        Takes::Number(1, 255),
        "The director with the greatest becomes master; 255: the owner of the address.",
    )
    .or("100; with state MASTER 255"),
    later(
        "advert_int",
        Takes::Seconds(10_000, 255 * S),
        "Seconds between adverts.",
    )
    .or("1"),
    later(
        "authentication",
        Takes::Block(&AUTHENTICATION, ""),
        "Version 2: how adverts are told from forged ones.",
    ),
    later(
        "version",
        Takes::Choice(&["2", "3"]),
        "Version of the protocol.",
    )
    .or("vrrp_version of global_defs"),
    later(
        "nopreempt",
        Takes::Nothing,
        "It does not take over from a master of lower priority.",
    ),
    later(
        "preempt",
        Takes::Nothing,
        "It takes over from a master of lower priority.",
    ),
    later(
        "preempt_delay",
        Takes::Seconds(0, MINUTES),
        "Seconds that it waits before it takes over.",
    )
    .or("0"),
    later(
        "down_timer_adverts",
        Takes::Number(1, 100),
        "So many adverts have to be missing before it takes over.",
    )
    .or("vrrp_down_timer_adverts of global_defs"),
    later(
        "timer_expired_backup",
        Takes::Words(0, "[PRIORITY]"),
        "A master that was held up becomes backup first.",
    )
    .since("2.3.0"),
];

const NETWORK: &[Keyword] = &[
    later(
        "virtual_ipaddress",
        Takes::Lines("", ADDRESS),
        "Addresses that the master has, and announces.",
    ),
    later(
        "virtual_ipaddress_excluded",
        Takes::Lines("", ADDRESS),
        "Addresses that the master has, and does not announce.",
    ),
    later(
        "no_virtual_ipaddress",
        Takes::Nothing,
        "It has no addresses on purpose.",
    )
    .since("2.2.8"),
    later(
        "virtual_routes",
        Takes::Lines("", ROUTE),
        "Routes that the master has.",
    ),
    later(
        "virtual_rules",
        Takes::Lines("", RULE),
        "Routing rules that the master has.",
    ),
    later(
        "unicast_src_ip",
        Takes::Address,
        "Address that adverts to the peers come from.",
    ),
    later(
        "unicast_peer",
        Takes::Lines("", "ADDRESS [min_ttl NUMBER] [max_ttl NUMBER]"),
        "The other directors, in place of multicast.",
    ),
    later(
        "unicast_fault_no_peer",
        Takes::Nothing,
        "Without a peer it is in fault.",
    ),
    later(
        "unicast_ttl",
        Takes::Number(0, 255),
        "Time to live of adverts to the peers.",
    )
    .or("255"),
    later(
        "check_unicast_src",
        Takes::Nothing,
        "Adverts are taken from the peers alone.",
    ),
    later(
        "mcast_src_ip",
        Takes::Address,
        "Address that adverts by multicast come from.",
    ),
    later(
        "mcast_dst_ip",
        Takes::Address,
        "Multicast group of the adverts.",
    ),
    later(
        "track_src_ip",
        Takes::Nothing,
        "Without its source address it is in fault.",
    ),
    later(
        "use_vmac",
        Takes::Words(0, "[NAME] [MAC]"),
        "Adverts and addresses have the virtual router's own MAC address.",
    ),
    later(
        "use_vmac_addr",
        Takes::Nothing,
        "Addresses on other interfaces have MAC addresses of their own as well.",
    ),
    later(
        "vmac_xmit_base",
        Takes::Nothing,
        "Adverts leave by the interface below the virtual one.",
    ),
    later(
        "use_ipvlan",
        Takes::Words(0, "[NAME] [ADDRESS] [bridge|private|vepa]"),
        "An IPVLAN interface in place of one with a MAC address of its own.",
    ),
    later(
        "vrf",
        Takes::Word("INTERFACE"),
        "The virtual routing domain that its interfaces are in.",
    ),
    later(
        "native_ipv6",
        Takes::Nothing,
        "Needed no more: the addresses tell the family.",
    ),
    later(
        "promote_secondaries",
        Takes::Nothing,
        "Secondary addresses stay when the first is removed.",
    ),
    later(
        "dont_track_primary",
        Takes::Nothing,
        "Its own interface may be down.",
    ),
    later(
        "linkbeat_use_polling",
        Takes::Nothing,
        "Links are asked again and again how they are.",
    ),
];

const ANNOUNCEMENT: &[Keyword] = &[
    later(
        "garp_master_delay",
        Takes::Seconds(0, 4294 * S),
        "Seconds until the second burst of gratuitous ARP of a new master.",
    )
    .or("vrrp_garp_master_delay of global_defs"),
    later(
        "garp_master_repeat",
        Takes::Number(1, U32),
        "Packets in a burst of gratuitous ARP.",
    )
    .or("vrrp_garp_master_repeat of global_defs"),
    later(
        "garp_master_refresh",
        Takes::Seconds(0, 4294 * S),
        "Seconds between bursts while it is master; 0: none.",
    )
    .or("vrrp_garp_master_refresh of global_defs"),
    later(
        "garp_master_refresh_repeat",
        Takes::Number(1, U32),
        "Packets in each of these bursts.",
    )
    .or("vrrp_garp_master_refresh_repeat of global_defs"),
    later(
        "garp_lower_prio_delay",
        Takes::Seconds(0, 4294 * S),
        "Seconds until the second burst after an advert of lower priority.",
    )
    .or("vrrp_garp_lower_prio_delay of global_defs"),
    later(
        "garp_lower_prio_repeat",
        Takes::Number(0, U32),
        "Packets in a burst after an advert of lower priority.",
    )
    .or("vrrp_garp_lower_prio_repeat of global_defs"),
    later(
        "garp_extra_if",
        Takes::Words(1, "[all] SECONDS"),
        "Gratuitous ARP again and again on other interfaces as well.",
    )
    .or("vrrp_garp_extra_if of global_defs"),
    later(
        "vmac_garp_intvl",
        Takes::Words(1, "[all] SECONDS"),
        "Gratuitous ARP again and again on other interfaces as well.",
    )
    .old("garp_extra_if"),
    later(
        "lower_prio_no_advert",
        Takes::Switch,
        "A master does not answer adverts of lower priority.",
    )
    .or("vrrp_lower_prio_no_advert of global_defs"),
    later(
        "higher_prio_send_advert",
        Takes::Switch,
        "A master sends one more advert when it sees one of higher priority.",
    )
    .or("vrrp_higher_prio_send_advert of global_defs"),
    later(
        "owner_ignore_adverts",
        Takes::Switch,
        "The owner of the address ignores the adverts of others.",
    )
    .since("2.2.8"),
];

const MORE: &[Keyword] = &[
    later(
        "accept",
        Takes::Nothing,
        "What is sent to the virtual addresses is taken.",
    ),
    later(
        "no_accept",
        Takes::Nothing,
        "What is sent to the virtual addresses is dropped unless this director owns them.",
    ),
    later(
        "skip_check_adv_addr",
        Takes::Switch,
        "The addresses in adverts are not compared again and again.",
    )
    .or("vrrp_skip_check_adv_addr of global_defs"),
    later(
        "strict_mode",
        Takes::Switch,
        "What the standard does not know is refused.",
    )
    .or("vrrp_strict of global_defs"),
    later(
        "old_unicast_checksum",
        Takes::Words(0, "[never]"),
        "Checksums of unicast adverts as old releases had them.",
    ),
    later(
        "v3_checksum_as_v2",
        Takes::Switch,
        "Checksums of version 3 without the addresses of the IPv4 header.",
    )
    .since("2.2.8"),
    later(
        "lvs_sync_daemon_interface",
        Takes::Word("INTERFACE"),
        "Interface that connections are synchronised by.",
    )
    .old("lvs_sync_daemon"),
    later(
        "kernel_rx_buf_size",
        Takes::Number(1, U32),
        "Size of the receive buffer in bytes.",
    ),
    later("debug", Takes::Number(0, 4), "How much is logged.").or("0"),
    later(
        "notify_deleted",
        Takes::Script,
        "Program that is run when a reload removes the instance.",
    ),
    later(
        "notify_master_rx_lower_pri",
        Takes::Script,
        "Program that is run when a master sees an advert of lower priority.",
    ),
    later(
        "auth_hmac",
        Takes::Lines("", "a key or a setting"),
        "Adverts are signed.",
    )
    .since("2.3.2"),
];

static AUTHENTICATION: Block = Block {
    name: "authentication",
    keywords: &[&[
        later(
            "auth_type",
            Takes::Choice(&["PASS", "AH"]),
            "By a password in each advert, or by a signature.",
        ),
        later(
            "auth_pass",
            Takes::Word("PASSWORD"),
            "The password; its first 8 characters count.",
        ),
    ]],
};

/// `vrrp_sync_group`
pub(super) static SYNC_GROUP: Block = Block {
    name: "vrrp_sync_group",
    keywords: &[
        &[
            later(
                "group",
                Takes::Lines("", "INSTANCE"),
                "Instances that change their state together.",
            ),
            later(
                "global_tracking",
                Takes::Nothing,
                "What one instance tracks counts for all.",
            )
            .old("sync_group_tracking_weight"),
            later(
                "sync_group_tracking_weight",
                Takes::Nothing,
                "What the group tracks may have weights.",
            ),
        ],
        TRACK,
    ],
};

/// `vrrp_script`
pub(super) static SCRIPT: Block = Block {
    name: "vrrp_script",
    keywords: &[&[
        later(
            "script",
            Takes::Words(1, "COMMAND"),
            "The program, in quotes if it has arguments.",
        ),
        later(
            "interval",
            Takes::Seconds(1, MINUTES),
            "Seconds between runs.",
        )
        .or("1"),
        later(
            "timeout",
            Takes::Seconds(1, MINUTES),
            "Seconds after which the program has failed.",
        )
        .or("interval"),
        later(
            "weight",
            Takes::Signed(-253, 253, &["reverse"]),
            "What is added to the priority; 0: failure is a fault.",
        )
        .or("0"),
        later(
            "rise",
            Takes::Number(1, i32::MAX as u64),
            "Successes until it is well.",
        )
        .or("1"),
        later(
            "fall",
            Takes::Number(1, i32::MAX as u64),
            "Failures until it is not.",
        )
        .or("1"),
        later(
            "user",
            Takes::Words(1, "USER [GROUP]"),
            "Whom the program runs as.",
        )
        .or("script_user"),
        later(
            "init_fail",
            Takes::Nothing,
            "It counts as failed until its first success.",
        ),
    ]],
};

/// `vrrp_track_process`
pub(super) static PROCESS: Block = Block {
    name: "vrrp_track_process",
    keywords: &[&[
        later(
            "process",
            Takes::Words(1, "NAME [ARGUMENT …]"),
            "The program whose processes are counted.",
        ),
        later(
            "param_match",
            Takes::Words(0, "[initial|partial]"),
            "How the arguments are compared.",
        ),
        later(
            "weight",
            Takes::Signed(-254, 254, &["reverse"]),
            "What is added to the priority; 0: too few are a fault.",
        )
        .or("1"),
        later(
            "quorum",
            Takes::Number(1, 65_535),
            "Least number of processes.",
        )
        .or("1"),
        later(
            "quorum_max",
            Takes::Number(0, 65_535),
            "Greatest number of processes.",
        ),
        later(
            "delay",
            Takes::Seconds(0, LONG),
            "Seconds until a change counts.",
        )
        .or("0"),
        later(
            "fork_delay",
            Takes::Seconds(0, LONG),
            "Seconds until a new process counts.",
        )
        .or("0"),
        later(
            "terminate_delay",
            Takes::Seconds(0, LONG),
            "Seconds until the end of a process counts.",
        )
        .or("0"),
        later(
            "full_command",
            Takes::Nothing,
            "The name is compared with the whole command, not with its first 15 characters.",
        ),
    ]],
};

/// `garp_group`
pub(super) static GARP_GROUP: Block = Block {
    name: "garp_group",
    keywords: &[&[
        later(
            "garp_interval",
            Takes::Seconds(0, LONG),
            "Seconds between packets of gratuitous ARP.",
        ),
        later(
            "gna_interval",
            Takes::Seconds(0, LONG),
            "Seconds between neighbour advertisements.",
        ),
        later(
            "interface",
            Takes::Word("INTERFACE"),
            "The interface that this holds for.",
        ),
        later(
            "interfaces",
            Takes::Lines("", "INTERFACE"),
            "Interfaces that have these pauses in common.",
        ),
    ]],
};

/// `track_group`
pub(super) static TRACK_GROUP: Block = Block {
    name: "track_group",
    keywords: &[&[later(
        "group",
        Takes::Lines("", "INSTANCE"),
        "Instances that go into fault when something of the group is lost.",
    )]],
};

/// What stands outside of blocks.
pub(super) const TOP: &[Keyword] = &[
    later(
        "vrrp_instance",
        Takes::Block(&INSTANCE, "NAME"),
        "A virtual router of VRRP.",
    ),
    later(
        "vrrp_sync_group",
        Takes::Block(&SYNC_GROUP, "NAME"),
        "Instances that change their state together.",
    ),
    later(
        "vrrp_script",
        Takes::Block(&SCRIPT, "NAME"),
        "A program whose end changes priorities.",
    ),
    later(
        "vrrp_track_process",
        Takes::Block(&PROCESS, "NAME"),
        "Processes whose number changes priorities.",
    ),
    later(
        "garp_group",
        Takes::Block(&GARP_GROUP, ""),
        "Pauses between gratuitous ARP on some interfaces.",
    ),
    later(
        "track_group",
        Takes::Block(&TRACK_GROUP, "NAME"),
        "What instances go into fault with static addresses, routes and rules.",
    ),
    later(
        "interface_up_down_delays",
        Takes::Lines("", "INTERFACE DOWN [UP]"),
        "Seconds until a change of an interface counts.",
    ),
    later(
        "linkbeat_interfaces",
        Takes::Lines("", "INTERFACE [MII|ETHTOOL|IOCTL]"),
        "Interfaces that are asked again and again how they are.",
    ),
    later(
        "static_ipaddress",
        Takes::Lines("", ADDRESS),
        "Addresses that this machine always has.",
    ),
    later(
        "static_routes",
        Takes::Lines("", ROUTE),
        "Routes that this machine always has.",
    ),
    later(
        "static_rules",
        Takes::Lines("", RULE),
        "Routing rules that this machine always has.",
    ),
    later(
        "bfd_instance",
        Takes::Block(&super::bfd::BFD, "NAME"),
        "A BFD session.",
    ),
    kw(
        "track_file",
        Takes::Block(&super::services::TRACK_FILE, "NAME"),
        "A file with a number that changes weights and priorities; it stands before what uses it.",
    ),
    kw(
        "vrrp_track_file",
        Takes::Block(&super::services::TRACK_FILE, "NAME"),
        "A file with a number that changes weights and priorities; it stands before what uses it.",
    )
    .old("track_file"),
];
