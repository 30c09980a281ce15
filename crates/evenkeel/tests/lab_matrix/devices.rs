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
fn lacks() -> Result<String> {
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

/// Tries a tunnel with both protocols and both families in it.
fn through(world: &World, method: &Method, outer: Family) -> Result<String> {
    for (index, server) in world.servers.iter().enumerate() {
        run(server, &device(method, outer, index))?;
    }
    let mut cells = String::new();
    for family in FAMILIES {
        let case = Case { method, family };
        world.rules(&case.rules())?;
        let start = Instant::now();
        case.tcp(world)
            .and_then(|()| case.udp(world))
            .with_context(|| format!("{}, {family:?}: {:?}", case.name(), world.reasons()))?;
        let cell = format!("{} ms", start.elapsed().as_millis());
        let _ = write!(cells, "{cell:>11}");
    }
    for server in &world.servers {
        run(server, &remove(method, outer))?;
    }
    Ok(format!(
        "{:44}{cells}",
        Case {
            method,
            family: outer
        }
        .name()
    ))
}

/// Tries all tunnels, if the kernel has what they need.
fn all(world: &World, hook: &str) -> Result<()> {
    let lacks = lacks()?;
    if !lacks.is_empty() {
        println!("skipped: the kernel lacks devices of tunnels: {lacks}");
        return Ok(());
    }
    for (offloads, what) in [
        (Offloads::Off, "offloads off"),
        (Offloads::On, "offloads on"),
    ] {
        offloads.set(world)?;
        println!(
            "{:44}{:>11}{:>11}",
            format!("devices, {hook}, {what}"),
            "IPv4",
            "IPv6"
        );
        for method in &METHODS {
            let Some(outer) = method.outer else { continue };
            // What is cut into frames later has no checksum of GRE, and a device that wants
            // one drops it.
            if offloads == Offloads::On && method.options.contains("gre --tun-csum") {
                continue;
            }
            println!("{}", through(world, method, outer)?);
        }
    }
    Ok(())
}

/// What not every kernel has, by both hooks: with devices that the test makes, and SCTP.
#[test]
fn tunnel_devices_and_sctp() {
    sandbox::run_test(|| {
        let mut world = World::start("xdp", Decapsulation::ByDevices)?;
        sctp::serve_all(&world)?;
        for hook in ["xdp", "tc"] {
            world.change_hook(hook)?;
            all(&world, hook)?;
            sctp::all(&world, hook)?;
        }
        Ok(())
    });
}
