//! `real_server` and `sorry_server`.

use std::net::{IpAddr, SocketAddr};

use evenkeel_core::model::{
    Check, Family, ForwardMethod, Notify, RealServer, ServerKey, ServerSettings,
};

use super::super::tree::Node;
use super::super::values::{warning, whole};
use super::Reader;
use super::check::Surroundings;
use super::connect::Times;
use super::global::is_unicast;
use super::service::Draft;
use crate::diagnostic::Place;

/// A real server, and where it stands.
pub(super) struct Placed {
    pub(super) server: RealServer,
    pub(super) place: Place,
}

/// What a real server says of itself.
#[derive(Default)]
struct Own {
    method: Option<ForwardMethod>,
    weight: Option<u32>,
    upper_threshold: u32,
    lower_threshold: u32,
    inhibit: Option<bool>,
    alpha: Option<bool>,
    mail: Option<bool>,
    host: Option<String>,
    notify: Notify,
    times: Times,
}

impl Reader<'_> {
    /// An address and a port, 0 if there is none, from the word of this number on. None,
    /// with a warning, if they are not right.
    pub(super) fn end(&mut self, node: &Node, at: usize) -> Option<ServerKey> {
        let Some(word) = node.word(at) else {
            self.report.add(node.error_at(0, "the address is missing"));
            return None;
        };
        let (written, behind) = word
            .text
            .split_at(word.text.find(['-', '/']).unwrap_or(word.text.len()));
        let address = written.parse::<IpAddr>().ok().filter(is_unicast);
        let Some(address) = address else {
            let message = format!(
                "{:?} is no address; the {} is ignored",
                word.text,
                node.name()
            );
            self.report.add(
                warning(&node.at, word, message).expecting("expected an IPv4 or IPv6 address"),
            );
            return None;
        };
        if !behind.is_empty() {
            let message = format!("{behind} has no meaning here; it is ignored");
            self.report.add(warning(&node.at, word, message));
        }
        let port = match node.word(at + 1) {
            None => 0,
            Some(word) => {
                let Some(port) = whole(&word.text, 0, 65_535) else {
                    let name = node.name();
                    let message = format!("{:?} is no port; the {name} is ignored", word.text);
                    let expected = "expected 0 to 65535";
                    self.report
                        .add(warning(&node.at, word, message).expecting(expected));
                    return None;
                };
                port as u16
            }
        };
        self.extra(node, at + 2);
        Some(ServerKey { address, port })
    }

    /// A real server of a service, whose own settings are all known.
    pub(super) fn real_server(&mut self, node: &Node, service: &mut Draft) -> Option<Placed> {
        let key = self.end(node, 1)?;
        let own = self.server_settings(node);
        let method = own.method.unwrap_or(service.usual_method());
        if !self.fits(node, key, method, service) {
            return None;
        }
        let around = Surroundings {
            server: ServerKey {
                address: key.address,
                port: if key.port == 0 {
                    service.port()
                } else {
                    key.port
                },
            },
            times: own.times.or(service.times),
            alpha: own.alpha.unwrap_or(service.alpha),
            hosts: [own.host, service.host.clone()],
        };
        let is_check = |child: &&Node| {
            let name = child.name();
            name.ends_with("_CHECK") || name.ends_with("_GET")
        };
        let checks = node.children.iter().filter(is_check);
        let checks: Vec<Check> = checks
            .filter_map(|check| self.checks(check, &around))
            .flatten()
            .collect();
        let key = self.kept_port(node, key, method, service, "real server");
        Some(Placed {
            server: RealServer {
                key,
                settings: ServerSettings {
                    method,
                    weight: own.weight.unwrap_or(service.weight),
                    upper_threshold: own.upper_threshold,
                    lower_threshold: own.lower_threshold,
                },
                inhibit: own.inhibit.unwrap_or(service.inhibit),
                checks,
                notify: own.notify,
                mail: own.mail.unwrap_or_else(|| self.global.mails(true)),
            },
            place: Self::place(node, 1),
        })
    }

    /// What a server says of itself, beside its checks.
    fn server_settings(&mut self, node: &Node) -> Own {
        let mut own = Own::default();
        for child in &node.children {
            let small = child.small();
            match child.name() {
                "weight" => own.weight = small.or(own.weight),
                "lvs_method" => own.method = self.method(child).or(own.method),
                "uthreshold" => own.upper_threshold = small.unwrap_or(own.upper_threshold),
                "lthreshold" => own.lower_threshold = small.unwrap_or(own.lower_threshold),
                "inhibit_on_failure" => own.inhibit = child.switch().or(own.inhibit),
                "alpha" => own.alpha = child.switch().or(own.alpha),
                "smtp_alert" => own.mail = child.switch().or(own.mail),
                "virtualhost" => own.host = child.text().map(str::to_owned),
                "notify_up" => self.notify(child, &mut own.notify.up),
                "notify_down" => self.notify(child, &mut own.notify.down),
                name if name.ends_with("_CHECK") || name.ends_with("_GET") => {}
                _ if own.times.take(child) => {}
                _ => self.unhandled(child),
            }
        }
        if own.lower_threshold > own.upper_threshold && own.upper_threshold > 0 {
            let message = "lthreshold is above uthreshold; it is ignored";
            self.report.add(node.warning(message));
            own.lower_threshold = 0;
        }
        own
    }

    /// A program for news; only the first counts.
    pub(super) fn notify(
        &mut self,
        node: &Node,
        target: &mut Option<evenkeel_core::model::Script>,
    ) {
        if target.is_some() {
            let message = format!("there is a {} already; this one is ignored", node.name());
            self.report.add(node.warning(message));
            return;
        }
        *target = self.scripts.read(node, true, self.report);
    }

    /// False, with a warning, if a server is of another family than its service.
    pub(super) fn fits(
        &mut self,
        node: &Node,
        key: ServerKey,
        method: ForwardMethod,
        service: &mut Draft,
    ) -> bool {
        if matches!(method, ForwardMethod::Tunnel(_)) {
            return true;
        }
        let family = Family::of(&key.address);
        if *service.family.get_or_insert(family) == family {
            return true;
        }
        let message = format!(
            "{} is of another family than its service; the {} is ignored",
            key.address,
            node.name()
        );
        let hint = "only tunnels lead from one to the other";
        self.report.add(node.warning_at(1, message).hinting(hint));
        false
    }

    /// A server with the port that packets come to it by.
    pub(super) fn kept_port(
        &mut self,
        node: &Node,
        key: ServerKey,
        method: ForwardMethod,
        service: &Draft,
        what: &str,
    ) -> ServerKey {
        if service.is_group() {
            self.group_port(node, key, method, service, what);
            return key;
        }
        let is_nat = matches!(method, ForwardMethod::Masq | ForwardMethod::FullNat);
        let port = service.port();
        if !is_nat && key.port != 0 && key.port != port {
            let end = SocketAddr::new(key.address, key.port);
            let message = if service.is_mark() {
                format!("{what} {end} has a port, which packets of a firewall mark keep anyway")
            } else {
                format!("{what} {end} has another port than its service")
            };
            let found = node.warning_at(2, message);
            self.report.add(
                found
                    .expecting("packets keep their port by DR and TUN")
                    .hinting("leave the port out, or use lvs_method NAT, which changes it"),
            );
        }
        let port = if is_nat && key.port != 0 {
            key.port
        } else {
            port
        };
        ServerKey {
            address: key.address,
            port,
        }
    }

    /// In a group each service has its own port.
    fn group_port(
        &mut self,
        node: &Node,
        key: ServerKey,
        method: ForwardMethod,
        service: &Draft,
        what: &str,
    ) {
        let is_nat = matches!(method, ForwardMethod::Masq | ForwardMethod::FullNat);
        if is_nat || key.port == 0 || service.has_only_port(key.port) {
            return;
        }
        let end = SocketAddr::new(key.address, key.port);
        let message = format!("{what} {end} has another port than some services of its group");
        self.report.add(
            node.warning_at(2, message)
                .expecting("packets keep their port by DR and TUN"),
        );
    }
}
