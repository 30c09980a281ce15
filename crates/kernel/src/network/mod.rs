//! What the kernel knows of the network: links, neighbours, routes. Links and
//! neighbours are mirrored here, routes are asked for one at a time.

mod ask;
mod link;
mod mirror;

use std::collections::VecDeque;
use std::io;
use std::net::IpAddr;
use std::time::Duration;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_REPLACE};
use netlink_packet_route::link::LinkMessage;
use netlink_packet_route::neighbour::{NeighbourAttribute, NeighbourFlags, NeighbourMessage};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteMessage, RouteMetric, RouteType, RouteVia,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use nix::libc;
use tokio::io::unix::AsyncFd;
use tokio::time::Instant;

pub use ask::{Asker, Forward};
pub use link::{Link, LinkLayer};

use crate::error::{Attempt, Result};
use crate::netlink::{Message, Socket};
use mirror::Mirror;

/// RTNLGRP numbers: links, neighbours, IPv4 addresses, routes and rules, IPv6 routes and
/// rules, next hops. Of IPv6 addresses, the routes that come with them are enough; they
/// themselves are told anew with each advertisement of a router.
const GROUPS: [u32; 8] = [1, 3, 5, 7, 8, 11, 19, 32];
/// Datagrams read before events are given out, so that a burst makes one event of
/// each kind, and a flood does not keep them back for ever.
const BATCH: usize = 64;
/// More datagrams than can be waiting.
const WAITING: usize = 1 << 16;
/// Least time between two readings of everything.
const RESYNC_INTERVAL: Duration = Duration::from_secs(1);

/// Something in the network has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// A link is new, or something of [`Link`] has changed.
    LinkChanged {
        /// Its index.
        interface: u32,
    },
    /// A link is gone from this network namespace.
    LinkGone {
        /// Its index; it may be given to another.
        interface: u32,
    },
    /// A neighbour's MAC address has become known, has changed or is not usable any
    /// more.
    NeighbourChanged {
        /// The interface it is reached by.
        interface: u32,
        /// Its address.
        address: IpAddr,
    },
    /// Routes, rules, addresses or next hops have changed: ask again for what was
    /// asked for before.
    RoutesChanged,
    /// Notifications were lost and everything was read again: all of the above may
    /// have happened.
    Resync,
}

/// Where packets for an address go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NextHop {
    /// To a neighbour whose MAC address is known.
    Ready {
        /// Index of the interface.
        interface: u32,
        /// The neighbour's address.
        gateway: IpAddr,
        /// The neighbour's MAC address.
        destination_mac: [u8; 6],
        /// The interface's MAC address.
        source_mac: [u8; 6],
        /// Largest IP packet on this way, bytes.
        mtu: u32,
        /// The address that this host takes for its own packets on this way.
        source: Option<IpAddr>,
    },
    /// To a neighbour whose MAC address is not known, see [`Network::probe`].
    Unresolved {
        /// Index of the interface.
        interface: u32,
        /// The neighbour's address.
        gateway: IpAddr,
    },
    /// To this host itself.
    Local,
    /// Nowhere: no route, a route that forbids, or an interface that is not
    /// Ethernet.
    Unreachable,
}

/// Notifications, as they came.
#[derive(Default)]
struct Batch {
    messages: Vec<Message>,
    /// The kernel had to throw some away.
    lost: bool,
}

/// The network namespace that the opening thread is in.
pub struct Network {
    requests: Socket,
    notifications: AsyncFd<Socket>,
    mirror: Mirror,
    events: VecDeque<Event>,
    /// Notifications were lost and not everything was read again yet.
    lost: bool,
    synced: Instant,
}

impl Network {
    /// Reads the present state and subscribes to its changes. Must be called in a
    /// tokio runtime with IO and time.
    pub fn open() -> Result<Self> {
        let action = || "follow the network by netlink".to_owned();
        let notifications = Socket::for_notifications(&GROUPS)
            .and_then(Socket::into_async)
            .attempt(action)?;
        let requests = Socket::new().attempt(action)?;
        let mut network = Self {
            requests,
            notifications,
            mirror: Mirror::default(),
            events: VecDeque::new(),
            lost: false,
            synced: Instant::now(),
        };
        network.read_everything()?;
        Ok(network)
    }

