//! The packet path in the kernel against the same source on the host: the same
//! frames through both, and afterwards the same verdicts, bytes and memory.

mod common;

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use common::{SMALL, ip, isolated, open};
use evenkeel_core::director::{Director, Hop};
use evenkeel_core::model::{Edit, ForwardMethod, Protocol, ServerKey, ServiceKey};
use evenkeel_datapath::host::{Hop as PathHop, Route, RouteAnswer};
use evenkeel_datapath::memory::Memory;
use evenkeel_datapath::simulated::{self, Circumstances, Sizes, Tables};
use evenkeel_datapath::{Reason, Verdict};
use evenkeel_kernel::dataplane::Dataplane;
use evenkeel_kernel::test_run::TestRun;
use evenkeel_kernel::{Program, network};

const VIP: [u8; 4] = [10, 9, 0, 1];
const SERVERS: [[u8; 4]; 3] = [[10, 2, 0, 11], [10, 2, 0, 12], [10, 2, 0, 13]];
/// The last has no neighbour entry.
const CLIENTS: [[u8; 4]; 4] = [
    [10, 1, 0, 11],
    [10, 1, 0, 12],
    [10, 1, 0, 13],
    [10, 1, 0, 99],
];
const LOOPBACK: u32 = 1;
const XDP: [u32; 5] = [0, 1, 2, 3, 4];

fn mac(address: [u8; 4]) -> [u8; 6] {
    [2, 0, address[0], address[1], address[2], address[3]]
}

/// A small generator, so that a seed names a run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) as u32
    }
    fn below(&mut self, limit: u32) -> u32 {
        self.next() % limit
    }
    fn of<T: Copy>(&mut self, values: &[T]) -> T {
        values[self.below(values.len() as u32) as usize]
    }
}

fn sum(bytes: &[u8], start: u32) -> u32 {
    bytes.chunks(2).fold(start, |sum, pair| {
        sum + (u32::from(pair[0]) << 8) + u32::from(*pair.get(1).unwrap_or(&0))
    })
}

fn finish(mut sum: u32) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

fn transport_sum(packet: &[u8]) -> u32 {
    let header = usize::from(packet[0] & 0xf) * 4;
    let length = (packet.len() - header) as u32;
    sum(
        &packet[header..],
        sum(&packet[12..20], u32::from(packet[9]) + length),
    )
}

fn ipv4(
    protocol: u8,
    source: [u8; 4],
    destination: [u8; 4],
    options: usize,
    payload: &[u8],
) -> Vec<u8> {
    let header = 20 + options;
    let mut packet = vec![0; header];
    packet[0] = 0x40 | (header / 4) as u8;
    packet[2..4].copy_from_slice(&((header + payload.len()) as u16).to_be_bytes());
    packet[8] = 64;
    packet[9] = protocol;
    packet[12..16].copy_from_slice(&source);
    packet[16..20].copy_from_slice(&destination);
    packet[20..].fill(1);
    let checksum = finish(sum(&packet, 0));
    packet[10..12].copy_from_slice(&checksum.to_be_bytes());
    packet.extend_from_slice(payload);
    packet
}

struct Flow {
    source: [u8; 4],
    source_port: u16,
    destination: [u8; 4],
    destination_port: u16,
}

fn tcp(flow: &Flow, flags: u8, data: usize, options: usize) -> Vec<u8> {
    let mut segment = vec![0u8; 20 + data];
    segment[..2].copy_from_slice(&flow.source_port.to_be_bytes());
    segment[2..4].copy_from_slice(&flow.destination_port.to_be_bytes());
    segment[12] = 0x50;
    segment[13] = flags;
    segment[20..].fill(0xa5);
    let mut packet = ipv4(6, flow.source, flow.destination, options, &segment);
    let at = 20 + options + 16;
    let checksum = finish(transport_sum(&packet));
    packet[at..at + 2].copy_from_slice(&checksum.to_be_bytes());
    packet
}

