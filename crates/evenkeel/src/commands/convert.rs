//! `evenkeel convert`

use std::fs::{self, OpenOptions, Permissions};
use std::io::{IsTerminal, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use evenkeel::ipvsadm::SystemNames;
use evenkeel_config::diagnostic::Severity;
use evenkeel_config::files::Disk;
use evenkeel_config::ipvsadm;
use evenkeel_config::load::{Format, Input, Loaded, Options, load};
use evenkeel_config::native::{self, Config};

use super::text::{counted, print};

/// Arguments of `evenkeel convert`.
#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// Files: keepalived.conf, rules that ipvsadm has saved, or TOML.
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// What they are; without it, as name or content tells.
    #[arg(long, value_enum)]
    format: Option<FormatArgument>,
    /// What `@ID` of keepalived.conf is compared with; without it, the machine's name.
    #[arg(long, value_name = "ID")]
    config_id: Option<String>,
    /// Write to this file, which its owner alone may read, as passwords may stand in it.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum FormatArgument {
    /// The daemon's own TOML.
    Native,
    /// keepalived.conf.
    Keepalived,
    /// What `ipvsadm -S` writes.
    Ipvsadm,
}

/// Writes the files as one of TOML.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let mut rules = Vec::new();
    let mut inputs = Vec::new();
    for path in &arguments.files {
        let is_rules = match arguments.format {
            None => has_rules(path),
            format => format == Some(FormatArgument::Ipvsadm),
        };
        if is_rules {
            rules.push(path);
        } else {
            inputs.push(Input {
                path: path.display().to_string(),
                format: arguments.format.map(|format| match format {
                    FormatArgument::Keepalived => Format::Keepalived,
                    FormatArgument::Native | FormatArgument::Ipvsadm => Format::Native,
                }),
            });
        }
    }
    let options = match &arguments.config_id {
        Some(id) => Options { id: id.clone() },
        None => Options::of_this_machine(),
    };
    let loaded = load(&inputs, &options, &Disk);
    show(&loaded);
    if loaded.is_refused() {
        bail!("nothing is written, because of the errors above");
    }
    let mut config = loaded.config;
    for path in rules {
        add_rules(&mut config, path, inputs.is_empty())?;
    }
    let text = native::write(&config);
    check(&text)?;
    match &arguments.output {
        Some(path) => write(path, &text)?,
        None => print(&text)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// True for saved rules. What can not be read is told when it is loaded.
fn has_rules(path: &Path) -> bool {
    let is_other = path
        .extension()
        .is_some_and(|extension| extension == "toml");
    let bytes = if is_other { None } else { fs::read(path).ok() };
    bytes.is_some_and(|bytes| ipvsadm::is_rules(&String::from_utf8_lossy(&bytes)))
}

/// Shows what is wrong in the files.
fn show(loaded: &Loaded) {
    let coloured = std::io::stderr().is_terminal();
    for found in &loaded.diagnostics {
        eprintln!("{}", loaded.sources.render(found, coloured));
    }
    let warnings = loaded.count(Severity::Warning);
    if warnings > 0 {
        let warnings = counted(warnings as u64, "warning");
        eprintln!("evenkeel: {warnings}: what is not acted upon is not written");
    }
}

/// Adds the services of saved rules. `alone`: there is nothing else.
fn add_rules(config: &mut Config, path: &Path, alone: bool) -> Result<()> {
    let place = path.display().to_string();
    let bytes = fs::read(path).with_context(|| format!("cannot read {place}"))?;
    let rules = ipvsadm::rules(&String::from_utf8_lossy(&bytes), &SystemNames::default());
    let (mut read, remarks) = ipvsadm::configuration(rules, &place);
    for remark in remarks {
        eprintln!("{place}:{}: warning: {}", remark.line, remark.message);
    }
    config.services.append(&mut read.services);
    if read.timeouts != Config::default().timeouts {
        config.timeouts = read.timeouts;
    }
    config.start.ipvsadm_rules = read.start.ipvsadm_rules;
    if alone {
        config.compat = read.compat;
    }
    Ok(())
}

/// What is written has to be read again: two files may have the same service, and
/// keepalived takes some things that TOML refuses.
fn check(text: &str) -> Result<()> {
    let Err(mistakes) = native::parse(text, "converted") else {
        return Ok(());
    };
    for mistake in &mistakes {
        let line = text.lines().nth(mistake.place.line.saturating_sub(1));
        eprintln!("{mistake}\n    {}", line.unwrap_or_default());
    }
    bail!("nothing is written, because it would not be read again, see above");
}

/// Writes to a file that its owner alone may read.
fn write(path: &Path, text: &str) -> Result<()> {
    let written = || {
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(path)?;
        if file.metadata()?.is_file() {
            file.set_permissions(Permissions::from_mode(0o600))?;
        }
        file.write_all(text.as_bytes())
    };
    written().with_context(|| format!("cannot write {}", path.display()))
}
