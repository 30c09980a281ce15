//! The examples of the page about checks: both sides of each are the same.

use evenkeel_config::files::Memory;
use evenkeel_config::load::{Format, Input, Loaded, Options, load};
use evenkeel_config::native::{self, Config};
use evenkeel_core::model::VirtualServer;

const PAGE: &str = include_str!("../../../docs/checks.md");

/// What stands around a check, which goes where `CHECK` is.
const KEEPALIVED: &str = "\
virtual_server 10.0.0.10 80 {
    protocol TCP
    lb_algo wlc
    lb_kind NAT
    delay_loop 5
    retry 2
    delay_before_retry 1
    connect_timeout 3
    real_server 192.168.1.1 80 {
CHECK
    }
}
";
const TOML: &str = "\
[[service]]
address = \"10.0.0.10\"
port = 80

[[service.server]]
address = \"192.168.1.1\"

CHECK
";

/// The page's blocks of code in these languages, with those.
fn blocks() -> Vec<(&'static str, &'static str)> {
    let blocks = PAGE.split("```").skip(1).step_by(2);
    let blocks = blocks.filter_map(|block| block.split_once('\n'));
    let examples = blocks.filter(|(language, _)| ["keepalived", "toml"].contains(language));
    examples.collect()
}

/// Pairs of the same in both languages.
fn pairs() -> Vec<(&'static str, &'static str)> {
    let blocks = blocks();
    let pairs = blocks.windows(2);
    let pairs = pairs.filter(|pair| (pair[0].0, pair[1].0) == ("keepalived", "toml"));
    pairs.map(|pair| (pair[0].1, pair[1].1)).collect()
}

/// The check with what stands around it; what is whole already stays as it is.
fn whole_keepalived(example: &str) -> String {
    if example.starts_with("virtual_server") {
        return example.into();
    }
    // What a check refers to stands before it.
    let (before, check) = example.rsplit_once("\n\n").unwrap_or(("", example));
    format!("{before}\n{}", KEEPALIVED.replace("CHECK", check))
}

fn whole_toml(example: &str) -> String {
    if example.starts_with("[[service]]") {
        return example.into();
    }
    TOML.replace("CHECK", example)
}

fn read(text: &str) -> Loaded {
    let mut files = Memory::default();
    files.add("/e/keepalived.conf", text);
    for script in ["load", "tell", "gone"] {
        files.add_with(&format!("/usr/local/bin/{script}"), "#!/bin/sh\n", 0o755, 0);
    }
    let input = Input {
        path: "/e/keepalived.conf".into(),
        format: Some(Format::Keepalived),
    };
    load(&[input], &Options::default(), &files)
}

/// The one service, without what the two languages have other defaults for.
fn service(config: Config) -> VirtualServer {
    let mut services = config.services;
    assert_eq!(services.len(), 1);
    let mut service = services.remove(0).service;
    service.settings.compatible = None;
    service.settings.mss_clamp = None;
    service.mail = false;
    service
}

#[test]
fn both_sides_of_each_example_are_the_same() {
    let pairs = pairs();
    for (keepalived, toml) in &pairs {
        let loaded = read(&whole_keepalived(keepalived));
        let found: Vec<String> = loaded.diagnostics.iter().map(ToString::to_string).collect();
        assert!(found.is_empty(), "{keepalived}\n{}", found.join("\n"));
        let own = native::parse(&whole_toml(toml), "checks.md").unwrap();
        assert_eq!(service(loaded.config), service(own), "{keepalived}");
    }
    let kinds = pairs.iter().filter(|(keepalived, _)| {
        let mut lines = keepalived.lines();
        lines.any(|line| line.ends_with("_CHECK {") || line.ends_with("_GET {"))
    });
    assert!(kinds.count() >= 10);
}

#[test]
fn each_example_is_read_and_written() {
    for (_, example) in blocks().iter().filter(|(language, _)| *language == "toml") {
        let config = native::parse(&whole_toml(example), "checks.md");
        let config = config.unwrap_or_else(|mistakes| panic!("{example}{mistakes:?}"));
        let again = native::parse(&native::write(&config), "written").unwrap();
        assert_eq!(service(again), service(config));
    }
}

#[test]
fn each_type_of_check_is_on_the_page() {
    let kinds = native::CHECK_KEYS.iter().find(|key| key.name == "type");
    let Some(native::Kind::Word(kinds)) = kinds.map(|key| key.kind.clone()) else {
        panic!("checks have no type");
    };
    for kind in kinds {
        let example = format!("type = \"{kind}\"");
        assert!(
            PAGE.contains(&example) || PAGE.contains(&format!("| `{kind}` |")),
            "{kind}"
        );
    }
}