fn udp(flow: &Flow, with_checksum: bool, data: usize) -> Vec<u8> {
    let mut datagram = vec![0x5au8; 8 + data];
    datagram[..2].copy_from_slice(&flow.source_port.to_be_bytes());
    datagram[2..4].copy_from_slice(&flow.destination_port.to_be_bytes());
    datagram[4..6].copy_from_slice(&((8 + data) as u16).to_be_bytes());
    datagram[6..8].fill(0);
    let mut packet = ipv4(17, flow.source, flow.destination, 0, &datagram);
    if with_checksum {
        let checksum = finish(transport_sum(&packet));
        packet[26..28].copy_from_slice(&checksum.to_be_bytes());
    }
    packet
}

/// An ICMP error from `source` to `destination` that quotes `about`.
fn icmp(source: [u8; 4], destination: [u8; 4], kind: u8, about: &[u8]) -> Vec<u8> {
    let mut message = vec![kind, 1, 0, 0, 0, 0, 0, 0];
    message.extend_from_slice(&about[..about.len().min(28)]);
    let checksum = finish(sum(&message, 0));
    message[2..4].copy_from_slice(&checksum.to_be_bytes());
    ipv4(1, source, destination, 0, &message)
}

fn frame(packet: &[u8], destination: [u8; 6]) -> Vec<u8> {
    let mut frame = destination.to_vec();
    frame.extend_from_slice(&[2, 9, 9, 9, 9, 9, 8, 0]);
    frame.extend_from_slice(packet);
    frame.resize(frame.len().max(60), 0);
    frame
}

/// Both sides, set up alike.
struct Pair {
    dataplane: Dataplane,
    tables: Tables,
    routes: Box<dyn Fn(u32, u32, u8) -> Route>,
}

fn path_hop(interface: u32, to: [u8; 6], from: [u8; 6]) -> PathHop {
    let word = |b: [u8; 4]| u32::from_ne_bytes(b);
    PathHop {
        interface,
        macs: [
            word([to[0], to[1], to[2], to[3]]),
            word([to[4], to[5], from[0], from[1]]),
            word([from[2], from[3], from[4], from[5]]),
        ],
        mtu: 1500,
    }
}

impl Pair {
    fn new(pins: &Path) -> Self {
        ip("link set lo up");
        let (clients, near) = link("c0", "10.1.0.1/16");
        let (servers, far) = link("s0", "10.2.0.1/16");
        std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap();
        for client in &CLIENTS[..3] {
            neighbour("c0", *client);
        }
        let dataplane = open(pins);
        let memory = dataplane.memory();
        let sizes = Sizes {
            buckets: memory.connections.len() as u32,
            endpoint_buckets: memory.endpoints.len() as u32,
            services: SMALL.services,
            servers: SMALL.servers,
            ring_words: memory.rings.len() as u32,
            cpus: memory.reasons.len() as u32,
            seed: memory.control.seed.get(),
        };
        let tables = Tables::new(&sizes);
        for memory in [dataplane.memory(), tables.memory()] {
            let mut director = Director::adopt(&memory, 0);
            assert!(director.apply(&edits(), true, &memory, 0).is_empty());
            for server in &SERVERS[..2] {
                director.set_hop(
                    Ipv4Addr::from(*server),
                    Some(Hop {
                        interface: servers,
                        destination_mac: mac(*server),
                        source_mac: far,
                        mtu: 1500,
                    }),
                );
            }
            director.write_all(&memory);
            // The loopback interface takes part, and its address is all zeroes.
            memory.interfaces[LOOPBACK as usize].index.set(LOOPBACK);
        }
        let routes = move |_source: u32, destination: u32, _protocol: u8| {
            let bytes = destination.to_ne_bytes();
            let unresolved = |interface| Route {
                answer: RouteAnswer::Unresolved,
                hop: PathHop {
                    interface,
                    macs: [0; 3],
                    mtu: 0,
                },
            };
            if CLIENTS[..3].contains(&bytes) {
                Route {
                    answer: RouteAnswer::Ready,
                    hop: path_hop(clients, mac(bytes), near),
                }
            } else if bytes[..2] == [10, 1] {
                unresolved(clients)
            } else if bytes[..2] == [10, 2] {
                unresolved(servers)
            } else {
                Route::without_hop(RouteAnswer::None)
            }
        };
        Self {
            dataplane,
            tables,
            routes: Box::new(routes),
        }
    }

