//! The tunnels end at the kernel's own devices, where it has them: what these accept is
//! right by their measure.

use std::fmt::Write as _;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result};
use evenkeel_lab::sandbox;

use crate::methods::{Case, METHODS, Method, Offloads};
use crate::sctp;
use crate::world::{Decapsulation, FAMILIES, Family, GUE, SERVERS, World, director_of, run};

/// What the kernel says to devices that it lacks; nothing: it has all kinds.
pub(crate) fn lacks() -> Result<String> {
    let script = "for module in sit ipip ip_gre ip6_gre ip6_tunnel fou fou6; do \
                  modprobe $module 2>/dev/null; done; \
                  ip link add try0 type sit remote 192.0.2.1 && ip link del try0 && \
                  ip fou add port 1 gue && ip fou del port 1 || echo no";
    let output = Command::new("sh").args(["-c", script]).output()?;
    let text = [output.stdout, output.stderr].concat();
    Ok(String::from_utf8_lossy(&text).trim().into())
}

/// The commands that make a server's end of a tunnel from the director.
fn device(method: &Method, outer: Family, server: usize) -> String {
    let (local, remote) = (SERVERS[server].of(outer), director_of(server, outer));
    let is_gre = method.options.contains("gre");
    let kind = match (is_gre, outer) {
        (false, Family::V4) => "sit mode any",
        (false, Family::V6) => "ip6tnl mode any",
        (true, Family::V4) => "gre",
        (true, Family::V6) => "ip6gre",
    };
    let sum = if is_gre && method.options.contains("csum") {
        "icsum"
    } else {
        ""
    };
    let mut lines =
        format!("ip link add tunnel0 type {kind} local {local} remote {remote} {sum} && ");
    if method.options.contains("gue") {
        let version = if outer == Family::V6 { "-6" } else { "" };
        let _ = write!(lines, "ip fou add port {GUE} gue {version} && ");
    }
    lines + "ip link set tunnel0 up"
}

fn remove(method: &Method, outer: Family) -> String {
    let mut lines = String::from("ip link del tunnel0");
    if method.options.contains("gue") {
        let version = if outer == Family::V6 { "-6" } else { "" };
        let _ = write!(lines, " && ip fou del port {GUE} {version}");
    }
    lines
}

/// Tries a tunnel with both protocols and both versions in it; gives the table's line.
fn through(world: &World, method: &Method, outer: Family) -> Result<String> {
    for (index, server) in world.servers.iter().enumerate() {
        run(server, &device(method, outer, index))?;
    }
    let cases = FAMILIES.map(|family| Case { method, family });
    world.rules(&cases.each_ref().map(Case::rules).concat())?;
    let mut line = format!("{:44}", cases[0].name());
    for case in &cases {
        let start = Instant::now();
        case.tcp(world)
            .and_then(|()| case.udp(world))
            .with_context(|| {
                let (name, family) = (case.name(), case.family);
                format!("{name}, {family:?}: {:?}", world.reasons())
            })?;
        let cell = format!("{} ms", start.elapsed().as_millis());
        let _ = write!(line, "{cell:>11}");
    }
    for server in &world.servers {
        run(server, &remove(method, outer))?;
    }
    Ok(line)
}

/// Tries all tunnels. XDP has whole frames whatever the interfaces could do; at tc large
/// ones are cut when they have left the director.
fn all(world: &World, hook: &str) -> Result<()> {
    let (offloads, what) = if hook == "xdp" {
        (Offloads::Off, "offloads off")
    } else {
        (Offloads::On, "offloads on")
    };
    offloads.set(world)?;
    let title = format!("devices, {hook}, {what}");
    println!("{title:44}{:>11}{:>11}", "IPv4", "IPv6");
    for method in &METHODS {
        let Some(outer) = method.outer else { continue };
        // What is cut later has no checksum of GRE, and a device that wants one drops it.
        if offloads == Offloads::On && method.options.contains("gre --tun-csum") {
            continue;
        }
        println!("{}", through(world, method, outer)?);
    }
    Ok(())
}

/// What not every kernel has.
#[test]
fn tunnel_devices_and_sctp() {
    sandbox::run_test(|| {
        let lacks = lacks()?;
        let (has_devices, has_sctp) = (lacks.is_empty(), sctp::is_there());
        if !has_devices {
            println!("skipped: this kernel lacks devices of tunnels: {lacks}");
        }
        if !has_sctp {
            println!(
                "skipped: this kernel has no SCTP; the packet path's is compared with the \
                 host's in crates/kernel/tests/differential"
            );
        }
        if !has_devices && !has_sctp {
            return Ok(());
        }
        let start = Instant::now();
        let mut world = World::start("xdp", Decapsulation::ByDevices)?;
        println!("the network is up after {:?}", start.elapsed());
        if has_sctp {
            sctp::serve_all(&world)?;
        }
        for hook in ["xdp", "tc"] {
            if hook == "tc" {
                world.change_hook(hook)?;
            }
            if has_devices {
                all(&world, hook)?;
            }
            if has_sctp {
                sctp::all(&world, hook)?;
            }
            println!("{hook} is tried after {:?}", start.elapsed());
        }
        Ok(())
    });
}
