//! The director as its users see it, with a packet path that only schedules.

use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::net::IpAddr;

use evenkeel_datapath::layout::{RING_HEADER, server_flags};
use evenkeel_datapath::memory::Memory;
use evenkeel_datapath::simulated::{Sizes, Tables};

use super::write::{self, Write};
use super::{AsOf, Director, GRACE_MS, Hop, Reach, TRASH_MS};
use crate::model::{
    Edit, EditError, Family, ForwardMethod, MssClamp, Netmask, Persistence, Protocol, ServerKey,
    ServerSettings, ServerView, ServiceKey, ServiceSettings, Sysctl, SysctlValue, Timeouts, Tunnel,
    TunnelChecksum,
};

/// A director with its memory and a clock.
struct Rig {
    tables: Tables,
    director: Director,
    now_ms: u64,
}

impl Rig {
    fn new() -> Self {
        Self::sized(Sizes::default())
    }

    fn sized(sizes: Sizes) -> Self {
        let tables = Tables::new(&sizes);
        let mut director = Director::adopt(&tables.memory(), 0);
        director.write_all(&tables.memory());
        Self {
            tables,
            director,
            now_ms: 0,
        }
    }

    /// A service at port 80, with servers at these ports.
    fn serving(mut self, scheduler: &str, ports: &[u16]) -> (Self, ServiceKey) {
        let key = service(80);
        self.apply(add(key, scheduler));
        for &port in ports {
            self.apply(add_server(key, server(port), 1));
        }
        (self, key)
    }

    fn memory(&self) -> Memory<'_> {
        self.tables.memory()
    }

    fn try_all(&mut self, edits: &[Edit], transaction: bool) -> Vec<(usize, EditError)> {
        let memory = self.tables.memory();
        let refused = self
            .director
            .apply(edits, transaction, &memory, self.now_ms);
        self.director.write_all(&memory);
        refused
    }

    #[allow(
        clippy::needless_pass_by_value,
        reason = "edits read better where they are written without a reference"
    )]
    fn attempt(&mut self, edit: Edit) -> Result<(), EditError> {
        match self.try_all(&[edit], false).pop() {
            Some((_, error)) => Err(error),
            None => Ok(()),
        }
    }

    #[allow(clippy::needless_pass_by_value, reason = "as above")]
    fn apply(&mut self, edit: Edit) {
        assert_eq!(self.attempt(edit.clone()), Ok(()), "{edit:?}");
    }

    fn pass(&mut self, ms: u64) {
        self.now_ms += ms;
        let memory = self.tables.memory();
        self.director.collect(&memory, self.now_ms);
        self.director.write_all(&memory);
    }

    /// Gives a setting of the kernel's that is a number another value.
    fn set(&mut self, setting: Sysctl, number: u32) {
        let value = SysctlValue::Number(number);
        self.apply(Edit::Set { setting, value });
    }

    /// The way to a server is known; packets in tunnels to it have this source.
    fn reach(&mut self, server: IpAddr, source: Option<IpAddr>) {
        let hop = Hop {
            interface: frames::TO_SERVERS,
            destination_mac: [2; 6],
            source_mac: [4; 6],
            mtu: 1500,
            source,
        };
        self.director.set_hop(server, Some(Reach::By(hop)));
        self.director.write_all(&self.tables.memory());
    }

    /// The slot of a service that is there.
    fn index(&self, key: &ServiceKey) -> usize {
        self.director.live_service(key).unwrap() as usize
    }

    /// The server that the packet path would give the next connection to, by index.
    fn next(&self, key: &ServiceKey) -> Option<u32> {
        let memory = self.memory();
        let ring = memory.services[self.index(key)].ring.get();
        let (base, length) = ((ring >> 32) as u32, ring as u32);
        let step = memory.rings[base as usize].add(1).checked_rem(length)?;
        Some(memory.rings[(base + RING_HEADER + step) as usize].get())
    }

    /// The same, by port.
    fn next_port(&self, key: &ServiceKey) -> Option<u16> {
        let server = &self.memory().servers[self.next(key)? as usize];
        assert_ne!(server.flags.get() & server_flags::ALIVE, 0);
        Some(u16::from_be(server.ports.get() as u16))
    }

    fn ports(&self, key: &ServiceKey, count: usize) -> Vec<u16> {
        (0..count).filter_map(|_| self.next_port(key)).collect()
    }

    fn servers(&self, key: &ServiceKey) -> Vec<ServerView> {
        self.director
            .list(Some(key), AsOf::Now, &self.memory())
            .unwrap()
            .remove(0)
            .servers
    }

    /// A daemon that dies and one that takes over.
    fn restart(&mut self) {
        self.director = Director::adopt(&self.tables.memory(), self.now_ms);
        self.director.write_all(&self.tables.memory());
    }
}

fn service(port: u16) -> ServiceKey {
    ServiceKey::at(Protocol::Tcp, [10, 0, 0, 10], port)
}

fn server(port: u16) -> ServerKey {
    ServerKey {
        address: [192, 168, 1, 1].into(),
        port,
    }
}

fn service6(port: u16) -> ServiceKey {
    let address: IpAddr = "2001:db8::10".parse().unwrap();
    ServiceKey::at(Protocol::Udp, address, port)
}

fn server6(port: u16) -> ServerKey {
    ServerKey {
        address: "2001:db8::1:1".parse().unwrap(),
        port,
    }
}

fn mark(mark: u32, family: Family) -> ServiceKey {
    ServiceKey::Mark { mark, family }
}

/// Persistence of a minute, each client for itself.
fn persistent(family: Family) -> Persistence {
    Persistence {
        timeout_s: 60,
        netmask: Netmask::host(family),
    }
}

/// A service as `add` makes it, with other settings.
fn add_with(service: ServiceKey, settings: ServiceSettings) -> Edit {
    Edit::AddService { service, settings }
}

fn add_by(service: ServiceKey, server: ServerKey, method: ForwardMethod) -> Edit {
    Edit::AddServer {
        service,
        server,
        settings: ServerSettings::new(method, 1),
    }
}

fn add(service: ServiceKey, scheduler: &str) -> Edit {
    Edit::AddService {
        service,
        settings: ServiceSettings::scheduled_by(scheduler),
    }
}

fn add_server(service: ServiceKey, server: ServerKey, weight: u32) -> Edit {
    Edit::AddServer {
        service,
        server,
        settings: ServerSettings::new(ForwardMethod::Masq, weight),
    }
}

fn edit_server(service: ServiceKey, server: ServerKey, weight: u32) -> Edit {
    Edit::EditServer {
        service,
        server,
        settings: ServerSettings::new(ForwardMethod::Masq, weight),
    }
}

fn delete_server(service: ServiceKey, server: ServerKey) -> Edit {
    Edit::DeleteServer { service, server }
}

mod bare;
mod configuration;
mod crash;
mod edits;
mod errors;
mod estimates;
mod flood;
mod frames;
mod kinds;
mod leases;
mod maglev;
mod marked;
mod packets;
mod replies;
mod rivals;
mod schedulers;
mod segments;
mod sip;
mod speed;
mod trees;
mod walk;
