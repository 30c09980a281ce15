//! A connection as it is listed.

use alloc::string::String;
use core::net::SocketAddr;

use evenkeel_datapath::layout::{method, server_flags};

/// A connection, or a template of persistence, as it is listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionView {
    /// Protocol by its number; 0 for a template of all of a client's protocols.
    pub protocol: u8,
    /// State by IPVS's name. A template's is `ASSURED` when its server has answered,
    /// else `NONE`.
    pub state: &'static str,
    /// Seconds that it has to live if nothing comes any more.
    pub remaining_s: u32,
    /// The client; of a template its network, and port 0.
    pub client: SocketAddr,
    /// Where the client connected to; of a template for a firewall mark, the mark in
    /// the place of the address (0.0.0.1 or `::1` for 1), and port 0.
    pub virtual_address: SocketAddr,
    /// The real server.
    pub server: SocketAddr,
    /// What is to be known of it.
    pub traits: ServerTraits,
    /// The firewall mark by which it came to its service.
    pub mark: Option<u32>,
    /// True: no connection, but which server a client stays with.
    pub template: bool,
    /// What the service's persistence engine has found.
    pub engine: Option<EngineData>,
}

/// What a persistence engine keeps of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineData {
    /// The engine by name.
    pub name: String,
    /// What it goes by: for `sip` the Call-ID.
    pub data: String,
}

/// What matters of a server to who looks at a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ServerTraits {
    /// How it is reached.
    pub method: MethodKind,
    /// It was deleted: packets of the connection are dropped.
    pub deleted: bool,
    /// Its weight is 0: it takes no new connections.
    pub quiesced: bool,
    /// Its address is the director's own.
    pub local: bool,
}

/// A forwarding method without its particulars.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "kebab-case")
)]
pub enum MethodKind {
    /// Routed NAT.
    #[default]
    Masq,
    /// Direct routing.
    Route,
    /// A tunnel.
    Tunnel,
    /// NAT of the source as well.
    FullNat,
}

impl ServerTraits {
    /// What the flags of a server's record say ([`server_flags`]).
    #[must_use]
    pub const fn of(flags: u32) -> Self {
        let kind = match flags >> server_flags::METHOD_SHIFT & server_flags::METHOD {
            method::TUNNEL => MethodKind::Tunnel,
            method::ROUTE => MethodKind::Route,
            method::FULL_NAT => MethodKind::FullNat,
            _ => MethodKind::Masq,
        };
        Self {
            method: kind,
            deleted: flags & server_flags::ALIVE == 0,
            quiesced: flags & server_flags::WEIGHTED == 0,
            local: flags & server_flags::LOCAL != 0,
        }
    }
}
