//! `virtual_server` and what stands in it, groups, `SSL`, `track_file`.

use super::checkers::CHECKERS;
use super::{Block, Keyword, LONG, Takes, U32, WEIGHT, idle, kw};

const DAY31: u64 = 86_400 * 31;

/// Forwarding methods.
const METHOD: &str = "NAT|DR|TUN [type ipip|gue port PORT|gre] [nocsum|csum|remcsum]";

/// `virtual_server`
pub(super) static VIRTUAL_SERVER: Block = Block {
    name: "virtual_server",
    keywords: &[VS, TIMES],
};

/// What virtual servers and real servers have in common.
const TIMES: &[Keyword] = &[
    kw(
        "delay_loop",
        Takes::Seconds(1, LONG),
        "Seconds from one check of a server to the next.",
    )
    .or("60"),
    kw(
        "connect_timeout",
        Takes::Seconds(1, LONG),
        "How long a check may take to connect, and then for each answer.",
    )
    .or("5"),
    kw(
        "retry",
        Takes::Number(1, U32),
        "How many more times a check is tried after a failure before the server counts as dead.",
    )
    .or("as each check has it: 1, DNS_CHECK 3, MISC_CHECK 0"),
    kw(
        "delay_before_retry",
        Takes::Seconds(0, LONG),
        "Seconds from a failure to the next try.",
    )
    .or("as each check has it: 1, HTTP_GET and SSL_GET 3, DNS_CHECK delay_loop"),
    kw(
        "warmup",
        Takes::Seconds(0, LONG),
        "The first check comes after a random part of this.",
    )
    .or("delay_loop"),
    kw(
        "virtualhost",
        Takes::Word("NAME"),
        "Host header of HTTP_GET and SSL_GET that name none themselves.",
    ),
    idle(
        "snmp_name",
        Takes::Word("NAME"),
        "Name in SNMP tables.",
        "there is no SNMP",
    ),
];

const VS: &[Keyword] = &[
    kw(
        "ip_family",
        Takes::Choice(&["inet", "inet6"]),
        "Family of a service by firewall mark.",
    )
    .or("that of its servers, else inet"),
    kw(
        "lvs_sched",
        Takes::Choice(SCHEDULERS),
        "How connections are spread over the servers.",
    )
    .or("wlc"),
    kw(
        "lb_algo",
        Takes::Choice(SCHEDULERS),
        "How connections are spread over the servers.",
    )
    .or("wlc")
    .old("lvs_sched"),
    idle(
        "hashed",
        Takes::Nothing,
        "Services are found by a hash.",
        "they always are",
    ),
    kw(
        "ops",
        Takes::Nothing,
        "UDP: every packet is scheduled for itself, and no connection kept.",
    ),
    kw(
        "flag-1",
        Takes::Nothing,
        "First flag of the scheduler: fallback of sh and mh.",
    ),
    kw(
        "flag-2",
        Takes::Nothing,
        "Second flag of the scheduler: sh and mh hash the port too.",
    ),
    kw(
        "flag-3",
        Takes::Nothing,
        "Third flag of the scheduler, which none has a meaning for.",
    ),
    kw(
        "sh-port",
        Takes::Nothing,
        "Scheduler sh, which stands before it: the client's port is hashed too.",
    ),
    kw(
        "sh-fallback",
        Takes::Nothing,
        "Scheduler sh, which stands before it: clients of a server that takes no connections go \
         to another.",
    ),
    kw(
        "mh-port",
        Takes::Nothing,
        "Scheduler mh, which stands before it: the client's port is hashed too.",
    ),
    kw(
        "mh-fallback",
        Takes::Nothing,
        "Scheduler mh, which stands before it: clients of a server that takes no connections go \
         to another.",
    ),
    kw(
        "lvs_method",
        Takes::Words(1, METHOD),
        "How packets reach the servers: by NAT, direct routing or a tunnel.",
    )
    .or("NAT"),
    kw(
        "lb_kind",
        Takes::Words(1, METHOD),
        "How packets reach the servers: by NAT, direct routing or a tunnel.",
    )
    .or("NAT")
    .old("lvs_method"),
    kw(
        "persistence_timeout",
        Takes::Words(0, "[SECONDS]"),
        "Seconds that a client stays with its server after its last new connection; 360 when none \
         are given.",
    )
    .or("clients do not stay"),
    kw(
        "persistence_granularity",
        Takes::Word("MASK|PREFIX-LENGTH"),
        "Which clients stay together: those that are equal under an IPv4 mask, or in so many bits \
         of IPv6. Makes clients stay for 360 seconds where persistence_timeout does not say it.",
    )
    .or("each for itself"),
    kw(
        "persistence_engine",
        Takes::Choice(&["sip"]),
        "What clients that stay are told apart by in place of their addresses.",
    ),
    kw(
        "protocol",
        Takes::Choice(&["TCP", "UDP", "SCTP"]),
        "Protocol of the service; none with a firewall mark.",
    )
    .or("UDP, with a warning"),
    kw(
        "ha_suspend",
        Takes::Nothing,
        "Checks rest while the virtual address is not on this machine.",
    ),
    kw(
        "smtp_alert",
        Takes::Switch,
        "Mail when the quorum is gained and lost.",
    )
    .or("smtp_alert_checker or smtp_alert of global_defs, else off"),
    kw(
        "alpha",
        Takes::Nothing,
        "Servers count as dead until their first successful check.",
    ),
    kw(
        "omega",
        Takes::Nothing,
        "quorum_down and notify_down are run when the daemon ends, too.",
    ),
    kw(
        "inhibit_on_failure",
        Takes::Nothing,
        "A dead server stays with weight 0, in place of being removed.",
    ),
    kw(
        "quorum_up",
        Takes::Script,
        "Program that is run when the quorum is gained.",
    ),
    kw(
        "quorum_down",
        Takes::Script,
        "Program that is run when the quorum is lost.",
    ),
    kw(
        "quorum",
        Takes::Number(1, U32),
        "The service is up while the weights of the servers that live come to this, give or take \
         hysteresis.",
    )
    .or("1"),
    kw(
        "hysteresis",
        Takes::Number(0, U32),
        "The quorum is lost below quorum - hysteresis and gained from quorum + hysteresis on; \
         less than quorum.",
    )
    .or("0"),
    kw(
        "weight",
        Takes::Number(1, WEIGHT),
        "Weight of servers that have none of their own.",
    )
    .or("1"),
    kw(
        "sorry_server",
        Takes::Words(1, "ADDRESS [PORT]|builtin|DIRECTORY"),
        "What answers while there is no quorum: a server, or the daemon itself with status 503, \
         by a page of its own (builtin) or the index.html of a directory.",
    ),
    kw(
        "sorry_server_inhibit",
        Takes::Nothing,
        "The sorry server, which stands before it, stays in the table with weight 0 while there \
         is a quorum.",
    ),
    kw(
        "sorry_server_lvs_method",
        Takes::Words(1, METHOD),
        "How packets reach the sorry server, which stands before it.",
    )
    .or("lvs_method"),
    kw(
        "real_server",
        Takes::Block(&REAL_SERVER, "ADDRESS [PORT]"),
        "A server of the service.",
    ),
];

