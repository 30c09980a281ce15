//! Expiry: what the daemon does with the connection tables while packets use them.

mod flood;
mod suspects;
mod templates;
#[cfg(test)]
mod tests;

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::ops::Range;

use evenkeel_datapath::layout::{
    Address, Bucket, Entry, NOBODY, Service, WAYS, WideBucket, WideEntry, mapped, scheduler,
    server_flags, service_flags, settings, state_word,
};
use evenkeel_datapath::memory::Memory;
use evenkeel_datapath::table::{self, Aim, Buckets, By, Slot, Wanted, WantedNarrow, WantedWide};
use evenkeel_datapath::tree::{Tree, has_tree};
use evenkeel_datapath::word::Word;
use evenkeel_datapath::{hash, state};

use crate::director::Fill;
use flood::{Fate, Flood};
use suspects::Suspects;
use templates::Templates;

pub(crate) use templates::MORE_SECONDS;

/// Seconds after which a place that was taken, but never became a connection, or
/// was given up only in part, is free again; and what belongs to a connection that is
/// gone.
const UNFINISHED_SECONDS: u32 = 2;
/// Seconds without a fragment after which no more of the packet are waited for: the
/// kernel's `ipfrag_time`.
const FRAGMENT_SECONDS: u32 = 30;
/// Seconds after which an unused destination of `lblc` and `lblcr` is forgotten at the
/// latest when there are more than [`LOCALITIES`].
const MANY_LOCALITIES_SECONDS: u32 = 6 * 60;
const LOCALITIES: u64 = 16_384;

/// Seconds that a UDP flow to a quiesced server may be silent, if nothing else is said.
pub const UDP_QUIESCED_SECONDS: u32 = 30;

/// Seconds after which a destination of a scheduler that nobody asked for is forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalitySeconds {
    /// `lblc_expiration`.
    pub lblc: u32,
    /// `lblcr_expiration`; after these a destination also gives up its busiest server.
    pub lblcr: u32,
}

impl Default for LocalitySeconds {
    /// IPVS's: a day.
    fn default() -> Self {
        let day = 24 * 60 * 60;
        Self {
            lblc: day,
            lblcr: day,
        }
    }
}

/// Names of the states by number, as `ipvsadm -Lc` has them.
pub const STATE_NAMES: [&str; 32] = [
    "",
    "NONE",
    "ESTABLISHED",
    "SYN_SENT",
    "SYN_RECV",
    "FIN_WAIT",
    "TIME_WAIT",
    "CLOSE",
    "CLOSE_WAIT",
    "LAST_ACK",
    "LISTEN",
    "SYNACK",
    "UDP",
    "TEMPLATE",
    "TRANSLATED",
    "FRAGMENT",
    "NONE",
    "INIT1",
    "INIT",
    "C-SENT",
    "C-REPLIED",
    "C-WAIT",
    "COOKIE",
    "C-ECHOED",
    "ESTABLISHED",
    "S-SENT",
    "S-RECEIVED",
    "S-ACK-SENT",
    "REJECTED",
    "CLOSED",
    "LOCALITY",
    "",
];

/// What a sweep has seen and done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Live connections that stay, by state.
    pub states: [u64; 32],
    /// Connections that were expired.
    pub expired: u64,
    /// Half-open connections among them whose time was shorter than usual, because their
    /// service has so many.
    pub cut_short: u64,
    /// What `drop_entry` has taken.
    pub dropped: u64,
    /// Unfinished places that were freed.
    pub reclaimed: u64,
    /// Live entries of the table of wide ones that stay.
    pub wide: u64,
}

impl Summary {
    /// Live connections that stay.
    #[must_use]
    pub fn in_use(&self) -> u64 {
        self.states.iter().sum()
    }

