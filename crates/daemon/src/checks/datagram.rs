//! Checks by UDP: a datagram, and what comes back.

use std::time::Duration;

use evenkeel_core::model::{Connect, DnsRecord, UdpProbe};
use evenkeel_core::probe::{Verdict, dns, udp};
use tokio::time::{Instant, timeout_at};

use super::{connect, filling, random, words};

/// The longest datagram that is read as a whole.
const LONGEST: usize = 64 << 10;
/// Bytes of a DNS message that are looked at.
const DNS_LENGTH: usize = 1 << 10;
/// Bytes that are sent where nothing is configured.
const USUAL_LENGTH: usize = 32;

/// A DNS query.
pub(super) async fn dns(connect: &Connect, record: DnsRecord, name: &str) -> Verdict {
    let query = dns::query(u16::from_be_bytes(random()), record, name);
    let judge = |reply: &[u8]| dns::verdict(&query, reply);
    let verdict = ask(connect, &query, DNS_LENGTH, judge).await;
    verdict.unwrap_or_else(|silence| Verdict::Failed(silence.words()))
}

/// A datagram.
pub(super) async fn udp(probe: &UdpProbe) -> Verdict {
    let usual = filling::<USUAL_LENGTH>();
    let payload = probe.payload.as_deref().unwrap_or(&usual);
    let Some(expected) = &probe.reply else {
        // Whatever comes shows that somebody is there.
        let any = |reply: &[u8]| {
            let length = reply.len();
            Some(Verdict::Passed(format!("a reply of {length} bytes")))
        };
        return match ask(&probe.connect, payload, 0, any).await {
            Ok(verdict) => verdict,
            Err(Silence::Late(time)) => {
                Verdict::Passed(format!("no ICMP error within {}", words::duration(time)))
            }
            Err(failed) => Verdict::Failed(failed.words()),
        };
    };
    // One byte more, so that a longer reply is seen to be longer.
    let length = usize::from(expected.max_length) + 1;
    let length = length.max(expected.start.len()).min(LONGEST);
    let judge = |reply: &[u8]| Some(udp::verdict(expected, reply));
    let verdict = ask(&probe.connect, payload, length, judge).await;
    verdict.unwrap_or_else(|silence| Verdict::Failed(silence.words()))
}

/// Why there is no reply.
enum Silence {
    /// None came within this time.
    Late(Duration),
    /// An error, in words.
    Failed(String),
}

impl Silence {
    fn words(self) -> String {
        match self {
            Self::Late(time) => words::missing("answer", time),
            Self::Failed(reason) => reason,
        }
    }
}

/// Sends a datagram, and gives what `judge` says of the first reply that it takes for one.
/// `length` bytes of each are looked at.
async fn ask(
    connect: &Connect,
    payload: &[u8],
    length: usize,
    judge: impl Fn(&[u8]) -> Option<Verdict>,
) -> Result<Verdict, Silence> {
    let deadline = Instant::now() + connect.timeout;
    let failed = |error| Silence::Failed(words::error(&error));
    let socket = connect::udp(connect).map_err(Silence::Failed)?;
    socket.send(payload).await.map_err(failed)?;
    let reading = async {
        loop {
            // Memory for a reply is taken when there is one.
            connect::readable(&socket).await.map_err(failed)?;
            let mut reply = vec![0; length.max(1)];
            match socket.try_recv(&mut reply) {
                Ok(count) => {
                    if let Some(verdict) = judge(&reply[..count]) {
                        return Ok(verdict);
                    }
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(failed(error)),
            }
        }
    };
    match timeout_at(deadline, reading).await {
        Ok(result) => result,
        Err(_) => Err(Silence::Late(connect.timeout)),
    }
}
