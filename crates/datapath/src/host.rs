//! What the packet path needs from where it runs: the frame's bytes, the shared
//! memory, a clock, routing. In the kernel that is `bpf/`, in tests
//! [`crate::simulated`].

use crate::evict::Victim;
use crate::general::Arrival;
use crate::hash::Place;
use crate::layout::{
    Address, Addresses, Bucket, ClientHop, Control, Counters, EndpointBucket, Load, MarkRules,
    Reasons, Server, Service, WideBucket, WideEndpointBucket,
};
use crate::schedule::Request;
use crate::table::{Buckets, WantedNarrow, WantedWide};
use crate::word::{Word, Word64};

/// A part of the frame whose bounds were checked once. Offsets are relative to it
/// and must lie inside it. Integers are read as they stand: two bytes of a port in
/// network order are a native `u16` in network order.
pub trait Window: Copy {
    /// One byte.
    fn u8(self, offset: usize) -> u8;
    /// Two bytes.
    fn u16(self, offset: usize) -> u16;
    /// Four bytes.
    fn u32(self, offset: usize) -> u32;
    /// Writes one byte.
    fn set_u8(self, offset: usize, value: u8);
    /// Writes two bytes.
    fn set_u16(self, offset: usize, value: u16);
    /// Writes four bytes.
    fn set_u32(self, offset: usize, value: u32);
}

/// An interface and a frame's two MAC addresses, as the frame's first three words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hop {
    /// Index of the interface.
    pub interface: u32,
    /// The first 12 bytes of the frame.
    pub macs: [u32; 3],
    /// MTU, 0: not known.
    pub mtu: u32,
}

/// The kernel's answer to where an address is.
///
/// A structure and not an enum with contents: the verifier rejects the copying of
/// contents that are not there, which the compiler takes for harmless.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// Which answer.
    pub answer: RouteAnswer,
    /// Where to send, as far as the answer tells.
    pub hop: Hop,
}

/// See [`Route`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum RouteAnswer {
    /// Ready to send.
    Ready = 0,
    /// The neighbour's MAC address is not known; the interface is.
    Unresolved = 1,
    /// Forwarding is off on the interface that the packet came in by.
    ForwardingOff = 2,
    /// No route, or one that forbids.
    None = 3,
}

impl Route {
    /// An answer without a hop.
    #[inline(always)]
    #[must_use]
    pub const fn without_hop(answer: RouteAnswer) -> Self {
        Self {
            answer,
            hop: Hop {
                interface: 0,
                macs: [0; 3],
                mtu: 0,
            },
        }
    }
}

/// A change of addresses and ports that the transport checksum has to follow.
#[derive(Clone, Copy, Debug)]
pub struct ChecksumChange {
    /// Where the checksum stands in the frame.
    pub offset: usize,
    /// Ones' complement difference of the addresses.
    pub address: u32,
    /// Ones' complement difference of the ports; 0: they stay.
    pub ports: u32,
    /// UDP: 0 means "no checksum" and stays.
    pub zero_is_none: bool,
}

/// What is put in front of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Bytes, 1 to 64.
    pub bytes: usize,
    /// For what.
    pub header: Header,
    /// The new header is of IPv6.
    pub is_ipv6: bool,
}

/// See [`Room`]: the kernel has to know, where it cuts the packet later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Header {
    /// An answer of our own, whose payload the packet becomes.
    Answer = 0,
    /// IP alone.
    Ip = 1,
    /// IP and UDP.
    Udp = 2,
    /// IP and GRE.
    Gre = 3,
}

/// The tables that say how connections are spread, which the packet path and the
/// daemon both change.
pub trait Ledger {
    /// A service.
    fn service(&self, index: u32) -> Option<&Service>;
    /// A server.
    fn server(&self, index: u32) -> Option<&Server>;
    /// A word of the rings.
    fn ring(&self, index: u32) -> Option<&Word>;
    /// The word of the rings at an even index, and the next.
    fn ring_pair(&self, index: u32) -> Option<&[Word; 2]>;
    /// Live connections of a server.
    fn load(&self, server: u32) -> Option<&Load>;
    /// Stores `new` if the word is `old`; true when it was. A full barrier.
    fn compare_and_swap(&self, word: &Word, old: u32, new: u32) -> bool;
    /// Adds, wrapping, in one step; the value before. A full barrier.
    fn add(&self, word: &Word, amount: u32) -> u32;

    /// The connections of a server have changed: [`crate::tree::changed`], which in the
    /// kernel is a function of its own.
    fn rank(&self, server: u32);
}

/// All of the shared memory, and a clock: what the packet path needs beside the packet.
pub trait Store: Ledger {
    /// The present tick, [`crate::layout::TICK_SHIFT`].
    fn tick(&self) -> u32;

