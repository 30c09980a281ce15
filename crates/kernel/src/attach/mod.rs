//! Puts the programs on interfaces and takes them off again.
//!
//! tc is on every interface: it can finish every packet. XDP stands in front where
//! the driver runs it and passes on what it can't finish. XDP and TCX are kept by
//! links, pinned under the instance, so that they outlive the daemon and can be
//! given other programs without a gap.

mod clsact;
mod decide;

use std::fs;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use evenkeel_datapath::layout::{INTERFACES, Interface, interface_flags};
use netlink_packet_route::tc::TcHandle;
use nix::libc;

pub use decide::{Attachment, Hook, Wanted};

use crate::bpf::{self, LinkKind};
use crate::dataplane::Dataplane;
use crate::error::{Attempt, Error, Result};
use crate::netlink::Socket;
use crate::network::Link;
use crate::pins::{self, Pins};
use crate::program::Program;
use decide::{Decision, Tc, decide, describe};

/// What a symbolic link in place of a pin says about an interface's clsact.
const OWN_QDISC: &str = "qdisc-made";
const FOUND_QDISC: &str = "qdisc-found";

/// Lets packets with an address of this machine as their source come in by the loopback
/// interface: what servers send to clients on this machine comes by it, and the kernel has
/// not seen it leave.
const ACCEPT_LOCAL: &str = "/proc/sys/net/ipv4/conf/lo/accept_local";

/// Which of tc's two ways to take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TcWay {
    /// TCX where the kernel has it.
    #[default]
    Newest,
    /// clsact, as on kernels before 6.6.
    Clsact,
}

/// What keeps a program on an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Keeper {
    Xdp,
    /// Where packets leave; before what it shares the queueing discipline with.
    TcxEgress,
    ClsactEgress,
    Tcx,
    Clsact,
    /// No program, but [`ACCEPT_LOCAL`], which goes back to what it was.
    AcceptLocal,
}

impl Keeper {
    /// In the order in which they are taken away.
    const ALL: [Self; 6] = [
        Self::Xdp,
        Self::TcxEgress,
        Self::ClsactEgress,
        Self::Tcx,
        Self::Clsact,
        Self::AcceptLocal,
    ];

    const fn suffix(self) -> &'static str {
        match self {
            Self::Xdp => "xdp",
            Self::TcxEgress => "tcx-egress",
            Self::ClsactEgress => "clsact-egress",
            Self::Tcx => "tcx",
            Self::Clsact => "clsact",
            Self::AcceptLocal => "accept-local",
        }
    }

    fn path(self, pins: &Pins, interface: u32) -> PathBuf {
        pins.links().join(format!("{interface}-{}", self.suffix()))
    }

    /// The reverse of [`Keeper::path`].
    fn parse(name: &str) -> Option<(u32, Self)> {
        let (interface, suffix) = name.split_once('-')?;
        let keeper = Self::ALL
            .into_iter()
            .find(|keeper| keeper.suffix() == suffix)?;
        Some((interface.parse().ok()?, keeper))
    }
}

/// One of tc's two places, and what belongs there.
#[derive(Clone, Copy)]
struct Side {
    program: Program,
    /// Keeps it by TCX.
    link: Keeper,
    kind: LinkKind,
    /// Keeps it by clsact.
    filter: Keeper,
    parent: TcHandle,
}

/// Where packets come in.
const INGRESS: Side = Side {
    program: Program::Tc,
    link: Keeper::Tcx,
    kind: LinkKind::Tcx,
    filter: Keeper::Clsact,
    parent: clsact::INGRESS,
};

/// Where packets without a link-layer header come in. An interface is of one sort or the
/// other, so that both sorts are kept alike.
const BARE: Side = Side {
    program: Program::Bare,
    ..INGRESS
};

/// Where they leave.
const EGRESS: Side = Side {
    program: Program::Egress,
    link: Keeper::TcxEgress,
    kind: LinkKind::TcxEgress,
    filter: Keeper::ClsactEgress,
    parent: clsact::EGRESS,
};

/// Where packets without a link-layer header leave.
const BARE_EGRESS: Side = Side {
    program: Program::BareEgress,
    ..EGRESS
};

