//! Links and neighbours as they were last told, and what a message changes.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use netlink_packet_core::NetlinkPayload;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::route::RouteFlags;

use super::{Event, Link};
use crate::netlink::Message;

/// Links, and the neighbours whose MAC address can be used.
#[derive(Debug, Default)]
pub(super) struct Mirror {
    links: BTreeMap<u32, Link>,
    neighbours: HashMap<(u32, IpAddr), [u8; 6]>,
}

impl Mirror {
    /// What a dump tells.
    pub(super) fn of(messages: impl IntoIterator<Item = RouteNetlinkMessage>) -> Self {
        let mut mirror = Self::default();
        for message in messages {
            mirror.apply_route(&message, &mut |_| {});
        }
        mirror
    }

    pub(super) fn links(&self) -> impl Iterator<Item = &Link> {
        self.links.values()
    }

    pub(super) fn link(&self, index: u32) -> Option<&Link> {
        self.links.get(&index)
    }

    /// The MAC address of a neighbour that packets can be sent to now.
    pub(super) fn neighbour(&self, interface: u32, address: IpAddr) -> Option<[u8; 6]> {
        self.neighbours.get(&(interface, address)).copied()
    }

    /// Follows a notification; `emit` gets what it changes.
    pub(super) fn apply(&mut self, message: Message, emit: &mut impl FnMut(Event)) {
        match message {
            Message::NextHops => emit(Event::RoutesChanged),
            Message::Route(message) => {
                if let NetlinkPayload::InnerMessage(message) = message.payload {
                    self.apply_route(&message, emit);
                }
            }
        }
    }

    fn apply_route(&mut self, message: &RouteNetlinkMessage, emit: &mut impl FnMut(Event)) {
        use RouteNetlinkMessage as M;
        match message {
            M::NewLink(message) => {
                if let Some(link) = Link::of(message) {
                    self.set_link(link, emit);
                }
            }
            M::DelLink(message) => {
                if let Some(link) = Link::of(message) {
                    self.remove_link(link.index, emit);
                }
            }
            M::NewNeighbour(message) => {
                if let Some(key) = key(message) {
                    self.set_neighbour(key, usable_mac(message), emit);
                }
            }
            M::DelNeighbour(message) => {
                if let Some(key) = key(message) {
                    self.set_neighbour(key, None, emit);
                }
            }
            // Cloned: an entry of the cache of routes.
            M::NewRoute(route) | M::DelRoute(route)
                if route.header.flags.contains(RouteFlags::Cloned) => {}
            M::NewRoute(_)
            | M::DelRoute(_)
            | M::NewRule(_)
            | M::DelRule(_)
            | M::NewAddress(_)
            | M::DelAddress(_) => emit(Event::RoutesChanged),
            _ => {}
        }
    }

    fn set_link(&mut self, link: Link, emit: &mut impl FnMut(Event)) {
        let interface = link.index;
        let before = self.links.insert(interface, link);
        let after = &self.links[&interface];
        if before.as_ref() == Some(after) {
            return;
        }
        // The routes by a link that goes down are not told to be gone.
        let was_up = before.is_some_and(|before| before.is_up);
        if was_up != after.is_up {
            emit(Event::RoutesChanged);
        }
        emit(Event::LinkChanged { interface });
    }

    fn remove_link(&mut self, interface: u32, emit: &mut impl FnMut(Event)) {
        if self.links.remove(&interface).is_some() {
            self.neighbours.retain(|(by, _), _| *by != interface);
            emit(Event::LinkGone { interface });
            emit(Event::RoutesChanged);
        }
    }

    fn set_neighbour(
        &mut self,
        (interface, address): (u32, IpAddr),
        mac: Option<[u8; 6]>,
        emit: &mut impl FnMut(Event),
    ) {
        let before = match mac {
            Some(mac) => self.neighbours.insert((interface, address), mac),
            None => self.neighbours.remove(&(interface, address)),
        };
        if before != mac {
            emit(Event::NeighbourChanged { interface, address });
        }
    }
}

fn key(message: &NeighbourMessage) -> Option<(u32, IpAddr)> {
    message
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(address)) => {
                Some((message.header.ifindex, IpAddr::from(*address)))
            }
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(address)) => {
                Some((message.header.ifindex, IpAddr::from(*address)))
            }
            _ => None,
        })
}

