//! The daemon finds the way to servers of both families, and those on its own machine.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use evenkeel_api::client::Client;
use evenkeel_api::paths::DEFAULT_INSTANCE;
use evenkeel_lab::director::Director;
use evenkeel_lab::topology::{Address, HostSpec, Segment, Topology, Wiring};
use evenkeel_lab::{sandbox, wait};

/// Longest that the daemon may take to come up, and a change to show.
const SHOW: Duration = Duration::from_secs(20);

/// Servers of one service each: on the director itself, beside it, behind a gateway.
const SERVERS: [&str; 6] = [
    "10.9.0.1:80",
    "10.9.0.2:80",
    "192.0.2.7:80",
    "[2001:db8:9::1]:80",
    "[2001:db8:9::2]:80",
    "[2001:db8:7::7]:80",
];

fn director() -> Result<Director> {
    let host = |name: &str, last: u8| {
        let address = Address::new([10, 9, 0, last], 24);
        HostSpec::single(name, "cable", "wire", address, None)
    };
    let topology = Topology {
        segments: vec![Segment {
            name: "wire".into(),
            wiring: Wiring::Cable,
        }],
        hosts: vec![host("director", 1), host("server", 2)],
    };
    let hosts = topology.build()?;
    let [director, server] = hosts.as_slice() else {
        bail!("the topology has two hosts");
    };
    let program = Path::new(env!("CARGO_BIN_EXE_evenkeel"));
    let server = Director::new(server.clone(), program, DEFAULT_INSTANCE)?;
    let director = Director::new(director.clone(), program, DEFAULT_INSTANCE)?;
    shell(&server, "ip address add 2001:db8:9::2/64 dev cable nodad")?;
    for line in [
        "ip address add 2001:db8:9::1/64 dev cable nodad",
        "ip route add 192.0.2.0/24 via 10.9.0.2",
        "ip route add 2001:db8:7::/64 via 2001:db8:9::2",
    ] {
        shell(&director, line)?;
    }
    Ok(director)
}

fn shell(host: &Director, line: &str) -> Result<()> {
    let output = host.shell(line)?;
    ensure!(output.status == 0, "{line}: {output}");
    Ok(())
}

fn wait_for(without_hop: u32) -> Result<()> {
    let client = Client::new(DEFAULT_INSTANCE);
    let what = format!("{without_hop} servers without a hop");
    wait::until(SHOW, &what, || match client.status() {
        Ok(status) if status.servers_without_hop == without_hop => Ok(()),
        Ok(status) => Err(format!("{}", status.servers_without_hop)),
        Err(error) => Err(error.to_string()),
    })
}

#[test]
fn ways_to_servers_of_both_families_are_followed() {
    sandbox::run_test(|| {
        let mut director = director()?;
        director.start_daemon(SHOW)?;
        shell(&director, "ipvsadm -A -t 10.0.0.10:80 -s rr")?;
        shell(&director, "ipvsadm -A -t [2001:db8::10]:80 -s rr")?;
        for server in SERVERS {
            let service = if server.starts_with('[') {
                "[2001:db8::10]:80"
            } else {
                "10.0.0.10:80"
            };
            shell(
                &director,
                &format!("ipvsadm -a -t {service} -r {server} -m"),
            )?;
        }
        // Neighbours are asked for, without a packet to them.
        wait_for(0)?;
        shell(&director, "ip -6 route del 2001:db8:7::/64")?;
        wait_for(1)?;
        shell(&director, "ip address del 2001:db8:9::1/64 dev cable")?;
        wait_for(3).context("an address that was the director's, and its network")?;
        shell(&director, "ip link set cable down")?;
        wait_for(5)?;
        shell(&director, "ip link set cable up")?;
        shell(&director, "ip address add 2001:db8:9::1/64 dev cable nodad")?;
        shell(&director, "ip route add 192.0.2.0/24 via 10.9.0.2")?;
        wait_for(1)
    });
}
