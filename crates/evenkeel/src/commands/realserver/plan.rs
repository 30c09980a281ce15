//! What a real server needs, what of it there is, and so what is to be changed: pure.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt::{self, Display};
use std::net::IpAddr;

use evenkeel_kernel::realserver::TunnelKind;
use serde::{Deserialize, Serialize};

use super::notes::Notes;

/// Where addresses for direct routing go.
pub(super) const LOOPBACK: &str = "lo";
/// Stands for all interfaces in settings; of some, the kernel takes the larger of its
/// value and the interface's.
pub(super) const ALL: &str = "all";

/// `arp_ignore`: requests are answered on the interface that has the address. `lo` has
/// no requests.
const ONLY_OWN_INTERFACE: i32 = 1;
/// Values of `arp_ignore` that leave requests for addresses of `lo` unanswered.
const IGNORING: [i32; 3] = [1, 2, 8];
/// `arp_announce`: own requests never name an address of another interface.
const BEST_ADDRESS: i32 = 2;
/// `rp_filter`: a packet has to come by the interface that answers leave by.
const STRICT: i32 = 1;

/// How packets come from the director.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tunnel {
    /// IP in IP.
    Ipip,
    /// GRE.
    Gre,
    /// Generic UDP encapsulation, at this port.
    Gue(u16),
}

impl Tunnel {
    /// The device that packets to an address come out by.
    const fn kind(self, address: &IpAddr) -> TunnelKind {
        match (self, address) {
            (Self::Ipip | Self::Gue(_), IpAddr::V4(_)) => TunnelKind::Ipip,
            (Self::Ipip | Self::Gue(_), IpAddr::V6(_)) => TunnelKind::Ip6Tunnel,
            (Self::Gre, IpAddr::V4(_)) => TunnelKind::Gre,
            (Self::Gre, IpAddr::V6(_)) => TunnelKind::Ip6Gre,
        }
    }
}

impl Display for Tunnel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ipip => f.write_str("ipip"),
            Self::Gre => f.write_str("gre"),
            Self::Gue(port) => write!(f, "gue:{port}"),
        }
    }
}

/// What is asked for.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    pub(super) vips: Vec<IpAddr>,
    /// None: direct routing.
    pub(super) tunnel: Option<Tunnel>,
}

/// Name of a setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Knob {
    ArpIgnore,
    ArpAnnounce,
    RpFilter,
    DisableIpv6,
}

impl Knob {
    pub(super) const ALL: [Self; 4] = [
        Self::ArpIgnore,
        Self::ArpAnnounce,
        Self::RpFilter,
        Self::DisableIpv6,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::ArpIgnore => "arp_ignore",
            Self::ArpAnnounce => "arp_announce",
            Self::RpFilter => "rp_filter",
            Self::DisableIpv6 => "disable_ipv6",
        }
    }

    const fn family(self) -> &'static str {
        match self {
            Self::DisableIpv6 => "ipv6",
            _ => "ipv4",
        }
    }
}

/// A setting of an interface, or of [`ALL`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Setting {
    pub(super) name: Knob,
    pub(super) device: String,
}

impl Setting {
    pub(super) fn new(name: Knob, device: &str) -> Self {
        Self {
            name,
            device: device.into(),
        }
    }

    /// Below `/proc/sys`.
    pub(super) fn path(&self) -> String {
        let (family, name) = (self.name.family(), self.name.name());
        format!("net/{family}/conf/{}/{name}", self.device)
    }

    /// As sysctl(8) takes it: with slashes where the device's name has a dot.
    fn sysctl(&self) -> String {
        if self.device.contains('.') {
            self.path()
        } else {
            self.path().replace('/', ".")
        }
    }
}

impl Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} on {}", self.name.name(), self.device)
    }
}

/// A network interface.
#[derive(Clone, Debug)]
pub(super) struct Device {
    pub(super) name: String,
    pub(super) index: u32,
    pub(super) up: bool,
    /// It may be asked for the addresses of this machine.
    pub(super) is_ethernet: bool,
}

/// An address, and where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Placed {
    pub(super) address: IpAddr,
    pub(super) prefix: u8,
    pub(super) device: String,
}

impl Placed {
    /// Its network is itself alone.
    const fn is_alone(&self) -> bool {
        self.prefix == host_prefix(&self.address)
    }

