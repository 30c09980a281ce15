//! Percent encoding, as the queries of URLs have it.

/// Adds the text, escaped where it must be.
pub fn escape(out: &mut String, text: &str) {
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z'
            | b'A'..=b'Z'
            | b'0'..=b'9'
            | b'-'
            | b'_'
            | b'.'
            | b':'
            | b'/'
            | b'['
            | b']' => {
                out.push(byte.into());
            }
            _ => {
                const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
                out.push('%');
                out.push(DIGITS[usize::from(byte >> 4)].into());
                out.push(DIGITS[usize::from(byte & 15)].into());
            }
        }
    }
}

/// Undoes percent encoding; none if that leads to no text.
#[must_use]
pub fn unescape(text: &str) -> Option<String> {
    let mut parts = text.split('%');
    let mut bytes = parts.next()?.as_bytes().to_vec();
    for part in parts {
        bytes.push(u8::from_str_radix(part.get(..2)?, 16).ok()?);
        bytes.extend_from_slice(part.get(2..)?.as_bytes());
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        let mut out = String::new();
        escape(&mut out, "10.0.0.0/8 &=%ä");
        assert_eq!(out, "10.0.0.0/8%20%26%3D%25%C3%A4");
        assert_eq!(unescape(&out).as_deref(), Some("10.0.0.0/8 &=%ä"));
        for wrong in ["%", "%4", "%zz", "%c3"] {
            assert_eq!(unescape(wrong), None, "{wrong}");
        }
    }
}
