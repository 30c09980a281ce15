//! What makes a machine a real server for direct routing and for tunnels: addresses,
//! tunnel devices, settings of interfaces, ports that packets come wrapped in UDP by.
//! What of it is needed is decided elsewhere.

mod fou;

use std::fs;
use std::io::ErrorKind;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use caps::Capability;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::address::{
    AddressAttribute, AddressHeaderFlags, AddressMessage, AddressScope,
};
use netlink_packet_route::link::{
    InfoData, InfoGre, InfoGre6, InfoIpTunnel, InfoKind, LinkAttribute, LinkFlags, LinkInfo,
    LinkMessage,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use nix::libc;

pub use fou::{Port, close_port, open_port, ports};

use crate::error::{Attempt, Error, Result};
use crate::netlink::Socket;
use crate::system;

/// An address of this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placed {
    /// The address.
    pub address: IpAddr,
    /// Length of its prefix, bits.
    pub prefix: u8,
    /// Index of its interface.
    pub interface: u32,
}

/// Kinds of devices that packets come out of their tunnels by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TunnelKind {
    /// IPv4 in IPv4.
    Ipip,
    /// IPv6 in IPv6.
    Ip6Tunnel,
    /// GRE over IPv4.
    Gre,
    /// GRE over IPv6.
    Ip6Gre,
}

impl TunnelKind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Ipip, Self::Ip6Tunnel, Self::Gre, Self::Ip6Gre];

    /// The device that the kernel makes with its module, and which takes what is for
    /// no other.
    #[must_use]
    pub const fn device(self) -> &'static str {
        match self {
            Self::Ipip => "tunl0",
            Self::Ip6Tunnel => "ip6tnl0",
            Self::Gre => "gre0",
            Self::Ip6Gre => "ip6gre0",
        }
    }

    /// The kernel's module.
    #[must_use]
    pub const fn module(self) -> &'static str {
        match self {
            Self::Ipip => "ipip",
            Self::Ip6Tunnel => "ip6_tunnel",
            Self::Gre => "ip_gre",
            Self::Ip6Gre => "ip6_gre",
        }
    }

    /// What `ip link add` calls it, and that it takes packets from everywhere.
    fn info(self) -> (InfoKind, InfoData) {
        let from_everywhere = vec![InfoIpTunnel::CollectMetadata];
        match self {
            Self::Ipip => (InfoKind::IpIp, InfoData::IpTunnel(from_everywhere)),
            Self::Ip6Tunnel => (InfoKind::Ip6Tnl, InfoData::IpTunnel(from_everywhere)),
            Self::Gre => (
                InfoKind::GreTun,
                InfoData::GreTun(vec![InfoGre::CollectMetadata]),
            ),
            Self::Ip6Gre => (
                InfoKind::GreTun6,
                InfoData::GreTun6(vec![InfoGre6::CollectMetadata]),
            ),
        }
    }
}

/// Refuses a process that may not change the network.
pub fn check_permission() -> Result<()> {
    if system::is_permitted(Capability::CAP_NET_ADMIN) {
        return Ok(());
    }
    Err(Error::NotPermitted {
        action: "set up interfaces".into(),
        needed: "CAP_NET_ADMIN".into(),
    })
}

/// All addresses of the calling thread's network namespace.
pub fn addresses() -> Result<Vec<Placed>> {
    let request = RouteNetlinkMessage::GetAddress(AddressMessage::default());
    let answers = Socket::new()
        .and_then(|mut socket| socket.dump(&request))
        .attempt(|| "list the addresses".into())?;
    let placed = answers.iter().filter_map(|answer| match answer {
        RouteNetlinkMessage::NewAddress(message) => placed(message),
        _ => None,
    });
    Ok(placed.collect())
}

fn placed(message: &AddressMessage) -> Option<Placed> {
    let mut address = None;
    for attribute in &message.attributes {
        match attribute {
            // Of a link with a peer, `Address` is the peer's.
            AddressAttribute::Local(local) => address = Some(*local),
            AddressAttribute::Address(other) => address = address.or(Some(*other)),
            _ => {}
        }
    }
    Some(Placed {
        address: address?,
        prefix: message.header.prefix_len,
        interface: message.header.index,
    })
}

