//! What a trace says of a packet against what becomes of the packet.

use std::sync::Arc;

use evenkeel_config::native;
use evenkeel_core::director::{Hop as ServerHop, Reach};
use evenkeel_core::model::Protocol;
use evenkeel_datapath::host::Hop;
use evenkeel_datapath::simulated::run_tc;
use evenkeel_datapath::word::Word;

use super::*;
use crate::configure;
use crate::dataplane::{Dataplane, InMemory};

const TABLE: &str = r#"
[[service]]
address = "10.0.0.10"
port = 80
scheduler = "wrr"
[[service.server]]
address = "192.168.1.1"
port = 8080
weight = 3
[[service.server]]
address = "192.168.1.2"
port = 8080
method = "full-nat"

[[service]]
address = "10.0.0.10"
port = 81
scheduler = "wlc"
[[service.server]]
address = "192.168.1.1"
upper_threshold = 4
[[service.server]]
address = "192.168.1.2"
method = "ipip"

[[service]]
address = "10.0.0.10"
port = 82
scheduler = "sh"
scheduler_flags = ["sh-port", "sh-fallback"]
persistence = 300
[[service.server]]
address = "192.168.1.1"
method = "route"
[[service.server]]
address = "192.168.1.3"
method = "route"

[[service]]
address = "10.0.0.10"
port = 53
protocol = "udp"
scheduler = "rr"
one_packet = true
[[service.server]]
address = "192.168.1.1"
[[service.server]]
address = "192.168.1.2"

[[service]]
address = "10.0.0.10"
port = 9
protocol = "sctp"
scheduler = "nq"
[[service.server]]
address = "192.168.1.1"
[[service.server]]
address = "192.168.1.254"

[[service]]
mark = 7
scheduler = "lc"
[[service.server]]
address = "192.168.1.1"
method = "route"
[[service.server]]
address = "192.168.1.2"
method = "gre"

[[service]]
address = "fd00::10"
port = 80
scheduler = "mh"
[[service.server]]
address = "fd00:1::1"
[[service.server]]
address = "fd00:1::2"
method = "full-nat"
"#;

const SERVERS: [&str; 5] = [
    "192.168.1.1",
    "192.168.1.2",
    "192.168.1.3",
    "fd00:1::1",
    "fd00:1::2",
];
/// The packets come by this one, and leave by the other.
const IN: u32 = 1;
const OUT: u32 = 3;

/// All that is not a server is reached by [`IN`].
struct Clients;

fn to_client() -> Route {
    Route {
        answer: RouteAnswer::Ready,
        hop: Hop {
            interface: IN,
            macs: [1, 2, 3],
            mtu: 1500,
        },
    }
}

impl Network for Clients {
    fn index(&self, name: &str) -> Option<u32> {
        (name == "outside").then_some(IN)
    }

    fn name(&self, index: u32) -> String {
        let name = if index == IN { "outside" } else { "inside" };
        name.into()
    }

    fn towards(&mut self, address: IpAddr) -> anyhow::Result<Option<u32>> {
        let is_server = SERVERS.iter().any(|server| server.parse() == Ok(address));
        Ok(Some(if is_server { OUT } else { IN }))
    }

    fn way(&mut self, _: IpAddr, _: IpAddr, _: u8, _: u32) -> anyhow::Result<Route> {
        Ok(to_client())
    }
}

/// A daemon without its threads, and its memory.
struct World {
    dataplane: Arc<InMemory>,
    shared: Shared,
}

