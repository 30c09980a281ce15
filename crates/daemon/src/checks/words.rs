//! What went wrong, as an operator calls it.

use std::io;
use std::time::Duration;

use nix::errno::Errno;

/// An error of a socket or file.
pub(super) fn error(error: &io::Error) -> String {
    let Some(number) = error.raw_os_error() else {
        return match error.kind() {
            io::ErrorKind::UnexpectedEof => "the connection ended too early".into(),
            _ => error.to_string(),
        };
    };
    let words = match Errno::from_raw(number) {
        Errno::ECONNREFUSED => "connection refused",
        Errno::ECONNRESET => "connection reset",
        Errno::EPIPE => "connection closed while sending",
        Errno::ECONNABORTED => "connection aborted",
        Errno::ETIMEDOUT => "no answer",
        Errno::EHOSTUNREACH => "no route to the host, or it does not answer at layer 2",
        Errno::ENETUNREACH => "network unreachable",
        Errno::EADDRNOTAVAIL => "address or port not available on this machine",
        Errno::EADDRINUSE => "address and port in use",
        Errno::EACCES | Errno::EPERM => "not permitted",
        Errno::ENODEV => "no such interface",
        Errno::ENOENT => "there is no such file",
        Errno::EMFILE | Errno::ENFILE => "too many open files",
        Errno::EPROTO | Errno::ENOPROTOOPT => "refused by the other side's ICMP message",
        other => other.desc(),
    };
    words.into()
}

/// Something did not come in time.
pub(super) fn missing(what: &str, time: Duration) -> String {
    format!("no {what} within {}", duration(time))
}

/// A time with as many digits as mean something: `0.31 ms`, `12 ms`, `2.5 s`, `15 s`.
pub(super) fn duration(time: Duration) -> String {
    let milliseconds = time.as_secs_f64() * 1000.0;
    let (value, unit) = if milliseconds < 999.5 {
        (milliseconds, "ms")
    } else {
        (milliseconds / 1000.0, "s")
    };
    let digits = match value {
        value if value < 1.0 => 2,
        value if value < 10.0 => 1,
        _ => 0,
    };
    let text = format!("{value:.digits$}");
    let text = if digits == 0 {
        &text
    } else {
        text.trim_end_matches('0').trim_end_matches('.')
    };
    format!("{text} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_short() {
        let of = |microseconds| duration(Duration::from_micros(microseconds));
        assert_eq!(of(0), "0 ms");
        assert_eq!(of(312), "0.31 ms");
        assert_eq!(of(4_000), "4 ms");
        assert_eq!(of(12_345), "12 ms");
        assert_eq!(of(999_900), "1 s");
        assert_eq!(of(2_500_000), "2.5 s");
        assert_eq!(of(15_000_000), "15 s");
    }

    #[test]
    fn errors_are_in_plain_words() {
        let of = |errno: Errno| error(&io::Error::from_raw_os_error(errno as i32));
        assert_eq!(of(Errno::ECONNREFUSED), "connection refused");
        assert_eq!(of(Errno::ENOTCONN), "Transport endpoint is not connected");
        let early = io::Error::from(io::ErrorKind::UnexpectedEof);
        assert_eq!(error(&early), "the connection ended too early");
    }
}
