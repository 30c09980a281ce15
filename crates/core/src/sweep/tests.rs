use super::*;
use crate::director::records::{words, write_words};
use evenkeel_datapath::layout::{RING_HEADER, method};
use evenkeel_datapath::simulated::{Sizes, Tables};
use evenkeel_datapath::{load, tree};
use std::net::Ipv4Addr;

const TPS: f64 = 4.0;
const SERVER: u32 = 3;

fn narrow_address(text: &str) -> u32 {
    u32::from_ne_bytes(text.parse::<Ipv4Addr>().unwrap().octets())
}

fn address(text: &str) -> Address {
    words(text.parse().unwrap())
}

/// Takes a place for something live of [`SERVER`].
fn put<B: Buckets>(
    memory: &Memory<'_>,
    buckets: &[B],
    (bucket, way): Place,
    state: u32,
    seen: u32,
) {
    let place = &buckets[bucket];
    let word = &place.signatures()[way];
    word.set(0x77 | word.get());
    let entry = &place.entries()[way];
    entry.seen().set(seen);
    entry.server().set(SERVER);
    entry.state().set(5 << 16 | state_word::ANSWERED | state);
    load::begin(memory, SERVER, state);
}

fn put_narrow(memory: &Memory<'_>, place: Place, state: u32, seen: u32) {
    put(memory, memory.connections, place, state, seen);
}

fn put_wide(memory: &Memory<'_>, place: Place, state: u32, seen: u32) {
    put(memory, memory.wide_connections, place, state, seen);
}

/// A wide entry of a client with a service.
fn put_client(
    memory: &Memory<'_>,
    (bucket, way): Place,
    state: u32,
    seen: u32,
    client: &str,
    service: u32,
) {
    put_wide(memory, (bucket, way), state, seen);
    let entry = &memory.wide_connections[bucket].entries[way];
    write_words(&entry.client_address, address(client));
    entry.service.set(service);
}

fn loads(memory: &Memory<'_>) -> (u32, u32, u32) {
    let load = &memory.loads[SERVER as usize];
    (
        load.active.get(),
        load.inactive.get(),
        load.persistent.get(),
    )
}

fn pass(sweeper: &mut Sweeper, memory: &Memory<'_>, tick: u32) -> Summary {
    sweeper.slice(memory, usize::MAX, tick, TPS).unwrap()
}

#[test]
fn silence_ends_connections_by_their_state() {
    let tables = Tables::new(&Sizes::default());
    let memory = tables.memory();
    memory.connections[7].signatures[0].set(table::OVERFLOWED);
    // Ticks wrap while the connections are silent.
    let start = u32::MAX - 10;
    put_narrow(&memory, (7, 0), state::ESTABLISHED, start);
    put_narrow(&memory, (7, 5), state::UDP, start);
    put_wide(&memory, (9, 15), state::TIME_WAIT, start);
    put_wide(&memory, (9, 2), state::NONE, start.wrapping_add(1));
    put_wide(&memory, (63, 1), state::SCTP_ESTABLISHED, start);
    assert_eq!(loads(&memory), (2, 3, 0));
    let mut sweeper = Sweeper::default();
    let mut at = |seconds: u32| pass(&mut sweeper, &memory, start.wrapping_add(seconds * 4));
    assert_eq!(at(0).in_use(), 5);
    let summary = at(120);
    assert_eq!((summary.expired, summary.in_use()), (1, 4));
    let summary = at(121);
    assert_eq!(
        (summary.expired, summary.states[state::TIME_WAIT as usize]),
        (1, 0)
    );
    assert_eq!(loads(&memory), (2, 1, 0));
    assert_eq!(at(301).expired, 1);
    assert_eq!(at(900).in_use(), 2);
    assert_eq!(at(901).expired, 2);
    assert_eq!(loads(&memory), (0, 0, 0));
    // The mark of the bucket stays, the generation has moved on.
    assert_eq!(memory.connections[7].signatures[0].get(), table::OVERFLOWED);
    assert_eq!(memory.connections[7].entries[0].state.get(), 6 << 16);
}

#[test]
fn timeouts_are_those_that_were_set() {
    let tables = Tables::new(&Sizes::default());
    let memory = tables.memory();
    memory.control.timeout_udp.set(5);
    put_narrow(&memory, (0, 0), state::UDP, 100);
    let mut sweeper = Sweeper::default();
    assert_eq!(pass(&mut sweeper, &memory, 120).expired, 0);
    assert_eq!(pass(&mut sweeper, &memory, 121).expired, 1);
}

