//! What `global_defs` says of processes, files and other programs.

use super::global::ONE_PROCESS;
use super::{Keyword, S, Takes, U32, idle};

const SYSTEMD: &str = "systemd does it";
const SNMP: &str = "there is no SNMP";
const DBUS: &str = "there is no D-Bus interface";
const DUMP: &str = "evenkeel status shows it";
const BUFFERS: &str = "its sockets are sized by the daemon";
const RELOAD: &str = "a reload reads the files when it is asked to";

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

/// The process for VRRP.
pub(super) const VRRP_PROCESS: &[Keyword; 6] = process!(
    "VRRP",
    "vrrp_priority",
    "vrrp_no_swap",
    "vrrp_rt_priority",
    "vrrp_cpu_affinity",
    "vrrp_rlimit_rttime",
    "vrrp_rlimit_rtime"
);
/// The process for checks.
pub(super) const CHECKER_PROCESS: &[Keyword; 6] = process!(
    "checks",
    "checker_priority",
    "checker_no_swap",
    "checker_rt_priority",
    "checker_cpu_affinity",
    "checker_rlimit_rttime",
    "checker_rlimit_rtime"
);
/// The process for BFD.
pub(super) const BFD_PROCESS: &[Keyword; 6] = process!(
    "BFD",
    "bfd_priority",
    "bfd_no_swap",
    "bfd_rt_priority",
    "bfd_cpu_affinity",
    "bfd_rlimit_rttime",
    "bfd_rlimit_rtime"
);

/// The processes.
pub(super) const PROCESSES: &[Keyword] = &[
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

/// What is around keepalived on its machine.
pub(super) const OTHERS: &[Keyword] = &[
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
