//! The memory that the packet path and the daemon share: one array map each,
//! mapped into the daemon, pinned under the instance's directory.
//!
//! Addresses and ports are kept as they stand in the packet (network byte order
//! read as a native integer), so that the packet path never swaps bytes. Where
//! both families can stand, an IPv4 address is mapped into IPv6 ([`mapped`]).
//! Every type is a whole number of cache lines, or divides one.

use crate::word::{Word, Word64};

/// Version of everything in this file. A daemon refuses pinned memory of another
/// version. Raise it with every change of a layout or of a field's meaning.
pub const LAYOUT_VERSION: u32 = 6;

/// An address of either family, as four words that stand as in an IPv6 header.
pub type Address = [u32; 4];

/// An IPv4 address in the place of an IPv6 one: `::ffff:a.b.c.d`.
#[inline(always)]
#[must_use]
pub const fn mapped(address: u32) -> Address {
    [0, 0, MAPPED, address]
}

/// The third word of a [`mapped`] address.
pub const MAPPED: u32 = 0xffff_u32.to_be();

/// [`Address`] in shared memory.
pub type AddressWords = [Word; 4];

/// Connections per bucket of the connection table.
pub const WAYS: usize = 16;

/// Connection entries whose signatures share one cache line.
///
/// A connection lives in the bucket that the hash of (client address, client
/// port, protocol) names, or, when that one is full, in its [`sibling`]; and may move
/// there later, to make room. The
/// service and the server are no part of the hash: a packet from the client and
/// one from the server find the same bucket, so no second entry is needed.
///
/// [`sibling`]: crate::hash::Place::sibling
#[cfg_attr(not(target_arch = "bpf"), derive(Clone))]
#[repr(C, align(64))]
pub struct Bucket {
    /// Upper hash bits of each entry's connection, never 0 for a claimed entry;
    /// 0: free. Claimed by compare and swap.
    pub signatures: [Word; WAYS],
    /// The entries.
    pub entries: [Entry; WAYS],
}

/// One IPv4 connection: 32 bytes, and 4 more for its signature.
#[cfg_attr(not(target_arch = "bpf"), derive(Clone))]
#[repr(C)]
pub struct Entry {
    /// Client's address.
    pub client_address: Word,
    /// Client's port (low 16 bits, network order) and protocol (bits 16 to 23); of what
    /// is no connection ([`crate::state::is_auxiliary`]), the state (bits 24 to 31).
    pub client_port: Word,
    /// Index into the services (low 16 bits); packets from the client, modulo 65,536
    /// (high 16 bits), for the synchronisation of connections.
    pub service: Word,
    /// Index into the servers.
    pub server: Word,
    /// See [`state_word`].
    pub state: Word,
    /// Tick ([`TICK_SHIFT`]) of the last packet.
    pub seen: Word,
    /// How replies reach the client: index into the hops (low 16 bits, 0: not
    /// known) and the route generation it was found in (high 16 bits).
    pub hop: Word,
    /// [`crate::hash::server_tag`] of the server, by which its packets find the entry.
    pub server_tag: Word,
}

/// As [`Bucket`], for the entries that are wider.
#[cfg_attr(not(target_arch = "bpf"), derive(Clone))]
#[repr(C, align(64))]
pub struct WideBucket {
    /// As [`Bucket::signatures`].
    pub signatures: [Word; WAYS],
    /// The entries.
    pub entries: [WideEntry; WAYS],
}

/// What does not fit into an [`Entry`]: 64 bytes.
///
/// A connection of a service that is not named by an IPv4 address and a port: those
/// of IPv6, of firewall marks, of port 0. Or, told by its state, no connection at all
/// but something that is found and expires like one: see [`crate::state`].
#[cfg_attr(not(target_arch = "bpf"), derive(Clone))]
#[repr(C)]
pub struct WideEntry {
    /// Client's address.
    pub client_address: AddressWords,
    /// Address that the client connected to.
    pub virtual_address: AddressWords,
    /// As [`Entry::client_port`].
    pub client_port: Word,
    /// Port that the client connected to (low 16 bits), and the server's (high 16 bits).
    pub ports: Word,
    /// As [`Entry::service`].
    pub service: Word,
    /// As [`Entry::server`].
    pub server: Word,
    /// As [`Entry::state`].
    pub state: Word,
    /// As [`Entry::seen`].
    pub seen: Word,
    /// As [`Entry::hop`].
    pub hop: Word,
    /// As [`Entry::server_tag`].
    pub server_tag: Word,
}

