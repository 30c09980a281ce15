//! The connection table: finding, claiming and giving up entries while other CPUs
//! and the daemon do the same.
//!
//! An entry belongs to whoever changed its signature from 0 by compare and swap;
//! it is live when its state is not 0; and it is given up by changing the state
//! to 0 by compare and swap. Only the one who succeeds in that corrects the
//! server's load and clears the signature.

use crate::hash::{self, Place};
use crate::host::{Ledger, Store};
use crate::layout::{
    Address, AddressWords, Bucket, Entry, WAYS, WideBucket, WideEntry, state_word,
};
pub use crate::opening::{Opened, Opening, WideOpening, open, open_anew};
use crate::word::Word;
use crate::{general, load, relocate, state};

/// Bit of a bucket's first signature: connections of this bucket may stand in its
/// sibling. Never cleared: it costs a look at one more line, and only when a
/// connection is not found.
pub const OVERFLOWED: u32 = 1 << 31;

/// An entry of either table: what both kinds have.
pub trait Slot {
    /// [`Entry::client_port`]
    fn client_port(&self) -> &Word;
    /// [`Entry::service`]
    fn service(&self) -> &Word;
    /// [`Entry::server`]
    fn server(&self) -> &Word;
    /// [`Entry::state`]
    fn state(&self) -> &Word;
    /// [`Entry::seen`]
    fn seen(&self) -> &Word;
    /// [`Entry::hop`]
    fn hop(&self) -> &Word;
    /// [`Entry::server_tag`]
    fn server_tag(&self) -> &Word;
}

macro_rules! slot {
    ($entry:ty) => {
        impl Slot for $entry {
            slot!(@ client_port service server state seen hop server_tag);
        }
    };
    (@ $($field:ident)+) => {
        $(#[inline(always)]
        fn $field(&self) -> &Word {
            &self.$field
        })+
    };
}

slot!(Entry);
slot!(WideEntry);

/// A bucket of either table.
pub trait Buckets: Sized {
    /// Its entries.
    type Entry: Slot;
    /// Which connection, or other thing, is looked for.
    type Wanted: Wanted<Self::Entry>;
    /// What a new entry holds.
    type New: New<Self::Entry, Wanted = Self::Wanted>;

    /// True: of wide entries.
    const IS_WIDE: bool;

    /// The signatures.
    fn signatures(&self) -> &[Word; WAYS];
    /// The entries.
    fn entries(&self) -> &[Self::Entry; WAYS];
    /// The bucket that `place` names (not yet masked).
    fn of<S: Store>(store: &S, place: u32) -> Option<&Self>;
    /// Finds an entry: [`Store::find`] or [`Store::find_wide`].
    fn located<S: Store>(store: &S, place: Place, wanted: &Self::Wanted) -> u32;
    /// True: both numbers, not yet masked, name the same bucket.
    fn is_same<S: Store>(store: &S, one: u32, other: u32) -> bool;
    /// Where the entry's connection belongs.
    fn place_of<S: Store>(store: &S, entry: &Self::Entry) -> Place;
    /// Copies all of an entry but the state.
    fn copy(from: &Self::Entry, to: &Self::Entry);
    /// Notes that a translated source gives way.
    fn lose<S: Store>(store: &S, translated: &Self::Entry);
}

/// Tells whether an entry is what is looked for.
pub trait Wanted<E>: Copy {
    /// True: `entry` is live, and it.
    fn is(self, entry: &E) -> bool;
}

/// A new entry's contents.
pub trait New<E>: Copy {
    /// What finds it.
    type Wanted;
    /// Writes all but the state.
    fn write(self, entry: &E);
    /// The server that it counts for.
    fn server(self) -> u32;
    /// Its first state.
    fn state(self) -> u32;
    /// What finds it again.
    fn wanted(self) -> Self::Wanted;
}

