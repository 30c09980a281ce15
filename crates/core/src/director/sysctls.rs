//! The settings of `net.ipv4.vs` as the memory has them: those that the packet path heeds
//! as a word of bits, the others as words of their own, for the next daemon.

use evenkeel_datapath::layout::{KEPT, settings};

use crate::model::{Sysctl, SysctlValue, Sysctls};

/// Those that are a bit for the packet path.
const BITS: &[(Sysctl, u32)] = &[
    (Sysctl::CacheBypass, settings::CACHE_BYPASS),
    (Sysctl::ExpireNodestConn, settings::EXPIRE_NODEST_CONN),
    (
        Sysctl::ExpireQuiescentTemplate,
        settings::EXPIRE_QUIESCENT_TEMPLATE,
    ),
    (Sysctl::IgnoreTunneled, settings::IGNORE_TUNNELED),
    (Sysctl::NatIcmpSend, settings::NAT_ICMP_SEND),
    (Sysctl::PmtuDisc, settings::PMTU_DISC),
    (Sysctl::ScheduleIcmp, settings::SCHEDULE_ICMP),
    (Sysctl::SloppySctp, settings::SLOPPY_SCTP),
    (Sysctl::SloppyTcp, settings::SLOPPY_TCP),
];

/// The others, each at its place; a place is never given to another one.
const PLACES: &[Sysctl] = &[
    Sysctl::AmDroprate,
    Sysctl::Amemthresh,
    Sysctl::BackupOnly,
    Sysctl::Conntrack,
    Sysctl::DropEntry,
    Sysctl::DropPacket,
    Sysctl::LblcExpiration,
    Sysctl::LblcrExpiration,
    Sysctl::RunEstimation,
    Sysctl::SecureTcp,
    Sysctl::SnatReroute,
    Sysctl::SyncPersistMode,
    Sysctl::SyncPorts,
    Sysctl::SyncQlenMax,
    Sysctl::SyncRefreshPeriod,
    Sysctl::SyncRetries,
    Sysctl::SyncSockSize,
    Sysctl::SyncVersion,
];

/// The place of the only pair, and of its second number behind it.
const THRESHOLD: usize = KEPT - 2;

const _: () = assert!(PLACES.len() <= THRESHOLD);

/// Bits of a number.
const REUSE: u32 = 3;

/// From which mode on a defence is at work.
const AT_WORK: u32 = 2;

/// True: this defence is at work, by its mode.
pub(super) fn is_at_work(sysctls: &Sysctls, defence: Sysctl) -> bool {
    sysctls.get(defence).number() >= AT_WORK
}

/// [`evenkeel_datapath::layout::Control::settings`].
pub(super) fn word(sysctls: &Sysctls) -> u32 {
    let set = BITS.iter().filter(|(sysctl, _)| sysctls.is_set(*sysctl));
    let bits = set.fold(0, |bits, (_, bit)| bits | bit);
    let reuse = sysctls.get(Sysctl::ConnReuseMode).number() & REUSE;
    let secure = if is_at_work(sysctls, Sysctl::SecureTcp) {
        settings::SECURE_TCP
    } else {
        0
    };
    bits | secure | reuse << settings::CONN_REUSE_MODE_SHIFT
}

/// Both numbers of a value; of a single one the second is 0.
const fn pair(value: SysctlValue) -> [u32; 2] {
    match value {
        SysctlValue::Number(number) => [number, 0],
        SysctlValue::Pair(pair) => pair,
    }
}

/// [`evenkeel_datapath::layout::Control::kept`]: what is different from the defaults.
pub(super) fn kept(sysctls: &Sysctls) -> [u32; KEPT] {
    let mut words = [0; KEPT];
    for (word, &sysctl) in words.iter_mut().zip(PLACES) {
        *word = sysctls.get(sysctl).number() ^ sysctl.default().number();
    }
    let (now, default) = (
        pair(sysctls.get(Sysctl::SyncThreshold)),
        pair(Sysctl::SyncThreshold.default()),
    );
    for number in 0..2 {
        words[THRESHOLD + number] = now[number] ^ default[number];
    }
    words
}

/// The settings that the memory has. One that can not be has its default.
pub(super) fn adopt(word: u32, kept: &[u32; KEPT]) -> Sysctls {
    let mut sysctls = Sysctls::default();
    let mut set = |sysctl: Sysctl, value| {
        // What nobody has written is left at its default.
        let _ = sysctls.set(sysctl, value);
    };
    for &(sysctl, bit) in BITS {
        set(sysctl, SysctlValue::Number(u32::from(word & bit != 0)));
    }
    let reuse = word >> settings::CONN_REUSE_MODE_SHIFT & REUSE;
    set(Sysctl::ConnReuseMode, SysctlValue::Number(reuse));
    for (word, &sysctl) in kept.iter().zip(PLACES) {
        let number = word ^ sysctl.default().number();
        set(sysctl, SysctlValue::Number(number));
    }
    let default = pair(Sysctl::SyncThreshold.default());
    let threshold = [0, 1].map(|number| kept[THRESHOLD + number] ^ default[number]);
    set(Sysctl::SyncThreshold, SysctlValue::Pair(threshold));
    sysctls
}

#[cfg(test)]
mod tests {
    use super::*;

    fn again(sysctls: &Sysctls) -> Sysctls {
        adopt(word(sysctls), &kept(sysctls))
    }

    #[test]
    fn the_defaults_are_those_of_the_memory() {
        let default = Sysctls::default();
        assert_eq!(word(&default), settings::DEFAULT);
        assert_eq!(kept(&default), [0; KEPT]);
        assert_eq!(adopt(settings::DEFAULT, &[0; KEPT]), default);
    }

    #[test]
    fn each_is_read_as_it_was_written() {
        for &sysctl in Sysctl::ALL {
            for number in [0, 1, 2, 3, 50, 3600, u32::MAX] {
                let mut sysctls = Sysctls::default();
                if sysctls.set(sysctl, SysctlValue::Number(number)).is_ok() {
                    assert_eq!(again(&sysctls), sysctls, "{sysctl:?} {number}");
                }
            }
        }
        let mut sysctls = Sysctls::default();
        let value = SysctlValue::Pair([0, 7]);
        sysctls.set(Sysctl::SyncThreshold, value).unwrap();
        assert_eq!(again(&sysctls), sysctls);
    }

    #[test]
    fn what_can_not_be_is_left_at_its_default() {
        let sysctls = adopt(settings::DEFAULT, &[u32::MAX - 7; KEPT]);
        assert_eq!(sysctls.get(Sysctl::DropEntry), Sysctl::DropEntry.default());
        assert_eq!(sysctls.get(Sysctl::SyncPorts), Sysctl::SyncPorts.default());
    }

    #[test]
    fn a_defence_is_for_the_packet_path_while_it_is_at_work() {
        for (mode, at_work) in [(0, false), (1, false), (2, true), (3, true)] {
            let mut sysctls = Sysctls::default();
            let value = SysctlValue::Number(mode);
            sysctls.set(Sysctl::SecureTcp, value).unwrap();
            assert_eq!(word(&sysctls) & settings::SECURE_TCP != 0, at_work);
        }
    }
}