/// Fields of [`Entry::state`].
///
/// Bits 0 to 4 the state (0: the entry is not live), bits 5 to 15 flags, bits 16
/// to 31 the generation, raised each time the entry is claimed, so that a CPU
/// still holding the previous connection can not change the next one's state. Where
/// another gave way, it is above those of all in the bucket that may: they are in the
/// order in which they came.
pub mod state_word {
    /// Mask of the state.
    pub const STATE: u32 = 0x1f;
    /// The server has answered.
    pub const ANSWERED: u32 = 1 << 5;
    /// A template of persistence: one of its connections was established. A translated
    /// source: its connection is, or for UDP was answered.
    pub const ASSURED: u32 = 1 << 6;
    /// One step of the generation.
    pub const GENERATION: u32 = 1 << 16;
    /// Mask of the generation.
    pub const GENERATIONS: u32 = 0xffff << 16;
}

/// Most services of an instance: their index has 16 bits in [`Entry::service`].
pub const SERVICES_MAX: u32 = 1 << 16;

/// Ticks are jiffies shifted right by this: 256 ms at HZ 250, 64 ms at HZ 1000.
pub const TICK_SHIFT: u32 = 6;

/// What the key of an endpoint stands for.
pub mod endpoint_kind {
    /// An address and port that clients connect to. The value is a service.
    pub const SERVICE: u32 = 1;
    /// An address and port that a real server answers from. No value: which
    /// server it is says the connection, which is an [`Entry`](super::Entry).
    pub const SERVER: u32 = 2;
    /// As `SERVER`, for a server with connections that are
    /// [`WideEntry`](super::WideEntry)s. Port 0: it answers from any.
    pub const WIDE_SERVER: u32 = 3;
    /// A firewall mark in the place of the address, the port 4 or 6 for the family,
    /// protocol 255. The value is a service.
    pub const MARK: u32 = 4;
    /// An address of a pool for source NAT, port 0, protocol 255.
    pub const POOL: u32 = 5;
}

/// Endpoints per bucket.
pub const ENDPOINT_WAYS: usize = 4;
/// Buckets looked at before a key is known to be absent.
pub const ENDPOINT_PROBES: usize = 4;

/// A bucket of the endpoint table: every address and port that means something.
///
/// A key is looked for in its home bucket and, as long as all four slots of a
/// bucket are taken, in the next, at most [`ENDPOINT_PROBES`] of them.
#[cfg_attr(not(target_arch = "bpf"), derive(Clone))]
#[repr(C, align(64))]
pub struct EndpointBucket {
    /// The slots.
    pub slots: [EndpointSlot; ENDPOINT_WAYS],
}

/// One endpoint.
#[cfg_attr(not(target_arch = "bpf"), derive(Clone))]
#[repr(C)]
pub struct EndpointSlot {
    /// See [`endpoint_key`]; 0: free; [`ENDPOINT_TOMBSTONE`]: deleted, but keys
    /// beyond it must still be found.
    pub key: Word64,
    /// Service index.
    pub value: Word,
    /// Not used.
    pub reserved: Word,
}

/// A bucket of the table of the IPv6 endpoints, searched as that of
/// [`EndpointBucket`]s.
#[cfg_attr(not(target_arch = "bpf"), derive(Clone))]
#[repr(C, align(64))]
pub struct WideEndpointBucket {
    /// The slots.
    pub slots: [WideEndpointSlot; ENDPOINT_WAYS],
}

/// One IPv6 endpoint: 32 bytes.
#[cfg_attr(not(target_arch = "bpf"), derive(Clone))]
#[repr(C)]
pub struct WideEndpointSlot {
    /// Its address.
    pub address: AddressWords,
    /// See [`wide_endpoint_key`]; 0: free; [`ENDPOINT_TOMBSTONE`].
    pub key: Word,
    /// As [`EndpointSlot::value`].
    pub value: Word,
    /// Not used.
    pub reserved: [Word; 2],
}