#[test]
fn a_udp_flow_leaves_a_quiesced_server_when_it_pauses() {
    let tables = Tables::new(&Sizes::default());
    let memory = tables.memory();
    let server = &memory.servers[SERVER as usize];
    let service = &memory.services[0];
    let mut sweeper = Sweeper::default();
    sweeper.set_udp_quiesced_seconds(20);
    put_narrow(&memory, (0, 0), state::UDP, 0);
    put_narrow(&memory, (0, 1), state::ESTABLISHED, 0);
    put_wide(&memory, (0, 0), state::UDP, 40);
    let mut expired = |weight, ways, tick| {
        server.flags.set(server_flags::ALIVE | weight);
        service.flags.set(ways);
        pass(&mut sweeper, &memory, tick).expired
    };
    // Not while it has a weight, nor by IPVS's ways, nor before the time.
    assert_eq!(expired(server_flags::WEIGHTED, 0, 81), 0);
    assert_eq!(expired(0, service_flags::COMPATIBLE, 81), 0);
    assert_eq!(expired(0, 0, 80), 0);
    assert_eq!(expired(0, 0, 81), 1);
    assert_eq!(expired(0, 0, 121), 1);
    assert_eq!(loads(&memory), (1, 0, 0));
}

#[test]
fn an_end_counts_for_the_thresholds() {
    let tables = Tables::new(&Sizes::default());
    let memory = tables.memory();
    memory.servers[SERVER as usize].upper_threshold.set(2);
    put_narrow(&memory, (0, 0), state::UDP, 0);
    put_narrow(&memory, (0, 1), state::ESTABLISHED, 0);
    let overloaded = &memory.loads[SERVER as usize].overloaded;
    assert_eq!(overloaded.get(), 1);
    pass(&mut Sweeper::default(), &memory, 301 * 4);
    assert_eq!(overloaded.get(), 0);
}

#[test]
fn what_was_never_finished_is_freed() {
    fn try_one<B: Buckets>(memory: &Memory<'_>, buckets: &[B]) {
        let word = &buckets[1].signatures()[1];
        word.set(0x55);
        let mut sweeper = Sweeper::default();
        assert_eq!(pass(&mut sweeper, memory, 1000).reclaimed, 0);
        // Given up and claimed by another meanwhile: its time begins anew.
        buckets[1].entries()[1].state().set(1 << 16);
        assert_eq!(pass(&mut sweeper, memory, 1100).reclaimed, 0);
        assert_eq!(pass(&mut sweeper, memory, 1108).reclaimed, 0);
        assert_eq!(pass(&mut sweeper, memory, 1109).reclaimed, 1);
        assert_eq!(word.get(), 0);
        assert_eq!(pass(&mut sweeper, memory, 1110), Summary::default());
        assert!(sweeper.unfinished.is_empty());
    }
    let tables = Tables::new(&Sizes::default());
    let memory = tables.memory();
    try_one(&memory, memory.connections);
    try_one(&memory, memory.wide_connections);
}

#[test]
fn slices_make_a_pass() {
    let tables = Tables::new(&Sizes::default());
    let memory = tables.memory();
    for bucket in 0..64 {
        put_narrow(&memory, (bucket, bucket % 16), state::ESTABLISHED, 0);
        put_wide(&memory, (bucket, bucket % 16), state::ESTABLISHED, 0);
    }
    let mut sweeper = Sweeper::default();
    for _ in 0..3 {
        for _ in 0..12 {
            assert_eq!(sweeper.slice(&memory, 10, 1, TPS), None);
        }
        let summary = sweeper.slice(&memory, 10, 1, TPS).unwrap();
        assert_eq!(summary.in_use(), 128);
    }
}

