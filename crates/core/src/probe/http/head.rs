//! What is read of an answer's header, and how: as keepalived does, which is neither as strict
//! nor as lenient as HTTP.

/// The header with the empty line after it has to fit in so many bytes.
pub const HEAD_LIMIT: usize = 4095;

/// Where the body begins.
#[must_use]
pub fn end(bytes: &[u8]) -> Option<usize> {
    let at = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
    Some(at + 4)
}

/// The status: three digits after the first space, with a space after them. Nothing is asked
/// of what stands before; none: there is no such thing before the first line's end.
#[must_use]
pub fn status(head: &[u8]) -> Option<u16> {
    let at = head.iter().position(|byte| matches!(byte, b' ' | b'\r'))?;
    match head[at..] {
        [
            b' ',
            a @ b'0'..=b'9',
            b @ b'0'..=b'9',
            c @ b'0'..=b'9',
            b' ',
            ..,
        ] => {
            let digit = |byte: u8| u16::from(byte - b'0');
            Some(100 * digit(a) + 10 * digit(b) + digit(c))
        }
        _ => None,
    }
}

/// How long the body says it is: the number after the first `Content-Length:`, written just so,
/// where nothing but the line's end follows it. Without a number there it is 0.
#[must_use]
pub fn content_length(head: &[u8]) -> Option<u64> {
    const NAME: &[u8] = b"Content-Length:";
    let text = head.split(|byte| *byte == 0).next()?;
    let at = text.windows(NAME.len()).position(|name| name == NAME)?;
    let line = &text[at + NAME.len()..];
    let space = |byte: &u8| matches!(byte, b'\t'..=b'\r' | b' ');
    let number = &line[line.iter().take_while(|byte| space(byte)).count()..];
    let number = number.strip_prefix(b"+").unwrap_or(number);
    let count = number
        .iter()
        .take_while(|byte| byte.is_ascii_digit())
        .count();
    let (digits, rest) = number.split_at(count);
    let rest = if digits.is_empty() { line } else { rest };
    if !matches!(rest.first(), None | Some(b'\r' | b'\n')) {
        return None;
    }
    digits.iter().try_fold(0_u64, |sum, digit| {
        sum.checked_mul(10)?.checked_add(u64::from(digit - b'0'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_has_spaces_on_both_sides() {
        let cases: [(&[u8], Option<u16>); 9] = [
            (b"HTTP/1.1 200 OK\r\n\r\n", Some(200)),
            (b"ICY 404 \r\n\r\n", Some(404)),
            (b" 999 \r\n\r\n", Some(999)),
            (b"HTTP/1.1 200\r\n\r\n", None),
            (b"HTTP/1.1\r\nX: 200 \r\n\r\n", None),
            (b"HTTP/1.1  200 OK\r\n\r\n", None),
            (b"HTTP/1.1 20 OK\r\n\r\n", None),
            (b"HTTP/1.1 +20 OK\r\n\r\n", None),
            (b"\r\n\r\n", None),
        ];
        for (head, expected) in cases {
            assert_eq!(status(head), expected, "{}", head.escape_ascii());
        }
    }

    #[test]
    fn lengths_are_read_as_c_reads_them() {
        let cases: [(&[u8], Option<u64>); 10] = [
            (b"Content-Length: 12\r\n\r\n", Some(12)),
            (
                b"X-Content-Length:+7\r\nContent-Length: 12\r\n\r\n",
                Some(7),
            ),
            (b"content-length: 12\r\n\r\n", None),
            (b"Content-Length: 12 \r\n\r\n", None),
            (b"Content-Length: x\r\n\r\n", None),
            (b"Content-Length:\r\nX: y\r\n\r\n", Some(0)),
            (b"Content-Length:\r\n 5\r\n\r\n", Some(5)),
            (b"Content-Length: 99999999999999999999999\r\n\r\n", None),
            (b"\0Content-Length: 1\r\n\r\n", None),
            (b"Content-Length: -1\r\n\r\n", None),
        ];
        for (head, expected) in cases {
            assert_eq!(content_length(head), expected, "{}", head.escape_ascii());
        }
    }
}
