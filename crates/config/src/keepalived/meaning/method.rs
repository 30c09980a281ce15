//! `lvs_method`.

use evenkeel_core::model::{ForwardMethod, Tunnel, TunnelChecksum};

use super::super::tree::Node;
use super::super::values::whole;
use super::Reader;

impl Reader<'_> {
    /// What a keyword says about how packets reach a server; none, with a warning, if that
    /// is not right.
    pub(super) fn method(&mut self, node: &Node) -> Option<ForwardMethod> {
        let result = method(node);
        result
            .map_err(|(number, fault)| {
                let name = node.name();
                let message = format!("{fault}; {name} is ignored");
                let shape = node.keyword.syntax();
                self.report.add(
                    node.warning_at(number, message)
                        .expecting(format!("expected {shape}")),
                );
            })
            .ok()
    }
}

/// The method, or which word is wrong and why.
fn method(node: &Node) -> Result<ForwardMethod, (usize, String)> {
    let word = |at: usize| node.word(at).map_or("", |word| word.text.as_str());
    let base = match word(1) {
        "NAT" => ForwardMethod::Masq,
        "DR" => ForwardMethod::Route,
        "TUN" => ForwardMethod::Tunnel(Tunnel::Ipip),
        other => return Err((1, format!("there is no method {other:?}"))),
    };
    let mut kind = "ipip";
    let mut port = None;
    let mut checksum = TunnelChecksum::None;
    let mut at = 2;
    while at < node.words.len() {
        match word(at) {
            "type" => {
                at += 1;
                kind = match word(at) {
                    known @ ("ipip" | "gue" | "gre") => known,
                    other => return Err((at, format!("there is no type of tunnel {other:?}"))),
                };
            }
            "port" => {
                at += 1;
                match whole(word(at), 1, 65_535) {
                    Some(number) => port = Some(number as u16),
                    None => return Err((at, format!("{:?} is no port", word(at)))),
                }
            }
            "nocsum" => checksum = TunnelChecksum::None,
            "csum" => checksum = TunnelChecksum::Full,
            "remcsum" => checksum = TunnelChecksum::Remote,
            other => return Err((at, format!("{other:?} is nothing that a method has"))),
        }
        at += 1;
    }
    if (kind == "gue") != port.is_some() {
        return Err((1, "gue needs a port, and nothing else has one".into()));
    }
    let tunnel = match (kind, port, checksum) {
        ("gue", Some(port), checksum) => Tunnel::Gue { port, checksum },
        ("gre", _, TunnelChecksum::Remote) => {
            return Err((1, "gre has no remcsum".into()));
        }
        ("gre", _, checksum) => Tunnel::Gre { checksum },
        (_, _, TunnelChecksum::None) => Tunnel::Ipip,
        _ => return Err((1, "ipip has no checksum".into())),
    };
    Ok(match base {
        ForwardMethod::Tunnel(_) => ForwardMethod::Tunnel(tunnel),
        base => base,
    })
}