/// The MAC address, in the states in which the kernel itself would send to it.
pub(super) fn usable_mac(message: &NeighbourMessage) -> Option<[u8; 6]> {
    use NeighbourState as S;
    let usable = matches!(
        message.header.state,
        S::Reachable | S::Stale | S::Delay | S::Probe | S::Permanent | S::Noarp
    );
    message
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            NeighbourAttribute::LinkLayerAddress(mac) if usable => mac.as_slice().try_into().ok(),
            _ => None,
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
    use netlink_packet_route::route::RouteMessage;
    use std::net::Ipv4Addr;

    const SERVER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2));

    fn told(mirror: &mut Mirror, message: &RouteNetlinkMessage) -> Vec<Event> {
        let mut events = Vec::new();
        mirror.apply_route(message, &mut |event| events.push(event));
        events
    }

    fn neighbour(state: NeighbourState, mac: &[u8]) -> RouteNetlinkMessage {
        let mut message = NeighbourMessage::default();
        message.header.ifindex = 3;
        message.header.state = state;
        message
            .attributes
            .push(NeighbourAttribute::Destination(SERVER.into()));
        if !mac.is_empty() {
            message
                .attributes
                .push(NeighbourAttribute::LinkLayerAddress(mac.to_vec()));
        }
        RouteNetlinkMessage::NewNeighbour(message)
    }

    fn link(flags: LinkFlags) -> RouteNetlinkMessage {
        let mut message = LinkMessage::default();
        message.header.index = 3;
        message.header.flags = flags;
        message.attributes.push(LinkAttribute::IfName("v0".into()));
        RouteNetlinkMessage::NewLink(message)
    }

    #[test]
    fn a_neighbour_counts_when_its_mac_or_usability_changes() {
        let changed = vec![Event::NeighbourChanged {
            interface: 3,
            address: SERVER,
        }];
        let mac = [2, 0, 0, 0, 0, 9];
        let mut mirror = Mirror::default();
        assert_eq!(
            told(&mut mirror, &neighbour(NeighbourState::Incomplete, &[])),
            []
        );
        assert_eq!(
            told(&mut mirror, &neighbour(NeighbourState::Reachable, &mac)),
            changed
        );
        assert_eq!(mirror.neighbour(3, SERVER), Some(mac));
        for state in [
            NeighbourState::Stale,
            NeighbourState::Delay,
            NeighbourState::Probe,
        ] {
            assert_eq!(told(&mut mirror, &neighbour(state, &mac)), []);
        }
        let other = [2, 0, 0, 0, 0, 10];
        assert_eq!(
            told(&mut mirror, &neighbour(NeighbourState::Reachable, &other)),
            changed
        );
        // The kernel still tells the address that has failed.
        assert_eq!(
            told(&mut mirror, &neighbour(NeighbourState::Failed, &other)),
            changed
        );
        assert_eq!(mirror.neighbour(3, SERVER), None);
        assert_eq!(
            told(&mut mirror, &neighbour(NeighbourState::Failed, &[])),
            []
        );
    }

    #[test]
    fn a_link_counts_when_it_changes() {
        let mut mirror = Mirror::default();
        let up = LinkFlags::Up | LinkFlags::LowerUp;
        let changed = Event::LinkChanged { interface: 3 };
        assert_eq!(told(&mut mirror, &link(LinkFlags::empty())), [changed]);
        assert_eq!(
            told(&mut mirror, &link(up)),
            [Event::RoutesChanged, changed]
        );
        assert_eq!(told(&mut mirror, &link(up | LinkFlags::Promisc)), []);
    }

    #[test]
    fn a_link_that_goes_takes_its_neighbours_along() {
        let mut mirror = Mirror::default();
        told(&mut mirror, &link(LinkFlags::empty()));
        told(
            &mut mirror,
            &neighbour(NeighbourState::Permanent, &[2, 0, 0, 0, 0, 9]),
        );
        let mut gone = LinkMessage::default();
        gone.header.index = 3;
        let gone = RouteNetlinkMessage::DelLink(gone);
        let events = [Event::LinkGone { interface: 3 }, Event::RoutesChanged];
        assert_eq!(told(&mut mirror, &gone), events);
        assert_eq!(mirror.neighbour(3, SERVER), None);
        assert_eq!(told(&mut mirror, &gone), []);
    }

    #[test]
    fn the_cache_of_routes_does_not_count() {
        let mut mirror = Mirror::default();
        let mut route = RouteMessage::default();
        let message = RouteNetlinkMessage::NewRoute(route.clone());
        assert_eq!(told(&mut mirror, &message), [Event::RoutesChanged]);
        route.header.flags = RouteFlags::Cloned;
        assert_eq!(told(&mut mirror, &RouteNetlinkMessage::NewRoute(route)), []);
    }
}
