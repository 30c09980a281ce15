//! `evenkeel services` and `evenkeel servers`

use std::net::{IpAddr, SocketAddr};
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Args;
use evenkeel_api::client::{Client, ClientError};
use evenkeel_api::keys;
use evenkeel_core::model::{
    ForwardMethod, MethodKind, MssClamp, Netmask, Rates, ServerKey, ServerView, ServiceKey,
    ServiceView, Tunnel,
};
use serde_json::{Value, json};

use super::text::{Side, Table, print, print_json, scaled};

/// Arguments of `evenkeel services`.
#[derive(Args, Debug)]
pub(crate) struct ServicesArguments {
    /// Only this one, such as tcp:10.0.0.1:80 or mark:1.
    #[arg(long, value_name = "SERVICE", value_parser = service)]
    service: Option<ServiceKey>,
    /// Print them as JSON.
    #[arg(long)]
    json: bool,
}

/// Arguments of `evenkeel servers`.
#[derive(Args, Debug)]
pub(crate) struct ServersArguments {
    /// Only those of this service, such as tcp:10.0.0.1:80 or mark:1.
    #[arg(long, value_name = "SERVICE", value_parser = service)]
    service: Option<ServiceKey>,
    /// Only those with this address, and this port if there is one.
    #[arg(value_name = "SERVER", value_parser = server)]
    server: Option<ServerName>,
    /// Print them as JSON.
    #[arg(long)]
    json: bool,
}

/// A service on the command line.
pub(super) fn service(text: &str) -> Result<ServiceKey, String> {
    keys::service(text).ok_or_else(|| {
        format!(
            "{text:?} names no service; the forms are {}",
            keys::SERVICE_FORMS
        )
    })
}

/// A server on the command line, in whatever services it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ServerName {
    pub(super) address: IpAddr,
    /// None: with any port.
    pub(super) port: Option<u16>,
}

pub(super) fn server(text: &str) -> Result<ServerName, String> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(ServerName {
            address,
            port: None,
        });
    }
    let end: SocketAddr = text.parse().map_err(|_| {
        format!("{text:?} names no server; the forms are 10.0.0.2, 10.0.0.2:80 and [fd00::2]:80")
    })?;
    Ok(ServerName {
        address: end.ip(),
        port: Some(end.port()),
    })
}

impl ServerName {
    pub(super) fn is(&self, key: &ServerKey) -> bool {
        self.address == key.address && self.port.is_none_or(|port| port == key.port)
    }
}

impl std::fmt::Display for ServerName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.port {
            Some(port) => SocketAddr::new(self.address, port).fmt(f),
            None => self.address.fmt(f),
        }
    }
}

/// The services, or one, in their order.
pub(super) fn fetch(client: &Client, only: Option<ServiceKey>) -> Result<Vec<ServiceView>> {
    let mut services = match client.services(only) {
        Err(ClientError::Refused { status: 404, .. }) if let Some(key) = only => {
            bail!("there is no service {}", keys::service_text(&key));
        }
        table => table?.services,
    };
    services.sort_by_key(|service| service.key);
    for service in &mut services {
        service.servers.sort_by_key(|server| server.key);
    }
    Ok(services)
}

