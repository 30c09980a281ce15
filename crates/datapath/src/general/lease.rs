//! How long a translated source ([`super::source_nat`]) belongs to its connection.
//!
//! Its entry stands in a table that may be full. As long as the connection is not
//! established, or for UDP not answered, it may give way as half-open connections do: a
//! flood makes as many of these. Then the connection ends with it, since the next one may
//! get the same source. Once it is established, the entry is
//! [assured](state_word::ASSURED) and stays. So the entry is there as long as a connection
//! sends by it, and whoever makes one of the two looks for the other afterwards.

use core::cell::Cell;

use super::Arrival;
use super::rewrite::WideEnd;
use super::source_nat;
use crate::evict;
use crate::forward::client_port;
use crate::host::{Host, Store};
use crate::layout::{Address, Bucket, Service, WideBucket, WideEntry, service_flags, state_word};
use crate::load;
use crate::state;
use crate::table::{self, Aim, Buckets, By, Found, Slot, WantedNarrow, WantedWide, address_of};

/// True: the connections of a service stand in the table of wide entries.
#[inline(always)]
pub(super) fn is_wide(service: &Service) -> bool {
    service.flags.get() & service_flags::WIDE != 0
}

/// What of a translated source's state word says that it stays, where a connection gets
/// into this state by what its client sends.
#[inline(always)]
pub(super) fn assured_by(state: u32) -> u32 {
    if state::is_established(state) {
        state_word::ASSURED
    } else {
        0
    }
}

/// Assures a translated source when an answer takes its connection to a state.
#[inline(always)]
pub(super) fn answered<S: Store>(store: &S, translated: &WideEntry, next: u32) {
    let word = translated.state.get();
    let is_there = word & state_word::STATE == state::TRANSLATED;
    if is_there
        && word & state_word::ASSURED == 0
        && (state::is_established(next) || next == state::UDP)
    {
        store.compare_and_swap(&translated.state, word, word | state_word::ASSURED);
    }
}

/// Sets `flags` in the state word of a translated source: that of the packet which is kept,
/// to this port of a server. 0: it is not there, or is another connection's.
#[inline(always)]
pub fn hold<S: Store>(store: &S, server: u32, port: u32, reference: u32, flags: u32) -> u32 {
    let (Some(arrival), Some(server)) = (store.kept(), store.server(server)) else {
        return 0;
    };
    let (packet, transport) = (&arrival.packet, &arrival.transport);
    let end = WideEnd {
        address: address_of(&server.wide_address),
        port: port as u16,
    };
    let source = source_nat::source_end(store, server, reference);
    let wanted = source_nat::wanted(store, packet.protocol, source, end);
    let found: Option<Found<'_, WideBucket>> = table::find(store, wanted.place(store), wanted);
    let Some(found) = found else {
        return 0;
    };
    let entry = found.entry;
    let word = entry.state.get();
    let is_it = word & state_word::STATE == state::TRANSLATED
        && entry.hop.get() == reference
        && entry.ports.get() & 0xffff == u32::from(transport.source_port)
        && table::is_address(&entry.virtual_address, packet.source);
    let is_held = is_it
        && (word & flags == flags || store.compare_and_swap(&entry.state, word, word | flags));
    is_held.into()
}

/// True: a connection of the client whose packet is kept is translated alike already, to
/// another server. Of two of these nobody could tell which one an answer belongs to.
#[inline(always)]
pub(super) fn is_ambiguous<S: Store>(store: &S, service: u32, reference: u32) -> bool {
    let (Some(arrival), Some(service)) = (store.kept(), store.service(service)) else {
        return true;
    };
    let packet = &arrival.packet;
    let port = client_port(arrival.transport.source_port, packet.protocol);
    if is_wide(service) {
        let wanted = wide(packet.source, port, reference);
        let found: Option<Found<'_, WideBucket>> = table::find(store, wanted.place(store), wanted);
        found.is_some()
    } else {
        let wanted = narrow(packet.source, port, reference);
        let found: Option<Found<'_, Bucket>> = table::find(store, wanted.place(store), wanted);
        found.is_some()
    }
}

/// What finds the connection of a client that is translated by `reference`.
#[inline(always)]
pub(super) fn narrow(client: Address, port: u32, reference: u32) -> WantedNarrow {
    WantedNarrow {
        address: client[3],
        port,
        by: By::ServerTag(reference),
    }
}

