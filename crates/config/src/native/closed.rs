//! `[closed]`: addresses on which nothing but services is reached.

use std::collections::HashSet;

use evenkeel_core::model::{
    ConfiguredService, Netmask, Persistence, Protocol, ServiceKey, ServiceSettings,
};

use super::Config;

/// A service of any port needs persistence; without servers no client ever stays.
const PERSISTENCE_S: u32 = 60;

/// For each closed address a service for all that no other service takes, which has no
/// servers: who calls it is told so, before the packet comes to what listens on this
/// machine. A service of any port that stands in the file keeps its servers.
#[must_use]
pub fn closed_services(config: &Config) -> Vec<ConfiguredService> {
    let services = config.services.iter();
    let there: HashSet<ServiceKey> = services
        .flat_map(|it| it.service.keys())
        .filter(|key| key.port() == 0)
        .collect();
    let all = config.closed.iter().flat_map(|&address| {
        let protocols = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp];
        protocols.map(|protocol| ServiceKey::at(protocol, address, 0))
    });
    let missing = all.filter(|key| !there.contains(key));
    let services = missing.map(|key| ConfiguredService {
        key,
        settings: ServiceSettings {
            persistence: Some(Persistence {
                timeout_s: PERSISTENCE_S,
                netmask: Netmask::host(key.family()),
            }),
            compatible: Some(false),
            ..ServiceSettings::scheduled_by("rr")
        },
        servers: Vec::new(),
    });
    services.collect()
}