#[test]
fn connections_end_with_their_server_where_that_is_set() {
    let tables = Tables::new(&Sizes::default());
    let memory = tables.memory();
    put_narrow(&memory, (0, 0), state::ESTABLISHED, 0);
    put_wide(&memory, (0, 0), state::UDP, 0);
    persistent(&memory);
    put_client(&memory, (5, 5), state::TEMPLATE, 0, "10.1.2.0", 1);
    let mut sweeper = Sweeper::default();
    assert_eq!(pass(&mut sweeper, &memory, 1).expired, 0);
    let settings = &memory.control.settings;
    settings.set(settings.get() | settings::EXPIRE_NODEST_CONN);
    let flags = &memory.servers[SERVER as usize].flags;
    flags.set(server_flags::ALIVE | method::MASQ << server_flags::METHOD_SHIFT);
    assert_eq!(pass(&mut sweeper, &memory, 2).expired, 0);
    flags.set(server_flags::USED);
    assert_eq!(pass(&mut sweeper, &memory, 3).expired, 3);
}

/// Services 1 (IPv4, /24) and 2 (IPv6, /64), persistent for 100 s.
fn persistent(memory: &Memory<'_>) {
    let flags = service_flags::USED | service_flags::PERSISTENT;
    for (index, netmask) in [(1, narrow_address("255.255.255.0")), (2, 64)] {
        let service = &memory.services[index];
        service.flags.set(flags);
        service.persistence.set(100);
        service.netmask.set(netmask);
    }
}

#[test]
fn a_template_ends_after_its_services_time() {
    let tables = Tables::new(&Sizes::default());
    let memory = tables.memory();
    persistent(&memory);
    put_client(&memory, (5, 5), state::TEMPLATE, 0, "10.1.2.0", 1);
    // Connections of others: another network, service, server.
    put_client(&memory, (6, 0), state::ESTABLISHED, 0, "10.1.3.9", 1);
    put_client(&memory, (6, 1), state::ESTABLISHED, 0, "10.1.2.9", 2);
    put_client(&memory, (6, 2), state::ESTABLISHED, 0, "10.1.2.9", 1);
    memory.wide_connections[6].entries[2].server.set(4);
    let mut sweeper = Sweeper::default();
    assert_eq!(pass(&mut sweeper, &memory, 400).expired, 0);
    assert!(!sweeper.templates.are_sought());
    // Over; but its connections are still to be looked for, for a whole pass.
    assert_eq!(pass(&mut sweeper, &memory, 401).expired, 0);
    assert_eq!(loads(&memory).2, 1);
    assert_eq!(pass(&mut sweeper, &memory, 402).expired, 1);
    assert_eq!(loads(&memory).2, 0);
    assert!(!sweeper.templates.are_sought());
    assert_eq!(pass(&mut sweeper, &memory, 403).expired, 0);
}

#[test]
fn a_template_that_is_used_meanwhile_stays() {
    let tables = Tables::new(&Sizes::default());
    let memory = tables.memory();
    persistent(&memory);
    put_client(&memory, (5, 5), state::TEMPLATE, 0, "2001:db8::", 2);
    let mut sweeper = Sweeper::default();
    pass(&mut sweeper, &memory, 500);
    memory.wide_connections[5].entries[5].seen.set(501);
    for tick in [501, 502, 900] {
        let summary = pass(&mut sweeper, &memory, tick);
        assert_eq!(summary.states[state::TEMPLATE as usize], 1, "{tick}");
    }
    assert!(!sweeper.templates.are_sought());
}

/// The ticks at which a template, whose time is over at 400, is there no more, looked
/// at every second, when its one connection ends at `end`.
fn ends_at(memory: &Memory<'_>, end_connection: impl Fn(), end: u32) -> u32 {
    let mut sweeper = Sweeper::default();
    for tick in (396..4000).step_by(4) {
        if tick >= end {
            end_connection();
        }
        pass(&mut sweeper, memory, tick);
        if loads(memory).2 == 0 {
            assert!(!sweeper.templates.are_sought());
            assert!(sweeper.templates.is_empty());
            return tick;
        }
    }
    panic!("it stays");
}

#[test]
fn a_template_with_connections_gets_a_minute_more_each_time() {
    let tables = Tables::new(&Sizes::default());
    let memory = tables.memory();
    persistent(&memory);
    put_client(&memory, (5, 5), state::TEMPLATE, 0, "2001:db8:1:2::", 2);
    let client = "2001:db8:1:2:3::4";
    put_client(&memory, (2, 2), state::ESTABLISHED, 300, client, 2);
    let connection = &memory.wide_connections[2];
    // The third minute begins at 400 + 480 ticks, and ends at 1120.
    let end = ends_at(&memory, || connection.signatures[2].set(0), 1000);
    assert!((1120..=1132).contains(&end), "{end}");
}

