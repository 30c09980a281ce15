//! ICMP echo.

use std::io;
use std::net::IpAddr;
use std::time::Instant;

use evenkeel_core::model::Connect;
use evenkeel_core::probe::Verdict;

use super::connect::{self, Icmp, within};
use super::{filling, random, words};

/// Bytes of an ICMP message before its data.
const HEADER: usize = 8;
/// Bytes of data that are sent.
const DATA: usize = 128;

/// Types of the messages.
struct Types {
    request: u8,
    reply: u8,
}

const V4: Types = Types {
    request: 8,
    reply: 0,
};
const V6: Types = Types {
    request: 128,
    reply: 129,
};

/// Sends one request and waits for its answer.
pub(super) async fn run(to: &Connect) -> Verdict {
    match answered(to).await {
        Ok(words) => Verdict::Passed(words),
        Err(reason) => Verdict::Failed(reason),
    }
}

async fn answered(to: &Connect) -> Result<String, String> {
    let (socket, kind) = connect::icmp(to)?;
    let (types, is_v4) = match to.to.ip() {
        IpAddr::V4(_) => (V4, true),
        IpAddr::V6(_) => (V6, false),
    };
    let request = request(types.request, is_v4, random());
    let began = Instant::now();
    let work = async {
        socket.send(&request).await?;
        let mut answer = [0; HEADER + DATA + 60];
        loop {
            connect::readable(&socket).await?;
            let length = match socket.try_recv(&mut answer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                result => result?,
            };
            let answer = &answer[..length];
            let message = match kind {
                Icmp::Raw if is_v4 => behind_ipv4(answer),
                _ => Some(answer),
            };
            if message.is_some_and(|message| answers(message, &request, types.reply, kind)) {
                return Ok(());
            }
        }
    };
    within(to.timeout, "answer", work).await?;
    Ok(format!("answered in {}", words::duration(began.elapsed())))
}

/// An echo request. Its identifier and sequence are random, so that no other's answer is
/// taken for its own.
fn request(kind: u8, is_v4: bool, random: [u8; 4]) -> [u8; HEADER + DATA] {
    let mut message = [0; HEADER + DATA];
    message[0] = kind;
    message[4..8].copy_from_slice(&random);
    message[HEADER..].copy_from_slice(&filling::<DATA>());
    // ICMPv6's covers addresses that the kernel chooses, and is always its work.
    if is_v4 {
        let sum = checksum(&message);
        message[2..4].copy_from_slice(&sum.to_be_bytes());
    }
    message
}

/// The internet checksum (RFC 1071) of an even number of bytes.
fn checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = bytes
        .chunks_exact(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// What stands behind an IPv4 header.
fn behind_ipv4(packet: &[u8]) -> Option<&[u8]> {
    let words = packet.first()? & 0xf;
    packet.get(usize::from(words) * 4..)
}

fn answers(message: &[u8], request: &[u8], reply: u8, kind: Icmp) -> bool {
    // The identifier is the kernel's where it sorts by it.
    let from = match kind {
        Icmp::Datagrams => 6,
        Icmp::Raw => 4,
    };
    message.len() == request.len() && message[0] == reply && message[from..] == request[from..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_whole_and_told_apart() {
        let one = request(V4.request, true, [1, 2, 3, 4]);
        assert_eq!(checksum(&one), 0, "a right checksum makes the sum zero");
        assert_eq!(&one[..2], [8, 0]);
        let mut answer = one;
        answer[0] = V4.reply;
        assert!(answers(&answer, &one, V4.reply, Icmp::Raw));
        assert!(!answers(&one, &one, V4.reply, Icmp::Raw), "a request");
        assert!(
            !answers(&answer[..20], &one, V4.reply, Icmp::Raw),
            "cut off"
        );
        let other = request(V4.request, true, [1, 2, 3, 5]);
        assert!(!answers(&answer, &other, V4.reply, Icmp::Raw));
        // The kernel has put its own identifier there.
        answer[4] ^= 1;
        assert!(answers(&answer, &one, V4.reply, Icmp::Datagrams));
        assert!(!answers(&answer, &one, V4.reply, Icmp::Raw));
    }

    #[test]
    fn headers_of_any_length_are_left_out() {
        assert_eq!(behind_ipv4(&[0x45; 21]), Some(&[0x45][..]));
        assert_eq!(behind_ipv4(&[0x4f; 20]), None);
        assert_eq!(behind_ipv4(&[]), None);
    }
}
