//! Listings of connections, from the table in memory to the lines.

mod common;

use std::io::{BufReader, Write, empty};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use common::daemon::Daemon;
use common::replay::command;
use evenkeel::ipvsadm::{Console, Program, run};
use evenkeel_api::client::Client;
use evenkeel_api::connections::Query;
use evenkeel_config::ipvsadm::NoNames;
use evenkeel_daemon::dataplane::{Dataplane, InMemory};
use evenkeel_datapath::layout::WAYS;
use evenkeel_datapath::simulated::Sizes;
use evenkeel_datapath::state;

struct Bench {
    _directory: tempfile::TempDir,
    _daemon: Daemon,
    client: Client,
}

/// A table with so many TCP connections, of 1,000 clients in turn, to one service.
fn bench(connections: u32) -> Bench {
    let buckets = (connections / WAYS as u32).next_power_of_two();
    let dataplane = Arc::new(InMemory::sized(&Sizes {
        buckets,
        ..Sizes::default()
    }));
    let directory = tempfile::tempdir().expect("a temporary directory");
    let daemon = Daemon::over(&directory.path().join("socket"), Arc::clone(&dataplane));
    let client = Client::at("test", daemon.socket());
    for line in [
        "ipvsadm -A -t 10.0.0.10:80 -s rr",
        "ipvsadm -a -t 10.0.0.10:80 -r 192.168.1.1:8080 -m",
    ] {
        let outcome = command(&client, line, "");
        assert_eq!((outcome.output.as_str(), outcome.exit), ("", 0), "{line}");
    }
    let memory = dataplane.memory();
    for number in 0..connections {
        let bucket = &memory.connections[number as usize / WAYS];
        let way = number as usize % WAYS;
        let entry = &bucket.entries[way];
        let (host, port) = (number % 1000, 1 + number / 1000);
        let address = (10 << 24 | 1 << 16 | host).to_be();
        entry.client_address.set(address);
        entry
            .client_port
            .set(6 << 16 | u32::from((port as u16).to_be()));
        entry.seen.set(dataplane.now_tick().expect("a clock"));
        entry.state.set(state::ESTABLISHED);
        bucket.signatures[way].set(1);
    }
    Bench {
        _directory: directory,
        _daemon: daemon,
        client,
    }
}

/// Counts lines.
#[derive(Clone, Default)]
struct Lines(Arc<AtomicUsize>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let lines = bytes.split(|&byte| byte == b'\n').count() - 1;
        self.0.fetch_add(lines, Ordering::Relaxed);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Lines of `ipvsadm -Lnc`.
fn listed(client: &Client) -> usize {
    let lines = Lines::default();
    let mut console = Console {
        input: BufReader::new(Box::new(empty())),
        output: Box::new(lines.clone()),
        errors: Box::new(std::io::stderr()),
    };
    let exit = run(Program::Ipvsadm, &["-Lnc"], &mut console, &NoNames, client);
    assert_eq!(exit, 0);
    lines.0.load(Ordering::Relaxed)
}

#[test]
fn all_are_listed() {
    let bench = bench(20_000);
    assert_eq!(listed(&bench.client), 2 + 20_000);
    let text = command(&bench.client, "ipvsadm -Lnc", "").output;
    let mut lines: Vec<&str> = text.lines().skip(2).collect();
    lines.sort_unstable();
    lines.dedup();
    assert_eq!(lines.len(), 20_000);
    let line = lines[0];
    assert!(
        line.starts_with("TCP 1") && line.contains(" ESTABLISHED 10.1.0.0:"),
        "{line}"
    );
    assert!(
        line.ends_with(" 10.0.0.10:80       192.168.1.1:8080"),
        "{line}"
    );
}

#[test]
fn a_limit_and_a_reader_who_has_enough() {
    let bench = bench(20_000);
    let count = |query: &Query, enough: usize| {
        let mut count = 0;
        let listed = bench.client.connections(query, |_| {
            count += 1;
            if count == enough {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        });
        listed.expect("a daemon");
        count
    };
    for limit in [0, 1, 15_000] {
        let query = Query {
            limit: Some(limit),
            ..Query::default()
        };
        assert_eq!(count(&query, usize::MAX) as u64, limit);
    }
    assert_eq!(count(&Query::default(), 7), 7);
    // The daemon is none the worse.
    assert_eq!(count(&Query::default(), usize::MAX), 20_000);
}

/// A million, from the table to the lines. Prints how long that takes.
#[test]
#[ignore = "a measurement, for a release build: cargo test --release -- --ignored a_million"]
fn a_million() {
    let bench = bench(1_000_000);
    for _ in 0..5 {
        let start = Instant::now();
        assert_eq!(listed(&bench.client), 2 + 1_000_000);
        println!("a million connections listed in {:?}", start.elapsed());
    }
}
