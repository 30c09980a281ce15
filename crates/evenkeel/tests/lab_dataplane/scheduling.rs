//! Which server a connection is given, and what becomes of it when the server
//! goes.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::thread;

use anyhow::{Context, Result, anyhow, ensure};
use evenkeel_lab::bench::{CLIENT, SERVERS};
use evenkeel_lab::host::Host;
use evenkeel_lab::{sandbox, wait};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use socket2::{Domain, Socket, Type};

use crate::world::{ANSWER, SHOW, WEB, World, answer_as, ask, hear, listen, run};

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

/// Rounds of every port of the client.
const ROUNDS: usize = 100;
/// Ports that it uses again and again.
const PORTS: std::ops::RangeInclusive<u16> = 4000..=4003;

/// A server that says who it is and closes first, so that it and the director remember
/// the connection, and the client does not.
fn answer_and_close(host: &Host, address: Ipv4Addr, identity: u8) -> Result<()> {
    let listener = listen(host, address, 8080)?;
    thread::spawn(move || -> Result<()> {
        loop {
            let (mut stream, _) = listener.accept()?;
            stream.write_all(&[identity])?;
        }
    });
    Ok(())
}

/// A connection from this port, to its end.
fn connect_from(world: &World, port: u16) -> Result<u8> {
    let mut stream = world.client.within(|| -> Result<TcpStream> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.bind(&SocketAddr::new(CLIENT.into(), port).into())?;
        socket.connect_timeout(&WEB.into(), ANSWER)?;
        Ok(socket.into())
    })??;
    stream.set_read_timeout(Some(ANSWER))?;
    let mut all = Vec::new();
    stream.read_to_end(&mut all)?;
    match all[..] {
        [identity] => Ok(identity),
        _ => Err(anyhow!("{all:?}")),
    }
}

/// Segments that the client had to send again.
fn sent_again(world: &World) -> Result<u64> {
    let text = run(&world.client, "nstat -asz TcpRetransSegs")?;
    let mut number = text
        .lines()
        .filter_map(|line| line.split_whitespace().nth(1));
    let number = number.next_back().and_then(|word| word.parse().ok());
    number.with_context(|| format!("no count: {text}"))
}

#[test]
fn ports_that_are_used_again_wait_for_nothing() {
    sandbox::run_test(|| {
        let world = World::start("[compat]\nipvsadm = \"none\"\n")?;
        for (identity, (host, address)) in (1..).zip(world.servers.iter().zip(SERVERS)) {
            answer_and_close(host, address, identity)?;
        }
        world.serve_web(8080)?;
        world.wait_for_hops()?;
        let mut seen = Vec::new();
        let again = sent_again(&world)?;
        for round in 0..ROUNDS {
            if round == ROUNDS / 2 {
                ensure!(seen.contains(&1) && seen.contains(&2));
                world.admin(&[&format!(
                    "ipvsadm -e -t {WEB} -r {}:8080 -m -w 0",
                    SERVERS[0]
                )])?;
                seen.clear();
            }
            for port in PORTS {
                seen.push(connect_from(&world, port)?);
            }
        }
        // Nobody is led to the server that takes no more, as he was before.
        ensure!(!seen.contains(&1), "{seen:?}");
        ensure!(world.reason("port_reused")? > 0);
        ensure!(sent_again(&world)? == again, "nothing was sent twice");
        Ok(())
    });
}
