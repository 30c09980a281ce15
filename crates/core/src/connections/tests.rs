use super::*;
use crate::director::records::{words, write_words};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use evenkeel_datapath::layout::{method, server_flags};
use evenkeel_datapath::simulated::{Sizes, Tables};
use std::net::Ipv4Addr;
use std::time::Instant;

const TPS: f64 = 4.0;
const NOW: u32 = 1000;

fn number(text: &str) -> u32 {
    u32::from_ne_bytes(text.parse::<Ipv4Addr>().unwrap().octets())
}

fn address(text: &str) -> Address {
    words(text.parse().unwrap())
}

fn be(port: u16) -> u32 {
    u32::from(port.to_be())
}

/// A wide entry, ten seconds old.
struct Wide<'a> {
    client: (&'a str, u16),
    virtual_address: (&'a str, u16),
    server_port: u16,
    protocol: u32,
    service: u32,
    server: u32,
    state: u32,
}

fn put_wide(memory: &Memory<'_>, (bucket, way): (usize, usize), wide: &Wide<'_>) {
    let bucket = &memory.wide_connections[bucket];
    bucket.signatures[way].set(1);
    let entry = &bucket.entries[way];
    write_words(&entry.client_address, address(wide.client.0));
    write_words(&entry.virtual_address, address(wide.virtual_address.0));
    entry
        .client_port
        .set(be(wide.client.1) | wide.protocol << 16);
    let ports = be(wide.virtual_address.1) | be(wide.server_port) << 16;
    entry.ports.set(ports);
    entry.service.set(wide.service | 5 << 16);
    entry.server.set(wide.server);
    entry.seen.set(NOW - 40);
    entry.state.set(wide.state | 3 << 16);
}

/// Services 0 (10.0.0.10:80), 1 (IPv6, mark 7) and 2 (mark 9, persistent) with a server
/// each, and a connection each, of the last one a template as well.
fn fill(memory: &Memory<'_>) {
    let [first, second, third] = [0, 1, 2].map(|index| &memory.services[index]);
    first.address.set(number("10.0.0.10"));
    first.port.set(be(80) | 6 << 16);
    second.mark.set(7);
    third.mark.set(9);
    third.flags.set(service_flags::PERSISTENT);
    third.persistence.set(360);
    let flags = server_flags::ALIVE | server_flags::WEIGHTED;
    for (index, text, flags) in [
        (0, "192.168.1.1", flags),
        (
            1,
            "fd00::1",
            flags | method::ROUTE << server_flags::METHOD_SHIFT,
        ),
        (2, "192.168.1.3", server_flags::ALIVE | server_flags::LOCAL),
    ] {
        let server = &memory.servers[index];
        if index != 1 {
            server.address.set(number(text));
        }
        write_words(&server.wide_address, address(text));
        server.ports.set(be(8080));
        server.flags.set(flags);
    }
    let bucket = &memory.connections[3];
    bucket.signatures[0].set(OVERFLOWED);
    bucket.signatures[9].set(1);
    let entry = &bucket.entries[9];
    entry.client_address.set(number("10.0.0.2"));
    entry.client_port.set(be(43_986) | 6 << 16);
    entry.service.set(77 << 16);
    entry.seen.set(NOW - 6);
    entry.state.set(state::ESTABLISHED | state_word::ANSWERED);
    let wide = Wide {
        client: ("2001:db8::2", 1024),
        virtual_address: ("2001:db8::10", 53),
        server_port: 53,
        protocol: 17,
        service: 1,
        server: 1,
        state: state::UDP,
    };
    put_wide(memory, (0, 15), &wide);
    let wide = Wide {
        client: ("10.0.0.2", 5000),
        virtual_address: ("10.0.0.10", 443),
        server_port: 443,
        protocol: 6,
        service: 2,
        server: 2,
        state: state::FIN_WAIT,
    };
    put_wide(memory, (1, 0), &wide);
    let template = Wide {
        client: ("10.0.0.0", 0),
        virtual_address: ("0.0.0.9", 0),
        server_port: 0,
        protocol: state::TEMPLATE << 8,
        service: 2,
        server: 2,
        state: state::TEMPLATE | state_word::ANSWERED,
    };
    put_wide(memory, (1, 1), &template);
    // What is beside connections is not listed.
    for (way, state) in [(2, state::FRAGMENT), (3, state::LOCALITY), (4, state::FREE)] {
        put_wide(memory, (1, way), &Wide { state, ..template });
    }
}

fn views(memory: &Memory<'_>, buckets: Range<usize>, filter: &Filter) -> Vec<ConnectionView> {
    let director = Director::adopt(memory, 0);
    let mut views = Vec::new();
    let flow = visit(memory, &director, buckets, NOW, TPS, filter, &mut |view| {
        views.push(view);
        ControlFlow::Continue(())
    });
    assert!(flow.is_continue());
    views
}

fn listed(memory: &Memory<'_>, filter: &Filter) -> Vec<String> {
    let views = views(memory, 0..usize::MAX, filter);
    let line = |v: &ConnectionView| {
        format!(
            "{} {} {} {} {} {} {:?}",
            v.protocol, v.remaining_s, v.state, v.client, v.virtual_address, v.server, v.mark
        )
    };
    views.iter().map(line).collect()
}

const TCP: &str = "6 898 ESTABLISHED 10.0.0.2:43986 10.0.0.10:80 192.168.1.1:8080 None";
const UDP: &str = "17 290 UDP [2001:db8::2]:1024 [2001:db8::10]:53 [fd00::1]:53 Some(7)";
const MARKED: &str = "6 110 FIN_WAIT 10.0.0.2:5000 10.0.0.10:443 192.168.1.3:443 Some(9)";
const TEMPLATE: &str = "0 350 ASSURED 10.0.0.0:0 0.0.0.9:0 192.168.1.3:0 Some(9)";

#[test]
fn all_kinds_are_listed() {
    let tables = Tables::new(&Sizes::default());
    let memory = tables.memory();
    fill(&memory);
    let all = Filter::default();
    assert_eq!(listed(&memory, &all), [TCP, UDP, MARKED, TEMPLATE]);
    let views = views(&memory, 0..usize::MAX, &all);
    let traits: Vec<_> = views
        .iter()
        .map(|v| (v.template, v.traits.quiesced, v.traits.local))
        .collect();
    assert_eq!(
        traits,
        [
            (false, false, false),
            (false, false, false),
            (false, true, true),
            (true, true, true)
        ]
    );
}

#[test]
fn a_range_goes_over_both_tables() {
    let tables = Tables::new(&Sizes::default());
    let memory = tables.memory();
    fill(&memory);
    let count = |buckets| views(&memory, buckets, &Filter::default()).len();
    let narrow = memory.connections.len();
    assert_eq!(count(0..3), 0);
    assert_eq!(count(3..4), 1);
    assert_eq!(count(3..narrow + 1), 2);
    assert_eq!(count(narrow + 1..narrow + 2), 2);
    assert_eq!(count(narrow + 2..usize::MAX), 0);
    assert_eq!(count(7..7), 0);
}

/// A filter by what `set` makes of one that wants all.
fn filter(set: impl FnOnce(&mut Filter)) -> Filter {
    let mut filter = Filter::default();
    set(&mut filter);
    filter
}

#[test]
fn kinds_are_chosen() {
    let cases: [(Filter, &[&str]); 8] = [
        (filter(|f| f.protocol = Some(17)), &[UDP]),
        (filter(|f| f.protocol = Some(0)), &[TEMPLATE]),
        (filter(|f| f.state = Some("ASSURED".into())), &[TEMPLATE]),
        (filter(|f| f.state = Some("FIN_WAIT".into())), &[MARKED]),
        (filter(|f| f.state = Some("SYN_RECV".into())), &[]),
        (filter(|f| f.mark = Some(9)), &[MARKED, TEMPLATE]),
        (filter(|f| f.templates = Templates::Only), &[TEMPLATE]),
        (
            filter(|f| f.templates = Templates::Without),
            &[TCP, UDP, MARKED],
        ),
    ];
    let tables = Tables::new(&Sizes::default());
    let memory = tables.memory();
    fill(&memory);
    for (filter, expected) in cases {
        assert_eq!(listed(&memory, &filter), expected, "{filter:?}");
    }
}

#[test]
fn ends_are_chosen() {
    let end = |address: &str, bits, port| {
        let network = address.parse().ok().map(|address| (address, bits));
        Some(End { network, port })
    };
    let client = |end| filter(|f| f.client = end);
    let server = |end| filter(|f| f.server = end);
    let cases: [(Filter, &[&str]); 9] = [
        (client(end("10.0.0.2", 32, None)), &[TCP, MARKED]),
        (client(end("10.9.9.9", 8, None)), &[TCP, MARKED, TEMPLATE]),
        (client(end("::", 0, None)), &[UDP]),
        (client(end("0.0.0.0", 0, Some(5000))), &[MARKED]),
        (client(end("2001:db8::ffff", 32, None)), &[UDP]),
        (server(end("192.168.1.3", 32, None)), &[MARKED, TEMPLATE]),
        (server(end("fd00::2", 127, Some(53))), &[]),
        (server(end("", 0, Some(53))), &[UDP]),
        (filter(|f| f.virtual_address = end("", 0, Some(80))), &[TCP]),
    ];
    let tables = Tables::new(&Sizes::default());
    let memory = tables.memory();
    fill(&memory);
    for (filter, expected) in cases {
        assert_eq!(listed(&memory, &filter), expected, "{filter:?}");
    }
}

#[test]
fn who_has_enough_gets_no_more() {
    let tables = Tables::new(&Sizes::default());
    let memory = tables.memory();
    fill(&memory);
    let director = Director::adopt(&memory, 0);
    let mut count = 0;
    let all = Filter::default();
    let flow = visit(
        &memory,
        &director,
        0..usize::MAX,
        NOW,
        TPS,
        &all,
        &mut |_| {
            count += 1;
            if count == 2 {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        },
    );
    assert!(flow.is_break() && count == 2);
}

#[test]
fn time_that_is_over_is_none_and_a_templates_minute_goes_on() {
    let tables = Tables::new(&Sizes::default());
    let memory = tables.memory();
    fill(&memory);
    let remaining = |age_s: u32| {
        let entries = &memory.wide_connections[1].entries;
        for entry in &entries[..2] {
            entry.seen.set(NOW.wrapping_sub(age_s * 4));
        }
        let views = views(&memory, 0..usize::MAX, &filter(|f| f.mark = Some(9)));
        (views[0].remaining_s, views[1].remaining_s)
    };
    assert_eq!(remaining(0), (120, 360));
    assert_eq!(remaining(120), (0, 240));
    assert_eq!(remaining(361), (0, 59));
    assert_eq!(remaining(361 + 120), (0, 59));
    // Seen on another CPU, a moment ahead.
    memory.wide_connections[1].entries[0].seen.set(NOW + 1);
    let views = views(&memory, 0..usize::MAX, &filter(|f| f.mark = Some(9)));
    assert_eq!(views[0].remaining_s, 120);
    // The service is not persistent any more.
    memory.services[2].flags.set(0);
    assert_eq!(remaining(10), (110, 0));
}

#[test]
fn a_million_take_no_time() {
    const COUNT: usize = 1 << 20;
    let tables = Tables::new(&Sizes {
        buckets: (COUNT / WAYS) as u32,
        ..Sizes::default()
    });
    let memory = tables.memory();
    fill(&memory);
    for (number, bucket) in (0u32..).zip(memory.connections) {
        for (way, entry) in (0u32..).zip(&bucket.entries) {
            bucket.signatures[way as usize].set(1);
            entry.client_address.set(number);
            entry.client_port.set(way | 6 << 16);
            entry.seen.set(NOW);
            entry.state.set(state::ESTABLISHED);
        }
    }
    let director = Director::adopt(&memory, 0);
    let one = Filter {
        client: Some(End {
            network: Some(("1.2.0.0".parse().unwrap(), 32)),
            port: None,
        }),
        ..Filter::default()
    };
    for (what, filter) in [("all", Filter::default()), ("one client's", one)] {
        let start = Instant::now();
        let mut count = 0;
        let flow = visit(
            &memory,
            &director,
            0..usize::MAX,
            NOW,
            TPS,
            &filter,
            &mut |_| {
                count += 1;
                ControlFlow::Continue(())
            },
        );
        assert!(flow.is_continue());
        std::println!("{what}: {count} in {:?}", start.elapsed());
    }
}
