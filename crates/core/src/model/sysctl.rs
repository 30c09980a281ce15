//! The settings of `net.ipv4.vs`, by IPVS's names and with its ranges and defaults
//! (`Documentation/networking/ipvs-sysctl.rst`, `net/netfilter/ipvs/ip_vs_ctl.c`).

use core::fmt;
use core::ops::RangeInclusive;
use core::str::FromStr;

use super::EditError;

/// Where the kernel has them.
pub const SYSCTL_PREFIX: &str = "net.ipv4.vs.";

/// What a setting takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SysctlKind {
    /// A whole number within this range.
    Number(RangeInclusive<u32>),
    /// A power of two within this range.
    PowerOfTwo(RangeInclusive<u32>),
    /// Two numbers, the first below the second unless that is 0.
    Threshold,
}

impl fmt::Display for SysctlKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(range) if *range == (0..=1) => f.write_str("0 or 1"),
            Self::Number(range) if *range.end() == u32::MAX => {
                write!(f, "a whole number from {} on", range.start())
            }
            Self::Number(range) => {
                write!(
                    f,
                    "a whole number from {} to {}",
                    range.start(),
                    range.end()
                )
            }
            Self::PowerOfTwo(range) => {
                write!(
                    f,
                    "a power of two from {} to {}",
                    range.start(),
                    range.end()
                )
            }
            Self::Threshold => f.write_str("two numbers, the first below the second or that 0"),
        }
    }
}

/// A setting's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(untagged)
)]
pub enum SysctlValue {
    /// That of all but [`Sysctl::SyncThreshold`].
    Number(u32),
    /// Threshold and period.
    Pair([u32; 2]),
}

impl SysctlValue {
    /// The number; of a pair the first.
    #[must_use]
    pub const fn number(self) -> u32 {
        match self {
            Self::Number(number) | Self::Pair([number, _]) => number,
        }
    }
}

impl fmt::Display for SysctlValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Pair([first, second]) => write!(f, "{first} {second}"),
        }
    }
}

impl FromStr for SysctlValue {
    type Err = EditError;

    /// A number, or two with a blank between them.
    fn from_str(text: &str) -> Result<Self, EditError> {
        let number = |word: &str| word.parse().map_err(|_| EditError::OutOfRange);
        let mut words = text.split_whitespace();
        match (words.next(), words.next(), words.next()) {
            (Some(one), None, _) => Ok(Self::Number(number(one)?)),
            (Some(one), Some(other), None) => Ok(Self::Pair([number(one)?, number(other)?])),
            _ => Err(EditError::OutOfRange),
        }
    }
}

macro_rules! sysctls {
    ($($variant:ident, $name:literal, $kind:expr, $default:expr, $meaning:literal, $idle:expr;)+) => {
        /// A setting by name.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[cfg_attr(
            feature = "serde",
            derive(serde::Serialize, serde::Deserialize),
            serde(rename_all = "snake_case")
        )]
        pub enum Sysctl {
            $(#[doc = concat!("`", $name, "`, see [`Sysctl::meaning`]")] $variant,)+
        }

        impl Sysctl {
            /// All of them, by name.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// Its name, without [`SYSCTL_PREFIX`].
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }

            /// What it takes.
            #[must_use]
            pub const fn kind(self) -> SysctlKind {
                match self {
                    $(Self::$variant => $kind,)+
                }
            }

            /// Its value unless it is set.
            #[must_use]
            pub const fn default(self) -> SysctlValue {
                match self {
                    $(Self::$variant => $default,)+
                }
            }

            /// What it is, with its unit.
            #[must_use]
            pub const fn meaning(self) -> &'static str {
                match self {
                    $(Self::$variant => $meaning,)+
                }
            }

            /// Why it changes nothing here when it is set; none: it does.
            #[must_use]
            pub const fn without_effect(self) -> Option<&'static str> {
                match self {
                    $(Self::$variant => $idle,)+
                }
            }
        }
    };
}

const SWITCH: SysctlKind = SysctlKind::Number(0..=1);
const MODE: SysctlKind = SysctlKind::Number(0..=3);
const ANY: SysctlKind = SysctlKind::Number(0..=u32::MAX);
/// Seconds that still fit into the packet path's clock: 194 days.
const SECONDS: SysctlKind = SysctlKind::Number(0..=1 << 24);

const OFF: SysctlValue = SysctlValue::Number(0);
const ON: SysctlValue = SysctlValue::Number(1);
const DAY: SysctlValue = SysctlValue::Number(24 * 60 * 60);

const NO_SYNC: Option<&str> = Some("connections are not synchronised yet");

