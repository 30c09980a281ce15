//! Checks and the configuration that has them, with traffic.

use std::net::{Ipv4Addr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use evenkeel_lab::bench::{SERVERS, VIP};
use evenkeel_lab::{sandbox, wait};

use crate::web::nginx;
use crate::world::{SHOW, START, WEB, World, answer_as, ask, run};

/// Longer than any test takes: a check with this interval is not due by itself.
const RARELY_S: u64 = 3600;

fn server(address: Ipv4Addr, port: u16, check: &str) -> String {
    format!(
        "[[service.server]]\naddress = \"{address}\"\nport = {port}\n\
         [[service.server.check]]\n{check}\n"
    )
}

fn service(servers: &str) -> String {
    format!("[[service]]\naddress = \"{VIP}\"\nport = 80\nscheduler = \"rr\"\n{servers}")
}

/// The servers of the service, by their last octets, with their weights.
fn weights(world: &World) -> Result<Vec<(u8, u32)>> {
    let service = world.service(80)?;
    let servers = service.servers.iter();
    let mut weights: Vec<(u8, u32)> = servers
        .filter_map(|server| match server.key.address {
            std::net::IpAddr::V4(address) => Some((address.octets()[3], server.settings.weight)),
            std::net::IpAddr::V6(_) => None,
        })
        .collect();
    weights.sort_unstable();
    Ok(weights)
}

fn until_weights(world: &World, wanted: &[(u8, u32)]) -> Result<()> {
    wait::until(SHOW, "the servers of the service", || {
        match weights(world) {
            Ok(weights) if weights == wanted => Ok(()),
            other => Err(format!("{other:?} where {wanted:?} is wanted")),
        }
    })
}

fn last(number: usize) -> u8 {
    SERVERS[number].octets()[3]
}

#[test]
fn reading_the_configuration_again_touches_only_what_differs() {
    sandbox::run_test(|| {
        let tcp = "type = \"tcp\"\ninterval = \"200ms\"";
        let both = |weight: u32| {
            let [first, second] = SERVERS.map(|address| server(address, 8080, tcp));
            service(&format!(
                "{first}{}",
                second.replace("port", &format!("weight = {weight}\nport"))
            ))
        };
        let mut world = World::build()?;
        for (identity, (host, address)) in (1..).zip(world.servers.iter().zip(SERVERS)) {
            answer_as(host, address, 8080, identity)?;
        }
        world.director.configure(&both(1))?;
        world.director.start_daemon(START)?;
        world.wait_for_hops()?;
        let [mut first, mut second] = world.connect_to_each()?;
        until_weights(&world, &[(last(0), 1), (last(1), 1)])?;
        let before = world.service(80)?;

        // The second one's weight, and nothing else.
        world.director.configure(&both(5))?;
        let output = world.director.shell("evenkeel reload")?;
        ensure!(output.status == 0, "{output}");
        until_weights(&world, &[(last(0), 1), (last(1), 5)])?;
        ensure!(ask(&mut first)? == 1 && ask(&mut second)? == 2);
        let after = world.service(80)?;
        ensure!(
            after.stats.connections >= before.stats.connections,
            "{after:?}"
        );

        // What was added by hand stays; what the file has is as the file has it.
        world.admin(&[
            &format!("ipvsadm -a -t {WEB} -r 10.20.3.9:8080 -m -w 7"),
            &format!("ipvsadm -e -t {WEB} -r {}:8080 -m -w 0", SERVERS[0]),
        ])?;
        let others = |own: u32| [(last(0), own), (last(1), 5), (9, 7)].to_vec();
        let sorted = |mut list: Vec<(u8, u32)>| {
            list.sort_unstable();
            list
        };
        until_weights(&world, &sorted(others(0)))?;
        let status = world.director.shell("evenkeel status")?;
        ensure!(status.stdout.contains("weight 0 set by hand"), "{status}");
        run(world.director.host(), "pkill -HUP -x evenkeel")?;
        until_weights(&world, &sorted(others(1)))?;

        // A broken file says why, and changes nothing.
        world.director.configure(&both(5).replace("rr", "rrr"))?;
        let output = world.director.shell("evenkeel reload")?;
        ensure!(output.status == 1, "{output}");
        ensure!(
            output.stderr.contains(".toml:4:13") && output.stderr.contains("did you mean"),
            "{output}"
        );
        ensure!(weights(&world)? == sorted(others(1)));
        ensure!(ask(&mut first)? == 1 && ask(&mut second)? == 2);
        Ok(())
    });
}

/// Clients try until the server has left the table.
fn clients_find_out(world: &World, wanted: &[(u8, u32)]) -> Result<()> {
    let deadline = Instant::now() + 3 * SHOW;
    while weights(world)? != wanted {
        if Instant::now() > deadline {
            bail!("{:?}", world.director.shell("evenkeel status")?.stdout);
        }
        // It may be reset, or not be answered.
        let _ = world
            .client
            .within(|| TcpStream::connect_timeout(&WEB, Duration::from_millis(300)))?;
    }
    Ok(())
}

#[test]
fn a_server_that_clients_can_not_reach_is_checked_at_once() {
    sandbox::run_test(|| {
        let rarely =
            format!("type = \"tcp\"\ninterval = {RARELY_S}\nwarmup = 0\nretries = 0\ntimeout = 1");
        let mut world = World::build()?;
        let [one, two] = [0, 1].map(|number| nginx(&world.servers[number], SERVERS[number]));
        let (one, _two) = (one?, two?);
        let servers = SERVERS.map(|address| server(address, 80, &rarely)).concat();
        world.director.configure(&service(&servers))?;
        world.director.start_daemon(START)?;
        world.wait_for_hops()?;
        let checked = |status: &evenkeel_api::Status| {
            let mut servers = status.virtual_servers.iter().flat_map(|it| &it.servers);
            servers.all(|server| server.checks.iter().all(|check| check.last.is_some()))
        };
        // Their first runs are behind them, and the second is not due for a long time: the
        // spreading may bring one forward, so all that counts is what comes from now on.
        world.wait_for_status("first results", checked)?;
        until_weights(&world, &[(last(0), 1), (last(1), 1)])?;

        // Resets: nobody listens any more.
        drop(one);
        clients_find_out(&world, &[(last(1), 1)])?;
        // Silence: packets are lost.
        run(
            &world.servers[1],
            "nft add table ip t && nft add chain ip t c '{ type filter hook input priority 0; }' \
             && nft add rule ip t c tcp dport 80 drop",
        )?;
        clients_find_out(&world, &[])
    });
}

#[test]
fn checks_rest_while_the_address_is_on_another_machine() {
    sandbox::run_test(|| {
        let tcp = "type = \"tcp\"\ninterval = \"200ms\"\ntimeout = \"100ms\"\nwarmup = 0";
        let servers = server(SERVERS[0], 8080, tcp);
        let text = service(&servers).replace("scheduler", "ha_suspend = true\nscheduler");
        let mut world = World::build()?;
        world.director.configure(&text)?;
        world.director.start_daemon(START)?;
        let rests = |status: &evenkeel_api::Status| {
            let mut all = status.virtual_servers.iter();
            all.all(|it| it.resting && it.servers.iter().all(|server| server.alive))
        };
        // Nobody listens there, but nobody asks.
        world.wait_for_status("checks that rest", rests)?;
        let director = world.director.host();
        run(director, &format!("ip address add {VIP}/32 dev lo"))?;
        until_weights(&world, &[])?;
        run(director, &format!("ip address del {VIP}/32 dev lo"))?;
        let rest = |status: &evenkeel_api::Status| status.virtual_servers[0].resting;
        world.wait_for_status("checks that rest again", rest)?;
        Ok(())
    });
}
