//! The memory that the packet path and the daemon share: one array map each,
//! mapped into the daemon, pinned under the instance's directory.
//!
//! Addresses and ports are kept as they stand in the packet (network byte order
//! read as a native integer), so that the packet path never swaps bytes.
//! Every type is a whole number of cache lines, or divides one.

use crate::word::{Word, Word64};

/// Version of everything in this file. A daemon refuses pinned memory of another
/// version. Raise it with every change of a layout or of a field's meaning.
pub const LAYOUT_VERSION: u32 = 2;

/// Connections per bucket of the connection table.
pub const WAYS: usize = 16;

/// Connection entries whose signatures share one cache line.
///
/// A connection lives in the bucket that the hash of (client address, client
/// port, protocol) names, or, when that one is full, in its [`sibling`]. The
/// service and the server are no part of the hash: a packet from the client and
/// one from the server find the same bucket, so no second entry is needed.
///
/// [`sibling`]: crate::hash::Place::sibling
#[repr(C, align(64))]
pub struct Bucket {
    /// Upper hash bits of each entry's connection, never 0 for a claimed entry;
    /// 0: free. Claimed by compare and swap.
    pub signatures: [Word; WAYS],
    /// The entries.
    pub entries: [Entry; WAYS],
}

/// One IPv4 connection: 32 bytes, and 4 more for its signature.
#[repr(C)]
pub struct Entry {
    /// Client's address.
    pub client_address: Word,
    /// Client's port (low 16 bits, network order) and protocol (bits 16 to 23).
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

/// Fields of [`Entry::state`].
///
/// Bits 0 to 3 the state (0: the entry is not live), bits 4 to 7 flags, bits 16
/// to 31 the generation, raised each time the entry is claimed, so that a CPU
/// still holding the previous connection can not change the next one's state.
pub mod state_word {
    /// Mask of the state.
    pub const STATE: u32 = 0xf;
    /// The server has answered.
    pub const ANSWERED: u32 = 1 << 4;
    /// One step of the generation.
    pub const GENERATION: u32 = 1 << 16;
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
    /// server it is says the connection.
    pub const SERVER: u32 = 2;
}

/// Endpoints per bucket.
pub const ENDPOINT_WAYS: usize = 4;
/// Buckets looked at before a key is known to be absent.
pub const ENDPOINT_PROBES: usize = 4;

/// A bucket of the endpoint table: every address and port that means something.
///
/// A key is looked for in its home bucket and, as long as all four slots of a
/// bucket are taken, in the next, at most [`ENDPOINT_PROBES`] of them.
#[repr(C, align(64))]
pub struct EndpointBucket {
    /// The slots.
    pub slots: [EndpointSlot; ENDPOINT_WAYS],
}

/// One endpoint.
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
#[repr(C, align(64))]
pub struct Addresses {
    /// The bits, lowest first.
    pub words: [Word; ADDRESS_BITS as usize / 32],
}

/// Schedulers as [`Service::scheduler`] names them.
pub mod scheduler {
    /// The ring is walked, a connection a step. Round robin and weighted round
    /// robin differ in what the daemon puts into the ring.
    pub const RING: u32 = 1;
}

/// A virtual service: 64 bytes.
#[repr(C, align(64))]
pub struct Service {
    /// Where its ring stands: index of the ring's first word (high 32 bits) and
    /// number of servers in it (low 32 bits). 0 servers: nobody can serve. The
    /// one word that publishes a new ring.
    pub ring: Word64,
    /// Virtual address; 0 with `port` 0: the slot is free.
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
    /// For the daemon: [`service_flags`].
    pub flags: Word,
    /// Not used.
    pub reserved: [Word; 8],
}

/// Flags of [`Service::flags`].
pub mod service_flags {
    /// The slot is in use.
    pub const USED: u32 = 1;
    /// Deleted, and kept for the connections of its servers.
    pub const DELETED: u32 = 1 << 1;
}

/// Words before the servers in a ring: the cursor, 64 bits, low word first.
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
    /// For the daemon: the port was given as 0 and stands here as the virtual port.
    pub const PORT_GIVEN_AS_ZERO: u32 = 1 << 4;
    /// Bits 8 to 15: protocol.
    pub const PROTOCOL_SHIFT: u32 = 8;
    /// Bits 16 to 18: forwarding method, numbered as IPVS does (0: masq).
    pub const METHOD_SHIFT: u32 = 16;
}

/// A real server of one service: 64 bytes, written by the daemon only.
#[repr(C, align(64))]
pub struct Server {
    /// Its address.
    pub address: Word,
    /// Its port (low 16 bits) and the virtual port (high 16 bits).
    pub ports: Word,
    /// The virtual address.
    pub virtual_address: Word,
    /// Index of its service.
    pub service: Word,
    /// [`server_flags`].
    pub flags: Word,
    /// For the daemon: weight.
    pub weight: Word,
    /// For the daemon: when it was added, as a rising number; the list order.
    pub order: Word,
    /// MTU of hop 0 (low 16 bits) and of hop 1.
    pub mtu: Word,
    /// Two hops, of which [`server_flags::HOP`] names the one that counts: the
    /// daemon writes the other and then flips the bit.
    pub hops: [HopWords; 2],
}

/// An interface and a frame's addresses: 16 bytes.
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

/// Live connections of a server, both changed by atomic addition only.
#[repr(C)]
pub struct Load {
    /// In an active state (IPVS: established or being established).
    pub active: Word,
    /// All others.
    pub inactive: Word,
}

/// Counters of one server on one CPU: 64 bytes. Index: cpu × servers + server.
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
pub const REASONS: usize = 32;

/// Counters of one CPU that belong to no server: index by [`crate::Reason`].
#[repr(C, align(64))]
pub struct Reasons {
    /// The counts.
    pub counts: [Word64; REASONS],
}

/// Interfaces known by index modulo this.
pub const INTERFACES: u32 = 4096;

/// An interface that the packet path is attached to: 16 bytes.
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

/// One per instance: 256 bytes. Sizes and the seed are constants of the loaded
/// program; they stand here so that a daemon that adopts it knows them.
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
    /// Not used.
    pub reserved: [Word; 48],
}

const _: () = {
    assert!(size_of::<Entry>() == 32);
    assert!(size_of::<Bucket>() == 64 + WAYS * 32);
    assert!(size_of::<EndpointBucket>() == 64);
    assert!(size_of::<Addresses>() == 16_384);
    assert!(size_of::<Service>() == 64);
    assert!(size_of::<Server>() == 64);
    assert!(size_of::<ClientHop>() == 32);
    assert!(size_of::<Counters>() == 64);
    assert!(size_of::<Reasons>() == 8 * REASONS);
    assert!(size_of::<Interface>() == 16);
    assert!(size_of::<Control>() == 256);
};
