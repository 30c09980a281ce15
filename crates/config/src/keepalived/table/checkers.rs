//! The checks of a real server.

use super::{Block, Keyword, LONG, Takes, U32, WEIGHT_SIGNED, idle, kw};

/// What each check may have to connect.
const CONNECT: &[Keyword] = &[
    kw("connect_ip", Takes::Address, "Where the check connects to.").or("the server's address"),
    kw(
        "connect_port",
        Takes::Number(1, 65_535),
        "The port that the check connects to.",
    )
    .or("the server's port"),
    kw(
        "bindto",
        Takes::Address,
        "The address that the check comes from.",
    ),
    kw(
        "bind_port",
        Takes::Number(1, 65_535),
        "The port that the check comes from, with bindto.",
    ),
    kw(
        "bind_if",
        Takes::Word("INTERFACE"),
        "The interface that the check goes out by; link-local addresses need it.",
    ),
    kw(
        "connect_timeout",
        Takes::Seconds(1, LONG),
        "How long the check may take to connect, and then for each answer.",
    )
    .or("that of the real server"),
    kw(
        "fwmark",
        Takes::Number(0, U32),
        "Firewall mark of the check's packets.",
    )
    .or("0: none"),
];

/// What each check may have to be run.
const RUN: &[Keyword] = &[
    kw(
        "retry",
        Takes::Number(0, U32),
        "How many more times it is tried after a failure before the server counts as dead.",
    )
    .or("that of the real server, else 1; DNS_CHECK 3, MISC_CHECK 0"),
    kw(
        "delay_before_retry",
        Takes::Seconds(0, LONG),
        "Seconds from a failure to the next try.",
    )
    .or("that of the real server, else 1; HTTP_GET and SSL_GET 3, DNS_CHECK delay_loop"),
    kw(
        "warmup",
        Takes::Seconds(0, LONG),
        "The first check comes after a random part of this.",
    )
    .or("that of the real server, else delay_loop"),
    kw(
        "delay_loop",
        Takes::Seconds(1, LONG),
        "Seconds from one check to the next.",
    )
    .or("that of the real server"),
    kw(
        "alpha",
        Takes::Switch,
        "The check counts as failed until its first success.",
    )
    .or("that of the real server"),
    kw(
        "log_all_failures",
        Takes::Switch,
        "Every failure is logged, not only the first and the last try.",
    )
    .or("checker_log_all_failures of global_defs"),
];

/// The checks.
pub(super) const CHECKERS: &[Keyword] = &[
    kw(
        "TCP_CHECK",
        Takes::Block(&TCP, ""),
        "The server lives while it takes TCP connections.",
    ),
    kw(
        "HTTP_GET",
        Takes::Block(&HTTP, ""),
        "The server lives while its pages come as expected.",
    ),
    kw(
        "SSL_GET",
        Takes::Block(&HTTPS, ""),
        "The server lives while its pages come as expected, by TLS.",
    ),
    kw(
        "SMTP_CHECK",
        Takes::Block(&SMTP, ""),
        "The server lives while it greets as a mail server does.",
    ),
    kw(
        "DNS_CHECK",
        Takes::Block(&DNS, ""),
        "The server lives while it answers a DNS query without an error.",
    ),
    kw(
        "MISC_CHECK",
        Takes::Block(&MISC, ""),
        "The server lives while a program ends with status 0.",
    ),
    kw(
        "PING_CHECK",
        Takes::Block(&PING, ""),
        "The server lives while it answers ICMP echo requests.",
    ),
    kw(
        "UDP_CHECK",
        Takes::Block(&UDP, ""),
        "The server lives while no ICMP error answers a UDP datagram, and a reply comes if one is \
         required.",
    ),
    kw(
        "FILE_CHECK",
        Takes::Block(&FILE, ""),
        "The number in a file changes the server's weight.",
    ),
    idle(
        "BFD_CHECK",
        Takes::Block(&BFD, ""),
        "The server lives while a BFD session is up.",
        "BFD is not run by this release; the server lives as far as this check is concerned",
    ),
];

static TCP: Block = Block {
    name: "TCP_CHECK",
    keywords: &[CONNECT, RUN],
};
static PING: Block = Block {
    name: "PING_CHECK",
    keywords: &[CONNECT, RUN],
};
static HTTP: Block = Block {
    name: "HTTP_GET",
    keywords: &[GET, CONNECT, RUN],
};
static HTTPS: Block = Block {
    name: "SSL_GET",
    keywords: &[GET, CONNECT, RUN],
};

const GET: &[Keyword] = &[
    kw(
        "url",
        Takes::Block(&URL, ""),
        "A page; there may be several, and all have to be right.",
    ),
    kw(
        "virtualhost",
        Takes::Word("NAME"),
        "Host header of pages that name none themselves.",
    )
    .or("that of the real server, of the virtual server, else the server's address"),
    kw(
        "http_protocol",
        Takes::Choice(&["1.0", "1.0C", "1.0c", "1.1"]),
        "Version of the requests; 1.0C and 1.1 ask the server to close the connection.",
    )
    .or("1.0"),
    kw(
        "enable_sni",
        Takes::Switch,
        "TLS asks the server for a certificate by name: that of the Host header.",
    )
    .or("off"),
    kw(
        "sni_name",
        Takes::Word("NAME"),
        "The name that TLS asks for.",
    )
    .since("2.2.8"),
    idle(
        "tls_compliant",
        Takes::Nothing,
        "A connection that is closed without TLS's own goodbye is a failure.",
        "one that is closed when the page is whole is good",
    )
    .since("2.2.8"),
    idle(
        "fast_recovery",
        Takes::Switch,
        "Pages of a server that is down are asked for one after the other, without delay_loop \
         between them.",
        "each run asks for all pages anyway",
    )
    .or("off"),
    kw(
        "nb_get_retry",
        Takes::Number(0, U32),
        "How many more times it is tried after a failure.",
    )
    .old("retry"),
];

