//! What stands outside of blocks, and `global_defs`.

use super::services::{GROUP_LINE, SSL, VIRTUAL_SERVER};
use super::{Block, Keyword, LONG, S, Takes, U32, idle, kw, later};

/// What stands outside of all blocks.
pub static ROOT: Block = Block {
    name: "",
    keywords: &[TOP, super::vrrp::TOP],
};

const SYSTEMD: &str = "systemd does it";
const NAMESPACE: &str = "the daemon runs in the namespace that it is started in";
const ONE_PROCESS: &str = "there is one process";
const SNMP: &str = "there is no SNMP";
const DBUS: &str = "there is no D-Bus interface";
const DUMP: &str = "evenkeel status shows it";
const NFTABLES: &str = "services by groups need no netfilter here";
const BUFFERS: &str = "its sockets are sized by the daemon";
const RELOAD: &str = "a reload reads the files when it is asked to";

const TOP: &[Keyword] = &[
    kw(
        "global_defs",
        Takes::Block(&GLOBAL, ""),
        "What holds for everything.",
    ),
    kw(
        "virtual_server",
        Takes::Block(&VIRTUAL_SERVER, "ADDRESS [PORT]|fwmark MARK|group NAME"),
        "A service, or those of a group, and its servers.",
    ),
    kw(
        "virtual_server_group",
        Takes::Lines("NAME", GROUP_LINE),
        "Services that share their servers.",
    ),
    kw(
        "SSL",
        Takes::Block(&SSL, ""),
        "Certificates and keys of SSL_GET.",
    ),
    idle(
        "instance",
        Takes::Word("NAME"),
        "The director's name among several on a machine.",
        "evenkeel run --instance says it",
    ),
    idle(
        "net_namespace",
        Takes::Word("NAME"),
        "The network namespace that it runs in.",
        NAMESPACE,
    ),
    idle(
        "net_namespace_ipvs",
        Takes::Words(0, "[NAME]"),
        "The network namespace that IPVS is in.",
        NAMESPACE,
    ),
    idle(
        "namespace_with_ipsets",
        Takes::Nothing,
        "Sets of netfilter in namespaces.",
        NFTABLES,
    ),
    idle(
        "use_pid_dir",
        Takes::Nothing,
        "Where the files with process numbers are.",
        "there are none",
    ),
    idle(
        "child_wait_time",
        Takes::Seconds(0, LONG),
        "Seconds that child processes have to end.",
        ONE_PROCESS,
    )
    .or("5"),
    later(
        "linkbeat_use_polling",
        Takes::Nothing,
        "Links are asked again and again how they are.",
    ),
];

static GLOBAL: Block = Block {
    name: "global_defs",
    keywords: &[
        ALERTS,
        CHECKS,
        VRRP,
        PROCESSES,
        VRRP_PROCESS,
        CHECKER_PROCESS,
        BFD_PROCESS,
        OTHERS,
    ],
};