/// Gives an interface an address as `ip address add ADDRESS dev INTERFACE` does: its
/// network is the address alone. No other machine is asked whether it has it, too:
/// all real servers have.
pub fn add_address(address: IpAddr, interface: u32) -> Result<()> {
    let mut message = address_message(address, interface);
    if address.is_ipv6() {
        message.header.flags = AddressHeaderFlags::Nodad;
    }
    let message = RouteNetlinkMessage::NewAddress(message);
    request(message, NLM_F_CREATE | NLM_F_EXCL)
        .attempt(|| format!("add {address} to interface {interface}"))
}

/// Takes an address with the prefix of [`add_address`] from an interface.
pub fn remove_address(address: IpAddr, interface: u32) -> Result<()> {
    let message = RouteNetlinkMessage::DelAddress(address_message(address, interface));
    request(message, 0).attempt(|| format!("remove {address} from interface {interface}"))
}

fn address_message(address: IpAddr, interface: u32) -> AddressMessage {
    let mut message = AddressMessage::default();
    (message.header.family, message.header.prefix_len) = match address {
        IpAddr::V4(_) => (AddressFamily::Inet, 32),
        IpAddr::V6(_) => (AddressFamily::Inet6, 128),
    };
    message.header.scope = AddressScope::Universe;
    message.header.index = interface;
    message.attributes = vec![
        AddressAttribute::Local(address),
        AddressAttribute::Address(address),
    ];
    message
}

/// Sees to it that there is a kind's device, by its usual name.
///
/// The kernel loads the module at this request, and the module makes the device. Where
/// it does not, as `net.core.fb_tunnels_only_for_init_net` may say, one is made here.
pub fn make_tunnel(kind: TunnelKind) -> Result<()> {
    let (name, data) = kind.info();
    let mut message = LinkMessage::default();
    message.attributes = vec![
        LinkAttribute::IfName(kind.device().into()),
        LinkAttribute::LinkInfo(vec![LinkInfo::Kind(name), LinkInfo::Data(data)]),
    ];
    let message = RouteNetlinkMessage::NewLink(message);
    match request(message, NLM_F_CREATE | NLM_F_EXCL) {
        Err(error) if error.raw_os_error() == Some(libc::EEXIST) => Ok(()),
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => Err(Error::NoModule {
            module: kind.module(),
            what: format!("make the device {}", kind.device()),
        }),
        other => other.attempt(|| format!("make the device {}", kind.device())),
    }
}

/// Sets an interface up or down.
pub fn set_up(interface: u32, up: bool) -> Result<()> {
    let mut message = LinkMessage::default();
    message.header.index = interface;
    message.header.change_mask = LinkFlags::Up;
    if up {
        message.header.flags = LinkFlags::Up;
    }
    let word = if up { "up" } else { "down" };
    request(RouteNetlinkMessage::SetLink(message), 0)
        .attempt(|| format!("set interface {interface} {word}"))
}

fn request(message: RouteNetlinkMessage, flags: u16) -> std::io::Result<()> {
    Socket::new()?.request(message, flags).map(drop)
}

/// The value of a setting in this network namespace, by its path below `/proc/sys`;
/// none: there is no such.
pub fn setting(path: &str) -> Result<Option<i32>> {
    let file = setting_file(path);
    let action = || format!("read {}", file.display());
    let text = match fs::read_to_string(&file) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        other => other.attempt(action)?,
    };
    let number = text.trim().parse();
    number
        .map(Some)
        .map_err(|_| std::io::Error::new(ErrorKind::InvalidData, "not a number"))
        .attempt(action)
}

/// Sets it.
pub fn set_setting(path: &str, value: i32) -> Result<()> {
    let file = setting_file(path);
    fs::write(&file, value.to_string()).attempt(|| format!("write {}", file.display()))
}

fn setting_file(path: &str) -> PathBuf {
    Path::new("/proc/sys").join(path)
}
