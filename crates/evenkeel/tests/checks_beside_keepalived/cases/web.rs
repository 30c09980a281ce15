//! Pages.

use std::sync::Arc;

use evenkeel_core::model::{HttpProbe, HttpVersion, Page, PageRegex, Probe, Tls};
use rustls::ServerConfig;

use super::super::server::{Carrier, Step};
use super::{Case, nowhere, say};

/// All of them but those with TLS.
pub(super) fn plain() -> Vec<Case> {
    let mut all = requests();
    all.extend(status_lines());
    all.extend(answers());
    all.extend(bodies());
    all.extend(expressions());
    all.extend(limits());
    all.extend(parts());
    all.extend(hostile());
    all
}

fn page() -> Page {
    Page {
        path: "/".into(),
        host: None,
        statuses: Vec::new(),
        digest: None,
        regex: None,
        headers: Vec::new(),
        json: Vec::new(),
    }
}

fn get(page: Page) -> HttpProbe {
    HttpProbe {
        connect: nowhere(),
        tls: None,
        version: HttpVersion::V1_0,
        pages: vec![page],
        fast_recovery: false,
    }
}

fn with_digest(digest: u128) -> Page {
    Page {
        digest: Some(digest.to_be_bytes()),
        ..page()
    }
}

fn with_regex(pattern: &str, options: &[&str]) -> Page {
    Page {
        regex: Some(PageRegex {
            pattern: pattern.into(),
            options: options.iter().map(ToString::to_string).collect(),
            absent: false,
            min_offset: 0,
            max_offset: 0,
        }),
        ..page()
    }
}

/// MD5 of `hello`.
const HELLO: u128 = 0x5d41_402a_bc4b_2a76_b971_9d91_1017_c592;
/// A header's end.
const ASKED: Step = Step::Hear("\r\n\r\n");

fn answer(text: impl Into<Vec<u8>>) -> Vec<Step> {
    vec![ASKED, say(text)]
}

fn requests() -> Vec<Case> {
    let good = || answer("HTTP/1.0 200 OK\r\n\r\nhello");
    let versions = [HttpVersion::V1_0, HttpVersion::V1_0Close, HttpVersion::V1_1];
    let mut all = Vec::new();
    for version in versions {
        for host in [None, Some("www.example:81")] {
            for ipv6 in [false, true] {
                let page = Page {
                    path: "/a/b?c=d&e".into(),
                    host: host.map(String::from),
                    ..page()
                };
                let mut probe = get(page);
                probe.version = version;
                let name = format!("request {version:?} {host:?} {ipv6}");
                let mut case = Case::new(name, Probe::Http(probe), good(), true);
                case.ipv6 = ipv6;
                all.push(case);
            }
        }
    }
    all
}

/// Status lines.
fn status_lines() -> Vec<Case> {
    let usual = || Probe::Http(get(page()));
    let lines: [(&str, bool); 16] = [
        ("HTTP/1.0 200 OK", true),
        ("HTTP/1.1 299 ", true),
        ("HTTP/1.1 200", false),
        ("HTTP/1.1 300 No", false),
        ("HTTP/1.1 199 No", false),
        ("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK", false),
        ("HTTP/1.1 503 Away", false),
        ("HTTP/1.1  200 OK", false),
        ("HTTP/1.1 2000 OK", false),
        ("HTTP/1.1 20 OK", false),
        ("HTTP/1.1 +20 OK", false),
        ("HTTP/1.1", false),
        ("ICY 200 OK", true),
        (" 200 OK", true),
        ("\n 200 OK", true),
        ("\x002\x00 200 OK", true),
    ];
    let mut all: Vec<Case> = lines
        .iter()
        .map(|(line, good)| {
            let text = format!("{line}\r\nServer: x\r\n\r\nhello");
            Case::new(
                format!("status line {line:?}"),
                usual(),
                answer(text),
                *good,
            )
        })
        .collect();
    let ranges = Page {
        statuses: vec![404..=404, 500..=599],
        ..page()
    };
    for (status, good) in [(404, true), (200, false), (599, true)] {
        let text = format!("HTTP/1.1 {status} So\r\n\r\n");
        let probe = Probe::Http(get(ranges.clone()));
        all.push(Case::new(
            format!("ranges {status}"),
            probe,
            answer(text),
            good,
        ));
    }
    all
}

