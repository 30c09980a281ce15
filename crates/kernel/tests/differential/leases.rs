//! Translated sources and their connections: the one is not there without the other.

use std::collections::{HashMap, HashSet};

use evenkeel_datapath::layout::{
    POOL, POOL_PORTS_DEFAULT, Server, WideEntry, mapped, method, server_flags, state_word,
};
use evenkeel_datapath::memory::Memory;
use evenkeel_datapath::table::{Slot, address_of};
use evenkeel_datapath::{hash, state};

/// A translated source's bucket, way and generation.
type Place = (usize, usize, u32);

/// What a connection and its translated source have in common: client, port and protocol,
/// reference, server.
type Key = ([u32; 4], u32, u32, u32);

/// Translated sources that are there.
fn sources(memory: &Memory<'_>) -> HashMap<Place, Key> {
    let buckets = memory.wide_connections.iter().enumerate();
    let entries = buckets.flat_map(|(number, bucket)| {
        let entries = bucket.entries.iter().enumerate();
        entries.map(move |(way, entry)| ((number, way), entry))
    });
    entries
        .filter(|(_, entry)| entry.state.get() & state_word::STATE == state::TRANSLATED)
        .map(|((number, way), entry)| {
            let generation = entry.state.get() >> 16;
            ((number, way, generation), key_of(entry))
        })
        .collect()
}

fn key_of(translated: &WideEntry) -> Key {
    let protocol = translated.client_port.get() & 0xff_0000;
    (
        address_of(&translated.virtual_address),
        translated.ports.get() & 0xffff | protocol,
        translated.hop.get(),
        translated.server.get(),
    )
}

/// Connections that are sent by a translated source.
fn connections(memory: &Memory<'_>) -> HashSet<Key> {
    let seed = memory.control.seed.get();
    let narrow = memory.connections.iter().flat_map(|b| &b.entries);
    let narrow = narrow.filter_map(|entry| {
        let server = server_of(memory, entry)?;
        let tag = hash::server_tag(server.address.get(), server.ports.get() as u16, seed);
        key(mapped(entry.client_address.get()), entry, tag)
    });
    let wide = memory.wide_connections.iter().flat_map(|b| &b.entries);
    let wide = wide.filter_map(|entry| {
        let address = address_of(&server_of(memory, entry)?.wide_address);
        let tag = hash::wide_server_tag(address, (entry.ports.get() >> 16) as u16, seed);
        key(address_of(&entry.client_address), entry, tag)
    });
    narrow.chain(wide).collect()
}

/// The server of a connection, if it sees a translated source.
fn server_of<'a>(memory: &Memory<'a>, entry: &impl Slot) -> Option<&'a Server> {
    let word = entry.state().get();
    let server = &memory.servers[entry.server().get() as usize];
    let flags = server.flags.get();
    let is_one = word & state_word::STATE != state::FREE
        && !state::is_auxiliary(word)
        && server.service.get() == entry.service().get() & 0xffff
        && flags >> server_flags::METHOD_SHIFT & server_flags::METHOD == method::FULL_NAT
        && flags & (server_flags::LOCAL | server_flags::ALIVE) == server_flags::ALIVE;
    is_one.then_some(server)
}

/// None: the method of its server was another one when the connection was opened, or the
/// server another one in this place. Then it has a server's tag: this one's, or one that is
/// most likely no reference.
fn key(client: [u32; 4], entry: &impl Slot, server_tag: u32) -> Option<Key> {
    let tag = entry.server_tag().get();
    let port = u32::from(u16::from_be(tag as u16));
    let (low, count) = (POOL_PORTS_DEFAULT & 0xffff, POOL_PORTS_DEFAULT >> 16);
    let is_one = tag != server_tag && tag >> 16 == POOL as u32 && port.wrapping_sub(low) < count;
    is_one.then(|| (client, entry.client_port().get(), tag, entry.server().get()))
}

/// What was seen of translated sources from time to time.
#[derive(Default)]
pub(crate) struct Leases {
    /// Those that were there, and whether with a connection.
    known: HashMap<Place, bool>,
    /// How many gave way that had a connection, and how many others. Nothing else ends them
    /// here.
    pub(crate) gone: [u32; 2],
}

impl Leases {
    /// Looks at them again, and checks that each connection that is sent by one has it.
    pub(crate) fn check(&mut self, memory: &Memory<'_>) {
        let (sources, connections) = (sources(memory), connections(memory));
        let leased: HashSet<&Key> = sources.values().collect();
        for connection in &connections {
            assert!(leased.contains(connection), "no source: {connection:x?}");
        }
        for (place, had_connection) in &self.known {
            if !sources.contains_key(place) {
                self.gone[usize::from(!had_connection)] += 1;
            }
        }
        let now = sources
            .iter()
            .map(|(&place, key)| (place, connections.contains(key)));
        self.known = now.collect();
    }
}
