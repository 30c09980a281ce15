//! The host as a place for the packet path to run: ordinary memory, a clock and
//! routes that the caller sets. For tests, fuzzing and as a reference for what the
//! kernel does.

mod tables;

use core::cell::{Cell, OnceCell, RefCell};
use std::vec;
use std::vec::Vec;

use crate::checksum;
use crate::endpoint;
use crate::evict::Victim;
use crate::forward::{process_bare, process_reply};
use crate::frame::ETHERNET;
use crate::general::{self, Arrival};
use crate::hash::Place;
use crate::host::{ChecksumChange, Host, Ledger, Room, Route, Store, Window};
use crate::layout::{
    Address, Addresses, Bucket, ClientHop, Control, Counters, EndpointBucket, INTERFACES,
    Interface, Load, MarkRules, Reasons, Server, Service, WideBucket, WideEndpointBucket,
    interface_flags,
};
use crate::locality;
use crate::memory::{Arrays, Memory};
use crate::schedule::{self, Request};
use crate::state;
use crate::table::{self, Buckets, WantedNarrow, WantedWide};
use crate::word::Word;
use crate::{Reason, Verdict, evict, process, relocate, room};

pub use tables::{Sizes, Tables};

/// Where addresses are, for a run: `(source, destination, protocol)`, addresses as
/// they stand in the packet.
pub type Routes<'a> = &'a dyn Fn(u32, u32, u8) -> Route;

/// What the packet path is told about a frame beside its bytes.
#[derive(Clone, Copy)]
pub struct Circumstances<'a> {
    /// Interface it came by.
    pub interface: u32,
    /// The present tick.
    pub tick: u32,
    /// CPU it is processed on.
    pub cpu: u32,
    /// Routes.
    pub routes: Routes<'a>,
    /// Routes of IPv6.
    pub wide_routes: WideRoutes<'a>,
    /// tc: the firewall mark that it carries.
    pub mark: u32,
    /// tc: it carries a VLAN tag beside its bytes.
    pub tagged: bool,
    /// tc: it is addressed to this host. At XDP the bytes tell.
    pub for_us: bool,
}

/// As [`Routes`], for IPv6.
pub type WideRoutes<'a> = &'a dyn Fn(Address, Address, u8) -> Route;

/// How often a packet can be kept: before its transport header is read, and after; for what
/// an ICMP error quotes, and twice again when its connection is open.
const KEPT: usize = 8;
/// Bytes before the frame that headers can be put into.
const HEADROOM: usize = 128;

pub(crate) struct Simulated<'a, M, const TC: bool> {
    memory: &'a M,
    /// The frame with [`HEADROOM`] before it.
    bytes: &'a [Cell<u8>],
    /// Where it begins and ends.
    start: Cell<usize>,
    end: Cell<usize>,
    kept: [OnceCell<Arrival>; KEPT],
    around: Circumstances<'a>,
    /// What was decided on the way, for who wants to know.
    notes: RefCell<Vec<Note>>,
}

/// A step in deciding about a packet.
#[derive(Clone, Copy)]
pub(crate) enum Note {
    /// An endpoint was looked for, see [`general::seek`].
    Sought {
        end: u32,
        port: u16,
        kind: u32,
        found: u32,
    },
    /// An entry of the connection table was looked for.
    Looked(Place, WantedNarrow),
    /// A wide one was.
    LookedWide(Place, WantedWide),
    /// The template of persistence that may be used; [`NOBODY`](crate::layout::NOBODY): none.
    Template { server: u32 },
    /// A template was made.
    TemplateMade { server: u32 },
    /// A slot of a ring was looked at, and its server takes connections; [`NOBODY`](crate::layout::NOBODY): it
    /// does not.
    Slot { slot: u32, server: u32 },
    /// The scheduler has decided; [`NOBODY`](crate::layout::NOBODY): nobody takes connections.
    Decided { server: u32 },
}

