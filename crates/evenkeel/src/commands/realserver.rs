//! `evenkeel realserver`: makes this machine ready for what a director sends it by direct
//! routing or through a tunnel.

mod notes;
mod plan;

use std::net::{IpAddr, Ipv4Addr};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use evenkeel_kernel::network::{Link, links};
use evenkeel_kernel::realserver as machine;
use serde::Serialize;

use notes::Book;
use plan::{Change, Device, Knob, Placed, Port, Problem, Seen, Setting, Tunnel, Wanted};

/// The port that is registered for GUE.
const GUE_PORT: u16 = 6080;
/// A device that is made shows what else it needs; more rounds mean that something
/// does not stay as it is set.
const ROUNDS: usize = 3;

/// Arguments of `evenkeel realserver`.
#[derive(Args, Debug)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Takes service addresses and sees to it that nobody else is told so.
    Up(Up),
    /// Gives them back, and what was needed for them alone.
    Down(Down),
    /// Changes nothing; says what is wrong and how to put it right.
    Check(Up),
}

#[derive(Args, Clone, Debug)]
struct Up {
    /// Addresses of services.
    #[arg(required = true, value_name = "VIP", value_parser = vip)]
    vips: Vec<IpAddr>,
    /// The director sends through a tunnel: ipip, gre, or gue with its port (6080).
    #[arg(long, value_name = "KIND[:PORT]", value_parser = tunnel)]
    tunnel: Option<Tunnel>,
    /// Print it as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Args, Clone, Debug)]
struct Down {
    /// Addresses of services.
    #[arg(required = true, value_name = "VIP", value_parser = vip)]
    vips: Vec<IpAddr>,
    /// Print it as JSON.
    #[arg(long)]
    json: bool,
}

fn vip(text: &str) -> Result<IpAddr, String> {
    let address: IpAddr = text
        .parse()
        .map_err(|_| "a service's address is an IPv4 or an IPv6 address".to_owned())?;
    let is_other = match address {
        IpAddr::V4(address) => address == Ipv4Addr::BROADCAST || address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    };
    if is_other || address.is_unspecified() || address.is_loopback() || address.is_multicast() {
        return Err("clients cannot connect to this address".into());
    }
    Ok(address)
}

fn tunnel(text: &str) -> Result<Tunnel, String> {
    match (text, text.strip_prefix("gue:")) {
        ("ipip", _) => Ok(Tunnel::Ipip),
        ("gre", _) => Ok(Tunnel::Gre),
        ("gue", _) => Ok(Tunnel::Gue(GUE_PORT)),
        (_, Some(port)) => match port.parse() {
            Ok(port @ 1..) => Ok(Tunnel::Gue(port)),
            _ => Err("the port of GUE is 1 to 65535".into()),
        },
        _ => Err("a tunnel is ipip, gre or gue[:PORT]".into()),
    }
}

impl Up {
    fn wanted(&self) -> Wanted {
        Wanted {
            vips: self.vips.clone(),
            tunnel: self.tunnel,
        }
    }

