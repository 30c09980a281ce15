//! The network changes under the director: addresses, cables, interfaces.

use std::net::Ipv4Addr;
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use evenkeel_api::Status;
use evenkeel_core::model::Stats;
use evenkeel_lab::bench::{CLIENT, SERVERS, VIP};
use evenkeel_lab::host::Host;
use evenkeel_lab::{sandbox, wait};

use crate::icmp::ping;
use crate::world::{SHOW, START, WEB, World, answer_as, ask, connect, run};

/// The connection goes on within the deadline, and so do new ones.
fn goes_on(world: &World, held: &mut [TcpStream; 2], what: &str) -> Result<()> {
    for (identity, stream) in (1..).zip(held) {
        let answer = ask(stream).with_context(|| format!("{what}: connection {identity}"))?;
        ensure!(answer == identity);
    }
    let [_, _] = world
        .connect_to_each()
        .with_context(|| format!("{what}: new connections"))?;
    Ok(())
}

/// Gives an interface another MAC address, which its host announces as hosts with
/// `arp_notify` do.
fn change_mac(host: &Host, port: &str, mac: &str) -> Result<()> {
    let line = format!(
        "echo 1 > /proc/sys/net/ipv4/conf/{port}/arp_notify && ip link set {port} address {mac}"
    );
    run(host, &line).map(drop)
}

#[test]
fn next_hops_follow_the_network() {
    sandbox::run_test(|| {
        let world = World::start("")?;
        world.serve_identities()?;
        let mut held = world.connect_to_each()?;
        let [server, _] = &world.servers;

        change_mac(server, "e1", "02:00:00:00:0e:01")?;
        goes_on(&world, &mut held, "the server's MAC address has changed")?;
        change_mac(&world.client, "ec", "02:00:00:00:0e:0c")?;
        goes_on(&world, &mut held, "the client's MAC address has changed")?;
        change_mac(world.director.host(), "ec", "02:00:00:00:0e:dc")?;
        change_mac(world.director.host(), "e1", "02:00:00:00:0e:d1")?;
        goes_on(
            &world,
            &mut held,
            "the director's MAC addresses have changed",
        )?;

        run(server, "ip link set e1 down")?;
        world.wait_for_status("the server's next hop to go", |s| {
            s.servers_without_hop == 1
        })?;
        run(
            server,
            "ip link set e1 up && ip route replace default via 10.20.1.1",
        )?;
        world.wait_for_hops()?;
        goes_on(&world, &mut held, "the server's interface was down")
    });
}

fn hook<'a>(status: &'a Status, interface: &str) -> Option<&'a str> {
    let found = status.interfaces.iter().find(|i| i.name == interface);
    found.map(|interface| interface.hook.as_str())
}

#[test]
fn interfaces_come_and_go() {
    sandbox::run_test(|| {
        let world = World::start("")?;
        world.serve_identities()?;
        let (director, server) = (world.director.host(), &world.servers[1]);
        let cable = format!(
            "ip link add e3 netns {} type veth peer name e3 netns {}",
            director.name(),
            server.name()
        );
        let status = Command::new("sh").args(["-c", &cable]).status()?;
        ensure!(status.success(), "{cable}: {status}");
        run(
            director,
            "ip address add 10.20.3.1/24 dev e3 && ip link set e3 up",
        )?;
        run(
            server,
            "ip address add 10.20.3.2/24 dev e3 && ip link set e3 up",
        )?;
        world.wait_for_status("e3 to be attached", |status| {
            hook(status, "e3").is_some_and(|hook| hook.starts_with("tc ("))
        })?;
        let shown = world.director.shell("evenkeel status")?;
        ensure!(shown.stdout.contains("\n  e3  tc ("), "{shown}");

        let third = Ipv4Addr::new(10, 20, 3, 2);
        answer_as(server, third, 8080, 3)?;
        world.admin(&[
            &format!("ipvsadm -a -t {WEB} -r {third}:8080 -m"),
            &format!("ipvsadm -d -t {WEB} -r {}:8080", SERVERS[0]),
            &format!("ipvsadm -d -t {WEB} -r {}:8080", SERVERS[1]),
        ])?;
        // At once: the kernel resolves its MAC address if the daemon has not yet.
        let (mut stream, identity) = world.connect()?;
        ensure!(identity == 3);
        world.wait_for_hops()?;
        ensure!(ask(&mut stream)? == 3);

        run(director, "ip link delete e3")?;
        let status = world.wait_for_status("e3 to be forgotten", |s| hook(s, "e3").is_none())?;
        ensure!(
            ["ec", "e1", "e2"]
                .iter()
                .all(|name| hook(&status, name).is_some()),
            "{status:?}"
        );
        Ok(())
    });
}

