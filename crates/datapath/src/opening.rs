//! New entries of the connection table: what they hold, and how they come there.

use crate::hash::Place;
use crate::host::Store;
use crate::layout::{Address, AddressWords, Entry, WideEntry};
use crate::reason::Reason;
use crate::table::{self, Aim, Buckets, By, Claimed, Found, New, WantedNarrow, WantedWide};
use crate::{load, state};

/// A new IPv4 connection's contents.
#[derive(Clone, Copy)]
pub struct Opening {
    /// Client's address.
    pub address: u32,
    /// As [`Entry::client_port`].
    pub port: u32,
    /// Service index.
    pub service: u32,
    /// Server index.
    pub server: u32,
    /// [`crate::hash::server_tag`] of the server.
    pub server_tag: u32,
    /// First state.
    pub state: u32,
}

impl New<Entry> for Opening {
    type Wanted = WantedNarrow;

    #[inline(always)]
    fn write(self, entry: &Entry) {
        entry.hop.set(0);
        entry.client_address.set(self.address);
        entry.client_port.set(self.port);
        entry.service.set(self.service);
        entry.server.set(self.server);
        entry.server_tag.set(self.server_tag);
    }
    #[inline(always)]
    fn server(self) -> u32 {
        self.server
    }
    #[inline(always)]
    fn state(self) -> u32 {
        self.state
    }
    #[inline(always)]
    fn wanted(self) -> WantedNarrow {
        WantedNarrow {
            address: self.address,
            port: self.port,
            by: By::Service(self.service),
        }
    }
}

/// A new wide entry's contents.
#[derive(Clone, Copy)]
pub struct WideOpening {
    /// Client's address.
    pub address: Address,
    /// As [`WideEntry::client_port`].
    pub port: u32,
    /// Address that the client connected to.
    pub virtual_address: Address,
    /// As [`WideEntry::ports`].
    pub ports: u32,
    /// Service index.
    pub service: u32,
    /// Server index.
    pub server: u32,
    /// [`crate::hash::server_tag`] of the server.
    pub server_tag: u32,
    /// First state.
    pub state: u32,
    /// As [`WideEntry::hop`].
    pub hop: u32,
}

impl New<WideEntry> for WideOpening {
    type Wanted = WantedWide;

    #[inline(always)]
    fn write(self, entry: &WideEntry) {
        set_address(&entry.client_address, self.address);
        set_address(&entry.virtual_address, self.virtual_address);
        entry.client_port.set(self.port);
        entry.ports.set(self.ports);
        entry.hop.set(self.hop);
        entry.service.set(self.service);
        entry.server.set(self.server);
        entry.server_tag.set(self.server_tag);
    }
    #[inline(always)]
    fn server(self) -> u32 {
        self.server
    }
    #[inline(always)]
    fn state(self) -> u32 {
        self.state
    }
    #[inline(always)]
    fn wanted(self) -> WantedWide {
        // These are told apart by their tag.
        let by = if matches!(self.state, state::TRANSLATED | state::FRAGMENT) {
            By::ServerTag(self.server_tag)
        } else {
            By::Service(self.service)
        };
        WantedWide {
            address: self.address,
            port: self.port,
            aim: Aim {
                by,
                address: self.virtual_address,
                port: self.ports & 0xffff,
                is_exact: u32::from(!state::is_auxiliary(self.state)),
            },
        }
    }
}

#[inline(always)]
fn set_address(words: &AddressWords, address: Address) {
    words[0].set(address[0]);
    words[1].set(address[1]);
    words[2].set(address[2]);
    words[3].set(address[3]);
}

/// Enters a new connection, in the place of `before`, which ends with it, if there is
/// such. None: its buckets are full of established ones.
#[inline(always)]
pub fn open<'a, S: Store, B: Buckets>(
    store: &'a S,
    place: Place,
    new: B::New,
    before: Option<Found<'a, B>>,
) -> Option<Found<'a, B>> {
    // Staying where the former one was spares the line of the signatures.
    match before {
        Some(before) if table::end(store, before.entry) => {
            load::begin(store, new.server(), new.state());
            let live = table::publish(store, before, new);
            Some(first(store, place, new, before, live).found)
        }
        _ => open_anew(store, B::of(store, place.bucket)?, place, new, || {
            load::begin(store, new.server(), new.state());
        })
        .map(|opened| opened.found),
    }
}

/// A connection that is open.
pub struct Opened<'a, B: Buckets> {
    /// Its entry.
    pub found: Found<'a, B>,
    /// False: another CPU was first.
    pub is_new: bool,
}

/// As [`open`], where there was none before and the home bucket is known; `begin` counts it
/// for its server.
#[inline(always)]
pub fn open_anew<'a, S: Store, B: Buckets>(
    store: &'a S,
    home: &'a B,
    place: Place,
    new: B::New,
    begin: impl FnOnce(),
) -> Option<Opened<'a, B>> {
    let claimed: Claimed<'_, B> = table::claimed(store, home, place)?;
    if claimed.victim != 0 {
        store.rank(claimed.victim - 1);
    }
    begin();
    let live = table::publish(store, claimed.found, new);
    // It is where all others look first.
    if claimed.is_preferred {
        return Some(Opened {
            found: claimed.found,
            is_new: true,
        });
    }
    Some(first(store, place, new, claimed.found, live))
}

/// Another CPU may have opened the same connection meanwhile. Both find the same first
/// one, so the other gives way. Or it has moved the entry; then this one is dead. `live` is
/// its state word.
#[inline(always)]
fn first<'a, S: Store, B: Buckets>(
    store: &'a S,
    place: Place,
    new: B::New,
    found: Found<'a, B>,
    live: u32,
) -> Opened<'a, B> {
    let first: Option<Found<'_, B>> = table::find(store, place, new.wanted());
    if let Some(first) = first
        && !core::ptr::eq(first.entry, found.entry)
    {
        if table::kill(store, found.entry, live) {
            crate::count_reason(store, Reason::Duplicate);
            table::clear_signature(store, &found.bucket.signatures()[found.way]);
        }
        return Opened {
            found: first,
            is_new: false,
        };
    }
    Opened {
        found,
        is_new: true,
    }
}
