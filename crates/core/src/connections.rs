//! The connections as they are listed, read from the tables while packets use them.

mod filter;
#[cfg(test)]
mod tests;

use alloc::format;
use alloc::string::String;
use core::net::{IpAddr, Ipv6Addr, SocketAddr};
use core::ops::{ControlFlow, Range};

use evenkeel_datapath::layout::{
    Address, Bucket, Entry, Server, Service, WAYS, WideBucket, WideEntry, mapped, service_flags,
    state_word,
};
use evenkeel_datapath::memory::Memory;
use evenkeel_datapath::state;
use evenkeel_datapath::table::{Buckets, OVERFLOWED, Slot, address_of};

use crate::director::Director;
use crate::model::{ConnectionView, EngineData, ServerTraits};
use crate::sweep::{self, MORE_SECONDS, STATE_NAMES};

pub use filter::{End, Filter, Templates};

use filter::{Network, Wanted};

/// Gives `f` the connections and templates of `buckets` that the filter wants, until it
/// breaks off. Buckets are numbered through both tables, first that of
/// [`Memory::connections`].
///
/// A connection that is opened, ends or changes meanwhile may be given as it was before or
/// as it is after, or not at all. The director's lock has to be held for the call: then no
/// server or service gets the place of another one.
pub fn visit(
    memory: &Memory<'_>,
    _director: &Director,
    buckets: Range<usize>,
    now_tick: u32,
    ticks_per_second: f64,
    filter: &Filter,
    f: &mut dyn FnMut(ConnectionView) -> ControlFlow<()>,
) -> ControlFlow<()> {
    let now = Now {
        memory,
        tick: now_tick,
        ticks_per_second,
        limits: sweep::limits(memory),
        wanted: Wanted::of(filter),
    };
    let narrow = memory.connections.len();
    visit_table(&now, memory.connections, 0, &buckets, f)?;
    visit_table(&now, memory.wide_connections, narrow, &buckets, f)
}

/// When it is read, and what is wanted of it.
struct Now<'a> {
    memory: &'a Memory<'a>,
    tick: u32,
    ticks_per_second: f64,
    /// Seconds that an entry lives in silence, by state.
    limits: [u32; 32],
    wanted: Wanted,
}

/// Either table, by what a listing needs of it.
trait Table: Buckets {
    /// The ends of a connection.
    fn ends(entry: &Self::Entry, service: &Service, server: &Server) -> Ends;
}

/// Address and port, host order, of all three.
#[derive(Clone, Copy)]
struct Ends {
    client: (Network, u16),
    virtual_address: (Network, u16),
    server: (Network, u16),
}

/// A port as it stands in the packet, in the low half of a word.
const fn port(word: u32) -> u16 {
    u16::from_be(word as u16)
}

impl Table for Bucket {
    #[inline]
    fn ends(entry: &Entry, service: &Service, server: &Server) -> Ends {
        let network = |address| Network::of(mapped(address));
        Ends {
            client: (
                network(entry.client_address.get()),
                port(entry.client_port.get()),
            ),
            virtual_address: (network(service.address.get()), port(service.port.get())),
            server: (network(server.address.get()), port(server.ports.get())),
        }
    }
}

impl Table for WideBucket {
    #[inline]
    fn ends(entry: &WideEntry, _service: &Service, server: &Server) -> Ends {
        let network = |words| Network::of(address_of(words));
        let ports = entry.ports.get();
        Ends {
            client: (
                network(&entry.client_address),
                if entry.state.get() & state_word::STATE == state::TEMPLATE {
                    // There stands what the persistence engine has found.
                    0
                } else {
                    port(entry.client_port.get())
                },
            ),
            virtual_address: (network(&entry.virtual_address), port(ports)),
            server: (network(&server.wide_address), port(ports >> 16)),
        }
    }
}