#[test]
fn ipv4_connections_prolong_as_well() {
    let tables = Tables::new(&Sizes::default());
    let memory = tables.memory();
    persistent(&memory);
    put_client(&memory, (5, 5), state::TEMPLATE, 0, "10.1.2.0", 1);
    put_narrow(&memory, (4, 1), state::ESTABLISHED, 390);
    let entry = &memory.connections[4].entries[1];
    entry.client_address.set(narrow_address("10.1.2.77"));
    // Packets of the client are counted beside the service.
    entry.service.set(1 | 9 << 16);
    let end = ends_at(&memory, || memory.connections[4].signatures[1].set(0), 500);
    assert!((640..=652).contains(&end), "{end}");
}

#[test]
fn a_template_without_persistence_ends() {
    let tables = Tables::new(&Sizes::default());
    let memory = tables.memory();
    put_client(&memory, (5, 5), state::TEMPLATE, 9, "10.1.2.0", 1);
    assert_eq!(pass(&mut Sweeper::default(), &memory, 9).expired, 1);
}

#[test]
fn fragments_are_waited_for_half_a_minute() {
    let tables = Tables::new(&Sizes::default());
    let memory = tables.memory();
    put_wide(&memory, (0, 0), state::FRAGMENT, 0);
    let mut sweeper = Sweeper::default();
    assert_eq!(pass(&mut sweeper, &memory, 120).expired, 0);
    assert_eq!(pass(&mut sweeper, &memory, 121).expired, 1);
    assert_eq!(loads(&memory), (0, 0, 0));
}

/// A translated source of the client 10.1.2.3:1024 (TCP), of service 1.
fn put_translated(memory: &Memory<'_>) {
    put_client(memory, (5, 5), state::TRANSLATED, 0, "192.0.2.1", 1);
    let entry = &memory.wide_connections[5].entries[5];
    let port = u32::from(1024_u16.to_be());
    write_words(&entry.virtual_address, address("10.1.2.3"));
    entry.ports.set(port | 0xffff_0000);
    entry
        .client_port
        .set(0x1234 | 6 << 16 | state::TRANSLATED << 24);
}

#[test]
fn a_translated_source_goes_with_its_connection() {
    let port = u32::from(1024_u16.to_be()) | 6 << 16;
    for is_wide in [false, true] {
        let tables = Tables::new(&Sizes::default());
        let memory = tables.memory();
        let flags = service_flags::USED | if is_wide { service_flags::WIDE } else { 0 };
        memory.services[1].flags.set(flags);
        put_translated(&memory);
        let seed = memory.control.seed.get();
        let word = if is_wide {
            let client = address("10.1.2.3");
            let place = hash::wide_connection(client, port, seed);
            let bucket = place.sibling() as usize % memory.wide_connections.len();
            put_client(&memory, (bucket, 3), state::ESTABLISHED, 0, "10.1.2.3", 1);
            memory.wide_connections[bucket].entries[3]
                .client_port
                .set(port);
            let word = &memory.wide_connections[bucket].signatures[3];
            word.set(place.signature);
            word
        } else {
            let client = narrow_address("10.1.2.3");
            let place = hash::connection(client, port, seed);
            let bucket = place.bucket as usize % memory.connections.len();
            put_narrow(&memory, (bucket, 0), state::ESTABLISHED, 0);
            let entry = &memory.connections[bucket].entries[0];
            entry.client_address.set(client);
            entry.client_port.set(port);
            entry.service.set(1 | 77 << 16);
            let word = &memory.connections[bucket].signatures[0];
            word.set(place.signature | table::OVERFLOWED);
            word
        };
        let mut sweeper = Sweeper::default();
        let mut at = |tick| {
            let summary = pass(&mut sweeper, &memory, tick);
            summary.states[state::TRANSLATED as usize]
        };
        assert_eq!(at(1000), 1);
        let signature = word.get();
        word.set(0);
        assert_eq!(at(1001), 1);
        // The connection is back: its time begins anew.
        word.set(signature);
        assert_eq!(at(1008), 1);
        word.set(0);
        assert_eq!(at(1012), 1);
        assert_eq!(at(1020), 1);
        assert_eq!(at(1021), 0);
    }
}

