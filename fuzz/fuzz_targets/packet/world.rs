//! A director's tables, what packets and time do to them, and what must hold afterwards.

use std::collections::BTreeMap;
use std::net::IpAddr;

use evenkeel_core::client_hops::next_generation;
use evenkeel_core::director::{AsOf, Director, Hop, Reach};
use evenkeel_core::model::{Edit, MarkRule, Rates, ServiceView, Stats, Timeouts};
use evenkeel_core::sweep::{Sweeper, settle};
use evenkeel_datapath::general::trial;
use evenkeel_datapath::host::{Hop as PathHop, Route, RouteAnswer};
use evenkeel_datapath::layout::{
    Address, Load, RING_HEADER, Server, interface_flags, mapped, server_flags, settings, state_word,
};
use evenkeel_datapath::memory::Memory;
use evenkeel_datapath::simulated::{Circumstances, Sizes, Tables, reason_count, run_tc, run_xdp};
use evenkeel_datapath::table::{OVERFLOWED, Slot, address_of};
use evenkeel_datapath::tree::{self, Tree, has_tree};
use evenkeel_datapath::word::Word;
use evenkeel_datapath::{Reason, Verdict, state};

use crate::frames::{MAC, Made, OWN};
use crate::input::Random;
use crate::packets::{TCP, assert_right};
use crate::rules::{self, SERVERS, VIPS, address};

/// So small that connections give way to each other soon, and with room for the tables of
/// `mh`.
const SIZES: Sizes = Sizes {
    buckets: 2,
    wide_buckets: 2,
    endpoint_buckets: 64,
    wide_endpoint_buckets: 64,
    services: 16,
    servers: 64,
    ring_words: 1 << 16,
    cpus: 1,
    seed: 0x0123_4567_89ab_cdef,
};
/// The interface that frames come by.
const INGRESS: u32 = 4;
/// TCP's flag that begins a connection.
const SYN: u8 = 0x02;
/// Ticks of a second.
const SECOND: u32 = 16;

pub(crate) struct World {
    tables: Tables,
    director: Director,
    sweeper: Sweeper,
    tick: u32,
    time_ms: u64,
    /// Some server is or was the director itself: its packets are passed translated.
    has_local: bool,
    /// Frames that were sent on.
    pub(crate) sent: Vec<Vec<u8>>,
}

/// Where a frame is looked at.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    Xdp,
    Tc,
}

impl World {
    /// Tables of all kinds, as a number says.
    pub(crate) fn new(seed: u64) -> Self {
        let tables = Tables::new(&SIZES);
        let director = Director::adopt(&tables.memory(), 0);
        let mut world = Self {
            tables,
            director,
            sweeper: Sweeper::default(),
            tick: 1,
            time_ms: 0,
            has_local: false,
            sent: Vec::new(),
        };
        let mut random = Random::Seed(seed);
        world.director.set_compatible(random.one_in(2));
        world.settings(&mut random);
        world.edit(&rules::table(&mut random), &mut random);
        world.mark(&rules::marks(&mut random));
        world
    }

