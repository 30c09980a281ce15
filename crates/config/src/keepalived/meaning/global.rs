//! `global_defs`.

use std::net::IpAddr;
use std::time::Duration;

use evenkeel_core::model::{Mail, Pipe, Script, User};

use super::super::table::Takes;
use super::super::tree::Node;
use super::super::values::{warning, whole};
use super::Reader;
use super::script::user;
use crate::native::Flush;

/// Longest time of `lvs_timeouts`: 31 days.
const TIMEOUT_MAX: u64 = 86_400 * 31;

/// What services depend on, and what becomes [`evenkeel_core::model::Alerts`].
#[derive(Debug, Default)]
pub(super) struct Global {
    pub(super) script_user: Option<User>,
    pub(super) script_security: bool,
    pub(super) alert: Option<bool>,
    pub(super) checker_alert: Option<bool>,
    pub(super) log_all_failures: bool,
    router_id: Option<String>,
    server: Option<(String, u16)>,
    timeout: Option<u32>,
    helo: Option<String>,
    from: Option<String>,
    to: Vec<String>,
    all: Fifo,
    services: Fifo,
}

/// A pipe as it is read.
#[derive(Debug, Default)]
struct Fifo {
    path: Option<(String, Option<User>)>,
    reader: Option<Script>,
}

impl Global {
    /// Whether mail is sent about what does not say it.
    pub(super) fn mails(&self, usual: bool) -> bool {
        self.checker_alert.or(self.alert).unwrap_or(usual)
    }
}