/// Runs the packet path as at XDP.
pub fn run_xdp(memory: Memory<'_>, frame: &mut Vec<u8>, around: Circumstances<'_>) -> Verdict {
    run::<_, false>(&memory, frame, around)
}

/// Runs the packet path as at tc, for frames with whole checksums.
pub fn run_tc(memory: Memory<'_>, frame: &mut Vec<u8>, around: Circumstances<'_>) -> Verdict {
    run::<_, true>(&memory, frame, around)
}

/// Runs what translates answers of servers on this machine, as at tc's egress.
pub fn run_egress(memory: Memory<'_>, frame: &mut Vec<u8>, around: Circumstances<'_>) -> Verdict {
    in_place::<_, true, _>(&memory, frame, around, |host| process_reply(host))
}

/// Runs the packet path as at tc, for packets that came without a link-layer header. The
/// frame has room for one.
pub fn run_bare(memory: Memory<'_>, frame: &mut Vec<u8>, around: Circumstances<'_>) -> Verdict {
    in_place::<_, true, _>(&memory, frame, around, |host| process_bare(host))
}

pub(crate) fn run<M: Arrays, const TC: bool>(
    memory: &M,
    frame: &mut Vec<u8>,
    around: Circumstances<'_>,
) -> Verdict {
    in_place::<M, TC, _>(memory, frame, around, |host| process(host))
}

/// Does something with a host whose frame this is.
pub(crate) fn in_place<M: Arrays, const TC: bool, T>(
    memory: &M,
    frame: &mut Vec<u8>,
    around: Circumstances<'_>,
    action: impl FnOnce(&Simulated<'_, M, TC>) -> T,
) -> T {
    let mut bytes = vec![0; HEADROOM];
    bytes.extend_from_slice(frame);
    let end = bytes.len();
    let simulated = Simulated::<M, TC> {
        memory,
        bytes: Cell::from_mut(bytes.as_mut_slice()).as_slice_of_cells(),
        start: Cell::new(HEADROOM),
        end: Cell::new(end),
        kept: [const { OnceCell::new() }; KEPT],
        around,
        notes: RefCell::default(),
    };
    let result = action(&simulated);
    let (start, end) = (simulated.start.get(), simulated.end.get());
    frame.clear();
    frame.extend_from_slice(&bytes[start..end]);
    result
}

/// How often something was counted, on all CPUs.
#[must_use]
pub fn reason_count(memory: &Memory<'_>, reason: Reason) -> u64 {
    memory
        .reasons
        .iter()
        .map(|cpu| cpu.counts[reason as usize].get())
        .sum()
}

/// A window over simulated bytes.
#[derive(Clone, Copy)]
pub struct Cells<'a>(&'a [Cell<u8>]);

impl Cells<'_> {
    fn read<const N: usize>(self, offset: usize) -> [u8; N] {
        core::array::from_fn(|i| self.0[offset + i].get())
    }

    fn write(self, offset: usize, bytes: &[u8]) {
        for (cell, &byte) in self.0[offset..].iter().zip(bytes) {
            cell.set(byte);
        }
    }
}

impl Window for Cells<'_> {
    fn u8(self, offset: usize) -> u8 {
        self.0[offset].get()
    }
    fn u16(self, offset: usize) -> u16 {
        u16::from_ne_bytes(self.read(offset))
    }
    fn u32(self, offset: usize) -> u32 {
        u32::from_ne_bytes(self.read(offset))
    }
    fn set_u8(self, offset: usize, value: u8) {
        self.0[offset].set(value);
    }
    fn set_u16(self, offset: usize, value: u16) {
        self.write(offset, &value.to_ne_bytes());
    }
    fn set_u32(self, offset: usize, value: u32) {
        self.write(offset, &value.to_ne_bytes());
    }
}

