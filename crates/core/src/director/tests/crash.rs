//! Daemons that die between any two writes.

use alloc::collections::BTreeSet;

use evenkeel_datapath::layout::{NOBODY, service_flags};
use proptest::prelude::*;

use super::*;
use crate::director::endpoints::Key;
use crate::director::records;
use crate::model::{Scheduler, SchedulerFlags, ServiceView};

/// Services of all kinds. Most are there from the beginning, so that more of what is
/// done with them is possible.
fn key() -> impl Strategy<Value = ServiceKey> {
    prop_oneof![
        4 => Just(service(80)),
        1 => Just(service(81)),
        2 => Just(service6(80)),
        1 => Just(ANY_PORT),
        1 => Just(mark(7, Family::V4)),
        1 => Just(mark(7, Family::V6)),
    ]
}

const ANY_PORT: ServiceKey = ServiceKey::Address {
    protocol: Protocol::Sctp,
    address: IpAddr::V4(core::net::Ipv4Addr::new(10, 0, 0, 10)),
    port: 0,
};

fn target() -> impl Strategy<Value = ServerKey> {
    prop_oneof![3 => (0u16..3).prop_map(server), 1 => (0u16..2).prop_map(server6)]
}

fn settings() -> impl Strategy<Value = ServiceSettings> {
    let scheduler = (0..Scheduler::ALL.len()).prop_map(|number| Scheduler::ALL[number].name());
    let persistence = prop_oneof![
        2 => Just(None),
        1 => Just(Some(persistent(Family::V4))),
        1 => Just(Some(persistent(Family::V6))),
    ];
    let others = any::<(bool, bool, Option<bool>)>();
    (scheduler, persistence, others).prop_map(
        |(scheduler, persistence, (fallback, one_packet, compatible))| ServiceSettings {
            compatible,
            flags: SchedulerFlags {
                fallback,
                ..SchedulerFlags::default()
            },
            persistence,
            one_packet,
            ..ServiceSettings::scheduled_by(scheduler)
        },
    )
}

fn server_settings() -> impl Strategy<Value = ServerSettings> {
    let gue = Tunnel::Gue {
        port: 6080,
        checksum: TunnelChecksum::Full,
    };
    let method = prop_oneof![
        3 => Just(ForwardMethod::Masq),
        1 => Just(ForwardMethod::Route),
        1 => Just(ForwardMethod::FullNat),
        1 => Just(ForwardMethod::Tunnel(Tunnel::Ipip)),
        1 => Just(ForwardMethod::Tunnel(gue)),
    ];
    (method, 0u32..4, 0u32..3).prop_map(|(method, weight, upper_threshold)| ServerSettings {
        upper_threshold,
        ..ServerSettings::new(method, weight)
    })
}

fn edit() -> impl Strategy<Value = Edit> {
    prop_oneof![
        2 => (key(), settings())
            .prop_map(|(service, settings)| Edit::AddService { service, settings }),
        1 => (key(), settings())
            .prop_map(|(service, settings)| Edit::EditService { service, settings }),
        1 => key().prop_map(|service| Edit::DeleteService { service }),
        5 => (key(), target(), server_settings())
            .prop_map(|(service, server, settings)| Edit::AddServer { service, server, settings }),
        2 => (key(), target(), server_settings())
            .prop_map(|(service, server, settings)| Edit::EditServer { service, server, settings }),
        3 => (key(), target())
            .prop_map(|(service, server)| Edit::DeleteServer { service, server }),
    ]
}

fn edits(count: core::ops::Range<usize>) -> impl Strategy<Value = Vec<Edit>> {
    prop::collection::vec(edit(), count)
}

fn beginning() -> Vec<Edit> {
    let settings = |family| ServiceSettings {
        persistence: Some(persistent(family)),
        ..ServiceSettings::scheduled_by("wlc")
    };
    vec![
        add(service(80), "rr"),
        add(service6(80), "mh"),
        add_with(ANY_PORT, settings(Family::V4)),
        add_with(mark(7, Family::V4), settings(Family::V4)),
        add_with(mark(7, Family::V6), settings(Family::V6)),
        add_server(service(80), server(1), 1),
        add_server(service(80), server(2), 2),
        add_server(service6(80), server6(1), 1),
        add_server(mark(7, Family::V4), server(0), 1),
    ]
}

fn rig() -> Rig {
    Rig::sized(Sizes {
        ring_words: 1 << 17,
        ..Sizes::default()
    })
}

/// What a table is, whatever its counters.
fn essence(rig: &Rig) -> Vec<ServiceView> {
    let mut list = rig.director.list(None, AsOf::Now, &rig.memory()).unwrap();
    list.sort_by_key(|view| view.key);
    list
}