impl Dataplane {
    /// Attaches to `link` what is wanted, and detaches what is not.
    /// `master` is the interface that it is a member of, if any. What is attached
    /// already stays and gets this instance's programs, without a gap; so this can
    /// be called again whenever the link has changed.
    pub fn attach(
        &self,
        link: &Link,
        master: Option<&Link>,
        wanted: impl Into<Wanted>,
    ) -> Result<Attachment> {
        self.attach_by(link, master, wanted, TcWay::Newest)
    }

    /// [`Dataplane::attach`], with a choice of tc's way.
    pub fn attach_by(
        &self,
        link: &Link,
        master: Option<&Link>,
        wanted: impl Into<Wanted>,
        way: TcWay,
    ) -> Result<Attachment> {
        let (try_xdp, mut why) = match decide(link, master, wanted.into()) {
            Decision::Skip { why } => {
                self.detach(link.index)?;
                return Ok(Attachment {
                    hook: "none".into(),
                    why,
                });
            }
            Decision::Attach { xdp, why } => (xdp, why),
        };
        let side = if link.is_bare() {
            BARE
        } else {
            // XDP asks for it, and tc's traces of packets.
            self.note_interface(link)?;
            INGRESS
        };
        let failed = |error| Error::System {
            action: format!("attach to the interface {}", link.name),
            error,
        };
        let tc = self.attach_tc(link.index, way, side).map_err(failed)?;
        if link.is_loopback()
            && let Err(error) = self.accept_local(link.index)
        {
            why = format!("{why}, of IPv6 alone: cannot set {ACCEPT_LOCAL}: {error}");
        }
        let xdp = if try_xdp {
            Some(
                self.attach_xdp(link.index)
                    .map_err(|error| error.raw_os_error().unwrap_or(0)),
            )
        } else {
            remove_keeper(&self.pins, link.index, Keeper::Xdp).map_err(failed)?;
            None
        };
        Ok(describe(why, tc, xdp))
    }

    /// Has what leaves by the interface looked at for answers of servers on this machine,
    /// which are to be translated; or not any more. The interface is one that
    /// [`Dataplane::attach`] has attached to.
    pub fn set_egress(&self, link: &Link, wanted: bool) -> Result<()> {
        self.set_egress_by(link, wanted, TcWay::Newest)
    }

    /// [`Dataplane::set_egress`], with a choice of tc's way.
    pub fn set_egress_by(&self, link: &Link, wanted: bool, way: TcWay) -> Result<()> {
        let interface = link.index;
        let side = if link.is_bare() { BARE_EGRESS } else { EGRESS };
        let done = if wanted {
            self.attach_tc(interface, way, side).map(drop)
        } else {
            [EGRESS.link, EGRESS.filter]
                .into_iter()
                .try_for_each(|keeper| remove_keeper(&self.pins, interface, keeper))
        };
        done.attempt(|| format!("attach to what leaves by interface {interface}"))
    }

    /// Takes everything off the interface; it may be gone.
    pub fn detach(&self, interface: u32) -> Result<()> {
        // Before tc, behind which there is nothing to finish what XDP passes.
        for keeper in Keeper::ALL {
            remove_keeper(&self.pins, interface, keeper)
                .attempt(|| format!("detach from interface {interface}"))?;
        }
        let slot = self.slot(interface);
        if slot.index.get() == interface {
            slot.index.set(0);
        }
        Ok(())
    }

    /// Indices of the interfaces on which something of this instance is, or was
    /// before they went.
    pub fn attached(&self) -> Result<Vec<u32>> {
        let mut interfaces: Vec<u32> = keepers(&self.pins)?
            .into_iter()
            .map(|(interface, _)| interface)
            .collect();
        interfaces.sort_unstable();
        interfaces.dedup();
        Ok(interfaces)
    }

    /// Lets the packet path know the interface.
    fn note_interface(&self, link: &Link) -> Result<()> {
        let slot = self.slot(link.index);
        let other = slot.index.get();
        // A record without anything attached is left from an attempt that failed.
        if other != 0 && other != link.index && self.attached()?.contains(&other) {
            let index = link.index;
            return Err(Error::InterfaceSlot {
                name: link.name.clone(),
                index,
                other,
            });
        }
        let [low, high] = mac_words(link);
        slot.mac_low.set(low);
        slot.mac_high.set(high);
        slot.index.set(link.index);
        Ok(())
    }

    fn slot(&self, interface: u32) -> &Interface {
        // `open` has mapped this many.
        &self.memory().interfaces[(interface % INTERFACES) as usize]
    }