/// Whole, half and no answers.
fn answers() -> Vec<Case> {
    let usual = || Probe::Http(get(page()));
    let ok = "HTTP/1.1 200 OK\r\n";
    vec![
        Case::new("no body", usual(), answer(format!("{ok}\r\n")), true),
        Case::new("empty", usual(), vec![ASKED], false),
        Case::new(
            "half a header",
            usual(),
            answer(format!("{ok}X: y\r\n")),
            false,
        ),
        Case::new(
            "newlines alone",
            usual(),
            answer("HTTP/1.1 200 OK\n\nhello"),
            false,
        ),
        Case::new("not HTTP", usual(), answer(vec![0xff; 300]), false),
        Case::new("says nothing", usual(), vec![ASKED, Step::Hang], false),
        Case::new(
            "stops within the header",
            usual(),
            vec![ASKED, say(ok), Step::Hang],
            false,
        ),
        Case::new(
            "stops within the body",
            usual(),
            vec![ASKED, say(format!("{ok}\r\nhel")), Step::Hang],
            false,
        ),
        Case::new(
            "whole by its length, but open",
            usual(),
            vec![
                ASKED,
                say(format!("{ok}Content-Length: 5\r\n\r\nhello")),
                Step::Hang,
            ],
            false,
        ),
        Case::new(
            "answers before it is asked",
            usual(),
            vec![say(format!("{ok}\r\n")), ASKED],
            true,
        ),
        Case::new(
            "reset before the answer",
            usual(),
            vec![ASKED, Step::Reset],
            false,
        ),
        Case::new("nobody there", usual(), vec![], false)
            .by(Carrier::Nobody)
            .unasked(),
        Case::new(
            "in small packets",
            Probe::Http(get(with_digest(HELLO))),
            pieces(&format!("{ok}Content-Length: 5\r\n\r\nhello")),
            true,
        ),
    ]
}

/// The text in pieces.
fn pieces(text: &str) -> Vec<Step> {
    let mut steps = vec![ASKED];
    for piece in text.as_bytes().chunks(6) {
        steps.extend([say(piece), Step::Read]);
    }
    steps
}

/// Digests, and what they end with.
fn bodies() -> Vec<Case> {
    let cases: [(&str, &str, bool); 9] = [
        ("", "hello", true),
        ("", "hello\n", false),
        ("Content-Length: 5\r\n", "hello", true),
        ("Content-Length: 5\r\n", "hello, world", true),
        ("Content-Length: 9\r\n", "hello", true),
        ("Content-Length: 4\r\n", "hello", false),
        ("content-length: 4\r\n", "hello", true),
        ("Content-Length: 4 \r\n", "hello", true),
        (
            "Transfer-Encoding: chunked\r\n",
            "5\r\nhello\r\n0\r\n\r\n",
            false,
        ),
    ];
    let mut all: Vec<Case> = cases
        .iter()
        .map(|(header, body, good)| {
            let text = format!("HTTP/1.1 200 OK\r\n{header}\r\n{body}");
            let probe = Probe::Http(get(with_digest(HELLO)));
            Case::new(
                format!("digest {header:?} {body:?}"),
                probe,
                answer(text),
                *good,
            )
        })
        .collect();
    // As `printf '5\r\nhello\r\n0\r\n\r\n' | md5sum` has it.
    let chunks = with_digest(0x79e9_489e_3bd3_f0cb_0158_2153_41de_046d);
    let text = "HTTP/1.1 200 OK\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
    all.push(Case::new(
        "digest of chunks",
        Probe::Http(get(chunks)),
        answer(text),
        true,
    ));
    let length = "HTTP/1.1 200 OK\r\n\r\nhello";
    let steps = vec![ASKED, say(length), Step::Read, say("Content-Length: 1\r\n")];
    let probe = Probe::Http(get(with_digest(HELLO)));
    all.push(Case::new("a length in the body", probe, steps, false));
    let mut large = b"HTTP/1.1 200 OK\r\n\r\n".to_vec();
    large.resize(large.len() + 1_000_000, b'a');
    // As `head -c 1000000 /dev/zero | tr '\0' a | md5sum` has it.
    let digest = with_digest(0x7707_d6ae_4e02_7c70_eea2_a935_c229_6f21);
    all.push(Case::new(
        "a large body",
        Probe::Http(get(digest)),
        answer(large),
        true,
    ));
    all
}

