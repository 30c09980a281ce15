//! Clients whose packets come out of a tunnel that ends on the director. The tunnel is of
//! VXLAN's generic kind, whose packets have no Ethernet header inside; answers come to the
//! clients without it.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv6Addr, Shutdown, SocketAddr, TcpStream};
use std::thread;

use anyhow::{Result, ensure};
use evenkeel_lab::bench::{CLIENT, CLIENT_PORT, SERVERS, VIP};
use evenkeel_lab::host::Host;
use evenkeel_lab::sandbox;

use super::icmp::ping;
use super::local::{answers_datagrams, echo, is_refused, wait_for_egress};
use super::world::{ANSWER, WEB, World, answer_as, ask, connect, listen, run};

/// Where the tunnel ends, and where it comes from.
const DIRECTOR: &str = "10.10.0.1";
const DIRECTOR6: &str = "fd10::1";
const CLIENT6: &str = "fd10::2";
const SERVER6: Ipv6Addr = Ipv6Addr::new(0xfd20, 0, 0, 0, 0, 0, 0, 2);
const VIP6: Ipv6Addr = Ipv6Addr::new(0xfd99, 0, 0, 0, 0, 0, 0, 1);
/// The tunnel's device, at both ends. What it carries has room in a frame.
const DEVICE: &str = "ip link add vx0 mtu 1400 type vxlan dstport 4790 external gpe && \
                      ip link set vx0 up";

/// Bytes that are much for a connection.
const MUCH: usize = 4 << 20;

/// Makes the tunnel, by which the client reaches these addresses.
fn tunnel(world: &World, to: &[&str]) -> Result<()> {
    for host in [world.director.host(), &world.client] {
        run(host, DEVICE)?;
    }
    lead_by_tunnel(world, to)
}

/// Has the client reach these addresses by the tunnel, which is there.
fn lead_by_tunnel(world: &World, to: &[&str]) -> Result<()> {
    for to in to {
        let source = if to.contains(':') {
            CLIENT6.to_owned()
        } else {
            CLIENT.to_string()
        };
        run(
            &world.client,
            &format!("ip route replace {to} encap ip id 7 dst {DIRECTOR} dev vx0 src {source}"),
        )?;
    }
    Ok(())
}

/// A world whose client reaches the services by the tunnel.
fn world(configuration: &str) -> Result<World> {
    let world = World::start(configuration)?;
    tunnel(&world, &[&VIP.to_string()])?;
    Ok(world)
}

/// Waits until the tunnel's end is attached to.
fn wait_for_tunnel(world: &World) -> Result<()> {
    let is_attached = |status: &evenkeel_api::Status| {
        let mut interfaces = status.interfaces.iter();
        interfaces.any(|known| known.name == "vx0" && known.hook.starts_with("tc ("))
    };
    world
        .wait_for_status("the program at the tunnel's end", is_attached)
        .map(drop)
}

/// Packets that have come out of the tunnel.
fn received(host: &Host) -> Result<u64> {
    let count = run(host, "cat /sys/class/net/vx0/statistics/rx_packets")?;
    Ok(count.trim().parse()?)
}

#[test]
fn what_comes_out_of_a_tunnel_is_scheduled() {
    sandbox::run_test(|| {
        let world = world("")?;
        wait_for_tunnel(&world)?;
        world.serve_identities()?;
        let before = received(world.director.host())?;
        let mut held = world.connect_to_each()?;
        for (stream, identity) in held.iter_mut().zip([1, 2]) {
            for _ in 0..3 {
                ensure!(ask(stream)? == identity, "somebody else's answer");
            }
        }
        ensure!(received(world.director.host())? >= before + 8);
        // What this tunnel comes in, IPVS knows: it is no matter of this setting.
        let output = world
            .director
            .shell("evenkeel settings ignore_tunneled=1")?;
        ensure!(output.status == 0, "{output}");
        ensure!(!output.stderr.contains("no effect"), "{output}");
        world.connect_to_each()?;
        wait_for_tunnel(&world)
    });
}

#[test]
fn the_configuration_limits_tunnels_too() {
    sandbox::run_test(|| {
        let interfaces = "interfaces = [\"ec\", \"e1\", \"e2\"]";
        let world = world(&format!("[dataplane]\n{interfaces}\n"))?;
        world.serve_identities()?;
        let refused = world
            .client
            .within(|| TcpStream::connect_timeout(&WEB, ANSWER))?;
        ensure!(refused.is_err(), "it was scheduled");
        let status = world.status()?;
        ensure!(status.interfaces.iter().all(|known| known.name != "vx0"));
        run(&world.client, &format!("ip route del {VIP}"))?;
        world.connect().map(drop)
    });
}

