//! How packets reach real servers. Who the next hop is, is found out elsewhere;
//! here it gets into the servers' records.

use alloc::vec::Vec;
use core::net::Ipv4Addr;

use evenkeel_datapath::layout::server_flags::{HOP, HOP_READY};
use hashbrown::HashMap;

use super::Director;
use super::plan::server_record;
use super::write::Write;

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

    /// The write that makes it hop `which` of a server.
    pub(super) fn write(&self, server: u32, which: usize) -> Write {
        Write::Hop {
            server,
            which,
            words: self.words(),
            mtu: self.mtu,
        }
    }
}

impl Director {
    /// The addresses of all servers, each once, deleted ones with connections too.
    #[must_use]
    pub fn server_addresses(&self) -> Vec<Ipv4Addr> {
        let servers = self.state.servers().iter();
        let mut addresses: Vec<Ipv4Addr> = servers.map(|(_, server)| server.address).collect();
        addresses.sort_unstable();
        addresses.dedup();
        addresses
    }

    /// [`Director::set_hops`] for one address.
    pub fn set_hop(&mut self, address: Ipv4Addr, hop: Option<Hop>) {
        self.set_hops([(address, hop)]);
    }

    /// Sets how the servers with these addresses are reached; nothing: they are
    /// not, or it is not known, and packets take the slow way. Queues what is new.
    pub fn set_hops(&mut self, found: impl IntoIterator<Item = (Ipv4Addr, Option<Hop>)>) {
        let mut news = HashMap::new();
        for (address, hop) in found {
            let before = match hop {
                Some(hop) => self.hops.insert(address, hop),
                None => self.hops.remove(&address),
            };
            // What was adopted is not known here, so that no hop may be news too.
            if before != hop || hop.is_none() {
                news.insert(address, hop);
            }
        }
        if news.is_empty() {
            return;
        }
        let servers = self.state.servers().iter();
        let concerned: Vec<(u32, Option<Hop>)> = servers
            .filter_map(|(index, server)| Some((index, *news.get(&server.address)?)))
            .collect();
        for (index, hop) in concerned {
            self.set_servers_hop(index, hop);
        }
        self.state.forget_journal();
        self.state.touched_servers.clear();
    }

    fn set_servers_hop(&mut self, index: u32, hop: Option<Hop>) {
        let Some(&server) = self.state.servers().get(index) else {
            return;
        };
        let flags = match hop {
            Some(hop) => {
                // The other one, since packets are using this one.
                let which = (server.hop_flags & HOP) ^ HOP;
                self.writes.push_back(hop.write(index, which as usize));
                which | HOP_READY
            }
            None => server.hop_flags & !HOP_READY,
        };
        if flags == server.hop_flags {
            return;
        }
        self.state.change_server(index, |s| s.hop_flags = flags);
        let Some(server) = self.state.servers().get(index) else {
            return;
        };
        if let Some(service) = self.state.services().get(server.service) {
            let flags = server_record(server, service).flags;
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