/// The same in the table of wide entries.
#[inline(always)]
pub(super) fn wide(client: Address, port: u32, reference: u32) -> WantedWide {
    WantedWide {
        address: client,
        port,
        aim: Aim::any(By::ServerTag(reference)),
    }
}

/// A translated source that gave way, whose connection has to end.
#[repr(C)]
pub(crate) struct Lost {
    /// 1: there is one.
    is_there: Cell<u32>,
    client: [Cell<u32>; 4],
    /// The client's port, and the protocol.
    port: Cell<u32>,
    reference: Cell<u32>,
    service: Cell<u32>,
    server: Cell<u32>,
}

impl Lost {
    pub(super) const fn nothing() -> Self {
        Self {
            is_there: Cell::new(0),
            client: [const { Cell::new(0) }; 4],
            port: Cell::new(0),
            reference: Cell::new(0),
            service: Cell::new(0),
            server: Cell::new(0),
        }
    }
}

/// Notes that a translated source gives way. Its connection is ended by [`settle`]: where
/// this is called, programs have no stack left for it.
#[inline(always)]
pub(crate) fn lose<S: Store>(store: &S, translated: &WideEntry) {
    let Some(arrival) = store.kept() else {
        return;
    };
    let lost = &arrival.lost;
    lost.is_there.set(1);
    for word in 0..4 {
        lost.client[word].set(translated.virtual_address[word].get());
    }
    let protocol = translated.client_port.get() & 0xff_0000;
    lost.port.set(translated.ports.get() & 0xffff | protocol);
    lost.reference.set(translated.hop.get());
    lost.service.set(translated.service.get() & 0xffff);
    lost.server.set(translated.server.get());
}

/// True: a connection that was just entered has taken the place of its own translated source,
/// and so ends with it; or that of another one by the same source, to another server, where a
/// packet is lost for nothing, once in a flood.
#[inline(always)]
pub(super) fn is_own_lost(arrival: &Arrival) -> bool {
    let lost = &arrival.lost;
    lost.is_there.get() != 0 && lost.reference.get() == arrival.reference.get()
}

/// Ends the connection of a translated source that has given way to what was just entered for
/// a packet.
#[inline(always)]
pub(super) fn settle<H: Host>(host: &H, arrival: &Arrival) {
    // Another CPU may change or move the connection at the same moment; once more is enough.
    for _ in 0..2 {
        if arrival.lost.is_there.get() == 0 {
            return;
        }
        let server = host.disconnect();
        if server != 0 {
            host.rank(server - 1);
        }
    }
}

/// Ends the connection of the translated source that was [lost](Lost): 1 + its server, whose
/// tree is left to the caller; 0: it has none any more, or it is still to be ended.
#[inline(always)]
pub fn disconnect<S: Store>(store: &S) -> u32 {
    let Some(arrival) = store.kept() else {
        return 0;
    };
    let lost = &arrival.lost;
    lost.is_there.set(0);
    let Some(service) = store.service(lost.service.get()) else {
        return 0;
    };
    let [a, b, c, d] = &lost.client;
    let client = [a.get(), b.get(), c.get(), d.get()];
    let (port, reference, server) = (lost.port.get(), lost.reference.get(), lost.server.get());
    let ended = if is_wide(service) {
        let wanted = wide(client, port, reference);
        let found: Option<Found<'_, WideBucket>> = table::find(store, wanted.place(store), wanted);
        found.and_then(|found| end(store, found, server))
    } else {
        let wanted = narrow(client, port, reference);
        let found: Option<Found<'_, Bucket>> = table::find(store, wanted.place(store), wanted);
        found.and_then(|found| end(store, found, server))
    };
    let Some(ended) = ended else {
        return 0;
    };
    if ended == state::FREE {
        lost.is_there.set(1);
        return 0;
    }
    load::leave(store, server, ended);
    crate::count_reason(store, evict::reason_without(ended));
    server + 1
}

/// Gives up a connection with this server: its state until now, or [`state::FREE`] if it has
/// changed or moved at the same moment. None: it is another one by now.
#[inline(always)]
fn end<S: Store, B: Buckets>(store: &S, found: Found<'_, B>, server: u32) -> Option<u32> {
    (found.entry.server().get() == server).then(|| table::discard(store, found))
}
