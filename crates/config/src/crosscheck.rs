//! What is wrong with a configuration as a whole, whatever language it is written in.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

use evenkeel_core::model::{Check, Ends, Probe, ServiceKey};

use crate::diagnostic::{Diagnostic, Severity};
use crate::load::Origin;
use crate::native::PlacedService;

/// Looks at all services, and gives those that are kept. `carried`: addresses of VRRP
/// instances, if there is an instance.
pub(crate) fn check(
    services: Vec<Origin>,
    carried: Option<&[IpAddr]>,
    found: &mut Vec<Diagnostic>,
) -> Vec<PlacedService> {
    for Origin { service, .. } in &services {
        check_servers(service, found);
        if let Some(carried) = carried {
            check_carried(service, carried, found);
        }
    }
    without_twins(services, found)
}

fn warning(place: &crate::diagnostic::Place, message: String) -> Diagnostic {
    Diagnostic::new(Severity::Warning, place.clone(), message)
}

fn check_servers(placed: &PlacedService, found: &mut Vec<Diagnostic>) {
    for (server, place) in placed.service.servers.iter().zip(&placed.servers) {
        let address = server.key.address;
        if placed.service.ends.iter().any(|ends| has(ends, address)) {
            let message = format!("server {address} is an address of its own service");
            let hint = "name the address that the server has itself";
            found.push(warning(place, message).hinting(hint));
        }
        let hasty = server
            .checks
            .iter()
            .find(|check| check.timing.interval < timeout(check));
        if let Some(check) = hasty {
            let end = SocketAddr::new(address, server.key.port);
            let message = format!(
                "a check of server {end} may take {} s, and the next is due after {} s",
                timeout(check).as_secs_f64(),
                check.timing.interval.as_secs_f64()
            );
            let hint = "make the timeout shorter than the time between checks";
            found.push(warning(place, message).hinting(hint));
        }
    }
}

/// How long a check may wait.
fn timeout(check: &Check) -> std::time::Duration {
    let connect = match &check.probe {
        Probe::Script { timeout, .. } => return *timeout,
        Probe::File { .. } => return std::time::Duration::ZERO,
        Probe::Tcp(connect)
        | Probe::Ping(connect)
        | Probe::Dns { connect, .. }
        | Probe::Grpc { connect, .. } => connect,
        Probe::Http(probe) => &probe.connect,
        Probe::Udp(probe) => &probe.connect,
        Probe::Postgres(probe) | Probe::Mysql(probe) | Probe::Redis(probe) => &probe.connect,
        Probe::Ldap(probe) => &probe.connect,
        Probe::Smtp { hosts, .. } => {
            let longest = hosts.iter().map(|host| host.timeout).max();
            return longest.unwrap_or_default();
        }
    };
    connect.timeout
}

fn has(ends: &Ends, address: IpAddr) -> bool {
    match ends {
        Ends::Addresses { first, last, .. } => {
            first.is_ipv4() == address.is_ipv4() && (first..=last).contains(&&address)
        }
        Ends::Mark { .. } => false,
    }
}

fn check_carried(placed: &PlacedService, carried: &[IpAddr], found: &mut Vec<Diagnostic>) {
    for ends in &placed.service.ends {
        let Ends::Addresses { first, last, .. } = ends else {
            continue;
        };
        if carried.iter().any(|&address| has(ends, address)) {
            continue;
        }
        let shown = if first == last {
            first.to_string()
        } else {
            format!("{first}-{last}")
        };
        let message = format!("no vrrp_instance carries {shown}");
        let hint = format!("write {first} in a virtual_ipaddress block, if VRRP is to move it");
        found.push(warning(&placed.place, message).hinting(hint));
        return;
    }
}

/// Services that stand there once. Of two in one file that are the same, the first has
/// the servers of both; everything else that has services in common is an error.
fn without_twins(services: Vec<Origin>, found: &mut Vec<Diagnostic>) -> Vec<PlacedService> {
    let mut kept: Vec<Origin> = Vec::new();
    let mut single: HashMap<ServiceKey, usize> = HashMap::new();
    let mut wide: Vec<(Ends, usize)> = Vec::new();
    for origin in services {
        let number = kept.len();
        let ends = &origin.service.service.ends;
        let twin = ends.iter().find_map(|ends| {
            let single = single_key(ends).and_then(|key| single.get(&key).copied());
            single.or_else(|| twin(ends, &wide, &kept))
        });
        if let Some(first) = twin.and_then(|number| kept.get_mut(number)) {
            found.push(twins(first, origin));
            continue;
        }
        for ends in ends {
            match single_key(ends) {
                Some(key) => {
                    single.insert(key, number);
                }
                None => wide.push((ends.clone(), number)),
            }
        }
        kept.push(origin);
    }
    kept.into_iter().map(|origin| origin.service).collect()
}

fn single_key(ends: &Ends) -> Option<ServiceKey> {
    (ends.count() == 1).then(|| ends.keys().next()).flatten()
}

/// Whose services these are as well, if one of the two is more than one service.
fn twin(ends: &Ends, wide: &[(Ends, usize)], kept: &[Origin]) -> Option<usize> {
    let among_wide = wide.iter().find(|(other, _)| overlap(ends, other));
    if let Some((_, number)) = among_wide {
        return Some(*number);
    }
    if single_key(ends).is_some() {
        return None;
    }
    kept.iter().position(|origin| {
        let others = origin.service.service.ends.iter();
        others.into_iter().any(|other| overlap(ends, other))
    })
}

fn overlap(ends: &Ends, other: &Ends) -> bool {
    match (ends, other) {
        (
            Ends::Addresses {
                protocol,
                first,
                last,
                ports,
            },
            Ends::Addresses {
                protocol: other_protocol,
                first: other_first,
                last: other_last,
                ports: other_ports,
            },
        ) => {
            protocol == other_protocol
                && first.is_ipv4() == other_first.is_ipv4()
                && first <= other_last
                && other_first <= last
                && ports.start() <= other_ports.end()
                && other_ports.start() <= ports.end()
        }
        _ => ends == other,
    }
}

/// Tells of two virtual servers with services in common. The servers of the second go to
/// the first where both are the same.
fn twins(first: &mut Origin, second: Origin) -> Diagnostic {
    let there = first.service.place.clone();
    let name = second.service.name();
    let place = &second.service.place;
    if first.input != second.input {
        let message = format!("{name} stands in two files");
        return Diagnostic::new(Severity::Error, place.clone(), message)
            .beside(there, "the first stands here")
            .hinting("leave one of the files out, or one of the two virtual servers");
    }
    if first.service.service.ends != second.service.service.ends {
        let message = format!("{name} has services that another virtual server has already");
        return Diagnostic::new(Severity::Error, place.clone(), message)
            .beside(there, "that one stands here");
    }
    let message = format!("{name} stands there twice");
    let found = warning(place, message)
        .expecting("its servers are added to the first; the rest of it is ignored")
        .beside(there, "the first stands here");
    let servers = second.service.service.servers.into_iter();
    for (server, place) in servers.zip(second.service.servers) {
        let known = &mut first.service.service.servers;
        if known.iter().all(|known| known.key != server.key) {
            known.push(server);
            first.service.servers.push(place);
        }
    }
    found
}
