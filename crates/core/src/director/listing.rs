//! The table as it is listed, with the counters that the packet path keeps.

use alloc::vec::Vec;

use evenkeel_datapath::layout::features;
use evenkeel_datapath::layout::server_flags::{HOP_READY, LOCAL};
use evenkeel_datapath::memory::Memory;
use evenkeel_datapath::word::Word;

use super::Director;
use super::service::Service;
use crate::model::{
    Rates, ServerView, ServiceKey, ServiceSettings, ServiceView, Stats, Sysctls, Timeouts,
};

impl Stats {
    fn with(&self, other: &Self, f: impl Fn(u64, u64) -> u64) -> Self {
        Self {
            connections: f(self.connections, other.connections),
            in_packets: f(self.in_packets, other.in_packets),
            out_packets: f(self.out_packets, other.out_packets),
            in_bytes: f(self.in_bytes, other.in_bytes),
            out_bytes: f(self.out_bytes, other.out_bytes),
        }
    }

    /// The sum. It wraps, so that an offset below 0 can be kept as a number.
    pub(super) fn plus(&self, other: &Self) -> Self {
        self.with(other, u64::wrapping_add)
    }

    /// The difference, wrapping.
    pub(super) fn less(&self, other: &Self) -> Self {
        self.with(other, u64::wrapping_sub)
    }
}

/// All that the packet path has counted for a server's slot.
pub(super) fn counted(memory: &Memory<'_>, server: u32) -> Stats {
    let mut sum = Stats::default();
    for row in memory.counters.chunks_exact(memory.servers.len().max(1)) {
        if let Some(counters) = row.get(server as usize) {
            sum = sum.plus(&Stats {
                connections: counters.connections.get(),
                in_packets: counters.in_packets.get(),
                out_packets: counters.out_packets.get(),
                in_bytes: counters.in_bytes.get(),
                out_bytes: counters.out_bytes.get(),
            });
        }
    }
    sum
}

/// A server's connections, and templates of persistence.
pub(super) struct Counts {
    active: u32,
    inactive: u32,
    persistent: u32,
}

impl Counts {
    /// True: something still refers to the server.
    pub(super) const fn is_used(&self) -> bool {
        self.active | self.inactive | self.persistent != 0
    }
}

pub(super) fn load(memory: &Memory<'_>, server: u32) -> Counts {
    // The packet path may take from one counter before it gives to the other, and
    // between two reads; what would be below 0 is none.
    let shown = |count: &Word| {
        let count = count.get();
        if count > i32::MAX as u32 { 0 } else { count }
    };
    let load = memory.loads.get(server as usize);
    Counts {
        active: load.map_or(0, |load| shown(&load.active)),
        inactive: load.map_or(0, |load| shown(&load.inactive)),
        persistent: load.map_or(0, |load| shown(&load.persistent)),
    }
}

/// Of when the counters are that a listing shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AsOf {
    /// This moment.
    Now,
    /// The last [`Director::sample`], as IPVS has it; this moment where nobody samples.
    LastSample,
}

impl Director {
    /// All services, or one; nothing if that one is not there.
    #[must_use]
    pub fn list(
        &self,
        only: Option<&ServiceKey>,
        as_of: AsOf,
        memory: &Memory<'_>,
    ) -> Option<Vec<ServiceView>> {
        if let Some(key) = only {
            let index = self.live_service(key)?;
            let service = self.state.services().get(index)?;
            return Some([self.view(index, service, as_of, memory)].into());
        }
        let live = self.state.services().iter().filter(|(_, s)| s.live);
        Some(
            live.map(|(index, service)| self.view(index, service, as_of, memory))
                .collect(),
        )
    }

    /// The service in a slot of the memory, deleted or not.
    #[must_use]
    pub fn service_at(&self, index: u32) -> Option<(ServiceKey, ServiceSettings)> {
        let service = self.state.services().get(index)?;
        Some((service.key, service.settings.into()))
    }

