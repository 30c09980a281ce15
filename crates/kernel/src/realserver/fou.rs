//! Ports that packets come wrapped in UDP by, through the kernel's generic netlink
//! family `fou` (`include/uapi/linux/fou.h`).

use std::convert::Infallible;
use std::io;

use netlink_packet_core::{
    DefaultNla, Emitable, NetlinkDeserializable, NetlinkHeader, NetlinkSerializable, NlasIterator,
};
use nix::libc;
use nix::net::if_::if_nametoindex;

use crate::error::{Attempt, Error, Result};
use crate::netlink::Socket;

const FAMILY: &str = "fou";
const VERSION: u8 = 1;

const ADD: u8 = 1;
const DEL: u8 = 2;
const GET: u8 = 3;

const ATTRIBUTE_PORT: u16 = 1;
const ATTRIBUTE_FAMILY: u16 = 2;
const ATTRIBUTE_TYPE: u16 = 4;
const TYPE_GUE: u8 = 2;

/// `AF_INET` and `AF_INET6` in a byte, as the family takes them.
const IPV4: u8 = 2;
const IPV6: u8 = 10;

/// The family that knows the numbers of the others (`linux/genetlink.h`).
const CONTROL: u16 = 16;
const GET_FAMILY: u8 = 3;
const ATTRIBUTE_ID: u16 = 1;
const ATTRIBUTE_NAME: u16 = 2;

/// A port of this machine that packets come wrapped in UDP by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Port {
    /// The outer header is IPv6's.
    pub ipv6: bool,
    /// The UDP port, host order.
    pub number: u16,
    /// They are wrapped by generic UDP encapsulation, and not in UDP alone.
    pub gue: bool,
}

/// All such ports of the calling thread's network namespace.
///
/// Loads no module: without it there are none.
pub fn ports() -> Result<Vec<Port>> {
    let action = || "list the ports of UDP encapsulation".to_owned();
    let mut socket = Socket::generic().attempt(action)?;
    let families = socket
        .dump(&Generic::new(CONTROL, GET_FAMILY, &[]))
        .attempt(action)?;
    let Some(family) = families.iter().find_map(Generic::family_if_fou) else {
        return Ok(Vec::new());
    };
    let answers = socket
        .dump(&Generic::new(family, GET, &[]))
        .attempt(action)?;
    Ok(answers.iter().filter_map(Generic::port).collect())
}

/// Opens a port for generic UDP encapsulation. The kernel loads its module for that,
/// where this process may load modules.
pub fn open_port(ipv6: bool, number: u16) -> Result<()> {
    change(ADD, ipv6, number).attempt(|| format!("open the GUE port {number}"))?
}

/// Closes a port of generic UDP encapsulation.
pub fn close_port(ipv6: bool, number: u16) -> Result<()> {
    change(DEL, ipv6, number).attempt(|| format!("close the GUE port {number}"))?
}

/// The inner result tells that there is no such family.
fn change(command: u8, ipv6: bool, number: u16) -> io::Result<Result<()>> {
    let mut socket = Socket::generic()?;
    let Some(family) = family(&mut socket)? else {
        return Ok(Err(Error::NoModule {
            module: FAMILY,
            what: "take packets that are wrapped in UDP".into(),
        }));
    };
    let attributes = [
        DefaultNla::new(ATTRIBUTE_FAMILY, vec![if ipv6 { IPV6 } else { IPV4 }]),
        DefaultNla::new(ATTRIBUTE_PORT, number.to_be_bytes().to_vec()),
        DefaultNla::new(ATTRIBUTE_TYPE, vec![TYPE_GUE]),
    ];
    socket.request(Generic::new(family, command, &attributes), 0)?;
    Ok(Ok(()))
}

/// The family's number, once its module is loaded.
fn family(socket: &mut Socket) -> io::Result<Option<u16>> {
    let mut name = FAMILY.as_bytes().to_vec();
    name.push(0);
    let question = Generic::new(
        CONTROL,
        GET_FAMILY,
        &[DefaultNla::new(ATTRIBUTE_NAME, name)],
    );
    let mut ask = || match socket.request(question.clone(), 0) {
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        other => other.map(|answers| answers.iter().find_map(Generic::family_if_fou)),
    };
    if let Some(number) = ask()? {
        return Ok(Some(number));
    }
    // The module does not say that this family is its own, so that the question alone
    // does not make the kernel load it. One about an interface that is not there makes it
    // load the module of that name.
    let _ = if_nametoindex(FAMILY);
    ask()
}