/// What an IPv6 endpoint is beside its address: port as it stands in the packet,
/// protocol, [`endpoint_kind`]. Never 0 or [`ENDPOINT_TOMBSTONE`].
#[inline(always)]
#[must_use]
pub const fn wide_endpoint_key(port: u16, protocol: u8, kind: u32) -> u32 {
    kind << 24 | (protocol as u32) << 16 | port as u32
}

/// Key of a deleted endpoint in a bucket that has overflowed.
pub const ENDPOINT_TOMBSTONE: u64 = 1;

/// The key of (address, port, protocol) as `kind` ([`endpoint_kind`]).
/// `address` and `port` as they stand in the packet. Never 0 and never
/// [`ENDPOINT_TOMBSTONE`] because the protocol is not 0.
#[inline(always)]
#[must_use]
pub const fn endpoint_key(address: u32, port: u16, protocol: u8, kind: u32) -> u64 {
    ((address as u64) << 32) | ((port as u64) << 16) | ((protocol as u64) << 8) | (kind as u64)
}

/// Bits of [`Addresses`].
pub const ADDRESS_BITS: u32 = 1 << 17;

/// A bit for each endpoint's address ([`crate::hash::address`]), so that a packet of
/// somebody else's connection need not look for it in the endpoint table: that is
/// large, and the place it would look at cold. Small enough to stay close to the
/// processor. A bit may be set without need, which costs that look.
#[cfg_attr(not(target_arch = "bpf"), derive(Clone))]
#[repr(C, align(64))]
pub struct Addresses {
    /// The bits, lowest first.
    pub words: [Word; ADDRESS_BITS as usize / 32],
}

/// Schedulers as [`Service::scheduler`] names them, and what their ring holds behind
/// its header ([`RING_HEADER`]).
///
/// *Ring*: servers, in the order in which they take connections, as many as
/// [`Service::ring`] says. *Tree*: see [`crate::tree`]. *Table*: a server for each
/// hash, [`NOBODY`] where there is none, as many as [`Service::ring`] says.
pub mod scheduler {
    /// A ring that is walked, a connection a step. Round robin and weighted round
    /// robin differ in what the daemon puts into the ring.
    pub const RING: u32 = 1;
    /// Least connections: a tree.
    pub const LC: u32 = 2;
    /// Weighted least connections: a tree.
    pub const WLC: u32 = 3;
    /// Shortest expected delay: a tree.
    pub const SED: u32 = 4;
    /// Never queue: a tree.
    pub const NQ: u32 = 5;
    /// Weighted failover: a tree.
    pub const FO: u32 = 6;
    /// Weighted overflow: a tree.
    pub const OVF: u32 = 7;
    /// Source hashing: a table of 256.
    pub const SH: u32 = 8;
    /// Destination hashing: a table of 256.
    pub const DH: u32 = 9;
    /// Maglev hashing: a table, and behind it a second one of the same size that holds
    /// the owner of each slot before the last change of the servers.
    pub const MH: u32 = 10;
    /// Power of two choices: a ring in which each server stands as often as its weight
    /// says.
    pub const TWOS: u32 = 11;
    /// Locality-based least connections: a tree, as `WLC`.
    pub const LBLC: u32 = 12;
    /// The same with replication: a tree, as `WLC`.
    pub const LBLCR: u32 = 13;
}

/// In a table: no server.
pub const NOBODY: u32 = u32::MAX;