#[test]
fn much_comes_out_of_a_tunnel_at_once() {
    sandbox::run_test(|| {
        let world = world("")?;
        wait_for_tunnel(&world)?;
        let byte = |at: usize| (at % 251) as u8;
        for (host, address) in world.servers.iter().zip(SERVERS) {
            let listener = listen(host, address, 8080)?;
            thread::spawn(move || -> Result<()> {
                loop {
                    let (mut stream, _) = listener.accept()?;
                    let mut all = Vec::new();
                    stream.read_to_end(&mut all)?;
                    all.reverse();
                    stream.write_all(&all)?;
                }
            });
        }
        for method in ["-m", "--full-nat"] {
            world.admin(&[
                "ipvsadm -C",
                &format!("ipvsadm -A -t {WEB} -s rr"),
                &format!("ipvsadm -a -t {WEB} -r {}:8080 {method}", SERVERS[0]),
                &format!("ipvsadm -a -t {WEB} -r {}:8080 {method}", SERVERS[1]),
            ])?;
            world.wait_for_hops()?;
            let mut stream = connect(&world.client, WEB)?;
            let all: Vec<u8> = (0..MUCH).map(byte).collect();
            stream.write_all(&all)?;
            stream.shutdown(Shutdown::Write)?;
            let mut back = Vec::new();
            stream.read_to_end(&mut back)?;
            ensure!(back.len() == MUCH, "{method}: {} bytes came", back.len());
            ensure!(back.iter().rev().eq(&all), "{method}: other bytes came");
        }
        Ok(())
    });
}

#[test]
fn datagrams_and_answers_to_them() {
    sandbox::run_test(|| {
        let world = world("")?;
        wait_for_tunnel(&world)?;
        echo(&world.servers[0], SERVERS[0].into(), 5353)?;
        echo(world.director.host(), DIRECTOR.parse()?, 5353)?;
        world.admin(&[
            &format!("ipvsadm -A -u {VIP}:53 -s rr"),
            &format!("ipvsadm -a -u {VIP}:53 -r {}:5353 -m", SERVERS[0]),
            &format!("ipvsadm -A -u {VIP}:55 -s rr"),
            &format!("ipvsadm -a -u {VIP}:55 -r {DIRECTOR}:5353 -m"),
            // Nobody serves this one: the packet path itself says so, without the tunnel.
            &format!("ipvsadm -A -u {VIP}:54 -s rr"),
        ])?;
        world.wait_for_hops()?;
        wait_for_egress(&world, true)?;
        answers_datagrams(&world.client, SocketAddr::from((VIP, 53)))?;
        answers_datagrams(&world.client, SocketAddr::from((VIP, 55)))?;
        is_refused(&world.client, SocketAddr::from((VIP, 54)))?;
        ensure!(world.reason("answered")? >= 1);
        Ok(())
    });
}

/// The client's address inside the tunnel, which answers go to by the tunnel.
const INSIDE: [&str; 2] = ["10.77.0.2", "fd77::2"];

/// A world whose client has addresses of its own in the tunnel, by which it reaches the
/// services of the director.
fn both_ways() -> Result<World> {
    let world = world("")?;
    let both = [
        (INSIDE[0], VIP.to_string(), ""),
        (INSIDE[1], VIP6.to_string(), "nodad"),
    ];
    for (inside, vip, nodad) in both {
        let address = format!("ip address add {inside} dev vx0 {nodad}");
        let there = format!("encap ip id 7 dst {DIRECTOR} dev vx0 src {inside}");
        run(
            &world.client,
            &format!("{address} && ip route replace {vip} {there}"),
        )?;
        let back = format!("ip route add {inside} encap ip id 7 dst {CLIENT} dev vx0");
        run(world.director.host(), &back)?;
    }
    wait_for_tunnel(&world)?;
    Ok(world)
}

