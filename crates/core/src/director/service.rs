//! A service as the director keeps it.

use core::net::IpAddr;

use evenkeel_datapath::layout::{endpoint_kind, features};

use super::Stats;
use super::endpoints::Key;
use super::rings::Block;
use super::schedule::{Shape, Weights};
use super::state::NONE;
use crate::model::{
    EditError, Family, MSS_MIN, MssClamp, Netmask, Persistence, Protocol, Scheduler,
    SchedulerFlags, ServiceKey, ServiceSettings,
};

/// Longest persistence in seconds: 31 days.
const PERSISTENCE_MAX: u32 = 2_678_400;

/// Port of FTP's control connections; its data connections follow them.
const FTP: u16 = 21;

/// The only persistence engine that IPVS has.
const SIP: &str = "sip";

/// What of a service is to be written, each more than the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Change {
    Nothing,
    /// The record.
    Record,
    /// The record, and the ring is to be made anew.
    Ring,
}

/// [`ServiceSettings`], checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Settings {
    pub scheduler: Scheduler,
    pub flags: SchedulerFlags,
    pub persistence: Option<Persistence>,
    pub one_packet: bool,
    pub sip: bool,
    pub mss_clamp: MssClamp,
}

impl Settings {
    /// Settings that the service may have.
    pub(super) fn check(key: &ServiceKey, wanted: &ServiceSettings) -> Result<Self, EditError> {
        let scheduler = wanted.scheduler.parse()?;
        let sip = match wanted.engine.as_deref() {
            None | Some("") => false,
            Some(SIP) => true,
            Some(_) => return Err(EditError::EngineNotFound),
        };
        match wanted.persistence {
            Some(persistence) => check_persistence(key.family(), persistence)?,
            None if is_any_port(key) => return Err(EditError::Invalid),
            None => {}
        }
        Ok(Self {
            scheduler,
            flags: wanted.flags,
            persistence: wanted.persistence,
            one_packet: wanted.one_packet,
            sip,
            mss_clamp: match wanted.mss_clamp.unwrap_or_default() {
                MssClamp::Bytes(bytes) if bytes < MSS_MIN => return Err(EditError::OutOfRange),
                clamp => clamp,
            },
        })
    }
}

impl From<Settings> for ServiceSettings {
    fn from(settings: Settings) -> Self {
        Self {
            scheduler: settings.scheduler.name().into(),
            flags: settings.flags,
            persistence: settings.persistence,
            one_packet: settings.one_packet,
            engine: settings.sip.then(|| SIP.into()),
            compatible: None,
            mss_clamp: Some(settings.mss_clamp).filter(|clamp| *clamp != MssClamp::Off),
        }
    }
}

fn check_persistence(family: Family, persistence: Persistence) -> Result<(), EditError> {
    match (family, persistence.netmask) {
        (Family::V4, Netmask::V4(_)) | (Family::V6, Netmask::V6(1..=128)) => {}
        _ => return Err(EditError::Invalid),
    }
    if !(1..=PERSISTENCE_MAX).contains(&persistence.timeout_s) {
        return Err(EditError::OutOfRange);
    }
    Ok(())
}

/// A service can have this key.
pub(super) fn check_key(key: &ServiceKey) -> Result<(), EditError> {
    match *key {
        // No packet has such an address: it stands for an IPv4 one.
        ServiceKey::Address {
            address: IpAddr::V6(address),
            ..
        } if address.to_ipv4_mapped().is_some() => Err(EditError::Invalid),
        ServiceKey::Mark { mark: 0, .. } => Err(EditError::Invalid),
        _ => Ok(()),
    }
}

const fn is_any_port(key: &ServiceKey) -> bool {
    matches!(key, ServiceKey::Address { port: 0, .. })
}

/// A ring in the memory.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ring {
    pub block: Block,
    /// See [`evenkeel_datapath::layout::scheduler`].
    pub length: u32,
    pub shape: Shape,
}

impl Ring {
    /// [`evenkeel_datapath::layout::Service::ring`].
    pub(super) fn word(&self) -> u64 {
        u64::from(self.block.base) << 32 | u64::from(self.length)
    }
}

