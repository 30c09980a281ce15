//! `CRC32c`, the checksum of SCTP (RFC 9260, appendix A): how it changes when a few bytes
//! at the beginning of a packet do, without reading the packet.

/// The polynomial, lowest power in the highest bit.
const POLYNOMIAL: u32 = 0x82F6_3B78;

/// The product of two polynomials modulo [`POLYNOMIAL`].
#[inline(always)]
const fn multiply(a: u32, mut b: u32) -> u32 {
    let mut product = 0;
    let mut bit = 0;
    while bit < 32 {
        // All ones for a set bit: without branches, of which there would be many.
        product ^= b & ((a << bit) >> 31).wrapping_neg();
        b = b >> 1 ^ (POLYNOMIAL & (b & 1).wrapping_neg());
        bit += 1;
    }
    product
}

/// By k: the polynomial that appending 2^k bytes multiplies with.
const SHIFTS: [u32; 16] = {
    let mut shifts = [0; 16];
    // x to the power of 8.
    let mut power = 1 << (31 - 8);
    let mut k = 0;
    while k < 16 {
        shifts[k] = power;
        power = multiply(power, power);
        k += 1;
    }
    shifts
};

/// What the checksum changes by (exclusive or) when the first four of `length` bytes
/// do by `difference`, which is their exclusive or as they stand, read as a
/// little-endian number.
#[inline(never)]
#[must_use]
pub fn change(difference: u32, length: u32) -> u32 {
    // The register after the four bytes: they, multiplied with x to the power of 32.
    let mut crc = multiply(difference, SHIFTS[2]);
    let behind = length.wrapping_sub(4);
    let mut k = 0;
    while k < 16 {
        let shifted = multiply(SHIFTS[k], crc);
        let wanted = ((behind >> k) & 1).wrapping_neg();
        crc = (shifted & wanted) | (crc & !wanted);
        k += 1;
    }
    crc
}

/// The checksum of a packet in which it stands as 0. Byte by byte: the packet path needs no
/// more than [`change`].
#[cfg(not(target_arch = "bpf"))]
#[must_use]
pub fn whole(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for &byte in bytes {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            crc = crc >> 1 ^ (POLYNOMIAL & (crc & 1).wrapping_neg());
        }
    }
    !crc
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_reference_is_right() {
        assert_eq!(whole(b"123456789"), 0xE306_9283);
    }

    proptest! {
        #[test]
        fn changed_equals_recomputed(mut bytes in proptest::collection::vec(any::<u8>(), 12..1500), ports: u32) {
            let before = whole(&bytes);
            let old = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
            bytes[..4].copy_from_slice(&ports.to_le_bytes());
            let length = bytes.len() as u32;
            prop_assert_eq!(before ^ change(old ^ ports, length), whole(&bytes));
        }
    }
}