    pub(crate) fn memory(&self) -> Memory<'_> {
        self.tables.memory()
    }

    fn settings(&self, random: &mut Random<'_>) {
        let memory = self.memory();
        if random.one_in(2) {
            // All but that which goes with a feature, as the director sets it.
            let any = random.next() & 0xfff & !settings::SECURE_TCP;
            memory.control.settings.set(any);
        }
        let interface = &memory.interfaces[INGRESS as usize];
        let [a, b, c, d, e, f] = MAC;
        let partial = if random.one_in(4) {
            interface_flags::PARTIAL_CHECKSUMS
        } else {
            0
        };
        interface.mac_low.set(u32::from_ne_bytes([a, b, c, d]));
        let high = u32::from(u16::from_ne_bytes([e, f]));
        interface.mac_high.set(high | partial);
        interface.index.set(INGRESS);
        if random.one_in(2) {
            // So few that they run out.
            memory.control.pool_ports.set(4 << 16 | 10_240);
        }
    }

    fn mark(&mut self, rules: &[(MarkRule, u32)]) {
        let memory = self.tables.memory();
        let rules = rules.iter().map(|(rule, interface)| (rule, *interface));
        // Rules are made so that none is refused.
        let set = self.director.set_mark_rules(rules, &memory);
        assert_eq!(set, Ok(()));
        self.director.write_all(&memory);
    }

    fn edit(&mut self, edits: &[Edit], random: &mut Random<'_>) {
        // What was unpublished is free again after a while.
        self.time_ms += 5000;
        let (memory, time) = (self.tables.memory(), self.time_ms);
        self.director.apply(edits, false, &memory, time);
        let mut found = Vec::new();
        for (server, own) in SERVERS
            .iter()
            .zip(OWN)
            .flat_map(|(list, own)| list.iter().map(move |server| (address(server), own)))
        {
            let reach = match random.below(16) {
                13 => None,
                14 => Some(Reach::Local),
                kind => Some(Reach::By(Hop {
                    interface: 2,
                    destination_mac: [2, 4, 0, 0, 0, 1],
                    source_mac: MAC,
                    mtu: if kind == 12 { 600 } else { 1500 },
                    source: (kind != 11).then(|| address(own)),
                })),
            };
            self.has_local |= reach == Some(Reach::Local);
            found.push((server, reach));
        }
        self.director.set_hops(found);
        self.director.write_all(&memory);
    }

    /// A change that a frame does not make: of the tables, of time, of the network.
    pub(crate) fn change(&mut self, input: &mut Random<'_>) {
        match input.below(16) {
            0..=6 => {
                let change = rules::change(input);
                self.edit(&[change], input);
            }
            7 => {
                let service = input.of(&rules::services());
                self.edit(&[Edit::DeleteService { service }], input);
            }
            8 => self.edit(&[Edit::Flush], input),
            9 => self.edit(&[Edit::Zero { service: None }], input),
            10 => {
                let mut seconds = || 1 + input.below(1000);
                let timeouts = Timeouts {
                    tcp: seconds(),
                    tcp_fin: seconds(),
                    udp: seconds(),
                };
                self.edit(&[Edit::SetTimeouts(timeouts)], &mut Random::Seed(1));
            }
            11 => self.settings(input),
            12 => next_generation(&self.memory()),
            _ => self.wait(input),
        }
    }

    /// Time passes, and what is over ends.
    fn wait(&mut self, input: &mut Random<'_>) {
        let seconds = input.of(&[1, 3, 65, 310, 1000, 100_000]);
        self.tick = self.tick.wrapping_add(seconds * SECOND);
        self.time_ms += u64::from(seconds) * 1000;
        let memory = self.tables.memory();
        let buckets = Sweeper::buckets(&memory);
        self.sweeper
            .slice(&memory, buckets, self.tick, f64::from(SECOND));
        self.director.collect(&memory, self.time_ms);
        self.director.write_all(&memory);
    }

    /// Runs a frame through a stage; true: it goes on to the kernel, as it was.
    pub(crate) fn run(&mut self, made: &Made, stage: Stage, input: &mut Random<'_>) -> bool {
        self.tick = self.tick.wrapping_add(1);
        let around = Circumstances {
            interface: INGRESS,
            tick: self.tick,
            cpu: 0,
            routes: &|_, to, _| route(IpAddr::from(to.to_ne_bytes())),
            wide_routes: &|_, to, _| route(wide(to)),
            mark: input.of(&[0, 0, 1, 2]),
            tagged: input.one_in(32),
            for_us: made.bytes.get(..6) == Some(&MAC),
        };
        let mut frame = made.bytes.clone();
        let memory = self.tables.memory();
        let cut_before = reason_count(&memory, Reason::LeftToBeCut);
        let (tried, alone, verdict) = match stage {
            Stage::Xdp => (
                trial::run::<false>(&memory, &made.bytes, around),
                alone::<false>(&memory, &made.bytes, around),
                run_xdp(memory, &mut frame, around),
            ),
            Stage::Tc => (
                trial::run::<true>(&memory, &made.bytes, around),
                alone::<true>(&memory, &made.bytes, around),
                run_tc(memory, &mut frame, around),
            ),
        };
        assert!(
            (tried.verdict, &tried.frame) == (verdict, &frame),
            "a trial"
        );
        assert!(
            alone == (verdict, frame.clone()),
            "the general way alone: {:?}",
            alone.0
        );
        let is_sent = matches!(verdict, Verdict::Transmit { .. } | Verdict::Resolve { .. });
        if stage == Stage::Xdp {
            assert!(!matches!(verdict, Verdict::Resolve { .. }), "XDP can't");
        }
        assert!(!matches!(verdict, Verdict::Then { .. }));
        let is_as_it_was = frame == made.bytes;
        if verdict == Verdict::Pass {
            let is_left = reason_count(&self.memory(), Reason::LeftToBeCut) > cut_before;
            assert!(
                is_as_it_was || is_left || self.has_local,
                "passed, but not as it was"
            );
        }
        if is_sent && made.is_right {
            assert_right(&frame);
        }
        if is_sent && let Some(server) = opened(&made.bytes, &frame) {
            let is_alive = |record: &Server| {
                record.flags.get() & server_flags::ALIVE != 0
                    && address_of(&record.wide_address) == server
            };
            let alive = self.memory().servers.iter().any(is_alive);
            assert!(alive, "a connection was begun with a server that is gone");
        }
        if is_sent {
            self.sent.push(frame);
        }
        verdict == Verdict::Pass && is_as_it_was
    }

    /// What holds whatever has happened.
    pub(crate) fn check(&mut self) {
        let memory = self.tables.memory();
        self.director.write_all(&memory);
        self.check_loads(&memory);
        if self.has_evicted(&memory) {
            // Not all of these are made known to the trees at once.
            settle(&memory);
        } else {
            check_trees(&memory);
        }
        let adopted = Director::adopt(&memory, self.time_ms);
        assert_eq!(adopted.repairs(), 0, "half made");
        let (there, here) = (listed(&adopted, &memory), listed(&self.director, &memory));
        assert_eq!(there.len(), here.len());
        for (there, here) in there.iter().zip(&here) {
            assert_eq!(there, here, "another daemon takes this over differently");
        }
    }

    /// A connection has given way to another.
    fn has_evicted(&self, memory: &Memory<'_>) -> bool {
        let these = [
            Reason::EvictedClosed,
            Reason::EvictedHalfOpen,
            Reason::EvictedIdle,
            Reason::EvictedTemplate,
        ];
        these.iter().any(|&reason| reason_count(memory, reason) > 0)
    }

    /// The servers' counts are those of the connections that there are.
    fn check_loads(&self, memory: &Memory<'_>) {
        let mut counts: BTreeMap<u32, [u32; 3]> = BTreeMap::new();
        for bucket in memory.connections {
            count(&mut counts, &bucket.signatures, &bucket.entries);
        }
        for bucket in memory.wide_connections {
            count(&mut counts, &bucket.signatures, &bucket.entries);
        }
        for (index, load) in memory.loads.iter().enumerate() {
            let Load {
                active,
                inactive,
                persistent,
                ..
            } = load;
            let counted = counts.remove(&(index as u32)).unwrap_or_default();
            let noted = [active, inactive, persistent].map(Word::get);
            let server = &memory.servers[index];
            if server.flags.get() & server_flags::USED != 0 {
                assert_eq!(noted, counted, "connections of server {index}");
            }
        }
    }
}