/// What the endpoint tables have to hold, and nothing else.
fn endpoints_agree(rig: &Rig) {
    let state = &rig.director.state;
    let mut keys = Vec::new();
    for (index, service) in state.services().iter().filter(|(_, s)| s.live) {
        assert_eq!(rig.find(service.endpoint()), Some(index));
        keys.push(service.endpoint());
    }
    for (_, server) in state.servers().iter() {
        let service = state.services().get(server.service).unwrap();
        keys.extend(server.endpoints(service));
    }
    assert!(keys.iter().all(|&key| rig.find(key).is_some()));
    let distinct = keys.iter().map(|key| match *key {
        Key::Narrow(key) => (key, None),
        Key::Wide(key) => (0, Some(key)),
    });
    let distinct: BTreeSet<_> = distinct.collect();
    assert_eq!(rig.endpoint_count(), distinct.len());
    let present = rig.memory().control.features.get();
    assert_eq!(present, state.features.bits());
}

fn agrees_with_the_memory(rig: &Rig) {
    endpoints_agree(rig);
    for view in essence(rig) {
        let index = rig.index(&view.key);
        let record = &rig.memory().services[index];
        let of_key = records::read_service(record);
        let expected = rig.director.state.services().get(index as u32).unwrap();
        assert_eq!(of_key, records::service_record(expected));
        let wanted = rig.director.ring(expected);
        let scheduler = expected.settings.scheduler;
        let mut named = rig.named(&view.key);
        named.remove(&NOBODY);
        for server in &view.servers {
            let slot = rig
                .director
                .state
                .server_named(index as u32, &server.key)
                .unwrap();
            // Some give every server a place, and look at its weight later; Maglev hashing
            // only with IPVS's ways.
            let has_place = match scheduler {
                Scheduler::Sh | Scheduler::Dh => true,
                Scheduler::Mh if view.compatible => {
                    rig.director.state.servers().get(slot).unwrap().last_weight > 0
                }
                _ => server.settings.weight > 0,
            };
            assert_eq!(named.remove(&slot), has_place, "{view:?}");
        }
        assert!(named.is_empty(), "{view:?}");
        assert_eq!(record.ring.get() as u32, wanted.length);
        if scheduler == Scheduler::Mh {
            let of_service = |&&owner: &&u32| rig.director.is_server_of(owner, index as u32);
            let slots = rig.slots(&view.key);
            assert_eq!(slots.iter().filter(of_service).count(), slots.len());
        }
    }
}

proptest! {
    #[test]
    fn a_table_is_whole_after_a_crash_at_any_write(
        before in edits(0..20),
        last in edits(1..8),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut rig = rig();
        rig.try_all(&beginning(), false);
        rig.try_all(&before, false);
        rig.director.apply(&last, false, &rig.tables.memory(), 0);
        let mut writes = vec![];
        while let Some(write) = rig.director.poll_write() {
            writes.push(write);
        }
        let whole = essence(&rig);
        let cut = if writes.is_empty() { 0 } else { cut.index(writes.len() + 1) };
        for write in &writes[..cut] {
            write::apply(&rig.tables.memory(), write);
        }
        rig.restart();
        agrees_with_the_memory(&rig);
        if cut == writes.len() {
            prop_assert_eq!(essence(&rig), whole);
            prop_assert_eq!(rig.director.repairs(), 0);
        }
        // A second daemon finds nothing to repair, and edits go on.
        let repaired = essence(&rig);
        rig.restart();
        prop_assert_eq!(rig.director.repairs(), 0);
        prop_assert_eq!(essence(&rig), repaired);
        rig.try_all(&last, false);
        agrees_with_the_memory(&rig);
        rig.pass(TRASH_MS);
        rig.pass(GRACE_MS);
        agrees_with_the_memory(&rig);
    }
}

/// All words that an edit can change.
fn words(memory: &Memory<'_>) -> Vec<u64> {
    let mut words = vec![memory.control.features.get().into()];
    for service in memory.services {
        let record = records::read_service(service);
        words.extend(record.address.map(u64::from));
        let others = [
            service.address.get(),
            record.port,
            record.scheduler,
            record.scheduler_name,
            record.current_weight,
            record.flags,
            record.mark,
            record.persistence,
            record.netmask,
        ];
        words.extend(others.map(u64::from));
        words.push(service.ring.get());
    }
    for server in memory.servers {
        let record = records::read_server(server);
        words.extend(record.address.map(u64::from));
        words.extend(record.virtual_address.map(u64::from));
        let others = [
            server.address.get(),
            server.virtual_address.get(),
            record.ports,
            record.service,
            record.flags,
            record.weight,
            record.order,
            record.tunnel,
            record.upper_threshold,
            record.lower_threshold,
            server.leaf.get(),
        ];
        words.extend(others.map(u64::from));
    }
    for slot in memory.endpoints.iter().flat_map(|bucket| &bucket.slots) {
        words.extend([slot.key.get(), u64::from(slot.value.get())]);
    }
    for slot in memory
        .wide_endpoints
        .iter()
        .flat_map(|bucket| &bucket.slots)
    {
        words.extend(records::read_words(&slot.address).map(u64::from));
        words.extend([&slot.key, &slot.value].map(|word| u64::from(word.get())));
    }
    words.extend(memory.rings.iter().map(|word| u64::from(word.get())));
    words
}

