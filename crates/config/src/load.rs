//! Configurations from any number of files in any of the languages: read, put together,
//! and looked at as a whole.

use std::path::Path;

use crate::crosscheck;
use crate::diagnostic::{Diagnostic, Place, Severity, Sources};
use crate::files::Files;
use crate::keepalived;
use crate::native::{self, Config, PlacedService};

/// A language that configurations are written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// The daemon's own TOML.
    Native,
    /// keepalived.conf.
    Keepalived,
}

impl Format {
    /// All, with their names.
    pub const ALL: &[(Self, &str)] = &[(Self::Native, "native"), (Self::Keepalived, "keepalived")];

    /// The format of a file, by its name or by what stands in it.
    #[must_use]
    pub fn of(name: &str, text: &str) -> Self {
        let path = Path::new(name);
        let stem = path.file_name().and_then(|name| name.to_str());
        if path
            .extension()
            .is_some_and(|extension| extension == "toml")
        {
            return Self::Native;
        }
        if stem.is_some_and(|stem| stem.starts_with("keepalived")) {
            return Self::Keepalived;
        }
        let lines = text.lines().map(str::trim);
        let mut lines = lines.filter(|line| !line.is_empty() && !line.starts_with(['#', '!']));
        let Some(first) = lines.next() else {
            return Self::Native;
        };
        let before = first.split(['{', '"', '#']).next().unwrap_or_default();
        let is_native =
            first.starts_with('[') || (before.contains('=') && !first.starts_with(['$', '@', '~']));
        if is_native {
            Self::Native
        } else {
            Self::Keepalived
        }
    }
}

/// A file that is to be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Input {
    /// Its path.
    pub path: String,
    /// Its format; none: as [`Format::of`] tells.
    pub format: Option<Format>,
}

/// How files are read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// What `@ID` of keepalived.conf is compared with.
    pub id: String,
}

impl Options {
    /// With the machine's name up to its first dot as id, as keepalived has it.
    #[must_use]
    pub fn of_this_machine() -> Self {
        let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let id = name.trim().split('.').next().unwrap_or_default();
        Self { id: id.to_owned() }
    }
}

/// What files come to.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// What they say; without what is wrong.
    pub config: Config,
    /// What is wrong, file by file from the top down.
    pub diagnostics: Vec<Diagnostic>,
    /// Their lines, for [`Sources::render`].
    pub sources: Sources,
}

impl Loaded {
    /// How many there are of this kind.
    #[must_use]
    pub fn count(&self, severity: Severity) -> usize {
        let found = self.diagnostics.iter();
        found.filter(|found| found.severity == severity).count()
    }

    /// True if nothing may be started with it.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        self.count(Severity::Error) > 0
    }
}

/// A service, and from which input it is.
pub(crate) struct Origin {
    pub(crate) input: usize,
    pub(crate) service: PlacedService,
}

/// Reads files and puts them together. Services of all files are there; of every other
/// part the last file's that says something of it.
#[must_use]
pub fn load(inputs: &[Input], options: &Options, files: &dyn Files) -> Loaded {
    let mut loading = Loading::default();
    let mut of_keepalived = Vec::new();
    for (number, input) in inputs.iter().enumerate() {
        let bytes = match files.read(Path::new(&input.path)) {
            Ok(bytes) => bytes,
            Err(error) => {
                loading.unreadable(&input.path, &format!("cannot be read: {error}"));
                continue;
            }
        };
        let text = String::from_utf8_lossy(&bytes);
        let format = input
            .format
            .unwrap_or_else(|| Format::of(&input.path, &text));
        match format {
            Format::Native => match std::str::from_utf8(&bytes) {
                Ok(text) => loading.native(number, &input.path, text),
                Err(_) => loading.unreadable(&input.path, "is no text in UTF-8"),
            },
            Format::Keepalived => of_keepalived.push((number, input.path.as_str(), bytes)),
        }
    }
    let mut carried = None;
    if !of_keepalived.is_empty() {
        carried = loading.keepalived(&of_keepalived, options, files);
    }
    let Loading {
        mut services,
        mut parts,
        mut diagnostics,
        sources,
    } = loading;
    services.sort_by_key(|origin| origin.input);
    parts.sort_by_key(|(number, _)| *number);
    let mut config = Config::default();
    for (_, part) in parts {
        merge(&mut config, part);
    }
    config.services = crosscheck::check(services, carried.as_deref(), &mut diagnostics);
    diagnostics.sort_by_key(|found| sources.order(found));
    // A file that is included twice has each of its faults twice.
    diagnostics.dedup();
    Loaded {
        config,
        diagnostics,
        sources,
    }
}

