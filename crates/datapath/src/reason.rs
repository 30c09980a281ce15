//! What packets and connections are counted by, beside the servers' own counters.

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $variant:ident = $number:literal, $name:literal;)+) => {
        /// Why something was counted. Index into [`crate::layout::Reasons::counts`].
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u32)]
        pub enum Reason {
            $($(#[doc = $doc])+ $variant = $number,)+
        }

        impl Reason {
            /// Name and meaning of every reason, in the order of their numbers.
            pub const ALL: &[(Self, &'static str, &'static str)] =
                &[$((Self::$variant, $name, concat!($($doc),+)),)+];
        }
    };
}

reasons! {
    /// Passed to the kernel: an IPv4 header or transport header that is cut off or contradicts itself.
    Malformed = 0, "malformed";
    /// Passed to the kernel: a fragment.
    Fragment = 1, "fragment";
    /// Passed to the kernel: TCP to a service, no connection, and not a SYN.
    NoConnection = 2, "no_connection";
    /// Passed to the kernel: the frame is for another host.
    OtherHost = 3, "other_host";
    /// Left by XDP to tc: the next hop is not resolved, or the checksum is still partial.
    Deferred = 4, "deferred_to_tc";
    /// Dropped: the service has no server that takes connections.
    NoServer = 5, "no_server";
    /// Dropped: the connection's server was deleted.
    ServerGone = 6, "server_gone";
    /// Dropped: the time to live is used up.
    TimeToLive = 7, "ttl_expired";
    /// Dropped: no room in the connection's buckets, all of their connections established.
    TableFull = 8, "connection_bucket_full";
    /// Dropped: no route to the client or the server.
    NoRoute = 9, "no_route";
    /// Dropped: `net.ipv4.ip_forward` is off on the interface.
    ForwardingOff = 10, "forwarding_off";
    /// Dropped: larger than the way's MTU.
    TooBig = 11, "too_big";
    /// Dropped: the kernel refused to change the packet.
    RewriteFailed = 12, "rewrite_failed";
    /// A closed connection gave its place to a new one.
    EvictedClosed = 13, "evicted_closed";
    /// A half-open connection gave its place to a new one.
    EvictedHalfOpen = 14, "evicted_half_open";
    /// A silent UDP flow, or a silent connection that one side has closed, gave its place to a new one.
    EvictedIdle = 15, "evicted_idle";
    /// A client used the port of a connection in `TIME_WAIT` again; it was scheduled anew.
    Reused = 16, "port_reused";
    /// Two CPUs opened the same connection at once; one gave way.
    Duplicate = 17, "duplicate_open";
    /// The way back to a client was looked up in the kernel.
    RouteLookup = 18, "route_lookup";
    /// Sent through the kernel's neighbour resolution.
    Resolving = 19, "sent_by_kernel_neighbour";
    /// A TCP connection that another director has opened was taken over by its hash.
    Adopted = 20, "adopted";
    /// A packet that could not be sent on was answered with an ICMP error.
    Answered = 21, "answered";
    /// Dropped: no address and port is free for source NAT.
    NoPort = 22, "source_nat_exhausted";
    /// An ICMP error about a tunnel's packet was told to the client.
    Relayed = 23, "tunnel_error_relayed";
    /// Passed to the kernel: an ICMP error about a tunnel's packet that quotes too little of it.
    QuoteTooShort = 24, "tunnel_error_short";
    /// Left to the kernel, which cuts it: larger than the way's MTU.
    LeftToBeCut = 25, "left_to_be_cut";
    /// Dropped: a server's packet without a connection, while `nat_icmp_send` is 1.
    Unexpected = 26, "unexpected_from_server";
    /// Passed to the kernel: the service has no server, and `cache_bypass` is 1.
    Bypassed = 27, "bypassed";
    /// Dropped: what begins with a service of the persistence engine `sip`, and has no Call-ID.
    NoCallId = 28, "no_call_id";
    /// A template of persistence that nobody uses gave its place to something new.
    EvictedTemplate = 29, "evicted_template";
    /// Dropped: one of some packets that would begin a connection, as `drop_packet` says.
    DroppedPacket = 30, "dropped_packet";
}

const _: () = assert!(Reason::ALL.len() <= crate::layout::REASONS);
