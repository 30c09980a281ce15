//! `[alerts]`: whom changes of servers and services are told.

use std::time::Duration;

use evenkeel_core::model::{Alerts, Mail, Pipe, Script};
use toml::de::DeTable;

use super::keys::{Key, Kind};
use super::reader::Reader;

/// The port of mail servers.
pub(super) const MAIL_PORT: u16 = 25;
/// How long a mail server may take for each step.
pub(super) const MAIL_TIMEOUT: Duration = Duration::from_secs(30);

/// `[alerts]` as it is read.
#[derive(Debug, Default)]
pub struct AlertsDraft {
    alerts: Alerts,
    script_user: Option<String>,
    script_group: Option<String>,
}

/// The keys of `[alerts]`, beside `mail` and `pipe`.
pub const ALERTS_KEYS: &[Key<AlertsDraft>] = &[
    Key {
        name: "router_id",
        kind: Kind::Line,
        help: "the director's name in the subjects of mails; default: the machine's",
        set: |draft, value| draft.alerts.router_id = Some(value.word()),
    },
    Key {
        name: "script_user",
        kind: Kind::Line,
        help: "whom scripts run as that say nothing of it, by name or number; default: the user \
               keepalived_script if there is one, else the daemon's own, or nobody with \
               script_security",
        set: |draft, value| draft.script_user = Some(value.word()),
    },
    Key {
        name: "script_group",
        kind: Kind::Line,
        help: "with script_user: the group, by name or number; default: the user's own",
        set: |draft, value| draft.script_group = Some(value.word()),
    },
    Key {
        name: "script_security",
        kind: Kind::Flag,
        help: "scripts that somebody else than root can change are not run as root; default false",
        set: |draft, value| draft.alerts.script_security = value.flag(),
    },
    Key {
        name: "at_start",
        kind: Kind::Flag,
        help: "servers that live when the director starts are told as well; default false",
        set: |draft, value| draft.alerts.at_start = value.flag(),
    },
    Key {
        name: "servers_only",
        kind: Kind::Flag,
        help: "mail about a server comes when it lives or dies only, not with every check of it; \
               default false",
        set: |draft, value| draft.alerts.servers_only = value.flag(),
    },
];

/// The keys of `[alerts.mail]`.
pub const MAIL_KEYS: &[Key<Mail>] = &[
    Key {
        name: "server",
        kind: Kind::Line,
        help: "the mail server, by name or address",
        set: |mail, value| mail.server = value.word(),
    },
    Key {
        name: "port",
        kind: Kind::Number(1..=65_535),
        help: "its port; default 25",
        set: |mail, value| mail.port = value.port(),
    },
    Key {
        name: "timeout",
        kind: Kind::Time { zero: false },
        help: "how long connecting and each answer may take; default 30 s",
        set: |mail, value| mail.timeout = value.time().unwrap_or(MAIL_TIMEOUT),
    },
    Key {
        name: "helo",
        kind: Kind::Line,
        help: "name in the greeting; default: the machine's",
        set: |mail, value| mail.helo = Some(value.word()),
    },
    Key {
        name: "from",
        kind: Kind::Line,
        help: "the sender; default: the daemon's user at the machine's name",
        set: |mail, value| mail.from = Some(value.word()),
    },
    Key {
        name: "to",
        kind: Kind::Texts,
        help: "the receivers",
        set: |mail, value| mail.to = value.names(),
    },
    Key {
        name: "quiet",
        kind: Kind::Flag,
        help: "mails that can not be sent are not logged; default false",
        set: |mail, value| mail.quiet = value.flag(),
    },
];

/// `[[alerts.pipe]]` as it is read.
#[derive(Debug, Default)]
pub struct PipeDraft {
    path: String,
    user: Option<String>,
    group: Option<String>,
    reader: Option<Script>,
}

/// The keys of `[[alerts.pipe]]`.
pub const PIPE_KEYS: &[Key<PipeDraft>] = &[
    Key {
        name: "path",
        kind: Kind::Text,
        help: "the pipe; it is made if it is not there",
        set: |draft, value| draft.path = value.word(),
    },
    Key {
        name: "user",
        kind: Kind::Line,
        help: "its owner, by name or number; default: script_user",
        set: |draft, value| draft.user = Some(value.word()),
    },
    Key {
        name: "group",
        kind: Kind::Line,
        help: "with user: its group, by name or number; default: the user's own",
        set: |draft, value| draft.group = Some(value.word()),
    },
    Key {
        name: "reader",
        kind: Kind::Script,
        help: "a program that is started with the pipe's path, and reads it; default: none",
        set: |draft, value| draft.reader = value.script(),
    },
];

impl Reader<'_> {
    /// Reads `[alerts]`.
    pub(super) fn alerts(&mut self, table: &DeTable<'_>) -> Alerts {
        let mut draft = AlertsDraft::default();
        let spans = self.keys(table, ALERTS_KEYS, &["mail", "pipe"], &mut draft);
        let names = ["script_user", "script_group"];
        let script_user = self.user(&spans, names, draft.script_user, draft.script_group);
        let mail = self.table(table, "mail");
        let mail = mail.map(|(at, table)| self.mail(at, table));
        let pipes = self.list(table, "pipe").into_iter();
        let pipes = pipes.map(|(at, table)| self.pipe(at, table));
        Alerts {
            script_user,
            mail,
            pipes: pipes.collect(),
            ..draft.alerts
        }
    }

    fn mail(&mut self, at: usize, table: &DeTable<'_>) -> Mail {
        let mut mail = Mail {
            server: String::new(),
            port: MAIL_PORT,
            timeout: MAIL_TIMEOUT,
            helo: None,
            from: None,
            to: Vec::new(),
            quiet: false,
        };
        let spans = self.keys(table, MAIL_KEYS, &[], &mut mail);
        for (key, message, hint) in [
            (
                "server",
                "the mail has no server",
                "write server = \"mail.example.org\"",
            ),
            (
                "to",
                "the mail has no receivers",
                "write to = [\"admin@example.org\"]",
            ),
        ] {
            if !spans.has(key) {
                self.mistake(at, message.into(), Some(hint.into()));
            }
        }
        let has_control = mail.to.iter().any(|to| to.contains(char::is_control));
        for (key, is_wrong) in [("server", mail.server.is_empty()), ("to", has_control)] {
            if is_wrong && let Some(at) = spans.of(key) {
                let message = format!("{key} is empty or has control characters");
                self.mistake(at.start, message, None);
            }
        }
        mail
    }

    fn pipe(&mut self, at: usize, table: &DeTable<'_>) -> Pipe {
        let mut draft = PipeDraft::default();
        let spans = self.keys(table, PIPE_KEYS, &[], &mut draft);
        if !spans.has("path") {
            let hint = "write path = \"/run/evenkeel/changes\"";
            self.mistake(at, "the pipe has no path".into(), Some(hint.into()));
        }
        if let Some(at) = spans.of("path").filter(|_| draft.path.is_empty()) {
            self.mistake(at.start, "path is empty".into(), None);
        }
        let user = self.user(&spans, ["user", "group"], draft.user, draft.group);
        Pipe {
            path: draft.path,
            user,
            reader: draft.reader,
        }
    }
}
