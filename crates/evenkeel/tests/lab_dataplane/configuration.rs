//! What stands in the configuration file, and settings that change at run time.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::ops::RangeInclusive;
use std::sync::mpsc;
use std::thread;

use anyhow::{Context, Result, ensure};
use evenkeel_api::paths;
use evenkeel_lab::bench::{SERVER_PORTS, SERVERS, VIP};
use evenkeel_lab::{sandbox, wait};

use crate::world::{ANSWER, SHOW, START, WEB, World, answer_as, ask, connect, hear, listen, run};

/// The director's address towards the client.
const DIRECTOR: Ipv4Addr = Ipv4Addr::new(10, 10, 0, 1);

/// The service of most tests, with these of the two servers.
fn services(servers: &[usize]) -> String {
    let servers = servers.iter().map(|&number| {
        let address = SERVERS[number];
        format!("[[service.server]]\naddress = \"{address}\"\nport = 8080\n")
    });
    let servers: String = servers.collect();
    format!("[[service]]\naddress = \"{VIP}\"\nport = 80\nscheduler = \"rr\"\n{servers}")
}

/// A world whose director has the virtual address, and answers for it itself.
fn world(configuration: &str) -> Result<World> {
    let mut world = World::build()?;
    run(
        world.director.host(),
        &format!("ip address add {VIP}/32 dev lo"),
    )?;
    for (identity, (host, address)) in (1..).zip(world.servers.iter().zip(SERVERS)) {
        answer_as(host, address, 8080, identity)?;
    }
    world.director.configure(configuration)?;
    world.director.start_daemon(START)?;
    world.wait_for_hops()?;
    Ok(world)
}

fn restart(world: &mut World, configuration: &str) -> Result<()> {
    world.director.kill_daemon()?;
    world.director.configure(configuration)?;
    world.director.start_daemon(START)
}

/// Asks on a connection that nobody has any more.
fn is_reset(stream: &mut TcpStream) -> Result<()> {
    stream.write_all(b"?")?;
    match stream.read(&mut [0]) {
        Err(error) if error.kind() == ErrorKind::ConnectionReset => Ok(()),
        other => anyhow::bail!("not reset: {other:?}"),
    }
}

#[test]
fn services_of_the_file_are_there_and_follow_it() {
    sandbox::run_test(|| {
        let mut world = world(&services(&[0, 1]))?;
        let service = world.service(80)?;
        ensure!(service.configured && !service.compatible, "{service:?}");
        let [mut first, mut second] = world.connect_to_each()?;
        world.admin(&["ipvsadm -A -t 10.99.0.1:81 -s rr"])?;

        restart(&mut world, &services(&[1]))?;
        ensure!(world.status()?.adopted);
        ensure!(ask(&mut second)? == 2, "its connection goes on");
        ensure!(world.connect()?.1 == 2);
        is_reset(&mut first).context("the connection of the server that went")?;
        ensure!(!world.service(81)?.configured, "what was made by hand");

        // By hand, until the next start.
        world.admin(&["ipvsadm -C"])?;
        restart(&mut world, &services(&[0, 1]))?;
        ensure!(world.service(80)?.servers.len() == 2);
        ensure!(world.service(81).is_err());
        world.wait_for_hops()?;
        world.connect_to_each().map(drop)
    });
}

#[test]
fn a_configuration_that_is_refused_leaves_nothing() {
    sandbox::run_test(|| {
        let small = format!("[dataplane]\nservers = 1\n{}", services(&[0, 1]));
        let mut world = World::build()?;
        world.director.configure(&small)?;
        let refused = match world.director.start_daemon(START) {
            Ok(()) => anyhow::bail!("it has started"),
            Err(error) => format!("{error:#}"),
        };
        ensure!(
            refused.contains(".toml:11:11: server 10.20.2.2:8080")
                && refused.contains("no room for more servers"),
            "{refused}"
        );
        let pins = paths::pins(paths::DEFAULT_INSTANCE);
        let list = run(world.director.host(), &format!("ls -A {}", pins.display()));
        ensure!(list.as_deref().unwrap_or("").is_empty(), "{list:?}");
        world.director.configure(&services(&[0, 1]))?;
        world.director.start_daemon(START)?;
        ensure!(!world.status()?.adopted);
        ensure!(world.service(80)?.servers.len() == 2);
        Ok(())
    });
}

