//! Whom the director tells of changes, as the configuration has it.

use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use super::{Script, User};

/// How changes are told.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Alerts {
    /// The director's name in subjects; none: the machine's.
    pub router_id: Option<String>,
    /// Mail; none: no mail.
    pub mail: Option<Mail>,
    /// Pipes that get a line for each change.
    pub pipes: Vec<Pipe>,
    /// Whom scripts run as that say nothing of it; none: the user `keepalived_script` if
    /// there is one, else the daemon's own, or nobody with `script_security`.
    pub script_user: Option<User>,
    /// Scripts that somebody else than root can change are not run as root.
    pub script_security: bool,
    /// Servers that live at the start are told as well.
    pub at_start: bool,
    /// Mail about a server comes when it lives or dies only, not with every check of it.
    pub servers_only: bool,
}

/// Mail about changes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Mail {
    /// Server, by name or address.
    pub server: String,
    /// Its port.
    pub port: u16,
    /// How long connecting and each answer may take.
    pub timeout: Duration,
    /// Name in the greeting; none: the machine's.
    pub helo: Option<String>,
    /// Sender; none: the daemon's user at the machine's name.
    pub from: Option<String>,
    /// Receivers, not empty.
    pub to: Vec<String>,
    /// Failures to send are not logged.
    pub quiet: bool,
}

/// A named pipe that gets a line for each change.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Pipe {
    /// Path.
    pub path: String,
    /// Owner; none: as scripts run.
    pub user: Option<User>,
    /// Program that is started with the path, and reads it.
    pub reader: Option<Script>,
}
