//! `evenkeel run`

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, ValueEnum};
use evenkeel::ipvsadm::SystemNames;
use evenkeel::ipvsadm::boot::start_rules;
use evenkeel_api::paths::DEFAULT_INSTANCE;
use evenkeel_config::native::{Hook, IpvsadmRules};
use evenkeel_daemon::{logging, run::Options};

use super::reading::ReadingArguments;

/// Where an instance's configuration is looked for when none is named.
const CONFIGURATIONS: &str = "/etc/evenkeel";

/// Arguments of `evenkeel run`.
#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// Configuration files, in TOML or as keepalived.conf, which are put together; without
    /// any /etc/evenkeel/NAME.toml, if it is there.
    #[arg(long, value_name = "FILE", num_args = 1..)]
    config: Vec<PathBuf>,
    #[command(flatten)]
    reading: ReadingArguments,
    /// Attach to this interface only; can be given several times. Without it: to
    /// every one that IP packets come by.
    #[arg(long, value_name = "IF")]
    interface: Vec<String>,
    /// Where the packet path sits.
    #[arg(long, value_enum)]
    hook: Option<HookArgument>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum HookArgument {
    /// XDP on physical interfaces, tc on all.
    Auto,
    /// XDP wherever the driver has it.
    Xdp,
    /// tc alone.
    Tc,
}

/// Runs the director until it is stopped.
pub(crate) fn run(instance: &str, arguments: Arguments) -> Result<ExitCode> {
    let name = instance.to_owned();
    let read = move || {
        let files = files(&name, &arguments.config);
        let (mut config, warnings) = arguments.reading.read(&files)?;
        if !arguments.interface.is_empty() {
            config.dataplane.interfaces.clone_from(&arguments.interface);
        }
        if let Some(hook) = arguments.hook {
            config.dataplane.hook = match hook {
                HookArgument::Auto => Hook::Auto,
                HookArgument::Xdp => Hook::Xdp,
                HookArgument::Tc => Hook::Tc,
            };
        }
        Ok((config, warnings))
    };
    let (config, warnings) = read()?;
    for warning in &warnings {
        eprintln!("{warning}");
    }
    logging::start();
    // The machine's own rules are for one director of it.
    let rules = match config.start.ipvsadm_rules.clone() {
        IpvsadmRules::Auto if instance != DEFAULT_INSTANCE => IpvsadmRules::Never,
        rules => rules,
    };
    let options = Options {
        instance: instance.into(),
        config,
        read: Box::new(read),
    };
    evenkeel_daemon::run::run(options, || start_rules(&rules, &SystemNames::default()))?;
    Ok(ExitCode::SUCCESS)
}

/// The files that are read: those that were named, or the usual one where it is there.
fn files(instance: &str, named: &[PathBuf]) -> Vec<PathBuf> {
    if !named.is_empty() {
        return named.to_vec();
    }
    let usual = Path::new(CONFIGURATIONS).join(format!("{instance}.toml"));
    // One that is there and can not be read is to be told of.
    match fs::metadata(&usual) {
        Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
        _ => vec![usual],
    }
}
