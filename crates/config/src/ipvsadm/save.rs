//! What `-S` prints: rules that `-R` reads.

use core::fmt::Write;

use evenkeel_core::model::{
    ForwardMethod, ServerSettings, ServiceView, Timeouts, Tunnel, TunnelChecksum,
};

use super::address::{Names, NoNames};
use super::ends::Ends;
use super::flags;
use super::listing::mask;
use super::order;
use super::rules::tunnel_name;

/// What `ipvsadm-save` prints on standard error for an option it does not have.
pub const SAVE_USAGE: &str = "ipvsadm-save: Script to save the IPVS table to stdout.\n\
                              \x20  With the -n option, prints out the table in numeric format.\n";

/// The rules that make this table: each service, then its servers.
///
/// Where names are wanted, one is written only if looking it up gives the same
/// address or port again: what is saved can be restored.
#[must_use]
pub fn save(services: &[ServiceView], numeric: bool, names: &dyn Names) -> String {
    rules(services, Ends::new(numeric, names), |_| String::new())
}

/// The rules that make this table with all that rules can say: the timeouts, and of each
/// server its thresholds, which `-S` leaves out.
#[must_use]
pub fn save_all(services: &[ServiceView], timeouts: &Timeouts) -> String {
    let Timeouts { tcp, tcp_fin, udp } = timeouts;
    let rules = rules(services, Ends::new(true, &NoNames), thresholds);
    format!("--set {tcp} {tcp_fin} {udp}\n{rules}")
}

fn thresholds(settings: &ServerSettings) -> String {
    let mut text = String::new();
    for (option, value) in [
        ("-x", settings.upper_threshold),
        ("-y", settings.lower_threshold),
    ] {
        if value != 0 {
            let _ = write!(text, " {option} {value}");
        }
    }
    text
}

/// The rules; `more` gives what stands behind a server's.
fn rules(
    services: &[ServiceView],
    ends: Ends<'_>,
    more: impl Fn(&ServerSettings) -> String,
) -> String {
    let mut text = String::new();
    let unsorted: Vec<_> = services.iter().collect();
    for service in order::services(&unsorted) {
        let name = ends.service_option(&service.key);
        // Writing into a string cannot fail.
        let _ = writeln!(text, "-A {name}{}", service_options(service));
        let unsorted: Vec<_> = service.servers.iter().collect();
        for server in order::servers(&unsorted) {
            let server_name = ends.server_option(&service.key, &server.key);
            let (method, tunnel) = method_options(server.settings.method);
            let weight = server.settings.weight;
            let more = more(&server.settings);
            let _ = writeln!(
                text,
                "-a {name} -r {server_name} {method} -w {weight}{tunnel}{more}"
            );
        }
    }
    text
}

fn service_options(service: &ServiceView) -> String {
    let settings = &service.settings;
    let mut text = format!(" -s {}", settings.scheduler);
    if let Some(persistence) = &settings.persistence {
        let _ = write!(text, " -p {}", persistence.timeout_s);
        if let Some(mask) = mask(persistence.netmask, service.key.family()) {
            let _ = write!(text, " -M {mask}");
        }
    }
    if let Some(engine) = &settings.engine {
        let _ = write!(text, " --pe {engine}");
    }
    if settings.one_packet {
        text.push_str(" -o");
    }
    if let Some(flags) = flags::names(settings.flags, &settings.scheduler) {
        let _ = write!(text, " -b {flags}");
    }
    text
}

/// What stands before the weight, and what behind it.
fn method_options(method: ForwardMethod) -> (&'static str, String) {
    const fn checksum_option(checksum: TunnelChecksum) -> &'static str {
        match checksum {
            TunnelChecksum::None => "--tun-nocsum",
            TunnelChecksum::Full => "--tun-csum",
            TunnelChecksum::Remote => "--tun-remcsum",
        }
    }
    let tunnel = match method {
        ForwardMethod::Masq => return ("-m", String::new()),
        ForwardMethod::Route => return ("-g", String::new()),
        ForwardMethod::FullNat => return ("--full-nat", String::new()),
        ForwardMethod::Tunnel(tunnel) => tunnel,
    };
    let mut text = format!(" --tun-type {}", tunnel_name(tunnel));
    if let Tunnel::Gue { port, .. } = tunnel {
        let _ = write!(text, " --tun-port {port}");
    }
    if let Tunnel::Gue { checksum, .. } | Tunnel::Gre { checksum } = tunnel {
        let _ = write!(text, " {}", checksum_option(checksum));
    }
    ("-i", text)
}
