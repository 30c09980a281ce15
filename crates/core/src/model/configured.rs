//! What stands in the configuration beside single settings.

use alloc::string::String;
use alloc::vec::Vec;
use core::net::IpAddr;
use core::ops::RangeInclusive;

use super::{Family, Protocol, ServerKey, ServerSettings, ServiceKey, ServiceSettings};

/// A service with all that it is to have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfiguredService {
    /// Which.
    pub key: ServiceKey,
    /// Its settings.
    pub settings: ServiceSettings,
    /// Its servers.
    pub servers: Vec<(ServerKey, ServerSettings)>,
}

/// Addresses and ports that servers see in place of clients', with source NAT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceNat {
    /// Addresses, at most [`SourceNat::ADDRESSES_MAX`]; without one of a family the
    /// director's own on the way to the server.
    pub addresses: Vec<IpAddr>,
    /// Ports, from 1 on.
    pub ports: RangeInclusive<u16>,
}

impl SourceNat {
    /// Most addresses of both families together.
    pub const ADDRESSES_MAX: usize = evenkeel_datapath::layout::POOL;
}

impl Default for SourceNat {
    /// No addresses; ports below those that Linux gives to its own connections.
    fn default() -> Self {
        Self {
            addresses: Vec::new(),
            ports: 10_240..=32_767,
        }
    }
}

/// Addresses that have their first bits in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefix {
    /// Their first one: all later bits are 0.
    pub address: IpAddr,
    /// How many bits, up to 32 or 128.
    pub bits: u8,
}

/// A rule that gives packets a firewall mark before services are looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MarkRule {
    /// The mark, from 1 on.
    pub mark: u32,
    /// Packets of this protocol; none: of any.
    pub protocol: Option<Protocol>,
    /// Packets from here; none: from anywhere.
    pub source: Option<Prefix>,
    /// Packets to here; none: to anywhere. Of the source's family.
    pub destination: Option<Prefix>,
    /// Packets to these ports, at most [`MarkRule::PORTS_MAX`] ranges; empty: to any.
    pub ports: Vec<RangeInclusive<u16>>,
    /// Packets that came by the interface of this name; none: by any.
    pub interface: Option<String>,
}

impl MarkRule {
    /// Most rules.
    pub const RULES_MAX: usize = evenkeel_datapath::layout::MARK_RULES;
    /// Most ranges of ports of one.
    pub const PORTS_MAX: usize = evenkeel_datapath::layout::MARK_PORTS;

    /// The family of its packets; none: both.
    #[must_use]
    pub fn family(&self) -> Option<Family> {
        let prefix = self.destination.or(self.source);
        prefix.map(|prefix| Family::of(&prefix.address))
    }
}