macro_rules! buckets {
    ($bucket:ty, $entry:ty, $wanted:ty, $new:ty, $of:ident, $mask:ident, $find:ident,
     $is_wide:expr, $place:expr, $copy:expr, $lose:expr) => {
        impl Buckets for $bucket {
            type Entry = $entry;
            type Wanted = $wanted;
            type New = $new;
            const IS_WIDE: bool = $is_wide;

            #[inline(always)]
            fn signatures(&self) -> &[Word; WAYS] {
                &self.signatures
            }
            #[inline(always)]
            fn entries(&self) -> &[$entry; WAYS] {
                &self.entries
            }
            #[inline(always)]
            fn of<S: Store>(store: &S, place: u32) -> Option<&Self> {
                store.$of(place & store.$mask())
            }
            #[inline(always)]
            fn located<S: Store>(store: &S, place: Place, wanted: &$wanted) -> u32 {
                store.$find(place, wanted)
            }
            #[inline(always)]
            fn is_same<S: Store>(store: &S, one: u32, other: u32) -> bool {
                (one ^ other) & store.$mask() == 0
            }
            #[inline(always)]
            fn place_of<S: Store>(store: &S, entry: &$entry) -> Place {
                let place: fn(&$entry, u64) -> Place = $place;
                place(entry, store.seed())
            }
            #[inline(always)]
            fn copy(from: &$entry, to: &$entry) {
                let copy: fn(&$entry, &$entry) = $copy;
                copy(from, to);
            }
            #[inline(always)]
            fn lose<S: Store>(store: &S, translated: &$entry) {
                $lose(store, translated);
            }
        }
    };
}

buckets!(
    Bucket,
    Entry,
    WantedNarrow,
    Opening,
    bucket,
    bucket_mask,
    find,
    false,
    |entry, seed| hash::connection(entry.client_address.get(), entry.client_port.get(), seed),
    relocate::copy_narrow,
    |_, _| ()
);
buckets!(
    WideBucket,
    WideEntry,
    WantedWide,
    WideOpening,
    wide_bucket,
    wide_bucket_mask,
    find_wide,
    true,
    |entry, seed| {
        hash::wide_connection(
            address_of(&entry.client_address),
            entry.client_port.get(),
            seed,
        )
    },
    relocate::copy_wide,
    general::lose
);

/// An entry and where it stands.
pub struct Found<'a, B: Buckets = Bucket> {
    /// Its bucket.
    pub bucket: &'a B,
    /// Its place in the bucket.
    pub way: usize,
    /// The entry.
    pub entry: &'a B::Entry,
}

impl<B: Buckets> Clone for Found<'_, B> {
    #[inline(always)]
    fn clone(&self) -> Self {
        *self
    }
}

impl<B: Buckets> Copy for Found<'_, B> {}

/// The signature of the entry at `way` without the bucket's mark.
#[inline(always)]
fn signature<B: Buckets>(bucket: &B, way: usize) -> u32 {
    bucket.signatures()[way].get() & !OVERFLOWED
}

/// As [`signature`], for a way that is known here: the mark stands at the first alone.
#[inline(always)]
fn signature_of<B: Buckets>(bucket: &B, way: usize) -> u32 {
    let signature = bucket.signatures()[way].get();
    if way == 0 {
        signature & !OVERFLOWED
    } else {
        signature
    }
}

/// What a connection is looked for by, beside its client.
#[derive(Clone, Copy)]
pub enum By {
    /// The service's index.
    Service(u32),
    /// The server's tag.
    ServerTag(u32),
}

impl By {
    #[inline(always)]
    fn is<E: Slot>(self, entry: &E) -> bool {
        match self {
            Self::Service(index) => entry.service().get() & 0xffff == index,
            Self::ServerTag(tag) => entry.server_tag().get() == tag,
        }
    }
}

#[inline(always)]
fn is_live<E: Slot>(entry: &E) -> bool {
    entry.state().get() & state_word::STATE != state::FREE
}

/// An [`Entry`] that is looked for.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct WantedNarrow {
    /// Client's address.
    pub address: u32,
    /// As [`Entry::client_port`].
    pub port: u32,
    /// The other end.
    pub by: By,
}

