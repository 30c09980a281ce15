//! Clients on the director itself.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use anyhow::{Context, Result, ensure};
use evenkeel_lab::bench::{SERVERS, VIP};
use evenkeel_lab::sandbox;

use super::world::{WEB, World, answer_as, ask, connect, run};

const VIP6: Ipv6Addr = Ipv6Addr::new(0xfd99, 0, 0, 0, 0, 0, 0, 1);
/// The first server's, and the director's beside it.
const SERVER6: &str = "fd20::2";
const ROUTER6: &str = "fd20::1";

/// The director has the service's addresses, as a master has; the servers' way back to them
/// leads through it.
fn world(configuration: &str) -> Result<World> {
    let world = World::start(configuration)?;
    let host = world.director.host();
    run(host, &format!("ip address add {VIP}/32 dev lo"))?;
    run(host, &format!("ip -6 address add {VIP6}/128 dev lo"))?;
    Ok(world)
}

/// Answers of as many connections of the director's own.
fn answers(world: &World, to: SocketAddr, count: usize) -> Result<Vec<u8>> {
    let connection = |_| ask(&mut connect(world.director.host(), to)?);
    (0..count).map(connection).collect()
}

fn reaches_the_service(hook: &str) -> Result<()> {
    let world = world(&format!("[dataplane]\nhook = \"{hook}\"\n"))?;
    world.serve_identities()?;
    let mut seen = answers(&world, WEB, 4)?;
    seen.sort_unstable();
    ensure!(seen == [1, 1, 2, 2], "not round robin: {seen:?}");
    let service = world.service(80)?;
    let stats = service.stats;
    ensure!(
        stats.connections == 4 && stats.out_packets >= 8,
        "not counted as any other: {stats:?}"
    );
    // The client's own address, where the service's is not the one that it takes.
    let (_, others) = world.connect()?;
    ensure!([1, 2].contains(&others), "another host's client: {others}");
    Ok(())
}

#[test]
fn a_client_on_the_director_reaches_a_service_at_tc() {
    sandbox::run_test(|| reaches_the_service("tc"));
}

#[test]
fn a_client_on_the_director_reaches_a_service_at_xdp() {
    sandbox::run_test(|| reaches_the_service("xdp"));
}

#[test]
fn a_client_on_the_director_reaches_a_service_with_a_translated_source() {
    sandbox::run_test(|| {
        let world = world("")?;
        world.serve_identities()?;
        let [first, second] =
            SERVERS.map(|a| format!("ipvsadm -e -t {WEB} -r {a}:8080 --full-nat"));
        world.admin(&[&first, &second])?;
        let mut seen = answers(&world, WEB, 4)?;
        seen.sort_unstable();
        ensure!(seen == [1, 1, 2, 2], "not round robin: {seen:?}");
        Ok(())
    });
}

#[test]
fn a_client_on_the_director_reaches_a_service_of_ipv6() {
    sandbox::run_test(|| {
        let world = world("")?;
        let [server, _] = &world.servers;
        run(
            server,
            &format!("ip -6 address add {SERVER6}/64 dev e1 nodad"),
        )?;
        run(server, &format!("ip -6 route add default via {ROUTER6}"))?;
        let host = world.director.host();
        run(
            host,
            &format!("ip -6 address add {ROUTER6}/64 dev e1 nodad"),
        )?;
        let address: IpAddr = SERVER6.parse().context("no address")?;
        answer_as(server, address, 8080, 1)?;
        world.admin(&[
            &format!("ipvsadm -A -t [{VIP6}]:80 -s rr"),
            &format!("ipvsadm -a -t [{VIP6}]:80 -r [{SERVER6}]:8080 -m"),
        ])?;
        world.wait_for_hops()?;
        let seen = answers(&world, SocketAddr::from((VIP6, 80)), 3)?;
        ensure!(seen == [1, 1, 1], "{seen:?}");
        Ok(())
    });
}

#[test]
fn what_it_takes_goes_with_the_instance() {
    sandbox::run_test(|| {
        let world = world("")?;
        let setting = "cat /proc/sys/net/ipv4/conf/lo/accept_local";
        let value = |world: &World| -> Result<String> { Ok(world.director.shell(setting)?.stdout) };
        ensure!(value(&world)? == "1\n", "not set");
        let output = world.director.shell("evenkeel stop")?;
        ensure!(output.status == 0, "{output}");
        ensure!(value(&world)? == "0\n", "not put back");
        Ok(())
    });
}
