//! The daemon comes and goes; the forwarding stays until it is told to end.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use aya::programs::tc::{SchedClassifier, TcAttachType};
use evenkeel_api::paths;
use evenkeel_kernel::dataplane::Dataplane;
use evenkeel_kernel::sizes::Settings;
use evenkeel_lab::bench::{CLIENT_PORT, SERVER_PORTS, SERVERS};
use evenkeel_lab::http::{self, Connection};
use evenkeel_lab::process::Process;
use evenkeel_lab::{sandbox, wait};

use crate::web::{self, Load};
use crate::world::{SHOW, START, WEB, World, is_not_before, run};

/// How long the load goes on.
const LOAD: Duration = Duration::from_secs(20);
/// How long there is no daemon each time.
const ALONE: Duration = Duration::from_secs(3);
/// Connections that are opened before all and used throughout.
const HELD: usize = 8;

fn web_servers(world: &World) -> Result<Vec<Process>> {
    let servers = world.servers.iter().zip(SERVERS);
    servers.map(|(host, at)| web::nginx(host, at)).collect()
}

fn hold(world: &World) -> Result<Vec<Connection>> {
    (0..HELD)
        .map(|_| Connection::open(&world.client, WEB))
        .collect()
}

/// Each connection is asked once, and each is answered.
fn use_all(held: &mut [Connection]) -> Result<()> {
    held.iter_mut().try_for_each(|connection| {
        let page = connection.get()?;
        ensure!(page.status == 200, "{page:?}");
        Ok(())
    })
}

/// Waits until this many more packets came from clients.
fn wait_for_packets(world: &World, more: u64) -> Result<()> {
    let before = world.service(80)?.stats.in_packets;
    wait::until(SHOW, "the load to get going", || match world.service(80) {
        Ok(service) if service.stats.in_packets >= before + more => Ok(()),
        other => Err(format!("{other:?}")),
    })
}

#[test]
fn forwarding_outlives_the_daemon_under_load() {
    sandbox::run_test(|| {
        let mut world = World::start("")?;
        let _servers = web_servers(&world)?;
        world.serve_web(80)?;
        let mut held = hold(&world)?;
        use_all(&mut held)?;
        let client = &world.client;
        let mut kept = Load::start(client, "kept", WEB, 64, LOAD, true)?;
        let closed = Load::start(client, "closed", WEB, 4, LOAD, false)?;
        for _ in 0..2 {
            wait_for_packets(&world, 1000)?;
            let before = world.service(80)?;
            world.director.kill_daemon()?;
            let end = Instant::now() + ALONE;
            while Instant::now() < end {
                use_all(&mut held).context("without a daemon")?;
            }
            world.director.start_daemon(START)?;
            let after = world.service(80)?;
            ensure!(world.status()?.adopted);
            ensure!(
                is_not_before(&before.stats, &after.stats)
                    && after.stats.in_packets > before.stats.in_packets
                    && after.stats.connections > before.stats.connections,
                "counted backwards: {before:?}, then {after:?}"
            );
            for (earlier, later) in before.servers.iter().zip(&after.servers) {
                ensure!(
                    earlier.key == later.key && is_not_before(&earlier.stats, &later.stats),
                    "counted backwards: {earlier:?}, then {later:?}"
                );
            }
            use_all(&mut held)?;
        }
        ensure!(
            kept.is_running()?,
            "the load ended before the daemon was back"
        );
        // All the connections that are open, and each server has its share.
        let (servers, listing) = world.director.servers()?;
        let active: u32 = servers.iter().map(|server| server.active).sum();
        ensure!(active as usize >= 64 + HELD, "{listing}");
        ensure!(
            servers.iter().all(|server| server.active as usize >= 32),
            "{listing}"
        );
        let (kept, closed) = (kept.finish()?, closed.finish()?);
        ensure!(kept > 1000 && closed > 100, "{kept} and {closed} requests");
        use_all(&mut held)
    });
}