    /// How full the tables are: first the narrow one.
    #[must_use]
    pub fn fills(&self, memory: &Memory<'_>) -> [Fill; 2] {
        fn fill<B>(buckets: &[B], in_use: u64) -> Fill {
            Fill {
                capacity: (buckets.len() * WAYS) as u64,
                in_use,
                entry_bytes: (size_of::<B>() / WAYS) as u64,
            }
        }
        [
            fill(memory.connections, self.in_use() - self.wide),
            fill(memory.wide_connections, self.wide),
        ]
    }

    /// Adds what was seen in another part of the table.
    pub fn add(&mut self, other: &Self) {
        for (sum, part) in self.states.iter_mut().zip(other.states) {
            *sum += part;
        }
        self.expired += other.expired;
        self.cut_short += other.cut_short;
        self.dropped += other.dropped;
        self.reclaimed += other.reclaimed;
        self.wide += other.wide;
    }
}

/// A bucket and a way. Buckets are numbered through both tables, first the narrow one.
type Place = (usize, usize);

/// Either table, as far as expiry tells them apart.
trait Table: Buckets + 'static {
    /// The table.
    fn all<'a>(memory: &Memory<'a>) -> &'a [Self];
    /// The client's address.
    fn client(entry: &Self::Entry) -> Address;
    /// The entry, where it may be no connection but one of what is kept beside them.
    fn wide(entry: &Self::Entry) -> Option<&WideEntry>;
}

impl Table for Bucket {
    fn all<'a>(memory: &Memory<'a>) -> &'a [Self] {
        memory.connections
    }
    fn client(entry: &Entry) -> Address {
        mapped(entry.client_address.get())
    }
    fn wide(_entry: &Entry) -> Option<&WideEntry> {
        None
    }
}

impl Table for WideBucket {
    fn all<'a>(memory: &Memory<'a>) -> &'a [Self] {
        memory.wide_connections
    }
    fn client(entry: &WideEntry) -> Address {
        table::address_of(&entry.client_address)
    }
    fn wide(entry: &WideEntry) -> Option<&WideEntry> {
        Some(entry)
    }
}

/// A place that is taken and should not be, as it was seen first: one that is not live,
/// or whose connection is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Unfinished {
    signature: u32,
    state: u32,
    since_tick: u32,
}

/// When a slice is swept, and what that means.
struct Now<'a> {
    memory: &'a Memory<'a>,
    tick: u32,
    ticks_per_second: f64,
    /// Silence in ticks after which an entry expires, by state.
    limits: [u32; 32],
    /// [`UNFINISHED_SECONDS`] in ticks.
    patience: u32,
    /// Silence in ticks after which a half-open connection speaks against its server.
    hearing: u32,
    /// Connections end with their server (`expire_nodest_conn`).
    ends_with_server: bool,
    /// Silence in ticks after which a UDP flow leaves a quiesced server.
    quiesced_limit: u32,
    /// Silence in ticks after which a destination of `lblc` is forgotten; that of `lblcr`
    /// is among the limits.
    lblc_limit: u32,
}

impl<'a> Now<'a> {
    fn new(memory: &'a Memory<'a>, tick: u32, ticks_per_second: f64, sweeper: &Sweeper) -> Self {
        let mut limits = limits(memory).map(|seconds| in_ticks(seconds, ticks_per_second));
        let LocalitySeconds { lblc, lblcr } = sweeper.locality_seconds;
        let most = if sweeper.localities > LOCALITIES {
            MANY_LOCALITIES_SECONDS
        } else {
            u32::MAX
        };
        let locality = |seconds: u32| in_ticks(seconds.min(most), ticks_per_second);
        limits[state::LOCALITY as usize] = locality(lblcr);
        let flags = memory.control.settings.get();
        Self {
            memory,
            tick,
            ticks_per_second,
            limits,
            patience: in_ticks(UNFINISHED_SECONDS, ticks_per_second).max(1),
            hearing: in_ticks(suspects::SILENT_SECONDS, ticks_per_second).max(1),
            ends_with_server: flags & settings::EXPIRE_NODEST_CONN != 0,
            quiesced_limit: in_ticks(sweeper.udp_quiesced_seconds, ticks_per_second),
            lblc_limit: locality(lblc),
        }
    }

