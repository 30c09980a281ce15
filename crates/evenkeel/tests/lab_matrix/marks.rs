//! Services by firewall mark, by marks of others and by the director's own rules.
//!
//! Marks of others have to be there before a packet comes to the director's hook. On the machine's
//! own cable that hook is the first one, in front of all filters of `tc` and of
//! netfilter; so the cable is made the port of a bridge, which the director then sits on,
//! and a filter at the port marks what comes.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, Result, bail, ensure};
use evenkeel_lab::sandbox;

use crate::kinds::{rules, servers, vip};
use crate::traffic::{self, echo, new_port, sender};
use crate::world::{
    CLIENT_PORT, Decapsulation, ECHO, FAMILIES, Family, SERVERS, SINK, SOURCES, VIP, WEB, World,
    run, source,
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

/// The rules of the page about the configuration that stand beside those of `iptables`.
fn example() -> Result<&'static str> {
    const PAGE: &str = include_str!("../../../../docs/configuration.md");
    let rules = PAGE.split("iptables -t mangle").nth(1);
    let rules = rules.and_then(|rest| rest.split("```toml\n").nth(1));
    let rules = rules.and_then(|rest| rest.split("```").next());
    rules.context("docs/configuration.md has no example")
}

/// What the page's example says: two ports of an address are one service, and no more.
fn as_with_iptables(world: &World) -> Result<()> {
    const HTTPS: u16 = 443;
    let family = Family::V4;
    for (index, server) in world.servers.iter().enumerate() {
        let address = SocketAddr::new(SERVERS[index].of(family), HTTPS);
        traffic::serve_sink(server, address, index as u8)?;
        let address = SocketAddr::new(SERVERS[index].of(family), SINK + 1);
        traffic::serve_sink(server, address, index as u8)?;
    }
    let at = servers(family, 0);
    world.rules(&rules(service(family), "-s rr -p 300", at, "-m"))?;
    for last in SOURCES.take(4) {
        let from = source(family, last);
        let page = |port| traffic::page_of(&world.client, from, vip(family, port));
        let by_http = page(WEB)?;
        let client = SocketAddr::new(from, new_port());
        let (_, by_https) = traffic::connect(&world.client, client, vip(family, HTTPS))?;
        ensure!(by_http == by_https, "{from}: {by_http}, then {by_https}");
    }
    // Nobody listens there on the director.
    let client = SocketAddr::new(source(family, SOURCES.start), new_port());
    if traffic::connect(&world.client, client, vip(family, SINK + 1)).is_ok() {
        bail!("a port that no rule marks was taken");
    }
    Ok(())
}

/// Rules for all that the tests send.
fn all_rules(hook: &str) -> String {
    let rule = |address: IpAddr| {
        format!(
            "[[mark]]\nmark = 1\ndestination = \"{address}\"\n\
             ports = [{WEB}, {SINK}, {ECHO}]\n"
        )
    };
    let rules = FAMILIES.map(|family| rule(VIP.of(family)));
    format!("[dataplane]\nhook = \"{hook}\"\n{}", rules.concat())
}

#[test]
fn marks_by_rules() {
    sandbox::run_test(|| {
        let mut world = World::start("xdp", Decapsulation::ByTest)?;
        let hook = "[dataplane]\nhook = \"xdp\"\n";
        world.configure(&format!("{hook}{}", example()?))?;
        as_with_iptables(&world).with_context(|| format!("{:?}", world.reasons()))?;
        for hook in ["xdp", "tc"] {
            world.configure(&all_rules(hook))?;
            for family in FAMILIES {
                methods(&world, family).context(hook)?;
                persistence(&world, family).with_context(|| format!("{:?}", world.reasons()))?;
            }
        }
        Ok(())
    });
}
