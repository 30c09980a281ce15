//! How configuration files are read, for all commands that read some.

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::Args;
use evenkeel_config::diagnostic::Severity;
use evenkeel_config::files::Disk;
use evenkeel_config::load::{Format, Input, Loaded, Options, load};
use evenkeel_config::native::Config;

/// Arguments about the files' language.
#[derive(Args, Clone, Debug)]
pub(crate) struct ReadingArguments {
    /// What the files are written in; without it, told by name or content.
    #[arg(long, value_name = "FORMAT", value_parser = format)]
    format: Option<Format>,
    /// What `@ID` of keepalived.conf is compared with; without it, the machine's name.
    #[arg(long, value_name = "ID")]
    config_id: Option<String>,
}

fn format(name: &str) -> Result<Format, String> {
    let known = Format::ALL.iter().find(|(_, known)| *known == name);
    known.map(|(format, _)| *format).ok_or_else(|| {
        let names: Vec<&str> = Format::ALL.iter().map(|(_, name)| *name).collect();
        format!("formats are {}", names.join(", "))
    })
}

impl ReadingArguments {
    /// What these files come to, right or wrong.
    pub(crate) fn load(&self, files: &[PathBuf]) -> Loaded {
        let inputs: Vec<Input> = files
            .iter()
            .map(|file| Input {
                path: file.display().to_string(),
                format: self.format,
            })
            .collect();
        let options = match &self.config_id {
            Some(id) => Options { id: id.clone() },
            None => Options::of_this_machine(),
        };
        load(&inputs, &options, &Disk)
    }

    /// The configuration of these files, and warnings about it.
    pub(crate) fn read(&self, files: &[PathBuf]) -> Result<(Config, Vec<String>)> {
        let loaded = self.load(files);
        let rendered = |severity| {
            let found = loaded.diagnostics.iter();
            let found = found.filter(move |found| found.severity == severity);
            found.map(|found| loaded.sources.render(found, false))
        };
        if loaded.is_refused() {
            let errors: Vec<String> = rendered(Severity::Error).collect();
            bail!(
                "{}\nthe configuration has {}, see above",
                errors.join("\n"),
                match errors.len() {
                    1 => "an error".into(),
                    count => format!("{count} errors"),
                }
            );
        }
        let warnings = rendered(Severity::Warning).collect();
        Ok((loaded.config, warnings))
    }
}
