//! `evenkeel trace`

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Args;
use evenkeel_api::client::Client;
use evenkeel_api::keys;
use evenkeel_api::trace::{
    Candidate, FoundBy, Outcome, Packet, Query, Schedule, Server, Stage, Trace, destination, flags,
    source,
};
use evenkeel_core::model::Protocol;

use super::text::{counted, print, print_json};

/// What stands behind the options in the help.
const HELP: &str = "The packet is not sent: the packet path is run on a copy of its memory.";

/// Arguments of `evenkeel trace`.
#[derive(Args, Debug)]
#[command(after_help = HELP)]
pub(crate) struct Arguments {
    /// Who sends the packet, such as 10.0.0.2 or 10.0.0.2:40000.
    #[arg(value_name = "SRC[:PORT]", value_parser = source)]
    source: SocketAddr,
    /// To whom, such as 10.0.0.10:80.
    #[arg(value_name = "VIP:PORT", value_parser = destination)]
    destination: SocketAddr,
    /// tcp, udp or sctp.
    #[arg(long, value_parser = protocol, default_value = "tcp")]
    protocol: Protocol,
    /// Firewall mark that it carries.
    #[arg(long, default_value_t = 0)]
    mark: u32,
    /// Flags of TCP, such as syn or syn,ack. SCTP: syn for INIT, else DATA.
    #[arg(long, value_parser = flags, default_value = "syn")]
    flags: u8,
    /// The interface that it comes by, if not that by which its sender is reached.
    #[arg(long, value_name = "NAME")]
    interface: Option<String>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

fn protocol(text: &str) -> Result<Protocol, String> {
    keys::protocol(text).ok_or_else(|| format!("a protocol is tcp, udp or sctp, not {text:?}"))
}

/// Tells what would become of a packet.
pub(crate) fn run(instance: &str, arguments: Arguments) -> Result<ExitCode> {
    let Arguments {
        source,
        destination,
        protocol,
        mark,
        flags,
        interface,
        json,
    } = arguments;
    if source.is_ipv4() != destination.is_ipv4() {
        bail!("{source} and {destination} are not of the same family");
    }
    let trace = Client::new(instance).trace(&Query {
        source,
        destination,
        protocol,
        mark,
        flags,
        interface,
    })?;
    if json {
        print_json(&serde_json::to_value(&trace)?)?;
    } else {
        print(&text(&trace))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// A trace in words, a line for each step.
fn text(trace: &Trace) -> String {
    let mut lines = Lines::default();
    lines.add("packet", &arrival(trace));
    if let (Some(interface), false) = (&trace.interface, trace.attached) {
        let words = format!("Evenkeel is not attached to {interface} and sees no packet of it");
        lines.add("but", &words);
    }
    lines.add("service", &service(trace));
    if let Some(words) = connection(trace) {
        lines.add("connection", &words);
    }
    if let Some(template) = &trace.template {
        let kind = if template.is_new { "new" } else { "known" };
        let server = &template.server;
        lines.add(
            "template",
            &format!("{kind}: the client stays with {server}"),
        );
    }
    if let Some(schedule) = &trace.schedule {
        lines.add("scheduler", &scheduler(schedule));
        candidates(&mut lines, schedule);
    }
    if let Some(server) = &trace.server {
        lines.add("server", &described(server));
    }
    outcome(&mut lines, trace);
    let names: Vec<&str> = trace.counted.iter().map(|it| &*it.name).collect();
    if !names.is_empty() {
        lines.add("counted", &names.join(", "));
    }
    lines.text
}

fn service(trace: &Trace) -> String {
    let Some(service) = &trace.service else {
        return match (trace.from_server, trace.mark) {
            (true, _) => "none is asked for: its sender is a server".into(),
            (false, 0) => "none has this protocol, address and port".into(),
            (false, _) => "none has this mark, or this protocol, address and port".into(),
        };
    };
    let mut words = format!("{}, found by {}", service.name, by(service.by));
    if let Some(seconds) = service.persistent_s {
        let _ = write!(words, "; clients stay with their server for {seconds} s");
    }
    if service.one_packet {
        words += "; each packet is scheduled for itself, no connection is kept";
    }
    words
}

/// Lines with a word in front.
#[derive(Default)]
struct Lines {
    text: String,
}

impl Lines {
    fn add(&mut self, head: &str, words: &str) {
        // Writing into a string cannot fail.
        let _ = writeln!(self.text, "{head:<10}  {words}");
    }
}

fn arrival(trace: &Trace) -> String {
    let mut words = packet(&trace.before);
    if trace.mark != 0 {
        let _ = write!(words, ", mark {}", trace.mark);
    }
    if let Some(interface) = &trace.interface {
        let _ = write!(words, ", by {interface}");
    }
    words
}

/// A packet without its outer header.
fn packet(packet: &Packet) -> String {
    let Packet {
        protocol,
        source,
        destination,
        detail,
        ttl,
        length,
        ..
    } = packet;
    let ends = if protocol.starts_with("icmp") {
        format!("{} -> {}", source.ip(), destination.ip())
    } else {
        format!("{source} -> {destination}")
    };
    let mut words = format!("{protocol} {ends}");
    if let Some(detail) = detail {
        let _ = write!(words, ", {detail}");
    }
    let _ = write!(words, ", TTL {ttl}, {length} bytes");
    words
}

const fn by(by: FoundBy) -> &'static str {
    match by {
        FoundBy::Mark => "mark",
        FoundBy::Port => "address and port",
        FoundBy::FtpData => "address, as data of FTP",
        FoundBy::AnyPort => "address, for any port",
    }
}

fn connection(trace: &Trace) -> Option<String> {
    Some(match (&trace.known, &trace.connection) {
        (None, None) if trace.service.is_none() => return None,
        (None, None) => "none".into(),
        (None, Some(new)) => format!("new, {}", new.state),
        (Some(known), None) => format!("known, {}, with {}; it ends", known.state, known.server),
        (Some(known), Some(after)) if known.server != after.server => format!(
            "known, {}, with {}; it gives way to a new one, {}",
            known.state, known.server, after.state
        ),
        (Some(known), Some(after)) if known.state == after.state => {
            format!("known, {}", known.state)
        }
        (Some(known), Some(after)) => format!("known, {}, then {}", known.state, after.state),
    })
}

fn scheduler(schedule: &Schedule) -> String {
    let name = &schedule.scheduler;
    let mut words = match &schedule.server {
        Some(chosen) => format!("{name} -> {chosen}: {}", rule(schedule)),
        None if schedule.candidates.is_empty() => format!("{name} -> nobody: there are no servers"),
        None => format!("{name} -> nobody: no server takes connections"),
    };
    if let Some((slot, slots)) = schedule.slot.zip(schedule.slots) {
        let _ = write!(words, ", slot {} of {slots}", slot + 1);
    }
    if !schedule.passed_over.is_empty() {
        let count = counted(schedule.passed_over.len() as u64, "slot");
        let _ = write!(
            words,
            "; {count} before it passed over, whose servers are full or out"
        );
    }
    words
}

/// What a scheduler goes by.
fn rule(schedule: &Schedule) -> &'static str {
    match schedule.scheduler.as_str() {
        "rr" | "wrr" => "the next in turn",
        "sh" | "mh" if schedule.hashes_port => "by the client's address and port",
        "sh" | "mh" => "by the client's address",
        "dh" => "by the virtual address",
        "lc" => "the least of 256 x active + inactive",
        "wlc" => "the least of (256 x active + inactive) / weight",
        "sed" => "the least of (active + 1) / weight",
        "nq" => "an idle one (0), or the least of (active + 1) / weight",
        "fo" => "the highest weight (the least of 1 / weight)",
        "ovf" => "the highest weight (the least of 1 / weight) among those that are not full",
        "lblc" | "lblcr" => {
            "the virtual address's, or the least of (256 x active + inactive) / weight"
        }
        "twos" => "the less loaded of two that were drawn",
        _ => "as it says",
    }
}

/// Most servers that are shown; JSON has them all.
const CANDIDATES: usize = 16;

/// What the scheduler saw of each server.
fn candidates(lines: &mut Lines, schedule: &Schedule) {
    for candidate in schedule.candidates.iter().take(CANDIDATES) {
        let Candidate {
            name,
            weight,
            active,
            inactive,
            ..
        } = candidate;
        let mut words = format!("{name}  weight {weight}, {active} active, {inactive} inactive");
        if let Some((dividend, divisor)) = candidate.compared {
            let _ = write!(words, ": {}", quotient(dividend, divisor));
        } else if candidate.is_full {
            words += ": full";
        } else if *weight == 0 {
            words += ": quiesced";
        }
        if let Some((own, slots)) = candidate.slots.zip(schedule.slots) {
            let _ = write!(words, ": {own} of {slots} slots");
        }
        lines.add("", &words);
    }
    let more = schedule.candidates.len().saturating_sub(CANDIDATES);
    if more > 0 {
        lines.add("", &format!("and {more} more, which --json shows"));
    }
}

/// With up to three decimal places.
fn quotient(dividend: u64, divisor: u64) -> String {
    let thousandths = dividend.saturating_mul(1000) / divisor.max(1);
    let text = format!("{}.{:03}", thousandths / 1000, thousandths % 1000);
    text.trim_end_matches('0').trim_end_matches('.').into()
}

fn loads(server: &Server) -> String {
    format!(
        "weight {}, {} active, {} inactive",
        server.weight, server.active, server.inactive
    )
}

fn described(server: &Server) -> String {
    let mut words = format!("{}, {}, {}", server.name, server.method, loads(server));
    for (is_true, note) in [
        (server.is_local, "this host"),
        (server.is_deleted, "deleted"),
        (server.weight == 0 && !server.is_deleted, "quiesced"),
    ] {
        if is_true {
            let _ = write!(words, ", {note}");
        }
    }
    words
}

/// What becomes of it, and how it leaves.
fn outcome(lines: &mut Lines, trace: &Trace) {
    match trace.outcome {
        Outcome::Dropped => lines.add("dropped", &reasons(trace, "Dropped: ")),
        Outcome::Passed => {
            let why = reasons(trace, "Passed to the kernel: ");
            let why = match why.as_str() {
                "" if trace.from_server => "it belongs to no connection",
                "" => "Evenkeel has nothing to do with it",
                why => why,
            };
            lines.add("passed", &format!("to the kernel, as it is: {why}"));
        }
        Outcome::Answered => {
            let why = reasons(trace, "Dropped: ");
            let answer = trace.after.as_ref().map(packet).unwrap_or_default();
            lines.add("answered", &format!("{why}; by {answer}"));
        }
        Outcome::Delivered => {
            rewriting(lines, trace);
            lines.add("delivered", "to this host, which is the server");
        }
        Outcome::Sent | Outcome::Resolved => rewriting(lines, trace),
    }
    let Some(way) = &trace.way else {
        return;
    };
    let to = way.to.as_ref().map_or_else(
        || "the kernel finds its neighbour".into(),
        |mac| format!("to {mac}"),
    );
    let stage = match trace.stage {
        Stage::Xdp => "XDP",
        Stage::Tc => "tc",
    };
    lines.add("sent", &format!("by {}, {to}, from {stage}", way.interface));
}

/// What counted reasons of one kind say.
fn reasons(trace: &Trace, kind: &str) -> String {
    let meanings = trace
        .counted
        .iter()
        .filter_map(|counted| Some(counted.meaning.strip_prefix(kind)?.trim_end_matches('.')));
    meanings.collect::<Vec<_>>().join("; ")
}

/// What is changed of the packet, and what is put in front of it.
fn rewriting(lines: &mut Lines, trace: &Trace) {
    let before = &trace.before;
    let after = trace.after.as_ref().unwrap_or(before);
    let ends = [
        ("source", before.source, after.source),
        ("destination", before.destination, after.destination),
    ];
    let mut changes: Vec<String> = ends
        .iter()
        .filter(|(_, before, after)| before != after)
        .map(|(end, before, after)| format!("{end} {before} -> {after}"))
        .collect();
    if before.ttl != after.ttl {
        changes.push(format!("TTL {} -> {}", before.ttl, after.ttl));
    }
    if changes.is_empty() {
        changes.push("nothing".into());
    }
    lines.add("rewritten", &changes.join(", "));
    let Some(outer) = &after.outer else {
        return;
    };
    let port = outer
        .port
        .map_or_else(String::new, |port| format!(", port {port}"));
    let words = format!(
        "{} {} -> {}{port}, TTL {}, {} bytes",
        outer.kind, outer.source, outer.destination, outer.ttl, outer.length
    );
    lines.add("tunnel", &words);
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use evenkeel_api::trace::CLIENT_PORT;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        arguments: Arguments,
    }

    #[test]
    fn a_syn_from_the_first_free_port_is_what_is_asked_about() {
        let cli = Cli::parse_from(["trace", "fd00::2", "[fd00::1]:80"]);
        let arguments = cli.arguments;
        assert_eq!(arguments.source.port(), CLIENT_PORT);
        assert_eq!((arguments.protocol, arguments.flags), (Protocol::Tcp, 2));
        for wrong in ["10.0.0.2:x", "10.0.0.2:70000", "host"] {
            assert!(Cli::try_parse_from(["trace", wrong, "10.0.0.1:80"]).is_err());
        }
    }
}
