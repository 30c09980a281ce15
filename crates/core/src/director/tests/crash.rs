//! Daemons that die between any two writes.

use proptest::prelude::*;

use super::*;
use crate::director::write;
use crate::model::ServiceView;

fn edit() -> impl Strategy<Value = Edit> {
    let key = (80u16..83).prop_map(service);
    let target = (1u16..6).prop_map(server);
    let weight = 0u32..4;
    let scheduler = prop_oneof![Just(String::from("rr")), Just(String::from("wrr"))];
    prop_oneof![
        2 => (key.clone(), scheduler.clone())
            .prop_map(|(service, scheduler)| Edit::AddService { service, settings: ServiceSettings::scheduled_by(scheduler) }),
        1 => (key.clone(), scheduler)
            .prop_map(|(service, scheduler)| Edit::EditService { service, settings: ServiceSettings::scheduled_by(scheduler) }),
        1 => key.clone().prop_map(|service| Edit::DeleteService { service }),
        5 => (key.clone(), target.clone(), weight.clone())
            .prop_map(|(service, server, weight)| add_server(service, server, weight)),
        2 => (key.clone(), target.clone(), weight)
            .prop_map(|(service, server, weight)| edit_server(service, server, weight)),
        3 => (key, target)
            .prop_map(|(service, server)| Edit::DeleteServer { service, server }),
    ]
}

/// What a table is, whatever its counters.
fn essence(rig: &Rig) -> Vec<ServiceView> {
    let mut list = rig.director.list(None, &rig.memory()).unwrap();
    list.sort_by_key(|view| view.key);
    list
}

fn agrees_with_the_memory(rig: &Rig) {
    let memory = rig.memory();
    let mut endpoints = 0;
    for bucket in memory.endpoints {
        endpoints += bucket
            .slots
            .iter()
            .filter(|s| s.key.get() > 1 && s.key.get() & 1 == 1)
            .count();
    }
    assert_eq!(endpoints, rig.director.service_count());
    for view in essence(rig) {
        let weighted = view.servers.iter().any(|s| s.settings.weight > 0);
        // Takes whole rounds, so that positions are as before.
        let length = memory.services[rig.index(&view.key)].ring.get() as u32 as usize;
        assert_eq!(length > 0, weighted, "{view:?}");
        let ports = rig.ports(&view.key, length);
        for server in &view.servers {
            assert_eq!(
                ports.contains(&server.key.port),
                server.settings.weight > 0,
                "{view:?}"
            );
        }
    }
}

proptest! {
    #[test]
    fn a_table_is_whole_after_a_crash_at_any_write(
        before in prop::collection::vec(edit(), 0..15),
        last in prop::collection::vec(edit(), 1..6),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut rig = Rig::new();
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
    }
}

/// All words that an edit can change.
fn words(memory: &Memory<'_>) -> Vec<u64> {
    let services = memory.services.iter().flat_map(|s| {
        let words = [
            &s.address,
            &s.port,
            &s.scheduler_name,
            &s.current_weight,
            &s.flags,
        ];
        words
            .map(|w| u64::from(w.get()))
            .into_iter()
            .chain([s.ring.get()])
    });
    let servers = memory.servers.iter().flat_map(|s| {
        [
            &s.address,
            &s.ports,
            &s.virtual_address,
            &s.service,
            &s.flags,
            &s.weight,
            &s.order,
        ]
        .map(|w| u64::from(w.get()))
    });
    let endpoints = memory.endpoints.iter().flat_map(|bucket| {
        bucket
            .slots
            .iter()
            .flat_map(|s| [s.key.get(), u64::from(s.value.get())])
    });
    let rings = memory.rings.iter().map(|w| u64::from(w.get()));
    services
        .chain(servers)
        .chain(endpoints)
        .chain(rings)
        .collect()
}

proptest! {
    /// Two directors do the same, but for a transaction that one of them refuses.
    #[test]
    fn a_refused_transaction_leaves_no_trace(
        before in prop::collection::vec(edit(), 0..15),
        refused in prop::collection::vec(edit(), 0..15),
        after in prop::collection::vec(edit(), 0..15),
    ) {
        let (mut rig, mut twin) = (Rig::new(), Rig::new());
        rig.try_all(&before, false);
        twin.try_all(&before, false);
        let mut refused = refused;
        refused.push(Edit::DeleteService { service: service(99) });
        prop_assert_eq!(rig.try_all(&refused, true).len(), 1);
        prop_assert_eq!(words(&rig.memory()), words(&twin.memory()));
        prop_assert_eq!(rig.try_all(&after, false), twin.try_all(&after, false));
        prop_assert_eq!(words(&rig.memory()), words(&twin.memory()));
        rig.pass(TRASH_MS);
        twin.pass(TRASH_MS);
        prop_assert_eq!(words(&rig.memory()), words(&twin.memory()));
    }
}

#[test]
fn any_memory_is_adopted_without_panic() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let words = prop::collection::vec((0usize..400, prop_oneof![0u32..16, any::<u32>()]), 0..200);
    runner
        .run(&words, |words| {
            let rig = Rig::sized(Sizes {
                ring_words: 100,
                ..Sizes::default()
            });
            let memory = rig.memory();
            for (place, value) in words {
                let (index, field) = (place / 12, place % 12);
                match (index % 3, field) {
                    (0, 0) => memory.services[index % 16].flags.set(value),
                    (0, 1) => memory.services[index % 16].port.set(value),
                    (0, 2) => memory.services[index % 16].scheduler_name.set(value),
                    (0, 3) => memory.services[index % 16].current_weight.set(value),
                    (0, 4) => memory.services[index % 16]
                        .ring
                        .set(u64::from(value) << 32 | 3),
                    (0, 5) => memory.services[index % 16].scheduler.set(value),
                    (1, 0) => memory.servers[index].flags.set(value),
                    (1, 1) => memory.servers[index].service.set(value),
                    (1, 2) => memory.servers[index].weight.set(value),
                    (1, 3) => memory.servers[index].ports.set(value),
                    (1, 4) => memory.servers[index].order.set(value),
                    (2, slot) => memory.endpoints[index].slots[slot % 4]
                        .key
                        .set(u64::from(value)),
                    _ => memory.rings[index].set(value),
                }
            }
            let mut director = Director::adopt(&memory, 0);
            director.write_all(&memory);
            let again = Director::adopt(&memory, 0);
            prop_assert_eq!(again.repairs(), 0);
            Ok(())
        })
        .unwrap();
}