#[test]
fn servers_on_the_director_answer_by_the_tunnel() {
    sandbox::run_test(|| {
        const OWN6: Ipv6Addr = Ipv6Addr::new(0xfd20, 0, 0, 0, 0, 0, 0, 1);
        let world = both_ways()?;
        let host = world.director.host();
        run(host, &format!("ip -6 address add {OWN6}/64 dev e1 nodad"))?;
        let own: [IpAddr; 2] = ["10.20.1.1".parse()?, OWN6.into()];
        for (own, vip) in own.into_iter().zip([IpAddr::from(VIP), VIP6.into()]) {
            let at = |address, port| SocketAddr::new(address, port);
            let service = |port, kind| format!("ipvsadm -A {kind} {} -s rr", at(vip, port));
            let server = |port, kind, to| {
                let (service, server) = (at(vip, port), at(own, to));
                format!("ipvsadm -a {kind} {service} -r {server} -m")
            };
            echo(host, own, 5353)?;
            answer_as(host, own, 8080, 3)?;
            let listener = listen(host, own, 8081)?;
            thread::spawn(move || -> Result<()> {
                let (mut stream, _) = listener.accept()?;
                stream.write_all(&vec![7; MUCH])?;
                Ok(())
            });
            world.admin(&[
                &service(80, "-t"),
                &server(80, "-t", 8080),
                &service(81, "-t"),
                &server(81, "-t", 8081),
                &service(53, "-u"),
                &server(53, "-u", 5353),
                &service(54, "-u"),
                &server(54, "-u", 5454),
            ])?;
            wait_for_egress(&world, true)?;
            let mut stream = connect(&world.client, at(vip, 80))?;
            for _ in 0..3 {
                ensure!(ask(&mut stream)? == 3, "somebody else's answer");
            }
            let mut all = Vec::new();
            connect(&world.client, at(vip, 81))?.read_to_end(&mut all)?;
            ensure!(all.len() == MUCH && all.iter().all(|&byte| byte == 7));
            answers_datagrams(&world.client, at(vip, 53))?;
            is_refused(&world.client, at(vip, 54))?;
        }
        // What is not of a service goes its way as it is.
        run(
            &world.client,
            &format!(
                "ip route replace 10.20.1.1/32 encap ip id 7 dst {DIRECTOR} dev vx0 src {}",
                INSIDE[0]
            ),
        )?;
        let direct = SocketAddr::new("10.20.1.1".parse()?, 8080);
        ensure!(ask(&mut connect(&world.client, direct)?)? == 3);
        ping(&world.client, "10.20.1.1".parse()?)
    });
}

#[test]
fn what_is_nobodys_goes_on_to_the_stack() {
    sandbox::run_test(|| {
        let world = world("")?;
        wait_for_tunnel(&world)?;
        world.serve_identities()?;
        let [near, far] = SERVERS;
        lead_by_tunnel(&world, &["10.20.1.1/32", &near.to_string()])?;
        // To the director, through it to a server, and to a server's port.
        ping(&world.client, "10.20.1.1".parse()?)?;
        ping(&world.client, near)?;
        let direct = SocketAddr::from((near, 8080));
        ensure!(ask(&mut connect(&world.client, direct)?)? == 1);
        let beside = SocketAddr::from((far, 8080));
        ensure!(ask(&mut connect(&world.client, beside)?)? == 2);
        Ok(())
    });
}

#[test]
fn ipv6_comes_out_of_a_tunnel_too() {
    sandbox::run_test(|| {
        let world = World::start("")?;
        let (client, director) = (&world.client, world.director.host());
        for (host, address) in [(director, DIRECTOR6), (client, CLIENT6)] {
            let line = format!("ip -6 address add {address}/64 dev {CLIENT_PORT} nodad");
            run(host, &line)?;
        }
        run(director, "ip -6 address add fd20::1/64 dev e1 nodad")?;
        run(director, "echo 1 >/proc/sys/net/ipv6/conf/all/forwarding")?;
        let server = &world.servers[0];
        run(
            server,
            &format!("ip -6 address add {SERVER6}/64 dev e1 nodad"),
        )?;
        run(server, "ip -6 route add default via fd20::1")?;
        tunnel(&world, &[&VIP6.to_string()])?;
        wait_for_tunnel(&world)?;
        answer_as(server, SERVER6, 8080, 1)?;
        echo(server, SERVER6.into(), 5353)?;
        world.admin(&[
            &format!("ipvsadm -A -t [{VIP6}]:80 -s rr"),
            &format!("ipvsadm -a -t [{VIP6}]:80 -r [{SERVER6}]:8080 -m"),
            &format!("ipvsadm -A -u [{VIP6}]:53 -s rr"),
            &format!("ipvsadm -a -u [{VIP6}]:53 -r [{SERVER6}]:5353 -m"),
            &format!("ipvsadm -A -u [{VIP6}]:54 -s rr"),
        ])?;
        world.wait_for_hops()?;
        let to = SocketAddr::from((VIP6, 80));
        ensure!(ask(&mut connect(client, to)?)? == 1);
        answers_datagrams(client, SocketAddr::from((VIP6, 53)))?;
        is_refused(client, SocketAddr::from((VIP6, 54)))
    });
}