/// A virtual service: 64 bytes.
#[cfg_attr(not(target_arch = "bpf"), derive(Clone))]
#[repr(C, align(64))]
pub struct Service {
    /// Where its ring stands: index of the ring's first word (high 32 bits) and
    /// its length (low 32 bits, see [`scheduler`]). Length 0: nobody can serve. The
    /// one word that publishes a new ring.
    pub ring: Word64,
    /// Virtual address if it is an IPv4 one, else 0.
    pub address: Word,
    /// Port (low 16 bits) and protocol (bits 16 to 23).
    pub port: Word,
    /// [`scheduler`].
    pub scheduler: Word,
    /// For the daemon: the scheduler by name, see `evenkeel-core`.
    pub scheduler_name: Word,
    /// For the daemon: where the scheduler stood at the ring's beginning. Weighted
    /// round robin: its present weight; round robin: the server used last, + 1.
    pub current_weight: Word,
    /// [`service_flags`].
    pub flags: Word,
    /// Virtual address, 0 for a firewall mark.
    pub wide_address: AddressWords,
    /// Firewall mark; 0: none.
    pub mark: Word,
    /// Persistence: seconds that a template lives.
    pub persistence: Word,
    /// Persistence: which clients share a template. IPv4: a mask as it stands in the
    /// packet. IPv6: a prefix length, 1 to 128.
    pub netmask: Word,
    /// Largest segment, in bytes, that TCP's ends may ask for when they open a connection; 0:
    /// any; [`SEGMENT_BY_WAY`].
    pub segment: Word,
}

/// In [`Service::segment`]: as large as the way to the server has room for.
pub const SEGMENT_BY_WAY: u32 = u32::MAX;

/// Flags of [`Service::flags`].
pub mod service_flags {
    /// The slot is in use.
    pub const USED: u32 = 1;
    /// Deleted, and kept for the connections of its servers.
    pub const DELETED: u32 = 1 << 1;
    /// Its packets are IPv6's.
    pub const IPV6: u32 = 1 << 2;
    /// Its connections are [`WideEntry`](super::WideEntry)s.
    pub const WIDE: u32 = 1 << 3;
    /// Clients stay with their server.
    pub const PERSISTENT: u32 = 1 << 4;
    /// One-packet scheduling: UDP without connections.
    pub const ONE_PACKET: u32 = 1 << 5;
    /// `sh-fallback`, `mh-fallback`: another server for one that is not available.
    pub const FALLBACK: u32 = 1 << 6;
    /// `sh-port`, `mh-port`: the client's port is part of the hash.
    pub const PORT: u32 = 1 << 7;
    /// `flag-3`, which no scheduler has a meaning for.
    pub const FLAG_3: u32 = 1 << 8;
    /// The ways of IPVS where Evenkeel has better ones.
    pub const COMPATIBLE: u32 = 1 << 9;
    /// Persistence engine `sip`: templates of UDP are found by the Call-ID as well.
    pub const SIP: u32 = 1 << 10;
    /// For the daemon: it stands in the configuration.
    pub const CONFIGURED: u32 = 1 << 11;
}

/// Words before the servers in a ring: the cursor; and how often connections of the servers
/// of a tree have changed ([`crate::tree`]).
pub const RING_HEADER: u32 = 2;

/// Flags of [`Server::flags`].
pub mod server_flags {
    /// Bit 0: which of the two hops counts.
    pub const HOP: u32 = 1;
    /// The hop that counts is usable.
    pub const HOP_READY: u32 = 1 << 1;
    /// Connections may use this server; without it their packets are dropped.
    pub const ALIVE: u32 = 1 << 2;
    /// For the daemon: the slot is in use.
    pub const USED: u32 = 1 << 3;
    /// The port was given as 0. Where the service has one, it stands here as the
    /// virtual port; else packets keep theirs.
    pub const PORT_GIVEN_AS_ZERO: u32 = 1 << 4;
    /// Its weight is above 0: it takes new connections.
    pub const WEIGHTED: u32 = 1 << 5;
    /// Its address is the director's own.
    pub const LOCAL: u32 = 1 << 6;
    /// Its address is an IPv6 one.
    pub const IPV6: u32 = 1 << 7;
    /// Bits 8 to 15: protocol.
    pub const PROTOCOL_SHIFT: u32 = 8;
    /// Bits 16 to 18: forwarding method, see [`method`](super::method).
    pub const METHOD_SHIFT: u32 = 16;
    /// For the daemon: a request has added it, and it stands in no configuration.
    pub const REQUESTED: u32 = 1 << 19;
    /// Mask of the forwarding method, shifted down.
    pub const METHOD: u32 = 7;
}