/// A message of a generic family.
#[derive(Clone, Debug)]
struct Generic {
    family: u16,
    command: u8,
    attributes: Vec<u8>,
}

impl Generic {
    fn new(family: u16, command: u8, attributes: &[DefaultNla]) -> Self {
        let mut bytes = vec![0; attributes.buffer_len()];
        attributes.emit(&mut bytes);
        Self {
            family,
            command,
            attributes: bytes,
        }
    }

    fn attribute(&self, kind: u16) -> Option<Vec<u8>> {
        NlasIterator::new(&self.attributes)
            .map_while(std::result::Result::ok)
            .find(|attribute| attribute.kind() == kind)
            .map(|attribute| attribute.value().to_vec())
    }

    /// The number of the family that this tells of, if it is ours.
    fn family_if_fou(&self) -> Option<u16> {
        let name = self.attribute(ATTRIBUTE_NAME)?;
        let is_ours = name.strip_suffix(&[0]) == Some(FAMILY.as_bytes());
        let number = self.attribute(ATTRIBUTE_ID)?.try_into().ok()?;
        is_ours.then(|| u16::from_ne_bytes(number))
    }

    /// The port that this tells of.
    fn port(&self) -> Option<Port> {
        let byte = |kind| self.attribute(kind)?.first().copied();
        let number = self.attribute(ATTRIBUTE_PORT)?.try_into().ok()?;
        Some(Port {
            ipv6: byte(ATTRIBUTE_FAMILY)? == IPV6,
            number: u16::from_be_bytes(number),
            gue: byte(ATTRIBUTE_TYPE)? == TYPE_GUE,
        })
    }
}

impl NetlinkSerializable for Generic {
    fn message_type(&self) -> u16 {
        self.family
    }

    fn buffer_len(&self) -> usize {
        4 + self.attributes.len()
    }

    fn serialize(&self, buffer: &mut [u8]) {
        let head = [self.command, VERSION, 0, 0];
        for (to, from) in buffer.iter_mut().zip(head.iter().chain(&self.attributes)) {
            *to = *from;
        }
    }
}

impl NetlinkDeserializable for Generic {
    type Error = Infallible;

    fn deserialize(
        header: &NetlinkHeader,
        payload: &[u8],
    ) -> std::result::Result<Self, Infallible> {
        Ok(Self {
            family: header.message_type,
            command: payload.first().copied().unwrap_or_default(),
            attributes: payload.get(4..).unwrap_or_default().to_vec(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_about_a_family_is_read() {
        let attributes = [
            DefaultNla::new(ATTRIBUTE_NAME, b"fou\0".to_vec()),
            DefaultNla::new(ATTRIBUTE_ID, 31u16.to_ne_bytes().to_vec()),
        ];
        let message = Generic::new(CONTROL, 1, &attributes);
        assert_eq!(message.family_if_fou(), Some(31));
        let other = [DefaultNla::new(ATTRIBUTE_NAME, b"fou6\0".to_vec())];
        assert_eq!(Generic::new(CONTROL, 1, &other).family_if_fou(), None);
    }

    #[test]
    fn a_port_is_read_and_a_torn_message_is_none() {
        let attributes = [
            DefaultNla::new(ATTRIBUTE_PORT, vec![0x17, 0xc0]),
            DefaultNla::new(ATTRIBUTE_FAMILY, vec![IPV6]),
            DefaultNla::new(ATTRIBUTE_TYPE, vec![TYPE_GUE]),
        ];
        let mut message = Generic::new(20, GET, &attributes);
        let port = Port {
            ipv6: true,
            number: 6080,
            gue: true,
        };
        assert_eq!(message.port(), Some(port));
        message.attributes.truncate(9);
        assert_eq!(message.port(), None);
    }

    #[test]
    fn the_kernel_tells_its_families() {
        let mut socket = Socket::generic().unwrap();
        let answers = socket
            .dump(&Generic::new(CONTROL, GET_FAMILY, &[]))
            .unwrap();
        let names = answers.iter().filter_map(|a| a.attribute(ATTRIBUTE_NAME));
        assert!(names.into_iter().any(|name| name == b"nlctrl\0"));
        assert!(ports().is_ok());
    }
}
