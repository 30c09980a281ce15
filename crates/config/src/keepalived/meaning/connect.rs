//! How and when checks are run, with what virtual and real servers say of it.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use evenkeel_core::model::{Connect, ServerKey};

use super::super::tree::Node;
use super::super::values::{Value, address};
use super::Reader;
use crate::diagnostic::Diagnostic;

/// Times, as far as they are said.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Times {
    pub(super) interval: Option<Duration>,
    pub(super) timeout: Option<Duration>,
    pub(super) retries: Option<u32>,
    pub(super) retry_interval: Option<Duration>,
    pub(super) warmup: Option<Duration>,
}

impl Times {
    /// Takes a keyword, if it is one of these.
    pub(super) fn take(&mut self, node: &Node) -> bool {
        let time = match node.value {
            Value::Seconds(time) => Some(time),
            _ => None,
        };
        let (target, value) = match node.name() {
            "delay_loop" => (&mut self.interval, time),
            "connect_timeout" => (&mut self.timeout, time),
            "delay_before_retry" => (&mut self.retry_interval, time),
            "warmup" => (&mut self.warmup, time),
            "retry" | "nb_get_retry" => {
                self.retries = node.small().or(self.retries);
                return true;
            }
            _ => return false,
        };
        *target = value.or(*target);
        true
    }

    /// What is not said is as there.
    pub(super) fn or(self, other: Self) -> Self {
        Self {
            interval: self.interval.or(other.interval),
            timeout: self.timeout.or(other.timeout),
            retries: self.retries.or(other.retries),
            retry_interval: self.retry_interval.or(other.retry_interval),
            warmup: self.warmup.or(other.warmup),
        }
    }
}

/// Where a check connects, as far as it is said.
#[derive(Clone, Debug, Default)]
pub(super) struct Ends {
    to: Option<IpAddr>,
    to_port: Option<u16>,
    from: Option<IpAddr>,
    from_port: Option<u16>,
    interface: Option<String>,
    mark: u32,
}

impl Ends {
    /// True if nothing is said.
    pub(super) fn is_empty(&self) -> bool {
        self.to.is_none()
            && self.to_port.is_none()
            && self.from.is_none()
            && self.from_port.is_none()
            && self.interface.is_none()
            && self.mark == 0
    }
}

/// Longest name of an interface.
const INTERFACE_MAX: usize = 15;

impl Reader<'_> {
    /// Takes a keyword about where a check connects, if it is one.
    pub(super) fn take_end(&mut self, ends: &mut Ends, node: &Node) -> bool {
        let port = || node.number().and_then(|port| u16::try_from(port).ok());
        let place = || node.text().and_then(address);
        match node.name() {
            "connect_ip" => {
                ends.to = place().or(ends.to);
                if let (Some(to), Some(from)) = (ends.to, ends.from)
                    && to.is_ipv4() != from.is_ipv4()
                {
                    let message = "connect_ip is of another family than bindto; it is ignored";
                    self.report.add(node.warning_at(1, message));
                    ends.to = None;
                }
            }
            "connect_port" => ends.to_port = port().or(ends.to_port),
            "bindto" => ends.from = place().or(ends.from),
            "bind_port" => ends.from_port = port().or(ends.from_port),
            "bind_if" => match node.text() {
                Some(name) if name.len() > INTERFACE_MAX => {
                    let message = "no interface has so long a name; bind_if is ignored";
                    self.report.add(node.warning_at(1, message));
                }
                name => ends.interface = name.map(str::to_owned).or(ends.interface.take()),
            },
            "fwmark" => ends.mark = node.small().unwrap_or(ends.mark),
            _ => return false,
        }
        true
    }

    /// Where a check connects. None, with a warning: nowhere. `head` is the check's
    /// keyword; `needs_port`, if a port is part of it.
    pub(super) fn connect(
        &mut self,
        head: &Node,
        ends: &Ends,
        server: ServerKey,
        timeout: Duration,
        needs_port: bool,
    ) -> Option<Connect> {
        let to = SocketAddr::new(
            ends.to.unwrap_or(server.address),
            ends.to_port.unwrap_or(server.port),
        );
        let mut drop = |found: Diagnostic| {
            self.report.add(found);
            None
        };
        if needs_port && to.port() == 0 {
            let message = format!("{} has no port; it is ignored", head.name());
            return drop(head.warning(message).hinting("write connect_port"));
        }
        if let IpAddr::V6(address) = to.ip()
            && address.segments()[0] & 0xffc0 == 0xfe80
            && ends.interface.is_none()
        {
            let message = format!(
                "{} goes to {address}, which is link-local; it is ignored",
                head.name()
            );
            return drop(head.warning(message).hinting("write bind_if"));
        }
        let mut connect = Connect::to(to, timeout);
        connect.from = ends.from;
        if let Some(from) = ends.from
            && from.is_ipv4() != to.is_ipv4()
        {
            let message = format!("bindto {from} is of another family than {to}; it is ignored");
            self.report.add(head.warning(message));
            connect.from = None;
        }
        match (ends.from_port, connect.from) {
            (Some(port), Some(_)) => connect.from_port = port,
            (Some(_), None) => {
                let message = "bind_port has no effect without bindto";
                self.report.add(head.warning(message));
            }
            (None, _) => {}
        }
        connect.interface.clone_from(&ends.interface);
        connect.mark = ends.mark;
        Some(connect)
    }
}