    /// Where addresses for real servers are, and not one of those that are always there.
    fn is_service_address(&self) -> bool {
        let is_other = match self.address {
            IpAddr::V4(address) => address.is_loopback(),
            IpAddr::V6(address) => address.is_loopback() || address.is_unicast_link_local(),
        };
        !is_other && (self.device == LOOPBACK || is_tunnel(&self.device))
    }
}

/// A port for packets wrapped in UDP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Port {
    /// The outer header is IPv6's.
    pub(super) ipv6: bool,
    pub(super) port: u16,
}

impl Port {
    /// The device that what comes by it comes out by.
    const fn device(self) -> &'static str {
        if self.ipv6 {
            TunnelKind::Ip6Tunnel.device()
        } else {
            TunnelKind::Ipip.device()
        }
    }
}

impl Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let version = if self.ipv6 { 6 } else { 4 };
        write!(f, "GUE port {} over IPv{version}", self.port)
    }
}

/// The machine, as far as it matters.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    pub(super) devices: Vec<Device>,
    pub(super) addresses: Vec<Placed>,
    /// Ports of GUE.
    pub(super) ports: Vec<Port>,
    /// Of [`ALL`] and of each device; those that the kernel has.
    pub(super) settings: BTreeMap<Setting, i32>,
}

impl Seen {
    pub(super) fn device(&self, name: &str) -> Option<&Device> {
        self.devices.iter().find(|device| device.name == name)
    }

    pub(super) fn setting(&self, setting: &Setting) -> Option<i32> {
        self.settings.get(setting).copied()
    }

    fn value(&self, knob: Knob, device: &str) -> i32 {
        self.setting(&Setting::new(knob, device)).unwrap_or(0)
    }

    fn has(&self, address: IpAddr, device: &str) -> bool {
        self.addresses
            .iter()
            .any(|a| a.address == address && a.is_alone() && a.device == device)
    }

    /// The device that a service's address is on, or is to be put on. For direct routing,
    /// that of a tunnel is as good as `lo`.
    fn place(&self, vip: IpAddr, tunnel: Option<Tunnel>) -> &'static str {
        match tunnel {
            Some(tunnel) => tunnel.kind(&vip).device(),
            None => tunnel_devices()
                .find(|device| self.has(vip, device) && !self.has(vip, LOOPBACK))
                .unwrap_or(LOOPBACK),
        }
    }
}

fn tunnel_devices() -> impl Iterator<Item = &'static str> {
    TunnelKind::ALL.iter().map(|kind| kind.device())
}

fn is_tunnel(device: &str) -> bool {
    tunnel_devices().any(|tunnel| tunnel == device)
}

const fn host_prefix(address: &IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

/// One change of the machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "change", rename_all = "kebab-case")]
pub(super) enum Change {
    Set {
        #[serde(flatten)]
        setting: Setting,
        before: i32,
        after: i32,
    },
    MakeDevice {
        #[serde(rename = "device", serialize_with = "as_device")]
        kind: TunnelKind,
    },
    SetUp {
        device: String,
    },
    SetDown {
        device: String,
    },
    OpenPort(Port),
    ClosePort(Port),
    AddAddress {
        address: IpAddr,
        device: String,
    },
    RemoveAddress {
        address: IpAddr,
        device: String,
    },
}

#[allow(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde calls it with a reference"
)]
fn as_device<S: serde::Serializer>(kind: &TunnelKind, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(kind.device())
}

impl Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Set {
                setting,
                before,
                after,
            } => write!(f, "{setting}: {before} -> {after}"),
            Self::MakeDevice { kind } => write!(f, "{}: made", kind.device()),
            Self::SetUp { device } => write!(f, "{device}: down -> up"),
            Self::SetDown { device } => write!(f, "{device}: up -> down"),
            Self::OpenPort(port) => write!(f, "{port}: opened"),
            Self::ClosePort(port) => write!(f, "{port}: closed"),
            Self::AddAddress { address, device } => write!(f, "{address} on {device}: added"),
            Self::RemoveAddress { address, device } => {
                write!(f, "{address} on {device}: removed")
            }
        }
    }
}

/// Something that is wrong, and how to put it right.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Problem {
    pub(super) problem: String,
    pub(super) remedy: String,
}

/// Collects changes, each once.
#[derive(Default)]
struct Changes(Vec<Change>);

impl Changes {
    fn push(&mut self, change: Change) {
        if !self.0.contains(&change) {
            self.0.push(change);
        }
    }

