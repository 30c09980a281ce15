//! `virtual_server`.

use std::net::Ipv4Addr;

use evenkeel_core::model::{
    Ends, Family, ForwardMethod, Netmask, Notify, Persistence, Protocol, Quorum, SchedulerFlags,
    ServerSettings, ServiceKey, ServiceSettings, Sorry, VirtualServer,
};

use super::super::table::Takes;
use super::super::tree::Node;
use super::super::values::whole;
use super::Reader;
use super::connect::Times;
use super::group::Entry;
use super::server::Placed;
use crate::native::PlacedService;

/// Seconds that clients stay where it is not said how long.
const PERSISTENCE: u32 = 360;

/// A virtual server as it is read.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a keyword that stands there or not"
)]
#[derive(Debug)]
pub(super) struct Draft {
    /// The group's name.
    group: Option<String>,
    entries: Vec<Entry>,
    pub(super) family: Option<Family>,
    protocol: Option<Protocol>,
    scheduler: Option<String>,
    flags: SchedulerFlags,
    method: Option<ForwardMethod>,
    persistence: Option<u32>,
    netmask: Option<Netmask>,
    one_packet: bool,
    engine: Option<String>,
    pub(super) times: Times,
    pub(super) alpha: bool,
    omega: bool,
    ha_suspend: bool,
    pub(super) inhibit: bool,
    pub(super) host: Option<String>,
    pub(super) weight: u32,
    quorum: u32,
    hysteresis: u32,
    mail: Option<bool>,
    notify: Notify,
    sorry: Option<SorryDraft>,
}

#[derive(Debug)]
enum SorryDraft {
    Server {
        key: evenkeel_core::model::ServerKey,
        method: Option<ForwardMethod>,
        inhibit: bool,
        /// Which of the block's keywords it is.
        node: usize,
    },
    Builtin(Option<String>),
}

impl Draft {
    fn of(group: Option<String>, entries: Vec<Entry>) -> Self {
        let families = entries.iter().filter_map(Entry::family);
        let mut family = None;
        let mut is_mixed = false;
        for one in families {
            is_mixed |= family.is_some_and(|family| family != one);
            family = Some(one);
        }
        Self {
            group,
            entries,
            family: family.filter(|_| !is_mixed),
            protocol: None,
            scheduler: None,
            flags: SchedulerFlags::default(),
            method: None,
            persistence: None,
            netmask: None,
            one_packet: false,
            engine: None,
            times: Times::default(),
            alpha: false,
            omega: false,
            ha_suspend: false,
            inhibit: false,
            host: None,
            weight: 1,
            quorum: 1,
            hysteresis: 0,
            mail: None,
            notify: Notify::default(),
            sorry: None,
        }
    }

    pub(super) fn is_group(&self) -> bool {
        self.group.is_some()
    }

    fn has_marks(&self) -> bool {
        self.entries
            .iter()
            .any(|entry| matches!(entry, Entry::Mark { .. }))
    }

    fn has_addresses(&self) -> bool {
        self.entries
            .iter()
            .any(|entry| matches!(entry, Entry::Addresses { .. }))
    }

    /// It is a single firewall mark.
    pub(super) fn is_mark(&self) -> bool {
        !self.is_group() && self.has_marks()
    }

    /// Its port; 0 for a mark or a group.
    pub(super) fn port(&self) -> u16 {
        match &self.entries[..] {
            [Entry::Addresses { ports, .. }] if !self.is_group() => *ports.start(),
            _ => 0,
        }
    }

    /// True if all of its services have this port.
    pub(super) fn has_only_port(&self, port: u16) -> bool {
        self.entries.iter().all(|entry| match entry {
            Entry::Addresses { ports, .. } => *ports == (port..=port),
            Entry::Mark { .. } => false,
        })
    }

    fn has_any_port(&self) -> bool {
        self.entries.iter().any(|entry| match entry {
            Entry::Addresses { ports, .. } => *ports.start() == 0,
            Entry::Mark { .. } => false,
        })
    }

    pub(super) fn usual_method(&self) -> ForwardMethod {
        self.method.unwrap_or(ForwardMethod::Masq)
    }

    fn ends(&self) -> Vec<Ends> {
        let protocol = self.protocol.unwrap_or(Protocol::Udp);
        let ends = self.entries.iter().map(|entry| match entry {
            Entry::Addresses { first, last, ports } => Ends::Addresses {
                protocol,
                first: *first,
                last: *last,
                ports: ports.clone(),
            },
            Entry::Mark { mark, family } => Ends::of(ServiceKey::Mark {
                mark: *mark,
                family: family.or(self.family).unwrap_or(Family::V4),
            }),
        });
        ends.collect()
    }
}