    fn attach_xdp(&self, interface: u32) -> io::Result<()> {
        self.attach_link(interface, Keeper::Xdp, LinkKind::Xdp, Program::Xdp)
    }

    fn attach_tc(&self, interface: u32, way: TcWay, side: Side) -> io::Result<Tc> {
        if way == TcWay::Newest {
            match self.attach_link(interface, side.link, side.kind, side.program) {
                Ok(()) => {
                    // Both would see every packet.
                    remove_keeper(&self.pins, interface, side.filter)?;
                    return Ok(Tc::Tcx);
                }
                // The kernel does not know this type of link.
                Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {}
                Err(error) => return Err(error),
            }
        }
        self.attach_clsact(interface, side)?;
        remove_keeper(&self.pins, interface, side.link)?;
        Ok(Tc::Clsact)
    }

    /// Sets [`ACCEPT_LOCAL`], and keeps in mind what it was.
    fn accept_local(&self, interface: u32) -> io::Result<()> {
        let path = Keeper::AcceptLocal.path(&self.pins, interface);
        let present = fs::read_to_string(ACCEPT_LOCAL)?;
        if present.trim() != "0" {
            return Ok(());
        }
        if fs::symlink_metadata(&path).is_err() {
            symlink(present.trim(), &path)?;
        }
        fs::write(ACCEPT_LOCAL, "1")
    }

    fn attach_clsact(&self, interface: u32, side: Side) -> io::Result<()> {
        let mut socket = Socket::new()?;
        let path = side.filter.path(&self.pins, interface);
        if clsact::add_qdisc(&mut socket, interface)? {
            let _ = fs::remove_file(&path);
            symlink(OWN_QDISC, &path)?;
        } else if fs::symlink_metadata(&path).is_err() {
            symlink(FOUND_QDISC, &path)?;
        }
        let program = self.programs.get(side.program);
        let id = bpf::program_info(program)?.id;
        clsact::set_filter(
            &mut socket,
            (interface, side.parent),
            &filter_name(self.pins.path()),
            program,
            id,
        )
    }

    /// Makes sure that a pinned link keeps this instance's program on the interface.
    fn attach_link(
        &self,
        interface: u32,
        keeper: Keeper,
        kind: LinkKind,
        program: Program,
    ) -> io::Result<()> {
        let path = keeper.path(&self.pins, interface);
        let program = self.programs.get(program);
        if let Some((link, present)) = open_link(&path, kind, interface)? {
            if present != bpf::program_info(program)?.id {
                bpf::update_link(link.as_fd(), program)?;
            }
            return Ok(());
        }
        let link = bpf::create_link(program, interface, kind)?;
        bpf::pin(link.as_fd(), &path)
    }
}

