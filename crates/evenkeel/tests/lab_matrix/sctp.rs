//! SCTP, where the kernel has it.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::Once;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use evenkeel_lab::host::Host;
use nix::libc;
use socket2::{Domain, Protocol, Socket, Type};

use crate::kinds::{rules, servers, vip};
use crate::world::{Family, MAPPED, World};

/// Port of the service.
const SIGNAL: u16 = 2905;
/// Longest that one answer may take.
const ANSWER: Duration = Duration::from_secs(10);

/// A socket of SCTP on a host. None: the kernel has none.
fn socket(host: &Host, family: Domain) -> Result<Option<Socket>> {
    match host.within(|| Socket::new(family, Type::STREAM, Some(Protocol::SCTP)))? {
        Ok(socket) => {
            socket.set_read_timeout(Some(ANSWER))?;
            socket.set_write_timeout(Some(ANSWER))?;
            Ok(Some(socket))
        }
        Err(error) if error.raw_os_error() == Some(libc::EPROTONOSUPPORT) => Ok(None),
        Err(error) => Err(error).context("cannot open a socket of SCTP"),
    }
}

/// Sends each message back, with the server's number in front. False: the kernel has no
/// SCTP.
fn serve(host: &Host, address: SocketAddr, server: u8) -> Result<bool> {
    let Some(listener) = socket(host, Domain::for_address(address))? else {
        return Ok(false);
    };
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
    Ok(true)
}

/// Associations with messages there and back, to both servers, by two methods.
pub(crate) fn exchanges(world: &World, family: Family) -> Result<()> {
    static SAY: Once = Once::new();
    let mut served = true;
    for (index, host) in world.servers.iter().enumerate() {
        let own = servers(family, SIGNAL + MAPPED)[index];
        for address in [own, vip(family, SIGNAL)] {
            served = served && serve(host, address, index as u8)?;
        }
    }
    if !served {
        SAY.call_once(|| {
            println!("this kernel has no SCTP; the differential tests hold the packet path to it");
        });
        return Ok(());
    }
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
            let server = exchange(&world.client, service).with_context(|| method.to_owned())?;
            by_server[usize::from(server % 2)] += 1;
        }
        ensure!(by_server == [2, 2], "{method}: by server: {by_server:?}");
    }
    Ok(())
}

fn exchange(client: &Host, to: SocketAddr) -> Result<u8> {
    let mut association = socket(client, Domain::for_address(to))?.context("no SCTP")?;
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
