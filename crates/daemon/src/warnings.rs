//! What is allowed and likely a mistake, as lines for the log.

use std::fs;
use std::net::IpAddr;
use std::ops::RangeInclusive;

use evenkeel_api::{EditRequest, EditResponse};
use evenkeel_core::director::source_nat;
use evenkeel_core::model::{
    Edit, ForwardMethod, SYSCTL_PREFIX, ServerSettings, ServiceKey, SourceNat, Sysctl, SysctlValue,
};

use crate::shared::Shared;

/// A setting that was set away from its default and changes nothing.
#[must_use]
pub fn without_effect(setting: Sysctl, value: SysctlValue) -> Option<String> {
    let why = setting
        .without_effect()
        .filter(|_| value != setting.default())?;
    let name = setting.name();
    Some(format!(
        "{SYSCTL_PREFIX}{name} = {value} has no effect: {why}"
    ))
}

/// The ports that a machine gives to its own connections.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OwnPorts {
    /// `net.ipv4.ip_local_port_range`; none: not known.
    pub given: Option<RangeInclusive<u16>>,
    /// `net.ipv4.ip_local_reserved_ports`: those of them that are not given.
    pub reserved: Vec<RangeInclusive<u16>>,
}

impl OwnPorts {
    /// Those of this machine, as far as it tells.
    #[must_use]
    pub fn read() -> Self {
        let read = |name: &str| {
            let path = format!("/proc/sys/net/ipv4/{name}");
            fs::read_to_string(path).unwrap_or_default()
        };
        Self::parse(
            &read("ip_local_port_range"),
            &read("ip_local_reserved_ports"),
        )
    }

    /// As the kernel writes them: `32768 60999`, and `8080,9000-9010`.
    fn parse(given: &str, reserved: &str) -> Self {
        let mut given = given
            .split_whitespace()
            .filter_map(|port| port.parse().ok());
        let reserved = reserved.trim().split(',').filter_map(|range| {
            let (low, high) = range.split_once('-').unwrap_or((range, range));
            Some(low.parse().ok()?..=high.parse().ok()?)
        });
        Self {
            given: given
                .next()
                .and_then(|low| given.next().map(|high| low..=high)),
            reserved: reserved.collect(),
        }
    }

    /// The first port of the range that the machine may give to a connection of its own.
    fn first_given(&self, ports: &RangeInclusive<u16>) -> Option<u16> {
        let given = self.given.as_ref()?;
        let mut both = *ports.start().max(given.start())..=*ports.end().min(given.end());
        both.find(|port| !self.reserved.iter().any(|range| range.contains(port)))
    }
}

/// Ports of source NAT that the machine, or a service, may use as well.
pub fn collisions(
    nat: &SourceNat,
    own: &OwnPorts,
    services: impl IntoIterator<Item = ServiceKey>,
) -> Vec<String> {
    let mut warnings = Vec::new();
    let (low, high) = (nat.ports.start(), nat.ports.end());
    if let Some(port) = own.first_given(&nat.ports) {
        warnings.push(format!(
            "source NAT uses the ports {low} to {high}, and this machine gives {port} and maybe \
             more of them to connections of its own: keep them apart by `ports` of [source_nat], \
             or by `sysctl net.ipv4.ip_local_reserved_ports={low}-{high}`"
        ));
    }
    for service in services {
        if let ServiceKey::Address { address, port, .. } = service
            && nat.addresses.contains(&address)
            && (port == 0 || nat.ports.contains(&port))
        {
            warnings.push(format!(
                "service {service} is at an address of source NAT, with a port of its range \
                 {low} to {high}: connections to servers could be taken for its own"
            ));
        }
    }
    warnings
}

/// An address of source NAT that servers' answers do not come to.
#[must_use]
pub fn not_local(address: IpAddr) -> String {
    format!(
        "{address} of [source_nat] is no address of this machine: servers' answers do not come \
         here unless it is routed to it"
    )
}

fn log_collisions(shared: &Shared, services: impl IntoIterator<Item = ServiceKey>) {
    let nat = source_nat(&shared.dataplane().memory());
    for warning in collisions(&nat, &OwnPorts::read(), services) {
        shared.warn_once(warning);
    }
}

