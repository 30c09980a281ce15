//! What may come back for a datagram.

use alloc::format;

use super::Verdict;
use crate::model::UdpReply;

/// Whether a reply is as expected. Lengths count only where there are bytes to compare, and
/// a reply shorter than those is compared as far as it goes.
#[must_use]
pub fn verdict(expected: &UdpReply, reply: &[u8]) -> Verdict {
    let length = reply.len();
    if expected.start.is_empty() {
        return Verdict::Passed(format!("a reply of {length} bytes"));
    }
    let (least, most) = (expected.min_length, expected.max_length);
    if !(usize::from(least)..=usize::from(most)).contains(&length) {
        return Verdict::Failed(format!(
            "reply data mismatch: {length} bytes where {least} to {most} are expected"
        ));
    }
    let pairs = reply.iter().zip(&expected.start).enumerate();
    for (at, (byte, (value, mask))) in pairs {
        if (byte ^ value) & mask != 0 {
            return Verdict::Failed(format!(
                "reply data mismatch: byte {at} is {byte:02x} where {value:02x} is expected"
            ));
        }
    }
    Verdict::Passed(format!("a reply of {length} bytes, as expected"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use alloc::vec::Vec;

    fn expect(start: Vec<(u8, u8)>) -> UdpReply {
        UdpReply {
            start,
            min_length: 2,
            max_length: 4,
        }
    }

    #[test]
    fn masked_bits_do_not_count() {
        let reply = expect(vec![(0xab, 0xff), (0x10, 0xf0), (0, 0)]);
        assert!(verdict(&reply, &[0xab, 0x1f, 0x77]).is_good());
        assert!(verdict(&reply, &[0xab, 0x1f]).is_good());
        let bad = verdict(&reply, &[0xab, 0x2f, 0x77]);
        let why = "reply data mismatch: byte 1 is 2f where 10 is expected";
        assert_eq!(bad, Verdict::Failed(why.into()));
    }

    #[test]
    fn lengths_count_where_bytes_are_compared() {
        let reply = expect(vec![(1, 0xff)]);
        for (bytes, good) in [
            (&[1][..], false),
            (&[1, 2], true),
            (&[1, 2, 3, 4], true),
            (&[1, 2, 3, 4, 5], false),
        ] {
            assert_eq!(verdict(&reply, bytes).is_good(), good, "{bytes:?}");
        }
        assert!(verdict(&expect(vec![]), &[1]).is_good());
    }
}