impl WantedNarrow {
    /// Where it stands.
    #[inline(always)]
    pub fn place<S: Store>(self, store: &S) -> Place {
        hash::connection(self.address, self.port, store.seed())
    }
}

impl Wanted<Entry> for WantedNarrow {
    #[inline(always)]
    fn is(self, entry: &Entry) -> bool {
        self.by.is(entry)
            && entry.client_address.get() == self.address
            && entry.client_port.get() == self.port
            && is_live(entry)
    }
}

/// What a wide entry is looked for by, beside its client.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Aim {
    /// The service or the server.
    pub by: By,
    /// The address that the client connected to; ignored unless `is_exact`.
    pub address: Address,
    /// The port that the client connected to; ignored unless `is_exact`.
    pub port: u32,
    /// 1: the service has no address or no port of its own. A whole word, as the port:
    /// the verifier wants every byte written.
    pub is_exact: u32,
}

impl Aim {
    /// Without the address that the client connected to.
    #[inline(always)]
    #[must_use]
    pub const fn any(by: By) -> Self {
        Self {
            by,
            address: [0; 4],
            port: 0,
            is_exact: 0,
        }
    }
}

/// A [`WideEntry`] that is looked for.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct WantedWide {
    /// Client's address.
    pub address: Address,
    /// As [`WideEntry::client_port`].
    pub port: u32,
    /// The other end.
    pub aim: Aim,
}

impl WantedWide {
    /// Where it stands.
    #[inline(always)]
    pub fn place<S: Store>(self, store: &S) -> Place {
        hash::wide_connection(self.address, self.port, store.seed())
    }
}

/// True: the words hold this address.
#[inline(always)]
#[must_use]
pub fn is_address(words: &AddressWords, address: Address) -> bool {
    let difference = (words[0].get() ^ address[0])
        | (words[1].get() ^ address[1])
        | (words[2].get() ^ address[2])
        | (words[3].get() ^ address[3]);
    difference == 0
}

/// The address that the words hold.
#[inline(always)]
#[must_use]
pub fn address_of(words: &AddressWords) -> Address {
    [
        words[0].get(),
        words[1].get(),
        words[2].get(),
        words[3].get(),
    ]
}

impl Wanted<WideEntry> for WantedWide {
    #[inline(always)]
    fn is(self, entry: &WideEntry) -> bool {
        entry.client_port.get() == self.port
            && self.aim.by.is(entry)
            && is_address(&entry.client_address, self.address)
            && is_live(entry)
            && (self.aim.is_exact == 0
                || (entry.ports.get() & 0xffff == self.aim.port
                    && is_address(&entry.virtual_address, self.aim.address)))
    }
}

/// The entry of `bucket` at `way`, which neither the compiler nor the verifier may
/// make a copy of the code behind for each value of.
#[inline(always)]
pub(crate) fn at<'a, S: Store, B: Buckets>(store: &S, bucket: &'a B, way: usize) -> Found<'a, B> {
    let way = store.opaque(way as u32) as usize & (WAYS - 1);
    Found {
        bucket,
        way,
        entry: &bucket.entries()[way],
    }
}

/// True: an entry of the bucket has this signature. Asked by itself, the compiler makes a
/// plain row of comparisons of it.
#[inline(always)]
fn is_signed<B: Buckets>(bucket: &B, wanted_signature: u32) -> bool {
    (0..WAYS).any(|way| signature_of(bucket, way) == wanted_signature)
}

/// Looks through a bucket by its signatures.
#[inline(always)]
fn find_in<'a, S: Store, B: Buckets>(
    store: &S,
    bucket: &'a B,
    wanted_signature: u32,
    wanted: B::Wanted,
) -> Option<Found<'a, B>> {
    let hit = way_of(bucket, wanted_signature, wanted);
    if hit == 0 {
        return None;
    }
    Some(at(store, bucket, hit as usize - 1))
}

/// The live entry at `place` that is wanted, looked for here and not in a function of its
/// own.
#[inline(always)]
pub fn find_here<S: Store, B: Buckets>(
    store: &S,
    place: Place,
    wanted: B::Wanted,
) -> Option<Found<'_, B>> {
    find_from(store, B::of(store, place.bucket)?, place, wanted)
}

