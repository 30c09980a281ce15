//! tc's older way, for kernels without TCX: a BPF filter of the `clsact` queueing
//! discipline. Nothing of it can be pinned; the filter is known by its name.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::tc::{
    TcAttribute, TcBpfFlags, TcFilterBpf, TcFilterBpfOption, TcHandle, TcMessage, TcOption,
};
use nix::libc;

use crate::netlink::Socket;

/// `ffff:fff2`, where filters of incoming packets hang.
pub(super) const INGRESS: TcHandle = TcHandle {
    major: 0xffff,
    minor: TcHandle::MIN_INGRESS,
};
/// `ffff:fff3`, where those of leaving ones do.
pub(super) const EGRESS: TcHandle = TcHandle {
    major: 0xffff,
    minor: TcHandle::MIN_EGRESS,
};
/// `ffff:`, the queueing discipline itself.
const QDISC: TcHandle = TcHandle {
    major: 0xffff,
    minor: 0,
};
/// `ETH_P_ALL` in network order, as the lower half of a filter's info word.
const ALL_PROTOCOLS: u32 = (libc::ETH_P_ALL as u16).to_be() as u32;

/// A filter of ours: what the kernel has given it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Filter {
    /// Priority and protocol.
    info: u32,
    handle: TcHandle,
    program: Option<u32>,
}

/// Makes sure that there is a clsact. True: it was made.
pub(super) fn add_qdisc(socket: &mut Socket, interface: u32) -> io::Result<bool> {
    let message = qdisc(interface);
    match socket.request(
        RouteNetlinkMessage::NewQueueDiscipline(message),
        NLM_F_CREATE | NLM_F_EXCL,
    ) {
        Ok(_) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::EEXIST) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Removes the clsact unless filters of others hang there.
pub(super) fn remove_qdisc(socket: &mut Socket, interface: u32) -> io::Result<()> {
    for parent in [INGRESS, EGRESS] {
        if !filters(socket, interface, parent)?.is_empty() {
            return Ok(());
        }
    }
    ignore_gone(socket.request(RouteNetlinkMessage::DelQueueDiscipline(qdisc(interface)), 0))
}

/// Puts the program in the place of the filter of this name, between two packets,
/// or makes the filter, in front of others. `id` is the program's number.
pub(super) fn set_filter(
    socket: &mut Socket,
    (interface, parent): (u32, TcHandle),
    name: &str,
    program: BorrowedFd<'_>,
    id: u32,
) -> io::Result<()> {
    let mut message = at(interface, parent);
    let flags = match find(socket, interface, parent, name)? {
        Some(present) if present.program == Some(id) => return Ok(()),
        Some(present) => {
            message.header.info = present.info;
            message.header.handle = present.handle;
            NLM_F_CREATE | NLM_F_REPLACE
        }
        // Without a priority the kernel takes one before the first.
        None => {
            message.header.info = ALL_PROTOCOLS;
            NLM_F_CREATE | NLM_F_EXCL
        }
    };
    message.attributes = vec![
        TcAttribute::Kind(TcFilterBpf::KIND.into()),
        TcAttribute::Options(vec![
            TcOption::Bpf(TcFilterBpfOption::ProgFd(
                program.as_raw_fd().cast_unsigned(),
            )),
            TcOption::Bpf(TcFilterBpfOption::ProgName(name.into())),
            TcOption::Bpf(TcFilterBpfOption::Flags(TcBpfFlags::DirectAction)),
        ]),
    ];
    socket
        .request(RouteNetlinkMessage::NewTrafficFilter(message), flags)
        .map(drop)
}

/// Removes the filter of this name, if there is one.
pub(super) fn remove_filter(
    socket: &mut Socket,
    (interface, parent): (u32, TcHandle),
    name: &str,
) -> io::Result<()> {
    let Some(filter) = find(socket, interface, parent, name)? else {
        return Ok(());
    };
    let mut message = at(interface, parent);
    message.header.info = filter.info;
    message.header.handle = filter.handle;
    message.attributes = vec![TcAttribute::Kind(TcFilterBpf::KIND.into())];
    ignore_gone(socket.request(RouteNetlinkMessage::DelTrafficFilter(message), 0))
}

fn find(
    socket: &mut Socket,
    interface: u32,
    parent: TcHandle,
    name: &str,
) -> io::Result<Option<Filter>> {
    let found = filters(socket, interface, parent)?;
    Ok(found.iter().find_map(|message| of_name(message, name)))
}

/// The filters that hang there; none without a clsact.
fn filters(socket: &mut Socket, interface: u32, parent: TcHandle) -> io::Result<Vec<TcMessage>> {
    let request = RouteNetlinkMessage::GetTrafficFilter(at(interface, parent));
    let answers = match socket.dump(&request) {
        Ok(answers) => answers,
        Err(error) if is_gone(&error) => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    Ok(answers
        .into_iter()
        .filter_map(|answer| match answer {
            RouteNetlinkMessage::NewTrafficFilter(message) => Some(message),
            _ => None,
        })
        .collect())
}

fn of_name(message: &TcMessage, name: &str) -> Option<Filter> {
    let options = message
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            TcAttribute::Options(options) => Some(options),
            _ => None,
        })?;
    let bpf = || {
        options.iter().filter_map(|option| match option {
            TcOption::Bpf(option) => Some(option),
            _ => None,
        })
    };
    bpf()
        .any(|option| matches!(option, TcFilterBpfOption::ProgName(found) if found == name))
        .then(|| Filter {
            info: message.header.info,
            handle: message.header.handle,
            program: bpf().find_map(|option| match option {
                TcFilterBpfOption::ProgId(id) => Some(*id),
                _ => None,
            }),
        })
}

fn qdisc(interface: u32) -> TcMessage {
    let mut message = at(interface, TcHandle::CLSACT);
    message.header.handle = QDISC;
    message.attributes = vec![TcAttribute::Kind("clsact".into())];
    message
}

fn at(interface: u32, parent: TcHandle) -> TcMessage {
    let mut message = TcMessage::with_index(interface.cast_signed());
    message.header.parent = parent;
    message
}

fn ignore_gone<T>(result: io::Result<T>) -> io::Result<()> {
    match result {
        Err(error) if is_gone(&error) => Ok(()),
        other => other.map(drop),
    }
}

/// No such filter, qdisc or interface.
fn is_gone(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::ENOENT | libc::ENODEV | libc::EINVAL)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(name: &str) -> TcMessage {
        let mut message = at(3, INGRESS);
        message.header.info = 0xc000_0300;
        message.header.handle = TcHandle { major: 0, minor: 1 };
        message.attributes = vec![
            TcAttribute::Kind("bpf".into()),
            TcAttribute::Options(vec![
                TcOption::Bpf(TcFilterBpfOption::ProgName(name.into())),
                TcOption::Bpf(TcFilterBpfOption::ProgId(77)),
            ]),
        ];
        message
    }

    #[test]
    fn a_filter_is_known_by_its_name() {
        let message = filter("evenkeel/default");
        assert_eq!(of_name(&message, "evenkeel/other"), None);
        assert_eq!(
            of_name(&message, "evenkeel/default"),
            Some(Filter {
                info: 0xc000_0300,
                handle: TcHandle { major: 0, minor: 1 },
                program: Some(77),
            })
        );
    }

    #[test]
    fn the_head_of_a_chain_has_no_options() {
        assert_eq!(of_name(&at(3, INGRESS), "evenkeel/default"), None);
    }
}
