//! `evenkeel services`, `servers`, `conns`, `drain` and `top` as processes, beside the
//! sessions of `docs/views.md`.

mod common;

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use common::daemon::Daemon;
use common::replay::command;
use evenkeel_api::client::Client;
use evenkeel_api::paths;
use evenkeel_daemon::dataplane::{Dataplane, InMemory};
use evenkeel_lab::wait;
use serde_json::Value;

/// Longest that a process may take to do its part.
const PATIENCE: Duration = Duration::from_secs(20);

struct Bench {
    instance: String,
    dataplane: Arc<InMemory>,
    client: Client,
    _daemon: Daemon,
}

impl Bench {
    /// A daemon with these rules; its servers have places in memory in their order.
    fn new(purpose: &str, rules: &[&str]) -> Self {
        let instance = format!("test-{purpose}-{}", std::process::id());
        let dataplane = Arc::new(InMemory::new());
        let daemon = Daemon::over(&paths::socket(&instance), Arc::clone(&dataplane));
        let client = Client::at(&instance, daemon.socket());
        for rule in rules {
            let outcome = command(&client, &format!("ipvsadm {rule}"), "");
            assert_eq!((outcome.output.as_str(), outcome.exit), ("", 0), "{rule}");
        }
        Self {
            instance,
            dataplane,
            client,
            _daemon: daemon,
        }
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_evenkeel"));
        command
            .args(words)
            .env(paths::INSTANCE_VARIABLE, &self.instance)
            .stdin(Stdio::null());
        command
    }

    fn output(&self, words: &[&str]) -> Output {
        self.command(words).output().expect("it starts")
    }

    fn json(&self, words: &[&str]) -> Value {
        let output = self.output(words);
        assert!(output.status.success(), "{output:?}");
        serde_json::from_slice(&output.stdout).expect("JSON")
    }

    fn active(&self, server: usize, count: u32) {
        self.dataplane.memory().loads[server].active.set(count);
    }

    fn weights(&self) -> Vec<u32> {
        let table = self.client.services(None).expect("a daemon");
        let servers = table.services.iter().flat_map(|service| &service.servers);
        servers.map(|server| server.settings.weight).collect()
    }
}

/// Ends a process that a failed test leaves behind.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

const RULES: &[&str] = &[
    "-A -t 10.0.0.10:80 -s rr",
    "-a -t 10.0.0.10:80 -r 192.168.1.1:8080 -m -w 3 -x 9",
    "-a -t 10.0.0.10:80 -r 192.168.1.2:8080 -m",
    "-A -f 1 -6 -s wlc",
    "-a -f 1 -6 -r [fd00::1]:0 -i",
];

#[test]
fn a_drain_waits_until_the_connections_are_gone() {
    let bench = Bench::new("drain", RULES);
    bench.active(0, 2);
    let mut drain = bench.command(&["drain", "192.168.1.1"]);
    let mut drain = Running(drain.stderr(Stdio::piped()).spawn().expect("it starts"));
    let errors = BufReader::new(drain.0.stderr.take().expect("a pipe"));
    let mut told = errors.lines().map(|line| line.expect("text"));
    assert_eq!(
        told.next().as_deref(),
        Some("tcp:10.0.0.10:80  192.168.1.1:8080  weight 3 -> 0")
    );
    let waits = told.next().expect("a line");
    assert!(
        waits.starts_with("192.168.1.1: 2 active connections, 0 inactive, "),
        "{waits}"
    );
    bench.active(0, 1);
    let waits = told.next().expect("a line");
    assert!(
        waits.starts_with("192.168.1.1: 1 active connection, "),
        "{waits}"
    );
    assert!(drain.0.try_wait().expect("a child").is_none());
    bench.active(0, 0);
    assert_eq!(told.next(), None);
    assert!(drain.0.wait().expect("a child").success());
    // All else of the server is as it was, and the others too.
    assert_eq!(
        command(&bench.client, "ipvsadm -Ln --thresholds", "")
            .output
            .lines()
            .nth(4),
        Some("  -> 192.168.1.1:8080             9          0          0          0         ")
    );
    let mut weights = bench.weights();
    weights.sort_unstable();
    assert_eq!(weights, [0, 1, 1]);
}

#[test]
fn a_drain_waits_for_flows_of_udp() {
    let rules = [
        "-A -u 10.0.0.10:53 -s rr",
        "-a -u 10.0.0.10:53 -r 192.168.1.1:53 -m",
    ];
    let bench = Bench::new("flows", &rules);
    let flows = |count| bench.dataplane.memory().loads[0].inactive.set(count);
    flows(2);
    let mut drain = bench.command(&["drain", "192.168.1.1"]);
    let mut drain = Running(drain.stderr(Stdio::piped()).spawn().expect("it starts"));
    let errors = BufReader::new(drain.0.stderr.take().expect("a pipe"));
    let mut told = errors.lines().map(|line| line.expect("text"));
    assert_eq!(
        told.next().as_deref(),
        Some("udp:10.0.0.10:53  192.168.1.1:53  weight 1 -> 0")
    );
    let waits = told.next().expect("a line");
    assert!(
        waits.starts_with("192.168.1.1: 0 active connections and 2 UDP flows, 0 inactive, "),
        "{waits}"
    );
    assert!(drain.0.try_wait().expect("a child").is_none());
    flows(0);
    assert!(drain.0.wait().expect("a child").success());
}