/// The next connection of a client has another source, or another server.
#[test]
fn a_translated_source_goes_when_its_client_has_another() {
    let port = u32::from(1024_u16.to_be()) | 6 << 16;
    for (reference, server, stays) in [(9, SERVER, 1), (8, SERVER, 0), (9, SERVER + 1, 0)] {
        let tables = Tables::new(&Sizes::default());
        let memory = tables.memory();
        memory.services[1].flags.set(service_flags::USED);
        put_translated(&memory);
        let source = &memory.wide_connections[5].entries[5];
        source.hop.set(9);
        let word = &source.state;
        word.set(word.get() | state_word::ASSURED);
        let client = narrow_address("10.1.2.3");
        let place = hash::connection(client, port, memory.control.seed.get());
        let bucket = place.bucket as usize % memory.connections.len();
        put_narrow(&memory, (bucket, 0), state::ESTABLISHED, 0);
        let entry = &memory.connections[bucket].entries[0];
        entry.client_address.set(client);
        entry.client_port.set(port);
        entry.service.set(1);
        entry.server.set(server);
        entry.server_tag.set(reference);
        memory.connections[bucket].signatures[0].set(place.signature);
        let mut sweeper = Sweeper::default();
        assert_eq!(pass(&mut sweeper, &memory, 1000).in_use(), 2);
        let states = pass(&mut sweeper, &memory, 1009).states;
        assert_eq!(states[state::TRANSLATED as usize], stays, "{reference}");
        assert_eq!(states[state::ESTABLISHED as usize], 1);
    }
}

/// What is known of a destination of service 1, whose server is [`SERVER`].
fn put_locality(memory: &Memory<'_>, place: Place) {
    let server = &memory.servers[SERVER as usize];
    server.service.set(1);
    server.flags.set(server_flags::ALIVE);
    put_client(memory, place, state::LOCALITY, 0, "10.1.2.3", 1);
    let entry = &memory.wide_connections[place.0].entries[place.1];
    write_words(&entry.virtual_address, [NOBODY; 4]);
    entry.server_tag.set(NOBODY);
}

#[test]
fn destinations_are_forgotten_sooner_when_there_are_many() {
    let tables = Tables::new(&Sizes {
        wide_buckets: 2048,
        ..Sizes::default()
    });
    let memory = tables.memory();
    let mut count = 0;
    let mut put_more = |until: u64| {
        while count < until {
            put_locality(&memory, (count as usize / WAYS, count as usize % WAYS));
            count += 1;
        }
    };
    let mut sweeper = Sweeper::default();
    put_more(LOCALITIES);
    for tick in [1, 361 * 4] {
        assert_eq!(pass(&mut sweeper, &memory, tick).in_use(), LOCALITIES);
    }
    put_more(LOCALITIES + 1);
    assert_eq!(
        pass(&mut sweeper, &memory, 360 * 4).in_use(),
        LOCALITIES + 1
    );
    assert_eq!(pass(&mut sweeper, &memory, 361 * 4).in_use(), 0);
    put_locality(&memory, (0, 0));
    assert_eq!(pass(&mut sweeper, &memory, 86_400 * 4).in_use(), 1);
    assert_eq!(pass(&mut sweeper, &memory, 86_401 * 4).in_use(), 0);
    assert_eq!(memory.control.locality_ticks.get(), 86_400 * 4);
}

#[test]
fn destinations_are_kept_as_long_as_their_scheduler_says() {
    let tables = Tables::new(&Sizes::default());
    let memory = tables.memory();
    let mut sweeper = Sweeper::default();
    sweeper.set_locality_seconds(LocalitySeconds {
        lblc: 10,
        lblcr: 20,
    });
    for (number, seconds) in [(scheduler::LBLC, 10), (scheduler::LBLCR, 20)] {
        memory.services[1].scheduler.set(number);
        put_locality(&memory, (0, 0));
        assert_eq!(pass(&mut sweeper, &memory, seconds * 4).in_use(), 1);
        assert_eq!(pass(&mut sweeper, &memory, seconds * 4 + 1).in_use(), 0);
    }
    assert_eq!(memory.control.locality_ticks.get(), 20 * 4);
    sweeper.set_locality_seconds(LocalitySeconds { lblc: 0, lblcr: 0 });
    pass(&mut sweeper, &memory, 0);
    assert_eq!(memory.control.locality_ticks.get(), 1);
}

