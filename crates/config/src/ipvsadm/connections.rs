//! What `-L -c` prints. A table has millions of lines, so these are made with care.

use core::fmt::Write;
use core::net::{IpAddr, Ipv4Addr, SocketAddr};

use evenkeel_core::model::{ConnectionView, Protocol};

use super::address::Names;
use super::command::{Columns, Layout};
use super::ends::Ends;

/// Bytes that a listing has for an end of a connection.
const END_WIDTH: usize = 18;

/// The two lines above the connections.
#[must_use]
pub fn connections_title(layout: Layout) -> &'static str {
    if layout.columns == Columns::Persistence {
        "IPVS connection entries\n\
         pro expire state       source             virtual            destination        pe name          pe_data\n"
    } else {
        "IPVS connection entries\n\
         pro expire state       source             virtual            destination\n"
    }
}

/// Adds a connection's line.
pub fn connection(
    text: &mut String,
    connection: &ConnectionView,
    layout: Layout,
    names: &dyn Names,
) {
    let ends = Ends::new(layout.numeric, names);
    let protocol = Protocol::from_number(connection.protocol);
    match connection.protocol {
        6 => text.push_str("TCP "),
        17 => text.push_str("UDP "),
        132 => text.push_str("SCTP "),
        0 => text.push_str("IP  "),
        // Writing into a string cannot fail, here and below.
        other => {
            let _ = write!(text, "IP_{other} ");
        }
    }
    let (minutes, seconds) = (connection.remaining_s / 60, connection.remaining_s % 60);
    padded(text, 6, |text| {
        two_digits(text, minutes);
        text.push(':');
        two_digits(text, seconds);
    });
    padded(text, 11, |text| text.push_str(connection.state));
    let put = |text: &mut String, end| put_end(text, end, protocol, ends, layout.numeric);
    padded(text, END_WIDTH, |text| put(text, connection.client));
    padded(text, END_WIDTH, |text| {
        put(text, connection.virtual_address);
    });
    let engine = connection.engine.as_ref();
    match engine.filter(|_| layout.columns == Columns::Persistence) {
        None => put(text, connection.server),
        Some(engine) => {
            padded(text, 16, |text| put(text, connection.server));
            let _ = write!(text, "{:<18} {}", engine.name, engine.data);
        }
    }
    text.push('\n');
}

/// Text in a column of at least this width, and a blank behind it.
fn padded(text: &mut String, width: usize, put: impl FnOnce(&mut String)) {
    const BLANKS: &str = "                   ";
    let start = text.len();
    put(text);
    let missing = width.saturating_sub(text.len() - start);
    text.push_str(&BLANKS[..=missing.min(BLANKS.len() - 1)]);
}

fn two_digits(text: &mut String, number: u32) {
    if number < 10 {
        text.push('0');
    }
    decimal(text, number);
}

fn put_end(
    text: &mut String,
    end: SocketAddr,
    protocol: Option<Protocol>,
    ends: Ends<'_>,
    numeric: bool,
) {
    match end.ip() {
        IpAddr::V4(address) if numeric => ipv4_end(text, address, end.port()),
        address => text.push_str(&ends.shown(address, end.port(), protocol)),
    }
}

/// Adds an address and a port, without the machinery of formatting: that is most of the time
/// that a listing of millions takes.
pub fn ipv4_end(text: &mut String, address: Ipv4Addr, port: u16) {
    let [a, b, c, d] = address.octets().map(u32::from);
    decimal(text, a);
    for part in [b, c, d] {
        text.push('.');
        decimal(text, part);
    }
    text.push(':');
    decimal(text, port.into());
}

/// Adds a number, without the machinery of formatting.
pub fn decimal(text: &mut String, number: u32) {
    let mut digits = [b'0'; 10];
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
    for &digit in &digits[first..] {
        text.push(digit.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ipvsadm::NoNames;
    use evenkeel_core::model::{EngineData, ServerTraits};

    fn end(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn shown(view: &ConnectionView, columns: Columns) -> String {
        let layout = Layout {
            columns,
            numeric: true,
            ..Layout::default()
        };
        let mut text = String::new();
        connection(&mut text, view, layout, &NoNames);
        text
    }

    #[test]
    fn lines() {
        let tcp = ConnectionView {
            protocol: 6,
            state: "ESTABLISHED",
            remaining_s: 899,
            client: end("10.0.0.2:43986"),
            virtual_address: end("10.0.0.10:80"),
            server: end("192.168.1.1:8080"),
            traits: ServerTraits::default(),
            mark: None,
            template: false,
            engine: None,
        };
        assert_eq!(
            shown(&tcp, Columns::Connections),
            "TCP 14:59  ESTABLISHED 10.0.0.2:43986     10.0.0.10:80       192.168.1.1:8080\n"
        );
        let sctp = ConnectionView {
            protocol: 132,
            state: "S-ACK-SENT",
            remaining_s: 2_678_400,
            client: end("[2001:db8::1]:65535"),
            virtual_address: end("[2001:db8::10]:0"),
            server: end("255.255.255.255:65535"),
            ..tcp.clone()
        };
        assert_eq!(
            shown(&sctp, Columns::Persistence),
            "SCTP 44640:00 S-ACK-SENT  [2001:db8::1]:65535 [2001:db8::10]:0   255.255.255.255:65535\n"
        );
        let sip = ConnectionView {
            protocol: 17,
            state: "NONE",
            remaining_s: 7,
            client: end("10.0.0.2:0"),
            template: true,
            engine: Some(EngineData {
                name: "sip".into(),
                data: "abc@10.0.0.2".into(),
            }),
            ..tcp.clone()
        };
        assert_eq!(
            shown(&sip, Columns::Persistence),
            "UDP 00:07  NONE        10.0.0.2:0         10.0.0.10:80       192.168.1.1:8080 sip                abc@10.0.0.2\n"
        );
        let any = ConnectionView {
            protocol: 0,
            virtual_address: end("[::1.2.3.4]:0"),
            ..sip
        };
        assert_eq!(
            shown(&any, Columns::Connections),
            "IP  00:07  NONE        10.0.0.2:0         [::1.2.3.4]:0      192.168.1.1:8080\n"
        );
    }
}