#[test]
fn hooks_and_interfaces_are_chosen_at_each_start() {
    sandbox::run_test(|| {
        let mut world = World::build()?;
        let words = ["--hook", "xdp", "--interface", "ec", "--interface", "e1"];
        world.director.run_with(&words);
        world.director.start_daemon(START)?;
        let shown = world.director.shell("evenkeel status")?;
        for name in ["ec", "e1"] {
            let line = line_of(&shown.stdout, name).with_context(|| shown.to_string())?;
            ensure!(
                line.contains("xdp+tc (") && line.contains("the configuration says hook = xdp"),
                "{line}"
            );
        }
        ensure!(line_of(&shown.stdout, "e2").is_none(), "{shown}");
        ensure!(xdp(&world, "ec")? && !xdp(&world, "e2")?);

        world.director.kill_daemon()?;
        world.director.run_with(&["--hook", "tc"]);
        world.director.start_daemon(START)?;
        let shown = world.director.shell("evenkeel status")?;
        for name in ["ec", "e1", "e2"] {
            let line = line_of(&shown.stdout, name).with_context(|| shown.to_string())?;
            ensure!(
                line.contains("  tc (") && line.ends_with("the configuration says hook = tc"),
                "{line}"
            );
        }
        ensure!(!xdp(&world, "ec")?, "XDP is still on ec");
        Ok(())
    });
}

/// An interface's line in what `evenkeel status` prints.
fn line_of<'a>(page: &'a str, interface: &str) -> Option<&'a str> {
    page.lines()
        .find(|line| line.starts_with(&format!("  {interface} ")))
}

/// True: there is an XDP program on a port of the director.
fn xdp(world: &World, port: &str) -> Result<bool> {
    let shown = run(world.director.host(), &format!("ip link show dev {port}"))?;
    Ok(shown.contains("xdp"))
}

/// True: the kernel knows VLAN interfaces (`CONFIG_VLAN_8021Q`).
fn has_vlans(host: &Host) -> Result<bool> {
    let line = "ip link add link ec name probe type vlan id 7 && ip link delete probe";
    let output = host.output(Command::new("sh").args(["-c", line]))?;
    let error = String::from_utf8_lossy(&output.stderr);
    match output.status.success() {
        true => Ok(true),
        false if error.contains("Unknown device type") => Ok(false),
        false => bail!("{line}: {error}"),
    }
}

/// The client reaches the director, and a service, by frames with a tag.
fn through_a_vlan(world: &World) -> Result<()> {
    let (client, director) = (&world.client, world.director.host());
    for (host, last) in [(client, 2), (director, 1)] {
        let line = format!(
            "ip link add link ec name ec.7 type vlan id 7 && \
             ip address add 10.77.0.{last}/24 dev ec.7 && ip link set ec.7 up"
        );
        run(host, &line)?;
    }
    world.wait_for_status("ec.7 to be attached", |status| {
        status
            .interfaces
            .iter()
            .any(|i| i.name == "ec.7" && i.hook != "none")
    })?;

    // The director itself, by tagged frames.
    ping(client, [10, 77, 0, 1].into())?;
    let own = SocketAddr::from(([10, 77, 0, 1], 9000));
    answer_as(director, [10, 77, 0, 1], 9000, 77)?;
    ensure!(ask(&mut connect(client, own)?)? == 77);

    // A service on that address: it is the packet path's behind the tag.
    let service = SocketAddr::from(([10, 77, 0, 1], 80));
    world.admin(&[
        &format!("ipvsadm -A -t {service} -s rr"),
        &format!("ipvsadm -a -t {service} -r {}:8080 -m", SERVERS[1]),
    ])?;
    ensure!(ask(&mut connect(client, service)?)? == 2);
    Ok(())
}

fn others_frames_pass(hook: &str) -> Result<()> {
    let world = World::start(&format!("[dataplane]\nhook = \"{hook}\"\n"))?;
    world.serve_identities()?;
    let client = &world.client;
    if has_vlans(client)? {
        through_a_vlan(&world)?;
    } else {
        println!("not tried: this kernel has no VLAN interfaces");
    }

    // What is no service's business is routed as ever.
    answer_as(&world.servers[0], SERVERS[0], 9001, 91)?;
    let beside = SocketAddr::from((SERVERS[0], 9001));
    ensure!(ask(&mut connect(client, beside)?)? == 91);

    // A frame to somebody else's MAC address.
    let dns = SocketAddr::from((VIP, 53));
    world.admin(&[
        &format!("ipvsadm -A -u {dns} -s rr"),
        &format!("ipvsadm -a -u {dns} -r {}:53 -m", SERVERS[0]),
    ])?;
    run(
        client,
        "ip neighbour replace 10.10.0.1 lladdr 02:00:00:00:00:99 nud permanent dev ec",
    )?;
    let socket = client.within(|| UdpSocket::bind((CLIENT, 0)))??;
    socket.send_to(b"not for you", dns)?;
    wait::until(SHOW, "the frame to be seen", || {
        match world.reason("other_host") {
            Ok(count) if count > 0 => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })?;
    let counted = world.service(53)?.stats;
    ensure!(
        counted == Stats::default(),
        "a frame for another host was counted: {counted:?}"
    );
    Ok(())
}

#[test]
fn others_frames_pass_at_tc() {
    sandbox::run_test(|| others_frames_pass("tc"));
}

#[test]
fn others_frames_pass_at_xdp() {
    sandbox::run_test(|| others_frames_pass("xdp"));
}