#[test]
fn a_destination_is_forgotten_with_its_server() {
    let tables = Tables::new(&Sizes::default());
    let memory = tables.memory();
    let mut sweeper = Sweeper::default();
    for (service, flags, stays) in [
        (1, server_flags::ALIVE, 1),
        (2, server_flags::ALIVE, 0),
        (1, 0, 0),
    ] {
        put_locality(&memory, (0, 0));
        let server = &memory.servers[SERVER as usize];
        server.service.set(service);
        server.flags.set(flags);
        assert_eq!(pass(&mut sweeper, &memory, 1).in_use(), stays);
    }
}

#[test]
fn trees_are_put_right() {
    let tables = Tables::new(&Sizes::default());
    let memory = tables.memory();
    let service = &memory.services[0];
    service.flags.set(service_flags::USED);
    service.scheduler.set(scheduler::WLC);
    service.ring.set(8 << 32 | 3);
    let first = 8 + (RING_HEADER + tree::nodes(3)) as usize;
    for (leaf, server) in (0..).zip([5, 6, 7]) {
        memory.rings[first + 2 * leaf].set(server);
        memory.rings[first + 2 * leaf + 1].set(1);
    }
    memory.loads[5].active.set(2);
    memory.loads[7].active.set(1);
    settle(&memory);
    let best = Tree::of(scheduler::WLC, service.ring.get()).best(&memory);
    assert_eq!(best, Some(6));
}

/// Puts so many half-open connections of a service into the narrow table.
fn half_open(memory: &Memory<'_>, from: usize, count: usize, service: u32, seen: u32) {
    for number in from..from + count {
        let place = (number / WAYS, number % WAYS);
        put_narrow(memory, place, state::SYN_RECV, seen);
        let entry = &memory.connections[place.0].entries[place.1];
        entry.service.set(service);
    }
}

fn of_service(memory: &Memory<'_>, service: u32) -> usize {
    let entries = memory.connections.iter().flat_map(|bucket| &bucket.entries);
    let live = entries.filter(|entry| entry.state.get() & state_word::STATE != 0);
    live.filter(|entry| entry.service.get() == service).count()
}

#[test]
fn the_more_half_open_connections_a_service_has_the_shorter_they_live() {
    let tables = Tables::new(&Sizes::default());
    let memory = tables.memory();
    // 1,024 places, of which a service may have 64 half-open for their whole minute.
    half_open(&memory, 0, 60, 1, 0);
    half_open(&memory, 100, 640, 2, 0);
    let mut sweeper = Sweeper::default();
    assert_eq!(pass(&mut sweeper, &memory, 0).in_use(), 700);
    assert_eq!(pass(&mut sweeper, &memory, 6 * 4).cut_short, 0);
    let summary = pass(&mut sweeper, &memory, 6 * 4 + 1);
    assert_eq!((summary.cut_short, summary.expired), (640, 640));
    assert_eq!((of_service(&memory, 1), of_service(&memory, 2)), (60, 0));
    // It has few again: these have their time.
    half_open(&memory, 100, 10, 2, 30 * 4);
    for second in [31, 59, 60] {
        assert_eq!(pass(&mut sweeper, &memory, second * 4).cut_short, 0);
    }
    let summary = pass(&mut sweeper, &memory, 60 * 4 + 1);
    assert_eq!((summary.cut_short, summary.expired), (0, 60));
    assert_eq!(of_service(&memory, 2), 10);
}

#[test]
fn half_open_connections_live_some_seconds_in_any_case() {
    let tables = Tables::new(&Sizes::default());
    let memory = tables.memory();
    half_open(&memory, 0, 1024, 1, 0);
    let mut sweeper = Sweeper::default();
    for second in 0..=4 {
        assert_eq!(pass(&mut sweeper, &memory, second * 4).in_use(), 1024);
    }
    assert_eq!(pass(&mut sweeper, &memory, 4 * 4 + 1).cut_short, 1024);
}