fn expressions() -> Vec<Case> {
    let body = "HTTP/1.1 200 OK\r\n\r\n{\"status\": \"up\", \"load\": 17}\nend\n";
    let cases: [(&str, &[&str], bool); 12] = [
        (r#"{"status": "up""#, &[], true),
        (r#""load": \d{1,2}\b"#, &[], true),
        ("STATUS", &[], false),
        ("STATUS", &["caseless"], true),
        ("^end", &[], false),
        ("^end", &["multiline"], true),
        ("17}.end", &[], false),
        ("17}.end", &["dotall"], true),
        ("status.*load", &[], true),
        ("s t a t u s # x", &["extended"], true),
        (r"[[:digit:]]+}\n\x65", &[], true),
        ("down|broken", &[], false),
    ];
    let all: Vec<Case> = cases
        .iter()
        .map(|(pattern, options, good)| {
            let probe = Probe::Http(get(with_regex(pattern, options)));
            Case::new(
                format!("regex {pattern:?} {options:?}"),
                probe,
                answer(body),
                *good,
            )
        })
        .collect();
    all
}

/// Where matches may begin, and those that must not be.
fn limits() -> Vec<Case> {
    let body = "HTTP/1.1 200 OK\r\n\r\n{\"status\": \"up\", \"load\": 17}\nend\n";
    let mut all = Vec::new();
    for (min, max, good) in [(21, 0, true), (22, 0, false), (0, 22, true), (0, 21, false)] {
        let mut page = with_regex("status", &[]);
        if let Some(regex) = &mut page.regex {
            (regex.min_offset, regex.max_offset) = (min, max);
        }
        let probe = Probe::Http(get(page));
        all.push(Case::new(
            format!("offsets {min} {max}"),
            probe,
            answer(body),
            good,
        ));
    }
    for (pattern, good) in [("down", true), ("up", false)] {
        let mut page = with_regex(pattern, &[]);
        if let Some(regex) = &mut page.regex {
            regex.absent = true;
        }
        let probe = Probe::Http(get(page));
        all.push(Case::new(
            format!("no match of {pattern}"),
            probe,
            answer(body),
            good,
        ));
    }
    all
}

/// Matches in parts of an answer that packets have or have not parted.
fn parts() -> Vec<Case> {
    let mut all = Vec::new();
    let page = || Probe::Http(get(with_regex("^Server: x|^hello", &["multiline"])));
    let cases = [
        (
            "a match in the header",
            "HTTP/1.1 200 OK\r\nServer: x\r\n\r\n.",
            true,
        ),
        (
            "a match in the header, no body",
            "HTTP/1.1 200 OK\r\nServer: x\r\n\r\n",
            false,
        ),
    ];
    for (name, text, good) in cases {
        all.push(Case::new(name, page(), answer(text), good));
    }
    let split = |body: &str| {
        let head = "HTTP/1.1 200 OK\r\nServer: x\r\n\r\n";
        vec![ASKED, say(head), Step::Read, say(body)]
    };
    let apart = Case::new("the body apart", page(), split("hello"), true);
    let start = Probe::Http(get(with_regex("^hello", &[])));
    all.extend([
        apart,
        Case::new("the body's start", start, split("hello"), true),
    ]);
    let apart = Case::new("a match in a header apart", page(), split("."), true);
    all.push(apart.but(Some(false), "for keepalived packets tell what is looked at"));
    let far = [
        b"HTTP/1.1 200 OK\r\n\r\n".to_vec(),
        vec![b'x'; 300_000],
        b"needle".to_vec(),
        vec![b'x'; 9000],
    ];
    let probe = || Probe::Http(get(with_regex("needle", &[])));
    all.push(Case::new(
        "far within the body",
        probe(),
        answer(far.concat()),
        true,
    ));
    let split = vec![
        ASKED,
        say("HTTP/1.1 200 OK\r\n\r\nxxnee"),
        Step::Read,
        say("dlexx"),
    ];
    all.push(Case::new("a match in two packets", probe(), split, true));
    let mut at_end = Case::new(
        "a match that ends with the body",
        Probe::Http(get(with_regex("end$", &[]))),
        answer("HTTP/1.1 200 OK\r\n\r\nthe end"),
        true,
    );
    at_end = at_end.but(
        Some(false),
        "keepalived waits for more than the body has, and forgets",
    );
    all.push(at_end);
    let begin = vec![
        ASKED,
        say("HTTP/1.1 200 OK\r\n\r\nabc"),
        Step::Read,
        say("defghi"),
    ];
    let begin = Case::new(
        "the start of a packet",
        Probe::Http(get(with_regex("^def", &[]))),
        begin,
        false,
    );
    all.push(begin.but(Some(true), "for keepalived each packet may be a beginning"));
    all
}

fn hostile() -> Vec<Case> {
    let usual = || Probe::Http(get(page()));
    let header = |length: usize| {
        let mut text = b"HTTP/1.1 200 OK\r\nX: ".to_vec();
        text.resize(length - 4, b'x');
        text.extend(b"\r\n\r\n");
        text
    };
    vec![
        Case::new("the longest header", usual(), answer(header(4095)), true),
        Case::new("a longer header", usual(), answer(header(4096)), false),
        Case::new(
            "a header for ever",
            usual(),
            vec![
                ASKED,
                say("HTTP/1.1 200 OK\r\n"),
                Step::Forever(vec![b'x'; 1000]),
            ],
            false,
        ),
        Case::new(
            "a body for ever",
            usual(),
            vec![
                ASKED,
                say("HTTP/1.1 200 OK\r\n\r\n"),
                Step::Forever(vec![b'x'; 1000]),
            ],
            false,
        )
        .but(
            None,
            "keepalived waits for the end as long as anything comes",
        ),
        Case::new(
            "zeros in the header",
            Probe::Http(get(with_digest(HELLO))),
            answer("HTTP/1.1 200 OK\r\nA\0B: \0\r\nContent-Length: 1\r\n\r\nhello"),
            true,
        ),
        Case::new(
            "reset within the body",
            usual(),
            vec![
                ASKED,
                say("HTTP/1.1 200 OK\r\n\r\nhel"),
                Step::Read,
                Step::Reset,
            ],
            false,
        ),
    ]
}

pub(super) fn secured(config: &Arc<ServerConfig>) -> Vec<Case> {
    let probe = |sni: bool| {
        let mut probe = get(Page {
            // Of a host that has a name ours asks by it in any case.
            host: sni.then(|| "www.example".into()),
            ..with_digest(HELLO)
        });
        probe.tls = Some(Tls {
            sni: sni.then(|| "www.example".into()),
            ..Tls::default()
        });
        Probe::Http(probe)
    };
    let tls = |rude| Carrier::Tls {
        config: Arc::clone(config),
        rude,
    };
    let hello = "HTTP/1.1 200 OK\r\n\r\nhello";
    let plain = vec![say(hello)];
    vec![
        Case::new("TLS", probe(false), answer(hello), true).by(tls(false)),
        Case::new("TLS with a name", probe(true), answer(hello), true).by(tls(false)),
        Case::new("TLS without a goodbye", probe(true), answer(hello), true).by(tls(true)),
        Case::new(
            "TLS, wrong digest",
            probe(true),
            answer("HTTP/1.1 200 OK\r\n\r\nhullo"),
            false,
        )
        .by(tls(false)),
        Case::new("TLS, nothing", probe(true), vec![ASKED], false).by(tls(false)),
        Case::new(
            "TLS, nothing and no goodbye",
            probe(true),
            vec![ASKED],
            false,
        )
        .by(tls(true)),
        Case::new("TLS, silence", probe(true), vec![ASKED, Step::Hang], false).by(tls(false)),
        Case::new(
            "TLS, reset",
            probe(true),
            vec![ASKED, say(hello), Step::Read, Step::Reset],
            true,
        )
        .by(tls(true)),
        Case::new("no TLS", probe(true), plain, false).unasked(),
        Case::new("no handshake", probe(true), vec![Step::Hang], false).unasked(),
    ]
}
