//! What the general way does differently for connections in the two tables.

use super::UNASKED;
use super::packet::{Packet, Transport};
use super::rewrite::WideEnd;
use crate::forward::client_port;
use crate::hash::{self, Place};
use crate::host::Host;
use crate::layout::{Bucket, Entry, Server, WideBucket, WideEntry};
use crate::table::{Aim, Buckets, By, Opening, WantedNarrow, WantedWide, WideOpening, address_of};

/// A new connection.
#[derive(Clone, Copy)]
pub(super) struct Opened {
    pub service: u32,
    pub server: u32,
    /// Port of the server that it goes to.
    pub server_port: u16,
    pub state: u32,
    /// In place of the server's tag, for a translated source; [`UNASKED`]: none.
    pub reference: u32,
}

/// One of the tables.
pub(super) trait Width: Buckets {
    /// What finds the connection of a client's packet.
    fn of_client(packet: &Packet, transport: Transport, service: u32) -> Self::Wanted;
    /// What finds the connection of a server's packet.
    fn of_server<H: Host>(host: &H, packet: &Packet, transport: Transport) -> Self::Wanted;
    /// Where it stands.
    fn place<H: Host>(host: &H, wanted: Self::Wanted) -> Place;
    /// What a new connection's entry holds.
    fn opening<H: Host>(
        host: &H,
        packet: &Packet,
        transport: Transport,
        server: &Server,
        opened: Opened,
    ) -> Self::New;
    /// The server's end.
    fn server_end(entry: &Self::Entry, server: &Server) -> WideEnd;
    /// The end that the client sees.
    fn virtual_end(entry: &Self::Entry, server: &Server) -> WideEnd;
}

impl Width for Bucket {
    #[inline(always)]
    fn of_client(packet: &Packet, transport: Transport, service: u32) -> WantedNarrow {
        WantedNarrow {
            address: packet.source[3],
            port: client_port(transport.source_port, packet.protocol),
            by: By::Service(service),
        }
    }
    #[inline(always)]
    fn of_server<H: Host>(host: &H, packet: &Packet, transport: Transport) -> WantedNarrow {
        let tag = hash::server_tag(packet.source[3], transport.source_port, host.seed());
        WantedNarrow {
            address: packet.destination[3],
            port: client_port(transport.destination_port, packet.protocol),
            by: By::ServerTag(tag),
        }
    }
    #[inline(always)]
    fn place<H: Host>(host: &H, wanted: WantedNarrow) -> Place {
        wanted.place(host)
    }
    #[inline(always)]
    fn opening<H: Host>(
        host: &H,
        packet: &Packet,
        transport: Transport,
        server: &Server,
        opened: Opened,
    ) -> Opening {
        Opening {
            address: packet.source[3],
            port: client_port(transport.source_port, packet.protocol),
            service: opened.service,
            server: opened.server,
            server_tag: if opened.reference == UNASKED {
                let port = server.ports.get() as u16;
                hash::server_tag(server.address.get(), port, host.seed())
            } else {
                opened.reference
            },
            state: opened.state,
        }
    }
    #[inline(always)]
    fn server_end(_entry: &Entry, server: &Server) -> WideEnd {
        WideEnd {
            address: address_of(&server.wide_address),
            port: server.ports.get() as u16,
        }
    }
    #[inline(always)]
    fn virtual_end(_entry: &Entry, server: &Server) -> WideEnd {
        WideEnd {
            address: address_of(&server.wide_virtual_address),
            port: (server.ports.get() >> 16) as u16,
        }
    }
}

impl Width for WideBucket {
    #[inline(always)]
    fn of_client(packet: &Packet, transport: Transport, service: u32) -> WantedWide {
        WantedWide {
            address: packet.source,
            port: client_port(transport.source_port, packet.protocol),
            aim: Aim {
                by: By::Service(service),
                address: packet.destination,
                port: transport.destination_port.into(),
                is_exact: 1,
            },
        }
    }
    #[inline(always)]
    fn of_server<H: Host>(host: &H, packet: &Packet, transport: Transport) -> WantedWide {
        let tag = hash::wide_server_tag(packet.source, transport.source_port, host.seed());
        WantedWide {
            address: packet.destination,
            port: client_port(transport.destination_port, packet.protocol),
            aim: Aim::any(By::ServerTag(tag)),
        }
    }
    #[inline(always)]
    fn place<H: Host>(host: &H, wanted: WantedWide) -> Place {
        wanted.place(host)
    }
    #[inline(always)]
    fn opening<H: Host>(
        host: &H,
        packet: &Packet,
        transport: Transport,
        server: &Server,
        opened: Opened,
    ) -> WideOpening {
        let address = address_of(&server.wide_address);
        WideOpening {
            address: packet.source,
            port: client_port(transport.source_port, packet.protocol),
            virtual_address: packet.destination,
            ports: u32::from(transport.destination_port) | u32::from(opened.server_port) << 16,
            service: opened.service,
            server: opened.server,
            server_tag: if opened.reference == UNASKED {
                hash::wide_server_tag(address, opened.server_port, host.seed())
            } else {
                opened.reference
            },
            state: opened.state,
            hop: 0,
        }
    }
    #[inline(always)]
    fn server_end(entry: &WideEntry, server: &Server) -> WideEnd {
        WideEnd {
            address: address_of(&server.wide_address),
            port: (entry.ports.get() >> 16) as u16,
        }
    }
    #[inline(always)]
    fn virtual_end(entry: &WideEntry, _server: &Server) -> WideEnd {
        WideEnd {
            address: address_of(&entry.virtual_address),
            port: entry.ports.get() as u16,
        }
    }
}
