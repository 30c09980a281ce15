//! `evenkeel run`

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use evenkeel::ipvsadm::SystemNames;
use evenkeel::ipvsadm::boot::start_rules;
use evenkeel_api::paths::DEFAULT_INSTANCE;
use evenkeel_config::native::{self, Config, Hook, IpvsadmRules};
use evenkeel_daemon::{logging, run::Options};

/// Where an instance's configuration is looked for when none is named.
const CONFIGURATIONS: &str = "/etc/evenkeel";

/// Arguments of `evenkeel run`.
#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// Configuration file; without it /etc/evenkeel/NAME.toml, if it is there.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
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
        let mut config = configuration(&name, arguments.config.as_deref())?;
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
        Ok((config, Vec::new()))
    };
    let (config, _) = read()?;
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

fn configuration(instance: &str, named: Option<&Path>) -> Result<Config> {
    let usual = Path::new(CONFIGURATIONS).join(format!("{instance}.toml"));
    let path = named.unwrap_or(&usual);
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound && named.is_none() => {
            return Ok(Config::default());
        }
        Err(error) => {
            return Err(error).with_context(|| format!("cannot read {}", path.display()));
        }
    };
    match native::parse(&text, &path.display().to_string()) {
        Ok(config) => Ok(config),
        Err(mistakes) => {
            for mistake in &mistakes {
                eprintln!("{mistake}");
            }
            bail!(
                "the configuration has {} mistakes, see above",
                mistakes.len()
            )
        }
    }
}