proptest! {
    /// Two directors do the same, but for a transaction that one of them refuses.
    #[test]
    fn a_refused_transaction_leaves_no_trace(
        before in edits(0..15),
        refused in edits(0..15),
        after in edits(0..15),
    ) {
        let (mut one, mut twin) = (rig(), rig());
        for rig in [&mut one, &mut twin] {
            rig.try_all(&beginning(), false);
            rig.try_all(&before, false);
        }
        let mut refused = refused;
        refused.push(Edit::DeleteService { service: service(99) });
        prop_assert_eq!(one.try_all(&refused, true).len(), 1);
        prop_assert!(words(&one.memory()) == words(&twin.memory()));
        prop_assert_eq!(one.try_all(&after, false), twin.try_all(&after, false));
        prop_assert!(words(&one.memory()) == words(&twin.memory()));
        one.pass(TRASH_MS);
        twin.pass(TRASH_MS);
        prop_assert!(words(&one.memory()) == words(&twin.memory()));
    }
}

/// Sets one word of a memory that may hold anything.
fn scribble(memory: &Memory<'_>, place: usize, value: u32) {
    let (index, field) = (place / 16, place % 16);
    let service = &memory.services[index % 16];
    let server = &memory.servers[index % 64];
    match (index % 4, field) {
        (0, 0) => service.flags.set(value),
        (0, 1) => service.port.set(value),
        (0, 2) => service.scheduler_name.set(value % 16),
        (0, 3) => service.current_weight.set(value),
        (0, 4) => service.ring.set(u64::from(value) << 32 | 3),
        (0, 5) => service.scheduler.set(value % 16),
        (0, 6) => service.mark.set(value),
        (0, 7) => service.wide_address[2].set(value),
        (0, 8) => service.netmask.set(value),
        (0, 9) => {
            // One that can be.
            service.mark.set(value | 1);
            service
                .scheduler
                .set(evenkeel_datapath::layout::scheduler::WLC);
            service.scheduler_name.set(4);
            service.flags.set(service_flags::USED | service_flags::WIDE);
        }
        (1, 0) => server.flags.set(value),
        (1, 1) => server.service.set(value),
        (1, 2) => server.weight.set(value),
        (1, 3) => server.ports.set(value),
        (1, 4) => server.order.set(value),
        (1, 5) => server.tunnel.set(value),
        (1, 6) => server.wide_address[2].set(value),
        (1, 7) => server.wide_virtual_address[2].set(value),
        (1, 8) => server.upper_threshold.set(value),
        (1, 9) => server.leaf.set(value),
        (2, slot) => memory.endpoints[index % 64].slots[slot % 4]
            .key
            .set(u64::from(value)),
        (3, slot) => memory.wide_endpoints[index % 64].slots[slot % 4]
            .key
            .set(value),
        _ => memory.rings[index].set(value),
    }
}

/// A daemon that dies within a write leaves a record of which some words are new.
#[test]
fn half_a_record_is_still_that_service_and_that_server() {
    let mut rig = rig();
    let key = service(80);
    rig.apply(add(key, "lc"));
    rig.apply(add_server(key, server(1), 1));
    rig.apply(add_server(key, server(2), 1));
    let before = essence(&rig);
    let memory = rig.tables.memory();
    memory.services[0]
        .scheduler
        .set(evenkeel_datapath::layout::scheduler::SED);
    memory.services[0].netmask.set(5);
    memory.servers[1].tunnel.set(7);
    rig.restart();
    assert_eq!(rig.director.repairs(), 2);
    assert_eq!(essence(&rig), before);
    agrees_with_the_memory(&rig);
    rig.restart();
    assert_eq!(rig.director.repairs(), 0);
}

#[test]
fn any_memory_is_adopted_without_panic() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mapped = Just(evenkeel_datapath::layout::MAPPED);
    let value = prop_oneof![4 => 0u32..16, 2 => any::<u32>(), 1 => mapped];
    let words = prop::collection::vec((0usize..1000, value), 0..200);
    runner
        .run(&words, |words| {
            let rig = Rig::sized(Sizes {
                ring_words: 100,
                ..Sizes::default()
            });
            let memory = rig.memory();
            for (place, value) in words {
                scribble(&memory, place, value);
            }
            let mut director = Director::adopt(&memory, 0);
            director.write_all(&memory);
            let again = Director::adopt(&memory, 0);
            prop_assert_eq!(again.repairs(), 0);
            Ok(())
        })
        .unwrap();
}
