//! A connection as a line. Lines are made and read without the usual machinery, since
//! that is most of the time that a listing of millions takes.

use core::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::io::Write;

use evenkeel_core::model::{ConnectionView, EngineData, MethodKind, ServerTraits};
use evenkeel_core::sweep::STATE_NAMES;

const METHODS: &[(MethodKind, &str)] = &[
    (MethodKind::Masq, "masq"),
    (MethodKind::Route, "route"),
    (MethodKind::Tunnel, "tunnel"),
    (MethodKind::FullNat, "full-nat"),
];

/// State of a template whose server has answered, beside those of connections.
const ASSURED: &str = "ASSURED";

/// Adds a connection's line.
pub fn encode(line: &mut Vec<u8>, view: &ConnectionView) {
    line.push(b'[');
    decimal(line, view.protocol.into());
    line.push(b',');
    plain(line, view.state);
    line.push(b',');
    decimal(line, view.remaining_s);
    for end in [view.client, view.virtual_address, view.server] {
        line.push(b',');
        line.push(b'"');
        put_end(line, end);
        line.push(b'"');
    }
    line.push(b',');
    let method = METHODS.iter().find(|(kind, _)| *kind == view.traits.method);
    plain(line, method.map_or("masq", |(_, name)| name));
    line.extend_from_slice(b",\"");
    for (is_true, letter) in [
        (view.template, b't'),
        (view.traits.deleted, b'd'),
        (view.traits.quiesced, b'q'),
        (view.traits.local, b'l'),
    ] {
        if is_true {
            line.push(letter);
        }
    }
    line.push(b'"');
    if view.mark.is_some() || view.engine.is_some() {
        line.push(b',');
        decimal(line, view.mark.unwrap_or(0));
    }
    if let Some(engine) = &view.engine {
        for text in [&engine.name, &engine.data] {
            line.push(b',');
            // Writing into memory cannot fail.
            let _ = serde_json::to_writer(&mut *line, text);
        }
    }
    line.extend_from_slice(b"]\n");
}

/// A text that needs no escape.
fn plain(line: &mut Vec<u8>, text: &str) {
    line.push(b'"');
    line.extend_from_slice(text.as_bytes());
    line.push(b'"');
}

fn put_end(line: &mut Vec<u8>, end: SocketAddr) {
    match end {
        SocketAddr::V4(end) => {
            let [a, b, c, d] = end.ip().octets().map(u32::from);
            decimal(line, a);
            for part in [b, c, d] {
                line.push(b'.');
                decimal(line, part);
            }
            line.push(b':');
            decimal(line, end.port().into());
        }
        SocketAddr::V6(end) => {
            let _ = write!(line, "{end}");
        }
    }
}

fn decimal(line: &mut Vec<u8>, number: u32) {
    let mut digits = [0; 10];
    let mut first = digits.len();
    let mut rest = number;
    loop {
        first -= 1;
        digits[first] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    line.extend_from_slice(&digits[first..]);
}

/// Reads a line.
///
/// # Errors
/// What is wrong with it.
pub fn decode(line: &str) -> Result<ConnectionView, String> {
    Parser { rest: line }
        .row()
        .ok_or_else(|| format!("{line:?} is no connection"))
}

struct Parser<'a> {
    rest: &'a str,
}

impl<'a> Parser<'a> {
    fn row(&mut self) -> Option<ConnectionView> {
        self.take(b'[')?;
        let protocol = self.number()?;
        let state = self.next_plain()?;
        self.take(b',')?;
        let remaining_s = self.number()?;
        let client = end(self.next_plain()?)?;
        let virtual_address = end(self.next_plain()?)?;
        let server = end(self.next_plain()?)?;
        let method = self.next_plain()?;
        let letters = self.next_plain()?;
        let (mark, engine) = self.rest_of_row()?;
        Some(ConnectionView {
            protocol: protocol.try_into().ok()?,
            state: known_state(state)?,
            remaining_s,
            client,
            virtual_address,
            server,
            traits: ServerTraits {
                method: METHODS.iter().find(|(_, name)| *name == method)?.0,
                deleted: letters.contains('d'),
                quiesced: letters.contains('q'),
                local: letters.contains('l'),
            },
            mark,
            template: letters.contains('t'),
            engine,
        })
    }

    /// Mark and engine, which are seldom there.
    fn rest_of_row(&mut self) -> Option<(Option<u32>, Option<EngineData>)> {
        if self.rest.trim_end() == "]" {
            return Some((None, None));
        }
        self.take(b',')?;
        let mark = Some(self.number()?).filter(|&mark| mark != 0);
        if self.rest.trim_end() == "]" {
            return Some((mark, None));
        }
        let texts = self.rest.trim_end().strip_prefix(',')?;
        let (name, data) = serde_json::from_str(&format!("[{texts}")).ok()?;
        Some((mark, Some(EngineData { name, data })))
    }

    fn take(&mut self, byte: u8) -> Option<()> {
        (self.rest.as_bytes().first() == Some(&byte)).then(|| self.rest = &self.rest[1..])
    }