    fn set(&mut self, seen: &Seen, knob: Knob, device: &str, after: i32) {
        let setting = Setting::new(knob, device);
        // Without the file, the kernel has not that family.
        if let Some(before) = seen.setting(&setting).filter(|&before| before != after) {
            self.push(Change::Set {
                setting,
                before,
                after,
            });
        }
    }
}

/// What makes the machine what is wanted. First what the kernel may not have, then the
/// settings: from its first moment on, an address is not answered for. What a missing
/// device needs besides is told once it is there.
pub(super) fn up(seen: &Seen, wanted: &Wanted) -> Vec<Change> {
    let mut changes = Changes::default();
    for vip in &wanted.vips {
        let kind = wanted.tunnel.map(|tunnel| tunnel.kind(vip));
        if let Some(kind) = kind.filter(|kind| seen.device(kind.device()).is_none()) {
            changes.push(Change::MakeDevice { kind });
        }
    }
    if !changes.0.is_empty() {
        return changes.0;
    }
    let places = || {
        let place = |&vip: &IpAddr| (vip, seen.place(vip, wanted.tunnel));
        wanted.vips.iter().map(place)
    };
    if let Some(Tunnel::Gue(port)) = wanted.tunnel {
        for vip in &wanted.vips {
            let ipv6 = vip.is_ipv6();
            let port = Port { ipv6, port };
            if !seen.ports.contains(&port) {
                changes.push(Change::OpenPort(port));
            }
        }
    }
    if wanted.vips.iter().any(IpAddr::is_ipv4) {
        no_answers(seen, &mut changes);
    }
    for (vip, device) in places() {
        if vip.is_ipv6() {
            changes.set(seen, Knob::DisableIpv6, device, 0);
        } else if device != LOOPBACK {
            no_reverse_path(seen, device, &mut changes);
        }
    }
    for (_, device) in places() {
        if seen.device(device).is_some_and(|device| !device.up) {
            changes.push(Change::SetUp {
                device: device.into(),
            });
        }
    }
    for (vip, device) in places() {
        if !seen.has(vip, device) {
            changes.push(Change::AddAddress {
                address: vip,
                device: device.into(),
            });
        }
    }
    changes.0
}

/// No answers to ARP requests for addresses of `lo`, and no requests that name them.
///
/// The kernel takes the larger of what is set for all interfaces and for the one that
/// the request came in by, or goes out by. So `all` is enough, also for interfaces yet to
/// come, unless one has a larger value with another meaning. That of `lo` does not count:
/// nobody asks there.
fn no_answers(seen: &Seen, changes: &mut Changes) {
    let rules: [(Knob, i32, &[i32]); 2] = [
        (Knob::ArpIgnore, ONLY_OWN_INTERFACE, &IGNORING),
        (Knob::ArpAnnounce, BEST_ADDRESS, &[BEST_ADDRESS]),
    ];
    for (knob, good, accepted) in rules {
        let mut all = seen.value(knob, ALL);
        if !accepted.contains(&all) {
            changes.set(seen, knob, ALL, good);
            all = good;
        }
        for device in seen.devices.iter().filter(|device| device.is_ethernet) {
            let own = seen.value(knob, &device.name);
            if !accepted.contains(&all.max(own)) {
                changes.set(seen, knob, &device.name, good);
            }
        }
    }
}

/// What comes out of a tunnel has a client's address, and answers to it leave by another
/// interface: the filter that asks for the same must not be on. The kernel takes the
/// larger of the value for all and the device's own; 2 asks for any interface, and stays.
fn no_reverse_path(seen: &Seen, device: &str, changes: &mut Changes) {
    let value = |device| seen.value(Knob::RpFilter, device);
    if value(ALL).max(value(device)) != STRICT {
        return;
    }
    for device in [ALL, device] {
        if value(device) == STRICT {
            changes.set(seen, Knob::RpFilter, device, 0);
        }
    }
}

/// What is wrong and is not ours to change.
pub(super) fn problems(seen: &Seen, wanted: &Wanted) -> Vec<Problem> {
    let mut problems = Vec::new();
    let ours = |address: &&Placed| wanted.vips.contains(&address.address);
    for found in seen.addresses.iter().filter(ours) {
        let Placed {
            address,
            prefix,
            device,
        } = found;
        let is_place = device == LOOPBACK || is_tunnel(device);
        let problem = if !is_place {
            let asks = if address.is_ipv4() {
                "ARP requests"
            } else {
                "neighbour solicitations"
            };
            format!("{address} is on {device}, which answers {asks} for it instead of the director")
        } else if !found.is_alone() {
            format!(
                "{address}/{prefix} on {device} makes all addresses of its network this machine's"
            )
        } else {
            continue;
        };
        let remedy = format!("ip address del {address}/{prefix} dev {device}");
        problems.push(Problem { problem, remedy });
    }
    problems
}