/// As long as `drop_entry` is at work, a part of what is half-open goes in each pass, and
/// nothing else; of flows those that are silent and never were much.
#[test]
fn entries_are_dropped_at_random() {
    const PASSES: u32 = 32;
    let tables = Tables::new(&Sizes::default());
    let memory = tables.memory();
    half_open(&memory, 0, 60, 1, 61 * 4);
    put_narrow(&memory, (60, 0), state::ESTABLISHED, 0);
    put_narrow(&memory, (60, 1), state::UDP, 0);
    put_narrow(&memory, (60, 2), state::UDP, 0);
    put_narrow(&memory, (60, 3), state::UDP, 61 * 4);
    for (way, packets) in [(0, 1), (1, 1), (2, 9), (3, 1)] {
        memory.connections[60].entries[way]
            .service
            .set(packets << 16);
    }
    let mut sweeper = Sweeper::default();
    assert_eq!(pass(&mut sweeper, &memory, 61 * 4).dropped, 0);
    sweeper.set_dropping(true);
    let dropped: u64 = (0..PASSES)
        .map(|_| pass(&mut sweeper, &memory, 61 * 4).dropped)
        .sum();
    // One of them is a flow. Of those that are half-open two in three go.
    assert!((20..60).contains(&dropped), "{dropped}");
    assert_eq!(of_service(&memory, 1) as u64, 61 - dropped);
    let states = [0, 1, 2, 3].map(|way| memory.connections[60].entries[way].state.get() & 31);
    assert_eq!(
        states,
        [state::ESTABLISHED, state::FREE, state::UDP, state::UDP]
    );
    sweeper.set_dropping(false);
    assert_eq!(pass(&mut sweeper, &memory, 61 * 4).dropped, 0);
}

/// A template is assured by an established connection of its own client and server.
#[test]
fn established_connections_assure_their_templates() {
    let tables = Tables::new(&Sizes::default());
    let memory = tables.memory();
    let service = &memory.services[4];
    service
        .flags
        .set(service_flags::USED | service_flags::PERSISTENT);
    service.persistence.set(300);
    service.netmask.set(u32::from_ne_bytes([255, 255, 255, 0]));
    let seed = memory.control.seed.get();
    let template = |client: &str| {
        let address = address(client);
        let port = 6 << 16 | state::TEMPLATE << 24;
        let place = hash::wide_connection(address, port, seed);
        let bucket = place.bucket as usize & (memory.wide_connections.len() - 1);
        let entry = &memory.wide_connections[bucket].entries[0];
        write_words(&entry.client_address, address);
        entry.client_port.set(port);
        entry.service.set(4);
        entry.server.set(SERVER);
        entry.state.set(state::TEMPLATE);
        memory.wide_connections[bucket].signatures[0].set(place.signature);
        &entry.state
    };
    let [first, second] = ["10.1.1.0", "10.1.2.0"].map(template);
    let connection = |way: usize, client: &str, state: u32| {
        put_narrow(&memory, (0, way), state, 0);
        let entry = &memory.connections[0].entries[way];
        entry.client_address.set(narrow_address(client));
        entry.client_port.set((6 << 16) + 99);
        entry.service.set(4);
        &entry.state
    };
    connection(0, "10.1.1.7", state::ESTABLISHED);
    let other = connection(1, "10.1.2.7", state::SYN_RECV);
    let mut sweeper = Sweeper::default();
    pass(&mut sweeper, &memory, 1);
    let assured = |word: &Word| word.get() & state_word::ASSURED != 0;
    assert_eq!((assured(first), assured(second)), (true, false));
    other.set(other.get() & !state_word::STATE | state::ESTABLISHED);
    pass(&mut sweeper, &memory, 2);
    assert_eq!((assured(first), assured(second)), (true, true));
}

#[test]
fn servers_that_do_not_answer_or_reset_are_suspected() {
    let tables = Tables::new(&Sizes::default());
    let memory = tables.memory();
    let start = 1_000;
    let mut sweeper = Sweeper::default();
    let mut suspects = |tick: u32| {
        pass(&mut sweeper, &memory, tick);
        sweeper.suspects().to_vec()
    };
    put_narrow(&memory, (1, 0), state::ESTABLISHED, start);
    put_narrow(&memory, (1, 1), state::SYN_RECV, start);
    // It has answered, and the client is silent.
    assert_eq!(suspects(start + 8), [0; 0]);
    let unheard = &memory.connections[1].entries[1].state;
    unheard.set(unheard.get() & !state_word::ANSWERED);
    assert_eq!(suspects(start + 3), [0; 0], "within a second");
    assert_eq!(suspects(start + 4), [SERVER]);
    assert_eq!(suspects(start + 8), [0; 0], "no more than before");
    put_wide(&memory, (2, 0), state::CLOSE, start + 8);
    assert_eq!(suspects(start + 9), [SERVER]);
    assert_eq!(suspects(start + 10), [0; 0]);
}