impl Reader<'_> {
    pub(super) fn virtual_server(&mut self, node: &Node) {
        let Some(mut draft) = self.header(node) else {
            return;
        };
        for (at, child) in node.children.iter().enumerate() {
            self.setting(child, at, &mut draft);
        }
        let mut servers: Vec<Placed> = Vec::new();
        for child in &node.children {
            if child.name() != "real_server" {
                continue;
            }
            let Some(placed) = self.real_server(child, &mut draft) else {
                continue;
            };
            let key = placed.server.key;
            if let Some(first) = servers.iter().find(|first| first.server.key == key) {
                let message = "the service has this server twice; the second is ignored";
                let found = child.warning_at(1, message);
                self.report
                    .add(found.beside(first.place.clone(), "the first stands here"));
                continue;
            }
            servers.push(placed);
        }
        if servers.is_empty() {
            let message = "the virtual server has no real servers; it is ignored";
            self.report.add(node.warning(message));
            return;
        }
        self.check_whole(node, &mut draft);
        self.check_quorum(node, &mut draft, &servers);
        let sorry = self.sorry(node, &mut draft);
        self.push(node, draft, servers, sorry);
    }

    /// What stands before the block.
    fn header(&mut self, node: &Node) -> Option<Draft> {
        let first = node.word(1)?.text.as_str();
        if !matches!(first, "group" | "fwmark") {
            let key = self.end(node, 1)?;
            let entry = Entry::Addresses {
                first: key.address,
                last: key.address,
                ports: key.port..=key.port,
            };
            return Some(Draft::of(None, vec![entry]));
        }
        let Some(second) = node.word(2) else {
            let message = format!("nothing stands behind {first}");
            self.report.add(node.error_at(1, message));
            return None;
        };
        self.extra_header(node);
        if first == "fwmark" {
            let Some(mark) = whole(&second.text, 1, u32::MAX.into()) else {
                let message = format!(
                    "{:?} is no mark; the virtual server is ignored",
                    second.text
                );
                let expected = "expected 1 to 4294967295";
                self.report
                    .add(node.warning_at(2, message).expecting(expected));
                return None;
            };
            let entry = Entry::Mark {
                mark: mark as u32,
                family: None,
            };
            return Some(Draft::of(None, vec![entry]));
        }
        let name = second.text.clone();
        let Some(group) = self.groups.iter().find(|group| group.name == name) else {
            let names: Vec<&str> = self
                .groups
                .iter()
                .map(|group| group.name.as_str())
                .collect();
            let is_short = name.len() < 40 && names.len() < 100;
            let near = is_short.then(|| crate::native::nearest(&name, &names));
            let near = near.flatten().map(str::to_owned);
            let message = format!("there is no group {name}; the virtual server is ignored");
            let found = node.warning_at(2, message);
            self.report.add(match near {
                Some(near) => found.hinting(format!("did you mean {near}?")),
                None => found.hinting(format!("virtual_server_group {name} {{ ADDRESS PORT }}")),
            });
            return None;
        };
        let entries = group.entries.clone();
        Some(Draft::of(Some(name), entries))
    }

    fn extra_header(&mut self, node: &Node) {
        if let Some(word) = node.word(3) {
            let message = "nothing more stands there; it is ignored";
            let found = super::super::values::warning(&node.at, word, message);
            self.report.add(found);
        }
    }

    fn setting(&mut self, node: &Node, at: usize, draft: &mut Draft) {
        let text = || node.text().map(str::to_owned);
        match node.name() {
            "ip_family" => self.ip_family(node, draft),
            "lvs_sched" | "lb_algo" => draft.scheduler = text().or(draft.scheduler.take()),
            "ops" => draft.one_packet = true,
            "flag-1" => draft.flags.fallback = true,
            "flag-2" => draft.flags.port = true,
            "flag-3" => draft.flags.third = true,
            "sh-port" | "sh-fallback" | "mh-port" | "mh-fallback" => self.flag(node, draft),
            "lvs_method" | "lb_kind" => draft.method = self.method(node).or(draft.method),
            "persistence_timeout" => self.persistence(node, draft),
            "persistence_granularity" => self.granularity(node, draft),
            "persistence_engine" => draft.engine = text(),
            "protocol" => draft.protocol = text().and_then(|name| protocol(&name)),
            "ha_suspend" => draft.ha_suspend = true,
            "smtp_alert" => draft.mail = node.switch().or(draft.mail),
            "alpha" => draft.alpha = true,
            "omega" => draft.omega = true,
            "inhibit_on_failure" => draft.inhibit = true,
            "virtualhost" => draft.host = text(),
            "quorum_up" => self.notify(node, &mut draft.notify.up),
            "quorum_down" => self.notify(node, &mut draft.notify.down),
            "quorum" => draft.quorum = node.small().unwrap_or(1),
            "hysteresis" => draft.hysteresis = node.small().unwrap_or(draft.hysteresis),
            "weight" => draft.weight = node.small().unwrap_or(draft.weight),
            "sorry_server" => self.sorry_server(node, at, draft),
            "sorry_server_inhibit" | "sorry_server_lvs_method" => self.sorry_setting(node, draft),
            "real_server" => {}
            _ if draft.times.take(node) => {}
            _ => self.unhandled(node),
        }
    }

    fn ip_family(&mut self, node: &Node, draft: &mut Draft) {
        let family = match node.text() {
            Some("inet") => Family::V4,
            Some(_) => Family::V6,
            None => return,
        };
        if draft.family.is_some_and(|known| known != family) {
            let message = "the service is of the other family; ip_family is ignored";
            self.report.add(node.warning_at(1, message));
            return;
        }
        draft.family = Some(family);
    }

    fn flag(&mut self, node: &Node, draft: &mut Draft) {
        let name = node.name();
        let scheduler = draft.scheduler.as_deref().unwrap_or_default();
        if !name.starts_with(scheduler) || scheduler.is_empty() {
            let needed = &name[..2];
            let message = format!("{name} goes with the scheduler {needed}; it is ignored");
            let hint = format!("write lvs_sched {needed} above it");
            self.report.add(node.warning(message).hinting(hint));
            return;
        }
        if name.ends_with("port") {
            draft.flags.port = true;
        } else {
            draft.flags.fallback = true;
        }
    }

    fn persistence(&mut self, node: &Node, draft: &mut Draft) {
        let Some(word) = node.word(1) else {
            draft.persistence = Some(PERSISTENCE);
            return;
        };
        self.extra(node, 2);
        let most = super::super::table::PERSISTENCE_MAX;
        if let Some(seconds) = whole(&word.text, 1, most) {
            draft.persistence = Some(seconds as u32);
        } else {
            let message = format!("{:?} is no time; the line is ignored", word.text);
            let expected = format!("expected seconds from 1 to {most}");
            self.report
                .add(node.warning_at(1, message).expecting(expected));
        }
    }

    fn granularity(&mut self, node: &Node, draft: &mut Draft) {
        let Some(text) = node.text() else { return };
        let usual = if text.contains('.') {
            Family::V4
        } else {
            Family::V6
        };
        let family = draft.family.unwrap_or(usual);
        let netmask = match family {
            Family::V4 => text.parse::<Ipv4Addr>().ok().map(Netmask::V4),
            Family::V6 => whole(text, 1, 128).map(|bits| Netmask::V6(bits as u8)),
        };
        let Some(netmask) = netmask else {
            let (what, expected) = match family {
                Family::V4 => ("IPv4", "expected a mask such as 255.255.255.0"),
                Family::V6 => ("IPv6", "expected the length of a prefix, 1 to 128"),
            };
            let message = format!("{text:?} is no granularity of {what}; it is ignored");
            self.report
                .add(node.warning_at(1, message).expecting(expected));
            return;
        };
        draft.family = Some(family);
        draft.netmask = Some(netmask);
        draft.persistence.get_or_insert(PERSISTENCE);
    }

    fn sorry_server(&mut self, node: &Node, at: usize, draft: &mut Draft) {
        draft.sorry = match node.text() {
            Some("builtin") => {
                self.extra(node, 2);
                Some(SorryDraft::Builtin(None))
            }
            Some(directory) if directory.starts_with('/') => {
                self.extra(node, 2);
                Some(SorryDraft::Builtin(Some(directory.to_owned())))
            }
            _ => match self.end(node, 1) {
                Some(key) => Some(SorryDraft::Server {
                    key,
                    method: None,
                    inhibit: false,
                    node: at,
                }),
                None => return,
            },
        };
    }

    fn sorry_setting(&mut self, node: &Node, draft: &mut Draft) {
        let Some(SorryDraft::Server {
            method, inhibit, ..
        }) = &mut draft.sorry
        else {
            let message = format!(
                "{} stands before any sorry_server; it is ignored",
                node.name()
            );
            self.report.add(node.warning(message));
            return;
        };
        if matches!(node.keyword.takes, Takes::Nothing) {
            *inhibit = true;
        } else if let Some(read) = self.method(node) {
            *method = Some(read);
        }
    }

    /// What a service needs that is not said, and what does not go together.
    fn check_whole(&mut self, node: &Node, draft: &mut Draft) {
        let mut warn = |message: &str, hint: &str| {
            self.report.add(node.warning(message).hinting(hint));
        };
        if draft.ha_suspend && draft.has_marks() {
            let message = "ha_suspend has no effect with firewall marks";
            warn(message, "it goes by addresses");
            draft.ha_suspend = false;
        }
        if draft.has_addresses() {
            if draft.protocol.is_none() {
                warn("no protocol is set: it is UDP", "write protocol TCP or UDP");
                draft.protocol = Some(Protocol::Udp);
            }
            if draft.one_packet && draft.protocol != Some(Protocol::Udp) {
                warn("ops has no effect: it is for UDP", "leave it out");
                draft.one_packet = false;
            }
        } else if draft.protocol.is_some() {
            let message = "a firewall mark has no protocol: what is set has no effect";
            warn(message, "leave it out");
        }
        if draft.persistence.is_none() && draft.has_any_port() {
            let message = "a service of any port needs clients that stay: 360 seconds are taken";
            warn(message, "write a port, or persistence_timeout 360");
            draft.persistence = Some(PERSISTENCE);
        }
        if draft.scheduler.is_none() {
            warn("no scheduler is set: it is wlc", "write lvs_sched wlc");
        }
        let is_usual = |child: &Node| {
            child.name() == "real_server"
                && child.children.iter().all(|own| own.name() != "lvs_method")
        };
        if draft.method.is_none() && node.children.iter().any(is_usual) {
            warn(
                "no forwarding method is set: it is NAT",
                "write lvs_method NAT",
            );
        }
    }

    fn check_quorum(&mut self, node: &Node, draft: &mut Draft, servers: &[Placed]) {
        let weights = servers
            .iter()
            .map(|placed| u64::from(placed.server.settings.weight));
        let sum = u32::try_from(weights.sum::<u64>()).unwrap_or(u32::MAX);
        let at = |name: &str| node.children.iter().rfind(|child| child.name() == name);
        if draft.quorum > sum {
            let quorum = draft.quorum;
            draft.quorum = sum.max(1);
            let message = format!("quorum {quorum} is above the weights of all servers, {sum}");
            let found = match at("quorum") {
                Some(child) => child.warning_at(1, message),
                None => node.warning(message),
            };
            let expected = format!("{} is taken", draft.quorum);
            self.report.add(found.expecting(expected));
        }
        if draft.hysteresis >= draft.quorum {
            let taken = draft.quorum - 1;
            let message = format!(
                "hysteresis {} is not below the quorum, {}",
                draft.hysteresis, draft.quorum
            );
            draft.hysteresis = taken;
            let found = match at("hysteresis") {
                Some(child) => child.warning_at(1, message),
                None => node.warning(message),
            };
            self.report
                .add(found.expecting(format!("{taken} is taken")));
        }
    }

    fn sorry(&mut self, node: &Node, draft: &mut Draft) -> Option<Sorry> {
        match draft.sorry.take()? {
            SorryDraft::Builtin(directory) => Some(Sorry::Builtin { directory }),
            SorryDraft::Server {
                key,
                method,
                inhibit,
                node: at,
            } => {
                let child = node.children.get(at)?;
                let method = method.unwrap_or(draft.usual_method());
                if !self.fits(child, key, method, draft) {
                    return None;
                }
                let key = self.kept_port(child, key, method, draft, "sorry server");
                Some(Sorry::Server {
                    key,
                    settings: ServerSettings::new(method, 1),
                    inhibit,
                })
            }
        }
    }

    fn push(&mut self, node: &Node, draft: Draft, servers: Vec<Placed>, sorry: Option<Sorry>) {
        let ends = draft.ends();
        let family = match &ends[..] {
            [Ends::Mark { family, .. }, ..] => *family,
            [Ends::Addresses { first, .. }, ..] => Family::of(first),
            [] => return,
        };
        let persistence = draft.persistence.map(|timeout_s| Persistence {
            timeout_s,
            netmask: draft.netmask.unwrap_or(Netmask::host(family)),
        });
        let (servers, places) = servers
            .into_iter()
            .map(|placed| (placed.server, placed.place))
            .unzip();
        self.config.services.push(PlacedService {
            service: VirtualServer {
                group: draft.group,
                ends,
                settings: ServiceSettings {
                    scheduler: draft.scheduler.unwrap_or_else(|| "wlc".into()),
                    flags: draft.flags,
                    persistence,
                    one_packet: draft.one_packet,
                    engine: draft.engine,
                    compatible: Some(true),
                    mss_clamp: None,
                },
                servers,
                quorum: Quorum {
                    weight: draft.quorum,
                    hysteresis: draft.hysteresis,
                },
                sorry,
                ha_suspend: draft.ha_suspend,
                omega: draft.omega,
                notify: draft.notify,
                mail: draft.mail.unwrap_or_else(|| self.global.mails(false)),
            },
            place: Self::place(node, 1),
            servers: places,
        });
    }
}

fn protocol(name: &str) -> Option<Protocol> {
    [
        (Protocol::Tcp, "TCP"),
        (Protocol::Udp, "UDP"),
        (Protocol::Sctp, "SCTP"),
    ]
    .into_iter()
    .find(|(_, known)| known.eq_ignore_ascii_case(name))
    .map(|(protocol, _)| protocol)
}
