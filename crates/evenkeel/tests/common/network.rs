//! A network for traces: clients are outside, servers inside.

use std::net::IpAddr;

use anyhow::Result;
use evenkeel_core::director::{Hop, Reach};
use evenkeel_daemon::trace::Network;
use evenkeel_datapath::host::{Hop as Way, Route, RouteAnswer};

use super::daemon::Daemon;
use evenkeel_daemon::dataplane::{Dataplane, InMemory};

/// Interfaces, by number from 1.
const INTERFACES: [&str; 2] = ["outside", "inside"];
const OUTSIDE: u32 = 1;
const INSIDE: u32 = 2;
const MTU: u32 = 1500;

/// All that is asked about is a client.
pub(crate) struct Outside;

impl Network for Outside {
    fn index(&self, name: &str) -> Option<u32> {
        let place = INTERFACES.iter().position(|known| *known == name)?;
        u32::try_from(place + 1).ok()
    }

    fn name(&self, index: u32) -> String {
        let name = INTERFACES.get(index as usize - 1);
        name.map_or_else(|| index.to_string(), |name| (*name).into())
    }

    fn towards(&mut self, _: IpAddr) -> Result<Option<u32>> {
        Ok(Some(OUTSIDE))
    }

    fn way(&mut self, _: IpAddr, _: IpAddr, _: u8, _: u32) -> Result<Route> {
        let hop = Way {
            interface: OUTSIDE,
            macs: [u32::from_ne_bytes([2, 0, 0, 0]), 0, 0],
            mtu: MTU,
        };
        Ok(Route {
            answer: RouteAnswer::Ready,
            hop,
        })
    }
}

/// Tells the daemon the ways to servers, and the director's own address on each, as the
/// network does; and that all interfaces are attached to.
pub(crate) fn reach(daemon: &Daemon, dataplane: &InMemory, servers: &[(&str, &str)]) {
    daemon.shared().with_director(|director| {
        for (number, (server, own)) in (1..).zip(servers) {
            let hop = Hop {
                interface: INSIDE,
                destination_mac: [2, 0, 0, 0, 1, number],
                source_mac: [2, 0, 0, 0, 0, 3],
                mtu: MTU,
                source: own.parse().ok(),
            };
            let address: IpAddr = server.parse().expect("an address");
            director.set_hop(address, Some(Reach::By(hop)));
            let own: IpAddr = own.parse().expect("an address");
            director.set_hop(own, Some(Reach::Local));
        }
    });
    let outside = &dataplane.memory().interfaces[OUTSIDE as usize];
    outside.index.set(OUTSIDE);
    outside.mac_low.set(u32::from_ne_bytes([2, 0, 0, 0]));
    daemon.shared().with_interfaces(|interfaces| {
        for (index, name) in (1..).zip(INTERFACES) {
            interfaces.push(evenkeel_api::InterfaceStatus {
                index,
                name: name.into(),
                hook: "xdp+tc (tcx)".into(),
                why: String::new(),
            });
        }
    });
}
