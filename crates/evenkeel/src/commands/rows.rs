//! A connection as a line of text or of JSON. A listing has millions of them, so these are
//! made without the usual machinery, which would take most of its time.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::net::SocketAddr;

use evenkeel_api::connections::protocol_text;
use evenkeel_config::ipvsadm::{decimal, ipv4_end};
use evenkeel_core::model::ConnectionView;
use serde_json::json;

use super::services::method_name;

/// Above the connections.
pub(super) const TITLE: &str = "protocol  state        expires  client                 virtual                server                 method\n";

/// Widths of the columns.
const PROTOCOL: usize = 8;
const STATE: usize = 11;
const SECONDS: usize = 5;
const END: usize = 21;
const METHOD: usize = 6;

/// Adds a connection's line.
pub(super) fn line(text: &mut String, view: &ConnectionView) {
    column(text, PROTOCOL, |text| {
        text.push_str(&protocol(view.protocol));
    });
    column(text, STATE, |text| text.push_str(view.state));
    let digits = view.remaining_s.checked_ilog10().unwrap_or(0) as usize + 1;
    blanks(text, SECONDS.saturating_sub(digits));
    decimal(text, view.remaining_s);
    text.push_str(" s  ");
    for end in [view.client, view.virtual_address, view.server] {
        column(text, END, |text| put_end(text, end));
    }
    let method = method_name(view.traits.method);
    let start = text.len();
    notes(text, view);
    if text.len() == start {
        text.push_str(method);
    } else {
        let notes = text.split_off(start);
        column(text, METHOD, |text| text.push_str(method));
        text.push_str(&notes);
    }
    text.push('\n');
}

/// The protocol's name, without making one where it is known.
fn protocol(number: u8) -> Cow<'static, str> {
    match number {
        6 => "tcp".into(),
        17 => "udp".into(),
        other => protocol_text(other).into(),
    }
}

/// A text in a column of at least this width, and two blanks.
fn column(text: &mut String, width: usize, put: impl FnOnce(&mut String)) {
    let start = text.len();
    put(text);
    blanks(text, width.saturating_sub(text.len() - start) + 2);
}

fn blanks(text: &mut String, count: usize) {
    const BLANKS: &str = "                       ";
    text.push_str(&BLANKS[..count.min(BLANKS.len())]);
}

fn put_end(text: &mut String, end: SocketAddr) {
    match end {
        SocketAddr::V4(end) => ipv4_end(text, *end.ip(), end.port()),
        // Writing into a string cannot fail.
        SocketAddr::V6(end) => drop(write!(text, "{end}")),
    }
}

/// What else is to be known, with commas between.
fn notes(text: &mut String, view: &ConnectionView) {
    let start = text.len();
    let mut note = |note: &str| {
        if text.len() > start {
            text.push_str(", ");
        }
        text.push_str(note);
    };
    let traits = view.traits;
    for (is_true, name) in [
        (view.template, "template"),
        (traits.deleted, "server deleted"),
        (traits.quiesced && !traits.deleted, "server quiesced"),
        (traits.local, "local"),
    ] {
        if is_true {
            note(name);
        }
    }
    if let Some(mark) = view.mark {
        note(&format!("mark {mark}"));
    }
    if let Some(engine) = &view.engine {
        note(&format!("{} {}", engine.name, engine.data));
    }
}

/// Adds a connection as a line of JSON: what [`in_json`] gives.
pub(super) fn json_line(text: &mut String, view: &ConnectionView) {
    if view.engine.is_some() {
        // Seldom, and it may need escapes.
        let _ = writeln!(text, "{}", in_json(view));
        return;
    }
    let traits = view.traits;
    text.push_str("{\"client\":\"");
    put_end(text, view.client);
    text.push_str("\",\"engine\":null,\"engine_data\":null,\"expires_s\":");
    decimal(text, view.remaining_s);
    text.push_str(",\"local\":");
    truth(text, traits.local);
    text.push_str(",\"mark\":");
    match view.mark {
        Some(mark) => decimal(text, mark),
        None => text.push_str("null"),
    }
    for (name, value) in [
        (",\"method\":\"", method_name(traits.method)),
        ("\",\"protocol\":\"", &*protocol(view.protocol)),
    ] {
        text.push_str(name);
        text.push_str(value);
    }
    text.push_str("\",\"server\":\"");
    put_end(text, view.server);
    text.push_str("\",\"server_deleted\":");
    truth(text, traits.deleted);
    text.push_str(",\"server_quiesced\":");
    truth(text, traits.quiesced);
    text.push_str(",\"state\":\"");
    text.push_str(view.state);
    text.push_str("\",\"template\":");
    truth(text, view.template);
    text.push_str(",\"virtual\":\"");
    put_end(text, view.virtual_address);
    text.push_str("\"}\n");
}

fn truth(text: &mut String, is_true: bool) {
    text.push_str(if is_true { "true" } else { "false" });
}

/// A connection as a value.
pub(super) fn in_json(view: &ConnectionView) -> serde_json::Value {
    json!({
        "protocol": protocol_text(view.protocol),
        "state": view.state,
        "expires_s": view.remaining_s,
        "client": view.client.to_string(),
        "virtual": view.virtual_address.to_string(),
        "server": view.server.to_string(),
        "method": method_name(view.traits.method),
        "template": view.template,
        "server_deleted": view.traits.deleted,
        "server_quiesced": view.traits.quiesced,
        "local": view.traits.local,
        "mark": view.mark,
        "engine": view.engine.as_ref().map(|engine| &engine.name),
        "engine_data": view.engine.as_ref().map(|engine| &engine.data),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use evenkeel_core::model::{EngineData, MethodKind, ServerTraits};

    #[test]
    fn lines() {
        let plain = ConnectionView {
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
        };
        let template = ConnectionView {
            protocol: 0,
            state: "NONE",
            remaining_s: 300,
            client: "[2001:db8::]:0".parse().unwrap(),
            virtual_address: "[::7]:0".parse().unwrap(),
            traits: ServerTraits {
                method: MethodKind::FullNat,
                deleted: true,
                quiesced: true,
                local: true,
            },
            mark: Some(7),
            template: true,
            engine: Some(EngineData {
                name: "sip".into(),
                data: "abc@x".into(),
            }),
            ..plain.clone()
        };
        let mut text = String::from(TITLE);
        line(&mut text, &plain);
        line(&mut text, &template);
        let expected = "\
protocol  state        expires  client                 virtual                server                 method
tcp       ESTABLISHED    899 s  10.0.0.2:43986         10.0.0.10:80           192.168.1.1:8080       masq
any       NONE           300 s  [2001:db8::]:0         [::7]:0                192.168.1.1:8080       full-nat  template, server deleted, local, mark 7, sip abc@x
";
        assert_eq!(text, expected);
        for view in [
            plain.clone(),
            template.clone(),
            ConnectionView {
                engine: None,
                ..template.clone()
            },
        ] {
            let mut text = String::new();
            json_line(&mut text, &view);
            assert_eq!(text, format!("{}\n", in_json(&view)));
        }
        let json = in_json(&template);
        assert_eq!(json["engine_data"], "abc@x");
        assert_eq!(json["mark"], 7);
        assert!(in_json(&plain)["mark"].is_null());
    }
}