/// Lists the services.
pub(crate) fn services(instance: &str, arguments: &ServicesArguments) -> Result<ExitCode> {
    let services = fetch(&Client::new(instance), arguments.service)?;
    if arguments.json {
        print_json(&services.iter().map(service_json).collect())?;
    } else {
        print(&services_table(&services))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Lists the servers.
pub(crate) fn servers(instance: &str, arguments: &ServersArguments) -> Result<ExitCode> {
    let mut services = fetch(&Client::new(instance), arguments.service)?;
    if let Some(name) = arguments.server {
        for service in &mut services {
            service.servers.retain(|server| name.is(&server.key));
        }
    }
    if arguments.json {
        let all = services.iter().flat_map(|service| {
            let servers = service.servers.iter();
            servers.map(|server| server_json(&service.key, server))
        });
        print_json(&all.collect())?;
    } else {
        print(&servers_table(&services))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn services_table(services: &[ServiceView]) -> String {
    if services.is_empty() {
        return "no services: add one with `ipvsadm -A`\n".into();
    }
    let mut table = Table::new(&[
        ("service", Side::Left),
        ("scheduler", Side::Left),
        ("servers", Side::Right),
        ("active", Side::Right),
        ("inactive", Side::Right),
        ("conn/s", Side::Right),
        ("in B/s", Side::Right),
        ("out B/s", Side::Right),
        ("", Side::Left),
    ]);
    for service in services {
        let [active, inactive, _] = connections(service);
        let Rates {
            connections,
            in_bytes,
            out_bytes,
            ..
        } = service.rates;
        table.row(vec![
            keys::service_text(&service.key),
            service.settings.scheduler.clone(),
            service.servers.len().to_string(),
            active.to_string(),
            inactive.to_string(),
            scaled(connections),
            scaled(in_bytes),
            scaled(out_bytes),
            notes(service),
        ]);
    }
    table.to_string()
}

/// Active and inactive connections of all servers, and their persistent clients.
pub(super) fn connections(service: &ServiceView) -> [u64; 3] {
    service.servers.iter().fold([0; 3], |[a, i, p], server| {
        [
            a + u64::from(server.active),
            i + u64::from(server.inactive),
            p + u64::from(server.persistent),
        ]
    })
}

/// What is special about a service.
fn notes(service: &ServiceView) -> String {
    let settings = &service.settings;
    let mut notes = Vec::new();
    if let Some(persistence) = settings.persistence {
        let whose = match persistence.netmask {
            mask if mask == Netmask::host(service.key.family()) => String::new(),
            Netmask::V4(mask) => format!(" by {mask}"),
            Netmask::V6(length) => format!(" by /{length}"),
        };
        notes.push(format!("persistent {} s{whose}", persistence.timeout_s));
    }
    notes.extend(
        settings
            .engine
            .as_ref()
            .map(|name| format!("engine {name}")),
    );
    notes.extend(match settings.mss_clamp {
        Some(MssClamp::Way) => Some("segments as the way".into()),
        Some(MssClamp::Bytes(bytes)) => Some(format!("segments of {bytes}")),
        Some(MssClamp::Off) | None => None,
    });
    for (is_set, name) in [
        (settings.flags.fallback, "fallback"),
        (settings.flags.port, "port"),
        (settings.one_packet, "one-packet"),
    ] {
        if is_set {
            notes.push(name.into());
        }
    }
    notes.join(", ")
}

fn service_json(service: &ServiceView) -> Value {
    let [active, inactive, persistent] = connections(service);
    json!({
        "service": keys::service_text(&service.key),
        "settings": service.settings,
        "compat": if service.compatible { "ipvs" } else { "none" },
        "configured": service.configured,
        "servers": service.servers.len(),
        "active": active,
        "inactive": inactive,
        "persistent": persistent,
        "stats": service.stats,
        "rates": service.rates,
    })
}

fn servers_table(services: &[ServiceView]) -> String {
    let mut table = Table::new(&[
        ("service", Side::Left),
        ("server", Side::Left),
        ("method", Side::Left),
        ("weight", Side::Right),
        ("active", Side::Right),
        ("inactive", Side::Right),
        ("persistent", Side::Right),
        ("conn/s", Side::Right),
        ("in B/s", Side::Right),
        ("out B/s", Side::Right),
        ("", Side::Left),
    ]);
    let mut count = 0;
    for service in services {
        for server in &service.servers {
            let rates = server.rates;
            table.row(vec![
                keys::service_text(&service.key),
                server_text(&server.key),
                method_text(server.settings.method),
                server.settings.weight.to_string(),
                server.active.to_string(),
                server.inactive.to_string(),
                server.persistent.to_string(),
                scaled(rates.connections),
                scaled(rates.in_bytes),
                scaled(rates.out_bytes),
                condition(server).into(),
            ]);
            count += 1;
        }
    }
    if count == 0 {
        return "no servers: add one with `ipvsadm -a`\n".into();
    }
    table.to_string()
}

/// A server's address and port.
pub(super) fn server_text(key: &ServerKey) -> String {
    SocketAddr::new(key.address, key.port).to_string()
}

/// How a server takes connections, if not as usual.
fn condition(server: &ServerView) -> &'static str {
    let settings = &server.settings;
    let total = u64::from(server.active) + u64::from(server.inactive);
    if settings.weight == 0 {
        "quiesced"
    } else if settings.upper_threshold > 0 && total >= u64::from(settings.upper_threshold) {
        "full"
    } else {
        ""
    }
}

/// A forwarding method without its particulars.
pub(super) const fn method_name(method: MethodKind) -> &'static str {
    match method {
        MethodKind::Masq => "masq",
        MethodKind::Route => "route",
        MethodKind::Tunnel => "tunnel",
        MethodKind::FullNat => "full-nat",
    }
}

fn method_text(method: ForwardMethod) -> String {
    match method {
        ForwardMethod::Tunnel(Tunnel::Ipip) => "tunnel ipip".into(),
        ForwardMethod::Tunnel(Tunnel::Gue { port, .. }) => format!("tunnel gue:{port}"),
        ForwardMethod::Tunnel(Tunnel::Gre { .. }) => "tunnel gre".into(),
        other => method_name(other.kind()).into(),
    }
}

fn server_json(service: &ServiceKey, server: &ServerView) -> Value {
    json!({
        "service": keys::service_text(service),
        "server": server_text(&server.key),
        "settings": server.settings,
        "active": server.active,
        "inactive": server.inactive,
        "persistent": server.persistent,
        "stats": server.stats,
        "rates": server.rates,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use evenkeel_core::model::{
        Persistence, Protocol, SchedulerFlags, ServerSettings, ServiceSettings, Stats,
    };

    fn table() -> Vec<ServiceView> {
        let rates = Rates {
            connections: 1200,
            in_bytes: 12_500_000,
            out_bytes: 1_000_000_000,
            ..Rates::default()
        };
        let server = |host, method, weight| ServerView {
            key: ServerKey {
                address: [192, 168, 1, host].into(),
                port: 8080,
            },
            settings: ServerSettings {
                upper_threshold: 100,
                ..ServerSettings::new(method, weight)
            },
            active: 99,
            inactive: 1 - u32::from(weight == 3),
            persistent: 7,
            stats: Stats::default(),
            rates,
        };
        let gue = Tunnel::Gue {
            port: 6080,
            checksum: evenkeel_core::model::TunnelChecksum::None,
        };
        vec![
            ServiceView {
                key: ServiceKey::at(Protocol::Tcp, [10, 0, 0, 10], 80),
                settings: ServiceSettings {
                    flags: SchedulerFlags {
                        port: true,
                        ..SchedulerFlags::default()
                    },
                    persistence: Some(Persistence {
                        timeout_s: 300,
                        netmask: Netmask::V4([255, 255, 255, 0].into()),
                    }),
                    ..ServiceSettings::scheduled_by("sh")
                },
                compatible: true,
                configured: false,
                stats: Stats::default(),
                rates,
                servers: vec![
                    server(1, ForwardMethod::Masq, 3),
                    server(2, ForwardMethod::Tunnel(gue), 0),
                    server(3, ForwardMethod::FullNat, 1),
                ],
            },
            ServiceView {
                key: ServiceKey::Mark {
                    mark: 1,
                    family: evenkeel_core::model::Family::V6,
                },
                settings: ServiceSettings::scheduled_by("wlc"),
                compatible: true,
                configured: false,
                stats: Stats::default(),
                rates: Rates::default(),
                servers: vec![],
            },
        ]
    }

    #[test]
    fn the_services() {
        let expected = "\
service           scheduler  servers  active  inactive  conn/s  in B/s  out B/s
tcp:10.0.0.10:80  sh               3     297         2    1200   12.5M     1.0G  persistent 300 s by 255.255.255.0, port
mark:1:v6         wlc              0       0         0       0       0        0
";
        assert_eq!(services_table(&table()), expected);
        assert_eq!(
            services_table(&[]),
            "no services: add one with `ipvsadm -A`\n"
        );
    }

    #[test]
    fn the_servers() {
        let expected = "\
service           server            method           weight  active  inactive  persistent  conn/s  in B/s  out B/s
tcp:10.0.0.10:80  192.168.1.1:8080  masq                  3      99         0           7    1200   12.5M     1.0G
tcp:10.0.0.10:80  192.168.1.2:8080  tunnel gue:6080       0      99         1           7    1200   12.5M     1.0G  quiesced
tcp:10.0.0.10:80  192.168.1.3:8080  full-nat              1      99         1           7    1200   12.5M     1.0G  full
";
        assert_eq!(servers_table(&table()), expected);
    }

    #[test]
    fn servers_by_name() {
        let key = |text: &str| {
            let end: SocketAddr = text.parse().unwrap();
            ServerKey {
                address: end.ip(),
                port: end.port(),
            }
        };
        let any_port = server("10.0.0.2").unwrap();
        assert!(any_port.is(&key("10.0.0.2:80")) && any_port.is(&key("10.0.0.2:0")));
        assert!(!any_port.is(&key("10.0.0.3:80")));
        let one = server("[fd00::2]:80").unwrap();
        assert!(one.is(&key("[fd00::2]:80")) && !one.is(&key("[fd00::2]:81")));
        assert_eq!(one.to_string(), "[fd00::2]:80");
        assert!(server("10.0.0").is_err() && server("host:80").is_err());
    }
}