/// The server that a client's packet was sent to, if it begins a TCP connection over IPv4
/// and is in no tunnel.
fn opened(before: &[u8], after: &[u8]) -> Option<Address> {
    const DESTINATION: std::ops::Range<usize> = 30..34;
    let is_begin = after.get(14) == Some(&0x45)
        && after.get(20..22) == Some(&[0; 2])
        && after.get(23) == Some(&TCP)
        && after.get(47) == Some(&SYN);
    let to = |frame: &[u8]| <[u8; 4]>::try_from(frame.get(DESTINATION)?).ok();
    let is_of = |list: &[&str], to| list.iter().any(|&one| address(one) == IpAddr::from(to));
    let (before, after) = (to(before)?, to(after)?);
    let goes = is_begin && is_of(&VIPS[0], before) && is_of(&SERVERS[0], after);
    goes.then(|| mapped(u32::from_ne_bytes(after)))
}

/// Adds the connections of a bucket.
fn count<E: Slot>(counts: &mut BTreeMap<u32, [u32; 3]>, signatures: &[Word], entries: &[E]) {
    for (signature, entry) in signatures.iter().zip(entries) {
        let state = entry.state().get() & state_word::STATE;
        if state == state::FREE {
            continue;
        }
        assert!(signature.get() & !OVERFLOWED != 0, "live, but free");
        let kind = match state {
            state::TEMPLATE => 2,
            _ if state::is_auxiliary(state) => continue,
            _ if state::is_active(state) => 0,
            _ => 1,
        };
        counts.entry(entry.server().get()).or_default()[kind] += 1;
    }
}