/// Names of the schedulers.
const SCHEDULERS: &[&str] = &[
    "rr", "wrr", "lc", "wlc", "lblc", "sh", "mh", "dh", "fo", "ovf", "lblcr", "sed", "nq", "twos",
];

static REAL_SERVER: Block = Block {
    name: "real_server",
    keywords: &[RS, TIMES, CHECKERS],
};

const RS: &[Keyword] = &[
    kw(
        "weight",
        Takes::Number(0, WEIGHT),
        "Its share of connections; 0: no new ones.",
    )
    .or("weight of the virtual server, else 1"),
    kw(
        "lvs_method",
        Takes::Words(1, METHOD),
        "How packets reach this server.",
    )
    .or("lvs_method of the virtual server"),
    kw(
        "uthreshold",
        Takes::Number(0, WEIGHT),
        "Connections from which on it gets no more; 0: no limit.",
    )
    .or("0"),
    kw(
        "lthreshold",
        Takes::Number(0, WEIGHT),
        "Connections below which it gets some again; 0: three quarters of uthreshold.",
    )
    .or("0"),
    kw(
        "inhibit_on_failure",
        Takes::Switch,
        "When it is dead it stays with weight 0, in place of being removed.",
    )
    .or("that of the virtual server"),
    kw(
        "notify_up",
        Takes::Script,
        "Program that is run when it lives again.",
    ),
    kw(
        "notify_down",
        Takes::Script,
        "Program that is run when it dies.",
    ),
    kw(
        "alpha",
        Takes::Switch,
        "It counts as dead until its first successful check.",
    )
    .or("that of the virtual server"),
    kw(
        "smtp_alert",
        Takes::Switch,
        "Mail when it dies and when it lives again.",
    )
    .or("smtp_alert_checker or smtp_alert of global_defs, else on"),
];

/// `SSL`
pub(super) static SSL: Block = Block {
    name: "SSL",
    keywords: &[&[
        kw("password", Takes::Word("PASSWORD"), "Password of the key."),
        kw(
            "ca",
            Takes::Word("FILE"),
            "Authorities that the servers' certificates have to come from.",
        )
        .or("any certificate is taken"),
        kw(
            "certificate",
            Takes::Word("FILE"),
            "Our certificate, which servers may ask for.",
        ),
        kw("key", Takes::Word("FILE"), "Key of our certificate."),
    ]],
};

/// `track_file`
pub(super) static TRACK_FILE: Block = Block {
    name: "track_file",
    keywords: &[&[
        kw("file", Takes::Word("PATH"), "The file with the number."),
        kw(
            "weight",
            Takes::Signed(-254, 254, &["reverse"]),
            "The file's number is multiplied by this, with reverse negated, and added to the \
             weight.",
        )
        .or("1"),
        idle(
            "init_file",
            Takes::Words(0, "[NUMBER] [overwrite]"),
            "The file is made at the start, with this number.",
            "the daemon writes no such files: make it before the start",
        ),
    ]],
};

/// Group of virtual services.
pub(super) const GROUP_LINE: &str = "ADDRESS[-LAST|/BITS] [PORT[-LAST]] | fwmark MARK [inet|inet6]";
/// Longest persistence, in seconds.
pub(in super::super) const PERSISTENCE_MAX: u64 = DAY31;
