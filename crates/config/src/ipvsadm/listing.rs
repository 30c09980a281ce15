//! What `-L` prints of services and servers.

use core::fmt::Write;
use core::net::IpAddr;

use evenkeel_core::model::{
    Family, ForwardMethod, Netmask, Protocol, Rates, ServerView, ServiceKey, ServiceView, Stats,
    Timeouts, Tunnel, TunnelChecksum,
};

use super::address::Names;
use super::command::{Columns, Layout};
use super::ends::{self, Ends};
use super::flags;
use super::order;
use super::rules::tunnel_name;

/// Bytes that a listing has for address and port.
const NAME_WIDTH: usize = 28;
/// And for a service's, with its protocol.
const SERVICE_WIDTH: usize = 33;

/// A listing: of everything when `table_size` is given, else of the one service
/// that was asked for, which leaves out the line with the size.
#[must_use]
pub fn listing(
    table_size: Option<u32>,
    services: &[ServiceView],
    layout: Layout,
    names: &dyn Names,
) -> String {
    let mut page = Page {
        text: String::new(),
        layout,
        ends: Ends::new(layout.numeric, names),
    };
    if let Some(size) = table_size {
        page.line(format_args!(
            "IP Virtual Server version 1.2.1 (size={size})"
        ));
    }
    page.title();
    let unsorted: Vec<_> = services.iter().collect();
    let services = if layout.unsorted {
        unsorted
    } else {
        order::services(&unsorted)
    };
    for service in services {
        page.service(service);
        let unsorted: Vec<_> = service.servers.iter().collect();
        let servers = if layout.unsorted {
            unsorted
        } else {
            order::servers(&unsorted)
        };
        for server in servers {
            page.server(&service.key, server);
        }
    }
    page.text
}

/// A listing under way.
struct Page<'n> {
    text: String,
    layout: Layout,
    ends: Ends<'n>,
}

impl Page<'_> {
    fn line(&mut self, line: core::fmt::Arguments<'_>) {
        // Writing into a string cannot fail.
        let _ = writeln!(self.text, "{line}");
    }

    fn title(&mut self) {
        let widths = match self.layout.columns {
            Columns::Stats => "   Conns   InPkts  OutPkts  InBytes OutBytes",
            Columns::Rate => "     CPS    InPPS   OutPPS    InBPS   OutBPS",
            Columns::Thresholds => "Uthreshold Lthreshold ActiveConn InActConn ",
            Columns::Persistence => "Weight    PersistConn ActiveConn InActConn ",
            Columns::Tunnels => {
                return self.text.push_str(
                    "Prot LocalAddress:Port Scheduler Flags\n\
                     \x20 -> RemoteAddress:Port           Forward TunnelInfo    Weight ActiveConn InActConn\n",
                );
            }
            Columns::Connections => {
                return self.text.push_str(
                    "Prot LocalAddress:Port Scheduler Flags\n\
                     \x20 -> RemoteAddress:Port           Forward Weight ActiveConn InActConn\n",
                );
            }
        };
        self.line(format_args!(
            "{:<SERVICE_WIDTH$} {widths}\n  -> RemoteAddress:Port",
            "Prot LocalAddress:Port"
        ));
    }

    fn service(&mut self, service: &ServiceView) {
        let name = self.service_name(&service.key);
        let numbers = match self.layout.columns {
            Columns::Stats => of_stats(&service.stats),
            Columns::Rate => of_rates(&service.rates),
            _ => return self.line(format_args!("{name} {}", described(service))),
        };
        let numbers = numbers.map(|number| self.large(number)).concat();
        self.line(format_args!("{name:<SERVICE_WIDTH$}{numbers}"));
    }

    fn service_name(&self, key: &ServiceKey) -> String {
        match *key {
            ServiceKey::Address {
                protocol,
                address,
                port,
            } => {
                let word = protocol_word(protocol);
                let end = self.ends.shown(address, port, Some(protocol));
                format!("{word:<4} {}", cut(&end, address))
            }
            ServiceKey::Mark { .. } => format!("FWM  {}", ends::mark(key, " IPv6")),
        }
    }

    fn server(&mut self, service: &ServiceKey, server: &ServerView) {
        let ServerView {
            key,
            settings,
            active,
            inactive,
            persistent,
            ..
        } = server;
        let protocol = ends::protocol_of(service);
        let name = self.ends.shown(key.address, key.port, protocol);
        let name = cut(&name, key.address);
        let weight = settings.weight;
        match self.layout.columns {
            Columns::Stats => {
                let numbers = of_stats(&server.stats).map(|number| self.large(number));
                let numbers = numbers.concat();
                self.line(format_args!("  -> {name:<NAME_WIDTH$}{numbers}"));
            }
            Columns::Rate => {
                let [connections, inward, outward, in_bytes, out_bytes] = of_rates(&server.rates);
                let (in_bytes, out_bytes) = (self.large(in_bytes), self.large(out_bytes));
                self.line(format_args!(
                    "  -> {name:<NAME_WIDTH$} {connections:>8} {inward:>8} {outward:>8}{in_bytes}{out_bytes}"
                ));
            }
            Columns::Thresholds => {
                let (upper, lower) = (settings.upper_threshold, settings.lower_threshold);
                self.line(format_args!(
                    "  -> {name:<NAME_WIDTH$} {upper:<10} {lower:<10} {active:<10} {inactive:<10}"
                ));
            }
            Columns::Persistence => self.line(format_args!(
                "  -> {name:<NAME_WIDTH$} {weight:<9} {persistent:<11} {active:<10} {inactive:<10}"
            )),
            Columns::Tunnels => {
                let (method, tunnel) = (method_word(settings.method), tunnel_info(settings.method));
                self.line(format_args!(
                    "  -> {name:<NAME_WIDTH$} {method:<7} {tunnel:<13} {weight:<6} {active:<10} {inactive:<10}"
                ));
            }
            Columns::Connections => {
                let method = method_word(settings.method);
                self.line(format_args!(
                    "  -> {name:<NAME_WIDTH$} {method:<7} {weight:<6} {active:<10} {inactive:<10}"
                ));
            }
        }
    }

    /// A number in a column of nine, the last digits of a large one as a letter.
    fn large(&self, number: u64) -> String {
        const SCALES: [(u64, u64, char); 4] = [
            (100_000_000_000_000, 1_000_000_000_000, 'T'),
            (100_000_000_000, 1_000_000_000, 'G'),
            (1_000_000_000, 1_000_000, 'M'),
            (100_000_000, 1000, 'K'),
        ];
        if self.layout.exact {
            return format!(" {number:>8}");
        }
        match SCALES.iter().find(|(from, ..)| number >= *from) {
            Some((_, unit, letter)) => format!("{:>8}{letter}", number / unit),
            None => format!("{number:>9}"),
        }
    }
}