    /// The server in a slot of the memory, without its traffic, and whether it was deleted.
    #[must_use]
    pub fn server_at(&self, index: u32, memory: &Memory<'_>) -> Option<(ServerView, bool)> {
        let server = self.state.servers().get(index)?;
        let counts = load(memory, index);
        let view = ServerView {
            key: server.key,
            settings: server.settings,
            active: counts.active,
            inactive: counts.inactive,
            persistent: counts.persistent,
            stats: Stats::default(),
            rates: Rates::default(),
        };
        Some((view, !server.live))
    }

    /// The servers of the service in a slot of the memory, with their own slots, in the order
    /// of listings and without their traffic.
    #[must_use]
    pub fn servers_of(&self, index: u32, memory: &Memory<'_>) -> Vec<(u32, ServerView)> {
        let Some(service) = self.state.services().get(index) else {
            return Vec::new();
        };
        let servers = self.state.list(service.head);
        let views = servers.filter_map(|(slot, _)| Some((slot, self.server_at(slot, memory)?.0)));
        views.collect()
    }

    fn view(&self, index: u32, service: &Service, as_of: AsOf, memory: &Memory<'_>) -> ServiceView {
        let servers = self.state.list(service.head).map(|(index, server)| {
            let counts = load(memory, index);
            let zero = self.state.zeros.get(&index).copied().unwrap_or_default();
            ServerView {
                key: server.key,
                settings: server.settings,
                active: counts.active,
                inactive: counts.inactive,
                persistent: counts.persistent,
                stats: self.shown(index, as_of, memory).less(&zero),
                rates: self.estimates.of_server(index),
            }
        });
        ServiceView {
            key: service.key,
            settings: service.settings.into(),
            compatible: service.compatible,
            configured: service.configured,
            stats: self
                .sum_of_servers(index, as_of, memory)
                .plus(&service.carry),
            rates: self.estimates.of_service(index),
            servers: servers.collect(),
        }
    }

    fn shown(&self, server: u32, as_of: AsOf, memory: &Memory<'_>) -> Stats {
        match as_of {
            AsOf::Now => counted(memory, server),
            AsOf::LastSample => self.estimates.counted(memory, server),
        }
    }

    /// What was counted for the servers of a service, the deleted ones too.
    pub(super) fn sum_of_servers(&self, service: u32, as_of: AsOf, memory: &Memory<'_>) -> Stats {
        let Some(service) = self.state.services().get(service) else {
            return Stats::default();
        };
        let servers = self
            .state
            .list(service.head)
            .chain(self.state.list(service.trash));
        servers.fold(Stats::default(), |sum, (index, _)| {
            sum.plus(&self.shown(index, as_of, memory))
        })
    }

    /// The servers in use, deleted ones with connections too, and the service of each,
    /// by index.
    pub fn servers_in_use(&self) -> impl Iterator<Item = (u32, u32)> {
        let servers = self.state.servers().iter();
        servers.map(|(index, server)| (index, server.service))
    }

    /// The timeouts of connections.
    #[must_use]
    pub fn timeouts(&self) -> Timeouts {
        self.state.timeouts
    }

    /// The settings of `net.ipv4.vs`.
    #[must_use]
    pub fn sysctls(&self) -> Sysctls {
        self.state.sysctls
    }

    /// True: a server is reached by source NAT.
    #[must_use]
    pub fn uses_source_nat(&self) -> bool {
        self.state.features.bits() & features::FULL_NAT != 0
    }

    /// The services, by name.
    pub fn service_keys(&self) -> impl Iterator<Item = ServiceKey> {
        let live = self.state.services().iter().filter(|(_, s)| s.live);
        live.map(|(_, service)| service.key)
    }

    /// Number of services.
    #[must_use]
    pub fn service_count(&self) -> usize {
        self.state.services().iter().filter(|(_, s)| s.live).count()
    }

    /// Number of servers.
    #[must_use]
    pub fn server_count(&self) -> usize {
        self.state.servers().iter().filter(|(_, s)| s.live).count()
    }

    /// Number of servers whose next hop is not known.
    #[must_use]
    pub fn servers_without_hop(&self) -> usize {
        let servers = self.state.servers().iter();
        servers
            .filter(|(_, s)| s.live && s.hop_flags & (HOP_READY | LOCAL) == 0)
            .count()
    }
}
