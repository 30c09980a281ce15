//! How packets reach real servers. Who the next hop is, is found out elsewhere;
//! here it gets into the servers' records.

use alloc::vec::Vec;
use core::net::IpAddr;

use evenkeel_datapath::layout::server_flags::{HOP, HOP_READY, LOCAL};
use evenkeel_datapath::memory::Memory;
use hashbrown::HashMap;

use super::records::{self, server_flags_of};
use super::server::Server;
use super::write::Write;
use super::{Director, listing};
use crate::model::{ForwardMethod, Tunnel, TunnelChecksum};

/// The way to a server: what to put in front of a packet and where to send it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hop {
    /// Index of the interface.
    pub interface: u32,
    /// MAC address of the next hop.
    pub destination_mac: [u8; 6],
    /// MAC address of the interface.
    pub source_mac: [u8; 6],
    /// Largest IP packet on this way, bytes.
    pub mtu: u32,
    /// The director's own address on this way: where tunnels come from.
    pub source: Option<IpAddr>,
}

/// Where a server is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Its address is the director's own.
    Local,
    /// By this way.
    By(Hop),
}

impl Reach {
    /// The flags of a server that is reached like this, with hop `which` (0 or
    /// [`HOP`]) as the one that counts.
    pub(super) const fn flags(&self, which: u32) -> u32 {
        match self {
            Self::Local => which | LOCAL,
            Self::By(_) => which | HOP_READY,
        }
    }
}

impl Hop {
    /// As [`evenkeel_datapath::layout::HopWords`]: the interface and the first 12
    /// bytes of the frame.
    fn words(&self) -> [u32; 4] {
        let [d0, d1, d2, d3, d4, d5] = self.destination_mac;
        let [s0, s1, s2, s3, s4, s5] = self.source_mac;
        [
            self.interface,
            u32::from_ne_bytes([d0, d1, d2, d3]),
            u32::from_ne_bytes([d4, d5, s0, s1]),
            u32::from_ne_bytes([s2, s3, s4, s5]),
        ]
    }

    /// The write that makes it a server's hop, the one that its flags name.
    pub(super) fn write(&self, index: u32, server: &Server) -> Write {
        Write::Hop {
            server: index,
            which: (server.hop_flags & HOP) as usize,
            words: self.words(),
            mtu: self.mtu.saturating_sub(overhead(server)),
            source: self.source.map_or([0; 4], records::words),
        }
    }
}

/// Bytes that a server's tunnel puts in front of a packet.
fn overhead(server: &Server) -> u32 {
    let ForwardMethod::Tunnel(tunnel) = server.settings.method else {
        return 0;
    };
    let outer = if server.key.address.is_ipv4() { 20 } else { 40 };
    let inner = match tunnel {
        Tunnel::Ipip => 0,
        // UDP's header and GUE's, which never has options: see the packet path's tunnels.
        Tunnel::Gue { .. } => 8 + 4,
        Tunnel::Gre {
            checksum: TunnelChecksum::Full,
        } => 8,
        Tunnel::Gre { .. } => 4,
    };
    outer + inner
}

impl Director {
    /// The addresses of all servers, each once, deleted ones with connections too.
    #[must_use]
    pub fn server_addresses(&self) -> Vec<IpAddr> {
        let servers = self.state.servers().iter();
        let mut addresses: Vec<IpAddr> = servers.map(|(_, server)| server.key.address).collect();
        addresses.sort_unstable();
        addresses.dedup();
        addresses
    }

    /// True: answers of servers on this machine are to be translated where they leave it.
    #[must_use]
    pub fn has_replies_to_translate(&self, memory: &Memory<'_>) -> bool {
        let servers = self.state.servers().iter();
        let mut local = servers.filter(|(_, server)| server.hop_flags & LOCAL != 0);
        local.any(|(index, server)| {
            if !server.live && !listing::load(memory, index).is_used() {
                return false;
            }
            let service = self.state.services().get(server.service);
            service.is_some_and(|service| server.translates(service))
        })
    }

    /// [`Director::set_hops`] for one address.
    pub fn set_hop(&mut self, address: IpAddr, reach: Option<Reach>) {
        self.set_hops([(address, reach)]);
    }

    /// Sets how the servers with these addresses are reached; nothing: they are
    /// not, or it is not known, and packets take the slow way. Queues what is new.
    pub fn set_hops(&mut self, found: impl IntoIterator<Item = (IpAddr, Option<Reach>)>) {
        let mut news = HashMap::new();
        for (address, reach) in found {
            let before = match reach {
                Some(reach) => self.hops.insert(address, reach),
                None => self.hops.remove(&address),
            };
            // What was adopted is not known here, so that no hop may be news too.
            if before != reach || reach.is_none() {
                news.insert(address, reach);
            }
        }
        if news.is_empty() {
            return;
        }
        let servers = self.state.servers().iter();
        let concerned: Vec<(u32, Option<Reach>)> = servers
            .filter_map(|(index, server)| Some((index, *news.get(&server.key.address)?)))
            .collect();
        for (index, reach) in concerned {
            self.set_servers_hop(index, reach);
        }
        self.state.forget_journal();
        self.state.touched_servers.clear();
    }

    fn set_servers_hop(&mut self, index: u32, reach: Option<Reach>) {
        let Some(&server) = self.state.servers().get(index) else {
            return;
        };
        let present = server.hop_flags & HOP;
        let hop_flags = match &reach {
            // The other one, since packets are using this one.
            Some(reach @ Reach::By(_)) => reach.flags(present ^ HOP),
            Some(reach @ Reach::Local) => reach.flags(present),
            None => present,
        };
        let server = Server {
            hop_flags,
            ..server
        };
        if let Some(Reach::By(hop)) = reach {
            self.writes.push_back(hop.write(index, &server));
        } else if hop_flags == self.state.servers().get(index).map_or(0, |s| s.hop_flags) {
            return;
        }
        self.state.change_server(index, |s| s.hop_flags = hop_flags);
        if let Some(service) = self.state.services().get(server.service) {
            let flags = server_flags_of(&server, service);
            self.writes.push_back(Write::ServerFlags { index, flags });
        }
    }

    /// Forgets hops of addresses that no server has any more.
    pub(super) fn forget_hops(&mut self) {
        if self.hops.is_empty() {
            return;
        }
        let addresses = self.server_addresses();
        self.hops
            .retain(|address, _| addresses.binary_search(address).is_ok());
    }
}
