//! What is written is read as it was.

use super::models::config;
use super::*;

/// Without places, and with what is open as a new service has it.
fn settled(mut config: Config) -> Config {
    let nowhere = Place {
        file: "".into(),
        line: 0,
        column: 0,
    };
    for placed in &mut config.services {
        placed.place = nowhere.clone();
        placed.servers.fill(nowhere.clone());
        let settings = &mut placed.service.settings;
        settings.compatible.get_or_insert(config.compat.ipvsadm);
        settings.mss_clamp.get_or_insert_default();
    }
    config
}

fn read_again(config: &Config) -> Result<Config, String> {
    let text = write(config);
    parse(&text, "e.toml").map_err(|mistakes| {
        let mistakes: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
        format!("{}\n{text}", mistakes.join("\n"))
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn what_is_written_is_read_as_it_was(config in config()) {
        let again = read_again(&config).map_err(TestCaseError::fail)?;
        prop_assert_eq!(settled(again), settled(config.clone()), "{}", write(&config));
    }
}

#[test]
fn nothing_is_written_of_what_is_as_usual() {
    assert_eq!(write(&Config::default()), "");
    let text = "[[service]]\naddress = \"10.0.0.10\"\nport = 80\n\n\
                [[service.check]]\ntype = \"http\"\n\n\
                [[service.server]]\naddress = \"192.168.1.1\"\n";
    assert_eq!(write(&parse(text, "e.toml").unwrap()), text);
}

#[test]
fn addresses_that_are_closed_are_written_once() {
    let text = "[closed]\naddresses = [\"10.0.0.10\"]\n";
    assert_eq!(write(&parse(text, "e.toml").unwrap()), text);
}

#[test]
fn the_manuals_examples_are_written_and_read() {
    let manual = include_str!("../../../../../docs/configuration.md");
    let examples = manual
        .split("```")
        .filter_map(|block| block.strip_prefix("toml"));
    for example in examples {
        let config = parse(example, "manual").unwrap();
        let again = read_again(&config).unwrap();
        assert_eq!(settled(again), settled(config), "{example}");
    }
}
