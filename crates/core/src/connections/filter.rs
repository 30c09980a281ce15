//! Which connections are wanted.

use alloc::string::String;
use core::net::IpAddr;

use super::Ends;

/// Which connections; those that all of it is true for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Of the protocol with this number; 0: templates of all of a client's protocols.
    pub protocol: Option<u8>,
    /// From these clients.
    pub client: Option<End>,
    /// To these virtual addresses.
    pub virtual_address: Option<End>,
    /// With these servers.
    pub server: Option<End>,
    /// In this state, by its name.
    pub state: Option<String>,
    /// By this firewall mark.
    pub mark: Option<u32>,
    /// Connections, templates, or both.
    pub templates: Templates,
}

/// One end of connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct End {
    /// Addresses that are equal to this one in so many bits; none: all.
    pub network: Option<(IpAddr, u8)>,
    /// Port, host order; none: all.
    pub port: Option<u16>,
}

/// Whether templates of persistence are wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Templates {
    /// Like connections.
    #[default]
    Also,
    /// They alone.
    Only,
    /// Not.
    Without,
}

/// An address of either family as a number; IPv4's as mapped into IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Network(pub(super) u128);

impl Network {
    /// True for an address of IPv4.
    const fn is_ipv4(self) -> bool {
        self.0 >> 32 == 0xffff
    }
}

/// [`Filter`], made ready for being asked millions of times.
pub(super) struct Wanted {
    protocol: Option<u8>,
    state: Option<String>,
    mark: Option<u32>,
    templates: Templates,
    client: WantedEnd,
    virtual_address: WantedEnd,
    server: WantedEnd,
    /// Any of the ends is not just any.
    has_ends: bool,
}

/// [`End`], made ready.
#[derive(Clone, Copy, Default)]
struct WantedEnd {
    /// Address and mask.
    network: Option<(Network, u128)>,
    port: Option<u16>,
}

impl WantedEnd {
    fn of(end: Option<End>) -> Self {
        let End { network, port } = end.unwrap_or_default();
        let network = network.map(|(address, bits)| {
            let (address, bits) = match address {
                IpAddr::V4(address) => (address.to_ipv6_mapped(), 96 + u32::from(bits.min(32))),
                IpAddr::V6(address) => (address, u32::from(bits.min(128))),
            };
            // Of no bits, the shift is one too far.
            let mask = u128::MAX.checked_shl(128 - bits).unwrap_or(0);
            (Network(address.into()), mask)
        });
        Self { network, port }
    }

    fn is(&self, (address, port): (Network, u16)) -> bool {
        let is_network = self.network.is_none_or(|(network, mask)| {
            (network.0 ^ address.0) & mask == 0 && network.is_ipv4() == address.is_ipv4()
        });
        is_network && self.port.is_none_or(|wanted| wanted == port)
    }
}

impl Wanted {
    pub(super) fn of(filter: &Filter) -> Self {
        let Filter {
            protocol,
            client,
            virtual_address,
            server,
            ref state,
            mark,
            templates,
        } = *filter;
        Self {
            protocol,
            state: state.clone(),
            mark,
            templates,
            client: WantedEnd::of(client),
            virtual_address: WantedEnd::of(virtual_address),
            server: WantedEnd::of(server),
            has_ends: client.is_some() || virtual_address.is_some() || server.is_some(),
        }
    }

    pub(super) fn is_kind(&self, protocol: u8, state: &str, template: bool) -> bool {
        let is_kind = match self.templates {
            Templates::Also => true,
            Templates::Only => template,
            Templates::Without => !template,
        };
        is_kind
            && self.protocol.is_none_or(|wanted| wanted == protocol)
            && self.state.as_ref().is_none_or(|wanted| wanted == state)
    }

    pub(super) fn is_mark(&self, mark: Option<u32>) -> bool {
        self.mark.is_none() || self.mark == mark
    }

    pub(super) fn is_between(&self, ends: &Ends) -> bool {
        !self.has_ends
            || (self.client.is(ends.client)
                && self.virtual_address.is(ends.virtual_address)
                && self.server.is(ends.server))
    }
}