impl<M: Arrays, const TC: bool> Simulated<'_, M, TC> {
    fn interface_record(&self) -> Option<&Interface> {
        let index = self.around.interface;
        let record = self.memory.interface(index & (INTERFACES - 1))?;
        (record.index.get() == index).then_some(record)
    }

    fn note(&self, note: Note) {
        self.notes.borrow_mut().push(note);
    }

    /// Does what looks at other connections than the packet's.
    fn quietly<T>(&self, action: impl FnOnce() -> T) -> T {
        let noted = self.notes.borrow().len();
        let result = action();
        self.notes.borrow_mut().truncate(noted);
        result
    }

    /// What was decided, in order.
    pub(crate) fn notes(&self) -> Vec<Note> {
        self.notes.borrow().clone()
    }
}

impl<M: Arrays, const TC: bool> Ledger for Simulated<'_, M, TC> {
    fn service(&self, index: u32) -> Option<&Service> {
        self.memory.service(index)
    }
    fn server(&self, index: u32) -> Option<&Server> {
        self.memory.server(index)
    }
    fn ring(&self, index: u32) -> Option<&Word> {
        self.memory.ring(index)
    }
    fn ring_pair(&self, index: u32) -> Option<&[Word; 2]> {
        self.memory.ring_pair(index)
    }
    fn load(&self, server: u32) -> Option<&Load> {
        self.memory.load(server)
    }
    fn compare_and_swap(&self, word: &Word, old: u32, new: u32) -> bool {
        word.compare_and_swap(old, new)
    }
    fn add(&self, word: &Word, amount: u32) -> u32 {
        word.add(amount)
    }
    fn rank(&self, server: u32) {
        crate::tree::changed(self, server);
    }
}

