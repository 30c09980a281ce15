//! `[closed]`: addresses on which nothing but services is reached.

use std::collections::HashSet;

use evenkeel_core::model::{
    ConfiguredService, Family, Netmask, Persistence, Protocol, ServiceKey, ServiceSettings,
    VirtualServer,
};

use super::{Config, Place, PlacedService};

/// A service of any port needs persistence; without servers no client ever stays.
const PERSISTENCE_S: u32 = 60;

/// Gives each closed address a service for all that no other service takes, which has no
/// servers: who calls it is told so, before the packet comes to what listens on this
/// machine. A service of any port that stands in the file keeps its servers.
pub(super) fn close(config: &mut Config, place: &Place) {
    let there: HashSet<ServiceKey> = config
        .services
        .iter()
        .flat_map(|it| it.service.keys())
        .filter(|key| key.port() == 0)
        .collect();
    for &address in &config.closed {
        for protocol in [Protocol::Tcp, Protocol::Udp, Protocol::Sctp] {
            let key = ServiceKey::at(protocol, address, 0);
            if there.contains(&key) {
                continue;
            }
            let settings = ServiceSettings {
                persistence: Some(Persistence {
                    timeout_s: PERSISTENCE_S,
                    netmask: Netmask::host(Family::of(&address)),
                }),
                compatible: Some(false),
                ..ServiceSettings::scheduled_by("rr")
            };
            config.services.push(PlacedService {
                service: VirtualServer::unwatched(ConfiguredService {
                    key,
                    settings,
                    servers: Vec::new(),
                }),
                place: place.clone(),
                servers: Vec::new(),
            });
        }
    }
}
