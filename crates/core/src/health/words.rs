//! Names of servers and checks in news and logs: keepalived's, where it has them.

use alloc::format;
use alloc::string::{String, ToString};
use core::net::IpAddr;

use crate::model::{Connect, Ends, Probe, Protocol, ServerKey, ServiceKey, VirtualServer};

fn protocol(protocol: Option<Protocol>) -> &'static str {
    match protocol {
        Some(Protocol::Tcp) => "tcp",
        Some(Protocol::Udp) => "udp",
        Some(Protocol::Sctp) => "sctp",
        None => "none",
    }
}

/// `[address]:protocol:port`
fn trio(address: IpAddr, of: Option<Protocol>, port: u16) -> String {
    format!("[{address}]:{}:{port}", protocol(of))
}

/// The protocol of a virtual server's packets; none: that of a firewall mark.
pub(super) fn protocol_of(server: &VirtualServer) -> Option<Protocol> {
    server.ends.iter().find_map(|ends| match ends {
        Ends::Addresses { protocol, .. } => Some(*protocol),
        Ends::Mark { .. } => None,
    })
}

/// A virtual server's name: its group's, its mark's or its address's.
pub(super) fn virtual_server(server: &VirtualServer) -> String {
    if let Some(group) = &server.group {
        return format!("[{group}]:0");
    }
    match server.keys().next() {
        Some(ServiceKey::Address {
            protocol,
            address,
            port,
        }) => trio(address, Some(protocol), port),
        Some(ServiceKey::Mark { mark, .. }) => format!("FWM {mark}"),
        None => String::new(),
    }
}

/// A real server's name in a virtual server of this protocol.
pub(super) fn real_server(key: &ServerKey, protocol: Option<Protocol>) -> String {
    trio(key.address, protocol, key.port)
}

/// What a check is called, and what it looks at.
pub(super) fn check(probe: &Probe) -> (&'static str, String) {
    let at = |connect: &Connect| connect.to.to_string();
    match probe {
        Probe::Tcp(connect) => ("TCP_CHECK", at(connect)),
        Probe::Http(http) => {
            let (name, scheme) = if http.tls.is_some() {
                ("SSL_GET", "https")
            } else {
                ("HTTP_GET", "http")
            };
            let path = http.pages.first().map_or("", |page| page.path.as_str());
            (name, format!("{scheme}://{}{path}", http.connect.to))
        }
        Probe::Smtp { hosts, .. } => {
            let hosts: alloc::vec::Vec<String> = hosts.iter().map(at).collect();
            ("SMTP_CHECK", hosts.join(", "))
        }
        Probe::Dns { connect, name, .. } => {
            let name = if name.is_empty() { "." } else { name };
            ("DNS_CHECK", format!("{name} at {}", connect.to))
        }
        Probe::Script { script, .. } => ("MISC_CHECK", script.command.join(" ")),
        Probe::Ping(connect) => ("PING_CHECK", connect.to.ip().to_string()),
        Probe::Udp(udp) => ("UDP_CHECK", at(&udp.connect)),
        Probe::File { path, .. } => ("FILE_CHECK", path.clone()),
        Probe::Postgres(database) => ("POSTGRES", at(&database.connect)),
        Probe::Mysql(database) => ("MYSQL", at(&database.connect)),
        Probe::Redis(database) => ("REDIS", at(&database.connect)),
        Probe::Ldap(ldap) => ("LDAP", at(&ldap.connect)),
        Probe::Grpc { connect, .. } => ("GRPC", at(connect)),
    }
}

/// The text of a mail about a server whose check has passed or failed.
pub(super) fn mail(probe: &Probe, good: bool, why: &str) -> String {
    let outcome = if good { "succeed" } else { "failed" };
    match probe {
        Probe::Http(_) if !good => {
            "=> CHECK failed on service : HTTP request failed <=".to_string()
        }
        Probe::Smtp { .. } if !good => format!("=> CHECK failed on service : {why} <="),
        Probe::Http(_) | Probe::Smtp { .. } => format!("=> CHECK {outcome} on service <="),
        Probe::Dns { .. } => format!("=> DNS_CHECK: {outcome} on service <="),
        Probe::Script { .. } => {
            let outcome = match (good, why.starts_with("killed after")) {
                (true, _) => "succeeded",
                (false, true) => "timed out",
                (false, false) => "failed",
            };
            format!("=> MISC CHECK {outcome} on service <=")
        }
        Probe::Ping(_) => format!("=> ICMP CHECK {outcome} on service <="),
        other => {
            let name = check(other).0;
            let name = name.strip_suffix("_CHECK").unwrap_or(name);
            format!("=> {name} CHECK {outcome} on service <=")
        }
    }
}