    fn ticks(&self, seconds: u32) -> u32 {
        in_ticks(seconds, self.ticks_per_second)
    }

    /// The service of an entry.
    fn service(&self, entry: &impl Slot) -> Option<&'a Service> {
        let index = entry.service().get() & 0xffff;
        self.memory.services.get(index as usize)
    }

    /// True: a flow goes to a server of weight 0, and its service does not have IPVS's
    /// ways. UDP has no end that could be waited for, so a pause of the client is one.
    fn is_quiesced(&self, entry: &impl Slot) -> bool {
        let server = self.memory.servers.get(entry.server().get() as usize);
        let is_quiesced = server.is_some_and(|server| {
            let flags = server_flags::ALIVE | server_flags::WEIGHTED;
            server.flags.get() & flags == server_flags::ALIVE
        });
        let service = self.service(entry);
        is_quiesced && service.is_some_and(|it| it.flags.get() & service_flags::COMPATIBLE == 0)
    }

    fn is_alive(&self, server: u32) -> bool {
        let server = self.memory.servers.get(server as usize);
        server.is_some_and(|server| server.flags.get() & server_flags::ALIVE != 0)
    }
}

/// Seconds of silence after which an entry expires, by state: IPVS's `tcp_timeouts`,
/// `sctp_timeouts` and those that can be set. Of templates, see [`templates`].
pub(crate) fn limits(memory: &Memory<'_>) -> [u32; 32] {
    let control = memory.control;
    let mut seconds = [61; 32];
    for (state, value) in [
        (state::NONE, 2),
        (state::ESTABLISHED, control.timeout_tcp.get()),
        (state::SYN_SENT, 120),
        (state::SYN_RECV, 60),
        (state::FIN_WAIT, control.timeout_tcp_fin.get()),
        (state::TIME_WAIT, 120),
        (state::CLOSE, 10),
        (state::CLOSE_WAIT, 60),
        (state::LAST_ACK, 30),
        (state::LISTEN, 120),
        (state::SYNACK, 120),
        (state::UDP, control.timeout_udp.get()),
        (state::FRAGMENT, FRAGMENT_SECONDS),
        (state::SCTP_NONE, 2),
        (state::SCTP_INIT1, 4),
        (state::SCTP_ESTABLISHED, 900),
        (state::SCTP_REJECTED, 4),
    ] {
        seconds[state as usize] = value;
    }
    seconds
}

#[allow(
    clippy::cast_sign_loss,
    reason = "both factors are positive, and the cast saturates"
)]
fn in_ticks(seconds: u32, ticks_per_second: f64) -> u32 {
    (f64::from(seconds) * ticks_per_second) as u32
}

/// Ticks since `then`; 0 for one that another CPU has just set to the next.
pub(crate) const fn age(now: u32, then: u32) -> u32 {
    let age = now.wrapping_sub(then);
    if age > i32::MAX as u32 { 0 } else { age }
}

/// Expires connections, and what is kept beside them. Goes through the tables again and
/// again, a slice at a time.
#[derive(Debug)]
pub struct Sweeper {
    /// The bucket to go on with.
    next: usize,
    summary: Summary,
    /// Destinations of `lblc` and `lblcr`, as the last pass has counted them.
    localities: u64,
    locality_seconds: LocalitySeconds,
    udp_quiesced_seconds: u32,
    unfinished: BTreeMap<Place, Unfinished>,
    templates: Templates,
    flood: Flood,
    suspects: Suspects,
    /// Those of the last whole pass.
    suspected: Vec<u32>,
}

