//! What stands outside of blocks, and `global_defs`.

use super::services::{GROUP_LINE, SSL, VIRTUAL_SERVER};
use super::{Block, Keyword, LONG, S, Takes, U32, failover, idle, kw, later, machine};

/// What stands outside of all blocks.
pub static ROOT: Block = Block {
    name: "",
    keywords: &[TOP, super::vrrp::TOP],
};

const NAMESPACE: &str = "the daemon runs in the namespace that it is started in";
pub(super) const ONE_PROCESS: &str = "there is one process";
const NFTABLES: &str = "services by groups need no netfilter here";

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
        failover::GLOBAL,
        machine::PROCESSES,
        machine::VRRP_PROCESS,
        machine::CHECKER_PROCESS,
        machine::BFD_PROCESS,
        machine::OTHERS,
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
    .or("the daemon's user, at the machine's name"),
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
            "INTERFACE [VRRP-INSTANCE] [id NUMBER] [maxlen BYTES] [port PORT] [ttl NUMBER] [group \
             ADDRESS]",
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
