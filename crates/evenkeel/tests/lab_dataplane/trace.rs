//! What `evenkeel trace` says, and what becomes of the packet.

use std::net::SocketAddr;

use anyhow::{Result, ensure};
use evenkeel_api::trace::{Outcome, Query, Trace};
use evenkeel_core::model::Protocol;
use evenkeel_lab::bench::{CLIENT, CLIENT_PORT, SERVER_PORTS, SERVERS};
use evenkeel_lab::sandbox;

use crate::world::{WEB, World};

fn ask(world: &World, source: SocketAddr, destination: SocketAddr, flags: u8) -> Result<Trace> {
    let query = Query {
        source,
        destination,
        protocol: Protocol::Tcp,
        mark: 0,
        flags,
        interface: None,
    };
    // Netlink is asked from the director's own network: by its daemon.
    Ok(world.api().trace(&query)?)
}

const SYN: u8 = 2;
const ACK: u8 = 0x10;

/// Traces and connections in turn, at one hook.
fn follow(hook: &str) -> Result<()> {
    let world = World::start(&format!("[dataplane]\nhook = \"{hook}\"\n"))?;
    world.serve_identities()?;
    for _ in 0..6 {
        // Any port will do for round robin.
        let told = ask(&world, (CLIENT, 1).into(), WEB, SYN)?;
        ensure!(told.interface.as_deref() == Some(CLIENT_PORT), "{told:?}");
        ensure!(told.attached && told.outcome == Outcome::Sent, "{told:?}");
        let (stream, identity) = world.connect()?;
        let server = usize::from(identity - 1);
        let name = format!("{}:8080", SERVERS[server]);
        ensure!(
            told.server.as_ref().is_some_and(|it| it.name == name),
            "{told:?}"
        );
        let way = told.way.as_ref();
        ensure!(
            way.is_some_and(|it| it.interface == SERVER_PORTS[server]),
            "{told:?}"
        );

        // The connection as it is now, and the way back.
        let client = stream.local_addr()?;
        let told = ask(&world, client, WEB, ACK)?;
        let known = told.known.as_ref();
        ensure!(
            known.is_some_and(|it| it.state == "ESTABLISHED" && it.server == name),
            "{told:?}"
        );
        let told = ask(&world, (SERVERS[server], 8080).into(), client, ACK)?;
        ensure!(
            told.from_server && told.outcome == Outcome::Sent,
            "{told:?}"
        );
        let after = told.after.as_ref();
        ensure!(
            after.is_some_and(|it| it.source == WEB && it.destination == client),
            "{told:?}"
        );
        let way = told.way.as_ref();
        ensure!(
            way.is_some_and(|it| it.interface == CLIENT_PORT && it.to.is_some()),
            "{told:?}"
        );
    }
    Ok(())
}

#[test]
fn a_connection_goes_where_its_trace_says_at_tc() {
    sandbox::run_test(|| follow("tc"));
}

#[test]
fn a_connection_goes_where_its_trace_says_at_xdp() {
    sandbox::run_test(|| follow("xdp"));
}