/// Names of the programs at tc and XDP of the director's interfaces, and how many
/// filters there are.
fn attached(world: &World) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for port in [CLIENT_PORT, SERVER_PORTS[0], SERVER_PORTS[1]] {
        let host = world.director.host();
        let query = host.within(|| SchedClassifier::query_tcx(port, TcAttachType::Ingress))?;
        // Kernels before 6.6 have no TCX to ask.
        let programs = query.map_or_else(|_| Vec::new(), |(_, programs)| programs);
        found.extend(
            programs
                .iter()
                .map(|program| format!("tcx {}", program.id())),
        );
        let shown = [
            run(host, &format!("tc filter show dev {port} ingress"))?,
            run(host, &format!("ip -details link show dev {port}"))?,
        ];
        let lines = shown.iter().flat_map(|text| text.lines());
        found.extend(
            lines
                .filter(|line| line.contains("evenkeel") || line.contains("prog/xdp"))
                .map(String::from),
        );
    }
    Ok(found)
}

#[test]
fn stop_detach_status_and_purge_say_what_they_leave() {
    sandbox::run_test(|| {
        let mut world = World::start("[dataplane]\nhook = \"xdp\"\n")?;
        let _servers = web_servers(&world)?;
        world.serve_web(80)?;
        let mut held = hold(&world)?;
        use_all(&mut held)?;
        ensure!(attached(&world)?.len() >= 6, "{:?}", attached(&world)?);

        let pins = paths::pins(paths::DEFAULT_INSTANCE);
        let output = world.director.shell("evenkeel stop --detach")?;
        ensure!(output.status == 0 && output.stderr.is_empty(), "{output}");
        ensure!(
            output.stdout.contains(&pins.display().to_string())
                && output.stdout.contains("`evenkeel purge` removes it"),
            "{output}"
        );
        use_all(&mut held)?;
        ensure!(http::get(&world.client, WEB)?.status == 200);

        let output = world.director.shell("evenkeel status")?;
        ensure!(output.status == 1 && output.stdout.is_empty(), "{output}");
        ensure!(
            output
                .stderr
                .starts_with("evenkeel: no daemon of instance default runs")
                && output.stderr.contains("forwarding goes on")
                && output.stderr.lines().count() == 1,
            "{output}"
        );

        world.director.start_daemon(START)?;
        ensure!(world.status()?.adopted);
        use_all(&mut held)?;

        let output = world.director.shell("evenkeel purge")?;
        ensure!(
            output.status == 0 && output.stdout.starts_with("removed the daemon"),
            "{output}"
        );
        expect_nothing(&world, &pins)?;
        let output = world.director.shell("evenkeel purge")?;
        ensure!(
            output.status == 0 && output.stdout == "there is nothing of instance default\n",
            "{output}"
        );
        let output = world.director.shell("evenkeel status")?;
        ensure!(
            output.status == 1 && output.stderr.contains("`evenkeel run`"),
            "{output}"
        );
        Ok(())
    });
}

fn expect_nothing(world: &World, pins: &Path) -> Result<()> {
    ensure!(!pins.exists(), "{} is left", pins.display());
    ensure!(!paths::socket(paths::DEFAULT_INSTANCE).exists());
    let left = attached(world)?;
    ensure!(left.is_empty(), "{left:?}");
    let answer = http::get(&world.client, WEB);
    ensure!(answer.is_err(), "still forwarded: {answer:?}");
    Ok(())
}

#[test]
fn memory_of_another_layout_is_refused_and_can_be_purged() {
    sandbox::run_test(|| {
        let mut world = World::start("")?;
        let output = world.director.shell("evenkeel stop --detach")?;
        ensure!(output.status == 0, "{output}");
        let pins = paths::pins(paths::DEFAULT_INSTANCE);
        let director = world.director.host();
        director.within(|| -> Result<()> {
            let (dataplane, _) = Dataplane::open(&pins, &Settings::default())?;
            dataplane.memory().control.layout_version.set(4321);
            Ok(())
        })??;
        let before = attached(&world)?;
        let output = world.director.shell("evenkeel run")?;
        ensure!(output.status == 1, "{output}");
        for part in ["memory layout 4321", "`evenkeel purge`"] {
            ensure!(output.stderr.contains(part), "{part} is not in: {output}");
        }
        ensure!(attached(&world)? == before, "something was touched");
        let output = world.director.shell("evenkeel purge")?;
        ensure!(output.status == 0, "{output}");
        expect_nothing(&world, &pins)?;
        world.director.start_daemon(START)?;
        ensure!(!world.status()?.adopted);
        Ok(())
    });
}
