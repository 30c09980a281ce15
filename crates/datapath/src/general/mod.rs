//! The general way: every packet that is Evenkeel's, of both families, whatever service
//! it belongs to. What the short way does, it does too.

mod inbound;
mod outbound;
mod packet;
mod persistence;
mod rewrite;
mod width;

use crate::endpoint;
use crate::forward::{Verdict, pass};
use crate::frame::protocol;
use crate::host::Host;
use crate::layout::{Address, Service, endpoint_key, endpoint_kind, features};
use crate::reason::Reason;
use crate::schedule::Request;
use packet::{Packet, Transport, What};

/// A client's packet and the service that it is for.
#[derive(Clone, Copy)]
struct Arrival<'a> {
    packet: &'a Packet,
    transport: &'a Transport,
    /// Index of the service.
    index: u32,
    service: &'a Service,
}

impl Arrival<'_> {
    /// What the scheduler knows of it.
    #[inline(always)]
    fn request(&self) -> Request {
        Request {
            client: self.packet.source,
            client_port: self.transport.source_port,
            destination: self.packet.destination,
        }
    }
}

/// Decides about a frame and rewrites it.
#[inline(always)]
pub fn process<H: Host>(host: &H) -> Verdict {
    let packet = packet::parse(host);
    match packet.what {
        What::Other => return Verdict::Pass,
        What::Malformed => return pass(host, Reason::Malformed),
        What::Later => return pass(host, Reason::Fragment),
        What::First | What::Whole => {}
    }
    match packet.protocol {
        protocol::TCP | protocol::UDP | protocol::SCTP => transport(host, &packet),
        _ => Verdict::Pass,
    }
}

#[inline(always)]
fn transport<H: Host>(host: &H, packet: &Packet) -> Verdict {
    let features = host
        .control()
        .map_or(0, |control| control.features.get());
    if !H::FINISHES && features & features::MARKS != 0 {
        // Marks are seen by the next stage only.
        return pass(host, Reason::Deferred);
    }
    let Some(transport) = packet::transport(host, packet) else {
        return pass(host, Reason::Malformed);
    };
    let service = service_of(host, packet, &transport, features);
    let is_ours = service.is_some() || outbound::is_from_server(host, packet, &transport);
    if !is_ours {
        return Verdict::Pass;
    }
    let Some(ethernet) = host.window(0, crate::frame::ETHERNET) else {
        return Verdict::Pass;
    };
    if !host.is_for_us(ethernet) {
        return pass(host, Reason::OtherHost);
    }
    if transport.is_partial {
        return pass(host, Reason::Deferred);
    }
    match service {
        Some(service) => inbound::process(host, packet, &transport, service),
        None => outbound::process(host, packet, &transport),
    }
}

/// Value of the endpoint at this address and port.
#[inline(always)]
fn find<H: Host>(
    host: &H,
    packet: &Packet,
    address: Address,
    port: u16,
    kind: u32,
) -> Option<u32> {
    if packet.is_ipv6 {
        return endpoint::find_wide(host, address, port, packet.protocol, kind);
    }
    endpoint::find(
        host,
        endpoint_key(address[3], port, packet.protocol, kind),
    )
}

const FTP: u16 = 21_u16.to_be();
const FTP_DATA: u16 = 20_u16.to_be();
/// Ports from which on clients may open what FTP has told them.
const FREE_PORTS: u16 = 1024;

/// The service that a packet is for: by its mark, by address and port, as data of FTP,
/// by address alone (`ip_vs_service_find`).
#[inline(always)]
fn service_of<H: Host>(
    host: &H,
    packet: &Packet,
    transport: &Transport,
    features: u32,
) -> Option<u32> {
    if features & features::MARKS != 0 {
        let mark = host.mark();
        let family = if packet.is_ipv6 { 6 } else { 4 };
        let key = endpoint_key(mark, family, u8::MAX, endpoint_kind::MARK);
        if mark != 0
            && let Some(service) = endpoint::find(host, key)
        {
            return Some(service);
        }
    }
    let port = transport.destination_port;
    let to = |port| find(host, packet, packet.destination, port, endpoint_kind::SERVICE);
    if let Some(service) = to(port) {
        return Some(service);
    }
    if features & features::FTP != 0
        && packet.protocol == protocol::TCP
        && (port == FTP_DATA || u16::from_be(port) >= FREE_PORTS)
        && let Some(service) = to(FTP)
    {
        return Some(service);
    }
    if features & features::ANY_PORT != 0 {
        return to(0);
    }
    None
}