impl Default for Sweeper {
    fn default() -> Self {
        Self {
            next: 0,
            summary: Summary::default(),
            localities: 0,
            locality_seconds: LocalitySeconds::default(),
            udp_quiesced_seconds: UDP_QUIESCED_SECONDS,
            unfinished: BTreeMap::new(),
            templates: Templates::default(),
            flood: Flood::default(),
            suspects: Suspects::default(),
            suspected: Vec::new(),
        }
    }
}

impl Sweeper {
    /// Buckets of both tables.
    #[must_use]
    pub fn buckets(memory: &Memory<'_>) -> usize {
        memory.connections.len() + memory.wide_connections.len()
    }

    /// Sets how long destinations are kept, from the next slice on.
    pub fn set_locality_seconds(&mut self, seconds: LocalitySeconds) {
        self.locality_seconds = seconds;
    }

    /// Has half-open connections dropped at random (`drop_entry`), or not, from the next
    /// slice on.
    pub fn set_dropping(&mut self, drops: bool) {
        self.flood.drops = drops;
    }

    /// Sets how long a UDP flow to a server of weight 0 may be silent before its next
    /// packet goes to another one; in services with IPVS's ways it is as long as any other.
    pub fn set_udp_quiesced_seconds(&mut self, seconds: u32) {
        self.udp_quiesced_seconds = seconds;
    }

    /// Servers, by their places in memory, of which more connections failed in the last whole
    /// pass than in the one before: reset, or without an answer to the first packet.
    #[must_use]
    pub fn suspects(&self) -> &[u32] {
        &self.suspected
    }

    /// Looks at the next `count` buckets, at most to the end of the tables. Gives what
    /// was seen and done in the whole pass when it ends with this slice.
    pub fn slice(
        &mut self,
        memory: &Memory<'_>,
        count: usize,
        now_tick: u32,
        ticks_per_second: f64,
    ) -> Option<Summary> {
        let now = Now::new(memory, now_tick, ticks_per_second, self);
        // The packet path knows no seconds; to it 0 is never.
        let locality_ticks = &memory.control.locality_ticks;
        locality_ticks.set(now.ticks(self.locality_seconds.lblcr).max(1));
        let (narrow, all) = (memory.connections.len(), Self::buckets(memory));
        let end = self.next.saturating_add(count).min(all);
        let slice = self.next..end;
        self.sweep(&now, memory.connections, 0, slice.clone());
        self.sweep(&now, memory.wide_connections, narrow, slice.clone());
        self.forget_finished(memory, slice);
        self.next = end;
        if end < all {
            return None;
        }
        self.next = 0;
        self.summary.expired += self.templates.end_pass(&now);
        self.flood.end_pass();
        self.suspected = self.suspects.end_pass();
        self.localities = self.summary.states[state::LOCALITY as usize];
        Some(core::mem::take(&mut self.summary))
    }

    /// Looks at those buckets of a table that are in the slice; the table's first one has
    /// the number `offset`.
    fn sweep<B: Table>(
        &mut self,
        now: &Now<'_>,
        buckets: &[B],
        offset: usize,
        slice: Range<usize>,
    ) {
        let first = slice.start.saturating_sub(offset);
        let count = slice.end.saturating_sub(offset).saturating_sub(first);
        for (index, bucket) in buckets.iter().enumerate().skip(first).take(count) {
            for way in 0..WAYS {
                let signature = bucket.signatures()[way].get() & !table::OVERFLOWED;
                if signature != 0 {
                    let place = (offset + index, way);
                    self.look(now, bucket, place, signature);
                }
            }
        }
    }

    /// Looks at a place that is taken.
    #[inline]
    fn look<B: Table>(&mut self, now: &Now<'_>, bucket: &B, place: Place, signature: u32) {
        let way = place.1;
        let entry = &bucket.entries()[way];
        let seen = Unfinished {
            signature,
            state: entry.state().get(),
            since_tick: now.tick,
        };
        let state = seen.state & state_word::STATE;
        if state == state::FREE {
            if self.is_over(place, seen, now.patience) && reclaim(bucket, way, seen) {
                self.summary.reclaimed += 1;
            }
        } else if !self.has_ended::<B>(now, entry, place, seen) {
            self.summary.states[state as usize] += 1;
            self.summary.wide += u64::from(B::IS_WIDE);
        } else if expire(now.memory, bucket, way, seen.state) {
            self.summary.expired += 1;
        }
    }