/// Forwarding methods, numbered as IPVS does.
pub mod method {
    /// Routed NAT.
    pub const MASQ: u32 = 0;
    /// A tunnel.
    pub const TUNNEL: u32 = 2;
    /// Direct routing.
    pub const ROUTE: u32 = 3;
    /// NAT of the source as well; IPVS has no such.
    pub const FULL_NAT: u32 = 5;
}

/// Fields of [`Server::tunnel`].
pub mod tunnel {
    /// Mask of the kind.
    pub const KIND: u32 = 3;
    /// IP in IP (RFC 2003, RFC 2473, RFC 4213).
    pub const IPIP: u32 = 0;
    /// Generic UDP encapsulation.
    pub const GUE: u32 = 1;
    /// GRE (RFC 2784).
    pub const GRE: u32 = 2;
    /// The outer header has a checksum.
    pub const CHECKSUM: u32 = 1 << 2;
    /// Remote checksum offload.
    pub const REMOTE_CHECKSUM: u32 = 1 << 3;
    /// Bits 16 to 31: GUE's port as it stands in the packet.
    pub const PORT_SHIFT: u32 = 16;
}

/// A real server of one service: 128 bytes, written by the daemon only. What packets
/// of IPv4 connections need stands in the first half.
#[cfg_attr(not(target_arch = "bpf"), derive(Clone))]
#[repr(C, align(64))]
pub struct Server {
    /// Its address if it is an IPv4 one, else 0.
    pub address: Word,
    /// Its port (low 16 bits) and the virtual port (high 16 bits).
    pub ports: Word,
    /// The virtual address if it is an IPv4 one, else 0.
    pub virtual_address: Word,
    /// Index of its service.
    pub service: Word,
    /// [`server_flags`].
    pub flags: Word,
    /// Weight; without [`server_flags::WEIGHTED`] that which it had before it was 0,
    /// for the daemon.
    pub weight: Word,
    /// For the daemon: when it was added, as a rising number; the list order.
    pub order: Word,
    /// MTU of hop 0 (low 16 bits) and of hop 1, less what a tunnel adds.
    pub mtu: Word,
    /// Two hops, of which [`server_flags::HOP`] names the one that counts: the
    /// daemon writes the other and then flips the bit.
    pub hops: [HopWords; 2],
    /// Its address.
    pub wide_address: AddressWords,
    /// The virtual address, 0 for a firewall mark.
    pub wide_virtual_address: AddressWords,
    /// The director's address on the way to it: source of the outer header of a tunnel.
    pub source: AddressWords,
    /// [`tunnel`].
    pub tunnel: Word,
    /// Connections from which on it takes no more; 0: no such limit.
    pub upper_threshold: Word,
    /// Connections below which it takes some again; 0: three quarters of the upper.
    pub lower_threshold: Word,
    /// Its place among the leaves of its service's tree ([`crate::tree`]).
    pub leaf: Word,
}

/// An interface and a frame's addresses: 16 bytes.
#[cfg_attr(not(target_arch = "bpf"), derive(Clone))]
#[repr(C)]
pub struct HopWords {
    /// Index of the interface to send on.
    pub interface: Word,
    /// Destination MAC address, bytes 0 to 3.
    pub destination_low: Word,
    /// Destination bytes 4 and 5 (low half), source bytes 0 and 1 (high half).
    pub middle: Word,
    /// Source MAC address, bytes 2 to 5.
    pub source_high: Word,
}

/// How replies reach clients: 32 bytes. Filled by the packet path from the
/// kernel's routing, see [`Control::route_generation`].
#[cfg_attr(not(target_arch = "bpf"), derive(Clone))]
#[repr(C)]
pub struct ClientHop {
    /// 0: free; 1: being written; else the hash of the words below.
    pub tag: Word,
    /// MTU of the way.
    pub mtu: Word,
    /// The hop.
    pub hop: HopWords,
    /// Not used.
    pub reserved: [Word; 2],
}

/// Slots of the client hops. Each half serves the even or the odd route
/// generations; slot 0 of each half stays free because index 0 means "not known".
pub const CLIENT_HOPS: u32 = 8192;

