//! What new entries of the connection table hold.

use crate::layout::{Address, AddressWords, Entry, WideEntry};
use crate::state;
use crate::table::{Aim, By, New, WantedNarrow, WantedWide};

/// A new IPv4 connection's contents.
#[derive(Clone, Copy)]
pub struct Opening {
    /// Client's address.
    pub address: u32,
    /// As [`Entry::client_port`].
    pub port: u32,
    /// Service index.
    pub service: u32,
    /// Server index.
    pub server: u32,
    /// [`crate::hash::server_tag`] of the server.
    pub server_tag: u32,
    /// First state.
    pub state: u32,
}

impl New<Entry> for Opening {
    type Wanted = WantedNarrow;

    #[inline(always)]
    fn write(self, entry: &Entry) {
        entry.hop.set(0);
        entry.client_address.set(self.address);
        entry.client_port.set(self.port);
        entry.service.set(self.service);
        entry.server.set(self.server);
        entry.server_tag.set(self.server_tag);
    }
    #[inline(always)]
    fn server(self) -> u32 {
        self.server
    }
    #[inline(always)]
    fn state(self) -> u32 {
        self.state
    }
    #[inline(always)]
    fn wanted(self) -> WantedNarrow {
        WantedNarrow {
            address: self.address,
            port: self.port,
            by: By::Service(self.service),
        }
    }
}

/// A new wide entry's contents.
#[derive(Clone, Copy)]
pub struct WideOpening {
    /// Client's address.
    pub address: Address,
    /// As [`WideEntry::client_port`].
    pub port: u32,
    /// Address that the client connected to.
    pub virtual_address: Address,
    /// As [`WideEntry::ports`].
    pub ports: u32,
    /// Service index.
    pub service: u32,
    /// Server index.
    pub server: u32,
    /// [`crate::hash::server_tag`] of the server.
    pub server_tag: u32,
    /// First state.
    pub state: u32,
    /// As [`WideEntry::hop`].
    pub hop: u32,
}

impl New<WideEntry> for WideOpening {
    type Wanted = WantedWide;

    #[inline(always)]
    fn write(self, entry: &WideEntry) {
        set_address(&entry.client_address, self.address);
        set_address(&entry.virtual_address, self.virtual_address);
        entry.client_port.set(self.port);
        entry.ports.set(self.ports);
        entry.hop.set(self.hop);
        entry.service.set(self.service);
        entry.server.set(self.server);
        entry.server_tag.set(self.server_tag);
    }
    #[inline(always)]
    fn server(self) -> u32 {
        self.server
    }
    #[inline(always)]
    fn state(self) -> u32 {
        self.state
    }
    #[inline(always)]
    fn wanted(self) -> WantedWide {
        // These are told apart by their tag.
        let by = if matches!(self.state, state::TRANSLATED | state::FRAGMENT) {
            By::ServerTag(self.server_tag)
        } else {
            By::Service(self.service)
        };
        WantedWide {
            address: self.address,
            port: self.port,
            aim: Aim {
                by,
                address: self.virtual_address,
                port: self.ports & 0xffff,
                is_exact: u32::from(!state::is_auxiliary(self.state)),
            },
        }
    }
}

#[inline(always)]
fn set_address(words: &AddressWords, address: Address) {
    words[0].set(address[0]);
    words[1].set(address[1]);
    words[2].set(address[2]);
    words[3].set(address[3]);
}
