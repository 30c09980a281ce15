//! `evenkeel run`, from start to end.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use evenkeel_api::paths;
use evenkeel_config::native::{self, Config};
use evenkeel_kernel::attach::{Hook, purge};
use evenkeel_kernel::dataplane::{Dataplane, Opened};
use evenkeel_kernel::sizes::Settings;
use evenkeel_kernel::system;
use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::crew::Crew;
use crate::follower::{Attaching, Follower};
use crate::router::router;
use crate::shared::{Reload, Shared, Stop};
use crate::socket::{ControlSocket, refuse_second_daemon};
use crate::start::{self, StartRules};
use crate::sweeper;
use crate::{configure, estimator, monitor};

/// Threads for the control socket and the tasks.
const THREADS: usize = 2;

/// What the daemon is to run.
pub struct Options {
    /// Name of the instance.
    pub instance: String,
    /// Its configuration. Capacities and timeouts are for a dataplane that is made
    /// anew; one that is found running keeps those it has. All else is brought there.
    pub config: Config,
    /// Reads it again: it, and warnings about it.
    pub read: ReadAgain,
}

/// Reads the configuration: it, and warnings about it, a line each.
pub type ReadAgain = Box<dyn FnMut() -> anyhow::Result<(Config, Vec<String>)> + Send>;

/// The capacities that a configuration asks for.
fn capacities(config: &Config) -> Settings {
    let native::Dataplane {
        connections,
        wide_connections,
        services,
        servers,
        ring_words,
        ..
    } = config.dataplane;
    Settings {
        connections,
        wide_connections,
        services,
        servers,
        ring_words,
        seed: None,
    }
}

/// What a configuration says of interfaces.
fn attaching(config: &Config) -> Attaching {
    let hook = match config.dataplane.hook {
        native::Hook::Auto => Hook::Auto,
        native::Hook::Xdp => Hook::Xdp,
        native::Hook::Tc => Hook::Tc,
    };
    let nat = config.source_nat.as_ref();
    Attaching {
        hook,
        only: config.dataplane.interfaces.clone(),
        marks: config.marks.clone(),
        source_addresses: nat.map_or_else(Vec::new, |nat| nat.addresses.clone()),
    }
}

/// Runs the daemon until it is stopped. `rules` are asked for when the dataplane was not
/// running.
pub fn run(options: Options, rules: impl FnOnce() -> StartRules) -> anyhow::Result<()> {
    let Options {
        instance,
        config,
        read,
    } = options;
    let socket_path = paths::socket(&instance);
    let pins = paths::pins(&instance);
    refuse_second_daemon(&socket_path)?;
    let (dataplane, opened) = Dataplane::open(&pins, &capacities(&config))?;
    let socket = ControlSocket::bind(&socket_path)?;
    warn_about_forwarding();
    // Threads have what the thread has that starts them, so this comes first.
    system::drop_capabilities()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(THREADS)
        .enable_all()
        .build()
        .context("cannot start threads")?;
    let inside = runtime.enter();
    let dataplane = Arc::new(dataplane);
    let adopted = opened == Opened::Adopted;
    let shared = Arc::new(Shared::new(&instance, dataplane.clone(), adopted));
    let crew = Arc::new(Crew::start(&config.alerts));
    shared.set_crew(Arc::clone(&crew));
    let brought = crew
        .sorry_ports(&config)
        .and_then(|ports| configure::apply(&shared, &config, adopted, ports));
    if let Err(error) = brought {
        runtime.block_on(crew.finish(Vec::new()));
        // What was made for it would be taken for one that ran.
        drop((shared, socket));
        if !adopted {
            finish(Stop::Remove, dataplane, &pins)?;
        }
        return Err(error);
    }
    if !adopted {
        start::apply(&shared, rules());
    }
    let wanted = watch::Sender::new(attaching(&config));
    let follower = wanted.subscribe();
    let flush = config.stop.flush;
    shared.on_reload(reloading(config, read, Arc::clone(&crew), wanted));
    let stop = runtime.block_on(serve(
        &instance,
        follower,
        Arc::clone(&dataplane),
        Arc::clone(&shared),
        Arc::clone(&crew),
        &socket,
    ))?;
    if stop == Stop::Signal {
        configure::flush(&shared, flush);
    }
    let news = shared.with_monitor(|monitor| monitor.farewell());
    runtime.block_on(crew.finish(news));
    // Ends all tasks, and with them their hold on the dataplane.
    drop((crew, inside));
    runtime.shutdown_timeout(Duration::from_secs(1));
    drop((shared, socket));
    finish(stop, dataplane, &pins)
}

