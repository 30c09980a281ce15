//! Where packets between others go.

use std::net::IpAddr;

use evenkeel_datapath::host::{Hop, Route, RouteAnswer};
use evenkeel_kernel::network::{Asker, Forward};

/// What is asked of the network.
pub trait Network {
    /// Index of the interface of this name.
    fn index(&self, name: &str) -> Option<u32>;
    /// Name of the interface with this index; its number if it has none.
    fn name(&self, index: u32) -> String;
    /// Index of the interface by which this host reaches an address.
    fn towards(&mut self, address: IpAddr) -> anyhow::Result<Option<u32>>;
    /// The way from one address to another of packets that come by an interface, as the
    /// kernel tells the packet path.
    fn way(
        &mut self,
        from: IpAddr,
        to: IpAddr,
        protocol: u8,
        ingress: u32,
    ) -> anyhow::Result<Route>;
}

impl Network for Asker {
    fn index(&self, name: &str) -> Option<u32> {
        self.link_named(name).map(|link| link.index)
    }

    fn name(&self, index: u32) -> String {
        let link = self.link(index);
        link.map_or_else(|| index.to_string(), |link| link.name.clone())
    }

    fn towards(&mut self, address: IpAddr) -> anyhow::Result<Option<u32>> {
        Ok(self.towards(address)?)
    }

    fn way(
        &mut self,
        from: IpAddr,
        to: IpAddr,
        protocol: u8,
        ingress: u32,
    ) -> anyhow::Result<Route> {
        Ok(match self.forward(from, to, protocol, ingress)? {
            Forward::Ready {
                interface,
                destination_mac,
                source_mac,
                mtu,
            } => Route {
                answer: RouteAnswer::Ready,
                hop: hop(interface, destination_mac, source_mac, mtu),
            },
            Forward::Unresolved { interface } => Route {
                answer: RouteAnswer::Unresolved,
                hop: Hop {
                    interface,
                    ..Hop::default()
                },
            },
            Forward::ForwardingOff => Route::without_hop(RouteAnswer::ForwardingOff),
            Forward::None => Route::without_hop(RouteAnswer::None),
        })
    }
}

fn hop(interface: u32, to: [u8; 6], from: [u8; 6], mtu: u32) -> Hop {
    // As the frame has them: the two addresses one behind the other.
    let mut pair = [0; 12];
    pair[..6].copy_from_slice(&to);
    pair[6..].copy_from_slice(&from);
    let word = |at: usize| {
        let mut bytes = [0; 4];
        bytes.copy_from_slice(&pair[at..at + 4]);
        u32::from_ne_bytes(bytes)
    };
    Hop {
        interface,
        macs: [word(0), word(4), word(8)],
        mtu,
    }
}

/// No network at all: nothing is reached.
pub struct NoNetwork;

impl Network for NoNetwork {
    fn index(&self, _name: &str) -> Option<u32> {
        None
    }

    fn name(&self, index: u32) -> String {
        index.to_string()
    }

    fn towards(&mut self, _address: IpAddr) -> anyhow::Result<Option<u32>> {
        Ok(None)
    }

    fn way(
        &mut self,
        _from: IpAddr,
        _to: IpAddr,
        _protocol: u8,
        _ingress: u32,
    ) -> anyhow::Result<Route> {
        Ok(Route::without_hop(RouteAnswer::None))
    }
}
