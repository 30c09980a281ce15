//! SCTP, where the kernel has it.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use evenkeel_api::paths;
use evenkeel_lab::host::Host;
use evenkeel_lab::wait;
use socket2::{Domain, Protocol, Socket, Type};

use crate::kinds::{rules, servers, vip};
use crate::methods::Offloads;
use crate::world::{FAMILIES, Family, MAPPED, SHOW, World, director_of};

/// Port of the service.
const SIGNAL: u16 = 2905;
/// Longest that one answer may take.
const ANSWER: Duration = Duration::from_secs(10);

/// True: the kernel has it.
pub(crate) fn is_there() -> bool {
    socket(Domain::IPV4).is_ok()
}

/// A socket in the thread's network.
fn socket(family: Domain) -> Result<Socket> {
    let socket = Socket::new(family, Type::STREAM, Some(Protocol::SCTP))
        .context("cannot open a socket of SCTP")?;
    socket.set_read_timeout(Some(ANSWER))?;
    socket.set_write_timeout(Some(ANSWER))?;
    Ok(socket)
}

/// Sends each message back, with the server's number in front.
fn serve(host: &Host, address: SocketAddr, server: u8) -> Result<()> {
    let listener = host.within(|| socket(Domain::for_address(address)))??;
    listener
        .bind(&address.into())
        .with_context(|| format!("{} cannot bind to {address}", host.name()))?;
    listener.listen(8)?;
    listener.set_read_timeout(None)?;
    thread::spawn(move || -> Result<()> {
        loop {
            let (mut association, _) = listener.accept()?;
            let mut bytes = [0; 2048];
            bytes[0] = server;
            while let Ok(length @ 1..) = association.read(&mut bytes[1..]) {
                association.write_all(&bytes[..=length])?;
            }
        }
    });
    Ok(())
}

/// Associations with messages there and back, to both servers, by two methods.
fn exchanges(world: &World, family: Family) -> Result<()> {
    let service = vip(family, SIGNAL);
    for (method, port) in [("-m", SIGNAL + MAPPED), ("-g", SIGNAL)] {
        let at = servers(family, port);
        world.rules(&rules(
            &format!("--sctp-service {service}"),
            "-s rr",
            at,
            method,
        ))?;
        let mut by_server = [0; 2];
        for _ in 0..4 {
            let server = exchange(&world.client, service)
                .with_context(|| format!("{method}: {:?}", world.reasons()))?;
            by_server[usize::from(server % 2)] += 1;
        }
        ensure!(by_server == [2, 2], "{method}: by server: {by_server:?}");
    }
    Ok(())
}

/// The same with both servers on the director itself, at addresses of its own.
fn exchanges_with_itself(world: &World, family: Family) -> Result<()> {
    let service = vip(family, SIGNAL);
    let at = own_ends(family);
    world.rules(&rules(
        &format!("--sctp-service {service}"),
        "-s rr",
        at,
        "-m",
    ))?;
    let pins = paths::pins(paths::DEFAULT_INSTANCE);
    wait::until(SHOW, "the program at egress", || {
        let list = format!("ls {}/links", pins.display());
        match world.director.shell(&list) {
            Ok(shown) if shown.stdout.contains("-egress") => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })?;
    for _ in 0..2 {
        exchange(&world.client, service)
            .with_context(|| format!("on the director: {:?}", world.reasons()))?;
    }
    Ok(())
}

/// Where servers on the director answer.
fn own_ends(family: Family) -> [SocketAddr; 2] {
    [0, 1].map(|server| SocketAddr::new(director_of(server, family), SIGNAL + MAPPED))
}

/// Has both servers answer, at their own addresses and at the service's; and two on the
/// director.
pub(crate) fn serve_all(world: &World) -> Result<()> {
    for family in FAMILIES {
        for (index, host) in world.servers.iter().enumerate() {
            for address in [servers(family, SIGNAL + MAPPED)[index], vip(family, SIGNAL)] {
                serve(host, address, index as u8)?;
            }
        }
        for (index, address) in own_ends(family).into_iter().enumerate() {
            serve(world.director.host(), address, index as u8)?;
        }
    }
    Ok(())
}

/// Tries both versions, with and without offloads.
pub(crate) fn all(world: &World, hook: &str) -> Result<()> {
    for offloads in [Offloads::Off, Offloads::On] {
        offloads.set(world)?;
        for family in FAMILIES {
            exchanges(world, family)
                .and_then(|()| exchanges_with_itself(world, family))
                .with_context(|| format!("SCTP, {hook}, {family:?}"))?;
        }
    }
    println!("SCTP, {hook}: ok");
    Ok(())
}

fn exchange(client: &Host, to: SocketAddr) -> Result<u8> {
    let mut association = client.within(|| socket(Domain::for_address(to)))??;
    association
        .connect(&to.into())
        .with_context(|| format!("cannot connect to {to}"))?;
    let mut answer = [0; 2048];
    for length in [1, 100, 1200] {
        let sent = vec![length as u8; length];
        association.write_all(&sent)?;
        let received = association
            .read(&mut answer)
            .with_context(|| format!("no answer to {length} bytes"))?;
        ensure!(answer[1..received] == sent, "{length} bytes came otherwise");
    }
    Ok(answer[0])
}
