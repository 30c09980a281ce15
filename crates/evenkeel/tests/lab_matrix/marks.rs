//! Services by firewall mark.
//!
//! Marks have to be there before a packet comes to the director's hook. On the machine's
//! own cable that hook is the first one, in front of all filters of `tc` and of
//! netfilter; so the cable is made the port of a bridge, which the director then sits on,
//! and a filter at the port marks what comes.

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use evenkeel_lab::sandbox;

use crate::kinds::{rules, servers, vip};
use crate::traffic::{self, echo, new_port, sender};
use crate::world::{
    CLIENT_PORT, Decapsulation, ECHO, FAMILIES, Family, SINK, SOURCES, VIP, WEB, World, run, source,
};

const BRIDGE: &str = "front";

/// Puts the director's cable to the client into a bridge, and marks what comes by it for
/// the services' addresses.
fn bridge(world: &World) -> Result<()> {
    let director = world.director.host();
    let of_director = FAMILIES.map(|family| source(family, 1));
    let mark = |family: &str, vip, mark| {
        format!("{family} daddr {vip} th dport {{ {WEB}, {SINK}, {ECHO} }} meta mark set {mark}\n")
    };
    let filter = format!(
        "table netdev marks {{ chain port {{ \
         type filter hook ingress device {CLIENT_PORT} priority 0;\n{}{}}}\n}}\n",
        mark("ip", VIP.of(Family::V4), 1),
        mark("ip6", VIP.of(Family::V6), 1),
    );
    let [four, six] = of_director;
    run(
        director,
        &format!(
            "mac=$(cat /sys/class/net/{CLIENT_PORT}/address) && \
             ip link add {BRIDGE} address $mac type bridge && \
             ip address flush dev {CLIENT_PORT} && \
             ip link set {CLIENT_PORT} master {BRIDGE} && ip link set {BRIDGE} up && \
             ip address add {four}/24 dev {BRIDGE} && \
             ip address add {six}/64 dev {BRIDGE} nodad && \
             nft -f - <<'END'\n{filter}END"
        ),
    )?;
    world.wait_for_status("the bridge to be attached to", |status| {
        let hook = |name| {
            let found = status.interfaces.iter().find(|known| known.name == name);
            found.map_or("", |known| known.hook.as_str())
        };
        hook(BRIDGE).starts_with("tc") && hook(CLIENT_PORT) == "none"
    })
}

/// The service of a family's mark.
fn service(family: Family) -> &'static str {
    match family {
        Family::V4 => "-f 1",
        Family::V6 => "-f 1 -6",
    }
}

fn methods(world: &World, family: Family) -> Result<()> {
    for method in ["-m", "-g", "-i", "-i --tun-type gre --tun-csum"] {
        let at = servers(family, 0);
        world.rules(&rules(service(family), "-s rr", at, method))?;
        let from = source(family, SOURCES.start);
        traffic::tcp(&world.client, from, vip(family, WEB), vip(family, SINK))
            .and_then(|()| traffic::udp(&world.client, from, vip(family, ECHO)))
            .with_context(|| format!("{family:?}, {method}: {:?}", world.reasons()))?;
        println!("{family:?}, {method}: ok");
    }
    Ok(())
}

/// All ports and protocols of a mark are one service: a client gets to one server by all.
fn persistence(world: &World, family: Family) -> Result<()> {
    let at = servers(family, 0);
    world.rules(&rules(service(family), "-s rr -p 300", at, "-m"))?;
    let mut given = [0; 2];
    for last in SOURCES.take(8) {
        let from = source(family, last);
        let client = SocketAddr::new(from, new_port());
        let (_, by_tcp) = traffic::connect(&world.client, client, vip(family, SINK))?;
        let by_udp = echo(&sender(&world.client, from, vip(family, ECHO))?, 100)?;
        ensure!(by_tcp == by_udp, "{from}: {by_tcp} by TCP, {by_udp} by UDP");
        given[usize::from(by_tcp)] += 1;
    }
    ensure!(given == [4, 4], "by server: {given:?}");
    println!("{family:?}, persistence: ok");
    Ok(())
}

#[test]
fn firewall_marks() {
    sandbox::run_test(|| {
        let world = World::start("tc", Decapsulation::ByTest)?;
        bridge(&world)?;
        for family in FAMILIES {
            methods(&world, family)?;
            persistence(&world, family).with_context(|| format!("{:?}", world.reasons()))?;
        }
        Ok(())
    });
}