sysctls! {
    AmDroprate, "am_droprate", SysctlKind::Number(1..=u32::MAX), SysctlValue::Number(10),
        "drop_packet in mode 3: one packet of so many is dropped", None;
    Amemthresh, "amemthresh", ANY, SysctlValue::Number(1024),
        "pages of room in a table of connections below which the automatic modes of drop_entry, \
         drop_packet and secure_tcp begin; at most an eighth of the table", None;
    BackupOnly, "backup_only", SWITCH, OFF,
        "1: nothing is scheduled while this director is a backup", NO_SYNC;
    CacheBypass, "cache_bypass", SWITCH, OFF,
        "1: what has a firewall mark and no server goes to where it was sent to, by the kernel", None;
    ConnReuseMode, "conn_reuse_mode", MODE, ON,
        "a client begins a connection from a port that it has used: 0: it stays with the former \
         one's server; 1: it is scheduled anew when that is over; 2 and 3: also when the client \
         has closed it and nothing of the server's side is seen, by direct routing and tunnels. \
         For services that are compatible with IPVS; with others 1 and more: also when one side \
         has closed it", None;
    Conntrack, "conntrack", SWITCH, OFF,
        "1: connections are entered with netfilter's connection tracking",
        Some("packets of services do not pass netfilter");
    DropEntry, "drop_entry", MODE, OFF,
        "half-open connections are dropped at random: 0: never, 1: while room is short, 2: mode 1 \
         at work, 3: always", None;
    DropPacket, "drop_packet", MODE, OFF,
        "of packets that would begin a connection one of some is dropped: modes as of drop_entry", None;
    ExpireNodestConn, "expire_nodest_conn", SWITCH, OFF,
        "1: connections of a deleted server end; 0: their packets are dropped, and they go on if \
         it comes back. For services that are compatible with IPVS; those of others end", None;
    ExpireQuiescentTemplate, "expire_quiescent_template", SWITCH, OFF,
        "1: persistence does not lead to a server of weight 0. For services that are compatible \
         with IPVS; with others it never does", None;
    IgnoreTunneled, "ignore_tunneled", SWITCH, OFF,
        "1: what comes out of a tunnel of IPIP or GRE that ends on this machine is not scheduled",
        None;
    LblcExpiration, "lblc_expiration", SECONDS, DAY,
        "lblc: seconds after which a destination that nobody asked for is forgotten", None;
    LblcrExpiration, "lblcr_expiration", SECONDS, DAY,
        "lblcr: the same, and seconds without a change after which a destination gives up its \
         busiest server", None;
    NatIcmpSend, "nat_icmp_send", SWITCH, OFF,
        "1: a server's packet without a connection is answered with ICMP unreachable", None;
    PmtuDisc, "pmtu_disc", SWITCH, ON,
        "0: what goes into a tunnel by IPv4 may be cut on its way, whatever its sender says",
        None;
    RunEstimation, "run_estimation", SWITCH, ON,
        "0: counters are not sampled, so that rates and ipvsadm's counters stay as they are",
        None;
    ScheduleIcmp, "schedule_icmp", SWITCH, OFF,
        "1: ICMP errors about packets without a connection are scheduled", None;
    SecureTcp, "secure_tcp", MODE, OFF,
        "TCP's states move more strictly: modes as of drop_entry", None;
    SloppySctp, "sloppy_sctp", SWITCH, OFF,
        "1: an SCTP connection begins with any packet", None;
    SloppyTcp, "sloppy_tcp", SWITCH, OFF,
        "1: a TCP connection begins with any packet but a reset", None;
    SnatReroute, "snat_reroute", SWITCH, ON,
        "0: replies take the way that they had before their source was rewritten",
        Some("replies always take the way that the client's address has");
    SyncPersistMode, "sync_persist_mode", SWITCH, OFF,
        "1: of persistent services only templates are sent", NO_SYNC;
    SyncPorts, "sync_ports", SysctlKind::PowerOfTwo(1..=64), ON,
        "UDP ports, and threads, to send by", NO_SYNC;
    SyncQlenMax, "sync_qlen_max", ANY, SysctlValue::Number(4096),
        "messages that may wait to be sent; IPVS's default depends on the machine's memory",
        NO_SYNC;
    SyncRefreshPeriod, "sync_refresh_period", ANY, OFF,
        "seconds until a connection whose state stays the same is sent again; 0: as \
         sync_threshold says", NO_SYNC;
    SyncRetries, "sync_retries", SysctlKind::Number(0..=3), OFF,
        "how often a connection is sent once more within an eighth of sync_refresh_period",
        NO_SYNC;
    SyncSockSize, "sync_sock_size", ANY, OFF,
        "bytes of a socket's buffer; 0: the kernel's default", NO_SYNC;
    SyncThreshold, "sync_threshold", SysctlKind::Threshold, SysctlValue::Pair([3, 50]),
        "packets from which on a connection is sent, and after how many more again; 0: not \
         again", NO_SYNC;
    SyncVersion, "sync_version", SWITCH, ON,
        "version of the messages", NO_SYNC;
}

