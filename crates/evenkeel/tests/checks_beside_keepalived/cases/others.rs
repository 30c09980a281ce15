//! What is no page.

use evenkeel_core::model::{DnsRecord, Probe, UdpProbe, UdpReply};

use super::super::server::{Carrier, Step};
use super::{Case, nowhere, say};

pub(super) fn mail() -> Vec<Case> {
    let probe = || Probe::Smtp {
        hosts: Vec::new(),
        helo: "check.example".into(),
    };
    let talk = |greeting: &str, hello: &str, goodbye: &str| {
        vec![
            say(greeting),
            Step::Hear("check.example\r\n"),
            say(hello),
            Step::Hear("QUIT\r\n"),
            say(goodbye),
        ]
    };
    let long = format!("220 {}\r\n", "x".repeat(600));
    let split = vec![
        say("22"),
        Step::Read,
        say("0 hi\r"),
        Step::Read,
        say("\n"),
        Step::Hear("example\r\n"),
        say("250 a\r\n"),
        Step::Hear("QUIT\r\n"),
        say("221 b\r\n"),
    ];
    let cases = [
        (
            "mail",
            talk("220 hi\r\n", "250 hello\r\n", "221 bye\r\n"),
            true,
        ),
        ("mail, codes alone", talk("220\n", "250\n", "\n"), true),
        ("mail, in pieces", split, true),
        (
            "mail, code and return",
            talk("220\r\n", "250 a\r\n", "221 b\r\n"),
            false,
        ),
        (
            "mail, greeting of two lines",
            talk("220-a\r\n220 b\r\n", "250 a\r\n", "221 b\r\n"),
            false,
        ),
        (
            "mail, two greetings",
            talk("220 a\r\n220 b\r\n", "250 a\r\n", "221 b\r\n"),
            true,
        ),
        (
            "mail, hello of two lines",
            talk("220 a\r\n", "250-a\r\n250 b\r\n", "221 b\r\n"),
            false,
        ),
        ("mail, refused", talk("554 no\r\n", "", ""), false),
        (
            "mail, hello refused",
            talk("220 a\r\n", "550 no\r\n", ""),
            false,
        ),
        (
            "mail, odd goodbye",
            talk("220 a\r\n", "250 b\r\n", "500 what\r\n"),
            true,
        ),
        (
            "mail, no goodbye",
            talk("220 a\r\n", "250 b\r\n", ""),
            false,
        ),
        (
            "mail, a long greeting",
            talk(&long, "250 b\r\n", "221 c\r\n"),
            false,
        ),
        ("mail, a zero", talk("220 a\0\r\n", "", ""), false),
        (
            "mail, for ever",
            vec![Step::Forever(vec![b'2'; 1000])],
            false,
        ),
        (
            "mail, reset",
            vec![say("220 a\r\n"), Step::Hear("\r\n"), Step::Reset],
            false,
        ),
    ];
    let mut all: Vec<Case> = cases
        .into_iter()
        .map(|(name, steps, good)| Case::new(name, probe(), steps, good))
        .collect();
    all.push(Case::new("mail, silence", probe(), vec![Step::Hang], false));
    all
}

pub(super) fn names() -> Vec<Case> {
    let carrier = || Carrier::Udp { id: true };
    let reply = |flags: [u8; 2]| {
        let mut reply = vec![0, 0];
        reply.extend(flags);
        reply.extend([0, 1, 0, 1, 0, 0, 0, 0]);
        reply
    };
    let probe = |record, name: &str| Probe::Dns {
        connect: nowhere(),
        record,
        name: name.into(),
    };
    let mut all: Vec<Case> = DnsRecord::ALL
        .iter()
        .zip([
            ".",
            "example.org",
            "example.org.",
            "a",
            "aa.b.c.d",
            "x--y.example",
            "_a._b.cd",
            "11.2.3.4",
            "xn--a.b",
        ])
        .map(|((record, word, _), name)| {
            let steps = vec![say(reply([0x81, 0x80]))];
            Case::new(format!("{word} {name}"), probe(*record, name), steps, true).by(carrier())
        })
        .collect();
    for code in 1..=15 {
        let steps = vec![say(reply([0x85, 0x80 | code]))];
        let name = format!("code {code}");
        all.push(Case::new(name, probe(DnsRecord::A, "ab.c"), steps, false).by(carrier()));
    }
    let soa = || probe(DnsRecord::Soa, ".");
    let good = reply([0x81, 0x80]);
    let other = [&[0xff, 0xff][..], &good[2..]].concat();
    all.extend([
        Case::new("eight bytes", soa(), vec![say(&good[..8])], true).by(carrier()),
        Case::new("seven bytes", soa(), vec![say(&good[..7])], false).by(carrier()),
        Case::new("a query", soa(), vec![say(reply([1, 0]))], false).by(carrier()),
        Case::new("another's", soa(), vec![say(other)], false).by(Carrier::Udp { id: false }),
        Case::new(
            "noise, then an answer",
            soa(),
            vec![say([1]), say(reply([1, 0])), say(good.clone())],
            true,
        )
        .by(carrier()),
        Case::new("cut off", soa(), vec![say(reply([0x83, 0x80]))], true).by(carrier()),
        Case::new(
            "a large answer",
            soa(),
            vec![say([good, vec![7; 1300]].concat())],
            true,
        )
        .by(carrier()),
        Case::new("no answer", soa(), vec![], false).by(carrier()),
    ]);
    all
}

pub(super) fn datagrams() -> Vec<Case> {
    let probe = |start: &[u8]| {
        Probe::Udp(UdpProbe {
            connect: nowhere(),
            payload: Some(b"\x01\xffping".to_vec()),
            reply: Some(UdpReply {
                start: start.iter().map(|byte| (*byte, 0xff)).collect(),
                min_length: 2,
                max_length: 6,
            }),
        })
    };
    let cases: [(&[u8], &[u8], bool); 6] = [
        (b"pong", b"pong", true),
        (b"pong", b"pongs!", true),
        (b"pong", b"pongs!!", false),
        (b"pong", b"po", true),
        (b"pong", b"p", false),
        (b"pong", b"ping", false),
    ];
    let mut all: Vec<Case> = cases
        .iter()
        .map(|(start, reply, good)| {
            let name = format!("datagram {}", reply.escape_ascii());
            let carrier = Carrier::Udp { id: false };
            Case::new(name, probe(start), vec![say(*reply)], *good).by(carrier)
        })
        .collect();
    let carrier = Carrier::Udp { id: false };
    all.push(Case::new("no datagram", probe(b"pong"), vec![], false).by(carrier));
    all
}