impl<M: Arrays, const TC: bool> Store for Simulated<'_, M, TC> {
    fn wide_bucket_mask(&self) -> u32 {
        (self.memory.wide_buckets() - 1) as u32
    }
    fn wide_endpoint_mask(&self) -> u32 {
        (self.memory.wide_endpoint_buckets() - 1) as u32
    }
    fn wide_bucket(&self, index: u32) -> Option<&WideBucket> {
        self.memory.wide_bucket(index)
    }
    fn wide_endpoints(&self, index: u32) -> Option<&WideEndpointBucket> {
        self.memory.wide_endpoint_bucket(index)
    }
    fn tick(&self) -> u32 {
        self.around.tick
    }
    fn bucket_mask(&self) -> u32 {
        (self.memory.buckets() - 1) as u32
    }
    fn endpoint_mask(&self) -> u32 {
        (self.memory.endpoint_buckets() - 1) as u32
    }
    fn seed(&self) -> u64 {
        self.memory.control().seed.get()
    }
    fn control(&self) -> Option<&Control> {
        Some(self.memory.control())
    }
    fn bucket(&self, index: u32) -> Option<&Bucket> {
        self.memory.bucket(index)
    }
    fn addresses(&self) -> Option<&Addresses> {
        Some(self.memory.addresses())
    }
    fn endpoints(&self, index: u32) -> Option<&EndpointBucket> {
        self.memory.endpoint_bucket(index)
    }
    fn client_hop(&self, index: u32) -> Option<&ClientHop> {
        self.memory.client_hop(index)
    }
    fn counters(&self, server: u32) -> Option<&Counters> {
        self.memory.counters(self.around.cpu, server)
    }
    fn mark_rules(&self) -> Option<&MarkRules> {
        Some(self.memory.mark_rules())
    }
    fn marked(&self, interface: u32) -> u32 {
        general::marked(self, interface)
    }
    fn fits(&self, place: u32, interface: u32) -> u32 {
        general::fits(self, place, interface)
    }
    fn reasons(&self) -> Option<&Reasons> {
        self.memory.reasons(self.around.cpu)
    }
    fn opaque(&self, value: u32) -> u32 {
        value
    }
    fn veiled(&self, value: u32) -> u32 {
        value
    }
    fn kept(&self) -> Option<&Arrival> {
        self.kept.iter().rev().find_map(OnceCell::get)
    }
    fn may_answer(&self) -> bool {
        true
    }
    fn probe(&self, bucket: u32, key: u64) -> u64 {
        endpoint::probe(self, bucket, key)
    }
    fn probe_wide(&self, bucket: u32, end: u32, key: u32) -> u64 {
        general::probe_wide(self, bucket, end, key)
    }
    fn reserve(&self, reference: u32) -> u32 {
        self.quietly(|| general::reserve(self, reference))
    }
    fn hold(&self, server: u32, port: u32, reference: u32, flags: u32) -> u32 {
        self.quietly(|| general::hold(self, server, port, reference, flags))
    }
    fn disconnect(&self) -> u32 {
        self.quietly(|| general::disconnect(self))
    }
    fn seek(&self, end: u32, port: u32, kind: u32) -> u32 {
        let found = general::seek(self, end, port, kind);
        self.note(Note::Sought {
            end,
            port: port as u16,
            kind,
            found,
        });
        found
    }
    fn find(&self, place: Place, wanted: &WantedNarrow) -> u32 {
        self.note(Note::Looked(place, *wanted));
        table::location_of::<_, Bucket>(self, place, *wanted)
    }
    fn find_wide(&self, place: Place, wanted: &WantedWide) -> u32 {
        self.note(Note::LookedWide(place, *wanted));
        table::location_of::<_, WideBucket>(self, place, *wanted)
    }
    fn next_state(&self, protocol: u32, present: u32, event: u32, direction: u32) -> u32 {
        state::next(self, protocol, present, event, direction)
    }
    fn is_idle(&self, at: u32) -> u32 {
        locality::is_idle(self, at)
    }
    fn claim<B: Buckets>(&self, place: Place) -> u64 {
        table::claim::<_, B>(self, place)
    }
    fn make_room<B: Buckets>(&self, place: Place) -> u64 {
        room::make::<_, B>(self, place)
    }
    fn relocate<B: Buckets>(&self, bucket: u32, way: u32) -> u32 {
        relocate::relocate::<_, B>(self, bucket, way)
    }
    fn relocate_far<B: Buckets>(&self, bucket: u32, way: u32) -> u32 {
        relocate::relocate_far::<_, B>(self, bucket, way)
    }
    fn first_to_go<B: Buckets>(&self, bucket: u32) -> u64 {
        evict::first::<_, B>(self, bucket)
    }
    fn evict<B: Buckets>(&self, bucket: u32, victim: Victim, signature: u32) -> u64 {
        evict::evict::<_, B>(self, bucket, victim, signature)
    }
    fn available_at(&self, ring: u32, slot: u32) -> u32 {
        let server = schedule::available_at(self, ring, slot);
        self.note(Note::Slot { slot, server });
        server
    }
    fn is_any_idle(&self, service: u32) -> u32 {
        locality::is_any_idle(self, service)
    }
    fn template(&self) -> u32 {
        let server = general::template(self);
        self.note(Note::Template { server });
        server
    }
    fn note_template(&self, server: u32) -> u32 {
        let server = general::note_template(self, server);
        self.note(Note::TemplateMade { server });
        server
    }
    fn note_locally(&self, service: u32, server: u32) -> u32 {
        locality::note(self, service, server)
    }
    fn decide_locally(&self, service: u32, request: &Request) -> u32 {
        let server = locality::decide(self, service, request);
        self.note(Note::Decided { server });
        server
    }
    fn decide(&self, service: u32, request: &Request) -> u32 {
        let server = schedule::decide(self, service, request);
        self.note(Note::Decided { server });
        server
    }
}

impl<'a, M: Arrays, const TC: bool> Host for Simulated<'a, M, TC> {
    type Window = Cells<'a>;
    const FINISHES: bool = TC;

