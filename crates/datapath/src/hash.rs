//! The hashes by which the packet path finds things. They are keyed with a random seed,
//! so that nobody outside can choose addresses and ports that share a bucket.

use crate::layout::{ADDRESS_BITS, Address, WAYS};

const MULTIPLIER: u64 = 0x9E37_79B9_7F4A_7C15;

#[inline(always)]
const fn mix(key: u64, seed: u64) -> u64 {
    let h = (key ^ seed).wrapping_mul(MULTIPLIER);
    let h = (h ^ (h >> 32)).wrapping_mul(seed | 1);
    h ^ (h >> 29)
}

/// Hash of an endpoint's key ([`crate::layout::endpoint_key`]); its low bits name
/// the home bucket.
#[inline(always)]
#[must_use]
pub const fn endpoint(key: u64, seed: u64) -> u32 {
    (mix(key, seed) >> 16) as u32
}

/// The bit of an endpoint's address in [`crate::layout::Addresses`]. The address as it
/// stands in the packet.
#[inline(always)]
#[must_use]
pub const fn address(address: u32, seed: u64) -> u32 {
    ((address as u64 ^ seed).wrapping_mul(MULTIPLIER) >> (64 - ADDRESS_BITS.trailing_zeros()))
        as u32
}

/// As [`endpoint`], of an IPv6 endpoint: its address and its
/// [`crate::layout::wide_endpoint_key`].
#[inline(always)]
#[must_use]
pub const fn wide_endpoint(address: Address, key: u32, seed: u64) -> u32 {
    let (upper, lower) = halves(address);
    (mix(lower ^ mix(upper ^ key as u64, seed), seed) >> 16) as u32
}

/// As [`address`], of an IPv6 address.
#[inline(always)]
#[must_use]
pub const fn wide_address(address: Address, seed: u64) -> u32 {
    let (upper, lower) = halves(address);
    let h = (upper ^ seed).wrapping_mul(MULTIPLIER) ^ lower;
    ((h ^ (h >> 29)).wrapping_mul(MULTIPLIER) >> (64 - ADDRESS_BITS.trailing_zeros())) as u32
}

#[inline(always)]
const fn halves(address: Address) -> (u64, u64) {
    let [a, b, c, d] = address;
    ((a as u64) << 32 | b as u64, (c as u64) << 32 | d as u64)
}

/// Where a connection lives: its bucket (not yet masked) and its signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Low bits name the bucket.
    pub bucket: u32,
    /// 31 bits, never 0.
    pub signature: u32,
}

impl Place {
    /// The bucket that takes the connection when the first is full (not masked).
    #[inline(always)]
    #[must_use]
    pub const fn sibling(self) -> u32 {
        self.bucket ^ ((self.signature >> 7) | 1)
    }

    /// The way of a bucket that the connection takes if it is free.
    #[inline(always)]
    #[must_use]
    pub const fn way(self) -> usize {
        // The lowest bit is always set.
        (self.signature >> 1) as usize & (WAYS - 1)
    }
}

/// Place of the connection of a client. `port_and_protocol` is
/// [`crate::layout::Entry::client_port`].
#[inline(always)]
#[must_use]
pub const fn connection(address: u32, port_and_protocol: u32, seed: u64) -> Place {
    let h = mix(((address as u64) << 32) | port_and_protocol as u64, seed);
    Place {
        bucket: h as u32,
        signature: ((h >> 32) as u32 & 0x7fff_ffff) | 1,
    }
}

/// The words of an address, and of what it goes with, mixed.
#[inline(always)]
const fn mix_wide(address: Address, with: u64, seed: u64) -> u64 {
    let first = mix((address[0] as u64) << 32 | address[1] as u64, seed);
    let second = mix(
        ((address[2] as u64) << 32 | address[3] as u64) ^ first,
        seed,
    );
    mix(with ^ second, seed)
}

/// As [`connection`], for the table of wide entries.
#[inline(always)]
#[must_use]
pub const fn wide_connection(address: Address, port_and_protocol: u32, seed: u64) -> Place {
    let h = mix_wide(address, port_and_protocol as u64, seed);
    Place {
        bucket: h as u32,
        signature: ((h >> 32) as u32 & 0x7fff_ffff) | 1,
    }
}

/// 32 bits that stand for a real server's address and port in a connection's entry.
/// Two servers with the same tag are told apart by their records.
#[inline(always)]
#[must_use]
pub const fn server_tag(address: u32, port: u16, seed: u64) -> u32 {
    (mix(((address as u64) << 32) | port as u64, seed) >> 8) as u32
}

/// As [`server_tag`], in a wide entry.
#[inline(always)]
#[must_use]
pub const fn wide_server_tag(address: Address, port: u16, seed: u64) -> u32 {
    (mix_wide(address, port as u64, seed) >> 8) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_of_one_client_spread_over_the_buckets() {
        let mut counts = std::vec![0u32; 1024];
        for port in 0..16_384u32 {
            let place = connection(0x0100_000a, port | 6 << 16, 0x1234_5678_9abc_def1);
            counts[place.bucket as usize % 1024] += 1;
        }
        // 16 on average; a Poisson tail beyond 40 would be a defect of the hash.
        assert!(counts.iter().all(|&c| c < 40), "{:?}", counts.iter().max());
    }

    #[test]
    fn wide_endpoints_spread_over_buckets_and_bits() {
        let seed = 0x1234_5678_9abc_def1;
        let mut buckets = std::vec![0u32; 1024];
        let mut bits = std::collections::BTreeSet::new();
        for host in 0..16_384u32 {
            let address = [0x2001_0db8_u32.to_be(), 0, 0, host.to_be()];
            let port = (80 + (host & 1) as u16).to_be();
            let key = crate::layout::wide_endpoint_key(port, 6, 1);
            buckets[wide_endpoint(address, key, seed) as usize % 1024] += 1;
            assert!(wide_address(address, seed) < ADDRESS_BITS);
            bits.insert(wide_address(address, seed));
        }
        // 16 on average, and one bit in eight taken.
        assert!(
            buckets.iter().all(|&c| c < 40),
            "{:?}",
            buckets.iter().max()
        );
        assert!(bits.len() > 14_000, "{}", bits.len());
    }

    #[test]
    fn sibling_is_another_bucket() {
        for port in 0..1000 {
            let place = connection(7, port, 99);
            assert_ne!(place.bucket & 1, place.sibling() & 1);
        }
    }
}
