//! The house's plan, held: which crate may use which.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

/// Each crate of the workspace and those it may use, at run time or in builds. Tests
/// of a crate may use more.
const MAY_USE: &[(&str, &[&str])] = &[
    ("evenkeel-datapath", &[]),
    ("evenkeel-core", &["evenkeel-datapath"]),
    ("evenkeel-config", &["evenkeel-core"]),
    ("evenkeel-api", &["evenkeel-core"]),
    ("evenkeel-kernel", &["evenkeel-core", "evenkeel-datapath"]),
    ("evenkeel-lab", &["evenkeel-api", "evenkeel-kernel"]),
    (
        "evenkeel-daemon",
        &[
            "evenkeel-api",
            "evenkeel-config",
            "evenkeel-core",
            "evenkeel-datapath",
            "evenkeel-kernel",
        ],
    ),
    // Only the binary and the benchmarks use the daemon.
    (
        "evenkeel",
        &[
            "evenkeel-api",
            "evenkeel-config",
            "evenkeel-core",
            "evenkeel-daemon",
            // What the reasons that packets are counted by mean, for `status`.
            "evenkeel-datapath",
            "evenkeel-kernel",
            "evenkeel-lab",
        ],
    ),
    (
        "evenkeel-bench",
        &[
            "evenkeel-api",
            "evenkeel-config",
            "evenkeel-core",
            // The monitor, whose checks are measured by themselves.
            "evenkeel-daemon",
            "evenkeel-datapath",
            "evenkeel-kernel",
            "evenkeel-lab",
        ],
    ),
    ("xtask", &[]),
];

fn uses() -> BTreeMap<String, BTreeSet<String>> {
    let output = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--no-deps",
            "--offline",
            "--format-version",
            "1",
        ])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    let packages = metadata["packages"].as_array().unwrap();
    packages
        .iter()
        .map(|package| {
            let dependencies = package["dependencies"].as_array().unwrap();
            let ours = dependencies
                .iter()
                .filter(|d| d["path"].is_string() && d["kind"].as_str() != Some("dev"))
                .map(|d| text(&d["name"]));
            (text(&package["name"]), ours.collect())
        })
        .collect()
}

#[test]
fn crates_use_only_what_the_plan_allows() {
    let plan: BTreeMap<&str, &[&str]> = MAY_USE.iter().copied().collect();
    for (name, used) in uses() {
        let allowed = plan
            .get(name.as_str())
            .unwrap_or_else(|| panic!("{name} has no place in the plan (MAY_USE)"));
        for dependency in used {
            assert!(
                allowed.contains(&dependency.as_str()),
                "{name} must not use {dependency}; see ARCHITECTURE.md"
            );
        }
    }
}

#[test]
fn configuration_and_kernel_never_see_each_other() {
    let uses = uses();
    assert!(!uses["evenkeel-config"].contains("evenkeel-kernel"));
    assert!(!uses["evenkeel-kernel"].contains("evenkeel-config"));
}

/// All Rust sources of the crates.
fn sources(directory: &Path, text: &mut String) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, text);
        } else if path.extension().is_some_and(|kind| kind == "rs") {
            *text += &fs::read_to_string(path).unwrap();
        }
    }
}

#[test]
fn tests_that_the_manual_names_are_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let page = fs::read_to_string(root.join("docs/deviations.md")).unwrap();
    let mut text = String::new();
    sources(&root.join("crates"), &mut text);
    let mut count = 0;
    // Each table whose last column is `tests`.
    for table in page.split("| tests |").skip(1) {
        for row in table
            .lines()
            .skip(2)
            .take_while(|line| line.starts_with('|'))
        {
            let cell = row.trim_end_matches([' ', '|']).rsplit(" | ").next();
            for name in cell.unwrap().split('`').skip(1).step_by(2) {
                assert!(
                    text.contains(&format!("fn {name}(")),
                    "no test {name}: {row}"
                );
                count += 1;
            }
        }
    }
    assert!(count > 20, "{count} tests");
}