/// Live connections of a server; the counts are changed by atomic addition only.
#[cfg_attr(not(target_arch = "bpf"), derive(Clone))]
#[repr(C)]
pub struct Load {
    /// In an active state (IPVS: established or being established).
    pub active: Word,
    /// All others.
    pub inactive: Word,
    /// Templates of persistence.
    pub persistent: Word,
    /// 1: overloaded, since the upper threshold was reached.
    pub overloaded: Word,
}

/// Counters of one server on one CPU: 64 bytes. Index: cpu × servers + server.
#[cfg_attr(not(target_arch = "bpf"), derive(Clone))]
#[repr(C, align(64))]
pub struct Counters {
    /// Connections created.
    pub connections: Word64,
    /// Packets from clients.
    pub in_packets: Word64,
    /// Packets from the server.
    pub out_packets: Word64,
    /// Bytes from clients, from the IP header on.
    pub in_bytes: Word64,
    /// Bytes from the server.
    pub out_bytes: Word64,
    /// Not used.
    pub reserved: [Word64; 3],
}

/// Reasons that packets and connections are counted by.
pub const REASONS: usize = 64;

/// Counters of one CPU that belong to no server: index by [`crate::Reason`].
#[cfg_attr(not(target_arch = "bpf"), derive(Clone))]
#[repr(C, align(64))]
pub struct Reasons {
    /// The counts.
    pub counts: [Word64; REASONS],
}

/// Interfaces known by index modulo this.
pub const INTERFACES: u32 = 4096;

/// An interface that the packet path is attached to: 16 bytes.
#[cfg_attr(not(target_arch = "bpf"), derive(Clone))]
#[repr(C)]
pub struct Interface {
    /// Its index; 0: free.
    pub index: Word,
    /// MAC address, bytes 0 to 3.
    pub mac_low: Word,
    /// MAC address, bytes 4 and 5 (low half); [`interface_flags`] (high half).
    pub mac_high: Word,
    /// Not used.
    pub reserved: Word,
}

/// Flags in the high half of [`Interface::mac_high`].
pub mod interface_flags {
    /// Frames may come with a checksum that is still to be completed, as from
    /// the stack on the other end of a veth.
    pub const PARTIAL_CHECKSUMS: u32 = 1 << 16;
}

/// One per instance. Sizes and the seed are constants of the loaded
/// program; they stand here so that a daemon that adopts it knows them.
#[cfg_attr(not(target_arch = "bpf"), derive(Clone))]
#[repr(C, align(64))]
pub struct Control {
    /// [`LAYOUT_VERSION`].
    pub layout_version: Word,
    /// Raised, modulo 65,536, when routes or neighbours of clients change.
    pub route_generation: Word,
    /// Buckets of the connection table, a power of two.
    pub buckets: Word,
    /// Buckets of the endpoint table, a power of two.
    pub endpoint_buckets: Word,
    /// Slots for services.
    pub services: Word,
    /// Slots for servers.
    pub servers: Word,
    /// Words for rings.
    pub ring_words: Word,
    /// CPUs that counters exist for.
    pub cpus: Word,
    /// Seed of the hashes.
    pub seed: Word64,
    /// Hash of the loaded object file, to see whether it is the daemon's own.
    pub object_hash: Word64,
    /// Seconds an established TCP connection may be silent.
    pub timeout_tcp: Word,
    /// Seconds a TCP connection stays after one side's FIN.
    pub timeout_tcp_fin: Word,
    /// Seconds a UDP connection may be silent.
    pub timeout_udp: Word,
    /// For the daemon: next [`Server::order`].
    pub next_order: Word,
    /// [`features`]: what the tables hold that few do, so that packets need not look
    /// for it where it is not.
    pub features: Word,
    /// [`settings`].
    pub settings: Word,
    /// Buckets of the table of wide entries, a power of two.
    pub wide_buckets: Word,
    /// Buckets of the table of IPv6 endpoints, a power of two.
    pub wide_endpoint_buckets: Word,
    /// Ticks after which a destination of `lblcr` gives up its busiest server.
    pub locality_ticks: Word,
    /// 0: answers of our own (ICMP errors) are not bounded in their rate.
    pub answers: Word,
    /// Source NAT: addresses of `pool` that are IPv4's (low 16 bits), from its beginning
    /// on, and IPv6's (high 16 bits), from its end backwards. None of a family: the
    /// director's own address on the way to the server is used.
    pub pool_count: Word,
    /// Source NAT: the lowest port (low 16 bits, host order) and how many there are.
    pub pool_ports: Word,
    /// Not used.
    pub reserved: [Word; 40],
    /// Source NAT: addresses that servers see.
    pub pool: [AddressWords; POOL],
    /// For the daemon: settings that the packet path does not know. 0: the default.
    pub kept: [Word; KEPT],
    /// Of so many packets that would begin a connection one is dropped; 0: none.
    pub drop_rate: Word,
    /// Such packets, counted while there is a rate. Not in a line of memory that all
    /// packets read.
    pub drop_turn: Word,
    /// Not used.
    pub reserved_2: [Word; 14],
}