/// As [`find_here`], where the home bucket is known.
#[inline(always)]
pub fn find_from<'a, S: Store, B: Buckets>(
    store: &'a S,
    home: &'a B,
    place: Place,
    wanted: B::Wanted,
) -> Option<Found<'a, B>> {
    // Most connections have the way they prefer, or its neighbour in the same cache
    // line: then the line of the signatures need not be fetched, which with many
    // connections is what a packet waits for.
    let preferred = at(store, home, place.way());
    if wanted.is(preferred.entry) {
        return Some(preferred);
    }
    let neighbour = at(store, home, place.way() ^ 1);
    if wanted.is(neighbour.entry) {
        return Some(neighbour);
    }
    let found = find_in(store, home, place.signature, wanted);
    if found.is_some() || home.signatures()[0].get() & OVERFLOWED == 0 {
        return found;
    }
    let sibling = B::of(store, place.sibling())?;
    find_in(store, sibling, place.signature, wanted)
}

/// 1 + the first way of a bucket whose entry is wanted; 0: none.
#[inline(always)]
fn way_of<B: Buckets>(bucket: &B, wanted_signature: u32, wanted: B::Wanted) -> u32 {
    if !is_signed(bucket, wanted_signature) {
        return 0;
    }
    let mut hit = 0;
    for way in 0..WAYS {
        if signature_of(bucket, way) == wanted_signature && wanted.is(&bucket.entries()[way]) {
            hit = 1 + way as u32;
            break;
        }
    }
    hit
}

/// Where [`find`] finds an entry, as a number: 0: nowhere; else 1 + its way, and in bit 8
/// whether in the sibling of the home bucket.
#[inline(always)]
pub fn location_of<S: Store, B: Buckets>(store: &S, place: Place, wanted: B::Wanted) -> u32 {
    let Some(home) = B::of(store, place.bucket) else {
        return 0;
    };
    // As in `find_here`, but with nothing that may be there or not: the verifier rejects
    // copies of what is not.
    let preferred = store.opaque(place.way() as u32) as usize & (WAYS - 1);
    if wanted.is(&home.entries()[preferred]) {
        return 1 + preferred as u32;
    }
    let neighbour = store.opaque(place.way() as u32 ^ 1) as usize & (WAYS - 1);
    if wanted.is(&home.entries()[neighbour]) {
        return 1 + neighbour as u32;
    }
    let hit = way_of::<B>(home, place.signature, wanted);
    if hit != 0 || home.signatures()[0].get() & OVERFLOWED == 0 {
        return hit;
    }
    let Some(sibling) = B::of(store, place.sibling()) else {
        return 0;
    };
    let hit = way_of::<B>(sibling, place.signature, wanted);
    if hit == 0 { 0 } else { IN_SIBLING as u32 | hit }
}

/// The live entry at `place` that is wanted.
#[inline(always)]
pub fn find<S: Store, B: Buckets>(
    store: &S,
    place: Place,
    wanted: B::Wanted,
) -> Option<Found<'_, B>> {
    let location = u64::from(B::located(store, place, &wanted));
    (location != 0)
        .then(|| found_at(store, place, location))
        .flatten()
}

/// What stands at a location.
#[inline(always)]
fn found_at<S: Store, B: Buckets>(store: &S, place: Place, location: u64) -> Option<Found<'_, B>> {
    let bucket = if location & IN_SIBLING == 0 {
        place.bucket
    } else {
        place.sibling()
    };
    let bucket = B::of(store, bucket)?;
    let way = (location as u32 & 0xff).wrapping_sub(1) as usize & (WAYS - 1);
    Some(Found {
        bucket,
        way,
        entry: &bucket.entries()[way],
    })
}

/// Clears the signature of an entry that was given up, but not the bucket's mark.
#[inline(always)]
pub(crate) fn clear_signature<L: Ledger>(ledger: &L, word: &Word) {
    let present = word.get() & !OVERFLOWED;
    ledger.add(word, present.wrapping_neg());
}