impl Reader<'_> {
    pub(super) fn global(&mut self, node: &Node) {
        let text = || node.text().map(str::to_owned);
        match node.name() {
            "router_id" => self.global.router_id = text(),
            "notification_email" => self.receivers(node),
            "notification_email_from" => self.global.from = text(),
            "smtp_helo_name" => self.global.helo = text(),
            "smtp_server" => self.mail_server(node),
            "smtp_connect_timeout" => self.mail_timeout(node),
            "smtp_alert" => self.global.alert = node.switch().or(self.global.alert),
            "smtp_alert_checker" => {
                self.global.checker_alert = node.switch().or(self.global.checker_alert);
            }
            "checker_log_all_failures" => {
                self.global.log_all_failures = node.switch().unwrap_or(false);
            }
            "rs_init_notifies" => self.config.alerts.at_start = node.switch().unwrap_or(false),
            "script_user" => self.global.script_user = user(&node.words[1..]),
            "enable_script_security" => self.global.script_security = true,
            "notify_fifo" => self.fifo(node, true),
            "lvs_notify_fifo" => self.fifo(node, false),
            "notify_fifo_script" => self.fifo_reader(node, true),
            "lvs_notify_fifo_script" => self.fifo_reader(node, false),
            "lvs_timeouts" => self.timeouts(node),
            "lvs_flush" => self.config.start.flush = true,
            "lvs_flush_on_stop" | "lvs_flush_onstop" => self.flush_on_stop(node),
            _ => self.unhandled(node),
        }
    }

    fn receivers(&mut self, node: &Node) {
        if node.items.is_empty() {
            let message = "notification_email names nobody";
            self.report.add(node.warning(message));
        }
        for word in node.items.iter().flat_map(|item| &item.words) {
            self.global.to.push(word.text.clone());
        }
    }

    fn mail_server(&mut self, node: &Node) {
        let Some(host) = node.text() else { return };
        let port = match node.word(2) {
            None => 25,
            Some(word) => {
                let Some(port) = whole(&word.text, 1, 65_535) else {
                    let message = format!("{:?} is no port; there is no mail server", word.text);
                    let expected = "expected 1 to 65535";
                    self.report
                        .add(warning(&node.at, word, message).expecting(expected));
                    return;
                };
                port as u16
            }
        };
        self.extra(node, 3);
        self.global.server = Some((host.to_owned(), port));
    }

    fn mail_timeout(&mut self, node: &Node) {
        let Some(timeout) = node.small() else { return };
        if timeout == 0 {
            let message = "smtp_connect_timeout is above 0; 1 is taken";
            self.report.add(node.warning_at(1, message));
        }
        self.global.timeout = Some(timeout.max(1));
    }

    /// Warns of words from this number on.
    pub(super) fn extra(&mut self, node: &Node, number: usize) {
        if let Some(word) = node.word(number) {
            let name = node.name();
            let message = format!("{name} takes no more than this; the rest is ignored");
            let found = warning(&node.at, word, message);
            self.report.add(match node.keyword.takes {
                Takes::Words(_, shape) => found.expecting(format!("expected {name} {shape}")),
                _ => found,
            });
        }
    }

    fn fifo(&mut self, node: &Node, all: bool) {
        let Some(path) = node.text().map(str::to_owned) else {
            return;
        };
        self.extra(node, 4);
        let fifo = self.global.fifo(all);
        if fifo.path.is_some() {
            self.report.add(node.warning(format!(
                "{} stands there twice; the first counts",
                node.name()
            )));
            return;
        }
        fifo.path = Some((path, user(&node.words[2..])));
    }

    fn fifo_reader(&mut self, node: &Node, all: bool) {
        if self.global.fifo(all).reader.is_some() {
            self.report.add(node.warning(format!(
                "{} stands there twice; the first counts",
                node.name()
            )));
            return;
        }
        let script = self.scripts.read(node, true, self.report);
        self.global.fifo(all).reader = script;
    }

    fn timeouts(&mut self, node: &Node) {
        let mut words = node.words[1..].iter();
        while let Some(name) = words.next() {
            let timeouts = &mut self.config.timeouts;
            let target = match name.text.as_str() {
                "tcp" => &mut timeouts.tcp,
                "tcpfin" => &mut timeouts.tcp_fin,
                "udp" => &mut timeouts.udp,
                other => {
                    let message = format!("lvs_timeouts has no {other}");
                    let expected = "expected tcp, tcpfin or udp";
                    self.report
                        .add(warning(&node.at, name, message).expecting(expected));
                    continue;
                }
            };
            let Some(value) = words.next() else {
                let message = format!("nothing stands behind {}; it is ignored", name.text);
                self.report.add(warning(&node.at, name, message));
                return;
            };
            match whole(&value.text, 0, TIMEOUT_MAX) {
                Some(0) => {}
                Some(seconds) => *target = seconds as u32,
                None => {
                    let message = format!("{:?} is no time; it is ignored", value.text);
                    let expected = format!("expected seconds from 0 to {TIMEOUT_MAX}");
                    self.report
                        .add(warning(&node.at, value, message).expecting(expected));
                }
            }
        }
    }

    fn flush_on_stop(&mut self, node: &Node) {
        self.config.stop.flush = match node.text() {
            None => Flush::Everything,
            Some("VS") => Flush::Configured,
            Some(other) => {
                let message = format!("{} does not know {other}; the line is ignored", node.name());
                self.report.add(
                    node.warning_at(1, message)
                        .expecting("expected VS or nothing"),
                );
                return;
            }
        };
    }

    /// What comes of everything in `global_defs`.
    pub(super) fn finish_global(&mut self) {
        let global = &mut self.global;
        let alerts = &mut self.config.alerts;
        alerts.router_id = global.router_id.take();
        alerts.script_user = global.script_user.clone();
        alerts.script_security = global.script_security;
        if let Some((server, port)) = global.server.take()
            && !global.to.is_empty()
        {
            alerts.mail = Some(Mail {
                server,
                port,
                timeout: Duration::from_secs(global.timeout.unwrap_or(30).into()),
                helo: global.helo.take(),
                from: global.from.take(),
                to: std::mem::take(&mut global.to),
                quiet: false,
            });
        }
        for fifo in [
            std::mem::take(&mut global.all),
            std::mem::take(&mut global.services),
        ] {
            if let Some((path, user)) = fifo.path
                && alerts.pipes.iter().all(|pipe| pipe.path != path)
            {
                alerts.pipes.push(Pipe {
                    path,
                    user,
                    reader: fifo.reader,
                });
            }
        }
    }
}

impl Global {
    fn fifo(&mut self, all: bool) -> &mut Fifo {
        if all {
            &mut self.all
        } else {
            &mut self.services
        }
    }
}

/// An address that clients or servers can have.
pub(super) fn is_unicast(address: &IpAddr) -> bool {
    !address.is_unspecified() && !address.is_multicast()
}