#[test]
fn settings_change_what_becomes_of_packets() {
    sandbox::run_test(|| {
        let text = "[ipvs]\nconntrack = 1\n[[mark]]\nmark = 1\ninterface = \"nosuch\"\n";
        let mut world = world(text)?;
        let log = world.director.log_tail();
        for warning in [
            "net.ipv4.vs.conntrack = 1 has no effect",
            "nosuch: there is no such interface now; [[mark]] waits for it",
        ] {
            ensure!(log.contains(warning), "{log}");
        }
        world.serve_web(8080)?;
        world.wait_for_hops()?;
        let [mut first, mut second] = world.connect_to_each()?;
        let before = world.reason("server_gone")?;
        world.admin(&[&format!("ipvsadm -d -t {WEB} -r {}:8080", SERVERS[0])])?;
        first.write_all(b"?")?;
        wait::until(SHOW, "a dropped packet", || {
            match world.reason("server_gone") {
                Ok(count) if count > before => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })?;
        let set = world
            .director
            .shell("evenkeel settings net.ipv4.vs.expire_nodest_conn=1")?;
        ensure!(
            set.stdout == "net.ipv4.vs.expire_nodest_conn = 1\n",
            "{set}"
        );
        // What was dropped is sent again, and nobody knows it now.
        match first.read(&mut [0]) {
            Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
            other => anyhow::bail!("not reset: {other:?}"),
        }
        ensure!(ask(&mut second)? == 2);
        restart(&mut world, "")?;
        let kept = world.director.shell("evenkeel settings --json")?;
        ensure!(
            kept.stdout.contains("\"value\": 1") && kept.status == 0,
            "{kept}"
        );
        let one = world
            .director
            .shell("evenkeel settings expire_nodest_conn")?;
        ensure!(
            one.stdout.contains("net.ipv4.vs.expire_nodest_conn      1"),
            "{one}"
        );
        Ok(())
    });
}

/// Whom a server sees, connection by connection.
fn peers(world: &World) -> Result<mpsc::Receiver<SocketAddr>> {
    let listener = listen(&world.servers[0], SERVERS[0], 9000)?;
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || -> Result<()> {
        loop {
            let (mut stream, peer) = listener.accept()?;
            stream.write_all(&[7])?;
            sender.send(peer)?;
        }
    });
    Ok(receiver)
}

#[test]
fn servers_see_the_pool_of_source_nat() {
    const PORTS: RangeInclusive<u16> = 20_000..=20_999;
    sandbox::run_test(|| {
        let pool = |address: &str, ports: &RangeInclusive<u16>| {
            let (low, high) = (ports.start(), ports.end());
            let server = SERVERS[0];
            format!(
                "[source_nat]\naddresses = [\"{address}\"]\nports = \"{low}-{high}\"\n\
                 [[service]]\naddress = \"{VIP}\"\nport = 90\n\
                 [[service.server]]\naddress = \"{server}\"\nport = 9000\nmethod = \"full-nat\"\n"
            )
        };
        let mut world = World::build()?;
        run(
            world.director.host(),
            &format!("ip address add 10.20.1.7/32 dev {}", SERVER_PORTS[0]),
        )?;
        world.director.configure(&pool("10.20.1.7", &PORTS))?;
        world.director.start_daemon(START)?;
        world.wait_for_hops()?;
        let log = world.director.log_tail();
        ensure!(
            log.contains("this machine gives 20000 and"),
            "the machine's own ports: {log}"
        );
        ensure!(!log.contains("no address of this machine"), "{log}");
        let peers = peers(&world)?;
        let service = SocketAddr::new(VIP.into(), 90);
        let mut held = Vec::new();
        for _ in 0..8 {
            let mut stream = connect(&world.client, service)?;
            ensure!(hear(&mut stream)? == 7);
            let peer = peers.recv_timeout(ANSWER).context("nobody came")?;
            ensure!(
                peer.ip().to_string() == "10.20.1.7" && PORTS.contains(&peer.port()),
                "{peer}"
            );
            ensure!(
                !held.iter().any(|(_, other)| *other == peer),
                "{peer} twice"
            );
            held.push((stream, peer));
        }
        restart(&mut world, &pool("10.77.0.1", &PORTS))?;
        let log = world.director.log_tail();
        ensure!(
            log.contains("10.77.0.1 of [source_nat] is no address of this machine"),
            "{log}"
        );
        Ok(())
    });
}

