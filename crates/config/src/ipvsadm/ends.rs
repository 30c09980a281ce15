//! Addresses and ports as listings and saved rules have them.

use core::net::IpAddr;

use evenkeel_core::model::{Family, Protocol, ServerKey, ServiceKey};

use super::address::Names;

/// Bytes that `ipvsadm` has for an address and a port.
const NAME_BYTES: usize = 59;

/// Writes addresses and ports, as names where they have some.
#[derive(Clone, Copy)]
pub(super) struct Ends<'n> {
    names: Option<&'n dyn Names>,
}

impl<'n> Ends<'n> {
    pub(super) fn new(numeric: bool, names: &'n dyn Names) -> Self {
        Self {
            names: (!numeric).then_some(names),
        }
    }

    /// As `-L` shows it.
    pub(super) fn shown(self, address: IpAddr, port: u16, protocol: Option<Protocol>) -> String {
        let host = self.names.and_then(|names| names.host_of(address));
        let service = self
            .names
            .and_then(|names| names.service_of(port, protocol?));
        let mut text = joined(address, host, port, service);
        text.truncate(text.floor_char_boundary(NAME_BYTES));
        text
    }

    /// As `-S` writes it: a name stands there only if looking it up leads back.
    fn written(self, address: IpAddr, port: u16, protocol: Option<Protocol>) -> String {
        let host = match (address, self.names) {
            (IpAddr::V4(v4), Some(names)) => names
                .host_of(address)
                .filter(|host| names.address_of(host) == Some(v4)),
            _ => None,
        };
        let service = self.names.zip(protocol).and_then(|(names, protocol)| {
            let service = names.service_of(port, protocol)?;
            (names.port_of(&service, protocol) == Some(port)).then_some(service)
        });
        joined(address, host, port, service)
    }

    /// A service as the options that name it.
    pub(super) fn service_option(self, service: &ServiceKey) -> String {
        match *service {
            ServiceKey::Address {
                protocol,
                address,
                port,
            } => {
                let option = match protocol {
                    Protocol::Tcp => "-t",
                    Protocol::Udp => "-u",
                    Protocol::Sctp => "--sctp-service",
                };
                format!("{option} {}", self.written(address, port, Some(protocol)))
            }
            ServiceKey::Mark { .. } => format!("-f {}", mark(service, " -6")),
        }
    }

    /// A server as the argument of `-r`.
    pub(super) fn server_option(self, service: &ServiceKey, server: &ServerKey) -> String {
        self.written(server.address, server.port, protocol_of(service))
    }
}

/// The protocol that ports of a service are looked up for; a mark has none.
pub(super) const fn protocol_of(service: &ServiceKey) -> Option<Protocol> {
    match service {
        ServiceKey::Address { protocol, .. } => Some(*protocol),
        ServiceKey::Mark { .. } => None,
    }
}

/// A firewall mark, which `ipvsadm` prints as a number with a sign, and what follows
/// it for IPv6. Nothing for other services.
pub(super) fn mark(service: &ServiceKey, ipv6: &str) -> String {
    match service {
        ServiceKey::Mark { mark, family } => {
            let ipv6 = match family {
                Family::V4 => "",
                Family::V6 => ipv6,
            };
            format!("{}{ipv6}", mark.cast_signed())
        }
        ServiceKey::Address { .. } => String::new(),
    }
}

fn joined(address: IpAddr, host: Option<String>, port: u16, service: Option<String>) -> String {
    let host = host.unwrap_or_else(|| numeric(address));
    let port = service.unwrap_or_else(|| port.to_string());
    if address.is_ipv6() {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

/// An address as the C library writes it: an IPv6 one whose first six words are 0
/// ends like one of IPv4.
fn numeric(address: IpAddr) -> String {
    if let IpAddr::V6(v6) = address
        && let [0, 0, 0, 0, 0, 0, high, _] = v6.segments()
        && high != 0
    {
        let v4 = core::net::Ipv4Addr::from_bits(v6.to_bits() as u32);
        return format!("::{v4}");
    }
    address.to_string()
}