/// A change that `up` would make, told as what is wrong now.
pub(super) fn problem_of(change: &Change) -> Problem {
    let (problem, remedy) = match change {
        Change::Set {
            setting,
            before,
            after,
        } => {
            let why = match setting.name {
                Knob::ArpIgnore => "this machine answers ARP requests that are the director's",
                Knob::ArpAnnounce => "its own ARP requests may name the service's address",
                Knob::RpFilter => "the kernel drops what comes out of the tunnel",
                Knob::DisableIpv6 => "it can have no IPv6 address",
            };
            let name = setting.sysctl();
            (
                format!("{setting} is {before}: {why}"),
                format!("sysctl -w {name}={after}"),
            )
        }
        Change::MakeDevice { kind } => (
            format!("there is no {}", kind.device()),
            format!("modprobe {}", kind.module()),
        ),
        Change::SetUp { device } | Change::SetDown { device } => (
            format!("{device} is down"),
            format!("ip link set {device} up"),
        ),
        Change::OpenPort(port) | Change::ClosePort(port) => {
            let option = if port.ipv6 { "-6 " } else { "" };
            (
                format!("{port} is not open"),
                format!("ip fou add port {} gue {option}", port.port),
            )
        }
        Change::AddAddress { address, device } | Change::RemoveAddress { address, device } => {
            let prefix = host_prefix(address);
            (
                format!("{address} is not on {device}"),
                format!("ip address add {address}/{prefix} dev {device}"),
            )
        }
    };
    Problem {
        problem,
        remedy: remedy.trim_end().into(),
    }
}

/// What takes the addresses back, and with them what is needed for no other.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Down {
    pub(super) changes: Vec<Change>,
    /// What was changed for them and stays, with the reason.
    pub(super) kept: Vec<String>,
}

/// Takes addresses back.
///
/// The addresses are removed from `lo` and the tunnels' devices, wherever they are. Of what
/// was noted, a device's settings, its being up and its ports are put back when no
/// service's address is left on it; the settings for all interfaces when none is left that
/// they are for. What an operator has changed since is left alone: notes that are not true
/// any more do not count.
pub(super) fn down(seen: &Seen, vips: &[IpAddr], notes: &Notes) -> Down {
    let mut down = Down::default();
    let (gone, left): (Vec<&Placed>, Vec<&Placed>) = seen
        .addresses
        .iter()
        .filter(|found| found.is_service_address())
        .partition(|found| found.is_alone() && vips.contains(&found.address));
    for found in gone {
        down.changes.push(Change::RemoveAddress {
            address: found.address,
            device: found.device.clone(),
        });
    }
    let needed_by = |need: &dyn Fn(&Placed) -> bool| left.iter().copied().find(|a| need(a));
    for noted in &notes.settings {
        let Setting { name, ref device } = noted.setting;
        let needed_by = needed_by(&|a| match (name, device.as_str()) {
            (Knob::ArpIgnore | Knob::ArpAnnounce, _) => a.address.is_ipv4(),
            (Knob::RpFilter, ALL) => a.address.is_ipv4() && is_tunnel(&a.device),
            (Knob::RpFilter, device) => a.address.is_ipv4() && a.device == device,
            (Knob::DisableIpv6, device) => a.address.is_ipv6() && a.device == device,
        });
        let back = Change::Set {
            setting: noted.setting.clone(),
            before: noted.after,
            after: noted.before,
        };
        down.put_back(back, &noted.setting.to_string(), needed_by);
    }
    for &port in &notes.ports {
        let needed_by = needed_by(&|a| a.device == port.device());
        down.put_back(Change::ClosePort(port), &port.to_string(), needed_by);
    }
    for device in &notes.up {
        let needed_by = needed_by(&|a| a.device == *device);
        let back = Change::SetDown {
            device: device.clone(),
        };
        down.put_back(back, device, needed_by);
    }
    down
}

impl Down {
    fn put_back(&mut self, change: Change, what: &str, needed_by: Option<&Placed>) {
        match needed_by {
            None => self.changes.push(change),
            Some(Placed {
                address, device, ..
            }) => self
                .kept
                .push(format!("{what}: kept for {address} on {device}")),
        }
    }
}
