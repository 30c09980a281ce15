//! The sessions of `docs/views.md`, run against a daemon over ordinary memory.

mod common;

use std::fs;
use std::sync::Arc;

use common::daemon::Daemon;
use common::network::{Outside, reach};
use common::page;
use common::replay::command;
use evenkeel_api::client::Client;
use evenkeel_api::paths;
use evenkeel_daemon::dataplane::{Dataplane, InMemory};
use evenkeel_datapath::state;

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/views.md");

/// The table of the page. Servers have their places in memory in this order.
const TABLE: &[&str] = &[
    "ipvsadm -A -t 10.0.0.10:80 -s wrr",
    "ipvsadm -a -t 10.0.0.10:80 -r 192.168.1.1:8080 -m -w 3",
    "ipvsadm -a -t 10.0.0.10:80 -r 192.168.1.2:8080 -m -w 1",
    "ipvsadm -A -t 10.0.0.10:443 -s mh -b mh-port -p 300",
    "ipvsadm -a -t 10.0.0.10:443 -r 192.168.1.2:443 -m",
];

/// A client's port, the state of its connection, and the server's place.
const CONNECTIONS: &[(u16, u32, u32)] = &[
    (43_920, state::ESTABLISHED, 0),
    (43_926, state::TIME_WAIT, 0),
    (43_932, state::ESTABLISHED, 1),
];

/// Servers whose way is known, and the director's own address there.
const REACHED: &[(&str, &str)] = &[
    ("192.168.1.1", "192.168.1.254"),
    ("192.168.1.2", "192.168.1.254"),
];

fn fill(dataplane: &InMemory, daemon: &Daemon) {
    let memory = dataplane.memory();
    for (way, &(port, state, server)) in CONNECTIONS.iter().enumerate() {
        let bucket = &memory.connections[0];
        let entry = &bucket.entries[way];
        entry.client_address.set(u32::from_ne_bytes([10, 0, 0, 2]));
        entry.client_port.set(6 << 16 | u32::from(port.to_be()));
        entry.server.set(server);
        entry.seen.set(dataplane.now_tick().expect("a clock"));
        entry.state.set(state);
        bucket.signatures[way].set(1);
        let load = &memory.loads[server as usize];
        if state::is_active(state) {
            load.active.add(1);
        } else {
            load.inactive.add(1);
        }
    }
    let sample = || {
        let shared = daemon.shared();
        shared.with_director(|director| director.sample(&memory));
    };
    sample();
    for (server, amount) in [(0, 9600), (1, 3200)] {
        let counters = &memory.counters[server];
        counters.connections.set(amount);
        counters.in_packets.set(amount * 10);
        counters.out_packets.set(amount * 8);
        counters.in_bytes.set(amount * 6000);
        counters.out_bytes.set(amount * 90_000);
    }
    sample();
}

#[test]
fn the_page_prints_what_is_written() {
    let instance = format!("test-views-{}", std::process::id());
    let dataplane = Arc::new(InMemory::new().within(|| Box::new(Outside)));
    let daemon = Daemon::over(&paths::socket(&instance), Arc::clone(&dataplane));
    let client = Client::at(&instance, daemon.socket());
    for line in TABLE {
        let outcome = command(&client, line, "");
        assert_eq!((outcome.output.as_str(), outcome.exit), ("", 0), "{line}");
    }
    fill(&dataplane, &daemon);
    reach(&daemon, &dataplane, REACHED);
    let text = fs::read_to_string(PAGE).expect("docs/views.md");
    page::run(&text, 9, &instance);
}
