//! Search filters: from text (RFC 4515) to what is sent (RFC 4511).

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::{BOOLEAN, OCTETS, SEQUENCE, value};

/// How deep filters may stand in each other.
const DEPTH: usize = 32;

const AND: u8 = 0xa0;
const OR: u8 = 0xa1;
const NOT: u8 = 0xa2;
const EQUAL: u8 = 0xa3;
const SUBSTRINGS: u8 = 0xa4;
const GREATER: u8 = 0xa5;
const LESS: u8 = 0xa6;
const PRESENT: u8 = 0x87;
const APPROXIMATE: u8 = 0xa8;
const EXTENSIBLE: u8 = 0xa9;

/// A filter as it is sent. Brackets around the whole may be left out.
///
/// # Errors
/// What is wrong with it, in words.
pub(super) fn compiled(text: &str) -> Result<Vec<u8>, String> {
    let text = text.trim();
    if !text.starts_with('(') {
        return item(text);
    }
    let (filter, rest) = bracket(text, 0)?;
    if rest.is_empty() {
        Ok(filter)
    } else {
        Err(format!("the filter is over before {rest:?}"))
    }
}

/// A filter in brackets, and what follows it.
fn bracket(text: &str, depth: usize) -> Result<(Vec<u8>, &str), String> {
    let inner = text
        .strip_prefix('(')
        .ok_or_else(|| format!("the filter needs a '(' before {text:?}"))?;
    if depth == DEPTH {
        return Err(format!("the filter is more than {DEPTH} brackets deep"));
    }
    let (tag, list) = match inner.as_bytes().first() {
        Some(b'&') => (AND, &inner[1..]),
        Some(b'|') => (OR, &inner[1..]),
        Some(b'!') => (NOT, &inner[1..]),
        _ => {
            let end = inner
                .find(')')
                .ok_or_else(|| format!("the filter's {text:?} has no ')'"))?;
            return Ok((item(&inner[..end])?, &inner[end + 1..]));
        }
    };
    let mut content = Vec::new();
    let mut rest = list.trim_start();
    let mut count = 0;
    while rest.starts_with('(') {
        let (filter, after) = bracket(rest, depth + 1)?;
        content.extend(filter);
        rest = after.trim_start();
        count += 1;
    }
    let rest = rest
        .strip_prefix(')')
        .ok_or_else(|| format!("the filter's {text:?} has no ')'"))?;
    if tag == NOT && count != 1 {
        return Err("the filter's '!' is for one filter".into());
    }
    Ok((value(tag, &content), rest))
}

/// An attribute, how it is compared, and with what.
fn item(text: &str) -> Result<Vec<u8>, String> {
    let (left, right) = text
        .split_once('=')
        .ok_or_else(|| format!("the filter's {text:?} has no '='"))?;
    let (tag, name) = match left.as_bytes().last() {
        Some(b'>') => (GREATER, &left[..left.len() - 1]),
        Some(b'<') => (LESS, &left[..left.len() - 1]),
        Some(b'~') => (APPROXIMATE, &left[..left.len() - 1]),
        Some(b':') => return extensible(&left[..left.len() - 1], right),
        _ => (EQUAL, left),
    };
    if !is_name(name) {
        return Err(format!("the filter's {name:?} is no attribute"));
    }
    if tag == EQUAL && right == "*" {
        return Ok(value(PRESENT, name.as_bytes()));
    }
    let attribute = value(OCTETS, name.as_bytes());
    let compared = if tag == EQUAL && right.contains('*') {
        return Ok(value(
            SUBSTRINGS,
            &[attribute, value(SEQUENCE, &substrings(right)?)].concat(),
        ));
    } else {
        value(OCTETS, &unescaped(right)?)
    };
    Ok(value(tag, &[attribute, compared].concat()))
}

fn is_name(name: &str) -> bool {
    let letters = |byte: u8| byte.is_ascii_alphanumeric() || b"-.;_".contains(&byte);
    !name.is_empty() && name.bytes().all(letters)
}

/// What stands between the stars.
fn substrings(text: &str) -> Result<Vec<u8>, String> {
    let parts: Vec<&str> = text.split('*').collect();
    let mut content = Vec::new();
    for (index, part) in parts.iter().enumerate() {
        let tag = match index {
            0 => 0x80,
            _ if index + 1 == parts.len() => 0x82,
            _ => 0x81,
        };
        if !part.is_empty() {
            content.extend(value(tag, &unescaped(part)?));
        }
    }
    if content.is_empty() {
        return Err("the filter has stars with nothing between".into());
    }
    Ok(content)
}