/// What the general way alone makes of a frame.
fn alone<const TC: bool>(
    memory: &Memory<'_>,
    frame: &[u8],
    around: Circumstances<'_>,
) -> (Verdict, Vec<u8>) {
    let mut frame = frame.to_vec();
    let verdict = trial::general_way::<TC>(memory, &mut frame, around);
    (verdict, frame)
}

/// No comparison of a tree was missed.
fn check_trees(memory: &Memory<'_>) {
    for service in memory.services {
        let (number, ring) = (service.scheduler.get(), service.ring.get());
        if service.flags.get() & 1 == 0 || !has_tree(number) {
            continue;
        }
        // Behind the header, where it is counted how often the tree was looked at.
        let first = ((ring >> 32) as u32 + RING_HEADER) as usize;
        let words = || memory.rings.iter().skip(first).map(Word::get);
        let before: Vec<u32> = words()
            .take((tree::words(ring as u32) - RING_HEADER) as usize)
            .collect();
        Tree::of(number, ring).settle_all(memory);
        assert!(
            words().zip(before).all(|(after, before)| after == before),
            "a tree was not settled"
        );
    }
}

/// The table, without its traffic.
fn listed(director: &Director, memory: &Memory<'_>) -> Vec<ServiceView> {
    let mut list = director.list(None, AsOf::Now, memory).unwrap_or_default();
    list.sort_by_key(|service| service.key);
    for service in &mut list {
        // Since when traffic is counted, a director alone knows.
        service.stats = Stats::default();
        service.rates = Rates::default();
        for server in &mut service.servers {
            server.stats = Stats::default();
            server.rates = Rates::default();
        }
    }
    list
}

fn wide(address: Address) -> IpAddr {
    let mut bytes = [0; 16];
    for (part, word) in bytes.chunks_exact_mut(4).zip(address) {
        part.copy_from_slice(&word.to_ne_bytes());
    }
    bytes.into()
}

/// What the kernel answers about the way to an address: every answer for some.
fn route(to: IpAddr) -> Route {
    let last = match to {
        IpAddr::V4(v4) => v4.octets()[3],
        IpAddr::V6(v6) => v6.octets()[15],
    };
    let hop = PathHop {
        interface: u32::from(last % 3),
        macs: [u32::from(last), 1, 2],
        mtu: if last == 12 { 1000 } else { 1500 },
    };
    match last {
        13 => Route::without_hop(RouteAnswer::None),
        14 => Route::without_hop(RouteAnswer::ForwardingOff),
        99 => Route {
            answer: RouteAnswer::Unresolved,
            hop,
        },
        _ => Route {
            answer: RouteAnswer::Ready,
            hop,
        },
    }
}