/// The pinned link and its program's number, if it is still on this interface. The
/// pin of another is removed: an index is given again when its interface is gone.
fn open_link(path: &Path, kind: LinkKind, interface: u32) -> io::Result<Option<(OwnedFd, u32)>> {
    let link = match bpf::open_pin(path) {
        Ok(link) => link,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let info = bpf::link_info(&link)?;
    let expected = match kind {
        LinkKind::Xdp => bpf::LINK_TYPE_XDP,
        LinkKind::Tcx | LinkKind::TcxEgress => bpf::LINK_TYPE_TCX,
    };
    if (info.kind, info.interface) == (expected, interface) {
        return Ok(Some((link, info.program)));
    }
    fs::remove_file(path)?;
    Ok(None)
}

fn remove_keeper(pins: &Pins, interface: u32, keeper: Keeper) -> io::Result<()> {
    let path = keeper.path(pins, interface);
    if fs::symlink_metadata(&path).is_err() {
        return Ok(());
    }
    match keeper {
        Keeper::Xdp | Keeper::Tcx | Keeper::TcxEgress => {
            let link = bpf::open_pin(&path)?;
            match bpf::detach_link(link.as_fd()) {
                // The interface is gone.
                Err(error) if error.raw_os_error() == Some(libc::ENOLINK) => {}
                other => other?,
            }
        }
        Keeper::Clsact | Keeper::ClsactEgress => {
            let parent = if keeper == Keeper::Clsact {
                clsact::INGRESS
            } else {
                clsact::EGRESS
            };
            let is_own = fs::read_link(&path).is_ok_and(|target| target == Path::new(OWN_QDISC));
            let mut socket = Socket::new()?;
            clsact::remove_filter(&mut socket, (interface, parent), &filter_name(pins.path()))?;
            if is_own {
                clsact::remove_qdisc(&mut socket, interface)?;
            }
        }
        // Another namespace's setting is out of reach, and nothing depends on it.
        Keeper::AcceptLocal if pins.check_namespace().is_err() => {}
        Keeper::AcceptLocal => {
            let before = fs::read_link(&path)?;
            fs::write(ACCEPT_LOCAL, before.as_os_str().as_encoded_bytes())?;
        }
    }
    fs::remove_file(&path)
}

/// What keeps programs on interfaces, in the order in which they are to be taken away.
fn keepers(pins: &Pins) -> Result<Vec<(u32, Keeper)>> {
    let directory = pins.links();
    let action = || format!("read {}", directory.display());
    let mut found = Vec::new();
    for entry in fs::read_dir(&directory).attempt(action)? {
        let name = entry.attempt(action)?.file_name();
        found.extend(name.to_str().and_then(Keeper::parse));
    }
    // In the order of `Keeper::ALL`.
    found.sort_unstable();
    Ok(found)
}

/// Under which name `tc filter show` lists the instance.
fn filter_name(pins: &Path) -> String {
    let instance = pins.file_name().unwrap_or_default().to_string_lossy();
    format!("evenkeel/{instance}")
}

fn mac_words(link: &Link) -> [u32; 2] {
    let [m0, m1, m2, m3, m4, m5] = link.mac.unwrap_or_default();
    let flags = if link.is_physical {
        0
    } else {
        interface_flags::PARTIAL_CHECKSUMS
    };
    let [.., f0, f1] = flags.to_ne_bytes();
    [
        u32::from_ne_bytes([m0, m1, m2, m3]),
        u32::from_ne_bytes([m4, m5, f0, f1]),
    ]
}

/// Removes an instance for good: from the interfaces, its tables, its programs.
/// True: there was something. Works without a daemon, and not beside one.
pub fn purge(path: &Path) -> Result<bool> {
    pins::remove_unfinished(path)?;
    let Some(pins) = Pins::open(path)? else {
        // An empty directory that `mkdir` left, or none.
        let _ = fs::remove_dir(path);
        return Ok(false);
    };
    if pins.links().exists() {
        let keepers = keepers(&pins)?;
        let is_filter = |keeper| matches!(keeper, Keeper::Clsact | Keeper::ClsactEgress);
        if keepers.iter().any(|(_, keeper)| is_filter(*keeper)) {
            // Filters can be reached in their own network namespace only.
            pins.check_namespace()?;
        }
        for (interface, keeper) in keepers {
            remove_keeper(&pins, interface, keeper)
                .attempt(|| format!("detach from interface {interface}"))?;
        }
    }
    pins.remove()?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pins_of_links_are_found_by_name() {
        assert_eq!(Keeper::parse("12-xdp"), Some((12, Keeper::Xdp)));
        assert_eq!(Keeper::parse("3-clsact"), Some((3, Keeper::Clsact)));
        assert_eq!(
            Keeper::parse("3-clsact-egress"),
            Some((3, Keeper::ClsactEgress))
        );
        assert_eq!(Keeper::parse("eth0-xdp"), None);
        assert_eq!(Keeper::parse("3-other"), None);
    }

    #[test]
    fn macs_stand_as_the_packet_has_them() {
        let mut link = Link {
            mac: Some([1, 2, 3, 4, 5, 6]),
            ..Link::default()
        };
        link.is_physical = true;
        let [low, high] = mac_words(&link);
        assert_eq!(low.to_ne_bytes(), [1, 2, 3, 4]);
        assert_eq!(high.to_ne_bytes()[..2], [5, 6]);
        assert_eq!(high & interface_flags::PARTIAL_CHECKSUMS, 0);
        link.is_physical = false;
        let [_, high] = mac_words(&link);
        assert_eq!(
            high & interface_flags::PARTIAL_CHECKSUMS,
            interface_flags::PARTIAL_CHECKSUMS
        );
        assert_eq!(high.to_ne_bytes()[..2], [5, 6]);
    }

    #[test]
    fn filters_carry_the_instances_name() {
        assert_eq!(
            filter_name(Path::new("/sys/fs/bpf/evenkeel/lan")),
            "evenkeel/lan"
        );
    }
}
