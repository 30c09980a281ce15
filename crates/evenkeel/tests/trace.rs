//! The sessions of `data/trace.md`: `evenkeel trace` against a daemon over ordinary
//! memory, with a table of every kind of service.

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
use evenkeel_datapath::word::Word;

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/trace.md");

/// Servers whose way is known, and the director's own address there.
const REACHED: &[(&str, &str)] = &[
    ("192.168.1.1", "192.168.1.254"),
    ("192.168.1.2", "192.168.1.254"),
    ("192.168.1.3", "192.168.1.254"),
    ("fd00:1::1", "fd00:1::fe"),
];

/// All that a packet could change.
fn contents(dataplane: &InMemory) -> Vec<u32> {
    let memory = dataplane.memory();
    let loads = memory.loads.iter().flat_map(|load| {
        [
            &load.active,
            &load.inactive,
            &load.persistent,
            &load.overloaded,
        ]
        .map(Word::get)
    });
    let narrow = memory.connections.iter().flat_map(|b| &b.signatures);
    let wide = memory.wide_connections.iter().flat_map(|b| &b.signatures);
    let words = memory.rings.iter().chain(narrow).chain(wide);
    loads.chain(words.map(Word::get)).collect()
}

#[test]
fn packets_are_traced_and_nothing_changes() {
    let instance = format!("test-trace-{}", std::process::id());
    let dataplane = Arc::new(InMemory::new().within(|| Box::new(Outside)));
    let daemon = Daemon::over(&paths::socket(&instance), Arc::clone(&dataplane));
    let client = Client::at(&instance, daemon.socket());
    let text = fs::read_to_string(PAGE).expect("the sessions");
    let table = text.split("```sh\n").nth(1).expect("the table");
    for line in table.lines().take_while(|line| *line != "```") {
        let outcome = command(&client, line, "");
        assert_eq!((outcome.output.as_str(), outcome.exit), ("", 0), "{line}");
    }
    reach(&daemon, &dataplane, REACHED);
    // Taken by too many connections: it gets no more.
    dataplane.memory().loads[1].overloaded.set(1);
    let before = contents(&dataplane);
    page::run(&text, 16, &instance);
    assert!(
        contents(&dataplane) == before,
        "a trace has changed something"
    );
}