/// Words of [`Control::kept`].
pub const KEPT: usize = 32;

/// Most addresses for source NAT.
pub const POOL: usize = 32;

/// Most rules that mark packets.
pub const MARK_RULES: usize = 64;

/// Most ranges of ports of a rule that marks packets.
pub const MARK_PORTS: usize = 8;

/// Rules that give packets a firewall mark before services are looked for; the first
/// that fits counts. One per instance.
///
/// There are two halves, of which packets look at one: the daemon writes the other and
/// then [`MarkRules::active`].
#[cfg_attr(not(target_arch = "bpf"), derive(Clone))]
#[repr(C, align(64))]
pub struct MarkRules {
    /// How many rules there are (low 16 bits), and in which half (bit 16).
    pub active: Word,
    /// Not used.
    pub reserved: [Word; 15],
    /// The halves.
    pub rules: [[MarkRule; MARK_RULES]; 2],
}

/// A rule that marks packets: 128 bytes. A packet fits it that fits all of its fields.
/// Addresses as they stand in the packet, those of IPv4 [`mapped`].
#[cfg_attr(not(target_arch = "bpf"), derive(Clone))]
#[repr(C, align(64))]
pub struct MarkRule {
    /// [`mark_flags`].
    pub flags: Word,
    /// The mark that the packet gets in place of its own, not 0.
    pub mark: Word,
    /// Index of the interface that the packet came by; 0: any.
    pub interface: Word,
    /// Not used.
    pub reserved: Word,
    /// The packet's source, where [`MarkRule::source_mask`] has bits set; elsewhere 0.
    pub source: AddressWords,
    /// 0: any source.
    pub source_mask: AddressWords,
    /// The packet's destination, where [`MarkRule::destination_mask`] has bits set;
    /// elsewhere 0.
    pub destination: AddressWords,
    /// 0: any destination.
    pub destination_mask: AddressWords,
    /// Ranges, of which one has the packet's destination port: the lowest (low 16 bits)
    /// and the highest (high 16 bits), host order. How many say the flags; none: any
    /// port. A fragment that is not the first has no port, and fits no range.
    pub ports: [Word; MARK_PORTS],
    /// Not used.
    pub reserved_2: [Word; 4],
}

/// Fields of [`MarkRule::flags`].
pub mod mark_flags {
    /// Packets of IPv4.
    pub const IPV4: u32 = 1;
    /// Packets of IPv6.
    pub const IPV6: u32 = 1 << 1;
    /// Bits 8 to 15: protocol; 0: any.
    pub const PROTOCOL_SHIFT: u32 = 8;
    /// Bits 16 to 19: how many of [`MarkRule::ports`](super::MarkRule::ports) there are.
    pub const PORTS_SHIFT: u32 = 16;
    /// Mask of their number, shifted down.
    pub const PORTS: u32 = 15;
}

/// [`Control::pool_ports`] unless it is configured: 10,240 to 32,767, below those that
/// Linux gives to connections of its own.
pub const POOL_PORTS_DEFAULT: u32 = (22_528 << 16) + 10_240;

