//! What keepalived.conf says is the same when it is written as TOML.

use std::path::{Path, PathBuf};

use evenkeel_config::diagnostic::{Diagnostic, Place, Severity};
use evenkeel_config::files::Disk;
use evenkeel_config::load::{Format, Input, Options, load};
use evenkeel_config::native::{self, Config};

/// Debian's samples.
const SAMPLES: &str = "/usr/share/doc/keepalived/samples";

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
    config.ipvs.sort_by_key(|(setting, _)| *setting);
    config
}

fn samples() -> Vec<PathBuf> {
    let entries = std::fs::read_dir(SAMPLES).expect("the samples of the package keepalived");
    let paths = entries.map(|entry| entry.unwrap().path());
    let is_sample = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str());
        name.is_some_and(|name| name.starts_with("keepalived.conf"))
    };
    let mut samples: Vec<PathBuf> = paths.filter(is_sample).collect();
    samples.sort();
    samples
}

/// Reads the file, writes it and reads that. How many services it has.
fn convert(path: &Path) -> usize {
    let input = Input {
        path: path.to_str().unwrap().into(),
        format: Some(Format::Keepalived),
    };
    let loaded = load(&[input], &Options::default(), &Disk);
    let errors = loaded.diagnostics.iter();
    let errors = errors.filter(|found| found.severity == Severity::Error);
    assert_eq!(errors.collect::<Vec<_>>(), [].as_slice() as &[&Diagnostic]);
    let text = native::write(&loaded.config);
    let again = native::parse(&text, "converted");
    let again = again.unwrap_or_else(|mistakes| {
        let mistakes: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
        panic!("{}\n{}\n{text}", path.display(), mistakes.join("\n"))
    });
    let services = again.services.len();
    assert_eq!(settled(again), settled(loaded.config), "{}", path.display());
    services
}

#[test]
fn samples_are_the_same_as_toml() {
    let services: usize = samples().iter().map(|path| convert(path)).sum();
    assert!(services > 15, "{services} services");
}

#[test]
fn a_file_with_a_brace_too_many_is_the_same_as_toml() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/cases");
    let path = Path::new(path).join("3-keepalived-direct-routing/keepalived.conf");
    if !path.exists() {
        eprintln!("skipped: {} is not there", path.display());
        return;
    }
    assert!(convert(&path) > 0);
}
