//! The packet path in the kernel and on the host, set up alike.

use std::net::IpAddr;
use std::path::Path;

use evenkeel_core::director::{Director, Hop, Reach};
use evenkeel_core::model::{Edit, MarkRule};
use evenkeel_datapath::host::{Hop as PathHop, Route, RouteAnswer};
use evenkeel_datapath::layout::{Address, Entry, WideEntry, state_word};
use evenkeel_datapath::memory::Memory;
use evenkeel_datapath::simulated::{self, Circumstances, Sizes, Tables};
use evenkeel_datapath::word::Word;
use evenkeel_datapath::{Reason, Verdict, state};
use evenkeel_kernel::dataplane::Dataplane;
use evenkeel_kernel::sizes::Settings;
use evenkeel_kernel::test_run::TestRun;
use evenkeel_kernel::{Program, network};

use crate::common::{ip, object};
use crate::packets::Random;
use crate::rules::{CLIENTS, SERVERS, address};

const LOOPBACK: u32 = 1;

/// So few connections that some have to give way.
const SIZES: Settings = Settings {
    connections: 1024,
    wide_connections: 1024,
    services: 32,
    servers: 512,
    ring_words: 1 << 17,
    seed: None,
};

/// Values that programs return.
mod xdp {
    pub(super) const DROP: u32 = 1;
    pub(super) const PASS: u32 = 2;
    pub(super) const TX: u32 = 3;
    pub(super) const REDIRECT: u32 = 4;
}
mod tc {
    pub(super) const NEXT: u32 = u32::MAX;
    pub(super) const SHOT: u32 = 2;
    pub(super) const REDIRECT: u32 = 7;
}

/// The MAC address that a machine has by its address's last byte and its side.
fn mac(address: IpAddr) -> [u8; 6] {
    match address {
        IpAddr::V4(v4) => {
            let [a, b, _, d] = v4.octets();
            [2, 4, a, b, 0, d]
        }
        IpAddr::V6(v6) => {
            let bytes = v6.octets();
            [2, 6, bytes[0], bytes[1], 0, bytes[15]]
        }
    }
}

/// One of the two links.
#[derive(Clone, Copy)]
struct Side {
    interface: u32,
    mac: [u8; 6],
}

pub(crate) struct Pair {
    pub(crate) dataplane: Dataplane,
    pub(crate) tables: Tables,
    kernel: Director,
    host: Director,
    clients: Side,
    servers: Side,
    time_ms: u64,
}

fn path_hop(to: [u8; 6], side: Side) -> PathHop {
    let word = |b: [u8; 4]| u32::from_ne_bytes(b);
    let from = side.mac;
    PathHop {
        interface: side.interface,
        macs: [
            word([to[0], to[1], to[2], to[3]]),
            word([to[4], to[5], from[0], from[1]]),
            word([from[2], from[3], from[4], from[5]]),
        ],
        mtu: 1500,
    }
}

/// A pair of veths, this end up with addresses.
fn link(name: &str, addresses: [&str; 2]) -> Side {
    ip(&format!("link add {name} type veth peer name {name}p"));
    ip(&format!("addr add {} dev {name}", addresses[0]));
    ip(&format!("addr add {} dev {name} nodad", addresses[1]));
    ip(&format!("link set {name} up"));
    ip(&format!("link set {name}p up"));
    let links = network::links().unwrap();
    let link = links.into_iter().find(|link| link.name == name).unwrap();
    Side {
        interface: link.index,
        mac: link.mac.unwrap(),
    }
}

fn neighbour(interface: &str, address: IpAddr) {
    let mac = mac(address).map(|b| format!("{b:02x}")).join(":");
    ip(&format!(
        "neigh add {address} lladdr {mac} dev {interface} nud permanent"
    ));
}