    /// The command that puts everything right.
    fn command(&self) -> String {
        let mut words = vec!["evenkeel realserver up".to_owned()];
        if let Some(tunnel) = self.tunnel {
            words.push(format!("--tunnel {tunnel}"));
        }
        words.extend(self.vips.iter().map(ToString::to_string));
        words.join(" ")
    }
}

/// What was done or found. As text, changes are told as they are made.
#[derive(Debug, Default, Serialize)]
struct Report {
    /// What was changed, in this order.
    changed: Vec<Change>,
    /// What stays, since other addresses need it.
    kept: Vec<String>,
    /// What is wrong.
    problems: Vec<Problem>,
}

/// Sets up, takes back or checks a real server.
pub(crate) fn run(arguments: Arguments) -> Result<ExitCode> {
    let mut report = Report::default();
    let (json, outcome) = match arguments.what {
        What::Up(up) => (up.json, set_up(&up, &mut report)),
        What::Down(down) => (down.json, take_back(&down, &mut report)),
        What::Check(up) => (up.json, check(&up, &mut report)),
    };
    if json {
        let text = serde_json::to_string_pretty(&report).context("cannot write JSON")?;
        println!("{text}");
    }
    outcome?;
    Ok(if report.problems.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn set_up(up: &Up, report: &mut Report) -> Result<()> {
    machine::check_permission()?;
    let wanted = up.wanted();
    let mut book = Book::open()?;
    for _ in 0..ROUNDS {
        let seen = observe()?;
        let changes = plan::up(&seen, &wanted);
        if changes.is_empty() {
            report.problems = plan::problems(&seen, &wanted);
            if !up.json {
                tell_problems(&report.problems);
            }
            return Ok(());
        }
        let mut notes = book.notes().still_true(&seen);
        for change in &changes {
            notes.note(change);
        }
        // Before the changes: what is noted and was not done does not count.
        book.replace(notes)?;
        make(changes, &seen, up.json, report)?;
    }
    bail!("something does not stay as it is set; see what else manages this machine's network")
}

fn take_back(down: &Down, report: &mut Report) -> Result<()> {
    machine::check_permission()?;
    let mut book = Book::open()?;
    let seen = observe()?;
    let mut notes = book.notes().still_true(&seen);
    let plan::Down { changes, kept } = plan::down(&seen, &down.vips, &notes);
    for change in &changes {
        notes.note(change);
    }
    let is_change = !changes.is_empty();
    make(changes, &seen, down.json, report)?;
    book.replace(notes)?;
    if is_change {
        report.kept = kept;
        if !down.json {
            report.kept.iter().for_each(|line| println!("{line}"));
        }
    }
    Ok(())
}

fn check(up: &Up, report: &mut Report) -> Result<()> {
    let seen = observe()?;
    let wanted = up.wanted();
    let changes = plan::up(&seen, &wanted);
    report.problems = changes.iter().map(plan::problem_of).collect();
    report.problems.extend(plan::problems(&seen, &wanted));
    if up.json {
        return Ok(());
    }
    tell_problems(&report.problems);
    if !changes.is_empty() {
        println!("`{}` puts right what is missing", up.command());
    }
    Ok(())
}

fn tell_problems(problems: &[Problem]) {
    for Problem { problem, remedy } in problems {
        println!("{problem}\n  put it right: {remedy}");
    }
}

/// Makes changes, and tells each as soon as it is made.
fn make(changes: Vec<Change>, seen: &Seen, json: bool, report: &mut Report) -> Result<()> {
    for change in changes {
        apply(&change, seen)?;
        if !json {
            println!("{change}");
        }
        report.changed.push(change);
    }
    Ok(())
}

fn apply(change: &Change, seen: &Seen) -> Result<()> {
    let index = |device: &str| {
        let found = seen.device(device).map(|device| device.index);
        found.with_context(|| format!("{device} is gone"))
    };
    match change {
        Change::Set { setting, after, .. } => machine::set_setting(&setting.path(), *after)?,
        Change::MakeDevice { kind } => machine::make_tunnel(*kind)?,
        Change::SetUp { device } => machine::set_up(index(device)?, true)?,
        Change::SetDown { device } => machine::set_up(index(device)?, false)?,
        Change::OpenPort(port) => machine::open_port(port.ipv6, port.port)?,
        Change::ClosePort(port) => machine::close_port(port.ipv6, port.port)?,
        Change::AddAddress { address, device } => machine::add_address(*address, index(device)?)?,
        Change::RemoveAddress { address, device } => {
            machine::remove_address(*address, index(device)?)?;
        }
    }
    Ok(())
}

/// Looks at the machine.
fn observe() -> Result<Seen> {
    let devices: Vec<Device> = links()?.into_iter().map(device).collect();
    let mut seen = Seen::default();
    for found in machine::addresses()? {
        let on = devices
            .iter()
            .find(|device| device.index == found.interface);
        if let Some(on) = on {
            seen.addresses.push(Placed {
                address: found.address,
                prefix: found.prefix,
                device: on.name.clone(),
            });
        }
    }
    let ports = machine::ports()?.into_iter().filter(|port| port.gue);
    seen.ports = ports
        .map(|port| Port {
            ipv6: port.ipv6,
            port: port.number,
        })
        .collect();
    let names = devices.iter().map(|device| device.name.as_str());
    for name in [plan::ALL].into_iter().chain(names) {
        for knob in Knob::ALL {
            let setting = Setting::new(knob, name);
            if let Some(value) = machine::setting(&setting.path())? {
                seen.settings.insert(setting, value);
            }
        }
    }
    seen.devices = devices;
    Ok(seen)
}

fn device(link: Link) -> Device {
    Device {
        is_ethernet: link.is_ethernet(),
        name: link.name,
        index: link.index,
        up: link.is_up,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_nobody_connects_to_are_refused() {
        for good in ["10.0.0.100", "2001:db8::1", "fd00::1"] {
            assert!(vip(good).is_ok(), "{good}");
        }
        for bad in [
            "0.0.0.0",
            "127.0.0.1",
            "224.0.0.18",
            "255.255.255.255",
            "169.254.0.1",
            "::",
            "::1",
            "fe80::1",
            "ff02::1",
            "10.0.0.0/24",
            "web",
        ] {
            assert!(vip(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn tunnels_by_name() {
        assert_eq!(tunnel("ipip"), Ok(Tunnel::Ipip));
        assert_eq!(tunnel("gre"), Ok(Tunnel::Gre));
        assert_eq!(tunnel("gue"), Ok(Tunnel::Gue(6080)));
        assert_eq!(tunnel("gue:5555"), Ok(Tunnel::Gue(5555)));
        for bad in ["", "gue:", "gue:0", "gue:65536", "ipip:1", "vxlan"] {
            assert!(tunnel(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_machine_can_be_looked_at() {
        let seen = observe().unwrap();
        assert!(seen.device(plan::LOOPBACK).is_some());
        let ignore = Setting::new(Knob::ArpIgnore, plan::ALL);
        assert!(seen.setting(&ignore).is_some());
    }
}