    /// All links, by index.
    pub fn links(&self) -> impl Iterator<Item = &Link> {
        self.mirror.links()
    }

    /// The link with this index.
    #[must_use]
    pub fn link(&self, interface: u32) -> Option<&Link> {
        self.mirror.link(interface)
    }

    /// Waits for the next change. Nothing is lost when the future is dropped.
    pub async fn next_event(&mut self) -> Result<Event> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Ok(event);
            }
            if self.lost {
                tokio::time::sleep_until(self.synced + RESYNC_INTERVAL).await;
                self.resync()?;
                continue;
            }
            let batch = self
                .receive()
                .await
                .attempt(|| "read netlink notifications".into())?;
            self.lost = batch.lost;
            for message in batch.messages {
                self.mirror
                    .apply(message, &mut |event| note(&mut self.events, event));
            }
        }
    }

    /// Where packets from this host to `address` go.
    pub fn next_hop(&mut self, address: IpAddr) -> Result<NextHop> {
        let request = RouteNetlinkMessage::GetRoute(route_request(address));
        let answers = match self.requests.request(request, 0) {
            Ok(answers) => answers,
            Err(error) if is_unreachable(&error) => return Ok(NextHop::Unreachable),
            Err(error) => return Err(error).attempt(|| format!("look up the route to {address}")),
        };
        let route = answers.iter().find_map(|answer| match answer {
            RouteNetlinkMessage::NewRoute(route) => Some(route),
            _ => None,
        });
        Ok(route.map_or(NextHop::Unreachable, |route| {
            self.next_hop_of(address, route)
        }))
    }

    /// Makes the kernel find out a neighbour's MAC address, or see to it that the
    /// one it has is still right. What it finds comes as
    /// [`Event::NeighbourChanged`].
    ///
    /// Packets that the dataplane sends do not count as use for the kernel: without
    /// a probe now and then (30 s is what the kernel takes an answer to be good
    /// for) it never notices that a neighbour has gone.
    pub fn probe(&mut self, interface: u32, gateway: IpAddr) -> Result<()> {
        let mut message = NeighbourMessage::default();
        message.header.family = family(gateway);
        message.header.ifindex = interface;
        message.header.flags = NeighbourFlags::Use;
        message
            .attributes
            .push(NeighbourAttribute::Destination(gateway.into()));
        let message = RouteNetlinkMessage::NewNeighbour(message);
        self.requests
            .request(message, NLM_F_CREATE | NLM_F_REPLACE)
            .map(drop)
            .attempt(|| format!("resolve {gateway} on interface {interface}"))
    }

    fn next_hop_of(&self, address: IpAddr, route: &RouteMessage) -> NextHop {
        let found = Found::of(route);
        let Some(link) = found
            .interface
            .and_then(|interface| self.mirror.link(interface))
        else {
            return NextHop::Unreachable;
        };
        match route.header.kind {
            RouteType::Local => return NextHop::Local,
            RouteType::Unicast if !found.encapsulated => {}
            _ => return NextHop::Unreachable,
        }
        let (true, Some(source_mac)) = (link.is_ethernet(), link.mac) else {
            return NextHop::Unreachable;
        };
        let gateway = found.gateway.unwrap_or(address);
        match self.mirror.neighbour(link.index, gateway) {
            Some(destination_mac) => NextHop::Ready {
                interface: link.index,
                gateway,
                destination_mac,
                source_mac,
                mtu: found.mtu.map_or(link.mtu, |mtu| mtu.min(link.mtu)),
                source: found.source,
            },
            None => NextHop::Unresolved {
                interface: link.index,
                gateway,
            },
        }
    }

    /// Waits for notifications and takes what is there, up to [`BATCH`] datagrams.
    async fn receive(&self) -> io::Result<Batch> {
        let mut ready = self.notifications.readable().await?;
        let mut batch = Batch::default();
        for _ in 0..BATCH {
            match ready.get_inner().receive() {
                Ok(messages) => batch.messages.extend(messages),
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                    batch.lost = true;
                    break;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    ready.clear_ready();
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(batch)
    }

    /// After a loss: forgets what is still waiting and reads everything.
    fn resync(&mut self) -> Result<()> {
        for _ in 0..WAITING {
            match self.notifications.get_ref().receive() {
                Ok(_) => {}
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {}
                // Empty; anything else shows at the next reading.
                Err(_) => break,
            }
        }
        self.read_everything()?;
        self.lost = false;
        note(&mut self.events, Event::Resync);
        Ok(())
    }

    fn read_everything(&mut self) -> Result<()> {
        let links = self
            .requests
            .dump(&RouteNetlinkMessage::GetLink(LinkMessage::default()))
            .attempt(|| "list the network interfaces".into())?;
        let neighbours = self
            .requests
            .dump(&RouteNetlinkMessage::GetNeighbour(
                NeighbourMessage::default(),
            ))
            .attempt(|| "list the neighbours".into())?;
        self.mirror = Mirror::of(links.into_iter().chain(neighbours));
        self.synced = Instant::now();
        Ok(())
    }
}

/// All links of the calling thread's network namespace.
pub fn links() -> Result<Vec<Link>> {
    let request = RouteNetlinkMessage::GetLink(LinkMessage::default());
    let answers = Socket::new()
        .and_then(|mut socket| socket.dump(&request))
        .attempt(|| "list the network interfaces".into())?;
    Ok(Mirror::of(answers).links().cloned().collect())
}

/// Queues an event once.
fn note(events: &mut VecDeque<Event>, event: Event) {
    if !events.contains(&event) {
        events.push_back(event);
    }
}

/// What matters of a route that was found.
#[derive(Debug, Default)]
struct Found {
    interface: Option<u32>,
    gateway: Option<IpAddr>,
    mtu: Option<u32>,
    source: Option<IpAddr>,
    encapsulated: bool,
}

impl Found {
    fn of(route: &RouteMessage) -> Self {
        let mut found = Self::default();
        for attribute in &route.attributes {
            match attribute {
                RouteAttribute::Oif(interface) => found.interface = Some(*interface),
                RouteAttribute::Gateway(RouteAddress::Inet(gateway))
                | RouteAttribute::Via(RouteVia::Inet(gateway)) => {
                    found.gateway = Some((*gateway).into());
                }
                RouteAttribute::Gateway(RouteAddress::Inet6(gateway))
                | RouteAttribute::Via(RouteVia::Inet6(gateway)) => {
                    found.gateway = Some((*gateway).into());
                }
                RouteAttribute::PrefSource(RouteAddress::Inet(source)) => {
                    found.source = Some((*source).into());
                }
                RouteAttribute::PrefSource(RouteAddress::Inet6(source)) => {
                    found.source = Some((*source).into());
                }
                RouteAttribute::EncapType(_) => found.encapsulated = true,
                RouteAttribute::Metrics(metrics) => {
                    found.mtu = metrics.iter().find_map(|metric| match metric {
                        RouteMetric::Mtu(mtu) if *mtu > 0 => Some(*mtu),
                        _ => None,
                    });
                }
                _ => {}
            }
        }
        found
    }
}

fn route_request(address: IpAddr) -> RouteMessage {
    let mut request = RouteMessage::default();
    request.header.address_family = family(address);
    request.header.destination_prefix_length = if address.is_ipv4() { 32 } else { 128 };
    request
        .attributes
        .push(RouteAttribute::Destination(address.into()));
    request
}

fn family(address: IpAddr) -> AddressFamily {
    match address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}

/// The errors that no route, or one of type unreachable, prohibit, blackhole or
/// throw, are told by.
fn is_unreachable(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::ENETUNREACH | libc::EHOSTUNREACH | libc::EACCES | libc::EINVAL)
    )
}