impl Pair {
    /// `seed`: what hashes begin with, so that a failure comes again.
    pub(crate) fn new(pins: &Path, seed: u64) -> Self {
        ip("link set lo up");
        let clients = link("c0", ["10.1.0.1/16", "fd01::1/64"]);
        let servers = link("s0", ["10.2.0.1/16", "fd02::1/64"]);
        for family in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
            std::fs::write(format!("/proc/sys/net/{family}"), "1").unwrap();
        }
        for client in CLIENTS.iter().flat_map(|list| &list[..3]) {
            neighbour("c0", address(client));
        }
        let (dataplane, _) = Dataplane::open_object(
            pins,
            &Settings {
                seed: Some(seed),
                ..SIZES
            },
            &object(),
        )
        .unwrap();
        let memory = dataplane.memory();
        let sizes = Sizes {
            buckets: memory.connections.len() as u32,
            wide_buckets: memory.wide_connections.len() as u32,
            endpoint_buckets: memory.endpoints.len() as u32,
            wide_endpoint_buckets: memory.wide_endpoints.len() as u32,
            services: SIZES.services,
            servers: SIZES.servers,
            ring_words: memory.rings.len() as u32,
            cpus: memory.reasons.len() as u32,
            seed: memory.control.seed.get(),
        };
        let tables = Tables::new(&sizes);
        let kernel = Director::adopt(&dataplane.memory(), 0);
        let host = Director::adopt(&tables.memory(), 0);
        for memory in [dataplane.memory(), tables.memory()] {
            // The loopback interface takes part, and its address is all zeroes.
            memory.interfaces[LOOPBACK as usize].index.set(LOOPBACK);
            memory.control.answers.set(0);
        }
        let mut pair = Self {
            dataplane,
            tables,
            kernel,
            host,
            clients,
            servers,
            time_ms: 0,
        };
        pair.edit(&[]);
        pair
    }

    /// Applies edits to both, each for itself; how many were made.
    pub(crate) fn edit(&mut self, edits: &[Edit]) -> usize {
        // What was unpublished is free again after a while.
        self.time_ms += 5000;
        let time = self.time_ms;
        let reaches = self.reaches();
        let mut refused = Vec::new();
        let (kernel, host) = (self.dataplane.memory(), self.tables.memory());
        for (director, memory) in [(&mut self.kernel, kernel), (&mut self.host, host)] {
            refused.push(director.apply(edits, false, &memory, time));
            director.set_hops(reaches.iter().copied());
            director.write_all(&memory);
        }
        assert_eq!(refused[0], refused[1]);
        edits.len() - refused[0].len()
    }

    /// Sets the rules that mark packets in both.
    pub(crate) fn mark(&mut self, rules: &[(MarkRule, u32)]) {
        let (kernel, host) = (self.dataplane.memory(), self.tables.memory());
        for (director, memory) in [(&mut self.kernel, kernel), (&mut self.host, host)] {
            let rules = rules.iter().map(|(rule, interface)| (rule, *interface));
            director.set_mark_rules(rules, &memory).unwrap();
            director.write_all(&memory);
        }
    }

    /// Where servers are: the third of each family is this machine, and the last is not known.
    fn reaches(&self) -> Vec<(IpAddr, Option<Reach>)> {
        let reach = |server: &str, source: &str| {
            let server = address(server);
            let hop = Hop {
                interface: self.servers.interface,
                destination_mac: mac(server),
                source_mac: self.servers.mac,
                mtu: 1500,
                source: Some(address(source)),
            };
            (server, Some(Reach::By(hop)))
        };
        let own = [SERVERS[0][2], SERVERS[1][2]].map(|own| (address(own), Some(Reach::Local)));
        let of = |family: usize, source: &'static str| {
            SERVERS[family][..2]
                .iter()
                .map(move |server| reach(server, source))
        };
        let others = of(0, "10.2.0.1").chain(of(1, "fd02::1"));
        others.chain(own).collect()
    }

    /// What the kernel would answer about the way to an address.
    fn route(&self, to: IpAddr) -> Route {
        let own = ["10.1.0.1", "10.2.0.1", "fd01::1", "fd02::1"];
        if own.iter().any(|own| address(own) == to) {
            return Route::without_hop(RouteAnswer::None);
        }
        let unresolved = |interface| Route {
            answer: RouteAnswer::Unresolved,
            hop: PathHop {
                interface,
                macs: [0; 3],
                mtu: 0,
            },
        };
        let is_client = |list: &[&str]| list.iter().any(|client| address(client) == to);
        if CLIENTS.iter().any(|list| is_client(&list[..3])) {
            return Route {
                answer: RouteAnswer::Ready,
                hop: path_hop(mac(to), self.clients),
            };
        }
        let net = match to {
            IpAddr::V4(v4) => v4.octets()[..2].to_vec(),
            IpAddr::V6(v6) => v6.octets()[..8].to_vec(),
        };
        match net[..] {
            [10, 1] | [0xfd, 1, 0, 0, 0, 0, 0, 0] => unresolved(self.clients.interface),
            [10, 2] | [0xfd, 2, 0, 0, 0, 0, 0, 0] => unresolved(self.servers.interface),
            _ => Route::without_hop(RouteAnswer::None),
        }
    }

    /// Which interface a packet comes by. At tc now and then it is one of this machine's
    /// own; at XDP, test runs have no other.
    pub(crate) fn ingress(&self, program: Program, random: &mut Random) -> u32 {
        if program == Program::Tc && !random.one_in(8) {
            self.clients.interface
        } else {
            LOOPBACK
        }
    }

    /// The address of an interface that packets come by.
    pub(crate) fn mac_of(&self, interface: u32) -> [u8; 6] {
        if interface == LOOPBACK {
            [0; 6]
        } else {
            self.clients.mac
        }
    }

    /// Runs a frame through both, and compares verdict and bytes.
    pub(crate) fn run_both(
        &self,
        program: Program,
        bytes: &[u8],
        mark: u32,
        interface: u32,
    ) -> (u32, Vec<u8>) {
        let run = TestRun {
            mark,
            interface: if interface == LOOPBACK { 0 } else { interface },
            ..TestRun::new(bytes)
        };
        let result = self.dataplane.test_run(program, &run).unwrap();
        let mut copy = bytes.to_vec();
        let of_words = |address: Address| {
            let bytes: Vec<u8> = address.iter().flat_map(|word| word.to_ne_bytes()).collect();
            IpAddr::from(<[u8; 16]>::try_from(bytes).unwrap())
        };
        let around = Circumstances {
            interface,
            tick: self.dataplane.now_tick().unwrap(),
            cpu: 0,
            routes: &|_, to: u32, _| self.route(IpAddr::from(to.to_ne_bytes())),
            wide_routes: &|from, to, _| {
                if of_words(from).is_multicast() {
                    // The kernel has no way for what nobody can have sent.
                    return Route::without_hop(RouteAnswer::None);
                }
                self.route(of_words(to))
            },
            tagged: false,
            for_us: bytes[..6] == self.mac_of(interface),
            mark,
        };
        let memory = self.tables.memory();
        let (verdict, number) = if program == Program::Xdp {
            let verdict = simulated::run_xdp(memory, &mut copy, around);
            let number = match verdict {
                Verdict::Drop => xdp::DROP,
                Verdict::Transmit {
                    interface: LOOPBACK,
                } => xdp::TX,
                Verdict::Transmit { .. } => xdp::REDIRECT,
                _ => xdp::PASS,
            };
            (verdict, number)
        } else {
            let run = match program {
                Program::Egress => simulated::run_egress,
                Program::Bare => simulated::run_bare,
                _ => simulated::run_tc,
            };
            let verdict = run(memory, &mut copy, around);
            let number = match verdict {
                Verdict::Drop => tc::SHOT,
                Verdict::Transmit { .. } | Verdict::Resolve { .. } => tc::REDIRECT,
                _ => tc::NEXT,
            };
            (verdict, number)
        };
        let about = || {
            let head = &bytes[..bytes.len().min(100)];
            format!(
                "host {verdict:?}, mark {mark}, {} bytes {head:02x?}, {}",
                bytes.len(),
                self.differences()
            )
        };
        assert_eq!(result.verdict, number, "verdict; {}", about());
        assert!(result.frame == copy, "bytes after {}", about());
        (number, copy)
    }

    /// What was counted differently.
    fn differences(&self) -> String {
        let (kernel, host) = (self.dataplane.memory(), self.tables.memory());
        let different = Reason::ALL.iter().filter_map(|(reason, name, _)| {
            let there = simulated::reason_count(&kernel, *reason);
            let here = simulated::reason_count(&host, *reason);
            (there != here).then(|| format!("{name}: kernel {there}, host {here}"))
        });
        different.collect::<Vec<_>>().join("; ")
    }

    /// True: the packet was sent on.
    pub(crate) fn is_sent(number: u32) -> bool {
        matches!(number, xdp::TX | xdp::REDIRECT | tc::REDIRECT)
    }

    pub(crate) fn compare_memory(&self) {
        let (kernel, host) = (self.dataplane.memory(), self.tables.memory());
        let narrow = |memory: &Memory<'_>| {
            let buckets = memory.connections.iter();
            buckets
                .map(|b| {
                    let entries = b.entries.iter().map(narrow_fields);
                    (values(&b.signatures), entries.collect::<Vec<_>>())
                })
                .collect::<Vec<_>>()
        };
        for (index, (a, b)) in narrow(&kernel).into_iter().zip(narrow(&host)).enumerate() {
            assert_eq!(a, b, "bucket {index}");
        }
        let wide = |memory: &Memory<'_>| {
            let buckets = memory.wide_connections.iter();
            buckets
                .map(|b| {
                    let entries = b.entries.iter().map(wide_fields);
                    (values(&b.signatures), entries.collect::<Vec<_>>())
                })
                .collect::<Vec<_>>()
        };
        for (index, (a, b)) in wide(&kernel).into_iter().zip(wide(&host)).enumerate() {
            assert_eq!(a, b, "wide bucket {index}");
        }
        for (index, (a, b)) in kernel.loads.iter().zip(host.loads).enumerate() {
            let fields = |l: &evenkeel_datapath::layout::Load| {
                [&l.active, &l.inactive, &l.persistent, &l.overloaded].map(Word::get)
            };
            assert_eq!(fields(a), fields(b), "load of {index}");
        }
        assert_eq!(values(kernel.rings), values(host.rings), "rings");
        for (reason, name, _) in Reason::ALL {
            assert_eq!(
                simulated::reason_count(&kernel, *reason),
                simulated::reason_count(&host, *reason),
                "reason {name}"
            );
        }
        assert_eq!(traffic(&kernel), traffic(&host));
    }

    /// How often something was counted.
    pub(crate) fn count(&self, reason: Reason) -> u64 {
        simulated::reason_count(&self.dataplane.memory(), reason)
    }
}

fn values(words: &[Word]) -> Vec<u32> {
    words.iter().map(Word::get).collect()
}

/// All but the time.
fn narrow_fields(e: &Entry) -> [u32; 7] {
    [
        &e.client_address,
        &e.client_port,
        &e.service,
        &e.server,
        &e.state,
        &e.hop,
        &e.server_tag,
    ]
    .map(Word::get)
}

fn wide_fields(e: &WideEntry) -> Vec<u32> {
    let mut all = values(&e.client_address);
    all.extend(values(&e.virtual_address));
    all.extend(
        [
            &e.client_port,
            &e.service,
            &e.server,
            &e.state,
            &e.hop,
            &e.server_tag,
        ]
        .map(Word::get),
    );
    // There stands a time.
    if e.state.get() & state_word::STATE != state::LOCALITY {
        all.push(e.ports.get());
    }
    all
}

fn traffic(memory: &Memory<'_>) -> Vec<[u64; 5]> {
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
}
