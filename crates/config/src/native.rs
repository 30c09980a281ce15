//! The daemon's own configuration file, in TOML. Every mistake in it is reported,
//! with its place, what was expected and the nearest right word.
//!
//! The tables of what may stand in the file are [`TABLES`], [`SERVICE_KEYS`] and the
//! others that end in `_KEYS`; the table `[ipvs]` has the names of [`Sysctl::ALL`].

mod alerts;
mod checks;
mod closed;
mod keys;
mod literals;
mod marks;
mod nearest;
mod probes;
mod reader;
mod servers;
mod services;
#[cfg(test)]
mod tests;
mod texts;
mod values;
mod write;

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

use evenkeel_core::model::{
    Alerts, MarkRule, SourceNat, Sysctl, SysctlValue, Timeouts, VirtualServer,
};
use evenkeel_core::sweep::UDP_QUIESCED_SECONDS;

pub use crate::diagnostic::Place;
pub use alerts::{ALERTS_KEYS, MAIL_KEYS, PIPE_KEYS};
pub use checks::{CHECK_KEYS, CONNECT_KEYS, PAGE_KEYS, PROBE_KEYS, RUN_KEYS, TLS_KEYS};
pub use closed::closed_services;
pub use keys::{Key, Kind, TABLES};
pub use marks::MARK_KEYS;
pub use nearest::nearest;
pub use servers::{SERVER_KEYS, SORRY_KEYS};
pub use services::SERVICE_KEYS;
pub use texts::SCRIPT_KEYS;
pub use write::write;

use crate::diagnostic::{Diagnostic, Severity};
use reader::Reader;

/// By which hook the packet path sits on interfaces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Hook {
    /// XDP on physical interfaces, tc on all.
    #[default]
    Auto,
    /// XDP wherever the driver has it.
    Xdp,
    /// tc alone.
    Tc,
}

impl Hook {
    /// Its name in the file.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Xdp => "xdp",
            Self::Tc => "tc",
        }
    }

    /// The hook of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Auto, Self::Xdp, Self::Tc]
            .into_iter()
            .find(|hook| hook.name() == name)
    }
}

/// Which of `ipvsadm`'s saved rules are read when the director starts with an empty
/// table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum IpvsadmRules {
    /// Debian's `/etc/ipvsadm.rules`, if `/etc/default/ipvsadm` says so.
    #[default]
    Auto,
    /// None.
    Never,
    /// Those of this file.
    File(PathBuf),
}

/// What the file says; what it does not say is as in [`Config::default`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// `[dataplane]`
    pub dataplane: Dataplane,
    /// `[timeouts]`
    pub timeouts: Timeouts,
    /// `[timeouts]`: seconds that a UDP flow to a server of weight 0 may be silent.
    pub udp_quiesced: u32,
    /// `[start]`
    pub start: Start,
    /// `[stop]`
    pub stop: Stop,
    /// `[alerts]`
    pub alerts: Alerts,
    /// `[ipvs]`: those that it names.
    pub ipvs: Vec<(Sysctl, SysctlValue)>,
    /// `[compat]`
    pub compat: Compat,
    /// `[source_nat]`; none: the file has no such table.
    pub source_nat: Option<SourceNat>,
    /// `[closed]`: addresses that have a service for what no service takes
    /// ([`closed_services`]).
    pub closed: Vec<IpAddr>,
    /// `[[mark]]`, in their order.
    pub marks: Vec<MarkRule>,
    /// `[[service]]`
    pub services: Vec<PlacedService>,
}

/// What happens when the director starts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Start {
    /// Rules that are read.
    pub ipvsadm_rules: IpvsadmRules,
    /// What is there and stands in no file is deleted first.
    pub flush: bool,
}

/// What happens when a signal ends the director.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stop {
    /// Which services are deleted.
    pub flush: Flush,
}

/// Services by where they come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Flush {
    /// None: the forwarding goes on.
    #[default]
    Nothing,
    /// Those that stand in a file.
    Configured,
    /// All.
    Everything,
}

impl Flush {
    /// The names in the file.
    pub(crate) const NAMES: &[&str] = &["nothing", "configured", "everything"];

    /// Its name in the file.
    #[must_use]
    pub const fn name(self) -> &'static str {
        Self::NAMES[self as usize]
    }

    /// That of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Nothing, Self::Configured, Self::Everything]
            .into_iter()
            .find(|flush| flush.name() == name)
    }
}