/// What reading the configuration again does.
fn reloading(
    mut present: Config,
    mut read: ReadAgain,
    crew: Arc<Crew>,
    wanted: watch::Sender<Attaching>,
) -> Reload {
    let runtime = tokio::runtime::Handle::current();
    Box::new(move |shared| {
        let (config, mut warnings) = read()?;
        let _inside = runtime.enter();
        let ports = crew.sorry_ports(&config)?;
        configure::reload(shared, &config, ports)?;
        crew.reload(&config);
        wanted.send_replace(attaching(&config));
        if capacities(&config) != capacities(&present) {
            warnings.push(
                "the capacities of [dataplane] have changed; they are those of the start until \
                 `evenkeel purge` and another start"
                    .into(),
            );
        }
        for warning in &warnings {
            tracing::warn!("{warning}");
        }
        present = config;
        Ok(warnings)
    })
}

fn warn_about_forwarding() {
    match system::forwards_ipv4() {
        Ok(true) => {}
        Ok(false) => tracing::warn!(
            "net.ipv4.ip_forward is 0: routed NAT needs it; \
             set it with `sysctl net.ipv4.ip_forward=1`"
        ),
        Err(error) => tracing::warn!("{error}"),
    }
}

/// Runs the tasks until one of them fails or the daemon is stopped.
async fn serve(
    instance: &str,
    wanted: watch::Receiver<Attaching>,
    dataplane: Arc<Dataplane>,
    shared: Arc<Shared>,
    crew: Arc<Crew>,
    socket: &ControlSocket,
) -> anyhow::Result<Stop> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for SIGINT")?;
    let follower = Follower::start(Arc::clone(&shared), dataplane, wanted)?;
    let end = {
        let shared = Arc::clone(&shared);
        async move {
            shared.stopped().await;
        }
    };
    tracing::info!(
        "instance {instance} is ready{}",
        if shared.is_adopted() {
            ", with the dataplane that was running"
        } else {
            ""
        }
    );
    tell_service_manager(&[NotifyState::Ready]);
    let tasks = async {
        tokio::select! {
            result = follower.run() => result.context("cannot follow the network any more"),
            () = sweeper::run(Arc::clone(&shared)) => Ok(()),
            () = estimator::run(Arc::clone(&shared)) => Ok(()),
            () = monitor::run(Arc::clone(&shared), crew) => Ok(()),
            () = watchdog() => Ok(()),
            () = hang_ups(&shared) => Ok(()),
            _ = terminate.recv() => {
                shared.stop(Stop::Signal);
                Ok(())
            }
            _ = interrupt.recv() => {
                shared.stop(Stop::Signal);
                Ok(())
            }
            _ = shared.stopped() => Ok(()),
        }
    };
    let served = socket.serve(router(Arc::clone(&shared)), end);
    let (mut tasks, mut served) = (std::pin::pin!(tasks), std::pin::pin!(served));
    let serving = tokio::select! {
        result = &mut tasks => result.map(|()| true)?,
        // It ends well only when the daemon shall end, which may be seen here first.
        result = &mut served => result.map(|()| false)?,
    };
    tell_service_manager(&[NotifyState::Stopping]);
    let how = shared.stopped().await;
    if serving {
        served.await?;
    }
    Ok(how)
}

/// Says what goes on, or removes it.
fn finish(stop: Stop, dataplane: Arc<Dataplane>, pins: &Path) -> anyhow::Result<()> {
    match stop {
        Stop::Signal | Stop::Detach => {
            tracing::info!(
                "the daemon ends and the forwarding goes on; {} keeps it, \
                 `evenkeel run` takes it over again, `evenkeel purge` removes it",
                pins.display()
            );
            Ok(())
        }
        Stop::Remove => {
            // Two hold the instance's lock otherwise: this process twice.
            drop(dataplane);
            purge(pins).with_context(|| format!("cannot remove {}", pins.display()))?;
            tracing::info!("the daemon ends, and nothing of the instance is left");
            Ok(())
        }
    }
}

/// Reads the configuration again at each SIGHUP.
async fn hang_ups(shared: &Arc<Shared>) {
    let mut signals = match signal(SignalKind::hangup()) {
        Ok(signals) => signals,
        Err(error) => {
            tracing::error!("cannot wait for SIGHUP: {error}");
            return std::future::pending().await;
        }
    };
    while signals.recv().await.is_some() {
        let reloading = NotifyState::Reloading;
        match NotifyState::monotonic_usec_now() {
            Ok(now) => tell_service_manager(&[reloading, now]),
            Err(_) => tell_service_manager(&[reloading]),
        }
        let shared = Arc::clone(shared);
        // What became of it stands in the log.
        let _ = tokio::task::spawn_blocking(move || shared.reload()).await;
        tell_service_manager(&[NotifyState::Ready]);
    }
}

/// Feeds systemd's watchdog, if there is one, as long as tasks run at all.
async fn watchdog() {
    let Some(interval) = sd_notify::watchdog_enabled() else {
        return std::future::pending().await;
    };
    loop {
        tell_service_manager(&[NotifyState::Watchdog]);
        tokio::time::sleep(interval / 2).await;
    }
}

fn tell_service_manager(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!("cannot notify the service manager: {error}");
    }
}
