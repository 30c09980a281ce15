//! Which server a connection is given, and what becomes of it when the server
//! goes.

use std::io::Write;
use std::thread;

use anyhow::{Context, Result, anyhow, ensure};
use evenkeel_lab::bench::SERVERS;
use evenkeel_lab::{sandbox, wait};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

use crate::world::{SHOW, WEB, World, answer_as, ask, hear};

/// Connections of each test, a multiple of every round.
const CONNECTIONS: usize = 600;

/// Two CPUs that this process may use, or one twice.
fn two_cpus() -> Result<[usize; 2]> {
    let allowed = sched_getaffinity(Pid::from_raw(0))?;
    let cpus: Vec<usize> = (0..CpuSet::count())
        .filter(|&cpu| allowed.is_set(cpu) == Ok(true))
        .collect();
    match cpus.as_slice() {
        [first, .., last] => Ok([*first, *last]),
        [only] => Ok([*only; 2]),
        [] => Err(anyhow!("no CPU")),
    }
}

/// Opens connections from two CPUs at once.
fn connect_from_two_cpus(world: &World) -> Result<()> {
    let cpus = two_cpus()?;
    thread::scope(|scope| {
        let threads = cpus.map(|cpu| {
            scope.spawn(move || -> Result<()> {
                let mut only = CpuSet::new();
                only.set(cpu)?;
                // Threads that it starts stay there as well.
                sched_setaffinity(Pid::from_raw(0), &only)?;
                (0..CONNECTIONS / cpus.len()).try_for_each(|_| world.connect().map(drop))
            })
        });
        threads.into_iter().try_for_each(|thread| {
            let joined = thread.join();
            joined.map_err(|_| anyhow!("a client's thread panicked"))?
        })
    })
}

/// Connections that each server was given, in the order of `ports`.
fn given(world: &World, ports: [u16; 3]) -> Result<[u64; 3]> {
    let service = world.service(80)?;
    let mut counts = [0; 3];
    for (count, port) in counts.iter_mut().zip(ports) {
        let server = service
            .servers
            .iter()
            .find(|server| server.key.port == port);
        *count = server.context("no such server")?.stats.connections;
    }
    Ok(counts)
}

#[test]
fn round_robin_is_exact_over_all_cpus() {
    sandbox::run_test(|| {
        let world = World::start("")?;
        let ports = [8001, 8002, 8003];
        let hosts = [
            (&world.servers[0], SERVERS[0]),
            (&world.servers[0], SERVERS[0]),
            (&world.servers[1], SERVERS[1]),
        ];
        for (scheduler, weights, expected) in [
            ("wrr", [3, 2, 1], [300, 200, 100]),
            ("rr", [3, 2, 1], [200; 3]),
        ] {
            world.admin(&["ipvsadm -C", &format!("ipvsadm -A -t {WEB} -s {scheduler}")])?;
            for (((host, address), port), weight) in hosts.into_iter().zip(ports).zip(weights) {
                if scheduler == "wrr" {
                    answer_as(host, address, port, 1)?;
                }
                world.admin(&[&format!(
                    "ipvsadm -a -t {WEB} -r {address}:{port} -m -w {weight}"
                )])?;
            }
            world.wait_for_hops()?;
            // A server that is added again brings what was counted before.
            let before = given(&world, ports)?;
            connect_from_two_cpus(&world)?;
            let mut counts = given(&world, ports)?;
            for (count, before) in counts.iter_mut().zip(before) {
                *count -= before;
            }
            ensure!(
                counts == expected,
                "{scheduler} gave {counts:?}, not {expected:?}"
            );
        }
        Ok(())
    });
}

#[test]
fn a_server_is_quiesced_deleted_and_added_again() {
    sandbox::run_test(|| {
        let world = World::start("")?;
        world.serve_identities()?;
        let [mut first, mut second] = world.connect_to_each()?;
        let server = format!("-t {WEB} -r {}:8080", SERVERS[0]);

        world.admin(&[&format!("ipvsadm -e {server} -m -w 0")])?;
        for _ in 0..10 {
            let (_, identity) = world.connect()?;
            ensure!(identity == 2, "a new connection for the quiesced server");
        }
        ensure!(ask(&mut first)? == 1 && ask(&mut second)? == 2);

        let connections = world
            .service(80)?
            .servers
            .iter()
            .map(|s| s.stats.connections)
            .max();
        ensure!(connections >= Some(11));
        let before = world.reason("server_gone")?;
        world.admin(&[&format!("ipvsadm -d {server}")])?;
        first.write_all(b"?")?;
        wait::until(SHOW, "a dropped packet", || {
            match world.reason("server_gone") {
                Ok(count) if count > before => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })?;
        ensure!(ask(&mut second)? == 2);
        for _ in 0..3 {
            ensure!(world.connect()?.1 == 2);
        }

        // What was dropped is sent again, and now it is answered.
        world.admin(&[&format!("ipvsadm -a {server} -m")])?;
        ensure!(hear(&mut first)? == 1);
        ensure!(ask(&mut first)? == 1);
        let revived = world.service(80)?;
        let revived = revived
            .servers
            .iter()
            .find(|s| s.key.address == SERVERS[0])
            .context("the server is not there")?;
        ensure!(
            revived.active == 1 && revived.stats.connections == 1,
            "its connection is not counted any more: {revived:?}"
        );
        let identities = [world.connect()?.1, world.connect()?.1];
        ensure!(identities.contains(&1), "{identities:?}");
        Ok(())
    });
}