/// `attribute:dn:rule:=text`, where any but one of attribute and rule may be missing.
fn extensible(left: &str, text: &str) -> Result<Vec<u8>, String> {
    let mut parts = left.split(':');
    let attribute = parts.next().unwrap_or_default();
    let mut next = parts.next();
    let is_dn = next.is_some_and(|word| word.eq_ignore_ascii_case("dn"));
    if is_dn {
        next = parts.next();
    }
    let names = [attribute, next.unwrap_or_default()];
    let is_right = names.iter().all(|name| name.is_empty() || is_name(name))
        && names.iter().any(|name| !name.is_empty());
    if !is_right || parts.next().is_some() {
        return Err(format!("the filter's {left:?} is no rule"));
    }
    let mut content = Vec::new();
    if !names[1].is_empty() {
        content.extend(value(0x81, names[1].as_bytes()));
    }
    if !names[0].is_empty() {
        content.extend(value(0x82, names[0].as_bytes()));
    }
    content.extend(value(0x83, &unescaped(text)?));
    if is_dn {
        content.extend(value(0x80 | (BOOLEAN + 3), &[0xff]));
    }
    Ok(value(EXTENSIBLE, &content))
}

/// A text's bytes, with `\` and two digits for those that can't stand there.
fn unescaped(text: &str) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        match byte {
            b'\\' => {
                let digits = after.get(..2).and_then(|pair| str::from_utf8(pair).ok());
                let number = digits
                    .filter(|pair| pair.bytes().all(|digit| digit.is_ascii_hexdigit()))
                    .and_then(|pair| u8::from_str_radix(pair, 16).ok());
                bytes.push(number.ok_or_else(|| {
                    format!("the filter's {text:?} has a '\\' without two digits")
                })?);
                rest = &after[2..];
            }
            b'(' | b'*' => {
                return Err(format!(
                    "the filter's {text:?} has {:?}: write it \\{byte:02x}",
                    char::from(byte)
                ));
            }
            _ => {
                bytes.push(byte);
                rest = after;
            }
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_written_as_the_standard_says() {
        for (text, bytes) in [
            ("(a=*)", b"\x87\x01a".as_slice()),
            ("a=b", b"\xa3\x06\x04\x01a\x04\x01b"),
            ("(a>=1)", b"\xa5\x06\x04\x01a\x04\x011"),
            ("(a<=1)", b"\xa6\x06\x04\x01a\x04\x011"),
            ("(a~=1)", b"\xa8\x06\x04\x01a\x04\x011"),
            ("(a=\\2a\\28)", b"\xa3\x07\x04\x01a\x04\x02*("),
            (
                "(a=b*c*d)",
                b"\xa4\x0e\x04\x01a\x30\x09\x80\x01b\x81\x01c\x82\x01d",
            ),
            ("(a=*b)", b"\xa4\x08\x04\x01a\x30\x03\x82\x01b"),
            ("(!(a=*))", b"\xa2\x03\x87\x01a"),
            ("(&(a=*) (|(b=*)))", b"\xa0\x08\x87\x01a\xa1\x03\x87\x01b"),
            ("(&)", b"\xa0\x00"),
            (
                "(a:dn:1.2:=b)",
                b"\xa9\x0e\x81\x031.2\x82\x01a\x83\x01b\x84\x01\xff",
            ),
        ] {
            assert_eq!(compiled(text).as_deref(), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn mistakes_are_told() {
        let deep = "(!".repeat(40) + "(a=*)" + &")".repeat(40);
        for text in [
            "",
            "a",
            "(a=b",
            "(a=b))",
            "(=b)",
            "(a b=c)",
            "(!)",
            "(!(a=*)(b=*))",
            "(a=\\2)",
            "(a=\\zz)",
            "(a=\\+f)",
            "(a=(b)",
            "(a=**)",
            "(a>=b*c)",
            "(:=x)",
            "(a:b:c:d:=x)",
            "(a=\\é)",
            &deep,
        ] {
            assert!(compiled(text).is_err(), "{text}");
        }
    }
}