    fn number(&mut self) -> Option<u32> {
        let mut number: u32 = 0;
        let mut count = 0;
        for byte in self.rest.bytes().take_while(u8::is_ascii_digit) {
            number = number
                .checked_mul(10)?
                .checked_add(u32::from(byte - b'0'))?;
            count += 1;
        }
        self.rest = &self.rest[count..];
        (count > 0).then_some(number)
    }

    /// A comma and a text without escapes.
    fn next_plain(&mut self) -> Option<&'a str> {
        let rest = self.rest.strip_prefix(",\"")?;
        let length = rest.bytes().position(|byte| byte == b'"')?;
        self.rest = &rest[length + 1..];
        Some(&rest[..length])
    }
}

/// The state of this name.
fn known_state(name: &str) -> Option<&'static str> {
    let all = STATE_NAMES.iter().copied().chain([ASSURED]);
    all.into_iter()
        .find(|known| *known == name && !known.is_empty())
}

fn end(text: &str) -> Option<SocketAddr> {
    ipv4_end(text).or_else(|| text.parse().ok())
}

/// An IPv4 address and a port, as they are written here.
fn ipv4_end(text: &str) -> Option<SocketAddr> {
    let mut bits = 0;
    let mut part: u32 = 0;
    let mut dots = 0;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'0'..=b'9' => part = part * 10 + u32::from(byte - b'0'),
            b'.' if dots < 3 => {
                bits = bits << 8 | part;
                (part, dots) = (0, dots + 1);
            }
            b':' if dots == 3 => {
                bits = bits << 8 | u32::from(u8::try_from(part).ok()?);
                let address = Ipv4Addr::from_bits(bits);
                let behind = text[at + 1..].parse().ok()?;
                return Some(SocketAddrV4::new(address, behind).into());
            }
            _ => return None,
        }
        if part > 255 {
            return None;
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view() -> ConnectionView {
        ConnectionView {
            protocol: 6,
            state: "ESTABLISHED",
            remaining_s: 899,
            client: ([10, 0, 0, 2], 43986).into(),
            virtual_address: ([10, 0, 0, 10], 80).into(),
            server: ([192, 168, 1, 1], 8080).into(),
            traits: ServerTraits::default(),
            mark: None,
            template: false,
            engine: None,
        }
    }

    fn line(view: &ConnectionView) -> String {
        let mut line = Vec::new();
        encode(&mut line, view);
        String::from_utf8(line).unwrap()
    }

    #[test]
    fn the_line_is_the_documented_one() {
        let text = line(&view());
        assert_eq!(
            text,
            "[6,\"ESTABLISHED\",899,\"10.0.0.2:43986\",\"10.0.0.10:80\",\
             \"192.168.1.1:8080\",\"masq\",\"\"]\n"
        );
        let documented = include_str!("../connections.rs");
        assert!(documented.contains(&format!("`{}`", text.trim_end())));
    }

    #[test]
    fn what_is_written_is_read() {
        let all = [
            view(),
            ConnectionView {
                protocol: 0,
                state: ASSURED,
                remaining_s: u32::MAX,
                client: "[2001:db8::]:0".parse().unwrap(),
                virtual_address: "[::7]:0".parse().unwrap(),
                server: "255.255.255.255:65535".parse().unwrap(),
                traits: ServerTraits {
                    method: MethodKind::FullNat,
                    deleted: true,
                    quiesced: true,
                    local: true,
                },
                mark: Some(7),
                template: true,
                engine: None,
            },
            ConnectionView {
                state: "C-REPLIED",
                engine: Some(EngineData {
                    name: "sip".into(),
                    data: "a\"b\\c,\u{1}ä".into(),
                }),
                ..view()
            },
            ConnectionView {
                mark: Some(u32::MAX),
                engine: Some(EngineData {
                    name: "sip".into(),
                    data: String::new(),
                }),
                ..view()
            },
        ];
        for view in all {
            let text = line(&view);
            assert_eq!(decode(&text), Ok(view.clone()), "{text}");
            assert_eq!(decode(text.trim_end()), Ok(view), "{text}");
            let json: Vec<serde_json::Value> = serde_json::from_str(&text).unwrap();
            assert!((8..=11).contains(&json.len()), "{text}");
        }
    }

    #[test]
    fn nonsense_is_refused() {
        let whole = line(&view());
        for end in 0..whole.len() - 2 {
            assert!(decode(&whole[..end]).is_err(), "{}", &whole[..end]);
        }
        for (part, other) in [
            ("[6,", "[256,"),
            ("899", "4294967296"),
            ("899", "x"),
            ("ESTABLISHED", "LISTENING"),
            ("10.0.0.2:", "10.0.0.256:"),
            ("10.0.0.2:", "10.0.2:"),
            (":8080", ":65536"),
            ("masq", "none"),
            ("\"]", "\",1,2]"),
        ] {
            let text = whole.replacen(part, other, 1);
            assert_ne!(text, whole);
            assert!(decode(&text).is_err(), "{text}");
        }
    }
}