    /// Buckets of the connection table less one.
    fn bucket_mask(&self) -> u32;
    /// Buckets of the table of wide entries less one.
    fn wide_bucket_mask(&self) -> u32;
    /// Buckets of the endpoint table less one.
    fn endpoint_mask(&self) -> u32;
    /// Buckets of the table of IPv6 endpoints less one.
    fn wide_endpoint_mask(&self) -> u32;
    /// Seed of the hashes.
    fn seed(&self) -> u64;

    /// The instance's control record.
    fn control(&self) -> Option<&Control>;
    /// A bucket of the connection table.
    fn bucket(&self, index: u32) -> Option<&Bucket>;
    /// A bucket of the table of wide entries.
    fn wide_bucket(&self, index: u32) -> Option<&WideBucket>;
    /// A bucket of the table of IPv6 endpoints.
    fn wide_endpoints(&self, index: u32) -> Option<&WideEndpointBucket>;
    /// The addresses of all endpoints.
    fn addresses(&self) -> Option<&Addresses>;
    /// A bucket of the endpoint table.
    fn endpoints(&self, index: u32) -> Option<&EndpointBucket>;
    /// A hop to clients.
    fn client_hop(&self, index: u32) -> Option<&ClientHop>;
    /// This CPU's counters of a server.
    fn counters(&self, server: u32) -> Option<&Counters>;
    /// The rules that mark packets.
    fn mark_rules(&self) -> Option<&MarkRules>;
    /// This CPU's reasons.
    fn reasons(&self) -> Option<&Reasons>;

    /// Gives back `value`; the verifier forgets what it knew of it, and so need not
    /// follow the code behind once for every value.
    fn opaque(&self, value: u32) -> u32;

    /// Gives back `value`; the compiler forgets what it knew of it, and so can't make a
    /// branch of what is reckoned with it.
    fn veiled(&self, value: u32) -> u32;

    /// True: an answer of our own may be sent now. A bound on their rate.
    fn may_answer(&self) -> bool;
    /// What [`Host::keep`] has kept.
    fn kept(&self) -> Option<&Arrival>;
    /// Looks for an endpoint: [`crate::general::seek`], in the kernel a function of its
    /// own.
    fn seek(&self, end: u32, port: u32, kind: u32) -> u32;
    /// [`crate::endpoint::probe`](mod@crate::endpoint::probe), in the kernel a function of its own.
    fn probe(&self, bucket: u32, key: u64) -> u64;
    /// [`crate::general::probe_wide`], in the kernel a function of its own.
    fn probe_wide(&self, bucket: u32, end: u32, key: u32) -> u64;
    /// Reserves a translated source: [`crate::general::reserve`], in the kernel a function
    /// of its own.
    fn reserve(&self, reference: u32) -> u32;
    /// Holds a translated source: [`crate::general::hold`], in the kernel a function of its
    /// own.
    fn hold(&self, server: u32, port: u32, reference: u32, flags: u32) -> u32;
    /// [`crate::general::disconnect`], in the kernel a function of its own.
    fn disconnect(&self) -> u32;
    /// [`crate::general::marked`], in the kernel a function of its own.
    fn marked(&self, interface: u32) -> u32;
    /// [`crate::general::fits`], in the kernel a function of its own.
    fn fits(&self, place: u32, interface: u32) -> u32;
    /// Finds an entry of the connection table, see [`crate::table::location_of`]; in the
    /// kernel a function of its own.
    fn find(&self, place: Place, wanted: &WantedNarrow) -> u32;
    /// As [`Store::find`], in the table of wide entries.
    fn find_wide(&self, place: Place, wanted: &WantedWide) -> u32;
    /// The state after a packet: [`crate::state::next`], in the kernel a function of its
    /// own.
    fn next_state(&self, protocol: u32, present: u32, event: u32, direction: u32) -> u32;
    /// Looks at a server of a tree: [`crate::locality::is_idle`], in the kernel a function
    /// of its own.
    fn is_idle(&self, at: u32) -> u32;
    /// Claims a free entry of the connection table: [`crate::table::claim`], in the kernel a
    /// function of its own.
    fn claim<B: Buckets>(&self, place: Place) -> u64;
    /// Claims an entry where none is free: [`crate::room::make`], in the kernel a function of
    /// its own, as all that it consists of.
    fn make_room<B: Buckets>(&self, place: Place) -> u64;
    /// [`crate::relocate::relocate`].
    fn relocate<B: Buckets>(&self, bucket: u32, way: u32) -> u32;
    /// [`crate::relocate::relocate_far`].
    fn relocate_far<B: Buckets>(&self, bucket: u32, way: u32) -> u32;
    /// [`crate::evict::first`].
    fn first_to_go<B: Buckets>(&self, bucket: u32) -> u64;
    /// [`crate::evict::evict`].
    fn evict<B: Buckets>(&self, bucket: u32, victim: Victim, signature: u32) -> u64;
    /// Looks at a slot of a ring: [`crate::schedule::available_at`], in the kernel a
    /// function of its own.
    fn available_at(&self, ring: u32, slot: u32) -> u32;
    /// [`crate::locality::is_any_idle`], in the kernel a function of its own.
    fn is_any_idle(&self, service: u32) -> u32;
    /// [`crate::general::template`], in the kernel a function of its own.
    fn template(&self) -> u32;
    /// [`crate::general::note_template`], in the kernel a function of its own.
    fn note_template(&self, server: u32) -> u32;
    /// [`crate::locality::note`], in the kernel a function of its own.
    fn note_locally(&self, service: u32, server: u32) -> u32;
    /// The server for a new connection of a service, see [`crate::schedule::decide`]; in
    /// the kernel a function of its own.
    fn decide(&self, service: u32, request: &Request) -> u32;
    /// The same for the schedulers that know destinations: [`crate::locality::decide`].
    fn decide_locally(&self, service: u32, request: &Request) -> u32;
}

