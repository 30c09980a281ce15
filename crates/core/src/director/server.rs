//! A real server of one service as the director keeps it.

use core::net::IpAddr;

use evenkeel_datapath::layout::{endpoint_kind, features};

use super::endpoints::Key;
use super::service::Service;
use super::state::NONE;
use crate::model::{
    EditError, Family, ForwardMethod, ServerKey, ServerSettings, ServiceKey, Tunnel, TunnelChecksum,
};

/// Greatest weight: IPVS keeps it in a signed integer.
const WEIGHT_MAX: u32 = i32::MAX as u32;

/// What of a server is to be written, each more than the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Change {
    Nothing,
    /// The record.
    Record,
    /// The record, and that it counts as overloaded no more.
    Relief,
}

/// A real server. Its slot has the same index.
#[derive(Clone, Copy, Debug)]
pub(super) struct Server {
    /// As it was given; port 0: the virtual one.
    pub key: ServerKey,
    pub service: u32,
    pub settings: ServerSettings,
    /// Its weight, or that which it had before it was 0.
    pub last_weight: u32,
    /// A request has added it, and it stands in no configuration.
    pub requested: bool,
    /// False: deleted, and kept for its connections.
    pub live: bool,
    pub deleted_ms: u64,
    /// Rank in the list, descending.
    pub order: u32,
    /// `HOP`, `HOP_READY` and `LOCAL` of
    /// [`server_flags`](evenkeel_datapath::layout::server_flags).
    pub hop_flags: u32,
    /// Neighbours in the service's list of servers, or of deleted ones.
    pub previous: u32,
    pub next: u32,
    /// False: the hop that counts is to be written too.
    pub hop_written: bool,
    /// What is to be written.
    pub change: Change,
    /// Epoch of the journal that has it; 0: none.
    pub saved: u64,
}

impl Server {
    /// A server in no list, of which the memory knows all there is to know.
    pub(super) const fn new(key: ServerKey, service: u32, settings: ServerSettings) -> Self {
        Self {
            key,
            service,
            settings,
            last_weight: 0,
            requested: false,
            live: true,
            deleted_ms: 0,
            order: 0,
            hop_flags: 0,
            previous: NONE,
            next: NONE,
            hop_written: true,
            change: Change::Nothing,
            saved: 0,
        }
    }

    /// The port that it gets packets on; 0: that which they were sent to.
    pub(super) const fn actual_port(&self, service: &Service) -> u16 {
        if self.key.port == 0 {
            service.key.port()
        } else {
            self.key.port
        }
    }

    /// True: it can be a server of this service.
    pub(super) fn can_serve(&self, service: &Service) -> bool {
        check_family(service.key.family(), &self.key, self.settings.method).is_ok()
    }

    /// True: it may have another end than its clients know, so that its answers are to be
    /// translated.
    pub(super) fn translates(&self, service: &Service) -> bool {
        let by_nat = matches!(
            self.settings.method,
            ForwardMethod::Masq | ForwardMethod::FullNat
        );
        let ServiceKey::Address { address, port, .. } = service.key else {
            return by_nat;
        };
        by_nat && (self.key.address != address || self.actual_port(service) != port)
    }

    /// As what packets from it find it ([`endpoint_kind`]). Nothing: its answers go to
    /// the clients by another way.
    fn endpoint_kind(&self, service: &Service) -> Option<u32> {
        match self.settings.method {
            ForwardMethod::Masq if service.is_wide() => Some(endpoint_kind::WIDE_SERVER),
            ForwardMethod::Masq => Some(endpoint_kind::SERVER),
            ForwardMethod::FullNat => Some(endpoint_kind::WIDE_SERVER),
            ForwardMethod::Route | ForwardMethod::Tunnel(_) => None,
        }
    }

    /// What packets from it are found by, one for each protocol.
    pub(super) fn endpoints(&self, service: &Service) -> impl Iterator<Item = Key> + use<> {
        let kind = self.endpoint_kind(service);
        let port = if service.is_ftp() {
            // Data connections come from other ports.
            0
        } else {
            self.actual_port(service)
        };
        let any = kind.map(|kind| Key::at(self.key.address, port, 0, kind));
        let protocols = service.protocols().iter();
        protocols.filter_map(move |protocol| Some(any?.of_protocol(protocol.number())))
    }

    /// What packets have to look for while it is there ([`features`]).
    pub(super) fn features(&self, service: &Service) -> u32 {
        let of_method = match self.settings.method {
            ForwardMethod::FullNat => features::FULL_NAT,
            // Errors about what it is sent come by the family of its address.
            ForwardMethod::Tunnel(_) if self.key.address.is_ipv6() => {
                features::TUNNELS | features::IPV6
            }
            ForwardMethod::Tunnel(_) => features::TUNNELS,
            _ => 0,
        };
        let of_endpoint = match (self.key.address, self.endpoint_kind(service)) {
            (IpAddr::V4(_), Some(endpoint_kind::WIDE_SERVER)) => features::WIDE_SERVERS,
            (IpAddr::V6(_), Some(_)) => features::IPV6,
            _ => 0,
        };
        of_method | of_endpoint
    }
}

/// Settings that a server may have, as they are kept.
pub(super) fn check_settings(settings: &ServerSettings) -> Result<ServerSettings, EditError> {
    if settings.weight > WEIGHT_MAX || settings.lower_threshold > settings.upper_threshold {
        return Err(EditError::OutOfRange);
    }
    let method = match settings.method {
        ForwardMethod::Tunnel(Tunnel::Gue { port: 0, .. }) => return Err(EditError::Invalid),
        ForwardMethod::Tunnel(Tunnel::Gre {
            checksum: TunnelChecksum::Remote,
        }) => ForwardMethod::Tunnel(Tunnel::Gre {
            checksum: TunnelChecksum::None,
        }),
        method => method,
    };
    Ok(ServerSettings {
        method,
        ..*settings
    })
}

/// A server of a service of this family may be of another one only through a tunnel.
pub(super) fn check_family(
    family: Family,
    key: &ServerKey,
    method: ForwardMethod,
) -> Result<(), EditError> {
    if Family::of(&key.address) == family || matches!(method, ForwardMethod::Tunnel(_)) {
        Ok(())
    } else {
        Err(EditError::Invalid)
    }
}

/// The address of a new server is unicast, as `inet_addr_type` and `ipv6_addr_type`
/// see it; of IPv6 more than the link has to know it.
pub(super) fn check_address(address: IpAddr) -> Result<(), EditError> {
    let is_usable = match address {
        IpAddr::V4(address) => {
            let zero_net = address.octets()[0] == 0;
            !(zero_net || address.is_multicast() || address.is_broadcast())
        }
        IpAddr::V6(address) => {
            !(address.is_unspecified()
                || address.is_multicast()
                || address.is_unicast_link_local()
                || address.to_ipv4_mapped().is_some())
        }
    };
    if is_usable {
        Ok(())
    } else {
        Err(EditError::Invalid)
    }
}