/// As the packet path does, for the daemon: clears the signature of an entry whose
/// state it has changed to 0.
#[cfg(not(target_arch = "bpf"))]
pub fn free_signature(word: &Word) {
    let present = word.get() & !OVERFLOWED;
    word.subtract(present);
}

/// Changes the entry's state word from `old` to dead. True: the caller was the one.
#[inline(always)]
pub fn kill<L: Ledger, E: Slot>(ledger: &L, entry: &E, old: u32) -> bool {
    let is_dead = end_state(ledger, entry, old);
    if is_dead {
        load::end(ledger, entry.server().get(), old & state_word::STATE);
    }
    is_dead
}

#[inline(always)]
pub(crate) fn end_state<L: Ledger, E: Slot>(ledger: &L, entry: &E, old: u32) -> bool {
    let dead = (old & !0xffff).wrapping_add(state_word::GENERATION);
    old & state_word::STATE != state::FREE && ledger.compare_and_swap(entry.state(), old, dead)
}

/// Ends a connection. True: the caller owns the entry. False: another CPU was first.
#[inline(always)]
pub(crate) fn end<L: Ledger, E: Slot>(ledger: &L, entry: &E) -> bool {
    kill(ledger, entry, entry.state().get())
}

/// Gives up a live entry.
#[inline(always)]
pub fn release<S: Store, B: Buckets>(store: &S, found: Found<'_, B>) {
    release_from(store, found, found.entry.state().get());
}

/// Gives up a live entry if its state word is still this one: another CPU may have given it
/// up already.
#[inline(always)]
pub(crate) fn release_from<S: Store, B: Buckets>(store: &S, found: Found<'_, B>, word: u32) {
    if kill(store, found.entry, word) {
        clear_signature(store, &found.bucket.signatures()[found.way]);
    }
}

/// Gives up a live entry that counts for no server, or whose server is left to the caller.
/// Its state until now; [`state::FREE`]: another CPU has changed it meanwhile.
#[inline(always)]
pub(crate) fn discard<S: Store, B: Buckets>(store: &S, found: Found<'_, B>) -> u32 {
    let word = found.entry.state().get();
    if !end_state(store, found.entry, word) {
        return state::FREE;
    }
    clear_signature(store, &found.bucket.signatures()[found.way]);
    word & state_word::STATE
}

/// A free way of the bucket: `preferred`, its neighbour, or the first one.
#[inline(always)]
fn free_way<S: Store, B: Buckets>(store: &S, bucket: &B, preferred: usize) -> Option<usize> {
    for way in [preferred, preferred ^ 1] {
        let way = store.opaque(way as u32) as usize & (WAYS - 1);
        if signature(bucket, way) == 0 {
            return Some(way);
        }
    }
    (0..WAYS).find(|&way| signature_of(bucket, way) == 0)
}

/// Claims the entry of the bucket at `way`, if it is free.
#[inline(always)]
fn claim_way<'a, S: Store, B: Buckets>(
    store: &S,
    bucket: &'a B,
    way: usize,
    place: Place,
) -> Option<Found<'a, B>> {
    let found = at(store, bucket, way);
    let word = &bucket.signatures()[found.way];
    let present = word.get();
    let mark = present & OVERFLOWED;
    (present == mark && store.compare_and_swap(word, mark, mark | place.signature)).then_some(found)
}

/// A free entry of the bucket, claimed.
#[inline(always)]
pub(crate) fn claim_free<'a, S: Store, B: Buckets>(
    store: &S,
    bucket: &'a B,
    place: Place,
) -> Option<Found<'a, B>> {
    claim_way(store, bucket, free_way(store, bucket, place.way())?, place)
}

/// Notes in the home bucket that some of its connections stand in the sibling.
#[inline(always)]
pub(crate) fn mark_overflowed<S: Store, B: Buckets>(store: &S, home: &B) {
    let word = &home.signatures()[0];
    let old = word.get();
    if old & OVERFLOWED == 0 && !store.compare_and_swap(word, old, old | OVERFLOWED) {
        // Another CPU changed the entry at the same moment; once more is enough.
        let old = word.get();
        store.compare_and_swap(word, old, old | OVERFLOWED);
    }
}