#[test]
fn a_server_that_is_deleted_meanwhile_is_drained() {
    let bench = Bench::new("gone", RULES);
    bench.active(1, 5);
    let mut drain = bench.command(&["drain", "192.168.1.2:8080", "--json"]);
    let mut drain = Running(drain.stdout(Stdio::piped()).spawn().expect("it starts"));
    let is_quiesced = || {
        let weights = bench.weights();
        let is_there = weights.contains(&0).then_some(());
        is_there.ok_or_else(|| format!("weights {weights:?}"))
    };
    wait::until(PATIENCE, "the weight", is_quiesced).expect("it is set to 0");
    command(
        &bench.client,
        "ipvsadm -d -t 10.0.0.10:80 -r 192.168.1.2:8080",
        "",
    );
    let out = drain.0.stdout.take().expect("a pipe");
    let outcome: Value = serde_json::from_reader(out).expect("JSON");
    assert!(drain.0.wait().expect("a child").success());
    assert_eq!(outcome["drained"], true);
    assert_eq!(outcome["places"][0]["gone"], true);
}

#[test]
fn a_drain_of_nothing_is_refused() {
    let bench = Bench::new("none", RULES);
    for (words, message) in [
        (
            &["drain", "192.168.1.9"][..],
            "evenkeel: no service has a server 192.168.1.9\n",
        ),
        (
            &["drain", "192.168.1.1", "--service", "mark:1:v6"],
            "evenkeel: service mark:1:v6 does not have a server 192.168.1.1\n",
        ),
        (
            &["drain", "192.168.1.1", "--service", "tcp:10.0.0.10:81"],
            "evenkeel: there is no service tcp:10.0.0.10:81\n",
        ),
    ] {
        let output = bench.output(words);
        assert_eq!(String::from_utf8_lossy(&output.stderr), message);
        assert_eq!(output.status.code(), Some(1));
    }
    assert_eq!(bench.output(&["drain", "server"]).status.code(), Some(2));
}

#[test]
fn json_has_all_of_it() {
    let bench = Bench::new("json", RULES);
    bench.active(0, 7);
    let services = bench.json(&["services", "--json"]);
    assert_eq!(services.as_array().map(Vec::len), Some(2));
    assert_eq!(services[0]["service"], "tcp:10.0.0.10:80");
    assert_eq!(services[0]["active"], 7);
    assert_eq!(services[1]["service"], "mark:1:v6");
    let one = bench.json(&["services", "--json", "--service", "mark:1:v6"]);
    assert_eq!(one[0], services[1]);
    let servers = bench.json(&["servers", "--json"]);
    assert_eq!(servers.as_array().map(Vec::len), Some(3));
    assert_eq!(servers[0]["server"], "192.168.1.1:8080");
    assert_eq!(servers[0]["settings"]["upper_threshold"], 9);
    assert_eq!(servers[2]["server"], "[fd00::1]:0");
    let top = bench.output(&["top", "--json", "--count", "2", "--interval", "1s"]);
    let looks = String::from_utf8(top.stdout).expect("text");
    assert_eq!(looks.lines().count(), 2);
    for look in looks.lines() {
        let look: Value = serde_json::from_str(look).expect("JSON");
        assert_eq!(look["rows"].as_array().map(Vec::len), Some(2));
    }
    assert!(bench.output(&["conns", "--json"]).stdout.is_empty());
}

#[test]
fn a_reader_that_goes_away_ends_what_goes_on() {
    let bench = Bench::new("reader", RULES);
    for words in [
        &["conns", "--watch", "--interval", "1s"][..],
        &["top", "--interval", "1s"],
        &["top", "--json", "--interval", "1s"],
    ] {
        let mut command = bench.command(words);
        let mut process = Running(command.stdout(Stdio::piped()).spawn().expect("it starts"));
        let mut out = BufReader::new(process.0.stdout.take().expect("a pipe"));
        let mut line = String::new();
        out.read_line(&mut line).expect("a line");
        assert!(!line.is_empty());
        drop(out);
        let ended = wait::until(PATIENCE, "its end", || match process.0.try_wait() {
            Ok(Some(status)) => Ok(status),
            _ => Err("it goes on".into()),
        });
        assert!(ended.expect("it ends").success(), "{words:?}");
    }
}