    fn window(&self, offset: usize, length: usize) -> Option<Cells<'a>> {
        self.bytes
            .get(self.start.get()..self.end.get())?
            .get(offset..offset.checked_add(length)?)
            .map(Cells)
    }
    fn length(&self) -> u32 {
        (self.end.get() - self.start.get()) as u32
    }
    fn ingress(&self) -> u32 {
        self.around.interface
    }
    fn mark(&self) -> u32 {
        if TC { self.around.mark } else { 0 }
    }
    fn grow(&self, room: Room) -> bool {
        let start = self.start.get();
        let Some(before) = start.checked_sub(room.bytes) else {
            return false;
        };
        for at in 0..ETHERNET {
            let (Some(from), Some(to)) = (self.bytes.get(start + at), self.bytes.get(before + at))
            else {
                return false;
            };
            to.set(from.get());
        }
        self.start.set(before);
        true
    }
    fn keep(&self, arrival: Arrival) {
        let mut arrival = Some(arrival);
        for slot in &self.kept {
            arrival = arrival.and_then(|arrival| slot.set(arrival).err());
        }
        debug_assert!(
            arrival.is_none(),
            "a packet is kept more often than it can be"
        );
    }
    fn step(&self, next: u32, offset: u32) -> u64 {
        general::step(self, next, offset)
    }
    fn parse_transport(&self) -> u32 {
        general::parse_transport(self)
    }
    fn read_transport(&self) -> u64 {
        general::read_transport(self)
    }
    fn parse_quoted(&self) -> u32 {
        general::parse_quoted(self)
    }
    fn parse_tunnelled(&self) -> u32 {
        general::parse_tunnelled(self)
    }
    fn call_id(&self) -> u64 {
        general::call_id(self)
    }
    fn call_name(&self, begin: u32) -> u32 {
        general::call_name(self, begin)
    }
    fn gather(&self, _length: u32) {}
    fn find_segment(&self) -> u32 {
        general::find_segment(self)
    }
    fn parse_ipv4(&self) -> u32 {
        general::parse_ipv4(self)
    }
    fn parse_ipv6(&self) -> u32 {
        general::parse_ipv6(self)
    }
    fn extensions(&self, next: u32) -> u64 {
        general::extensions(self, next)
    }
    fn cut(&self, length: u32) -> bool {
        let end = self.start.get() + length as usize;
        let fits = end <= self.end.get();
        if fits {
            self.end.set(end);
        }
        fits
    }
    fn wide_route(&self, source: Address, destination: Address, protocol: u8) -> Route {
        (self.around.wide_routes)(source, destination, protocol)
    }
    fn piece(&self) -> u32 {
        0
    }
    fn is_tagged(&self) -> bool {
        TC && self.around.tagged
    }
    fn is_for_us(&self, frame: Cells<'a>) -> bool {
        if TC {
            return self.around.for_us;
        }
        self.interface_record().is_none_or(|record| {
            frame.u32(0) == record.mac_low.get() && frame.u16(4) == record.mac_high.get() as u16
        })
    }
    fn can_change_checksum(&self, present: u16, pseudo_header: u64) -> bool {
        TC || self.interface_record().is_none_or(|record| {
            record.mac_high.get() & interface_flags::PARTIAL_CHECKSUMS == 0
                || present != checksum::fold(pseudo_header)
        })
    }
    fn change_transport_checksum(&self, change: ChecksumChange) -> bool {
        let Some(bytes) = self.window(change.offset, 2) else {
            return false;
        };
        let present = bytes.u16(0);
        if change.zero_is_none && present == 0 {
            return true;
        }
        let difference = u64::from(change.address) + u64::from(change.ports);
        let updated = checksum::update(present, difference);
        bytes.set_u16(
            0,
            if change.zero_is_none && updated == 0 {
                0xffff
            } else {
                updated
            },
        );
        true
    }
    fn route(&self, source: u32, destination: u32, protocol: u8) -> Route {
        (self.around.routes)(source, destination, protocol)
    }
}