    fn run_both(&self, program: Program, bytes: &[u8]) -> (u32, Vec<u8>) {
        let result = self
            .dataplane
            .test_run(program, &TestRun::new(bytes))
            .unwrap();
        let mut copy = bytes.to_vec();
        let around = Circumstances {
            interface: LOOPBACK,
            tick: self.dataplane.now_tick().unwrap(),
            cpu: 0,
            routes: &*self.routes,
            tagged: false,
            for_us: bytes[..6] == [0; 6],
        };
        let memory = self.tables.memory();
        let (verdict, number) = if program == Program::Xdp {
            let verdict = simulated::run_xdp(memory, &mut copy, around);
            (
                verdict,
                match verdict {
                    Verdict::Drop => XDP[1],
                    Verdict::Pass | Verdict::Resolve { .. } => XDP[2],
                    Verdict::Transmit {
                        interface: LOOPBACK,
                    } => XDP[3],
                    Verdict::Transmit { .. } => XDP[4],
                },
            )
        } else {
            let verdict = simulated::run_tc(memory, &mut copy, around);
            (
                verdict,
                match verdict {
                    Verdict::Pass => u32::MAX,
                    Verdict::Drop => 2,
                    Verdict::Transmit { .. } | Verdict::Resolve { .. } => 7,
                },
            )
        };
        assert_eq!(
            result.verdict, number,
            "verdict; host {verdict:?}, frame {bytes:02x?}"
        );
        assert_eq!(
            result.frame, copy,
            "bytes after {verdict:?} of {bytes:02x?}"
        );
        (number, copy)
    }

    fn compare_memory(&self) {
        let (kernel, host) = (self.dataplane.memory(), self.tables.memory());
        for (index, (a, b)) in kernel.connections.iter().zip(host.connections).enumerate() {
            for way in 0..a.signatures.len() {
                assert_eq!(
                    a.signatures[way].get(),
                    b.signatures[way].get(),
                    "signature {index}/{way}"
                );
                let fields = |e: &evenkeel_datapath::layout::Entry| {
                    [
                        &e.client_address,
                        &e.client_port,
                        &e.service,
                        &e.server,
                        &e.state,
                        &e.hop,
                        &e.server_tag,
                    ]
                    .map(evenkeel_datapath::word::Word::get)
                };
                assert_eq!(
                    fields(&a.entries[way]),
                    fields(&b.entries[way]),
                    "entry {index}/{way}"
                );
            }
        }
        for (a, b) in kernel.loads.iter().zip(host.loads) {
            assert_eq!(
                (a.active.get(), a.inactive.get()),
                (b.active.get(), b.inactive.get())
            );
        }
        for (a, b) in kernel.rings.iter().zip(host.rings) {
            assert_eq!(a.get(), b.get(), "rings");
        }
        for (_, name, _) in Reason::ALL {
            assert_eq!(reason(&kernel, name), reason(&host, name), "reason {name}");
        }
        let traffic = |memory: &Memory<'_>| {
            let mut all = vec![[0; 5]; memory.servers.len()];
            for (index, c) in memory.counters.iter().enumerate() {
                let sum = &mut all[index % memory.servers.len()];
                let words = [
                    &c.connections,
                    &c.in_packets,
                    &c.out_packets,
                    &c.in_bytes,
                    &c.out_bytes,
                ];
                for (sum, word) in sum.iter_mut().zip(words) {
                    *sum += word.get();
                }
            }
            all
        };
        assert_eq!(traffic(&kernel), traffic(&host));
    }
}

fn reason(memory: &Memory<'_>, name: &str) -> u64 {
    let (reason, ..) = Reason::ALL.iter().find(|(_, n, _)| *n == name).unwrap();
    simulated::reason_count(memory, *reason)
}