/// Bits of [`Control::features`].
pub mod features {
    /// Services of firewall marks; they come before all others.
    pub const MARKS: u32 = 1;
    /// Services of port 0.
    pub const ANY_PORT: u32 = 1 << 1;
    /// IPv4 servers with wide connections.
    pub const WIDE_SERVERS: u32 = 1 << 2;
    /// Source NAT.
    pub const FULL_NAT: u32 = 1 << 3;
    /// IPv6 endpoints.
    pub const IPV6: u32 = 1 << 4;
    /// Persistent TCP services of port 21.
    pub const FTP: u32 = 1 << 5;
    /// Rules of [`MarkRules`](super::MarkRules).
    pub const MARK_RULES: u32 = 1 << 6;
    /// Servers behind tunnels.
    pub const TUNNELS: u32 = 1 << 7;
    /// Services that lower the segment that TCP's ends ask for.
    pub const SEGMENTS: u32 = 1 << 8;
    /// Services of firewall marks that no rule gives, so that somebody else has to.
    pub const FOREIGN_MARKS: u32 = 1 << 9;
    /// A defence against floods is on: [`Control::drop_rate`](super::Control::drop_rate)
    /// or [`settings::SECURE_TCP`](super::settings::SECURE_TCP).
    pub const DEFENCE: u32 = 1 << 10;
}

/// Bits of [`Control::settings`]: those of `net.ipv4.vs` that the packet path heeds, by
/// the same names. The defaults are IPVS's.
pub mod settings {
    /// Connections of a deleted server end at once.
    pub const EXPIRE_NODEST_CONN: u32 = 1;
    /// A template whose server has weight 0 is not used.
    pub const EXPIRE_QUIESCENT_TEMPLATE: u32 = 1 << 1;
    /// Bits 2 and 3: `conn_reuse_mode`.
    pub const CONN_REUSE_MODE_SHIFT: u32 = 2;
    /// TCP connections begin with any packet but a reset.
    pub const SLOPPY_TCP: u32 = 1 << 4;
    /// SCTP connections begin with any packet.
    pub const SLOPPY_SCTP: u32 = 1 << 5;
    /// No server: a marked packet goes to where it was sent to.
    pub const CACHE_BYPASS: u32 = 1 << 6;
    /// A server's packet without a connection is answered with ICMP unreachable.
    pub const NAT_ICMP_SEND: u32 = 1 << 7;
    /// ICMP errors about packets without a connection are scheduled.
    pub const SCHEDULE_ICMP: u32 = 1 << 8;
    /// Tunnels by IPv4 have packets cut on their way only where their senders allow it.
    pub const PMTU_DISC: u32 = 1 << 9;
    /// What comes out of a tunnel of IPIP or GRE on this machine is left alone: nothing is
    /// attached where it comes in.
    pub const IGNORE_TUNNELED: u32 = 1 << 10;
    /// TCP's states move more strictly.
    pub const SECURE_TCP: u32 = 1 << 11;
    /// What an instance begins with.
    pub const DEFAULT: u32 = 1 << CONN_REUSE_MODE_SHIFT | PMTU_DISC;
}

const _: () = {
    assert!(size_of::<Entry>() == 32);
    assert!(size_of::<Bucket>() == 64 + WAYS * 32);
    assert!(size_of::<WideEntry>() == 64);
    assert!(size_of::<WideBucket>() == 64 + WAYS * 64);
    assert!(size_of::<EndpointBucket>() == 64);
    assert!(size_of::<WideEndpointBucket>() == 128);
    assert!(size_of::<Addresses>() == 16_384);
    assert!(size_of::<Service>() == 64);
    assert!(size_of::<Server>() == 128);
    assert!(size_of::<Load>() == 16);
    assert!(size_of::<ClientHop>() == 32);
    assert!(size_of::<Counters>() == 64);
    assert!(size_of::<Reasons>() == 8 * REASONS);
    assert!(size_of::<Interface>() == 16);
    assert!(size_of::<MarkRule>() == 128);
    assert!(size_of::<MarkRules>() == 64 + 2 * MARK_RULES * 128);
    assert!(size_of::<Control>() == 256 + POOL * 16 + KEPT * 4 + 64);
    assert!(core::mem::offset_of!(Control, drop_rate).is_multiple_of(64));
};