#[test]
fn on_a_closed_address_only_services_are_reached() {
    sandbox::run_test(|| {
        let mut world = world(&services(&[0, 1]))?;
        let own = SocketAddr::new(VIP.into(), 2200);
        let listener = listen(world.director.host(), Ipv4Addr::UNSPECIFIED, own.port())?;
        thread::spawn(move || listener.incoming().for_each(drop));
        connect(&world.client, own)?;
        world.connect()?;

        let closed = format!("[closed]\naddresses = [\"{VIP}\"]\n{}", services(&[0, 1]));
        restart(&mut world, &closed)?;
        let refused = world
            .client
            .within(|| TcpStream::connect_timeout(&own, ANSWER))?;
        let kind = refused.err().map(|error| error.kind());
        ensure!(
            kind == Some(ErrorKind::ConnectionRefused),
            "{kind:?} {:?} {}",
            world.status()?.reasons,
            world
                .director
                .shell("evenkeel trace 10.10.0.2 10.99.0.1:2200; evenkeel services")?
        );
        ensure!(world.reason("no_server")? > 0);
        world.connect()?;
        // By its other addresses it is there as before.
        connect(&world.client, (DIRECTOR, own.port()).into())?;

        restart(&mut world, &services(&[0, 1]))?;
        connect(&world.client, own)?;
        Ok(())
    });
}

/// Answers on a host: each datagram with `identity`.
fn answer_datagrams(world: &World, number: usize, identity: u8) -> Result<()> {
    let socket = world.servers[number].within(|| UdpSocket::bind((SERVERS[number], 5300)))??;
    thread::spawn(move || -> Result<()> {
        loop {
            let (_, from) = socket.recv_from(&mut [0; 16])?;
            socket.send_to(&[identity], from)?;
        }
    });
    Ok(())
}

#[test]
fn a_udp_flow_leaves_a_quiesced_server_when_it_pauses() {
    sandbox::run_test(|| {
        let text = |weight: u32| {
            let [first, second] = SERVERS;
            format!(
                "[timeouts]\nudp_quiesced = 1\n[[service]]\naddress = \"{VIP}\"\nport = 53\n\
                 protocol = \"udp\"\nscheduler = \"fo\"\n\
                 [[service.server]]\naddress = \"{first}\"\nport = 5300\nweight = {weight}\n\
                 [[service.server]]\naddress = \"{second}\"\nport = 5300\nweight = 1\n"
            )
        };
        let mut world = World::start(&text(9))?;
        world.wait_for_hops()?;
        for (number, identity) in [(0, 1), (1, 2)] {
            answer_datagrams(&world, number, identity)?;
        }
        let socket = world.client.within(|| UdpSocket::bind("0.0.0.0:4000"))??;
        socket.set_read_timeout(Some(ANSWER))?;
        socket.connect((VIP, 53))?;
        let ask = || -> Result<u8> {
            socket.send(b"?")?;
            let mut answer = [0];
            socket.recv(&mut answer).context("no answer")?;
            Ok(answer[0])
        };
        ensure!(ask()? == 1);
        restart(&mut world, &text(0))?;
        ensure!(ask()? == 1, "it goes on while it does not pause");
        wait::until(SHOW, "the flow's end", || {
            let listed = world.director.shell("evenkeel conns --protocol udp --json");
            match listed {
                Ok(listed) if listed.status == 0 && listed.stdout.is_empty() => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })?;
        ensure!(ask()? == 2);
        Ok(())
    });
}
