//! What `-L` prints.

use core::fmt::Write;
use core::net::IpAddr;

use evenkeel_core::model::{ForwardMethod, Protocol, ServerView, ServiceView, Timeouts};

use super::address::Names;
use super::order;

/// How services are listed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    /// Addresses and ports as numbers.
    pub numeric: bool,
    /// In the order in which they come.
    pub unsorted: bool,
}

/// Bytes that a listing has for address and port.
const NAME_WIDTH: usize = 28;

/// A listing: of everything when `table_size` is given, else of the one service
/// that was asked for, which leaves out the line with the size.
#[must_use]
pub fn listing(
    table_size: Option<u32>,
    services: &[ServiceView],
    layout: Layout,
    names: &dyn Names,
) -> String {
    let mut text = String::new();
    if let Some(size) = table_size {
        // Writing into a string cannot fail, here and below.
        let _ = writeln!(text, "IP Virtual Server version 1.2.1 (size={size})");
    }
    text.push_str("Prot LocalAddress:Port Scheduler Flags\n");
    text.push_str("  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn\n");
    let unsorted: Vec<_> = services.iter().collect();
    let services = if layout.unsorted {
        unsorted
    } else {
        order::services(&unsorted)
    };
    for service in services {
        service_lines(&mut text, service, layout, names);
    }
    text
}

fn service_lines(text: &mut String, service: &ServiceView, layout: Layout, names: &dyn Names) {
    let key = &service.key;
    let name = endpoint(key.address, key.port, key.protocol, layout.numeric, names);
    let name = shown(&name, key.address);
    let _ = writeln!(
        text,
        "{:<4} {name} {}",
        protocol_word(key.protocol),
        service.scheduler.name()
    );
    let unsorted: Vec<_> = service.servers.iter().collect();
    let servers = if layout.unsorted {
        unsorted
    } else {
        order::servers(&unsorted)
    };
    for server in servers {
        server_line(text, server, key.protocol, layout, names);
    }
}

fn server_line(
    text: &mut String,
    server: &ServerView,
    protocol: Protocol,
    layout: Layout,
    names: &dyn Names,
) {
    let name = endpoint(
        server.key.address,
        server.key.port,
        protocol,
        layout.numeric,
        names,
    );
    let name = shown(&name, server.key.address);
    let method = match server.method {
        ForwardMethod::Masq => "Masq",
        ForwardMethod::Route => "Route",
        ForwardMethod::Tunnel => "Tunnel",
    };
    let _ = writeln!(
        text,
        "  -> {name:<NAME_WIDTH$} {method:<7} {:<6} {:<10} {:<10}",
        server.weight, server.active, server.inactive
    );
}

const fn protocol_word(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "TCP",
        Protocol::Udp => "UDP",
        Protocol::Sctp => "SCTP",
    }
}

/// An IPv4 endpoint's name is cut to the width of the column; IPv6's is not.
fn shown(name: &str, address: IpAddr) -> &str {
    if address.is_ipv6() {
        name
    } else {
        &name[..name.floor_char_boundary(NAME_WIDTH)]
    }
}

/// Address and port, as names where they have some.
fn endpoint(
    address: IpAddr,
    port: u16,
    protocol: Protocol,
    numeric: bool,
    names: &dyn Names,
) -> String {
    let look_up = !numeric;
    let host = look_up
        .then(|| names.host_of(address))
        .flatten()
        .unwrap_or_else(|| address.to_string());
    let port = look_up
        .then(|| names.service_of(port, protocol))
        .flatten()
        .unwrap_or_else(|| port.to_string());
    if address.is_ipv6() {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

/// What `-L --timeout` prints.
#[must_use]
pub fn timeouts(timeouts: &Timeouts) -> String {
    format!(
        "Timeout (tcp tcpfin udp): {} {} {}\n",
        timeouts.tcp, timeouts.tcp_fin, timeouts.udp
    )
}