impl Sysctl {
    /// The setting of this name, with or without [`SYSCTL_PREFIX`].
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        let name = name.strip_prefix(SYSCTL_PREFIX).unwrap_or(name);
        Self::ALL.iter().find(|known| known.name() == name).copied()
    }

    /// The value, if it is one that the setting can have. A threshold alone keeps the
    /// period that there is.
    ///
    /// # Errors
    /// [`EditError::OutOfRange`] otherwise.
    pub fn check(self, value: SysctlValue, present: SysctlValue) -> Result<SysctlValue, EditError> {
        let checked = match (self.kind(), value) {
            (SysctlKind::Number(range), SysctlValue::Number(number)) => {
                range.contains(&number).then_some(value)
            }
            (SysctlKind::PowerOfTwo(range), SysctlValue::Number(number)) => {
                (range.contains(&number) && number.is_power_of_two()).then_some(value)
            }
            (SysctlKind::Threshold, value) => {
                let pair = match (value, present) {
                    (SysctlValue::Pair(pair), _) => pair,
                    (SysctlValue::Number(first), SysctlValue::Pair([_, period])) => [first, period],
                    (SysctlValue::Number(first), SysctlValue::Number(_)) => [first, 0],
                };
                let is_sound = pair[0] < pair[1] || pair[1] == 0;
                is_sound.then_some(SysctlValue::Pair(pair))
            }
            (_, SysctlValue::Pair(_)) => None,
        };
        checked.ok_or(EditError::OutOfRange)
    }
}

/// The values of all settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sysctls([SysctlValue; Sysctl::ALL.len()]);

impl Sysctls {
    /// That of one.
    #[must_use]
    pub const fn get(&self, sysctl: Sysctl) -> SysctlValue {
        self.0[sysctl as usize]
    }

    /// True: it is on, or in a mode.
    #[must_use]
    pub const fn is_set(&self, sysctl: Sysctl) -> bool {
        self.get(sysctl).number() != 0
    }

    /// Sets one.
    ///
    /// # Errors
    /// [`EditError::OutOfRange`]: it can not have this value.
    pub fn set(&mut self, sysctl: Sysctl, value: SysctlValue) -> Result<(), EditError> {
        self.0[sysctl as usize] = sysctl.check(value, self.get(sysctl))?;
        Ok(())
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = (Sysctl, SysctlValue)> + '_ {
        Sysctl::ALL.iter().map(|&sysctl| (sysctl, self.get(sysctl)))
    }
}

impl Default for Sysctls {
    fn default() -> Self {
        let mut values = [OFF; Sysctl::ALL.len()];
        for &sysctl in Sysctl::ALL {
            values[sysctl as usize] = sysctl.default();
        }
        Self(values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;
    use alloc::vec::Vec;

    fn check(sysctl: Sysctl, text: &str) -> Option<alloc::string::String> {
        let value = text.parse().ok()?;
        let checked = sysctl.check(value, sysctl.default()).ok()?;
        Some(checked.to_string())
    }

    #[test]
    fn names_and_values_are_as_in_the_table() {
        let mut names: Vec<&str> = Sysctl::ALL.iter().map(|sysctl| sysctl.name()).collect();
        for (number, &sysctl) in Sysctl::ALL.iter().enumerate() {
            assert_eq!(sysctl as usize, number);
            assert_eq!(Sysctl::from_name(sysctl.name()), Some(sysctl));
            let full = [SYSCTL_PREFIX, sysctl.name()].concat();
            assert_eq!(Sysctl::from_name(&full), Some(sysctl));
            assert_eq!(Sysctls::default().get(sysctl), sysctl.default());
            let default = sysctl.default().to_string();
            assert_eq!(check(sysctl, &default).as_deref(), Some(&*default));
        }
        assert!(names.is_sorted());
        names.dedup();
        assert_eq!(names.len(), Sysctl::ALL.len());
        assert_eq!(Sysctl::from_name("net.ipv4.conntrack"), None);
    }

    #[test]
    fn values_out_of_range_are_refused_as_by_the_kernel() {
        for (sysctl, good, bad) in [
            (
                Sysctl::ExpireNodestConn,
                &["0", "1"][..],
                &["2", "-1", "", "x", "0 1"][..],
            ),
            (Sysctl::DropEntry, &["3"], &["4"]),
            (Sysctl::SyncPorts, &["1", "64"], &["0", "3", "128"]),
            (
                Sysctl::SyncThreshold,
                &["1 2", "0 0", "0 1", "3 0"],
                &["1 1", "5 3", "-1 5", "1 2 3"],
            ),
        ] {
            for text in good {
                assert_eq!(check(sysctl, text).as_deref(), Some(*text), "{sysctl:?}");
            }
            for text in bad {
                assert_eq!(check(sysctl, text), None, "{sysctl:?} {text}");
            }
        }
        // A threshold alone keeps the period.
        assert_eq!(check(Sysctl::SyncThreshold, "4").as_deref(), Some("4 50"));
        assert_eq!(check(Sysctl::SyncThreshold, "50"), None);
    }
}
