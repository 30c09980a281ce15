//! Rules that mark packets, against what they say.

use alloc::vec::Vec;
use core::ops::RangeInclusive;

use evenkeel_datapath::Reason;
use evenkeel_datapath::simulated::{Circumstances, run_tc, run_xdp};
use proptest::prelude::*;

use super::frames::{SYN, around, count, framed, tcp, udp};
use super::*;
use crate::model::{MarkRule, Prefix};

/// There are services of these.
const MARKS: RangeInclusive<u32> = 1..=3;

#[derive(Clone, Debug)]
struct Sent {
    protocol: Protocol,
    source: IpAddr,
    destination: IpAddr,
    port: u16,
    interface: u32,
    /// The mark that it carries.
    mark: u32,
}

fn addresses() -> impl Strategy<Value = (IpAddr, IpAddr)> {
    let pair = |from: &str, to: &str| (from.parse().unwrap(), to.parse().unwrap());
    prop_oneof![
        Just(pair("10.1.0.1", "10.9.0.1")),
        Just(pair("10.1.0.129", "10.9.1.1")),
        Just(pair("10.2.0.1", "10.9.0.2")),
        Just(pair("fd01::1", "fd09::1")),
        Just(pair("fd01:0:0:1::1", "fd09:8000::1")),
    ]
}

fn protocol() -> impl Strategy<Value = Protocol> {
    prop_oneof![Just(Protocol::Tcp), Just(Protocol::Udp)]
}

fn port() -> impl Strategy<Value = u16> {
    prop_oneof![
        Just(0),
        Just(79),
        Just(80),
        Just(81),
        Just(u16::MAX),
        any::<u16>()
    ]
}

prop_compose! {
    fn sent()(
        protocol in protocol(),
        (source, destination) in addresses(),
        port in port(),
        interface in 1u32..3,
        mark in 0u32..5,
    ) -> Sent {
        Sent { protocol, source, destination, port, interface, mark }
    }
}

fn prefix((address, bits): (IpAddr, u8)) -> Prefix {
    let octets = |bytes: &mut [u8]| {
        for (at, byte) in bytes.iter_mut().enumerate() {
            let kept = u32::from(bits).saturating_sub(8 * at as u32).min(8);
            *byte &= (0xff00_u32 >> kept) as u8;
        }
    };
    match address {
        IpAddr::V4(v4) => {
            let mut bytes = v4.octets();
            octets(&mut bytes);
            Prefix {
                address: bytes.into(),
                bits: bits.min(32),
            }
        }
        IpAddr::V6(v6) => {
            let mut bytes = v6.octets();
            octets(&mut bytes);
            Prefix {
                address: bytes.into(),
                bits,
            }
        }
    }
}

/// A rule and the index of its interface, 0: any.
fn rule() -> impl Strategy<Value = (MarkRule, u32)> {
    let bits = prop_oneof![
        Just(0),
        Just(8),
        Just(16),
        Just(25),
        Just(32),
        Just(64),
        Just(128)
    ];
    let end = move || (prop::option::of(bits.clone()), any::<bool>());
    let ports = prop::collection::vec((port(), port()), 0..3);
    let interface = prop_oneof![3 => Just(0), 1 => 1u32..3];
    let fields = (
        1u32..5,
        prop::option::of(protocol()),
        addresses(),
        end(),
        end(),
        ports,
        interface,
    );
    fields.prop_map(
        |(mark, protocol, ends, (source, _), (destination, _), ports, interface)| {
            let rule = MarkRule {
                mark,
                protocol,
                source: source.map(|bits| prefix((ends.0, bits))),
                destination: destination.map(|bits| prefix((ends.1, bits))),
                ports: ports
                    .into_iter()
                    .map(|(a, b)| a.min(b)..=a.max(b))
                    .collect(),
                interface: None,
            };
            (rule, interface)
        },
    )
}

/// What a rule says, in the plainest way.
fn fits(rule: &MarkRule, interface: u32, sent: &Sent) -> bool {
    let within = |wanted: Option<Prefix>, address: IpAddr| {
        let Some(wanted) = wanted else { return true };
        Family::of(&wanted.address) == Family::of(&address)
            && prefix((address, wanted.bits)) == wanted
    };
    rule.protocol
        .is_none_or(|protocol| protocol == sent.protocol)
        && within(rule.source, sent.source)
        && within(rule.destination, sent.destination)
        && (rule.ports.is_empty() || rule.ports.iter().any(|range| range.contains(&sent.port)))
        && (interface == 0 || interface == sent.interface)
}

/// A frame that begins a connection.
fn frame(sent: &Sent) -> Vec<u8> {
    let (from, to) = ((sent.source, 4000), (sent.destination, sent.port));
    framed(&match sent.protocol {
        Protocol::Udp => udp(from, to, false, &[]),
        _ => tcp(from, to, SYN, &[]),
    })
}

/// A service of each mark and family, with a server of its own.
fn rig() -> Rig {
    let mut rig = Rig::new();
    for mark_number in MARKS {
        for (family, server) in [
            (Family::V4, [192, 168, 1, 1].into()),
            (Family::V6, "fd02::1".parse().unwrap()),
        ] {
            let service = mark(mark_number, family);
            let server = ServerKey {
                address: server,
                port: 0,
            };
            rig.apply(add(service, "rr"));
            rig.apply(add_by(service, server, ForwardMethod::Route));
            rig.reach(server.address, None);
        }
    }
    rig
}

/// The mark of the service that takes a frame.
fn taken_by(rig: &Rig, sent: &Sent, at_tc: bool) -> Option<u32> {
    let around = Circumstances {
        interface: sent.interface,
        mark: sent.mark,
        ..around()
    };
    let run = if at_tc { run_tc } else { run_xdp };
    let memory = rig.memory();
    run(memory, &mut frame(sent), around);
    let counted = |server: usize| memory.counters[server].connections.get() != 0;
    let server = (0..memory.servers.len()).find(|&server| counted(server))?;
    let service = memory.servers[server].service.get() as usize;
    Some(memory.services[service].mark.get())
}

proptest! {
    #[test]
    fn a_packet_has_the_mark_of_the_first_rule_that_it_fits(
        rules in prop::collection::vec(rule(), 0..12),
        sent in sent(),
    ) {
        let by_rule = rules
            .iter()
            .find(|(rule, interface)| fits(rule, *interface, &sent))
            .map(|(rule, _)| rule.mark);
        let is_own = |mark| rules.iter().any(|(rule, _)| rule.mark == mark);
        let have_service = |mark: u32| Some(mark).filter(|mark| MARKS.contains(mark));
        for at_tc in [true, false] {
            let mut rig = rig();
            let memory = rig.tables.memory();
            let wanted = rules.iter().map(|(rule, interface)| (rule, *interface));
            prop_assert_eq!(rig.director.set_mark_rules(wanted, &memory), Ok(()));
            rig.director.write_all(&memory);
            let carried = if at_tc { sent.mark } else { 0 };
            let expected = have_service(by_rule.unwrap_or(carried));
            prop_assert_eq!(taken_by(&rig, &sent, at_tc), expected, "{}", at_tc);
            let is_left = !at_tc && by_rule.is_none() && !MARKS.clone().all(is_own);
            let left = count(&rig, Reason::Deferred);
            prop_assert_eq!(left, u64::from(is_left));
        }
    }
}
