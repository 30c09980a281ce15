//! Names as the machine knows them: `/etc/hosts`, DNS, `/etc/services`, through
//! the C library's resolver.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use dns_lookup::{AddrInfoHints, getaddrinfo, getnameinfo};
use evenkeel_config::ipvsadm::Names;
use evenkeel_core::model::Protocol;

/// Names of ports, which are read here for SCTP alone.
const SERVICES: &str = "/etc/services";

/// Asks the C library, each question once.
#[derive(Debug, Default)]
pub struct SystemNames {
    addresses: RefCell<HashMap<String, Option<Ipv4Addr>>>,
    ports: RefCell<HashMap<(String, Protocol), Option<u16>>>,
    hosts: RefCell<HashMap<IpAddr, Option<String>>>,
    services: RefCell<HashMap<(u16, Protocol), Option<String>>>,
}

/// The value from the cache, or else from the question.
fn once<K, V>(cache: &RefCell<HashMap<K, V>>, key: K, ask: impl FnOnce(&K) -> V) -> V
where
    K: Eq + std::hash::Hash,
    V: Clone,
{
    if let Some(known) = cache.borrow().get(&key) {
        return known.clone();
    }
    let answer = ask(&key);
    cache.borrow_mut().insert(key, answer.clone());
    answer
}

fn hints(protocol: Protocol) -> AddrInfoHints {
    let socktype = if protocol == Protocol::Udp {
        libc::SOCK_DGRAM
    } else {
        libc::SOCK_STREAM
    };
    AddrInfoHints {
        socktype,
        protocol: protocol.number().into(),
        address: libc::AF_INET,
        flags: 0,
    }
}

fn first_address(
    host: Option<&str>,
    service: Option<&str>,
    protocol: Protocol,
) -> Option<SocketAddr> {
    let found = getaddrinfo(host, service, Some(hints(protocol))).ok()?;
    found
        .filter_map(Result::ok)
        .map(|info| info.sockaddr)
        .next()
}

/// The name of SCTP's port in a text such as `/etc/services`.
fn sctp_service(text: &str, port: u16) -> Option<String> {
    let place = format!("{port}/sctp");
    text.lines().find_map(|line| {
        let mut words = line.split('#').next()?.split_whitespace();
        let name = words.next()?;
        (words.next()? == place).then(|| name.to_owned())
    })
}

impl Names for SystemNames {
    fn address_of(&self, host: &str) -> Option<Ipv4Addr> {
        if host.is_empty() {
            return None;
        }
        once(
            &self.addresses,
            host.to_owned(),
            |host| match first_address(Some(host), None, Protocol::Tcp)?.ip() {
                IpAddr::V4(address) => Some(address),
                IpAddr::V6(_) => None,
            },
        )
    }

    fn port_of(&self, service: &str, protocol: Protocol) -> Option<u16> {
        // The resolver takes numbers for names, beyond 65,535 as well.
        if !service.contains(|c: char| c.is_ascii_alphabetic()) {
            return None;
        }
        once(
            &self.ports,
            (service.to_owned(), protocol),
            |(service, protocol)| {
                first_address(None, Some(service), *protocol).map(|address| address.port())
            },
        )
    }

    fn host_of(&self, address: IpAddr) -> Option<String> {
        once(&self.hosts, address, |&address| {
            let flags = libc::NI_NAMEREQD | libc::NI_NUMERICSERV;
            getnameinfo(&SocketAddr::new(address, 0), flags)
                .ok()
                .map(|(host, _)| host)
        })
    }

    fn service_of(&self, port: u16, protocol: Protocol) -> Option<String> {
        // The resolver knows streams and datagrams only, and takes a stream for TCP's.
        let datagram = match protocol {
            Protocol::Tcp => 0,
            Protocol::Udp => libc::NI_DGRAM,
            Protocol::Sctp => {
                return once(&self.services, (port, protocol), |&(port, _)| {
                    sctp_service(&fs::read_to_string(SERVICES).ok()?, port)
                });
            }
        };
        once(&self.services, (port, protocol), |&(port, _)| {
            let address = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port);
            let (_, service) = getnameinfo(&address, libc::NI_NUMERICHOST | datagram).ok()?;
            service.parse::<u16>().is_err().then_some(service)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_are_looked_up_by_protocol() {
        let names = SystemNames::default();
        assert_eq!(names.port_of("http", Protocol::Tcp), Some(80));
        assert_eq!(names.port_of("ssh", Protocol::Udp), None);
        assert_eq!(names.port_of("65536", Protocol::Tcp), None);
        assert_eq!(names.service_of(80, Protocol::Tcp).as_deref(), Some("http"));
        assert_eq!(names.service_of(22, Protocol::Udp), None);
        assert_eq!(names.service_of(1, Protocol::Sctp), None);
    }

    #[test]
    fn sctp_has_names_too() {
        let text = "amqp\t5672/tcp\namqp\t5672/sctp # x\n#no\t7/sctp\nlast 8/sctp";
        assert_eq!(sctp_service(text, 5672).as_deref(), Some("amqp"));
        assert_eq!(sctp_service(text, 8).as_deref(), Some("last"));
        assert_eq!(sctp_service(text, 7), None);
        assert_eq!(sctp_service(text, 567), None);
    }

    #[test]
    fn hosts_are_looked_up_both_ways() {
        let names = SystemNames::default();
        assert_eq!(names.address_of("localhost"), Some(Ipv4Addr::LOCALHOST));
        assert_eq!(names.address_of(""), None);
        assert_eq!(
            names.host_of(Ipv4Addr::LOCALHOST.into()).as_deref(),
            Some("localhost")
        );
    }
}
