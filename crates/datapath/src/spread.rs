//! The hashes by which the schedulers `sh`, `dh` and `mh` spread connections. They are
//! IPVS's own, bit for bit, so that a client finds the server that another director,
//! or an earlier one, would have given it. Not keyed: nothing is defended by them.

use crate::layout::{Address, MAPPED};

/// Slots of the table of `mh`: a prime, the kernel's default.
pub const MAGLEV_SLOTS: u32 = 4093;

/// Key of the hash that names a client's slot, and the first slot that a server asks
/// for, of the table of `mh`.
pub const MAGLEV_SLOT_KEY: [u64; 2] = [2_654_435_761, 2_654_435_761];

/// Key of the hash that says how far apart the slots are that a server asks for.
pub const MAGLEV_SKIP_KEY: [u64; 2] = [2_654_446_892, 2_654_446_892];

#[inline(always)]
const fn round(v: [u64; 4]) -> [u64; 4] {
    let [v0, v1, v2, v3] = v;
    let v0 = v0.wrapping_add(v1);
    let v1 = v1.rotate_left(13) ^ v0;
    let v0 = v0.rotate_left(32);
    let v2 = v2.wrapping_add(v3);
    let v3 = v3.rotate_left(16) ^ v2;
    let v0 = v0.wrapping_add(v3);
    let v3 = v3.rotate_left(21) ^ v0;
    let v2 = v2.wrapping_add(v1);
    let v1 = v1.rotate_left(17) ^ v2;
    let v2 = v2.rotate_left(32);
    [v0, v1, v2, v3]
}

/// SipHash-1-3 of the four bytes of `value`, lowest first, cut to 32 bits: what
/// `hsiphash` is on 64-bit kernels.
#[inline(always)]
#[must_use]
pub const fn siphash(value: u32, key: [u64; 2]) -> u32 {
    // The only block: the length in bytes, and they.
    let block = 4 << 56 | value as u64;
    let [v0, v1, v2, v3] = round([
        key[0] ^ 0x736f_6d65_7073_6575,
        key[1] ^ 0x646f_7261_6e64_6f6d,
        key[0] ^ 0x6c79_6765_6e65_7261,
        key[1] ^ 0x7465_6462_7974_6573 ^ block,
    ]);
    let [v0, v1, v2, v3] = round(round(round([v0 ^ block, v1, v2 ^ 0xff, v3])));
    (v0 ^ v1 ^ v2 ^ v3) as u32
}

/// Multiplicative hash of `bits` bits, 1 to 32 (`hash_32` of the kernel).
#[inline(always)]
#[must_use]
pub const fn hash_32(value: u32, bits: u32) -> u32 {
    value.wrapping_mul(0x61c8_8647) >> (32 - bits)
}

/// An address as these hashes take it, a number in host order: an IPv4 address as it
/// is, of an IPv6 one its four words by exclusive or.
#[inline(always)]
#[must_use]
pub const fn fold(address: Address) -> u32 {
    let [a, b, c, d] = address;
    let folded = if a == 0 && b == 0 && c == MAPPED {
        d
    } else {
        a ^ b ^ c ^ d
    };
    u32::from_be(folded)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::mapped;
    use std::vec;
    use std::vec::Vec;

    /// A line of a recording: the client's port and address, the server's port.
    fn recorded(name: &str) -> Vec<(u32, u32, u32)> {
        let folder = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../../shared/reference/golden/ipvsadm"
        );
        let text = std::fs::read_to_string(std::format!("{folder}/{name}")).unwrap();
        let lines: Vec<_> = text
            .lines()
            .filter_map(|line| {
                let (client, server) = line.split_once(" -> C0A80101:")?;
                let (port, address) = client.split_once(' ')?;
                Some((
                    port.parse().ok()?,
                    u32::from_str_radix(address, 16).ok()?,
                    server.split_whitespace().next()?.parse().ok()?,
                ))
            })
            .collect();
        assert!(lines.len() >= 20, "{name}");
        lines
    }

    /// Ports and weights of the recorded servers, in list order.
    const SERVERS: [(u32, u32); 3] = [(8083, 1), (8082, 2), (8081, 3)];

    #[test]
    fn source_hashing_is_the_kernels() {
        let round: Vec<u32> = SERVERS
            .iter()
            .flat_map(|&(port, weight)| vec![port; weight as usize])
            .collect();
        for (file, with_port) in [("s2-hash-sh.txt", false), ("s2-hash-sh-port.txt", true)] {
            for (port, client, server) in recorded(file) {
                let value = fold(mapped(client.to_be())) + if with_port { port } else { 0 };
                let slot = hash_32(value, 8) as usize;
                assert_eq!(round[slot % round.len()], server, "{file} {client:x}");
            }
        }
    }

    #[test]
    fn destination_hashing_is_the_kernels() {
        for (port, _, server) in recorded("s2-hash-dh.txt") {
            let service = 0x0a00_0000 + (port - 20_000);
            let slot = hash_32(service, 8) as usize;
            assert_eq!(SERVERS[slot % SERVERS.len()].0, server, "{service:x}");
        }
    }

    /// Filled as IPVS does, a slot for each unit of weight in turn.
    fn maglev() -> Vec<u32> {
        let mut table = vec![None; MAGLEV_SLOTS as usize];
        let mut places: Vec<(u32, u32)> = SERVERS
            .iter()
            .map(|(port, _)| {
                let value = 0xc0a8_0101 + port;
                (
                    siphash(value, MAGLEV_SLOT_KEY) % MAGLEV_SLOTS,
                    siphash(value, MAGLEV_SKIP_KEY) % (MAGLEV_SLOTS - 1) + 1,
                )
            })
            .collect();
        let turns = SERVERS
            .iter()
            .enumerate()
            .flat_map(|(at, &(_, weight))| vec![at; weight as usize]);
        for at in turns.cycle().take(MAGLEV_SLOTS as usize) {
            let (place, skip) = &mut places[at];
            while table[*place as usize].is_some() {
                *place = (*place + *skip) % MAGLEV_SLOTS;
            }
            table[*place as usize] = Some(SERVERS[at].0);
        }
        table.into_iter().flatten().collect()
    }

    #[test]
    fn maglev_hashing_is_the_kernels() {
        let table = maglev();
        for (_, client, server) in recorded("s2-hash-mh.txt") {
            let slot = siphash(client, MAGLEV_SLOT_KEY) % MAGLEV_SLOTS;
            assert_eq!(table[slot as usize], server, "{client:x}");
        }
        // A server of weight 0 keeps its slots, and others stand in for it.
        for (_, client, server) in recorded("s2-hash-mh-fallback.txt") {
            let slot = siphash(client, MAGLEV_SLOT_KEY) % MAGLEV_SLOTS;
            let first = table[slot as usize];
            let found = core::iter::once(first).chain((0..MAGLEV_SLOTS).map(|offset| {
                let value = client + (offset + slot) % MAGLEV_SLOTS;
                table[(siphash(value, MAGLEV_SLOT_KEY) % MAGLEV_SLOTS) as usize]
            }));
            let found = found.into_iter().find(|&port| port != 8082);
            assert_eq!(found, Some(server), "{client:x}");
        }
    }

    #[test]
    fn addresses_are_folded_in_host_order() {
        assert_eq!(fold(mapped(0x0a00_0001_u32.to_be())), 0x0a00_0001);
        let words = [0x2001_0db8_u32, 0x1000, 0x2, 0x1];
        assert_eq!(fold(words.map(u32::to_be)), 0x2001_1dbb);
    }
}