#[derive(Default)]
struct Loading {
    services: Vec<Origin>,
    /// What files say beside services, with the number of the last of them.
    parts: Vec<(usize, Config)>,
    diagnostics: Vec<Diagnostic>,
    sources: Sources,
}

impl Loading {
    fn unreadable(&mut self, path: &str, fault: &str) {
        let place = Place {
            file: path.into(),
            line: 1,
            column: 1,
        };
        let message = format!("{path} {fault}");
        self.sources.add(path.into(), "");
        self.diagnostics
            .push(Diagnostic::new(Severity::Error, place, message));
    }

    fn native(&mut self, number: usize, path: &str, text: &str) {
        self.sources.add(path.into(), text);
        match native::parse(text, path) {
            Ok(mut config) => {
                self.take_services(&mut config, |_| number);
                self.parts.push((number, config));
            }
            Err(mistakes) => {
                self.diagnostics
                    .extend(mistakes.into_iter().map(Diagnostic::from));
            }
        }
    }

    fn keepalived(
        &mut self,
        inputs: &[(usize, &str, Vec<u8>)],
        options: &Options,
        files: &dyn Files,
    ) -> Option<Vec<std::net::IpAddr>> {
        let texts: Vec<(&str, &[u8])> = inputs
            .iter()
            .map(|(_, path, bytes)| (*path, bytes.as_slice()))
            .collect();
        let mut read = keepalived::read(&texts, files, &options.id, &mut self.sources);
        self.diagnostics.append(&mut read.diagnostics);
        let origins = read.origins;
        self.take_services(&mut read.config, |service| {
            let input = origins.get(service).and_then(|&at| inputs.get(at));
            input.map_or(0, |(number, ..)| *number)
        });
        let last = inputs.last().map_or(0, |(number, ..)| *number);
        self.parts.push((last, read.config));
        read.carried
    }

    fn take_services(&mut self, config: &mut Config, input: impl Fn(usize) -> usize) {
        let services = std::mem::take(&mut config.services).into_iter().enumerate();
        let services = services.map(|(number, service)| Origin {
            input: input(number),
            service,
        });
        self.services.extend(services);
    }
}

/// Takes over what a file says that is not as it would be without it.
fn merge(config: &mut Config, other: Config) {
    fn take<T: PartialEq>(target: &mut T, value: T, usual: &T) {
        if value != *usual {
            *target = value;
        }
    }
    let usual = Config::default();
    let Config {
        dataplane,
        timeouts,
        udp_quiesced,
        start,
        stop,
        alerts,
        ipvs,
        compat,
        source_nat,
        closed,
        marks,
        services: _,
    } = other;
    take(&mut config.dataplane, dataplane, &usual.dataplane);
    take(&mut config.timeouts, timeouts, &usual.timeouts);
    take(&mut config.udp_quiesced, udp_quiesced, &usual.udp_quiesced);
    take(
        &mut config.start.ipvsadm_rules,
        start.ipvsadm_rules,
        &usual.start.ipvsadm_rules,
    );
    config.start.flush |= start.flush;
    take(&mut config.stop, stop, &usual.stop);
    take(&mut config.alerts, alerts, &usual.alerts);
    take(&mut config.compat, compat, &usual.compat);
    take(&mut config.source_nat, source_nat, &usual.source_nat);
    for (setting, value) in ipvs {
        config.ipvs.retain(|(known, _)| *known != setting);
        config.ipvs.push((setting, value));
    }
    config.closed.extend(closed);
    config.marks.extend(marks);
}

#[cfg(test)]
mod tests;