/// Logs what is to be said about source NAT; `is_wanted`: whether it is used or not.
pub(crate) fn about_source_nat(shared: &Shared, is_wanted: bool) {
    let services = shared.with_director(|director| {
        let is_used = is_wanted || director.uses_source_nat();
        is_used.then(|| director.service_keys().collect::<Vec<_>>())
    });
    if let Some(services) = services {
        log_collisions(shared, services);
    }
}

/// Logs what is to be said about edits that were made.
pub(crate) fn after(shared: &Shared, request: &EditRequest, response: &EditResponse) {
    if request.transaction && !response.refused.is_empty() {
        return;
    }
    let mut added = Vec::new();
    let mut is_first = false;
    for (index, edit) in request.edits.iter().enumerate() {
        let full_nat = |settings: &ServerSettings| settings.method == ForwardMethod::FullNat;
        let is_refused = || {
            response
                .refused
                .iter()
                .any(|refusal| refusal.index == index)
        };
        match edit {
            Edit::Set { setting, value } if !is_refused() => {
                if let Some(warning) = without_effect(*setting, *value) {
                    tracing::warn!("{warning}");
                }
            }
            Edit::AddService { service, .. } => added.push(*service),
            Edit::AddServer { settings, .. } | Edit::EditServer { settings, .. } => {
                is_first |= full_nat(settings);
            }
            _ => {}
        }
    }
    if is_first {
        about_source_nat(shared, false);
    } else if !added.is_empty() && shared.with_director(|director| director.uses_source_nat()) {
        log_collisions(shared, added);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use evenkeel_core::model::Protocol;

    fn nat(addresses: &[&str], ports: RangeInclusive<u16>) -> SourceNat {
        let addresses = addresses.iter().map(|text| text.parse().unwrap());
        SourceNat {
            addresses: addresses.collect(),
            ports,
        }
    }

    #[test]
    fn own_ports_as_the_kernel_writes_them() {
        let own = OwnPorts::parse("32768\t60999\n", "8080,9000-9010\n");
        assert_eq!(own.given, Some(32_768..=60_999));
        assert_eq!(own.reserved, [8080..=8080, 9000..=9010]);
        assert_eq!(OwnPorts::parse("", "\n"), OwnPorts::default());
        assert!(OwnPorts::read().given.is_some());
    }

    #[test]
    fn ports_that_the_machine_gives_away() {
        let about = |given: &str, reserved: &str| {
            let own = OwnPorts::parse(given, reserved);
            collisions(&nat(&[], 10_240..=32_767), &own, [])
        };
        assert!(about("32768 60999", "").is_empty());
        assert!(about("", "").is_empty());
        let found = about("1024 65535", "10240-20000");
        assert_eq!(found.len(), 1);
        assert!(
            found[0].contains("gives 20001 and"),
            "the first that is not reserved: {}",
            found[0]
        );
        assert!(about("1024 65535", "10240-20000,20001-32767").is_empty());
    }

    #[test]
    fn services_at_an_address_of_source_nat() {
        let nat = nat(&["10.0.0.1", "fd00::1"], 10_240..=32_767);
        let at = |address: &str, port| {
            let address: IpAddr = address.parse().unwrap();
            ServiceKey::at(Protocol::Tcp, address, port)
        };
        let services = [
            at("10.0.0.1", 80),
            at("10.0.0.1", 20_000),
            at("10.0.0.2", 20_000),
            at("fd00::1", 0),
        ];
        let found = collisions(&nat, &OwnPorts::default(), services);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].contains("10.0.0.1:20000") && found[1].contains("[fd00::1]:0"));
    }

    #[test]
    fn settings_that_change_nothing() {
        let set = |setting: Sysctl, number| without_effect(setting, SysctlValue::Number(number));
        assert_eq!(
            set(Sysctl::Conntrack, 1).as_deref(),
            Some(
                "net.ipv4.vs.conntrack = 1 has no effect: packets of services do not pass netfilter"
            )
        );
        assert_eq!(set(Sysctl::Conntrack, 0), None);
        assert_eq!(set(Sysctl::SnatReroute, 1), None);
        assert!(set(Sysctl::SnatReroute, 0).is_some());
        assert_eq!(set(Sysctl::ExpireNodestConn, 1), None);
    }
}