/// A service. Its slot in the memory has the same index.
#[allow(
    clippy::struct_excessive_bools,
    reason = "each is a fact of its own, and all mixes of them occur"
)]
#[derive(Clone, Copy, Debug)]
pub(super) struct Service {
    pub key: ServiceKey,
    pub settings: Settings,
    /// IPVS's ways where Evenkeel has better ones.
    pub compatible: bool,
    /// It stands in the configuration.
    pub configured: bool,
    /// False: deleted, and kept for the connections of its servers.
    pub live: bool,
    /// When it was deleted (ms).
    pub deleted_ms: u64,
    /// First of its servers, the last added.
    pub head: u32,
    /// First of its deleted servers.
    pub trash: u32,
    /// Over its servers.
    pub weights: Weights,
    /// Where the scheduler stands at the beginning of the ring: round robin: the
    /// server used last, + 1, or 0; weighted: the present weight.
    pub position: u32,
    /// The ring in the memory.
    pub ring: Option<Ring>,
    /// A block for the next ring.
    pub staged: Option<Block>,
    /// True: `position` holds where the scheduler is now.
    pub settled: bool,
    /// What is to be written.
    pub change: Change,
    /// What is added to the sum of its servers' counters.
    pub carry: Stats,
    /// Epoch of the journal that has it; 0: none.
    pub saved: u64,
}

impl Service {
    /// A service without servers, of which the memory knows nothing yet.
    pub(super) fn new(key: ServiceKey, settings: Settings, compatible: bool) -> Self {
        Self {
            key,
            settings,
            compatible,
            configured: false,
            live: true,
            deleted_ms: 0,
            head: NONE,
            trash: NONE,
            weights: Weights::default(),
            position: 0,
            ring: None,
            staged: None,
            settled: false,
            change: Change::Nothing,
            carry: Stats::default(),
            saved: 0,
        }
    }

    /// Its protocol's number; 0 for a firewall mark, which has packets of all.
    pub(super) const fn protocol(&self) -> u8 {
        match self.key {
            ServiceKey::Address { protocol, .. } => protocol.number(),
            ServiceKey::Mark { .. } => 0,
        }
    }

    /// The protocols of its connections.
    pub(super) fn protocols(&self) -> &'static [Protocol] {
        const ALL: &[Protocol] = &[Protocol::Tcp, Protocol::Udp, Protocol::Sctp];
        match self.key {
            ServiceKey::Mark { .. } => ALL,
            ServiceKey::Address { protocol, .. } => match protocol {
                Protocol::Tcp => &ALL[..1],
                Protocol::Udp => &ALL[1..2],
                Protocol::Sctp => &ALL[2..],
            },
        }
    }

    /// True: its connections are wide entries.
    pub(super) const fn is_wide(&self) -> bool {
        self.is_ftp()
            || !matches!(
                self.key,
                ServiceKey::Address {
                    address: IpAddr::V4(_),
                    port: 1..,
                    ..
                }
            )
    }

    /// True: clients that stay with their server bring it connections to other ports, too.
    pub(super) const fn is_ftp(&self) -> bool {
        matches!(
            self.key,
            ServiceKey::Address {
                protocol: Protocol::Tcp,
                port: FTP,
                ..
            }
        )
    }

    pub(super) fn endpoint(&self) -> Key {
        match self.key {
            ServiceKey::Address { address, port, .. } => {
                Key::at(address, port, self.protocol(), endpoint_kind::SERVICE)
            }
            ServiceKey::Mark { mark, family } => Key::mark(mark, family),
        }
    }

    /// What packets have to look for while it lives ([`features`]).
    pub(super) fn features(&self) -> u32 {
        let of_key = match self.key {
            ServiceKey::Mark { .. } => features::MARKS,
            ServiceKey::Address { port: 0, .. } => features::ANY_PORT,
            _ if self.is_ftp() && self.settings.persistence.is_some() => features::FTP,
            ServiceKey::Address { .. } => 0,
        };
        let of_family = match self.key.family() {
            Family::V4 => 0,
            Family::V6 => features::IPV6,
        };
        let of_clamp = match self.settings.mss_clamp {
            MssClamp::Off => 0,
            MssClamp::Way | MssClamp::Bytes(_) => features::SEGMENTS,
        };
        of_key | of_family | of_clamp
    }
}
