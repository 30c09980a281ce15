//! What listings show of counters: samples, every two seconds.

use super::*;
use crate::model::{Rates, ServiceView, Stats};
use std::println;
use std::time::Instant;

/// Connections and bytes in are counted, the same for all counters.
fn traffic(rig: &Rig, server: usize, amount: u64) {
    let counters = &rig.memory().counters[server];
    for counter in [&counters.connections, &counters.in_bytes] {
        counter.set(counter.get() + amount);
    }
}

fn view_of(rig: &Rig, key: &ServiceKey, as_of: AsOf) -> ServiceView {
    let mut views = rig.director.list(Some(key), as_of, &rig.memory()).unwrap();
    views.remove(0)
}

fn view(rig: &Rig, key: &ServiceKey) -> ServiceView {
    view_of(rig, key, AsOf::LastSample)
}

fn view_now(rig: &Rig, key: &ServiceKey) -> ServiceView {
    view_of(rig, key, AsOf::Now)
}

fn sample(rig: &mut Rig) {
    let memory = rig.tables.memory();
    rig.director.sample(&memory);
}

/// Two services, the first with two servers.
fn rig() -> Rig {
    let mut rig = Rig::new();
    for port in [80, 81] {
        rig.apply(add(service(port), "rr"));
    }
    rig.apply(add_server(service(80), server(1), 1));
    rig.apply(add_server(service(80), server(2), 1));
    rig.apply(add_server(service(81), server(3), 1));
    rig
}

#[test]
fn listings_show_the_last_sample() {
    let mut rig = rig();
    traffic(&rig, 0, 7);
    // Nobody samples: what is counted is shown.
    assert_eq!(view(&rig, &service(80)).stats.connections, 7);
    sample(&mut rig);
    traffic(&rig, 0, 8192);
    traffic(&rig, 1, 4096);
    let before = view(&rig, &service(80));
    assert_eq!(before.stats.connections, 7);
    assert_eq!(before.rates, Rates::default());
    let now = view_now(&rig, &service(80));
    assert_eq!(now.stats.connections, 7 + 8192 + 4096);
    assert_eq!(now.rates, Rates::default());
    sample(&mut rig);
    let after = view(&rig, &service(80));
    assert_eq!(after.stats.connections, 7 + 8192 + 4096);
    // A quarter of it by second, in two seconds.
    assert_eq!(after.rates.connections, (8192 + 4096) / 8);
    let of = |port| {
        let servers = after.servers.iter();
        let mut found = servers.filter(|view| view.key == server(port));
        found.next().unwrap().rates.connections
    };
    assert_eq!((of(1), of(2)), (1024, 512));
    let other = view(&rig, &service(81));
    assert_eq!((other.stats, other.rates), Default::default());
}

#[test]
fn zeroing_takes_the_last_sample_as_zero() {
    let mut rig = rig();
    sample(&mut rig);
    for server in 0..3 {
        traffic(&rig, server, 8192);
    }
    sample(&mut rig);
    traffic(&rig, 0, 5);
    rig.apply(Edit::Zero {
        service: Some(service(80)),
    });
    let zeroed = view(&rig, &service(80));
    assert_eq!((zeroed.stats, zeroed.rates), Default::default());
    for server in zeroed.servers {
        assert_eq!((server.stats, server.rates), Default::default());
    }
    assert_eq!(view(&rig, &service(81)).rates.connections, 1024);
    assert_eq!(view_now(&rig, &service(80)).stats.connections, 5);
    // What came behind the sample counts from here on.
    sample(&mut rig);
    assert_eq!(view(&rig, &service(80)).stats.connections, 5);
    rig.apply(Edit::Zero { service: None });
    assert_eq!(view(&rig, &service(81)).rates, Rates::default());
}

#[test]
fn a_refused_transaction_leaves_the_traffic() {
    let mut rig = rig();
    sample(&mut rig);
    traffic(&rig, 0, 8192);
    sample(&mut rig);
    let before = view(&rig, &service(80));
    let edits = [Edit::Zero { service: None }, add(service(80), "rr")];
    let refused = rig.try_all(&edits, true);
    assert_eq!(refused, [(1, EditError::ServiceExists)]);
    assert_eq!(view(&rig, &service(80)), before);
}

#[test]
fn another_server_in_the_slot_begins_at_nothing() {
    let mut rig = rig();
    sample(&mut rig);
    traffic(&rig, 1, 8192);
    sample(&mut rig);
    rig.apply(delete_server(service(80), server(2)));
    rig.pass(TRASH_MS);
    let kept = view(&rig, &service(80)).stats;
    assert_eq!(kept.connections, 8192, "the service keeps its counts");
    rig.apply(add_server(service(81), server(4), 1));
    let new = view(&rig, &service(81)).servers.remove(0);
    assert_eq!(new.key, server(4));
    assert_eq!((new.stats, new.rates), Default::default());
    traffic(&rig, 1, 16);
    sample(&mut rig);
    assert_eq!(view(&rig, &service(81)).stats.connections, 16);
}

#[test]
fn a_daemon_that_takes_over_sees_no_traffic_in_what_was_counted() {
    let mut rig = rig();
    traffic(&rig, 0, 1 << 40);
    rig.restart();
    sample(&mut rig);
    let shown = view(&rig, &service(80));
    assert_eq!(shown.stats.connections, 1 << 40);
    assert_eq!(shown.rates, Rates::default());
    assert_eq!(
        shown.stats,
        Stats {
            connections: 1 << 40,
            in_bytes: 1 << 40,
            ..Stats::default()
        }
    );
}

#[test]
#[ignore = "prints times; run it in release mode"]
fn ten_thousand_services() {
    let mut rig = Rig::sized(Sizes {
        services: 16_384,
        servers: 262_144,
        endpoint_buckets: 1 << 20,
        ring_words: 1 << 22,
        cpus: 2,
        ..Sizes::default()
    });
    let mut edits = Vec::new();
    for number in 0..10_000u32 {
        let [_, a, b, c] = (number + 1).to_be_bytes();
        let key = ServiceKey::at(Protocol::Tcp, [10, a, b, c], 80);
        edits.push(add(key, "rr"));
        edits.extend((1..=16).map(|port| add_server(key, server(port), 1)));
    }
    assert_eq!(rig.try_all(&edits, true), []);
    for _ in 0..10 {
        let start = Instant::now();
        sample(&mut rig);
        println!("sampled in {:?}", start.elapsed());
    }
}
