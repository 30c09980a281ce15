//! Asks the kernel where packets between others would go, as the packet path does by
//! `bpf_fib_lookup`: by netlink, for who has no packet.

use std::fs;
use std::io;
use std::net::IpAddr;

use netlink_packet_route::link::LinkMessage;
use netlink_packet_route::neighbour::{NeighbourAttribute, NeighbourMessage};
use netlink_packet_route::route::{RouteAttribute, RouteMessage, RouteType};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use nix::libc;

use super::link::Link;
use super::mirror::{Mirror, usable_mac};
use super::{Found, family, is_unreachable, route_request};
use crate::error::{Attempt, Result};
use crate::netlink::Socket;

/// Where packets of others go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forward {
    /// To a neighbour whose MAC address is known.
    Ready {
        /// Index of the interface.
        interface: u32,
        /// The neighbour's MAC address.
        destination_mac: [u8; 6],
        /// The interface's MAC address.
        source_mac: [u8; 6],
        /// Largest IP packet on this way, bytes.
        mtu: u32,
    },
    /// To a neighbour whose MAC address is not known.
    Unresolved {
        /// Index of the interface.
        interface: u32,
    },
    /// Nowhere: forwarding is off on the interface that they come by.
    ForwardingOff,
    /// Nowhere: no route, or one that leads to this host or forbids.
    None,
}

/// The network namespace that the opening thread is in, as it is when it is asked.
pub struct Asker {
    socket: Socket,
    links: Mirror,
}

impl Asker {
    /// Reads which links there are.
    pub fn open() -> Result<Self> {
        let request = RouteNetlinkMessage::GetLink(LinkMessage::default());
        let mut socket = Socket::new().attempt(|| "ask the network by netlink".into())?;
        let links = socket
            .dump(&request)
            .attempt(|| "list the network interfaces".into())?;
        Ok(Self {
            socket,
            links: Mirror::of(links),
        })
    }

    /// The link with this index.
    #[must_use]
    pub fn link(&self, interface: u32) -> Option<&Link> {
        self.links.link(interface)
    }

    /// The link of this name.
    #[must_use]
    pub fn link_named(&self, name: &str) -> Option<&Link> {
        self.links.links().find(|link| link.name == name)
    }

    /// The interface by which this host reaches an address, if it does.
    pub fn towards(&mut self, address: IpAddr) -> Result<Option<u32>> {
        let route = self.route(address, &[])?;
        Ok(route.and_then(|route| Found::of(&route).interface))
    }

    /// Where packets from one address to another go that come by an interface.
    pub fn forward(
        &mut self,
        from: IpAddr,
        to: IpAddr,
        protocol: u8,
        ingress: u32,
    ) -> Result<Forward> {
        let link = self.links.link(ingress);
        if link.is_some_and(|link| !forwards(link, to)) {
            return Ok(Forward::ForwardingOff);
        }
        // As a packet that comes in. Unlike the packet path the kernel looks for a way
        // back then; where it finds none, as one without a source.
        let incoming = [
            RouteAttribute::Source(from.into()),
            RouteAttribute::Iif(ingress),
            RouteAttribute::IpProto(protocol),
        ];
        let mut route = None;
        if link.is_some() {
            route = self.route(to, &incoming)?;
        }
        if route.is_none() {
            route = self.route(to, &[])?;
        }
        match route {
            Some(route) => self.resolve(to, &route),
            None => Ok(Forward::None),
        }
    }

    /// The route to an address; nothing where there is none.
    fn route(&mut self, to: IpAddr, more: &[RouteAttribute]) -> Result<Option<RouteMessage>> {
        let mut request = route_request(to);
        if !more.is_empty() {
            request.header.source_prefix_length = request.header.destination_prefix_length;
        }
        request.attributes.extend_from_slice(more);
        let request = RouteNetlinkMessage::GetRoute(request);
        match self.socket.request(request, 0) {
            Ok(answers) => Ok(answers.into_iter().find_map(|answer| match answer {
                RouteNetlinkMessage::NewRoute(route) => Some(route),
                _ => None,
            })),
            Err(error) if is_refusal(&error) => Ok(None),
            Err(error) => Err(error).attempt(|| format!("look up the route to {to}")),
        }
    }

    fn resolve(&mut self, to: IpAddr, route: &RouteMessage) -> Result<Forward> {
        let found = Found::of(route);
        let link = found.interface.and_then(|index| self.links.link(index));
        let is_way = route.header.kind == RouteType::Unicast && !found.encapsulated;
        let (true, Some(link)) = (is_way, link.cloned()) else {
            return Ok(Forward::None);
        };
        let interface = link.index;
        if link.is_bare() {
            // Nobody there has an address that would have to be known.
            return Ok(Forward::Unresolved { interface });
        }
        let (true, Some(source_mac)) = (link.is_ethernet(), link.mac) else {
            return Ok(Forward::None);
        };
        let neighbour = self.neighbour(interface, found.gateway.unwrap_or(to))?;
        Ok(match neighbour {
            Some(destination_mac) => Forward::Ready {
                interface,
                destination_mac,
                source_mac,
                mtu: found.mtu.map_or(link.mtu, |mtu| mtu.min(link.mtu)),
            },
            None => Forward::Unresolved { interface },
        })
    }

    /// The MAC address of a neighbour, if packets can be sent to it now.
    fn neighbour(&mut self, interface: u32, address: IpAddr) -> Result<Option<[u8; 6]>> {
        let mut message = NeighbourMessage::default();
        message.header.family = family(address);
        message.header.ifindex = interface;
        message
            .attributes
            .push(NeighbourAttribute::Destination(address.into()));
        match self
            .socket
            .request(RouteNetlinkMessage::GetNeighbour(message), 0)
        {
            Ok(answers) => Ok(answers.iter().find_map(|answer| match answer {
                RouteNetlinkMessage::NewNeighbour(neighbour) => usable_mac(neighbour),
                _ => None,
            })),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
            Err(error) => Err(error).attempt(|| format!("look up the neighbour {address}")),
        }
    }
}

/// True for what the kernel says instead of a route. A source that it would not take on
/// this interface is told by EXDEV.
fn is_refusal(error: &io::Error) -> bool {
    is_unreachable(error) || error.raw_os_error() == Some(libc::EXDEV)
}

/// True: packets that come by the link are forwarded. False only where the kernel says so.
fn forwards(link: &Link, to: IpAddr) -> bool {
    let family = match family(to) {
        AddressFamily::Inet => "ipv4",
        _ => "ipv6",
    };
    let path = format!("/proc/sys/net/{family}/conf/{}/forwarding", link.name);
    fs::read_to_string(path).map_or(true, |value| value.trim() != "0")
}
