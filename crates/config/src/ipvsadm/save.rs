//! What `-S` prints: rules that `-R` reads.

use core::fmt::Write;
use core::net::IpAddr;

use evenkeel_core::model::{ForwardMethod, Protocol, ServiceView};

use super::address::Names;
use super::order;

/// What `ipvsadm-save` prints on standard error for an option it does not have.
pub const SAVE_USAGE: &str = "ipvsadm-save: Script to save the IPVS table to stdout.\n\
                              \x20  With the -n option, prints out the table in numeric format.\n";

/// The rules that make this table: each service, then its servers.
///
/// Where names are wanted, one is written only if looking it up gives the same
/// address or port again: what is saved can be restored.
#[must_use]
pub fn save(services: &[ServiceView], numeric: bool, names: &dyn Names) -> String {
    let mut text = String::new();
    let unsorted: Vec<_> = services.iter().collect();
    for service in order::services(&unsorted) {
        let protocol = service.key.protocol;
        let option = option(protocol);
        let name = endpoint(
            service.key.address,
            service.key.port,
            protocol,
            numeric,
            names,
        );
        // Writing into a string cannot fail.
        let _ = writeln!(text, "-A {option} {name} -s {}", service.scheduler.name());
        let unsorted: Vec<_> = service.servers.iter().collect();
        for server in order::servers(&unsorted) {
            let server_name = endpoint(
                server.key.address,
                server.key.port,
                protocol,
                numeric,
                names,
            );
            let (method, tunnel) = match server.method {
                ForwardMethod::Masq => ("-m", ""),
                ForwardMethod::Route => ("-g", ""),
                ForwardMethod::Tunnel => ("-i", " --tun-type ipip"),
            };
            let _ = writeln!(
                text,
                "-a {option} {name} -r {server_name} {method} -w {}{tunnel}",
                server.weight
            );
        }
    }
    text
}

const fn option(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "-t",
        Protocol::Udp => "-u",
        Protocol::Sctp => "--sctp-service",
    }
}

fn endpoint(
    address: IpAddr,
    port: u16,
    protocol: Protocol,
    numeric: bool,
    names: &dyn Names,
) -> String {
    let host = match address {
        IpAddr::V4(v4) if !numeric => names
            .host_of(address)
            .filter(|host| names.address_of(host) == Some(v4)),
        _ => None,
    };
    let host = host.unwrap_or_else(|| address.to_string());
    let service = if numeric {
        None
    } else {
        names.service_of(port, protocol)
    };
    let service = service.filter(|service| names.port_of(service, protocol) == Some(port));
    let port = service.unwrap_or_else(|| port.to_string());
    if address.is_ipv6() {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}