const ALERTS: &[Keyword] = &[
    kw(
        "router_id",
        Takes::Word("NAME"),
        "The director's name in the subjects of mail.",
    )
    .or("the machine's name"),
    kw(
        "notification_email",
        Takes::Lines("", "MAIL-ADDRESS"),
        "Who gets mail.",
    ),
    kw(
        "notification_email_from",
        Takes::Word("MAIL-ADDRESS"),
        "Who sends mail.",
    )
    .or("keepalived@ with the machine's name"),
    kw(
        "smtp_server",
        Takes::Words(1, "HOST [PORT]"),
        "Server that takes mail.",
    )
    .or("no mail; port 25"),
    kw(
        "smtp_connect_timeout",
        Takes::Number(0, U32 / S),
        "Seconds that the mail server may take to connect, and then for each answer.",
    )
    .or("30"),
    kw(
        "smtp_helo_name",
        Takes::Word("NAME"),
        "Our name for the mail server.",
    )
    .or("the machine's name"),
    kw(
        "smtp_alert",
        Takes::Switch,
        "Mail about everything that does not say it itself.",
    ),
    kw(
        "smtp_alert_checker",
        Takes::Switch,
        "Mail about services and servers that do not say it themselves.",
    ),
    later(
        "smtp_alert_vrrp",
        Takes::Switch,
        "Mail about VRRP instances that do not say it themselves.",
    ),
    later(
        "no_email_faults",
        Takes::Nothing,
        "No mail when a VRRP instance finds a fault.",
    ),
    idle(
        "no_checker_emails",
        Takes::Nothing,
        "No mail about a check that does not change its server's state.",
        "mail is about servers and services, never about a single check",
    ),
    kw(
        "notify_fifo",
        Takes::Words(1, "PATH [USER [GROUP]]"),
        "A named pipe that gets a line for each change.",
    ),
    kw(
        "notify_fifo_script",
        Takes::Script,
        "Program that reads notify_fifo; its path is the last argument.",
    ),
    kw(
        "lvs_notify_fifo",
        Takes::Words(1, "PATH [USER [GROUP]]"),
        "A named pipe that gets a line for each change of services and servers.",
    ),
    kw(
        "lvs_notify_fifo_script",
        Takes::Script,
        "Program that reads lvs_notify_fifo; its path is the last argument.",
    ),
    later(
        "vrrp_notify_fifo",
        Takes::Words(1, "PATH [USER [GROUP]]"),
        "A named pipe that gets a line for each change of VRRP.",
    ),
    later(
        "vrrp_notify_fifo_script",
        Takes::Script,
        "Program that reads vrrp_notify_fifo.",
    ),
    later(
        "fifo_write_vrrp_states_on_reload",
        Takes::Nothing,
        "The pipes get all states of VRRP after a reload.",
    ),
    later(
        "vrrp_notify_priority_changes",
        Takes::Switch,
        "Programs and pipes are told of changes of priorities as well.",
    ),
    kw(
        "script_user",
        Takes::Words(1, "USER [GROUP]"),
        "Whom scripts run as that do not say it themselves.",
    )
    .or("keepalived_script if there is such a user, else the daemon's own"),
    kw(
        "enable_script_security",
        Takes::Nothing,
        "Scripts that somebody else than root can change are not run as root.",
    ),
];

const CHECKS: &[Keyword] = &[
    kw(
        "checker_log_all_failures",
        Takes::Switch,
        "Every failure of a check is logged, not only the first and the last try.",
    )
    .or("off"),
    kw(
        "rs_init_notifies",
        Takes::Switch,
        "Servers that live at the start are told as well.",
    )
    .or("off"),
    kw(
        "lvs_timeouts",
        Takes::Words(2, "[tcp SECONDS] [tcpfin SECONDS] [udp SECONDS]"),
        "How long connections may be silent; 0 leaves a time as it is.",
    ),
    kw(
        "lvs_flush",
        Takes::Nothing,
        "What is in the table and stands in no file is deleted at the start.",
    ),
    kw(
        "lvs_flush_on_stop",
        Takes::Words(0, "[VS]"),
        "The whole table is deleted at the end; with VS, the services of the files.",
    ),
    kw(
        "lvs_flush_onstop",
        Takes::Words(0, "[VS]"),
        "The whole table is deleted at the end; with VS, the services of the files.",
    )
    .old("lvs_flush_on_stop"),
    later_sync(
        "lvs_sync_daemon",
        Takes::Words(
            1,
            "INTERFACE [VRRP-INSTANCE] [id NUMBER] [maxlen BYTES] [port PORT] [ttl NUMBER] [group ADDRESS]",
        ),
        "Connections are sent to the other director.",
    ),
    idle(
        "nftables_ipvs",
        Takes::Words(0, "[TABLE]"),
        "Groups of services become a firewall mark, by nftables.",
        NFTABLES,
    ),
    idle(
        "nftables_ipvs_priority",
        Takes::Signed(i32::MIN as i64, i32::MAX as i64, &[]),
        "Priority of the chain of nftables_ipvs.",
        NFTABLES,
    ),
    idle(
        "nftables_ipvs_start_fwmark",
        Takes::Number(1, U32),
        "First mark of nftables_ipvs.",
        NFTABLES,
    )
    .or("1000"),
];