impl World {
    fn new() -> Self {
        let dataplane = Arc::new(InMemory::new().within(|| Box::new(Clients)));
        let memory: Arc<dyn Dataplane> = Arc::<InMemory>::clone(&dataplane);
        let shared = Shared::new("test", memory, false);
        let config = native::parse(TABLE, "table.toml").expect("a configuration");
        configure::apply(&shared, &config, false, Vec::new()).expect("it is taken");
        shared.with_director(|director| {
            for (number, server) in (1..).zip(SERVERS) {
                let own = if server.contains(':') {
                    "fd00:1::fe"
                } else {
                    "192.168.1.254"
                };
                let hop = ServerHop {
                    interface: OUT,
                    destination_mac: [2, 0, 0, 0, 1, number],
                    source_mac: [2, 0, 0, 0, 0, 3],
                    mtu: 1500,
                    source: own.parse().ok(),
                };
                director.set_hop(server.parse().expect("an address"), Some(Reach::By(hop)));
            }
            let own = "192.168.1.254".parse().expect("an address");
            director.set_hop(own, Some(Reach::Local));
        });
        Self { dataplane, shared }
    }

    fn trace(&self, query: &Query) -> Trace {
        answer(&self.shared, query).expect("a trace")
    }

    /// Sends the packet: the verdict, and the frame that leaves.
    fn send(&self, query: &Query, interface: u32) -> (Verdict, Vec<u8>) {
        let memory = self.dataplane.memory();
        let mut frame = frame::made(query, own_mac(&memory, interface));
        let around = Circumstances {
            interface,
            tick: self.dataplane.now_tick().expect("a clock"),
            cpu: 0,
            routes: &|_, _, _| to_client(),
            wide_routes: &|_, _, _| to_client(),
            mark: query.mark,
            tagged: false,
            for_us: true,
        };
        let verdict = run_tc(memory, &mut frame, around);
        (verdict, frame)
    }
}

fn query(protocol: Protocol, source: &str, destination: &str) -> Query {
    Query {
        source: source.parse().expect("an end"),
        destination: destination.parse().expect("an end"),
        protocol,
        mark: 0,
        flags: 2,
        interface: None,
    }
}

/// First packets of all services, from a few clients again and again.
fn packets() -> Vec<Query> {
    let mut packets = Vec::new();
    for round in 0..12 {
        let client = round % 3 + 2;
        let port = 40_000 + round / 2;
        let from = format!("10.0.1.{client}:{port}");
        for (protocol, to) in [
            (Protocol::Tcp, "10.0.0.10:80"),
            (Protocol::Tcp, "10.0.0.10:81"),
            (Protocol::Tcp, "10.0.0.10:82"),
            (Protocol::Udp, "10.0.0.10:53"),
            (Protocol::Sctp, "10.0.0.10:9"),
            (Protocol::Tcp, "10.0.0.10:25"),
        ] {
            packets.push(query(protocol, &from, to));
        }
        packets.push(Query {
            mark: 7,
            ..query(Protocol::Udp, &from, "10.0.0.99:4711")
        });
        let from = format!("[fd00::{client}]:{port}");
        packets.push(query(Protocol::Tcp, &from, "[fd00::10]:80"));
        let mut later = query(Protocol::Tcp, &from, "[fd00::10]:80");
        later.flags = 0x10;
        packets.push(later);
    }
    packets
}

/// What a packet would change.
fn contents(world: &World) -> Vec<u32> {
    let memory = world.dataplane.memory();
    let loads = memory.loads.iter().map(|load| &load.active);
    let narrow = memory.connections.iter().flat_map(|b| &b.signatures);
    let wide = memory.wide_connections.iter().flat_map(|b| &b.signatures);
    let all = loads.chain(memory.rings).chain(narrow).chain(wide);
    all.map(Word::get).collect()
}

