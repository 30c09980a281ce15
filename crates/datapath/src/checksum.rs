//! Ones' complement arithmetic, RFC 1624. Byte order does not matter to it, so
//! everything here works on words as they stand in the packet.

/// What replacing `before` by `after` adds to a sum.
#[inline(always)]
#[must_use]
pub const fn difference32(before: u32, after: u32) -> u32 {
    both(!before, after)
}

/// What replacing `before` by `after` adds to a sum.
#[inline(always)]
#[must_use]
pub const fn difference16(before: u16, after: u16) -> u32 {
    !before as u32 + after as u32
}

/// As [`difference16`], but 0 where nothing changes.
#[inline(always)]
#[must_use]
pub const fn change16(before: u16, after: u16) -> u32 {
    if before == after {
        0
    } else {
        difference16(before, after)
    }
}

/// Two differences as one.
#[inline(always)]
#[must_use]
pub const fn both(one: u32, other: u32) -> u32 {
    let sum = one as u64 + other as u64;
    (sum as u32).wrapping_add((sum >> 32) as u32)
}

/// A sum as 16 bits, not complemented.
#[inline(always)]
#[must_use]
pub const fn fold(sum: u64) -> u16 {
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    sum as u16
}

/// The checksum after its sum has changed by `difference` (RFC 1624, equation 3).
#[inline(always)]
#[must_use]
pub const fn update(checksum: u16, difference: u64) -> u16 {
    !fold(!checksum as u64 + difference)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn full(words: &[u16]) -> u16 {
        !fold(words.iter().map(|&w| u64::from(w)).sum())
    }

    proptest! {
        #[test]
        fn incremental_equals_recomputed(mut words in proptest::collection::vec(any::<u16>(), 4..20), address: u32, port: u16) {
            words[3] |= 1; // a sum of nothing but zeroes has two forms
            let before = full(&words);
            let old = u32::from(words[0]) | u32::from(words[1]) << 16;
            let old_port = words[2];
            words[0] = address as u16;
            words[1] = (address >> 16) as u16;
            words[2] = port;
            let delta = u64::from(difference32(old, address)) + u64::from(difference16(old_port, port));
            prop_assert_eq!(update(before, delta), full(&words));
        }
    }
}