/// Where the packet path runs.
pub trait Host: Store {
    /// Checked part of the frame.
    type Window: Window;

    /// True: everything must be finished here. False (XDP): what can't be is left
    /// untouched to the next stage, which sees the same frame.
    const FINISHES: bool;

    /// `length` bytes at `offset`, if the frame has them. Windows taken before
    /// [`Host::change_transport_checksum`] are not valid after it.
    fn window(&self, offset: usize, length: usize) -> Option<Self::Window>;
    /// Length of the frame with its Ethernet header.
    fn length(&self) -> u32;
    /// Bytes of payload in each of the pieces that the frame is cut into later (GSO); 0: it
    /// is not.
    fn piece(&self) -> u32;
    /// True: the frame is cut into pieces later.
    #[inline(always)]
    fn is_cut_later(&self) -> bool {
        self.piece() != 0
    }
    /// True: it carries a VLAN tag that is not in the bytes.
    fn is_tagged(&self) -> bool;
    /// True: the frame is addressed to this host and not overheard or broadcast.
    fn is_for_us(&self, frame: Self::Window) -> bool;
    /// False: the transport checksum may be incomplete and can't be changed here.
    /// `pseudo_header` is the unfolded sum of addresses, protocol and length.
    fn can_change_checksum(&self, checksum: u16, pseudo_header: u64) -> bool;
    /// Corrects the transport checksum for the change. False: not possible.
    fn change_transport_checksum(&self, change: ChecksumChange) -> bool;
    /// Where packets from `source` to `destination` go.
    fn route(&self, source: u32, destination: u32, protocol: u8) -> Route;
    /// As [`Host::route`], for IPv6.
    fn wide_route(&self, source: Address, destination: Address, protocol: u8) -> Route;
    /// Index of the interface that the frame came by.
    fn ingress(&self) -> u32;
    /// The firewall mark that the frame carries; 0: none.
    fn mark(&self) -> u32;
    /// Opens `room.bytes` between the Ethernet header and what follows it. What they
    /// hold is not defined, and windows taken before are not valid any more. False:
    /// not possible.
    fn grow(&self, room: Room) -> bool;
    /// Keeps a packet that was taken apart while it is worked on.
    fn keep(&self, arrival: Arrival);
    /// Steps over an extension header: [`crate::general::step`], in the kernel a function
    /// of its own.
    fn step(&self, next: u32, offset: u32) -> u64;
    /// [`crate::general::parse_ipv4`], in the kernel a function of its own.
    fn parse_ipv4(&self) -> u32;
    /// [`crate::general::parse_ipv6`], in the kernel a function of its own.
    fn parse_ipv6(&self) -> u32;
    /// [`crate::general::extensions`], in the kernel a function of its own.
    fn extensions(&self, next: u32) -> u64;
    /// [`crate::general::read_transport`], in the kernel a function of its own.
    fn read_transport(&self) -> u64;
    /// [`crate::general::parse_quoted`], in the kernel a function of its own.
    fn parse_quoted(&self) -> u32;
    /// [`crate::general::parse_tunnelled`], in the kernel a function of its own.
    fn parse_tunnelled(&self) -> u32;
    /// [`crate::general::call_id`], in the kernel a function of its own.
    fn call_id(&self) -> u64;
    /// [`crate::general::call_name`], in the kernel a function of its own.
    fn call_name(&self, begin: u32) -> u32;
    /// Makes this many bytes from the frame's beginning readable, as far as it has them.
    /// As for windows, see [`Host::grow`].
    fn gather(&self, length: u32);
    /// [`crate::general::find_segment`], in the kernel a function of its own.
    fn find_segment(&self) -> u32;
    /// [`crate::general::parse_transport`], in the kernel a function of its own.
    fn parse_transport(&self) -> u32;
    /// Cuts the frame to this length. As for windows, see [`Host::grow`].
    fn cut(&self, length: u32) -> bool;
}

/// Adds to a counter that only this CPU writes.
#[inline(always)]
pub fn count(counter: &Word64, amount: u64) {
    counter.set(counter.get().wrapping_add(amount));
}