static URL: Block = Block {
    name: "url",
    keywords: &[&[
        kw(
            "path",
            Takes::Word("PATH"),
            "Path with query, as it is asked for.",
        ),
        kw(
            "digest",
            Takes::Word("MD5"),
            "MD5 of the page, 32 hexadecimal digits, as genhash prints it.",
        ),
        kw(
            "status_code",
            Takes::Words(1, "CODE[-LAST] …"),
            "Statuses that are good.",
        )
        .or("200-299"),
        kw(
            "virtualhost",
            Takes::Word("NAME"),
            "Host header of this page.",
        ),
        kw(
            "regex",
            Takes::Words(1, "\"EXPRESSION\""),
            "What the page has to match, as Perl writes it; a backslash is written twice.",
        ),
        kw(
            "regex_no_match",
            Takes::Nothing,
            "The page must not match regex.",
        ),
        kw(
            "regex_options",
            Takes::Words(1, "OPTION …"),
            "Options of regex, such as caseless, multiline, dotall.",
        ),
        kw(
            "regex_min_offset",
            Takes::Number(0, U32),
            "No match begins before this byte of the page.",
        )
        .or("0"),
        kw(
            "regex_max_offset",
            Takes::Number(0, U32),
            "No match begins behind this byte of the page.",
        )
        .or("no limit"),
        idle(
            "regex_stack",
            Takes::Words(2, "START MAX"),
            "Memory for the expression's compiled form.",
            "expressions need none",
        ),
    ]],
};

static SMTP: Block = Block {
    name: "SMTP_CHECK",
    keywords: &[
        &[
            kw("helo_name", Takes::Word("NAME"), "Name in the greeting.")
                .or("smtpchecker.keepalived.org"),
            kw(
                "host",
                Takes::Block(&HOST, ""),
                "Another place to check; where nothing else says where to connect, in place of \
                 the server's own.",
            ),
        ],
        CONNECT,
        RUN,
    ],
};
static HOST: Block = Block {
    name: "host",
    keywords: &[CONNECT, RUN],
};

static DNS: Block = Block {
    name: "DNS_CHECK",
    keywords: &[
        &[
            kw(
                "type",
                Takes::Choice(&[
                    "A", "NS", "CNAME", "SOA", "MX", "TXT", "AAAA", "RRSIG", "DNSKEY",
                ]),
                "Type of the record that is asked for.",
            )
            .or("SOA"),
            kw(
                "name",
                Takes::Word("NAME"),
                "Name of the record that is asked for.",
            )
            .or("the root"),
        ],
        CONNECT,
        RUN,
    ],
};

static MISC: Block = Block {
    name: "MISC_CHECK",
    keywords: &[
        &[
            kw(
                "misc_path",
                Takes::Words(1, "COMMAND"),
                "The program, in quotes if it has arguments. No shell takes part.",
            ),
            kw(
                "misc_timeout",
                Takes::Number(0, U32 / super::S),
                "Seconds after which the program is killed; 0: delay_loop.",
            )
            .or("delay_loop"),
            kw(
                "misc_dynamic",
                Takes::Nothing,
                "Statuses from 2 on mean that the server lives, and set its weight to the status \
                 - 2.",
            ),
            kw(
                "user",
                Takes::Words(1, "USER [GROUP]"),
                "Whom the program runs as.",
            )
            .or("script_user"),
        ],
        RUN,
    ],
};

static UDP: Block = Block {
    name: "UDP_CHECK",
    keywords: &[
        &[
            kw(
                "payload",
                Takes::Words(1, "HEX …"),
                "What is sent, in hexadecimal digits.",
            )
            .or("random bytes"),
            kw(
                "require_reply",
                Takes::Words(0, "[HEX …]"),
                "A reply has to come, which begins with these bytes; X stands for any digit.",
            ),
            kw(
                "min_reply_length",
                Takes::Number(0, 65_535),
                "Least length of the reply, in bytes.",
            )
            .or("0"),
            kw(
                "max_reply_length",
                Takes::Number(0, 65_535),
                "Greatest length of the reply, in bytes.",
            )
            .or("255"),
        ],
        CONNECT,
        RUN,
    ],
};

static FILE: Block = Block {
    name: "FILE_CHECK",
    keywords: &[&[
        kw(
            "track_file",
            Takes::Word("NAME"),
            "A track_file, which stands before it.",
        ),
        kw(
            "weight",
            Takes::Signed(-WEIGHT_SIGNED, WEIGHT_SIGNED, &["reverse", "noreverse"]),
            "The file's number is multiplied by this, with reverse negated, and added to the \
             server's weight; 0: any number but 0 is a failure.",
        )
        .or("that of the track_file"),
    ]],
};

static BFD: Block = Block {
    name: "BFD_CHECK",
    keywords: &[&[
        kw("name", Takes::Word("NAME"), "A bfd_instance."),
        kw(
            "alpha",
            Takes::Switch,
            "The check counts as failed until the session is up.",
        ),
    ]],
};