/// A pair of veths, this end up with an address; its index and MAC address.
fn link(name: &str, address: &str) -> (u32, [u8; 6]) {
    ip(&format!("link add {name} type veth peer name {name}p"));
    ip(&format!("addr add {address} dev {name}"));
    ip(&format!("link set {name} up"));
    ip(&format!("link set {name}p up"));
    let link = network::links()
        .unwrap()
        .into_iter()
        .find(|link| link.name == name)
        .unwrap();
    (link.index, link.mac.unwrap())
}

fn neighbour(interface: &str, address: [u8; 4]) {
    let mac = mac(address).map(|b| format!("{b:02x}")).join(":");
    let address = Ipv4Addr::from(address);
    ip(&format!(
        "neigh add {address} lladdr {mac} dev {interface} nud permanent"
    ));
}

fn edits() -> Vec<Edit> {
    let service = |protocol, port| ServiceKey {
        protocol,
        address: IpAddr::from(VIP),
        port,
    };
    let web = service(Protocol::Tcp, 80);
    let names = service(Protocol::Udp, 53);
    let mut edits = vec![
        Edit::AddService {
            service: web,
            scheduler: "wrr".into(),
        },
        Edit::AddService {
            service: names,
            scheduler: "rr".into(),
        },
        // Nobody serves here.
        Edit::AddService {
            service: service(Protocol::Tcp, 81),
            scheduler: "rr".into(),
        },
    ];
    for (index, address) in SERVERS.iter().enumerate() {
        for (service, port) in [(web, 8080), (names, 53)] {
            edits.push(Edit::AddServer {
                service,
                server: ServerKey {
                    address: IpAddr::from(*address),
                    port,
                },
                method: ForwardMethod::Masq,
                weight: 1 + index as u32,
            });
        }
    }
    edits
}

/// A packet such as a director meets: mostly of its services, sometimes broken.
fn packet(random: &mut Random) -> Vec<u8> {
    let client = random.of(&CLIENTS);
    let server = random.of(&SERVERS);
    let port = 40_000 + random.below(40) as u16;
    let flags = random.of(&[0x02, 0x02, 0x10, 0x10, 0x18, 0x12, 0x11, 0x04, 0x14, 0x00]);
    let data = random.of(&[0, 1, 6, 100, 1400, 1480]);
    let options = random.of(&[0, 0, 0, 4, 40]);
    let up = |service_port| Flow {
        source: client,
        source_port: port,
        destination: VIP,
        destination_port: service_port,
    };
    let down = |server_port| Flow {
        source: server,
        source_port: server_port,
        destination: client,
        destination_port: port,
    };
    let sent = |server_port| Flow {
        source: client,
        source_port: port,
        destination: server,
        destination_port: server_port,
    };
    let answered = |service_port| Flow {
        source: VIP,
        source_port: service_port,
        destination: client,
        destination_port: port,
    };
    let mut packet = match random.below(12) {
        0..=2 => tcp(&up(80), flags, data, options),
        3 | 4 => tcp(&down(8080), flags, data, options),
        5 => udp(&up(53), random.below(4) != 0, data.min(1472)),
        6 => udp(&down(53), random.below(4) != 0, data.min(1472)),
        7 => icmp(
            [10, 2, 0, 1],
            client,
            random.of(&[3, 11, 8]),
            &tcp(&sent(8080), 0x10, 0, 0),
        ),
        8 => icmp(
            client,
            VIP,
            random.of(&[3, 11, 4]),
            &tcp(&answered(80), 0x10, 0, 0),
        ),
        9 => icmp(server, client, 3, &udp(&sent(53), true, 20)),
        10 => tcp(&up(81), flags, 0, 0),
        _ => tcp(&up(4711), flags, data, 0),
    };
    if random.below(6) == 0 {
        let at = random.below(packet.len().min(64) as u32) as usize;
        packet[at] = random.next() as u8;
    }
    if random.below(20) == 0 {
        packet[8] = 1;
    }
    if random.below(20) == 0 {
        packet.truncate(random.below(packet.len() as u32) as usize);
    }
    packet
}