    /// True: the time of a live entry is over.
    #[inline]
    fn has_ended<B: Table>(
        &mut self,
        now: &Now<'_>,
        entry: &B::Entry,
        place: Place,
        seen: Unfinished,
    ) -> bool {
        let number = seen.state & state_word::STATE;
        let silent = age(now.tick, entry.seen().get());
        let limit = now.limits[number as usize];
        let is_late = silent > limit;
        let is_orphaned = || now.ends_with_server && !now.is_alive(entry.server().get());
        match B::wide(entry).filter(|_| state::is_auxiliary(number)) {
            None => {
                let capacity = B::all(now.memory).len() * WAYS;
                let word = seen.state;
                let fate = self.flood.connection(now, entry, word, limit, capacity);
                self.summary.cut_short += u64::from(fate == Fate::IsCutShort);
                self.summary.dropped += u64::from(fate == Fate::IsDropped);
                let server = entry.server().get();
                self.suspects.connection(server, word, silent, now.hearing);
                let is_pause = number == state::UDP && silent > now.quiesced_limit;
                if fate != Fate::Stays || is_orphaned() || is_pause && now.is_quiesced(entry) {
                    return true;
                }
                self.templates
                    .connection(now, B::client(entry), entry, place, word);
                false
            }
            Some(template) if number == state::TEMPLATE => {
                let is_dropped = self.flood.drops_template(now, template);
                self.summary.dropped += u64::from(is_dropped);
                is_dropped
                    || is_orphaned()
                    || self.templates.is_useless(now, template, place, seen.state)
            }
            Some(translated) if number == state::TRANSLATED => {
                if has_connection(now.memory, translated) {
                    self.unfinished.remove(&place);
                    return false;
                }
                self.is_over(place, seen, now.patience)
            }
            Some(locality) if number == state::LOCALITY => {
                let service = now.service(locality);
                let is_lblc = service.is_some_and(|s| s.scheduler.get() == scheduler::LBLC);
                let is_late = if is_lblc {
                    silent > now.lblc_limit
                } else {
                    is_late
                };
                is_late || !has_servers(now, locality)
            }
            Some(_) => is_late,
        }
    }

    /// True: this very place was unfinished long enough.
    fn is_over(&mut self, place: Place, seen: Unfinished, patience: u32) -> bool {
        let first = self.unfinished.entry(place).or_insert(seen);
        if (first.signature, first.state) != (seen.signature, seen.state) {
            *first = seen;
        }
        age(seen.since_tick, first.since_tick) > patience
    }

    /// Of the places in a slice forgets those that are something else now. What was seen
    /// now was entered now, or is what it was.
    fn forget_finished(&mut self, memory: &Memory<'_>, slice: Range<usize>) {
        let range = (slice.start, 0)..(slice.end, 0);
        let gone: Vec<Place> = self
            .unfinished
            .range(range)
            .filter(|&(&place, seen)| taken(memory, place) != Some((seen.signature, seen.state)))
            .map(|(&place, _)| place)
            .collect();
        for place in gone {
            self.unfinished.remove(&place);
        }
    }
}

/// Signature and state word at a place.
fn taken(memory: &Memory<'_>, (index, way): Place) -> Option<(u32, u32)> {
    fn of<B: Buckets>(bucket: &B, way: usize) -> Option<(u32, u32)> {
        let signature = bucket.signatures().get(way)?.get() & !table::OVERFLOWED;
        Some((signature, bucket.entries().get(way)?.state().get()))
    }
    match index.checked_sub(memory.connections.len()) {
        None => of(memory.connections.get(index)?, way),
        Some(index) => of(memory.wide_connections.get(index)?, way),
    }
}

