//! What services and servers are found by in the director's own tables: small, and
//! quick to hash, since a transaction looks for hundreds of thousands.

use core::hash::{Hash, Hasher};
use core::net::IpAddr;

use crate::model::{Family, ServerKey, ServiceKey};

/// A key as numbers: an address, or a mark, and what goes with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Name {
    address: [u64; 2],
    rest: u64,
}

impl Hash for Name {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let [upper, lower] = self.address;
        state.write_u64(upper);
        state.write_u64(lower);
        state.write_u64(self.rest);
    }
}

/// An address as a number, and its family.
fn number(address: IpAddr) -> ([u64; 2], u64) {
    match address {
        IpAddr::V4(address) => ([0, address.to_bits().into()], 4),
        IpAddr::V6(address) => {
            let bits = address.to_bits();
            ([(bits >> 64) as u64, bits as u64], 6)
        }
    }
}

impl Name {
    /// That of a service.
    pub(super) fn service(key: &ServiceKey) -> Self {
        match *key {
            ServiceKey::Address {
                protocol,
                address,
                port,
            } => {
                let (address, family) = number(address);
                let port = u64::from(port) << 16 | u64::from(protocol.number()) << 8;
                Self {
                    address,
                    rest: port | family,
                }
            }
            ServiceKey::Mark { mark, family } => Self {
                address: [0, mark.into()],
                // No protocol has this number.
                rest: 0xff << 8 | if family == Family::V4 { 4 } else { 6 },
            },
        }
    }

    /// That of a server of a service.
    pub(super) fn server(service: u32, key: &ServerKey) -> Self {
        let (address, family) = number(key.address);
        let port = u64::from(key.port) << 8 | family;
        Self {
            address,
            rest: u64::from(service) << 32 | port,
        }
    }
}
