//! The benchmarks themselves work: each part runs, for as short as it can.

use std::path::Path;
use std::process::Command;

use evenkeel_lab::vm::Kit;

/// Runs a part and gives its table. Evenkeel's program lies beside the benchmarks',
/// where the build for the workspace's tests puts it. It is not built here: that would
/// take the file away from tests that are running it.
fn bench(arguments: &[&str]) -> String {
    let program = Path::new(env!("CARGO_BIN_EXE_evenkeel-bench"));
    let evenkeel = program.with_file_name("evenkeel");
    assert!(
        evenkeel.exists(),
        "there is no {}: `cargo build` makes it",
        evenkeel.display()
    );
    let output = Command::new(program)
        .args(arguments)
        .arg("--quick")
        .output()
        .unwrap();
    let (table, log) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(
        output.status.success(),
        "{arguments:?}: {}\n{log}\n{table}",
        output.status
    );
    table.into_owned()
}

/// How many lines of the table are about this.
fn lines(table: &str, what: &str) -> usize {
    let start = format!("| {what} ");
    table
        .lines()
        .filter(|line| line.starts_with(&start))
        .count()
}

#[test]
fn every_way_carries_traffic() {
    let table = bench(&["lab", "--metrics", "keep,flood-syn"]);
    assert_eq!(lines(&table, "HTTP, keep-alive"), 5, "{table}");
    assert_eq!(lines(&table, "flood, new TCP, 32,768 ports"), 5, "{table}");
}

#[test]
fn every_metric_is_measured() {
    let paths = ["--paths", "evenkeel,evenkeel-xdp"];
    let metrics = ["--metrics", "throughput,plain,udp,short,flood-udp"];
    let table = bench(&[&["lab"], &paths[..], &metrics[..]].concat());
    for (what, ways) in [
        ("TCP, 1 stream, GSO", 1),
        ("TCP, 1 stream, no offloads", 2),
        ("UDP, 64-byte frames", 1),
        ("HTTP, short connections", 1),
        ("flood, 32,768 UDP flows", 2),
    ] {
        assert_eq!(lines(&table, what), ways, "{what} in\n{table}");
    }
}

#[test]
fn the_packet_path_memory_and_loading_are_measured() {
    let table = bench(&["program"]);
    assert!(
        lines(&table, "ns per packet above bare XDP drop") >= 8,
        "{table}"
    );
    let table = bench(&["memory"]);
    assert!(lines(&table, "memory per connection") >= 2, "{table}");
    assert_eq!(
        lines(&table, "memory of 10000 live connections"),
        2,
        "{table}"
    );
    let table = bench(&["load"]);
    assert_eq!(
        lines(&table, "load 100 services, 16 servers each"),
        2,
        "{table}"
    );
}

/// How many instructions a frame takes depends on no machine, so that what comes out is
/// looked at, too.
#[test]
fn the_kernels_ipvs_is_emulated() {
    let kit = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/vm");
    if let Err(error) = Kit::find(Path::new(kit)) {
        println!("skipped: {error:#}");
        return;
    }
    let table = bench(&["emulated"]);
    for what in ["32,768 UDP flows", "a new TCP connection each"] {
        let what = format!("emulated, {what}");
        assert_eq!(lines(&table, &what), 5, "{table}");
        let aim = format!("- met: {what}: instructions of evenkeel-xdp above xdp-limit");
        assert!(table.contains(&aim), "{table}");
    }
}

#[test]
fn changes_and_listings_are_measured() {
    let table = bench(&["change"]);
    let what = "change one of 100 services, 16 servers each";
    assert_eq!(lines(&table, what), 6, "{table}");
    let lost = lines(&table, "packets of untouched services meanwhile");
    assert_eq!(lost, 2, "{table}");
    let missed = table.lines().filter(|line| line.starts_with("- missed"));
    assert_eq!(missed.count(), 0, "no packet is lost or moved\n{table}");
    let table = bench(&["listing"]);
    assert_eq!(lines(&table, "list 10000 live connections"), 4, "{table}");
}

#[test]
fn checks_are_measured() {
    let table = bench(&["checks"]);
    for what in ["200 TCP checks a second", "200 HTTP checks a second"] {
        // Ours, and keepalived's.
        assert_eq!(lines(&table, what), 4 + 3, "{table}");
    }
}