/// Those of a table's buckets that are among `buckets`; its first one has the number
/// `offset`.
fn visit_table<B: Table>(
    now: &Now<'_>,
    table: &[B],
    offset: usize,
    buckets: &Range<usize>,
    f: &mut dyn FnMut(ConnectionView) -> ControlFlow<()>,
) -> ControlFlow<()> {
    let first = buckets.start.saturating_sub(offset);
    let count = buckets.end.saturating_sub(offset).saturating_sub(first);
    for bucket in table.iter().skip(first).take(count) {
        for way in 0..WAYS {
            if bucket.signatures()[way].get() & !OVERFLOWED == 0 {
                continue;
            }
            if let Some(view) = view::<B>(now, &bucket.entries()[way]) {
                f(view)?;
            }
        }
    }
    ControlFlow::Continue(())
}

/// An entry as it is listed, if it is wanted.
#[inline]
fn view<B: Table>(now: &Now<'_>, entry: &B::Entry) -> Option<ConnectionView> {
    let word = entry.state().get();
    let number = word & state_word::STATE;
    let template = number == state::TEMPLATE;
    if number == state::FREE || (state::is_auxiliary(number) && !template) {
        return None;
    }
    let name = match (template, word & state_word::ANSWERED != 0) {
        (true, true) => "ASSURED",
        (true, false) => "NONE",
        (false, _) => STATE_NAMES[number as usize],
    };
    let protocol = (entry.client_port().get() >> 16) as u8;
    let wanted = &now.wanted;
    if !wanted.is_kind(protocol, name, template) {
        return None;
    }
    let memory = now.memory;
    let service = memory
        .services
        .get((entry.service().get() & 0xffff) as usize)?;
    let server = memory.servers.get(entry.server().get() as usize)?;
    let mark = Some(service.mark.get()).filter(|&mark| mark != 0);
    let ends = B::ends(entry, service, server);
    if !wanted.is_between(&ends) || !wanted.is_mark(mark) {
        return None;
    }
    let remaining_s = now.remaining_s(entry, number, service);
    // It may have become another's while it was read.
    if entry.state().get() & !0xffff != word & !0xffff {
        return None;
    }
    Some(ConnectionView {
        protocol,
        state: name,
        remaining_s,
        client: socket_address(ends.client),
        virtual_address: socket_address(ends.virtual_address),
        server: socket_address(ends.server),
        traits: ServerTraits::of(server.flags.get()),
        mark,
        template,
        engine: template.then(|| engine(entry, service)).flatten(),
    })
}

/// What a persistence engine has found. Nothing is kept of it but a hash.
fn engine(entry: &impl Slot, service: &Service) -> Option<EngineData> {
    let tag = entry.server_tag().get();
    if tag == 0 || service.flags.get() & service_flags::SIP == 0 {
        return None;
    }
    let half = entry.client_port().get() & 0xffff;
    Some(EngineData {
        name: String::from("sip"),
        data: format!("{half:04x}{tag:08x}"),
    })
}

impl Now<'_> {
    /// Seconds until an entry expires, rounded down. That of a template whose time is over
    /// is a part of the minute that it goes on for while it has connections.
    fn remaining_s(&self, entry: &impl Slot, number: u32, service: &Service) -> u32 {
        let silent = f64::from(sweep::age(self.tick, entry.seen().get())) / self.ticks_per_second;
        if number != state::TEMPLATE {
            return in_seconds(f64::from(self.limits[number as usize]) - silent);
        }
        if service.flags.get() & service_flags::PERSISTENT == 0 {
            return 0;
        }
        let left = f64::from(service.persistence.get()) - silent;
        let more = f64::from(MORE_SECONDS);
        in_seconds(if left < 0.0 { more + left % more } else { left })
    }
}

#[allow(clippy::cast_sign_loss, reason = "the cast saturates")]
fn in_seconds(seconds: f64) -> u32 {
    seconds as u32
}

impl Network {
    /// An address as it stands in the memory.
    fn of(address: Address) -> Self {
        let mut bytes = [0; 16];
        for (part, word) in bytes.chunks_exact_mut(4).zip(address) {
            part.copy_from_slice(&word.to_ne_bytes());
        }
        Self(u128::from_be_bytes(bytes))
    }
}

fn socket_address((Network(address), port): (Network, u16)) -> SocketAddr {
    let address = Ipv6Addr::from(address);
    let address = address
        .to_ipv4_mapped()
        .map_or(IpAddr::V6(address), IpAddr::V4);
    SocketAddr::new(address, port)
}
