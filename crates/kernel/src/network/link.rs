//! A network interface.

use netlink_packet_route::AddressFamily;
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkInfo, LinkLayerType, LinkMessage};

/// What stands in front of the IP packets that an interface carries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LinkLayer {
    /// An Ethernet header.
    Ethernet,
    /// An Ethernet header without addresses: it is the loopback interface.
    Loopback,
    /// Nothing: it is a tunnel's end, or the like (`tun`, `wireguard`, `ppp`, …).
    Bare,
    /// Something else, or it carries no IP.
    #[default]
    Other,
}

/// A network interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// Its index.
    pub index: u32,
    /// Its name, which may change.
    pub name: String,
    /// Its MAC address; none: it has none, or one of another length.
    pub mac: Option<[u8; 6]>,
    /// Largest IP packet, bytes.
    pub mtu: u32,
    /// Set up by the administrator and connected.
    pub is_up: bool,
    /// What stands in front of its packets.
    pub layer: LinkLayer,
    /// A driver of a bus's device is behind it, rather than software alone.
    pub is_physical: bool,
    /// `veth`, `bridge`, `vlan`, …; none for most physical ones.
    pub kind: Option<String>,
    /// Index of the bridge, bond, VRF, … that it belongs to.
    pub master: Option<u32>,
}

impl Link {
    /// Reads a kernel's message; none: it is not about the link itself (bridges and
    /// IPv6 use the same message about a part of it).
    pub(super) fn of(message: &LinkMessage) -> Option<Self> {
        let header = &message.header;
        if header.interface_family != AddressFamily::Unspec {
            return None;
        }
        let mut link = Self {
            index: header.index,
            is_up: header.flags.contains(LinkFlags::Up | LinkFlags::LowerUp),
            layer: layer(header.link_layer_type, header.flags),
            ..Self::default()
        };
        let mut has_device = false;
        for attribute in &message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => link.name.clone_from(name),
                LinkAttribute::Address(mac) => link.mac = mac.as_slice().try_into().ok(),
                LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
                LinkAttribute::Controller(master) => link.master = Some(*master),
                LinkAttribute::ParentDevName(_) => has_device = true,
                LinkAttribute::LinkInfo(infos) => link.kind = kind(infos),
                _ => {}
            }
        }
        // netdevsim has both; it is software.
        link.is_physical = has_device && link.kind.is_none();
        Some(link)
    }

    /// Frames on it are Ethernet's, and it is not the loopback interface.
    #[must_use]
    pub fn is_ethernet(&self) -> bool {
        self.layer == LinkLayer::Ethernet
    }

    /// It is the loopback interface.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        self.layer == LinkLayer::Loopback
    }

    /// Its packets have no link-layer header.
    #[must_use]
    pub fn is_bare(&self) -> bool {
        self.layer == LinkLayer::Bare
    }
}

const fn layer(kind: LinkLayerType, flags: LinkFlags) -> LinkLayer {
    if flags.contains(LinkFlags::Loopback) {
        return LinkLayer::Loopback;
    }
    match kind {
        LinkLayerType::Ether => LinkLayer::Ethernet,
        LinkLayerType::Tunnel
        | LinkLayerType::Tunnel6
        | LinkLayerType::Sit
        | LinkLayerType::Ipgre
        | LinkLayerType::Ip6gre
        | LinkLayerType::None
        | LinkLayerType::Ppp
        | LinkLayerType::Rawip => LinkLayer::Bare,
        _ => LinkLayer::Other,
    }
}

fn kind(infos: &[LinkInfo]) -> Option<String> {
    infos.iter().find_map(|info| match info {
        LinkInfo::Kind(kind) => Some(kind.to_string()),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use netlink_packet_route::link::InfoKind;

    fn message(attributes: Vec<LinkAttribute>) -> LinkMessage {
        let mut message = LinkMessage::default();
        message.header.index = 7;
        message.header.link_layer_type = LinkLayerType::Ether;
        message.attributes = attributes;
        message
    }

    #[test]
    fn a_device_of_a_bus_is_physical() {
        let device = LinkAttribute::ParentDevName("virtio0".into());
        let link = Link::of(&message(vec![device])).unwrap();
        assert!(link.is_physical && link.is_ethernet() && !link.is_up);
    }

    #[test]
    fn a_veth_is_not() {
        let infos = vec![LinkInfo::Kind(InfoKind::Veth)];
        let link = Link::of(&message(vec![
            LinkAttribute::IfName("v0".into()),
            LinkAttribute::Address(vec![2, 0, 0, 0, 0, 1]),
            LinkAttribute::LinkInfo(infos),
        ]))
        .unwrap();
        assert!(!link.is_physical);
        assert_eq!(link.kind.as_deref(), Some("veth"));
        assert_eq!(link.mac, Some([2, 0, 0, 0, 0, 1]));
    }

    #[test]
    fn what_stands_in_front_of_packets() {
        let layer_of = |kind, flags| {
            let mut message = message(Vec::new());
            message.header.link_layer_type = kind;
            message.header.flags = flags;
            Link::of(&message).unwrap().layer
        };
        for (kind, layer) in [
            (LinkLayerType::Ether, LinkLayer::Ethernet),
            (LinkLayerType::Tunnel, LinkLayer::Bare),
            (LinkLayerType::Tunnel6, LinkLayer::Bare),
            (LinkLayerType::Sit, LinkLayer::Bare),
            (LinkLayerType::Ipgre, LinkLayer::Bare),
            (LinkLayerType::Ip6gre, LinkLayer::Bare),
            (LinkLayerType::None, LinkLayer::Bare),
            (LinkLayerType::Ppp, LinkLayer::Bare),
            (LinkLayerType::Rawip, LinkLayer::Bare),
            (LinkLayerType::Can, LinkLayer::Other),
            (LinkLayerType::Infiniband, LinkLayer::Other),
        ] {
            assert_eq!(layer_of(kind, LinkFlags::Up), layer, "{kind:?}");
            let flags = LinkFlags::Up | LinkFlags::Loopback;
            assert_eq!(layer_of(kind, flags), LinkLayer::Loopback);
        }
    }

    #[test]
    fn a_bridges_message_about_its_port_is_not_about_the_link() {
        let mut about_port = message(Vec::new());
        about_port.header.interface_family = AddressFamily::Bridge;
        assert_eq!(Link::of(&about_port), None);
    }
}