const fn of_stats(stats: &Stats) -> [u64; 5] {
    [
        stats.connections,
        stats.in_packets,
        stats.out_packets,
        stats.in_bytes,
        stats.out_bytes,
    ]
}

const fn of_rates(rates: &Rates) -> [u64; 5] {
    [
        rates.connections,
        rates.in_packets,
        rates.out_packets,
        rates.in_bytes,
        rates.out_bytes,
    ]
}

/// Scheduler, flags and persistence.
fn described(service: &ServiceView) -> String {
    let settings = &service.settings;
    let mut text = settings.scheduler.clone();
    if let Some(flags) = flags::names(settings.flags, &settings.scheduler) {
        let _ = write!(text, " ({flags})");
    }
    if let Some(persistence) = &settings.persistence {
        let _ = write!(text, " persistent {}", persistence.timeout_s);
        if let Some(mask) = mask(persistence.netmask, service.key.family()) {
            let _ = write!(text, " mask {mask}");
        }
        if let Some(engine) = &settings.engine {
            let _ = write!(text, " pe {engine}");
        }
    }
    if settings.one_packet {
        text.push_str(" ops");
    }
    text
}

/// A mask, unless it tells all clients apart.
pub(super) fn mask(mask: Netmask, family: Family) -> Option<String> {
    (mask != Netmask::host(family)).then(|| match mask {
        Netmask::V4(address) => address.to_string(),
        Netmask::V6(length) => length.to_string(),
    })
}

const fn method_word(method: ForwardMethod) -> &'static str {
    match method {
        ForwardMethod::Masq => "Masq",
        ForwardMethod::Route => "Route",
        ForwardMethod::Tunnel(_) => "Tunnel",
        ForwardMethod::FullNat => "FullNat",
    }
}

fn tunnel_info(method: ForwardMethod) -> String {
    const fn checksum_word(checksum: TunnelChecksum) -> &'static str {
        match checksum {
            TunnelChecksum::None => "-c",
            TunnelChecksum::Full => "+c",
            TunnelChecksum::Remote => "r+c",
        }
    }
    let ForwardMethod::Tunnel(tunnel) = method else {
        return "n/a".into();
    };
    let name = tunnel_name(tunnel);
    match tunnel {
        Tunnel::Ipip => name.into(),
        Tunnel::Gue { port, checksum } => format!("{name}:{port}:{}", checksum_word(checksum)),
        Tunnel::Gre { checksum } => format!("{name}:{}", checksum_word(checksum)),
    }
}

pub(super) const fn protocol_word(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "TCP",
        Protocol::Udp => "UDP",
        Protocol::Sctp => "SCTP",
    }
}

/// An IPv4 end's name is cut to the width of the column; IPv6's is not.
fn cut(name: &str, address: IpAddr) -> &str {
    if address.is_ipv6() {
        name
    } else {
        &name[..name.floor_char_boundary(NAME_WIDTH)]
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