/// Which services have IPVS's ways where Evenkeel has better ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compat {
    /// Those of the file that do not say it themselves.
    pub services: bool,
    /// Those that are made by `ipvsadm`.
    pub ipvsadm: bool,
}

/// Capacities and interfaces. Capacities take effect when a dataplane is made; one
/// that is running keeps its own until `evenkeel purge`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dataplane {
    /// Connections, a power of two.
    pub connections: u32,
    /// Connections of IPv6, of firewall marks and of port 0, templates of persistence
    /// and the like, a power of two.
    pub wide_connections: u32,
    /// Services.
    pub services: u32,
    /// Real servers of all services together.
    pub servers: u32,
    /// Words for the schedulers' rings.
    pub ring_words: u32,
    /// By which hook.
    pub hook: Hook,
    /// Interfaces by name; empty: every one that IP packets come by.
    pub interfaces: Vec<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            dataplane: Dataplane {
                connections: 1 << 18,
                wide_connections: 1 << 17,
                services: 1 << 12,
                servers: 1 << 14,
                ring_words: 1 << 20,
                hook: Hook::Auto,
                interfaces: Vec::new(),
            },
            timeouts: Timeouts::default(),
            udp_quiesced: UDP_QUIESCED_SECONDS,
            start: Start::default(),
            stop: Stop::default(),
            alerts: Alerts::default(),
            ipvs: Vec::new(),
            compat: Compat {
                services: false,
                ipvsadm: true,
            },
            source_nat: None,
            closed: Vec::new(),
            marks: Vec::new(),
            services: Vec::new(),
        }
    }
}

/// A service of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlacedService {
    /// It, with its servers.
    pub service: VirtualServer,
    /// Where it stands.
    pub place: Place,
    /// Where its servers stand, in their order.
    pub servers: Vec<Place>,
}

impl PlacedService {
    /// What it is called in messages.
    #[must_use]
    pub fn name(&self) -> String {
        let key = self.service.keys().next();
        match (&self.service.group, key) {
            (Some(group), _) => format!("group {group}"),
            (None, Some(key)) => key.to_string(),
            (None, None) => String::new(),
        }
    }

    /// A mistake in it, or in one of its servers, that the director has found.
    #[must_use]
    pub fn mistake(&self, server: Option<usize>, message: impl fmt::Display) -> Mistake {
        let place = server.and_then(|number| self.servers.get(number));
        let server = server.and_then(|number| self.service.servers.get(number));
        let name = self.name();
        let message = match server {
            Some(server) => {
                let end = std::net::SocketAddr::new(server.key.address, server.key.port);
                format!("server {end} of {name}: {message}")
            }
            None => format!("service {name}: {message}"),
        };
        Mistake {
            place: place.unwrap_or(&self.place).clone(),
            message,
            hint: None,
        }
    }
}

/// A mistake in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// Where.
    pub place: Place,
    /// What is wrong and what was expected.
    pub message: String,
    /// What to write instead, where it can be guessed.
    pub hint: Option<String>,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Place { file, line, column } = &self.place;
        write!(f, "{file}:{line}:{column}: {}", self.message)?;
        self.hint
            .as_ref()
            .map_or(Ok(()), |hint| write!(f, "; {hint}"))
    }
}

impl std::error::Error for Mistake {}

impl From<Mistake> for Diagnostic {
    fn from(mistake: Mistake) -> Self {
        let Mistake {
            place,
            message,
            hint,
        } = mistake;
        let found = Self::new(Severity::Error, place, message);
        match hint {
            Some(hint) => found.hinting(hint),
            None => found,
        }
    }
}

/// Reads the file's text. `file` is its name for messages. Gives all mistakes, in
/// their order in the file.
pub fn parse(text: &str, file: &str) -> Result<Config, Vec<Mistake>> {
    let mut config = Config::default();
    let mut reader = Reader::new(text, file);
    reader.read(&mut config);
    let mut mistakes = reader.into_mistakes();
    if mistakes.is_empty() {
        return Ok(config);
    }
    mistakes.sort_by_key(|mistake| (mistake.place.line, mistake.place.column));
    // What is wrong with a check of all servers is found at each.
    mistakes.dedup();
    Err(mistakes)
}