/// Gives up an entry as the packet path does: who changes the state owns the rest.
fn expire<B: Buckets>(memory: &Memory<'_>, bucket: &B, way: usize, word: u32) -> bool {
    if !table::kill(memory, &bucket.entries()[way], word) {
        return false;
    }
    table::free_signature(&bucket.signatures()[way]);
    true
}

/// Frees a place whose owner is gone.
fn reclaim<B: Buckets>(bucket: &B, way: usize, seen: Unfinished) -> bool {
    let word = &bucket.signatures()[way];
    let present = word.get();
    present & !table::OVERFLOWED == seen.signature
        && word.compare_and_swap(present, present & table::OVERFLOWED)
}

/// True: the connection that a translated source belongs to is there, and not the next one of
/// the same client, which has another.
fn has_connection(memory: &Memory<'_>, translated: &WideEntry) -> bool {
    let index = translated.service.get() & 0xffff;
    let Some(service) = memory.services.get(index as usize) else {
        return false;
    };
    let (client, by) = (
        table::address_of(&translated.virtual_address),
        By::ServerTag(translated.hop.get()),
    );
    // The client's port, and the protocol.
    let port = translated.ports.get() & 0xffff | translated.client_port.get() & 0xff_0000;
    let server = translated.server.get();
    let seed = memory.control.seed.get();
    if service.flags.get() & service_flags::WIDE != 0 {
        let place = hash::wide_connection(client, port, seed);
        let wanted = WantedWide {
            address: client,
            port,
            aim: Aim::any(by),
        };
        is_there(memory.wide_connections, place, wanted, server)
    } else {
        let address = client[3];
        let place = hash::connection(address, port, seed);
        let wanted = WantedNarrow { address, port, by };
        is_there(memory.connections, place, wanted, server)
    }
}

/// True: the table has what is wanted, with this server.
fn is_there<B: Buckets>(buckets: &[B], place: hash::Place, wanted: B::Wanted, server: u32) -> bool {
    find(buckets, place, wanted).is_some_and(|entry| entry.server().get() == server)
}

/// What is wanted, from its bucket or that one's sibling.
fn find<B: Buckets>(buckets: &[B], place: hash::Place, wanted: B::Wanted) -> Option<&B::Entry> {
    let mask = buckets.len().wrapping_sub(1);
    [place.bucket, place.sibling()]
        .into_iter()
        .filter_map(|number| buckets.get(number as usize & mask))
        .flat_map(|bucket| bucket.signatures().iter().zip(bucket.entries()))
        .find(|(signature, entry)| {
            signature.get() & !table::OVERFLOWED == place.signature && wanted.is(entry)
        })
        .map(|(_, entry)| entry)
}

/// True: the servers that a destination is kept for are there, and its service's. Another
/// service may get the place of one that is gone.
fn has_servers(now: &Now<'_>, locality: &WideEntry) -> bool {
    let service = locality.service.get() & 0xffff;
    [&locality.server, &locality.server_tag]
        .into_iter()
        .chain(&locality.virtual_address)
        .map(Word::get)
        .filter(|&server| server != NOBODY)
        .all(|server| {
            let record = now.memory.servers.get(server as usize);
            now.is_alive(server) && record.is_some_and(|record| record.service.get() == service)
        })
}

/// Makes all comparisons of all trees again, in case one was missed: a tree that is not
/// right would stay so until its servers' connections change. Not while the director
/// writes trees.
pub fn settle(memory: &Memory<'_>) {
    for service in memory.services {
        let number = service.scheduler.get();
        if service.flags.get() & service_flags::USED != 0 && has_tree(number) {
            Tree::of(number, service.ring.get()).settle_all(memory);
        }
    }
}