fn compare_many(program: Program, seed: u64, frames: u32) {
    isolated(move |pins| {
        let pair = Pair::new(pins);
        let mut random = Random(seed);
        let mut verdicts = std::collections::BTreeMap::new();
        for _ in 0..frames {
            let destination = if random.below(30) == 0 {
                [2, 1, 1, 1, 1, 1]
            } else {
                [0; 6]
            };
            let mut bytes = frame(&packet(&mut random), destination);
            if random.below(40) == 0 {
                // Tagged for VLAN 7, as a trunk port brings it: nobody's business.
                bytes.splice(12..12, [0x81, 0, 0, 7]);
                let (_, after) = pair.run_both(program, &bytes);
                assert_eq!(after, bytes, "a tagged frame was changed");
                continue;
            }
            let (verdict, _) = pair.run_both(program, &bytes);
            *verdicts.entry(verdict).or_insert(0u32) += 1;
        }
        pair.compare_memory();
        println!("verdicts {verdicts:?}");
        assert!(verdicts.len() >= 3, "too little variety: {verdicts:?}");
        let memory = pair.dataplane.memory();
        for name in [
            "malformed",
            "fragment",
            "no_connection",
            "no_server",
            "ttl_expired",
            "other_host",
        ] {
            assert!(reason(&memory, name) > 0, "no packet was counted as {name}");
        }
    });
}

#[test]
fn xdp_and_the_host_agree() {
    compare_many(Program::Xdp, 0x5eed_0001, 20_000);
}

#[test]
fn tc_and_the_host_agree() {
    compare_many(Program::Tc, 0x5eed_0002, 20_000);
}

/// Every translated packet of whole connections has right checksums.
#[test]
fn checksums_are_right_after_translation() {
    isolated(|pins| {
        let pair = Pair::new(pins);
        for (program, port) in [(Program::Xdp, 1000), (Program::Tc, 2000)] {
            for data in [0, 1, 77, 1460] {
                let up = Flow {
                    source: CLIENTS[0],
                    source_port: port + data as u16,
                    destination: VIP,
                    destination_port: 80,
                };
                let (_, there) = pair.run_both(program, &frame(&tcp(&up, 2, 0, 0), [0; 6]));
                let server: [u8; 4] = there[30..34].try_into().unwrap();
                if server == VIP && program == Program::Xdp {
                    continue; // its server has no neighbour entry: left to tc
                }
                assert!(SERVERS.contains(&server), "{there:02x?}");
                assert_right(&there);
                let back = Flow {
                    source: server,
                    source_port: 8080,
                    destination: up.source,
                    destination_port: up.source_port,
                };
                let (_, back) = pair.run_both(program, &frame(&tcp(&back, 0x12, data, 0), [0; 6]));
                assert_eq!(&back[26..30], VIP);
                assert_right(&back);
                let quote = tcp(
                    &Flow {
                        source: up.source,
                        source_port: up.source_port,
                        destination: server,
                        destination_port: 8080,
                    },
                    0x10,
                    0,
                    0,
                );
                let (_, error) = pair.run_both(
                    program,
                    &frame(&icmp([10, 2, 0, 1], up.source, 11, &quote), [0; 6]),
                );
                assert_eq!(&error[26..30], VIP, "the error comes from the service");
                assert_eq!(finish(sum(&error[34..34 + 36], 0)), 0, "ICMP checksum");
                assert_eq!(
                    finish(sum(&error[42..62], 0)),
                    0,
                    "quoted header's checksum"
                );
                assert_eq!(&error[58..62], VIP);
                assert_eq!(u16::from_be_bytes([error[64], error[65]]), 80);
            }
        }
    });
}

fn assert_right(frame: &[u8]) {
    let length = usize::from(u16::from_be_bytes([frame[16], frame[17]]));
    let packet = &frame[14..14 + length];
    assert_eq!(
        finish(sum(&packet[..20], 0)),
        0,
        "IPv4 header {packet:02x?}"
    );
    assert_eq!(finish(transport_sum(packet)), 0, "transport {packet:02x?}");
    assert_eq!(packet[8], 63, "time to live");
}