const fn later_sync(name: &'static str, takes: Takes, help: &'static str) -> Keyword {
    let mut keyword = kw(name, takes, help);
    keyword.grade = super::Grade::NotYet("connections are not synchronised by this release");
    keyword
}

const SECONDS: Takes = Takes::Seconds(0, LONG);

const VRRP: &[Keyword] = &[
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

const PRIORITY: Takes = Takes::Signed(-20, 19, &[]);
const REALTIME: Takes = Takes::Number(1, 99);
const CPUS: Takes = Takes::Words(1, "CPU …");
const RTTIME: Takes = Takes::Number(2, U32);

/// The keywords about one of keepalived's processes.
macro_rules! process {
    ($what:literal, $priority:literal, $no_swap:literal, $rt:literal, $cpu:literal,
     $limit:literal, $old_limit:literal) => {
        &[
            idle(
                $priority,
                PRIORITY,
                concat!("Priority of the process for ", $what, "."),
                ONE_PROCESS,
            )
            .or("0"),
            idle(
                $no_swap,
                Takes::Nothing,
                concat!("The process for ", $what, " stays in memory."),
                ONE_PROCESS,
            ),
            idle(
                $rt,
                REALTIME,
                concat!("Real-time priority of the process for ", $what, "."),
                ONE_PROCESS,
            ),
            idle(
                $cpu,
                CPUS,
                concat!("CPUs of the process for ", $what, "."),
                ONE_PROCESS,
            ),
            idle(
                $limit,
                RTTIME,
                concat!(
                    "Microseconds that the process for ",
                    $what,
                    " may run at a stretch."
                ),
                ONE_PROCESS,
            )
            .or("10000"),
            idle(
                $old_limit,
                RTTIME,
                concat!(
                    "Microseconds that the process for ",
                    $what,
                    " may run at a stretch."
                ),
                ONE_PROCESS,
            )
            .old($limit),
        ]
    };
}

const VRRP_PROCESS: &[Keyword; 6] = process!(
    "VRRP",
    "vrrp_priority",
    "vrrp_no_swap",
    "vrrp_rt_priority",
    "vrrp_cpu_affinity",
    "vrrp_rlimit_rttime",
    "vrrp_rlimit_rtime"
);
const CHECKER_PROCESS: &[Keyword; 6] = process!(
    "checks",
    "checker_priority",
    "checker_no_swap",
    "checker_rt_priority",
    "checker_cpu_affinity",
    "checker_rlimit_rttime",
    "checker_rlimit_rtime"
);
const BFD_PROCESS: &[Keyword; 6] = process!(
    "BFD",
    "bfd_priority",
    "bfd_no_swap",
    "bfd_rt_priority",
    "bfd_cpu_affinity",
    "bfd_rlimit_rttime",
    "bfd_rlimit_rtime"
);

const PROCESSES: &[Keyword] = &[
    idle(
        "process_names",
        Takes::Nothing,
        "The processes have names of their own.",
        ONE_PROCESS,
    ),
    idle(
        "process_name",
        Takes::Words(0, "[NAME]"),
        "Name of the first process.",
        ONE_PROCESS,
    ),
    idle(
        "vrrp_process_name",
        Takes::Words(0, "[NAME]"),
        "Name of the process for VRRP.",
        ONE_PROCESS,
    ),
    idle(
        "checker_process_name",
        Takes::Words(0, "[NAME]"),
        "Name of the process for checks.",
        ONE_PROCESS,
    ),
    idle(
        "lvs_process_name",
        Takes::Words(0, "[NAME]"),
        "Name of the process for checks.",
        ONE_PROCESS,
    )
    .old("checker_process_name"),
    idle(
        "bfd_process_name",
        Takes::Words(0, "[NAME]"),
        "Name of the process for BFD.",
        ONE_PROCESS,
    ),
    idle(
        "max_auto_priority",
        Takes::Signed(-1, 99, &[]),
        "Greatest real-time priority that is taken when packets come late.",
        ONE_PROCESS,
    )
    .or("0"),
    idle(
        "min_auto_priority_delay",
        Takes::Number(1, 10_000_000),
        "Microseconds that count as late.",
        ONE_PROCESS,
    )
    .or("1000000"),
];

const OTHERS: &[Keyword] = &[
    idle(
        "startup_script",
        Takes::Script,
        "Program that is run before the start.",
        SYSTEMD,
    ),
    idle(
        "startup_script_timeout",
        Takes::Number(1, 1000),
        "Seconds that startup_script may take.",
        SYSTEMD,
    )
    .or("10"),
    idle(
        "shutdown_script",
        Takes::Script,
        "Program that is run after the end.",
        SYSTEMD,
    ),
    idle(
        "shutdown_script_timeout",
        Takes::Number(1, 1000),
        "Seconds that shutdown_script may take.",
        SYSTEMD,
    )
    .or("10"),
    idle(
        "vrrp_netlink_cmd_rcv_bufs",
        Takes::Number(1, U32),
        "Receive buffer for answers of the kernel, VRRP.",
        BUFFERS,
    ),
    idle(
        "vrrp_netlink_cmd_rcv_bufs_force",
        Takes::Switch,
        "That buffer may exceed the kernel's limit.",
        BUFFERS,
    ),
    idle(
        "vrrp_netlink_monitor_rcv_bufs",
        Takes::Number(1, U32),
        "Receive buffer for news of the kernel, VRRP.",
        BUFFERS,
    ),
    idle(
        "vrrp_netlink_monitor_rcv_bufs_force",
        Takes::Switch,
        "That buffer may exceed the kernel's limit.",
        BUFFERS,
    ),
    idle(
        "lvs_netlink_cmd_rcv_bufs",
        Takes::Number(1, U32),
        "Receive buffer for answers of the kernel, checks.",
        BUFFERS,
    ),
    idle(
        "lvs_netlink_cmd_rcv_bufs_force",
        Takes::Switch,
        "That buffer may exceed the kernel's limit.",
        BUFFERS,
    ),
    idle(
        "lvs_netlink_monitor_rcv_bufs",
        Takes::Number(1, U32),
        "Receive buffer for news of the kernel, checks.",
        BUFFERS,
    ),
    idle(
        "lvs_netlink_monitor_rcv_bufs_force",
        Takes::Switch,
        "That buffer may exceed the kernel's limit.",
        BUFFERS,
    ),
    idle(
        "process_monitor_rcv_bufs",
        Takes::Number(1, U32),
        "Receive buffer for news of processes.",
        BUFFERS,
    ),
    idle(
        "process_monitor_rcv_bufs_force",
        Takes::Switch,
        "That buffer may exceed the kernel's limit.",
        BUFFERS,
    ),
    idle(
        "snmp_socket",
        Takes::Word("ADDRESS"),
        "Where the SNMP agent listens.",
        SNMP,
    )
    .or("unix:/var/agentx/master"),
    idle("enable_traps", Takes::Nothing, "SNMP traps are sent.", SNMP),
    idle(
        "enable_snmp_vrrp",
        Takes::Nothing,
        "SNMP tables of VRRP.",
        SNMP,
    ),
    idle(
        "enable_snmp_keepalived",
        Takes::Nothing,
        "SNMP tables of VRRP.",
        SNMP,
    )
    .old("enable_snmp_vrrp"),
    idle(
        "enable_snmp_checker",
        Takes::Nothing,
        "SNMP tables of services.",
        SNMP,
    ),
    idle(
        "enable_snmp_rfc",
        Takes::Nothing,
        "SNMP tables of both standards of VRRP.",
        SNMP,
    ),
    idle(
        "enable_snmp_rfcv2",
        Takes::Nothing,
        "SNMP tables of the standard of VRRP version 2.",
        SNMP,
    ),
    idle(
        "enable_snmp_rfcv3",
        Takes::Nothing,
        "SNMP tables of the standard of VRRP version 3.",
        SNMP,
    ),
    idle(
        "snmp_vs_stats_update_interval",
        Takes::Seconds(1000, 30 * S),
        "Seconds between readings of services' counters.",
        SNMP,
    )
    .or("5")
    .since("2.2.8"),
    idle(
        "snmp_rs_stats_update_interval",
        Takes::Seconds(1000, 30 * S),
        "Seconds between readings of servers' counters.",
        SNMP,
    )
    .or("5")
    .since("2.2.8"),
    idle(
        "enable_dbus",
        Takes::Nothing,
        "VRRP is seen on D-Bus.",
        DBUS,
    ),
    idle(
        "dbus_service_name",
        Takes::Word("NAME"),
        "Name on D-Bus.",
        DBUS,
    )
    .or("org.keepalived.Vrrp1"),
    idle(
        "dbus_no_interface_name",
        Takes::Word("NAME"),
        "Name on D-Bus of instances without an interface.",
        DBUS,
    )
    .or("none")
    .since("2.2.8"),
    idle(
        "reload_check_config",
        Takes::Words(0, "[LOGFILE]"),
        "A reload checks the configuration first.",
        "a reload always does",
    ),
    idle(
        "reload_time_file",
        Takes::Word("PATH"),
        "A file with the time of the next reload.",
        RELOAD,
    ),
    idle(
        "reload_repeat",
        Takes::Nothing,
        "The times of reload_time_file come again.",
        RELOAD,
    ),
    idle(
        "reload_file",
        Takes::Words(0, "[PATH]"),
        "A file that is there while a reload goes on.",
        RELOAD,
    ),
    idle(
        "include_check",
        Takes::Words(0, "[+|-][readable|match|wildcard_match|brace_match] …"),
        "Which faults of include lines are told.",
        "all of them are, except for wildcards that fit nothing",
    ),
    idle(
        "config_save_dir",
        Takes::Word("DIRECTORY"),
        "Where copies of the configuration are kept.",
        "no copies are kept",
    ),
    idle(
        "tmp_config_directory",
        Takes::Word("DIRECTORY"),
        "Where the configuration is copied while it is read.",
        "it is read once",
    ),
    idle(
        "data_use_instance",
        Takes::Switch,
        "Names of dumped files have the instance in them.",
        DUMP,
    ),
    idle(
        "state_dump_file",
        Takes::Word("PATH"),
        "Where the state is dumped.",
        DUMP,
    )
    .since("2.2.8"),
    idle(
        "stats_dump_file",
        Takes::Word("PATH"),
        "Where the counters are dumped.",
        DUMP,
    )
    .since("2.2.8"),
    idle(
        "json_dump_file",
        Takes::Word("PATH"),
        "Where the state is dumped as JSON.",
        DUMP,
    )
    .since("2.2.8"),
    idle(
        "json_version",
        Takes::Choice(&["1", "2"]),
        "Version of the dumped JSON.",
        DUMP,
    )
    .or("1")
    .since("2.2.8"),
    idle(
        "iproute_usr_dir",
        Takes::Word("DIRECTORY"),
        "Where names of routing tables stand.",
        "names of routing tables are not used",
    )
    .since("2.2.8"),
    idle(
        "iproute_etc_dir",
        Takes::Word("DIRECTORY"),
        "Where names of routing tables stand.",
        "names of routing tables are not used",
    )
    .since("2.2.8"),
    idle(
        "umask",
        Takes::Words(1, "NUMBER|BITS"),
        "Permissions that files do not get.",
        SYSTEMD,
    )
    .or("0177"),
    idle(
        "random_seed",
        Takes::Number(0, U32),
        "Start of the random numbers.",
        "each start has other ones",
    )
    .or("the time"),
    idle(
        "use_symlink_paths",
        Takes::Switch,
        "Scripts are run by the path that names them.",
        "they always are",
    )
    .or("off")
    .since("2.2.8"),
    idle(
        "set_supplementary_groups",
        Takes::Switch,
        "Scripts have the groups of their user.",
        "they always have",
    )
    .or("off")
    .since("2.3.2"),
];
