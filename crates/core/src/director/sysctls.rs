//! The settings of `net.ipv4.vs` as the memory has them.

use evenkeel_datapath::layout::settings;

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

/// Bits of a number.
const REUSE: u32 = 3;

/// [`evenkeel_datapath::layout::Control::settings`].
pub(super) fn word(sysctls: &Sysctls) -> u32 {
    let set = BITS.iter().filter(|(sysctl, _)| sysctls.is_set(*sysctl));
    let bits = set.fold(0, |bits, (_, bit)| bits | bit);
    let reuse = sysctls.get(Sysctl::ConnReuseMode).number() & REUSE;
    bits | reuse << settings::CONN_REUSE_MODE_SHIFT
}

/// The settings that the memory has; those that it has no place for have their defaults.
pub(super) fn adopt(word: u32) -> Sysctls {
    let mut sysctls = Sysctls::default();
    let reuse = word >> settings::CONN_REUSE_MODE_SHIFT & REUSE;
    let bits = BITS
        .iter()
        .map(|&(sysctl, bit)| (sysctl, u32::from(word & bit != 0)));
    for (sysctl, number) in bits.chain([(Sysctl::ConnReuseMode, reuse)]) {
        // Never out of range.
        let _ = sysctls.set(sysctl, SysctlValue::Number(number));
    }
    sysctls
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_those_of_the_memory() {
        assert_eq!(word(&Sysctls::default()), settings::DEFAULT);
        assert_eq!(adopt(settings::DEFAULT), Sysctls::default());
    }

    #[test]
    fn each_is_read_as_it_was_written() {
        for &(sysctl, _) in BITS {
            for number in 0..2 {
                let mut sysctls = Sysctls::default();
                sysctls.set(sysctl, SysctlValue::Number(number)).unwrap();
                assert_eq!(adopt(word(&sysctls)), sysctls, "{sysctl:?} {number}");
            }
        }
        for mode in 0..4 {
            let mut sysctls = Sysctls::default();
            let value = SysctlValue::Number(mode);
            sysctls.set(Sysctl::ConnReuseMode, value).unwrap();
            assert_eq!(adopt(word(&sysctls)), sysctls, "{mode}");
        }
    }
}
