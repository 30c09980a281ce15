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

use crate::follower::{Attaching, Follower};
use crate::router::router;
use crate::shared::{Shared, Stop};
use crate::socket::{ControlSocket, refuse_second_daemon};
use crate::start::{self, StartRules};
use crate::sweeper;
use crate::{configure, estimator};

/// Threads for the control socket and the tasks.
const THREADS: usize = 2;

/// What the daemon is to run.
#[derive(Clone, Debug)]
pub struct Options {
    /// Name of the instance.
    pub instance: String,
    /// Its configuration. Capacities and timeouts are for a dataplane that is made
    /// anew; one that is found running keeps those it has. All else is brought there.
    pub config: Config,
}

impl Options {
    fn settings(&self) -> Settings {
        let native::Dataplane {
            connections,
            wide_connections,
            services,
            servers,
            ring_words,
            ..
        } = self.config.dataplane;
        Settings {
            connections,
            wide_connections,
            services,
            servers,
            ring_words,
            seed: None,
        }
    }

    fn attaching(&self) -> Attaching {
        let hook = match self.config.dataplane.hook {
            native::Hook::Auto => Hook::Auto,
            native::Hook::Xdp => Hook::Xdp,
            native::Hook::Tc => Hook::Tc,
        };
        Attaching {
            hook,
            only: self.config.dataplane.interfaces.clone(),
            marks: self.config.marks.clone(),
            source_addresses: self
                .config
                .source_nat
                .as_ref()
                .map_or_else(Vec::new, |nat| nat.addresses.clone()),
        }
    }
}

/// Runs the daemon until it is stopped. `rules` are asked for when the dataplane was not
/// running.
pub fn run(options: &Options, rules: impl FnOnce() -> StartRules) -> anyhow::Result<()> {
    let socket_path = paths::socket(&options.instance);
    let pins = paths::pins(&options.instance);
    refuse_second_daemon(&socket_path)?;
    let (dataplane, opened) = Dataplane::open(&pins, &options.settings())?;
    let socket = ControlSocket::bind(&socket_path)?;
    warn_about_forwarding();
    // Threads have what the thread has that starts them, so this comes first.
    system::drop_capabilities()?;
    let dataplane = Arc::new(dataplane);
    let adopted = opened == Opened::Adopted;
    let shared = Arc::new(Shared::new(&options.instance, dataplane.clone(), adopted));
    if let Err(error) = configure::apply(&shared, &options.config, adopted) {
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
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(THREADS)
        .enable_all()
        .build()
        .context("cannot start threads")?;
    let stop = runtime.block_on(serve(
        options,
        Arc::clone(&dataplane),
        Arc::clone(&shared),
        &socket,
    ))?;
    // Ends all tasks, and with them their hold on the dataplane.
    runtime.shutdown_timeout(Duration::from_secs(1));
    drop((shared, socket));
    finish(stop, dataplane, &pins)
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
    options: &Options,
    dataplane: Arc<Dataplane>,
    shared: Arc<Shared>,
    socket: &ControlSocket,
) -> anyhow::Result<Stop> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for SIGINT")?;
    let follower = Follower::start(Arc::clone(&shared), dataplane, options.attaching())?;
    let end = {
        let shared = Arc::clone(&shared);
        async move {
            shared.stopped().await;
        }
    };
    tracing::info!(
        "instance {} is ready{}",
        options.instance,
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
            () = sweeper::run(Arc::clone(&shared), options.config.udp_quiesced) => Ok(()),
            () = estimator::run(Arc::clone(&shared)) => Ok(()),
            () = watchdog() => Ok(()),
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