/// Traces a packet, sends it, and compares.
fn compare(world: &World, packet: &Query) -> (Trace, Vec<u8>) {
    let before = contents(world);
    let told = world.trace(packet);
    assert!(contents(world) == before, "a trace has changed something");
    let interface = if told.interface.as_deref() == Some("inside") {
        OUT
    } else {
        IN
    };
    let (verdict, frame) = world.send(packet, interface);
    let expected = match verdict {
        Verdict::Transmit { .. } if told.outcome == Outcome::Answered => Outcome::Answered,
        Verdict::Transmit { .. } => Outcome::Sent,
        Verdict::Drop => Outcome::Dropped,
        _ if told.after.is_some() => Outcome::Delivered,
        _ => Outcome::Passed,
    };
    assert_eq!(told.outcome, expected, "{told:?}");
    let leaves = view::packet(&frame).filter(|after| *after != told.before);
    assert_eq!(told.after, leaves, "{told:?}");
    let afterwards = world.trace(packet);
    assert_eq!(afterwards.known, told.connection, "{told:?}");
    if let Some(template) = &told.template {
        let kept = afterwards
            .template
            .map_or_else(|| template.server.clone(), |it| it.server);
        assert_eq!(kept, template.server);
    }
    (told, frame)
}

#[test]
fn a_packet_fares_as_its_trace_says() {
    let world = World::new();
    let mut names = Vec::new();
    for packet in packets() {
        let (told, _) = compare(&world, &packet);
        let mut name = format!("{:?}", told.outcome);
        if told.schedule.is_some() {
            name += " scheduled";
        } else if told.known.is_some() {
            name += " known";
        }
        if told.template.as_ref().is_some_and(|it| !it.is_new) {
            name += " template";
        }
        names.push(name);
    }
    names.sort();
    names.dedup();
    // Each way that a packet can take was taken.
    for way in [
        "Sent scheduled",
        "Sent known",
        "Sent template",
        "Delivered scheduled",
        "Passed",
    ] {
        assert!(names.iter().any(|name| name == way), "{way}: {names:?}");
    }
}

#[test]
fn an_answer_fares_as_its_trace_says() {
    let world = World::new();
    for packet in packets() {
        let (told, _) = compare(&world, &packet);
        // Where no connection is kept answers are nobody's.
        if told.connection.is_none() {
            continue;
        }
        let after = match (told.outcome, told.after) {
            (Outcome::Sent, Some(after)) if after.outer.is_none() => after,
            _ => continue,
        };
        if told
            .server
            .is_none_or(|it| !["masq", "full-nat"].contains(&&*it.method))
        {
            continue;
        }
        let answer = Query {
            source: after.destination,
            destination: after.source,
            flags: 0x12,
            ..packet.clone()
        };
        let (told, _) = compare(&world, &answer);
        assert!(told.service.is_none(), "{told:?}");
        let back = told
            .after
            .clone()
            .unwrap_or_else(|| panic!("{answer:?} {told:?}"));
        assert_eq!(
            (back.source, back.destination),
            (packet.destination, packet.source)
        );
    }
}

#[test]
fn a_trace_tells_what_the_scheduler_saw() {
    let world = World::new();
    let packet = query(Protocol::Tcp, "10.0.1.2:40000", "10.0.0.10:81");
    for port in 1..=3 {
        let mut other = packet.clone();
        other.source.set_port(port);
        compare(&world, &other);
    }
    let schedule = world.trace(&packet).schedule.expect("it is scheduled");
    let seen: Vec<_> = schedule
        .candidates
        .iter()
        .map(|it| (&*it.name, it.active, it.compared))
        .collect();
    assert_eq!(
        seen,
        [
            ("192.168.1.2:81", 2, Some((512, 1))),
            ("192.168.1.1:81", 1, Some((256, 1)))
        ]
    );
    assert_eq!(schedule.server.as_deref(), Some("192.168.1.1:81"));
}

#[test]
fn an_interface_that_is_not_there_is_refused() {
    let world = World::new();
    let mut packet = query(Protocol::Tcp, "10.0.1.2:40000", "10.0.0.10:80");
    packet.interface = Some("eth9".into());
    let error = answer(&world.shared, &packet).unwrap_err();
    assert_eq!(error.to_string(), "there is no interface eth9");
    packet.interface = Some("outside".into());
    assert_eq!(world.trace(&packet).interface.as_deref(), Some("outside"));
}