/// Where an entry was claimed: 0: nowhere; else 1 + way, and in bit 8 whether in the
/// sibling of the home bucket. In the upper half 1 + the server of the connection
/// that gave way.
pub(crate) const IN_SIBLING: u64 = 1 << 8;

pub(crate) const fn location<B: Buckets>(found: &Found<'_, B>) -> u64 {
    1 + found.way as u64
}

/// Claims a free entry in the home bucket, or in the sibling. Says where, as a number.
#[inline(always)]
pub fn claim<S: Store, B: Buckets>(store: &S, place: Place) -> u64 {
    let Some(home) = B::of(store, place.bucket) else {
        return 0;
    };
    if let Some(found) = claim_free::<S, B>(store, home, place) {
        return location(&found);
    }
    let Some(sibling) = B::of(store, place.sibling()) else {
        return 0;
    };
    // Also where there is none: it may yet be made.
    mark_overflowed(store, home);
    match claim_free::<S, B>(store, sibling, place) {
        Some(found) => IN_SIBLING | location(&found),
        None => 0,
    }
}

/// What was claimed.
pub(crate) struct Claimed<'a, B: Buckets> {
    pub(crate) found: Found<'a, B>,
    /// 1 + the server whose connection gave way; 0: none had to.
    pub(crate) victim: u32,
    /// It is where such an entry is looked for first.
    pub(crate) is_preferred: bool,
}

/// Claims an entry.
#[inline(always)]
pub(crate) fn claimed<'a, S: Store, B: Buckets>(
    store: &'a S,
    home: &'a B,
    place: Place,
) -> Option<Claimed<'a, B>> {
    if let Some(found) = claim_way(store, home, place.way(), place) {
        return Some(Claimed {
            found,
            victim: 0,
            is_preferred: true,
        });
    }
    claimed_anywhere(store, place)
}

#[inline(always)]
fn claimed_anywhere<S: Store, B: Buckets>(store: &S, place: Place) -> Option<Claimed<'_, B>> {
    let mut claimed = store.claim::<B>(place);
    if claimed == 0 {
        claimed = store.make_room::<B>(place);
    }
    if claimed == 0 {
        return None;
    }
    Some(Claimed {
        found: found_at(store, place, claimed)?,
        victim: (claimed >> 32) as u32,
        is_preferred: false,
    })
}

/// Enters something that counts for no server. A tree of servers that has to change for
/// what gave way is left to the daemon, which goes over all of them.
#[inline(always)]
pub(crate) fn enter<S: Store, B: Buckets>(store: &S, place: Place, new: B::New) {
    let claimed: Option<Claimed<'_, B>> = claimed_anywhere(store, place);
    if let Some(claimed) = claimed {
        publish(store, claimed.found, new);
    }
}

/// Writes a claimed entry and makes it live. Its state word is then the one returned.
#[inline(always)]
pub(crate) fn publish<S: Store, B: Buckets>(store: &S, found: Found<'_, B>, new: B::New) -> u32 {
    let entry = found.entry;
    new.write(entry);
    entry.seen().set(store.tick());
    let old = entry.state().get();
    let live = (old & !0xffff).wrapping_add(state_word::GENERATION) | new.state();
    store.compare_and_swap(entry.state(), old, live);
    live
}

/// Moves a connection to `state`, setting `flags`, and keeps the server's load
/// exact: of several CPUs only the one whose swap succeeds counts.
#[inline(always)]
pub fn change_state<L: Ledger, E: Slot>(ledger: &L, entry: &E, state: u32, flags: u32) {
    let old = entry.state().get();
    let new = (old & !state_word::STATE) | flags | state;
    if new == old || old & state_word::STATE == state::FREE {
        return;
    }
    if ledger.compare_and_swap(entry.state(), old, new) {
        load::shift(ledger, entry.server().get(), old & state_word::STATE, state);
    }
}
